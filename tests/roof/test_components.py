"""The object graph: what the configuration says reaches the part it is meant for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from mailhub.auth.checkers import FirstMatch
from mailhub.cli.offline import environment, opened, wait
from mailhub.components import Hub, build_hub
from mailhub.config import routes, tables
from mailhub.config.settings import LimitsTable, parse
from mailhub.delivery.screens import Screening
from mailhub.errors import ConfigurationError, NotPermitted
from mailhub.hub_view import view
from mailhub.interfaces import IHub, Part
from mailhub.keys import STOP_SECONDS, limit
from mailhub.logins import checkers
from mailhub.message.address import Address
from mailhub.net.certificates import write_self_signed
from mailhub.plugin_faults import PROMISES
from mailhub.plugins import Catalogue, Component, NoOptions, load_catalogue
from mailhub.store.memory.database import MemoryDatabase
from mailhub.testing.databases import memory_database
from mailhub.testing.played_tls import PlayedTls

TOP = 'hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example"]\n'
EVERYTHING = (
    TOP
    + '[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n[listen]\n'
    + "".join(
        f'{service} = ["tcp:0"]\n'
        for service in ("smtp", "lmtp", "submission", "submissions", "pop3", "pop3s", "imap", "imaps")
    )
)
CATALOGUE = load_catalogue()


def build(folder: Path, text: str, catalogue: Catalogue = CATALOGUE) -> Hub:
    config = parse(text, folder / "m.toml")
    return build_hub(config, environment(config), catalogue)


def mistake(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        build(folder, text)
    return str(caught.value).removeprefix(f"{folder}/m.toml: ")


def logs_in(hub: Hub, user: str, password: str) -> bool:
    """Whether the hub's checkers take these credentials."""
    asked = UsernamePassword(user.encode(), password.encode())
    try:
        wait(FirstMatch(checkers(hub, CATALOGUE)).requestAvatarId(asked))
    except UnauthorizedLogin:
        return False
    return True


def test_every_service_that_is_listed_is_offered_and_no_other(tmp_path: Path) -> None:
    write_self_signed(tmp_path / "c.pem", tmp_path / "k.pem", ["mx.xx.example"], 30, time.time())
    hub = build(tmp_path, EVERYTHING)
    verifyObject(IHub, view(hub, Part("service", "smtp", "")))
    assert set(hub.factories) == {
        *("smtp", "lmtp", "submission", "submissions", "pop3", "pop3s", "imap", "imaps"),
    }
    assert {name for name, factory in hub.factories.items() if factory.implicit_tls} == {
        "submissions",
        "pop3s",
        "imaps",
    }
    # A connection too many is told so in its protocol's words, but in clear text only where that is expected.
    starts = {"smtp": b"421 4.3.2 ", "lmtp": b"421 4.3.2 ", "submission": b"421 4.3.2 ", "pop3": b"-ERR [SYS/TEMP] "}
    for name, factory in hub.factories.items():
        assert factory.refusal.startswith({**starts, "imap": b"* BYE "}.get(name, b""))
        assert bool(factory.refusal) is not factory.implicit_tls
    assert set(build(tmp_path, TOP + '[listen]\nsmtp = ["tcp:0"]\n').factories) == {"smtp"}


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    assert mistake(tmp_path, EVERYTHING).startswith(f'[tls] certificate "{tmp_path}/c.pem": No such file')


def test_file_and_memory_strings_of_strcred_are_checkers(tmp_path: Path) -> None:
    (tmp_path / "people").write_text("ann@xx.example:geheim\n")
    auth = '[auth]\ncheckers = ["accounts", "file:people", "memory:ben@xx.example:secret"]\n'
    hub = build(tmp_path, TOP + auth)
    with opened(hub.settings, "create"):
        pass
    wait(hub.database.start())
    try:
        assert logs_in(hub, "ann@xx.example", "geheim")
        assert logs_in(hub, "ben@xx.example", "secret")
        assert not logs_in(hub, "ann@xx.example", "secret")
        assert not logs_in(hub, "nobody@xx.example", "secret")
    finally:
        wait(hub.database.stop())


def test_a_component_may_be_used_twice_with_different_options(tmp_path: Path) -> None:
    @attrs.frozen
    class Options:
        number: int

    made: list[int] = []

    def make(options: Options, hub: object) -> object:
        made.append(options.number)
        return Screening([], Clock())

    catalogue = attrs.evolve(CATALOGUE, factories=(*CATALOGUE.factories, Component("policy", "n", make, Options)))
    tables = '[policy.a]\ntype = "n"\nnumber = 1\n[policy.b]\ntype = "n"\nnumber = 2\n'
    build(tmp_path, TOP + '[delivery]\npolicies = ["b", "a"]\n' + tables, catalogue)
    assert made == [2, 1]


