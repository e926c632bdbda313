"""The channel alone: transports in memory, time on a Clock, and an owner who writes down what it is told."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IProtocol, IPushProducer
from twisted.internet.task import Clock
from twisted.protocols import tls as twisted_tls
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailhub.net.certificates import write_self_signed
from mailhub.net.channel import READ, STEPS, Channel, Phase, words_of
from mailhub.net.link import Disconnected
from mailhub.net.tls import ClientTls, ServerTls
from tests.net.line_session import Peer
from tests.net.tls_peer import StartTlsPeer

LINGER = 30.0


class Transport(Peer):
    """Takes part in TLS, and notes what is done to it among the octets."""

    def startTLS(self, context: object) -> None:
        self.writes.append(b"<TLS %s>" % str(context).encode())

    def loseConnection(self) -> None:
        # Twisted's would wait for a registered producer.
        self.writes.append(b"<close>" if self.producer is None else b"<never closes>")
        super().loseConnection()  # type: ignore[no-untyped-call]

    def abortConnection(self) -> None:
        self.writes.append(b"<abort>")
        self.disconnecting = self.disconnected = True


@attrs.define(eq=False)
class Diary:
    """An owner. `does` is what it does when it is told something."""

    told: list[str] = attrs.field(factory=list)
    heard: bytes = b""
    does: dict[str, Callable[[], Any]] = attrs.field(factory=dict)
    reason: Failure | None = None

    def note(self, what: str) -> None:
        self.told.append(what)
        self.does.get(what, bool)()

    def made(self) -> None:
        self.note("made")

    def agreed(self) -> None:
        self.note("agreed")

    def received(self, data: bytes) -> None:
        self.heard += data
        self.note("received")

    def ended(self) -> None:
        self.note("ended")

    def drained(self) -> None:
        self.note("drained")

    def rang(self) -> None:
        self.note("rang")

    def lost(self, reason: Failure) -> None:
        self.reason = reason
        self.note("lost")


@attrs.define(eq=False)
class Rig:
    secure: bool = False
    clock: Clock = attrs.field(factory=Clock)
    owner: Diary = attrs.field(factory=Diary)
    peer: Transport = attrs.field(factory=Transport)
    channel: Channel = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.channel = Channel(self.owner, self.clock, self.secure)

    def make(self) -> None:
        self.channel.makeConnection(self.peer)

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]

    def reach(self, phase: Phase) -> None:
        """Come there on the way that is usual, and forget what was told on it."""
        for act in WAYS[phase]:
            ACTS[act](self)
        assert self.channel.phase is phase
        self.owner.told.clear()
        self.peer.taken()

    def told(self) -> list[str]:
        told = self.owner.told[:]
        self.owner.told.clear()
        return told


def opened() -> Rig:
    rig = Rig()
    rig.reach(Phase.OPEN)
    return rig


# --- Phases ---------------------------------------------------------------------------------------------------------

ACTS: dict[str, Callable[[Rig], None]] = {
    "make": lambda rig: rig.make(),
    "start_tls": lambda rig: rig.channel.start_tls("ctx"),
    "agreed": lambda rig: rig.channel.handshakeCompleted(),
    "close": lambda rig: rig.channel.close(LINGER),
    "abort": lambda rig: rig.channel.abort(),
    "lose": lambda rig: rig.lose(),
}

WAYS = {
    Phase.NEW: [],
    Phase.OPEN: ["make"],
    Phase.HANDSHAKE: ["make", "start_tls"],
    Phase.CLOSING: ["make", "close"],
    Phase.CUT: ["make", "abort"],
    Phase.LOST: ["make", "lose"],
}

# Phase before, what happens, phase after, what the transport gets, what the owner is told.
TABLE = [
    (Phase.NEW, "make", Phase.OPEN, b"", ["made"]),
    (Phase.NEW, "agreed", Phase.NEW, b"", []),
    (Phase.NEW, "close", Phase.NEW, b"", []),
    (Phase.NEW, "abort", Phase.NEW, b"", []),
    (Phase.OPEN, "start_tls", Phase.HANDSHAKE, b"<TLS ctx>", []),
    (Phase.OPEN, "agreed", Phase.OPEN, b"", []),
    (Phase.OPEN, "close", Phase.CLOSING, b"<close>", []),
    (Phase.OPEN, "abort", Phase.CUT, b"<abort>", []),
    (Phase.OPEN, "lose", Phase.LOST, b"", ["lost"]),
    (Phase.HANDSHAKE, "agreed", Phase.OPEN, b"", ["agreed"]),
    (Phase.HANDSHAKE, "close", Phase.CLOSING, b"<close>", []),
    (Phase.HANDSHAKE, "abort", Phase.CUT, b"<abort>", []),
    (Phase.HANDSHAKE, "lose", Phase.LOST, b"", ["lost"]),
    (Phase.CLOSING, "agreed", Phase.CLOSING, b"", []),
    (Phase.CLOSING, "close", Phase.CLOSING, b"", []),
    (Phase.CLOSING, "abort", Phase.CUT, b"<abort>", []),
    (Phase.CLOSING, "lose", Phase.LOST, b"", ["lost"]),
    (Phase.CUT, "agreed", Phase.CUT, b"", []),
    (Phase.CUT, "close", Phase.CUT, b"", []),
    (Phase.CUT, "abort", Phase.CUT, b"", []),
    (Phase.CUT, "lose", Phase.LOST, b"", ["lost"]),
    (Phase.LOST, "agreed", Phase.LOST, b"", []),
    (Phase.LOST, "close", Phase.LOST, b"", []),
    (Phase.LOST, "abort", Phase.LOST, b"", []),
    (Phase.LOST, "lose", Phase.LOST, b"", []),
]


@pytest.mark.parametrize(("before", "act", "after", "sent", "told"), TABLE, ids=str)
def test_every_step(before: Phase, act: str, after: Phase, sent: bytes, told: list[str]) -> None:
    rig = Rig()
    rig.reach(before)
    ACTS[act](rig)
    assert rig.channel.phase is after
    assert rig.peer.taken() == sent
    assert rig.told() == told
    assert rig.channel.alive == (after in (Phase.OPEN, Phase.HANDSHAKE))
    assert rig.channel.gone == (after in (Phase.CUT, Phase.LOST))
    assert rig.channel.handshaking == (after is Phase.HANDSHAKE)


def test_there_are_no_other_steps() -> None:
    taken = {(before, after) for before, _, after, _, _ in TABLE if before is not after}
    # With TLS from the first octet the transport comes with a handshake under way.
    rig = Rig(secure=True)
    rig.make()
    taken.add((Phase.NEW, rig.channel.phase))
    assert taken == {(before, after) for before, steps in STEPS.items() for after in steps}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.OPEN])
def test_tls_is_started_on_an_open_channel_only(phase: Phase) -> None:
    rig = Rig()
    rig.reach(phase)
    with pytest.raises(Disconnected):
        rig.channel.start_tls("ctx")
    assert (rig.channel.phase, rig.peer.taken()) == (phase, b"")


OTHERS = ["write", "fill", "flush", "data", "caught up", "drain", "eof", "arm", "disarm", "tick"]


@given(st.lists(st.sampled_from([act for act in ACTS if act != "make"] + OTHERS), max_size=40))
def test_whatever_happens_in_whatever_order(acts: list[str]) -> None:
    rig = Rig()
    rig.peer.slow = True
    rig.make()
    others: dict[str, Callable[[], Any]] = {
        "write": lambda: rig.channel.write(b"w"),
        "fill": lambda: rig.channel.write(b"f" * READ * 2),
        "flush": rig.channel.flush,
        "data": lambda: rig.channel.dataReceived(b"d" * READ),
        "caught up": rig.channel.caught_up,
        "drain": rig.peer.drain,
        "eof": rig.channel.readConnectionLost,
        "arm": lambda: rig.channel.arm(5.0),
        "disarm": rig.channel.disarm,
        "tick": lambda: rig.clock.advance(10.0),
    }
    for act in acts:
        before = rig.channel.phase
        rig.peer.taken()
        try:
            others[act]() if act in others else ACTS[act](rig)
        except Disconnected:
            assert act == "start_tls"
        after = rig.channel.phase
        assert after is before or after in STEPS[before]
        if not rig.channel.alive and before is after:
            assert rig.peer.taken() == b""
        assert len(rig.clock.getDelayedCalls()) <= (after is not Phase.LOST)
    told = rig.told()
    assert told.count("made") == 1
    assert told.count("lost") == (rig.channel.phase is Phase.LOST)
    assert "lost" not in told[:-1]


def test_it_is_what_twisted_wants() -> None:
    for interface in (IProtocol, IHalfCloseableProtocol, IHandshakeListener, IPushProducer):
        assert verifyObject(interface, Rig().channel)


def test_the_socket_is_set_up() -> None:
    rig = Rig()
    options: dict[str, int] = {}
    rig.peer.setTcpNoDelay = lambda on: options.update(nodelay=on)  # type: ignore[attr-defined]
    rig.peer.setTcpKeepAlive = lambda on: options.update(keepalive=on)  # type: ignore[attr-defined]
    rig.make()
    assert options == {"nodelay": 1, "keepalive": 1}
    assert (rig.peer.producer, rig.peer.streaming) == (rig.channel, True)


# --- Out ------------------------------------------------------------------------------------------------------------


def test_what_is_written_leaves_in_one_piece() -> None:
    rig = opened()
    rig.channel.write(b"a")
    rig.channel.write(b"b")
    assert rig.peer.writes == []
    rig.channel.flush()
    rig.channel.flush()
    assert rig.peer.writes == [b"ab"]


def test_no_more_than_one_read_is_kept_back() -> None:
    rig = opened()
    rig.channel.write(b"x" * (READ - 1))
    assert rig.peer.writes == []
    rig.channel.write(b"y")
    assert [len(octets) for octets in rig.peer.writes] == [READ]
    rig.channel.write(b"z")
    assert rig.peer.writes[1:] == []
    rig.channel.flush()
    assert rig.peer.writes[1:] == [b"z"]


@pytest.mark.parametrize("phase", [Phase.NEW, Phase.CLOSING, Phase.CUT, Phase.LOST])
def test_nothing_is_written_before_the_beginning_or_after_the_end(phase: Phase) -> None:
    rig = Rig()
    rig.reach(phase)
    rig.channel.write(b"x" * READ)
    rig.channel.flush()
    assert rig.peer.taken() == b""


def test_the_owner_is_told_when_the_peer_is_slow_and_when_it_has_caught_up() -> None:
    rig = opened()
    rig.peer.slow = True
    rig.channel.write(b"x" * READ)
    assert not rig.channel.blocked
    rig.channel.write(b"x" * READ)
    assert rig.channel.blocked
    assert rig.told() == []
    rig.peer.drain()
    assert not rig.channel.blocked
    assert rig.told() == ["drained"]


def test_a_drained_owner_may_fill_it_again() -> None:
    rig = opened()
    rig.peer.slow = True
    rig.owner.does["drained"] = lambda: rig.channel.write(b"y" * 2 * READ)
    rig.channel.write(b"x" * 2 * READ)
    rig.peer.drain()
    assert rig.channel.blocked
    assert rig.told() == ["drained"]


def test_what_was_not_sent_is_thrown_away_by_abort_but_not_by_close() -> None:
    for end, sent in (("abort", b"<abort>"), ("lose", b""), ("close", b"last<close>")):
        rig = opened()
        rig.channel.write(b"last")
        ACTS[end](rig)
        rig.channel.flush()
        assert rig.peer.taken() == sent


# --- In -------------------------------------------------------------------------------------------------------------


def test_an_owner_that_does_not_keep_up_is_given_little_more_than_one_read() -> None:
    rig = opened()
    rig.channel.dataReceived(b"x" * READ)
    assert rig.peer.producerState == "producing"
    rig.channel.dataReceived(b"y")
    assert rig.peer.producerState == "paused"
    assert len(rig.owner.heard) == READ + 1
    rig.channel.caught_up()
    assert rig.peer.producerState == "producing"
    rig.channel.dataReceived(b"x" * READ)
    assert rig.peer.producerState == "producing"
    rig.channel.dataReceived(b"y")
    assert rig.peer.producerState == "paused"


def test_one_that_does_is_given_all_at_full_speed() -> None:
    rig = opened()
    rig.owner.does["received"] = rig.channel.caught_up
    for _ in range(10):
        rig.channel.dataReceived(b"x" * 2 * READ)
        assert rig.peer.producerState == "producing"


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.OPEN])
def test_octets_are_heard_on_an_open_channel_only(phase: Phase) -> None:
    rig = Rig()
    rig.reach(phase)
    rig.channel.dataReceived(b"x" * 2 * READ)
    assert (rig.told(), rig.owner.heard, rig.peer.producerState) == ([], b"", "producing")


@pytest.mark.parametrize("end", ["close", "abort"])
def test_an_owner_that_ends_it_while_it_listens_does_not_pause_the_transport(end: str) -> None:
    rig = opened()
    rig.owner.does["received"] = lambda: ACTS[end](rig)
    rig.channel.dataReceived(b"x" * 2 * READ)
    assert rig.peer.producerState == "producing"
    rig.channel.dataReceived(b"x")
    assert rig.told() == ["received"]


@pytest.mark.parametrize("end", ["close", "abort", "lose"])
def test_a_transport_at_its_end_is_not_resumed(end: str) -> None:
    rig = opened()
    rig.channel.dataReceived(b"x" * 2 * READ)
    ACTS[end](rig)
    rig.channel.caught_up()
    assert rig.peer.producerState == "paused"


@pytest.mark.parametrize(
    ("phase", "told"), [(phase, ["ended"] * (phase in (Phase.OPEN, Phase.HANDSHAKE))) for phase in Phase]
)
def test_that_the_peer_sends_no_more_matters_while_it_is_alive(phase: Phase, told: list[str]) -> None:
    rig = Rig()
    rig.reach(phase)
    rig.channel.readConnectionLost()
    assert (rig.told(), rig.channel.phase) == (told, phase)


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_what_was_written_goes_out_before_tls_and_what_was_sent_before_is_not_heard() -> None:
    rig = opened()

    def agree() -> None:
        rig.channel.write(b"220 go\r\n")
        rig.channel.start_tls("ctx")

    rig.owner.does["received"] = agree
    rig.channel.dataReceived(b"STARTTLS\r\n")
    rig.channel.dataReceived(b"MAIL FROM:<smuggled@xx.example>\r\n")
    assert rig.peer.taken() == b"220 go\r\n<TLS ctx>"
    assert rig.owner.heard == b"STARTTLS\r\n"
    assert rig.channel.secure
    rig.owner.does.clear()
    rig.channel.handshakeCompleted()
    rig.channel.dataReceived(b"EHLO")
    assert rig.owner.heard == b"STARTTLS\r\nEHLO"
    assert rig.told() == ["received", "agreed", "received"]


def test_the_back_pressure_of_before_does_not_last_into_tls() -> None:
    rig = opened()
    rig.peer.slow = True
    rig.channel.write(b"x" * 2 * READ)
    rig.channel.dataReceived(b"x" * 2 * READ)
    assert (rig.channel.blocked, rig.peer.producerState) == (True, "paused")
    rig.channel.start_tls("ctx")
    assert (rig.channel.blocked, rig.peer.producerState) == (False, "producing")


def test_tls_from_the_first_octet() -> None:
    rig = Rig(secure=True)
    rig.make()
    assert (rig.channel.phase, rig.channel.secure) == (Phase.HANDSHAKE, True)
    rig.channel.handshakeCompleted()
    assert (rig.channel.phase, rig.told()) == (Phase.OPEN, ["made", "agreed"])


def test_an_owner_may_begin_tls_as_soon_as_there_is_a_transport() -> None:
    rig = Rig()
    rig.owner.does["made"] = lambda: rig.channel.start_tls("ctx")
    rig.make()
    assert (rig.channel.phase, rig.peer.taken()) == (Phase.HANDSHAKE, b"<TLS ctx>")


@pytest.mark.parametrize("end", ["close", "abort", "lose"])
@pytest.mark.parametrize(
    ("acts", "failed"),
    [(["start_tls"], True), (["start_tls", "agreed"], False), ([], False)],
    ids=["in", "after", "no"],
)
def test_a_handshake_that_comes_to_nothing_is_remembered(acts: list[str], failed: bool, end: str) -> None:
    rig = opened()
    for act in (*acts, end):
        ACTS[act](rig)
    if end != "lose":
        rig.lose()
    assert rig.channel.tls_failed is failed


@attrs.define(eq=False)
class Ends:
    """A server and a client with Twisted's own TLS between them."""

    server: Channel
    client: Channel
    server_peer: StartTlsPeer = attrs.field(init=False)
    client_peer: StartTlsPeer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.server_peer, self.client_peer = StartTlsPeer(self.server), StartTlsPeer(self.client)
        self.client_peer._tlsClientDefault = True

    def carry(self, clock: Clock) -> None:
        """Until nobody has anything to say any more."""
        both = (self.server_peer, self.client_peer)
        moved = 1
        while moved:
            moved = sum(self._move(one, other) for one, other in (both, both[::-1]))
            clock.advance(0)

    def _move(self, source: StartTlsPeer, target: StartTlsPeer) -> int:
        octets = source.taken()
        source.drain()
        if octets:
            target.protocol.dataReceived(octets)
        return len(octets)


