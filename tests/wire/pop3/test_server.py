from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.credentials import PlainCredentials
from mailhub.wire.pop3.events import Login, Retrieve, StartTls, Top
from mailhub.wire.pop3.maildrop import Maildrop
from mailhub.wire.pop3.server import Pop3Server, Pop3Settings
from mailhub.wire.sasl import LINE_LIMIT
from tests.wire.pop3.client import MESSAGES, OPEN, Talk

PLAIN = base64.b64encode(b"\0b\0secret")
ONE = MESSAGES[3].replace(b"\r\n.dot", b"\r\n..dot")

# RFC 1939 and its extensions, one command and its whole answer at a time, after login.
TRANSACTION = [
    (b"STAT", b"+OK 3 %d\r\n" % sum(map(len, MESSAGES.values()))),
    (b"LIST", b"+OK 3 messages (173 octets)\r\n1 37\r\n2 118\r\n3 18\r\n.\r\n"),
    (b"LIST 2", b"+OK 2 118\r\n"),
    (b"LIST 4", b"-ERR No such message\r\n"),
    (b"LIST 0", b"-ERR No such message\r\n"),
    (b"LIST -1", b"-ERR Not a number\r\n"),
    (b"LIST 00000000000001", b"+OK 1 37\r\n"),
    (b"LIST 4294967297", b"-ERR No such message\r\n"),
    (b"LIST 99999999999999999999", b"-ERR No such message\r\n"),
    (b" list \t2 ", b"+OK 2 118\r\n"),
    (b"UIDL", b"+OK Unique-ids follow\r\n1 99.3\r\n2 99.7\r\n3 99.8\r\n.\r\n"),
    (b"UIDL 2", b"+OK 2 99.7\r\n"),
    (b"uidl 9", b"-ERR No such message\r\n"),
    (b"RETR 1", b"+OK 37 octets\r\n" + ONE + b".\r\n"),
    (b"retr 9", b"-ERR No such message\r\n"),
    (b"RETR", b"-ERR Wrong number of arguments\r\n"),
    (b"RETR 1 2", b"-ERR Wrong number of arguments\r\n"),
    (b"TOP 1 0", b"+OK Top follows\r\nSubject: one\r\n\r\n.\r\n"),
    (b"TOP 1 2147483647", b"+OK Top follows\r\n" + ONE + b".\r\n"),
    (b"TOP\t01  99999999999999999999 ", b"+OK Top follows\r\n" + ONE + b".\r\n"),
    (b"TOP 1 -1", b"-ERR Not a number\r\n"),
    (b"TOP 1 1", b"+OK Top follows\r\nSubject: one\r\n\r\n..dot\r\n.\r\n"),
    (b"TOP 1", b"-ERR Wrong number of arguments\r\n"),
    (b"TOP 1 x", b"-ERR Not a number\r\n"),
    (b"DELE 1", b"+OK Message 1 marked for deletion\r\n"),
    (b"DELE 9", b"-ERR No such message\r\n"),
    (b"NOOP", b"+OK\r\n"),
    (b"NOOP ", b"+OK\r\n"),
    (b"NOOP x", b"-ERR Wrong number of arguments\r\n"),
    (b"RSET", b"+OK 3 messages (173 octets)\r\n"),
    (b"USER b", b"-ERR Logged in already\r\n"),
    (b"AUTH PLAIN", b"-ERR Logged in already\r\n"),
    (b"STLS", b"-ERR Logged in already\r\n"),
    (b"APOP b 0", b"-ERR Unknown command\r\n"),
    (b"LAST", b"-ERR Unknown command\r\n"),
    (b"", b"-ERR Unknown command\r\n"),
    (b"?\xff\xfe", b"-ERR Unknown command\r\n"),
    (b"NOOP" + b" " * 300, b"-ERR Line too long\r\n"),
]


@pytest.mark.parametrize(("command", "reply"), TRANSACTION)
def test_transaction_state(command: bytes, reply: bytes) -> None:
    assert Talk().login().send(command + b"\r\n") == reply


