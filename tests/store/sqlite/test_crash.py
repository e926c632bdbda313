"""A crash between any two steps: the data folder is copied before each statement, fsync and unlink of a story.

Every copy is then started as if the process had been killed there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailhub.interfaces import Claim, Deposit, Plan, Route, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.message.flags import NO_FLAGS, SEEN
from mailhub.message.record import FlagChange
from mailhub.store.exam.rig import Exam, make_body, message, read_message, uids
from mailhub.store.sql import content
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from mailhub.store.sqlite.writer import Writer
from tests.store.harness import FAST, NOW, environment, leftovers

ANNA, BERT = "a@xx.example", "b@xx.example"
LARGE = 140_000  # octets: a file
State = dict[str, Any]


class Copy(NamedTuple):
    """The data folder at one moment, and how many steps of the story had been acknowledged."""

    folder: Path
    acknowledged: int
    where: str


async def state_of(database: Database) -> State:
    """All that a user or an operator can see."""
    seen: State = {"queue": [await describe(database, queued) for queued in await database.queue.messages()]}
    for row in await database.accounts.all():
        account = await database.store.account(row.user)
        for info in await account.mailboxes():
            mailbox = await account.mailbox(info.name)
            entries = await mailbox.entries()
            octets = [hash(await read_message(mailbox, entry.uid)) for entry in entries]
            seen[f"{row.user} {info.name}"] = (await mailbox.status(), list(entries), octets)
        seen[row.user] = (await account.quota(), await account.subscriptions(), row)
    return seen


async def describe(database: Database, queued: Any) -> Any:
    reader = await database.queue.open(queued.id)
    try:
        return queued, hash(await reader.read())
    finally:
        reader.close()


class Story:
    """Steps, each one transaction and acknowledged when it returns: every kind of change there is."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def steps(self) -> list[Callable[[], Coroutine[Any, Any, object]]]:
        return [
            lambda: self.database.accounts.add(ANNA, ""),
            lambda: self.database.accounts.add(BERT, ""),
            lambda: self.append(1, 0),
            lambda: self.append(2, LARGE),
            self.submit,
            self.flag,
            self.copy,
            self.delay,
            lambda: self.bounce("smtp zz.example"),
            lambda: self.bounce(""),
            self.rename,
            lambda: self.expunge("Old"),
            lambda: self.expunge("Archive"),
            lambda: self.database.accounts.remove(BERT),
        ]

    async def append(self, number: int, size: int) -> None:
        account = await self.database.store.account(ANNA)
        body = await make_body(account.new_body, message(number, size), 30_000)
        await (await account.mailbox("INBOX")).append(body, NO_FLAGS, NOW, f"delivery {number}")

    async def submit(self) -> None:
        body = await make_body(self.database.queue.new_body, message(3, LARGE), 30_000)
        deposits = tuple(Deposit(Address.parse(user), user) for user in (ANNA, BERT, "nobody@xx.example"))
        routes = tuple(Route("smtp", Address(local, "zz.example")) for local in ("q", "r"))
        await self.database.queue.submit(Submission(Mail(None), Plan(deposits, routes), body))

    async def flag(self) -> None:
        inbox = await self.inbox(ANNA)
        await inbox.change_flags(await uids(inbox), FlagChange("add", frozenset({SEEN})))

    async def copy(self) -> None:
        account = await self.database.store.account(ANNA)
        inbox = await account.mailbox("INBOX")
        await inbox.copy(await uids(inbox), await account.mailbox("Archive"))

    async def claim(self, destination: str) -> Claim:
        claims = await self.database.queue.claim(NOW + 60, 10, 10)
        (claim,) = [claim for claim in claims if claim.destination == destination]
        await self.database.queue.release([other for other in claims if other is not claim])
        return claim

    async def delay(self) -> None:
        claim = await self.claim("smtp zz.example")
        settled = [Settlement(row.id, Outcome.delayed("busy"), NOW + 60) for row in claim.message.recipients]
        await self.database.queue.settle(claim, settled)

    async def bounce(self, destination: str) -> None:
        claim = await self.claim(destination)
        body = await make_body(self.database.queue.new_body, message(4, LARGE))
        report = Submission(Mail(None), Plan((Deposit(Address.parse(ANNA), ANNA),)), body)
        settled = [Settlement(row.id, Outcome.failed("no")) for row in claim.message.recipients]
        await self.database.queue.settle(claim, settled, [report])

    async def rename(self) -> None:
        await (await self.database.store.account(ANNA)).rename("INBOX", "Old")

    async def expunge(self, name: str) -> None:
        account = await self.database.store.account(ANNA)
        await (await account.mailbox(name)).expunge(deleted_only=False)

    async def inbox(self, user: str) -> Any:
        return await (await self.database.store.account(user)).mailbox("INBOX")


