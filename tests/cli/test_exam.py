"""`mailhub exam`: what it says of plugins that are good, bad, and none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mailhub.testing.exam import command

MAILHUB = Path(sys.executable).with_name("mailhub")

GOOD = """
import attrs
from mailhub.api import Component, SimpleStore

@attrs.frozen
class Options:
    users: tuple[str, ...]
    words: str = "Hello"

class Store(SimpleStore):
    def users(self):
        return self.options.users
    def messages(self, user, folder):
        return [1]
    def read(self, user, folder, key):
        return b"Subject: a\\r\\n\\r\\n" + self.options.words.encode() + b"\\r\\n"

store = Component("store", "good", Store, Options)
"""
BAD = """
from mailhub.api import Component, Screen, Verdict

class Careless(Screen):
    def begin(self, origin):
        return self
    def mail(self, transaction):
        return Verdict("reject") if transaction.mail.reverse_path.ascii_domain == "a.example" else Verdict()

careless = Component("policy", "careless", lambda options, hub: Careless())
"""


def exam(folder: Path, text: str, *words: str) -> tuple[int, str, str]:
    (folder / "plugin.py").write_text(textwrap.dedent(text))
    result = subprocess.run(
        [MAILHUB, "exam", "plugin.py", *words], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    return result.returncode, result.stdout, result.stderr


def test_a_good_store_is_told_so(tmp_path: Path) -> None:
    status, out, err = exam(tmp_path, GOOD, "--option", 'users=["ann@xx.example"]', "--option", "words=How are you?")
    assert (status, err) == (0, "")
    assert "store good: SimpleStoreExam: 8 questions answered as the contract says, 0 not, 7 not asked" in out
    assert "store good: StoreExam: 14 questions answered as the contract says, 0 not," in out
    assert len(out.splitlines()) == 2


def test_a_bad_policy_is_told_by_question_and_contract(tmp_path: Path) -> None:
    status, out, err = exam(tmp_path, BAD, "-v")
    assert (status, err) == (1, "")
    (line,) = [line for line in out.splitlines() if "FAILED" in line]
    assert line.startswith(
        "policy careless: FAILED test_every_moment_has_a_verdict: IScreen.mail() may raise a MailError"
    )
    assert "the null reverse-path" in line
    assert line.endswith(
        "[IScreen: hello(), login(), mail(), recipient() and message() give a Verdict, for any client and envelope.]"
    )
    assert "policy careless: good test_any_recipient_has_a_verdict" in out
    assert out.splitlines()[-1].endswith("8 questions answered as the contract says, 1 not, 0 not asked")


def test_questions_can_be_chosen(tmp_path: Path) -> None:
    status, out, _ = exam(tmp_path, BAD, "--question", "any_recipient")
    assert (status, out.splitlines()[-1].partition("Exam: ")[2]) == (
        0,
        "1 questions answered as the contract says, 0 not, 0 not asked",
    )


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (GOOD, (), "[store.good] users: is missing"),
        (GOOD, ("--option", "user=1"), "user"),
        (GOOD, ("--component", "other"), "plugin.py has no component called other; it has good"),
        (GOOD, ("--option", "users"), "--option users: write KEY=VALUE"),
        (GOOD, ("--option", "users=[]", "--switch", "has_folder=false"), "there is no switch has_folder; there are"),
        (
            GOOD + 'other = Component("rule", "other", lambda options, hub: None)\n',
            (),
            "users: is missing; the file has good, other: --component NAME asks one alone",
        ),
        ("", (), "plugin.py has no component"),
        ("1 / 0", (), "plugin.py cannot be run: ZeroDivisionError: division by zero ("),
        ("raise SystemExit(3)", (), "plugin.py cannot be run: SystemExit(3)"),
        ("def", (), "plugin.py cannot be run: SyntaxError"),
        (BAD.replace('"policy"', '"service"'), (), "there is no exam for a service here"),
        (BAD.replace('"policy"', '"polices"'), (), "kind must not be 'polices'"),
        (BAD.replace("Careless())", "1 / 0)"), (), "ZeroDivisionError"),
        (BAD.replace("Careless())", "exit(3))"), (), "SystemExit"),
    ],
)
def test_what_cannot_be_examined_is_told_in_one_line(
    text: str, words: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    status, out, err = exam(tmp_path, text, *words)
    assert (status, out) == (1, "")
    assert line in err
    assert len(err.splitlines()) == 1


def test_a_store_that_raises_is_told_by_question(tmp_path: Path) -> None:
    status, out, err = exam(
        tmp_path, GOOD.replace("return self.options.users", "return {}['x']"), "--option", "users=[]"
    )
    assert (status, err) == (1, "")
    assert (
        "FAILED test_users_are_addresses: SimpleStore.users() may raise a MailError and nothing else; it raised" in out
    )


def test_a_store_of_nobody_is_told_in_one_line(tmp_path: Path) -> None:
    status, out, _ = exam(tmp_path, GOOD, "--option", "users=[]")
    assert status == 1
    (line,) = [line for line in out.splitlines() if "FAILED" in line]
    assert "SimpleStore.users() must give somebody who has mail here" in line


def test_an_agent_that_needs_a_target_is_not_asked_without(tmp_path: Path) -> None:
    for name in ("webhook", "pipe"):
        text = (Path(__file__).parents[2] / "examples" / "plugins" / f"{name}_agent.py").read_text()
        status, out, _ = exam(tmp_path, text, "-v")
        assert (status, "FAILED" in out) == (0, False), out
        assert "not asked test_any_message_has_an_outcome: it needs a target, named by --target" in out
        assert "questions answered as the contract says, 0 not, 6 not asked" in out or "7 not asked" in out


def test_an_agent_that_cannot_deliver_to_the_target_is_not_asked(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "examples" / "plugins" / "pipe_agent.py").read_text()
    status, out, _ = exam(tmp_path, text, "-v", "--target", "/nonexistent/program")
    assert (status, "FAILED" in out) == (0, False), out
    assert "not asked test_any_message_has_an_outcome: it does not deliver to the target /nonexistent/program" in out


def test_an_agent_that_pipes_into_a_program_is_examined_with_a_real_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "examples" / "plugins" / "pipe_agent.py").read_text()
    status, out, _ = exam(tmp_path, text, "-v", "--target", "/bin/true")
    assert (status, "not asked" in out.splitlines()[0], "FAILED" in out) == (0, False, False), out
    assert "7 questions answered as the contract says, 0 not, 0 not asked" in out


@pytest.mark.parametrize("line", ["time.sleep(100)", "threading.Event().wait()"])
def test_what_blocks_is_told_by_file_and_line(line: str, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(f"import threading, time\ndef slow():\n    {line}\n")
    scope: dict[str, Any] = {}
    exec(compile(plugin.read_text(), str(plugin), "exec"), scope)
    with pytest.raises(AssertionError, match=f"{plugin} line 3 blocks"), command._bounded(str(plugin), 0.01):
        scope["slow"]()


LEAVES = """
import tempfile
from mailhub.api import Component

