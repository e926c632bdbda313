"""The log file begins anew by size and by day, keeps a bounded number, and stops no server."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from twisted.application.service import Application, IProcess, MultiService
from twisted.internet import task
from twisted.logger import ILogObserver

from mailhub.config.settings import parse
from mailhub.errors import ConfigurationError
from mailhub.logfile import LogFile, LogWriter, User, find_user, log_observer
from mailhub.service import MailService

_application: Any = Application
_services: Any = MultiService
# Seconds of a noon.
NOON = 1_704_067_200 + 12 * 3600
DAY = 86400


class Clock:
    def __init__(self) -> None:
        self.time = float(NOON)

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def log(folder: Path, clock: Clock, **options: Any) -> LogFile:
    file = LogFile(folder / "mailhub.log", now=clock, **{"rotate_bytes": 20, "rotate_days": 0, "keep": 2} | options)
    file.open()
    return file


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_new_file_is_begun_before_one_is_too_large_and_few_are_kept(tmp_path: Path, clock: Clock) -> None:
    file = log(tmp_path, clock)
    for number in range(8):
        file.write(f"line {number} ..\n")
    assert contents(tmp_path) == {
        "mailhub.log": "line 6 ..\nline 7 ..\n",
        "mailhub.log.1": "line 4 ..\nline 5 ..\n",
        "mailhub.log.2": "line 2 ..\nline 3 ..\n",
    }


def test_a_line_larger_than_a_file_is_whole(tmp_path: Path, clock: Clock) -> None:
    file = log(tmp_path, clock)
    file.write("x" * 50 + "\n")
    file.write("y\n")
    assert contents(tmp_path) == {"mailhub.log": "y\n", "mailhub.log.1": "x" * 50 + "\n"}


def test_a_new_file_is_begun_by_day(tmp_path: Path, clock: Clock) -> None:
    file = log(tmp_path, clock, rotate_bytes=10_000, rotate_days=1)
    file.write("one\n")
    clock.time += DAY
    file.write("two\n")
    # The old file's day is that of its last line, also after a start.
    file.close()
    os.utime(tmp_path / "mailhub.log", (clock.time, clock.time))
    again = log(tmp_path, clock, rotate_bytes=10_000, rotate_days=1)
    again.write("three\n")
    assert contents(tmp_path) == {"mailhub.log": "two\nthree\n", "mailhub.log.1": "one\n"}
    clock.time += DAY
    again.write("four\n")
    assert contents(tmp_path) == {"mailhub.log": "four\n", "mailhub.log.1": "two\nthree\n", "mailhub.log.2": "one\n"}


def test_nobody_else_may_read_it(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "mailhub.log"
    path.write_text("old\n")
    path.chmod(0o644)
    file = log(tmp_path / ".", clock)
    file.write("a line that is long\n")
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}


def test_a_missing_folder_is_made(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "a" / "b"
    log(folder, clock).write("x\n")
    assert contents(folder) == {"mailhub.log": "x\n"}
    assert stat.S_IMODE(folder.stat().st_mode) & 0o007 == 0


def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path, clock: Clock) -> None:
    file = log(tmp_path, clock)
    file.write("one\n")
    (tmp_path / "mailhub.log").rename(tmp_path / "moved")
    file.write("two\n")
    clock.time += 1
    file.write("three\n")
    assert contents(tmp_path) == {"mailhub.log": "three\n", "moved": "one\ntwo\n"}


def test_the_old_file_stays_in_use_when_no_new_one_can_be_begun(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    file = log(tmp_path, clock)
    monkeypatch.setattr(Path, "rename", refused)
    for number in range(5):
        file.write(f"line {number} is long\n")
    text = (tmp_path / "mailhub.log").read_text()
    assert text.count("is long\n") == 5
    assert text.count("no new log file can be begun: Permission denied") == 1
    monkeypatch.undo()
    clock.time += 60
    file.write("last\n")
    assert (tmp_path / "mailhub.log").read_text() == "last\n"


def test_what_could_not_be_written_is_counted(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, octets: bytes) -> int:
        raise OSError(28, "No space left on device")

    file = log(tmp_path, clock, rotate_bytes=1000)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        file.write("one\n")
        file.write("two\n")
    file.write("three\n")
    assert (tmp_path / "mailhub.log").read_text() == (
        "- [mailhub.log#error] 2 lines could not be written here\nthree\n"
    )


def test_a_device_is_not_renamed(clock: Clock) -> None:
    file = LogFile(Path("/dev/null"), 1, 1, 1, now=clock)
    file.open()
    clock.time += 3 * DAY
    file.write("x\n" * 100)
    assert Path("/dev/null").is_char_device()


def test_events_of_others_are_cleaned(tmp_path: Path, clock: Clock) -> None:
    observe = log_observer(log(tmp_path, clock, rotate_bytes=1000))
    observe({"log_format": "{x}", "x": "a\x1b[2J\u202eb\nc", "log_time": 0.0})
    assert (tmp_path / "mailhub.log").read_text().endswith("a\\x1b[2J\\u202eb\n\tc\n")


class Written:
    """A file that keeps its writes apart, and may be broken."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.broken = False

    def write(self, text: str) -> None:
        if self.broken:
            raise BrokenPipeError
        self.writes.append(text)

    def flush(self) -> None:
        """Nothing is held back."""


