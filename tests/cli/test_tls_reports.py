"""`mailhub tls-reports` on a mailbox that others have sent reports to."""

from __future__ import annotations

import json

import pytest

from mailhub.cli.offline import opened
from mailhub.config.settings import Config
from mailhub.delivery.relay.tls_reports import report_message
from mailhub.message.flags import NO_FLAGS
from mailhub.message.tls_report import Sender, Tally, TlsFailure, TlsPolicyUsed, render
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
