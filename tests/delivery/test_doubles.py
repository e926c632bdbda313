"""A message that comes twice because the first answer was lost is kept once, and every other as often as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zope.interface import implementer

from mailhub.delivery import doubles
from mailhub.interfaces import AddField, IMessageView, IPolicy, Origin, Screen, Verdict
from mailhub.plugins import Component
from mailhub.testing.caller import Caller
from mailhub.testing.clients import Service
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.life import Killed

HOUR = 3600
MESSAGE = b"Subject: hello\r\nMessage-ID: <1@yy.example>\r\n\r\nHow are you?\r\n"
LARGE = MESSAGE + b"x" * 140 * 1000 + b"\r\n"


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(1, folder=tmp_path, poll_seconds=HOUR) as made:
        yield made


@pytest.fixture
def host(internet: Internet) -> Host:
    return internet.hub("xx.example", ["a", "b"], {"database": {"type": "inline"}})


def begin(internet: Internet, host: Host, sender: bytes = b"s@yy.example", *names: bytes) -> Caller:
    """A client that has said all but the message."""
    caller = internet.call(host, "smtp")
    caller.expect(b"220")
    caller.ask(b"EHLO client.example\r\n", b"250 ")
    envelope(caller, sender, *names)
    return caller


def envelope(caller: Caller, sender: bytes = b"s@yy.example", *names: bytes) -> None:
    caller.ask(b"MAIL FROM:<%s>\r\n" % sender, b"250")
    for name in names or (b"a",):
        caller.ask(b"RCPT TO:<%s@xx.example>\r\n" % name, b"250")
    caller.ask(b"DATA\r\n", b"354")


def send(
    internet: Internet, host: Host, *names: bytes, message: bytes = MESSAGE, sender: bytes = b"s@yy.example"
) -> Caller:
    caller = begin(internet, host, sender, *names)
    caller.ask(message + b".\r\n", b"250")
    return caller


def lose(internet: Internet, caller: Caller) -> None:
    caller.transport.abortConnection()  # type: ignore[union-attr]
    internet.run(1)


def leave(internet: Internet, caller: Caller) -> None:
    caller.ask(b"QUIT\r\n", b"221")
    internet.run(1)


def counts(host: Host) -> tuple[int, int]:
    return len(host.inbox("a@xx.example")), len(host.inbox("b@xx.example"))


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_what_comes_again_after_a_lost_answer_is_kept_once(internet: Internet, host: Host, message: bytes) -> None:
    lose(internet, send(internet, host, message=message))
    again = send(internet, host, message=message)
    assert b"250 2.0.0 Queued as" in again.heard or b"Queued as" in again.heard
    lose(internet, again)
    leave(internet, send(internet, host, message=message))
    assert counts(host) == (1, 0)


def test_an_answer_that_could_not_be_given_is_lost_too(internet: Internet, host: Host) -> None:
    caller = begin(internet, host)
    caller.transport.write(MESSAGE + b".\r\n")  # type: ignore[union-attr]
    caller.transport.abortConnection()  # type: ignore[union-attr]
    internet.run(1)
    leave(internet, send(internet, host))
    assert counts(host) == (1, 0)


def test_who_said_goodbye_may_send_the_same_again(internet: Internet, host: Host) -> None:
    for _ in range(3):
        leave(internet, send(internet, host))
    assert counts(host) == (3, 0)


def test_who_goes_on_may_send_the_same_again_on_its_connection(internet: Internet, host: Host) -> None:
    caller = send(internet, host)
    envelope(caller)
    caller.ask(MESSAGE + b".\r\n", b"250")
    lose(internet, caller)
    assert counts(host) == (2, 0)


def test_two_connections_at_once_may_send_the_same(internet: Internet, host: Host) -> None:
    first, second = begin(internet, host), begin(internet, host)
    first.ask(MESSAGE + b".\r\n", b"250")
    second.ask(MESSAGE + b".\r\n", b"250")
    leave(internet, first)
    leave(internet, second)
    assert counts(host) == (2, 0)


def test_a_connection_on_which_nothing_is_heard_may_be_none(internet: Internet, host: Host) -> None:
    """The client's power has failed, and it is back before we know."""
    send(internet, host)
    internet.run(doubles._SILENT_SECONDS + 1)
    leave(internet, send(internet, host))
    assert counts(host) == (1, 0)


