"""`mailhub dns`: the records that our domains need, what DNS has of them, and what is wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from mailhub.cli.names import domain_of, names_now
from mailhub.cli.offline import opened
from mailhub.cli.ours import is_ours
from mailhub.cli.outcome import plain
from mailhub.cli.records.dkim import keys_of
from mailhub.cli.records.domain import topics_of_domain
from mailhub.cli.records.host import topics_of_host
from mailhub.cli.records.server import server_of
from mailhub.cli.records.shown import Found, found_lines, wanted_lines, zone_lines
from mailhub.cli.records.topic import Looked, Topic, World, looked_at
from mailhub.cli.world import world
from mailhub.config.settings import Config, load
from mailhub.delivery.authentication.keys import KeptKey
from mailhub.delivery.authentication.options import SigningOptions
from mailhub.delivery.limits import CA_FILE
from mailhub.delivery.relay.sts import fetch_over_https
from mailhub.errors import ConfigurationError
from mailhub.net.https import Https
from mailhub.net.tls import ClientTls
from mailhub.store.sqlite import schema

_SECONDS = 300.0


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "dns",
        help="the records that our domains need, and what DNS has",
        description="Asks DNS for every record that this server and our domains need, says what is wrong with it, and "
        "what to publish. May be used while the server runs. Exit status 1 when something is wrong without which mail "
        "is lost, refused or not believed; advice leaves it 0.",
    )
    action.add_argument("domain", metavar="DOMAIN", nargs="?", help="one of our domains; by default all")
    shown = action.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="for programs")
    shown.add_argument("--zone", action="store_true", help="all records as they should be, as lines of a zone file")
    action.add_argument("--no-dns", action="store_true", help="ask nobody: what there should be alone")
    action.set_defaults(run=_dns)


def _dns(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    ours, keys = _kept(config)
    domains = _chosen(ours, arguments.domain)
    server = server_of(config)
    parts = [topics_of_host(server, ours), *(topics_of_domain(server, domain, keys) for domain in domains)]
    found = _unasked(parts) if arguments.no_dns else _asked(config, parts)
    if arguments.json:
        print(json.dumps(_rendered(found), indent=1))
    elif arguments.zone:
        print("\n".join(zone_lines(found)))
    else:
        print(plain("\n".join(_wanted(found) if arguments.no_dns else found_lines(found))))
    return int(any(each.is_problem for _, looked in found for each in looked))


def _kept(config: Config) -> tuple[frozenset[str], Sequence[KeptKey] | None]:
    """Domains and keys, also where there is no database yet. Raises ConfigurationError."""
    if not is_ours(config):
        return frozenset(config.domains), None
    if not (config.data / schema.FILE).exists():
        return frozenset(config.domains), () if config.of(SigningOptions).sign else None
    with opened(config, "read") as hub:
        return names_now(config, hub).domains, keys_of(config, hub)


def _chosen(ours: frozenset[str], chosen: str | None) -> list[str]:
    """All of ours, or one of them. Raises ConfigurationError."""
    if chosen is None:
        return sorted(ours)
    domain = domain_of(chosen)
    if domain not in ours:
        raise ConfigurationError(f"{domain} is not one of our domains; `mailhub domain list` shows all")
    return [domain]


def _wanted(found: Found) -> Iterator[str]:
    return wanted_lines([topic for topic, _ in found])


def _unasked(parts: Sequence[Sequence[Topic]]) -> Found:
    return [(topic, ()) for topics in parts for topic in topics]


def _asked(config: Config, parts: Sequence[Sequence[Topic]]) -> Found:
    """One domain after the other, so that a thousand are not asked about at the same time."""
    with world(config, known_hosts=False) as here:
        tls, environment = ClientTls(config.value(CA_FILE)), here.environment
        https = Https(environment.network, environment.resolver, environment.clock, tls)
        asking = World(environment, fetch_over_https(environment, tls), https)
        return [pair for topics in parts for pair in here.wait(looked_at(topics, asking), _SECONDS)]


def _rendered(found: Found) -> dict[str, Any]:
    """As --json has it; `state` and `matters` are null where nobody was asked."""
    records = []
    for topic, looked in found:
        asked: Sequence[Looked | None] = looked or [None] if topic.records else looked
        for each in asked:
            records.append(
                {
                    "of": topic.of,
                    "what": topic.what,
                    "state": each.state if each else None,
                    "matters": each.matters if each else None,
                    "text": each.text if each else topic.about,
                    "found": [attrs.asdict(record) for record in each.found] if each else [],
                    "publish": [attrs.asdict(record) for record in (each.publish if each else topic.records)],
                    "beside": list(each.beside if each else topic.beside),
                }
            )
    return {"ok": not any(each.is_problem for _, looked in found for each in looked), "records": records}
