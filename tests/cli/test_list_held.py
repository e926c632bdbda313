"""`mailhub list held|approve|discard`: on the data of a server that is down."""

from __future__ import annotations

import json

import attrs
import pytest

from mailhub.cli.offline import opened
from mailhub.config.settings import Config
from mailhub.interfaces import Plan, Route, RowChange, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from tests.cli.conftest import Command

TEAM = Address.parse("team@xx.example")


def queued(config: Config, sender: str, *lists: str) -> str:
    """A post that waits, which is for somebody else as well."""
    with opened(config) as hub:
        writer = hub.queue.new_body()
        hub.wait(writer.write(b"Subject: x\r\n\r\n"))
        body = hub.wait(writer.finish())
        targets = [Address.parse(name) for name in lists] or [TEAM]
        routes = (*(Route("list", each, each.key) for each in targets), Route("smtp", Address.parse("b@yy.example")))
        receipt = hub.wait(hub.queue.submit(Submission(Mail(Address.parse(sender)), Plan(routes=routes), body)))
        (message,) = [each for each in hub.wait(hub.queue.messages()) if each.id == receipt.id]
        rows = tuple([row for row in message.recipients if row.route.agent == "list"])
        hub.wait(hub.queue.change({RowChange(held=True): [attrs.evolve(message, recipients=rows)]}))
    return receipt.id


def rows(config: Config) -> list[tuple[str, bool]]:
    with opened(config, "read") as hub:
        found = hub.wait(hub.queue.messages())
    return sorted((row.route.agent, row.held) for message in found for row in message.recipients)


@pytest.fixture(autouse=True)
def account(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    for name in ("team@xx.example", "other@xx.example"):
        assert mailhub("list", "add", name).status == 0


def test_what_waits_is_shown_and_goes_on_or_is_dropped(mailhub: Command, config: Config) -> None:
    assert mailhub("list", "held").out == "nothing waits for an owner\n"
    one, two = queued(config, "dan@far.example"), queued(config, "eve@far.example")
    (line, _) = mailhub("list", "held", "Team@xx.example").out.splitlines()
    assert line.split()[0] == one
    assert line.endswith("  team@xx.example  <dan@far.example>")
    assert mailhub("list", "held", "other@xx.example").out == "nothing waits for an owner\n"
    assert [each["sender"] for each in json.loads(mailhub("list", "held", "--json").out)] == [
        "dan@far.example",
        "eve@far.example",
    ]
    assert mailhub("list", "approve", one).out == f"{one}: on the way to the members\n"
    assert rows(config) == [("list", False), ("list", True), ("smtp", False), ("smtp", False)]
    assert mailhub("list", "discard", two).status == 1  # nobody can be asked
    assert mailhub("list", "discard", two, "--yes").out == f"{two}: dropped\n"
    assert rows(config) == [("list", False), ("smtp", False), ("smtp", False)]


@pytest.mark.parametrize("words", [("approve",), ("discard", "--yes")])
def test_what_does_not_wait_for_an_owner_is_left_alone(
    mailhub: Command, config: Config, words: tuple[str, ...]
) -> None:
    one = queued(config, "dan@far.example")
    before = rows(config)
    told = mailhub("list", *words, one, "1js0000000000000")
    assert (told.status, "1js0000000000000: no post that waits for an owner" in told.err) == (1, True)
    assert rows(config) == before


def test_who_answers_for_one_list_says_nothing_for_another(mailhub: Command, config: Config) -> None:
    name = queued(config, "dan@far.example", "team@xx.example", "other@xx.example")
    refused = mailhub("list", "approve", name)
    assert refused.status == 1
    assert f"{name} waits for other@xx.example and team@xx.example: name one of them by --list" in refused.err
    assert mailhub("list", "approve", name, "--list", "third@xx.example").status == 1
    done = json.loads(mailhub("list", "approve", name, "--list", "Team@xx.example", "--json").out)
    assert done == [{"id": name, "list": "team@xx.example", "done": "approved"}]
    assert rows(config) == [("list", False), ("list", True), ("smtp", False)]
    assert mailhub("list", "discard", name, "--yes").out == f"{name}: dropped\n"  # only one is left
    assert rows(config) == [("list", False), ("smtp", False)]


def test_a_list_that_is_not_there_is_a_mistake(mailhub: Command) -> None:
    refused = mailhub("list", "held", "nolist@xx.example")
    assert (refused.status, refused.out) == (1, "")
    assert "there is no list nolist@xx.example" in refused.err
