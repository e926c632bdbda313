"""What SMTP's extensions promise, from a client to the mailbox on another server."""

from __future__ import annotations

from base64 import b64decode, b64encode
from email import message_from_bytes
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.interfaces import RowChange
from mailhub.message.address import Address
from mailhub.message.envelope import FutureRelease, Mail, Recipient
from mailhub.plugins import Component
from mailhub.testing.hubs import Internet
from tests.sim.hops import Hop

PDF = b"%PDF\n\r\0\xff" + b"x" * 1200 + b"\n"
BINARY = (
    b"From: a@xx.example\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n" + PDF
)


@pytest.mark.parametrize("binary", [True, False])
def test_a_binary_message_is_kept_as_it_is_and_sent_on_as_the_next_server_takes_it(binary: bool) -> None:
    with Internet() as internet:
        aliases = {"both@xx.example": ["a@xx.example", "b@yy.example"]}
        xx = internet.hub("xx.example", users=["a"], config={"aliases": aliases})
        yy = internet.hub("yy.example", ["b"], {} if binary else {"smtp": {"extensions_off": ["BINARYMIME"]}})
        caller = internet.call(xx, "smtp")
        chunks = [b"BDAT %d\r\n" % 700 + BINARY[:700], b"BDAT %d LAST\r\n" % (len(BINARY) - 700) + BINARY[700:]]
        envelope = b"MAIL FROM:<s@zz.example> BODY=BINARYMIME\r\nRCPT TO:<both@xx.example>\r\n"
        caller.ask(b"EHLO c.example\r\n" + envelope + b"".join(chunks), b"250 2.0.0 Queued")
        internet.run(60)
        (kept,) = xx.inbox("a@xx.example")
        assert kept.endswith(BINARY)
        (sent_on,) = yy.inbox("b@yy.example")
        if binary:
            assert sent_on.endswith(BINARY)
        else:
            part = message_from_bytes(sent_on)
            assert part["Content-Transfer-Encoding"] == "base64"
            assert b64decode(str(part.get_payload())) == PDF


MESSAGE = b"DATA\r\nFrom: a@xx.example\r\nSubject: x\r\n\r\nx\r\n.\r\n"


def test_a_trusted_proxy_says_who_is_there_and_who_has_logged_in() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"], {"trust": {"xclient": ["10.9.9.9"]}})
        yy = internet.hub("yy.example", ["ben"])
        caller = internet.call(xx, "smtp")
        assert b"250-XCLIENT NAME ADDR" in caller.ask(b"EHLO proxy.example\r\n", b"250 HELP")
        caller.ask(b"XCLIENT ADDR=198.51.100.7 HELO=their.example LOGIN=ann@xx.example\r\n", b"220 ")
        caller.ask(b"EHLO proxy.example\r\n", b"250 HELP")
        caller.ask(b"MAIL FROM:<ann@xx.example>\r\nRCPT TO:<ben@yy.example>\r\n" + MESSAGE, b"250 2.0.0 Queued")
        caller.ask(b"XCLIENT ADDR=198.51.100.8 LOGIN=[UNAVAILABLE]\r\nQUIT\r\n", b"220 ")
        caller.ask(b"EHLO other.example\r\n", b"250 HELP")
        caller.ask(b"MAIL FROM:<ann@xx.example>\r\nRCPT TO:<ben@yy.example>\r\n", b"550 5.7.1")
        caller.ask(b"RSET\r\nXCLIENT LOGIN=nobody@@\r\n", b"535 5.7.8")
        caller.wait_for_end()
        internet.run(60)
        (arrived,) = yy.inbox("ben@yy.example")
        assert b"Received: from their.example ([198.51.100.7]) by mx.xx.example with ESMTPA" in arrived


@pytest.mark.parametrize("login", ["off@xx.example", "nobody@xx.example", "eve@elsewhere.example"])
def test_a_proxy_logs_in_nobody_who_could_not_log_in(login: str) -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann", "off"], {"trust": {"xclient": ["10.9.9.9"]}})
        internet.wait(xx.hub.accounts.set_enabled("off@xx.example", False))
        caller = internet.call(xx, "smtp")
        caller.ask(b"EHLO proxy.example\r\n", b"250 HELP")
        caller.ask(b"XCLIENT ADDR=198.51.100.7 LOGIN=%b\r\n" % login.encode(), b"535 5.7.8")
        caller.wait_for_end()
        assert [each.user for each in internet.wait(xx.hub.accounts.all())] == ["ann@xx.example", "off@xx.example"]


