"""What strangers sent and what goes on: it is sealed, and keeps what says that it is genuine, over several servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest

from mailhub.interfaces import MailExchanger, Placement, Placements, Redirect
from mailhub.message.address import Address
from mailhub.message.header import raw_fields
from mailhub.plugins import Component
from mailhub.testing.hubs import Host, Internet
from tests.sim.test_rules import Scripted
from tests.sim.test_signing import with_keys

MESSAGE = (
    b"From: Ann <ann@aa.example>\r\nTo: x@bb.example\r\nSubject:  Re:   hello\r\nX-Odd:a\r\n\tb \r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe \t\r\n.\r\n\r\n"
)
LIST = {"post": "anyone", "subject_prefix": "[x]"}


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


def hub(internet: Internet, name: str, users: Sequence[str] = (), plugins: Any = (), **config: Any) -> Host:
    """A server whose domain lets nobody else send for it, and has keys."""
    domain = f"{name}.example"
    host = internet.hub(domain, users, config=config, plugins=plugins)
    internet.resolver.txt[domain] = [f"v=spf1 ip4:{host.address} -all".encode()]
    internet.resolver.txt[f"_dmarc.{domain}"] = [b"v=DMARC1; p=reject"]
    with_keys(host, domain)
    return host


def aliases(internet: Internet, *names: str) -> list[Host]:
    """Each sends x on to the next one."""
    return [
        hub(internet, name, aliases={f"x@{name}.example": [f"x@{after}.example"]}) for name, after in pairwise(names)
    ]


def send(internet: Internet, author: Host, to: str = "x@bb.example") -> None:
    author.submit("ann@aa.example", [to], MESSAGE)
    internet.run(300)


def results(message: bytes, name: bytes = b"authentication-results") -> str:
    """Those of the server that has it now."""
    return next(octets.decode() for each, octets in raw_fields(message) if each == name)


def names(message: bytes) -> list[bytes]:
    return [name for name, _ in raw_fields(message) if name]


def oracle(internet: Internet, message: bytes) -> tuple[bool, str]:
    """Whether it finds the author's signature good, and what it says of the chain."""

    def texts(name: bytes, timeout: int = 5) -> bytes | None:
        return next(iter(internet.resolver.txt.get(name.decode().rstrip("."), [])), None)

    value, _, _ = dkim.arc_verify(message, dnsfunc=texts)
    fields = [octets for name, octets in raw_fields(message) if name == b"dkim-signature"]
    authors = [number for number, octets in enumerate(fields) if b" d=aa.example;" in octets]  # a list has others
    good = [dkim.DKIM(message).verify(number, dnsfunc=texts) for number in authors]
    return bool(good) and all(good), (value or b"fail").decode()


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_by_aliases_of_several_servers_it_stays_the_authors(internet: Internet, count: int) -> None:
    author, on_the_way = hub(internet, "aa", ["ann"]), ["bb", "cc", "dd", "ee"][: count - 1]
    aliases(internet, *on_the_way, "zz")
    end = hub(internet, "zz", ["x"])
    send(internet, author)
    [message] = end.inbox("x@zz.example")
    told = results(message)
    assert "dmarc=pass header.from=aa.example" in told
    assert "arc=pass smtp.remote-ip=" in told
    assert "header.oldest-pass=0" in told
    assert names(message).count(b"arc-seal") == len(on_the_way)
    assert results(message, b"arc-authentication-results").startswith(
        f"ARC-Authentication-Results: i={len(on_the_way)}; mx.{on_the_way[-1]}.example;\r\n\tdmarc=pass"
    )
    assert oracle(internet, message) == (True, "pass")


def test_where_the_set_stands(internet: Internet) -> None:
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    aliases(internet, "bb", "zz")
    send(internet, author)
    [message] = end.inbox("x@zz.example")
    found = names(message)
    assert found[:3] == [b"return-path", b"received", b"authentication-results"]
    place = found.index(b"arc-seal")
    assert found[place - 1] == b"received"
    assert found[place : place + 4] == [
        b"arc-seal",
        b"arc-message-signature",
        b"arc-authentication-results",
        b"authentication-results",
    ]


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("hops", [[], ["cc"], ["cc", "dd"], ["cc", "dd", "ee"]])
def test_a_list_that_edits_is_believed_where_its_seals_are(internet: Internet, hops: list[str], trusted: bool) -> None:
    author = hub(internet, "aa", ["ann"])
    posts = {**LIST, "members": [f"x@{(*hops, 'zz')[0]}.example"], "owners": ["own@bb.example"]}
    hub(internet, "bb", ["own"], list={"x@bb.example": posts})
    sealers = ["bb.example", *[f"{each}.example" for each in hops]] if trusted else []
    # Who sends on believes the list, too.
    for name, after in zip(hops, [*hops, "zz"][1:], strict=True):
        believed = {"arc_sealers": ["bb.example", *sealers]}
        hub(internet, name, aliases={f"x@{name}.example": [f"x@{after}.example"]}, checks=believed)
    end = hub(internet, "zz", ["x"], checks={"arc_sealers": sealers})
    send(internet, author)
    if not trusted:
        assert not end.inbox("x@zz.example")
        return
    [message] = end.inbox("x@zz.example")
    told = results(message)
    assert 'dmarc=fail reason="passed at bb.example, which has sealed it" header.from=aa.example' in told
    assert "arc=pass" in told
    assert oracle(internet, message) == (False, "pass")
    assert b"Subject:  [x] Re:   hello" in message


