"""Lists of addresses in DNS: what they are asked, and which of their answers weigh how much."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub import builtin
from mailhub.delivery.screening.dns_lists import DnsLists, Listed, ListEntry, parse_entries, reversed_name
from mailhub.interfaces import Environment
from mailhub.testing.exams import PolicyExam
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of
from mailhub.testing.wires import MemoryNetwork
from mailhub.threads import InlineThreads


def lists(resolver: Any, *texts: str, clock: Clock | None = None) -> DnsLists:
    clock = clock or Clock()
    network: Any = MemoryNetwork(clock, Random(1)).at("10.0.0.1")
    environment = Environment(clock, InlineThreads(), network, resolver, Random(1), Path("/nonexistent"))
    return DnsLists(parse_entries(texts), 5, environment)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.99", "99.2.0.192"),
        ("::ffff:192.0.2.99", "99.2.0.192"),
        ("2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"),
        ("fe80::1%eth0", "1" + ".0" * 28 + ".8.e.f"),
    ],
)
def test_the_question_is_the_address_backwards(address: str, name: str) -> None:
    assert reversed_name(address) == name


@pytest.mark.parametrize("text", ["", "a.unix.socket", "192.0.2", "999.0.2.1"])
def test_what_is_no_address_is_no_question(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        reversed_name(text)
    assert result_of(lists(FakeResolver(), "bl.example").look_up(text)) == Listed()


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("bl.example", {"127.0.0.1", "127.0.0.2", "127.0.0.10", "127.1.2.3"}),
        ("bl.example=127.0.0.2", {"127.0.0.2"}),
        ("bl.example=127.0.0.[2..9;10]", {"127.0.0.2", "127.0.0.10"}),
        ("bl.example=127.[0..1].[0;2].[1..3]*-4", {"127.0.0.1", "127.0.0.2", "127.1.2.3"}),
    ],
)
def test_an_answer_weighs_where_it_is_meant(text: str, answers: set[str]) -> None:
    resolver = FakeResolver()
    entry = ListEntry.parse(text)
    for answer in ("127.0.0.1", "127.0.0.2", "127.0.0.10", "127.1.2.3"):
        resolver.hosts["1.2.0.192.bl.example"] = [answer]
        found = result_of(lists(resolver, text).look_up("192.0.2.1"))
        assert found.weight == (entry.weight if answer in answers else 0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not a list"),
        ("a b", "is not a list"),
        ("bl.example*x", "is not a list"),
        ("bl.example*0", "a weight is from"),
        ("bl.example*1001", "a weight is from"),
        ("-.example", "domain is malformed"),
        ("bl.example=127.0.0", "is not an answer"),
        ("bl.example=127.0.0.[", "is not an answer"),
        ("bl.example=127.0.0.[2..]", "is neither a number nor a range"),
        ("bl.example=127.0.0.[9..2]", "is no range from 0 to 255"),
        ("bl.example=127.0.0.256", "is no range from 0 to 255"),
        ("bl.example=127.0.0.[1;;2]", "is neither a number nor a range"),
    ],
)
def test_what_is_no_list_is_told(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ListEntry.parse(text)


def test_weights_of_several_lists_add_up_and_each_is_asked_once() -> None:
    resolver = FakeResolver()
    resolver.hosts |= {
        "1.2.0.192.a.example": ["127.0.0.2", "127.0.0.4"],
        "1.2.0.192.b.example": ["127.0.0.2"],
        "1.2.0.192.good.example": ["127.0.5.1"],
    }
    texts = ("a.example=127.0.0.2*2", "a.example=127.0.0.4*3", "b.example*4", "good.example=127.0.[1..9].[0..3]*-6")
    assert result_of(lists(resolver, *texts).look_up("192.0.2.1")) == Listed(3, "b.example")
    assert len(resolver.asked) == 3


def test_what_a_list_says_to_those_whom_it_does_not_serve_is_no_listing_and_is_logged() -> None:
    resolver = FakeResolver()
    resolver.hosts |= {"1.2.0.192.a.example": ["127.255.255.254"], "1.2.0.192.b.example": ["198.51.100.1", "::1"]}
    with capturedLogs() as events:
        assert result_of(lists(resolver, "a.example", "b.example").look_up("192.0.2.1")) == Listed()
    assert [formatEvent(event) for event in events] == [
        "list is of no use: zone=a.example answer=127.255.255.254 reason='it does not serve our resolver'",
        "list is of no use: zone=b.example answer=198.51.100.1 reason='it is no list'",
    ]


class Silent(FakeResolver):
    """Never answers about some lists."""

    async def addresses(self, host: str) -> Sequence[str]:
        if host.endswith(".slow.example"):
            self.asked.append(("A", host))
            await Deferred()
        return await super().addresses(host)


def test_a_list_that_fails_or_is_too_slow_counts_for_nothing_and_rests_after_some_times() -> None:
    resolver, clock = Silent(), Clock()
    resolver.hosts["1.2.0.192.a.example"] = ["127.0.0.2"]
    resolver.failing.add("1.2.0.192.broken.example")
    asked = lists(resolver, "slow.example*9", "broken.example*9", "a.example", clock=clock)
    for _ in range(5):
        found = Deferred.fromCoroutine(asked.look_up("192.0.2.1"))
        assert not found.called
        clock.advance(5)
        assert found.result == Listed(1, "a.example")
    assert result_of(asked.look_up("192.0.2.1")) == Listed(1, "a.example")  # at once
    clock.advance(60)
    assert not Deferred.fromCoroutine(asked.look_up("192.0.2.1")).called


def test_the_reason_is_plain_text_of_bounded_length() -> None:
    resolver = FakeResolver()
    resolver.txt["1.2.0.192.a.example"] = [b"see\r\n https://a.example/\xff?x" + b"y" * 1000]
    told = result_of(lists(resolver, "a.example").reason("192.0.2.1", "a.example"))
    assert told.startswith("see https://a.example/?x")
    assert len(told) == 200
    assert result_of(lists(resolver, "b.example").reason("192.0.2.1", "b.example")) == ""


class TestDnsbl(PolicyExam):
    factory = builtin.dnsbl_policy
    options = {"lists": ["bl.example=127.0.0.[2..11]*2", "good.example*-1"]}


class TestReverseDns(PolicyExam):
    factory = builtin.reverse_dns_policy


class TestSenderDomain(PolicyExam):
    factory = builtin.sender_domain_policy


class TestEarlyTalker(PolicyExam):
    factory = builtin.early_talker_policy
