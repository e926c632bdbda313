"""Conversion for hops that take less: what is in a message stays in it, and nothing but what the hop takes is left."""

from __future__ import annotations

import mmap
import re
from email import message_from_bytes
from email.message import Message
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.convert import CannotConvert, convert
from mailhub.message.encoded_word import decode_words
from mailhub.message.header import Header
from mailhub.message.mime import scan
from mailhub.message.needs import Offer, needs_of
from mailhub.message.parameters import parse
from mailhub.testing.corpus import corpus

SEVEN = Offer()
EIGHT = Offer(eight_bit=True)
ALL = Offer(eight_bit=True, smtputf8=True)
UTF8 = "Grüße, 世界".encode()
TEXT_LINE = UTF8 + b"\r\n"
LATIN = "Grüße".encode("latin-1")


def converted(octets: bytes, offer: Offer = SEVEN) -> bytes:
    return b"".join(convert(octets, offer))


def contents(octets: bytes) -> list[tuple[str, bytes | None]]:
    """Type and decoded content of every part, as Python's own library reads them."""
    found = []
    for part in message_from_bytes(octets).walk():
        payload = None if part.is_multipart() else part.get_payload(decode=True)
        assert payload is None or isinstance(payload, bytes)
        if payload is not None and part.get_content_maintype() == "text":
            payload = payload.replace(b"\r\n", b"\n")
        found.append((part.get_content_type(), payload))
    return found


def shape(octets: bytes) -> list[tuple[str, int]]:
    return [(part.type, part.below) for part in scan(octets).tree]


def only(octets: bytes, *path: int) -> Message:
    part = message_from_bytes(octets)
    for number in path:
        payload = part.get_payload()
        assert isinstance(payload, list)
        inner = payload[number]
        assert isinstance(inner, Message)
        part = inner
    return part


# --- Each rule ------------------------------------------------------------------------------------------------------


def test_text_becomes_quoted_printable_and_other_content_base64() -> None:
    octets = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + UTF8 + b" \r\n"
        b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\x89PNG\r\n\x1a\n\0\xff\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nplain = as it is \r\n--b--\r\n"
    )
    made = converted(octets)
    assert made == (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"Gr=C3=BC=C3=9Fe, =E4=B8=96=E7=95=8C=20\r\n"
        b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgoA/w==\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nplain = as it is \r\n--b--\r\n"
    )
    assert contents(made) == contents(octets)


@pytest.mark.parametrize(
    ("body", "charset"), [(UTF8, b"utf-8"), (LATIN, b"unknown-8bit"), (UTF8[:-1], b"unknown-8bit")]
)
def test_text_without_mime_becomes_mime(body: bytes, charset: bytes) -> None:
    octets = b"Subject: x\r\n\r\n" + body + b"\r\n"
    header, _, text = converted(octets).partition(b"\r\n\r\n")
    assert header == (
        b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain; charset="
        + charset
        + b""
        b"\r\nMIME-Version: 1.0"
    )
    assert text.isascii()
    assert only(converted(octets)).get_payload(decode=True) == body + b"\r\n"


def test_a_body_that_follows_its_header_without_an_empty_line_gets_one() -> None:
    octets = b"Subject: x\r\nGr\xc3\xbc\xc3\x9fe: all\r\n"
    made = converted(octets)
    assert made.endswith(b"\r\nMIME-Version: 1.0\r\n\r\nGr=C3=BC=C3=9Fe: all\r\n")


def test_a_message_without_any_header() -> None:
    made = converted(UTF8)
    assert made.startswith(b"Content-Transfer-Encoding: quoted-printable\r\n")
    assert only(made).get_payload(decode=True) == UTF8


