"""A lost, emptied, older or unwritable database: nothing is made in its place and nothing is thrown away."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.errors import ConfigurationError, StoreUnavailable
from mailhub.message.flags import NO_FLAGS
from mailhub.store.exam.rig import Exam, make_body, message, read_message
from mailhub.store.sqlite import opening, schema
from mailhub.store.sqlite.blobs import BLOBS, LOST_AND_FOUND, blob_names, blob_path, lost_and_found
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment

USER = "b@yy.example"
LARGE = 140_000  # octets: a file
wait = Exam().wait_for


async def add(database: Database, number: int) -> None:
    account = await database.store.account(USER, create=True)
    body = await make_body(account.new_body, message(number, LARGE))
    await (await account.mailbox("INBOX")).append(body, NO_FLAGS, NOW)


def started(data: Path, **options: Any) -> Database:
    database = Database(environment(data, seed=7), FAST, **options)
    wait(database.start())
    return database


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one message, whose body is a file."""
    data = tmp_path / "data"
    data.mkdir()
    database = started(data, create=True)
    wait(add(database, 0))
    wait(database.stop())
    return data


def files(data: Path) -> dict[str, bytes]:
    """All that a start could lose; not SQLite's shared memory, and a log that is empty is none."""
    return {
        str(file.relative_to(data)): file.read_bytes()
        for file in data.rglob("*")
        if file.is_file() and not file.name.endswith("-shm") and file.stat().st_size
    }


def killed(data: Path) -> None:
    """Leave a message in the log that was never folded back."""
    database = started(data)
    wait(add(database, 1))
    copy = data.with_name("copy")
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("*-shm"))
    wait(database.stop())
    shutil.rmtree(data)
    copy.rename(data)
    assert (data / f"{schema.FILE}-wal").stat().st_size > 0


OPTIONS: list[dict[str, Any]] = [{}, {"create": True}, {"owner": False}, {"read_only": True}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
class TestNothingIsMadeInItsPlace:
    def refused(self, data: Path, options: dict[str, Any], said: str) -> None:
        before = files(data)
        with pytest.raises(ConfigurationError, match=said) as caught:
            started(data, **options)
        assert "\n" not in str(caught.value)
        assert files(data) == before

    def test_the_file_is_gone(self, data: Path, options: dict[str, Any]) -> None:
        (data / schema.FILE).unlink()
        self.refused(data, options, r"mailhub\.sqlite: is not there, but blobs beside it: mount its volume or restore")

    def test_the_file_is_gone_and_its_log_is_there(self, data: Path, options: dict[str, Any]) -> None:
        killed(data)
        (data / schema.FILE).unlink()
        self.refused(data, options, r"is not there, but mailhub\.sqlite-wal, blobs beside it")
        shutil.rmtree(data / BLOBS)
        self.refused(data, options, r"is not there, but mailhub\.sqlite-wal beside it")

    def test_the_file_is_empty(self, data: Path, options: dict[str, Any]) -> None:
        killed(data)
        os.truncate(data / schema.FILE, 0)
        self.refused(data, options, r"mailhub\.sqlite: is empty \(0 octets\), but ")

    @pytest.mark.parametrize("folder", ["empty", "gone"])
    def test_the_bodies_are_gone(self, data: Path, options: dict[str, Any], folder: str) -> None:
        if options.get("read_only"):
            return  # `check` tells them one by one
        shutil.rmtree(data / BLOBS)
        if folder == "empty":
            (data / BLOBS / "lost+found").mkdir(parents=True)
        self.refused(data, options, r"blobs: is (empty|not there), but the database names 1 bodies")


def test_looking_over_leaves_the_log_of_an_emptied_database(data: Path) -> None:
    killed(data)
    os.truncate(data / schema.FILE, 0)
    before = files(data)
    with pytest.raises(ConfigurationError, match=r"is empty \(0 octets\), but mailhub\.sqlite-wal"):
        verify(data)
    assert files(data) == before


@pytest.mark.parametrize("options", [{}, {"owner": False}, {"read_only": True}], ids=str)
def test_only_who_is_told_to_makes_a_database(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"mailhub\.sqlite: is not there: .* `mailhub account add"):
        started(tmp_path, **options)
    (tmp_path / schema.FILE).touch()
    with pytest.raises(ConfigurationError, match=r"is empty \(0 octets\): "):
        started(tmp_path, **options)
    schema.connect_writer(tmp_path / schema.FILE, 1).close()  # killed before it had tables
    with pytest.raises(ConfigurationError, match="has no tables"):
        started(tmp_path, **options)
    wait(started(tmp_path, create=True).stop())
    wait(started(tmp_path, **options).stop())
    with pytest.raises(ConfigurationError, match=r"data folder .*: is not there: mount its volume"):
        started(tmp_path / "other", **options)


def test_what_is_made_is_for_its_owner_alone(data: Path) -> None:
    assert (data / schema.FILE).stat().st_mode & 0o777 == 0o600
    assert (data / BLOBS).stat().st_mode & 0o777 == 0o700


def test_what_an_older_database_does_not_know_is_kept(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / schema.FILE, tmp_path / "old")
    database = started(data)
    wait(add(database, 1))
    wait(database.stop())
    before = blob_names(data / BLOBS)
    shutil.copy(tmp_path / "old", data / schema.FILE)
    database = started(data)
    wait(database.stop())
    (kept,) = (data / LOST_AND_FOUND).iterdir()
    assert kept.read_bytes() == message(1, LARGE)
    assert {kept.name} == before - blob_names(data / BLOBS)
    assert (data / LOST_AND_FOUND).stat().st_mode & 0o777 == 0o700


def test_a_file_systems_own_lost_and_found_does_not_keep_it_from_starting(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / LOST_AND_FOUND).mkdir(0o700)
    assert lost_and_found(data) == data / LOST_AND_FOUND
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, *a, **k: path != data / LOST_AND_FOUND and allowed(path, *a, **k))
    left = blob_path(data / BLOBS, "0" * 32)
    left.parent.mkdir()
    left.write_bytes(b"left")
    wait(started(data).stop())
    assert [file.read_bytes() for file in (data / "lost+found.mailhub").iterdir()] == [b"left"]
    assert list((data / LOST_AND_FOUND).iterdir()) == []


