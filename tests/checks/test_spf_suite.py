"""The public test suite for RFC 7208, where it lies beside the repository."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.name
import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]
from twisted.internet.task import Clock

from mailhub.checks.spf.check import check_host
from mailhub.interfaces import MailExchanger
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of

_FILE = "shared/data/rfc7208-tests.yml"
FOUND = next((folder / _FILE for folder in Path(__file__).resolve().parents if (folder / _FILE).is_file()), None)


def cases() -> Iterator[Any]:
    if FOUND is None:
        return
    for scenario in yaml.safe_load_all(FOUND.read_text()):
        for name, test in scenario["tests"].items():
            yield pytest.param(scenario["zonedata"], test, id=name)


def zone(data: dict[str, Any]) -> FakeResolver:
    resolver = FakeResolver()
    for name, records in data.items():
        key = _text(name)
        kinds = {next(iter(each)) for each in records if isinstance(each, dict)}
        for each in records:
            if each == "TIMEOUT":  # of what stands not before it
                if not any(record.get("TXT", "NONE") != "NONE" for record in records if isinstance(record, dict)):
                    resolver.failing.add(key)
                continue
            [(kind, value)] = each.items()
            if kind == "SPF" and "TXT" in kinds:
                continue
            if kind in ("SPF", "TXT"):
                if value != "NONE":
                    strings = value if isinstance(value, list) else [value]
                    octets = b"".join([string.encode("latin-1") for string in strings])
                    resolver.txt.setdefault(key, []).append(octets)
            elif kind == "MX":
                resolver.exchangers.setdefault(key, []).append(MailExchanger(value[0], _text(value[1])))
            elif kind in ("A", "AAAA"):
                resolver.hosts.setdefault(key, []).append(value)
            elif kind == "PTR":
                resolver.ptr.setdefault(_address(name), []).append(_text(value))
            elif kind == "CNAME":
                resolver.aliases[key] = _text(value)
    return resolver


def _text(name: str) -> str:
    with contextlib.suppress(dns.exception.DNSException):
        return (
            dns.name.Name([*[each.encode() for each in name.rstrip(".").split(".")], b""])
            .to_text(omit_final_dot=True)
            .lower()
        )
    return name


def _address(name: str) -> str:
    return dns.reversename.to_address(dns.name.from_text(name))


@pytest.mark.skipif(FOUND is None, reason="the suite is not here")
@pytest.mark.parametrize(("data", "test"), list(cases()))
def test_of_the_suite(data: dict[str, Any], test: dict[str, Any]) -> None:
    sender = test["mailfrom"] or f"postmaster@{test['helo']}"
    found = result_of(
        check_host(
            test["host"], sender.rpartition("@")[2], sender, test["helo"], zone(data), clock=Clock(), hostname="mx"
        )
    )
    allowed = test["result"] if isinstance(test["result"], list) else [test["result"]]
    assert found.value in allowed, found
    if found.value == "fail" and test.get("explanation", "DEFAULT") != "DEFAULT":
        assert found.explanation == test["explanation"]