def test_the_same_on_a_later_connection_says_that_the_answer_was_lost(internet: Internet, host: Host) -> None:
    """At once, where nothing was heard since."""
    first = send(internet, host)
    leave(internet, send(internet, host))
    assert counts(host) == (1, 0)
    envelope(first)
    first.ask(MESSAGE + b".\r\n", b"250")
    assert counts(host) == (2, 0)
    envelope(first)
    leave(internet, send(internet, host))
    assert counts(host) == (3, 0)


DIFFERENT: list[dict[str, Any]] = [
    {"sender": b"t@yy.example"},
    {"sender": b""},
    {"message": MESSAGE + b"!\r\n"},
    {"message": MESSAGE.replace(b"you", b"YOU")},
    {"message": MESSAGE.replace(b"<1@", b"<2@")},
]


@pytest.mark.parametrize("other", DIFFERENT)
def test_what_differs_in_anything_passes(internet: Internet, host: Host, other: dict[str, Any]) -> None:
    lose(internet, send(internet, host))
    leave(internet, send(internet, host, **other))
    assert counts(host) == (2, 0)


def test_a_message_without_a_name_passes(internet: Internet, host: Host) -> None:
    message = b"Subject: x\r\n\r\nMessage-ID: <in the body>\r\n"
    lose(internet, send(internet, host, message=message))
    leave(internet, send(internet, host, message=message))
    assert counts(host) == (2, 0)


def test_a_message_that_another_server_sent_on_is_named_by_the_trace_of_that(internet: Internet, host: Host) -> None:
    trace = b"Received: from a.example by yy.example with ESMTP id 7; Mon, 01 Jan 2024 00:00:00 +0000\r\n"
    for message in (b"Subject: x\r\n\r\nhello\r\n", b"\r\nhello\r\n"):
        for _ in range(3):
            lose(internet, send(internet, host, message=trace + message))
    lose(internet, send(internet, host, message=trace.replace(b"id 7", b"id 8") + b"\r\nhello\r\n"))
    assert counts(host) == (3, 0)


def test_recipients_that_have_not_got_it_get_it(internet: Internet, host: Host) -> None:
    lose(internet, send(internet, host, b"a"))
    lose(internet, send(internet, host, b"a", b"b"))
    assert counts(host) == (1, 1)
    for names in ([b"a"], [b"b"], [b"b", b"a"]):
        lose(internet, send(internet, host, *names))
    assert counts(host) == (1, 1)


def test_what_was_refused_is_taken_when_it_comes_again(internet: Internet, host: Host) -> None:
    caller = begin(internet, host)
    host.disk.full = True
    caller.ask(MESSAGE + b".\r\n", b"452")
    lose(internet, caller)
    host.disk.full = False
    internet.run(10)
    lose(internet, send(internet, host))
    assert counts(host) == (1, 0)


def test_it_is_remembered_over_a_restart_and_forgotten_in_time(internet: Internet, host: Host) -> None:
    lose(internet, send(internet, host))
    host.restart()
    lose(internet, send(internet, host))
    assert counts(host) == (1, 0)
    internet.run(doubles.REMEMBERED_SECONDS + HOUR)
    host.restart()
    leave(internet, send(internet, host))
    assert counts(host) == (2, 0)


