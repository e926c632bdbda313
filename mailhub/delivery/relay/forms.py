"""The forms that one message is sent in: as it is, and as hops take it that have less than it needs."""

from __future__ import annotations

import mmap
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import BinaryIO

import attrs
from zope.interface import implementer

from mailhub.delivery.authentication.own_signatures import OwnSignatures
from mailhub.delivery.authentication.signer import Signer
from mailhub.errors import StoreUnavailable, TemporaryError
from mailhub.interfaces import Delivery, IBlobReader, IThreads
from mailhub.message.convert import convert
from mailhub.message.header import HEADER_LIMIT, Header, fields_end
from mailhub.message.needs import BINARY, Needs, NeedsScanner, Offer
from mailhub.message.tls_required import wants_no_tls
from mailhub.store.octets import OctetsReader

# Octets up to which a message is converted in memory; a larger one is in files meanwhile.
IN_MEMORY = 1 << 20
_BLOCK = 1 << 18  # octets read or written at a time


@attrs.frozen
class Form:
    """The octets to send, and what they need."""

    body: IBlobReader
    needs: Needs


class Forms:
    """Made for one delivery, and closed after it. What a hop asks for is made once. What `signer` has signed is signed
    again in each form that is not as it was."""

    def __init__(self, delivery: Delivery, threads: IThreads, signer: Signer | None = None) -> None:
        self._body = delivery.body
        self._threads = threads
        self._signer = signer
        self._came_binary = delivery.mail.body_type == "BINARYMIME"
        self._needs = None if delivery.needs is None else Needs(delivery.needs)
        self._made: dict[Offer, Form] = {}
        self._header: Header | None = None

    async def as_it_is(self) -> Form:
        """The message as it came. Its octets are looked at where nobody has done so. Raises MailError."""
        if self._needs is None:
            scanner = NeedsScanner()
            async for block in self._blocks():
                scanner.feed(block)
            came_so = BINARY if self._came_binary else 0
            self._needs = Needs(scanner.finish().bits | came_so)
        return Form(self._body, self._needs)

    async def for_hop(self, offer: Offer) -> Form:
        """The form for a hop that has no more than this. Raises CannotConvert, MailError."""
        if offer not in self._made:
            small = self._body.size <= IN_MEMORY
            self._made[offer] = await (self._in_memory(offer) if small else self._in_files(offer))
        return self._made[offer]

    async def asks_for_no_tls(self) -> bool:
        """Whether its author would rather have it arrive in the clear than not at all, and says so once: what domains
        publish about TLS is not for it (RFC 8689 5). Raises MailError."""
        return wants_no_tls((await self._fields()).all(b"tls-required"))

    async def is_tls_report(self) -> bool:
        """Whether it is a report about TLS (RFC 8460 5.3). Raises MailError."""
        return (await self._fields()).first(b"tls-report-domain") is not None

    async def _fields(self) -> Header:
        if self._header is None:
            self._header = Header(await self._top())
        return self._header

    async def _top(self) -> bytes:
        octets = await self._body.read(0, HEADER_LIMIT)
        return octets[: fields_end(octets, 0, len(octets))]

    def close(self) -> None:
        """Throw away what was made. The message itself is its owner's."""
        for form in self._made.values():
            form.body.close()
        self._made.clear()

    async def _blocks(self) -> AsyncIterator[bytes]:
        offset = 0
        while offset < self._body.size:
            octets = await self._body.read(offset, _BLOCK)
            if not octets:
                raise StoreUnavailable(detail=f"a body of {self._body.size} octets ended at {offset}")
            yield octets
            offset += len(octets)

    async def _in_memory(self, offer: Offer) -> Form:
        whole = b"".join([block async for block in self._blocks()])
        octets, needs = await self._threads.run(_converted, whole, offer, await self._own_signatures())
        return Form(OctetsReader(octets), needs)

    async def _own_signatures(self) -> OwnSignatures | None:
        return None if self._signer is None else await self._signer.own(await self._top())

    async def _in_files(self, offer: Offer) -> Form:
        own = await self._own_signatures()
        try:
            with await self._threads.run(TemporaryFile) as origin:
                async for block in self._blocks():
                    await self._threads.run(origin.write, block)
                file, needs = await self._threads.run(_converted_file, origin, offer, own)
        except OSError as error:
            raise TemporaryError("Message could not be converted now", status="4.3.1", detail=str(error)) from error
        return Form(_File(self._threads, file), needs)


def _converted(octets: bytes, offer: Offer, own: OwnSignatures | None = None) -> tuple[bytes, Needs]:
    scanner = NeedsScanner()
    pieces = []
    for piece in convert(octets, offer):
        scanner.feed(piece)
        pieces.append(piece)
    made = b"".join(pieces)
    if own and made != octets and (good := own.good_in(octets)):
        header, end = good.again(made)
        made = header + made[end:]
    return made, scanner.finish()


def _converted_file(origin: BinaryIO, offer: Offer, own: OwnSignatures | None = None) -> tuple[BinaryIO, Needs]:
    """Raises OSError."""
    origin.flush()
    scanner = NeedsScanner()
    with ExitStack() as on_failure, mmap.mmap(origin.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        file: BinaryIO = on_failure.enter_context(TemporaryFile())
        for piece in convert(octets, offer):
            scanner.feed(piece)
            file.write(piece)
        file.flush()
        if own and (good := own.good_in(octets)):
            file = on_failure.enter_context(_signed_again(file, good))
        on_failure.pop_all()
    return file, scanner.finish()


def _signed_again(file: BinaryIO, own: OwnSignatures) -> BinaryIO:
    """In another file. Raises OSError."""
    with ExitStack() as on_failure, file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
        signed = on_failure.enter_context(TemporaryFile())
        header, start = own.again(octets)
        signed.write(header)
        while start < len(octets):
            signed.write(octets[start : start + _BLOCK])
            start += _BLOCK
        signed.flush()
        on_failure.pop_all()
    return signed


@implementer(IBlobReader)
class _File:
    """A file without a name, which is gone when it is closed."""

    def __init__(self, threads: IThreads, file: BinaryIO) -> None:
        self._threads = threads
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IBlobReader`."""
        available = max(self.size - offset, 0)
        wanted = available if length < 0 else min(length, available)
        return await self._threads.run(self._read, offset, wanted)

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), length, offset)
        except (OSError, ValueError) as error:  # ValueError: it has been closed
            raise StoreUnavailable(detail=f"converted message: {error}") from error

    def close(self) -> None:
        """See `IBlobReader`."""
        self._file.close()
