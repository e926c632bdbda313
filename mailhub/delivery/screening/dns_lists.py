"""Lists of addresses in DNS (RFC 5782): which an address is on, and how much that weighs.

An answer is a record in 127.0.0.0/8. It is kept as long as its TTL says, by the resolver. What a list answers to those
whom it does not serve (127.255.255.x), and what lies outside, is no listing: the log says so, and the list counts for
nothing, as does one that does not answer in time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs
from twisted.internet.defer import Deferred, DeferredList, TimeoutError

from mailhub.answers import in_time
from mailhub.errors import MailError
from mailhub.interfaces import Environment
from mailhub.log import Logger
from mailhub.message.address import parse_domain, to_ascii

_log = Logger(namespace="mailhub.delivery")

WEIGHT_LIMIT = 1000
ZONES_LIMIT = 50
_TEXT_LIMIT = 200  # characters of what a list says of an address
# A list that was too slow so often in a row is left alone for so long.
_SLOW = 5
_REST_SECONDS = 60.0
_ENTRY = re.compile(r"([^=*\s]+)(?:=([^=*\s]+))?(?:\*(-?[0-9]{1,4}))?")
_OCTET = r"([0-9]{1,3}|\[[0-9.;]+\])"
_PATTERN = re.compile(r"\.".join([_OCTET] * 4))
_RANGE = re.compile(r"([0-9]{1,3})(?:\.\.([0-9]{1,3}))?")
_BLOCKED = (127, 255, 255)


@attrs.frozen
class ListEntry:
    """One list, and what an answer must be to weigh: for each of its four octets those that are meant."""

    zone: str
    octets: tuple[frozenset[int], ...] = ()
    weight: int = 1

    @classmethod
    def parse(cls, text: str) -> ListEntry:
        """`zone`, `zone*weight`, `zone=127.0.0.2` or `zone=127.0.[0..3].[2;4..8]*weight`, as in Postfix. Raises
        ValueError."""
        found = _ENTRY.fullmatch(text)
        if found is None:
            raise ValueError(f'"{text}" is not a list such as "bl.example.org=127.0.0.[2..11]*2"')
        try:
            zone = to_ascii(parse_domain(found[1]))
        except ValueError as error:
            raise ValueError(f'"{text}": {found[1]}: {error}') from None
        weight = int(found[3] or 1)
        if not weight or abs(weight) > WEIGHT_LIMIT:
            raise ValueError(f'"{text}": a weight is from -{WEIGHT_LIMIT} to {WEIGHT_LIMIT}, and not 0')
        return cls(zone, _octets(found[2], text) if found[2] else (), weight)

    def weighs(self, answer: IPv4Address) -> bool:
        """Whether this answer is meant."""
        return not self.octets or all(octet in meant for octet, meant in zip(answer.packed, self.octets, strict=True))


def _octets(pattern: str, text: str) -> tuple[frozenset[int], ...]:
    found = _PATTERN.fullmatch(pattern)
    if found is None:
        raise ValueError(f'"{text}": {pattern} is not an answer such as 127.0.0.[2..11]')
    octets = []
    for part in found.groups():
        meant: set[int] = set()
        for one in part.strip("[]").split(";"):
            bounds = _RANGE.fullmatch(one)
            if bounds is None:
                raise ValueError(f'"{text}": {one} is neither a number nor a range such as 2..11')
            low, high = int(bounds[1]), int(bounds[2] or bounds[1])
            if not low <= high <= 255:
                raise ValueError(f'"{text}": {one} is no range from 0 to 255')
            meant.update(range(low, high + 1))
        octets.append(frozenset(meant))
    return tuple(octets)


def parse_entries(texts: Sequence[str]) -> tuple[ListEntry, ...]:
    """Raises ValueError, also for too many lists."""
    entries = tuple([ListEntry.parse(text) for text in texts])
    if len({entry.zone for entry in entries}) > ZONES_LIMIT:
        raise ValueError(f"more than {ZONES_LIMIT} lists")
    return entries


def reversed_name(address: str) -> str:
    """What stands before a list's name (RFC 5782 2.1 and 2.4): octets or nibbles, the last one first. Raises
    ValueError for what is no address."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return ".".join(reversed(parsed.exploded.replace(":", "")))
        parsed = parsed.ipv4_mapped
    return ".".join(reversed(str(parsed).split(".")))


@attrs.frozen
class Listed:
    """What lists say of an address: the weights together, and the list that weighs most, "" for none."""

    weight: int = 0
    zone: str = ""


@attrs.define(eq=False)
class DnsLists:
    """Several lists. What one of them has to say is awaited for `seconds`."""

    entries: tuple[ListEntry, ...]
    seconds: float
    _environment: Environment
    _slow: dict[str, int] = attrs.field(init=False, factory=dict)
    _rests: dict[str, float] = attrs.field(init=False, factory=dict)

    async def look_up(self, address: str) -> Listed:
        """All of them at once. Never raises."""
        try:
            name = reversed_name(address)
        except ValueError:
            return Listed()
        now = self._environment.monotonic()
        zones = [
            zone for zone in dict.fromkeys(each.zone for each in self.entries) if self._rests.get(zone, 0.0) <= now
        ]
        asked = [Deferred.fromCoroutine(self._ask(name, zone)) for zone in zones]
        results = await DeferredList(asked)
        answers = {zone: found for zone, (_, found) in zip(zones, results, strict=True)}
        weights = [
            (entry.weight, entry.zone)
            for entry in self.entries
            if any(entry.weighs(answer) for answer in answers.get(entry.zone, ()))
        ]
        heaviest = max(weights, default=(0, ""), key=lambda each: each[0])
        return Listed(sum(weight for weight, _ in weights), heaviest[1] if heaviest[0] > 0 else "")

    async def reason(self, address: str, zone: str) -> str:
        """What a list says about its listing, "" for nothing. Never raises."""
        environment = self._environment
        try:
            name = f"{reversed_name(address)}.{zone}"
            texts: Sequence[bytes] = await in_time(environment.clock, self.seconds, environment.resolver.texts, name)
        except (MailError, ValueError, TimeoutError):
            return ""
        said = texts[0].decode("ascii", "replace") if texts else ""
        return "".join(char for char in said if " " <= char <= "~")[:_TEXT_LIMIT]

    async def _ask(self, name: str, zone: str) -> Sequence[IPv4Address]:
        environment = self._environment
        try:
            question = f"{name}.{zone}"
            found: Sequence[str] = await in_time(
                environment.clock, self.seconds, environment.resolver.addresses, question
            )
        except TimeoutError:
            self._note_slow(zone)
            return ()
        except MailError:
            return ()
        self._slow.pop(zone, None)
        return self._sound(zone, found)

    def _note_slow(self, zone: str) -> None:
        self._slow[zone] = self._slow.get(zone, 0) + 1
        if self._slow[zone] >= _SLOW:
            self._slow[zone] = 0
            self._rests[zone] = self._environment.monotonic() + _REST_SECONDS
            _log.event("list rests", {"zone": zone, "reason": "it does not answer", "seconds": f"{_REST_SECONDS:g}"})

    def _sound(self, zone: str, found: Sequence[str]) -> Sequence[IPv4Address]:
        answers = []
        for text in found:
            answer = ip_address(text)
            if not isinstance(answer, IPv4Address):
                continue
            if not answer.is_loopback or tuple(answer.packed[:3]) == _BLOCKED:
                reason = "it does not serve our resolver" if answer.is_loopback else "it is no list"
                _log.event("list is of no use", {"zone": zone, "answer": text, "reason": reason})
            else:
                answers.append(answer)
        return answers
