"""The store of 20 lines, as the README shows it, found in a plugin folder and read by a client."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import twisted.plugins
from mailhub import api, interfaces
from mailhub.testing.hubs import Internet

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugins" / "dict_store.py"


def test_the_readme_shows_the_file_as_it_is() -> None:
    assert textwrap.indent(EXAMPLE.read_text(), "    ") in (ROOT / "README.rst").read_text()


def test_it_has_twenty_lines_at_most() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 20


def test_it_is_found_and_read_but_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / EXAMPLE.name).write_text(EXAMPLE.read_text())
    monkeypatch.setattr(twisted.plugins, "__path__", [*twisted.plugins.__path__, str(tmp_path)])
    with Internet(seed=1) as internet:
        server = internet.hub("xx.example", config={"store": {"type": "dict"}})
        server.add_account("ann@xx.example", "secret")
        client = internet.call(server, "imaps")
        client.expect(b"* OK")
        client.ask(b"a login ann@xx.example secret\r\n", b"a OK")
        assert b"PERMANENTFLAGS ()" in client.ask(b"b select INBOX\r\n", b"b OK [READ-ONLY]")
        assert b"How are you?" in client.ask(b"c fetch 1 (flags body[])\r\n", b"c OK")
        client.ask(b"d store 1 +flags (\\Seen)\r\n", b"d NO [NOPERM]")
        sender = internet.call(server, "smtp")
        sender.expect(b"220 ")
        sender.ask(b"EHLO yy.example\r\n", b"250 HELP")
        sender.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250 ")
        sender.ask(b"RCPT TO:<ann@xx.example>\r\n", b"550 5.2.1 ")


def test_what_plugins_import_is_all_there() -> None:
    assert set(interfaces.__all__) <= set(api.__all__)
