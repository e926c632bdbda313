"""Loops end, and what stands before a body is read as a part of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery.dead_ends import LOOP
from mailhub.delivery.loops import Prefixed, break_loops, returning
from mailhub.delivery.plan import Accepted
from mailhub.errors import PermanentError
from mailhub.interfaces import STORE, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Recipient
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import Octets

LIST, PLAIN = Address("list", "xx.example"), Address("a", "xx.example")
KEPT = Route(STORE, PLAIN, "a@xx.example", ("list@xx.example",))
SENT = Route("smtp", Address("b", "yy.example"), "", ("list@xx.example", "more@xx.example"))
ALSO = Route(STORE, Address("c", "xx.example"), "c@xx.example", ("list@xx.example",))  # has not got it
STRAIGHT = Route(STORE, PLAIN, "a@xx.example")


@pytest.mark.parametrize(
    ("routes", "seen", "left"),
    [
        ((KEPT, SENT), set(), (KEPT, SENT)),
        ((KEPT, SENT), {"other@xx.example", "a@xx.example"}, (KEPT, SENT)),
        ((KEPT, SENT), {"more@xx.example"}, (KEPT,)),
        ((KEPT, SENT), {"list@xx.example"}, ()),
        ((ALSO, SENT), {"list@xx.example"}, (ALSO,)),
        ((KEPT, ALSO, SENT), {"list@xx.example"}, (ALSO,)),
        ((STRAIGHT,), {"a@xx.example"}, (STRAIGHT,)),
        ((), {"list@xx.example"}, ()),
    ],
)
def test_what_is_left_of_a_recipient(routes: tuple[Route, ...], seen: set[str], left: tuple[Route, ...]) -> None:
    accepted = Accepted(Recipient(LIST), routes)
    assert break_loops([accepted], seen, {KEPT}) == [Accepted(Recipient(LIST), left)]
    assert {*returning([accepted], seen)} <= {KEPT, ALSO}
    assert (KEPT in returning([accepted], seen)) == (KEPT in routes and "list@xx.example" in seen)


def test_who_only_sends_on_has_delivered_to_nobody() -> None:
    going, staying = Accepted(Recipient(LIST), (SENT,)), Accepted(Recipient(PLAIN), (STRAIGHT,))
    with pytest.raises(PermanentError, match=r"5\.4\.6"):
        break_loops([going], {"list@xx.example"}, ())
    assert break_loops([going, staying], {"list@xx.example"}, ()) == [
        Accepted(Recipient(LIST), (Route(LOOP, LIST),)),
        staying,
    ]


@given(st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 20), st.integers(-1, 20))
def test_a_prefix_is_read_like_a_part_of_the_body(prefix: bytes, body: bytes, offset: int, length: int) -> None:
    reader = Prefixed(prefix, Octets(body))
    whole = prefix + body
    assert reader.size == len(whole)
    assert result_of(reader.read(offset, length)) == (whole[offset:] if length < 0 else whole[offset : offset + length])
