"""SIGHUP and `mailhub reload` against a real server with sessions that are open."""

from __future__ import annotations

import os
import secrets
import signal
import smtplib
import ssl
import time
from collections.abc import Iterator

import pytest

from mailhub.config.settings import load
from mailhub.net.certificates import write_self_signed
from mailhub.testing.process import DEADLINE, ServerProcess, eventually

pytestmark = pytest.mark.system
USER = "a@xx.example"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("hub") / "xx", "xx.example", {USER: secrets.token_hex(12)}) as one:
        yield one


@pytest.fixture
def text(hub: ServerProcess) -> Iterator[str]:
    """The configuration, which is as it was when the test is over."""
    before = hub.config.read_text()
    yield before
    hub.config.write_text(before)
    hub.command("reload")


def recipient(client: smtplib.SMTP, address: str) -> int:
    client.ehlo_or_helo_if_needed()
    client.mail("x@yy.example")
    code, _ = client.rcpt(address)
    client.rset()
    return code


def shown(hub: ServerProcess) -> str:
    return ssl.get_server_certificate(("127.0.0.1", hub.ports["imaps"]))


def lines(hub: ServerProcess, words: str) -> int:
    return sum(words in line for line in hub.log)


def test_sessions_go_on_and_new_ones_find_what_is_new(hub: ServerProcess, text: str) -> None:
    smtp = smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE)
    assert recipient(smtp, "info@xx.example") == 550
    before = shown(hub)
    with hub.imap(USER) as imap, smtp:
        imap.select("INBOX")
        files = load(hub.config).tls
        assert files is not None
        write_self_signed(files.certificate, files.key, ["mx.xx.example"], 30, time.time())
        hub.config.write_text(f'{text}\n[aliases]\n"info@xx.example" = ["{USER}"]\n[limits]\nthreads = 12\n')
        result = hub.command("reload")
        assert result.stdout.splitlines()[1:] == [
            "changed: [aliases], the certificate",
            "needs a restart: [limits] threads",
        ]
        assert shown(hub) != before
        assert imap.noop()[0] == "OK"
        assert smtp.noop()[0] == 250
        with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as later:
            later.sendmail("x@yy.example", ["info@xx.example"], b"Subject: new\r\n\r\n.\r\n")
        # The session that was open sees the mail that came by the new alias.
        assert eventually(lambda: imap.noop()[0] == "OK" and imap.response("EXISTS")[1][-1], "mail by the new alias")
    assert (hub.folder / "data" / "mailhub.lock").stat().st_mtime >= hub.config.stat().st_mtime - 0.1


def test_a_faulty_file_changes_nothing(hub: ServerProcess, text: str) -> None:
    assert hub.process is not None
    reloads = lines(hub, "configuration read again")
    lock = hub.folder / "data" / "mailhub.lock"
    read_at = lock.stat().st_mtime_ns
    hub.config.write_text(text.replace("[listen]", "[listens]"))
    refused = hub.command("reload", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"mailhub: nothing has changed: {hub.config}: listens: unknown key; did you mean")
    hub.process.send_signal(signal.SIGHUP)
    eventually(lambda: lines(hub, f"nothing has changed: {hub.config}: listens: unknown key"), "the error in the log")
    # What only the server can find.
    hub.config.write_text(text + '[delivery]\npolicies = ["nosuch"]\n')
    refused = hub.command("reload", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"{hub.config}: [delivery] policies: there is no policy plugin called" in refused.stderr
    assert lines(hub, "configuration read again") == reloads
    assert lock.stat().st_mtime_ns == read_at
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as client:
        assert recipient(client, USER) == 250


def test_no_signal_but_those_to_stop_ends_it(hub: ServerProcess, text: str) -> None:
    assert hub.process is not None
    reloads = lines(hub, "configuration read again")
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        hub.process.send_signal(number)
    eventually(lambda: lines(hub, "configuration read again") > reloads, "the reading after SIGHUP")
    assert hub.process.poll() is None


def test_a_number_in_the_lock_file_that_is_another_processs_gets_no_signal(hub: ServerProcess) -> None:
    lock = hub.folder / "data" / "mailhub.lock"
    right = lock.read_text()
    lock.write_text(f"{os.getpid()}\n")
    try:
        refused = hub.command("reload", check=False)
    finally:
        lock.write_text(right)
    assert refused.returncode == 1
    assert "but not by a process that can be seen from here" in refused.stderr
