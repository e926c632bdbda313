"""What is said to clamd, and what its answers mean: the grammar alone (clamd(8), INSTREAM)."""

from __future__ import annotations

import re
from typing import Literal

import attrs

COMMAND = b"zINSTREAM\0"
END = b"\0\0\0\0"
PING = b"zPING\0"
PONG = b"PONG"
ANSWER_LIMIT = 4096  # octets
_NAME_LIMIT = 100  # characters of what was found
_ANSWER = re.compile(r"stream: (.{1,4000}) FOUND")
_UNPRINTABLE = re.compile(r"[^!-~]+")


@attrs.frozen
class Scanned:
    """What clamd has found: nothing, something with a name, or that it takes no message as large as that."""

    kind: Literal["clean", "found", "larger"]
    name: str = ""


def chunk(octets: bytes) -> bytes:
    """A piece of what is to be scanned; none is empty."""
    return len(octets).to_bytes(4, "big") + octets


def parse(answer: bytes) -> Scanned:
    """An answer without its end. Raises ValueError for an error of clamd's, and what is no answer."""
    text = answer.decode("ascii", "replace").strip()
    if text == "stream: OK":
        return Scanned("clean")
    if text == "INSTREAM size limit exceeded. ERROR":
        return Scanned("larger")
    match = _ANSWER.fullmatch(text)
    if match is None:
        raise ValueError(f"clamd says {_UNPRINTABLE.sub(' ', text)[:_NAME_LIMIT]!r}")
    return Scanned("found", _UNPRINTABLE.sub("?", match[1])[:_NAME_LIMIT])
