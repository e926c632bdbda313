"""SRS: addresses that lead back, to the right one, for a time, and for nobody who has not our key."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mailhub.delivery import srs
from mailhub.delivery.forwarding import KEY_DAYS, Forwarding, SrsKeys, SrsRouter
from mailhub.delivery.names import LocalNames, NamesInFile
from mailhub.errors import NoSuchUser, NotPermitted
from mailhub.interfaces import OwnTransaction, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.store.memory.database import MemoryDatabase
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import environment

NOW = 1_700_000_000
KEY = b"k" * 32
SENDER = Address.parse("Ann@far.example")


def forwarded(text: str, domain: str = "us.example", key: bytes = KEY, now: int = NOW) -> Address:
    path = srs.forward(Address.parse(text), domain, key, now)
    assert path is not None
    return path


def back(address: Address, keys: list[bytes] | None = None, now: int = NOW) -> str:
    return str(srs.reverse(address, keys or [KEY], now, 21))


def test_it_leads_back_whatever_the_case_and_separator() -> None:
    path = forwarded("Ann@far.example")
    assert path.local.startswith("SRS0=")
    assert path.local.endswith("=far.example=Ann")
    assert (path.domain, back(path)) == ("us.example", "Ann@far.example")
    assert back(attrs.evolve(path, local=path.local.lower())) == "ann@far.example"
    for separator in "+-":
        assert back(attrs.evolve(path, local=f"SRS0{separator}{path.local[5:]}")) == "Ann@far.example"


@pytest.mark.parametrize("sender", ['"a b"@far.example', "a=b+c@far.example", "bén@bücher.example", "x@[192.0.2.1]"])
def test_any_sender_is_kept(sender: str) -> None:
    path = forwarded(sender)
    assert Address.parse(str(path)) == path
    assert back(path) == str(attrs.evolve(Address.parse(sender), domain=Address.parse(sender).ascii_domain))


def test_a_third_server_names_the_first_alone_and_the_fourth_does_too() -> None:
    theirs = Address.parse("SRS0=HHHH=TT=far.example=ann@one.example")
    second = forwarded(str(theirs), "two.example")
    assert second.local.startswith("SRS1=")
    assert second.local.endswith("=one.example==HHHH=TT=far.example=ann")
    assert back(second) == str(theirs)
    third = forwarded(str(second), "three.example", b"x" * 32)
    assert third.local.partition("=one.example=")[2] == second.local.partition("=one.example=")[2]
    assert back(third, [b"x" * 32]) == str(theirs)


@pytest.mark.parametrize(
    "theirs",
    [  # as libsrs2 and others write them, with either separator and codes of any length
        "SRS0+HHHH=TT=far.example=ann@one.example",
        "srs0-hhhh=TT=far.example=ann-b=c@one.example",
        "SRS0=cbA9=5M=far.example=ann+x@one.example",
        "SRS1=HHHH=zero.example==GGGG=TT=far.example=ann@one.example",
        "SRS1+HHHH=zero.example=+GGGG=TT=far.example=ann@one.example",
        "SRS1-HHHH=zero.example=-GGGG=TT=far.example=ann@one.example",
    ],
)
def test_addresses_of_other_servers_are_taken_apart_as_they_are_written(theirs: str) -> None:
    path = forwarded(theirs, "two.example")
    first = theirs if theirs[3] == "0" else f"SRS0{theirs.partition('zero.example=')[2].partition('@')[0]}@zero.example"
    assert path.local.upper().startswith("SRS1=")
    assert back(path).lower() == first.lower()
    assert back(attrs.evolve(path, local=path.local.lower())).lower() == first.lower()


@pytest.mark.parametrize("days", [0, 21, 22, 500, 1020])
def test_it_counts_for_its_days(days: int) -> None:
    path = forwarded("Ann@far.example")
    later = NOW + days * srs.DAY
    if days <= 21:
        assert back(path, now=later) == "Ann@far.example"
    else:
        with pytest.raises(srs.Expired):
            back(path, now=later)
    assert back(path, now=NOW - srs.DAY) == "Ann@far.example"  # the clock of another process


@given(st.integers(0, 200), st.sampled_from("aA2=@x"))
def test_whoever_changes_it_has_no_address_of_ours(place: int, character: str) -> None:
    path = forwarded("ann@far.example")
    at = place % len(path.local)
    changed = path.local[:at] + character + path.local[at + 1 :]
    if changed.lower() == path.local.lower():
        return
    with pytest.raises(srs.NotOurs):
        back(attrs.evolve(path, local=changed))


@pytest.mark.parametrize(
    "local", ["SRS0=", "SRS0=x", "SRS0=AAAAAA=AA=x", "SRS1=AAAAAA", "SRS1=A==", "SRS2=a=b=c=d", "ann", "SRS0===="]
)
def test_what_is_none_is_none(local: str) -> None:
    with pytest.raises(srs.NotOurs):
        back(Address(local, "us.example"))


def test_what_would_be_too_long_is_left_alone() -> None:
    assert srs.forward(Address("x" * 45, "far.example"), "us.example", KEY, NOW) is None
    assert len(forwarded("x" * 37 + "@far.example").local) == srs.LOCAL_LIMIT


def test_keys_that_are_old_still_open() -> None:
    path = forwarded("ann@far.example", key=b"o" * 32)
    assert back(path, [KEY, b"o" * 32]) == "ann@far.example"
    with pytest.raises(srs.NotOurs):
        back(path)


class Stage:
    """What rewrites, and the way back, with their keys in a database."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = float(NOW)
        self.world = attrs.evolve(environment(self.clock), random=Random(1))
        self.database = MemoryDatabase(self.world)
        self.names = LocalNames(NamesInFile(frozenset({"us.example"})))
        self.forwarding = Forwarding(
            agents={"smtp"},
            hostname="mx.us.example",
            names=self.names,
            keys=self.keys(),
            domain="us.example",
            days=21,
        )

    def keys(self) -> SrsKeys:
        return SrsKeys(self.database.state.of("srs"), self.world)

    def path(
        self,
        sender: Address | None,
        via: tuple[str, ...] = ("x@us.example",),
        agent: str = "smtp",
        moment: int | None = None,
    ) -> Any:
        return self.rewritten(Mail(sender), Route(agent, Address("y", "other.example"), via=via), moment).reverse_path

    def rewritten(self, mail: Mail, route: Route, moment: int | None = None) -> Mail:
        return result_of(self.forwarding.rewritten(mail, route, self.world.now() if moment is None else moment))

    def routed(self, address: Address, keys: SrsKeys | None = None) -> list[str]:
        router = SrsRouter(names=self.names, keys=keys or self.forwarding.keys, environment=self.world, days=21)
        routes = result_of(router.route(address, OwnTransaction()))
        return [str(route.recipient) for route in routes or ()]


