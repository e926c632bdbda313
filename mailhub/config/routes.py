"""Aliases and ways of mail as the configuration has them, made into what the parts ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from mailhub.delivery.backup_mx import BackupMx
from mailhub.delivery.forwarding import ROUTER, SRS, SRS_DOMAIN
from mailhub.delivery.limits import DETAIL_SEPARATOR, RelayAddresses
from mailhub.delivery.list_names import LISTS
from mailhub.delivery.names import NamesInFile
from mailhub.delivery.relay.exchangers import SMTP_PORT, is_address, parse_target
from mailhub.delivery.routing import SMTP
from mailhub.interfaces import NextHop
from mailhub.message.aliases import AliasTable
from mailhub.message.lists import MailingList
from mailhub.message.patterns import AddressPatterns

if TYPE_CHECKING:
    from mailhub.config.reader import Place
    from mailhub.config.settings import Config, RouteTable

# Agents whose `host` is an SMTP or LMTP server; to others it may mean anything.
_LMTP = "lmtp"
HOSTS = ("smtp", _LMTP)


def names(config: Config) -> NamesInFile:
    """All that the file says of names. Raises ConfigurationError."""
    own = config.value(SRS_DOMAIN)
    return NamesInFile(
        frozenset((*config.domains, own) if own else config.domains),
        aliases(config),
        known_elsewhere(config),
        _same_as(config),
        config.value(DETAIL_SEPARATOR),
        _lists(config),
    )


def _lists(config: Config) -> Mapping[str, MailingList]:
    """[list."address"]. Raises ConfigurationError."""
    place = config.place("list")
    here = config.place("delivery", "routers")
    if config.lists and all(config.part("router", name, here).type != LISTS for name in config.delivery.routers):
        raise here.error(f'lacks "{LISTS}", which goes by the tables [list."address"]')
    for name in config.lists:
        domain = name.rpartition("@")[2]
        if domain not in config.domains:
            raise place.inside(name).error(f'"{domain}" is not one of domains: add it, or use `mailhub list add`')
        if config.lists[name].join_by_mail:
            what = "is for lists of the database, whose members are not those of the file alone: `mailhub list add`"
            raise place.inside(name).at("join_by_mail").error(what)
    return config.lists


def _same_as(config: Config) -> dict[str, str]:
    """[domain_aliases]. Raises ConfigurationError."""
    place = config.place("domain_aliases")
    for name, other in config.domain_aliases.items():
        if name in config.domains:
            raise place.at(f'"{name}"').error("stands in domains as well; take it out of one of the two")
        if other not in config.domains:
            # One that the database keeps may be removed at any time, and the file would be wrong then.
            advice = f"add it to domains, or say `mailhub domain add {name} --same-as {other}`"
            raise place.at(f'"{name}"').error(f'"{other}" is not one of domains: {advice}')
    return dict(config.domain_aliases)


def aliases(config: Config) -> AliasTable:
    """[aliases]. Raises ConfigurationError for a domain that is not ours."""
    for name in config.aliases:
        if name.removeprefix("@") in config.domain_aliases:
            advice = f"its names are those of {config.domain_aliases[name[1:]]}"
            raise config.place("aliases").at(f'"{name}"').error(f"has no catch-all of its own: {advice}")
    try:
        return AliasTable.parse(config.aliases, {*config.domains, *config.domain_aliases})
    except ValueError as error:
        # One that the database keeps may be removed at any time, and the file would be wrong then.
        advice = "add it to domains, or make the alias by `mailhub alias add`"
        raise config.place("aliases").error(f"{error}: {advice}") from None


def backup_mx(config: Config) -> BackupMx:
    """[backup_mx]. Raises ConfigurationError for a domain that is ours, and for a file that cannot be used."""
    backup, place = config.backup_mx, config.place("backup_mx")
    patterns = AddressPatterns.parse(backup.domains)
    if both := sorted(patterns.domains.intersection((*config.domains, *config.domain_aliases))):
        raise place.at("domains").error(f"{both[0]} is ours, by domains; take it out of one of the two")
    file = backup.recipients_file
    if file is None:
        return BackupMx(patterns)
    here = place.at("recipients_file")
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
        return BackupMx(patterns, AddressPatterns.parse(filter(None, lines)))
    except (OSError, ValueError) as error:
        raise here.error(f"{file}: {error}") from None


def next_hops(config: Config) -> dict[str, NextHop]:
    """[route."domain"] by domain. Raises ConfigurationError for a host or a password file that cannot be used."""
    return {domain: next_hop(config.place("route").inside(domain), route) for domain, route in config.routes.items()}


def next_hop(place: Place, route: RouteTable) -> NextHop:
    """What a table says of the server that mail goes to. Raises ConfigurationError."""
    password = route.password
    if route.password_file is not None:
        try:
            password = route.password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise place.at("password_file").error(f"cannot be read: {error}") from None
    off = frozenset(each.upper() for each in route.extensions_off)
    hop = NextHop(route.agent, route.host, route.tls, route.user, password, route.source_address, off)
    if hop.agent == _LMTP and not hop.host:
        raise place.at("host").error("is missing: who takes the mail by LMTP, such as unix:/run/lmtp")
    if hop.host and hop.agent in HOSTS:
        try:
            parse_target(hop.host, SMTP_PORT)
        except ValueError as error:
            raise place.at("host").error(f'"{hop.host}": {error}') from None
    return hop


def relay_addresses(config: Config) -> RelayAddresses:
    """[relay], and among the own addresses those that mail is listened for on."""
    told = config.of(RelayAddresses)
    found = [_INTERFACE.search(endpoint) for endpoint in config.listen.get("smtp", ())]
    listening = [match[1].replace("\\", "") for match in found if match is not None]
    return attrs.evolve(told, own=(*told.own, *(each for each in listening if is_address(each))))


# What stands in an endpoint; a colon within an address has a backslash before it.
_INTERFACE = re.compile(r":interface=((?:\\.|[^:\\])+)")


def forwarding_agents(config: Config) -> frozenset[str]:
    """The agents by which mail gets a reverse-path of ours when it is sent on: those that speak SMTP. None where that
    is not wanted, or reports would not find the way back."""
    place = config.place("delivery", "routers")
    if not config.value(SRS) or all(
        config.part("router", name, place).type != ROUTER for name in config.delivery.routers
    ):
        return frozenset()
    return frozenset((SMTP, *(table.name for table in config.transports if table.keys.agent == SMTP)))


def known_elsewhere(config: Config) -> frozenset[str] | None:
    """Domains in which an unknown user may be known to a checker other than our own; None for all of them."""
    if config.auth.users_known_elsewhere is not None:
        return frozenset(config.auth.users_known_elsewhere)
    place = config.place("auth", "checkers")
    foreign = any(config.part("checker", name, place).type != "accounts" for name in config.auth.checkers)
    return None if foreign else frozenset()