def test_a_message_inside_is_converted_inside() -> None:
    inner = b"Subject: " + UTF8 + b"\r\nFrom: \xc3\xbc@xx.example\r\n\r\n" + UTF8 + b"\r\n"
    octets = (
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" + inner + b"--b\r\n"
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner + b"--b--\r\n"
    )
    made = converted(octets)
    assert made.isascii()
    assert shape(made) == shape(octets)
    assert [payload for _, payload in contents(made) if payload] == [UTF8, UTF8]
    assert b"message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n" in made
    assert decode_words(only(made, 0, 0)["Subject"].encode()) == UTF8.decode()
    assert decode_words(only(made, 0, 0)["From"].encode()) == "ü@xx.example"


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"From Zo\xc3\xab\r\n", b"\xef\xbb\xbfFrom a@xx.example\r\n"])
def test_what_stands_before_the_fields_of_a_message_inside(mark: bytes) -> None:
    octets = b"Content-Type: message/rfc822\r\n\r\n" + mark + b"Subject: x\r\n\r\nhello\r\n"
    made = converted(octets)
    assert made.isascii()
    assert shape(made) == shape(octets)
    assert made.endswith(b"Subject: x\r\n\r\nhello\r\n")


@pytest.mark.parametrize("header", [b"", b"Content-Type: message/rfc822\r\n", b"\r\n"])
def test_a_message_inside_that_has_no_header_gets_one_of_its_own(header: bytes) -> None:
    octets = b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n" + header + TEXT_LINE + b"--b--\r\n"
    made = converted(octets)
    assert shape(made) == shape(octets)
    assert _decoded(made) == _decoded(octets)


@pytest.mark.parametrize("kind", [b"signed", b"encrypted"])
def test_what_is_signed_stays_or_there_is_no_way(kind: bytes) -> None:
    head = b"Subject: x\r\nContent-Transfer-Encoding: 8bit\r\nContent-Type: multipart/" + kind + b"; boundary=b\r\n\r\n"
    plain = head + b"--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nsigned\r\n--b\r\n\r\nsignature\r\n--b--\r\n"
    assert converted(plain).partition(b"--b")[2] == plain.partition(b"--b")[2]
    outside = (
        b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n" + UTF8 + b"\r\n--c\r\n" + plain + b"--c--\r\n"
    )
    assert plain.partition(b"--b")[2] in converted(outside)
    with pytest.raises(CannotConvert) as caught:
        converted(plain.replace(b"signed\r\n", UTF8))
    assert caught.value.status == "5.6.3"
    # What no server takes is left to whoever sends it.
    long = plain.replace(b"signed\r\n", b"x" * 2000 + b"\r\n")
    assert converted(long).partition(b"--b")[2] == long.partition(b"--b")[2]
    assert converted(plain.replace(b"signed\r\n", UTF8), EIGHT) == plain.replace(b"signed\r\n", UTF8)


def test_fields_of_a_report_are_encoded_as_fields() -> None:
    octets = (
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; xx.example\r\n\r\n"
        b"Final-Recipient: rfc822; a@xx.example\r\nAction: failed\r\nStatus: 5.0.0\r\n"
        b"Diagnostic-Code: smtp; 550 " + UTF8 + b"\r\n\r\n--b--\r\n"
    )
    made = converted(octets)
    assert made.isascii()
    assert b"Content-Transfer-Encoding" not in made
    said = re.search(rb"Diagnostic-Code:(.*?)\r\n\r\n", made, re.DOTALL)
    assert said
    assert decode_words(Header(said[0]).first(b"diagnostic-code") or b"") == "smtp; 550 " + UTF8.decode()


def test_a_message_of_utf8_inside_is_encoded_whole() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/global\r\n\r\n"
        b"From: \xc3\xbc@xx.example\r\n\r\n" + UTF8 + b"\r\n--b--\r\n"
    )
    made = converted(octets)
    assert b"Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n" in made
    assert b"From: =C3=BC@xx.example\r\n\r\nGr=C3=BC" in made
    assert made.isascii()


