"""Our Authentication-Results field in a message, and fields of others that say they are ours (RFC 8601 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailhub.message.address import to_ascii
from mailhub.message.encoded_word import decode_words
from mailhub.message.header import raw_fields

_FIELD = "Authentication-Results"
_NAME = _FIELD.lower().encode()
_NEXT = ";\r\n\t"
_INNER_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*\)", re.DOTALL)
_COMMENTS_DEPTH = 20
_LENGTH_LIMIT = 65_536  # octets of a field that are looked at
_QUOTING = re.compile(r'["\\]')
_NAME_END = re.compile(r"[(/,=]")


def results_field(results: Sequence[str], hostname: str) -> bytes:
    """The field that says what checks have found (RFC 8601 2.2 resinfo, a line each); nothing where there were none."""
    return f"{_FIELD}: {_NEXT.join([hostname, *results])}\r\n".encode() if results else b""


def own_results(header: bytes, hostname: str) -> Sequence[str]:
    """What `results_field` was made of, in a message from which fields of others by our name have been taken out."""
    begin = f"{_FIELD}: {hostname}{_NEXT}".encode()
    for name, octets in raw_fields(header):
        if name == _NAME and octets.startswith(begin):
            return octets[len(begin) :].decode(errors="replace").removesuffix("\r\n").split(_NEXT)
    return ()


def without_results_of(header: bytes, hostname: str) -> bytes:
    """The header without the fields that give results by our name, whoever has written them."""
    if _NAME not in header.lower():
        return header
    name = _in_one_form(hostname)
    return b"".join([octets for kind, octets in raw_fields(header) if kind != _NAME or not _is_by(octets, name)])


def _is_by(field: bytes, hostname: str) -> bool:
    """Whether anybody might read a result as ours: with its name quoted, folded, among comments, with a version, in
    other letters, as an encoded word, or cut off at the end of what is held of a header. One whose name is lost in
    comments might be read so, too."""
    body = field.partition(b":")[2][:_LENGTH_LIMIT]
    for _ in range(_COMMENTS_DEPTH):
        body, found = _INNER_COMMENT.subn(b" ", body)
        if not found:
            break
    said, any_results, _ = body.partition(b";")
    words = _QUOTING.sub("", decode_words(said)).split() or [""]
    first = _in_one_form(_NAME_END.split(words[0], maxsplit=1)[0])
    if len(words) > 1 and words[-1].isdecimal():
        words.pop()  # RFC 8601 2.2: authres-version
    together = _in_one_form("".join(words))
    return not first or hostname in (first, together) or (not any_results and hostname.startswith(first))


def _in_one_form(name: str) -> str:
    """A host's name in A-labels and lower case, without the dot of the root; what is none as it is."""
    try:
        return (name if name.isascii() else to_ascii(name)).lower().rstrip(".")
    except ValueError:
        return name.lower()
