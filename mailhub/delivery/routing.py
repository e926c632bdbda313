"""Where mail for a recipient goes: aliases, accounts, static next hops, mail exchangers.

Each router answers for what it knows; `Routing` asks them in turn and follows aliases to their ends. A router that
only renames a recipient answers with a `Route` for the agent `ALIAS`: its recipient is then routed from the start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
from zope.interface import implementer

from mailhub.answers import answer
from mailhub.delivery.targets import distinct
from mailhub.errors import MailError, NoSuchUser, NotPermitted, NotYetKnown, PermanentError, TemporaryError
from mailhub.interfaces import (
    ALIAS,
    STORE,
    ILocalNames,
    IMailStore,
    IRouter,
    ITransactionView,
    IUserDirectory,
    NextHop,
    OwnTransaction,
    Route,
)
from mailhub.log import Logger
from mailhub.message.address import POSTMASTER, Address, is_role
from mailhub.message.mailbox_names import normalise
from mailhub.message.patterns import AddressPatterns

if TYPE_CHECKING:
    from mailhub.delivery.guarded_router import GuardedRouter

_log = Logger(namespace="mailhub.delivery.routing")

MISTAKE = "Server configuration error"

SMTP = "smtp"
REFUSE = "refuse"
DEPTH_LIMIT = 10  # aliases of aliases
TARGET_LIMIT = 1000  # addresses one recipient may become

NO_PATTERNS = AddressPatterns()

_OURS = OwnTransaction()
# Is told of an address, the router that knows it, and what that says.
RouteWitness = Callable[[Address, str, "Sequence[Route] | MailError"], None]


@implementer(IRouter)
class Routing:
    """The routers of a hub as one. Always has an answer; never the same final target twice."""

    def __init__(
        self,
        routers: Sequence[GuardedRouter],
        names: ILocalNames | None = None,
        witness: RouteWitness = lambda _address, _router, _said: None,
    ) -> None:
        """`names` are brought up to date before the routers are asked."""
        self._routers = tuple(routers)
        self._names = names
        self._witness = witness

    def watched(self, witness: RouteWitness) -> Routing:
        """The same, for whoever wants to know each step."""
        return Routing(self._routers, self._names, witness)

    async def route(self, recipient: Address, transaction: ITransactionView = _OURS) -> tuple[Route, ...]:
        """Every place mail of `transaction` for `recipient` goes to, at least one.

        Raises NoSuchUser, PermanentError (no router knows a way), TemporaryError (also for aliases that are nested
        more than 10 deep or become more than 1000 addresses).
        """
        if self._names is not None:
            await self._names.refresh()
        first = await self._ask(recipient, transaction)
        if ALIAS not in [route.agent for route in first]:
            return distinct(first)
        return distinct(await self._follow(recipient, transaction, first))

    def way_to_account(self, recipient: Address) -> tuple[Route, ...] | None:
        """What `route` gives, whoever sends, if there is such an account; None where it is no account's name alone. It
        depends on the names, and on nothing else."""
        for router in self._routers:
            if not router.passes(recipient):
                return router.way_to_account(recipient)
        return None

    async def _ask(
        self, recipient: Address, transaction: ITransactionView, *, ends_only: bool = False
    ) -> Sequence[Route]:
        for router in self._routers:
            if router.passes(recipient):
                continue
            try:
                routes = await router.route(recipient, transaction)
            except MailError as error:
                self._witness(recipient, router.guard.name, error)
                raise
            if routes is None:
                continue
            self._witness(recipient, router.guard.name, routes)
            if not ends_only or all(route.agent != ALIAS for route in routes):
                return routes
            if router.final:
                raise NoSuchUser()
        raise PermanentError("No way to this domain is known", status="5.4.4")

    async def _follow(self, recipient: Address, transaction: ITransactionView, first: Sequence[Route]) -> list[Route]:
        ends: list[Route] = []
        refusal: PermanentError | None = None
        expanded = {recipient.key}
        pending: deque[tuple[Route, tuple[str, ...]]] = deque(
            (_through(route, None, recipient.key, first), (recipient.key,)) for route in first
        )
        while pending:
            route, path = pending.popleft()
            if route.agent != ALIAS:
                ends.append(route)
                continue
            key = route.recipient.key
            if key in expanded and key not in path:
                continue
            _check_bounds(recipient, len(path), len(expanded))
            expanded.add(key)
            try:
                # An alias that names itself, directly or through others, means the account of that name.
                found = await self._ask(route.recipient, transaction, ends_only=key in path)
            except PermanentError as error:
                _log.warn(
                    "alias target refused: alias=<{alias}> to=<{to}> ({error:text})",
                    alias=recipient,
                    to=key,
                    error=error,
                )
                refusal = refusal or error
                continue
            pending.extend((_through(step, route, key, found), (*path, key)) for step in found)
        if not ends:
            raise refusal or NoSuchUser()
        return ends


def _through(step: Route, alias: Route | None, key: str, found: Sequence[Route]) -> Route:
    """A step with what the alias before it has of its own, and with the aliases on its way; the name it was found by is
    one only where it leads to others."""
    names = next(((route.via or (key,)) for route in found if route.agent == ALIAS), ())
    if alias is None:
        return attrs.evolve(step, via=tuple(dict.fromkeys(names)))
    return attrs.evolve(
        step,
        via=tuple(dict.fromkeys((*alias.via, *names, *(() if step.agent == ALIAS else step.via)))),
        reverse_path=step.reverse_path or alias.reverse_path,
        mailbox=step.mailbox or alias.mailbox,
        flags=step.flags | alias.flags,
    )


def _check_bounds(recipient: Address, depth: int, count: int) -> None:
    if depth > DEPTH_LIMIT or count >= TARGET_LIMIT:
        raise _unbounded(recipient)


def _unbounded(recipient: Address) -> TemporaryError:
    detail = f"aliases of {recipient} are nested too deeply, or too many"
    return TemporaryError(MISTAKE, status="4.3.5", detail=detail)


def renamed(recipient: Address, targets: Collection[Address], via: tuple[str, ...] = ()) -> tuple[Route, ...]:
    """Routes to what an alias stands for. `via` is the alias where it has another name than the recipient: who comes
    back with another detail is known. Raises TemporaryError for more than can be followed, which is no failure of the
    router."""
    if len(targets) > TARGET_LIMIT:
        raise _unbounded(recipient)
    return tuple(Route(ALIAS, target, via=via) for target in targets)


@implementer(IUserDirectory)
class _Nobody:
    """Where there is no directory."""

    async def exists(self, user: str) -> bool:
        """Nobody is known."""
        return False


NOBODY = _Nobody()


class OwnRouter:
    """What routers of ours add to `IRouter`: each has something to say of few recipients, and knows of the others at
    once and without waiting."""

    def passes(self, recipient: Address) -> bool:
        """Whether `route` has no answer, whoever sends."""
        return False

    def way_to_account(self, recipient: Address) -> tuple[Route, ...] | None:
        """What `route` gives, whoever sends, if there is an account of this very name; None where it is to be asked."""
        return None


@implementer(IRouter)
class AliasRouter(OwnRouter):
    """Aliases by name, and names of a domain that is the same as another. A detail (`user+detail`) is ignored unless an
    alias or an account has it in its name."""

    def __init__(self, names: ILocalNames, store: IMailStore, directories: IUserDirectory = NOBODY) -> None:
        self._names = names
        self._store = store
        self._directories = directories

    def passes(self, recipient: Address) -> bool:
        """Most names have no alias, no detail, and are of a domain of their own."""
        names = self._names
        if recipient.ascii_domain not in names.domains:
            return True
        return not (names.aliases.named(recipient) or names.same(recipient) or names.without_detail(recipient))

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """The targets, to be routed themselves."""
        if recipient.ascii_domain not in self._names.domains:
            return None
        if targets := self._names.aliases.named(recipient):
            return renamed(recipient, targets)
        same = self._names.same(recipient)
        for plain, _ in self._names.without_detail(recipient):
            targets = self._names.aliases.named(plain)
            if targets and (same or not await is_known(recipient.key, self._store, self._directories)):
                return renamed(recipient, targets, (plain.key,))
        return renamed(recipient, (same,)) if same else None


async def is_known(user: str, store: IMailStore, directories: IUserDirectory) -> bool:
    """Whether somebody has this very name (`Address.key`): an account, or who is to get one."""
    known: bool = await store.exists(user) or await answer(directories.exists(user))
    return known


@implementer(IRouter)
class AccountRouter(OwnRouter):
    """Accounts of the hub's own store, `user+detail` for `user` too. The route keeps the detail in its recipient. Whom
    only a directory knows gets an account with the first mail, and not before: whoever tries names makes none.

    With `detail_mailboxes` the detail names a mailbox, where the account has one of that name.
    """

    def __init__(
        self,
        names: ILocalNames,
        store: IMailStore,
        directories: IUserDirectory = NOBODY,
        *,
        detail_mailboxes: bool = False,
    ) -> None:
        self._names = names
        self._store = store
        self._directories = directories
        self._detail_mailboxes = detail_mailboxes

    def passes(self, recipient: Address) -> bool:
        """Domains of others."""
        return recipient.ascii_domain not in self._names.domains

    def way_to_account(self, recipient: Address) -> tuple[Route, ...]:
        """See `OwnRouter`."""
        return (Route(STORE, recipient, recipient.key),)

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """The account's mailbox."""
        if self.passes(recipient):
            return None
        if found := await self._known(recipient, recipient, ""):
            return found
        for name, detail in self._names.without_detail(recipient):
            if found := await self._known(recipient, name, detail):
                return found
        return None

    async def _known(self, recipient: Address, name: Address, detail: str) -> Sequence[Route] | None:
        user = name.key
        if await self._store.exists(user):
            mailbox = await self._mailbox(user, detail) if detail and self._detail_mailboxes else ""
            return (Route(STORE, recipient, user, mailbox=mailbox),)
        if await answer(self._directories.exists(user)):
            return (Route(STORE, recipient, user, create=True),)
        return None

    async def _mailbox(self, user: str, detail: str) -> str:
        """The mailbox that is meant, in another case if there is none in this one; "" when there is none."""
        account = await self._store.account(user)
        try:
            names = [mailbox.name for mailbox in await account.mailboxes()]
        finally:
            await account.logout()
        wanted = normalise(detail)
        if wanted in names:
            return wanted
        return next((name for name in names if name.casefold() == wanted.casefold()), "")


