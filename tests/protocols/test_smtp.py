"""SMTP, submission and LMTP sessions over the real wire machine, with a pipeline that remembers what it was told."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any, cast

import attrs
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.auth.harvest import Harvest, HarvestLimits
from mailhub.errors import (
    AuthenticationFailed,
    Busy,
    MailError,
    MessageTooLarge,
    NoSuchUser,
    NotPermitted,
    NotYetKnown,
    OverQuota,
    StoreUnavailable,
    TemporaryError,
)
from mailhub.interfaces import (
    Committed,
    IBlobReader,
    IBody,
    IBodyWriter,
    IConversation,
    INetwork,
    IPipeline,
    ISubmitter,
    ITransaction,
    Origin,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient
from mailhub.message.needs import Needs
from mailhub.net.driver import DriverFactory
from mailhub.net.link import Link
from mailhub.net.networks import Networks
from mailhub.net.smtp_client import SmtpConnection, connect
from mailhub.protocols.smtp import SmtpService, SmtpSession, reply_to
from mailhub.protocols.smtp_options import SmtpOptions
from mailhub.testing.waiting import result_of
from mailhub.wire.smtp.client import SmtpClientSettings
from mailhub.wire.smtp.extensions import COMPLETE
from mailhub.wire.stream import BareLines
from tests.protocols.gate import PASSWORD, FakeAuthenticator

ANN = Address("ann", "xx.example")
BOB = Address("bob", "yy.example")
BEFORE = b"MAIL FROM:<ann@xx.example> SIZE=9\r\nRCPT TO:<bob@yy.example>\r\n"
PLAIN = b"AUTH PLAIN " + b64encode(b"\0ann\0" + PASSWORD.encode()) + b"\r\n"


@implementer(IBody)
@attrs.define
class Body:
    octets: bytes
    size: int = 0

    def open(self) -> IBlobReader:
        raise AssertionError("nobody reads it here")

    def discard(self) -> None:
        """Nothing is kept."""


@implementer(IBodyWriter)
@attrs.define
class Writer:
    fail: Callable[[str], None]
    octets: bytes = b""
    open: bool = True

    async def write(self, octets: bytes) -> None:
        self.fail("write")
        self.octets += octets

    async def finish(self) -> IBody:
        self.fail("finish")
        self.open = False
        return Body(self.octets)

    def abort(self) -> None:
        self.open = False


@implementer(ITransaction)
@attrs.define
class Transaction:
    """Remembers its calls with the pipeline, and how it ended."""

    pipeline: Pipeline
    origin: Origin
    mail: Mail
    recipients: list[Recipient] = attrs.field(factory=list)
    writer: Writer | None = None
    aborted: int = 0

    async def recipient(self, recipient: Recipient) -> None:
        self.pipeline.calls.append(("recipient", recipient))
        self.pipeline.fail(f"recipient {recipient.address}")
        self.recipients.append(recipient)

    def recipient_at_once(self, recipient: Recipient) -> bool:
        known = recipient.address in self.pipeline.known
        if known:
            self.pipeline.calls.append(("at once", recipient))
            self.recipients.append(recipient)
        return known

    def body(self, size: int = 0) -> IBodyWriter:
        self.pipeline.fail("open")
        self.writer = Writer(self.pipeline.fail)
        self.pipeline.writers.append(self.writer)
        return self.writer

    async def commit(self) -> Committed:
        assert self.writer is not None
        assert not self.aborted
        try:
            body = cast(Body, await self.writer.finish())
        finally:
            self.writer.abort()
        recipients = [recipient.address for recipient in self.recipients]
        self.pipeline.calls.append(("commit", self.mail, recipients, body.octets))
        self.pipeline.fail("commit")
        taken = Outcome.delivered()
        return Committed("id1", tuple(self.pipeline.outcomes.get(address, taken) for address in recipients))

    def abort(self) -> None:
        self.aborted += 1
        if self.writer is not None:
            self.writer.abort()


@implementer(IConversation)
@attrs.define
class Conversation:
    pipeline: Pipeline
    origin: Origin
    submitter: ISubmitter | None = None

    async def hello(self, origin: Origin) -> None:
        self.pipeline.fail("hello")
        self.origin = origin

    async def login(self, origin: Origin, submitter: ISubmitter) -> None:
        self.pipeline.fail("login")
        self.origin, self.submitter = origin, submitter

    def secured(self, origin: Origin) -> None:
        self.origin, self.submitter = origin, None

    async def turn(self, domain: str) -> int:
        self.pipeline.fail("turn")
        return {"yy.example": 2}.get(domain, 0)

    async def begin(self, mail: Mail) -> ITransaction:
        pipeline = self.pipeline
        pipeline.calls.append(("begin", self.origin, mail, self.submitter and self.submitter.user))
        pipeline.fail("begin")
        pipeline.transactions.append(Transaction(pipeline, self.origin, mail))
        return pipeline.transactions[-1]

    def closed(self, *, farewell: bool = False) -> None:
        self.pipeline.calls.append(("closed",))


@implementer(IPipeline)
@attrs.define
class Pipeline:
    """Fails at the step named in `errors`; otherwise takes everything."""

    errors: dict[str, Exception] = attrs.field(factory=dict)
    outcomes: dict[Address, Outcome] = attrs.field(factory=dict)
    calls: list[tuple[Any, ...]] = attrs.field(factory=list)
    writers: list[Writer] = attrs.field(factory=list)
    transactions: list[Transaction] = attrs.field(factory=list)
    known: frozenset[Address] = frozenset()  # of whom it asks nobody

    def fail(self, step: str) -> None:
        if step in self.errors:
            raise self.errors[step]

    async def connected(self, origin: Origin) -> IConversation:
        self.fail("connected")
        return Conversation(self, origin)

    async def begin(self, origin: Origin, mail: Mail, submitter: ISubmitter | None = None) -> ITransaction:
        raise AssertionError("a session has a conversation")


@implementer(ISubmitter)
@attrs.frozen
class Submitter:
    user: str

    async def may_send_as(self, address: Address | None) -> bool:
        raise AssertionError("the pipeline asks, not the session")


@attrs.define
class FakeLink:
    """What the session uses of a Link; `start_tls` is done at once."""

    service: str = "smtp"
    secure: bool = False
    can_start_tls: bool = True
    peer: str = "192.0.2.1"
    local: str = "192.0.2.2"
    tls: str = ""
    session_id: str = "s1"
    idle_seconds: float = 0.0
    session: SmtpSession | None = None
    clock: Clock = attrs.field(factory=Clock)
    closed: bool = False

    def call_later(self, seconds: float, function: Callable[[], None]) -> Any:
        return self.clock.callLater(seconds, function)

    def close(self) -> None:
        self.closed = True

    def speak_for(self, peer: str, local: str = "") -> bool:
        self.peer, self.local = peer, local or self.local
        return peer != "203.0.113.1"

    def start_tls(self) -> None:
        assert self.session is not None
        self.secure, self.can_start_tls, self.tls = True, False, "TLSv1.3/AES"
        self.session.machine.tls_started()

    def expel(self, farewell: Callable[[], None], seconds: float = 5.0) -> None:
        farewell()


class Peer:
    """A client whose octets are worked off at once."""

    def __init__(
        self,
        service: str = "smtp",
        *,
        secure: bool = False,
        auth: MailError | None = None,
        harvest: HarvestLimits | None = None,
        bare_lines: BareLines = BareLines.NORMALISE,
        plaintext_login: bool = False,
        xclient: str = "203.0.113.99",
    ) -> None:
        self.pipeline = Pipeline()
        self.link = FakeLink(service, secure=secure, can_start_tls=not secure)
        options = SmtpOptions(
            "mx.example",
            submission=service.startswith("submission"),
            each_recipient=service == "lmtp",
            postmaster_domain="xx.example",
            bare_lines=bare_lines,
            plaintext_login=plaintext_login,
            xclient=Networks.parse(xclient),
        )
        guard = Harvest(self.link.clock, harvest) if harvest else None
        self.service = smtp = SmtpService(self.pipeline, FakeAuthenticator(ISubmitter, Submitter, auth), options, guard)
        self.session = self.link.session = smtp.session(cast(Link, self.link))

    def greet(self) -> bytes:
        result_of(self.session.connected())
        return self.session.machine.data_to_send()

    def send(self, octets: bytes) -> list[str]:
        """Code and status of each reply."""
        machine = self.session.machine
        machine.receive_data(octets)
        while (event := machine.next_event()) is not None:
            try:
                waits = self.session.handle(event)
                if waits is not None:
                    result_of(waits)
            except ZeroDivisionError:
                self.session.crashed(Failure())  # type: ignore[no-untyped-call]
        lines = machine.data_to_send().decode().split("\r\n")[:-1]
        return [" ".join(line.split(" ")[:2]) if line[4:5].isdigit() else line[:3] for line in lines if line[3] == " "]

    def calls(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.pipeline.calls if call[0] == name]


def greeted(service: str = "smtp", **options: Any) -> Peer:
    peer = Peer(service, **options)
    peer.greet()
    peer.send(b"LHLO client.example\r\n" if service == "lmtp" else b"EHLO client.example\r\n")
    return peer


def test_a_message_goes_through_the_pipeline() -> None:
    peer = Peer()
    assert peer.greet() == b"220 mx.example ESMTP mailhub\r\n"
    assert peer.link.idle_seconds == 300
    peer.send(b"EHLO client.example\r\n")
    assert peer.send(BEFORE + b"DATA\r\nx\r\n.\r\n") == ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    origin = Origin("smtp", "192.0.2.1", "s1", secure=False, helo="client.example", local="192.0.2.2")
    assert peer.pipeline.calls == [
        ("begin", origin, Mail(ANN, size=9), None),
        ("recipient", Recipient(BOB)),
        ("commit", Mail(ANN, size=9), [BOB], b"x\r\n"),
    ]


@pytest.mark.parametrize("service", ["smtp", "lmtp"])
def test_who_is_known_is_answered_in_his_turn_without_an_event(service: str) -> None:
    cid, dan = Address("cid", "yy.example"), Address("dan", "yy.example")
    peer = greeted(service)
    peer.pipeline.known = frozenset({BOB, dan})
    peer.pipeline.errors[f"recipient {cid}"] = NoSuchUser()
    names = [b"bob@yy.example", b"cid@yy.example", b"dan@yy.example", b"eve@yy.example", b"bob"]
    rcpt = b"".join([b"RCPT TO:<%b>\r\n" % name for name in names])
    told = peer.send(b"RCPT TO:<bob@yy.example>\r\nMAIL FROM:<ann@xx.example>\r\n" + rcpt + b"DATA\r\nx\r\n.\r\n")
    taken = ["250 2.0.0"] * (3 if service == "lmtp" else 1)
    assert told == [
        "503 5.5.1",
        "250 2.1.0",
        *("250 2.1.5", "550 5.1.1", "250 2.1.5", "250 2.1.5", "501 5.1.3"),
        "354",
        *taken,
    ]
    (commit,) = peer.calls("commit")
    assert commit[1] == [BOB, dan, Address("eve", "yy.example")]
    assert [call[0].address for call in peer.calls("at once")] == [BOB, dan]
    # It was for that message: who is known to one transaction is asked for by the next.
    peer.pipeline.known = frozenset()
    assert peer.send(BEFORE)[-1] == "250 2.1.5"
    assert peer.calls("at once") == [(Recipient(BOB),), (Recipient(dan),)]


def test_two_messages_share_nothing() -> None:
    peer = greeted()
    for _ in range(2):
        assert peer.send(BEFORE + b"DATA\r\nx\r\n.\r\n")[-1] == "250 2.0.0"
    assert peer.calls("commit") == [(Mail(ANN, size=9), [BOB], b"x\r\n")] * 2


@pytest.mark.parametrize(
    ("error", "greeting"),
    [(NotPermitted("Go away"), b"554 5.7.1 Go away\r\n"), (Busy("Later"), b"421 4.3.2 Later\r\n")],
)
def test_refused_at_connect(error: MailError, greeting: bytes) -> None:
    peer = Peer()
    peer.pipeline.errors["connected"] = error
    assert peer.greet() == greeting
    assert peer.session.machine.closing is greeting.startswith(b"421")
    assert peer.session.link.idle_seconds == 10
    assert peer.send(b"EHLO a\r\nQUIT\r\n") == ([] if greeting.startswith(b"421") else ["503 5.5.1", "221 2.0.0"])
    assert peer.session.machine.closing


@pytest.mark.parametrize(
    ("step", "error", "codes"),
    [
        ("begin", NotPermitted(), ["550 5.7.1", "503 5.5.1", "503 5.5.1"]),
        ("begin", NotPermitted("Login", status="5.7.0"), ["530 5.7.0", "503 5.5.1", "503 5.5.1"]),
        ("recipient bob@yy.example", NoSuchUser(), ["250 2.1.0", "550 5.1.1", "554 5.5.1"]),
        ("recipient bob@yy.example", OverQuota(), ["250 2.1.0", "552 5.2.2", "554 5.5.1"]),
        ("recipient bob@yy.example", TemporaryError(), ["250 2.1.0", "451 4.3.0", "554 5.5.1"]),
        ("open", TemporaryError("Full", status="4.3.1"), ["250 2.1.0", "250 2.1.5", "452 4.3.1"]),
    ],
)
def test_refusals_before_the_message(step: str, error: MailError, codes: list[str]) -> None:
    peer = greeted()
    peer.pipeline.errors[step] = error
    assert peer.send(BEFORE + b"DATA\r\n") == codes
    assert peer.calls("commit") == []


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        ("write", StoreUnavailable(), "451 4.3.0"),
        ("finish", StoreUnavailable(), "451 4.3.0"),
        ("commit", NotPermitted("Spam"), "554 5.7.1"),
        ("commit", MessageTooLarge(), "552 5.3.4"),
        ("commit", OverQuota(status="4.2.2"), "452 4.2.2"),
        ("write", ZeroDivisionError(), "451 4.3.0"),
        ("finish", ZeroDivisionError(), "451 4.3.0"),
        ("commit", ZeroDivisionError(), "451 4.3.0"),
    ],
)
def test_refusals_and_crashes_at_the_message(step: str, error: Exception, code: str) -> None:
    peer = greeted()
    peer.pipeline.errors[step] = error
    assert peer.send(BEFORE + b"DATA\r\nx\r\n.\r\n") == ["250 2.1.0", "250 2.1.5", "354", code]
    assert not peer.pipeline.writers[0].open
    peer.pipeline.errors.clear()
    assert peer.send(BEFORE + b"DATA\r\nx\r\n.\r\n")[-1] == "250 2.0.0"


@pytest.mark.parametrize("step", ["begin", "recipient bob@yy.example", "open"])
def test_crashes_before_the_message(step: str) -> None:
    peer = greeted()
    peer.pipeline.errors[step] = ZeroDivisionError()
    assert "451 4.3.0" in peer.send(BEFORE + b"DATA\r\n")
    peer.pipeline.errors.clear()
    assert peer.send(b"RSET\r\n" + BEFORE + b"DATA\r\nx\r\n.\r\n")[-1] == "250 2.0.0"


def test_a_message_refused_by_the_machine_is_aborted() -> None:
    peer = greeted(bare_lines=BareLines.REJECT)
    assert peer.send(BEFORE + b"DATA\r\nx\r\ny\nz\r\n.\r\n")[-1] == "554 5.6.0"
    assert not peer.pipeline.writers[0].open
    assert peer.calls("commit") == []


def test_a_connection_lost_in_the_message_aborts_it() -> None:
    peer = greeted()
    peer.send(BEFORE + b"DATA\r\nx\r\n")
    assert peer.pipeline.writers[0].open
    peer.session.disconnected()
    assert not peer.pipeline.writers[0].open


def test_rset_and_hello_forget_recipients() -> None:
    peer = greeted()
    for forget in (b"RSET\r\n", b"EHLO again\r\n"):
        peer.send(b"MAIL FROM:<>\r\nRCPT TO:<x@yy.example>\r\n" + forget)
        peer.send(BEFORE + b"DATA\r\n.\r\n")
        assert peer.calls("commit")[-1] == (Mail(ANN, size=9), [BOB], b"")


@pytest.mark.parametrize("data", [b"", b"DATA\r\nx\r\n"])
def test_a_lost_connection_aborts_the_transaction(data: bytes) -> None:
    peer = greeted()
    peer.send(BEFORE + data)
    peer.session.disconnected()
    assert [transaction.aborted for transaction in peer.pipeline.transactions] == [1]
    assert peer.calls("closed") == [()]


@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO again\r\n", b"STARTTLS\r\n"])
def test_what_ends_a_transaction_aborts_it(end: bytes) -> None:
    peer = greeted()
    peer.send(BEFORE + end)
    assert [transaction.aborted for transaction in peer.pipeline.transactions] == [1]


def test_a_crash_in_the_message_aborts_the_transaction_and_its_rest_is_swallowed() -> None:
    peer = greeted()
    peer.pipeline.errors["write"] = ZeroDivisionError()
    peer.send(BEFORE + b"DATA\r\nx\r\n")
    assert [transaction.aborted for transaction in peer.pipeline.transactions] == [1]
    assert peer.send(b"y\r\n.\r\n") == ["451 4.3.0"]
    assert peer.pipeline.writers[0].octets == b""


def test_a_refused_hello_changes_nothing() -> None:
    peer = greeted()
    peer.send(BEFORE)
    peer.pipeline.errors["hello"] = NotPermitted("Not with that name")
    assert peer.send(b"EHLO again\r\n") == ["550 5.7.1"]
    assert peer.send(b"DATA\r\nx\r\n.\r\n")[-1] == "250 2.0.0"
    assert peer.pipeline.transactions[0].origin.helo == "client.example"


def test_postmaster_without_a_domain_is_ours() -> None:
    peer = greeted()
    peer.send(b"MAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\n")
    assert peer.calls("recipient") == [(Recipient(Address("postmaster", "xx.example")),)]


# --- Submission -----------------------------------------------------------------------------------------------------


def test_submission_over_starttls_with_login() -> None:
    peer = greeted("submission")
    assert peer.send(PLAIN + BEFORE) == ["530 5.7.0"] * 3
    assert peer.send(b"STARTTLS\r\n") == ["220 2.0.0"]
    assert peer.send(b"EHLO me\r\n" + BEFORE) == ["250", "530 5.7.0", "530 5.7.0"]
    assert peer.send(PLAIN + BEFORE) == ["235 2.7.0", "250 2.1.0", "250 2.1.5"]
    origin = Origin(
        "submission",
        "192.0.2.1",
        "s1",
        secure=True,
        helo="me",
        user="ann",
        local="192.0.2.2",
        tls="TLSv1.3/AES",
        submission=True,
    )
    assert peer.calls("begin") == [(origin, Mail(ANN, size=9), "ann")]
    assert peer.send(b"DATA\r\nbare\nlf\r\n.\r\n") == ["354", "250 2.0.0"]
    assert peer.calls("commit")[0][2] == b"bare\r\nlf\r\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [(AuthenticationFailed(), "535 5.7.8"), (Busy(), "454 4.3.2"), (Busy(status="4.7.0"), "454 4.7.0")],
)
def test_refused_logins(error: MailError, code: str) -> None:
    peer = greeted("submissions", secure=True, auth=error)
    assert peer.send(PLAIN + BEFORE) == [code, "530 5.7.0", "530 5.7.0"]


@pytest.mark.parametrize("error", [NotPermitted(), ZeroDivisionError()])
def test_a_login_that_the_pipeline_refuses_is_over(error: Exception) -> None:
    peer = greeted("submissions", secure=True)
    peer.pipeline.errors["login"] = error
    assert peer.send(PLAIN) == ["535 5.7.1" if isinstance(error, NotPermitted) else "451 4.3.0"]
    assert cast(FakeAuthenticator, peer.service.authenticator).revoked == {}
    assert peer.send(BEFORE)[0] == "530 5.7.0"


def test_a_login_is_forgotten_when_tls_starts() -> None:
    peer = greeted("submission", plaintext_login=True)
    assert peer.send(PLAIN + b"STARTTLS\r\n") == ["235 2.7.0", "220 2.0.0"]
    peer.send(b"EHLO me\r\n" + PLAIN + BEFORE)
    ((origin, _, user),) = peer.calls("begin")
    assert (origin.user, user, origin.secure) == ("ann", "ann", True)


def test_port_25_has_no_login() -> None:
    assert greeted("smtp", secure=True).send(PLAIN) == ["502 5.5.1"]


# --- LMTP -----------------------------------------------------------------------------------------------------------


def test_lmtp_answers_for_each_recipient() -> None:
    peer = greeted("lmtp")
    peer.pipeline.outcomes = {
        BOB: Outcome.delivered(),
        ANN: Outcome.failed("Mailbox is full", status="5.2.2"),
        Address("x", "xx.example"): Outcome.delayed("Later", status="4.3.0"),
    }
    recipients = b"RCPT TO:<ann@xx.example>\r\nRCPT TO:<x@xx.example>\r\nRCPT TO:<bob@yy.example>\r\n"
    codes = peer.send(BEFORE + recipients + b"DATA\r\n.\r\n")
    assert codes[6:] == ["250 2.0.0", "552 5.2.2", "451 4.3.0", "250 2.0.0"]


def test_lmtp_refuses_all_with_one_error() -> None:
    peer = greeted("lmtp")
    peer.pipeline.errors["commit"] = StoreUnavailable()
    codes = peer.send(BEFORE + b"RCPT TO:<ann@xx.example>\r\nDATA\r\n.\r\n")
    assert codes[4:] == ["451 4.3.0"] * 2


# --- The end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "code"), [("timed_out", "421 4.4.2"), ("shutting_down", "421 4.3.2")])
def test_farewells(end: str, code: str) -> None:
    peer = greeted()
    getattr(peer.session, end)()
    assert peer.send(b"NOOP\r\n") == [code]
    assert peer.session.machine.closing


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MailError("No"), 550),
        (TemporaryError(), 451),
        (NotPermitted(status="5.1.8"), 553),
        (NotPermitted(status="5.1.10"), 556),
        (MessageTooLarge(), 552),
    ],
)
def test_the_error_table(error: MailError, code: int) -> None:
    answer = reply_to(error)
    assert (answer.code, answer.status) == (code, error.status)


# --- Over the driver, against our own client ------------------------------------------------------------------------


@implementer(IBlobReader)
@attrs.frozen
class Reader:
    octets: bytes

    @property
    def size(self) -> int:
        return len(self.octets)

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        return self.octets[offset : None if length < 0 else offset + length]

    def close(self) -> None:
        """Nothing is held."""


@implementer(INetwork)
@attrs.define
class Network:
    """One connection in memory between our client and our server; `pump` carries octets until both are silent."""

    server: SmtpService
    clock: Clock = attrs.field(factory=Clock)
    ends: list[tuple[Any, StringTransport]] = attrs.field(factory=list)

    async def connect(self, host: str, port: int, factory: IProtocolFactory, timeout: float, source: str = "") -> Any:
        address = IPv4Address("TCP", "192.0.2.1", 25)
        driver = DriverFactory(self.server.session, self.clock, Random(1))
        for made in (factory, driver):
            protocol = cast(Any, made.buildProtocol(address))
            transport = StringTransport(address, address)  # type: ignore[no-untyped-call]
            protocol.makeConnection(transport)
            self.ends.append((protocol, transport))
        return self.ends[0][0]

    def pump(self, size: int) -> None:
        moved = True
        while moved:
            moved = False
            for (_, source), (target, _) in zip(self.ends, reversed(self.ends), strict=True):
                octets = source.value()  # type: ignore[no-untyped-call]
                source.clear()  # type: ignore[no-untyped-call]
                for start in range(0, len(octets), size):
                    moved = True
                    target.dataReceived(octets[start : start + size])


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_our_client_delivers_to_our_server_whatever_the_split(size: int) -> None:
    pipeline = Pipeline({"recipient ann@xx.example": NoSuchUser()})
    network = Network(SmtpService(pipeline, FakeAuthenticator(ISubmitter, Submitter), SmtpOptions("mx.example")))
    connecting = Deferred.fromCoroutine(
        connect(network, network.clock, "192.0.2.1", 25, SmtpClientSettings("hub.example"))
    )
    network.pump(size)
    connections: list[SmtpConnection] = []
    connecting.addCallback(connections.append)
    body = b".\r\n..\r\nx" * 300 + b"\r\n"
    for _ in range(2):
        recipients = (Recipient(ANN), Recipient(BOB))
        sending = Deferred.fromCoroutine(connections[0].send(Mail(None), recipients, Reader(body), needs=Needs()))
        network.pump(size)
        outcomes: list[Any] = []
        sending.addCallback(outcomes.append)
        assert [outcome.status for outcome in outcomes[0]] == ["5.1.1", "2.0.0"]
    commits = [call[1:] for call in pipeline.calls if call[0] == "commit"]
    assert commits == [(Mail(None, size=len(body), priority=0), [BOB], body)] * 2


def test_a_login_that_is_no_longer_good_ends_the_session() -> None:
    peer = greeted("submission", secure=True)
    assert peer.send(PLAIN) == ["235 2.7.0"]
    gate = peer.session._service.authenticator
    (revoked,) = gate.revoked.values()  # type: ignore[attr-defined]
    revoked()
    assert peer.session.machine.data_to_send() == b"421 4.7.0 Password or account has changed\r\n"
    assert peer.session.machine.closing
    peer.session.disconnected()
    assert not gate.revoked  # type: ignore[attr-defined]


@pytest.mark.parametrize(("network", "offered"), [("192.0.2.1", True), ("2001:db8::/32", False)])
def test_a_password_without_tls_from_trusted_networks_only(network: str, offered: bool) -> None:
    options = SmtpOptions("mx.example", submission=True, cleartext_login=Networks.parse(network))
    smtp = SmtpService(Pipeline(), FakeAuthenticator(ISubmitter, Submitter), options)
    machine = smtp.session(cast(Link, FakeLink())).machine
    machine.greet()
    machine.receive_data(b"EHLO x\r\n")
    assert machine.next_event() is not None
    machine.accept()
    assert (b"AUTH PLAIN LOGIN" in machine.data_to_send()) is offered
    machine.receive_data(b"AUTH PLAIN AGEAYg==\r\n")
    assert (machine.next_event() is not None) is offered


def test_extensions_are_switched_off() -> None:
    options = SmtpOptions("mx.example", extensions_off=frozenset({"CHUNKING", "SIZE"}))
    offered = options.settings(secure=False, starttls=False).extensions
    assert COMPLETE - offered == {"CHUNKING", "SIZE"}


XCLIENT = b"XCLIENT NAME=c.example ADDR=198.51.100.7 DESTADDR=192.0.2.25 HELO=them PROTO=SMTP LOGIN=ann@xx.example\r\n"


def test_another_client_has_a_conversation_of_its_own() -> None:
    peer = greeted(xclient="192.0.2.0/24")
    with capturedLogs() as events:
        assert peer.send(XCLIENT) == ["220"]
    assert [event["log_namespace"] for event in events] == ["mailhub.smtp"]
    assert peer.calls("closed") == []
    peer.send(b"EHLO proxy.example\r\nMAIL FROM:<ann@xx.example>\r\n")
    origin = Origin(
        "smtp", "198.51.100.7", "s1", helo="them", extended=False, user="ann@xx.example", local="192.0.2.25"
    )
    assert peer.calls("begin") == [(origin, Mail(ANN), "ann@xx.example")]
    peer.send(b"RSET\r\nXCLIENT ADDR=198.51.100.8\r\n")
    assert peer.calls("closed") == [()]
    assert peer.send(b"EHLO x\r\nMAIL FROM:<ann@xx.example>\r\n")[-1] == "250 2.1.0"
    origin = Origin("smtp", "198.51.100.8", "s1", helo="x", local="192.0.2.25")
    assert peer.calls("begin")[1:] == [(origin, Mail(ANN), None)]
    peer.session.disconnected()
    assert len(peer.calls("closed")) == 2


def test_a_proxy_that_speaks_for_itself_is_a_client_as_others() -> None:
    peer = Peer(xclient="192.0.2.0/24")
    peer.pipeline.errors["connected"] = Busy("Later")
    assert peer.greet().startswith(b"220 ")
    mail = b"MAIL FROM:<ann@xx.example>\r\n"
    assert peer.send(b"EHLO proxy.example\r\n" + mail) == ["250", "451 4.3.2"]
    del peer.pipeline.errors["connected"]
    peer.pipeline.errors["hello"] = NotPermitted("Not that name")
    assert peer.send(mail) == ["550 5.7.1"]
    del peer.pipeline.errors["hello"]
    assert peer.send(mail + b"RSET\r\nEHLO again.example\r\n" + mail)[0::3] == ["250 2.1.0", "250 2.1.0"]
    helos = [origin.helo for origin, _, _ in peer.calls("begin")]
    assert helos == ["proxy.example", "again.example"]
    peer.session.disconnected()
    assert peer.calls("closed") == [()]


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        ("connected", NotPermitted("Go away"), "554 5.7.1"),
        ("connected", Busy("Later"), "421 4.3.2"),
        ("login", NotPermitted("Not you"), "554 5.7.1"),
    ],
)
def test_another_client_that_is_refused_ends_the_session(step: str, error: MailError, code: str) -> None:
    peer = greeted(xclient="192.0.2.0/24")
    peer.pipeline.errors[step] = error
    assert peer.send(XCLIENT + b"NOOP\r\n") == [code]
    assert peer.session.machine.closing
    peer.session.disconnected()


def test_a_user_whom_nobody_knows_and_an_address_with_too_many_connections() -> None:
    peer = greeted(xclient="192.0.2.0/24", auth=AuthenticationFailed())
    assert peer.send(XCLIENT) == ["535 5.7.8"]
    peer = greeted(xclient="192.0.2.0/24")
    assert peer.send(b"XCLIENT ADDR=203.0.113.1\r\n") == ["421 4.3.2"]


def test_mail_that_waits_is_asked_for() -> None:
    peer = Peer()
    options = attrs.evolve(peer.service.options, turns=frozenset({"yy.example", "zz.example"}))
    peer.session = attrs.evolve(peer.service, options=options).session(cast(Link, peer.link))
    peer.greet()
    assert peer.send(b"EHLO a\r\nETRN yy.example\r\nETRN zz.example\r\n")[1:] == ["253 2.0.0", "251 2.0.0"]
    peer.pipeline.errors["turn"] = StoreUnavailable()
    assert peer.send(b"ETRN yy.example\r\n") == ["458 4.3.0"]


# --- Slow messages, and those who try names --------------------------------------------------------------------------


def test_a_message_that_drips_ends_the_session() -> None:
    peer = greeted()
    peer.send(BEFORE + b"DATA\r\n")
    peer.send(b"x" * 12_000)
    peer.link.clock.advance(120)
    assert peer.send(b"y" * 100) == []
    peer.link.clock.advance(120)
    assert peer.link.closed
    assert peer.send(b"") == ["421 4.4.2"]
    assert not peer.pipeline.writers[-1].open


def test_a_refused_message_may_not_drip_either() -> None:
    peer = greeted()
    peer.pipeline.errors["write"] = OverQuota()
    peer.send(BEFORE + b"DATA\r\nx\r\n")
    peer.link.clock.advance(120)
    assert peer.link.closed


def test_pace_is_that_of_one_message_and_nothing_else() -> None:
    peer = greeted()
    peer.send(BEFORE + b"DATA\r\nx\r\n.\r\n")
    peer.link.clock.advance(119)
    peer.send(BEFORE + b"DATA\r\n")
    peer.link.clock.advance(1)
    assert not peer.link.closed
    peer.send(b"x\r\n.\r\n")
    peer.link.clock.advance(1000)
    assert not peer.link.closed
    assert peer.link.clock.getDelayedCalls() == []
    peer.send(BEFORE + b"DATA\r\n")
    peer.session.disconnected()
    assert peer.link.clock.getDelayedCalls() == []


def test_a_message_in_chunks_goes_through_the_pipeline() -> None:
    peer = greeted()
    assert peer.send(BEFORE + b"BDAT 2\r\nx\rBDAT 1 LAST\r\n\n") == ["250 2.1.0", "250 2.1.5", *["250 2.0.0"] * 2]
    assert peer.calls("commit") == [(Mail(ANN, size=9), [BOB], b"x\r\n")]
    assert peer.link.clock.getDelayedCalls() != []
    peer.link.clock.advance(1000)
    assert not peer.link.closed


@pytest.mark.parametrize("end", [b"RSET\r\n", b"EHLO x\r\n", b"STARTTLS\r\n", b"QUIT\r\n", b""])
def test_a_message_that_is_not_complete_is_given_up(end: bytes) -> None:
    peer = greeted()
    peer.send(BEFORE + b"BDAT 5\r\nhello" + end)
    if not end or end == b"QUIT\r\n":
        peer.session.disconnected()
    assert not peer.pipeline.writers[-1].open
    assert peer.pipeline.transactions[-1].aborted
    assert peer.calls("commit") == []


@pytest.mark.parametrize(
    ("step", "error", "codes"),
    [
        ("open", TemporaryError("Full", status="4.3.1"), ["452 4.3.1", "503 5.5.1"]),
        ("write", OverQuota(), ["552 5.2.2", "503 5.5.1"]),
        ("commit", TemporaryError(), ["250 2.0.0", "451 4.3.0"]),
    ],
)
def test_refusals_of_chunks(step: str, error: MailError, codes: list[str]) -> None:
    peer = greeted()
    peer.pipeline.errors[step] = error
    assert peer.send(BEFORE + b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n")[2:] == codes
    assert peer.pipeline.transactions[-1].writer is None or not peer.pipeline.writers[-1].open
    peer.pipeline.errors.clear()
    assert peer.send(BEFORE + b"BDAT 1 LAST\r\nx")[-1] == "250 2.0.0"


def test_lmtp_tells_each_recipient_behind_the_last_chunk() -> None:
    peer = greeted("lmtp")
    peer.pipeline.outcomes[BOB] = Outcome.failed("Full", status="5.2.2")
    to = b"MAIL FROM:<>\r\nRCPT TO:<ann@xx.example>\r\nRCPT TO:<bob@yy.example>\r\n"
    assert peer.send(to + b"BDAT 1\r\nxBDAT 0 LAST\r\n")[3:] == ["250 2.0.0", "250 2.0.0", "552 5.2.2"]


def test_pace_is_that_of_octets_and_not_of_the_pause_between_chunks() -> None:
    peer = greeted()
    peer.send(BEFORE + b"BDAT 5\r\nhello")
    peer.link.clock.advance(250)
    assert not peer.link.closed
    peer.send(b"BDAT 500\r\nx")
    peer.link.clock.advance(239)
    assert peer.link.closed
    assert not peer.pipeline.writers[-1].open


QUICK = HarvestLimits(free=2, per_session=3)
GHOST = b"RCPT TO:<ghost@xx.example>\r\n"


@pytest.mark.parametrize(
    ("service", "error", "ends"),
    [
        ("smtp", NoSuchUser(), True),
        ("smtp", NotPermitted(), True),
        ("smtp", NotYetKnown(), True),
        ("smtp", OverQuota(), False),
        ("smtp", Busy(), False),
        ("lmtp", NoSuchUser(), False),
    ],
)
def test_who_tries_names_is_sent_away(service: str, error: MailError, ends: bool) -> None:
    peer = greeted(service, harvest=attrs.evolve(QUICK, free=3))
    peer.pipeline.errors["recipient ghost@xx.example"] = error
    peer.send(b"MAIL FROM:<ann@xx.example>\r\n")
    codes = peer.send(GHOST * 5)
    assert (codes[3:] == ["421 4.7.0"]) == ends
    assert len(set(codes[:3])) == 1


def test_a_message_begins_the_count_anew_and_answers_wait() -> None:
    peer = greeted(harvest=QUICK)
    peer.pipeline.errors["recipient ghost@xx.example"] = NoSuchUser()
    for _ in range(2):
        codes = peer.send(BEFORE + GHOST * 2 + b"DATA\r\nx\r\n.\r\n")
        assert codes[-1] == "250 2.0.0"
    peer.send(BEFORE + GHOST * 2)
    machine = peer.session.machine
    machine.receive_data(GHOST)
    event = machine.next_event()
    assert event is not None
    waits = peer.session.handle(event)
    assert waits is not None
    waiting = Deferred.fromCoroutine(waits)
    assert machine.data_to_send() == b""
    peer.link.clock.advance(1)
    assert waiting.called
    assert machine.data_to_send().startswith(b"550 5.1.1")
