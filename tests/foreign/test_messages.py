"""The octets of messages that have no file: header fields, bodies and parts."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO, StringIO
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.mail.interfaces import IMessageIMAP
from zope.interface import implementer

from mailhub.foreign.messages import internal_date, message_octets
from mailhub.store.nonsense import Nonsense


@implementer(IMessageIMAP)
class Part:
    """One as the interface describes it."""

    def __init__(self, fields: Mapping[Any, Any], body: Any = b"", parts: tuple[Any, ...] = ()) -> None:
        self.fields = dict(fields)
        self.body = body
        self.parts = parts
        self.date: Any = None

    def getHeaders(self, negate: bool, *names: str) -> Any:
        assert negate
        return self.fields

    def getBodyFile(self) -> Any:
        return StringIO(self.body) if isinstance(self.body, str) else BytesIO(self.body)

    def isMultipart(self) -> bool:
        return bool(self.parts)

    def getSubPart(self, part: int) -> Any:
        return self.parts[part]

    def getSize(self) -> int:
        return -1

    def getUID(self) -> int:
        return 1

    def getFlags(self) -> list[str]:
        return []

    def getInternalDate(self) -> Any:
        return self.date


def given(work: Any) -> Any:
    came: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(came.append)
    (found,) = came
    if isinstance(found, bytes | int) or found is None:
        return found
    return found.raiseException()


def octets(part: Any, limit: int = 10_000) -> bytes:
    found: bytes = given(message_octets(part, limit))
    return found


def test_fields_and_body() -> None:
    part = Part({"subject": "Hello", b"x-two-lines": "a\n\tb"}, "bödy\r\n")
    assert octets(part) == b"Subject: Hello\r\nX-Two-Lines: a\r\n\tb\r\n\r\nb\xc3\xb6dy\r\n"


def test_parts_are_between_their_boundaries() -> None:
    parts = (Part({"subject": "1"}, b"one"), Part({"subject": "2"}, b"two"))
    whole = Part({"content-type": 'multipart/mixed; charset=x; Boundary="b"'}, parts=parts)
    assert octets(whole).endswith(
        b"\r\n\r\n\r\n--b\r\nSubject: 1\r\n\r\none\r\n--b\r\nSubject: 2\r\n\r\ntwo\r\n--b--\r\n"
    )


def test_parts_without_a_boundary_get_the_same_one_each_time() -> None:
    whole = Part({"Content-Type": "multipart/alternative"}, parts=(Part({}, b"one"),))
    first = octets(whole)
    assert first == octets(whole)
    assert b'Content-Type: multipart/alternative; boundary="=_' in first
    assert b'Content-Type: multipart/mixed; boundary="=_' in octets(
        Part({}, parts=(Part({}, b"one"),))
    ).title().replace(b"Multipart/Mixed; Boundary", b"multipart/mixed; boundary")


def test_all_may_come_by_deferreds() -> None:
    part: Any = Part({"subject": "x"}, b"y")
    for name in ("getHeaders", "getBodyFile", "isMultipart"):
        method = getattr(part, name)
        setattr(part, name, lambda *arguments, method=method: succeed(method(*arguments)))
    assert octets(part) == b"Subject: x\r\n\r\ny"


class Within(Part):
    """Parts within parts without end, or parts without end."""

    def getSubPart(self, part: int) -> Any:
        return self.parts[0] if self.parts[0] is not None else self


@pytest.mark.parametrize(
    "part",
    [
        Within({}, parts=(None,)),
        Within({}, parts=(Part({}, b""),)),
        Part({}, b"x" * 20_000),
        Part({"x": "y" * 20_000}),
        Part({}, parts=tuple(Part({}, b"x" * 6000) for _ in range(2))),
        Part({"x": 17}),
    ],
)
def test_what_is_too_much_or_no_text_is_nonsense(part: Any) -> None:
    with pytest.raises(Nonsense):
        octets(part)


@pytest.mark.parametrize("fields", [None, ["a: b"], 17])
def test_fields_that_are_none_are_nonsense(fields: Any) -> None:
    part = Part({})
    part.fields = fields
    with pytest.raises(Nonsense):
        octets(part)


@pytest.mark.parametrize(
    ("text", "date"),
    [
        (b"Thu, 01 Jan 2026 12:00:00 +0000", 1_767_268_800),
        ("Thu, 1 Jan 2026 13:00:00 +0100", 1_767_268_800),
        ("01-Jan-2026 12:00:00 +0000", 1_767_268_800),
        ("Thu, 01 Jan 1960 12:00:00 +0000", None),
        ("yesterday", None),
        (None, None),
        (17, None),
    ],
)
def test_dates_of_all_kinds(text: Any, date: int | None) -> None:
    part = Part({})
    part.date = text
    assert given(internal_date(part)) == date
