"""One end of a connection, whatever is spoken on it: octets in, octets out, TLS, back-pressure, and an end.

What is said is the owner's: `mailhub.net.connection` answers those who come to us, `mailhub.net.smtp_client` talks to
those we go to.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import attrs
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.net.link import Disconnected

# What Twisted reads at a time, and the mark at which its TCP transport asks a producer to pause, in octets.
READ = 65536


class Phase(Enum):
    """The life of a channel; `STEPS` has every step from one phase to another."""

    NEW = "there is no transport yet"
    OPEN = "octets go both ways"
    HANDSHAKE = "TLS is being agreed on: nothing is heard, and what is written waits"
    CLOSING = "our last octets are on their way: nothing is heard, nothing more is written"
    CUT = "aborted: what had not gone out is thrown away"
    LOST = "there is no transport any more, and the owner has been told"


# Which phase may follow which, and what brings it about. Whatever asks for another step comes too late and is passed
# over; only TLS that cannot be started is an error.
STEPS: Mapping[Phase, tuple[Phase, ...]] = {
    # makeConnection(), where TLS is spoken from the first octet into HANDSHAKE.
    Phase.NEW: (Phase.OPEN, Phase.HANDSHAKE),
    # start_tls(), close(), abort(), connectionLost().
    Phase.OPEN: (Phase.HANDSHAKE, Phase.CLOSING, Phase.CUT, Phase.LOST),
    # handshakeCompleted(), close(), abort(), connectionLost().
    Phase.HANDSHAKE: (Phase.OPEN, Phase.CLOSING, Phase.CUT, Phase.LOST),
    # abort(), by the owner or because the peer does not take our last octets; connectionLost().
    Phase.CLOSING: (Phase.CUT, Phase.LOST),
    # connectionLost().
    Phase.CUT: (Phase.LOST,),
    Phase.LOST: (),
}

# Up to Python 3.11, to name a member of an Enum is a call; these are asked for with every octet.
_OPEN, _HANDSHAKE, _CUT, _LOST = Phase.OPEN, Phase.HANDSHAKE, Phase.CUT, Phase.LOST


class Owner(Protocol):
    """Who speaks on a channel. Nothing is told after `lost`."""

    def made(self) -> None:
        """The transport is there."""

    def agreed(self) -> None:
        """TLS is on."""

    def received(self, data: bytes) -> None:
        """Octets from the peer. The owner says `Channel.caught_up` when it has dealt with them."""

    def ended(self) -> None:
        """The peer will send no more but may still read."""

    def drained(self) -> None:
        """The peer has taken what was written; `Channel.blocked` is over."""

    def rang(self) -> None:
        """The time of `Channel.arm` is up."""

    def lost(self, reason: Failure) -> None:
        """The transport is gone, whoever wanted it. Called exactly once."""


@implementer(IProtocol, IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
@attrs.define(eq=False, repr=False)
class Channel:
    """Twisted's protocol on one side, an `Owner` on the other.

    `secure`: TLS has been started; given at the beginning where the transport speaks it from the first octet.
    `tls_failed`: the end came before TLS was agreed on. `blocked`: the transport holds as much as it likes to; a
    polite owner writes no more until it is `drained`.
    """

    _owner: Owner
    _clock: IReactorTime
    secure: bool = False
    transport: Any = attrs.field(init=False, default=None)
    phase: Phase = attrs.field(init=False, default=Phase.NEW)
    tls_failed: bool = attrs.field(init=False, default=False)
    blocked: bool = attrs.field(init=False, default=False)
    _deaf: bool = attrs.field(init=False, default=False)
    _unread: int = attrs.field(init=False, default=0)
    _out: list[bytes] = attrs.field(init=False, factory=list)
    _out_size: int = attrs.field(init=False, default=0)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)

    @property
    def alive(self) -> bool:
        """Neither closed nor cut nor lost: what is written goes out."""
        return self.phase is _OPEN or self.phase is _HANDSHAKE

    @property
    def handshaking(self) -> bool:
        """TLS is being agreed on."""
        return self.phase is _HANDSHAKE

    @property
    def gone(self) -> bool:
        """Cut or lost: not even what was written before goes out."""
        return self.phase is _CUT or self.phase is _LOST

    @property
    def tls_name(self) -> str:
        """Protocol and cipher, as `TLSv1.3/TLS_AES_256_GCM_SHA384`; "" without TLS, and where it is played."""
        handle: Any = self.transport.getHandle() if hasattr(self.transport, "getHandle") else None
        if not hasattr(handle, "get_cipher_name"):
            return ""
        return f"{handle.get_protocol_version_name()}/{handle.get_cipher_name()}"

    def _enter(self, phase: Phase) -> bool:
        """Go to another phase; false where no step leads there."""
        if phase not in STEPS[self.phase]:
            return False
        if self.phase is _HANDSHAKE and phase is not _OPEN:
            self.tls_failed = True
        self.phase = phase
        return True

    # --- Out ---------------------------------------------------------------------------------------------------------

    def write(self, octets: bytes) -> None:
        """Octets to be sent by `flush()`, or when they are as many as one read. Dropped when the channel is closed."""
        if self.phase is _OPEN or self.phase is _HANDSHAKE:
            self._out.append(octets)
            self._out_size += len(octets)
            if self._out_size >= READ:
                self.flush()

    def flush(self) -> None:
        """Hand what was written to the transport, in one piece."""
        if self._out:
            octets = b"".join(self._out) if len(self._out) > 1 else self._out[0]
            self._drop()
            if self.phase is _OPEN and not self.secure:
                octets = sent_at_once(self.transport, octets)
            if octets:
                self.transport.write(octets)

    def _drop(self) -> None:
        self._out.clear()
        self._out_size = 0

    # --- In ----------------------------------------------------------------------------------------------------------

    def caught_up(self) -> None:
        """Everything received has been dealt with. Until then, little more than one read is taken from the peer."""
        self._unread = 0
        if self._deaf:
            self._deaf = False
            if self.alive:
                self.transport.resumeProducing()

    # --- TLS ---------------------------------------------------------------------------------------------------------

    def start_tls(self, context: Any) -> None:
        """Send what was written, then agree on TLS; `Owner.agreed` follows. `context` is what `transport.startTLS`
        takes, and says who is the client.

        Octets received before are plain text: the owner must forget those that it has not dealt with (RFC 3207 4.2).
        Raises Disconnected when the channel is not open (any more).
        """
        if self.phase is not _OPEN:
            raise Disconnected
        self._enter(_HANDSHAKE)
        self.flush()
        self.secure = True
        # The transport registers its producer anew with the TLS layer, which starts out unpaused.
        self.blocked = False
        self.transport.startTLS(context)
        self.caught_up()

    # --- The end -----------------------------------------------------------------------------------------------------

    def close(self, linger_seconds: float) -> None:
        """Send what was written, then close; cut the connection if the peer has not taken it by then."""
        if self._enter(Phase.CLOSING):
            self.flush()
            self._disarm()
            self._timer = self._clock.callLater(linger_seconds, self._ring)
            # A registered producer would keep the transport open after loseConnection().
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection at once: the peer must not take what it has for complete."""
        if self._enter(_CUT):
            self._disarm()
            self._drop()
            self.transport.abortConnection()

    # --- Time --------------------------------------------------------------------------------------------------------

    def arm(self, seconds: float) -> None:
        """Let the owner know when so much time has passed, or earlier where it was armed for earlier. Only while the
        channel is alive: the timer is the same that bounds its end."""
        if not self.alive:
            return
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._ring)
        elif self._timer.getTime() > self._clock.seconds() + seconds:
            self._timer.reset(seconds)

    def disarm(self) -> None:
        """Do not ring."""
        if self.alive:
            self._disarm()

    def _disarm(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self.alive:
            self._owner.rang()
        else:
            self.abort()

    # --- Twisted's side ----------------------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        """See `IProtocol`."""
        self.transport = transport
        _tune(transport)
        transport.registerProducer(self, True)
        self._enter(_HANDSHAKE if self.secure else _OPEN)
        self._owner.made()

    def connectionMade(self) -> None:
        """Part of IProtocol; makeConnection() has done it."""

    def handshakeCompleted(self) -> None:
        """See `IHandshakeListener`."""
        if self.handshaking and self._enter(_OPEN):
            self._owner.agreed()

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        if self.phase is not _OPEN:
            return
        self._unread += len(data)
        self._owner.received(data)
        if self._unread > READ and self.phase is _OPEN and not self._deaf:
            self._deaf = True
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """See `IHalfCloseableProtocol`."""
        if self.alive:
            self._owner.ended()

    def writeConnectionLost(self) -> None:
        """Never: no owner closes one direction alone."""

    def pauseProducing(self) -> None:
        """The transport holds as much as it likes to."""
        self.blocked = True

    def resumeProducing(self) -> None:
        """The transport has written everything out."""
        self.blocked = False
        if self.phase is not _LOST:
            self._owner.drained()

    def stopProducing(self) -> None:
        """connectionLost() follows."""

    def connectionLost(self, reason: Failure) -> None:
        """See `IProtocol`."""
        if self._enter(_LOST):
            self._disarm()
            self._drop()
            owner = self._owner
            # Untie the two, so that neither waits for the cycle collector.
            del self._owner
            owner.lost(reason)


def sent_at_once(transport: Any, octets: bytes) -> bytes:
    """What is left of `octets` after the socket has taken what it can. Twisted's own write leaves even that to the
    reactor's next turn, at the price of two system calls more; what is said to most peers fits into their window.

    Transports that are not Twisted's TCP are left alone, as are those that have something to send before this, and
    those that fail: the reactor is to find that out, lest the owner lose its connection in the middle of what it does.
    """
    if not isinstance(transport, Connection) or transport.dataBuffer or transport._tempDataBuffer:
        return octets
    if not transport.connected or transport.disconnecting or transport.disconnected:
        return octets
    count = transport.writeSomeData(octets)
    return octets[count:] if isinstance(count, int) and count > 0 else octets


def _tune(transport: Any) -> None:
    """What is said goes out at once, and a peer that vanished in IDLE is noticed in the end."""
    for name in ("setTcpNoDelay", "setTcpKeepAlive"):
        setter = getattr(transport, name, None)
        if setter is not None:
            setter(1)


def words_of(reason: Failure) -> str:
    """Why a connection was lost, in one line."""
    errors = reason.value.args[0] if isinstance(reason.value, SSL.Error) and reason.value.args else ()
    if isinstance(errors, list):
        # OpenSSL's: library, function, and what is wrong.
        return ", ".join(what for _, _, what in errors)[:200]
    return " ".join(reason.getErrorMessage().split())[:200]
