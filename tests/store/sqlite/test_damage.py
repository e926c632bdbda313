"""Octets that were lost or changed on the disk: told as damage, for the messages concerned alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from mailhub.errors import MessageDamaged, MessageGone
from mailhub.interfaces import Plan, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.message.flags import NO_FLAGS
from mailhub.store.exam.rig import Exam, make_body, message, read_message
from mailhub.store.sql import content
from mailhub.store.sql.content import Compared
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS, blob_names, blob_path
from mailhub.store.sqlite.database import Database
from tests.store.harness import FAST, NOW, environment

USER = "b@yy.example"
LARGE = 140_000  # octets: a file
wait = Exam().wait_for


def opened(data: Path) -> Database:
    database = Database(environment(data), FAST, create=True)
    wait(database.start())
    return database


async def inbox_of(database: Database) -> Any:
    return await (await database.store.account(USER, create=True)).mailbox("INBOX")


async def fill(database: Database, sizes: Sequence[int]) -> Any:
    account = await database.store.account(USER, create=True)
    inbox = await account.mailbox("INBOX")
    for number, size in enumerate(sizes):
        await inbox.append(await make_body(account.new_body, message(number, size), 30_000), NO_FLAGS, NOW)
    return inbox


def change(data: Path, statement: str) -> None:
    connection = sqlite3.connect(data / schema.FILE)
    with connection:
        connection.execute(statement)
    connection.close()


def spoil_page(data: Path, octets: bytes) -> None:
    """Overwrite the page of the database in which these octets stand, as a bad sector does."""
    path = data / schema.FILE
    with open(path, "r+b") as file:
        place = file.read().index(octets)
        file.seek(place - place % 4096)
        file.write(bytes(4096))


@pytest.mark.parametrize(
    ("size", "statement", "said"),
    [
        (100, "UPDATE content SET octets = CAST(x'00' || substr(octets, 2) AS BLOB)", "not those that arrived"),
        (100, "UPDATE content SET octets = substr(octets, 2)", "octets instead of"),
        (100, "UPDATE content SET octets = NULL", "lost"),
        (100, "DELETE FROM content", "lost"),
        (LARGE, "cut", "100 octets instead of"),
        (LARGE, "gone", "is missing"),
    ],
)
def test_damage_is_known_when_the_message_is_opened(tmp_path: Path, size: int, statement: str, said: str) -> None:
    database = opened(tmp_path)
    inbox = wait(fill(database, [size]))
    body = next((blob_path(tmp_path / BLOBS, name) for name in blob_names(tmp_path / BLOBS)), None)
    if body is None:
        change(tmp_path, statement)
    elif statement == "cut":
        os.truncate(body, 100)
    else:
        body.unlink()
    with pytest.raises(MessageDamaged, match=said):
        wait(inbox.open(1))
    assert wait(inbox.bodies([1])) == {}
    assert wait(inbox.expunge([1], deleted_only=False)) == [1]
    with pytest.raises(MessageGone):
        wait(inbox.open(1))
    wait(database.stop())


def test_a_body_that_went_with_its_message_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is unlinked while a reader that saw the row is about to open it."""
    database = opened(tmp_path)
    inbox = wait(fill(database, [LARGE]))
    real = content.open_content
    calls: list[object] = []

    def open_content(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            wait(inbox.expunge([1], deleted_only=False))
        return real(*arguments)

    monkeypatch.setattr(content, "open_content", open_content)
    with pytest.raises(MessageGone):
        wait(inbox.open(1))
    assert len(calls) == 2
    wait(database.stop())


def test_a_bad_page_spoils_the_messages_on_it_alone(tmp_path: Path) -> None:
    database = opened(tmp_path)
    wait(fill(database, [3000] * 20))
    wait(database.stop())
    spoil_page(tmp_path, b"Subject: number 7\r\n")
    database = opened(tmp_path)
    inbox = wait(inbox_of(database))
    uids = range(1, 21)
    found = wait(inbox.digests(uids, ["envelope"]))["envelope"]
    lost = set(uids) - set(found)
    assert 8 in lost
    assert len(lost) <= 2
    bodies = wait(inbox.bodies(uids))
    assert bodies == {uid: message(uid - 1, 3000) for uid in uids if uid not in lost}
    # The others are cached now, and it is asked for alone.
    assert wait(inbox.digests(uids, ["envelope"]))["envelope"] == found
    assert wait(inbox.digests([8], ["envelope"]))["envelope"] == {}
    assert wait(inbox.bodies([8])) == {}
    with pytest.raises(MessageDamaged, match="malformed"):
        wait(inbox.open(8))
    # Neither copy nor expunge is kept up by it.
    assert len(wait(inbox.copy(uids, inbox)).source) == 20
    assert len(wait(inbox.expunge(deleted_only=False))) == 40
    assert wait(inbox.status()).messages == 0
    wait(database.stop())


def test_the_queue_finds_a_message_on_a_bad_page(tmp_path: Path) -> None:
    database = opened(tmp_path)

    async def submit(number: int) -> str:
        body = await make_body(database.queue.new_body, message(number, 3000))
        plan = Plan(routes=(Route("smtp", Address("q", "zz.example")),))
        receipt: Any = await database.queue.submit(Submission(Mail(None), plan, body))
        return str(receipt.id)

    ids = [wait(submit(number)) for number in range(10)]
    wait(database.stop())
    spoil_page(tmp_path, b"Subject: number 7\r\n")
    database = opened(tmp_path)
    due = wait(database.queue.claim(NOW, 100, 100))
    assert [claim.message.id for claim in due] == ids
    with pytest.raises(MessageDamaged):
        wait(database.queue.open(ids[7]))
    assert wait(database.queue.kept_header(ids[7])) == b""
    assert b"Subject: number 3" in wait(database.queue.kept_header(ids[3]))
    assert wait(database.queue.remove(ids)) == 10
    wait(database.stop())


def test_the_queue_reads_a_file_before_it_is_sent_on(tmp_path: Path) -> None:
    database = opened(tmp_path)

    async def submit() -> str:
        body = await make_body(database.queue.new_body, message(1, LARGE))
        plan = Plan(routes=(Route("smtp", Address("q", "zz.example")),))
        return str((await database.queue.submit(Submission(Mail(None), plan, body))).id)

    queued = wait(submit())
    reader = wait(database.queue.open(queued))
    assert wait(reader.read()) == message(1, LARGE)
    reader.close()
    (name,) = blob_names(tmp_path / BLOBS)
    path = blob_path(tmp_path / BLOBS, name)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(MessageDamaged, match="is not what arrived"):
        wait(database.queue.open(queued))
    wait(database.stop())


def test_octets_are_compared_once_and_again_for_another_content() -> None:
    compared = Compared(limit=2)
    good, other = b"a" * 100, b"b" * 100
    assert compared.intact(1, good, crc32(good))
    assert not compared.intact(1, good, crc32(other))
    assert not compared.intact(2, good, crc32(other))
    assert not compared.intact(2, good, crc32(other))
    assert not compared.intact(1, None, crc32(good))
    assert compared.intact(3, good, None)
    assert not compared.intact(3, good, crc32(other))
    assert all(compared.intact(number, good, crc32(good)) for number in range(10))


def test_a_large_body_is_summed_as_it_is_written(tmp_path: Path) -> None:
    database = opened(tmp_path)
    inbox = wait(fill(database, [100, LARGE]))
    with sqlite3.connect(tmp_path / schema.FILE) as connection:
        sums = [row[0] for row in connection.execute("SELECT checksum FROM content ORDER BY id")]
    connection.close()

    assert sums == [crc32(message(0, 100)), crc32(message(1, LARGE))]
    assert wait(read_message(inbox, 2)) == message(1, LARGE)
    wait(database.stop())