def test_routes_reach_the_routers(tmp_path: Path) -> None:
    hub = build(
        tmp_path,
        TOP + '[route."yy.example"]\nhost = "127.0.0.1:2625"\n[route."*"]\nagent = "refuse"\n'
        '[route."lists.example"]\nagent = "lmtp"\nhost = "unix:/run/lists"\n',
    )
    (route,) = wait(hub.routing.route(Address.parse("b@YY.example")))
    assert (route.agent, route.target) == ("smtp", "127.0.0.1:2625")
    (route,) = wait(hub.routing.route(Address.parse("b@lists.example")))
    assert (route.agent, route.target) == ("lmtp", "unix:/run/lists")
    with pytest.raises(NotPermitted):
        wait(hub.routing.route(Address.parse("b@zz.example")))


def test_the_password_of_a_next_hop_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("geheim\n")
    hub = build(tmp_path, TOP + '[route."*"]\nhost = "h"\nuser = "me"\npassword_file = "pw"\n')
    assert hub.hops["*"].password == "geheim"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '[store]\ntype = "sqlight"',
            "[store]: there is no store plugin called 'sqlight'; did you mean sqlite?",
        ),
        ("[listen]\nsmpt = []", "[listen] smpt: there is no service plugin called 'smpt'; did you mean smtp? known: "),
        ("[store]\nsize = 1", "[store] size: unknown key; known: timeout_seconds, type"),
        (
            "[transport.t]\nagent = 'discard'\nx = 1",
            "[transport.t] x: unknown key; known: accounts, agent, from_attempt, host, recipients, senders",
        ),
        (
            '[auth]\ncheckers = ["acounts"]',
            "[auth] checkers: there is no checker plugin called 'acounts'; did",
        ),
        ('[auth]\ncheckers = ["nis:x"]', "[auth] checkers: no plugin makes checkers of 'nis' strings; known: "),
        ('[auth]\ncheckers = ["file:gone"]', "[auth] checkers: there is no file "),
        ('[auth]\ncheckers = ["memory:odd"]', "[auth] checkers: 'memory': "),
        ('[auth]\ncheckers = ["anonymous"]', "[auth] checkers: AllowAnonymousAccess cannot check passwords"),
        (
            '[auth]\ncheckers = ["x"]\n[checker.x]\ntype = "ldap"',
            "[checker.x]: there is no checker plugin called",
        ),
        (
            '[delivery]\nrouters = ["alias"]',
            "[delivery] routers: there is no router plugin called 'alias'; did",
        ),
        ('[delivery]\npolicies = ["x", "y", "x"]', '[delivery] policies: "x" is there twice'),
        ('[delivery]\nrules = ["x", "x"]', '[delivery] rules: "x" is there twice'),
        ('[delivery]\nrouters = ["static", "static"]', '[delivery] routers: "static" is there twice'),
        ('[auth]\ncheckers = ["accounts", "accounts"]', '[auth] checkers: "accounts" is there twice'),
        ('[auth]\ndirectories = ["x", "x"]', '[auth] directories: "x" is there twice'),
        ('[delivery]\npolicies = ["x"]', "[delivery] policies: there is no policy plugin called 'x'; known: "),
        (
            '[delivery]\npolicies = ["neighbors"]\n[policy.neighbours]\ntype = "quiet"',
            "[delivery] policies: there is no policy plugin called 'neighbors'; did you mean neighbours?",
        ),
        ('[route."yy.example"]\nagent = "uucp"', '[route."yy.example"] agent: there is no agent plugin called'),
        ('[agent.x]\ntype = "uucp"', "[agent.x]: there is no agent plugin called 'uucp'"),
        ('[aliases]\n"a@yy.example" = ["b@xx.example"]', '[aliases]: "a@yy.example": yy.example is not one of'),
        ('[route."*"]\nhost = "h:smtp"', '[route."*"] host: "h:smtp": '),
        ('[route."*"]\nhost = "h"\nuser = "u"\npassword_file = "gone"', '[route."*"] password_file: cannot be read'),
    ],
)
def test_mistakes_that_show_when_parts_are_put_together(tmp_path: Path, text: str, line: str) -> None:
    assert mistake(tmp_path, TOP + text).startswith(line)


def told(hub: Hub) -> list[Any]:
    """What the parts of a hub have been told of limits."""
    options: list[Any] = []
    for factory in hub.factories.values():
        made: Any = factory.make_session
        service = made.__self__
        options += [factory.limits, service.parts.options if hasattr(service, "parts") else service.options]
    seen: Any = hub
    return [
        *options,
        seen.pipeline._house.hop_limit,
        seen.pipeline._house.null_sender,
        seen.pipeline._house.allowances.defaults,
        seen.harvest.limits,
        attrs.asdict(hub.throttle, filter=lambda field, _: not field.name.startswith("_")),
        seen.runner._limits,
        seen.guards.limits,
        seen.agents["smtp"].agent._transmitter._limits,
        seen.agents["smtp"].agent._transmitter._timeouts,
        seen.database._settings,
        (hub.passwords.running, hub.passwords.waiting),
        seen.verified._size,
        hub.settings.value(STOP_SECONDS),
    ]


