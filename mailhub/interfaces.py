"""Every contract of mailhub, in one low place.

Built-in parts and plugins meet here and nowhere else. Methods are `async def` where a backend may have to wait;
they run on the reactor thread and must not block it. A plugin's may give a Deferred instead (`mailhub.answers`).
Errors are those of `mailhub.errors`. Addresses, envelopes and records are the pure values of `mailhub.message`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
from zope.interface import Attribute, Interface

from mailhub.message.address import Address
from mailhub.message.digest import DigestColumns, DigestName
from mailhub.message.envelope import Envelope, Outcome
from mailhub.message.flags import NO_FLAGS, Flags
from mailhub.message.record import (
    Change,
    CopyResult,
    Entry,
    FlagChange,
    FlagResult,
    MailboxInfo,
    MailboxStatus,
    Quota,
)
from mailhub.wire.sasl import PlainCredentials

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory, IReactorTime

T = TypeVar("T")

# --- What is not deterministic is injected -------------------------------------------------------------------------


class IThreads(Interface):
    """The one door to threads. The simulation's twin runs everything inline."""

    def run(function: Callable[..., T], *args: object) -> Awaitable[T]:
        """Run a blocking call in the shared pool; the result arrives on the reactor thread."""

    def call_in_reactor(function: Callable[..., object], *args: object) -> None:
        """From any thread: have `function` called on the reactor thread, in order of calling."""

    def start_loop(name: str, loop: Callable[[], None]) -> None:
        """Run `loop` in a thread of its own until it returns (a writer)."""

    inline: bool = Attribute("True where everything runs on the thread of the caller; start_loop is not used then.")


class INetwork(Interface):
    """Outgoing connections."""

    async def connect(host: str, port: int, factory: IProtocolFactory, timeout: float) -> Any:
        """Connect to an IP address (or `unix:/path`, port ignored) within `timeout` seconds and return the protocol.

        Raises TemporaryError when the peer cannot be reached.
        """


@attrs.frozen
class MailExchanger:
    """One MX record (RFC 5321 5.1)."""

    preference: int
    host: str


class IResolver(Interface):
    """DNS as mail needs it. Answers are bounded in number; names are A-labels without a trailing dot."""

    async def mail_exchangers(domain: str) -> Sequence[MailExchanger]:
        """MX records in no particular order; empty when there are none (the A/AAAA fall-back applies).

        A null MX (RFC 7505) is returned as the single record `MailExchanger(0, "")`. Raises NoSuchDomain
        (`PermanentError` 5.1.2) when the name does not exist, TemporaryError when no answer can be had.
        """

    async def addresses(host: str) -> Sequence[str]:
        """IPv4 and IPv6 addresses as text; empty when there are none. Raises TemporaryError."""


