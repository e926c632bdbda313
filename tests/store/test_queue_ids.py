from __future__ import annotations

from random import Random

from mailhub.store.queue_ids import new_id


def test_ids_sort_by_time_and_differ_within_a_second() -> None:
    random = Random(1)
    seconds = [1, 31, 32, 1_700_000_000, 1_700_000_001, 2**34]
    ids = [new_id(second, random) for second in seconds]
    assert ids == sorted(ids)
    assert len({new_id(5, random) for _ in range(1000)}) == 1000
    assert {len(name) for name in ids} == {16}


def test_the_same_seed_gives_the_same_ids() -> None:
    assert new_id(7, Random(3)) == new_id(7, Random(3))
