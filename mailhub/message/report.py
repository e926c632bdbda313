"""Delivery status notifications (RFC 3464 in RFC 6522's multipart/report; RFC 6533 for SMTPUTF8)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Literal, get_args

import attrs

from mailhub.message.address import Address, literal_of
from mailhub.message.envelope import FutureRelease, OriginalRecipient, Outcome, Source, State
from mailhub.message.esmtp import future_release_request
from mailhub.message.header import whole_fields
from mailhub.message.long_lines import LINE_LIMIT

HEADER_LIMIT = 1 << 16  # octets of the original header that go back
MESSAGE_LIMIT = 1 << 18  # octets of the original, where the whole of it is to go back; of a larger one the header does
_REPLY_LIMIT = 900  # characters

_NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_NOT_7BIT = re.compile(rb"[^\r\n\t -~]|\r(?!\n)|(?<!\r)\n")
_NO_TEXT = re.compile(rb"\0|\r(?!\n)|(?<!\r)\n")
_NUMBER = r"(?:0|[1-9][0-9]{0,2})"
_STATUS = re.compile(rf"[245]\.{_NUMBER}\.{_NUMBER}")
_REPLY = re.compile(r"[2-5][0-9]{2}(?: |$)")
_LOCAL = "unix:"
# A socket's name, or an absolute path that is no part of a URL.
_PATH = re.compile(rf"{_LOCAL}[^\s:]+:?|(?<![\w/.:])/[\w.+-]+/[^\s'\"<>:;,)]*")
_LINE_END = re.compile(rb"\r?\n|\r")

Action = Literal["failed", "delayed", "relayed", "expanded", "delivered"]  # RFC 3464 2.3.3, the worst one first

_SUBJECTS: dict[Action, str] = {
    "failed": "Undelivered mail: it could not be delivered to one or more recipients",
    "delayed": "Delayed mail: it is still being delivered to one or more recipients",
    "relayed": "Relayed mail: it went on to systems that tell no more of it",
    "expanded": "Delivered mail: it reached its recipients",
    "delivered": "Delivered mail: it reached its recipients",
}
_OPENINGS: dict[Action, str] = {
    "failed": "Your message could not be delivered to the following recipients.\nIt will not be tried again.",
    "delayed": "Your message could not yet be delivered to the following recipients.\n"
    "You need not send it again: delivery is still being tried.",
    "relayed": "Your message went on to the mail systems of the following recipients.\n"
    "They will not tell you when it is delivered.",
    "expanded": "Your message reached the following addresses, and was sent on to those behind them.",
    "delivered": "Your message was delivered to the following recipients.",
}
_STATUS_OF: dict[Action, str] = {"failed": "5.0.0", "delayed": "4.0.0"}
_SUCCESS = "2.0.0"


@attrs.frozen
class ReportedRecipient:
    """One recipient's fate. `original` is the address that was named to us, where that led to another one; `orcpt` what
    the sender's program gave to know the recipient by. `tried`: when it was last tried, and `until` when that will end,
    RFC 5322 date-times or ""."""

    recipient: Address
    outcome: Outcome
    original: Address | None = None
    orcpt: OriginalRecipient | None = None
    tried: str = ""
    until: str = ""

    @property
    def action(self) -> Action:
        """RFC 3464 2.3.3. Who has taken it over SMTP and tells nothing itself has but relayed it."""
        match self.outcome.state:
            case State.FAILED:
                return "failed"
            case State.DELAYED:
                return "delayed"
            case State.EXPANDED:
                return "expanded"
            case State.DELIVERED:
                return "relayed" if self.outcome.protocol == "smtp" else "delivered"


@attrs.frozen(kw_only=True)
class Report:
    """All that goes into a DSN. `to` is the reverse-path of the message; the DSN itself goes out with the null one.

    Dates are RFC 5322 date-times, "" for an unknown `arrival_date`, and where BY has set no time; `message_id` has its
    angle brackets; `boundary` must not occur in the rest; `header` is the original's. `message` is the whole original,
    where the sender asked for it (RET=FULL), something failed, and it is not over `MESSAGE_LIMIT`. `hold`: for how
    long the sender wanted it held. `log_id` is what our log calls it. `received_from`: who has sent it to us.
    `smtputf8`: the DSN may be sent with SMTPUTF8; `no_tls`: and in the clear, as the message might.
    """

    hostname: str
    to: Address
    recipients: Sequence[ReportedRecipient]
    date: str
    message_id: str
    boundary: str
    header: bytes
    arrival_date: str = ""
    envelope_id: str = ""
    hold: FutureRelease | None = None
    deliver_by: str = ""
    smtputf8: bool = False
    message: bytes = b""
    log_id: str = ""
    received_from: str = ""
    no_tls: bool = False

    @property
    def actions(self) -> list[Action]:
        """Those that there are, the worst one first."""
        there = {each.action for each in self.recipients}
        return [action for action in get_args(Action) if action in there]


def delivery_status(report: Report) -> bytes:
    """The whole message, header and body, with CRLF line ends; 7bit unless `smtputf8`, or 8bit goes back in it."""
    mark = b"--" + report.boundary.encode("ascii")
    returned = _whole(report) or _header_alone(report)
    encoding = "8bit" if report.smtputf8 else "7bit"
    status_type = "message/global-delivery-status" if report.smtputf8 else "message/delivery-status"
    return b"".join(
        [
            _header(report, encoding if returned.isascii() else "8bit"),
            b"This is a delivery status notification in MIME format.\r\n\r\n",
            mark,
            _part(f"text/plain; charset={'utf-8' if report.smtputf8 else 'us-ascii'}", encoding, _words(report)),
            mark,
            _part(status_type, encoding, _status(report)),
            mark,
            returned,
            mark,
            b"--\r\n",
        ]
    )


def _header(report: Report, encoding: str) -> bytes:
    return _lines(
        f"From: Mail Delivery System <postmaster@{report.hostname}>",  # RFC 3464 2: whom a reply reaches
        f"To: <{_address(report.to, report)}>",
        f"Subject: {_SUBJECTS[report.actions[0]]}",
        f"Date: {report.date}",
        f"Message-ID: {report.message_id}",
        "Auto-Submitted: auto-replied",
        *(["TLS-Required: No"] if report.no_tls else []),
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{report.boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
        "",
    )


def _part(kind: str, encoding: str, body: bytes) -> bytes:
    return _lines("", f"Content-Type: {kind}", f"Content-Transfer-Encoding: {encoding}", "") + body + b"\r\n"


def _words(report: Report) -> bytes:
    """The part for people."""
    lines = [f"This is the mail system at {report.hostname}.", ""]
    for action in report.actions:
        lines += [*_OPENINGS[action].split("\n"), ""]
        for each in [each for each in report.recipients if each.action == action]:
            lines.append(f"  <{_address(each.recipient, report)}>")
            if each.original is not None:
                lines.append(f"    (you wrote to <{_address(each.original, report)}>)")
            if each.until:
                lines.append(f"    (until {each.until})")
            lines += [f"    {said}" for said in [_said(each, report)] if said] + [""]
    return _lines(*lines[:-1])


def _said(each: ReportedRecipient, report: Report) -> str:
    outcome = each.outcome
    if not _has_reason(each):
        return ""
    said = _reply(outcome, report) or "no reason was given"
    host = _host(outcome, report)
    return f"{host} said: {said}" if host and outcome.source is Source.REMOTE else f"{_status_code(each)}: {said}"


def _has_reason(each: ReportedRecipient) -> bool:
    """Whether anything is said beside the action. What our own stores say of success is for the log."""
    return each.action in _STATUS_OF or each.outcome.source is Source.REMOTE


def _host(outcome: Outcome, report: Report) -> str:
    """The host that was spoken with, an IP address as literal; "" for none, or for a socket of this machine."""
    if outcome.source is Source.OURS or outcome.remote.startswith(_LOCAL):
        return ""
    return literal_of(outcome.remote) or _text(outcome.remote, report)


def _reply(outcome: Outcome, report: Report) -> str:
    """What is said of the failure; where our files and sockets are is nobody's business."""
    theirs = outcome.source is Source.REMOTE and _host(outcome, report)
    return _text(outcome.reply if theirs else _PATH.sub("a local service", outcome.reply), report)


