"""A message on its way in: trace header on top, the header mended where submission asks for it, hops counted."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from zope.interface import implementer

from mailhub.errors import MessageTooLarge
from mailhub.interfaces import IBlobReader, IBody, IBodyWriter
from mailhub.message.trace import count_received, delivered_to

# A header is held back up to this many octets. A larger one cannot be mended and is refused where it should be; else
# it passes as it is, and hops beyond are not counted.
HEADER_LIMIT = 262144

Mend = Callable[[bytes], bytes]


@implementer(IBody)
@attrs.frozen
class Intake:
    """A finished body and what was noticed while it came in.

    `relay_offset`: octets on top that are not relayed (Return-Path). `hops`: Received fields it came with.
    `delivered_to`: the names in its Delivered-To fields, where they were asked for.
    """

    body: IBody
    relay_offset: int
    hops: int
    delivered_to: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """Octets in all, the trace header included."""
        return self.body.size

    def open(self) -> IBlobReader:
        """See `IBody`."""
        return self.body.open()

    def discard(self) -> None:
        """See `IBody`."""
        self.body.discard()


@implementer(IBodyWriter)
class IntakeWriter:
    """Writes `return_path`, `received` and then the message, whose header goes through `mend`. With `aliases`, its
    Delivered-To fields are noted."""

    def __init__(
        self,
        writer: IBodyWriter,
        return_path: bytes,
        received: bytes,
        mend: Mend | None = None,
        *,
        aliases: bool = False,
    ) -> None:
        self._writer = writer
        self._relay_offset = len(return_path)
        self._top = return_path + received
        self._mend = mend
        self._aliases = aliases
        self._hops = 0
        self._delivered_to: frozenset[str] = frozenset()
        # The octets held back until the header is whole; None once it has been written.
        self._held: bytearray | None = bytearray()

    async def write(self, octets: bytes) -> None:
        """See `IBodyWriter`. Raises MessageTooLarge for a header that is too large to be mended."""
        if self._held is None:
            await self._writer.write(octets)
            return
        scanned = max(0, len(self._held) - 3)
        self._held += octets
        end = header_end(self._held, scanned)
        if end >= 0:
            await self._release(end)
        elif len(self._held) > HEADER_LIMIT:
            if self._mend is not None:
                # A Bcc field that stays would tell the others (RFC 5322 3.6.3).
                raise MessageTooLarge(f"Header is larger than {HEADER_LIMIT} octets")
            await self._release(-1)

    async def finish(self) -> IBody:
        """See `IBodyWriter`. The result is an `Intake`."""
        if self._held is not None:
            await self._release(len(self._held))
        return Intake(await self._writer.finish(), self._relay_offset, self._hops, self._delivered_to)

    def abort(self) -> None:
        """See `IBodyWriter`."""
        self._held = None
        self._writer.abort()

    async def _release(self, end: int) -> None:
        """Write what is held. Its first `end` octets are the whole header; -1 when it is larger than what is held."""
        held, self._held = bytes(self._held or b""), None
        header, rest = (held[:end], held[end:]) if end >= 0 else (held, b"")
        self._hops = count_received(header)
        if self._aliases:
            self._delivered_to = delivered_to(header)
        if self._mend is not None:
            header = self._mend(header)
        await self._writer.write(b"".join((self._top, header, rest)))


def header_end(octets: bytes | bytearray, start: int = 0) -> int:
    """Where the header ends: before the empty line, after the CRLF of its last field. -1: not yet in sight."""
    if octets.startswith(b"\r\n"):
        return 0
    found = octets.find(b"\r\n\r\n", start)
    return found + 2 if found >= 0 else -1
