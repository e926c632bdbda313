"""Fair turns under bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.delivery.lanes import Lanes


def test_lanes_take_turns_and_keep_their_order() -> None:
    lanes: Lanes[str, int] = Lanes(total=10, per_lane=2)
    for item in range(3):
        lanes.add("a", item)
    lanes.add("b", 9)
    assert [lanes.take() for _ in range(4)] == [("a", 0), ("b", 9), ("a", 1), None]
    lanes.done("a")
    assert lanes.take() == ("a", 2)


def test_other_bounds_count_from_the_next_turn_on() -> None:
    lanes: Lanes[str, int] = Lanes(total=1, per_lane=1)
    for item in range(4):
        lanes.add("a", item)
    assert [lanes.take(), lanes.take()] == [("a", 0), None]
    lanes.resize(total=3, per_lane=2)
    assert [lanes.take(), lanes.take()] == [("a", 1), None]
    lanes.resize(total=3, per_lane=1)
    lanes.done("a")
    assert lanes.take() is None
    lanes.done("a")
    assert [lanes.take(), lanes.take()] == [("a", 2), None]


def test_what_waits_can_be_forgotten_while_others_work() -> None:
    lanes: Lanes[str, int] = Lanes(total=1, per_lane=1)
    lanes.add("a", 1)
    lanes.add("b", 2)
    assert lanes.take() == ("a", 1)
    lanes.clear()
    lanes.done("a")
    assert lanes.take() is None
    assert lanes.working == 0


@given(st.lists(st.one_of(st.tuples(st.just("add"), st.integers(0, 3)), st.just(("take", 0)), st.just(("done", 0)))))
@settings(deadline=None)
def test_bounds_hold_and_nothing_is_lost(steps: list[tuple[str, int]]) -> None:
    lanes: Lanes[int, int] = Lanes(total=3, per_lane=2)
    added, taken = 0, []
    working: list[int] = []
    for step, key in steps:
        if step == "add":
            lanes.add(key, added)
            added += 1
        elif step == "take" and (turn := lanes.take()):
            working.append(turn[0])
            taken.append(turn[1])
        elif step == "done" and working:
            lanes.done(working.pop(0))
        assert len(working) == lanes.working <= 3
        assert all(working.count(k) <= 2 for k in working)
    while working or len(taken) < added:
        if turn := lanes.take():
            working.append(turn[0])
            taken.append(turn[1])
        else:
            lanes.done(working.pop(0))
    assert sorted(taken) == list(range(added))
