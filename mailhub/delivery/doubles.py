"""Messages that come twice because the answer to the first was lost (RFC 5321 4.5.3.2.6, RFC 1047).

A client that has not got our final 250 sends its message again, as it must. Whether it got it is in doubt where the
connection ended without QUIT; where it is open, but nothing has been heard since, for a while or until the same came on
a connection that was made later; and, when this process was killed, for what was committed last. There the same octets
in the same envelope are taken as they were: answered with 250, and kept no second time. Whatever differs, or comes when
there is no doubt, passes.

The Received fields at the top of a message that has a Message-ID are not looked at: where its next server was away, who
sends it again may do so by another one, such as a backup MX.
"""

from __future__ import annotations

import re
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
from mailhub.message.header import fields_end
from mailhub.message.needs import HEADER_LIMIT
from mailhub.message.trace import return_path
from mailhub.store.queue_ids import number_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from mailhub.interfaces import IDatabase, IQueue, IState

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
_FOUND = rb"(?:arc-)?authentication-results|arc-message-signature|arc-seal"  # what servers have found out
_TRACE = re.compile(rb"(?:(?:received|" + _FOUND + rb"):[^\n]*\n(?:[ \t][^\n]*\n)*)+", re.IGNORECASE)
_RESULTS = re.compile(rb"(?:(?:" + _FOUND + rb"):[^\n]*\n(?:[ \t][^\n]*\n)*)*", re.IGNORECASE)
_RELAYED = re.compile(_RESULTS.pattern + rb"received:", re.IGNORECASE)
_MESSAGE_ID = re.compile(rb"^message-id:", re.IGNORECASE | re.MULTILINE)
# After the process was killed: the messages committed last, and how much of them is read.
_LATEST_COMMITS = 1000
_LATEST_COMMITS_SECONDS = 600
_READ_OCTETS = 64 << 20
# Fingerprints of messages that are kept otherwise than they came: how many are read then, and how long they are known.
_NAMED = 100_000
_NAMED_SECONDS = 86400
_RUNNING = "running"  # stands in the state while a process runs


def printer(reverse_path: Address | None) -> Any:
    """What takes in a message's octets, as its client sends them, and gives its fingerprint: SHA-256, which tells
    messages apart that are not the same to the octet, and in the same name."""
    return sha256(return_path(reverse_path))


def way_of(octets: bytes, end: int) -> int:
    """How many octets on top of a message, whose header ends at `end`, tell by which servers it came alone, and what
    these have found out about it: of the former none where without them nothing names it."""
    results = _RESULTS.match(octets, 0, end)
    start = results.end() if results is not None else 0
    trace = _TRACE.match(octets, start, end)
    return trace.end() if trace is not None and _MESSAGE_ID.search(octets, trace.end(), end) else start