tempfile.mkdtemp()

class Rule:
    def apply(self, account, mail, message):
        {apply}

rule = Component("rule", "leaves", lambda options, hub: Rule())
"""


@pytest.mark.parametrize("apply", ["return None", "1 / 0", "import os; os._exit(3)"])
def test_nothing_stays_in_the_folder_for_temporary_files(apply: str, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "plugin.py").write_text(LEAVES.format(apply=apply))
    subprocess.run(
        [MAILHUB, "exam", "plugin.py"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_nothing_stays_where_it_is_interrupted(number: int, status: int, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    text = LEAVES.format(apply="print('begun', flush=True); import time; time.sleep(100)")
    (tmp_path / "plugin.py").write_text(text)
    with subprocess.Popen(
        [MAILHUB, "exam", "plugin.py"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert list(scratch.iterdir())
        process.send_signal(number)
        assert process.wait(100) == status
    assert list(scratch.iterdir()) == []


def test_a_module_of_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "twisted" / "plugins"
    folder.mkdir(parents=True)
    (folder / "my_policy.py").write_text(BAD)
    for name, line in (
        ("twisted.plugins.my_policy", "careless: FAILED"),
        ("twisted.plugins.other", "there is no module"),
    ):
        result = subprocess.run(
            [MAILHUB, "exam", name],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert result.returncode == 1
        assert line in result.stdout + result.stderr


def test_what_waits_for_the_reactor_has_it(tmp_path: Path) -> None:
    text = """
    from twisted.internet.threads import deferToThread
    from mailhub.api import Component

    class Rule:
        def apply(self, account, mail, message):
            return deferToThread(lambda: None)

    rule = Component("rule", "threads", lambda options, hub: Rule())
    """
    status, out, err = exam(tmp_path, text)
    assert (status, err) == (0, ""), out


def test_a_full_store_is_asked_what_it_has(tmp_path: Path) -> None:
    text = """
    from mailhub.api import Component
    from mailhub.store.memory import MemoryDatabase

    full = Component("store", "full", lambda options, hub: MemoryDatabase(hub.environment).store)
    """
    status, out, err = exam(tmp_path, text, "--switch", "has_quota=false")
    assert (status, err) == (0, ""), out
    assert "store full: StoreExam: 5" in out
