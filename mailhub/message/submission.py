"""What a submission server mends in the header of a message (RFC 6409 8, RFC 5322 3.6)."""

from __future__ import annotations

from mailhub.message.header import raw_fields
from mailhub.message.resent import Fields, last_resent

# Recipients whom the others must not see (RFC 5322 3.6.3).
_BLIND = (b"bcc", b"resent-bcc")


def blind_fields(header: bytes) -> bytes:
    """The fields that `mend_header` takes out, for the sender's own copy."""
    return b"".join([octets for name, octets in raw_fields(header) if name in _BLIND])


def mend_header(header: bytes, date: str, message_id: str, sender: str | None = None) -> bytes:
    """The header with Date and Message-ID put on top where they are absent, and without Bcc; of a message that is sent
    again, with Resent-Date and Resent-Message-ID before its other Resent fields as well (RFC 5322 3.6.6).

    `sender` is what the Sender field is to say in any case (RFC 6409 8.1), "" for none, None for what the message says.
    `header` may have the empty line at its end or not. `message_id` has its angle brackets. Everything else stays octet
    for octet.
    """
    kept: list[bytes] = []
    seen = set()
    resent = -1  # where the first Resent field stands among them
    fields = list(raw_fields(header))
    for name, octets in fields:
        seen.add(name)
        if resent < 0 and name.startswith(b"resent-"):
            resent = len(kept)
        if name not in _BLIND and (name != b"sender" or sender is None):
            kept.append(octets)
    if resent >= 0:
        kept.insert(resent, _lacking_resent(fields, date, message_id))
    added = b"" if not sender else b"Sender: %b\r\n" % sender.encode()
    if b"date" not in seen:
        added += b"Date: %b\r\n" % date.encode("ascii")
    if b"message-id" not in seen:
        added += b"Message-ID: %b\r\n" % message_id.encode("ascii")
    # White space at the start continues no field of the message, so it must not come to continue one of ours.
    place = next((index for index, octets in enumerate(kept) if octets[:1] not in (b" ", b"\t")), len(kept))
    before = b"".join(kept[:place])
    if added and before and not before.endswith(b"\n"):
        before += b"\r\n"
    return before + added + b"".join(kept[place:])


def _lacking_resent(fields: Fields, date: str, message_id: str) -> bytes:
    """What a message that is sent again has of that time to say, and does not."""
    seen = {fields[place][0] for place in last_resent(fields)}
    added = b"" if b"resent-date" in seen else b"Resent-Date: %b\r\n" % date.encode("ascii")
    return added if b"resent-message-id" in seen else added + b"Resent-Message-ID: %b\r\n" % message_id.encode("ascii")
