"""Which logo the owner of a domain wants to be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.checks.bimi import BimiFault, BimiRecord, bimi, is_bimi, parse_bimi, parse_uri, selector_of
from mailhub.checks.dmarc.evaluate import Dmarc
from mailhub.checks.dmarc.walk import Walks
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of

HEADER = b"From: a@news.yy.example\r\nSubject: x\r\n"
PASSED = Dmarc("pass", "news.yy.example", "yy.example", "reject")
LOGO = b"v=BIMI1; l=https://yy.example/logo.svg"


@pytest.mark.parametrize(
    ("octets", "record"),
    [
        (LOGO, BimiRecord("https://yy.example/logo.svg")),
        (b" v = BIMI1 ;a=https://yy.example/a.pem; l=", BimiRecord("", "https://yy.example/a.pem")),
        (b"v=BIMI1;l=;a=;", BimiRecord()),
        (b"v=BIMI1; l=https://yy.example:443?x=1; avp=brand", BimiRecord("https://yy.example:443?x=1")),
    ],
)
def test_records_are_read(octets: bytes, record: BimiRecord) -> None:
    assert is_bimi(octets)
    assert parse_bimi(octets) == record
    assert record.declines == (record == BimiRecord())
    assert parse_bimi(str(record).encode()) == record


@pytest.mark.parametrize(
    "octets",
    [
        b"v=BIMI1",
        b"v=BIMI1; l=http://yy.example/logo.svg",
        b"v=BIMI1; l=https://yy.example:8443/logo.svg",
        b"v=BIMI1; l=https://a@yy.example/logo.svg",
        b"v=BIMI1; l=https://yy.example/a, https://yy.example/b",
        b"v=BIMI1; l=https://yy.example/a b",
        b"v=BIMI1; l=https:///logo.svg",
        b"v=BIMI1; l=https://yy.example/" + b"a" * 400,
        b"v=BIMI1; l=; a=javascript:1",
        b"v=BIMI1; l=; l=",
        b"v=BIMI1; nonsense",
    ],
)
def test_a_record_that_cannot_be_used(octets: bytes) -> None:
    assert is_bimi(octets)
    with pytest.raises(BimiFault):
        parse_bimi(octets)


@pytest.mark.parametrize("octets", [b"", b"v=BIMI10; l=", b"l=; v=BIMI1", b"v=bimi1; l=", b"v=spf1"])
def test_what_is_no_record(octets: bytes) -> None:
    assert not is_bimi(octets)


@given(st.binary(max_size=300))
def test_no_octets_make_more_of_a_record_than_two_uris(octets: bytes) -> None:
    try:
        record = parse_bimi(b"v=BIMI1; l=https://a.example/" + octets)
    except BimiFault:
        return
    assert "\r" not in str(record)
    assert "\n" not in str(record)
    assert parse_uri(record.location)[0] == "a.example"


@pytest.mark.parametrize(
    ("field", "selector"),
    [
        (b"", "default"),
        (b"BIMI-Selector: v=BIMI1; s=Brand\r\n", "brand"),
        (b"bimi-selector: v=BIMI1;\r\n s=one.two;\r\n", "one.two"),
        (b"BIMI-Selector: s=brand; v=BIMI1\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=a..b\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=" + b"a" * 64 + b"\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=a\\.b\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=a\r\nBIMI-Selector: v=BIMI1; s=b\r\n", "default"),
        (b"BIMI-Selector: v=BIMI1; s=a; x=" + b"y" * 1000 + b"\r\n", "default"),
    ],
)
def test_the_selector_of_a_message(field: bytes, selector: str) -> None:
    assert selector_of(HEADER + field) == selector


def zone(**policies: bytes) -> FakeResolver:
    found = FakeResolver()
    found.txt["_dmarc.yy.example"] = [policies.get("above", b"v=DMARC1; p=reject")]
    if "own" in policies:
        found.txt["_dmarc.news.yy.example"] = [policies["own"]]
    found.txt["default._bimi.yy.example"] = [LOGO]
    return found


def found(resolver: FakeResolver, header: bytes = HEADER, dmarc: Dmarc | None = PASSED) -> str:
    return str(result_of(bimi(header, dmarc, Walks(resolver))).result)


def test_the_record_of_the_domain_counts_before_that_of_its_organization() -> None:
    resolver = zone()
    assert found(resolver) == "bimi=pass header.d=yy.example header.selector=default"
    resolver.txt["default._bimi.news.yy.example"] = [b"v=other", b"v=BIMI1; l=; a="]
    assert found(resolver) == "bimi=declined header.d=news.yy.example header.selector=default"
    resolver.txt["s1._bimi.news.yy.example"] = [LOGO + b"; a=https://yy.example/vmc.pem"]
    header = HEADER + b"BIMI-Selector: v=BIMI1; s=s1\r\n"
    assert found(resolver, header) == (
        'bimi=pass header.d=news.yy.example header.selector=s1 policy.authority-uri="https://yy.example/vmc.pem"'
    )
    assert found(resolver, HEADER + b"BIMI-Selector: v=BIMI1; s=s2\r\n") == (
        "bimi=none header.d=news.yy.example header.selector=s2"
    )


@pytest.mark.parametrize("dmarc", [None, Dmarc("fail", "yy.example"), Dmarc("none", "yy.example"), Dmarc("temperror")])
def test_without_dmarc_nobody_is_asked(dmarc: Dmarc | None) -> None:
    resolver = zone()
    assert found(resolver, dmarc=dmarc) == 'bimi=skipped reason="DMARC has not passed"'
    assert not resolver.asked


@pytest.mark.parametrize(
    ("policies", "value"),
    [
        ({"above": b"v=DMARC1; p=quarantine"}, "pass"),
        ({"above": b"v=DMARC1; p=none"}, "skipped"),
        ({"above": b"v=DMARC1; p=reject; sp=none"}, "skipped"),
        ({"above": b"v=DMARC1; p=reject; t=y"}, "skipped"),
        ({"own": b"v=DMARC1; p=none"}, "skipped"),
        ({"own": b"v=DMARC1; p=reject", "above": b"v=DMARC1; p=none"}, "skipped"),
        ({"own": b"v=DMARC1; p=reject"}, "pass"),
    ],
)
def test_a_policy_that_lets_forgeries_through_shows_no_logo(policies: dict[str, bytes], value: str) -> None:
    assert found(zone(**policies)).split()[0] == f"bimi={value}"


def test_what_is_wrong_or_not_known_is_told() -> None:
    resolver = zone()
    resolver.txt["default._bimi.yy.example"] = [LOGO, LOGO]
    assert found(resolver).startswith('bimi=fail reason="there are several records"')
    resolver.txt["default._bimi.yy.example"] = [b"v=BIMI1; l=x) dmarc=pass (y"]
    assert found(resolver).startswith("bimi=fail reason=\"'x) dmarc=pass (y' is no HTTPS URI\" header.d=yy.example")
    resolver.failing.add("default._bimi.news.yy.example")
    assert found(resolver).startswith("bimi=temperror")
