"""Everything that can be configured, and its defaults.

Each field is a key of the file; docs/configuration.rst says what for.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from mailhub.config import rules
from mailhub.config.reader import Place, convert, read
from mailhub.config.rules import bounded
from mailhub.errors import ConfigurationError
from mailhub.interfaces import Service
from mailhub.services import SERVICES

FILE_LIMIT = 4 * 1024 * 1024  # octets
KINDS = ("database", "store", "checker", "router", "policy", "agent", "service")
_DAY = 86400
_KIB = 1 << 10
_MIB = 1 << 20
_GIB = 1 << 30


@attrs.frozen
class Tls:
    """[tls]: certificate chain and key in PEM; both are read again when they change."""

    certificate: Path
    key: Path


@attrs.frozen
class Auth:
    """[auth]: who may log in."""

    checkers: tuple[str, ...] = ("accounts",)
    default_domain: str = attrs.field(default="", converter=rules.domain_or_none)
    users_known_elsewhere: tuple[str, ...] | None = attrs.field(default=None, converter=rules.domains_or_none)
    failures_free: int = bounded(2, 0, 1000)
    failures_limit: int = bounded(20, 1, 100_000)
    failures_window_seconds: int = bounded(900, 1, 30 * _DAY)
    failure_delay_seconds: int = bounded(10, 0, 600)
    known_user_seconds: int = bounded(7 * _DAY, 0, 365 * _DAY)


@attrs.frozen
class Log:
    """[log]: a file instead of where twistd logs to."""

    file: Path | None = None
    rotate_bytes: int = bounded(16 * _MIB, 4 * _KIB, 64 * _GIB)
    rotate_days: int = bounded(1, 0, 366)
    keep_files: int = bounded(14, 0, 10_000)


@attrs.frozen
class Trust:
    """[trust]: networks whose peers are spared a protection, because there is another one."""

    cleartext_login: tuple[str, ...] = attrs.field(default=(), converter=rules.networks)


@attrs.frozen
class Delivery:
    """[delivery]: how a recipient's way is found, and who has a say."""

    routers: tuple[str, ...] = attrs.field(
        default=("aliases", "accounts", "postmaster", "catch-all", "static", "exchangers"), validator=rules.not_empty
    )
    policies: tuple[str, ...] = ()


@attrs.frozen
class StaticRoute:
    """[route."domain"]: where mail for a recipient domain goes instead of asking DNS; "*" is every other domain."""

    agent: str = "smtp"
    host: str = ""
    tls: Literal["never", "opportunistic", "required"] = "opportunistic"
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    password_file: Path | None = None


@attrs.frozen
class Dns:
    """[dns]: recursive name servers, `address` or `address#port`; by default those of /etc/resolv.conf."""

    servers: tuple[str, ...] = attrs.field(default=(), converter=rules.name_servers)


@attrs.frozen
class Queue:
    """[queue]: when mail that could not be delivered is tried again. The last pause repeats."""

    retry_seconds: tuple[int, ...] = attrs.field(default=(60, 300, 900, 3600), validator=rules.each(1, 7 * _DAY))
    expire_hours: int = bounded(120, 1, 24 * 30)


