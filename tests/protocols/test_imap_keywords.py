"""Keywords without end: a user who makes them up gets NO [LIMIT], and neither memory nor disk fills."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from mailhub.message import flags
from mailhub.message.flags import KEYWORD_LIMIT
from mailhub.wire.imap.view import FORM_LIMIT, _Forms
from tests.protocols.imap_rig import Server, result

LONG = [f"{number:x}".rjust(KEYWORD_LIMIT, "k") for number in range(20_000)]


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
@pytest.mark.parametrize("command", ["STORE {} +FLAGS ({})", "STORE 1:* +FLAGS ({1})", "STORE 1:* FLAGS.SILENT ({1})"])
def test_new_keywords_without_end_cost_little(command: str, backend: str, tmp_path: Path) -> None:
    server = Server(messages=(b"\r\n",) * 50, folder=tmp_path if backend == "sqlite" else None)
    client = server.login("INBOX")
    tracemalloc.start()
    answers = []
    for start in range(0, 8000, 40):
        words = " ".join(LONG[start : start + 40])
        answers.append(client.send(f"a {command.format(start // 40 % 50 + 1, words)}\r\n".encode()))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert b"a OK" in answers[0]
    refused = sum(answer.startswith(b"a NO [LIMIT] ") for answer in answers)
    assert refused > 190 or "+" not in command
    assert held < 3_000_000
    assert sum(map(len, answers)) < 1_000_000


def test_what_a_mailbox_takes_is_told() -> None:
    server = Server(messages=(b"\r\n",) * 5)
    client = server.login("INBOX")
    for number in range(1, 5):
        words = " ".join(LONG[50 * number : 50 * number + 50])
        answer = client.send(f"a STORE {number} +FLAGS.SILENT ({words})\r\n".encode())
        assert answer.endswith(b"a OK Completed\r\n")
        assert (b" \\*)]" in answer) is (number < 4)
    assert client.send(b"b STORE 5 +FLAGS (one-more)\r\n") == (
        b"b NO [LIMIT] A mailbox has 200 different keywords at most\r\n"
    )
    assert client.send(b"c APPEND INBOX (one-more) {3+}\r\nx\r\n\r\n").startswith(b"c NO [LIMIT] ")
    assert b"c OK" in client.send(f"c STORE 5 +FLAGS.SILENT ({LONG[50]} \\Seen)\r\n".encode())
    assert b"\\*)]" not in server.login().send(b"d SELECT INBOX\r\n")
    assert client.send(b"e STORE 1 FLAGS.SILENT ()\r\n") == b"e OK Completed\r\n"
    assert b"f OK" in client.send(b"f STORE 5 +FLAGS.SILENT (one-more)\r\n")
    assert client.send(b"g COPY 2:4 Trash\r\n").startswith(b"g OK")


@pytest.mark.parametrize(
    "command",
    [
        b"STORE 1 +FLAGS (%b)" % b" ".join(b"k%d" % number for number in range(65)),
        b"STORE 1 FLAGS (%b)" % b" ".join(b"k%d" % number for number in range(101)),
        b"STORE 1 +FLAGS (%b)" % (b"k" * (KEYWORD_LIMIT + 1)),
        b"APPEND INBOX (%b) {3+}\r\nx\r\n" % b" ".join(b"k%d" % number for number in range(65)),
        b"APPEND INBOX (%b) {3}" % (b"k" * (KEYWORD_LIMIT + 1)),
    ],
)
def test_more_than_a_message_takes_is_refused_and_nothing_changed(command: bytes) -> None:
    server = Server()
    client = server.login("INBOX")
    answer = client.send(b"a " + command + b"\r\n")
    assert answer.startswith(b"a NO [LIMIT] ")
    assert b"BYE" not in answer
    assert client.send(b"b STORE 1 +FLAGS.SILENT (\\Answered)\r\n") == b"b OK Completed\r\n"
    assert next(entry.flags for entry in result(server.mailbox().entries())) == {"\\Seen", "\\Answered"}


def test_caches_of_flags_keep_no_large_sets() -> None:
    sizes = [cache.cache_info().currsize for cache in (flags._encode, flags.decode_short, flags._render)]
    for start in range(0, 2000, 20):
        large = frozenset(LONG[start : start + 20])
        assert flags.decode(flags.encode(large)) == large
        assert flags.render(large).count(b" ") == 19
    assert [cache.cache_info().currsize for cache in (flags._encode, flags.decode_short, flags._render)] == sizes
    decoder = flags.Decoder()
    text = flags.encode(frozenset(LONG[:20]))
    assert decoder(text) is decoder(text + "")
    forms = _Forms()
    for number in range(5000):
        assert forms[frozenset({LONG[number]})] == b"(%b)" % LONG[number].encode()
    assert sum(map(len, forms.values())) <= FORM_LIMIT
