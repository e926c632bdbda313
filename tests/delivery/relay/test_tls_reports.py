"""What is told to domains about TLS to their servers."""

from __future__ import annotations

import email
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mailhub.delivery.relay.sts import PolicyFailure
from mailhub.delivery.relay.tls_reports import report_message
from mailhub.delivery.reporting import ReportOptions, in_ascii
from mailhub.interfaces import TlsaRecord
from mailhub.message.mta_sts import StsPolicy
from mailhub.message.reporting import Sender
from mailhub.message.tls_report import parse
from mailhub.net.tls import ClientTls
from mailhub.services import SERVICES
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.wires import Weather
from tests.net.certificate_chains import issue
from tests.net.website import Website

MAIL = b"Subject: x\r\n\r\nx\r\n"
PLAIN = {"tls": None, "listen": {name: ["tcp:25"] if name == "smtp" else [] for name in SERVICES}}
SITE = "10.8.0.2"
HOUR = 3600


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(folder=tmp_path) as made:
        made.clock.rightNow += 23.5 * HOUR  # the day is over soon
        made.resolver.txt["_smtp._tls.yy.example"] = [b"v=TLSRPTv1; rua=mailto:tls@zz.example"]
        yield made


def reports(host: Host) -> list[Any]:
    found: list[Any] = [email.message_from_bytes(octets) for octets in host.inbox("tls@zz.example")]
    for message in found:
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "tlsrpt"
        assert message["TLS-Required"] == "No"
        assert message["Return-Path"] == "<>"
    return [(message, parse(message.get_payload()[1].get_payload(decode=True))) for message in found]


def test_a_day_is_told_when_it_is_over_and_once(internet: Internet) -> None:
    xx = internet.hub("xx.example", ["a"], {"tlsrpt": {"organization": "The XX", "contact": "tls@xx.example"}})
    internet.hub("yy.example", ["b"])
    zz = internet.hub("zz.example", ["tls"])
    for _ in range(3):
        xx.submit("a@xx.example", ["b@yy.example"], MAIL)
        internet.run(60)
    assert reports(zz) == []
    internet.run(4 * HOUR)
    ((message, report),) = reports(zz)
    subject = " ".join(message["Subject"].split())
    assert subject.startswith("Report Domain: yy.example Submitter: xx.example Report-ID: <2024-01-01.")
    # The submitter is the domain of the contact (RFC 8460 5.3).
    assert (message["TLS-Report-Domain"], message["TLS-Report-Submitter"]) == ("yy.example", "xx.example")
    assert message["From"] == "<tls@xx.example>"
    name = message.get_payload()[1].get_filename()
    assert name == "xx.example!yy.example!1704067200!1704153599!001.json.gz"
    assert (report["organization-name"], report["contact-info"]) == ("The XX", "tls@xx.example")
    assert report["date-range"] == {"start-datetime": "2024-01-01T00:00:00Z", "end-datetime": "2024-01-01T23:59:59Z"}
    (policy,) = report["policies"]
    assert policy["policy"]["policy-type"] == "no-policy-found"
    assert policy["summary"] == {"total-successful-session-count": 3, "total-failure-session-count": 0}


def test_what_was_counted_outlives_a_restart(internet: Internet) -> None:
    xx = internet.hub("xx.example", ["a"], {"database": {"type": "inline"}})
    internet.hub("yy.example", ["b"])
    zz = internet.hub("zz.example", ["tls"])
    for _ in range(2):
        xx.submit("a@xx.example", ["b@yy.example"], MAIL)
        internet.run(60)
        xx.restart()
    internet.run(2 * HOUR)
    ((_, report),) = reports(zz)
    assert report["policies"][0]["summary"]["total-successful-session-count"] == 2


