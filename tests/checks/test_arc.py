"""Chains: sealed here and validated here and by an oracle; what may have happened to them on the way."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import dkim  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.checks.arc.seal import seal
from mailhub.checks.arc.sets import SETS_LIMIT, collect
from mailhub.checks.arc.validate import NOT_KNOWN, Chain, seal_digests, validate
from mailhub.checks.canonical import BodyHash
from mailhub.checks.dkim import check_digest
from mailhub.checks.signature import parse_seal
from mailhub.checks.signing import SigningKey, new_key, write_key
from mailhub.message.header import raw_fields
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of
from tests.checks.test_dkim import BODY, HEADER, NOW, Octets, signed, zone

KEYS = [SigningKey(f"hub{number}.example", "s", new_key("rsa")) for number in range(3)]
RESULTS = ["arc=none", "dmarc=pass header.from=a.example"]


def resolver() -> FakeResolver:
    return zone(*KEYS)


def chain(header: bytes, body: bytes = BODY, asked: FakeResolver | None = None) -> Chain:
    return result_of(validate(header, Octets(b"\r\n" + body), asked or resolver(), NOW))


def sealed(header: bytes, number: int = 0, body: bytes = BODY, found: Chain | None = None) -> bytes:
    """The header with one more set of this hub."""
    relaxed = BodyHash("relaxed")
    relaxed.update(body)
    fields = list(raw_fields(header))
    value = (found or chain(header, body)).value
    key = KEYS[number % len(KEYS)]
    return seal(collect(fields), value, RESULTS, f"mx.{key.domain}", key, fields, relaxed.digest(), NOW) + header


def of_oracle(header: bytes, body: bytes = BODY) -> str:
    keys = {f"{key.name}.": key.record.encode() for key in KEYS}
    value, _, _ = dkim.arc_verify(header + b"\r\n" + body, dnsfunc=lambda name, timeout=5: keys.get(name.decode()))
    return (value or b"fail").decode()


def of_hubs(count: int, header: bytes = HEADER) -> bytes:
    for number in range(count):
        header = sealed(header, number, found=Chain("pass" if number else "none"))
    return header


def test_without_one_there_is_nothing_to_say() -> None:
    assert str(chain(HEADER).result("192.0.2.1")) == "arc=none"
    assert chain(b"X-Of: arc-seal\r\n" + HEADER).value == "none"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_was_sealed_passes_here_and_at_an_oracle(count: int) -> None:
    header = of_hubs(count, signed(KEYS[0]))
    found = chain(header)
    assert (found.value, found.oldest_pass, len(found.sets)) == ("pass", 0, count)
    assert of_oracle(header) == "pass"
    assert str(found.result("192.0.2.1")) == "arc=pass smtp.remote-ip=192.0.2.1 header.oldest-pass=0"
    assert [each.signature.domain for each in found.sets] == [KEYS[number % 3].domain for number in range(count)]
    assert b"dmarc=pass header.from=a.example" in found.sets[-1].results
    assert b"dkim-signature" in found.sets[-1].signature.names


def test_a_set_that_an_oracle_adds_passes() -> None:
    for before in (HEADER, of_hubs(2)):
        found = str(chain(before).result())
        header = f"Authentication-Results: mx.o.example; {found}\r\n".encode() + before
        key = KEYS[0]
        fields = dkim.arc_sign(
            header + b"\r\n" + BODY, b"s", key.domain.encode(), write_key(key.private), b"mx.o.example", timestamp=NOW
        )
        assert chain(b"".join(fields) + header).value == "pass"


Change = Callable[[bytes, bytes], tuple[bytes, bytes]]


@pytest.mark.parametrize(
    ("change", "value", "oldest"),
    [
        (lambda header, body: (b"Received: x\r\nAuthentication-Results: y\r\n" + header, body), "pass", 0),
        (lambda header, body: (header, body + b"more"), "fail", None),
        (lambda header, body: (b"Subject: y\r\n" + header, body), "fail", None),
        (lambda header, body: (header.replace(b"i=2; mx", b"i=2; my"), body), "fail", None),
        (lambda header, body: (header.replace(b"i=1; mx", b"i=1; my"), body), "fail", None),
        (lambda header, body: (header.replace(b"i=1; mx", b"i=3; mx"), body), "fail", None),
        (lambda header, body: (header.replace(b"cv=none", b"cv=pass"), body), "fail", None),
        (lambda header, body: (header.replace(b"cv=pass", b"cv=fail"), body), "fail", None),
        (lambda header, body: (header.replace(b"cv=pass;", b"cv=pass; cv=pass;"), body), "fail", None),
        (lambda header, body: (header.replace(b"cv=pass;", b"cv=pass; h=from;"), body), "fail", None),
        (lambda header, body: (header.replace(b"s=s;", b"s=t;"), body), "fail", None),
        (lambda header, body: (header.replace(b"a=rsa-sha256", b"a=rsa-sha1"), body), "fail", None),
    ],
)
def test_what_happens_on_the_way(change: Change, value: str, oldest: int | None) -> None:
    header, body = change(of_hubs(2), BODY)
    found = chain(header, body)
    assert (found.value, found.oldest_pass, found.temporary) == (value, oldest, False)
    assert bool(found.reason) == (value == "fail")
    assert of_oracle(header, body) == value


def test_who_has_edited_a_message_stands_for_what_it_is_since() -> None:
    before = of_hubs(2)
    header = sealed(before.replace(b"Subject: x", b"Subject: [list] x"), 2, found=chain(before))
    assert (chain(header).value, chain(header).oldest_pass) == ("pass", 3)
    assert of_oracle(header) == "pass"
    assert chain(header.replace(b"[list]", b"[tsil]")).value == "fail"


def test_a_broken_chain_gets_one_set_that_says_so_and_stands_for_itself() -> None:
    broken = of_hubs(2).replace(b"Subject: x", b"Subject: y")
    header = sealed(broken)
    assert header.startswith(b"ARC-Seal: i=3; a=rsa-sha256; cv=fail;")
    own = list(raw_fields(header))[:3]
    seal_of, _ = parse_seal(own[0][1])
    [digest] = seal_digests([(own[2][1], own[1][1], own[0][1])])
    assert result_of(check_digest(seal_of, digest, resolver().texts)).value == "pass"
    assert (chain(header).value, chain(header).reason) == ("fail", "it was broken before")
    assert sealed(header) == header


def test_the_last_set_is_the_fiftieth() -> None:
    header = of_hubs(SETS_LIMIT)
    assert (chain(header).value, chain(header).oldest_pass) == ("pass", 0)
    assert sealed(header) == header
    assert chain(of_hubs(1).replace(b"i=1;", b"i=51;")).value == "fail"


def test_nothing_is_sealed_by_what_was_found_of_another_message() -> None:
    assert sealed(HEADER, found=Chain("pass")) == sealed(HEADER, found=Chain("fail")) == HEADER
    assert sealed(of_hubs(1), found=Chain("none")) == of_hubs(1)


def test_what_nobody_can_know_now_is_told_apart() -> None:
    asked = resolver()
    asked.failing.add(KEYS[0].name)
    found = chain(of_hubs(2), asked=asked)
    assert (found.value, found.temporary) == ("fail", True)
    assert str(found.result()) == f'arc=fail reason="{NOT_KNOWN}"'


def test_keys_are_looked_up_once_each_and_not_at_all_for_another_body() -> None:
    asked = resolver()
    chain(of_hubs(5), asked=asked)
    assert sorted(name for _, name in asked.asked) == sorted(key.name for key in KEYS)
    asked = resolver()
    chain(of_hubs(5), b"other", asked=asked)
    assert asked.asked == []


def test_comments_are_read_where_they_may_stand() -> None:
    one = of_hubs(1)
    assert collect(list(raw_fields(one.replace(b"i=1; mx", b" (a (b) i=1 ; mx")))).fault
    assert not collect(list(raw_fields(one.replace(b"i=1; mx", b"(a) i (b) = 1\r\n ; mx")))).fault


@pytest.mark.parametrize(
    "header",
    [
        of_hubs(1) * 400,
        b"ARC-Seal: i=1; a=rsa-sha256; cv=none; b=" + b"A" * 100_000 + b"\r\n",
        b"ARC-Authentication-Results:" + b" (" * 30_000 + b"i=1; x\r\n",
        b"ARC-Authentication-Results:" + b" (x)" * 15_000 + b"i=1 x\r\n",
        b"ARC-Message-Signature: i=1; h=" + b"from:" * 12_000 + b"\r\n",
        b"".join(b"ARC-Seal: i=%d; cv=pass\r\n" % number for number in range(1000)),
    ],
    ids=["sets", "seal", "open comments", "comments", "names", "instances"],
)
def test_what_is_hostile_fails_and_asks_for_nothing(header: bytes) -> None:
    asked = resolver()
    assert chain(header, asked=asked).value == "fail"
    assert asked.asked == []


def test_of_older_sets_no_more_is_looked_at_than_anybody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    header = of_hubs(20)
    assert chain(header + b"X: y\r\n" * 1000).oldest_pass is None
    for number in range(20):
        one = b"i=%d; a=rsa-sha256; c=" % number
        header = header.replace(one, b"l=%d; " % number + one)
    made = Mock(wraps=BodyHash)
    monkeypatch.setattr("mailhub.checks.dkim.BodyHash", made)
    assert chain(header).value == "fail"
    assert made.call_count <= 4


TEXT = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=30).map(str.encode)
LINES = st.lists(TEXT, max_size=5).map(b"\r\n".join)


@given(st.lists(TEXT, max_size=3), LINES, st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_an_oracle_says_the_same_of_whatever_is_sealed(subjects: list[bytes], body: bytes, count: int) -> None:
    header = HEADER + b"".join(b"X-Subject: " + each + b"\r\n" for each in subjects)
    for number in range(count):
        header = sealed(header, number, body)
    assert chain(header, body).value == "pass"
    assert of_oracle(header, body) == "pass"
    assert chain(header, b"x" + body).value == of_oracle(header, b"x" + body) == "fail"
