"""Signatures: made here and verified here and by an oracle; what may have happened to them on the way."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

import attrs
import dkim  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.checks.canonical import BodyHash
from mailhub.checks.dkim import HASHES_LIMIT, SIGNATURES_LIMIT, Verified, verify
from mailhub.checks.keys import KeyFault, parse_key
from mailhub.checks.signing import SigningKey, dkim_signature, names_to_sign, new_key, read_key, write_key
from mailhub.message.header import raw_fields
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of

RSA = SigningKey("a.example", "r1", new_key("rsa"))
EDWARDS = SigningKey("a.example", "e1", new_key("ed25519"))
HEADER = b"From: a@a.example\r\nTo: b@b.example\r\nSubject: x\r\nDate: Sun, 29 Nov 2026 12:00:00 +0000\r\n"
BODY = b"Hello,\r\n\r\n  it is  me \r\n\r\n"
NOW = 1_700_000_000


@attrs.frozen
class Octets:
    """What follows a header."""

    octets: bytes

    @property
    def size(self) -> int:
        return len(self.octets)

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        return self.octets[offset:] if length < 0 else self.octets[offset : offset + min(length, 100)]


def signed(key: SigningKey, header: bytes = HEADER, body: bytes = BODY, **more: int) -> bytes:
    relaxed = BodyHash("relaxed")
    relaxed.update(body)
    return dkim_signature(key, list(raw_fields(header)), relaxed.digest(), NOW, **more) + header


def zone(*keys: SigningKey) -> FakeResolver:
    resolver = FakeResolver()
    for key in keys or (RSA, EDWARDS):
        resolver.txt.setdefault(key.name, []).append(key.record.encode())
    return resolver


def verified(header: bytes, body: bytes = BODY, resolver: FakeResolver | None = None) -> list[Verified]:
    return result_of(verify(header, Octets(b"\r\n" + body), resolver or zone(), NOW))


def values(*arguments: object) -> list[str]:
    return [each.value for each in verified(*arguments)]  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [RSA, EDWARDS], ids=["rsa", "ed25519"])
def test_what_was_signed_passes_here_and_at_an_oracle(key: SigningKey) -> None:
    header = signed(key)
    assert values(header) == ["pass"]
    assert dkim.verify(header + b"\r\n" + BODY, dnsfunc=lambda name, timeout=5: key.record.encode())


def test_both_signatures_pass() -> None:
    header = signed(EDWARDS, signed(RSA))
    assert values(header) == ["pass", "pass"]
    told = [str(each.result) for each in verified(header)]
    assert told[0].startswith("dkim=pass header.d=a.example header.s=e1 header.a=ed25519-sha256 header.b=")


def test_what_an_oracle_signs_passes() -> None:
    for canonical in [(a, b) for a in (b"simple", b"relaxed") for b in (b"simple", b"relaxed")]:
        field = dkim.sign(
            HEADER + b"\r\n" + BODY, b"r1", b"a.example", write_key(RSA.private), canonicalize=canonical, length=True
        )
        assert values(field + HEADER) == ["pass"], canonical


Change = Callable[[bytes, bytes], tuple[bytes, bytes]]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda header, body: (header, body + b"\r\n\r\n"), "pass"),
        (lambda header, body: (b"Received: x\r\n" + header, body), "pass"),
        (lambda header, body: (header.replace(b"Subject: x", b"SUBJECT:  x "), body), "pass"),
        (lambda header, body: (header, body + b"more"), "fail"),
        (lambda header, body: (header.replace(b"Subject: x", b"Subject: y"), body), "fail"),
        (lambda header, body: (b"Subject: y\r\n" + header, body), "fail"),
        (lambda header, body: (header + b"From: c@c.example\r\n", body), "fail"),
        (lambda header, body: (header + b"Reply-To: c@c.example\r\n", body), "fail"),
        (lambda header, body: (header.replace(b"v=1;", b"v=1; v=1;"), body), "neutral"),
        (lambda header, body: (header.replace(b"rsa-sha256", b"rsa-sha1"), body), "policy"),
        (lambda header, body: (header.replace(b"a=rsa-sha256", b"a=ed25519-sha256"), body), "permerror"),
        (lambda header, body: (header.replace(b"s=r1", b"s=none"), body), "permerror"),
    ],
)
def test_what_happens_on_the_way(change: Change, value: str) -> None:
    assert values(*change(signed(RSA), BODY)) == [value]


@pytest.mark.parametrize(
    ("tags", "value"),
    [
        ("h=sha1", "permerror"),
        ("h=sha1:sha256", "pass"),
        ("s=other", "permerror"),
        ("s=other:email", "pass"),
        ("t=s", "pass"),
        ("t=y", "pass"),
        ("x_more=1", "pass"),
    ],
)
def test_what_a_key_allows(tags: str, value: str) -> None:
    resolver = FakeResolver()
    resolver.txt[RSA.name] = [RSA.record.replace("k=rsa", f"k=rsa; {tags}").encode()]
    [found] = verified(signed(RSA), BODY, resolver)
    assert (found.value, found.testing) == (value, tags == "t=y")


def test_of_several_records_one_that_fits_is_found() -> None:
    resolver = FakeResolver()
    resolver.txt[RSA.name] = [b"v=spf1 -all", EDWARDS.record.encode(), RSA.record.encode()]
    assert values(signed(RSA), BODY, resolver) == ["pass"]


def test_no_answer_is_no_verdict() -> None:
    resolver = zone()
    resolver.failing.add(RSA.name)
    assert values(signed(EDWARDS, signed(RSA)), BODY, resolver) == ["pass", "temperror"]


def test_it_may_be_too_old() -> None:
    assert values(signed(RSA, expires=NOW + 1)) == ["pass"]
    header = signed(RSA, expires=NOW + 1)
    assert [each.value for each in result_of(verify(header, Octets(b"\r\n" + BODY), zone(), NOW + 2))] == ["fail"]


def test_a_thousand_signatures_are_not_looked_at() -> None:
    resolver = zone()
    header = b"".join([signed(RSA).removesuffix(HEADER).replace(b"s=r1", b"s=r%d" % each) for each in range(1000)])
    assert len(verified(header + HEADER, BODY, resolver)) == SIGNATURES_LIMIT
    assert len(resolver.asked) <= SIGNATURES_LIMIT


def test_a_body_is_not_hashed_in_any_number_of_forms() -> None:
    top = signed(EDWARDS).removesuffix(HEADER)
    cut = b"".join([top.replace(b"c=relaxed/relaxed;", b"c=relaxed/simple; l=%d;" % length) for length in range(9)])
    found = [each.value for each in verified(cut + top + HEADER)]
    assert found == ["fail"] * HASHES_LIMIT + ["policy"] * (SIGNATURES_LIMIT - HASHES_LIMIT)


@pytest.mark.parametrize(
    ("bits", "exponent", "fault"),
    [(2048, 65537, ""), (2048, (1 << 2000) + 1, "exponent"), (16_384, 65537, "too large"), (512, 65537, "512 bits")],
)
def test_a_key_is_no_more_work_than_keys_are(bits: int, exponent: int, fault: str) -> None:
    numbers = RSAPublicNumbers(exponent, (1 << bits) - 1)
    der = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; p=" + b64encode(der)
    if not fault:
        assert parse_key(record).bits == bits
        with pytest.raises(KeyFault, match="too long"):
            parse_key(record + b"; n=" + b"x" * 65_000)
    else:
        with pytest.raises(KeyFault, match=fault):
            parse_key(record)


def test_names_are_signed_once_more_than_they_are_there() -> None:
    names = names_to_sign([(b"from", b""), (b"list-id", b""), (b"received", b"")])
    assert (names.count(b"from"), names.count(b"reply-to"), names.count(b"list-id")) == (2, 1, 1)
    assert b"received" not in names


@settings(max_examples=50)
@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"long words", b"=20"]), max_size=40).map(b"".join))
def test_any_body_passes(body: bytes) -> None:
    header = signed(EDWARDS, body=body)
    assert values(header, body) == ["pass"]


@pytest.mark.parametrize("key", [RSA, EDWARDS], ids=["rsa", "ed25519"])
def test_keys_are_written_and_read(key: SigningKey) -> None:
    again = SigningKey(key.domain, key.selector, read_key(write_key(key.private)))
    assert again.record == key.record


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key(pem: bytes) -> None:
    with pytest.raises(ValueError, match="private key"):
        read_key(pem)
