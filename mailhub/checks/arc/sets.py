"""The sets of a chain as they stand in a header (RFC 8617 4), before anything of them is verified."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from mailhub.checks.signature import FIELD_LIMIT, Signature, SignatureFault, parse_seal, parse_signature
from mailhub.checks.tags import parse_tags

RESULTS, SIGNATURE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
_FORMS = "c"  # the tag for canonical forms
SETS_LIMIT = 50  # RFC 8617 4.2.1
KINDS = (RESULTS, SIGNATURE, SEAL)

# CFWS, and a position (RFC 8617 3.9)
_CFWS = r"(?:[ \t\r\n]|\((?:[^()\\]|\\.)*\))*"
_POSITION = re.compile(rf"{_CFWS}([0-9]{{1,2}}){_CFWS}", re.DOTALL)
_AT_START = re.compile(rf"{_CFWS}i{_CFWS}={_CFWS}([0-9]{{1,2}}){_CFWS};".encode(), re.DOTALL)

Fields = Sequence[tuple[bytes, bytes]]


class ChainFault(ValueError):
    """The chain is no chain; the text says why."""


@attrs.frozen
class ArcSet:
    """One set. `fields` are its three in the order in which they are sealed: results, signature, seal."""

    instance: int
    fields: tuple[bytes, bytes, bytes] = attrs.field(repr=False)
    signature: Signature
    seal: Signature

    @property
    def readings(self) -> Sequence[Signature]:
        """How its signature may be read: where c= is absent that means "simple", and some sealers mean "relaxed"."""
        if _FORMS in parse_tags(self.fields[1].partition(b":")[2]):
            return (self.signature,)
        return self.signature, attrs.evolve(self.signature, header_form="relaxed", body_form="relaxed")

    @property
    def results(self) -> bytes:
        """What its sealer says that it has found: all after the instance of ARC-Authentication-Results."""
        value = self.fields[0].partition(b":")[2]
        found = _AT_START.match(value)
        assert found is not None, "it was read"
        return value[found.end() :]


@attrs.frozen
class Collected:
    """What there is of a chain. `highest`: the greatest instance. `ended`: who has sealed last says that the chain is
    broken. `fault`: why it is none; then there are no `sets`."""

    highest: int = 0
    ended: bool = False
    sets: tuple[ArcSet, ...] = ()
    fault: str = ""


def collect(fields: Fields) -> Collected:
    """The chain in a header: (name in lower case, raw octets) of all its fields. Its cost is bounded, whatever the
    header is."""
    found: list[tuple[int, bytes, bytes]] = []
    fault = ""
    for name, octets in [each for each in fields if each[0] in KINDS][: 3 * SETS_LIMIT + 1]:
        if len(found) == 3 * SETS_LIMIT:
            return Collected(SETS_LIMIT, fault="too many sets")
        try:
            found.append((_instance(name, octets), name, octets))
        except ValueError as error:
            fault = fault or f"{name.decode()}: {error}"
    highest = max([instance for instance, _, _ in found], default=0)
    if not found and not fault:
        return Collected()
    ended = any(_ends(octets) for instance, name, octets in found if instance == highest and name == SEAL)
    try:
        if ended:
            raise ChainFault("it was broken before")
        if fault:
            raise ChainFault(fault)
        return Collected(highest, sets=_sets(found, highest))
    except ChainFault as error:
        return Collected(highest, ended, fault=str(error))


def _instance(name: bytes, octets: bytes) -> int:
    """Raises ValueError."""
    if len(octets) > FIELD_LIMIT:
        raise ValueError("field is too large")
    value = octets.partition(b":")[2]
    if name == RESULTS:
        at_start = _AT_START.match(value)
        digits = at_start[1].decode() if at_start else ""
    else:
        tag = _POSITION.fullmatch(parse_tags(value).get("i", ""))
        digits = tag[1] if tag else ""
    if not digits or not 1 <= int(digits) <= SETS_LIMIT:
        raise ValueError(f"i= is none of 1 to {SETS_LIMIT}")
    return int(digits)


def _ends(seal: bytes) -> bool:
    return parse_tags(seal.partition(b":")[2]).get("cv") == "fail"


def _sets(found: Sequence[tuple[int, bytes, bytes]], highest: int) -> tuple[ArcSet, ...]:
    """RFC 8617 5.2, step 3. Raises ChainFault."""
    by_place: dict[tuple[int, bytes], bytes] = {}
    for instance, name, octets in found:
        if by_place.setdefault((instance, name), octets) is not octets:
            raise ChainFault(f"{name.decode()} comes twice for i={instance}")
    sets = []
    for instance in range(1, highest + 1):
        there = [by_place.get((instance, name)) for name in KINDS]
        if None in there:
            raise ChainFault(f"{KINDS[there.index(None)].decode()} is missing for i={instance}")
        results, signature, seal = [each or b"" for each in there]
        try:
            sealed, status = parse_seal(seal)
            sets.append(ArcSet(instance, (results, signature, seal), parse_signature(signature, "arc"), sealed))
        except SignatureFault as error:
            raise ChainFault(f"i={instance}: {error}") from None
        if status != ("none" if instance == 1 else "pass"):
            raise ChainFault(f"cv={status:.20} is not for i={instance}")
    return tuple(sets)
