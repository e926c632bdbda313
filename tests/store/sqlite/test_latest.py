"""What was committed last is known by its numbers, with who has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailhub.testing.hubs import Host, Internet

LARGE = (b"x" * 70 + b"\r\n") * 2000


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Internet(1, folder=tmp_path, poll_seconds=86400) as internet:
        internet.resolver.failing.add("yy.example")
        yield internet.hub("xx.example", ["a", "b"], {"database": {"type": "inline"}})


def send(host: Host, *recipients: str, text: bytes = b"") -> None:
    host.submit("a@xx.example", recipients, b"Subject: hello\r\n\r\n" + text + b"\r\n")


def latest(host: Host, seconds: int = 600, limit: int = 100) -> list[frozenset[str]]:
    found = host.internet.wait(host.hub.database.latest(seconds, limit))
    return [each.places for each in found]


def test_users_and_recipients_have_it(host: Host) -> None:
    assert latest(host) == []
    send(host, "b@xx.example", "a+detail@xx.example", "c@yy.example", '"c d"@yy.example')
    assert latest(host) == [frozenset({"a@xx.example", "b@xx.example", "c@yy.example", '"c d"@yy.example'})]


def test_the_last_ones_come_first_as_many_as_are_wanted(host: Host) -> None:
    for recipient in ("a@xx.example", "b@xx.example", "c@yy.example"):
        send(host, recipient)
        host.internet.run(400)
    assert latest(host) == [{"c@yy.example"}, {"b@xx.example"}]
    assert latest(host, seconds=1000) == [{"c@yy.example"}, {"b@xx.example"}, {"a@xx.example"}]
    assert latest(host, limit=1) == [{"c@yy.example"}]


def test_a_clock_that_was_set_back_hides_none(host: Host) -> None:
    send(host, "a@xx.example")
    host.clock_error = -86400
    send(host, "b@xx.example")
    assert latest(host) == [{"b@xx.example"}, {"a@xx.example"}]


@pytest.mark.parametrize("text", [b"small", LARGE], ids=["small", "large"])
def test_its_octets_can_be_read(host: Host, text: bytes) -> None:
    send(host, "a@xx.example", text=text)
    wait, database = host.internet.wait, host.hub.database
    (found,) = wait(database.latest(600, 10))
    reader = wait(database.open_latest(found.number))
    octets = wait(reader.read())
    reader.close()
    assert octets == host.inbox("a@xx.example")[0]
    assert octets.startswith(b"Return-Path: <a@xx.example>\r\nReceived: ")
    assert text in octets
