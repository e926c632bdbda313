from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred

from mailhub.errors import (
    ConfigurationError,
    InvalidMailboxName,
    NoSuchMailbox,
    PermanentError,
    StoreUnavailable,
)
from mailhub.interfaces import Deposit, Plan, Route, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.message.flags import NO_FLAGS, SEEN
from mailhub.message.record import Added, Change, FlagChange, MailboxGone
from mailhub.store.exam.rig import Exam, make_body, message, read_message, uids
from mailhub.store.sql import content
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS, blob_names
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment, leftovers

USER = "b@yy.example"
LARGE = 140_000  # octets: a file
wait = Exam().wait_for

FIRST = "(SELECT min(id) FROM content)"


@pytest.fixture
def database(tmp_path: Path) -> Any:
    database = Database(environment(tmp_path), FAST, create=True)
    wait(database.start())
    wait(database.accounts.add(USER, "hash"))
    yield database
    wait(database.stop())
    assert verify(tmp_path) == []


async def inbox_of(database: Database) -> Any:
    return await (await database.store.account(USER)).mailbox("INBOX")


async def fill(database: Database, count: int, size: int = 0) -> Any:
    """INBOX with so many messages."""
    account = await database.store.account(USER)
    inbox = await account.mailbox("INBOX")
    for number in range(count):
        await inbox.append(await make_body(account.new_body, message(number, size)), NO_FLAGS, NOW)
    return inbox


def test_a_mailbox_without_uids_refuses_its_own_deposit_alone(database: Database, tmp_path: Path) -> None:
    other = "c@yy.example"

    async def scenario() -> None:
        await database.accounts.add(other, "hash")
        with closing(sqlite3.connect(tmp_path / schema.FILE)) as connection, connection:
            connection.execute("UPDATE mailbox SET uid_next = 4294967294 WHERE name = 'INBOX' AND account = 1")
        refused = []
        for number in range(2):
            body = await make_body(database.queue.new_body, message(number))
            plan = Plan(tuple(Deposit(Address.parse(user), user) for user in (USER, other)))
            refused.append((await database.queue.submit(Submission(Mail(None), plan, body), "reply")).refused)
        assert [list(each) for each in refused] == [[], [0]]
        assert "UIDs" in refused[1][0].reply
        inbox = await (await database.store.account(other)).mailbox("INBOX")
        assert await uids(inbox) == [1, 2]

    wait(scenario())


def test_everything_is_there_after_a_restart(database: Database, tmp_path: Path) -> None:
    async def before() -> Any:
        inbox = await fill(database, 2, LARGE)
        await inbox.change_flags([1], FlagChange("add", frozenset({SEEN, "$Work"})))
        body = await make_body(database.queue.new_body, message(9, LARGE))
        plan = Plan(routes=(Route("smtp", Address("q", "zz.example")),))
        receipt = await database.queue.submit(Submission(Mail(None), plan, body))
        seen = (await inbox.status(), list(await inbox.entries()), list(await database.queue.messages()))
        await database.stop()
        return receipt.id, seen

    async def after() -> None:
        await again.start()
        await again.store.start()
        inbox = await inbox_of(again)
        assert (await inbox.status(), list(await inbox.entries()), list(await again.queue.messages())) == seen
        assert await read_message(inbox, 2) == message(1, LARGE)
        reader = await again.queue.open(message_id)
        assert await reader.read() == message(9, LARGE)
        await again.store.stop()

    message_id, seen = wait(before())
    again = Database(environment(tmp_path, seed=1), FAST, create=True)
    wait(after())


def test_a_store_that_is_not_started_or_stopped_is_unavailable(tmp_path: Path) -> None:
    database = Database(environment(tmp_path), FAST, create=True)
    with pytest.raises(StoreUnavailable):
        wait(database.accounts.add(USER, ""))
    wait(database.start())
    wait(database.stop())
    wait(database.stop())
    for call in (database.accounts.add(USER, ""), database.accounts.find(USER)):
        with pytest.raises(StoreUnavailable):
            wait(call)


