"""The filter that is shipped for fail2ban finds failed logins, and nothing that somebody made look like one."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogPublisher, globalLogPublisher, textFileLogObserver

from mailhub.auth.authenticator import Authenticator
from mailhub.credentials import PlainCredentials
from mailhub.errors import AuthenticationFailed
from mailhub.interfaces import ISubmitter, Origin
from mailhub.log import Logger, escape_others
from mailhub.testing.waiting import result_of
from tests.system.conftest import need

FAIL2BAN = Path(__file__).resolve().parents[2] / "contrib" / "fail2ban"
STRANGER = "authentication failed: service=smtp user='x' peer=[203.0.113.9] session=s (credentials)"


class Nobody:
    """A portal that knows nobody."""

    async def login(self, *_: object) -> object:
        raise AuthenticationFailed(detail=STRANGER)


def lines_of_an_attack() -> list[str]:
    """Three failed logins, and the words of such a line wherever a peer can put some."""
    file = io.StringIO()
    observer = LogPublisher(escape_others, textFileLogObserver(file))
    globalLogPublisher.addObserver(observer)
    try:
        gate = Authenticator(Nobody(), Clock())  # type: ignore[arg-type]
        for user, peer in (
            ("ann", "192.0.2.1"),
            (f"x' peer=[203.0.113.9] {STRANGER}", "192.0.2.2"),
            ("", "2001:db8::1"),
        ):
            origin = Origin("submission", peer=peer, session_id="abcde1")
            with pytest.raises(AuthenticationFailed):
                result_of(gate.login(PlainCredentials("", user, "wrong"), ISubmitter, origin))
        log = Logger(namespace="mailhub.smtp")
        event = f"2026-11-28T21:40:37+0000 [mailhub.auth#warn] {STRANGER}"
        for text in (STRANGER, f"\n{STRANGER}", event, f"\r{event}", f"host twistd[12]: {event}", f"\n [12]: {event}"):
            log.event("refused", {"to": f'"{text}"@example.test', "reply": text})
            log.warn("{text}", text=text)
            log.warn("{text:text}", text=text)
            try:
                raise ValueError(text)
            except ValueError:
                log.failure("handler failed: {text!r}", text=text)
            # A plugin with a logger that escapes nothing.
            TwistedLogger(namespace="plugin").info("{text}", text=f"said:\n{text}")
    finally:
        globalLogPublisher.removeObserver(observer)
    return file.getvalue().splitlines()


def test_the_filter_bans_those_who_guess_and_nobody_else(tmp_path: Path) -> None:
    need("fail2ban-regex")
    lines = lines_of_an_attack()
    # As the journal has them: its own words come before.
    journal = [f"Nov 28 21:40:37 host twistd[12]: {line}" for line in lines]
    for number, text in enumerate((lines, journal)):
        log = tmp_path / f"{number}.log"
        log.write_text("\n".join(text) + "\n")
        command = ["fail2ban-regex", "--out", "ip", str(log), str(FAIL2BAN / "filter.d" / "mailhub.conf")]
        found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        assert found.split() == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]


def test_the_documented_line_is_the_one_that_is_written() -> None:
    line = lines_of_an_attack()[0]
    form = r"\S+ \[mailhub\.auth#warn\] authentication failed: service=submission user='ann' peer=\[192\.0\.2\.1\] "
    assert re.fullmatch(form + r"session=abcde1 \(.*\)", line)


@pytest.mark.parametrize("name", ["filter.d/mailhub.conf", "jail.d/mailhub.conf"])
def test_both_files_are_shipped(name: str) -> None:
    assert (FAIL2BAN / name).is_file()
    assert "recursive-include contrib" in (FAIL2BAN.parents[1] / "MANIFEST.in").read_text()
