"""The ways that the operator may send queued mail by: `mailhub queue reroute`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mailhub.config import rules
from mailhub.config.routes import HOSTS
from mailhub.delivery.list_names import LIST_AGENTS
from mailhub.delivery.relay.exchangers import SMTP_PORT, is_address, parse_target
from mailhub.delivery.routing import REFUSE, SMTP
from mailhub.errors import ConfigurationError
from mailhub.interfaces import STORE

if TYPE_CHECKING:
    from mailhub.config.settings import Config

_OTHER_LIMIT = 255  # characters of what another agent is told
_PATH_LIMIT = 107  # octets, of a local socket's path (sun_path)


def way_of(config: Config, agent: str, text: str) -> tuple[str, str]:
    """Agent and target of a way, `text` is "" for the one that the agent finds by itself. Raises ConfigurationError for
    an agent that takes no such mail, and for what it cannot take for a way."""
    kinds = _kinds(config)
    kind = kinds.get(agent)
    if kind is None:
        raise ConfigurationError(
            f"there is no delivery agent {agent!r} to send queued mail by; there are {', '.join(sorted(kinds))}, "
            "and each [transport.x] or [agent.x] makes one"
        )
    for table in config.transports:
        if table.name == agent:
            if text not in ("", table.keys.host):
                raise ConfigurationError(f"[transport.{agent}] says itself where mail goes; say mx for WAY")
            return agent, table.keys.host
    if kind in HOSTS:
        return agent, _server(kind, text)
    if len(text) > _OTHER_LIMIT or not text.isprintable():
        raise ConfigurationError(f"a way is at most {_OTHER_LIMIT} characters that can be printed")
    return agent, text


def _kinds(config: Config) -> Mapping[str, str]:
    """What each agent is that takes mail from the queue, by name. Mailboxes and lists get theirs by routers alone."""
    place = config.place("agent")
    named = {name for kind, name in config.parts if kind == "agent"}
    named |= {route.agent for route in config.routes.values()}
    kinds = {name: config.part("agent", name, place).type for name in (*HOSTS, *named)}
    kinds |= {table.name: table.keys.agent for table in config.transports}
    return {name: kind for name, kind in kinds.items() if kind not in (STORE, *LIST_AGENTS, REFUSE)}


def _server(kind: str, text: str) -> str:
    """A server's place as it stands in the queue, with a name in A-labels."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if kind == SMTP or not path.startswith("/") or len(os.fsencode(path)) > _PATH_LIMIT or not path.isprintable():
            raise ConfigurationError(f"{text!r} is no way by {kind}; unix:/path is one by lmtp")
        return text
    if not text:
        if kind == SMTP:
            return ""
        raise ConfigurationError("lmtp does not find its server by DNS; say host:port or unix:/path")
    try:
        host, _ = parse_target(text, SMTP_PORT)
        name = host if is_address(host) else rules.domain(host)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is no way: {error}") from None
    return text if text.isascii() else text.replace(host, name)
