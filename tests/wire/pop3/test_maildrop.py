from __future__ import annotations

import pytest

from mailhub.wire.pop3.maildrop import Maildrop, NoSuchMessage


def drop() -> Maildrop:
    return Maildrop(7, [(10, 100), (20, 50), (4_294_967_295, 1)])


def test_numbers_count_from_one() -> None:
    maildrop = drop()
    assert list(maildrop.numbers()) == [1, 2, 3]
    assert [maildrop.uid(number) for number in maildrop.numbers()] == [10, 20, 4_294_967_295]
    for number in (0, -1, 4):
        with pytest.raises(NoSuchMessage):
            maildrop.uid(number)


def test_marks_change_totals_but_no_number() -> None:
    maildrop = drop()
    maildrop.delete(1)
    assert (maildrop.count, maildrop.octets, maildrop.uid(2)) == (2, 51, 20)
    with pytest.raises(NoSuchMessage, match="marked"):
        maildrop.delete(1)
    assert (maildrop.count, maildrop.octets) == (2, 51)
    maildrop.reset()
    assert (maildrop.count, maildrop.octets) == (3, 151)
    assert maildrop.marked() == ()


def test_marked_uids_ascend() -> None:
    maildrop = drop()
    maildrop.delete(3)
    maildrop.delete(1)
    assert maildrop.marked() == (10, 4_294_967_295)


def test_unique_ids_keep_to_the_rule() -> None:
    """RFC 1939 7: 1 to 70 characters from 0x21 to 0x7E; another mailbox of the same name gives others."""
    largest = Maildrop(4_294_967_295, [(4_294_967_295, 1)]).unique_id(1)
    assert len(largest) <= 70
    assert all(0x21 <= ord(char) <= 0x7E for char in largest)
    assert drop().unique_id(1) == drop().unique_id(1) != Maildrop(8, [(10, 100)]).unique_id(1)


def test_a_large_maildrop_is_small_in_memory() -> None:
    maildrop = Maildrop(1, ((uid, uid) for uid in range(1, 100_001)))
    assert maildrop._uids.itemsize * len(maildrop._uids) == 800_000
    assert maildrop.octets == 100_000 * 100_001 // 2


def test_unique_ids_of_the_mailboxs_own_go_before() -> None:
    maildrop = Maildrop(8, [(10, 1), (11, 1), (12, 1)], unique_ids={10: "theirs!~", 11: "not one", 12: "x" * 71})
    assert [maildrop.unique_id(number) for number in (1, 2, 3)] == ["theirs!~", "8.11", "8.12"]
