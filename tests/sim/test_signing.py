"""What leaves our users' hands is signed, and a second server finds it so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zope.interface import implementer

from mailhub.checks.canonical import BodyHash
from mailhub.checks.dkim import verify
from mailhub.checks.signing import PrivateKey, SigningKey, dkim_signature, new_key
from mailhub.delivery.authentication.keys import PART, KeptKey, KeptKeys
from mailhub.interfaces import IMailRules, IMessageView, Placement, Placements, Reply
from mailhub.message.envelope import Mail
from mailhub.message.header import fields_end, raw_fields
from mailhub.plugins import Component
from mailhub.store.octets import OctetsReader
from mailhub.testing.hubs import EPOCH, Host, Internet
from tests.sim.test_needs import PLAIN, exchanger

RSA = new_key("rsa")
ED25519 = new_key("ed25519")
MESSAGE = b"From: Ann <ann@xx.example>\r\nTo: bob@yy.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1, poll_seconds=3600) as internet:
        internet.resolver.txt["_dmarc.xx.example"] = [b"v=DMARC1; p=reject"]
        yield internet


def with_keys(host: Host, domain: str = "xx.example", state: Any = "active") -> list[SigningKey]:
    """It has two keys, and DNS shows them."""
    private: dict[str, PrivateKey] = {"r1": RSA, "e1": ED25519}
    keys = [SigningKey(domain, selector, key) for selector, key in private.items()]
    kept = [KeptKey(key, EPOCH, state, EPOCH) for key in keys]
    host.internet.wait(KeptKeys(host.hub.database.state.of(PART)).put(kept))
    publish(host.internet, *keys)
    host.internet.run(2)
    return keys


def publish(internet: Internet, *keys: SigningKey) -> None:
    for key in keys:
        internet.resolver.txt[key.name] = [key.record.encode()]


def fields(message: bytes, name: bytes) -> list[bytes]:
    header = message[: fields_end(message, 0, len(message))]
    return [octets for each, octets in raw_fields(header) if each == name]


def results(message: bytes) -> str:
    return fields(message, b"authentication-results")[0].decode()


def test_what_a_user_submits_passes_at_the_next_server(internet: Internet) -> None:
    xx, yy = internet.hub("xx.example", ["ann"]), internet.hub("yy.example", ["bob"])
    with_keys(xx)
    xx.submit("ann@xx.example", ["bob@yy.example", "ann@xx.example"], MESSAGE)
    internet.run(60)
    [message], [own] = yy.inbox("bob@yy.example"), xx.inbox("ann@xx.example")
    assert results(message).count("dkim=pass header.d=xx.example") == 2
    assert "dmarc=pass" in results(message)
    assert fields(message, b"dkim-signature") == fields(own, b"dkim-signature")
    top = [name for name, _ in raw_fields(own)][:4]
    assert top == [b"return-path", b"received", b"dkim-signature", b"dkim-signature"]


# --- Keys come and go -------------------------------------------------------------------------------------------------


def kept(host: Host) -> list[KeptKey]:
    return list(host.internet.wait(KeptKeys(host.hub.database.state.of(PART)).all()))


def states(host: Host) -> dict[str, str]:
    return {each.key.selector: each.state for each in kept(host)}


def test_a_key_signs_only_when_dns_has_been_seen_with_it(internet: Internet) -> None:
    xx, yy = internet.hub("xx.example", ["ann"]), internet.hub("yy.example", ["bob"])
    internet.resolver.txt["_dmarc.xx.example"] = [b"v=DMARC1; p=none"]
    keys = with_keys(xx, state="new")
    for key in keys:
        del internet.resolver.txt[key.name]
    internet.resolver.failing.add(keys[0].name)
    internet.run(600)
    xx.submit("ann@xx.example", ["bob@yy.example"], MESSAGE)
    internet.run(60)
    assert not fields(yy.inbox("bob@yy.example")[0], b"dkim-signature")
    publish(internet, keys[1])
    internet.run(300)
    assert states(xx) == {"r1": "new", "e1": "active"}
    internet.resolver.failing.clear()
    publish(internet, keys[0])
    internet.run(300)
    xx.submit("ann@xx.example", ["bob@yy.example"], MESSAGE)
    internet.run(60)
    assert results(yy.inbox("bob@yy.example")[1]).count("dkim=pass") == 2


def test_old_keys_get_followers_and_no_message_goes_unsigned_or_cannot_be_verified(internet: Internet) -> None:
    """Over weeks, while an operator publishes what he is told, days later, and takes out what may be."""
    xx = internet.hub("xx.example", ["ann", "postmaster"], config={"dkim": {"rotate_days": 14}})
    yy = internet.hub("yy.example", ["bob"])
    with_keys(xx)
    told = 0
    for day in range(45):
        xx.submit("ann@xx.example", ["bob@yy.example"], MESSAGE)
        internet.run(86_400)
        letters = xx.inbox("postmaster@xx.example")
        if day % 3 == 2 and len(letters) > told:
            [letter] = letters[told:]
            told += 1
            internet.resolver.load(letter.decode().partition("publish:\r\n")[2].partition("Until")[0].strip())
        present = {each.key.name for each in kept(xx)}
        for name in [each for each in internet.resolver.txt if "_domainkey" in each and each not in present]:
            del internet.resolver.txt[name]
    messages = yy.inbox("bob@yy.example")
    assert len(messages) == 45
    assert all(results(each).count("dkim=pass header.d=xx.example") == 2 for each in messages)
    assert told >= 2
    assert len({results(each).split("header.s=")[1].split()[0] for each in messages}) == 3


def test_nobody_is_told_twice_of_the_same_key(internet: Internet) -> None:
    xx = internet.hub("xx.example", ["ann", "postmaster"], config={"dkim": {"rotate_days": 1}})
    with_keys(xx)
    internet.run(10 * 86_400)
    [letter] = xx.inbox("postmaster@xx.example")
    assert letter.count(b"._domainkey.xx.example. 3600 IN TXT") == 2
    assert len(fields(letter, b"dkim-signature")) == 2
    assert sorted(states(xx).values()) == ["active", "active", "new", "new"]


# --- What else is ours ------------------------------------------------------------------------------------------------


def passes(message: bytes, domain: str = "xx.example") -> bool:
    return results(message).count(f"dkim=pass header.d={domain}") == 2


def test_what_is_sent_on_by_an_alias_is_still_good(internet: Internet) -> None:
    xx, zz = internet.hub("xx.example", ["ann"]), internet.hub("zz.example", ["cat"])
    yy = internet.hub("yy.example", config={"aliases": {"bob@yy.example": ["cat@zz.example"]}})
    with_keys(xx)
    with_keys(yy, "yy.example")
    xx.submit("ann@xx.example", ["bob@yy.example"], MESSAGE)
    internet.run(60)
    [message] = zz.inbox("cat@zz.example")
    assert passes(message)
    assert "dmarc=pass" in results(message)
    assert len(fields(message, b"dkim-signature")) == 2, "yy.example does not answer for what it did not write"


def test_reports_are_signed(internet: Internet) -> None:
    xx, yy = internet.hub("xx.example", ["ann"]), internet.hub("yy.example", ["bob"], config={"checks": {"spf": False}})
    with_keys(xx)
    xx.reload({"aliases": {"list@xx.example": ["gone@nowhere2.example"]}})
    yy.submit("bob@yy.example", ["list@xx.example"], b"From: bob@yy.example\r\n\r\nhi\r\n")
    internet.run(3600)
    [report] = yy.inbox("bob@yy.example")
    assert b"multipart/report" in report
    assert passes(report)
    assert "dmarc=pass header.from=mx.xx.example" in results(report)


def test_a_list_signs_what_it_has_made_of_a_message(internet: Internet) -> None:
    team = {"members": ["cat@zz.example"], "post": "anyone", "subject_prefix": "[team]"}
    zz = internet.hub("zz.example", ["cat"])
    xx = internet.hub("xx.example", ["ann"], config={"list": {"team@xx.example": team}})
    yy = internet.hub("yy.example", ["bob"])
    with_keys(xx)
    yy.submit("bob@yy.example", ["team@xx.example"], b"From: bob@yy.example\r\nSubject: hello\r\n\r\nhi\r\n")
    xx.submit("ann@xx.example", ["team@xx.example"], MESSAGE)
    internet.run(60)
    for message in zz.inbox("cat@zz.example"):
        assert b"Subject: [team] hello" in message
        assert passes(message), results(message)


def test_a_list_does_not_answer_for_who_only_says_that_he_is_one_of_us(internet: Internet) -> None:
    team = {"members": ["cat@zz.example"], "post": "anyone"}
    zz = internet.hub("zz.example", ["cat"], config={"checks": {"dmarc": "report"}})
    config = {"list": {"team@xx.example": team}, "checks": {"dmarc": "report"}}
    xx = internet.hub("xx.example", ["ann"], config=config)
    yy = internet.hub("yy.example", ["bob"])
    with_keys(xx)
    yy.submit("bob@yy.example", ["team@xx.example"], MESSAGE)
    yy.submit("bob@yy.example", ["team@xx.example"], DKIM_FIELD + MESSAGE)
    internet.run(60)
    assert len(zz.inbox("cat@zz.example")) == 2
    assert not any("dkim=pass" in results(message) for message in zz.inbox("cat@zz.example"))


DKIM_FIELD = (
    b"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=xx.example; s=e1; t=1704067200; h=from;\r\n"
    b" bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=YWJj\r\n"
)
EIGHT_BIT = (
    "From: Ann <ann@xx.example>\r\nTo: bob@yy.example\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"
).encode()


@pytest.mark.parametrize("size", [0, 2 << 20])
def test_what_is_converted_for_a_next_hop_is_signed_again(internet: Internet, size: int) -> None:
    xx = internet.hub("xx.example", ["ann"])
    hop = exchanger(internet, 1, *PLAIN)
    keys = with_keys(xx)
    xx.submit("ann@xx.example", ["bob@yy.example"], EIGHT_BIT + b"line\r\n" * (size // 6))
    internet.run(60)
    [sent] = hop.messages
    assert sent.isascii()
    assert len(fields(sent, b"dkim-signature")) == 2
    assert verified(internet, sent) == ["pass", "pass"]
    assert [each.selector for each in keys] == ["r1", "e1"]


def test_a_signature_of_ours_that_was_broken_before_is_not_made_good(internet: Internet) -> None:
    xx = internet.hub("xx.example", ["ann"], config={"aliases": {"all@xx.example": ["bob@yy.example"]}})
    hop = exchanger(internet, 1, *PLAIN)
    with_keys(xx)
    zz = internet.hub("zz.example", ["cat"])
    internet.resolver.txt["_dmarc.xx.example"] = [b"v=DMARC1; p=none"]
    zz.submit("cat@zz.example", ["all@xx.example"], DKIM_FIELD + EIGHT_BIT)
    internet.run(60)
    [sent] = hop.messages
    assert sent.isascii()
    assert fields(sent, b"dkim-signature") == [DKIM_FIELD]


def verified(internet: Internet, message: bytes) -> list[str]:
    end = fields_end(message, 0, len(message))
    found = verify(message[:end], OctetsReader(message[end:]), internet.resolver, int(internet.clock.seconds()))
    return [each.value for each in internet.wait(found)]


def test_the_senders_own_copy_is_signed_as_what_was_sent(internet: Internet) -> None:
    xx = internet.hub("xx.example", ["ann"], config={"submission": {"copy_to_sent": True}})
    yy = internet.hub("yy.example", ["bob"])
    with_keys(xx)
    xx.submit("ann@xx.example", ["bob@yy.example"], b"Bcc: eve@yy.example\r\n" + MESSAGE)
    internet.run(60)
    [message] = yy.inbox("bob@yy.example")
    [copy] = internet.wait(messages_in(xx, "ann@xx.example", "Sent"))
    assert fields(copy, b"bcc")
    assert not fields(message, b"bcc")
    assert fields(copy, b"dkim-signature") == fields(message, b"dkim-signature")
    assert verified(internet, copy) == ["pass", "pass"]
    assert passes(message)


async def messages_in(host: Host, user: str, name: str) -> list[bytes]:
    mailbox = await (await host.hub.store.account(user)).mailbox(name)
    return [await (await mailbox.open(entry.uid)).read() for entry in await mailbox.entries()]


def test_who_signs_before_us_keeps_his_signature(internet: Internet) -> None:
    xx, yy = internet.hub("xx.example", ["ann"]), internet.hub("yy.example", ["bob"])
    own = SigningKey("ann.example", "own", ED25519)
    publish(internet, own)
    body = BodyHash("relaxed")
    body.update(MESSAGE.partition(b"\r\n\r\n")[2])
    message = b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@ann.example>\r\n" + MESSAGE
    header = message.partition(b"\r\n\r\n")[0] + b"\r\n"
    with_keys(xx)
    xx.submit(
        "ann@xx.example",
        ["bob@yy.example"],
        dkim_signature(own, list(raw_fields(header)), body.digest(), EPOCH) + message,
    )
    internet.run(60)
    [got] = yy.inbox("bob@yy.example")
    assert passes(got)
    assert "dkim=pass header.d=ann.example" in results(got)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_large_body_is_read_from_where_it_is_kept(internet: Internet, size: int, tmp_path: Path) -> None:
    with Internet(seed=2, folder=tmp_path) as own:
        xx = own.hub("xx.example", ["ann"], config={"database": {"type": "inline"}})
        yy = own.hub("yy.example", ["bob"])
        with_keys(xx)
        xx.submit("ann@xx.example", ["bob@yy.example"], MESSAGE + b"a line  of it \r\n" * (size // 16) + b"\r\n\r\n")
        own.run(60)
        [message] = yy.inbox("bob@yy.example")
        assert passes(message)


@implementer(IMailRules)
class Away:
    def apply(self, account: str, mail: Mail, message: IMessageView) -> Placements:
        reply = Reply(f"From: {account}\r\nTo: {mail.reverse_path}\r\nSubject: away\r\n\r\nNot here.".encode())
        return Placements([Placement()], replies=[reply])


def test_answers_of_rules_are_signed(internet: Internet) -> None:
    rule = Component("rule", "away", lambda *_: Away())
    xx = internet.hub("xx.example", ["ann"], {"delivery": {"rules": ["away"]}}, [rule])
    yy = internet.hub("yy.example", ["bob"])
    with_keys(xx)
    yy.submit("bob@yy.example", ["ann@xx.example"], b"From: bob@yy.example\r\n\r\nhi\r\n")
    internet.run(60)
    [answer] = yy.inbox("bob@yy.example")
    assert passes(answer)
    assert not fields(xx.inbox("ann@xx.example")[0], b"dkim-signature"), "what strangers send is not ours to sign"


def test_reports_about_tls_are_signed(internet: Internet) -> None:
    internet.resolver.txt["_smtp._tls.yy.example"] = [b"v=TLSRPTv1; rua=mailto:tls@zz.example"]
    xx = internet.hub("xx.example", ["ann"], {"tlsrpt": {"contact": "tls@xx.example"}})
    internet.hub("yy.example", ["bob"])
    zz = internet.hub("zz.example", ["tls"])
    with_keys(xx)
    xx.submit("ann@xx.example", ["bob@yy.example"], MESSAGE)
    internet.run(30 * 3600)
    [report] = zz.inbox("tls@zz.example")
    assert passes(report)
    assert b"tls-report-domain:tls-report-submitter" in b"".join(fields(report, b"dkim-signature")[0].split())


def test_what_a_list_answers_is_signed(internet: Internet) -> None:
    xx, yy = internet.hub("xx.example", ["ann"]), internet.hub("yy.example", ["bob"])
    names = xx.hub.database.names
    internet.wait(names.put_list("team@xx.example", '{"owners": ["ann@xx.example"]}'))
    internet.wait(names.join_list("team@xx.example", ["bob@yy.example"]))
    with_keys(xx)
    yy.submit("bob@yy.example", ["team-unsubscribe@xx.example"], b"From: bob@yy.example\r\n\r\nhi\r\n")
    internet.run(60)
    [answer] = yy.inbox("bob@yy.example")
    assert passes(answer)
