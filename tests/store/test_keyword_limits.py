"""Both stores bound keywords, of a message and of a mailbox, and count what they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub.errors import OverQuota, TooManyKeywords
from mailhub.interfaces import Deposit, Plan, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.message.flags import DELETED, FREE_OCTETS, NO_FLAGS, SEEN, SYSTEM_FLAGS, Flags
from mailhub.message.record import FlagChange
from mailhub.store.exam.rig import USER, Exam, make_body, message
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.sqlite.database import Database
from mailhub.store.sqlite.verify import verify
from tests.store.harness import FAST, NOW, environment

PER_MESSAGE, PER_MAILBOX = 5, 8
SETTINGS = attrs.evolve(FAST, keywords_per_message=PER_MESSAGE, keywords_per_mailbox=PER_MAILBOX)
exam = Exam()
wait = exam.wait_for
refuses: Callable[..., None] = lambda *args: wait(exam.refuses(*args))  # noqa: E731


def words(start: int, stop: int) -> Flags:
    return frozenset(f"word{number}" for number in range(start, stop))


@pytest.fixture(params=["memory", "sqlite"])
def database(request: Any, tmp_path: Path) -> Any:
    if request.param == "memory":
        database: Any = MemoryDatabase(environment(tmp_path), SETTINGS)
    else:
        database = Database(environment(tmp_path), SETTINGS, create=True)
    wait(database.start())
    wait(database.accounts.add(USER, "hash"))
    yield database
    wait(database.stop())
    if request.param == "sqlite":
        assert verify(tmp_path) == []


async def fill(database: Any, name: str, *flags: Flags) -> Any:
    account = await database.store.account(USER)
    mailbox = await account.mailbox(name)
    for each in flags:
        await mailbox.append(await make_body(account.new_body, message()), each, NOW)
    return mailbox


def flags_in(mailbox: Any) -> list[Flags]:
    return [entry.flags for entry in wait(mailbox.entries())]


def test_a_message_has_so_many_keywords_and_always_room_for_system_flags(database: Any) -> None:
    inbox = wait(fill(database, "INBOX", words(0, PER_MESSAGE), NO_FLAGS))
    refuses(TooManyKeywords, inbox.change_flags([1, 2], FlagChange("add", words(5, 6))))
    refuses(TooManyKeywords, inbox.change_flags([2], FlagChange("replace", words(0, PER_MESSAGE + 1))))
    refuses(TooManyKeywords, fill(database, "INBOX", words(0, PER_MESSAGE + 1)))
    assert flags_in(inbox) == [words(0, 5), NO_FLAGS], "all or nothing"
    wait(inbox.change_flags([1, 2], FlagChange("add", SYSTEM_FLAGS | words(0, 2))))
    assert flags_in(inbox) == [words(0, 5) | SYSTEM_FLAGS, words(0, 2) | SYSTEM_FLAGS]


def test_a_mailbox_has_so_many_and_forgets_those_that_nothing_has(database: Any) -> None:
    inbox = wait(fill(database, "INBOX", words(0, 4), words(4, 8), NO_FLAGS))
    refuses(TooManyKeywords, inbox.change_flags([3], FlagChange("add", words(8, 9))))
    refuses(TooManyKeywords, fill(database, "INBOX", words(8, 9)))
    wait(inbox.change_flags([3], FlagChange("add", frozenset({"WORD1"}))))
    wait(inbox.change_flags([1], FlagChange("remove", words(0, 2))))
    refuses(TooManyKeywords, inbox.change_flags([3], FlagChange("add", words(8, 10))))
    wait(inbox.change_flags([3], FlagChange("add", words(8, 9))))
    assert flags_in(inbox) == [words(2, 4), words(4, 8), frozenset({"word1", "word8"})]
    wait(inbox.expunge(deleted_only=False))
    wait(fill(database, "INBOX", words(20, 24), words(24, 28)))


def test_what_is_copied_or_moved_must_fit(database: Any) -> None:
    inbox = wait(fill(database, "INBOX", words(0, 5), words(5, 7)))
    trash = wait(fill(database, "Trash", words(10, 14)))
    refuses(TooManyKeywords, inbox.copy([1], trash))
    refuses(TooManyKeywords, inbox.move([1, 2], trash))
    assert flags_in(inbox) == [words(0, 5), words(5, 7)]
    assert flags_in(trash) == [words(10, 14)]
    wait(inbox.move([2], trash))
    wait(trash.expunge([1], deleted_only=False))
    wait(inbox.move([1], trash))
    assert flags_in(trash) == [words(5, 7), words(0, 5)]


def test_mail_is_delivered_without_keywords_that_do_not_fit(database: Any) -> None:
    inbox = wait(fill(database, "INBOX", words(0, 5), words(5, 8)))

    async def deliver(flags: Flags) -> None:
        body = await make_body(database.queue.new_body, message())
        plan = Plan((Deposit(Address.parse(USER), USER, "INBOX", flags=flags),))
        await database.queue.submit(Submission(Mail(Address.parse("a@xx.example")), plan, body, 0))

    for flags in (words(1, 2) | {SEEN}, words(8, 9) | {SEEN}, words(0, PER_MESSAGE + 1) | {SEEN}):
        wait(deliver(flags))
    assert flags_in(inbox)[2:] == [words(1, 2) | {SEEN}, frozenset({SEEN}), frozenset({SEEN})]


def test_large_flags_count_as_use(database: Any) -> None:
    long = frozenset(f"{number}".rjust(100, "x") for number in range(3))
    octets = 302 - FREE_OCTETS
    wait(database.accounts.add("q@yy.example", "hash", len(message()) * 2 + octets + 20))
    account = wait(database.store.account("q@yy.example"))
    inbox = wait(account.mailbox("INBOX"))
    for flags in (long, NO_FLAGS):
        wait(inbox.append(wait(make_body(account.new_body, message())), flags, NOW))

    def used() -> int:
        return int(wait(account.quota()).used) - len(message()) * len(flags_in(inbox))

    assert used() == octets
    assert wait(inbox.status()).size == 2 * len(message())
    refuses(OverQuota, inbox.change_flags([2], FlagChange("add", long)))
    wait(inbox.change_flags([1, 2], FlagChange("add", frozenset({SEEN, DELETED}))))
    assert used() == octets + len("\\Deleted \\Seen ")
    wait(inbox.change_flags([1], FlagChange("remove", long)))
    assert used() == 0
    wait(inbox.change_flags([2], FlagChange("add", long)))
    wait(inbox.change_flags([2], FlagChange("replace", long)))
    assert used() == octets
    wait(inbox.expunge([1], deleted_only=False))
    refuses(OverQuota, inbox.copy([2], inbox))
    trash = wait(account.mailbox("Trash"))
    wait(inbox.move([2], trash))
    assert int(wait(account.quota()).used) == len(message()) + octets
    wait(account.delete("Trash"))
    assert wait(account.quota()).used == 0
    wait(inbox.expunge(deleted_only=False))
    assert used() == 0
