"""`mailhub backup` and `mailhub restore` as they are typed; what they copy is examined in tests/store/sqlite."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from mailhub.cli.backup import octets
from mailhub.cli.offline import opened
from mailhub.cli.progress import Bar
from mailhub.config.settings import Config
from mailhub.data_folder import DataFolder
from mailhub.message.flags import NO_FLAGS
from mailhub.store.exam.rig import DATE, make_body, message
from mailhub.store.mirror.ledger import FOLDER, Ledger
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS
from mailhub.threads import InlineThreads
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def two_messages(mailhub: Command, config: Config) -> None:
    """One small, one large, for ann."""
    mailhub("account", "add", "ann@xx.example")
    with opened(config) as hub:
        account = hub.wait(hub.database.store.account("ann@xx.example"))
        inbox = hub.wait(account.mailbox("INBOX"))
        for number, size in enumerate((0, 200_000)):
            body = hub.wait(make_body(account.new_body, message(number, size)))
            hub.wait(inbox.append(body, NO_FLAGS, DATE))


def test_a_backup_says_what_it_holds(mailhub: Command, config: Config, tmp_path: Path) -> None:
    result = mailhub("backup", "copy")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"backup in {tmp_path}/copy: 2 messages, 200.2 kB; of 1 large body 1 new, 0 removed")
    assert mailhub("backup", "copy").out.endswith("of 1 large body 0 new, 0 removed\n")


def test_a_backup_that_was_repaired_stays_one(mailhub: Command, config: Config, tmp_path: Path) -> None:
    mailhub("backup", "copy")
    (body,) = (tmp_path / "copy" / BLOBS).glob("??/*")
    body.unlink()
    assert "set aside: message of ann@xx.example" in mailhub("check", "--repair", "--store-only", "copy").out
    assert not (tmp_path / "copy" / "mailhub.lock").exists()
    # As of a repair that was killed.
    (tmp_path / "copy" / f"{schema.FILE}-wal").write_bytes(b"what belongs to the earlier one")
    assert mailhub("backup", "copy").out.endswith("of 1 large body 1 new, 0 removed\n")
    assert not (tmp_path / "copy" / f"{schema.FILE}-wal").exists()
    assert mailhub("check", "--deep", "--store-only", "copy").status == 0


def test_a_damaged_body_is_told_with_the_command_that_names_its_message(
    mailhub: Command, config: Config, tmp_path: Path
) -> None:
    (body,) = (config.data / BLOBS).glob("??/*")
    body.write_bytes(b"?" * body.stat().st_size)
    result = mailhub("backup", "copy")
    advice = f"`mailhub check --deep --store-only {config.data}` tells whose"
    assert (result.status, result.err) == (1, f"mailhub: body {body.name} is damaged in {config.data}; {advice}\n")


def test_a_restore_moves_aside_what_is_there(mailhub: Command, config: Config) -> None:
    mailhub("backup", "copy")
    mailhub("account", "remove", "ann@xx.example", "--yes")
    refused = mailhub("restore", "copy")
    assert (refused.status, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "What is there now is moved aside. There is no terminal to ask at: add --yes." in refused.err
    assert mailhub("account", "list").out == ""
    restored = mailhub("restore", "copy", "--yes")
    assert (restored.status, restored.err) == (0, "")
    assert "restored 1 account with 2 messages from " in restored.out
    assert f"what was there before is in {config.data}/replaced-" in restored.out
    assert mailhub("account", "list").out.split()[:3] == ["ann@xx.example", "2", "messages"]


def test_a_restore_needs_no_yes_where_nothing_is(mailhub: Command, config: Config) -> None:
    mailhub("backup", "copy")
    config.data.rename(config.data.with_name("lost"))
    assert mailhub("restore", "copy").status == 0
    assert mailhub("account", "list").out.split()[:3] == ["ann@xx.example", "2", "messages"]


def test_a_running_server_is_not_restored_over(mailhub: Command, config: Config) -> None:
    mailhub("backup", "copy")
    server = DataFolder(config.data)
    server.lock()
    result = mailhub("restore", "copy", "--yes")
    server.unlock()
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert "is running: stop it first" in result.err
    assert not list(config.data.glob("replaced-*"))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("backup", "data"), "a backup needs a folder of its own, not one with the data"),
        (("backup", "data/copy"), "a backup needs a folder of its own, not one with the data"),
        (("backup", "."), "a backup needs a folder of its own, not one with the data"),
        (("backup", "mailhub.toml"), "mailhub.toml: is not a folder"),
        (("backup", "other"), "other: has other files than those of a backup; name an empty or a new folder"),
        (("restore", "other", "--yes"), "other: has no mailhub.sqlite, so it is no backup"),
        (("restore", "nowhere", "--yes"), "nowhere: has no mailhub.sqlite, so it is no backup"),
    ],
)
def test_mistakes_say_what_to_do(
    mailhub: Command, config: Config, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.jpg").touch()
    result = mailhub(*words)
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert line in result.err
    assert mailhub("account", "list").out.split()[:3] == ["ann@xx.example", "2", "messages"]


def test_a_bar_is_drawn_at_a_terminal_and_taken_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bar = Bar()
    bar("bodies", 1, 4)
    bar("bodies", 4, 4)
    bar("rows", 0, 0)
    bar.end()
    drawn = capsys.readouterr().err.split("\r")
    assert [line.split("]")[1].strip() for line in drawn if "]" in line] == ["25%", "100%", "100%"]
    assert (drawn[-2].strip(), drawn[-1]) == ("", "")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 octets"), (999, "999 octets"), (1000, "1.0 kB"), (525_000_000, "525.0 MB"), (10**16, "10000.0 TB")],
)
def test_sizes_for_people(number: int, text: str) -> None:
    assert octets(number) == text


def test_ledgers_of_stores_go_along_and_come_back(mailhub: Command, config: Config, tmp_path: Path) -> None:
    ledger = config.data / FOLDER / "notes.sqlite"
    made = Ledger(ledger, InlineThreads(), "notes", lambda: 1)
    Deferred.fromCoroutine(made.start())
    Deferred.fromCoroutine(made.stop())
    assert mailhub("backup", "copy").status == 0
    assert (tmp_path / "copy" / FOLDER / "notes.sqlite").is_file()
    assert "ledgers in " in mailhub("check", "--store-only", "copy").out
    ledger.write_bytes(b"damaged" * 1000)
    assert "the server sets it aside" in mailhub("check", "--store-only").out
    broken = mailhub("backup", "copy")
    assert (broken.status, "cannot be copied" in broken.err) == (1, True)
    assert mailhub("restore", "copy", "--yes").status == 0
    assert mailhub("check", "--store-only").status == 0
    (aside,) = config.data.glob(f"replaced-*/{FOLDER}/notes.sqlite")
    assert aside.read_bytes() == b"damaged" * 1000


def test_a_backup_without_ledgers_leaves_those_that_are_there(mailhub: Command, config: Config) -> None:
    mailhub("backup", "copy")
    (config.data / FOLDER).mkdir()
    (config.data / FOLDER / "notes.sqlite").write_bytes(b"kept")
    assert mailhub("restore", "copy", "--yes").status == 0
    assert (config.data / FOLDER / "notes.sqlite").read_bytes() == b"kept"
