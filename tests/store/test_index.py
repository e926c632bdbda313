from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mailhub.errors import NoSuchMailbox, StoreUnavailable
from mailhub.message.flags import NO_FLAGS, SEEN
from mailhub.message.record import Added, Change, Entry, Expunged, FlagsChanged, MailboxGone, News
from mailhub.store.index import FEW, FLAGS_A_ROW, DigestCache, Indexes, MailboxIndex, weight

SEEN_ONLY = frozenset({SEEN})


def entry(uid: int, modseq: int, seen: bool = False) -> Entry:
    return Entry(uid, SEEN_ONLY if seen else NO_FLAGS, modseq, 100, 0)


class Model:
    """A mailbox as a dict, and the history of its changes."""

    def __init__(self) -> None:
        self.rows: dict[int, Entry] = {}
        self.modseq = self.uid = 1
        self.changes: list[Change] = []

    def act(self, action: str, amount: int) -> None:
        """One change to some of the messages."""
        chosen = sorted(self.rows)[:: 1 if action.endswith("run") else 2][:amount]
        if not chosen and action != "add":
            return
        self.modseq += 1
        if action == "add":
            added = tuple(entry(self.uid + number, self.modseq) for number in range(amount))
            self.uid += amount
            self.rows.update({row.uid: row for row in added})
            self.changes.append(Added(added))
        elif action.startswith("flag"):
            changed = tuple(entry(uid, self.modseq, SEEN not in self.rows[uid].flags) for uid in chosen)
            self.rows.update({row.uid: row for row in changed})
            self.changes.append(FlagsChanged(changed))
        else:
            for uid in chosen:
                del self.rows[uid]
            self.changes.append(Expunged(tuple(chosen), self.modseq))


KINDS = ["add", "flag", "flag run", "expunge", "expunge run"]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from([1, 2, 5, FEW + 1, 3 * FEW]),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(ACTIONS, st.integers(0, 12), st.integers(0, 12))
def test_a_snapshot_and_the_changes_around_it_give_what_is_there(
    actions: list[tuple[str, int]], snapshot_at: int, heard_from: int
) -> None:
    """Changes that the snapshot held already come again, because a commit is announced after it can be read."""
    model = Model()
    index = MailboxIndex([], 1)
    snapshot_at = min(snapshot_at, len(actions))
    heard_from = min(heard_from, snapshot_at)
    heard = 0
    for step, (action, amount) in enumerate(actions):
        if step == heard_from:
            heard = len(model.changes)
        if step == snapshot_at:
            index = MailboxIndex(model.rows.values(), model.modseq)
        model.act(action, amount)
    if snapshot_at == len(actions):
        index = MailboxIndex(model.rows.values(), model.modseq)
    for change in model.changes[heard:]:
        index.apply(change)
    assert index.select() == list(model.rows.values())
    every = list(range(1, model.uid + 2))
    for uids in (every, every[::3], every[5:6], every[: FEW + 9], []):
        assert index.select(uids) == [model.rows[uid] for uid in uids if uid in model.rows]
    since = model.modseq // 2
    assert index.select(since_modseq=since) == [row for row in model.rows.values() if row.modseq > since]


def test_a_move_within_a_mailbox_is_two_changes_one_after_the_other() -> None:
    index = MailboxIndex([entry(1, 2)], 2)
    index.apply(Added((entry(2, 3),)))
    index.apply(Expunged((1,), 4))
    assert [row.uid for row in index.select()] == [2]


def test_the_list_given_out_does_not_change_afterwards() -> None:
    index = MailboxIndex([entry(1, 2)], 2)
    rows = index.select()
    index.apply(Added((entry(2, 3),)))
    assert len(rows) == 1


