"""Mail that is sent on from server to server: where reports come back to, and that what goes round ends."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes

import pytest

from mailhub.testing.hubs import Internet

MESSAGE = b"From: a@far.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"
DAY = 86_400


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=7, poll_seconds=600) as internet:
        yield internet


def return_path(message: bytes) -> str:
    return message_from_bytes(message)["Return-Path"]


def test_a_return_address_goes_there_and_back(internet: Internet) -> None:
    far = internet.hub("far.example", users=["a"])
    us = internet.hub("us.example", config={"aliases": {"x@us.example": ["y@their.example"]}})
    their = internet.hub("their.example", users=["y"])
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(60)
    (got,) = their.inbox("y@their.example")
    path = return_path(got).strip("<>")
    assert path.startswith("SRS0=")
    assert path.endswith("=far.example=a@us.example")
    assert b"Delivered-To: x@us.example\r\n" in got
    # A report by their server, later.
    their.submit("", [path], b"Subject: Your mail\r\n\r\nIt could not be read.\r\n")
    internet.run(60)
    (report,) = far.inbox("a@far.example")
    assert b"Subject: Your mail" in report
    assert not any(host.queued() for host in (far, us, their))


def test_a_third_server_sends_on_and_the_report_comes_all_the_way(internet: Internet) -> None:
    far = internet.hub("far.example", users=["a"])
    internet.hub("us.example", config={"aliases": {"x@us.example": ["y@two.example"]}})
    internet.hub("two.example", config={"aliases": {"y@two.example": ["z@three.example"]}})
    three = internet.hub("three.example", users=["z"])
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(60)
    (got,) = three.inbox("z@three.example")
    path = return_path(got).strip("<>")
    assert path.startswith("SRS1=")
    assert path.endswith("@two.example")
    three.submit("", [path], b"Subject: report\r\n\r\n")
    internet.run(60)
    assert len(far.inbox("a@far.example")) == 1


def test_who_the_next_server_refuses_is_told_to_the_sender_himself(internet: Internet) -> None:
    far = internet.hub("far.example", users=["a"])
    internet.hub("us.example", config={"aliases": {"x@us.example": ["nobody@their.example"]}})
    internet.hub("their.example")
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(60)
    (report,) = far.inbox("a@far.example")
    assert b"Action: failed" in report
    assert b"5.1.1" in report
    assert b"x@us.example" in report


def test_aliases_that_lead_round_end_and_the_sender_is_told_once(internet: Internet) -> None:
    far = internet.hub("far.example", users=["a"])
    us = internet.hub("us.example", config={"aliases": {"x@us.example": ["y@their.example"]}})
    their = internet.hub("their.example", config={"aliases": {"y@their.example": ["x@us.example"]}})
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(DAY)
    (report,) = far.inbox("a@far.example")
    assert b"5.4.6" in report
    assert not any(host.queued() for host in (far, us, their))


def test_it_can_be_turned_off_and_is_off_without_the_way_back(internet: Internet) -> None:
    far = internet.hub("far.example", users=["a"])
    alias = {"aliases": {"x@us.example": ["y@their.example"]}}
    us = internet.hub("us.example", config={**alias, "forwarding": {"srs": False}})
    their = internet.hub("their.example", users=["y"])
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(60)
    us.reload({**alias, "delivery": {"routers": ["aliases", "accounts", "catch-all", "exchangers"]}})
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(60)
    us.reload({**alias, "forwarding": {"srs_domain": "srs.us.example"}})
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(60)
    paths = [return_path(message) for message in their.inbox("y@their.example")]
    assert paths[:2] == ["<a@far.example>"] * 2
    assert paths[2].startswith("<SRS0=")
    assert paths[2].endswith("=far.example=a@srs.us.example>")


def test_a_return_address_outlives_the_wait_of_its_message(internet: Internet) -> None:
    """However few days are set: what waited here for long may fail at the next server, and the sender is told."""
    far = internet.hub("far.example", users=["a"])
    config = {
        "aliases": {"x@us.example": ["y@their.example"]},
        "forwarding": {"srs_days": 1},
        "queue": {"destination": {"their.example": {"expire_hours": 10 * 24}}},
    }
    us = internet.hub("us.example", config=config)
    their = internet.hub("their.example", users=["y"])
    their.unlisten()
    far.submit("a@far.example", ["x@us.example"], MESSAGE)
    internet.run(9 * DAY)
    their.listen()
    internet.run(DAY // 2)
    (got,) = their.inbox("y@their.example")
    internet.run(5 * DAY)  # as long as their own queue may try
    before = len(far.inbox("a@far.example"))
    their.submit("", [return_path(got).strip("<>")], b"Subject: Your mail\r\n\r\nIt could not be delivered.\r\n")
    internet.run(60)
    assert len(far.inbox("a@far.example")) == before + 1
    internet.run(5 * DAY)
    their.submit("", [return_path(got).strip("<>")], b"Subject: late\r\n\r\n")
    internet.run(60)
    assert len(far.inbox("a@far.example")) == before + 1
    assert not us.queued()