def test_greeting_offers_no_apop() -> None:
    talk = Talk()
    talk.machine.greet()
    assert talk.run() == b"+OK mx.example POP3 ready\r\n"


def test_user_and_pass_make_one_login() -> None:
    talk = Talk()
    assert talk.send(b"USER b c\r\n") == b"+OK Send PASS\r\n"
    assert talk.send(b"PASS  two words \r\n") == b"-ERR [AUTH] Authentication failed\r\n"
    assert talk.events == [Login(PlainCredentials("", "b c", " two words "))]


def test_pass_needs_a_user_of_its_own() -> None:
    talk = Talk()
    assert talk.send(b"PASS secret\r\n") == b"-ERR Send USER first\r\n"
    talk.send(b"USER b\r\nPASS wrong\r\n")
    assert talk.send(b"PASS secret\r\n") == b"-ERR Send USER first\r\n"


@pytest.mark.parametrize("password", [b"\xff\xfe", b"a\0b", b"tab\there"])
def test_credentials_that_cannot_be_never_reach_a_checker(password: bytes) -> None:
    talk = Talk()
    assert talk.send(b"USER b\r\nPASS " + password + b"\r\n").count(b"-ERR") == 1
    assert talk.events == []


@pytest.mark.parametrize("command", [b"STAT", b"LIST", b"RETR 1", b"DELE 1", b"TOP 1 1", b"UIDL", b"NOOP", b"RSET"])
def test_nothing_of_the_maildrop_before_login(command: bytes) -> None:
    assert Talk().send(command + b"\r\n") == b"-ERR Log in first\r\n"


def test_refused_logins_are_counted() -> None:
    talk = Talk(Pop3Settings(plaintext_login=True, logins=2))
    talk.send(b"USER b\r\nPASS wrong\r\n")
    assert not talk.machine.closing
    talk.send(b"USER b\r\nPASS wrong\r\nUSER b\r\nPASS secret\r\n")
    assert talk.machine.closing
    assert len(talk.events) == 2


class TestAuth:
    def test_initial_response(self) -> None:
        assert Talk().send(b"auth plain " + PLAIN + b"\r\n") == b"+OK 3 messages (173 octets)\r\n"

    def test_the_server_asks(self) -> None:
        talk = Talk()
        assert talk.send(b"AUTH PLAIN\r\n") == b"+ \r\n"
        assert talk.send(PLAIN + b"\r\n").startswith(b"+OK")

    def test_login_mechanism(self) -> None:
        talk = Talk()
        assert talk.send(b"AUTH LOGIN\r\n") == b"+ VXNlcm5hbWU6\r\n"
        assert talk.send(b"Yg==\r\n") == b"+ UGFzc3dvcmQ6\r\n"
        assert talk.send(b"c2VjcmV0\r\n").startswith(b"+OK")

    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            (b"*", b"-ERR Authentication cancelled\r\n"),
            (b"no base64!", b"-ERR Not valid base64\r\n"),
            (b"QUJD", b"-ERR Malformed PLAIN response\r\n"),
            (b"A" * (LINE_LIMIT + 1), b"-ERR Line too long\r\n"),
        ],
    )
    def test_a_broken_exchange_is_over(self, line: bytes, reply: bytes) -> None:
        talk = Talk()
        talk.send(b"AUTH PLAIN\r\n")
        assert talk.send(line + b"\r\n") == reply
        assert talk.send(b"NOOP\r\n") == b"-ERR Log in first\r\n"

    @pytest.mark.parametrize("name", [b"CRAM-MD5", b"\xff", b"EXTERNAL ="])
    def test_unknown_mechanism(self, name: bytes) -> None:
        assert Talk().send(b"AUTH " + name + b"\r\n") == b"-ERR Unknown authentication mechanism\r\n"

    def test_needs_a_mechanism(self) -> None:
        assert Talk().send(b"AUTH\r\n") == b"-ERR Wrong number of arguments\r\n"


