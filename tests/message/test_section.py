"""Sections of a message by RFC 3501 6.4.5's numbers: its own example, and the corners around it."""

from __future__ import annotations

import pytest

from mailhub.message.mime import Tree, scan
from mailhub.message.section import SectionText, locate
from mailhub.testing.corpus import corpus


def _part(kind: str, body: bytes) -> bytes:
    return f"Content-Type: {kind}\r\n\r\n".encode() + body


def _multipart(boundary: str, *parts: bytes, header: bytes = b"") -> bytes:
    mark = b"--" + boundary.encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return header + _part(f"multipart/mixed; boundary={boundary}", body + mark + b"--\r\n")


# The message of RFC 3501 6.4.5's example: its part numbers are the leaves' texts.
_RFC = _multipart(
    "A",
    _part("text/plain", b"1"),
    _part("application/octet-stream", b"2"),
    _part(
        "message/rfc822",
        _multipart(
            "B", _part("text/plain", b"3.1"), _part("application/octet-stream", b"3.2"), header=b"Subject: 3\r\n"
        ),
    ),
    _multipart(
        "C",
        _part("image/gif", b"4.1"),
        _part(
            "message/rfc822",
            _multipart(
                "D",
                _part("text/plain", b"4.2.1"),
                _multipart("E", _part("text/plain", b"4.2.2.1"), _part("text/richtext", b"4.2.2.2")),
                header=b"Subject: 4.2\r\n",
            ),
        ),
    ),
    header=b"Subject: 0\r\n",
)


def section(message: bytes, path: str, text: SectionText = "") -> bytes | None:
    found = locate(scan(message).tree, tuple(int(number) for number in path.split(".") if number), text)
    return None if found is None else message[found[0] : found[1]]


@pytest.mark.parametrize("path", ["1", "2", "3.1", "3.2", "4.1", "4.2.1", "4.2.2.1", "4.2.2.2"])
def test_leaves_have_the_numbers_of_the_example(path: str) -> None:
    assert section(_RFC, path) == path.encode()


def test_headers_and_texts_of_the_example() -> None:
    assert section(_RFC, "") == _RFC
    whole = section(_RFC, "", "HEADER"), section(_RFC, "", "TEXT")
    assert whole[0] is not None
    assert whole[1] is not None
    assert whole[0].startswith(b"Subject: 0\r\n")
    assert whole[0] + whole[1] == _RFC
    inner = section(_RFC, "4.2")
    assert inner is not None
    header, text = section(_RFC, "4.2", "HEADER"), section(_RFC, "4.2", "TEXT")
    assert header is not None
    assert text is not None
    assert header.startswith(b"Subject: 4.2\r\n")
    assert header + text == inner
    assert section(_RFC, "4.2.2.2", "MIME") == b"Content-Type: text/richtext\r\n\r\n"
    assert section(_RFC, "3", "MIME") == b"Content-Type: message/rfc822\r\n\r\n"
    multipart = section(_RFC, "4.2.2")
    assert multipart is not None
    assert multipart.startswith(b"--E\r\n")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("0", ""), ("5", ""), ("1.1", ""), ("2.1", ""), ("3.3", ""), ("3.1.1", ""), ("4.2.2.3", ""), ("1", "HEADER"),
        ("4", "HEADER"), ("4.2.2", "TEXT"), ("2", "TEXT"), ("", "MIME"), ("99999999", ""), ("4.0", "MIME"),
    ],
)  # fmt: skip
def test_sections_that_do_not_exist(path: str, text: SectionText) -> None:
    assert section(_RFC, path, text) is None


def test_a_message_that_is_no_multipart_has_part_one() -> None:
    message = b"Subject: x\r\n\r\nbody"
    assert section(message, "1") == b"body"
    assert section(message, "1", "MIME") == b"Subject: x\r\n\r\n"
    assert section(message, "2") is None
    assert section(message, "1.1") is None
    assert section(message, "1", "HEADER") is None


def test_a_message_that_is_a_message() -> None:
    inner = b"Subject: inner\r\n\r\nbody"
    message = _part("message/rfc822", inner)
    assert section(message, "1") == inner
    assert section(message, "1", "HEADER") == b"Subject: inner\r\n\r\n"
    assert section(message, "1", "TEXT") == b"body"
    assert section(message, "1.1") == b"body"
    assert section(message, "1.1.1") is None
    assert section(message, "1.2") is None


def _paths(tree: Tree) -> list[tuple[int, ...]]:
    """Every path of up to five numbers below four that exists."""
    found: list[tuple[int, ...]] = []
    level: list[tuple[int, ...]] = [()]
    for _ in range(5):
        level = [(*path, number) for path in level for number in range(1, 5) if locate(tree, (*path, number))]
        found += level
    return found


def test_paths_of_the_corpus_reach_parts_and_nothing_else() -> None:
    for message in corpus(12, 42):
        tree = scan(message).tree
        bodies = {(part.body, part.end) for part in tree}
        paths = _paths(tree)
        assert paths
        assert all(locate(tree, path) in bodies for path in paths)
