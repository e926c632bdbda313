"""The session itself: login, STARTTLS, IDLE, trouble in handlers, and that nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from mailhub.errors import (
    AuthenticationFailed,
    Busy,
    InvalidMailboxName,
    MailboxExists,
    MailError,
    MessageGone,
    MessageTooLarge,
    NoSuchMailbox,
    NotPermitted,
    OverQuota,
    PermanentError,
    StoreUnavailable,
    TemporaryError,
)
from mailhub.interfaces import Origin
from mailhub.message.flags import SEEN
from mailhub.message.record import FlagChange
from mailhub.protocols.imap.errors import code_for
from tests.protocols.imap_rig import MESSAGES, USER, Client, Server, play, result


def watchers(server: Server) -> int:
    return sum(len(watches) for watches in server.database.store._engine.watchers._watches.values())


class TestRevoked:
    """The password or the account has changed."""

    def revoke(self, server: Server) -> None:
        (revoked,) = server.authenticator.revoked.values()
        revoked()

    @pytest.mark.parametrize("command", [b"", b"a IDLE\r\n"])
    def test_the_session_ends_at_once(self, command: bytes) -> None:
        server = Server()
        client = server.login("INBOX")
        client.send(command)
        self.revoke(server)
        assert client.taken() == b"* BYE Password or account has changed, please log in again\r\n"
        assert client.peer.disconnecting
        client.drop()
        assert server.authenticator.revoked == {}, "the gate is told that the session is over"

    def test_a_peer_that_takes_nothing_is_cut(self) -> None:
        server = Server()
        client = server.login("INBOX")
        client.peer.slow = True
        client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
        self.revoke(server)
        server.clock.advance(5)
        assert client.peer.disconnected


class TestLogin:
    @pytest.mark.parametrize(("network", "offered"), [("192.0.2.0/24", True), ("::/0", False)])
    def test_a_password_without_tls_from_trusted_networks_only(self, network: str, offered: bool) -> None:
        client = Server(plaintext_login=False, trusted=network).connect()
        assert (b" AUTH=PLAIN" in client.greeting) is offered
        assert (b"LOGINDISABLED" in client.greeting) is not offered
        assert client.send(b"a LOGIN " + USER.encode() + b" secret\r\n").startswith(
            b"a OK " if offered else b"a NO [PRIV"
        )

    def test_the_greeting_has_the_capabilities(self) -> None:
        assert Server().connect().greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 LITERAL+ ")

    def test_login_and_the_origin(self) -> None:
        server = Server()
        client = server.connect()
        assert client.send(b"a LOGIN b@yy.example secret\r\n").startswith(b"a OK [CAPABILITY IMAP4rev1 ")
        assert server.authenticator.origins == [Origin("imap", "192.0.2.7", client.link.session_id, secure=False)]
        assert client.link.idle_seconds == 1800

    def test_authenticate_plain_with_an_initial_response(self) -> None:
        client = Server().connect()
        assert client.send(b"a AUTHENTICATE PLAIN AGJAeXkuZXhhbXBsZQBzZWNyZXQ=\r\n").startswith(b"a OK [CAPABILITY")

    @pytest.mark.parametrize(
        ("trouble", "reply"),
        [
            (None, b"a NO [AUTHENTICATIONFAILED] Authentication failed\r\n"),
            (Busy(), b"a NO [UNAVAILABLE] Too busy, please try again later\r\n"),
            (NotPermitted("Account is locked"), b"a NO [NOPERM] Account is locked\r\n"),
        ],
    )
    def test_refused(self, trouble: Exception | None, reply: bytes) -> None:
        server = Server()
        server.authenticator.trouble = trouble
        client = server.connect()
        assert client.send(b"a LOGIN b@yy.example wrong\r\n") == reply
        server.authenticator.trouble = None
        assert b"a OK" in client.send(b"a LOGIN b@yy.example secret\r\n")

    def test_too_many_failures_end_the_connection(self) -> None:
        client = Server(failed_login_limit=2).connect()
        client.send(b"a LOGIN b@yy.example wrong\r\n")
        assert b"* BYE Too many failed logins" in client.send(b"a LOGIN b@yy.example wrong\r\n")
        assert client.peer.disconnecting

    def test_no_password_without_tls(self) -> None:
        client = Server(plaintext_login=False).connect()
        assert b"LOGINDISABLED" in client.greeting
        assert client.send(b"a LOGIN b@yy.example secret\r\n").startswith(b"a NO [PRIVACYREQUIRED]")

    def test_starttls_forgets_what_came_before(self) -> None:
        server = Server(plaintext_login=False)
        server.factory.tls = context = object()
        client = server.connect()
        started: list[Any] = []
        client.peer.startTLS = started.append  # type: ignore[attr-defined]
        assert b" STARTTLS LOGINDISABLED]" in client.greeting
        answer = client.send(b"a STARTTLS\r\nb LOGIN b@yy.example secret\r\n")
        assert answer == b"a OK Begin TLS negotiation now\r\n"
        assert started == [context]
        client.connection.handshakeCompleted()
        assert client.send(b"c CAPABILITY\r\n").splitlines()[0].endswith(b"SASL-IR AUTH=PLAIN AUTH=LOGIN")
        assert b"d OK" in client.send(b"d LOGIN b@yy.example secret\r\n")
        assert server.authenticator.origins[0].secure

    def test_pipelined_commands_are_answered_in_order(self) -> None:
        client = Server().connect()
        answer = client.send(
            b"a LOGIN b@yy.example secret\r\nb SELECT INBOX\r\nc FETCH 1 UID\r\nd LOGOUT\r\ne NOOP\r\n"
        )
        assert [line[:4] for line in answer.splitlines() if line[:2] != b"* "] == [b"a OK", b"b OK", b"c OK", b"d OK"]
        assert client.peer.disconnecting


class TestIdle:
    def test_changes_are_told_as_they_come(self) -> None:
        server = Server()
        client = server.login("INBOX")
        assert client.send(b"a IDLE\r\n") == b"+ idling\r\n"
        server.deliver(b"\r\n")
        assert client.taken() == b"* 4 EXISTS\r\n* 3 RECENT\r\n"
        result(server.mailbox().change_flags([1], FlagChange("remove", frozenset({SEEN}))))
        assert client.taken() == b"* 1 FETCH (UID 1 FLAGS ())\r\n"
        result(server.mailbox().expunge([2], deleted_only=False))
        assert client.taken() == b"* 2 EXPUNGE\r\n* 2 RECENT\r\n"
        assert client.send(b"DONE\r\n") == b"a OK Idle ended\r\n"
        server.deliver(b"\r\n")
        assert client.taken() == b""

    def test_what_waits_is_told_at_once(self) -> None:
        server = Server()
        client = server.login("INBOX")
        result(server.mailbox().expunge([1], deleted_only=False))
        assert client.send(b"a IDLE\r\n") == b"+ idling\r\n* 1 EXPUNGE\r\n"

    def test_changes_of_one_turn_are_told_in_one_write(self) -> None:
        server = Server()
        client = server.login("INBOX")
        client.send(b"a IDLE\r\n")
        for _ in range(3):
            server.deliver(b"\r\n")
        server.clock.advance(0)
        assert client.peer.writes == [b"* 6 EXISTS\r\n* 5 RECENT\r\n"]

    def test_without_a_mailbox(self) -> None:
        play(
            Server().login(),
            """
            C: a IDLE
            S: + idling
            C: DONE
            S: a OK Idle ended
            """,
        )

    def test_a_client_that_says_something_else(self) -> None:
        client = Server().login("INBOX")
        client.send(b"a IDLE\r\n")
        assert client.send(b"b NOOP\r\n") == b"a BAD Expected DONE\r\n"

    def test_idle_lasts_half_an_hour(self) -> None:
        server = Server()
        client = server.login("INBOX")
        client.send(b"a IDLE\r\n")
        server.clock.advance(1799)
        assert client.taken() == b""
        server.clock.advance(2)
        assert client.taken() == b"* BYE Idle for too long\r\n"

    def test_a_slow_idler_does_not_pile_up_output(self) -> None:
        server = Server(messages=MESSAGES * 400)
        client = server.login("INBOX")
        client.send(b"a IDLE\r\n")
        client.peer.slow = True
        client.peer.write(b"x" * 70_000)
        client.peer.taken()
        for flag in ("one", "two", "three"):
            result(server.mailbox().change_flags(range(1, 1201), FlagChange("add", frozenset({flag}))))
        assert client.taken() == b""
        assert client.drained().count(b" FETCH ") == 1200, "each message once, with its last flags"


class TestTrouble:
    def test_a_bug_in_a_handler_is_answered_and_logged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server = Server()
        client = server.login("INBOX")

        async def broken(*args: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(type(server.mailbox()), "change_flags", broken)
        with capturedLogs() as logs:
            answer = client.send(b"a STORE 1 FLAGS (\\Seen)\r\n")
        assert answer == b"a NO [SERVERBUG] Internal error, please try again later\r\n"
        assert client.link.session_id in [event.get("session_id") for event in logs]
        assert client.send(b"b NOOP\r\n") == b"b OK Completed\r\n"

    def test_a_literal_that_breaks_off_ends_the_connection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server = Server(messages=(b"\r\n" + b"x" * 300_000,))
        client = server.login("INBOX", examine=True)
        reader = type(result(server.mailbox().open(1)))
        read = reader.read

        async def fails(self: Any, offset: int = 0, length: int = -1) -> bytes:
            if offset > 100_000:
                raise StoreUnavailable
            octets: bytes = await read(self, offset, length)
            return octets

        monkeypatch.setattr(reader, "read", fails)
        with capturedLogs() as logs:
            answer = client.send(b"a FETCH 1 BODY[]\r\n")
        assert [event["log_format"][:19] for event in logs] == ["message broke off: "]
        assert answer.endswith(b"xxx")
        assert client.peer.disconnected

    def test_the_server_stops(self) -> None:
        server = Server()
        client = server.login("INBOX")
        Deferred.fromCoroutine(server.factory.stop())
        assert client.taken() == b"* BYE [UNAVAILABLE] Server is shutting down\r\n"

    def test_a_client_that_never_logs_in(self) -> None:
        server = Server()
        client = server.connect()
        server.clock.advance(61)
        assert client.taken() == b"* BYE Idle for too long\r\n"

    def test_select_that_fails_half_way_watches_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server = Server()
        client = server.login("INBOX")

        async def fail(*args: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(type(server.mailbox()), "entries", fail)
        assert client.send(b"a SELECT Sent\r\n").startswith(b"a NO [UNAVAILABLE]")
        assert watchers(server) == 0

    def test_a_lost_connection_releases_everything(self) -> None:
        server = Server()
        clients = [server.login("INBOX") for _ in range(3)]
        clients[0].send(b"a IDLE\r\n")
        assert watchers(server) == 3
        for client in clients:
            client.drop()
        assert watchers(server) == 0
        server.deliver(b"\r\n")
        server.clock.advance(0)

    def test_a_connection_lost_while_a_slow_fetch_waits(self) -> None:
        server = Server(messages=(b"\r\n" + b"x" * 100_000,) * 5)
        client = server.login("INBOX")
        client.peer.slow = True
        client.send(b"a FETCH 1:* BODY.PEEK[]\r\n")
        with capturedLogs() as logs:
            client.drop()
        assert watchers(server) == 0
        assert not [event for event in logs if "log_failure" in event]

    def test_a_change_that_comes_while_select_reads_the_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server = Server()
        client = server.login()
        gate: Deferred[None] = Deferred()
        kind = type(server.mailbox())
        entries = kind.entries

        async def late(self: Any, *args: Any) -> Any:
            rows = await entries(self, *args)
            await gate
            return rows

        monkeypatch.setattr(kind, "entries", late)
        assert client.send(b"a SELECT INBOX\r\n") == b""
        server.deliver(b"\r\n")
        result(server.mailbox().expunge([1], deleted_only=False))
        gate.callback(None)
        assert b"* 3 EXISTS\r\n" in client.taken()
        assert client.send(b"b NOOP\r\n") == b"* 1 EXPUNGE\r\n* 3 EXISTS\r\n* 3 RECENT\r\nb OK Completed\r\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoSuchMailbox(), b"NONEXISTENT"),
        (MailboxExists(), b"ALREADYEXISTS"),
        (InvalidMailboxName(), b"CANNOT"),
        (OverQuota(), b"OVERQUOTA"),
        (MessageTooLarge(), b"TOOBIG"),
        (MessageGone(), b"EXPUNGEISSUED"),
        (NotPermitted(), b"NOPERM"),
        (AuthenticationFailed(), b"AUTHENTICATIONFAILED"),
        (StoreUnavailable(), b"UNAVAILABLE"),
        (TemporaryError(), b"UNAVAILABLE"),
        (PermanentError(), b""),
        (PermanentError(status="4.9.9"), b"UNAVAILABLE"),
    ],
)
def test_codes_of_errors(error: MailError, code: bytes) -> None:
    assert code_for(error) == code


def test_a_missing_target_may_be_created() -> None:
    assert code_for(NoSuchMailbox(), target="new") == b"TRYCREATE"
    assert code_for(NoSuchMailbox(), target="../new") == code_for(NoSuchMailbox(), target="") == b"NONEXISTENT"


def test_the_end_of_a_session_is_logged_without_secrets() -> None:
    server = Server()
    with capturedLogs() as logs:
        client: Client = server.login("INBOX")
        client.send(b"a LOGOUT\r\n")
        client.drop()
    ended = [event for event in logs if "session ended" in event["log_format"]]
    assert [event["user"] for event in ended] == [USER]
    assert "secret" not in str(logs)


def test_what_a_client_says_of_itself_is_a_readable_line() -> None:
    client = Server().login("INBOX")
    with capturedLogs() as logs:
        client.send(b'a ID ("name" "A\'s Mail" "version" "1=2" "os" NIL)\r\n')
    (line,) = [formatEvent(event) for event in logs]
    assert line.endswith(r" fields='name: A\x27s Mail, version: 1\x3d2, os'")
