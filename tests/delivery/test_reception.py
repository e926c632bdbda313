"""Mail for somebody's own receiver, over the sessions that the hub has."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from mailhub.delivery.receiver import MESSAGE_SECONDS, Receiver
from mailhub.delivery.reception import Reception
from mailhub.delivery.spool import IN_MEMORY, Spool
from mailhub.errors import AuthenticationFailed, NoSuchUser, OverQuota, TemporaryError
from mailhub.guard import Guard
from mailhub.interfaces import IReceivedMessage, ISubmitter, Origin
from mailhub.message.envelope import Outcome
from mailhub.net.driver import DriverFactory
from mailhub.protocols.smtp import SmtpService
from mailhub.protocols.smtp_options import SmtpOptions
from mailhub.threads import InlineThreads
from mailhub.wire.budget import Budget
from tests.delivery.doubles import environment
from tests.net.line_session import PEER, Peer
from tests.protocols.gate import PASSWORD, FakeAuthenticator

LATER = Outcome.delayed("Not now", status="4.2.0")
NEVER = Outcome.failed("Not here", status="5.2.1")
TAKEN = Outcome.delivered()
MESSAGE = b"Subject: hello\r\n\r\nHow are you?\r\n"


class Mine:
    """Keeps all it gets, as its own program would."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.messages: list[IReceivedMessage] = []
        self.octets: list[bytes] = []
        self.seen: list[int] = []

    async def recipient(self, recipient: Any, transaction: Any) -> None:
        self.seen.append(len(transaction.recipients))
        if recipient.address.local == "nobody":
            raise NoSuchUser
        if recipient.address.local == "full":
            raise OverQuota

    async def message(self, message: Any) -> Any:
        octets = await message.open().read()
        assert octets == message.trace + message.header + await message.read()
        assert len(octets) == message.open().size == len(message.trace + message.header) + message.size
        self.messages.append(message)
        self.octets.append(octets)
        return self.answer() if callable(self.answer) else self.answer


@attrs.define(eq=False)
class Desk:
    """One service in front of a receiver."""

    mine: Any = attrs.field(factory=Mine)
    options: SmtpOptions = attrs.field(factory=lambda: SmtpOptions("mx.xx.example", plaintext_login=True))
    spool: Spool = attrs.field(factory=lambda: Spool(InlineThreads()))
    domains: Any = None
    clock: Clock = attrs.field(factory=Clock)
    logins: list[Origin] = attrs.field(factory=list)
    logouts: int = 0
    trouble: Exception | None = None
    guard: Guard = attrs.field(init=False)
    factory: DriverFactory = attrs.field(init=False)
    peer: Peer = attrs.field(init=False)
    channel: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.guard = Guard("realm", "mine", "mine.py", self.clock)
        reception = Reception(
            hostname="mx.xx.example",
            environment=environment(self.clock),
            spool=self.spool,
            anonymous=self.anonymous,
            domains=self.domains,
        )
        gate = FakeAuthenticator(ISubmitter, lambda user: Receiver(user, self.mine, self.guard))
        service = SmtpService(reception, gate, self.options)
        self.factory = DriverFactory(service.session, self.clock, Random(1), "smtp")
        self.connect()

    async def anonymous(self, origin: Origin) -> tuple[Receiver, Callable[[], None]]:
        if self.trouble is not None:
            raise self.trouble
        self.logins.append(origin)
        return Receiver("", self.mine, self.guard), self.logout

    def logout(self) -> None:
        self.logouts += 1

    def connect(self) -> None:
        self.channel = self.factory.buildProtocol(PEER)
        self.peer = Peer()
        self.channel.makeConnection(self.peer)
        assert self.peer.taken().startswith(b"220 mx.xx.example ")

    def say(self, *lines: bytes) -> list[str]:
        """The replies, the last line of each."""
        self.channel.dataReceived(b"".join(line + b"\r\n" for line in lines))
        replies = self.peer.taken().decode().split("\r\n")
        return [line for line in replies if line[3:4] == " "]

    def send(self, *to: bytes, message: bytes = MESSAGE, hello: bytes = b"EHLO client.example") -> list[str]:
        recipients = [b"RCPT TO:<%b@xx.example>" % name for name in to]
        *_, go = self.say(hello, b"MAIL FROM:<a@yy.example>", *recipients, b"DATA")
        assert go.startswith("354 ")
        self.channel.dataReceived(message + b".\r\n")
        return self.peer.taken().decode().splitlines()

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]


