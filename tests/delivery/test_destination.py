"""What a destination bears, and whose turn it is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.delivery.destination import Destination, Destinations, Turn
from mailhub.message.envelope import Outcome, Reach

AWAY = Outcome.delayed("refused", status="4.4.1", reach=Reach.UNREACHED)


def filled(items: int = 100, most: int = 5) -> Destination[int]:
    destination: Destination[int] = Destination("smtp yy.example", most, 30)
    for item in range(items):
        destination.add(item)
    return destination


def begin_all(destination: Destination[int], now: float) -> list[Turn[int]]:
    turns = []
    while destination.ready(now):
        turns.append(destination.begin(now))
    return turns


def serve(destination: Destination[int], rounds: int, now: float = 0.0) -> float:
    """Rounds in which all that may be at work is served."""
    for _ in range(rounds):
        turns = begin_all(destination, now)
        now += 0.1
        for turn in turns:
            destination.served(turn, now)
    return now


def test_it_begins_with_little_and_takes_more_while_all_goes_well() -> None:
    destination = filled()
    assert len(begin_all(destination, 0)) == 2
    destination = filled()
    widths = []
    for _ in range(6):
        turns = begin_all(destination, 0)
        widths.append(len(turns))
        for turn in turns:
            destination.served(turn, 0.1)
    assert widths[-1] == 5
    assert widths == sorted(widths)


def test_it_takes_no_more_where_nothing_shows_that_more_would_work() -> None:
    destination = filled()
    for _ in range(20):
        destination.served(destination.begin(0), 0.1)
    assert destination.window == 2


def test_a_connection_too_many_leaves_what_works_and_is_tried_again_much_later() -> None:
    destination = filled(1000)
    now = 0.0
    refused = 0
    for _ in range(600):  # a minute
        turns = begin_all(destination, now)
        for turn in turns[2:]:
            destination.crowded(turn, now)
            destination.put_back(turn.item)
            refused += 1
        now += 0.1
        for turn in turns[:2]:
            destination.served(turn, now)
    assert destination.window in (2, 3)
    assert 2 <= refused <= 8
    assert destination.counters.crowded == refused


def test_one_refusal_does_not_take_what_has_worked_but_two_do() -> None:
    destination = filled()
    now = serve(destination, 1)
    while destination.window > 2:  # more than two are not borne
        turns = begin_all(destination, now)
        for turn in turns[2:]:
            destination.crowded(turn, now)
        now += 0.1
        for turn in turns[:2]:
            destination.served(turn, now)
    one, other = begin_all(destination, now)
    destination.crowded(other, now)
    assert not destination.ready(now + 0.4), "what is alive goes on, and nothing new is asked for at once"
    assert destination.ready(now + 2)
    again = destination.begin(now + 2)
    destination.crowded(again, now + 2)
    assert destination.window == 1
    destination.served(one, now + 2)


def test_an_attempt_of_before_says_nothing_about_what_is_now() -> None:
    destination = filled()
    now = serve(destination, 3)
    turns = begin_all(destination, now)
    destination.crowded(turns[-1], now)
    window = destination.window
    destination.crowded(turns[-2], now)
    assert destination.window == window


def test_it_is_left_alone_for_longer_each_time_and_tried_by_one() -> None:
    destination = filled()
    now = 0.0
    pauses: list[float] = []
    for _ in range(7):
        turns = begin_all(destination, now)
        assert len(turns) == (1 if pauses else 2)
        pauses.append(destination.unreached(turns[0], AWAY, now))
        for turn in turns[1:]:
            assert destination.unreached(turn, AWAY, now) == 0, "that was known"
        assert not destination.ready(now + pauses[-1] - 0.1)
        now += pauses[-1]
    assert pauses == [30, 60, 120, 240, 300, 300, 300]
    assert destination.served(destination.begin(now), now)
    assert not destination.served(destination.begin(now), now)


def test_what_is_urgent_does_not_wait_for_a_pause() -> None:
    destination = filled()
    destination.unreached(destination.begin(0), AWAY, 0)
    assert not destination.ready(1)
    destination.add(1000, urgent=True)
    assert destination.begin(1).item == 1000


def test_what_is_urgent_is_tried_once_where_there_is_no_connection_more() -> None:
    destination: Destination[int] = Destination("smtp yy.example", 5, 30)
    destination.add(1, urgent=True)
    turn = destination.begin(0)
    destination.crowded(turn, 0)
    destination.put_back(turn.item)
    assert not destination.ready(0)
    assert destination.wakes_at(0) == 0.5
    assert destination.ready(0.5)


def test_turns_go_around_and_lines_keep_their_order() -> None:
    all_of_them: Destinations[int] = Destinations(10, 2, 30)
    for item in range(3):
        all_of_them.add(all_of_them.at("a"), item)
    all_of_them.add(all_of_them.at("b"), 9)
    taken = [all_of_them.take(0) for _ in range(4)]
    assert [(each[0].name, each[1].item) if each else None for each in taken] == [("a", 0), ("b", 9), ("a", 1), None]
    first = taken[0]
    assert first is not None
    first[0].served(first[1], 0)
    all_of_them.done(first[0])
    (_, turn) = all_of_them.take(0) or (None, None)
    assert turn is not None
    assert turn.item == 2


def test_a_part_is_kept_for_who_gives_back_soon() -> None:
    all_of_them: Destinations[int] = Destinations(16, 5, 30)
    for name in ("q", *"abcdefg"):
        for item in range(20):
            all_of_them.add(all_of_them.at(name), item)
    turns = []
    while (taken := all_of_them.take(0)) is not None:
        turns.append(taken)
    assert all_of_them.working == 14
    quick = all_of_them.at("q")
    assert quick.working == 2
    for destination, turn in turns:
        if destination is quick:
            quick.served(turn, 0.1)
            all_of_them.done(quick)
    others = [all_of_them.take(0.2) for _ in range(2)]
    assert [each[0].name for each in others if each] == ["f", "g"], "in turn, as long as there is room for all"
    while all_of_them.take(0.2) is not None:
        pass
    assert (quick.working, all_of_them.working) == (2, 16)


def test_as_many_places_are_given_back_as_are_waited_for() -> None:
    all_of_them: Destinations[int] = Destinations(20, 5, 30)

    def given_back(now: float) -> int:
        return sum(all_of_them.yields(now) for _ in range(20))

    for number in range(18):
        all_of_them.add(all_of_them.at(str(number)), number)
    while all_of_them.take(0) is not None:
        pass
    assert (all_of_them.working, given_back(1)) == (18, 0), "all of them have one"
    for name in ("a", "b", "c"):
        for item in range(3):
            all_of_them.add(all_of_them.at(name), item)
    assert all_of_them.take(2) is None
    assert (given_back(2), given_back(2.5), given_back(3)) == (3, 0, 3), "counted again after a second"
    # Nobody makes way for those that are likely to keep their place, unless the operator wants them tried.
    all_of_them.at("a").suspect = all_of_them.at("b").suspect = True
    assert given_back(4) == 1
    for name in ("a", "b"):
        all_of_them.add(all_of_them.at(name), 3, True)
    assert all_of_them.take(5) is not None, "it has one of those that are kept"
    assert all_of_them.take(5) is None
    assert given_back(5) == 2


def test_other_bounds_count_from_the_next_turn_on() -> None:
    all_of_them: Destinations[int] = Destinations(1, 1, 30)
    for item in range(4):
        all_of_them.add(all_of_them.at("a"), item)
    assert (all_of_them.take(0) is not None, all_of_them.take(0)) == (True, None)
    all_of_them.resize(3, 1, 30)
    assert all_of_them.take(0) is None
    all_of_them.add(all_of_them.at("b"), 5)
    assert all_of_them.take(0) is not None


def test_what_is_known_is_bounded_but_for_what_waits() -> None:
    all_of_them: Destinations[int] = Destinations(10, 2, 30, known=5)
    waiting, done = all_of_them.at("waiting"), all_of_them.at("done")
    for destination in (waiting, done):
        all_of_them.add(destination, 1)
    done.give_up()
    for number in range(20):
        all_of_them.at(str(number))
    assert len(all_of_them) <= 5 + 2, "beside those that have their turn"
    assert all_of_them.at("waiting") is waiting
    all_of_them.add(all_of_them.at("done"), 2)
    assert {taken[0].name for _ in range(2) if (taken := all_of_them.take(0))} == {"waiting", "done"}


def test_the_queue_is_asked_for_more_where_it_gave_as_much_as_was_asked_for() -> None:
    all_of_them: Destinations[int] = Destinations(10, 2, 30)
    all_of_them.claimed({"a": 2, "b": 1}, {}, complete=True)
    assert [all_of_them.at(name).more for name in "ab"] == [True, False]
    assert all_of_them.quotas(0) == {"a": 4}
    all_of_them.claimed({}, {"a": 4}, complete=False)
    assert all_of_them.at("a").more, "nobody has looked there"
    all_of_them.claimed({}, {"a": 4}, complete=True)
    assert not all_of_them.at("a").more
    assert all_of_them.quotas(0) == {}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.sampled_from(["served", "crowded", "unreached", "dropped"]), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(1, 100)),
    )
)


@given(STEPS)
@settings(deadline=None)
def test_bounds_hold_and_nothing_is_lost_or_stuck(steps: list[tuple[str, int]]) -> None:
    all_of_them: Destinations[int] = Destinations(3, 2, 30)
    now, added = 0.0, 0
    working: list[tuple[Destination[int], Turn[int]]] = []
    ended: list[int] = []

    def end(how: str, position: int) -> None:
        destination, turn = working.pop(position % len(working))
        if how == "unreached":
            destination.unreached(turn, AWAY, now)
            ended.extend([turn.item, *destination.give_up()])
        else:
            getattr(destination, how)(turn, *(() if how == "dropped" else (now,)))
        all_of_them.done(destination)
        if how == "crowded":
            all_of_them.put_back(destination, turn.item)
        elif how != "unreached":
            ended.append(turn.item)

    for step, number in steps:
        if step == "add":
            all_of_them.add(all_of_them.at(str(number)), added)
            added += 1
        elif step == "take" and (taken := all_of_them.take(now)):
            working.append(taken)
        elif step == "wait":
            now += number
        elif working and step not in ("take", "wait"):
            end(step, number)
        assert len(working) == all_of_them.working <= 3
        assert all(sum(each is one for one, _ in working) <= 2 for each, _ in working)
    for _ in range(10 * added + 10):
        now += 400
        while (taken := all_of_them.take(now)) is not None:
            working.append(taken)
        while working:
            end("served", 0)
    assert sorted(ended) == list(range(added))
