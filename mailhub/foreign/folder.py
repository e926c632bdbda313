"""An `IMailboxIMAP` as it was last looked at: its rows in memory, for all sessions that have this very object.

The realm's mailbox is the only one that has messages, and others may change it at any moment. Changes of ours are made
one at a time; after each, when a listener is told of something, and when a client asks, it is looked at: what differs
from the rows is announced. UIDs and UIDVALIDITY are the mailbox's own; mod-sequences count from the first look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar, cast, get_args
from zlib import crc32

from twisted.internet.defer import Deferred, DeferredLock
from twisted.mail.imap4 import MessageSet
from twisted.mail.interfaces import ICloseableMailboxIMAP, IMailboxIMAPListener
from zope.interface import implementer

from mailhub.answers import answer
from mailhub.errors import MailError, NoSuchMailbox, TooManyKeywords
from mailhub.foreign.calls import Foreign, Known, Measured, flags, number
from mailhub.foreign.messages import internal_date, message_octets
from mailhub.message.digest import columns, digest
from mailhub.message.flags import SEEN, SYSTEM_FLAGS, Flags
from mailhub.message.record import (
    ALL_RIGHTS,
    LAST_UID,
    READ_ONLY,
    Added,
    Change,
    Digest,
    DigestName,
    Entry,
    Expunged,
    FlagsChanged,
    MailboxGone,
    MailboxStatus,
    Rights,
)
from mailhub.store.changes import Watchers
from mailhub.store.index import MailboxIndex
from mailhub.store.memory.keywords import Keywords
from mailhub.store.mirror.rows import runs
from mailhub.store.nonsense import Nonsense, listed, shown

T = TypeVar("T")

MESSAGES = 1_000_000  # in a mailbox
BATCH = 50  # messages read with one call, and
BATCH_OCTETS = 1 << 20  # how much they have, about
BATCH_SECONDS = 0.05  # or how long it takes
_IN_A_TURN = 5000  # messages that are looked at before others are served
_SCANNED = 1 << 16  # octets that are scanned on the reactor thread
_VANISHED = 100_000  # UIDs that are remembered
_ALL: tuple[DigestName, ...] = get_args(DigestName)


class Message(NamedTuple):
    """A message as the mailbox has just given it."""

    uid: int
    flags: Flags
    given: Any


def message_set(numbers: Sequence[tuple[int, int]]) -> MessageSet:
    """First and last of each run, as realms are given numbers."""
    return MessageSet(list(numbers))  # type: ignore[no-untyped-call]


@implementer(IMailboxIMAPListener)
class Listener:
    """What the mailbox tells of its changes. It does not tell all, so it is looked at each time."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def modeChanged(self, writeable: bool) -> None:
        """What can be done with it has changed."""
        self._folder.look_soon()

    def flagsChanged(self, newFlags: Mapping[int, Sequence[str]]) -> None:
        """Some messages have other flags."""
        self._folder.look_soon()

    def newMessages(self, exists: int | None, recent: int | None) -> None:
        """There are more messages, or fewer."""
        self._folder.look_soon()


