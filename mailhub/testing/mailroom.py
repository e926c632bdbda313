"""The server behind `mailhub.testing.server`: a whole one, on ephemeral ports of loopback, with all mail in memory. It
connects to nobody. It runs on a reactor, here or in a process of its own: `python -m mailhub.testing.mailroom`.
"""

from __future__ import annotations

import json
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

import argon2
import attrs
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from mailhub.auth.passwords import hash_password
from mailhub.components import build_hub
from mailhub.config import routes
from mailhub.config.settings import from_values
from mailhub.errors import MailboxExists, TemporaryError
from mailhub.interfaces import (
    STORE,
    Delivery,
    Environment,
    IDeliveryAgent,
    INetwork,
    IResolver,
    IRouter,
    ITransactionView,
    Route,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome
from mailhub.net.certificates import write_with_authority
from mailhub.net.listen import listen
from mailhub.plugins import Component, load_catalogue
from mailhub.services import SERVICES
from mailhub.store.memory.database import MemoryDatabase
from mailhub.threads import ReactorThreads

HOST = "127.0.0.1"
_NAME = "mailhub.example.test"
# The passwords are for tests: what they cost would be spent at each login.
_CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_REQUEST = 1 << 24  # octets

Letter = dict[str, Any]
"""A message as it is handed over: sender, recipients, mailbox ("" for the outbox), and its octets in base64."""


@implementer(INetwork, IResolver)
class Nowhere:
    """Nothing leaves the machine."""

    async def connect(self, host: str, port: int, factory: Any, timeout: float, source: str = "") -> Any:
        """Never."""
        raise TemporaryError("a server for tests connects to nobody")

    async def mail_exchangers(self, domain: str) -> Any:
        """Never."""
        raise TemporaryError("a server for tests asks no DNS")

    async def addresses(self, host: str) -> Any:
        """Never."""
        raise TemporaryError("a server for tests asks no DNS")

    async def host(self, name: str) -> Any:
        """Never."""
        raise TemporaryError("a server for tests asks no DNS")

    async def texts(self, name: str) -> Any:
        """Never."""
        raise TemporaryError("a server for tests asks no DNS")

    async def pointers(self, address: str) -> Any:
        """Never."""
        raise TemporaryError("a server for tests asks no DNS")

    async def services(self, name: str) -> Any:
        """Never."""
        raise TemporaryError("a server for tests asks no DNS")

    async def tlsa(self, name: str) -> Any:
        """Never."""
        raise TemporaryError("a server for tests asks no DNS")


class _Domains(frozenset[str]):
    """Those of the server; every domain there is while it accepts any recipient."""

    room: Mailroom

    def __contains__(self, domain: object) -> bool:
        return self.room.accept_any or super().__contains__(domain)

    def __or__(self, others: Any) -> _Domains:
        both = _Domains(super().__or__(others))
        both.room = self.room
        return both


@implementer(IRouter)
@attrs.frozen
class AnyRouter:
    """Gives everybody a mailbox, when it is wanted."""

    room: Mailroom

    async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
        """See `IRouter`."""
        if not self.room.accept_any:
            return None
        await self.room.enter(recipient.key)
        return (Route(STORE, recipient, recipient.key),)


@implementer(IDeliveryAgent)
@attrs.frozen
class Outbox:
    """Keeps what would have left."""

    room: Mailroom

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`."""
        recipients = [str(recipient.route.recipient) for recipient in delivery.recipients]
        self.room.sent.append(_letter(str(delivery.mail.reverse_path or ""), recipients, await delivery.body.read()))
        self.room.changed()
        return {recipient.id: Outcome.delivered("caught") for recipient in delivery.recipients}

    async def stop(self) -> None:
        """See `IDeliveryAgent`."""


class Mailroom:
    """The server, and all that a test asks of it: methods whose arguments and results are those of JSON."""

    def __init__(self, reactor: Any, folder: str, domains: Sequence[str]) -> None:
        self.accept_any = False
        self.sent: list[Letter] = []
        self._reactor = reactor
        self._folder = Path(folder)
        self._domains = tuple(domains)
        self._ports: dict[str, Any] = {}
        self._users: dict[str, Callable[[], None]] = {}
        self._version = 0
        self._waiting: list[Deferred[None]] = []

    # --- Begin and end -----------------------------------------------------------------------------------------------

    async def start(self) -> Mapping[str, int]:
        """Serve; the ports by service."""
        certificate, key = self._folder / "certificate.pem", self._folder / "key.pem"
        names = (_NAME, "localhost", HOST)
        write_with_authority(certificate, key, self._folder / "authority.pem", names, days=30, now=time.time())
        nowhere = Nowhere()
        environment = Environment(
            self._reactor, ReactorThreads(self._reactor), nowhere, nowhere, SystemRandom(), self._folder, time.time
        )
        found = load_catalogue()
        own = (
            Component("database", "memory", lambda _, hub: MemoryDatabase(hub.environment)),
            Component("router", "test-any", lambda _, hub: AnyRouter(self)),
            Component("agent", "test-outbox", lambda _, hub: Outbox(self)),
        )
        catalogue = attrs.evolve(found, factories=(*found.factories, *own))
        hub = self._hub = build_hub(
            from_values(self._configuration(), self._folder / "test.toml"), environment, catalogue
        )
        domains = _Domains(hub.settings.domains)
        domains.room = self
        hub.names.replace(attrs.evolve(routes.names(hub.settings), domains=domains))
        await hub.start()
        for service, factory in hub.factories.items():
            tls = factory.tls if factory.implicit_tls else None
            where = f"tcp:0:interface={HOST}"
            self._ports[service] = await listen(service, where, factory, self._reactor, tls, factory)
        return {service: port.getHost().port for service, port in self._ports.items()}

    def _configuration(self) -> Mapping[str, Any]:
        return {
            "hostname": _NAME,
            "data": str(self._folder),
            "domains": list(self._domains),
            "database": {"type": "memory"},
            "tls": {"certificate": "certificate.pem", "key": "key.pem"},
            "listen": {name: [f"tcp:0:interface={HOST}"] for name in SERVICES},
            "trust": {"cleartext_login": ["127.0.0.0/8"]},
            "delivery": {"routers": ["test-any", "aliases", "accounts", "postmaster", "catch-all", "static"]},
            "route": {"*": {"agent": "test-outbox"}},
            "limits": {"refused_recipients_per_session": 100_000, "stop_seconds": 0},
        }

    async def stop(self) -> None:
        """Serve no more."""
        for port in self._ports.values():
            await port.stopListening()
        await self._hub.stop()

    # --- What tests ask ----------------------------------------------------------------------------------------------

    async def accept(self, anybody: bool) -> None:
        """Whether mail for everybody is taken."""
        self.accept_any = anybody

    async def add_account(self, user: str, password: str) -> None:
        """An account that can log in. One that was there has this password now. Raises ValueError for what is no
        address, and for a domain that is not the server's."""
        address = _address(user)
        if address.ascii_domain not in self._hub.names.domains:
            raise ValueError(f"{user}: its domain is none of the server's, which are {', '.join(self._domains)}")
        await self.enter(address.key)
        await self._hub.accounts.set_password(address.key, hash_password(password, _CHEAP))

    async def enter(self, user: str) -> None:
        """A mailbox for a user, by the canonical address. Without a password nobody can log in."""
        if user in self._users:
            return
        with suppress(MailboxExists):
            await self._hub.accounts.add(user, "")
        inbox = await (await self._hub.store.account(user)).mailbox("INBOX")
        self._users[user] = inbox.watch(lambda _: self.changed())

    async def inbox(self, user: str, mailbox: str) -> list[Letter]:
        """What is in a mailbox, in order of arrival; nothing where there is none. Raises ValueError for what is no
        address."""
        user = _address(user).key
        if user not in self._users:
            return []
        account = await self._hub.store.account(user)
        if mailbox.upper() != "INBOX" and mailbox not in [info.name for info in await account.mailboxes()]:
            return []
        found = await account.mailbox(mailbox)
        letters = []
        for entry in await found.entries():
            reader = await found.open(entry.uid)
            octets = await reader.read()
            reader.close()
            letters.append(_letter(_return_path(octets), [user], octets, mailbox))
        return letters

    async def inboxes(self) -> list[Letter]:
        """What is in all of them."""
        return [letter for user in self._users for letter in await self.inbox(user, "INBOX")]

    async def outbox(self) -> list[Letter]:
        """What would have left."""
        return self.sent

    async def clear(self) -> None:
        """Be as at the beginning: no mail, no accounts, no recipients but those of accounts."""
        await self._hub.queue.remove([message.id for message in await self._hub.queue.messages()])
        for user, unwatch in self._users.items():
            unwatch()
            await self._hub.accounts.remove(user)
        self._users.clear()
        self.sent.clear()
        self._hub.doubles.clear()
        self.accept_any = False
        self.changed()

    # --- What is awaited ---------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Mail has come, or gone."""
        self._version += 1
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def wait(self, after: int, seconds: float) -> int:
        """The number of the last change, when one has come after number `after`, or so many seconds have passed."""
        if self._version <= after:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            timer = self._reactor.callLater(seconds, self.give_up, waiting)
            await waiting
            if timer.active():
                timer.cancel()
        return self._version

    def give_up(self, waiting: Deferred[None]) -> None:
        """No change came."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting.callback(None)


def _address(user: str) -> Address:
    try:
        return Address.parse(user)
    except ValueError as error:
        raise ValueError(f"{user}: {error}") from None


def _letter(sender: str, recipients: Sequence[str], octets: bytes, mailbox: str = "") -> Letter:
    return {
        "sender": sender,
        "recipients": list(recipients),
        "mailbox": mailbox,
        "octets": b64encode(octets).decode("ascii"),
    }


def _return_path(octets: bytes) -> str:
    """What the first field says, which the server puts there."""
    first = octets.partition(b"\r\n")[0]
    name, _, value = first.partition(b":")
    return value.strip().strip(b"<>").decode(errors="replace") if name.lower() == b"return-path" else ""


# --- In a process of its own -----------------------------------------------------------------------------------------


class _Door(LineOnlyReceiver):
    """A line of JSON for each call, and one for each answer. When nobody is there any more, the process ends."""

    delimiter = b"\n"
    MAX_LENGTH = _REQUEST

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._room: Mailroom | None = None

    def lineReceived(self, line: bytes) -> None:
        """One call."""
        Deferred.fromCoroutine(self._answer(json.loads(line)))

    async def _answer(self, request: Mapping[str, Any]) -> None:
        try:
            if self._room is None:
                self._room = Mailroom(self._reactor, *request["arguments"])
                answer: Any = {"result": None}
            else:
                answer = {"result": await getattr(self._room, request["call"])(*request["arguments"])}
        except Exception as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        self.sendLine(json.dumps(answer).encode())  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        """The test is over."""
        if self._reactor.running:
            self._reactor.stop()


def main() -> None:
    """Serve until standard input ends."""
    from twisted.internet import reactor

    # Whatever prints must not get into the answers.
    answers, sys.stdout = sys.stdout.fileno(), sys.stderr
    running: Any = reactor
    standard: Any = StandardIO
    standard(_Door(running), stdout=answers, reactor=running)
    running.run()


if __name__ == "__main__":
    main()
