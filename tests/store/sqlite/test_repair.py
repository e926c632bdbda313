"""What `check` tells of a damaged store, and what `check --repair` leaves of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mailhub.errors import ConfigurationError
from mailhub.interfaces import Plan, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.store.exam.rig import Exam, make_body, message, read_message
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS, LOST_AND_FOUND, Blobs, blob_names, blob_path
from mailhub.store.sqlite.repair import RECORD, repair
from mailhub.store.sqlite.verify import verify
from mailhub.threads import InlineThreads
from tests.store.harness import NOW
from tests.store.sqlite.test_damage import LARGE, USER, change, fill, inbox_of, opened, spoil_page

wait = Exam().wait_for

SECOND = "(SELECT content FROM message WHERE uid = 2)"


def repaired(data: Path, deep: bool = False) -> list[str]:
    blobs = Blobs(data / BLOBS, InlineThreads(), random.Random(1), inline_limit=0, durable=True)
    return list(repair(data, blobs, NOW, deep=deep, progress=lambda what, done, whole: None))


def store(data: Path, *sizes: int) -> None:
    database = opened(data)
    wait(fill(database, sizes))
    wait(database.stop())


def path_of(data: Path) -> Path:
    (name,) = blob_names(data / BLOBS)
    return blob_path(data / BLOBS, name)


def damage(data: Path, kind: str) -> str:
    """Damage UID 2; returns what has to be said."""
    if kind == "changed":
        change(data, f"UPDATE content SET octets = CAST(x'00' || substr(octets, 2) AS BLOB) WHERE id = {SECOND}")
        return "its octets are not those that arrived"
    if kind == "no content":
        change(data, f"DELETE FROM content WHERE id = {SECOND}")
        return "its content is lost"
    if kind == "gone":
        path_of(data).unlink()
        return "missing"
    if kind == "cut":
        os.truncate(path_of(data), 100)
        return "100 octets instead of"
    octets = bytearray(path_of(data).read_bytes())
    octets[500] ^= 1
    path_of(data).write_bytes(octets)
    return "its octets are not those that arrived"


@pytest.mark.parametrize(
    ("kind", "size"), [("changed", 0), ("no content", 0), ("gone", LARGE), ("cut", LARGE), ("flipped", LARGE)]
)
def test_damage_is_named_and_set_aside_so_that_clients_go_on(tmp_path: Path, kind: str, size: int) -> None:
    store(tmp_path, 0, size, 0)
    said = damage(tmp_path, kind)
    found = verify(tmp_path, deep=True)
    subject = "" if kind == "no content" else ', "number 1"'
    start = f"message of {USER} in INBOX, UID 2{subject}: "
    assert any(line.startswith(start) and said in line for line in found), found
    hidden = kind in ("changed", "flipped")  # only reading the octets shows it
    assert (verify(tmp_path) == []) is hidden
    done = repaired(tmp_path, deep=True)
    assert any(f"set aside: message of {USER} in INBOX, UID 2: " in line for line in done), done
    assert verify(tmp_path, deep=True) == []
    assert repaired(tmp_path, deep=True) == []
    lost = tmp_path / LOST_AND_FOUND
    record = json.loads((lost / RECORD).read_text())
    assert (record["account"], record["mailbox"], record["uid"]) == (USER, "INBOX", 2)
    if kind == "gone":
        assert b"Subject: number 1" in (lost / record["file"]).read_bytes()  # the usual fields of its header
    elif kind != "no content":
        assert (lost / record["file"]).stat().st_size >= 100

    async def look() -> None:
        inbox = await inbox_of(database)
        assert [entry.uid for entry in await inbox.entries()] == [1, 3]
        status = await inbox.status()
        assert list(await inbox.vanished(status.highest_modseq - 1)) == [2]
        assert await read_message(inbox, 3) == message(2)

    database = opened(tmp_path)
    wait(look())
    wait(database.stop())


def test_a_bad_page_takes_only_what_stood_on_it(tmp_path: Path) -> None:
    database = opened(tmp_path)
    inbox = wait(fill(database, [3000] * 20))
    uid_validity = inbox.uid_validity

    async def submit(number: int) -> None:
        body = await make_body(database.queue.new_body, message(number))
        plan = Plan(routes=(Route("smtp", Address("q", "zz.example")),))
        await database.queue.submit(Submission(Mail(None), plan, body))

    wait(submit(30))
    wait(database.stop())
    spoil_page(tmp_path, b"Subject: number 7\r\n")
    found = verify(tmp_path)
    assert any("malformed" in line for line in found)
    assert any(line.startswith(f"message of {USER} in INBOX, UID 8: its content cannot be read") for line in found), (
        found
    )
    done = repaired(tmp_path)
    assert any("UID 8: its content is lost" in line for line in done), done
    assert verify(tmp_path, deep=True) == []
    assert (tmp_path / LOST_AND_FOUND / f"{schema.FILE}.damaged").exists()

    async def look() -> None:
        inbox = await inbox_of(database)
        assert inbox.uid_validity == uid_validity
        there = [entry.uid for entry in await inbox.entries()]
        assert set(range(1, 21)) - set(there) == {8}
        assert await inbox.bodies(there) == {uid: message(uid - 1, 3000) for uid in there}
        (queued,) = await database.queue.messages()
        reader = await database.queue.open(queued.id)
        assert await reader.read() == message(30)

    database = opened(tmp_path)
    wait(look())
    wait(database.stop())


def test_a_file_that_is_cut_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    database = opened(tmp_path)
    wait(fill(database, [3000] * 60))
    wait(database.stop())
    os.truncate(tmp_path / schema.FILE, (tmp_path / schema.FILE).stat().st_size * 3 // 4 // 4096 * 4096)
    found = verify(tmp_path)
    assert any(line.startswith(f"message of {USER} in INBOX, UID 60: ") for line in found), found
    repaired(tmp_path)
    assert verify(tmp_path, deep=True) == []

    async def look() -> None:
        inbox = await inbox_of(database)
        there = [entry.uid for entry in await inbox.entries()]
        assert 30 < len(there) < 60
        assert await inbox.bodies(there) == {uid: message(uid - 1, 3000) for uid in there}

    database = opened(tmp_path)
    wait(look())
    wait(database.stop())


def test_what_has_no_accounts_left_is_not_put_in_its_place(tmp_path: Path) -> None:
    store(tmp_path, *[3000] * 20)
    os.truncate(tmp_path / schema.FILE, 4096)
    before = (tmp_path / schema.FILE).read_bytes()
    with pytest.raises(ConfigurationError, match=r"nothing can be read of table account: restore a backup"):
        repaired(tmp_path)
    assert (tmp_path / schema.FILE).read_bytes() == before
    assert not list(tmp_path.glob("*.salvaged*"))


def test_messages_whose_rows_are_lost_are_found_by_their_index(tmp_path: Path) -> None:
    """With other mailboxes around, so that their table has several pages."""
    store(tmp_path, *[0] * 400)
    connection = sqlite3.connect(tmp_path / schema.FILE)
    try:
        pages = [row[0] for row in connection.execute("SELECT pageno FROM dbstat WHERE name = 'message'")]
    except sqlite3.OperationalError:
        pytest.skip("SQLite was built without dbstat")
    finally:
        connection.close()
    with open(tmp_path / schema.FILE, "r+b") as file:
        file.seek((pages[2] - 1) * 4096)
        file.write(bytes(4096))
    assert any("malformed" in line for line in verify(tmp_path))
    done = repaired(tmp_path)
    assert any(line.startswith("found by their index") for line in done), done
    assert verify(tmp_path, deep=True) == []
    database = opened(tmp_path)
    assert len(wait(wait(inbox_of(database)).entries())) == 400
    wait(database.stop())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mailbox SET messages = 7 WHERE name = 'INBOX'",
        "UPDATE mailbox SET flag_octets = 7 WHERE name = 'INBOX'",
        "UPDATE mailbox SET uid_next = 2 WHERE name = 'INBOX'",
        "UPDATE message SET flags = '\\Seen' WHERE uid = 1",
        "UPDATE message SET size = 1 WHERE uid = 1",
        "INSERT INTO vanished SELECT mailbox, 9, 2, 3 FROM message WHERE uid = 1",
        "INSERT INTO queue_recipient (message, agent, local, domain, target, attempts, due)"
        " VALUES ('x', '', '', '', '', 0, 0)",
        "INSERT INTO queue_message (id, content, relay_offset, body_type, smtputf8, queued_at)"
        " VALUES ('x', 1, 0, '', 0, 0)",
        "DELETE FROM account",
        "DELETE FROM mailbox WHERE name = 'INBOX'",
        "UPDATE uid_validity SET last = 0",
        "DELETE FROM uid_validity",
        "DELETE FROM message WHERE uid = 1",
    ],
)
def test_what_contradicts_itself_is_set_right(tmp_path: Path, statement: str) -> None:
    store(tmp_path, 0, LARGE)
    change(tmp_path, statement)
    assert repaired(tmp_path)
    assert verify(tmp_path, deep=True) == []
    assert repaired(tmp_path) == []


def test_octets_of_a_lost_mailbox_are_kept(tmp_path: Path) -> None:
    store(tmp_path, 0, LARGE)
    change(tmp_path, "DELETE FROM mailbox WHERE name = 'INBOX'")
    repaired(tmp_path)
    kept = sorted((file.stat().st_size, file.read_bytes()) for file in (tmp_path / LOST_AND_FOUND).glob("*.eml"))
    assert [octets for _, octets in kept] == [message(0), message(1, LARGE)]


def test_contents_of_the_first_schema_get_their_checksums(tmp_path: Path) -> None:
    store(tmp_path, 0, LARGE)
    change(tmp_path, "UPDATE content SET checksum = NULL")
    assert repaired(tmp_path) == []
    assert repaired(tmp_path, deep=True) == ["given a checksum: 2 contents"]
    damage(tmp_path, "flipped")
    assert any("not those that arrived" in line for line in verify(tmp_path, deep=True))


def test_a_folder_without_its_bodies_can_be_started_again(tmp_path: Path) -> None:
    database = opened(tmp_path)

    async def submit() -> None:
        body = await make_body(database.queue.new_body, message(1, LARGE))
        plan = Plan(routes=(Route("smtp", Address("q", "zz.example")),))
        await database.queue.submit(Submission(Mail(None), plan, body))

    wait(submit())
    wait(fill(database, [LARGE]))
    wait(database.stop())
    shutil.rmtree(tmp_path / BLOBS)
    with pytest.raises(ConfigurationError, match="check --repair"):
        opened(tmp_path)
    assert repaired(tmp_path)
    wait(opened(tmp_path).stop())


def test_a_queued_message_stays_for_the_server_to_return(tmp_path: Path) -> None:
    database = opened(tmp_path)

    async def submit() -> Any:
        body = await make_body(database.queue.new_body, message(1, LARGE))
        plan = Plan(routes=(Route("smtp", Address("q", "zz.example")),))
        return await database.queue.submit(Submission(Mail(None), plan, body))

    receipt = wait(submit())
    wait(database.stop())
    path_of(tmp_path).unlink()
    (line,) = verify(tmp_path)
    assert line.startswith(f'queued message {receipt.id}, "number 1": body ')
    repaired(tmp_path)
    database = opened(tmp_path)
    assert len(wait(database.queue.messages())) == 1
    wait(database.stop())


def test_a_database_of_the_first_schema_is_looked_over_as_it_is(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / schema.FILE)
    connection.executescript(Path(__file__).with_name("version_1.sql").read_text())
    assert verify(tmp_path, deep=True) == []
    connection.execute("UPDATE mailbox SET messages = 7 WHERE name = 'INBOX'")
    connection.commit()
    connection.close()
    (line,) = verify(tmp_path)
    assert "counters say 7/" in line
