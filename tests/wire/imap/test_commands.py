"""The arguments of every command: what is read, and what is refused and how."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from mailhub.credentials import PlainCredentials
from mailhub.wire.imap import commands as c
from mailhub.wire.imap import grammar
from mailhub.wire.imap.commands import Command, FetchAttribute, StoreMode
from mailhub.wire.imap.grammar import Refused, read_append, read_arguments, read_name
from mailhub.wire.imap.sets import SequenceSet
from mailhub.wire.imap.state import ALLOWED, EXTENSION
from mailhub.wire.imap.tokens import BadSyntax, Tokens


def read(octets: bytes) -> Command:
    tokens = Tokens(octets)
    return read_arguments("A1", read_name(tokens), tokens)


def numbers(text: bytes) -> SequenceSet:
    return SequenceSet.parse(text)


NONE: frozenset[str] = frozenset()

_COMMANDS: list[tuple[bytes, Command]] = [
    (b"CAPABILITY", grammar.Capability("A1")),
    (b"noop", c.Noop("A1")),
    (b"LOGOUT", c.Logout("A1")),
    (b"STARTTLS", c.StartTls("A1")),
    (b"IDLE", c.Idle("A1")),
    (b"NAMESPACE", c.Namespace("A1")),
    (b"CHECK", c.Check("A1")),
    (b"CLOSE", c.Close("A1")),
    (b"UNSELECT", c.Unselect("A1")),
    (b"EXPUNGE", c.Expunge("A1")),
    (b"UID EXPUNGE 1:3,5", c.Expunge("A1", numbers(b"1:3,5"))),
    (b"ID NIL", grammar.Id("A1", ())),
    (b"ID ()", grammar.Id("A1", ())),
    (b'ID ("name" "x" "os" NIL "v" "")', grammar.Id("A1", (("name", "x"), ("os", None), ("v", "")))),
    (b'ID ("a" {5}\r\n\xff\r\nb\x1b)', grammar.Id("A1", (("a", "\ufffd??b?"),))),
    (b"ENABLE condstore X", grammar.Enable("A1", ("CONDSTORE", "X"))),
    (b"AUTHENTICATE plain", grammar.Authenticate("A1", "PLAIN", None)),
    (b"AUTHENTICATE PLAIN =", grammar.Authenticate("A1", "PLAIN", b"=")),
    (b'LOGIN joe "p w"', c.Login("A1", PlainCredentials("", "joe", "p w"))),
    (b"LOGIN {3}\r\njoe {4+}\r\np\xc3\xa9w", c.Login("A1", PlainCredentials("", "joe", "péw"))),
    (b"SELECT inbox", c.Select("A1", "INBOX", False)),
    (b'EXAMINE "&AOk- x"', c.Select("A1", "é x", True)),
    (b"CREATE a/b/", c.Create("A1", "a/b")),
    (b"CREATE s (USE (\\sent))", c.Create("A1", "s", frozenset({"\\Sent"}))),
    (b"CREATE s (USE ())", c.Create("A1", "s")),
    (b'DELETE "a*"', c.Delete("A1", "a*")),
    (b"RENAME a b/c", c.Rename("A1", "a", "b/c")),
    (b"SUBSCRIBE a", c.Subscribe("A1", "a")),
    (b"UNSUBSCRIBE a//b", c.Unsubscribe("A1", "a//b")),
    (b'LIST "" ""', c.List("A1", "", ("",))),
    (b'LIST "" %', c.List("A1", "", ("%",))),
    (b'LIST a/ "*"', c.List("A1", "a/", ("*",))),
    (b'LIST () "" *', c.List("A1", "", ("*",), extended=True)),
    (
        b'LIST (SUBSCRIBED recursivematch) "" (a "b/%") RETURN (CHILDREN SPECIAL-USE)',
        c.List(
            "A1",
            "",
            ("a", "b/%"),
            frozenset({"SUBSCRIBED", "RECURSIVEMATCH"}),
            frozenset({"CHILDREN", "SPECIAL-USE"}),
            extended=True,
        ),
    ),
    (b'LIST "" * RETURN ()', c.List("A1", "", ("*",), extended=True)),
    (b'LSUB "" a%', c.Lsub("A1", "", "a%")),
    (b"STATUS a (UNSEEN messages UNSEEN)", c.Status("A1", "a", ("UNSEEN", "MESSAGES"))),
    (b"FETCH 1 FLAGS", c.Fetch("A1", False, numbers(b"1"), (FetchAttribute.FLAGS,))),
    (b"UID FETCH 1:* FLAGS", c.Fetch("A1", True, numbers(b"1:*"), (FetchAttribute.UID, FetchAttribute.FLAGS))),
    (b"STORE 1 FLAGS ()", c.Store("A1", False, numbers(b"1"), StoreMode.REPLACE, False, NONE)),
    (b"STORE 1 +flags \\Seen x", c.Store("A1", False, numbers(b"1"), StoreMode.ADD, False, frozenset({"\\Seen", "x"}))),
    (
        b"UID STORE 2 -FLAGS.SILENT (\\Seen)",
        c.Store("A1", True, numbers(b"2"), StoreMode.REMOVE, True, frozenset({"\\Seen"})),
    ),
    (b"COPY 1,2 inbox", c.Copy("A1", False, numbers(b"1:2"), "INBOX")),
    (b"UID COPY 1 a", c.Copy("A1", True, numbers(b"1"), "a")),
    (b"MOVE 1 a", c.Move("A1", False, numbers(b"1"), "a")),
    (b"UID MOVE 1 a", c.Move("A1", True, numbers(b"1"), "a")),
    (b"SEARCH ALL", c.Search("A1", False, c.All())),
    (b"UID SEARCH CHARSET utf-8 BODY {2}\r\n\xc3\xa9", c.Search("A1", True, c.BodyContains("é"))),
    (b'SEARCH CHARSET "US-ASCII" SEEN', c.Search("A1", False, c.HasFlag("\\Seen"))),
]


@pytest.mark.parametrize(("octets", "command"), _COMMANDS)
def test_reads(octets: bytes, command: Command) -> None:
    assert read(octets) == command


_LOOSE: list[tuple[bytes, Command]] = [
    (b"UID  FETCH  1:*  ( FLAGS ) ", read(b"UID FETCH 1:* (FLAGS)")),
    (b"fetch 1(flags  uid)", read(b"FETCH 1 (FLAGS UID)")),
    (b"FETCH 1 FLAGS UID", read(b"FETCH 1 (FLAGS UID)")),
    (b"FETCH 1 (FAST UID)", read(b"FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE UID)")),
    (b"FETCH 1 BODY[ HEADER.FIELDS ( from ) ]", read(b"FETCH 1 BODY[HEADER.FIELDS (from)]")),
    (b"FETCH 1 BODY.PEEK[HEADER.FIELDS(from)]", read(b"FETCH 1 BODY.PEEK[HEADER.FIELDS (from)]")),
    (b"FETCH 1, 2 : 3 FLAGS", read(b"FETCH 1:3 FLAGS")),
    (b"UID SEARCH(SEEN)", read(b"UID SEARCH SEEN")),
    (b'FETCH "1:2" FLAGS', read(b"FETCH 1:2 FLAGS")),
    (b"UID FETCH 0001:99999999999999999999999 FLAGS", read(b"UID FETCH 1:4294967295 FLAGS")),
    (b"STORE 1 +FLAGS(\\Seen  x )", read(b"STORE 1 +FLAGS (\\Seen x)")),
    (b"STORE 1 +flags.silent \\seen ", read(b"STORE 1 +FLAGS.SILENT (\\Seen)")),
    (b'STORE 1 +FLAGS ("\\\\Seen" "\\Draft" "x")', read(b"STORE 1 +FLAGS (\\Seen \\Draft x)")),
    (b'COPY  1,2  "a/" ', c.Copy("A1", False, numbers(b"1:2"), "a")),
    (b'SELECT  "a/" ', c.Select("A1", "a", False)),
    (b"EXAMINE inbox/", c.Select("A1", "INBOX", True)),
    (b"SELECT R&D", c.Select("A1", "", False)),
    (b'SELECT "caf\xc3\xa9"', c.Select("A1", "", False)),
    (b"SELECT caf\xc3\xa9", c.Select("A1", "", False)),
    (b"SELECT &AGE-", c.Select("A1", "", False)),
    (b"SELECT 100%*", c.Select("A1", "100%*", False)),
    (b"CREATE 100%", c.Create("A1", "100%")),
    (b"CREATE s  ( USE ( \\sent ) ) ", c.Create("A1", "s", frozenset({"\\Sent"}))),
    (b"RENAME a/  b/ ", c.Rename("A1", "a", "b")),
    (b"SUBSCRIBE a/", c.Subscribe("A1", "a")),
    (b"UNSUBSCRIBE a/", c.Unsubscribe("A1", "a")),
    (b"DELETE a/", c.Delete("A1", "a")),
    (b"STATUS a(messages )", c.Status("A1", "a", ("MESSAGES",))),
    (b"STATUS a/ UNSEEN", c.Status("A1", "a", ("UNSEEN",))),
    (b'ID("name" "x" )', read(b'ID ("name" "x")')),
    (b'LIST(SUBSCRIBED) "" *', read(b'LIST (SUBSCRIBED) "" *')),
    (b'LIST  ""  * ', c.List("A1", "", ("*",))),
    (b'LIST "" R&D', c.List("A1", "", ())),
    (b'LIST "R&D" *', c.List("A1", "", ())),
    (
        b'LIST "" ( a "&" ) RETURN ( CHILDREN )',
        c.List("A1", "", ("a",), returns=frozenset({"CHILDREN"}), extended=True),
    ),
    (b'LSUB "" &', c.Lsub("A1", "", None)),
    (b"LSUB & *", c.Lsub("A1", "", None)),
    (b"LOGIN joe p%w*\\ ", c.Login("A1", PlainCredentials("", "joe", "p%w*\\"))),
    (b"ENABLE  x  y ", grammar.Enable("A1", ("X", "Y"))),
    (b"AUTHENTICATE  plain ", grammar.Authenticate("A1", "PLAIN", None)),
    (b"AUTHENTICATE plain  AGEAYg== ", grammar.Authenticate("A1", "PLAIN", b"AGEAYg==")),
    (b'ID  ( "name"  "x" ) ', grammar.Id("A1", (("name", "x"),))),
    (b"SEARCH  CHARSET  utf8  ALL ", c.Search("A1", False, c.All())),
    (b"SEARCH SUBJECT f\xc3\xbcr", c.Search("A1", False, c.EnvelopeContains("subject", "f\xfcr"))),
]


@pytest.mark.parametrize(("octets", "command"), _LOOSE)
def test_reads_what_is_loose_but_clear(octets: bytes, command: Command) -> None:
    assert read(octets) == command


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"NOOP x",
        b" NOOP",
        b"UID NOOP x",
        b"ID",
        b"ID x",
        b'ID ("a")',
        b'ID (NIL "a")',
        b'ID ("' + b"n" * 31 + b'" "a")',
        b'ID ("a" "' + b"v" * 1025 + b'")',
        b"ID (" + b'"a" "b" ' * 30 + b'"a" "b")',
        b"ENABLE",
        b"ENABLE X" + b" X" * 50,
        b"LOGIN joe",
        b"LOGIN joe secret x",
        b"AUTHENTICATE",
        b"SELECT",
        b"SELECT a b",
        b"CREATE a (USE)",
        b"CREATE a (FOO (\\Sent))",
        b"CREATE a (USE (\\Sent)",
        b"RENAME a",
        b'LIST ""',
        b'LIST (FOO) "" *',
        b'LIST (RECURSIVEMATCH) "" *',
        b'LIST (REMOTE RECURSIVEMATCH) "" *',
        b'LIST "" ()',
        b'LIST "" * RETURN',
        b'LIST "" * RETURN (STATUS)',
        b'LIST "" (' + b"a " * 20 + b"a)",
        b"STATUS a ()",
        b"STATUS a (SIZE)",
        b"STATUS a MESSAGES UNSEEN",
        b"FETCH  FLAGS",
        b"FETCH 1FLAGS",
        b"FETCH 1, FLAGS",
        b"STORE 1 FLAGS(\\Seen",
        b"UID FETCH  FLAGS",
        b"APPEND a",
        b"FETCH 0 FLAGS",
        b"FETCH 1:2:3 FLAGS",
        b"FETCH 1",
        b"STORE 1 FOO (\\Seen)",
        b"STORE 1 FLAGS",
        b"STORE 1 FLAGS (\\Recent)",
        b"STORE 1 +FLAGS.LOUD (\\Seen)",
        b"COPY a 1",
        b"UID EXPUNGE",
        b"SEARCH",
        b"SEARCH CHARSET",
        b"SEARCH CHARSET UTF-8",
    ],
)
def test_bad_syntax(octets: bytes) -> None:
    with pytest.raises((BadSyntax, KeyError)) as caught:
        read(octets)
    assert octets.startswith(b"UID NOOP") == isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"CREATE a//b", b"CANNOT"),
        (b"CREATE ../a", b"CANNOT"),
        (b'CREATE "R&D"', b"CANNOT"),
        (b"CREATE /", b"CANNOT"),
        (b"CREATE a//", b"CANNOT"),
        (b'CREATE "caf\xc3\xa9"', b"CANNOT"),
        (b"RENAME a &AGE-", b"CANNOT"),
        (b"SUBSCRIBE &", b"CANNOT"),
        (b'CREATE ""', b"CANNOT"),
        (b"RENAME a b/../c", b"CANNOT"),
        (b"SUBSCRIBE #x", b"CANNOT"),
        (b"CREATE a (USE (\\Foo))", b"USEATTR"),
        (b"SEARCH CHARSET KOI8-R ALL", b"BADCHARSET (UTF-8 US-ASCII)"),
        (b"SEARCH CHARSET {1}\r\n\xff ALL", b"BADCHARSET (UTF-8 US-ASCII)"),
        (b'LOGIN "" x', b"AUTHENTICATIONFAILED"),
        (b"LOGIN {1}\r\n\xff x", b"AUTHENTICATIONFAILED"),
    ],
)
def test_refused_in_good_form(octets: bytes, code: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read(octets)
    assert caught.value.code == code


def test_every_command_has_its_states_and_its_arguments() -> None:
    assert set(ALLOWED) == set(grammar.ARGUMENTS)
    assert set(EXTENSION) <= set(ALLOWED)


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(read(b"LOGIN joe secret"))
    assert "c2VjcmV0" not in repr(read(b"AUTHENTICATE PLAIN c2VjcmV0"))


# --- APPEND, which is read when its literal is announced


def append(octets: bytes) -> grammar.AppendLiteral | None:
    return read_append("A1", Tokens(octets))


_MOMENT = datetime(2020, 2, 1, 10, 11, 12, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("octets", "command", "synchronising"),
    [
        (b" a {5}\r\n", c.Append("A1", "a", NONE, None, 5), True),
        (b" a {5+}\r\n", c.Append("A1", "a", NONE, None, 5), False),
        (b" a () {5}\r\n", c.Append("A1", "a", NONE, None, 5), True),
        (b" {1}\r\na (\\seen) {5}\r\n", c.Append("A1", "a", frozenset({"\\Seen"}), None, 5), True),
        (b' a " 1-Feb-2020 10:11:12 +0100" {5}\r\n', c.Append("A1", "a", NONE, _MOMENT, 5), True),
        (b' a (x) " 1-Feb-2020 10:11:12 +0100" {5}\r\n', c.Append("A1", "a", frozenset({"x"}), _MOMENT, 5), True),
        (b"  a/  (\\seen )  {5}\r\n", c.Append("A1", "a", frozenset({"\\Seen"}), None, 5), True),
        (b" a(x){5}\r\n", c.Append("A1", "a", frozenset({"x"}), None, 5), True),
        (b" a \\Seen {5}\r\n", c.Append("A1", "a", frozenset({"\\Seen"}), None, 5), True),
        (b' a "1-feb-2020 9:11:12 +0000" {5}\r\n', c.Append("A1", "a", NONE, _MOMENT, 5), True),
        (b" & {5}\r\n", c.Append("A1", "", NONE, None, 5), True),
        (b" a {99999999999999999999}\r\n", c.Append("A1", "a", NONE, None, 2**63 - 1), True),
        (b" a {5000000000}\r\n", c.Append("A1", "a", NONE, None, 5000000000), True),
    ],
)
def test_append(octets: bytes, command: c.Append, synchronising: bool) -> None:
    assert append(octets) == grammar.AppendLiteral(command, synchronising)


@pytest.mark.parametrize("octets", [b" {5}\r\n", b" {0}\r\n", b" {5+}\r\n"])
def test_append_of_which_only_the_mailbox_is_announced(octets: bytes) -> None:
    assert append(octets) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"{5}\r\n",
        b" a{5}\r\n",
        b" a (\\Recent) {5}\r\n",
        b" a ~{5}\r\n",
        b" a UTF8 (~{5}\r\n",
        b' a "1-Feb-2020" {5}\r\n',
        b" a (x {5}\r\n",
    ],
)
def test_bad_append(octets: bytes) -> None:
    with pytest.raises(BadSyntax):
        append(octets)
