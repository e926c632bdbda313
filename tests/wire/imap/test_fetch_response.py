"""FETCH responses, rendered from real messages."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.digest import columns, digest
from mailhub.message.flags import render
from mailhub.message.header import select
from mailhub.message.record import DigestColumns, DigestName, Entry
from mailhub.wire.imap import grammar
from mailhub.wire.imap.commands import Fetch, FetchAttribute, FetchItem, Section
from mailhub.wire.imap.fetch_response import FetchPlan, Span
from mailhub.wire.imap.tokens import Tokens
from mailhub.wire.imap.view import Row

HEADER = (
    b"From: Anne <a@xx.example>\r\n"
    b"X-Odd: one\r\n"
    b"To: b@yy.example,\r\n c@yy.example\r\n"
    b"Subject: Hello\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=B\r\n"
    b"\r\n"
)
INNER = b"From: d@zz.example\r\nX-Inner: yes\r\nSubject: Inside\r\n\r\nInner text\r\n"
BODY = (
    b"--B\r\nContent-Type: text/plain\r\nContent-ID: <1@xx>\r\n\r\nFirst part\r\n"
    b"--B\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--B--\r\n"
)
MESSAGE = HEADER + BODY
PLAIN = b"Subject: Plain\r\n\r\nJust text\r\n"


def items(text: bytes) -> tuple[FetchItem, ...]:
    tokens = Tokens(b"FETCH 1 " + text)
    name = grammar.read_name(tokens)
    command = grammar.read_arguments("a", name, tokens)
    assert isinstance(command, Fetch)
    return command.items


def row(octets: bytes, *flags: str, number: int = 1, uid: int = 7) -> Row:
    entry = Entry(uid, frozenset(flags), 1, len(octets), 1_000_000_000)
    return number, entry, render(entry.flags)


def wanted(plan: FetchPlan, **messages: bytes) -> DigestColumns:
    """What the plan asks for, and nothing else."""
    return columns({int(uid[1:]): digest(octets) for uid, octets in messages.items()}, plan.wanted)


def response(text: bytes, octets: bytes = MESSAGE, *flags: str, seen_now: bool = False) -> bytes:
    """The whole response as the session would send it, by every way it has."""
    plan = FetchPlan(items(text))
    found = wanted(plan, u7=octets)
    whole = plan.whole(row(octets, *flags), found, octets, seen_now=seen_now)
    if not plan.sections:
        assert seen_now or plan.lines([row(octets, *flags)], found) == whole
        return whole
    answer = plan.answer(row(octets, *flags)[1], found)
    headers = {span: cut(octets, span) for span in answer.needed}
    if not answer.reads:
        assert all(isinstance(piece, bytes) for piece in answer.pieces(headers))
    pieces = [cut(octets, piece) if isinstance(piece, Span) else piece for piece in answer.pieces(headers)]
    assert plan.head(row(octets, *flags), found, seen_now=seen_now) + b"".join(pieces) == whole
    return whole


def cut(octets: bytes, span: Span) -> bytes:
    assert span.start + span.length <= len(octets)
    return octets[span.start : span.start + span.length]


def literal(octets: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(octets), octets)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (b"FLAGS", b"FLAGS (\\Seen)"),
        (b"UID", b"UID 7"),
        (b"(FLAGS UID)", b"UID 7 FLAGS (\\Seen)"),
        (b"RFC822.SIZE", b"RFC822.SIZE %d" % len(PLAIN)),
        (b"INTERNALDATE", b'INTERNALDATE " 9-Sep-2001 01:46:40 +0000"'),
        (b"(UID FLAGS RFC822.SIZE)", b"UID 7 FLAGS (\\Seen) RFC822.SIZE %d" % len(PLAIN)),
        (b"ENVELOPE", b'ENVELOPE (NIL "Plain" NIL NIL NIL NIL NIL NIL NIL NIL)'),
        (b"BODY", b'BODY ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 11 1)'),
        (
            b"BODYSTRUCTURE",
            b'BODYSTRUCTURE ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 11 1 NIL NIL NIL NIL)',
        ),
    ],
)
def test_items_without_octets(asked: bytes, answered: bytes) -> None:
    expected = b"* 1 FETCH (" + answered + b")\r\n"
    assert response(asked, PLAIN, "\\Seen").lower() == expected.lower()


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (b"BODY[]", MESSAGE),
        (b"BODY[HEADER]", HEADER),
        (b"BODY[TEXT]", BODY),
        (b"RFC822", MESSAGE),
        (b"RFC822.HEADER", HEADER),
        (b"RFC822.TEXT", BODY),
        (b"BODY[1]", b"First part"),
        (b"BODY[1.MIME]", b"Content-Type: text/plain\r\nContent-ID: <1@xx>\r\n\r\n"),
        (b"BODY[2]", INNER),
        (b"BODY[2.HEADER]", b"From: d@zz.example\r\nX-Inner: yes\r\nSubject: Inside\r\n\r\n"),
        (b"BODY[2.TEXT]", b"Inner text\r\n"),
        (b"BODY[2.1]", b"Inner text\r\n"),
        (b"BODY[HEADER.FIELDS (SUBJECT FROM)]", b"From: Anne <a@xx.example>\r\nSubject: Hello\r\n\r\n"),
        (b"BODY[HEADER.FIELDS (TO)]", b"To: b@yy.example,\r\n c@yy.example\r\n\r\n"),
        (b"BODY[HEADER.FIELDS (X-ODD SUBJECT)]", b"X-Odd: one\r\nSubject: Hello\r\n\r\n"),
        (b"BODY[HEADER.FIELDS (X-NONE)]", b"\r\n"),
        (
            b"BODY[HEADER.FIELDS.NOT (TO MIME-VERSION CONTENT-TYPE)]",
            b"From: Anne <a@xx.example>\r\nX-Odd: one\r\nSubject: Hello\r\n\r\n",
        ),
        (b"BODY[2.HEADER.FIELDS (X-INNER)]", b"X-Inner: yes\r\n\r\n"),
        (b"BODY[2.HEADER.FIELDS.NOT (FROM SUBJECT)]", b"X-Inner: yes\r\n\r\n"),
    ],
)
def test_sections(label: bytes, value: bytes) -> None:
    assert response(label) == b"* 1 FETCH (" + label + b" " + literal(value) + b")\r\n"


@pytest.mark.parametrize("label", [b"BODY[3]", b"BODY[1.2]", b"BODY[1.HEADER]", b"BODY[1.HEADER.FIELDS (TO)]"])
def test_a_section_that_does_not_exist_is_nil(label: bytes) -> None:
    assert response(label) == b"* 1 FETCH (" + label + b" NIL)\r\n"


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (b"BODY[TEXT]<0.4>", b"BODY[TEXT]<0> {4}\r\nJust"),
        (b"BODY[TEXT]<5.100>", b"BODY[TEXT]<5> {6}\r\ntext\r\n"),
        (b"BODY[TEXT]<11.1>", b"BODY[TEXT]<11> {0}\r\n"),
        (b"BODY[]<999999.1>", b"BODY[]<999999> {0}\r\n"),
        (b"BODY[HEADER.FIELDS (SUBJECT)]<9.5>", b"BODY[HEADER.FIELDS (SUBJECT)]<9> {5}\r\nPlain"),
        (b"BODY[HEADER.FIELDS (SUBJECT)]<90.5>", b"BODY[HEADER.FIELDS (SUBJECT)]<90> {0}\r\n"),
    ],
)
def test_partials(asked: bytes, answered: bytes) -> None:
    assert response(asked, PLAIN) == b"* 1 FETCH (" + answered + b")\r\n"


@pytest.mark.parametrize(
    ("label", "octets"), [(b"RFC822.HEADER", b"no field\r\n"), (b"BODY[TEXT]", b"Subject: x\r\n\r\n")]
)
def test_an_empty_section_is_a_literal_as_all_others_are(label: bytes, octets: bytes) -> None:
    # fetchmail gives up at a quoted string, and Python's imaplib returns it in another form.
    assert response(label, octets) == b"* 1 FETCH (" + label + b" {0}\r\n)\r\n"


def test_several_sections_and_items_in_one_response() -> None:
    asked = b"(UID BODY.PEEK[1] BODY.PEEK[TEXT]<0.4>)"
    assert response(asked, PLAIN) == (b"* 1 FETCH (UID 7 BODY[1] {11}\r\nJust text\r\n BODY[TEXT]<0> {4}\r\nJust)\r\n")


def test_flags_are_told_with_the_section_that_set_them() -> None:
    told = response(b"BODY[1]", PLAIN, "\\Seen", seen_now=True)
    assert told.startswith(b"* 1 FETCH (FLAGS (\\Seen) BODY[1] {11}")
    twice = response(b"(FLAGS BODY[1])", PLAIN, "\\Seen", seen_now=True)
    assert twice.count(b"FLAGS") == 1


@pytest.mark.parametrize(
    ("asked", "sets_seen", "columns_wanted"),
    [
        (b"FLAGS", False, set()),
        (b"(BODY ENVELOPE)", False, {"bodystructure", "envelope"}),
        (b"BODY[]", True, set()),
        (b"BODY.PEEK[]", False, set()),
        (b"RFC822.HEADER", False, {"header_size"}),
        (b"RFC822.TEXT", True, {"header_size"}),
        (b"(BODY.PEEK[1] BODY[2])", True, {"parts"}),
        (b"BODY.PEEK[HEADER.FIELDS (SUBJECT NEWSGROUPS)]", False, {"fields"}),
        (b"BODY.PEEK[HEADER.FIELDS (X-ODD)]", False, {"header_size"}),
    ],
)
def test_what_a_plan_takes(asked: bytes, sets_seen: bool, columns_wanted: set[DigestName]) -> None:
    plan = FetchPlan(items(asked))
    assert plan.sets_seen == sets_seen
    assert plan.wanted == columns_wanted


def test_usual_fields_come_from_the_digest_alone() -> None:
    # What Thunderbird asks for.
    fields = (
        b"From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type"
    )
    plan = FetchPlan(items(b"BODY.PEEK[HEADER.FIELDS (%b Reply-To)]" % fields))
    assert not plan.sections
    assert not plan.answer(row(MESSAGE)[1], wanted(plan, u7=MESSAGE)).reads
    plan = FetchPlan(items(b"BODY.PEEK[HEADER.FIELDS (FROM X-MAILER)]"))
    assert plan.answer(row(MESSAGE)[1], wanted(plan, u7=MESSAGE)).reads


FIELD = st.builds(
    b"".join,
    st.tuples(
        st.sampled_from([b"From", b"SUBJECT", b"To", b"X-Subject", b"Subject-X", b"List-Id", b"no field at all"]),
        st.sampled_from([b":", b" :", b": "]),
        st.sampled_from([b"", b"word", b"one\r\n Subject: folded", b"a\r\n\tFrom: b", b"bare\nlines"]),
        st.sampled_from([b"\r\n", b"\n", b""]),
    ),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(FIELD, max_size=8), st.sets(st.sampled_from([b"from", b"subject", b"to", b"list-id"]), min_size=1))
def test_usual_fields_are_the_same_as_from_the_header_itself(fields: list[bytes], names: set[bytes]) -> None:
    octets = b"".join(fields) + b"\r\n\r\nbody"
    found = digest(octets)
    section = Section((), "HEADER.FIELDS", b"L", tuple(names), peek=True)
    expected = select(octets[: found.header_size], names)
    assert (
        FetchPlan([section]).lines([row(octets)], {"fields": {7: found.fields}})
        == b"* 1 FETCH (L " + literal(expected) + b")\r\n"
    )


def test_a_big_section_stays_a_span() -> None:
    octets = PLAIN + b"x" * 1_000_000
    pieces = list(FetchPlan(items(b"BODY.PEEK[TEXT]")).answer(row(octets)[1], {"header_size": {7: 18}}).pieces({}))
    assert pieces[1] == Span(18, len(octets) - 18)
    assert sum(len(piece) for piece in pieces if isinstance(piece, bytes)) < 100


def test_rows_of_many_messages_are_lines_in_order() -> None:
    rows = [row(PLAIN, number=number, uid=number + 10) for number in (1, 2)]
    plan = FetchPlan([FetchAttribute.UID, FetchAttribute.ENVELOPE])
    lines = plan.lines(rows, wanted(plan, u11=PLAIN, u12=MESSAGE)).split(b"\r\n")
    assert starts(lines) == [b"* 1 FETCH (UID 11 ENVELOPE (", b"* 2 FETCH (UID 12 ENVELOPE ("]


def starts(lines: Iterable[bytes]) -> list[bytes]:
    return [line[:28] for line in lines if line]
