"""The plugin door: what is found, what is said about what is not, and that the documentation's example serves mail."""

from __future__ import annotations

import ast
import hashlib
import hmac
import poplib
import smtplib
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import attrs
import pytest
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from mailhub import builtin
from mailhub.cli.offline import environment, opened, wait
from mailhub.components import build_hub
from mailhub.config.reader import Place
from mailhub.config.settings import ComponentTable, load
from mailhub.errors import ConfigurationError
from mailhub.interfaces import ACCEPT, IComponentFactory, IHub, IPolicy, Origin, OwnTransaction, Service
from mailhub.interfaces.services import House
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.plugins import Catalogue, Component, load_catalogue
from mailhub.store.memory import MemoryDatabase
from mailhub.testing.process import BIN, ServerProcess, free_ports, insecure_tls, run
from tests.documented import code_block

OUR_POLICIES = {one.name for one in vars(builtin).values() if isinstance(one, Component) and one.kind == "policy"}
PLACE = Place("m.toml", Path("/etc"), "policy.x")
Put = Callable[[str, str], Path]


@attrs.frozen
class Words:
    word: str


def part(name: str, options: dict[str, Any] | None = None) -> ComponentTable:
    return ComponentTable("policy", "x", name, options or {}, PLACE)


def policies(catalogue: Catalogue) -> list[str]:
    """Those of plugins."""
    return [name for name in catalogue.names("policy") if name not in OUR_POLICIES]


def refusal(catalogue: Catalogue, wanted: ComponentTable) -> str:
    with pytest.raises(ConfigurationError) as caught:
        catalogue.build(wanted, None)
    return str(caught.value)


def test_the_built_in_components_come_by_the_plugin_door() -> None:
    catalogue = load_catalogue()
    assert {"sqlite"} <= set(catalogue.names("store"))
    assert {"accounts"} <= set(catalogue.names("checker"))
    assert {"store", "smtp", "lmtp"} <= set(catalogue.names("agent"))
    assert {"aliases", "accounts", "postmaster", "catch-all", "static", "exchangers"} <= set(catalogue.names("router"))
    for factory in catalogue.factories:
        verifyObject(IComponentFactory, factory)


def test_a_file_in_a_foreign_folder_is_found(plugin: Put) -> None:
    plugin(
        "words_plugin.py",
        "import attrs\nfrom mailhub.plugins import Component\n"
        "@attrs.frozen\nclass Options:\n    word: str\n"
        "class Policy:\n"
        "    def __init__(self, options, hub):\n        self.word = options.word\n"
        "    async def begin(self, whence, spare=None): ...\n"
        "policy = Component('policy', 'words', Policy, Options)\n",
    )
    catalogue = load_catalogue()
    assert catalogue.broken == ()
    assert policies(catalogue) == ["words"]
    # Nothing has to be declared, and names of arguments are free.
    assert catalogue.build(part("words", {"word": "spam"}), None).word == "spam"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import there_is_no_such_module\n", "ModuleNotFoundError: No module named 'there_is_no_such_module'"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("raise RuntimeError('one\\ntwo')\n", "RuntimeError: one two"),
    ],
)
def test_a_broken_file_is_told_and_stops_nobody(plugin: Put, text: str, reason: str) -> None:
    file = plugin("broken_plugin.py", text)
    catalogue = load_catalogue()
    (line,) = catalogue.broken
    assert line.startswith(f"{file}: {reason}")
    assert "sqlite" in catalogue.names("store")
    # Whoever misses a component learns why it is missing.
    assert refusal(catalogue, part("mine")).endswith(f"; not loaded: {line}")


def test_a_name_that_no_plugin_has_lists_those_there_are() -> None:
    names = ("greylist", "ratelimit")
    catalogue = Catalogue(tuple(Component("policy", name, lambda options, hub: 1) for name in names))
    said = "there is no policy plugin called 'graylist'; did you mean greylist? known: greylist, ratelimit"
    assert refusal(catalogue, part("graylist")) == f"m.toml: [policy.x]: {said}"


