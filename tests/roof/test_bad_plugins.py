"""Plugins that do what they must not: named by file and method, answered by the protocol's code, and nobody else
suffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from mailhub.errors import ConfigurationError
from mailhub.guard import Guard, Health
from mailhub.interfaces import IMailAccount
from mailhub.message.record import Added, CopyResult, Entry, Expunged, MailboxInfo
from mailhub.plugins import Component
from mailhub.store.guarded.store import GuardedStore
from mailhub.store.memory import MemoryDatabase
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Internet
from mailhub.testing.waiting import result_of

ANN, EVE = "ann@xx.example", "eve@xx.example"
PASSWORD = "correct horse"
HELLO = b"From: ben@yy.example\r\nSubject: hello\r\n\r\nHello\r\n"


class Raising:
    """An attribute that raises."""


class Bad:
    """As what it is made of, but for what a test says of its methods and attributes, and of what they give: a path of
    names, such as "account.mailbox.open.read", is a function that does it instead."""

    def __init__(self, thing: Any, path: str, faults: dict[str, Any]) -> None:
        self._thing, self._path, self._faults = thing, path, faults

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}".lstrip(".")
        if path in self._faults:
            fault = self._faults[path]
            return raises() if isinstance(fault, Raising) else fault
        found = getattr(self._thing, name)
        if path not in ("account", "account.mailbox", "account.mailbox.open", "account.new_body"):
            return found
        if path == "account.new_body":
            return lambda *arguments: Bad(found(*arguments), path, self._faults)

        async def called(*arguments: Any, **named: Any) -> Any:
            return Bad(await found(*arguments, **named), path, self._faults)

        return called


class Scene:
    """A server on a store of somebody else's, with a message for Ann."""

    def __init__(self, internet: Internet, **config: Any) -> None:
        self.internet = internet
        self.faults: dict[str, Any] = {}
        self.host = internet.hub("xx.example", config=config, plugins=[Component("store", "mine", self._make)])
        for user in (ANN, EVE):
            self.host.add_account(user, PASSWORD)

    def _make(self, _: Any, hub: Any) -> Any:
        self.database = MemoryDatabase(hub.environment)
        for user in (ANN, EVE):
            result_of(self.database.accounts.add(user, ""))
            result_of(self.put(result_of(self.database.store.account(user))))
        return Bad(self.database.store, "", self.faults)

    async def put(self, account: IMailAccount) -> None:
        mailbox = await account.mailbox("INBOX")
        for _ in range(2):
            writer = account.new_body()
            await writer.write(HELLO)
            await mailbox.append(await writer.finish(), frozenset(), 1_700_000_000)

    def health(self, kind: str) -> list[Health]:
        return [health for health in self.host.hub.guards.all() if health.kind == kind]

    def imap(self, user: str = ANN) -> Caller:
        caller = self.internet.call(self.host, "imaps")
        caller.expect(b"* OK")
        caller.ask(f'a login {user} "{PASSWORD}"\r\n'.encode(), b"a ")
        return caller

    def pop3(self, expected: bytes = b"+OK") -> Caller:
        caller = self.internet.call(self.host, "pop3s")
        caller.expect(b"+OK")
        caller.ask(f"USER {ANN}\r\n".encode(), b"+OK")
        caller.ask(f"PASS {PASSWORD}\r\n".encode(), expected)
        return caller


@pytest.fixture
def scene() -> Iterator[Scene]:
    with Internet(seed=1) as internet:
        yield Scene(internet, store={"type": "mine", "timeout_seconds": 20})


def gives(thing: Any) -> Callable[..., Any]:
    async def function(*arguments: Any, **named: Any) -> Any:
        return thing

    return function


def raises(*arguments: Any, **named: Any) -> Any:
    raise RuntimeError("out of paper")


def never(*arguments: Any, **named: Any) -> Any:
    return Deferred()


