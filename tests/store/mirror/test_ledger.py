"""The file in which UIDs stand: groups of units, restarts, damage."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.errors import ConfigurationError, StoreUnavailable
from mailhub.store.mirror import rows
from mailhub.store.mirror.engine import file_name
from mailhub.store.mirror.ledger import Ledger, damage
from mailhub.testing.waiting import result_of
from mailhub.threads import InlineThreads, ReactorThreads
from tests.store.harness import HandReactor
from tests.store.mirror.simple_stores import DictStore, PlayedHub, environment

ANN = "ann@xx.example"
NOW = 1_704_067_200


def made(path: Path | None) -> Ledger:
    ledger = Ledger(path, InlineThreads(), "mine", lambda: NOW)
    result_of(ledger.start())
    return ledger


def validity(ledger: Ledger) -> int:
    found, _ = result_of(_run(ledger, partial(rows.meet, user=ANN, names=("INBOX",), now=NOW)))
    return int(found[0].uid_validity)


async def _run(ledger: Ledger, unit: Any) -> Any:
    return await ledger.run(unit)


@pytest.mark.parametrize("octets", [b"no database at all" * 1000, b"SQLite format 3\0" + b"\0\xff" * 5000])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "stores" / "mine.sqlite"
    ledger = made(path)
    before = validity(ledger)
    result_of(ledger.stop())
    path.write_bytes(octets)
    assert damage(path)
    with capturedLogs() as logs:
        ledger = made(path)
    assert any("set aside" in formatEvent(event) and "mine.sqlite.damaged-" in formatEvent(event) for event in logs)
    assert validity(ledger) > before
    result_of(ledger.stop())
    assert damage(path) == ""
    (aside,) = [each for each in path.parent.iterdir() if ".damaged-" in each.name]
    assert aside.read_bytes() == octets


def test_a_database_of_others_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cook_book (recipe TEXT)")
    connection.close()
    result_of(made(path).stop())
    assert len([each for each in tmp_path.iterdir() if ".damaged-" in each.name]) == 1


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    result_of(made(path).stop())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer mailhub"):
        made(path)


def test_uid_validities_are_never_given_twice() -> None:
    ledger = made(None)
    seen = []
    for _ in range(3):
        seen.append(validity(ledger))
        result_of(_run(ledger, partial(rows.meet, user=ANN, names=(), now=NOW)))
        ((folder,), _) = result_of(_run(ledger, partial(rows.meet, user=ANN, names=(), now=NOW)))
        result_of(_run(ledger, partial(rows.forget_folder, number=folder.number)))
    assert seen == sorted(set(seen))


def test_units_that_wait_are_one_transaction_and_one_that_fails_hurts_no_other(tmp_path: Path) -> None:
    reactor = HandReactor()
    ledger = Ledger(tmp_path / "mine.sqlite", ReactorThreads(reactor), "mine", lambda: NOW)
    starting: list[Any] = []
    from twisted.internet.defer import Deferred

    Deferred.fromCoroutine(ledger.start()).addBoth(starting.append)
    reactor.turn()
    outcomes: list[Any] = []

    def failing(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO subscription VALUES ('x', 'failing', 1)")
        raise ValueError("half done")

    def subscribing(name: str) -> Any:
        return partial(rows.subscribe, user="x", name=name, subscribed=True, limit=10)

    for unit in (subscribing("a"), failing, subscribing("b"), lambda connection: connection.execute("SELECT nothing")):
        ledger.run(unit).addBoth(outcomes.append)
    while len(outcomes) < 4:
        reactor.turn()
    assert outcomes[0] is None
    assert outcomes[1].check(ValueError)
    assert outcomes[2] is None
    assert outcomes[3].check(StoreUnavailable)
    ledger.run(partial(rows.choices, user="x")).addBoth(outcomes.append)
    reactor.turn()
    assert outcomes[-1] == {"a": True, "b": True}
    stopped: list[Any] = []
    Deferred.fromCoroutine(ledger.stop()).addBoth(stopped.append)
    reactor.turn()
    assert stopped == [None]
    reactor.pool.stop()


def test_names_of_stores_are_names_of_files() -> None:
    assert file_name("feeds-2") == "feeds-2"
    assert "/" not in file_name("../../etc/passwd")
    assert not file_name("..").startswith(".")
    assert len({file_name(name) for name in ("a/b", "a%2fb", "a_b", ".a")}) == 4


def test_what_a_store_keeps_is_there_after_a_restart(tmp_path: Path) -> None:
    mail = {"INBOX": {"k\udcff": (b"Subject: a\r\n\r\n", frozenset({"\\Seen", "Work"}), 7), 5: (b"b", frozenset(), 8)}}

    def opened() -> Any:
        store = DictStore(None, PlayedHub(environment(tmp_path)))
        store.mail[ANN] = mail
        result_of(store.start())
        return store

    store = opened()
    inbox = result_of(result_of(store.account(ANN)).mailbox("INBOX"))
    before = result_of(inbox.entries()), inbox.uid_validity, result_of(inbox.status())
    envelopes = result_of(inbox.digests([1, 2], ["envelope"]))
    result_of(result_of(store.account(ANN)).subscribe("Elsewhere", True))
    result_of(store.stop())
    store = opened()
    store.read = lambda *given: 1 / 0  # nothing is read a second time
    account = result_of(store.account(ANN))
    inbox = result_of(account.mailbox("INBOX"))
    assert (result_of(inbox.entries()), inbox.uid_validity, result_of(inbox.status())) == before
    assert result_of(inbox.digests([1, 2], ["envelope"])) == envelopes
    assert result_of(account.subscriptions()) == ["Elsewhere", "INBOX"]
    result_of(store.stop())
