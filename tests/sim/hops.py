"""A queue with its runner, and next hops that behave as they are told: on one clock and a network in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.protocols.basic import LineReceiver

from mailhub.delivery.agents import GuardedAgent
from mailhub.delivery.bounce import Bouncer
from mailhub.delivery.limits import RunnerLimits
from mailhub.delivery.names import LocalNames, NamesInFile
from mailhub.delivery.relay.smtp import SmtpAgent
from mailhub.delivery.relay.transmit import Transmitter
from mailhub.delivery.runner import QueueRunner
from mailhub.delivery.schedule import Schedule
from mailhub.guard import Guard
from mailhub.interfaces import Environment, IBody, Plan, QueuedMessage, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.net.smtp_client import SmtpTimeouts
from mailhub.net.tls import ClientTls
from mailhub.store.memory.database import MemoryDatabase
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of
from mailhub.testing.wires import MemoryNetwork, Weather
from mailhub.threads import InlineThreads
from tests.delivery.routers import standard_routing

_LineReceiver: Any = LineReceiver


class Hop(Factory):
    """A server that takes `most` connections at a time and greets others with 421, and that thinks for `seconds` about
    each message. `moods` say how it greets each connection: "220", a refusal, "tls" (STARTTLS breaks), "hang"."""

    noisy = False

    def __init__(self, clock: Clock, *, most: int = 1000, seconds: float = 0.0, moods: Iterator[str] | None = None):
        self.clock = clock
        self.most = most
        self.seconds = seconds
        self.moods = moods or repeat("220")
        self.open = self.peak = self.connections = self.refused = 0
        self.taken: list[tuple[float, str]] = []
        self.offers = "PIPELINING"
        self.heard: list[bytes] = []  # every line

    def buildProtocol(self, addr: Any) -> Any:
        return _Session(self)

    @property
    def recipients(self) -> list[str]:
        """In the order in which they were served."""
        return [recipient for _, recipient in self.taken]


class _Session(_LineReceiver):  # type: ignore[misc]
    def __init__(self, hop: Hop) -> None:
        self.hop = hop
        self.in_body = False
        self.mood = ""
        self.recipient = ""

    def connectionMade(self) -> None:
        hop = self.hop
        hop.open += 1
        hop.connections += 1
        self.mood = "421 4.3.2 Too many" if hop.open > hop.most else next(hop.moods)
        if self.mood[:1] in "45":
            hop.refused += 1
            self.sendLine(self.mood.encode())
            self.transport.loseConnection()
        elif self.mood != "hang":
            hop.peak = max(hop.peak, hop.open)
            self.sendLine(b"220 hi")

    def connectionLost(self, reason: Any = None) -> None:
        self.hop.open -= 1

    def lineReceived(self, line: bytes) -> None:
        self.hop.heard.append(line)
        if self.in_body:
            if line == b".":
                self.in_body = False
                self.hop.clock.callLater(self.hop.seconds, self.took, self.recipient)
            return
        verb = line.split(b" ")[0].upper()
        if verb == b"EHLO":
            self.sendLine(b"250-hop\r\n250 " + (b"STARTTLS" if self.mood == "tls" else self.hop.offers.encode()))
        elif verb == b"STARTTLS":
            self.sendLine(b"220 go")
            self.transport.loseConnection()
        elif verb == b"RCPT":
            self.recipient = line[9 : line.index(b"@")].decode()
            self.sendLine(b"250 ok")
        elif verb == b"DATA":
            self.in_body = True
            self.sendLine(b"354 go")
        elif verb == b"QUIT":
            self.sendLine(b"221 bye")
            self.transport.loseConnection()
        else:
            self.sendLine(b"250 ok")

    def took(self, recipient: str) -> None:
        if not self.transport.disconnected:
            self.hop.taken.append((self.hop.clock.seconds(), recipient))
            self.sendLine(b"250 2.0.0 taken")


@attrs.define
class World:
    """A hub's queue and its way out; hops are found by MX."""

    limits: RunnerLimits = attrs.field(factory=RunnerLimits)
    schedule: Schedule = attrs.field(factory=Schedule)
    timeouts: SmtpTimeouts = attrs.field(
        factory=lambda: SmtpTimeouts(greeting=20, command=600, mail=600, recipient=600, final=600)
    )
    clock: Clock = attrs.field(factory=Clock)
    resolver: FakeResolver = attrs.field(factory=FakeResolver)
    network: MemoryNetwork = attrs.field(init=False)
    environment: Environment = attrs.field(init=False)
    database: Any = attrs.field(init=False)
    runner: QueueRunner = attrs.field(init=False)
    most_claimed: int = 0
    _body: IBody = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.clock.rightNow = 1_700_000_000.0
        self.network = MemoryNetwork(self.clock, Random(1), Weather(latency_seconds=0.001))
        self.environment = Environment(
            self.clock, InlineThreads(), self.network.at("10.9.9.9"), self.resolver, Random(2), Path()
        )
        self.database = MemoryDatabase(self.environment)
        result_of(self.database.accounts.add("a@xx.example", ""))
        self._watch_claims()
        writer = self.database.queue.new_body()
        result_of(writer.write(b"Subject: hello\r\n\r\nbody\r\n"))
        self._body = result_of(writer.finish())
        self.runner = self._new_runner()

    def _watch_claims(self) -> None:
        claim, claims = self.database.queue.claim, self.database.queue._claims

        async def watched(*args: Any) -> Any:
            found = await claim(*args)
            self.most_claimed = max(self.most_claimed, len(claims.rows))
            return found

        self.database.queue.claim = watched

    def _new_runner(self) -> QueueRunner:
        database, domains = self.database, frozenset({"xx.example"})
        names = LocalNames(NamesInFile(domains))
        routing = standard_routing("mx.xx.example", names, database.store, {})
        transmitter = Transmitter("mx.xx.example", self.environment, ClientTls(), None, self.timeouts)
        agent = SmtpAgent({}, transmitter)
        return QueueRunner(
            queue=database.queue,
            agents={"smtp": GuardedAgent(agent, Guard("agent", "smtp", "", self.environment.clock))},
            bouncer=Bouncer(
                hostname="mx.xx.example",
                environment=self.environment,
                store=database.store,
                queue=database.queue,
                routing=routing,
            ),
            schedule=self.schedule,
            environment=self.environment,
            limits=self.limits,
        )

    def restart(self) -> None:
        """The process dies, with all that it had claimed, and comes again."""
        self.database.queue._claims.__init__(0)
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.runner = self._new_runner()
        self.runner.start()

    def hop(self, domain: str, **behaviour: Any) -> Hop:
        """A server for a domain."""
        hop = Hop(self.clock, **behaviour)
        self.network.listen(self.address(domain), 25, hop)
        return hop

    def address(self, domain: str) -> str:
        """Of the domain's server, which may be there or not."""
        host = f"mx.{domain}"
        if host not in self.resolver.hosts:
            number = len(self.resolver.hosts) + 1
            self.resolver.add(domain, host, f"10.0.{number // 250}.{number % 250 + 1}")
        return self.resolver.hosts[host][0]

    def submit(self, domain: str, count: int = 1, name: str = "u") -> None:
        """Messages to users of a domain, `u0` and so on."""
        queue = self.database.queue
        for number in range(count):
            plan = Plan(routes=(Route("smtp", Address(f"{name}{number}", domain)),))
            result_of(queue.submit(Submission(Mail(Address("a", "xx.example")), plan, self._body)))

    def run(self, seconds: float) -> None:
        """Let everything happen within that time, each at its moment."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= end:
            self.clock.rightNow = max(self.clock.rightNow, calls[0].getTime())
            self.clock.advance(0)
        self.clock.rightNow = end

    def run_until_empty(self, seconds: float) -> float:
        """How long it took until nothing was queued."""
        start = self.clock.seconds()
        while self.clock.seconds() < start + seconds and self.queued():
            calls = self.clock.getDelayedCalls()
            self.clock.rightNow = max(self.clock.rightNow, calls[0].getTime())
            self.clock.advance(0)
        assert not self.queued()
        return self.clock.seconds() - start

    def queued(self) -> Sequence[QueuedMessage]:
        """What waits in the queue, at most one."""
        return result_of(self.database.queue.messages(1))

    def stop(self) -> None:
        """End in good order."""
        stopped = Deferred.fromCoroutine(self.runner.stop())
        self.run(60)
        assert stopped.called
