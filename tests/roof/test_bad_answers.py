"""Answers of plugins that break whoever looks at them, or have no end: named by plugin, file and method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, repeat
from typing import Any

import pytest
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs, formatEvent

from mailhub.interfaces import ALIAS, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Outcome
from mailhub.plugins import Component
from mailhub.testing.hubs import Internet

ANN, BEN = "ann@xx.example", "ben@xx.example"
PASSWORD = "correct horse"
METHODS = {
    "policy": "begin",
    "router": "route",
    "rule": "apply",
    "directory": "exists",
    "checker": "requestAvatarId",
    "agent": "deliver",
}
ROUTERS = ["odd", "aliases", "accounts", "postmaster", "catch-all", "static", "exchangers"]
CONFIG: dict[str, dict[str, Any]] = {
    "policy": {"delivery": {"policies": ["odd"]}},
    "router": {"delivery": {"routers": ROUTERS}},
    "rule": {"delivery": {"rules": ["odd"]}},
    "directory": {"auth": {"directories": ["odd"]}},
    "checker": {"auth": {"checkers": ["accounts", "odd"]}},
    "agent": {"route": {"far.example": {"agent": "odd"}}},
}


class Plugin:
    """All kinds in one, whose only methods give what a test says."""

    def __init__(self, kind: str, act: Callable[[], Any]) -> None:
        if kind == "checker":
            self.credentialInterfaces = (IUsernamePassword,)
        setattr(self, METHODS[kind], lambda *arguments: act())

    def stop(self) -> None:
        """Of agents."""


class Scene:
    """A server on which one plugin of a kind is used."""

    def __init__(self, internet: Internet, kind: str, act: Callable[[], Any]) -> None:
        self.internet = internet
        self.kind = kind
        self.host = internet.hub(
            "xx.example", config=CONFIG[kind], plugins=[Component(kind, "odd", lambda options, hub: Plugin(kind, act))]
        )
        for user in (ANN, BEN):
            self.host.add_account(user, PASSWORD)

    def ask(self) -> bytes:
        """What a client hears where the plugin is asked."""
        if self.kind == "checker":
            client = self.internet.call(self.host, "imaps")
            client.expect(b"* OK")
            return client.ask(b'a LOGIN nobody@xx.example "secret"\r\n', b"a NO")
        client = self.internet.call(self.host, "smtp")
        if self.kind == "policy":
            client.expect(b"4")
            return client.heard
        client.expect(b"220")
        client.ask(b"EHLO client.example\r\n", b"250 ")
        client.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250")
        to = "nobody@xx.example" if self.kind == "directory" else ANN
        if self.kind != "rule":
            return client.ask(f"RCPT TO:<{to}>\r\n".encode(), b"4")
        client.ask(f"RCPT TO:<{to}>\r\n".encode(), b"250")
        client.ask(b"DATA\r\n", b"354")
        return client.ask(b"Subject: x\r\n\r\nx\r\n.\r\n", b"250")


def line(events: Any, kind: str) -> str:
    """The one that names the plugin; no other complains."""
    complaints = [formatEvent(event) for event in events if event["log_level"].name in ("error", "critical")]
    assert len(complaints) == 1, complaints
    assert complaints[0].startswith(f"{kind} failed: {kind}=odd "), complaints
    assert f"method={METHODS[kind]} " in complaints[0]
    assert f"file={__file__}" in complaints[0]
    return complaints[0]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no picture")


class Quits:
    def __repr__(self) -> str:
        raise SystemExit(3)


class Classless:
    """`isinstance` asks for its class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, other: Any) -> None:
        raise RuntimeError("no class")


class Nothing:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Boolless:
    def __bool__(self) -> bool:
        raise SystemExit(4)


class Endless(list[Any]):
    """Says that it has one element."""

    def __iter__(self) -> Iterator[Any]:
        return repeat(Route("store", Address.parse(ANN)))