@pytest.fixture
def certified(tmp_path: Path) -> ServerTls:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    # OpenSSL judges by the machine's clock, which no test can set.
    write_self_signed(*files, ("mx.example",), 365, os.stat(tmp_path).st_mtime)
    return ServerTls(*files, Clock())


def test_starttls_in_both_directions(certified: ServerTls, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    # startTLS() has no way to be given a clock; it batches small writes with the reactor's.
    monkeypatch.setattr(twisted_tls, "_get_default_clock", lambda: clock)
    served, caller = Diary(), Diary()
    ends = Ends(Channel(served, clock), Channel(caller, clock))
    ends.server.write(b"go")
    ends.server.start_tls(certified)
    # Written into the handshake: it waits, and holds a polite owner back meanwhile.
    ends.server.write(b"greeting")
    ends.server.flush()
    clock.advance(0)
    assert ends.server.blocked
    ends.client_peer.protocol.dataReceived(ends.server_peer.taken())
    assert caller.heard == b"go"
    ends.client.start_tls(ClientTls().opportunistic("mx.example"))
    ends.carry(clock)
    assert served.told == ["made", "agreed", "drained"]
    assert caller.told == ["made", "received", "agreed", "received"]
    assert caller.heard == b"gogreeting"
    for channel, heard in ((ends.client, served), (ends.server, caller)):
        heard.heard = b""
        channel.write(b"x" * 3 * READ)
        channel.flush()
        ends.carry(clock)
        assert heard.heard == b"x" * 3 * READ
        assert channel.tls_name.startswith("TLSv1.3/TLS_")
        assert (channel.blocked, channel.phase) == (False, Phase.OPEN)


def test_a_transport_without_tls_has_no_name_for_it() -> None:
    assert Rig().channel.tls_name == ""
    assert opened().channel.tls_name == ""


# --- The end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [Phase.OPEN, Phase.HANDSHAKE])
def test_a_peer_that_does_not_take_our_last_octets_is_cut(before: Phase) -> None:
    rig = Rig()
    rig.reach(before)
    rig.channel.arm(1)
    rig.channel.close(LINGER)
    assert rig.peer.producer is None
    rig.clock.advance(LINGER - 1)
    assert (rig.channel.phase, rig.told()) == (Phase.CLOSING, [])
    rig.clock.advance(1)
    assert (rig.channel.phase, rig.peer.taken()) == (Phase.CUT, b"<close><abort>")
    assert (rig.told(), rig.clock.getDelayedCalls()) == ([], [])


def test_one_that_does_is_not() -> None:
    rig = opened()
    rig.channel.close(LINGER)
    rig.lose()
    assert (rig.told(), rig.clock.getDelayedCalls()) == (["lost"], [])


def test_the_time_that_bounds_the_end_is_not_the_owners() -> None:
    rig = opened()
    rig.channel.close(LINGER)
    rig.channel.arm(1)
    rig.channel.disarm()
    (timer,) = rig.clock.getDelayedCalls()
    assert timer.getTime() == LINGER


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.NEW and phase is not Phase.LOST])
def test_the_loss_is_told_once_and_nothing_after_it(phase: Phase) -> None:
    rig = Rig()
    rig.reach(phase)
    rig.channel.arm(5)
    reason = Failure(ConnectionLost("gone"))  # type: ignore[no-untyped-call]
    rig.channel.connectionLost(reason)
    rig.lose()
    rig.channel.dataReceived(b"x")
    rig.channel.readConnectionLost()
    rig.channel.handshakeCompleted()
    rig.channel.resumeProducing()
    rig.channel.caught_up()
    rig.channel.arm(1)
    rig.clock.advance(100)
    assert (rig.told(), rig.owner.reason, rig.peer.taken()) == (["lost"], reason, b"")
    assert rig.clock.getDelayedCalls() == []


