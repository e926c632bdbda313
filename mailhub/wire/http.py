"""An answer of a web server, as far as it takes to fetch a small text and to hand one over (RFC 9112).

h11 knows HTTP; everything is bounded: header, chunks, body. A redirection is an answer like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import h11

_HEAD = 32768  # octets of all header lines, and of what stands around chunks
_INTERIM = 5  # answers 1xx before the one that counts


class BadAnswer(ValueError):
    """It is no answer, or a larger one than was bargained for."""


@attrs.frozen
class Answer:
    """`media_type` in lower case, without parameters; "" where there is none."""

    status: int
    media_type: str
    body: bytes


def request(method: str, host: str, path: str, fields: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> bytes:
    """The octets of a request, after whose answer the server closes. Raises ValueError for what would break a line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "User-Agent: mailhub"]
    lines += [f"{name}: {value}" for name, value in fields]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    if not all(line.isascii() and line.isprintable() for line in lines) or " " in path or not path.startswith("/"):
        raise ValueError(f"{path!r} cannot be asked for")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


class AnswerReader:
    """Takes what the server sends, in pieces of any size."""

    def __init__(self, body_limit: int, machine: h11.Connection | None = None) -> None:
        """`body_limit` in octets. `machine` knows what was asked, where it is one of several requests."""
        self._limit = body_limit
        self._machine = _asked_once() if machine is None else machine
        self._interim = 0
        self._status = 0
        self._fields: dict[bytes, bytes] = {}
        self._body = bytearray()

    def feed(self, octets: bytes) -> Answer | None:
        """The answer, when it is complete. Raises BadAnswer."""
        if not octets:
            return None
        return self._read(octets)

    def end(self) -> Answer:
        """The server has closed. Raises BadAnswer where there was more to come."""
        answer = self._read(b"")
        if answer is None:
            raise BadAnswer("connection closed too early")
        return answer

    def _read(self, octets: bytes) -> Answer | None:
        try:
            self._machine.receive_data(octets)
            while True:
                event = self._machine.next_event()
                if isinstance(event, h11.EndOfMessage):
                    return self._answer()
                if isinstance(event, h11.Response):
                    self._begin(event)
                elif isinstance(event, h11.InformationalResponse):
                    self._interim += 1
                    if self._interim > _INTERIM:
                        raise BadAnswer("no answer but promises")
                elif isinstance(event, h11.Data):
                    self._allow(len(event.data))
                    self._body += event.data
                else:
                    return None
        except h11.ProtocolError as error:
            raise BadAnswer(str(error)) from None

    def _begin(self, response: h11.Response) -> None:
        self._status, self._fields = response.status_code, dict(response.headers)
        if self._fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise BadAnswer("body in a coding that was not asked for")
        if self._status not in (204, 304):
            self._allow(int(self._fields.get(b"content-length", b"0")))

    def _allow(self, more: int) -> None:
        if len(self._body) + more > self._limit:
            raise BadAnswer(f"body of more than {self._limit} octets")

    def _answer(self) -> Answer:
        media_type = self._fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        return Answer(self._status, media_type.decode("ascii", "replace"), bytes(self._body))


def _asked_once() -> h11.Connection:
    """What was asked makes a difference to HTTP where the answer to HEAD or CONNECT would be read."""
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)
    machine.send(h11.Request(method="GET", target="/", headers=[("Host", "-"), ("Connection", "close")]))
    machine.send(h11.EndOfMessage())
    return machine


class Exchanges:
    """Requests on one connection that is kept, one after the other: what is to be sent, and a reader of each answer."""

    def __init__(self) -> None:
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD)

    def begin(self, path: str, fields: Sequence[tuple[str, str]], length: int) -> bytes:
        """The head of a POST with a body of `length` octets. Raises ValueError for what would break a line."""
        if self._machine.our_state is h11.DONE:
            self._machine.start_next_cycle()
        known = [*fields, ("User-Agent", "mailhub"), ("Content-Length", str(length))]
        headers = [(name.encode("ascii"), value.encode()) for name, value in known]
        return self._say(h11.Request(method="POST", target=path.encode("ascii"), headers=headers))

    def data(self, octets: bytes) -> bytes:
        """A piece of the body. Raises ValueError for more than was promised."""
        return self._say(h11.Data(data=octets))

    def end(self) -> bytes:
        """The end of the body. Raises ValueError for less than was promised."""
        return self._say(h11.EndOfMessage())

    def _say(self, event: h11.Event) -> bytes:
        try:
            return self._machine.send(event) or b""
        except h11.LocalProtocolError as error:
            raise ValueError(str(error)) from None

    def answer(self, limit: int) -> AnswerReader:
        """Of what was asked last; `limit` in octets of its body."""
        return AnswerReader(limit, self._machine)

    @property
    def lasting(self) -> bool:
        """Whether something else can be asked when an answer has come."""
        machine = self._machine
        return machine.our_state is machine.their_state is h11.DONE and not machine.trailing_data[0]
