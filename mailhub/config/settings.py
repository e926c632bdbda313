"""The file: its tables, what is asked of all of them together, and what each part is told (`Config.of`).

Each field is a key; docs/configuration.rst says what for. Keys that a part of the server is told are declared by that
part (`mailhub.config.tables`), here are those that the roof reads.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import attrs
from zope.interface import implementer

from mailhub.config import rules
from mailhub.config.mailboxes import MailboxesTable, shares_of
from mailhub.config.reader import Place, convert, one_of, read
from mailhub.config.routes import HOSTS
from mailhub.config.rules import bounded
from mailhub.config.tables import table, told_to
from mailhub.config.transports import ROUTER, TAKEN, TransportKeys, TransportTable
from mailhub.delivery.authentication.options import CHECKS, CheckOptions
from mailhub.delivery.authentication.report_options import DmarcOptions
from mailhub.delivery.reporting import ReportOptions
from mailhub.delivery.routing import REFUSE
from mailhub.errors import ConfigurationError
from mailhub.interfaces import ISettings, TlsPolicy
from mailhub.keys import GIB, KIB, MIB, Key
from mailhub.message.address import Address
from mailhub.message.lists import MailingList
from mailhub.services import SERVICES
from mailhub.store.several import Shares

FILE_LIMIT = 4 * 1024 * 1024  # octets
# Kinds of component of which there may be several, each with a table of its own: [checker.x].
NAMED = ("checker", "directory", "realm", "router", "policy", "rule", "agent", "service")
T = TypeVar("T")
V = TypeVar("V")


@attrs.frozen
class TlsTable:
    """[tls]: certificate chain and key in PEM; both are read again when they change."""

    certificate: Path
    key: Path


@attrs.frozen
class _OwnAuth:
    """[auth]: who may log in."""

    checkers: tuple[str, ...] = attrs.field(default=("accounts",), validator=rules.no_two)
    directories: tuple[str, ...] = attrs.field(default=(), validator=rules.no_two)
    realm: str = ""
    default_domain: str = attrs.field(default="", converter=rules.domain_or_none)
    users_known_elsewhere: tuple[str, ...] | None = attrs.field(default=None, converter=rules.domains_or_none)


@attrs.frozen
class LogTable:
    """[log]: a file instead of where twistd logs to."""

    file: Path | None = None
    rotate_bytes: int = bounded(16 * MIB, 4 * KIB, 64 * GIB)
    rotate_days: int = bounded(1, 0, 366)
    keep_files: int = bounded(14, 0, 10_000)


@attrs.frozen
class _OwnDelivery:
    """[delivery]: how a recipient's way is found, who has a say, and where mail for accounts goes."""

    routers: tuple[str, ...] = attrs.field(
        default=(
            "aliases",
            "lists",
            "transports",
            "accounts",
            "postmaster",
            "srs",
            "catch-all",
            "static",
            "exchangers",
        ),
        validator=[rules.not_empty, rules.no_two],
    )
    policies: tuple[str, ...] = attrs.field(default=(), validator=rules.no_two)
    rules: tuple[str, ...] = attrs.field(default=(), validator=rules.no_two)


@attrs.frozen
class RouteTable:
    """[route."domain"]: where mail for a recipient domain goes instead of asking DNS; "*" is every other domain."""

    agent: str = "smtp"
    host: str = ""
    tls: TlsPolicy = "opportunistic"
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    password_file: Path | None = None
    source_address: tuple[str, ...] = attrs.field(default=(), validator=rules.source_address)
    extensions_off: tuple[str, ...] = attrs.field(default=(), validator=rules.extensions)


@attrs.frozen
class _OwnBackupMx:
    """[backup_mx]: domains of others for which mail is taken while their own server is away."""

    recipients_file: Path | None = None


@attrs.frozen
class DnsTable:
    """[dns]: recursive name servers, `address` or `address#port`; by default those of /etc/resolv.conf. `validating`:
    whether they are believed about DNSSEC; by default those on loopback are."""

    servers: tuple[str, ...] = attrs.field(default=(), converter=rules.name_servers)
    validating: bool | None = None


# Tables of which each part declares its own keys (`mailhub.keys`). Which class that makes is known at run time alone.
if TYPE_CHECKING:
    AuthTable: TypeAlias = Any
    DeliveryTable: TypeAlias = Any
    TrustTable: TypeAlias = Any
    SmtpTable: TypeAlias = Any
    BackupMxTable: TypeAlias = Any
    ForwardingTable: TypeAlias = Any
    SubmissionTable: TypeAlias = Any
    ChecksTable: TypeAlias = Any
    DkimTable: TypeAlias = Any
    QueueTable: TypeAlias = Any
    RelayTable: TypeAlias = Any
    LimitsTable: TypeAlias = Any
    GuardTable: TypeAlias = Any
