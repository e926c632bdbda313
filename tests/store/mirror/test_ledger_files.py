"""Ledgers in backups, brought back, and looked over."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred

from mailhub.errors import ConfigurationError
from mailhub.store.mirror import ledger_files, rows
from mailhub.store.mirror.ledger import FOLDER, Ledger
from mailhub.threads import InlineThreads

NOW = 1_700_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a ledger that is in use, as a running server has it."""
    data = tmp_path / "data"
    data.mkdir()
    return data


def opened(data: Path, name: str = "notes") -> Ledger:
    ledger = Ledger(data / FOLDER / f"{name}.sqlite", InlineThreads(), name, lambda: NOW)
    now(ledger.start())
    return ledger


def now(waiting: Any) -> Any:
    results: list[Any] = []
    (waiting if isinstance(waiting, Deferred) else ensureDeferred(waiting)).addBoth(results.append)
    return results[0]


def meet(ledger: Ledger, *names: str) -> None:
    now(ledger.run(partial(rows.meet, user="ann", names=names, now=NOW)))


def validities(folder: Path, name: str = "notes") -> dict[str, int]:
    with closing(sqlite3.connect(folder / FOLDER / f"{name}.sqlite")) as connection:
        return dict(connection.execute("SELECT name, uid_validity FROM folder").fetchall())


def test_a_backup_is_taken_of_ledgers_that_are_in_use(data: Path, tmp_path: Path) -> None:
    ledger, target = opened(data), tmp_path / "copy"
    target.mkdir()
    meet(ledger, "a")
    assert ledger_files.back_up(data, target) == []
    assert [path.name for path in (target / FOLDER).iterdir()] == ["notes.sqlite"]
    assert validities(target).keys() == {"INBOX", "a"}
    meet(ledger, "a", "b")
    opened(data, "other")
    assert ledger_files.back_up(data, target) == []
    assert validities(target).keys() == {"INBOX", "a", "b"}
    assert ledger_files.names(target) == ["notes.sqlite", "other.sqlite"]
    for path in (data / FOLDER).glob("other*"):
        path.unlink()
    assert ledger_files.back_up(data, target) == []
    assert ledger_files.names(target) == ["notes.sqlite"]


def test_a_data_folder_without_ledgers_makes_nothing(data: Path, tmp_path: Path) -> None:
    assert ledger_files.back_up(data, tmp_path) == []
    assert not (tmp_path / FOLDER).exists()
    assert (ledger_files.names(data), ledger_files.strangers(data), ledger_files.faults(data)) == ([], [], [])


def test_a_damaged_ledger_keeps_the_copy_before_and_is_told(data: Path, tmp_path: Path) -> None:
    ledger, target = opened(data), tmp_path / "copy"
    target.mkdir()
    meet(ledger, "a")
    opened(data, "other")
    ledger_files.back_up(data, target)
    now(ledger.stop())
    path = data / FOLDER / "notes.sqlite"
    path.write_bytes(b"not a database" * 1000)
    (fault,) = ledger_files.faults(data)
    assert str(path) in fault
    (line,) = ledger_files.back_up(data, target)
    assert str(path) in line
    assert validities(target).keys() == {"INBOX", "a"}
    assert ledger_files.names(target) == ["notes.sqlite", "other.sqlite"]


def test_what_is_brought_back_has_uidvalidities_that_nobody_has_seen(data: Path, tmp_path: Path) -> None:
    ledger, target, stage = opened(data), tmp_path / "copy", tmp_path / "stage"
    target.mkdir()
    stage.mkdir()
    meet(ledger, "a")
    ledger_files.back_up(data, target)
    with closing(sqlite3.connect(data / FOLDER / "notes.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE uid_validity SET last = 4000000000")
    assert ledger_files.bring_back(target, stage, data)
    found = validities(stage)
    assert found.keys() == {"INBOX", "a"}
    assert min(found.values()) > 4_000_000_000
    assert len(set(found.values())) == 2
    (target / FOLDER / "notes.sqlite").write_bytes(b"?")
    (stage / FOLDER / "notes.sqlite").unlink()
    (stage / FOLDER).rmdir()
    with pytest.raises(ConfigurationError):
        ledger_files.bring_back(target, stage, data)


def test_what_is_no_ledger_is_told(data: Path) -> None:
    now(opened(data).stop())
    for name in ("readme", "notes.sqlite-wal", "notes.sqlite.damaged-20240101-000000", "old.sqlite-wal"):
        (data / FOLDER / name).touch()
    assert ledger_files.strangers(data) == ["old.sqlite-wal", "readme"]