@pytest.mark.parametrize(
    "octets",
    [
        b"Content-Type: multipart/mixed\r\n\r\n" + UTF8,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\nnone of it " + UTF8,
        b"Content-Type: multipart/mixed; boundary=\xc3\xbc\r\n\r\n--\xc3\xbc\r\n\r\nx\r\n--\xc3\xbc--\r\n",
        b"Content-Type: message/partial\r\n\r\n" + UTF8,
        b"Content-Type: message/http\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + UTF8,
        b"Content-Type: message/imdn+xml\r\n\r\n<imdn>" + UTF8,
        b"Content-Type: application/x\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n" + UTF8,
        b"Content-Type: message/rfc822\r\n\r\n" * 120 + b"\r\n" + UTF8,
        b"X: y\r\n" * 60_000 + b"\r\n" + UTF8,
        b"X: " + b"y\r\n " * 300_000 + b"z\r\n\r\n" + UTF8,
        b"Content-Type: message/disposition-notification\r\n\r\n" + b"X: y\r\n" * 200_000 + b"X: " + UTF8,
    ],
)
def test_where_nothing_could_say_how_it_is_encoded_there_is_no_way(octets: bytes) -> None:
    with pytest.raises(CannotConvert):
        converted(octets)
    assert converted(octets, ALL).endswith(octets[-5:])


@pytest.mark.parametrize("kind", [b"multipart/mixed", b"message/partial"])
def test_long_lines_that_could_be_encoded_in_no_part_stay(kind: bytes) -> None:
    octets = b"Content-Type: " + kind + b"\r\n\r\n" + b"x" * 2000 + b"\r\n"
    assert converted(octets) == octets


def test_a_multipart_that_is_never_closed() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + UTF8 + b"\r\n--b\r\nX: y\r\n\r\n" + LATIN
    made = converted(octets)
    assert made.isascii()
    assert shape(made) == shape(octets)
    assert [payload for _, payload in contents(made)] == [None, UTF8, LATIN]


def test_what_stands_outside_of_all_parts() -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + UTF8 + b"\r\n--b\r\n\r\nx\r\n--b--\r\n" + UTF8 + b"\r\n"
    )
    made = converted(octets)
    assert made.isascii()
    assert contents(made) == contents(octets)


def test_content_that_is_encoded_already_and_wrongly() -> None:
    quoted = b"a =C3=BC " + UTF8 + b" " + b"word=20" * 300 + b"=\r\n end\r\n"
    octets = b"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain\r\n\r\n" + quoted
    made = converted(octets)
    assert made.isascii()
    assert max(map(len, made.split(b"\r\n"))) <= 77
    assert only(made).get_payload(decode=True) == only(octets).get_payload(decode=True)
    octets = b"Content-Transfer-Encoding: quoted-printable\r\nContent-Type: text/plain\r\n\r\n=\xc3\xbc=3D=\r\n"
    assert only(converted(octets)).get_payload(decode=True) == b"=\xc3\xbc="
    encoded = b"R3LDvMOfZQ==\xff\r\n"
    octets = b"Content-Transfer-Encoding: base64\r\nContent-Type: image/png\r\n\r\n" + encoded
    assert only(converted(octets)).get_payload(decode=True) == "Grüße".encode()
    octets = b"Content-Transfer-Encoding: base64\r\nContent-Type: image/png\r\n\r\n" + b"AAAA" * 5000
    made = converted(octets)
    assert max(map(len, made.split(b"\r\n"))) == 76
    assert only(made).get_payload(decode=True) == bytes(15000)


def test_long_lines_and_nul_are_encoded_even_where_8_bit_is_taken() -> None:
    octets = b"Content-Type: text/plain; charset=utf-8\r\nMIME-Version: 1.0\r\n\r\n" + UTF8 + b"\r\n" + b"x" * 5000
    made = converted(octets, EIGHT)
    assert not needs_of(made).bits
    assert only(made).get_payload(decode=True) == only(octets).get_payload(decode=True)
    octets = b"Content-Type: text/plain\r\nMIME-Version: 1.0\r\n\r\na\0b"
    made = converted(octets, EIGHT)
    assert made.endswith(b"Content-Transfer-Encoding: base64\r\n\r\nYQBi")
    octets = b"Content-Type: text/plain\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + UTF8
    assert converted(octets, EIGHT) == octets


def test_a_name_that_fills_a_line_does_not_end_the_header() -> None:
    octets = b"X" * 1500 + b": y\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
    made = converted(octets, EIGHT)
    assert made == b"X" * 900 + octets[1500:]
    assert shape(made) == shape(octets)


