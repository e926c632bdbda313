"""A message as a client sends it: behind DATA with a dot at its end, or in chunks (RFC 5321 4.5.2, RFC 3030 2)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import attrs

from mailhub.message.envelope import Outcome, State
from mailhub.message.long_lines import LineWrapper
from mailhub.wire.smtp.replies import Reply
from mailhub.wire.stream import DotStuffer, LineEnder

# What becomes of a recipient that is one too many for the transaction (RFC 3463 3.6).
TOO_MANY = "4.5.3"

# A farewell, and nothing else: a server may say it at any time (RFC 5321 3.8), so it is no reply too many.
_FAREWELL = re.compile(rb"(?:421-[^\n]*\n)*421(?:[ -][^\n]*)?\r?\n?")
# Replies that a message was refused by, a farewell apart, or taken.
_REFUSED = re.compile(rb"^(?!421)[45]", re.MULTILINE)
_TAKEN = re.compile(rb"^[23]", re.MULTILINE)


class OutgoingBody(Protocol):
    """The octets to send for those of a message, however these are cut."""

    def feed(self, octets: bytes) -> bytes:
        """What goes out for the next piece."""

    def finish(self) -> bytes:
        """What ends the message."""


class DataBody:
    """What stands behind 354. Bare CR, bare LF and NUL are repaired, so that no server can take something within the
    message for its end; `wrap`: lines that are too long for SMTP are broken."""

    def __init__(self, *, wrap: bool) -> None:
        self._wrapper = LineWrapper() if wrap else None
        self._stuffer = DotStuffer(normalise=True)

    def feed(self, octets: bytes) -> bytes:
        """See `OutgoingBody`."""
        return self._stuffer.feed(self._wrapper.feed(octets) if self._wrapper else octets)

    def finish(self) -> bytes:
        """See `OutgoingBody`."""
        rest = self._stuffer.feed(self._wrapper.finish()) if self._wrapper else b""
        return rest + self._stuffer.finish()


class ChunkedBody:
    """BDAT commands with what belongs to each. A piece is held back until the next one comes, for the last chunk says
    that it is the last. `binary`: the octets as they are (BINARYMIME); otherwise a text, repaired as behind DATA."""

    def __init__(self, *, wrap: bool, binary: bool) -> None:
        self._wrapper = LineWrapper() if wrap and not binary else None
        self._ender = None if binary else LineEnder()
        self._held = b""

    def feed(self, octets: bytes) -> bytes:
        """See `OutgoingBody`; one chunk at most."""
        if self._wrapper:
            octets = self._wrapper.feed(octets)
        if self._ender:
            octets = self._ender.feed(octets)
        if not octets:
            return b""
        held, self._held = self._held, octets
        return b"BDAT %d\r\n%b" % (len(held), held) if held else b""

    def finish(self) -> bytes:
        """See `OutgoingBody`; one chunk."""
        rest = self._held
        if self._ender:
            rest += self._ender.feed(self._wrapper.finish()) if self._wrapper else b""
            rest += self._ender.finish()
        return b"BDAT %d LAST\r\n%b" % (len(rest), rest)


@attrs.define
class Transaction:
    """One message under way. Recipients are told by their number. `same`: who is spared a RCPT, as that of another says
    the very same. `early`: the message goes out together with the envelope. `ended`: all of it is out, and it is not
    answered yet. `in_step`: every other reply had come before its end went out."""

    outcomes: list[Outcome | None]
    body: OutgoingBody
    chunked: bool
    early: bool
    same: dict[int, int] = attrs.field(factory=dict)
    accepted: deque[int] = attrs.field(factory=deque)
    ended: bool = False
    in_step: bool = False

    @property
    def in_doubt(self) -> bool:
        """Whether the server may have it for a recipient of whom it has said nothing, or that he is taken."""
        open_ones = (number for number, told in enumerate(self.outcomes) if told is None)
        return self.ended and any(number not in self.same for number in open_ones)

    def forget(self) -> None:
        """Take back what was said of the recipients."""
        self.outcomes = [None] * len(self.outcomes)

    def agrees(self, outcomes: Sequence[Outcome], unasked: bytes) -> bool:
        """Whether the outcomes hold although the server has said more behind its last reply than it was asked: if the
        last reply is known to be the one to the message, or if it makes no difference which one is.

        A farewell alone leaves everything in order: as many replies have come as commands were sent. To take one of
        them for a reply too many, and the farewell for an answer, would double the message for those who have it, at
        each attempt with a server that takes one message a connection."""
        if self.in_step or _FAREWELL.fullmatch(unasked):
            return True
        states = {outcome.state for outcome in outcomes}
        others = _REFUSED if states == {State.DELIVERED} else _TAKEN
        return len(states) == 1 and (states == {State.DELAYED} or others.search(unasked) is None)

    def is_full(self, answer: Reply) -> bool:
        """Whether the server has said to RCPT that it is one too many, and may be taken in a transaction of its own: by
        452, or by 552 where it is an old one (RFC 5321 4.5.3.1.10)."""
        if answer.code == 552:
            return answer.status in ("", "5.5.3")
        return answer.code == 452 and not answer.status and bool(self.accepted)
