from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from mailhub.errors import ConfigurationError
from mailhub.net.certificates import write_self_signed
from mailhub.net.listen import ImplicitTls, both_families, has_ipv6, listen, obstacle
from mailhub.net.tls import ServerTls


class Reactor(MemoryReactorClock):
    """Refuses to listen with the error it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.error = error

    def listenTCP(self, port: int, *args: Any, **options: Any) -> Any:
        if self.error is not None:
            raise self.error
        return super().listenTCP(port, *args, **options)  # type: ignore[no-untyped-call]


class Adopting:
    """Takes over sockets that are listening already."""

    def __init__(self) -> None:
        self.adopted: list[socket.socket] = []

    def adoptStreamPort(self, descriptor: int, family: int, factory: Factory) -> None:
        self.adopted.append(socket.socket(family, socket.SOCK_STREAM, fileno=os.dup(descriptor)))


def outcome(description: str, reactor: Any = None, tls: ServerTls | None = None) -> object:
    """The port, or the text of the ConfigurationError."""
    results: list[Any] = []
    reactor = reactor or Reactor()
    Deferred.fromCoroutine(listen("imap", description, Factory(), reactor, tls)).addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        assert result.type is ConfigurationError, result
        text = str(result.value)
        assert "\n" not in text
        return text
    return result


def test_listens_with_room_for_a_crowd() -> None:
    reactor = Reactor()
    outcome("tcp:1143:interface=127.0.0.1", reactor)
    outcome("tcp:1144:backlog=7", reactor)
    assert [(port, backlog, interface) for port, _, backlog, interface in reactor.tcpServers] == [
        (1143, 511, "127.0.0.1"),
        (1144, 7, ""),
    ]


def test_a_unix_socket(tmp_path: Path) -> None:
    reactor = Reactor()
    outcome(f"unix:{tmp_path}/lmtp", reactor)
    assert [path for path, *_ in reactor.unixServers] == [f"{tmp_path}/lmtp"]


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv4_and_ipv6_stand_side_by_side_on_one_port() -> None:
    with socket.create_server(("0.0.0.0", 0)) as first:
        number = first.getsockname()[1]
        reactor = Adopting()
        outcome(f"tcp6:{number}", reactor)
        with reactor.adopted[0] as second:
            assert second.getsockname()[:2] == ("::", number)
            assert second.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            assert obstacle(f"tcp6:{number}") == "Address already in use"
            assert str(outcome(f"tcp6:{number}", reactor)).endswith(": Address already in use")
            with socket.create_connection(("::1", number)), socket.create_connection(("127.0.0.1", number)):
                assert second.accept()[1][0] == "::1"
                assert first.accept()[1][0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("endpoint", "with_ipv6"),
    [
        ("tcp:25", ["tcp:25", "tcp6:25"]),
        ("tcp:25:backlog=7", ["tcp:25:backlog=7", "tcp6:25:backlog=7"]),
        ("tcp:25:interface=0.0.0.0", ["tcp:25:interface=0.0.0.0"]),
        ("tcp6:25", ["tcp6:25"]),
        ("unix:/run/lmtp", ["unix:/run/lmtp"]),
    ],
)
def test_all_addresses_of_a_machine_are_those_of_ipv6_too(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, with_ipv6: list[str]
) -> None:
    monkeypatch.setattr("mailhub.net.listen.has_ipv6", lambda: True)
    assert both_families([endpoint]) == with_ipv6
    assert both_families([*with_ipv6, endpoint]) == with_ipv6
    monkeypatch.setattr("mailhub.net.listen.has_ipv6", lambda: False)
    assert both_families([endpoint]) == [endpoint]


def test_whether_a_port_could_be_opened_is_found_without_listening(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert obstacle(f"tcp:{number}:interface=127.0.0.1") == "Address already in use"
        assert obstacle(f"tcp:port={number}:interface=127.0.0.1") == "Address already in use"
    assert obstacle(f"tcp:{number}:interface=127.0.0.1") == ""
    assert obstacle(f"unix:{tmp_path}/lmtp") is None


def test_implicit_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    write_self_signed(certificate, key, ["mx.example"], 1, 1_800_000_000)
    reactor = Reactor()
    outcome("tcp:993", reactor, ServerTls(certificate, key, Clock()))
    assert isinstance(reactor.tcpServers[0][1], ImplicitTls)


def test_mistakes_name_service_and_endpoint() -> None:
    in_use = CannotListenError("", 143, OSError(98, "Address already in use"))  # type: ignore[no-untyped-call]
    refused = CannotListenError("", 143, OSError(13, "Permission denied"))  # type: ignore[no-untyped-call]
    assert outcome("tcp:143", Reactor(in_use)) == '[listen] imap = "tcp:143": Address already in use'
    assert outcome("tcp:143", Reactor(refused)) == '[listen] imap = "tcp:143": Permission denied'


@pytest.mark.parametrize("description", ["", "tcp", "tcp:", "tcp:x", "carrier-pigeon:1", "tcp:1:colour=red", "143"])
def test_no_endpoint_at_all(description: str) -> None:
    assert str(outcome(description)).startswith(f'[listen] imap = "{description}" is not an endpoint: ')


def test_tls_is_not_the_endpoints_business() -> None:
    assert outcome("ssl:993:privateKey=k.pem") == (
        '[listen] imap = "ssl:993:privateKey=k.pem": say tcp; whether TLS is spoken follows from the service'
    )
