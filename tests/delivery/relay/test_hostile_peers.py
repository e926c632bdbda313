"""Exchangers that break the protocol in every way, at every stage: bounded time and octets, and the right end.

What one of them cannot have taken, the next exchanger gets at once. What it may have taken waits, and nobody else
gets it. Nothing is lost, as every outcome is DELIVERED by somebody's word or DELAYED.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from mailhub.message.address import Address
from mailhub.message.envelope import Mail, State
from tests.delivery.relay.test_smtp import Server, World

BODY = b"Subject: s\r\n\r\nhello\r\n"

SECONDS = 20.0  # of every time-out of these tests
PATIENCE = 3 * SECONDS
MIB = 1 << 20


class Hostile(Factory):
    """Plays along until the stage, and behaves as it likes from then on. `sent`: octets since then."""

    noisy = False

    def __init__(self, world: World, stage: str, behaviour: str, extensions: tuple[str, ...]) -> None:
        self.world = world
        self.stage = stage
        self.behaviour = behaviour
        self.extensions = extensions
        self.sent = self.connections = 0
        self.messages: list[bytes] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        self.connections += 1
        return _Session(self)


_REPLIES = {"MAIL": b"250 m\r\n", "RCPT": b"250 r\r\n", "DATA": b"354 go\r\n", "QUIT": b"221 bye\r\n", "STARTTLS": b""}
# What is said once, and then nothing more.
_SAID = {
    "silence": b"",
    "garbage": b"\x80\xff\x00\x01garbage\r\n",
    "no code": b"OK, go ahead\r\n",
    "half a code": b"25 ok\r\n",
    "another number": b"650 ok\r\n",
    "NUL": b"2\x0050 ok\r\n",
    "another code behind": b"250-one\r\n251 two\r\n",
    "no end": b"250-one\r\n",
    "no line end": b"250 ok",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n",
}
# What comes for as long as the connection lives, by the hundredth of a second.
_ENDLESS = {
    "endless line": b"x" * 65536,
    "endless reply": b"250-" + b"x" * 500 + b"\r\n",
    "endless replies": b"250 ok\r\n" * 1000,
}
BEHAVIOURS = ("close", "octet by octet", *_SAID, *_ENDLESS)


class _Session(Protocol):
    def __init__(self, server: Hostile) -> None:
        self.server = server
        self.octets = b""
        self.in_data = self.at_will = self.gone = False
        self.out: Any = None

    def connectionMade(self) -> None:
        self.out = self.transport
        self.answer("GREET", b"220 hi\r\n")

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.gone = True

    def answer(self, stage: str, reply: bytes) -> None:
        if stage == self.server.stage:
            self.at_will = True
            self.behave()
        elif not self.at_will:
            self.out.write(reply)

    def dataReceived(self, data: bytes) -> None:
        self.octets += data
        while not self.at_will and self.octets:
            end = b"\r\n.\r\n" if self.in_data else b"\r\n"
            line, found, rest = self.octets.partition(end)
            if not found:
                return
            self.octets = rest
            self.ended(line + b"\r\n") if self.in_data else self.command(line.decode())
        if self.octets.endswith(b"\r\n.\r\n") and self.in_data:
            self.server.messages.append(self.octets[:-3])

    def command(self, line: str) -> None:
        verb = line.partition(" ")[0]
        if verb == "EHLO":
            lines = ["hostile", *self.server.extensions]
            text = "".join(f"250-{each}\r\n" for each in lines[:-1]) + f"250 {lines[-1]}\r\n"
            self.answer("EHLO", text.encode())
        elif verb == "BDAT":
            size = int(line.split(" ")[1])
            assert len(self.octets) >= size, "these are small"
            message, self.octets = self.octets[:size], self.octets[size:]
            self.ended(message)
        else:
            self.answer(verb, _REPLIES[verb])
            self.in_data = verb == "DATA"

    def ended(self, message: bytes) -> None:
        self.in_data = False
        self.server.messages.append(message)
        self.answer("END", b"250 taken\r\n")

    def behave(self) -> None:
        behaviour = self.server.behaviour
        if behaviour == "close":
            self.out.loseConnection()
        elif behaviour in _SAID:
            self.out.write(_SAID[behaviour])
        elif behaviour == "octet by octet":
            self.pour(b"2", 1.0)
        else:
            self.pour(_ENDLESS[behaviour], 0.01)

    def pour(self, octets: bytes, seconds: float) -> None:
        if not self.gone and self.server.sent < 64 * MIB:
            self.server.sent += len(octets)
            self.out.write(octets)
            self.server.world.clock.callLater(seconds, self.pour, octets, seconds)


@pytest.fixture
def world() -> Iterator[World]:
    made = World(body=BODY)
    yield made
    stopped = Deferred.fromCoroutine(made.agent().stop())
    made.clock.pump([0.5] * 100)
    assert stopped.called
    assert made.clock.getDelayedCalls() == []


def play(world: World, stage: str, behaviour: str, extensions: tuple[str, ...]) -> tuple[Hostile, Server, list[Any]]:
    hostile = Hostile(world, stage, behaviour, extensions)
    world.network.listen("10.0.0.1", 25, hostile)
    world.resolver.add("yy.example", "mx1", "10.0.0.1")
    honest = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    results = world.start("b")
    began = world.clock.seconds()
    while not results and world.clock.seconds() < began + PATIENCE:
        world.clock.advance(0.01 if hostile.sent else 0.1)
    assert results, "still waiting"
    return hostile, honest, results


STAGES = ("GREET", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "END")


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_hostile_exchanger_costs_little_and_the_message_nothing(world: World, stage: str, behaviour: str) -> None:
    extensions = ("PIPELINING", "STARTTLS") if stage == "STARTTLS" else ("PIPELINING",)
    hostile, honest, results = play(world, stage, behaviour, extensions)
    (outcome,) = results[0].values()
    if stage == "END" and behaviour in ("endless reply", "endless replies"):
        assert (outcome.state, hostile.messages, honest.messages) == (State.DELIVERED, [BODY], [])
    elif stage == "END":
        assert (outcome.state, hostile.messages, honest.messages) == (State.DELAYED, [BODY], [])
    elif stage == "STARTTLS":
        # It is as good as any other that has no TLS.
        assert (outcome.state, hostile.messages, honest.messages) == (State.DELIVERED, [BODY], [])
    else:
        assert (outcome.state, outcome.remote, honest.messages) == (State.DELIVERED, "mx2", [BODY])
        assert hostile.messages == []
    assert hostile.sent < 3 * MIB
    assert hostile.connections == (2 if stage == "STARTTLS" else 1)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "END"])
def test_what_went_out_with_its_envelope_waits(world: World, stage: str, behaviour: str) -> None:
    """A server that has got all of it, and has said nothing of it that could be understood, may have it."""
    hostile, honest, results = play(world, stage, behaviour, ("PIPELINING", "CHUNKING"))
    (outcome,) = results[0].values()
    taken = behaviour == "endless replies" or (stage, behaviour) == ("END", "endless reply")
    assert outcome.state is (State.DELIVERED if taken else State.DELAYED)
    assert (hostile.connections, honest.messages) == (1, [])
    assert hostile.sent < 3 * MIB


def test_a_server_that_thanks_instead_of_asking_for_the_message(world: World) -> None:
    """250 to DATA is no word for "go on", and the message was not given to it."""
    world.server("10.0.0.1", Server(DATA=["250 ok"]), host="mx1")
    honest = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.remote, honest.messages) == (State.DELIVERED, "mx2", [BODY])


def test_a_goodbye_that_never_ends_keeps_nobody(world: World) -> None:
    """The fixture looks at what is left of it."""
    hostile = Hostile(world, "QUIT", "octet by octet", ("PIPELINING",))
    world.network.listen("10.0.0.1", 25, hostile)
    world.resolver.add("yy.example", "mx1", "10.0.0.1")
    (outcome,) = world.deliver("b")
    assert outcome.state is State.DELIVERED


@pytest.mark.parametrize("behaviour", ["close", "silence", "garbage"])
def test_broken_starttls_is_no_reason_to_go_without_where_tls_is_demanded(world: World, behaviour: str) -> None:
    hostile = Hostile(world, "STARTTLS", behaviour, ("STARTTLS", "REQUIRETLS"))
    world.network.listen("10.0.0.1", 25, hostile)
    world.resolver.add("yy.example", "mx1", "10.0.0.1")
    world.resolver.secure.add("yy.example")
    world.mail = Mail(Address("a", "xx.example"), requiretls=True)
    results = world.start("b")
    began = world.clock.seconds()
    while not results and world.clock.seconds() < began + PATIENCE:
        world.clock.advance(0.1)
    (outcome,) = results[0].values()
    assert outcome.state is not State.DELIVERED
    assert (hostile.connections, hostile.messages) == (1, [])
