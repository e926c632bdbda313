"""Has an exam sat without a test framework: every question by itself, and what came of each."""

from __future__ import annotations

import inspect
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import attrs

from mailhub.errors import ConfigurationError
from mailhub.store.exam.rig import Exam


@attrs.frozen
class Answer:
    """One question: its name, what the contract says, and what was wrong or why it was not asked, "" where neither."""

    question: str
    contract: str
    fault: str = ""
    skipped: str = ""


def questions(exam: type[Exam]) -> list[str]:
    """The names of an exam's questions, in the order in which they are written."""
    found = {
        name: None
        for kind in reversed(exam.__mro__)
        for name, value in vars(kind).items()
        if name.startswith("test_") and callable(value)
    }
    return list(found)


def sit(
    exam: type[Exam], bounded: Callable[[], AbstractContextManager[object]] = nullcontext, *, only: str = ""
) -> Iterator[Answer]:
    """Ask all questions, each of a new exam, or those with `only` in their names. `bounded` surrounds each, and may
    raise AssertionError for one that takes too long. Raises ConfigurationError for a component that cannot be made."""
    for name in questions(exam):
        if only in name:
            yield _asked(exam, name, bounded)


def _asked(exam: type[Exam], name: str, bounded: Callable[[], AbstractContextManager[object]]) -> Answer:
    contract = " ".join((inspect.getdoc(getattr(exam, name)) or "").split())
    try:
        with bounded():
            getattr(exam(), name)()
    except unittest.SkipTest as reason:
        return Answer(name, contract, skipped=str(reason))
    except ConfigurationError:
        raise
    except Exception as error:
        told = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return Answer(name, contract, fault=" ".join(told.split()) or "it does not hold")
    return Answer(name, contract)
