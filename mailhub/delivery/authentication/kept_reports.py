"""What others have reported of our domains, as sums in the database: entries `DOMAIN DAY DIGEST` of its state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any

import attrs

from mailhub.interfaces import IState
from mailhub.keys import DAY
from mailhub.message.address import parse_domain, to_ascii
from mailhub.message.dmarc_report import AggregateReport, Row

PART = "dmarc-received"  # of the database's state
REPORTS_LIMIT = 1000  # about one domain and day
_SUMS_LIMIT = 500  # of one report
_OCTETS_LIMIT = 60_000
_TEXT_LIMIT = 255


@attrs.frozen
class Sum:
    """Messages of one report that have all of this in common. `reason` is the first override, "" for none."""

    source: str
    dkim: bool
    spf: bool
    disposition: str
    header_from: str
    reason: str
    count: int

    @property
    def passed(self) -> bool:
        """Whether that is DMARC's pass."""
        return self.dkim or self.spf


@attrs.frozen
class KeptReport:
    """One report. `day` is the UTC day in which it begins, `reporter` what the organization calls itself, `by` the
    domain that it was sent from, "" where that is not known. `left_out`: messages of further sources."""

    domain: str
    day: str
    reporter: str
    by: str
    report_id: str
    policy: str
    sums: tuple[Sum, ...]
    left_out: int = 0


class KeptReports:
    """All of them."""

    def __init__(self, state: IState) -> None:
        self._state = state

    async def keep(self, report: AggregateReport, by: str, days: int) -> KeptReport:
        """Keep it for so many days, in the place of the same one. Raises ValueError for what cannot be kept,
        StoreUnavailable."""
        kept = summed(report, by)
        # A stranger who calls itself as another one does takes nothing from that.
        digest = blake2b(f"{by}\n{report.organization}\n{report.report_id}\n{report.begin}".encode(), digest_size=16)
        await self._state.put({f"{kept.domain} {kept.day} {digest.hexdigest()}": _written(kept)}, days * DAY)
        return kept

    async def count(self, domain: str, day: str, limit: int) -> int:
        """How many there are about a domain (A-labels) and day, up to `limit`. Raises StoreUnavailable."""
        return len(await self._state.items(f"{domain} {day} ", limit))

    async def of(self, domain: str, last: date, days: int) -> Sequence[KeptReport]:
        """Those about a domain (A-labels) and the days up to the last one. Raises StoreUnavailable."""
        found = []
        for number in range(days - 1, -1, -1):
            day = (last - timedelta(number)).isoformat()
            for octets in (await self._state.items(f"{domain} {day} ", REPORTS_LIMIT)).values():
                found.append(_read(domain, day, json.loads(octets)))
        return found


def day_of(instant: int) -> str:
    """The day in UTC of a moment in seconds since the epoch."""
    return datetime.fromtimestamp(instant, UTC).date().isoformat()


def summed(report: AggregateReport, by: str) -> KeptReport:
    """The sums of a report, the largest ones. Raises ValueError where its domain is none."""
    domain = parse_domain(report.published.domain)
    domain = domain if domain.isascii() else to_ascii(domain)
    if domain.startswith("["):
        raise ValueError("is about an address")
    counts: dict[tuple[Any, ...], int] = {}
    for row, count in report.rows:
        key = _key(row)
        counts[key] = counts.get(key, 0) + count
    largest = sorted(counts.items(), key=lambda item: -item[1])
    sums = [Sum(*(*key, count)) for key, count in largest[:_SUMS_LIMIT]]
    return KeptReport(
        domain=domain,
        day=day_of(report.begin),
        reporter=report.organization[:_TEXT_LIMIT],
        by=by[:_TEXT_LIMIT],
        report_id=report.report_id[:_TEXT_LIMIT],
        policy=report.published.policy[:_TEXT_LIMIT],
        sums=tuple(sums),
        left_out=sum(counts.values()) - sum(each.count for each in sums),
    )


def _key(row: Row) -> tuple[Any, ...]:
    reason = row.reasons[0].type[:_TEXT_LIMIT] if row.reasons else ""
    return row.source, row.dkim, row.spf, row.disposition, row.header_from[:_TEXT_LIMIT], reason


def _written(kept: KeptReport) -> bytes:
    """Of one that is too long half of the sums are left out, and again."""
    while True:
        values = {
            "reporter": kept.reporter,
            "by": kept.by,
            "id": kept.report_id,
            "policy": kept.policy,
            "left_out": kept.left_out,
            "sums": [attrs.astuple(each) for each in kept.sums],
        }
        octets = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if len(octets) <= _OCTETS_LIMIT:
            return octets
        half = len(kept.sums) // 2
        left_out = kept.left_out + sum(each.count for each in kept.sums[half:])
        kept = attrs.evolve(kept, sums=kept.sums[:half], left_out=left_out)


def _read(domain: str, day: str, values: Mapping[str, Any]) -> KeptReport:
    sums = tuple([Sum(*each) for each in values["sums"]])
    texts = values["reporter"], values["by"], values["id"], values["policy"]
    return KeptReport(domain, day, *texts, sums, values["left_out"])
