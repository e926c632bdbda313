"""Mailboxes: what IMAP and POP3 see of a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from zope.interface import Attribute, Interface

from mailhub.interfaces.octets import IBlobReader, IBody, IBodyWriter
from mailhub.message.flags import Flags
from mailhub.message.record import (
    ALL_RIGHTS,
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    FlagChange,
    FlagResult,
    MailboxInfo,
    MailboxStatus,
    Quota,
    Rights,
)


class IMailbox(Interface):
    """One mailbox. UIDs ascend and are never used twice; nothing is shown before it is durable.

    Every change is announced to all watchers of this process, on the reactor thread, before the call that made it
    returns; a change of many messages perhaps in several parts, between which others are served. Every change has a
    higher mod-sequence than all before it (RFC 7162 3.1). UIDs that are told are in ascending order.
    """

    name: str = Attribute("Full name, `/` between levels.")
    uid_validity: int = Attribute(
        "RFC 9051 2.3.1.1; the same under another name, and no other of the account's has it in the same store."
    )
    rights: Rights = Attribute(
        "What can be done with it, see `Rights`; all where there is no such attribute. Methods without a right raise "
        "NotPermitted."
    )

    async def status() -> MailboxStatus:
        """The counters now. Raises NoSuchMailbox."""

    async def entries(uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """Index rows in UID order: of the given UIDs (ascending) that exist, or of all; only those with a higher
        mod-sequence than `since_modseq`. Raises NoSuchMailbox."""

    async def digests(uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """What delivery worked out about the given messages (ENVELOPE, BODYSTRUCTURE, part offsets, usual header
        fields): the wanted attributes of their `Digest`, each by UID. There may be more in the result than was asked
        for; messages that are gone are in none of the wanted columns, nor are those whose digest cannot be read: open()
        tells which it is. Ask for a few hundred at a time.

        A backend that has whole digests at hand makes the result with `mailhub.message.digest.columns`."""

    async def bodies(uids: Sequence[int]) -> Mapping[int, bytes]:
        """The very octets of many small messages at once. Those left out are gone, damaged, large, or simply
        dearer to have in this way than with open(). The caller bounds the octets in all by `Entry.size`."""

    async def open(uid: int) -> IBlobReader:
        """The very octets that arrived. Raises MessageGone, MessageDamaged when they are lost or not what arrived."""

    async def append(body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """Add a message; returns its UID, durable. Repeating a `delivery_id` adds nothing and returns the same UID.
        The body comes from this store's `new_body`. The case of keywords does not matter, here as in the other
        methods: each has the spelling that the mailbox met first. Raises NoSuchMailbox, OverQuota, TooManyKeywords (a
        store bounds those of a message and of a mailbox; what IQueue delivers is not refused, but comes without)."""

    async def change_flags(uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None) -> FlagResult:
        """Change flags of the messages that exist, in one transaction. Flags of the system always find room. Raises
        NoSuchMailbox; where keywords are added TooManyKeywords and OverQuota, and then nothing is changed."""

    async def copy(uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Copy with flags and internal dates to a mailbox of the same store, perhaps this one, all or nothing.
        Raises NoSuchMailbox, OverQuota, StorageFull, TooManyKeywords."""

    async def move(uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Copy and expunge as one step (RFC 6851), all or nothing; onto itself it gives new UIDs. Raises NoSuchMailbox,
        TooManyKeywords and, to another account, OverQuota."""

    async def expunge(uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """Remove messages for good: of the given UIDs or of all, those with \\\\Deleted, or regardless of flags.
        Returns the UIDs that are gone now. Raises NoSuchMailbox."""

    async def vanished(since_modseq: int) -> Sequence[int]:
        """UIDs expunged with a higher mod-sequence (RFC 7162 3.2.6); none when the mailbox is gone."""

    async def refresh() -> None:
        """Have everything announced that was committed before this, also by other servers on the same database, whose
        announcements may be lost; for when a client asks what is new. Raises StoreUnavailable."""

    def watch(listener: Callable[[Change], None]) -> Callable[[], None]:
        """Have every change from now on announced; the result stops it."""

    def hold() -> IHold:
        """Have messages that others expunge from now on stay readable through this very object (digests(), bodies(),
        open(); nothing else), for a session that has not told its client yet (RFC 2180 4.1.1). To be asked for once.
        A store may bound how much it holds; what is beyond is gone at once."""


class IUniqueIds(Interface):
    """What an IMailbox may provide besides: unique-ids of its own for POP3 (RFC 1939 7), where those that are made of
    UIDVALIDITY and UID would not be what clients have seen before."""

    async def unique_ids(uids: Sequence[int]) -> Mapping[int, str]:
        """Those of the given messages: each 1 to 70 printable characters of ASCII, the same for good, and never another
        message's. What is left out has one of the usual kind."""


def rights_of(mailbox: IMailbox) -> Rights:
    """The mailbox's `rights`, also where it has no such attribute, or a string of letters."""
    return frozenset(getattr(mailbox, "rights", ALL_RIGHTS))


class IHold(Interface):
    """See IMailbox.hold()."""

    def let_go(uids: Sequence[int]) -> None:
        """These messages are not asked for any more; UIDs that are not held are passed over."""

    def end() -> None:
        """Nothing is held any more, now and later. May be called again."""


class IMailAccount(Interface):
    """One account's mailboxes: the cred avatar of IMAP and POP3. INBOX always exists, its name in any case.

    A store in which mailboxes are not made, renamed and deleted raises NotPermitted; so does one that keeps no
    subscriptions when they are to be changed. What `mailbox_names.check` refuses is no name."""

    user: str = Attribute("The account's canonical address.")

    async def mailboxes() -> Sequence[MailboxInfo]:
        """All that can be selected, in name order. Raises NoSuchUser when the account was removed."""

    async def mailbox(name: str) -> IMailbox:
        """One of them. Raises NoSuchMailbox."""

    async def create(name: str, special_use: str = "") -> None:
        """Raises MailboxExists, InvalidMailboxName (bad name, or too many mailboxes), NoSuchUser, NotPermitted where
        no mailbox can be made."""

    async def delete(name: str) -> None:
        """With its messages; inferiors stay. Raises NoSuchMailbox, NotPermitted for INBOX and for what must stay."""

    async def rename(old: str, new: str) -> None:
        """With its inferiors; renaming INBOX moves its messages to a new mailbox (RFC 9051 6.3.6).
        Raises NoSuchMailbox, MailboxExists, InvalidMailboxName, NotPermitted."""

    async def subscribe(name: str, subscribed: bool) -> None:
        """Put a name on the subscription list or take it off; the mailbox need not exist (RFC 9051 6.3.7). Raises
        InvalidMailboxName, NoSuchUser, NotPermitted, PermanentError (too many subscriptions)."""

    async def subscriptions() -> Sequence[str]:
        """The subscribed names, in name order."""

    async def quota() -> Quota:
        """Use and limit. Raises NoSuchUser when the account was removed."""

    def new_body(size: int = 0) -> IBodyWriter:
        """For append(). `size` is the announced number of octets, 0 when unknown. Raises StorageFull."""

    async def logout() -> None:
        """The session is over."""


def body_for(account: IMailAccount, mailbox: IMailbox, size: int = 0) -> IBodyWriter:
    """A writer for append() to a mailbox of an account: by the mailbox's own `new_body` where it has one, because the
    account's mailboxes are in several stores. Raises StorageFull."""
    writer: IBodyWriter = getattr(mailbox, "new_body", account.new_body)(size)
    return writer


async def quota_for(account: IMailAccount, mailbox: IMailbox) -> Quota:
    """Use and limit of what a mailbox counts in: by its own `quota` where it has one, for the same reason."""
    found: Quota = await getattr(mailbox, "quota", account.quota)()
    return found


def makes_account(store: IMailStore, user: str) -> bool:
    """Whether `account(user, create=True)` would make one: so it is where the store does not say otherwise by
    `makes_accounts = False`. A store of which this depends on the user has it as a method."""
    made = getattr(store, "makes_accounts", True)
    return bool(made(user) if callable(made) else made)


class IMailStore(Interface):
    """A mailbox backend."""

    async def start() -> None:
        """Open it. Raises ConfigurationError."""

    async def stop() -> None:
        """Finish what is under way and close."""

    async def exists(user: str) -> bool:
        """Whether mail for this canonical address (`Address.key`) has an account here."""

    async def account(user: str, create: bool = False) -> IMailAccount:
        """The account. With `create`, one that a checker has vouched for is made when missing (its usual folders
        too, in a store that has such). Raises NoSuchUser, then too where accounts are made elsewhere."""

    async def check_quota(user: str, size: int) -> None:
        """Asked at RCPT. Raises OverQuota when `size` more octets would not fit now, NoSuchUser, and NotPermitted with
        the status 5.2.1 (RFC 3463: the mailbox takes no messages) where nothing can be added to INBOX."""
