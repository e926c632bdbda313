from __future__ import annotations

import itertools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mailhub.errors import ConfigurationError
from mailhub.interfaces import Account, Settlement
from mailhub.message.envelope import Outcome, Reach, State
from mailhub.message.flags import NO_FLAGS
from mailhub.store.exam.rig import Exam, make_body, message, read_message
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.schema import MIGRATIONS, connect_writer, migrate, run_script
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment

wait = Exam().wait_for


def add_table(connection: sqlite3.Connection) -> None:
    run_script(connection, "CREATE TABLE extra (a INTEGER) STRICT; INSERT INTO extra VALUES (1);")


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / schema.FILE


def test_an_older_database_is_brought_up_to_date_once(path: Path) -> None:
    connection = connect_writer(path, 1, durable=False, create=True)
    migrate(connection, path)
    connection.execute("INSERT INTO account (address, password_hash, quota) VALUES ('a', 'b', 0)")
    for _ in range(2):
        migrate(connection, path, [*MIGRATIONS, add_table])
        assert version(connection) == len(MIGRATIONS) + 1
    assert connection.execute("SELECT count(*) FROM extra, account").fetchone() == (1,)


def test_a_step_that_is_killed_half_way_is_taken_again(path: Path) -> None:
    def killed(connection: sqlite3.Connection) -> None:
        add_table(connection)
        raise KeyboardInterrupt

    connection = connect_writer(path, 1, durable=False, create=True)
    with pytest.raises(KeyboardInterrupt):
        migrate(connection, path, [*MIGRATIONS, killed])
    assert version(connection) == len(MIGRATIONS)
    migrate(connection, path, [*MIGRATIONS, add_table])
    assert connection.execute("SELECT count(*) FROM extra").fetchone() == (1,)


def test_two_processes_that_start_together_take_each_step_once(path: Path) -> None:
    """The second one finds the step taken when it gets the lock."""

    def overtaken(connection: sqlite3.Connection) -> None:
        raise AssertionError("the step was taken already")

    first, second = (connect_writer(path, 1, durable=False, create=True) for _ in range(2))

    class Late:
        """The second process: the first one comes in between its look at the version and its lock."""

        in_transaction = False

        def execute(self, statement: str) -> sqlite3.Cursor:
            if statement == "BEGIN IMMEDIATE":
                migrate(first, path, MIGRATIONS[:1])
            return second.execute(statement)

    migrate(Late(), path, [overtaken])  # type: ignore[arg-type]
    assert version(second) == 1


def test_a_database_of_a_newer_mailhub_is_refused_politely_and_left_alone(path: Path) -> None:
    connection = connect_writer(path, 1, durable=False, create=True)
    migrate(connection, path, [*MIGRATIONS, add_table])
    connection.close()
    with pytest.raises(ConfigurationError, match=r"mailhub\.sqlite: was written by a newer mailhub"):
        wait(Database(environment(path.parent), FAST, create=True).start())
    with sqlite3.connect(path) as connection:
        assert version(connection) == len(MIGRATIONS) + 1


@pytest.mark.parametrize("kind", ["foreign", "garbage", "folder", "no permission"])
def test_what_cannot_be_opened_is_one_line_that_names_the_file(path: Path, kind: str) -> None:
    data = path.parent
    if kind == "foreign":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (a)")
    elif kind == "garbage":
        path.write_bytes(b"not a database at all" * 1000)
    elif kind == "folder":
        path.mkdir()
    else:
        data = path.parent / "file"
        data.write_text("")
    with pytest.raises(ConfigurationError, match=r"mailhub\.sqlite: ") as caught:
        wait(Database(environment(data), FAST, create=True).start())
    assert "\n" not in str(caught.value)


def test_an_sqlite_that_is_too_old_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(ConfigurationError, match="too old"):
        migrate(connect_writer(path, 1, durable=False, create=True), path)


def old_database(path: Path, schema_version: int) -> None:
    """A database as a mailhub of that schema left it."""
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name(f"version_{schema_version}.sql").read_text())
    connection.close()


def content_of(path: Path) -> list[str]:
    """All that is in it."""
    with closing(sqlite3.connect(path)) as connection:
        return [*connection.iterdump(), f"version {version(connection)}"]


