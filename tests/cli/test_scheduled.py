"""`mailhub scheduled` on a queue with mail that is held."""

from __future__ import annotations

import json
import time

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.cli import scheduled
from mailhub.cli.offline import opened
from mailhub.config.settings import Config
from mailhub.data_folder import DataFolder
from mailhub.interfaces import Plan, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from tests.cli.conftest import Command

HOUR = 3600


@pytest.fixture
def ids(config: Config) -> list[str]:
    """A message to two for tomorrow, one for in an hour, and one that goes at once."""
    made = []
    now = int(time.time())
    with opened(config, "create") as hub:
        for wait, names in ((24 * HOUR, ("ben", "cid")), (HOUR, ("dot",)), (0, ("eve",))):
            writer = hub.queue.new_body()
            hub.wait(writer.write(b"Subject: hello\r\n\r\nHow are you?\r\n"))
            body = hub.wait(writer.finish())
            plan = Plan(routes=tuple(Route("smtp", Address.parse(f"{name}@yy.example")) for name in names))
            mail = Mail(Address.parse("ann@xx.example"))
            submission = Submission(mail, plan, body, not_before=wait and now + wait, submitter="ann@xx.example")
            made.append(hub.wait(hub.queue.submit(submission)).id)
    return made


def test_what_waits_for_its_time_is_listed_by_it(mailhub: Command, ids: list[str]) -> None:
    first, second = mailhub("scheduled", "list").out.splitlines()
    assert first.startswith(ids[1])
    assert first.endswith("  ann@xx.example  <ann@xx.example> -> <dot@yy.example>")
    assert second.startswith(ids[0])
    assert second.endswith("<ben@yy.example> and 1 more")
    told = json.loads(mailhub("scheduled", "list", "--json").out)
    queued = {each["id"]: each for each in json.loads(mailhub("queue", "list", "--messages", "--json").out)}
    assert told == [queued[ids[1]], queued[ids[0]]]


def test_it_is_taken_back_whole_or_not_at_all(mailhub: Command, ids: list[str]) -> None:
    with capturedLogs() as events:
        done = mailhub("scheduled", "cancel", *ids, "nonsense")
    assert list(map(formatEvent, events)) == [
        f"cancelled: id={name} from=<ann@xx.example> to=<{to}@yy.example> user=ann@xx.example"
        for name, to in ((ids[0], "ben"), (ids[0], "cid"), (ids[1], "dot"))
    ]
    assert done.status == 1
    assert done.out == "2 messages taken back\n"
    assert done.err.splitlines() == [
        f"mailhub: {ids[2]}: its time has come; in the queue are only <eve@yy.example>",
        "mailhub: nonsense: is not in the queue: it has been sent, taken back, or removed",
    ]
    assert mailhub("scheduled", "list").out == "nothing is scheduled\n"
    assert [line.split()[0] for line in mailhub("queue", "list", "--messages").out.splitlines()] == [ids[2]]


def test_the_copy_in_sent_is_taken_back_without_a_server(mailhub: Command, config: Config) -> None:
    message = b"Received: from x by y;\r\n\tnow\r\nMessage-ID: <1@xx.example>\r\n\r\nHow are you?\r\n"
    with opened(config, "create") as hub:
        hub.wait(hub.accounts.add("ann@xx.example", "x"))
        writer = hub.queue.new_body()
        hub.wait(writer.write(message))
        plan = Plan(routes=(Route("smtp", Address.parse("ben@yy.example")),))
        mail, later = Mail(Address.parse("ann@xx.example")), int(time.time()) + HOUR
        waiting = Submission(mail, plan, hub.wait(writer.finish()), not_before=later, submitter="ann@xx.example")
        name = hub.wait(hub.queue.submit(waiting)).id
        account = hub.wait(hub.database.store.account("ann@xx.example"))
        sent = hub.wait(account.mailbox("Sent"))
        for top in (b"Return-Path: <ann@xx.example>\r\n", b""):
            copy = account.new_body()
            hub.wait(copy.write(top + message))
            hub.wait(sent.append(hub.wait(copy.finish()), frozenset(), 0))
    assert mailhub("scheduled", "cancel", name).out == "1 message taken back\n"
    with opened(config) as hub:
        sent = hub.wait(hub.wait(hub.database.store.account("ann@xx.example")).mailbox("Sent"))
        assert [each.uid for each in hub.wait(sent.entries())] == [2]


def test_a_server_that_runs_is_asked(
    mailhub: Command, ids: list[str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(folder: object, question: object) -> object:
        asked.append((folder, question))
        return {"told": {ids[0]: ""}}

    monkeypatch.setattr(scheduled, "ask", ask)
    monkeypatch.setattr(DataFolder, "server", lambda folder: 17)
    done = mailhub("scheduled", "cancel", ids[0])
    assert (done.status, done.out, done.err) == (0, "1 message taken back\n", "")
    assert asked == [(config.data, {"scheduled": "cancel", "ids": [ids[0]]})]
