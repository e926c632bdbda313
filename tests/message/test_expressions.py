"""Patterns over addresses: they match as `re` does, and never backtrack."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.address import Address
from mailhub.message.aliases import AliasTable
from mailhub.message.expressions import PATTERN_LIMIT, Pattern, expanded


@pytest.mark.parametrize(
    ("pattern", "text", "groups"),
    [
        ("sales-(.*)@xx\\.example", "Sales-Ann@xx.example", ("Ann",)),
        ("^(a|ab)(c|bcd)(d*)$", "abcd", ("a", "bcd", "")),
        ("(a+?)(a*)", "aaa", ("a", "aa")),
        ("(?:x|y){2,3}(z)?", "xyx", ("",)),
        ("(\\d{3})-(\\w+)[^@]@mi\\d", "007-bond!@mi6", ("007", "bond")),
        ("[]a-]+", "a]-", ()),
        ("[[:alpha:][:digit:]]+", "a1", ()),
        ("[\\d-]+", "1-2", ()),
        ("a{2}", "aa", ()),
        ("a{0,2}b{1,}", "abbb", ()),
        ("(a*)*", "aa", ("aa",)),
        ("É.\\S", "éx!", ()),
    ],
)
def test_a_regular_expression_matches_the_whole_and_tells_its_groups(
    pattern: str, text: str, groups: tuple[str, ...]
) -> None:
    assert Pattern.regex(pattern).match(text) == (text, *groups)
    assert Pattern.regex(pattern).match(text + "\n") is None


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            "(",
            ")",
            "a)",
            "*",
            "a**",
            "a{3,2}",
            "(?=a)",
            "\\1",
            "[a",
            "[z-a]",
        ),
        *("x" * (PATTERN_LIMIT + 1), "(" * 30 + ")" * 30, "((a{99}){99}){99}", "()" * 10, "a{1001}"),
    ],
)
def test_what_is_not_known_is_told(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Pattern.regex(pattern)


def test_a_part_is_enough_where_that_is_asked_for() -> None:
    assert Pattern.regex("^root(@)", whole=False).match("root@xx.example") == ("root@xx.example", "@")
    assert Pattern.regex("oot", whole=False).match("root@xx.example")
    assert Pattern.regex("^oot", whole=False).match("root@xx.example") is None


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(x+x+)+y", "(a|a)*(a|a)*(a|a)*b", "(.*)(.*)(.*)(.*)(.*)(.*)!", "(a?){90}b"]
)
def test_no_text_makes_a_pattern_slow(pattern: str) -> None:
    assert Pattern.regex(pattern).match("a" * 100_000) is None


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\w"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        inner.map(lambda one: f"({one})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "+?", "{1,2}", "{2}"])).map(
            lambda both: f"(?:{both[0]}){both[1]}"
        ),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, st.text("abc", max_size=7))
@settings(max_examples=300, deadline=None)
def test_it_matches_what_re_matches(expression: str, text: str) -> None:
    try:
        pattern = Pattern.regex(expression)
    except ValueError:
        return
    assert (pattern.match(text) is not None) == (re.fullmatch(expression, text) is not None)


def test_wildcards_stay_on_their_side_of_the_at() -> None:
    pattern = Pattern.wildcard("s?les-*@*.example")
    assert pattern.match("sales-a-b@xx.example") == ("sales-a-b@xx.example", "a", "a-b", "xx")
    assert pattern.match("sales-a@b@xx.example") is None
    assert Pattern.wildcard("a.b+(c").match("A.B+(C")


def test_targets_take_what_was_matched() -> None:
    assert expanded("\\1+\\2\\\\@\\0", ("w", "x", "y")) == "x+y\\@w"
    for template in ("\\3", "\\", "\\x"):
        with pytest.raises(ValueError, match="there is no group"):
            expanded(template, ("w", "x"))


def test_the_first_pattern_that_leads_to_an_address_counts_and_then_the_catch_all() -> None:
    table = AliasTable.parse(
        {
            "@xx.example": ["rest@xx.example"],
            "wildcard:*-no@xx.example": ["\\1.@xx.example"],
            "regex:to-(.*)@xx\\.example": ["\\1@yy.example", "log@xx.example"],
        },
        ["xx.example"],
    )

    def targets(local: str) -> list[str]:
        return [str(target) for target in table.matching(Address(local, "xx.example"))]

    assert targets("to-Ann") == ["Ann@yy.example", "log@xx.example"]
    assert targets("to-") == ["log@xx.example"]
    assert targets("other") == ["rest@xx.example"]


@pytest.mark.parametrize("name", ["regex:(", "wildcard:", "wildcard:a*@xx.example"])
def test_a_pattern_or_target_that_cannot_be_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f'"{name}"')):
        AliasTable.parse({name: ["\\2@xx.example"]}, ["xx.example"])
