"""Counts how TLS to other servers fares, and tells each domain that wants to know, day by day (RFC 8460)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Protocol
from urllib.parse import unquote, urlsplit

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailhub.errors import MailError, StoreUnavailable, TemporaryError
from mailhub.interfaces import Environment, IPipeline, IState, Origin
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.tls_report import Sender, Tally, TlsFailure, TlsPolicyUsed, render, reporting_uris
from mailhub.net.https import HTTPS_PORT, Https

_log = Logger(namespace="mailhub.delivery.tls")

NO_STARTTLS = "starttls-not-supported"
OTHER = "validation-failure"

_SAVE_SECONDS = 300.0  # what a crash may lose
_ROUND_SECONDS = 3600.0  # between looks for days that are over
_KEPT_SECONDS = 3 * DAY  # until a report that cannot be handed over is given up
_DOMAINS = 10_000  # that are counted at the same time
_BATCH = 500
_PAGE = 1000  # entries that are looked at in one round
_ROOM = 60_000  # octets of what is kept of a domain
_POST_SECONDS = 60.0
_PREFIX = "tlsrpt "


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


class ReportSettings(Protocol):
    """The configuration, as much of it as is about this."""

    @property
    def tlsrpt(self) -> ReportOptions:
        """[tlsrpt]."""


class Reporter(Protocol):
    """Who reports: a hub, by what its configuration says now."""

    @property
    def hostname(self) -> str:
        """Our name."""

    @property
    def settings(self) -> ReportSettings:
        """The configuration."""

    @property
    def pipeline(self) -> IPipeline:
        """The way in for our own mail."""


class TlsReports:
    """The counts of this process, by day and domain. They are kept in `state` beside those of processes before it."""

    def __init__(
        self,
        environment: Environment,
        state: IState,
        https: Https,
        reporter: Callable[[], Reporter],
    ) -> None:
        """`reporter`: the hub as it is now."""
        self._environment = environment
        self._state = state
        self._https = https
        self._reporter = reporter
        self._run = f"{environment.random.getrandbits(40):010x}"
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._unsaved: set[tuple[str, str]] = set()
        self._timers: dict[str, IDelayedCall] = {}

    def note(self, domain: str, policy: TlsPolicyUsed, failure: TlsFailure | None = None) -> None:
        """One session with an exchanger of a domain."""
        if not self._reporter().settings.tlsrpt.send:
            return
        key = (self._today(), domain)
        if key not in self._tallies and len(self._tallies) >= _DOMAINS:
            return
        self._tallies.setdefault(key, Tally()).add(policy, failure)
        self._unsaved.add(key)
        if "save" not in self._timers:
            self._after(_SAVE_SECONDS, "save", self._save)

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
        return datetime.fromtimestamp(self._environment.now(), UTC).date().isoformat()

    def _after(self, seconds: float, name: str, work: Callable[[], object]) -> None:
        def begin() -> None:
            self._timers.pop(name, None)
            Deferred.fromCoroutine(self._done(work)).addErrback(
                lambda failure: _log.failure("TLS reports have failed", failure)
            )

        self._timers[name] = self._environment.clock.callLater(seconds, begin)

    @staticmethod
    async def _done(work: Callable[[], object]) -> None:
        await work()  # type: ignore[misc]

    async def _save(self) -> None:
        """Keep what has changed."""
        unsaved, self._unsaved = sorted(self._unsaved), set()
        for start in range(0, len(unsaved), _BATCH):
            keys = unsaved[start : start + _BATCH]
            kept = {f"{_PREFIX}{day} {domain} {self._run}": _kept(self._tallies[day, domain]) for day, domain in keys}
            try:
                await self._state.put(kept, _KEPT_SECONDS)
            except StoreUnavailable as error:
                _log.warn("counts of TLS are not kept: {reason:text}", reason=str(error))
        today = self._today()
        for key in [key for key in self._tallies if key[0] < today and key not in self._unsaved]:
            del self._tallies[key]

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
        today = self._today()
        found = await self._state.items(_PREFIX, _PAGE)
        groups = [list(names) for _, names in groupby(found, key=lambda name: name.split(" ")[:3])]
        for entries in groups if len(found) < _PAGE else groups[:-1]:  # the last one may have more
            _, day, domain, *_ = entries[0].split(" ")
            if day >= today:
                continue
            if await self._reported(day, domain, [found[name] for name in entries]):
                await self._state.remove(entries)

    async def _reported(self, day: str, domain: str, kept: Sequence[bytes]) -> bool:
        """Whether nothing is left to do about a domain's day."""
        host, options = self._reporter().hostname, self._reporter().settings.tlsrpt
        try:
            uris = reporting_uris(await self._environment.resolver.texts(f"_smtp._tls.{domain}"))
        except TemporaryError:
            return False
        except MailError:
            return True
        if not uris or not options.send:
            return True
        tally = Tally()
        for octets in kept:
            try:
                tally.add_rendered(json.loads(octets))
            except ValueError as error:
                _log.warn("counts of TLS are damaged: domain={domain} {reason:text}", domain=domain, reason=str(error))
        contact = _in_ascii(options.contact) if options.contact else f"postmaster@{host}"
        sender = Sender(host, options.organization or host, contact)
        report_id = f"{day}.{domain}.{self._environment.random.getrandbits(40):010x}@{host}"
        packed = render(sender, report_id, day, tally.rendered())
        sent = [await self._handed_over(uri, sender, report_id, day, domain, packed) for uri in uris]
        return any(sent)

    async def _handed_over(
        self, uri: str, sender: Sender, report_id: str, day: str, domain: str, packed: bytes
    ) -> bool:
        try:
            if uri.lower().startswith("mailto:"):
                await self._mail(uri, sender, report_id, day, domain, packed)
            else:
                await self._post(uri, packed)
        except (MailError, ValueError) as error:
            _log.warn(
                "TLS report not handed over: domain={domain} to={uri:text} reason={reason:text}",
                domain=domain,
                uri=uri,
                reason=str(error),
            )
            return False
        _log.info("TLS report handed over: domain={domain} day={day} to={uri:text}", domain=domain, day=day, uri=uri)
        return True

    async def _post(self, uri: str, packed: bytes) -> None:
        """RFC 8460 5.4. Raises TemporaryError, ValueError."""
        parts = urlsplit(uri)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        answer = await self._https.post(
            parts.hostname or "",
            parts.port or HTTPS_PORT,
            path,
            "application/tlsrpt+gzip",
            packed,
            limit=65536,
            seconds=_POST_SECONDS,
        )
        if not 200 <= answer.status < 300:
            raise TemporaryError(f"answer {answer.status}")

    async def _mail(self, uri: str, sender: Sender, report_id: str, day: str, domain: str, packed: bytes) -> None:
        """By our own queue. Raises MailError, ValueError."""
        to = Address.parse(unquote(uri[len("mailto:") :].partition("?")[0]))
        message = report_message(sender, str(to), report_id, day, domain, packed, self._environment.now())
        origin = Origin("tlsrpt", helo=sender.host, secure=True, user=f"postmaster@{sender.host}", submission=True)
        transaction = await self._reporter().pipeline.begin(origin, Mail(None, size=len(message)))
        try:
            await transaction.recipient(Recipient(to))
            await transaction.body(len(message)).write(message)
            await transaction.commit()
        finally:
            transaction.abort()


