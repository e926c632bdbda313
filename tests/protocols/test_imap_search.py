"""SEARCH through the session: what is read, in how large pieces, and that nobody else has to wait for it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from twisted.logger import capturedLogs

from mailhub.errors import StoreUnavailable
from tests.protocols.imap_rig import MESSAGES, Server, result

BIG = b"Subject: big\r\n\r\n" + b"x" * 65_530 + b" needle in the seam " + b"y" * 200_000
ENCODED = (
    b"Subject: encoded\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(b"z" * 49_140 + "Nähnadel".encode() + b"z" * 100_000)
)


class Reads:
    """Notes what is read of messages, and may fail."""

    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spans: list[tuple[int, int]] = []
        self.trouble: Exception | None = None
        reader = type(result(server.mailbox().open(1)))
        read = reader.read

        async def noted(blob: Any, offset: int = 0, length: int = -1) -> bytes:
            self.spans.append((offset, length))
            if self.trouble is not None:
                raise self.trouble
            octets: bytes = await read(blob, offset, length)
            return octets

        monkeypatch.setattr(reader, "read", noted)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (b'BODY "needle in the seam"', b"1"),
        (b"TEXT NEEDLE", b"1"),
        (b"CHARSET UTF-8 BODY {9+}\r\nn\xc3\xa4hnadel", b"2"),
        (b"BODY nowhere", b""),
        (b"NOT BODY needle", b"2"),
    ],
)
def test_large_bodies(key: bytes, found: bytes) -> None:
    client = Server(messages=(BIG, ENCODED)).login("INBOX")
    expected = b"* SEARCH " + found if found else b"* SEARCH"
    assert client.send(b"a SEARCH " + key + b"\r\n") == expected + b"\r\na OK Completed\r\n"


def test_bodies_are_read_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(messages=(BIG,))
    reads = Reads(server, monkeypatch)
    server.login("INBOX").send(b"a SEARCH BODY nowhere\r\n")
    assert max(length for _, length in reads.spans) == 65536
    reads.spans.clear()
    server.login("INBOX").send(b"a SEARCH BODY xxx\r\n")
    assert len(reads.spans) == 2, "the header, and the one block in which it was found"


@pytest.mark.parametrize("key", [b"SUBJECT two", b"SEEN", b"SENTSINCE 1-Jan-2020", b"UID 2 BODY x SUBJECT three"])
def test_no_octets_are_read_where_the_digest_decides(key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    reads = Reads(server, monkeypatch)
    assert b"a OK" in server.login("INBOX").send(b"a SEARCH " + key + b"\r\n")
    assert reads.spans == []


def test_a_store_in_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    reads = Reads(server, monkeypatch)
    reads.trouble = StoreUnavailable()
    client = server.login("INBOX")
    assert client.send(b"a SEARCH BODY x\r\n").startswith(b"a NO [UNAVAILABLE]")
    reads.trouble = None
    assert client.send(b"b SEARCH BODY second\r\n") == b"* SEARCH 2\r\nb OK Completed\r\n"


def test_others_are_served_during_a_long_search() -> None:
    server = Server(messages=MESSAGES * 500)
    searcher, other = server.login("INBOX"), server.login("INBOX")
    searcher.connection.dataReceived(b"a SEARCH SUBJECT three\r\n")
    assert searcher.peer.taken() == b"", "the first slice is done, the rest waits for its turn"
    other.connection.dataReceived(b"b NOOP\r\n")
    assert other.peer.taken() == b"b OK Completed\r\n"
    assert searcher.taken().startswith(b"* SEARCH 3 6 9 ")


def test_a_heavy_search_takes_smaller_slices() -> None:
    server = Server(messages=MESSAGES * 4)
    client = server.login("INBOX")
    client.connection.dataReceived(b"a SEARCH" + b" SUBJECT t" * 1990 + b"\r\n")
    turns = 0
    while not client.peer.writes:
        server.clock.calls[0].reset(0)
        call = server.clock.calls.pop(0)
        call.func(*call.args, **call.kw)
        turns += 1
    assert turns >= 6
    assert client.taken() == b"* SEARCH 2 3 5 6 8 9 11 12\r\na OK Completed\r\n"


def test_a_connection_lost_during_a_search_ends_it() -> None:
    server = Server(messages=MESSAGES * 500)
    client = server.login("INBOX")
    client.connection.dataReceived(b"a SEARCH SUBJECT three\r\n")
    with capturedLogs() as logs:
        client.drop()
        server.clock.advance(0)
    assert client.session is None
    assert not [event for event in logs if "log_failure" in event]
