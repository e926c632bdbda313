"""`mailhub explain` says what happens then, and leaves no trace."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from zope.interface import implementer

from mailhub.delivery.allowance import Bounds, give_bounds
from mailhub.errors import ConfigurationError
from mailhub.explain import explain
from mailhub.interfaces import IMailRules, Placement, Placements, Redirect, Reply, Screen, Verdict
from mailhub.message.address import Address
from mailhub.plugins import Component
from mailhub.testing.hubs import Host, Internet
from tests.sim.test_screens import answers, greeted

ALL = ["helo", "rates", "sender-domain", "dnsbl", "greylist", "mine"]


class Mine(Screen):
    """A plugin's."""

    def __init__(self, options: object, hub: object) -> None:
        self.seen: list[bool] = []

    def begin(self, origin: Any) -> Screen:
        self.seen.append(origin.rehearsal)
        return self

    def recipient(self, transaction: Any, recipient: Any) -> Verdict:
        if str(recipient.address) in ("ben@xx.example", "ben@[192.0.2.25]"):
            return Verdict("reject", "5.7.1", "Not Ben")
        return Verdict()


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


@pytest.fixture
def host(internet: Internet) -> Host:
    config = {
        "delivery": {"policies": ALL},
        "policy": {
            "dnsbl": {"type": "dnsbl", "lists": ["bl.example"]},
            "rates": {"type": "rates", "messages_per_address": 1},
        },
        "aliases": {"team@xx.example": ["ann@xx.example", "out@yy.example"], "all@xx.example": ["team@xx.example"]},
        "limits": {"account_messages_per_day": 1},
        "relay": {"own_addresses": ["192.0.2.25"]},
    }
    host = internet.hub("xx.example", ["ann", "ben", "off"], config, [Component("policy", "mine", Mine)])
    internet.wait(host.hub.accounts.set_enabled("off@xx.example", False))
    internet.resolver.add("yy.example", "mx.yy.example", "192.0.2.7", 20)
    internet.resolver.hosts["1.9.9.10.bl.example"] = ["127.0.0.2"]
    return host


def asked(internet: Internet, host: Host, **question: Any) -> Mapping[str, Any]:
    usual = {"from": "a@yy.example", "to": "ann@xx.example", "ip": "10.9.9.9", "helo": "mx.yy.example"}
    return internet.wait(explain(host.hub, {**usual, **question}))


def test_each_rule_is_asked_and_the_first_refusal_is_the_answer(internet: Internet, host: Host) -> None:
    told = asked(internet, host, to="ben@xx.example")
    assert (told["taken"], told["at"], told["rule"]) == (False, "recipient", "greylist")
    assert told["reply"] == "451 4.7.1 Greylisted, come again in 300 seconds (greylist)"
    said = [(step["at"], step["rule"], step["verdict"]) for step in told["steps"]]
    assert said == [
        ("hello", "helo", "accept"),
        ("mail", "checks", "accept"),
        ("mail", "rates", "accept"),
        ("mail", "sender-domain", "accept"),
        ("recipient", "dnsbl", "accept"),
        ("recipient", "greylist", "defer"),
        ("recipient", "mine", "reject"),
    ]
    assert told["steps"][-1]["text"] == "Not Ben"


