"""Several sessions on one mailbox, in any order and with a store that takes its time: every client that believes its
untagged responses knows the mailbox in the end, and none hears of an EXPUNGE at a forbidden moment (RFC 3501 7.4.1)."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mailhub.message.flags import DELETED, FLAGGED, NO_FLAGS, RECENT, SEEN, Flags
from tests.protocols.imap_rig import Client, Server, result

LINE = re.compile(
    rb"(?:\* (?P<number>\d+) (?P<word>EXISTS|RECENT|EXPUNGE|FETCH \((?P<items>.*)\))"
    rb"|\* (?P<other>SEARCH|OK|FLAGS)(?: .*)?|\+ .*|(?P<tag>[a-z]\d+) (?P<answer>OK|NO|BAD)(?: .*)?)\r\n"
)
UID = re.compile(rb"UID (\d+)")
FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")


class SlowMailbox:
    """A mailbox whose methods take a moment before and after they take effect."""

    def __init__(self, real: Any, pause: Any) -> None:
        self.real = real
        self.pause = pause

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.real, name)
        if name in ("watch", "hold", "name", "uid_validity", "rights"):
            return method

        async def slow(*args: Any, **named: Any) -> Any:
            await self.pause()
            outcome = await method(*(getattr(arg, "real", arg) for arg in args), **named)
            await self.pause()
            return outcome

        return slow


class SlowAccount:
    def __init__(self, real: Any, pause: Any) -> None:
        self.real = real
        self.pause = pause

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def mailbox(self, name: str) -> SlowMailbox:
        return SlowMailbox(await self.real.mailbox(name), self.pause)


class SlowServer(Server):
    def __init__(self, random: Random) -> None:
        super().__init__()
        login = self.authenticator.login

        def pause() -> Deferred[None]:
            moment: Deferred[None] = Deferred()
            self.clock.callLater(random.choice((0, 0.1, 0.3)), moment.callback, None)
            return moment

        async def slow_login(*args: Any) -> SlowAccount:
            return SlowAccount(await login(*args), pause)

        self.authenticator.login = slow_login  # type: ignore[method-assign,assignment]


class Believer:
    """A client that has one command under way at most and applies whatever it hears."""

    def __init__(self, server: SlowServer) -> None:
        self.server = server
        self.client: Client = server.login()
        self.uids: list[int | None] = []
        self.flags: list[Flags] = []
        self.busy = ""
        self.idle = False
        self.count = 0
        self.silent: tuple[list[int], str, str] | None = None
        self.command("SELECT INBOX")
        self.settle()
        self.learn()

    def command(self, text: str) -> None:
        self.count += 1
        self.busy = text
        self.client.connection.dataReceived(f"c{self.count} {text}\r\n".encode())
        self.hear()

    def end_idle(self) -> None:
        self.idle = False
        self.busy = "IDLE"
        self.client.connection.dataReceived(b"DONE\r\n")
        self.hear()

    def settle(self) -> None:
        """Wait for the answer to the command under way."""
        for _ in range(100):
            self.server.clock.advance(0.1)
            self.hear()
            if not self.busy:
                return
        raise AssertionError(f"no answer to {self.busy}")

    def learn(self) -> None:
        """Ask for what is not known."""
        while None in self.uids:
            first = self.uids.index(None) + 1
            self.command(f"FETCH {first}:{len(self.uids)} (UID FLAGS)")
            self.settle()

    def hear(self) -> None:
        octets, position = self.client.peer.taken(), 0
        while position < len(octets):
            match = LINE.match(octets, position)
            assert match, octets[position:]
            position = match.end()
            self.apply(match)

    def apply(self, match: re.Match[bytes]) -> None:
        if match["tag"]:
            self.answered(match["answer"])
        elif match["number"]:
            self.told(int(match["number"]), match["word"], match["items"] or b"")

    def answered(self, answer: bytes) -> None:
        assert answer != b"BAD", self.busy
        if self.silent and answer == b"OK":
            for number in self.silent[0]:
                flags = self.flags[number - 1]
                changed = {self.silent[2]}
                self.flags[number - 1] = flags | changed if self.silent[1] == "+" else flags - changed
        self.silent = None
        self.busy = ""

    def told(self, number: int, word: bytes, items: bytes) -> None:
        if word == b"EXISTS":
            assert number >= len(self.uids)
            self.uids += [None] * (number - len(self.uids))
            self.flags += [NO_FLAGS] * (number - len(self.flags))
        elif word == b"EXPUNGE":
            assert self.busy or self.idle, "EXPUNGE without a command"
            assert not self.busy.startswith(("FETCH", "STORE", "SEARCH")), self.busy
            del self.uids[number - 1], self.flags[number - 1]
            if self.silent:
                self.silent = (
                    [other - (other > number) for other in self.silent[0] if other != number],
                    *self.silent[1:],
                )
        elif items:
            self.told_items(number, items)

    def told_items(self, number: int, items: bytes) -> None:
        if uid := UID.search(items):
            assert self.uids[number - 1] in (None, int(uid[1]))
            self.uids[number - 1] = int(uid[1])
        flags = FLAGS.search(items)
        assert flags
        self.flags[number - 1] = frozenset(flags[1].decode().split()) - {RECENT}
        if self.silent:
            # An untagged FETCH tells the flags as they are, with the silent change in them.
            self.silent = ([other for other in self.silent[0] if other != number], *self.silent[1:])


def act(believer: Believer, choice: int, random: Random) -> None:
    """One thing that a client may do, by number or by UID."""
    if believer.busy:
        return
    if believer.idle:
        believer.end_idle()
        return
    total = len(believer.uids)
    low, high = sorted((random.randint(1, max(total, 1)), random.randint(1, max(total, 1))))
    known = [uid for uid in believer.uids if uid is not None]
    uid = random.choice(known) if known else 1
    flag, sign = random.choice((SEEN, DELETED, FLAGGED, "Work")), random.choice("+-")
    if choice == 0:
        believer.command("NOOP")
    elif choice == 1:
        believer.idle = True
        believer.client.connection.dataReceived(b"c0 IDLE\r\n")
    elif choice == 2:
        believer.command("EXPUNGE")
    elif choice == 3:
        believer.command(f"UID EXPUNGE {uid}:*")
    elif choice == 4:
        believer.command(f"UID STORE {uid} {sign}FLAGS ({flag})")
    elif choice == 5:
        believer.command(f"UID COPY {uid} INBOX")
    elif choice == 6:
        believer.command(f"UID MOVE {uid} Trash")
    elif choice == 7:
        believer.command("SEARCH UNDELETED")
    elif total and choice == 8:
        believer.command(f"STORE {low}:{high} {sign}FLAGS ({flag})")
    elif total and choice == 9:
        believer.silent = (list(range(low, high + 1)), sign, flag)
        believer.command(f"STORE {low}:{high} {sign}FLAGS.SILENT ({flag})")
    elif total and choice == 10:
        believer.command(f"FETCH {low}:{high} (UID FLAGS)")
    elif total and choice == 11:
        believer.command(f"COPY {low} INBOX")


# -1 is new mail. What shows the most mistakes comes up most.
CHOICES = (-1, -1, *range(12), 4, 8, 8, 9, 9, 9)
ACTIONS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(CHOICES), st.sampled_from((0, 0, 1, 2, 5))), min_size=20, max_size=45
)


@settings(deadline=None, max_examples=120)
@given(ACTIONS, st.integers(0, 2**32))
def test_believers_know_the_mailbox_in_the_end(actions: list[tuple[int, int, int]], seed: int) -> None:
    random = Random(seed)
    server = SlowServer(random)
    believers = [Believer(server) for _ in range(3)]
    for who, choice, ticks in actions:
        if choice < 0:
            server.deliver(b"\r\n")
        else:
            act(believers[who], choice, random)
        for _ in range(ticks):
            server.clock.advance(0.1)
            for believer in believers:
                believer.hear()
    for believer in believers:
        if believer.busy:
            believer.settle()
        if believer.idle:
            believer.end_idle()
            believer.settle()
    truth = {entry.uid: entry.flags for entry in result(server.mailbox().entries())}
    for believer in believers:
        believer.command("NOOP")
        believer.settle()
        believer.learn()
        assert believer.uids == list(truth)
        assert believer.flags == list(truth.values())
