"""The way in for every message: conversations, and the transactions they begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import attrs
from zope.interface import implementer

from mailhub.delivery.admission import Admission
from mailhub.delivery.allowance import SendingLimits
from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.backup_mx import NO_BACKUP, BackupMx
from mailhub.delivery.committing import Committing
from mailhub.delivery.doubles import Doubles, Sitting
from mailhub.delivery.editing import Editing, check_envelope
from mailhub.delivery.house import House
from mailhub.delivery.intake import HEADERS_TOGETHER, Intake
from mailhub.delivery.limits import HOPS, LONG_LINES, LongLines
from mailhub.delivery.names import LocalNames
from mailhub.delivery.once import Once
from mailhub.delivery.onward import OnwardSealer
from mailhub.delivery.plan import Accepted
from mailhub.delivery.priorities import Priorities
from mailhub.delivery.rules import Rules
from mailhub.delivery.screening.null_sender import NullSender
from mailhub.delivery.screens import EditRefused, Moment, Screening, Screens, Witness, obey
from mailhub.delivery.sending import Sending, SendingOptions
from mailhub.delivery.transaction import Transaction, nothing
from mailhub.delivery.turns import turn
from mailhub.errors import NotPermitted
from mailhub.interfaces import (
    AddRecipient,
    ChangeReversePath,
    Committed,
    Edit,
    Environment,
    IAccounts,
    IConversation,
    IMailStore,
    IPipeline,
    IQueue,
    IRouter,
    ISubmitter,
    Origin,
    OwnTransaction,
    RemoveRecipient,
    ReplaceBody,
)
from mailhub.keys import MESSAGE_SIZE
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.wire.budget import Budget

# Edits that are of one message.
_OF_A_MESSAGE = ChangeReversePath | AddRecipient | RemoveRecipient | ReplaceBody


@implementer(IPipeline)
class Pipeline:
    """The pipeline of one hub. For what is not said here see `House`."""

    def __init__(
        self,
        *,
        hostname: str,
        names: LocalNames,
        environment: Environment,
        store: IMailStore,
        queue: IQueue,
        routing: IRouter,
        policies: Screening,
        hop_limit: int = HOPS.default,
        headers: Budget | None = None,
        long_lines: LongLines = LONG_LINES.default,
        rules: Rules | None = None,
        backup: BackupMx = NO_BACKUP,
        sending: Sending | None = None,
        null_sender: NullSender | None = None,
        accounts: IAccounts | None = None,
        allowances: SendingLimits | None = None,
        doubles: Doubles | None = None,
        priorities: Priorities | None = None,
        main_domain: str = "",
        signer: Signer | None = None,
        message_size: int = MESSAGE_SIZE.default,
        sealer: OnwardSealer | None = None,
    ) -> None:
        self.policies = policies
        self._house = House(
            hostname=hostname,
            environment=environment,
            admission=Admission(
                hostname=hostname,
                names=names,
                store=store,
                routing=routing,
                backup=backup,
                accounts=accounts,
                main_domain=main_domain,
            ),
            queue=queue,
            store=store,
            hop_limit=hop_limit,
            headers=headers or Budget(HEADERS_TOGETHER),
            long_lines=long_lines,
            rules=rules,
            sending=sending or Sending(SendingOptions(), environment),
            null_sender=null_sender or NullSender(),
            allowances=allowances,
            doubles=doubles,
            priorities=priorities or Priorities(),
            signer=signer,
            message_size=message_size,
            sealer=sealer,
        )

    async def send_on(self, mail: Mail, accepted: Sequence[Accepted], intake: Intake, once: str) -> Committed:
        """Commit a message of mailhub's own for recipients whose ways are known, as one that came in: rules are asked,
        and what goes round is stopped. Repeated within a day with the same `once`, it adds nothing. Raises MailError.
        """
        house = attrs.evolve(self._house, queue=cast(IQueue, Once(self._house.queue, once)))
        own = OwnTransaction(mail=mail, recipients=tuple([each.recipient for each in accepted]))
        return await Committing(house, own, accepted, (), False).commit(intake)

    async def connected(self, origin: Origin, witness: Witness | None = None) -> Conversation:
        """See `IPipeline`. `witness` is told what each policy says, for a rehearsal (`Origin.rehearsal`)."""
        doubles = self._house.doubles
        sitting = None if doubles is None or origin.rehearsal else doubles.sitting()
        return Conversation(self._house, await self.policies.begin(origin, witness), origin, sitting)

    def meant(self, origin: Origin, address: Address) -> Address:
        """Who is meant by a recipient in our own IP address; any other address is itself. Raises NoSuchUser."""
        return self._house.admission.meant(origin, address)

    async def begin(self, origin: Origin, mail: Mail, submitter: ISubmitter | None = None) -> Transaction:
        """See `IPipeline`."""
        conversation = Conversation(self._house, await self.policies.begin(origin), origin)
        try:
            await conversation.hello(origin)
            if submitter is not None:
                await conversation.login(origin, submitter)
            return await conversation.begin(mail, conversation.closed)
        except BaseException:
            conversation.closed()
            raise


@implementer(IConversation)
@attrs.define(eq=False, repr=False)
class Conversation:
    """See `IConversation`. What a policy may have to say is asked here and in `Transaction`, a moment at a time."""

    _house: House
    _screens: Screens
    origin: Origin
    _sitting: Sitting | None = None
    _submitter: ISubmitter | None = None
    # Of every message; EHLO may be said again, and the login stays.
    _greeted: Editing = attrs.field(factory=Editing)
    _logged_in: Editing = attrs.field(factory=Editing)

    async def hello(self, origin: Origin) -> None:
        """See `IConversation`."""
        self._greeted = await self._edits("hello", origin)
        self.origin = origin

    async def login(self, origin: Origin, submitter: ISubmitter) -> None:
        """See `IConversation`."""
        self._logged_in = await self._edits("login", origin)
        self.origin, self._submitter = origin, submitter

    def secured(self, origin: Origin) -> None:
        """See `IConversation`."""
        self.origin, self._submitter = origin, None
        self._greeted = self._logged_in = Editing()

    async def begin(self, mail: Mail, ended: Callable[[], None] = nothing) -> Transaction:
        """See `IConversation`. `ended` is called when the transaction is over."""
        origin, submitter = self.origin, self._submitter
        if self._sitting is not None:
            self._sitting.heard()
        if origin.submission and not origin.user:
            raise NotPermitted("Authentication required", status="5.7.0")
        if submitter is not None and not await submitter.may_send_as(mail.reverse_path):
            raise NotPermitted("Sender address does not belong to your login")
        if mail.auth:
            mail = await vouched(mail, submitter)
        if mail.hold is not None:
            self._house.sending.check_hold(mail)
        self._house.queue.check_space(mail.size)
        asked, mail = mail.priority, self._house.priorities.allowed(origin, mail)
        edits = self._greeted + self._logged_in
        transaction = Transaction(self._house, self._screens, origin, mail, edits, ended, submitter)
        transaction.sitting = self._sitting
        transaction.asked_priority = asked
        if origin.submission and self._house.signer is not None:
            await self._house.signer.is_needed()
        await transaction.screened()
        if origin.user and self._house.allowances is not None:
            transaction.allowance = await self._house.allowances.begin(origin.user, rehearsal=origin.rehearsal)
        return transaction

    async def turn(self, node: str) -> int:
        """See `IConversation`."""
        return await turn(self._house.queue, node, self._house.environment.now())

    def closed(self, *, farewell: bool = False) -> None:
        """See `IConversation`."""
        if self._sitting is not None:
            self._sitting.closed(farewell=farewell)
        self._screens.close()

    async def _edits(self, moment: Moment, origin: Origin) -> Editing:
        """What screens want edited of every message. Raises NotPermitted, TemporaryError."""
        editing = Editing()

        async def take(edits: Sequence[Edit]) -> None:
            check_envelope(edits)
            if any(isinstance(edit, _OF_A_MESSAGE) for edit in edits):
                raise EditRefused("there is no message yet")
            editing.take(edits)

        if self._screens.wants(moment):
            verdict = await self._screens.ask(moment, take, origin)
            obey(verdict)
            editing.quarantined = verdict.action == "quarantine"
        return editing


async def vouched(mail: Mail, submitter: ISubmitter | None) -> Mail:
    """RFC 4954 5: AUTH= goes on where the login may speak for that address; else it is as if `<>` had been said."""
    try:
        named = Address.parse(mail.auth or "")
    except ValueError:
        return attrs.evolve(mail, auth="")
    trusted = submitter is not None and await submitter.may_send_as(named)
    return mail if trusted else attrs.evolve(mail, auth="")
