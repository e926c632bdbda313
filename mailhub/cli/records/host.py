"""The records of a server's own name: its addresses, their names, and its certificate."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from ipaddress import ip_address

import dns.reversename
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailhub.cli.records.record import Record
from mailhub.cli.records.server import Server
from mailhub.cli.records.spf import spf_of_host
from mailhub.cli.records.topic import Looked, Topic, World
from mailhub.net.dane import DANE_TA, matches, usable


def topics_of_host(server: Server, domains: Collection[str] = ()) -> list[Topic]:
    """`domains` are those whose records are looked at, too."""
    own = f"hostname {server.hostname}"
    about = "where this machine is (AAAA: only if it has an IPv6 address that others reach)"
    called = "the address's name, set by whoever gave you the address: many servers refuse mail without it"
    found = [
        Topic("A", own, about, address_records(server.hostname, server.addresses), _Addresses(server).look),
        Topic("PTR", own, called, pointer_records(server), _Pointers(server).look),
    ]
    if server.hostname not in domains:
        found.append(spf_of_host(server, own))
    about = (
        "the certificate's key, for servers that go by DANE (RFC 7672), which takes DNSSEC: keep the key when the "
        "certificate is renewed, or publish the new one before"
    )
    found.append(Topic("TLSA", own, about, _tlsa_records(server), _Tlsa(server).look))
    return found


def address_records(name: str, addresses: Sequence[str]) -> list[Record]:
    """Those of a name, to be filled in where no address is known."""
    if addresses:
        return [Record(name, "A" if ip_address(each).version == 4 else "AAAA", each) for each in addresses]
    return [
        Record(name, "A", "<its public IPv4 address>", is_known=False),
        Record(name, "AAAA", "<its public IPv6 address>", is_known=False),
    ]


def pointer_records(server: Server) -> list[Record]:
    """Those of the addresses that mail comes from."""
    addresses = server.sources or server.addresses
    if not addresses:
        name = "<address, reversed>.in-addr.arpa"
        return [Record(name, "PTR", f"{server.hostname}.", is_known=False)]
    return [_pointer(each, server.hostname) for each in addresses]


def _pointer(address: str, name: str) -> Record:
    reverse = dns.reversename.from_address(address).to_text(omit_final_dot=True)
    return Record(reverse, "PTR", f"{name}.")


class _Of:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = server.hostname


class _Addresses(_Of):
    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        found = await world.environment.resolver.host(self._name)
        if not found.addresses:
            text = (
                f"hostname {self._name} has no address in DNS: others can neither reach this server nor look up "
                "who it is; add an A or AAAA record"
            )
            publish = address_records(self._name, self._server.addresses)
            return [Looked("missing", text, publish=publish, matters=True)]
        records = address_records(self._name, found.addresses)
        looked = [Looked("right", f"hostname {self._name} has {', '.join(found.addresses)}", records)]
        if found.canonical not in ("", self._name):
            text = (
                f"hostname {self._name} is another name of {found.canonical} (CNAME), which that of a mail exchanger "
                "must not be (RFC 2181 10.3)"
            )
            looked.append(Looked("wrong", text, publish=records))
        for address in found.addresses:
            if not ip_address(address).is_global:
                text = f"address {address} is of no use to the rest of the world"
                looked.append(Looked("wrong", text, address_records(self._name, [address])))
        return looked


class _Pointers(_Of):
    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        resolver = world.environment.resolver
        forth = await resolver.addresses(self._name)
        return [await self._of(each, forth, world) for each in self._server.sources or forth]

    async def _of(self, address: str, forth: Sequence[str], world: World) -> Looked:
        names = await world.environment.resolver.pointers(address)
        record = _pointer(address, self._name)
        found = [_pointer(address, each) for each in names]
        if self._name not in names:
            says = f"is called {', '.join(names)} (PTR)" if names else "has no name (PTR)"
            text = (
                f"address {address} {says}, and not {self._name}: many servers refuse its mail; have whoever "
                "gave you the address set its PTR record"
            )
            return Looked("wrong" if names else "missing", text, found, [record], matters=True)
        if ip_address(address) not in map(ip_address, forth):
            text = (
                f"address {address} is called {self._name} (PTR), which does not lead back to it: many servers refuse "
                "its mail; add it to the host's addresses"
            )
            return Looked("wrong", text, found, address_records(self._name, [address]), matters=True)
        return Looked("right", f"address {address} is called {self._name} (PTR)", found)


def _tlsa_records(server: Server) -> list[Record]:
    """3 1 1: the SHA-256 digest of the key that we show (RFC 7672 3.1.1)."""
    if not server.chain:
        return []
    key = server.chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [Record(f"_25._tcp.{server.hostname}", "TLSA", f"3 1 1 {hashlib.sha256(key).hexdigest()}")]


class _Tlsa(_Of):
    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        server, wanted = self._server, _tlsa_records(self._server)
        name = f"_25._tcp.{self._name}"
        found = await world.environment.resolver.tlsa(name)
        shown = [
            Record(name, "TLSA", f"{each.usage} {each.selector} {each.matching} {each.data.hex()}")
            for each in found.records
        ]
        records = usable(found.records)
        if not records and not wanted:
            return []
        if not records:
            vouched = "" if found.secure else ", which our resolver does not see there"
            text = f"hostname {self._name} has no TLSA record (DANE): of use where DNSSEC vouches for its zone{vouched}"
            return [Looked("missing", text, shown, wanted)]
        looked = []
        if not found.secure:
            text = (
                f"TLSA records of {self._name} are not vouched for by DNSSEC, as far as our resolver says: nobody "
                "goes by them ([dns] validating, if it does look)"
            )
            looked.append(Looked("wrong", text, shown))
        if server.unread:
            return [*looked, Looked("unknown", f"TLSA records of {self._name} cannot be compared: {server.unread}")]
        if not server.chain:
            text = f"{self._name} has TLSA records, and no TLS is configured: servers that look keep their mail"
            return [*looked, Looked("wrong", text, shown, matters=found.secure)]
        offered = {True: server.chain, False: server.chain[:1]}  # an authority's may be any of them
        if any(matches(record, each) for record in records for each in offered[record.usage == DANE_TA]):
            text = f"a TLSA record of {self._name} fits the certificate"
            return [*looked, Looked("right", text, shown)]
        text = (
            f"no TLSA record of {self._name} fits {server.certificate}: servers that look keep their "
            "mail; publish the new one before the certificate is changed"
        )
        return [*looked, Looked("wrong", text, shown, wanted, matters=found.secure)]
