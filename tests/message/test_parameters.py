"""Parameters: quoting, continuations, charsets, mistakes."""

from __future__ import annotations

from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.parameters import PARAMETER_LIMIT, parse, without_comments, words


@pytest.mark.parametrize(
    ("body", "value", "subvalue", "parameters"),
    [
        (b"text/plain", "text", "plain", []),
        (b" Text / HTML ;charset=UTF-8", "text", "html", [("charset", b"UTF-8")]),
        (b'a/b; x="y z"; W = "q\\"\\\\"', "a", "b", [("x", b"y z"), ("w", b'q"\\')]),
        (b"a/b;; ; x=1;", "a", "b", [("x", b"1")]),
        (b"a/b (c;d=e) ; x=1 (f)", "a", "b", [("x", b"1")]),
        (b"a/b; name=two words.pdf; x=1", "a", "b", [("name", b"two words.pdf"), ("x", b"1")]),
        (b'a/b; x="not closed; y=1', "a", "b", [("x", b"not closed; y=1")]),
        (b"a/b; x; y=; =z; z=1", "a", "b", [("y", b""), ("z", b"1")]),
        (b"attachment; filename=\xfc", "attachment", "", [("filename", b"\xfc")]),
        (b"text", "text", "", []),
        (b"text/", "text", "", []),
        (b"text/plain x=1", "text", "plain", []),
        (b"attachment; filename=a(1).txt (c); x=1", "attachment", "", [("filename", b"a(1).txt"), ("x", b"1")]),
        (b"attachment; filename=%1B(B.txt", "attachment", "", [("filename", b"%1B(B.txt")]),
        (b"a/b; charset=us-ascii(Plain text)", "a", "b", [("charset", b"us-ascii")]),
        (b"a(c)/(d)b(e);(f)x(g)=(h)1(i)", "a", "b", [("x", b"1")]),
        (b"a/b; boundary*=us-ascii'en'x", "a", "b", [("boundary", b"x")]),
        (b"a; n=old; n*=utf-8''E%20rates", "a", "", [("n", b"E rates")]),
        (b"a; n=old; n*=utf-8''%E2%82%AC", "a", "", [("n", b"old"), ("n*", b"utf-8''%E2%82%AC")]),
        (b"a; n*0=x; n*1=y; n*=''z", "a", "", [("n", b"z")]),
        (b"a; \xc3\x9c=1", "a", "", [("\xc3\x9c", b"1")]),
    ],
)
def test_parse(body: bytes, value: str, subvalue: str, parameters: list[tuple[str, bytes]]) -> None:
    found = parse(body)
    assert found == (value, subvalue, tuple(parameters))


@pytest.mark.parametrize("body", [b"", b"/plain", b";x=1", b"=", b"()", b'"text"/plain'])
def test_no_value(body: bytes) -> None:
    assert parse(body) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'a; filename="plain.txt"', "plain.txt"),
        (b"a; filename*=UTF-8''%e2%82%ac%20rates", "€ rates"),
        (b"a; filename*=iso-8859-1'en'%A3", "£"),
        (b'a; filename*0="a b"; filename*1=c', "a bc"),
        (b"a; filename*1=c; filename*0=b; filename*2=d; filename*4=f", "bcdf"),
        (b"a; filename*0*=utf-8''%c3; filename*1*=%bc; filename*2=%41", "ü%41"),
        (b"a; filename=old; filename*=utf-8''new", "new"),
        (b'a; filename="=?utf-8?q?=C3=BC.pdf?="', "ü.pdf"),
        (b"a; filename=\xc3\xbc", "ü"),
        (b"a; filename*1=x", "x"),
        (b"a; filename*=no quotes", "no quotes"),
        (b"a; filename*=zlib''%78", "x"),
        (b"a; filename2=x", None),
        (b"a; other=x", None),
    ],
)
def test_text_of_a_parameter(body: bytes, text: str | None) -> None:
    found = parse(body)
    assert found is not None
    assert found.text("filename") == text


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"a (b (c) d) e", b"a   e"),
        (b'"(a)" (b)', b'"(a)"  '),
        (b"(\\)) x", b"  x"),
        (b"a ) b", b"a ) b"),
        (b"(open", b" "),
    ],
)
def test_without_comments(body: bytes, kept: bytes) -> None:
    assert without_comments(body).split() == kept.split()


