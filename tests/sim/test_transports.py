"""Ways by recipient, sender, account and number of the attempt, over whole servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailhub.errors import ConfigurationError
from mailhub.interfaces import Ended
from mailhub.testing.hubs import Host, Internet

MESSAGE = b"From: a@xx.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"


@pytest.fixture
def internet() -> Any:
    with Internet(seed=3) as made:
        yield made


def xx(internet: Internet, transport: Mapping[str, Any], **more: Any) -> Host:
    return internet.hub("xx.example", users=["a", "c"], config={"transport": transport, **more})


def relay(internet: Internet, domain: str, **config: Any) -> Host:
    """A server that takes mail for every domain from its users, as a smarthost does, and from a local program."""
    return internet.hub(domain, users=["b"], config=config)


def by(host: Host, user: str) -> list[bytes]:
    """The trace fields that a server of the way has put."""
    return [line for line in host.inbox(user)[-1].split(b"\r\nFrom:")[0].split(b"\r\n") if b"by " in line]


def queued(host: Host) -> list[tuple[str, str, int]]:
    return [(row.route.agent, row.route.target, row.attempts) for each in host.queued() for row in each.recipients]


def test_the_first_table_that_is_for_the_mail_counts(internet: Internet) -> None:
    yy = internet.hub("yy.example", users=["b"])
    zz = internet.hub("zz.example", users=["b"])
    host = xx(
        internet,
        {
            "hole": {"senders": ["c@xx.example"], "recipients": ["yy.example"], "agent": "discard"},
            "closed": {"recipients": ["*.yy.example"], "agent": "error", "status": "5.1.2", "text": "Not there"},
            "later": {"recipients": ["@busy.example"], "agent": "error", "status": "4.3.2", "text": "Not now"},
            "never": {"recipients": ["b@secret.example"], "agent": "refuse"},
            "all": {"recipients": ["*"], "host": yy.address},
        },
        route={"yy.example": {"host": "10.255.255.1"}},
    )
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    host.submit("c@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(5)
    assert len(yy.inbox("b@yy.example")) == 1
    assert queued(host) == []
    sender = internet.call(host, "lmtp")  # no: relaying is denied before any way is asked
    sender.expect(b"220")
    for to, wanted in (
        ("b@sub.yy.example", "5.1.2 Not there"),
        ("b@busy.example", "4.3.2 Not now"),
        ("b@secret.example", "5.7.1 This server sends no mail to that domain"),
    ):
        with pytest.raises(Exception, match=wanted):
            host.submit("a@xx.example", [to], MESSAGE)
    assert zz.inbox("b@zz.example") == []


def test_ways_by_sender_and_by_account_have_their_own_servers(internet: Internet) -> None:
    one = relay(internet, "one.example", domains=["one.example", "shop.example"])
    two = relay(internet, "two.example", domains=["two.example", "xx.example"])
    one.add_account("ann@shop.example", "first")
    two.add_account("a@xx.example", "second")
    yy = internet.hub("yy.example", users=["b"])
    shop = {"host": f"{one.address}:587", "tls": "required", "user": "ann@shop.example", "password": "first"}
    office = {"host": f"{two.address}:587", "user": "a@xx.example", "password": "second"}
    host = xx(
        internet,
        {"shop": {"senders": ["@shop.example"], **shop}, "office": {"accounts": ["a@xx.example"], **office}},
        domains=["xx.example", "shop.example"],
    )
    for sender, way in (("ann@shop.example", b"one"), ("a@xx.example", b"two"), ("c@xx.example", b"")):
        host.submit(sender, ["b@yy.example"], MESSAGE)
        internet.run(60)
        assert queued(host) == []
        trail = yy.inbox("b@yy.example")[-1]
        assert [name for name in (b"one", b"two") if b"by mx.%b.example" % name in trail] == ([way] if way else [])


def test_a_smarthost_has_its_port_its_secret_from_a_file_and_an_address_to_come_from(
    internet: Internet, tmp_path: Path
) -> None:
    smart = relay(internet, "smart.example", domains=["smart.example", "xx.example"])
    smart.add_account("a@xx.example", "right")
    yy = internet.hub("yy.example", users=["b"])
    (tmp_path / "secret").write_text("right\n")
    way = {
        "recipients": ["yy.example"],
        "host": "mx.smart.example:587",
        "tls": "required",
        "user": "a@xx.example",
        "password_file": str(tmp_path / "secret"),
        "source_address": ["192.0.2.9"],
    }
    host = xx(internet, {"smart": way}, relay={"source_address": ["192.0.2.1"]})
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(60)
    (trail,) = yy.inbox("b@yy.example")
    (hop,) = [line for line in trail.split(b"Received: ") if b"by mx.smart.example" in line]
    assert b"([192.0.2.9])" in hop
    assert b"with ESMTPSA" in hop
    assert queued(host) == []


def test_a_smarthost_that_refuses_the_login_leaves_the_mail_in_the_queue(internet: Internet) -> None:
    smart = relay(internet, "smart.example")
    smart.add_account("me@smart.example", "right")
    host = xx(
        internet,
        {"smart": {"host": f"{smart.address}:587", "user": "me@smart.example", "password": "wrong"}},
    )
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(600)
    assert queued(host)[0][0] == "smart"
    (waiting,) = host.queued()
    assert waiting.recipients[0].last is not None
    assert waiting.recipients[0].last.status.startswith("4.7")
    assert host.inbox("a@xx.example") == []


def test_a_smarthost_with_a_wrong_certificate_gets_no_password(internet: Internet) -> None:
    smart = relay(internet, "smart.example", domains=["smart.example", "xx.example"])
    smart.add_account("a@xx.example", "right")
    yy = internet.hub("yy.example", users=["b"])
    internet.network.expired.add(smart.address)
    host = xx(internet, {"smart": {"host": "mx.smart.example:587", "user": "a@xx.example", "password": "right"}})
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(600)
    assert queued(host)[0][0] == "smart"
    assert (host.inbox("a@xx.example"), yy.inbox("b@yy.example")) == ([], [])
    internet.network.expired.clear()
    assert internet.run_until(lambda: not host.queued(), 7200)
    assert len(yy.inbox("b@yy.example")) == 1


def test_a_fallback_takes_what_others_have_not_taken(internet: Internet) -> None:
    yy = internet.hub("yy.example", users=["b"])
    good = internet.hub("good.example", users=["b"], config={"domains": ["good.example", "yy.example"]})
    good.add_account("b@yy.example")
    yy.unlisten()
    host = xx(internet, {"fallback": {"from_attempt": 3, "host": good.address}}, queue={"retry_seconds": [600]})
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(300)
    assert queued(host) == [("smtp", "", 1)]
    internet.run_until(lambda: queued(host) != [("smtp", "", 1)], 3600)
    assert queued(host) == [("fallback", good.address, 2)]
    assert internet.run_until(lambda: not queued(host), 3600)
    assert len(good.inbox("b@yy.example")) == 1


def test_a_fallback_may_be_for_one_account(internet: Internet) -> None:
    yy = internet.hub("yy.example", users=["b"])
    good = internet.hub("good.example", config={"domains": ["good.example", "yy.example"]})
    good.add_account("b@yy.example")
    yy.unlisten()
    table = {"fallback": {"from_attempt": 2, "accounts": ["a@xx.example"], "host": good.address}}
    host = xx(internet, table, queue={"retry_seconds": [600]})
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    host.submit("c@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(3600)
    assert len(good.inbox("b@yy.example")) == 1
    assert {way for way, _, _ in queued(host)} == {"smtp"}


def test_a_domain_of_ours_can_be_a_programs_or_another_stores(internet: Internet) -> None:
    store = internet.hub("store.example", config={"domains": ["store.example", "old.example"]})
    store.add_account("ann@old.example")
    internet.processes.add("ticket", lambda call: Ended(0, b"ticket 17"))
    host = xx(
        internet,
        {
            "tickets": {
                "recipients": ["tickets.example"],
                "agent": "pipe",
                "command": ["ticket", "${sender}", "--", "${recipient}"],
                "user": "tickets",
            },
            "old": {"recipients": ["old.example"], "agent": "lmtp", "host": f"{store.address}:24"},
            "out": {"host": "10.255.255.1"},  # names no domain of ours, and so is for none
        },
        domains=["xx.example", "tickets.example", "old.example"],
        aliases={"help@tickets.example": ["a@xx.example"]},
    )
    sender = internet.call(host, "smtp")
    sender.expect(b"220")
    sender.ask(b"EHLO client.example\r\n", b"250 ")
    sender.ask(b"MAIL FROM:<z@zz.example>\r\n", b"250")
    for to in ("bug@tickets.example", "help@tickets.example", "ann@old.example", "a@xx.example"):
        sender.ask(b"RCPT TO:<%b>\r\n" % to.encode(), b"250")
    sender.ask(b"RCPT TO:<nobody@xx.example>\r\n", b"550 5.1.1")
    sender.ask(b"RCPT TO:<b@yy.example>\r\n", b"550")
    sender.ask(b"DATA\r\n", b"354")
    sender.ask(MESSAGE + b".\r\n", b"250")
    internet.run(10)
    (call,) = internet.processes.calls
    assert call.arguments == ("ticket", "z@zz.example", "--", "bug@tickets.example")
    assert call.user == "tickets"
    assert len(host.inbox("a@xx.example")) == 1  # once: two of its names
    (arrived,) = store.inbox("ann@old.example")
    assert b"with LMTP" in arrived
    assert queued(host) == []


def test_ways_can_be_changed_while_mail_waits_on_them(internet: Internet) -> None:
    away = {"smart": {"host": "10.255.255.1"}}
    host = xx(internet, away, queue={"retry_seconds": [60]})
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(30)
    assert queued(host) == [("smart", "10.255.255.1", 1)]
    reading = host.reload({"queue": {"retry_seconds": [60]}})
    assert reading.fault == ""
    internet.run(900)
    (waiting,) = host.queued()
    assert waiting.recipients[0].last is not None
    assert waiting.recipients[0].last.reply == "No delivery agent is named smart"
    yy = internet.hub("yy.example", users=["b"])
    reading = host.reload({"transport": {"smart": {"host": yy.address}}, "queue": {"retry_seconds": [60]}})
    assert "[transport.smart]" in reading.changed
    assert internet.run_until(lambda: not queued(host), 3600)
    assert len(yy.inbox("b@yy.example")) == 1


def test_ways_outlive_a_restart(tmp_path: Any) -> None:
    with Internet(seed=3, folder=tmp_path) as internet:
        database = {"type": "inline"}
        host = xx(internet, {"smart": {"host": "10.255.255.1"}}, database=database)
        host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(30)
        host.restart()
        assert queued(host) == [("smart", "10.255.255.1", 1)]


BAD: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"smtp": {}}, "[transport.smtp]: is the name of an agent already"),
    ({"pipe": {}}, "[transport.pipe]: is the name of an agent already"),
    ({"x": {"agent": "pip"}}, "[transport.x]: there is no agent plugin called 'pip'"),
    ({"x": {"agent": "pipe"}}, "[transport.x] command: is missing"),
    ({"x": {"agent": "lmtp"}}, "[transport.x] host: is missing"),
    ({"x": {"host": "a:b"}}, '[transport.x] host: "a:b"'),
    ({"x": {"user": "me"}}, "[transport.x] user: user and password"),
    ({"x": {"senders": ["a b"]}}, '[transport.x] senders: "a b" is no address, no domain'),
    ({"x": {"senders": []}}, "[transport.x] senders: must not be empty"),
    ({"x": {"from_attempt": 0}}, "[transport.x] from_attempt: must be from 1 to 10000"),
    ({"x": {"hots": "y"}}, "[transport.x] hots: unknown key; did you mean host?"),
    ({"x": {"agent": "discard", "tls": "never"}}, "[transport.x] tls: unknown key"),
    ({"x": {"agent": "error", "status": "2.0.0"}}, "[transport.x] status:"),
]


@pytest.mark.parametrize(("tables", "fault"), BAD)
def test_mistakes_are_told_at_start(internet: Internet, tables: Mapping[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        xx(internet, tables)
    assert fault in str(told.value)


def test_a_list_of_routers_without_them_is_a_mistake(internet: Internet) -> None:
    with pytest.raises(ConfigurationError, match=r'\[delivery\] routers: lacks "transports"'):
        xx(internet, {"x": {"host": "h"}}, delivery={"routers": ["aliases", "accounts", "static", "exchangers"]})


def test_an_agent_with_a_table_of_its_own_keeps_its_keys_there(internet: Internet) -> None:
    agent = {"mine": {"type": "error", "text": "Mine"}}
    host = xx(internet, {"x": {"recipients": ["yy.example"], "agent": "mine"}}, agent=agent)
    with pytest.raises(Exception, match="Mine"):
        host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    with pytest.raises(ConfigurationError, match=r"\[transport.x\] text: stands in \[agent.mine\]"):
        internet.hub("vv.example", config={"transport": {"x": {"agent": "mine", "text": "Other"}}, "agent": agent})


def test_a_smarthost_whose_certificate_does_not_do_is_told_in_plain_words(internet: Internet) -> None:
    smart = relay(internet, "smart.example")
    internet.network.expired.add(smart.address)
    host = xx(internet, {"smart": {"host": smart.address, "user": "b@smart.example", "password": "secret"}})
    host.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(30)
    (waiting,) = host.queued()
    assert waiting.recipients[0].last is not None
    assert waiting.recipients[0].last.reply == "Certificate has expired"
