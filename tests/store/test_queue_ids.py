from __future__ import annotations

from random import Random

import pytest

from mailhub.store.queue_ids import DeliveryIds, comes_again, first_number, number_of


def test_ids_sort_by_time_and_differ_within_a_second() -> None:
    ids = DeliveryIds(Random(1))
    seconds = [1, 31, 32, 1_700_000_000, 1_700_000_001, 2**34]
    made = [ids.next(second)[0] for second in seconds]
    assert made == sorted(made)
    assert len({ids.next(5)[0] for _ in range(1000)}) == 1000
    assert {len(name) for name in made} == {16}


def test_ids_of_one_second_and_their_numbers_ascend() -> None:
    ids = DeliveryIds(Random(2))
    made = [ids.next(1_700_000_000)[0] for _ in range(1000)]
    numbers = [number_of(name) for name in made]
    assert made == sorted(made)
    assert numbers == sorted(set(numbers))
    assert all(first_number(1_700_000_000) <= number < first_number(1_700_000_001) < 2**63 for number in numbers)
    assert number_of(ids.next(1_700_000_000)[0]) < ids.number(1_700_000_000)


def test_a_clock_that_was_set_back_gives_other_ids_of_that_second() -> None:
    ids = DeliveryIds(Random(4))
    assert len({ids.next(second)[0] for second in (8, 7, 8, 7)}) == 4


def test_a_number_says_whether_its_id_may_come_again() -> None:
    name, number = DeliveryIds(Random(3)).next(1_700_000_000)
    assert number == number_of(name)
    assert number_of(name, again=True) == number_of(name) + 1
    assert comes_again(number_of(name, again=True))
    assert not comes_again(number_of(name))
    assert not comes_again(7)  # a number from before numbers were made of ids


@pytest.mark.parametrize("text", ["", "abc", "0123456789abcdei", "0123456789ABCDEF", "0123456789abcdef0"])
def test_other_texts_are_no_ids(text: str) -> None:
    with pytest.raises(ValueError, match="not a delivery id"):
        number_of(text)


def test_the_same_seed_gives_the_same_ids() -> None:
    assert DeliveryIds(Random(3)).next(7) == DeliveryIds(Random(3)).next(7)