class TestPrivacy:
    CLOSED = Pop3Settings(can_start_tls=True)

    @pytest.mark.parametrize("command", [b"USER b", b"PASS secret", b"AUTH PLAIN " + PLAIN, b"AUTH PLAIN"])
    def test_no_password_in_clear_text(self, command: bytes) -> None:
        talk = Talk(self.CLOSED)
        assert talk.send(command + b"\r\n").startswith(b"-ERR Start TLS first")
        assert talk.events == []

    def test_stls_drops_what_was_sent_before_it(self) -> None:
        talk = Talk(self.CLOSED)
        assert talk.send(b"STLS\r\nUSER b\r\nPASS sec") == b"+OK Begin TLS negotiation\r\n"
        assert talk.events == [StartTls()]
        talk.machine.tls_started()
        assert talk.send(b"ret\r\n") == b"-ERR Unknown command\r\n"
        assert talk.send(b"AUTH PLAIN " + PLAIN + b"\r\n").startswith(b"+OK")

    def test_tls_forgets_the_user_name(self) -> None:
        talk = Talk(Pop3Settings(can_start_tls=True, plaintext_login=True))
        talk.send(b"USER b\r\nSTLS\r\n")
        talk.machine.tls_started()
        assert talk.send(b"PASS secret\r\n") == b"-ERR Send USER first\r\n"

    def test_stls_twice(self) -> None:
        talk = Talk(self.CLOSED)
        talk.send(b"STLS\r\n")
        talk.machine.tls_started()
        assert talk.send(b"STLS\r\n") == b"-ERR TLS is on already\r\n"

    def test_stls_without_a_certificate(self) -> None:
        assert Talk().send(b"STLS\r\n") == b"-ERR TLS is not available\r\n"


