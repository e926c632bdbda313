"""Since when a mailbox has its owner, by the table of accounts (RFC 7293 5)."""

from __future__ import annotations

from typing import Any

import pytest

from mailhub.delivery.ownership import Owners
from mailhub.errors import PermanentError
from mailhub.interfaces import STORE, Account, Route
from mailhub.message.address import Address
from mailhub.testing.waiting import result_of


class Table:
    def __init__(self, **created: int) -> None:
        self._accounts = {
            f"{name}@xx.example": Account(f"{name}@xx.example", "", 0, created=at) for name, at in created.items()
        }

    async def find(self, user: str) -> Account | None:
        return self._accounts.get(user)

    async def all(self) -> list[Account]:
        return list(self._accounts.values())


@pytest.mark.parametrize(
    ("table", "status"),
    [
        (Table(ann=60), ""),
        (Table(ann=61), "5.7.17"),
        # Of before the table had dates: at the latest when the first of those was made that have one.
        (Table(ann=0, ben=60, eve=100), ""),
        (Table(ann=0, ben=61, eve=100), "5.7.17"),
        (Table(ann=0), "5.7.19"),
        (Table(), ""),
    ],
)
def test_since_when_a_mailbox_has_its_owner(table: Any, status: str) -> None:
    owners, route = Owners(table), Route(STORE, Address("ann", "xx.example"), "ann@xx.example")
    for _ in range(2):
        found = ""
        try:
            result_of(owners.check(60, route))
        except PermanentError as error:
            found = error.status
        assert found == status
