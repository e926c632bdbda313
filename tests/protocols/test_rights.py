"""What may be done with a mailbox (RFC 4314): what IMAP says of it and does, and POP3, and delivery."""

from __future__ import annotations

from typing import Any

import pytest

from mailhub.errors import PermanentError
from mailhub.message.flags import DELETED, FLAGGED, SEEN, Flags
from mailhub.message.record import FlagChange, storable
from mailhub.plugins import Component
from mailhub.testing.hubs import Host, Internet
from tests.protocols.imap_rig import Client, Server, result
from tests.protocols.rights import RestrictedStore

NO = b"NO [NOPERM] Not permitted\r\n"


def served(inbox: str, *, fixed: bool = False, **others: str) -> Server:
    """With these rights in INBOX, whose UIDs are 1 (seen), 2, and 3 (deleted, by who could)."""
    made = Server()
    result(made.account.create("Box"))
    result(made.mailbox().change_flags([3], _add(DELETED)))
    rights = {name: frozenset(letters) for name, letters in {"INBOX": inbox, **others}.items()}
    made.authenticator.avatar = RestrictedStore(made.database.store, rights, fixed=fixed).account
    return made


def _add(*flags: str) -> Any:
    return FlagChange("add", frozenset(flags))


def flags_of(server: Server, uid: int) -> Flags:
    (entry,) = result(server.mailbox().entries([uid]))
    return frozenset(entry.flags)


@pytest.mark.parametrize(
    ("rights", "flags", "kept"),
    [
        ("lr", {SEEN, DELETED, FLAGGED, "Work"}, set()),
        ("s", {SEEN, DELETED, FLAGGED}, {SEEN}),
        ("t", {SEEN, DELETED, FLAGGED}, {DELETED}),
        ("w", {SEEN, DELETED, FLAGGED, "Work"}, {FLAGGED, "Work"}),
        ("swt", {SEEN, DELETED, FLAGGED, "Work"}, {SEEN, DELETED, FLAGGED, "Work"}),
    ],
)
def test_each_flag_has_its_right(rights: str, flags: set[str], kept: set[str]) -> None:
    assert storable(frozenset(flags), frozenset(rights)) == kept


@pytest.mark.parametrize(
    ("rights", "permanent", "code"),
    [
        ("lr", b"()", b"READ-ONLY"),
        ("lrs", rb"(\Seen)", b"READ-WRITE"),
        ("lrst", rb"(\Deleted \Seen)", b"READ-WRITE"),
        ("lrw", rb"(\Answered \Flagged \Draft \*)", b"READ-WRITE"),
        ("lri", b"()", b"READ-WRITE"),
        ("lre", b"()", b"READ-WRITE"),
        ("lrswtie", rb"(\Answered \Flagged \Deleted \Seen \Draft \*)", b"READ-WRITE"),
    ],
)
def test_select_tells_what_can_be_done(rights: str, permanent: bytes, code: bytes) -> None:
    client = served(rights).login()
    answer = client.send(b"A SELECT INBOX\r\n")
    assert b"[PERMANENTFLAGS " + permanent + b"]" in answer
    assert b"\r\nA OK [" + code + b"] " in answer
    answer = client.send(b"A EXAMINE INBOX\r\n")
    assert b"[PERMANENTFLAGS ()]" in answer
    assert b"\r\nA OK [READ-ONLY] " in answer


def test_a_mailbox_that_may_not_be_read_is_not_opened() -> None:
    client = served("l").login("Box")
    assert client.send(b"A SELECT INBOX\r\n") == b"A " + NO
    assert client.send(b"A STATUS INBOX (MESSAGES)\r\n") == b"A " + NO
    assert client.send(b"A CHECK\r\n").startswith(b"A BAD ")  # SELECT has left the one before