class TestCapabilities:
    ALWAYS = ("TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "IMPLEMENTATION mailhub")

    def ask(self, talk: Talk) -> set[str]:
        first, *lines, dot, empty = talk.send(b"CAPA\r\n").decode().split("\r\n")
        assert (first[:3], dot, empty) == ("+OK", ".", "")
        return set(lines) - set(self.ALWAYS) if set(self.ALWAYS) <= set(lines) else {"incomplete"}

    def test_before_tls(self) -> None:
        assert self.ask(Talk(Pop3Settings(can_start_tls=True))) == {"STLS"}

    def test_after_stls(self) -> None:
        talk = Talk(Pop3Settings(can_start_tls=True))
        talk.send(b"STLS\r\n")
        talk.machine.tls_started()
        assert self.ask(talk) == {"USER", "SASL PLAIN LOGIN"}

    def test_without_a_certificate(self) -> None:
        assert self.ask(Talk(Pop3Settings())) == set()

    def test_in_the_transaction_state(self) -> None:
        assert self.ask(Talk(Pop3Settings(can_start_tls=True, plaintext_login=True)).login()) == {
            "USER",
            "SASL PLAIN LOGIN",
        }


class TestDeletion:
    def test_takes_effect_at_quit_only(self) -> None:
        talk = Talk().login()
        talk.send(b"DELE 1\r\nDELE 3\r\n")
        assert not talk.removed
        assert talk.send(b"QUIT\r\n") == b"+OK Bye\r\n"
        assert talk.removed == (3, 8)
        assert talk.machine.closing

    def test_marked_messages_are_not_there(self) -> None:
        talk = Talk().login()
        talk.send(b"DELE 2\r\n")
        assert talk.send(b"STAT\r\n") == b"+OK 2 55\r\n"
        assert talk.send(b"UIDL\r\n") == b"+OK Unique-ids follow\r\n1 99.3\r\n3 99.8\r\n.\r\n"
        for command in (b"RETR 2", b"DELE 2", b"LIST 2", b"UIDL 2", b"TOP 2 0"):
            assert talk.send(command + b"\r\n") == b"-ERR Message is marked for deletion\r\n"

    def test_rset_takes_the_marks_off(self) -> None:
        talk = Talk().login()
        assert talk.send(b"DELE 2\r\nRSET\r\nQUIT\r\n").endswith(b"+OK 3 messages (173 octets)\r\n+OK Bye\r\n")
        assert not talk.removed

    def test_quit_before_login(self) -> None:
        talk = Talk()
        assert talk.send(b"QUIT\r\nUSER b\r\n") == b"+OK Bye\r\n"
        assert talk.machine.closing

    def test_what_could_not_be_removed_is_said(self) -> None:
        talk = Talk().login()
        talk.machine.receive_data(b"DELE 1\r\nQUIT\r\n")
        talk.machine.next_event()
        talk.machine.update_failed("Storage is not available")
        assert talk.machine.data_to_send().endswith(b"-ERR [SYS/TEMP] Storage is not available\r\n")
        assert talk.machine.closing


def test_pipelined_commands_are_answered_in_order() -> None:
    talk = Talk().login()
    replies = talk.send(b"RETR 1\r\nDELE 1\r\nTOP 2 0\r\nSTAT\r\nQUIT\r\nSTAT\r\n")
    expected = [b"+OK 37 octets\r\n" + ONE + b".\r\n", b"+OK Message 1 marked for deletion\r\n"]
    expected += [b"+OK Top follows\r\nSubject: two\r\n\r\n.\r\n", b"+OK 2 136\r\n", b"+OK Bye\r\n"]
    assert replies == b"".join(expected)


def test_an_event_must_be_answered_first() -> None:
    talk = Talk().login()
    talk.machine.receive_data(b"RETR 1\r\n")
    talk.machine.next_event()
    with pytest.raises(RuntimeError, match="Retrieve has not been answered"):
        talk.machine.next_event()
    with pytest.raises(RuntimeError, match="not the answer to Retrieve"):
        talk.machine.updated()
    with pytest.raises(RuntimeError, match="without content_started"):
        talk.machine.content(b"")


def test_text_from_elsewhere_stays_one_printable_line() -> None:
    talk = Talk().login()
    talk.machine.receive_data(b"RETR 1\r\n")
    talk.machine.next_event()
    talk.machine.refused("broken\r\n+OK fooled\x1b \u00e9" + "y" * 600)
    reply = talk.machine.data_to_send()
    assert reply.startswith(b"-ERR broken +OK fooled? ?yyy")
    assert len(reply) == 512
    assert reply.count(b"\r\n") == 1


class TestOurOwnTrouble:
    def test_a_failed_command_leaves_the_session_usable(self) -> None:
        talk = Talk().login()
        talk.machine.receive_data(b"RETR 1\r\n")
        talk.machine.next_event()
        talk.machine.internal_error()
        assert talk.machine.data_to_send() == b"-ERR [SYS/TEMP] Internal error, please try again later\r\n"
        assert talk.send(b"NOOP\r\n") == b"+OK\r\n"

    def test_in_the_middle_of_a_message_nothing_can_be_said(self) -> None:
        talk = Talk().login()
        talk.machine.receive_data(b"RETR 1\r\n")
        talk.machine.next_event()
        talk.machine.content_started("37 octets")
        talk.machine.content(b"half")
        talk.machine.data_to_send()
        talk.machine.internal_error()
        assert (talk.machine.data_to_send(), talk.machine.closing) == (b"", True)

    def test_after_the_answer_to_stls_the_client_waits_for_tls(self) -> None:
        talk = Talk(Pop3Settings(can_start_tls=True))
        talk.send(b"STLS\r\n")
        talk.machine.internal_error()
        assert talk.machine.closing


class TestBounds:
    def test_bad_commands(self) -> None:
        talk = Talk(Pop3Settings(plaintext_login=True, bad_commands=3))
        replies = talk.send(b"X\r\n" * 10)
        assert replies == b"-ERR Unknown command\r\n" * 2 + b"-ERR Too many errors\r\n"
        assert talk.machine.closing

    def test_commands_before_login_are_counted(self) -> None:
        talk = Talk(Pop3Settings(plaintext_login=True, commands_before_login=3))
        assert talk.send(b"NOOP\r\n" * 9).count(b"\r\n") == 4
        assert talk.machine.closing
        talk = Talk(Pop3Settings(plaintext_login=True, commands_before_login=3)).login()
        assert talk.send(b"NOOP\r\n" * 9) == b"+OK\r\n" * 9

    def test_a_line_without_end_is_not_held(self) -> None:
        talk = Talk()
        for _ in range(100):
            assert talk.send(b"x" * 10_000) == b""
        assert len(talk.machine._lines) <= LINE_LIMIT
        assert talk.send(b"\r\n") == b"-ERR Line too long\r\n"

    def test_lines_are_short_where_no_auth_can_come(self) -> None:
        talk = Talk().login()
        talk.send(b"x" * 300)
        assert len(talk.machine._lines) <= 255

    @pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"CONNECT mx.example:25 HTTP/1.1"])
    def test_browsers_are_cut_off_at_once(self, line: bytes) -> None:
        talk = Talk()
        talk.send(line + b"\r\nUSER b\r\n")
        assert talk.machine.closing
        assert talk.events == []

    def test_a_flood_of_long_answers_waits_for_the_peer(self) -> None:
        talk = Talk(messages=dict.fromkeys(range(1, 20_001), b"x")).login()
        talk.machine.receive_data(b"LIST\r\n" * 50)
        largest = total = 0
        while True:
            assert talk.machine.next_event() is None
            octets = talk.machine.data_to_send()
            if not octets:
                break
            largest = max(largest, len(octets))
            total += len(octets)
        assert largest < 30_000
        assert total > 50 * 20_000 * 4


