"""A mail server for the tests of applications, pytest or not; see `server`."""

from __future__ import annotations

import atexit
import email
import email.policy
import inspect
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from mailhub.message.address import parse_domain
from mailhub.testing.mailroom import HOST, Letter, Mailroom

DOMAINS = ("example.test",)
USER = "user@example.test"
PASSWORD = "secret"
START_SECONDS = 30.0
_TURN = 1.0  # seconds for which one call may wait

_SCHEMES = {
    "smtp": "smtp",
    "submission": "smtp",
    "submissions": "smtps",
    "lmtp": "lmtp",
    "imap": "imap",
    "imaps": "imaps",
    "pop3": "pop3",
    "pop3s": "pop3s",
}
_WITHOUT_LOGIN = ("smtp", "lmtp")


class ReceivedMail(EmailMessage):
    """A message that has come, parsed, with what it was carried in.

    Parsed, its lines end with "\\n"; `octets` are those that came. `sender` is the reverse-path, "" for the null one;
    `recipients` are the addresses that this copy was for; `mailbox` is where it lies, "" in the outbox.
    """

    octets: bytes = b""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    mailbox: str = ""

    def __repr__(self) -> str:
        return f"<{self['Subject']!s} to {', '.join(self.recipients)}>"


def _received(letter: Letter) -> ReceivedMail:
    octets = b64decode(letter["octets"])
    message: Any = email.message_from_bytes(
        octets.replace(b"\r\n", b"\n"), _class=ReceivedMail, policy=email.policy.default
    )
    message.octets, message.sender = octets, letter["sender"]
    message.recipients, message.mailbox = tuple(letter["recipients"]), letter["mailbox"]
    found: ReceivedMail = message
    return found


Wanted = int | Callable[[ReceivedMail], object] | Callable[[], object]


