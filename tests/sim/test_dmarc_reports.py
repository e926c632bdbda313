"""Reports of DMARC, both ways, between whole servers: a day passes, and each knows what the other has seen."""

from __future__ import annotations

import email
import gzip
from collections.abc import Iterator, Mapping
from datetime import date
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub.delivery.authentication.kept_reports import PART, KeptReport, KeptReports
from mailhub.keys import DAY
from mailhub.message.dmarc_report import AggregateReport, Published, Row, aggregate_message, written
from mailhub.message.dmarc_report_reading import reports_in
from mailhub.message.reporting import Sender
from mailhub.testing.hubs import EPOCH, Host, Internet
from tests.sim import test_sealing as sealing
from tests.sim.test_screens import answers, greeted
from tests.sim.test_signing import with_keys

HOUR = 3600
# Without the time in it, so that tests have the same names in all processes.
gzipped = partial(gzip.compress, mtime=0)
MAIL = b"From: a@yy.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"
GOOD, BAD = "10.0.0.3", "10.8.8.8"  # the first is that of the second hub


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(folder=tmp_path) as made:
        made.clock.rightNow += 23.5 * HOUR  # the day is over soon
        for domain in ("xx.example", "yy.example"):
            made.resolver.txt[f"_dmarc.{domain}"] = [
                f"v=DMARC1; p=reject; rua=mailto:dmarc@{domain}; ruf=mailto:dmarc@{domain}".encode()
            ]
        made.resolver.txt |= {
            "xx.example": [b"v=spf1 ip4:10.0.0.2 -all"],
            "mx.xx.example": [b"v=spf1 ip4:10.0.0.2 -all"],
            "yy.example": [b"v=spf1 ip4:10.0.0.3 -all"],
            "mx.yy.example": [b"v=spf1 ip4:10.0.0.3 -all"],
        }
        yield made


def hubs(internet: Internet, config: Mapping[str, Any] | None = None) -> tuple[Host, Host]:
    return internet.hub("xx.example", ["ann"], config), internet.hub("yy.example", ["a", "dmarc"])


def sent(internet: Internet, host: Host, source: str, octets: bytes = MAIL, sender: str = "a@yy.example") -> str:
    """The answer to a message."""
    caller = greeted(internet, host, source)
    answers(caller, f"MAIL FROM:<{sender}>", f"RCPT TO:<ann@{host.domain}>", "DATA")
    return caller.ask(octets + b".\r\n", b"").decode()


def mailed(host: Host) -> list[tuple[Message, AggregateReport]]:
    """The reports in the mailbox of who wants them."""
    found = []
    for octets in host.inbox(f"dmarc@{host.domain}"):
        found += [(email.message_from_bytes(octets), each) for each in reports_in(octets)]
    return found


def kept(host: Host, domain: str) -> list[KeptReport]:
    """What is known of them there."""
    reports = KeptReports(host.hub.database.state.of(PART))
    return list(host.internet.wait(reports.of(domain, date(2024, 1, 10), 30)))


def counted(host: Host) -> Mapping[str, bytes]:
    return host.internet.wait(host.hub.database.state.of("dmarc").items())