class Killed:
    """A connection whose process is killed before one of its statements: what is on the disk then is kept."""

    def __init__(self, path: Path, statement: int) -> None:
        self.path = path
        self.connection = connect_writer(path, 1, durable=False)
        self.left = statement
        self.after = path.parent / f"after-{statement}" / path.name

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self.count()
        return self.connection.execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self.count()
        return self.connection.executemany(*arguments)

    def count(self) -> None:
        if not self.left:
            self.left -= 1  # the ROLLBACK that follows is nobody's any more
            self.after.parent.mkdir()
            for file in self.path.parent.glob(f"{self.path.name}*"):
                shutil.copy(file, self.after.parent)
            raise KeyboardInterrupt
        self.left -= 1


@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_a_migration_that_is_killed_between_any_two_statements_goes_on_and_loses_nothing(
    tmp_path: Path, before: int
) -> None:
    whole = tmp_path / "whole" / schema.FILE
    whole.parent.mkdir()
    old = tmp_path / "old"
    old_database(old, before)
    shutil.copy(old, whole)
    with closing(connect_writer(whole, 1, durable=False)) as connection:
        migrate(connection, whole)
    expected = content_of(whole)
    killed = 0
    for statement in itertools.count():
        path = tmp_path / str(statement) / schema.FILE
        path.parent.mkdir()
        shutil.copy(old, path)
        process = Killed(path, statement)
        try:
            migrate(process, path)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            killed += 1
        with closing(process.connection):
            if not process.after.exists():
                break
        with closing(connect_writer(process.after, 1, durable=False)) as connection:
            migrate(connection, process.after)
        assert content_of(process.after) == expected
    assert killed >= (10 if before < 4 else 3)


def test_a_database_of_the_fourth_schema_keeps_everything(path: Path) -> None:
    old_database(path, 4)
    database = Database(environment(path.parent), FAST)

    async def look() -> None:
        await database.start()
        assert await database.names.list_members("team@yy.example") == ["b@yy.example"]
        assert await database.state.of("tls").get("a") == b"1"
        inbox = await (await database.store.account("b@yy.example")).mailbox("INBOX")
        assert await read_message(inbox, 1) == b"Return-Path: <a@xx.example>\r\n" + message(9)
        (queued,) = await database.queue.messages()
        assert (queued.mail.ret, queued.submitter) == ("FULL", "b@yy.example")
        tried, fresh, held = queued.recipients
        assert (tried.attempts, tried.turns, tried.tried, tried.due) == (2, 2, NOW, NOW + 600)
        assert (fresh.attempts, fresh.turns, fresh.tried, fresh.due) == (0, 0, 0, NOW)
        assert (held.attempts, held.turns, held.held) == (0, 0, True)
        (claim,) = await database.queue.claim(NOW, 10, 10)
        away = Outcome.delayed("away", reach=Reach.LEFT_ALONE)
        assert await database.queue.settle(claim, [Settlement(fresh.id, away, NOW + 60)])
        (queued,) = await database.queue.messages()
        assert [(row.attempts, row.turns) for row in queued.recipients] == [(2, 2), (0, 1), (0, 0)]
        await database.stop()

    wait(look())
    assert verify(path.parent) == []


def test_a_database_of_the_third_schema_keeps_everything(path: Path) -> None:
    old_database(path, 3)
    database = Database(environment(path.parent), FAST)

    async def look() -> None:
        await database.start()
        (account,) = await database.accounts.all()
        assert (account, account.created) == (Account("b@yy.example", "hash", 5000), 0)
        inbox = await (await database.store.account("b@yy.example")).mailbox("INBOX")
        assert await read_message(inbox, 1) == b"Return-Path: <a@xx.example>\r\n" + message(9)
        (queued,) = await database.queue.messages()
        assert (queued.mail.ret, queued.mail.envid, queued.needs) == ("FULL", "q1", 3)
        assert [(row.route.destination, row.attempts, row.due) for row in queued.recipients] == [
            ("smtp relay.example:587", 1, NOW + 300),
            ("smtp zz.example", 0, NOW),
            ("smtp zz.example", 0, NOW),
            ("store no@yy.example", 0, NOW),
        ]
        await database.state.of("tls").put({"a": b"1"})
        assert await database.state.of("tls").get("a") == b"1"
        await database.accounts.add("c@yy.example", "hash")
        found = await database.accounts.find("c@yy.example")
        assert found is not None
        assert found.created == NOW
        await database.stop()

    wait(look())
    assert verify(path.parent) == []