@pytest.mark.parametrize(
    ("case", "kind", "failures"),
    [
        ("no TLS", "no-policy-found", {"starttls-not-supported"}),
        ("TLS broken", "no-policy-found", {"validation-failure"}),
        ("DANE without TLS", "tlsa", {"starttls-not-supported"}),
        ("TLSA fails", "tlsa", {"dnssec-invalid"}),
        ("TLSA unusable", "tlsa", {"tlsa-invalid"}),
        ("policy gone", "no-policy-found", {"sts-policy-fetch-error"}),
        ("TLSA expired", "tlsa", {"certificate-expired"}),
        ("TLSA required", "tlsa", {"dane-required"}),
    ],
)
def test_failures_by_their_kind(internet: Internet, case: str, kind: str, failures: set[str]) -> None:
    xx = internet.hub("xx.example", ["a"], {"route": {"yy.example": {"tls": "dane"}}} if "required" in case else {})
    yy = internet.hub(
        "yy.example", ["b"], PLAIN if "TLS" in case and "TLSA" not in case and "broken" not in case else {}
    )
    zz = internet.hub("zz.example", ["tls"])
    if "DANE" in case or "TLSA" in case:
        internet.resolver.secure.add("yy.example")
        usage = {"TLSA unusable": 0, "TLSA expired": 2}.get(case, 3)
        records = [] if "required" in case else [TlsaRecord(usage, 1, 1, bytes(32))]
        internet.resolver.dane["_25._tcp.mx.yy.example"] = records
    if case == "TLSA expired":
        internet.network.expired.add(yy.address)
    if case == "TLSA fails":
        internet.resolver.failing.add("_25._tcp.mx.yy.example")
    if case == "policy gone":
        internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=1;"]
    if case == "TLS broken":
        internet.network.weather_at[yy.address] = attrs.evolve(Weather(), tls_broken=1.0)
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(2 * HOUR)
    ((_, report), *_) = reports(zz)
    (policy,) = report["policies"]
    assert policy["policy"]["policy-type"] == kind
    # Of DANE it is the TLSA base domain (RFC 8460 1.1).
    assert policy["policy"]["policy-domain"] == ("mx.yy.example" if kind == "tlsa" else "yy.example")
    assert {each["result-type"] for each in policy["failure-details"]} == failures
    # Where there was a connection, both its ends are told.
    for each in policy["failure-details"]:
        reached = each["result-type"] not in ("dnssec-invalid", "dane-required")
        assert each.get("receiving-mx-helo") == ("mx.yy.example" if reached else None)
        assert "failure-reason-code" in each or each["result-type"] != "validation-failure"
        assert (each.get("sending-mta-ip"), each.get("receiving-ip")) == (
            (xx.address, yy.address) if reached else (None,) * 2
        )
    assert policy["summary"]["total-failure-session-count"] == sum(
        each["failed-session-count"] for each in policy["failure-details"]
    )


@pytest.mark.parametrize("asked", ["nobody", "off"])
def test_who_does_not_want_to_know_and_who_does_not_tell(internet: Internet, asked: str) -> None:
    xx = internet.hub("xx.example", ["a"], {"tlsrpt": {"send": asked != "off"}})
    internet.hub("yy.example", ["b"])
    zz = internet.hub("zz.example", ["tls"])
    if asked == "nobody":
        internet.resolver.txt.clear()
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(3 * HOUR)
    assert reports(zz) == []
    assert internet.wait(xx.hub.database.state.of("tls").items("tlsrpt ")) == {}