def test_a_lost_channel_needs_no_cycle_collector() -> None:
    @attrs.define(eq=False)
    class Talker(Diary):
        channel: Channel | None = None

    owner = Talker()
    owner.channel = Channel(owner, Clock())
    transport = Transport()
    owner.channel.makeConnection(transport)
    owner.channel.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]
    remains = weakref.ref(owner)
    enabled = gc.isenabled()
    gc.disable()
    try:
        del owner
        assert remains() is None
    finally:
        if enabled:
            gc.enable()


# --- Time -----------------------------------------------------------------------------------------------------------


def test_the_earliest_time_asked_for_counts() -> None:
    rig = opened()
    rig.channel.arm(10)
    rig.channel.arm(20)
    rig.clock.advance(9)
    assert rig.told() == []
    rig.clock.advance(1)
    assert rig.told() == ["rang"]
    rig.channel.arm(20)
    rig.channel.arm(5)
    rig.clock.advance(5)
    assert rig.told() == ["rang"]
    assert rig.clock.getDelayedCalls() == []


def test_disarmed_it_does_not_ring() -> None:
    rig = opened()
    rig.channel.disarm()
    rig.channel.arm(5)
    rig.channel.disarm()
    assert rig.clock.getDelayedCalls() == []
    rig.channel.arm(50)
    rig.clock.advance(49)
    assert rig.told() == []


def test_an_aborted_channel_does_not_ring() -> None:
    rig = opened()
    rig.channel.arm(5)
    rig.channel.abort()
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize("phase", [Phase.NEW, Phase.CUT, Phase.LOST])
def test_nobody_is_waiting_where_nothing_can_come(phase: Phase) -> None:
    rig = Rig()
    rig.reach(phase)
    rig.channel.arm(5)
    assert rig.clock.getDelayedCalls() == []


def test_what_openssl_says_is_told_in_words() -> None:
    errors = [("SSL routines", "", "certificate verify failed"), ("SSL routines", "", "no shared cipher")]
    assert words_of(Failure(SSL.Error(errors))) == "certificate verify failed, no shared cipher"  # type: ignore[no-untyped-call]
    assert words_of(Failure(OSError("gone\nfor good"))) == "gone for good"  # type: ignore[no-untyped-call]
