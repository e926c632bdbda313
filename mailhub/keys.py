"""Keys of the configuration, declared where they are used.

A part says with the fields of its own class what can be set about it:

    attempts: int = limit("delivery_attempts", 50, 1, 10_000)

That is all: `mailhub.config` finds the declarations in the classes, and makes of them the tables that a file may have.
What several parts are told is a `Key` of its own, of which each has a `setting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import attrs

V = TypeVar("V")

_IN_METADATA = "mailhub.keys"


@attrs.frozen
class Key(Generic[V]):
    """`[table] name` with its default. A whole number is from `low` to `high`; what else there may be says `hint`, the
    type in the file, and `check`, which raises ValueError."""

    table: str
    name: str
    default: V
    low: int | None = None
    high: int | None = None
    hint: Any = int
    check: Callable[[Any], object] | None = None

    def validate(self, instance: object, field: object, value: Any) -> None:
        """An attrs validator. Raises ValueError."""
        if self.low is not None and self.high is not None and not self.low <= value <= self.high:
            raise ValueError(f"must be from {self.low} to {self.high}, not {value}")
        if self.check is not None:
            self.check(value)


@attrs.frozen
class Told:
    """How a field is told the value of a key."""

    key: Key[Any]
    made: Callable[[Any], Any] | None

    def value(self, read: Any) -> Any:
        """The field's value, of what stands in the file."""
        return read if self.made is None else self.made(read)


def setting(key: Key[Any], made: Callable[[Any], Any] | None = None) -> Any:
    """A field that is told a key. `made` turns what stands in the file into the field's value."""
    told = Told(key, made)
    return attrs.field(default=told.value(key.default), metadata={_IN_METADATA: told})


def limit(name: str, default: int, low: int, high: int) -> Any:
    """A field for a whole number of [limits]."""
    return setting(Key("limits", name, default, low, high))


def keys_of(part: type) -> Iterator[tuple[str, Told]]:
    """The fields of a part that are told a key."""
    for field in attrs.fields(part):
        told = field.metadata.get(_IN_METADATA)
        if told is not None:
            yield (field.alias or field.name), told


# --- What several parts are told -------------------------------------------------------------------------------------

DAY = 86400
KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

MESSAGE_SIZE = Key("limits", "message_size_bytes", 50 * MIB, 1024, 2 * GIB - 1)
COUNT_LOOPBACK = Key("limits", "count_loopback", False, hint=bool)
LOGIN_SECONDS = Key("limits", "login_seconds", 60, 5, DAY)
LOGIN_FAILURES = Key("limits", "login_failures_per_session", 5, 1, 1000)
KEYWORDS_PER_MAILBOX = Key("limits", "keywords_per_mailbox", 200, 10, 10_000)
STOP_SECONDS = Key("limits", "stop_seconds", 10, 0, 600)
