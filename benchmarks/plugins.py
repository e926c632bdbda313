"""What plugins cost: a call through a guard beside a plain one, a mailbox of a `SimpleStore` beside the built-in one.

Sessions are whole ones, from the client's octets to the server's, in one process without network and TLS.

    python benchmarks/plugins.py [messages]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from benchmarks.delivery import message
from mailhub.api import ACCEPT, Component, SimpleStore, Verdict
from mailhub.guard import Guard
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

USER, PASSWORD = "ann@xx.example", "correct horse"
CALLS = 100_000


class Notes(SimpleStore):
    """Three methods, read-only."""

    count = 10_000

    def users(self) -> list[str]:
        return [USER]

    def messages(self, user: str, folder: str) -> Iterable[int]:
        return range(self.count)

    def read(self, user: str, folder: str, key: int) -> bytes:
        return message(key)


def plain() -> Verdict:
    """A policy's method that has nothing to ask."""
    return ACCEPT


async def coroutine() -> Verdict:
    """The same, that could wait."""
    return ACCEPT


async def _direct(function: Callable[[], Any]) -> None:
    for _ in range(CALLS):
        given = function()
        if function is coroutine:
            await given


async def _guarded(guard: Guard, function: Callable[[], Any]) -> None:
    for _ in range(CALLS):
        await guard.ask("mail", function)


def calls() -> None:
    """Microseconds of a call."""
    guard = Guard("policy", "mine", "", Clock())
    for function in (plain, coroutine):
        spent = []
        for run in (_direct(function), _guarded(guard, function)):
            started = time.process_time()
            Deferred.fromCoroutine(run)
            spent.append((time.process_time() - started) / CALLS * 1e6)
        bare, whole = spent
        print(
            f"a policy call, {function.__name__:10} {bare:6.2f} us bare, {whole:6.2f} us guarded:"
            f" {whole - bare:.2f} us more"
        )


def _client(internet: Internet, host: Host) -> Caller:
    caller = internet.call(host, "imap")
    caller.expect(b"* OK")
    caller.ask(f'a login {USER} "{PASSWORD}"\r\n'.encode(), b"a OK")
    return caller


def _timed(caller: Caller, command: bytes) -> float:
    """Milliseconds of CPU until the command is answered."""
    started = time.process_time()
    caller.ask(b"b " + command + b"\r\n", b"b OK")
    return (time.process_time() - started) * 1000


def mailboxes(count: int) -> None:
    """Milliseconds of a command."""
    Notes.count = count
    commands = (
        b"SELECT INBOX",
        b"FETCH 1:* FLAGS",
        b"FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)",
        b"FETCH 1:* ENVELOPE",
    )
    print(f"\n{count} messages, CPU{'first time':>48}{'again, best of 3':>20}")
    for label, config in (("SimpleStore", {"store": {"type": "notes"}}), ("built in", {})):
        with Internet(seed=1) as internet:
            plugins = [Component("store", "notes", Notes)]
            host = internet.hub(
                "xx.example", config={**config, "trust": {"cleartext_login": ["10.9.9.9"]}}, plugins=plugins
            )
            host.add_account(USER, PASSWORD)
            if not config:
                internet.wait(_fill(host, count))
            caller = _client(internet, host)
            for command in commands:
                first, *again = (_timed(caller, command) for _ in range(4))
                print(f"{label:12} {command.decode():44} {first:8.1f} ms {min(again):14.1f} ms")


async def _fill(host: Host, count: int) -> None:
    account = await host.hub.store.account(USER)
    inbox = await account.mailbox("INBOX")
    for number in range(count):
        writer = account.new_body()
        await writer.write(message(number))
        await inbox.append(await writer.finish(), frozenset(), number)


if __name__ == "__main__":
    calls()
    mailboxes(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
