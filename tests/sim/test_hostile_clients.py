"""What clients send to have their octets taken for something else: on every service that takes mail."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

import attrs
import pytest

from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from tests.wire.smtp.test_smuggling import LOOK_ALIKES

SERVICES = ("smtp", "submission", "submissions", "lmtp")
EVIL = b"MAIL FROM:<ann@xx.example>\r\nRCPT TO:<evil@xx.example>\r\nDATA\r\nSubject: smuggled\r\n\r\n.\r\nQUIT\r\n"
ENVELOPE = b"MAIL FROM:<ann@xx.example>\r\nRCPT TO:<ben@xx.example>\r\n"
NOBODY = b"MAIL FROM:<ann@xx.example>\r\nRCPT TO:<nobody@xx.example>\r\n"


@attrs.define
class World:
    internet: Internet
    xx: Host
    service: str

    @property
    def hello(self) -> bytes:
        return b"LHLO c.example\r\n" if self.service == "lmtp" else b"EHLO c.example\r\n"

    def caller(self) -> Caller:
        """Greeted, and logged in where that is usual."""
        caller = self.internet.call(self.xx, self.service)
        caller.ask(self.hello, b"250 HELP")
        if self.service.startswith("submission"):
            if self.service == "submission":
                caller.ask(b"STARTTLS\r\n", b"220 2.0.0")
                caller.start_tls()
                caller.ask(self.hello, b"250 HELP")
            caller.ask(b"AUTH PLAIN " + b64encode(b"\0ann@xx.example\0correct horse") + b"\r\n", b"235 ")
        return caller

    def inboxes(self) -> tuple[list[bytes], list[bytes]]:
        """Of ben, and of whoever is not meant."""
        self.internet.run(10)
        assert list(self.xx.queued()) == []
        return self.xx.inbox("ben@xx.example"), self.xx.inbox("evil@xx.example")


@pytest.fixture(params=SERVICES)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with Internet() as internet:
        xx = internet.hub("xx.example", ["ben", "evil"])
        xx.add_account("ann@xx.example", "correct horse")
        yield World(internet, xx, request.param)


@pytest.mark.parametrize("chunks", [False, True], ids=["data", "bdat"])
def test_nothing_that_looks_like_the_end_of_the_data_is_it(world: World, chunks: bool) -> None:
    caller = world.caller()
    for look_alike in LOOK_ALIKES:
        content = b"Subject: x\r\n\r\na" + look_alike + EVIL.replace(b"\r\n.\r\n", b"\r\n") + b"b\r\n"
        if chunks:
            sent = b"BDAT 5\r\n" + content[:5] + b"BDAT %d LAST\r\n" % (len(content) - 5) + content[5:]
        else:
            sent = b"DATA\r\n" + content + b".\r\n"
        caller.ask(ENVELOPE + sent, b"250 2.0.0")
    kept, evil = world.inboxes()
    assert evil == []
    assert len(kept) == len(LOOK_ALIKES)
    for each in kept:
        assert each.endswith(b"QUIT\r\nb\r\n")
        bare = each.replace(b"\r\n", b"")
        assert not set(b"\r\n\0").intersection(bare)


def test_commands_and_lines_that_are_too_long(world: World) -> None:
    caller = world.caller()
    caller.ask(b"NOOP " + b"x" * 505 + b"\r\n", b"250 ")
    caller.ask(b"NOOP " + b"x" * 506 + b"\r\n", b"500 5.5.2")
    caller.ask(b"NOOP " + b"x" * 70_000 + b"\r\n", b"500 5.5.2")
    line = b"y" * 900 + b" " + b"z" * 900
    caller.ask(ENVELOPE + b"DATA\r\nSubject: x\r\n\r\n" + line + b"\r\n.\r\n", b"250 2.0.0")
    (kept,), _ = world.inboxes()
    wrapped = b"\r\n" + line.replace(b" ", b"\r\n ") + b"\r\n"
    assert kept.endswith(wrapped if world.service.startswith("submission") else b"\r\n" + line + b"\r\n")


def test_what_is_said_before_tls_is_not_said(world: World) -> None:
    if world.service == "submissions":
        pytest.skip("TLS is on from the first octet")
    caller = world.internet.call(world.xx, world.service)
    caller.ask(world.hello, b"250 HELP")
    caller.ask(b"STARTTLS\r\n" + world.hello + EVIL, b"220 2.0.0")
    caller.start_tls()
    before = len(caller.heard)
    world.internet.run(10)
    assert caller.heard[before:] == b"", "nothing is answered that came in clear text"
    caller.ask(ENVELOPE, b"503 5.5.1 Say ")
    assert world.inboxes() == ([], [])


def test_a_chunk_that_is_shorter_than_it_says_is_waited_for_and_gives_no_message(world: World) -> None:
    caller = world.caller()
    caller.ask(ENVELOPE + b"BDAT 5000 LAST\r\nSubject: x\r\n\r\n" + EVIL, b"250 2.1.5")
    caller.say(b"NOOP\r\n")
    world.internet.run(301)
    assert b"421 4.4.2" in caller.heard
    assert world.inboxes() == ([], [])


def test_a_chunk_that_is_longer_than_it_says_leaves_no_commands_that_work(world: World) -> None:
    caller = world.caller()
    # The message is what the size says; what follows is commands, and those of the same client.
    caller.ask(ENVELOPE + b"BDAT 14 LAST\r\nSubject: x\r\n\r\nmore of the body\r\nNOOP\r\n", b"500 5.5.1")
    (kept,), evil = world.inboxes()
    assert kept.endswith(b"Subject: x\r\n\r\n")
    assert evil == []


@pytest.mark.parametrize("size", [b"99999999999", b"9" * 30, b"-1", b"0x10", b""])
def test_a_size_that_is_none(world: World, size: bytes) -> None:
    caller = world.caller()
    endless = size.startswith(b"99")
    caller.ask(ENVELOPE + b"BDAT " + size + b" LAST\r\n", b"552 5.3.4" if endless else b"501 5.5.4")
    if endless:
        caller.wait_for_end()
    assert world.inboxes() == ([], [])


def test_chunks_and_data_in_one_message(world: World) -> None:
    caller = world.caller()
    caller.ask(ENVELOPE + b"BDAT 14\r\nSubject: x\r\n\r\nDATA\r\n", b"503 5.5.1")
    caller.ask(b"BDAT 3 LAST\r\nx\r\n", b"250 2.0.0")
    caller.ask(ENVELOPE + b"DATA\r\nBDAT 3 LAST\r\nx\r\n.\r\n", b"250 2.0.0")
    kept, _ = world.inboxes()
    assert [each.endswith(end) for each, end in zip(kept, (b"\r\nx\r\n", b"BDAT 3 LAST\r\nx\r\n"), strict=True)] == [
        True
    ] * 2


def test_chunks_behind_a_recipient_that_is_refused_are_no_commands(world: World) -> None:
    caller = world.caller()
    chunk = b"BDAT %d\r\n" % len(EVIL) + EVIL + b"BDAT %d LAST\r\n" % len(EVIL) + EVIL
    answers = caller.ask(NOBODY + chunk + b"NOOP\r\n", b"250 2.0.0 OK")
    assert [line[:3] for line in answers.split(b"\r\n")[:-1]] == [b"250", b"550", b"503", b"503", b"250"]
    caller.ask(b"RSET\r\n" + ENVELOPE + b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n", b"250 2.0.0 ")
    kept, evil = world.inboxes()
    assert (len(kept), evil) == (1, [])
