"""Memory that all connections of a process have together for what strangers make them hold."""

from __future__ import annotations

OCTETS = 16 << 20


class Budget:
    """A number of octets, and how many of them are taken."""

    def __init__(self, octets: int = OCTETS) -> None:
        self._left = octets

    @property
    def left(self) -> int:
        """Octets that can be taken."""
        return self._left

    def take(self, octets: int) -> bool:
        """Take so many more, or with a negative number give them back; false when there are not enough."""
        if octets > self._left:
            return False
        self._left -= octets
        return True
