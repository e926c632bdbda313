"""Stores that raise, lie, lose messages and change them: named by file and method, and everybody else is served."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub.errors import ConfigurationError, MessageGone, NoSuchMailbox, NotPermitted
from mailhub.guard import Unanswered
from mailhub.interfaces import IMailbox
from mailhub.message.record import Added, Change, Expunged
from mailhub.store.mirror import answers
from mailhub.store.mirror.answers import Message
from mailhub.testing.waiting import result_of
from tests.store.mirror.simple_stores import DictStore, PlayedHub, environment

ANN = "ann@xx.example"
HELLO = b"Subject: hello\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nHello\r\n"
NOBODY = frozenset[str]()


class Rig:
    """A store of which single answers are others than they should be."""

    def __init__(self, **methods: Any) -> None:
        kind = type("Faulty", (DictStore,), {"__module__": __name__, **methods})
        self.clock = Clock()
        self.store = kind(None, PlayedHub(environment(clock=self.clock)))
        self.store.mail[ANN] = {"INBOX": {}}
        result_of(self.store.start())

    @property
    def inbox(self) -> dict[Any, Any]:
        inbox: dict[Any, Any] = self.store.mail[ANN]["INBOX"]
        return inbox

    def put(self, key: Any, octets: bytes = HELLO) -> None:
        self.inbox[key] = (octets, NOBODY, 0)

    def open(self, name: str = "INBOX") -> IMailbox:
        mailbox: IMailbox = result_of(result_of(self.store.account(ANN)).mailbox(name))
        return mailbox

    def uids(self) -> list[int]:
        return [entry.uid for entry in result_of(self.open().entries())]


def lines(logs: Any) -> str:
    return "\n".join(formatEvent(event) for event in logs)


# --- answers of which nothing can be used


@pytest.mark.parametrize("given", [None, "a string", b"octets", 7, object()])
def test_a_list_that_is_none_is_named_and_what_was_known_is_shown(given: object) -> None:
    rig = Rig()
    rig.put(1)
    assert rig.uids() == [1]
    rig.store.messages = lambda user, folder: given
    with capturedLogs() as logs:
        assert rig.uids() == [1]
    assert "messages" in lines(logs)
    assert "test_bad_answers.py" in lines(logs)


def test_a_folder_that_never_could_be_listed_is_not_shown_empty() -> None:
    rig = Rig(messages=lambda self, user, folder: 1 / 0)
    with pytest.raises(Unanswered):
        rig.uids()


def test_a_list_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MESSAGES", 1000)
    rig = Rig(messages=lambda self, user, folder: count())
    with capturedLogs() as logs, pytest.raises(Unanswered):
        rig.uids()
    assert "more than 1000" in lines(logs)


def test_users_that_raise_let_nobody_in_for_now() -> None:
    rig = Rig()
    rig.store.users = lambda: [][0]
    with pytest.raises(Unanswered):
        result_of(rig.store.account("ben@xx.example"))


def test_a_store_that_goes_on_failing_is_left_alone_for_a_while() -> None:
    calls = []
    rig = Rig()

    def folders(user: str) -> list[str]:
        calls.append(user)
        raise OSError("down")

    rig.store.folders = folders
    for _ in range(9):
        with pytest.raises(Unanswered):
            rig.uids()
    assert len(calls) == 5
    rig.put(3)
    rig.store.folders = lambda user: ["INBOX"]
    rig.clock.advance(11)
    assert rig.uids() == [1]


@pytest.mark.parametrize("quota", ["x", -5, True, property(lambda self: 1 / 0), property(lambda self: exit(3))])
def test_a_quota_that_is_none_is_named(quota: Any) -> None:
    rig = Rig(quota=quota)
    with capturedLogs() as logs, pytest.raises(Unanswered):
        result_of(rig.store.check_quota(ANN, 5))
    (line,) = [formatEvent(event) for event in logs]
    assert line.startswith("store failed: store=")
    assert f"method=quota file={__file__}" in line


@pytest.mark.parametrize(
    "seconds", [1e-6, float("nan"), float("inf"), 1e300, -1, "x", None, True, property(lambda _: 1 / 0), property(exit)]
)
def test_a_folder_cannot_be_listed_all_the_time_or_never(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Faulty \(.*: poll_seconds .*; it must be 0, or from 0\.1 to 86400 "):
        Rig(poll_seconds=seconds)


# --- answers of which a part can be used


def test_what_is_wrong_with_one_message_hides_no_other() -> None:
    naive, aware = datetime(2024, 1, 1), datetime(2023, 1, 1, tzinfo=UTC)
    given = [
        *(None, True, 1.5, b"octets", "", "x" * 1001, 2**63, object(), (1, 2)),
        *("good", "good", Message("flags", ["\\Seen", "\\seen", "bad flag", "\\Recent", 7])),  # type: ignore[list-item]
        *(Message("naive", date=naive), Message("aware", date=aware), Message("late", date=float("nan"))),
        *(Message("far", date=10**30), Message("string", flags="\\Seen"), Message("negative", size=-1)),
        Message("huge", size=10**12),
    ]
    rig = Rig(messages=lambda self, user, folder: given, read=lambda self, user, folder, key: HELLO)
    with capturedLogs() as logs:
        entries = result_of(rig.open().entries())
        again = len(logs)
        rig.uids()
    assert len(entries) == 8
    assert entries[1].flags == {"\\Seen"}
    assert {entry.internal_date for entry in entries} == {1_704_067_200, 1_672_531_200}
    text = lines(logs)
    for part in ("None is no key", "listed twice", "bad flag", "time zone", "no set", "limits.message_size_bytes"):
        assert part in text
    assert "method=messages" in text
    assert "test_bad_answers.py" in text
    assert len(logs) == again  # said once


def test_folders_with_names_that_cannot_be_shown_are_left_out() -> None:
    names = ["Good", "a\0b", "../etc", "a\nb", "", "x" * 2000, "Inbox", "INBOX", None, "/a", "\ud800"]
    rig = Rig(folders=lambda self, user: names, messages=lambda self, user, folder: [])
    with capturedLogs() as logs:
        infos = result_of(result_of(rig.store.account(ANN)).mailboxes())
    assert [info.name for info in infos] == ["Good", "INBOX"]
    assert "are one folder" in lines(logs)
    assert "cannot be the name" in lines(logs)
    with pytest.raises(NoSuchMailbox):
        rig.open("../etc")


def test_inbox_is_there_and_empty_where_the_store_has_none() -> None:
    asked: list[str] = []

    def messages(self: Any, user: str, folder: str) -> None:
        asked.append(folder)
        raise KeyError(folder)

    rig = Rig(folders=lambda self, user: [], messages=messages, add=None)
    assert rig.uids() == rig.uids() == []
    assert asked == ["INBOX"]  # and not over and over again
    body = result_of(result_of(rig.store.account(ANN)).new_body().finish())
    with pytest.raises(NotPermitted):
        result_of(rig.open().append(body, NOBODY, 0))


@pytest.mark.parametrize(("names", "written"), [(["Lists"], "INBOX"), ([], "INBOX"), (["Lists", "Inbox"], "Inbox")])
def test_inbox_is_asked_and_added_to_whether_the_store_names_it_or_not(names: list[str], written: str) -> None:
    rig = Rig(folders=lambda self, user: names)
    folders: dict[str, dict[Any, Any]] = {written: {}, "Lists": {}}
    rig.store.mail[ANN] = folders
    body = result_of(result_of(rig.store.account(ANN)).new_body().finish())
    assert result_of(rig.open().append(body, NOBODY, 0, "q1.1")) == 1
    assert [octets for octets, _, _ in folders[written].values()] == [b""]
    folders[written]["by others"] = (HELLO, NOBODY, 0)
    assert rig.uids() == [1, 2]
    assert result_of(result_of(rig.open().open(2)).read()) == HELLO
    result_of(rig.open().expunge([1], deleted_only=False))
    assert list(folders[written]) == ["by others"]


def test_an_inbox_that_a_store_does_not_name_is_shown_where_it_can_only_be_read() -> None:
    rig = Rig(folders=lambda self, user: ["Lists"], add=None)
    rig.put(1)
    assert rig.uids() == [1]
    rig.store.messages = lambda user, folder: 1 / 0
    assert rig.uids() == [1]  # it was there, so that it cannot be told now


def test_an_inbox_that_can_be_added_to_and_not_listed_is_not_shown_empty() -> None:
    rig = Rig(folders=lambda self, user: ["Lists"], messages=lambda self, user, folder: 1 / 0)
    with pytest.raises(Unanswered):
        rig.uids()


@pytest.mark.parametrize("given", ["text", None, 7, b"x" * (50 * 1024 * 1024 + 1)])
def test_a_message_that_cannot_be_read_is_left_out_until_it_can(given: Any) -> None:
    bad = {2}
    rig = Rig()
    for key in (1, 2, 3):
        rig.put(key)
    rig.store.read = lambda user, folder, key: given if key in bad else rig.inbox[key][0]
    with capturedLogs() as logs:
        assert rig.uids() == [1, 2]
        rig.uids()
    assert lines(logs).count("left out until it can be read") == 1
    bad.clear()
    assert rig.uids() == [1, 2]
    rig.clock.advance(61)
    assert rig.uids() == [1, 2, 3]


def test_one_that_was_listed_with_its_size_is_shown_and_refused_when_it_is_read() -> None:
    rig = Rig(messages=lambda self, user, folder: [Message(1, size=len(HELLO))], read=lambda *given: 1 / 0)
    mailbox = rig.open()
    assert len(result_of(mailbox.entries())) == 1
    with pytest.raises(Unanswered):
        result_of(mailbox.open(1))


# --- octets


def test_other_octets_under_a_known_key_are_another_message() -> None:
    rig = Rig()
    rig.put(1)
    rig.put(2)
    mailbox = rig.open()
    heard: list[Change] = []
    mailbox.watch(heard.append)
    assert [entry.uid for entry in result_of(mailbox.entries())] == [1, 2]
    rig.put(1, HELLO.replace(b"hello", b"HELLO"))
    with capturedLogs() as logs, pytest.raises(MessageGone):
        result_of(mailbox.open(1))
    assert [type(change) for change in heard[1:]] == [Expunged, Added]
    assert "other octets" in lines(logs)
    assert "method=read" in lines(logs)
    assert [entry.uid for entry in result_of(mailbox.entries())] == [2, 3]
    assert b"HELLO" in result_of(result_of(mailbox.open(3)).read())
    rig.put(2, HELLO + b"more")
    assert result_of(mailbox.bodies([2, 3])).keys() == {3}
    assert [entry.uid for entry in result_of(mailbox.entries())] == [3, 4]


def test_a_size_that_was_not_true_is_mended_when_the_message_is_read() -> None:
    rig = Rig(messages=lambda self, user, folder: [Message(1, size=5)])
    rig.put(1)
    mailbox = rig.open()
    assert [(entry.uid, entry.size) for entry in result_of(mailbox.entries())] == [(1, 5)]
    with capturedLogs() as logs, pytest.raises(MessageGone):
        result_of(mailbox.open(1))
    assert "was listed with 5" in lines(logs)
    result_of(mailbox.refresh())
    assert [(entry.uid, entry.size) for entry in result_of(mailbox.entries())] == [(2, len(HELLO))]
    assert result_of(result_of(mailbox.open(2)).read()) == HELLO


def test_what_the_store_has_lost_is_gone_and_what_comes_back_is_new() -> None:
    rig = Rig()
    rig.put(1)
    mailbox = rig.open()
    assert [entry.uid for entry in result_of(mailbox.entries())] == [1]
    rig.inbox.clear()
    with capturedLogs() as logs, pytest.raises(MessageGone):
        result_of(mailbox.open(1))
    assert not lines(logs)  # others may remove messages at any moment
    rig.put(1)
    assert rig.uids() == [2]


# --- adding


def test_a_store_that_says_no_key_of_what_it_adds_has_it_looked_for() -> None:
    rig = Rig()
    add = rig.store.add
    rig.store.add = lambda *given: add(*given) and None
    account = result_of(rig.store.account(ANN))
    writer = account.new_body()
    result_of(writer.write(HELLO))
    with capturedLogs() as logs:
        uid = result_of(rig.open().append(result_of(writer.finish()), frozenset({"\\Seen"}), 5))
    assert "looked for in the list" in lines(logs)
    assert [(entry.uid, set(entry.flags)) for entry in result_of(rig.open().entries())] == [(uid, {"\\Seen"})]


@pytest.mark.parametrize("added", [True, False])
def test_a_delivery_whose_add_was_broken_off_is_made_once(added: bool) -> None:
    """As after a crash between the store's add() and the ledger's note of it."""
    rig = Rig()
    add = rig.store.add

    def breaking(*given: Any) -> int:
        if added:
            add(*given)
        raise OSError("broken off")

    rig.store.add = breaking
    account = result_of(rig.store.account(ANN))

    def deliver(delivery_id: str) -> int:
        writer = account.new_body()
        result_of(writer.write(HELLO))
        return result_of(rig.open().append(result_of(writer.finish()), NOBODY, 5, delivery_id))

    with pytest.raises(Unanswered):
        deliver("q1.1")
    rig.store.add = add
    if added:
        assert rig.uids() == [1]  # somebody looks before the queue tries again
    assert deliver("q1.1") == 1
    assert deliver("q1.1") == 1
    assert len(rig.inbox) == 1
    assert deliver("q1.2") == 2


# --- methods


def test_a_method_that_takes_other_arguments_is_told_when_the_store_is_built() -> None:
    kind = type("Faulty", (DictStore,), {"read": lambda self, user: b""})
    with pytest.raises(ConfigurationError, match=r"read\(\) must take 3 arguments"):
        kind(None, PlayedHub(environment()))


def test_methods_may_be_coroutines_deferreds_and_generators() -> None:
    from twisted.internet.defer import Deferred, inlineCallbacks, succeed

    async def users(self: Any) -> list[str]:
        return [ANN]

    async def messages(self: Any, user: str, folder: str) -> Any:
        for key in (1, 2):
            yield key

    def folders(self: Any, user: str) -> Iterator[str]:
        yield "INBOX"
        yield "Other"

    @inlineCallbacks
    def read(self: Any, user: str, folder: str, key: int) -> Any:
        yield succeed(None)
        return HELLO

    def add(self: Any, *given: Any) -> Deferred[int]:
        return succeed(2)

    rig = Rig(users=users, messages=messages, folders=folders, read=read, add=add)
    assert rig.uids() == [1, 2]
    assert [info.name for info in result_of(result_of(rig.store.account(ANN)).mailboxes())] == ["INBOX", "Other"]
