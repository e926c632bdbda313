"""What rules make of one message: which of its recipients get which copy of it, and who is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import attrs
from twisted.internet.defer import Deferred, gatherResults

from mailhub.delivery.dead_ends import REFUSED, refusing, without_agent
from mailhub.delivery.editing import Editing, MessageView
from mailhub.delivery.intake import Intake
from mailhub.delivery.plan import Accepted
from mailhub.delivery.routing import DEPTH_LIMIT
from mailhub.delivery.rules import Answer, Rules, fault
from mailhub.delivery.screens import EditRefused
from mailhub.delivery.targets import distinct
from mailhub.errors import MailError
from mailhub.interfaces import STORE, IBlobReader, IBody, IBodyWriter, ITransactionView, Reply, Route
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.edits import HeaderEdit
from mailhub.message.envelope import Outcome, State
from mailhub.message.header import fields_end
from mailhub.message.needs import HEADER_LIMIT
from mailhub.net.body import copy
from mailhub.store.octets import RestReader

_log = Logger(namespace="mailhub.delivery.rule")

Edits = tuple[HeaderEdit, ...]
# Where mail for an address goes. Raises MailError.
FindRoutes = Callable[[Address], Awaitable[Sequence[Route]]]

_AS_IT_IS: Edits = ()
_AT_ONCE = 100  # accounts that are asked for at the same time


@attrs.frozen
class Arrived:
    """A finished body taken apart: `top` are the trace fields of ours, `header` the fields below them. Where it is not
    `whole`, because the header is too large, it is empty, and all of it is in `rest`."""

    top: bytes
    header: bytes
    whole: bool
    rest: IBlobReader

    @classmethod
    async def read(cls, body: Intake) -> Arrived:
        """`rest` is to be closed. Raises StoreUnavailable."""
        reader = body.open()
        try:
            octets = await reader.read(0, body.trace + HEADER_LIMIT + 1)
        except BaseException:
            reader.close()
            raise
        top, found = octets[: body.trace], octets[body.trace :]
        end = fields_end(found, 0, len(found))
        whole = end <= HEADER_LIMIT
        header = found[:end] if whole else b""
        return cls(top, header, whole, RestReader(reader, len(top) + len(header)))

    def edited(self, edits: Edits) -> bytes:
        """The header after these edits. Raises EditRefused."""
        editing = Editing()
        editing.begin(self.header, whole=self.whole)
        editing.take(edits)
        return editing.header or b""

    async def write(self, header: bytes, new_body: Callable[[int], IBodyWriter]) -> IBody:
        """A body of its own with another header. Raises StoreUnavailable, StorageFull."""
        writer = new_body(len(self.top) + len(header) + self.rest.size)
        try:
            await writer.write(self.top + header)
            await copy(self.rest, writer.write)
            return await writer.finish()
        finally:
            writer.abort()


@attrs.frozen
class _Followed:
    """An account's answer, and where its redirects lead."""

    answer: Answer
    redirects: Sequence[Sequence[Route]]


@attrs.frozen
class Placed:
    """`copies`: all recipients with their ways, for each set of edits; the message as it is comes first. `replies`:
    with the rule and the account they are of."""

    copies: dict[Edits, list[Accepted]]
    replies: list[tuple[str, str, Reply]]

    def take_refusals(self, accepted: Sequence[Accepted], *, each: bool) -> dict[int, Outcome]:
        """Recipients of whom nothing is left but a refusal, by number, with what to answer; they are taken out of the
        copies. Without `each`, which means that each has an answer, only where this is so for all."""
        found = {}
        for number in range(len(accepted)):
            places = self.places(number)
            if places and all(route.agent == REFUSED for route in places):
                found[number] = _answered(places[0])
        if not each and len(found) < sum(1 for recipient in accepted if recipient.routes):
            return {}
        plain = self.copies[_AS_IT_IS]
        for number in found:
            plain[number] = attrs.evolve(plain[number], routes=())
        return found

    def places(self, number: int) -> list[Route]:
        """All ways of the recipient with this number."""
        return [route for accepted in self.copies.values() for route in accepted[number].routes]


def _answered(route: Route) -> Outcome:
    refusal = without_agent(route)
    assert refusal is not None, "it is one"
    return attrs.evolve(refusal, state=State.DELAYED) if refusal.status.startswith("4") else refusal


