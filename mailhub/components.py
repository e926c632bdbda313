"""The object graph of one hub: what is made, in which order, out of what, and how it is made anew while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, DeferredList

from mailhub import avatars, plugin_faults
from mailhub.agents import agents_of, forwarding_of
from mailhub.answers import answer
from mailhub.auth.authenticator import Authenticator
from mailhub.auth.checkers import (
    LOGINS_REMEMBERED,
    FirstMatch,
    VerifiedCache,
)
from mailhub.auth.directories import Directories
from mailhub.auth.foreign_realm import Avatars, GuardedRealm
from mailhub.auth.harvest import Harvest, HarvestLimits
from mailhub.auth.known_users import KnownUsers
from mailhub.auth.passwords import Passwords
from mailhub.auth.realm import MailRealm, address_or_name, canonical_user
from mailhub.auth.send_as import SendAs
from mailhub.auth.sessions import OpenSessions
from mailhub.auth.throttle import Throttle, Turns
from mailhub.component_guards import guard_of
from mailhub.config import routes, rules
from mailhub.config.transports import ROUTER as TRANSPORTS
from mailhub.config.transports import transports
from mailhub.delivery.agents import GuardedAgent
from mailhub.delivery.allowance import SendingLimits
from mailhub.delivery.authentication.keys import PART as DKIM
from mailhub.delivery.authentication.keys import KeptKeys
from mailhub.delivery.authentication.reports import SHARED as DMARC_REPORTS
from mailhub.delivery.authentication.reports import DmarcReports
from mailhub.delivery.authentication.rotation import KeyKeeper
from mailhub.delivery.authentication.sealing import Sealer
from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.bounce import Bouncer
from mailhub.delivery.doubles import Doubles
from mailhub.delivery.guarded_router import GuardedRouter
from mailhub.delivery.intake import HEADERS_TOGETHER
from mailhub.delivery.limits import CA_FILE, HOPS, LONG_LINES, RunnerLimits, TransmitLimits
from mailhub.delivery.names import LocalNames
from mailhub.delivery.pipeline import Pipeline
from mailhub.delivery.priorities import Priorities
from mailhub.delivery.relay.security import Security, security
from mailhub.delivery.relay.transmit import Relay
from mailhub.delivery.routing import Routing
from mailhub.delivery.rules import GuardedRule, Rules
from mailhub.delivery.runner import QueueRunner
from mailhub.delivery.schedule import Schedule
from mailhub.delivery.screening.null_sender import NullSender
from mailhub.delivery.screens import GuardedPolicy, Screening
from mailhub.delivery.sending import Sending
from mailhub.delivery.transports.table import Transports
from mailhub.doors import door
from mailhub.errors import ConfigurationError
from mailhub.guard import Guard, GuardLimits, Guards
from mailhub.interfaces import (
    Environment,
    IAccounts,
    IAuthenticator,
    IClientTls,
    IComponentFactory,
    IDatabase,
    IMailAccount,
    IMailStore,
    IPipeline,
    IQueue,
    ISubmitter,
    NextHop,
    Service,
)
from mailhub.keys import MESSAGE_SIZE, STOP_SECONDS
from mailhub.logins import checker_guards, checkers, directories
from mailhub.net.crowd import Room
from mailhub.net.driver import DriverFactory
from mailhub.net.smtp_client import SmtpTimeouts
from mailhub.net.tls import ClientTls, ServerTls, ServerTlsMaker, ServiceTls, made_or_kept
from mailhub.plugins import Catalogue
from mailhub.store.guarded.store import GuardedStore
from mailhub.store.several import MAIN, SeveralStores
from mailhub.store_swap import Retired, busy, replace, start_after, start_instead
from mailhub.wire.budget import Budget

if TYPE_CHECKING:
    from mailhub.config.settings import ComponentTable, Config

# What a hub takes over from its successor, beside the TLS and the factories that ports hold on to.
_MADE_ANEW = (
    *(
        "settings",
        "guards",
        "hostname",
        "names",
        "hops",
        "logins",
        "directories",
        "transports",
        "routing",
        "agents",
        "bouncer",
    ),
    *("throttle", "harvest", "pipeline", "authenticator", "services", "catalogue", "store", "standing"),
    "transport_hops",
)
T = TypeVar("T")


@attrs.define(eq=False, kw_only=True)
class Hub:
    """One mail server without its ports. What stands from `database` on is set as the graph is built.

    What is made of the configuration can be made anew: `successor` builds it beside, and `adopt` takes it over. The
    rest lasts as long as the process: the database, the queue's runner, and what is known of sessions and logins; and
    the store, unless the code of its plugin has changed.
    """

    environment: Environment
    settings: Config
    hostname: str
    hops: Mapping[str, NextHop]
    hop: None = None  # see `_OfTransport`
    passwords: Passwords
    verified: VerifiedCache
    client_tls: IClientTls
    server_tls: ServerTlsMaker | None
    guards: Guards
    catalogue: Catalogue  # of which all was built but what stands
    headers: Budget = attrs.field(factory=lambda: Budget(HEADERS_TOGETHER))  # of messages that are arriving
    turns: Turns = attrs.field(factory=Turns)
    room: Room = attrs.field(factory=Room)
    database: IDatabase = attrs.field(init=False)
    names: LocalNames = attrs.field(init=False)
    security: Security = attrs.field(init=False)
    dmarc_reports: DmarcReports = attrs.field(init=False)
    sessions: OpenSessions = attrs.field(init=False)
    doubles: Doubles = attrs.field(init=False)
    store: IMailStore = attrs.field(init=False)
    logins: FirstMatch = attrs.field(init=False)
    directories: Directories = attrs.field(init=False)
    transports: Transports = attrs.field(init=False)
    transport_hops: Mapping[str, NextHop] = attrs.field(init=False)  # each with the password that its file had
    routing: Routing = attrs.field(init=False)
    agents: Mapping[str, GuardedAgent] = attrs.field(init=False)
    bouncer: Bouncer = attrs.field(init=False)
    runner: QueueRunner = attrs.field(init=False)
    keeper: KeyKeeper = attrs.field(init=False)
    harvest: Harvest = attrs.field(init=False)
    throttle: Throttle = attrs.field(init=False)
    pipeline: IPipeline = attrs.field(init=False)
    authenticator: IAuthenticator = attrs.field(init=False)
    tls: ServerTls | None = attrs.field(init=False, default=None)
    services: dict[str, Service] = attrs.field(init=False, factory=dict)
    factories: dict[str, DriverFactory] = attrs.field(init=False, factory=dict)
    standing: Mapping[str, IComponentFactory] = attrs.field(init=False)  # by table: of what is not made anew
    _shared: dict[str, Any] = attrs.field(init=False, factory=dict)
    _started: AsyncExitStack = attrs.field(init=False, factory=AsyncExitStack)
    retired: Retired = attrs.field(init=False)

    @retired.default
    def _none_is_retired(self) -> Retired:
        return Retired(self.environment.clock)

    @property
    def relay(self) -> Relay:
        """The way to other servers, by what the configuration says now."""
        limits, timeouts = self.settings.of(TransmitLimits), self.settings.of(SmtpTimeouts)
        addresses = routes.relay_addresses(self.settings)
        own = self.hostname, self.environment, self.client_tls
        return Relay(*own, limits, timeouts, addresses, self.security, lambda: self.signer)

    @property
    def signer(self) -> Signer:
        """Of mail of our own."""
        return Signer.of(self)

    @property
    def accounts(self) -> IAccounts:
        """The account table."""
        return self.database.accounts

    @property
    def queue(self) -> IQueue:
        """The durable queue."""
        return self.database.queue

    @property
    def domains(self) -> frozenset[str]:
        """Local domains as they are now."""
        return self.names.domains

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """See `IHub`."""
        if name not in self._shared:
            self._shared[name] = make()
        found: T = self._shared[name]
        return found

    async def start(self) -> None:
        """Open database and store, run the queue. Raises ConfigurationError."""
        await self._start(self.settings.database, self.database)
        await self.names.look_again()
        self._started.push_async_callback(self._stop_stores)
        for part, store in self._stores():
            await self._open(part, store)
        self._started.push_async_callback(self.security.stop)
        self.security.start()
        self._started.push_async_callback(self.dmarc_reports.stop)
        self.dmarc_reports.start()
        # Stores that are stopped may stop the database with them.
        self._started.push_async_callback(self.doubles.stop)
        await self.doubles.start()
        self._started.push_async_callback(self.runner.stop)
        self.runner.start()
        self._started.callback(self.keeper.stop)
        self.keeper.start()

    def _stores(self) -> Iterator[tuple[ComponentTable, IMailStore]]:
        if not isinstance(self.store, SeveralStores):
            yield self.settings.store, self.store
            return
        for name, store in self.store.stores.items():
            yield self.settings.stores.get(name, self.settings.store), store

    async def _start(self, part: ComponentTable, component: IDatabase | IMailStore) -> None:
        self._started.push_async_callback(_call, component.stop)
        await self._open(part, component)

    async def start_successor(self, new: Hub) -> None:
        """Open the store of a `successor` where it is another one, before `adopt`. Raises ConfigurationError: then all
        is as before."""
        if new.store is not self.store:
            await start_instead(new.store, new.settings.store, self._open, self.environment.clock)

    async def _stop_stores(self) -> None:
        await self.retired.stop()
        await _call(self.store.stop)

    @staticmethod
    async def _open(part: ComponentTable, component: IDatabase | IMailStore) -> None:
        try:
            await _call(component.start)
        except ConfigurationError:
            raise
        except (Exception, SystemExit) as error:
            fault = plugin_faults.told(error, plugin_faults.source(getattr(component, "inner", component)))
            raise part.place.error(f"{part.type} cannot start: {fault}") from error

    async def stop(self) -> None:
        """Say farewell to the sessions, finish what is under way, then stop what was started, the last first."""
        grace = self.settings.value(STOP_SECONDS)
        stopping = [Deferred.fromCoroutine(factory.stop(grace)) for factory in self.factories.values()]
        await DeferredList(stopping, consumeErrors=True)
        await self._started.aclose()

    def adopt(self, new: Hub) -> None:
        """Serve new sessions and try the queue's messages by a `successor` from now on. Sessions that are open and
        attempts under way keep the parts they began with. Never fails half-way."""
        if self.tls is not None and new.tls is not None:
            # Ports with TLS from the first octet hold this very object.
            self.tls.adopt(new.tls)
        else:
            self.tls = new.tls
        if isinstance(self.client_tls, ClientTls) and isinstance(new.client_tls, ClientTls):
            self.client_tls.adopt(new.client_tls)
        for service, factory in self.factories.items():
            factory.adopt(new.factories[service])
        self.runner.reform(
            agents=new.agents,
            bouncer=new.bouncer,
            transports=new.transports,
            forwarding=forwarding_of(new),
            schedule=new.settings.of(Schedule),
            limits=new.settings.of(RunnerLimits),
        )
        new.guards.take_over(self.guards)
        if new.store is not self.store:
            replace(self.store, new.store, self.retired, busy(self.factories.values(), self.runner.under_way))
        for name in _MADE_ANEW:
            setattr(self, name, getattr(new, name))


async def _call(function: Callable[[], Any]) -> None:
    """Of a component, which may wait or not."""
    await answer(function())


def build_hub(
    config: Config,
    environment: Environment,
    catalogue: Catalogue,
    *,
    server_tls: ServerTlsMaker | None = ServerTls,
    client_tls: IClientTls | None = None,
) -> Hub:
    """Put a hub together; only files that the configuration names are read. Without `server_tls` the certificate is
    left alone, and nobody can be served. `client_tls` is that of outgoing connections. Raises ConfigurationError."""
    with config.naming():
        hub = Hub(
            environment=environment,
            settings=config,
            hostname=config.hostname,
            hops=routes.next_hops(config),
            passwords=config.of(Passwords, threads=environment.threads),
            verified=VerifiedCache(environment.random, config.value(LOGINS_REMEMBERED)),
            client_tls=client_tls or ClientTls(config.value(CA_FILE)),
            server_tls=server_tls,
            guards=Guards(environment.clock, config.of(GuardLimits)),
            catalogue=catalogue,
        )
        hub.database = catalogue.build(config.database, hub)
        hub.security = security(environment, hub.database.state.of("tls"), hub.client_tls, lambda: hub)
        hub.dmarc_reports = DmarcReports.of(environment, hub.database.state, lambda: hub)
        hub.shared(DMARC_REPORTS, lambda: hub.dmarc_reports)
        hub.keeper = KeyKeeper(environment, KeptKeys(hub.database.state.of(DKIM)), lambda: hub)
        hub.names = LocalNames(routes.names(config), hub.database.names, environment.clock)
        hub.doubles = Doubles(environment.clock, hub.database)
        hub.sessions = OpenSessions(hub.accounts, environment.clock)
        hub.store = _stores(hub, catalogue)
        tables = {"database": config.database, "store": config.store}
        tables |= {f"stores.{name}": part for name, part in config.stores.items()}
        hub.standing = {table: catalogue.find(part) for table, part in tables.items()}
        _make_ways(hub, catalogue)
        hub.runner = QueueRunner(
            queue=hub.queue,
            agents=hub.agents,
            bouncer=hub.bouncer,
            transports=hub.transports,
            forwarding=forwarding_of(hub),
            schedule=config.of(Schedule),
            environment=environment,
            limits=config.of(RunnerLimits),
            leaves=hub.doubles.leaves,
        )
        hub.harvest = Harvest(environment.clock, config.of(HarvestLimits))
        hub.throttle = config.of(Throttle)
        hub.tls = _server_tls(hub, None)
        _make_doors(hub, catalogue)
        _look_over_unnamed(config, catalogue)
    return hub


def successor(hub: Hub, config: Config, catalogue: Catalogue) -> Hub:
    """What `hub` is to become by another configuration, for `Hub.adopt`; `hub` itself is not touched.

    `config` must agree with the hub's in what lasts (`mailhub.config.difference`). Raises ConfigurationError.
    """
    with config.naming():
        new = copy(hub)
        new.settings, new.hostname, new.hops = config, config.hostname, routes.next_hops(config)
        new.catalogue = catalogue
        new.names = copy(hub.names)
        new.names.replace(routes.names(config))
        new.services, new.factories = {}, {}
        new.guards = Guards(hub.environment.clock, config.of(GuardLimits))
        _make_store(new, hub, catalogue)
        _make_ways(new, catalogue)
        # What is known of guessers stays, unless it is to be counted in another way.
        harvest = config.of(HarvestLimits)
        same = harvest == hub.harvest.limits
        new.harvest = hub.harvest if same else Harvest(hub.environment.clock, harvest)
        same = config.told(Throttle) == hub.settings.told(Throttle)
        new.throttle = hub.throttle if same else config.of(Throttle)
        new.tls = _server_tls(new, hub)
        if isinstance(hub.client_tls, ClientTls):
            new.client_tls = ClientTls(config.value(CA_FILE))
        _make_doors(new, catalogue)
        _look_over_unnamed(config, catalogue)
        for name, factory in new.factories.items():
            if factory.implicit_tls != hub.factories[name].implicit_tls:
                place = config.place("listen", name)
                raise place.error("TLS from the first octet cannot come or go while the port is open: restart")
    return new


def _look_over_unnamed(config: Config, catalogue: Catalogue) -> None:
    for part, _ in config.unnamed():
        catalogue.look_over(part)


def _server_tls(hub: Hub, before: Hub | None) -> ServerTls | None:
    tls, old = hub.settings.tls, before.tls if before else None
    if tls is None or hub.server_tls is None:
        return None
    return made_or_kept(hub.server_tls, tls.certificate, tls.key, hub.environment.clock, old)


def _make_ways(hub: Hub, catalogue: Catalogue) -> None:
    """Who our users are, where mail goes, and who takes it there."""
    found = checkers(hub, catalogue)
    hub.logins = FirstMatch(found, checker_guards(hub, catalogue, found))
    hub.directories = directories(hub, catalogue, found)
    hub.transports = transports(hub.settings, hub.names)
    hub.transport_hops = {table.name: table.next_hop() for table in hub.settings.transports}
    hub.routing = Routing(_routers(hub, catalogue), hub.names)
    hub.agents = agents_of(hub, catalogue)
    hub.bouncer = Bouncer(
        hostname=hub.hostname,
        environment=hub.environment,
        store=hub.store,
        queue=hub.queue,
        routing=hub.routing,
        signer=hub.signer,
    )


def _make_doors(hub: Hub, catalogue: Catalogue) -> None:
    """What serves connections."""
    config, environment = hub.settings, hub.environment
    hub.pipeline = Pipeline(
        hostname=hub.hostname,
        names=hub.names,
        environment=environment,
        store=hub.store,
        queue=hub.queue,
        routing=hub.routing,
        policies=Screening(_policies(hub, catalogue), environment.clock),
        hop_limit=config.value(HOPS),
        headers=hub.headers,
        long_lines=config.value(LONG_LINES),
        rules=_rules(hub, catalogue),
        backup=routes.backup_mx(config),
        sending=Sending.of(hub),
        null_sender=config.of(NullSender),
        priorities=config.of(Priorities),
        accounts=hub.accounts,
        allowances=SendingLimits.of(hub),
        doubles=hub.doubles,
        main_domain=config.auth.default_domain or next(iter(config.domains), ""),
        signer=hub.signer,
        message_size=config.value(MESSAGE_SIZE),
        sealer=Sealer.of(hub),
    )
    hub.authenticator = Authenticator(
        Portal(_realm(hub, catalogue), [hub.logins]),
        environment.clock,
        hub.throttle,
        config.auth.default_domain,
        hub.turns,
        hub.sessions,
        address_or_name if config.auth.realm else canonical_user,
        KnownUsers(hub.accounts, hub.store, hub.directories, hub.names),
    )
    for name, endpoints in config.listen.items():
        part = config.part("service", name, config.place("listen", name))
        service = catalogue.service(part)
        if endpoints:
            place, trusted = config.place("listen", name), bool(config.trust.cleartext_login)
            rules.require_tls(service, place, tls=config.tls is not None, trusted=trusted)
            hub.services[name] = service
            made = catalogue.build(part, hub)
            hub.factories[name] = door(
                name,
                service,
                made,
                environment=environment,
                settings=config,
                tls=hub.tls and ServiceTls(hub.tls, service.alpn),
                room=hub.room,
                guard=_service_guard(hub, catalogue, part, made),
            )


def _service_guard(hub: Hub, catalogue: Catalogue, part: ComponentTable, made: object) -> Guard | None:
    """None for sessions of ours, whose every octet would pay for it."""
    if type(made).__module__.startswith("mailhub.protocols."):
        return None
    return hub.guards.make("service", part.name, plugin_faults.source(catalogue.find(part)))


def _realm(hub: Hub, catalogue: Catalogue) -> IRealm:
    """What a login becomes: by the store, or by a plugin."""
    config = hub.settings
    if not config.auth.realm:
        send_as = SendAs.of(config.send_as, hub.database.state, hub.environment.clock, hub.names)
        return MailRealm(hub.store, hub.routing.route, config.auth.default_domain, send_as)
    part = config.part("realm", config.auth.realm, config.place("auth", "realm"))
    guard = guard_of(hub, catalogue, part)
    wanted = {IMailAccount: avatars.accounts(guard), ISubmitter: avatars.submitters(guard)}
    return GuardedRealm(catalogue.build(part, hub), Avatars(guard, wanted, avatars.lacks))


def _make_store(new: Hub, hub: Hub, catalogue: Catalogue) -> None:
    """Another one where its plugin's code has changed. That of the hub's own database lasts as that does."""
    part = new.settings.store
    lasts = isinstance(hub.store, SeveralStores) or hub.queue.deposits_into(hub.store)
    if lasts or hub.standing["store"] in catalogue.factories or not catalogue.has(part):
        new.guards.keep(hub.guards.of("store"))
        return
    new.store = _store(new, catalogue, part)
    if hub.queue.deposits_into(new.store):
        raise part.place.error("a store cannot become that of the database while the server runs: restart")
    new.standing = {**hub.standing, "store": catalogue.find(part)}
    start_after(new.store, [hub.store, *hub.retired.stores()])


def _stores(hub: Hub, catalogue: Catalogue) -> IMailStore:
    """[store], or it and all [stores.x] as one."""
    config = hub.settings
    main = _store(hub, catalogue, config.store)
    if not config.stores:
        return main
    others = {name: _store(hub, catalogue, part) for name, part in config.stores.items()}
    return SeveralStores({MAIN: main, **others}, config.mailboxes, hub.environment.clock)


def _store(hub: Hub, catalogue: Catalogue, part: ComponentTable) -> IMailStore:
    """A store of mailboxes, asked through a guard. That of the hub's own database is not: without it there is no
    hub."""
    made: IMailStore = catalogue.build(part, hub)
    if hub.queue.deposits_into(made):
        if part.guarded:
            raise part.place.at(part.guarded[0]).error("the mailboxes of the hub's own database are always waited for")
        return made
    guard = guard_of(hub, catalogue, part)
    guards_itself = getattr(made, "guard_by", None)
    if not callable(guards_itself):
        return GuardedStore(made, guard)
    guards_itself(guard)
    return made


def _routers(hub: Hub, catalogue: Catalogue) -> list[GuardedRouter]:
    config = hub.settings
    place = config.place("delivery", "routers")
    return [
        GuardedRouter(catalogue.build(part, hub), guard_of(hub, catalogue, part))
        for name in config.delivery.routers
        if name != TRANSPORTS or config.transports  # nothing is spent on it where there are none
        for part in [config.part("router", name, place)]
    ]


def _policies(hub: Hub, catalogue: Catalogue) -> list[GuardedPolicy]:
    config = hub.settings
    place = config.place("delivery", "policies")
    parts = [config.part("policy", name, place) for name in config.policies]
    return [
        GuardedPolicy(part.name, catalogue.build(part, hub), guard=guard_of(hub, catalogue, part)) for part in parts
    ]


def _rules(hub: Hub, catalogue: Catalogue) -> Rules | None:
    """None where there are none, so that nothing is spent on them."""
    config = hub.settings
    place = config.place("delivery", "rules")
    parts = [config.part("rule", name, place) for name in config.delivery.rules]
    guarded = [
        GuardedRule(part.name, catalogue.build(part, hub), guard=guard_of(hub, catalogue, part)) for part in parts
    ]
    return Rules(guarded, hub.environment.clock) if guarded else None
