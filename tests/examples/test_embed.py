"""The files for `twistd -y`, run by it and spoken to by the clients of the standard library."""

from __future__ import annotations

import errno
import imaplib
import os
import poplib
import resource
import signal
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IProtocolFactory

from mailhub.api import Address, Recipient, keep
from mailhub.net.certificates import self_signed
from mailhub.testing.process import BIN, DEADLINE, eventually, free_ports
from tests.documented import code_blocks

DOCUMENT = Path(__file__).parents[2] / "docs" / "embedding.rst"
EXAMPLES = Path(__file__).parents[2] / "examples"
PORTS = {"smtp": 2525, "submission": 2587, "lmtp": 2424, "imap": 2143, "pop3": 2110}
MESSAGE = "Subject: hello\r\n\r\nHow are you?\r\n"


def file_of(service: str) -> Path:
    return EXAMPLES / f"embed_{service}.tac"


@pytest.mark.parametrize("service", PORTS)
def test_each_has_fifteen_lines_at_most(service: str) -> None:
    lines = file_of(service).read_text().splitlines()
    assert len(lines) <= 15
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("service", PORTS)
def test_the_documentation_shows_each_as_it_is(service: str) -> None:
    file = file_of(service)
    assert code_blocks(DOCUMENT)[file.name] == file.read_text()


def test_the_options_of_the_documentation_are_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path, octets in zip(
        ("certificate.pem", "key.pem"), self_signed(["mail.example.org"], 30, time.time()), strict=True
    ):
        Path(path).write_bytes(octets)
    names: dict[str, Any] = {"portal": Portal(object())}  # type: ignore[arg-type]
    exec(code_blocks(DOCUMENT)["options.py"], names)
    assert IProtocolFactory.providedBy(names["submission"])
    assert IProtocolFactory.providedBy(names["imaps"])


