"""Every file of the examples sits the exams of its kind, by the command, as somebody would who has just written it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from examples.plugins.sql_store import SCHEMA
from mailhub.auth.passwords import hash_password
from tests.examples.stage import ANN, PASSWORD, PLUGINS
from tests.examples.test_stores import a_feed, a_history

MAILHUB = Path(sys.executable).with_name("mailhub")

Prepared = Callable[[Path, pytest.MonkeyPatch], contextlib.AbstractContextManager[list[str]]]


@contextlib.contextmanager
def _nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    yield []


@contextlib.contextmanager
def _folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    (folder / ANN / "INBOX").mkdir(parents=True)
    yield ["--option", f"path={folder}"]


@contextlib.contextmanager
def _table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    with contextlib.closing(sqlite3.connect(folder / "mail.db")) as database, database:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO folder VALUES (?, 'INBOX')", (ANN,))
    yield ["--option", f"path={folder / 'mail.db'}"]


@contextlib.contextmanager
def _feed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    yield _options(a_feed(folder, monkeypatch).table)


@contextlib.contextmanager
def _history(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    yield _options(a_history(folder, monkeypatch).table)


@contextlib.contextmanager
def _passwd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    (folder / "passwd").write_text(f"{ANN}:{hash_password(PASSWORD)}\n")
    yield ["--data", str(folder), "--user", ANN, "--password", PASSWORD]


@contextlib.contextmanager
def _people(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    (folder / "people").write_text(f"{ANN}\n")
    yield ["--data", str(folder), "--user", ANN]


@contextlib.contextmanager
def _webhook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ["--target", f"http://127.0.0.1:{server.server_port}"]
        server.shutdown()


# What there must be for those that cannot do without.
PREPARED: dict[str, Prepared] = {
    "eml_folder": _folder,
    "feed_store": _feed,
    "git_store": _history,
    "passwd_checker": _passwd,
    "people_directory": _people,
    "sql_store": _table,
    "webhook_agent": _webhook,
}


def _options(table: dict[str, object]) -> list[str]:
    return [word for key, value in table.items() for word in ("--option", f"{key}={json.dumps(value)}")]


@pytest.mark.parametrize("plugin", sorted(path.stem for path in PLUGINS.glob("*.py")))
def test_it_does_what_its_contract_says(plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    with PREPARED.get(plugin, _nothing)(tmp_path / "there", monkeypatch) as arguments:
        command: list[str | Path] = [MAILHUB, "exam", str(PLUGINS / f"{plugin}.py"), *arguments]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=False, cwd=PLUGINS.parents[1]
        )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert "Exam: " in result.stdout
    if plugin in ("dict_store", "eml_folder", "sql_store"):
        assert "StoreExam: " in result.stdout.replace("SimpleStoreExam", "")
