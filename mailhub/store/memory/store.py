"""The mailboxes and accounts of the twin in plain dicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import attrs
from zope.interface import implementer

from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    MessageGone,
    NoSuchMailbox,
    NoSuchUser,
    NotPermitted,
    OverQuota,
    PermanentError,
    TooManyKeywords,
)
from mailhub.interfaces import (
    Account,
    Environment,
    IAccounts,
    IBlobReader,
    IBody,
    IBodyWriter,
    IHold,
    IMailAccount,
    IMailbox,
    IMailStore,
)
from mailhub.message.digest import columns
from mailhub.message.flags import DELETED, SEEN, SYSTEM_FLAGS, Flags, encode, excess
from mailhub.message.mailbox_names import DELIMITER, INBOX, check, normalise
from mailhub.message.record import (
    ALL_RIGHTS,
    Added,
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    Expunged,
    FlagChange,
    FlagResult,
    FlagsChanged,
    MailboxGone,
    MailboxInfo,
    MailboxStatus,
    Quota,
)
from mailhub.store.changes import Watchers
from mailhub.store.limits import USUAL_FOLDERS, USUAL_USES, StoreLimits
from mailhub.store.memory.body import MemoryBody, MemoryBodyWriter, memory_body
from mailhub.store.memory.keywords import Keywords
from mailhub.store.octets import OctetsReader


@attrs.define(eq=False)
class Message:
    """A message in a mailbox."""

    entry: Entry
    body: MemoryBody


@implementer(IHold)
class MemoryHold:
    """Expunged messages that a session may still read."""

    def __init__(self, box: Box) -> None:
        self.messages: dict[int, Message] = {}
        self._box = box
        box.holds.append(self)

    def let_go(self, uids: Sequence[int]) -> None:
        """Forget these."""
        for uid in uids:
            self.messages.pop(uid, None)

    def end(self) -> None:
        """Forget all."""
        self.messages.clear()
        if self in self._box.holds:
            self._box.holds.remove(self)


@attrs.define(eq=False)
class Box:
    """The contents of a mailbox."""

    owner: AccountData
    name: str
    number: int  # what watchers know it by
    uid_validity: int
    keywords: Keywords
    special_use: str = ""
    uid_next: int = 1
    modseq: int = 1
    messages: dict[int, Message] = attrs.field(factory=dict)  # by UID, ascending
    vanished: list[tuple[int, int]] = attrs.field(factory=list)  # mod-sequence, UID
    deliveries: dict[str, int] = attrs.field(factory=dict)  # UID by delivery id
    holds: list[MemoryHold] = attrs.field(factory=list)
    exists: bool = True

    @property
    def size(self) -> int:
        """Octets of all messages."""
        return sum(message.entry.size for message in self.messages.values())

    def add(self, body: MemoryBody, flags: Flags, internal_date: int, modseq: int) -> Entry:
        """A new message at the end; its keywords were admitted."""
        entry = Entry(self.uid_next, self.keywords.spelled(flags), modseq, body.size, internal_date, body.digest.growth)
        self.messages[entry.uid] = Message(entry, body)
        self.uid_next += 1
        return entry

    @property
    def flags(self) -> list[Flags]:
        """Of all messages."""
        return [message.entry.flags for message in self.messages.values()]

    @property
    def flag_octets(self) -> int:
        """What the flags of all messages count in the account's use."""
        return sum(excess(encode(flags)) for flags in self.flags)

    def next_modseq(self) -> int:
        """For one more change."""
        self.modseq += 1
        return self.modseq


@attrs.define(eq=False)
class AccountData:
    """An account and its mailboxes by name."""

    row: Account
    boxes: dict[str, Box] = attrs.field(factory=dict)
    subscriptions: set[str] = attrs.field(factory=set)
    exists: bool = True

    @property
    def used(self) -> int:
        """Octets of all messages, and of what flags they have beyond measure."""
        return sum(box.size + box.flag_octets for box in self.boxes.values())

    def usual_use(self, name: str) -> str:
        """What a mailbox of this name is for, if there is none for that."""
        use = USUAL_USES.get(name, "")
        return "" if use in {box.special_use for box in self.boxes.values()} else use

    def has_room(self, size: int) -> bool:
        """Whether its quota has room for so many octets."""
        return not self.row.quota or self.used + size <= self.row.quota

    def check_room(self, size: int) -> None:
        """Raises OverQuota."""
        if not self.has_room(size):
            raise OverQuota


