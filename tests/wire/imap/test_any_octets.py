"""Properties of the whole machine: how octets are split never matters, and no octets break it or make it grow."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.wire.imap import commands
from mailhub.wire.imap.server import ImapServer
from tests.wire.imap import talk
from tests.wire.imap.talk import Talk

_SMALL = talk.settings(
    secure=False,
    starttls=True,
    plaintext_login=True,
    line_limit=200,
    unauthenticated_line_limit=150,
    literal_limit=60,
    unauthenticated_literal_limit=40,
    command_limit=300,
    unauthenticated_command_limit=200,
    literal_count_limit=4,
    message_limit=100,
    discard_limit=200,
    bad_command_limit=30,
)

_SESSION = b"".join(
    [
        b"1 CAPABILITY\r\n2 SELECT x\r\n3 LOGIN {3+}\r\njoe {6+}\r\nsecret\r\n",
        b"4 ID NIL\r\n5 SELECT {1}\r\nx\r\n6 FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (From {2+}\r\nTo)])\r\n",
        b"7 APPEND x (\\Seen) {26+}\r\nFrom: a\r\n\r\n8 DELETE x\r\n..\r\n9 SEARCH OR BODY {4+}\r\n{1}\r SEEN\r\n",
        b"10 IDLE\r\nDONE\r\n11 IDLE\r\n12 NOOP\r\n13 APPEND x {7+}\r\n1234567 oops\r\n14 CREATE {70+}\r\n",
        b"15 DELETE x\r\n" * 5 + b"xxxxx {3+}\r\nabc\r\n16 APPEND x {101+}\r\n" + b"z" * 101 + b"\r\n",
        b"17 STORE 1 +FLAGS (a)\r\n18 NOOP\n19 UID MOVE 1 y\r\n20 APPEND x {5}\r\nabcde\r\n",
        b"21 FOO\r\n\r\n22 LOGOUT\r\n23 NOOP\r\n",
    ]
)


def _pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(octets), *(cut % (len(octets) + 1) for cut in cuts)})
    return [octets[start:end] for start, end in pairwise(places)]


def _transcript(pieces: list[bytes]) -> tuple[list[commands.Event], bytes, bytes]:
    connection = Talk(_SMALL)
    answers = b"".join(connection.send(piece) for piece in pieces)
    return connection.seen(), connection.body, answers


def test_the_session_has_something_of_everything() -> None:
    events, body, answers = _transcript([_SESSION])
    kinds = {type(event) for event in events}
    assert {commands.Fetch, commands.AppendAborted, commands.IdleDone, commands.Move, commands.Logout} <= kinds
    assert b"8 DELETE x" in body
    assert commands.Delete not in kinds
    for wanted in (b"[TOOBIG]", b"BAD Expected DONE", b"BAD Unknown command", b"BYE Logging out"):
        assert wanted in answers


def test_octet_by_octet() -> None:
    assert _transcript([bytes([octet]) for octet in _SESSION]) == _transcript([_SESSION])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, len(_SESSION)), max_size=30))
def test_any_split_gives_the_same_events_and_answers(cuts: list[int]) -> None:
    assert _transcript(_pieces(_SESSION, cuts)) == _transcript([_SESSION])


_WORDS = b"""
    a b SELECT EXAMINE LOGIN AUTHENTICATE PLAIN LOGIN APPEND FETCH UID SEARCH STORE COPY LIST LSUB
    STATUS IDLE DONE NOOP ENABLE ID CREATE RENAME STARTTLS LOGOUT joe secret x INBOX &AOk- & NIL ( )
    () (( )) [ ] BODY[ BODY[] BODY.PEEK[1.2.MIME] <0.1> 1:* 1 * , 0 OR NOT CHARSET UTF-8 FROM
    KEYWORD ON 1-Feb-2024 +FLAGS.SILENT (\\Seen) \\Seen (MESSAGES) RETURN "" "a "\\" % =
    AGpvZQBzZWNyZXQ= {0} {1} {2+} {5+} {50+} {61+} {150} {300+} {99999999999999999999+} ~{1} {
""".split()
_NOISE = st.one_of(
    st.sampled_from(_WORDS),
    st.sampled_from(
        [b" ", b" ", b" ", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\0", b"{5+}\r\n", b"{3}\r\n", b"\xff"]
    ),
    st.binary(max_size=4),
    st.builds(bytes, st.integers(0, 300)),
)


def _moody(mood: int) -> dict[type, talk.Answer]:
    """A handler that agrees, refuses, or fails, as it likes."""
    seen = [mood]

    def answer(machine: ImapServer, event: Any) -> None:
        seen[0] = seen[0] * 1103515245 + 12345 & 0x7FFFFFFF
        turn = seen[0] >> 16 & 7
        if turn == 0:
            machine.internal_error()
        elif turn == 1 and isinstance(event, commands.Command) and not isinstance(event, commands.Idle):
            machine.no(event.tag, "Sorry")
        else:
            talk.agree(machine, event)
            if isinstance(event, commands.StartTls):
                machine.data_to_send()
                machine.tls_started()

    kinds = [kind for kind in vars(commands).values() if isinstance(kind, type) and attrs.has(kind)]
    return dict.fromkeys(kinds, answer)


@settings(deadline=None, max_examples=250)
@given(
    st.lists(st.lists(_NOISE, max_size=12).map(b"".join), max_size=12), st.integers(0, 5000), st.sampled_from([0, 1, 2])
)
def test_no_octets_break_it_or_make_it_grow(pieces: list[bytes], mood: int, depth: int) -> None:
    connection = Talk(_SMALL, _moody(mood) if mood % 3 else None)
    if depth:
        connection.send(b"L LOGIN joe secret\r\n")
    if depth == 2:
        connection.send(b"S SELECT x\r\n")
    for piece in pieces:
        answer = connection.send(piece)
        assert all(line.startswith((b"*", b"+")) or b" " in line for line in answer.split(b"\r\n")[:-1])
        # What was just received, one unfinished line, and one command with a literal.
        machine = connection.machine
        assert machine.held() <= _SMALL.command_limit + _SMALL.line_limit + _SMALL.literal_limit
    if not connection.machine.closing:
        connection.machine.bye("Enough")
    assert connection.machine.held() == 0


@pytest.mark.parametrize(
    "octets",
    [
        b"(" * 60_000,
        b"a SEARCH " + b"(" * 60_000,
        b"a SEARCH " + b"NOT " * 15_000,
        b"a FETCH 1 (" + b"BODY[" * 12_000,
        b"a FETCH " + b"1:*," * 16_000 + b"1 FLAGS",
        b'a LIST "" ' + b"%*" * 30_000,
        b"a CREATE " + b"a/" * 30_000,
        b"a CREATE " + b"&AOk-" * 13_000,
        b'a CREATE "' + b'\\"' * 30_000,
        b"a STORE 1 FLAGS (" + b"x " * 30_000,
        b"a ID (" + b'"a" "b" ' * 8_000,
        b"a " + b"{" * 60_000,
        b"a " + b"{1" * 30_000 + b"}",
    ],
)
def test_a_long_line_costs_no_more_than_its_length(octets: bytes) -> None:
    # Nothing here may recurse or backtrack: the test would not end, or end in RecursionError.
    connection = Talk().select()
    assert connection.send(octets + b"\r\n").startswith((b"a BAD", b"* BAD", b"a NO", b"a OK"))
    assert connection.line("b NOOP") == b"b OK Completed\r\n"
