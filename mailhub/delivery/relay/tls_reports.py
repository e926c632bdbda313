"""Counts how TLS to other servers fares, and tells each domain that wants to know, day by day (RFC 8460)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Protocol
from urllib.parse import urlsplit

from mailhub.delivery.reporting import ENTRY_LIMIT, DailyReports, ReportOptions, Subject, mail_address, mailed
from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import Environment, IPipeline, IState
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.dates import format_date
from mailhub.message.reporting import Part, Sender, composed
from mailhub.message.tls_report import Tally, TlsFailure, TlsPolicyUsed, render, reporting_uris
from mailhub.net.https import HTTPS_PORT, Https

_log = Logger(namespace="mailhub.delivery.tls")

NO_STARTTLS = "starttls-not-supported"
OTHER = "validation-failure"

_POST_SECONDS = 60.0


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
    """The counts of a hub."""

    def __init__(
        self,
        environment: Environment,
        state: IState,
        https: Https,
        reporter: Callable[[], Reporter],
    ) -> None:
        """`reporter`: the hub as it is now."""
        self._environment = environment
        self._https = https
        self._reporter = reporter
        self._daily = DailyReports(environment, state, Subject("tlsrpt", Tally, _kept, self._reported))
        self.start = self._daily.start
        self.stop = self._daily.stop

    def note(self, domain: str, policy: TlsPolicyUsed, failure: TlsFailure | None = None) -> None:
        """One session with an exchanger of a domain."""
        if not self._reporter().settings.tlsrpt.send:
            return
        tally = self._daily.counts(domain)
        if tally is not None:
            tally.add(policy, failure)

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
        sender = options.sender(host)
        told = tally.rendered()
        # The same when it has to be sent once more.
        unique = sha256(json.dumps([host, domain, told]).encode()).hexdigest()[:10]
        report_id = f"{day}.{domain}.{unique}@{host}"
        packed = render(sender, report_id, day, told)
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
        to = mail_address(uri)
        message = report_message(sender, str(to), report_id, day, domain, packed, self._environment.now())
        await mailed(self._reporter(), "tlsrpt", sender, to, message)


def _kept(tally: Tally) -> Sequence[bytes]:
    rendered = tally.rendered()
    octets = json.dumps(rendered, separators=(",", ":")).encode()
    if len(octets) <= ENTRY_LIMIT:
        return [octets]
    bare: list[Mapping[str, object]] = [{**each, "failure-details": []} for each in rendered]
    return [json.dumps(bare, separators=(",", ":")).encode()]


def report_message(sender: Sender, to: str, report_id: str, day: str, domain: str, packed: bytes, now: int) -> bytes:
    """A report as mail (RFC 8460 5.3). It may go in the clear: it is about TLS that fails (RFC 8689 5)."""
    begin = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
    boundary = f"=_{report_id.partition('@')[0].rpartition('.')[2]}"
    name = f"{sender.domain}!{domain}!{begin}!{begin + DAY - 1}!001.json.gz"
    header = [
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
    ]
    text = Part.text(
        f"This is a report about TLS to the mail servers of {domain} on {day},", f"as {sender.host} has seen it."
    )
    file = Part.file(name, "application/tlsrpt+gzip", packed)
    return composed(header, 'multipart/report; report-type="tlsrpt"', boundary, [text, file])
