"""Line ends in files: other programs write and expect bare LF, mail has CRLF.

A message whose every line ends in CRLF is written with LF, and is the same again when it is read. All others are
written as they are; that the name of their file has as many octets for `W` as for `S` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BLOCK = 1 << 20  # octets


class Counted:
    """Octets of a message, `size`, and whether they can be written with LF, as `lf_size` octets."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.size = crlf = lf = 0
        doubled = False
        before = b""
        for block in blocks:
            window = before + block
            self.size += len(block)
            lf += block.count(b"\n")
            crlf += window.count(b"\r\n") - before.count(b"\r\n")
            doubled = doubled or b"\r\r\n" in window
            before = window[-2:]
        self.plain = lf == crlf and not doubled
        self.lf_size = self.size - crlf if self.plain else self.size


def with_lf(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """LF in the place of CRLF."""
    kept = b""
    for block in blocks:
        octets = kept + block
        kept = b"\r" if octets.endswith(b"\r") else b""
        yield octets[: len(octets) - len(kept)].replace(b"\r\n", b"\n")
    yield kept


def with_crlf(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """CRLF in the place of LF that has no CR before it."""
    before = b""
    for block in blocks:
        if before == b"\r" and block.startswith(b"\n"):
            yield b"\n"
            block, before = block[1:], b"\n"
        yield block.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        before = block[-1:] or before
