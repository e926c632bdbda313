"""What our own users may send in a day, on a clock on which days go by at once."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from mailhub.delivery.allowance import Bounds, Usage, give_bounds
from mailhub.errors import TemporaryError
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import EPOCH, Host, Internet
from tests.sim.test_screens import answers, refusals

PASSWORD = "correct horse"
MESSAGE = b"Subject: hello\r\n\r\nx\r\n"


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(seed=1, folder=tmp_path) as internet:
        yield internet


def hub(internet: Internet, database: str = "memory", **limits: int) -> Host:
    host = internet.hub("xx.example", ["ben"], config={"limits": limits, "database": {"type": database}})
    host.add_account("ann@xx.example", PASSWORD)
    return host


def sends(host: Host, *recipients: str, sender: str = "ann@xx.example") -> str:
    """What is said to a message, "" where it is taken."""
    try:
        host.submit(sender, recipients or ["ben@xx.example"], MESSAGE)
    except TemporaryError as error:
        return error.text
    return ""


def logged_in(internet: Internet, host: Host) -> Caller:
    caller = internet.call(host, "submissions")
    caller.expect(b"220 ")
    token = base64.b64encode(f"\0ann@xx.example\0{PASSWORD}".encode()).decode()
    answers(caller, "EHLO c.example", f"AUTH PLAIN {token}")
    return caller


def test_messages_of_a_day_are_bounded_and_who_has_sent_them_is_told_until_when(internet: Internet) -> None:
    host = hub(internet, account_messages_per_day=2)
    caller = logged_in(internet, host)
    for _ in range(2):
        answers(caller, "MAIL FROM:<ann@xx.example>", "RCPT TO:<ben@xx.example>")
        caller.ask(b"DATA\r\n", b"354 ")
        caller.ask(MESSAGE + b".\r\n", b"250 ")
    with capturedLogs() as events:
        (said,) = answers(caller, "MAIL FROM:<ann@xx.example>")
    until = "2024-01-02 00:00 UTC"
    assert said == f"451 4.7.1 Your limit of 2 messages in 24 hours is reached until {until} (sending-limits)"
    assert "rule=sending-limits" in refusals(events)[0]
    internet.run(86_400 - 60 - (internet.clock.seconds() - EPOCH))
    assert sends(host)
    internet.run(120)
    assert not sends(host)


def test_each_account_has_its_own_count_and_other_doors_have_none(internet: Internet) -> None:
    host = hub(internet, account_messages_per_day=1)
    assert not sends(host)
    assert sends(host)
    assert not sends(host, sender="ben@xx.example")
    other = internet.hub("yy.example", ["a"])
    for _ in range(3):
        other.submit("a@yy.example", ["ben@xx.example"], MESSAGE)
    internet.run(60)
    assert len(host.inbox("ben@xx.example")) == 5


def test_recipients_count_over_all_messages_and_those_that_are_not_sent_do_not(internet: Internet) -> None:
    host = hub(internet, account_recipients_per_day=3)
    caller = logged_in(internet, host)
    to = [f"RCPT TO:<{name}@yy.example>" for name in "abcd"]
    said = answers(caller, "MAIL FROM:<ann@xx.example>", *to)
    assert [line[:9] for line in said[1:]] == ["250 2.1.5"] * 3 + ["451 4.7.1"]
    answers(caller, "RSET")
    assert not sends(host, "a@yy.example", "b@yy.example")
    assert not sends(host, "a@yy.example")
    assert sends(host, "a@yy.example").startswith("Your limit of 3 recipients in 24 hours is reached until ")


def test_sessions_at_the_same_time_share_what_is_left(internet: Internet) -> None:
    host = hub(internet, account_messages_per_day=2)
    callers = [logged_in(internet, host) for _ in range(3)]
    said = [answers(caller, "MAIL FROM:<ann@xx.example>")[0][:9] for caller in callers]
    assert said == ["250 2.1.0", "250 2.1.0", "451 4.7.1"]
    callers[0].ask(b"QUIT\r\n", b"221 ")
    internet.run(1)
    assert answers(callers[2], "MAIL FROM:<ann@xx.example>")[0].startswith("250 ")


def test_new_are_those_of_other_domains_that_were_not_written_to_before(internet: Internet) -> None:
    host = hub(internet, account_new_recipients_per_day=2)
    assert not sends(host, "a@yy.example", "b@yy.example", "ben@xx.example", "A@yy.example")
    assert not sends(host, "a@yy.example", "ben@xx.example")
    assert sends(host, "c@yy.example").startswith("Your limit of 2 new recipients in 24 hours")
    assert not sends(host, "c@yy.example", sender="ben@xx.example")
    internet.run(90_000)
    assert not sends(host, "c@yy.example", "a@yy.example", "d@yy.example")
    assert sends(host, "e@yy.example")


def test_a_message_that_nobody_took_counts_for_nothing(internet: Internet) -> None:
    host = hub(internet, account_messages_per_day=1)
    caller = logged_in(internet, host)
    for _ in range(3):
        said = answers(caller, "MAIL FROM:<ann@xx.example>", "RCPT TO:<nobody@xx.example>", "RSET")
        assert [line[:3] for line in said] == ["250", "550", "250"]
    assert not sends(host)


def test_an_account_may_have_bounds_of_its_own_which_count_at_once(internet: Internet) -> None:
    host = hub(internet)
    for _ in range(5):
        assert not sends(host)
    states: Any = host.hub.database.state
    internet.wait(give_bounds(states, "ann@xx.example", Bounds(messages=1)))
    internet.run(1)
    assert not sends(host)
    assert sends(host)
    assert not sends(host, sender="ben@xx.example")
    internet.wait(give_bounds(states, "ann@xx.example", None))
    internet.run(1)
    assert not sends(host)


def test_a_restart_and_a_reload_forgive_nothing(internet: Internet) -> None:
    host = hub(internet, "inline", account_messages_per_day=1, account_new_recipients_per_day=1)
    assert not sends(host, "a@yy.example")
    host.restart()
    assert sends(host)
    config = {"limits": {"account_messages_per_day": 2, "account_new_recipients_per_day": 1}}
    assert not host.reload({**config, "database": {"type": "inline"}}).fault
    assert not sends(host, "a@yy.example")
    assert sends(host)


@pytest.mark.parametrize(
    ("sent", "now", "used", "free_at"),
    [
        ([(0, 3)], 0, 3, 24),
        ([(0, 3)], 23, 3, 24),
        ([(0, 3)], 24, 0, 48),
        ([(0, 1), (5, 2)], 10, 3, 24),
        ([(0, 1), (5, 2)], 25, 2, 29),
        ([(40, 3)], 10, 3, 34),  # the clock was set back
    ],
)
def test_hours_are_counted_as_long_as_they_lie_in_a_day(
    sent: Sequence[tuple[int, int]], now: int, used: int, free_at: int
) -> None:
    usage = Usage()
    for hour, count in sent:
        usage.add([count, 0, 0], hour * 3600)
    again = Usage.parse(usage.octets())
    assert again.used(0, now * 3600) == used
    assert again.free_at(0, used or 1, now * 3600) == free_at * 3600
