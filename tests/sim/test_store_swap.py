"""A store whose plugin's code has changed while sessions are open on it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailhub.plugins import Component
from mailhub.store.memory import MemoryDatabase
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from tests.sim.test_simple_store import ANN, HELLO, MORE, PASSWORD, Notes, imap

CONFIG = {"store": {"type": "mine"}}


def hub(internet: Internet, kind: Any) -> Host:
    host = internet.hub("xx.example", config=CONFIG, plugins=[Component("store", "mine", kind)])
    host.add_account(ANN, PASSWORD)
    return host


def swap(host: Host, kind: Any) -> str:
    return host.reload(CONFIG, [Component("store", "mine", kind)]).fault


def notes(**mail: bytes) -> Any:
    """A simple store's class, which notes what is asked of it."""

    class Kind(Notes):
        asked: list[str] = []
        stopped = 0

        def messages(self, user: str, folder: str) -> list[str]:
            self.asked.append("messages")
            return list(mail)

        def read(self, user: str, folder: str, key: str) -> bytes:
            self.asked.append(key)
            return mail[key]

        async def stop(self) -> None:
            type(self).stopped += 1
            await super().stop()

    return Kind


def seen(client: Caller) -> list[bytes]:
    return [
        line
        for line in client.ask(b"f UID FETCH 1:* (UID RFC822.SIZE)\r\n", b"f OK").split(b"\r\n")
        if b"FETCH" in line
    ]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_simple_store_goes_on_with_the_uids_of_the_one_before(tmp_path: Path, on_disk: bool) -> None:
    first, second = notes(one=HELLO), notes(one=HELLO, two=MORE)
    with Internet(seed=1, folder=tmp_path if on_disk else None) as internet:
        if on_disk:
            (tmp_path / "1-xx.example").mkdir()
        host = hub(internet, first)
        old = imap(internet, host)
        old.ask(b"s SELECT INBOX\r\n", b"s OK")
        before = seen(old)
        assert swap(host, second) == ""
        asked = len(first.asked)
        internet.run(30)
        assert b"* 2 EXISTS" in old.ask(b"n NOOP\r\n", b"n OK")
        new = imap(internet, host)
        new.ask(b"s SELECT INBOX\r\n", b"s OK")
        assert seen(new) == seen(old)
        assert seen(new)[:1] == before
        assert b"UID 2 " in seen(new)[1]
        assert (len(first.asked), first.stopped, second.stopped) == (asked, 1, 0)
        # A third one takes over from the second.
        third = notes(two=MORE)
        assert swap(host, third) == ""
        internet.run(30)
        assert b"EXPUNGE" in new.ask(b"n NOOP\r\n", b"n OK")
        assert len(seen(new)) == 1
    assert (second.stopped, third.stopped) == (1, 1)


def test_one_that_does_not_start_changes_nothing() -> None:
    first = notes(one=HELLO)

    class Fails(notes(two=MORE)):  # type: ignore[misc]
        async def start(self) -> None:
            await super().start()
            raise OSError("no room")

    with Internet(seed=1) as internet:
        host = hub(internet, first)
        client = imap(internet, host)
        client.ask(b"s SELECT INBOX\r\n", b"s OK")
        store = host.hub.store
        fault = swap(host, Fails)
        assert "[store]: mine cannot start: OSError: no room" in fault
        assert (host.hub.store, first.stopped, Fails.stopped) == (store, 0, 1)
        internet.run(30)
        assert len(seen(client)) == 1
        assert len(seen(imap_selected(internet, host))) == 1


def test_one_that_never_starts_is_given_up() -> None:
    first = whole("First")

    class Waits(whole("Second")):  # type: ignore[misc]
        async def start(self) -> None:
            while True:
                with suppress(Exception):
                    await Deferred()

    with Internet(seed=1) as internet:
        host = hub(internet, first)
        assert "[store]: mine cannot start: no answer within 30 seconds" in swap(host, Waits)
        assert (first.stopped, Waits.stopped) == (0, 1)
        assert b"First" in folders(imap(internet, host))
        assert swap(host, whole("Third")) == ""


