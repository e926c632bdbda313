"""Records of SPF (RFC 7208 4.6, 5, 6)."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

import attrs

from mailhub.checks.spf.macros import MacroString, parse_domain_spec, parse_macro_string

Qualified = Literal["pass", "fail", "softfail", "neutral"]
Kind = Literal["all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"]

_QUALIFIERS: dict[str, Qualified] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_VERSION = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_LIMIT = 8192  # octets of a record: RFC 7208 3.4 wants it to fit a small answer, and large ones have 2000
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)")
_MECHANISM = re.compile(r"([-+~?]?)([A-Za-z0-9]+)(?:(:)(.*)|(/.*))?")
_PREFIXES = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")
_SPEC_AND_PREFIXES = re.compile(r"(.*?)((?:/[0-9]+)?(?://[0-9]+)?)")
_NETWORK = re.compile(r"([^/]+)(?:/(0|[1-9][0-9]{0,2}))?")


class SpfSyntaxError(ValueError):
    """The record is none that can be read; the text says why."""


@attrs.frozen
class Directive:
    """A mechanism, and what the client is if it matches. `domain`: None for the domain in question. `network` is that
    of ip4 and ip6; `prefix4` and `prefix6` those of a and mx."""

    text: str
    result: Qualified
    kind: Kind
    domain: MacroString | None = None
    network: IPv4Network | IPv6Network | None = None
    prefix4: int = 32
    prefix6: int = 128


@attrs.frozen
class Record:
    """What a domain says of who sends its mail."""

    directives: tuple[Directive, ...] = ()
    redirect: MacroString | None = None
    explanation: MacroString | None = None


def is_spf(octets: bytes) -> bool:
    """Whether a TXT record is one (RFC 7208 4.5)."""
    return _VERSION.match(octets) is not None


@lru_cache(maxsize=2048)
def parse_record(octets: bytes) -> Record:
    """Raises SpfSyntaxError."""
    if len(octets) > _LIMIT:
        raise SpfSyntaxError(f"record has more than {_LIMIT} octets")
    try:
        terms = octets.decode("ascii").split(" ")[1:]
    except UnicodeDecodeError:
        raise SpfSyntaxError("record is not of ASCII") from None
    directives: list[Directive] = []
    known: dict[str, MacroString] = {}
    try:
        for term in terms:
            if not term:
                continue
            if modifier := _MODIFIER.fullmatch(term):
                _take_modifier(known, modifier[1].lower(), modifier[2])
            else:
                directives.append(_directive(term))
    except SpfSyntaxError:
        raise
    except ValueError as error:
        raise SpfSyntaxError(str(error)) from None
    return Record(tuple(directives), known.get("redirect"), known.get("exp"))


def _take_modifier(known: dict[str, MacroString], name: str, value: str) -> None:
    if name not in ("redirect", "exp"):
        parse_macro_string(value)
    elif name in known:
        raise SpfSyntaxError(f"{name}= comes twice")
    else:
        known[name] = parse_domain_spec(value)


def _directive(term: str) -> Directive:
    match = _MECHANISM.fullmatch(term)
    kind = match[2].lower() if match else ""
    if match is None or kind not in _MAKERS:
        raise SpfSyntaxError(f"{term!r:.80} is unknown")
    value = match[4] if match[3] else None
    return _MAKERS[kind](Directive(term, _QUALIFIERS[match[1] or "+"], kind), value, match[5] or "")  # type: ignore[arg-type]


def _bare(directive: Directive, value: str | None, prefixes: str) -> Directive:
    if value is not None or prefixes:
        raise SpfSyntaxError(f"{directive.text!r:.80} stands alone")
    return directive


def _with_domain(directive: Directive, value: str | None, prefixes: str) -> Directive:
    if value is None or prefixes:
        raise SpfSyntaxError(f"{directive.text!r:.80} has no domain")
    return attrs.evolve(directive, domain=parse_domain_spec(value))


def _with_any_domain(directive: Directive, value: str | None, prefixes: str) -> Directive:
    if prefixes:
        raise SpfSyntaxError(f"{directive.text!r:.80} has a prefix")
    return directive if value is None else _with_domain(directive, value, "")


def _with_prefixes(directive: Directive, value: str | None, prefixes: str) -> Directive:
    if value is not None:
        parted = _SPEC_AND_PREFIXES.fullmatch(value)
        assert parted is not None, "everything may be nothing"
        directive, prefixes = attrs.evolve(directive, domain=parse_domain_spec(parted[1])), parted[2]
    match = _PREFIXES.fullmatch(prefixes)
    if match is None or int(match[1] or 0) > 32 or int(match[2] or 0) > 128:
        raise SpfSyntaxError(f"{directive.text!r:.80} has no such prefix")
    return attrs.evolve(directive, prefix4=int(match[1] or 32), prefix6=int(match[2] or 128))


def _with_network(directive: Directive, value: str | None, prefixes: str) -> Directive:
    match = _NETWORK.fullmatch(value or "")
    if match is None or prefixes or "%" in match[1]:
        raise SpfSyntaxError(f"{directive.text!r:.80} has no network")
    network = ip_network(value or "", strict=False)
    if network.version != int(directive.kind[-1]):
        raise SpfSyntaxError(f"{directive.text!r:.80} is of the other family")
    return attrs.evolve(directive, network=network)


_MAKERS = {
    "all": _bare,
    "include": _with_domain,
    "a": _with_prefixes,
    "mx": _with_prefixes,
    "ptr": _with_any_domain,
    "ip4": _with_network,
    "ip6": _with_network,
    "exists": _with_domain,
}