def test_no_soft_line_break_makes_a_delimiter() -> None:
    for size in range(60, 80):
        line = b"x" * size + b"--b\r\n"
        octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + UTF8 + b"\r\n" + line + b"--b--\r\n"
        made = converted(octets)
        assert shape(made) == shape(octets)
        assert contents(made) == contents(octets)


# --- Headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Subject: Grüße an alle", "Subject: =?utf-8?b?R3LDvMOfZQ==?= an alle"),
        ("Subject: x =?utf-8?q?y?= München z", "Subject: x =?utf-8?q?y?= =?utf-8?q?_M=C3=BCnchen?= z"),
        ("Subject: München =?utf-8?q?y?=", "Subject: =?utf-8?q?M=C3=BCnchen_?= =?utf-8?q?y?="),
        ("X-Own: a  b\tMünchen", "X-Own: a  b\t=?utf-8?q?M=C3=BCnchen?="),
        ("From: Zoë Example <zoe@xx.example>", "From: =?utf-8?q?Zo=C3=AB_Example?= <zoe@xx.example>"),
        ('From: "Zoë \\"E\\", x"<z@xx.example>', "From: =?utf-8?q?Zo=C3=AB_=22E=22=2C_x?= <z@xx.example>"),
        ("To: a@xx.example (Zoë), b@yy.example", "To: a@xx.example (=?utf-8?q?Zo=C3=AB?=), b@yy.example"),
        ("Cc: Freunde Zoës: a@xx.example;", "Cc: =?utf-8?q?Freunde_Zo=C3=ABs?=: a@xx.example;"),
        ("To: a@bücher.example, <b@bücher.example>", "To: a@xn--bcher-kva.example, <b@xn--bcher-kva.example>"),
        ("Delivered-To: zoë@xx.example", "Delivered-To: =?utf-8?q?zo=C3=AB=40xx=2Eexample?="),
        ("Message-ID: <zoë@xx.example>", "Downgraded-Message-ID: =?utf-8?q?=3Czo=C3=AB=40xx=2Eexample=3E?="),
        (
            "Content-Disposition: attachment; filename=Zoës.txt; size=1",
            "Content-Disposition: attachment; filename*=utf-8''Zo%C3%ABs.txt; size=1",
        ),
        (
            'Content-Type: text/plain; charset="x y"; name=Zoë',
            "Content-Type: text/plain; charset=\"x y\"; name*=utf-8''Zo%C3%AB",
        ),
        (
            "Received: from a (Zoë [192.0.2.1]) by b for <zoë@xx.example>; Mon, 1 Jan 2024 00:00:00 +0000",
            "Received: from a (=?utf-8?q?Zo=C3=AB?= [192.0.2.1]) by b; Mon, 1 Jan 2024\r\n 00:00:00 +0000",
        ),
        ("List-Post: <mailto:zoë@xx.example> (Zoë)", "List-Post: <mailto:zo%C3%AB@xx.example> (=?utf-8?q?Zo=C3=AB?=)"),
        ("Keywords:\r\n Zoë,\r\n a", "Keywords: =?utf-8?q?Zo=C3=AB?=, a"),
        ("Keywords: Zoë@work, a", "Keywords: =?utf-8?q?Zo=C3=AB=40work?=, a"),
        ("Subject: =?utf-8?q?ë?=", "Subject: =?utf-8?b?PT91dGYtOD9xP8OrPz0=?="),
        ("Content-Type: ;Zoë", "Content-Type: =?utf-8?b?O1pvw6s=?="),
        (
            "Content-Disposition: attachment; filename=Zoë; filename*=utf-8''Zo%C3%AB; x",
            "Content-Disposition: attachment; filename*=utf-8''Zo%C3%AB",
        ),
        ("Subject: plain", "Subject: plain"),
    ],
)
def test_fields(field: str, expected: str) -> None:
    octets = field.encode() + b"\r\n\r\nx\r\n"
    made = converted(octets, EIGHT)
    assert made == expected.encode() + b"\r\n\r\nx\r\n"
    assert converted(octets, ALL) == octets
    # SMTPUTF8 without 8BITMIME is none (RFC 6531 3.1).
    assert converted(octets, SEVEN) == converted(octets, Offer(smtputf8=True)) == made


