"""The agents "smtp" and "lmtp" against scripted servers on a network in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver

from mailhub.delivery.limits import RelayAddresses, TransmitLimits
from mailhub.delivery.relay.lmtp import LmtpAgent
from mailhub.delivery.relay.smtp import SmtpAgent, hop_of
from mailhub.delivery.relay.transmit import Transmitter
from mailhub.interfaces import (
    AT_ONCE,
    Delivery,
    Environment,
    MailExchanger,
    NextHop,
    QueuedRecipient,
    Route,
    TlsaRecord,
)
from mailhub.message.address import Address
from mailhub.message.envelope import (
    DeliverBy,
    Mail,
    OriginalRecipient,
    Outcome,
    Reach,
    Recipient,
    Source,
    State,
    ValidSince,
)
from mailhub.net.smtp_client import SmtpTimeouts
from mailhub.net.tls import ClientTls
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.wires import MemoryNetwork, Weather
from mailhub.threads import InlineThreads
from tests.delivery.doubles import Octets

BODY = b"Subject: s\r\n\r\n.hello\r\n"
TLS = ClientTls()


class Server(Factory):
    """A server that answers by a script: verb -> replies, of which the last repeats. "drop" cuts the connection,
    "silence" is no reply."""

    noisy = False
    name = "server"

    def __init__(self, *, extensions: Sequence[str] = ("PIPELINING", "8BITMIME"), **script: list[str]) -> None:
        self.script = {
            "GREET": ["220 hi"],
            "STARTTLS": ["220 go"],
            "DATA": ["354 go"],
            "END": ["250 2.0.0 taken"],
        } | script
        self.extensions = extensions
        self.commands: list[str] = []
        self.messages: list[bytes] = []
        self.connections = 0
        self.callers: list[str] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.connections += 1
        self.callers.append(addr.host)
        return _Session(self)

    def answer(self, key: str) -> str:
        replies = self.script.get(key, ["250 ok"])
        return replies.pop(0) if len(replies) > 1 else replies[0]


_LineReceiver: Any = LineReceiver


class _Session(_LineReceiver):  # type: ignore[misc]
    def __init__(self, server: Server) -> None:
        self.server = server
        self.body: list[bytes] | None = None
        self.chunks = b""
        self.left = 0
        self.last = False
        self.recipients = 0

    def connectionMade(self) -> None:
        self.say("GREET")

    def say(self, key: str) -> str:
        reply = self.server.answer(key)
        if reply == "drop":
            self.transport.abortConnection()
        elif reply != "silence":
            self.sendLine(reply.encode())
        return reply

    def lineReceived(self, line: bytes) -> None:
        if self.body is None:
            self.command(line.decode())
        elif line == b".":
            self.server.messages.append(b"".join(each + b"\r\n" for each in self.body))
            self.body = None
            for _ in range(self.recipients if self.lmtp else 1):
                self.say("END")
        else:
            self.body.append(line[1:] if line.startswith(b".") else line)

    def command(self, line: str) -> None:
        self.server.commands.append(line)
        verb = line.split(" ")[0].split(":")[0].upper()
        if verb in ("EHLO", "LHLO"):
            self.lmtp = verb == "LHLO"
            lines = [self.server.name, *self.server.extensions]
            self.transport.write("".join(f"250-{each}\r\n" for each in lines[:-1]).encode())
            self.sendLine(f"250 {lines[-1]}".encode())
        elif verb == "STARTTLS":
            if self.say("STARTTLS").startswith("220"):
                self.transport.startTLS(None)
        elif verb == "BDAT":
            self.left, self.last = int(line.split(" ")[1]), line.endswith("LAST")
            self.setRawMode()
        elif verb == "DATA":
            if self.say("DATA").startswith("354"):
                self.body = []
        elif verb == "QUIT":
            self.sendLine(b"221 bye")
            self.transport.loseConnection()
        elif verb == "RCPT":
            self.recipients += (
                self.say(f"RCPT {line[9:-1]}" if f"RCPT {line[9:-1]}" in self.server.script else "RCPT")[:1] == "2"
            )
        else:
            self.recipients = 0
            self.say(verb)

    def rawDataReceived(self, data: bytes) -> None:
        chunk, rest = data[: self.left], data[self.left :]
        self.chunks += chunk
        self.left -= len(chunk)
        if self.left:
            return
        if not self.last:
            self.say("CHUNK")
        elif not self.recipients:
            self.sendLine(b"503 5.5.1 No valid recipients")
            self.chunks = b""
        else:
            self.server.messages.append(self.chunks)
            self.chunks = b""
            for _ in range(self.recipients if self.lmtp else 1):
                self.say("END")
        self.setLineMode(rest)


@attrs.define
class World:
    """A network with named servers, and the agents that are examined."""

    clock: Clock = attrs.field(factory=Clock)
    resolver: FakeResolver = attrs.field(factory=FakeResolver)
    hops: dict[str, NextHop] = attrs.field(factory=dict)
    limits: TransmitLimits = attrs.field(factory=TransmitLimits)
    due: int = 1
    body: bytes = BODY
    mail: Mail = attrs.field(factory=lambda: Mail(Address("a", "xx.example")))
    needs: int | None = None
    addresses: RelayAddresses = attrs.field(factory=RelayAddresses)
    network: MemoryNetwork = attrs.field(init=False)
    _agents: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.network = MemoryNetwork(self.clock, Random(1))

    def server(self, address: str, server: Server, *, host: str = "", port: int = 25, preference: int = 10) -> Server:
        """Listen, and be an exchanger of yy.example if there is a host name."""
        self.network.listen(address, port, server)
        if host:
            self.resolver.add("yy.example", host, address, preference)
        return server

    def agent(self, kind: str = "smtp") -> Any:
        if kind not in self._agents:
            environment = Environment(
                self.clock, InlineThreads(), self.network.at("10.9.9.9"), self.resolver, Random(1), Path()
            )
            timeouts = SmtpTimeouts(
                connect=10, greeting=20, command=20, mail=20, recipient=20, data=20, block=20, final=20, quit=2
            )
            transmitter = Transmitter("mx.xx.example", environment, TLS, self.limits, timeouts, self.addresses)
            self._agents["smtp"] = SmtpAgent(self.hops, transmitter)
            self._agents["lmtp"] = LmtpAgent(self.hops, transmitter)
        return self._agents[kind]

    def start(self, *to: str | QueuedRecipient, target: str = "", kind: str = "smtp") -> list[Any]:
        """Begin a delivery; the result will be in the list."""
        rows = tuple(
            name
            if isinstance(name, QueuedRecipient)
            else QueuedRecipient(
                number, Route(kind, Address.parse(name if "@" in name else f"{name}@yy.example"), target), 0, self.due
            )
            for number, name in enumerate(to)
        )
        body: Any = Octets(self.body)
        delivery = Delivery("m1", self.mail, target, rows, body, self.needs)
        results: list[Any] = []
        Deferred.fromCoroutine(self.agent(kind).deliver(delivery)).addBoth(results.append)
        return results

    def deliver(
        self, *to: str | QueuedRecipient, target: str = "", kind: str = "smtp", steps: int = 1000
    ) -> list[Outcome]:
        results = self.start(*to, target=target, kind=kind)
        while not results and steps > 0:
            self.clock.advance(0.01 if self.clock.seconds() % 1 < 0.5 else 0.5)
            steps -= 1
        assert results, "still waiting"
        assert isinstance(results[0], dict), results[0]
        return [results[0][number] for number in range(len(to))]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    stopped = Deferred.fromCoroutine(made.agent().stop())
    made.clock.pump([0.5] * 20)
    assert stopped.called
    assert made.clock.getDelayedCalls() == []


def states(outcomes: list[Outcome]) -> list[str]:
    return [outcome.state.value for outcome in outcomes]


# --- By mail exchanger -----------------------------------------------------------------------------------------------


def test_what_the_sender_asked_for_goes_on_to_who_knows_it(world: World) -> None:
    """NOTIFY, ORCPT and RRVS of the recipient as the client named it, RET and the rest of MAIL."""
    world.mail = Mail(Address("a", "xx.example"), ret="HDRS", envid="q1", priority=2, by=DeliverBy(60, "N"))
    knowing = world.server("10.0.0.1", Server(extensions=["PIPELINING", "DSN", "MT-PRIORITY", "RRVS"]), host="mx1")
    named = Recipient(
        Address("list", "xx.example"),
        frozenset({"FAILURE"}),
        OriginalRecipient("rfc822", "list@xx.example"),
        ValidSince(60),
    )
    row = QueuedRecipient(0, Route("smtp", Address("b", "yy.example"), originals=(named,)), 0, 1)
    assert states(world.deliver(row)) == ["delivered"]
    assert knowing.commands[1:3] == [
        "MAIL FROM:<a@xx.example> RET=HDRS ENVID=q1 MT-PRIORITY=2",
        # RFC 2852 4.1.4.2: who does not know BY is asked to tell of delays.
        "RCPT TO:<b@yy.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;list@xx.example RRVS=1970-01-01T00:01:00Z;R",
    ]


@pytest.mark.parametrize(
    ("notify", "by", "extensions", "said"),
    [
        ((), DeliverBy(60, "N"), ["DSN"], " NOTIFY=FAILURE,DELAY"),
        (("SUCCESS",), DeliverBy(60, "N"), ["DSN"], " NOTIFY=SUCCESS,DELAY"),
        (("DELAY",), DeliverBy(60, "N"), ["DSN"], " NOTIFY=DELAY"),
        (("NEVER",), DeliverBy(60, "N"), ["DSN"], " NOTIFY=NEVER"),
        ((), DeliverBy(60, "N"), ["DSN", "DELIVERBY"], ""),
        ((), DeliverBy(0, "N"), ["DSN"], ""),
        ((), DeliverBy(-5, "N"), ["DSN"], ""),
        ((), None, ["DSN"], ""),
        ((), DeliverBy(60, "N"), [], ""),
    ],
)
def test_who_does_not_know_by_is_asked_to_tell_of_delays(
    world: World, notify: tuple[Any, ...], by: DeliverBy | None, extensions: list[str], said: str
) -> None:
    """RFC 2852 4.1.4.2, before the time is over."""
    world.mail = Mail(Address("a", "xx.example"), by=by)
    server = world.server("10.0.0.1", Server(extensions=["PIPELINING", *extensions]), host="mx1")
    named = Recipient(Address("b", "yy.example"), frozenset(notify))
    assert states(world.deliver(QueuedRecipient(0, Route("smtp", named.address, originals=(named,)), 0, 1))) == [
        "delivered"
    ]
    assert server.commands[2] == f"RCPT TO:<b@yy.example>{said}"


def test_requiretls_is_not_left_out(world: World) -> None:
    world.mail = Mail(Address("a", "xx.example"), requiretls=True)
    server = world.server("10.0.0.1", Server(extensions=["PIPELINING", "STARTTLS"]), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (State.FAILED, "5.7.30")
    world.resolver.secure.add("yy.example")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (State.FAILED, "5.7.30")
    assert server.messages == []


def test_a_server_without_tls_is_not_given_what_requires_it(world: World) -> None:
    """RFC 8689 4.2.1: 5.7.10, and the next server is tried; all that is said to this one is QUIT."""
    world.mail = Mail(Address("a", "xx.example"), requiretls=True)
    world.resolver.secure.add("yy.example")
    bare = world.server("10.0.0.1", Server(extensions=["PIPELINING"]), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (State.FAILED, "5.7.10")
    assert bare.commands == ["EHLO mx.xx.example", "QUIT"]
    able = world.server("10.0.0.2", Server(extensions=["STARTTLS", "REQUIRETLS"]), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert (bare.messages, able.messages) == ([], [BODY])


@pytest.mark.parametrize("extensions", [["PIPELINING"], ["PIPELINING", "STARTTLS"]])
@pytest.mark.parametrize("secure", [False, True])
def test_a_report_goes_on_without_requiretls_where_nobody_has_it(
    world: World, extensions: list[str], secure: bool
) -> None:
    """RFC 8689 5. Who has it comes first."""
    world.mail = Mail(None, requiretls=True)
    world.resolver.secure |= {"yy.example"} if secure else set()
    first = world.server("10.0.0.1", Server(extensions=extensions), host="mx1")
    able = Server(extensions=["PIPELINING", "STARTTLS", "REQUIRETLS"])
    assert states(world.deliver("b")) == ["delivered"]
    world.server("10.0.0.2", able, host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert (len(first.messages), len(able.messages)) == ((1, 1) if secure else (2, 0))
    mails = [line for line in (*first.commands, *able.commands) if line.startswith("MAIL")]
    assert mails == ["MAIL FROM:<>", "MAIL FROM:<> REQUIRETLS" if secure else "MAIL FROM:<>"]


@pytest.mark.parametrize("sure", ["MX", "TLSA", "route", "nothing"])
def test_requiretls_goes_on_where_the_name_of_the_host_is_sure(world: World, sure: str) -> None:
    world.mail = Mail(Address("a", "xx.example"), requiretls=True)
    server = world.server(
        "10.0.0.1", Server(extensions=["PIPELINING", "STARTTLS", "REQUIRETLS"]), host="mx1.yy.example"
    )
    world.resolver.secure |= {"yy.example"} if sure in ("MX", "TLSA") else set()
    if sure == "TLSA":
        world.resolver.dane["_25._tcp.mx1.yy.example"] = [TlsaRecord(3, 1, 1, bytes(32))]
    world.hops = {"yy.example": NextHop(host="mx1.yy.example", tls="required")} if sure == "route" else {}
    (outcome,) = world.deliver("b", target="mx1.yy.example" if sure == "route" else "")
    assert outcome.status == ("2.0.0" if sure != "nothing" else "5.7.30")
    assert [line for line in server.commands if line.startswith("MAIL")] == (
        ["MAIL FROM:<a@xx.example> REQUIRETLS"] if sure != "nothing" else []
    )


@pytest.mark.parametrize(
    ("mail", "rrvs", "able", "status"),
    [
        (Mail(Address("a", "xx.example"), requiretls=True), None, ["PIPELINING", "STARTTLS", "REQUIRETLS"], "5.7.30"),
        (Mail(None, by=DeliverBy(60, "R")), None, ["PIPELINING", "DELIVERBY"], "5.3.3"),
        (Mail(None), ValidSince(60), ["PIPELINING", "RRVS"], "5.7.19"),
        (Mail(None), None, ["PIPELINING", "SIZE 1000"], "5.3.4"),
    ],
)
def test_what_one_server_cannot_be_asked_for_the_next_one_is(
    world: World, mail: Mail, rrvs: ValidSince | None, able: list[str], status: str
) -> None:
    """RFC 8689 4.2.1, and in its way every other demand."""
    world.mail = mail
    world.resolver.secure.add("yy.example")
    named = Recipient(Address("b", "yy.example"), rrvs=rrvs)
    row = QueuedRecipient(0, Route("smtp", named.address, originals=(named,)), 0, 1)
    first = world.server("10.0.0.1", Server(extensions=["PIPELINING", "SIZE 10"]), host="mx1")
    if status != "5.3.4":
        first.extensions = ["PIPELINING", "STARTTLS"] if mail.requiretls else ["PIPELINING"]
    (outcome,) = world.deliver(row)
    assert (outcome.state, outcome.status, outcome.remote) == (State.FAILED, status, "mx1")
    later = Server(extensions=able, MAIL=["451 4.3.0 later", "250 ok"])
    second = world.server("10.0.0.2", later, host="mx2", preference=20)
    (outcome,) = world.deliver(row)
    assert (outcome.state, outcome.status) == (State.DELAYED, "4.3.0")
    (outcome,) = world.deliver(row)
    assert outcome.state is State.DELIVERED
    assert [first.messages, second.messages[-1:]] == [[], [BODY]]


def test_the_message_reaches_the_best_exchanger(world: World) -> None:
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    first = world.server("10.0.0.1", Server(), host="mx1")
    (outcome,) = world.deliver("b")
    assert outcome == Outcome.delivered("250 2.0.0 taken", remote="mx1", source=Source.REMOTE)
    assert first.messages == [BODY]
    assert first.commands[:4] == ["EHLO mx.xx.example", "MAIL FROM:<a@xx.example>", "RCPT TO:<b@yy.example>", "DATA"]
    assert second.connections == 0


@pytest.mark.parametrize(
    "first", [None, Server(GREET=["554 go away"]), Server(GREET=["drop"]), Server(MAIL=["421 busy"])]
)
def test_the_next_one_is_tried_when_the_best_cannot(world: World, first: Server | None) -> None:
    if first is None:
        world.resolver.add("yy.example", "mx1", "10.0.0.1")
    else:
        world.server("10.0.0.1", first, host="mx1")
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert second.messages == [BODY]


def test_all_addresses_of_a_host_are_tried_up_to_a_bound(world: World) -> None:
    world.limits = TransmitLimits(addresses=3)
    world.resolver.exchangers["yy.example"] = [MailExchanger(10, "mx1"), MailExchanger(20, "mx2")]
    world.resolver.hosts = {"mx1": ["10.0.0.1", "2001:db8::1"], "mx2": ["10.0.0.3", "10.0.0.4"]}
    world.server("10.0.0.4", Server())
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status, outcome.remote) == (State.DELAYED, "4.4.1", "mx2")
    assert [line for _, line in world.network.events] == [
        f"refused 10.9.9.9 -> {address}:25" for address in ("10.0.0.1", "2001:db8::1", "10.0.0.3")
    ]


def test_each_recipient_has_its_own_answer_and_only_those_delayed_go_to_the_next(world: World) -> None:
    script = {"RCPT c@yy.example": ["450 4.2.0 later"], "RCPT d@yy.example": ["550 5.1.1 no"]}
    world.server("10.0.0.1", Server(**script), host="mx1")
    second = world.server("10.0.0.2", Server(RCPT=["451 4.7.1 grey"]), host="mx2", preference=20)
    outcomes = world.deliver("b", "c", "d")
    assert [(o.state.value, o.status, o.remote) for o in outcomes] == [
        ("delivered", "2.0.0", "mx1"),
        ("delayed", "4.7.1", "mx2"),
        ("failed", "5.1.1", "mx1"),
    ]
    assert [line for line in second.commands if line.startswith("RCPT")] == ["RCPT TO:<c@yy.example>"]


def test_a_message_that_may_have_been_taken_is_not_given_to_another_at_once(world: World) -> None:
    first = world.server("10.0.0.1", Server(END=["drop"]), host="mx1")
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (State.DELAYED, "4.4.2")
    assert first.messages == [BODY]
    assert second.connections == 0


def test_a_refused_message_is_offered_to_the_next_only_if_the_refusal_is_temporary(world: World) -> None:
    world.server("10.0.0.1", Server(END=["452 4.3.1 full", "554 5.7.1 spam"]), host="mx1")
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    (refused,) = world.deliver("b")
    assert (refused.state, refused.status) == (State.FAILED, "5.7.1")
    assert len(second.messages) == 1


@pytest.mark.parametrize(
    ("hosts", "state", "status"),
    [
        ({"mx1": []}, State.FAILED, "5.4.4"),
        ({"mx1": ["127.0.0.1"]}, State.FAILED, "5.4.6"),
        ({"mx1": ["127.0.0.1"], "mx2": ["10.0.0.9"]}, State.DELAYED, "4.4.1"),
        ({"mx0": ["10.0.0.9"], "mx1": []}, State.DELAYED, "4.4.1"),
    ],
)
def test_hosts_without_a_usable_address(world: World, hosts: dict[str, list[str]], state: State, status: str) -> None:
    world.resolver.exchangers["yy.example"] = [MailExchanger(n, host) for n, host in enumerate(hosts)]
    world.resolver.hosts = hosts
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.status) == (state, status)
    assert not any("127.0.0.1" in line for _, line in world.network.events)


def test_no_dns_means_later_and_no_domain_means_never(world: World) -> None:
    world.resolver.add("yy.example", "mx1", "10.0.0.1")
    world.resolver.failing = {"yy.example"}
    assert [(o.state, o.status) for o in world.deliver("b", "c")] == [(State.DELAYED, "4.4.3")] * 2
    world.resolver.failing = {"mx1"}
    assert states(world.deliver("b")) == ["delayed"]
    assert [(o.state, o.status) for o in world.deliver("b@nowhere.example")] == [(State.FAILED, "5.1.2")]


def test_an_address_literal(world: World) -> None:
    server = world.server("192.0.2.4", Server())
    assert states(world.deliver("b@[192.0.2.4]")) == ["delivered"]
    assert states(world.deliver("b@[127.0.0.1]")) == ["failed"]
    assert len(server.messages) == 1


def test_many_recipients_go_in_several_transactions_over_one_connection(world: World) -> None:
    server = world.server("10.0.0.1", Server(), host="mx1")
    outcomes = world.deliver(*[f"u{n}" for n in range(250)])
    assert set(states(outcomes)) == {"delivered"}
    assert len(server.messages) == 3
    assert server.connections == 1


# --- Connections between messages ------------------------------------------------------------------------------------


def test_a_kept_connection_that_died_unnoticed_is_replaced(world: World) -> None:
    server = world.server("10.0.0.1", Server(MAIL=["250 ok", "421 too old", "250 ok"]), host="mx1")
    assert states(world.deliver("b") + world.deliver("c")) == ["delivered", "delivered"]
    assert server.connections == 2
    assert len(server.messages) == 2


def test_a_connection_carries_a_bounded_number_of_messages_and_is_not_kept_for_long(world: World) -> None:
    world.limits = TransmitLimits(messages=2, idle_seconds=30)
    server = world.server("10.0.0.1", Server(), host="mx1")
    for _ in range(3):
        world.deliver("b")
    assert server.connections == 2
    assert server.commands.count("QUIT") == 1
    world.clock.pump([1.0] * 40)
    assert server.commands.count("QUIT") == 2
    world.deliver("b")
    assert server.connections == 3


def test_the_oldest_kept_connection_makes_room(world: World) -> None:
    world.limits = TransmitLimits(idle_connections=1)
    one = world.server("192.0.2.1", Server())
    two = world.server("192.0.2.2", Server())
    for literal in ("[192.0.2.1]", "[192.0.2.2]", "[192.0.2.2]"):
        world.deliver(f"b@{literal}")
    world.clock.pump([0.1] * 10)
    assert (one.commands.count("QUIT"), two.commands.count("QUIT")) == (1, 0)
    assert two.connections == 1


def test_a_server_that_cannot_be_reached_is_left_alone_for_a_while(world: World) -> None:
    world.resolver.add("yy.example", "mx1", "10.0.0.1")
    world.network.weather_at["10.0.0.1"] = Weather(lost=1.0)
    for _ in range(3):
        assert states(world.deliver("b")) == ["delayed"]
    assert len(world.network.events) == 1
    world.clock.advance(31)
    world.deliver("b")
    assert len(world.network.events) == 2


def test_what_the_operator_wants_tried_now_is_tried_whatever_is_remembered(world: World) -> None:
    world.resolver.add("yy.example", "mx1", "10.0.0.1")
    world.network.weather_at["10.0.0.1"] = Weather(lost=1.0)
    world.deliver("b")
    world.network.weather_at["10.0.0.1"] = Weather()
    world.server("10.0.0.1", Server())
    assert states(world.deliver("b")) == ["delayed"]
    world.due = AT_ONCE
    assert states(world.deliver("b")) == ["delivered"]


def test_a_silent_server_does_not_hold_us_for_ever(world: World) -> None:
    world.server("10.0.0.1", Server(RCPT=[""]), host="mx1")
    (outcome,) = world.deliver("b")
    assert outcome.state is State.DELAYED


# --- What an outcome says of the way ---------------------------------------------------------------------------------


def test_a_connection_too_many_is_told_from_a_server_that_is_away(world: World) -> None:
    server = world.server("10.0.0.1", Server(END=["silence"]), host="mx1")
    first = world.start("b")
    world.clock.pump([0.01] * 20)
    server.script["GREET"] = ["421 too many"]
    (crowded,) = world.deliver("c")
    assert (crowded.reach, crowded.state, crowded.protocol) == (Reach.CROWDED, State.DELAYED, "smtp")
    world.clock.pump([1.0] * 30)
    assert first, "the first has given up"
    (away,) = world.deliver("c")
    assert away.reach is Reach.UNREACHED
    server.script["GREET"] = ["220 hi"]
    assert world.deliver("c")[0].reach is Reach.LEFT_ALONE, "that is remembered"
    world.clock.advance(31)
    server.script["END"] = ["451 busy"]
    assert world.deliver("c")[0].reach is Reach.SERVED


def test_two_that_begin_at_once_do_not_take_each_other_for_dead(world: World) -> None:
    server = world.server("10.0.0.1", Server(GREET=["220 hi", "421 too many"]), host="mx1")
    results = [world.start("b"), world.start("c")]
    world.clock.pump([0.01] * 100)
    assert [result[0][0].reach for result in results] == [Reach.SERVED, Reach.CROWDED]
    assert server.messages == [BODY]


def test_what_was_said_last_does_not_hide_that_another_server_was_reached(world: World) -> None:
    world.server("10.0.0.1", Server(RCPT=["450 4.7.1 grey"]), host="mx1")
    world.resolver.add("yy.example", "mx2", "10.0.0.2", 20)
    (outcome,) = world.deliver("b")
    assert (outcome.remote, outcome.reach) == ("mx2", Reach.SERVED)


def test_one_of_the_servers_that_was_asked_makes_it_an_attempt(world: World) -> None:
    world.resolver.add("yy.example", "mx1", "10.0.0.1", 10)
    assert world.deliver("b")[0].reach is Reach.UNREACHED
    world.resolver.add("yy.example", "mx2", "10.0.0.2", 20)
    assert world.deliver("b")[0].reach is Reach.UNREACHED
    assert world.deliver("b")[0].reach is Reach.LEFT_ALONE


def test_a_new_connection_waits_for_the_goodbye_of_the_old_one(world: World) -> None:
    world.limits = TransmitLimits(messages=1)
    server = world.server("10.0.0.1", Server(), host="mx1")
    first = world.start("b")
    while not first:
        world.clock.advance(0.01)
    assert server.commands.count("QUIT") == 0
    second = world.start("c")
    world.clock.advance(0.005)
    assert (server.connections, bool(second)) == (1, False)
    world.clock.pump([0.01] * 50)
    assert (server.connections, len(server.messages)) == (2, 2)


@pytest.mark.parametrize(("extensions", "tls"), [([], ""), (["STARTTLS"], "TLS")])
def test_an_outcome_says_how_it_was_said(world: World, extensions: list[str], tls: str) -> None:
    world.server("10.0.0.1", Server(extensions=extensions), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.protocol, outcome.tls) == ("smtp", tls)
    world.network.listen("unix:/run/lmtp", 0, Server())
    (outcome,) = world.deliver("b", target="unix:/run/lmtp", kind="lmtp")
    assert (outcome.protocol, outcome.tls) == ("lmtp", "")
    (outcome,) = world.deliver("b", target="nowhere.example")
    assert (outcome.protocol, outcome.reach) == ("", Reach.UNREACHED)


# --- TLS and logins --------------------------------------------------------------------------------------------------


def test_tls_is_used_where_offered_and_done_without_where_it_fails(world: World) -> None:
    server = world.server("10.0.0.1", Server(extensions=["STARTTLS"]), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert server.commands[:3] == ["EHLO mx.xx.example", "STARTTLS", "EHLO mx.xx.example"]
    world.clock.pump([1.0] * 40)
    world.network.weather = Weather(tls_broken=1.0)
    server.commands.clear()
    assert states(world.deliver("b")) == ["delivered"]
    assert server.commands[:4] == ["EHLO mx.xx.example", "STARTTLS", "EHLO mx.xx.example", "MAIL FROM:<a@xx.example>"]


@pytest.mark.parametrize("extensions", [["PIPELINING"], ["STARTTLS"]])
def test_required_tls_is_required(world: World, extensions: list[str]) -> None:
    world.network.weather = Weather(tls_broken=1.0)
    world.hops["*"] = NextHop(host="relay.example", tls="required")
    world.resolver.hosts["relay.example"] = ["10.0.0.5"]
    server = world.server("10.0.0.5", Server(extensions=extensions))
    assert states(world.deliver("b", target="relay.example")) == ["delayed"]
    assert server.messages == []


def test_a_next_hop_with_a_login_gets_it_under_tls_only(world: World) -> None:
    world.hops["*"] = NextHop(host="relay.example:587", user="me", password="secret")
    world.resolver.hosts["relay.example"] = ["10.0.0.5"]
    plain = world.server("10.0.0.5", Server(extensions=["AUTH PLAIN"]), port=587)
    assert states(world.deliver("b", target="relay.example:587")) == ["delayed"]
    assert not any(line.startswith("AUTH") for line in plain.commands)
    world.clock.advance(60)
    good = world.server("10.0.0.5", Server(extensions=["STARTTLS", "AUTH PLAIN"], AUTH=["235 welcome"]), port=587)
    assert states(world.deliver("b", target="relay.example:587")) == ["delivered"]
    assert sum(line.startswith("AUTH PLAIN ") for line in good.commands) == 1


def test_port_465_speaks_tls_from_the_first_octet(world: World) -> None:
    world.hops["*"] = NextHop(host="10.0.0.5:465", user="me", password="secret")
    server = Server(extensions=["AUTH PLAIN"], AUTH=["235 welcome"])
    world.network.listen("10.0.0.5", 465, server, implicit_tls=True)
    assert states(world.deliver("b", target="10.0.0.5:465")) == ["delivered"]
    assert "STARTTLS" not in server.commands


# --- Static next hops, LMTP ------------------------------------------------------------------------------------------


def test_a_static_next_hop_may_be_this_machine(world: World) -> None:
    server = world.server("127.0.0.1", Server(), port=2625)
    world.hops["yy.example"] = NextHop(host="127.0.0.1:2625")
    assert states(world.deliver("b", target="127.0.0.1:2625")) == ["delivered"]
    assert len(server.messages) == 1


@pytest.mark.parametrize(("target", "status"), [("nowhere.example", "4.4.4"), ("host:port", "4.3.5")])
def test_a_mistake_in_a_next_hop_does_not_bounce_mail(world: World, target: str, status: str) -> None:
    for kind in ("smtp", "lmtp"):
        (outcome,) = world.deliver("b", target=target, kind=kind)
        assert (outcome.state, outcome.status) == (State.DELAYED, status)


def test_lmtp_over_a_socket_has_an_answer_for_each_recipient(world: World) -> None:
    server = Server(END=["250 2.1.5 b", "452 4.2.2 c", "550 5.2.1 d"])
    world.network.listen("unix:/run/lmtp", 0, server)
    outcomes = world.deliver("b", "c", "d", target="unix:/run/lmtp", kind="lmtp")
    assert [(o.state.value, o.status) for o in outcomes] == [
        ("delivered", "2.1.5"),
        ("delayed", "4.2.2"),
        ("failed", "5.2.1"),
    ]
    assert server.commands[0] == "LHLO mx.xx.example"


def test_what_is_said_of_a_next_hop_holds_for_mail_queued_before_the_route_changed() -> None:
    def delivery(domain: str, target: str) -> Delivery:
        rows = (QueuedRecipient(1, Route("smtp", Address("b", domain), target), 0, 0),)
        return Delivery("m", Mail(None), target, rows, Octets(b""))

    relay, other = NextHop(host="relay:587", user="x", password="y"), NextHop(host="other")
    hops = {"yy.example": other, "*": relay, "zz.example": NextHop(host="relay:587", tls="never")}
    assert hop_of(delivery("yy.example", "other"), hops) is other
    assert hop_of(delivery("yy.example", "relay:587"), hops) is relay
    assert hop_of(delivery("zz.example", "relay:587"), hops).tls == "never"
    assert hop_of(delivery("ww.example", "gone"), hops) == NextHop(host="gone")
