"""Days of mail between some hubs where much goes wrong, made of a seed; and whether all that was promised was kept.

    story = Story.of(17)
    ending = play(story, folder)
    assert not ending.broken, ending.told()

Whatever goes wrong, each message that was taken is delivered once to each recipient, or its sender is told, or it is
still queued and will be tried again; what the sender asked for (NOTIFY, RET, ENVID, ORCPT) is done on whatever way; and
what happens is the same to the octet for the same story.

`python -m mailhub.testing.stories --seeds 5000` (`make soak SEEDS=5000`) plays many, one after the other, and has a
line for each that went wrong, with how to repeat it. With `--seed N` one is played, made as simple as it can be, and
shown with what happened.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Literal

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import MailError
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Notify, OriginalRecipient, Recipient
from mailhub.testing.faults import DAY, HOUR, Fault, FaultPlan, smaller
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.life import Killed
from mailhub.testing.promises import Book, broken_promises

_AGAIN_SECONDS = 60.0  # after which a sender tries again whom the own hub does not serve
_NOTIFY: tuple[frozenset[Notify], ...] = (
    frozenset(),
    frozenset({"SUCCESS", "FAILURE"}),
    frozenset({"SUCCESS"}),
    frozenset({"FAILURE", "DELAY"}),
    frozenset({"NEVER"}),
)


@attrs.frozen
class Letter:
    """A message that somebody sends, `at` so many seconds after the beginning."""

    number: int
    at: float
    sender: str
    recipients: tuple[tuple[str, frozenset[Notify]], ...]
    ret: Literal["", "FULL", "HDRS"] = ""
    envid: str = ""
    lines: int = 1

    @property
    def token(self) -> str:
        """Its subject."""
        return f"letter-{self.number}"

    @property
    def octets(self) -> bytes:
        """As it is handed in."""
        domain = self.sender.partition("@")[2]
        header = f"From: {self.sender}\r\nSubject: {self.token}\r\nMessage-ID: <{self.token}@{domain}>\r\n\r\n"
        return header.encode() + b"How are you, and what is the weather like today?\r\n" * self.lines

    def mail(self) -> Mail:
        """What MAIL says of it."""
        return Mail(Address.parse(self.sender), "8BITMIME", size=len(self.octets), ret=self.ret, envid=self.envid)

    def named(self) -> list[Recipient]:
        """What RCPT says, each with an ORCPT that tells whom the sender had in mind."""
        return [
            Recipient(Address.parse(address), notify, OriginalRecipient("rfc822", address))
            for address, notify in self.recipients
        ]


@attrs.frozen
class Story:
    """Some hubs, what is sent, and what goes wrong. The hub of `plain`, if any, offers no DSN to others; those of
    `lined` take messages by DATA alone."""

    seed: int
    hubs: tuple[str, ...]
    letters: tuple[Letter, ...]
    plan: FaultPlan
    plain: str = ""
    lined: frozenset[str] = frozenset()

    @classmethod
    def of(cls, seed: int) -> Story:
        """By a seed."""
        random = Random(f"{seed} story")
        hubs = tuple(f"h{number}.example" for number in range(random.choice((2, 3, 3))))
        plain = random.choice((*hubs, "", "", ""))
        lined = frozenset(hub for hub in hubs if random.random() < 0.5)
        letters = tuple(_letter(random, number, hubs) for number in range(random.randint(3, 6)))
        plan = FaultPlan.of(seed, hubs, random.randint(2, 9), DAY / 2)
        return cls(seed, hubs, letters, plan, plain, lined)

    def config(self, domain: str, number: int = 0) -> Mapping[str, Any]:
        """What the hub of a domain has in its file. With another `number` mail goes by other ways or at other times;
        who gets it is the same."""
        later = self.hubs[(self.hubs.index(domain) + 1) % len(self.hubs)]
        made: dict[str, Any] = {
            "aliases": {f"all@{domain}": [f"b@{domain}", f"c@{later}"], f"away@{domain}": [f"d@{later}"]},
            "database": {"type": "inline"},
        }
        off = [("DSN", domain == self.plain), ("CHUNKING", domain in self.lined)]
        made["smtp"] = {"extensions_off": [keyword for keyword, is_off in off if is_off]}
        match number:
            case 1:
                made["route"] = {later: {"host": f"mx.{later}"}}
                made["queue"] = {"retry_seconds": [600, 7200]}
            case 2:
                made["smtp"]["extensions_off"].append("PIPELINING")
                made["queue"] = {"retry_first_seconds": 30}
        return made

    def leaves(self, address: str) -> tuple[str, ...]:
        """The mailboxes that mail for an address ends in."""
        local, _, domain = address.partition("@")
        later = self.hubs[(self.hubs.index(domain) + 1) % len(self.hubs)]
        return {"all": (f"b@{domain}", f"c@{later}"), "away": (f"d@{later}",), "nobody": ()}.get(local, (address,))

    def way(self, sender: str, address: str) -> frozenset[str]:
        """The hubs that a message passes."""
        domain = address.partition("@")[2]
        return frozenset({sender.partition("@")[2], domain, *(leaf.partition("@")[2] for leaf in self.leaves(address))})

    def __str__(self) -> str:
        letters = "".join(f"\n    {letter}" for letter in self.letters)
        return f"seed {self.seed}, hubs {', '.join(self.hubs)}, without DSN: {self.plain or '-'}{letters}\n{self.plan}"


def _letter(random: Random, number: int, hubs: Sequence[str]) -> Letter:
    home = random.choice(hubs)
    wanted: dict[str, frozenset[Notify]] = {}
    for domain in random.sample(hubs, random.randint(1, len(hubs))):
        # Of those whose mailboxes no other recipient of the same message leads to.
        name = random.choice(("a", "a", "all", "away", "nobody"))
        if name == "nobody" and domain == home:
            continue  # one's own hub says so at once
        wanted[f"{name}@{domain}"] = random.choice(_NOTIFY)
    recipients = tuple(wanted.items()) or ((f"a@{hubs[0]}", frozenset[Notify]()),)
    return Letter(
        number,
        round(random.uniform(0, DAY / 2)),
        f"a@{home}",
        recipients,
        random.choice(("", "FULL", "HDRS")),
        random.choice(("", f"id+{number}")),
        random.choice((1, 20, 2000)),
    )


@attrs.frozen
class Ending:
    """What came of a story: the promises that were broken, each in a line, and a digest of all that happened."""

    story: Story
    broken: tuple[str, ...]
    trace: str
    events: tuple[str, ...] = attrs.field(repr=False)

    def told(self, events: int = 0) -> str:
        """For a person: what is broken, the story, and the last of so many events."""
        return "\n".join([*self.broken, str(self.story), *(self.events[-events:] if events else ())])


@implementer(ILogObserver)
class _Faults:
    """What the log tells of mistakes in our own code, and of notices that nobody can be told of."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.untold = 0

    def __call__(self, event: LogEvent) -> None:
        self.untold += str(event.get("log_format", "")).startswith("no DSN: id={id} reason='null")
        failure = event.get("log_failure") or event.get("failure")
        if isinstance(failure, Failure) and not isinstance(failure.value, Killed):
            self.found.append(f"a mistake in the code: {failure.getErrorMessage()}\n{failure.getTraceback()}")


