"""Mailing lists and groups: who may post (the router), and how a message comes to the members (the agent).

A message for a list waits in the queue as one row, and is made into one for all members then: each gets it once,
however many lists in the list name them, by their rules, and also where a crash has it made again. From there on it is
the list's message: failures are told to its owners, and what the sender wanted to be told ends here (RFC 3461 5.2.7.1).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from zlib import crc32

import attrs
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.dead_ends import LOOP_STATUS, LOOP_TEXT, refusing
from mailhub.delivery.intake import Intake
from mailhub.delivery.list_bounces import Bounces
from mailhub.delivery.list_names import BOUNCE_AGENT, HOLD_AGENT, LIST, REQUEST_AGENT
from mailhub.delivery.list_paths import MemberPaths, list_named_by
from mailhub.delivery.onward import OnwardSealer, leads_away
from mailhub.delivery.plan import Accepted
from mailhub.delivery.routing import NOBODY, OwnRouter, is_known, renamed
from mailhub.delivery.targets import final_target
from mailhub.errors import MailError, MessageTooLarge, NotPermitted, TemporaryError
from mailhub.interfaces import (
    Committed,
    Delivery,
    Environment,
    IBlobReader,
    IBody,
    IDeliveryAgent,
    ILocalNames,
    IMailStore,
    IQueue,
    IRouter,
    IState,
    ITransactionView,
    IUserDirectory,
    OwnTransaction,
    QueuedRecipient,
    Route,
    Which,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient, outcome_of
from mailhub.message.header import Header, fields_end
from mailhub.message.lists import (
    BOUNCES,
    MEMBERS_LIMIT,
    REQUESTS,
    ROLES,
    MailingList,
    editing_of,
    for_members,
    is_ours,
    owners_of,
    role,
)
from mailhub.message.needs import HEADER_LIMIT, needs_of
from mailhub.message.patterns import AddressPatterns
from mailhub.message.trace import count_received, delivered_to, return_path
from mailhub.net.body import copy
from mailhub.store.octets import RestReader

HELD_LIMIT = 500  # posts that wait for the owners of a list
# The status of RFC 3463 for "mailing list expansion prohibited".
NOT_ALLOWED = "5.7.2"
_AT_ONCE = 50  # members that are looked up before others have their turn
_PORTION = 500  # members of one commit
DAY = 86_400
_MADE_SECONDS = 31 * DAY  # for which it is known how a message was made for the members: longer than one waits
PATIENCE = 5  # attempts after which who cannot be looked up keeps the others waiting no longer


@implementer(IRouter)
class ListRouter(OwnRouter):
    """Lists by name, with `team-owner` and `team-bounces`, which are the owners', `team-request`, `team-subscribe` and
    `team-unsubscribe`, where it is asked for something, unless an account has the name, and the return addresses of
    members."""

    def __init__(
        self,
        names: ILocalNames,
        store: IMailStore,
        queue: IQueue,
        paths: MemberPaths,
        directories: IUserDirectory = NOBODY,
    ) -> None:
        self._names = names
        self._paths = paths
        self._queue = queue
        self._store = store
        self._directories = directories

    def passes(self, recipient: Address) -> bool:
        """All, where there are no lists."""
        return not self._names.lists or recipient.ascii_domain not in self._names.domains

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """To the agent that knows the members. Raises NotPermitted for who may not post, MessageTooLarge."""
        if self.passes(recipient):
            return None
        lists = self._names.lists
        for name in (recipient, *(plain for plain, _ in self._names.without_detail(recipient))):
            settings = lists.get(name.key)
            if settings is not None:
                waits = not await self._is_permitted(name, settings, transaction)
                return (Route(HOLD_AGENT if waits else LIST, name, name.key, via=(name.key,)),)
        return await self._role(recipient)

    async def _role(self, recipient: Address) -> Sequence[Route] | None:
        low = recipient.local.lower()
        for suffix in ROLES:
            if not low.endswith(suffix):
                continue
            settings = self._names.lists.get(attrs.evolve(recipient, local=recipient.local[: -len(suffix)]).key)
            if settings is None or await is_known(recipient.key, self._store, self._directories):
                return None
            if suffix in REQUESTS[1:] and settings.group:
                return None
            if suffix in REQUESTS and not settings.group:
                name = attrs.evolve(recipient, local=recipient.local[: -len(suffix)])
                return (Route(REQUEST_AGENT, recipient, name.key),)
            return renamed(recipient, owners_of(settings, recipient))
        return await self._member_path(recipient)

    async def _member_path(self, recipient: Address) -> Sequence[Route] | None:
        """What comes back to the reverse-path of a member's copy. Raises NoSuchUser for one that is not ours."""
        name = list_named_by(recipient)
        if name is None or name.key not in self._names.lists:
            return None
        if await is_known(role(name, BOUNCES).key, self._store, self._directories):
            return None
        await self._paths.read(recipient)
        return (Route(BOUNCE_AGENT, recipient, name.key),)

    async def _is_permitted(self, name: Address, settings: MailingList, transaction: ITransactionView) -> bool:
        """Whether it goes to the members at once, False where it has to wait for an owner."""
        permitted = True
        sender = transaction.mail.reverse_path
        if sender is None:
            if not settings.group or settings.post != "anyone":
                raise NotPermitted(f"{name} takes no reports", status=NOT_ALLOWED)
        elif not await self._may_post(name.key, settings, sender, transaction):
            if not settings.hold_others:
                raise NotPermitted(_REASONS[settings.post].format(name), status=NOT_ALLOWED)
            permitted = False
            waiting = await self._queue.waiting(Which(destination=Route(LIST, name, name.key).destination))
            if sum(each.held for each in waiting) >= HELD_LIMIT:
                raise TemporaryError(f"Too many posts wait for the owners of {name}")
        if 0 < settings.message_size_bytes < transaction.mail.size:
            raise MessageTooLarge(f"{name} takes messages of up to {settings.message_size_bytes} octets")
        return permitted

    async def _may_post(self, key: str, settings: MailingList, sender: Address, transaction: ITransactionView) -> bool:
        if settings.post == "anyone" or _is_of_a_list(transaction, sender, self._names):
            return True
        who = [sender]
        if transaction.origin.user and "@" in transaction.origin.user:
            who.append(Address.parse(transaction.origin.user))
        keys = {each.key for each in who}
        if any(Address.parse(owner).key in keys for owner in settings.owners):
            return True
        if settings.post == "named":
            patterns = AddressPatterns.parse(settings.posters)
            return any(patterns.match(each) for each in who)
        if settings.post == "members":
            for each in who:
                if await self._names.is_member(key, each):
                    return True
        return False