def test_a_login_by_a_proxy_ends_when_the_account_is_disabled() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"], {"trust": {"xclient": ["10.9.9.9"]}})
        caller = internet.call(xx, "smtp")
        caller.ask(b"EHLO proxy.example\r\n", b"250 HELP")
        caller.ask(b"XCLIENT ADDR=198.51.100.7 LOGIN=ann@xx.example\r\n", b"220 ")
        caller.ask(b"EHLO proxy.example\r\n", b"250 HELP")
        internet.wait(xx.hub.accounts.set_enabled("ann@xx.example", False))
        internet.run(2)
        assert caller.heard.endswith(b"421 4.7.0 Password or account has changed\r\n")
        caller.wait_for_end()


def test_a_proxy_logs_in_whom_a_directory_knows() -> None:
    class Staff:
        def __init__(self, options: object, hub: object) -> None:
            pass

        def exists(self, user: str) -> bool:
            return user.startswith("dora@")

    with Internet() as internet:
        config = {"trust": {"xclient": ["10.9.9.9"]}, "auth": {"directories": ["staff"]}}
        xx = internet.hub("xx.example", ["ann"], config, [Component("directory", "staff", Staff)])
        for login, code in ((b"dora@xx.example", b"220 "), (b"dora@zz.example", b"535 5.7.8")):
            caller = internet.call(xx, "smtp")
            caller.ask(b"EHLO proxy.example\r\n", b"250 HELP")
            caller.ask(b"XCLIENT ADDR=198.51.100.7 LOGIN=%b\r\n" % login, code)
        users = [each.user for each in internet.wait(xx.hub.accounts.all())]
        assert users == ["ann@xx.example", "dora@xx.example"]


def test_strangers_say_it_in_vain() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"], {"trust": {"xclient": ["10.9.9.8"], "proxy_protocol": ["10.9.9.8"]}})
        caller = internet.call(xx, "smtp")
        assert b"XCLIENT" not in caller.ask(b"EHLO proxy.example\r\n", b"250 HELP")
        caller.ask(b"XCLIENT ADDR=198.51.100.7\r\n", b"502 5.5.1")
        caller.ask(b"PROXY TCP4 198.51.100.7 192.0.2.25 4711 25\r\n", b"554 5.5.1")
        caller.wait_for_end()


def test_the_proxy_header_comes_before_the_greeting() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"], {"trust": {"proxy_protocol": ["10.9.9.9"]}})
        caller = internet.call(xx, "smtp")
        internet.run(5)
        assert caller.heard == b""
        caller.ask(b"PROXY TCP6 2001:db8::7 2001:db8::25 4711 25\r\n", b"220 ")
        caller.ask(b"HELO c.example\r\nMAIL FROM:<s@zz.example>\r\nRCPT TO:<ann@xx.example>\r\n", b"250 2.1.5")
        caller.ask(MESSAGE, b"250 2.0.0 Queued")
        (arrived,) = xx.inbox("ann@xx.example")
        assert b"Received: from c.example ([IPv6:2001:db8::7]) by mx.xx.example with SMTP" in arrived
        silent = internet.call(xx, "smtp")
        silent.wait_for_end(11)
        assert silent.heard == b""


def test_a_mailbox_that_is_younger_than_what_its_sender_knows_is_somebody_elses() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"], {"aliases": {"info@xx.example": ["ann@xx.example"]}})
        caller = internet.call(xx, "smtp")
        assert b"250-RRVS" in caller.ask(b"EHLO c.example\r\nMAIL FROM:<s@zz.example>\r\n", b"250 2.1.0")
        for date, code in ((b"2023-12-31T00:00:00Z", b"550 5.7.17"), (b"2024-02-01T00:00:00+01:00;C", b"250 2.1.5")):
            caller.ask(b"RCPT TO:<ann@xx.example> RRVS=%b\r\n" % date, code)
        # What an alias leads to was not meant.
        caller.ask(b"RCPT TO:<info@xx.example> RRVS=2023-12-31T00:00:00Z\r\n", b"250 2.1.5")
        caller.ask(MESSAGE, b"250 2.0.0 Queued")
        assert len(xx.inbox("ann@xx.example")) == 1


def test_each_recipient_has_its_own_reverse_path_where_that_is_asked_for() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ben"], {"smtp": {"xverp": True}})
        xx.add_account("ann@xx.example", "correct horse")
        yy = internet.hub("yy.example", ["eve"])
        caller = internet.call(xx, "submissions")
        login = b64encode(b"\0ann@xx.example\0correct horse")
        caller.ask(b"EHLO c.example\r\nAUTH PLAIN " + login + b"\r\n", b"235 ")
        to = [b"RCPT TO:<%b>\r\n" % each for each in (b"ben@xx.example", b"eve@yy.example", b"nobody@yy.example")]
        caller.ask(b"MAIL FROM:<ann@xx.example> XVERP\r\n" + b"".join(to) + MESSAGE, b"250 2.0.0 Queued")
        internet.run(60)
        (here,), (there,) = xx.inbox("ben@xx.example"), yy.inbox("eve@yy.example")
        assert here.startswith(b"Return-Path: <ann+ben=xx.example@xx.example>\r\n")
        assert there.startswith(b"Return-Path: <ann+eve=yy.example@xx.example>\r\n")
        (failure,) = xx.inbox("ann@xx.example")
        assert message_from_bytes(failure)["To"] == "<ann+nobody=yy.example@xx.example>"


