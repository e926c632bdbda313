"""Next hops that have less than a message needs, met by whole hubs."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest

from mailhub.testing.hubs import Host, Internet
from tests.delivery.relay.test_smtp import Server

PLAIN = ("PIPELINING",)
EIGHT = ("PIPELINING", "8BITMIME")

TEXT = "Grüße aus Köln\r\n"
MESSAGE = (
    "From: Zoë <a@xx.example>\r\nTo: b@yy.example\r\nSubject: Schöne Grüße\r\n"
    f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nMIME-Version: 1.0\r\n\r\n{TEXT}"
).encode()
SIGNED = (
    "Subject: signed\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n"
    f"Content-Transfer-Encoding: 8bit\r\n\r\n{TEXT}--b\r\n\r\nsignature\r\n--b--\r\n"
).encode()
DAY = 86400


def exchanger(internet: Internet, number: int, *extensions: str, preference: int = 10) -> Server:
    """A host that takes mail for yy.example and offers so much."""
    server = Server(extensions=extensions)
    address = f"10.9.9.{number}"
    internet.network.listen(address, 25, server)
    internet.resolver.add("yy.example", f"mx{number}.yy.example", address, preference)
    return server


def reports(hub: Host) -> list[str]:
    return [octets.decode() for octets in hub.inbox("a@xx.example") if b"multipart/report" in octets]


def test_a_hop_without_8bitmime_gets_the_same_message_in_7_bit() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["a"])
        hop = exchanger(internet, 1, *PLAIN)
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(60)
        (sent,) = hop.messages
        assert sent.isascii()
        assert "MAIL FROM:<a@xx.example>" in hop.commands
        message = message_from_bytes(sent, policy=default)
        assert [message["from"], message["subject"]] == ["Zoë <a@xx.example>", "Schöne Grüße"]
        assert message.get_content().splitlines() == TEXT.splitlines()
        assert xx.queued() == []
        assert reports(xx) == []


@pytest.mark.parametrize("preference", [5, 10, 20])
def test_of_two_exchangers_the_one_that_can_gets_it_as_it_is(preference: int) -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["a"])
        without = exchanger(internet, 1, *PLAIN)
        able = exchanger(internet, 2, *EIGHT, "SMTPUTF8", preference=preference)
        for _ in range(5):
            xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
            internet.run(60)
        assert without.messages == []
        assert len(able.messages) == 5
        assert all(sent.endswith(MESSAGE.partition(b"\r\n\r\n")[2]) for sent in able.messages)
        assert "MAIL FROM:<a@xx.example> BODY=8BITMIME SMTPUTF8" in able.commands


def test_what_must_not_change_waits_for_an_exchanger_and_is_returned_where_there_is_none() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["a"])
        hop = exchanger(internet, 1, *PLAIN)
        away = exchanger(internet, 2, *EIGHT, preference=20)
        away.script["GREET"] = ["421 later", "421 later", "220 hi"]
        xx.submit("a@xx.example", ["b@yy.example"], SIGNED)
        internet.run(DAY)
        assert [sent.endswith(SIGNED.partition(b"\r\n\r\n")[2]) for sent in away.messages] == [True]
        assert [hop.messages, reports(xx)] == [[], []]
        away.extensions = PLAIN
        xx.submit("a@xx.example", ["b@yy.example"], SIGNED)
        internet.run(DAY)
        assert hop.messages == []
        (report,) = reports(xx)
        assert "Status: 5.6.3" in report
        assert "signed or encrypted" in report
        assert report.isascii()


def test_a_report_needs_no_more_than_it_has() -> None:
    """What was declared 8BITMIME and SMTPUTF8 comes back to a host that has neither."""
    with Internet() as internet:
        xx = internet.hub("xx.example", config={"aliases": {"all@xx.example": ["nobody@zz.example"]}})
        internet.hub("zz.example")
        hop = exchanger(internet, 1, *PLAIN)
        xx.submit("b@yy.example", ["all@xx.example"], MESSAGE.replace(b"a@xx.example", b"b@yy.example"))
        internet.run(600)
        (report,) = hop.messages
        assert report.isascii()
        assert b"Status: 5.1.1" in report
        assert "MAIL FROM:<>" in hop.commands
