"""How far an SMTP conversation has come, overheard from both sides: so that a fault can strike at a stage of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

# In their order; a conversation may leave some out, and come to some often. "body" is in the midst of a message, "end"
# its final dot (or last chunk) and the reply to that. What is said of QUIT matters to nobody any more.
STAGES = ("greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "body", "end", "RSET", "QUIT")

INJECTED = "injected"  # the stage of a command whose reply somebody else gives

Side = Literal["command", "reply", "after"]
Piece = tuple[bytes, str]
"""Octets, and the stage that they belong to."""


class Dialogue:
    """One connection. TLS that is played is no hindrance, for its octets are plain.

    It is fed what travels, and gives it back in pieces: from the client a command each (its beginning without a stage,
    where not all of it has come; with "body" what precedes the final dot, with "end" that dot), from the server the
    lines of one reply each, as far as they have come.
    """

    def __init__(self) -> None:
        self._awaited = deque(["greeting"])  # of which stages replies are to come
        self._heard = b""  # from the client: the beginning of a line
        self._said = b""  # from the server
        self._data = False  # a message comes, up to the final dot
        self._tail = b"\r\n"  # of the message so far
        self._chunk = 0  # octets of a chunk that are still to come
        self._last = False  # it is the message's last one
        self._login = False  # the next line is part of AUTH
        self._each = False  # LMTP: a message has a reply for each recipient (RFC 2033 4.2)
        self._taken = 0  # recipients of this message so far
        self._ends = 0  # replies to the message that are still to come, where there are several

    @property
    def end_replies(self) -> int:
        """How many replies there are to the message, when those to its recipients have come."""
        return max(1, self._taken) if self._each else 1

    def client(self, octets: bytes) -> Iterator[Piece]:
        """What the client sends."""
        while octets:
            if self._chunk:
                # The last octet of the last chunk is what the final dot is elsewhere.
                size = self._chunk - 1 if self._last and self._chunk > 1 else self._chunk
                piece, octets = octets[:size], octets[size:]
                stage = "end" if self._last and self._chunk == 1 else "body"
                self._chunk -= len(piece)
                yield piece, stage
            elif self._data:
                pieces, octets = self._message(octets)
                yield from pieces
            else:
                line, end, octets = octets.partition(b"\n")
                self._heard += line + end
                stage = self._command(self._heard) if end else ""
                if end:
                    self._heard = b""
                yield line + end, stage

    def _message(self, octets: bytes) -> tuple[list[Piece], bytes]:
        """Pieces of the message in these octets, and what follows it."""
        seen = self._tail + octets
        at = seen.find(b"\r\n.\r\n")
        if at < 0:
            self._tail = seen[-4:]
            return [(octets, "body")], b""
        dot = max(0, at + 2 - len(self._tail))
        end = at + 5 - len(self._tail)
        self._data, self._tail = False, b"\r\n"
        self._awaited.append("end")
        pieces = [(octets[:dot], "body"), (octets[dot:end], "end")]
        return [piece for piece in pieces if piece[0]], octets[end:]

    def _command(self, line: bytes) -> str:
        if self._login:
            self._login = False
            self._awaited.append("AUTH")
            return "AUTH"
        words = line.upper().split()
        verb = words[0].decode("ascii", "replace") if words else ""
        stage = {"HELO": "EHLO", "LHLO": "EHLO"}.get(verb, verb)
        self._each = self._each or verb == "LHLO"
        if verb == "BDAT" and len(words) > 1 and words[1].isdigit():
            self._chunk, self._last = int(words[1]), words[-1] == b"LAST"
            self._awaited.append("end" if self._last else "body")
            return "DATA" if self._chunk else "end"
        self._awaited.append(stage)
        return stage

    def take_over(self) -> int:
        """The command that was overheard last does not get to the server, and neither do so many octets after it."""
        self._awaited[-1] = INJECTED
        return self._chunk

    def answered(self) -> None:
        """The reply to the next command has been given by somebody else."""
        self._awaited.popleft()

    def is_next(self, stage: str) -> bool:
        """Whether the next reply is one to a command of this stage."""
        return bool(self._awaited) and self._awaited[0] == stage and not self._said

    def server(self, octets: bytes) -> Iterator[Piece]:
        """What the server sends."""
        while octets:
            line, end, octets = octets.partition(b"\n")
            self._said += line + end
            stage = self._awaited[0] if self._awaited else "QUIT"
            if end:
                said, self._said = self._said, b""
                if said[3:4] != b"-" and self._awaited:
                    self._replied(stage, said)
            yield line + end, stage

    def _replied(self, stage: str, said: bytes) -> None:
        """A reply is complete."""
        if stage == "end":
            self._ends = (self._ends or self.end_replies) - 1
        if not self._ends:
            self._awaited.popleft()
        self._data = self._data or (stage == "DATA" and said.startswith(b"354"))
        self._login = stage == "AUTH" and said.startswith(b"334")
        if stage == "RCPT" and said.startswith(b"25"):
            self._taken += 1
        elif stage in ("MAIL", "RSET", "EHLO") or (stage == "end" and not self._ends):
            self._taken = 0
