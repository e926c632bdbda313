"""Charset names as mail has them, and what the octets under them mean."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message import charset
from mailhub.message.charset import codec_name, decode, incremental_decoder

# https://encoding.spec.whatwg.org/#names-and-labels, the encodings that mail has a use for.
_LABELS = """
utf_8: unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8
cp866: 866 cp866 csibm866 ibm866
iso8859_2: csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2
iso8859_3: csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3
iso8859_4: csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4
iso8859_5: csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 iso_8859-5:1988
iso8859_6: arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e iso-8859-6-i
iso8859_6: iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987
iso8859_7: csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 iso_8859-7
iso8859_7: iso_8859-7:1987 sun_eu_greek
iso8859_8: csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598 iso_8859-8
iso8859_8: iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical
iso8859_10: csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6
iso8859_13: iso-8859-13 iso8859-13 iso885913
iso8859_14: iso-8859-14 iso8859-14 iso885914
iso8859_15: csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9
iso8859_16: iso-8859-16
koi8_r: cskoi8r koi koi8 koi8-r koi8_r
koi8_u: koi8-ru koi8-u
mac_roman: csmacintosh mac macintosh x-mac-roman
cp874: dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874
cp1250: cp1250 windows-1250 x-cp1250
cp1251: cp1251 windows-1251 x-cp1251
cp1252: cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 iso_8859-1:1987 l1 latin1
cp1252: windows-1252 x-cp1252
cp1253: cp1253 windows-1253 x-cp1253
cp1254: cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 latin5 windows-1254
cp1254: x-cp1254
cp1255: cp1255 windows-1255 x-cp1255
cp1256: cp1256 windows-1256 x-cp1256
cp1257: cp1257 windows-1257 x-cp1257
cp1258: cp1258 windows-1258 x-cp1258
mac_cyrillic: x-mac-cyrillic x-mac-ukrainian
gb18030: chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030
big5hkscs: big5 big5-hkscs cn-big5 csbig5 x-x-big5
euc_jp: cseucpkdfmtjapanese euc-jp x-euc-jp
iso2022_jp_ext: csiso2022jp iso-2022-jp
cp932: csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis
cp949: cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 windows-949
utf_16_be: unicodefffe utf-16be
utf_16_le: utf-16le
utf_16: csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16
ascii: ansi_x3.4-1968 ascii us-ascii
"""
_PAIRS = [(name, line.split(":", 1)[0]) for line in _LABELS.split("\n") for name in line.partition(": ")[2].split()]


@pytest.mark.parametrize(("label", "codec"), _PAIRS, ids=[label for label, _ in _PAIRS])
def test_labels_of_the_encoding_standard(label: str, codec: str) -> None:
    assert codec_name(label) == codec
    assert codec_name(label.upper()) == codec


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("cp-850", "cp850"), ("IBM00858", "cp858"), ("win-1251", "cp1251"), ("windows1251", "cp1251"),
        ("1251", "cp1251"), ("x-windows-949", "cp949"), ("ms936", "gb18030"), ("cp50221", "iso2022_jp_ext"),
        ("codepage-28592", "iso8859_2"), ("cp65001", "utf_8"), ("x-mac-ce", "mac_latin2"), ("hz-gb-2312", "hz"),
        ("unicode-1-1-utf-7", "utf_7"), (" 'utf-8'; ", "utf_8"), ("UTF_8", "utf_8"), ("utf8mb4", "utf_8"),
        ("x-shift-jis", "cp932"), ("iso_8859_15", "iso8859_15"), ("8859-2", "iso8859_2"), ("ISO 8859-1", "cp1252"),
        ("latin-1", "cp1252"),
    ],
)  # fmt: skip
def test_names_that_senders_make_up(name: str, codec: str) -> None:
    assert codec_name(name) == codec


_NONE = ("", "x-unknown", "zlib", "punycode", "unicode_escape", "rot13", "idna", "hex", "mbcs", "cp1", "cp0037000", "x")


@pytest.mark.parametrize("name", [*_NONE, "-", "1" * 100_000, "x" * 100_000])
def test_what_is_no_charset(name: str) -> None:
    assert codec_name(name) is None
    assert decode(b"gr\xfcn \xe2\x82\xac"[:5], name) == "grün "
    assert decode("grün".encode(), name) == "grün"


@pytest.mark.parametrize(
    ("octets", "name", "text"),
    [
        (b"\x87\x40 \xfb\xfc", "shift_jis", "① 髙"),
        (b"\x81\x60", "Shift_JIS", "～"),
        (b"\x1b$B-!;3K\\\x1b(Bx", "iso-2022-jp", "①山本x"),
        (b"\x1b$B!A|b\x1b(I1\x1b(B", "iso-2022-jp", "～髙ｱ"),
        (b"\xad\xa1\xa1\xc1\xfc\xe2", "euc-jp", "①～髙"),
        (b"\xb1\xb2", "iso-2022-jp", "ｱｲ"),
        (b"\xa3\xe1\x88\x62\xf9\xd6", "big5", "€Ê̄碁"),
        (b"\x80 \xb0\xa1 \xe9F", "gb2312", "€ 啊 镕"),
        (b"\x8c\x63", "euc-kr", "똠"),
        (b"\xfe\xf0 \x80", "iso-8859-9", "şğ €"),
        (b"\x80\xa1", "tis-620", "€ก"),
        (b"\x80\x93", "iso-8859-1", "€“"),
        (b"\x84\x94", "cp-850", "äö"),
        (b"\x80\xe0", "x-mac-cyrillic", "Аа"),
        (b"\xae\xbe\xa4", "koi8-u", "ўЎє"),
        (b"\xae\xbe\xa4", "koi8-ru", "ўЎє"),
        (b"\xae\xbe", "koi8-r", "╝╬"),
        (b"\xca\xe0", "windows-1255", "\u05baא"),
        (b"Gr+APwA3w-e a+-b +", "utf-7", "Grüße a+b +"),
        (b"+2D3eAA-", "unicode-1-1-utf-7", "\U0001f600"),
        (b"h\0i\0", "utf-16", "hi"),
        (b"\0h\0i", "utf-16", "hi"),
        (b"\xfe\xff\x20\xac", "utf-16", "€"),
        (b"\xff\xfe\xac\x20", "utf-16", "€"),
        (b"h\0i\0", "utf-16le", "hi"),
        (b"", "utf-16", ""),
    ],
)
def test_octets(octets: bytes, name: str, text: str) -> None:
    assert decode(octets, name) == text


_NAMES = sorted({codec for _, codec in _PAIRS} | {"utf_7", "hz", "iso2022_kr", "none"})


@given(st.sampled_from(_NAMES), st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
@settings(deadline=None, max_examples=400)
def test_any_cut_gives_the_same_text(name: str, octets: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    decoder = incremental_decoder(name)
    pieces = [decoder.decode(octets[start:end]) for start, end in pairwise(edges)]
    text = "".join(pieces) + decoder.decode(b"", True)
    if name not in ("none", "ascii"):  # a guess depends on what has been seen
        assert text == decode(octets, name)


@given(st.text(max_size=60), st.lists(st.integers(0, 300), max_size=5))
@settings(deadline=None, max_examples=200)
def test_utf_7_is_read_back(text: str, cuts: list[int]) -> None:
    octets = text.encode("utf-7", "replace")
    edges = [0, *sorted(min(cut, len(octets)) for cut in cuts), len(octets)]
    decoder = incremental_decoder("utf-7")
    assert "".join(decoder.decode(octets[a:b]) for a, b in pairwise(edges)) + decoder.decode(b"", True) == text


def test_a_shifted_run_without_end_is_not_held_back() -> None:
    decoder = incremental_decoder("utf-7")
    decoder.decode(b"+")
    assert sum(len(decoder.decode(b"AGEAYQBh" * 1000)) for _ in range(20)) >= 3 * 1000 * 20 - 3


def test_many_mistakes_are_not_repaired_one_by_one() -> None:
    few, many = b"\x80" * charset._Repaired._FEW, b"\x80" * (charset._Repaired._FEW + 1)
    assert decode(few, "gbk") == "€" * len(few)
    assert decode(many, "gbk") == "\ufffd" * len(many)


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"a\xffb", "euc-jp"),
        (b"a\xff\xffb", "big5"),
        (b"a\xffb", "gb18030"),
        (b"a\xd9b", "windows-1255"),
        (b"a\xf0b", "iso-2022-jp"),
    ],
)
def test_what_no_table_has_costs_one_mark_and_nothing_beside_it(octets: bytes, name: str) -> None:
    text = decode(octets, name)
    assert text[0] == "a"
    assert text[-1] == "b"
    assert set(text[1:-1]) == {"\ufffd"}
