"""Address lists: the forms of RFC 5322, its obsolete ones, mistakes, and cost."""

from __future__ import annotations

from email.headerregistry import Address as OracleAddress
from email.utils import getaddresses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.address_list import (
    ADDRESS_LIMIT,
    GROUP_END,
    MISSING_DOMAIN,
    MISSING_MAILBOX,
    MailboxSpec,
    parse,
)

A = MailboxSpec


def test_a_comment_in_the_brackets_is_nobodys_name() -> None:
    assert parse(b"<user (x)@ (x) xx.example>") == [MailboxSpec(None, None, b"user", b"xx.example")]
    assert parse(b"<user@xx.example> (Name)") == [MailboxSpec(b"Name", None, b"user", b"xx.example")]


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        (b"", []),
        (b" , ,, ", []),
        (b"a@b.c", [A(None, None, b"a", b"b.c")]),
        (b"mailto:a@b, Mailto: c@d", [A(None, None, b"a", b"b"), A(None, None, b"c", b"d")]),
        (b"<undisclosed recipients>", [A(None, None, b"undisclosed recipients", MISSING_DOMAIN)]),
        (b"<a@b.c>", [A(None, None, b"a", b"b.c")]),
        (b"Joe Q. Public <a@b>", [A(b"Joe Q. Public", None, b"a", b"b")]),
        (b'"Doe, John" <a@b>, c@d', [A(b"Doe, John", None, b"a", b"b"), A(None, None, b"c", b"d")]),
        (b'"say \\"hi\\" \\\\" <a@b>', [A(b'say "hi" \\', None, b"a", b"b")]),
        (b'"a b"@c', [A(None, None, b"a b", b"c")]),
        (b"a@[192.0.2.1]", [A(None, None, b"a", b"[192.0.2.1]")]),
        (b"a . b @ c . d", [A(None, None, b"a.b", b"c.d")]),
        (b"a@b (Full Name)", [A(b"Full Name", None, b"a", b"b")]),
        (b"Joe (x) Doe (y) <a@b> (z)", [A(b"Joe Doe", None, b"a", b"b")]),
        (b"(deep (deeper \\) (deepest))) a@b", [A(b"deep (deeper \\) (deepest))", None, b"a", b"b")]),
        (b"<@r1,@r2:a@b>", [A(None, b"@r1,@r2", b"a", b"b")]),
        (b"J\xc3\xb6rg <a@b>", [A(b"J\xc3\xb6rg", None, b"a", b"b")]),
        (b"=?utf-8?q?J=C3=B6rg?= <a@b>", [A(b"=?utf-8?q?J=C3=B6rg?=", None, b"a", b"b")]),
        (b"undisclosed-recipients:;", [A(None, None, b"undisclosed-recipients", None), GROUP_END]),
        (
            b"My Group: a@b, C <c@d>;, e@f",
            [
                A(None, None, b"My Group", None),
                A(None, None, b"a", b"b"),
                A(b"C", None, b"c", b"d"),
                GROUP_END,
                A(None, None, b"e", b"f"),
            ],
        ),
        (b"Open group: a@b", [A(None, None, b"Open group", None), A(None, None, b"a", b"b"), GROUP_END]),
        (b"root", [A(None, None, b"root", MISSING_DOMAIN)]),
        (b"<root>", [A(None, None, b"root", MISSING_DOMAIN)]),
        (b"<@b>", [A(None, None, MISSING_MAILBOX, b"b")]),
        (b"@b", [A(None, None, MISSING_MAILBOX, b"b")]),
        (b"Name <>", [A(b"Name", None, MISSING_MAILBOX, MISSING_DOMAIN)]),
        (b"<>", []),
        (b"Name <a@b", [A(b"Name", None, b"a", b"b")]),
        (b"a@b@c", [A(None, None, b"a@b", b"c")]),
        (b'"open <a@b>', [A(b"open", None, b"a", b"b")]),
        (b"Support j@o.test", [A(b"Support", None, b"j", b"o.test")]),
        (b"John Q. Public j@o.test", [A(b"John Q. Public", None, b"j", b"o.test")]),
        (b"j@o.test Support, k@o", [A(b"Support", None, b"j", b"o.test"), A(None, None, b"k", b"o")]),
        (b"a@b c@d", [A(None, None, b"a", b"b"), A(None, None, b"c", b"d")]),
        (b"The Support Team", [A(b"The Support Team", None, MISSING_MAILBOX, MISSING_DOMAIN)]),
        (b"j (x) doe@b", [A(b"j", None, b"doe", b"b")]),
        (b"j (x) . (y) doe (z) @ b", [A(b"z", None, b"j.doe", b"b")]),
        (b"<j doe@b>", [A(None, None, b"j doe", b"b")]),
        (b"<a@b c>", [A(None, None, b"a", b"b")]),
        (b"<a@b> trailing", [A(b"trailing", None, b"a", b"b")]),
        (b"Name <a@b> trailing", [A(b"Name", None, b"a", b"b")]),
        (b"A <a@b> B <c@d>", [A(b"A", None, b"a", b"b"), A(b"B", None, b"c", b"d")]),
        (b"<a@b> <c@d>", [A(None, None, b"a", b"b"), A(None, None, b"c", b"d")]),
        (b"<<a@b>>", [A(None, None, b"a", b"b")]),
        (b"<mailto:a@b>", [A(None, None, b"a", b"b")]),
        (b"a@b <c@d>", [A(b"a@b", None, b"c", b"d")]),
        (b'"a@b" <c@d>', [A(b"a@b", None, b"c", b"d")]),
        (b"Doe, John <j@b>, k@d", [A(b"Doe, John", None, b"j", b"b"), A(None, None, b"k", b"d")]),
        (b"Acme, Inc. <a@b>", [A(b"Acme, Inc.", None, b"a", b"b")]),
        (b"root, <a@b>", [A(None, None, b"root", MISSING_DOMAIN), A(None, None, b"a", b"b")]),
        (b"root, a@b", [A(None, None, b"root", MISSING_DOMAIN), A(None, None, b"a", b"b")]),
        (
            b"root, X: a@b;",
            [A(None, None, b"root", MISSING_DOMAIN), A(None, None, b"X", None), A(None, None, b"a", b"b"), GROUP_END],
        ),
        (b"=?utf-8?Q?M=FCller, Max?= <a@b>", [A(b"=?utf-8?Q?M=FCller, Max?=", None, b"a", b"b")]),
        (b"=?utf-8?Q?x@y, z?= <a@b>", [A(b"=?utf-8?Q?x@y, z?=", None, b"a", b"b")]),
        (b"a@b;c@d", [A(None, None, b"a", b"b"), A(None, None, b"c", b"d")]),
    ],
)
def test_parse(value: bytes, specs: list[MailboxSpec]) -> None:
    assert parse(value) == specs


