"""One signature as its field has it: DKIM-Signature (RFC 6376 3.5), ARC-Message-Signature, which is nearly the same
(RFC 8617 4.1.2), and ARC-Seal, which is of other fields alone (4.1.3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Literal, TypeVar

import attrs

from mailhub.checks.canonical import Form, field_in_form, signed_fields, without_signature
from mailhub.checks.keys import from_base64, in_base64
from mailhub.checks.tags import parse_tags, without_space
from mailhub.message.address import to_ascii

Kind = Literal["dkim", "arc"]
T = TypeVar("T")

ALGORITHMS = frozenset({"rsa-sha256", "ed25519-sha256"})
NAMES_LIMIT = 1000  # fields of one signature
_SIGNATURE_LIMIT = 1024  # octets: 4096 bits are 512
FIELD_LIMIT = 65_536  # octets of the whole field
_DOMAIN_LIMIT = 253  # octets
_NUMBER = re.compile(r"[0-9]{1,76}")
_TIME = re.compile(r"[0-9]{1,12}")
# RFC 5322 2.2
_FIELD_NAME = re.compile(r"[!-9;-~]+")
# Underscores are in names of hosts that people have, and in those of keys.
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_FORMS: dict[str, Form] = {"simple": "simple", "relaxed": "relaxed"}


class SignatureFault(ValueError):
    """It cannot be verified, whatever the key is; the text says why."""


@attrs.frozen
class Signature:
    """What one says. `names` (in lower case) are the signed fields, in order. `limit`: how many octets of the body are
    signed, None for all. `identity` is i=, in DKIM alone. Times are seconds since the epoch."""

    field: bytes = attrs.field(repr=False)
    algorithm: str
    domain: str
    selector: str
    names: tuple[bytes, ...]
    body_hash: bytes
    signature: bytes = attrs.field(repr=False)
    header_form: Form = "simple"
    body_form: Form = "simple"
    limit: int | None = None
    identity: str = ""
    timestamp: int | None = None
    expires: int | None = None

    @property
    def encoded(self) -> str:
        """b= as it is written, in one."""
        return in_base64(self.signature)

    @property
    def key_name(self) -> str:
        """Where DNS has its key."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def identity_domain(self) -> str:
        """The domain of i=, A-labels."""
        return _domain(self.identity.rpartition("@")[2]) if self.identity else self.domain

    def digest(self, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The SHA-256 of what is signed (RFC 6376 3.7). `fields` are all of the header: (name in lower case, raw
        octets)."""
        return header_digest(self.field, fields, self.names, self.header_form)


def header_digest(own: bytes, fields: Sequence[tuple[bytes, bytes]], names: Sequence[bytes], form: Form) -> bytes:
    """The SHA-256 of the selected fields and of the signature's own, without its value of b=."""
    return own_digest(own, signed_fields(fields, names, form), form)


def own_digest(own: bytes, signed: bytes, form: Form) -> bytes:
    """The same, where the selected fields are in canonical form already."""
    last = field_in_form(without_signature(own), form).removesuffix(b"\r\n")
    return sha256(signed + last).digest()


def parse_signature(field: bytes, kind: Kind = "dkim") -> Signature:
    """A whole field. Raises SignatureFault."""
    return _parsed(field, lambda tags: _signature(field, tags, kind))


def parse_seal(field: bytes) -> tuple[Signature, str]:
    """A whole ARC-Seal field, and what it says of the chain before it (cv=). Raises SignatureFault."""
    return _parsed(field, lambda tags: _seal(field, tags))


def _parsed(field: bytes, read: Callable[[dict[str, str]], T]) -> T:
    if len(field) > FIELD_LIMIT:
        raise SignatureFault("field is too large")
    try:
        return read(parse_tags(field.partition(b":")[2]))
    except SignatureFault:
        raise
    except ValueError as error:
        raise SignatureFault(str(error)) from None


def _seal(field: bytes, tags: dict[str, str]) -> tuple[Signature, str]:
    _expect(tags, "a", "b", "cv", "d", "s")
    if "h" in tags:
        raise SignatureFault("h= is none of a seal's")
    signed = Signature(
        field=field,
        algorithm=tags["a"],
        domain=_domain(tags["d"]),
        selector=_domain(tags["s"]),
        names=(),
        body_hash=b"",
        signature=_octets(tags, "b"),
        header_form="relaxed",
        timestamp=_number(tags, "t", _TIME),
    )
    return signed, tags["cv"]


def _expect(tags: dict[str, str], *names: str) -> None:
    for name in names:
        if not tags.get(name):
            raise SignatureFault(f"{name}= is missing")


def _signature(field: bytes, tags: dict[str, str], kind: Kind) -> Signature:
    if kind == "dkim" and tags.get("v") != "1":
        raise SignatureFault("v= is not 1")
    _expect(tags, "a", "b", "bh", "d", "s")
    if kind == "dkim" or "h" not in tags:
        _expect(tags, "h")
    forms = tags.get("c", "simple/simple").partition("/")
    header_form, body_form = _FORMS.get(forms[0]), _FORMS.get(forms[2] or "simple")
    if header_form is None or body_form is None or (forms[1] and not forms[2]):
        raise SignatureFault("c= is unknown")
    if "q" in tags and "dns/txt" not in without_space(tags["q"]).split(":"):
        raise SignatureFault("q= is unknown")
    signed = Signature(
        field=field,
        algorithm=tags["a"],
        domain=_domain(tags["d"]),
        selector=_domain(tags["s"]),
        names=_names(tags["h"], kind),
        body_hash=_octets(tags, "bh"),
        signature=_octets(tags, "b"),
        header_form=header_form,
        body_form=body_form,
        limit=_number(tags, "l", _NUMBER),
        identity=tags.get("i", "") if kind == "dkim" else "",
        timestamp=_number(tags, "t", _TIME),
        expires=_number(tags, "x", _TIME),
    )
    if signed.expires is not None and signed.timestamp is not None and signed.expires <= signed.timestamp:
        raise SignatureFault("x= is before t=")
    if signed.identity:
        below = signed.identity_domain
        if "@" not in signed.identity or (below != signed.domain and not below.endswith(f".{signed.domain}")):
            raise SignatureFault("i= is not of d=")
    return signed


def _names(value: str, kind: Kind) -> tuple[bytes, ...]:
    names = value.split(":", NAMES_LIMIT + 1)
    if len(names) > NAMES_LIMIT:
        raise SignatureFault("h= names too many fields")
    found = []
    for name in names:
        name = name.strip(" \t\r\n")
        if not name and kind == "arc":
            continue  # as sealers write it: an empty name selects nothing
        if not _FIELD_NAME.fullmatch(name):
            raise SignatureFault("h= is no list of names")
        found.append(name.lower().encode())
    if kind == "dkim" and b"from" not in found:
        raise SignatureFault("h= is without From")
    if kind == "arc" and b"arc-seal" in found:
        raise SignatureFault("h= has ARC-Seal")
    return tuple(found)


def _octets(tags: dict[str, str], tag: str) -> bytes:
    found = from_base64(tags[tag], _SIGNATURE_LIMIT)
    if not found:
        raise SignatureFault(f"{tag}= is not base64")
    return found


def _number(tags: dict[str, str], tag: str, form: re.Pattern[str]) -> int | None:
    value = tags.get(tag)
    if value is None:
        return None
    if not form.fullmatch(value):
        raise SignatureFault(f"{tag}= is no number")
    return int(value)


@lru_cache(maxsize=1024)
def _domain(text: str) -> str:
    """A domain, or a selector, in A-labels and lower case. Raises SignatureFault."""
    try:
        name = text.lower() if text.isascii() else to_ascii(text[: _DOMAIN_LIMIT + 1])
    except ValueError:
        raise SignatureFault("domain is none") from None
    if len(name) > _DOMAIN_LIMIT or not _NAME.fullmatch(name):
        raise SignatureFault(f"{name!r:.60} is no domain")
    return name
