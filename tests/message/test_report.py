"""DSNs, read back with the standard library."""

from __future__ import annotations

import email
from email.message import Message

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.address import Address
from mailhub.message.envelope import OriginalRecipient, Outcome, Source
from mailhub.message.mime import scan
from mailhub.message.report import HEADER_LIMIT, Report, ReportedRecipient, delivery_status

_BOB = Address.parse("b@yy.example")
_FAILED = ReportedRecipient(
    _BOB,
    Outcome.failed("550 5.1.1 No such user", status="5.1.1", remote="mx.yy.example", source=Source.REMOTE),
    Address.parse("list@xx.example"),
    OriginalRecipient("rfc822", "list@xx.example"),
)
_DELAYED = ReportedRecipient(Address.parse("c@yy.example"), Outcome.delayed("connection refused", status="4.4.1"))
_REPORT = Report(
    hostname="mx.xx.example",
    to=Address.parse("a@xx.example"),
    recipients=[_FAILED, _DELAYED],
    date="Mon, 23 Nov 2026 06:30:00 +0000",
    message_id="<dsn@mx.xx.example>",
    boundary="=_boundary",
    header=b"From: a@xx.example\r\nSubject: s\r\n\r\n",
    arrival_date="Mon, 23 Nov 2026 06:29:00 +0000",
    envelope_id="QQ314159",
)


def read(report: Report) -> tuple[Message, str, list[Message], bytes]:
    """The DSN, the words, the status groups and the returned header, as the standard library reads them."""
    octets = delivery_status(report)
    message = email.message_from_bytes(octets)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert not message.defects
    parts = message.get_payload()
    assert isinstance(parts, list)
    words, status, returned = parts
    assert isinstance(words, Message)
    assert isinstance(status, Message)
    assert isinstance(returned, Message)
    text = words.get_payload(decode=True)
    header = returned.get_payload(decode=True) or vars(returned)["_payload"][0].as_bytes()
    groups = status.get_payload()
    assert isinstance(text, bytes)
    assert isinstance(groups, list)
    assert isinstance(header, bytes)
    return message, text.decode(), [group for group in groups if isinstance(group, Message)], header


def test_report() -> None:
    message, words, (whole, failed, delayed), header = read(_REPORT)
    assert message["To"] == "<a@xx.example>"
    assert message["From"] == "Mail Delivery System <postmaster@mx.xx.example>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<dsn@mx.xx.example>"
    assert "Undelivered" in message["Subject"]
    assert "550 5.1.1 No such user" in words
    assert whole.items() == [
        ("Original-Envelope-Id", "QQ314159"),
        ("Reporting-MTA", "dns; mx.xx.example"),
        ("Arrival-Date", "Mon, 23 Nov 2026 06:29:00 +0000"),
    ]
    assert failed.items() == [
        ("Original-Recipient", "rfc822; list@xx.example"),
        ("Final-Recipient", "rfc822; list@xx.example"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.yy.example"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 No such user"),
        ("SMTP-Remote-Recipient", "rfc822; b@yy.example"),
    ]
    assert delayed.items() == [
        ("Final-Recipient", "rfc822; c@yy.example"),
        ("Action", "delayed"),
        ("Status", "4.4.1"),
        ("Diagnostic-Code", "x-mailhub; connection refused"),
    ]
    assert header.split() == b"From: a@xx.example Subject: s".split()


_SAID = "550 5.7.1 no"


