"""Who may send for a domain: its SPF record, and that of the name that we say in HELO (RFC 7208)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import attrs

from mailhub.checks.spf.check import LOOKUPS_LIMIT, Spf, check_host
from mailhub.checks.spf.lookups import lookups_of
from mailhub.checks.spf.record import Record as SpfRecord
from mailhub.checks.spf.record import SpfSyntaxError, is_spf, parse_record
from mailhub.cli.records.record import Record, txt
from mailhub.cli.records.server import Server
from mailhub.cli.records.topic import Looked, Topic, World

_VERSION = "v=spf1"


def spf_of_host(server: Server, of: str) -> Topic:
    """That of the host's own name, which speaks for reports: they have no sender (RFC 7208 2.4)."""
    about = "it sends under its own name, too: reports have no sender (SPF, RFC 7208)"
    wanted = _wanted("a", server)
    return Topic("SPF", of, about, [txt(server.hostname, wanted)], _Spf(server, server.hostname, wanted).look)


def spf_of_domain(server: Server, domain: str, of: str) -> Topic:
    """That of a domain of ours."""
    wanted = _wanted("mx", server)
    about = f"only it sends mail of {domain} (SPF, RFC 7208)"
    return Topic("SPF", of, about, [txt(domain, wanted)], _Spf(server, domain, wanted, is_host=False).look)


def _wanted(mechanism: str, server: Server) -> str:
    return " ".join([_VERSION, mechanism, *map(_network, server.sources), "-all"])


def _network(address: str) -> str:
    return f"ip{ip_address(address).version}:{address}"


@attrs.frozen(eq=False)
class _Spf:
    """`wanted` is the record where there is none yet."""

    _server: Server
    _domain: str
    _wanted: str
    _is_host: bool = True

    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        resolver, domain = world.environment.resolver, self._domain
        texts = [each for each in await resolver.texts(domain) if is_spf(each)]
        shown = [txt(domain, each) for each in texts]
        if not texts:
            kind = "hostname" if self._is_host else "domain"
            text = f'{kind} {domain} does not say who may send for it: add a TXT record such as "{self._wanted}"'
            return [Looked("missing", text, publish=[txt(domain, self._wanted)], matters=not self._is_host)]
        if len(texts) > 1:
            text = f"{domain} has {len(texts)} SPF records, of which none counts (RFC 7208 4.5): make one of them"
            return [Looked("wrong", text, shown, [txt(domain, self._merged(texts))], matters=True)]
        try:
            record = parse_record(texts[0])
        except SpfSyntaxError as error:
            text = f"the SPF record of {domain} cannot be read: {error}"
            return [Looked("wrong", text, shown, [txt(domain, self._wanted)], matters=True)]
        return await self._judged(world, texts[0], record, shown)

    async def _judged(
        self, world: World, octets: bytes, record: SpfRecord, shown: Sequence[Record]
    ) -> Sequence[Looked]:
        resolver, domain = world.environment.resolver, self._domain
        cost = await lookups_of(record, resolver)
        if cost > LOOKUPS_LIMIT:
            text = (
                f"the SPF record of {domain} takes {cost} look-ups, of which {LOOKUPS_LIMIT} are allowed "
                "(RFC 7208 4.6.4): others get no result by it; leave some include: out"
            )
            return [Looked("wrong", text, shown, matters=True)]
        if any(each.kind == "all" and each.result == "pass" for each in record.directives):
            text = f"the SPF record of {domain} allows everybody to send for it: end it with -all"
            mended = octets.decode("ascii").replace("+all", "-all")
            mended = " ".join("-all" if term.lower() == "all" else term for term in mended.split(" "))
            return [Looked("wrong", text, shown, [txt(domain, mended)], matters=True)]
        if self._server.smarthost:
            text = (
                f"domain {domain} says who may send for it (SPF), by {_lookups(cost)}; mail goes out by "
                f"{self._server.smarthost}, whose addresses have to be among them"
            )
            return [Looked("right", text, shown)]
        addresses = self._server.sources or await resolver.addresses(self._server.hostname)
        if not addresses:
            text = f"the SPF record of {domain} cannot be compared: no address of this host is known"
            return [Looked("unknown", text, shown)]
        refused = [(each, found) for each in addresses if (found := await self._asked(world, each)).value != "pass"]
        if not refused:
            text = f"domain {domain} allows {', '.join(addresses)} to send for it (SPF), by {_lookups(cost)}"
            return [Looked("right", text, shown)]
        address, found = refused[0]
        why = f"{found.value}: {found.reason}" if found.reason else found.value
        text = f"the SPF record of {domain} does not allow {address}, from which its mail comes ({why})"
        if found.value == "temperror":
            return [Looked("unknown", text, shown, matters=True)]
        more = [] if found.value == "permerror" else [_network(each) for each, _ in refused]
        mended = " ".join([_VERSION, *more, *octets.decode("ascii").split(" ")[1:]])
        return [Looked("wrong", text, shown, [txt(domain, mended)] if more else [], matters=True)]

    async def _asked(self, world: World, address: str) -> Spf:
        environment, domain = world.environment, self._domain
        return await check_host(
            address,
            domain,
            f"postmaster@{domain}",
            self._server.hostname,
            environment.resolver,
            clock=environment.clock,
            hostname=self._server.hostname,
            now=environment.now(),
        )

    def _merged(self, texts: Sequence[bytes]) -> str:
        """All that they allow, and the ending of the last."""
        terms = [term for octets in texts for term in octets.decode("ascii", "replace").split(" ")[1:] if term]
        ends = [term for term in terms if term.lower().lstrip("+-~?") == "all"]
        others = dict.fromkeys(term for term in terms if term not in ends)
        return " ".join([_VERSION, *others, *(ends[-1:] or ["-all"])])


def _lookups(number: int) -> str:
    return f"{number} look-up{'' if number == 1 else 's'} of {LOOKUPS_LIMIT}"