class TestAnotherProcess:
    """The command line works beside the server."""

    @pytest.fixture
    def other(self, tmp_path: Path, database: Database) -> Any:
        other = Database(environment(tmp_path, seed=2), FAST, owner=False)
        wait(other.start())
        yield other
        wait(other.stop())

    def test_accounts_and_queue_are_seen_at_once(self, database: Database, other: Database) -> None:
        async def story() -> None:
            await other.accounts.add("new@yy.example", "")
            await (await database.store.account("new@yy.example")).mailbox("INBOX")
            body = await make_body(database.queue.new_body, message(1, LARGE))
            plan = Plan(routes=(Route("smtp", Address("q", "zz.example")),))
            receipt = await database.queue.submit(Submission(Mail(None), plan, body))
            (claim,) = await database.queue.claim(NOW, 1, 1)
            (row,) = claim.message.recipients
            assert await other.queue.remove([receipt.id]) == 1
            await database.queue.settle(claim, [Settlement(row.id, Outcome.delayed("busy"), NOW + 1)])
            assert list(await database.queue.messages()) == []

        wait(story())
        assert blob_names(database.path.parent / BLOBS) == set()

    def test_an_account_that_it_removes_is_gone_for_sessions(self, database: Database, other: Database) -> None:
        async def story() -> None:
            inbox = await fill(database, 2, LARGE)
            quiet = await (await database.store.account(USER)).mailbox("Sent")
            heard: list[Change] = []
            quiet_heard: list[Change] = []
            inbox.watch(heard.append)
            quiet.watch(quiet_heard.append)
            await inbox.entries()
            await other.accounts.remove(USER)
            with pytest.raises(NoSuchMailbox):
                await inbox.status()
            assert heard == [MailboxGone()]
            with pytest.raises(NoSuchMailbox):
                await inbox.entries()
            assert await inbox.digests([1], ["envelope"]) == {"envelope": {}}
            with pytest.raises(NoSuchMailbox):
                await inbox.expunge()
            assert quiet_heard == [MailboxGone()]  # noticed when the server wrote something

        wait(story())
        assert blob_names(database.path.parent / BLOBS) == set()

    def test_it_leaves_alone_what_the_server_is_receiving(self, database: Database, tmp_path: Path) -> None:
        async def story() -> None:
            account = await database.store.account(USER)
            body = await make_body(account.new_body, message(1, LARGE))
            other = Database(environment(tmp_path, seed=2), FAST, owner=False)
            await other.start()
            await other.stop()
            inbox = await account.mailbox("INBOX")
            assert await read_message(inbox, await inbox.append(body, NO_FLAGS, NOW)) == message(1, LARGE)

        wait(story())


def test_bounds_on_mailboxes_and_subscriptions(tmp_path: Path) -> None:
    settings = attrs.evolve(FAST, mailboxes_per_account=8, subscriptions_per_account=8)
    database = Database(environment(tmp_path), settings, create=True)

    async def story() -> None:
        await database.start()
        account = await database.store.account(USER, create=True)
        for name in ("a", "b"):
            await account.create(name)
            await account.subscribe(name, True)
        with pytest.raises(InvalidMailboxName):
            await account.create("c")
        with pytest.raises(PermanentError):
            await account.subscribe("c", True)
        await account.delete("a")
        await account.create("c")
        await database.stop()

    wait(story())


def test_a_delivery_id_is_forgotten_when_no_queue_can_still_repeat_it(tmp_path: Path) -> None:
    environment_ = environment(tmp_path)
    database = Database(environment_, FAST, create=True)

    async def append(delivery_id: str) -> int:
        account = await database.store.account(USER, create=True)
        body = await make_body(account.new_body, message(1))
        uid: int = await (await account.mailbox("INBOX")).append(body, NO_FLAGS, NOW, delivery_id)
        return uid

    async def story() -> None:
        await database.start()
        first = await append("a")
        environment_.clock.advance(29 * 86400)  # type: ignore[attr-defined]
        await append("b")
        assert await append("a") == first
        environment_.clock.advance(2 * 86400)  # type: ignore[attr-defined]
        await append("c")
        assert await append("a") != first
        await database.stop()

    wait(story())


def test_a_large_expunge_frees_bodies_behind_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expunge is one commit; the bodies go in later ones, among other people's mail."""
    monkeypatch.setattr(content, "SWEEP", 50)
    environment_ = environment(tmp_path)
    database = Database(environment_, FAST, gather=True, create=True)

    class Turns(Exam):
        def pump(self) -> None:
            environment_.clock.advance(0)  # type: ignore[attr-defined]

    commits: list[int] = []

    def look(statement: str) -> None:
        if statement == "COMMIT":
            commits.append(len(blob_names(tmp_path / BLOBS)))

    async def story() -> None:
        await database.start()
        await database.accounts.add(USER, "")
        inbox = await fill(database, content.AT_ONCE + 1, LARGE)
        connection = database._writer._connection
        assert connection is not None
        connection.set_trace_callback(look)
        assert len(await inbox.expunge(deleted_only=False)) == content.AT_ONCE + 1
        assert (await inbox.status()).messages == 0

    turns = Turns()
    turns.wait_for(story())
    # The expunge, then 50, 50 and 1 bodies; each file goes after its commit.
    assert commits == [101, 101, 51, 1]
    assert blob_names(tmp_path / BLOBS) == set()
    turns.wait_for(database.stop())
    assert verify(tmp_path) == []


def test_a_sweep_that_was_interrupted_goes_on_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "AT_ONCE", 0)
    database = Database(environment(tmp_path), FAST, create=True)

    async def story() -> None:
        await database.start()
        await database.accounts.add(USER, "")
        inbox = await fill(database, 3, LARGE)
        with monkeypatch.context() as patches:
            patches.setattr(database, "_sweep", lambda: None)
            database._writer.on_released = lambda: None
            await inbox.expunge(deleted_only=False)
        await database.stop()
        assert len(blob_names(tmp_path / BLOBS)) == 3
        again = Database(environment(tmp_path), FAST, create=True)
        await again.start()
        assert blob_names(tmp_path / BLOBS) == set()
        await again.stop()

    wait(story())
    assert (verify(tmp_path), leftovers(tmp_path)) == ([], [])