def _status(report: Report) -> bytes:
    """The part for programs: the fields of the message, then a group a recipient (RFC 3464 2.1)."""
    lines = [f"Original-Envelope-Id: {_text(report.envelope_id, report)}"] if report.envelope_id else []
    # RFC 3461 6.3: "dns" is for a name that is fully qualified.
    lines.append(f"Reporting-MTA: {'dns' if '.' in report.hostname else 'x-local-hostname'}; {report.hostname}")
    if report.received_from:
        lines.append(f"Received-From-MTA: dns; {_text(report.received_from, report)}")
    if report.arrival_date:
        lines.append(f"Arrival-Date: {report.arrival_date}")
    if report.deliver_by:  # RFC 2852
        lines.append(f"Deliver-By-Date: {report.deliver_by}")
    if report.hold is not None:  # RFC 4865 5
        lines.append(f"Future-Release-Request: {future_release_request(report.hold)}")
    for each in report.recipients:
        lines.append("")
        if each.orcpt is not None:  # and only then, RFC 3461 6.3
            lines.append(f"Original-Recipient: {_original(each.orcpt, report)}")
        # RFC 3464 2.3.2: as it was when the message was accepted, wherever it has led since.
        lines.append(f"Final-Recipient: {_typed(each.original or each.recipient, report)}")
        lines.append(f"Action: {each.action}")
        lines.append(f"Status: {_status_code(each)}")
        host = _host(each.outcome, report)
        if host:
            lines.append(f"Remote-MTA: dns; {host}")
        if each.outcome.reply and _has_reason(each):
            reply = _reply(each.outcome, report)
            theirs = host and each.outcome.source is Source.REMOTE and _REPLY.match(reply)
            lines.append(f"Diagnostic-Code: {'smtp' if theirs else 'x-mailhub'}; {reply}")
        if each.tried:
            lines.append(f"Last-Attempt-Date: {each.tried}")
        if report.log_id:
            lines.append(f"Final-Log-ID: {_text(report.log_id, report)}")
        if each.until:
            lines.append(f"Will-Retry-Until: {each.until}")
        if host and each.original is not None:  # RFC 3461 6.3
            lines.append(f"SMTP-Remote-Recipient: {_typed(each.recipient, report)}")
    return _lines(*lines)


