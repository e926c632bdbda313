"""Our Authentication-Results field in a message, and fields of others that say they are ours (RFC 8601 5)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailhub.message.header import raw_fields

_FIELD = "Authentication-Results"
_NAME = _FIELD.lower().encode()
_NEXT = ";\r\n\t"
# RFC 8601 2.2: [CFWS] authserv-id
_AUTHSERV_ID = re.compile(rb'[^:]*:\s*"?([^\s;"(]+)')
_INNER_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*\)", re.DOTALL)
_COMMENTS_DEPTH = 20


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
    return b"".join([octets for name, octets in raw_fields(header) if name != _NAME or not _is_by(octets, hostname)])


def _is_by(field: bytes, hostname: str) -> bool:
    """Whether a result says that it is ours; one whose name is lost in comments might be read so, too."""
    for _ in range(_COMMENTS_DEPTH):
        field, found = _INNER_COMMENT.subn(b" ", field)
        if not found:
            break
    match = _AUTHSERV_ID.match(field)
    return match is None or match[1].replace(b"\\", b"").lower() == hostname.lower().encode()
