"""Another body for a message that a screen wants to have one, written beside the first until all of it is there."""

from __future__ import annotations

from collections.abc import Awaitable

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from mailhub.answers import Nonsense
from mailhub.interfaces import IBlobReader, IHeadedBodyWriter
from mailhub.message.needs import NeedsScanner
from mailhub.wire.stream import LineEnder

_BLOCK = 65536
_BLOCK_SECONDS = 30.0  # for a screen's reader to give one
_EMPTY_LINE = b"\r\n"


@attrs.define(eq=False)
class NewBody:
    """What stands behind the header's fields: the empty line, and the octets that are given. `scanner` looks at what
    they need of a next hop, where that is asked for."""

    writer: IHeadedBodyWriter
    scanner: NeedsScanner | None
    _limit: int  # octets
    _lines: LineEnder | None = None
    _size: int = 0

    @classmethod
    def of(cls, writer: IHeadedBodyWriter, *, needs: bool, binary: bool, limit: int) -> NewBody:
        """For a message that is `binary` (BODY=BINARYMIME) lines are left as they are."""
        scanner = NeedsScanner(header=False) if needs else None
        return cls(writer, scanner, limit, None if binary else LineEnder())

    async def write(self, given: bytes | IBlobReader, clock: IReactorTime) -> None:
        """All of it. Raises Nonsense for what is larger than a message may be, or cannot be read; MailError."""
        await self._pass_on(_EMPTY_LINE)
        if isinstance(given, bytes):
            await self._append(given)
        else:
            offset = 0
            while octets := await _in_time(given.read(offset, _BLOCK), clock):
                if not isinstance(octets, bytes) or len(octets) > _BLOCK:
                    raise Nonsense("a body is read as up to so many octets as are asked for")
                offset += len(octets)
                await self._append(octets)
        if self._lines is not None:
            await self._pass_on(self._lines.finish())

    async def _append(self, octets: bytes) -> None:
        self._size += len(octets)
        if self._size > self._limit:
            raise Nonsense(f"a body may not have more than {self._limit} octets")
        await self._pass_on(self._lines.feed(octets) if self._lines else octets)

    async def _pass_on(self, octets: bytes) -> None:
        if not octets:
            return
        if self.scanner is not None:
            self.scanner.feed(octets)
        await self.writer.write(octets)


async def _in_time(reading: Awaitable[bytes], clock: IReactorTime) -> bytes:
    async def read() -> bytes:
        return await reading

    waiting = Deferred.fromCoroutine(read()).addTimeout(_BLOCK_SECONDS, clock)
    try:
        return await waiting
    except TimeoutError:
        raise Nonsense(f"a body cannot be read within {_BLOCK_SECONDS:g} seconds") from None
