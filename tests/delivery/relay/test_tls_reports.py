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

from mailhub.interfaces import TlsaRecord
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
    assert message["Subject"].startswith("Report Domain: yy.example Submitter: mx.xx.example Report-ID: <2024-01-01.")
    assert (message["TLS-Report-Domain"], message["TLS-Report-Submitter"]) == ("yy.example", "mx.xx.example")
    assert message["From"] == "<tls@xx.example>"
    name = message.get_payload()[1].get_filename()
    assert name == "mx.xx.example!yy.example!1704067200!1704153599!001.json.gz"
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
    assert {each["result-type"] for each in policy["failure-details"]} == failures
    # Where there was a connection, both its ends are told.
    for each in policy["failure-details"]:
        reached = each["result-type"] not in ("dnssec-invalid", "dane-required")
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