def test_a_header_in_another_charset_is_left_to_who_takes_8_bit() -> None:
    octets = b"Subject: " + LATIN + b"\r\nFrom: " + LATIN + b" <a@xx.example>\r\n\r\nx\r\n"
    assert converted(octets, EIGHT) == octets
    assert converted(octets, SEVEN) == (
        b"Subject: =?unknown-8bit?q?Gr=FC=DFe?=\r\nFrom: =?unknown-8bit?q?Gr=FC=DFe?= <a@xx.example>\r\n\r\nx\r\n"
    )


@pytest.mark.parametrize("name", [b"From", b"To", b"cc", b"Resent-Sender"])
def test_an_address_that_is_not_ascii_has_no_other_form(name: bytes) -> None:
    octets = name + b": Zo\xc3\xab <zo\xc3\xab@xx.example>\r\n\r\nx\r\n"
    for offer in (SEVEN, EIGHT):
        with pytest.raises(CannotConvert) as caught:
            converted(octets, offer)
        assert caught.value.status == "5.6.9"
    assert converted(octets, ALL) == octets


def test_white_space_costs_what_it_has_octets() -> None:
    octets = b"Received: a" + b" " * 300_000 + b"for" + b" " * 300_000 + b"zo\xc3\xab\r\n\r\n"
    assert converted(octets, EIGHT) == b"Received: a\r\n\r\n"


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Zs"]) | st.just(" "), max_size=200)


@settings(deadline=None)
@given(_TEXTS)
def test_text_is_read_as_it_was_written(text: str) -> None:
    text = " ".join(text.replace("=?", "").split())
    octets = b"Subject: " + text.encode() + b"\r\n\r\n"
    made = converted(octets, EIGHT)
    assert made.isascii()
    assert max(map(len, made.split(b"\r\n"))) <= 998
    assert decode_words(Header(made).first(b"subject") or b"") == text
    assert converted(made, EIGHT) == made


@settings(deadline=None)
@given(_TEXTS)
def test_parameters_are_read_as_they_were_written(text: str) -> None:
    text = " ".join(text.replace("=?", "").split())
    value = text.replace("\\", "\\\\").replace('"', '\\"')
    octets = f'Content-Disposition: attachment; filename="{value}"\r\n\r\n'.encode()
    made = converted(octets, EIGHT)
    found = parse(Header(made).first(b"content-disposition") or b"")
    assert made.isascii()
    assert found is not None
    assert found.text("filename") == text
    assert converted(made, EIGHT) == made


_ADDRESS_WORDS = [
    "Zoë",
    "a@xx.example",
    "<b@bücher.example>",
    '"ü, \\" x"',
    "(ü (n) \\) )",
    ",",
    ";",
    "G:",
    " ",
    "\r\n ",
]
_ADDRESS_WORDS += ["zoë@xx.example", "<ü", ">", '"', "(", "@", "\\", "[", "=?utf-8?q?=C3=BC?=", "\xff"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(_ADDRESS_WORDS), max_size=12))
def test_no_address_field_is_too_odd(words: list[str]) -> None:
    octets = b"To: " + "".join(words).encode() + b"x\r\n\r\n"
    try:
        made = converted(octets)
    except CannotConvert:
        made = b""
    assert made.isascii()
    assert converted(made) == made


# --- Whole messages -------------------------------------------------------------------------------------------------

_LINES = [
    b"plain",
    UTF8,
    LATIN,
    b"",
    b" ",
    b"trailing \t",
    b".",
    b"--",
    b"--b",
    b"--b0x",
    b"From x",
    b"=",
    b"=C3=BC",
    b"a\rb",
]
_LINES += [b"x" * 80, b"w " * 700, "ü".encode() * 700, b"a\0b", b"\xff" * 75, b"X: y"]


def _leaf(random: Random) -> bytes:
    lines = [random.choice(_LINES) for _ in range(random.randrange(6))]
    body = b"".join([line + random.choice([b"\r\n", b"\r\n", b"\r\n", b"\n"]) for line in lines])
    fields = [
        random.choice([b"", b"", b"Content-Type: text/plain; charset=utf-8\r\n", b"Content-Type: image/png\r\n"]),
        random.choice([b"", b"", b"Content-Transfer-Encoding: 8bit\r\n", b"Content-Transfer-Encoding: Binary\r\n"]),
        random.choice([b"", b"", b"Content-Disposition: attachment;\r\n filename=Zo\xc3\xabs\r\n"]),
    ]
    return b"".join([*fields, b"\r\n", body])


