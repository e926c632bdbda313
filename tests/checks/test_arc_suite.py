"""The public test suite for validating chains of ARC, where it lies beside the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from mailhub.checks.arc.validate import validate
from mailhub.message.header import fields_end
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of
from tests.checks.test_dkim import Octets

_FILE = "shared/data/arc-draft-validation-tests.yml"
FOUND = next((folder / _FILE for folder in Path(__file__).resolve().parents if (folder / _FILE).is_file()), None)


def cases() -> Iterator[Any]:
    if FOUND is None:
        return
    for scenario in yaml.safe_load_all(FOUND.read_text()):
        for name, test in scenario["tests"].items():
            yield pytest.param(scenario["txt-records"], test, id=name)


@pytest.mark.skipif(FOUND is None, reason="the suite is not here")
@pytest.mark.parametrize(("records", "test"), list(cases()))
def test_of_the_suite(records: dict[str, str], test: dict[str, Any]) -> None:
    resolver = FakeResolver()
    for name, text in records.items():
        resolver.txt[name] = [text.encode()]
    message = test["message"].replace("\r\n", "\n").replace("\n", "\r\n").encode()
    end = fields_end(message, 0, len(message))
    found = result_of(validate(message[:end], Octets(message[end:]), resolver, 1_500_000_000))
    expected = test["cv"].lower() or "fail"  # of a chain that says itself that it is broken
    assert found.value == expected, found
