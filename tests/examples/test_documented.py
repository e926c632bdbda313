"""What the documentation shows: that all of it is run somewhere, and the path of a newcomer, walked."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import threading
import tomllib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from examples.plugins.feed_store import feed_store
from mailhub.api import NO_FLAGS
from mailhub.testing.hubs import Internet
from mailhub.testing.process import BIN, DEADLINE, free_ports, run
from tests.documented import DOCUMENT, ROOT, code_block, code_blocks
from tests.examples.stage import ANN, HELLO, PASSWORD, append, imap
from tests.examples.test_stores import ENTRY
from tests.system.conftest import need

EXAMPLES = ROOT / "examples" / "plugins"
PYTHON = [name for name in code_blocks() if name.endswith(".py")]


def imported(text: str) -> set[str]:
    """The modules of mailhub that a file imports from."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom | ast.Import)]
    names = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes]
    return {name for name in names if name.partition(".")[0] in ("mailhub", "tests", "examples")}


def test_every_block_has_a_name_by_which_it_is_run() -> None:
    text = DOCUMENT.read_text()
    assert text.count(".. code-block::") == len(code_blocks()) == len(re.findall(r"^    :name: ", text, re.MULTILINE))
    tests = "".join(file.read_text() for file in (ROOT / "tests").glob("**/test_*.py"))
    not_run = [
        name
        for name in code_blocks()
        if not (EXAMPLES / name).exists() and not any(f'"{each}"' in tests for each in (name, name.partition(".")[0]))
    ]
    assert not_run == []


@pytest.mark.parametrize("name", [name for name in PYTHON if (EXAMPLES / name).exists()])
def test_an_example_is_shown_as_it_is(name: str) -> None:
    assert code_block(name) == (EXAMPLES / name).read_text()


@pytest.mark.parametrize("text", [*map(code_block, PYTHON), *(path.read_text() for path in EXAMPLES.glob("*.py"))])
def test_plugins_need_one_module_of_ours(text: str) -> None:
    assert {name for name in imported(text) if not name.startswith("mailhub.testing")} <= {"mailhub.api"}


def test_guests_are_told_at_once_of_what_arrives() -> None:
    names: dict[str, object] = {"__name__": "guest_plugin"}
    exec(code_block("guest_plugin.py"), names)
    store, checker = names["guest_store"], names["signature_checker"]
    table = {"type": "guests", "guests": [ANN]}
    with Internet(seed=1) as internet:
        host = internet.hub("xx.example", config={"store": table}, plugins=[store, checker])  # type: ignore[list-item]
        host.add_account(ANN, "correct-horse")
        client = imap(internet, host)
        client.ask(b"c idle\r\n", b"+ ")
        host.hub.store.arrived(ANN, HELLO)  # type: ignore[attr-defined]
        client.expect(b"* 1 EXISTS", seconds=1)
        client.ask(b"done\r\n", b"c OK")
        append(client, "Sent", HELLO, b"z OK")
        client.ask(b"d store 1 +flags (\\Seen)\r\n", b"d OK")
        client.ask(b"e move 1 Junk\r\n", b"e OK")
        mail = host.hub.store.mail[ANN]  # type: ignore[attr-defined]
        assert [[kept.flags for kept in mail[name].values()] for name in ("INBOX", "Sent", "Junk")] == [
            [],
            [NO_FLAGS | {"\\Flagged"}],
            [NO_FLAGS | {"\\Seen"}],
        ]


@pytest.mark.system
def test_the_path_from_an_empty_file_to_mail_in_a_client(tmp_path: Path) -> None:
    need("curl", "mbsync")
    ports = dict(zip(("1025", "1993", "1995"), map(str, free_ports(3)), strict=True))
    place = tmp_path / "try"
    path = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def text(name: str) -> str:
        return re.sub("|".join(ports), lambda found: ports[found[0]], code_block(name))

    def shell(name: str, folder: Path) -> str:
        return run("sh", "-ec", f"cd {folder}\n{text(name)}", env=path).stdout

    assert "ann@xx.example" in shell("begin.sh", tmp_path)
    (place / "plugins" / "dict_store.py").write_text(code_block("dict_store.py"))
    (place / "mailhub.toml").write_text(text("mailhub.toml"))
    (place / "mbsyncrc").write_text(text("mbsyncrc"))
    assert shell("check.sh", place).startswith("ok ")
    assert " 0 not, " in shell("exam.sh", place)
    command = [str(BIN / word) if word == "twistd" else word for word in text("run.sh").split()]
    server = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=path)
    ready = threading.Event()
    said: list[str] = []

    def hear() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            said.append(line)
            if "mailhub is ready" in line:
                ready.set()
        ready.set()

    listener = threading.Thread(target=hear, daemon=True)
    listener.start()
    try:
        assert ready.wait(DEADLINE), said
        assert shell("read.sh", place).count("How are you?") == 2
        shell("sync.sh", place)
        (copied,) = (file for folder in ("new", "cur") for file in (place / "copy" / "INBOX" / folder).iterdir())
        assert "How are you?" in copied.read_text()
    finally:
        server.terminate()
        server.wait(DEADLINE)
        listener.join(DEADLINE)


def test_the_shown_exam_is_passed(tmp_path: Path) -> None:
    for name in ("team_plugin.py", "test_team.py"):
        (tmp_path / name).write_text(code_block(name))
    run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        tmp_path / "test_team.py",
        env={"PYTHONPATH": str(tmp_path)},
    )


def test_a_feed_is_a_folder_beside_all_other_mail(tmp_path: Path) -> None:
    (tmp_path / "feed.xml").write_text(f'<feed xmlns="http://www.w3.org/2005/Atom">{ENTRY.format("news")}</feed>')
    shown = code_block("several_stores.toml").replace("https://www.xx.example", tmp_path.as_uri())
    with Internet(seed=1) as internet:
        host = internet.hub("xx.example", config=tomllib.loads(shown), plugins=[feed_store])
        host.add_account(ANN, "correct-horse")
        host.submit("", [ANN], HELLO)
        client = imap(internet, host, "Feeds")
        assert b"news" in client.ask(b"c fetch 1 body.peek[header]\r\n", b"c OK")
        assert b"COPYUID" in client.ask(b"d copy 1 INBOX\r\n", b"d OK")
        assert [b"Subject: news" in octets for octets in host.inbox(ANN)] == [False, True]


def test_everybody_reads_and_writes_as_the_office() -> None:
    names: dict[str, Any] = {"__name__": "office_realm"}
    exec(code_block("office_realm.py"), names)
    with Internet(seed=1) as internet:
        host = internet.hub("xx.example", ["office"], {"auth": {"realm": "office"}}, [names["office"]])
        host.add_account(ANN, PASSWORD)
        host.submit("", ["office@xx.example"], HELLO)
        assert b"* 1 EXISTS" in imap(internet, host).heard
        sender = internet.call(host, "submissions")
        sender.expect(b"220 ")
        sender.ask(b"EHLO yy.example\r\n", b"250 ")
        sender.ask(b"AUTH PLAIN " + b64encode(f"\0{ANN}\0{PASSWORD}".encode()) + b"\r\n", b"235 ")
        sender.ask(f"MAIL FROM:<{ANN}>\r\n".encode(), b"550 5.7.1 ")
        sender.ask(b"MAIL FROM:<office@xx.example>\r\n", b"250 ")
