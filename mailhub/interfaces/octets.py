"""A message's octets, on their way in and out."""

from __future__ import annotations

from zope.interface import Attribute, Interface


class IBlobReader(Interface):
    """A message's octets, read piece by piece."""

    size: int = Attribute("Octets in all.")

    async def read(offset: int = 0, length: int = -1) -> bytes:
        """Up to `length` octets from `offset`; -1 means all the rest. Raises MessageGone, StoreUnavailable."""

    def close() -> None:
        """Release what is held; calling it again does nothing."""


class IBody(Interface):
    """A finished body that no row refers to yet. It vanishes unless it is committed."""

    size: int = Attribute("Octets in all.")

    def open() -> IBlobReader:
        """Read it back."""

    def discard() -> None:
        """Forget it. Harmless after a commit."""


class IBodyWriter(Interface):
    """Takes a message's octets as they arrive; large ones go to a file at once, so memory stays bounded."""

    async def write(octets: bytes) -> None:
        """Append octets. Raises StoreUnavailable."""

    async def finish() -> IBody:
        """The whole body, scanned (its `Digest` is made here, off the reactor thread when large)."""

    def abort() -> None:
        """Throw away what was written. Harmless after finish()."""


class IHeadedBodyWriter(IBodyWriter):
    """A writer with room for a head: octets that come first in the message and are given last, when all others have
    been looked at. What was written before is not moved."""

    async def written() -> IBlobReader:
        """What was written up to now, to be read while nothing more is written. Raises StoreUnavailable."""

    async def finish(head: bytes = b"") -> IBody:
        """As `IBodyWriter.finish`, of the head and what was written. Raises ValueError for a head above the limit."""