@attrs.frozen
class Disk:
    """A file system in octets: how large it is, and what is free for us."""

    size: int
    free: int

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """The one that a folder is on. Raises OSError."""
        found = os.statvfs(folder)
        return cls(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


@attrs.frozen
class Environment:
    """Everything from outside that a hub touches. `random` is `random.SystemRandom` in production, seeded in tests.

    There are two clocks. `clock` measures how long things take: waits, time-outs, how old a cache is. Nobody sets it,
    and what it counts from means nothing. `wall` is the time of day, for dates and for what outlives the process; it
    may be set forward and back at any moment. Without `wall`, `clock` is both.

    `disk` measures the file system of a folder; it is called on the reactor thread too.
    """

    clock: IReactorTime
    threads: IThreads
    network: INetwork
    resolver: IResolver
    random: Random
    data: Path
    wall: Callable[[], float] | None = None
    disk: Callable[[Path], Disk] = Disk.of

    def now(self) -> int:
        """The time of day, in seconds since the epoch."""
        return int(self.clock.seconds() if self.wall is None else self.wall())

    def monotonic(self) -> float:
        """Seconds that only go forward, since any moment: for differences."""
        return self.clock.seconds()


# --- Octets --------------------------------------------------------------------------------------------------------


class IBlobReader(Interface):
    """A message's octets, read piece by piece."""

    size: int = Attribute("Octets in all.")

    async def read(offset: int = 0, length: int = -1) -> bytes:
        """Up to `length` octets from `offset`; -1 means all the rest. Raises MessageGone, StoreUnavailable."""

    def close() -> None:
        """Release what is held; calling it again does nothing."""


class IBody(Interface):
    """A finished body that no row refers to yet. It vanishes unless it is committed."""

    size: int = Attribute("Octets in all.")

    def open() -> IBlobReader:
        """Read it back."""

    def discard() -> None:
        """Forget it. Harmless after a commit."""


class IBodyWriter(Interface):
    """Takes a message's octets as they arrive; large ones go to a file at once, so memory stays bounded."""

    async def write(octets: bytes) -> None:
        """Append octets. Raises StoreUnavailable."""

    async def finish() -> IBody:
        """The whole body, scanned (its `Digest` is made here, off the reactor thread when large)."""

    def abort() -> None:
        """Throw away what was written. Harmless after finish()."""


# --- Mailboxes: what IMAP and POP3 see -----------------------------------------------------------------------------


class IMailbox(Interface):
    """One mailbox. UIDs ascend and are never used twice; nothing is shown before it is durable.

    Every change is announced to all watchers, on the reactor thread, before the call that made it returns; a change of
    many messages perhaps in several parts, between which others are served.
    """

    name: str = Attribute("Full name, `/` between levels.")
    uid_validity: int = Attribute(
        "RFC 9051 2.3.1.1; the same under another name, and no other of the account's has it."
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
        """Copy with flags and internal dates to another mailbox of the same store, all or nothing.
        Raises NoSuchMailbox, OverQuota, StorageFull, TooManyKeywords."""

    async def move(uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Copy and expunge as one step (RFC 6851), all or nothing. Raises NoSuchMailbox, TooManyKeywords."""

    async def expunge(uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """Remove messages for good: of the given UIDs or of all, those with \\\\Deleted, or regardless of flags.
        Returns the UIDs that are gone now."""

    async def vanished(since_modseq: int) -> Sequence[int]:
        """UIDs expunged with a higher mod-sequence (RFC 7162 3.2.6)."""

    def watch(listener: Callable[[Change], None]) -> Callable[[], None]:
        """Have every change from now on announced; the result stops it."""

    def hold() -> IHold:
        """Have messages that others expunge from now on stay readable through this very object (digests(), bodies(),
        open(); nothing else), for a session that has not told its client yet (RFC 2180 4.1.1). To be asked for once.
        A store may bound how much it holds; what is beyond is gone at once."""


class IHold(Interface):
    """See IMailbox.hold()."""

    def let_go(uids: Sequence[int]) -> None:
        """These messages are not asked for any more; UIDs that are not held are passed over."""

    def end() -> None:
        """Nothing is held any more, now and later. May be called again."""


class IMailAccount(Interface):
    """One account's mailboxes: the cred avatar of IMAP and POP3. INBOX always exists, its name in any case."""

    user: str = Attribute("The account's canonical address.")

    async def mailboxes() -> Sequence[MailboxInfo]:
        """All that can be selected, in name order."""

    async def mailbox(name: str) -> IMailbox:
        """One of them. Raises NoSuchMailbox."""

    async def create(name: str, special_use: str = "") -> None:
        """Raises MailboxExists, InvalidMailboxName (bad name, or too many mailboxes)."""

    async def delete(name: str) -> None:
        """With its messages; inferiors stay. Raises NoSuchMailbox, NotPermitted for INBOX."""

    async def rename(old: str, new: str) -> None:
        """With its inferiors; renaming INBOX moves its messages to a new mailbox (RFC 9051 6.3.6).
        Raises NoSuchMailbox, MailboxExists, InvalidMailboxName."""

    async def subscribe(name: str, subscribed: bool) -> None:
        """Put a name on the subscription list or take it off; the mailbox need not exist (RFC 9051 6.3.7)."""

    async def subscriptions() -> Sequence[str]:
        """The subscribed names, in name order."""

    async def quota() -> Quota:
        """Use and limit."""

    def new_body(size: int = 0) -> IBodyWriter:
        """For append(). `size` is the announced number of octets, 0 when unknown. Raises StorageFull."""

    async def logout() -> None:
        """The session is over."""


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
        too). Raises NoSuchUser."""

    async def check_quota(user: str, size: int) -> None:
        """Raises OverQuota when `size` more octets would not fit now, NoSuchUser."""


# --- Accounts ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Account:
    """A row of mailhub's own account table. `quota` in octets, 0 for none."""

    user: str
    password_hash: str
    quota: int
    enabled: bool = True


class IAccounts(Interface):
    """mailhub's own account table."""

    async def find(user: str) -> Account | None:
        """The account of a canonical address."""

    async def add(user: str, password_hash: str, quota: int = 0) -> None:
        """With the usual folders. Raises MailboxExists (5.2.0 "Account exists already")."""

    async def remove(user: str) -> None:
        """With all its mail. Raises NoSuchUser."""

    async def set_password(user: str, password_hash: str) -> None:
        """Raises NoSuchUser."""

    async def set_enabled(user: str, enabled: bool) -> None:
        """Whether it may log in; mail for it is taken either way. Raises NoSuchUser."""

    async def set_quota(user: str, quota: int) -> None:
        """Octets, 0 for none. What it holds already stays. Raises NoSuchUser."""

    async def all() -> Sequence[Account]:
        """In address order."""

    async def changed(after: int) -> tuple[int, Sequence[str]]:
        """The number of the last change of a password, of whether an account may log in, or of its removal, and whose
        they were after number `after`. The last 10,000 are remembered."""


@attrs.frozen
class KeptNames:
    """Domains (A-labels) and aliases of the database, beside the configuration's. An alias is named by the key of an
    address, `@domain` or a folded local part. `version` grows with every change."""

    version: int = 0
    domains: frozenset[str] = frozenset()
    aliases: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)


class INames(Interface):
    """mailhub's own table of domains and aliases."""

    async def kept(newer_than: int = -1) -> KeptNames | None:
        """All of them; None when nothing has changed since that version."""

    async def add_domain(domain: str) -> bool:
        """Whether it is new."""

    async def remove_domain(domain: str) -> bool:
        """Whether it was there. Aliases in it stay, and stand for nothing until it is back."""

    async def add_alias(name: str, targets: Sequence[str]) -> Sequence[str]:
        """Give the name these targets too; returns those that it did not have."""

    async def remove_alias(name: str, targets: Sequence[str] = ()) -> Sequence[str]:
        """Take these targets from the name, or all; returns those that it had."""


class ISubmitter(Interface):
    """The cred avatar of authenticated SMTP."""

    user: str = Attribute("The account's canonical address.")

    async def may_send_as(address: Address | None) -> bool:
        """Whether this login may use the reverse-path (RFC 6409 6.1). None is the null reverse-path."""


# Services where our own users hand in mail, after a login (RFC 6409, RFC 8314 3.3).
SUBMISSION = frozenset({"submission", "submissions"})


@attrs.frozen
class Origin:
    """Where a session comes from; the `mind` of cred logins and the subject of policies.

    `service` is the `[listen]` name; `peer` an IP address or "" for a local socket, as is `local`, the one of ours that
    was called; `user` the login, or ""; `tls` the protocol and cipher, as `TLSv1.3/TLS_AES_256_GCM_SHA384`.
    """

    service: str
    peer: str = ""
    session_id: str = ""
    secure: bool = False
    helo: str = ""
    extended: bool = True
    user: str = ""
    local: str = ""
    tls: str = ""


class IAuthenticator(Interface):
    """The gate in front of the portal: throttling, equal time for unknown users, and the stable log line."""

    async def login(
        credentials: PlainCredentials,
        avatar: type[Interface],
        origin: Origin,
        revoked: Callable[[], None] | None = None,
    ) -> Any:
        """The avatar. Raises AuthenticationFailed (one answer for every reason), Busy.

        `revoked` is called when the login is no longer good (the password was changed, the account disabled or
        removed), unless `logged_out` was called before.
        """

    def logged_out(session_id: str) -> None:
        """The session of this `Origin.session_id` is over, whether it had logged in or not."""


# --- Transport: queue, routing, delivery ---------------------------------------------------------------------------


# The agent whose targets are accounts of the hub's own store.
STORE = "store"
# Not a delivery agent: the recipient of such a route is an alias target, and the routers are asked again for it.
ALIAS = "alias"


@attrs.frozen
class Route:
    """Where mail for one recipient goes next.

    `agent` names a delivery agent (`STORE`, "smtp", "lmtp", a plugin's) or is `ALIAS`; `target` is the account for
    `STORE`, else `host[:port]`, or "" for "by MX". `recipient` is the address after aliasing. `via` are the names
    (`Address.key`) of the aliases that led to it, the first one first; how one came there does not make it another
    route.
    """

    agent: str
    recipient: Address
    target: str = ""
    via: tuple[str, ...] = attrs.field(default=(), eq=False)


class IRouter(Interface):
    """Says where recipients go. Routers are asked in turn; the first that knows answers."""

    async def route(recipient: Address) -> Sequence[Route] | None:
        """None: not mine, ask the next. Several routes: a list, or aliases (agent `ALIAS`). Raises NoSuchUser for a
        local domain without that user, TemporaryError."""


@attrs.frozen
class Deposit:
    """A recipient whose mailbox is in the queue's own database: delivered in the very commit that accepts."""

    recipient: Address
    user: str
    mailbox: str = "INBOX"
    flags: Flags = NO_FLAGS


@attrs.frozen
class Plan:
    """What is to be done with one message: `deposits` now, `routes` by the queue."""

    deposits: tuple[Deposit, ...] = ()
    routes: tuple[Route, ...] = ()


@attrs.frozen
class Submission:
    """One message ready to be committed.

    The body starts with `relay_offset` octets (Return-Path) that stand in mailboxes but are not relayed.
    """

    envelope: Envelope
    plan: Plan
    body: IBody
    relay_offset: int = 0


@attrs.frozen
class Receipt:
    """What a commit did. `refused`: deposits that could not be made (over quota, account gone meanwhile)."""

    id: str
    refused: Mapping[Address, Outcome] = attrs.field(factory=dict)


# `due` of a row that the operator wants tried now, whatever is remembered of the way to it.
AT_ONCE = 0


@attrs.frozen
class QueuedRecipient:
    """One row of the queue. `due` in seconds since the epoch, or `AT_ONCE`.

    A row whose `last` outcome is FAILED is not tried again: its DSN is due.
    """

    id: int
    route: Route
    attempts: int
    due: int
    last: Outcome | None = None


@attrs.frozen
class QueuedMessage:
    """A message in the queue, with the recipients asked for. `size` is what is relayed, in octets."""

    id: str
    envelope: Envelope
    queued_at: int
    size: int
    recipients: tuple[QueuedRecipient, ...]


@attrs.frozen
class Settlement:
    """The result of an attempt for one row. `due` is the next attempt (seconds since the epoch) where it is DELAYED."""

    id: int
    outcome: Outcome
    due: int = 0


# What becomes of deposits that a commit refuses: the caller tells the client, or the queue sends a DSN.
Refusals = Literal["reply", "bounce"]


class IQueue(Interface):
    """The durable queue. Everything it is told is on disk when the call returns."""

    store: Any = Attribute("The IMailStore whose mailboxes share this queue's transactions, or None.")

    def new_body(size: int = 0) -> IBodyWriter:
        """For submit(). `size` is the announced number of octets, 0 when unknown."""

    def check_space(size: int = 0) -> None:
        """Raises StorageFull when there is no room on the disk for `size` more octets. Reports of settle() may use what
        is kept in reserve; submit() may not."""

    async def submit(submission: Submission, refusals: Refusals = "bounce") -> Receipt:
        """Commit body, deposits and queue rows at once. If every recipient is refused nothing is kept. Otherwise, with
        "bounce", refused deposits become FAILED rows in the same commit, so that their DSN survives a crash; with
        "reply" the caller tells the client (LMTP). Raises StoreUnavailable."""

    async def due(
        now: int, limit: int, exclude: Iterable[str] = (), latest: int | None = None
    ) -> Sequence[QueuedMessage]:
        """Up to `limit` messages with recipients whose time has come, oldest first, without those under way. Rows due
        after `latest` have come as well, behind the others: no pause is that long, so the clock has been set back."""

    async def next_due() -> int | None:
        """When the earliest row is due, None for an empty queue."""

    async def open(message_id: str) -> IBlobReader:
        """The octets to relay. Raises MessageGone when there is no such message, MessageDamaged when its octets are
        lost or not what was accepted."""

    async def kept_header(message_id: str) -> bytes:
        """The usual header fields as they were worked out when the message came in: what is left to tell of a damaged
        one. Empty when there is nothing."""

    async def settle(message_id: str, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()) -> None:
        """Record outcomes: DELIVERED and FAILED rows go, DELAYED ones wait. `reports` (DSNs) are committed in the same
        transaction. Rows that are gone (removed by the operator, or settled by a call whose answer was lost) are passed
        over, and when all are, so are the reports. A report's refused deposit is dropped."""

    async def messages(limit: int = 1000) -> Sequence[QueuedMessage]:
        """The queue as it stands, oldest first, for the operator."""

    async def retry(message_ids: Sequence[str]) -> int:
        """Make rows due `AT_ONCE`; returns how many messages. An empty sequence means all."""

    async def remove(message_ids: Sequence[str]) -> int:
        """Drop messages without a DSN; returns how many."""


@attrs.frozen
class Delivery:
    """What an agent is given: one message for recipients that share agent and target.

    `id` names the message, the same on every attempt; with a `QueuedRecipient.id` it is a delivery id.
    """

    id: str
    envelope: Envelope
    target: str
    recipients: tuple[QueuedRecipient, ...]
    body: IBlobReader


class IDeliveryAgent(Interface):
    """Takes messages over to the next hop, a foreign store or a program."""

    async def deliver(delivery: Delivery) -> Mapping[int, Outcome]:
        """An outcome for every `QueuedRecipient.id`; what is left out, or all when it raises, counts as DELAYED."""

    async def stop() -> None:
        """Close kept connections."""


@attrs.frozen
class Verdict:
    """What a policy says. `status` and `text` are for the client when `action` is "reject" or "defer".

    "discard" pretends to accept a recipient or a message; before the first recipient it counts as "reject".
    """

    action: Literal["accept", "reject", "defer", "discard"] = "accept"
    status: str = ""
    text: str = ""


ACCEPT = Verdict()


class IPolicy(Interface):
    """Has a say at each step of a transaction. The first verdict other than ACCEPT counts."""

    async def on_connect(origin: Origin) -> Verdict:
        """Before the greeting."""

    async def on_mail(origin: Origin, envelope: Envelope) -> Verdict:
        """MAIL FROM."""

    async def on_recipient(origin: Origin, envelope: Envelope, recipient: Address) -> Verdict:
        """Each RCPT TO."""

    async def on_message(origin: Origin, envelope: Envelope, recipients: Sequence[Address], body: IBody) -> Verdict:
        """The end of the data, before the commit."""


@attrs.frozen
class Accepted:
    """A recipient that was accepted at RCPT, and where its mail goes."""

    address: Address
    routes: tuple[Route, ...]


@attrs.frozen
class Committed:
    """The answer to the end of data: the id to tell, and one outcome a recipient (as the client named it)."""

    id: str
    outcomes: Mapping[Address, Outcome]


class IPipeline(Interface):
    """The way in for every message from outside: SMTP, submission and LMTP. Built in delivery/."""

    async def connected(origin: Origin) -> None:
        """Raises NotPermitted, TemporaryError: say so instead of the greeting."""

    async def sender(origin: Origin, envelope: Envelope, submitter: ISubmitter | None, size: int = 0) -> None:
        """MAIL FROM. `size` as announced, 0 when unknown. Raises NotPermitted (the login does not own the address, a
        policy rejects), StorageFull, TemporaryError."""

    async def recipient(origin: Origin, envelope: Envelope, address: Address, size: int = 0) -> Accepted:
        """RCPT TO. Raises NotPermitted (relaying denied), NoSuchUser, OverQuota, TemporaryError."""

    def open_body(origin: Origin, envelope: Envelope, recipients: Sequence[Accepted], size: int = 0) -> IBodyWriter:
        """DATA: a writer that has the trace header on top and, for submission, mends the header."""

    async def commit(origin: Origin, envelope: Envelope, recipients: Sequence[Accepted], body: IBody) -> Committed:
        """The end of data; durable on return. For LMTP each recipient has its own outcome; for SMTP, refused
        recipients get a DSN unless all are refused. Raises MailError when nothing was taken."""


# --- The plugin door -----------------------------------------------------------------------------------------------


class IHub(Interface):
    """What a component may use when it is built. Later attributes are set in this order as the graph is built."""

    hostname: str = Attribute("Our name in greetings and trace fields.")
    domains: frozenset[str] = Attribute("Local domains now, A-labels. They change while the hub runs: keep no copy.")
    environment: Environment = Attribute("Clock, network, resolver, randomness, threads, data folder.")
    settings: Any = Attribute("The whole configuration, a `mailhub.config.settings.Config`.")
    accounts: IAccounts = Attribute("mailhub's own account table.")
    queue: IQueue = Attribute("The durable queue.")
    store: IMailStore = Attribute("The mailbox store.")


class IComponentFactory(Interface):
    """A plugin: makes one kind of component from its table in the configuration.

    Found with `twisted.plugin` in any `twisted/plugins/` folder on the path. `options` is an attrs class: its
    fields are the allowed keys (a missing default makes a key required), their types are checked.
    """

    kind: str = Attribute("store, checker, router, agent or policy.")
    name: str = Attribute("What the configuration calls it.")
    options: type = Attribute("attrs class of the keys its table may have.")

    def build(options: Any, hub: IHub) -> Any:
        """The component: IMailStore, ICredentialsChecker, IRouter, IDeliveryAgent or IPolicy."""
