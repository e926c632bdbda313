"""Message octets of a guarded store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from mailhub.errors import MailError, MessageDamaged
from mailhub.interfaces import IBlobReader, IBody, IBodyWriter
from mailhub.store.guarded.asking import Asking
from mailhub.store.guarded.sound import OCTETS, nothing, number
from mailhub.store.nonsense import Nonsense, shown

PIECE = 1 << 20  # octets that are asked for at once


def size(given: object) -> int:
    """Octets."""
    return number(given, 0, OCTETS, "size")


@implementer(IBlobReader)
class GuardedReader:
    """Gives exactly as many octets as it has promised, asked for in pieces. Raises MessageDamaged where the store gives
    others than it should: the client cannot be told another size any more."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.size = asking.get(size, "size")

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """Exactly those that there are."""
        left = max(0, self.size - offset)
        if length >= 0:
            left = min(left, length)
        pieces = []
        while left:
            wanted = min(left, PIECE)
            given = await self._asking.ask(_octets, "read", offset, wanted)
            if len(given) != wanted:
                why = f"it gave {len(given)} octets from {offset} where {wanted} were promised"
                self._asking.fault("read", why)
                raise MessageDamaged(detail=why)
            pieces.append(given)
            offset, left = offset + wanted, left - wanted
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Whatever it makes of that, it is the last that is heard of it."""
        _quietly(self._asking, "close")


def _octets(given: Any) -> bytes:
    if type(given) is not bytes:
        raise Nonsense(f"it gave {shown(given)}, not bytes")
    return given


@implementer(IBody)
class GuardedBody:
    """A body for append() of the same account."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.size = asking.get(size, "size")

    def open(self) -> IBlobReader:
        """Raises MailError."""
        return opened(self.asking)(self.asking.call(_thing, "open"))

    def discard(self) -> None:
        """Whatever it makes of that, it is the last that is heard of it."""
        _quietly(self.asking, "discard")


@implementer(IBodyWriter)
class GuardedWriter:
    """Takes a message's octets for the store."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def write(self, octets: bytes) -> None:
        """Raises MailError."""
        await self._asking.ask(nothing, "write", octets)

    async def finish(self) -> IBody:
        """Raises MailError."""
        asking = self._asking
        return await asking.ask(lambda given: GuardedBody(asking.part(given, "body")), "finish")

    def abort(self) -> None:
        """Whatever it makes of that, it is the last that is heard of it."""
        _quietly(self._asking, "abort")


def opened(asking: Asking) -> Callable[[Any], IBlobReader]:
    """What makes a reader of what open() gives."""
    return lambda given: GuardedReader(asking.part(given, "reader"))


def _thing(given: Any) -> Any:
    return given


def _quietly(asking: Asking, method: str) -> None:
    try:
        asking.call(nothing, method)
    except MailError:
        return  # the log has it
