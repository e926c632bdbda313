"""A message on its way in: trace header on top, the header mended where submission asks for it, hops counted.

Where no empty line ends the header one is put in, as every reader after us looks for it. Return-Path fields of the
client go: final delivery has put ours on top (RFC 5321 4.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from zope.interface import implementer

from mailhub.delivery.doubles import way_of
from mailhub.delivery.limits import LongLines
from mailhub.delivery.new_body import NewBody
from mailhub.errors import Busy, MessageTooLarge, PermanentError
from mailhub.interfaces import IBlobReader, IBody, IBodyWriter, IHeadedBodyWriter
from mailhub.message.authentication_results import without_results_of
from mailhub.message.header import fields_end, without_field, without_mailbox_line
from mailhub.message.long_lines import LINE_LIMIT, LineWrapper
from mailhub.message.needs import BINARY, HEADER_LIMIT, NeedsScanner, needs_of
from mailhub.message.trace import count_received, delivered_to
from mailhub.message.valid_since import names_owners
from mailhub.wire.budget import Budget

# The most that comes before a body with a header that is held: the trace fields, and what screens add.
HEAD_LIMIT = 2 * HEADER_LIMIT

_EMPTY_LINE = b"\r\n"
_ODD_STARTS = (b"\xef\xbb\xbf", b"From ", b">From ")

# What each message's header may hold for itself, and all together beyond that, in octets.
HEADER_SHARE = 16384
HEADERS_TOGETHER = 64 << 20

Mend = Callable[[bytes], bytes]


@implementer(IBody)
@attrs.define
class Intake:
    """A finished body and what was noticed while it came in.

    `relay_offset`: octets on top that are not relayed (Return-Path). `hops`: Received fields it came with.
    `delivered_to`: the names in its Delivered-To fields, where they were asked for. `needs`: what it asks of a next hop
    (`Submission.needs`), where that was. `trace`: octets of all fields on top that are ours. `edited`: what follows
    these is not what came. `sealed`: nothing is left to seal in it, wherever it goes (RFC 8617).
    """

    body: IBody
    relay_offset: int
    hops: int
    delivered_to: frozenset[str] = frozenset()
    needs: int | None = None
    trace: int = 0
    edited: bool = False
    sealed: bool = False

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
    Delivered-To fields are noted. What it holds beyond `HEADER_SHARE` is taken from `budget`. `long_lines`: what
    is done with lines over 998 octets, None for nothing. `undated` takes out of a header what names owners (RFC 7293),
    where there is such. `needs`: note what it asks of a next hop. A `binary` message
    (BODY=BINARYMIME) has no lines that could be too long. Results that others give by our `hostname` go.

    A header is held back up to HEADER_LIMIT octets. A larger one cannot be mended and is refused where it should be;
    else it passes as it is, and hops beyond are not counted.

    With `held` all this is given to the writer last, as its head: between end() and finish() `header` and `return_path`
    may be changed; `results` is what checks have found, for the place above the header, and `signatures` what we have
    signed it with, for that above these. A header that is too large
    to be held is not `whole`; it passes, and `header` comes before it.
    """

    def __init__(
        self,
        writer: IHeadedBodyWriter,
        return_path: bytes,
        received: bytes,
        mend: Mend | None = None,
        *,
        aliases: bool = False,
        budget: Budget | None = None,
        long_lines: LongLines | None = None,
        undated: Mend | None = None,
        needs: bool = False,
        held: bool = False,
        binary: bool = False,
        hostname: str = "",
    ) -> None:
        self._writer = writer
        self._hostname = hostname
        self.return_path = return_path
        self._received = received
        self.held = held
        self.results = self.signatures = b""
        self.sealed = False
        self.header = b""
        self.whole = True
        self._mend = mend
        self._undated = undated
        self._aliases = aliases
        self._budget = budget or Budget(HEADERS_TOGETHER)
        self._taken = 0  # of the budget
        self._wrapper = LineWrapper() if long_lines and not binary else None
        self._may_wrap = long_lines == "wrap"
        self._scanner = NeedsScanner(header=not held) if needs else None
        self._binary = BINARY if binary else 0
        self.hops = 0
        self._delivered_to: frozenset[str] = frozenset()
        # The octets held back until the header is whole, which nearly always come at once; None once it is written.
        self._held: bytes | bytearray | None = b""
        self._print: Any = None
        self._printed_path = return_path
        self._edited = False
        self.came_with = b""  # the header as it came, as far as it was held
        self.names_owners = False
        self._known = -1  # where in it the last line end stands up to which all lines are fields

    async def write(self, octets: bytes) -> None:
        """See `IBodyWriter`. Raises MessageTooLarge for a header that is too large to be mended, Busy when there are
        too many large ones at the same time, PermanentError 5.6.0 for a line that is too long and may not be broken."""
        if self._held is None:
            if self._print is not None:
                self._print.update(octets)
            await self._pass_on(self._in_lines(octets))
            return
        held = self._held = _longer(self._held, octets)
        line_end = octets.rfind(b"\n")
        end = -1 if line_end < 0 else self._header_end(held, len(held) - len(octets) + line_end + 1)
        if end >= 0:
            await self._release(end)
        elif len(held) > HEADER_LIMIT:
            if self._mend is not None:
                # A Bcc field that stays would tell the others (RFC 5322 3.6.3).
                raise MessageTooLarge(f"Header is larger than {HEADER_LIMIT} octets")
            await self._release(-1)
        elif len(held) > HEADER_SHARE:
            self._take_from_budget(len(held))

    def print_with(self, printer: Any) -> None:
        """Have a fingerprint made of the octets as they come (`mailhub.delivery.doubles.printer`), but for the way on
        top of them."""
        self._print = printer
        self._printed_path = self.return_path

    @property
    def fingerprint(self) -> bytes:
        """Of what has come, where it was asked for; else nothing."""
        found: bytes = b"" if self._print is None else self._print.digest()
        return found

    async def end(self) -> None:
        """All octets have come."""
        if self._held is not None:
            await self._release(fields_end(self._held, 0, len(self._held)))
        if self._wrapper is not None:
            wrapper, self._wrapper = self._wrapper, None
            await self._pass_on(wrapper.finish())
            self._edited = self._edited or wrapper.wrapped

    async def finish(self) -> Intake:
        """See `IBodyWriter`."""
        await self.end()
        added = self.signatures + self.results
        head = self.return_path + self._received + added + self.header if self.held else b""
        needs = None
        if self._scanner is not None:
            needs = self._scanner.finish().bits | needs_of(head[len(self.return_path) :]).bits | self._binary
        body = await self._writer.finish(head)
        self._give_back()
        trace = len(self.return_path) + len(self._received)
        edited = self._edited or self.return_path != self._printed_path
        edited = edited or bool(self.signatures) or (self.held and self.header != self.came_with)
        return Intake(body, len(self.return_path), self.hops, self._delivered_to, needs, trace, edited, self.sealed)

    async def written(self) -> IBlobReader:
        """What follows a header that is held, the empty line first."""
        return await self._writer.written()

    def new_body(self, writer: IHeadedBodyWriter, limit: int) -> NewBody:
        """For another body, where the header is held: to be written, and then taken (`take_body`) or aborted."""
        return NewBody.of(writer, needs=self._scanner is not None, binary=bool(self._binary), limit=limit)

    def take_body(self, new: NewBody) -> None:
        """Have it in the place of the one that came, between end() and finish()."""
        self._writer.abort()
        self._writer, self._scanner, self._edited = new.writer, new.scanner, True

    def abort(self) -> None:
        """See `IBodyWriter`."""
        self._held = None
        self._give_back()
        self._writer.abort()

    def _take_from_budget(self, octets: int) -> None:
        beyond = max(0, octets - HEADER_SHARE)
        if not self._budget.take(beyond - self._taken):
            raise Busy(status="4.3.1", detail="too many large headers at once")
        self._taken = beyond

    def _give_back(self) -> None:
        if self._taken:
            self._budget.take(-self._taken)
            self._taken = 0

    def _header_end(self, held: bytes | bytearray, lines: int) -> int:
        """After the last field, when among the whole lines (up to `lines`) there is one that is none; else -1."""
        if self._known < 0 and held.startswith(_ODD_STARTS) and held.count(b"\n", 0, lines) < 2:
            return -1  # what follows a mailbox file's line says whether it is one
        end = fields_end(held, 0, lines, self._known)
        if end < lines:
            return end
        self._known = lines - 1
        return -1

    async def _release(self, end: int) -> None:
        """Write what is held. Its first `end` octets are the whole header; -1 when it is larger than what is held."""
        held, self._held = bytes(self._held or b""), None
        header, rest = (held[:end], held[end:]) if end >= 0 else (held, b"")
        if self._print is not None:
            self._print.update(memoryview(held)[way_of(held, max(end, 0)) :])
        self.came_with = header
        self.hops = count_received(header)
        if self._aliases:
            self._delivered_to = delivered_to(header)
        header = without_field(without_mailbox_line(header), b"return-path")
        if self._hostname:
            header = without_results_of(header, self._hostname)
        self.names_owners = names_owners(header)
        if self.names_owners and self._undated is not None:
            header = self._undated(header)
        if self._mend is not None:
            header = self._mend(header)
        self._edited = header is not self.came_with and header != self.came_with
        if end >= 0 and rest and not rest.startswith(_EMPTY_LINE):
            self._edited = True
            header += b"" if not header or header.endswith(b"\n") else _EMPTY_LINE
            rest = _EMPTY_LINE + rest
        # To break a line of a signed text would break the signature.
        self._may_wrap = self._may_wrap and b"multipart/signed" not in header.lower()
        header = self._in_lines(header)
        if self._wrapper is not None and self._wrapper.torn:
            raise _too_long()  # a header can only be folded at white space
        rest = self._in_lines(rest)
        if not self.held:
            self._give_back()
            await self._pass_on(b"".join((self.return_path, self._received, header, rest)), len(self.return_path))
            return
        self.whole = end >= 0 and len(header) <= HEADER_LIMIT
        if self.whole:
            self.header = header
        else:
            rest = header + rest
        self._take_from_budget(len(self.header))
        await self._pass_on(rest)

    async def _pass_on(self, octets: bytes, own: int = 0) -> None:
        """To the body. Its first octets, `own` of them, no next hop will see."""
        if self._scanner is not None:
            self._scanner.feed(octets[own:])
        await self._writer.write(octets)

    def _in_lines(self, octets: bytes) -> bytes:
        if self._wrapper is None:
            return octets
        octets = self._wrapper.feed(octets)
        if self._wrapper.wrapped and not self._may_wrap:
            raise _too_long()
        return octets


def _longer(held: bytes | bytearray, octets: bytes) -> bytes | bytearray:
    """What is held with more octets: copied only where something was held before."""
    if not held:
        return octets
    held = held if isinstance(held, bytearray) else bytearray(held)
    held += octets
    return held


def _too_long() -> PermanentError:
    return PermanentError(f"A line is longer than {LINE_LIMIT} octets", status="5.6.0")
