"""Our own keys of DKIM, which are kept in the database: how each comes to sign, and how another takes its place.

A key is *new* while its record is to be published, *active* from when DNS was seen with it, and *retired* from when
another of its domain and algorithm became active: its record has to stay for mail that is on its way. A key that is new
signs nothing, so that nothing goes out that nobody can verify.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import attrs
from twisted.internet.interfaces import IReactorTime

from mailhub.checks.keys import KeyFault, parse_key
from mailhub.checks.signing import PrivateKey, SigningKey, read_key, write_key
from mailhub.interfaces import IState
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.zone_file import character_strings

_log = Logger(namespace="mailhub.delivery.dkim")

PART = "dkim"  # of the database's state
KEYS = 10_000  # that are looked at
FRESH_SECONDS = 1.0
_LABEL = 63  # octets (RFC 1035 2.3.4)
_SELECTOR = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")

KeyState = Literal["new", "active", "retired"]
_STATES: Mapping[str, KeyState] = {"new": "new", "active": "active", "retired": "retired"}
# What knows RSA alone is met more often, and looks at the first one.
_ORDER = {"rsa-sha256": 0, "ed25519-sha256": 1}


@attrs.frozen
class KeptKey:
    """A key with what has become of it. Times in seconds since the epoch: when it was made, when DNS was first seen
    with its record (0: it was not), and, of one that is retired, after when it may be forgotten. `announced`: the
    operator knows that its record is to be published."""

    key: SigningKey
    created: int
    state: KeyState = "new"
    seen: int = 0
    until: int = 0
    announced: bool = True

    @property
    def algorithm(self) -> str:
        """ "rsa" or "ed25519"."""
        return self.key.algorithm.partition("-")[0]

    @property
    def entry(self) -> str:
        """Its name in the state."""
        return f"{self.key.domain} {self.key.selector}"

    @property
    def published(self) -> tuple[str, str]:
        """The name and the text of its record."""
        return self.key.name, self.key.record

    def value(self) -> bytes:
        """As it is kept: the private half as PEM (PKCS #8)."""
        told = {"created": self.created, "state": self.state, "seen": self.seen, "until": self.until}
        return json.dumps({**told, "announced": self.announced, "pem": write_key(self.key.private).decode()}).encode()


def read_kept(entry: str, value: bytes) -> KeptKey:
    """The opposite of `KeptKey.value`. Raises ValueError."""
    domain, _, selector = entry.partition(" ")
    try:
        told = json.loads(value)
        key = SigningKey(domain, selector, read_key(told["pem"].encode(), ours=True))
        times = int(told["created"]), _STATES[told["state"]], int(told["seen"]), int(told["until"])
        return KeptKey(key, *times, bool(told["announced"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"key {entry} is damaged: {error!r}") from None


class KeptKeys:
    """Those of the database."""

    def __init__(self, state: IState) -> None:
        self._state = state
        self._read: dict[str, tuple[bytes, KeptKey]] = {}  # to read one takes longer than to sign with it

    async def all(self, domain: str = "") -> Sequence[KeptKey]:
        """Of one domain, or of all, in the order of their domains, the oldest first. What is damaged is left out, and
        the log says so. Raises StoreUnavailable."""
        found = await self._state.items(f"{domain} " if domain else "", KEYS)
        kept = []
        for entry, value in found.items():
            known = self._read.get(entry)
            if known is None or known[0] != value:
                try:
                    known = self._read[entry] = value, read_kept(entry, value)
                except ValueError as error:
                    _log.warn("DKIM key cannot be used: {reason:text}", reason=str(error))
                    continue
            kept.append(known[1])
        if not domain:
            self._read = {entry: known for entry, known in self._read.items() if entry in found}
        return sorted(kept, key=lambda each: (each.key.domain, each.created, each.key.selector))

    async def put(self, keys: Iterable[KeptKey]) -> None:
        """All or none of them, in the place of those of the same names. Raises StoreUnavailable."""
        await self._state.put({each.entry: each.value() for each in keys})

    async def remove(self, keys: Iterable[KeptKey]) -> None:
        """Raises StoreUnavailable."""
        await self._state.remove([each.entry for each in keys])


@attrs.define(eq=False)
class ActiveKeys:
    """Those that sign, as they were a second ago at most, by domain; and all that have signed, by domain and
    selector."""

    _kept: KeptKeys
    _clock: IReactorTime
    _read_at: float | None = None
    by_domain: Mapping[str, Sequence[SigningKey]] = attrs.field(factory=dict, init=False)
    by_name: Mapping[tuple[str, str], SigningKey] = attrs.field(factory=dict, init=False)

    async def refresh(self) -> None:
        """Raises StoreUnavailable."""
        now = self._clock.seconds()
        if self._read_at is not None and 0 <= now - self._read_at < FRESH_SECONDS:
            return
        found: dict[str, list[SigningKey]] = {}
        by_name = {}
        for each in await self._kept.all():
            if each.state != "new":
                by_name[each.key.domain, each.key.selector] = each.key
            if each.state == "active":
                found.setdefault(each.key.domain, []).append(each.key)
        for keys in found.values():
            keys.sort(key=lambda key: _ORDER[key.algorithm])
        self.by_domain, self.by_name, self._read_at = found, by_name, now

    @property
    def any(self) -> bool:
        """Whether there is one, as far as that is known."""
        return bool(self.by_domain)

    def of(self, domain: str) -> Sequence[SigningKey]:
        """Those of a domain (A-labels), that for RSA first."""
        return self.by_domain.get(domain, ())

    def for_domain(self, domain: str) -> Sequence[SigningKey]:
        """Those of a domain, or of the nearest one above it that has any."""
        return next((keys for each in and_above(domain) if (keys := self.of(each))), ())


def is_selector(text: str) -> bool:
    """Whether it can be one, in small letters (RFC 6376 3.1)."""
    return _SELECTOR.fullmatch(text) is not None and all(len(label) <= _LABEL for label in text.split("."))


def and_above(domain: str) -> Iterator[str]:
    """A domain and those that it is below, the nearest first."""
    while domain:
        yield domain
        domain = domain.partition(".")[2]


# --- How one follows another ------------------------------------------------------------------------------------------


def is_shown(key: SigningKey, records: Sequence[bytes]) -> bool:
    """Whether mail that this key has signed can be verified with what DNS has (RFC 6376 3.6.1)."""
    return any(not fault_of(key, record) for record in records)


def fault_of(key: SigningKey, record: bytes) -> str:
    """What is wrong with a record of a key; "" for nothing."""
    try:
        found = parse_key(record)
    except KeyFault as fault:
        return str(fault)
    if found.key != key.private.public_key():
        return "record is of another key"
    if found.hashes and "sha256" not in found.hashes:
        return "record does not permit SHA-256"
    return "record is not for mail" if found.services.isdisjoint({"*", "email"}) else ""


def made(
    private: Mapping[str, PrivateKey], domain: str, taken: Collection[str], now: int, selector: str = ""
) -> list[KeptKey]:
    """New keys of a domain, of private halves by algorithm. Each has a selector of its own: two records at one name
    are one too many (RFC 6376 3.6.2.2). `taken` are those that there are."""
    several = len(private) > 1 or not selector
    base = selector or datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
    number = 1
    while True:
        start = base if number == 1 else f"{base}-{number}"
        names = {algorithm: f"{start}-{algorithm}" if several else start for algorithm in private}
        if selector or not any(name in taken for name in names.values()):
            return [
                KeptKey(SigningKey(domain, names[algorithm], each), now) for algorithm, each in sorted(private.items())
            ]
        number += 1


def switched(
    keys: Sequence[KeptKey], shown: Collection[tuple[str, str]], now: int, retire_seconds: int
) -> list[KeptKey]:
    """What changes when DNS shows these records (`KeptKey.published`): new keys sign from now on, and those that did
    before are retired. To be kept together, so that there is no moment without a key."""
    changed: dict[str, KeptKey] = {}
    for new in [each for each in keys if each.state == "new" and each.published in shown]:
        for old in [changed.get(each.entry, each) for each in keys]:
            alike = old.key.domain == new.key.domain and old.algorithm == new.algorithm
            if alike and old.state == "active":
                changed[old.entry] = attrs.evolve(old, state="retired", until=now + retire_seconds)
        changed[new.entry] = attrs.evolve(new, state="active", seen=now, announced=True)
    return list(changed.values())


def over(keys: Iterable[KeptKey], now: int) -> list[KeptKey]:
    """Those that are retired and no longer needed by any mail."""
    return [each for each in keys if each.state == "retired" and each.until <= now]


def in_use(keys: Iterable[KeptKey]) -> Mapping[str, Sequence[str]]:
    """The algorithms of the keys that sign, or will, by domain."""
    found: dict[str, dict[str, None]] = {}
    for each in keys:
        if each.state != "retired":
            found.setdefault(each.key.domain, {})[each.algorithm] = None
    return {domain: tuple(algorithms) for domain, algorithms in found.items()}


def too_old(keys: Sequence[KeptKey], now: int, days: int) -> Mapping[str, Sequence[str]]:
    """The algorithms of domains whose key has signed for so many days, and has no follower yet."""
    coming = {(each.key.domain, each.algorithm) for each in keys if each.state == "new"}
    found: dict[str, list[str]] = {}
    for each in keys:
        place = each.key.domain, each.algorithm
        if each.state == "active" and place not in coming and now - (each.seen or each.created) >= days * DAY:
            found.setdefault(place[0], []).append(place[1])
    return found


# --- Records ----------------------------------------------------------------------------------------------------------


def zone_line(key: SigningKey) -> str:
    """The record for a zone file, in strings (RFC 1035 3.3.14) that are lines of their own."""
    strings = character_strings(key.record.encode())
    return f"{key.name}. 3600 IN TXT " + (strings[0] if len(strings) == 1 else "\n    ".join(["(", *strings]) + " )")
