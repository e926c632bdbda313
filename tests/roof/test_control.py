"""What commands ask the running server: one line of JSON each way, bounded, for root and the server's user."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent

from mailhub.cli.offline import wait
from mailhub.control import NAME, QUESTION_LIMIT, ControlSocket, ask, is_ours
from mailhub.errors import ConfigurationError


class Peer:
    """A socket whose other end belongs to a user."""

    def __init__(self, user: int) -> None:
        self.user = user

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        assert (level, name) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return struct.pack("3i", 4711, self.user, 100)


class Transport(StringTransport):
    protocol: Any

    def __init__(self, user: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.user = user

    def getHandle(self) -> Any:
        return Peer(self.user)

    @property
    def written(self) -> bytes:
        octets: bytes = self.value()  # type: ignore[no-untyped-call]
        return octets


class Reactor(Clock):
    """Listens nowhere, and has the factory for callers."""

    factory: Any = None
    path = ""
    fault: Exception | None = None

    def listenUNIX(self, path: str, factory: Any, mode: int) -> Reactor:
        if self.fault is not None:
            raise self.fault
        assert mode == 0o600
        self.path, self.factory = path, factory
        return self

    def stopListening(self) -> None:
        self.path = ""


def echo(question: Mapping[str, Any]) -> Mapping[str, Any]:
    if question.get("raise") == "mistake":
        raise ConfigurationError("a\nmistake")
    if question.get("raise"):
        raise KeyError("oops")
    return {"asked": question}


@pytest.fixture
def reactor(tmp_path: Path) -> Iterator[Reactor]:
    reactor = Reactor()
    control = ControlSocket(tmp_path, reactor, echo)
    control.open()
    yield reactor
    wait(control.close())
    assert (reactor.path, reactor.getDelayedCalls()) == ("", [])


def call(reactor: Reactor, user: int = 0) -> Transport | None:
    protocol = reactor.factory.buildProtocol(None)
    if protocol is None:
        return None
    transport = Transport(user)
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return transport


def said(reactor: Reactor, *octets: bytes) -> Any:
    transport = call(reactor)
    assert transport is not None
    for part in octets:
        transport.protocol.dataReceived(part)
    assert transport.disconnecting
    transport.protocol.connectionLost()
    line = transport.written
    assert line.endswith(b"\n")
    return json.loads(line)


def test_a_question_has_an_answer_however_it_comes(reactor: Reactor) -> None:
    assert said(reactor, b'{"a": 1}\n') == {"asked": {"a": 1}}
    assert said(reactor, b'{"a"', b": 1}", b'\n{"b": 2}\n', b"more") == {"asked": {"a": 1}}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"\n", "the question is no JSON object"),
        (b"[1]\n", "the question is no JSON object"),
        (b"\xff{}\n", "the question is no JSON object"),
        (b"[" * 60_000 + b"\n", "the question is no JSON object"),
        (b'{"raise": "mistake"}\n', "a mistake"),
        (b'{"raise": "all"}\n', "KeyError: 'oops'; see the server's log"),
    ],
)
def test_what_cannot_be_answered_is_told(reactor: Reactor, line: bytes, fault: str) -> None:
    assert said(reactor, line) == {"fault": fault}


def test_who_says_too_much_or_nothing_is_left_alone(reactor: Reactor) -> None:
    loud, silent = call(reactor), call(reactor)
    assert loud is not None
    assert silent is not None
    loud.protocol.dataReceived(b"x" * (QUESTION_LIMIT + 1))
    reactor.advance(2)
    for transport in (loud, silent):
        assert (transport.disconnected or transport.disconnecting, transport.written) == (True, b"")
        transport.protocol.connectionLost()


def test_so_many_at_a_time(reactor: Reactor) -> None:
    callers = [call(reactor) for _ in range(17)]
    assert [caller is None for caller in callers] == [False] * 16 + [True]
    for caller in callers[:16]:
        assert caller is not None
        caller.protocol.connectionLost()
    assert said(reactor, b"{}\n") == {"asked": {}}


def test_other_users_are_not_answered(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    allowed = {}
    for user in (0, 1000, 1001):
        transport = call(reactor, user)
        assert transport is not None
        allowed[user] = not (transport.disconnected or transport.disconnecting)
        transport.protocol.connectionLost()
    assert allowed == {0: True, 1000: True, 1001: False}


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert is_ours(one)


@pytest.mark.parametrize("fault", [OSError(13, "Permission denied"), None])
def test_a_server_that_cannot_be_asked_serves_mail_all_the_same(tmp_path: Path, fault: Exception | None) -> None:
    reactor = Reactor()
    refusal: Any = CannotListenError
    reactor.fault = fault or refusal("", "/x", OSError(13, "Permission denied"))
    control = ControlSocket(tmp_path, reactor, echo)
    with capturedLogs() as events:
        control.open()
    assert formatEvent(events[0]).startswith("commands cannot ask this server: mailhub.control: ")
    wait(control.close())


# --- The command's end ----------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """Answers one question with these octets; gives the folder."""
    folder = tmp_path / ("a long name " * 10)
    folder.mkdir()
    listening = socket.socket(socket.AF_UNIX)
    threads: list[threading.Thread] = []

    def answer(octets: bytes) -> Path:
        descriptor = os.open(folder, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{descriptor}/{NAME}")
        os.close(descriptor)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.makefile("rb").readline()
                connection.sendall(octets)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[0].start()
        return folder

    yield answer
    listening.close()
    for thread in threads:
        thread.join(10)


def test_the_answer_comes_also_where_the_folders_name_is_long(server: Callable[[bytes], Path]) -> None:
    assert ask(server(b'{"a": 1}\n'), {}) == {"a": 1}


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (b"", "the server gave no answer"),
        (b"[1]\n", "the server gave no answer"),
        (b"[" * 100_000, "the server gave no answer"),
        (b'{"fault": "no such file"}\n', "^no such file$"),
    ],
)
def test_no_answer_is_one_line(server: Callable[[bytes], Path], octets: bytes, told: str) -> None:
    folder = server(octets)
    with pytest.raises(ConfigurationError, match=told):
        ask(folder, {})


def test_nobody_who_could_be_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the server cannot be asked: No such file or directory"):
        ask(tmp_path, {})


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / NAME))
        listening.listen()
        with pytest.raises(ConfigurationError, match="did not answer within 0 seconds"):
            ask(tmp_path, {}, patience=0.01)
