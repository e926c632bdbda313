"""A scripted program on the network in memory, for the policies that ask one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.protocol import Factory, Protocol

from mailhub.testing.hubs import Host, Internet

HANGS = b""
MESSAGE = b"Subject: hello\r\n\r\nHow are you?\r\n"
_END = b".\r\n"
_NO_CHECKS = {"spf": False, "dkim": False, "dmarc": "off", "iprev": False, "arc": False}


class Dies(Exception):
    """The program closes the connection instead of an answer."""


@attrs.define(eq=False)
class Peer(Factory):
    """A program. `complete` says whether what it has heard on a connection since its last answer is a whole question;
    `answers` are given in turn, and the last one again and again. `asked`: what was whole. `connections`: how many."""

    noisy = False

    complete: Callable[[bytes], bool]
    answers: list[Any]
    then_closes: bool = False
    asked: list[bytes] = attrs.field(factory=list)
    connections: int = 0
    lost: int = 0
    lines: list[Any] = attrs.field(factory=list)

    def buildProtocol(self, addr: Any) -> Protocol:
        self.connections += 1
        line = _Line(self)
        self.lines.append(line)
        return line

    def answer(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Line(Protocol):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if not self.peer.complete(self.heard):
            return
        self.peer.asked.append(self.heard)
        self.heard = b""
        answer = self.peer.answer()
        transport: Any = self.transport
        if answer is Dies:
            transport.loseConnection()
            return
        transport.write(answer)
        if self.peer.then_closes:
            transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        self.peer.lost += 1


def configured(policy: str, options: dict[str, Any]) -> dict[str, Any]:
    """A hub's configuration with this policy alone."""
    table = {"type": policy, **options}
    return {"delivery": {"policies": [policy]}, "policy": {policy: table}, "checks": _NO_CHECKS}


def dialogue(internet: Internet, host: Host, message: bytes = MESSAGE, to: tuple[str, ...] = ("ann",)) -> list[str]:
    """What a client hears from EHLO to the end of its message, up to the first refusal."""
    caller = internet.call(host, "smtp")
    caller.expect(b"220 ")
    told: list[str] = []
    for line in ("EHLO c.example", "MAIL FROM:<a@yy.example>", *[f"RCPT TO:<{each}@xx.example>" for each in to]):
        told.append(_last_line(caller.ask(line.encode() + b"\r\n", b"", 700)))
        if told[-1][0] in "45":
            break
    else:
        told.append(_last_line(caller.ask(b"DATA\r\n", b"", 700)))
        if told[-1].startswith("354"):
            told[-1] = _last_line(caller.ask(message + _END, b"", 700))
    caller.ask(b"QUIT\r\n", b"221 ")
    internet.run(1)
    return told


def sent(internet: Internet, host: Host, message: bytes = MESSAGE) -> str:
    """The last answer of such a dialogue."""
    return dialogue(internet, host, message)[-1]


def kept(internet: Internet, host: Host, mailbox: str = "INBOX") -> list[bytes]:
    """Ann's messages there, below the trace fields."""

    async def read() -> list[bytes]:
        account = await host.hub.store.account("ann@xx.example")
        found = await account.mailbox(mailbox)
        return [await (await found.open(entry.uid)).read() for entry in await found.entries()]

    return [octets.partition(b" +0000\r\n")[2] for octets in internet.wait(read())]


def _last_line(answer: bytes) -> str:
    return answer.decode().splitlines()[-1]


def whole_request(heard: bytes) -> bool:
    """Whether that is a request of HTTP with all of its body."""
    head, end, body = heard.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= int(fields_of(head)["content-length"])


def fields_of(request: bytes) -> dict[str, str]:
    """The fields of a request by their names in lower case; several of one name are joined by commas."""
    found: dict[str, str] = {}
    for line in request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        name, _, value = line.partition(":")
        known = found.get(name.lower())
        found[name.lower()] = value.strip() if known is None else f"{known},{value.strip()}"
    return found


def body_of(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


def json_answer(given: object, status: str = "200 OK", more: str = "") -> bytes:
    body = given if isinstance(given, bytes) else json.dumps(given).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body
