"""The grammar of command lines, in tables."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.esmtp import AUTH, BODY, SIZE, SMTPUTF8
from mailhub.wire.smtp.grammar import (
    CommandRefused,
    parse_auth,
    parse_hello,
    parse_mail,
    parse_rcpt,
    split_command,
    split_path,
    usual_path,
)

ANN = Address("ann", "xx.example")


def mail(argument: str) -> Mail:
    return parse_mail(argument, {row.keyword: row for row in (SIZE, BODY, SMTPUTF8, AUTH)})


def rcpt(argument: str, *, smtputf8: bool = False) -> Recipient:
    return parse_rcpt(argument, {}, smtputf8=smtputf8, postmaster_domain="mx.example")


def answer(error: pytest.ExceptionInfo[CommandRefused]) -> tuple[int, str]:
    return error.value.answer.code, error.value.answer.status


def test_a_local_part_alone_is_completed_where_there_is_something_to_complete_it_with() -> None:
    assert parse_mail("FROM:<ann>", {}, "xx.example") == Mail(ANN)
    assert parse_mail("FROM:ann@yy.example", {}, "xx.example") == Mail(Address("ann", "yy.example"))
    assert parse_mail("FROM:<>", {}, "xx.example") == Mail(None)
    assert rcpt("TO:<Postmaster>").address == Address("postmaster", "mx.example")
    assert rcpt("TO:<ABUSE>").address == Address("abuse", "mx.example")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"NOOP", ("NOOP", "")),
        (b"noop  x y ", ("NOOP", "x y")),
        ("EHLO \u00fc".encode(), ("EHLO", "\u00fc")),
        (b"", ("", "")),
    ],
)
def test_splitting(line: bytes, command: tuple[str, str]) -> None:
    assert split_command(line) == command


@given(st.sampled_from([b"EHLO ", b"MAIL "]), st.lists(st.sampled_from([b"a", b" ", b"\0", b"\t", b"\x7f", b"\xff"])))
def test_lines_of_printable_ascii_are_read_as_all_others(verb: bytes, words: list[bytes]) -> None:
    line = verb + b"".join(words)
    try:
        name, argument = split_command(line + b"x")
    except CommandRefused as error:
        with pytest.raises(CommandRefused, match=str(error)):
            split_command(line + "\u00fc".encode())
    else:
        assert split_command(line + "\u00fc".encode()) == (name, f"{argument[:-1]}\u00fc")


@pytest.mark.parametrize(("keyword", "status"), [("FROM:", "5.1.7"), ("TO:", "5.1.3")])
@given(
    argument=st.lists(
        st.sampled_from(
            ["FROM:", "to:", "TO:", "<", ">", " ", "a", "B", "@", ".", "-", "_", "=x", "\u212a", '"', "a" * 60]
        )
    ).map("".join)
)
def test_what_is_taken_at_one_look_is_what_the_whole_grammar_says(keyword: str, status: str, argument: str) -> None:
    for text in (
        argument,
        f"{keyword}<{argument}@x.example>",
        f"{keyword.lower()}<a.{argument}@b{argument}> {argument}",
    ):
        usual = usual_path(text, keyword)
        if usual is not None:
            path, parameters = split_path(text, keyword, status)
            assert usual == (Address.parse(path), parameters)


def test_the_usual_is_taken_at_one_look() -> None:
    assert usual_path("FROM:<a.b+c@X.Example> SIZE=1", "FROM:") == (Address("a.b+c", "x.example"), "SIZE=1")
    assert usual_path("to:<a@x.example>", "TO:") == (Address("a", "x.example"), "")


@given(st.text(alphabet='a@."\\<> \u00fc', max_size=12))
def test_a_path_is_found_run_by_run_as_character_by_character(text: str) -> None:
    """RFC 5321 4.1.2, as it would be written down."""
    mailbox, given = r'(?:"(?:[^"\\]|\\.)*"|[^"<> ])', text.strip(" ")
    slow = re.fullmatch(rf"< *({mailbox}*) *>(?: +(.*))?", given) or re.fullmatch(rf"({mailbox}+)(?: +(.*))?", given)
    try:
        found = split_path(f"FROM:{text}", "FROM:", "5.1.7")
    except CommandRefused:
        assert slow is None
    else:
        assert slow is not None
        assert found == (slow[1], slow[2] or "")


@pytest.mark.parametrize("line", [b"NO\0OP", b"NOOP\r", b"MAIL FROM:<a@b>\rRCPT", b"NOOP\t", b"NOOP \xff", b"\x7f"])
def test_control_characters_and_broken_utf8_are_no_command(line: bytes) -> None:
    with pytest.raises(CommandRefused) as caught:
        split_command(line)
    assert answer(caught) == (500, "5.5.2")


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ("FROM:<ann@xx.example>", Mail(ANN)),
        ("from: <ann@XX.example>", Mail(ANN)),
        ("FROM:<>", Mail(None)),
        ("FROM:<@a.example,@[192.0.2.1]:ann@xx.example>", Mail(ANN)),
        ("FROM:<@[IPv6:2001:db8::1]:ann@xx.example>", Mail(ANN)),
        ("FROM:<ann@[IPv6:2001:db8::1]>", Mail(Address("ann", "[IPv6:2001:db8::1]"))),
        ('FROM:<"a > b"@xx.example> SIZE=7', Mail(Address("a > b", "xx.example"), size=7)),
        ("FROM:<ann@xx.example> SIZE=10 BODY=8bitmime", Mail(ANN, "8BITMIME", size=10)),
        ("FROM:<ann@xx.example>  body=7BIT  size=0 ", Mail(ANN)),
        (
            "FROM:<\u00e4@xx.example> SMTPUTF8 BODY=8BITMIME",
            Mail(Address("\u00e4", "xx.example"), "8BITMIME", smtputf8=True),
        ),
        ("FROM:<ann@xx.example> AUTH=<>", Mail(ANN, auth="")),
        ("FROM:<ann@xx.example> AUTH=e+3Dmc2@example.com", Mail(ANN, auth="e=mc2@example.com")),
    ],
)
def test_mail(argument: str, command: Mail) -> None:
    assert mail(argument) == command


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        ("<ann@xx.example>", 501, "5.5.4"),
        ("TO:<ann@xx.example>", 501, "5.5.4"),
        ("FROM:<ann@xx.example", 501, "5.1.7"),
        ("FROM:<ann@xx.example>>", 501, "5.1.7"),
        ("FROM:<<ann@xx.example>>", 501, "5.1.7"),
        ("FROM:<ann>", 501, "5.1.7"),
        ("FROM:<ann b@xx.example>", 501, "5.1.7"),
        ('FROM:<"ann@xx.example>', 501, "5.1.7"),
        ("FROM:<@-:ann@xx.example>", 501, "5.1.7"),
        ("FROM:<" + "a" * 257 + "@xx.example>", 501, "5.1.7"),
        ("FROM:<ann@xx.example>SIZE=1", 501, "5.1.7"),
        ("FROM:<ann@xx.example> SIZE", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SIZE=", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SIZE=-1", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SIZE=123456789012345678901", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SIZE=\u0661", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SIZE=1 size=1", 501, "5.5.4"),
        ("FROM:<ann@xx.example> BODY=BINARYMIME", 501, "5.5.4"),
        ("FROM:<ann@xx.example> BODY", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SIZE=7\u3000BODY=8BITMIME", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SIZE=7\u00a0", 501, "5.5.4"),
        ("FROM:<ann@xx.example> BODY=8B\u0131TMIME", 501, "5.5.4"),
        ("FROM:<ann@xx.example> SMTPUTF8=1", 501, "5.5.4"),
        ("FROM:<ann@xx.example> AUTH=", 501, "5.5.4"),
        ("FROM:<ann@xx.example> AUTH=a+3d", 501, "5.5.4"),
        ("FROM:<ann@xx.example> =x", 501, "5.5.4"),
        ("FROM:<ann@xx.example> RET=FULL", 555, "5.5.4"),
        ("FROM:<\u00e4@xx.example>", 550, "5.6.7"),
        ("FROM:<a@\u00e4.example>", 550, "5.6.7"),
    ],
)
def test_malformed_mail(argument: str, code: int, status: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        mail(argument)
    assert answer(caught) == (code, status)


def test_the_auth_parameter_exists_only_where_auth_does() -> None:
    with pytest.raises(CommandRefused) as caught:
        parse_mail("FROM:<ann@xx.example> AUTH=<>", {row.keyword: row for row in (SIZE, BODY, SMTPUTF8)})
    assert answer(caught) == (555, "5.5.4")


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("TO:<ann@xx.example>", ANN),
        ("to: <@relay.example:ann@xx.example>", ANN),
        ("TO:<Postmaster>", Address("postmaster", "mx.example")),
        ("TO:<ann%yy.example@xx.example>", Address("ann%yy.example", "xx.example")),
        ('TO:<"ann@yy.example"@xx.example>', Address("ann@yy.example", "xx.example")),
        ("TO:<yy.example!ann@xx.example>", Address("yy.example!ann", "xx.example")),
    ],
)
def test_rcpt(argument: str, address: Address) -> None:
    assert rcpt(argument) == Recipient(address)


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        ("TO:<>", 501, "5.1.3"),
        ("TO:<ann>", 501, "5.1.3"),
        ("TO:<ann@yy.example@xx.example>", 501, "5.1.3"),
        ("TO:<@relay.example:>", 501, "5.1.3"),
        ("FROM:<ann@xx.example>", 501, "5.5.4"),
        ("TO:<ann@xx.example> NOTIFY=NEVER", 555, "5.5.4"),
        ("TO:<\u00e4@xx.example>", 553, "5.6.7"),
    ],
)
def test_malformed_rcpt(argument: str, code: int, status: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        rcpt(argument)
    assert answer(caught) == (code, status)


def test_rcpt_in_a_utf8_transaction() -> None:
    assert rcpt("TO:<\u00e4@xx.example>", smtputf8=True) == Recipient(Address("\u00e4", "xx.example"))


@pytest.mark.parametrize(
    "argument", ["localhost", "[192.0.2.1]", "my_pc", "[IPv6:::1]", "a" * 255, "a b", "\u00e4", "Anna's PC"]
)
def test_hello(argument: str) -> None:
    assert parse_hello(argument) == argument


def test_a_greeting_in_any_charset() -> None:
    assert split_command(b"ehlo \xc4\xe5\xeb") == ("EHLO", "\ufffd" * 3)
    assert parse_hello("a\u202eb\u2028") == "a\ufffdb\ufffd"
    with pytest.raises(CommandRefused):
        split_command(b"MAIL FROM:<\xc4@xx.example>")


@pytest.mark.parametrize(
    "argument", ["a@xx_1.example", " a@xx_1.example", "  <a@xx_1.example>", "< a@xx_1.example >", "a@xx_1.example. "]
)
def test_paths_of_printers(argument: str) -> None:
    assert mail("FROM:" + argument).reverse_path == Address("a", "xx_1.example")
    assert mail("FROM:" + argument + " SIZE=7").size == 7
    assert rcpt("TO:" + argument).address == Address("a", "xx_1.example")


@pytest.mark.parametrize(
    "argument", ["", "a", "a@", "SIZE=7", "a@xx.example>", "<a@xx.example", "a b@xx.example", "<a b@x>"]
)
def test_no_paths(argument: str) -> None:
    for parse in (lambda: mail("FROM:" + argument), lambda: rcpt("TO:" + argument)):
        with pytest.raises(CommandRefused):
            parse()


@pytest.mark.parametrize("argument", ["", "a" * 256, "\u00e4" * 256])
def test_malformed_hello(argument: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        parse_hello(argument)
    assert answer(caught) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("argument", "parts"),
    [("plain", ("PLAIN", None)), ("PLAIN AGE=", ("PLAIN", b"AGE=")), ("PLAIN =", ("PLAIN", b"="))],
)
def test_auth(argument: str, parts: tuple[str, bytes | None]) -> None:
    assert parse_auth(argument) == parts


@pytest.mark.parametrize("argument", ["PLAIN a b", "PL!IN", "A" * 21, "PLAIN\u3000*"])
def test_malformed_auth(argument: str) -> None:
    with pytest.raises(CommandRefused) as caught:
        parse_auth(argument)
    assert answer(caught) == (501, "5.5.4")


hostile = st.lists(st.sampled_from([*'<>"\\@:,[] =a.-+\u00e4', "FROM:", "TO:", "SIZE=", "BODY="]), max_size=40)


@settings(deadline=None, max_examples=200)
@given(hostile.map("".join))
def test_anything_is_a_command_or_a_refusal(argument: str) -> None:
    for parse in (mail, rcpt, parse_hello, parse_auth):
        with contextlib.suppress(CommandRefused):
            parse(argument)


@pytest.mark.parametrize("pattern", ['"\\', "<", "@a,", "@[:", '""', "a ", "=" * 3, "\\"])
def test_long_hostile_arguments_are_read_in_linear_time(pattern: str) -> None:
    # An exponential or cubic match would not come back from lines this long.
    for head in ("FROM:<", "FROM:<a@b.example> "):
        with pytest.raises(CommandRefused):
            mail(head + pattern * 20000)