def test_a_session_that_ends_during_its_commit_does_not_take_the_body_away(tmp_path: Path) -> None:
    environment_ = environment(tmp_path)
    database = Database(environment_, FAST, gather=True, create=True)
    clock: Any = environment_.clock

    class Turns(Exam):
        def pump(self) -> None:
            clock.advance(0)

    async def prepare() -> Any:
        await database.start()
        await database.accounts.add(USER, "")
        account = await database.store.account(USER)
        return await account.mailbox("INBOX"), await make_body(account.new_body, message(1, LARGE))

    inbox, body = Turns().wait_for(prepare())
    append = Deferred.fromCoroutine(inbox.append(body, NO_FLAGS, NOW))
    append.addErrback(lambda failure: None)
    append.cancel()
    body.discard()
    clock.advance(0)
    assert wait(read_message(inbox, 1)) == message(1, LARGE)
    Turns().wait_for(database.stop())
    assert verify(tmp_path) == []


def test_the_index_is_read_once_and_kept_up_to_date(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        inbox = await fill(database, 3)
        heard: list[list[int]] = []

        async def look() -> None:
            heard.append(await uids(inbox))

        inbox.watch(lambda change: Deferred.fromCoroutine(look()) if isinstance(change, Added) else None)
        assert await uids(inbox) == [1, 2, 3]
        reads: list[object] = []
        with monkeypatch.context() as patches:
            patches.setattr(database._engine.readers, "read", lambda query: reads.append(query))
            await inbox.expunge([2], deleted_only=False)
            await inbox.copy([1], inbox)
            assert await uids(inbox) == [1, 3, 4]
        assert reads == []
        assert heard == [[1, 3, 4]]  # watchers find the index as the change left it

    wait(story())


def test_bodies_of_another_store_are_refused(database: Database, tmp_path: Path) -> None:
    async def story() -> None:
        inbox = await inbox_of(database)
        with pytest.raises(TypeError):
            await inbox.append(object(), NO_FLAGS, NOW)
        with pytest.raises(TypeError):
            await inbox.copy([1], object())

    wait(story())


class TestVerify:
    def damage(self, database: Database, statement: str) -> list[str]:
        wait(fill(database, 2, LARGE))
        wait(database.stop())
        path = database.path
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE kept AS SELECT * FROM message")
            connection.execute(statement)
        return verify(path.parent)

    @pytest.mark.parametrize(
        ("statement", "problem"),
        [
            ("UPDATE mailbox SET messages = 7 WHERE name = 'INBOX'", "counters"),
            ("UPDATE mailbox SET uid_next = 2 WHERE name = 'INBOX'", "promised"),
            ("UPDATE message SET flags = '\\Seen' WHERE uid = 1", "counters"),
            (f"DELETE FROM content WHERE id = {FIRST}", "missing"),
            ("INSERT INTO vanished SELECT mailbox, 9, 2, 3 FROM message WHERE uid = 1", "vanished"),
            (f"UPDATE content SET blob = 'ab' WHERE id = {FIRST}", "missing"),
            (f"UPDATE content SET blob = NULL, octets = x'00' WHERE id = {FIRST}", "octets instead"),
            ("INSERT INTO queue_recipient (message, agent, local, domain, target, attempts, due)"
             " VALUES ('x', '', '', '', '', 0, 0)", "not there"),
            (
                "INSERT INTO queue_message (id, content, relay_offset, body_type, smtputf8, queued_at)"
                " VALUES ('x', 99, 0, '', 0, 0)",
                "content 99",
            ),
            ("DELETE FROM account", "which does not exist"),
            ("DELETE FROM mailbox WHERE name = 'INBOX'", "no INBOX"),
            ("UPDATE uid_validity SET last = 0", "UIDVALIDITY"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_told(self, tmp_path: Path, statement: str, problem: str) -> None:
        database = Database(environment(tmp_path), FAST, create=True)
        wait(database.start())
        wait(database.accounts.add(USER, ""))
        problems = self.damage(database, statement)
        assert any(problem in line for line in problems), problems

    def test_a_file_that_was_cut_or_is_missing_is_told(self, tmp_path: Path) -> None:
        database = Database(environment(tmp_path), FAST, create=True)
        wait(database.start())
        wait(database.accounts.add(USER, ""))
        wait(fill(database, 2, LARGE))
        first, second = sorted(blob_names(tmp_path / BLOBS))
        os.truncate(tmp_path / BLOBS / first[:2] / first, 10)
        os.unlink(tmp_path / BLOBS / second[:2] / second)
        problems = sorted(line.rpartition(": ")[2] for line in verify(tmp_path))
        wait(database.stop())
        assert problems == [f"10 octets instead of {len(message(1, LARGE))}", "missing"]

    def test_no_database_is_a_mistake_in_the_configuration(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="is not there"):
            verify(tmp_path)
        (tmp_path / schema.FILE).write_bytes(b"garbage" * 1000)
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            verify(tmp_path)
