"""Modified UTF-7, in which IMAP writes mailbox names, and Maildir++ the names of folders (RFC 3501 5.1.3)."""

from __future__ import annotations

import binascii
import re

from mailhub.errors import InvalidMailboxName
from mailhub.message.mailbox_names import NAME_LIMIT

# Octets: no name within NAME_LIMIT needs more than 2.5 octets for one of its own.
_LIMIT = 4 * NAME_LIMIT
_DIRECT = re.compile(rb"[\x20-\x25\x27-\x7e]+")
_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_ENCODE = re.compile("&|[^\x20-\x7e]+")


def read(octets: bytes) -> str:
    """Read it, strictly: what `encode` would not write is refused, so that a name has one form. Raises
    InvalidMailboxName."""
    if len(octets) > _LIMIT:
        raise InvalidMailboxName("Mailbox name is too long")
    if b"&" not in octets and _DIRECT.fullmatch(octets):
        return octets.decode()
    parts: list[str] = []
    position = 0
    while position < len(octets):
        pattern, read = (_SHIFTED, _read_shifted) if octets[position] == 0x26 else (_DIRECT, bytes.decode)
        match = pattern.match(octets, position)
        if match is None:
            raise InvalidMailboxName("Mailbox name is not in modified UTF-7")
        parts.append(read(match[0]))
        position = match.end()
    text = "".join(parts)
    # Two shifts in a row, a shift for printable ASCII, spare bits: all have another, shorter form.
    if encode(text) != octets:
        raise InvalidMailboxName("Mailbox name is not in modified UTF-7")
    return text


def encode(name: str) -> bytes:
    """Write modified UTF-7. Raises InvalidMailboxName for a lone surrogate."""
    return _ENCODE.sub(_shift, name).encode()


def _read_shifted(shifted: bytes) -> str:
    digits = shifted[1:-1].replace(b",", b"/")
    if not digits:
        return "&"
    try:
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4)).decode("utf-16-be")
    except ValueError:
        raise InvalidMailboxName("Mailbox name is not in modified UTF-7") from None


def _shift(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    try:
        octets = match[0].encode("utf-16-be")
    except UnicodeEncodeError:
        raise InvalidMailboxName("Mailbox name has a lone surrogate") from None
    digits = binascii.b2a_base64(octets, newline=False).rstrip(b"=").replace(b"/", b",")
    return f"&{digits.decode()}-"
