"""`mailhub queue` on a queue with two messages."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from contextlib import closing

import pytest

from mailhub import control
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config
from mailhub.data_folder import DataFolder
from mailhub.interfaces import Plan, Route, Settlement, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome
from tests.cli.conftest import Command

SENDER = Address.parse("ann@xx.example")
HOUR = 3600


def routes(*names: str) -> Plan:
    return Plan(routes=tuple(Route("smtp", Address.parse(name), "relay.example:25") for name in names))


def settle(hub: Offline, name: str, outcome: Outcome) -> None:
    """The outcome of a message with one recipient, who is tried again in about an hour."""
    now = int(time.time())
    claims = hub.wait(hub.queue.claim(now + 2 * 3700, 10, 10))
    (claim,) = [claim for claim in claims if claim.message.id == name]
    assert hub.wait(hub.queue.settle(claim, [Settlement(claim.message.recipients[0].id, outcome, now + 3700)]))


@pytest.fixture
def ids(config: Config) -> list[str]:
    """The ids of a delayed message to one recipient, and of a fresh one to two."""
    made = []
    plans = (routes("ben@yy.example"), routes("cid@yy.example", "dot@yy.example"))
    with opened(config, "create") as hub:
        for plan in plans:
            writer = hub.queue.new_body()
            hub.wait(writer.write(b"Subject: a\x1b[2Jb\r\nFrom: ann\r\n\r\nsecret body\r\n"))
            body = hub.wait(writer.finish())
            made.append(hub.wait(hub.queue.submit(Submission(Mail(SENDER), plan, body))).id)
        later = Outcome.delayed("451 not now", status="4.7.1", remote="mx.yy.example")
        settle(hub, made[0], later)
    return made


def test_list_is_by_request_one_line_a_message(mailhub: Command, ids: list[str]) -> None:
    lines = {line.split()[0]: line for line in mailhub("queue", "list", "--messages").out.splitlines()}
    assert sorted(lines) == sorted(ids)
    assert lines[ids[0]].endswith("<ann@xx.example> -> <ben@yy.example>  451 not now")
    assert lines[ids[1]].endswith("<ann@xx.example> -> <cid@yy.example> and 1 more")


def test_show_tells_all_but_the_body(mailhub: Command, ids: list[str]) -> None:
    shown = mailhub("queue", "show", ids[0]).out
    assert f"id:      {ids[0]}\n" in shown
    assert "to:      <ben@yy.example> by smtp relay.example:25, 1 attempts, next in 1h1m\n" in shown
    assert "mx.yy.example: 4.7.1 451 not now\n" in shown
    assert "From: ann" in shown
    assert "secret" not in shown


def test_only_what_has_to_be_said_is_asked_for(mailhub: Command, ids: list[str]) -> None:
    assert mailhub("queue", "reroute").err.endswith("error: the following arguments are required: WAY\n")


def test_show_sends_no_control_characters_to_the_terminal(mailhub: Command, ids: list[str]) -> None:
    shown = mailhub("queue", "show", ids[0]).out
    assert r"Subject: a\x1b[2Jb" in shown


def test_list_sends_none_either(mailhub: Command, ids: list[str], config: Config) -> None:
    with opened(config, "write") as hub:
        said = Outcome.delayed("451 \x1b]0;x\x07\u202e\nid=FAKE", status="4.7.1", remote="mx.yy.example")
        settle(hub, ids[0], said)
    for words in (("list",), ("list", "--messages"), ("show", ids[0])):
        assert r"451 \x1b]0;x\x07\u202e\x0aid=FAKE" in mailhub("queue", *words).out


def test_retry_makes_messages_due(mailhub: Command, ids: list[str]) -> None:
    assert mailhub("queue", "retry", ids[0]).out == "1 message due now\n"
    assert ", due\n" in mailhub("queue", "show", ids[0]).out
    assert mailhub("queue", "retry", "--all").out == "2 messages due now\n"


def test_remove_takes_only_what_is_named(mailhub: Command, ids: list[str]) -> None:
    assert mailhub("queue", "remove", ids[0]).out == "1 message removed\n"
    assert mailhub("queue", "list", "--messages").out.split()[0] == ids[1]
    assert mailhub("queue", "remove", "--all", "--yes").out == "1 message removed\n"
    assert mailhub("queue", "list").out == "the queue is empty\n"
    assert mailhub("queue", "remove", "--all").out == "0 messages removed\n"


def test_the_whole_queue_is_dropped_only_by_who_says_yes(mailhub: Command, ids: list[str]) -> None:
    refused = mailhub("queue", "remove", "--all", stdin="yes\n")
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert refused.err.startswith(
        "mailhub: Drop all 2 messages in the queue? Senders are not told. There is no terminal"
    )
    asked = mailhub("queue", "remove", "--all", stdin="no\n", terminal=True)
    assert (asked.status, asked.out.endswith("nothing was changed\n")) == (1, True)
    assert len(mailhub("queue", "list", "--messages").out.splitlines()) == 2
    assert mailhub("queue", "remove", "--all", stdin="yes\n", terminal=True).out.endswith("2 messages removed\n")


@pytest.mark.parametrize("action", ["retry", "remove"])
def test_with_an_unknown_id_among_others_nothing_is_done(mailhub: Command, ids: list[str], action: str) -> None:
    before = mailhub("queue", "show", ids[0]).out.splitlines()[4:]
    result = mailhub("queue", action, ids[0], "x")
    assert (result.status, result.out) == (1, "")
    assert result.err == "mailhub: not in the queue: x; `mailhub queue list` shows what is\n"
    assert mailhub("queue", "show", ids[0]).out.splitlines()[4:] == before  # due in an hour as it was


@pytest.mark.parametrize("words", [("show", "x"), ("retry", "x", "y"), ("remove", "x")])
def test_an_unknown_id_is_a_mistake(mailhub: Command, ids: list[str], words: tuple[str, ...]) -> None:
    result = mailhub("queue", *words)
    assert result.status == 1
    assert result.err == f"mailhub: not in the queue: {' '.join(words[1:])}; `mailhub queue list` shows what is\n"


@pytest.mark.parametrize("words", [("retry",), ("remove",), ("remove", "x", "--all")])
def test_the_whole_queue_is_meant_only_when_said(mailhub: Command, ids: list[str], words: tuple[str, ...]) -> None:
    result = mailhub("queue", *words)
    assert (result.status, result.err) == (1, "mailhub: say which messages, by their ids or with --all\n")
    assert len(mailhub("queue", "list", "--messages").out.splitlines()) == 2


def test_list_groups_by_destination_and_says_why_it_waits(mailhub: Command, ids: list[str]) -> None:
    (line,) = mailhub("queue", "list").out.splitlines()
    assert line.startswith("smtp relay.example:25  2 messages  oldest ")
    assert line.endswith("due; last answer: mx.yy.example: 4.7.1 451 not now")
    assert mailhub("queue", "hold", ids[1]).out == "1 message held\n"
    (line,) = mailhub("queue", "list").out.splitlines()
    assert "waits, next in 1h1m (2 held); " in line
    mailhub("queue", "hold", "--all")
    assert "  held; last answer: " in mailhub("queue", "list").out
    assert ", held\n" in mailhub("queue", "show", ids[1]).out
    assert mailhub("queue", "release", "--all").out == "2 messages released\n"
    assert "  due; " in mailhub("queue", "list").out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--domain", "yy.example"), [0, 1]),
        (("--domain", "zz.example"), []),
        (("--sender", "@xx.example", "--reply", "not now"), [0]),
        (("--recipient", "dot@yy.example"), [1]),
        (("--age", "1h"), []),
        (("--reply", "4.7.1"), [0]),
        (("--sender", "<>"), []),
    ],
)
def test_conditions_hold_together(mailhub: Command, ids: list[str], words: tuple[str, ...], found: list[int]) -> None:
    shown = json.loads(mailhub("queue", "list", "--messages", "--json", *words).out)
    assert [message["id"] for message in shown] == [ids[number] for number in found]
    assert mailhub("queue", "retry", *words).out.startswith(f"{len(found)} message")
    if not found:
        assert mailhub("queue", "list", *words).out == "no such message is in the queue\n"


def test_json_has_stable_keys(mailhub: Command, ids: list[str]) -> None:
    (place,) = json.loads(mailhub("queue", "list", "--json").out)
    said = ["last_status", "last_reply", "last_host"]
    assert list(place) == [
        "destination", "state", "messages", "recipients", "held", "scheduled", "oldest", "next_attempt",
        "paused_until", "at_work", "at_work_limit", *said,
    ]  # fmt: skip
    shown = json.loads(mailhub("queue", "show", "--json", ids[0]).out)
    assert list(shown) == [
        "id", "queued", "size", "sender", "submitter", "not_before", "envelope_id", "recipients", "header",
    ]  # fmt: skip
    assert list(shown["recipients"][0]) == [
        "address", "named", "agent", "target", "state", "attempts", "priority", "last_attempt", "next_attempt",
        "warned", *said,
    ]  # fmt: skip
    assert json.loads(mailhub("queue", "list", "--json", "--domain", "zz.example").out) == []


def test_messages_go_elsewhere_come_back_and_are_urgent(mailhub: Command, ids: list[str]) -> None:
    assert mailhub("queue", "reroute", "other.example:587", ids[0]).out == "1 message rerouted\n"
    assert "by smtp other.example:587, 1 attempts, due" in mailhub("queue", "show", ids[0]).out
    assert mailhub("queue", "reroute", "mx", "--all").out == "2 messages rerouted\n"
    assert "to:      <ben@yy.example> by smtp, 1 attempts, due" in mailhub("queue", "show", ids[0]).out
    assert mailhub("queue", "priority", "4", ids[1]).out == "1 message changed\n"
    assert mailhub("queue", "show", ids[1]).out.count(", priority 4\n") == 2
    assert mailhub("queue", "bounce", ids[0]).out == "1 message returned\n"
    shown = mailhub("queue", "show", ids[0]).out
    assert "DSN due\n" in shown
    assert "5.3.0 Delivery was cancelled by the administrator; the last answer was: 451 not now" in shown
    assert "(to be told to their senders)  1 message  " in mailhub("queue", "list").out
    refused = mailhub("queue", "bounce", "--domain", "yy.example")
    assert (refused.status, refused.err.count("\n")) == (1, 1)
    assert mailhub("queue", "flush", "yy.example").out == "2 messages due now\n"


@pytest.mark.parametrize("words", [("list", "--age", "old"), ("priority", "10", "--all"), ("priority", "x", "--all")])
def test_what_cannot_be_meant_is_told_in_a_line(mailhub: Command, ids: list[str], words: tuple[str, ...]) -> None:
    result = mailhub("queue", *words)
    assert result.status
    assert "bug" not in result.err


@pytest.mark.parametrize(
    "words",
    [
        ("flush", "a b"),
        ("flush", ""),
        ("list", "--domain", "@yy.example"),
        ("list", "--sender", "xx.example"),
        ("list", "--sender", "@"),
        ("hold", "--recipient", "a b@c"),
        ("retry", "--all", "--domain", "yy.example"),
        ("reroute", "--agent", "nosuch", "x.example", "--all"),
        ("reroute", "--agent", "store", "ben@xx.example", "--all"),
        ("reroute", "--agent", "list", "x", "--all"),
        ("reroute", "--agent", "lmtp", "mx", "--all"),
        ("reroute", "unix:/s", "--all"),
        ("reroute", "host.example:99999", "--all"),
        ("reroute", "bad host", "--all"),
        ("reroute", "127.0.0.1:25:25", "--all"),
        ("reroute", "x" * 300, "--all"),
        ("reroute", "*", "--all"),
    ],
)
def test_what_is_no_filter_and_no_way_is_refused_in_a_line_and_nothing_changes(
    mailhub: Command, ids: list[str], words: tuple[str, ...]
) -> None:
    def ways() -> list[tuple[str, str, str]]:
        shown = json.loads(mailhub("queue", "list", "--messages", "--json").out)
        return [(row["agent"], row["target"], row["state"]) for each in shown for row in each["recipients"]]

    before = ways()
    result = mailhub("queue", *words)
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert "bug" not in result.err
    assert ways() == before


def test_ways_by_lmtp_and_by_names_beyond_ascii(mailhub: Command, ids: list[str]) -> None:
    assert mailhub("queue", "reroute", "--agent", "lmtp", "unix:/run/lmtp", ids[0]).out == "1 message rerouted\n"
    assert "by lmtp unix:/run/lmtp, " in mailhub("queue", "show", ids[0]).out
    mailhub("queue", "reroute", "bücher.example:587", ids[0])
    assert "by smtp xn--bcher-kva.example:587, " in mailhub("queue", "show", ids[0]).out
    assert mailhub("queue", "reroute", "[::1]:25", ids[0]).status == 0


def test_counts_say_what_was_not_done(mailhub: Command, ids: list[str]) -> None:
    mailhub("queue", "hold", ids[0])
    assert mailhub("queue", "hold", ids[0]).out == "0 messages held\n"
    told = mailhub("queue", "retry", ids[0]).out
    assert told == "0 messages due now\n1 message is held, and tried only when released\n"
    mailhub("queue", "bounce", ids[0])
    assert mailhub("queue", "hold", "--all").out == (
        "1 message held\n1 message is given up already, and to be told to the sender\n"
    )


def test_beside_a_server_that_cannot_be_asked_nothing_is_changed(
    mailhub: Command, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataFolder, "server", lambda folder: 17)
    monkeypatch.setattr(control, "STARTING_SECONDS", 0)
    for words in (("hold", "--all"), ("flush", "yy.example"), ("remove", "--all", "--yes")):
        result = mailhub("queue", *words)
        assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
        assert "the server (process 17) cannot be asked" in result.err
    assert len(mailhub("queue", "list", "--messages").out.splitlines()) == 2


def test_a_server_that_is_starting_behind_the_socket_of_a_killed_one_is_waited_for(
    mailhub: Command, ids: list[str], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(config.data / control.NAME))
    assert not control.listens(config.data)
    assert mailhub("queue", "hold", ids[0]).out == "1 message held\n", "nobody serves the data"
    pauses: list[float] = []
    monkeypatch.setattr(DataFolder, "server", lambda folder: None if len(pauses) > 3 else 17)
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert mailhub("queue", "release", ids[0]).out == "1 message released\n"
    assert len(pauses) == 4
    assert len(mailhub("queue", "list", "--messages").out.splitlines()) == 2


def test_a_database_of_an_older_mailhub_is_left_to_the_server(mailhub: Command, ids: list[str], config: Config) -> None:
    file = config.data / "mailhub.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 3")
    for words in (("list",), ("hold", "--all"), ("flush", "yy.example")):
        result = mailhub("queue", *words)
        assert (result.status, result.err.count("\n")) == (1, 1)
        assert "was written by an older mailhub" in result.err


@pytest.mark.parametrize("action", ["retry", "hold", "release", "remove", "bounce", "reroute", "priority", "flush"])
def test_each_action_is_described(mailhub: Command, action: str) -> None:
    told = " ".join(mailhub("queue", action, "--help").out.split())
    assert "DOMAIN" in told
    assert action == "flush" or "conditions that hold together" in told


def test_the_help_says_what_can_be_done(mailhub: Command) -> None:
    told = mailhub("queue", "--help").out
    assert "Mail that is taken and not delivered yet" in told
    assert "mailhub queue flush example.net" in told
    for action in ("list", "show", "retry", "hold", "release", "remove", "bounce", "reroute", "priority", "flush"):
        assert f"\n    {action} " in told


@pytest.mark.parametrize(
    "words", [("requeue",), ("freeze",), ("delete",), ("return",), ("redirect", "mx"), ("flush", "yy.example")]
)
def test_what_was_done_is_told_to_programs(mailhub: Command, ids: list[str], words: tuple[str, ...]) -> None:
    done = json.loads(
        mailhub("queue", *words, "--json", "--reply", "not now", *(["--yes"] * (words[0] in ("delete", "return")))).out
    )
    assert done == {"changed": 1, "trying": 0, "held": 0, "dsn": 0, "scheduled": 0, "local": 0}


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nosuch"),
        *((action, "nosuch") for action in ("retry", "hold", "release", "remove", "bounce")),
        ("reroute", "mx", "nosuch"),
        ("reroute", "bad host", "--all"),
        ("priority", "3", "nosuch"),
        ("hold",),
        ("flush",),
        ("flush", "a b"),
        ("list", "--domain", "a b"),
    ],
)
def test_programs_are_told_why_something_cannot_be_done(
    mailhub: Command, ids: list[str], words: tuple[str, ...]
) -> None:
    result = mailhub("queue", *words, "--json")
    assert result.status == 1
    told = json.loads(result.out)
    assert list(told) == ["error"]
    assert result.err == f"mailhub: {told['error']}\n"


def test_what_is_for_mailboxes_here_and_what_is_scheduled_is_left_alone(mailhub: Command, config: Config) -> None:
    made = []
    now = int(time.time())
    here = Route("store", Address.parse("ben@xx.example"), "ben@xx.example")
    there = Route("smtp", Address.parse("cid@yy.example"))
    with opened(config, "create") as hub:
        for wait in (0, HOUR):
            writer = hub.queue.new_body()
            hub.wait(writer.write(b"Subject: a\r\n\r\nb\r\n"))
            plan, body = Plan(routes=(here, there)), hub.wait(writer.finish())
            waiting = Submission(Mail(SENDER), plan, body, not_before=wait and now + wait)
            made.append(hub.wait(hub.queue.submit(waiting)).id)

    def ways(name: str) -> list[tuple[str, str]]:
        return [
            (row["agent"], row["state"])
            for row in json.loads(mailhub("queue", "show", "--json", name).out)["recipients"]
        ]

    assert mailhub("queue", "reroute", "x.example", "--all").out == (
        "2 messages rerouted\n1 message is to be sent later by the sender's wish, and tried early only when named\n"
        "2 messages are for mailboxes or lists here, and sent another way only when named by id\n"
    )
    assert ways(made[0]) == [("store", "due"), ("smtp", "due")]
    assert ways(made[1]) == [("store", "scheduled"), ("smtp", "scheduled")]
    mailhub("queue", "reroute", "--agent", "lmtp", "unix:/s", made[0])
    assert ways(made[0]) == [("lmtp", "due")] * 2
    # One of several recipients is not sent to early: the message can be taken back as a whole.
    assert mailhub("queue", "retry", made[1], "--domain", "yy.example").out.startswith(
        "0 messages due now\n1 message is "
    )
    assert mailhub("scheduled", "list").out.startswith(made[1])
    assert mailhub("queue", "retry", made[1]).out == "1 message due now\n"
    assert mailhub("scheduled", "list").out == "nothing is scheduled\n"


def test_all_below_a_domain_is_meant(mailhub: Command, ids: list[str]) -> None:
    assert mailhub("queue", "flush", "*.example").out == "2 messages due now\n"
    assert mailhub("queue", "retry", "--domain", "*.yy.example").out == "0 messages due now\n"
    assert mailhub("queue", "retry", "--domain", "*.").err.startswith("mailhub: '' is not a domain name")
    assert mailhub("queue", "flush").err.startswith("mailhub: say which domain; ")