def test_by_https_and_again_until_it_is_taken(internet: Internet, tmp_path: Path) -> None:
    root = issue("root", authority=True)
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    xx = internet.hub("xx.example", ["a"])
    internet.hub("yy.example", ["b"])
    https = xx.hub.security._reports._https  # type: ignore[union-attr]
    object.__setattr__(https, "tls", ClientTls(roots=tmp_path / "root.pem"))
    internet.resolver.txt["_smtp._tls.yy.example"] = [b"v=TLSRPTv1; rua=https://report.yy.example/v1?x"]
    internet.resolver.hosts["report.yy.example"] = [SITE]
    site = Website(issue("report.yy.example", root), b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")
    site.listen(internet.network, SITE, internet.clock)
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(2 * HOUR)
    failed = len(site.asked)
    assert failed >= 1
    site.answer = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    internet.run(2 * HOUR)
    assert len(site.asked) == failed + 1
    head, _, body = site.asked[-1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1?x HTTP/1.1\r\nHost: report.yy.example\r\n")
    assert b"Content-Type: application/tlsrpt+gzip\r\n" in head
    assert json.loads(json.dumps(parse(body)))["policies"][0]["policy"]["policy-domain"] == "yy.example"


def test_the_mail_that_carries_a_report_is_not_counted_itself(internet: Internet) -> None:
    """RFC 8460 3."""
    internet.resolver.txt["_smtp._tls.yy.example"] = [b"v=TLSRPTv1; rua=mailto:tls@yy.example"]
    xx = internet.hub("xx.example", ["a"])
    yy = internet.hub("yy.example", ["b", "tls"])
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(26 * HOUR)
    assert len(yy.inbox("tls@yy.example")) == 1
    assert internet.wait(xx.hub.database.state.of("tls").items("tlsrpt ")) == {}


@pytest.mark.parametrize("listed", [True, False])
def test_a_policy_that_is_tested_is_told_of_once_for_each_session(internet: Internet, listed: bool) -> None:
    xx = internet.hub("xx.example", ["a"])
    internet.hub("yy.example", ["b"])
    zz = internet.hub("zz.example", ["tls"])
    tested = StsPolicy("testing", 86400, ("mx.yy.example" if listed else "mx2.yy.example",))
    xx.hub.security._policies._fetch = _giving(tested)  # type: ignore[union-attr]
    internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=1;"]
    for _ in range(3):
        xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(2 * HOUR)
    ((_, report),) = reports(zz)
    (policy,) = report["policies"]
    assert policy["policy"]["mx-host"] == list(tested.mx)
    summary = policy["summary"]
    sessions = summary["total-successful-session-count"], summary["total-failure-session-count"]
    assert sessions[listed] == 0
    assert 1 <= sessions[not listed] <= 3
    assert [each["failure-reason-code"] for each in policy["failure-details"]] == (
        [] if listed else ["host is not in the policy"]
    )


def test_a_policy_that_cannot_be_had_anew_is_told_of_beside_what_went_well(internet: Internet) -> None:
    """RFC 8461 6."""
    xx = internet.hub("xx.example", ["a"])
    internet.hub("yy.example", ["b"])
    zz = internet.hub("zz.example", ["tls"])
    policies: Any = xx.hub.security._policies
    policies._fetch = _giving(StsPolicy("enforce", 86400, ("mx.yy.example",)))
    internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=1;"]
    internet.wait(policies.policy("yy.example"))
    policies._fetch = _giving(None)
    internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=2;"]
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(2 * HOUR)
    ((_, report),) = reports(zz)
    (policy,) = report["policies"]
    assert policy["policy"]["policy-type"] == "sts"
    assert policy["summary"] == {"total-successful-session-count": 1, "total-failure-session-count": 1}
    assert [each["result-type"] for each in policy["failure-details"]] == ["sts-policy-fetch-error"]


def _giving(policy: StsPolicy | None) -> Any:
    async def fetch(_domain: str) -> bytes:
        if policy is None:
            raise PolicyFailure("sts-policy-fetch-error", "gone")
        return "\n".join(policy.lines).encode()

    return fetch


def test_a_contact_isin_ascii() -> None:
    """RFC 8460 5.1: names in A-labels; the local part has no such form."""
    assert ReportOptions(contact="tls@b\u00fccher.example")
    with pytest.raises(ValueError, match="not ASCII"):
        ReportOptions(contact="j\u00f6rg@yy.example")
    message = report_message(
        Sender("mx", "x", in_ascii("tls@b\u00fccher.example")), "a@b", "1.2@mx", "2024-01-01", "yy.example", b"x", 0
    )
    assert b"TLS-Report-Submitter: xn--bcher-kva.example\r\n" in message
    assert b"xn--bcher-kva.example!yy.example!" in message


def test_no_line_of_a_report_is_too_long() -> None:
    long = ".".join(["x" * 60] * 4)
    sender, name = Sender(long, "x", f"a@{long}"), f"1.{long}.2@{long}"
    message = report_message(sender, f"a@{long}", name, "2024-01-01", long, b"", 0)
    assert max(map(len, message.split(b"\r\n"))) < 998
