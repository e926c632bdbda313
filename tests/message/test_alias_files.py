"""Tables of sendmail and Postfix: what is read of them, and what is named with its line."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.alias_files import Entry, Fault, Format, Table, in_domain, read_table


def read(text: str, form: Format = "aliases", files: Mapping[str, str] = MappingProxyType({})) -> Table:
    def include(path: str) -> bytes:
        try:
            return files[path.strip("/")].encode()
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    return read_table(text.encode(), form, include)


def targets(table: Table) -> dict[str, tuple[str, ...]]:
    assert table.faults == ()
    return {entry.name: entry.targets for entry in table.entries}


def test_names_targets_comments_and_lines_that_go_on() -> None:
    text = """\
# the postmaster
Postmaster: root
root:   ann, \\ben,
\t"c d"@xx.example,
  # not the end

        Dora <dora@yy.example>
"e f": "Ann B" <ann@xx.example>
*: ann
g@xx.example: h
i : j,j, j
"""
    assert targets(read(text)) == {
        "postmaster": ("root",),
        "root": ("ann", "ben", '"c d"@xx.example', "dora@yy.example"),
        '"e f"': ("ann@xx.example",),
        "@": ("ann",),
        "g@xx.example": ("h",),
        "i": ("j",),
    }


def test_answers_stand_alone() -> None:
    table = read("a: :fail: gone\tsince 2020\nb: :blackhole:\nc: /dev/null\nd: :defer:\n")
    assert table.entries == (
        Entry(1, "a", answer="fail", text="gone since 2020"),
        Entry(2, "b", answer="discard"),
        Entry(3, "c", answer="discard"),
        Entry(4, "d", answer="defer"),
    )


def test_included_lists_are_read_where_they_may_be() -> None:
    text = "team: ann, :include:/one\n"
    assert targets(read(text, files={"one": "ben\n# no\n:include:/two\n", "two": "cid@yy.example, ann"})) == {
        "team": ("ann", "ben", "cid@yy.example")
    }
    wrong: list[tuple[dict[str, str], str]] = [
        ({}, "/one: cannot be read: No such file or directory"),
        ({"one": ":include:/one"}, "nested more than 3 deep"),
        ({"one": "ben\n|prog"}, "/one, line 2: '|prog' is a program"),
        ({"one": "\x00"}, "/one, line 1: "),
    ]
    for files, why in wrong:
        (fault,) = read(text, files=files).faults
        assert (fault.line, why in fault.text) == (1, True), fault
    assert "is not read here" in str(read_table(text.encode(), "aliases").faults[0])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("a: |/usr/bin/vacation ann", "is a program"),
        ('a: "|vacation, ann"', "is a program"),
        ("a: /var/mail/a", "is a file"),
        ("a: ann, :fail: no", "can only stand alone"),
        ("a: error:5.1.1 no", "can only stand alone"),
        ("a:", "has no target"),
        ("a ann", 'is no "name: target, ..."'),
        ("a: ann@", "is no address"),
        ('a: "ann', "is no target"),
        ("a@[192.0.2.300]: ann", "malformed"),
        ("\\ann: ann, ben", "'\\\\ann' is no name: "),
        ("b: ann\nB: ben", "b is there already, in line 2"),
    ],
)
def test_what_cannot_be_taken_over_is_named_with_its_line(line: str, why: str) -> None:
    table = read(f"ok: ann\n{line}\n")
    assert [fault.line for fault in table.faults] == [2 + line.count("\n")]
    assert why in table.faults[0].text
    assert table.entries[0] == Entry(1, "ok", ("ann",))


def test_tables_of_virtual_addresses() -> None:
    text = """\
example.org     whatever
info@example.org  ann, ben@yy.example
sales@EXAMPLE.org ann ben
  cid
@example.org    rest@example.org
@example.net    @example.org
root            ann
"""
    table = read(text, "virtual")
    assert table.domains == ("example.org",)
    assert targets(table) == {
        "info@example.org": ("ann", "ben@yy.example"),
        "sales@example.org": ("ann", "ben", "cid"),
        "@example.org": ("rest@example.org",),
        "@example.net": ("@example.org",),
        "root": ("ann",),
    }
    assert [str(fault) for fault in read("a@b.example\nc@b.example @d.example\n", "virtual").faults] == [
        "line 1: a@b.example has no target",
        "line 2: @d.example can only be the single target of a whole domain",
    ]


def test_tables_of_regular_expressions() -> None:
    text = r"""
/^sales-(.*)@example\.org$/   $1@example.org, log+${1}@example.org
!^root@!                      ann@example.org
/x(y)?/i                      a$(1)$$@example.org
"""
    table = read(text.replace("!^", "|^").replace("@! ", "@| "), "regexp")
    assert targets(table) == {
        r"regex:(?:^sales-(.*)@example\.org$)": (r"\1@example.org", r"log+\1@example.org"),
        "regex:(?:^root@).*": ("ann@example.org",),
        "regex:.*?(?:x(y)?).*": (r"a\1$@example.org",),
    }
    faults = read(
        "if /x/\n!/x/ a@b.example\n/x/m a@b.example\n/(?=x)/ a@b.example\n/x/ $2@b.example\n/x/ a\n", "regexp"
    ).faults
    assert [fault.line for fault in faults] == [1, 2, 3, 4, 5, 6]


def test_names_get_their_domain() -> None:
    assert in_domain(["ann", '"a@b"', "@", "c@d.example", "@e.example"], "xx.example") == (
        "ann@xx.example",
        '"a@b"@xx.example',
        "@xx.example",
        "c@d.example",
        "@e.example",
    )


@given(st.binary(max_size=200), st.sampled_from(["aliases", "virtual", "regexp"]))
def test_nothing_that_a_file_holds_raises(octets: bytes, form: Format) -> None:
    table = read_table(octets, form, lambda path: octets)
    assert all(isinstance(fault, Fault) for fault in table.faults)