_REASONS = {
    "members": "Only members may post to {}",
    "owners": "Only its owners may post to {}",
    "named": "Only those who are named for it may post to {}",
}


def _is_of_a_list(transaction: ITransactionView, sender: Address, names: ILocalNames) -> bool:
    """Whether mailhub itself asks for the members of a list that is among those of another."""
    if transaction.origin.session_id or transaction.origin.peer or transaction.origin.service:
        return False
    local, bounces, rest = sender.local.rpartition(BOUNCES)
    return bool(bounces) and not rest and attrs.evolve(sender, local=local).key in names.lists


@implementer(IDeliveryAgent)
@attrs.define(eq=False)
class ListAgent:
    """Makes a message for a list one for its members, which `commit` commits once (see `Pipeline.send_on`)."""

    _names: ILocalNames
    _routing: IRouter
    _queue: IQueue
    _environment: Environment
    _state: IState
    _paths: MemberPaths
    _bounces: Bounces
    _commit: Callable[[Mail, Sequence[Accepted], Intake, str], Awaitable[Committed]]
    _sealer: OnwardSealer
    _signer: Signer | None = None

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. Repeating it adds nothing."""
        return {row.id: await self._expand(delivery, row) for row in delivery.recipients}

    async def stop(self) -> None:
        """Nothing is kept."""

    async def _expand(self, delivery: Delivery, row: QueuedRecipient) -> Outcome:
        await self._names.refresh()
        settings = self._names.lists.get(delivery.target)
        if settings is None:
            return Outcome.failed("No such list here", status="5.1.1")
        try:
            top = await delivery.body.read(0, HEADER_LIMIT + 1)
            end = fields_end(top, 0, len(top))
            header = top[:end] if end <= HEADER_LIMIT else b""  # too large to be edited: ours is put before it
            if refusal := refusal_of(header, delivery.body.size, settings, row.route.recipient):
                return refusal
            return await self._pass_on(delivery, row, settings, header)
        except MailError as error:
            return outcome_of(error)

    async def _pass_on(self, delivery: Delivery, row: QueuedRecipient, settings: MailingList, header: bytes) -> Outcome:
        address = row.route.recipient
        bounces = role(address, BOUNCES)
        mail = Mail(
            bounces,
            delivery.mail.body_type,
            delivery.mail.smtputf8 or not bounces.is_ascii,
            requiretls=delivery.mail.requiretls,
            priority=delivery.mail.priority,
        )
        suspended = await self._bounces.suspended(address.key)
        expansion = _Expansion(self._names, self._routing, self._environment, mail, row.attempts, suspended)
        accepted = await expansion.of(address)
        if not accepted:
            return Outcome.failed(f"{address} has no members", status="5.2.4")
        count, editing = await self._made(f"{delivery.id} {row.id}", len(accepted), settings)
        edited = for_members(header, editing, address)
        rest = RestReader(delivery.body, len(header))
        if self._signer is not None:
            edited = await self._signer.of_list(address.ascii_domain, header, header and edited, rest) + edited
        away = leads_away(route for each in accepted for route in each.routes)
        if away:
            edited = await self._sealer.sealed(edited, rest)
        top = return_path(bounces)
        needs = None if delivery.needs is None else delivery.needs | needs_of(edited).bits
        names = []
        if settings.verp:
            await self._bounces.posted(address.key, self._environment.now() // DAY)
        for number, some in _portions(accepted, count):
            body = await self._written(top + edited, delivery.body, len(header))
            intake = Intake(body, len(top), count_received(header), delivered_to(header), needs, len(top), sealed=away)
            once = f"{delivery.id} {row.id} {number}/{count}"
            try:
                sent = await self._paths.each_its_own(address, some) if settings.verp else some
                names.append((await self._commit(mail, sent, intake, once)).id)
            finally:
                body.discard()
        return Outcome.delivered(f"{len(accepted)} members as {' '.join(names)}", status="2.0.0")

    async def _made(self, what: str, members: int, settings: MailingList) -> tuple[int, MailingList]:
        """In how many portions, and how the header is edited: as it was decided before the first portion was committed,
        whatever has changed before a repetition, so that each portion is known as the one it was."""
        kept = await self._state.get(what)
        if kept is None:
            count = 1 << (-(-members // _PORTION) - 1).bit_length()
            kept = json.dumps([count, editing_of(settings)]).encode()
            await self._state.put({what: kept}, _MADE_SECONDS)
        count, editing = json.loads(kept)
        return count, MailingList(**editing)

    async def _written(self, top: bytes, body: IBlobReader, start: int) -> IBody:
        writer = self._queue.new_body(len(top) + body.size - start)
        try:
            await writer.write(top)
            await copy(body, writer.write, start)
            return await writer.finish()
        finally:
            writer.abort()


def _portions(accepted: Sequence[Accepted], count: int) -> Iterator[tuple[int, Sequence[Accepted]]]:
    """Some hundred members at a time, so that others have their turn. Which of them a way is in goes by where it ends
    and by their number alone: who is a member by several names has it once, and who stays is in the same one whoever
    else has come or gone."""
    portions: list[list[Accepted]] = [[] for _ in range(count)]
    for each in accepted:
        parts: dict[int, list[Route]] = {}
        for route in each.routes:
            parts.setdefault(crc32(repr(final_target(route)).encode()) % count, []).append(route)
        for number, routes in parts.items():
            portions[number].append(each if len(parts) == 1 else attrs.evolve(each, routes=tuple(routes)))
    for number, some in enumerate(portions):
        if some:
            yield number, some


def refusal_of(header: bytes, size: int, settings: MailingList, address: Address) -> Outcome | None:
    """Why a message is nothing for the members, whoever has sent it."""
    if is_ours(header, address):
        return Outcome.failed(LOOP_TEXT, status=LOOP_STATUS)
    said = Header(header).first(b"auto-submitted") or b"no"
    if not settings.group and said.strip().lower().startswith(b"auto-replied"):
        return Outcome.failed(f"{address} takes no automatic replies", status=NOT_ALLOWED)  # RFC 3834 2
    if 0 < settings.message_size_bytes < size:
        return Outcome.failed(f"{address} takes messages of up to {settings.message_size_bytes} octets", status="5.2.3")
    return None


@attrs.define(eq=False)
class _Expansion:
    """The members of a list, and of those that are among them, each with the ways to them."""

    names: ILocalNames
    routing: IRouter
    environment: Environment
    mail: Mail
    attempts: int
    suspended: Container[str] = ()
    _lists: set[str] = attrs.field(factory=set)
    _members: set[str] = attrs.field(factory=set)

    async def of(self, address: Address) -> list[Accepted]:
        """Raises TemporaryError, StoreUnavailable; who is refused for good has a route that tells the owners."""
        found: list[Accepted] = []
        self._lists.add(address.key)
        pending = [address]
        while pending:
            for member in await self.names.members(pending.pop(0).key):
                if member.key in self._members or len(self._members) >= MEMBERS_LIMIT or member.key in self.suspended:
                    continue
                self._members.add(member.key)
                if len(self._members) % _AT_ONCE == 0:
                    await deferLater(self.environment.clock, 0)
                ways = []
                for route in await self._ways(member):
                    if route.agent != LIST:
                        ways.append(attrs.evolve(route, reverse_path=None))
                    elif route.target not in self._lists:
                        self._lists.add(route.target)
                        pending.append(route.recipient)
                if ways:
                    found.append(Accepted(Recipient(member), tuple(ways)))
        return found

    async def _ways(self, member: Address) -> Sequence[Route]:
        try:
            return await self.routing.route(member, OwnTransaction(mail=self.mail)) or ()
        except MailError as error:
            if error.temporary and self.attempts < PATIENCE:
                raise
            outcome = Outcome.failed(error.text, status="5" + error.status[1:])
            return [refusing(member, outcome)]