class MemoryEngine:
    """What the facets of the twin share."""

    def __init__(self, environment: Environment, settings: StoreLimits) -> None:
        self.environment = environment
        self.settings = settings
        self.watchers = Watchers()
        self.accounts: dict[str, AccountData] = {}
        self._numbers = 0
        self._last_uid_validity = 0

    def account(self, user: str) -> AccountData:
        """Raises NoSuchUser."""
        if user not in self.accounts:
            raise NoSuchUser
        return self.accounts[user]

    def add_account(self, row: Account) -> AccountData:
        """With the usual folders. Raises MailboxExists."""
        if row.user in self.accounts:
            raise MailboxExists("Account exists already")
        account = self.accounts[row.user] = AccountData(row)
        for name, special_use in USUAL_FOLDERS:
            self.add_box(account, name, special_use)
            account.subscriptions.add(name)
        return account

    def add_box(self, account: AccountData, name: str, special_use: str = "") -> Box:
        """A new mailbox with a UIDVALIDITY that nobody had before."""
        self._numbers += 1
        self._last_uid_validity = max(self._last_uid_validity + 1, self.environment.now())
        box = Box(account, name, self._numbers, self._last_uid_validity, Keywords(self.settings), special_use)
        account.boxes[name] = box
        return box

    def ensure_account(self, user: str) -> None:
        """One without a password, where it is missing."""
        if user not in self.accounts:
            self.add_account(Account(user, "", 0))

    def mailbox_for(self, user: str, name: str, size: int, filled: Sequence[Box] = ()) -> Box:
        """Where a message for this mailbox goes: there, or, unless it is one of the usual ones, to INBOX when it is not
        there. It takes no room in what is `filled` with it already. Raises NoSuchUser, OverQuota."""
        account = self.account(user)
        box = account.boxes.get(name)
        if (box if box is not None or name in USUAL_USES else account.boxes[INBOX]) not in filled:
            account.check_room(size)
        if name not in account.boxes and name in USUAL_USES:
            self.add_box(account, name, account.usual_use(name))
        return account.boxes.get(name) or account.boxes[INBOX]

    def drop_box(self, box: Box) -> None:
        """Remove a mailbox and tell its watchers."""
        del box.owner.boxes[box.name]
        box.exists = False
        self.watchers.announce(box.number, MailboxGone())

    def deposit(self, box: Box, body: MemoryBody, flags: Flags, internal_date: int) -> int:
        """Add one message and tell the watchers; returns its UID. Raises OverQuota.

        Mail is not refused for its keywords: they are left out where there is no room."""
        box.owner.check_room(body.size)
        try:
            box.keywords.check_number(flags)
            box.keywords.take_up((flags,), box.flags)
        except TooManyKeywords:
            flags = flags & SYSTEM_FLAGS
        entry = box.add(body, flags, internal_date, box.next_modseq())
        self.watchers.announce(box.number, Added((entry,), entry.modseq - 1))
        return entry.uid


def _octets(messages: Sequence[Message]) -> int:
    return sum(message.entry.size + excess(encode(message.entry.flags)) for message in messages)


