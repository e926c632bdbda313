"""The reserve on the disk: new mail is refused, what deletes is not."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from mailhub.errors import StorageFull, StoreUnavailable
from mailhub.interfaces import Deposit, Disk, Plan, Route, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.message.flags import NO_FLAGS
from mailhub.store.exam.rig import Exam, make_body, message
from mailhub.store.limits import StoreLimits
from mailhub.store.space import FRESH_SECONDS, KEPT, KEPT_OCTETS, Space
from mailhub.store.sql.transaction import Transaction
from mailhub.store.sqlite.database import Database
from tests.store.harness import FAST, NOW, environment

USER = "b@yy.example"
wait = Exam().wait_for


class FakeDisk:
    """Of 1000 octets, or as many as are said."""

    def __init__(self, free: int, size: int = 1000) -> None:
        self.free = free
        self.size = size
        self.measured = 0

    def __call__(self, folder: Path) -> Disk:
        self.measured += 1
        if self.free < 0:
            raise OSError(errno.EIO, "Input/output error")
        return Disk(self.size, self.free)


def full(space: Space, size: int = 0) -> bool:
    try:
        space.check(size)
    except StorageFull:
        return True
    return False


@pytest.mark.parametrize(
    ("free", "size", "refused"),
    [(1000, 0, False), (50, 0, False), (49, 0, True), (60, 10, False), (60, 11, True), (0, 0, True), (-1, 9**9, False)],
)
def test_the_reserve_is_kept(free: int, size: int, refused: bool) -> None:
    assert full(Space(Path("data"), FakeDisk(free), Clock(), 5), size) is refused


def test_without_a_reserve_only_what_is_announced_counts() -> None:
    space = Space(Path("data"), FakeDisk(10), Clock(), 0)
    assert (full(space), full(space, 10), full(space, 11)) == (False, False, True)


def test_it_is_measured_once_a_second_and_told_once() -> None:
    disk, clock = FakeDisk(10), Clock()
    space = Space(Path("data"), disk, clock, 5)
    with capturedLogs() as logs:
        assert all(full(space) for _ in range(10))
        assert disk.measured == 1
        clock.advance(FRESH_SECONDS)
        assert full(space)
        disk.free = 500
        clock.advance(FRESH_SECONDS)
        assert not full(space)
    assert disk.measured == 3
    assert [event["log_level"].name for event in logs] == ["error", "info"]


def test_the_disk_of_a_folder_is_measured(tmp_path: Path) -> None:
    found = Disk.of(tmp_path)
    assert 0 <= found.free <= found.size


def test_new_mail_is_refused_and_deleting_works(tmp_path: Path) -> None:
    disk = FakeDisk(10**9, 10**9)
    clock = Clock()
    clock.advance(NOW)
    database = Database(attrs.evolve(environment(tmp_path, clock=clock), disk=disk), FAST, create=True)

    async def submit(size: int = 0) -> Any:
        body = await make_body(database.queue.new_body, message(1, size))
        return await database.queue.submit(
            Submission(Mail(None), Plan(routes=(Route("smtp", Address("q", "zz.example")),)), body)
        )

    async def story() -> None:
        await database.start()
        await database.accounts.add(USER, "")
        account = await database.store.account(USER)
        inbox, trash = await account.mailbox("INBOX"), await account.mailbox("Trash")
        for number in range(3):
            await inbox.append(await make_body(account.new_body, message(number)), NO_FLAGS, NOW)
        receipt = await submit()
        large = database.queue.new_body()
        await large.write(b"x" * 140_000)
        small = await make_body(account.new_body, message(4))
        disk.free = 10**7
        clock.advance(2)
        with pytest.raises(StorageFull):
            account.new_body(10)
        with pytest.raises(StorageFull):
            database.queue.check_space()
        with pytest.raises(StorageFull):
            await large.write(b"x" * 200_000)
        with pytest.raises(StorageFull):
            await inbox.append(small, NO_FLAGS, NOW)
        with pytest.raises(StorageFull):
            await submit()
        # What makes room is let through, the reports of the queue too; and a copy, as part of deleting.
        assert list((await inbox.copy([2], trash)).source) == [2]
        assert list((await inbox.move([1], trash)).source) == [1]
        assert list(await inbox.expunge(deleted_only=False)) == [2, 3]
        report = Submission(
            Mail(None),
            Plan((Deposit(Address.parse(USER), USER),)),
            await make_body(database.queue.new_body, message(5)),
        )
        (claim,) = await database.queue.claim(NOW, 10, 10)
        rows = [Settlement(row.id, Outcome.failed("no")) for row in claim.message.recipients]
        assert claim.message.id == receipt.id
        await database.queue.settle(claim, rows, [report])
        assert (await inbox.status()).messages == 1
        assert (await trash.status()).messages == 2
        assert list(await database.queue.messages()) == []
        await database.stop()

    wait(story())


def kept(folder: Path, free: int, size: int, percent: int = 5) -> int:
    space = Space(folder, FakeDisk(free, size), Clock(), percent)
    space.keep()
    space.keep()
    found = (folder / KEPT).stat().st_size if (folder / KEPT).exists() else 0
    assert space.give_up() == bool(found)
    assert not space.give_up()
    return found


def test_room_is_kept_where_there_is_some_and_given_up_once(tmp_path: Path) -> None:
    assert kept(tmp_path, 10**9, 10**9) == KEPT_OCTETS
    assert kept(tmp_path, 10**6, 10**6) == 50_000
    assert kept(tmp_path, 60_000, 10**6) == 0
    assert kept(tmp_path, 10**9, 10**9, percent=0) == 0
    assert kept(tmp_path / "gone", 10**9, 10**9) == 0


def test_on_a_disk_that_is_wholly_full_what_is_kept_is_given_up_for_deleting(tmp_path: Path) -> None:
    durable = Database(environment(tmp_path), StoreLimits(), create=True)

    async def story() -> None:
        await durable.start()
        await durable.accounts.add(USER, "")
        account = await durable.store.account(USER)
        inbox = await account.mailbox("INBOX")
        for number in range(3):
            await inbox.append(await make_body(account.new_body, message(number)), NO_FLAGS, NOW)
        assert (tmp_path / KEPT).exists()

        def work(transaction: Transaction) -> int:
            if (tmp_path / KEPT).exists():
                # What SQLite does when its log cannot grow.
                transaction.execute("ROLLBACK")
                raise full_disk
            return 7

        assert await durable._engine.write(work) == 7
        assert list(await inbox.expunge(deleted_only=False)) == [1, 2, 3]
        assert (tmp_path / KEPT).exists()  # there is room again
        await durable.stop()

    full_disk = sqlite3.OperationalError("database or disk is full")
    full_disk.sqlite_errorcode = sqlite3.SQLITE_FULL
    wait(story())


def test_a_disk_that_fills_up_while_a_body_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(environment(tmp_path), FAST, create=True)
    wait(database.start())
    for number, kind in ((errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StoreUnavailable)):

        def create(number: int = number) -> Any:
            raise OSError(number, "no")

        monkeypatch.setattr(database._engine.files, "create", create)
        with pytest.raises(StoreUnavailable) as caught:
            wait(make_body(database.queue.new_body, message(1, 140_000)))
        assert type(caught.value) is kind
    wait(database.stop())
