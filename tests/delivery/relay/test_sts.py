"""Policies of MTA-STS: how they are had and kept, and what mail does by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogLevel, capturedLogs

from mailhub.delivery.relay import security
from mailhub.delivery.relay.sts import StsPolicies, fetch_over_https
from mailhub.message.mta_sts import StsPolicy
from mailhub.net.tls import ClientTls
from mailhub.services import SERVICES
from mailhub.testing.hubs import Host, Internet
from tests.net.certificate_chains import issue
from tests.net.website import Website, page

ROOT = issue("root", authority=True)
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.yy.example\nmax_age: 2000\n"
SITE = "10.8.0.1"
MAIL = b"Subject: x\r\n\r\nx\r\n"
PLAIN = {"tls": None, "listen": {name: ["tcp:25"] if name == "smtp" else [] for name in SERVICES}}
TESTING = POLICY.replace(b"enforce", b"testing")


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    file = tmp_path / "root.pem"
    file.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    # TLS between servers is played, that of web servers is not.
    real = ClientTls(roots=file)
    monkeypatch.setattr(security, "fetch_over_https", lambda environment, tls: fetch_over_https(environment, real))
    with Internet(folder=tmp_path) as made:
        yield made


def publish(internet: Internet, answer: bytes | None = None, id: str = "1", **certificate: Any) -> Website:
    site = Website(issue("mta-sts.yy.example", ROOT, **certificate), page(POLICY) if answer is None else answer)
    site.listen(internet.network, SITE, internet.clock)
    internet.resolver.txt["_mta-sts.yy.example"] = [f"v=STSv1; id={id};".encode()]
    internet.resolver.hosts["mta-sts.yy.example"] = [SITE]
    return site


def policies(host: Host) -> StsPolicies:
    found = host.hub.security._policies
    assert found is not None
    return found


def policy(host: Host) -> tuple[StsPolicy | None, str]:
    return host.internet.wait(policies(host).policy("yy.example"), 100)


def mode(host: Host) -> str:
    found, failure = policy(host)
    return found.mode if found else failure or "none"


def test_a_policy_is_fetched_once_and_again_when_its_id_changes(internet: Internet) -> None:
    xx, site = internet.hub("xx.example"), publish(internet)
    assert policy(xx) == (StsPolicy("enforce", 2000, ("mx.yy.example",)), "")
    assert mode(xx) == "enforce"
    assert len(site.asked) == 1
    assert site.asked[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.yy.example\r\n")
    site.answer = page(TESTING)
    internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=2;"]
    assert mode(xx) == "testing"
    site.answer = page(POLICY.replace(b"enforce", b"none"))
    internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=3;"]
    assert mode(xx) == "none"
    assert len(site.asked) == 3


def test_many_who_want_it_at_the_same_time_fetch_it_once(internet: Internet) -> None:
    xx, site = internet.hub("xx.example"), publish(internet)
    found = gatherResults([Deferred.fromCoroutine(policies(xx).policy("yy.example")) for _ in range(9)])

    async def wait() -> Any:
        return await found

    assert [each[0].mode for each in internet.wait(wait())] == ["enforce"] * 9
    assert len(site.asked) == 1


def answering(answer: bytes | None) -> Callable[[Website], None]:
    return lambda site: setattr(site, "answer", answer)


def showing(*certificate: Any, **more: Any) -> Callable[[Website], None]:
    return lambda site: setattr(site, "issued", issue(*certificate, **more))


UNSIZED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
MOVED = b"HTTP/1.1 301 Moved\r\nLocation: https://mta-sts.yy.example/policy\r\nContent-Length: 0\r\n\r\n"
BAD: dict[str, tuple[Callable[[Website], None], str]] = {
    "silence": (answering(None), "sts-policy-fetch-error"),
    "redirect": (answering(MOVED), "sts-policy-fetch-error"),
    "ten megabytes": (answering(page(b"x: y\n" * 2_000_000)), "sts-policy-fetch-error"),
    "ten megabytes of which nobody knows": (answering(UNSIZED + b"x: y\n" * 2_000_000), "sts-policy-fetch-error"),
    "no HTTP": (answering(b"220 mx.example ESMTP\r\n"), "sts-policy-fetch-error"),
    "not found": (answering(page(POLICY, "404 Not Found")), "sts-policy-fetch-error"),
    "HTML": (answering(page(POLICY, media_type="text/html")), "sts-policy-fetch-error"),
    "nonsense": (answering(page(b"nonsense")), "sts-policy-invalid"),
    "expired": (showing("mta-sts.yy.example", ROOT, days=-1), "sts-webpki-invalid"),
    "other name": (showing("yy.example", ROOT), "sts-webpki-invalid"),
    "unknown root": (showing("mta-sts.yy.example"), "sts-webpki-invalid"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_web_server_that_is_no_good_gives_no_policy_and_takes_none_away(internet: Internet, name: str) -> None:
    spoil, failure = BAD[name]
    xx, site = internet.hub("xx.example"), publish(internet)
    spoil(site)
    site.listen(internet.network, SITE, internet.clock)
    assert mode(xx) == failure
    internet.run(100)
    assert mode(xx) == failure, "and it is not asked at once again"
    assert len(site.asked) + site.closed <= 2
    internet.run(300)
    site = publish(internet)
    assert mode(xx) == "enforce"
    spoil(site)
    site.listen(internet.network, SITE, internet.clock)
    internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=2;"]
    assert mode(xx) == "enforce"
    internet.run(2_001)
    assert mode(xx) == failure


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_a_domain_cannot_have_us_ask_our_own_machine(internet: Internet, address: str) -> None:
    xx, site = internet.hub("xx.example"), publish(internet)
    site.listen(internet.network, address, internet.clock)
    internet.resolver.hosts["mta-sts.yy.example"] = [address]
    assert mode(xx) == "sts-policy-fetch-error"
    assert site.asked == []
    internet.resolver.hosts["mta-sts.yy.example"] = [address, SITE]
    internet.run(301)
    assert mode(xx) == "enforce"


def test_a_policy_outlives_a_restart(internet: Internet) -> None:
    xx, site = internet.hub("xx.example", config={"database": {"type": "inline"}}), publish(internet)
    assert mode(xx) == "enforce"
    xx.restart()
    assert mode(xx) == "enforce"
    internet.resolver.txt.clear()
    xx.restart()
    assert mode(xx) == "enforce"
    internet.run(2_001)
    assert mode(xx) == "none"
    assert len(site.asked) == 1


@pytest.mark.parametrize("lost", ["record", "answer", "record twice"])
def test_what_dns_says_later_takes_no_policy_away(internet: Internet, lost: str) -> None:
    xx, site = internet.hub("xx.example"), publish(internet)
    assert mode(xx) == "enforce"
    if lost == "record":
        internet.resolver.txt.clear()
    elif lost == "answer":
        internet.resolver.failing.add("_mta-sts.yy.example")
    else:
        internet.resolver.txt["_mta-sts.yy.example"] *= 2
    assert mode(xx) == "enforce"
    internet.run(2_001)
    assert mode(xx) == "none"
    assert len(site.asked) == 1


def test_a_policy_is_fetched_anew_before_it_is_too_old_and_nobody_waits_for_that(internet: Internet) -> None:
    xx, site = internet.hub("xx.example"), publish(internet)
    assert mode(xx) == "enforce"
    site.answer = page(TESTING)
    internet.run(1_001)
    assert mode(xx) == "enforce"
    internet.run(10)
    assert mode(xx) == "testing"
    assert len(site.asked) == 2


LONG = POLICY.replace(b"max_age: 2000", b"max_age: 300000")
DAY = 86_400


def test_a_policy_stays_fresh_without_mail_and_whatever_dns_says(internet: Internet) -> None:
    """RFC 8461 3.3 and 10.2."""
    xx, site = internet.hub("xx.example"), publish(internet, page(LONG))
    assert mode(xx) == "enforce"
    internet.resolver.txt.clear()
    internet.run(5 * DAY)
    assert 4 <= len(site.asked) <= 6
    assert mode(xx) == "enforce"
    # Nobody writes there any more.
    internet.run(40 * DAY)
    asked = len(site.asked)
    assert asked < 45
    internet.run(10 * DAY)
    assert len(site.asked) == asked
    assert mode(xx) == "none"


@pytest.mark.parametrize(("mode_then", "warned"), [(b"enforce", True), (b"none", False)])
def test_that_a_policy_cannot_be_had_anew_is_told_unless_it_was_taken_back(
    internet: Internet, mode_then: bytes, warned: bool
) -> None:
    """RFC 8461 3.3."""
    xx, site = internet.hub("xx.example"), publish(internet, page(LONG.replace(b"enforce", mode_then)))
    policy(xx)
    site.answer = page(LONG, "404 Not Found")
    with capturedLogs() as logs:
        internet.run(2 * DAY)
    told = [each["log_level"] for each in logs if "policy not fetched" in (each.get("log_format") or "")]
    assert told
    assert set(told) == {LogLevel.warn if warned else LogLevel.info}


@pytest.mark.parametrize("text", [POLICY, POLICY.replace(b"mx.yy", b"other.yy"), None])
def test_a_smarthost_goes_by_the_policy_of_its_own_name(internet: Internet, text: bytes | None) -> None:
    """RFC 8461 3.4: and not by that of the recipients' domain."""
    yy = internet.hub("yy.example", ["b"], PLAIN)
    config: Any = {"route": {"*": {"host": "mx.yy.example"}}}
    xx = internet.hub("xx.example", ["a"], config)
    site = Website(issue("mta-sts.mx.yy.example", ROOT), page(text or POLICY))
    site.listen(internet.network, SITE, internet.clock)
    internet.resolver.hosts["mta-sts.mx.yy.example"] = [SITE]
    if text is not None:
        internet.resolver.txt["_mta-sts.mx.yy.example"] = [b"v=STSv1; id=1;"]
    internet.resolver.txt["_mta-sts.yy.example"] = [b"v=STSv1; id=1;"]
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(600)
    assert len(yy.inbox("b@yy.example")) == (text is None)
    assert ("TXT", "_mta-sts.yy.example") not in internet.resolver.asked
    last = [row.last.reply for message in xx.queued() for row in message.recipients if row.last]
    if text is POLICY:
        assert last == ["TLS is required but the server does not offer it"]
    elif text is not None:
        assert last == ["Policy of mx.yy.example has no exchanger mx.yy.example"]


