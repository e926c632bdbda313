"""What `mailhub check --dns` says: how others see this server by DNS, and whether it can send and receive.

All of it is a warning: DNS within a network may say other things than outside, and what is missing may be meant so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

import attrs
from cryptography import x509

from mailhub.cli.finding import Finding
from mailhub.cli.world import world
from mailhub.config import routes
from mailhub.delivery.limits import CA_FILE
from mailhub.delivery.relay.sts import Fetch, PolicyFailure, fetch_over_https
from mailhub.delivery.screening.dns_lists import DnsLists, parse_entries
from mailhub.errors import MailError
from mailhub.interfaces import Environment
from mailhub.message.mta_sts import StsPolicy, record_id
from mailhub.message.tls_report import reporting_uris
from mailhub.net.dane import DANE_TA, matches, usable
from mailhub.net.tls import ClientTls

if TYPE_CHECKING:
    from mailhub.config.settings import Config

_SECONDS = 300.0
_LOOKUP_SECONDS = 10.0


def dns(config: Config, domains: Collection[str]) -> Iterator[Finding]:
    """Of the host and these domains (A-labels), by the configuration's resolver."""
    with world(config) as found:
        fetch = fetch_over_https(found.environment, ClientTls(config.value(CA_FILE)))
        look = Look(config, found.environment, fetch)

        async def everything() -> list[Finding]:
            return [finding async for finding in look.at_all(sorted(domains))]

        yield from found.wait(everything(), _SECONDS)


@attrs.frozen(eq=False)
class Look:
    """`fetch` gets policies of MTA-STS."""

    _config: Config
    _environment: Environment
    _fetch: Fetch

    async def at_all(self, domains: Collection[str]) -> AsyncIterator[Finding]:
        """Everything. Never raises MailError."""
        own = [(f"hostname {self._hostname}", part) for part in (self._host(), self._dane(), self._lists())]
        for what, part in (*own, *((f"domain {name}", self._domain(name)) for name in domains)):
            try:
                async for line in part:
                    yield line
            except MailError as error:
                yield None, f"{what}: {error.text}" + (f" ({error.detail})" if error.detail else "")

    @property
    def _hostname(self) -> str:
        return self._config.hostname

    async def _addresses(self) -> list[str]:
        """Those that mail comes from: what is configured, or else the host's in DNS."""
        told = routes.relay_addresses(self._config)
        return list(told.source) or list(await self._environment.resolver.addresses(self._hostname))

    async def _host(self) -> AsyncIterator[Finding]:
        resolver = self._environment.resolver
        found = await resolver.addresses(self._hostname)
        if found:
            yield True, f"hostname {self._hostname} has {', '.join(found)}"
        else:
            yield (
                None,
                f"hostname {self._hostname} has no address in DNS: others can neither reach this server nor look up "
                "who it is; add an A or AAAA record",
            )
        for address in await self._addresses():
            if not ip_address(address).is_global:
                yield None, f"address {address} is of no use to the rest of the world"
                continue
            names = await resolver.pointers(address)
            if self._hostname in names:
                yield True, f"address {address} is called {self._hostname} (PTR)"
            else:
                says = f"is called {', '.join(names)} (PTR)" if names else "has no name (PTR)"
                yield (
                    None,
                    f"address {address} {says}, and not {self._hostname}: many servers refuse its mail; have whoever "
                    "gave you the address set its PTR record",
                )

    async def _dane(self) -> AsyncIterator[Finding]:
        found = await self._environment.resolver.tlsa(f"_25._tcp.{self._hostname}")
        records = usable(found.records)
        if not records:
            return
        if not found.secure:
            yield (
                None,
                f"TLSA records of {self._hostname} are not vouched for by DNSSEC, as far as our resolver says: nobody "
                "goes by them ([dns] validating, if it does look)",
            )
        if self._config.tls is None:
            yield (
                None,
                f"{self._hostname} has TLSA records, and no TLS is configured: servers that look keep their mail",
            )
            return
        chain = x509.load_pem_x509_certificates(self._config.tls.certificate.read_bytes())
        shown = {True: chain, False: chain[:1]}  # an authority's may be any of them
        if any(matches(record, each) for record in records for each in shown[record.usage == DANE_TA]):
            yield True, f"a TLSA record of {self._hostname} fits the certificate"
        else:
            yield (
                None,
                f"no TLSA record of {self._hostname} fits {self._config.tls.certificate}: servers that look keep their "
                "mail; publish the new one before the certificate is changed",
            )

    async def _lists(self) -> AsyncIterator[Finding]:
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
        for address in await self._addresses():
            listed = await lists.look_up(address)
            if listed.weight > 0:
                reason = await lists.reason(address, listed.zone)
                why = f", which says: {reason}" if reason else ""
                yield None, f"address {address} is listed by {listed.zone}{why}: others who go by it refuse its mail"
            else:
                yield True, f"address {address} is on none of the lists of [policy]"

    async def _domain(self, domain: str) -> AsyncIterator[Finding]:
        resolver = self._environment.resolver
        found = sorted(await resolver.mail_exchangers(domain), key=lambda each: each.preference)
        hosts = [each.host.lower() for each in found]
        if not hosts:
            yield None, f"domain {domain} has no MX record: add one that names {self._hostname}"
        elif "" in hosts:
            yield None, f"domain {domain} says that it takes no mail (null MX)"
        elif self._hostname not in hosts:
            yield None, f"domain {domain} has its mail at {', '.join(hosts)} (MX), and not at {self._hostname}"
        else:
            yield True, f"domain {domain} has its mail here (MX)"
        if not any(text.lower().startswith(b"v=spf1") for text in await resolver.texts(domain)):
            yield None, f'domain {domain} does not say who may send for it: add a TXT record such as "v=spf1 mx -all"'
        async for line in self._policy(domain):
            yield line
        if not reporting_uris(await resolver.texts(f"_smtp._tls.{domain}")):
            yield (
                None,
                f"domain {domain} asks for no reports of TLS: add a TXT record _smtp._tls.{domain} such as "
                f'"v=TLSRPTv1; rua=mailto:postmaster@{domain}"',
            )

    async def _policy(self, domain: str) -> AsyncIterator[Finding]:
        texts = await self._environment.resolver.texts(f"_mta-sts.{domain}")
        if not texts:
            yield None, f"domain {domain} has no MTA-STS policy: what comes to it may be read or led away on its way"
            return
        if record_id(texts) is None:
            yield None, f'_mta-sts.{domain} has no single record such as "v=STSv1; id=1" (TXT): nobody goes by it'
            return
        try:
            policy = StsPolicy.parse(await self._fetch(domain))
        except PolicyFailure as error:
            yield None, f"the MTA-STS policy of {domain} cannot be had: {error.text}"
        except ValueError as error:
            yield None, f"the MTA-STS policy of {domain} is wrong: {error}"
        else:
            if policy.mode != "none" and not policy.allows(self._hostname):
                yield (
                    None,
                    f"the MTA-STS policy of {domain} does not name {self._hostname}: servers that look do not send "
                    f"here (mode {policy.mode})",
                )
            else:
                yield True, f"domain {domain} has an MTA-STS policy (mode {policy.mode})"
