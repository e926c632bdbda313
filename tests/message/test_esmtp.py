"""The parameters of MAIL and RCPT: each read, written and read again."""

from __future__ import annotations

import contextlib
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message import esmtp
from mailhub.message.address import Address
from mailhub.message.envelope import DeliverBy, FutureRelease, Mail, Notify, OriginalRecipient, Recipient, ValidSince
from mailhub.message.esmtp import (
    Parameter,
    ParameterError,
    UnknownParameter,
    mail_parameters,
    parse_parameters,
    recipient_parameters,
    render_parameters,
    with_mail_parameters,
    with_recipient_parameters,
)

ANN = Address("ann", "xx.example")
ROWS = {row.keyword: row for row in vars(esmtp).values() if isinstance(row, Parameter)}
OF_RCPT = [ROWS[keyword] for keyword in ("NOTIFY", "ORCPT", "RRVS")]
OF_MAIL = [row for row in ROWS.values() if row not in OF_RCPT]
NOTIFIED = frozenset[Notify]({"SUCCESS", "DELAY"})
HELD = "HOLDUNTIL=2026-11-29T01:50:00Z"


def parse(text: str) -> dict[str, Any]:
    return parse_parameters(text, ROWS)


def carrier(fields: dict[str, Any]) -> Mail | Recipient:
    """The value that has these fields."""
    of_mail = {field.name for field in attrs.fields(Mail)}
    return Mail(ANN, **fields) if fields.keys() <= of_mail else Recipient(ANN, **fields)


@pytest.mark.parametrize(
    ("text", "fields", "written"),
    [
        ("SIZE=00012", {"size": 12}, "SIZE=12"),
        ("body=8bitmime", {"body_type": "8BITMIME"}, "BODY=8BITMIME"),
        ("SMTPUTF8", {"smtputf8": True}, "SMTPUTF8"),
        ("RET=hdrs", {"ret": "HDRS"}, "RET=HDRS"),
        ("ENVID=QQ314159", {"envid": "QQ314159"}, "ENVID=QQ314159"),
        ("ENVID=a+2Bb+3D+41+20", {"envid": "a+b=A "}, "ENVID=a+2Bb+3DA+20"),
        ("REQUIRETLS", {"requiretls": True}, "REQUIRETLS"),
        ("BY=+120;r", {"by": DeliverBy(120, "R")}, "BY=120;R"),
        ("BY=-30;NT", {"by": DeliverBy(-30, "N", trace=True)}, "BY=-30;NT"),
        ("HOLDFOR=86400", {"hold": FutureRelease(86400, "FOR")}, "HOLDFOR=86400"),
        (
            "HOLDUNTIL=2026-11-29T01:50:00Z",
            {"hold": FutureRelease(1795917000, "UNTIL")},
            "HOLDUNTIL=2026-11-29T01:50:00Z",
        ),
        ("MT-PRIORITY=-9", {"priority": -9}, "MT-PRIORITY=-9"),
        ("MT-PRIORITY=0", {"priority": 0}, "MT-PRIORITY=0"),
        ("AUTH=<>", {"auth": ""}, "AUTH=<>"),
        ("AUTH=e+3Dmc2@example.com", {"auth": "e=mc2@example.com"}, "AUTH=e+3Dmc2@example.com"),
        ("AUTH=+3C+3E", {"auth": ""}, "AUTH=<>"),
        ("AUTH=+C3+BC@xx.example", {"auth": "\u00fc@xx.example"}, "AUTH=+C3+BC@xx.example"),
        ("HOLDUNTIL=2026-11-29T01:50:00.5-00:00", {"hold": FutureRelease(1795917000, "UNTIL")}, HELD),
        ("NOTIFY=delay,SUCCESS,delay", {"notify": NOTIFIED}, "NOTIFY=SUCCESS,DELAY"),
        ("NOTIFY=NEVER", {"notify": frozenset({"NEVER"})}, "NOTIFY=NEVER"),
        (
            "ORCPT=rfc822;Bob+2Bx@yy.example",
            {"orcpt": OriginalRecipient("rfc822", "Bob+x@yy.example")},
            "ORCPT=rfc822;Bob+2Bx@yy.example",
        ),
        (  # as Postfix writes it
            "ORCPT=rfc822;+C3+BC@yy.example",
            {"orcpt": OriginalRecipient("utf-8", "\u00fc@yy.example")},
            "ORCPT=utf-8;\\x{FC}@yy.example",
        ),
        (
            "ORCPT=utf-8;j\\x{F6}rg@yy.example",
            {"orcpt": OriginalRecipient("utf-8", "jörg@yy.example")},
            "ORCPT=utf-8;j\\x{F6}rg@yy.example",
        ),
        (
            "ORCPT=utf-8;jörg+x@yy.example",
            {"orcpt": OriginalRecipient("utf-8", "jörg+x@yy.example")},
            "ORCPT=utf-8;j\\x{F6}rg\\x{2B}x@yy.example",
        ),
        (
            "RRVS=2014-04-03T23:01:00Z",
            {"rrvs": ValidSince(1396566060, "R")},
            "RRVS=2014-04-03T23:01:00Z;R",
        ),
        (
            "RRVS=1997-11-24T14:22:01-08:00;c",
            {"rrvs": ValidSince(880410121, "C")},
            "RRVS=1997-11-24T22:22:01Z;C",
        ),
        ("RRVS=2016-12-31T23:59:60Z", {"rrvs": ValidSince(1483228800)}, "RRVS=2017-01-01T00:00:00Z;R"),
    ],
)
def test_a_parameter_in_its_forms(text: str, fields: dict[str, Any], written: str) -> None:
    assert parse(text) == fields
    value = carrier(fields)
    assert render_parameters(value, OF_MAIL if isinstance(value, Mail) else OF_RCPT) == f" {written}"
    assert parse(written) == fields