@implementer(IRouter)
class CatchAllRouter(OwnRouter):
    """Patterns and `@domain` aliases: for every name of the domain that nothing else knows. Ends with NoSuchUser for
    the rest, or NotYetKnown where others may know it: who has no account here may get one by a first login, so that
    mail is to wait for it and not to go back."""

    final = True  # next hops are for other domains, and would bring the message back

    def __init__(self, names: ILocalNames, *, all_known: bool = False) -> None:
        """`all_known`: these others have been asked, and whom they do not know is nobody."""
        self._names = names
        self._all_known = all_known

    def passes(self, recipient: Address) -> bool:
        """Domains of others."""
        return recipient.ascii_domain not in self._names.domains

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """The targets, to be routed themselves. Raises NoSuchUser or NotYetKnown for any other name of a local
        domain."""
        if self.passes(recipient):
            return None
        targets = self._names.aliases.matching(recipient)
        if not targets:
            waits = not self._all_known and self._names.known_elsewhere(recipient.ascii_domain)
            raise NotYetKnown() if waits else NoSuchUser()
        return renamed(recipient, targets)


@implementer(IRouter)
class PostmasterRouter(OwnRouter):
    """Postmaster (RFC 5321 4.5.1) and abuse (RFC 2142 2) of every local domain and of the host itself.

    Where the name has no alias and no account in its own domain, the postmaster of this or another local domain serves.
    """

    def __init__(
        self, hostname: str, names: ILocalNames, store: IMailStore, directories: IUserDirectory = NOBODY
    ) -> None:
        self._hostname = hostname
        self._names = names
        self._store = store
        self._directories = directories

    def passes(self, recipient: Address) -> bool:
        """All other names, and these of others' domains."""
        domain = recipient.ascii_domain
        return not is_role(recipient) or (domain not in self._names.domains and domain != self._hostname)

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """The first postmaster there is. Raises NoSuchUser where the host has none: its name is nobody else's."""
        if self.passes(recipient):
            return None
        domains, own = self._names.domains, recipient.ascii_domain
        for domain in sorted(domains, key=lambda each: (each != own, each)):
            candidate = Address(POSTMASTER, domain)
            if self._names.aliases.named(candidate) or await is_known(candidate.key, self._store, self._directories):
                return renamed(recipient, [candidate])
        if own not in domains:
            raise NoSuchUser()
        return None