def _in_ascii(contact: str) -> str:
    """With A-labels (RFC 8460 5.1)."""
    address = Address.parse(contact)
    return str(Address(address.local, address.ascii_domain))


def _kept(tally: Tally) -> bytes:
    rendered = tally.rendered()
    octets = json.dumps(rendered, separators=(",", ":")).encode()
    if len(octets) <= _ROOM:
        return octets
    bare: list[Mapping[str, object]] = [{**each, "failure-details": []} for each in rendered]
    return json.dumps(bare, separators=(",", ":")).encode()


def report_message(sender: Sender, to: str, report_id: str, day: str, domain: str, packed: bytes, now: int) -> bytes:
    """A report as mail (RFC 8460 5.3). It may go in the clear: it is about TLS that fails (RFC 8689 5)."""
    begin = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
    boundary = f"=_{report_id.partition('@')[0].rpartition('.')[2]}"
    name = f"{sender.domain}!{domain}!{begin}!{begin + DAY - 1}!001.json.gz"
    encoded = b64encode(packed).decode()
    lines = [
        f"From: <{sender.contact}>",
        f"To: <{to}>",
        f"Date: {format_date(now)}",
        f"Subject: Report Domain: {domain}",  # names of 255 octets each would be too much for one line
        f" Submitter: {sender.domain}",
        f" Report-ID: <{report_id}>",
        f"Message-ID: <{report_id}>",
        f"TLS-Report-Domain: {domain}",
        f"TLS-Report-Submitter: {sender.domain}",
        "TLS-Required: No",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt"; boundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is a report about TLS to the mail servers of {domain} on {day},",
        f"as {sender.host} has seen it.",
        "",
        f"--{boundary}",
        "Content-Type: application/tlsrpt+gzip",
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{name}"',
        "",
        *(encoded[start : start + 76] for start in range(0, len(encoded), 76)),
        "",
        f"--{boundary}--",
        "",
    ]
    return "\r\n".join(lines).encode()
