"""`mailhub tls-reports` on a mailbox that others have sent reports to."""

from __future__ import annotations

import json

import pytest

from mailhub.cli.offline import opened
from mailhub.config.settings import Config
from mailhub.delivery.relay.tls_reports import report_message
from mailhub.interfaces import TlsaRecord
from mailhub.message.flags import NO_FLAGS
from mailhub.message.reporting import Sender
from mailhub.message.tls_report import Tally, TlsFailure, TlsPolicyUsed, render
from mailhub.testing.hubs import Internet
from tests.cli.conftest import Command

SENDER = Sender("mx.yy.example", "The \x1b[1mYY", "tls@yy.example")


def good() -> bytes:
    tally = Tally()
    policy = TlsPolicyUsed("sts", "xx.example")
    tally.add(policy, None, 7)
    tally.add(policy, TlsFailure("certificate-expired", "mx.xx.example", "192.0.2.1"), 2)
    return render(SENDER, "1@mx.yy.example", "2024-01-01", tally.rendered())


def mail(packed: bytes) -> bytes:
    return report_message(SENDER, "a@xx.example", "1.2@mx.yy.example", "2024-01-01", "xx.example", packed, 1704153600)


@pytest.fixture
def account(mailhub: Command, config: Config) -> str:
    """A report, other mail, one that cannot be read, and one of nonsense."""
    mailhub("account", "add", "a@xx.example", stdin="a secret word\n")
    odd = json.dumps({"policies": [1, {"policy": [], "summary": None, "failure-details": [{"result-type": []}]}]})
    with opened(config) as hub:
        account = hub.wait(hub.database.store.account("a@xx.example"))
        box = hub.wait(account.mailbox("INBOX"))
        for octets in (mail(good()), b"Subject: x\r\n\r\nx\r\n", mail(b"nonsense"), mail(odd.encode())):
            writer = account.new_body()
            hub.wait(writer.write(octets))
            hub.wait(box.append(hub.wait(writer.finish()), NO_FLAGS, 0))
    return "a@xx.example"


def test_reports_are_listed(mailhub: Command, account: str) -> None:
    result = mailhub("tls-reports", "list", account)
    first, second = result.out.splitlines()
    assert first == "     1  2024-01-01  The \\x1b[1mYY  xx.example: 7 went well, 2 failed"
    assert second == "     4  ?  ?  ?: ? went well, ? failed"
    assert result.err == "mailhub: 3: no report that can be read: is no JSON\n"
    told = [json.loads(line) for line in mailhub("tls-reports", "list", account, "--json").out.splitlines()]
    assert [each["uid"] for each in told] == [1, 4]


def test_one_is_shown(mailhub: Command, account: str) -> None:
    assert mailhub("tls-reports", "show", account, "1").out.splitlines() == [
        "2024-01-01  The \\x1b[1mYY  xx.example: 7 went well, 2 failed",
        "  organization-name: The \\x1b[1mYY",
        "  contact-info: tls@yy.example",
        "  report-id: 1@mx.yy.example",
        "  policy sts of xx.example: 7 went well, 2 failed",
        "    certificate-expired  receiving-mx-hostname=mx.xx.example  receiving-ip=192.0.2.1  failed-session-count=2",
    ]
    assert mailhub("tls-reports", "show", account, "4").status == 0
    assert json.loads(mailhub("tls-reports", "show", account, "1", "--json").out)["report-id"] == "1@mx.yy.example"


def test_what_another_hub_has_counted_and_sent_is_shown(mailhub: Command, config: Config, account: str) -> None:
    """The whole way: sessions are counted, the day is over, the report comes by mail, and is read."""
    with Internet() as internet:
        internet.clock.rightNow += 23.5 * 3600
        internet.resolver.txt["_smtp._tls.yy.example"] = [b"v=TLSRPTv1; rua=mailto:tls@yy.example"]
        xx = internet.hub("xx.example", ["a"])
        yy = internet.hub("yy.example", ["b", "tls"])
        internet.resolver.secure.add("yy.example")
        internet.resolver.dane["_25._tcp.mx.yy.example"] = [TlsaRecord(2, 1, 1, bytes(32))]
        internet.network.expired.add(yy.address)
        xx.submit("a@xx.example", ["b@yy.example"], b"Subject: x\r\n\r\nx\r\n")
        internet.run(60)
        internet.network.expired.clear()
        internet.run(3 * 3600)
        (report,) = yy.inbox("tls@yy.example")
        assert len(yy.inbox("b@yy.example")) == 1
    with opened(config) as hub:
        box = hub.wait(hub.wait(hub.database.store.account(account)).mailbox("INBOX"))
        writer = hub.wait(hub.database.store.account(account)).new_body()
        hub.wait(writer.write(report))
        hub.wait(box.append(hub.wait(writer.finish()), NO_FLAGS, 0))
    shown = mailhub("tls-reports", "show", account, "5").out.splitlines()
    assert shown[0] == "2024-01-01  mx.xx.example  mx.yy.example: 1 went well, 1 failed"
    assert shown[-2] == "  policy tlsa of mx.yy.example: 1 went well, 1 failed"
    assert shown[-1].startswith(
        f"    certificate-expired  receiving-mx-hostname=mx.yy.example  receiving-ip={yy.address}  "
    )
    more = "receiving-mx-helo=mx.yy.example  failed-session-count=1"
    assert shown[-1].endswith(f"  sending-mta-ip={xx.address}  {more}")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "a@xx.example", "2"), "message 2 is no report that can be read: no part of it is a report"),
        (("show", "a@xx.example", "9"), "message 9 is no report"),
        (("list", "b@xx.example"), "b@xx.example"),
        (("list", "a@xx.example", "--mailbox", "none"), "none"),
    ],
)
def test_a_mistake_is_one_line(mailhub: Command, account: str, words: tuple[str, ...], told: str) -> None:
    result = mailhub("tls-reports", *words)
    assert result.status == 1
    assert told in result.err
    assert result.err.count("\n") == 1


def test_where_there_are_none(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "a@xx.example", stdin="a secret word\n")
    assert mailhub("tls-reports", "list", "a@xx.example").out == "no reports\n"


def test_an_alias_is_followed_to_the_one_account(mailhub: Command, account: str) -> None:
    mailhub("alias", "add", "postmaster", "reports@xx.example")
    mailhub("alias", "add", "reports@xx.example", account, "elsewhere@yy.example")
    shown = mailhub("tls-reports", "list", account).out
    assert mailhub("tls-reports", "list", "postmaster@xx.example").out == shown
    assert mailhub("tls-reports", "list", "reports+x@xx.example").out == shown
    mailhub("account", "add", "b@xx.example", stdin="a secret word\n")
    mailhub("alias", "add", "reports@xx.example", "b@xx.example")
    told = "postmaster@xx.example leads to a@xx.example, b@xx.example; name one of these"
    assert told in mailhub("tls-reports", "list", "postmaster@xx.example").err