@pytest.mark.parametrize(
    ("question", "at", "reply"),
    [
        ({"helo": "mx.xx.example"}, "hello", "550 5.7.1 That is our own name (helo)"),
        ({"from": "a@nowhere.example"}, "mail", "553 5.1.8 "),
        ({"ip": "10.9.9.1"}, "recipient", "550 5.7.1 Your address 10.9.9.1 is listed by bl.example (dnsbl)"),
        ({"to": "nobody@xx.example"}, "recipient", "550 5.1.1 "),
        ({"to": "a@zz.example"}, "recipient", "550 5.7.1 Relaying denied"),
        ({"service": "submission"}, "mail", "530 5.7.0 Authentication required"),
        ({"user": "ann@xx.example"}, "mail", "550 5.7.1 Sender address does not belong to your login"),
        ({"user": "ann@xx.example", "from": "ann@xx.example", "to": "a@zz.example"}, "recipient", "250 2.1.5 "),
        ({"service": "lmtp", "ip": ""}, "recipient", "250 2.1.5 "),
        ({"to": "postmaster@xx.example", "from": "<>"}, "recipient", "550 5.1.1 "),
        ({"size": 50 * 1024 * 1024 + 1}, "mail", "552 5.3.4 Message is too large"),
        ({"service": "submission", "size": 1 << 30}, "mail", "530 5.7.0 Authentication required"),
        ({"user": "off@xx.example"}, "login", "535 5.7.8 "),
        ({"user": "nobody@xx.example"}, "login", "535 5.7.8 "),
        ({"user": "ann@xx.example", "from": "ann", "to": "ann@xx.example"}, "recipient", "250 2.1.5 "),
        ({"user": "ann@xx.example", "from": "ben"}, "mail", "550 5.7.1 Sender address does not belong to your login"),
        ({"to": "nobody@[127.0.0.1]"}, "recipient", "550 5.1.1 "),
        ({"to": "ben@[192.0.2.25]", "service": "lmtp", "ip": ""}, "recipient", "550 5.7.1 Not Ben"),
        ({"to": "ann@[192.0.2.26]"}, "recipient", "550 5.7.1 Relaying denied"),
        ({"to": "Postmaster"}, "recipient", "550 5.1.1 "),
    ],
)
def test_the_answer_is_what_a_client_would_be_told(
    internet: Internet, host: Host, question: Mapping[str, Any], at: str, reply: str
) -> None:
    told = asked(internet, host, **question)
    assert told["at"] == at
    assert told["reply"].startswith(reply)
    assert told["taken"] is reply.startswith("250")


def test_the_way_is_told_step_by_step(internet: Internet, host: Host) -> None:
    told = asked(internet, host, to="all@xx.example")
    assert [(step["address"], step["router"]) for step in told["routing"]] == [
        ("all@xx.example", "aliases"),
        ("team@xx.example", "aliases"),
        ("ann@xx.example", "accounts"),
        ("out@yy.example", "exchangers"),
    ]
    here, away = told["routes"]
    assert (here["agent"], here["target"], here["mailbox"]) == ("store", "ann@xx.example", "INBOX")
    assert here["quota"] == {"used": 0, "limit": 0}
    assert (away["agent"], away["exchangers"]) == (
        "smtp",
        [{"preference": 20, "host": "mx.yy.example", "addresses": ["192.0.2.7"]}],
    )


def test_a_recipient_in_our_address_goes_to_the_user_who_is_meant(internet: Internet, host: Host) -> None:
    told = asked(internet, host, to="ann@[192.0.2.25]", service="lmtp", ip="")
    assert [(route["agent"], route["target"]) for route in told["routes"]] == [("store", "ann@xx.example")]
    assert not asked(internet, host, to="nobody@[192.0.2.25]")["routes"]


def test_nothing_is_counted_and_nothing_kept(internet: Internet, host: Host) -> None:
    before = internet.clock.seconds()
    for _ in range(3):
        assert asked(internet, host)["reply"].startswith("451 4.7.1 Greylisted, come again in 300 seconds")
        assert asked(internet, host, user="ann@xx.example", **{"from": "ann@xx.example"})["taken"]
    assert internet.clock.seconds() - before < 60
    internet.run(301)
    assert not asked(internet, host)["taken"]  # a question is no first visit
    caller = greeted(internet, host)
    assert answers(caller, "MAIL FROM:<a@yy.example>", "RCPT TO:<ann@xx.example>")[1].startswith("451 ")
    assert not host.queued()


class Judge(Screen):
    """Judges what is in a message."""

    def begin(self, origin: Any) -> Screen:
        return self

    async def message(self, message: Any) -> Verdict:
        body = await message.read()
        for word, verdict in WORDS.items():
            if word in body:
                return verdict
        return Verdict()


