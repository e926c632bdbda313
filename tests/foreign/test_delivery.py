"""Mail for an IMessageDelivery, such as the console of Twisted's documentation."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.mail import smtp
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import MailError, PermanentError, TemporaryError
from mailhub.foreign import adapt
from mailhub.interfaces import IMailReceiver, IReceivedMessage, Origin
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient
from mailhub.protocols.smtp import reply_to
from mailhub.store.octets import OctetsReader
from tests.foreign.realms import ConsoleMessage, ConsoleMessageDelivery, ConsoleMessageDeliveryFactory
from tests.foreign.rig import foreign

ANN = Address.parse("ann@xx.example")
CONSOLE = Recipient(Address.parse("console@yy.example"))
OTHER = Recipient(Address.parse("console@zz.example"))
FROM = Origin("smtp", peer="192.0.2.1", helo="client.example")
TRACE = b"Return-Path: <ann@xx.example>\r\nReceived: from c\r\n\tby mx; now\r\n"
LETTER = b"Subject: Hello\r\n\r\n.dot\r\nlast\r\n"


@implementer(IReceivedMessage)
@attrs.define
class Message:
    """A message whose data has come."""

    mail: Mail
    recipients: Sequence[Recipient] = ()
    origin: Origin = FROM
    octets: bytes = LETTER
    trace: bytes = TRACE
    hops: int = 0

    @property
    def header(self) -> bytes:
        return self.octets.partition(b"\r\n\r\n")[0]

    @property
    def size(self) -> int:
        return len(self.octets) - len(self.header)

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        raise NotImplementedError

    def open(self) -> OctetsReader:
        return OctetsReader(self.trace + self.octets)


class Session:
    """What a session of SMTP asks, one thing after the other."""

    def __init__(self, avatar: Any, interface: Any = smtp.IMessageDelivery) -> None:
        self.clock = Clock()
        self.receiver: IMailReceiver = adapt(interface, avatar, "", foreign(self.clock))
        self.mail = Mail(ANN)

    def wait(self, work: Coroutine[Any, Any, Any], seconds: float = 0) -> Any:
        came: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(came.append)
        for _ in range(50):
            self.clock.advance(0)
        if not came:
            self.clock.advance(seconds)
        assert came, "there is no answer"
        if isinstance(came[0], Failure):
            came[0].raiseException()
        return came[0]

    def rcpt(self, *recipients: Recipient, **view: Any) -> None:
        for number, recipient in enumerate(recipients):
            asked: Any = self.receiver.recipient(recipient, Message(self.mail, recipients[:number], **view))
            self.wait(asked, 31)

    def data(self, *recipients: Recipient, seconds: float = 0, **view: Any) -> Any:
        given: Any = self.receiver.message(Message(self.mail, recipients, **view))
        return self.wait(given, seconds)


def test_lines_are_given_below_the_realms_received_field() -> None:
    delivery = ConsoleMessageDelivery()
    session = Session(delivery)
    session.rcpt(CONSOLE)
    assert session.data(CONSOLE) == [Outcome.delivered()]
    assert delivery.printed == [
        "New message for console@yy.example:",
        "Received: ConsoleMessageDelivery client.example",
        "Subject: Hello",
        "",
        ".dot",
        "last",
    ]
    assert delivery.asked == [((b"client.example", b"192.0.2.1"), "ann@xx.example")]


def test_our_own_received_field_stands_where_the_realm_makes_none() -> None:
    class Silent(ConsoleMessageDelivery):
        def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> Any:
            return None

    delivery = Silent()
    session = Session(delivery)
    session.rcpt(CONSOLE)
    session.data(CONSOLE)
    assert delivery.printed[1:3] == ["Received: from c", "\tby mx; now"]


def test_each_recipient_has_a_message_and_each_but_once() -> None:
    delivery = ConsoleMessageDelivery()
    session = Session(delivery)
    session.rcpt(CONSOLE, OTHER, CONSOLE)
    assert session.data(CONSOLE, OTHER, CONSOLE) == [Outcome.delivered()] * 3
    assert [line for line in delivery.printed if line.startswith("New")] == [
        "New message for console@yy.example:",
        "New message for console@zz.example:",
    ]


def test_each_mail_is_validated_anew_and_by_a_delivery_of_its_own_where_there_is_a_factory() -> None:
    factory = ConsoleMessageDeliveryFactory()
    session = Session(factory, smtp.IMessageDeliveryFactory)
    session.rcpt(CONSOLE)
    session.data(CONSOLE)
    session.mail = Mail(None)
    session.rcpt(CONSOLE, OTHER)
    session.data(CONSOLE, OTHER)
    assert [[sender for _, sender in made.asked] for made in factory.made] == [["ann@xx.example"], [""]]


def refused(session: Session, recipient: Recipient = CONSOLE, **view: Any) -> tuple[int, str, str]:
    with pytest.raises(MailError) as caught:
        session.rcpt(recipient, **view)
    said = reply_to(caught.value)
    return said.code, caught.value.status, caught.value.text


def test_refusals_have_the_realms_codes() -> None:
    delivery = ConsoleMessageDelivery()
    session = Session(delivery)
    assert refused(session, Recipient(Address.parse("nobody@yy.example"))) == (
        550,
        "5.1.1",
        "Cannot receive for specified address",
    )
    session.rcpt(CONSOLE)  # the sender is not asked again
    assert len(delivery.asked) == 1
    session.mail = Mail(Address.parse("x@spam.example"))
    assert refused(session) == (553, "5.1.8", "Not from there")


def raises(error: Any) -> Any:
    def raised(*arguments: Any) -> Any:
        raise error

    return raised


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (smtp.SMTPServerError(450, b"Later\r\n250 OK"), (451, "4.2.1", "Later 250 OK")),  # type: ignore[no-untyped-call]
        (smtp.SMTPServerError(452, "Full"), (452, "4.2.2", "Full")),  # type: ignore[no-untyped-call]
        (smtp.SMTPServerError(552, "Full"), (552, "5.2.2", "Full")),  # type: ignore[no-untyped-call]
        (smtp.SMTPServerError(550, "5.7.27 No null MX"), (550, "5.7.27", "No null MX")),  # type: ignore[no-untyped-call]
        (smtp.SMTPServerError(550, "4.7.27 Odd"), (550, "5.1.1", "4.7.27 Odd")),  # type: ignore[no-untyped-call]
        (smtp.SMTPServerError(250, "Fine"), (451, "4.3.0", "Temporary failure, please try again later")),  # type: ignore[no-untyped-call]
        (smtp.SMTPServerError("550", "Text"), (451, "4.3.0", "Temporary failure, please try again later")),  # type: ignore[no-untyped-call]
        (KeyError("broken"), (451, "4.3.0", "Temporary failure, please try again later")),
        (SystemExit(), (451, "4.3.0", "Temporary failure, please try again later")),
    ],
)
def test_what_validate_to_raises_is_a_reply(error: Any, reply: tuple[int, str, str]) -> None:
    delivery: Any = ConsoleMessageDelivery()
    delivery.validateTo = raises(error)
    assert refused(Session(delivery)) == reply
    delivery.validateTo = lambda user: fail(error)
    assert refused(Session(delivery)) == reply


@pytest.mark.parametrize("bad", [lambda *_: None, lambda *_: 17, lambda *_: Deferred()])
@pytest.mark.parametrize("method", ["validateTo", "validateFrom"])
def test_nonsense_and_silence_are_named_and_temporary(method: str, bad: Any) -> None:
    delivery: Any = ConsoleMessageDelivery()
    setattr(delivery, method, bad)
    with capturedLogs() as events:
        assert refused(Session(delivery))[0] == 451
    assert f"method={method}" in "".join(str(formatEvent(event)) for event in events)


def test_addresses_that_a_realm_cannot_be_given_are_refused() -> None:
    session = Session(ConsoleMessageDelivery())
    assert refused(session, Recipient(Address.parse("jürgen@yy.example")))[:2] == (553, "5.6.7")
    assert refused(session, Recipient(Address.parse("a@[192.0.2.1]")))[:2] == (550, "5.1.3")
    session.mail = Mail(Address.parse("jürgen@yy.example"))
    assert refused(session)[:2] == (553, "5.6.7")


class Realm(ConsoleMessageDelivery):
    """A delivery one of whose messages is another one."""

    def __init__(self, bad: Any) -> None:
        super().__init__()
        self.bad = bad

    def validateTo(self, user: Any) -> Any:
        return (lambda: self.bad(user, self.printed)) if user.dest.domain == b"zz.example" else super().validateTo(user)


class Reader(ConsoleMessage):
    def lineReceived(self, line: bytes) -> None:
        if line == b".dot":
            raise smtp.SMTPServerError(554, "No dots")  # type: ignore[no-untyped-call]
        super().lineReceived(line)


class Ender(ConsoleMessage):
    def eomReceived(self) -> Any:
        return fail(smtp.SMTPDeliveryError(552, b"Too much"))


class Silent(ConsoleMessage):
    def eomReceived(self) -> Any:
        return Deferred()


def test_before_the_end_one_refusal_keeps_the_message_from_all() -> None:
    realm = Realm(Reader)
    session = Session(realm)
    session.rcpt(CONSOLE, OTHER)
    with pytest.raises(PermanentError) as caught:
        session.data(CONSOLE, OTHER)
    assert (caught.value.text, realm.printed) == (
        "No dots",
        ["Lost the message for console@yy.example", "Lost the message for console@zz.example"],
    )


def test_lmtp_is_told_of_each() -> None:
    origin = Origin("lmtp", each_recipient=True)
    for bad, outcome in (
        (Reader, Outcome.failed("No dots", status="5.3.0")),
        (Ender, Outcome.failed("Too much", status="5.2.2")),
    ):
        realm = Realm(bad)
        session = Session(realm)
        session.rcpt(CONSOLE, OTHER, origin=origin)
        assert session.data(CONSOLE, OTHER, origin=origin) == [Outcome.delivered(), outcome]
        assert "New message for console@yy.example:" in realm.printed


def test_what_the_end_says_is_told_of_each() -> None:
    realm = Realm(Ender)
    session = Session(realm)
    session.rcpt(CONSOLE, OTHER)
    assert session.data(CONSOLE, OTHER) == [Outcome.delivered(), Outcome.failed("Too much", status="5.2.2")]


def test_an_end_without_an_answer_is_a_temporary_failure() -> None:
    realm = Realm(Silent)
    session = Session(realm)
    session.rcpt(OTHER)
    with capturedLogs() as events:
        (outcome,) = session.data(OTHER, seconds=241)
    assert outcome.state.value == "delayed"
    assert "method=eomReceived" in "".join(str(formatEvent(event)) for event in events)


def test_a_message_that_is_called_off_is_lost_for_the_realm() -> None:
    delivery = ConsoleMessageDelivery()
    session = Session(delivery)
    session.rcpt(CONSOLE)
    given: Any = session.receiver.message(
        Message(session.mail, [CONSOLE], octets=b"x: y\r\n\r\n" + b"line\r\n" * 100_000)
    )
    work = Deferred.fromCoroutine(given)
    work.addErrback(lambda _: None)
    work.cancel()
    assert delivery.printed == ["Lost the message for console@yy.example"]


def test_long_messages_let_others_be_served_and_long_lines_are_refused() -> None:
    delivery = ConsoleMessageDelivery()
    session = Session(delivery)
    session.rcpt(CONSOLE)
    octets = b"x: y\r\n\r\n" + b"line\r\n" * 100_000
    assert session.data(CONSOLE, octets=octets) == [Outcome.delivered()]
    assert len(delivery.printed) == 100_004
    session.mail = Mail(ANN)
    session.rcpt(CONSOLE)
    with pytest.raises(PermanentError, match="line of the message is too long"):
        session.data(CONSOLE, octets=b"x: y\r\n\r\n" + b"x" * 2_000_000 + b"\r\n")


def test_a_message_of_which_nobody_was_asked_is_not_taken() -> None:
    session = Session(ConsoleMessageDelivery())
    with pytest.raises(TemporaryError):
        session.data(CONSOLE)