def test_only_what_others_sent_and_is_sent_on_by_smtp_is_rewritten() -> None:
    stage = Stage()
    assert stage.path(SENDER).domain == "us.example"
    assert stage.path(None) is None
    assert stage.path(SENDER, via=()) == SENDER
    assert stage.path(SENDER, agent="lmtp") == SENDER
    asked = Mail(SENDER, envid="E1", ret="HDRS")
    told = stage.rewritten(asked, Route("smtp", Address("y", "other.example"), via=("x",)))
    assert told == attrs.evolve(asked, reverse_path=told.reverse_path)
    for ours in (Address("a", "us.example"), Address("root", "mx.us.example")):
        assert stage.path(ours) == ours


def test_the_way_back_is_for_our_addresses_alone() -> None:
    stage = Stage()
    path = stage.path(SENDER)
    assert stage.routed(path) == ["Ann@far.example"]
    assert stage.routed(attrs.evolve(path, domain="else.example")) == []
    assert stage.routed(SENDER) == stage.routed(Address("ann", "us.example")) == []
    with pytest.raises(NoSuchUser, match="not one of ours"):
        stage.routed(Address("SRS0=AAAAAA=AA=far.example=ann", "us.example"))
    stage.clock.advance(30 * srs.DAY)
    with pytest.raises(NoSuchUser, match="expired"):
        stage.routed(path)


def test_it_is_for_reports_alone() -> None:
    stage = Stage()
    path = stage.path(SENDER)
    router = SrsRouter(names=stage.names, keys=stage.keys(), environment=stage.world, days=21)
    with pytest.raises(NotPermitted, match=r"5\.7\.1"):
        result_of(router.route(path, OwnTransaction(mail=Mail(SENDER))))
    assert result_of(router.route(path, OwnTransaction(mail=Mail(None))))


def test_keys_outlive_a_restart_are_replaced_in_time_and_seen_by_other_processes() -> None:
    stage = Stage()
    path = stage.path(SENDER)
    assert stage.routed(path, stage.keys()) == ["Ann@far.example"]
    other = stage.keys()
    result_of(other.get(21))
    stage.clock.advance((KEY_DAYS + 1) * srs.DAY)
    before = stage.path(SENDER)
    assert len(result_of(stage.forwarding.keys.get(21))) == 2
    assert stage.routed(before, other) == ["Ann@far.example"]
    stage.clock.advance(23 * srs.DAY)
    assert len(result_of(stage.keys().get(21))) == 1


def test_every_attempt_says_the_same() -> None:
    """Whatever day it is by then, and whichever key is the newest: the next hop knows the message by it."""
    stage = Stage()
    first = stage.path(SENDER, moment=NOW - 60)  # before there was a key
    assert stage.path(SENDER, moment=NOW + srs.DAY) != first
    stage.clock.advance(KEY_DAYS * srs.DAY - srs.DAY // 2)
    late = stage.world.now()
    second = stage.path(SENDER, moment=late)
    for _ in range(5):
        stage.clock.advance(srs.DAY)
        stage.path(SENDER)
        assert stage.path(SENDER, moment=NOW - 60) == first
        assert stage.path(SENDER, moment=late) == second
    assert len(result_of(stage.forwarding.keys.get(21))) == 2
    assert stage.routed(second) == ["Ann@far.example"]
