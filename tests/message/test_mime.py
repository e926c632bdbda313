"""The part tree: offsets against the standard library, broken MIME, limits, and the work it takes."""

from __future__ import annotations

import email
import mmap
import re
import tempfile
from collections.abc import Iterator
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message import mime
from mailhub.message.header import Octets
from mailhub.message.mime import Tree, children, decode, encode, scan
from mailhub.testing.corpus import corpus

_CORPUS = list(corpus(11, 84))
_USUAL_TYPE = re.compile(r"$|[a-z]+/[a-z0-9-]+\s*(?:;|$)")


def parts(message: bytes) -> list[tuple[str, bytes]]:
    """Type and body of each part."""
    return [(part.type, message[part.body : part.end]) for part in scan(message).tree]


def multipart(boundary: str, body: bytes, subtype: str = "mixed") -> bytes:
    return f"Content-Type: multipart/{subtype}; boundary={boundary}\r\n\r\n".encode() + body


def test_a_message_without_mime() -> None:
    (part,) = scan(b"A: 1\r\n\r\none\r\ntwo").tree
    assert part == (0, 8, 16, 1, 0, "text/plain", "7bit", "us-ascii")


def test_offsets_types_encodings_and_lines() -> None:
    message = multipart(
        "b",
        b"preamble\r\n--b\r\nContent-Type: Text/HTML; charset=UTF-8\r\nContent-Transfer-Encoding: BASE64\r\n\r\n"
        b"PGI+\r\n\r\n--b\t \r\n\r\n\r\n--b--\r\nepilogue\r\n--b\r\nnot a part",
    )
    root, page, empty = scan(message).tree
    assert (root.type, root.below, root.lines, root.end) == ("multipart/mixed", 2, 0, len(message))
    assert (page.type, page.encoding, page.charset, page.lines) == ("text/html", "base64", "utf-8", 1)
    assert message[page.start : page.body].startswith(b"Content-Type: Text/HTML")
    assert message[page.body : page.end] == b"PGI+\r\n"
    assert (empty.start, empty.body, empty.end) == (empty.start, empty.start + 2, empty.start + 2)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # no final delimiter
        (multipart("b", b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n"), [("text/plain", b"one"), ("text/plain", b"two\r\n")]),
        # a part that is cut off inside its header
        (multipart("b", b"--b\r\nContent-Type: a/b"), [("a/b", b"")]),
        (multipart("b", b"--b\r\n"), [("text/plain", b"")]),
        (multipart("b", b"--b"), [("text/plain", b"")]),
        (multipart("b", b"--b\r\n--b--\r\n"), [("text/plain", b"")]),
        # lines that only look like delimiters
        (multipart("b", b"--b\r\n\r\n--bc\r\n--b-\r\nx--b\r\n --b\r\n--b--c\r\n--b--\r\n"),
         [("text/plain", b"--bc\r\n--b-\r\nx--b\r\n --b\r\n--b--c")]),
        # never opened, or closed at once: the whole body is one part
        (multipart("b", b"text\r\n"), [("text/plain", b"text\r\n")]),
        (multipart("b", b"--b--\r\ntext\r\n"), [("text/plain", b"--b--\r\ntext\r\n")]),
        (multipart('""', b"--\r\n\r\ntext\r\n"), [("text/plain", b"--\r\n\r\ntext\r\n")]),
        (b"Content-Type: multipart/mixed\r\n\r\n--x\r\n", [("text/plain", b"--x\r\n")]),
        (b"Content-Type: multipart/mixed; boundary=b", [("text/plain", b"")]),
        # bare line feeds
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nX: 1\n\ntwo\n--b--\n",
         [("text/plain", b"one"), ("text/plain", b"two")]),
        # the parent's delimiter ends a child that did not end itself
        (multipart("o", b"--o\r\n" + multipart("i", b"--i\r\n\r\none\r\n--o--\r\n")),
         [("multipart/mixed", b"--i\r\n\r\none"), ("text/plain", b"one")]),
        # an encoding that a multipart may not have is not believed
        (b"Content-Transfer-Encoding: base64\r\n" + multipart("b", b"--b\r\n\r\none\r\n--b--"),
         [("text/plain", b"one")]),
    ],
)  # fmt: skip
def test_broken_multiparts(message: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert parts(message)[1:] == expected


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (b"", "text/plain"),
        (b"text", "text/plain"),
        (b"TEXT/", "text/plain"),
        (b"multipart", "multipart/mixed"),
        (b"pdf", "text/plain"),
        (b"image/png; x", "image/png"),
        (b"x-y/\xff", "text/plain"),
        (b"a/" + b"b" * 128, "text/plain"),
        (b"a/" + b"b" * 127, "a/" + "b" * 127),
        (b"a/b c", "a/b"),
    ],
)
def test_content_types(field: bytes, kind: str) -> None:
    tree = scan(b"Content-Type: " + field + b"\r\n\r\nx").tree
    assert tree[0].type == kind


