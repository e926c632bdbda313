"""What a client is told is true when it is sent: with a slow reader or a slow store no change gets lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.flags import DELETED, FLAGGED, RECENT, SEEN, Flags
from mailhub.store.memory.store import MemoryMailbox
from mailhub.store.octets import OctetsReader
from tests.protocols.imap_rig import Client, Server, result

LARGE = b"Subject: large\r\n\r\n" + b"y" * 200_000
SMALL = b"Subject: small\r\nX-Odd: yes\r\n\r\n" + b"x" * 1000
FETCHED = re.compile(rb"^\* (\d+) FETCH \((?:UID \d+ )?(?:FLAGS \(([^)]*)\))?", re.MULTILINE)


def flags_told(octets: bytes, into: dict[int, Flags]) -> None:
    """Note what untagged FETCH responses tell; nothing here is expunged, and no text looks like a response."""
    for match in FETCHED.finditer(octets):
        if match[2] is not None:
            into[int(match[1])] = frozenset(match[2].decode().split()) - {RECENT}


def everything(client: Client) -> bytes:
    """All that a slow reader gets in the end."""
    octets = client.taken()
    while more := client.drained():
        octets += more
    return octets


@pytest.mark.parametrize("items", [b"(FLAGS BODY.PEEK[])", b"BODY[]", b"(FLAGS BODY[] ENVELOPE)"])
def test_flags_changed_while_a_slow_client_reads_are_told(items: bytes) -> None:
    server = Server(messages=(LARGE,) * 40)
    reader, other = server.login("INBOX"), server.login("INBOX")
    reader.peer.slow = True
    octets = reader.send(b"a FETCH 1:* " + items + b"\r\n")
    assert b"a OK" not in octets
    other.send(b"b STORE 40 +FLAGS (\\Flagged)\r\nc STORE 1 +FLAGS (\\Answered)\r\n")
    octets += everything(reader)
    told: dict[int, Flags] = {}
    flags_told(octets + reader.send(b"d NOOP\r\n"), told)
    truth = [entry.flags for entry in result(server.mailbox().entries())]
    assert FLAGGED in truth[39]
    assert told[40] == truth[39]
    assert told[1] == truth[0]


HOOKS = ("digests", "bodies", "open", "read")


def interfere(monkeypatch: pytest.MonkeyPatch, hook: str, act: Callable[[], object]) -> None:
    """Have something else happen once, between the moment at which the store is asked and its answer."""
    owner: Any = OctetsReader if hook == "read" else MemoryMailbox
    real = getattr(owner, hook)
    left = [act]

    async def hooked(*args: Any) -> Any:
        answer = await real(*args)
        if left:
            left.pop()()
        return answer

    monkeypatch.setattr(owner, hook, hooked)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("items", ["(FLAGS BODY.PEEK[])", "BODY[]", "(FLAGS ENVELOPE BODY[HEADER.FIELDS (X-Odd)])"])
def test_flags_changed_while_the_store_answers_are_told(hook: str, items: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(messages=(SMALL, SMALL, LARGE))
    reader, other = server.login("INBOX"), server.login("INBOX")
    told: dict[int, Flags] = {}
    flags_told(reader.send(b"s FETCH 1:* (FLAGS)\r\n"), told)
    interfere(monkeypatch, hook, lambda: other.send(b"b STORE 1:* +FLAGS.SILENT (\\Flagged new)\r\n"))
    octets = reader.send(f"a FETCH 1:* {items}\r\n".encode())
    other.send(b"c STORE 1:* +FLAGS.SILENT (\\Flagged new)\r\n")
    flags_told(octets + reader.send(b"d NOOP\r\n"), told)
    assert list(told.values()) == [entry.flags for entry in result(server.mailbox().entries())]
    if first := re.search(rb"FETCH \(FLAGS \([^)]* new\)", octets):
        assert octets.index(b"* FLAGS (") < first.start(), "a keyword is told of before a message has it"


def test_messages_changed_while_they_are_searched_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(messages=(SMALL, SMALL, SMALL))
    client, other = server.login("INBOX"), server.login("INBOX")
    interfere(
        monkeypatch,
        "read",
        lambda: other.send(b"b STORE 1:2 +FLAGS.SILENT (\\Flagged)\r\nc STORE 3 -FLAGS.SILENT (\\Seen)\r\n"),
    )
    other.send(b"b STORE 2:3 +FLAGS.SILENT (\\Seen)\r\n")
    assert client.send(b"n NOOP\r\n")
    assert client.send(b"a SEARCH UNFLAGGED TEXT Odd\r\n").startswith(b"* SEARCH 3\r\n")


COMMANDS = (
    "FETCH {0}:{1} (FLAGS BODY.PEEK[])",
    "FETCH {0}:{1} BODY[]",
    "FETCH {0}:{1} (FLAGS)",
    "FETCH {0}:{1} (UID FLAGS BODY[HEADER.FIELDS (X-Odd)])",
    "UID FETCH {0}:{1} (FLAGS ENVELOPE)",
    "STORE {0}:{1} {2}FLAGS ({3})",
    "NOOP",
    "SEARCH SEEN",
)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(st.none(), st.sampled_from(COMMANDS)),
        st.integers(1, 6),
        st.integers(1, 6),
        st.sampled_from("+-"),
        st.sampled_from((SEEN, DELETED, FLAGGED, "Work")),
    ),
    min_size=4,
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(STEPS, st.integers(0, 2**32))
def test_clients_with_paused_links_know_all_flags_in_the_end(
    steps: list[tuple[int, str | None, int, int, str, str]], seed: int
) -> None:
    random = Random(seed)
    server = Server(messages=tuple(random.choice((SMALL, LARGE)) for _ in range(6)))
    clients = [server.login("INBOX"), server.login("INBOX")]
    heard = [client.send(b"s FETCH 1:* FLAGS\r\n") for client in clients]
    for client in clients:
        client.peer.slow = True
    for who, command, low, high, sign, flag in steps:
        client = clients[who]
        if command is None:
            heard[who] += client.drained()
        else:
            low, high = sorted((low, high))
            heard[who] += client.send(f"x {command.format(low, high, sign, flag)}\r\n".encode())
    for who, client in enumerate(clients):
        heard[who] += everything(client)
    truth = {number: entry.flags for number, entry in enumerate(result(server.mailbox().entries()), 1)}
    for who, client in enumerate(clients):
        heard[who] += client.send(b"n NOOP\r\n") + everything(client)
        told: dict[int, Flags] = {}
        flags_told(heard[who], told)
        assert told == truth
