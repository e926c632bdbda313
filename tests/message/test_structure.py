"""ENVELOPE, BODYSTRUCTURE and BODY: what they say, and that a client can read them whatever the message is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message import structure
from mailhub.message.charset import codec_name
from mailhub.message.digest import digest
from mailhub.message.header import Header
from mailhub.message.mime import scan
from mailhub.message.nstring import nstring, string
from mailhub.message.structure import bodystructure, envelope, without_extensions
from mailhub.testing.corpus import corpus
from tests.message.imap_grammar import check_body, check_envelope, read
from tests.message.test_mime import MESSAGES


@pytest.mark.parametrize("fold", [b"\r\n ", b"\r\n\t", b" \t\r\n \t ", b"\n  "])
def test_folding_white_space_is_one_space_in_the_envelope(fold: bytes) -> None:
    found = digest(b"Subject: one" + fold + b"two\r\nFrom: Real" + fold + b"Name <a@xx.example>\r\n\r\n").envelope
    assert b'"one two"' in found
    assert b'(("Real Name" NIL "a" "xx.example"))' in found


@pytest.mark.parametrize(
    ("octets", "written"),
    [
        (b"", b'""'),
        (b"a b", b'"a b"'),
        (b'a"b\\c', b'"a\\"b\\\\c"'),
        (b"a\tb\x7f", b'"a\tb\x7f"'),
        (b"\xff", b"{1}\r\n\xff"),
        (b"a\r\nb", b"{4}\r\na\r\nb"),
        (b"a\rb", b"{3}\r\na\rb"),
        (b"a\0b", b"{3}\r\na?b"),
        (b"x" * 1000, b'"' + b"x" * 1000 + b'"'),
        (b"x" * 1001, b"{1001}\r\n" + b"x" * 1001),
    ],
)
def test_string(octets: bytes, written: bytes) -> None:
    assert string(octets) == nstring(octets) == written


def test_nstring() -> None:
    assert nstring(None) == b"NIL"


def test_envelope() -> None:
    header = Header(
        b'Date: Mon, 23 Nov 2026 06:30:00 +0000\r\nSubject: one\r\n two\r\nFrom: "A, B" <a@x>\r\nTo: c@d, E <e@f>\r\n'
        b"Cc: G: g@h;\r\nBcc: \xfc <i@j>\r\nIn-Reply-To: <1@x>\r\nMessage-ID: <2@x>\r\n\r\n"
    )
    assert envelope(header) == (
        b'("Mon, 23 Nov 2026 06:30:00 +0000" "one two" (("A, B" NIL "a" "x")) (("A, B" NIL "a" "x")) '
        b'(("A, B" NIL "a" "x")) ((NIL NIL "c" "d")("E" NIL "e" "f")) '
        b'((NIL NIL "G" NIL)(NIL NIL "g" "h")(NIL NIL NIL NIL)) (({1}\r\n\xfc NIL "i" "j")) "<1@x>" "<2@x>")'
    )


def test_absent_and_empty_fields() -> None:
    """RFC 3501 7.4.2: absent is NIL, empty is ""; empty address fields are NIL; Sender and Reply-To default to From."""
    assert envelope(Header(b"")) == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    empty = b"".join(
        name + b":\r\n" for name in (b"Date", b"Subject", b"From", b"Sender", b"To", b"Message-ID", b"In-Reply-To")
    )
    assert envelope(Header(empty)) == b'("" "" NIL NIL NIL NIL NIL NIL "" "")'
    own = envelope(Header(b"From: a@x\r\nSender: s@x\r\nReply-To: ,\r\n"))
    assert own == b'(NIL NIL ((NIL NIL "a" "x")) ((NIL NIL "s" "x")) ((NIL NIL "a" "x")) NIL NIL NIL NIL NIL)'


def test_a_repeated_address_field_is_one_list() -> None:
    assert read(envelope(Header(b"To: a@x\r\nTo: b@y\r\n")))[5] == [[None, None, b"a", b"x"], [None, None, b"b", b"y"]]


def test_address_lists_are_bounded_together() -> None:
    parts = b"--b\r\n\r\nFrom: " + b"(x),a@b," * 8000 + b"\r\n\r\n\r\n"
    message = b"Content-Type: multipart/digest; boundary=b\r\n\r\n" + parts * 40
    value = read(bodystructure(scan(message)))
    senders = [child[7][2] for child in value if isinstance(child, list) and child[0] == b"message"]
    whole = structure.ADDRESS_OCTET_LIMIT // (8 * 8000)
    assert [len(sender or ()) for sender in senders[: whole + 2]] == [8000] * whole + [767, 0]
    assert {tuple(each) for sender in senders for each in sender or ()} == {(None, None, b"a", b"b")}


def test_bodystructure_of_one_part() -> None:
    message = (
        b'Content-Type: Text/Plain; Charset=UTF-8; format="a\\"b"\r\nContent-ID: <i@x>\r\n'
        b"Content-Description: d\xe9\r\nContent-Transfer-Encoding: QUOTED-PRINTABLE\r\n"
        b"Content-MD5: Q2hlY2s=\r\nContent-Language: en, de (x)\r\n"
        b"Content-Disposition: attachment; filename*=utf-8''%c3%bc\r\nContent-Location: http://x/\r\n\r\none\r\ntwo\r\n"
    )
    assert bodystructure(scan(message)) == (
        b'("text" "plain" ("charset" "UTF-8" "format" "a\\"b") "<i@x>" {2}\r\nd\xe9 "quoted-printable" 10 2 '
        b'"Q2hlY2s=" ("attachment" ("filename*" "utf-8\'\'%c3%bc")) ("en" "de") "http://x/")'
    )
    assert without_extensions(bodystructure(scan(message))) == (
        b'("text" "plain" ("charset" "UTF-8" "format" "a\\"b") "<i@x>" {2}\r\nd\xe9 "quoted-printable" 10 2)'
    )


def test_bodystructure_of_several_parts() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        b"Subject: s\r\n\r\none\r\n--b\r\nContent-Type: a/b\r\n\r\n\r\n--b--\r\n"
    )
    plain = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" '
    nothing = b"(NIL %b NIL NIL NIL NIL NIL NIL NIL NIL)" % b'"s"'
    more = b" NIL NIL NIL NIL"
    assert bodystructure(scan(message)) == (
        b"(" + plain + b"1 0" + more + b')("message" "rfc822" NIL NIL NIL "7bit" 17 ' + nothing + b" " + plain
        + b"3 0" + more + b") 2" + more + b')("a" "b" NIL NIL NIL "7bit" 0' + more
        + b') "mixed" ("boundary" "b") NIL NIL NIL)'
    )  # fmt: skip
    assert without_extensions(bodystructure(scan(message))) == (
        b"(" + plain + b'1 0)("message" "rfc822" NIL NIL NIL "7bit" 17 ' + nothing + b" " + plain
        + b'3 0) 2)("a" "b" NIL NIL NIL "7bit" 0) "mixed")'
    )  # fmt: skip


def check(message: bytes) -> None:
    found = scan(message)
    for header in found.headers:
        check_envelope(read(envelope(header)))
    whole = bodystructure(found)
    check_body(read(whole), extensions=True)
    check_body(read(without_extensions(whole)), extensions=False)


def test_a_client_can_read_the_corpus() -> None:
    for message in corpus(13, 84):
        check(message)


_FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"Subject", b"From", b"To", b"Reply-To", b"Date", b"Content-Type", b"Content-Disposition",
             b"Content-Language", b"Content-MD5", b"Content-ID", b"Content-Location",
             b"Content-Description", b"Content-Transfer-Encoding"]
        ),
        st.sampled_from([b"text/plain", b"message/rfc822", b'x; a="b', b"", b"a@b", b"<", b"(", b'"', b"\\"])
        | st.binary(max_size=12),
    ),
    max_size=6,
).map(lambda fields: b"".join(name + b": " + body.replace(b"\n", b"") + b"\r\n" for name, body in fields))  # fmt: skip


@given(st.tuples(_FIELDS, MESSAGES).map(b"".join) | MESSAGES)
@settings(deadline=None, max_examples=400)
def test_a_client_can_read_anything(message: bytes) -> None:
    check(message)


def test_depth_costs_no_stack() -> None:
    message = b"Content-Type: message/rfc822\r\n\r\n" * 99 + b"\r\nx"
    assert without_extensions(bodystructure(scan(message))).count(b'"rfc822"') == 99


@pytest.mark.parametrize("octets", [b"", b"(", b'("text" "plain"', b'(("a" "b" NIL NIL NIL "7bit" 0)', b"x"])
def test_without_extensions_refuses_what_is_no_structure(octets: bytes) -> None:
    with pytest.raises(ValueError):
        without_extensions(octets)


def test_fields_of_a_part_have_no_comments_and_no_folds() -> None:
    message = (
        b"Content-Type: image/png\r\nContent-ID: (c)\r\n <i@x> (d)\r\nContent-MD5: (c) Q2hl\r\n Y2s= (d)\r\n"
        b"Content-Description: one\r\n\ttwo (not a comment)\r\nContent-Disposition: (c) inline (d);\r\n filename=a\r\n"
        b"Content-Language: en (c),\r\n de\r\nContent-Location: (c) http://x.example/\r\n  a(1).png (d)\r\n\r\n"
    )
    value = read(bodystructure(scan(message)))
    assert value[3:5] == [b"<i@x>", b"one two (not a comment)"]
    assert value[7] == b"Q2hlY2s="
    assert value[8:] == [[b"inline", [b"filename", b"a"]], [b"en", b"de"], b"http://x.example/a(1).png"]


def test_an_encoded_message_keeps_its_name() -> None:
    message = (
        b"Content-Type: message/rfc822; name=forwarded.eml\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDog\r\n"
    )
    assert read(bodystructure(scan(message)))[:3] == [b"application", b"octet-stream", [b"name", b"forwarded.eml"]]


def test_a_boundary_in_sections_opens_the_multipart() -> None:
    message = b"Content-Type: multipart/mixed; boundary*0=a; boundary*1=b\r\n\r\n--ab\r\n\r\nx\r\n--ab--\r\n"
    assert [part.type for part in scan(message).tree] == ["multipart/mixed", "text/plain"]


@pytest.mark.parametrize("charset", [b'"utf-8;"', b"'utf-8'", b'" utf-8"', b"utf-8 ", b'"utf:-8"'])
def test_a_charset_name_with_mistakes_is_the_name(charset: bytes) -> None:
    part = scan(b"Content-Type: text/plain; charset=%b\r\n\r\nx" % charset).tree[0]
    assert codec_name(part.charset) == "utf_8"