def test_a_list_in_a_chain_is_believed_only_with_all_after_it(internet: Internet) -> None:
    author = hub(internet, "aa", ["ann"])
    hub(internet, "bb", list={"x@bb.example": {**LIST, "members": ["x@cc.example"]}})
    believed = {"arc_sealers": ["bb.example"]}
    hub(internet, "cc", aliases={"x@cc.example": ["x@zz.example"]}, checks=believed)
    end = hub(internet, "zz", ["x"], checks=believed)
    send(internet, author)
    assert not end.inbox("x@zz.example")  # cc.example could have made it up


def test_an_edit_that_nobody_has_sealed_breaks_the_chain_once(internet: Internet) -> None:
    author = hub(internet, "aa", ["ann"])
    aliases(internet, "bb", "cc")
    hub(internet, "cc", list={"x@cc.example": {**LIST, "members": ["x@dd.example"]}}, checks={"arc": False})
    report = {"dmarc": "report"}
    hub(internet, "dd", aliases={"x@dd.example": ["x@ee.example"]}, checks=report)
    hub(internet, "ee", aliases={"x@ee.example": ["x@zz.example"]}, checks=report)
    end = hub(internet, "zz", ["x"], checks=report)
    send(internet, author)
    [message] = end.inbox("x@zz.example")
    seals = [octets for name, octets in raw_fields(message) if name == b"arc-seal"]
    assert [b"cv=fail" in seal for seal in seals] == [True, False]
    assert "arc=fail" in results(message)


def test_what_dns_does_not_say_now_breaks_nothing(internet: Internet) -> None:
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    aliases(internet, "bb", "cc", "zz")
    internet.resolver.failing.add("r1._domainkey.bb.example")
    author.submit("ann@aa.example", ["x@bb.example"], MESSAGE)
    internet.run_until(lambda: bool(end.inbox("x@zz.example")), 300)
    [message] = end.inbox("x@zz.example")
    assert names(message).count(b"arc-seal") == 1
    assert 'arc=fail reason="keys cannot be looked up now"' in results(message)
    assert oracle(internet, message) == (True, "pass")


def test_nobody_elses_mail_is_sealed(internet: Internet) -> None:
    """What stays here, what our own users send, and without a key nothing."""
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    hub(internet, "bb", ["bob"], aliases={"x@bb.example": ["bob@bb.example"], "y@bb.example": ["x@zz.example"]})
    send(internet, author)
    [message] = internet.hubs[-1].inbox("bob@bb.example")
    assert b"arc-seal" not in names(message)
    author.submit("ann@aa.example", ["x@zz.example"], MESSAGE)
    internet.run(60)
    assert b"arc-seal" not in names(end.inbox("x@zz.example")[0])
    internet.hub("cc.example", config={"aliases": {"x@cc.example": ["x@zz.example"]}})
    send(internet, author, "x@cc.example")
    assert b"arc-seal" not in names(end.inbox("x@zz.example")[1])
    assert oracle(internet, end.inbox("x@zz.example")[1]) == (True, "none")


def test_a_backup_and_a_hop_by_lmtp_keep_it_as_it_is(internet: Internet) -> None:
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    backup = hub(internet, "bb", backup_mx={"domains": ["zz.example"]})
    internet.resolver.exchangers["zz.example"] = [MailExchanger(10, end.hostname), MailExchanger(20, backup.hostname)]
    end.unlisten()
    author.submit("ann@aa.example", ["x@zz.example"], MESSAGE)
    internet.run(600)
    assert len(backup.queued()) == 1
    end.listen()
    assert internet.run_until(lambda: not backup.queued(), 7200)
    [message] = end.inbox("x@zz.example")
    assert "dmarc=pass" in results(message)
    assert oracle(internet, message) == (True, "pass")

    address, port = end.place("lmtp")
    route = {"zz.example": {"agent": "lmtp", "host": f"{address}:{port}", "tls": "never"}}
    hub(internet, "cc", route=route, aliases={"x@cc.example": ["x@zz.example"]})
    send(internet, author, "x@cc.example")
    _, message = end.inbox("x@zz.example")
    assert oracle(internet, message) == (True, "pass")


def test_a_list_without_edits_keeps_the_signature(internet: Internet) -> None:
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    group = {"post": "anyone", "group": True, "members": ["x@zz.example", "bob@bb.example"]}
    hub(internet, "bb", ["bob"], list={"x@bb.example": group})
    send(internet, author)
    [message] = end.inbox("x@zz.example")
    assert "dmarc=pass" in results(message)
    assert oracle(internet, message) == (True, "pass")
    [kept] = internet.hubs[-1].inbox("bob@bb.example")
    assert oracle(internet, kept)[0]