def test_a_name_of_another_kind_is_told_apart() -> None:
    catalogue = Catalogue((Component("router", "grey", lambda options, hub: 1),))
    said = "there is no policy plugin called 'grey' (it makes a router); known: none"
    assert refusal(catalogue, part("grey")) == f"m.toml: [policy.x]: {said}"


def test_a_policy_of_a_plugin_comes_before_one_of_ours_that_has_its_name() -> None:
    theirs = Component("policy", "helo", lambda options, hub: 1)
    assert Catalogue((builtin.helo_policy, theirs)).find(part("helo")) is theirs
    assert Catalogue((builtin.helo_policy,)).find(part("helo")) is builtin.helo_policy


def test_two_plugins_of_one_name_are_not_chosen_between() -> None:
    one = Component("policy", "words", lambda options, hub: 1)
    assert "2 policy plugins are called 'words'" in refusal(Catalogue((one, one)), part("words"))


def test_a_mistake_in_the_options_names_table_and_key() -> None:
    catalogue = Catalogue((Component("policy", "words", lambda options, hub: options, Words),))
    assert refusal(catalogue, part("words", {"wort": "x"})).startswith("m.toml: [policy.x] wort: unknown key; did you")
    assert refusal(catalogue, part("words")) == "m.toml: [policy.x] word: is missing"


def test_an_unknown_key_of_a_policy_is_told_with_those_that_all_policies_have() -> None:
    catalogue = Catalogue((Component("policy", "words", lambda options, hub: options, Words),))
    said = refusal(catalogue, part("words", {"timeout": 5}))
    assert said.startswith("m.toml: [policy.x] timeout: unknown key; ")
    assert said.endswith("known: failure, timeout_seconds, type, word")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigurationError("no such server"), "m.toml: [policy.x]: no such server"),
        (SystemExit(0), f"m.toml: [policy.x]: words cannot be built: SystemExit: 0 ({__file__} line LINE)"),
        (OSError("no"), f"m.toml: [policy.x]: words cannot be built: OSError: no ({__file__} line LINE)"),
    ],
)
def test_a_plugin_that_cannot_be_built_is_one_line(error: BaseException, line: str) -> None:
    def make(options: object, hub: object) -> None:
        raise error

    number = make.__code__.co_firstlineno + 1
    assert refusal(Catalogue((Component("policy", "words", make),)), part("words")) == line.replace("LINE", str(number))


@pytest.mark.parametrize("error", [OSError("no\nroom"), SystemExit("no room")])
def test_a_store_that_cannot_start_is_one_line(tmp_path: Path, error: BaseException) -> None:
    class Store:
        def __init__(self, options: object, hub: object) -> None: ...
        async def start(self) -> None:
            raise error

        async def stop(self) -> None: ...
        async def exists(self, user: str) -> bool: ...  # type: ignore[empty-body]
        async def account(self, user: str, create: bool = False) -> None: ...
        async def check_quota(self, user: str, size: int) -> None: ...

    number = Store.start.__code__.co_firstlineno + 1
    file = tmp_path / "m.toml"
    file.write_text('hostname = "mx.xx.example"\ndata = "data"\n[store]\ntype = "words"\n')
    config = load(file)
    with opened(config, "create"):
        pass
    known = load_catalogue()
    hub = build_hub(config, environment(config), Catalogue((*known.factories, Component("store", "words", Store))))
    with pytest.raises(ConfigurationError) as told:
        wait(hub.start())
    wait(hub.stop())
    assert (
        str(told.value)
        == f"{file}: [store]: words cannot start: {type(error).__name__}: no room ({__file__} line {number})"
    )