class TestServer:
    """A running server, as tests see it. Its methods may be called from any thread but the reactor's."""

    __test__ = False  # pytest takes it for none of its own

    def __init__(self, link: Link, folder: Path) -> None:
        self._link = link
        self._defaults: dict[str, str] = {}
        self._passwords: dict[str, str] = {}
        self._accepts_any = False
        self.folder = folder
        self.ports: Mapping[str, int] = link.call("start")

    def begin(self, user: str, password: str, *, accept_any: bool) -> None:
        """How it is at the beginning; `clear` comes back to it. Raises ValueError as `add_account` does."""
        self._defaults = {user: password} if user else {}
        self._passwords = dict(self._defaults)
        self._enter()
        self.accept_any = accept_any

    host = HOST

    @property
    def user(self) -> str:
        """Who can log in."""
        return next(iter(self._passwords), "")

    @property
    def password(self) -> str:
        """The password of `user`."""
        return self._passwords.get(self.user, "")

    @property
    def authority(self) -> Path:
        """The certificate (PEM) of who vouches for the server's: what clients are told to trust."""
        return self.folder / "authority.pem"

    def ssl_context(self) -> ssl.SSLContext:
        """For clients: trusts this server, by the names localhost and 127.0.0.1."""
        return ssl.create_default_context(cafile=str(self.authority))

    def address(self, service: str = "smtp") -> tuple[str, int]:
        """Host and port of smtp, submission, submissions, lmtp, imap, imaps, pop3 or pop3s. Raises ValueError for
        another name."""
        if service not in self.ports:
            raise ValueError(f"there is no service {service!r}; there are {', '.join(self.ports)}")
        return self.host, self.ports[service]

    def url(self, service: str = "smtp", user: str = "") -> str:
        """The same as a URL, with name and password of `user` where the service has a login."""
        host, port = self.address(service)
        user = user or self.user
        login = f"{quote(user, safe='')}:{quote(self._passwords.get(user, ''), safe='')}@" if user else ""
        return f"{_SCHEMES[service]}://{'' if service in _WITHOUT_LOGIN else login}{host}:{port}"

    @property
    def urls(self) -> Mapping[str, str]:
        """All of them, by service."""
        return {service: self.url(service) for service in self.ports}

    # --- Who gets mail -----------------------------------------------------------------------------------------------

    @property
    def accept_any(self) -> bool:
        """Whether mail for every address, in any domain, is taken, from everybody, and put into an inbox."""
        return self._accepts_any

    @accept_any.setter
    def accept_any(self, anybody: bool) -> None:
        self._accepts_any = bool(anybody)
        self._link.call("accept", self._accepts_any)

    def add_account(self, user: str, password: str = PASSWORD) -> None:
        """Somebody who gets mail and can log in, until `clear`. The password of one that is there is changed.

        Raises ValueError for what is no address, and for a domain that is none of the server's: nobody would get mail
        there. With `accept_any` every domain is.
        """
        self._link.call("add_account", user, password)
        self._passwords[user] = password

    # --- What has come -----------------------------------------------------------------------------------------------

    def inbox(self, user: str = "", mailbox: str = "INBOX") -> list[ReceivedMail]:
        """The messages that a user has, in order of arrival; none where there is no such user or mailbox."""
        return [_received(letter) for letter in self._link.call("inbox", user or self.user, mailbox)]

    @property
    def outbox(self) -> list[ReceivedMail]:
        """What would have left for other servers: what those who had logged in sent to other domains."""
        return [_received(letter) for letter in self._link.call("outbox")]

    @property
    def messages(self) -> list[ReceivedMail]:
        """What is in all inboxes and in the outbox."""
        return [_received(letter) for letter in (*self._link.call("inboxes"), *self._link.call("outbox"))]

    def wait_for(self, wanted: Wanted = 1, timeout: float = 10.0, *, inbox: str = "") -> list[ReceivedMail]:
        """Wait until there are so many messages, in all or in the inbox of one user, and return them; or until there
        are some for which a function is true, and return those; or until a function without arguments is true.

        Raises AssertionError after `timeout` seconds, which says what there is.
        """
        if not isinstance(wanted, int) and not callable(wanted):
            raise TypeError(f"wait_for() takes a number of messages or a function, not {wanted!r}")
        end = time.monotonic() + timeout
        version = -1
        while True:
            version = self._link.call("wait", version, 0) if version < 0 else version
            there = self.inbox(inbox) if inbox else self.messages
            found = _those(there, wanted)
            if found is not None:
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(_missing(there, wanted, timeout, inbox))
            version = self._link.call("wait", version, min(left, _TURN))

    def clear(self) -> None:
        """As at the beginning: no mail anywhere, no accounts but the first, and no recipients but those."""
        self._link.call("clear")
        self._passwords = dict(self._defaults)
        self._accepts_any = False
        self._enter()

    def close(self) -> None:
        """Serve no more."""
        try:
            self._link.call("stop")
        finally:
            self._link.close()

    def _enter(self) -> None:
        for user, password in self._defaults.items():
            self._link.call("add_account", user, password)


def _those(there: Sequence[ReceivedMail], wanted: Wanted) -> list[ReceivedMail] | None:
    """What was waited for; None for nothing yet."""
    if isinstance(wanted, int):
        return list(there) if len(there) >= wanted else None
    asked: Any = wanted
    if not inspect.signature(asked).parameters:
        return list(there) if asked() else None
    return [message for message in there if asked(message)] or None


def _missing(there: Sequence[ReceivedMail], wanted: Wanted, timeout: float, inbox: str) -> str:
    where = f" for {inbox}" if inbox else ""
    what = f"{wanted} messages{where}" if isinstance(wanted, int) else f"no message{where} that was wanted"
    verb = "did not come" if isinstance(wanted, int) else "came"
    return f"{what} {verb} within {timeout:g} seconds; there are {len(there)}: {there[:20]}"


# --- Where it runs ---------------------------------------------------------------------------------------------------


class Link(Protocol):
    """The way to a `Mailroom`."""

    def call(self, method: str, *arguments: Any) -> Any:
        """What its method gives; raises what it raises."""

    def close(self) -> None:
        """No more calls."""