WORDS = {
    b"cheap": Verdict("reject", "5.7.1", "No adverts"),
    b"later": Verdict("defer", "4.7.1", "Not now"),
    b"noise": Verdict("discard"),
    b"odd": Verdict("quarantine"),
}


@implementer(IMailRules)
class Filing:
    """Files by a word, and sends on by another."""

    def apply(self, account: str, mail: Any, message: Any) -> Placements | None:
        if b"X-List" in message.header:
            return Placements([Placement("Lists")])
        if b"X-Away" in message.header:
            return Placements([Placement()], replies=[Reply(b"Subject: away\r\n\r\n")])
        return Placements([], redirects=[Redirect(AWAY)]) if b"X-On" in message.header else None


AWAY = Address.parse("out@yy.example")


@pytest.mark.parametrize(
    ("message", "reply", "more", "ends"),
    [
        (b"Subject: x\r\n\r\nhello\r\n", "250 2.0.0 ", {"quarantined": False, "replies": []}, ["store INBOX"]),
        (b"\r\ncheap\r\n", "550 5.7.1 No adverts", {}, ["store INBOX"]),
        (b"\r\nlater\r\n", "451 4.7.1 Not now", {}, ["store INBOX"]),
        (b"\r\nnoise\r\n", "250 2.0.0 ", {"discarded_by": "judge"}, ["store INBOX"]),
        (b"\r\nodd\r\n", "250 2.0.0 ", {"quarantined": True, "replies": []}, ["store Junk"]),
        (b"X-List: 1\r\n\r\n", "250 2.0.0 ", {"quarantined": False, "replies": []}, ["store Lists"]),
        (b"X-On: 1\r\n\r\n", "250 2.0.0 ", {"quarantined": False, "replies": []}, ["smtp "]),
        (b"X-Away: 1\r\n\r\n", "250 2.0.0 ", {"quarantined": False, "replies": ["ann@xx.example"]}, ["store INBOX"]),
        (b"Received: x\r\n" * 51 + b"\r\n", "550 5.4.6 Too many hops", {}, ["store INBOX"]),
    ],
)
def test_who_judges_by_the_message_is_asked_about_it(
    internet: Internet, message: bytes, reply: str, more: Mapping[str, Any], ends: list[str]
) -> None:
    plugins = [
        Component("policy", "judge", lambda _, hub: Judge()),
        Component("rule", "filing", lambda _, hub: Filing()),
    ]
    config = {"delivery": {"policies": ["judge"], "rules": ["filing"]}}
    host = internet.hub("xx.example", ["ann"], config, plugins)
    told = asked(internet, host, message=b64encode(message).decode())
    assert (told["at"], told["reply"][: len(reply)], told["message"]) == ("message", reply, more)
    assert [f"{route['agent']} {route.get('mailbox', '')}" for route in told["routes"]] == ends
    assert not host.inbox("ann@xx.example")
    assert not host.queued()


def test_a_message_that_cannot_be_asked_about_is_a_mistake(internet: Internet, host: Host) -> None:
    for text in ("?", b64encode(b"x" * ((8 << 20) + 1)).decode()):
        with pytest.raises(ConfigurationError):
            asked(internet, host, message=text)


def test_behind_a_list_are_its_first_members(internet: Internet) -> None:
    members = [f"m{number:02}@yy.example" for number in range(12)]
    lists = {
        "big@xx.example": {"post": "anyone", "members": ["ann@xx.example", "in@xx.example", *members]},
        "in@xx.example": {"members": ["ann@xx.example", "big@xx.example", "nobody@xx.example"]},
    }
    host = internet.hub("xx.example", ["ann"], {"list": lists})
    internet.resolver.add("yy.example", "mx.yy.example", "192.0.2.7", 20)
    told = asked(internet, host, to="big@xx.example")
    top, *others = told["routes"]
    assert (top["agent"], top["members"], len(top["first_members"])) == ("list", 14, 10)
    ends = [(each["list"], each["agent"], each["to"]) for each in others]
    assert ends[:3] == [
        ("big@xx.example", "store", "ann@xx.example"),
        ("big@xx.example", "list", "in@xx.example"),
        ("big@xx.example", "smtp", "m00@yy.example"),
    ]
    assert ends[10:] == [("in@xx.example", "store", "ann@xx.example"), ("in@xx.example", "", "nobody@xx.example")]
    assert others[-1]["fault"] == "550 5.1.1 No such user here"