def test_bodies_on_a_volume_of_their_own_are_set_aside_by_copying(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = blob_path(data / BLOBS, "0" * 32)
    left.parent.mkdir()
    left.write_bytes(b"left")

    def elsewhere(*paths: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", elsewhere)
    monkeypatch.setattr(os, "link", elsewhere)
    wait(started(data).stop())
    assert [file.read_bytes() for file in (data / LOST_AND_FOUND).iterdir()] == [b"left"]
    assert not left.exists()


def test_a_command_that_reads_sees_the_log_and_leaves_it(data: Path) -> None:
    killed(data)
    before = files(data)
    database = started(data, read_only=True)

    async def look() -> None:
        inbox = await (await database.store.account(USER)).mailbox("INBOX")
        assert (await inbox.status()).messages == 2
        assert await read_message(inbox, 2) == message(1, LARGE)
        with pytest.raises(StoreUnavailable):
            await database.accounts.add("c@yy.example", "")

    wait(look())
    wait(database.stop())
    assert files(data) == before


def test_a_command_that_reads_does_not_migrate(data: Path) -> None:
    with sqlite3.connect(data / schema.FILE) as connection:
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(ConfigurationError, match="older mailhub; the server's next start brings it up to date"):
        started(data, read_only=True)


class TestTryWrite:
    def refused(self, data: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Root may write everything; so the kernel's answer is played for this path."""
        allowed = os.access

        def access(asked: Any, mode: int, **options: Any) -> bool:
            return Path(asked) != path and allowed(asked, mode, **options)

        monkeypatch.setattr(os, "access", access)
        with pytest.raises(ConfigurationError) as caught:
            started(data)
        return str(caught.value)

    @pytest.mark.parametrize("name", [schema.FILE, BLOBS, "folder", "body", ""])
    def test_what_cannot_be_written_is_named_with_the_remedy(
        self, data: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        (body,) = blob_names(data / BLOBS)
        places = {"folder": blob_path(data / BLOBS, body).parent, "body": blob_path(data / BLOBS, body)}
        path = places.get(name, data / name)
        said = self.refused(data, path, monkeypatch)
        user = opening.user_name(os.geteuid())
        assert said == f"{path}: cannot be written by {user}, to whom it belongs: chmod -R u+rwX {data}"
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        user, owner = opening.user_name(65534), opening.user_name(os.getuid())
        said = self.refused(data, path, monkeypatch)
        assert said == f"{path}: cannot be written by {user}, for it belongs to {owner}: chown -R {user} {data}"

    def test_a_read_only_file_system_is_told(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((0,) * 8 + (os.ST_RDONLY, 0)))
        said = self.refused(data, data, monkeypatch)
        assert said == f"{data}: cannot be written: its file system is mounted read-only"

    def test_the_write_itself_is_tried(self, data: Path) -> None:
        connection = sqlite3.connect(f"{(data / schema.FILE).as_uri()}?mode=ro", uri=True, isolation_level=None)
        with pytest.raises(
            ConfigurationError, match=r"mailhub\.sqlite: cannot be written: attempt to write a readonly"
        ):
            opening.try_write(connection, data)
        connection.close()

    def test_a_lock_or_a_full_disk_is_told_and_no_reason_to_stay_down(self, data: Path) -> None:
        first, second = (schema.connect(data / schema.FILE, 0) for _ in range(2))
        first.execute("BEGIN IMMEDIATE")
        assert "locked" in opening.try_write(second, data)
        first.execute("ROLLBACK")
        assert opening.try_write(second, data) == ""
        first.close()
        second.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_is_warned_who_serves_what_is_somebody_elses(data: Path) -> None:
    with capturedLogs() as events:
        wait(started(data).stop())
        os.chown(data, 65534, 65534)
        wait(started(data).stop())
    (told,) = (formatEvent(event) for event in events if "root serves" in str(event["log_format"]))
    user = pwd.getpwuid(65534).pw_name
    assert told.endswith(f"{user} could not serve it later; start with --user {user}")
