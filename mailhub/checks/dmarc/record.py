"""Policy records of DMARC (RFC 9989 4.7)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Literal, get_args

import attrs

Policy = Literal["none", "quarantine", "reject"]
Alignment = Literal["r", "s"]
Psd = Literal["y", "n", "u"]

POLICIES: tuple[Policy, ...] = get_args(Policy)  # the least strict one first
URIS_LIMIT = 10  # of one kind that are looked at

_VERSION = re.compile(rb"[ \t]*+v[ \t]*+=[ \t]*+DMARC1[ \t]*+(?:;|\Z)")
_LIMIT = 8192  # octets of a record that are read
_NAME = re.compile(r"[A-Za-z]+")
_MAILTO = re.compile(r"mailto:[^\s,;!]+@[^\s,;!]+", re.IGNORECASE)
_SIZE = re.compile(r"(.*)!([0-9]{1,12})([kmgt]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@attrs.frozen
class ReportTo:
    """Where reports are wanted: a URI, and how many octets at most of one, None for any (RFC 7489's form, which senders
    still have)."""

    uri: str
    size_limit: int | None = None


@attrs.frozen
class DmarcRecord:
    """What a domain wants done with mail that is from it and fails. `subdomains` and `nonexistent` are sp= and np=,
    None where they say nothing. `testing`: t=y. `psd`: whether it is a public suffix, where it says so. `failures` are
    the letters of fo=."""

    policy: Policy = "none"
    subdomains: Policy | None = None
    nonexistent: Policy | None = None
    dkim: Alignment = "r"
    spf: Alignment = "r"
    psd: Psd = "u"
    testing: bool = False
    aggregate: tuple[ReportTo, ...] = ()
    failure: tuple[ReportTo, ...] = ()
    failures: frozenset[str] = frozenset({"0"})


def is_dmarc(octets: bytes) -> bool:
    """Whether a TXT record is one: v= is its first tag, and its value is in capitals."""
    return _VERSION.match(octets) is not None


def parse_dmarc(octets: bytes) -> DmarcRecord:
    """One that `is_dmarc`. What is unknown or malformed in it counts as not said."""
    return _parsed(octets[:_LIMIT])


@lru_cache(maxsize=2048)
def _parsed(octets: bytes) -> DmarcRecord:
    tags: dict[str, str] = {}
    for spec in octets.decode("utf-8", "replace").split(";"):
        name, equals, value = spec.partition("=")
        name = name.strip().lower()
        if equals and _NAME.fullmatch(name) and name not in tags:
            tags[name] = value.strip()
    return DmarcRecord(
        policy=_one_of(tags, "p", POLICIES) or "none",
        subdomains=_one_of(tags, "sp", POLICIES),
        nonexistent=_one_of(tags, "np", POLICIES),
        dkim=_one_of(tags, "adkim", get_args(Alignment)) or "r",
        spf=_one_of(tags, "aspf", get_args(Alignment)) or "r",
        psd=_one_of(tags, "psd", get_args(Psd)) or "u",
        testing=tags.get("t", "").lower() == "y",
        aggregate=_uris(tags.get("rua", "")),
        failure=_uris(tags.get("ruf", "")),
        failures=frozenset(each.strip() for each in tags.get("fo", "0").lower().split(":")) & frozenset("01ds"),
    )


def _one_of(tags: dict[str, str], name: str, known: tuple[str, ...]) -> Any:
    value = tags.get(name, "").lower()
    return value if value in known else None


def _uris(value: str) -> tuple[ReportTo, ...]:
    found = []
    for text in value.split(",")[: URIS_LIMIT * 2]:
        text, limit = text.strip(), None
        if sized := _SIZE.fullmatch(text):
            text, limit = sized[1], int(sized[2]) * _UNITS[sized[3].lower()]
        if _MAILTO.fullmatch(text):
            found.append(ReportTo(text, limit))
    return tuple(found[:URIS_LIMIT])
