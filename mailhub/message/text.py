"""The text of a message, decoded piece by piece: for SEARCH (RFC 3501 6.4.4), for an index, for a preview.

A piece is at most a few blocks long, whatever the message holds; nothing is held longer than it takes to read it.
"""

from __future__ import annotations

import binascii
import unicodedata
from collections.abc import Iterable, Iterator

from mailhub.message.charset import incremental_decoder
from mailhub.message.encoded_word import NOT_BASE64, decode_base64, decode_words
from mailhub.message.header import Header, Octets, unfold
from mailhub.message.mime import Part, Tree

BLOCK = 1 << 16  # octets of a body that are decoded at once
_LONG_LINE = 4096  # octets without a line end that are held back


class TextDecoder:
    """The text of a leaf whose octets come in pieces: transfer encoding (RFC 2045 6) undone, then the charset.

    Never fails: mistakes in either become replacement characters or are passed over. What is held back between two
    pieces is at most a line, and that bounded.
    """

    def __init__(self, encoding: str, charset: str) -> None:
        """Both names in lower case, as the part tree has them."""
        self._transfer = _TRANSFER.get(encoding, _Identity)()
        self._charset = incremental_decoder(charset)

    def feed(self, octets: bytes) -> str:
        """The text that is certain with these octets."""
        return self._charset.decode(self._transfer.feed(octets))

    def finish(self) -> str:
        """The text that is left when no more octets come."""
        return self._charset.decode(self._transfer.finish(), True)


class _Identity:
    def feed(self, octets: bytes) -> bytes:
        return octets

    def finish(self) -> bytes:
        return b""


class _Base64:
    """Up to the first padding: what follows it belongs to nothing."""

    def __init__(self) -> None:
        self.rest = b""
        self.ended = False

    def feed(self, octets: bytes) -> bytes:
        if self.ended:
            return b""
        kept = self.rest + octets.translate(None, NOT_BASE64)
        if b"=" in kept:
            self.ended = True
            self.rest = b""
            return decode_base64(kept)
        whole = len(kept) // 4 * 4
        self.rest = kept[whole:]
        return binascii.a2b_base64(kept[:whole])

    def finish(self) -> bytes:
        return decode_base64(self.rest)


class _QuotedPrintable:
    """Line by line; a line that is too long to hold back is cut where no escape is."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, octets: bytes) -> bytes:
        octets = self.rest + octets
        cut = octets.rfind(b"\n") + 1
        if len(octets) - cut > _LONG_LINE:
            escape = octets.rfind(b"=", len(octets) - _LONG_LINE)
            cut = len(octets) if escape < 0 else escape
        self.rest = octets[cut:]
        return binascii.a2b_qp(octets[:cut])

    def finish(self) -> bytes:
        return binascii.a2b_qp(self.rest)


_TRANSFER: dict[str, type[_Identity] | type[_Base64] | type[_QuotedPrintable]] = {
    "base64": _Base64,
    "quoted-printable": _QuotedPrintable,
}


def contains(octets: Octets, tree: Tree, needle: str, *, header: bool) -> bool:
    """Whether the message has `needle` in its body, or (`header`) in its header or body: BODY and TEXT of SEARCH.

    Case and compatibility forms do not matter. The body is the text parts, decoded, and the headers of all parts
    inside; attachments that are no text are not searched.
    """
    sought = fold(needle)
    if not sought:
        return True
    return any(_has(pieces, sought) for pieces in _stretches(octets, tree, header))


def field_contains(body: bytes, needle: str) -> bool:
    """Whether an unfolded field body has `needle` in it: HEADER, SUBJECT, FROM, ... of SEARCH.

    The words are searched both decoded and as they stand, so that an address in odd quoting is found as well.
    """
    sought = fold(needle)
    return sought in fold(decode_words(body)) or sought in fold(body.decode("latin-1"))


def body_text(octets: Octets, tree: Tree, limit: int) -> Iterator[str]:
    """The decoded text parts in order, in pieces, until about `limit` characters were given."""
    for part in tree:
        if part.type.startswith("text/"):
            for piece in part_text(octets, part):
                yield piece[:limit]
                limit -= len(piece)
                if limit <= 0:
                    return


def part_text(octets: Octets, part: Part) -> Iterator[str]:
    """The text of one leaf, in pieces: transfer encoding and charset undone, mistakes in either replaced."""
    decoder = TextDecoder(part.encoding, part.charset)
    for start in range(part.body, part.end, BLOCK):
        if text := decoder.feed(octets[start : min(start + BLOCK, part.end)]):
            yield text
    if text := decoder.finish():
        yield text


def fold(text: str) -> str:
    """The form in which text is compared: without case, compatibility characters taken apart (in RFC 5051's spirit)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


def _stretches(octets: Octets, tree: Tree, header: bool) -> Iterator[Iterable[str]]:
    """All that is searched, each without a seam inside."""
    for index, part in enumerate(tree):
        if index or header:
            yield from _field_texts(octets, part)
        if part.type.startswith("text/"):
            yield part_text(octets, part)


def _field_texts(octets: Octets, part: Part) -> Iterator[Iterable[str]]:
    for field in Header(octets[part.start : part.body]).fields:
        yield (f"{field.name.decode('ascii')}: {decode_words(unfold(field.body))}",)


def _has(pieces: Iterable[str], sought: str) -> bool:
    """Whether the pieces joined have `sought` in them, whatever the cuts."""
    tail = ""
    for piece in pieces:
        window = tail + fold(piece)
        if sought in window:
            return True
        tail = window[-len(sought) + 1 :] if len(sought) > 1 else ""
    return False
