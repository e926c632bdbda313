"""What must not end a session that is right, and what must: slips over weeks, and large commands before login."""

from __future__ import annotations

import pytest

from mailhub.wire.budget import Budget
from mailhub.wire.imap import commands
from mailhub.wire.imap.server_settings import ImapSettings
from tests.wire.imap.talk import Talk, settings

LIMIT = ImapSettings("mx.example").bad_command_limit


def test_slips_that_are_far_apart_do_not_end_a_session() -> None:
    talk = Talk().login()
    for _ in range(3 * LIMIT):
        assert b"BYE" not in talk.send(b"a FOO\r\n")
        assert talk.send(b"b NOOP\r\n") == b"b OK Completed\r\n"
    assert not talk.machine.closing


def test_a_client_out_of_control_is_still_ended() -> None:
    talk = Talk().login()
    talk.send(b"b NOOP\r\n" * 1000)
    answer = talk.send(b"a FOO\r\n" * 2 * LIMIT)
    assert answer.count(b"BAD") == LIMIT
    assert answer.endswith(b"* BYE Too many bad commands\r\n")


def test_mostly_bad_commands_end_a_session_too() -> None:
    talk = Talk().login()
    assert b"BYE" in talk.send(b"a FOO\r\nb FOO\r\nc NOOP\r\n" * (LIMIT + 1))


def test_before_login_nothing_is_made_up_for() -> None:
    talk = Talk()
    assert b"BYE" in talk.send(b"a FOO\r\nb NOOP\r\n" * 10)


def quoted(octets: bytes) -> bytes:
    return b'"' + octets.replace(b"\\", b"\\\\") + b'"'


def literal(octets: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(octets), octets)


@pytest.mark.parametrize("write", [quoted, literal])
@pytest.mark.parametrize("value", [b"v" * 1024, b"\\" * 1024])
def test_the_largest_id_there_is_passes_before_login(write: object, value: bytes) -> None:
    """RFC 2971 3.3: 30 pairs, names of 30 octets, values of 1024."""
    assert callable(write)
    talk = Talk()
    names = [b"%030d" % number for number in range(30)]
    words = b" ".join(write(name) + b" " + write(value) for name in names)
    assert talk.send(b"a ID (" + words + b")\r\n").endswith(b"a OK Completed\r\n")
    (event,) = talk.seen()
    assert isinstance(event, commands.Identified)
    assert len(event.fields) == 30
    assert {text for _, text in event.fields} == {value.decode()}


def test_large_commands_before_login_share_a_budget() -> None:
    budget = Budget(20_000)
    half = b"a ID (" + b"x" * 18_000
    first, second, third = (Talk(budget=budget) for _ in range(3))
    assert first.send(half) == b""
    assert budget.left == 20_000 - (len(half) - settings().unauthenticated_share)
    assert second.send(half) == b""
    assert third.send(half) == b"* BYE [UNAVAILABLE] Too busy for commands of this size before login\r\n"
    small = Talk(budget=budget)
    assert small.send(b"a ID (" + b"x" * 8000) == b""
    first.send(b"\r\n")
    assert budget.left == 20_000 - (len(half) - settings().unauthenticated_share)
    second.machine.disconnected()
    assert budget.left == 20_000


def test_after_login_nothing_is_taken_from_the_budget() -> None:
    budget = Budget(20_000)
    talk = Talk(budget=budget).login()
    talk.send(b"a SEARCH TEXT " + b"x" * 30_000)
    assert budget.left == 20_000
