"""Where mail goes: routes, the queue, delivery agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import attrs
from zope.interface import Interface

from mailhub.interfaces.octets import IBlobReader, IBody, IHeadedBodyWriter
from mailhub.interfaces.operating import EVERYTHING, RowChange, Waiting, Which
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient
from mailhub.message.flags import NO_FLAGS, Flags

if TYPE_CHECKING:
    from mailhub.interfaces.screens import ITransactionView

# The agent whose targets are accounts of the hub's own store.
STORE = "store"
# Not a delivery agent: the recipient of such a route is an alias target, and the routers are asked again for it.
ALIAS = "alias"


@attrs.frozen
class ReversePath:
    """Where failures of a route are told, where that is not the sender; None is the null reverse-path `<>`.

    `of_sender`: the address is the sender's own, who wants to know which recipient a failure is about (VERP). With any
    other, the mail is another's from there on, and what the sender asked for stays behind.
    """

    address: Address | None
    of_sender: bool = False


@attrs.frozen
class Route:
    """Where mail for one recipient goes next.

    `agent` names a delivery agent (`STORE`, "smtp", "lmtp", a plugin's) or is `ALIAS`; `target` is the account for
    `STORE`, else `host[:port]`, or "" for "by MX". `recipient` is the address after aliasing.

    `reverse_path` is the route's own (a list, forwarding), None for that of the message. `mailbox` and `flags` are for
    accounts: "" is INBOX, and so is a mailbox that is gone when the message comes, unless it is one of the usual ones.
    `create`: the account is to be made with the message, of a user whom a directory knows.
    What an alias has of these goes on to the routes that it leads to, where they have none.

    How one came there makes no other route: `via` are the names (`Address.key`) of the aliases that led to it, the
    first one first, and `originals` the recipients as the client named them.
    """

    agent: str
    recipient: Address
    target: str = ""
    via: tuple[str, ...] = attrs.field(default=(), eq=False)
    reverse_path: ReversePath | None = None
    mailbox: str = ""
    flags: Flags = NO_FLAGS
    originals: tuple[Recipient, ...] = attrs.field(default=(), eq=False)
    create: bool = attrs.field(default=False, eq=False)

    @property
    def owned(self) -> bool:
        """Whether mail goes on in the name of another than its sender: of a list, or of who has it forwarded."""
        return self.reverse_path is not None and not self.reverse_path.of_sender

    @property
    def destination(self) -> str:
        """Whose turn it is to take mail: agent, and target or, where that is found by MX, domain. Equal for what may
        share connections, and what a slow or strict host may hold up."""
        return f"{self.agent} {self.target or self.recipient.ascii_domain}"


class IRouter(Interface):
    """Says where recipients go. Routers are asked in turn; the first that knows answers.

    A router that has `final = True` is the last one for what it knows: where a name that it would rename once more has
    led back to itself, there is no such user, and the routers behind it are not asked.
    """

    async def route(recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """None: not mine, ask the next. Several routes: a list, or aliases (agent `ALIAS`). `transaction` says who
        sends it (mailhub itself: `OwnTransaction`); its recipients are those before this one. Raises NoSuchUser for a
        local domain without that user, TemporaryError."""


@attrs.frozen
class Deposit:
    """A mailbox in the queue's own database: delivered to in the very commit that accepts.

    A mailbox that is not there is made when it is one of the usual ones (Junk); else INBOX takes its mail. `recipient`
    is the address after aliasing, `originals` are those that led to it, as the client named them. With `create` an
    account that is missing is made in the same commit.
    """

    recipient: Address
    user: str
    mailbox: str = "INBOX"
    flags: Flags = NO_FLAGS
    originals: tuple[Recipient, ...] = attrs.field(default=(), eq=False)
    create: bool = attrs.field(default=False, eq=False)


@attrs.frozen
class Notice:
    """Something of a message that the commit settles and its sender wants to know (RFC 3461 NOTIFY=SUCCESS): the
    `originals` of `route`, and what became of them. It is told where none of these deposits (by number) is refused."""

    route: Route
    outcome: Outcome
    deposits: tuple[int, ...] = ()


@attrs.frozen
class Plan:
    """What is to be done with one message: `deposits` now, `routes` by the queue; and what there is to tell of it as
    soon as it is committed."""

    deposits: tuple[Deposit, ...] = ()
    routes: tuple[Route, ...] = ()
    notices: tuple[Notice, ...] = ()


@attrs.frozen
class Submission:
    """One message ready to be committed.

    The body starts with `relay_offset` octets (Return-Path) that stand in mailboxes but are not relayed. `needs` is
    what it asks of a next hop (`mailhub.message.needs`), None where nobody has looked. The queue tries nothing before
    `not_before` (seconds since the epoch). A submission that may have to be repeated, because the answer to the first
    may be lost, has a `delivery_id` of `IQueue.new_delivery_id`. `reply`: it answers the messages that it is committed
    with, and is for nobody whom they are for. `submitter`: the login that it came with. `priority` (RFC 6710, -9 to 9)
    is the one that the queue goes by, None for what `mail` says.
    """

    mail: Mail
    plan: Plan
    body: IBody
    relay_offset: int = 0
    needs: int | None = None
    not_before: int = 0
    delivery_id: str = ""
    reply: bool = False
    submitter: str = ""
    priority: int | None = None

    @property
    def rank(self) -> int:
        """The priority that the queue goes by."""
        return (self.mail.priority or 0) if self.priority is None else self.priority


@attrs.frozen
class Receipt:
    """What a commit did. `refused`: deposits that could not be made (over quota, account gone meanwhile), by their
    number in `Plan.deposits`. `also`: of the messages that were committed with it. `kept`: whether anything of this
    message was, be it the rows for its DSN."""

    id: str
    refused: Mapping[int, Outcome] = attrs.field(factory=dict)
    also: tuple[Receipt, ...] = ()
    kept: bool = True


# `due` of a row that the operator wants tried now, whatever is remembered of the way to it.
AT_ONCE = 0


@attrs.frozen
class QueuedRecipient:
    """One row of the queue. `due` in seconds since the epoch, or `AT_ONCE`. `attempts`: how often something was tried
    for it, and `tried` when last, 0 for never. `turns`: how often its time has come, also while its destination was
    left alone (`Reach.LEFT_ALONE`); the schedule goes by them. `warned`: the sender was told that it is late.
    `priority` as in `Submission`. `held` by the operator, until it is released.

    A row whose `last` outcome is anything but DELAYED is not tried again: its DSN is due.
    """

    id: int
    route: Route
    attempts: int
    due: int
    last: Outcome | None = None
    tried: int = attrs.field(default=0, eq=False)
    warned: bool = attrs.field(default=False, eq=False)
    priority: int = attrs.field(default=0, eq=False)
    held: bool = attrs.field(default=False, eq=False)
    turns: int = attrs.field(default=0, eq=False)


@attrs.frozen
class QueuedMessage:
    """A message in the queue, with the recipients asked for. `size` is what is relayed, in octets. `needs`,
    `not_before` and `submitter` as in `Submission`."""

    id: str
    mail: Mail
    queued_at: int
    size: int
    recipients: tuple[QueuedRecipient, ...]
    needs: int | None = None
    not_before: int = 0
    submitter: str = ""

    @property
    def begins(self) -> int:
        """From when on its time is counted, in seconds since the epoch."""
        return max(self.queued_at, self.not_before)


class ITransports(Interface):
    """Ways of mail by recipient, sender, account and number of the attempt: `[transport.x]`."""

    def first(recipient: Address, transaction: ITransactionView) -> Route | None:
        """Where mail goes at first; None where no transport says so. Raises NotPermitted, or with what else a transport
        refuses it."""

    def later(message: QueuedMessage, row: QueuedRecipient, attempt: int) -> Route | None:
        """Where a row of the queue goes from this attempt on (1 is the first), turns without one counted; None where it
        goes on as before."""


@attrs.frozen
class Settlement:
    """The result of an attempt for one row, or of a turn in which none was made (`Outcome.tried`). `due` is the next
    attempt (seconds since the epoch) where it is DELAYED, `route` the way that it then takes, None for that of before:
    another agent and target, all else is kept. `warned`: that it is late is told to its sender with this.

    With `untold`, a row that is not DELAYED stays for its DSN alone, which is due then.
    """

    id: int
    outcome: Outcome
    due: int = 0
    route: Route | None = None
    warned: bool = False
    untold: bool = False


NO_QUOTAS: Mapping[str, int] = MappingProxyType({})


@attrs.frozen
class Claim:
    """The rows of one message for one destination (`Route.destination`, "" for those whose DSN is due) that one holder
    works on. `message` has these rows alone. A later claim has a greater `fence`: of two holders of one row, which
    happens where the first was taken for dead, the greater one is right."""

    destination: str
    message: QueuedMessage
    fence: int


# What becomes of deposits that a commit refuses: the caller tells the client, or the queue sends a DSN.
Refusals = Literal["reply", "bounce"]


class IQueue(Interface):
    """The durable queue. Everything it is told is on disk when the call returns."""

    def deposits_into(store: object) -> bool:
        """Whether submit() can deliver into the mailboxes of this IMailStore in its very commit; false for all else."""

    def new_body(size: int = 0, head_limit: int = 0) -> IHeadedBodyWriter:
        """For submit(). `size` is the announced number of octets, 0 when unknown; `head_limit` the most that the head
        may have."""

    def check_space(size: int = 0) -> None:
        """Raises StorageFull when there is no room on the disk for `size` more octets. Reports of settle() may use what
        is kept in reserve; submit() may not."""

    def new_delivery_id() -> str:
        """For `Submission.delivery_id`: one that no other submission has."""

    async def submit(submission: Submission, refusals: Refusals = "bounce", also: Sequence[Submission] = ()) -> Receipt:
        """Commit body, deposits and queue rows at once, and those of other messages (`also`: copies with another
        header, replies), all or nothing. Where every recipient of all of them is refused, nothing is kept, nor any
        reply. Otherwise, with "bounce", refused deposits become FAILED rows in the same commit, so that their DSN
        survives a crash; with "reply" the caller tells the client (LMTP). Replies alone are committed as they are.
        Repeated within a day with the same delivery ids and bodies, it adds nothing and gives the same receipt. Raises
        StoreUnavailable; ValueError for what is no delivery id, and for a reverse-path or parameter that could not be
        read again from a row (where none is kept, such a message may be taken)."""

    async def claim(
        now: int, limit: int, quota: int, quotas: Mapping[str, int] = NO_QUOTAS, latest: int | None = None
    ) -> Sequence[Claim]:
        """Take up to `limit` rows whose time has come. They are nobody else's, and are not given again, until they are
        settled or released, or their holder has died.

        Each destination gives those of up to `quota` messages, or as many as `quotas` says of it, oldest first; when
        the limit is reached, the next call goes on behind the destination where this one has ended. With a `quota` of 0
        only those give anything that `quotas` names, and whose turn is next stays as it was. Rows due after
        `latest` have come as well, behind the others, unless they are held (`Submission.not_before`): no pause is that
        long, so the clock has been set back."""

    async def release(claims: Sequence[Claim]) -> None:
        """Give rows back that are not settled, as they were. Claims that are lost are passed over."""

    async def next_due(after: int = -1) -> int | None:
        """When the earliest row is due of those that are due after a moment; None when there is none."""

    async def open(message_id: str) -> IBlobReader:
        """The octets to relay. Raises MessageGone when there is no such message, MessageDamaged when its octets are
        lost or not what was accepted."""

    async def kept_header(message_id: str) -> bytes:
        """The usual header fields as they were worked out when the message came in: what is left to tell of a damaged
        one. Empty when there is nothing."""

    async def settle(claim: Claim, settlements: Sequence[Settlement], reports: Sequence[Submission] = ()) -> bool:
        """Record outcomes of claimed rows: DELAYED ones and those that are `untold` wait, others go, and none is
        claimed any more. `reports` (DSNs) are committed in the same transaction. Rows that are gone (removed by the
        operator, or settled by a call whose answer was lost) are passed over, and when all are, so are the reports. A
        report's refused deposit is dropped. False when the claim on these rows is lost: then nothing is changed."""

    def watch(listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called, on the reactor thread, after each commit of this process that put rows in (also those
        of reports) or made them due (retry), whoever asked for it, before that call returns; the result stops it. What
        it raises is logged."""

    async def messages(limit: int = 1000, after: str = "", which: Which = EVERYTHING) -> Sequence[QueuedMessage]:
        """The queue as it stands, oldest first, for the operator: up to so many messages with those of their rows that
        are meant, and that came behind the one of this id."""

    async def waiting(which: Which = EVERYTHING) -> Sequence[Waiting]:
        """What waits at each destination, in the order of their names, for the operator."""

    async def change(changes: Mapping[RowChange, Sequence[QueuedMessage]]) -> int:
        """What the operator does with these rows of these messages, in one transaction; returns how many rows have
        changed. Those that are claimed are changed as well: their outcome is recorded all the same, but what is held
        stays held, what is removed is gone, and what was given up is so unless that attempt has ended it."""

    async def retry(message_ids: Sequence[str]) -> int:
        """Make rows due `AT_ONCE`; returns how many messages. An empty sequence means all."""

    async def cancel(message_id: str) -> bool:
        """Drop a message that is held until its time (`Submission.not_before`) and of which nothing has been tried.
        False where there is no such message: then nothing is changed, and it may have been sent."""

    async def remove(message_ids: Sequence[str]) -> int:
        """Drop messages without a DSN; returns how many."""


def _never() -> bool:
    return False


@attrs.frozen
class Delivery:
    """What an agent is given: one message for recipients that share agent and target.

    `id` names the message, the same on every attempt; with a `QueuedRecipient.id` it is a delivery id. `mail` has the
    reverse-path of their route. `needs` as in `Submission`, but of this very body. `yields`: whether an attempt that
    has heard nothing from the next hop for a while is to end, as others wait for its place. It says so to as many as
    are waited for; who asks must end then.
    """

    id: str
    mail: Mail
    target: str
    recipients: tuple[QueuedRecipient, ...]
    body: IBlobReader
    needs: int | None = None
    yields: Callable[[], bool] = attrs.field(default=_never, eq=False, repr=False)


class IDeliveryAgent(Interface):
    """Takes messages over to the next hop, a foreign store or a program."""

    async def deliver(delivery: Delivery) -> Mapping[int, Outcome]:
        """An outcome for every `QueuedRecipient.id`; what is left out, or all when it raises, counts as DELAYED."""

    async def stop() -> None:
        """Close kept connections."""
