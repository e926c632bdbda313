"""What one destination gets of the queue's mail: how much at a time, when nothing, and whose turn it is. Pure: time is
an argument.

A destination is an agent with its target or, where that is found by MX, a domain (`Route.destination`). What it bears
is found out: upward while all goes well, and down to what works where a connection more is refused.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import attrs

from mailhub.message.envelope import Outcome, State

T = TypeVar("T")

FIRST = 2  # attempts at a time at a destination of which nothing is known
_CROWD_SECONDS = 0.5  # the first wait after a connection too many
_CROWD_LONGEST = 60.0
_PROBE_SECONDS = 10.0  # until one connection more than works is tried again
_PROBE_LONGEST = 300.0
_PAUSE_LONGEST = 300.0  # between two attempts at a destination that cannot be reached
_QUICK_SECONDS = 0.5
_QUICK_WAITING = 50  # messages that are taken from the queue for a quick destination
_KEPT = 10  # each so many-th slot is kept for quick destinations, and one more for the first try of others
_SWEPT = 250  # messages that are taken at a time to be put off
_COUNTED_SECONDS = 1.0  # for which it holds how many wait for a place alone
_NAMED = 1000  # destinations that are served well of which the queue is asked by name


@attrs.define(eq=False)
class Turn(Generic[T]):
    """An item at work. `begun` in seconds of the monotonic clock; `urgent` is what the operator wants tried now.
    `priority`: the higher, the earlier."""

    item: T
    urgent: bool
    priority: int = 0
    begun: float = 0.0
    epoch: int = 0


@attrs.define
class Counters:
    """What has become of attempts since the destination is known."""

    attempts: int = 0
    crowded: int = 0
    unreached: int = 0
    delivered: int = 0
    delayed: int = 0
    failed: int = 0

    def add(self, outcome: Outcome) -> None:
        """The outcome of one recipient."""
        match outcome.state:
            case State.DELIVERED:
                self.delivered += 1
            case State.DELAYED:
                self.delayed += 1
            case State.FAILED:
                self.failed += 1


@attrs.define(eq=False)
class Destination(Generic[T]):
    """`most` items are at work at a time at the utmost, at present `window`.

    `suspect`: all that is known of it is that mail for it was put off before. `more`: the queue had more for it
    than was taken. `why` it cannot be reached, where that is so. `rows` are its rows in memory.
    """

    name: str
    most: int
    pause_seconds: float
    suspect: bool = False
    window: int = attrs.field(init=False)
    more: bool = False
    why: Outcome | None = None
    counters: Counters = attrs.field(factory=Counters)
    failures: int = 0
    rows: int = 0
    _waiting: deque[Turn[T]] = attrs.field(factory=deque)
    _urgent: deque[Turn[T]] = attrs.field(factory=deque)
    _working: list[Turn[T]] = attrs.field(factory=list)
    _works: int = 1  # this many at a time have been served
    _full: bool = False  # whether the window has been
    _streak: int = 0  # served in turn since it was full
    _strikes: int = 0  # refused although no more were at work than had been served
    _epoch: int = 0  # attempts of before say nothing about the window
    _bounded: bool = False  # whether a connection was ever too many
    _held_to: int = 0
    _held_until: float = 0.0
    _paused_until: float = 0.0
    _probe_at: float = 0.0
    _probe_seconds: float = _PROBE_SECONDS
    _served_at: float = -1.0
    _mean: float | None = None  # seconds of an attempt

    def __attrs_post_init__(self) -> None:
        self.window = min(FIRST, self.most)

    # --- What waits ------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Items that wait."""
        return len(self._waiting) + len(self._urgent)

    @property
    def working(self) -> int:
        """Items at work."""
        return len(self._working)

    @property
    def urgent(self) -> bool:
        """Whether the operator waits for something."""
        return bool(self._urgent)

    @property
    def low(self) -> bool:
        """Whether it is time to ask the queue for more: where attempts are short, before there are none left."""
        quick = self._mean is not None and self._mean <= _QUICK_SECONDS
        return self.more and self.waiting < max(self.window, _QUICK_WAITING // 2 if quick else 0)

    def add(self, item: T, urgent: bool = False, priority: int = 0) -> None:
        """Put an item at the end of its line, behind those of its priority."""
        line = self._urgent if urgent else self._waiting
        behind = len(line)
        while behind and line[behind - 1].priority < priority:
            behind -= 1
        line.insert(behind, Turn(item, urgent, priority))

    def put_back(self, item: T, priority: int = 0) -> None:
        """What is left of an item that was at work goes to the front of its priority. It is no longer urgent: it was
        tried."""
        before = 0
        while before < len(self._waiting) and self._waiting[before].priority > priority:
            before += 1
        self._waiting.insert(before, Turn(item, False, priority))

    def give_up(self, *, urgent: bool = False) -> list[T]:
        """Everything that waits, which is forgotten here; what is urgent only if asked for."""
        lines = [self._waiting, self._urgent] if urgent else [self._waiting]
        items = [turn.item for line in lines for turn in line]
        for line in lines:
            line.clear()
        return items

    def quota(self, now: float) -> int:
        """How many messages more may be taken from the queue."""
        if self.is_paused(now):
            return _SWEPT
        wanted = max(_QUICK_WAITING, 10 * self.window) if self.is_quick(now, 0) else 2 * self.window
        return max(0, wanted - self.waiting)

    # --- When the next may begin -----------------------------------------------------------------------------------

    def is_paused(self, now: float) -> bool:
        """Whether it could not be reached a moment ago."""
        return now < self._paused_until

    def paused_seconds(self, now: float) -> float:
        """For how long it is left alone."""
        return max(0.0, self._paused_until - now)

    def wakes_at(self, now: float) -> float | None:
        """When something that waits may begin, where it waits for nothing but time."""
        return self._held_until if self.waiting and now < self._held_until else None

    def ready(self, now: float) -> bool:
        """Whether an item that waits may begin."""
        room = self.working < (self._held_to if now < self._held_until else self.window)
        if self._urgent:
            return room or not self.working
        return bool(self._waiting) and room and not self.is_paused(now)

    def begin(self, now: float) -> Turn[T]:
        """The next item; one of `served`, `crowded`, `unreached` and `dropped` must follow."""
        turn = (self._urgent or self._waiting).popleft()
        turn.begun, turn.epoch = now, self._epoch
        self._working.append(turn)
        self._full = self._full or self.working >= self.window
        self.counters.attempts += 1
        return turn

    # --- What has become of it -------------------------------------------------------------------------------------

    def dropped(self, turn: Turn[T]) -> None:
        """Nothing was learnt."""
        self._working.remove(turn)

    def served(self, turn: Turn[T], now: float) -> bool:
        """The hop has answered about a message. True when it could not be reached before."""
        self._working.remove(turn)
        seconds = now - turn.begun
        self._mean = seconds if self._mean is None else 0.7 * self._mean + 0.3 * seconds
        recovered = self.failures > 0
        self.failures, self._paused_until, self._served_at, self.suspect = 0, 0.0, now, False
        self.why = None
        if self._full:
            self._streak += 1
            if self._streak >= self.window:
                self._works, self._strikes = self.window, 0
                self._widen(now)
        return recovered

    def _widen(self, now: float) -> None:
        self._streak, self._full = 0, False
        if self.window >= self.most or now < self._probe_at:
            return
        self.window = min(self.most, self.window + 1 if self._bounded else self.window * 2)
        self._epoch += 1

    def was_reached(self, turn: Turn[T]) -> bool:
        """Whether others have come there since this one began: then it was not the hop that was away."""
        return self._served_at > turn.begun

    def crowded(self, turn: Turn[T], now: float) -> None:
        """No connection more was to be had. What works is kept; below it the window goes only for a second reason."""
        self._working.remove(turn)
        self.counters.crowded += 1
        others = self.working
        if turn.epoch == self._epoch:
            self._bounded = True
            if self.window > self._works:
                self.window = max(1, self._works)
                self._probe_at = now + self._probe_seconds
                self._probe_seconds = min(_PROBE_LONGEST, 2 * self._probe_seconds)
            else:
                self._strikes += 1
                if self._strikes > 1:
                    self.window = self._works = max(1, min(self.window, others))
            self._epoch += 1
            self._streak, self._full = 0, False
        if others < self.window:
            pause = min(_CROWD_LONGEST, _CROWD_SECONDS * 2 ** min(self._strikes, 10))
            self._held_to, self._held_until = others, now + pause

    def unreached(self, turn: Turn[T], outcome: Outcome, now: float) -> float:
        """The hop is away. Returns for how many seconds it is left alone from now on, 0 when that was known."""
        self._working.remove(turn)
        self.counters.unreached += 1
        if turn.epoch != self._epoch and self.is_paused(now):
            return 0.0
        self.failures += 1
        pause: float = min(
            max(_PAUSE_LONGEST, self.pause_seconds), self.pause_seconds * 2 ** min(self.failures - 1, 20)
        )
        self._paused_until = now + pause
        self.window = self._works = 1
        self._epoch += 1
        self._streak = self._strikes = 0
        self._full = False
        self._bounded = False
        self._held_until = self._probe_at = 0.0
        self._probe_seconds = _PROBE_SECONDS
        self.why = outcome
        return pause

    # --- How it compares -------------------------------------------------------------------------------------------

    def seconds(self, now: float) -> float | None:
        """How long an attempt takes here, as far as can be told: at least as long as those that are at work."""
        if self._working:
            return max(self._mean or 0.0, now - self._working[0].begun)
        return self._mean

    def is_quick(self, now: float, usual: float) -> bool:
        """Whether attempts are known to be short, be it for themselves or compared with what is `usual`. Those without
        a hop (DSNs) are."""
        if not self.name:
            return True
        seconds = self.seconds(now)
        return self._mean is not None and seconds is not None and seconds <= max(_QUICK_SECONDS, usual / 2)

    def is_good(self, now: float) -> bool:
        """Whether it was served, and is not slow."""
        return not self.name or (self._mean is not None and not self.is_slow(now))

    def is_slow(self, now: float) -> bool:
        """Whether it is likely to keep what it gets for long."""
        seconds = self.seconds(now)
        return self.suspect or self.failures > 0 or (seconds is not None and seconds > 10 * _QUICK_SECONDS)


def _for_all(most: int) -> Callable[[str], int]:
    return lambda _name: most


class Destinations(Generic[T]):
    """All destinations that are known, `known` at the utmost beside those at work, and their turns: `total` items are
    at work at a time. A part of them is kept for destinations that give back soon what they get."""

    def __init__(self, total: int, most: int | Callable[[str], int], pause_seconds: float, known: int = 5000) -> None:
        self._total = total
        self._most = most if callable(most) else _for_all(most)
        self._pause_seconds = pause_seconds
        self._known = known
        self._all: OrderedDict[str, Destination[T]] = OrderedDict()
        self._turns: deque[Destination[T]] = deque()
        self._listed: set[str] = set()
        self._at_work: dict[str, Destination[T]] = {}
        self._away: dict[str, Destination[T]] = {}
        self._wanting: dict[str, Destination[T]] = {}
        self._working = 0
        self._wanted = 0  # places, by those that wait for nothing else
        self._wanted_at = -_COUNTED_SECONDS

    def __len__(self) -> int:
        return len(self._all)

    @property
    def working(self) -> int:
        """Items at work."""
        return self._working

    def resize(self, total: int, most: int | Callable[[str], int], pause_seconds: float) -> None:
        """Other bounds from the next turn on; what is at work stays."""
        self._total, self._pause_seconds = total, pause_seconds
        self._most = most if callable(most) else _for_all(most)
        for destination in self._all.values():
            destination.most, destination.pause_seconds = self._most(destination.name), pause_seconds
            destination.window = min(destination.window, destination.most)

    def known(self, name: str) -> Destination[T] | None:
        """The destination of that name, if it is known."""
        return self._all.get(name)

    def at(self, name: str, suspect: bool = False) -> Destination[T]:
        """The destination of that name. `suspect`: if it is new, see there."""
        destination = self._all.get(name)
        if destination is None:
            destination = self._all[name] = Destination(name, self._most(name), self._pause_seconds, suspect)
            self._forget()
        self._all.move_to_end(name)
        return destination

    def _forget(self) -> None:
        """Those of which nothing was heard for longest, but not what waits or is at work."""
        for _ in range(len(self._all) - self._known):
            oldest = next(iter(self._all.values()))
            if oldest.working or oldest.name in self._listed:
                self._all.move_to_end(oldest.name)
            else:
                del self._all[oldest.name]
                self._away.pop(oldest.name, None)
                self._wanting.pop(oldest.name, None)

    def add(self, destination: Destination[T], item: T, urgent: bool = False, priority: int = 0) -> None:
        """Put an item at the end of a line. With a priority above the usual one its destination is next, once."""
        destination.add(item, urgent, priority)
        self._list(destination, first=priority > 0)

    def put_back(self, destination: Destination[T], item: T, priority: int = 0) -> None:
        """See `Destination.put_back`."""
        destination.put_back(item, priority)
        self._list(destination)

    def _list(self, destination: Destination[T], *, first: bool = False) -> None:
        if destination.name in self._listed:
            if not first:
                return
            self._turns.remove(destination)
        self._listed.add(destination.name)
        if first:
            self._turns.appendleft(destination)
        else:
            self._turns.append(destination)

    def claimed(self, counts: Mapping[str, int], quotas: Mapping[str, int], *, complete: bool) -> None:
        """How many messages the queue has given of each destination, when it was asked for so many. `complete`: of all
        that had any. Where there may be more it will be asked again."""
        for name in {*counts, *(self._wanting if complete else ())}:
            destination = self.at(name)
            destination.more = counts.get(name, 0) >= quotas.get(name, FIRST)
            if destination.more:
                self._wanting[name] = destination
            else:
                self._wanting.pop(name, None)

    def slow(self, now: float) -> tuple[int, int]:
        """Items that wait for slow destinations, and rows of these that are in memory."""
        slow = [each for each in ({*self._turns} | {*self._at_work.values()}) if each.is_slow(now)]
        return sum(each.waiting for each in slow), sum(each.rows for each in slow)

    def quotas_of_good(self, now: float) -> dict[str, int]:
        """How much the queue may give of those that are served well, as far as they were heard of lately."""
        good = [each for each in (self.at(""), *reversed(self._all.values())) if each.is_good(now)]
        return {each.name: each.quota(now) for each in good[:_NAMED]}

    def quotas(self, now: float, rows: int | None = None, *, without_slow: bool = False) -> dict[str, int]:
        """How much the queue may give of destinations that have something, or are left alone. Nothing where `rows` of
        one are in memory, nor with `without_slow` of those that are slow."""
        self._away = {name: each for name, each in self._away.items() if each.is_paused(now)}
        active = {each.name: each for each in self._turns} | self._at_work | self._away | self._wanting
        quotas = {name: each.quota(now) for name, each in active.items()}
        quotas.update({name: 0 for name, each in active.items() if rows is not None and each.rows >= rows})
        if without_slow:
            slow = [each.name for each in self._all.values() if each.is_slow(now) and not each.is_paused(now)]
            quotas.update(dict.fromkeys(slow, 0))
        return quotas

    def take(self, now: float) -> tuple[Destination[T], Turn[T]] | None:
        """The next item to begin with, None when there is none or no room. `done` must follow."""
        free = self._total - self._working
        usual = self._usual(now) if free <= 2 * (self._total // _KEPT) else 0.0
        slow_may: list[bool] = []  # once it is known
        for _ in range(len(self._turns) if free > 0 or "" in self._listed else 0):
            destination = self._turns.popleft()
            if not destination.waiting:
                self._listed.discard(destination.name)
                continue
            self._turns.append(destination)
            if destination.ready(now) and self._may_have(free, slow_may, destination, now, usual):
                self._working += 1
                self._at_work[destination.name] = destination
                return destination, destination.begin(now)
        return None

    def _may_have(self, free: int, slow_may: list[bool], destination: Destination[T], now: float, usual: float) -> bool:
        """The last tenth is for destinations that are known to be quick, so that others that are tried for the first
        time cannot have it all; half of it also for the first of those that are served well, and for what the operator
        waits for. The tenth before is for the first try of others. Of the rest, slow ones have half of all places. What
        has no hop needs no place."""
        if not destination.name:
            return True
        kept = self._total // _KEPT
        if free <= 0:
            return False
        if destination.is_quick(now, usual):
            return True
        if free > kept // 2 and (destination.urgent or (not destination.working and destination.is_good(now))):
            return True
        if destination.is_slow(now):
            if not slow_may:
                slow_may.append(self._slow_may_have(now))
            return free > 2 * kept and slow_may[0]
        return free > 2 * kept or (free > kept and not destination.working)

    def yields(self, now: float) -> bool:
        """Whether a place is to be given back, as a destination that is not known to be slow, or for which the operator
        waits, could begin if it had one. True for as many as there are of these."""
        if now - self._wanted_at >= _COUNTED_SECONDS:
            self._wanted_at, self._wanted = now, self._count_wanted(now)
        self._wanted -= 1
        return self._wanted >= 0

    def _count_wanted(self, now: float) -> int:
        free, usual, slow_may = self._total - self._working, self._usual(now), list[bool]()
        waiting = [each for each in self._turns if each.ready(now) and (each.urgent or not each.is_slow(now))]
        return sum(not self._may_have(free, slow_may, each, now, usual) for each in waiting)

    def _slow_may_have(self, now: float) -> bool:
        """Whether slow destinations have less than half of all places."""
        return 2 * sum(each.working for each in self._at_work.values() if each.is_slow(now)) < self._total

    def _usual(self, now: float) -> float:
        """How long an attempt takes that is at work."""
        at_work = [(each.working, each.seconds(now) or 0.0) for each in self._at_work.values()]
        return sum(count * seconds for count, seconds in at_work) / max(1, self._working)

    def done(self, destination: Destination[T]) -> None:
        """A turn at this destination has ended, and it was told how."""
        self._working -= 1
        if destination.failures:
            self._away[destination.name] = destination
        if not destination.working:
            self._at_work.pop(destination.name, None)

    def wakes_at(self, now: float) -> float | None:
        """When the next item may begin that waits for nothing but time."""
        return min((at for each in self._turns if (at := each.wakes_at(now)) is not None), default=None)

    def give_up(self) -> list[T]:
        """Everything that waits, which is forgotten."""
        return [item for destination in self._all.values() for item in destination.give_up(urgent=True)]
