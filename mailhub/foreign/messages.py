"""The octets of an `IMessageIMAP`: those of its file where it has one, else put together of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from twisted.mail.interfaces import IMessageIMAPFile

from mailhub.answers import answer
from mailhub.foreign.calls import octets, text
from mailhub.message.dates import parse_date
from mailhub.store.nonsense import Nonsense, shown

_DEPTH = 50  # parts within parts
_PARTS = 1000  # of one part


async def message_octets(message: Any, limit: int) -> bytes:
    """All of a message. Raises Nonsense for one of more than `limit` octets."""
    file: Any = IMessageIMAPFile(message, None)
    if file is not None:
        return octets(await answer(file.open()), limit)
    return await _assembled(message, limit, _DEPTH)


async def _assembled(part: Any, limit: int, depth: int) -> bytes:
    """A header of the fields that the message tells, an empty line, and its body or its parts."""
    if not depth:
        raise Nonsense(f"has parts within more than {_DEPTH} parts")
    fields = await answer(part.getHeaders(True))
    if not isinstance(fields, Mapping):
        raise Nonsense(f"getHeaders() gave {shown(fields)}, no mapping")
    header = {text(name): text(value) for name, value in fields.items()}
    if not await answer(part.isMultipart()):
        body = octets(await answer(part.getBodyFile()), limit)
    else:
        parts = await _parts(part, limit, depth)
        boundary = _boundary(header, parts)
        body = b"".join(b"\r\n--" + boundary + b"\r\n" + each for each in parts) + b"\r\n--" + boundary + b"--\r\n"
    lines = "".join(f"{name.title()}: " + "\r\n".join(value.splitlines()) + "\r\n" for name, value in header.items())
    whole = lines.encode("utf-8", "surrogateescape") + b"\r\n" + body
    if len(whole) > limit:
        raise Nonsense(f"has more than {limit} octets")
    return whole


async def _parts(part: Any, limit: int, depth: int) -> list[bytes]:
    parts: list[bytes] = []
    while len(parts) <= _PARTS:
        try:
            each = await answer(part.getSubPart(len(parts)))
        except IndexError:
            return parts
        parts.append(await _assembled(each, limit, depth - 1))
        limit -= len(parts[-1])
    raise Nonsense(f"has more than {_PARTS} parts")


def _boundary(header: dict[str, str], parts: list[bytes]) -> bytes:
    """The one in its Content-Type; one of the parts' own where it has none, the same each time."""
    name = next((name for name in header if name.lower() == "content-type"), "content-type")
    given = header.get(name, "multipart/mixed")
    for parameter in given.split(";")[1:]:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "boundary" and value.strip():
            return value.strip().strip('"').encode("utf-8", "surrogateescape")
    made = f"=_{blake2b(b''.join(parts), digest_size=12).hexdigest()}"
    header[name] = f'{given}; boundary="{made}"'
    return made.encode()


async def internal_date(message: Any) -> int | None:
    """In seconds since the epoch; None for what is no date."""
    given = await answer(message.getInternalDate())
    found = parse_date(text(given)) if isinstance(given, str | bytes) else None
    return found if found is not None and 0 <= found < _LAST_DATE else None


_LAST_DATE = 253_402_300_800  # with the year 10000 dates cannot be written any more (RFC 5322 3.3)
