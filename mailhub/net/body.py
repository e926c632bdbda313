"""Message octets on their way out: read block by block, one block ahead, never faster than the peer takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from mailhub.errors import StoreUnavailable

if TYPE_CHECKING:
    from mailhub.interfaces import IBlobReader

BLOCK = 65536


async def copy(
    reader: IBlobReader,
    write: Callable[[bytes], Awaitable[None]],
    offset: int = 0,
    length: int = -1,
    block: int = BLOCK,
) -> None:
    """Hand `length` octets from `offset` (-1: all the rest) to `write`, at most `block` at a time.

    The next block is read while `write` waits for the peer. Raises what reader and `write` raise, and
    StoreUnavailable when the reader ends before its size says so.
    """
    end = reader.size if length < 0 else min(offset + length, reader.size)
    ahead = _read(reader, offset, min(block, end - offset))
    try:
        while ahead is not None:
            awaited, ahead = ahead, None
            octets = await awaited
            if not octets:
                raise StoreUnavailable(detail=f"a body of {reader.size} octets ended at {offset}")
            offset += len(octets)
            ahead = _read(reader, offset, min(block, end - offset))
            await write(octets)
    finally:
        if ahead is not None:
            ahead.addErrback(_ignore)
            ahead.cancel()


async def whole(reader: IBlobReader) -> bytes:
    """All of it. Raises StoreUnavailable when it ends before its size says so."""
    octets = await reader.read()
    if len(octets) != reader.size:
        raise StoreUnavailable(detail=f"a body of {reader.size} octets ended at {len(octets)}")
    return octets


def _read(reader: IBlobReader, offset: int, length: int) -> Deferred[bytes] | None:
    if length <= 0:
        return None
    return Deferred.fromCoroutine(reader.read(offset, length))


def _ignore(_: object) -> None:
    """The read-ahead of a copy that ended early: nobody waits for it any more."""