@pytest.mark.parametrize("between", [b"", b"Doe, ", b"g: "])
def test_what_is_cut_is_left_out(between: bytes) -> None:
    value = b", ".join([between + b"N <person%d@b.example>" % number for number in range(20)])
    every = parse(value)
    mailboxes = [spec for spec in every if spec.domain]
    for limit in range(len(value)):
        found = parse(value, octets=limit)
        assert [spec for spec in found if spec.domain] == mailboxes[: len([spec for spec in found if spec.domain])]
        assert len([spec for spec in found if spec.local and not spec.domain]) == found.count(GROUP_END)
    assert parse(value, octets=len(value)) == every
    assert parse(value, octets=value.index(b"person7"))[-1 - found.count(GROUP_END)].local == b"person6"


def test_1200_addresses_in_80_kilobytes_are_all_read() -> None:
    people = [b'"Person Number %04d" <person.number.%04d@department.other.example>' % (n, n) for n in range(1200)]
    assert [spec.local for spec in parse(b",\r\n ".join(people))] == [b"person.number.%04d" % n for n in range(1200)]
    odd = [b"Person Number %04d person.number.%04d@department.other.example" % (n, n) for n in range(3000)]
    assert len(parse(b", ".join(odd))) == 3000


_PART = st.text(st.sampled_from("abc1.-+é"), min_size=1, max_size=6).filter(lambda text: "." not in text)
_PEOPLE = st.lists(
    st.builds(
        lambda name, local, domain: (name.strip(), f"{local}@{domain}"),
        st.text(st.sampled_from('ab ,;:<>@()"\\.ü'), max_size=8),
        _PART,
        _PART,
    ),
    max_size=5,
)