WRONG: tuple[tuple[str, Any, bytes, str], ...] = (
    ("account.mailboxes", gives(None), b'LIST "" *', "not a sequence of MailboxInfo"),
    ("account.mailboxes", gives([MailboxInfo("a", 7)]), b'LIST "" *', "parts that are no text"),  # type: ignore[arg-type]
    ("account.mailboxes", raises, b'LIST "" *', "RuntimeError: out of paper"),
    ("account.mailboxes", None, b'LIST "" *', "TypeError"),
    ("account.subscriptions", gives("INBOX"), b'LSUB "" *', "not a sequence of names"),
    ("account.mailbox", gives(None), b"SELECT INBOX", "not a mailbox"),
    ("account.mailbox", raises, b"SELECT INBOX", "RuntimeError: out of paper"),
    ("account.mailbox.uid_validity", 0, b"SELECT INBOX", "uid_validity is 0"),
    ("account.mailbox.uid_validity", "seven", b"SELECT INBOX", "uid_validity is"),
    ("account.mailbox.status", gives({}), b"SELECT INBOX", "not a MailboxStatus"),
    ("account.mailbox.watch", raises, b"SELECT INBOX", "RuntimeError: out of paper"),
    ("account.mailbox.hold", lambda: None, b"SELECT INBOX", "not a hold"),
    ("account.mailbox.entries", gives([1]), b"SELECT INBOX", "1 is no Entry"),
    (
        "account.mailbox.entries",
        gives([Entry(2, frozenset(), 1, 1, 1), Entry(1, frozenset(), 1, 1, 1)]),
        b"SELECT INBOX",
        "UID 1 comes after 2",
    ),
    ("account.mailbox.entries", gives([Entry(2**32, frozenset(), 1, 1, 1)]), b"SELECT INBOX", "a UID is 4294967296"),
    ("account.mailbox.entries", gives([Entry(1, {"a b"}, 1, 1, 1)]), b"SELECT INBOX", "not a frozenset"),  # type: ignore[arg-type]
    ("account.mailbox.entries", gives([Entry(1, frozenset({"a b"}), 1, 1, 1)]), b"SELECT INBOX", "is no flag"),
    ("account.mailbox.digests", gives({}), b"FETCH 1 ENVELOPE", "not a column"),
    ("account.mailbox.digests", gives({"envelope": {1: "text"}}), b"FETCH 1 ENVELOPE", "envelope of 1 is"),
    ("account.mailbox.bodies", gives({1: "text"}), b"FETCH 1:2 BODY.PEEK[]", "the octets of 1 are"),
    ("account.mailbox.open", gives(None), b"FETCH 1 BODY.PEEK[]", "not a reader"),
    ("account.mailbox.open", raises, b"FETCH 1 BODY.PEEK[]", "RuntimeError: out of paper"),
    ("account.mailbox.open.read", gives("text"), b"FETCH 1 BODY.PEEK[]", "not bytes"),
    ("account.mailbox.open.read", gives(b"short"), b"FETCH 1 BODY.PEEK[]", "5 octets from 0 where"),
    ("account.mailbox.open.read", gives(bytes(1000)), b"FETCH 1 BODY.PEEK[]", "1000 octets from 0 where"),
    ("account.mailbox.open.size", -1, b"FETCH 1 BODY.PEEK[]", "size is -1"),
    ("account.mailbox.change_flags", gives(None), b"STORE 1 FLAGS (\\Seen)", "not a FlagResult"),
    ("account.mailbox.copy", gives(CopyResult(1, (1, 2), (3,))), b"COPY 1:2 Sent", "cannot have become"),
    ("account.mailbox.copy", gives(CopyResult(1, (7,), (8,))), b"COPY 1:2 Sent", "cannot have become"),
    ("account.mailbox.expunge", gives(3), b"EXPUNGE", "not a sequence of UIDs"),
    ("account.quota", gives(5), b"APPEND Sent {5}", "not a Quota"),
    ("account.new_body", lambda size: None, b"APPEND Sent {5}", "not a writer"),
    ("account.new_body.write", raises, b"APPEND Sent {5+}\r\nhello", "RuntimeError: out of paper"),
    ("account.new_body.finish", gives(None), b"APPEND Sent {5+}\r\nhello", "not a body"),
    ("account.mailbox.append", gives("a uid"), b"APPEND Sent {5+}\r\nhello", "a UID is"),
    ("account.create", raises, b"CREATE a", "RuntimeError: out of paper"),
    ("account.mailbox.status", never, b"STATUS INBOX (MESSAGES)", "no answer within 20 seconds"),
)


_CALLED = {"open": "reader", "new_body": "writer"}  # what the log calls what these give


