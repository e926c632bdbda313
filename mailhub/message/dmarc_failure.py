"""Reports on one message that has failed DMARC (RFC 9991), in the format for reports on authentication (RFC 6591)
within that for feedback (RFC 5965)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs

from mailhub.message.dates import format_date
from mailhub.message.header import raw_fields
from mailhub.message.reporting import Part, Sender, composed

DeliveryResult = Literal["delivered", "spam", "policy", "reject", "other"]

_HEADER_LIMIT = 32_768  # octets of the header that is told
_LINE_LIMIT = 900
# What tells how a message has come, and by which its signer finds it: nothing of what is in it, and nobody's name.
_FIELDS = frozenset(
    {b"received", b"dkim-signature", b"date", b"message-id", b"mime-version", b"content-type", b"list-id"}
    | {b"content-transfer-encoding", b"arc-seal", b"arc-message-signature", b"arc-authentication-results"}
)
_QUOTED = re.compile(r'"[^"]*"')
_WORD = re.compile(r"""[^\s<>()\[\]",;:=]+""")
_KEPT_AS_THEY_ARE = frozenset({b"message-id", b"content-type", b"mime-version", b"date"})
_UNPRINTABLE = re.compile(r"[^ -~]+")


@attrs.frozen
class FailedSignature:
    """Of a domain that is aligned."""

    domain: str
    identity: str
    selector: str


@attrs.frozen
class Failure:
    """What there is to tell. `domain` is that of From; `failed` which of "dkim" and "spf" have not passed for a domain
    that is aligned. `spf_record`: the domain of MAIL FROM, if that is aligned, and its record."""

    domain: str
    source: str
    sender_domain: str
    arrived: int
    failed: tuple[str, ...]
    results: Sequence[str]
    delivery: DeliveryResult
    header: bytes
    signature: FailedSignature | None = None
    spf_record: tuple[str, str] | None = None


def failure_message(sender: Sender, to: str, failure: Failure, generator: str, unique: str, now: int) -> bytes:
    """The report as mail. `unique` is what nobody can foresee: neither the Message-ID nor the boundary."""
    header = [
        f"From: <{sender.contact}>",
        f"To: <{to}>",
        f"Date: {format_date(now)}",
        f"Subject: DMARC failure report for {failure.domain}",
        f"Message-ID: <{unique}@{sender.host}>",
    ]
    text = Part.text(
        f"This is an authentication failure report for a message from {failure.domain}",
        f"that {sender.host} received from {failure.source} on {format_date(failure.arrived)}.",
    )
    told = Part(["Content-Type: message/feedback-report"], _feedback(sender, failure, generator))
    fields = Part(["Content-Type: text/rfc822-headers; charset=us-ascii"], redacted(failure.header, failure.domain))
    content_type = "multipart/report; report-type=feedback-report"
    return composed(header, content_type, f"=_{unique}", [text, told, fields])


def _feedback(sender: Sender, failure: Failure, generator: str) -> list[str]:
    lines = [
        "Feedback-Type: auth-failure",
        f"User-Agent: {generator}",
        "Version: 1",
        "Auth-Failure: dmarc",
        f"Authentication-Results: {sender.host};",
        *[f" {_line(each)};" for each in failure.results[:-1]],
        *[f" {_line(each)}" for each in failure.results[-1:] or ["none"]],
        f"Identity-Alignment: {', '.join(failure.failed) or 'none'}",
        f"Delivery-Result: {failure.delivery}",
        f"Arrival-Date: {format_date(failure.arrived)}",
        f"Source-IP: {failure.source}",
        f"Reported-Domain: {failure.domain}",
    ]
    if failure.sender_domain:
        lines.append(f"Original-Mail-From: <redacted@{failure.sender_domain}>")
    if (signature := failure.signature) is not None:
        lines += [
            f"DKIM-Domain: {_line(signature.domain)}",
            f"DKIM-Identity: @{_line(signature.identity.rpartition('@')[2])}",
            f"DKIM-Selector: {_line(signature.selector)}",
        ]
    if failure.spf_record is not None:
        domain, record = failure.spf_record
        quoted = _line(record).replace("\\", "\\\\").replace('"', '\\"')
        lines += [f"SPF-DNS: txt : {domain} :", f' "{quoted}"']
    return lines


def redacted(header: bytes, domain: str) -> list[str]:
    """The lines of a header that may be told, without the local parts of addresses (RFC 6590 asks for as much)."""
    lines = [f"From: <redacted@{domain}>"]
    size = 0
    for name, octets in raw_fields(header):
        if name not in _FIELDS:
            continue
        size += len(octets)
        if size > _HEADER_LIMIT:
            break
        told = [_line(line) for line in octets.decode("ascii", "replace").splitlines() if line.strip()]
        lines += told if name in _KEPT_AS_THEY_ARE else [_without_persons(line) for line in told]
    return lines


def _without_persons(line: str) -> str:
    return _line(_WORD.sub(lambda word: _without_local_part(word[0]), _QUOTED.sub('"redacted"', line)))


def _without_local_part(word: str) -> str:
    _, at, domain = word.rpartition("@")
    return f"redacted@{domain}" if at else word


def _line(text: str) -> str:
    return _UNPRINTABLE.sub("?", text.replace("\t", " ").rstrip())[:_LINE_LIMIT]
