"""All that is kept about a message beside its octets, found in one pass when it is stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from mailhub.message import mime
from mailhub.message.address_list import parse as parse_addresses
from mailhub.message.dates import parse_date
from mailhub.message.encoded_word import decode_words
from mailhub.message.header import VALUE_LIMIT, Header, Octets
from mailhub.message.line_ends import growth
from mailhub.message.preview import preview
from mailhub.message.record import Digest, DigestColumns, DigestName
from mailhub.message.structure import bodystructure, envelope

# The fields that clients ask for in lists of messages, in lower case.
USUAL_FIELDS = frozenset(
    {
        b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"subject", b"date", b"message-id", b"in-reply-to",
        b"references", b"content-type", b"content-transfer-encoding", b"mime-version", b"list-id", b"list-post",
        b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-owner", b"list-archive",
        b"priority", b"x-priority", b"importance", b"newsgroups",
    }
)  # fmt: skip

TEXT_LIMIT = 1000  # characters of subject, sender and message_id
_SENDERS = 3  # elements of From that are looked at: one after a group's name, at least
_MESSAGE_ID = re.compile(rb"<[^<>]*+>")


def columns(digests: Mapping[int, Digest], wanted: Iterable[DigestName]) -> DigestColumns:
    """The wanted attributes of whole digests."""
    found: dict[str, dict[int, Any]] = {
        name: {uid: getattr(each, name) for uid, each in digests.items()} for name in wanted
    }
    return cast(DigestColumns, found)


def digest(octets: Octets, start: int = 0) -> Digest:
    """Read a message once, which begins at `start`, with nothing but NULs before it. Never fails; the cost is linear in
    its octets."""
    scan = mime.scan(octets, start)
    header = scan.headers[0]
    tree = mime.shifted(scan.tree, -start) if start else scan.tree
    return Digest(
        size=len(octets) - start,
        header_size=tree[0].body,
        envelope=envelope(header),
        bodystructure=bodystructure(scan),
        parts=mime.encode(tree),
        fields=header.octets(USUAL_FIELDS),
        sent=parse_date((header.first(b"date") or b"").decode("utf-8", "replace")) or 0,
        subject=_clean(decode_words(header.first(b"subject") or b"")),
        sender=_sender(header),
        message_id=_message_id(header),
        preview=preview(octets, scan.tree),
        growth=growth(octets, start),
    )


def _sender(header: Header) -> str:
    body = header.joined(b"from")
    if body:
        for spec in parse_addresses(body, octets=VALUE_LIMIT, addresses=_SENDERS):
            if spec.local is not None and spec.domain is not None:
                return _whole((spec.local + b"@" + spec.domain).decode("utf-8", "replace"))
    return ""


def _message_id(header: Header) -> str:
    body = header.first(b"message-id") or b""
    match = _MESSAGE_ID.search(body)
    return _whole((match[0] if match else body).decode("utf-8", "replace"))


def _whole(text: str) -> str:
    """Of an address or identifier that is too long nothing: a part of it would be another one."""
    return _clean(text) if len(text) <= TEXT_LIMIT else ""


def _clean(text: str) -> str:
    """Without what a database or a list of messages cannot show."""
    if not text.isprintable():
        text = "".join([character if character.isprintable() else " " for character in text[:TEXT_LIMIT]])
    return text[:TEXT_LIMIT].strip()