def test_a_day_is_told_when_it_is_over_and_known_where_it_is_wanted(internet: Internet) -> None:
    xx, yy = hubs(internet, {"dmarc": {"organization": "The XX & Co"}})
    assert sent(internet, xx, GOOD).startswith("250")
    assert sent(internet, xx, GOOD).startswith("250")
    assert sent(internet, xx, BAD).startswith("550 5.7.1")
    assert mailed(yy) == []
    internet.run(3 * HOUR)
    [(message, report)] = mailed(yy)
    assert message["Return-Path"] == "<>"
    subject = " ".join(message["Subject"].split())
    assert subject == f"Report Domain: yy.example Submitter: mx.xx.example Report-ID: <{report.report_id}>"
    assert (report.organization, report.contact) == ("The XX & Co", "postmaster@mx.xx.example")
    assert (report.begin, report.end) == (EPOCH, EPOCH + DAY - 1)
    assert report.published == Published("yy.example", "reject", "reject", "reject", "r", "r", "0", "n", "treewalk")
    by_source = {row.source: (row, count) for row, count in report.rows}
    good, count = by_source[GOOD]
    assert (count, good.disposition, good.spf, good.dkim, good.header_from) == (2, "pass", True, False, "yy.example")
    assert (good.envelope_from, good.envelope_to) == ("yy.example", "xx.example")
    bad, count = by_source[BAD]
    assert (count, bad.disposition, bad.spf, bad.dkim, bad.reasons) == (1, "reject", False, False, ())
    assert bad.spf_result is not None
    assert bad.spf_result.result == "fail"
    # The second hub has read it when it came in, and knows it without the mail.
    [known] = kept(yy, "yy.example")
    assert (known.day, known.reporter, known.by) == ("2024-01-01", "The XX & Co", "mx.xx.example")
    assert {(each.source, each.count, each.disposition) for each in known.sums} == {
        (GOOD, 2, "pass"),
        (BAD, 1, "reject"),
    }
    assert counted(xx) == {}


def test_what_is_counted_outlives_a_restart(internet: Internet) -> None:
    xx, yy = hubs(internet, {"database": {"type": "inline"}})
    for _ in range(2):
        sent(internet, xx, GOOD)
        xx.restart()
    sent(internet, xx, GOOD)
    internet.run(400)
    xx.kill()
    xx.boot()
    internet.run(3 * HOUR)
    [(_, report)] = mailed(yy)
    assert [count for _, count in report.rows] == [3]


def test_two_servers_do_not_report_their_reports_for_ever(internet: Internet) -> None:
    xx, yy = hubs(internet)
    internet.resolver.txt["_dmarc.mx.xx.example"] = [b"v=DMARC1; rua=mailto:dmarc@xx.example"]
    xx.add_account("dmarc@xx.example")
    sent(internet, xx, GOOD)
    internet.run(5 * DAY)
    assert len(mailed(yy)) == 1
    assert mailed(xx) == []
    assert counted(xx) == counted(yy) == {}


def test_who_does_not_want_to_know_and_who_does_not_tell(internet: Internet) -> None:
    xx, yy = hubs(internet, {"dmarc": {"send": False}})
    sent(internet, xx, GOOD)
    internet.resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; p=none"]
    zz = internet.hub("zz.example", ["ann"])
    sent(internet, zz, GOOD)
    internet.run(600)
    assert counted(xx) == counted(zz) == {}
    assert mailed(yy) == []


@pytest.mark.parametrize(
    ("config", "record", "disposition", "reason"),
    [
        ({"dmarc": "report"}, b"p=reject", "none", "local_policy"),
        ({"forwarders": ["10.8.0.0/16"]}, b"p=reject", "none", "trusted_forwarder"),
        ({}, b"p=reject; t=y", "quarantine", "policy_test_mode"),
        ({}, b"p=none", "none", None),
    ],
)
def test_why_less_is_done_is_told(
    internet: Internet, config: dict[str, Any], record: bytes, disposition: str, reason: str | None
) -> None:
    internet.resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; rua=mailto:dmarc@yy.example; " + record]
    xx, yy = hubs(internet, {"checks": config})
    sent(internet, xx, BAD)
    internet.run(3 * HOUR)
    [(_, report)] = mailed(yy)
    [(row, _)] = report.rows
    assert row.disposition == disposition
    assert [each.type for each in row.reasons] == ([reason] if reason else [])


def test_that_a_sealer_was_believed_is_told(internet: Internet) -> None:
    """RFC 8617 7.2.2."""
    author = sealing.hub(internet, "aa", ["ann", "dmarc"])
    sealing.hub(internet, "bb", list={"x@bb.example": {**sealing.LIST, "members": ["x@zz.example"]}})
    sealing.hub(internet, "zz", ["x"], checks={"arc_sealers": ["bb.example"]})
    internet.resolver.txt["_dmarc.aa.example"] = [b"v=DMARC1; p=reject; rua=mailto:dmarc@aa.example"]
    sealing.send(internet, author)
    internet.run(3 * HOUR)
    [row] = [row for _, report in mailed(author) for row, _ in report.rows if row.disposition == "none"]
    [reason] = row.reasons
    assert reason.type == "local_policy"
    assert reason.comment.startswith("arc=pass as[1].d=bb.example as[1].s=")


