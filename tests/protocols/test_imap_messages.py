"""Commands about messages: transcripts, and what two sessions on one mailbox tell each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailhub.errors import OverQuota, StorageFull, StoreUnavailable
from mailhub.message.flags import NO_FLAGS
from mailhub.message.record import FlagChange
from tests.protocols.imap_rig import EPOCH, MESSAGES, Server, play, result

TRANSCRIPTS = {
    "fetch": r"""
        C: a FETCH 1:2 (FLAGS RFC822.SIZE)
        S: * 1 FETCH (FLAGS (\Seen) RFC822.SIZE 55)
        S: * 2 FETCH (FLAGS (\Recent) RFC822.SIZE 61)
        S: a OK Completed
        C: b UID FETCH 2:100 FLAGS
        S: * 2 FETCH (UID 2 FLAGS (\Recent))
        S: * 3 FETCH (UID 3 FLAGS (\Recent))
        S: b OK Completed
        C: c FETCH 4 FLAGS
        S: c BAD There are only 3 messages
        C: d UID FETCH 50 FLAGS
        S: d OK Completed
        C: e FETCH 1 (UID INTERNALDATE)
        S: * 1 FETCH (UID 1 INTERNALDATE " 1-Jan-2026 12:00:00 +0000")
        S: e OK Completed
    """,
    "two partials from one octet": r"""
        C: a FETCH 1 (BODY.PEEK[TEXT]<1.2> BODY.PEEK[TEXT]<1.4>)
        S: * 1 FETCH (BODY[TEXT]<1> {2}
        S: ir BODY[TEXT]<1> {4}
        S: irst)
        S: a OK Completed
        C: b FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.3> BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.7>)
        S: * 1 FETCH (BODY[HEADER.FIELDS (SUBJECT)]<0> {3}
        S: Sub BODY[HEADER.FIELDS (SUBJECT)]<0> {7}
        S: Subject)
        S: b OK Completed
        C: c COPY 1 "R&D"
        S: c NO [NONEXISTENT] No such mailbox
        C: d MOVE 1 new/
        S: d NO [TRYCREATE] No such mailbox
    """,
    "a section sets seen, and says so once": r"""
        C: a FETCH 2 BODY[HEADER.FIELDS (SUBJECT)]
        S: * 2 FETCH (FLAGS (\Recent \Seen) BODY[HEADER.FIELDS (SUBJECT)] {16}
        S: Subject: Two
        S:
        S: )
        S: a OK Completed
        C: b FETCH 2 BODY[TEXT]<0.6>
        S: * 2 FETCH (BODY[TEXT]<0> {6}
        S: Second)
        S: b OK Completed
        C: c FETCH 3 BODY.PEEK[TEXT]<0.5>
        S: * 3 FETCH (BODY[TEXT]<0> {5}
        S: Third)
        S: c OK Completed
        C: d FETCH 3 FLAGS
        S: * 3 FETCH (FLAGS (\Recent))
        S: d OK Completed
    """,
    "store": r"""
        C: a STORE 1:2 +FLAGS (\Flagged Work)
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft Work)
        S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft Work \*)] Kept for good, as is any new keyword
        S: * 1 FETCH (FLAGS (\Flagged \Seen Work))
        S: * 2 FETCH (FLAGS (\Recent \Flagged Work))
        S: a OK Completed
        C: b STORE 1 -FLAGS.SILENT (Work)
        S: b OK Completed
        C: c UID STORE 1:3 FLAGS \Answered
        S: * 1 FETCH (UID 1 FLAGS (\Answered))
        S: * 2 FETCH (UID 2 FLAGS (\Recent \Answered))
        S: * 3 FETCH (UID 3 FLAGS (\Recent \Answered))
        S: c OK Completed
        C: d UID STORE 77 +FLAGS (\Seen)
        S: d OK Completed
        C: e STORE 9 +FLAGS (\Seen)
        S: e BAD There are only 3 messages
    """,
    "expunge": r"""
        C: a STORE 1,3 +FLAGS.SILENT (\Deleted)
        S: a OK Completed
        C: b UID EXPUNGE 2:3
        S: * 3 EXPUNGE
        S: * 1 RECENT
        S: b OK Completed
        C: c EXPUNGE
        S: * 1 EXPUNGE
        S: c OK Completed
        C: d EXPUNGE
        S: d OK Completed
        C: e FETCH 1:* UID
        S: * 1 FETCH (UID 2)
        S: e OK Completed
    """,
    "close expunges silently": r"""
        C: a STORE 1 +FLAGS.SILENT (\Deleted)
        S: a OK Completed
        C: b CLOSE
        S: b OK Completed
        C: c STATUS INBOX (MESSAGES)
        S: * STATUS INBOX (MESSAGES 2)
        S: c OK Completed
    """,
    "unselect does not": r"""
        C: a STORE 1 +FLAGS.SILENT (\Deleted)
        S: a OK Completed
        C: b UNSELECT
        S: b OK Completed
        C: c STATUS INBOX (MESSAGES)
        S: * STATUS INBOX (MESSAGES 3)
        S: c OK Completed
    """,
    "copy and move": r"""
        C: a COPY 1:2 Trash
        S: a OK [COPYUID 1767268805 1:2 1:2] Completed
        C: b UID MOVE 3,1 Trash
        S: * OK [COPYUID 1767268805 1,3 3:4] Moved
        S: * 3 EXPUNGE
        S: * 1 EXPUNGE
        S: * 1 RECENT
        S: b OK Completed
        C: c COPY 1 Nowhere
        S: c NO [TRYCREATE] No such mailbox
        C: d MOVE 1 Nowhere
        S: d NO [TRYCREATE] No such mailbox
        C: e UID COPY 999 Trash
        S: e OK Completed
        C: f COPY 2 Trash
        S: f BAD There are only 1 messages
        C: g COPY 1 INBOX
        S: * 2 EXISTS
        S: * 2 RECENT
        S: g OK [COPYUID 1767268800 2 4] Completed
    """,
    "search": """
        C: a SEARCH UNSEEN
        S: * SEARCH 2 3
        S: a OK Completed
        C: b UID SEARCH SUBJECT one
        S: * SEARCH 1
        S: b OK Completed
        C: c SEARCH CHARSET UTF-8 TEXT "third"
        S: * SEARCH 3
        S: c OK Completed
        C: d SEARCH HEADER X-Odd "" BODY second
        S: * SEARCH 2
        S: d OK Completed
        C: e SEARCH DELETED
        S: * SEARCH
        S: e OK Completed
        C: f SEARCH CHARSET KOI8-R TEXT x
        S: f NO [BADCHARSET (UTF-8 US-ASCII)] Charset is not supported
    """,
    "append": r"""
        C: a APPEND INBOX (\Flagged) "05-Feb-2020 10:00:00 +0100" {13}
        S: + OK
        C: Subject: four
        S: * 4 EXISTS
        S: * 3 RECENT
        S: a OK [APPENDUID 1767268800 4] Completed
        C: b FETCH 4 (FLAGS INTERNALDATE RFC822.SIZE)
        S: * 4 FETCH (FLAGS (\Recent \Flagged) INTERNALDATE " 5-Feb-2020 09:00:00 +0000" RFC822.SIZE 13)
        S: b OK Completed
        C: c APPEND Nowhere {9000}
        S: c NO [TRYCREATE] No such mailbox
    """,
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_transcript(name: str, store: str, tmp_path: Path) -> None:
    server = Server(folder=tmp_path if store == "sqlite" else None)
    play(server.login("INBOX"), TRANSCRIPTS[name])
    result(server.database.stop())


def test_examine_changes_nothing() -> None:
    server = Server()
    play(
        server.login("INBOX", examine=True),
        r"""
        C: a STORE 1 +FLAGS (\Deleted)
        S: a NO [READ-ONLY] The mailbox is selected read-only
        C: b EXPUNGE
        S: b NO [READ-ONLY] The mailbox is selected read-only
        C: c MOVE 1 Trash
        S: c NO [READ-ONLY] The mailbox is selected read-only
        C: d FETCH 2 BODY[TEXT]<0.1>
        S: * 2 FETCH (BODY[TEXT]<0> {1}
        S: S)
        S: d OK Completed
        C: e FETCH 2 FLAGS
        S: * 2 FETCH (FLAGS (\Recent))
        S: e OK Completed
        C: f CLOSE
        S: f OK Completed
        """,
    )


class TestTwoSessions:
    """RFC 3501 5.2 and 7.4.1, RFC 2180 4."""

    def test_new_mail_and_flags_are_told_at_the_next_command(self) -> None:
        server = Server()
        one, two = server.login("INBOX"), server.login("INBOX")
        one.send(b"a STORE 2 +FLAGS.SILENT (\\Flagged)\r\n")
        server.deliver(b"\r\n")
        assert two.taken() == b""
        assert two.send(b"b NOOP\r\n") == (
            b"* 4 EXISTS\r\n* 1 RECENT\r\n* 2 FETCH (UID 2 FLAGS (\\Flagged))\r\nb OK Completed\r\n"
        )

    @pytest.mark.parametrize(
        ("command", "forbidden"),
        [
            (b"FETCH 1 UID", True),
            (b"STORE 1 FLAGS (\\Seen)", True),
            (b"SEARCH ALL", True),
            (b"COPY 1 Trash", True),
            (b"UID FETCH 1 FLAGS", False),
            (b"UID STORE 1 FLAGS (\\Seen)", False),
            (b"UID SEARCH ALL", False),
            (b"UID COPY 1 Trash", False),
            (b"CHECK", False),
            (b"STATUS Sent (MESSAGES)", False),
        ],
    )
    def test_when_an_expunge_may_be_told(self, command: bytes, forbidden: bool) -> None:
        server = Server()
        client = server.login("INBOX")
        result(server.mailbox().expunge([3], deleted_only=False))
        answer = client.send(b"a " + command + b"\r\n")
        assert b"a OK" in answer
        assert (b"* 3 EXPUNGE\r\n" in answer) is not forbidden
        assert (b"* 3 EXPUNGE\r\n" in client.send(b"b NOOP\r\n")) is forbidden

    @pytest.mark.parametrize(
        ("command", "answer"), [(b"SEARCH UID 4", b"* SEARCH 4\r\n"), (b"UID FETCH 4:* UID", b"* 4 FETCH (UID 4)\r\n")]
    )
    def test_new_mail_is_found_by_the_command_that_looks_for_it(self, command: bytes, answer: bytes) -> None:
        server = Server()
        client = server.login("INBOX")
        server.deliver(b"\r\n")
        assert client.send(b"a " + command + b"\r\n") == (
            b"* 4 EXISTS\r\n* 3 RECENT\r\n" + answer + b"a OK Completed\r\n"
        )

    @pytest.mark.parametrize("backend", ["memory", "sqlite"])
    def test_a_message_that_is_gone_can_be_read_until_that_is_told(self, backend: str, tmp_path: Path) -> None:
        """RFC 2180 4.1.1 and 4.2: what a client counts can be fetched."""
        server = Server(folder=tmp_path if backend == "sqlite" else None)
        client = server.login("INBOX")
        result(server.mailbox().expunge([2], deleted_only=False))
        play(
            client,
            r"""
            C: a FETCH 1:3 (UID RFC822.SIZE)
            S: * 1 FETCH (UID 1 RFC822.SIZE 55)
            S: * 2 FETCH (UID 2 RFC822.SIZE 61)
            S: * 3 FETCH (UID 3 RFC822.SIZE 50)
            S: a OK Completed
            C: b FETCH 2 (FLAGS BODY[TEXT])
            S: * 2 FETCH (FLAGS (\Recent) BODY[TEXT] {13}
            S: Second body
            S: )
            S: b OK Completed
            C: c STORE 2:3 FLAGS (\Seen)
            S: * 2 FETCH (FLAGS (\Recent \Seen))
            S: * 3 FETCH (FLAGS (\Recent \Seen))
            S: c OK Completed
            C: d STORE 2:3 -FLAGS.SILENT (\Seen)
            S: d OK Completed
            C: f SEARCH UNSEEN TEXT body
            S: * SEARCH 2 3
            S: f OK Completed
            C: e COPY 2:3 Trash
            S: * 2 EXPUNGE
            S: * 1 RECENT
            S: e NO [EXPUNGEISSUED] Some of the messages are gone
            C: e COPY 2 Trash
            S: e OK [COPYUID 1767268805 3 1] Completed
            C: g UID FETCH 1:3 RFC822.SIZE
            S: * 1 FETCH (UID 1 RFC822.SIZE 55)
            S: * 2 FETCH (UID 3 RFC822.SIZE 50)
            S: g OK Completed
            """,
        )

    def test_uids_of_messages_that_are_gone_are_answered_before_that_is_told(self) -> None:
        server = Server()
        client = server.login("INBOX")
        result(server.mailbox().expunge([2], deleted_only=False))
        assert client.send(b"a UID FETCH 2 RFC822.SIZE\r\n") == (
            b"* 2 FETCH (UID 2 RFC822.SIZE 61)\r\n* 2 EXPUNGE\r\n* 1 RECENT\r\na OK Completed\r\n"
        )
        assert client.send(b"a UID FETCH 2 RFC822.SIZE\r\n") == b"a OK Completed\r\n"

    def test_a_silent_store_hides_only_its_own_change(self) -> None:
        server = Server()
        client = server.login("INBOX")
        result(server.mailbox().change_flags([2], FlagChange("add", frozenset({"\\Answered"}))))
        assert client.send(b"a STORE 2:3 +FLAGS.SILENT (\\Flagged)\r\n") == (
            b"* 2 FETCH (UID 2 FLAGS (\\Recent \\Answered \\Flagged))\r\na OK Completed\r\n"
        )

    def test_messages_that_vanish_between_the_row_and_the_octets(self) -> None:
        """The index of the session still has the row; the store does not."""
        server = Server()
        client = server.login("INBOX")
        server.database.store._engine.watchers.announce = lambda number, change: None
        client.session._context.selected._hold.end()
        result(server.mailbox().expunge([2], deleted_only=False))
        assert client.send(b"a FETCH 2 BODY.PEEK[]\r\n") == b"a NO [EXPUNGEISSUED] Some of the messages are gone\r\n"
        assert client.send(b"b FETCH 2 ENVELOPE\r\n") == b"b NO [EXPUNGEISSUED] Some of the messages are gone\r\n"
        assert client.send(b"c UID FETCH 2 BODY.PEEK[1]\r\n") == b"c OK Completed\r\n"
        assert client.send(b"d UID SEARCH BODY body\r\n") == b"* SEARCH 1 3\r\nd OK Completed\r\n"


class TestAppend:
    MESSAGE = b"Subject: four\r\n\r\nx\r\n"

    def test_the_octets_come_back_as_they_arrived(self) -> None:
        client = Server().login("INBOX")
        octets = bytes(range(1, 256)) * 1000
        client.send(b"a APPEND INBOX {%d}\r\n" % len(octets))
        for start in range(0, len(octets), 1000):
            client.send(octets[start : start + 1000])
        assert b"a OK [APPENDUID" in client.send(b"\r\n")
        assert client.send(b"b FETCH 4 BODY.PEEK[]\r\n") == (
            b"* 4 FETCH (BODY[] {255000}\r\n" + octets + b")\r\nb OK Completed\r\n"
        )

    def test_without_a_date_it_is_now(self) -> None:
        server = Server()
        client = server.login()
        server.clock.advance(1000)
        assert b"a OK" in client.send(b"a APPEND Sent {%d+}\r\n%b\r\n" % (len(self.MESSAGE), self.MESSAGE))
        assert result(server.mailbox("Sent").entries())[0].internal_date == EPOCH + 1000

    def test_over_quota_is_said_before_the_message_is_sent(self) -> None:
        server = Server(quota=1000)
        client = server.login()
        assert client.send(b"a APPEND Sent {1001}\r\n") == b"a NO [OVERQUOTA] Mailbox is full\r\n"
        assert client.send(b"b APPEND Sent {100}\r\n") == b"+ OK\r\n"

    @pytest.mark.parametrize(
        ("method", "error", "reply"),
        [
            ("write", StoreUnavailable(), b"a NO [UNAVAILABLE] Storage is not available, please try again later\r\n"),
            ("finish", StoreUnavailable(), b"a NO [UNAVAILABLE] Storage is not available, please try again later\r\n"),
            ("append", OverQuota(), b"a NO [OVERQUOTA] Mailbox is full\r\n"),
        ],
    )
    def test_trouble_while_it_arrives(
        self, method: str, error: Exception, reply: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = Server()
        client = server.login()

        async def fail(*args: object) -> None:
            raise error

        owner = type(server.mailbox()) if method == "append" else type(server.account.new_body())
        monkeypatch.setattr(owner, method, fail)
        assert client.send(b"a APPEND Sent {%d+}\r\n%b\r\n" % (len(self.MESSAGE), self.MESSAGE)) == reply
        monkeypatch.undo()
        assert client.send(b"b NOOP\r\n") == b"b OK Completed\r\n"
        assert b"c OK" in client.send(b"c APPEND Sent {%d+}\r\n%b\r\n" % (len(self.MESSAGE), self.MESSAGE))

    def test_a_mailbox_that_vanishes_meanwhile(self) -> None:
        server = Server()
        client = server.login()
        client.send(b"a APPEND Junk {5}\r\n")
        result(server.account.delete("Junk"))
        assert client.send(b"12345\r\n") == b"a NO [TRYCREATE] No such mailbox\r\n"

    def test_a_connection_lost_in_the_middle_leaves_nothing(self) -> None:
        server = Server()
        client = server.login()
        client.send(b"a APPEND INBOX {500}\r\nhalf")
        writer = client.session._context.arriving.writer
        client.drop()
        assert result(writer.finish()).octets == b""
        assert result(server.mailbox().status()).messages == 3


def test_a_store_that_cannot_write_can_still_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    client = server.login("INBOX")

    async def fail(*args: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(type(server.mailbox()), "change_flags", fail)
    assert b"Second body" in client.send(b"a FETCH 2 BODY[]\r\n")
    assert client.send(b"b STORE 2 FLAGS (\\Seen)\r\n").startswith(b"b NO [UNAVAILABLE]")


def test_flags_of_a_whole_mailbox_in_slices() -> None:
    server = Server(messages=MESSAGES * 700)
    client = server.login("INBOX")
    answer = client.send(b"a FETCH 1:* (UID FLAGS)\r\n")
    assert answer.count(b"FETCH (UID ") == 2100
    answer = client.send(b"b UID STORE 1:* +FLAGS.SILENT (\\Deleted)\r\n")
    assert answer == b"b OK Completed\r\n"
    assert client.send(b"c EXPUNGE\r\n").count(b"EXPUNGE\r\n") == 2100
    assert result(server.mailbox().entries()) == []


def test_a_slow_reader_is_waited_for() -> None:
    server = Server(messages=(b"Subject: big\r\n\r\n" + b"x" * 1000,) * 300)
    server.deliver(b"\r\n" + b"y" * 500_000, NO_FLAGS)
    client = server.login("INBOX")
    client.peer.slow = True
    received = client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
    assert len(received) < 300_000
    while portion := client.drained():
        assert len(portion) < 300_000
        received += portion
    assert received.endswith(b"a OK Completed\r\n")
    assert received.count(b"FETCH (BODY[] {1016}") == 300
    assert b"{500002}\r\n\r\n" + b"y" * 500_000 + b")\r\n" in received


def test_others_have_their_turn_while_fields_of_a_large_header_are_chosen() -> None:
    server = Server(messages=(b"A: b\r\n" * 20_000 + b"\r\n",))
    client, other = server.login("INBOX"), server.login()
    client.connection.dataReceived(
        b"a FETCH 1 (BODY.PEEK[HEADER.FIELDS.NOT (X)] BODY.PEEK[HEADER.FIELDS (A)]<1.9>)\r\n"
    )
    assert client.peer.taken() == b""
    assert other.send(b"o NOOP\r\n") == b"o OK Completed\r\n"
    answer = client.taken()
    assert b"* 1 FETCH (BODY[HEADER.FIELDS.NOT (X)] {120002}\r\nA: b\r\n" in answer
    assert answer.endswith(b" BODY[HEADER.FIELDS (A)]<1> {9}\r\n: b\r\nA: b)\r\na OK Completed\r\n")


def test_keywords_have_no_case_and_keep_the_letters_they_came_with(tmp_path: Path) -> None:
    for server in (Server(), Server(folder=tmp_path)):
        client = server.login("INBOX")
        assert b"* 1 FETCH (FLAGS (\\Seen $MdnSent Foo))" in client.send(b"a STORE 1 +FLAGS (Foo $MdnSent FOO)\r\n")
        assert b"* 2 FETCH (FLAGS (\\Recent Foo))" in client.send(b"b STORE 2 +FLAGS (fOO)\r\n")
        assert client.send(b"c SEARCH KEYWORD foo\r\n").startswith(b"* SEARCH 1 2\r\n")
        assert client.send(b"d SEARCH UNKEYWORD $MDNSENT\r\n").startswith(b"* SEARCH 2 3\r\n")
        assert b"* 1 FETCH (FLAGS (\\Seen $MdnSent))" in client.send(b"e STORE 1 -FLAGS (FOO)\r\n")
        flags = b"(\\Answered \\Flagged \\Deleted \\Seen \\Draft $MdnSent Foo"
        opened = server.login().send(b"f SELECT INBOX\r\n")
        assert b"* FLAGS " + flags + b")\r\n" in opened
        assert b"[PERMANENTFLAGS " + flags + b" \\*)]" in opened


def test_a_disk_without_room_is_told_before_a_message_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(folder=tmp_path)
    client = server.login("INBOX")

    def full(size: int = 0) -> None:
        raise StorageFull

    monkeypatch.setattr(server.database._engine.space, "check", full)
    said = b"NO [UNAVAILABLE] Insufficient system storage, please try again later\r\n"
    assert client.send(b"a APPEND INBOX {10}\r\n") == b"a " + said
    # COPY writes no content, and is how clients without MOVE delete.
    assert b"b OK" in client.send(b"b COPY 1 Trash\r\n")
    assert b"c OK" in client.send(b"c MOVE 1 Trash\r\n")
    client.send(b"d STORE 1:* +FLAGS.SILENT (\\Deleted)\r\n")
    assert b"* 1 EXPUNGE" in client.send(b"e EXPUNGE\r\n")
