"""The operator's commands beside a real server under load: backup, restore, names that count at once."""

from __future__ import annotations

import contextlib
import imaplib
import io
import re
import smtplib
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout

import attrs
import pytest

from mailhub.cli.main import main
from mailhub.store.sqlite.verify import verify
from mailhub.testing.process import ServerProcess

pytestmark = pytest.mark.system

A, B = "a@xx.example", "b@xx.example"
BIG = "x" * 76 + "\r\n"


@attrs.frozen
class Result:
    """What a command left."""

    status: int
    out: str
    err: str


def command(hub: ServerProcess, *words: str) -> Result:
    """`mailhub WORDS...` in this process: beside the server's, and started in no time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([*words, "--config", str(hub.config)])
    code = ended.value.code
    return Result(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def deliver(client: smtplib.SMTP, token: str, recipient: str, lines: int = 3) -> None:
    client.sendmail("s@else.example", [recipient], f"X-Token: {token}\r\n\r\n{BIG * lines}")


def tokens(messages: list[bytes]) -> list[str]:
    return sorted(re.findall(r"X-Token: (\S+)", b"".join(messages).decode()))


def answer(hub: ServerProcess, recipient: str) -> int:
    """What RCPT is told."""
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=30) as client:
        client.ehlo("client.example")
        client.mail("s@else.example")
        return client.rcpt(recipient)[0]


@contextlib.contextmanager
def load(hub: ServerProcess) -> Iterator[Callable[[], None]]:
    """Mail for B that comes, every third large, and goes again at once. The value waits for one more round."""
    stop, rounds, faults = threading.Event(), threading.Semaphore(0), []

    def work() -> None:
        try:
            with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=30) as sender, hub.imap(B) as reader:
                reader.select("INBOX")
                number = 0
                while not stop.is_set():
                    for _ in range(3):
                        number += 1
                        deliver(sender, f"load{number}", B, 1500 if number % 3 == 0 else 3)
                    reader.noop()
                    reader.store("1:*", "+FLAGS.SILENT", "\\Deleted")
                    reader.expunge()
                    rounds.release()
        except (OSError, smtplib.SMTPException, imaplib.IMAP4.error) as error:
            faults.append(error)
            rounds.release(1000)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def one_more() -> None:
        while rounds.acquire(blocking=False):
            pass
        assert rounds.acquire(timeout=30)

    try:
        one_more()
        yield one_more
    finally:
        stop.set()
        thread.join(30)
    assert not faults


def test_a_backup_under_load_and_both_ways_back(one_hub: ServerProcess) -> None:
    copy = one_hub.folder / "copy"
    with smtplib.SMTP("127.0.0.1", one_hub.ports["smtp"], timeout=30) as client:
        for number in range(6):
            deliver(client, f"kept{number}", A, 1500 if number % 2 else 3)
    kept = tokens(one_hub.messages(A))
    assert kept == [f"kept{number}" for number in range(6)]
    with load(one_hub) as one_more:
        for _ in range(3):
            done = command(one_hub, "backup", str(copy))
            assert (done.status, done.err) == (0, "")
            assert verify(copy) == []
            one_more()
    assert command(one_hub, "check", "--store-only", str(copy)).status == 0

    # One account, while it is being served and its index is in memory.
    with one_hub.imap(A) as session:
        session.select("INBOX")
        session.store("1:4", "+FLAGS.SILENT", "\\Deleted")
        session.expunge()
        assert tokens(one_hub.messages(A)) == kept[4:]
        assert "restored 4 messages" in command(one_hub, "restore", str(copy), "--account", A).out
        assert tokens(one_hub.messages(A)) == kept
        assert int(session.select("INBOX")[1][0] or b"") == 6
        assert "restored 0 messages" in command(one_hub, "restore", str(copy), "--account", A).out

    # All of it: not while the server runs.
    refused = command(one_hub, "restore", str(copy), "--yes")
    assert (refused.status, "is running: stop it first" in refused.err) == (1, True)
    with one_hub.imap(A) as session:
        _, (before,) = session.status("INBOX", "(UIDVALIDITY)")
    one_hub.stop()
    command(one_hub, "restore", str(copy), "--yes")
    one_hub.start()
    assert tokens(one_hub.messages(A)) == kept
    with one_hub.imap(A) as session:
        _, (after,) = session.status("INBOX", "(UIDVALIDITY)")
    assert before
    assert after
    assert int(after.split()[-1][:-1]) > int(before.split()[-1][:-1])
    assert command(one_hub, "check").status == 0


def test_names_and_states_count_at_once(one_hub: ServerProcess) -> None:
    assert answer(one_hub, "sales@xx.example") == 550
    command(one_hub, "alias", "add", "sales@xx.example", A)
    assert answer(one_hub, "sales@xx.example") == 250
    command(one_hub, "alias", "remove", "sales@xx.example", "--yes")
    assert answer(one_hub, "sales@xx.example") == 550
    assert answer(one_hub, "postmaster@new.example") == 550
    command(one_hub, "domain", "add", "new.example")
    command(one_hub, "alias", "add", "@new.example", A)
    assert answer(one_hub, "anybody@new.example") == 250
    command(one_hub, "domain", "remove", "new.example", "--yes")
    assert answer(one_hub, "anybody@new.example") == 550
    command(one_hub, "account", "disable", A)
    assert answer(one_hub, A) == 250
    with pytest.raises(imaplib.IMAP4.error):
        one_hub.imap(A)
    command(one_hub, "account", "enable", A)
    one_hub.imap(A).logout()
    command(one_hub, "account", "quota", A, "1")
    client = smtplib.SMTP("127.0.0.1", one_hub.ports["smtp"], timeout=30)
    with client, pytest.raises(smtplib.SMTPRecipientsRefused):
        deliver(client, "full", A)
