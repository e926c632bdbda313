"""What a message needs and what servers have: who gets it as it is, who in another form, and who not at all."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailhub.delivery.relay import forms
from mailhub.delivery.relay.forms import Form, Forms
from mailhub.errors import MailError, StoreUnavailable, TemporaryError
from mailhub.interfaces import Delivery, NextHop
from mailhub.message.address import Address
from mailhub.message.convert import CannotConvert
from mailhub.message.envelope import Mail, Outcome, Source
from mailhub.message.needs import BODY_8BIT, HEADER_UTF8, Needs, Offer, needs_of
from mailhub.threads import InlineThreads
from tests.delivery.doubles import Octets
from tests.delivery.relay.test_smtp import Server, World, states

PLAIN = ("PIPELINING",)
EIGHT = ("PIPELINING", "8BITMIME")
ALL = ("PIPELINING", "8BITMIME", "SMTPUTF8")

ANN = Address("a", "xx.example")
TEXT = "Grüße".encode()
BODY = b"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + TEXT + b"\r\n"
QUOTED = (
    b"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n"
)
HEADER = b"Subject: Zo\xc3\xab\r\n\r\nhello\r\n"
SIGNED = b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" + TEXT + b"\r\n--b\r\n\r\nx\r\n--b--\r\n"


@pytest.fixture
def world() -> Iterator[World]:
    made = World(body=BODY)
    yield made
    stopped = Deferred.fromCoroutine(made.agent().stop())
    made.clock.pump([0.5] * 20)
    assert stopped.called
    assert made.clock.getDelayedCalls() == []


def said(server: Server) -> list[str]:
    """MAIL and RCPT as the server heard them."""
    return [line for line in server.commands if line.startswith(("MAIL", "RCPT"))]


@pytest.mark.parametrize("extensions", [(), PLAIN, ALL])
def test_ascii_goes_to_any_server_whatever_was_declared(world: World, extensions: tuple[str, ...]) -> None:
    world.body = b"Subject: s\r\n\r\nhello\r\n"
    world.mail = Mail(ANN, "8BITMIME", smtputf8=True)
    server = world.server("10.0.0.1", Server(extensions=extensions), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert said(server) == ["MAIL FROM:<a@xx.example>", "RCPT TO:<b@yy.example>"]
    assert server.messages == [world.body]


@pytest.mark.parametrize("needs", [None, BODY_8BIT])
def test_what_is_8_bit_is_declared_whether_its_client_did_or_not(world: World, needs: int | None) -> None:
    world.needs = needs
    server = world.server("10.0.0.1", Server(extensions=EIGHT), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert said(server)[0] == "MAIL FROM:<a@xx.example> BODY=8BITMIME"
    assert server.messages == [BODY]


def test_an_exchanger_that_takes_it_as_it_is_comes_before_a_better_one_that_does_not(world: World) -> None:
    first = world.server("10.0.0.1", Server(extensions=PLAIN), host="mx1")
    second = world.server("10.0.0.2", Server(extensions=EIGHT), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert second.messages == [BODY]
    assert said(first) == []


@pytest.mark.parametrize("second", [None, Server(extensions=PLAIN), Server(extensions=EIGHT, MAIL=["451 later"])])
def test_it_is_converted_where_nobody_else_takes_it(world: World, second: Server | None) -> None:
    first = world.server("10.0.0.1", Server(extensions=PLAIN), host="mx1")
    if second is not None:
        world.server("10.0.0.2", second, host="mx2", preference=20)
    assert states(world.deliver("b", "c")) == ["delivered"] * 2
    assert first.messages == [QUOTED]
    assert said(first) == ["MAIL FROM:<a@xx.example>", "RCPT TO:<b@yy.example>", "RCPT TO:<c@yy.example>"]
    assert first.connections == 1
    # The connection of before serves the next message, too.
    world.body = b"x: y\r\n\r\n"
    world.deliver("b")
    assert first.connections == 1


def test_a_converted_message_that_is_refused_for_now_is_tried_at_the_next_server(world: World) -> None:
    world.server("10.0.0.1", Server(extensions=PLAIN, MAIL=["451 later"]), host="mx1")
    second = world.server("10.0.0.2", Server(extensions=()), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert second.messages == [QUOTED]


@pytest.mark.parametrize("refused", ["MAIL", "RCPT c@yy.example", "END"])
@pytest.mark.parametrize("status", ["5.6.1", "5.6.3", "5.6.9"])
def test_a_server_that_takes_less_than_it_offers_gets_it_converted(world: World, refused: str, status: str) -> None:
    """As one that sends on to another without 8BITMIME."""
    server = world.server("10.0.0.1", Server(extensions=ALL), host="mx1")
    server.script[refused] = [f"554 {status} no 8-bit", "250 2.0.0 ok"]
    assert states(world.deliver("b", "c")) == ["delivered"] * 2
    assert server.messages[-1] == QUOTED
    assert said(server)[-2 if "c@" in refused else -3] == "MAIL FROM:<a@xx.example>"
    assert server.connections == 1


def test_of_lmtp_recipients_only_those_refused_as_it_is_get_it_converted(world: World) -> None:
    refused = ["250 2.1.5 ok", "554 5.6.3 no 8-bit", "250 2.1.5 ok"]
    server = world.server("10.0.0.1", Server(extensions=ALL, END=refused), port=24)
    assert states(world.deliver("b", "c", target="10.0.0.1", kind="lmtp")) == ["delivered"] * 2
    assert said(server)[3:] == ["MAIL FROM:<a@xx.example>", "RCPT TO:<c@yy.example>"]
    assert server.messages == [BODY, QUOTED]


def test_what_a_server_refuses_in_every_form_is_returned_in_its_words(world: World) -> None:
    server = world.server("10.0.0.1", Server(extensions=ALL, END=["554 5.6.1 no"]), host="mx1")
    (outcome,) = world.deliver("b")
    assert outcome == Outcome.failed("554 5.6.1 no", status="5.6.1", remote="mx1", source=Source.REMOTE)
    assert server.messages == [BODY, QUOTED]
    world.body = b"Subject: s\r\n\r\nhello\r\n"
    world.deliver("b")
    assert server.messages[2:] == [world.body]


def test_a_server_that_takes_what_it_offers_comes_before_one_that_does_not(world: World) -> None:
    first = world.server("10.0.0.1", Server(extensions=ALL, END=["554 5.6.3 no"]), host="mx1")
    second = world.server("10.0.0.2", Server(extensions=EIGHT), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert [first.messages, second.messages] == [[BODY], [BODY]]


def test_a_server_that_answers_helo_alone_gets_it_converted(world: World) -> None:
    server = Server(extensions=())
    server.script["EHLO"] = ["502 no"]
    world.server("10.0.0.1", server, host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert server.messages == [QUOTED]


def test_what_has_no_other_form_is_returned_once_all_were_tried(world: World) -> None:
    world.body = SIGNED
    world.server("10.0.0.1", Server(extensions=PLAIN), host="mx1")
    world.server("10.0.0.2", Server(extensions=PLAIN), host="mx2", preference=20)
    (outcome,) = world.deliver("b")
    text = "Message is signed or encrypted with 8-bit content, which cannot change"
    assert outcome == Outcome.failed(text, status="5.6.3", remote="mx2", source=Source.SESSION)


@pytest.mark.parametrize("greeting", ["421 later", "drop"])
def test_what_has_no_other_form_waits_for_an_exchanger_that_may_take_it(world: World, greeting: str) -> None:
    world.body = SIGNED
    world.server("10.0.0.1", Server(extensions=PLAIN), host="mx1")
    world.server("10.0.0.2", Server(extensions=EIGHT, GREET=[greeting]), host="mx2", preference=20)
    world.server("10.0.0.3", Server(extensions=PLAIN), host="mx3", preference=30)
    assert states(world.deliver("b")) == ["delayed"]


def test_a_header_in_utf8_is_declared_or_becomes_encoded_words(world: World) -> None:
    world.body = HEADER
    first = world.server("10.0.0.1", Server(extensions=EIGHT), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert first.messages == [b"Subject: =?utf-8?q?Zo=C3=AB?=\r\n\r\nhello\r\n"]
    assert said(first)[0] == "MAIL FROM:<a@xx.example>"
    second = world.server("10.0.0.2", Server(extensions=ALL), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert second.messages == [HEADER]
    assert said(second)[0] == "MAIL FROM:<a@xx.example> BODY=8BITMIME SMTPUTF8"


def test_an_address_in_the_header_without_other_form_is_returned(world: World) -> None:
    world.body = b"To: <zo\xc3\xab@xx.example>\r\n\r\nhello\r\n"
    world.server("10.0.0.1", Server(extensions=EIGHT), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state.value, outcome.status) == ("failed", "5.6.9")


def test_recipients_whose_address_needs_smtputf8_go_to_who_has_it_and_the_others_to_the_best(world: World) -> None:
    world.body = b"x: y\r\n\r\n"
    first = world.server("10.0.0.1", Server(extensions=EIGHT), host="mx1")
    second = world.server("10.0.0.2", Server(extensions=ALL), host="mx2", preference=20)
    assert states(world.deliver("b", "zoë")) == ["delivered"] * 2
    assert said(first) == ["MAIL FROM:<a@xx.example>", "RCPT TO:<b@yy.example>"]
    assert said(second) == ["MAIL FROM:<a@xx.example> SMTPUTF8", "RCPT TO:<zoë@yy.example>"]


@pytest.mark.parametrize(
    ("sender", "to", "expected"),
    [
        ("a@xx.example", ["b", "zoë"], ["delivered", "failed"]),
        ("a@xx.example", ["zoë"], ["failed"]),
        ("zoë@xx.example", ["b", "c"], ["failed", "failed"]),
        ("a@bücher.example", ["b"], ["delivered"]),
    ],
)
def test_an_address_that_nobody_takes_is_returned(
    world: World, sender: str, to: list[str], expected: list[str]
) -> None:
    world.mail = Mail(Address.parse(sender))
    world.server("10.0.0.1", Server(extensions=PLAIN), host="mx1")
    outcomes = world.deliver(*to)
    assert states(outcomes) == expected
    assert {each.status for each in outcomes if each.state.value == "failed"} <= {"5.6.7"}


def test_long_lines_are_encoded_for_smtp_and_left_for_a_mail_store(world: World) -> None:
    world.body = b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" + b"word " * 500 + b"\r\n"
    server = world.server("10.0.0.1", Server(extensions=EIGHT), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    (sent,) = server.messages
    assert message_from_bytes(sent).get_payload(decode=True) == b"word " * 500 + b"\r\n"
    assert max(map(len, sent.split(b"\r\n"))) <= 76
    store = world.server("10.0.0.2", Server(extensions=EIGHT), port=24)
    world.hops["yy.example"] = NextHop(host="10.0.0.2")
    assert states(world.deliver("b", kind="lmtp", target="10.0.0.2")) == ["delivered"]
    assert store.messages == [world.body]


def test_long_lines_that_are_signed_are_broken_rather_than_returned(world: World) -> None:
    world.body = SIGNED.replace(TEXT, b"x" * 1500)
    server = world.server("10.0.0.1", Server(extensions=EIGHT), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert server.messages[0].replace(b"\r\n ", b"") == world.body


def test_a_message_that_cannot_be_read_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server("10.0.0.1", Server(extensions=PLAIN), host="mx1")

    async def read(self: object, offset: int = 0, length: int = -1) -> bytes:
        raise StoreUnavailable

    monkeypatch.setattr(Octets, "read", read)
    (outcome,) = world.deliver("b")
    assert (outcome.state.value, outcome.remote) == ("delayed", "")


# --- The forms alone ------------------------------------------------------------------------------------------------


def forms_of(octets: bytes, needs: int | None = None) -> Forms:
    body: Any = Octets(octets)
    return Forms(Delivery("m1", Mail(ANN), "", (), body, needs), InlineThreads())


def result(coroutine: Any) -> Any:
    """What a coroutine gives at once."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    if isinstance(results[0], Form):
        return results[0]
    return results[0] if isinstance(results[0], bytes) else results[0].value


