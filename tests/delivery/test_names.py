"""Domains and aliases of configuration and database together, and when the database is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from mailhub.delivery.names import FRESH_SECONDS, LocalNames, NamesInFile
from mailhub.delivery.pipeline import Pipeline
from mailhub.delivery.screens import Screening
from mailhub.errors import MailError, NoSuchUser, NotPermitted, StoreUnavailable, TemporaryError
from mailhub.interfaces import INames, KeptNames, Origin
from mailhub.message.address import Address
from mailhub.message.aliases import AliasTable
from mailhub.message.envelope import Mail, Recipient
from mailhub.store.memory.database import MemoryNames
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import Commits, KnownAccounts, environment
from tests.delivery.routers import standard_routing

OUTSIDE = Origin("smtp", "192.0.2.9", "s1", helo="client.example")


@implementer(INames)
class CountedNames(MemoryNames):
    """Counts the readings; `broken` makes them fail."""

    readings = 0
    broken = False

    async def kept(self, newer_than: int = -1) -> KeptNames | None:
        self.readings += 1
        if self.broken:
            raise StoreUnavailable()
        return await super().kept(newer_than)


class Stage:
    """A pipeline with one domain and one alias in its configuration."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.table = CountedNames()
        domains = frozenset({"xx.example"})
        aliases = AliasTable.parse({"both@xx.example": ["a@xx.example"]}, domains)
        self.names = LocalNames(NamesInFile(domains, aliases), self.table, self.clock)
        store: Any = KnownAccounts("a@xx.example", "b@xx.example", "a@new.example")
        queue: Any = Commits(store)
        self.pipeline = Pipeline(
            hostname="mx.xx.example",
            names=self.names,
            environment=environment(self.clock),
            store=store,
            queue=queue,
            routing=standard_routing("mx.xx.example", self.names, store, {}),
            policies=Screening([], self.clock),
        )

    def targets(self, recipient: str) -> list[str]:
        transaction = result_of(self.pipeline.begin(OUTSIDE, Mail(Address("s", "zz.example"))))
        result_of(transaction.recipient(Recipient(Address.parse(recipient))))
        return [route.target for route in transaction._accepted[0].routes]

    def refused(self, recipient: str) -> type[MailError]:
        with pytest.raises(MailError) as caught:
            self.targets(recipient)
        return type(caught.value)

    def add_alias(self, name: str, targets: Sequence[str]) -> None:
        result_of(self.table.add_alias(name, targets))


def test_a_domain_and_an_alias_added_count_at_once_though_the_clock_stands_still() -> None:
    stage = Stage()
    assert stage.refused("a@new.example") is NotPermitted
    assert stage.refused("sales@xx.example") is NoSuchUser
    result_of(stage.table.add_domain("new.example"))
    assert stage.targets("a@new.example") == ["a@new.example"]
    stage.add_alias("sales@xx.example", ["b@xx.example"])
    assert stage.targets("sales@xx.example") == ["b@xx.example"]
    stage.add_alias("@new.example", ["b@xx.example"])
    assert stage.targets("anybody@new.example") == ["b@xx.example"]


def test_what_was_taken_away_is_forgotten_within_a_tenth_of_a_second() -> None:
    stage = Stage()
    stage.add_alias("sales@xx.example", ["b@xx.example"])
    assert stage.targets("sales@xx.example") == ["b@xx.example"]
    result_of(stage.table.remove_alias("sales@xx.example"))
    stage.clock.advance(FRESH_SECONDS)
    assert stage.refused("sales@xx.example") is NoSuchUser


def test_the_database_is_seldom_asked_for_what_is_known() -> None:
    stage = Stage()
    for _ in range(5):
        stage.targets("both@xx.example")
    assert stage.table.readings == 1
    stage.clock.advance(FRESH_SECONDS)
    stage.targets("both@xx.example")
    assert stage.table.readings == 2


def test_the_configuration_comes_first() -> None:
    stage = Stage()
    stage.add_alias("both@xx.example", ["b@xx.example"])
    assert stage.targets("both@xx.example") == ["a@xx.example"]
    stage.names.replace(NamesInFile(frozenset({"xx.example"})))
    assert stage.targets("both@xx.example") == ["b@xx.example"]


def test_another_configuration_keeps_what_the_database_has() -> None:
    stage = Stage()
    result_of(stage.table.add_domain("new.example"))
    stage.add_alias("sales@xx.example", ["a@new.example"])
    assert stage.targets("sales@xx.example") == ["a@new.example"]
    stage.names.replace(NamesInFile(frozenset({"yy.example"})))
    assert stage.names.domains == {"yy.example", "new.example"}
    assert stage.refused("sales@xx.example") is NotPermitted  # its domain is no longer ours
    stage.names.replace(NamesInFile(frozenset({"xx.example"})))
    assert stage.targets("sales@xx.example") == ["a@new.example"]


def test_a_database_that_does_not_answer_refuses_nobody_for_good() -> None:
    stage = Stage()
    stage.table.broken = True
    assert stage.targets("both@xx.example") == ["a@xx.example"]
    assert issubclass(stage.refused("sales@xx.example"), TemporaryError)


def test_who_is_taken_at_once_is_looked_for_again_when_names_have_changed() -> None:
    stage = Stage()
    assert stage.targets("a@xx.example") == ["a@xx.example"]
    transaction = result_of(stage.pipeline.begin(OUTSIDE, Mail(Address("s", "zz.example"))))
    to = Recipient(Address.parse("a@xx.example"))
    assert transaction.recipient_at_once(to)
    stage.add_alias("a@xx.example", ["b@xx.example"])
    stage.clock.advance(1)
    assert not transaction.recipient_at_once(to)  # the names are not fresh
    assert stage.targets("a@xx.example") == ["b@xx.example"]
    assert not transaction.recipient_at_once(to)