class Loads:
    """Loads that end when they are told to."""

    def __init__(self) -> None:
        self.under_way: list[tuple[int, Deferred[MailboxIndex]]] = []
        self.watched: set[int] = set()
        self.heard: list[tuple[int, Change]] = []
        self.asked: list[tuple[int, int, Deferred[News]]] = []
        self.indexes = Indexes(
            self.load,
            self.watched.__contains__,
            rows_limit=5,
            news=self.news,
            tell=lambda mailbox, change: self.heard.append((mailbox, change)),
        )

    async def load(self, mailbox: int) -> MailboxIndex:
        loaded: Deferred[MailboxIndex] = Deferred()
        self.under_way.append((mailbox, loaded))
        return await loaded

    async def news(self, mailbox: int, since: int) -> News:
        answer: Deferred[News] = Deferred()
        self.asked.append((mailbox, since, answer))
        return await answer

    def get(self, mailbox: int) -> Deferred[MailboxIndex]:
        return Deferred.fromCoroutine(self.indexes.get(mailbox))

    def ready(self, mailbox: int, rows: int = 0) -> MailboxIndex:
        """Load it now."""
        waiting = self.get(mailbox)
        self.under_way.pop()[1].callback(MailboxIndex([entry(uid, 1) for uid in range(1, rows + 1)], 1))
        index: MailboxIndex = result_of(waiting)
        return index

    def in_memory(self) -> list[int]:
        return list(self.indexes.known())


