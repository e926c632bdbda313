"""Which hosts are tried for a domain, and how targets are written."""

from __future__ import annotations

from random import Random

import pytest

from mailhub.delivery.relay.exchangers import exchangers, interleaved, parse_target
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import MailExchanger
from mailhub.net.networks import may_be_sent_to
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of


def resolver(*records: tuple[int, str], hosts: tuple[str, ...] = ()) -> FakeResolver:
    made = FakeResolver()
    made.exchangers["yy.example"] = [MailExchanger(*record) for record in records]
    made.hosts = {host: ["192.0.2.1"] for host in hosts}
    return made


def order(source: FakeResolver, domain: str = "yy.example", seed: int = 1) -> list[str]:
    return [each.host for each in result_of(exchangers(domain, "mx.xx.example", source, Random(seed)))]


def test_in_order_of_preference_and_equal_ones_in_any_order() -> None:
    source = resolver((20, "c"), (10, "a"), (10, "b"), (20, "c"))
    orders = {tuple(order(source, seed=seed)) for seed in range(20)}
    assert orders == {("a", "b", "c"), ("b", "a", "c")}


def test_a_domain_without_exchangers_is_its_own() -> None:
    assert order(resolver(hosts=("yy.example",))) == ["yy.example"]


@pytest.mark.parametrize(("domain", "host"), [("[192.0.2.7]", "192.0.2.7"), ("[IPv6:2001:db8::7]", "2001:db8::7")])
def test_an_address_literal_needs_no_dns(domain: str, host: str) -> None:
    source = resolver()
    assert order(source, domain) == [host]
    assert source.asked == []


def test_we_and_those_no_better_than_we_are_left_out() -> None:
    assert order(resolver((5, "a"), (10, "MX.xx.example"), (10, "b"), (20, "c"))) == ["a"]
    with pytest.raises(PermanentError) as caught:
        order(resolver((10, "mx.xx.example"), (10, "b")))
    assert caught.value.status == "5.4.6"


def test_null_mx_and_unknown_domains_are_final_and_silence_is_not() -> None:
    with pytest.raises(PermanentError) as caught:
        order(resolver((0, "")))
    assert caught.value.status == "5.1.10"
    with pytest.raises(PermanentError) as caught:
        order(resolver(), "nowhere.example")
    assert caught.value.status == "5.1.2"
    source = resolver()
    source.failing.add("yy.example")
    with pytest.raises(TemporaryError):
        order(source)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("192.0.2.1", True),
        ("10.0.0.1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("2001:db8::1", True),
        ("64:ff9b::c000:201", True),
        ("fe80::1%eth0", True),
    ],
)
def test_dns_cannot_send_us_to_ourselves(address: str, allowed: bool) -> None:
    assert may_be_sent_to(address) is allowed


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("relay.example", ("relay.example", 25)),
        ("relay.example:587", ("relay.example", 587)),
        ("10.0.0.1:2525", ("10.0.0.1", 2525)),
        ("2001:db8::1", ("2001:db8::1", 25)),
        ("[2001:db8::1]", ("2001:db8::1", 25)),
        ("[2001:db8::1]:26", ("2001:db8::1", 26)),
        ("unix:/run/lmtp", ("unix:/run/lmtp", 0)),
    ],
)
def test_targets(target: str, place: tuple[str, int]) -> None:
    assert parse_target(target, 25) == place


@pytest.mark.parametrize("target", ["", ":25", "host:", "host:0", "host:65536", "host:²", "host:x"])
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(ValueError, match=r"host\[:port\]"):
        parse_target(target, 25)


def test_an_address_is_an_exchanger_where_there_is_no_other() -> None:
    """RFC 5321 5.1: what the records name are hosts."""
    assert order(resolver((5, "192.0.2.1"), (10, "a"), (20, "2001:db8::1"))) == ["a"]
    assert order(resolver((20, "2001:db8::1"), (5, "192.0.2.1"))) == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize(
    ("addresses", "turns"),
    [
        ((), []),
        (("192.0.2.1",), ["192.0.2.1"]),
        (("1.1.1.1", "1.1.1.2", "1.1.1.3", "::2", "::1"), ["1.1.1.1", "::2", "1.1.1.2", "::1", "1.1.1.3"]),
        (("::2", "1.1.1.1", "1.1.1.2"), ["::2", "1.1.1.1", "1.1.1.2"]),
        (("unix:/run/x",), ["unix:/run/x"]),
    ],
)
def test_families_take_turns(addresses: tuple[str, ...], turns: list[str]) -> None:
    assert interleaved(addresses) == turns