def _fingerprint_of_stored(octets: bytes) -> bytes | None:
    """Of a message as it is kept: Return-Path and Received of ours stand before what came."""
    top = octets.find(b"\n") + 1
    if not octets.startswith(b"Return-Path: <") or not octets.startswith(b"Received: ", top):
        return None
    end = octets.find(b"\n", top) + 1
    while end and octets[end : end + 1] in (b" ", b"\t"):
        end = octets.find(b"\n", end) + 1
    came = octets[end:]
    header = fields_end(came, 0, len(came))
    return sha256(octets[:top] + came[way_of(came, header if header <= HEADER_LIMIT else 0) :]).digest()


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
    noted: bool = False  # in the state, although its connection is open
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
        self._named = database.state.of("doubles named")
        # By fingerprint: the recipients of one message may have come on several connections.
        self._known: dict[bytes, list[Taking]] = {}
        self._unheard: dict[str, Taking] = {}  # by id: those after which nothing was heard on their connections yet

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
        values: dict[str, bytes] = {}
        named = await self._learn_named()
        for message in await self._database.latest(_LATEST_COMMITS_SECONDS, _LATEST_COMMITS):
            if (known := named.get(message.number)) is not None:
                self._enter(known[0], f"{message.number:x}", known[1])
                values[known[0].hex()] = self._value(known[0])
                continue
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

    async def _learn_named(self) -> Mapping[int, tuple[bytes, frozenset[bytes]]]:
        """Fingerprints and places of messages that were about to be committed by a name, by its number."""
        named = {}
        for key, places in (await self._named.items("", _NAMED)).items():
            fingerprint, _, name = key.partition(" ")
            with suppress(ValueError):  # a database of others may have other names
                named[number_of(name, again=True)] = bytes.fromhex(fingerprint), _split(places)
        return named

    def _enter(self, fingerprint: bytes, delivery_id: str, places: frozenset[bytes]) -> None:
        taking = Taking(fingerprint, self.clock.seconds(), known=places, id=delivery_id, lost=True)
        self._known.setdefault(fingerprint, []).append(taking)

    def _value(self, fingerprint: bytes) -> bytes:
        lost = [taking for taking in self._known.get(fingerprint, ()) if taking.lost or taking.noted]
        if not lost:
            return b""
        return lost[0].id.encode() + b" " + b"".join(sorted(frozenset[bytes]().union(*(each.places for each in lost))))

    def clear(self) -> None:
        """Nothing is in doubt."""
        self._known.clear()
        self._unheard.clear()

    # --- Connections -------------------------------------------------------------------------------------------------

    def sitting(self) -> Sitting:
        """For a new connection."""
        return Sitting(self)

    def in_doubt(self, fingerprint: bytes, own: Collection[Taking], began: int) -> list[Taking]:
        """Those that are the same, of other connections than that of `own`, on which it `began` at that moment."""
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

    def name(self, taking: Taking, queue: IQueue) -> str:
        """A name to commit the message by, for one whose octets are kept otherwise than they came. What it stands for
        is committed with it, or before: a database takes one unit of work after the other."""
        name = queue.new_delivery_id()
        places = b"".join(sorted(taking.places))
        named = {f"{taking.fingerprint.hex()} {name}": places}
        Deferred.fromCoroutine(self._keep(self._named, named, _NAMED_SECONDS))
        return name

    def taken(self, taking: Taking, delivery_id: str) -> None:
        """It was, and its client is about to be told."""
        taking.id, taking.silent_since = delivery_id, next(self.moments)
        self._unheard[delivery_id] = taking

    def heard(self, taking: Taking) -> None:
        """Its client has said something since."""
        taking.silent_since = 0
        self._unheard.pop(taking.id, None)

    def leaves(self, delivery_id: str) -> None:
        """What this message was queued for is about to be removed: where its client may not know that we have taken it,
        that is noted before."""
        taking = self._unheard.get(delivery_id)
        if taking is not None and not taking.noted:
            taking.noted = True
            self._note([taking.fingerprint])

    def forget(self, taking: Taking) -> None:
        """It was not taken, or its client knows that it was. What was in doubt before stays so."""
        known = self._known.get(taking.fingerprint, [])
        self._unheard.pop(taking.id, None)
        if taking in known:
            known.remove(taking)
        if taking.noted:
            taking.noted = False
            self._note([taking.fingerprint])
        if not known:
            self._known.pop(taking.fingerprint, None)

    def doubt(self, takings: Sequence[Taking]) -> None:
        """The connection was lost before their client said that it knows."""
        for taking in takings:
            taking.lost = True
            self._unheard.pop(taking.id, None)
            # As the newest.
            self._known[taking.fingerprint] = self._known.pop(taking.fingerprint, [taking])
        self._trim()
        if takings:
            self._note([each.fingerprint for each in takings if each.fingerprint in self._known])

    def _note(self, fingerprints: Sequence[bytes]) -> None:
        """Have the state say of each what is in doubt."""
        values = {each.hex(): self._value(each) for each in dict.fromkeys(fingerprints)}
        if gone := [name for name, value in values.items() if not value]:
            Deferred.fromCoroutine(self._drop(gone))
        if kept := {name: value for name, value in values.items() if value}:
            Deferred.fromCoroutine(self._keep(self._state, kept))

    async def _keep(self, state: IState, values: Mapping[str, bytes], seconds: int = REMEMBERED_SECONDS) -> None:
        try:
            await state.put(values, seconds)
        except MailError as error:
            _log.warn("messages in doubt are known until the next stop alone: {error:text}", error=str(error))

    async def _drop(self, names: Sequence[str]) -> None:
        with suppress(MailError):  # then it is in doubt for longer
            await self._state.remove(names)

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
        self._began = self._asked = next(doubles.moments)
        self._takings: deque[Taking] = deque()

    def heard(self) -> None:
        """The client goes on with something else: it begins a message."""
        self._asked = next(self._doubles.moments)
        if self._takings:
            self._doubles.heard(self._takings[-1])

    def earlier(self, fingerprint: bytes, header: bytes) -> tuple[str, frozenset[bytes]]:
        """The id under which this message was taken before, and the places that have it. Where nothing names it there
        are none: neither a Message-ID nor, at its top, the trace of a server that sent it on, which says by what id and
        when that server got it. Such a server also goes back to a connection that it had before, while others may mean
        it when they send the same by two. Raises TemporaryError while it is not known."""
        relayed = _RELAYED.match(header) is not None
        known = self._doubles.in_doubt(fingerprint, self._takings, self._asked if relayed else self._began)
        if not known or not (relayed or _MESSAGE_ID.search(header)):
            return "", frozenset()
        if not all(taking.id for taking in known):
            raise TemporaryError("The same message is being taken just now", status="4.5.0")
        return known[0].id, frozenset[bytes]().union(*(taking.places for taking in known))

    def begin(self, fingerprint: bytes, places: Collection[str]) -> Taking:
        """A message is about to be committed."""
        return self._doubles.begin(fingerprint, places)

    def name(self, taking: Taking, queue: IQueue) -> str:
        """See `Doubles.name`."""
        return self._doubles.name(taking, queue)

    def failed(self, taking: Taking) -> None:
        """It was not."""
        self._doubles.forget(taking)

    def taken(self, taking: Taking, delivery_id: str) -> None:
        """It was, and its client is about to be told."""
        self._doubles.taken(taking, delivery_id)
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