def test_a_report_is_signed_where_there_is_a_key(internet: Internet) -> None:
    xx, yy = hubs(internet, {"dmarc": {"contact": "dmarc@xx.example"}})
    with_keys(xx)
    internet.resolver.txt["mx.xx.example"] = [b"v=spf1 -all"]
    sent(internet, xx, GOOD)
    internet.run(3 * HOUR)
    [(message, report)] = mailed(yy)
    assert report.contact == "dmarc@xx.example"
    assert "dkim=pass header.d=xx.example" in str(message["Authentication-Results"])
    assert len(kept(yy, "yy.example")) == 1


# --- Where reports go ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agreed", "goes_to"),
    [
        (None, ""),
        (b"v=spf1 -all", ""),
        (b"v=DMARC1", "reports@zz.example"),
        (b"v=DMARC1; rua=mailto:other@zz.example", "other@zz.example"),
        (b"v=DMARC1; rua=mailto:other@evil.example", ""),
    ],
)
def test_others_get_reports_that_they_agree_to(internet: Internet, agreed: bytes | None, goes_to: str) -> None:
    xx, _ = hubs(internet)
    zz = internet.hub("zz.example", ["reports", "other"])
    evil = internet.hub("evil.example", ["other"])
    internet.resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; p=none; rua=mailto:reports@zz.example"]
    if agreed:
        internet.resolver.txt["yy.example._report._dmarc.zz.example"] = [agreed]
    sent(internet, xx, GOOD)
    internet.run(3 * HOUR)
    for user in ("reports@zz.example", "other@zz.example"):
        assert len(zz.inbox(user)) == (user == goes_to)
    assert evil.inbox("other@evil.example") == []
    assert counted(xx) == {}


def test_a_size_that_is_too_small_and_the_record_of_the_day_when_it_is_sent(internet: Internet) -> None:
    xx, yy = hubs(internet)
    sent(internet, xx, GOOD)
    internet.resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; rua=mailto:dmarc@yy.example!100,mailto:a@yy.example!1m"]
    internet.run(3 * HOUR)
    assert mailed(yy) == []
    assert len(yy.inbox("a@yy.example")) == 1


def test_who_cannot_be_asked_is_asked_again_and_not_for_ever(internet: Internet) -> None:
    xx, yy = hubs(internet)
    sent(internet, xx, GOOD)
    internet.run(600)
    internet.resolver.failing.add("_dmarc.yy.example")
    internet.run(5 * HOUR)
    assert mailed(yy) == []
    internet.resolver.failing.clear()
    internet.run(HOUR)
    assert len(mailed(yy)) == 1
    sent(internet, xx, GOOD)
    internet.run(600)
    internet.resolver.failing.add("_dmarc.yy.example")
    internet.run(52 * HOUR)
    assert counted(xx) == {}


def test_what_is_sent_once_more_after_a_crash_is_the_same_report(internet: Internet) -> None:
    xx, yy = hubs(internet, {"database": {"type": "inline"}})
    sent(internet, xx, GOOD)
    internet.run(400)
    before = counted(xx)
    internet.run(3 * HOUR)
    [(_, first)] = mailed(yy)
    # As if it had ended between the commit of the report and that of what is done.
    internet.wait(xx.hub.database.state.of("dmarc").put(before))
    xx.restart()
    internet.run(3 * HOUR)
    [_, (_, second)] = mailed(yy)
    assert second == first
    assert len(kept(yy, "yy.example")) == 1


# --- Reports of others -----------------------------------------------------------------------------------------------

