"""What is found out about mail from strangers, over the network of simulations."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from authres import AuthenticationResultsHeader  # type: ignore[import-untyped]
from twisted.logger import capturedLogs, formatEvent

from mailhub.checks.canonical import BodyHash
from mailhub.checks.signing import SigningKey, dkim_signature, new_key
from mailhub.delivery.authentication.asking import KNOWN_SECONDS
from mailhub.delivery.authentication.screen import TIME_LIMIT
from mailhub.delivery.transaction import Transaction
from mailhub.explain import explain
from mailhub.message.envelope import Recipient
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


def test_who_says_so_by_lmtp_or_in_a_header_without_end_is_not_believed_either(internet: Internet) -> None:
    host = hub(internet, dmarc="report")
    forged = b'Authentication-Results: (ours) \r\n "MX.xx.example." 1; dmarc=pass\r\n'
    local = internet.call(host, "lmtp")
    local.expect(b"220")
    answers(local, "LHLO filter.example", "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>", "DATA")
    local.ask(forged + HEADER + b"\r\n" + BODY + b".\r\n", b"250")
    assert sent(internet, host, forged + b"X: y\r\n" * 60_000 + HEADER).startswith("250")
    found = [b"dmarc=pass" in message or b"(ours)" in message for message in host.inbox("ann@xx.example")]
    assert found == [False, False]


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


def test_who_asks_beforehand_is_told_what_was_found(internet: Internet) -> None:
    host = hub(internet)
    question = {"from": "a@yy.example", "to": "ann@xx.example", "ip": "10.8.8.8", "helo": "mx.yy.example"}
    [at_mail] = internet.wait(explain(host.hub, question))["steps"]
    assert (at_mail["at"], at_mail["rule"], at_mail["verdict"]) == ("mail", "checks", "accept")
    of_client = ["spf=fail smtp.mailfrom=a@yy.example", "spf=none smtp.helo=mx.yy.example"]
    assert at_mail["results"] == [*of_client, "iprev=permerror policy.iprev=10.8.8.8"]
    told = internet.wait(explain(host.hub, {**question, "message": b64encode(HEADER + b"\r\n" + BODY).decode()}))
    assert told["reply"].startswith("550 5.7.1 yy.example wants mail refused")
    assert told["rule"] == "checks:dmarc"
    [_, at_end] = told["steps"]
    assert at_end["results"][0] == "dmarc=fail header.from=yy.example policy.dmarc=reject"
    assert "dkim=none" in at_end["results"]
    passes = b64encode(signed() + b"\r\n" + BODY).decode()
    assert internet.wait(explain(host.hub, {**question, "message": passes}))["taken"]
    assert not host.inbox("ann@xx.example")


def test_who_is_known_is_taken_at_once_with_all_checks(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[bool] = []
    usual = Transaction.recipient_at_once

    def noted(self: Transaction, recipient: Recipient) -> bool:
        at_once.append(usual(self, recipient))
        return at_once[-1]

    monkeypatch.setattr(Transaction, "recipient_at_once", noted)
    caller = greeted(internet, hub(internet))
    envelope = b"MAIL FROM:<a@yy.example>\r\nRCPT TO:<ann@xx.example>\r\n"
    caller.say((envelope + b"RSET\r\n") * 2 + envelope + b"DATA\r\n")
    caller.expect(b"354")
    caller.ask(HEADER + b"\r\n" + BODY + b".\r\n", b"250 2.0.0")
    assert at_once == [False, True, True]


def test_who_says_for_whom_he_speaks_is_looked_at_as_that(internet: Internet) -> None:
    trust = {"proxy_protocol": ["10.7.0.0/16"], "xclient": ["10.6.0.0/16"]}
    host = internet.hub("xx.example", ["ann"], config={"trust": trust})
    behind = internet.call(host, "smtp", "10.7.0.1")
    behind.say(b"PROXY TCP4 10.9.9.9 10.0.0.1 4711 25\r\n")
    behind.expect(b"220")
    answers(behind, "EHLO mx.yy.example")
    told = internet.call(host, "smtp", "10.6.0.1")
    told.expect(b"220")
    answers(told, "EHLO proxy.example", "XCLIENT ADDR=10.9.9.9 HELO=mx.yy.example", "EHLO proxy.example")
    for caller in (behind, told):
        answers(caller, "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>", "DATA")
        caller.ask(HEADER + b"\r\n" + BODY + b".\r\n", b"250")
        message = host.inbox("ann@xx.example")[-1]
        assert b"spf=pass smtp.mailfrom=a@yy.example" in message
        assert b"iprev=pass policy.iprev=10.9.9.9" in message


# --- Time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [KEY.name, "_dmarc.yy.example", "yy.example", "10.8.8.8", "all of them"])
def test_what_dns_does_not_say_in_time_refuses_nothing(internet: Internet, silent: str) -> None:
    host = hub(internet)
    resolver = internet.resolver
    silent_names = {KEY.name, "_dmarc.yy.example", "yy.example", "mx.yy.example", "10.8.8.8", "_dmarc.example"}
    # As a server that never answers: the one of simulations gives up after ten seconds.
    resolver.slow = dict.fromkeys(silent_names if silent == "all of them" else [silent], 3600.0)
    caller = greeted(internet, host, "10.8.8.8")
    answers(caller, "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>", "DATA")
    before = internet.clock.seconds()
    assert caller.ask(signed() + b"\r\n" + BODY + b".\r\n", b"250", TIME_LIMIT + 1)
    assert internet.clock.seconds() - before <= TIME_LIMIT + 1
    said = b"\n".join(results(host))
    wanted = {KEY.name: b"dkim=temperror reason=", "_dmarc.yy.example": b"dmarc=temperror"}
    others = {"yy.example": b"spf=temperror", "10.8.8.8": b"iprev=temperror", "all of them": b"dmarc=temperror"}
    assert {**wanted, **others}[silent] in said
    if silent == KEY.name:
        # It may have been the signature that would have made it pass.
        assert b"dmarc=temperror reason" in said


def test_all_is_asked_side_by_side(internet: Internet) -> None:
    host = hub(internet)
    names = (KEY.name, "_dmarc.yy.example", "yy.example", "mx.yy.example", "10.9.9.9")
    internet.resolver.slow = dict.fromkeys(names, 3.0)
    before = internet.clock.seconds()
    assert sent(internet, host, signed()).startswith("250")
    assert internet.clock.seconds() - before <= 7  # the name of the address leads back with a second question


def test_a_fault_of_ours_refuses_nothing(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> object:
        raise RuntimeError("a bug")

    async def fails_later(*_: object, **__: object) -> object:
        raise RuntimeError("a bug")

    host = hub(internet)
    where = "mailhub.delivery.authentication.screen."
    for name, broken, told in (
        ("verify", fails_later, b"dkim=temperror"),
        ("check_host", fails_later, b"spf=temperror"),
        ("iprev", fails_later, b"iprev=temperror"),
        ("author_domains", fails, b""),
        ("evaluate", fails_later, b""),
    ):
        internet.run(KNOWN_SECONDS + 1)
        with monkeypatch.context() as patched, capturedLogs() as events:
            patched.setattr(where + name, broken)
            assert sent(internet, host, source="10.8.8.8", helo="b.example")[:3] == (
                "550" if name == "iprev" else "250"
            )
        assert any("a bug" in str(event.get("log_failure")) for event in events), name
        if name != "iprev":
            assert told in host.inbox("ann@xx.example")[-1]


# --- Cost ----------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_client_and_a_domain_is_not_asked_again(internet: Internet) -> None:
    host = hub(internet)
    for _ in range(2):
        assert sent(internet, host).startswith("250")
    assert [name for kind, name in internet.resolver.asked if kind == "TXT"].count("yy.example") == 1
    internet.resolver.txt["yy.example"] = [b"v=spf1 exists:%{l}.%{o} -all"]
    internet.run(KNOWN_SECONDS + 1)
    internet.resolver.hosts["a.yy.example"] = ["127.0.0.2"]
    for sender, value in (("a", b"pass"), ("b", b"fail"), ("a", b"pass")):
        assert sent(internet, host, signed(), sender=f"{sender}@yy.example").startswith("250")
        assert b"spf=%s smtp.mailfrom=%s@" % (value, sender.encode()) in host.inbox("ann@xx.example")[-1]


def test_each_message_of_a_connection_has_all_results(internet: Internet) -> None:
    host = hub(internet)
    internet.resolver.slow = {"10.9.9.9": 2.0}
    caller = greeted(internet, host)
    for _ in range(2):
        answers(caller, "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>", "DATA")
        caller.ask(HEADER + b"\r\n" + BODY + b".\r\n", b"250")
    assert [b"iprev=pass" in each for each in host.inbox("ann@xx.example")] == [True, True]


# --- Texts of strangers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "helo"),
    [
        ('"a) dmarc=pass (b"@zz.example', "mx.yy.example"),
        ('"a;dmarc=pass"@zz.example', "[10.8.8.8]"),
        ('"dmarc=pass\\""@zz.example', "a;dmarc=pass"),
        ("x" * 64 + "@" + "y" * 63 + "." + "z" * 63 + ".example", "(dmarc=pass"),
        ("dmarc=pass@zz.example", 'mx"dmarc=pass'),
    ],
)
def test_what_a_stranger_writes_is_no_result(internet: Internet, sender: str, helo: str) -> None:
    host = hub(internet)
    signature = b"DKIM-Signature: v=1; a=rsa-sha256; d=zz.example; s=s;\r\n i=dmarc=pass_(%s@zz.example;\r\n" % (
        b"x" * 400
    )
    header = signature + b" h=from; bh=YWJj; b=YWJj\r\nFrom: dmarc=pass <a@zz.example>\r\n"
    assert sent(internet, host, header, "10.8.8.8", sender, helo).startswith("250")
    [message] = host.inbox("ann@xx.example")
    fields = [octets for name, octets in raw_fields(message) if name == b"authentication-results"]
    found = AuthenticationResultsHeader.parse(fields[0].decode().strip())
    methods = [(each.method, each.result) for each in found.results]
    assert ("dmarc", "none") in methods
    assert not [each for each in methods if each[0] == "dmarc" and each[1] == "pass"]
