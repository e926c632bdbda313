"""Which servers of a domain are tried, in which order, and from which of our addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailhub.delivery.limits import RelayAddresses, TransmitLimits
from mailhub.interfaces import MailExchanger, NextHop, TlsaRecord
from mailhub.message.envelope import State
from mailhub.testing.network import Weather
from tests.delivery.relay.test_smtp import Server, World, states


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    stopped = Deferred.fromCoroutine(made.agent().stop())
    made.clock.pump([0.5] * 20)
    assert stopped.called
    assert made.clock.getDelayedCalls() == []


# --- MX pointing to oneself -----------------------------------------------------------------------------------------


def test_an_exchanger_with_an_address_of_ours_is_ourselves(world: World) -> None:
    world.addresses = RelayAddresses(own=("192.0.2.7", "2001:db8::7"))
    world.resolver.add("yy.example", "alias-of-ours", "2001:DB8:0::7")
    backup = world.server("10.0.0.3", Server(), host="mx3", preference=20)
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (State.FAILED, "5.4.6")
    assert backup.connections == 0


def test_those_of_our_own_preference_are_not_tried_either(world: World) -> None:
    world.addresses = RelayAddresses(own=("192.0.2.7",))
    others = [world.server(f"10.0.1.{number}", Server(), host=f"equal{number}") for number in range(5)]
    world.resolver.add("yy.example", "us", "192.0.2.7")
    better = world.server("10.0.0.1", Server(GREET=["421 busy", "220 hi"]), host="best", preference=1)
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.remote) == (State.DELAYED, "best")
    world.clock.advance(60)
    assert states(world.deliver("b")) == ["delivered"]
    assert (better.connections, {other.connections for other in others}) == (2, {0})


def test_addresses_that_cannot_be_looked_up_are_not_ours(world: World) -> None:
    world.addresses = RelayAddresses(own=("192.0.2.7",))
    world.resolver.exchangers["yy.example"] = [MailExchanger(10, "dark"), MailExchanger(20, "mx2")]
    world.resolver.failing.add("dark")
    world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]


def test_a_server_that_calls_itself_by_our_name_is_ourselves(world: World) -> None:
    """Whatever its address is, as behind a NAT that nobody has told of."""
    ours = world.server("10.0.0.1", Server(), host="front")
    ours.name = "MX.xx.example"
    backup = world.server("10.0.0.3", Server(), host="mx3", preference=20)
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (State.FAILED, "5.4.6")
    assert (ours.messages, ours.commands[-1], backup.connections) == ([], "QUIT", 0)
    # Better ones that may come back are waited for.
    world.resolver.add("yy.example", "best", "10.0.0.9", 1)
    world.clock.advance(60)
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.remote, backup.connections) == (State.DELAYED, "best", 0)


def test_a_next_hop_may_have_our_name_and_address(world: World) -> None:
    world.addresses = RelayAddresses(own=("10.0.0.1",))
    world.server("10.0.0.1", Server(), port=2525).name = "mx.xx.example"
    assert states(world.deliver("b", target="10.0.0.1:2525")) == ["delivered"]


# --- Pitfalls of MX -------------------------------------------------------------------------------------------------


def test_exchangers_that_lead_nowhere_cost_nothing(world: World) -> None:
    """An address instead of a name, a name without addresses, one on the loopback, one that cannot be looked up."""
    world.resolver.exchangers["yy.example"] = [
        *(MailExchanger(1, "192.0.2.99"), MailExchanger(2, "nothing"), MailExchanger(3, "loop")),
        MailExchanger(4, "dark"),
    ]
    world.resolver.hosts["loop"] = ["127.0.0.1", "::1"]
    world.resolver.failing.add("dark")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.remote) == (State.DELAYED, "dark")
    world.server("10.0.0.5", Server(), host="mx5", preference=50)
    assert states(world.deliver("b")) == ["delivered"]


def test_a_family_that_leads_nowhere_does_not_cost_the_message(world: World) -> None:
    world.limits = TransmitLimits(addresses=4)
    world.resolver.exchangers["yy.example"] = [MailExchanger(10, "mx1")]
    world.resolver.hosts["mx1"] = [*(f"2001:db8::{number}" for number in range(1, 9)), "10.0.0.1"]
    server = world.server("10.0.0.1", Server())
    assert states(world.deliver("b")) == ["delivered"]
    assert server.connections == 1


def test_an_exchanger_may_be_an_alias_or_have_ipv6_alone(world: World) -> None:
    """The first is forbidden (RFC 2181 10.3), and done."""
    world.resolver.load("yy.example. 60 IN MX 10 alias.yy.example.\nalias.yy.example. 60 IN CNAME mx.zz.example.")
    world.resolver.load("mx.zz.example. 60 IN AAAA 2001:db8::5")
    six = world.server("2001:db8::5", Server())
    assert states(world.deliver("b")) == ["delivered"]
    assert len(six.messages) == 1


def test_aliases_that_go_round_are_a_matter_of_time(world: World) -> None:
    world.resolver.load("yy.example. 60 IN MX 10 a.yy.example.\na.yy.example. 60 IN CNAME b.yy.example.")
    world.resolver.load("b.yy.example. 60 IN CNAME a.yy.example.")
    assert states(world.deliver("b")) == ["delayed"]
    world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]


def test_a_domain_may_be_an_alias_and_its_recipients_keep_their_name(world: World) -> None:
    world.resolver.load("yy.example. 60 IN CNAME zz.example.\nzz.example. 60 IN MX 10 mx.zz.example.")
    server = world.server("10.0.0.5", Server())
    world.resolver.hosts["mx.zz.example"] = ["10.0.0.5"]
    assert states(world.deliver("b")) == ["delivered"]
    assert "RCPT TO:<b@yy.example>" in server.commands


def test_the_null_mx_takes_no_mail_whatever_address_its_domain_has(world: World) -> None:
    world.resolver.exchangers["yy.example"] = [MailExchanger(0, "")]
    world.resolver.hosts["yy.example"] = ["10.0.0.1"]
    server = world.server("10.0.0.1", Server())
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status, server.connections) == (State.FAILED, "5.1.10", 0)


@pytest.mark.parametrize(
    ("greeting", "state", "status"),
    [
        ("521 5.3.2 no mail here", State.FAILED, "5.3.2"),
        ("554 5.7.1 not you", State.DELAYED, "4.7.1"),
        ("450 4.3.2 later", State.DELAYED, "4.3.2"),
    ],
)
def test_a_greeting_that_refuses_us_leads_to_the_next_server(
    world: World, greeting: str, state: State, status: str
) -> None:
    """RFC 7504: 521 is for ever. Other refusals are of us, and may be mended."""
    world.server("10.0.0.1", Server(GREET=[greeting]), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (state, status)
    world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]


# --- Where connections come from ------------------------------------------------------------------------------------


def test_connections_come_from_the_address_of_the_family(world: World) -> None:
    world.addresses = RelayAddresses(source=("10.9.9.7", "2001:db8::97"))
    four = world.server("10.0.0.1", Server(), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    world.hops["six.example"] = NextHop(host="[2001:db8::1]:25")
    six = world.server("2001:db8::1", Server())
    assert states(world.deliver("b@six.example", target="[2001:db8::1]:25")) == ["delivered"]
    assert (four.callers, six.callers) == (["10.9.9.7"], ["2001:db8::97"])


def test_a_route_has_an_address_of_its_own(world: World) -> None:
    """Also where it has no host, and is for the exchangers of the domain."""
    world.addresses = RelayAddresses(source=("10.9.9.7",))
    world.hops["yy.example"] = NextHop(source_address=("10.9.9.8",))
    server = world.server("10.0.0.1", Server(), host="mx1")
    other = world.server("10.0.0.2", Server())
    world.resolver.add("zz.example", "mx.zz", "10.0.0.2")
    assert states(world.deliver("b")) == ["delivered"]
    assert states(world.deliver("b@zz.example")) == ["delivered"]
    assert (server.callers, other.callers) == (["10.9.9.8"], ["10.9.9.7"])


def test_a_route_without_a_host_says_how_much_tls_there_must_be(world: World) -> None:
    world.hops["yy.example"] = NextHop(tls="required")
    server = world.server("10.0.0.1", Server(), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status, server.messages) == (State.DELAYED, "4.7.4", [])


OFFERED, REFUSED, BROKEN, NONE = "offered", "refused", "broken", "none"


@pytest.mark.parametrize(
    ("policy", "tls", "said"),
    [
        ("never", OFFERED, "plain"),
        ("opportunistic", OFFERED, "TLS"),
        ("opportunistic", REFUSED, "plain"),
        ("opportunistic", BROKEN, "plain"),
        ("opportunistic", NONE, "plain"),
        ("encrypted", OFFERED, "TLS"),
        ("encrypted", REFUSED, "4.7.0"),
        ("encrypted", BROKEN, "4.4.2"),
        ("encrypted", NONE, "4.7.4"),
        ("required", OFFERED, "TLS"),
        ("required", REFUSED, "4.7.0"),
        ("required", BROKEN, "4.4.2"),
        ("required", NONE, "4.7.4"),
        ("dane", OFFERED, "TLS"),
        ("dane", REFUSED, "4.7.0"),
        ("dane", BROKEN, "4.4.2"),
        ("dane", NONE, "4.7.4"),
        ("dane without records", OFFERED, "4.7.5"),
    ],
)
def test_how_much_tls_a_route_wants(world: World, policy: str, tls: str, said: str) -> None:
    """Nothing is said in the clear to a server of which more is wanted (RFC 7435)."""
    word, _, without = policy.partition(" ")
    level: Any = word
    world.hops["yy.example"] = NextHop(tls=level)
    if level == "dane":
        world.resolver.secure.add("yy.example")
        records = [] if without else [TlsaRecord(3, 1, 1, bytes(32))]
        world.resolver.dane["_25._tcp.mx.yy.example"] = records
    world.network.weather = Weather(tls_broken=1.0 if tls == BROKEN else 0.0)
    extensions = ["PIPELINING"] if tls == NONE else ["PIPELINING", "STARTTLS"]
    script = {"STARTTLS": ["454 4.7.0 not now"]} if tls == REFUSED else {}
    server = world.server("10.0.0.1", Server(extensions=extensions, **script), host="mx.yy.example")
    (outcome,) = world.deliver("b")
    if said in ("TLS", "plain"):
        assert (outcome.state, outcome.tls) == (State.DELIVERED, "TLS" if said == "TLS" else "")
    else:
        assert (outcome.state, outcome.status) == (State.DELAYED, said)
        assert not any(line.startswith("MAIL") for line in server.commands)


def test_what_a_server_misbehaves_with_is_not_used_there(world: World) -> None:
    world.hops["yy.example"] = NextHop(extensions_off=frozenset({"CHUNKING", "DSN"}))
    server = world.server("10.0.0.1", Server(extensions=["PIPELINING", "chunking", "DSN"]), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.dsn) == (State.DELIVERED, False)
    assert server.commands[-1] == "DATA"