def test_a_database_of_the_second_schema_keeps_everything(path: Path) -> None:
    old_database(path, 2)
    database = Database(environment(path.parent), FAST)
    trace = b"Return-Path: <a@xx.example>\r\n"

    async def look() -> None:
        await database.start()
        assert await database.accounts.all() == [Account("b@yy.example", "hash", 5000)]
        assert await database.accounts.changed(0) == (2, ["gone@yy.example"] * 2)
        kept = await database.names.kept()
        assert kept is not None
        assert kept.aliases == {"all@yy.example": ("b@yy.example", "c@zz.example")}
        account = await database.store.account("b@yy.example")
        inbox, archive = [await account.mailbox(name) for name in ("INBOX", "Archive/2024")]
        flags = [(entry.uid, set(entry.flags)) for entry in await inbox.entries()]
        assert flags == [(2, {"\\Seen"}), (3, set()), (4, {"$Work", "\\Flagged"})]
        assert [await read_message(inbox, uid) for uid in (2, 3, 4)] == [
            trace + message(2),
            trace + message(3),
            message(4),
        ]
        assert await read_message(archive, 1) == trace + message(3)
        assert list(await inbox.vanished(0)) == [1]
        assert await inbox.append(await make_body(account.new_body, message(4)), NO_FLAGS, NOW, "delivery-4") == 4
        (queued,) = await database.queue.messages()
        assert (str(queued.mail.reverse_path), queued.mail.body_type, queued.needs) == (
            "a@xx.example",
            "8BITMIME",
            None,
        )
        assert [(row.route.agent, str(row.route.recipient), row.route.target) for row in queued.recipients] == [
            ("smtp", "q@zz.example", "relay.example:587"),
            ("smtp", "r@zz.example", ""),
            ("store", "no@yy.example", "no@yy.example"),
            ("store", "nobody@yy.example", "nobody@yy.example"),
        ]
        delayed, _, _, failed = queued.recipients
        assert (delayed.attempts, delayed.due, delayed.route.via) == (1, NOW + 300, ("list@xx.example",))
        assert [row.last and row.last.state for row in (delayed, failed)] == [State.DELAYED, State.FAILED]
        assert await (await database.queue.open(queued.id)).read() == message(9)
        await database.stop()

    wait(look())
    assert verify(path.parent) == []


def test_a_database_of_the_first_schema_keeps_everything(path: Path) -> None:
    old_database(path, 1)
    database = Database(environment(path.parent), FAST)

    async def look() -> None:
        await database.start()
        account = await database.store.account("b@yy.example")
        names = [info.name for info in await account.mailboxes()]
        assert names == ["Archive", "Archive/2024", "Drafts", "INBOX", "Junk", "Sent", "Trash"]
        inbox, archive = [await account.mailbox(name) for name in ("INBOX", "Archive/2024")]
        second = (await inbox.entries())[0]
        assert (second.uid, second.flags) == (2, frozenset({"\\Seen", "$Work"}))
        assert [await read_message(inbox, uid) for uid in (2, 3)] == [message(1), message(2)]
        assert await inbox.bodies([2, 3]) == {2: message(1), 3: message(2)}
        assert await read_message(archive, 1) == message(2)
        assert (await inbox.status()).messages == 2
        assert list(await inbox.vanished(0)) == [1]
        (queued,) = await database.queue.messages()
        assert str(queued.recipients[0].route.recipient) == "q@zz.example"
        reader = await database.queue.open(queued.id)
        assert await reader.read() == message(9)
        await inbox.append(await make_body(account.new_body, message(3)), NO_FLAGS, NOW)
        assert await read_message(inbox, 4) == message(3)
        await database.stop()

    wait(look())
    assert verify(path.parent) == []
