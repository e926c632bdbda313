"""Delivery status notifications: what is in them, and what they cannot be made to do."""

from __future__ import annotations

from email import message_from_bytes
from typing import Any

import pytest

from mailhub.delivery.bounce import Bouncer
from mailhub.errors import MessageGone, NoSuchUser, NotYetKnown, TemporaryError
from mailhub.interfaces import QueuedMessage, QueuedRecipient, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import Octets, OctetsWriter, Table, environment

SENDER = Address("a", "xx.example")
STORE: Any = object()
HOME = (Route("store", SENDER, "a@xx.example"),)


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
) -> Submission | None:
    queue = queue or Originals(b"Subject: hello\r\n\r\nbody\r\n")
    real: Any = queue
    bouncer = Bouncer(
        hostname="mx.xx.example",
        environment=environment(),
        store=STORE,
        queue=real,
        routing=Table({sender.key: routes} if sender else {}),
    )
    row = QueuedRecipient(1, Route("smtp", recipient or Address("b", "yy.example")), 1, 0)
    message = QueuedMessage("m1", Mail(sender, smtputf8=utf8), 0, 10, (row,))
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


def test_no_report_without_anybody_to_tell() -> None:
    assert report(sender=None) is None
    assert report(routes=NoSuchUser()) is None
    assert report(routes=NotYetKnown()) is None
    assert report(routes=None) is None
    with pytest.raises(TemporaryError):
        report(routes=TemporaryError())