def imap_selected(internet: Internet, host: Host) -> Caller:
    client = imap(internet, host)
    client.ask(b"s SELECT INBOX\r\n", b"s OK")
    return client


def whole(word: str) -> Any:
    """A store of its own kind, with one mailbox of that name for everybody."""

    class Store:
        stopped = 0

        def __init__(self, options: Any, hub: Any) -> None:
            database = MemoryDatabase(hub.environment)
            self._database, self._inner = database, database.store

        async def start(self) -> None:
            await self._database.start()
            await self._database.accounts.add(ANN, "", 0)
            await (await self._inner.account(ANN)).create(word)

        async def stop(self) -> None:
            type(self).stopped += 1

        async def exists(self, user: str) -> bool:
            return await self._inner.exists(user)

        async def account(self, user: str, create: bool = False) -> Any:
            return await self._inner.account(user, create)

        async def check_quota(self, user: str, size: int) -> None:
            await self._inner.check_quota(user, size)

    return Store


def folders(client: Caller) -> bytes:
    return client.ask(b'l LIST "" *\r\n', b"l OK")


def test_sessions_finish_with_the_store_that_they_began_with_and_it_is_stopped_after_the_last() -> None:
    first, second = whole("First"), whole("Second")
    with Internet(seed=1) as internet:
        host = hub(internet, first)
        old = imap(internet, host)
        assert b"First" in folders(old)
        assert swap(host, second) == ""
        new = imap(internet, host)
        internet.run(30)
        assert (b"First" in folders(old), b"Second" in folders(new)) == (True, True)
        assert (first.stopped, second.stopped) == (0, 0)
        old.ask(b"o LOGOUT\r\n", b"o OK")
        internet.run(5)
        assert (first.stopped, second.stopped) == (1, 0)
        # Nobody is left for the next one to wait for but a session of the second.
        third = whole("Third")
        assert swap(host, third) == ""
        assert second.stopped == 0
    assert (first.stopped, second.stopped, third.stopped) == (1, 1, 1)


def test_a_store_that_nobody_uses_is_stopped_at_once() -> None:
    first, second = whole("First"), whole("Second")
    with Internet(seed=1) as internet:
        host = hub(internet, first)
        assert swap(host, second) == ""
        assert first.stopped == 1
        assert b"Second" in folders(imap(internet, host))


def test_from_one_kind_to_the_other_and_back_no_ledger_has_two_writers() -> None:
    first, other, last = notes(one=HELLO), whole("Other"), notes(one=HELLO, two=MORE)
    with Internet(seed=1) as internet:
        host = hub(internet, first)
        old = imap_selected(internet, host)
        assert swap(host, other) == ""
        assert b"Other" in folders(imap(internet, host))
        assert len(seen(old)) == 1
        engine = store_engine(old_store := host.hub.retired.stores()[0])
        assert swap(host, last) == ""
        assert store_engine(host.hub.store) is engine
        assert getattr(old_store, "taken_over", False)
        internet.run(30)
        assert b"* 2 EXISTS" in old.ask(b"n NOOP\r\n", b"n OK")
    assert (first.stopped, other.stopped, last.stopped) == (1, 1, 1)


def store_engine(store: Any) -> Any:
    return store._SimpleStore__mirror.engine


def test_the_store_of_the_database_lasts() -> None:
    made = lambda options, hub: hub.database.store  # noqa: E731
    with Internet(seed=1) as internet:
        host = internet.hub("xx.example", config=CONFIG, plugins=[Component("store", "mine", made)])
        store = host.hub.store
        outcome = host.reload(CONFIG, [Component("store", "mine", made)])
        assert (outcome.fault, outcome.lasting) == ("", ("[store] (its plugin has changed)",))
        assert host.hub.store is store
