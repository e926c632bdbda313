"""The fixture `mailhub`, as somebody uses it who tests an application: pytest run on a file of theirs."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

TESTS = """
import smtplib
import sys
import threading

import pytest


def send(mailhub, recipient, sender="ben@yy.example"):
    with smtplib.SMTP(*mailhub.address("smtp")) as client:
        client.sendmail(sender, [recipient], "Subject: welcome\\r\\n\\r\\nHello\\r\\n")


def test_first(mailhub):
    send(mailhub, mailhub.user)
    assert mailhub.wait_for(1)[0]["Subject"] == "welcome"
    assert where(mailhub)


def test_it_is_cleared(mailhub):
    assert mailhub.messages == []
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(mailhub, "bob@example.test")


@pytest.mark.mailhub(accept_any=True)
def test_any(mailhub):
    send(mailhub, "bob@example.test")
    send(mailhub, "bob@elsewhere.example")
    assert len(mailhub.inbox("bob@example.test")) == len(mailhub.inbox("bob@elsewhere.example")) == 1


@pytest.mark.mailhub(accounts={"eve@example.test": "pass"})
def test_accounts(mailhub):
    with smtplib.SMTP(*mailhub.address("submission")) as client:
        client.login("eve@example.test", "pass")
    thread = threading.Thread(target=send, args=(mailhub, "eve@example.test"))
    thread.start()
    assert mailhub.wait_for(lambda message: message["Subject"] == "welcome", inbox="eve@example.test")
    thread.join()


@pytest.mark.mailhub(accept_any=True)
class TestClass:
    @pytest.mark.mailhub(accept_any=False)
    def test_the_nearest_marker_counts(self, mailhub):
        assert not mailhub.accept_any
"""
IN_A_THREAD = """
def where(mailhub):
    return [thread.name for thread in threading.enumerate()].count("mailhub.testing") == 1
"""
ELSEWHERE = """
def where(mailhub):
    return "twisted.internet.reactor" not in sys.modules or not sys.modules["twisted.internet.reactor"].running
"""


def run(folder: Path, tests: str, *options: str, ini: str = "") -> str:
    (folder / "test_application.py").write_text(textwrap.dedent(tests))
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers\n{ini}")
    command = [sys.executable, "-m", "pytest", "-p", "mailhub.testing.pytest_plugin", "-q", *options, str(folder)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    return result.stdout + result.stderr


def test_in_a_thread_of_the_tests_process(tmp_path: Path) -> None:
    assert "5 passed" in run(tmp_path, TESTS + IN_A_THREAD)


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert "5 passed" in run(tmp_path, TESTS + ELSEWHERE, ini="mailhub_process = true\n")


def test_where_twisteds_reactor_is_somebody_elses(tmp_path: Path) -> None:
    assert "5 passed" in run(tmp_path, "from twisted.internet import reactor\n" + TESTS + ELSEWHERE)


def test_keys_of_the_ini_file(tmp_path: Path) -> None:
    tests = """
    import smtplib

    def test_it(mailhub):
        assert mailhub.accept_any
        mailhub.accept_any = False
        mailhub.add_account("ann@one.example")
        with smtplib.SMTP(*mailhub.address("smtp")) as client:
            client.sendmail("", ["ann@one.example"], "Subject: x\\r\\n\\r\\n")
    """
    ini = "mailhub_accept_any = true\nmailhub_domains = example.test one.example\n"
    assert "1 passed" in run(tmp_path, tests, ini=ini)


def test_what_a_marker_says_and_nobody_hears_is_an_error_of_usage(tmp_path: Path) -> None:
    for written, said in (
        ("accept_al=True", "accept_al: unknown key; did you mean accept_any? known: accept_any, accounts"),
        ("True", "write accept_any=... or accounts=..., not True alone"),
        ("accounts=['ann@example.test']", "accounts: must be a dict of passwords by address"),
    ):
        tests = f"""
        import pytest

        @pytest.mark.mailhub({written})
        def test_it(mailhub):
            pass
        """
        came = run(tmp_path, tests)
        assert f"ERROR: test_application.py::test_it: pytest.mark.mailhub: {said}" in came


def test_mistakes_are_told_in_a_line_without_a_server(tmp_path: Path) -> None:
    tests = """
    import pytest

    @pytest.mark.mailhub(accounts={"bob@other.test": "x"})
    def test_it(mailhub):
        pass
    """
    came = run(tmp_path, tests)
    assert "pytest.mark.mailhub: accounts: bob@other.test: its domain is none of the server's" in came
    assert "Traceback" not in came
    assert "serving.py" not in came
    came = run(tmp_path, tests, ini="mailhub_domains = a.test, b.test\n")
    assert "mailhub_domains of the ini file: 'a.test,' is no domain; write them with spaces between" in came
    assert "serving.py" not in came


def test_mistakes_are_the_same_errors_in_a_thread(tmp_path: Path) -> None:
    tests = """
    import pytest

    def test_it(mailhub):
        for user in ("nonsense", "bob@other.test"):
            with pytest.raises(ValueError, match=user):
                mailhub.add_account(user)
    """
    assert "1 passed" in run(tmp_path, tests)


def test_who_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    tests = """
    import sys

    def test_it():
        assert sys.modules.keys().isdisjoint({"twisted", "zope", "attrs", "cryptography"})
        assert {name for name in sys.modules if name.startswith("mailhub")} == {
            "mailhub", "mailhub.testing", "mailhub.testing.pytest_plugin"
        }
    """
    assert "1 passed" in run(tmp_path, tests)


def test_pytest_finds_it_by_its_entry_point() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["options.entry_points"]["pytest11"].strip() == "mailhub = mailhub.testing.pytest_plugin"
    assert "pytest" in setup["options.extras_require"]["testing"]
