"""A client and a handler around the IMAP server machine: octets in, what the handler saw and what was answered out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from mailhub.wire.budget import Budget
from mailhub.wire.imap import commands
from mailhub.wire.imap.commands import Event
from mailhub.wire.imap.server import ImapServer
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.imap.state import SessionState

Answer = Callable[[ImapServer, Any], None]


def settings(**changes: Any) -> ImapSettings:
    """Those of a server with TLS on."""
    return attrs.evolve(ImapSettings("mx.example", secure=True), **changes)


def agree(machine: ImapServer, event: Event) -> None:
    """Answer OK to all that wants an answer."""
    if isinstance(event, commands.Append):
        machine.accept_append()
    elif isinstance(event, commands.Idle | commands.BodyChunk | commands.Identified | commands.AppendAborted):
        return
    else:
        machine.ok(event.tag)


class Talk:
    """One connection. `answers` are by type of event, `agree` is the rule. Chunks of a message are joined in `body`."""

    def __init__(
        self,
        configuration: ImapSettings | None = None,
        answers: dict[type, Answer] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.machine = ImapServer(configuration or settings(), budget)
        self.answers = answers or {}
        self.events: list[Event] = []
        self.body = b""
        self.most_held = 0

    def state(self) -> SessionState:
        return self.machine.state

    def send(self, octets: bytes) -> bytes:
        """Feed octets, have all events handled, and return what the machine answers."""
        self.machine.receive_data(octets)
        self.most_held = max(self.most_held, self.machine.held())
        answered: list[bytes] = []
        while True:
            event = None if self.machine.closing else self.machine.next_event()
            if event is not None:
                self.handle(event)
            output = self.machine.data_to_send()
            if event is None and not output:
                return b"".join(answered)
            answered.append(output)

    def handle(self, event: Event) -> None:
        if isinstance(event, commands.BodyChunk):
            self.body += event.octets
        else:
            self.events.append(event)
        self.answers.get(type(event), agree)(self.machine, event)

    def line(self, text: str) -> bytes:
        """Send one command line."""
        return self.send(text.encode() + b"\r\n")

    def seen(self) -> list[Event]:
        """Take the events so far."""
        events, self.events = self.events, []
        return events

    def login(self) -> Talk:
        self.line("L LOGIN joe secret")
        self.seen()
        return self

    def select(self) -> Talk:
        self.login().line("S SELECT INBOX")
        self.seen()
        return self