@pytest.mark.parametrize(
    "text",
    [
        "SIZE", "SIZE=", "SIZE=-1", "SIZE=1x", "SIZE=" + "9" * 21, "SIZE=1 SIZE=1", "=x", "SIZE=1\u3000RET=FULL",
        "BODY", "BODY=BINARYMIMES", "BODY=8B\u0131TMIME", "SMTPUTF8=1", "REQUIRETLS=1",
        "RET", "RET=BODY", "RET=FULL ret=FULL",
        "ENVID", "ENVID=a+2b", "ENVID=a+", "ENVID=" + "a" * 101, "ENVID=a+00", "ENVID=a+0D+0A", "ENVID=+E9",
        "ENVID=\u00e9",
        "BY", "BY=120", "BY=120;X", "BY=0;R", "BY=-1;R", "BY=1234567890;N", "BY=120;RX", "BY=;N", "BY=\u0661;N",
        "HOLDFOR", "HOLDFOR=0", "HOLDFOR=-1", "HOLDFOR=1234567890", "HOLDFOR=1 HOLDUNTIL=2026-11-29T01:50:00Z",
        "HOLDUNTIL", "HOLDUNTIL=2026-11-29", "HOLDUNTIL=2026-13-29T01:50:00Z", "HOLDUNTIL=2026-11-29T01:50:00",
        "HOLDUNTIL=2026-11-29T01:50:00+25:00", "HOLDUNTIL=0001-01-01T00:00:00+23:59",
        "HOLDUNTIL=9999-12-31T23:59:59-23:59", "HOLDUNTIL=2026-11-29T01:50:00+02:00",
        "MT-PRIORITY", "MT-PRIORITY=10", "MT-PRIORITY=-0", "MT-PRIORITY=+1", "MT-PRIORITY=1.5",
        "AUTH", "AUTH=a+3d", "AUTH=" + "a" * 501, "AUTH=+00", "AUTH=\u00e9", "AUTH=ann", "AUTH=<ann@xx.example>",
        "AUTH=a+20b@xx.example", "AUTH=+C3@xx.example", "AUTH=@",
        "NOTIFY", "NOTIFY=NEVER,SUCCESS", "NOTIFY=SUCCESS,", "NOTIFY=ALWAYS", "NOTIFY=\u017fUCCESS",
        "ORCPT", "ORCPT=bob@yy.example", "ORCPT=;bob", "ORCPT=rfc822;", "ORCPT=rfc822;+0D+0A",
        "ORCPT=rfc822;+C3", "ORCPT=rfc822;+C2+80",
        "ORCPT=rfc822;b\u00f6b",
        "ORCPT=rfc822;" + "a" * 500, "ORCPT=a(b;c", "ORCPT=" + "a" * 41 + ";b",
        "ORCPT=utf-8;\\x{0D}", "ORCPT=utf-8;\\x{D800}",
        "ORCPT=utf-8;\\x{110000}", "ORCPT=utf-8;\u2028", "ORCPT=utf-8;" + "\u00e9" * 90,
        "RRVS", "RRVS=yesterday", "RRVS=2014-04-03T23:01:00Z;", "RRVS=2014-04-03T23:01:00Z;X",
        "RRVS=2014-02-30T00:00:00Z", "RRVS=1997-11-24T14:22:01.75-08:00;c", "RRVS=2014-04-03T23:01:00.0Z",
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse(text)
    assert not isinstance(caught.value, UnknownParameter)


def test_what_is_not_offered_is_unknown() -> None:
    with pytest.raises(UnknownParameter, match="RET"):
        parse_parameters("SIZE=1 RET=FULL", {"SIZE": ROWS["SIZE"]})
    with pytest.raises(UnknownParameter, match="X-MINE"):
        parse("x-mine=1")


PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)
INSTANTS = st.integers(-62135596800, 253402300799)
LETTERS = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))


