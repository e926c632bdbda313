"""What came from outside is escaped in every log line, whoever writes it."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogPublisher, textFileLogObserver
from twisted.logger._legacy import publishToNewObserver
from twisted.python.log import textFromEventDict

from mailhub.log import FIELD_LIMIT, Logger, escape_others, escaped, sentence, word

PACKAGE = Path(__file__).resolve().parent.parent / "mailhub"
STRANGER = '"authentication failed: x peer=[203.0.113.9]"@example.test'
FORGED = '"a> status=2.0.0 id=FAKE to=<x"@example.test'


class Log:
    """A log file in memory, as twistd writes it."""

    def __init__(self) -> None:
        self._file = io.StringIO()
        publisher = LogPublisher(textFileLogObserver(self._file))
        self.logger = Logger(namespace="mailhub.test", observer=publisher)

    @property
    def text(self) -> str:
        return self._file.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bounces+a=b.example@lists.example", "bounces+a=b.example@lists.example"),
        ("2001:db8::1%eth0", "2001:db8::1%eth0"),
        ("", ""),
        ("пётр@почта.example", "пётр@почта.example"),
        ("a b", r"a\x20b"),
        ("a=b c=d", r"a\x3db\x20c\x3dd"),
        ("<[\"']>\\", r"\x3c\x5b\x22\x27\x5d\x3e\x5c"),
        ("a\r\nb\t\x00\x1b[31m", r"a\x0d\x0ab\x09\x00\x1b\x5b31m"),
        ("\u202e\u2066\u200b\ufeff\u00ad", r"\u202e\u2066\u200b\ufeff\xad"),
        ("\u2028\u00a0\u3000\u3164\ufe0f\udc80", r"\u2028\xa0\u3000\u3164\ufe0f\udc80"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_a_word_has_nothing_that_could_be_taken_for_something_else(text: str, shown: str) -> None:
    assert word(text) == shown


def test_a_sentence_neither_begins_a_field_nor_ends_its_quotes() -> None:
    assert sentence("550 no 'x'\r\n id=FAKE [1]") == r"550 no \x27x\x27\x0d\x0a id\x3dFAKE [1]"


def test_a_field_is_bounded() -> None:
    assert word("a" * 5000) == "a" * FIELD_LIMIT + "..."
    assert len(escaped("\U000e0041" * 5000)) == FIELD_LIMIT * 10 + 3


@given(st.text(), st.text())
def test_a_word_is_one_printable_word_and_says_which_text_it_was(one: str, other: str) -> None:
    shown = word(one)
    assert shown == "" or shown.split() == [shown]
    assert shown.isprintable()
    assert not set(shown) & set("<>[]\"'")
    assert one == other or shown != word(other) or max(len(one), len(other)) > FIELD_LIMIT


def test_every_field_of_a_format_is_escaped_by_itself() -> None:
    log = Log()
    log.logger.warn(
        "x: to=<{to}> reply={reply!r} ({why:text}) n={n}",
        to=FORGED,
        reply=b"ok'\r\n id=FAKE",
        why=ValueError("y\n\u202ez"),
        n=7,
    )
    (line,) = log.text.splitlines()
    assert line.endswith(
        r"x: to=<\x22a\x3e\x20status\x3d2.0.0\x20id\x3dFAKE\x20to\x3d\x3cx\x22@example.test> "
        r"reply='ok\x27\x0d\x0a id\x3dFAKE' (y\x0a\u202ez) n=7"
    )


def test_an_event_is_a_line_of_escaped_fields() -> None:
    log = Log()
    log.logger.event("refused", {"peer": "192.0.2.1", "to": STRANGER, "size": 12, "reply": "No peer=[x]\n"})
    (line,) = log.text.splitlines()
    assert line.endswith(
        r"[mailhub.test#info] refused: peer=[192.0.2.1] "
        r"to=<\x22authentication\x20failed:\x20x\x20peer\x3d\x5b203.0.113.9\x5d\x22@example.test> "
        r"size=12 reply='No peer\x3d[x]\x0a'"
    )


def test_lines_that_differ_in_some_fields_are_those_of_single_events() -> None:
    one, together = Log(), Log()
    fields = {"session": "50%s", "from": STRANGER, "to": "", "agent": "%", "reply": "No %(x)s\n"}
    rows = [("a@xx.example", "b"), (FORGED, "100% <x>"), ("ann%d@xx.example", "")]
    for to, agent in rows:
        one.logger.event("delivered", {**fields, "to": to, "agent": agent})
    together.logger.events("delivered", fields, ("to", "agent"), rows)
    assert [line[25:] for line in together.text.splitlines()] == [line[25:] for line in one.text.splitlines()]


def test_what_cannot_be_printed_costs_no_line() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    log = Log()
    log.logger.info("x={x}", x=Broken())
    assert log.text.endswith("x=unprintable-Broken\n")


def test_a_traceback_is_safe_to_print() -> None:
    log = Log()
    try:
        raise ValueError("\x1b[2J\u202e peer=[203.0.113.9]\n2026-11-28T21:40:37+0000 [mailhub.auth#warn] x")
    except ValueError:
        log.logger.failure("handler failed: session={session}", session="a b")
    first, *others = log.text.splitlines()
    assert first.endswith(r"handler failed: session=a\x20b")
    assert others
    assert all(line.startswith("\t") for line in others), "nothing but a real event starts a line"
    assert not re.search("[\x1b\u202e]", log.text)
    assert r"\x1b[2J\u202e" in log.text


def test_tracebacks_of_others_are_escaped_as_well() -> None:
    file = io.StringIO()
    publisher = LogPublisher(escape_others, textFileLogObserver(file))
    for _ in range(2):
        try:
            raise ValueError("\x1b[2J\u202e")
        except ValueError:
            TwistedLogger(namespace="twisted.x", observer=publisher).failure("Unhandled error in Deferred")
    assert r"\x1b[2J\u202e" in file.getvalue()
    assert not re.search("[\x1b\u202e]", file.getvalue())


@pytest.mark.parametrize("log", ["new", "old"])
def test_what_a_plugin_logs_with_a_logger_of_twisted_is_escaped_as_well(log: str) -> None:
    file = io.StringIO()
    publisher = LogPublisher(escape_others, textFileLogObserver(file))
    said = "a\x00b\x1b[1A\x85\u2028\u202e{x}\r\n2026-11-28T21:40:37+0000 [mailhub.auth#warn] x"
    if log == "new":
        TwistedLogger(namespace="plugin", observer=publisher).warn("said {said}", said=said)
    else:
        publishToNewObserver(
            publisher, {"message": (said,), "isError": 0, "system": "-", "time": 0.0}, textFromEventDict
        )
    first, second = file.getvalue().splitlines()
    assert first.endswith(r"a\x00b\x1b[1A\x85\u2028\u202e{x}\x0d")
    assert second == "\t2026-11-28T21:40:37+0000 [mailhub.auth#warn] x"


# --- The source ------------------------------------------------------------------------------------------------------

_LEVELS = {"debug", "info", "warn", "error", "critical", "failure", "event"}


def _sources() -> dict[str, ast.Module]:
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def test_every_module_logs_with_this_logger() -> None:
    for name, tree in _sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and name != "log.py":
                names = {alias.name for alias in node.names}
                assert not (node.module == "twisted.logger" and "Logger" in names), name
                assert node.module != "twisted.python.log", name
                assert not (node.module == "twisted.python" and "log" in names), name


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_constant(node.body) and _is_constant(node.orelse)
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def test_formats_are_constants() -> None:
    calls = 0
    for name, tree in _sources().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS):
                continue
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id in ("log", "_log")):
                continue
            calls += 1
            what = node.args[0]
            assert _is_constant(what) or (node.func.attr == "event" and isinstance(what, ast.Subscript)), (
                f"{name}:{node.lineno}"
            )
    assert calls > 40
