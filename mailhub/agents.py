"""The delivery agents of a hub, made as its configuration says, and what is rewritten for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mailhub import plugin_faults
from mailhub.config import routes
from mailhub.delivery.agents import GuardedAgent
from mailhub.delivery.alias_file import ALIASES_FILE, DISCARD
from mailhub.delivery.forwarding import SRS_DOMAIN, Forwarding, SrsKeys, days_of
from mailhub.delivery.list_names import LIST_AGENTS, LISTS
from mailhub.delivery.routing import REFUSE
from mailhub.interfaces import STORE, NextHop

if TYPE_CHECKING:
    from mailhub.components import Hub
    from mailhub.config.reader import Place
    from mailhub.config.settings import Config
    from mailhub.interfaces import IHub
    from mailhub.plugins import Catalogue


# What routers of ours name beside those two.
_OF_ROUTERS = (
    (ALIASES_FILE, DISCARD),
    *((LISTS, agent) for agent in LIST_AGENTS),
)


def agent_places(config: Config) -> dict[str, Place]:
    """The names of the agents that are no transport's, and where they stand in the file."""
    places = {name: config.place() for name in (STORE, *routes.HOSTS)}
    routers = {config.part("router", name, config.place()).type for name in config.delivery.routers}
    places |= {agent: config.place() for router, agent in _OF_ROUTERS if router in routers}
    places |= {name: config.place("agent").inside(name) for kind, name in config.parts if kind == "agent"}
    for domain, route in config.routes.items():
        places.setdefault(route.agent, config.place("route").inside(domain).at("agent"))
    places.pop(REFUSE, None)  # the router says no by itself
    return places


def agents_of(hub: Hub, catalogue: Catalogue) -> dict[str, GuardedAgent]:
    """The agents that the queue asks: those that routers or the operator name by themselves, those with a
    table, those that a route names, and one for each transport. Raises ConfigurationError."""
    config = hub.settings
    places = agent_places(config)
    agents = {}
    for name, place in places.items():
        part = config.part("agent", name, place)
        guard = hub.guards.make("agent", name, plugin_faults.source(catalogue.find(part)), late_counts=False)
        agents[name] = GuardedAgent(catalogue.build(part, hub), guard)
    for table in config.transports:
        if table.name in agents or table.name in catalogue.names("agent"):
            raise table.place.error("is the name of an agent already; call it otherwise")
        if table.keys.agent != REFUSE:
            seen = _OfTransport(hub, hub.transport_hops[table.name])
            file = plugin_faults.source(catalogue.find(table.part))
            guard = hub.guards.make("agent", table.name, file, late_counts=False)
            agents[table.name] = GuardedAgent(catalogue.build(table.part, seen), guard)
    return agents


def forwarding_of(hub: Hub) -> Forwarding:
    """By which agents, and how, mail is sent on with a reverse-path of ours."""
    config = hub.settings
    (first, *_) = config.domains or ("",)
    return Forwarding(
        agents=routes.forwarding_agents(config),
        hostname=hub.hostname,
        names=hub.names,
        keys=SrsKeys.of(cast("IHub", hub)),
        domain=config.value(SRS_DOMAIN) or first,
        days=days_of(config),
    )


class _OfTransport:
    """The hub as an agent sees it that is a transport's."""

    def __init__(self, hub: Hub, hop: NextHop) -> None:
        self._hub = hub
        self.hop = hop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hub, name)