POLICY = """\
import attrs
from twisted.internet.defer import succeed
from twisted.plugin import IPlugin
from zope.interface import implementer
from mailhub.interfaces import IComponentFactory
from mailhub.plugins import Component, NoOptions
class Policy:
    def __init__(self, options, hub): ...
    def begin(self, *origin): ...
class Without:
    begin = 3
class Other:
    async def begin(self, origin, more): ...
async def later(options, hub): ...
class Odd:
    kind, name, options = "policy", "words", NoOptions
    def build(self, options, hub): return Policy(options, hub)
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "x = Component('policy', 'words', lambda options, hub: Without())",
            "Without is no policy: begin is not a method",
        ),
        (
            "x = Component('policy', 'words', lambda options, hub: Other())",
            "Other is no policy: begin() must take (origin)",
        ),
        ("x = Component('policy', 'words', lambda options, hub: None)", "building gave None, no policy"),
        ("x = Component('policy', 'words', lambda options, hub: Policy)", "building gave the class Policy, no policy"),
        ("x = Component('policy', 'words', later)", "building must not wait: it gave a coroutine or a Deferred"),
        (
            "x = Component('policy', 'words', lambda options, hub: succeed(Policy(1, 2)))",
            "building must not wait: it gave a coroutine or a Deferred",
        ),
        (
            "@attrs.frozen\nclass Options:\n    word: Nowhere\nx = Component('policy', 'words', Policy, Options)",
            "cannot be built: NameError: name 'Nowhere' is not defined",
        ),
    ],
)
def test_a_component_that_is_not_what_it_should_be_is_named_with_its_file(plugin: Put, text: str, line: str) -> None:
    file = plugin("words_plugin.py", f"from __future__ import annotations\n{POLICY}{text}\n")
    catalogue = load_catalogue()
    options = {"word": "x"} if "word:" in text else {}
    said = refusal(catalogue, part("words", options))
    assert said.startswith("m.toml: [policy.x]: words ")
    assert line in said
    assert str(file) in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = Component('polciy', 'words', Policy)", "words: kind must not be 'polciy'; did you mean policy? known: "),
        ("x = Component('policy', '', Policy)", "name must be a string, not ''"),
        ("x = Component('policy', 'words', Policy, dict)", "words: options must be an attrs class, not the class dict"),
        ("x = Component('policy', 'words', Policy, {})", "words: options must be an attrs class, not {}"),
        ("x = Component('policy', 'words', Policy, None)", "words: options must be an attrs class, not None"),
        ("x = Component('policy', 'words', 'Policy')", "words: make must be a function or a class, not 'Policy'"),
        ("x = Component('policy', 'words', lambda options: 1)", "words: <lambda> must take (options, hub)"),
        (
            "from mailhub.interfaces import Service\n"
            "x = Component('service', 'words', Policy, service=Service(refusal='no'))",
            "TypeError: Service: refusal must be bytes, not 'no'",
        ),
        (
            "@implementer(IPlugin, IComponentFactory)\nclass F:\n    kind, name = 'policy', 'words'\nx = F()",
            "words: options is missing, build() is missing",
        ),
        (
            "@implementer(IPlugin, IComponentFactory)\nclass F(Odd):\n    def build(self, options): ...\nx = F()",
            "words: build() must take (options, hub)",
        ),
        (
            "factories = [Component('policy', 'words', Policy), Component('policy', 'more', Policy)]",
            "the factories in factories are not found there: give each a name of its own in the file",
        ),
        ("x = {'words': Component('policy', 'words', Policy)}", "the factories in x are not found there: give each"),
        (
            "@implementer(IComponentFactory)\nclass F(Odd): ...\nx = F()",
            "x must provide twisted.plugin.IPlugin as well, or it is not found",
        ),
        (
            "@implementer(IPlugin, IComponentFactory)\nclass F(Odd): ...",
            "F is a class of factories: make one and give it a name in the file",
        ),
    ],
)
def test_a_factory_that_cannot_be_used_is_named_with_its_file(plugin: Put, text: str, line: str) -> None:
    file = plugin("words_plugin.py", POLICY + text + "\n")
    with capturedLogs() as events:
        catalogue = load_catalogue()
    (broken,) = catalogue.broken
    assert broken.startswith(f"{file}: {line}")
    assert "plugin not loaded" in formatEvent(events[-1])
    # It is said where the plugin is missed.
    said = refusal(catalogue, part("words"))
    assert said.startswith("m.toml: [policy.x]: there is no policy plugin called 'words'")
    assert said.endswith(f"; not loaded: {broken}")


def test_lists_of_factories_that_are_found_by_their_names_are_nobodys_mistake(plugin: Put) -> None:
    plugin("words_plugin.py", POLICY + "x = Component('policy', 'words', Policy)\nALL = [x]\n__all__ = ['x']\n")
    catalogue = load_catalogue()
    assert catalogue.broken == ()
    assert policies(catalogue) == ["words"]


def test_the_documented_policy_says_no_by_configuration_alone(plugin: Put, tmp_path: Path) -> None:
    plugin("quiet_plugin.py", code_block("quiet_plugin.py"))
    file = tmp_path / "m.toml"
    file.write_text('hostname = "mx.xx.example"\ndata = "data"\n' + code_block("quiet_plugin.toml"))
    config = load(file)
    catalogue = load_catalogue()
    assert catalogue.broken == ()
    policy = catalogue.build(
        config.part("policy", "neighbours", PLACE), build_hub(config, environment(config), catalogue)
    )
    verifyObject(IPolicy, policy)
    said = {}
    for domain in ("spam.example", "noisy.example", "yy.example"):
        transaction = OwnTransaction(mail=Mail(Address("x", domain)))
        said[domain] = policy.begin(Origin("smtp")).mail(transaction).action
    assert said == {"spam.example": "reject", "noisy.example": "defer", "yy.example": "accept"}
    assert policy.begin(Origin("smtp")).mail(OwnTransaction()) is ACCEPT


def finger(endpoint: str, user: str) -> bytes:
    """Ask a finger service over TCP."""
    with socket.create_connection(("127.0.0.1", int(endpoint)), timeout=30) as client:
        client.sendall(user.encode() + b"\r\n")
        return client.makefile("rb").read()


@pytest.mark.system
def test_the_documented_service_is_served_on_a_port_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    (folder / "finger_plugin.py").write_text(code_block("finger_plugin.py"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    extra = code_block("finger_plugin.toml")
    server = ServerProcess(tmp_path / "xx", "xx.example", {"ann@xx.example": "secret"}, extra)
    server.ports["finger"] = port = free_ports(1)[0]
    with server:
        assert finger(str(port), "ann@xx.example") == b"ann@xx.example reads mail here\r\n"
        assert finger(str(port), "ben@xx.example") == b"Nobody of that name\r\n"
        server.config.write_text(server.config.read_text().replace("reads mail", "was seen"))
        run(BIN / "mailhub", "--config", server.config, "reload")
        assert finger(str(port), "ann@xx.example") == b"ann@xx.example was seen here\r\n"


def test_the_documented_service_is_tried_in_a_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("finger_plugin")
    exec(compile(code_block("finger_plugin.py"), "finger_plugin.py", "exec", dont_inherit=True), module.__dict__)
    monkeypatch.setitem(sys.modules, "finger_plugin", module)
    names: dict[str, Any] = {}
    exec(compile(code_block("try_finger.py"), "docs/plugins.rst", "exec", dont_inherit=True), names)
    assert names["caller"].lost


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("made = 3", "[listen] echo: echo (FILE): int is no service: session() is missing"),
        (
            "class made:\n    def session(self): ...\nmade = made()",
            "[listen] echo: echo (FILE): made is no service: session() must take (link)",
        ),
    ],
)
def test_a_service_that_serves_nobody_is_named(plugin: Put, tmp_path: Path, text: str, line: str) -> None:
    named = plugin(
        "echo_plugin.py",
        f"from mailhub.plugins import Component\n{text}\n"
        "def make(options, hub):\n    return made\necho = Component('service', 'echo', make)\n",
    )
    file = tmp_path / "m.toml"
    file.write_text('hostname = "mx.xx.example"\ndata = "data"\n[listen]\necho = ["tcp:0"]\n')
    config = load(file)
    with pytest.raises(ConfigurationError) as told:
        build_hub(config, environment(config), load_catalogue())
    assert str(told.value) == f"{file}: {line.replace('FILE', str(named))}"


class HalfAFactory:
    """Was meant as a Twisted factory."""

    def buildProtocol(self, addr: object) -> None: ...

    def doStart(self) -> None: ...


class NoInterfaces:
    credentialInterfaces = None

    def requestAvatarId(self, credentials: object) -> None: ...


def _with_a_queue(options: object, hub: IHub) -> MemoryDatabase:
    database = MemoryDatabase(hub.environment)
    database.queue = cast(Any, HalfAFactory())
    return database


@pytest.mark.parametrize(
    ("factory", "text", "line"),
    [
        (
            Component("service", "half", lambda options, hub: HalfAFactory()),
            '[listen]\nhalf = ["tcp:0"]\n',
            f"[listen] half: half ({__file__}): HalfAFactory is no service: doStop() is missing",
        ),
        (
            Component("checker", "half", lambda options, hub: NoInterfaces()),
            '[auth]\ncheckers = ["half"]\n',
            f"[auth] checkers: half ({__file__}): NoInterfaces is no checker: credentialInterfaces must not be None",
        ),
        (
            Component("database", "half", _with_a_queue),
            '[database]\ntype = "half"\n',
            f"[database]: half ({__file__}): its queue (HalfAFactory) is none: deposits_into() is missing, ",
        ),
    ],
)
def test_what_a_component_lacks_of_what_was_meant(tmp_path: Path, factory: Component, text: str, line: str) -> None:
    file = tmp_path / "m.toml"
    file.write_text(f'hostname = "mx.xx.example"\ndata = "data"\n{text}')
    config = load(file)
    with pytest.raises(ConfigurationError) as told:
        build_hub(config, environment(config), Catalogue((*load_catalogue().factories, factory)))
    assert str(told.value).startswith(f"{file}: {line}")


@pytest.mark.parametrize(
    ("service", "line"),
    [
        (Service(login=True), "nobody could log in without TLS: add"),
        (Service(implicit_tls=True), "speaks TLS from the first octet: add"),
    ],
)
def test_a_plugins_service_that_needs_tls_is_not_offered_without(tmp_path: Path, service: Service, line: str) -> None:
    file = tmp_path / "m.toml"
    file.write_text('hostname = "mx.xx.example"\ndata = "data"\n[listen]\nsieve = ["tcp:0"]\n')
    config = load(file)
    factory = Component("service", "sieve", lambda options, hub: None, service=service)
    with pytest.raises(ConfigurationError, match=rf"\[listen\] sieve: {line} a \[tls\] table"):
        build_hub(config, environment(config), Catalogue((*load_catalogue().factories, factory)))


@pytest.mark.system
def test_the_documented_store_and_checker_serve_mail_by_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    (folder / "guest_plugin.py").write_text(code_block("guest_plugin.py"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    user = "ann@xx.example"
    password = hmac.new(b"correct horse battery staple", user.encode(), hashlib.sha256).hexdigest()[:16]
    server = ServerProcess(tmp_path / "xx", "xx.example", {}, code_block("guest_plugin.toml"))
    with server:
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=30) as client:
            refused = client.sendmail(
                "x@yy.example", [user, "cid@xx.example"], b"Subject: hello\r\n\r\nfor a guest\r\n"
            )
        assert refused["cid@xx.example"][0] == 550
        server.accounts = {user: password}
        (message,) = server.wait_for_messages(user, 1)
        assert message.endswith(b"Subject: hello\r\n\r\nfor a guest\r\n")
        pop = poplib.POP3_SSL("127.0.0.1", server.ports["pop3s"], timeout=30, context=insecure_tls())
        pop.user(user)
        with pytest.raises(poplib.error_proto, match="AUTH"):
            pop.pass_("wrong")
        pop.user(user)
        pop.pass_(password)
        assert pop.stat()[0] == 1
        pop.quit()


def test_built_in_components_use_nothing_of_a_hub_that_a_plugin_has_not() -> None:
    tree = ast.parse(Path(builtin.__file__).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hub"
    }
    services = {name for name in vars(House) if not name.startswith("_")}  # all that our services are given
    assert {"environment", "settings"} <= used
    assert {"environment", "settings", "pipeline", "shared"} <= services
    declared: Any = IHub
    assert used | services <= set(declared.names())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "mailhub.components" not in imported
