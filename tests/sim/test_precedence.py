"""Who answers for a recipient: the order that the docs give, walked with names that several of them know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mailhub.explain import explain
from mailhub.testing.hubs import Host, Internet

KEPT = {
    "x6@us.example": ["kept6@us.example"],  # the file has this name, too
    "wildcard:late*@us.example": ["two@us.example"],
    "@kept.example": ["ann@us.example"],
}
CONFIG: Mapping[str, Any] = {
    "domains": ["us.example", "kept.example"],
    "domain_aliases": {"same.example": "us.example"},
    "aliases": {
        "x1@us.example": ["ann@us.example"],
        "x4+own@us.example": ["two@us.example"],
        "x6@us.example": ["ann@us.example"],
        "postmaster@us.example": ["two@us.example"],
        "bare": ["two@us.example"],
        "bare@us.example": ["ann@us.example"],
        "one@same.example": ["two@us.example"],
        "nested@us.example": ["bare@kept.example", "x3@us.example"],
        "wildcard:late1*@us.example": ["ann@us.example"],
        "regex:late(1|2).*@us.example": ["two@us.example"],
        "@us.example": ["ann@us.example"],
    },
    "list": {f"{name}@us.example": {"post": "anyone", "members": ["ann@us.example"]} for name in ("x1", "x2")},
    "transport": {
        "hole": {"recipients": [f"{name}@us.example" for name in ("x1", "x2", "x3")], "agent": "discard"},
        "away": {"recipients": ["moved.example"], "host": "10.9.9.9"},
    },
    "route": {"static.example": {"host": "10.8.8.8"}, "moved.example": {"host": "10.8.8.8"}},
}


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=2) as internet:
        yield internet


@pytest.fixture
def us(internet: Internet) -> Host:
    host = internet.hub("us.example", users=["ann", "two", "x1", "x2", "x3", "x4"], config=CONFIG)
    for name, targets in KEPT.items():
        host._wait(host.hub.database.names.add_alias(name, targets))
    host._wait(host.hub.names.look_again())
    internet.resolver.add("far.example", "mx.far.example", "192.0.2.7")
    return host


@pytest.mark.parametrize(
    ("to", "routers", "ends"),
    [
        ("x1@us.example", ["aliases", "accounts"], ["store ann@us.example"]),
        ("X2@us.example", ["lists", "accounts"], ["list x2@us.example", "store ann@us.example"]),
        ("x2+more@us.example", ["lists", "accounts"], ["list x2@us.example", "store ann@us.example"]),
        ("x2-owner@us.example", ["lists", "aliases", "accounts"], ["store two@us.example"]),
        ("x2-request@us.example", ["lists"], ["list-request x2@us.example"]),
        ("x3@us.example", ["transports"], ["hole "]),
        ("abuse@kept.example", ["postmaster", "aliases", "accounts"], ["store two@us.example"]),
        ("x4@us.example", ["accounts"], ["store x4@us.example"]),
        ("x4+any@us.example", ["accounts"], ["store x4@us.example"]),
        ("x4+own@us.example", ["aliases", "accounts"], ["store two@us.example"]),
        ("x6@us.example", ["aliases", "accounts"], ["store ann@us.example"]),
        ("bare@us.example", ["aliases", "accounts"], ["store ann@us.example"]),
        ("bare@kept.example", ["aliases", "accounts"], ["store two@us.example"]),
        ("x4@same.example", ["aliases", "accounts"], ["store x4@us.example"]),
        ("one@same.example", ["aliases", "accounts"], ["store two@us.example"]),
        ("nested@us.example", ["aliases", "aliases", "transports", "accounts"], ["hole ", "store two@us.example"]),
        ("late1x@us.example", ["catch-all", "accounts"], ["store ann@us.example"]),
        ("late2x@us.example", ["catch-all", "accounts"], ["store two@us.example"]),
        ("late3x@us.example", ["catch-all", "accounts"], ["store two@us.example"]),
        ("other@us.example", ["catch-all", "accounts"], ["store ann@us.example"]),
        ("other@kept.example", ["catch-all", "accounts"], ["store ann@us.example"]),
        ("SRS0=x=y=far.example=a@us.example", ["srs"], []),
        ("b@moved.example", ["transports"], ["away 10.9.9.9"]),
        ("b@static.example", ["static"], ["smtp 10.8.8.8"]),
        ("b@far.example", ["exchangers"], ["smtp "]),
    ],
)
def test_the_first_that_knows_a_name_answers(
    internet: Internet, us: Host, to: str, routers: list[str], ends: list[str]
) -> None:
    told = internet.wait(explain(us.hub, {"from": "a@far.example", "to": to, "ip": "10.9.9.9"}))
    asked = [step["router"] for step in told["routing"]]
    assert asked[: len(routers)] == routers
    found = [f"{route['agent']} {route['target']}" for route in told["routes"]]
    assert sorted(found) == sorted(ends)
