"""Delivery into a store outside the queue's transactions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from mailhub.delivery.local import StoreAgent
from mailhub.errors import StoreUnavailable
from mailhub.interfaces import Delivery, Environment, QueuedRecipient, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, State
from mailhub.message.record import READ_ONLY
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database
from mailhub.testing.waiting import result_of
from mailhub.threads import InlineThreads
from tests.delivery.doubles import Octets, environment
from tests.protocols.rights import RestrictedStore

USER = "a@xx.example"
MESSAGE = b"Subject: s\r\n\r\n" + b"line\r\n" * 20_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    nothing: Any = None
    made = Database(
        Environment(Clock(), InlineThreads(), nothing, nothing, Random(1), tmp_path),
        StoreLimits(durable=False),
        create=True,
    )
    result_of(made.start())
    yield made
    result_of(made.stop())


def deliver(store: Any, *, attempt_of: str = "m1", row: int = 1, body: Any = None, **route: Any) -> Outcome:
    agent = StoreAgent(store, environment())
    rows = (QueuedRecipient(row, Route("store", Address("a", "xx.example"), USER, **route), 0, 0),)
    delivery = Delivery(attempt_of, Mail(Address("s", "yy.example")), USER, rows, body or Octets(MESSAGE))
    outcomes = result_of(agent.deliver(delivery))
    result_of(agent.stop())
    return outcomes[row]


def stored(database: Database) -> list[bytes]:
    mailbox = result_of(result_of(database.store.account(USER)).mailbox("INBOX"))
    return [result_of(result_of(mailbox.open(entry.uid)).read()) for entry in result_of(mailbox.entries())]


def test_the_message_arrives_once_with_its_return_path_however_often_it_is_tried(database: Database) -> None:
    result_of(database.accounts.add(USER, "", 0))
    for _ in range(3):
        assert deliver(database.store).state is State.DELIVERED
    assert stored(database) == [b"Return-Path: <s@yy.example>\r\n" + MESSAGE]
    assert deliver(database.store, attempt_of="m2").state is State.DELIVERED
    assert len(stored(database)) == 2


def test_inbox_has_one_copy_however_many_mailboxes_it_stands_in_for_and_whenever(database: Database) -> None:
    result_of(database.accounts.add(USER, "", 0))
    account = result_of(database.store.account(USER))
    result_of(account.create("Lists"))
    for row, mailbox in enumerate(("Gone", "Lists", "", "Gone too"), 1):
        assert deliver(database.store, row=row, mailbox=mailbox).state is State.DELIVERED
    assert len(stored(database)) == 1
    assert len(result_of(result_of(account.mailbox("Lists")).entries())) == 1


@pytest.mark.parametrize(("named", "found"), [("", "INBOX"), ("Junk", "Junk"), ("Lists", "INBOX"), ("inbox", "INBOX")])
def test_the_route_says_the_mailbox(database: Database, named: str, found: str) -> None:
    """A usual one is made where it is missing; for others INBOX stands in."""
    result_of(database.accounts.add(USER, "", 0))
    account = result_of(database.store.account(USER))
    result_of(account.delete("Junk"))
    outcome = deliver(database.store, mailbox=named, flags=frozenset({"\\Seen", "$Junk"}))
    (entry,) = result_of(result_of(account.mailbox(found)).entries())
    assert entry.flags == {"\\Seen", "$Junk"}
    assert (outcome.state, outcome.reply.lower()) == (State.DELIVERED, f"{found} 1".lower())


def test_keywords_for_which_there_is_no_room_keep_no_mail_out(database: Database) -> None:
    result_of(database.accounts.add(USER, "", 0))
    flags = frozenset({"\\Flagged", *(f"k{number}" for number in range(500))})
    assert deliver(database.store, flags=flags).state is State.DELIVERED
    (entry,) = result_of(result_of(result_of(database.store.account(USER)).mailbox("INBOX")).entries())
    assert entry.flags == {"\\Flagged"}


def test_what_the_store_says_becomes_the_outcome(database: Database) -> None:
    gone = deliver(database.store)
    assert (gone.state, gone.status) == (State.FAILED, "5.1.1")
    result_of(database.accounts.add(USER, "", 1000))
    full = deliver(database.store)
    assert (full.state, full.status) == (State.FAILED, "5.2.2")


def test_a_body_that_cannot_be_read_delays(database: Database) -> None:
    result_of(database.accounts.add(USER, "", 0))

    class Broken(Octets):
        async def read(self, offset: int = 0, length: int = -1) -> bytes:
            raise StoreUnavailable

    late = deliver(database.store, body=Broken(MESSAGE))
    assert (late.state, late.status) == (State.DELAYED, "4.3.0")
    assert stored(database) == []


class TestMailboxesThatTakeNothing:
    """A store may refuse what it likes: mail is never lost by it."""

    def test_what_cannot_be_made_goes_to_inbox(self, database: Database) -> None:
        result_of(database.accounts.add(USER, "", 0))
        result_of(result_of(database.store.account(USER)).delete("Junk"))
        outcome = deliver(RestrictedStore(database.store, {}, fixed=True), mailbox="Junk")
        assert (outcome.state, outcome.reply) == (State.DELIVERED, "INBOX 1")

    def test_what_takes_nothing_goes_to_inbox_with_the_flags_that_can_be_kept(self, database: Database) -> None:
        result_of(database.accounts.add(USER, "", 0))
        store = RestrictedStore(database.store, {"Junk": READ_ONLY, "INBOX": frozenset("lris")})
        for _ in range(2):  # and once
            outcome = deliver(store, mailbox="Junk", flags=frozenset({"\\Seen", "$Junk"}))
            assert (outcome.state, outcome.reply) == (State.DELIVERED, "INBOX 1")
        (entry,) = result_of(result_of(result_of(database.store.account(USER)).mailbox("INBOX")).entries())
        assert entry.flags == {"\\Seen"}

    def test_an_inbox_that_takes_nothing_is_an_end(self, database: Database) -> None:
        result_of(database.accounts.add(USER, "", 0))
        outcome = deliver(RestrictedStore(database.store))
        assert (outcome.state, outcome.status) == (State.FAILED, "5.2.1")
