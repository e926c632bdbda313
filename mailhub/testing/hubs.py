"""Whole servers in one process, on one clock and one network in memory: what happens is repeatable by seed.

    internet = Internet(seed=1)
    xx = internet.hub("xx.example", users=["a"])
    yy = internet.hub("yy.example", users=["b"], config={"limits": {"hops": 10}})
    xx.submit("a@xx.example", ["b@yy.example"], b"Subject: hello\\r\\n\\r\\nHow are you?\\r\\n")
    internet.run(60)
    assert len(yy.inbox("b@yy.example")) == 1
    internet.close()

Each is what `mailhub.components.build_hub` makes of a configuration, with all services, plugins and logins. What is
played is its surroundings: clock, threads, network, DNS, chance, TLS, and a database in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, TypeVar

import argon2
import attrs
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from mailhub.agents import forwarding_of
from mailhub.auth.passwords import hash_password
from mailhub.components import Hub, build_hub
from mailhub.config.settings import Config, from_values
from mailhub.delivery.limits import RunnerLimits
from mailhub.delivery.schedule import Schedule
from mailhub.interfaces import Committed, Environment, IComponentFactory, IHub, Origin, QueuedMessage
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.net.gate import ProxyGate
from mailhub.plugins import Catalogue, Component, NoOptions, load_catalogue
from mailhub.questions import QUESTIONS
from mailhub.reload import Reading, Reloader
from mailhub.services import SERVICES
from mailhub.store.limits import StoreLimits
from mailhub.testing.caller import Caller
from mailhub.testing.clients import Client, Service
from mailhub.testing.clock import OrderedClock
from mailhub.testing.databases import memory_database
from mailhub.testing.disks import PlayedDatabase, PlayedDisk
from mailhub.testing.life import Killed, LifeClock, LifeThreads
from mailhub.testing.played_tls import PlayedClientTls, PlayedTls
from mailhub.testing.processes import PlayedProcesses
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.wires import MemoryNetwork, Weather

T = TypeVar("T")

# Monday, 1 January 2024: dates in simulations look like dates.
EPOCH = 1_704_067_200
_LMTP_PORT = 24
_CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Internet:
    """A clock, a network, a name service, and the servers that were put on it.

    `seed` decides everything that is left to chance. `folder` is for databases on disk, which a configuration may ask
    for (`[database] type = "inline"`). `clock_error` is by how many seconds the servers' wall clocks are wrong: change
    it, and they were set; `Host.clock_error` is the same of one of them. `poll_seconds` is how often a server looks at
    its queue without being called: to play days is cheap where that is seldom.
    """

    def __init__(
        self,
        seed: int = 1,
        weather: Weather | None = None,
        folder: Path | None = None,
        poll_seconds: float = RunnerLimits().poll_seconds,
    ) -> None:
        self.seed = seed
        self.clock = OrderedClock()
        self.clock.rightNow = float(EPOCH)
        self.clock_error = 0.0
        self.network = MemoryNetwork(self.clock, Random(f"{seed} network"), weather)
        self.resolver = FakeResolver(self.clock)
        self.poll_seconds = poll_seconds
        self.processes = PlayedProcesses(self.clock)
        self.hubs: list[Host] = []
        self._folder = folder or Path("/nonexistent")
        found = load_catalogue()
        self._catalogue = attrs.evolve(found, factories=(*found.factories, memory_database))

    def hub(
        self,
        domain: str,
        users: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        plugins: Sequence[IComponentFactory] = (),
    ) -> Host:
        """A running server for `domain`, found by its MX, with accounts for the local parts in `users`.

        `config` are tables and keys as `tomllib` would read them from a file, beside those that any server has here;
        None takes one away. `plugins` are component factories beside those that are installed.
        """
        number = len(self.hubs) + 1
        catalogue = self.catalogue(plugins)
        address = f"10.0.{number // 250}.{number % 250 + 1}"
        host = Host(self, domain, address, self._folder / f"{number}-{domain}", config or {}, catalogue)
        self.hubs.append(host)
        self.resolver.add(domain, host.hostname, host.address)
        host.start()
        for user in users:
            host.add_account(f"{user}@{domain}")
        return host

    def catalogue(self, plugins: Sequence[IComponentFactory]) -> Catalogue:
        """Those that are installed, and these."""
        return attrs.evolve(self._catalogue, factories=(*self._catalogue.factories, *plugins))

    def call(self, host: Host, service: str, source: str = "10.9.9.9") -> Caller:
        """A client at the address `source`, connected to a service and greeted by it, if it greets."""
        caller = Caller(self.run_until, secure=host.hub.services[service].implicit_tls)
        called = Factory.forProtocol(lambda: caller)
        self.wait(self.network.dial(source, *host.place(service), called, 30))
        return caller

    def run(self, seconds: float = 0) -> None:
        """Let everything happen that happens within `seconds`, each at its own time."""
        end = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= end:
            self.clock.rightNow = max(self.clock.rightNow, calls[0].getTime())
            with suppress(Killed):
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
        """Stop all servers; none is killed meanwhile."""
        for host in self.hubs:
            host.disk.calm = True
            host.stop()

    def __enter__(self) -> Internet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Host:
    """One machine of the internet: its hub, the ports that its configuration lists, and hands to try it with."""

    def __init__(
        self,
        internet: Internet,
        domain: str,
        address: str,
        data: Path,
        config: Mapping[str, Any],
        catalogue: Catalogue,
    ) -> None:
        self.internet = internet
        self.domain = domain
        self.hostname = f"mx.{domain}"
        self.address = address
        self.data = data
        self._values = self._with_usual(config)
        self._ports: list[tuple[str, int]] = []
        self.clock_error = 0.0
        self.disk = PlayedDisk(note=lambda what: internet.network.note(f"disk {domain} {what}"))
        self._own = Component("database", "inline", self._make_database)
        self._catalogue = self._with_own(catalogue)
        self._lives = 0
        self.database: PlayedDatabase | None = None
        self._readings: list[Reading] = []
        self._build()

    def _make_database(self, _: NoOptions, hub: IHub) -> PlayedDatabase:
        hub.environment.data.mkdir(parents=True, exist_ok=True)
        made = PlayedDatabase(hub.environment, hub.settings.of(StoreLimits, durable=False), self.disk)
        self.database = made
        return made

    def _with_own(self, catalogue: Catalogue) -> Catalogue:
        return attrs.evolve(catalogue, factories=(*catalogue.factories, self._own))

    def _build(self) -> None:
        """A process, and a server in it."""
        internet, domain = self.internet, self.domain
        self._lives += 1
        life = self._life = LifeClock(internet.clock)
        self.disk.over = lambda: life.over
        self.database = None
        self._environment = Environment(
            life,
            LifeThreads(life),
            internet.network.at(self.address, lambda: not life.over),
            internet.resolver,
            Random(f"{internet.seed} {domain}" if self._lives == 1 else f"{internet.seed} {domain} {self._lives}"),
            self.data,
            wall=lambda: internet.clock.seconds() + internet.clock_error + self.clock_error,
            disk=self.disk.measure,
            processes=internet.processes,
        )
        self.hub: Hub = build_hub(
            self._read(), self._environment, self._catalogue, server_tls=PlayedTls, client_tls=PlayedClientTls()
        )
        self._poll_seldom(self.hub)
        self._reloader = Reloader(
            self.hub, lambda *_: self._catalogue, lambda: None, self._readings.append, lambda _: self._read()
        )

    def _poll_seldom(self, hub: Hub) -> None:
        limits = hub.settings.of(RunnerLimits, poll_seconds=self.internet.poll_seconds)
        schedule = hub.settings.of(Schedule)
        hub.runner.reform(
            agents=hub.agents,
            bouncer=hub.bouncer,
            schedule=schedule,
            limits=limits,
            transports=hub.transports,
            forwarding=forwarding_of(hub),
        )

    def _with_usual(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """A configuration with what any server has here."""
        usual: dict[str, Any] = {
            "hostname": self.hostname,
            "data": str(self.data),
            "domains": [self.domain],
            "database": {"type": "memory"},
            "tls": {"certificate": "certificate.pem", "key": "key.pem"},
            "listen": {name: [f"tcp:{service.port or _LMTP_PORT}"] for name, service in SERVICES.items()},
        }
        for key, value in config.items():
            before = usual.get(key)
            usual[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, Mapping) else value
        return {key: value for key, value in usual.items() if value is not None}

    def _read(self) -> Config:
        return from_values(self._values, Path(f"/{self.domain}.toml"))

    def start(self) -> None:
        """Open the database, run the queue, serve the ports."""
        self._wait(self.hub.start())
        self.listen()
        self._reloader.ready()

    def stop(self) -> None:
        """Stop in good order; one that was killed is left as it is."""
        if not self.is_running:
            return
        self._reloader.stop()
        self.unlisten()
        self._wait(self.hub.stop())

    def restart(self) -> None:
        """Stop, and start a new server on the same data: on those that a database on disk keeps (see `Internet`)."""
        self.stop()
        self._build()
        self.start()

    def restart_later(self, seconds: float, config: Mapping[str, Any] | None = None) -> None:
        """The same after `seconds` and without waiting for it, by another configuration where there is one. It is not
        killed while it stops."""
        if config is not None:
            self._values = self._with_usual(config)
        Deferred.fromCoroutine(self._stop_and_boot(seconds))

    async def _stop_and_boot(self, seconds: float) -> None:
        self.disk.calm = True
        self._reloader.stop()
        self.unlisten()
        await self.hub.stop()
        self.disk.calm = False
        self._life.end()
        self.internet.clock.callLater(seconds, self.boot)

    def place(self, service: str) -> tuple[str, int]:
        """The address and the port at which it has a service."""
        return _place(self.address, self.hub.settings.listen[service][0])

    def client(self, service: Service = "smtp", user: str = "", password: str = "", source: str = "10.9.9.9") -> Client:
        """Somebody at the address `source` who sends messages to it over the network (see `Client`)."""
        return Client(self.internet, self, service, user, password, source)

    @property
    def is_running(self) -> bool:
        """Whether there is a process that has not been killed."""
        return not self._life.over

    @property
    def is_serving(self) -> bool:
        """Whether its ports are open."""
        return bool(self._ports)

    @property
    def is_busy(self) -> bool:
        """Whether attempts to deliver are under way."""
        return bool(self.hub.runner.under_way) and self.is_running

    def now(self) -> int:
        """What its clock says."""
        return self._environment.now()

    def kill(self, *, power: bool = False) -> None:
        """End the process here and now, whatever it is doing; `boot` starts another one on the same data. Peers are
        told by their connections, unless it is the `power` that fails: then nobody is told, and files that were not
        synchronised are lost. What the memory database has is lost in any case."""
        internet = self.internet
        internet.network.note(f"{'power fails' if power else 'killed'} {self.domain}")
        self._life.end()
        self.unlisten()
        internet.network.cut_off(self.address, silently=power)
        if power:
            internet.network.away.add(self.address)
            self.disk.lose_unsynchronised()

    def boot(self) -> None:
        """Start a new process after `kill`. When it is killed itself meanwhile, that is as if it had not been tried."""
        internet = self.internet
        internet.network.away.discard(self.address)
        if self.database is not None:
            self.database.crash()
        internet.network.note(f"booted {self.domain}")
        self._build()
        Deferred.fromCoroutine(self._boot(self._life))

    async def _boot(self, life: LifeClock) -> None:
        await self.hub.start()
        if not life.over:
            self.listen()
            self._reloader.ready()

    def listen(self) -> None:
        """Serve the ports, again after `unlisten`."""
        for service, factory in self.hub.factories.items():
            for endpoint in self.hub.settings.listen[service]:
                host, port = _place(self.address, endpoint)
                gate = ProxyGate(factory, factory)
                self.internet.network.listen(host, port, gate, implicit_tls=factory.implicit_tls)
                factory.doStart()
                self._ports.append((host, port))

    def unlisten(self) -> None:
        """Refuse connections; those that are open go on."""
        while self._ports:
            self.internet.network.unlisten(*self._ports.pop())
        if self.is_running:
            for factory in self.hub.factories.values():
                factory.doStop()

    def reload(self, config: Mapping[str, Any], plugins: Sequence[IComponentFactory] | None = None) -> Reading:
        """Read the configuration again, which has become this one, as SIGHUP makes a server do. `plugins` are what has
        become of those that were given to `Internet.hub`: edited ones are other factories."""
        if plugins is not None:
            self._catalogue = self._with_own(self.internet.catalogue(plugins))
        count = len(self._readings)
        self.ask_to_reload(config)
        self.internet.run_until(lambda: len(self._readings) > count, 60, step=0.5)
        return self._readings[-1]

    def ask_to_reload(self, config: Mapping[str, Any] | None = None) -> None:
        """The same without waiting for it; None for a configuration that is as before."""
        if config is not None:
            self._values = self._with_usual(config)
        self._reloader.ask()

    def add_account(self, user: str, password: str = "", quota: int = 0) -> None:
        """An account; without a password nobody can log in. `quota` in octets."""
        encoded = hash_password(password, _CHEAP) if password else ""
        self._wait(self.hub.accounts.add(user, encoded, quota))

    def submit(self, sender: str, recipients: Sequence[str], message: bytes) -> Committed:
        """Put a message in as its logged-in sender would by submission. Raises MailError."""
        mail = Mail(Address.parse(sender) if sender else None, "8BITMIME", size=len(message))
        return self._wait(self.hand_in(mail, [Recipient(Address.parse(each)) for each in recipients], message))

    async def hand_in(self, mail: Mail, recipients: Sequence[Recipient], message: bytes) -> Committed:
        """The same, with all that may be said of the message; time does not go by meanwhile. Where the server is killed
        before it has answered, it never does. Raises MailError."""
        user = str(mail.reverse_path or f"postmaster@{self.domain}")
        origin = Origin("submission", "10.1.1.1", "test", True, "client.example", True, user, submission=True)
        transaction = await self.hub.pipeline.begin(origin, mail)
        try:
            for recipient in recipients:
                await transaction.recipient(recipient)
            await transaction.body().write(message)
            return await transaction.commit()
        finally:
            transaction.abort()

    def inbox(self, user: str) -> list[bytes]:
        """The messages in an account's INBOX, in order of arrival, as they would be fetched."""
        return self._wait(self._inbox(user))

    async def _inbox(self, user: str) -> list[bytes]:
        mailbox = await (await self.hub.store.account(user)).mailbox("INBOX")
        return [await (await mailbox.open(entry.uid)).read() for entry in await mailbox.entries()]

    def change_queue(self, change: str) -> Deferred[Any]:
        """Do with all that waits what an operator may do ("hold", "release", "retry"), without waiting for it. It gives
        None where that fails, and a server that ends meanwhile never says that it is done."""

        async def ask() -> Any:
            return await QUESTIONS["queue"](self.hub, {"queue": "change", "change": change})

        return Deferred.fromCoroutine(ask()).addErrback(lambda _: None)

    def queued(self) -> Sequence[QueuedMessage]:
        """What waits in the queue."""
        return self._wait(self.hub.queue.messages())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.internet.wait(coroutine)


def _place(address: str, endpoint: str) -> tuple[str, int]:
    """Where an endpoint of the configuration is in the network."""
    kind, _, rest = endpoint.partition(":")
    if kind == "unix":
        return f"unix:{rest}", 0
    if kind != "tcp":
        raise ValueError(f"{endpoint}: no such endpoint in simulations")
    return address, int(rest.partition(":")[0])
