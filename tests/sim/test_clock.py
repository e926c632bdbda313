"""The wall clock is set while hubs work: what waits is measured by another clock, and nobody is told a lie."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.testing.hubs import Host, Internet
from mailhub.testing.wires import Weather

MESSAGE = b"From: a@xx.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"
HOUR, DAY = 3600, 86400
AWAY, HERE = Weather(lost=1.0), Weather()


def waiting(internet: Internet, queue: Mapping[str, object] | None = None) -> tuple[Host, Host]:
    """A message that could not be sent for an hour."""
    xx = internet.hub("xx.example", users=["a"], config={"queue": queue or {}})
    yy = internet.hub("yy.example", users=["b"])
    internet.network.weather_at[yy.address] = AWAY
    xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
    internet.run(HOUR)
    return xx, yy


def test_a_clock_set_back_does_not_stop_the_queue() -> None:
    with Internet() as internet:
        xx, yy = waiting(internet)
        internet.clock_error = -12 * HOUR
        internet.network.weather_at[yy.address] = HERE
        assert internet.run_until(lambda: not xx.queued(), 2 * HOUR)
        assert len(yy.inbox("b@yy.example")) == 1
        # New mail waits for nothing.
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(5)
        assert len(yy.inbox("b@yy.example")) == 2


def test_a_clock_set_forward_returns_no_mail() -> None:
    with Internet() as internet:
        xx, yy = waiting(internet)
        internet.clock_error = 10 * DAY
        internet.run(3 * HOUR)
        (message,) = xx.queued()
        assert message.recipients[0].last is not None
        assert xx.inbox("a@xx.example") == []
        # And set right again: what is due in ten days is due now.
        internet.clock_error = 0.0
        internet.network.weather_at[yy.address] = HERE
        assert internet.run_until(lambda: not xx.queued(), 2 * HOUR)
        assert len(yy.inbox("b@yy.example")) == 1


@pytest.mark.parametrize("error", [10 * DAY, -10 * DAY])
def test_in_the_end_mail_is_returned_whatever_the_clock_says(error: int) -> None:
    with Internet() as internet:
        xx, _ = waiting(internet, {"retry_seconds": [60, 600], "expire_hours": 5})
        internet.clock_error = error
        assert internet.run_until(lambda: not xx.queued(), 5 * HOUR)
        assert b"5.4.7" in xx.inbox("a@xx.example")[0]


def test_a_jump_is_told_once() -> None:
    with Internet() as internet:
        waiting(internet)
        with capturedLogs() as events:
            internet.clock_error = -12 * HOUR
            internet.run(60)
            internet.clock_error -= 5  # what a time service does all day
            internet.run(60)
        assert [line for event in events if "clock" in (line := formatEvent(event))] == [
            "the clock was set, or the machine slept: seconds=-43200"
        ] * len(internet.hubs)
