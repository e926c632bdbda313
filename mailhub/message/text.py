"""The text of a message, decoded piece by piece: for SEARCH (RFC 3501 6.4.4), for an index, for a preview.

A piece is at most a few blocks long, whatever the message holds; nothing is held longer than it takes to read it.
"""

from __future__ import annotations

import binascii
import unicodedata
from collections.abc import Iterable, Iterator

from mailhub.message.charset import incremental_decoder
from mailhub.message.encoded_word import decode_base64, decode_words
from mailhub.message.header import Octets, raw_fields, unfold
from mailhub.message.mime import Part, Tree

_BLOCK = 1 << 16  # octets of a body that are decoded at once
_HEADER_LIMIT = 1 << 20  # octets of one header that are decoded
# What is left out of base64 before whole groups of four are cut from it.
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))


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
    decoder = incremental_decoder(part.charset)
    for piece in part_octets(octets, part):
        if text := decoder.decode(piece):
            yield text
    if text := decoder.decode(b"", True):
        yield text


def part_octets(octets: Octets, part: Part) -> Iterator[bytes]:
    """The octets of one leaf, in pieces, its transfer encoding undone as far as it can be (RFC 2045 6)."""
    blocks = (octets[start : min(start + _BLOCK, part.end)] for start in range(part.body, part.end, _BLOCK))
    if part.encoding == "base64":
        return _from_base64(blocks)
    if part.encoding == "quoted-printable":
        return _from_quoted_printable(blocks)
    return blocks


def fold(text: str) -> str:
    """The form in which text is compared: without case, compatibility characters taken apart (in RFC 5051's spirit)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


def _from_base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Up to the first padding: what follows it belongs to nothing."""
    rest = b""
    for block in blocks:
        kept = rest + block.translate(None, _NOT_BASE64)
        if b"=" in kept:
            yield decode_base64(kept)
            return
        whole = len(kept) // 4 * 4
        rest = kept[whole:]
        yield binascii.a2b_base64(kept[:whole])
    yield decode_base64(rest)


def _from_quoted_printable(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Line by line in blocks; a line longer than a block is cut where no escape is."""
    rest = b""
    for block in blocks:
        block = rest + block
        cut = block.rfind(b"\n") + 1
        if not cut:
            escape = block.rfind(b"=", -3)
            cut = len(block) if escape < 0 else escape
        rest = block[cut:]
        yield binascii.a2b_qp(block[:cut])
    yield binascii.a2b_qp(rest)


def _stretches(octets: Octets, tree: Tree, header: bool) -> Iterator[Iterable[str]]:
    """All that is searched, each without a seam inside."""
    for index, part in enumerate(tree):
        if index or header:
            yield from _field_texts(octets, part)
        if part.type.startswith("text/"):
            yield part_text(octets, part)


def _field_texts(octets: Octets, part: Part) -> Iterator[Iterable[str]]:
    raw = octets[part.start : min(part.body, part.start + _HEADER_LIMIT)]
    for name, field in raw_fields(raw):
        if name:
            yield (field[: len(name)].decode("ascii") + ": " + decode_words(unfold(field[len(name) + 1 :])),)


def _has(pieces: Iterable[str], sought: str) -> bool:
    """Whether the pieces joined have `sought` in them, whatever the cuts."""
    tail = ""
    for piece in pieces:
        window = tail + fold(piece)
        if sought in window:
            return True
        tail = window[-len(sought) + 1 :] if len(sought) > 1 else ""
    return False
