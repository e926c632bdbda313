"""Whose turn it is: clients that do not wait for it, and refused commands whose answers may be held back."""

from __future__ import annotations

import pytest

from mailhub.wire.smtp.events import BadCommand, BodyEnd, DataStart, Hello, MailFrom, RcptTo
from mailhub.wire.smtp.extensions import COMPLETE, SmtpSettings
from mailhub.wire.smtp.server import SmtpServer


def machine(*, greeted: bool = True, extensions: frozenset[str] = COMPLETE, free: int = 1_000_000) -> SmtpServer:
    settings = SmtpSettings("mx.xx.example", "xx.example", extensions=extensions, free_bad_commands=free)
    made = SmtpServer(settings)
    if greeted:
        made.greet()
    return made


def feed(made: SmtpServer, *packets: bytes) -> SmtpServer:
    """What comes in each packet is answered before the next one comes."""
    for packet in packets:
        made.receive_data(packet)
        while (event := made.next_event()) is not None:
            if isinstance(event, BodyEnd | Hello | MailFrom | RcptTo | DataStart):
                made.accept()
    return made


MAIL = b"MAIL FROM:<a@yy.example>\r\n"
RCPT = b"RCPT TO:<b@xx.example>\r\n"


@pytest.mark.parametrize(
    ("packets", "early"),
    [
        ([b"EHLO c.example\r\n"], False),
        ([b"EHLO c.ex", b"ample\r\n"], False),
        ([b"EHLO c.example\r\n", MAIL + RCPT + b"DATA\r\n", b"x\r\n.\r\n" + MAIL], False),
        ([b"EHLO c.example\r\n", MAIL + RCPT + b"DATA\r\n", b"x\r\n.\r\nQUIT\r\n"], False),
        ([b"EHLO c.example\r\n", b"NOOP\r\nRSET\r\nNOOP\r\n"], False),
        ([b"EHLO c.example\r\n" + MAIL], True),
        ([b"HELO c.example\r\nM"], True),
        ([b"HELO c.example\r\n", MAIL + RCPT], True),
        ([b"HELO c.example\r\n", MAIL, RCPT, b"DATA\r\n", b"x\r\n.\r\n"], False),
        ([b"EHLO c.example\r\n", MAIL + RCPT + b"DATA\r\nx\r\n.\r\n"], True),
        # What is refused has another answer, and is not judged.
        ([b"DATA\r\nDATA\r\n"], False),
    ],
)
def test_who_does_not_wait_is_known(packets: list[bytes], early: bool) -> None:
    assert feed(machine(), *packets).early is early


def test_what_comes_before_the_greeting_is_early() -> None:
    made = machine(greeted=False)
    made.receive_data(b"EHLO c.example\r\n")
    made.greet()
    assert feed(made).early


def test_commands_in_a_packet_are_early_where_pipelining_is_not_offered() -> None:
    made = machine(extensions=COMPLETE - {"PIPELINING"})
    assert not feed(made, b"EHLO c.example\r\n", MAIL).early
    assert feed(made, RCPT + RCPT).early


def test_the_answers_to_bad_commands_wait_after_the_first_ones() -> None:
    made = machine(free=2)
    made.data_to_send()
    made.receive_data(b"ONE\r\nTWO\r\nTHREE\r\nNOOP\r\n")
    event = made.next_event()
    assert isinstance(event, BadCommand)
    assert event.count == 3
    assert made.data_to_send().count(b"500 ") == 2
    made.accept()
    assert made.next_event() is None
    assert made.data_to_send().split(b"\r\n")[0].startswith(b"500 5.5.1")


def test_the_last_bad_command_ends_the_session_whenever_it_is_answered() -> None:
    made = machine(free=0)
    for number in range(20):
        made.receive_data(b"ODD\r\n")
        assert isinstance(made.next_event(), BadCommand)
        assert not made.closing
        made.accept()
        assert made.closing is (number == 19)
    assert b"421 4.7.0 Too many errors" in made.data_to_send()
