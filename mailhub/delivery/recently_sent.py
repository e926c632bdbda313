"""Which messages have just been put into Sent by the server, so that a client that does the same has no second one."""

from __future__ import annotations

from collections import OrderedDict

from mailhub.message.header import raw_fields, unfold

SHARED = "sent copies"  # the name of the one that all services have (`IHub.shared`)
MAILBOXES = 10_000
MESSAGES = 100
KEPT_SECONDS = 3600.0


def message_id_of(header: bytes) -> bytes:
    """Of the first such field, b"" for none."""
    for name, octets in raw_fields(header):
        if name == b"message-id":
            return unfold(octets.partition(b":")[2])
    return b""


class RecentlySent:
    """Those of the last hour, in the memory of the process: of so many mailboxes, so many of each."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], OrderedDict[bytes, float]] = OrderedDict()

    def note(self, user: str, mailbox: str, message_id: bytes, now: float) -> None:
        """A message was put there; `now` is of a monotonic clock."""
        if not message_id:
            return
        known = self._known.setdefault((user, mailbox), OrderedDict())
        self._known.move_to_end((user, mailbox))
        known[message_id] = now
        if len(known) > MESSAGES:
            known.popitem(last=False)
        if len(self._known) > MAILBOXES:
            self._known.popitem(last=False)

    def any(self, user: str, mailbox: str) -> bool:
        """Whether it is worth to look at a message that comes there."""
        return (user, mailbox) in self._known

    def take(self, user: str, mailbox: str, message_id: bytes, now: float) -> bool:
        """Whether it was put there lately; once for each time."""
        noted = self._known.get((user, mailbox), OrderedDict()).pop(message_id, None)
        return noted is not None and 0 <= now - noted < KEPT_SECONDS
