"""Reports to other domains: what is counted for each of them, kept over a restart, and told when the day is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailhub.errors import StoreUnavailable
from mailhub.interfaces import Environment, IPipeline, IState, Origin
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.reporting import Sender

_log = Logger(namespace="mailhub.delivery")

ENTRY_LIMIT = 60_000  # octets of one value that is kept
_SAVE_SECONDS = 300.0  # what a crash may lose
_ROUND_SECONDS = 3600.0  # between looks for days that are over
_KEPT_SECONDS = 3 * DAY  # until a report that cannot be handed over is given up
_DOMAINS = 10_000  # that are counted at the same time
_BATCH_OCTETS = 4 << 20  # that are written at once
_BATCH = 500  # entries that are
_PAGE, _LARGEST_PAGE = 200, 12_800  # entries that are looked at together
_OF_DOMAIN = 1000  # entries of one domain's day

C = TypeVar("C")


@attrs.frozen
class ReportOptions:
    """[tlsrpt]. `contact` and `organization` are told; by default postmaster of our host, and its name."""

    send: bool = True
    contact: str = attrs.field(default="")
    organization: str = attrs.field(default="")

    @contact.validator
    def _is_address(self, _: object, text: str) -> None:
        if text:
            try:
                local = Address.parse(text).local
            except ValueError as error:
                raise ValueError(f'"{text}" is not a mail address: {error}') from None
            if not local.isascii():
                raise ValueError(f'"{text}" has a local part that is not ASCII, which not every domain can read')

    @organization.validator
    def _is_line(self, _: object, text: str) -> None:
        if not text.isprintable():
            raise ValueError("must be one line")

    def sender(self, host: str) -> Sender:
        """Who reports, by our name."""
        contact = in_ascii(self.contact) if self.contact else f"postmaster@{host}"
        return Sender(host, self.organization or host, contact)


def in_ascii(contact: str) -> str:
    """With A-labels (RFC 8460 5.1)."""
    address = Address.parse(contact)
    return str(Address(address.local, address.ascii_domain))


def mail_address(uri: str) -> Address:
    """Whom a mailto: URI names (RFC 6068 2). Raises ValueError."""
    return Address.parse(unquote(uri[len("mailto:") :].partition("?")[0]))


class Mailing(Protocol):
    """What is needed of a hub to send our own mail."""

    @property
    def pipeline(self) -> IPipeline:
        """The way in for our own mail."""


async def mailed(hub: Mailing, what: str, sender: Sender, to: Address, message: bytes) -> None:
    """By our own queue, from nobody: what becomes of it nobody is told. `what` is for the log. Raises MailError."""
    origin = Origin(what, helo=sender.host, secure=True, user=f"postmaster@{sender.host}", submission=True)
    transaction = await hub.pipeline.begin(origin, Mail(None, size=len(message)))
    try:
        await transaction.recipient(Recipient(to))
        await transaction.body(len(message)).write(message)
        await transaction.commit()
    finally:
        transaction.abort()


@attrs.frozen
class Subject(Generic[C]):
    """What is reported. `name` begins the names of what is kept, and stands in the log. `make` gives counts that are
    empty, `kept` them as entries of up to `ENTRY_LIMIT` octets. `report` tells a domain (the second argument) of a day
    by all entries that there are, and says whether nothing is left to do about it; it raises StoreUnavailable."""

    name: str
    make: Callable[[], C]
    kept: Callable[[C], Sequence[bytes]]
    report: Callable[[str, str, Sequence[bytes]], Awaitable[bool]]


class DailyReports(Generic[C]):
    """The counts of this process, by day and domain. They are kept in `state` beside those of processes before it, so
    that nothing has to be read before it is added to."""

    def __init__(self, environment: Environment, state: IState, subject: Subject[C]) -> None:
        self._environment = environment
        self._state = state
        self._subject = subject
        self._prefix = f"{subject.name} "
        self._run = f"{environment.random.getrandbits(40):010x}"
        self._counts: dict[tuple[str, str], C] = {}
        self._unsaved: set[tuple[str, str]] = set()
        self._timers: dict[str, IDelayedCall] = {}
        self._day = (-1, "")

    def counts(self, domain: str) -> C | None:
        """Those of a domain today, to be added to now. None where there are too many domains."""
        key = (self._today(), domain)
        found = self._counts.get(key)
        if found is None:
            if len(self._counts) >= _DOMAINS:
                return None
            found = self._counts[key] = self._subject.make()
        self._unsaved.add(key)
        if "save" not in self._timers:
            self._after(_SAVE_SECONDS, "save", self._save)
        return found

    def start(self) -> None:
        """Look for days that are over from now on, at a time of our own (RFC 8460 4)."""
        self._after(60 + self._environment.random.random() * _ROUND_SECONDS, "round", self._round)

    async def stop(self) -> None:
        """Keep what was counted."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        self._timers.clear()
        await self._save()

    def _today(self) -> str:
        number = self._environment.now() // DAY
        if number != self._day[0]:
            self._day = (number, datetime.fromtimestamp(number * DAY, UTC).date().isoformat())
        return self._day[1]

    def _after(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def done() -> None:
            await work()

        def begin() -> None:
            self._timers.pop(name, None)
            Deferred.fromCoroutine(done()).addErrback(
                lambda failure: _log.failure("{kind} reports have failed", failure, kind=self._subject.name)
            )

        self._timers[name] = self._environment.clock.callLater(seconds, begin)

    async def _save(self) -> None:
        """Keep what has changed."""
        unsaved, self._unsaved = sorted(self._unsaved), set()
        batch: list[tuple[tuple[str, str], str, bytes]] = []
        size = 0
        for entry in self._entries(unsaved):
            batch.append(entry)
            size += len(entry[2])
            if size >= _BATCH_OCTETS or len(batch) >= _BATCH:
                await self._keep(batch)
                batch, size = [], 0
        if batch:
            await self._keep(batch)
        today = self._today()
        for key in [key for key in self._counts if key[0] < today and key not in self._unsaved]:
            del self._counts[key]

    def _entries(self, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], str, bytes]]:
        for day, domain in keys:
            for number, octets in enumerate(self._subject.kept(self._counts[day, domain])):
                more = f" {number}" if number else ""
                yield (day, domain), f"{self._prefix}{day} {domain} {self._run}{more}", octets

    async def _keep(self, batch: Sequence[tuple[tuple[str, str], str, bytes]]) -> None:
        try:
            await self._state.put({name: octets for _, name, octets in batch}, _KEPT_SECONDS)
        except StoreUnavailable as error:
            self._unsaved |= {key for key, _, _ in batch}
            _log.warn(
                "counts for reports are not kept: report={what} {reason:text}",
                what=self._subject.name,
                reason=str(error),
            )

    # --- Reports -----------------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        try:
            await self._save()
            await self.send_due()
        finally:
            self._after(_ROUND_SECONDS, "round", self._round)

    async def send_due(self) -> None:
        """Report on all days that are over; what cannot be handed over now stays for the next round. Raises
        StoreUnavailable."""
        today, tried, page = self._today(), set[tuple[str, str]](), _PAGE
        while True:
            found = await self._state.items(self._prefix, page)
            named = dict.fromkeys((name.split(" ")[1], name.split(" ")[2]) for name in found)
            due = [key for key in named if key[0] < today and key not in tried]
            if not due:
                if len(found) < page or page >= _LARGEST_PAGE:
                    return
                page *= 4  # behind those that have to wait there are others
            for day, domain in due:
                tried.add((day, domain))
                entries = await self._state.items(f"{self._prefix}{day} {domain} ", _OF_DOMAIN)
                if await self._subject.report(day, domain, list(entries.values())):
                    await self._state.remove(list(entries))