@implementer(IMailbox)
class MemoryMailbox:
    """One mailbox."""

    rights = ALL_RIGHTS

    def __init__(self, engine: MemoryEngine, box: Box) -> None:
        self._engine = engine
        self._box = box
        self.name = box.name
        self.uid_validity = box.uid_validity
        self._hold: MemoryHold | None = None

    def _there(self) -> Box:
        if not self._box.exists:
            raise NoSuchMailbox
        return self._box

    def _chosen(self, uids: Sequence[int] | None) -> list[Message]:
        messages = self._box.messages
        if uids is None:
            return list(messages.values())
        return [messages[uid] for uid in uids if uid in messages]

    async def status(self) -> MailboxStatus:
        """The counters."""
        box = self._there()
        unseen = sum(SEEN not in message.entry.flags for message in box.messages.values())
        return MailboxStatus(len(box.messages), unseen, box.size, box.uid_next, box.uid_validity, box.modseq)

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """In UID order."""
        self._there()
        return [message.entry for message in self._chosen(uids) if message.entry.modseq > since_modseq]

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """Of the messages that exist."""
        return columns({message.entry.uid: message.body.digest for message in self._existing(uids)}, wanted)

    async def bodies(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Of the messages that exist and would not be files elsewhere."""
        limit = self._engine.settings.inline_body_octets
        return {m.entry.uid: m.body.octets for m in self._existing(uids) if m.body.size <= limit}

    def _existing(self, uids: Sequence[int]) -> list[Message]:
        if not self._box.exists:
            return []
        held = self._hold.messages if self._hold is not None else {}
        return [*self._chosen(uids), *(held[uid] for uid in uids if uid in held)]

    async def open(self, uid: int) -> IBlobReader:
        """Raises MessageGone."""
        for message in self._existing([uid]):
            return OctetsReader(message.body.octets)
        raise MessageGone

    async def append(self, body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """Raises NoSuchMailbox, OverQuota."""
        box = self._there()
        if delivery_id in box.deliveries:
            return box.deliveries[delivery_id]
        box.owner.check_room(body.size + excess(encode(flags)))
        box.keywords.check_number(flags)
        box.keywords.take_up((flags,), box.flags)
        uid = self._engine.deposit(box, memory_body(body), flags, internal_date)
        if delivery_id:
            box.deliveries[delivery_id] = uid
        return uid

    async def change_flags(
        self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None
    ) -> FlagResult:
        """One mod-sequence for all that change."""
        box = self._there()
        if change.mode != "remove":
            change = FlagChange(change.mode, box.keywords.spelled(change.flags, box.flags))
        changed: list[Message] = []
        failed: list[int] = []
        flag_octets = 0
        for message in self._chosen(uids):
            if unchanged_since is not None and message.entry.modseq > unchanged_since:
                failed.append(message.entry.uid)
                continue
            old, new = message.entry.flags, change.apply(message.entry.flags)
            if new == old:
                continue
            if len(new) > len(old):
                box.keywords.check_number(new)
            flag_octets += excess(encode(new)) - excess(encode(old))
            changed.append(message)
        if changed:
            if flag_octets > 0 and not change.flags <= SYSTEM_FLAGS:
                box.owner.check_room(flag_octets)
            if change.mode != "remove":
                box.keywords.take_up((change.flags,), box.flags)
            modseq = box.next_modseq()
            for message in changed:
                message.entry = message.entry._replace(flags=change.apply(message.entry.flags), modseq=modseq)
        entries = tuple(message.entry for message in changed)
        if entries:
            modseq = entries[0].modseq
            self._engine.watchers.announce(box.number, FlagsChanged(entries, modseq - 1))
        return FlagResult(entries, tuple(failed))

    async def copy(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """All or nothing."""
        self._there()
        other = self._sibling(target)
        messages = self._chosen(uids)
        other.owner.check_room(_octets(messages))
        return self._copy(messages, other)

    async def move(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Copy and expunge."""
        box, other = self._there(), self._sibling(target)
        messages = self._chosen(uids)
        if box.owner is not other.owner:
            other.owner.check_room(_octets(messages))
        result = self._copy(messages, other)
        self._remove(messages)
        return result

    def _sibling(self, target: IMailbox) -> Box:
        if not isinstance(target, MemoryMailbox) or target._engine is not self._engine:
            raise TypeError("the target mailbox is in another store")
        return target._there()

    def _copy(self, messages: Sequence[Message], other: Box) -> CopyResult:
        if not messages:
            return CopyResult(other.uid_validity, (), ())
        other.keywords.take_up([message.entry.flags for message in messages], other.flags)
        modseq = other.next_modseq()
        entries = tuple(other.add(m.body, m.entry.flags, m.entry.internal_date, modseq) for m in messages)
        self._engine.watchers.announce(other.number, Added(entries, modseq - 1))
        return CopyResult(
            other.uid_validity, tuple(m.entry.uid for m in messages), tuple(entry.uid for entry in entries)
        )

    def _remove(self, messages: Sequence[Message]) -> Sequence[int]:
        uids = tuple(message.entry.uid for message in messages)
        if uids:
            box = self._box
            modseq = box.next_modseq()
            for uid in uids:
                for hold in box.holds:
                    if hold is not self._hold:
                        hold.messages[uid] = box.messages[uid]
                del box.messages[uid]
                box.vanished.append((modseq, uid))
            self._engine.watchers.announce(box.number, Expunged(uids, modseq, modseq - 1))
        return uids

    async def expunge(self, uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """Returns the UIDs that are gone."""
        self._there()
        return self._remove([m for m in self._chosen(uids) if not deleted_only or DELETED in m.entry.flags])

    async def vanished(self, since_modseq: int) -> Sequence[int]:
        """Ascending."""
        return sorted(uid for modseq, uid in self._box.vanished if modseq > since_modseq and self._box.exists)

    async def refresh(self) -> None:
        """Nobody else changes it."""

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Have every change from now on announced."""
        return self._engine.watchers.watch(self._box.number, listener)

    def hold(self) -> IHold:
        """Of expunged messages, without a bound."""
        self._hold = MemoryHold(self._box)
        return self._hold


@implementer(IMailAccount)
class MemoryMailAccount:
    """One account."""

    def __init__(self, engine: MemoryEngine, data: AccountData) -> None:
        self._engine = engine
        self._data = data
        self.user = data.row.user

    def _there(self) -> AccountData:
        if not self._data.exists:
            raise NoSuchUser
        return self._data

    def _box(self, name: str) -> Box:
        box = self._data.boxes.get(normalise(name))
        if box is None:
            raise NoSuchMailbox
        return box

    async def mailboxes(self) -> Sequence[MailboxInfo]:
        """In name order."""
        boxes = self._there().boxes
        return [MailboxInfo(name, boxes[name].special_use) for name in sorted(boxes)]

    async def mailbox(self, name: str) -> IMailbox:
        """Raises NoSuchMailbox."""
        return MemoryMailbox(self._engine, self._box(name))

    async def create(self, name: str, special_use: str = "") -> None:
        """Raises MailboxExists, InvalidMailboxName."""
        self._create(name, special_use)

    def _create(self, name: str, special_use: str = "") -> Box:
        name = normalise(name)
        check(name)
        if name in self._there().boxes:
            raise MailboxExists
        if len(self._data.boxes) >= self._engine.settings.mailboxes_per_account:
            raise InvalidMailboxName("Too many mailboxes")
        return self._engine.add_box(self._data, name, special_use or self._data.usual_use(name))

    async def delete(self, name: str) -> None:
        """Raises NoSuchMailbox, NotPermitted for INBOX."""
        if normalise(name) == INBOX:
            raise NotPermitted("INBOX cannot be deleted")
        self._engine.drop_box(self._box(name))

    async def rename(self, old: str, new: str) -> None:
        """Raises NoSuchMailbox, MailboxExists, InvalidMailboxName."""
        old, new = normalise(old), normalise(new)
        if old == INBOX:
            target = MemoryMailbox(self._engine, self._create(new))
            inbox = MemoryMailbox(self._engine, self._box(INBOX))
            await inbox.move(list(self._box(INBOX).messages), target)
            return
        check(new)
        if new.startswith(old + DELIMITER):
            raise InvalidMailboxName("A mailbox cannot become its own inferior")
        boxes = self._data.boxes
        below = old + DELIMITER
        names = {name: normalise(new + name[len(old) :]) for name in boxes if name == old or name.startswith(below)}
        if not names:
            raise NoSuchMailbox
        for name in names.values():
            check(name)
        if new in boxes or not boxes.keys().isdisjoint(names.values()):
            raise MailboxExists
        for before, after in names.items():
            boxes[after] = boxes.pop(before)
            boxes[after].name = after
            boxes[after].special_use = boxes[after].special_use or self._data.usual_use(after)

    async def subscribe(self, name: str, subscribed: bool) -> None:
        """Raises InvalidMailboxName."""
        name = normalise(name)
        if not subscribed:
            self._data.subscriptions.discard(name)
            return
        check(name)
        subscriptions = self._there().subscriptions
        if len(subscriptions) >= self._engine.settings.subscriptions_per_account:
            raise PermanentError("Too many subscriptions", status="5.2.0")
        subscriptions.add(name)

    async def subscriptions(self) -> Sequence[str]:
        """In name order."""
        return sorted(self._data.subscriptions)

    async def quota(self) -> Quota:
        """Use and limit."""
        data = self._there()
        return Quota(data.used, data.row.quota, sum(len(box.messages) for box in data.boxes.values()))

    def new_body(self, size: int = 0) -> IBodyWriter:
        """For append()."""
        return MemoryBodyWriter()

    async def logout(self) -> None:
        """Nothing is held for a session."""


@implementer(IMailStore)
class MemoryStore:
    """The mailboxes of all accounts."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine

    async def start(self) -> None:
        """Always open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def exists(self, user: str) -> bool:
        """Whether there is such an account."""
        return user in self._engine.accounts

    def has_room(self, user: str, size: int) -> bool:
        """Whether there is this account, with room for `size` octets."""
        account = self._engine.accounts.get(user)
        return account is not None and account.has_room(size)

    async def account(self, user: str, create: bool = False) -> IMailAccount:
        """Raises NoSuchUser."""
        if create:
            self._engine.ensure_account(user)
        return MemoryMailAccount(self._engine, self._engine.account(user))

    async def check_quota(self, user: str, size: int) -> None:
        """Raises OverQuota, NoSuchUser."""
        self._engine.account(user).check_room(size)


@implementer(IAccounts)
class MemoryAccounts:
    """The account table."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self._changes: list[str] = []

    async def find(self, user: str) -> Account | None:
        """The row."""
        account = self._engine.accounts.get(user)
        return None if account is None else account.row

    async def add(self, user: str, password_hash: str, quota: int = 0) -> None:
        """Raises MailboxExists."""
        created = self._engine.environment.now()
        self._engine.add_account(Account(user, password_hash, quota, created=created))

    async def remove(self, user: str) -> None:
        """Raises NoSuchUser."""
        account = self._engine.account(user)
        del self._engine.accounts[user]
        account.exists = False
        account.subscriptions.clear()
        for box in sorted(account.boxes.values(), key=lambda box: box.number):
            self._engine.drop_box(box)
        self._changes.append(user)

    async def set_password(self, user: str, password_hash: str) -> None:
        """Raises NoSuchUser."""
        account = self._engine.account(user)
        account.row = attrs.evolve(account.row, password_hash=password_hash)
        self._changes.append(user)

    async def set_enabled(self, user: str, enabled: bool) -> None:
        """Raises NoSuchUser."""
        account = self._engine.account(user)
        account.row = attrs.evolve(account.row, enabled=enabled)
        self._changes.append(user)

    async def set_quota(self, user: str, quota: int) -> None:
        """Raises NoSuchUser."""
        account = self._engine.account(user)
        account.row = attrs.evolve(account.row, quota=quota)

    async def all(self) -> Sequence[Account]:
        """In address order."""
        return [self._engine.accounts[user].row for user in sorted(self._engine.accounts)]

    async def changed(self, after: int) -> tuple[int, Sequence[str]]:
        """Passwords, states and removals since then."""
        return len(self._changes), self._changes[after:]