def test_needs_that_are_known_are_believed_and_others_looked_for() -> None:
    assert result(forms_of(BODY, HEADER_UTF8).as_it_is()).needs == Needs(HEADER_UTF8)
    assert result(forms_of(BODY).as_it_is()).needs == Needs(BODY_8BIT)


def test_what_came_as_binarymime_is_binary_though_nobody_has_looked() -> None:
    body: Any = Octets(b"Subject: x\r\n\r\nx\r\n")
    made = Forms(Delivery("m1", Mail(ANN, "BINARYMIME"), "", (), body), InlineThreads())
    assert result(made.as_it_is()).needs.binary
    assert not result(made.for_hop(Offer(eight_bit=True))).needs.binary


@pytest.mark.parametrize("large", [False, True])
def test_large_messages_are_converted_in_files(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(forms, "IN_MEMORY", 10)
    made = forms_of(BODY)
    form = result(made.for_hop(Offer()))
    assert result(form.body.read()) == QUOTED
    assert result(form.body.read(len(QUOTED) - 2, 100)) == b"\r\n"
    assert (form.body.size, form.needs) == (len(QUOTED), needs_of(QUOTED))
    assert result(made.for_hop(Offer())) is form
    assert isinstance(result(forms_of(SIGNED).for_hop(Offer())), CannotConvert)
    made.close()
    if large:
        assert isinstance(result(form.body.read()), StoreUnavailable)


def test_a_disk_that_is_full_is_a_matter_of_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(forms, "IN_MEMORY", 10)

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(forms, "TemporaryFile", full)
    error = result(forms_of(BODY).for_hop(Offer()))
    assert isinstance(error, TemporaryError)
    assert error.status == "4.3.1"


def test_a_body_that_ends_early_is_an_error() -> None:
    made = forms_of(BODY)
    made._body.size += 1
    assert isinstance(result(made.as_it_is()), MailError)
