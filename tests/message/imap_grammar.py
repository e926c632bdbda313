"""RFC 3501 9's grammar for ENVELOPE and BODY, written a second time as a check on what mailhub sends."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(rb'"((?:[^"\\\r\n\x00\x80-\xff]|\\["\\])*)"|\{(\d+)\}\r\n|([()])|(NIL|\d+)')


def read(octets: bytes) -> Any:
    """The value as nested lists of bytes, ints and None. Raises AssertionError for what a client could not read."""
    top: list[Any] = []
    stack = [top]
    position = 0
    while position < len(octets):
        separated = octets[position : position + 1] == b" "
        position += separated
        match = _TOKEN.match(octets, position)
        assert match, octets[position : position + 40]
        position = match.end()
        closing = match[3] == b")"
        # One space between elements; none after an opening and before a closing parenthesis, nor between two bodies.
        assert separated == (bool(stack[-1]) and len(stack) > 1 and not closing) or (
            not separated and match[3] == b"(" and isinstance(stack[-1][-1], list)
        )
        if match[3] == b"(":
            stack[-1].append([])
            stack.append(stack[-1][-1])
        elif closing:
            stack.pop()
            assert stack
        elif match[2] is not None:
            literal = octets[position : position + int(match[2])]
            assert len(literal) == int(match[2])
            assert b"\0" not in literal
            stack[-1].append(literal)
            position += len(literal)
        elif match[4] is not None:
            stack[-1].append(None if match[4] == b"NIL" else int(match[4]))
        else:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", match[1]))
    assert len(stack) == 1
    assert len(top) == 1
    return top[0]


def check_envelope(value: Any) -> None:
    assert len(value) == 10
    for index in (0, 1, 8, 9):
        assert value[index] is None or isinstance(value[index], bytes)
    for addresses in value[2:8]:
        if addresses is not None:
            assert addresses
            for address in addresses:
                assert len(address) == 4
                assert all(each is None or isinstance(each, bytes) for each in address)


def check_body(value: Any, *, extensions: bool) -> None:
    """RFC 3501 9 body, body-type-1part and body-type-mpart."""
    if isinstance(value[0], list):
        children = [each for each in value if isinstance(each, list)]
        count = 0
        while isinstance(value[count], list):
            check_body(value[count], extensions=extensions)
            count += 1
        assert isinstance(value[count], bytes)
        assert children
        if extensions:
            _check_parameters(value[count + 1])
            _check_extensions(value[count + 2 :])
        else:
            assert len(value) == count + 1
        return
    kind, subtype, parameters, identifier, description, encoding, size, *rest = value
    assert isinstance(kind, bytes)
    assert isinstance(subtype, bytes)
    _check_parameters(parameters)
    assert identifier is None or isinstance(identifier, bytes)
    assert description is None or isinstance(description, bytes)
    assert isinstance(encoding, bytes)
    assert isinstance(size, int)
    if (kind, subtype) == (b"message", b"rfc822"):
        check_envelope(rest[0])
        check_body(rest[1], extensions=extensions)
        assert isinstance(rest[2], int)
        rest = rest[3:]
    elif kind == b"text":
        assert isinstance(rest[0], int)
        rest = rest[1:]
    if extensions:
        assert rest[0] is None or isinstance(rest[0], bytes)
        _check_extensions(rest[1:])
    else:
        assert not rest


def _check_parameters(value: Any) -> None:
    if value is not None:
        assert value
        assert len(value) % 2 == 0
        assert all(isinstance(each, bytes) for each in value)


def _check_extensions(values: list[Any]) -> None:
    disposition, language, location = values
    if disposition is not None:
        assert isinstance(disposition[0], bytes)
        _check_parameters(disposition[1])
        assert len(disposition) == 2
    assert language is None or all(isinstance(each, bytes) for each in language)
    assert location is None or isinstance(location, bytes)
