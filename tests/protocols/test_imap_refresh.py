"""Clients that ask what is new are told what the store finds out then."""

from __future__ import annotations

import pytest

from mailhub.errors import StoreUnavailable
from mailhub.store.memory.store import MemoryMailbox
from tests.protocols.imap_rig import Server


@pytest.mark.parametrize("command", [b"a NOOP\r\n", b"a CHECK\r\n", b"a IDLE\r\n"])
def test_noop_check_and_idle_ask_the_store(command: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    client = server.login("INBOX")

    async def refresh(mailbox: MemoryMailbox) -> None:
        server.deliver(b"Subject: told only now\r\n\r\n")

    monkeypatch.setattr(MemoryMailbox, "refresh", refresh)
    assert b"* 4 EXISTS\r\n" in client.send(command)


def test_a_store_that_cannot_be_asked_is_no_reason_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refresh(mailbox: MemoryMailbox) -> None:
        raise StoreUnavailable

    server = Server()
    client = server.login("INBOX")
    monkeypatch.setattr(MemoryMailbox, "refresh", refresh)
    assert client.send(b"a NOOP\r\n").startswith(b"a OK")


def test_before_a_mailbox_is_selected_there_is_nothing_to_ask() -> None:
    client = Server().login()
    assert client.send(b"a NOOP\r\n").startswith(b"a OK")