@pytest.mark.parametrize("piece", [b";", b"(", b";a=", b';a="', b"; ", b";a=b", b"\\", b'"', b"(()", b"; a*0*=x"])
def test_hostile_parameters_are_bounded(piece: bytes) -> None:
    found = parse(b"a/b" + piece * 20_000)
    assert found is None or len(found.parameters) <= PARAMETER_LIMIT


def test_a_name_in_many_sections_is_whole_or_absent() -> None:
    name = b"".join(b"; n*%d=abc" % number for number in range(200))
    assert parse(b"a; x=1" + name).parameters == (("x", b"1"), ("n", b"abc" * 200))  # type: ignore[union-attr]
    assert parse(b"a; x=1" + name + b"; y=2" * 60).parameters[:2] == (("x", b"1"), ("y", b"2"))  # type: ignore[union-attr]


_NAMES = st.text(st.sampled_from("abcxyz-"), min_size=1, max_size=5)
_VALUES = st.text(st.sampled_from('ab ;="\\()é,'), max_size=8)


@given(st.dictionaries(_NAMES, _VALUES, max_size=4))
@settings(deadline=None, max_examples=100)
def test_quoted_parameters_are_read_back(parameters: dict[str, str]) -> None:
    written = "".join(
        f'; {name}="' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for name, value in parameters.items()
    )
    found = parse(b"a/b" + written.encode())
    assert found is not None
    assert {name: value.decode() for name, value in found.parameters} == parameters


@given(st.dictionaries(_NAMES, st.text(st.sampled_from("ab.;1 "), min_size=1, max_size=8).map(str.strip), max_size=4))
@settings(deadline=None, max_examples=100)
def test_the_standard_library_reads_the_same(parameters: dict[str, str]) -> None:
    written = "a/b" + "".join(f'; {name}="{value}"' for name, value in parameters.items())
    theirs = Message()
    theirs["Content-Type"] = written
    found = parse(written.encode())
    assert found is not None
    assert [(name, value.decode()) for name, value in found.parameters] == (theirs.get_params() or [])[1:]


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=200)
def test_anything_is_read(body: bytes) -> None:
    found = parse(body)
    if found is not None:
        for name, _ in found.parameters:
            found.text(name)
        assert found == parse(body + b" " * 100)  # the cached way and the other one


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            b"filename*0*=UTF-8''%C3%BCbersicht; filename*1*=%20des%20Jahres; filename*2=\".pdf\"",
            [("filename*", b"UTF-8''%C3%BCbersicht%20des%20Jahres.pdf")],
        ),
        (b'x=1; filename*1=b.txt; y=2; filename*0="a "', [("x", b"1"), ("filename", b"a b.txt"), ("y", b"2")]),
        (b"filename*0*=us-ascii'en'a%20; filename*1=b", [("filename", b"a b")]),
        (b"filename*0*=iso-8859-1'de'%FC; filename*1=\"% x\"", [("filename*", b"iso-8859-1'de'%FC%25%20x")]),
        (b"filename*0=a; filename*1*=%C3%BC", [("filename*", b"utf-8''a%C3%BC")]),
        (b"filename=a; filename*0*=utf-8''%C3%BC", [("filename", b"a"), ("filename*", b"utf-8''%C3%BC")]),
        (b"filename=old; filename*0=new", [("filename", b"new")]),
        (b"filename*0=a; filename*0=b; filename*2=c", [("filename", b"ac")]),
        (b"filename*=utf-8''%C3%BC", [("filename*", b"utf-8''%C3%BC")]),
        (b"filename*0*=utf-8''%0D%0A", [("filename*", b"utf-8''%0D%0A")]),
        (b"filename*x=1; *0=2", [("filename*x", b"1"), ("*0", b"2")]),
    ],
)
def test_sections_are_joined(written: bytes, read: list[tuple[str, bytes]]) -> None:
    found = parse(b"attachment; " + written)
    assert found is not None
    assert list(found.parameters) == read


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"http://x.example/a(b).html", [b"http://x.example/a(b).html"]),
        (b"(c (d)) http://x.example/ a.html (e \\) f)", [b"http://x.example/", b"a.html"]),
        (b"(open <a@b>", []),
        (b"", []),
        (b"(" * 50_000, []),
    ],
)
def test_words(body: bytes, expected: list[bytes]) -> None:
    assert words(body) == expected