class TestReadOnly:
    @pytest.fixture
    def client(self) -> Client:
        return served("lr", fixed=True, Box="lr").login("INBOX")

    @pytest.mark.parametrize(
        "command",
        [
            rb"STORE 1 +FLAGS (\Flagged)",
            rb"STORE 1 -FLAGS (\Seen)",
            rb"UID STORE 1 FLAGS.SILENT ()",
            b"EXPUNGE",
            b"UID EXPUNGE 3",
            b"COPY 1 Box",
            b"MOVE 1 Box",
            b"UID MOVE 1 Box",
            b"COPY 1 INBOX",
            b"CREATE New",
            b"DELETE Box",
            b"RENAME Box New",
            b"SUBSCRIBE Box",
            b"UNSUBSCRIBE Box",
            b"APPEND Box {5+}",
        ],
    )
    def test_what_would_change_it_is_refused(self, client: Client, command: bytes) -> None:
        answer = client.send(b"A " + command + b"\r\n" + (b"Hello\r\n" if b"{" in command else b""))
        assert answer == b"A " + NO
        assert client.send(b"B NOOP\r\n") == b"B OK Completed\r\n"

    def test_reading_marks_nothing(self, client: Client) -> None:
        answer = client.send(b"A FETCH 2 BODY[TEXT]\r\n")
        assert b"Second body" in answer
        assert b"FLAGS" not in answer
        assert b"A OK" in answer

    def test_close_removes_nothing_and_says_nothing(self, client: Client) -> None:
        assert client.send(b"A CLOSE\r\n") == b"A OK Completed\r\n"
        assert b"* 3 EXISTS" in client.send(b"B SELECT INBOX\r\n")

    def test_recent_is_not_used_up(self) -> None:
        server = served("lr")
        for _ in range(2):
            assert b"* 2 RECENT" in server.login().send(b"A SELECT INBOX\r\n")

    def test_examine_has_the_answer_it_always_had(self) -> None:
        client = served("lr").login("INBOX", examine=True)
        assert client.send(b"A EXPUNGE\r\n").startswith(b"A NO [READ-ONLY] ")


class TestSome:
    def test_what_is_permitted_of_a_store_is_done(self) -> None:
        server = served("lrs")
        client = server.login("INBOX")
        answer = client.send(rb"A STORE 2 +FLAGS.SILENT (\Seen \Flagged)" + b"\r\n")
        assert rb"* 2 FETCH (FLAGS (\Recent \Seen))" in answer
        assert b"A OK" in answer
        assert flags_of(server, 2) == {SEEN}
        assert client.send(rb"A STORE 2 +FLAGS (\Flagged)" + b"\r\n") == b"A " + NO

    @pytest.mark.parametrize(
        ("rights", "flags", "found"),
        [
            ("s", rb"(\Seen \Flagged)", {SEEN, DELETED}),
            ("s", rb"()", {DELETED}),
            ("t", rb"(\Seen)", set()),
            ("w", rb"(Work)", {DELETED, "Work"}),
            ("ws", rb"(Work \Seen)", {DELETED, "Work", SEEN}),
        ],
    )
    def test_to_replace_flags_leaves_those_that_must_stay(self, rights: str, flags: bytes, found: set[str]) -> None:
        server = served("lr" + rights)
        answer = server.login("INBOX").send(b"A STORE 3 FLAGS " + flags + b"\r\n")
        assert b"A OK" in answer
        assert flags_of(server, 3) == found

    def test_reading_marks_where_that_is_permitted(self) -> None:
        server = served("lrs")
        assert rb"FLAGS (\Recent \Seen)" in server.login("INBOX").send(b"A FETCH 2 BODY[TEXT]\r\n")
        assert flags_of(server, 2) == {SEEN}

    def test_an_appended_message_comes_with_the_flags_that_can_be_kept(self) -> None:
        server = served("lris")
        answer = server.login().send(rb"A APPEND INBOX (\Seen \Flagged Work) {5+}" + b"\r\nHello\r\n")
        assert b"A OK [APPENDUID" in answer
        assert flags_of(server, 4) == {SEEN}

    def test_move_out_needs_the_right_to_expunge_and_copy_does_not(self) -> None:
        client = served("lrit").login("INBOX")
        assert client.send(b"A MOVE 1 Box\r\n") == b"A " + NO
        assert client.send(b"A COPY 1 Box\r\n").startswith(b"A OK [COPYUID")
        assert client.send(b"A EXPUNGE\r\n") == b"A " + NO

    def test_expunge_alone(self) -> None:
        assert b"* 3 EXPUNGE" in served("lre").login("INBOX").send(b"A EXPUNGE\r\n")