def play(story: Story, folder: Path, days: float = 8.0) -> Ending:
    """Let it all happen, in data folders below `folder`."""
    faults = _Faults()
    globalLogPublisher.addObserver(faults)
    internet = Internet(story.seed, folder=folder, poll_seconds=DAY / 4)
    try:
        for domain in story.hubs:
            internet.hub(domain, "abcd", story.config(domain))
        story.plan.apply(internet, story.config)
        book = Book(story.leaves)
        for letter in story.letters:
            host = next(host for host in internet.hubs if letter.sender.endswith(f"@{host.domain}"))
            internet.clock.callLater(letter.at, _send, internet, host, letter, book)
        internet.run(max(story.plan.ends, DAY / 2) + DAY / 2)
        for host in internet.hubs:
            host.disk.spare()
        internet.run(HOUR)  # in which those that ended just now come back
        internet.run_until(lambda: not any(host.queued() for host in internet.hubs), days * DAY, step=DAY / 4)
        book.untold = faults.untold
        broken = [*broken_promises(internet, story, book), *faults.found]
        internet.close()
        broken += _left(internet)
    finally:
        globalLogPublisher.removeObserver(faults)
    events = [f"{at:.3f} {line}" for at, line in internet.network.events]
    events += [f"asked {kind} {name}" for kind, name in internet.resolver.asked]
    events += [f"{user} has {sha256(octets).hexdigest()}" for user, octets in book.contents]
    return Ending(story, tuple(broken), sha256("\n".join(events).encode()).hexdigest(), tuple(events))


