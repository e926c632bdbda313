"""The bounds of what parts remember (`IState`), which every database keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

NAME_OCTETS = 512
VALUE_OCTETS = 64 * 1024
ENTRIES = 100_000  # of a part; of more, the tenth that would be forgotten first goes
ENTRIES_LEFT = ENTRIES * 9 // 10
PUT_TOGETHER = 1000  # values
END = "\U0010ffff"  # behind all names that begin alike


def check_names(names: Iterable[str]) -> None:
    """Raises ValueError for what can be no name."""
    for name in names:
        if len(name) > NAME_OCTETS or len(name.encode()) > NAME_OCTETS:
            raise ValueError(f"a name has more than {NAME_OCTETS} octets: {name[:50]!r}...")
        if "\0" in name or END in name:
            raise ValueError(f"a name has a NUL or U+10FFFF: {name!r}")


def check_values(values: Mapping[str, bytes], seconds: int) -> None:
    """Raises ValueError for what cannot be put."""
    check_names(values)
    if len(values) > PUT_TOGETHER:
        raise ValueError(f"{len(values)} values at once; {PUT_TOGETHER} are allowed")
    if seconds < 0:
        raise ValueError(f"to be forgotten after {seconds} seconds")
    for name, value in values.items():
        if not isinstance(value, bytes):
            raise ValueError(f"the value of {name!r} must be bytes, not {type(value).__name__}")
        if len(value) > VALUE_OCTETS:
            raise ValueError(f"the value of {name!r} has {len(value)} octets; {VALUE_OCTETS} are allowed")
