"""What `mailhub check --dns` says: how others see this server by DNS, and whether it can send and receive.

All of it is a warning: DNS within a network may say other things than outside, and what is missing may be meant so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from mailhub.cli.finding import Finding
from mailhub.cli.outcome import plain
from mailhub.cli.records.domain import topics_of_domain
from mailhub.cli.records.host import topics_of_host
from mailhub.cli.records.server import Server, server_of
from mailhub.cli.records.topic import Looked, Topic, World, looked_at
from mailhub.cli.world import world
from mailhub.delivery.authentication.keys import KeptKey
from mailhub.delivery.limits import CA_FILE
from mailhub.delivery.relay.sts import Fetch, fetch_over_https
from mailhub.delivery.screening.dns_lists import DnsLists, parse_entries
from mailhub.errors import MailError
from mailhub.interfaces import Environment
from mailhub.net.tls import ClientTls

if TYPE_CHECKING:
    from mailhub.config.settings import Config

_SECONDS = 300.0
_LOOKUP_SECONDS = 10.0


def dns(config: Config, domains: Collection[str], keys: Sequence[KeptKey] | None) -> Iterator[Finding]:
    """Of the host, these domains (A-labels) and these keys of DKIM, by the configuration's resolver."""
    with world(config, known_hosts=False) as found:
        fetch = fetch_over_https(found.environment, ClientTls(config.value(CA_FILE)))
        look = Look(config, found.environment, fetch, keys)

        async def everything() -> list[Finding]:
            return [finding async for finding in look.at_all(sorted(domains))]

        yield from found.wait(everything(), _SECONDS)


# What is told where it is not there; other records are told where they are wrong, and `mailhub dns` tells all.
_EXPECTED = frozenset({"A", "PTR", "MX", "SPF", "DKIM", "MTA-STS", "TLSRPT"})
# What is told where it is right.
_TOLD = frozenset({"A", "PTR", "TLSA", "MX", "MTA-STS"})


@attrs.frozen(eq=False)
class Look:
    """`fetch` gets policies of MTA-STS. `keys` are those of DKIM, None where they are not to be looked at."""

    _config: Config
    _environment: Environment
    _fetch: Fetch
    _keys: Sequence[KeptKey] | None = None

    async def at_all(self, domains: Collection[str]) -> AsyncIterator[Finding]:
        """Everything. Never raises MailError."""
        server, told = server_of(self._config), set[str]()
        of_domains = (topics_of_domain(server, name, self._keys) for name in domains)
        parts = [topics_of_host(server, domains), *of_domains]
        for number, topics in enumerate(parts):
            for topic, looked in await looked_at(topics, World(self._environment, self._fetch)):
                for each in looked:
                    if _is_told(topic, each) and each.text not in told:
                        told.add(each.text)  # what several records lack is told once
                        yield (each.state == "right") or None, plain(each.text)
            if number == 0:
                async for line in self._listed(server):
                    yield line

    async def _listed(self, server: Server) -> AsyncIterator[Finding]:
        try:
            async for line in self._lists(server):
                yield line
        except MailError as error:
            text = f"hostname {server.hostname}: {error.text}"
            yield None, text + (f" ({error.detail})" if error.detail else "")

    async def _lists(self, server: Server) -> AsyncIterator[Finding]:
        """Whether we are on the lists by which we judge others."""
        texts = [
            text
            for (kind, _), part in self._config.parts.items()
            if kind == "policy" and part.type == "dnsbl"
            for text in part.options.get("lists", ())
        ]
        entries = tuple([each for each in parse_entries(tuple(dict.fromkeys(texts))) if each.weight > 0])
        if not entries:
            return
        lists = DnsLists(entries, _LOOKUP_SECONDS, self._environment)
        for address in server.sources or await self._environment.resolver.addresses(server.hostname):
            listed = await lists.look_up(address)
            if listed.weight > 0:
                reason = await lists.reason(address, listed.zone)
                why = f", which says: {reason}" if reason else ""
                yield None, f"address {address} is listed by {listed.zone}{why}: others who go by it refuse its mail"
            else:
                yield True, f"address {address} is on none of the lists of [policy]"


def _is_told(topic: Topic, looked: Looked) -> bool:
    if looked.state == "right":
        return topic.what in _TOLD
    # That the host's own name says nothing of who sends by it is an advice.
    return looked.state != "missing" or (topic.what in _EXPECTED and (looked.matters or topic.what != "SPF"))