@pytest.mark.parametrize("error", [0, -3 * 86400, 3 * 86400])
@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
def test_after_a_crash_the_last_messages_are_in_doubt(
    internet: Internet, host: Host, message: bytes, error: float
) -> None:
    """Whatever its clock did before."""
    leave(internet, send(internet, host, b"b", message=b"Message-ID: <0@yy.example>\r\n\r\n"))
    host.clock_error = error
    internet.run(5)
    caller = begin(internet, host, b"s@yy.example", b"a")
    # Right after the commit; the head of a large one, which is held for the checks, is written last.
    host.disk.kill_at(host.disk.steps + (2 if message is MESSAGE else 6), lambda what: host.kill())
    caller.transport.write(message + b".\r\n")  # type: ignore[union-attr]
    internet.run(1)
    assert not host.is_running
    host.boot()
    internet.run(10)
    assert counts(host) == (1, 1)
    leave(internet, send(internet, host, message=message))
    assert counts(host) == (1, 1)
    leave(internet, send(internet, host, b"b", message=message))
    assert counts(host) == (1, 2)


def test_a_program_knows_what_it_has_been_answered(internet: Internet, host: Host) -> None:
    for _ in range(2):
        host.submit("b@xx.example", ["a@xx.example"], MESSAGE)
    assert counts(host) == (2, 0)


def test_after_a_good_end_nothing_is(internet: Internet, host: Host) -> None:
    leave(internet, send(internet, host))
    host.restart()
    leave(internet, send(internet, host))
    assert counts(host) == (2, 0)


def test_a_message_that_was_to_go_on_is_queued_once(internet: Internet, host: Host) -> None:
    config = {"database": {"type": "inline"}, "aliases": {"far@zz.example": ["x@nowhere.example"]}}
    zz = internet.hub("zz.example", ["a"], config)
    internet.resolver.failing.add("nowhere.example")
    for _ in range(2):
        caller = internet.call(zz, "smtp")
        caller.expect(b"220")
        caller.ask(b"EHLO client.example\r\n", b"250 ")
        caller.ask(b"MAIL FROM:<s@yy.example>\r\n", b"250")
        caller.ask(b"RCPT TO:<far@zz.example>\r\n", b"250")
        caller.ask(b"DATA\r\n", b"354")
        caller.ask(MESSAGE + b".\r\n", b"250")
        lose(internet, caller)
    assert len(zz.queued()) == 1


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch, internet: Internet, host: Host) -> None:
    monkeypatch.setattr(doubles, "REMEMBERED", 3)
    for number in range(6):
        lose(internet, send(internet, host, message=MESSAGE + b"%d\r\n" % number))
    assert len(host.hub.doubles._known) == 3
    lose(internet, send(internet, host, message=MESSAGE + b"5\r\n"))
    lose(internet, send(internet, host, message=MESSAGE + b"0\r\n"))
    assert counts(host) == (7, 0)
    assert not host.hub.doubles._known.keys() & {b""}


# --- What comes by other ways, and what is not kept as it came -------------------------------------------------------

TRACE = b"Received: from a.example by yy.example with ESMTP id 7; Mon, 01 Jan 2024 00:00:00 +0000\r\n"
BACKUP = b"Received: from yy.example by backup.example\r\n with ESMTP id 8; Mon, 01 Jan 2024 00:00:00 +0000\r\n"


def test_a_message_with_a_name_may_come_again_by_another_server(internet: Internet, host: Host) -> None:
    for trace in (TRACE, BACKUP + TRACE, b"", BACKUP):
        lose(internet, send(internet, host, message=trace + MESSAGE))
    assert counts(host) == (1, 0)
    leave(internet, send(internet, host, message=BACKUP + b"X-Other: x\r\n" + MESSAGE))
    assert counts(host) == (2, 0)
    host.kill()
    host.boot()
    internet.run(10)
    leave(internet, send(internet, host, message=BACKUP + TRACE + MESSAGE))
    assert counts(host) == (2, 0)


