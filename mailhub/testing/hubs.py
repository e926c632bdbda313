"""Whole hubs in one process, on one clock and one network in memory: what happens is repeatable by seed.

internet = Internet(seed=1)
xx = internet.hub("xx.example", users=["a"])
yy = internet.hub("yy.example", users=["b"])
xx.submit("a@xx.example", ["b@yy.example"], b"Subject: hello\\r\\n\\r\\nHow are you?\\r\\n")
internet.run(60)
assert len(yy.inbox("b@yy.example")) == 1
internet.close()
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailhub.delivery.aliases import AliasTable
from mailhub.delivery.bounce import Bouncer
from mailhub.delivery.names import LocalNames
from mailhub.delivery.pipeline import Pipeline
from mailhub.delivery.policies import GuardedPolicy, PolicyChain
from mailhub.delivery.relay.smtp import SmtpAgent
from mailhub.delivery.relay.transmit import TransmitLimits, Transmitter
from mailhub.delivery.routing import NextHop, standard_routing
from mailhub.delivery.runner import QueueRunner, RunnerLimits
from mailhub.delivery.schedule import Schedule
from mailhub.interfaces import Committed, Environment, IDeliveryAgent, IPolicy, Origin, QueuedMessage
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.net.driver import DriverFactory
from mailhub.net.tls import ClientTls
from mailhub.protocols.smtp import SmtpOptions, SmtpService
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database
from mailhub.testing.network import MemoryNetwork, Weather
from mailhub.testing.resolver import FakeResolver
from mailhub.threads import InlineThreads

T = TypeVar("T")

# Monday, 1 January 2024: dates in simulations look like dates.
EPOCH = 1_704_067_200


class Internet:
    """A clock, a network, a name service, and the hubs that were put on it.

    `seed` decides everything that is left to chance. `folder` is where the hubs' data go; a temporary one by default,
    removed by `close`. `clock_error` is by how many seconds the hubs' wall clocks are wrong: change it, and they were
    set.
    """

    def __init__(self, seed: int = 1, weather: Weather | None = None, folder: Path | None = None) -> None:
        self.seed = seed
        self.clock = Clock()
        self.clock.rightNow = float(EPOCH)
        self.clock_error = 0.0
        self.network = MemoryNetwork(self.clock, Random(f"{seed} network"), weather)
        self.resolver = FakeResolver()
        self.tls = ClientTls()
        self.hubs: list[Hub] = []
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="mailhub-")
        self._folder = folder or Path(self._temporary.name if self._temporary else "")

    def hub(self, domain: str, users: Sequence[str] = (), **options: Any) -> Hub:
        """A running hub for `domain`, found by its MX, with accounts for the local parts in `users`.

        `options` are those of `Hub`.
        """
        number = len(self.hubs) + 1
        data = self._folder / f"{number}-{domain}"
        data.mkdir(parents=True, exist_ok=True)
        hub = Hub(self, domain, f"10.0.{number // 250}.{number % 250 + 1}", data, **options)
        self.hubs.append(hub)
        self.resolver.add(domain, hub.hostname, hub.address)
        hub.start()
        for user in users:
            hub.add_account(f"{user}@{domain}")
        return hub

    def run(self, seconds: float = 0) -> None:
        """Let everything happen that happens within `seconds`, each at its own time."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= end:
            self.clock.rightNow = max(self.clock.rightNow, calls[0].getTime())
            self.clock.advance(0)
        self.clock.rightNow = end

    def run_until(self, condition: Callable[[], bool], seconds: float, step: float = 10.0) -> bool:
        """Run until `condition` holds, `seconds` at most; whether it held."""
        end = self.clock.seconds() + seconds
        while not condition():
            if self.clock.seconds() >= end:
                return False
            self.run(step)
        return True

    def wait(self, coroutine: Coroutine[Any, Any, T], seconds: float = 60) -> T:
        """Run a coroutine to its end, letting time go by, and return its result or raise what it raises."""
        results: list[T | Failure] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        self.run_until(lambda: bool(results), seconds, step=0.5)
        if not results:
            raise AssertionError(f"no result within {seconds} seconds")
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
            raise AssertionError
        return result

    def close(self) -> None:
        """Stop all hubs and remove what is temporary."""
        for hub in self.hubs:
            hub.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Internet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Hub:
    """One mail server: database, pipeline, queue runner, and an SMTP listener on port 25 of its address.

    `aliases` as in the configuration; `hops` are static next hops by domain; `policies` have a say on port 25 and on
    what `submit` takes; `agents` are delivery agents beside "smtp"; `tls` offers STARTTLS (played, see
    `mailhub.testing.network`).
    """

    def __init__(
        self,
        internet: Internet,
        domain: str,
        address: str,
        data: Path,
        *,
        aliases: Mapping[str, Sequence[str]] | None = None,
        hops: Mapping[str, NextHop] | None = None,
        policies: Sequence[IPolicy] = (),
        agents: Mapping[str, IDeliveryAgent] | None = None,
        schedule: Schedule | None = None,
        limits: RunnerLimits | None = None,
        transmit_limits: TransmitLimits | None = None,
        tls: bool = True,
    ) -> None:
        self.internet = internet
        self.domain = domain
        self.hostname = hostname = f"mx.{domain}"
        self.address = address
        network = internet.network
        self.environment = environment = Environment(
            internet.clock,
            InlineThreads(),
            network.at(address),
            internet.resolver,
            Random(f"{internet.seed} {domain}"),
            data,
            wall=lambda: internet.clock.seconds() + internet.clock_error,
        )
        self.database = Database(environment, StoreLimits(durable=False), gather=True, create=True)
        self.store, self.queue = self.database.store, self.database.queue
        domains = frozenset({domain})
        self._hops = dict(hops or {})
        table = AliasTable.parse(aliases or {}, domains)
        names = LocalNames(domains, table, self.database.names, internet.clock)
        self.routing = standard_routing(hostname, names, self.store, self._hops)
        transmitter = Transmitter(hostname, environment, internet.tls, transmit_limits)
        smtp = SmtpAgent(hostname, environment, self._hops, transmitter)
        self.runner = QueueRunner(
            queue=self.queue,
            agents={"smtp": smtp, **(agents or {})},
            bouncer=Bouncer(
                hostname=hostname, environment=environment, store=self.store, queue=self.queue, routing=self.routing
            ),
            schedule=schedule or Schedule(),
            environment=environment,
            limits=limits,
        )
        guarded = [GuardedPolicy(f"policy {number}", policy) for number, policy in enumerate(policies)]
        self.pipeline = Pipeline(
            hostname=hostname,
            names=names,
            environment=environment,
            store=self.store,
            queue=self.queue,
            routing=self.routing,
            policies=PolicyChain(guarded, internet.clock),
            wake=self.runner.wake,
        )
        nobody: Any = None
        service = SmtpService(self.pipeline, nobody, SmtpOptions(hostname=hostname))
        self.smtp = DriverFactory(
            service.session, internet.clock, environment.random, service="smtp", tls=internet.tls if tls else None
        )

    def start(self) -> None:
        """Open the database, run the queue, listen."""
        self._wait(self.database.start())
        self.runner.start()
        self.internet.network.listen(self.address, 25, self.smtp)

    def stop(self) -> None:
        """Stop in good order."""
        self.internet.network.unlisten(self.address, 25)
        self._wait(self.smtp.stop(5))
        self._wait(self.runner.stop())
        self._wait(self.database.stop())

    def add_account(self, user: str, quota: int = 0) -> None:
        """An account without a usable password; `quota` in octets."""
        self._wait(self.database.accounts.add(user, "", quota))

    def submit(self, sender: str, recipients: Sequence[str], message: bytes) -> Committed:
        """Put a message in as its logged-in sender would by submission. Raises MailError."""
        return self._wait(self._submit(sender, recipients, message))

    async def _submit(self, sender: str, recipients: Sequence[str], message: bytes) -> Committed:
        user = sender or f"postmaster@{self.domain}"
        origin = Origin("submission", "10.1.1.1", "test", True, "client.example", True, user, submission=True)
        mail = Mail(Address.parse(sender) if sender else None, "8BITMIME", size=len(message))
        transaction = await self.pipeline.begin(origin, mail)
        try:
            for recipient in recipients:
                await transaction.recipient(Recipient(Address.parse(recipient)))
            await transaction.body().write(message)
            return await transaction.commit()
        finally:
            transaction.abort()

    def inbox(self, user: str) -> list[bytes]:
        """The messages in an account's INBOX, in order of arrival, as they would be fetched."""
        return self._wait(self._inbox(user))

    async def _inbox(self, user: str) -> list[bytes]:
        mailbox = await (await self.store.account(user)).mailbox("INBOX")
        return [await (await mailbox.open(entry.uid)).read() for entry in await mailbox.entries()]

    def queued(self) -> Sequence[QueuedMessage]:
        """What waits in the queue."""
        return self._wait(self.queue.messages())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.internet.wait(coroutine)
