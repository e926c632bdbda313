"""When the queue tries again, and when it gives up (RFC 5321 4.5.4.1). Pure: time and chance are arguments."""

from __future__ import annotations

import attrs

from mailhub.keys import DAY, Key, setting

_SLOWNESS = 1.25  # what attempts themselves add to the waits, as a factor


def _check(retry_seconds: tuple[int, ...]) -> None:
    longest = 7 * DAY
    if not retry_seconds or not all(1 <= seconds <= longest for seconds in retry_seconds):
        raise ValueError(f"must be a list of whole numbers from 1 to {longest}")


@attrs.frozen
class Schedule:
    """Back-off of the queue.

    `retry_seconds` are the waits after the first, second, ... attempt; the last one repeats. `expire_seconds` is the
    age at which a recipient that cannot be reached is given up. `jitter` is the share by which a wait is stretched at
    most, so that a thousand messages for one dead host do not come back in the same second.

    Age alone is no reason to give up: the wall clock may have been set forward by days, or the server may have been
    off. As many attempts must have been made as fit in the time (`enough`).
    """

    retry_seconds: tuple[int, ...] = setting(
        Key("queue", "retry_seconds", (60, 300, 900, 3600), hint=tuple[int, ...], check=_check)
    )
    expire_seconds: int = setting(Key("queue", "expire_hours", 120, 1, 24 * 30), lambda hours: hours * 3600)
    jitter: float = 0.2

    def wait(self, attempts: int, chance: float) -> int:
        """Seconds to wait after `attempts` (1 or more) failed attempts. `chance` is in 0.0 to 1.0."""
        position = min(max(attempts, 1), len(self.retry_seconds)) - 1
        return max(1, round(self.retry_seconds[position] * (1 + self.jitter * chance)))

    @property
    def longest_wait(self) -> int:
        """Seconds; nothing waits longer for its next attempt."""
        return max(self.wait(attempts, 1.0) for attempts in range(1, len(self.retry_seconds) + 1))

    @property
    def enough(self) -> int:
        """Attempts that are made in `expire_seconds` at the least, with waits as long as they get and slow servers."""
        waits = [seconds * (1 + self.jitter) * _SLOWNESS for seconds in self.retry_seconds]
        attempts, left = 1, float(self.expire_seconds)
        for wait in waits[:-1]:
            if left < wait:
                return attempts
            attempts, left = attempts + 1, left - wait
        return attempts + int(left // waits[-1])

    def next_attempt(self, queued_at: int, now: int, attempts: int, chance: float) -> int | None:
        """Time of the next attempt in seconds since the epoch, after `attempts`; None when it is time to give up.

        The last attempt is made at the very end of the message's time, not up to a whole wait before it. A message
        from the future (the clock has been set back) is judged by its attempts alone.
        """
        end = queued_at + self.expire_seconds
        due = now + self.wait(attempts, chance)
        if queued_at <= now < end:
            return min(due, end)
        return None if attempts >= self.enough else due