@pytest.mark.parametrize(
    ("remote", "source", "fields", "words"),
    [
        ("mx.yy.example", Source.REMOTE, ["dns; mx.yy.example", f"smtp; {_SAID}"], f"mx.yy.example said: {_SAID}"),
        ("mx.yy.example", Source.SESSION, ["dns; mx.yy.example", f"x-mailhub; {_SAID}"], f"5.7.1: {_SAID}"),
        ("mx.yy.example", Source.OURS, [None, f"x-mailhub; {_SAID}"], f"5.7.1: {_SAID}"),
        ("", Source.OURS, [None, f"x-mailhub; {_SAID}"], f"5.7.1: {_SAID}"),
        ("192.0.2.1", Source.REMOTE, ["dns; [192.0.2.1]", f"smtp; {_SAID}"], f"[192.0.2.1] said: {_SAID}"),
        ("2001:DB8::1%e0", Source.REMOTE, ["dns; [IPv6:2001:db8::1]", f"smtp; {_SAID}"], "[IPv6:2001:db8::1] said"),
        ("unix:/run/lmtp", Source.REMOTE, [None, f"x-mailhub; {_SAID}"], f"5.7.1: {_SAID}"),
    ],
)
def test_what_a_host_said_is_kept_apart_from_what_we_say(
    remote: str, source: Source, fields: list[str | None], words: str
) -> None:
    recipient = ReportedRecipient(_BOB, Outcome.failed(_SAID, status="5.7.1", remote=remote, source=source))
    _, text, (_, group), _ = read(attrs.evolve(_REPORT, recipients=[recipient]))
    assert [group["Remote-MTA"], group["Diagnostic-Code"]] == fields
    assert f"    {words}" in text


@pytest.mark.parametrize("source", [Source.OURS, Source.REMOTE])
@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Cannot connect to unix:/run/lmtp: no such file", "Cannot connect to a local service no such file"),
        ("[Errno 2] No such file: '/var/spool/box/a b'", "[Errno 2] No such file: 'a local service b'"),
        ("open(/home/a/.forward): denied", "open(a local service): denied"),
        ("see https://xx.example/why/not and 1/2/3, or text/plain", ""),
    ],
)
def test_paths_of_this_machine_are_told_to_nobody(said: str, told: str, source: Source) -> None:
    outcome = Outcome.failed(said, remote="unix:/run/lmtp", source=source)
    octets = delivery_status(attrs.evolve(_REPORT, recipients=[ReportedRecipient(_BOB, outcome)]))
    assert f"Diagnostic-Code: x-mailhub; {told or said}\r\n".encode() in octets


def test_paths_of_a_host_spoken_to_are_its_own() -> None:
    outcome = Outcome.failed("550 /etc/mail/access says no", remote="mx.yy.example", source=Source.REMOTE)
    octets = delivery_status(attrs.evolve(_REPORT, recipients=[ReportedRecipient(_BOB, outcome)]))
    assert b"Diagnostic-Code: smtp; 550 /etc/mail/access says no\r\n" in octets


@pytest.mark.parametrize("smtputf8", [False, True])
def test_no_line_is_longer_than_a_line_may_be(smtputf8: bool) -> None:
    long = Address("\u00f6" * 128, ".".join(["\u00fc" * 50] * 4))
    reply = " ".join(["\u20ac" * 99] * 20)
    recipients = [
        ReportedRecipient(long, Outcome.failed(text, remote="x" * 2000), long) for text in (reply, "\u20ac" * 5000)
    ]
    header = b"Subject: " + "\u00fc".encode() * 3000 + b"\r\n"
    report = attrs.evolve(_REPORT, to=long, recipients=recipients, header=header, smtputf8=smtputf8)
    octets = delivery_status(report)
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    text = octets.decode("utf-8" if smtputf8 else "ascii")
    assert text.count("Diagnostic-Code: ") == 2
    assert text.count("\u20ac" if smtputf8 else "?") > 3000
    assert b"=C3=BC" in octets


def test_subjects_tell_the_worst() -> None:
    delivered = attrs.evolve(_DELAYED, outcome=Outcome.delivered())
    for recipients, word in (([_DELAYED, delivered], "Delayed"), ([delivered], "Delivered")):
        message, words, groups, _ = read(attrs.evolve(_REPORT, recipients=recipients))
        assert message["Subject"].startswith(word)
        assert len(groups) == 1 + len(recipients)
        assert "delivered" in words


