"""The items of FETCH: macros, sections, labels, partials, and the bounds."""

from __future__ import annotations

import pytest

from mailhub.wire.imap.commands import FetchAttribute as A
from mailhub.wire.imap.commands import FetchItem, Section
from mailhub.wire.imap.fetch_grammar import fetch_items
from mailhub.wire.imap.tokens import BadSyntax, Tokens


def read(octets: bytes, *, uid: bool = False) -> tuple[FetchItem, ...]:
    tokens = Tokens(octets)
    items = fetch_items(tokens, uid=uid)
    tokens.end()
    return items


@pytest.mark.parametrize(
    ("octets", "items"),
    [
        (b"FAST", (A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE)),
        (b"all", (A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE, A.ENVELOPE)),
        (b"FULL", (A.FLAGS, A.INTERNALDATE, A.RFC822_SIZE, A.ENVELOPE, A.BODY)),
        (b"body", (A.BODY,)),
        (b"(UID rfc822.size BODYSTRUCTURE)", (A.UID, A.RFC822_SIZE, A.BODYSTRUCTURE)),
        (b"(FLAGS UID FLAGS)", (A.FLAGS, A.UID)),
        (b"RFC822", (Section((), "", b"RFC822"),)),
        (b"RFC822.HEADER", (Section((), "HEADER", b"RFC822.HEADER", peek=True),)),
        (b"rfc822.text", (Section((), "TEXT", b"RFC822.TEXT"),)),
        (b"BODY[]", (Section((), "", b"BODY[]"),)),
        (b"body.peek[]", (Section((), "", b"BODY[]", peek=True),)),
        (b"BODY[header]", (Section((), "HEADER", b"BODY[HEADER]"),)),
        (b"BODY[TEXT]<0.100>", (Section((), "TEXT", b"BODY[TEXT]<0>", partial=(0, 100)),)),
        (b"BODY[1]", (Section((1,), "", b"BODY[1]"),)),
        (b"BODY[1.22.3]<5.1>", (Section((1, 22, 3), "", b"BODY[1.22.3]<5>", partial=(5, 1)),)),
        (b"BODY[2.mime]", (Section((2,), "MIME", b"BODY[2.MIME]"),)),
        (b"BODY[1.2.TEXT]", (Section((1, 2), "TEXT", b"BODY[1.2.TEXT]"),)),
        (
            b"BODY.PEEK[HEADER.FIELDS (From TO)]",
            (Section((), "HEADER.FIELDS", b"BODY[HEADER.FIELDS (From TO)]", (b"from", b"to"), peek=True),),
        ),
        (
            b'BODY[3.header.fields.not ("x y" {1}\r\na)]<0.9>',
            (
                Section(
                    (3,), "HEADER.FIELDS.NOT", b'BODY[3.HEADER.FIELDS.NOT ("x y" a)]<0>', (b"x y", b"a"), False, (0, 9)
                ),
            ),
        ),
        (
            b"(BODY[1]<0.5> BODY[1]<5.5> BODY[1])",
            (
                Section((1,), "", b"BODY[1]<0>", partial=(0, 5)),
                Section((1,), "", b"BODY[1]<5>", partial=(5, 5)),
                Section((1,), "", b"BODY[1]"),
            ),
        ),
    ],
)
def test_reads(octets: bytes, items: tuple[FetchItem, ...]) -> None:
    assert read(octets) == items


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"()",
        b"( )",
        b"(FLAGS",
        b"FLAGS)",
        b"FOO",
        b"BODY.PEEK",
        b"(FLAGS)UID",
        b"(FLAGS)(UID)",
        b"BODY[",
        b"BODY[]]",
        b"BODY[FOO]",
        b"BODY[MIME]",
        b"BODY[0]",
        b"BODY[1.]",
        b"BODY[.1]",
        b"BODY[1HEADER]",
        b"BODY[1..2]",
        b"BODY[HEADER.FIELDS]",
        b"BODY[HEADER.FIELDS ()]",
        b"BODY[HEADER (a)]",
        b"BODY[]<0>",
        b"BODY[]<0.0>",
        b"BODY[]<1.2",
        b"BODY[]<-1.2>",
        b"FLAGS[]",
        b"RFC822[]",
        b"BODY []",
        b"BODY[TEXT.MIME]",
        b"BODYSTRUCTURE[1]",
        b"FLAGS<0.1>",
    ],
)
def test_refuses(octets: bytes) -> None:
    with pytest.raises(BadSyntax):
        read(octets)


@pytest.mark.parametrize(
    ("fitting", "too_many"),
    [
        (b"(" + b"UID " * 199 + b"UID)", b"(" + b"UID " * 200 + b"UID)"),
        (b"BODY[" + b"1." * 99 + b"1]", b"BODY[" + b"1." * 100 + b"1]"),
        (b"BODY[HEADER.FIELDS (" + b"a " * 199 + b"a)]", b"BODY[HEADER.FIELDS (" + b"a " * 200 + b"a)]"),
        (
            b"(" + b"BODY[1.HEADER.FIELDS.NOT (a)] " * 9 + b"BODY[HEADER.FIELDS (a)])",
            b"(" + b"BODY[1.HEADER.FIELDS.NOT (a)] " * 10 + b"BODY[HEADER.FIELDS (a)])",
        ),
    ],
)
def test_bounds(fitting: bytes, too_many: bytes) -> None:
    assert read(fitting)
    with pytest.raises(BadSyntax, match="Too many"):
        read(too_many)


def test_two_partials_that_begin_at_the_same_octet_are_two_items() -> None:
    short, long = (Section((), "", b"BODY[]<0>", partial=(0, count)) for count in (10, 20))
    assert read(b"(BODY[]<0.10> BODY[]<0.20> BODY.PEEK[]<0.10>)") == (short, long)


def test_numbers_beyond_all_bounds_are_the_largest_there_is() -> None:
    (section,) = read(b"BODY[]<0.99999999999999999999>")
    assert isinstance(section, Section)
    assert section.partial == (0, 2**63 - 1)


def test_uid_is_added_once() -> None:
    assert read(b"FLAGS", uid=True) == (A.UID, A.FLAGS)
    assert read(b"(FLAGS UID)", uid=True) == (A.FLAGS, A.UID)


@pytest.mark.parametrize("octets", [b"(BODY[] BODY.PEEK[])", b"(BODY.PEEK[] BODY[])"])
def test_of_two_alike_the_one_that_sets_seen_stays(octets: bytes) -> None:
    assert read(octets) == (Section((), "", b"BODY[]"),)
