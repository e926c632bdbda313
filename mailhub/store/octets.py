"""Reading a body that is in memory."""

from __future__ import annotations

import attrs
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


@implementer(IBlobReader)
@attrs.frozen
class RestReader:
    """What follows the first octets of another one."""

    _body: IBlobReader
    _start: int

    @property
    def size(self) -> int:
        """Octets in all."""
        return self._body.size - self._start

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IBlobReader`."""
        return await self._body.read(self._start + offset, length)

    def close(self) -> None:
        """See `IBlobReader`."""
        self._body.close()