@pytest.mark.parametrize(
    "header",
    [b"Subject: \xff\r\n", b"A: \0\r\n", b"A: 1\nB: 2\n", b"A: \r1\r\n", b"A: " + b"x" * 2000 + b"\r\n", b"A: =\r\n"],
)
def test_headers_that_are_no_seven_bit_text_are_encoded(header: bytes) -> None:
    octets = delivery_status(attrs.evolve(_REPORT, header=header))
    assert octets.isascii()
    assert b"\0" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    lines = header.replace(b"\0", b"?").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert read(attrs.evolve(_REPORT, header=header))[3].replace(b"\r\n", b"\n").rstrip() == lines.rstrip()


def test_large_headers_are_cut_at_a_line() -> None:
    _, _, _, header = read(attrs.evolve(_REPORT, header=b"Name: value\r\n" * 10_000))
    assert HEADER_LIMIT - 13 < len(header) <= HEADER_LIMIT
    assert header.rstrip().endswith(b"\r\nName: value")


def test_internationalised_addresses_in_seven_bit() -> None:
    """RFC 6533 3: the utf-8-addr-xtext form."""
    recipient = ReportedRecipient(Address.parse("jörg@bücher.example"), Outcome.failed("nein, ß"))
    octets = delivery_status(attrs.evolve(_REPORT, recipients=[recipient], to=Address.parse("a@bücher.example")))
    assert octets.isascii()
    assert rb"Final-Recipient: utf-8; j\x{F6}rg@b\x{FC}cher.example" in octets
    assert b"To: <a@xn--bcher-kva.example>" in octets
    assert b"Diagnostic-Code: x-mailhub; nein, ?" in octets


def test_internationalised_addresses_with_smtputf8() -> None:
    recipient = ReportedRecipient(Address.parse("jörg@bücher.example"), Outcome.failed("nein, ß"))
    report = attrs.evolve(_REPORT, recipients=[recipient], smtputf8=True, header="Subject: ü\r\n".encode())
    octets = delivery_status(report)
    kinds = [part.type for part in scan(octets).tree]
    assert kinds == ["multipart/report", "text/plain", "message/global-delivery-status", "message/global-headers"]
    assert "Final-Recipient: utf-8; jörg@bücher.example\r\n".encode() in octets
    assert "Subject: ü\r\n".encode() in octets


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20), st.binary(max_size=60), st.booleans())
@settings(deadline=None, max_examples=80)
def test_nothing_that_was_said_leaves_its_line(
    reply: str, remote: str, envelope_id: str, header: bytes, smtputf8: bool
) -> None:
    recipient = attrs.evolve(_FAILED, outcome=Outcome.failed(reply, status="5.0.0", remote=remote))
    plain = attrs.evolve(_REPORT, recipients=[recipient], smtputf8=smtputf8, envelope_id=envelope_id, header=header)
    octets = delivery_status(plain)
    tree = scan(octets).tree
    assert len(tree) == 4
    status = octets[tree[2].body : tree[2].end]
    names = {line.split(b":")[0] for line in status.split(b"\r\n") if line}
    assert names <= {b"Reporting-MTA", b"Original-Envelope-Id", b"Arrival-Date", b"Original-Recipient",
                     b"Final-Recipient", b"Action", b"Status", b"Remote-MTA", b"Diagnostic-Code"}  # fmt: skip
    assert b"\0" not in octets
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert b"\n" not in octets.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    ("orcpt", "written"),
    [
        (OriginalRecipient("rfc822", "List+x@xx.example"), b"rfc822; List+x@xx.example"),
        (OriginalRecipient("x400", "/S=a b/\r\nAction: delivered"), b"x400; /S=a b/ Action: delivered"),
        (OriginalRecipient("utf-8", "jörg@xx.example"), rb"utf-8; j\x{F6}rg@xx.example"),
    ],
)
def test_the_original_recipient_is_the_one_that_orcpt_gave(orcpt: OriginalRecipient, written: bytes) -> None:
    recipient = attrs.evolve(_FAILED, orcpt=orcpt)
    octets = delivery_status(attrs.evolve(_REPORT, recipients=[recipient, _DELAYED]))
    assert b"\r\n\r\nOriginal-Recipient: " + written + b"\r\nFinal-Recipient: " in octets
    assert octets.count(b"Original-Recipient") == 1


