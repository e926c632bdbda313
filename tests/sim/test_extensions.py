"""Each extension of SMTP from a client of ours to the next server, and back to the sender in a DSN; and what no client
may say of it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from zope.interface import implementer

from mailhub.interfaces import ACCEPT, IPolicy, ITransactionView, Origin, Screen, Verdict
from mailhub.message.envelope import DeliverBy, Mail, OriginalRecipient, Recipient, ValidSince
from mailhub.plugins import Component
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from mailhub.wire.smtp.extensions import EXTENSIONS

HOUR = 3600
PLAIN = b"From: ann@xx.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"
EIGHT = "From: ann@xx.example\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n".encode()
HEADER = "From: ann@xx.example\r\nSubject: Grüße\r\n\r\nHow are you?\r\n".encode()
BINARY = b"From: ann@xx.example\r\nContent-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r" + b"x" * 9


@implementer(IPolicy)
@attrs.define
class Witness(Screen):
    """Notes what the next server is told of each recipient."""

    told: list[tuple[Mail, Recipient]] = attrs.field(factory=list)

    def begin(self, origin: Origin) -> Witness:
        return self

    def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        self.told.append((transaction.mail, recipient))
        return ACCEPT


@attrs.frozen
class Row:
    """An extension. `mail` and `rcpt` are said of a message; `arrives` looks at what the next server is told;
    `returned` stands in the DSN when there is no such recipient; `wrong`: what is answered to what."""

    keyword: str
    mail: str = ""
    rcpt: str = ""
    arrives: Callable[[Mail, Recipient], bool] = lambda _mail, _recipient: True
    returned: tuple[bytes, ...] = ()
    wrong: tuple[tuple[str, int], ...] = ()
    message: bytes = PLAIN
    chunks: bool = False


def by_left(mail: Mail, _: Recipient) -> bool:
    by = mail.by
    return by is not None and by == DeliverBy(by.seconds, "N", True) and 900 < by.seconds <= 1000


ORCPT = OriginalRecipient("rfc822", "Ben+1@xx.example")
ROWS = [
    Row(
        "SIZE",
        "SIZE=60",
        arrives=lambda mail, _: mail.size > len(PLAIN),
        wrong=(("SIZE", 501), ("SIZE=", 501), ("SIZE=x", 501), ("SIZE=1 SIZE=1", 501), ("SIZE=99999999999", 552)),
    ),
    Row(
        "8BITMIME",
        "BODY=8BITMIME",
        arrives=lambda mail, _: mail.body_type == "8BITMIME",
        returned=(b"Content-Type: text/rfc822-headers",),
        wrong=(("BODY", 501), ("BODY=9BIT", 501), ("BODY=7BIT BODY=8BITMIME", 501)),
        message=EIGHT,
    ),
    Row(
        "BINARYMIME",
        "BODY=BINARYMIME",
        arrives=lambda mail, _: mail.body_type == "BINARYMIME",
        wrong=(("BODY=BINARY", 501),),
        message=BINARY,
        chunks=True,
    ),
    Row("CHUNKING", chunks=True),
    Row(
        "SMTPUTF8",
        "SMTPUTF8",
        arrives=lambda mail, _: mail.smtputf8,
        returned=(b"Content-Type: message/global-delivery-status", b"Content-Type: message/global-headers"),
        wrong=(("SMTPUTF8=1", 501), ("SMTPUTF8 SMTPUTF8", 501)),
        message=HEADER,
    ),
    Row(
        "DSN",
        "RET=FULL ENVID=Q+2B1",
        "NOTIFY=FAILURE,DELAY ORCPT=rfc822;Ben+2B1@xx.example",
        lambda mail, recipient: (
            (mail.ret, mail.envid, recipient.orcpt, recipient.notify)
            == ("FULL", "Q+1", ORCPT, frozenset({"FAILURE", "DELAY"}))
        ),
        (b"Original-Envelope-Id: Q+1", b"Original-Recipient: rfc822; Ben+1@xx.example", b"How are you?"),
        (("RET=ALL", 501), ("RET", 501), ("ENVID=a+b", 501), ("ENVID=", 501), (f"ENVID={'x' * 101}", 501)),
    ),
    Row(
        "REQUIRETLS",
        "REQUIRETLS",
        arrives=lambda mail, _: mail.requiretls,
        wrong=(("REQUIRETLS=1", 501), ("REQUIRETLS REQUIRETLS", 501)),
    ),
    Row(
        "DELIVERBY",
        "BY=1000;NT",
        arrives=by_left,
        returned=(b"Deliver-By-Date: Mon, 1 Jan 2024 00:16:4",),
        wrong=(
            ("BY", 501),
            ("BY=x;R", 501),
            ("BY=0;R", 501),
            ("BY=-1;R", 501),
            ("BY=5", 501),
            ("BY=9999999999;N", 501),
        ),
    ),
    Row(
        "FUTURERELEASE",
        "HOLDFOR=1800",
        arrives=lambda mail, _: mail.hold is None,
        returned=(b"Future-Release-Request: for;1800",),
        wrong=(
            ("HOLDFOR=0", 501),
            ("HOLDFOR=-5", 501),
            ("HOLDFOR=9999999", 501),
            ("HOLDUNTIL=tomorrow", 501),
            ("HOLDUNTIL=2039-01-01T00:00:00Z", 501),
            ("HOLDFOR=5 HOLDUNTIL=2024-01-01T01:00:00Z", 501),
        ),
    ),
    Row(
        "MT-PRIORITY",
        "MT-PRIORITY=6",
        arrives=lambda mail, _: mail.priority == 6,
        wrong=(("MT-PRIORITY", 501), ("MT-PRIORITY=10", 501), ("MT-PRIORITY=-0", 501), ("MT-PRIORITY=high", 501)),
    ),
    Row(
        "RRVS",
        rcpt="RRVS=2024-06-01T00:00:00Z;C",
        arrives=lambda _, recipient: recipient.rrvs == ValidSince(1717200000, "C"),
    ),
    Row(
        "AUTH",
        "AUTH=ann@xx.example",
        # The next server, to which we do not log in, is told of nobody (RFC 4954 5).
        arrives=lambda mail, _: mail.auth is None,
        wrong=(("AUTH", 501), ("AUTH=a+b", 501), (f"AUTH={'x' * 501}", 501)),
    ),
    Row(
        "XVERP",
        "XVERP=+-",
        arrives=lambda mail, recipient: str(mail.reverse_path).startswith("ann+"),
        returned=(b"To: <ann+nobody-yy.example@xx.example>",),
        wrong=(("XVERP=ab", 501), ("XVERP=", 501)),
    ),
]
WRONG_OF_RCPT = {
    "DSN": ("NOTIFY", "NOTIFY=NEVER,SUCCESS", "NOTIFY=MAYBE", "ORCPT=rfc822", "ORCPT=rfc822;a+b", "ORCPT=;a@b.example"),
    "RRVS": ("RRVS", "RRVS=yesterday", "RRVS=2024-06-01T00:00:00Z;X", "RRVS=2024-13-01T00:00:00Z"),
}


@attrs.define
class World:
    internet: Internet
    xx: Host
    yy: Host
    witness: Witness

    def caller(self) -> Caller:
        caller = self.internet.call(self.xx, "submissions")
        caller.ask(b"EHLO c.example\r\n", b"250 HELP")
        caller.ask(b"AUTH PLAIN " + b64encode(b"\0ann@xx.example\0correct horse") + b"\r\n", b"235 ")
        return caller

    def send(self, row: Row, to: str) -> None:
        caller = self.caller()
        caller.ask(f"MAIL FROM:<ann@xx.example> {row.mail}\r\n".encode(), b"250 2.1.0")
        caller.ask(f"RCPT TO:<{to}> {row.rcpt}\r\n".encode(), b"250 2.1.5")
        if row.chunks:
            half = len(row.message) // 2
            sent = b"BDAT %d\r\n" % half + row.message[:half]
            sent += b"BDAT %d LAST\r\n" % (len(row.message) - half) + row.message[half:]
        else:
            sent = b"DATA\r\n" + row.message + b".\r\n"
        caller.ask(sent, b"250 2.0.0 Queued")


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with Internet() as internet:
        config: Any = {"smtp": {"xverp": True}, "route": {"yy.example": {"tls": "required"}}}
        xx = internet.hub("xx.example", [], config)
        xx.add_account("ann@xx.example", "correct horse")
        witness = Witness()
        config = {"delivery": {"policies": ["witness"]}, "smtp": {"priority_limit": 9}}
        yy = internet.hub("yy.example", ["ben"], config, [Component("policy", "witness", lambda _, hub: witness)])
        yield World(internet, xx, yy, witness)


def named(row: Row) -> str:
    return row.keyword


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_what_is_said_arrives_at_the_next_server_and_the_message_in_the_mailbox(world: World, row: Row) -> None:
    world.send(row, "ben@yy.example")
    world.internet.run(60)
    if row.keyword == "FUTURERELEASE":
        assert world.witness.told == []
        world.internet.run(HOUR)
    ((mail, recipient),) = world.witness.told
    assert row.arrives(mail, recipient)
    (kept,) = world.yy.inbox("ben@yy.example")
    assert kept.endswith(row.message)
    assert list(world.xx.queued()) == []


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_what_is_said_comes_back_with_the_report(world: World, row: Row) -> None:
    world.send(row, "nobody@yy.example")
    world.internet.run(HOUR)
    (report,) = world.xx.inbox("ann@xx.example")
    assert b"\r\nAction: failed\r\n" in report
    assert b"\r\nStatus: 5.1.1\r\n" in report
    for line in row.returned:
        assert b"\r\n" + line in report


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_what_is_malformed_is_refused_and_what_is_unknown_as_well(world: World, row: Row) -> None:
    caller = world.caller()
    for parameters, code in (*row.wrong, ("XUNKNOWN=1", 555), ("HOLD-FOR", 555), ("=x", 501), ("NOTIFY=NEVER", 555)):
        caller.ask(f"MAIL FROM:<ann@xx.example> {parameters}\r\n".encode(), b"%d 5." % code)
        if code != 555:
            caller = world.caller()  # a session may make some mistakes, and no more
    caller = world.caller()
    caller.ask(b"MAIL FROM:<ann@xx.example>\r\n", b"250 ")
    for parameters in WRONG_OF_RCPT.get(row.keyword, ()):
        caller.ask(f"RCPT TO:<ben@yy.example> {parameters}\r\n".encode(), b"501 5.5.4")
    caller.ask(b"RCPT TO:<ben@yy.example> RET=FULL\r\n", b"555 5.5.4")


def test_every_extension_with_parameters_has_a_row() -> None:
    with_parameters = {each.keyword for each in EXTENSIONS if each.mail or each.rcpt}
    assert with_parameters <= {row.keyword for row in ROWS}
