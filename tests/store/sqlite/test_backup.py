"""Backups taken while mail comes and goes, and what a restore makes of them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mailhub.errors import ConfigurationError
from mailhub.interfaces import IMailAccount, IMailbox
from mailhub.message.flags import Flags
from mailhub.store.exam.rig import DATE, make_body, message
from mailhub.store.sqlite.backup import PINS, backup
from mailhub.store.sqlite.blobs import blob_names
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.restore import restore
from mailhub.store.sqlite.verify import verify
from mailhub.testing.waiting import result_of
from tests.store.harness import FAST, environment

USER = "ann@xx.example"
LARGE = 200_000  # octets: a file of its own
FLAGS: Flags = frozenset({"\\Flagged", "todo"})


class Server:
    """A database that is being served, with one account."""

    def __init__(self, data: Path) -> None:
        self.data = data
        data.mkdir(exist_ok=True)
        self.number = 0
        self.database = Database(environment(data, clock=Clock()), FAST, create=not (data / "mailhub.sqlite").exists())
        result_of(self.database.start())
        if result_of(self.database.accounts.find(USER)) is None:
            result_of(self.database.accounts.add(USER, "hash"))

    @property
    def account(self) -> IMailAccount:
        return result_of(self.database.store.account(USER))

    @property
    def inbox(self) -> IMailbox:
        return result_of(self.account.mailbox("INBOX"))

    def deliver(self, size: int = 0) -> int:
        self.number += 1
        body = result_of(make_body(self.account.new_body, message(self.number, size)))
        return result_of(self.inbox.append(body, FLAGS, DATE + self.number))

    def expunge(self, *uids: int) -> None:
        result_of(self.inbox.expunge(list(uids), deleted_only=False))

    def mail(self) -> dict[int, tuple[bytes, Flags, int]]:
        inbox = self.inbox
        found = {}
        for entry in result_of(inbox.entries()):
            reader = result_of(inbox.open(entry.uid))
            found[entry.uid] = (result_of(reader.read()), entry.flags, entry.internal_date)
            reader.close()
        return found

    def stop(self) -> None:
        result_of(self.database.stop())


@contextlib.contextmanager
def served(data: Path):  # type: ignore[no-untyped-def]
    server = Server(data)
    try:
        yield server
    finally:
        server.stop()


def modes(folder: Path) -> set[tuple[bool, int]]:
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


def test_all_that_is_there_comes_back_with_flags_and_dates(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        for size in (0, LARGE, 0, LARGE):
            server.deliver(size)
        before, validity = server.mail(), server.inbox.uid_validity
        report = backup(server.data, tmp_path / "copy")
        assert (report.messages, report.bodies, report.new_bodies, report.missing) == (4, 2, 2, [])
    assert modes(tmp_path / "copy") == {(True, 0o700), (False, 0o600)}
    assert verify(tmp_path / "copy") == []
    (tmp_path / "new").mkdir()
    restored = restore(tmp_path / "copy", tmp_path / "new")
    assert (restored.accounts, restored.messages, restored.queued, restored.aside) == (1, 4, 0, None)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["blobs", "mailhub.sqlite"]
    with served(tmp_path / "new") as server:
        assert server.mail() == before
        assert server.inbox.uid_validity > validity
    assert verify(tmp_path / "new") == []


def test_mail_that_comes_and_goes_meanwhile_makes_no_hole(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        uids = [server.deliver(LARGE) for _ in range(4)]
        seen = []

        def go_on(what: str, done: int, whole: int) -> None:
            """While bodies are copied, some go and some come; while rows are copied, all go that there were."""
            seen.append(what)
            if what == "rows" and len(set(seen[:-1])) == 1:
                server.expunge(*server.mail())
            elif what == "bodies" and len(seen) <= 3:
                server.expunge(uids.pop())
                server.deliver(LARGE)
                server.deliver()

        report = backup(server.data, tmp_path / "copy", go_on)
        assert set(seen) == {"bodies", "rows"}
        assert report.missing == []
        assert server.mail() == {}
        assert not (server.data / PINS).exists()
        assert blob_names(server.data / "blobs") == set()
    assert verify(tmp_path / "copy") == []
    assert report.messages >= 4
    assert report.bodies == 4


def test_the_rows_of_a_long_copy_are_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.store.sqlite.backup._PAGES", 4)
    with served(tmp_path / "data") as server:
        for _ in range(20):
            server.deliver(4000)
        steps = []

        def go_on(what: str, done: int, whole: int) -> None:
            steps.append(what)
            server.deliver(4000)

        assert backup(server.data, tmp_path / "copy", go_on).messages == 20
        assert steps.count("rows") > 5
        assert len(server.mail()) == 20 + len(steps)
    assert verify(tmp_path / "copy") == []


def test_a_second_backup_copies_what_is_new_and_removes_what_is_gone(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        first, second = server.deliver(LARGE), server.deliver(LARGE)
        backup(server.data, tmp_path / "copy")
        kept = {path: path.stat().st_ino for path in (tmp_path / "copy" / "blobs").glob("*/*")}
        server.expunge(second)
        server.deliver(LARGE)
        report = backup(server.data, tmp_path / "copy")
        assert (report.bodies, report.new_bodies, report.removed_bodies) == (2, 1, 1)
        now = {path: path.stat().st_ino for path in (tmp_path / "copy" / "blobs").glob("*/*")}
        assert len(kept.items() & now.items()) == 1
        assert first in server.mail()
    assert verify(tmp_path / "copy") == []


@pytest.mark.parametrize("moment", ["bodies", "rows"])
def test_a_backup_that_is_broken_off_leaves_the_one_before(tmp_path: Path, moment: str) -> None:
    def give_up(what: str, done: int, whole: int) -> None:
        if what == moment:
            raise KeyboardInterrupt

    with served(tmp_path / "data") as server:
        old = server.deliver(LARGE)
        backup(server.data, tmp_path / "copy")
        server.expunge(old)
        server.deliver(LARGE)
        with pytest.raises(KeyboardInterrupt):
            backup(server.data, tmp_path / "copy", give_up)
        assert verify(tmp_path / "copy") == []
        assert not (server.data / PINS).exists()
        (tmp_path / "new").mkdir()
        assert restore(tmp_path / "copy", tmp_path / "new").messages == 1
        report = backup(server.data, tmp_path / "copy")
        assert (report.bodies, report.removed_bodies) == (1, 1)
    assert verify(tmp_path / "copy") == []
    assert not list((tmp_path / "copy").rglob("*.new*"))
    assert not list((tmp_path / "copy" / "blobs").rglob(".*"))


def test_a_body_that_the_server_has_lost_is_told_and_kept_where_the_backup_has_it(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        server.deliver(LARGE)
        (body,) = (server.data / "blobs").glob("*/*")
        octets = body.read_bytes()
        body.unlink()
        assert backup(server.data, tmp_path / "copy").missing == [body.name]
        body.write_bytes(octets)
        assert backup(server.data, tmp_path / "copy").missing == []
        body.unlink()
        assert backup(server.data, tmp_path / "copy").missing == []


@pytest.mark.parametrize("change", [lambda octets: octets[:-1] + b"!", lambda octets: octets[:100]])
def test_octets_that_have_changed_on_the_disk_are_told_both_ways(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    with served(tmp_path / "data") as server:
        server.deliver(LARGE)
        (body,) = (server.data / "blobs").glob("*/*")
        octets = body.read_bytes()
        body.write_bytes(change(octets))
        report = backup(server.data, tmp_path / "copy")
        assert (report.damaged, report.missing, report.bodies) == ([body.name], [], 1)
    (tmp_path / "new").mkdir()
    restored = restore(tmp_path / "copy", tmp_path / "new")
    assert (restored.damaged, restored.missing, restored.messages) == ([body.name], [], 1)


def test_what_is_there_already_is_moved_aside_whole(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        server.deliver(LARGE)
        backup(server.data, tmp_path / "copy")
        server.deliver(LARGE)
        before = server.mail()
        newest = result_of(server.account.create("later"))
        assert newest is None
        validity = result_of(server.account.mailbox("later")).uid_validity
    restored = restore(tmp_path / "copy", tmp_path / "data")
    assert restored.aside is not None
    with served(restored.aside) as server:
        assert server.mail() == before
    with served(tmp_path / "data") as server:
        assert len(server.mail()) == 1
        assert server.inbox.uid_validity > validity  # also above those that the backup does not know
    assert verify(tmp_path / "data") == []


def test_the_log_of_an_emptied_database_goes_aside_with_it(tmp_path: Path) -> None:
    with served(tmp_path / "data") as server:
        backup(server.data, tmp_path / "copy")
        server.deliver()
        log = (server.data / "mailhub.sqlite-wal").read_bytes()
    os.truncate(tmp_path / "data" / "mailhub.sqlite", 0)
    (tmp_path / "data" / "mailhub.sqlite-wal").write_bytes(log)
    aside = restore(tmp_path / "copy", tmp_path / "data").aside
    assert aside is not None
    assert (aside / "mailhub.sqlite-wal").read_bytes() == log


def test_a_restore_that_is_broken_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "data") as server:
        server.deliver(LARGE)
        backup(server.data, tmp_path / "copy")

    renamed: list[Path] = []
    rename: Callable[..., None] = os.rename

    def break_off(source: Path, target: Path) -> None:
        if target == tmp_path / "data" / "mailhub.sqlite":
            raise KeyboardInterrupt
        renamed.append(Path(target))
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("mailhub.store.sqlite.restore.os.rename", break_off)
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "copy", tmp_path / "data")
    assert renamed
    database = Database(environment(tmp_path / "data", clock=Clock()), FAST)
    with pytest.raises(ConfigurationError, match="is not there, but blobs beside it"):
        result_of(database.start())
    restore(tmp_path / "copy", tmp_path / "data")
    with served(tmp_path / "data") as server:
        assert len(server.mail()) == 1


@pytest.mark.parametrize("damage", ["nothing", "text", "page", "newer"])
def test_what_is_no_sound_backup_is_refused_before_anything_is_touched(tmp_path: Path, damage: str) -> None:
    with served(tmp_path / "data") as server:
        for _ in range(20):
            server.deliver(3000)
        backup(server.data, tmp_path / "copy")
    file = tmp_path / "copy" / "mailhub.sqlite"
    if damage == "nothing":
        file.unlink()
    elif damage == "text":
        file.write_text("no database" * 1000)
    elif damage == "page":
        octets = bytearray(file.read_bytes())
        octets[4096:] = b"\xff" * (len(octets) - 4096)
        file.write_bytes(octets)
    else:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 1000")
    with pytest.raises(ConfigurationError, match=str(tmp_path / "copy")):
        restore(tmp_path / "copy", tmp_path / "data")
    with served(tmp_path / "data") as server:
        assert len(server.mail()) == 20


def test_bodies_on_a_volume_of_their_own_keep_a_restore_from_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "data") as server:
        server.deliver(LARGE)
        backup(server.data, tmp_path / "copy")
        before = server.mail()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_mount", lambda path: path == tmp_path / "data" / "blobs")
        with pytest.raises(ConfigurationError, match="is a volume of its own and cannot be moved aside"):
            restore(tmp_path / "copy", tmp_path / "data")
    with served(tmp_path / "data") as server:
        assert server.mail() == before