def test_the_whole_message_goes_back_where_it_is_asked_for() -> None:
    original = "Subject: s\r\n\r\n.\r\nGrüße\r\n".encode()
    octets = delivery_status(attrs.evolve(_REPORT, message=original))
    tree = scan(octets).tree
    assert [part.type for part in tree][:4] == [
        "multipart/report",
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]
    assert b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + original + b"\r\n--=_boundary--\r\n" in octets
    assert email.message_from_bytes(octets)["Content-Transfer-Encoding"] == "8bit"
    assert delivery_status(attrs.evolve(_REPORT, message=b"A: b\r\n\r\nc\r\n")).isascii()


@pytest.mark.parametrize(
    "original",
    [b"A: b\r\n\r\n\0", b"A: b\n\nc\n", b"A: b\r\n\r\n\r", b"A: b\r\n\r\n" + b"x" * 999, b"A: b\r\n" * (1 << 16)],
)
def test_what_no_message_part_may_have_leaves_the_header_alone(original: bytes) -> None:
    assert delivery_status(attrs.evolve(_REPORT, message=original)) == delivery_status(_REPORT)


@pytest.mark.parametrize(("status", "told"), [("4.04.7", "4.0.0"), ("4.4.07", "4.0.0"), ("4.4.7", "4.4.7")])
def test_no_number_of_a_status_begins_with_a_zero(status: str, told: str) -> None:
    """RFC 3464 2.3.4."""
    recipient = ReportedRecipient(_BOB, Outcome.delayed("later", status=status))
    _, _, (_, group), _ = read(attrs.evolve(_REPORT, recipients=[recipient]))
    assert group["Status"] == told


@pytest.mark.parametrize("said", ["no such user", "2500 x", "55 x", "999 x"])
def test_what_is_no_reply_of_smtp_is_not_called_one(said: str) -> None:
    """RFC 3461 9.2: three digits and a space."""
    outcome = Outcome.failed(said, remote="mx.yy.example", source=Source.REMOTE)
    _, _, (_, group), _ = read(attrs.evolve(_REPORT, recipients=[ReportedRecipient(_BOB, outcome)]))
    assert group["Diagnostic-Code"] == f"x-mailhub; {said}"


def test_a_name_that_is_not_fully_qualified_is_none_of_dns() -> None:
    """RFC 3461 6.3."""
    _, _, (message, *_), _ = read(attrs.evolve(_REPORT, hostname="printer"))
    assert message["Reporting-MTA"] == "x-local-hostname; printer"


@pytest.mark.parametrize(
    ("address", "seven", "eight"),
    [
        ("j\u00f6rg+x@yy.example", r"j\x{F6}rg\x{2B}x@yy.example", "j\u00f6rg+x@yy.example"),
        ("a=b\\@yy.example", r"a\x{3D}b\x{5C}@yy.example", "a=b\\@yy.example"),
    ],
)
def test_an_address_of_the_utf_8_type_has_a_form_of_its_own_in_seven_bits(address: str, seven: str, eight: str) -> None:
    """RFC 6533 3: utf-8-addr-xtext there, and as it is elsewhere."""
    recipient = ReportedRecipient(_BOB, Outcome.failed("no"), orcpt=OriginalRecipient("utf-8", address))
    for smtputf8, told in ((False, seven), (True, eight)):
        octets = delivery_status(attrs.evolve(_REPORT, recipients=[recipient], smtputf8=smtputf8))
        assert f"\r\nOriginal-Recipient: utf-8; {told}\r\n".encode() in octets
