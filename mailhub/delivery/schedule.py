"""When the queue tries again, and when it gives up (RFC 5321 4.5.4.1). Pure: time and chance are arguments."""

from __future__ import annotations

import attrs


@attrs.frozen
class Schedule:
    """Back-off of the queue.

    `retry_seconds` are the waits after the first, second, ... attempt; the last one repeats. `expire_seconds` is the
    age at which a recipient that cannot be reached is given up. `jitter` is the share by which a wait is stretched at
    most, so that a thousand messages for one dead host do not come back in the same second.
    """

    retry_seconds: tuple[int, ...] = (60, 300, 900, 3600)
    expire_seconds: int = 120 * 3600
    jitter: float = 0.2

    def wait(self, attempts: int, chance: float) -> int:
        """Seconds to wait after `attempts` (1 or more) failed attempts. `chance` is in 0.0 to 1.0."""
        position = min(max(attempts, 1), len(self.retry_seconds)) - 1
        return max(1, round(self.retry_seconds[position] * (1 + self.jitter * chance)))

    def next_attempt(self, queued_at: int, now: int, attempts: int, chance: float) -> int | None:
        """Time of the next attempt in seconds since the epoch; None when it is time to give up.

        The last attempt is made at the very end of the message's time, not up to a whole wait before it.
        """
        end = queued_at + self.expire_seconds
        if now >= end:
            return None
        return min(now + self.wait(attempts, chance), end)