class Folder:
    """One mailbox. Methods that ask the realm raise MailError."""

    def __init__(self, foreign: Foreign, mailbox: Any, user: str, name: str) -> None:
        self.foreign = foreign
        self.given = mailbox
        self.user = user
        self.name = name
        self.uid_validity = 0
        self.uid_next = 1
        self.rights: Rights = READ_ONLY
        self.gone = False
        self.index = MailboxIndex((), 1)
        self.looked = False
        self.keywords = Keywords(foreign.limits)
        self.deliveries: dict[str, int] = {}
        self._vanished: deque[tuple[int, int]] = deque(maxlen=_VANISHED)
        self._known = Known(0)
        self._left_out: set[int] = set()  # UIDs that cannot be shown while the mailbox is open
        self._watchers = Watchers(foreign.environment.clock)
        self._listener = Listener(self)
        self._listens = self._look_is_due = False
        self._turns = DeferredLock()

    async def open(self) -> None:
        """In turn, whenever it is selected: ask what a client is told first. Raises NoSuchMailbox where it has become
        another mailbox, with another UIDVALIDITY."""
        uid_validity = await self.foreign.call("getUIDValidity", self._uid_validity)
        await self.foreign.call("isWriteable", self._rights)
        if self.uid_validity not in (0, uid_validity):
            self.go()
        self.require()
        self.uid_validity = uid_validity
        self._known = self.foreign.sizes.of(self.user, self.name, uid_validity)

    @property
    def number(self) -> int:
        """The same for all objects that stand for this mailbox."""
        return self._known.number

    async def _uid_validity(self) -> int:
        given = await answer(self.given.getUIDValidity())
        # Many a realm counts its mailboxes from 0, which is no UIDVALIDITY (RFC 9051 9 nz-number).
        return number(given, 0, LAST_UID) or LAST_UID

    async def _rights(self) -> None:
        self.rights = ALL_RIGHTS if await answer(self.given.isWriteable()) else READ_ONLY

    # --- what is known -----------------------------------------------------------------------------------------------

    @property
    def modseq(self) -> int:
        """The highest one."""
        return self.index.modseq

    def require(self) -> None:
        """Raises NoSuchMailbox when it was deleted."""
        if self.gone:
            raise NoSuchMailbox

    def entry(self, uid: int) -> Entry | None:
        """A message's row."""
        found = self.index.select([uid])
        return found[0] if found else None

    def measured(self, uid: int) -> Measured | None:
        """What was found out about a message that has a row."""
        return self._known.messages.get(uid) if self.entry(uid) is not None else None

    def status(self) -> MailboxStatus:
        """The counters."""
        entries = self.index.select()
        unseen = sum(SEEN not in entry.flags for entry in entries)
        size = sum(entry.size for entry in entries)
        return MailboxStatus(len(entries), unseen, size, self.uid_next, self.uid_validity, self.modseq)

    def present(self) -> Iterable[Flags]:
        """The flags of all messages."""
        for entry in self.index.select():
            yield entry.flags

    def admitted(self, given: Flags) -> Flags:
        """Flags as the mailbox spells them. Raises TooManyKeywords."""
        if given <= SYSTEM_FLAGS:
            return given
        self.keywords.check_number(given)
        self.keywords.take_up((given,), self.present())
        return self.keywords.spelled(given)

    def _spelled(self, given: Flags) -> Flags:
        try:
            return self.admitted(given)
        except TooManyKeywords:
            return given & SYSTEM_FLAGS

    def vanished(self, since_modseq: int) -> list[int]:
        """UIDs that have gone since then, as far as that was seen."""
        return sorted(uid for modseq, uid in self._vanished if modseq > since_modseq)

    # --- who watches -------------------------------------------------------------------------------------------------

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Announce changes; the realm's mailbox is listened to while somebody does."""
        stop = self._watchers.watch(0, listener)
        if not self._listens:
            self._listens = True
            Deferred.fromCoroutine(self._tell(self.given, "addListener", self._listener))

        def stopped() -> None:
            stop()
            if self._listens and not self._watchers.watched(0):
                self._listens = False
                Deferred.fromCoroutine(self._leave())

        return stopped

    async def _leave(self) -> None:
        await self._tell(self.given, "removeListener", self._listener)
        closeable = ICloseableMailboxIMAP(self.given, None)
        if closeable is not None:
            await self._tell(closeable, "close")

    async def _tell(self, thing: Any, method: str, *arguments: object) -> None:
        """What nobody waits for; the log has what came of it."""
        with suppress(MailError):
            await self.foreign.ask(thing, method, *arguments)

    def look_soon(self) -> None:
        """Something has changed; many such hints at once are one look."""
        if not self._look_is_due:
            self._look_is_due = True
            Deferred.fromCoroutine(self._hinted())

    async def _hinted(self) -> None:
        with suppress(MailError):
            await self.in_turn(self._hinted_look)

    async def _hinted_look(self) -> None:
        self._look_is_due = False
        await self.look()

    async def changed_by_us(self) -> None:
        """Have sessions hear of it that have the same mailbox by another object of the realm."""
        for other in list(self.foreign.folders.values()):
            if other is not self and (other.user, other.name) == (self.user, self.name) and other.looked:
                with suppress(MailError):
                    await other.refresh()

    def go(self) -> None:
        """It was deleted."""
        if not self.gone:
            self.gone = True
            self._watchers.announce(0, MailboxGone())

    # --- looking -----------------------------------------------------------------------------------------------------

    async def in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something when what was begun before it is done. Raises NoSuchMailbox."""
        await self._turns.acquire()
        try:
            self.require()
            return await work()
        finally:
            self._turns.release()

    async def refresh(self) -> None:
        """Look at the mailbox."""
        await self.in_turn(self.look)

    async def look(self) -> list[int]:
        """In turn: compare what is there with the rows, and announce what differs. Returns the UIDs that are new."""
        await self.foreign.call("isWriteable", self._rights)
        found = await self.foreign.call("fetch", self._all)
        messages = {message.uid: message for message in found if message.uid not in self._left_out}
        rows = {entry.uid: entry for entry in self.index.select()}
        last = max(rows, default=0)
        for uid in [uid for uid in messages if uid < last and uid not in rows]:
            self.foreign.fault("fetch", f"{self.user} {self.name}: UID {uid} has come after UID {last}")
            self._left_out.add(uid)
            del messages[uid]
        new = await self._new_rows([message for uid, message in messages.items() if uid not in rows])
        self.uid_next = max(await self.foreign.call("getUIDNext", self._uid_next), self.uid_next)
        self._vanish([uid for uid in rows if uid not in messages])
        self.take_flags(message for uid, message in messages.items() if uid in rows)
        self._add(new)
        return [entry.uid for entry in new]

    async def _all(self) -> list[Message]:
        count = number(await answer(self.given.getMessageCount()), 0, MESSAGES)
        return await self._fetched(message_set([(1, count)]), False) if count else []

    async def _fetched(self, which: MessageSet, uid: bool) -> list[Message]:
        """In UID order."""
        found: dict[int, Message] = {}
        for pair in listed(await answer(self.given.fetch(which, uid=uid)), MESSAGES):
            try:
                _, given = pair
            except (TypeError, ValueError):
                raise Nonsense(f"gave {shown(pair)}, no pair of number and message") from None
            own = number(await answer(given.getUID()), 1, LAST_UID - 1)
            if own in found:
                raise Nonsense(f"gave two messages with UID {own}")
            found[own] = Message(own, flags(await answer(given.getFlags())), given)
            if not len(found) % _IN_A_TURN:
                await self.foreign.breathe()
        return [found[own] for own in sorted(found)]

    async def _uid_next(self) -> int:
        """As the mailbox says; where it says nothing that can be, the one after the last."""
        after = max((entry.uid for entry in self.index.select()), default=0) + 1
        try:
            return max(after, number(await answer(self.given.getUIDNext()), 1, LAST_UID))
        except (Nonsense, NotImplementedError):
            return after

    async def fetched(self, uids: Sequence[int]) -> dict[int, Message]:
        """Some messages, by UID; those that are not there are left out."""
        if not uids:
            return {}
        wanted = set(uids)
        found = await self.foreign.call("fetch", self._fetched, message_set(runs(uids)), True)
        if not wanted.issubset(message.uid for message in found):
            # Some are gone, or the mailbox takes UIDs for numbers.
            found = await self.foreign.call("fetch", self._all)
        return {message.uid: message for message in found if message.uid in wanted}

    async def _new_rows(self, new: Sequence[Message]) -> list[Entry]:
        """Rows of messages that were not met before. Each has to be read once: what it says of its size need not be
        so. One that cannot be read is not shown while the mailbox is open."""
        unknown = [message for message in new if message.uid not in self._known.messages]
        while unknown:
            read, errors = await self.read(unknown)
            await self._measured(read)
            for uid, error in errors.items():
                self.foreign.fault("open", f"{self.user} {self.name}: UID {uid} cannot be read: {_named(error)}")
                self._left_out.add(uid)
            unknown = unknown[len(read) + len(errors) :]
            if unknown:
                await self.foreign.breathe()
        rows = []
        for message in new:
            if message.uid in self._known.messages:
                measured = self._known.messages[message.uid]
                date = await self._date(message, measured)
                flags = self._spelled(message.flags)
                rows.append(Entry(message.uid, flags, 0, measured.size, date, measured.growth))
        return rows

    async def _date(self, message: Message, measured: Measured) -> int:
        try:
            date = await self.foreign.call("getInternalDate", internal_date, message.given)
        except MailError:
            date = None
        return measured.sent if date is None else date

    async def _measured(self, read: Mapping[int, bytes]) -> dict[str, dict[int, Any]]:
        """Keep what there is to be known of messages that were read. Returns the columns of their digests."""
        made: dict[int, Digest] = {}
        for uid, octets in read.items():
            soon = len(octets) <= _SCANNED
            made[uid] = digest(octets) if soon else await self.foreign.environment.threads.run(digest, octets)
            sent = max(0, made[uid].sent)
            self._known.messages[uid] = Measured(made[uid].size, made[uid].growth, crc32(octets), sent)
        found = cast("dict[str, dict[int, Any]]", columns(made, _ALL))
        self.foreign.digests.put(self.number, found)
        return found

    def _add(self, rows: Sequence[Entry]) -> None:
        if not self.looked:
            self.looked = True
            first = [row._replace(modseq=modseq) for modseq, row in enumerate(rows, 2)]
            self.index = MailboxIndex(first, len(first) + 1)
        elif rows:
            self._apply(Added(tuple(row._replace(modseq=self.modseq + 1) for row in rows)))
        if rows:
            self.uid_next = max(self.uid_next, rows[-1].uid + 1)

    def take_flags(self, messages: Iterable[Message]) -> tuple[Entry, ...]:
        """Messages have these flags now. Returns the rows that differ."""
        given = {message.uid: message.flags for message in messages}
        modseq, changed = self.modseq + 1, []
        for row in self.index.select(sorted(given)):
            if given[row.uid] != row.flags and (flags := self._spelled(given[row.uid])) != row.flags:
                changed.append(row._replace(flags=flags, modseq=modseq))
        if changed:
            self._apply(FlagsChanged(tuple(changed)))
        return tuple(changed)

    def _vanish(self, uids: Sequence[int]) -> None:
        if uids:
            modseq = self.modseq + 1
            self._vanished.extend((modseq, uid) for uid in uids)
            for uid in uids:
                self._known.messages.pop(uid, None)
            self._apply(Expunged(tuple(uids), modseq))

    def _apply(self, change: Change) -> None:
        self.index.apply(change)
        self.foreign.digests.apply(self.number, change)
        self._watchers.announce(0, change)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, messages: Sequence[Message]) -> tuple[dict[int, bytes], dict[int, Exception]]:
        """The octets of the first of these messages, at least of one, and what kept others from being read."""
        read: tuple[dict[int, bytes], dict[int, Exception]] = await self.foreign.call("open", self._read, messages)
        return read

    async def _read(self, messages: Sequence[Message]) -> tuple[dict[int, bytes], dict[int, Exception]]:
        read: dict[int, bytes] = {}
        errors: dict[int, Exception] = {}
        room, clock = BATCH_OCTETS, self.foreign.environment.clock
        until = clock.seconds() + BATCH_SECONDS
        for message in messages[:BATCH]:
            try:
                read[message.uid] = await message_octets(message.given, self.foreign.message_octets)
                room -= len(read[message.uid])
            except Exception as error:
                errors[message.uid] = error
            if room <= 0 or clock.seconds() > until:
                break
        return read, errors

    async def octets(self, uids: Sequence[int]) -> dict[int, bytes]:
        """Those of messages that have rows, as many as can be read at once, and are what they were. Raises MailError
        when the first of them cannot be read; it is left out when it is gone."""
        found = await self.fetched([uid for uid in uids[:BATCH] if self.entry(uid) is not None])
        if not found:
            return {}
        read, errors = await self.read(list(found.values()))
        if not read and errors:
            uid, error = next(iter(errors.items()))
            raise self.foreign.guard.fault(
                "open", f"{self.user} {self.name}: UID {uid} cannot be read: {_named(error)}"
            )
        return {uid: octets for uid, octets in read.items() if self._same(uid, octets)}

    def _same(self, uid: int, octets: bytes) -> bool:
        """Whether they are what the UID stood for (RFC 9051 2.3.1.1); if not, the message is gone."""
        measured = self._known.messages.get(uid)
        if measured is None or (measured.size, measured.checksum) == (len(octets), crc32(octets)):
            return True
        self.foreign.fault("fetch", f"{self.user} {self.name}: UID {uid} has other octets than before")
        self._left_out.add(uid)
        if self.entry(uid) is not None:
            self._vanish([uid])
        return False

    async def digests(self, uids: Sequence[int], wanted: Iterable[Any]) -> dict[str, dict[int, Any]]:
        """Of messages that have rows."""
        names = list(wanted)
        found, missing = self.foreign.digests.get(
            self.number, [uid for uid in uids if self.entry(uid) is not None], names
        )
        while missing:
            read = await self.octets(missing)
            made = await self._measured(read)
            for name, column in found.items():
                column.update(made[name])
            last = max(read, default=missing[min(len(missing), BATCH) - 1])
            missing = [uid for uid in missing if uid > last]
        return found


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, Nonsense) else f"{type(error).__name__}: {error}"
