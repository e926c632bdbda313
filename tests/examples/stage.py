"""A server with one of the examples, and clients that talk to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mailhub.interfaces import IComponentFactory
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

PLUGINS = Path(__file__).parents[2] / "examples" / "plugins"
ANN = "ann@xx.example"
PASSWORD = "correct-horse"
HELLO = b"From: ben@yy.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"


def lines(plugin: str) -> int:
    """How long an example is."""
    return len((PLUGINS / f"{plugin}.py").read_text().splitlines())


def serve(internet: Internet, store: IComponentFactory, table: dict[str, Any], **config: Any) -> Host:
    """A server whose mailboxes are those of the store; Ann can log in."""
    host = internet.hub(
        "xx.example",
        config={"store": {"type": store.name, **table}, "database": {"type": "inline"}, **config},
        plugins=[store],
    )
    host.add_account(ANN, PASSWORD)
    return host


def imap(internet: Internet, host: Host, mailbox: str = "INBOX") -> Caller:
    """Logged in, with a mailbox selected."""
    caller = internet.call(host, "imaps")
    caller.expect(b"* OK")
    caller.ask(f"a login {ANN} {PASSWORD}\r\n".encode(), b"a OK")
    caller.ask(f"b select {mailbox}\r\n".encode(), b"b OK")
    return caller


def append(client: Caller, mailbox: str, octets: bytes, until: bytes) -> bytes:
    """APPEND, in one go."""
    return client.ask(b"z append %s (\\Flagged) {%d+}\r\n%s\r\n" % (mailbox.encode(), len(octets), octets), until)


def pop3(internet: Internet, host: Host) -> Caller:
    """Logged in."""
    caller = internet.call(host, "pop3s")
    caller.expect(b"+OK")
    caller.ask(f"USER {ANN}\r\n".encode(), b"+OK")
    caller.ask(f"PASS {PASSWORD}\r\n".encode(), b"+OK")
    return caller
