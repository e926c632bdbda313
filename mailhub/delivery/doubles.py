"""Messages that come twice because the answer to the first was lost (RFC 5321 4.5.3.2.6, RFC 1047).

A client that has not got our final 250 sends its message again, as it must. Whether it got it is in doubt where the
connection ended without QUIT; where it is open, but nothing has been heard since, for a while or until the same came on
a connection that was made later; and, when this process was killed, for what was committed last. There the same octets
in the same envelope are taken as they were: answered with 250, and kept no second time. Whatever differs, or comes when
there is no doubt, passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred

from mailhub.errors import MailError, TemporaryError
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.trace import return_path

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from mailhub.interfaces import IDatabase

_log = Logger(namespace="mailhub.delivery")

# Who has lost an answer sends again within this time, which is the usual life of a queue's messages.
REMEMBERED_SECONDS = 5 * 86400
REMEMBERED = 10_000  # messages in doubt, of which the oldest are forgotten first
# Of one connection: those before were answered long ago, so that their client has made a note of it.
_LATEST = 8
_LATEST_SECONDS = 60.0
# An open connection on which nothing was heard for so long since the answer may be no connection any more.
_SILENT_SECONDS = 30.0
_PLACE_OCTETS = 8  # of the digest that stands for a mailbox or a recipient
_RECEIVED, _MESSAGE_ID = b"received:", b"message-id:"
# After the process was killed: the messages committed last, and how much of them is read.
_LATEST_COMMITS = 1000
_LATEST_COMMITS_SECONDS = 600
_READ_OCTETS = 64 << 20
_RUNNING = "running"  # stands in the state while a process runs


def printer(reverse_path: Address | None) -> Any:
    """What takes in a message's octets, as its client sends them, and gives its fingerprint: SHA-256, which tells
    messages apart that are not the same to the octet, and in the same name."""
    return sha256(return_path(reverse_path))


def _fingerprint_of_stored(octets: bytes) -> bytes | None:
    """Of a message as it is kept: Return-Path and Received of ours stand before what came."""
    top = octets.find(b"\n") + 1
    if not octets.startswith(b"Return-Path: <") or not octets.startswith(b"Received: ", top):
        return None
    end = octets.find(b"\n", top) + 1
    while end and octets[end : end + 1] in (b" ", b"\t"):
        end = octets.find(b"\n", end) + 1
    return sha256(octets[:top] + octets[end:]).digest()


def place_digest(place: str) -> bytes:
    """What stands for a place."""
    return sha256(place.encode()).digest()[:_PLACE_OCTETS]


@attrs.define(eq=False)
class Taking:
    """A message that is taken, or was, for some places: mailboxes, and recipients it is queued for. Their digests are
    made when there is a doubt, which is seldom."""

    fingerprint: bytes
    at: float
    named: Collection[str] = ()
    known: frozenset[bytes] = frozenset()  # by their digests alone
    id: str = ""  # once it is committed
    lost: bool = False  # the connection ended without QUIT
    silent_since: int = 0  # our answer, in the order of `Doubles.moments`; 0 once more was heard

    @property
    def places(self) -> frozenset[bytes]:
        """Their digests."""
        return self.known.union(map(place_digest, self.named))


class Doubles:
    """What a hub knows of messages that may come again. All of it is in memory; what is in doubt is in the database,
    too. Nothing is written as long as clients say QUIT."""

    def __init__(self, clock: IReactorTime, database: IDatabase) -> None:
        self.clock = clock
        self.moments = count(1)
        self._database = database
        self._state = database.state.of("doubles")
        # By fingerprint: the recipients of one message may have come on several connections.
        self._known: dict[bytes, list[Taking]] = {}

    # --- Over restarts -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Learn what was in doubt when the last process ended, and, where it was killed, what it committed last. A
        database that cannot be read or written now does not keep us from that start."""
        try:
            await self._learn()
        except MailError as error:
            _log.warn("messages that come twice may not be known: {error:text}", error=str(error))

    async def stop(self) -> None:
        """No connection is open any more."""
        with suppress(MailError):
            await self._state.remove([_RUNNING])

    async def _learn(self) -> None:
        kept = dict(await self._state.items("", REMEMBERED))
        killed = kept.pop(_RUNNING, None) is not None
        for name, value in kept.items():
            delivery_id, _, places = value.partition(b" ")
            self._enter(bytes.fromhex(name), delivery_id.decode(), _split(places))
        if killed:
            await self._learn_latest()
        await self._state.put({_RUNNING: b""})

    async def _learn_latest(self) -> None:
        """Of the messages of the last minutes their connections are not known any more. They stay in doubt if we are
        killed again."""
        left = _READ_OCTETS
        values = {}
        for message in await self._database.latest(_LATEST_COMMITS_SECONDS, _LATEST_COMMITS):
            try:
                reader = await self._database.open_latest(message.number)
                try:
                    left -= reader.size
                    octets = await reader.read() if left >= 0 else b""
                finally:
                    reader.close()
            except MailError:
                continue
            if (found := _fingerprint_of_stored(octets)) is not None:
                self._enter(found, f"{message.number:x}", frozenset(map(place_digest, message.places)))
                values[found.hex()] = self._value(found)
        await self._state.put(values, REMEMBERED_SECONDS)

    def _enter(self, fingerprint: bytes, delivery_id: str, places: frozenset[bytes]) -> None:
        taking = Taking(fingerprint, self.clock.seconds(), known=places, id=delivery_id, lost=True)
        self._known.setdefault(fingerprint, []).append(taking)

    def _value(self, fingerprint: bytes) -> bytes:
        lost = [taking for taking in self._known[fingerprint] if taking.lost]
        return lost[0].id.encode() + b" " + b"".join(sorted(frozenset[bytes]().union(*(each.places for each in lost))))

    def clear(self) -> None:
        """Nothing is in doubt."""
        self._known.clear()

    # --- Connections -------------------------------------------------------------------------------------------------

    def sitting(self) -> Sitting:
        """For a new connection."""
        return Sitting(self)

    def in_doubt(self, fingerprint: bytes, own: Collection[Taking], began: int) -> list[Taking]:
        """Those that are the same, of other connections than that of `own`, which `began` at that moment."""
        known = self._known.get(fingerprint)
        if known is None:
            return []
        silent = self.clock.seconds() - _SILENT_SECONDS
        return [
            taking
            for taking in known
            if (taking.lost or taking.at < silent or 0 < taking.silent_since < began) and taking not in own
        ]

    def begin(self, fingerprint: bytes, places: Collection[str]) -> Taking:
        """A message is about to be committed."""
        taking = Taking(fingerprint, self.clock.seconds(), places)
        self._known.setdefault(fingerprint, []).append(taking)
        return taking

    def forget(self, taking: Taking) -> None:
        """It was not taken, or its client knows that it was. What was in doubt before stays so."""
        known = self._known.get(taking.fingerprint, [])
        if taking in known:
            known.remove(taking)
        if not known:
            self._known.pop(taking.fingerprint, None)

    def doubt(self, takings: Sequence[Taking]) -> None:
        """The connection was lost before their client said that it knows."""
        for taking in takings:
            taking.lost = True
            # As the newest.
            self._known[taking.fingerprint] = self._known.pop(taking.fingerprint, [taking])
        self._trim()
        if takings:
            names = dict.fromkeys(each.fingerprint for each in takings if each.fingerprint in self._known)
            values = {each.hex(): self._value(each) for each in names}
            Deferred.fromCoroutine(self._keep(values))

    async def _keep(self, values: Mapping[str, bytes]) -> None:
        try:
            await self._state.put(values, REMEMBERED_SECONDS)
        except MailError as error:
            _log.warn("messages in doubt are known until the next stop alone: {error:text}", error=str(error))

    def _trim(self) -> None:
        """Forget what is too old or too much."""
        horizon = self.clock.seconds() - REMEMBERED_SECONDS
        for fingerprint, known in tuple(self._known.items()):
            if known[-1].at >= horizon and len(self._known) <= REMEMBERED:
                break
            if all(taking.lost for taking in known):
                del self._known[fingerprint]