def say(writer: LogWriter, *texts: str) -> None:
    for text in texts:
        writer({"log_format": "{x}", "x": text, "log_time": 0.0})


def test_lines_of_one_turn_of_the_reactor_are_written_together() -> None:
    file, reactor = Written(), task.Clock()
    writer = LogWriter(file)
    say(writer, "a", "b")
    assert [text.count("\n") for text in file.writes] == [1, 1]
    writer.gather(reactor)
    say(writer, "c", "d")
    assert len(file.writes) == 2
    reactor.advance(0)
    assert [text[-2:] for text in file.writes[2].splitlines()] == [" c", " d"]
    say(writer, *"x" * 250)
    assert [text.count("\n") for text in file.writes[3:]] == [100, 100]
    writer.at_once()
    say(writer, "e")
    assert [text.count("\n") for text in file.writes[5:]] == [50, 1]


def test_what_a_thread_says_is_not_left_waiting() -> None:
    file = Written()
    writer = LogWriter(file)
    writer.gather(task.Clock())
    say(writer, "a")
    assert not file.writes
    thread = Thread(target=say, args=(writer, "b"))
    thread.start()
    thread.join()
    assert [text.count("\n") for text in file.writes] == [2]


def test_a_file_that_is_gone_makes_no_more_lines() -> None:
    file = Written()
    file.broken = True
    writer = LogWriter(file)
    say(writer, "a")
    file.broken = False
    say(writer, "b")
    assert len(file.writes) == 1


def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^\[log\] file .*: Is a directory$"):
        log_observer(LogFile(tmp_path))


# --- Who a server is -------------------------------------------------------------------------------------------------


def test_users_by_name_and_number() -> None:
    assert find_user("") is None
    assert find_user("root") == find_user("0") == User(0, 0)
    assert find_user("root", "1") == User(0, 1)


@pytest.mark.parametrize(
    ("user", "group", "line"),
    [
        ("nosuchuser", "", "--user nosuchuser: there is no such user"),
        ("4000000", "", "--user 4000000: there is no such user"),
        ("4000000", "4000001", "--user 4000000: there is no such user"),
        ("root", "nosuchgroup", "--group nosuchgroup: there is no such group"),
        ("", "root", "--group root: give --user as well"),
    ],
)
def test_a_user_that_is_not_there_is_one_line(user: str, group: str, line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_user(user, group)
    assert str(caught.value) == line


def service(text: str, user: User | None = None) -> MailService:
    config = parse(f'hostname = "mx.example"\ndata = "data"\n{text}', Path("/nonexistent/mailhub.toml"))
    nothing: Any = type("Nothing", (), {"__getattr__": lambda *_: None})()
    return MailService(config, nothing, nothing, user=user)


def test_twistd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.service.rotate_by_signal", lambda *_: None)
    application = _application("mailhub")
    service(f'[log]\nfile = "{tmp_path}/mailhub.log"', User(12, 13)).setServiceParent(application)
    assert (IProcess(application).uid, IProcess(application).gid) == (12, 13)
    application.getComponent(ILogObserver)({"log_format": "hello", "log_time": 0.0})
    assert (tmp_path / "mailhub.log").read_text().endswith("hello\n")


def test_without_a_file_the_log_is_twistds_own() -> None:
    application = _application("mailhub")
    service("").setServiceParent(application)
    assert application.getComponent(ILogObserver) is None
    service("").setServiceParent(_services())
