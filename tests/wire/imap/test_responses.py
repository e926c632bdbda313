"""What the server writes, octet for octet, and that any string it writes is read back the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.nstring import nstring, string
from mailhub.wire.imap import responses
from mailhub.wire.imap.tokens import Tokens


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40).filter(lambda octets: b"\0" not in octets))
def test_strings_are_read_back(octets: bytes) -> None:
    for write in (string, responses.astring):
        tokens = Tokens(write(octets))
        assert tokens.astring() == octets
        assert tokens.at_end()
    assert Tokens(nstring(octets)).nstring() == octets
    assert Tokens(nstring(None)).nstring() is None


@pytest.mark.parametrize(
    ("octets", "astring"),
    [
        (b"", b'""'),
        (b"a", b"a"),
        (b"nil", b'"nil"'),
        (b'a"\\', rb'"a\"\\"'),
        (b"a\nb", b"{3}\r\na\nb"),
        (b"x " * 501, b"{1002}\r\n" + b"x " * 501),
    ],
)
def test_forms_of_astrings(octets: bytes, astring: bytes) -> None:
    assert responses.astring(octets) == astring


_LINES = [
    (responses.capability(["IMAP4rev1", "IDLE"]), b"* CAPABILITY IMAP4rev1 IDLE\r\n"),
    (responses.listing(["\\HasNoChildren", "\\Sent"], "Sent"), b'* LIST (\\HasNoChildren \\Sent) "/" "Sent"\r\n'),
    (responses.listing([], "INBOX"), b'* LIST () "/" INBOX\r\n'),
    (responses.listing([], 'é "x"'), b'* LIST () "/" "&AOk- \\"x\\""\r\n'),
    (responses.listing([], "a", child_info=True), b'* LIST () "/" "a" ("CHILDINFO" ("SUBSCRIBED"))\r\n'),
    (responses.hierarchy(""), b'* LIST (\\Noselect) "/" ""\r\n'),
    (responses.lsub([], "a/b"), b'* LSUB () "/" "a/b"\r\n'),
    (responses.status("a b", [("MESSAGES", 3), ("UNSEEN", 0)]), b'* STATUS "a b" (MESSAGES 3 UNSEEN 0)\r\n'),
    (responses.search([1, 4]), b"* SEARCH 1 4\r\n"),
    (responses.search([]), b"* SEARCH\r\n"),
    (responses.flags(frozenset({"\\Seen", "x", "\\Answered"})), b"* FLAGS (\\Answered \\Seen x)\r\n"),
    (responses.exists(3), b"* 3 EXISTS\r\n"),
    (responses.recent(0), b"* 0 RECENT\r\n"),
    (responses.namespace([""]), b'* NAMESPACE (("" "/")) NIL NIL\r\n'),
    (responses.namespace([]), b"* NAMESPACE NIL NIL NIL\r\n"),
    (responses.identity({"name": "mailhub", "version": "1"}), b'* ID ("name" "mailhub" "version" "1")\r\n'),
    (responses.identity({}), b"* ID NIL\r\n"),
    (responses.enabled(["CONDSTORE"]), b"* ENABLED CONDSTORE\r\n"),
    (responses.ok("Next", responses.uidnext_code(5)), b"* OK [UIDNEXT 5] Next\r\n"),
    (responses.status_response("A1", "NO", "Sorry"), b"A1 NO Sorry\r\n"),
]


@pytest.mark.parametrize(("written", "line"), _LINES)
def test_lines(written: bytes, line: bytes) -> None:
    assert written == line


_CODES = [
    (responses.permanentflags_code(frozenset({"\\Seen"})), b"PERMANENTFLAGS (\\Seen \\*)"),
    (responses.permanentflags_code(frozenset()), b"PERMANENTFLAGS (\\*)"),
    (responses.permanentflags_code(frozenset({"x"}), keywords=False), b"PERMANENTFLAGS (x)"),
    (responses.permanentflags_code(frozenset(), keywords=False), b"PERMANENTFLAGS ()"),
    (responses.uidvalidity_code(9), b"UIDVALIDITY 9"),
    (responses.unseen_code(2), b"UNSEEN 2"),
    (responses.appenduid_code(9, 4), b"APPENDUID 9 4"),
    (responses.copyuid_code(9, [3, 1, 2], [7, 8, 9]), b"COPYUID 9 3,1:2 7:9"),
]


@pytest.mark.parametrize(("written", "code"), _CODES)
def test_codes(written: bytes, code: bytes) -> None:
    assert written == code


def test_text_stays_one_printable_line() -> None:
    assert responses.text("a\r\nA1 OK b\0é") == b"a??A1 OK b??"
    assert responses.text("") == b"-"
    assert len(responses.text("x" * 10_000)) == 400