def _status_code(each: ReportedRecipient) -> str:
    """RFC 3464 2.3.4 has no other form, whatever a next hop said."""
    status = each.outcome.status
    return status if _STATUS.fullmatch(status) else _STATUS_OF.get(each.action, _SUCCESS)


def _whole(report: Report) -> bytes:
    """The original as it came. Nothing where it has what no message/rfc822 may have (RFC 2046 5.2.1: it can be given no
    other form), or what the sender's own host may be unable to take."""
    message = report.message
    if not message or len(message) > MESSAGE_LIMIT or _NO_TEXT.search(message) is not None:
        return b""
    if max(map(len, message.split(b"\r\n"))) > LINE_LIMIT:
        return b""
    kind = "message/global" if report.smtputf8 else "message/rfc822"
    return _part(kind, "7bit" if message.isascii() else "8bit", message)


def _header_alone(report: Report) -> bytes:
    """The original's header (RFC 6522 4); in quoted-printable where it is no 7bit text."""
    header = report.header.rstrip(b"\r\n")
    header = whole_fields(header, HEADER_LIMIT).rstrip(b"\r\n")
    header += b"\r\n"
    kind = "message/global-headers" if report.smtputf8 else "text/rfc822-headers"
    clean = _clean_lines(header)
    if max(map(len, clean.split(b"\r\n"))) <= LINE_LIMIT:
        if report.smtputf8:
            return _part(kind, "8bit", clean)
        if _NOT_7BIT.search(header) is None:
            return _part(kind, "7bit", header)
    encoded = _LINE_END.sub(b"\r\n", binascii.b2a_qp(clean, istext=True))
    return _part(kind, "quoted-printable", encoded)


def _clean_lines(octets: bytes) -> bytes:
    """CRLF alone as line end, and no NUL."""
    return _LINE_END.sub(b"\r\n", octets.replace(b"\0", b"?"))


def _typed(address: Address, report: Report) -> str:
    """An address with its address-type: RFC 3464 2.3.2, RFC 6533 3 (in 7bit the utf-8-addr-xtext form)."""
    if address.is_ascii:
        return f"rfc822; {address}"
    if report.smtputf8:
        return f"utf-8; {address}"
    return f"utf-8; {_escaped(str(address))}"


def _original(orcpt: OriginalRecipient, report: Report) -> str:
    """RFC 3464 2.3.1; what the sender gave may be anything."""
    address = orcpt.address
    if not report.smtputf8 and (orcpt.type.lower() == "utf-8" or not address.isascii()):
        address = _escaped(address)
    return f"{orcpt.type}; {_text(address, report)}"


def _escaped(text: str) -> str:
    """RFC 6533 3 utf-8-addr-xtext: what is not printable US-ASCII, and "\\", "+" and "=", as `\\x{HEX}`."""
    return "".join([each if "!" <= each <= "~" and each not in "\\+=" else f"\\x{{{ord(each):02X}}}" for each in text])


def _address(address: Address, report: Report) -> str:
    """For people and for the To field: as an A-label where that makes it ASCII."""
    if report.smtputf8 or address.is_ascii:
        return str(address)
    if address.local.isascii():
        return str(Address(address.local, address.ascii_domain))
    return _escaped(str(address))


def _text(text: str, report: Report) -> str:
    """One line of a stranger's text: it cannot end the field it stands in."""
    text = _NOT_PRINTABLE.sub(" ", text)[:_REPLY_LIMIT].strip()
    return text if report.smtputf8 else text.encode("ascii", "replace").decode("ascii")


def _lines(*lines: str) -> bytes:
    return b"".join([_folded(line.encode()) + b"\r\n" for line in lines])


def _folded(line: bytes) -> bytes:
    """A line that is too long goes on in the next, after a space: at a space or before an @, where there is one in its
    second half, else in the middle of a word."""
    pieces = []
    while len(line) > LINE_LIMIT:
        head = line[:LINE_LIMIT].decode("utf-8", "ignore").encode()
        at = max(head.rfind(b" "), head.rfind(b"@"))
        at = at if at > LINE_LIMIT // 2 else len(head)
        pieces.append(line[:at])
        line = b" " + line[at:].lstrip(b" ")
    return b"\r\n".join([*pieces, line])
