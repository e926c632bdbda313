"""A folder of a mirror: its rows in memory, and how they follow what the source has.

Changes are made one at a time (`_turn`): each asks the source first, notes the outcome in the ledger, and is shown when
that is durable. What a crash leaves between the two is found by the next look at the source, as if others had done it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from zlib import crc32

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.python.failure import Failure

from mailhub.errors import (
    MailError,
    MessageDamaged,
    MessageGone,
    NoSuchMailbox,
    StoreUnavailable,
    TooManyKeywords,
)
from mailhub.log import Logger
from mailhub.message.digest import digest
from mailhub.message.flags import SEEN, SYSTEM_FLAGS, Flags
from mailhub.message.record import Added, Change, Digest, Entry, Expunged, FlagsChanged, MailboxGone, MailboxStatus
from mailhub.store.index import MailboxIndex
from mailhub.store.memory.keywords import Keywords
from mailhub.store.mirror import rows as ledger
from mailhub.store.mirror.rows import Delivery, Loaded, Note, Row
from mailhub.store.mirror.source import ISource, Key, Listed
from mailhub.store.mirror.sync import Difference, difference

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from mailhub.store.mirror.engine import MirrorEngine

log = Logger(namespace="mailhub.store")

T = TypeVar("T")

WAIT_SECONDS = 10.0  # for a look at the source; after that a client is shown what is known
AGAIN_SECONDS = 60.0  # until a message that could not be read is tried again
BATCH_OCTETS = 4 << 20  # read at once
BATCH = 200  # messages read or listed with one step
ON_REACTOR = 1000  # messages that are compared on the reactor thread, and
SCANNED = 1 << 16  # octets that are scanned there


class Scanned:
    """Octets and what is to be known of them."""

    __slots__ = ("checksum", "digest", "octets")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.checksum = crc32(octets)
        self.digest: Digest = digest(octets)


def scan_all(bodies: Sequence[bytes]) -> list[Scanned]:
    """Takes its time."""
    return [Scanned(octets) for octets in bodies]


class Unreadable(NamedTuple):
    """A message that is left out. `since`: when reading it first failed, in seconds since the epoch; `again`: when it
    is to be tried again, by the clock."""

    since: int
    again: float


class MirrorFolder:
    """One folder, shared by all who have it open."""

    def __init__(self, engine: MirrorEngine, user: str, loaded: Loaded) -> None:
        row = loaded.folder
        self._engine = engine
        self.user = user
        self.name = row.name
        self.number = row.number
        self.uid_validity = row.uid_validity
        self.uid_next = row.uid_next
        self.looked = row.looked
        self.listed = row.looked or bool(loaded.entries)  # at least once, perhaps not to the end
        self.gone = False
        self.index = MailboxIndex(loaded.entries, row.modseq)
        self.notes: dict[int, Note] = dict(loaded.notes)
        self.uids: dict[Key, int] = {note.key: uid for uid, note in loaded.notes.items()}
        self.keywords = Keywords(engine.limits)
        with suppress(TooManyKeywords):
            self.keywords.take_up({entry.flags for entry in loaded.entries}, ())
        self._turns = DeferredLock()
        self._listing: Sequence[Listed] | None = None  # what the rows were brought up to date by, and
        self._under_way: Sequence[Listed] | None = None  # what they are being brought up to date by
        self._unreadable: dict[Key, Unreadable] = {}
        self._waiting: list[Deferred[None]] = []
        self._asked = self._looking = False
        self._poll: IDelayedCall | None = None
        self._unseen = (0, 0)  # mod-sequence, messages

    # --- what there is -----------------------------------------------------------------------------------------------

    @property
    def _source(self) -> ISource:
        """Of the moment: the store's code may be swapped."""
        return self._engine.source

    @property
    def modseq(self) -> int:
        """The highest one."""
        return self.index.modseq

    def require(self) -> None:
        """Raises NoSuchMailbox when it is no more."""
        if self.gone:
            raise NoSuchMailbox

    def entry(self, uid: int) -> Entry | None:
        """A message's row."""
        found = self.index.select([uid])
        return found[0] if found else None

    def status(self) -> MailboxStatus:
        """The counters."""
        entries = self.index.select()
        if self._unseen[0] != self.modseq:
            self._unseen = self.modseq, sum(SEEN not in entry.flags for entry in entries)
        size = sum(entry.size for entry in entries)
        return MailboxStatus(len(entries), self._unseen[1], size, self.uid_next, self.uid_validity, self.modseq)

    def spelled(self, flags: Flags) -> Flags:
        """Flags as the folder takes them from its source: without keywords when there are too many."""
        try:
            return self.admitted(flags)
        except TooManyKeywords:
            return flags & SYSTEM_FLAGS

    def admitted(self, flags: Flags) -> Flags:
        """Flags of one message as the folder spells them. Raises TooManyKeywords."""
        if flags <= SYSTEM_FLAGS:
            return flags
        self.keywords.check_number(flags)
        self.keywords.take_up((flags,), self.present())
        return self.keywords.spelled(flags)

    def present(self) -> Iterable[Flags]:
        """The flags of all messages."""
        for entry in self.index.select():
            yield entry.flags

    # --- looking -----------------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Have taken in what the source has now; those who wait together share a look that begins after they asked.
        When it takes very long, what is known has to do. Raises MailError."""
        waiter: Deferred[None] = Deferred()
        self.look(waiter)
        timer = self._engine.clock.callLater(WAIT_SECONDS, waiter.callback, None)
        try:
            await waiter
        finally:
            if timer.active():
                timer.cancel()

    def look(self, *waiters: Deferred[None]) -> None:
        """Begin to look, if need be once more."""
        self._waiting += waiters
        self._asked = True
        if not self._looking:
            self._looking = True
            Deferred.fromCoroutine(self._look_while_asked())

    async def _look_while_asked(self) -> None:
        while self._asked:
            self._asked = False
            waiting, self._waiting = self._waiting, []
            outcome: Failure | None = None
            try:
                await self._look()
            except MailError:
                outcome = Failure()  # type: ignore[no-untyped-call]
                await self._see_whether_it_is_there()
            except Exception:
                outcome = Failure()  # type: ignore[no-untyped-call]
                log.failure("folder not looked at: store={store} user={user}", store=self._source.name, user=self.user)
            for waiter in waiting:
                if not waiter.called:
                    waiter.callback(outcome)
        self._looking = False

    async def _see_whether_it_is_there(self) -> None:
        """Where others have removed the folder, all who have it open are told."""
        with suppress(MailError):
            await self._engine.folders(self.user)

    async def _look(self) -> None:
        compared = await self._in_turn(self._compare)
        if compared is None:
            return
        found, listing = compared
        if await self._read_new(found.added) and not self.looked:
            self.looked = True
            await self._engine.ledger.run(partial(ledger.looked, number=self.number))
        if found.suspects:
            await self._look_into(found.suspects)
        if self._under_way is listing:
            self._listing = listing

    async def _compare(self) -> tuple[Difference, Sequence[Listed]] | None:
        """List the folder and take in what needs no reading; the list is returned, too. None when nothing is left to be
        done. Until all that is new was read, the next look finds it new again: a look may fail, and others go on beside
        it."""
        self.require()
        listing = await self._source.messages(self.user, self.name)
        if listing is self._listing and not self._due():
            return None
        before = self._listing if not self._due() else None
        arguments = (self.index.select(), self.notes, self.uids, listing, before)
        if len(listing) <= ON_REACTOR or before is not None:
            news = difference(*arguments)
        else:
            news = await self._engine.threads.run(difference, *arguments)
        if news.removed:
            await self.vanish(news.removed)
        if self._source.keeps_flags and news.flagged:
            await self._take_flags(news.flagged)
        if before is None and self._unreadable:
            there = {each.key for each in news.added}
            self._unreadable = {key: each for key, each in self._unreadable.items() if key in there}
        self._listing, self._under_way = None, listing
        self.listed = True
        return news, listing

    def _due(self) -> bool:
        now = self._engine.clock.seconds()
        return any(each.again <= now for each in self._unreadable.values())

    async def _take_flags(self, flagged: Mapping[int, Flags]) -> None:
        entries = []
        for entry in self.index.select(list(flagged)):
            flags = self.spelled(flagged[entry.uid])
            if flags != entry.flags:
                entries.append(entry._replace(flags=flags, modseq=self.modseq + 1))
        if entries:
            await self.set_flags(entries)

    async def _read_new(self, added: Sequence[Listed]) -> bool:
        """Give messages their UIDs, in the order in which they are listed. A message of which neither size nor octets
        are to be had is left out until it can be read, and hides no other. Whether all could be read in time."""
        now = self._engine.clock.seconds()
        left_out = {key for key, each in self._unreadable.items() if each.again > now}
        todo = [each for each in added if each.key not in left_out and each.key not in self.uids]
        while todo and not self.gone:
            sized = next((i for i, each in enumerate(todo) if each.size is None), len(todo))
            if sized:
                some, todo = todo[:sized], todo[sized:]
                await self._in_turn(partial(self._add_listed, some, {}))
                continue
            run = next((i for i, each in enumerate(todo) if each.size is not None), len(todo))
            asked = todo[: min(run, BATCH)]
            bodies, errors = await self._read([each.key for each in asked])
            for key, error in errors.items():
                self._cannot_read(key, error)
            done = [each for each in asked if each.key in bodies or each.key in errors]
            if not done:
                raise MessageDamaged(detail=f"{self._source.name}: read() has given nothing")
            await self._in_turn(partial(self._add_listed, [each for each in asked if each.key in bodies], bodies))
            answered = {each.key for each in done}
            todo = [each for each in todo if each.key not in answered]
        return not self.gone

    def _cannot_read(self, key: Key, error: Exception) -> None:
        if key not in self._unreadable and not isinstance(error, MessageGone):
            self._source.fault("read", f"{self.user} {self.name}: {key!r} is left out until it can be read: {error}")
        before = self._unreadable.get(key)
        since = before.since if before else self._engine.environment.now()
        self._unreadable[key] = Unreadable(since, self._engine.clock.seconds() + AGAIN_SECONDS)

    async def _read(self, keys: Sequence[Key]) -> tuple[dict[Key, Scanned], dict[Key, Exception]]:
        """Octets of some of these messages, scanned; and what kept others from being read."""
        found = await self._source.read(self.user, self.name, keys, BATCH_OCTETS)
        octets = {key: each for key, each in found.items() if isinstance(each, bytes)}
        scanned = await self._engine.scan(list(octets.values()))
        errors = {key: each for key, each in found.items() if isinstance(each, Exception)}
        return dict(zip(octets, scanned, strict=True)), errors

    async def _add_listed(self, listed: Sequence[Listed], bodies: Mapping[Key, Scanned]) -> None:
        new = [each for each in listed if each.key not in self.uids]
        if not new or self.gone:
            return
        rows, modseq = [], self.modseq + 1
        for uid, each in enumerate(new, self.uid_next):
            body = bodies.get(each.key)
            size = body.digest.size if body else each.size
            assert size is not None, "what was not read has a size"
            flags = self.spelled(each.flags or frozenset())
            entry = Entry(uid, flags, modseq, size, self._date(each, body), body.digest.growth if body else 0)
            note = Note(each.key, body.checksum if body else None, each.size, each.version)
            rows.append(Row(entry, note, body.digest if body else None))
            self._unreadable.pop(each.key, None)
        settled = await self._settled(rows)
        await self.insert(rows, settled)

    def _date(self, listed: Listed, body: Scanned | None) -> int:
        """When it came: as the source says, or else the message itself, or else now."""
        now = self._engine.environment.now()
        if listed.date is not None:
            return listed.date
        return body.digest.sent if body and 0 < body.digest.sent <= now else now

    async def _look_into(self, suspects: Mapping[int, Listed]) -> None:
        """Messages that are listed in another way than before: where their octets are others, they are others."""
        read: list[Key] = []
        known: list[Row] = []
        for entry in self.index.select(list(suspects)):
            note, listed = self.notes[entry.uid], suspects[entry.uid]
            if listed.size in (None, entry.size) and note.version in ("", listed.version):
                known.append(Row(entry, note._replace(listed_size=listed.size, version=listed.version)))
            else:
                read.append(listed.key)
        if known:
            await self._in_turn(partial(self.learn, known))
        by_key = {listed.key: listed for listed in suspects.values()}
        while read:
            bodies, errors = await self._read(read[:BATCH])
            if not bodies and not errors:
                return
            for key, body in bodies.items():
                await self.take_octets(self.uids.get(key, 0), body, by_key[key])
            read = [key for key in read if key not in bodies and key not in errors]

    # --- polling -----------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Somebody watches from now on."""
        if self._poll is None and self._source.poll_seconds > 0:
            self._poll = self._engine.clock.callLater(self._source.poll_seconds, self._polled)

    def _polled(self) -> None:
        self._poll = None
        if self._engine.watchers.watched(self.number) and not self._engine.stopped:
            self.look()
            self.poll()

    def stop(self) -> None:
        """Look no more."""
        with suppress(AlreadyCalled, AlreadyCancelled):
            if self._poll is not None:
                self._poll.cancel()
        self._poll = None

    def source_swapped(self) -> None:
        """What another one could not read is tried again; who watches is told what is different."""
        self._unreadable.clear()
        self.stop()
        if self._engine.watchers.watched(self.number):
            self.look()
            self.poll()

    # --- changes -----------------------------------------------------------------------------------------------------

    async def in_turn(self, change: Callable[[], Awaitable[T]]) -> T:
        """Make a change when those before it are made. Raises NoSuchMailbox."""
        return await self._in_turn(change)

    async def _in_turn(self, change: Callable[[], Awaitable[T]]) -> T:
        await self._turns.acquire()
        try:
            self.require()
            return await change()
        finally:
            self._turns.release()

    async def in_turns(self, other: MirrorFolder, change: Callable[[], Awaitable[T]]) -> T:
        """Make a change of two folders. All wait for them in the same order, so that nobody waits for ever."""
        if other is self:
            return await self._in_turn(change)
        first, second = sorted((self, other), key=lambda each: each.number)
        return await first.in_turn(partial(second.in_turn, change))

    def changed_by_us(self) -> None:
        """What was listed before does not tell what is known now."""
        self._listing = self._under_way = None

    async def insert(self, rows: Sequence[Row], settled: Mapping[str, int] | None = None) -> None:
        """New messages, in turn; `settled` are UIDs of deliveries."""

        def unit(connection: Any) -> None:
            ledger.insert(connection, self.number, rows)
            for delivery_id, uid in (settled or {}).items():
                ledger.settle_delivery(connection, self.number, delivery_id, uid)

        await self._engine.ledger.run(unit)
        for row in rows:
            self.notes[row.entry.uid] = row.note
            self.uids[row.note.key] = row.entry.uid
        self.uid_next = rows[-1].entry.uid + 1
        self._engine.keep_digests(self.number, {r.entry.uid: r.digest for r in rows if r.digest is not None})
        self._apply(Added(tuple(row.entry for row in rows)))

    async def set_flags(self, entries: Sequence[Entry]) -> None:
        """Rows with other flags, of the next mod-sequence."""
        await self._engine.ledger.run(partial(ledger.set_flags, number=self.number, entries=entries))
        self._apply(FlagsChanged(tuple(entries)))

    async def vanish(self, uids: Sequence[int]) -> None:
        """Messages that are gone."""
        modseq = self.modseq + 1
        await self._engine.ledger.run(partial(ledger.vanish, number=self.number, uids=uids, modseq=modseq))
        for uid in uids:
            note = self.notes.pop(uid)
            if self.uids.get(note.key) == uid:
                del self.uids[note.key]
        self._apply(Expunged(tuple(uids), modseq))

    def _apply(self, change: Change) -> None:
        self.index.apply(change)
        self._engine.announce(self.number, change)

    async def learn(self, rows: Iterable[Row]) -> None:
        """More is known of messages that are still there."""
        known = [row for row in rows if row.entry.uid in self.notes]
        if known:
            await self._engine.ledger.run(partial(ledger.learn, number=self.number, rows=known))
            for row in known:
                self.notes[row.entry.uid] = row.note
            self.index.amend([row.entry for row in known])
            self._engine.keep_digests(self.number, {r.entry.uid: r.digest for r in known if r.digest is not None})

    async def take_octets(self, uid: int, body: Scanned, listed: Listed | None = None) -> bool:
        """Octets were read. Whether they are those of this message; if not, it is gone: a UID stands for the same
        octets for good (RFC 9051 2.3.1.1), so that the source's message gets another one."""
        return await self._in_turn(partial(self._take_octets, uid, body, listed))

    async def _take_octets(self, uid: int, body: Scanned, listed: Listed | None) -> bool:
        entry, note = self.entry(uid), self.notes.get(uid)
        if entry is None or note is None:
            return False
        if listed is not None:
            note = note._replace(listed_size=listed.size, version=listed.version)
        if body.digest.size == entry.size and note.checksum in (None, body.checksum):
            if note.checksum is None or note != self.notes[uid]:
                known = entry._replace(growth=body.digest.growth)
                await self.learn([Row(known, note._replace(checksum=body.checksum), body.digest)])
            return True
        if note.checksum is None:
            fault = f"{note.key!r} has {body.digest.size} octets, and was listed with {entry.size}"
            self._source.fault("messages", f"{self.user} {self.name}: {fault}")
        else:
            self._source.fault("read", f"{self.user} {self.name}: {note.key!r} has other octets than before")
        await self.vanish([uid])
        date = entry.internal_date
        again = Entry(self.uid_next, entry.flags, self.modseq + 1, body.digest.size, date, body.digest.growth)
        await self.insert([Row(again, note._replace(checksum=body.checksum), body.digest)])
        return False

    # --- deliveries --------------------------------------------------------------------------------------------------

    async def delivered(self, delivery_id: str) -> int | None:
        """The UID of what was added under this id. What became of an earlier attempt that was broken off between the
        source's add() and the ledger's note of it is found by looking: a message that has come since, with the very
        octets, is that one. (A source that changes octets as it takes them cannot be helped: it has the message
        twice then, and never not at all.) None only after a look in which all that is new could be read. Raises
        TemporaryError where that cannot be had now, and MailError."""
        for again in (False, True):
            for delivery in await self._deliveries(delivery_id):
                if delivery.uid is not None:
                    return delivery.uid
                if not again:
                    await self._look()
                    await self._search(delivery)
                elif any(each.since >= delivery.at for each in self._unreadable.values()):
                    raise self._not_known("a message that came since cannot be read")
        return None

    def _not_known(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(detail=f"{self._source.name}: whether a message was added before is not known: {why}")

    async def _deliveries(self, delivery_id: str | None = None) -> list[Delivery]:
        return await self._engine.ledger.run(partial(ledger.deliveries, number=self.number, delivery_id=delivery_id))

    async def _search(self, delivery: Delivery) -> None:
        """Among messages whose octets were not read when they came, because the source had listed their size."""
        unread = [
            entry.uid
            for entry in self.index.select()
            if entry.uid >= delivery.uid_next
            and entry.size == delivery.size
            and self.notes[entry.uid].checksum in (None, delivery.checksum)
        ]
        for uid in unread:
            note = self.notes.get(uid)
            if note is None:
                continue
            bodies, errors = await self._read([note.key])
            body = bodies.get(note.key)
            if body is None and not isinstance(errors.get(note.key), MessageGone):
                raise self._not_known("one with its size cannot be read")
            if body and await self.take_octets(uid, body) and body.checksum == delivery.checksum:
                await self._engine.ledger.run(
                    partial(ledger.settle_delivery, number=self.number, delivery_id=delivery.id, uid=uid)
                )
                return

    async def _settled(self, rows: Sequence[Row]) -> dict[str, int]:
        """Which of these new messages are deliveries of which it was not known what became of them: noted before
        anybody can expunge them."""
        settled: dict[str, int] = {}
        taken: set[int] = set()
        if self._engine.undecided.get(self.number, True):
            pending = await self._deliveries()
            self._engine.undecided[self.number] = bool(pending)
            for delivery in pending:
                for row in rows:
                    same = (row.entry.size, row.note.checksum) == (delivery.size, delivery.checksum)
                    if same and row.entry.uid not in taken:
                        settled[delivery.id] = row.entry.uid
                        taken.add(row.entry.uid)
                        break
        return settled

    def go(self) -> None:
        """It was deleted."""
        self.gone = True
        self.stop()
        self._engine.announce(self.number, MailboxGone())
