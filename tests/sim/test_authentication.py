"""What is found out about mail from strangers, over the network of simulations."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.checks.canonical import BodyHash
from mailhub.checks.signing import SigningKey, dkim_signature, new_key
from mailhub.message.header import raw_fields
from mailhub.testing.hubs import Host, Internet
from tests.sim.test_screens import answers, greeted

KEY = SigningKey("yy.example", "s1", new_key("ed25519"))
HEADER = b"From: a@yy.example\r\nSubject: hello\r\n"
BODY = b"How are you?\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        resolver = internet.resolver
        resolver.txt["yy.example"] = [b"v=spf1 ip4:10.9.9.9 -all"]
        resolver.txt["_dmarc.yy.example"] = [b"v=DMARC1; p=reject"]
        resolver.txt["_dmarc.qq.example"] = [b"v=DMARC1; p=quarantine"]
        resolver.txt[KEY.name] = [KEY.record.encode()]
        resolver.ptr["10.9.9.9"] = ["mx.yy.example"]
        resolver.hosts["mx.yy.example"] = ["10.9.9.9"]
        yield internet


def hub(internet: Internet, **checks: Any) -> Host:
    return internet.hub("xx.example", ["ann"], config={"checks": checks})


def sent(
    internet: Internet,
    host: Host,
    header: bytes = HEADER,
    source: str = "10.9.9.9",
    sender: str = "a@yy.example",
    helo: str = "mx.yy.example",
) -> str:
    """The answer to a message."""
    caller = greeted(internet, host, source, helo)
    answers(caller, f"MAIL FROM:<{sender}>", "RCPT TO:<ann@xx.example>", "DATA")
    return caller.ask(header + b"\r\n" + BODY + b".\r\n", b"").decode()


def kept(internet: Internet, host: Host, mailbox: str) -> list[bytes]:
    """The messages in one of the mailboxes of ann."""

    async def read() -> list[bytes]:
        box = await (await host.hub.store.account("ann@xx.example")).mailbox(mailbox)
        return [await (await box.open(each.uid)).read() for each in await box.entries()]

    return internet.wait(read())


def signed(header: bytes = HEADER, body: bytes = BODY) -> bytes:
    relaxed = BodyHash("relaxed")
    relaxed.update(body)
    return dkim_signature(KEY, list(raw_fields(header)), relaxed.digest(), 1_700_000_000) + header


def results(host: Host) -> list[bytes]:
    """Those in the fields of the one message that is there."""
    [message] = host.inbox("ann@xx.example")
    fields = [octets for name, octets in raw_fields(message) if name == b"authentication-results"]
    return [line.strip(b" \t\r\n;") for field in fields for line in field.partition(b":")[2].split(b"\r\n\t")]


def test_all_that_was_found_stands_in_one_field(internet: Internet) -> None:
    host = hub(internet)
    assert sent(internet, host, signed()).startswith("250")
    name, dmarc, spf, helo, dkim, arc, iprev = results(host)
    assert name == b"mx.xx.example"
    assert dmarc == b"dmarc=pass header.from=yy.example policy.dmarc=reject"
    assert spf == b"spf=pass smtp.mailfrom=a@yy.example"
    assert helo == b"spf=none smtp.helo=mx.yy.example"
    assert dkim.startswith(b"dkim=pass header.d=yy.example header.s=s1 header.a=ed25519-sha256 header.b=")
    assert arc == b"arc=none"
    assert iprev == b"iprev=pass policy.iprev=10.9.9.9"


def test_who_is_not_whom_he_says_is_refused(internet: Internet) -> None:
    host = hub(internet)
    assert sent(internet, host, source="10.8.8.8").startswith("550 5.7.1 yy.example wants mail refused")
    assert not host.inbox("ann@xx.example")


def test_a_signature_is_enough(internet: Internet) -> None:
    host = hub(internet)
    assert sent(internet, host, signed(), source="10.8.8.8").startswith("250")
    assert b"dmarc=pass" in results(host)[1]


@pytest.mark.parametrize("checks", [{"dmarc": "report"}, {"forwarders": ["10.8.0.0/16"]}])
def test_it_may_be_told_alone(internet: Internet, checks: dict[str, Any]) -> None:
    host = hub(internet, **checks)
    assert sent(internet, host, source="10.8.8.8").startswith("250")
    assert b"dmarc=fail header.from=yy.example policy.dmarc=reject" in results(host)


def test_what_cannot_be_found_out_refuses_nothing(internet: Internet) -> None:
    host = hub(internet)
    internet.resolver.failing |= {"_dmarc.yy.example", "yy.example"}
    assert sent(internet, host, source="10.8.8.8").startswith("250")
    assert results(host)[1].startswith(b"dmarc=temperror")


@pytest.mark.parametrize(
    "forged",
    [
        b"Authentication-Results: mx.xx.example; dmarc=pass\r\n",
        b"authentication-results :\r\n (a comment) MX.XX.example 1;\r\n dmarc=pass\r\n",
        b'Authentication-Results: "mx.xx.example"; dmarc=pass\r\n',
    ],
)
def test_who_says_so_in_our_name_is_not_believed(internet: Internet, forged: bytes) -> None:
    host = hub(internet, spf=False, dkim=False, dmarc="off", arc=False, iprev=False)
    other = b"Authentication-Results: mx.zz.example; spf=pass\r\n"
    assert sent(internet, host, forged + other + HEADER).startswith("250")
    assert results(host) == [b"mx.zz.example; spf=pass"]


def test_several_authors_fields_are_no_way_round_it(internet: Internet) -> None:
    host = hub(internet)
    said = sent(internet, host, b"From: a@zz.example\r\n" + HEADER, source="10.8.8.8")
    assert said.startswith("550 5.7.1 Message has several From fields (dmarc)")
    assert not host.inbox("ann@xx.example")


@pytest.mark.parametrize(
    ("header", "kept_in"),
    [
        (b"Subject: backup is done\r\n", "INBOX"),
        (b"From: root (Cron Daemon)\r\n", "INBOX"),
        (b"From: a@[10.8.8.8]\r\n", "INBOX"),
        (b"From: ceo@yy..example\r\n", "Junk"),
        (b'From: "ceo@yy.example"\r\n', "Junk"),
        (b"From: =?utf-8?q?ceo=40yy.example?=\r\n", "Junk"),
        (b"From: =?utf-8?q?ceo=40yy.example=00?=@zz.example\r\n", "Junk"),
        (b"From: " + b", ".join(b"a@%d.zz.example" % number for number in range(11)) + b"\r\n", "Junk"),
        (b"Subject: x\r\n" * 30_000 + HEADER, "Junk"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else value,
)
def test_a_from_that_names_no_domain_is_delivered_and_one_that_may_mislead_is_junk(
    internet: Internet, header: bytes, kept_in: str
) -> None:
    host = hub(internet)
    assert sent(internet, host, header, source="10.8.8.8").startswith("250")
    [message] = kept(internet, host, kept_in)
    assert b"dmarc=permerror" in message


def test_what_is_to_be_quarantined_is_junk(internet: Internet) -> None:
    host = hub(internet)
    with capturedLogs() as events:
        assert sent(internet, host, b"From: a@qq.example\r\n", source="10.8.8.8").startswith("250")
    assert not host.inbox("ann@xx.example")
    [message] = kept(internet, host, "Junk")
    assert b"dmarc=fail header.from=qq.example policy.dmarc=quarantine" in message
    [line] = [text for event in events if (text := formatEvent(event)).startswith("checked: ")]
    assert line.endswith(
        "peer=[10.8.8.8] from=<a@yy.example> dmarc=fail:qq.example policy=quarantine spf=fail:yy.example "
        "helo=none:mx.yy.example dkim=none arc=none iprev=permerror verdict=quarantine"
    )


@pytest.mark.parametrize(("sender", "property"), [("sales@xx.example", b" smtp.mailfrom=sales@xx.example"), ("", b"")])
def test_our_own_users_mail_says_that_they_have_logged_in_and_not_as_whom(
    internet: Internet, sender: str, property: bytes
) -> None:
    host = internet.hub("xx.example", ["ann"], config={"aliases": {"sales@xx.example": ["ben@xx.example"]}})
    host.add_account("ben@xx.example", "secret")
    caller = internet.call(host, "submissions")
    caller.expect(b"220")
    login = b64encode(b"\0ben@xx.example\0secret").decode()
    to = f"MAIL FROM:<{sender}>", "RCPT TO:<ann@xx.example>", "DATA"
    answers(caller, "EHLO client.example", f"AUTH PLAIN {login}", *to)
    caller.ask(b"Authentication-Results: mx.xx.example; auth=pass smtp.auth=ceo\r\n" + HEADER + b"\r\n.\r\n", b"250")
    assert results(host) == [b"mx.xx.example", b"auth=pass" + property]