class Camera:
    """Copies the data folder again and again while a story goes on."""

    def __init__(self, data: Path, copies: Path) -> None:
        self.data = data
        self.folder = copies
        self.acknowledged = 0
        self.copies: list[Copy] = []
        self.moments = 0
        self.last_look: object = None

    def copy(self, where: str) -> None:
        """As a kill would leave it: what was written is there, memory is not (nor SQLite's, which is in -shm).
        Moments between which nothing was written and nothing acknowledged are one."""
        self.moments += 1
        files = sorted(path for path in self.data.rglob("*") if path.is_file() and not path.name.endswith("-shm"))
        look = (self.acknowledged, [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files])
        if look == self.last_look:
            return
        self.last_look = look
        folder = self.folder / str(len(self.copies))
        shutil.copytree(self.data, folder, ignore=shutil.ignore_patterns("*-shm"))
        self.copies.append(Copy(folder, self.acknowledged, where))

    def watch(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        """Copy before and after each call of a function."""
        # What a kill leaves is the same with and without fsync, and the tests are faster without.
        original = (lambda *arguments: None) if name == "fsync" else getattr(module, name)

        def watched(*arguments: Any) -> Any:
            self.copy(f"before {name}")
            result = original(*arguments)
            self.copy(f"after {name}")
            return result

        monkeypatch.setattr(module, name, watched)


@pytest.mark.parametrize("at_once", [0, content.AT_ONCE], ids=["with the sweep", "at once"])
def test_a_kill_anywhere_loses_nothing_acknowledged_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(content, "AT_ONCE", at_once)
    wait = Exam().wait_for
    camera = Camera(tmp_path / "data", tmp_path / "copies")
    camera.data.mkdir()
    database = Database(environment(camera.data), create=True)
    with monkeypatch.context() as patches:
        for module, name in ((os, "fsync"), (os, "unlink"), (Writer, "_finish")):
            camera.watch(patches, module, name)
        wait(database.start())
        connection = database._writer._connection
        assert connection is not None
        connection.execute("PRAGMA synchronous = OFF")
        connection.set_trace_callback(camera.copy)
        states = [wait(state_of(database))]
        for step in Story(database).steps():
            wait(step())
            states.append(wait(state_of(database)))
            camera.acknowledged += 1
        wait(database.stop())
    assert camera.moments > 200
    assert len(camera.copies) >= 30
    assert {name for copy in camera.copies for name in os.listdir(copy.folder / "blobs")}  # some with large bodies
    for copy in camera.copies:
        check_recovery(copy, states)
        shutil.rmtree(copy.folder)


def check_recovery(copy: Copy, states: list[State]) -> None:
    """The next start finds the state before or after the step that was under way, and nothing else on the disk."""
    wait = Exam().wait_for
    database = Database(environment(copy.folder, seed=2), FAST, create=True)
    wait(database.start())
    state = wait(state_of(database))
    assert state in states[copy.acknowledged : copy.acknowledged + 2], copy
    assert (verify(copy.folder), leftovers(copy.folder)) == ([], []), copy
    if f"{ANNA} INBOX" in state and copy.acknowledged in (3, 4):
        # Whoever had no answer tries again.
        wait(Story(database).append(2, LARGE))
        there = len(state[f"{ANNA} INBOX"][1])
        assert len(wait(state_of(database))[f"{ANNA} INBOX"][1]) == max(there, 2), copy
    wait(database.stop())
    assert verify(copy.folder) == [], copy
