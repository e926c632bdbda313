"""Flags: canonical forms, refusals, and stable ways to write a set."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message import flags


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("\\seen", "\\Seen"),
        ("\\DELETED", "\\Deleted"),
        ("\\Draft", "\\Draft"),
        ("$forwarded", "$forwarded"),
        ("$MdnSent", "$MdnSent"),
        ("Work", "Work"),
        ("$label1", "$label1"),
        ("a/b[c", "a/b[c"),
        ("x" * 128, "x" * 128),
    ],
)
def test_parse(text: str, canonical: str) -> None:
    assert flags.parse(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\\Recent",
        "\\Other",
        "\\",
        "\\*",
        "a b",
        "a(b",
        "a)",
        "a{",
        "a%",
        "a*",
        'a"',
        "a]",
        "a\\b",
        "ü",
        "\\\u017feen",  # the long s is no s
        "a\x00",
        "a\r\n",
        "a\x7f",
        "x" * 129,
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        flags.parse(text)


def test_of_keywords_that_differ_in_case_alone_the_first_one_counts() -> None:
    assert flags.normalise(["Foo", "FOO", "bar", "foo", "\\SEEN", "\\seen"]) == {"Foo", "bar", flags.SEEN}


def test_sets_are_joined_and_taken_apart_whatever_the_case_of_keywords() -> None:
    old = frozenset({"Foo", flags.SEEN})
    assert flags.union(old, frozenset({"FOO", "bar", flags.SEEN})) == {"Foo", "bar", flags.SEEN}
    assert flags.union(old, frozenset({"Foo"})) is old
    assert flags.difference(old, frozenset({"FOO", "bar"})) == {flags.SEEN}
    assert flags.difference(old, flags.SYSTEM_FLAGS) == {"Foo"}
    assert flags.respelled(old, {"foo": "fOO"}) == {"fOO", flags.SEEN}


@given(st.frozensets(st.sampled_from(["a", "A", "b", "B", "ab", "aB", flags.SEEN])))
@settings(deadline=None, max_examples=50)
def test_a_set_taken_away_from_itself_leaves_nothing(some: flags.Flags) -> None:
    assert flags.difference(some, frozenset(map(str.swapcase, some - flags.SYSTEM_FLAGS)) | some) == flags.NO_FLAGS


def test_render_puts_system_flags_first_and_always_in_the_same_order() -> None:
    some = flags.normalise(["zebra", "\\seen", "$Junk", "\\ANSWERED", "apple"])
    assert flags.render(some) == b"(\\Answered \\Seen $Junk apple zebra)"
    assert flags.render(flags.NO_FLAGS) == b"()"
    assert flags.render(some | {flags.RECENT}) == b"(\\Recent \\Answered \\Seen $Junk apple zebra)"


_FLAG = st.sampled_from(sorted(flags.SYSTEM_FLAGS)) | st.from_regex(r"[a-zA-Z$][a-zA-Z0-9_-]{0,8}", fullmatch=True).map(
    flags.parse
)


@given(st.frozensets(_FLAG, max_size=8))
@settings(deadline=None, max_examples=50)
def test_the_column_holds_the_set(some: flags.Flags) -> None:
    assert flags.decode(flags.encode(some)) == some


@given(st.text(max_size=10))
@settings(deadline=None, max_examples=150)
def test_every_accepted_flag_is_one_word_on_the_wire(text: str) -> None:
    try:
        flag = flags.parse(text)
    except ValueError:
        return
    assert flags.decode(flags.encode(frozenset({flag}))) == {flag}
    assert flags.parse(flag) == flag


def test_many_sets_share_their_words_and_themselves() -> None:
    decode = flags.Decoder()
    first, again, other = decode("\\Seen work"), decode("work \\Seen"), decode("work")
    assert first == {flags.SEEN, "work"}
    assert again is first
    assert next(iter(other)) is next(word for word in first if word == "work")


@given(st.frozensets(_FLAG, max_size=8))
@settings(deadline=None, max_examples=50)
def test_a_short_text_is_read_like_any(some: flags.Flags) -> None:
    assert flags.decode_short(flags.encode(some)) == flags.decode(flags.encode(some))


def test_flags_are_free_up_to_a_size() -> None:
    assert flags.excess("") == flags.excess("x" * flags.FREE_OCTETS) == 0
    assert flags.excess("x" * (flags.FREE_OCTETS + 3)) == 3
