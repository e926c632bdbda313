"""The console of Twisted's documentation behind sessions of SMTP and LMTP."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.mail.smtp import IMessageDelivery

from mailhub.foreign import adapt
from mailhub.protocols.smtp_options import SmtpOptions
from tests.delivery.test_reception import MESSAGE, Desk
from tests.foreign.realms import ConsoleMessageDelivery
from tests.foreign.rig import foreign


class Console:
    """One session that brings mail to the console."""

    def __init__(self, **options: Any) -> None:
        self.delivery = ConsoleMessageDelivery()
        clock = Clock()
        mine: Any = adapt(IMessageDelivery, self.delivery, "", foreign(clock))
        self.desk = Desk(mine=mine, clock=clock, options=SmtpOptions("mx.xx.example", **options))

    def say(self, *lines: bytes) -> list[str]:
        said = self.desk.say(*lines)
        self.desk.clock.advance(0)
        return said + self.desk.peer.taken().decode().splitlines()


def test_a_console_takes_mail_and_refuses_it_with_its_own_codes() -> None:
    console = Console()
    said = console.say(
        b"EHLO client.example",
        b"MAIL FROM:<x@spam.example>",
        b"RCPT TO:<console@xx.example>",
        b"RSET",
        b"MAIL FROM:<a@yy.example>",
        b"RCPT TO:<nobody@xx.example>",
        b"RCPT TO:<console@xx.example>",
        b"DATA",
    )
    assert [line[:9] for line in said[2:]] == [
        *("553 5.1.8", "250 2.0.0", "250 2.1.0", "550 5.1.1", "250 2.1.5", "354 End d"),
    ]
    (said_last,) = console.say(*MESSAGE.split(b"\r\n")[:-1], b".")
    assert said_last.startswith("250 2.0.0 ")
    assert console.delivery.printed == [
        "New message for console@xx.example:",
        "Received: ConsoleMessageDelivery client.example",
        *MESSAGE.decode().splitlines(),
    ]


def test_a_message_without_a_header_has_an_empty_line_below_ours() -> None:
    console = Console()
    console.say(b"EHLO client.example", b"MAIL FROM:<>", b"RCPT TO:<console@xx.example>", b"DATA")
    console.say(b"hello", b"there", b".")
    assert console.delivery.printed[2:] == ["", "hello", "there"]


def test_lmtp_has_an_answer_for_each() -> None:
    console = Console(each_recipient=True)
    console.say(b"LHLO client.example", b"MAIL FROM:<a@yy.example>")
    console.say(b"RCPT TO:<console@xx.example>", b"RCPT TO:<console@zz.example>", b"DATA")
    answers = console.say(b"Subject: x", b"", b".")
    assert [answer[:9] for answer in answers] == ["250 2.0.0", "250 2.0.0"]
