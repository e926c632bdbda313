"""The reader with classes such as plugins bring along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from mailhub.config.reader import Place, read
from mailhub.errors import ConfigurationError

PLACE = Place("f.toml", Path("/etc"), "store")


@attrs.frozen
class Inner:
    depth: int = 1


@attrs.frozen
class Options:
    url: str
    _hidden: float = 0.5
    paths: Sequence[Path] = ()
    words: frozenset[str] = frozenset()
    mode: Literal["fast", "safe"] = "safe"
    maximum: int | None = None
    inner: Inner = attrs.field(factory=Inner)
    table: Mapping[str, int] = attrs.field(factory=dict)
    level: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    made: int = attrs.field(init=False, default=9)

    def __attrs_post_init__(self) -> None:
        if self.maximum is not None and self.maximum < self.level:
            raise ValueError("maximum is below level")


def test_every_type_that_a_plugin_may_ask_for() -> None:
    values = {
        "url": "x",
        "_hidden": 2,
        "paths": ["a", "/b"],
        "words": ["w", "w"],
        "mode": "fast",
        "maximum": 4,
        "inner": {"depth": 3},
        "table": {"k": 1},
    }
    assert read(Options, values, PLACE) == Options(
        "x", 2.0, (Path("/etc/a"), Path("/b")), frozenset({"w"}), "fast", 4, Inner(3), {"k": 1}
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "f.toml: [store] url: is missing"),
        ({"url": "x", "made": 1}, "f.toml: [store] made: unknown key; did you mean mode? known: "),
        (
            {"url": "x", "inner": {"deep": 1}},
            "f.toml: [store.inner] deep: unknown key; did you mean depth? known: depth",
        ),
        ({"url": "x", "table": {"a b": "1"}}, 'f.toml: [store.table] a b: must be a whole number, not "1"'),
        ({"url": "x", "level": 0}, "f.toml: [store] level: 'level' must be >= 1: 0"),
        ({"url": "x", "maximum": 1, "level": 2}, "f.toml: [store]: maximum is below level"),
        ({"url": ["x" * 100]}, "f.toml: [store] url: must be a string, not a list"),
        ({"url": "x", "inner": "y" * 100}, f'f.toml: [store] inner: must be a table, not "{"y" * 56}...'),
        ({"url": "x", "paths": ["a\0"]}, "f.toml: [store] paths: must be a path"),
    ],
)
def test_mistakes(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(Options, values, PLACE)
    assert str(caught.value).startswith(line)


def test_a_plugin_that_asks_for_what_a_file_cannot_say_is_told_so() -> None:
    @attrs.frozen
    class Odd:
        what: complex = 0j

    with pytest.raises(ConfigurationError, match="cannot be given in a file"):
        read(Odd, {"what": 1}, PLACE)
