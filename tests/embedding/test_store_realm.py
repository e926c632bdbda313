"""A store behind a portal of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailhub.api import IMailAccount, NoSuchUser, SimpleStore, StoreRealm
from tests.embedding.rig import environment

ANN = "ann@example.org"


class Empty(SimpleStore):
    def users(self) -> list[str]:
        return [ANN]

    def messages(self, user: str, folder: str, /) -> list[str]:
        return []

    def read(self, user: str, folder: str, key: Any, /) -> bytes:
        return b""


class Reactor(Clock):
    """A clock that ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Any] = []

    def addSystemEventTrigger(self, phase: str, event: str, function: Any) -> None:
        assert (phase, event) == ("before", "shutdown")
        self.ends.append(function)


def asked(realm: StoreRealm, avatar_id: Any) -> Any:
    given: list[Any] = []
    waiting: Deferred[Any] = realm.requestAvatar(avatar_id, None, IMailAccount)
    waiting.addBoth(given.append)
    return given[0]


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def realm(tmp_path: Path, reactor: Reactor) -> StoreRealm:
    return StoreRealm(Empty, data=tmp_path, environment=attrs.evolve(environment(reactor)))


@pytest.mark.parametrize("avatar_id", [ANN, ANN.encode(), "Ann@EXAMPLE.org"])
def test_an_avatar_id_is_octets_or_text(realm: StoreRealm, avatar_id: Any) -> None:
    assert asked(realm, avatar_id)[1].user == ANN


@pytest.mark.parametrize("avatar_id", [None, b"", "a\0b@example.org", b"\xff", 5])
def test_what_is_no_name_is_a_fault(realm: StoreRealm, avatar_id: Any) -> None:
    assert asked(realm, avatar_id).check(ValueError)


def test_a_name_that_the_store_does_not_know_is_told(realm: StoreRealm) -> None:
    failure = asked(realm, b"ben@example.org")
    assert failure.check(NoSuchUser)
    assert failure.value.detail == "the store has no user 'ben@example.org'"


def test_it_is_stopped_once_when_the_reactor_is(realm: StoreRealm, reactor: Reactor) -> None:
    assert not reactor.ends
    asked(realm, ANN)
    asked(realm, ANN)
    (end,) = reactor.ends
    end()
    assert not realm._started
    assert asked(realm, ANN)[1].user == ANN
    assert len(reactor.ends) == 1
