"""Canonical forms of header fields and bodies, which signatures are made of (RFC 6376 3.4 and 3.7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

Form = Literal["simple", "relaxed"]

_FOLDED = re.compile(rb"[ \t\r\n]+")
_RUN = re.compile(rb"[ \t]{2,}|\t")
_CRLF = b"\r\n"
_BLOCK = 4096  # line ends that are hashed at once
# The value of b= with all white space around it (RFC 6376 3.7)
_B_VALUE = re.compile(rb"((?:^|;)[ \t\r\n]*+b[ \t\r\n]*+=)[^;]*+")


def field_in_form(octets: bytes, form: Form) -> bytes:
    """A field with its line end, in canonical form (RFC 6376 3.4.1, 3.4.2)."""
    if form == "simple":
        return octets
    name, _, body = octets.partition(b":")
    return name.rstrip(b" \t").lower() + b":" + _FOLDED.sub(b" ", body).strip(b" ") + _CRLF


def without_signature(octets: bytes) -> bytes:
    """A signature's own field as it is signed: nothing for the value of b=, and no line end (RFC 6376 3.7)."""
    name, colon, body = octets.partition(b":")
    return name + colon + _B_VALUE.sub(rb"\1", body, count=1).removesuffix(_CRLF)


def signed_fields(fields: Sequence[tuple[bytes, bytes]], names: Sequence[bytes], form: Form) -> bytes:
    """The fields that `names` (in lower case) select, in canonical form.

    `fields` are all of the header: (name in lower case, raw octets). Of those that are there several times each mention
    takes one more, from the bottom; a name too many selects nothing (RFC 6376 5.4.2).
    """
    wanted = frozenset(names)
    found: dict[bytes, list[bytes]] = {}
    for name, octets in fields:
        if name in wanted:
            found.setdefault(name, []).append(octets)
    chosen = [found[name].pop() for name in names if found.get(name)]
    return b"".join(chosen) if form == "simple" else b"".join([field_in_form(octets, form) for octets in chosen])


class BodyHash:
    """The SHA-256 of a body in canonical form (RFC 6376 3.4.3, 3.4.4), fed as it comes; the first `limit` octets of the
    form, all of it without one. What it holds back is a few octets, whatever comes."""

    def __init__(self, form: Form, limit: int | None = None) -> None:
        self._relaxed = form == "relaxed"
        self._left = limit
        self._hash = sha256()
        self._tail = b""  # of which the next octets decide
        self._line_ends = 0  # held back, for those at the end of the body do not count
        self.length = 0  # octets of the canonical form; of digest() on, those of all of it

    def update(self, octets: bytes) -> None:
        """The next octets."""
        data = self._tail + octets if self._tail else octets
        end = len(data)
        if data.endswith(b"\r"):
            end -= 1
        if self._relaxed and end and data[end - 1] in b" \t":
            end = len(data[:end].rstrip(b" \t"))
        self._tail = data[end:]
        if self._relaxed and len(self._tail) > 2:
            self._tail = b" \r" if self._tail.endswith(b"\r") else b" "  # a run is one space, however long
        self._add(data[:end])

    def digest(self) -> bytes:
        """All octets have come."""
        tail, self._tail = self._tail, b""
        # White space at the end of a last line that has no line end is at the end of a line, too.
        self._add(tail.lstrip(b" \t") if self._relaxed and not tail.endswith(b"\r") else tail)
        if self.length or not self._relaxed:
            # A body ends with one line end; the simple form of none is one.
            self._line_ends = 0
            self._hash_octets(_CRLF)
        return self._hash.digest()

    def _add(self, data: bytes) -> None:
        if not data:
            return
        if self._relaxed:
            if b"\t" in data or b"  " in data:
                data = _RUN.sub(b" ", data)
            if b" \r\n" in data:
                data = data.replace(b" \r\n", _CRLF)
        end = _without_line_ends(data)
        if end:
            while self._line_ends:
                count = min(self._line_ends, _BLOCK)
                self._hash_octets(_CRLF * count)
                self._line_ends -= count
            self._hash_octets(data if end == len(data) else data[:end])
        self._line_ends += (len(data) - end) // 2

    def _hash_octets(self, octets: bytes) -> None:
        self.length += len(octets)
        if self._left is None:
            self._hash.update(octets)
        elif self._left > 0:
            self._hash.update(octets[: self._left])
            self._left -= min(self._left, len(octets))


def _without_line_ends(data: bytes) -> int:
    """Where the line ends at the end of it begin."""
    end = len(data.rstrip(_CRLF))
    count, odd = divmod(len(data) - end, 2)
    if not odd and data.endswith(_CRLF * count):
        return end
    end = len(data)  # single CR or LF among them
    while data.endswith(_CRLF, 0, end):
        end -= 2
    return end
