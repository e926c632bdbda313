"""By which fields a message says that it answers another (RFC 5322 3.6.4, RFC 3834 3.1.6)."""

from __future__ import annotations

import re

from mailhub.message.header import Header

_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")
_REFERENCES = 20  # of the thread so far that are repeated: its first, and the last


def answering(header: bytes) -> bytes:
    """In-Reply-To and References of an answer to the message with this header, with their line ends; nothing where that
    has no Message-ID that could be repeated."""
    read = Header(header)
    own = read.first(b"message-id") or b""
    if not _MESSAGE_ID.fullmatch(own):
        return b""
    before = _MESSAGE_ID.findall(read.first(b"references") or b"")
    if not before:
        parents = _MESSAGE_ID.findall(read.first(b"in-reply-to") or b"")
        before = parents if len(parents) == 1 else []
    if len(before) > _REFERENCES:
        before = [before[0], *before[1 - _REFERENCES :]]
    return b"In-Reply-To: %b\r\nReferences: %b\r\n" % (own, b"\r\n ".join([*before, own]))
