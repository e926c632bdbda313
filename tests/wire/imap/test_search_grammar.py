"""The keys of SEARCH: every one, their combination, the shape of the tree and its bounds."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.wire.imap import commands as c
from mailhub.wire.imap.commands import DateRelation, SearchKey
from mailhub.wire.imap.search_grammar import DEPTH_LIMIT, KEY_LIMIT, search_program
from mailhub.wire.imap.sets import SequenceSet
from mailhub.wire.imap.tokens import BadSyntax, Tokens


def read(octets: bytes, encoding: str = "utf-8") -> SearchKey:
    return search_program(Tokens(octets), encoding)


SEEN, DRAFT, FLAGGED = c.HasFlag("\\Seen"), c.HasFlag("\\Draft"), c.HasFlag("\\Flagged")
DAY = date(2024, 2, 1)


@pytest.mark.parametrize(
    ("octets", "key"),
    [
        (b"ALL", c.All()),
        (b"answered", c.HasFlag("\\Answered")),
        (b"DELETED", c.HasFlag("\\Deleted")),
        (b"DRAFT", DRAFT),
        (b"FLAGGED", FLAGGED),
        (b"SEEN", SEEN),
        (b"UNANSWERED", c.Not(c.HasFlag("\\Answered"))),
        (b"UNDELETED", c.Not(c.HasFlag("\\Deleted"))),
        (b"UNDRAFT", c.Not(DRAFT)),
        (b"UNFLAGGED", c.Not(FLAGGED)),
        (b"UNSEEN", c.Not(SEEN)),
        (b"RECENT", c.IsRecent()),
        (b"OLD", c.Not(c.IsRecent())),
        (b"NEW", c.And((c.IsRecent(), c.Not(SEEN)))),
        (b"KEYWORD $forwarded", c.HasFlag("$forwarded")),
        (b"UNKEYWORD x", c.Not(c.HasFlag("x"))),
        (b"FROM a", c.EnvelopeContains("from", "a")),
        (b'TO "a b"', c.EnvelopeContains("to", "a b")),
        (b"CC {1}\r\na", c.EnvelopeContains("cc", "a")),
        (b"BCC a", c.EnvelopeContains("bcc", "a")),
        (b'SUBJECT "\xc3\xa9"', c.EnvelopeContains("subject", "é")),
        (b"HEADER Subject: x", c.HeaderContains("subject", "x")),
        (b'HEADER Message-ID ""', c.HeaderContains("message-id", "")),
        (b"BODY x", c.BodyContains("x")),
        (b"TEXT x", c.TextContains("x")),
        (b"BEFORE 1-Feb-2024", c.InternalDateIs(DateRelation.BEFORE, DAY)),
        (b"ON 01-Feb-2024", c.InternalDateIs(DateRelation.ON, DAY)),
        (b'SINCE "1-Feb-2024"', c.InternalDateIs(DateRelation.SINCE, DAY)),
        (b"SENTBEFORE 1-Feb-2024", c.SentDateIs(DateRelation.BEFORE, DAY)),
        (b"SENTON 1-Feb-2024", c.SentDateIs(DateRelation.ON, DAY)),
        (b"SENTSINCE 1-Feb-2024", c.SentDateIs(DateRelation.SINCE, DAY)),
        (b"LARGER 5", c.Larger(5)),
        (b"SMALLER 5000000000", c.Smaller(5000000000)),
        (b"1,2:*", c.NumberIn(SequenceSet.parse(b"1,2:*"))),
        (b"*", c.NumberIn(SequenceSet.parse(b"*"))),
        (b"UID 5:*", c.UidIn(SequenceSet.parse(b"5:*"))),
    ],
)
def test_every_key(octets: bytes, key: SearchKey) -> None:
    assert read(octets) == key


@pytest.mark.parametrize(
    ("octets", "key"),
    [
        (b"SEEN DRAFT", c.And((SEEN, DRAFT))),
        (b"(SEEN)", SEEN),
        (b"((SEEN DRAFT))", c.And((SEEN, DRAFT))),
        (b"(SEEN (DRAFT FLAGGED))", c.And((SEEN, DRAFT, FLAGGED))),
        (b"NOT SEEN", c.Not(SEEN)),
        (b"NOT NOT SEEN", SEEN),
        (b"NOT UNSEEN", SEEN),
        (b"(SEEN)(DRAFT)", c.And((SEEN, DRAFT))),
        (b"NOT(SEEN)", c.Not(SEEN)),
        (b"OR(SEEN)(DRAFT)", c.Or((SEEN, DRAFT))),
        (b"SEEN 1, 3 : 5 ,7 DRAFT", c.And((SEEN, c.NumberIn(SequenceSet.parse(b"1,3:5,7")), DRAFT))),
        (b"1 2", c.And((c.NumberIn(SequenceSet.parse(b"1")), c.NumberIn(SequenceSet.parse(b"2"))))),
        (b"ON {20}\r\n3-Feb-2025 18:28 GMT", c.InternalDateIs(c.DateRelation.ON, date(2025, 2, 3))),
        (b'"UNSEEN"', c.Not(SEEN)),
        (b"( SEEN  DRAFT ) ", c.And((SEEN, DRAFT))),
        (b"OR  (SEEN )  NOT  DRAFT", c.Or((SEEN, c.Not(DRAFT)))),
        (b'KEYWORD "foo"', c.HasFlag("foo")),
        (b"UNKEYWORD {3}\r\nfoo", c.Not(c.HasFlag("foo"))),
        (b"KEYWORD \\Seen", SEEN),
        (b'"1:3"', c.NumberIn(SequenceSet.parse(b"1:3"))),
        (b'UID "1:99999999999"', c.UidIn(SequenceSet.parse(b"1:4294967295"))),
        (b'LARGER "5"', c.Larger(5)),
        (b"smaller 99999999999999999999", c.Smaller(2**63 - 1)),
        (b'since "3-feb-2025"', c.InternalDateIs(c.DateRelation.SINCE, date(2025, 2, 3))),
        (b"NOT (SEEN DRAFT)", c.Not(c.And((SEEN, DRAFT)))),
        (b"OR SEEN DRAFT", c.Or((SEEN, DRAFT))),
        (b"OR SEEN OR DRAFT FLAGGED", c.Or((SEEN, DRAFT, FLAGGED))),
        (b"OR OR SEEN DRAFT FLAGGED", c.Or((SEEN, DRAFT, FLAGGED))),
        (b"OR SEEN DRAFT FLAGGED", c.And((c.Or((SEEN, DRAFT)), FLAGGED))),
        (b"OR (SEEN DRAFT) NOT FLAGGED", c.Or((c.And((SEEN, DRAFT)), c.Not(FLAGGED)))),
        (b"OR NOT SEEN DRAFT", c.Or((c.Not(SEEN), DRAFT))),
        (b"NOT OR SEEN NOT DRAFT FLAGGED", c.And((c.Not(c.Or((SEEN, c.Not(DRAFT)))), FLAGGED))),
        (b"NEW SEEN", c.And((c.IsRecent(), c.Not(SEEN), SEEN))),
    ],
)
def test_combinations(octets: bytes, key: SearchKey) -> None:
    assert read(octets) == key


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b" SEEN",
        b"()",
        b"(SEEN",
        b"SEEN)",
        b"NOT",
        b"NOT ",
        b"OR SEEN",
        b"(OR SEEN)",
        b"(NOT)",
        b"NOT)",
        b"OR (SEEN DRAFT)",
        b"FOO",
        b"FROM",
        b"FROM ",
        b"HEADER x",
        b"HEADER {1}\r\n\xff a",
        b"KEYWORD \\Recent",
        b'KEYWORD "a b"',
        b'KEYWORD "\xc3\xbc"',
        b'"SEEN',
        b'"a b"',
        b'""',
        b"( )",
        b"SEENDRAFT",
        b"1,,2",
        b"1,",
        b",1",
        b"1 :",
        b'UID ""',
        b'UID "1',
        b"KEYWORD",
        b"ON 2024",
        b"SENTON 31-Feb-2024",
        b"LARGER x",
        b"LARGER -1",
        b"UID x",
        b"0",
        b"1:",
        b"$",
    ],
)
def test_refuses(octets: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(octets)


def test_text_must_be_in_the_charset() -> None:
    assert read(b'BODY "a"', "ascii") == c.BodyContains("a")
    for octets, encoding in ((b'BODY "\xc3\xa9"', "ascii"), (b'BODY "\xe9"', "utf-8")):
        with pytest.raises(BadSyntax, match="charset"):
            read(octets, encoding)


# --- bounds


def depth_of(key: SearchKey) -> int:
    if isinstance(key, c.Not):
        return 1 + depth_of(key.key)
    if isinstance(key, c.And | c.Or):
        return 1 + max(depth_of(inner) for inner in key.keys)
    return 1


def test_depth_is_bounded_after_what_means_nothing_is_gone() -> None:
    alternating = b"NOT (SEEN " * ((DEPTH_LIMIT - 2) // 2) + b"NOT SEEN" + b")" * ((DEPTH_LIMIT - 2) // 2)
    assert depth_of(read(alternating)) == DEPTH_LIMIT
    with pytest.raises(BadSyntax, match="deep"):
        read(b"NOT (SEEN " * 30 + b"DRAFT" + b")" * 30)
    assert read(b"(" * 1000 + b"SEEN" + b")" * 1000) == SEEN
    assert read(b"NOT " * 1000 + b"SEEN") == SEEN


def test_a_long_chain_is_flat() -> None:
    key = read(b"OR FROM a " * 900 + b"SEEN")
    assert isinstance(key, c.Or)
    assert len(key.keys) == 901


@pytest.mark.parametrize("unit", [b"SEEN ", b"NOT ", b"(", b"OR SEEN "])
def test_the_number_of_keys_is_bounded(unit: bytes) -> None:
    with pytest.raises(BadSyntax, match="Too many"):
        read(unit * (KEY_LIMIT + 1) + b"SEEN")


_LEAVES = st.sampled_from([SEEN, DRAFT, FLAGGED])
_WORDS = {SEEN: b"SEEN", DRAFT: b"DRAFT", FLAGGED: b"FLAGGED"}
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("or"), inner, inner),
        st.tuples(st.just("and"), inner, inner),
    ),
    max_leaves=12,
)


def write(tree: object) -> bytes:
    if isinstance(tree, c.HasFlag):
        return _WORDS[tree]
    assert isinstance(tree, tuple)
    match tree[0]:
        case "not":
            return b"NOT " + write(tree[1])
        case "or":
            return b"OR " + write(tree[1]) + b" " + write(tree[2])
    return b"(" + write(tree[1]) + b" " + write(tree[2]) + b")"


def holds(tree: object, flags: frozenset[str]) -> bool:
    match tree:
        case c.HasFlag(flag):
            return flag in flags
        case ("not", inner) | c.Not(inner):
            return not holds(inner, flags)
        case ("or", *keys) | c.Or(keys):
            return any(holds(key, flags) for key in keys)
        case ("and", *keys) | c.And(keys):
            return all(holds(key, flags) for key in keys)
    raise AssertionError(tree)


@settings(deadline=None, max_examples=150)
@given(_TREES, st.frozensets(st.sampled_from(["\\Seen", "\\Draft", "\\Flagged"])))
def test_the_tree_means_what_was_written(tree: object, flags: frozenset[str]) -> None:
    assert holds(read(write(tree)), flags) == holds(tree, flags)
