"""What commands ask the running server: a local socket in the data folder, a question and an answer on each connection,
each one line of JSON. For root and the server's user."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from mailhub.answers import answer
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError
from mailhub.log import Logger

_log = Logger(namespace="mailhub")

NAME = "mailhub.control"
QUESTION_LIMIT = 1 << 24  # octets
ANSWER_LIMIT = 1 << 24  # octets
PATIENCE = 60.0  # seconds
STARTING_SECONDS = 10.0  # for which a server that is starting is waited for
_PAUSE = 0.1  # seconds between two looks at it
_QUESTION_SECONDS = 2.0  # commands ask at once, and whoever says nothing keeps others out
_CONNECTIONS = 16
_PATH_LIMIT = 100  # octets; sun_path has room for 107

# Gives the answer to a question. What it raises is told as an answer whose key is "fault".
Answer = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]] | Mapping[str, Any]]


class ControlSocket:
    """The server's end. `reactor` is IReactorUNIX and IReactorTime."""

    def __init__(self, folder: Path, reactor: Any, answer: Answer) -> None:
        self._folder = folder
        self._reactor = reactor
        self._factory = _Factory(reactor, answer)
        self._port: Any = None
        self._descriptor = -1

    def open(self) -> None:
        """Listen. The folder is locked by this process, so a socket that is there is nobody's. Where that is impossible
        the log says so, and mail is served all the same."""
        try:
            (self._folder / NAME).unlink(missing_ok=True)
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            self._port = self._reactor.listenUNIX(_path(self._folder, self._descriptor), self._factory, mode=0o600)
        except (OSError, CannotListenError) as error:
            self._close()
            reason = error.socketError if isinstance(error, CannotListenError) else error
            _log.warn("commands cannot ask this server: {file:text}: {error:text}", file=str(NAME), error=str(reason))

    async def close(self) -> None:
        """Answer no more."""
        port, self._port = self._port, None
        if port is not None:
            self._factory.close()
            await answer(port.stopListening())
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _path(folder: Path, descriptor: int) -> str:
    """The socket's, if need be by the open folder, for its own may be longer than a socket's can be."""
    path = folder / NAME
    return str(path) if len(os.fsencode(path)) <= _PATH_LIMIT else f"/proc/self/fd/{descriptor}/{NAME}"


class _Factory(Factory):
    noisy = False

    def __init__(self, reactor: Any, answer: Answer) -> None:
        self.reactor = reactor
        self.answer = answer
        self.open: set[_Conversation] = set()

    def logPrefix(self) -> str:
        """What Twisted says of the socket begins with it."""
        return "commands"

    def buildProtocol(self, addr: object) -> Protocol | None:
        """See `IProtocolFactory`."""
        return _Conversation(self) if len(self.open) < _CONNECTIONS else None

    def close(self) -> None:
        """Whoever waits for an answer gets none."""
        for conversation in list(self.open):
            conversation.end()


class _Conversation(Protocol):
    """One question, one answer."""

    transport: Any

    def __init__(self, factory: _Factory) -> None:
        self._factory = factory
        self._read = bytearray()
        self._asked = False
        self._timer: Any = None

    def connectionMade(self) -> None:
        self._factory.open.add(self)
        if not is_ours(self.transport.getHandle()):
            self.end()
            return
        self._timer = self._factory.reactor.callLater(_QUESTION_SECONDS, self.end)

    def connectionLost(self, reason: object = None) -> None:
        self._factory.open.discard(self)
        self._stop_waiting()

    def end(self) -> None:
        """Close, whatever is under way."""
        self.transport.abortConnection()

    def _stop_waiting(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def dataReceived(self, data: bytes) -> None:
        if self._asked:
            return
        end = data.find(b"\n")
        self._read += data if end < 0 else data[:end]
        if end >= 0:
            self._asked = True
            self._stop_waiting()
            line, self._read = bytes(self._read), bytearray()
            Deferred.fromCoroutine(self._answer(line)).addErrback(lambda _: self.end())
        elif len(self._read) > QUESTION_LIMIT:
            self.end()

    async def _answer(self, line: bytes) -> None:
        try:
            question = json.loads(line)
            if not isinstance(question, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError):
            self._tell({"fault": "the question is no JSON object"})
            return
        try:
            self._tell(await answer(self._factory.answer(question)))
        except ConfigurationError as error:
            self._tell({"fault": " ".join(str(error).split())})
        except Exception as error:
            _log.failure("a command's question cannot be answered")
            self._tell({"fault": f"{type(error).__name__}: {error}; see the server's log"})

    def _tell(self, given: Mapping[str, Any]) -> None:
        self.transport.write(json.dumps(given).encode() + b"\n")
        self.transport.loseConnection()


def is_ours(connection: socket.socket) -> bool:
    """Whether root or our own user is at the other end. Where the kernel cannot tell, the rights of the file do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user in (0, os.geteuid())


# --- The command's end --------------------------------------------------------------------------------------------


def ask(folder: Path, question: Mapping[str, Any], patience: float = PATIENCE) -> Mapping[str, Any]:
    """The answer of the server that serves this data folder. Raises ConfigurationError, also for one that has a
    "fault". Blocks, for `patience` seconds at most between octets."""
    path = folder / NAME
    try:
        with _connected(folder, patience) as connection:
            connection.sendall(json.dumps(question).encode() + b"\n")
            line = bytearray()
            while chunk := connection.recv(1 << 16):
                line += chunk
                if len(line) > ANSWER_LIMIT:
                    raise ConfigurationError(f"{path}: the server's answer is too long")
    except TimeoutError:
        raise ConfigurationError(f"the server did not answer within {patience:.0f} seconds; see its log") from None
    except PermissionError:
        raise ConfigurationError(f"{path}: the server answers its own user and root") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: the server cannot be asked: {error.strerror or error}") from None
    given: Any = None
    with suppress(ValueError, RecursionError):
        given = json.loads(line)
    if not isinstance(given, dict):
        raise ConfigurationError(f"{path}: the server gave no answer; see its log")
    if given.get("fault"):
        raise ConfigurationError(str(given["fault"]))
    return given


def listens(folder: Path) -> bool:
    """Whether a server can be asked by the socket of this data folder: not where none is there, and not where it is a
    dead server's."""
    try:
        with _connected(folder, 1.0):
            return True
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True  # `ask` says what is wrong


def wait_for_server(data: DataFolder) -> int | None:
    """The process that serves the data folder, after some seconds for it to listen where it is starting; see
    `DataFolder.server`."""
    for _ in range(int(STARTING_SECONDS / _PAUSE)):
        if data.server() is None or listens(data.path):
            break
        time.sleep(_PAUSE)
    return data.server()


@contextmanager
def _connected(folder: Path, patience: float) -> Iterator[socket.socket]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(patience)
            connection.connect(_path(folder, descriptor))
            yield connection
    finally:
        os.close(descriptor)
