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
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import MailError
from mailhub.interfaces import MailExchanger
from mailhub.store.sqlite.verify import verify
from mailhub.testing.faults import DAY, HOUR, Fault, FaultPlan, smaller
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.life import Killed
from mailhub.testing.plots import PASSWORD, Letter, Story, box_of
from mailhub.testing.promises import Book, broken_promises

_AGAIN_SECONDS = 60.0  # after which a sender tries again whom the own hub does not serve


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
        _furnish(internet, story)
        story.plan.apply(internet, story.config)
        book = Book(story)
        for letter in story.letters:
            internet.clock.callLater(letter.at, _send, internet, story, letter, book)
        internet.run(max(story.plan.ends, DAY / 2) + DAY / 2)
        for host in internet.hubs:
            host.disk.spare()
        internet.run(HOUR)  # in which those that ended just now come back
        over = internet.run_until(lambda: _is_over(internet, book), days * DAY, step=DAY / 4)
        book.untold = faults.untold
        broken = [*broken_promises(internet, book), *faults.found]
        broken += [] if over else [f"not all is delivered or returned after {days} days"]
        internet.close()
        broken += _left(internet)
        broken += [f"{host.domain}: {line}" for host in internet.hubs for line in verify(host.data, deep=True)]
    finally:
        globalLogPublisher.removeObserver(faults)
    events = [f"{at:.3f} {line}" for at, line in internet.network.events]
    events += [f"asked {kind} {name}" for kind, name in internet.resolver.asked]
    events += [f"{user} has {sha256(octets).hexdigest()}" for user, octets in book.contents]
    return Ending(story, tuple(broken), sha256("\n".join(events).encode()).hexdigest(), tuple(events))


def _furnish(internet: Internet, story: Story) -> None:
    """The hubs, and what DNS has of them."""
    for domain in story.hubs:
        host = internet.hub(domain, config=story.config(domain))
        for user, password, quota in story.users(domain):
            host.add_account(user, password, quota)
        internet.resolver.exchangers[box_of(domain)] = [MailExchanger(10, host.hostname)]
    for domain in story.hubs:
        backup = MailExchanger(20, f"mx.{story.after(domain)}")
        internet.resolver.exchangers[domain].append(backup)
    if any(letter.requiretls for letter in story.letters):
        internet.resolver.secure.add("example")


def _is_over(internet: Internet, book: Book) -> bool:
    return not any(host.queued() for host in internet.hubs) and not any(each.left for each in book.sendings.values())


def _send(internet: Internet, story: Story, letter: Letter, book: Book) -> None:
    """Hand a letter in, again and again until there is an answer."""
    home, to = (address.partition("@")[2] for address in (letter.sender, letter.recipients[0][0]))
    domain = to if letter.by == "smtp" else home
    host = next(host for host in internet.hubs if host.domain == domain)
    if letter.by:
        login = (letter.sender, PASSWORD) if letter.by.startswith("submission") else ("", "")
        client = host.client(letter.by, *login, source=f"10.9.9.{letter.number + 1}")
        sending = client.send(letter.sender, letter.named(), letter.octets, letter.mail())
        sending.forgets = letter.forgetful
        book.sendings[letter] = sending
    else:
        _hand_in(internet, host, letter, book)


def _hand_in(internet: Internet, host: Host, letter: Letter, book: Book) -> None:
    """As a program of the hub itself does. A server that ends before it has answered may have taken the letter or not,
    and its sender does not try again."""

    def again() -> None:
        internet.clock.callLater(_AGAIN_SECONDS, _hand_in, internet, host, letter, book)

    def taken(_: object) -> None:
        book.letters.append(letter)

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
