"""Where a message would go, for `mailhub explain`: each address on the way with the router that knows it, and the ends
with all that is set about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import attrs

from mailhub.agents import forwarding_of
from mailhub.config import routes as configured
from mailhub.delivery.list_names import LIST
from mailhub.delivery.relay.exchangers import exchangers
from mailhub.delivery.routing import SMTP
from mailhub.errors import MailError
from mailhub.interfaces import STORE, IResolver, NextHop, OwnTransaction, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.message.lists import BOUNCES, role
from mailhub.protocols.smtp import reply_to
from mailhub.wire.smtp.replies import Reply

if TYPE_CHECKING:
    from mailhub.components import Hub

MEMBERS_SHOWN = 10  # of each list; of others their number
_LISTS_SHOWN = 10


def reply_at(at: str, error: MailError) -> Reply:
    """What a client is told of an error, which at some moments is said by another code."""
    found = reply_to(error)
    if at == "connect":
        return attrs.evolve(found, code=421 if error.temporary else 554)
    if at == "mail" and error.status == "5.7.0":
        return attrs.evolve(found, code=530)
    return found


def text_of(reply: Reply) -> str:
    """In one line."""
    return " ".join(word for word in (str(reply.code), reply.status, " ".join(reply.lines)) if word)


@attrs.define(eq=False)
class Ways:
    """`steps` on the way and its `ends`, as JSON has them; `refusal` is the reply where there is no way."""

    _hub: Hub
    _transaction: OwnTransaction
    steps: list[Mapping[str, Any]] = attrs.field(factory=list)
    ends: list[Mapping[str, Any]] = attrs.field(factory=list)
    refusal: str = ""

    @classmethod
    async def of(cls, hub: Hub, transaction: OwnTransaction, meant: Callable[[], Address]) -> Ways:
        """Those of one recipient, as the routers of the hub find them. `meant` says who it is, or raises MailError."""
        ways = cls(hub, transaction)
        try:
            await ways.end_in(await hub.routing.watched(ways._witness).route(meant(), transaction))
        except MailError as error:
            ways.refusal = text_of(reply_at("recipient", error))
        return ways

    async def end_in(self, routes: Sequence[Route]) -> None:
        """These are the ends; behind lists those of their members."""
        self.ends = [await self._shown(route) for route in routes]
        await self._behind([route for route in routes if route.agent == LIST])

    def _witness(self, address: Address, router: str, said: Sequence[Route] | MailError) -> None:
        if isinstance(said, MailError):
            refused = text_of(reply_at("recipient", said))
            self.steps.append({"address": str(address), "router": router, "refused": refused})
        else:
            ways = [{"agent": route.agent, "to": str(route.recipient), "target": route.target} for route in said]
            self.steps.append({"address": str(address), "router": router, "ways": ways})

    async def _behind(self, lists: Sequence[Route]) -> None:
        """Where the first members of lists get it, those of lists in a list, too; each list once."""
        pending, seen = list(lists), {route.target for route in lists}
        for _ in range(_LISTS_SHOWN):
            if not pending:
                return
            name = pending.pop(0).target
            for member in (await self._hub.names.members(name))[:MEMBERS_SHOWN]:
                for route in await self._to_member(name, member):
                    if route.agent != LIST or route.target not in seen:
                        self.ends.append({**await self._shown(route), "list": name})
                    if route.agent == LIST and route.target not in seen:
                        seen.add(route.target)
                        pending.append(route)

    async def _to_member(self, name: str, member: Address) -> Sequence[Route]:
        own = OwnTransaction(mail=Mail(role(Address.parse(name), BOUNCES)))  # from there on it is the list's
        try:
            return await self._hub.routing.watched(self._witness).route(member, own)
        except MailError as error:
            fault = text_of(reply_at("recipient", error))
            self.ends.append({"agent": "", "to": str(member), "target": "", "list": name, "fault": fault})
            return ()

    async def _shown(self, route: Route) -> Mapping[str, Any]:
        """One end, with what there is to say of its agent."""
        shown: dict[str, Any] = {"agent": route.agent, "to": str(route.recipient), "target": route.target}
        if route.via:
            shown["via"] = list(route.via)
        try:
            if route.agent == STORE:
                shown |= await self._mailbox(route)
            elif route.agent == LIST:
                members = await self._hub.names.members(route.target)
                shown |= {"members": len(members), "first_members": [str(each) for each in members[:MEMBERS_SHOWN]]}
            else:
                shown |= self._agent(route)
                if srs := forwarding_of(self._hub).domain_for(self._transaction.mail, route):
                    shown["srs"] = srs
                shown |= await self._by_exchangers(route)
        except MailError as error:
            shown["fault"] = error.text
        return shown

    async def _mailbox(self, route: Route) -> Mapping[str, Any]:
        shown: dict[str, Any] = {"mailbox": route.mailbox or "INBOX"}
        if route.create:
            shown["new_account"] = True
        if await self._hub.store.exists(route.target):
            account = await self._hub.store.account(route.target)
            try:
                quota = await account.quota()
            finally:
                await account.logout()
            shown["quota"] = {"used": quota.used, "limit": quota.limit}
        return shown

    def _agent(self, route: Route) -> Mapping[str, Any]:
        """What the configuration says of it: of a server how it is talked to, of a program what is run."""
        config = self._hub.settings
        shown: dict[str, Any] = {}
        hop = self._hub.hops.get(route.recipient.ascii_domain) or self._hub.hops.get("*")
        if hop is not None and (hop.agent, hop.host) != (route.agent, route.target):
            hop = None
        part = config.part("agent", route.agent, config.place("agent"))
        for table in config.transports:
            if table.name == route.agent:
                shown["transport"] = table.name
                part, hop = table.part, self._hub.transport_hops[table.name]
        shown["type"] = part.type
        if part.type in configured.HOSTS:
            usual = NextHop(source_address=configured.relay_addresses(config).source)
            shown |= _server(hop or usual)
        elif isinstance(part.options.get("command"), list):
            shown["command"] = part.options["command"]
        if later := self._later(route):
            shown["later"] = later
        return shown

    def _later(self, route: Route) -> Sequence[Mapping[str, Any]]:
        """Transports that take over from one of the attempts on."""
        mail, origin = self._transaction.mail, self._transaction.origin
        found = []
        for attempt in sorted({each.keys.from_attempt for each in self._hub.settings.transports}):
            other = self._hub.transports.find(route.recipient, mail.reverse_path, origin.user, attempt)
            if other is not None and other.from_attempt == attempt > 1 and other.name != route.agent:
                found.append({"attempt": attempt, "transport": other.name})
        return found

    async def _by_exchangers(self, route: Route) -> Mapping[str, Any]:
        if route.target or route.agent != SMTP:
            return {}
        domain, resolver = route.recipient.ascii_domain, self._hub.environment.resolver
        # With a chance of its own: what the hub draws after it is as it would have been.
        found = await exchangers(domain, self._hub.hostname, resolver, Random(domain))
        own = set(configured.relay_addresses(self._hub.settings).own)
        told = []
        for each in found:
            addresses = list(await _addresses(resolver, each.host))
            said: dict[str, Any] = {"preference": each.preference, "host": each.host, "addresses": addresses}
            told.append(said | ({"ours": True} if own.intersection(addresses) else {}))
        shown: dict[str, Any] = {"exchangers": told}
        if configured.backup_mx(self._hub.settings).domains.names(route.recipient):
            shown["backup"] = True
        return shown


async def _addresses(resolver: IResolver, host: str) -> Sequence[str]:
    """None where they cannot be had now, for it is not asked what would become of them."""
    try:
        return await resolver.addresses(host)
    except MailError:
        return ()


def _server(hop: NextHop) -> Mapping[str, Any]:
    shown: dict[str, Any] = {"tls": hop.tls}
    if hop.user:
        shown["user"] = hop.user
    if hop.source_address:
        shown["source_address"] = list(hop.source_address)
    return shown