def test_each_kind_of_way_is_told(internet: Internet) -> None:
    config: dict[str, Any] = {
        "aliases": {
            f"{name}@xx.example": [f"x@{name}.example"] for name in ("smart", "prog", "none", "away", "void", "by")
        },
        "transport": {
            "late": {"from_attempt": 3, "recipients": ["smart.example"], "host": "late.example"},
            "hub": {"recipients": ["smart.example"], "host": "s.example:587", "tls": "required", "user": "u"},
            "prog": {"recipients": ["prog.example"], "agent": "pipe", "command": ["/bin/cat", "-"]},
            "none": {"recipients": ["none.example"], "agent": "error", "text": "Not there"},
            "void": {"recipients": ["void.example"], "agent": "discard"},
        },
        "route": {"by.example": {"agent": "lmtp", "host": "unix:/run/by", "tls": "never"}},
        "relay": {"source_address": ["192.0.2.9"]},
        "backup_mx": {"domains": ["saved.example"]},
    }
    config["transport"]["hub"]["password"] = "p"
    host = internet.hub("xx.example", ["ann"], config)
    internet.resolver.add("away.example", "mx.away.example", "192.0.2.7", 20)
    internet.resolver.add("saved.example", "mx.saved.example", "192.0.2.8", 5)

    def end(to: str) -> Mapping[str, Any]:
        found: Mapping[str, Any]
        (found,) = asked(internet, host, to=to)["routes"]
        return found

    smart = end("smart@xx.example")
    assert {name: smart[name] for name in ("type", "target", "tls", "user", "transport", "later", "srs", "via")} == {
        "type": "smtp",
        "target": "s.example:587",
        "tls": "required",
        "user": "u",
        "transport": "hub",
        "later": [{"attempt": 3, "transport": "late"}],
        "srs": "xx.example",
        "via": ["smart@xx.example"],
    }
    assert (end("prog@xx.example")["type"], end("prog@xx.example")["command"]) == ("pipe", ["/bin/cat", "-"])
    assert (end("by@xx.example")["type"], end("by@xx.example")["target"]) == ("lmtp", "unix:/run/by")
    assert end("void@xx.example")["type"] == "discard"
    away = end("away@xx.example")
    assert (away["source_address"], away["exchangers"][0]["host"]) == (["192.0.2.9"], "mx.away.example")
    assert end("x@saved.example")["backup"]
    assert asked(internet, host, to="none@xx.example")["no_route"] == "550 5.7.1 Not there"


def test_what_a_user_may_send_and_has_sent_is_told(internet: Internet, host: Host) -> None:
    states: Any = host.hub.database.state
    internet.wait(give_bounds(states, "ann@xx.example", Bounds(messages=1, recipients=9)))
    host.submit("ann@xx.example", ["c@zz.example"], b"Subject: x\r\n\r\nx\r\n")
    told = asked(internet, host, user="ann@xx.example", **{"from": "ann@xx.example"})
    assert told["rule"] == "sending-limits"
    assert told["reply"].startswith("451 4.7.1 Your limit of 1 messages in 24 hours is reached until ")
    assert told["sending"]["sent"]["messages"] == 1
    assert told["sending"]["limits"]["recipients"] == 9


@pytest.mark.parametrize(
    "question",
    [{"to": "x"}, {"to": ""}, {"from": "@"}, {"service": "imap"}, {"size": -1}, {"size": "x"}, {"ip": "foo"}],
)
def test_what_cannot_be_asked_is_told(internet: Internet, host: Host, question: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        asked(internet, host, **question)
