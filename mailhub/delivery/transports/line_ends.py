"""A message with the line ends that programs of Unix expect."""

from __future__ import annotations

from zope.interface import implementer

from mailhub.interfaces import IBlobReader

_CHUNK = 1 << 16  # octets


@implementer(IBlobReader)
class UnixLines:
    """A body whose CRLFs are LF, to be read from its start to its end once. `size` is the most that it can have."""

    def __init__(self, body: IBlobReader) -> None:
        self._body = body
        self.size = body.size
        self._at = 0  # octets of the body that were read
        self._told = 0
        self._cr = b""  # one that an LF may follow

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IBlobReader`. Raises ValueError for another place than where the last call ended."""
        if offset != self._told:
            raise ValueError(f"read at {offset}, where {self._told} is next")
        pieces, left = [], length
        while left and (octets := await self._next(left if left > 0 else _CHUNK)):
            pieces.append(octets)
            self._told += len(octets)
            if length > 0:
                break  # no more than was asked for
        return b"".join(pieces)

    async def _next(self, length: int) -> bytes:
        """Up to so many octets and a CR of before; b"" at the end alone."""
        while self._at < self._body.size:
            octets = await self._body.read(self._at, length)
            if not octets:
                break
            self._at += len(octets)
            octets = self._cr + octets
            self._cr = b""
            if octets.endswith(b"\r") and self._at < self._body.size:
                octets, self._cr = octets[:-1], b"\r"
            if octets:
                return octets.replace(b"\r\n", b"\n")
        octets, self._cr = self._cr, b""
        return octets

    def close(self) -> None:
        """See `IBlobReader`."""
        self._body.close()
