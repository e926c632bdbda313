"""The standard library's IMAP client, written by others, understands the machine (the handler only agrees)."""

from __future__ import annotations

import imaplib
from typing import Any

from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.server import ImapServer
from tests.wire.imap.talk import Talk, agree

APPENDED = responses.appenduid_code(7, 3)


class Client(imaplib.IMAP4):
    """imaplib on a machine instead of a socket."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.inbox = b""
        super().__init__("mx.example")

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        self.talk.machine.greet()

    def send(self, data: Any) -> None:
        self.inbox += self.talk.send(bytes(data))

    def read(self, size: int) -> bytes:
        octets, self.inbox = self.inbox[:size], self.inbox[size:]
        return octets

    def readline(self) -> bytes:
        self.inbox += self.talk.machine.data_to_send()
        line, end, self.inbox = self.inbox.partition(b"\n")
        return line + end

    def shutdown(self) -> None:
        """There is nothing to close."""


def _list(machine: ImapServer, event: Any) -> None:
    machine.untagged(responses.listing(["\\Sent"], 'Gesendete "é"'))
    agree(machine, event)


def _appended(machine: ImapServer, event: Any) -> None:
    machine.ok(event.tag, code=APPENDED)


def test_a_session_of_imaplib() -> None:
    talk = Talk(answers={commands.List: _list, commands.AppendEnd: _appended})
    client = Client(talk)
    assert "IDLE" in client.capabilities
    assert client.authenticate("PLAIN", lambda _: b"\0joe\0pa ss")[0] == "OK"
    assert client.list() == ("OK", [b'(\\Sent) "/" "Gesendete \\"&AOk-\\""'])
    message = b"Subject: x\r\n\r\n" + b"A1 DELETE INBOX\r\n" * 3
    assert client.append("INBOX", "(\\Seen)", '" 1-Feb-2024 10:11:12 +0100"', message)[0] == "OK"
    assert talk.body == message
    assert client.response("APPENDUID") == ("APPENDUID", [b"7 3"])
    assert client.select("INBOX", readonly=True)[0] == "OK"
    assert client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (FROM)])")[0] == "OK"
    client.literal = "größer".encode()  # type: ignore[assignment]
    assert client.search("UTF-8", "SUBJECT")[0] == "OK"
    assert client.logout()[0] == "BYE"
    kinds = [type(event).__name__ for event in talk.seen()]
    assert kinds == ["Login", "List", "Append", "AppendEnd", "Select", "Fetch", "Search", "Logout"]
