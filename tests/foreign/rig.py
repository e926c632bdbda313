"""Avatars of foreign realms under mailhub's own sessions, on a Clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.task import Clock
from zope.interface import Interface

from mailhub.foreign import Foreign, adapt
from mailhub.guard import Guard
from mailhub.interfaces import Environment, IMailAccount
from mailhub.net.driver import DriverFactory
from mailhub.protocols.imap.session import ImapOptions, ImapParts, ImapService
from mailhub.protocols.pop3 import OpenMaildrops, Pop3Options, Pop3Service
from mailhub.threads import InlineThreads
from mailhub.wire.imap.server_settings import ImapSettings
from tests.net.line_session import PEER, Peer
from tests.protocols.gate import FakeAuthenticator

USER = "b@yy.example"
EPOCH = 1_767_268_800  # 2026-01-01 12:00 UTC


def foreign(clock: Clock | None = None, **options: Any) -> Foreign:
    clock = clock or Clock()
    nothing: Any = None
    environment = Environment(clock, InlineThreads(), nothing, nothing, Random(1), Path("/nonexistent"), lambda: EPOCH)
    return Foreign(environment, Guard("realm", "theirs", "theirs.py", clock, timeout_seconds=30.0), **options)


class Server:
    """Listeners of IMAP and POP3 whose logins are given what `avatar` makes, adapted."""

    def __init__(self, interface: type[Interface], avatar: Callable[[], Any], **options: Any) -> None:
        self.clock = Clock()
        self.foreign = foreign(self.clock, **options)
        self.logouts: list[str] = []

        def adapted(user: str) -> Any:
            return adapt(interface, avatar(), user, self.foreign, lambda: self.logouts.append(user))

        self.gate = gate = FakeAuthenticator(IMailAccount, adapted)
        parts = ImapParts(gate, self.clock, options=ImapOptions(ImapSettings("mx", plaintext_login=True)))
        pop3 = Pop3Service(gate, OpenMaildrops(), Pop3Options(host="mx", plaintext_login=True))
        self.factories = {
            "imap": DriverFactory(ImapService(parts).session, self.clock, Random(1), "imap"),
            "pop3": DriverFactory(pop3.session, self.clock, Random(1), "pop3"),
        }

    def imap(self, mailbox: str = "") -> Client:
        """Logged in, and with the mailbox selected."""
        client = Client(self, "imap")
        assert b"L OK " in client.send(f"L LOGIN {USER} secret")
        if mailbox:
            assert b"\r\nS OK " in client.send(f"S SELECT {mailbox}")
        return client

    def pop3(self) -> Client:
        """Logged in."""
        client = Client(self, "pop3")
        client.send(f"USER {USER}")
        assert client.send("PASS secret").startswith(b"+OK")
        return client


@attrs.define(eq=False, init=False)
class Client:
    """One connection."""

    clock: Clock
    connection: Any
    peer: Peer
    greeting: bytes

    def __init__(self, server: Server, service: str) -> None:
        self.clock = server.clock
        self.connection = server.factories[service].buildProtocol(PEER)
        self.peer = Peer()
        self.connection.makeConnection(self.peer)
        self.greeting = self.taken()

    def send(self, line: str | bytes) -> bytes:
        """What comes back for a line, once everything that can go on has gone on."""
        octets = line.encode() if isinstance(line, str) else line
        self.connection.dataReceived(octets + b"\r\n")
        return self.taken()

    def taken(self) -> bytes:
        for _ in range(5):
            self.clock.advance(0)
        return self.peer.taken()

    def drop(self) -> None:
        """The line is cut."""
        self.peer.connected = False
        self.connection.connectionLost(None)
