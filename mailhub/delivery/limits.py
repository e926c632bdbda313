"""What can be set about mail on its way in, the queue's runner, and outgoing connections. Apart from them, so that the
configuration, which reads it, need not stand on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

import attrs

from mailhub.keys import DAY, STOP_SECONDS, Key, limit, setting


def _separators(characters: str) -> None:
    if unknown := set(characters) - set("+-=#_.~!%/"):
        raise ValueError(f'"{min(unknown)}" cannot separate a detail; known: + - = # _ . ~ ! % /')


T = TypeVar("T")

# What happens to lines of a submitted message that are longer than 998 octets (RFC 5322 2.1.1).
LongLines = Literal["wrap", "reject"]
LONG_LINES: Key[LongLines] = Key("smtp", "submission_long_lines", "wrap", hint=LongLines)
# What a policy may take for one answer, and what happens without: the client is asked to come again, or all goes on as
# if the policy were not there. Each [policy.x] has both beside the plugin's own keys.
FailMode = Literal["tempfail", "skip"]
POLICY_TIMEOUT = Key("policy", "timeout_seconds", 30, 1, 600)
POLICY_FAILURE: Key[FailMode] = Key("policy", "failure", "tempfail", hint=FailMode)
# Whether `user+detail` is for the mailbox of that name.
DETAIL_MAILBOXES = Key("delivery", "detail_mailboxes", False, hint=bool)
# What separates user and detail: any of these characters, none where it is empty.
DETAIL_SEPARATOR = Key("delivery", "detail_separator", "+", hint=str, check=_separators)
# For how long one's own mail can be held (RFC 4865), in seconds.
HOLD_LIMIT = Key("submission", "hold_limit_seconds", 30 * DAY, 0, 365 * DAY)
# A message that has come through so many hosts goes round in a loop (RFC 5321 6.3).
HOPS = Key("limits", "hops", 50, 5, 1000)
# Who vouches for the certificates of other servers: a PEM file, instead of the authorities that the system knows.
CA_FILE: Key[Path | None] = Key("relay", "ca_file", None, hint=Path)
# For how long a server, or a destination, that cannot be reached is left alone.
UNREACHABLE_SECONDS = Key("limits", "relay_unreachable_seconds", 30, 1, DAY)


def one_of_each_family(texts: tuple[str, ...]) -> None:
    """Raises ValueError for what is not at most one IPv4 and one IPv6 address."""
    if len({_address(text).version for text in texts}) < len(texts):
        raise ValueError("has two addresses of one family; give one IPv4 and one IPv6 address at most")


def _addresses(texts: tuple[str, ...]) -> None:
    for text in texts:
        _address(text)


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError(f'"{text}" is not an IP address') from None


@attrs.frozen
class RelayAddresses:
    """IP addresses of this host: `own` are those by which others reach it, also where the machine itself does not know
    them; from `source` connections are made, one IPv4 and one IPv6 address at most."""

    own: tuple[str, ...] = setting(Key("relay", "own_addresses", (), hint=tuple[str, ...], check=_addresses))
    source: tuple[str, ...] = setting(
        Key("relay", "source_address", (), hint=tuple[str, ...], check=one_of_each_family)
    )


def check_retry_seconds(retry_seconds: tuple[int, ...]) -> None:
    """Raises ValueError."""
    longest = 7 * DAY
    if not all(1 <= seconds <= longest for seconds in retry_seconds):
        raise ValueError(f"must be a list of whole numbers from 1 to {longest}")


def _hours(instance: object, field: object, hours: int | None) -> None:
    if hours is not None and not 0 <= hours <= 24 * 30:
        raise ValueError(f"must be from 0 to {24 * 30}, not {hours}")


def _own_waits(instance: object, field: object, retry_seconds: tuple[int, ...]) -> None:
    check_retry_seconds(retry_seconds)


def _own_wait(instance: object, field: object, seconds: int | None) -> None:
    if seconds is not None:
        check_retry_seconds((seconds,))


def _quick(instance: object, field: object, attempts: int | None) -> None:
    if attempts is not None and not 1 <= attempts <= 100:
        raise ValueError(f"must be from 1 to 100, not {attempts}")


def _attempts(instance: object, field: object, attempts: int | None) -> None:
    if attempts is not None and not 1 <= attempts <= 1000:
        raise ValueError(f"must be from 1 to 1000, not {attempts}")


@attrs.frozen
class QueueDestination:
    """[queue.destination."domain or host"]: what is other there than for the rest of the queue."""

    retry_seconds: tuple[int, ...] = attrs.field(default=(), validator=_own_waits)
    retry_first_seconds: int | None = attrs.field(default=None, validator=_own_wait)
    retry_quick_attempts: int | None = attrs.field(default=None, validator=_quick)
    retry_most_seconds: int | None = attrs.field(default=None, validator=_own_wait)
    expire_hours: int | None = attrs.field(default=None, validator=_hours)
    delay_warning_hours: int | None = attrs.field(default=None, validator=_hours)
    attempts: int | None = attrs.field(default=None, validator=_attempts)


_NO_DESTINATIONS: Mapping[str, QueueDestination] = MappingProxyType({})


def _check_destinations(destinations: Mapping[str, QueueDestination]) -> None:
    if not destinations and destinations is not _NO_DESTINATIONS:
        raise ValueError('must be tables such as [queue.destination."example.org"]')
    for name in destinations:
        if name != name.lower() or not name.isascii():
            raise ValueError(f'"{name}" must be a domain (as A-labels) or host, in small letters')


DESTINATIONS: Key[Mapping[str, QueueDestination]] = Key(
    "queue", "destination", _NO_DESTINATIONS, hint=Mapping[str, QueueDestination], check=_check_destinations
)


def own_of(destinations: Mapping[str, T], destination: str) -> T | None:
    """What a destination of the queue (`Route.destination`) has of its own: by host, with its port or without, or by
    domain."""
    name = destination.partition(" ")[2].lower()
    return destinations.get(name) or destinations.get(name.partition(":")[0])


@attrs.frozen
class RunnerLimits:
    """Bounds of the runner. Times in seconds.

    `attempts` run at the same time, of which `attempts_per_target` to one destination; `held` messages wait in memory
    for their turn, and half as many more of those that are soon over (`Claiming`). The queue is looked at every
    `poll_seconds` at least, because the operator's command may change rows. `attempt_seconds` is how long an agent may
    take before it is cut off. A destination that cannot be reached is left alone for `unreachable_seconds` at first.
    `stop_seconds` is how long stop() waits for attempts under way. `retry_seconds` is the wait after the queue itself
    failed.
    """

    attempts: int = limit("delivery_attempts", 200, 1, 10_000)
    attempts_per_target: int = limit("delivery_attempts_per_target", 5, 1, 1000)
    held: int = 1000
    poll_seconds: float = 5.0
    attempt_seconds: float = limit("delivery_attempt_seconds", 3600, 60, DAY)
    unreachable_seconds: float = setting(UNREACHABLE_SECONDS)
    stop_seconds: float = setting(STOP_SECONDS)
    retry_seconds: float = 5.0
    destinations: Mapping[str, QueueDestination] = setting(DESTINATIONS)

    def attempts_at(self, destination: str) -> int:
        """To one destination at a time."""
        own = own_of(self.destinations, destination) if self.destinations else None
        return self.attempts_per_target if own is None or own.attempts is None else own.attempts

    @property
    def of_destinations(self) -> tuple[int, Callable[[str], int], float]:
        """What `Destinations` is bound by."""
        return self.attempts, self.attempts_at, self.unreachable_seconds


@attrs.frozen
class TransmitLimits:
    """Bounds of outgoing connections. Times in seconds.

    `addresses` are tried for a message at most. A transaction has at most `recipients`. A connection is kept for
    `idle_seconds` after a message and carries at most `messages`; at most `idle_connections` are kept. A server that
    could not be reached is left alone for `unreachable_seconds`.
    """

    addresses: int = limit("relay_addresses_per_message", 10, 1, 1000)
    recipients: int = limit("relay_recipients_per_transaction", 100, 1, 10_000)
    messages: int = limit("relay_messages_per_connection", 100, 1, 10_000)
    idle_seconds: float = limit("relay_idle_seconds", 30, 1, DAY)
    idle_connections: int = limit("relay_idle_connections", 50, 0, 10_000)
    unreachable_seconds: float = setting(UNREACHABLE_SECONDS)
    unreachable_known: int = 1000
