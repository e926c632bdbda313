from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mailhub.errors import ConfigurationError
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


def test_a_database_of_the_first_schema_keeps_everything(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name("version_1.sql").read_text())
    connection.close()
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