@attrs.define(eq=False)
class Placing:
    """One message. `seen` are the names (`Address.key`) that have sent it on before."""

    _rules: Rules
    _routes: FindRoutes
    _arrived: Arrived
    _view: MessageView
    _seen: frozenset[str]
    _answers: dict[str, _Followed | None] = attrs.field(factory=dict)

    @classmethod
    def of(
        cls, transaction: ITransactionView, rules: Rules, routes: FindRoutes, arrived: Arrived, body: Intake
    ) -> Placing:
        """The placing of a transaction's message."""
        editing = Editing(header=arrived.header, whole=arrived.whole)
        view = MessageView(transaction, editing, arrived.rest, body.hops)
        return cls(rules, routes, arrived, view, body.delivered_to)

    async def place(self, accepted: Sequence[Accepted]) -> Placed:
        """Ask for all accounts that the message goes to, those that it is redirected to as well."""
        await self._ask(route for each in accepted for route in each.routes)
        nowhere = [attrs.evolve(each, routes=()) for each in accepted]
        copies = {_AS_IT_IS: list(nowhere)}
        for number, each in enumerate(accepted):
            ways: dict[Edits, list[Route]] = {}
            done: set[str] = set()
            for route in each.routes:
                for edits, end in self._ends(route, (), done):
                    ways.setdefault(edits, []).append(end)
            for edits, routes in ways.items():
                copies.setdefault(edits, list(nowhere))[number] = attrs.evolve(each, routes=distinct(routes))
        replies = [
            (followed.answer.rule, account, reply)
            for account, followed in self._answers.items()
            if followed is not None
            for reply in followed.answer.placements.replies
        ]
        return Placed(copies, replies)

    async def _ask(self, routes: Iterable[Route]) -> None:
        """Fill `_answers`, in rounds: those that are redirected to come in the next."""
        deadline = self._rules.deadline()
        for _ in range(DEPTH_LIMIT):
            accounts = list(dict.fromkeys(route.target for route in routes if route.agent == STORE))
            new = [account for account in accounts if account not in self._answers]
            for start in range(0, len(new), _AT_ONCE):
                together = new[start : start + _AT_ONCE]
                asked = [Deferred.fromCoroutine(self._answer(account, deadline)) for account in together]
                self._answers.update(zip(together, await gatherResults(asked), strict=True))
            found = [followed for account in new if (followed := self._answers[account]) is not None]
            routes = [route for followed in found for routes in followed.redirects for route in routes]

    async def _answer(self, account: str, deadline: float) -> _Followed | None:
        answer = await self._rules.ask(account, self._view, deadline)
        if answer is None:
            return None
        placements = answer.placements
        redirects = placements.redirects
        if redirects and account in self._seen:
            known = {"session": self._view.origin.session_id, "to": account}
            _log.event("looped", {**known, "reason": "it is not sent on again"})
            if not placements.deposits:
                return None
            redirects = ()
        try:
            for deposit in placements.deposits:
                self._arrived.edited(tuple(deposit.edits))
            return _Followed(answer, [await self._routes(each.recipient) for each in redirects])
        except (EditRefused, MailError) as error:
            fault(answer.guard, account, self._view.origin.session_id, error)
            return None

    def _ends(self, route: Route, path: tuple[str, ...], done: set[str]) -> Iterator[tuple[Edits, Route]]:
        """Where a route leads to in the end. `path` are the accounts that have redirected it there: what comes back to
        one of them stays there. What one of `done` makes of it has been told for the same recipient."""
        account = route.target
        followed = self._answers.get(account) if route.agent == STORE else None
        if followed is None or account in path:
            yield _AS_IT_IS, route
            return
        if account in done:
            return
        done.add(account)
        placements = followed.answer.placements
        if placements.refusal is not None:
            refusal = placements.refusal
            outcome = Outcome.failed(refusal.text, status=refusal.status)
            yield _AS_IT_IS, attrs.evolve(refusing(route.recipient, outcome), reverse_path=route.reverse_path)
        for deposit in placements.deposits:
            yield tuple(deposit.edits), attrs.evolve(route, mailbox=deposit.mailbox, flags=deposit.flags)
        for redirect, steps in zip(placements.redirects, followed.redirects, strict=False):
            for step in steps:
                onward = attrs.evolve(
                    step,
                    via=tuple(dict.fromkeys((*route.via, account, *step.via))),
                    reverse_path=redirect.reverse_path or step.reverse_path or route.reverse_path,
                )
                yield from self._ends(onward, (*path, account), done)