def result_of(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addCallback(results.append)
    return results[0]


def test_callers_share_one_load_and_then_the_index() -> None:
    loads = Loads()
    first, second = loads.get(7), loads.get(7)
    assert len(loads.under_way) == 1
    first.addErrback(lambda failure: None)
    first.cancel()
    loads.under_way[0][1].callback(MailboxIndex([], 1))
    assert result_of(second) is result_of(loads.get(7))
    assert len(loads.under_way) == 1


def test_changes_during_a_load_are_not_lost() -> None:
    loads = Loads()
    waiting = loads.get(7)
    loads.indexes.apply(7, Added((entry(1, 2),)))  # the snapshot was before it
    loads.indexes.apply(8, Added((entry(9, 9),)))
    loads.under_way[0][1].callback(MailboxIndex([], 1))
    assert [row.uid for row in result_of(waiting).select()] == [1]
    loads.indexes.apply(7, Added((entry(2, 3),)))
    assert len(result_of(loads.get(7))) == 2


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again() -> None:
    loads = Loads()
    waiting = [loads.get(7), loads.get(7)]
    loads.under_way.pop()[1].errback(NoSuchMailbox())
    failures: list[Any] = []
    for deferred in waiting:
        deferred.addErrback(failures.append)
    assert [failure.type for failure in failures] == [NoSuchMailbox, NoSuchMailbox]
    assert len(loads.ready(7)) == 0


def test_a_mailbox_that_goes_during_its_load_is_not_kept() -> None:
    loads = Loads()
    waiting = loads.get(7)
    loads.indexes.apply(7, MailboxGone())
    loads.under_way.pop()[1].callback(MailboxIndex([], 1))
    result_of(waiting)
    assert loads.in_memory() == []


def test_indexes_that_nobody_watches_go_by_last_use() -> None:
    loads = Loads()
    loads.watched.add(1)
    for mailbox in (1, 2, 3):
        loads.ready(mailbox, rows=3)
    assert loads.in_memory() == [1, 2, 3]  # 1 is watched, 3 just loaded
    result_of(loads.get(2))
    loads.ready(4, rows=3)
    assert loads.in_memory() == [1, 2, 4]
    loads.indexes.apply(2, MailboxGone())
    assert loads.in_memory() == [1, 4]


def test_the_index_of_an_empty_mailbox_is_an_index() -> None:
    loads = Loads()
    index = loads.ready(7)
    loads.indexes.apply(7, Added((entry(1, 2),)))
    assert result_of(loads.get(7)) is index
    assert len(index) == 1


def uids_in(loads: Loads, mailbox: int) -> list[int]:
    return [row.uid for row in result_of(loads.get(mailbox)).select()]


def test_a_late_announcement_loses_no_message() -> None:
    loads = Loads()
    loads.ready(7, rows=1)
    assert not loads.indexes.apply(7, Added((entry(3, 3),)))  # that of UID 2 is late
    assert not loads.indexes.apply(7, Added((entry(4, 4),)))
    waiting = loads.get(7)
    ((mailbox, since, answer),) = loads.asked
    assert (mailbox, since) == (7, 1)
    answer.callback(News([entry(2, 2), entry(3, 3), entry(4, 4)], [], 4))
    assert [row.uid for row in result_of(waiting).select()] == [1, 2, 3, 4]
    assert loads.heard == [(7, Added((entry(2, 2), entry(3, 3), entry(4, 4))))]
    assert not loads.indexes.apply(7, Added((entry(2, 2),)))  # here it comes
    assert uids_in(loads, 7) == [1, 2, 3, 4]
    assert loads.indexes.apply(7, Added((entry(5, 5),)))


def test_what_comes_while_the_news_are_read_is_not_lost() -> None:
    loads = Loads()
    loads.ready(7, rows=1)
    loads.indexes.apply(7, Added((entry(3, 3),)))
    assert loads.indexes.apply(7, Added((entry(2, 2),)))  # only late by a little: it is the next one
    loads.indexes.apply(7, FlagsChanged((entry(1, 5, seen=True),)))
    loads.asked.pop()[2].callback(News([entry(2, 2), entry(3, 3)], [], 3))  # of before
    loads.asked.pop()[2].callback(News([entry(1, 5, seen=True), entry(3, 3)], [2], 5))
    assert loads.asked == []
    assert uids_in(loads, 7) == [1, 3]
    assert loads.heard == [
        (7, Expunged((2,), 5)),
        (7, FlagsChanged((entry(1, 5, seen=True),))),
        (7, Added((entry(3, 3),))),
    ]


def test_news_that_cannot_be_read_are_told_and_asked_for_again() -> None:
    loads = Loads()
    loads.ready(7, rows=1)
    loads.indexes.apply(7, Added((entry(3, 3),)))
    loads.asked.pop()[2].errback(StoreUnavailable())
    failures: list[Any] = []
    loads.get(7).addErrback(failures.append)
    loads.asked.pop()[2].errback(StoreUnavailable())
    assert [failure.type for failure in failures] == [StoreUnavailable]
    waiting = loads.get(7)
    loads.asked.pop()[2].callback(News([entry(2, 2), entry(3, 3)], [], 3))
    assert len(result_of(waiting)) == 3


def test_a_gap_in_what_was_announced_during_a_load_is_closed_by_another() -> None:
    loads = Loads()
    waiting = loads.get(7)
    loads.indexes.apply(7, Added((entry(3, 4),)))
    loads.indexes.apply(7, Added((entry(2, 3),)))
    loads.under_way.pop()[1].callback(MailboxIndex([], 1))
    loads.under_way.pop()[1].callback(MailboxIndex([entry(1, 2), entry(2, 3)], 3))
    assert [row.uid for row in result_of(waiting).select()] == [1, 2, 3]


@settings(deadline=None, max_examples=150)
@given(ACTIONS, st.data())
def test_announcements_lost_late_doubled_and_out_of_order_lose_no_message(
    actions: list[tuple[str, int]], data: st.DataObject
) -> None:
    model = Model()
    watcher: dict[int, Entry] = {}

    def told(change: Change) -> None:
        if isinstance(change, Expunged):
            for uid in change.uids:
                watcher.pop(uid, None)
        elif isinstance(change, Added | FlagsChanged):
            watcher.update({row.uid: row for row in change.entries})

    async def load(mailbox: int) -> MailboxIndex:
        return MailboxIndex(model.rows.values(), model.modseq)

    async def news(mailbox: int, since: int) -> News:
        gone = sorted({uid for change in model.changes if isinstance(change, Expunged) for uid in change.uids})
        return News([row for row in model.rows.values() if row.modseq > since], gone, model.modseq)

    indexes = Indexes(load, lambda _: True, 5, news=news, tell=lambda _, change: told(change))
    result_of(Deferred.fromCoroutine(indexes.get(7)))
    waiting: list[Change] = []
    for action, amount in actions:
        before = len(model.changes)
        model.act(action, amount)
        for change in model.changes[before:]:
            waiting += [change] * data.draw(st.integers(0, 2))
        for _ in range(data.draw(st.integers(0, len(waiting)))):
            change = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            if indexes.apply(7, change):
                told(change)
    result_of(Deferred.fromCoroutine(indexes.catch_up(7, model.modseq)))  # the client asks
    assert result_of(Deferred.fromCoroutine(indexes.get(7))).select() == list(model.rows.values())
    assert watcher == model.rows


LONG = b"x" * 10_000


def test_columns_go_by_last_use_when_their_bytes_are_too_many() -> None:
    cache = DigestCache(3 * weight([LONG]))
    cache.put(1, {"envelope": {1: LONG}})
    cache.put(2, {"envelope": {1: LONG}})
    cache.put(1, {"fields": {1: LONG}})
    cache.get(1, [1], ["envelope"])
    cache.put(2, {"fields": {1: LONG}})
    assert cache.get(2, [1], ["envelope"]) == ({"envelope": {}}, [1])
    assert cache.get(1, [1], ["envelope"]) == ({"envelope": {1: LONG}}, [])
    cache.put(3, {"parts": {1: 5 * LONG}})
    assert (cache.bytes, cache.get(3, [1], ["parts"])) == (0, ({"parts": {}}, [1]))


def test_a_message_is_there_with_all_that_is_wanted() -> None:
    cache = DigestCache(10**6)
    cache.put(1, {"envelope": {1: b"a", 2: b"b"}, "sent": {1: 5, 2: 6}})
    cache.put(1, {"envelope": {2: b"b", 3: b"c"}})
    assert cache.bytes == weight([b"a", b"b", b"c"]) + weight([5, 6])
    assert cache.get(1, [1, 3], ["envelope"]) == ({"envelope": {1: b"a", 3: b"c"}}, [])
    assert cache.get(1, [1, 2, 3, 4], ["sent", "envelope"]) == (
        {"sent": {1: 5, 2: 6}, "envelope": {1: b"a", 2: b"b"}},
        [3, 4],
    )


def test_digests_of_messages_that_are_gone_are_forgotten() -> None:
    cache = DigestCache(10**6)
    cache.put(1, {"envelope": {1: b"a", 2: b"b"}, "fields": {1: b"f"}})
    cache.put(2, {"envelope": {1: b"c"}})
    removals = cache.removals
    cache.apply(1, FlagsChanged((entry(1, 2),)))
    assert cache.removals == removals
    cache.apply(1, Expunged((1, 9), 2))
    assert cache.get(1, [1, 2], ["envelope"]) == ({"envelope": {2: b"b"}}, [1])
    cache.apply(1, MailboxGone())
    assert cache.get(1, [2], ["envelope"]) == ({"envelope": {}}, [2])
    assert cache.bytes == weight([b"c"])
    assert cache.removals == removals + 2


def test_indexes_with_many_flags_weigh_more() -> None:
    flags = [frozenset(f"{number}-{keyword}" for keyword in range(16)) for number in range(3)]
    heavy = MailboxIndex([entry(uid, 1)._replace(flags=each) for uid, each in enumerate(flags, 1)], 1)
    assert heavy.weight() == 3 + 3 * 16 // FLAGS_A_ROW
    shared = MailboxIndex([entry(uid, 1)._replace(flags=flags[0]) for uid in (1, 2, 3)], 1)
    assert shared.weight() == 3 + 16 // FLAGS_A_ROW
    shared.apply(Added((entry(4, 2)._replace(flags=flags[1]),)))
    assert shared.weight() == 4 + 2 * 16 // FLAGS_A_ROW