REPORT = AggregateReport(
    "Google",
    "a@gg.example",
    "77",
    EPOCH,
    EPOCH + DAY - 1,
    Published("yy.example", "reject"),
    [(Row("192.0.2.1", "none", spf=True, header_from="yy.example"), 5)],
)


def from_google(report: AggregateReport = REPORT, to: str = "dmarc@yy.example") -> bytes:
    sender = Sender("mx.gg.example", "Google", "a@gg.example")
    return aggregate_message(sender, to, report, gzipped(written(report)), EPOCH, 0)


def bring(internet: Internet, host: Host, octets: bytes, to: str = "dmarc@yy.example", source: str = "10.7.7.7") -> str:
    caller = greeted(internet, host, source)
    answers(caller, "MAIL FROM:<a@gg.example>", f"RCPT TO:<{to}>", "DATA")
    return caller.ask(octets + b".\r\n", b"").decode()


@pytest.fixture
def google(internet: Internet) -> Internet:
    internet.resolver.txt["gg.example"] = [b"v=spf1 ip4:10.7.7.7 -all"]
    internet.resolver.txt["_dmarc.gg.example"] = [b"v=DMARC1; p=none; rua=mailto:a@gg.example"]
    internet.resolver.hosts["gg.example"] = ["10.7.7.7"]
    return internet


def test_a_report_is_known_once_however_often_it_comes(google: Internet) -> None:
    _, yy = hubs(google)
    for name in (b"<77.0@", b"<78.0@"):
        assert bring(google, yy, from_google().replace(b"<77.0@", name)).startswith("250")
    [known] = kept(yy, "yy.example")
    assert (known.reporter, known.by, known.sums[0].count) == ("Google", "gg.example", 5)
    assert len(yy.inbox("dmarc@yy.example")) == 2  # it stays mail
    google.run(600)
    assert counted(yy) == {}


@pytest.mark.parametrize(
    "case", ["forged", "not wanted", "other domain", "too old", "too early", "to somebody else", "no answer"]
)
def test_what_is_not_believed(google: Internet, case: str) -> None:
    _, yy = hubs(google)
    report, to, source = REPORT, "dmarc@yy.example", "10.7.7.7"
    if case == "forged":
        source = BAD
    elif case == "not wanted":
        google.resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; p=reject"]
    elif case == "no answer":
        google.resolver.failing.add("_dmarc.yy.example")
    elif case == "other domain":
        report = attrs.evolve(report, published=Published("xx.example"))
    elif case == "to somebody else":
        to = "a@yy.example"
    else:
        begin = EPOCH + (-40 if case == "too old" else 3) * DAY
        report = attrs.evolve(report, begin=begin, end=begin + DAY)
    octets = from_google(report, to)
    if case == "other domain":
        octets = octets.replace(b"Report Domain: xx.example", b"Report Domain: yy.example")
    assert bring(google, yy, octets, to, source).startswith("250")
    assert kept(yy, "yy.example") == kept(yy, "xx.example") == []


def test_an_address_of_the_configuration_gets_those_of_any_domain(google: Internet) -> None:
    internet = google
    yy = internet.hub("yy.example", ["a"], {"dmarc": {"addresses": ["A@yy.example"]}})
    report = attrs.evolve(REPORT, published=Published("parked.example"))
    octets = from_google(report, "a@yy.example").replace(b"Subject: Report Domain:", b"Subject: [Preview]")
    assert bring(internet, yy, octets, "a@yy.example").startswith("250")
    assert len(kept(yy, "parked.example")) == 1


@pytest.mark.parametrize(
    "packed",
    [
        gzipped(bytes(1 << 26)),
        b"\x1f\x8bnonsense",
        gzipped(b'<!DOCTYPE a [<!ENTITY b "c">]><feedback>&b;</feedback>'),
        gzipped(written(attrs.evolve(REPORT, published=Published("a b\0")))),
    ],
    ids=["bomb", "nonsense", "entities", "domain"],
)
def test_hostile_reports_are_mail_like_any_other(google: Internet, packed: bytes) -> None:
    yy = google.hub("yy.example", ["a"], {"dmarc": {"addresses": ["a@yy.example"]}})
    sender = Sender("mx.gg.example", "Google", "a@gg.example")
    octets = aggregate_message(sender, "a@yy.example", REPORT, packed, EPOCH, 0)
    assert bring(google, yy, octets, "a@yy.example").startswith("250")
    assert len(yy.inbox("a@yy.example")) == 1
    assert google.wait(yy.hub.database.state.of(PART).items()) == {}