class Broken(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("no elements")


HOSTILE = [Unshowable, Quits, Classless, Nothing, Boolless, lambda: Endless([1]), lambda: Broken([1])]


@pytest.mark.parametrize("kind", ["policy", "router", "rule", "directory", "checker"])
@pytest.mark.parametrize("make", HOSTILE)
def test_what_breaks_whoever_looks_at_it_is_named(kind: str, make: Callable[[], Any]) -> None:
    with Internet(seed=1) as internet:
        scene = Scene(internet, kind, make)
        with capturedLogs() as events:
            scene.ask()
        line(events, kind)


class Own(BaseException):
    """A plugin's own."""


def raised(error: BaseException) -> Any:
    raise error


async def later(error: BaseException) -> Any:
    await Deferred.fromCoroutine(soon())
    raise error


async def soon() -> None:
    return None


WAYS: dict[str, Callable[[BaseException], Any]] = {"plainly": raised, "in a coroutine": later, "in a Deferred": fail}


@pytest.mark.parametrize(
    ("kind", "error", "way"),
    [
        *((kind, GeneratorExit, way) for kind in ("policy", "router", "rule", "directory", "checker") for way in WAYS),
        *(("router", error, "in a coroutine") for error in (SystemExit, KeyboardInterrupt, Own, StopIteration)),
    ],
)
def test_whatever_it_raises_and_however_is_a_failure_like_others(
    kind: str, error: type[BaseException], way: str
) -> None:
    with Internet(seed=1) as internet:
        scene = Scene(internet, kind, lambda: WAYS[way](error()))
        with capturedLogs() as events:
            scene.ask()
        assert error.__name__ in line(events, kind)


def test_a_routers_list_is_counted_before_anything_is_made_of_it() -> None:
    asked = count()
    with Internet(seed=1) as internet:
        scene = Scene(
            internet, "router", lambda: [Route(ALIAS, Address.parse(f"a{next(asked)}@xx.example")) for _ in range(5000)]
        )
        with capturedLogs() as events:
            assert b"4.3.5" in scene.ask()
        assert "more than 1000 routes" in line(events, "router")
        assert next(asked) == 5000


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit(5)


@pytest.mark.parametrize(
    ("error", "said"), [(Unspeakable(), "<SystemExit in str()>"), (RuntimeError("x" * 100_000), "x" * 900)]
)
def test_what_it_says_of_its_failure_is_told_and_bounded(error: Exception, said: str) -> None:
    with Internet(seed=1) as internet:
        scene = Scene(internet, "router", lambda: raised(error))
        with capturedLogs() as events:
            scene.ask()
        text = line(events, "router")
        assert said in text.replace("\\", "")
        assert len(text) < 1500


def complaints(events: Any) -> list[str]:
    return [formatEvent(event) for event in events if event["log_namespace"] == "mailhub.plugins"]


def delivered(answer: Callable[[Any], Any]) -> tuple[list[str], list[str]]:
    """What the log says of an agent and of the message that it is given."""

    class Agent:
        def deliver(self, delivery: Any) -> Any:
            return answer(delivery)

        def stop(self) -> None:
            """Nothing is kept."""

    agent = Component("agent", "odd", lambda options, hub: Agent())
    with Internet(seed=1) as internet, capturedLogs() as events:
        host = internet.hub("xx.example", config=CONFIG["agent"], plugins=[agent])
        host.submit(ANN, ["far@far.example"], b"Subject: x\r\n\r\nx\r\n")
        internet.run(1)
    return complaints(events), list(map(formatEvent, events))


def outcomes(delivery: Any, outcome: Outcome) -> dict[int, Outcome]:
    return {recipient.id: outcome for recipient in delivery.recipients}


def test_an_outcome_for_who_was_not_asked_about_is_named_and_the_others_count() -> None:
    said, fates = delivered(lambda delivery: {**outcomes(delivery, Outcome.delivered()), 999_999: Outcome.delivered()})
    assert len(said) == 1
    assert said[0].startswith("agent failed: agent=odd ")
    assert "an Outcome for 999999, an id that it was not asked about" in said[0]
    assert [line for line in fates if line.startswith("delivered: ")]


def test_what_an_agent_says_of_a_recipient_is_bounded() -> None:
    said, fates = delivered(lambda delivery: outcomes(delivery, Outcome.delayed("y" * 100_000, remote="z" * 5000)))
    assert said == []
    (line,) = [line for line in fates if line.startswith("delayed: ")]
    assert "y" * 900 in line
    assert len(line) < 3000


class Unlike(dict[int, Outcome]):
    def __contains__(self, key: object) -> bool:
        raise SystemExit(6)


@pytest.mark.parametrize("make", [*HOSTILE, Unlike])
def test_an_agents_answer_that_breaks_whoever_looks_at_it_is_named_and_the_mail_waits(make: Callable[[], Any]) -> None:
    said, fates = delivered(lambda _: make())
    assert len(said) == 1
    assert said[0].startswith("agent failed: agent=odd ")
    assert [line for line in fates if line.startswith("delayed: ")]
