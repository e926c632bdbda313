"""`mailhub dmarc`: what other servers report of mail that says it is from our domains (RFC 9990)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from mailhub.cli.dmarc_picture import Bar, picture
from mailhub.cli.offline import opened
from mailhub.config.settings import load
from mailhub.delivery.authentication.kept_reports import PART, KeptReport, KeptReports, Sum
from mailhub.errors import ConfigurationError
from mailhub.log import clean
from mailhub.message.address import parse_domain, to_ascii
from mailhub.message.dmarc_report import AggregateReport
from mailhub.message.dmarc_report_reading import MESSAGE_LIMIT, read_report, reports_in

_DAYS = 3650  # that may be asked for
_REPORTERS = 3  # that stand in one line


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "dmarc",
        help="what other servers report of mail from our domains",
        description="Servers report once a day to whom the record _dmarc of a domain names in rua=. Where such a "
        "report comes to an address of ours, what it says is kept, beside the mail itself.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    report = actions.add_parser("report", help="who sends mail of a domain, and what becomes of it")
    report.add_argument("domain", metavar="DOMAIN", help="whose record it is")
    report.add_argument("--days", metavar="N", type=int, default=30, help="up to today, by default 30")
    report.add_argument("--json", action="store_true", help="one object, with all reports, for programs")
    report.add_argument("--picture", metavar="FILE.svg", type=Path, help="draw it, too")
    report.set_defaults(run=_report)

    taking = actions.add_parser(
        "import",
        help="read reports from files",
        description="Reports as files (XML, gzip or zip) or as messages that have some attached.",
    )
    taking.add_argument("files", metavar="FILE", nargs="+", type=Path)
    taking.set_defaults(run=_import)


# --- Import ----------------------------------------------------------------------------------------------------------


def _import(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    done = True
    with opened(config) as hub:
        kept = KeptReports(hub.database.state.of(PART))
        for file in arguments.files:
            try:
                for report in _reports(file):
                    told = hub.wait(kept.keep(report, "", config.dmarc.keep_days))
                    print(
                        _shown(f"{file}: {told.domain} on {told.day}, by {told.reporter}: {_messages(told)} messages")
                    )
            except ValueError as error:
                print(f"mailhub: {_shown(f'{file}: {error}')}", file=sys.stderr)
                done = False
    return 0 if done else 1


def _reports(file: Path) -> Sequence[AggregateReport]:
    """Raises ValueError, OSError."""
    with file.open("rb") as stream:
        octets = stream.read(MESSAGE_LIMIT + 1)
    if len(octets) > MESSAGE_LIMIT:
        raise ValueError("is too large")
    if found := list(reports_in(octets)):
        return found
    return [read_report(octets)]


def _messages(report: KeptReport) -> int:
    return sum(each.count for each in report.sums) + report.left_out


# --- Report ----------------------------------------------------------------------------------------------------------


@attrs.define
class _Line:
    """What is shown in one line of the table."""

    source: str
    spf: bool
    dkim: bool
    disposition: str
    header_from: str
    reason: str
    count: int = 0
    reporters: dict[str, int] = attrs.field(factory=dict)


def _report(arguments: argparse.Namespace) -> None:
    domain = _domain(arguments.domain)
    if not 1 <= arguments.days <= _DAYS:
        raise ConfigurationError(f"--days must be from 1 to {_DAYS}, not {arguments.days}")
    last = datetime.now(UTC).date()
    with opened(load(arguments.config), "read") as hub:
        reports = hub.wait(KeptReports(hub.database.state.of(PART)).of(domain, last, arguments.days))
    lines = _lines(reports)
    if arguments.picture is not None:
        days = [(last - timedelta(back)).isoformat() for back in range(arguments.days - 1, -1, -1)]
        arguments.picture.write_text(_picture(domain, days, reports, lines), encoding="utf-8")
    if arguments.json:
        print(json.dumps(_as_json(domain, last, arguments.days, reports, lines), indent=1))
        return
    if not reports:
        print(f"no reports about {domain} of the last {arguments.days} days")
        return
    for line in _table(domain, reports, lines):
        print(_shown(line))


def _domain(text: str) -> str:
    try:
        domain = parse_domain(text)
        return domain if domain.isascii() else to_ascii(domain)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a domain: {error}") from None


def _lines(reports: Sequence[KeptReport]) -> list[_Line]:
    """What is the same in all of them together, the most first."""
    found: dict[tuple[Any, ...], _Line] = {}
    for report in reports:
        for each in report.sums:
            what = each.source, each.spf, each.dkim, each.disposition, each.header_from, each.reason
            line = found.setdefault(what, _Line(*what))
            line.count += each.count
            line.reporters[report.reporter] = line.reporters.get(report.reporter, 0) + each.count
    return sorted(found.values(), key=lambda line: (-line.count, line.source))


def _table(domain: str, reports: Sequence[KeptReport], lines: Sequence[_Line]) -> list[str]:
    messages = sum(map(_messages, reports))
    passed = sum(line.count for line in lines if line.spf or line.dkim)
    left_out = sum(each.left_out for each in reports)
    days = sorted(each.day for each in reports)
    by = f"{len(reports)} reports by {len({each.reporter for each in reports})}"
    text = [f"{domain}, {days[0]} to {days[-1]}: {by}, {messages} messages, {passed} passed"]
    width = max([len("source"), *(len(line.source) for line in lines)])
    text.append(f"{'source':{width}}  {'count':>9}  spf   dkim  {'disposition':11}  from, reporters")
    for line in lines:
        reason = f" ({line.reason})" if line.reason else ""
        names = sorted(line.reporters, key=lambda name: -line.reporters[name])
        more = f" and {len(names) - _REPORTERS} more" if len(names) > _REPORTERS else ""
        text.append(
            f"{line.source:{width}}  {line.count:>9}  {_passed(line.spf)}  {_passed(line.dkim)}  "
            f"{line.disposition:11}  {line.header_from}{reason}, {', '.join(names[:_REPORTERS])}{more}"
        )
    if left_out:
        text.append(f"{left_out} messages more are from sources that were too many to keep")
    return text


def _passed(passed: bool) -> str:
    return "pass" if passed else "fail"


def _as_json(
    domain: str, last: date, days: int, reports: Sequence[KeptReport], lines: Sequence[_Line]
) -> dict[str, object]:
    return {
        "domain": domain,
        "first": (last - timedelta(days - 1)).isoformat(),
        "last": last.isoformat(),
        "messages": sum(map(_messages, reports)),
        "sources": [attrs.asdict(line) for line in lines],
        "reports": [attrs.asdict(each) for each in reports],
    }


def _picture(domain: str, days: Sequence[str], reports: Sequence[KeptReport], lines: Sequence[_Line]) -> str:
    by_day = {day: Bar(day) for day in days}
    for report in reports:
        for each in report.sums:
            by_day[report.day].add(each.count, kind=_kind(each))
    by_source: dict[str, Bar] = {}
    for line in lines:
        by_source.setdefault(line.source, Bar(line.source)).add(line.count, kind=_kind(line))
    return picture(domain, list(by_day.values()), sorted(by_source.values(), key=lambda bar: -bar.total))


def _kind(each: Sum | _Line) -> int:
    """Which part of a bar: what has passed, what has failed and was delivered all the same, what was not."""
    if each.spf or each.dkim:
        return 0
    return 2 if each.disposition in ("quarantine", "reject") else 1


def _shown(text: str) -> str:
    return clean(text).replace("\n", "\\x0a")
