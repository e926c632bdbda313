"""From TOML tables to attrs classes: a class is the list of allowed keys, their types and their bounds.

Components of third parties are read by the very same rules. Every mistake is a ConfigurationError of one line
that names file, table and key.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

import attrs

from mailhub.errors import ConfigurationError

T = TypeVar("T")

_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path in quotes",
    list: "a list",
    dict: "a table",
}
# How a list of the file is kept, by the type that is asked for.
_LISTS: dict[Any, Callable[[Iterator[Any]], Any]] = {
    tuple: tuple,
    list: list,
    Sequence: tuple,
    set: set,
    frozenset: frozenset,
}


@attrs.frozen
class Place:
    """Where a value stands; relative paths start at `folder`."""

    file: str
    folder: Path
    table: str = ""
    key: str = ""

    def at(self, key: str) -> Place:
        """One key of this table."""
        return attrs.evolve(self, key=key)

    def inside(self, name: str) -> Place:
        """The table `name` in this one."""
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            name = f'"{name}"'
        return attrs.evolve(self, table=f"{self.table}.{name}" if self.table else name, key="")

    def error(self, text: str) -> ConfigurationError:
        """The one line that the operator sees."""
        where = " ".join(part for part in (f"[{self.table}]" if self.table else "", self.key) if part)
        return ConfigurationError(": ".join(part for part in (self.file, where, text) if part))


def one_of(word: str, known: Iterable[str]) -> str:
    """What to say about an unknown word: the nearest known one, and all there are."""
    names = sorted(set(known))
    near = difflib.get_close_matches(word, names, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return f"{guess}known: {', '.join(names) or 'none'}"


def read(cls: type[T], values: Mapping[str, Any], place: Place, beside: Sequence[str] = ()) -> T:
    """Make an attrs class from a table. `beside` are keys of the table that others read, for messages. Raises
    ConfigurationError."""
    hints = typing.get_type_hints(cls)
    fields: dict[str, attrs.Attribute[Any]] = {field.name: field for field in attrs.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise place.at(key).error(f"unknown key; {one_of(key, [*fields, *beside])}")
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[field.alias or name] = _read_field(field, hints[name], values[name], place.at(name))
        elif field.default is attrs.NOTHING:
            raise place.at(name).error("is missing")
    try:
        return cls(**arguments)
    except (ValueError, TypeError) as error:
        # A check of the class over several keys.
        raise place.error(str(error)) from None


def _read_field(field: attrs.Attribute[Any], hint: Any, value: Any, place: Place) -> Any:
    converted = convert(hint, value, place)
    try:
        if callable(field.converter):
            converted = field.converter(converted)
        if field.validator is not None:
            # Run here as well as in the class, because here the key is known.
            field.validator(None, field, converted)
    except (ValueError, TypeError) as error:
        raise place.error(str(error.args[0] if error.args else error)) from None
    return converted


def convert(hint: Any, value: Any, place: Place) -> Any:
    """Check `value` against a type and turn lists into tuples, strings into paths. Raises ConfigurationError."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is typing.Literal:
        if value not in arguments:
            raise place.error(f"must be {' or '.join(map(str, arguments))}, not {_show(value)}")
        return value
    if origin in (Union, types.UnionType):
        # TOML has no null: `T | None` is a T or left out.
        (hint,) = (one for one in arguments if one is not type(None))
        return convert(hint, value, place)
    if origin in _LISTS:
        _expect(list, value, place)
        return _LISTS[origin](convert(arguments[0], item, place) for item in value)
    if origin in (dict, Mapping):
        _expect(dict, value, place)
        inner = place.inside(place.key)
        return {key: convert(arguments[1], item, inner.at(key)) for key, item in value.items()}
    if attrs.has(hint):
        _expect(dict, value, place)
        return read(hint, value, place.inside(place.key))
    return _convert_plain(hint, value, place)


def _convert_plain(hint: Any, value: Any, place: Place) -> Any:
    if hint is Any:
        return value
    if hint is Path:
        _expect(str, value, place, hint)
        return _path(value, place)
    if hint is float and type(value) is int:
        return float(value)
    if hint not in _NAMES:
        raise place.error(f"cannot be given in a file: its type is {hint}")
    _expect(hint, value, place)
    return value


def _path(text: str, place: Place) -> Path:
    if not text or "\0" in text:
        raise place.error("must be a path")
    try:
        return place.folder / Path(text).expanduser()
    except RuntimeError as error:
        raise place.error(str(error)) from None


def _expect(kind: type, value: Any, place: Place, shown: type | None = None) -> None:
    # type(), not isinstance: `true` is no whole number.
    if type(value) is not kind:
        raise place.error(f"must be {_NAMES.get(shown or kind, kind.__name__)}, not {_show(value)}")


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if not isinstance(value, str) else '"' + value + '"'
    return text if len(text) <= 60 else text[:57] + "..."
