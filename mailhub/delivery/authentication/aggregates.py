"""Counts what DMARC says of mail that comes in, and tells each domain that wants to know, day by day (RFC 9990)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import attrs

from mailhub import __version__
from mailhub.checks.dmarc.walk import record_of
from mailhub.delivery.authentication.destinations import Destination, destinations, wanted
from mailhub.delivery.authentication.kept_reports import KeptReports
from mailhub.delivery.authentication.report_options import DmarcReporter
from mailhub.delivery.authentication.seen import Seen
from mailhub.delivery.reporting import ENTRY_LIMIT, DailyReports, Subject, mailed
from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import Environment, IState
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.dmarc_report import (
    AggregateReport,
    DkimResult,
    Published,
    Reason,
    Row,
    SpfResult,
    aggregate_message,
    written,
)

_log = Logger(namespace="mailhub.delivery.dmarc")

ROWS_LIMIT = 2000  # of one domain on one day
_ROWS_TOGETHER = 100_000  # of all domains on one day
_ATTEMPTS = 24  # rounds, of which there is one an hour


class Tally:
    """What is counted of one policy domain on one day. `left_out`: messages for whose rows there was no room."""

    def __init__(self) -> None:
        self.published: Published | None = None
        self.rows: dict[Row, int] = {}
        self.left_out = 0

    def add(self, published: Published, row: Row, count: int = 1, *, room: bool = True) -> bool:
        """Count messages; whether that made a new row, for which there may be no `room`. Of several policies in one day
        the last is told (RFC 9990 3.3)."""
        self.published = published
        if row in self.rows:
            self.rows[row] += count
        elif room and len(self.rows) < ROWS_LIMIT:
            self.rows[row] = count
            return True
        else:
            self.left_out += count
        return False

    def kept(self) -> Sequence[bytes]:
        """As it is kept: entries that hold what there is room for."""
        if self.published is None:
            return []
        published = attrs.astuple(self.published)
        pages: list[bytes] = []
        rows: list[str] = []
        size, left_out = 0, self.left_out
        for row, count in self.rows.items():
            text = json.dumps([attrs.astuple(row), count], ensure_ascii=False, separators=(",", ":"))
            octets = len(text.encode("utf-8", "replace"))
            if rows and size + octets > ENTRY_LIMIT:
                pages.append(_page(published, left_out, rows))
                rows, size, left_out = [], 0, 0
            rows.append(text)
            size += octets + 1
        return [*pages, _page(published, left_out, rows)]

    def add_kept(self, octets: bytes) -> None:
        """Count what an entry holds once more. Raises ValueError."""
        try:
            page = json.loads(octets)
            published = Published(*page["published"])
            for values, count in page["rows"]:
                self.add(published, _row(values), int(count))
            self.left_out += int(page["left_out"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"no counts: {error}") from None


def _page(published: Sequence[str], left_out: int, rows: Sequence[str]) -> bytes:
    start = json.dumps({"published": published, "left_out": left_out})[:-1]
    return f'{start}, "rows": [{",".join(rows)}]}}'.encode("utf-8", "replace")


def _row(values: Sequence[Any]) -> Row:
    source, disposition, dkim, spf, reasons, header_from, envelope_from, envelope_to, signatures, sender = values
    return Row(
        source,
        disposition,
        dkim,
        spf,
        tuple([Reason(*each) for each in reasons]),
        header_from,
        envelope_from,
        envelope_to,
        tuple([DkimResult(*each) for each in signatures]),
        SpfResult(*sender) if sender else None,
    )


class AggregateReports:
    """The counts of a hub."""

    def __init__(
        self, environment: Environment, state: IState, kept: KeptReports, reporter: Callable[[], DmarcReporter]
    ) -> None:
        """`reporter`: the hub as it is now. `kept` gets what is for an address of ours, too."""
        self._kept = kept
        self._environment = environment
        self._reporter = reporter
        self._daily = DailyReports(environment, state, Subject("dmarc", Tally, Tally.kept, self._reported))
        self._rows = (-1, 0)  # the day, and how many there are
        self._attempts: dict[tuple[str, str], int] = {}
        self._sent: set[tuple[str, str, str]] = set()
        self.start = self._daily.start
        self.stop = self._daily.stop

    def count(self, seen: Seen) -> None:
        """One message. Nothing is counted for who does not want to know."""
        record, found = seen.dmarc.record, seen.dmarc.found
        if record is None or found is None or not record.aggregate or not self._reporter().settings.dmarc.send:
            return
        tally = self._daily.counts(found.domain)
        if tally is None:
            return
        day = self._environment.now() // DAY
        rows = self._rows[1] if self._rows[0] == day else 0
        new = tally.add(seen.published, seen.row, room=rows < _ROWS_TOGETHER)
        self._rows = (day, rows + new)

    # --- Reports -----------------------------------------------------------------------------------------------------

    async def _reported(self, day: str, domain: str, kept: Sequence[bytes]) -> bool:
        """Whether nothing is left to do about a domain's day. Who cannot be asked is asked again, for a day."""
        key = (day, domain)
        try:
            done = await self._tell(day, domain, kept)
        except TemporaryError as error:
            _log.info(
                "DMARC report waits: domain={domain} day={day} {reason:text}",
                domain=domain,
                day=day,
                reason=error.detail or error.text,
            )
            done = False
        if not done:
            self._attempts[key] = self._attempts.get(key, 0) + 1
            done = self._attempts[key] >= _ATTEMPTS
        if done:
            self._attempts.pop(key, None)
            self._sent = {each for each in self._sent if each[:2] != key}
        return done

    async def _tell(self, day: str, domain: str, kept: Sequence[bytes]) -> bool:
        """Raises TemporaryError."""
        resolver = self._environment.resolver
        if not self._reporter().settings.dmarc.send:
            return True
        record = await record_of(domain, resolver)
        if record is None:
            return True
        report = self._report(day, domain, kept)
        if not report.rows:
            return True
        done, number = True, 0
        for to in wanted(record, "aggregate"):
            try:
                found = await destinations(domain, to, "aggregate", resolver)
            except TemporaryError:
                done = False
                continue
            if not found:
                _log.info("nobody agrees to a DMARC report: domain={domain} to={to:text}", domain=domain, to=to.uri)
            for each in found:
                done &= await self._handed_over(report, day, each, number)
                number += 1
        return done

    def _report(self, day: str, domain: str, kept: Sequence[bytes]) -> AggregateReport:
        tally = Tally()
        for octets in kept:
            try:
                tally.add_kept(octets)
            except ValueError as error:
                _log.event("counts of DMARC are damaged", {"domain": domain, "reason": str(error)})
        reporter = self._reporter()
        sender = reporter.settings.dmarc.sender(reporter.hostname)
        begin = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
        left_out = f"{tally.left_out} messages more are not in these rows" if tally.left_out else ""
        # The same when it has to be sent once more: it is made of what is in it.
        counted = sender.host, day, domain, tally.left_out, sorted(map(repr, tally.rows.items()))
        unique = sha256(repr(counted).encode())
        return AggregateReport(
            organization=sender.organization,
            contact=sender.contact,
            report_id=unique.hexdigest()[:24],
            begin=begin,
            end=begin + DAY - 1,
            published=tally.published or Published(domain),
            rows=tuple(tally.rows.items()),
            error=left_out,
            generator=f"mailhub {__version__}",
        )

    async def _handed_over(self, report: AggregateReport, day: str, to: Destination, number: int) -> bool:
        """Whether nothing is left to do about one address."""
        domain, reporter = report.published.domain, self._reporter()
        key = (day, domain, to.address.key)
        if key in self._sent:
            return True
        sender = reporter.settings.dmarc.sender(reporter.hostname)
        packed = gzip.compress(written(report), mtime=0)
        message = aggregate_message(sender, str(to.address), report, packed, self._environment.now(), number)
        known = {"domain": domain, "day": day, "to": to.address}
        if to.size_limit is not None and len(message) > to.size_limit:
            _log.event("DMARC report is too large for who wants it", {**known, "size": len(message)})
            return True
        try:
            await mailed(reporter, "dmarc", sender, to.address, message)
        except TemporaryError as error:
            _log.event("DMARC report not handed over", {**known, "reason": error.detail or error.text})
            return False
        except MailError as error:
            _log.event("DMARC report not handed over", {**known, "reason": error.detail or error.text})
            return True
        self._sent.add(key)
        if to.address.ascii_domain in reporter.domains:
            # It comes in as mail of our own does, at which nobody looks.
            await self._kept.keep(report, sender.domain, reporter.settings.dmarc.keep_days)
        _log.event("DMARC report handed over", known)
        return True
