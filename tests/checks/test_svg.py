"""The profile of logos that BIMI wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.checks.svg import SVG_LIMIT, faults_of

GOOD = b"""<?xml version="1.0" encoding="UTF-8"?>
<svg version="1.2" baseProfile="tiny-ps" viewBox="0 0 64 64"
 xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">
<title>Example</title><!-- drawn by hand -->
<defs><linearGradient id="g"><stop offset="0" stop-color="#fff"/></linearGradient></defs>
<g fill="url( '#g' )"><rect width="64" height="64"/><use xlink:href="#g"/></g>
</svg>"""


def test_a_good_one_has_no_faults() -> None:
    assert faults_of(GOOD) == []
    assert faults_of(GOOD.replace(b"0 0 64 64", b"-1,-1e0, 6.4e1 64.0")) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b' version="1.2"', b"", 'has no version="1.2"'),
        (b"tiny-ps", b"tiny", 'has no baseProfile="tiny-ps"'),
        (b"0 0 64 64", b"0 0 64 32", "is not square (viewBox '0 0 64 32')"),
        (b"0 0 64 64", b"0 0 0 0", "is not square (viewBox '0 0 0 0')"),
        (b"0 0 64 64", b"0 0 64", "has no viewBox"),
        (b'viewBox="', b'x="0" viewBox="', "has x= in its outermost element"),
        (b"<title>Example</title>", b"", "has no title"),
        (b"Example", b" ", "has no title"),
        (b"Example", b"e" * 65, "has a title of more than 64 characters"),
        (b"<title>Example</title>", b"<g><title>Example</title></g>", "has no title"),
        (b"<defs>", b"<defs><script>alert(1)</script>", "has an element 'script', which the profile has not"),
        (b"<defs>", b"<defs><animate/>", "has an element 'animate', which the profile has not"),
        (b"<defs>", b'<defs><image xlink:href="#x"/>', "has an element 'image', which the profile has not"),
        (b"<defs>", b'<defs><a xmlns="urn:x"/>', "has an element 'a', which the profile has not"),
        (b"<rect ", b'<rect onclick="x()" ', "has a script ('onclick')"),
        (b'"#g"', b'"https://x.example/y.svg#g"', "refers to something elsewhere ('https://x.example/y.svg#g')"),
        (b'"#g"', b'"y.svg"', "refers to something elsewhere ('y.svg')"),
        (b"url( '#g' )", b"url(  'y.svg')", "refers to something elsewhere (\"url(  'y.svg')\")"),
        (b"url( '#g' )", b"DATA:image/png,x", "refers to something elsewhere ('DATA:image/png,x')"),
        (b"<svg", b'<?xml-stylesheet href="x.css"?><svg', "has an instruction for programs ('xml-stylesheet')"),
        (b"<svg", b'<!DOCTYPE svg SYSTEM "x.dtd"><svg', "has a document type (DTD)"),
        (b"<svg", b'<!DOCTYPE a [<!ENTITY b "c">]><svg', "has a document type (DTD)"),
        (b"Example", b"&example;", "is no XML that can be read: undefined entity"),
        (b"</svg>", b"", "is no XML that can be read: no element found"),
        (b"UTF-8", b"x-none", "is no XML that can be read: unknown encoding"),
        (b"http://www.w3.org/2000/svg", b"urn:other", "is no SVG"),
    ],
)
def test_each_fault_is_named(old: bytes, new: bytes, fault: str) -> None:
    assert old in GOOD
    (told,) = faults_of(GOOD.replace(old, new, 1))
    assert told.startswith(fault)


def test_only_so_much_is_read() -> None:
    assert faults_of(GOOD + b" " * SVG_LIMIT) == ["is larger than 32768 octets"]
    deep = b"<g>" * 4000
    assert faults_of(GOOD.replace(b"<defs>", deep)) == ["has more than 100 elements, one in the other"]
    strange = b"".join(b"<e%d/>" % number for number in range(100))
    assert len(faults_of(GOOD.replace(b"<defs>", strange + b"<defs>"))) == 10


@given(st.one_of(st.binary(max_size=200), st.integers(0, len(GOOD)).map(lambda end: GOOD[:end])))
def test_no_octets_make_it_fail(octets: bytes) -> None:
    assert faults_of(octets) or octets.rstrip() == GOOD