def test_messages_inside() -> None:
    inner = b"Subject: inner\r\n\r\nhello\r\n"
    message = b"Content-Type: message/rfc822\r\n\r\n" + inner
    assert parts(message) == [("message/rfc822", inner), ("text/plain", b"hello\r\n")]
    encoded = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3Vi\r\n"
    assert parts(encoded) == [("application/octet-stream", b"U3Vi\r\n")]
    assert parts(encoded.replace(b"base64", b'"Base64"')) == parts(encoded)
    for said in (b"8-bit", b"none", b"US-ASCII", b"'8bit'"):
        mistaken = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: " + said + b"\r\n\r\n" + inner
        assert parts(mistaken) == parts(message)


def test_children_of_a_digest_are_messages() -> None:
    message = multipart(
        "b", b"--b\r\n\r\nSubject: 1\r\n\r\none\r\n--b\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--b--", "digest"
    )
    assert [kind for kind, _ in parts(message)] == ["multipart/digest", "message/rfc822", "text/plain", "text/plain"]


def test_depth_is_bounded() -> None:
    message = b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (level, level) for level in range(1000)
    )
    tree = scan(message).tree
    assert len(tree) == mime.DEPTH_LIMIT + 2
    assert tree[-1].type == "application/octet-stream"
    nested = scan(b"Content-Type: message/rfc822\r\n\r\n" * 1000).tree
    assert len(nested) == mime.DEPTH_LIMIT + 1
    assert nested[-1].type == "application/octet-stream"


def test_the_number_of_parts_is_bounded_and_the_rest_is_one_part() -> None:
    message = multipart("b", b"--b\r\n\r\nx\r\n" * (mime.PART_LIMIT + 500))
    tree = scan(message).tree
    assert len(tree) == mime.PART_LIMIT + 1
    assert (tree[-1].type, tree[-1].end) == ("application/octet-stream", len(message))
    assert tree[-1].end - tree[-1].body > 500


def test_headers_are_bounded_together() -> None:
    message = multipart("b", (b"--b\r\n" + b"A: 1\r\n" * 1000 + b"\r\n\r\n") * 200)
    assert sum(len(header) for header in scan(message).headers) <= mime.LINE_LIMIT


class _Counting(bytes):
    """Counts the octets that are searched in it."""

    searched = 0

    def find(self, *arguments: object) -> int:
        found = super().find(*arguments)  # type: ignore[arg-type]
        _, start, end = arguments
        assert isinstance(start, int)
        assert isinstance(end, int)
        _Counting.searched += (end if found < 0 else found) - start + mime._WORK_PER_LINE
        return found

    def count(self, *arguments: object) -> int:
        _, start, end = arguments
        assert isinstance(start, int)
        assert isinstance(end, int)
        _Counting.searched += end - start
        return super().count(*arguments)  # type: ignore[arg-type]


def _searched(message: bytes) -> int:
    _Counting.searched = 0
    scan(_Counting(message))
    return _Counting.searched


_DEEP = b"".join(
    b"Content-Type: multipart/mixed; boundary=x%d\r\n\r\n--x%d\r\n" % (level, level) for level in range(100)
)


@pytest.mark.parametrize(
    "message",
    [
        _DEEP + b"x" * 2_000_000,
        _DEEP + b"\r\n--x" * 400_000,
        multipart("b", b"--b\r\n" + b"\n--bb" * 400_000),
        multipart("b", b"--b\r\n" * 400_000),
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 90 + b"--x\r\n" * 200_000,
        b"Content-Type: message/rfc822\r\n\r\n" * 60_000,
        b"\n" * 2_000_000,
        b"A: 1\r\n" * 300_000,
    ],
    ids=["deep", "deep misses", "misses", "delimiters", "one boundary", "messages", "line ends", "header"],
)
def test_work_is_linear(message: bytes) -> None:
    assert _searched(message) <= (mime._WORK_PER_OCTET + 5) * len(message) + mime._WORK_BASE


def _oracle(message: Message) -> Iterator[Message]:
    yield message
    if message.is_multipart() and message.get_content_type() != "message/delivery-status":  # which it takes apart
        for part in message.get_payload():
            assert isinstance(part, Message)
            yield from _oracle(part)


def test_leaves_are_those_of_the_standard_library() -> None:
    compared = 0
    for message in _CORPUS:
        theirs = list(_oracle(email.message_from_bytes(message)))
        if any(part.defects for part in theirs) or not all(
            _USUAL_TYPE.match(part["Content-Type"] or "") for part in theirs
        ):
            continue  # it gives up where we go on
        ours = scan(message).tree
        assert [part.type for part in ours] == [part.get_content_type() for part in theirs]
        for part, their in zip(ours, theirs, strict=True):
            if not their.is_multipart():
                payload = vars(their)["_payload"]  # get_payload() would decode it
                theirs_octets = payload.encode("ascii", "surrogateescape").replace(b"\r\n", b"\n")
                assert theirs_octets == message[part.body : part.end].replace(b"\r\n", b"\n")
                compared += 1
    assert compared > 100


