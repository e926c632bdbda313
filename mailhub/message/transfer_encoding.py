"""Content-Transfer-Encodings written (RFC 2045 6.7, 6.8): blocks of a body in, blocks of 7-bit lines out."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator

_LINE = 57  # octets that one line of base64 holds
_ENCODED_LINE = 76

_LINE_END = re.compile(rb"\r?\n")
_FOREIGN = bytes([0, *range(128, 256)])
_ENDLESS = re.compile(rb"[^\r\n]{900,}")  # with what blocks before it left of its line, no more than a line may have
_HIGH = re.compile(rb"=?[\x00\x80-\xff]")  # an "=" before one begins no escape
# As much of a line of quoted-printable as stands before a soft line break, and no escape cut in two.
_LONG = re.compile(rb"([^\r\n]{70,72})(?<!=)(?<!=.)(?=[^\r\n]{7})|[^\r\n]{72}")


def quoted_printable(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Text in quoted-printable. Blocks end with line ends where they can; lines end with CRLF, whatever ended them.

    No soft line break makes a line that begins with two hyphens: it might be taken for a delimiter.
    """
    open_line = False
    for block in blocks:
        encoded = binascii.b2a_qp(block.replace(b"\r\n", b"\n"), istext=True)
        encoded = encoded.replace(b"=\n--", b"=\n=2D-").replace(b"\n", b"\r\n")
        yield b"=\r\n" + encoded if open_line else encoded
        open_line = not block.endswith(b"\n")


def quoted_again(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """What is in quoted-printable already, but with lines that are too long or octets that it must not have."""
    open_line = False
    for block in blocks:
        encoded = _LINE_END.sub(b"\r\n", _HIGH.sub(_escaped, block))
        encoded = _LONG.sub(_broken, encoded).replace(b"=\r\n--", b"=\r\n=2D-")
        yield b"=\r\n" + encoded if open_line else encoded
        open_line = not block.endswith(b"\n")


def base64(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Octets in base64, without a line end at the end."""
    held = b""
    first = True
    for block in blocks:
        held += block
        whole = len(held) // _LINE * _LINE
        if whole == len(held):
            whole -= _LINE  # the last line has no end
        if whole > 0:
            yield (b"" if first else b"\r\n") + _in_lines(binascii.b2a_base64(held[:whole], newline=False))
            held, first = held[whole:], False
    if held:
        yield (b"" if first else b"\r\n") + binascii.b2a_base64(held, newline=False)


def base64_again(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """What is in base64 already, but with lines that are too long or octets that it must not have (which readers pass
    over, RFC 2045 6.8)."""
    for block in blocks:
        yield _ENDLESS.sub(lambda match: _in_lines(match[0]), block.translate(None, _FOREIGN))


def _in_lines(encoded: bytes) -> bytes:
    step = _ENCODED_LINE
    return b"\r\n".join([encoded[start : start + step] for start in range(0, len(encoded), step)])


def _broken(match: re.Match[bytes]) -> bytes:
    """Not within what is full of mistakes: a line break might become one of the text there."""
    return match[0] + b"=\r\n" if match[1] else match[0]


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"=3D" * (len(match[0]) - 1) + b"=%02X" % match[0][-1]
