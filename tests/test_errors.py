"""Errors: each has a status of its kind, and what is for the log alone is not for the peer."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from mailhub import errors
from mailhub.errors import MailError, NoSuchUser, NotPermitted, PermanentError, TemporaryError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MailError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_status_is_of_the_kind(kind: type[MailError]) -> None:
    error = kind()
    assert error.status[0] in "45"
    assert all(part.isdigit() for part in error.status.split("."))
    assert error.text
    assert error.temporary == error.status.startswith("4")
    if issubclass(kind, TemporaryError):
        assert error.temporary
    if issubclass(kind, PermanentError):
        assert not error.temporary


def test_what_is_said_and_what_is_logged() -> None:
    error = TemporaryError("Come again", status="4.7.1", detail="greylist of 192.0.2.1")
    assert (error.text, error.status) == ("Come again", "4.7.1")
    assert str(error) == "4.7.1 Come again (greylist of 192.0.2.1)"
    assert str(PermanentError("No")) == f"{PermanentError.default_status} No"


def test_what_a_plugin_raises_it_with_is_text() -> None:
    error = NotPermitted(["no"], status=550)  # type: ignore[arg-type]
    assert (error.text, error.status, error.temporary) == ("['no']", "5.7.1", False)


@pytest.mark.parametrize("status", ["", "nonsense", "250", "2.0.0", "4.3", "5.1.1\r\n", "5.1111.1", 7, None])
def test_what_is_no_status_of_a_refusal_is_the_usual_one(status: Any) -> None:
    assert NoSuchUser(status=status).status == "5.1.1"
    assert TemporaryError(status=status).status == "4.3.0"
