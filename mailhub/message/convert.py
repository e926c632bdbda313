"""A message made fit for a hop that takes less than it needs: without 8BITMIME, or without SMTPUTF8.

Parts with octets over 127, with NUL or with lines of more than 998 octets become quoted-printable (text) or base64
(RFC 6152 3, RFC 2045 6), header fields as `mailhub.message.downgrade` says. Only leaves are encoded: what a multipart
or message/rfc822 is encoded as is corrected to be what it then holds (RFC 2045 6.4), and messages inside are converted
inside. message/global and its like may have any encoding (RFC 6532 3.7, RFC 6533 6) and keep their type. Everything
else stays octet for octet, so that what needs no conversion comes out as it was, and what was converted does not
change again.

What stands in multipart/signed or multipart/encrypted is not to be changed (RFC 1847 2.1). A DKIM signature of the
sender's domain does not survive a conversion: better an exchanger that takes the message as it is.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

import attrs

from mailhub.message.downgrade import UNKNOWN_8BIT, CannotConvert, ascii_field, encoded_text
from mailhub.message.header import FIELD_LIMIT, HEADER_LIMIT, Octets, raw_fields
from mailhub.message.long_lines import LineWrapper
from mailhub.message.mime import LINE_LIMIT, Part, scan
from mailhub.message.needs import LONG_LINE, NUL, NeedsScanner, Offer
from mailhub.message.parameters import parse
from mailhub.message.transfer_encoding import base64, base64_again, quoted_again, quoted_printable

__all__ = ["CannotConvert", "convert"]

_BLOCK = 65536  # octets
_HIGH = re.compile(rb"[\x80-\xff]")
_NAME = re.compile(rb"(?m)^([!-9;-~]{900})[!-9;-~]+(?=[ \t]*:)")
_MARK = b"\xef\xbb\xbf"
_UNTOUCHABLE = frozenset({"multipart/signed", "multipart/encrypted"})
_ANY_ENCODING = "message/global"  # what begins so
# Of other kinds of message nobody knows what a change does to them, and none may be encoded (RFC 2045 6.4).
_GROUPS_OF_FIELDS = frozenset(
    f"message/{kind}"
    for kind in ("delivery-status", "disposition-notification", "external-body", "feedback-report", "tracking-status")
)
_OTHER_ENCODINGS = frozenset({"x-uuencode", "uuencode", "x-uue", "uue", "x-yencode"})
_AGAIN = {"quoted-printable": quoted_again, "base64": base64_again}
_ENCODING = b"content-transfer-encoding"


def convert(octets: Octets, offer: Offer) -> Iterator[bytes]:
    """The message in pieces that such a hop takes. Costs one look at the octets, and little memory.

    Raises CannotConvert, perhaps after some pieces: there is no such form of this message.
    """
    return _Converter(octets, offer).pieces()


@attrs.frozen
class _Content:
    """What a body holds. `bare`: a CR or LF that stands alone, which SMTP does not carry."""

    eight_bit: bool
    nul: bool
    long: bool
    bare: bool
    bare_cr: bool
    utf8: bool


class _Converter:
    """One message. `tree` are its parts in their order, `headers` those of each."""

    def __init__(self, octets: Octets, offer: Offer) -> None:
        self.octets = octets
        self.offer = offer
        found = scan(octets)
        self.tree = found.tree
        self.headers = found.headers
        # What a header holds beyond these is not known, and so neither is what its part is.
        lines = [len(header) for header in found.headers]
        self.is_cut = sum(lines) >= LINE_LIMIT or max(lines) >= FIELD_LIMIT

    def pieces(self) -> Iterator[bytes]:
        position = index = 0
        while index < len(self.tree):
            part = self.tree[index]
            yield from self._between(position, part.start)
            if part.type in _UNTOUCHABLE:
                yield from self._signed(index)
                position = part.end
                index += part.below + 1
                continue
            if part.below:
                yield from self._header(index, self._label(part.encoding))
                position = part.body
            else:
                yield from self._leaf(index)
                position = part.end
            index += 1
        yield from self._between(position, len(self.octets))

    # --- Parts -----------------------------------------------------------------------------------------------------

    def _label(self, encoding: str) -> str:
        """What to call the encoding of what is as it was, "" to leave it: no hop takes binary, some no 8bit."""
        if encoding == "binary" and self.offer.eight_bit:
            return "8bit"
        return "7bit" if encoding in ("8bit", "binary") and not self.offer.eight_bit else ""

    def _signed(self, index: int) -> Iterator[bytes]:
        part = self.tree[index]
        for block in self._blocks(part.body, part.end):
            if not self.offer.eight_bit and not block.isascii():
                raise CannotConvert("5.6.3", "Message is signed or encrypted with 8-bit content, which cannot change")
        yield from self._header(index, self._label(part.encoding))
        yield from self._blocks(part.body, part.end)

    def _leaf(self, index: int) -> Iterator[bytes]:
        part = self.tree[index]
        content = self._look(part)
        too_much = content.eight_bit and not self.offer.eight_bit
        needed = too_much or content.nul or content.long
        if part.encoding == "binary" and content.bare and not part.type.startswith("text/"):
            needed = True
        if not needed:
            yield from self._header(index, self._label(part.encoding))
            yield from self._blocks(part.body, part.end)
            return
        blocks = self._blocks(part.body, part.end)
        kind = self._kind(index)
        again = _AGAIN.get(part.encoding)
        if again and not self.is_cut:
            yield from self._header(index, "")
            yield from again(blocks)
        elif kind.startswith(_ANY_ENCODING) or not (self._is_fixed(index) or kind.startswith("message/")):
            encoding = "base64"
            if kind.startswith(("text/", _ANY_ENCODING)) and not content.nul and not content.bare_cr:
                encoding = "quoted-printable"
            yield from self._header(index, encoding, content)
            yield from base64(blocks) if encoding == "base64" else quoted_printable(blocks)
        elif kind in _GROUPS_OF_FIELDS:
            yield from self._header(index, self._label(part.encoding))
            yield self._fields(part)
        elif too_much:
            raise _not_clear()
        else:
            yield from self._header(index, "")
            yield from blocks

    def _kind(self, index: int) -> str:
        """The type as its header has it; the tree's, where messages stand too deep in each other, is another."""
        declared = self.headers[index].first(b"content-type")
        kind = None if declared is None else parse(declared)
        if kind is not None and kind.value == "message":
            return f"{kind.value}/{kind.subvalue}"
        return self.tree[index].type

    def _is_fixed(self, index: int) -> bool:
        """Whether a leaf has no header that could say how it is encoded: the body of a multipart that cannot be opened,
        or what was beyond the limits of the scan; or an encoding that is none of MIME's."""
        part = self.tree[index]
        if self.is_cut or part.encoding in _OTHER_ENCODINGS:
            return True
        if part.start != part.body:
            return False
        before = self.tree[index - 1] if index else None
        unopened = before is not None and before.is_multipart and before.body == part.start
        return unopened or part.type == "application/octet-stream"

    def _fields(self, part: Part) -> bytes:
        """What consists of groups of fields, and must not be encoded (RFC 3464 2.1)."""
        if part.end - part.body > HEADER_LIMIT:
            raise _not_clear()
        body = self.octets[part.body : part.end]
        fields = [_ascii(name, field, own=False) for name, field in raw_fields(body)]
        return _in_lines(b"".join(fields))

    def _between(self, start: int, end: int) -> Iterator[bytes]:
        """Delimiters, and what stands before and after all parts, which nobody shows (RFC 2046 5.1.1)."""
        for block in self._blocks(start, end):
            if self.offer.eight_bit or block.isascii():
                yield block
            else:
                yield _HIGH.sub(lambda match: b"=%02X" % match[0][0], block)

    # --- Headers ---------------------------------------------------------------------------------------------------

    def _header(self, index: int, encoding: str, content: _Content | None = None) -> Iterator[bytes]:
        """The header of a part, with `encoding` in place of what it has ("": as it is). With `content` its body is
        encoded, so that it must say what it is."""
        part = self.tree[index]
        raw = self.octets[part.start : part.body]
        if not encoding and content is None and raw.isascii() and b"\0" not in raw:
            yield _in_lines(raw)
            return
        if len(raw) > HEADER_LIMIT:
            raise _not_clear()
        own = index == 0
        fields = list(raw_fields(raw))
        if not raw.isascii() and self._must_be_ascii(raw, own=own):
            fields = [(name, _ascii(name, field, own=own)) for name, field in fields]
        ending = fields.pop()[1] if fields and not fields[-1][1].strip() else b""
        if encoding:
            fields = _with_encoding(fields, encoding, add=content is not None)
        if content is not None:
            self._describe(fields, index, content)
            ending = ending or b"\r\n"
        header = b"".join([field for _, field in fields]).replace(b"\0", b"?")
        yield (b"" if raw else self._end_of_outer(index)) + _in_lines(header + ending)

    def _end_of_outer(self, index: int) -> bytes:
        """What keeps the first header of a message inside from being that of the part that it stands in."""
        outer = self.tree[index - 1] if index else None
        if outer is None or not outer.is_message:
            return b""
        header = self.octets[outer.start : outer.body]
        return b"" if header.endswith((b"\n\r\n", b"\n\n")) or header in (b"\r\n", b"\n") else b"\r\n"

    def _must_be_ascii(self, raw: bytes, *, own: bool) -> bool:
        return not self.offer.eight_bit or (own and not self.offer.smtputf8 and _is_utf8(raw))

    def _describe(self, fields: list[tuple[bytes, bytes]], index: int, content: _Content) -> None:
        """What makes MIME of a body that was none before (RFC 1428 4)."""
        header = self.headers[index]
        before = self.tree[index - 1] if index else None
        if header.first(b"content-type") is None and content.eight_bit:
            charset = "utf-8" if content.utf8 else UNKNOWN_8BIT
            fields.append((b"content-type", f"Content-Type: text/plain; charset={charset}\r\n".encode()))
        if (before is None or before.is_message) and header.first(b"mime-version") is None:
            fields.append((b"mime-version", b"MIME-Version: 1.0\r\n"))

    # --- Octets ----------------------------------------------------------------------------------------------------

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Pieces that end with a line end where they can, and never inside of one, or of what an "=" begins."""
        while start < end:
            stop = min(start + _BLOCK, end)
            if stop < end:
                line_end = self.octets.rfind(b"\n", start, stop)
                escape = max(self.octets.rfind(b"=", stop - 2, stop), self.octets.rfind(b"\r", stop - 1, stop))
                stop = line_end + 1 if line_end >= 0 else escape if escape >= 0 else stop
            yield self.octets[start:stop]
            start = stop

    def _look(self, part: Part) -> _Content:
        scanner = NeedsScanner(header=False)
        decoder = codecs.getincrementaldecoder("utf-8")("strict")
        eight_bit = bare = bare_cr = False
        utf8 = True
        for block in self._blocks(part.body, part.end):
            scanner.feed(block)
            crlf = block.count(b"\r\n")
            cr = block.count(b"\r") > crlf
            bare_cr = bare_cr or cr
            bare = bare or cr or block.count(b"\n") > crlf
            if not block.isascii():
                eight_bit = True
            try:
                utf8 = utf8 and decoder.decode(block) is not None
            except UnicodeDecodeError:
                utf8 = False
        needs = scanner.finish()
        utf8 = utf8 and not decoder.getstate()[0]
        return _Content(eight_bit, bool(needs.bits & NUL), bool(needs.bits & LONG_LINE), bare, bare_cr, utf8)


def _with_encoding(fields: list[tuple[bytes, bytes]], encoding: str, *, add: bool) -> list[tuple[bytes, bytes]]:
    """One Content-Transfer-Encoding, where the first one was; without any, one at the end to `add`."""
    changed: list[tuple[bytes, bytes]] = []
    field = (_ENCODING, f"Content-Transfer-Encoding: {encoding}\r\n".encode())
    for each in fields:
        if each[0] != _ENCODING:
            changed.append(each)
        elif field not in changed:
            changed.append(field)
    if add and field not in changed:
        changed.append(field)
    return changed


def _ascii(name: bytes, field: bytes, *, own: bool) -> bytes:
    if name:
        return ascii_field(field, own=own)
    field = field.removeprefix(_MARK)
    return (
        field
        if field.isascii()
        else encoded_text(field.strip(), "utf-8" if _is_utf8(field) else UNKNOWN_8BIT) + b"\r\n"
    )


def _in_lines(octets: bytes) -> bytes:
    """Folded where a line is too long. A name that fills one alone is cut: folded, it would end the header."""
    wrapper = LineWrapper()
    lines = wrapper.feed(octets) + wrapper.finish()
    return _in_lines(_NAME.sub(rb"\1", octets)) if wrapper.torn and _NAME.search(octets) else lines


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _not_clear() -> CannotConvert:
    return CannotConvert("5.6.3", "Message has 8-bit content in no part that could be encoded")
