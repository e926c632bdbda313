"""Greylisting over the network of simulations, where hours go by at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs

from mailhub.testing.hubs import Host, Internet
from tests.sim.test_screens import answers, greeted, refusals


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(seed=1, folder=tmp_path) as internet:
        yield internet


def hub(internet: Internet, database: str = "memory", **options: Any) -> Host:
    return internet.hub("xx.example", ["ann", "ben"], config=config(database, **options))


def config(database: str = "memory", **options: Any) -> dict[str, Any]:
    return {
        "delivery": {"policies": ["greylist"]},
        "policy": {"greylist": {"type": "greylist", **options}},
        "database": {"type": database},
    }


def asked(
    internet: Internet, host: Host, sender: str = "a@yy.example", to: str = "ann@xx.example", source: str = "10.9.9.9"
) -> str:
    """The answer to RCPT."""
    return answers(greeted(internet, host, source), f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>")[1]


def is_taken(answer: str) -> bool:
    assert answer.startswith(("250 ", "451 4.7.1 Greylisted, come again in "))
    return answer.startswith("250 ")


def test_who_comes_again_after_a_while_is_taken_and_known_from_then_on(internet: Internet) -> None:
    host = hub(internet)
    with capturedLogs() as events:
        assert asked(internet, host) == "451 4.7.1 Greylisted, come again in 300 seconds (greylist)"
    assert "rule=greylist" in refusals(events)[0]
    internet.run(100)
    assert "come again in 199 seconds" in asked(internet, host) or "come again in 200 seconds" in asked(internet, host)
    internet.run(200)
    assert is_taken(asked(internet, host))
    assert is_taken(asked(internet, host, source="10.9.9.77"))  # of the same network
    internet.clock_error += 35 * 86400
    assert is_taken(asked(internet, host))
    internet.clock_error += 35 * 86400  # counted from when it came last
    assert is_taken(asked(internet, host))
    internet.clock_error += 37 * 86400
    assert not is_taken(asked(internet, host))


def test_who_comes_again_too_late_is_a_stranger(internet: Internet) -> None:
    host = hub(internet, retry_hours=2)
    assert not is_taken(asked(internet, host))
    internet.run(7300)
    assert not is_taken(asked(internet, host))
    internet.run(301)
    assert is_taken(asked(internet, host))


def test_sender_recipient_and_network_make_the_difference_and_what_verp_numbers_does_not(internet: Internet) -> None:
    host = hub(internet)
    asked(internet, host, "list-1@yy.example")
    internet.run(301)
    assert is_taken(asked(internet, host, "list-2@yy.example"))
    assert not is_taken(asked(internet, host, "other@yy.example"))
    assert not is_taken(asked(internet, host, "list-1@yy.example", "ben@xx.example"))
    assert not is_taken(asked(internet, host, "list-1@yy.example", source="10.9.8.9"))


def test_the_null_sender_is_asked_to_come_again_too(internet: Internet) -> None:
    host = hub(internet)
    assert not is_taken(asked(internet, host, ""))
    internet.run(301)
    assert is_taken(asked(internet, host, ""))


def test_a_network_of_which_enough_has_passed_is_taken_as_a_whole(internet: Internet) -> None:
    host = hub(internet, network_passes=2)
    for sender in ("a@yy.example", "b@yy.example"):
        assert not is_taken(asked(internet, host, sender))
        internet.run(301)
        for _ in range(3):  # what has passed once counts once
            assert is_taken(asked(internet, host, sender))
    assert is_taken(asked(internet, host, "c@yy.example"))
    assert not is_taken(asked(internet, host, "c@yy.example", source="10.9.8.9"))


def test_postmaster_and_those_whom_the_operator_knows_need_not_wait(internet: Internet) -> None:
    host = hub(internet, domains=["ZZ.example"], networks=["10.7.0.0/16"], good_lists=["good.example=127.0.1.1"])
    host.add_account("postmaster@xx.example")
    internet.resolver.hosts["9.9.6.10.good.example"] = ["127.0.1.1"]
    internet.resolver.hosts["8.9.6.10.good.example"] = ["127.0.1.2"]
    assert is_taken(asked(internet, host, to="postmaster@xx.example"))
    assert is_taken(asked(internet, host, "a@mail.zz.example"))
    assert not is_taken(asked(internet, host, "a@zzz.example"))
    assert is_taken(asked(internet, host, source="10.7.1.1"))
    assert is_taken(asked(internet, host, source="10.6.9.9"))
    assert not is_taken(asked(internet, host, source="10.6.9.8"))


def test_whom_our_users_have_written_to_may_answer_at_once(internet: Internet) -> None:
    host = hub(internet)
    host.submit("ann@xx.example", ["A@yy.example", "ben@xx.example"], b"Subject: hello\r\n\r\nx\r\n")
    assert is_taken(asked(internet, host, "a@yy.example", "ben@xx.example"))
    assert not is_taken(asked(internet, host, "b@yy.example"))
    assert not is_taken(asked(internet, host, "ben@xx.example"))  # a forger


def test_a_restart_makes_nobody_a_stranger(internet: Internet) -> None:
    host = hub(internet, "inline")
    assert not is_taken(asked(internet, host))
    internet.run(200)
    host.restart()
    internet.run(101)
    assert is_taken(asked(internet, host))
    host.restart()
    assert is_taken(asked(internet, host))


def test_a_clock_that_is_set_back_keeps_nobody_waiting_for_longer(internet: Internet) -> None:
    host = hub(internet)
    asked(internet, host)
    internet.clock_error = -86400.0
    assert not is_taken(asked(internet, host))
    internet.run(301)
    assert is_taken(asked(internet, host))


def test_a_server_that_comes_again_by_itself_delivers(internet: Internet) -> None:
    host = hub(internet)
    other = internet.hub("yy.example", ["a"])
    other.submit("a@yy.example", ["ann@xx.example"], b"Subject: hello\r\n\r\nx\r\n")
    internet.run(5)
    assert host.inbox("ann@xx.example") == []
    internet.run(3600)
    assert len(host.inbox("ann@xx.example")) == 1
    assert not other.queued()
