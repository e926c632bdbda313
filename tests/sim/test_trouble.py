"""What can go wrong in a played network: connections, names, certificates, disks, processes and clocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailhub.errors import MailError, PermanentError, TemporaryError
from mailhub.interfaces import HostAddresses, MailExchanger, TlsaRecord
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.testing.faults import Fault, FaultPlan
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.resolver import TIMEOUT_SECONDS
from mailhub.testing.wires import Trouble

HOUR = 3600
LETTER = b"Subject: hello\r\nMessage-ID: <1@xx.example>\r\n\r\n" + b"How are you?\r\n" * 20
LARGE = LETTER + b"x" * 70 * 2000 + b"\r\n"
STRIKES = [("greeting", "reply"), ("body", "command")]
STRIKES += [
    (stage, side) for stage in ("EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "end") for side in ("command", "reply")
]


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(1, folder=tmp_path, poll_seconds=HOUR) as made:
        yield made


def pair(internet: Internet, **config: Any) -> tuple[Host, Host]:
    both = {"database": {"type": "inline"}, **config}
    return internet.hub("xx.example", ["a"], both), internet.hub("yy.example", ["b"], both)


def once(internet: Internet, trouble: Trouble) -> None:
    """It befalls the first connection between servers."""
    left = [trouble]
    internet.network.trouble = lambda source, host, port: left.pop() if left and source.startswith("10.0.") else None


@pytest.mark.parametrize("kind", ["reset", "silent", "slow"])
@pytest.mark.parametrize("chunks", ["DATA", "BDAT"])
@pytest.mark.parametrize(("stage", "side"), STRIKES)
def test_a_connection_may_break_at_every_stage(
    internet: Internet, stage: str, side: Any, chunks: str, kind: Any
) -> None:
    if (chunks, stage, side) == ("BDAT", "DATA", "reply"):
        return  # there is none
    xx, yy = pair(internet, smtp={"extensions_off": ["CHUNKING"]} if chunks == "DATA" else {})
    once(internet, Trouble(kind, stage, side))
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(3 * HOUR)
    assert any(line.startswith({"reset": "cut"}.get(kind, kind)) for _, line in internet.network.events)
    assert not xx.queued()
    assert len(yy.inbox("b@yy.example")) == 1


@pytest.mark.parametrize("chunks", ["DATA", "BDAT"])
@pytest.mark.parametrize("reply", [b"451 4.3.0 Not now\r\n", b"554 5.7.1 No\r\n"])
@pytest.mark.parametrize("message", [LETTER, LARGE], ids=["small", "large"])
def test_a_message_may_be_refused_when_it_is_there(
    internet: Internet, message: bytes, reply: bytes, chunks: str
) -> None:
    xx, yy = pair(internet, smtp={"extensions_off": ["CHUNKING"]} if chunks == "DATA" else {})
    once(internet, Trouble("answer", "end", "command", reply=reply))
    xx.submit("a@xx.example", ["b@yy.example"], message)
    internet.run(10)
    assert not yy.inbox("b@yy.example")
    internet.run(HOUR)
    told = [reply.strip() in report for report in xx.inbox("a@xx.example")]
    assert (told, len(yy.inbox("b@yy.example"))) == (([True], 0) if reply.startswith(b"5") else ([], 1))
    assert [*xx.queued(), *internet.network.open_connections] == []


@pytest.mark.parametrize("chunks", ["DATA", "BDAT"])
def test_by_lmtp_a_message_that_is_there_is_refused_for_each(internet: Internet, chunks: str) -> None:
    off = {"extensions_off": ["CHUNKING"]} if chunks == "DATA" else {}
    yy = internet.hub("yy.example", ["b", "c"], {"database": {"type": "inline"}, "smtp": off})
    way = {"agent": "lmtp", "host": f"{yy.address}:24"}
    xx = internet.hub("xx.example", ["a"], {"database": {"type": "inline"}, "route": {"yy.example": way}})
    once(internet, Trouble("answer", "end", "command", reply=b"554 5.7.1 No\r\n"))
    xx.submit("a@xx.example", ["b@yy.example", "nobody@yy.example", "c@yy.example"], LETTER)
    internet.run(HOUR)
    assert [*yy.inbox("b@yy.example"), *yy.inbox("c@yy.example"), *xx.queued()] == []
    told = b"".join(xx.inbox("a@xx.example"))
    assert (told.count(b"Status: 5.7.1"), told.count(b"Status: 5.1.1")) == (2, 1)
    assert not internet.network.open_connections


def test_a_connection_may_break_when_all_is_said(internet: Internet) -> None:
    xx, yy = pair(internet)
    once(internet, Trouble("reset", "end", "after"))
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(HOUR)
    assert any(line.startswith("cut") for _, line in internet.network.events)
    assert (len(yy.inbox("b@yy.example")), xx.queued()) == (1, [])


@pytest.mark.parametrize("kind", ["refused", "unanswered"])
def test_a_connection_may_not_be_had(internet: Internet, kind: Any) -> None:
    xx, yy = pair(internet)
    once(internet, Trouble(kind))
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(1)
    assert not yy.inbox("b@yy.example")
    internet.run(HOUR)
    assert len(yy.inbox("b@yy.example")) == 1


def test_a_connection_may_break_after_some_octets(internet: Internet) -> None:
    xx, yy = pair(internet)
    for octets in (1, 300, 2000):
        once(internet, Trouble("reset", octets=octets))
        xx.submit("a@xx.example", ["b@yy.example"], LARGE)
        internet.run(HOUR)
    assert sum(line.startswith("cut") for _, line in internet.network.events) == 3
    assert len(yy.inbox("b@yy.example")) == 3


def test_a_bad_certificate_keeps_those_away_who_look(internet: Internet) -> None:
    config = {"database": {"type": "inline"}, "route": {"yy.example": {"host": "mx.yy.example", "tls": "required"}}}
    xx, other = internet.hub("xx.example", ["a"], config), internet.hub("zz.example", ["c"])
    yy = internet.hub("yy.example", ["b"])
    internet.network.expired.add(yy.address)
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    other.submit("c@zz.example", ["b@yy.example"], LETTER)
    internet.run(10)
    assert len(yy.inbox("b@yy.example")) == 1
    assert len(xx.queued()) == 1
    internet.network.expired.clear()
    internet.run(HOUR)
    assert len(yy.inbox("b@yy.example")) == 2


# --- Processes and disks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("message", [LETTER, LARGE], ids=["small", "large"])
def test_a_server_that_ends_between_any_two_steps_loses_nothing(tmp_path: Path, message: bytes, power: bool) -> None:
    steps, number = 1000, 0
    while number < steps:
        number += 1
        with Internet(1, folder=tmp_path / str(number), poll_seconds=HOUR) as internet:
            xx, yy = pair(internet)
            first = yy.disk.steps
            yy.disk.kill_at(first + number, lambda what, yy=yy: yy.kill(power=power))  # type: ignore[misc]
            xx.submit("a@xx.example", ["b@yy.example"], message)
            internet.run(120)
            yy.disk.spare()
            if yy.is_running:
                steps = yy.disk.steps - first
            else:
                yy.boot()
            internet.run(3 * HOUR)
            assert not xx.queued()
            assert len(yy.inbox("b@yy.example")) in (1, 2)
    assert number > (1 if message is LETTER else 3)


def test_a_full_disk_takes_no_mail_until_there_is_room(internet: Internet) -> None:
    xx, yy = pair(internet)
    for message in (LETTER, LARGE):
        yy.disk.full = True
        xx.submit("a@xx.example", ["b@yy.example"], message)
        internet.run(10)
        assert len(xx.queued()) == 1
        yy.disk.full = False
        internet.run(HOUR)
        assert not xx.queued()
    assert len(yy.inbox("b@yy.example")) == 2
    yy.disk.short = True
    internet.run(10)
    with pytest.raises(MailError):
        yy.submit("b@yy.example", ["a@xx.example"], LETTER)


def test_a_clock_that_is_set_loses_and_bounces_nothing(internet: Internet) -> None:
    xx, yy = pair(internet)
    yy.unlisten()
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(HOUR)
    for error in (30 * 86400, -30 * 86400, 0):
        xx.clock_error = error
        internet.run(HOUR)
    yy.listen()
    internet.run(4 * HOUR)
    bounced = len(xx.inbox("a@xx.example"))
    assert (bounced, len(yy.inbox("b@yy.example"))) in ((0, 1), (1, 0))


def test_nothing_that_a_killed_process_still_does_has_an_effect(internet: Internet) -> None:
    xx, yy = pair(internet)
    internet.run(1)
    mail, recipients = Mail(Address("a", "xx.example")), [Recipient(Address("b", "yy.example"))]
    answered: list[Any] = []
    taken = Deferred.fromCoroutine(xx.hand_in(mail, recipients, LETTER)).addBoth(answered.append)
    while not answered:
        internet.run(0)
    xx.kill()
    before = len(internet.network.events)
    internet.run(HOUR)
    assert not [line for _, line in internet.network.events[before:] if not line.startswith("disk yy.example")]
    assert taken.called
    xx.boot()
    internet.run(HOUR)
    assert len(yy.inbox("b@yy.example")) == 1


# --- Names -----------------------------------------------------------------------------------------------------------

ZONE = """
xx           3600 IN MX    10 mx.xx
             3600 IN MX    20 backup.yy.example.