class _Here:
    """On a reactor in a thread of this process. Twisted has one reactor, which cannot be started again: it goes on for
    the next server, until the process ends."""

    _reactor: Any = None

    def __init__(self, folder: Path, domains: Sequence[str]) -> None:
        if _Here._reactor is None:
            _Here._reactor = _started()
        self._room = Mailroom(_Here._reactor, str(folder), domains)

    @classmethod
    def is_possible(cls) -> bool:
        """Whether the reactor is nobody else's."""
        return cls._reactor is not None or "twisted.internet.reactor" not in sys.modules

    def call(self, method: str, *arguments: Any) -> Any:
        """See `Link`."""
        from twisted.internet.defer import Deferred
        from twisted.internet.threads import blockingCallFromThread

        function = getattr(self._room, method)
        return blockingCallFromThread(_Here._reactor, lambda: Deferred.fromCoroutine(function(*arguments)))

    def close(self) -> None:
        """See `Link`."""


def _started() -> Any:
    from twisted.internet import reactor

    running: Any = reactor
    ready = threading.Event()
    running.callWhenRunning(ready.set)
    thread = threading.Thread(
        target=running.run, kwargs={"installSignalHandlers": False}, name="mailhub.testing", daemon=True
    )
    thread.start()
    if not ready.wait(START_SECONDS):
        raise RuntimeError("Twisted's reactor did not start")

    def end() -> None:
        running.callFromThread(running.stop)
        thread.join(START_SECONDS)

    atexit.register(end)
    return running


class _Elsewhere:
    """In a process of its own, which ends with this one."""

    def __init__(self, folder: Path, domains: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mailhub.testing.mailroom"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.call("", str(folder), list(domains))

    def call(self, method: str, *arguments: Any) -> Any:
        """See `Link`."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with self._lock:
            process.stdin.write(json.dumps({"call": method, "arguments": arguments}).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server for tests has ended, with status {process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            # A mistake of the caller's is the same one wherever the server runs.
            if answer["kind"] == "ValueError":
                raise ValueError(answer["error"])
            raise RuntimeError(f"{answer['kind']}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """See `Link`."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(START_SECONDS)
        finally:
            self._process.kill()


def _usual(domains: Sequence[str]) -> str:
    return USER if any(USER.endswith(f"@{domain.lower()}") for domain in domains) else f"user@{domains[0]}"


def check_domains(domains: Sequence[str]) -> None:
    """Raises ValueError for what is no list of domains."""
    if isinstance(domains, str):
        raise ValueError(f"domains must be a list of domains, such as [{domains!r}], not the text {domains!r}")
    if not domains:
        raise ValueError("domains: a server has one at least")
    for domain in domains:
        try:
            parse_domain(domain)
        except ValueError:
            raise ValueError(f"{domain!r} is no domain") from None


@contextmanager
def server(
    *,
    accept_any: bool = False,
    domains: Sequence[str] = DOMAINS,
    user: str | None = None,
    password: str = PASSWORD,
    process: bool | None = None,
) -> Iterator[TestServer]:
    """A mail server for tests, on ephemeral ports of 127.0.0.1, with all services; nothing leaves the machine.

    Mail for accounts in `domains` is taken: of `user`, who is user@example.test or else "user" in the first of the
    domains, and "" for nobody; of those added by `TestServer.add_account`; with `accept_any` for everybody. `process`:
    whether it has a process of its own. By default it runs on Twisted's reactor in a thread of this one, unless
    somebody else uses that reactor. Raises ValueError for what is no domain, and for a `user` in none of them.
    """
    check_domains(domains)
    folder = Path(tempfile.mkdtemp(prefix="mailhub-testing-"))
    elsewhere = not _Here.is_possible() if process is None else process
    try:
        running = TestServer(_Elsewhere(folder, domains) if elsewhere else _Here(folder, domains), folder)
        try:
            running.begin(_usual(domains) if user is None else user, password, accept_any=accept_any)
            yield running
        finally:
            running.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
