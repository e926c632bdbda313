"""Checkers of third parties by their `twisted.cred.strcred` strings, which know nothing of mailhub."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import twisted.plugins
from mailhub.cli.offline import wait
from mailhub.components import Hub
from mailhub.credentials import PlainCredentials
from mailhub.errors import AuthenticationFailed, TemporaryError
from mailhub.interfaces import ISubmitter, Origin
from mailhub.plugins import load_catalogue
from tests.roof.test_components import TOP, build, logs_in, mistake

Put = Callable[[str, str], Path]
PLUGIN = '''\
from twisted.cred import credentials, error
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.defer import fail, succeed
from twisted.plugin import IPlugin
from zope.interface import implementer

@implementer(ICredentialsChecker)
class Reversed:
    """The password is the name, read backwards."""
    credentialInterfaces = (credentials.{interface},)

    def __init__(self, domain):
        self.domain = domain.encode()

    def requestAvatarId(self, asked):
        {body}

@implementer(ICheckerFactory, IPlugin)
class Factory:
    authType = "reversed"
    authHelp = "The password is the name, read backwards."
    argStringFormat = "domain"
    credentialInterfaces = (credentials.IUsernamePassword,)

    def generateChecker(self, argument):
        if argument == "nothing":
            return None
        if argument == "broken":
            raise ValueError("no domain")
        return Reversed(argument)

factory = Factory()
'''
BODY = """name, _, domain = asked.username.partition(b"@")
        if domain == self.domain and asked.checkPassword(name[::-1]):
            return succeed(asked.username)
        return fail(error.UnauthorizedLogin("no"))"""
AUTH = TOP + '[auth]\ncheckers = ["reversed:{}"]\n'


def text(interface: str = "IUsernamePassword", body: str = BODY) -> str:
    return PLUGIN.format(interface=interface, body=body)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Puts a file where pip puts those of other programs."""
    folder = tmp_path / "site-packages" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    monkeypatch.setattr(twisted.plugins, "__path__", [*twisted.plugins.__path__, str(folder)])

    def put(name: str, source: str) -> Path:
        (folder / name).write_text(source)
        return folder / name

    yield put
    for file in folder.glob("*.py"):
        sys.modules.pop(f"twisted.plugins.{file.stem}", None)
        vars(twisted.plugins).pop(file.stem, None)


def login(hub: Hub, password: str) -> object:
    """By the gate, guarded."""
    asked = PlainCredentials("", "ann@xx.example", password)
    return wait(hub.authenticator.login(asked, ISubmitter, Origin("submission")))


def test_a_third_partys_checker_is_named_by_its_string(tmp_path: Path, installed: Put) -> None:
    file = installed("reversed_plugin.py", text())
    hub = build(tmp_path, AUTH.format("xx.example"), load_catalogue())
    assert logs_in(hub, "ann@xx.example", "nna")
    assert not logs_in(hub, "ann@xx.example", "ann")
    assert not logs_in(hub, "ann@yy.example", "nna")
    assert [(each.kind, each.name, each.file) for each in hub.guards.all() if each.kind == "checker"] == [
        ("checker", "reversed", str(file))
    ]


def test_dropin_cache_is_neither_read_nor_written(tmp_path: Path, installed: Put) -> None:
    file = installed("reversed_plugin.py", text())
    cache = file.parent / "dropin.cache"
    cache.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    before = cache.stat().st_mtime_ns
    assert logs_in(build(tmp_path, AUTH.format("xx.example"), load_catalogue()), "ann@xx.example", "nna")
    assert cache.stat().st_mtime_ns == before


@pytest.mark.parametrize("interface", ["IUsernameHashedPassword", "IAnonymous", "ISSHPrivateKey"])
def test_one_that_checks_no_passwords_is_named(tmp_path: Path, installed: Put, interface: str) -> None:
    file = installed("reversed_plugin.py", text(interface))
    assert mistake(tmp_path, AUTH.format("secret.example")) == (
        f"[auth] checkers: Reversed cannot check passwords: it takes {interface} ('reversed', {file})"
    )


def test_one_that_takes_any_credentials_may_be_asked(tmp_path: Path, installed: Put) -> None:
    installed("reversed_plugin.py", text("ICredentials"))
    assert logs_in(build(tmp_path, AUTH.format("xx.example"), load_catalogue()), "ann@xx.example", "nna")


def test_interfaces_that_are_none_are_named(tmp_path: Path, installed: Put) -> None:
    installed("reversed_plugin.py", text("__name__"))
    assert "Reversed cannot check passwords: its credentialInterfaces are no list of interfaces" in mistake(
        tmp_path, AUTH.format("xx.example")
    )


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("nothing", "building gave None, no checker"),
        ("broken", "[auth] checkers: 'reversed': no domain"),
    ],
)
def test_a_string_that_makes_no_checker_is_named(tmp_path: Path, installed: Put, argument: str, told: str) -> None:
    installed("reversed_plugin.py", text())
    assert told in mistake(tmp_path, AUTH.format(argument))


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path, installed: Put) -> None:
    file = installed("reversed_plugin.py", text() + "raise SystemExit\n")
    told = mistake(tmp_path, AUTH.format("xx.example"))
    assert told.startswith("[auth] checkers: no plugin makes checkers of 'reversed' strings; known: ")
    assert told.endswith(f"; not loaded: {file}: SystemExit: ")


def test_a_factory_that_says_nonsense_of_itself_hides_no_other(tmp_path: Path, installed: Put) -> None:
    odd = "class Odd(Factory):\n    authType = None\nodd = Odd()\n"
    odder = "class Odder(Factory):\n    authType = property(lambda self: 1 / 0)\nodder = Odder()\n"
    installed("reversed_plugin.py", text() + odd + odder)
    assert logs_in(build(tmp_path, AUTH.format("xx.example"), load_catalogue()), "ann@xx.example", "nna")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise KeyError(asked.username)", TemporaryError),
        ("return 17", TemporaryError),
        ("return asked.username.upper() and ()", AuthenticationFailed),
        ("return None", TemporaryError),
    ],
)
def test_one_that_raises_or_gives_nonsense_opens_no_door(
    tmp_path: Path, installed: Put, body: str, error: type[Exception]
) -> None:
    installed("reversed_plugin.py", text(body=body))
    hub = build(tmp_path, AUTH.format("xx.example"), load_catalogue())
    with pytest.raises(error):
        login(hub, "nna")
