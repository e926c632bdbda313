"""Keys of DKIM in the database, and how one follows another whatever is killed meanwhile."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs
import dkim  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mailhub.checks.signing import SigningKey, new_key
from mailhub.cli.offline import Nowhere, wait
from mailhub.delivery.authentication.keys import (
    FRESH_SECONDS,
    ActiveKeys,
    KeptKey,
    KeptKeys,
    is_shown,
    made,
    over,
    switched,
    too_old,
    zone_line,
)
from mailhub.delivery.authentication.options import SigningOptions
from mailhub.delivery.authentication.rotation import begin_rotation, follow_dns
from mailhub.delivery.authentication.signer import Signer
from mailhub.interfaces import Environment, IState
from mailhub.store.limits import StoreLimits
from mailhub.store.memory.state import MemoryState
from mailhub.store.sqlite.database import Database
from mailhub.testing.resolver import FakeResolver
from mailhub.threads import InlineThreads

RSA, ED25519 = new_key("rsa"), new_key("ed25519")
NOW = 1_704_067_200
DAY = 86_400


@pytest.fixture(params=["memory", "sqlite"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IState]:
    if request.param == "memory":
        yield MemoryState(lambda: NOW)
        return
    nowhere = Nowhere()
    clock: Any = Clock()
    environment = Environment(clock, InlineThreads(), nowhere, nowhere, Random(1), tmp_path)
    database = Database(environment, StoreLimits(), create=True)
    wait(database.start())
    yield database.state.of("dkim")
    wait(database.stop())


def key(selector: str = "r1", domain: str = "xx.example", private: Any = RSA, **more: Any) -> KeptKey:
    return KeptKey(SigningKey(domain, selector, private), NOW, **more)


def told(keys: Sequence[KeptKey]) -> list[tuple[str, str, str]]:
    return [(each.key.domain, each.key.selector, each.state) for each in keys]


def test_they_are_kept_and_come_back(state: IState) -> None:
    keys = [key(), key("e1", private=ED25519, state="retired", seen=NOW, until=NOW + 5, announced=False)]
    other = key("r1", "xx.example.org")
    wait(KeptKeys(state).put([*keys, other]))
    kept = KeptKeys(state)
    assert told(wait(kept.all())) == told([keys[1], keys[0], other])
    again = wait(kept.all("xx.example"))[0]
    assert attrs.evolve(again, key=keys[1].key) == keys[1]
    assert again.published == keys[1].published
    assert again.key.private.private_bytes_raw() == ED25519.private_bytes_raw()  # type: ignore[union-attr]
    wait(kept.remove(keys))
    assert told(wait(kept.all())) == told([other])


def test_what_is_damaged_is_left_out(state: IState) -> None:
    wait(KeptKeys(state).put([key()]))
    wait(state.put({"xx.example r2": b"{}", "xx.example r3": b"\xff", "xx.example r4": b'{"pem": 1}', "odd": b"[]"}))
    assert told(wait(KeptKeys(state).all())) == told([key()])


def test_a_running_server_sees_them_within_a_second(state: IState) -> None:
    clock: Any = Clock()
    active = ActiveKeys(KeptKeys(state), clock)
    wait(active.refresh())
    assert not active.any
    wait(KeptKeys(state).put([key(state="active"), key("e1", private=ED25519, state="active"), key("r0")]))
    clock.advance(FRESH_SECONDS)
    wait(active.refresh())
    assert [each.selector for each in active.for_domain("mx.xx.example")] == ["r1", "e1"]
    assert not active.for_domain("example")


def test_private_halves_are_in_no_text() -> None:
    shown = repr(key()) + str(key().key)
    assert "PRIVATE" not in shown
    assert "private" not in shown


def test_selectors_are_of_the_day_and_not_taken() -> None:
    first = made({"rsa": RSA, "ed25519": ED25519}, "xx.example", (), NOW)
    assert [each.key.selector for each in first] == ["20240101-ed25519", "20240101-rsa"]
    second = made({"rsa": RSA}, "xx.example", {"20240101-rsa"}, NOW)
    assert [each.key.selector for each in second] == ["20240101-2-rsa"]
    assert [each.key.selector for each in made({"rsa": RSA}, "xx.example", (), NOW, "s")] == ["s"]


def test_records_are_in_strings_of_255_octets() -> None:
    resolver = FakeResolver()
    for each in (key(), key("e1", private=ED25519)):
        resolver.load(zone_line(each.key))
        assert resolver.txt[each.key.name] == [each.key.record.encode()]


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (key().key.record, True),
        (key().key.record + "; t=y", True),
        (key().key.record.replace("k=rsa; ", ""), True),
        (key().key.record + "; s=tlsrpt", False),
        (key().key.record + "; h=sha1", False),
        (key("e1", private=ED25519).key.record, False),
        ("v=DKIM1; p=", False),
        ("v=spf1 -all", False),
    ],
    ids=range(8),  # the keys are others in each process of the tests
)
def test_what_dns_has_is_the_key_or_not(record: str, shown: bool) -> None:
    assert is_shown(key().key, [record.encode()]) == shown
    assert not is_shown(key().key, [])


def test_who_signs_next_replaces_one_of_its_kind_alone() -> None:
    old, other, new = key(state="active"), key("e1", private=ED25519, state="active"), key("r2", private=new_key("rsa"))
    assert not switched([old, other, new], (), NOW, 5)
    changed = switched([old, other, new], {new.published}, NOW, 5)
    assert told(changed) == [("xx.example", "r1", "retired"), ("xx.example", "r2", "active")]
    assert changed[0].until == NOW + 5
    assert not over(changed, NOW + 4)
    assert over(changed, NOW + 5) == [changed[0]]


def test_only_what_has_no_follower_gets_one() -> None:
    keys = [key(state="active", seen=NOW), key("e1", private=ED25519, state="active", seen=NOW)]
    assert not too_old(keys, NOW + DAY - 1, 1)
    assert too_old(keys, NOW + DAY, 1) == {"xx.example": ["rsa", "ed25519"]}
    assert too_old([*keys, key("r2")], NOW + DAY, 1) == {"xx.example": ["ed25519"]}


# --- Killed between any two steps -------------------------------------------------------------------------------------


class Killed(Exception):
    """There is no process any more."""


class Mortal:
    """A state whose process is killed before, or right after, its change of this number."""

    def __init__(self, state: IState, change: int, *, after: bool) -> None:
        self._state, self._left, self._after = state, change, after

    async def put(self, values: Mapping[str, bytes], seconds: int = 0) -> None:
        await self._do(lambda: self._state.put(values, seconds))

    async def remove(self, names: Sequence[str]) -> None:
        await self._do(lambda: self._state.remove(names))

    async def _do(self, change: Callable[[], Any]) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        await change()
        if self._left == 0:
            raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("change", [1, 2, 3, 4])
def test_a_rotation_is_killed_at_any_step_and_goes_on(state: IState, change: int, after: bool) -> None:
    resolver = FakeResolver()
    old = [key(state="active", seen=NOW), key("e1", private=ED25519, state="active", seen=NOW)]
    resolver.txt |= {each.key.name: [each.key.record.encode()] for each in old}
    wait(KeptKeys(state).put(old))
    mortal: Any = Mortal(state, change, after=after)

    async def rotate(some: Any) -> None:
        kept = KeptKeys(some)
        if not any(each.state == "retired" for each in await kept.all()):
            await begin_rotation(kept, InlineThreads(), "xx.example", ["rsa", "ed25519"], NOW)
        for algorithm in ("rsa", "ed25519"):
            for each in await kept.all():
                if each.state == "new" and each.algorithm == algorithm:
                    resolver.txt[each.key.name] = [each.key.record.encode()]
            await follow_dns(kept, resolver, NOW, 5)
        await kept.remove(over(await kept.all(), NOW + 5))

    def good() -> None:
        """There is one key of each kind that signs, and DNS has it."""
        signing = [each for each in wait(KeptKeys(state).all()) if each.state == "active"]
        assert sorted(each.algorithm for each in signing) == ["ed25519", "rsa"]
        assert all(resolver.txt[each.key.name] == [each.key.record.encode()] for each in signing)

    with pytest.raises(Killed):
        wait(rotate(mortal))
    good()
    wait(rotate(state))
    good()
    assert sorted(each.state for each in wait(KeptKeys(state).all())) == ["active", "active"]


# --- Signing ----------------------------------------------------------------------------------------------------------


def signer(*keys: KeptKey, **options: Any) -> Signer:
    state: Any = MemoryState(lambda: NOW)
    wait(KeptKeys(state).put([attrs.evolve(each, state="active") for each in keys]))
    clock: Any = Clock()
    clock.advance(NOW)
    nowhere = Nowhere()
    environment = Environment(clock, InlineThreads(), nowhere, nowhere, Random(1), Path())
    active = ActiveKeys(KeptKeys(state), clock)
    return Signer(SigningOptions(**options), active, environment, "mx.xx.example", lambda: ["yy.example", "xx.example"])


def signers(made_of: Signer, from_: str) -> list[str]:
    octets = wait(made_of.signed(f"From: {from_}\r\n\r\nhi\r\n".encode()))
    return [line.split("d=")[1].split(";")[0] for line in octets.decode().splitlines() if " d=" in line]


def test_who_signs_is_the_domain_of_each_author_or_the_nearest_above() -> None:
    keys = [
        key("a"),
        key("b", "sub.xx.example"),
        key("c", "yy.example"),
        key("d", "zz.example"),
        key("e", "ww.example"),
    ]
    made_of = signer(*keys)
    assert signers(made_of, "a@xx.example") == ["xx.example"]
    assert signers(made_of, "a@x.sub.xx.example") == ["sub.xx.example"]
    assert signers(made_of, "a@XX.example, b@no.example, c@y.yy.example") == ["xx.example", "yy.example"]
    assert signers(made_of, "a@xx.example, b@m.xx.example") == ["xx.example"]
    assert len(signers(made_of, "a@xx.example, c@yy.example, d@zz.example, e@ww.example")) == 3
    assert signers(made_of, "a@no.example") == []
    assert signers(signer(*keys, sign=False), "a@xx.example") == []


def test_seals_are_of_rsa_and_of_the_hosts_domain() -> None:
    ours, theirs = key("r1"), key("r2", "yy.example")
    ed25519 = key("e1", private=ED25519)
    assert wait(signer(ed25519).sealing_key()) is None
    for keys, wanted in (([ours, theirs, ed25519], "r1"), ([theirs, ed25519], "r2")):
        found = wait(signer(*keys).sealing_key())
        assert found is not None
        assert found.selector == wanted


NAMES = st.sampled_from(["Subject", "X-Odd", "To", "Cc", "DKIM-Signature", "Sender", "Received", "List-Id"])
VALUES = st.binary(max_size=60).map(lambda octets: bytes(32 + each % 94 for each in octets))
BODIES = st.lists(st.sampled_from([b"", b" ", b"a  b\t", b"\xff\xfe", b".", b"line"]), max_size=8).map(b"\r\n".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=8), BODIES)
def test_an_oracle_verifies_whatever_is_signed(fields: list[tuple[str, bytes, bool]], body: bytes) -> None:
    made_of = signer(key(), key("e1", private=ED25519))
    header = b"From: Ann <ann@xx.example>\r\n"
    for name, value, folded in fields:
        header += name.encode() + b": " + (b"\r\n\t" if folded else b"") + b"x" + value + b"\r\n"
    message = wait(made_of.signed(header + b"\r\n" + body + b"\r\n"))
    records = {f"{each.name}.".encode(): _for_oracle(each) for each in made_of.active.of("xx.example")}
    oracle = dkim.DKIM(message)
    for place in range(2):
        assert oracle.verify(idx=place, dnsfunc=lambda name, timeout=5: records.get(name))


def _for_oracle(each: SigningKey) -> bytes:
    assert base64.b64decode(each.record.rpartition("p=")[2])
    return each.record.encode()


class Slow:
    """Threads in which something happens meanwhile."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    async def run(self, function: Callable[..., Any], *args: object) -> Any:
        made_of = function(*args)
        self._meanwhile()
        return made_of


def test_followers_that_two_make_at_once_are_one(state: IState) -> None:
    """The server and the command."""
    kept = KeptKeys(state)
    wait(kept.put([key("e1", private=ED25519, state="active")]))

    def other() -> None:
        wait(begin_rotation(KeptKeys(state), InlineThreads(), "xx.example", ["ed25519"], NOW))

    threads: Any = Slow(other)
    new = wait(begin_rotation(kept, threads, "xx.example", ["ed25519"], NOW))
    assert told(new) == [("xx.example", "20240101-ed25519", "new")]
    assert [each.published for each in wait(KeptKeys(state).all()) if each.state == "new"] == [new[0].published]
