"""What a submission server mends in the header of a message (RFC 6409 8, RFC 5322 3.6)."""

from __future__ import annotations

from mailhub.message.header import raw_fields

# Recipients whom the others must not see (RFC 5322 3.6.3).
_BLIND = (b"bcc", b"resent-bcc")


def blind_fields(header: bytes) -> bytes:
    """The fields that `mend_header` takes out, for the sender's own copy."""
    return b"".join([octets for name, octets in raw_fields(header) if name in _BLIND])


def mend_header(header: bytes, date: str, message_id: str, sender: str | None = None) -> bytes:
    """The header with Date and Message-ID put on top where they are absent, and without Bcc.

    `sender` is what the Sender field is to say in any case (RFC 6409 8.1), "" for none, None for what the message says.
    `header` may have the empty line at its end or not. `message_id` has its angle brackets. Everything else stays octet
    for octet.
    """
    kept = []
    seen = set()
    for name, octets in raw_fields(header):
        seen.add(name)
        if name not in _BLIND and (name != b"sender" or sender is None):
            kept.append(octets)
    added = b"" if not sender else b"Sender: %b\r\n" % sender.encode()
    if b"date" not in seen:
        added += b"Date: %b\r\n" % date.encode("ascii")
    if b"message-id" not in seen:
        added += b"Message-ID: %b\r\n" % message_id.encode("ascii")
    # White space at the start continues no field of the message, so it must not come to continue one of ours.
    place = next((index for index, octets in enumerate(kept) if octets[0] not in b" \t"), len(kept))
    before = b"".join(kept[:place])
    if added and before and not before.endswith(b"\n"):
        before += b"\r\n"
    return before + added + b"".join(kept[place:])
