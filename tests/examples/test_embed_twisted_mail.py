"""A realm written for `twisted.mail`, unchanged under the real `twistd -y`, read by the clients of Python's library."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mailhub.testing.process import BIN, DEADLINE, eventually, free_ports

TAC = Path(__file__).resolve().parents[2] / "examples" / "embed_twisted_mail.tac"
PORTS = ("2525", "2110", "2143")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), DEADLINE).close()
    except OSError:
        return False
    return True


def _is_up(process: subprocess.Popen[bytes], port: int) -> bool:
    return listens(port) or process.poll() is not None


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, int, int]]:
    """The example on ports of its own: SMTP, POP3, IMAP."""
    smtp, pop3, imap = ports = free_ports(len(PORTS))
    text = TAC.read_text()
    for usual, port in zip(PORTS, ports, strict=True):
        text = text.replace(f"{usual}:", f"{port}:")
    (folder / "mine.tac").write_text(text)
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(BIN / "twistd"), "-n", "--pidfile=", "-y", "mine.tac"],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            for port in ports:
                eventually(partial(_is_up, process, port), f"it listens on {port}")
            assert process.poll() is None, log.read_text()
            yield smtp, pop3, imap
        finally:
            process.terminate()
            process.wait(DEADLINE)
    assert "Traceback" not in log.read_text(), log.read_text()


def test_the_example_is_short() -> None:
    """Beside the realm, which was there."""
    _, _, ours = TAC.read_text().partition("\nfrom twisted.application import internet")
    assert ours
    assert len([line for line in ours.splitlines() if line.strip()]) <= 15


def test_a_realm_of_twisted_mail_is_served_unchanged(tmp_path: Path) -> None:
    letter = b"From: bob@yy.example\r\nSubject: Hello\r\n\r\n.dots\r\nand lines\r\n"
    with served(tmp_path) as (smtp, pop3, imap):
        with smtplib.SMTP("127.0.0.1", smtp, timeout=DEADLINE) as sender:
            refused = sender.sendmail("bob@yy.example", ["ann@xx.example", "eve@xx.example"], letter)
            assert refused["eve@xx.example"][0] == 550
        with imaplib.IMAP4("127.0.0.1", imap, timeout=DEADLINE) as client:
            client.login("ann", "secret")
            assert client.select("INBOX") == ("OK", [b"1"])
            fetched: Any = client.fetch("1", "(BODY.PEEK[])")[1]
            octets = fetched[0][1]
            assert octets.endswith(b" by this very realm\r\n" + letter)
            assert client.create("ARCHIVE")[0] == "OK"
            assert client.copy("1", "ARCHIVE")[0] == "OK"
            assert client.store("1", "+FLAGS", "\\Flagged")[1] == [b"1 (FLAGS (\\Recent \\Flagged))"]
            assert client.append("INBOX", "(\\Seen)", "", letter)[0] == "OK"
            assert client.search(None, "SUBJECT", "hello")[1] == [b"1 2"]
            assert client.status("ARCHIVE", "(MESSAGES)")[1] == [b'"ARCHIVE" (MESSAGES 1)']
        drop = poplib.POP3("127.0.0.1", pop3, timeout=DEADLINE)
        drop.user("ann")
        drop.pass_("secret")
        assert drop.stat() == (2, len(octets) + len(letter))
        assert drop.uidl()[1] == [b"1 1", b"2 2"]
        assert b"\r\n".join(drop.retr(2)[1]) + b"\r\n" == letter
        drop.dele(1)
        drop.quit()
        with imaplib.IMAP4("127.0.0.1", imap, timeout=DEADLINE) as client:
            client.login("ann", "secret")
            assert client.select("INBOX") == ("OK", [b"1"])
            assert client.uid("SEARCH", "ALL")[1] == [b"2"]