@implementer(IRouter)
class StaticRouter(OwnRouter):
    """Next hops by recipient domain (A-labels); `*` for every domain that has none of its own. `by_mx` are domains that
    `*` is not for: theirs is the way to better mail exchangers."""

    def __init__(self, hops: Mapping[str, NextHop], by_mx: AddressPatterns = NO_PATTERNS) -> None:
        self._hops = dict(hops)
        self._by_mx = by_mx

    def passes(self, recipient: Address) -> bool:
        """Domains without a hop of their own, where there is none for all."""
        return self._hop(recipient) is None

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """The configured next hop. Raises NotPermitted where the configuration refuses the domain."""
        hop = self._hop(recipient)
        if hop is None:
            return None
        if hop.agent == REFUSE:
            raise NotPermitted("This server sends no mail to that domain")
        return (Route(hop.agent, recipient, hop.host),)

    def _hop(self, recipient: Address) -> NextHop | None:
        hop = self._hops.get(recipient.ascii_domain)
        if hop is None and not self._by_mx.names(recipient):
            hop = self._hops.get("*")
        return hop


@implementer(IRouter)
class ExchangerRouter:
    """Every domain by its mail exchangers, which are looked up when the mail is sent."""

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """By MX. Raises PermanentError where one of our own users gives no whole domain (RFC 6409 4.2)."""
        domain = recipient.ascii_domain
        if transaction.origin.submission and "." not in domain and not domain.startswith("["):
            raise PermanentError("Domain of the recipient is not given in full", status="5.1.2")
        return (Route(SMTP, recipient),)
