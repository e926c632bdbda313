"""A damaged message as clients meet it: refused alone, by a code that says whose fault it is, and logged."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from mailhub.errors import MessageDamaged
from mailhub.store.sqlite.blobs import BLOBS, blob_names, blob_path
from tests.protocols.imap_rig import USER, result
from tests.protocols.imap_rig import Server as ImapServer
from tests.protocols.test_pop3 import Server as PopServer
from tests.store.sqlite.test_damage import spoil_page

SMALL = b"Subject: small\r\n\r\nneedle\r\n"
LARGE = b"Subject: large\r\n\r\nneedle" + b"y" * 140_000
DAMAGED = b"NO [SERVERBUG] Some of the messages are damaged on the server and cannot be read\r\n"


@pytest.fixture(params=["cut", "gone", "changed"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Three messages, of which UID 2 is damaged."""
    changed = request.param == "changed"
    made = ImapServer(messages=(SMALL, SMALL if changed else LARGE, SMALL), folder=tmp_path)
    if changed:
        with sqlite3.connect(made.database.path) as connection:
            connection.execute(
                "UPDATE content SET octets = CAST(substr(octets, 1, size - 1) || x'00' AS BLOB)"
                " WHERE id = (SELECT content FROM message WHERE uid = 2)"
            )
        connection.close()
    else:
        (name,) = blob_names(tmp_path / BLOBS)
        path = blob_path(tmp_path / BLOBS, name)
        if request.param == "cut":
            os.truncate(path, 99_000)
        else:
            path.unlink()
    yield made
    result(made.database.stop())


@pytest.mark.parametrize("command", [b"FETCH 1:3 (UID BODY.PEEK[])", b"UID FETCH 1:3 BODY[]", b"FETCH 2,1,3 RFC822"])
def test_fetch_answers_all_others_and_says_what_is_wrong(server: Any, command: bytes) -> None:
    client = server.login("INBOX")
    with capturedLogs() as logs:
        answer = client.send(b"a " + command + b"\r\n")
    assert answer.count(SMALL) == 2
    assert b"* 2 FETCH (BODY" not in answer
    assert answer.endswith(b"a " + DAMAGED)
    (told,) = [event for event in logs if event["log_level"].name == "error"]
    assert (told["user"], told["mailbox"], told["uid"]) == (USER, "INBOX", 2)
    # The session goes on, and what needs no octets is still there.
    assert b"Subject: " not in client.send(b"b FETCH 2 (ENVELOPE FLAGS)\r\n")
    assert client.send(b"c NOOP\r\n").endswith(b"c OK Completed\r\n")


def test_search_finds_the_others(server: Any) -> None:
    client = server.login("INBOX")
    with capturedLogs() as logs:
        answer = client.send(b"a SEARCH BODY needle\r\n")
    assert answer.startswith(b"* SEARCH 1 3\r\n")
    assert [event["uid"] for event in logs if event["log_level"].name == "error"] == [2]


def test_it_can_be_copied_moved_and_removed(server: Any) -> None:
    client = server.login("INBOX")
    assert b"a OK" in client.send(b"a COPY 1:3 Archive\r\n")
    assert b"b OK" in client.send(b"b MOVE 2 Trash\r\n")
    assert b"c OK" in client.send(b"c SELECT Trash\r\n")
    assert client.send(b"d FETCH 1 BODY[]\r\n").endswith(b"d " + DAMAGED)
    client.send(b"e STORE 1 +FLAGS (\\Deleted)\r\n")
    assert b"* 1 EXPUNGE\r\n" in client.send(b"f EXPUNGE\r\n")


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 0"])
def test_pop3_refuses_it_alone(command: bytes) -> None:
    server = PopServer()
    client = server.connect().login()
    real = server.inbox.open

    async def damaged(uid: int) -> Any:
        if uid == 4:
            raise MessageDamaged(detail="body is missing")
        return await real(uid)

    server.inbox.open = damaged  # type: ignore[method-assign]
    with capturedLogs() as logs:
        answer = client.send(command + b"\r\nRETR 3\r\n")
    assert answer.startswith(b"-ERR [SYS/PERM] The message is damaged on the server")
    assert b"+OK" in answer
    (told,) = [event for event in logs if event["log_level"].name == "error"]
    assert (told["mailbox"], told["uid"]) == ("INBOX", 4)


def test_a_bad_page_keeps_no_other_message_from_being_found(tmp_path: Path) -> None:
    messages = tuple(b"Subject: number %d\r\n\r\nneedle" % number + b"x" * 6000 for number in range(20))
    made = ImapServer(messages=messages, folder=tmp_path)
    with sqlite3.connect(made.database.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    spoil_page(tmp_path, b"Subject: number 7\r\n")
    client = made.login("INBOX")
    # The second time the others are cached, and the one is asked for alone.
    for command in (b"SEARCH SUBJECT number", b"SEARCH SUBJECT number", b"SEARCH BODY needle", b"SEARCH FROM x"):
        with capturedLogs() as logs:
            answer = client.send(b"a " + command + b"\r\n")
        assert answer.endswith(b"a OK Completed\r\n")
        assert b" 8 " not in answer
        assert answer.count(b" ") > 15 or b"FROM" in command
        assert 8 in [event["uid"] for event in logs if event["log_level"].name == "error"]
    assert client.send(b"b FETCH 8 BODY.PEEK[HEADER.FIELDS (SUBJECT)]\r\n") == b"b " + DAMAGED
    result(made.database.stop())
