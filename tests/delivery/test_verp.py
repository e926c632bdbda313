"""Reverse-paths that name the recipient."""

from __future__ import annotations

import pytest

from mailhub.delivery.verp import verp
from mailhub.interfaces import ReversePath
from mailhub.message.address import Address

LIST = Address("list", "a.example")


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        (Address("ann", "b.example"), "list+ann=b.example"),
        (Address("n" * 49, "b.example"), f"list+{'n' * 49}=b.example"),  # 64 octets, as many as every server takes
        (Address("n" * 50, "b.example"), None),
        (Address("\u00e4", "b.example"), None),
    ],
)
def test_a_recipient_is_named_where_every_server_takes_that(recipient: Address, expected: str | None) -> None:
    found = verp(LIST, recipient, "+=")
    assert found == (expected and ReversePath(Address(expected, "a.example"), of_sender=True))
