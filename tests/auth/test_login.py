"""From credentials to an avatar: checkers, FirstMatch, realm and authenticator together."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.auth import checkers as checkers_module
from mailhub.auth.authenticator import Authenticator
from mailhub.auth.checkers import AccountsChecker, FirstMatch, Login, VerifiedCache
from mailhub.auth.foreign_realm import Avatars, GuardedRealm
from mailhub.auth.passwords import Passwords, hash_password
from mailhub.auth.realm import MailRealm, Submitter
from mailhub.auth.throttle import Throttle, Turns
from mailhub.credentials import PlainCredentials
from mailhub.errors import AuthenticationFailed, Busy, ConfigurationError, NoSuchUser, NotYetKnown, TemporaryError
from mailhub.guard import Guard
from mailhub.interfaces import Account, IAccounts, IMailAccount, IMailStore, ISubmitter, IThreads, Origin, Route
from mailhub.message.address import Address
from mailhub.testing.waiting import result_of
from tests.hashing import CHEAP

USER = "ann@xx.example"
ORIGIN = Origin("imaps", peer="192.0.2.7", session_id="s1")


@implementer(IThreads)
class CountingThreads:
    """Runs inline and counts what is worth a thread."""

    inline = True
    calls = 0

    async def run(self, function: Callable[..., Any], *args: object) -> Any:
        self.calls += 1
        return function(*args)

    def call_in_reactor(self, function: Callable[..., object], *args: object) -> None:
        function(*args)

    def start_loop(self, name: str, loop: Callable[[], None]) -> None:
        raise AssertionError("not used")


@implementer(IAccounts)
@attrs.define
class Accounts:
    rows: dict[str, Account]

    async def find(self, user: str) -> Account | None:
        return self.rows.get(user)

    async def add(self, user: str, password_hash: str, quota: int = 0) -> None:
        raise AssertionError("not used")

    async def remove(self, user: str) -> None:
        raise AssertionError("not used")

    async def set_password(self, user: str, password_hash: str) -> None:
        self.rows[user] = Account(user, password_hash, 0)

    async def set_enabled(self, user: str, enabled: bool) -> None:
        raise AssertionError("not used")

    async def set_quota(self, user: str, quota: int) -> None:
        raise AssertionError("not used")

    async def all(self) -> Sequence[Account]:
        return list(self.rows.values())

    async def changed(self, after: int) -> tuple[int, Sequence[str]]:
        raise AssertionError("not used")


@attrs.define
class AccountStandIn:
    user: str
    closed: bool = False

    async def logout(self) -> None:
        self.closed = True


@implementer(IMailStore)
@attrs.define
class StoreStandIn:
    """Only what the realm asks of a store. `missing` have no account yet."""

    missing: set[str] = attrs.field(factory=set)
    made: list[str] = attrs.field(factory=list)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def exists(self, user: str) -> bool:
        return user not in self.missing

    async def account(self, user: str, create: bool = False) -> Any:
        if user.startswith("gone"):
            raise NoSuchUser
        if create and user in self.missing:
            self.made.append(user)
        return AccountStandIn(user)

    async def check_quota(self, user: str, size: int) -> None: ...


@implementer(ICredentialsChecker)
class Broken:
    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Any:
        raise RuntimeError("directory server is on fire")


@implementer(ICredentialsChecker)
class HashedOnly:
    credentialInterfaces = (IUsernameHashedPassword,)

    def requestAvatarId(self, credentials: Any) -> Any:
        raise UnauthorizedLogin


async def no_routes(address: Address) -> Sequence[Route]:
    raise NoSuchUser


@attrs.define
class House:
    clock: Clock
    threads: CountingThreads
    accounts: Accounts
    authenticator: Authenticator
    store: StoreStandIn

    def login(self, user: str, password: str, authorization_id: str = "", avatar: Any = IMailAccount) -> Any:
        return result_of(self.authenticator.login(PlainCredentials(authorization_id, user, password), avatar, ORIGIN))


def house(*more: ICredentialsChecker, default_domain: str = "", throttle: Throttle | None = None) -> House:
    clock, threads = Clock(), CountingThreads()
    accounts = Accounts(
        {
            USER: Account(USER, hash_password("sesam", CHEAP), 0),
            "off@xx.example": Account("off@xx.example", hash_password("sesam", CHEAP), 0, enabled=False),
            "gone@xx.example": Account("gone@xx.example", hash_password("sesam", CHEAP), 0),
        }
    )
    table = AccountsChecker(
        accounts, Passwords(threads, hash_password("of no account", CHEAP)), VerifiedCache(random.Random(1))
    )
    store = StoreStandIn()
    portal = Portal(MailRealm(store, no_routes, default_domain), [FirstMatch([table, *more])])
    gate = Authenticator(portal, clock, throttle or Throttle(free=1000, limit=10_000), default_domain)
    return House(clock, threads, accounts, gate, store)


@pytest.mark.parametrize("name", [USER, "Ann@XX.example", "ANN@xx.EXAMPLE"])
def test_a_login_gives_the_account_in_its_canonical_form(name: str) -> None:
    assert house().login(name, "sesam").user == USER


def test_the_default_domain_completes_a_bare_name() -> None:
    assert house(default_domain="xx.example").login("ann", "sesam").user == USER
    with pytest.raises(AuthenticationFailed):
        house().login("ann", "sesam")


def test_submission_gets_a_submitter() -> None:
    avatar = house().login(USER, "sesam", avatar=ISubmitter)
    assert ISubmitter.providedBy(avatar)
    assert avatar.user == USER


def test_who_logs_in_to_send_gets_an_account_for_the_answers() -> None:
    elsewhere = InMemoryUsernamePasswordDatabaseDontUse()
    users = ("guest@xx.example", "gone-guest@xx.example", USER)
    for user in users:
        elsewhere.addUser(user.encode(), b"sesam")
    inside = house(elsewhere)
    inside.store.missing = {"guest@xx.example", "gone-guest@xx.example"}
    for user in users:
        assert inside.login(user, "sesam", avatar=ISubmitter).user == user
    assert inside.store.made == ["guest@xx.example"]


REFUSALS = [
    (USER, "wrong", ""),
    (USER, "", ""),
    ("nobody@xx.example", "sesam", ""),
    ("off@xx.example", "sesam", ""),
    ("gone@xx.example", "sesam", ""),
    ("not an address", "sesam", ""),
    ("@", "sesam", ""),
    (USER, "sesam", "boss@xx.example"),
]


@pytest.mark.parametrize(("user", "password", "authorization_id"), REFUSALS)
def test_every_refusal_looks_the_same(user: str, password: str, authorization_id: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        house().login(user, password, authorization_id)
    assert (caught.value.text, caught.value.status, caught.value.detail) == ("Authentication failed", "5.7.8", "")


def test_unknown_disabled_and_wrong_cost_one_verification_each() -> None:
    for user, password in ((USER, "wrong"), ("nobody@xx.example", "sesam"), ("off@xx.example", "sesam")):
        here = house()
        with pytest.raises(AuthenticationFailed):
            here.login(user, password)
        assert here.threads.calls == 1, user


def test_a_verified_password_is_not_hashed_again_until_it_changes() -> None:
    here = house()
    for _ in range(3):
        here.login(USER, "sesam")
    assert here.threads.calls == 1
    result_of(here.accounts.set_password(USER, hash_password("neu", CHEAP)))
    with pytest.raises(AuthenticationFailed):
        here.login(USER, "sesam")
    assert here.login(USER, "neu").user == USER
    with pytest.raises(AuthenticationFailed):
        here.login(USER, "sesam")


def test_the_cache_is_bounded_and_keeps_no_password() -> None:
    cache = VerifiedCache(random.Random(1), size=2)
    for name in ("a", "b", "c"):
        cache.remember(name, "geheim", "hash")
    assert [cache.knows(name, "geheim", "hash") for name in ("a", "b", "c")] == [False, True, True]
    # The border between user and password is part of what is digested.
    cache.remember("ab", "c", "hash")
    assert not cache.knows("a", "bc", "hash")
    assert "geheim" not in repr(vars(cache))


def test_checkers_are_asked_in_turn() -> None:
    memory = InMemoryUsernamePasswordDatabaseDontUse(**{"bob@xx.example": b"word"})
    here = house(memory)
    assert here.login("bob@xx.example", "word").user == "bob@xx.example"
    assert here.login(USER, "sesam").user == USER
    with pytest.raises(AuthenticationFailed):
        here.login("bob@xx.example", "sesam")


def test_a_broken_checker_opens_no_door_and_closes_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkers_module, "_log", SilentLog())
    here = house(Broken())
    assert here.login(USER, "sesam").user == USER
    with pytest.raises(TemporaryError) as caught:
        here.login(USER, "wrong")
    assert caught.value.status == "4.7.0"
    behind = FirstMatch([Broken(), InMemoryUsernamePasswordDatabaseDontUse(ann=b"x")])
    assert ICredentialsChecker.providedBy(behind)


@pytest.mark.parametrize("name", ["eve@xx.example", b"eve@xx.example"])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_checker_may_give_its_answer_in_any_way(name: str | bytes, asynchronous: bool) -> None:
    @implementer(ICredentialsChecker)
    class Plugin:
        credentialInterfaces = (IUsernamePassword,)

        def requestAvatarId(self, credentials: Any) -> Any:
            return self._later() if asynchronous else name

        async def _later(self) -> Any:
            return name

    assert house(Plugin()).login("eve@xx.example", "x").user == "eve@xx.example"


class SilentLog:
    def failure(self, *args: object, **fields: object) -> None: ...


def test_a_checker_that_takes_no_passwords_is_a_configuration_mistake() -> None:
    with pytest.raises(ConfigurationError, match="HashedOnly"):
        FirstMatch([HashedOnly()])


def test_failures_are_delayed_and_then_refused_without_a_check() -> None:
    here = house(throttle=Throttle(free=1, limit=2))
    with pytest.raises(AuthenticationFailed):
        here.login(USER, "wrong")
    answers: list[Any] = []
    wrong = PlainCredentials("", USER, "wrong again")
    Deferred.fromCoroutine(here.authenticator.login(wrong, IMailAccount, ORIGIN)).addErrback(answers.append)
    assert answers == []
    here.clock.advance(1)
    assert answers[0].check(AuthenticationFailed)
    calls = here.threads.calls
    with pytest.raises(Busy):
        here.login(USER, "sesam")
    assert here.threads.calls == calls


def test_guesses_made_at_the_same_time_are_no_more_than_those_made_one_after_the_other() -> None:
    asked: list[Deferred[Any]] = []

    class Slow:
        def login(self, *_: object) -> Deferred[Any]:
            asked.append(Deferred())
            return asked[-1]

    gate = Authenticator(Slow(), Clock(), Throttle(free=1000, limit=3), turns=Turns(at_once=2))  # type: ignore[arg-type]
    ends: list[Any] = []
    for number in range(20):
        guess = gate.login(PlainCredentials("", USER, f"guess {number}"), IMailAccount, ORIGIN)
        Deferred.fromCoroutine(guess).addBoth(ends.append)
    tried = 0
    while tried < len(asked):
        asked[tried].errback(UnauthorizedLogin())
        tried += 1
    assert tried == 3 + 2, "the limit, and those that were under way when it was reached"
    assert [end.type for end in ends].count(Busy) == 15


def test_who_is_known_does_not_stand_in_line_behind_guessers_of_the_same_network() -> None:
    asked: list[bytes] = []
    kept: list[Deferred[Any]] = []  # a login that nobody waits for would be collected, and the next one's turn come

    class Slow:
        def login(self, login: Login, *_: object) -> Deferred[Any]:
            asked.append(login.username)
            kept.append(Deferred())
            return kept[-1]

    throttle = Throttle()
    throttle.succeeded(ORIGIN.peer, USER, 0)
    gate = Authenticator(Slow(), Clock(), throttle, turns=Turns(at_once=2))  # type: ignore[arg-type]
    for name in ("a@xx.example", "b@xx.example", "c@xx.example", USER):
        kept.append(Deferred.fromCoroutine(gate.login(PlainCredentials("", name, "x"), IMailAccount, ORIGIN)))
    assert asked == [b"a@xx.example", b"b@xx.example", USER.encode()]


def test_the_log_line_is_stable_and_tells_no_password() -> None:
    with capturedLogs() as events, pytest.raises(AuthenticationFailed):
        house().login("evil\x0d\x0aauthenticated: x", "hunter2")
    lines = [formatEvent(event) for event in events if event.get("log_namespace") == "mailhub.auth"]
    assert len(lines) == 1
    assert lines[0].startswith(
        r"authentication failed: service=imaps user='evil\x0d\x0aauthenticated: x' peer=[192.0.2.7] session=s1"
    )
    assert "hunter2" not in repr(events)


def test_the_same_wrong_password_again_is_another_line() -> None:
    here = house()
    with capturedLogs() as events:
        for name in (USER, USER.upper()):
            with pytest.raises(AuthenticationFailed):
                here.login(name, "old")
    first, again = [formatEvent(event).partition(": ")[0] for event in events]
    assert (first, again) == ("authentication failed", "authentication failed again")


def test_who_may_send_as_whom() -> None:
    routes = {
        "ann+list@xx.example": [Route("store", Address("ann", "xx.example"), USER)],
        "sales@xx.example": [
            Route("store", Address("bob", "xx.example"), "bob@xx.example"),
            Route("store", Address("ann", "xx.example"), USER),
        ],
        "bob@xx.example": [Route("store", Address("bob", "xx.example"), "bob@xx.example")],
        "out@xx.example": [Route("smtp", Address("ann", "yy.example"))],
    }

    async def find(address: Address) -> Sequence[Route]:
        if str(address) not in routes:
            raise NotYetKnown if address.local == "later" else NoSuchUser
        return routes[str(address)]

    ann = Submitter(USER, find)
    own = ["ann@xx.example", "Ann@XX.example", "ann+list@xx.example", "sales@xx.example"]
    others = ["bob@xx.example", "out@xx.example", "ann@yy.example", "nobody@xx.example", "later@xx.example"]
    assert all(result_of(ann.may_send_as(Address.parse(text))) for text in own)
    assert not any(result_of(ann.may_send_as(Address.parse(text))) for text in others)
    assert result_of(ann.may_send_as(None))


@pytest.mark.parametrize("given", [b"\xff@xx.example", "\ud800@xx.example", b"a\0b@xx.example", "a\0b@xx.example"])
def test_an_avatar_id_that_is_no_text_is_the_checker_s_fault(given: Any) -> None:
    class Checker:
        credentialInterfaces = (IUsernamePassword,)

        def requestAvatarId(self, credentials: Any) -> Any:
            return given

    guard = Guard("checker", "strange", "strange.py", Clock())
    asked = FirstMatch([Checker()], [guard]).requestAvatarId(UsernamePassword(b"ann", b"x"))  # type: ignore[list-item]
    failures: list[Any] = []
    asked.addErrback(failures.append)
    assert failures[0].check(TemporaryError)
    assert guard.errors == 1


@pytest.mark.parametrize(("given", "asked"), [(b"Ann@XX.example", b"ann@xx.example"), (b"Ann", b"Ann"), ((), ())])
def test_a_realm_of_a_plugin_is_asked_by_the_one_form_of_an_address(given: Any, asked: Any) -> None:
    seen: list[Any] = []

    class Realm:
        def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
            seen.append(avatar_id)
            return interfaces[0], object(), lambda: None

    avatars = Avatars(Guard("realm", "office", "office.py", Clock()), {}, lambda interface, avatar: "")
    GuardedRealm(Realm(), avatars).requestAvatar(given, None, IMailAccount)
    assert seen == [asked]