def test_a_message_is_handed_over_with_its_trace_on_top() -> None:
    desk = Desk(Mine("m1"))
    assert desk.send(b"ann", b"bob") == ["250 2.0.0 Queued as m1"]
    (octets,), (message,) = desk.mine.octets, desk.mine.messages
    assert octets.startswith(
        b"Return-Path: <a@yy.example>\r\nReceived: from client.example ([192.0.2.7]) by mx.xx.example "
    )
    assert octets.endswith(b"\r\n" + MESSAGE)
    assert message.header == b"Subject: hello\r\n"
    assert [str(each.address) for each in message.recipients] == ["ann@xx.example", "bob@xx.example"]
    assert desk.mine.seen == [0, 1]


def test_recipients_are_refused_by_the_receiver_and_by_domain() -> None:
    desk = Desk(domains={"xx.example"})
    said = desk.say(
        b"EHLO client.example",
        b"MAIL FROM:<a@yy.example>",
        b"RCPT TO:<nobody@xx.example>",
        b"RCPT TO:<full@xx.example>",
        b"RCPT TO:<c@zz.example>",
        b"RCPT TO:<ann@xx.example>",
    )
    assert [line[:9] for line in said[2:]] == ["550 5.1.1", "552 5.2.2", "550 5.7.1", "250 2.1.5"]


def test_nobody_logs_in_before_there_is_mail_and_each_session_once() -> None:
    desk = Desk()
    desk.say(b"EHLO client.example", b"QUIT")
    assert not desk.logins
    desk.connect()
    desk.send(b"ann")
    desk.send(b"bob")
    assert [origin.helo for origin in desk.logins] == ["client.example"]
    assert desk.logouts == 0
    desk.lose()
    assert desk.logouts == 1


def test_a_realm_that_is_in_trouble_is_told_at_mail_and_may_be_mended() -> None:
    desk = Desk(trouble=TemporaryError(status="4.7.0"))
    said = desk.say(b"EHLO client.example", b"MAIL FROM:<a@yy.example>")
    assert said[-1].startswith("451 4.7.0 ")
    desk.trouble = None
    assert desk.send(b"ann")[0].startswith("250 ")


PARTLY = [
    ([TAKEN, TAKEN], "250 2.0.0 ", ["250 2.0.0 ", "250 2.0.0 "]),
    ([TAKEN, LATER], "451 4.2.0 ", ["250 2.0.0 ", "451 4.2.0 "]),
    ([NEVER, LATER], "451 4.2.0 ", ["550 5.2.1 ", "451 4.2.0 "]),
    ([TAKEN, NEVER], "554 5.2.1 ", ["250 2.0.0 ", "550 5.2.1 "]),
]


@pytest.mark.parametrize(("outcomes", "smtp", "lmtp"), PARTLY)
def test_what_becomes_of_each_recipient_is_told_as_the_protocol_can(outcomes: Any, smtp: str, lmtp: list[str]) -> None:
    (said,) = Desk(Mine(outcomes)).send(b"ann", b"bob")
    assert said.startswith(smtp)
    options = SmtpOptions("mx.xx.example", each_recipient=True)
    answers = Desk(Mine(outcomes), options).send(b"ann", b"bob", hello=b"LHLO client.example")
    assert [line[: len(start)] for line, start in zip(answers, lmtp, strict=True)] == lmtp


def refuses() -> None:
    raise OverQuota


def breaks() -> None:
    raise ZeroDivisionError


NONSENSE = [5, b"octets", [TAKEN, TAKEN], [], ["yes"], object(), True]


@pytest.mark.parametrize("answer", [*NONSENSE, breaks])
def test_who_breaks_or_answers_nonsense_is_named_and_the_client_comes_again(answer: Any) -> None:
    with capturedLogs() as logs:
        (said,) = Desk(Mine(answer)).send(b"ann")
    assert said.startswith("451 4.3.0 ")
    (line,) = [formatEvent(event) for event in logs if "realm failed" in formatEvent(event)]
    assert "realm=mine" in line
    assert "method=message" in line
    assert "file=mine.py" in line