@attrs.frozen
class Limits:
    """[limits]: every bound, with its unit in its name; what has no unit is a number of things."""

    message_size_bytes: int = bounded(50 * _MIB, 1024, 2 * _GIB - 1)
    recipients_per_message: int = bounded(1000, 100, 100_000)
    hops: int = bounded(50, 5, 1000)

    connections_per_service: int = bounded(10_000, 1, 1_000_000)
    connections_per_address: int = bounded(100, 1, 1_000_000)
    connections_per_ipv4_24: int = bounded(1000, 1, 1_000_000)
    connections_per_ipv6_56: int = bounded(200, 1, 1_000_000)
    connections_per_ipv6_48: int = bounded(500, 1, 1_000_000)
    count_loopback: bool = False

    login_seconds: int = bounded(60, 5, _DAY)
    smtp_idle_seconds: int = bounded(300, 5, _DAY)
    pop3_idle_seconds: int = bounded(600, 5, _DAY)
    pop3_takeover_seconds: int = bounded(30, 1, _DAY)
    imap_idle_seconds: int = bounded(1800, 5, _DAY)
    stop_seconds: int = bounded(10, 0, 600)

    login_failures_per_session: int = bounded(5, 1, 1000)
    smtp_bad_commands: int = bounded(20, 1, 100_000)
    smtp_idle_commands: int = bounded(100, 1, 1_000_000)
    smtp_data_window_seconds: int = bounded(120, 1, _DAY)
    smtp_data_window_bytes: int = bounded(12_000, 0, _MIB)
    refused_recipients_per_session: int = bounded(20, 1, 100_000)
    refused_recipients_per_network: int = bounded(100, 1, 1_000_000)
    refused_recipients_window_seconds: int = bounded(900, 1, 30 * _DAY)
    refused_recipient_delay_seconds: int = bounded(10, 0, 600)
    pop3_bad_commands: int = bounded(20, 1, 100_000)
    imap_bad_commands: int = bounded(100, 1, 100_000)
    imap_line_bytes: int = bounded(64 * _KIB, 8 * _KIB, 16 * _MIB)
    imap_literal_bytes: int = bounded(64 * _KIB, 8 * _KIB, 16 * _MIB)
    imap_command_bytes: int = bounded(256 * _KIB, 8 * _KIB, 64 * _MIB)
    imap_literals_per_command: int = bounded(100, 1, 10_000)

    threads: int = bounded(10, 1, 1000)
    password_threads: int = bounded(2, 1, 100)
    logins_waiting: int = bounded(200, 1, 100_000)
    logins_remembered: int = bounded(10_000, 0, 10_000_000)

    delivery_attempts: int = bounded(50, 1, 10_000)
    delivery_attempts_per_target: int = bounded(5, 1, 1000)
    delivery_attempt_seconds: int = bounded(3600, 60, _DAY)
    relay_addresses_per_message: int = bounded(10, 1, 1000)
    relay_recipients_per_transaction: int = bounded(100, 1, 10_000)
    relay_messages_per_connection: int = bounded(100, 1, 10_000)
    relay_idle_connections: int = bounded(50, 0, 10_000)
    relay_idle_seconds: int = bounded(30, 1, _DAY)
    relay_unreachable_seconds: int = bounded(30, 1, _DAY)

    mailboxes_per_account: int = bounded(2000, 10, 1_000_000)
    subscriptions_per_account: int = bounded(4000, 10, 1_000_000)
    keywords_per_message: int = bounded(64, 10, 1000)
    keywords_per_mailbox: int = bounded(200, 10, 10_000)
    inline_body_bytes: int = bounded(64 * _KIB, 0, _MIB)
    disk_reserve_percent: int = bounded(5, 0, 90)
    store_changes_waiting: int = bounded(1000, 1, 1_000_000)
    index_rows_cached: int = bounded(500_000, 0, 1_000_000_000)
    digest_cache_bytes: int = bounded(64 * _MIB, 0, 64 * _GIB)


BareLines = Literal["reject", "normalise"]


@attrs.frozen
class Smtp:
    """[smtp]: what happens to a message with a line end that is not CRLF, or a NUL (RFC 5321 2.3.8), and to lines of a
    submitted one that are longer than 998 octets (RFC 5322 2.1.1)."""

    bare_lines: BareLines = "normalise"
    submission_bare_lines: BareLines = "normalise"
    submission_long_lines: Literal["wrap", "reject"] = "wrap"


@attrs.frozen
class Guard:
    """The keys of every [policy.x] beside the plugin's own: the time it may take, and what happens without an answer.

    "tempfail" asks the client to come again, "skip" goes on as if the policy were not there.
    """

    timeout_seconds: int = bounded(30, 1, 600)
    failure: Literal["tempfail", "skip"] = "tempfail"


@attrs.frozen
class Part:
    """A component to be built: the plugin `type`, and the keys of its table that the plugin's options class reads.

    `guard` is for policies alone.
    """

    kind: str
    name: str
    type: str
    options: Mapping[str, Any]
    place: Place
    guard: Guard = Guard()


@attrs.frozen
class Config:
    """The whole file."""

    file: Path
    hostname: str
    data: Path
    domains: tuple[str, ...]
    tls: Tls | None
    listen: Mapping[str, tuple[str, ...]]
    auth: Auth
    trust: Trust
    log: Log
    delivery: Delivery
    aliases: Mapping[str, tuple[str, ...]]
    routes: Mapping[str, StaticRoute]
    dns: Dns
    smtp: Smtp
    queue: Queue
    limits: Limits
    database: Part
    store: Part
    parts: Mapping[tuple[str, str], Part]

    def place(self, table: str = "", key: str = "") -> Place:
        """Where something stands in this file, for messages."""
        return Place(str(self.file), self.file.parent, table, key)

    def part(self, kind: str, name: str, place: Place) -> Part:
        """The component that `place` calls `name`: its own table, or the plugin of that name with its defaults."""
        return self.parts.get((kind, name)) or Part(kind, name, name, {}, place)