# Told to the real environment (`mailhub.service`), where a hub has a played one; and to who runs plugin files
# (tests/roof/test_plugin_trial.py).
_OUTSIDE = {"threads", "processes", "plugin_load_seconds"}


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(LimitsTable) if field.name not in _OUTSIDE])
def test_every_limit_reaches_a_part(tmp_path: Path, name: str) -> None:
    field = next(field for field in attrs.fields(LimitsTable) if field.name == name)
    default: Any = field.default
    changed = not default if isinstance(default, bool) else default + 1

    def built(text: str) -> Hub:
        config = parse(EVERYTHING + text, tmp_path / "m.toml")
        return build_hub(config, environment(config), CATALOGUE, server_tls=PlayedTls)

    assert told(built(f"[limits]\n{name} = {str(changed).lower()}\n")) != told(built(""))


def test_a_key_is_declared_in_one_way_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    @attrs.frozen
    class One:
        number: int = limit("hops", 49, 5, 1000)

    monkeypatch.setattr(tables, "DECLARING", (*tables.DECLARING, One))
    with pytest.raises(TypeError, match=r"\[limits\] hops is declared in two ways"):
        tables.table("limits")


@pytest.mark.parametrize(
    ("auth", "known"),
    [
        ("", frozenset()),
        ('checkers = ["accounts"]', frozenset()),
        ('checkers = ["own"]', frozenset()),
        ('checkers = ["accounts", "memory:a@xx.example:b"]', None),
        ('checkers = ["memory:a@xx.example:b"]\nusers_known_elsewhere = []', frozenset()),
        ('users_known_elsewhere = ["XX.example"]', frozenset({"xx.example"})),
    ],
)
def test_users_of_other_checkers_are_known_elsewhere(tmp_path: Path, auth: str, known: frozenset[str] | None) -> None:
    config = parse(f'{TOP}[auth]\n{auth}\n[checker.own]\ntype = "accounts"\n', tmp_path / "m.toml")
    assert routes.known_elsewhere(config) == known
    assert known_elsewhere_of(build_hub(config, environment(config), CATALOGUE)) == known


def known_elsewhere_of(hub: Hub) -> object:
    return hub.names._file.elsewhere


def test_the_database_is_a_component_and_serves_without_a_file(tmp_path: Path) -> None:
    catalogue = attrs.evolve(CATALOGUE, factories=(*CATALOGUE.factories, memory_database))
    hub = build(tmp_path, TOP + '[database]\ntype = "memory"\n', catalogue)
    wait(hub.start())
    wait(hub.accounts.add("a@xx.example", ""))
    assert wait(hub.store.exists("a@xx.example"))
    assert hub.queue.deposits_into(hub.store)
    wait(hub.stop())
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(ConfigurationError, match=r"\[database\] type: commands open databases of SQLite alone"),
        opened(hub.settings, "create"),
    ):
        pass


def test_older_files_call_the_databases_mailboxes_sqlite(tmp_path: Path) -> None:
    hub = build(tmp_path, TOP + '[store]\ntype = "sqlite"\n')
    assert hub.store is hub.database.store


def test_a_database_that_cannot_start_is_named(tmp_path: Path) -> None:
    class Database(MemoryDatabase):
        async def start(self) -> None:
            raise OSError("no\nroom")

    made = Component("database", "odd", lambda _, hub: Database(hub.environment))
    catalogue = attrs.evolve(CATALOGUE, factories=(*CATALOGUE.factories, made))
    hub = build(tmp_path, TOP + '[database]\ntype = "odd"\n', catalogue)
    with pytest.raises(ConfigurationError, match=r"m.toml: \[database\]: odd cannot start: OSError: no room \(.*line"):
        wait(hub.start())
    wait(hub.stop())


def test_what_is_built_in_provides_what_its_kind_promises(tmp_path: Path) -> None:
    """By the rules of zope.interface, which are stricter than ours: plugins need not declare what they provide."""
    config = parse(EVERYTHING, tmp_path / "m.toml")
    hub = build_hub(config, environment(config), CATALOGUE, server_tls=PlayedTls)
    tried = set()
    for factory in CATALOGUE.factories:
        if factory.options is NoOptions:
            component = factory.build(NoOptions(), view(hub, Part(factory.kind, factory.name, "")))
            assert any(promise.providedBy(component) for promise in PROMISES[factory.kind]), factory.name
            for promise in PROMISES[factory.kind]:
                if promise.providedBy(component):
                    verifyObject(promise, component)
            tried.add(factory.kind)
    assert tried >= {"database", "store", "checker", "router", "agent", "service"}