@given(_PEOPLE)
@settings(deadline=None, max_examples=150)
def test_well_formed_lists_are_read_back(people: list[tuple[str, str]]) -> None:
    written = [
        '"' + name.replace("\\", "\\\\").replace('"', '\\"') + f'" <{spec}>' if name else spec for name, spec in people
    ]
    read = [
        ((spec.name or b"").decode(), f"{(spec.local or b'').decode()}@{(spec.domain or b'').decode()}")
        for spec in parse(", ".join(written).encode())
    ]
    assert read == people


@pytest.mark.parametrize(
    "value",
    [
        'Alice <alice@xx.example>, "Bob, Jr." <bob@yy.example>',
        "carol@xx.example (Carol), <dave@yy.example>",
        '"quoted local"@xx.example, plain@yy.example',
        "first.last@sub.domain.example,second@xx.example",
    ],
)
def test_the_standard_library_reads_the_same(value: str) -> None:
    ours = [((spec.name or b"").decode(), spec.local, spec.domain) for spec in parse(value.encode())]
    theirs = []
    for name, spec in getaddresses([value]):
        address = OracleAddress(addr_spec=spec)
        theirs.append((name, address.username.encode(), address.domain.encode()))
    assert ours == theirs


_HOSTILE = [
    b",", b"(", b"()", b",a", b"<@", b'"', b"\\", b"a.", b"a ", b"@,", b"a@b,", b"[", b":", b";", b"(\\)", b'"a"', b"<",
    b">", b"a@", b"g:;", b"\r\n ", b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("element", [b"a@b.cc, ", b"a@b.cc (c), ", b"g: a@b.cc;, ", b'"a"@b.cc, '])
def test_all_that_a_large_header_has_room_for(element: bytes) -> None:
    count = 80_000 // len(element)
    assert sum(spec.domain == b"b.cc" for spec in parse(element * count)) == count


# What is looked at again for each piece that follows takes minutes here.
_HOSTILE_STARTS = [(b"<", b":"), (b"<@", b"a:"), (b"<", b"x "), (b"x " * 12_000 + b"@", b":"), (b"g:", b"mailto:x")]


@pytest.mark.parametrize(("start", "piece"), [*((b"", piece) for piece in _HOSTILE), *_HOSTILE_STARTS])
def test_hostile_lists_give_no_more_than_the_limit(start: bytes, piece: bytes) -> None:
    found = parse(start + piece * 30_000)
    assert len(found) <= ADDRESS_LIMIT + 1
    assert sum(len(each or b"") for spec in found for each in spec) <= 40 * 30_000


@given(st.lists(st.sampled_from([*_HOSTILE, b"name", b"x@y"]), max_size=30).map(b"".join) | st.binary(max_size=50))
@settings(deadline=None, max_examples=300)
def test_anything_is_read_and_groups_are_closed(value: bytes) -> None:
    found = parse(value)
    opened = sum(spec.local is not None and spec.domain is None for spec in found)
    assert opened == found.count(GROUP_END)
    assert all(spec.local for spec in found if spec.domain is not None)
