"""Keys of the configuration as parts declare them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from mailhub.config.tables import DECLARING, LASTING, declared, table, told_to
from mailhub.keys import Key, keys_of, limit, setting

SHARED = Key("limits", "things", 10, 1, 100)


@attrs.frozen
class Part:
    """Told of two keys, one of them twice, and of one thing that nobody can set."""

    things: int = setting(SHARED)
    twice: int = setting(SHARED, lambda count: 2 * count)
    _seconds: int = limit("thing_seconds", 5, 0, 60)
    name: str = "x"


@attrs.frozen
class Tables:
    things: int = 7
    thing_seconds: int = 3


def test_a_part_has_the_defaults_that_it_declares() -> None:
    assert Part() == Part(things=10, twice=20, seconds=5, name="x")


def test_a_part_is_told_what_the_tables_say() -> None:
    told = told_to(Part, {"limits": Tables()})
    assert told == {"things": 7, "twice": 14, "seconds": 3}
    assert Part(**told, name="y") == Part(7, 14, 3, "y")
    assert [key.name for key in declared([Part, SHARED])] == ["things", "things", "thing_seconds", "things"]


@pytest.mark.parametrize("value", [1, 100])
def test_a_number_within_its_bounds(value: int) -> None:
    SHARED.validate(None, None, value)


@pytest.mark.parametrize("value", [0, 101])
def test_a_number_beyond_its_bounds(value: int) -> None:
    with pytest.raises(ValueError, match=f"must be from 1 to 100, not {value}"):
        SHARED.validate(None, None, value)


KEYS = {f"{key.table}.{key.name}": key for key in declared(DECLARING)}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_default_could_stand_in_the_file(key: Key[Any]) -> None:
    key.validate(None, None, key.default)
    assert key.hint is not int or key.high is not None, "a whole number without bounds"


def test_every_table_takes_what_parts_declare_in_it() -> None:
    for name in {key.table for key in KEYS.values()}:
        fields = {field.name for field in attrs.fields(table(name))}
        assert fields == {key.name for key in KEYS.values() if key.table == name}


def test_what_lasts_is_declared() -> None:
    assert {key.name for key in declared(LASTING)} <= {key.name for key in declared(DECLARING)}
    assert dict(keys_of(Part)).keys() == {"things", "twice", "seconds"}
