"""MTA-STS as text: the record in DNS and the policy that a web server gives out (RFC 8461 3)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

import attrs

from mailhub.message.address import parse_domain, to_ascii

POLICY_OCTETS = 65536  # RFC 8461 3.3
MAX_AGE_SECONDS = 31_557_600  # RFC 8461 3.2
_PATTERNS = 250  # exchangers of one domain
# Of what is kept as it stands: lines, and characters of each.
_QUOTED, _QUOTED_LENGTH = 20, 255

_RECORD = re.compile(r"v=STSv1(?:[ \t]*;[ \t]*[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[!-:<>-~]+)+[ \t]*;?[ \t]*")
_ID = re.compile(r";[ \t]*id=([A-Za-z0-9]{1,32})[ \t]*(?:;|$)")
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")

Mode = Literal["enforce", "testing", "none"]
_MODES: dict[str, Mode] = {"enforce": "enforce", "testing": "testing", "none": "none"}


def record_id(texts: Sequence[bytes]) -> str | None:
    """The id of a domain's policy, by the TXT records of `_mta-sts.DOMAIN` (RFC 8461 3.1); None where it has none. A
    record is no other's business, so two that begin alike are none."""
    ours = [text for text in texts if re.match(rb"v=STSv1[ \t]*;", text)]
    if len(ours) != 1 or not ours[0].isascii():
        return None
    text = ours[0].decode("ascii")
    found = _ID.search(text) if _RECORD.fullmatch(text) else None
    return found[1] if found else None


@attrs.frozen
class StsPolicy:
    """What a domain says of its exchangers: `mx` are their names, or `*.` and what follows one label. It may be kept
    for `max_age` seconds. `lines` is the policy as its domain has written it, or what matters of it."""

    mode: Mode
    max_age: int
    mx: tuple[str, ...] = ()
    lines: tuple[str, ...] = attrs.field(eq=False)

    @lines.default
    def _what_matters(self) -> tuple[str, ...]:
        return ("version: STSv1", f"mode: {self.mode}", *(f"mx: {mx}" for mx in self.mx), f"max_age: {self.max_age}")

    @classmethod
    def parse(cls, octets: bytes) -> StsPolicy:
        """Raises ValueError with what is wrong."""
        if len(octets) > POLICY_OCTETS:
            raise ValueError("larger than 64 KiB")
        try:
            lines = octets.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            raise ValueError("not UTF-8") from None
        terms: dict[str, str] = {}
        patterns: list[str] = []
        for line in lines:
            name, colon, value = line.removesuffix("\r").partition(":")
            name, value = name.strip(" \t"), value.strip(" \t")
            if not name and not colon:
                continue
            if not colon or not _TERM.fullmatch(name):
                raise ValueError(f"a line is no field: {line[:80]!r}")
            if name == "mx":
                patterns.append(_pattern(value))
            else:
                terms.setdefault(name, value)  # of fields that are there twice the first counts
        if len(patterns) > _PATTERNS:
            raise ValueError(f"more than {_PATTERNS} mx")
        told = [line.removesuffix("\r")[:_QUOTED_LENGTH] for line in lines if line.strip()]
        return cls._of(terms, tuple(dict.fromkeys(patterns)), tuple(told[:_QUOTED]))

    @classmethod
    def _of(cls, terms: dict[str, str], patterns: tuple[str, ...], lines: tuple[str, ...]) -> StsPolicy:
        if terms.get("version") != "STSv1":
            raise ValueError("version is not STSv1")
        mode = _MODES.get(terms.get("mode", ""))
        if mode is None:
            raise ValueError("mode is not enforce, testing or none")
        age = terms.get("max_age", "")
        if not (age.isascii() and age.isdigit() and len(age) <= 10):
            raise ValueError("max_age is no number of seconds")
        if not patterns and mode != "none":
            raise ValueError("no mx")
        return cls(mode, min(int(age), MAX_AGE_SECONDS), patterns, lines)

    def allows(self, host: str) -> bool:
        """Whether a host (A-labels) is one of the exchangers (RFC 8461 4.1)."""
        host = host.rstrip(".").lower()
        above = host.partition(".")[2]
        return host in self.mx or (bool(above) and f"*.{above}" in self.mx)


def _pattern(text: str) -> str:
    """Raises ValueError."""
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        domain = parse_domain(name.rstrip("."))
    except ValueError:
        domain = "["
    if domain.startswith("["):
        raise ValueError(f"mx is no name: {text[:80]!r}")
    return star + (domain if domain.isascii() else to_ascii(domain))


@attrs.frozen
class KeptPolicy:
    """A policy, the id of the record that led to it, and when it was fetched (seconds since the epoch)."""

    policy: StsPolicy
    id: str
    fetched: int

    def is_good(self, now: int) -> bool:
        """Whether it may still be used."""
        return now - self.fetched < self.policy.max_age

    def render(self) -> bytes:
        """For `parse`."""
        kept = {"id": self.id, "fetched": self.fetched, "mode": self.policy.mode, "max_age": self.policy.max_age}
        return json.dumps({**kept, "mx": self.policy.mx, "lines": self.policy.lines}, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, octets: bytes) -> KeptPolicy:
        """What `render` has written. Raises ValueError."""
        try:
            kept = json.loads(octets)
            policy = StsPolicy(_MODES[kept["mode"]], int(kept["max_age"]), tuple(map(str, kept["mx"])))
            if lines := kept.get("lines"):  # there are none in what an earlier mailhub has kept
                policy = attrs.evolve(policy, lines=tuple(map(str, lines)))
            return cls(policy, str(kept["id"]), int(kept["fetched"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no policy: {error}") from None
