"""The first words of a message, for lists of messages (in the manner of RFC 8970)."""

from __future__ import annotations

import html
import re
import unicodedata

from mailhub.message.header import Octets
from mailhub.message.mime import Part, Tree
from mailhub.message.text import TextDecoder, ascii_text

PREVIEW_LIMIT = 200  # characters (RFC 8970 3.1 allows 256)
_PLAIN_OCTETS = (512, 8192)  # of a part that are looked at: first, and when that gives nothing
_HTML_OCTETS = 16384
_USUALLY_ENOUGH = 256  # characters that give a preview unless they are mostly white space

# What HTML has before and around its words. Each branch ends at its own first end or with the text, so this is linear.
_MARKUP = re.compile(r"(?is)<(style|script|title)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)|<[a-z/!?][^>]*+(?:>|\Z)")
_INVISIBLE = dict.fromkeys((0xAD, 0x34F, *range(0x200B, 0x2010), *range(0x2060, 0x2065), 0xFEFF))


def preview(octets: Octets, tree: Tree) -> str:
    """Up to PREVIEW_LIMIT characters of the first text/plain part, else of the first text/html part, on one line.

    Quoted lines are passed over where there are others.
    """
    plain = _first(tree, "text/plain")
    if plain is not None:
        for limit in _PLAIN_OCTETS:
            text = _beginning(octets, plain, limit)
            if words := _one_line(_unquoted(text)):
                return words
        if words := _one_line(text):
            return words
    page = _first(tree, "text/html")
    if page is None:
        return ""
    return _one_line(html.unescape(_MARKUP.sub(" ", _beginning(octets, page, _HTML_OCTETS))))


def _first(tree: Tree, kind: str) -> Part | None:
    for part in tree:
        if part.type == kind and part.end > part.body:
            return part
    return None


def _beginning(octets: Octets, part: Part, limit: int) -> str:
    end = min(part.end, part.body + limit)
    piece = octets[part.body : end]
    if (text := ascii_text(piece, part.encoding, part.charset)) is not None:
        return text
    decoder = TextDecoder(part.encoding, part.charset)
    text = decoder.feed(piece)
    return text + decoder.finish() if end == part.end else text


def _unquoted(text: str) -> str:
    if ">" not in text:
        return text
    return "\n".join([line for line in text.split("\n") if not line.startswith(">")])


def _one_line(text: str) -> str:
    if not text.isascii():
        text = text.translate(_INVISIBLE)
    words = _spaced(text[:_USUALLY_ENOUGH])
    if len(words) < PREVIEW_LIMIT:
        words = _spaced(text)
    words = _cut(words)
    if not words.isprintable():
        words = "".join([character for character in words if character.isprintable()])
    return words.rstrip()


def _spaced(text: str) -> str:
    """The words with one space between them."""
    line = text.replace("\r\n", " ").strip()
    if line.isascii() and line.isprintable() and "  " not in line:
        return line
    return " ".join(text.split())


def _cut(words: str) -> str:
    """PREVIEW_LIMIT characters, less one that would lose the marks which follow it."""
    if words.isascii():
        return words[:PREVIEW_LIMIT]
    end = PREVIEW_LIMIT
    while end and end < len(words) and unicodedata.combining(words[end]):
        end -= 1
    return words[:end]
