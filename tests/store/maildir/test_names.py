"""Names of folders and files, line ends, and places: pure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailhub.errors import InvalidMailboxName
from mailhub.message.mailbox_names import is_allowed, normalise
from mailhub.store.maildir import names
from mailhub.store.maildir.line_ends import Counted, with_crlf, with_lf
from mailhub.store.maildir.places import Places

TEXTS = st.text(st.sampled_from("ab.&/-~ ä☃\U0001f600+,Z"), min_size=1, max_size=30)
BLOCKS = st.lists(st.text(st.sampled_from("\r\nab"), max_size=6).map(str.encode), max_size=8)


@given(TEXTS)
@example("a.b/c.d")
@example("..a")
@example("&AC4-")
def test_every_name_that_is_allowed_comes_back(name: str) -> None:
    name = normalise(name)
    if is_allowed(name):
        written = names.written(name)
        assert written.isascii()
        assert "/" not in written
        assert names.mailbox(written) == name
        assert names.directory(name) == f".{written}"


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("Lists.python", "Lists/python"),
        ("Gro&AN8-es", "Großes"),
        ("Großes", "Großes"),
        ("v1&AC4-2.x", "v1.2/x"),
        ("a..b", None),
        ("&bad", None),
        ("&ANw", None),
        ("inbox", None),
        ("a\nb", None),
        ("\udcff", None),
        ("", None),
    ],
)
def test_directories_of_others(directory: str, name: str | None) -> None:
    assert names.mailbox(directory) == name


def test_what_is_too_long_for_a_directory_is_no_name() -> None:
    with pytest.raises(InvalidMailboxName):
        names.directory("☃" * 200)


@pytest.mark.parametrize(
    ("file", "base", "letters", "attributes"),
    [
        ("1.M2P3.mx,S=10,W=12:2,FS", "1.M2P3.mx,S=10,W=12", "FS", {"S": 10, "W": 12}),
        ("1.M2P3.mx", "1.M2P3.mx", "", {}),
        ("1.mx,S=x,W=1:2,", "1.mx,S=x,W=1", "", {"W": 1}),
        ("1.mx,S=12,U=7:2,S", "1.mx,S=12,U=7", "S", {"S": 12}),
        ("1.mx:1,S", "1.mx", "", {}),
        ("a:2,S:2,F", "a", "S:2,F", {}),
        ("", "", "", {}),
    ],
)
def test_names_of_files(file: str, base: str, letters: str, attributes: dict[str, int]) -> None:
    parsed = names.parse(file)
    assert (parsed.base, parsed.letters, parsed.attributes) == (base, letters, attributes)


def test_messages_come_in_the_order_of_their_delivery() -> None:
    files = ["1700000001.M5P1.mx", "1700000001.M000040P1.mx", "999.P1.mx", "1700000000.x", "other"]
    ordered = sorted(files, key=lambda file: names.parse(file).order)
    assert ordered == ["other", "999.P1.mx", "1700000000.x", "1700000001.M5P1.mx", "1700000001.M000040P1.mx"]


@given(BLOCKS)
def test_lf_is_written_where_it_can_be_read_back(blocks: list[bytes]) -> None:
    octets = b"".join(blocks)
    counted = Counted(blocks)
    lf = b"".join(with_lf(blocks))
    assert lf == octets.replace(b"\r\n", b"\n")
    assert counted.size == len(octets)
    assert counted.plain == (re.sub(rb"(?<!\r)\n", b"\r\n", lf) == octets)
    assert counted.lf_size == len(lf if counted.plain else octets)


@given(BLOCKS)
def test_crlf_does_not_depend_on_blocks(blocks: list[bytes]) -> None:
    assert b"".join(with_crlf(blocks)) == re.sub(rb"(?<!\r)\n", b"\r\n", b"".join(blocks))


def test_places_are_below_what_is_fixed() -> None:
    places = Places("/var/mail/{domain}/{local}/Maildir", Path("/data"))
    assert places.fixed == Path("/var/mail")
    assert places.of("ann/../x@xx.example") == Path("/var/mail/xx.example/ann%2F..%2Fx/Maildir")
    assert places.of("..@xx.example") == Path("/var/mail/xx.example/%2E./Maildir")
    assert Places("m/{user}", Path("/data")).of("é@x") == Path("/data/m/%C3%A9@x")
    assert Places("m/{user}", Path("/data")).fixed == Path("/data")
    for bad in ("/var/mail", "/{domain}", "/{user}/{other}", "/{user", "/{local}}"):
        with pytest.raises(ValueError, match=r"must have|not known|brace"):
            Places(bad, Path("/"))
