"""Reading a body that is in memory."""

from __future__ import annotations

from zope.interface import implementer

from mailhub.interfaces import IBlobReader

# Octets up to which a message in the queue is in memory with what is said of it.
SMALL = 16384


@implementer(IBlobReader)
class OctetsReader:
    """Reads octets, from `start` on."""

    def __init__(self, octets: bytes, start: int = 0) -> None:
        self._octets = octets
        self._start = start
        self.size = len(octets) - start

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """A slice."""
        start = self._start + offset
        return self._octets[start:] if length < 0 else self._octets[start : start + length]

    def close(self) -> None:
        """Nothing is held but memory."""