def test_what_a_rule_sends_on_is_sealed_and_what_stays_is_not(internet: Internet) -> None:
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    onward = Placements([Placement("INBOX")], redirects=[Redirect(Address("x", "zz.example"))])
    rule = Scripted({"bob@bb.example": onward})
    made = hub(
        internet,
        "bb",
        ["bob"],
        plugins=[Component("rule", "scripted", lambda *_: rule)],
        delivery={"rules": ["scripted"]},
        rule={"scripted": {"type": "scripted"}},
    )
    send(internet, author, "bob@bb.example")
    [message], [kept] = end.inbox("x@zz.example"), made.inbox("bob@bb.example")
    assert b"arc-seal" not in names(kept)
    assert "arc=pass" in results(message)
    assert oracle(internet, message) == (True, "pass")


def test_who_gets_a_copy_here_and_there_costs_one_set(internet: Internet) -> None:
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    alias = {"x@bb.example": ["x@zz.example", "bob@bb.example", "all@bb.example"]}
    posts = {**LIST, "members": ["x@zz.example"]}
    made = hub(internet, "bb", ["bob"], aliases=alias, list={"all@bb.example": posts})
    end.reload({"checks": {"arc_sealers": ["bb.example"]}})
    send(internet, author)
    found = end.inbox("x@zz.example")
    assert len(found) == 2
    for message in [*found, *made.inbox("bob@bb.example")]:
        assert names(message).count(b"arc-seal") == 1
    assert {oracle(internet, message) for message in found} == {(True, "pass"), (False, "pass")}


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_list_anywhere_on_the_way_is_believed(internet: Internet, place: int) -> None:
    author, way = hub(internet, "aa", ["ann"]), ["bb", "cc", "dd", "ee", "zz"]
    believed = {"arc_sealers": [f"{name}.example" for name in way]}
    for number, (name, after) in enumerate(pairwise(way)):
        sent_on = {"aliases": {f"x@{name}.example": [f"x@{after}.example"]}}
        posts = {"list": {f"x@{name}.example": {**LIST, "members": [f"x@{after}.example"]}}}
        hub(internet, name, checks=believed, **(posts if number == place else sent_on))
    end = hub(internet, "zz", ["x"], checks=believed)
    send(internet, author)
    [message] = end.inbox("x@zz.example")
    assert f"header.oldest-pass={place + 1}" in results(message)
    # Before the list all have seen the author's own signature; after it each believes who came before.
    assert f'reason="passed at {way[place]}.example, which has sealed it"' in results(message)
    assert oracle(internet, message) == (False, "pass")


def test_what_is_handed_on_to_the_owners_of_a_list_is_sealed(internet: Internet) -> None:
    author, end = hub(internet, "aa", ["ann"]), hub(internet, "zz", ["x"])
    posts = {**LIST, "members": ["x@cc.example"], "owners": ["x@zz.example"]}
    hub(internet, "bb", list={"x@bb.example": posts})
    for name in ("x-owner", "x-request", "x-bounces"):
        send(internet, author, f"{name}@bb.example")
    found = end.inbox("x@zz.example")
    assert len(found) == 3
    for message in found:
        assert "dmarc=pass" in results(message)
        assert oracle(internet, message) == (True, "pass")


def test_a_post_that_waits_is_sealed_with_what_was_found_when_it_came(internet: Internet) -> None:
    author = hub(internet, "aa", ["ann"])
    posts = {**LIST, "post": "owners", "hold_others": True, "members": ["x@zz.example"], "owners": ["own@bb.example"]}
    made = hub(internet, "bb", ["own"], list={"x@bb.example": posts})
    end = hub(internet, "zz", ["x"], checks={"arc_sealers": ["bb.example"]})
    send(internet, author)
    assert len(made.queued()) == 1
    del internet.resolver.txt["r1._domainkey.aa.example"], internet.resolver.txt["e1._domainkey.aa.example"]
    [question] = made.inbox("own@bb.example")
    word = next(line for line in question.splitlines() if line.startswith(b"approve "))
    made.submit("own@bb.example", ["x-request@bb.example"], b"From: own@bb.example\r\nSubject: %b\r\n\r\n" % word)
    internet.run(300)
    [message] = end.inbox("x@zz.example")
    assert "arc=pass" in results(message)
    assert "passed at bb.example" in results(message)


def test_what_is_sealed_and_comes_again_after_a_crash_goes_on_once(tmp_path: Path) -> None:
    with Internet(seed=1, folder=tmp_path, poll_seconds=3600) as internet:
        inline: dict[str, Any] = {"database": {"type": "inline"}}
        host = hub(internet, "bb", aliases={"x@bb.example": ["x@zz.example"]}, **inline)
        end = hub(internet, "zz", ["x"])
        end.unlisten()
        for _ in range(2):
            host.client().send("s@yy.example", ["x@bb.example"], b"Message-ID: <1@yy.example>\r\n" + MESSAGE)
            internet.run(30)
            host.kill()
            host.boot()
            internet.run(10)
        end.listen()
        internet.run(7200)
        [message] = end.inbox("x@zz.example")
        assert names(message).count(b"arc-seal") == 1
