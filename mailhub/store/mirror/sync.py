"""What has happened to a folder, by what was known of it and what its source lists now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import attrs

from mailhub.message.flags import Flags
from mailhub.message.record import Entry
from mailhub.store.mirror.source import Key, Listed


class Noted(Protocol):
    """What the source last listed of a message."""

    @property
    def listed_size(self) -> int | None: ...
    @property
    def version(self) -> str: ...


@attrs.frozen
class Difference:
    """`added` in the order of the list; `removed`, `flagged` and `suspects` by UID, ascending.

    `flagged`: messages whose flags are others now. `suspects`: messages that the source lists with another size or
    version than before, so that their octets may be others.
    """

    added: list[Listed] = attrs.field(factory=list)
    removed: list[int] = attrs.field(factory=list)
    flagged: Mapping[int, Flags] = attrs.field(factory=dict)
    suspects: Mapping[int, Listed] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.flagged or self.suspects)


def difference(
    entries: Sequence[Entry],
    notes: Mapping[int, Noted],
    uids: Mapping[Key, int],
    listing: Sequence[Listed],
    before: Sequence[Listed] | None = None,
) -> Difference:
    """Compare a new list with what is known: rows, and UIDs by key. `before` is the list that they were brought up to
    date by, where nothing else has changed them since: when the new one only goes on from there, as it mostly does, the
    rest is not looked at."""
    if before is not None and len(before) <= len(listing) and listing[: len(before)] == before:
        return Difference([each for each in listing[len(before) :] if each.key not in uids])
    flags = {entry.uid: entry.flags for entry in entries}
    sizes = {entry.uid: entry.size for entry in entries}
    added: list[Listed] = []
    left = dict.fromkeys(notes)
    flagged: dict[int, Flags] = {}
    suspects: dict[int, Listed] = {}
    for each in listing:
        uid = uids.get(each.key)
        if uid is None:
            added.append(each)
            continue
        left.pop(uid, None)
        note = notes[uid]
        if each.size not in (note.listed_size, sizes[uid]) or each.version != note.version:
            suspects[uid] = each
        if each.flags is not None and each.flags != flags[uid]:
            flagged[uid] = each.flags
    return Difference(added, sorted(left), dict(sorted(flagged.items())), dict(sorted(suspects.items())))