def check_tree(message: Octets, tree: Tree) -> None:
    """What holds for every tree."""
    assert tree[0].start == 0
    assert tree[0].end == len(message)
    assert tree[0].below == len(tree) - 1
    for index, part in enumerate(tree):
        assert 0 <= part.start <= part.body <= part.end
        inside = list(children(tree, index))
        assert bool(inside) == bool(part.below) == (part.is_multipart or part.is_message)
        assert len(inside) == 1 or not part.is_message
        position = part.body
        for child in inside:
            assert position <= tree[child].start
            assert tree[child].end <= part.end
            position = tree[child].end
    assert decode(encode(tree)) == tree


@pytest.mark.parametrize("index", range(len(_CORPUS)))
def test_trees_of_the_corpus_hold_together(index: int) -> None:
    check_tree(_CORPUS[index], scan(_CORPUS[index]).tree)


_PIECES = st.sampled_from(
    [
        b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: multipart/digest; boundary=b\r\n", b"\r\n",
        b"--b\r\n",
        b"\r\n--b--\r\n", b"Content-Type: message/rfc822\r\n", b"text\r\n", b"\n", b"--",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Type: multipart/mixed; boundary=c\r\n", b"--c\r\n", b"\r\n--c--", b"\xff\x00", b"--b \t\r\n", b"--b",
    ]
)  # fmt: skip
MESSAGES = st.lists(_PIECES, max_size=25).map(b"".join) | st.binary(max_size=80)


@given(MESSAGES)
@settings(deadline=None, max_examples=400)
def test_anything_has_a_tree(message: bytes) -> None:
    check_tree(message, scan(message).tree)


@given(MESSAGES.filter(bool), st.integers(1, 9))
@settings(deadline=None, max_examples=50)
def test_a_mapped_file_has_the_same_tree(message: bytes, piece: int) -> None:
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(message)
        file.flush()
        patch.setattr(mime, "_FIRST_PIECE", piece)
        patch.setattr(mime, "_PIECE", 2 * piece)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert scan(mapped).tree == scan(message).tree


@pytest.mark.parametrize(
    "octets", [b"", b"1", b"2\n0 0 0 0 0 a/b 7bit ", b"1\n0 0", b"1\nx 0 0 0 0 a/b 7bit ", b"\xff"]
)
def test_decode_refuses(octets: bytes) -> None:
    with pytest.raises(ValueError):
        decode(octets)


def test_an_inner_multipart_with_the_boundary_of_the_outer_one() -> None:
    texts = b"--A\r\n\r\none\r\n--A\r\nContent-Type: text/html\r\n\r\n2"
    inner = b"--A\r\nContent-Type: multipart/alternative; boundary=A\r\n\r\n" + texts
    pdf = b"\r\n--A\r\nContent-Type: application/pdf\r\n\r\nPDF"
    start = b"Content-Type: multipart/mixed; boundary=A\r\n\r\n"
    kinds = ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf"]
    closed = mime.scan(start + inner + b"\r\n--A--" + pdf + b"\r\n--A--\r\n").tree
    assert [(part.type, part.below) for part in closed] == list(zip(kinds, [4, 2, 0, 0, 0], strict=True))
    open_end = mime.scan(start + inner + pdf + b"\r\n--A--\r\n").tree
    assert [(part.type, part.below) for part in open_end] == list(zip(kinds, [4, 3, 0, 0, 0], strict=True))


def test_three_multiparts_with_one_boundary() -> None:
    inner = b"--A\r\nContent-Type: multipart/related; boundary=A\r\n\r\n--A\r\n\r\none\r\n--A--\r\n"
    middle = b"--A\r\nContent-Type: multipart/alternative; boundary=A\r\n\r\n" + inner + b"--A--"
    message = b"Content-Type: multipart/mixed; boundary=A\r\n\r\n" + middle
    message += b"\r\n--A\r\nContent-Type: application/pdf\r\n\r\nPDF\r\n--A--\r\n"
    tree = mime.scan(message).tree
    kinds = ["multipart/mixed", "multipart/alternative", "multipart/related", "text/plain", "application/pdf"]
    assert [(part.type, part.below) for part in tree] == list(zip(kinds, [4, 2, 1, 0, 0], strict=True))
    assert message[: tree[1].end].endswith(middle)
    assert message[tree[2].body : tree[2].end] == b"--A\r\n\r\none\r\n--A--"


def test_a_multipart_whose_lines_end_with_cr_cr_lf() -> None:
    message = b"Content-Type: multipart/mixed; boundary=A\n\n--A\n\none\n--A\nContent-Type: text/html\n\ntwo\n--A--\n"
    tree = mime.scan(message.replace(b"\n", b"\r\r\n")).tree
    assert [part.type for part in tree] == ["multipart/mixed", "text/plain", "text/html"]