mx.xx             IN A     10.0.0.1
                  IN AAAA  2001:db8::1
null              IN MX    0 .
www.xx            IN CNAME mx.xx
_25._tcp.mx.xx    IN TLSA  3 1 1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
_mta-sts.xx       IN TXT   "v=STSv1; " "id=1;"
1.0.0.10.in-addr.arpa. IN PTR mx.xx
8.b.d.0.1.0.0.2.ip6.arpa. IN NS nowhere.
"""


def test_zone_data(internet: Internet) -> None:
    resolver = internet.resolver
    resolver.load(ZONE, "example")
    resolver.secure.add("xx.example")
    ask = internet.wait
    found = ask(resolver.mail_exchangers("xx.example"))
    assert found == (MailExchanger(10, "mx.xx.example"), MailExchanger(20, "backup.yy.example"))
    assert found[0].secure
    assert ask(resolver.mail_exchangers("null.example")) == (MailExchanger(0, ""),)
    assert ask(resolver.addresses("mx.xx.example")) == ("10.0.0.1", "2001:db8::1")
    host = ask(resolver.host("www.xx.example"))
    assert host == HostAddresses(("10.0.0.1", "2001:db8::1"))
    assert host.canonical == "mx.xx.example"
    assert ask(resolver.texts("_mta-sts.xx.example")) == (b"v=STSv1; id=1;",)
    assert ask(resolver.pointers("10.0.0.1")) == ("mx.xx.example",)
    assert ask(resolver.tlsa("_25._tcp.mx.xx.example")).records == (TlsaRecord(3, 1, 1, bytes(range(32))),)
    with pytest.raises(PermanentError):
        ask(resolver.mail_exchangers("nobody.example"))


def test_names_may_fail_be_silent_or_slow(internet: Internet) -> None:
    resolver, clock = internet.resolver, internet.clock
    resolver.load(ZONE, "example")
    resolver.failing.add("xx.example")
    with pytest.raises(TemporaryError):
        internet.wait(resolver.mail_exchangers("xx.example"))
    resolver.failing.clear()
    resolver.silent.add("xx.example")
    before = clock.seconds()
    with pytest.raises(TemporaryError):
        internet.wait(resolver.mail_exchangers("xx.example"))
    assert clock.seconds() - before >= TIMEOUT_SECONDS
    resolver.silent.clear()
    resolver.slow["xx.example"] = 5.0
    before = clock.seconds()
    assert len(internet.wait(resolver.mail_exchangers("xx.example"))) == 2
    assert clock.seconds() - before >= 5
    resolver.aliases["loop.example"] = "loop.example"
    with pytest.raises(TemporaryError):
        internet.wait(resolver.host("loop.example"))


# --- Operators, and what they change ---------------------------------------------------------------------------------


def test_a_zone_may_change_for_a_while_and_is_as_it_was_then(internet: Internet) -> None:
    xx, yy = pair(internet)
    before = dict(internet.resolver.exchangers), dict(internet.resolver.hosts)
    zones = ("moved", "twice", "null", "nowhere")
    faults = [Fault("zone", "yy.example", 8 * HOUR * at, 6 * HOUR, zone=zone) for at, zone in enumerate(zones)]
    FaultPlan((*faults, Fault("zone", "yy.example", 1800, HOUR, zone="twice"))).apply(internet)
    arrived = []
    for _ in zones:
        internet.run(10)
        xx.submit("a@xx.example", ["b@yy.example"], LETTER)
        internet.run(20)
        arrived.append(len(yy.inbox("b@yy.example")))
        internet.run(8 * HOUR - 30)
    internet.run(10)
    assert arrived == [0, 2, 2, 2]  # "moved": later; "twice": by the second host; the others: never
    assert len(yy.inbox("b@yy.example")) == 2
    failed = [octets for octets in xx.inbox("a@xx.example") if b"Action: failed" in octets]
    assert [b"5.1.10" in failed[0], b"5.1.2" in failed[1]] == [True, True]
    known = internet.resolver.exchangers, {name: internet.resolver.hosts[name] for name in before[1]}
    assert known == before


def test_a_host_may_be_away_for_days(internet: Internet) -> None:
    xx, yy = pair(internet)
    FaultPlan((Fault("dark", "yy.example", seconds=6 * 24 * HOUR),)).apply(internet)
    internet.run(1)
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(3 * 24 * HOUR)
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(5 * 24 * HOUR)
    said = [b"Action: failed" in octets for octets in xx.inbox("a@xx.example")]
    assert (said, len(yy.inbox("b@yy.example"))) == ([False, False, True], 1)


@pytest.mark.parametrize("kind", ["restart", "reload"])
def test_a_server_goes_on_by_another_configuration(internet: Internet, kind: str) -> None:
    xx, yy = pair(internet)
    base = {"database": {"type": "inline"}}
    far = {**base, "route": {"yy.example": {"host": "10.255.255.254"}}}
    plan = FaultPlan((Fault(kind, "xx.example", 10, 60, config=1), Fault(kind, "xx.example", 1000, 60)))
    plan.apply(internet, lambda domain, number: far if number else base)
    internet.run(100)
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(800)
    assert xx.is_serving
    assert len(xx.queued()) == 1
    internet.run(300)
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(5)
    assert len(yy.inbox("b@yy.example")) == 1  # the first one's way was found when it was taken


def test_a_server_that_stops_in_good_order_is_not_killed_meanwhile(internet: Internet) -> None:
    xx, yy = pair(internet)
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(60)
    faults = (Fault("kill", "xx.example", 10, 60, step=1), Fault("restart", "xx.example", 20, 5))
    FaultPlan(faults).apply(internet)
    internet.run(HOUR)
    happened = [line for _, line in internet.network.events if line in ("booted xx.example", "killed xx.example")]
    assert happened == ["booted xx.example"]
    assert (xx.is_serving, len(yy.inbox("b@yy.example"))) == (True, 1)


def test_what_an_operator_holds_is_released_although_the_server_ends_meanwhile(internet: Internet) -> None:
    xx, yy = pair(internet)
    yy.unlisten()
    xx.submit("a@xx.example", ["b@yy.example"], LETTER)
    internet.run(10)
    FaultPlan((Fault("hold", "xx.example", 1, 2 * HOUR),)).apply(internet)
    internet.run(60)
    yy.listen()
    internet.run(HOUR)
    xx.kill()
    internet.run(2 * HOUR)
    xx.boot()
    assert len(yy.inbox("b@yy.example")) == 0
    internet.run(HOUR)
    assert len(yy.inbox("b@yy.example")) == 1


# --- Mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"kind": "rest"}, "there is no fault 'rest'; did you mean re"),
        ({"kind": "reset"}, "'reset' needs a stage, or octets; known: AUTH, DATA, "),
        ({"kind": "reset", "stage": "RCTP"}, "there is no stage 'RCTP'; did you mean RCPT?"),
        (
            {"kind": "reset", "stage": "end", "side": "before"},
            "there is no side 'before'; known: after, command, reply",
        ),
        ({"kind": "reset", "stage": "greeting", "side": "command"}, "the stage 'greeting' has a reply alone"),
        ({"kind": "slow", "stage": "body"}, "the stage 'body' has a command alone"),
        ({"kind": "answer", "stage": "MAIL", "side": "command"}, "'answer' needs a stage, the side 'command' and a r"),
        ({"kind": "zone", "zone": "gone"}, "there is no zone 'gone'; known: "),
        ({"kind": "kill"}, "'kill' needs a step"),
    ],
)
def test_a_fault_of_which_nothing_would_come_is_a_mistake(fault: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        Fault(hub="xx.example", **fault)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("refused", "xxx.example"), "there is no hub of this domain; did you mean xx.example? known: xx.example"),
        (Fault("full", "xx.example", seconds=1), 'has its data in memory; it needs [database] type = "inline"'),
        (Fault("power", "xx.example", step=1), "has its data in memory"),
    ],
)
def test_a_plan_for_what_is_not_there_is_a_mistake(fault: Fault, why: str) -> None:
    with Internet(seed=1) as internet:
        internet.hub("xx.example", users=["a"])
        with pytest.raises(ValueError, match=re.escape(why)):
            FaultPlan((fault,)).apply(internet)
