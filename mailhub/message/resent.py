"""The fields by which a message is sent again (RFC 5322 3.6.6): those of the last time stand on top."""

from __future__ import annotations

from collections.abc import Sequence

_PREFIX = b"resent-"
_TRACE = frozenset({b"received", b"return-path"})  # on top of each earlier time

Fields = Sequence[tuple[bytes, bytes]]  # names in small letters, octets


def last_resent(fields: Fields) -> Sequence[int]:
    """Where those of the last time stand among all fields; nothing of a message that was not sent again. They end
    before a trace field, and where one comes for the second time: there the time before begins."""
    places: list[int] = []
    seen: set[bytes] = set()
    for place, (name, _) in enumerate(fields):
        if seen and (name in _TRACE or name in seen):
            break
        if name.startswith(_PREFIX):
            places.append(place)
            seen.add(name)
    return places
