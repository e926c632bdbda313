"""Lists compared with rows, by table and by property."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.record import Entry
from mailhub.store.mirror.rows import Note, runs
from mailhub.store.mirror.source import Key, Listed
from mailhub.store.mirror.sync import Difference, difference
from mailhub.testing.waiting import result_of
from tests.store.mirror.simple_stores import DictStore, PlayedHub, environment

SEEN = frozenset({"\\Seen"})
KEYS = st.integers(0, 12) | st.sampled_from(["a", "b", "1", "\udcff"])
LISTED = st.builds(
    Listed, KEYS, st.sampled_from([None, frozenset(), SEEN]), st.none(), st.sampled_from([None, 1, 2]), st.just("")
)
LISTS = st.lists(LISTED, max_size=12, unique_by=lambda each: each.key)


class Rows:
    """What is known after some lists, as a folder keeps it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.notes: dict[int, Note] = {}
        self.uids: dict[Key, int] = {}
        self.next = 1
        self.before: list[Listed] | None = None

    def compare(self, listing: list[Listed], *, quickly: bool) -> Difference:
        return difference(self.entries, self.notes, self.uids, listing, self.before if quickly else None)

    def take(self, listing: list[Listed]) -> None:
        news = self.compare(listing, quickly=True)
        for uid in news.removed:
            del self.uids[self.notes.pop(uid).key]
        by_uid = {entry.uid: entry for entry in self.entries if entry.uid in self.notes}
        for uid, flags in news.flagged.items():
            by_uid[uid] = by_uid[uid]._replace(flags=flags)
        for uid, each in news.suspects.items():
            self.notes[uid] = self.notes[uid]._replace(listed_size=each.size, version=each.version)
        for each in news.added:
            by_uid[self.next] = Entry(self.next, each.flags or frozenset(), 1, 1, 0)
            self.notes[self.next] = Note(each.key, None, each.size, each.version)
            self.uids[each.key] = self.next
            self.next += 1
        self.entries = list(by_uid.values())
        self.before = listing


@given(st.lists(LISTS, max_size=6))
def test_what_is_known_follows_what_is_listed(lists: list[list[Listed]]) -> None:
    rows, ever = Rows(), set[int]()
    for listing in lists:
        assert rows.compare(listing, quickly=True) == rows.compare(listing, quickly=False)
        old = dict(rows.uids)
        rows.take(listing)
        assert rows.uids.keys() == {each.key for each in listing}
        assert not rows.compare(listing, quickly=False)
        fresh = [rows.uids[each.key] for each in listing if each.key not in old]
        assert fresh == sorted(fresh)
        assert not ever.intersection(fresh)
        assert all(rows.uids[key] == uid for key, uid in old.items() if key in rows.uids)
        ever.update(fresh)


@given(st.lists(LISTS, max_size=6))
def test_numbers_and_strings_are_different_keys_and_any_key_comes_back(lists: list[list[Listed]]) -> None:
    """The whole way, through a ledger."""
    store = DictStore(None, PlayedHub(environment()))
    store.mail["ann@xx.example"] = {"INBOX": {}}
    result_of(store.start())
    mailbox = result_of(result_of(store.account("ann@xx.example")).mailbox("INBOX"))
    last = 0
    for listing in lists:
        octets = {each.key: b"%r\r\n" % (each.key,) for each in listing}
        store.mail["ann@xx.example"]["INBOX"] = {
            each.key: (octets[each.key], each.flags or frozenset(), 0) for each in listing
        }
        result_of(mailbox.refresh())
        entries = result_of(mailbox.entries())
        found = sorted(result_of(result_of(mailbox.open(entry.uid)).read()) for entry in entries)
        assert found == sorted(octets.values())
        assert result_of(mailbox.status()).uid_next > last
        last = max(last, result_of(mailbox.status()).uid_next - 1)
    result_of(store.stop())


@given(st.sets(st.integers(1, 40)))
def test_runs_are_the_numbers(numbers: set[int]) -> None:
    found = runs(sorted(numbers))
    assert [n for first, last in found for n in range(first, last + 1)] == sorted(numbers)
    assert all(low[1] + 1 < high[0] for low, high in pairwise(found))
