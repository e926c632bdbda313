"""A Maildir that a server and other programs have at the same time: mutt, mbsync."""

from __future__ import annotations

import fcntl
import os
import pty
import smtplib
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from mailhub.testing.process import DEADLINE, ServerProcess, eventually, insecure_tls, run
from tests.system.conftest import need

pytestmark = pytest.mark.system

ANN, BEN = "ann@xx.example", "ben@xx.example"
RC = """
set mbox_type=Maildir folder={folder} spoolfile={folder} record="" postponed=""
set move=no delete=yes quit=yes confirmappend=no mark_old=no maildir_trash=no beep=no sleep_time=0 wait_key=no
set mail_check=0 timeout=1 sort=subject pipe_split=yes pipe_decode=no pipe_sep="" collapse_unread=no
set header_cache="" certificate_file="" help=no
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ServerProcess]:
    store = '[store]\ntype = "maildir"\npath = "maildirs/{user}"\npoll_seconds = 0.1\n'
    with ServerProcess(tmp_path / "xx", "xx.example", {ANN: "word", BEN: "word"}, extra=store) as server:
        yield server


@pytest.fixture
def maildir(hub: ServerProcess) -> Path:
    return hub.folder / "data" / "maildirs" / ANN


def deliver(hub: ServerProcess, *subjects: str) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as smtp:
        for subject in subjects:
            smtp.sendmail("ben@yy.example", [ANN], f"From: ben@yy.example\r\nSubject: {subject}\r\n\r\n{subject}\r\n")
    hub.wait_for_messages(ANN, len(subjects))


def files(maildir: Path) -> list[Path]:
    return [path for each in ("new", "cur") for path in (maildir / each).iterdir()]


class Mutt:
    """A mutt at a terminal that is a test."""

    def __init__(self, maildir: Path, folder: Path) -> None:
        rc = folder / "muttrc"
        rc.write_text(RC.format(folder=maildir))
        terminal, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._terminal = terminal
        self._shown = bytearray()
        self._process = subprocess.Popen(
            ["mutt", "-n", "-F", str(rc), "-f", str(maildir)],
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=folder,
            env={**os.environ, "TERM": "vt100", "HOME": str(folder), "LC_ALL": "C"},
            start_new_session=True,
        )
        os.close(other)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while octets := os.read(self._terminal, 4096):
                self._shown += octets
        except OSError:
            pass  # mutt has ended

    def sees(self, text: str) -> None:
        """Wait until it has been on the screen."""
        eventually(lambda: text.encode() in self._shown, f"{text} in {bytes(self._shown)!r}")

    def press(self, keys: str) -> None:
        """As somebody at the keyboard."""
        os.write(self._terminal, keys.encode())

    def pipe(self, pattern: str, file: Path) -> str:
        """The messages that mutt matches, as it gives them to a command."""
        file.unlink(missing_ok=True)
        self.press(f"T{pattern}\r;|cat >> {file}\r!echo > {file}.done\r")
        self.press("\x14~A\r")  # untag
        eventually(lambda: Path(f"{file}.done").exists(), f"{pattern} piped: {bytes(self._shown)!r}")
        Path(f"{file}.done").unlink()
        return file.read_text()

    def close(self) -> None:
        """Quit, and write what is to be written."""
        if self._process.poll() is None:
            self.press("q")
            self._process.wait(DEADLINE)
        os.close(self._terminal)


@pytest.fixture
def client(hub: ServerProcess) -> Iterator[Any]:
    with IMAPClient("127.0.0.1", hub.ports["imaps"], ssl_context=insecure_tls(), timeout=DEADLINE) as client:
        client.login(ANN, "word")
        yield client


def heard(client: Any, wanted: set[bytes]) -> None:
    """Wait until an IDLEing client was told of these."""
    told: list[Any] = []

    def all_told() -> bool:
        told.extend(client.idle_check(timeout=0.2))
        return all(word in repr(told).encode() for word in wanted)

    try:
        eventually(all_told, f"{wanted} told")
    except AssertionError:
        raise AssertionError(f"{wanted} wanted, {told} told") from None


def test_mutt_and_imap_see_each_others_changes(hub: ServerProcess, maildir: Path, client: Any, tmp_path: Path) -> None:
    need("mutt")
    deliver(hub, "first", "second", "third")
    client.select_folder("INBOX")
    mutt = Mutt(maildir, tmp_path)
    mutt.sees("third")
    client.idle()
    mutt.press("1\rF2\rd$")  # flag the first, delete the second, write
    heard(client, {b"Flagged", b"(2, b'EXPUNGE')"})
    client.idle_done()
    assert [b"\\Flagged" in each[b"FLAGS"] for each in client.fetch([1, 3], ["FLAGS"]).values()] == [True, False]
    assert client.search() == [1, 3]

    client.append("INBOX", b"From: cat@zz.example\r\nSubject: by-append\r\n\r\nMiaow\r\n", flags=("\\Seen",))
    client.add_flags([3], "\\Answered")
    mutt.sees("by-append")
    piped = eventually(
        lambda: text if "third" in (text := mutt.pipe("~Q", tmp_path / "answered")) else "", "third answered"
    )
    assert "first" not in piped
    assert "Miaow" in mutt.pipe("~R", tmp_path / "read")
    client.delete_messages([1, 3])
    client.expunge()
    eventually(
        lambda: (text := mutt.pipe("~A", tmp_path / "all")).count("Subject:") == 1 and "Miaow" in text, "expunged"
    )
    mutt.close()
    assert [path.name.rpartition(":2,")[2] for path in files(maildir)] == ["S"]
    assert client.search() == [4]


def test_mbsync_delivers_to_a_maildir_that_is_idled_on(
    hub: ServerProcess, maildir: Path, client: Any, tmp_path: Path
) -> None:
    """It takes the mail from one mailbox of the server, and puts it into another's Maildir."""
    need("mbsync")
    with hub.imap(BEN) as other:
        other.append("INBOX", "(\\Flagged)", "", b"From: cat@zz.example\r\nSubject: synced\r\n\r\nMiaow\r\n")
    (tmp_path / "mbsyncrc").write_text(
        f"""
IMAPStore far
Host 127.0.0.1
Port {hub.ports["imaps"]}
User {BEN}
Pass word
SSLType IMAPS
CertificateFile {hub.folder}/fullchain.pem

MaildirStore near
Path {tmp_path}/
Inbox {maildir}

Channel both
Far :far:
Near :near:
Sync Pull
SyncState {tmp_path}/
"""
    )
    client.select_folder("INBOX")
    client.idle()
    run("mbsync", "-c", tmp_path / "mbsyncrc", "both", env={"HOME": str(tmp_path)})
    heard(client, {b"(1, b'EXISTS')"})
    client.idle_done()
    (fetched,) = client.fetch([1], ["RFC822.SIZE", "BODY.PEEK[]", "FLAGS"]).values()
    assert fetched[b"BODY[]"].startswith(b"From: cat@zz.example\r\nSubject: synced\r\n")
    assert fetched[b"BODY[]"].endswith(b"\r\n\r\nMiaow\r\n")
    assert fetched[b"RFC822.SIZE"] == len(fetched[b"BODY[]"])
    assert b"\\Flagged" in fetched[b"FLAGS"]
    assert b"\r" not in files(maildir)[0].read_bytes()
