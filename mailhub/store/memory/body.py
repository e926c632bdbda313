"""Bodies of messages in the twin."""

from __future__ import annotations

from zope.interface import implementer

from mailhub.interfaces import IBlobReader, IBody, IHeadedBodyWriter
from mailhub.message.digest import digest
from mailhub.store.octets import OctetsReader


@implementer(IBody)
class MemoryBody:
    """Octets and their digest."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.size = len(octets)
        self.digest = digest(octets)

    def open(self) -> IBlobReader:
        """Read it back."""
        return OctetsReader(self.octets)

    def discard(self) -> None:
        """Nothing to do: it goes when nobody refers to it."""


@implementer(IHeadedBodyWriter)
class MemoryBodyWriter:
    """Gathers octets."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    async def write(self, octets: bytes) -> None:
        """Append octets."""
        self._chunks.append(octets)

    async def written(self) -> IBlobReader:
        """What there is."""
        return OctetsReader(b"".join(self._chunks))

    async def finish(self, head: bytes = b"") -> IBody:
        """The whole body."""
        return MemoryBody(b"".join((head, *self._chunks)))

    def abort(self) -> None:
        """Throw away what was written."""
        self._chunks.clear()


def memory_body(body: IBody) -> MemoryBody:
    """The body as what our new_body() made."""
    if not isinstance(body, MemoryBody):
        raise TypeError("the body comes from another store")
    return body
