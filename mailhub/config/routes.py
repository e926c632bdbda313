"""Aliases and ways of mail as the configuration has them, made into what the parts ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailhub.delivery.relay.exchangers import SMTP_PORT, parse_target
from mailhub.interfaces import NextHop
from mailhub.message.aliases import AliasTable

if TYPE_CHECKING:
    from mailhub.config.settings import Config, RouteTable

# Agents whose `host` is an SMTP or LMTP server; to others it may mean anything.
_LMTP = "lmtp"
_HOSTS = ("smtp", _LMTP)


def aliases(config: Config) -> AliasTable:
    """[aliases]. Raises ConfigurationError for a domain that is not ours."""
    try:
        return AliasTable.parse(config.aliases, config.domains)
    except ValueError as error:
        # One that the database keeps may be removed at any time, and the file would be wrong then.
        advice = "add it to domains, or make the alias by `mailhub alias add`"
        raise config.place("aliases").error(f"{error}: {advice}") from None


def next_hops(config: Config) -> dict[str, NextHop]:
    """[route."domain"] by domain. Raises ConfigurationError for a host or a password file that cannot be used."""
    return {domain: _next_hop(config, domain, route) for domain, route in config.routes.items()}


def _next_hop(config: Config, domain: str, route: RouteTable) -> NextHop:
    place = config.place("route").inside(domain)
    password = route.password
    if route.password_file is not None:
        try:
            password = route.password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise place.at("password_file").error(f"cannot be read: {error}") from None
    hop = NextHop(route.agent, route.host, route.tls, route.user, password)
    if hop.agent == _LMTP and not hop.host:
        raise place.at("host").error("is missing: who takes the mail by LMTP, such as unix:/run/lmtp")
    if hop.host and hop.agent in _HOSTS:
        try:
            parse_target(hop.host, SMTP_PORT)
        except ValueError as error:
            raise place.at("host").error(f'"{hop.host}": {error}') from None
    return hop


def known_elsewhere(config: Config) -> frozenset[str] | None:
    """Domains in which an unknown user may be known to a checker other than our own; None for all of them."""
    if config.auth.users_known_elsewhere is not None:
        return frozenset(config.auth.users_known_elsewhere)
    place = config.place("auth", "checkers")
    foreign = any(config.part("checker", name, place).type != "accounts" for name in config.auth.checkers)
    return None if foreign else frozenset()
