"""When the queue tries again, and when it gives up (RFC 5321 4.5.4.1). Pure: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs

from mailhub.delivery.limits import DESTINATIONS, QueueDestination, check_retry_seconds, own_of
from mailhub.interfaces import QueuedMessage, Route
from mailhub.keys import DAY, Key, setting
from mailhub.message.envelope import Mail

_SLOWNESS = 1.25  # what attempts themselves add to the waits, as a factor


@attrs.frozen
class Schedule:
    """Back-off of the queue.

    Waits are exponential: `quick_attempts` of `first_seconds`, and then each twice the one before, up to
    `most_seconds`; or they are `retry_seconds`, where there are any, after the first, second, ... attempt, and the last
    one repeats. `jitter` is the share by which a wait is stretched at most, so that a thousand messages for one dead
    host do not come back in the same second. `expire_seconds` is the age at which a recipient that cannot be reached is
    given up, `bounce_expire_seconds` that of a message with the null reverse-path, of which nobody is told. After
    `warning_seconds` its sender is told that a message is late (0: never). `destinations` have their own, by domain or
    host.

    Age alone is no reason to give up: the wall clock may have been set forward by days, or the server may have been
    off. As many attempts must have been made as fit in the time (`enough`).
    """

    retry_seconds: tuple[int, ...] = setting(
        Key("queue", "retry_seconds", (), hint=tuple[int, ...], check=check_retry_seconds)
    )
    expire_seconds: int = setting(Key("queue", "expire_hours", 120, 1, 24 * 30), lambda hours: hours * 3600)
    jitter: float = setting(Key("queue", "retry_jitter_percent", 20, 0, 100), lambda percent: percent / 100)
    warning_seconds: int = setting(Key("queue", "delay_warning_hours", 4, 0, 24 * 30), lambda hours: hours * 3600)
    bounce_expire_seconds: int = setting(
        Key("queue", "bounce_expire_hours", 120, 1, 24 * 30), lambda hours: hours * 3600
    )
    first_seconds: int = setting(Key("queue", "retry_first_seconds", 60, 1, DAY))
    quick_attempts: int = setting(Key("queue", "retry_quick_attempts", 3, 1, 100))
    most_seconds: int = setting(Key("queue", "retry_most_seconds", 3600, 1, 7 * DAY))
    destinations: Mapping[str, QueueDestination] = setting(DESTINATIONS)

    def at(self, route: Route) -> Schedule:
        """The schedule for what goes this way."""
        own = own_of(self.destinations, route.destination) or self.destinations.get(route.recipient.ascii_domain)
        if own is None:
            return self
        return self._as(own)

    def _as(self, own: QueueDestination) -> Schedule:
        waits = {
            "first_seconds": own.retry_first_seconds,
            "quick_attempts": own.retry_quick_attempts,
            "most_seconds": own.retry_most_seconds,
        }
        changes: dict[str, Any] = {name: value for name, value in waits.items() if value is not None}
        if changes or own.retry_seconds:
            changes["retry_seconds"] = own.retry_seconds
        changes["destinations"] = {}
        if own.expire_hours is not None:
            changes["expire_seconds"] = own.expire_hours * 3600
        if own.delay_warning_hours is not None:
            changes["warning_seconds"] = own.delay_warning_hours * 3600
        return attrs.evolve(self, **changes)

    @property
    def waits(self) -> Sequence[int]:
        """Seconds after the first, second, ... attempt; the last one repeats."""
        return self.retry_seconds or _exponential(self.first_seconds, self.quick_attempts, self.most_seconds)

    def wait(self, attempts: int, chance: float) -> int:
        """Seconds to wait after `attempts` (1 or more) failed attempts. `chance` is in 0.0 to 1.0."""
        waits = self.waits
        position = min(max(attempts, 1), len(waits)) - 1
        return max(1, round(waits[position] * (1 + self.jitter * chance)))

    @property
    def longest_wait(self) -> int:
        """Seconds; nothing waits longer for its next attempt."""
        waits = [*self.waits, *(seconds for each in self.destinations.values() for seconds in self._as(each).waits)]
        return max(1, round(max(waits) * (1 + self.jitter)))

    @property
    def longest_expiry(self) -> int:
        """Seconds; no message is tried for longer, wherever it goes."""
        own = [each.expire_hours * 3600 for each in self.destinations.values() if each.expire_hours is not None]
        return max([self.expire_seconds, *own])

    @property
    def enough(self) -> int:
        """Attempts that are made in `expire_seconds` at the least, with waits as long as they get and slow servers."""
        return self._enough_in(self.expire_seconds)

    def _enough_in(self, expire_seconds: int) -> int:
        waits = [seconds * (1 + self.jitter) * _SLOWNESS for seconds in self.waits]
        attempts, left = 1, float(expire_seconds)
        for wait in waits[:-1]:
            if left < wait:
                return attempts
            attempts, left = attempts + 1, left - wait
        return attempts + int(left // waits[-1])

    def time_of(self, mail: Mail) -> int:
        """For how many seconds a message is tried."""
        return self.bounce_expire_seconds if mail.reverse_path is None else self.expire_seconds

    def next_attempt(
        self, begins: int, now: int, attempts: int, chance: float, expire_seconds: int | None = None
    ) -> int | None:
        """Time of the next attempt in seconds since the epoch, after `attempts`; None when it is time to give up.

        The last attempt is made at the very end of the message's time, not up to a whole wait before it. A message
        from the future (the clock has been set back) is judged by its attempts alone.
        """
        expire_seconds = self.expire_seconds if expire_seconds is None else expire_seconds
        end = begins + expire_seconds
        due = now + self.wait(attempts, chance)
        if begins <= now < end:
            return min(due, end)
        return None if attempts >= self._enough_in(expire_seconds) else due

    def is_late(self, message: QueuedMessage, now: int, attempts: int) -> bool:
        """Whether a message that is still not delivered after `attempts` is late: its sender is told then, once. A
        clock that was set makes nothing late, for there would have been more attempts."""
        if ran_out(message, 0, now):
            return True
        late, end = self.warning_seconds, self.time_of(message.mail)
        return 0 < late <= now - message.begins < end and attempts >= self._enough_in(late)


@lru_cache(maxsize=256)
def _exponential(first: int, quick: int, most: int) -> Sequence[int]:
    waits = [first] * quick
    while waits[-1] < most:
        waits.append(min(most, 2 * waits[-1]))
    return tuple(waits)


def returned_at(message: QueuedMessage) -> int | None:
    """When a message that is not delivered has to go back, because its sender wants that (RFC 2852 4)."""
    by = message.mail.by
    return message.queued_at + by.seconds if by is not None and by.mode == "R" else None


def ran_out(message: QueuedMessage, before: int, now: int) -> bool:
    """Whether the time has run out between `before` and `now` after which a sender wants to be told (RFC 2852 4.1.3).
    Where none was left, it has done so on the way here."""
    by = message.mail.by
    return by is not None and by.mode == "N" and by.seconds > 0 and before < message.queued_at + by.seconds <= now


def deadline(message: QueuedMessage, now: int) -> int | None:
    """The moment ahead that BY names, if any: something has to be done then, whatever is waited for."""
    by = message.mail.by
    at = None if by is None else message.queued_at + by.seconds
    return at if at is not None and at > now else None
