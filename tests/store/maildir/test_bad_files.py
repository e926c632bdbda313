"""What is in a Maildir that should not be, and what happens to it at the worst moment: the rest is served."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mailhub.errors import MessageGone, StoreUnavailable
from mailhub.interfaces import IMailAccount, IMailbox
from mailhub.message.flags import FLAGGED, NO_FLAGS, SEEN
from mailhub.message.record import FlagChange
from mailhub.store.exam.rig import make_body, message, read_message, uids
from mailhub.store.maildir import folder as folder_module
from mailhub.store.maildir import maildir as maildir_module
from mailhub.store.maildir.folder import Folder
from mailhub.store.maildir.manner import Manner
from tests.store.maildir.rig import ANN, HELLO, HELLO_SENT, Site, wait
from tests.store.maildir.test_store import append, inbox


class Crash(BaseException):
    """The process ends here."""


class Ending:
    """Calls of the system, the one of a number and all after it being those at which the process ends."""

    names = ("open", "write", "fsync", "fchmod", "utime", "link", "rename", "unlink", "mkdir", "close")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
        self.calls = 0
        self.last = last
        for name in self.names:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **keywords: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                self.calls += 1
                if self.calls > self.last:
                    raise Crash
            return function(*arguments, **keywords)

        return called


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.account()
    wait(site.started().account(ANN))
    yield site
    wait(site.store.stop())


def _deliver(site: Site) -> None:
    owner = wait(site.store.account(ANN))
    body = wait(make_body(owner.new_body, message(1)))
    wait(wait(owner.mailbox("INBOX")).append(body, NO_FLAGS, 1_600_000_000, "q1-1"))


def test_a_delivery_that_ends_anywhere_is_whole_or_not_there_and_comes_once(tmp_path: Path) -> None:
    """The queue repeats what was not answered."""
    ended = 0
    for last in range(100):
        (tmp_path / str(last)).mkdir()
        site = Site(tmp_path / str(last))
        site.account()
        wait(site.started().account(ANN))
        with pytest.MonkeyPatch.context() as patching:
            ending = Ending(patching, last)
            try:
                _deliver(site)
            except Crash:
                ended += 1
        left = [path.read_bytes() for each in ("new", "cur") for path in (site.root / each).iterdir()]
        assert left in ([], [message(1).replace(b"\r\n", b"\n")])
        site.restarted()
        _deliver(site)
        mailbox = inbox(site)
        (uid,) = wait(uids(mailbox))
        assert wait(read_message(mailbox, uid)) == message(1)
        wait(site.store.stop())
        if ending.calls <= last:
            break
    assert ended > 10


Change = Callable[[IMailAccount, IMailbox], Awaitable[object]]


async def _move(account: IMailAccount, mailbox: IMailbox) -> None:
    await mailbox.move([1], await account.mailbox("Sent"))


async def _copy(account: IMailAccount, mailbox: IMailbox) -> None:
    await mailbox.copy([1], await account.mailbox("Sent"))


async def _flag(account: IMailAccount, mailbox: IMailbox) -> None:
    await mailbox.change_flags([1], FlagChange("add", frozenset({SEEN, "word"})))


async def _rename(account: IMailAccount, mailbox: IMailbox) -> None:
    await account.rename("Lists", "Old/Lists")


async def _delete(account: IMailAccount, mailbox: IMailbox) -> None:
    await account.delete("Lists/empty")


@pytest.mark.parametrize("change", [_move, _copy, _flag, _rename, _delete])
def test_a_change_that_ends_anywhere_loses_nothing(tmp_path: Path, change: Change) -> None:
    ended = 0
    for last in range(100):
        (tmp_path / str(last)).mkdir()
        site = Site(tmp_path / str(last))
        site.account()
        owner = wait(site.started().account(ANN))
        for name in ("Lists", "Lists/empty"):
            wait(owner.create(name))
        append(site, message(1), name="Lists")
        mailbox = wait(owner.mailbox("Lists"))
        assert wait(uids(mailbox)) == [1]
        with pytest.MonkeyPatch.context() as patching:
            ending = Ending(patching, last)
            try:
                wait(change(owner, mailbox))  # type: ignore[arg-type]
            except Crash:
                ended += 1
        site.restarted()
        owner = wait(site.store.account(ANN))
        found = [
            wait(read_message(box, uid))
            for info in wait(owner.mailboxes())
            for box in [wait(owner.mailbox(info.name))]
            for uid in wait(uids(box))
        ]
        assert found in ([message(1)], [message(1)] * 2)
        assert change in (_move, _copy) or len(found) == 1
        wait(site.store.stop())
        if ending.calls <= last:
            break
    assert ended > 3


def test_what_was_left_in_tmp_goes_after_36_hours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    left = site.root / "tmp" / "1700000001.1.mx"
    left.write_bytes(HELLO)
    wait(uids(inbox(site)))
    assert left.exists()

    class Later:
        monotonic = staticmethod(time.monotonic)
        time_ns = staticmethod(time.time_ns)

        @staticmethod
        def time() -> float:
            return time.time() + 36 * 3600 + 60

    site.restarted()
    monkeypatch.setattr(folder_module, "time", Later)
    assert wait(uids(inbox(site))) == []
    assert not left.exists()


def test_what_is_no_message_is_named_and_the_rest_is_served(site: Site, logged: Callable[[], str]) -> None:
    secret = site.folder / "secret"
    secret.write_bytes(b"Subject: of another\n\n")
    os.symlink(secret, site.root / "cur" / "1700000001.1.mx:2,")
    os.mkfifo(site.root / "new" / "1700000002.2.mx")
    (site.root / "cur" / "1700000003.3.mx:2,S").mkdir()
    (site.root / "new" / ".hidden").write_bytes(HELLO)
    (site.root / "new" / "name with\nline").write_bytes(HELLO)
    (site.root / "cur" / os.fsdecode(b"\xff\xfe:2,F")).write_bytes(HELLO)
    (site.root / "cur" / "no flags at all").write_bytes(HELLO)
    (site.root / "cur" / "1700000004.4.mx:1,S").write_bytes(HELLO)
    with (site.root / "new" / "1700000005.5.mx").open("wb") as large:
        large.truncate((256 << 20) + 1)
    mailbox = inbox(site)
    entries = wait(mailbox.entries())
    assert [entry.size for entry in entries] == [len(HELLO_SENT)] * 4
    assert sorted(sorted(entry.flags) for entry in entries) == [[], [], [], [FLAGGED]]
    wait(mailbox.change_flags([entry.uid for entry in entries], FlagChange("add", frozenset({SEEN}))))
    assert sum(name.endswith("S") for name in site.files()) == 5  # with the directory
    site.restarted()
    assert [SEEN in entry.flags for entry in wait(inbox(site).entries())] == [True] * 4
    for name in ("1700000001.1.mx", "1700000002.2.mx", "1700000003.3.mx", "1700000005.5.mx"):
        assert name in logged()


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_served(
    site: Site, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    site.put("1700000001.1.mx")
    site.put("1700000002.2.mx")
    really = os.open

    def refusing(path: Any, *arguments: Any, **keywords: Any) -> int:
        if path == "1700000001.1.mx":
            raise PermissionError(13, "Permission denied", path)
        return really(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refusing)
    assert len(wait(uids(inbox(site)))) == 1
    assert "1700000001.1.mx" in logged()
    monkeypatch.undo()
    site.clock.advance(120)
    assert len(wait(uids(inbox(site)))) == 2


def test_directories_that_are_links_are_not_entered(site: Site, logged: Callable[[], str]) -> None:
    other = site.folder / "other"
    other.mkdir()
    (other / "1700000001.1.mx:2,").write_bytes(HELLO)
    (site.root / ".Sent" / "cur").rmdir()
    os.symlink(other, site.root / ".Sent" / "cur")
    owner = wait(site.store.account(ANN))
    site.put("1700000001.1.mx")
    assert len(wait(uids(inbox(site)))) == 1
    with pytest.raises(StoreUnavailable):
        wait(wait(owner.mailbox("Sent")).entries())
    assert str(site.root / ".Sent" / "cur") in logged()
    assert (other / "1700000001.1.mx:2,").exists()


def test_directories_that_are_missing_are_made(site: Site) -> None:
    for each in ("new", "tmp"):
        (site.root / each).rmdir()
    assert wait(uids(inbox(site))) == []
    append(site, HELLO_SENT)
    assert len(wait(uids(inbox(site)))) == 1


def test_a_folder_whose_messages_are_away_loses_none(site: Site) -> None:
    append(site, HELLO_SENT)
    away = (site.root / "cur").rename(site.root / "tmp" / "away")
    mailbox = inbox(site)
    with pytest.raises(StoreUnavailable):
        wait(mailbox.refresh())
    assert not (site.root / "cur").exists()
    away.rename(site.root / "cur")
    assert wait(uids(mailbox)) == [1]


@pytest.mark.parametrize("known", [True, False])
def test_a_message_that_one_look_at_a_directory_does_not_show_is_not_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """As when it is renamed just then. `known`: the folder was listed since the start."""
    for number in range(3):
        site.put(f"170000000{number}.1.mx")
    assert wait(uids(inbox(site))) == [1, 2, 3]
    if not known:
        site.restarted()
    site.put("1700000009.1.mx")
    really, turns = Folder._read, iter(range(100))

    def missing(folder: Folder, directories: Any) -> Any:
        found = really(folder, directories)
        if next(turns) == 0:
            del found["1700000001.1.mx"]
        return found

    monkeypatch.setattr(Folder, "_read", missing)
    assert wait(uids(inbox(site))) == [1, 2, 3, 4]


def test_names_that_no_file_can_have_are_nobodys(site: Site) -> None:
    assert not wait(site.store.exists(f"{'/' * 200}@xx.example"))


def test_folders_that_were_being_deleted_go_after_36_hours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    left = site.root / "tmp" / "mailhub-deleted.1700000000.1.mx"
    left.mkdir()
    site.restarted()
    wait(uids(inbox(site)))
    assert left.exists()
    monkeypatch.setattr(maildir_module, "LEFT_SECONDS", -10)
    site.restarted()
    wait(wait(site.store.account(ANN)).mailboxes())
    assert not left.exists()


def test_links_of_one_message_are_one_and_other_messages_of_its_name_are_others(site: Site) -> None:
    path = site.put("1700000001.1.mx")
    os.link(path, site.root / "cur" / "1700000001.1.mx:2,S")  # halfway from new to cur
    mailbox = inbox(site)
    assert [set(entry.flags) for entry in wait(mailbox.entries())] == [{SEEN}]
    site.put("1700000002.2.mx", b"one\n")
    (site.root / "cur" / "1700000002.2.mx:2,F").write_bytes(b"two\n")
    wait(mailbox.refresh())
    found = wait(uids(mailbox))
    assert sorted(wait(read_message(mailbox, uid)) for uid in found[1:]) == [b"one\r\n", b"two\r\n"]
    wait(mailbox.expunge([found[0]], deleted_only=False))
    assert len(site.files()) == 2


def test_hard_links_of_other_names_are_messages(site: Site) -> None:
    os.link(site.put("1700000001.1.mx"), site.root / ".Sent" / "new" / "1700000001.1.mx")
    os.link(site.root / "new" / "1700000001.1.mx", site.root / "new" / "1700000002.2.mx")
    assert len(wait(uids(inbox(site)))) == 2


def test_octets_that_others_change_are_another_message(site: Site) -> None:
    path = site.put("1700000001.1.mx")
    mailbox = inbox(site)
    (uid,) = wait(uids(mailbox))
    path.write_bytes(HELLO.replace(b"Hello", b"Hallo"))
    with pytest.raises(MessageGone):
        wait(read_message(mailbox, uid))
    assert wait(uids(mailbox)) == [uid + 1]


def test_no_message_is_missed_while_others_rename_it(tmp_path: Path) -> None:
    """Programs in other processes give flags as fast as they can; we list, and give flags too."""
    for each in ("tmp", "new", "cur"):
        (tmp_path / each).mkdir()
    for number in range(200):
        (tmp_path / "new" / f"{1_700_000_000 + number}.{number}.mx").write_bytes(HELLO)
    numbers = iter(range(10**9))
    folder = Folder(tmp_path, Manner(lambda: f"{next(numbers)}.x", lambda *_: None, durable=False))
    ending = threading.Event()

    def rename() -> None:
        while not ending.is_set():
            for directory in ("new", "cur"):
                for name in os.listdir(tmp_path / directory):
                    base, _, info = name.partition(":2,")
                    flags = "" if "R" in info else "R"
                    with suppress(FileNotFoundError):
                        os.rename(tmp_path / directory / name, tmp_path / "cur" / f"{base}:2,{flags}")

    keys = {each.key for each in folder.listing()}
    assert len(keys) == 200
    others = threading.Thread(target=rename)
    others.start()
    try:
        for turn in range(30):
            assert {each.key for each in folder.listing()} == keys
            change = {key: frozenset({FLAGGED}) if turn % 2 else NO_FLAGS for key in list(keys)[:20]}
            assert folder.change(change) == {}
    finally:
        ending.set()
        others.join()
    assert {each.key for each in folder.listing()} == keys
    assert folder.remove(list(keys))[1:] == (200 * len(HELLO), 200)
    assert folder.listing() == ()


def test_two_servers_may_have_one_maildir(site: Site, tmp_path: Path) -> None:
    """Each with a ledger of its own: what one does, the other sees, and nothing is lost or doubled. Here both have the
    same clock, number of process and chance, so that they give their files the same names."""
    (tmp_path / "second").mkdir()
    other = Site(tmp_path / "second", path=f"{tmp_path}/maildirs/{{domain}}/{{local}}")
    other.account()
    other.started()
    for number in range(10):
        append((site, other)[number % 2], message(number))
    one, two = inbox(site), inbox(other)
    for mailbox in (one, two):
        assert len(wait(uids(mailbox))) == 10
    wait(one.change_flags(wait(uids(one)), FlagChange("add", frozenset({SEEN}))))
    wait(two.change_flags(wait(uids(two)), FlagChange("add", frozenset({FLAGGED}))))
    wait(one.expunge(wait(uids(one))[:1], deleted_only=False))
    for mailbox in (one, two):
        wait(mailbox.refresh())
        assert sorted(len(entry.flags) for entry in wait(mailbox.entries())) == [2] * 9
    wait(other.store.stop())


def test_a_folder_with_too_many_messages_is_served_in_part(
    site: Site, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(folder_module, "MESSAGES", 3)
    for number in range(5):
        site.put(f"170000000{number}.1.mx")
    assert len(wait(uids(inbox(site)))) == 3
    assert "has more than 3 messages" in logged()
