"""Where a section of a message stands (RFC 3501 6.4.5)."""

from __future__ import annotations

from itertools import islice
from typing import Literal

from mailhub.message.mime import Tree, children

SectionText = Literal["", "HEADER", "TEXT", "MIME"]


def locate(tree: Tree, path: tuple[int, ...], text: SectionText = "") -> tuple[int, int] | None:
    """The octets [start, end) of BODY[path.text], None when the message has no such section.

    HEADER is also the range for HEADER.FIELDS and HEADER.FIELDS.NOT.
    """
    if not path:
        return _of_message(tree, 0, text)
    index = _part(tree, path)
    if index is None:
        return None
    part = tree[index]
    if text == "":
        return part.body, part.end
    if text == "MIME":
        return part.start, part.body
    return _of_message(tree, index + 1, text) if part.is_message else None


def _of_message(tree: Tree, index: int, text: SectionText) -> tuple[int, int] | None:
    part = tree[index]
    if text == "":
        return part.start, part.end
    if text == "HEADER":
        return part.start, part.body
    return (part.body, part.end) if text == "TEXT" else None


def _part(tree: Tree, path: tuple[int, ...]) -> int | None:
    """The index of the part that these numbers name."""
    index = 0
    is_message = True  # whether `index` is a message rather than one of its parts
    for number in path:
        if not is_message and tree[index].is_message:
            index, is_message = index + 1, True
        if tree[index].is_multipart:
            child = next(islice(children(tree, index), number - 1, None), None) if number > 0 else None
            if child is None:
                return None
            index = child
        elif not is_message or number != 1:  # a message that is no multipart has one part, which is its body
            return None
        is_message = False
    return index
