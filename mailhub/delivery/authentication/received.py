"""Reads the reports of DMARC that others send us by mail, while they come in; they stay mail. What they say is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from twisted.internet.defer import DeferredSemaphore

from mailhub.checks.dmarc.walk import record_of
from mailhub.delivery.authentication.destinations import wanted
from mailhub.delivery.authentication.kept_reports import KeptReports, day_of, summed
from mailhub.delivery.authentication.report_options import DmarcReporter
from mailhub.delivery.authentication.seen import Seen
from mailhub.delivery.reporting import mail_address
from mailhub.errors import TemporaryError
from mailhub.interfaces import Environment, IMessageView
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.address import Address, parse_domain, to_ascii
from mailhub.message.dmarc_report import AggregateReport
from mailhub.message.dmarc_report_reading import MESSAGE_LIMIT, reports_in

_log = Logger(namespace="mailhub.delivery.dmarc")

_IN_SUBJECT = b"omain:"
_SUBJECT = re.compile(
    rb"^subject:[^\n]{0,100}?\breport\s{1,80}domain:\s{0,80}([^\s;]{1,255})", re.IGNORECASE | re.MULTILINE
)
_OLD_DAYS, _EARLY_SECONDS = 31, DAY  # how long ago, and how much in the future, a report may begin
_A_DAY = 2000  # reports that are read
_OCTETS_A_DAY = 64 << 20  # of messages that are read for some
_AT_ONCE = 2  # messages that are read at the same time
_PER_DOMAIN = 300  # about one day of a domain that come by mail


class ReceivedReports:
    """Those of a hub."""

    def __init__(self, environment: Environment, kept: KeptReports, reporter: Callable[[], DmarcReporter]) -> None:
        """`reporter`: the hub as it is now."""
        self._environment = environment
        self._reporter = reporter
        self._kept = kept
        self._turns = DeferredSemaphore(_AT_ONCE)
        self._day = -1
        self._read = self._octets = 0  # on that day

    def may_be_one(self, seen: Seen) -> bool:
        """Whether it is worth while to look closer, which it hardly ever is."""
        if not self._reporter().settings.dmarc.addresses and _IN_SUBJECT not in seen.message.header:
            return False
        # Who forges the sender may forge what it says, too.
        return seen.dmarc.value in ("pass", "none") and seen.verdict.action == "accept"

    async def take(self, seen: Seen) -> bool:
        """Whether it is a report to us, which is kept then: such mail is not reported on itself, or two servers would
        report to each other for ever. Raises StoreUnavailable."""
        message = seen.message
        about = await self._about(message)
        if about is None or not self._may_read(message):
            return False
        await self._turns.acquire()
        try:
            octets = message.header + await message.read()
            reports = await self._environment.threads.run(_reports, octets)
        finally:
            self._turns.release()
        return any([await self._keep(each, about, seen.dmarc.domain) for each in reports])

    async def _about(self, message: IMessageView) -> str | None:
        """The domain that the message seems to report on, where that wants it here: its own record says so. "" for
        any domain, None for no report."""
        there = {each.address.key for each in message.recipients}
        ours = {Address.parse(text).key for text in self._reporter().settings.dmarc.addresses}
        if there & ours:
            return ""
        subject = _SUBJECT.search(message.header)
        if subject is None:
            return None
        try:
            domain = _ascii(subject[1].decode())
            record = await record_of(domain, self._environment.resolver)
        except (ValueError, TemporaryError):
            return None
        named = {_key(each.uri) for each in wanted(record, "aggregate")} if record else set()
        return domain if there & named else None

    def _may_read(self, message: IMessageView) -> bool:
        """Strangers may send as much of it as they like."""
        day = self._environment.now() // DAY
        if day != self._day:
            self._day, self._read, self._octets = day, 0, 0
        if message.size > MESSAGE_LIMIT or self._read >= _A_DAY or self._octets + message.size > _OCTETS_A_DAY:
            return False
        self._read += 1
        self._octets += message.size
        return True

    async def _keep(self, report: AggregateReport, about: str, by: str) -> bool:
        """Whether it was a report that we have wanted. Raises StoreUnavailable."""
        now = self._environment.now()
        try:
            kept = summed(report, by)
            if about not in ("", kept.domain):
                raise ValueError(f"is about {kept.domain}, and its Subject says {about}")
            if not now - _OLD_DAYS * DAY <= report.begin <= now + _EARLY_SECONDS:
                raise ValueError(f"is about {day_of(report.begin)}")
            if await self._kept.count(kept.domain, kept.day, _PER_DOMAIN) >= _PER_DOMAIN:
                raise ValueError("is one too many")
            await self._kept.keep(report, by, self._reporter().settings.dmarc.keep_days)
        except ValueError as error:
            _log.event("DMARC report is not kept", {"by": by, "id": report.report_id, "reason": str(error)})
            return False
        told = {"domain": kept.domain, "day": kept.day, "by": by, "id": kept.report_id, "unread": report.unread}
        _log.event("DMARC report kept", {**told, "messages": sum(each.count for each in kept.sums) + kept.left_out})
        return True


def _reports(octets: bytes) -> Sequence[AggregateReport]:
    return list(reports_in(octets))


def _key(uri: str) -> str:
    """The address that it names; "" for none."""
    try:
        return mail_address(uri).key
    except ValueError:
        return ""


def _ascii(domain: str) -> str:
    domain = parse_domain(domain)
    return domain if domain.isascii() else to_ascii(domain)
