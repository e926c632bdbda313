"""Lists of tags."""

from __future__ import annotations

import pytest

from mailhub.checks.tags import parse_tags


@pytest.mark.parametrize(
    ("octets", "tags"),
    [
        (b"v=1; a = rsa-sha256 ;", {"v": "1", "a": "rsa-sha256"}),
        (b" v=DKIM1;\r\n p=abc\r\n def ", {"v": "DKIM1", "p": "abc\r\n def"}),
        (b"p=", {"p": ""}),
        (b"i=\xc3\xbc@x.example", {"i": "\u00fc@x.example"}),
        (b"A=1;a=2", {"A": "1", "a": "2"}),
        (b"bh=abc==", {"bh": "abc=="}),
        (b"", {}),
    ],
)
def test_what_is_a_list(octets: bytes, tags: dict[str, str]) -> None:
    assert parse_tags(octets) == tags
    assert list(parse_tags(octets)) == list(tags)


@pytest.mark.parametrize(
    "octets",
    [
        b"v=1; v=1",
        b"v",
        b"v=1;;p=2",
        b"=1",
        b"1a=2",
        b"a-b=2",
        b"a=\x01",
        b"a=\xff",
        b"a=" + b"x" * 70_000,
        b";".join(b"a%d=1" % number for number in range(101)),
        b";",
    ],
)
def test_what_is_none(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_tags(octets)