@pytest.mark.parametrize(("path", "fault", "command", "said"), WRONG)
def test_a_store_that_does_wrong_is_named_and_others_are_served(
    scene: Scene, path: str, fault: Any, command: bytes, said: str
) -> None:
    client, other = scene.imap(), scene.imap(EVE)
    if not command.startswith((b"SELECT", b"LIST", b"LSUB")):
        client.ask(b"b SELECT INBOX\r\n", b"b OK")
    scene.faults[path] = fault
    with capturedLogs() as events:
        heard = client.ask(b"c " + command + b"\r\n", b"c NO", seconds=25)
    assert b"[UNAVAILABLE]" in heard or b"[SERVERBUG]" in heard
    lines = [formatEvent(event) for event in events if event["log_namespace"] == "mailhub.plugins"]
    kept = [line for line in lines if said in line]
    assert kept, lines
    what, method = path.split(".")[-2:]
    assert f"method={_CALLED.get(what, what)}.{method} " in kept[0]
    assert all(line.startswith(("store failed: store=mine ", "store timed out: store=mine ")) for line in kept), kept
    assert f"file={__file__}" in kept[0]
    del scene.faults[path]
    other.ask(b"d SELECT INBOX\r\n", b"d OK")
    client.ask(b"e SELECT INBOX\r\n", b"e OK")
    assert HELLO in client.ask(b"f FETCH 1 BODY.PEEK[]\r\n", b"f OK")


def test_a_mailbox_whose_uids_mean_others_all_of_a_sudden_is_gone_for_its_sessions(scene: Scene) -> None:
    client = scene.imap()
    client.ask(b"b SELECT INBOX\r\n", b"b OK")
    scene.faults["account.mailbox.uid_validity"] = 77
    client.ask(b"c NOOP\r\n", b"c OK")
    client.ask(b"d NOOP\r\n", b"* BYE [NONEXISTENT]")
    client.wait_for_end()


def test_what_is_no_change_is_not_announced(scene: Scene) -> None:
    def watch(listener: Callable[[Any], None]) -> Callable[[], None]:
        for nonsense in ("new mail", Expunged((3, 2), 7), Added(())):
            listener(nonsense)
        return lambda: None

    scene.faults["account.mailbox.watch"] = watch
    client = scene.imap()
    assert b"* 2 EXISTS" in client.ask(b"b SELECT INBOX\r\n", b"b OK")
    assert [health.errors for health in scene.health("store")] == [3]


def test_pop3_says_that_it_cannot_and_removes_nothing(scene: Scene) -> None:
    scene.faults["account.mailbox.entries"] = raises
    assert b"[SYS/TEMP]" in scene.pop3(b"-ERR").heard
    del scene.faults["account.mailbox.entries"]
    client = scene.pop3()
    scene.faults["account.mailbox.open"] = raises
    client.ask(b"RETR 1\r\n", b"-ERR [SYS/TEMP]")
    scene.faults["account.mailbox.expunge"] = raises
    client.ask(b"DELE 1\r\n", b"+OK")
    client.ask(b"QUIT\r\n", b"-ERR [SYS/TEMP]")
    scene.faults.clear()
    assert b"\r\n2 " in scene.pop3().ask(b"LIST\r\n", b".")


def test_mail_for_a_store_that_fails_waits_and_comes_once(scene: Scene) -> None:
    scene.faults["account.mailbox.append"] = raises
    sender = scene.internet.call(scene.host, "smtp")
    sender.expect(b"220")
    sender.ask(b"EHLO client.example\r\n", b"250 ")
    sender.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250")
    sender.ask(f"RCPT TO:<{ANN}>\r\n".encode(), b"250")
    sender.ask(b"DATA\r\n", b"354")
    sender.ask(b"Subject: later\r\n\r\nLater\r\n.\r\n", b"250")
    scene.internet.run(1)
    scene.faults.clear()
    assert b"* 2 EXISTS" in scene.imap().ask(b"b SELECT INBOX\r\n", b"b OK")
    scene.internet.run(3600)
    assert b"* 3 EXISTS" in scene.imap().ask(b"b SELECT INBOX\r\n", b"b OK")


