"""DMARC: records, the walk up the tree, alignment, and which policy counts (RFC 9989)."""

from __future__ import annotations

import pytest

from mailhub.checks.dmarc.evaluate import Dmarc, Identifier, evaluate
from mailhub.checks.dmarc.record import DmarcRecord, ReportTo, is_dmarc, parse_dmarc
from mailhub.checks.dmarc.walk import QUESTIONS_LIMIT, Walks, walk
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of


def zone(records: dict[str, str], *hosts: str) -> FakeResolver:
    resolver = FakeResolver()
    resolver.txt = {f"_dmarc.{name}": [text.encode()] for name, text in records.items()}
    resolver.hosts = {host: ["192.0.2.1"] for host in hosts}
    return resolver


def evaluated(
    resolver: FakeResolver, author: str | list[str], spf: tuple[str, str] | None = None, *dkim: tuple[str, str]
) -> Dmarc:
    authors = [author] if isinstance(author, str) else author
    identifier = Identifier(*spf) if spf else None
    return result_of(evaluate(authors, identifier, [Identifier(*each) for each in dkim], Walks(resolver)))


@pytest.mark.parametrize(
    ("octets", "it_is"),
    [
        (b"v=DMARC1", True),
        (b"v = DMARC1 ; p=none", True),
        (b"v=DMARC1;p=none", True),
        (b"v=dmarc1; p=none", False),
        (b"V=DMARC1; p=none", False),
        (b"p=none; v=DMARC1", False),
        (b"v=DMARC10", False),
        (b"v=DMARC1 p=none", False),
        (b"v=spf1 -all", False),
    ],
)
def test_what_is_a_record(octets: bytes, it_is: bool) -> None:
    assert is_dmarc(octets) == it_is


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("", DmarcRecord()),
        ("p=reject; sp=quarantine; np=none", DmarcRecord("reject", "quarantine", "none")),
        ("P=Reject;ADKIM=S; aspf = s", DmarcRecord("reject", dkim="s", spf="s")),
        ("p=nothing; sp=; x=1; garbage; =; t=Y; psd=y", DmarcRecord(testing=True, psd="y")),
        ("p=none; p=reject", DmarcRecord()),
        ("pct=0; rf=afrf; ri=1; p=reject", DmarcRecord("reject")),
        (
            "rua=mailto:a@a.example!10m, http://x, mailto:b@b.example; ruf=mailto:c@c.example; fo=1:d",
            DmarcRecord(
                aggregate=(ReportTo("mailto:a@a.example", 10 << 20), ReportTo("mailto:b@b.example")),
                failure=(ReportTo("mailto:c@c.example"),),
                failures=frozenset("1d"),
            ),
        ),
    ],
)
def test_what_a_record_says(text: str, record: DmarcRecord) -> None:
    assert parse_dmarc(f"v=DMARC1; {text}".encode()) == record


@pytest.mark.parametrize(
    ("records", "domain", "organizational", "policy_of"),
    [
        ({}, "a.b.example", "a.b.example", None),
        ({"example": ""}, "a.b.example", "example", "example"),
        ({"b.example": ""}, "a.b.example", "b.example", "b.example"),
        ({"b.example": "", "example": "psd=y"}, "a.b.example", "b.example", "b.example"),
        ({"example": "psd=y"}, "a.b.example", "b.example", "example"),
        ({"a.b.example": "", "example": "psd=y"}, "a.b.example", "b.example", "a.b.example"),
        ({"a.b.example": "psd=n", "b.example": ""}, "a.b.example", "a.b.example", "a.b.example"),
        ({"b.example": "psd=n", "example": ""}, "a.b.example", "b.example", "b.example"),
        ({"a.b.example": "", "b.example": ""}, "a.b.example", "b.example", "a.b.example"),
        ({"b.example": "psd=y"}, "b.example", "b.example", "b.example"),
    ],
)
def test_the_walk(records: dict[str, str], domain: str, organizational: str, policy_of: str | None) -> None:
    resolver = zone({name: f"v=DMARC1; {text}" for name, text in records.items()})
    walked = result_of(walk(domain, resolver))
    assert walked.organizational == organizational
    assert (walked.policy.domain if walked.policy else None) == policy_of


def test_a_walk_asks_eight_names() -> None:
    resolver = FakeResolver()
    result_of(walk(".".join("abcdefghijklmno"), resolver))
    asked = [name.removeprefix("_dmarc.") for _, name in resolver.asked]
    assert len(asked) == QUESTIONS_LIMIT
    assert asked[:3] == ["a.b.c.d.e.f.g.h.i.j.k.l.m.n.o", "i.j.k.l.m.n.o", "j.k.l.m.n.o"]
    assert asked[-1] == "o"


