"""Records and policies of MTA-STS, as domains write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.mta_sts import POLICY_OCTETS, KeptPolicy, StsPolicy, record_id

HEAD = b"version: STSv1\nmode: %s\n"
ENFORCE = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1 ;\tid=1 ; "], "1"),
        ([b"v=STSv1; x=y; id=1; a_b.c-d=%20"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=1;", b"v=STSv2; id=2"], "1"),
        ([], None),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=1;"], None),
        ([b"v=STSv1; id=1;", b"v=STSv1; nonsense"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1"], None),
        ([b"v=STSv1; id="], None),
        ([b"v=STSv1; id=a-b;"], None),
        ([b"v=STSv1; id=" + b"1" * 33], None),
        ([b"v=STSv1; id=1; rubbish"], None),
        ([b"V=STSv1; id=1;"], None),
        ([b" v=STSv1; id=1;"], None),
        ([b"v=STSv10; id=1;"], None),
        ([b"v=STSv1; id=\xff;"], None),
    ],
)
def test_the_record(texts: list[bytes], found: str | None) -> None:
    assert record_id(texts) == found


def test_a_policy() -> None:
    policy = StsPolicy.parse(ENFORCE)
    assert policy == StsPolicy("enforce", 604800, ("mail.example.com", "*.example.net"))
    assert list(policy.lines) == [
        "version: STSv1",
        "mode: enforce",
        "mx: mail.example.com",
        "mx: *.example.net",
        "max_age: 604800",
    ]


def test_what_a_domain_has_written_is_kept_as_it_stands_within_bounds() -> None:
    written = (
        b"version:  STSv1\r\n\r\nmode: testing\nnews: " + b"x" * 300 + b"\nmx:A.b\n" + b"y: z\n" * 50 + b"max_age: 9"
    )
    policy = StsPolicy.parse(written)
    assert policy.lines[:4] == ("version:  STSv1", "mode: testing", "news: " + "x" * 249, "mx:A.b")
    assert len(policy.lines) == 20
    kept = KeptPolicy.parse(KeptPolicy(policy, "1", 5).render())
    assert kept.policy == policy
    assert kept.policy.lines == policy.lines
    # What was kept before lines were.
    old = KeptPolicy.parse(b'{"id":"1","fetched":5,"mode":"testing","max_age":9,"mx":["a.b"]}')
    assert old.policy.lines == ("version: STSv1", "mode: testing", "mx: a.b", "max_age: 9")


@pytest.mark.parametrize(
    ("octets", "mode", "max_age", "mx"),
    [
        (ENFORCE.replace(b"\r\n", b"\n").rstrip(), "enforce", 604800, ("mail.example.com", "*.example.net")),
        (b"max_age:5\nmode:none\nversion:STSv1\n\n", "none", 5, ()),
        (HEAD % b"testing" + b"mx: A.b\nmx: a.B.\nmax_age: 9\nnew-thing: \xc3\xa9:x", "testing", 9, ("a.b",)),
        (HEAD % b"enforce" + b"mode: none\nmx: a.b\nmax_age: 1\nmax_age: x", "enforce", 1, ("a.b",)),
        (HEAD % b"enforce" + b"mx: a.b\nmax_age: 9999999999", "enforce", 31557600, ("a.b",)),
        (HEAD % b"enforce" + b"mx: *.b\xc3\xbccher.example\nmax_age: 1", "enforce", 1, ("*.xn--bcher-kva.example",)),
    ],
)
def test_what_is_read_all_the_same(octets: bytes, mode: Any, max_age: int, mx: tuple[str, ...]) -> None:
    assert StsPolicy.parse(octets) == StsPolicy(mode, max_age, mx)


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", "version"),
        (b"<html><body>404</body></html>", "a line is no field"),
        (ENFORCE.replace(b"STSv1", b"STSv2"), "version"),
        (ENFORCE.replace(b"version: STSv1\r\n", b""), "version"),
        (ENFORCE.replace(b"enforce", b"Enforce"), "mode"),
        (ENFORCE.replace(b"mode: enforce\r\n", b""), "mode"),
        (ENFORCE.replace(b"604800", b"-1"), "max_age"),
        (ENFORCE.replace(b"604800", b"12345678901"), "max_age"),
        (ENFORCE.replace(b"604800", "\u0661".encode()), "max_age"),
        (ENFORCE.replace(b"max_age: 604800\r\n", b""), "max_age"),
        (b"version: STSv1\nmode: enforce\nmax_age: 1", "no mx"),
        (ENFORCE.replace(b"*.example.net", b"*"), "mx is no name"),
        (ENFORCE.replace(b"*.example.net", b"a.*.net"), "mx is no name"),
        (ENFORCE.replace(b"*.example.net", b"[192.0.2.1]"), "mx is no name"),
        (ENFORCE + b"mx: \r\n", "mx is no name"),
        (ENFORCE + b"\xff", "not UTF-8"),
        (ENFORCE + b"".join(b"mx: m%d.example\n" % n for n in range(300)), "more than 250 mx"),
        (b"x" * (POLICY_OCTETS + 1), "larger"),
    ],
)
def test_what_is_no_policy(octets: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("*", r"\*")):
        StsPolicy.parse(octets)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mail.example.com", True),
        ("MAIL.example.com.", True),
        ("x.mail.example.com", False),
        ("example.com", False),
        ("a.example.net", True),
        ("a.b.example.net", False),
        ("example.net", False),
        (".example.net", True),
        ("net", False),
        ("", False),
    ],
)
def test_which_hosts_are_allowed(host: str, allowed: bool) -> None:
    assert StsPolicy.parse(ENFORCE).allows(host) is allowed


@given(st.binary(max_size=300))
def test_nothing_but_a_policy_or_a_value_error_comes_of_anything(octets: bytes) -> None:
    for text in (octets, ENFORCE + octets):
        try:
            policy = StsPolicy.parse(text)
        except ValueError:
            continue
        kept = KeptPolicy(policy, "1", 7)
        assert KeptPolicy.parse(kept.render()) == kept
        assert len(kept.render()) < 65536
    record_id([octets, b"v=STSv1;" + octets])


@pytest.mark.parametrize("octets", [b"", b"{", b"[]", b"{}", b'{"mode":"x"}', b"\xff"])
def test_what_was_not_kept_by_us_is_not_believed(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        KeptPolicy.parse(octets)


def test_how_long_a_policy_is_good() -> None:
    kept = KeptPolicy(StsPolicy("enforce", 100, ("a.b",)), "1", 1000)
    assert [kept.is_good(now) for now in (500, 1000, 1099, 1100)] == [True, True, True, False]
