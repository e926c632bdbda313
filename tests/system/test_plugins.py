"""A plugin file that is edited while a real server runs, and `mailhub plugins` beside it."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path

import pytest

from mailhub.testing.process import DEADLINE, ServerProcess, eventually

pytestmark = pytest.mark.system
POLICY = """\
from mailhub.api import Component, Verdict
class Policy:
    def __init__(self, options, hub): ...
    def begin(self, origin): return self
    def recipient(self, recipient, transaction): return Verdict("reject", "5.7.1", "{word}")
quiet = Component("policy", "quiet", Policy)
"""


def said(client: smtplib.SMTP) -> bytes:
    client.ehlo_or_helo_if_needed()
    client.mail("x@yy.example")
    _, text = client.rcpt("a@xx.example")
    client.rset()
    return text


def test_an_edited_file_is_swapped_and_a_broken_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "xx"
    (folder / "plugins").mkdir(parents=True)
    file = folder / "plugins" / "quiet_plugin.py"
    file.write_text(POLICY.format(word="one"))
    hub = ServerProcess(folder, "xx.example", {"a@xx.example": "secret"}, '[delivery]\npolicies = ["quiet"]\n')
    hub.prepare()
    hub.config.write_text(f'plugins = ["plugins"]\n{hub.config.read_text()}')
    hub.start()
    try:

        def connect() -> smtplib.SMTP:
            return smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE)

        with connect() as old:
            assert b"one" in said(old)
            file.write_text(POLICY.format(word="two"))
            done = hub.command("plugins", "reload", "quiet")
            assert f"has run anew: plugin file {file} (policy quiet)\n" in done.stdout
            with connect() as new:
                assert b"two" in said(new)
                assert b"one" in said(old)
                file.write_text("def f(:\n")
                refused = hub.command("plugins", "reload", "quiet_plugin", check=False)
                assert (refused.returncode, refused.stdout) == (1, "")
                assert refused.stderr.startswith(f"mailhub: nothing has changed: {file}: SyntaxError: invalid syntax")
                assert refused.stderr.count("\n") == 1
                whole = hub.command("reload", check=False)
                assert (whole.returncode, str(file) in whole.stderr) == (1, True)
                eventually(lambda: any("plugin not loaded again" in line for line in hub.log), "the error in the log")
                with connect() as newest:
                    assert [b"two" in said(client) for client in (newest, new, old)] == [True, True, False]
        rows = json.loads(hub.command("plugins", "list", "--json").stdout)
        (row,) = [row for row in rows if row["name"] == "quiet"]
        assert (row["file"], row["state"]) == (str(file), "good")
        assert row["why"].startswith(f"has changed since it was run, and was not loaded again: {file}: SyntaxError")
        assert row["calls"] >= 5
        assert row["slowest_ms"] >= row["mean_ms"] > 0
        assert f"{file}: SyntaxError" in hub.command("plugins", "check", check=False).stdout
    finally:
        hub.stop()
    assert not (folder / "data" / "mailhub.control").exists()
    assert not list(file.parent.glob("__pycache__"))