def test_mail_goes_to_the_exchangers_of_the_policy_alone_and_not_without_tls(internet: Internet) -> None:
    xx, yy = internet.hub("xx.example", ["a"]), internet.hub("yy.example", ["b"])
    publish(internet, page(POLICY.replace(b"mx.yy", b"mx2.yy")))
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(120)
    assert yy.inbox("b@yy.example") == []
    (row,) = xx.queued()[0].recipients
    assert row.last is not None
    assert row.last.reply == "Policy of yy.example has no exchanger mx.yy.example"
    publish(internet, id="2")
    internet.run(8000)
    assert len(yy.inbox("b@yy.example")) == 1


@pytest.mark.parametrize(("text", "delivered"), [(POLICY, 0), (TESTING, 1), (POLICY.replace(b"enforce", b"none"), 1)])
def test_a_server_without_tls_gets_nothing_by_a_policy_that_is_enforced(
    internet: Internet, text: bytes, delivered: int
) -> None:
    xx, yy = internet.hub("xx.example", ["a"]), internet.hub("yy.example", ["b"], PLAIN)
    publish(internet, page(text))
    xx.submit("a@xx.example", ["b@yy.example"], MAIL)
    internet.run(600)
    assert len(yy.inbox("b@yy.example")) == delivered
    statuses = [row.last.status for message in xx.queued() for row in message.recipients if row.last]
    assert statuses == ([] if delivered else ["4.7.4"])


def test_dns_that_says_nothing_is_not_asked_for_each_message(internet: Internet) -> None:
    xx = internet.hub("xx.example")
    internet.resolver.failing.add("_mta-sts.yy.example")
    asked = ("TXT", "_mta-sts.yy.example")
    for _ in range(3):
        assert mode(xx) == "none"
    assert internet.resolver.asked.count(asked) == 1
    internet.run(301)
    publish(internet)
    internet.resolver.failing.clear()
    assert mode(xx) == "enforce"
    assert internet.resolver.asked.count(asked) == 2
