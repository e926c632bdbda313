"""SMTP replies: written by the server, read (and not trusted) by the client (RFC 5321 4.2, RFC 2034)."""

from __future__ import annotations

import re
from functools import lru_cache

import attrs

# RFC 5321 4.5.3.1.5: a reply line has at most 512 octets, CRLF included.
_LINE_OCTETS = 512
_LINES = 100
# What is told of a reply in log, queue and DSN, in characters; a stranger's 100 long lines do not belong there.
_TEXT = 1000
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@attrs.frozen
class Reply:
    """A reply: code, enhanced status code ("" where the reply has none), and the text, one item a line."""

    code: int
    status: str = ""
    lines: tuple[str, ...] = ("",)

    @property
    def positive(self) -> bool:
        """Whether the command was taken (2xx, or 3xx: go on)."""
        return self.code < 400

    @property
    def text(self) -> str:
        """All in one line of bounded length, for log and DSN: `550 5.1.1 No such user here`."""
        status = f"{self.status} " if self.status else ""
        text = f"{self.code} {status}{' '.join(line for line in self.lines if line)}".rstrip()
        return text if len(text) <= _TEXT else f"{text[:_TEXT]} ..."


def reply(code: int, status: str, *lines: str) -> Reply:
    """Make a reply."""
    return Reply(code, status, lines or ("",))


def render(answer: Reply) -> bytes:
    """The octets of a reply. Nothing in the text can end a line early; lines and their number are cut to the limits.

    Anything beyond ASCII becomes `?`: where RFC 6531 3.7.4 allows it, in answers that name another mailbox, we give
    none.
    """
    if len(answer.lines) == 1:
        row = (
            f"{answer.code} {answer.status} {answer.lines[0]}" if answer.status else f"{answer.code} {answer.lines[0]}"
        )
        if row.isascii() and row.isprintable() and len(row) <= _LINE_OCTETS - 2:
            return row.encode("ascii") + b"\r\n"  # as nearly all are
    status = f"{_printable(answer.status)} " if answer.status else ""
    texts = [_printable(text) for text in answer.lines[:_LINES]]
    rows = [f"{answer.code}-{status}{text}" for text in texts]
    # RFC 5321 4.2: the space after the code stands even when no text follows.
    rows[-1] = f"{answer.code} {status}{texts[-1]}"
    return b"\r\n".join([row.encode("ascii", "replace")[: _LINE_OCTETS - 2] for row in rows]) + b"\r\n"


def _printable(text: str) -> str:
    return text if text.isascii() and text.isprintable() else _CONTROL.sub(" ", text)


class BadReply(Exception):
    """The server does not speak SMTP, or breaks a limit."""


class TooManyLines(BadReply):
    """A reply that goes on and on."""


# RFC 5321 4.2 Reply-line; RFC 2034 4 status-code. First digits other than 2-5 do not exist.
_REPLY_LINE = re.compile(r"([2-5][0-9]{2})(?:([ -])(.*))?")
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)(.*)")


@attrs.define
class ReplyReader:
    """Collects the lines of one reply after another; octets that are not UTF-8 are replaced. At most 100 lines each."""

    _code: int = 0
    _status: str = ""
    _lines: list[str] = attrs.field(factory=list)

    @property
    def begun(self) -> Reply | None:
        """What there is of a reply that is not complete."""
        return Reply(self._code, self._status, tuple(self._lines)) if self._lines else None

    def cut(self, head: bytes) -> Reply | None:
        """The reply that a line without end belongs to, as far as it is known; `head` is how that begins."""
        if not self._lines and (line := _line_in(head)) is not None:
            self._add(line)
        return self.begun

    def line(self, octets: bytes) -> Reply | None:
        """Take a line without its ending; gives the reply when it is complete. Raises BadReply, TooManyLines."""
        line = _line_in(octets)
        if line is None:
            raise BadReply("not an SMTP reply")
        if not self._lines and not line.goes_on:
            return line.alone
        if self._lines and line.alone.code != self._code:
            raise BadReply("reply lines with different codes")
        if len(self._lines) >= _LINES:
            raise TooManyLines("reply has too many lines")
        self._add(line)
        if line.goes_on:
            return None
        complete = Reply(self._code, self._status, tuple(self._lines))
        self._code, self._status, self._lines = 0, "", []
        return complete

    def _add(self, line: _Line) -> None:
        self._code = line.alone.code
        self._status = self._status or line.alone.status
        self._lines += line.alone.lines


@attrs.frozen
class _Line:
    """A line, read as a reply of its own; `goes_on`: others follow it."""

    alone: Reply
    goes_on: bool


@lru_cache(256)
def _line_in(octets: bytes) -> _Line | None:
    """A line of a reply; None where it is none. Servers say the same few things to every message."""
    match = _REPLY_LINE.fullmatch(_CONTROL.sub(" ", octets.decode("utf-8", "replace")))
    if match is None:
        return None
    code, text = int(match[1]), match[3] or ""
    status = _STATUS.fullmatch(text)
    # A status of another class than the code is text (RFC 2034 4 wants them equal).
    if status and int(status[1][0]) == code // 100:
        return _Line(Reply(code, status[1], (status[2],)), match[2] == "-")
    return _Line(Reply(code, "", (text,)), match[2] == "-")