def _entity(random: Random, depth: int) -> bytes:
    choice = random.randrange(4) if depth < 4 else 0
    encoding = random.choice([b"", b"Content-Transfer-Encoding: 8bit\r\n"])
    if choice < 2:
        return _leaf(random)
    if choice == 2:
        return (
            b"Content-Type: message/rfc822\r\n" + encoding + b"\r\nSubject: \xc3\xbc\r\n" + _entity(random, depth + 1)
        )
    mark = b"b%d" % depth
    kind = random.choice([b"mixed", b"alternative", b"digest"])
    top = b"Content-Type: multipart/" + kind + b"; boundary=" + mark + b"\r\n" + encoding + b"\r\n"
    parts = [b"--" + mark + b"\r\n" + _entity(random, depth + 1) + b"\r\n" for _ in range(random.randrange(1, 4))]
    return top + random.choice([b"", UTF8 + b"\r\n"]) + b"".join(parts) + random.choice([b"", b"--" + mark + b"--\r\n"])


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_content_and_no_structure_is_lost(random: Random) -> None:
    octets = b"MIME-Version: 1.0\r\nSubject: \xc3\xbc\r\n" + _entity(random, 0)
    made = converted(octets)
    assert made.isascii()
    assert not needs_of(made).bits
    assert shape(made) == shape(octets)
    assert _decoded(made) == _decoded(octets)
    assert converted(made) == made
    for offer in (EIGHT, ALL):
        other = converted(octets, offer)
        assert shape(other) == shape(octets)
        assert _decoded(other) == _decoded(octets)
        assert needs_of(other).met_by(offer)
        assert not needs_of(other).binary
        assert converted(other, offer) == other


def _decoded(octets: bytes) -> list[bytes]:
    """The content of each leaf, found by offsets and decoded by Python's library."""
    found = []
    for part in scan(octets).tree:
        if part.below:
            continue
        leaf = Message()
        leaf["Content-Transfer-Encoding"] = part.encoding
        leaf.set_payload(octets[part.body : part.end].decode("ascii", "surrogateescape"))
        payload = leaf.get_payload(decode=True)
        assert isinstance(payload, bytes)
        if part.type.startswith("text/"):
            payload = payload.replace(b"\r\n", b"\n")
        found.append(payload)
    found[-1] = found[-1].removesuffix(b"\n")
    return found


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([*_LINES, b"Content-Type: multipart/mixed; boundary=b", b"--b--", b"\xfc: x", b"\xef\xbb\xbf"])
    )
)
def test_nothing_that_is_sent_as_a_message_breaks_it(lines: list[bytes]) -> None:
    octets = b"\r\n".join(lines)
    try:
        made = converted(octets)
    except CannotConvert:
        return
    assert made.isascii()
    assert shape(made) == shape(octets)


def test_a_large_message_in_a_file_is_converted_in_small_pieces(tmp_path: object) -> None:
    octets = b"Subject: x\r\n\r\n" + (UTF8 + b"\r\n") * 20_000
    with mmap.mmap(-1, len(octets)) as file:
        file.write(octets)
        pieces = list(convert(file, SEVEN))
    assert max(map(len, pieces)) < 300_000
    assert only(b"".join(pieces)).get_payload(decode=True) == octets[14:]
    line = b"Subject: x\r\n\r\n" + UTF8 * 50_000
    assert only(converted(line)).get_payload(decode=True) == line[14:]


def test_real_forms_of_mail_and_real_mistakes_keep_what_they_have() -> None:
    for octets in corpus(3, 20):
        for offer in (SEVEN, EIGHT):
            made = converted(octets, offer)
            assert needs_of(made).met_by(offer)
            assert shape(made) == shape(octets)
            assert _decoded(made) == _decoded(octets)
            assert converted(made, offer) == made
