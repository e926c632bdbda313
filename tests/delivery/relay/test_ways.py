"""Which servers of a domain are tried, in which order, and from which of our addresses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred

from mailhub.delivery.limits import RelayAddresses, TransmitLimits
from mailhub.interfaces import MailExchanger, NextHop
from mailhub.message.envelope import State
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


def test_what_a_server_misbehaves_with_is_not_used_there(world: World) -> None:
    world.hops["yy.example"] = NextHop(extensions_off=frozenset({"CHUNKING", "DSN"}))
    server = world.server("10.0.0.1", Server(extensions=["PIPELINING", "chunking", "DSN"]), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.dsn) == (State.DELIVERED, False)
    assert server.commands[-1] == "DATA"
