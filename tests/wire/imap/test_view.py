"""The session's view: what a client that believes every untagged response ends up with."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.flags import DELETED, FLAGGED, NO_FLAGS, SEEN, Flags, normalise
from mailhub.message.record import Added, Entry, Expunged, FlagChange, FlagsChanged
from mailhub.wire.imap.sets import SequenceSet
from mailhub.wire.imap.view import PORTION, UPDATE_LINES, NoSuchNumber, RecentMarks, View, batches, portions

LINE = re.compile(rb"\* (\d+) (EXISTS|RECENT|EXPUNGE|FETCH \(UID (\d+) FLAGS \(([^)]*)\)\))\r\n")


def entry(uid: int, *flags: str, modseq: int = 1) -> Entry:
    return Entry(uid, frozenset(flags), modseq, 100, 0)


def entries(*uids: int) -> list[Entry]:
    return [entry(uid) for uid in uids]


def numbers(text: bytes) -> SequenceSet:
    return SequenceSet.parse(text)


class Client:
    """Applies untagged responses as RFC 3501 7.3 and 7.4 say. UIDs and flags it was not told are None."""

    def __init__(self, view: View) -> None:
        self.uids: list[int | None] = list(view.uids)
        self.flags: list[Flags | None] = [row.flags for row in view.entries]

    def read(self, octets: bytes) -> list[bytes]:
        position, seen = 0, []
        while position < len(octets):
            match = LINE.match(octets, position)
            assert match, octets[position:]
            position = match.end()
            seen.append(match[2][:7])
            self._apply(int(match[1]), match[2], match)
        return seen

    def _apply(self, number: int, word: bytes, match: re.Match[bytes]) -> None:
        if word == b"EXISTS":
            assert number >= len(self.uids), "EXISTS must not shrink the mailbox"
            added: list[None] = [None] * (number - len(self.uids))
            self.uids += added
            self.flags += added
        elif word == b"EXPUNGE":
            del self.uids[number - 1], self.flags[number - 1]
        elif word != b"RECENT":
            assert self.uids[number - 1] in (None, int(match[3]))
            self.uids[number - 1] = int(match[3])
            self.flags[number - 1] = normalise(match[4].decode().split()) if match[4] else NO_FLAGS

    def look_up(self, view: View) -> None:
        """What a client does about messages it knows nothing of: FETCH (UID FLAGS)."""
        unknown = [position for position, uid in enumerate(self.uids) if uid is None]
        for number, row, _ in view.rows(unknown):
            self.uids[number - 1] = row.uid
            self.flags[number - 1] = row.flags
        view.told(view.uids[position] for position in unknown)


def test_expunges_wait_until_they_are_allowed() -> None:
    view = View(entries(1, 2, 3))
    view.apply(Expunged((2,), 5))
    assert view.updates(expunge=False) == b""
    assert len(view) == 3
    assert view.updates(expunge=True) == b"* 2 EXPUNGE\r\n"
    assert list(view.uids) == [1, 3]
    assert view.updates(expunge=True) == b""


def test_several_expunges_count_from_the_end() -> None:
    view = View(entries(1, 2, 3, 4, 5))
    view.apply(Expunged((1, 2, 4), 5))
    assert view.updates(expunge=True) == b"* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n"


def test_new_messages_are_counted_on_top_of_those_whose_going_is_not_told() -> None:
    view = View(entries(1, 2))
    view.apply(Expunged((1,), 2))
    view.apply(Added((entry(3), entry(4))))
    assert view.updates(expunge=False) == b"* 4 EXISTS\r\n* 0 RECENT\r\n"
    assert view.updates(expunge=True) == b"* 1 EXPUNGE\r\n"
    assert list(view.uids) == [2, 3, 4]


def test_a_message_that_came_and_went_between_two_commands_is_never_mentioned() -> None:
    view = View(entries(1))
    view.apply(Added((entry(2),)))
    view.apply(FlagsChanged((entry(2, SEEN, modseq=3),)))
    view.apply(Expunged((2,), 4))
    assert view.updates(expunge=True) == b""


def test_a_change_that_the_first_rows_show_already_is_not_told_again() -> None:
    view = View([entry(1, SEEN, modseq=5), entry(2, modseq=6)])
    view.apply(Added((entry(2, modseq=6),)))
    view.apply(FlagsChanged((entry(1, modseq=4),)))
    view.apply(Expunged((9,), 7))
    assert view.updates(expunge=True) == b""


def test_flags_go_by_the_newest_mod_sequence() -> None:
    view = View(entries(1))
    view.apply(FlagsChanged((entry(1, FLAGGED, modseq=9),)))
    view.apply(FlagsChanged((entry(1, SEEN, modseq=8),)))
    assert view.updates(expunge=False) == b"* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n"


def test_flags_changed_there_and_back_are_not_worth_a_word() -> None:
    view = View(entries(1))
    view.apply(FlagsChanged((entry(1, SEEN, modseq=2),)))
    view.apply(FlagsChanged((entry(1, modseq=3),)))
    assert view.updates(expunge=True) == b""


def test_an_own_silent_change_is_not_echoed() -> None:
    view = View(entries(1, 2))
    change = FlagChange("add", frozenset({SEEN}))
    view.apply(FlagsChanged((entry(1, SEEN, modseq=2),)))
    view.assume([1], change)
    assert view.updates(expunge=True) == b""


def test_a_silent_change_does_not_hide_what_another_session_did_to_the_same_message() -> None:
    view = View(entries(1))
    view.apply(FlagsChanged((entry(1, FLAGGED, modseq=2),)))
    view.apply(FlagsChanged((entry(1, FLAGGED, SEEN, modseq=3),)))
    view.assume([1], FlagChange("add", frozenset({SEEN})))
    assert view.updates(expunge=False) == b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen))\r\n"


def test_a_silent_change_that_another_session_undid_at_once_is_told() -> None:
    view = View(entries(1))
    view.apply(FlagsChanged((entry(1, SEEN, modseq=2),)))
    view.apply(FlagsChanged((entry(1, modseq=3),)))
    view.assume([1], FlagChange("add", frozenset({SEEN})))
    assert view.updates(expunge=False) == b"* 1 FETCH (UID 1 FLAGS ())\r\n"


def test_flags_that_a_command_told_are_not_told_again() -> None:
    view = View(entries(1, 2))
    view.apply(FlagsChanged((entry(1, SEEN, modseq=2), entry(2, SEEN, modseq=2))))
    view.told([1])
    assert view.updates(expunge=False) == b"* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"


def test_many_flag_changes_come_in_portions() -> None:
    view = View(entries(*range(1, 11)))
    view.apply(FlagsChanged(tuple(entry(uid, SEEN, modseq=2) for uid in range(1, 11))))
    portions = []
    while octets := view.updates(expunge=True, limit=4):
        portions.append(octets.count(b"\n"))
    assert portions == [4, 4, 2]


@pytest.mark.parametrize(
    ("text", "by_uid", "found"),
    [
        (b"1:*", False, [(0, 3)]),
        (b"*", False, [(2, 3)]),
        (b"9:*", False, [(2, 3)]),
        (b"2,1", False, [(0, 2)]),
        (b"1,3", False, [(0, 1), (2, 3)]),
        (b"1:*", True, [(0, 3)]),
        (b"*", True, [(2, 3)]),
        (b"31:*", True, [(2, 3)]),
        (b"10:19,30", True, [(0, 1), (2, 3)]),
        (b"11:19,4000000000", True, []),
    ],
)
def test_sets_are_positions(text: bytes, by_uid: bool, found: list[tuple[int, int]]) -> None:
    assert View(entries(10, 20, 30)).find(numbers(text), by_uid=by_uid) == found


@pytest.mark.parametrize("text", [b"4", b"1:4", b"2,7"])
def test_a_number_beyond_the_last_message_is_an_error(text: bytes) -> None:
    with pytest.raises(NoSuchNumber):
        View(entries(10, 20, 30)).find(numbers(text), by_uid=False)


def test_everything_in_an_empty_mailbox_is_nothing() -> None:
    assert View([]).find(numbers(b"1:*"), by_uid=False) == []
    assert View([]).find(numbers(b"1:*"), by_uid=True) == []
    with pytest.raises(NoSuchNumber):
        View([]).find(numbers(b"1"), by_uid=False)


def test_messages_that_are_gone_keep_their_number_and_row_until_that_is_told() -> None:
    forgotten: list[int] = []
    view = View(entries(1, 2, 3), forget=forgotten.extend)
    view.apply(Expunged((2,), 2))
    assert [number for number, _, _ in view.rows(range(3))] == [1, 2, 3]
    assert view.present([(0, 3)]) == [1, 3]
    view.change_gone([(0, 3)], FlagChange("add", frozenset({SEEN})))
    assert [flags for _, _, flags in view.rows(range(3))] == [b"()", b"(\\Seen)", b"()"]
    assert not forgotten
    view.apply(FlagsChanged((entry(2, SEEN, modseq=3),)))
    assert view.updates(expunge=False) == b""


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20))), st.integers(1, 7))
def test_batches_are_the_same_positions(spans: list[tuple[int, int]], size: int) -> None:
    slices = [(start, start + length) for start, length in spans]
    found = list(batches(slices, size))
    assert [p for batch in found for p in batch] == [p for start, stop in slices for p in range(start, stop)]
    assert all(len(batch) == size for batch in found[:-1])


def test_portions_are_bounded_by_what_their_digests_may_hold() -> None:
    assert list(portions([], len)) == []
    assert [len(p) for p in portions([1000] * 500, int)] == [500]
    assert [len(p) for p in portions([50_000_000] * 40, int)] == [16, 16, 8]
    assert [list(p) for p in portions([PORTION + 1, 1], int)] == [[PORTION + 1, 1]], "a digest has a limit of its own"


# --- \Recent ---

BOX = ("a@example.org", 7)


def test_a_message_is_recent_in_one_session_only() -> None:
    marks = RecentMarks()
    assert marks.claim(BOX, []) == set()
    assert marks.claim(BOX, entries(1, 2)) == {1, 2}
    assert marks.claim(BOX, entries(1, 2, 3)) == {3}
    assert marks.claim(BOX, entries(1, 2, 3)) == set()
    assert marks.mark(BOX) == 4


def test_examine_leaves_messages_recent() -> None:
    marks = RecentMarks()
    marks.claim(BOX, entries(1))
    assert marks.claim(BOX, entries(1, 2), keep=True) == {2}
    assert marks.claim(BOX, entries(1, 2)) == {2}


def test_in_a_mailbox_not_seen_before_unseen_messages_are_recent() -> None:
    marks = RecentMarks(limit=1)
    rows = [entry(1, SEEN), entry(2)]
    assert marks.claim(BOX, rows) == {2}
    assert marks.claim(BOX, rows) == set()
    marks.claim(("b@example.org", 7), [])
    assert marks.mark(BOX) is None, "the oldest mark gives way"


def test_recent_shows_in_flags_and_counts() -> None:
    marks = RecentMarks()
    view = View(entries(1, 2), lambda rows: marks.claim(BOX, rows))
    assert view.recent == 2
    assert view.rows([0])[0][2] == b"(\\Recent)"
    view.apply(Added((entry(3, SEEN),)))
    assert view.updates(expunge=True) == b"* 3 EXISTS\r\n* 3 RECENT\r\n"
    view.apply(FlagsChanged((entry(3, modseq=2),)))
    assert view.updates(expunge=True) == b"* 3 FETCH (UID 3 FLAGS (\\Recent))\r\n"
    view.apply(Expunged((1,), 5))
    assert view.updates(expunge=True) == b"* 1 EXPUNGE\r\n* 2 RECENT\r\n"


# --- any order of events ---

STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 60)),
    st.tuples(st.just("flag"), st.sampled_from([SEEN, DELETED, FLAGGED])),
    st.tuples(st.just("expunge"), st.integers(2, 5)),
    st.tuples(st.just("command"), st.booleans()),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=30), st.integers(1, 50), st.randoms(use_true_random=False))
def test_a_client_that_believes_everything_knows_the_truth(steps: list, limit: int, random) -> None:  # type: ignore[no-untyped-def,type-arg]
    mailbox = {uid: entry(uid) for uid in range(1, 4)}
    view = View(mailbox.values())
    client = Client(view)
    next_uid, modseq = 4, 1
    for kind, value in [*steps, ("command", True)]:
        modseq += 1
        if kind == "add":
            new = [entry(uid, modseq=modseq) for uid in range(next_uid, next_uid + value)]
            next_uid += value
            mailbox |= {row.uid: row for row in new}
            view.apply(Added(tuple(new)))
        elif kind == "flag":
            rows = [row for row in mailbox.values() if random.random() < 0.5]
            changed = [row._replace(flags=row.flags ^ {value}, modseq=modseq) for row in rows]
            mailbox |= {row.uid: row for row in changed}
            view.apply(FlagsChanged(tuple(changed)))
        elif kind == "expunge":
            gone = tuple(uid for uid in mailbox if uid % value == 0)
            for uid in gone:
                del mailbox[uid]
            view.apply(Expunged(gone, modseq))
        else:
            while octets := view.updates(expunge=value, limit=limit):
                words = client.read(octets)
                assert value or b"EXPUNGE" not in words
            client.look_up(view)
    assert client.uids == list(mailbox) == list(view.uids)
    assert client.flags == [row.flags for row in mailbox.values()]


def test_bulk_changes_are_linear() -> None:
    """100,000 messages, every other one expunged: quadratic work would take minutes, not a moment."""
    view = View(entries(*range(1, 100_001)))
    view.apply(Expunged(tuple(range(1, 100_001, 2)), 2))
    view.apply(Added(tuple(entries(*range(100_001, 150_001)))))
    assert view.updates(expunge=True).count(b"EXPUNGE") == UPDATE_LINES, "told in portions"
    client = b"".join(iter(lambda: view.updates(expunge=True), b""))
    assert client.count(b"EXPUNGE") == 50_000 - UPDATE_LINES
    assert client.count(b"EXISTS") == 1
    assert len(view) == 100_000


def test_a_message_that_is_gone_can_be_flagged_for_this_session_alone() -> None:
    view = View(entries(1, 2, 3))
    view.apply(Expunged((2,), 5))
    assert view.gone == {2}
    view.change_gone([(0, 3)], FlagChange("add", frozenset({SEEN})))
    assert [row.flags for row in view.entries] == [NO_FLAGS, {SEEN}, NO_FLAGS]
    assert [view.size(position) for position in range(3)] == [100, 100, 100]


def test_rendered_flags_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.wire.imap.view.FORM_LIMIT", 100)
    flagged = [entry(uid, f"keyword-number-{uid}") for uid in range(1, 50)]
    view = View(flagged)
    for _ in range(2):
        assert [form for _, _, form in view.rows(range(49))] == [b"(keyword-number-%d)" % uid for uid in range(1, 50)]
    assert sum(map(len, view._forms.values())) <= 100
