"""What database engines say each in their own way. All other SQL of this folder is understood by SQLite and PostgreSQL
alike: RETURNING, ON CONFLICT, `<> 0` for a truth, TRUE, and no column whose name is a word of the language.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Dialect(Protocol):
    """Fragments of SQL, in which `?` stands for a parameter, and what is said of errors."""

    @property
    def numbers(self) -> str:
        """A table of one column `value` in parentheses, made of one parameter (see `many`): after IN, or in FROM."""

    @property
    def texts(self) -> str:
        """The same for texts."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises where the engine has failed."""

    def many(self, values: Iterable[int | str]) -> object:
        """The parameter of `numbers` or `texts`."""

    def packed(self, columns: str) -> str:
        """An expression for these columns of a row (numbers and texts) in one value, which `unpacked` reads."""

    def all_packed(self, columns: str) -> str:
        """The same for the columns of all rows of a query, in any order."""

    def unpacked(self, value: Any) -> Sequence[Any]:
        """The columns of a row, or all rows."""

    def greatest(self, *values: str) -> str:
        """The greatest of some expressions."""

    def contains(self, text: str, part: str) -> str:
        """A condition: one expression's text contains another's."""

    def is_damage(self, error: BaseException) -> bool:
        """Whether the engine says that what it reads is broken."""

    @property
    def lock(self) -> str | None:
        """What follows a query so that no other transaction changes its rows before this one has ended; None where
        transactions that write follow each other anyway."""
