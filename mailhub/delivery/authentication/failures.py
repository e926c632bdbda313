"""Tells domains that want it of each message that has failed, at once (RFC 9991). Off, unless somebody asks for it:
such a report says who has got mail from whom."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from mailhub import __version__
from mailhub.checks.dkim import Verified
from mailhub.checks.dmarc.evaluate import Dmarc
from mailhub.checks.spf.record import is_spf
from mailhub.delivery.authentication.destinations import destinations, wanted
from mailhub.delivery.authentication.report_options import DmarcReporter
from mailhub.delivery.authentication.seen import Seen
from mailhub.delivery.reporting import mailed
from mailhub.errors import MailError
from mailhub.interfaces import Environment
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.dmarc_failure import DeliveryResult, FailedSignature, Failure, failure_message

_log = Logger(namespace="mailhub.delivery.dmarc")

PER_DOMAIN = 20  # reports a day
_A_DAY = 1000  # of all domains
_AT_ONCE = 10
_RESULTS: dict[str, DeliveryResult] = {"accept": "delivered", "quarantine": "spam", "reject": "reject"}


class FailureReports:
    """Those of a hub."""

    def __init__(self, environment: Environment, reporter: Callable[[], DmarcReporter]) -> None:
        """`reporter`: the hub as it is now."""
        self._environment = environment
        self._reporter = reporter
        self._day = -1
        self._told: dict[str, int] = {}  # on that day
        self._under_way = 0

    def note(self, seen: Seen) -> None:
        """Report on a message, where its domain wants that; the message does not wait for it."""
        if self._reporter().settings.dmarc.failure_reports == "off" or not is_wanted(seen):
            return
        found, day = seen.dmarc.found, self._environment.now() // DAY
        if day != self._day:
            self._day, self._told = day, {}
        domain = found.domain if found else ""
        told = self._told.get(domain, 0)
        if told >= PER_DOMAIN or sum(self._told.values()) >= _A_DAY or self._under_way >= _AT_ONCE:
            return
        self._told[domain] = told + 1
        self._under_way += 1
        Deferred.fromCoroutine(self._send(seen, domain)).addErrback(
            lambda failure: _log.failure("a failure report of DMARC has failed", failure)
        )

    async def _send(self, seen: Seen, domain: str) -> None:
        try:
            await self._tell(seen, domain)
        except MailError as error:
            _log.event("DMARC failure report not sent", {"domain": domain, "reason": error.detail or error.text})
        finally:
            self._under_way -= 1

    async def _tell(self, seen: Seen, domain: str) -> None:
        """Raises MailError."""
        record, resolver = seen.dmarc.record, self._environment.resolver
        if record is None:
            return
        arrived = self._environment.now()
        failure = Failure(
            domain=seen.dmarc.domain,
            source=seen.message.origin.peer,
            sender_domain=seen.row.envelope_from or "",
            arrived=arrived,
            failed=tuple(name for name, passed in (("dkim", seen.dmarc.dkim), ("spf", seen.dmarc.spf)) if not passed),
            results=seen.results,
            delivery=_RESULTS.get(seen.verdict.action, "other"),
            header=seen.message.header,
            signature=_failed_signature(seen),
            spf_record=await self._spf_record(seen),
        )
        reporter = self._reporter()
        sender = reporter.settings.dmarc.sender(reporter.hostname)
        for to in wanted(record, "failure"):
            for each in await destinations(domain, to, "failure", resolver):
                unique = f"{self._environment.random.getrandbits(80):020x}"
                generator = f"mailhub/{__version__}"
                message = failure_message(sender, str(each.address), failure, generator, unique, arrived)
                if each.size_limit is None or len(message) <= each.size_limit:
                    await mailed(reporter, "dmarc", sender, each.address, message)
                    _log.event("DMARC failure report sent", {"domain": domain, "to": each.address})

    async def _spf_record(self, seen: Seen) -> tuple[str, str] | None:
        """RFC 6591 3.2.6: of a domain that is aligned and has not passed. Raises TemporaryError."""
        spf = seen.spf
        if spf is None or spf.value == "pass" or not _is_aligned(spf.domain, seen.dmarc):
            return None
        texts = [each for each in await self._environment.resolver.texts(spf.domain) if is_spf(each)]
        return (spf.domain, texts[0].decode("ascii", "replace")) if texts else None


def is_wanted(seen: Seen) -> bool:
    """Whether the record asks for a report on such a message (RFC 9989 4.7, fo=). A public suffix is told of no message
    (RFC 9991 2), and nobody of what comes from nobody, as reports do."""
    dmarc, record = seen.dmarc, seen.dmarc.record
    if record is None or not record.failure or record.psd == "y" or seen.message.mail.reverse_path is None:
        return False
    if dmarc.value not in ("pass", "fail"):
        return False
    signatures = [each.value for each in seen.dkim if each.signature is not None]
    wants = {
        "0": dmarc.value == "fail",
        "1": not (dmarc.dkim and dmarc.spf),
        "d": any(value != "pass" for value in signatures),
        "s": seen.spf is not None and seen.spf.value != "pass",
    }
    return any(wants[letter] for letter in record.failures)


def _failed_signature(seen: Seen) -> FailedSignature | None:
    for each in seen.dkim:
        if each.value != "pass" and (found := _signature(each, seen.dmarc)) is not None:
            return found
    return None


def _signature(verified: Verified, dmarc: Dmarc) -> FailedSignature | None:
    signature = verified.signature
    if signature is None or not _is_aligned(signature.domain, dmarc):
        return None
    return FailedSignature(signature.domain, signature.identity, signature.selector)


def _is_aligned(domain: str, dmarc: Dmarc) -> bool:
    """As far as can be told without another look-up."""
    return domain == dmarc.domain or f".{domain}".endswith(f".{dmarc.organizational or dmarc.domain}")