def _send(internet: Internet, host: Host, letter: Letter, book: Book) -> None:
    """Hand a letter in, again and again until there is an answer. A server that ends before it has answered may have
    taken the letter or not, and its sender does not try again."""

    def again() -> None:
        internet.clock.callLater(_AGAIN_SECONDS, _send, internet, host, letter, book)

    def taken(_: object) -> None:
        book.taken(letter)

    def refused(failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, MailError):
            book.mistakes.append(f"{letter.token}: {failure.getTraceback()}")
        elif error.temporary:
            again()

    if not host.is_serving:
        again()
        return
    handed = Deferred.fromCoroutine(host.hand_in(letter.mail(), letter.named(), letter.octets))
    handed.addCallbacks(taken, refused)


def _left(internet: Internet) -> list[str]:
    """What has not come to an end although all is over."""
    internet.run(120)
    left = [f"still to be called: {call}" for call in internet.clock.getDelayedCalls()]
    left += [f"still open: {name}" for name in internet.network.open_connections]
    return left + [f"still under way at {host.domain}" for host in internet.hubs if host.is_busy]


def simplest(ending: Ending, folder: Path) -> Story:
    """A story that goes wrong in the same way as one that did, with as few faults and letters as there may be."""
    story, wrong, count = ending.story, set(map(_kind, ending.broken)), 0

    def goes_wrong(candidate: Story) -> bool:
        nonlocal count
        count += 1
        return not wrong.isdisjoint(map(_kind, play(candidate, folder / f"smaller-{count}").broken))

    def with_faults(faults: Sequence[Fault]) -> Story:
        return attrs.evolve(story, plan=FaultPlan(tuple(faults)))

    story = with_faults(smaller(story.plan.faults, lambda faults: goes_wrong(with_faults(faults))))
    letters = smaller(story.letters, lambda left: goes_wrong(attrs.evolve(story, letters=tuple(left))))
    return attrs.evolve(story, letters=tuple(letters))


def _kind(line: str) -> str:
    """What is broken, whoever it is about."""
    return re.sub(r"letter-\d+|\S*\.example\S*|\d+|NOTIFY=\S*", "", line.partition("\n")[0])


# --- Many of them ----------------------------------------------------------------------------------------------------

_EVENTS = 60  # of one story that are shown
_TOLD_EVERY = 100  # stories


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where any story went wrong."""
    parser = ArgumentParser(prog="python -m mailhub.testing.stories")
    parser.add_argument("--seeds", type=int, default=1000, help="how many stories")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, made as simple as it can be")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        return _one(chosen.seed)
    start, wrong = time.monotonic(), 0
    print(f"seeds {chosen.first} to {chosen.first + chosen.seeds - 1}", flush=True)
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        ending = _played(Story.of(seed))
        if ending.broken:
            wrong += 1
            first = ending.broken[0].partition("\n")[0]
            print(f"seed {seed}: {first} ({len(ending.broken)} in all; make soak SEED={seed})", flush=True)
        if (done := seed - chosen.first + 1) % _TOLD_EVERY == 0:
            print(f"{done} played, {wrong} went wrong", flush=True)
    print(f"{chosen.seeds} stories, {wrong} went wrong, {time.monotonic() - start:.0f} s")
    return int(bool(wrong))


def _played(story: Story) -> Ending:
    with tempfile.TemporaryDirectory(prefix="mailhub-soak-") as folder:
        return play(story, Path(folder))


def _one(seed: int) -> int:
    ending = _played(Story.of(seed))
    if ending.broken:
        with tempfile.TemporaryDirectory(prefix="mailhub-soak-") as folder:
            ending = _played(simplest(ending, Path(folder)))
    print(ending.told(_EVENTS))
    print(f"trace {ending.trace}")
    return int(bool(ending.broken))


if __name__ == "__main__":
    sys.exit(main())