def test_a_server_may_send_it_again_on_a_connection_that_it_had_before(internet: Internet, host: Host) -> None:
    """Others are told apart by when their connections were made; two of them may mean it."""
    older, newer = (internet.call(host, "smtp") for _ in range(2))
    for caller in (older, newer):
        caller.expect(b"220")
        caller.ask(b"EHLO client.example\r\n", b"250 ")
    for message in (TRACE + MESSAGE, TRACE + b"\r\nhello\r\n"):
        for caller in (newer, older):
            envelope(caller)
            caller.ask(message + b".\r\n", b"250")
        newer.ask(b"NOOP\r\n", b"250")
    assert counts(host) == (2, 0)
    for caller in (newer, older):
        envelope(caller)
        caller.ask(MESSAGE.replace(b"<1@", b"<9@") + b".\r\n", b"250")
    assert counts(host) == (4, 0)


def edited(internet: Internet, tmp_path: Path, how: str) -> Host:
    """A server that keeps messages otherwise than they come."""

    class Marking(Screen):
        async def message(self, message: IMessageView) -> Verdict:
            return Verdict(edits=(AddField("X-Seen", "yes"),))

    @implementer(IPolicy)
    class Policy:
        def begin(self, origin: Origin) -> Marking:
            return Marking()

    policy = Component("policy", "marking", lambda options, hub: Policy())
    config: dict[str, Any] = {"database": {"type": "inline"}}
    if how == "screen":
        config["delivery"] = {"policies": ["marking"]}
    host = internet.hub("xx.example", ["b"], config, [policy])
    host.add_account("a@xx.example", "secret")
    return host


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("how", ["screen", "submission", "return-path"])
def test_after_a_crash_what_is_kept_otherwise_than_it_came_is_in_doubt_too(
    internet: Internet, tmp_path: Path, how: str, message: bytes, step: int
) -> None:
    """Where it was committed, and not where it was not."""
    host = edited(internet, tmp_path, how)
    if how == "return-path":
        message = b"Return-Path: <old@yy.example>\r\n" + message
    service: Service = "submission" if how == "submission" else "smtp"
    login = ("a@xx.example", "secret") if how == "submission" else ("", "")
    client = host.client(service, *login)
    note, word = host.disk.note, ("commit", "after")[step]

    def killed_at_its_commit(what: str) -> None:
        if host.is_running and what.split()[2] == word:
            host.kill()
            raise Killed
        note(what)

    host.disk.note = killed_at_its_commit
    sending = client.send("a@xx.example", ["b@xx.example"], message)
    internet.run(30)
    assert (host.is_running, len(sending.taken)) == (False, 0)
    host.disk.note = note
    host.boot()
    internet.run(10)
    assert len(host.inbox("b@xx.example")) == step
    internet.run(HOUR)
    assert (len(sending.taken), len(host.inbox("b@xx.example"))) == (1, 1)


@pytest.mark.parametrize("to", ["far@xx.example", "list@xx.example"])
def test_after_a_crash_what_has_gone_on_is_in_doubt_too(internet: Internet, to: str) -> None:
    """Although nothing of it is left."""
    lists = {"list@xx.example": {"members": ["b@yy.example"], "post": "anyone"}}
    config = {"database": {"type": "inline"}, "aliases": {"far@xx.example": ["b@yy.example"]}, "list": lists}
    host, yy = internet.hub("xx.example", ["a"], config), internet.hub("yy.example", ["b"])
    name = to.partition("@")[0].encode()
    silent = send(internet, host, name)
    internet.run(5)
    assert len(yy.inbox("b@yy.example")) == 1
    assert not host.queued()
    host.kill()
    host.boot()
    internet.run(10)
    assert silent.lost
    leave(internet, send(internet, host, name))
    internet.run(60)
    assert len(yy.inbox("b@yy.example")) == 1


def test_whoever_said_goodbye_then_may_send_again_after_a_restart(internet: Internet) -> None:
    config = {"database": {"type": "inline"}, "aliases": {"far@xx.example": ["b@yy.example"]}}
    host, yy = internet.hub("xx.example", ["a"], config), internet.hub("yy.example", ["b"])
    caller = send(internet, host, b"far")
    internet.run(5)
    leave(internet, caller)
    host.restart()
    leave(internet, send(internet, host, b"far"))
    internet.run(60)
    assert len(yy.inbox("b@yy.example")) == 2