@pytest.mark.parametrize("rights", [None, 7, "raises", Deferred(), [1]], ids=["None", "int", "raises", "never", "list"])
def test_mail_for_a_mailbox_that_does_not_say_its_rights_waits(scene: Scene, rights: Any) -> None:
    scene.faults["account.mailbox.rights"] = Raising() if rights == "raises" else rights
    scene.host.submit("ben@yy.example", [ANN], HELLO)
    scene.internet.run(1)
    assert len(scene.host.queued()) == 1
    assert b"[UNAVAILABLE]" in scene.imap().ask(b"b SELECT INBOX\r\n", b"b NO")
    scene.faults.clear()
    scene.internet.run(3600)
    assert scene.host.queued() == []
    assert len(scene.host.inbox(ANN)) == 3


def test_rights_that_were_told_once_count_where_they_are_not_told_now(scene: Scene) -> None:
    client = scene.imap()
    client.ask(b"b SELECT INBOX\r\n", b"b OK")
    scene.faults["account.mailbox.rights"] = None
    client.ask(b"c STORE 1 +FLAGS (\\Seen)\r\n", b"c OK")


@pytest.mark.parametrize("method", ["watch", "hold"])
def test_a_store_that_leaves_by_sys_exit_harms_nobody(scene: Scene, method: str) -> None:
    def leave(*_: Any) -> None:
        raise SystemExit(3)

    client = scene.imap()
    scene.faults[f"account.mailbox.{method}"] = leave
    client.ask(b"b SELECT INBOX\r\n", b"b NO [UNAVAILABLE]")
    scene.faults.clear()
    client.ask(b"c SELECT INBOX\r\n", b"c OK")


def test_a_recipient_of_a_store_that_never_answers_is_asked_to_come_again(scene: Scene) -> None:
    scene.faults["check_quota"] = never
    sender = scene.internet.call(scene.host, "smtp")
    sender.expect(b"220")
    sender.ask(b"EHLO client.example\r\n", b"250 ")
    sender.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250")
    sender.ask(f"RCPT TO:<{ANN}>\r\n".encode(), b"451 4.3.0")


def test_a_store_that_fails_again_and_again_rests_and_comes_back(scene: Scene) -> None:
    client = scene.imap()
    scene.faults["account.mailbox"] = raises
    for _ in range(7):
        client.ask(b"b SELECT INBOX\r\n", b"b NO [UNAVAILABLE]")
    (health,) = scene.health("store")
    assert (health.state, health.errors, health.rested) == ("resting", 5, 2)
    scene.faults.clear()
    scene.internet.run(11)
    client.ask(b"c SELECT INBOX\r\n", b"c OK")
    assert scene.health("store")[0].state == "good"


def test_an_account_of_somebody_else_is_nobodys(scene: Scene) -> None:
    scene.faults["account"] = gives(result_of(scene.database.store.account(EVE)))
    client = scene.internet.call(scene.host, "imaps")
    client.expect(b"* OK")
    assert b"[UNAVAILABLE]" in client.ask(f'a login {ANN} "{PASSWORD}"\r\n'.encode(), b"a NO")


def test_the_hub_stops_whatever_its_store_makes_of_it(scene: Scene) -> None:
    scene.faults["stop"] = never
    stopping = Deferred.fromCoroutine(scene.host.hub.stop())
    scene.internet.run(60)
    assert stopping.called


def test_who_waits_for_a_store_to_start_is_told_for_which() -> None:
    clock = Clock()
    inner: Any = type("Slow", (), {"start": lambda self: waiting})()
    waiting: Deferred[None] = Deferred()
    store = GuardedStore(inner, Guard("store", "mine", "/plugins/mine.py", clock))
    started = Deferred.fromCoroutine(store.start())
    with capturedLogs() as events:
        clock.pump([10, 10])
        waiting.callback(None)
    line = "still waiting for a store to start: store=mine file=/plugins/mine.py"
    assert [formatEvent(event) for event in events] == [line] * 2
    assert started.called
    assert not clock.getDelayedCalls()


def test_the_mailboxes_of_the_database_itself_have_no_time() -> None:
    with Internet(seed=1) as internet, pytest.raises(ConfigurationError) as caught:
        internet.hub("xx.example", config={"store": {"type": "database", "timeout_seconds": 5}})
    assert "[store] timeout_seconds: the mailboxes of the hub's own database" in str(caught.value)
