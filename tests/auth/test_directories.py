"""Who is a user without an account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.cred.checkers import FilePasswordDB
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from mailhub.auth.directories import Directories, DirectoryLimits, GuardedDirectory, directory_of
from mailhub.errors import NoSuchUser, NotPermitted, StoreUnavailable, TemporaryError
from mailhub.guard import Guard
from mailhub.testing.waiting import result_of
from mailhub.threads import InlineThreads

ANN = "ann@xx.example"


class Asked:
    """A directory that gives what it is told to, and knows how often it was asked."""

    def __init__(self, give: Callable[[str], Any]) -> None:
        self.give = give
        self.calls: list[str] = []

    def exists(self, user: str) -> Any:
        self.calls.append(user)
        return self.give(user)


def raising(error: BaseException) -> Asked:
    def give(user: str) -> Any:
        raise error

    return Asked(give)


class Store:
    makes_accounts: Any = True


def directories(*asked: Any, clock: Clock | None = None, store: Any = None, **limits: Any) -> Directories:
    clock = clock or Clock()
    held: Any = store or Store()
    guarded = [GuardedDirectory(one, Guard("directory", "d", __file__, clock, 5.0)) for one in asked]
    return Directories(guarded, held, clock, DirectoryLimits(**limits))


async def _yes(user: str) -> bool:
    return True


@pytest.mark.parametrize("give", [lambda user: True, _yes, lambda user: succeed(True)])
def test_an_answer_may_come_in_any_way(give: Callable[[str], Any]) -> None:
    assert result_of(directories(Asked(give)).exists(ANN)) is True


def test_they_are_asked_in_turn_until_one_says_yes() -> None:
    no, yes, last = Asked(lambda _: False), Asked(lambda _: True), Asked(lambda _: True)
    assert result_of(directories(no, yes, last).exists(ANN))
    assert (no.calls, yes.calls, last.calls) == ([ANN], [ANN], [])
    assert not result_of(directories(no, no).exists(ANN))
    assert not result_of(directories().exists(ANN))


def test_no_such_user_is_a_no() -> None:
    assert not result_of(directories(raising(NoSuchUser())).exists(ANN))


@pytest.mark.parametrize(
    "broken",
    [
        raising(OSError("no route to host")),
        raising(SystemExit(1)),
        raising(NotPermitted("bind refused")),
        raising(StoreUnavailable()),
        raising(TemporaryError("go away", status="4.7.1")),
        Asked(lambda _: None),
        Asked(lambda _: "yes"),
        Asked(lambda _: 1),
        object(),
    ],
)
def test_what_is_no_answer_is_never_a_no(broken: Any) -> None:
    yes, no = Asked(lambda _: True), Asked(lambda _: False)
    with pytest.raises(TemporaryError) as raised:
        result_of(directories(broken, no).exists(ANN))
    assert (raised.value.status, raised.value.text) == ("4.3.0", TemporaryError.default_text)
    assert result_of(directories(broken, yes).exists(ANN))


def test_one_that_never_answers_is_waited_for_once_in_a_while() -> None:
    clock = Clock()
    silent = Asked(lambda _: Deferred())
    known = directories(silent, clock=clock)
    for number in range(6):
        asked = Deferred.fromCoroutine(known.exists(f"{number}@xx.example"))
        clock.advance(5)
        assert asked.called
        failures: list[Any] = []
        asked.addErrback(failures.append)
        assert failures[0].check(TemporaryError)
    assert len(silent.calls) == 5  # it rests


def test_names_for_which_one_fails_do_not_keep_it_from_knowing_others() -> None:
    """Anybody may send such names."""
    known = directories(Asked(lambda user: user == ANN or 1 // 0))
    for number in range(20):
        with pytest.raises(TemporaryError):
            result_of(known.exists(f"{number}@xx.example"))
    assert result_of(known.exists(ANN))


def test_answers_are_remembered_for_a_time_and_in_number() -> None:
    clock = Clock()
    asked = Asked(lambda user: user == ANN)
    known = directories(asked, clock=clock, yes_seconds=60, no_seconds=5, answers=2)
    for _ in range(3):
        assert result_of(known.exists(ANN))
        assert not result_of(known.exists("ben@xx.example"))
    assert len(asked.calls) == 2
    clock.advance(5)
    result_of(known.exists("ben@xx.example"))
    result_of(known.exists(ANN))
    assert asked.calls[2:] == ["ben@xx.example"]
    clock.advance(55)
    result_of(known.exists(ANN))
    assert asked.calls[3:] == [ANN]
    result_of(known.exists("eve@xx.example"))
    result_of(known.exists("ida@xx.example"))
    result_of(known.exists(ANN))
    assert asked.calls[-1] == ANN


def test_a_failure_is_not_remembered() -> None:
    asked = Asked(lambda _: None)
    known = directories(asked)
    with pytest.raises(TemporaryError):
        result_of(known.exists(ANN))
    asked.give = lambda _: True
    assert result_of(known.exists(ANN))


def test_where_the_store_makes_no_accounts_nobody_else_is_asked() -> None:
    asked = Asked(lambda _: True)
    store = Store()
    store.makes_accounts = False
    assert not result_of(directories(asked, store=store).exists(ANN))
    store.makes_accounts = lambda user: user == ANN
    assert not result_of(directories(asked, store=store).exists("ben@xx.example"))
    assert result_of(directories(asked, store=store).exists(ANN))
    assert asked.calls == [ANN]


def test_a_password_file_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "people"
    file.write_text(f"{ANN}:secret\n")
    found = directory_of(FilePasswordDB(str(file)), InlineThreads())  # type: ignore[no-untyped-call]
    known = directories(found, yes_seconds=0, no_seconds=0)
    assert (result_of(known.exists(ANN)), result_of(known.exists("ben@xx.example"))) == (True, False)
    file.unlink()
    with pytest.raises(TemporaryError):
        result_of(known.exists("ben@xx.example"))


@attrs.frozen
class _Dumb:
    credentialInterfaces = ()


def test_a_checker_that_cannot_tell_is_none() -> None:
    assert directory_of(_Dumb(), InlineThreads()) is None