def pop3(rights: str) -> tuple[Host, Any]:
    store = Component("store", "less", lambda _, hub: RestrictedStore(hub.database.store, {"INBOX": frozenset(rights)}))
    internet = Internet()
    host = internet.hub("xx.example", config={"store": {"type": "less"}}, plugins=[store])
    host.add_account("a@xx.example", "secret")
    return host, internet


@pytest.mark.parametrize("rights", ["lr", "lrt", "lre", "lri"])
def test_pop3_removes_nothing_where_that_is_not_permitted(rights: str) -> None:
    host, internet = pop3(rights)
    with internet:
        own = host.hub.database.store
        internet.wait(_append(own, b"Subject: s\r\n\r\nb\r\n"))
        client = internet.call(host, "pop3s")
        client.ask(b"USER a@xx.example\r\nPASS secret\r\n", b"+OK 1 messages")
        assert client.ask(b"DELE 2\r\n", b"-ERR").endswith(b"-ERR No such message\r\n")
        assert b"-ERR [SYS/PERM] Messages of this maildrop cannot be removed" in client.ask(b"DELE 1\r\n", b"-ERR")
        assert b"+OK 1 " in client.ask(b"STAT\r\n", b"+OK 1 ")
        client.ask(b"QUIT\r\n", b"+OK Bye")
        assert len(host.inbox("a@xx.example")) == 1


def test_pop3_is_closed_where_nothing_may_be_read() -> None:
    host, internet = pop3("l")
    with internet:
        client = internet.call(host, "pop3s")
        client.ask(b"USER a@xx.example\r\nPASS secret\r\n", b"-ERR [SYS/PERM] Not permitted")


async def _append(store: Any, octets: bytes) -> int:
    account = await store.account("a@xx.example")
    writer = account.new_body()
    await writer.write(octets)
    uid: int = await (await account.mailbox("INBOX")).append(await writer.finish(), frozenset(), 1)
    return uid


class TestDelivery:
    def hub(self, internet: Internet, rights: dict[str, str], *, fixed: bool = False) -> Host:
        letters = {name: frozenset(text) for name, text in rights.items()}
        store = Component("store", "less", lambda _, hub: RestrictedStore(hub.database.store, letters, fixed=fixed))
        config = {"store": {"type": "less"}, "delivery": {"detail_mailboxes": True}}
        return internet.hub("xx.example", ["a"], config=config, plugins=[store])

    def test_an_inbox_that_takes_nothing_is_told_at_once(self) -> None:
        with Internet() as internet:
            host = self.hub(internet, {"INBOX": "lr"})
            with pytest.raises(PermanentError) as refused:
                host.submit("b@xx.example", ["a@xx.example"], b"Subject: s\r\n\r\n")
            assert refused.value.status == "5.2.1"
            assert not host.queued()

    @pytest.mark.parametrize("rights", ["lr", "lrswte"])
    def test_inbox_stands_in_for_a_mailbox_that_takes_nothing(self, rights: str) -> None:
        with Internet() as internet:
            host = self.hub(internet, {"Lists": rights})
            internet.wait(_create(host, "Lists"))
            host.submit("b@xx.example", ["a+lists@xx.example"], b"Subject: s\r\n\r\n")
            internet.run(60)
            assert len(host.inbox("a@xx.example")) == 1
            assert not host.queued()


async def _create(host: Host, name: str) -> None:
    await (await host.hub.database.store.account("a@xx.example")).create(name)
