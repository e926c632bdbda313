"""A destination gets what it bears, and none holds up another."""

from __future__ import annotations

from collections import Counter
from email import message_from_bytes
from itertools import cycle, repeat

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.delivery.limits import RunnerLimits
from mailhub.delivery.schedule import Schedule
from mailhub.net.smtp_client import SmtpTimeouts
from mailhub.testing.waiting import result_of
from mailhub.testing.wires import Weather
from tests.sim.hops import World


def test_a_hop_with_two_connections_works_at_its_own_pace_and_no_row_is_put_off() -> None:
    world = World()
    hop = world.hop("yy.example", most=2, seconds=0.2)
    world.submit("yy.example", 300)
    with capturedLogs() as logs:
        world.runner.start()
        taken = world.run_until_empty(600)
    assert taken <= 1.3 * 300 * 0.2 / 2
    assert Counter(hop.recipients) == Counter(f"u{number}" for number in range(300))
    lines = Counter(str(formatEvent(event)).split(":")[0] for event in logs if "log_line" in event)
    assert lines == {"delivered": 300}
    assert hop.peak == 2
    assert 0 < hop.refused < 12, "it is not asked again and again for more than it bears"
    world.stop()


def test_what_a_hop_bears_later_is_found_out() -> None:
    world = World()
    hop = world.hop("yy.example", most=1, seconds=0.5)
    world.submit("yy.example", 2000)
    world.runner.start()
    world.run(20)
    assert hop.peak == 1
    assert len(hop.taken) >= 36
    hop.most = 5
    world.run(120)
    assert hop.peak == 5
    hop.most = 2
    world.run(60)
    before = len(hop.taken)
    world.run(10)
    assert len(hop.taken) - before >= 0.7 * 2 * 10 / 0.5
    assert all(not row.attempts for message in world.queued() for row in message.recipients)
    world.stop()


@pytest.mark.parametrize("restarted", [False, True])
def test_neither_a_dead_hop_nor_a_slow_one_holds_up_a_third(restarted: bool) -> None:
    world = World()
    world.network.weather_at[world.address("dead.example")] = Weather(lost=1.0)
    world.hop("slow.example", seconds=60)
    third = world.hop("third.example")
    world.submit("dead.example", 10_000)
    world.submit("slow.example", 5_000)
    with capturedLogs() as logs:
        world.runner.start()
        world.run(100)
        if restarted:
            world.restart()
        began = world.clock.seconds()
        world.submit("third.example")
        world.run(1)
    ((at, _),) = third.taken
    assert at - began <= 1
    assert world.most_claimed <= RunnerLimits().held
    told = Counter(str(formatEvent(event)).split(":")[0] for event in logs)
    assert told["delayed"] <= 5, "what waits for a dead hop is not told message by message"
    assert 1 <= told["destination cannot be reached, and is left alone"] <= 5
    dead = [line for _, line in world.network.events if line.startswith("lost")]
    assert len(dead) <= 6
    world.stop()


def test_a_fast_domain_is_not_slower_beside_twenty_slow_ones() -> None:
    def seconds(slow: int) -> float:
        world = World()
        fast = world.hop("fast.example", seconds=0.05)
        for number in range(slow):
            world.hop(f"slow{number}.example", seconds=30)
            world.submit(f"slow{number}.example", 50)
        world.runner.start()
        world.run(300)
        began = world.clock.seconds()
        world.submit("fast.example", 200)
        world.run(30)
        assert len(fast.taken) == 200
        world.stop()
        return fast.taken[-1][0] - began

    assert seconds(20) <= 1.02 * seconds(0)


@pytest.mark.parametrize("count", [20, 100])
def test_a_fast_domain_is_served_where_slow_ones_came_first(count: int) -> None:
    """Nothing is known of any of them when all begin at once."""
    world = World()
    slow = [world.hop(f"slow{number}.example", seconds=30) for number in range(count)]
    fast = world.hop("the-fast.example", seconds=0.05)
    for number in range(count):
        world.submit(f"slow{number}.example", 10)
    world.submit("the-fast.example", 200)
    world.runner.start()
    world.run(3)
    assert len(fast.taken) == 200
    assert sum(hop.open for hop in slow) >= 40, "slots are not left idle"
    world.stop()


def test_a_fast_domain_keeps_its_slots_where_more_slow_ones_wait_than_there_are() -> None:
    world = World(limits=RunnerLimits(attempts=50))
    fast = world.hop("fast.example", seconds=0.05)
    for number in range(100):
        world.hop(f"slow{number}.example", seconds=30)
        world.submit(f"slow{number}.example", 5)
    world.submit("fast.example", 200)
    world.runner.start()
    world.run(3)
    assert len(fast.taken) == 200
    world.stop()