def test_an_error_is_the_answer() -> None:
    assert Desk(Mine(refuses)).send(b"ann")[0].startswith("552 5.2.2 ")
    options = SmtpOptions("mx.xx.example", each_recipient=True)
    said = Desk(Mine(refuses), options).send(b"ann", b"bob", hello=b"LHLO client.example")
    assert [line[:9] for line in said] == ["552 5.2.2", "552 5.2.2"]


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "new\r\nline"])
def test_an_id_that_cannot_be_told_is_replaced(name: str) -> None:
    (said,) = Desk(Mine(name)).send(b"ann")
    assert said.startswith("250 2.0.0 Queued as ")
    assert len(said.split()[-1]) == 16


def test_who_answers_never_is_given_up() -> None:
    never: Deferred[None] = Deferred()
    desk = Desk(Mine(lambda: never))

    async def message(message: Any) -> Any:
        return await never

    desk.mine.message = message
    assert desk.send(b"ann") == []
    with capturedLogs() as logs:
        desk.clock.advance(MESSAGE_SECONDS)
    assert desk.peer.taken().startswith(b"451 ")
    assert any("realm timed out" in formatEvent(event) for event in logs)
    assert desk.spool.room.left == Spool(InlineThreads()).room.left


def test_a_large_message_is_in_a_file_and_all_of_it_is_there() -> None:
    desk = Desk()
    line = b"0123456789" * 7 + b"\r\n"
    message = b"Subject: large\r\n\r\n" + line * 5000
    desk.send(b"ann", message=message)
    assert desk.mine.octets[0].endswith(message)
    assert len(message) > 2 * IN_MEMORY
    assert desk.spool.room.left == 1 << 30  # and is gone


def test_messages_that_are_too_much_together_are_refused_and_leave_nothing() -> None:
    room = Budget(300_000)
    desk = Desk(spool=Spool(InlineThreads(), room=room))
    line = b"0123456789" * 7 + b"\r\n"
    assert desk.send(b"ann", message=b"Subject: large\r\n\r\n" + line * 5000)[0].startswith("452 4.3.1 ")
    assert room.left == 300_000
    assert desk.send(b"ann")[0].startswith("250 ")
    said = desk.say(b"MAIL FROM:<a@yy.example> SIZE=300001")
    assert said[-1].startswith("452 4.3.1 ")


def test_a_message_that_is_broken_off_leaves_nothing() -> None:
    desk = Desk()
    desk.say(b"EHLO client.example", b"MAIL FROM:<a@yy.example>", b"RCPT TO:<ann@xx.example>", b"DATA")
    desk.channel.dataReceived(b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 20_000)
    assert desk.spool.room.left < 1 << 30
    desk.lose()
    assert desk.spool.room.left == 1 << 30
    assert not desk.mine.messages


def test_a_message_that_goes_round_is_refused() -> None:
    (said,) = Desk().send(b"ann", message=b"Received: by x\r\n" * 51 + b"\r\n")
    assert said.startswith("554 5.4.6 ")


class Owner(Mine):
    """May send in one name."""

    async def may_send_as(self, address: Any) -> bool:
        return address is None or address.local == "ann"


def test_submission_is_for_who_has_logged_in_and_mends_the_header() -> None:
    options = SmtpOptions("mx.xx.example", submission=True, plaintext_login=True)
    desk = Desk(Owner(), options)
    assert desk.say(b"EHLO client.example", b"MAIL FROM:<ann@xx.example>")[-1].startswith("530 ")
    login = b64encode(b"\0ann\0" + PASSWORD.encode())
    assert desk.say(b"AUTH PLAIN " + login)[-1].startswith("235 ")
    assert desk.say(b"MAIL FROM:<bob@xx.example>")[-1].startswith("550 5.7.1 ")
    desk.say(b"MAIL FROM:<ann@xx.example>", b"RCPT TO:<c@zz.example>", b"DATA")
    desk.channel.dataReceived(b"Subject: x\r\nBcc: d@zz.example\r\n\r\n.\r\n")
    assert desk.peer.taken().startswith(b"250 ")
    (message,) = desk.mine.messages
    assert message.origin.user == "ann"
    assert b"Bcc" not in desk.mine.octets[0]
    assert b"Message-ID: <" in message.header
    assert not desk.logins  # nobody is asked for the one without a name


def test_wrong_credentials_are_refused() -> None:
    async def refuse(*_: object) -> None:
        raise AuthenticationFailed

    options = SmtpOptions("mx.xx.example", submission=True, plaintext_login=True)
    desk = Desk(options=options)
    assert desk.say(b"EHLO client.example", b"AUTH PLAIN AGFubgB3cm9uZw==")[-1].startswith("535 ")
