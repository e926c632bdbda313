"""All about reports of DMARC in one hub: what it tells other domains, and what others tell it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from mailhub.delivery.authentication.aggregates import AggregateReports
from mailhub.delivery.authentication.failures import FailureReports
from mailhub.delivery.authentication.kept_reports import PART, KeptReports
from mailhub.delivery.authentication.received import ReceivedReports
from mailhub.delivery.authentication.report_options import DmarcReporter
from mailhub.delivery.authentication.seen import Seen
from mailhub.interfaces import Environment, IStates
from mailhub.log import Logger

_log = Logger(namespace="mailhub.delivery.dmarc")

# What the one of a hub is called there (`IHub.shared`).
SHARED = "dmarc reports"

_READING_SECONDS = 8.0  # of what a message may take; it stays mail, whatever comes of it


@attrs.frozen(eq=False)
class DmarcReports:
    """The one of a hub."""

    _aggregates: AggregateReports
    _failures: FailureReports
    _received: ReceivedReports
    _clock: IReactorTime

    @classmethod
    def of(cls, environment: Environment, states: IStates, reporter: Callable[[], DmarcReporter]) -> DmarcReports:
        """`reporter`: the hub as it is now."""
        kept = KeptReports(states.of(PART))
        return cls(
            AggregateReports(environment, states.of("dmarc"), kept, reporter),
            FailureReports(environment, reporter),
            ReceivedReports(environment, kept, reporter),
            environment.clock,
        )

    def start(self) -> None:
        """Report on days that are over, from now on."""
        self._aggregates.start()

    async def stop(self) -> None:
        """Keep what was counted."""
        await self._aggregates.stop()

    async def note(self, seen: Seen | None) -> None:
        """A message has been looked at. Whatever is wrong here, that is nothing to the message."""
        if seen is None or seen.message.origin.rehearsal:
            return
        try:
            if self._received.may_be_one(seen) and await self._is_report(seen):
                return
            self._aggregates.count(seen)
            self._failures.note(seen)
        except CancelledError:
            raise
        except Exception:
            _log.failure("DMARC reports have failed: session={session}", session=seen.message.origin.session_id)

    async def _is_report(self, seen: Seen) -> bool:
        """Whether it is one to us, which has been read then. Raises StoreUnavailable."""
        reading = Deferred.fromCoroutine(self._received.take(seen))
        if reading.called:
            return await reading
        reading.addTimeout(_READING_SECONDS, self._clock)
        try:
            return await reading
        except TimeoutError:
            _log.event("DMARC report takes too long to read", {"session": seen.message.origin.session_id})
            return False
