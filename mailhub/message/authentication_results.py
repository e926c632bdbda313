"""Authentication-Results of others that say they are ours (RFC 8601 5)."""

from __future__ import annotations

import re

from mailhub.message.header import raw_fields

_NAME = b"authentication-results"
# RFC 8601 2.2: [CFWS] authserv-id
_AUTHSERV_ID = re.compile(rb'[^:]*:\s*"?([^\s;"(]+)')
_INNER_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*\)", re.DOTALL)
_COMMENTS_DEPTH = 20


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