def test_who_asks_for_reverse_paths_of_each_recipient_is_told_what_was_asked_for() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ben"], {"smtp": {"xverp": True}})
        xx.add_account("ann@xx.example", "correct horse")
        internet.hub("yy.example", ["eve"])
        internet.resolver.add("old.example", "mx.old.example", "10.0.9.9")
        internet.network.listen("10.0.9.9", 25, Hop(internet.clock))  # which knows no DSN
        caller = internet.call(xx, "submissions")
        login = b64encode(b"\0ann@xx.example\0correct horse")
        caller.ask(b"EHLO c.example\r\nAUTH PLAIN " + login + b"\r\n", b"235 ")
        asked = (
            b"ben@xx.example> NOTIFY=SUCCESS ORCPT=rfc822;a@a.example",
            b"eve@yy.example> NOTIFY=SUCCESS ORCPT=rfc822;b@b.example",
            b"q@old.example> NOTIFY=SUCCESS",
            b"no@yy.example> NOTIFY=NEVER",
            b"nobody@yy.example> NOTIFY=FAILURE ORCPT=rfc822;d@d.example",
        )
        to = b"".join(b"RCPT TO:<%b\r\n" % each for each in asked)
        start = b"MAIL FROM:<ann@xx.example> XVERP RET=FULL ENVID=E1\r\n"
        caller.ask(start + to + MESSAGE, b"250 2.0.0 Queued")
        internet.run(60)
        told = []
        for octets in xx.inbox("ann@xx.example"):
            message: Any = message_from_bytes(octets)
            common, group = message.get_payload(1).get_payload()
            assert common["Original-Envelope-Id"] == "E1"
            whom = str(message["To"]).removeprefix("<ann+").removesuffix("@xx.example>")
            told.append((whom, group["Action"], group["Original-Recipient"]))
        assert sorted(told) == [
            ("ben=xx.example", "delivered", "rfc822; a@a.example"),
            ("eve=yy.example", "delivered", "rfc822; b@b.example"),
            ("nobody=yy.example", "failed", "rfc822; d@d.example"),
            ("q=old.example", "relayed", None),
        ]


def test_mail_that_waits_is_tried_when_its_host_asks_for_it() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"], {"smtp": {"etrn": ["yy.example"]}})
        yy = internet.hub("yy.example", ["ben"])
        yy.unlisten()
        xx.submit("ann@xx.example", ["ben@yy.example"], b"Subject: x\r\n\r\nx\r\n")
        internet.run(3000)
        yy.listen()
        caller = internet.call(xx, "smtp")
        caller.ask(b"EHLO mx.yy.example\r\nETRN yy.example\r\n", b"253 2.0.0 OK, 1 pending")
        internet.run(5)
        assert len(yy.inbox("ben@yy.example")) == 1
        caller.ask(b"ETRN yy.example\r\n", b"251 2.0.0")
        caller.ask(b"ETRN zz.example\r\n", b"459 4.7.1")


def test_mail_is_asked_for_with_all_below_a_domain_and_by_its_transport() -> None:
    with Internet() as internet:
        slow = {"recipients": ["zz.example"], "host": "10.0.9.9"}
        config = {"smtp": {"etrn": ["yy.example", "#slow"]}, "transport": {"slow": slow}}
        xx = internet.hub("xx.example", ["ann"], config)
        for domain in ("yy.example", "sub.yy.example", "otheryy.example"):
            internet.resolver.add(domain, f"mx.{domain}", "10.0.9.8")
            xx.submit("ann@xx.example", [f"b@{domain}"], b"Subject: x\r\n\r\nx\r\n")
        xx.submit("ann@xx.example", ["b@zz.example", "c@zz.example"], b"Subject: x\r\n\r\nx\r\n")
        internet.run(3000)
        before = {row.route.recipient.domain: row.due for each in xx.queued() for row in each.recipients}
        for asked, answer, meant in (
            (b"yy.example", b"253 2.0.0 OK, 1 pending messages for node yy.example", {"yy.example"}),
            (
                b"@yy.example",
                b"253 2.0.0 OK, 2 pending messages for node @yy.example",
                {"yy.example", "sub.yy.example"},
            ),
            (b"#slow", b"253 2.0.0 OK, 1 pending messages for node #slow", {"zz.example"}),
            (b"@zz.example", b"459 4.7.1", set()),
        ):
            caller = internet.call(xx, "smtp")
            caller.ask(b"EHLO mx.yy.example\r\nETRN %b\r\n" % asked, answer)
            internet.run(40)
            after = {row.route.recipient.domain: row.due for each in xx.queued() for row in each.recipients}
            assert {domain for domain in after if after[domain] != before[domain]} == meant
            before = after


