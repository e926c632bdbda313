"""APPEND: asked before the message is read, streamed, ended, refused at every moment."""

from __future__ import annotations

from typing import Any

import pytest

from mailhub.message.flags import NO_FLAGS
from mailhub.wire.imap import commands
from mailhub.wire.imap.server import ImapServer
from tests.wire.imap.talk import Talk, settings

BEGUN = commands.Append("a", "x", NO_FLAGS, None, 5)
ENDED = commands.AppendEnd("a")


def refuse(machine: ImapServer, event: Any) -> None:
    machine.no(event.tag, "Sorry", b"TRYCREATE")


def test_a_synchronising_message() -> None:
    talk = Talk().login()
    assert talk.send(b"a APPEND x {5}\r\n") == b"+ OK\r\n"
    assert talk.send(b"he") == b""
    assert talk.send(b"llo") == b""
    assert talk.send(b"\r\n") == b"a OK Completed\r\n"
    assert talk.body == b"hello"
    assert talk.seen() == [BEGUN, ENDED]


def test_a_non_synchronising_message_and_a_command_behind_it() -> None:
    talk = Talk().login()
    assert talk.send(b"a APPEND x {5+}\r\nhello\r\nb NOOP\r\n") == b"a OK Completed\r\nb OK Completed\r\n"
    assert talk.body == b"hello"
    assert talk.seen() == [BEGUN, ENDED, commands.Noop("b")]


def test_the_mailbox_may_be_a_literal_too() -> None:
    talk = Talk().login()
    assert talk.send(b"a APPEND {1}\r\n") == b"+ OK\r\n"
    assert talk.send(b"x {5}\r\n") == b"+ OK\r\n"
    assert talk.send(b"hello\r\n") == b"a OK Completed\r\n"
    assert talk.seen() == [BEGUN, ENDED]


def test_the_message_is_not_asked_for_before_it_is_accepted() -> None:
    talk = Talk().login()
    machine = talk.machine
    machine.receive_data(b"a APPEND x {5}\r\n")
    assert machine.next_event() == BEGUN
    assert machine.data_to_send() == b""
    with pytest.raises(RuntimeError):
        machine.ok("a")
    machine.accept_append()
    assert machine.data_to_send() == b"+ OK\r\n"
    with pytest.raises(RuntimeError):
        machine.accept_append()


def test_refused_at_once_a_synchronising_message_is_never_sent() -> None:
    talk = Talk(answers={commands.Append: refuse}).login()
    assert talk.send(b"a APPEND x {5}\r\n") == b"a NO [TRYCREATE] Sorry\r\n"
    assert talk.send(b"b NOOP\r\n") == b"b OK Completed\r\n"


def test_refused_at_once_a_non_synchronising_message_is_thrown_away() -> None:
    talk = Talk(answers={commands.Append: refuse}).login()
    assert talk.send(b"a APPEND x {10+}\r\nz NOOP\r\n") == b"a NO [TRYCREATE] Sorry\r\n"
    assert talk.send(b"\r\n\r\nb NOOP\r\n") == b"b OK Completed\r\n"
    assert talk.seen() == [commands.Append("a", "x", NO_FLAGS, None, 10), commands.Noop("b")]


@pytest.mark.parametrize("cut", range(1, 6))
def test_refused_on_the_way_the_rest_is_thrown_away(cut: int) -> None:
    def full(machine: ImapServer, event: Any) -> None:
        machine.no("a", "Full", b"OVERQUOTA")

    talk = Talk(answers={commands.BodyChunk: full}).login()
    message = b"z NOP"
    assert talk.send(b"a APPEND x {5+}\r\n" + message[:cut]) == b"a NO [OVERQUOTA] Full\r\n"
    assert talk.send(message[cut:] + b"\r\nb NOOP\r\n") == b"b OK Completed\r\n"
    assert talk.seen() == [BEGUN, commands.Noop("b")]


def test_refused_at_the_end() -> None:
    talk = Talk(answers={commands.AppendEnd: refuse}).login()
    assert talk.send(b"a APPEND x {5+}\r\nhello\r\n") == b"a NO [TRYCREATE] Sorry\r\n"
    assert talk.line("b NOOP") == b"b OK Completed\r\n"


@pytest.mark.parametrize("end", [b" {3+}\r\nabc\r\n", b" x\r\n", b" (\\Seen) {3+}\r\nabc {3+}\r\nabc\r\n", b"x\r\n"])
def test_what_follows_the_message_spoils_it(end: bytes) -> None:
    talk = Talk().login()
    answer = talk.send(b"a APPEND x {5+}\r\nhello" + end + b"b NOOP\r\n")
    assert answer == b"a BAD Unexpected octets after the message\r\nb OK Completed\r\n"
    assert talk.seen() == [BEGUN, commands.AppendAborted("a"), commands.Noop("b")]


def test_blanks_after_the_message_do_not() -> None:
    talk = Talk().login()
    assert talk.send(b"a APPEND x {5+}\r\nhello \r\n") == b"a OK Completed\r\n"


def test_a_message_with_nul_is_refused() -> None:
    talk = Talk().login()
    answer = talk.send(b"a APPEND x {5+}\r\nhe\0lo\r\nb NOOP\r\n")
    assert answer == b"a NO [CANNOT] A message must not have NUL octets\r\nb OK Completed\r\n"
    assert talk.seen() == [BEGUN, commands.AppendAborted("a"), commands.Noop("b")]


def test_size_limits() -> None:
    talk = Talk(settings(message_limit=10)).login()
    assert talk.line("a APPEND x {11}") == b"a NO [TOOBIG] Message is too large\r\n"
    assert talk.line("b APPEND x {0}") == b"b NO [CANNOT] Message is empty\r\n"
    assert talk.send(b"c APPEND x {11+}\r\nz NOOP\r\nz N\r\n") == b"c NO [TOOBIG] Message is too large\r\n"
    assert talk.line("d NOOP") == b"d OK Completed\r\n"
    assert talk.seen() == [commands.Noop("d")]


def test_a_large_message_is_never_held() -> None:
    talk = Talk(settings(literal_limit=10, command_limit=100)).login()
    size = 3_000_000
    talk.send(b"a APPEND x {%d}\r\n" % size)
    for _ in range(size // 50_000):
        talk.send(b"y" * 50_000)
        assert talk.machine.held() == 0
    assert talk.line("") == b"a OK Completed\r\n"
    assert len(talk.body) == size


def test_a_failure_on_the_way_is_answered_and_the_rest_thrown_away() -> None:
    talk = Talk().login()
    talk.send(b"a APPEND x {10+}\r\nz NO")
    talk.machine.internal_error()
    assert talk.send(b"OP\r\n\r\n\r\nb NOOP\r\n") == (
        b"a NO [SERVERBUG] Internal error, please try again later\r\nb OK Completed\r\n"
    )


@pytest.mark.parametrize("arguments", ["x", "x (\\Seen)", "x hello", ""])
def test_without_a_literal_it_is_no_append(arguments: str) -> None:
    talk = Talk().login()
    assert talk.line(f"a APPEND {arguments}").startswith(b"a BAD ")
    assert talk.seen() == []
