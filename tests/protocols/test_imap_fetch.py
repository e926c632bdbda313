"""How FETCH gets at octets: small messages some at a time, large ones alone, whatever the store prefers to give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mailhub.errors import MailError, MessageDamaged, MessageGone
from mailhub.protocols.imap import fetch, messages
from mailhub.store.memory.store import MemoryMailbox
from tests.protocols.imap_rig import Server

SMALL = b"Subject: small\r\nX-Odd: yes\r\n\r\n" + b"x" * 10_000
LARGE = b"Subject: large\r\n\r\n" + b"y" * 140_000
BODY = b"* %d FETCH (BODY[] {%d}\r\n%b)\r\n"


class Calls:
    """What FETCH asks the store for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.together: list[list[int]] = []
        self.alone: list[int] = []
        real_bodies, real_open = MemoryMailbox.bodies, MemoryMailbox.open

        async def bodies(mailbox: MemoryMailbox, uids: Sequence[int]) -> Mapping[int, bytes]:
            self.together.append(list(uids))
            return self.give(await real_bodies(mailbox, uids))

        async def open_(mailbox: MemoryMailbox, uid: int) -> Any:
            self.alone.append(uid)
            return await real_open(mailbox, uid)

        monkeypatch.setattr(MemoryMailbox, "bodies", bodies)
        monkeypatch.setattr(MemoryMailbox, "open", open_)

    def give(self, bodies: Mapping[int, bytes]) -> Mapping[int, bytes]:
        return bodies


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_small_messages_are_read_together_within_bounds(calls: Calls) -> None:
    server = Server(messages=(SMALL,) * 60 + (LARGE, SMALL, SMALL))
    answer = server.login("INBOX").send(b"a FETCH 1:* BODY.PEEK[]\r\n")
    octets = [SMALL] * 60 + [LARGE, SMALL, SMALL]
    assert answer == b"".join(BODY % (n, len(m), m) for n, m in enumerate(octets, 1)) + b"a OK Completed\r\n"
    assert calls.alone == [61]
    assert [uid for uids in calls.together for uid in uids] == [*range(1, 61), 62, 63]
    assert max(map(len, calls.together)) * len(SMALL) <= fetch.TOGETHER
    assert len(calls.together) < 5


@pytest.mark.parametrize("items", [b"BODY[]", b"(UID FLAGS BODY[HEADER])", b"(BODY.PEEK[1] BODY.PEEK[TEXT]<5.9>)"])
@pytest.mark.parametrize(
    "give",
    [
        lambda bodies: {},
        lambda bodies: {uid: octets for uid, octets in bodies.items() if uid % 2},
        lambda bodies: {uid: octets[:-1] for uid, octets in bodies.items()},  # not to be believed
        lambda bodies: {**bodies, 99: b"nobody asked"},
    ],
)
def test_the_answer_is_the_same_whatever_the_store_gives_together(items: bytes, give: Any, calls: Calls) -> None:
    answers = []
    for calls.give in (lambda bodies: bodies, give):  # type: ignore[method-assign]
        server = Server(messages=(SMALL, SMALL + b"z", SMALL))
        answers.append(server.login("INBOX").send(b"a FETCH 1:* " + items + b"\r\n"))
    assert answers[0] == answers[1]
    assert answers[0].endswith(b"a OK Completed\r\n")


def test_many_sections_of_one_message_are_not_all_held_at_once(calls: Calls) -> None:
    client = Server(messages=(SMALL,)).login("INBOX")
    client.peer.slow = True
    items = b" ".join(b"BODY.PEEK[]<%d.10000>" % start for start in range(100))
    received = client.send(b"a FETCH 1 (" + items + b")\r\n")
    while portion := client.drained():
        assert len(portion) < 200_000
        received += portion
    assert received.count(b"} ") + received.count(b"}\r\n") >= 100
    assert received.endswith(b"a OK Completed\r\n")
    assert (calls.together, calls.alone) == ([], [1])


def test_a_message_that_goes_between_and_is_not_kept_is_left_out_and_said(calls: Calls) -> None:
    server = Server(messages=(SMALL,) * 3)
    client = server.login("INBOX")
    client.session._context.selected._hold.end()  # as when the store has no room for more

    def give(bodies: Mapping[int, bytes]) -> Mapping[int, bytes]:
        server.login("INBOX").send(b"x UID STORE 2 +FLAGS (\\Deleted)\r\ny EXPUNGE\r\n")
        return {uid: octets for uid, octets in bodies.items() if uid != 2}

    calls.give = give  # type: ignore[method-assign]
    answer = client.send(b"a FETCH 1:3 BODY.PEEK[]\r\n")
    assert answer.startswith(BODY % (1, len(SMALL), SMALL) + BODY % (3, len(SMALL), SMALL))
    assert answer.endswith(b"\r\na NO [EXPUNGEISSUED] Some of the messages are gone\r\n")


@pytest.mark.parametrize("trouble", [MessageGone(), MessageDamaged(), None])
def test_a_digest_that_is_gone_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch, trouble: MailError | None) -> None:
    """The store may also give more than was asked for. What it does not give is gone, or cannot be read."""
    real, real_open = MemoryMailbox.digests, MemoryMailbox.open

    async def open_(mailbox: MemoryMailbox, uid: int) -> Any:
        if trouble is not None:
            raise trouble
        return await real_open(mailbox, uid)

    async def digests(mailbox: MemoryMailbox, uids: Sequence[int], wanted: Any) -> Any:
        found: Any = await real(mailbox, [1, 2, 3, 4], {*wanted, "preview", "fields"})
        del found["envelope"][2]
        return found

    monkeypatch.setattr(MemoryMailbox, "digests", digests)
    monkeypatch.setattr(MemoryMailbox, "open", open_)
    client = Server(messages=(SMALL,) * 4).login("INBOX")
    answer = client.send(b"a FETCH 1:3 (UID ENVELOPE BODYSTRUCTURE)\r\n")
    assert [line[:9] for line in answer.split(b"\r\n")[:-1]] == [
        b"* 1 FETCH",
        b"* 3 FETCH",
        b"a NO [EXP" if isinstance(trouble, MessageGone) else b"a NO [SER",
    ]


def test_a_silent_change_of_many_messages_gives_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another session changes between two slices is told, and what the client changed itself is not."""
    monkeypatch.setattr(messages, "ASSUMED", 2)
    server = Server(messages=(b"\r\n",) * 5)
    client, other = server.login("INBOX"), server.login("INBOX")
    client.connection.dataReceived(b"a STORE 1:* +FLAGS.SILENT (\\Flagged)\r\n")
    assert client.peer.taken() == b""
    other.connection.dataReceived(b"b UID STORE 5 +FLAGS.SILENT (\\Answered)\r\n")
    answer = client.taken()
    assert answer == b"* 5 FETCH (UID 5 FLAGS (\\Recent \\Answered \\Flagged))\r\na OK Completed\r\n"
