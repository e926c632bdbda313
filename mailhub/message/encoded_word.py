"""Encoded words in header fields, to text and from it (RFC 2047, with RFC 2231 5's language)."""

from __future__ import annotations

import binascii
import re

from mailhub.message.charset import decode

# RFC 2047 2: "=?" charset "?" encoding "?" encoded-text "?=". Spaces and question marks inside are common mistakes and
# are let through, up to where another word begins.
ENCODED_TEXT = rb"(?:[^?=\r\n]++|=(?!\?(?!=))|\?(?!=))*"
_WORD = re.compile(rb"=\?([!-)+->@-~]{1,60})(?:\*[!->@-~]{0,60})?\?([bBqQ])\?(%b)\?=" % ENCODED_TEXT)

_WORD_LIMIT = 75  # octets of an encoded word, RFC 2047 2
# What stands for itself in a phrase (RFC 2047 5), which is right everywhere else, too.
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")


def is_encoded_word(word: bytes) -> bool:
    """Whether this is an encoded word and nothing else."""
    return word.isascii() and _WORD.fullmatch(word) is not None


def encode_words(octets: bytes, charset: str) -> list[bytes]:
    """The encoded words that together are `octets`, none of which cuts a character of UTF-8."""
    safe = sum(map(_Q_SAFE.__contains__, octets)) + octets.count(b" ")
    base64 = len(octets) - safe > safe  # else "q" can be read as it is
    room = _WORD_LIMIT - len(charset) - len("=??b??=")
    room = room // 4 * 3 if base64 else room
    start = b"=?%b?%b?" % (charset.encode("ascii"), b"b" if base64 else b"q")
    characters = [each.encode() for each in octets.decode()] if charset == "utf-8" else [bytes((o,)) for o in octets]
    words: list[bytes] = []
    word: list[bytes] = []
    size = 0
    for character in characters:
        piece = character if base64 else _quoted(character)
        if size + len(piece) > room:
            words.append(b"".join(word))
            word, size = [], 0
        word.append(piece)
        size += len(piece)
    words.append(b"".join(word))
    return [start + (binascii.b2a_base64(each, newline=False) if base64 else each) + b"?=" for each in words]


def _quoted(character: bytes) -> bytes:
    if character == b" ":
        return b"_"
    return character if character[0] in _Q_SAFE else b"".join([b"=%02X" % octet for octet in character])


def decode_words(value: bytes) -> str:
    """The text of an unfolded field body: encoded words decoded, other octets as UTF-8 or else Windows-1252.

    White space between two encoded words vanishes (RFC 2047 6.2). Neighbours in one charset are decoded together,
    because senders cut characters in two. Never fails.
    """
    if value.find(b"=?") < 0:
        return decode(value)
    runs: list[tuple[str, list[bytes]]] = []  # charset ("" outside of words) and octets
    position = 0
    for match in _WORD.finditer(value):
        between = value[position : match.start()]
        position = match.end()
        charset = match[1].decode("ascii").lower()
        octets = _octets(match[2], match[3])
        after_word = bool(runs)
        if between.strip(b" \t") or (between and not after_word):
            runs.append(("", [between]))
        if runs and runs[-1][0] == charset:
            runs[-1][1].append(octets)
        else:
            runs.append((charset, [octets]))
    runs.append(("", [value[position:]]))
    return "".join([decode(b"".join(octets), charset) for charset, octets in runs])


def _octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return binascii.a2b_qp(text, header=True)
    return decode_base64(text)


def decode_base64(text: bytes) -> bytes:
    """Base64 without what is none of it; an incomplete group gives what it holds, and padding need not be the end.

    Some encode a text piece by piece and join what comes of it.
    """
    kept = text.translate(None, NOT_BASE64).rstrip(b"=")
    return b"".join(map(_block, kept.split(b"="))) if b"=" in kept else _block(kept)


def _block(kept: bytes) -> bytes:
    if len(kept) % 4 == 1:  # six bits are no octet
        kept = kept[:-1]
    return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4))


BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
NOT_BASE64 = bytes(set(range(256)) - set(BASE64))
