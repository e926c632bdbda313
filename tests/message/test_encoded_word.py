"""Encoded words and charsets, to text."""

from __future__ import annotations

import codecs
from email.header import Header, decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.charset import codec_name, decode, incremental_decoder
from mailhub.message.encoded_word import decode_base64, decode_words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"", ""),
        (b"=?utf-8?q?a_b=C3=BC?=", "a bü"),
        (b"=?UTF-8?B?w7w=?= x", "ü x"),
        (b"x =?utf-8?q?a?= =?utf-8?q?b?= y", "x ab y"),
        (b"=?utf-8?q?a?=\t =?iso-8859-1?q?=FC?=", "aü"),
        (b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        (b"=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "€"),  # one character cut in two
        (b"=?iso-8859-1*en?q?=A3?=", "£"),
        (b"=?iso-2022-jp?B?GyRCNEE7ehsoQg==?=", "漢字"),
        (b"=?utf-8?q?with a space?=", "with a space"),
        (b"=?utf-8?b?Y!W J=?=", "ab"),
        (b"=?utf-8?q?Why?_Because!?= =?utf-8?q?_So??=", "Why? Because! So?"),
        (b"=?utf-8?q?cut =?utf-8?q?b?=", "=?utf-8?q?cut b"),
        (b"=?utf-8?q?a=3D?==?utf-8?b?YQ==?=", "a=a"),
        (b"\x1b$B%F%9%H\x1b(B", "テスト"),
        (b"=?iso-2022-jp-ms?b?GyRCLSEbKEI=?=", "①"),
        (b"=?utf-8?b?R3LDvA==w59l?=", "Grüße"),
        (b"=?Shift_JIS?B?h0Du4Iu0l2w=?=", "①髙橋様"),
        (b"=?iso-2022-jp?B?GyRCMnE=?= =?iso-2022-jp?B?NUQbKEI=?=", "会議"),
        (b"=?unknown?q?=C3=BC?=", "ü"),
        (b"=?zlib?q?=78=9C?=", "xœ"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?q?a", "=?utf-8?q?a"),
        (b"\xc3\xbc", "ü"),
        (b"\xfc", "ü"),
        (b"=?utf-8?q?=FF?=", "\ufffd"),
    ],
)
def test_decode_words(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@given(
    st.text(st.sampled_from("abc üß€漢"), max_size=60).map(str.strip),
    st.sampled_from(["utf-8", "utf-16-be", "gb18030"]),
)
@settings(deadline=None, max_examples=80)
def test_what_the_standard_library_writes_is_read(text: str, charset: str) -> None:
    written = Header(text, charset, maxlinelen=76).encode(linesep="").replace("\n", "")
    assert decode_words(written.encode()) == str(make_header(decode_header(written)))


@given(st.binary(max_size=60).map(lambda octets: b"=?utf-8?b?" + octets + b"?=") | st.binary(max_size=60))
@settings(deadline=None, max_examples=150)
def test_anything_is_decoded(value: bytes) -> None:
    assert isinstance(decode_words(value), str)


@given(st.binary(max_size=40))
@settings(deadline=None, max_examples=100)
def test_base64_is_tolerant(octets: bytes) -> None:
    written = codecs.encode(octets, "base64")
    assert decode_base64(written) == octets
    assert decode_base64(written.rstrip(b"=\n")) == octets
    decode_base64(octets)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("UTF-8", "utf_8"),
        ("us-ascii", "ascii"),
        ("ISO-8859-1", "cp1252"),
        ("iso8859-15", "iso8859_15"),
        ("Windows-1252", "cp1252"),
        ("GB2312", "gb18030"),
        ("ks_c_5601-1987", "cp949"),
        (" koi8-r ", "koi8_r"),
        ("ISO-2022-JP", "iso2022_jp_ext"),
        ("zlib", None),
        ("punycode", None),
        ("idna", None),
        ("unicode_escape", None),
        ("../../etc", None),
        ("", None),
    ],
)
def test_only_charsets_are_codecs(charset: str, codec: str | None) -> None:
    assert codec_name(charset) == codec
    if codec is not None:
        codecs.lookup(codec)


_CHARSETS = [
    "",
    "utf-8",
    "us-ascii",
    "gb18030",
    "none",
    "utf-16",
    "utf-32",
    "iso-2022-jp",
    "hz",
    "iso-2022-kr",
    "koi8-r",
]


@given(st.binary(max_size=40), st.integers(0, 40), st.sampled_from(_CHARSETS))
@settings(deadline=None, max_examples=200)
def test_text_in_pieces_is_the_text(octets: bytes, cut: int, charset: str) -> None:
    decoder = incremental_decoder(charset)
    text = decoder.decode(octets[:cut]) + decoder.decode(octets[cut:], True)
    try:
        octets.decode()
    except UnicodeDecodeError:
        if codec_name(charset) in (None, "ascii"):
            return  # from which piece on the guess changes is another matter, tested below
    assert text == decode(octets, charset)


def test_the_guess_changes_at_the_first_mistake() -> None:
    decoder = incremental_decoder("")
    assert decoder.decode("ü€".encode()[:-1]) == "ü"
    assert decoder.decode(b"\xfc") == "â‚ü"
    assert decoder.decode(b"\xe4", True) == "ä"