else:
    AuthTable = table("auth", _OwnAuth)
    DeliveryTable = table("delivery", _OwnDelivery)
    TrustTable = table("trust")
    ChecksTable = table("checks")
    DkimTable = table("dkim")
    SmtpTable = table("smtp")
    BackupMxTable = table("backup_mx", _OwnBackupMx)
    ForwardingTable = table("forwarding")
    SubmissionTable = table("submission")
    QueueTable = table("queue")
    RelayTable = table("relay")
    LimitsTable = table("limits")
    GuardTable = table("policy")  # the keys of a [policy.x] beside the plugin's own


# Which keys of GuardTable a kind has. Without the answer of a rule mail goes where it would go without rules.
_GUARDED = {
    "store": ("timeout_seconds",),
    "policy": ("timeout_seconds", "failure"),
    "rule": ("timeout_seconds",),
    "router": ("timeout_seconds",),
    "checker": ("timeout_seconds",),
    "directory": ("timeout_seconds",),
    "realm": ("timeout_seconds",),
}


@attrs.frozen
class ComponentTable:
    """A component to be built: the plugin `type`, and the keys of its table that the plugin's options class reads.

    `guard` is for the kinds of `_GUARDED`, and `guarded` are those of its keys that the table has. `tables` are the
    names of this kind that have a table, and `beside` the keys that others read, for messages.
    """

    kind: str
    name: str
    type: str
    options: Mapping[str, Any]
    place: Place
    guard: GuardTable = attrs.field(factory=lambda: GuardTable())
    guarded: tuple[str, ...] = ()
    tables: frozenset[str] = frozenset()
    beside: tuple[str, ...] = ("type",)

    @property
    def keys_of_others(self) -> tuple[str, ...]:
        """The keys that the table may have beside those of the plugin, for messages."""
        return (*self.beside, *_GUARDED.get(self.kind, ()))


Parts: TypeAlias = Mapping[tuple[str, str], ComponentTable]  # by kind and name


