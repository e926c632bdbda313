"""Fields of signatures, and records of keys: what is read, and what nobody can verify."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailhub.checks.keys import KeyFault, parse_key
from mailhub.checks.signature import SignatureFault, parse_signature

GOOD = {"v": "1", "a": "rsa-sha256", "d": "a.example", "s": "s1", "h": "From : To", "bh": "YWJj", "b": "YW\r\n Jj"}


def field(**changes: str | None) -> bytes:
    tags = {**GOOD, **changes}
    return (
        "DKIM-Signature: " + "; ".join(f"{name}={value}" for name, value in tags.items() if value is not None)
    ).encode()


def test_what_a_field_says() -> None:
    found = parse_signature(field(c="relaxed", i="x@sub.A.example", t="100", x="200", l="5", q="dns/txt:x"))
    assert (found.domain, found.selector, found.key_name) == ("a.example", "s1", "s1._domainkey.a.example")
    assert found.names == (b"from", b"to")
    assert (found.header_form, found.body_form, found.limit) == ("relaxed", "simple", 5)
    assert (found.body_hash, found.signature) == (b"abc", b"abc")
    assert (found.timestamp, found.expires, found.identity_domain) == (100, 200, "sub.a.example")


@pytest.mark.parametrize(
    "changes",
    [
        {"v": "2"},
        {"v": None},
        {"d": None},
        {"d": "a..example"},
        {"s": "-"},
        {"b": "!"},
        {"bh": ""},
        {"h": "To"},
        {"h": "From:"},
        {"h": ":".join(["from"] * 1002)},
        {"c": "nothing"},
        {"c": "relaxed/"},
        {"i": "x@evila.example"},
        {"i": "a.example"},
        {"q": "http"},
        {"l": "-1"},
        {"x": "soon"},
        {"t": "200", "x": "200"},
        {"v": "1; v=1"},
        {"b": "A" * 70_000},
    ],
)
def test_what_cannot_be_verified(changes: dict[str, str | None]) -> None:
    with pytest.raises(SignatureFault):
        parse_signature(field(**changes))


def test_that_of_arc() -> None:
    found = parse_signature(field(v=None, i="3", h="to:subject"), "arc")
    assert (found.identity, found.names) == ("", (b"to", b"subject"))
    with pytest.raises(SignatureFault):
        parse_signature(field(v=None, h="from:arc-seal"), "arc")


def record(key: Any, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo, **tags: str) -> bytes:
    encoding = Encoding.Raw if form is PublicFormat.Raw else Encoding.DER
    public = key.public_key() if hasattr(key, "public_key") else key
    octets = public.public_bytes(encoding, form)
    tags = {"v": "DKIM1", **tags, "p": b64encode(octets).decode()}
    return "; ".join(f"{name}={value}" for name, value in tags.items()).encode()


RSA = rsa.generate_private_key(65537, 1024)
SHORT = rsa.RSAPublicNumbers(65537, (1 << 511) + 111).public_key()


def test_what_a_record_says() -> None:
    found = parse_key(record(RSA, t="y : s", h="sha256", s="email"))
    assert (found.algorithm, found.bits, found.testing, found.strict) == ("rsa", 1024, True, True)
    assert (found.hashes, found.services) == (frozenset({"sha256"}), frozenset({"email"}))
    assert parse_key(record(RSA, PublicFormat.PKCS1)).bits == 1024
    assert parse_key(record(ed25519.Ed25519PrivateKey.generate(), PublicFormat.Raw, k="ed25519")).algorithm == "ed25519"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"p=",
        b"v=DKIM1; p=",
        b"v=DKIM2; p=abcd",
        b"p=abcd; v=DKIM1",
        b"v=DKIM1; p=!",
        b"v=DKIM1; p=abcd",
        b"v=DKIM1; k=ed25519; p=abcd",
        b"v=DKIM1; k=other; p=abcd",
        b"v=DKIM1; p=" + b"A" * 4000,
        record(SHORT),
        record(ec.generate_private_key(ec.SECP256R1())),
        b"\xff",
    ],
)
def test_what_is_no_key(octets: bytes) -> None:
    with pytest.raises(KeyFault):
        parse_key(octets)