def test_what_is_to_be_sent_later_cannot_be_asked_for() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"], {"smtp": {"etrn": ["yy.example"]}})
        yy = internet.hub("yy.example", ["ben"])
        mail = Mail(Address("ann", "xx.example"), hold=FutureRelease(7200, "FOR"))
        internet.wait(xx.hand_in(mail, [Recipient(Address("ben", "yy.example"))], b"Subject: later\r\n\r\n"))
        yy.unlisten()
        xx.submit("ann@xx.example", ["ben@yy.example"], b"Subject: held\r\n\r\n")
        internet.run(60)
        (held,) = [each for each in xx.queued() if each.mail.hold is None]
        internet.wait(xx.hub.queue.change({RowChange(held=True): [held]}))
        yy.listen()
        internet.call(xx, "smtp").ask(b"EHLO mx.yy.example\r\nETRN @yy.example\r\n", b"251 2.0.0")
        internet.run(60)
        assert yy.inbox("ben@yy.example") == []
        internet.run(7200)
        assert len(yy.inbox("ben@yy.example")) == 1


def test_the_log_says_where_a_message_came_from_that_a_trusted_client_passes_on() -> None:
    with Internet() as internet, capturedLogs() as logged:
        xx = internet.hub("xx.example", ["ann"], {"trust": {"xclient": ["10.9.9.9"]}})
        caller = internet.call(xx, "smtp")
        caller.ask(b"EHLO filter.example\r\n", b"250 HELP")
        caller.ask(
            b"XFORWARD ADDR=198.51.100.7 NAME=[UNAVAILABLE]\r\nXFORWARD HELO=a+20b IDENT=4711\r\nNOOP\r\n", b"250 2.0.0"
        )
        start = b"MAIL FROM:<s@zz.example>\r\nRCPT TO:<nobody@xx.example>\r\nRCPT TO:<ann@xx.example>\r\n"
        caller.ask(start + MESSAGE, b"250 2.0.0 Queued")
        caller.ask(b"XFORWARD ADDR=198.51.100.8\r\nRSET\r\n" + start, b"250 2.1.5")
        caller.ask(MESSAGE, b"250 2.0.0 Queued")
        lines = [formatEvent(event) for event in logged]
        told = " orig_addr=198.51.100.7 orig_helo=a\\x20b orig_ident=4711"
        assert [told in line for line in lines if line.startswith("delivered: ")] == [True, False]
        assert [told in line for line in lines if line.startswith("refused: ")] == [True, False]
        assert not any("198.51.100.8" in line for line in lines if line.startswith("delivered: "))
        assert b"from filter.example ([10.9.9.9])" in xx.inbox("ann@xx.example")[0], "it is the client all the same"


BEFORE = b"EHLO c.example\r\nMAIL FROM:<s@zz.example>\r\nRCPT TO:<ann@xx.example>\r\n"


def test_a_chunk_goes_on_while_the_configuration_is_read_again() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"])
        caller = internet.call(xx, "smtp")
        caller.ask(BEFORE + b"BDAT 30\r\nSubject: x\r\n\r\n", b"250 2.1.5")
        assert xx.reload({"smtp": {"extensions_off": ["CHUNKING"]}}).fault == ""
        caller.ask(b"0123456789abcdef", b"250 2.0.0 30 octets received")
        caller.ask(b"BDAT 0 LAST\r\n", b"250 2.0.0 Queued")
        (arrived,) = xx.inbox("ann@xx.example")
        assert arrived.endswith(b"\r\n\r\n0123456789abcdef")
        assert b"CHUNKING" not in internet.call(xx, "smtp").ask(b"EHLO c.example\r\n", b"250 HELP")


@pytest.mark.parametrize("last", [b"BDAT 30 LAST\r\nSubject: x\r\n", b"BDAT 3\r\nA:b"])
def test_a_chunk_that_does_not_come_ends_the_session_and_leaves_nothing(last: bytes) -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ann"])
        caller = internet.call(xx, "smtp")
        caller.ask(BEFORE + last, b"250 2.1.5")
        internet.run(301)
        assert b"421 4.4.2" in caller.heard
        caller.wait_for_end()
        assert (xx.inbox("ann@xx.example"), list(xx.queued())) == ([], [])
