"""Delivery status notifications: what is in them, and what they cannot be made to do."""

from __future__ import annotations

from email import message_from_bytes
from typing import Any

import pytest

from mailhub.delivery.bounce import Bouncer
from mailhub.errors import MessageGone, NoSuchUser, NotYetKnown, TemporaryError
from mailhub.interfaces import QueuedMessage, QueuedRecipient, ReversePath, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, OriginalRecipient, Outcome, Recipient
from mailhub.message.needs import BODY_8BIT
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import Octets, OctetsWriter, Table, environment

SENDER = Address("a", "xx.example")
STORE: Any = object()
HOME = (Route("store", SENDER, "a@xx.example"),)
OWNER, LIST = Address("owner", "xx.example"), Address("list", "xx.example")
OWNERS = (Route("store", OWNER, "owner@xx.example", reverse_path=ReversePath(SENDER)),)


class Originals:
    """A queue that has one message, or has lost it."""

    def __init__(self, message: bytes | None, store: object = STORE) -> None:
        self.store = store
        self.reader = Octets(message or b"")
        self.lost = message is None

    def deposits_into(self, store: object) -> bool:
        return store is self.store

    async def open(self, message_id: str) -> Octets:
        if self.lost:
            raise MessageGone
        return self.reader

    def new_body(self, size: int = 0) -> OctetsWriter:
        return OctetsWriter()


def report(
    *,
    sender: Address | None = SENDER,
    routes: Any = HOME,
    queue: Originals | None = None,
    utf8: bool = False,
    recipient: Address | None = None,
    reply: str = "550 no",
    mail: Mail | None = None,
    **route: Any,
) -> Submission | None:
    queue = queue or Originals(b"Subject: hello\r\n\r\nbody\r\n")
    mail = mail or Mail(sender, smtputf8=utf8)
    real: Any = queue
    bouncer = Bouncer(
        hostname="mx.xx.example",
        environment=environment(),
        store=STORE,
        queue=real,
        routing=Table({sender.key: routes, OWNER.key: OWNERS} if sender else {}),
    )
    row = QueuedRecipient(1, Route("smtp", recipient or Address("b", "yy.example"), **route), 1, 0)
    message = QueuedMessage("m1", mail, 0, 10, (row,))
    return result_of(bouncer.report(message, [(row, Outcome.failed(reply, status="5.1.1", remote="mx.yy.example"))]))


def octets(submission: Submission | None) -> bytes:
    assert submission is not None
    body: Any = submission.body
    return bytes(body.octets)


def test_a_report_for_a_sender_of_ours_is_a_deposit_with_the_null_reverse_path() -> None:
    made = report()
    assert made is not None
    assert made.mail == Mail(None)
    assert [(deposit.user, deposit.mailbox) for deposit in made.plan.deposits] == [("a@xx.example", "INBOX")]
    assert octets(made)[: made.relay_offset] == b"Return-Path: <>\r\n"
    assert b"\r\n\r\nbody" not in octets(made), "the header goes back, not the body"


def test_with_a_foreign_store_it_goes_through_the_queue() -> None:
    made = report(queue=Originals(b"\r\n", store=None))
    assert made is not None
    assert made.plan.routes == HOME


def test_a_message_with_smtputf8_gets_a_report_with_smtputf8() -> None:
    made = report(utf8=True, recipient=Address("bücher", "bücher.example"))
    assert made is not None
    assert made.mail == Mail(None, "8BITMIME", True)
    assert "utf-8; bücher@bücher.example".encode() in octets(made)


@pytest.mark.parametrize(
    "original", [None, b"", b"\r\nbody", b"X: " + b"x" * 200_000, b"Subject: a\r\n\r\n" + b"y" * 200_000]
)
def test_any_original_will_do(original: bytes | None) -> None:
    queue = Originals(original)
    made = octets(report(queue=queue))
    assert message_from_bytes(made).get_content_type() == "multipart/report"
    assert len(made) < 100_000
    assert queue.reader.closed or original is None


def test_what_a_server_said_cannot_break_out_of_its_field() -> None:
    made = octets(report(reply="550 no\r\nX-Evil: 1\r\n\r\n--boundary\r\n"))
    assert b"\r\nX-Evil" not in made


def groups(submission: Submission | None) -> list[dict[str, str]]:
    """The fields for each recipient, as programs read them."""
    status: Any = message_from_bytes(octets(submission)).get_payload(1)
    return [dict(group.items()) for group in status.get_payload()[1:]]


@pytest.mark.parametrize(
    ("notify", "told"), [((), 1), (("NEVER",), 0), (("SUCCESS", "DELAY"), 0), (("SUCCESS", "FAILURE"), 1)]
)
def test_who_does_not_want_to_be_told_is_not(notify: tuple[Any, ...], told: int) -> None:
    """RFC 3461 4.1."""
    made = report(originals=(Recipient(LIST, frozenset(notify)),))
    assert (made is not None) == bool(told)


