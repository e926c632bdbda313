"""A login that is no longer good ends its sessions, also when another process made the change."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub.auth.authenticator import Authenticator
from mailhub.auth.checkers import AccountsChecker, FirstMatch, VerifiedCache
from mailhub.auth.passwords import Passwords, hash_password
from mailhub.auth.realm import MailRealm
from mailhub.auth.sessions import OpenSessions
from mailhub.credentials import PlainCredentials
from mailhub.errors import StoreUnavailable
from mailhub.interfaces import ISubmitter, Origin
from mailhub.store.sqlite.database import Database
from mailhub.testing.waiting import result_of
from mailhub.threads import InlineThreads
from tests.hashing import CHEAP
from tests.store.harness import FAST, environment

ANN, BOB = "ann@xx.example", "bob@xx.example"


@attrs.define
class House:
    """A server, and the database as another process has it open."""

    clock: Clock
    server: Database
    gate: Authenticator
    sessions: OpenSessions
    command: Database
    ended: list[str] = attrs.field(factory=list)

    def login(self, session: str, user: str, password: str = "sesam") -> None:
        origin = Origin("imap", peer="192.0.2.7", session_id=session)
        credentials = PlainCredentials("", user, password)
        result_of(self.gate.login(credentials, ISubmitter, origin, lambda: self.ended.append(session)))

    def later(self) -> list[str]:
        self.clock.advance(1)
        return sorted(self.ended)


@pytest.fixture
def house(tmp_path: Path) -> Any:
    world = environment(tmp_path)
    clock: Any = world.clock
    server = Database(world, FAST, create=True)
    result_of(server.start())
    command = Database(environment(tmp_path), FAST, owner=False)
    result_of(command.start())
    for user in (ANN, BOB):
        result_of(command.accounts.add(user, hash_password("sesam", CHEAP)))
    checker = AccountsChecker(server.accounts, Passwords(InlineThreads()), VerifiedCache(random.Random(1)))
    portal = Portal(MailRealm(server.store, Any), [FirstMatch([checker])])  # type: ignore[arg-type]
    sessions = OpenSessions(server.accounts, clock)
    yield House(clock, server, Authenticator(portal, clock, sessions=sessions), sessions, command)
    result_of(command.stop())
    result_of(server.stop())


def test_a_new_password_ends_every_session_of_the_user_and_no_other(house: House) -> None:
    for session, user in (("a1", ANN), ("a2", ANN), ("b1", BOB)):
        house.login(session, user)
    assert house.later() == []
    result_of(house.command.accounts.set_password(ANN, hash_password("new", CHEAP)))
    with capturedLogs() as logs:
        assert house.later() == ["a1", "a2"]
    assert [formatEvent(event) for event in logs] == [
        f"session revoked: session={session} user={ANN} reason='the password was changed'" for session in ("a1", "a2")
    ]
    house.login("a3", ANN, "new")
    assert house.later() == ["a1", "a2"]


def test_disabling_and_removing_end_sessions(house: House) -> None:
    house.login("a", ANN)
    house.login("b", BOB)
    result_of(house.command.accounts.set_enabled(ANN, False))
    assert house.later() == ["a"]
    result_of(house.command.accounts.remove(BOB))
    assert house.later() == ["a", "b"]


def test_a_session_that_is_over_is_not_ended(house: House) -> None:
    before = house.clock.getDelayedCalls()
    house.login("a", ANN)
    house.gate.logged_out("a")
    house.gate.logged_out("a")
    result_of(house.command.accounts.set_enabled(ANN, False))
    assert house.later() == []
    assert house.clock.getDelayedCalls() == before, "nobody is there: nothing is asked"


def test_a_change_while_the_password_is_verified_is_seen(house: House) -> None:
    """The table was asked, and had nothing to say, between the verification and the session's entry."""
    house.login("b", BOB)
    accounts, find = house.server.accounts, house.server.accounts.find

    async def find_and_change(user: str) -> Any:
        account = await find(user)
        accounts.find = find  # type: ignore[method-assign]
        await house.command.accounts.set_enabled(ANN, False)
        house.clock.advance(1)
        return account

    accounts.find = find_and_change  # type: ignore[method-assign]
    house.login("a", ANN)
    assert house.ended == ["a"]


def test_a_store_in_trouble_is_asked_again(house: House) -> None:
    house.login("a", ANN)
    accounts, changed = house.server.accounts, house.server.accounts.changed

    async def trouble(after: int) -> Any:
        raise StoreUnavailable

    accounts.changed = trouble  # type: ignore[method-assign]
    result_of(house.command.accounts.set_enabled(ANN, False))
    assert house.later() == []
    accounts.changed = changed  # type: ignore[method-assign]
    assert house.later() == ["a"]


def test_one_that_cannot_be_ended_keeps_no_other(house: House) -> None:
    house.login("b", ANN)
    origin = Origin("imap", peer="192.0.2.7", session_id="a")

    def broken() -> None:
        raise ZeroDivisionError

    result_of(house.gate.login(PlainCredentials("", ANN, "sesam"), ISubmitter, origin, broken))
    house.login("c", ANN)
    result_of(house.command.accounts.set_enabled(ANN, False))
    with capturedLogs():
        assert house.later() == ["b", "c"]


def test_users_of_other_checkers_are_left_alone(house: House) -> None:
    class Everybody:
        async def login(self, *_: Any) -> Any:
            return (ISubmitter, attrs.make_class("Found", ["user"])(ANN), None)

    gate = Authenticator(Everybody(), house.clock, sessions=house.sessions)  # type: ignore[arg-type]
    origin = Origin("imap", peer="192.0.2.7", session_id="a")
    Deferred.fromCoroutine(
        gate.login(PlainCredentials("", ANN, "x"), ISubmitter, origin, lambda: house.ended.append("a"))
    )
    result_of(house.command.accounts.remove(ANN))
    assert house.later() == []
