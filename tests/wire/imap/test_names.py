"""Mailbox names as IMAP writes them: modified UTF-7 both ways, INBOX, LIST's patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.errors import InvalidMailboxName
from mailhub.message import mailbox_names
from mailhub.wire.imap import names

# --- the wire


@pytest.mark.parametrize("name", ["\u0131nbox", "INBO\uff38", "inbox\u0301", "\u0130NBOX", "inboxes"])
def test_only_the_letters_of_ascii_make_inbox(name: str) -> None:
    assert mailbox_names.normalise(name) == name
    assert not names.Pattern("", [name]).matches("INBOX")
    assert not names.Pattern("", ["INBOX"]).matches(name)


@pytest.mark.parametrize("name", ["100%", "*", "a*b/%c"])
def test_wildcards_are_letters_of_names_too(name: str) -> None:
    mailbox_names.check(name)
    assert names.decode(names.encode(name)) == name
    assert names.Pattern("", [name]).matches(name)


@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("Sent", b"Sent"),
        ("a&b", b"a&-b"),
        ("&", b"&-"),
        # RFC 3501 5.1.3
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("Entwürfe", b"Entw&APw-rfe"),
        ("é&", b"&AOk-&-"),
        ("😀", b"&2D3eAA-"),
        ('a b\\c"d', b'a b\\c"d'),
        ("\t", b"&AAk-"),
    ],
)
def test_both_ways(name: str, octets: bytes) -> None:
    assert names.encode(name) == octets
    assert names.decode(octets) == name


@pytest.mark.parametrize(
    "octets",
    [
        b"&",
        b"a&b",
        b"&AOk",
        b"&AOk-&AOk-",  # superfluous shift
        b"&AGE-",  # "a" needs none
        b"&AOl-x&",
        b"&AOkA-",  # half a character
        b"&A-",
        b"&AOl-",  # &AOk- with a spare bit set
        b"&2D0-",  # lone surrogate
        b"&AOk=-",
        b"&AO/-",  # "/" is written ","
        b"caf\xc3\xa9",
        b"a\tb",
        b"a\0b",
        b"a\x7fb",
        b"a\r\nb",
        b"x" * 4001,
    ],
)
def test_refuses_what_it_would_not_write(octets: bytes) -> None:
    with pytest.raises(InvalidMailboxName):
        names.decode(octets)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_every_name_survives_the_wire(name: str) -> None:
    octets = names.encode(name)
    assert octets.isascii()
    assert names.decode(octets) == mailbox_names.normalise(name)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([b"&", b"-", b"A", b"O", b"k", b",", b"+", b"/", b"x", b"2D3eAA"]), max_size=12))
def test_a_name_has_one_form(parts: list[bytes]) -> None:
    octets = b"".join(parts)
    try:
        name = names.decode(octets)
    except InvalidMailboxName:
        return
    assert names.encode(name) == octets


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(InvalidMailboxName):
        names.encode("a\ud800")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("inbox", "INBOX"), ("iNbOx/Sub", "INBOX/Sub"), ("Inboxes", "Inboxes"), ("a/inbox", "a/inbox"), ("", "")],
)
def test_inbox_in_any_case_is_read_as_inbox(written: str, meant: str) -> None:
    assert names.decode(written.encode()) == meant


# --- patterns


@pytest.mark.parametrize(
    ("reference", "pattern", "matching", "not_matching"),
    [
        ("", "*", ["a", "a/b", "INBOX"], []),
        ("", "%", ["a", "INBOX"], ["a/b", "a/b/c"]),
        ("a/", "%", ["a/b"], ["a", "a/b/c", "b/c"]),
        ("", "a/*", ["a/b", "a/b/c"], ["a"]),
        ("", "%/%", ["a/b"], ["a", "a/b/c"]),
        ("", "a%c", ["ac", "abc", "abbc"], ["a/c", "abcd"]),
        ("", "*c", ["c", "a/b/c"], ["cd"]),
        ("", "%*%", ["a", "a/b"], []),
        ("", "a*b%c", ["axb/b.c", "abc", "abbc"], ["ab/c/c/"]),
        ("", "inbox", ["INBOX"], ["INBOX/a"]),
        ("", "iNb%", ["INBOX"], ["INBOX/a"]),
        ("", "inb*s", ["INBOX/s"], ["INBOX/S", "inbs/"]),
        ("", "in*", ["INBOX", "INBOX/a", "inlay"], ["INLAY"]),
        ("", "Sent", ["Sent"], ["sent", "Sent/a"]),
        ("", "a.b", ["a.b"], ["axb"]),
        ("", "", [""], ["a"]),
        ("", "%", [""], []),
    ],
)
def test_pattern(reference: str, pattern: str, matching: list[str], not_matching: list[str]) -> None:
    matcher = names.Pattern(reference, [pattern])
    assert [name for name in matching + not_matching if matcher.matches(name)] == matching


def test_any_of_several_patterns() -> None:
    matcher = names.Pattern("", ["a", "b/%"])
    assert [name for name in ("a", "b", "b/c", "c") if matcher.matches(name)] == ["a", "b/c"]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text("ab/*%", max_size=8), min_size=1, max_size=3), st.text("ab/", max_size=8))
def test_patterns_agree_with_a_regular_expression(patterns: list[str], name: str) -> None:
    wildcards = {"*": ".*", "%": "[^/]*"}
    expression = "|".join(
        "".join(wildcards.get(character, re.escape(character)) for character in pattern) for pattern in patterns
    )
    assert names.Pattern("", patterns).matches(name) == bool(re.fullmatch(expression, name))


def test_a_pattern_of_many_wildcards_is_no_trap() -> None:
    # A backtracking matcher would need about 500 ** 40 steps.
    assert not names.Pattern("", ["*a%" * 40 + "b"]).matches("a" * 500)