def test_two_records_at_a_name_are_none() -> None:
    resolver = zone({"example": "v=DMARC1; p=reject"})
    resolver.txt["_dmarc.a.example"] = [b"v=DMARC1; p=none", b"v=DMARC1; p=none"]
    assert evaluated(resolver, "a.example").policy == "reject"


RELAXED = {"a.example": "v=DMARC1; p=reject"}
STRICT = {"a.example": "v=DMARC1; p=reject; adkim=s; aspf=s"}


@pytest.mark.parametrize(
    ("records", "author", "spf", "dkim", "value"),
    [
        ({}, "a.example", ("a.example", "pass"), [], "none"),
        (RELAXED, "a.example", None, [], "fail"),
        (RELAXED, "a.example", ("a.example", "pass"), [], "pass"),
        (RELAXED, "a.example", ("x.a.example", "pass"), [], "pass"),
        (RELAXED, "x.a.example", ("y.a.example", "pass"), [], "pass"),
        (RELAXED, "a.example", ("b.example", "pass"), [], "fail"),
        (RELAXED, "a.example", ("evila.example", "pass"), [], "fail"),
        (RELAXED, "a.example", ("a.example", "softfail"), [], "fail"),
        (RELAXED, "a.example", ("a.example", "temperror"), [], "temperror"),
        (RELAXED, "a.example", ("b.example", "temperror"), [], "fail"),
        (RELAXED, "a.example", None, [("b.example", "pass"), ("x.a.example", "pass")], "pass"),
        (RELAXED, "a.example", ("a.example", "fail"), [("a.example", "temperror")], "temperror"),
        (RELAXED, "a.example", ("a.example", "temperror"), [("a.example", "pass")], "pass"),
        (STRICT, "a.example", ("x.a.example", "pass"), [("x.a.example", "pass")], "fail"),
        (STRICT, "a.example", ("x.a.example", "pass"), [("a.example", "pass")], "pass"),
    ],
)
def test_alignment(
    records: dict[str, str], author: str, spf: tuple[str, str] | None, dkim: list[tuple[str, str]], value: str
) -> None:
    assert evaluated(zone(records), author, spf, *dkim).value == value


@pytest.mark.parametrize(
    ("text", "author", "policy"),
    [
        ("p=reject; sp=quarantine; np=none", "a.example", "reject"),
        ("p=reject; sp=quarantine; np=none", "there.a.example", "quarantine"),
        ("p=reject; sp=quarantine; np=none", "not.a.example", "none"),
        ("p=reject; sp=quarantine", "not.a.example", "quarantine"),
        ("p=reject", "not.a.example", "reject"),
        ("p=reject; t=y", "a.example", "quarantine"),
        ("p=quarantine; t=y", "a.example", "none"),
        ("p=none; t=y", "a.example", "none"),
        ("sp=reject", "a.example", "none"),
    ],
)
def test_which_policy_counts(text: str, author: str, policy: str) -> None:
    found = evaluated(zone({"a.example": f"v=DMARC1; {text}"}, "a.example", "there.a.example"), author)
    assert (found.value, found.policy) == ("fail", policy)


def test_the_strictest_of_several_authors_counts() -> None:
    resolver = zone({"a.example": "v=DMARC1; p=none", "b.example": "v=DMARC1; p=reject"})
    found = evaluated(resolver, ["a.example", "b.example", "c.example"], ("a.example", "pass"))
    assert (found.domain, found.value, found.policy) == ("b.example", "fail", "reject")


def test_no_answer_is_no_failure() -> None:
    resolver = zone(RELAXED)
    resolver.failing.add("_dmarc.a.example")
    assert evaluated(resolver, "a.example").value == "temperror"
    resolver = zone(RELAXED)
    resolver.failing.add("_dmarc.x.a.example")
    assert evaluated(resolver, "a.example", ("x.a.example", "pass")).value == "temperror"


def test_a_stranger_cannot_make_it_uncertain() -> None:
    resolver = zone(RELAXED)
    resolver.failing.add("_dmarc.evil.example")
    assert evaluated(resolver, "a.example", ("evil.example", "pass"), ("evil.example", "temperror")).value == "fail"


def test_too_many_authors_are_none() -> None:
    assert evaluated(FakeResolver(), []).value == "permerror"
    assert evaluated(FakeResolver(), [f"a{number}.example" for number in range(100)]).value == "permerror"


def test_as_a_result() -> None:
    found = evaluated(zone(RELAXED), "a.example")
    assert str(found.result) == "dmarc=fail header.from=a.example policy.dmarc=reject"
