"""Aggregate reports of DMARC (RFC 9990): what is in one, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal
from xml.sax.saxutils import escape

import attrs

from mailhub.message.dates import format_date
from mailhub.message.reporting import Part, Sender, composed

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
TEXT_LIMIT = 1000  # characters of one text, as it is read and written

Disposition = Literal["none", "pass", "quarantine", "reject"]

# What XML cannot hold (XML 1.0 2.2), and what it would not hold as it is.
_NO_TEXT = re.compile("[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


@attrs.frozen
class Published:
    """The policy that was found: whose, and its tags, with their defaults where they were not said; "" for sp= and np=
    that were not, and for what a report of others does not tell. `failures` is fo=."""

    domain: str
    policy: str = "none"
    subdomains: str = ""
    nonexistent: str = ""
    dkim: str = ""
    spf: str = ""
    failures: str = ""
    testing: str = ""
    discovery: str = ""


@attrs.frozen
class DkimResult:
    """Of one signature (RFC 8601 2.7.1)."""

    domain: str
    selector: str
    result: str


@attrs.frozen
class SpfResult:
    """Of MAIL FROM (RFC 8601 2.7.2)."""

    domain: str
    result: str


@attrs.frozen
class Reason:
    """Why something else was done than the policy says."""

    type: str
    comment: str = ""


@attrs.frozen
class Row:
    """What messages have in common that are counted together. `dkim` and `spf`: whether that has passed for a domain
    that is aligned. `envelope_from` is "" for the null sender, None where it is not told; `envelope_to` is "" where it
    is not."""

    source: str
    disposition: Disposition = "none"
    dkim: bool = False
    spf: bool = False
    reasons: tuple[Reason, ...] = ()
    header_from: str = ""
    envelope_from: str | None = None
    envelope_to: str = ""
    dkim_results: tuple[DkimResult, ...] = ()
    spf_result: SpfResult | None = None


@attrs.frozen
class AggregateReport:
    """One report. `begin` and `end` in seconds since the epoch, both of them in the time that it is about. `unread`:
    how many rows of others make no sense."""

    organization: str
    contact: str
    report_id: str
    begin: int
    end: int
    published: Published
    rows: Sequence[tuple[Row, int]]
    error: str = ""
    generator: str = ""
    unread: int = 0


def written(report: AggregateReport) -> bytes:
    """The XML document (RFC 9990 3.1)."""
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', *_feedback(report), ""]).encode()


def _feedback(report: AggregateReport) -> Iterator[str]:
    published = report.published
    yield f'<feedback xmlns="{NAMESPACE}">'
    yield "  <version>1.0</version>"
    yield "  <report_metadata>"
    yield f"    <org_name>{_text(report.organization)}</org_name>"
    yield f"    <email>{_text(report.contact)}</email>"
    yield f"    <report_id>{_text(report.report_id)}</report_id>"
    yield f"    <date_range><begin>{report.begin}</begin><end>{report.end}</end></date_range>"
    yield from _some("    ", ("error", report.error), ("generator", report.generator))
    yield "  </report_metadata>"
    yield "  <policy_published>"
    yield f"    <domain>{_text(published.domain)}</domain>"
    yield from _some("    ", ("discovery_method", published.discovery))
    yield f"    <p>{_text(published.policy)}</p>"
    yield from _some(
        "    ",
        ("sp", published.subdomains),
        ("np", published.nonexistent),
        ("fo", published.failures),
        ("adkim", published.dkim),
        ("aspf", published.spf),
        ("testing", published.testing),
    )
    yield "  </policy_published>"
    for row, count in report.rows:
        yield from _record(row, count)
    yield "</feedback>"


def _record(row: Row, count: int) -> Iterator[str]:
    yield "  <record>"
    yield f"    <row><source_ip>{_text(row.source)}</source_ip><count>{count}</count>"
    yield "      <policy_evaluated>"
    yield f"        <disposition>{row.disposition}</disposition>"
    yield f"        <dkim>{_passed(row.dkim)}</dkim><spf>{_passed(row.spf)}</spf>"
    for reason in row.reasons:
        comment = f"<comment>{_text(reason.comment)}</comment>" if reason.comment else ""
        yield f"        <reason><type>{_text(reason.type)}</type>{comment}</reason>"
    yield "      </policy_evaluated>"
    yield "    </row>"
    yield "    <identifiers>"
    yield f"      <header_from>{_text(row.header_from)}</header_from>"
    if row.envelope_from is not None:
        yield f"      <envelope_from>{_text(row.envelope_from)}</envelope_from>"
    yield from _some("      ", ("envelope_to", row.envelope_to))
    yield "    </identifiers>"
    yield "    <auth_results>"
    for each in row.dkim_results:
        words = (("domain", each.domain), ("selector", each.selector), ("result", each.result))
        yield f"      <dkim>{_all(words)}</dkim>"
    if row.spf_result is not None:
        words = (("domain", row.spf_result.domain), ("scope", "mfrom"), ("result", row.spf_result.result))
        yield f"      <spf>{_all(words)}</spf>"
    yield "    </auth_results>"
    yield "  </record>"


def _some(indent: str, *elements: tuple[str, str]) -> Iterator[str]:
    """Those that say something."""
    yield from (f"{indent}<{name}>{_text(text)}</{name}>" for name, text in elements if text)


def _all(elements: Sequence[tuple[str, str]]) -> str:
    return "".join([f"<{name}>{_text(text)}</{name}>" for name, text in elements])


def _text(text: str) -> str:
    return escape(_NO_TEXT.sub("?", text[:TEXT_LIMIT]).strip(" "))


def _passed(passed: bool) -> str:
    return "pass" if passed else "fail"


def aggregate_message(sender: Sender, to: str, report: AggregateReport, packed: bytes, now: int, number: int) -> bytes:
    """A report as mail (RFC 9990 3.5.2). `packed` is the document in gzip, `number` which of its addresses it is for.
    File name, Report-ID and unique-id are the same when it has to be sent once more."""
    domain = report.published.domain
    name = f"{sender.domain}!{domain}!{report.begin}!{report.end}!{report.report_id}.xml.gz"
    header = [
        f"From: <{sender.contact}>",
        f"To: <{to}>",
        f"Date: {format_date(now)}",
        f"Subject: Report Domain: {domain}",  # names of 255 octets each would be too much for one line
        f" Submitter: {sender.domain}",
        f" Report-ID: <{report.report_id}>",
        f"Message-ID: <{report.report_id}.{number}@{sender.host}>",
    ]
    text = Part.text(
        f"This is an aggregate report of DMARC about mail from {domain},",
        f"as {sender.host} has seen it. What is attached is for programs.",
    )
    file = Part.file(name, "application/gzip", packed)
    return composed(header, "multipart/mixed", f"=_{report.report_id}", [text, file])
