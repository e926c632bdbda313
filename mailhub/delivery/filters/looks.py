"""What filters have in common: which connections they look at, and how they are given a message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from mailhub.interfaces import IMessageView, Origin
from mailhub.net.https import WebAddress
from mailhub.net.place import Place

ServiceName = Literal["smtp", "submission", "submissions", "lmtp"]

_PIECE = 65536  # octets


def check_place(_instance: object, _field: object, text: str) -> None:
    """A validator of options. Raises ValueError for what is no place."""
    Place.parse(text)


def check_url(_instance: object, _field: object, text: str) -> None:
    """A validator of options. Raises ValueError for what is no URL that may be asked."""
    WebAddress.parse(text)


def concerns(services: tuple[ServiceName, ...], origin: Origin) -> bool:
    """Whether a client is looked at. A rehearsal is none of a filter's business: what it counts would be wrong."""
    return not origin.rehearsal and (not services or origin.service in services)


def message_size(message: IMessageView) -> int:
    """Octets of the whole message, as it is given to filters."""
    return len(message.header) + message.size


async def message_pieces(message: IMessageView, limit: int) -> AsyncIterator[bytes]:
    """The whole message in pieces of at most 64 KiB, up to `limit` octets. Raises what reading raises."""
    left = limit
    header = message.header[:left]
    for start in range(0, len(header), _PIECE):
        yield header[start : start + _PIECE]
    left -= len(header)
    offset = 0
    while left > 0 and offset < message.size:
        octets = await message.read(offset, min(_PIECE, left))
        if not octets:
            break
        yield octets
        offset += len(octets)
        left -= len(octets)