def written_within(row: Parameter) -> Any:
    """A filter of values: what can come in, for it can be written within the limit."""
    return lambda value: len(row.render(value) or "") + len(row.keyword) + 2 <= row.octets


def _of_local(local: str) -> str:
    return str(Address(local, "xx.example"))


MAILS = st.builds(
    Mail,
    st.just(ANN),
    size=st.integers(0, 10**20 - 1),
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    envid=st.text(PRINTABLE, max_size=100).filter(written_within(ROWS["ENVID"])),
    requiretls=st.booleans(),
    by=st.none()
    | st.builds(DeliverBy, st.integers(-999999999, 999999999), st.just("N"), st.booleans())
    | st.builds(DeliverBy, st.integers(1, 999999999), st.just("R"), st.booleans()),
    hold=st.none()
    | st.builds(FutureRelease, st.integers(1, 999999999), st.just("FOR"))
    | st.builds(FutureRelease, INSTANTS, st.just("UNTIL")),
    priority=st.none() | st.integers(-9, 9),
    auth=st.none() | st.just("") | st.builds(_of_local, st.text(PRINTABLE, min_size=1, max_size=60)),
)
ORIGINALS = st.builds(
    OriginalRecipient, st.sampled_from(["rfc822", "x400"]), st.text(PRINTABLE, min_size=1, max_size=160)
)
ORIGINALS |= st.builds(OriginalRecipient, st.just("utf-8"), st.text(LETTERS, min_size=1, max_size=45))
RECIPIENTS = st.builds(
    Recipient,
    st.just(ANN),
    notify=st.just(frozenset({"NEVER"})) | st.frozensets(st.sampled_from(["SUCCESS", "FAILURE", "DELAY"])),
    orcpt=st.none() | ORIGINALS,
    rrvs=st.none() | st.builds(ValidSince, INSTANTS, st.sampled_from(["C", "R"])),
)


@given(MAILS, RECIPIENTS)
def test_what_is_kept_comes_back(mail: Mail, recipient: Recipient) -> None:
    kept = mail_parameters(mail)
    assert with_mail_parameters(Mail(ANN), kept) == mail
    assert kept.isascii()
    assert kept.isprintable()
    kept = recipient_parameters(recipient)
    assert with_recipient_parameters(Recipient(ANN), kept) == recipient
    assert kept.isascii()
    assert kept.isprintable()


def test_nothing_said_is_nothing_kept() -> None:
    assert mail_parameters(Mail(ANN, "8BITMIME", smtputf8=True)) == ""
    assert recipient_parameters(Recipient(ANN)) == ""


@given(MAILS, RECIPIENTS)
def test_no_parameter_is_longer_than_its_row_says(mail: Mail, recipient: Recipient) -> None:
    for value, rows in ((mail, OF_MAIL), (recipient, OF_RCPT)):
        for row in rows:
            assert len(render_parameters(value, [row])) <= row.octets


@given(st.sampled_from(sorted(ROWS)), st.text(st.characters(exclude_categories=["Cs"]), max_size=600))
def test_hostile_values_are_bounded_and_safe_to_send_on(keyword: str, text: str) -> None:
    with contextlib.suppress(ParameterError):
        fields = parse_parameters(f"{keyword}={text}", {keyword: ROWS[keyword]})
        sent = render_parameters(carrier(fields), [ROWS[keyword]])
        assert len(sent) <= ROWS[keyword].octets
        assert sent.isascii()
        assert sent.isprintable()
        assert parse(sent) in (fields, {})


def test_parameters_that_exclude_each_other_are_named() -> None:
    rows = {row.keyword: row for row in (esmtp.HOLDFOR, esmtp.HOLDUNTIL)}
    with pytest.raises(ParameterError, match="HOLDFOR and HOLDUNTIL exclude each other"):
        parse_parameters("HOLDFOR=5 HOLDUNTIL=2027-01-01T00:00:00Z", rows)
    with pytest.raises(ParameterError, match="HOLDFOR given twice"):
        parse_parameters("HOLDFOR=5 HOLDFOR=6", rows)