SCRIPT = (
    b"CAPA\r\nUSER b\nPASS secret\r\nSTAT\r\n" + b"Y" * 300 + b"\r\nLIST\r\nUIDL 1\r\nRETR 1\r\nTOP 1 1\r\n"
    b"DELE 2\r\nRETR 2\r\nNOOP\r\n\0\r\nRETR 3\r\nQUIT\r\nNOOP\r\n"
)


def whole_script() -> tuple[bytes, list[object], tuple[int, ...]]:
    talk = Talk(OPEN)
    return talk.send(SCRIPT), list(talk.events), talk.removed


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, len(SCRIPT)), max_size=30))
def test_any_split_gives_the_same_events_and_replies(cuts: list[int]) -> None:
    talk = Talk(OPEN)
    edges = [0, *sorted(cuts), len(SCRIPT)]
    replies = b"".join(talk.send(SCRIPT[a:b]) for a, b in pairwise(edges))
    assert (replies, talk.events, talk.removed) == whole_script()
    assert {type(event) for event in talk.events} >= {Login, Retrieve, Top}


words = st.sampled_from(
    [b"CAPA", b"USER b", b"PASS secret", b"AUTH PLAIN", PLAIN, b"*", b"RETR 1", b"TOP 1 9", b"DELE 2", b"LIST", b"STLS"]
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(words, st.binary(max_size=40)), max_size=30))
def test_no_octets_break_the_machine(lines: list[bytes]) -> None:
    """Every complete command gets exactly one answer, or the connection is closed."""
    talk = Talk(Pop3Settings(plaintext_login=True, bad_commands=1000, logins=1000))
    replies = talk.send(b"".join(line + b"\r\n" for line in lines))
    assert talk.send(b"NOOP\r\n") or talk.machine.closing
    assert all(line.startswith((b"+", b"-ERR ")) for line in replies.split(b"\r\n")[:1] if line)


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 9"])
def test_no_content_can_end_early_for_a_client_that_counts_bare_line_ends(command: bytes) -> None:
    talk = Talk(OPEN, {1: b"Subject: s\n\na\n.\n+OK smuggled\r.\r\nb"}).login()
    answer = talk.send(command + b"\r\n").partition(b"\r\n")[2]
    assert answer == b"Subject: s\r\n\r\na\r\n..\r\n+OK smuggled\r\n..\r\nb\r\n.\r\n"


def test_an_endless_line_ends_the_session() -> None:
    talk = Talk(OPEN)
    assert b"".join(talk.send(b"x" * 65536) for _ in range(20)) == b"-ERR Line too long\r\n"
    assert talk.machine.closing


def test_a_machine_answers_only_what_it_was_asked() -> None:
    with pytest.raises(RuntimeError):
        Pop3Server(OPEN).login_accepted(Maildrop(1, ()))
    with pytest.raises(RuntimeError):
        Pop3Server(OPEN).content_started("")