# --- Failure reports -------------------------------------------------------------------------------------------------


def failures(host: Host) -> list[Message]:
    found = [email.message_from_bytes(octets) for octets in host.inbox(f"dmarc@{host.domain}")]
    return [each for each in found if each.get_content_type() == "multipart/report"]


def test_a_failure_is_told_at_once_to_who_wants_it(internet: Internet) -> None:
    xx, yy = hubs(internet, {"dmarc": {"failure_reports": "headers"}})
    octets = (
        b"Received: from a by b for <secret@yy.example>; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        b'From: "Very Secret" <hidden@yy.example>\r\nTo: ann@xx.example\r\nMessage-ID: <1@yy.example>\r\n'
        b"Subject: hidden as well\r\n\r\nnot told\r\n"
    )
    assert sent(internet, xx, BAD, octets).startswith("550")
    internet.run(60)
    [message] = failures(yy)
    assert message.get_param("report-type") == "feedback-report"
    assert message["Return-Path"] == "<>"
    _, _, told, fields, header = message.walk()
    assert told.get_content_type() == "message/feedback-report"
    assert fields["Feedback-Type"] == "auth-failure"
    assert (fields["Auth-Failure"], fields["Identity-Alignment"]) == ("dmarc", "dkim, spf")
    assert (fields["Source-IP"], fields["Reported-Domain"]) == (BAD, "yy.example")
    assert fields["Delivery-Result"] == "reject"
    assert fields["Original-Mail-From"] == "<redacted@yy.example>"
    assert "dmarc=fail header.from=yy.example" in fields["Authentication-Results"]
    assert '"v=spf1 ip4:10.0.0.3 -all"' in fields["SPF-DNS"]
    text = str(header.get_payload())
    assert "From: <redacted@yy.example>" in text
    assert "<redacted@yy.example>; Mon, 1 Jan 2024" in text
    assert "<1@yy.example>" in text
    assert "hidden" not in message.as_string()
    assert "secret" not in message.as_string().lower()


def test_failures_are_told_of_by_option_and_not_without_end(internet: Internet) -> None:
    xx, yy = hubs(internet)
    sent(internet, xx, BAD)
    internet.run(60)
    assert failures(yy) == []
    xx.reload({"dmarc": {"failure_reports": "headers"}})
    for _ in range(25):
        sent(internet, xx, BAD)
        internet.run(30)
    assert len(failures(yy)) == 20
    sent(internet, xx, BAD, sender="")
    internet.run(30)
    assert len(failures(yy)) == 20


@pytest.mark.parametrize(
    ("wanted", "source", "told"),
    [(b"0", GOOD, 0), (b"1", GOOD, 1), (b"s", GOOD, 0), (b"d", GOOD, 0), (b"s", BAD, 1), (b"0", BAD, 1)],
)
def test_failures_are_those_that_are_wanted(internet: Internet, wanted: bytes, source: str, told: int) -> None:
    internet.resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; p=none; ruf=mailto:dmarc@yy.example; fo=" + wanted]
    xx, yy = hubs(internet, {"dmarc": {"failure_reports": "headers"}})
    sent(internet, xx, source)
    internet.run(60)
    assert len(failures(yy)) == told


def test_a_public_suffix_is_told_of_no_message(internet: Internet) -> None:
    internet.resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; p=none; psd=y; ruf=mailto:dmarc@yy.example"]
    xx, yy = hubs(internet, {"dmarc": {"failure_reports": "headers"}})
    sent(internet, xx, BAD)
    internet.run(60)
    assert failures(yy) == []
