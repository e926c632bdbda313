"""A pytest plugin: the fixture `mailhub` is a mail server for tests; see docs/testing.rst.

Nothing of mailhub is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mailhub.testing.serving import TestServer

_MARKER = (
    'mailhub(accept_any=False, accounts={}): how the server of the fixture "mailhub" is for this test: whether it takes'
    " mail for everybody, and which accounts there are beside the first, with their passwords"
)
_KEYS = {"accept_any": bool, "accounts": Mapping}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and keys of the ini file."""
    group = parser.getgroup("mailhub")
    group.addoption("--mailhub-process", action="store_true", help="run the mail server in a process of its own")
    parser.addini("mailhub_process", "run the mail server in a process of its own", type="bool", default=False)
    parser.addini("mailhub_accept_any", "the mail server takes mail for everybody", type="bool", default=False)
    parser.addini("mailhub_domains", "domains of the mail server (example.test)", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", _MARKER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a marker says and nobody would hear is a mistake in its use."""
    for item in items:
        for marker in item.iter_markers("mailhub"):
            if fault := _fault(marker):
                raise pytest.UsageError(f"{item.nodeid}: pytest.mark.mailhub: {fault}")


def _fault(marker: pytest.Mark) -> str:
    if marker.args:
        return f"write accept_any=... or accounts=..., not {marker.args[0]!r} alone"
    for key, value in marker.kwargs.items():
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            return f"{key}: unknown key; {meant}known: {', '.join(_KEYS)}"
        if not isinstance(value, _KEYS[key]):
            return (
                f"{key}: must be a {'bool' if key == 'accept_any' else 'dict of passwords by address'}, not {value!r}"
            )
    return ""


@pytest.fixture(scope="session")
def mailhub_server(pytestconfig: pytest.Config) -> Iterator[TestServer]:
    """The one server of the session. What tests have done with it stays; `mailhub` is cleared for each test."""
    from mailhub.testing.serving import DOMAINS, check_domains, server

    process = pytestconfig.getoption("--mailhub-process") or pytestconfig.getini("mailhub_process")
    domains = pytestconfig.getini("mailhub_domains") or DOMAINS
    try:
        check_domains(domains)
    except ValueError as error:
        pytest.fail(f"mailhub_domains of the ini file: {error}; write them with spaces between", pytrace=False)
    with server(domains=domains, process=True if process else None) as running:
        yield running


@pytest.fixture
def mailhub(request: pytest.FixtureRequest, mailhub_server: TestServer) -> Iterator[TestServer]:
    """A mail server without mail, on ephemeral ports of 127.0.0.1."""
    mailhub_server.clear()
    mailhub_server.accept_any = request.config.getini("mailhub_accept_any")
    for marker in reversed(list(request.node.iter_markers("mailhub"))):
        if "accept_any" in marker.kwargs:
            mailhub_server.accept_any = marker.kwargs["accept_any"]
        for user, password in dict(marker.kwargs.get("accounts", {})).items():
            try:
                mailhub_server.add_account(user, password)
            except ValueError as error:
                pytest.fail(f"pytest.mark.mailhub: accounts: {error}", pytrace=False)
    yield mailhub_server
    mailhub_server.clear()