@implementer(ISettings)
@attrs.frozen
class Config:
    """The whole file."""

    file: Path
    hostname: str
    data: Path
    domains: tuple[str, ...]
    plugins: tuple[Path, ...]
    tls: TlsTable | None
    listen: Mapping[str, tuple[str, ...]]
    auth: AuthTable
    trust: TrustTable
    log: LogTable
    delivery: DeliveryTable
    forwarding: ForwardingTable
    aliases: Mapping[str, tuple[str, ...]]
    domain_aliases: Mapping[str, str]
    lists: Mapping[str, MailingList]  # by `Address.key`
    routes: Mapping[str, RouteTable]
    transports: tuple[TransportTable, ...]  # in the order of the file
    backup_mx: BackupMxTable
    dns: DnsTable
    tlsrpt: ReportOptions
    dmarc: DmarcOptions
    checks: ChecksTable
    dkim: DkimTable
    smtp: SmtpTable
    submission: SubmissionTable
    send_as: Mapping[str, tuple[str, ...]]  # by Address.key
    queue: QueueTable
    relay: RelayTable
    limits: LimitsTable
    database: ComponentTable
    store: ComponentTable
    stores: Mapping[str, ComponentTable]
    mailboxes: Shares
    parts: Parts

    @property
    def has_own_users_alone(self) -> bool:
        """Whether nobody has mail here but the accounts of the database. Other stores may have users of their own, and
        directories and other checkers know some that have no account yet."""
        others = {*self.auth.checkers, *self.auth.directories, *self.stores} - {"accounts"}
        return self.store.type in ("database", "sqlite") and not others

    def told(self, part: type) -> dict[str, Any]:
        """The arguments for a part that come from this file."""
        return told_to(part, {field.name: getattr(self, field.name) for field in attrs.fields(Config)})

    def of(self, part: type[T], **more: object) -> T:
        """A part by what it declares, and what else it takes."""
        return part(**self.told(part), **more)

    def value(self, key: Key[V]) -> V:
        """What this file says of a key."""
        found: V = getattr(getattr(self, key.table), key.name)
        return found

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Every mistake that is found here is told with the name of the file."""
        try:
            yield
        except ConfigurationError as error:
            if str(error).startswith(str(self.file)):
                raise
            raise ConfigurationError(f"{self.file}: {error}") from error

    @property
    def policies(self) -> tuple[str, ...]:
        """All policies in their order: the checks are the first, unless [delivery] policies says where they stand."""
        named: tuple[str, ...] = self.delivery.policies
        return (CHECKS, *named) if self.of(CheckOptions).any and CHECKS not in named else named

    def unnamed(self) -> Iterator[tuple[ComponentTable, str]]:
        """The tables of components that nothing names, and what would. Agents are named by more than this file."""
        named: dict[str, tuple[Iterable[str], str]] = {
            "checker": (self.auth.checkers, "in [auth] checkers"),
            "directory": (self.auth.directories, "in [auth] directories"),
            "realm": ((self.auth.realm,), "the [auth] realm"),
            "router": (self.delivery.routers, "in [delivery] routers"),
            "policy": (self.policies, "in [delivery] policies"),
            "rule": (self.delivery.rules, "in [delivery] rules"),
            "service": (self.listen, "in [listen]"),
        }
        for (kind, name), part in self.parts.items():
            if kind in named and name not in named[kind][0]:
                yield part, named[kind][1]

    def place(self, table: str = "", key: str = "") -> Place:
        """Where something stands in this file, for messages."""
        return Place(str(self.file), self.file.parent, table, key)

    def part(self, kind: str, name: str, place: Place) -> ComponentTable:
        """The component that `place` calls `name`: its own table, or the plugin of that name with its defaults."""
        tables = frozenset(table for one, table in self.parts if one == kind)
        return self.parts.get((kind, name)) or ComponentTable(kind, name, name, {}, place, tables=tables)


@attrs.frozen
class _Top:
    """The keys and tables of the file."""

    hostname: str = attrs.field(converter=rules.domain)
    data: Path
    domains: tuple[str, ...] = attrs.field(default=(), converter=rules.domains)
    plugins: tuple[Path, ...] = ()
    tls: TlsTable | None = None
    listen: Mapping[str, Any] = attrs.field(factory=dict)
    database: Mapping[str, Any] = attrs.field(factory=dict)
    store: Mapping[str, Any] = attrs.field(factory=dict)
    stores: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    mailboxes: MailboxesTable = attrs.field(factory=MailboxesTable)
    auth: AuthTable = attrs.field(factory=AuthTable)
    trust: TrustTable = attrs.field(factory=TrustTable)
    log: LogTable = attrs.field(factory=LogTable)
    delivery: DeliveryTable = attrs.field(factory=DeliveryTable)
    forwarding: ForwardingTable = attrs.field(factory=ForwardingTable)
    aliases: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    domain_aliases: Mapping[str, str] = attrs.field(factory=dict)
    list: Mapping[str, MailingList] = attrs.field(factory=dict)
    route: Mapping[str, RouteTable] = attrs.field(factory=dict)
    transport: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    backup_mx: BackupMxTable = attrs.field(factory=BackupMxTable)
    dns: DnsTable = attrs.field(factory=DnsTable)
    tlsrpt: ReportOptions = attrs.field(factory=ReportOptions)
    dmarc: DmarcOptions = attrs.field(factory=DmarcOptions)
    checks: ChecksTable = attrs.field(factory=ChecksTable)
    dkim: DkimTable = attrs.field(factory=DkimTable)
    smtp: SmtpTable = attrs.field(factory=SmtpTable)
    send_as: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    submission: SubmissionTable = attrs.field(factory=SubmissionTable)
    queue: QueueTable = attrs.field(factory=QueueTable)
    relay: RelayTable = attrs.field(factory=RelayTable)
    limits: LimitsTable = attrs.field(factory=LimitsTable)
    checker: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    directory: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    realm: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    router: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    policy: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    rule: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    agent: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    service: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)


def default_file() -> Path:
    """The configuration file when none is named: $MAILHUB_CONFIG, else mailhub.toml in the current folder."""
    return Path(os.environ.get("MAILHUB_CONFIG") or "mailhub.toml").absolute()


def load(path: Path | str) -> Config:
    """Read and check a configuration file. Raises ConfigurationError."""
    file = Path(path).absolute()
    try:
        with file.open("rb") as stream:
            octets = stream.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{file}: there is no such file; `mailhub init ADDRESS` writes one") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot read the configuration: {error.strerror}") from None
    if len(octets) > FILE_LIMIT:
        raise ConfigurationError(f"{file}: larger than {FILE_LIMIT} octets")
    try:
        return parse(octets.decode(), file)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: is not UTF-8 text") from None


def parse(text: str, file: Path) -> Config:
    """The configuration in `text`; `file` stands in messages, and relative paths start at its folder."""
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}") from None
    return from_values(values, file)


def from_values(values: Mapping[str, Any], file: Path) -> Config:
    """The configuration whose keys and tables have been read already. Raises ConfigurationError."""
    place = Place(str(file), file.parent)
    top = read(_Top, values, place)
    parts = _parts(top, place)
    return Config(
        file=file,
        hostname=top.hostname,
        data=top.data,
        domains=top.domains,
        plugins=_plugins(top, place),
        tls=top.tls,
        listen=_listen(top, parts, place),
        auth=top.auth,
        trust=top.trust,
        log=_log(top, place),
        delivery=top.delivery,
        forwarding=top.forwarding,
        aliases=_aliases(top, place.inside("aliases")),
        lists=_lists(top, place.inside("list")),
        domain_aliases=_domain_aliases(top, place.inside("domain_aliases")),
        routes=_routes(top, place.inside("route")),
        transports=_transports(top, parts, place),
        backup_mx=top.backup_mx,
        dns=top.dns,
        tlsrpt=top.tlsrpt,
        dmarc=top.dmarc,
        checks=top.checks,
        dkim=top.dkim,
        smtp=top.smtp,
        submission=top.submission,
        send_as=_send_as(top, place.inside("send_as")),
        queue=top.queue,
        relay=top.relay,
        limits=top.limits,
        database=_part("database", "", {"type": "sqlite", **top.database}, place.inside("database")),
        store=_part("store", "", {"type": "database", **top.store}, place.inside("store")),
        stores={
            name: _part("store", name, table, place.inside("stores").inside(name)) for name, table in top.stores.items()
        },
        mailboxes=shares_of(top.mailboxes, top.stores, top.domains, place, place.inside("stores")),
        parts=parts,
    )


def _plugins(top: _Top, place: Place) -> tuple[Path, ...]:
    for folder in top.plugins:
        if not os.path.isdir(folder):
            what = "is no folder" if os.path.exists(folder) else "there is no such folder"
            raise place.at("plugins").error(f"{folder}: {what}")
    return top.plugins


def _listen(top: _Top, parts: Parts, place: Place) -> dict[str, tuple[str, ...]]:
    """In the order of our own table of services, with others behind them. What those are shows when they are built."""
    inside = place.inside("listen")
    checked: dict[str, tuple[str, ...]] = {}
    for name in [*(name for name in SERVICES if name in top.listen), *sorted(set(top.listen) - set(SERVICES))]:
        here = inside.at(name)
        part = parts.get(("service", name))
        service = SERVICES.get(part.type if part else name)
        endpoints = top.listen[name]
        if part is None and service is None and not isinstance(endpoints, list):
            raise here.error(f"there is no such service; {one_of(name, SERVICES)}; that of a plugin has a list")
        texts = convert(tuple[str, ...], endpoints, here)
        if texts and service is not None:
            rules.require_tls(service, here, tls=top.tls is not None, trusted=bool(top.trust.cleartext_login))
        try:
            checked[name] = tuple(rules.endpoint(rules.endpoint_in(str(place.folder), text)) for text in texts)
        except ValueError as error:
            raise here.error(str(error)) from None
    return checked


def _log(top: _Top, place: Place) -> LogTable:
    """Its file is added to and renamed, which no other file that is named here would survive."""
    taken = [Path(place.file), *(top.data / f"mailhub.{end}" for end in ("sqlite", "sqlite-wal", "sqlite-shm", "lock"))]
    if top.tls is not None:
        taken += [top.tls.certificate, top.tls.key]
    file = top.log.file
    if file is not None and file.resolve() in {path.resolve() for path in taken}:
        raise place.inside("log").at("file").error(f"{file} is no log file; the log would spoil it")
    return top.log


def _aliases(top: _Top, place: Place) -> dict[str, tuple[str, ...]]:
    aliases: dict[str, tuple[str, ...]] = {}
    for written, targets in top.aliases.items():
        here = place.at(f'"{written}"')
        try:
            name = rules.alias(written)
            if name in aliases:
                raise ValueError(f'is the same as another key, "{name}"')
            if not targets:
                raise ValueError("has no target")
            aliases[name] = rules.alias_targets(name, targets)
        except ValueError as error:
            raise here.error(str(error)) from None
    return aliases


def _lists(top: _Top, place: Place) -> dict[str, MailingList]:
    lists: dict[str, MailingList] = {}
    for written, settings in top.list.items():
        here = place.inside(written)
        try:
            name = Address.parse(written).key
        except ValueError as error:
            raise here.error(f"is no mail address: {error}") from None
        if name in lists:
            raise here.error(f'is the same as another table, [list."{name}"]')
        if any(Address.parse(owner).key == name for owner in settings.owners):
            raise here.at("owners").error("a list is not its own owner")
        lists[name] = settings
    return lists


def _domain_aliases(top: _Top, place: Place) -> dict[str, str]:
    same_as: dict[str, str] = {}
    for written, other in top.domain_aliases.items():
        try:
            name = rules.domain(written)
            if name in same_as:
                raise ValueError(f'is the same as another key, "{name}"')
            same_as[name] = rules.domain(other)
        except ValueError as error:
            raise place.at(f'"{written}"').error(str(error)) from None
    return same_as


def _send_as(top: _Top, place: Place) -> dict[str, tuple[str, ...]]:
    granted: dict[str, tuple[str, ...]] = {}
    for written, others in top.send_as.items():
        here = place.at(f'"{written}"')
        try:
            name = rules.key(written)
            if name in granted:
                raise ValueError(f'is the same as another key, "{name}"')
            for other in others:
                rules.send_as(other)
        except ValueError as error:
            raise here.error(str(error)) from None
        granted[name] = others
    return granted


def _routes(top: _Top, place: Place) -> dict[str, RouteTable]:
    routes: dict[str, RouteTable] = {}
    for written, route in top.route.items():
        here = place.inside(written)
        try:
            name = written if written == "*" else rules.domain(written)
        except ValueError as error:
            raise here.error(str(error)) from None
        if name in routes:
            raise here.error(f'is the same as another table, [route."{name}"]')
        _check_login(route, here)
        routes[name] = route
    return routes


def _check_login(route: RouteTable, place: Place) -> None:
    if route.password and route.password_file:
        raise place.at("password_file").error("password is given as well; give one of the two")
    if bool(route.user) != bool(route.password or route.password_file):
        raise place.at("user").error("user and password (or password_file) go together")
    if route.user and route.agent in HOSTS:
        if route.tls == "never":
            raise place.at("tls").error('is "never", and a password is sent under TLS alone: leave out user, or this')
        if route.host.startswith("unix:"):
            raise place.at("user").error("a password is sent under TLS alone, which a local socket has not")


_OF_TRANSPORT = tuple(field.name for field in attrs.fields(TransportKeys))


def _transports(top: _Top, parts: Parts, place: Place) -> tuple[TransportTable, ...]:
    """Each with the keys of its agent: those of a route, of a component, or none where that has its own table."""
    if top.transport and ROUTER not in top.delivery.routers:
        raise place.inside("delivery").at("routers").error(f'lacks "{ROUTER}", which goes by the tables [transport.x]')
    found = []
    for name, values in top.transport.items():
        here = place.inside("transport").inside(name)
        if name in TAKEN or ("agent", name) in parts:
            raise here.error("is the name of an agent already; call it otherwise")
        own = {key: value for key, value in values.items() if key in _OF_TRANSPORT}
        more = {key: value for key, value in values.items() if key not in _OF_TRANSPORT}
        agent = own.get("agent", "smtp")
        route = None
        if agent in (*HOSTS, REFUSE):
            hop = {key: value for key, value in own.items() if key in ("agent", "host")}
            route = read(RouteTable, {**hop, **more}, here, _OF_TRANSPORT)
            _check_login(route, here)
            more = {}
        keys = read(TransportKeys, own, here)
        part = parts.get(("agent", keys.agent))
        if part is not None and more:
            raise here.at(next(iter(more))).error(f"stands in [agent.{keys.agent}], whose keys are those of the agent")
        part = (
            attrs.evolve(part, name=name)
            if part
            else ComponentTable("agent", name, keys.agent, more, here, beside=_OF_TRANSPORT)
        )
        found.append(TransportTable(name, keys, part, here, route))
    return tuple(found)


def _parts(top: _Top, place: Place) -> dict[tuple[str, str], ComponentTable]:
    parts: dict[tuple[str, str], ComponentTable] = {}
    for kind in NAMED:
        tables: Mapping[str, Mapping[str, Any]] = getattr(top, kind)
        for name, options in tables.items():
            parts[kind, name] = _part(kind, name, options, place.inside(kind).inside(name))
    return parts


def _part(kind: str, name: str, table: Mapping[str, Any], place: Place) -> ComponentTable:
    options = dict(table)
    if "type" not in options and kind == "service":
        options["type"] = name
    if "type" not in options:
        raise place.at("type").error(f"is missing: the name of the plugin that makes this {kind}")
    plugin = convert(str, options.pop("type"), place.at("type"))
    words = tuple(word for word in _GUARDED.get(kind, ()) if word in options)
    guard: GuardTable = read(GuardTable, {word: options.pop(word) for word in words}, place)
    return ComponentTable(kind, name or plugin, plugin, options, place, guard, words)