@attrs.frozen
class _Top:
    """The keys and tables of the file."""

    hostname: str = attrs.field(converter=rules.domain)
    data: Path
    domains: tuple[str, ...] = attrs.field(default=(), converter=rules.domains)
    tls: Tls | None = None
    listen: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    database: Mapping[str, Any] = attrs.field(factory=dict)
    store: Mapping[str, Any] = attrs.field(factory=dict)
    auth: Auth = attrs.field(factory=Auth)
    trust: Trust = attrs.field(factory=Trust)
    log: Log = attrs.field(factory=Log)
    delivery: Delivery = attrs.field(factory=Delivery)
    aliases: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    route: Mapping[str, StaticRoute] = attrs.field(factory=dict)
    dns: Dns = attrs.field(factory=Dns)
    smtp: Smtp = attrs.field(factory=Smtp)
    queue: Queue = attrs.field(factory=Queue)
    limits: Limits = attrs.field(factory=Limits)
    checker: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    router: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    policy: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
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
        tls=top.tls,
        listen=_listen(top, parts, place),
        auth=top.auth,
        trust=top.trust,
        log=_log(top, place),
        delivery=top.delivery,
        aliases=_aliases(top, place.inside("aliases")),
        routes=_routes(top, place.inside("route")),
        dns=top.dns,
        smtp=top.smtp,
        queue=top.queue,
        limits=top.limits,
        database=_part("database", "database", {"type": "sqlite", **top.database}, place.inside("database")),
        store=_part("store", "store", {"type": "database", **top.store}, place.inside("store")),
        parts=parts,
    )


def _listen(top: _Top, parts: Mapping[tuple[str, str], Part], place: Place) -> dict[str, tuple[str, ...]]:
    """In the order of our own table of services, with others behind them. What those are shows when they are built."""
    inside = place.inside("listen")
    checked: dict[str, tuple[str, ...]] = {}
    for name in [*(name for name in SERVICES if name in top.listen), *sorted(set(top.listen) - set(SERVICES))]:
        here = inside.at(name)
        part = parts.get(("service", name))
        service = SERVICES.get(part.type if part else name)
        if top.listen[name] and service is not None:
            require_login(service, top.tls, top.trust, here)
        try:
            checked[name] = tuple(
                rules.endpoint(rules.endpoint_in(str(place.folder), text)) for text in top.listen[name]
            )
        except ValueError as error:
            raise here.error(str(error)) from None
    return checked


def require_login(service: Service, tls: Tls | None, trust: Trust, place: Place) -> None:
    """Raises ConfigurationError for a service whose whole purpose is a login, where none is possible."""
    if service.login and tls is None and (service.implicit_tls or not trust.cleartext_login):
        raise place.error("nobody could log in without TLS: add a [tls] table with certificate and key")


def _log(top: _Top, place: Place) -> Log:
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
            aliases[name] = tuple(rules.address(target) for target in targets)
        except ValueError as error:
            raise here.error(str(error)) from None
    return aliases


def _routes(top: _Top, place: Place) -> dict[str, StaticRoute]:
    routes: dict[str, StaticRoute] = {}
    for written, route in top.route.items():
        here = place.inside(written)
        try:
            name = written if written == "*" else rules.domain(written)
        except ValueError as error:
            raise here.error(str(error)) from None
        if name in routes:
            raise here.error(f'is the same as another table, [route."{name}"]')
        if route.password and route.password_file:
            raise here.at("password_file").error("password is given as well; give one of the two")
        if bool(route.user) != bool(route.password or route.password_file):
            raise here.at("user").error("user and password (or password_file) go together")
        routes[name] = route
    return routes


def _parts(top: _Top, place: Place) -> dict[tuple[str, str], Part]:
    parts: dict[tuple[str, str], Part] = {}
    for kind in KINDS[2:]:
        tables: Mapping[str, Mapping[str, Any]] = getattr(top, kind)
        for name, table in tables.items():
            parts[kind, name] = _part(kind, name, table, place.inside(kind).inside(name))
    return parts


def _part(kind: str, name: str, table: Mapping[str, Any], place: Place) -> Part:
    options = dict(table)
    if "type" not in options and kind == "service":
        options["type"] = name
    if "type" not in options:
        raise place.at("type").error(f"is missing: the name of the plugin that makes this {kind}")
    plugin = convert(str, options.pop("type"), place.at("type"))
    guard = Guard()
    if kind == "policy":
        words = [field.name for field in attrs.fields(Guard)]
        guard = read(Guard, {word: options.pop(word) for word in words if word in options}, place)
    return Part(kind, name, plugin, options, place, guard)
