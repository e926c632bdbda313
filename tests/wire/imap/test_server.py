"""The server machine: states, logins, TLS, literals, IDLE, limits, pipelining, and its contract with the handler."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mailhub.credentials import PlainCredentials
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.server import ImapServer
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.imap.state import SessionState
from tests.wire.imap.talk import Talk, settings

JOE = PlainCredentials("", "joe", "secret")
TOOBIG = b" NO [TOOBIG] Literal is too large\r\n"


def refuse(machine: ImapServer, event: Any) -> None:
    machine.no(event.tag, "Sorry")


# --- greeting, capabilities, states


def capabilities_of(talk: Talk) -> set[bytes]:
    first = talk.line("C CAPABILITY").partition(b"\r\n")[0]
    return set(first.removeprefix(b"* CAPABILITY ").split())


_EVERYWHERE = {b"IMAP4rev1", b"LITERAL+", b"ID", b"ENABLE", b"IDLE", b"NAMESPACE", b"UIDPLUS", b"MOVE", b"UNSELECT"} | {
    b"CHILDREN",
    b"SPECIAL-USE",
}


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"secure": True}, {b"SASL-IR", b"AUTH=PLAIN", b"AUTH=LOGIN"}),
        ({"secure": True, "starttls": True}, {b"SASL-IR", b"AUTH=PLAIN", b"AUTH=LOGIN"}),
        ({"secure": False, "starttls": True}, {b"SASL-IR", b"STARTTLS", b"LOGINDISABLED"}),
        ({"secure": False}, {b"SASL-IR", b"LOGINDISABLED"}),
        ({"secure": False, "plaintext_login": True, "mechanisms": ("PLAIN",)}, {b"SASL-IR", b"AUTH=PLAIN"}),
    ],
)
def test_capabilities_before_login(changes: dict[str, Any], more: set[bytes]) -> None:
    assert capabilities_of(Talk(settings(**changes))) == _EVERYWHERE | more


def test_capabilities_after_login_say_nothing_of_logging_in() -> None:
    assert capabilities_of(Talk(settings(starttls=True)).login()) == _EVERYWHERE


def test_greeting_and_login_carry_the_capabilities() -> None:
    machine = ImapServer(ImapSettings("mx.example", secure=True, capabilities=()))
    machine.greet()
    assert machine.data_to_send() == (
        b"* OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN AUTH=LOGIN] mx.example ready\r\n"
    )
    answer = Talk(settings(capabilities=())).line("a LOGIN joe secret")
    assert answer == b"a OK [CAPABILITY IMAP4rev1 LITERAL+] Completed\r\n"


def test_what_is_not_offered_does_not_exist() -> None:
    talk = Talk(settings(capabilities=())).select()
    for command in ("ID NIL", "ENABLE X", "IDLE", "NAMESPACE", "UNSELECT", "UID EXPUNGE 1", "MOVE 1 a", "UID MOVE 1 a"):
        assert talk.line(f"a {command}") == b"a BAD Unknown command\r\n"
    assert talk.seen() == []


_BEFORE = ("STARTTLS", "LOGIN a b", "AUTHENTICATE PLAIN")
_AFTER = [
    *("SELECT a", "EXAMINE a", "CREATE a", "DELETE a", "RENAME a b", "SUBSCRIBE a", "UNSUBSCRIBE a", 'LIST "" *'),
    *('LSUB "" *', "STATUS a (UNSEEN)", "NAMESPACE", "ENABLE X", "IDLE", "APPEND a {3+}"),
]
_INSIDE = [
    *("CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "SEARCH ALL", "FETCH 1 UID", "STORE 1 FLAGS ()", "COPY 1 a", "MOVE 1 a"),
    *("UID EXPUNGE 1", "UID SEARCH ALL", "UID FETCH 1 UID", "UID STORE 1 FLAGS ()", "UID COPY 1 a", "UID MOVE 1 a"),
]


@pytest.mark.parametrize("command", _AFTER + _INSIDE)
def test_not_before_login(command: str) -> None:
    talk = Talk()
    assert talk.line(f"a {command}") == b"a BAD Not allowed in the not authenticated state\r\n"
    assert talk.seen() == []


@pytest.mark.parametrize("command", [*_BEFORE, *_INSIDE])
def test_not_without_a_selected_mailbox(command: str) -> None:
    talk = Talk().login()
    assert talk.line(f"a {command}") == b"a BAD Not allowed in the authenticated state\r\n"
    assert talk.seen() == []


@pytest.mark.parametrize("command", _BEFORE)
def test_not_after_select(command: str) -> None:
    assert Talk().select().line(f"a {command}") == b"a BAD Not allowed in the selected state\r\n"


def test_select_and_what_ends_it() -> None:
    talk = Talk().login()
    assert talk.line("a SELECT INBOX") == b"a OK [READ-WRITE] Completed\r\n"
    assert talk.state() is SessionState.SELECTED
    assert talk.line("b EXAMINE INBOX") == b"b OK [READ-ONLY] Completed\r\n"
    assert talk.state() is SessionState.SELECTED
    for command in ("CLOSE", "UNSELECT"):
        assert talk.line(f"c {command}") == b"c OK Completed\r\n"
        assert talk.state() is SessionState.AUTHENTICATED
        talk.line("d SELECT INBOX")
    talk.answers[commands.Close] = refuse
    talk.line("e CLOSE")
    assert talk.state() is SessionState.SELECTED


def test_a_select_that_fails_leaves_none_selected_but_a_wrong_one_changes_nothing() -> None:
    talk = Talk().select()
    assert talk.line("a SELECT") == b"a BAD Expected a space at octet 9\r\n"
    assert talk.state() is SessionState.SELECTED
    talk.answers[commands.Select] = refuse
    assert talk.line("b SELECT gone") == b"b NO Sorry\r\n"
    assert talk.state() is SessionState.AUTHENTICATED


def test_logout_closes_and_what_follows_is_not_read() -> None:
    talk = Talk().login()
    assert talk.send(b"a LOGOUT\r\nb NOOP\r\n") == b"* BYE Logging out\r\na OK Completed\r\n"
    assert talk.machine.closing
    assert talk.send(b"c NOOP\r\n") == b""
    assert talk.machine.held() == 0
    assert talk.seen() == [commands.Logout("a")]


# --- syntax


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", b"* BAD Expected a tag at octet 1\r\n"),
        (b" \t ", b"* BAD Expected a tag at octet 4\r\n"),
        (b"+ NOOP", b"* BAD Expected a tag at octet 1\r\n"),
        (b"a", b"a BAD Expected a space at octet 2\r\n"),
        (b"a ", b"a BAD Expected an atom at octet 3\r\n"),
        (b"a FOO", b"a BAD Unknown command\r\n"),
        (b"a UID", b"a BAD Unknown command\r\n"),
        (b"a UID FOO", b"a BAD Unknown command\r\n"),
        (b"a NOOP x", b"a BAD Unexpected octets after the command at octet 8\r\n"),
        (b"a NOOP\rb NOOP", b"a BAD Unexpected octets after the command at octet 7\r\n"),
        (b"a NO\0OP", b"a BAD Unknown command\r\n"),
        (
            b'a CREATE "../x"',
            b"a NO [CANNOT] Each level of a mailbox name must have 1 to 255 octets and not be . or ..\r\n",
        ),
        (b"a SEARCH CHARSET X ALL", b"a BAD Not allowed in the authenticated state\r\n"),
    ],
)
def test_errors_are_answered_by_the_machine(line: bytes, answer: bytes) -> None:
    talk = Talk().login()
    assert talk.send(line + b"\r\n") == answer
    assert talk.line("b NOOP") == b"b OK Completed\r\n"
    assert talk.seen() == [commands.Noop("b")]


@pytest.mark.parametrize("line", [b" a NOOP", b"a  NOOP", b"a NOOP ", b"\ta\tNOOP \t", b"a  UID  STORE  1  FLAGS  () "])
def test_stray_blanks_mean_nothing(line: bytes) -> None:
    talk = Talk().select()
    assert talk.send(line + b"\r\n") == b"a OK Completed\r\n"


def test_stray_blanks_around_done_and_credentials_mean_nothing() -> None:
    talk = Talk()
    assert talk.line("a AUTHENTICATE  PLAIN") == b"+ \r\n"
    assert b"a OK" in talk.line("AGpvZQBzZWNyZXQ= ")
    assert talk.line("b IDLE ") == b"+ idling\r\n"
    assert talk.line("DONE ") == b"b OK Completed\r\n"


def test_unknown_charset() -> None:
    answer = Talk().select().line("a SEARCH CHARSET KOI8-R ALL")
    assert answer == b"a NO [BADCHARSET (UTF-8 US-ASCII)] Charset is not supported\r\n"


def test_pipelined_commands_come_one_at_a_time_in_order() -> None:
    talk = Talk().login()
    talk.answers[commands.Check] = refuse
    answer = talk.send(b"a NOOP\r\nb FOO\r\nc STATUS x (UNSEEN)\r\nd CAPABILITY\r\ne SELECT y\r\nf CHECK\r\n")
    assert [line.split()[0] for line in answer.splitlines()] == [b"a", b"b", b"c", b"*", b"d", b"e", b"f"]
    assert [type(event).__name__ for event in talk.seen()] == ["Noop", "Status", "Select", "Check"]


# --- what the machine answers itself


def test_id() -> None:
    talk = Talk(settings(identity={"name": "mailhub", "vendor": 'a "b"'}))
    answer = talk.line('a ID ("name" "Mail \\"x\\"" "version" NIL)')
    assert answer == b'* ID ("name" "mailhub" "vendor" "a \\"b\\"")\r\na OK Completed\r\n'
    assert talk.seen() == [commands.Identified((("name", 'Mail "x"'), ("version", None)))]


def test_enable_turns_on_what_there_is_once() -> None:
    talk = Talk(settings(enableable=frozenset({"CONDSTORE", "QRESYNC"}))).login()
    assert talk.line("a ENABLE foo condstore CONDSTORE") == b"* ENABLED CONDSTORE\r\na OK Completed\r\n"
    assert talk.line("b ENABLE CONDSTORE") == b"* ENABLED\r\nb OK Completed\r\n"
    assert talk.machine.enabled == {"CONDSTORE"}


# --- login


def plain(message: bytes) -> str:
    return base64.b64encode(message).decode()


def test_login_by_command() -> None:
    talk = Talk()
    talk.line('a LOGIN joe "secret"')
    assert talk.seen() == [commands.Login("a", JOE)]
    assert talk.state() is SessionState.AUTHENTICATED


def test_authenticate_plain_with_and_without_initial_response() -> None:
    message = plain(b"\0joe\0secret")
    talk = Talk()
    talk.line(f"a AUTHENTICATE plain {message}")
    assert talk.seen() == [commands.Login("a", JOE, "SASL PLAIN")]
    talk = Talk()
    assert talk.line("a AUTHENTICATE PLAIN") == b"+ \r\n"
    assert talk.line(message).startswith(b"a OK [CAPABILITY ")
    assert talk.seen() == [commands.Login("a", JOE, "SASL PLAIN")]


def test_authenticate_plain_as_another_user() -> None:
    talk = Talk()
    talk.line(f"a AUTHENTICATE PLAIN {plain(b'ann' + bytes(1) + b'joe' + bytes(1) + b'secret')}")
    assert talk.seen() == [commands.Login("a", PlainCredentials("ann", "joe", "secret"), "SASL PLAIN")]


def test_authenticate_login_in_two_steps() -> None:
    talk = Talk()
    assert talk.line("a AUTHENTICATE LOGIN") == b"+ VXNlcm5hbWU6\r\n"
    assert talk.line(plain(b"joe")) == b"+ UGFzc3dvcmQ6\r\n"
    talk.line(plain(b"secret"))
    assert talk.seen() == [commands.Login("a", JOE, "SASL LOGIN")]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"*", b"authentication cancelled"),
        (b"!", b"not valid base64"),
        (b"AAAA", b"malformed PLAIN response"),
        (b"b NOOP", b"not valid base64"),
        (b"AA== {3}", b"not valid base64"),
    ],
)
def test_a_broken_exchange_is_over(line: bytes, text: bytes) -> None:
    talk = Talk()
    talk.line("a AUTHENTICATE PLAIN")
    assert talk.send(line + b"\r\n") == b"a BAD AUTHENTICATE: " + text + b"\r\n"
    assert talk.line("c NOOP") == b"c OK Completed\r\n"
    assert talk.state() is SessionState.NOT_AUTHENTICATED


def test_an_unsolicited_literal_in_an_exchange_is_not_run() -> None:
    talk = Talk()
    talk.line("a AUTHENTICATE PLAIN")
    talk.send(b"AA {10+}\r\nx NOOP\r\n\r\n!\r\ny NOOP\r\n")
    assert talk.seen() == [commands.Noop("y")]


def test_an_unknown_mechanism() -> None:
    assert Talk().line("a AUTHENTICATE GSSAPI") == b"a NO [CANNOT] Mechanism is not offered\r\n"


def test_a_response_may_be_longer_than_other_lines() -> None:
    talk = Talk(settings(unauthenticated_line_limit=100))
    message = plain(b"\0joe\0" + b"x" * 1000)
    talk.line("a AUTHENTICATE PLAIN")
    talk.line(message)
    assert talk.seen() == [commands.Login("a", PlainCredentials("", "joe", "x" * 1000), "SASL PLAIN")]


def test_without_tls_no_password_is_taken_nor_asked_for() -> None:
    talk = Talk(settings(secure=False, starttls=True))
    refused = b"a NO [PRIVACYREQUIRED] Please start TLS first\r\n"
    assert talk.line("a LOGIN joe secret") == refused
    assert talk.line("a LOGIN {3}") == refused
    assert talk.line("a AUTHENTICATE PLAIN") == refused
    assert talk.send(b"a LOGIN {3+}\r\njoe {6+}\r\nsecret\r\n") == refused
    assert talk.seen() == []


def test_failed_logins_are_limited() -> None:
    talk = Talk(settings(failed_login_limit=3), {commands.Login: refuse})
    assert talk.line("a LOGIN joe wrong") == b"a NO Sorry\r\n"
    assert talk.line("a LOGIN joe {0}") == b"+ OK\r\n"
    # Credentials that cannot be right are not shown to the handler, and count.
    assert talk.line("").startswith(b"a NO [AUTHENTICATIONFAILED] ")
    assert talk.line("a LOGIN joe wrong") == b"a NO Sorry\r\n* BYE Too many failed logins\r\n"
    assert talk.machine.closing


# --- TLS


def test_starttls_forgets_everything() -> None:
    talk = Talk(settings(secure=False, starttls=True))
    machine = talk.machine
    machine.receive_data(b"a STARTTLS\r\nb LOGIN joe secret\r\nc LOGIN {500+}\r\n")
    assert machine.next_event() == commands.StartTls("a")
    machine.ok("a", "Begin TLS")
    assert machine.data_to_send() == b"a OK Begin TLS\r\n"
    assert machine.next_event() is None
    machine.tls_started()
    assert machine.held() == 0
    assert machine.next_event() is None
    assert b"AUTH=PLAIN" in capabilities_of(talk)
    assert b"STARTTLS" not in capabilities_of(talk)
    assert talk.line("d STARTTLS") == b"d BAD TLS is on already\r\n"
    talk.line("e LOGIN joe secret")
    assert talk.seen() == [commands.Login("e", JOE)]


def test_starttls_not_offered_or_refused() -> None:
    assert Talk(settings(secure=False)).line("a STARTTLS") == b"a BAD TLS is not offered\r\n"
    talk = Talk(settings(secure=False, starttls=True), {commands.StartTls: refuse})
    assert talk.send(b"a STARTTLS\r\nb NOOP\r\n") == b"a NO Sorry\r\nb OK Completed\r\n"


# --- literals


def test_a_synchronising_literal_is_asked_for() -> None:
    talk = Talk().login()
    assert talk.send(b"a RENAME {1}\r\n") == b"+ OK\r\n"
    assert talk.send(b"x {2}\r\n") == b"+ OK\r\n"
    assert talk.send(b"yz") == b""
    assert talk.send(b"\r\n") == b"a OK Completed\r\n"
    assert talk.seen() == [commands.Rename("a", "x", "yz")]


def test_a_non_synchronising_literal_is_not() -> None:
    talk = Talk().login()
    assert talk.send(b"a RENAME {1+}\r\nx {2+}\r\nyz\r\n") == b"a OK Completed\r\n"
    assert talk.seen() == [commands.Rename("a", "x", "yz")]


def test_a_literal_may_hold_line_endings_and_what_looks_like_a_literal() -> None:
    talk = Talk().select()
    text = "x {3+}\r\nb NOOP\r\n"
    talk.send(b"a SEARCH BODY {%d+}\r\n%b SEEN\r\nc NOOP\r\n" % (len(text), text.encode()))
    key = commands.And((commands.BodyContains(text), commands.HasFlag("\\Seen")))
    assert talk.seen() == [commands.Search("a", False, key), commands.Noop("c")]


def test_a_literal_too_large_is_refused_unread() -> None:
    talk = Talk(settings(literal_limit=10)).login()
    assert talk.line("a SELECT {11}") == b"a" + TOOBIG
    assert talk.line("b SELECT {99999999999999999999}") == b"b" + TOOBIG
    assert talk.line("c NOOP") == b"c OK Completed\r\n"


def test_a_non_synchronising_literal_too_large_is_thrown_away_with_its_command() -> None:
    talk = Talk(settings(literal_limit=10)).login()
    answer = talk.send(b"a RENAME {11+}\r\nb DELETE x\r {12+}\r\nc DELETE x\r\n\r\nd NOOP\r\n")
    assert answer == b"a" + TOOBIG + b"d OK Completed\r\n"
    assert talk.seen() == [commands.Noop("d")]


def test_the_literals_of_a_wrong_command_are_not_run() -> None:
    talk = Talk().login()
    answer = talk.send(b"a FOO {10+}\r\nb NOOP\r\n\r\n x {10+}\r\nc NOOP\r\n\r\n\r\nd NOOP\r\n")
    assert answer == b"a BAD Unknown command\r\nd OK Completed\r\n"
    assert talk.seen() == [commands.Noop("d")]


def test_before_login_literals_are_small() -> None:
    talk = Talk(settings(unauthenticated_literal_limit=10, unauthenticated_command_limit=40))
    assert talk.line("a LOGIN {11}") == b"a" + TOOBIG
    assert talk.send(b"b LOGIN {10+}\r\n1234567890 {10+}\r\n1234567890\r\n") == b"b" + TOOBIG


def test_the_number_of_literals_is_limited() -> None:
    talk = Talk(settings(literal_count_limit=2)).select()
    answer = talk.send(b"a SEARCH BODY {1+}\r\nx BODY {1+}\r\ny BODY {1+}\r\nz\r\nb NOOP\r\n")
    assert answer == b"a NO [TOOBIG] Too many literals\r\nb OK Completed\r\n"


def test_too_much_to_throw_away_ends_the_connection() -> None:
    talk = Talk(settings(literal_limit=10, discard_limit=100)).login()
    answer = talk.send(b"a SELECT {101+}\r\n")
    assert answer == b"a" + TOOBIG + b"* BYE [TOOBIG] Too much was sent in vain\r\n"
    assert talk.machine.closing
    talk = Talk(settings(literal_limit=10, discard_limit=100)).login()
    answer = talk.send(b"a SELECT {60+}\r\n" + b"x" * 60 + b" {60+}\r\n")
    assert answer.endswith(b"* BYE [TOOBIG] Too much was sent in vain\r\n")


def test_literals_of_nothing_without_end_are_too_much_too() -> None:
    talk = Talk(settings(literal_limit=10, discard_limit=100)).login()
    talk.send(b"a SELECT {11+}\r\n" + b"x" * 11)
    assert talk.send(b"{0+}\r\n" * 30).startswith(b"* BYE [TOOBIG]")


def test_bye_inside_a_literal_lets_go_of_the_command() -> None:
    talk = Talk().login()
    talk.send(b"a SELECT {100+}\r\nxxx")
    assert talk.machine.held()
    talk.machine.bye("Go")
    assert talk.machine.held() == 0


# --- lines


def test_an_over_long_line_is_answered_and_ends_the_connection() -> None:
    # Its end, already thrown away, may announce a literal that would be run as commands.
    talk = Talk(settings(line_limit=100)).login()
    answer = talk.send(b"a SELECT " + b"x" * 200 + b" {10+}\r\nb NOOP\r\n\r\n")
    assert answer == b"a BAD [TOOBIG] Command line is too long\r\n* BYE Command line is too long\r\n"
    assert talk.seen() == []
    assert talk.machine.held() == 0


def test_an_over_long_line_is_not_held_while_it_streams() -> None:
    talk = Talk()
    for _ in range(20):
        assert talk.send(b"x" * 10_000) == b""
    assert talk.machine.held() == 0
    for _ in range(100):
        talk.send(b"x" * 10_000)
    assert talk.machine.closing


def test_lines_grow_with_the_login() -> None:
    line = "a SELECT " + "x" * 3000
    assert b"too long" in Talk(settings(unauthenticated_line_limit=1000)).line(line)
    assert Talk(settings(unauthenticated_line_limit=1000)).login().line(line) == b"a OK [READ-WRITE] Completed\r\n"


def test_after_an_exchange_lines_are_as_short_as_before() -> None:
    talk = Talk(settings(unauthenticated_line_limit=100))
    talk.send(b"a AUTHENTICATE PLAIN\r\n*\r\n")
    assert b"too long" in talk.line("b ID " + "x" * 200)


@pytest.mark.parametrize("prelude", ["a AUTHENTICATE PLAIN", "a IDLE"])
def test_an_over_long_line_inside_a_command_carries_its_tag(prelude: str) -> None:
    talk = Talk(settings(line_limit=100, unauthenticated_line_limit=100))
    if "IDLE" in prelude:
        talk.login()
    talk.line(prelude)
    assert talk.line("x" * 13_000).startswith(b"a BAD [TOOBIG] ")


def test_bad_commands_are_limited_and_counted_anew_from_the_login_on() -> None:
    talk = Talk(settings(bad_command_limit=3, unauthenticated_bad_command_limit=3))
    talk.send(b"a FOO\r\nb FOO\r\n")
    talk.login()
    assert talk.send(b"a FOO\r\n\r\n") == b"a BAD Unknown command\r\n* BAD Expected a tag at octet 1\r\n"
    assert talk.line("c FOO") == b"c BAD Unknown command\r\n* BYE Too many bad commands\r\n"
    assert talk.machine.closing


def test_before_login_few_bad_commands_are_borne() -> None:
    talk = Talk()
    answer = talk.send(b"".join(b"%d XYZZY\r\n" % number for number in range(10)) + b"a LOGIN joe secret\r\n")
    assert answer.endswith(b"* BYE Too many bad commands\r\n")
    assert talk.seen() == []


def test_commands_before_login_are_counted() -> None:
    talk = Talk(settings(unauthenticated_count_limit=3))
    talk.send(b"a CAPABILITY\r\n" * 3)
    assert talk.line("b CAPABILITY") == b"* BYE Too many commands before login\r\n"
    assert talk.machine.closing
    talk = Talk(settings(unauthenticated_count_limit=3))
    talk.login()
    assert talk.send(b"a CAPABILITY\r\n" * 10).count(b"a OK") == 10


def test_a_flood_of_small_commands_is_answered_in_portions() -> None:
    machine = ImapServer(settings(unauthenticated_count_limit=1000))
    machine.receive_data(b"a CAPABILITY\r\n" * 1000)
    portions = []
    while True:
        assert machine.next_event() is None
        portion = machine.data_to_send()
        if not portion:
            break
        portions.append(portion)
    assert max(map(len, portions)) < 10_000
    assert b"".join(portions).count(b"a OK") == 1000


# --- IDLE


def test_idle() -> None:
    talk = Talk().select()
    assert talk.line("a IDLE") == b"+ idling\r\n"
    assert talk.seen() == [commands.Idle("a")]
    talk.machine.untagged(responses.exists(5))
    assert talk.machine.data_to_send() == b"* 5 EXISTS\r\n"
    assert talk.line("done") == b"a OK Completed\r\n"
    assert talk.seen() == [commands.IdleDone("a")]


@pytest.mark.parametrize("octets", [b"b NOOP\r\n", b"DONE x\r\n", b"\r\n", b"b APPEND x {9+}\r\nc NOOP\r\n \r\n"])
def test_anything_but_done_ends_idle_badly(octets: bytes) -> None:
    talk = Talk().login()
    talk.line("a IDLE")
    talk.seen()
    assert talk.send(octets) == b"a BAD Expected DONE\r\n"
    assert talk.seen() == [commands.IdleDone("a")]
    assert talk.send(b"d IDLE\r\nDONE\r\n") == b"+ idling\r\nd OK Completed\r\n"


def test_bye_in_idle() -> None:
    talk = Talk().login()
    talk.line("a IDLE")
    talk.machine.bye("Idle for too long")
    assert talk.machine.data_to_send() == b"* BYE Idle for too long\r\n"
    assert talk.send(b"DONE\r\n") == b""


# --- the contract with the handler


def test_an_event_must_be_answered_before_the_next() -> None:
    machine = ImapServer(settings())
    machine.receive_data(b"a NOOP\r\nb NOOP\r\n")
    machine.next_event()
    with pytest.raises(RuntimeError, match="Noop has not been answered"):
        machine.next_event()
    machine.ok("a")
    assert machine.next_event() == commands.Noop("b")


def test_only_what_was_asked_can_be_answered() -> None:
    machine = ImapServer(settings())
    with pytest.raises(RuntimeError):
        machine.ok("a")
    machine.receive_data(b"a NOOP\r\n")
    machine.next_event()
    for answer in (machine.ok, machine.no, machine.bad):
        with pytest.raises(RuntimeError):
            answer("b", "text")
    with pytest.raises(RuntimeError):
        machine.accept_append()
    machine.bad("a", "No such message")
    assert machine.data_to_send() == b"a BAD No such message\r\n"


def test_after_bye_nothing_is_written() -> None:
    machine = ImapServer(settings())
    machine.bye("Go away", responses.UNAVAILABLE)
    machine.bye("Really")
    machine.untagged(responses.exists(1))
    assert machine.data_to_send() == b"* BYE [UNAVAILABLE] Go away\r\n"
    assert machine.closing


def test_a_failed_handler_is_answered_no() -> None:
    talk = Talk().select()
    machine = talk.machine
    machine.receive_data(b"a EXAMINE x\r\nb NOOP\r\n")
    machine.next_event()
    machine.internal_error()
    assert machine.data_to_send() == b"a NO [SERVERBUG] Internal error, please try again later\r\n"
    assert talk.state() is SessionState.AUTHENTICATED
    assert machine.next_event() == commands.Noop("b")


def test_a_failure_that_nothing_waits_for_ends_the_connection() -> None:
    for prelude in (b"", b"a IDLE\r\n"):
        talk = Talk().login()
        talk.send(prelude)
        talk.machine.internal_error()
        assert talk.machine.data_to_send().startswith(b"* BYE [UNAVAILABLE] Internal error")
        assert talk.machine.closing


def test_a_failure_between_starttls_and_tls_says_nothing_in_the_clear() -> None:
    talk = Talk(settings(secure=False, starttls=True))
    talk.line("a STARTTLS")
    talk.machine.internal_error()
    assert talk.machine.data_to_send() == b""
    assert talk.machine.closing
