"""What comes back to a return address that names one recipient: whether it says that mail has failed. Pure.

Reports are read as RFC 3464 has them (in RFC 6522's multipart/report; RFC 6533 for SMTPUTF8). Others that servers write
can only be known by what they are not: an answer of a person or of a person's program (RFC 3834).
"""

from __future__ import annotations

import binascii
import re
from typing import Literal

import attrs

from mailhub.message.header import Header
from mailhub.message.mime import Part, children, scan

BOUNCE_LIMIT = 1 << 18  # octets that are read: what is said stands before the message that comes back
_REASON_LIMIT = 300  # characters
_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_GROUPS_LIMIT = 100
_BETWEEN = re.compile(rb"\r?\n[ \t]*\r?\n")
_WORD = re.compile(rb"\s*([a-z]+)", re.IGNORECASE)
_ACTIONS = frozenset((b"failed", b"delayed", b"relayed", b"expanded", b"delivered"))  # RFC 3464 2.3.3
_BULK = frozenset((b"bulk", b"junk", b"list"))
_UNPRINTABLE = re.compile(r"[^ -~]+")

Kind = Literal["failed", "unclear", "passing", "none"]


@attrs.frozen
class Bounce:
    """What somebody else's server says of mail: it has `failed` for good, it is `unclear` what (no report that can be
    read), it is of `passing` interest (late, relayed, delivered), or it says nothing of the kind (`none`). `reason` is
    in its words, a line of printable ASCII, or "".
    """

    kind: Kind
    reason: str = ""


def read_bounce(octets: bytes, *, from_nobody: bool) -> Bounce:
    """Of a message, or its first `BOUNCE_LIMIT` octets. `from_nobody`: it has the null reverse-path."""
    found = scan(octets)
    top, kind = found.headers[0], found.types[0]
    if (kind.value, kind.subvalue) == ("multipart", "report"):
        parts = [found.tree[index] for index in children(found.tree, 0)]
        status = next((part for part in parts if part.type in _STATUS_TYPES), None)
        if status is not None:
            return _of_status(_decoded(octets, status))
        if (kind.text("report-type") or "").lower() != "delivery-status":
            return Bounce("none")  # of another kind: read, or complained of
    if top.count(b"x-failed-recipients"):  # of Exim, which calls them automatic replies
        return Bounce("unclear", _line(top.first(b"subject") or b""))
    said = (top.first(b"auto-submitted") or b"").strip().lower()
    bulk = (top.first(b"precedence") or b"").strip().lower() in _BULK
    if not from_nobody or said.startswith(b"auto-replied") or bulk or top.count(b"list-id"):
        return Bounce("none")
    return Bounce("unclear", _line(top.first(b"subject") or b""))


def _of_status(octets: bytes) -> Bounce:
    """RFC 3464 2.1: a group of fields for the message, then one for each recipient."""
    known = False
    for group in _BETWEEN.split(octets, maxsplit=_GROUPS_LIMIT):
        fields = Header(group.strip() + b"\r\n")
        action = _WORD.match(fields.first(b"action") or b"")
        if action is None or action[1].lower() not in _ACTIONS:
            continue
        known = True
        if action[1].lower() == b"failed":
            return Bounce("failed", _line(fields.first(b"diagnostic-code") or fields.first(b"status") or b""))
    return Bounce("passing" if known else "unclear")


def _decoded(octets: bytes, part: Part) -> bytes:
    body = octets[part.body : part.end]
    try:
        if part.encoding == "base64":
            return binascii.a2b_base64(body)
        if part.encoding == "quoted-printable":
            return binascii.a2b_qp(body)
    except binascii.Error:
        pass
    return body


def _line(value: bytes) -> str:
    text = _UNPRINTABLE.sub(" ", value.decode("utf-8", "replace"))
    return " ".join(text.split())[:_REASON_LIMIT]