def test_recipients_that_have_become_one_are_told_of_by_their_own_names() -> None:
    """RFC 3461 6.3: Original-Recipient for who gave ORCPT alone."""
    originals = (
        Recipient(LIST, frozenset({"FAILURE"}), OriginalRecipient("rfc822", "Everybody@zz.example")),
        Recipient(OWNER, frozenset({"NEVER"}), OriginalRecipient("rfc822", "hidden@zz.example")),
        Recipient(Address("b", "yy.example")),
    )
    made = report(originals=originals)
    assert [group.get("Original-Recipient") for group in groups(made)] == ["rfc822; Everybody@zz.example", None]
    names = [group["Final-Recipient"] for group in groups(made)]
    assert names == ["rfc822; list@xx.example", "rfc822; b@yy.example"], "as they were when we took the message"
    assert octets(made).count(b"(you wrote to <list@xx.example>)") == 1
    assert b"hidden" not in octets(made)


def test_the_envelope_id_goes_back() -> None:
    assert b"\r\nOriginal-Envelope-Id: QQ 1\r\n" in octets(report(mail=Mail(SENDER, envid="QQ 1")))


@pytest.mark.parametrize(
    ("ret", "size", "whole"), [("FULL", 10, True), ("HDRS", 10, False), ("", 10, False), ("FULL", 1 << 18, False)]
)
def test_the_message_goes_back_as_ret_wants_it(ret: Any, size: int, whole: bool) -> None:
    original = b"Subject: hello\r\n\r\n" + b"x\r\n" * (size // 3) + b"end\r\n"
    made = octets(report(queue=Originals(original), mail=Mail(SENDER, ret=ret)))
    assert (original in made) == whole
    assert b"Subject: hello" in made


def test_a_report_declares_what_it_has_itself() -> None:
    full = Originals("Subject: hello\r\n\r\nGrüße\r\n".encode())
    made = [
        report(utf8=True),
        report(mail=Mail(SENDER, "8BITMIME")),
        report(queue=full, mail=Mail(SENDER, "8BITMIME", ret="FULL")),
    ]
    assert [each and each.mail for each in made] == [Mail(None), Mail(None), Mail(None, "8BITMIME")]
    assert [each and each.needs for each in made] == [0, 0, BODY_8BIT]
    assert b"global" not in octets(made[0])


@pytest.mark.parametrize(
    ("fields", "requiretls", "there"),
    [
        (b"TLS-Required: No\r\n", False, 1),
        (b"TLS-Required: No\r\n", True, 0),
        (b"TLS-Required: No\r\n" * 2, False, 0),
        (b"TLS-Required: Yes\r\n", False, 0),
        (b"", False, 0),
    ],
)
def test_a_report_may_go_in_the_clear_as_its_message_might(fields: bytes, requiretls: bool, there: int) -> None:
    """RFC 8689 6."""
    queue = Originals(fields + b"Subject: hello\r\n\r\nTLS-Required: No\r\n")
    made = message_from_bytes(octets(report(queue=queue, mail=Mail(SENDER, requiretls=requiretls))))
    assert made.get_all("TLS-Required", []) == ["No"] * there


@pytest.mark.parametrize("original", [b"Subject: hello\r\n\r\n", "Subject: hello\r\n\r\nGrüße\r\n".encode()])
def test_a_report_is_protected_as_its_message_was(original: bytes) -> None:
    """RFC 8689 5: its header alone goes back, whatever was asked for."""
    for requiretls in (True, False):
        made = report(queue=Originals(original), mail=Mail(SENDER, ret="FULL", requiretls=requiretls))
        assert made is not None
        assert made.mail.requiretls is requiretls
        assert (b"-headers" in octets(made)) is requiretls


@pytest.mark.parametrize("original", [b"Subject: hello\r\n\r\n", "Subject: hello\r\n\r\nGrüße\r\n".encode()])
@pytest.mark.parametrize("priority", [None, -4, 6])
def test_a_report_is_as_urgent_as_its_message(original: bytes, priority: int | None) -> None:
    made = report(queue=Originals(original), mail=Mail(SENDER, ret="FULL", priority=priority))
    assert made is not None
    assert (made.mail.priority, made.rank) == (priority, priority or 0)


def test_a_route_with_a_reverse_path_of_its_own_has_its_own_report() -> None:
    """What the sender wanted to know is not what its owner has asked for."""
    made = report(
        mail=Mail(SENDER, envid="secret", ret="FULL"),
        originals=(Recipient(LIST, frozenset({"NEVER"}), OriginalRecipient("rfc822", "l@zz.example")),),
        reverse_path=ReversePath(OWNER),
    )
    assert made is not None
    assert [deposit.user for deposit in made.plan.deposits] == ["owner@xx.example"]
    assert b"To: <owner@xx.example>" in octets(made)
    assert not any(word in octets(made) for word in (b"secret", b"Original-Recipient", b"list@", b"message/rfc822"))
    assert report(reverse_path=ReversePath(None)) is None


def test_no_report_without_anybody_to_tell() -> None:
    assert report(sender=None) is None
    assert report(routes=NoSuchUser()) is None
    assert report(routes=NotYetKnown()) is None
    assert report(routes=None) is None
    with pytest.raises(TemporaryError):
        report(routes=TemporaryError())