class Sitting:
    """The messages of one connection."""

    def __init__(self, doubles: Doubles) -> None:
        self._doubles = doubles
        self._began = next(doubles.moments)
        self._takings: deque[Taking] = deque()

    def heard(self) -> None:
        """The client goes on with something else."""
        if self._takings:
            self._takings[-1].silent_since = 0

    def earlier(self, fingerprint: bytes, header: bytes) -> tuple[str, frozenset[bytes]]:
        """The id under which this message was taken before, and the places that have it. Where nothing names it there
        are none: neither a Message-ID nor, at its top, the trace of a server that sent it on, which says by what id and
        when that server got it. Raises TemporaryError while it is not known."""
        known = self._doubles.in_doubt(fingerprint, self._takings, self._began)
        if not known:
            return "", frozenset()
        header = header.lower()
        if not header.startswith(_RECEIVED) and _MESSAGE_ID not in header:
            return "", frozenset()
        if not all(taking.id for taking in known):
            raise TemporaryError("The same message is being taken just now", status="4.5.0")
        return known[0].id, frozenset[bytes]().union(*(taking.places for taking in known))

    def begin(self, fingerprint: bytes, places: Collection[str]) -> Taking:
        """A message is about to be committed."""
        return self._doubles.begin(fingerprint, places)

    def failed(self, taking: Taking) -> None:
        """It was not."""
        self._doubles.forget(taking)

    def taken(self, taking: Taking, delivery_id: str) -> None:
        """It was, and its client is about to be told."""
        taking.id, taking.silent_since = delivery_id, next(self._doubles.moments)
        takings, now = self._takings, self._doubles.clock.seconds()
        takings.append(taking)
        while len(takings) > _LATEST or now - takings[0].at > _LATEST_SECONDS:
            self._doubles.forget(takings.popleft())

    def closed(self, *, farewell: bool) -> None:
        """The connection is over. With a `farewell` (QUIT) its client has read what we said before."""
        if farewell:
            for taking in self._takings:
                self._doubles.forget(taking)
        else:
            self._doubles.doubt(tuple(self._takings))
        self._takings.clear()


def _split(octets: bytes) -> frozenset[bytes]:
    return frozenset(octets[start : start + _PLACE_OCTETS] for start in range(0, len(octets), _PLACE_OCTETS))
