"""How much TLS is demanded of a server, by what its owner has published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from mailhub.credentials import PlainCredentials
from mailhub.delivery.relay.security import Security
from mailhub.delivery.relay.servers import Server, servers_of
from mailhub.delivery.relay.tls_policy import Demand
from mailhub.errors import TemporaryError
from mailhub.interfaces import HostAddresses, NextHop, TlsaRecord, TlsPolicy
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.services import SERVICES
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of

EE = TlsaRecord(3, 1, 1, bytes(32))
TA = TlsaRecord(2, 0, 1, bytes(32))
PKIX = TlsaRecord(1, 0, 1, bytes(32))
FOUND = HostAddresses(("192.0.2.1",), secure=True, canonical="mx.yy.example")
SERVER = Server("mx.yy.example", 25, found_by_dns=True, secure=True, domain="yy.example")
LOGIN = PlainCredentials("", "user", "password")


# Without TLS nobody may log in.
PLAIN = {"tls": None, "listen": {name: ["tcp:25"] if name == "smtp" else [] for name in SERVICES}}


def resolver(*records: TlsaRecord, name: str = "_25._tcp.mx.yy.example") -> FakeResolver:
    made = FakeResolver()
    made.dane[name] = list(records)
    made.secure.add("example")
    return made


def demand(source: FakeResolver, server: Server = SERVER, found: HostAddresses = FOUND) -> Demand | None:
    return result_of(Security(source).demanded(server, found)).demand


def test_records_that_dnssec_vouches_for_are_demanded() -> None:
    assert demand(resolver(EE, PKIX)) == Demand("dane", "mx.yy.example", (EE,))
    assert demand(resolver(TA)) == Demand("dane", "mx.yy.example", (TA,), ("mx.yy.example", "yy.example"))
    other = resolver(EE, name="_2525._tcp.mx.yy.example")
    assert demand(other, attrs.evolve(SERVER, port=2525)) == Demand("dane", "mx.yy.example", (EE,))


def test_records_that_cannot_be_used_demand_tls_alone() -> None:
    assert demand(resolver(PKIX)) == Demand("encrypted", "mx.yy.example")


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (attrs.evolve(SERVER, secure=False), FOUND),
        (SERVER, attrs.evolve(FOUND, secure=False)),
        (attrs.evolve(SERVER, tls="never"), FOUND),
        (attrs.evolve(SERVER, tls="encrypted"), FOUND),
        (attrs.evolve(SERVER, tls="required"), FOUND),
        (attrs.evolve(SERVER, credentials=LOGIN), FOUND),
    ],
)
def test_who_is_not_asked_for(server: Server, found: HostAddresses) -> None:
    source = resolver(EE)
    expected = demand(source, server, found)
    assert expected is not None
    assert expected.level == ("required" if server.credentials else server.tls)
    assert source.asked == []


def test_without_records_or_without_dnssec_it_is_as_ever() -> None:
    assert demand(FakeResolver()) == Demand("opportunistic", "mx.yy.example")
    insecure = resolver(EE)
    insecure.secure.clear()
    assert demand(insecure) == Demand("opportunistic", "mx.yy.example")


def test_records_that_cannot_be_looked_up_put_the_host_off() -> None:
    source = resolver(EE)
    source.failing.add("_25._tcp.mx.yy.example")
    with pytest.raises(TemporaryError) as caught:
        demand(source)
    assert caught.value.status == "4.7.5"


def test_a_name_that_leads_to_another_is_looked_for_there_first() -> None:
    found = HostAddresses(("192.0.2.1",), secure=True, canonical="real.example")
    both = resolver(EE)
    assert demand(both, found=found) == Demand("dane", "mx.yy.example", (EE,))
    both.dane["_25._tcp.real.example"] = [TA]
    names = ("real.example", "mx.yy.example", "yy.example")
    assert demand(both, found=found) == Demand("dane", "real.example", (TA,), names)


ZONE = """
yy.example. MX 10 mx.yy.example.
mx.yy.example. A 192.0.2.1
alone.yy.example. A 192.0.2.2
far.yy.example. MX 10 mx.far.example.
far.example. MX 10 mx.yy.example.
mx.far.example. A 192.0.2.3
alias.yy.example. MX 10 here.yy.example.
here.yy.example. CNAME mx.yy.example.
away.yy.example. MX 10 there.yy.example.
there.yy.example. CNAME mx.far.example.
back.yy.example. MX 10 back.far.example.
back.far.example. CNAME mx.yy.example.
known.yy.example. CNAME other.yy.example.
other.yy.example. CNAME yy.example.
"""
KEY = "ab" * 32
EE_OF, TA_OF, PKIX_OF, UNKNOWN_OF = (f"{each} {KEY}" for each in ("3 1 1", "2 0 1", "1 1 1", "9 1 1"))


def demanded(
    domain: str, tlsa: Mapping[str, Sequence[str]], failing: Sequence[str] = (), tls: TlsPolicy = "opportunistic"
) -> str:
    """What is demanded of the exchanger of a domain, in one word; DNSSEC vouches for yy.example and nothing else."""
    source = FakeResolver()
    lines = [f"_25._tcp.{host}.example. TLSA {record}" for host, records in tlsa.items() for record in records]
    source.load(ZONE.replace(". ", ". 60 IN ") + "\n".join(lines).replace(". ", ". 60 IN "))
    source.secure.add("yy.example")
    source.failing.update(failing)
    environment: Any = SimpleNamespace(resolver=source, random=Random(1))
    (server,) = result_of(servers_of(domain, NextHop(tls=tls), "mx.xx.example", environment))
    try:
        found = result_of(Security(source).demanded(server, result_of(source.host(server.host)))).demand
    except TemporaryError as error:
        return f"waits {error.status}"
    assert found is not None
    usages = " ".join(str(each.usage) for each in found.records)
    return " ".join(filter(None, (found.level, usages, "as " + " ".join(found.names) if found.names else "")))


NAMED = "as mx.yy.example yy.example"
TABLE: list[tuple[str, dict[str, list[str]], str]] = [
    # Usages: that of the host is asked for no name, that of an authority is; others are as good as none of use.
    ("yy.example", {"mx.yy": [EE_OF]}, "dane 3"),
    ("yy.example", {"mx.yy": [TA_OF]}, f"dane 2 {NAMED}"),
    ("yy.example", {"mx.yy": [TA_OF, EE_OF]}, f"dane 2 3 {NAMED}"),
    ("yy.example", {"mx.yy": [PKIX_OF, EE_OF, UNKNOWN_OF]}, "dane 3"),
    ("yy.example", {"mx.yy": [PKIX_OF]}, "encrypted"),
    ("yy.example", {"mx.yy": [UNKNOWN_OF]}, "encrypted"),
    ("yy.example", {}, "opportunistic"),
    # A domain without MX is its own exchanger.
    ("alone.yy.example", {"alone.yy": [TA_OF]}, "dane 2 as alone.yy.example"),
    # Nobody vouches for the host, be it that its domain's MX is vouched for, or for the MX.
    ("far.yy.example", {"mx.far": [EE_OF]}, "opportunistic"),
    ("far.example", {"mx.yy": [EE_OF]}, "opportunistic"),
    # Aliases: where they lead first; what leads out of what is vouched for counts by its own name, if by any.
    ("alias.yy.example", {"mx.yy": [EE_OF], "here.yy": [TA_OF]}, "dane 3"),
    ("alias.yy.example", {"mx.yy": [TA_OF]}, "dane 2 as mx.yy.example here.yy.example alias.yy.example"),
    ("alias.yy.example", {"here.yy": [TA_OF]}, "dane 2 as here.yy.example alias.yy.example"),
    ("away.yy.example", {"mx.far": [EE_OF], "there.yy": [TA_OF]}, "dane 2 as there.yy.example away.yy.example"),
    ("away.yy.example", {"mx.far": [EE_OF]}, "opportunistic"),
    ("back.yy.example", {"mx.yy": [EE_OF], "back.far": [EE_OF]}, "opportunistic"),
    # RFC 7672 3.2.2: where the aliases of the domain itself lead is a name that fits, too.
    ("known.yy.example", {"mx.yy": [TA_OF]}, "dane 2 as mx.yy.example known.yy.example yy.example"),
]


@pytest.mark.parametrize(("domain", "tlsa", "expected"), TABLE)
def test_what_is_demanded_by_what_dnssec_vouches_for(domain: str, tlsa: dict[str, list[str]], expected: str) -> None:
    assert demanded(domain, tlsa) == expected
    # Who is known by such records alone is sent nothing without.
    strict = expected if expected.startswith("dane") else "waits 4.7.5"
    assert demanded(domain, tlsa, tls="dane") == strict


@pytest.mark.parametrize(
    ("domain", "failing", "expected"),
    [
        ("yy.example", "mx.yy", "waits 4.7.5"),
        ("alias.yy.example", "mx.yy", "waits 4.7.5"),
        ("alias.yy.example", "here.yy", "dane 3"),
        ("away.yy.example", "there.yy", "waits 4.7.5"),
        ("away.yy.example", "mx.far", "dane 3"),
        ("far.yy.example", "mx.far", "opportunistic"),
    ],
)
def test_records_that_cannot_be_looked_up_where_there_may_be_some(domain: str, failing: str, expected: str) -> None:
    tlsa = {"mx.yy": [EE_OF], "there.yy": [EE_OF], "mx.far": [EE_OF]}
    assert demanded(domain, tlsa, [f"_25._tcp.{failing}.example"]) == expected


def test_mail_waits_for_tls_that_is_demanded_and_goes_when_it_is_there() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["a"])
        yy = internet.hub("yy.example", ["b"], PLAIN)
        internet.resolver.secure.add("yy.example")
        internet.resolver.dane["_25._tcp.mx.yy.example"] = [PKIX]
        xx.submit("a@xx.example", ["b@yy.example"], b"Subject: x\r\n\r\nx\r\n")
        internet.run(600)
        assert yy.inbox("b@yy.example") == []
        (message,) = xx.queued()
        (row,) = message.recipients
        assert row.last is not None
        assert (row.last.status, row.attempts > 1) == ("4.7.4", True)
        internet.resolver.dane.clear()
        internet.run(8000)
        assert len(yy.inbox("b@yy.example")) == 1


def hand_in(host: Host, message: bytes, *, requiretls: bool) -> None:
    mail = Mail(Address("a", "xx.example"), "8BITMIME", requiretls=requiretls)
    host.internet.wait(host.hand_in(mail, [Recipient(Address("b", "yy.example"))], message))


@pytest.mark.parametrize("extensions_off", [[], ["REQUIRETLS"]])
def test_requiretls_is_offered_under_tls_and_kept_on_the_whole_way(extensions_off: list[str]) -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["a"])
        yy = internet.hub("yy.example", ["b"], {"smtp": {"extensions_off": extensions_off}})
        caller = internet.call(yy, "smtp")
        assert b"REQUIRETLS" not in caller.ask(b"EHLO a\r\n", b"250 ")
        caller.ask(b"STARTTLS\r\n", b"220 ")
        caller.start_tls()
        offered = b"250-REQUIRETLS" in caller.ask(b"EHLO a\r\n", b"250 ")
        assert offered is not bool(extensions_off)
        internet.resolver.secure.add("yy.example")
        hand_in(xx, b"Subject: x\r\n\r\nx\r\n", requiretls=True)
        internet.run(60)
        assert len(yy.inbox("b@yy.example")) == (1 if offered else 0)
        assert [b"Status: 5.7.30" in each for each in xx.inbox("a@xx.example")] == ([] if offered else [True])


def test_requiretls_without_dnssec_or_a_policy_is_returned() -> None:
    with Internet() as internet:
        xx, yy = internet.hub("xx.example", ["a"]), internet.hub("yy.example", ["b"])
        hand_in(xx, b"Subject: x\r\n\r\nx\r\n", requiretls=True)
        internet.run(60)
        assert yy.inbox("b@yy.example") == []
        (report,) = xx.inbox("a@xx.example")
        assert b"Status: 5.7.30" in report


@pytest.mark.parametrize(
    ("field", "requiretls", "delivered"),
    [
        (b"TLS-Required: No\r\n", False, 1),
        (b"tls-required:  no \r\n", False, 1),
        (b"TLS-Required: Yes\r\n", False, 0),
        (b"TLS-Required: No\r\nTLS-Required: No\r\n", False, 0),
        (b"X: TLS-Required: No\r\n", False, 0),
        (b"TLS-Required: No\r\n", True, 0),
    ],
)
@pytest.mark.parametrize("failing", [False, True])
def test_who_would_rather_have_mail_arrive_in_the_clear_says_so_in_the_header(
    field: bytes, requiretls: bool, delivered: int, failing: bool
) -> None:
    with Internet() as internet:
        xx, yy = internet.hub("xx.example", ["a"]), internet.hub("yy.example", ["b"], PLAIN)
        internet.resolver.secure.add("yy.example")
        internet.resolver.dane["_25._tcp.mx.yy.example"] = [EE]
        if failing:
            internet.resolver.failing.add("_25._tcp.mx.yy.example")
        hand_in(xx, field + b"Subject: x\r\n\r\nTLS-Required: No\r\n", requiretls=requiretls)
        internet.run(60)
        assert len(yy.inbox("b@yy.example")) == delivered