Serve = Callable[[str], int]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Have the real twistd run the example as it is, on another port and in a folder of its own."""
    running: list[subprocess.Popen[bytes]] = []

    def serve(service: str) -> int:
        (port,) = free_ports(1)
        text = file_of(service).read_text()
        assert text.count(f"TCPServer({PORTS[service]}, ") == 1
        tac = tmp_path / f"embed_{service}.tac"
        tac.write_text(text.replace(f"TCPServer({PORTS[service]}, ", f"TCPServer({port}, "))
        log = tmp_path / "twistd.log"
        command: list[str | Path] = [BIN / "twistd", "--nodaemon", "--pidfile=", f"--logfile={log}", "-y", tac]
        running.append(subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))

        def is_open() -> bool:
            assert running[-1].poll() is None, running[-1].communicate()[0].decode() + log.read_text()
            return log.exists() and f" starting on {port}" in log.read_text()

        eventually(is_open, f"{tac.name} listens")
        return port

    yield serve
    for process in running:
        process.terminate()
        assert process.wait(DEADLINE) in (0, -signal.SIGTERM)
        assert "Traceback" not in (tmp_path / "twistd.log").read_text()


def test_smtp(serve: Serve, tmp_path: Path) -> None:
    with smtplib.SMTP("127.0.0.1", serve("smtp"), timeout=DEADLINE) as client:
        client.sendmail("ben@example.net", ["ann@example.org"], MESSAGE)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("ben@example.net", ["ann@example.com"], MESSAGE)
    (kept,) = tmp_path.glob("*.eml")
    octets = kept.read_bytes().decode()
    assert octets.startswith("Return-Path: <ben@example.net>\r\nReceived: from ")
    assert octets.endswith(MESSAGE)


def test_submission(serve: Serve, tmp_path: Path) -> None:
    with smtplib.SMTP("127.0.0.1", serve("submission"), timeout=DEADLINE) as client:
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("ann@example.org", ["ben@example.net"], MESSAGE)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("ann", "wrong")
        client.login("ann", "secret")
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("ben@example.org", ["ben@example.net"], MESSAGE)
        client.sendmail("ann@example.org", ["ben@example.net"], MESSAGE)
    (kept,) = tmp_path.glob("*.eml")
    octets = kept.read_text()
    assert "Message-ID: <" in octets
    assert octets.endswith("How are you?\n")


def test_lmtp(serve: Serve, tmp_path: Path) -> None:
    with smtplib.LMTP("127.0.0.1", serve("lmtp")) as client:
        client.ehlo()
        client.mail("ben@example.net")
        assert [client.rcpt(name)[0] for name in ("ann@example.org", "who@example.org")] == [250, 250]
        # The standard library knows of one answer only.
        assert client.data(MESSAGE)[0] == 250
        assert client.getreply() == (550, b"5.1.1 No such user")
    (kept,) = tmp_path.glob("ann.*")
    assert kept.read_text().endswith("How are you?\n")
    assert not list(tmp_path.glob("*ben*"))


def test_imap(serve: Serve, tmp_path: Path) -> None:
    port = serve("imap")
    with imaplib.IMAP4("127.0.0.1", port, timeout=DEADLINE) as client:
        with pytest.raises(imaplib.IMAP4.error):
            client.login("ann@example.org", "wrong")
        client.login("ann@example.org", "secret")
        assert client.select("INBOX", readonly=True) == ("OK", [b"1"])
        fetched: Any = client.fetch("1", "(UID BODY[])")
        assert fetched[1][0][1].endswith(b"\r\nHow are you?\r\n")
        assert b"UID 1 " in fetched[1][0][0]
    assert list((tmp_path / "notes").rglob("*.sqlite"))


def test_pop3(serve: Serve, tmp_path: Path) -> None:
    port = serve("pop3")

    def logged_in() -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", port, timeout=DEADLINE)
        client.user("ann@example.org")
        client.pass_("secret")
        return client

    client = logged_in()
    assert client.stat() == (0, 0)  # an empty folder will do
    client.quit()
    for name in ("1.eml", "2.eml"):
        (tmp_path / name).write_bytes(b"Subject: hello\r\n\r\nHow are you?\r\n")
    client = logged_in()
    assert client.stat()[0] == 2
    assert client.retr(1)[1] == [b"Subject: hello", b"", b"How are you?"]
    client.dele(1)
    client.quit()
    assert [path.name for path in tmp_path.glob("*.eml")] == ["2.eml"]


# --- Kept is whole -------------------------------------------------------------------------------------------------


def avatar_of(service: str) -> Any:
    names: dict[str, Any] = {}
    text = file_of(service).read_text()
    exec(text[: text.index("factory = ")], names)
    return (names.get("Realm") or names["Outbox"])()


class Message:
    """What a receiver uses of one."""

    octets = b"Subject: hello\r\n\r\nHow are you?\r\n"
    recipients = tuple(Recipient(Address.parse(f"{user}@example.org")) for user in ("ann", "ben", "who"))

    def open(self) -> Message:
        return self

    async def read(self) -> bytes:
        return self.octets


@pytest.mark.parametrize("service", ["smtp", "lmtp", "submission"])
@pytest.mark.parametrize("number", [1, 2])
def test_what_cannot_be_synchronised_is_not_taken_and_not_there(
    service: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the file, then the folder in which its name is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("twisted.internet.threads.deferToThread", lambda function, *given: function(*given))
    synchronised: list[bool] = []

    def fsync(descriptor: int) -> None:
        synchronised.append(os.path.isdir(f"/proc/self/fd/{descriptor}"))
        if len(synchronised) == number:
            raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="the disk is broken"):
        avatar_of(service).message(Message()).send(None)
    assert synchronised == [False, True][:number]
    assert not list(tmp_path.iterdir())


def test_nothing_is_kept_over_what_is_there(tmp_path: Path) -> None:
    keep(tmp_path / "a", b"one")
    with pytest.raises(FileExistsError):
        keep(tmp_path / "a", b"two")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one"]


def test_a_disk_that_takes_a_part_of_a_message_has_none_of_it(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            keep(tmp_path / "a", b"x" * 3000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.iterdir())
