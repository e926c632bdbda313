"""The policies that mailhub ships, over the network of simulations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.interfaces import MailExchanger
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet

MESSAGE = b"Subject: hello\r\n\r\nHow are you?\r\n.\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


def hub(internet: Internet, *policies: str, **tables: Any) -> Host:
    """xx.example with these policies, and tables for them or others."""
    policy = {name: {"type": name.partition(" ")[0], **tables.pop(name.replace("-", "_"), {})} for name in policies}
    return internet.hub(
        "xx.example", ["ann", "ben"], config={"delivery": {"policies": list(policies)}, "policy": policy, **tables}
    )


def greeted(internet: Internet, host: Host, source: str = "10.9.9.9", helo: str = "mx.yy.example") -> Caller:
    caller = internet.call(host, "smtp", source)
    caller.expect(b"220 ")
    caller.ask(f"EHLO {helo}\r\n".encode(), b"250 ")
    return caller


def answers(caller: Caller, *lines: str) -> list[str]:
    """The last line of the answer to each command."""
    return [caller.ask(f"{line}\r\n".encode(), b"").decode().splitlines()[-1] for line in lines]


def refusals(events: Sequence[Any]) -> list[str]:
    return [text for event in events if (text := formatEvent(event)).startswith("refused: ")]


def test_a_greeting_with_our_name_is_refused_and_log_and_answer_name_the_rule(internet: Internet) -> None:
    host = hub(internet, "helo")
    with capturedLogs() as events:
        caller = internet.call(host, "smtp")
        caller.expect(b"220 ")
        said = answers(caller, "EHLO mx.xx.example", "MAIL FROM:<a@yy.example>", "EHLO mx.yy.example")
    assert said[0] == "550 5.7.1 That is our own name (helo)"
    assert said[1].startswith("503 ")
    assert said[2].startswith("250 ")
    (line,) = refusals(events)
    assert "at=hello status=5.7.1 reply='That is our own name (helo)' rule=helo" in line


def test_a_strict_greeting_must_be_in_dns_and_is_deferred_where_dns_fails(internet: Internet) -> None:
    host = hub(internet, "helo", helo={"strict": True})
    internet.resolver.hosts["mx.yy.example"] = ["10.9.9.9"]
    internet.resolver.failing.add("mx.broken.example")
    caller = internet.call(host, "smtp")
    caller.expect(b"220 ")
    said = answers(caller, "EHLO mx.broken.example", "EHLO mx.nowhere.example", "EHLO mx.yy.example")
    assert [line[:9] for line in said[:2]] == ["451 4.4.3", "550 5.7.1"]
    assert said[2].startswith("250")


def test_trusted_networks_and_logins_are_not_looked_at(internet: Internet) -> None:
    host = hub(internet, "helo", trust={"networks": ["10.9.0.0/16"]})
    assert greeted(internet, host, "10.9.9.9", "localhost").heard.endswith(b"\r\n")
    caller = internet.call(host, "smtp", "10.8.0.1")
    caller.expect(b"220 ")
    assert answers(caller, "EHLO localhost")[0].startswith("550 ")
    caller = internet.call(host, "submissions", "10.8.0.1")
    caller.expect(b"220 ")
    assert answers(caller, "EHLO localhost")[0].startswith("250 ")


def test_who_connects_too_often_is_asked_to_come_again_and_may_after_a_while(internet: Internet) -> None:
    host = hub(internet, "rates", rates={"connections_per_address": 3, "connections_per_network": 5})
    for _ in range(3):
        greeted(internet, host, "10.9.9.1")
    refused = internet.call(host, "smtp", "10.9.9.1")
    refused.expect(b"421 4.7.0 Too many connections from your network, come again later (rates)")
    refused.wait_for_end()
    for last in (2, 3):
        greeted(internet, host, f"10.9.9.{last}")
    internet.call(host, "smtp", "10.9.9.4").expect(b"421 4.7.0")  # the /24 is full
    greeted(internet, host, "10.9.8.1")
    internet.run(120)
    greeted(internet, host, "10.9.9.1")


def test_messages_are_counted_by_address_and_what_is_deferred_does_not_count(internet: Internet) -> None:
    host = hub(internet, "rates", rates={"messages_per_address": 2})
    caller = greeted(internet, host)
    said = answers(caller, *["MAIL FROM:<a@yy.example>", "RSET"] * 4)[::2]
    assert [line[:9] for line in said] == ["250 2.1.0", "250 2.1.0", "451 4.7.0", "451 4.7.0"]
    internet.run(120)
    assert answers(caller, "MAIL FROM:<a@yy.example>")[0].startswith("250 ")


def test_counts_outlast_a_reload(internet: Internet) -> None:
    host = hub(internet, "rates", rates={"messages_per_address": 1})
    assert answers(greeted(internet, host), "MAIL FROM:<a@yy.example>")[0].startswith("250 ")
    config = {"delivery": {"policies": ["rates"]}, "policy": {"rates": {"type": "rates", "messages_per_address": 1}}}
    assert not host.reload({**config, "smtp": {"bare_lines": "reject"}}).fault
    assert answers(greeted(internet, host), "MAIL FROM:<a@yy.example>")[0].startswith("451 4.7.0")


def test_the_null_sender_has_one_recipient_whatever_policies_there_are(internet: Internet) -> None:
    host = hub(internet)
    caller = greeted(internet, host)
    with capturedLogs() as events:
        said = answers(caller, "MAIL FROM:<>", "RCPT TO:<ann@xx.example>", "RCPT TO:<ben@xx.example>")
    assert said[1].startswith("250 ")
    assert said[2] == "452 4.5.3 One recipient a message from the null sender (null-sender)"
    assert "rule=null-sender" in refusals(events)[0]
    caller.ask(b"DATA\r\n", b"354 ")
    caller.ask(MESSAGE, b"250 ")
    assert (len(host.inbox("ann@xx.example")), len(host.inbox("ben@xx.example"))) == (1, 0)
    said = answers(caller, "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>", "RCPT TO:<ben@xx.example>")
    assert [line[:3] for line in said] == ["250"] * 3


def test_the_null_sender_may_have_several_recipients_by_lmtp_and_by_the_operators_word(internet: Internet) -> None:
    host = hub(internet, limits={"null_sender_recipients": 2})
    for service, hello in (("lmtp", "LHLO"), ("smtp", "EHLO")):
        caller = internet.call(host, service)
        caller.expect(b"220 ")
        to = ["RCPT TO:<ann@xx.example>", "RCPT TO:<ben@xx.example>"]
        said = answers(caller, f"{hello} c.example", "MAIL FROM:<>", *to)
        assert [line[:3] for line in said] == ["250"] * 4


def test_who_speaks_before_the_greeting_or_out_of_turn_is_refused_at_the_next_step(internet: Internet) -> None:
    host = hub(internet, "early-talker")
    patient = greeted(internet, host)
    assert answers(patient, "MAIL FROM:<a@yy.example>")[0].startswith("250 ")
    patient.ask(b"RCPT TO:<ann@xx.example>\r\n", b"250 ")
    patient.ask(b"DATA\r\n" + MESSAGE, b"554 5.5.0 You have spoken before it was your turn (early-talker)")
    hasty = internet.call(host, "smtp")
    hasty.say(b"EHLO mx.yy.example\r\n")
    hasty.expect(b"220 ")
    hasty.expect(b"550 5.5.0 You have spoken before it was your turn (early-talker)")
    assert answers(hasty, "MAIL FROM:<a@yy.example>")[0].startswith("503 ")
    at_once = internet.call(host, "smtp")
    at_once.expect(b"220 ")
    at_once.ask(b"EHLO mx.yy.example\r\nMAIL FROM:<a@yy.example>\r\n", b"550 5.5.0")


def test_the_greeting_is_held_back_for_strangers_alone(internet: Internet) -> None:
    host = hub(
        internet,
        "early-talker",
        early_talker={"greeting_delay_seconds": 20},
        trust={"networks": ["10.9.9.9"]},
    )
    began = internet.clock.seconds()
    internet.call(host, "smtp", "10.9.9.9").expect(b"220 ")
    assert internet.clock.seconds() - began < 1
    internet.call(host, "smtp", "10.9.9.8").expect(b"220 ")
    assert 20 <= internet.clock.seconds() - began < 25


def test_who_makes_many_errors_is_answered_ever_later_and_then_sent_away(internet: Internet) -> None:
    host = hub(internet, limits={"smtp_bad_commands": 6})
    caller = greeted(internet, host)
    waits = []
    with capturedLogs() as events:
        for _ in range(6):
            began = internet.clock.seconds()
            caller.ask(b"ODD\r\n", b"500 5.5.1")
            waits.append(round(internet.clock.seconds() - began))
        caller.expect(b"421 4.7.0 Too many errors")
        caller.wait_for_end()
    assert waits == [0, 0, 0, 1, 2, 3]
    (line,) = refusals(events)
    assert "at=command status=4.7.0 reply='Too many errors' rule=errors" in line


def test_refused_senders_are_errors_too_and_a_message_that_is_taken_makes_up_for_them(internet: Internet) -> None:
    host = hub(internet, "early-talker", limits={"smtp_bad_commands": 4})
    caller = greeted(internet, host)
    caller.ask(b"EHLO mx.yy.example\r\nNOOP\r\n", b"250 ")
    waits = []
    for _ in range(2):
        began = internet.clock.seconds()
        assert answers(caller, "MAIL FROM:<a@yy.example>")[0].startswith("550 5.5.0")
        waits.append(round(internet.clock.seconds() - began))
    caller.ask(b"MAIL FROM:<a@yy.example>\r\n", b"421 4.7.0 Too many errors")
    caller.wait_for_end()
    assert waits == [0, 1]


def test_programs_of_this_machine_are_not_kept_waiting(internet: Internet) -> None:
    host = hub(internet, limits={"smtp_bad_commands": 6})
    caller = greeted(internet, host, source="127.0.0.1")
    began = internet.clock.seconds()
    for _ in range(6):
        caller.ask(b"ODD\r\n", b"500 5.5.1")
    assert internet.clock.seconds() - began < 1


def test_those_who_wait_for_late_answers_are_bounded_in_number(internet: Internet) -> None:
    host = hub(internet, limits={"smtp_bad_commands": 2})
    host.hub.harvest.limits = attrs.evolve(host.hub.harvest.limits, waiting=1)
    callers = [greeted(internet, host, f"10.9.9.{number}") for number in range(3)]
    for caller in callers:
        caller.ask(b"ODD\r\n", b"500 5.5.1")
    for caller in callers:
        caller.say(b"ODD\r\n")
    internet.run(5)
    assert [caller.heard.rstrip().splitlines()[-1][:9] for caller in callers] == [b"421 4.7.0"] * 3
    assert [caller.heard.count(b"500 ") for caller in callers] == [2, 1, 1]


def test_a_listed_client_is_refused_with_the_lists_reason_and_may_still_ask_the_postmaster(internet: Internet) -> None:
    lists = ["bl.example=127.0.0.[2..11]*2", "good.example*-2"]
    host = hub(internet, "dnsbl", dnsbl={"lists": lists}, aliases={"abuse@xx.example": ["ann@xx.example"]})
    internet.resolver.hosts["9.9.9.10.bl.example"] = ["127.0.0.4"]
    internet.resolver.txt["9.9.9.10.bl.example"] = [b"https://bl.example/10.9.9.9"]
    caller = greeted(internet, host)
    with capturedLogs() as events:
        said = answers(
            caller, "MAIL FROM:<a@yy.example>", *["RCPT TO:<ann@xx.example>"] * 2, "RCPT TO:<abuse@xx.example>"
        )
    refused = "550 5.7.1 Your address 10.9.9.9 is listed by bl.example: https://bl.example/10.9.9.9 (dnsbl)"
    assert said[1:3] == [refused] * 2
    assert said[3].startswith("250 ")
    assert all("rule=dnsbl" in line for line in refusals(events))
    assert len([name for _, name in internet.resolver.asked if name == "9.9.9.10.bl.example"]) == 2  # A and TXT, once
    internet.resolver.hosts["9.9.9.10.good.example"] = ["127.0.5.1"]
    said = answers(greeted(internet, host), "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>")
    assert said[1].startswith("250 ")


def test_mail_of_a_listed_client_may_go_to_junk_instead(internet: Internet) -> None:
    host = hub(internet, "dnsbl", dnsbl={"lists": ["bl.example"], "action": "quarantine"})
    internet.resolver.hosts["9.9.9.10.bl.example"] = ["127.0.0.4"]
    caller = greeted(internet, host)
    answers(caller, "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>")
    caller.ask(b"DATA\r\n", b"354 ")
    caller.ask(MESSAGE, b"250 ")
    assert host.inbox("ann@xx.example") == []


@pytest.mark.parametrize(
    ("sender", "answer"),
    [
        ("<a@yy.example>", "250 2.1.0"),
        ("<a@only-a.example>", "250 2.1.0"),
        ("<>", "250 2.1.0"),
        ("<a@xx.example>", "250 2.1.0"),
        ("<a@[192.0.2.1]>", "250 2.1.0"),
        ("<a@nowhere.example>", "553 5.1.8"),
        ("<a@nothing.example>", "553 5.1.8"),
        ("<a@nomail.example>", "550 5.7.27"),
        ("<a@broken.example>", "451 4.1.8"),
    ],
)
def test_the_domain_of_a_sender_can_be_answered(internet: Internet, sender: str, answer: str) -> None:
    host = hub(internet, "sender-domain")
    resolver = internet.resolver
    resolver.add("yy.example", "mx.yy.example", "192.0.2.7")
    resolver.hosts["only-a.example"] = ["192.0.2.8"]
    resolver.hosts["nothing.example"] = []
    resolver.exchangers["nomail.example"] = [MailExchanger(0, "")]
    resolver.failing.add("broken.example")
    said = answers(greeted(internet, host), f"MAIL FROM:{sender}")
    assert said[0].startswith(answer)
    assert said[0].startswith("250") or said[0].endswith(" (sender-domain)")


@pytest.mark.parametrize(
    ("peer", "answer"),
    [
        ("192.0.2.1", "250 2.1.5"),
        ("192.0.2.2", "550 5.7.25 Your address 192.0.2.2 has no name in DNS (reverse-dns)"),
        ("192.0.2.3", "550 5.7.25 The name of your address 192.0.2.3 does not lead back to it (reverse-dns)"),
        ("192.0.2.4", "451 4.7.25"),
        ("192.0.2.5", "451 4.7.25"),
        ("2001:db8::6", "250 2.1.5"),
    ],
)
def test_a_client_has_a_name_that_leads_back(internet: Internet, peer: str, answer: str) -> None:
    host = hub(internet, "reverse-dns")
    resolver = internet.resolver
    resolver.ptr |= {
        "192.0.2.1": ["other.example", "one.example"],
        "192.0.2.3": ["one.example"],
        "192.0.2.5": ["broken.example"],
        "2001:db8::6": ["one.example"],
    }
    resolver.hosts["one.example"] = ["192.0.2.1", "2001:DB8:0::6"]
    resolver.failing |= {"192.0.2.4", "broken.example"}
    said = answers(greeted(internet, host, peer), "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>")
    assert said[1].startswith(answer)


def test_a_name_that_need_not_lead_back(internet: Internet) -> None:
    host = hub(internet, "reverse-dns", reverse_dns={"confirmed": False})
    internet.resolver.ptr["10.9.9.9"] = ["anything.example"]
    said = answers(greeted(internet, host), "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>")
    assert said[1].startswith("250 ")


ALL = ("early-talker", "helo", "rates", "sender-domain", "dnsbl", "reverse-dns", "greylist")


def proxied(internet: Internet, **tables: Any) -> Host:
    """A server that no stranger could send anything to, behind a proxy at 10.9.9.9."""
    return hub(internet, *ALL, dnsbl={"lists": ["bl.example"]}, trust={"xclient": ["10.9.9.9"]}, **tables)


def test_who_has_logged_in_at_a_trusted_proxy_is_no_stranger(internet: Internet) -> None:
    host = proxied(internet, rates={"messages_per_address": 1, "connections_per_address": 1})
    for source in ("10.9.9.9", "10.8.8.8"):
        internet.resolver.hosts[".".join(reversed(source.split("."))) + ".bl.example"] = ["127.0.0.2"]
    for _ in range(3):
        caller = greeted(internet, host, helo="localhost")
        began = internet.clock.seconds()
        caller.ask(b"XCLIENT ADDR=10.8.8.8 LOGIN=ann@xx.example\r\n", b"220 ")
        assert internet.clock.seconds() - began < 1
        said = answers(caller, "EHLO localhost", "MAIL FROM:<ann@xx.example>", "RCPT TO:<ben@xx.example>")
        assert [line[:4] for line in said] == ["250 ", "250 ", "250 "]


def test_a_proxy_is_not_judged_before_it_has_said_for_whom_it_speaks(internet: Internet) -> None:
    host = proxied(internet, rates={"connections_per_address": 1})
    for last in range(3):
        began = internet.clock.seconds()
        caller = greeted(internet, host, helo="localhost")
        assert internet.clock.seconds() - began < 1
        caller.ask(b"XCLIENT ADDR=10.8.8.%d\r\n" % last, b"220 ")
        assert internet.clock.seconds() - began >= 2
        assert answers(caller, "EHLO localhost")[0].startswith("550 5.7.1 That is our own name")
    caller = greeted(internet, host, helo="localhost")
    caller.ask(b"XCLIENT ADDR=10.8.8.1\r\n", b"421 4.7.0 Too many connections")
    for answer in ("550 5.7.1 That is our own name (helo)", "451 4.7.0 Too many connections"):  # none is said
        caller = greeted(internet, host, helo="localhost")
        for _ in range(2):
            assert answers(caller, "MAIL FROM:<a@yy.example>")[0].startswith(answer)