def test_many_domains_that_share_an_exchanger_share_what_it_bears() -> None:
    world = World()
    hop = world.hop("d0.example", most=2, seconds=0.2)
    for number in range(20):
        world.resolver.exchangers[f"d{number}.example"] = world.resolver.exchangers["d0.example"]
        world.submit(f"d{number}.example", 15, name=f"d{number}u")
    with capturedLogs() as logs:
        world.runner.start()
        taken = world.run_until_empty(600)
    assert taken <= 1.3 * 300 * 0.2 / 2
    assert len(set(hop.recipients)) == len(hop.taken) == 300
    assert hop.refused <= 45, "once at most for each that begins, and seldom after that"
    assert "delayed" not in {str(formatEvent(event)).split(":")[0] for event in logs}
    world.stop()


def test_what_finds_no_room_goes_to_another_exchanger() -> None:
    world = World()
    first = world.hop("yy.example", most=1, seconds=0.5)
    second = world.hop("zz.example", most=1, seconds=0.5)
    world.resolver.exchangers["yy.example"] += world.resolver.exchangers["zz.example"]
    world.submit("yy.example", 100)
    world.runner.start()
    assert world.run_until_empty(600) <= 1.3 * 100 * 0.5 / 2
    assert min(len(first.taken), len(second.taken)) >= 30
    world.stop()


def test_a_hop_that_greets_each_connection_otherwise_loses_and_doubles_nothing() -> None:
    world = World(
        schedule=Schedule((60, 300), 5 * 86400),
        timeouts=SmtpTimeouts(greeting=20, command=20, mail=20, recipient=20, final=20),
    )
    moods = cycle(["421 4.3.2 busy", "554 5.3.2 go away", "tls", "hang", "220"])
    hop = world.hop("yy.example", seconds=0.5, moods=moods)
    world.submit("yy.example", 200)
    world.runner.start()
    world.run_until_empty(86400)
    assert Counter(hop.recipients) == Counter(f"u{number}" for number in range(200))
    assert result_of(world.database.store.account("a@xx.example")) is not None
    world.stop()


def test_a_dead_hop_is_tried_by_one_attempt_at_a_time_and_its_mail_comes_back_in_the_end() -> None:
    world = World(schedule=Schedule((60, 300), 4 * 3600, jitter=0.0))
    world.network.weather_at[world.address("dead.example")] = Weather(lost=1.0)
    world.submit("dead.example", 20)
    world.runner.start()
    world.run(3 * 3600)
    assert world.queued()
    tries = [line for _, line in world.network.events if line.startswith("lost")]
    assert 10 < len(tries) < 3 * 3600 / 200
    world.run(2 * 3600)
    assert not world.queued()
    mailbox = result_of(result_of(world.database.store.account("a@xx.example")).mailbox("INBOX"))
    entries = result_of(mailbox.entries())
    assert len(entries) == 20
    for entry in entries:
        report = message_from_bytes(result_of(result_of(mailbox.open(entry.uid)).read())).as_string()
        assert "Status: 5.4.7" in report
        assert "timed out" in report
        assert "Diagnostic-Code: smtp" not in report, "no host has said that"
        assert "Remote-MTA" not in report
    world.stop()


def test_a_hop_that_is_back_is_served_again_at_the_next_try() -> None:
    world = World(schedule=Schedule((60, 60), 5 * 86400, jitter=0.0))
    world.network.weather_at[world.address("yy.example")] = Weather(refused=1.0)
    hop = world.hop("yy.example")
    world.submit("yy.example", 50)
    with capturedLogs() as logs:
        world.runner.start()
        world.run(70)
        assert hop.taken == []
        world.network.weather_at.clear()
        world.run(600)
    assert len(hop.taken) == 50
    (told,) = [line for line in map(formatEvent, logs) if line and line.startswith("destination is reached again")]
    assert told.endswith("attempts=4 crowded=0 unreached=3 delivered=1 delayed=100 failed=0")
    world.stop()


def test_what_the_operator_wants_tried_now_is_tried_at_a_hop_that_is_left_alone() -> None:
    world = World(schedule=Schedule((3600,), 5 * 86400, jitter=0.0))
    world.network.weather_at[world.address("yy.example")] = Weather(refused=1.0)
    hop = world.hop("yy.example")
    world.submit("yy.example", 3)
    world.runner.start()
    world.run(10)
    world.network.weather_at.clear()
    result_of(world.database.queue.retry([]))
    world.run(10)
    assert len(hop.taken) == 3
    world.stop()


def test_many_silent_hosts_give_way_to_one_that_waits_for_its_first_try() -> None:
    world = World(timeouts=SmtpTimeouts())
    for number in range(400):
        world.hop(f"silent{number}.example", moods=repeat("hang"))
        world.submit(f"silent{number}.example")
    good = world.hop("good.example")
    world.runner.start()
    world.run(1)
    assert len(world.runner.trying) == 180
    world.submit("good.example")
    world.run(100)
    assert len(good.taken) == 1, "it would be 600 seconds"
    # Those that are left have their time, now that nobody waits.
    world.run(60)
    left = len(world.runner.trying)
    assert left > 0
    world.run(100)
    assert len(world.runner.trying) >= left
    world.stop()
