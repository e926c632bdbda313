"""Mailing lists over several servers: each member once, in the list's name, and nothing goes round."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from zope.interface import implementer

from mailhub.delivery.lists import ListAgent, _Expansion
from mailhub.delivery.pipeline import Pipeline
from mailhub.errors import MailError, MessageTooLarge, NotPermitted, TemporaryError
from mailhub.interfaces import Delivery, IMailRules, Origin, Placement, Placements
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.lists import MEMBERS_LIMIT
from mailhub.plugins import Component
from mailhub.testing.hubs import Host, Internet

MESSAGE = b"From: ann@us.example\r\nSubject: hello\r\nList-Id: <old.example>\r\n\r\nHow are you?\r\n"
DAY = 86_400
TEAM = {
    "owners": ["boss@far.example"],
    "members": ["ann@us.example", "Ben+x@us.example", "cid@far.example", "dora@third.example", "all@us.example"],
}


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=3) as internet:
        yield internet


def hubs(internet: Internet, us: dict[str, Any]) -> tuple[Host, Host, Host]:
    return (
        internet.hub("us.example", users=["ann", "ben", "eve"], config=us),
        internet.hub("far.example", users=["cid", "boss"]),
        internet.hub("third.example", users=["dora"]),
    )


def got(host: Host, *users: str) -> list[int]:
    return [len(host.inbox(user)) for user in users]


def hand_in(host: Host, sender: str, recipient: str, message: bytes = MESSAGE) -> None:
    """As another server does."""

    async def transaction() -> None:
        origin = Origin("smtp", "10.9.9.9", "s1", helo="mx.else.example")
        mail = Mail(Address.parse(sender) if sender else None, size=len(message))
        begun = await host.hub.pipeline.begin(origin, mail)
        try:
            await begun.recipient(Recipient(Address.parse(recipient)))
            await begun.body().write(message)
            await begun.commit()
        finally:
            begun.abort()

    host._wait(transaction())


def test_each_member_gets_it_once_in_the_name_of_the_list(internet: Internet) -> None:
    lists = {
        "team@us.example": {**TEAM, "name": "The team", "subject_prefix": "[team]"},
        "all@us.example": {"members": ["cid@far.example", "eve@us.example", "team@us.example"], "group": True},
    }
    us, far, third = hubs(internet, {"list": lists, "aliases": {"also@us.example": ["ann@us.example"]}})
    us.submit("ann@us.example", ["team@us.example"], MESSAGE)
    internet.run(120)
    assert got(us, "ann@us.example", "ben@us.example", "eve@us.example") == [1, 1, 1]
    assert got(far, "cid@far.example", "boss@far.example") == [1, 0]
    assert got(third, "dora@third.example") == [1]
    for octets in (*us.inbox("eve@us.example"), *far.inbox("cid@far.example")):
        message = message_from_bytes(octets)
        assert message["Return-Path"] == "<team-bounces@us.example>"
        assert message.get_all("List-Id") == ['"The team" <team.us.example>']
        assert message["List-Post"] == "<mailto:team@us.example>"
        assert message["List-Unsubscribe"] == "<mailto:team-request@us.example?subject=unsubscribe>"
        assert message["Subject"] == "[team] hello"
        assert message["Reply-To"] is None
        assert message.get_payload() == "How are you?\r\n"
    assert not any(host.queued() for host in (us, far, third))


def test_a_group_leaves_the_header_alone(internet: Internet) -> None:
    us, far, _ = hubs(internet, {"list": {"team@us.example": {**TEAM, "group": True, "post": "anyone"}}})
    hand_in(us, "x@else.example", "team@us.example")
    internet.run(120)
    (octets,) = far.inbox("cid@far.example")
    message = message_from_bytes(octets)
    assert (message["Return-Path"], message["List-Id"]) == ("<team-bounces@us.example>", "<old.example>")
    assert message["Delivered-To"] == "team@us.example"
    assert got(us, "ben@us.example") == [1]


def test_failures_are_told_to_the_owner_and_not_to_the_sender(internet: Internet) -> None:
    members = ["nobody@far.example", "gone@us.example", "ben@us.example"]
    us, far, _ = hubs(internet, {"list": {"team@us.example": {**TEAM, "members": members, "post": "anyone"}}})
    us.submit("ann@us.example", ["team@us.example"], MESSAGE)
    internet.run(DAY)
    reports = far.inbox("boss@far.example")
    assert sorted(name for name in members[:2] if any(name.encode() in octets for octets in reports)) == [
        "gone@us.example",
        "nobody@far.example",
    ]
    assert got(us, "ann@us.example", "ben@us.example") == [0, 1]
    assert not us.queued()


@pytest.mark.parametrize(
    ("settings", "sender", "why"),
    [
        ({}, "x@else.example", "5.7.2 Only members may post to team@us.example"),
        ({}, "CID@far.example", ""),
        ({}, "boss@far.example", ""),
        ({}, "", "5.7.2 team@us.example takes no reports"),
        ({"post": "anyone"}, "", "takes no reports"),
        ({"post": "anyone"}, "x@else.example", ""),
        ({"post": "owners"}, "cid@far.example", "5.7.2 Only its owners may post to team@us.example"),
        ({"post": "owners"}, "boss@far.example", ""),
        ({"post": "named", "posters": ["*.else.example"]}, "x@a.else.example", ""),
        ({"post": "named", "posters": ["*.else.example"]}, "cid@far.example", "5.7.2 Only those who are named"),
    ],
)
def test_who_may_post_is_said_at_once(internet: Internet, settings: dict[str, Any], sender: str, why: str) -> None:
    us, _, third = hubs(internet, {"list": {"team@us.example": {**TEAM, **settings}}})
    if why:
        with pytest.raises(NotPermitted) as caught:
            hand_in(us, sender, "team@us.example")
        assert why in f"{caught.value.status} {caught.value.text}"
    else:
        hand_in(us, sender, "team@us.example")
    internet.run(120)
    assert got(third, "dora@third.example") == [0 if why else 1]


def test_owners_are_reached_and_reports_come_to_them(internet: Internet) -> None:
    us, far, _ = hubs(internet, {"list": {"team@us.example": TEAM, "own@us.example": {"members": ["ann@us.example"]}}})
    for role in ("owner", "Bounces", "request"):
        hand_in(us, "" if role == "Bounces" else "x@else.example", f"team-{role}@us.example")
    internet.run(120)
    assert got(far, "boss@far.example") == [3]
    us.reload(
        {"list": {"own@us.example": {"members": ["ann@us.example"]}}, "aliases": {"postmaster": ["eve@us.example"]}}
    )
    hand_in(us, "", "own-bounces@us.example")
    internet.run(120)
    assert got(us, "eve@us.example") == [1]
    with pytest.raises(MailError):
        hand_in(us, "", "other-owner@us.example")


def test_lists_of_two_servers_in_one_another_end(internet: Internet) -> None:
    far = internet.hub(
        "far.example",
        users=["cid"],
        config={"list": {"b@far.example": {"post": "anyone", "members": ["cid@far.example", "a@us.example"]}}},
    )
    us = internet.hub(
        "us.example",
        users=["ann"],
        config={"list": {"a@us.example": {"post": "anyone", "members": ["ann@us.example", "b@far.example"]}}},
    )
    us.submit("ann@us.example", ["a@us.example"], MESSAGE)
    internet.run(DAY)
    assert got(us, "ann@us.example") == got(far, "cid@far.example") == [1]
    assert not us.queued()
    assert not far.queued()


def test_what_is_too_large_or_sent_by_a_program_does_not_go_to_the_members(internet: Internet) -> None:
    us, _, third = hubs(internet, {"list": {"team@us.example": {**TEAM, "message_size_bytes": 1000}}})
    with pytest.raises(MessageTooLarge):
        hand_in(us, "cid@far.example", "team@us.example", MESSAGE + b"x" * 1000)
    hand_in(us, "cid@far.example", "team@us.example", b"Auto-Submitted: auto-replied\r\n" + MESSAGE)
    internet.run(120)
    assert got(third, "dora@third.example") == [0]


@implementer(IMailRules)
class Filing:
    """Files what comes by a list."""

    def apply(self, account: str, mail: Any, message: Any) -> Placements | None:
        return Placements([Placement("Trash")]) if b"list-id" in message.header.lower() else None


def test_rules_of_members_are_asked(internet: Internet) -> None:
    filing = Component("rule", "filing", lambda _, hub: Filing())
    config = {"list": {"team@us.example": TEAM}, "delivery": {"rules": ["filing"]}}
    us = internet.hub("us.example", users=["ann", "ben"], config=config, plugins=[filing])
    us.submit("ann@us.example", ["team@us.example"], MESSAGE)
    internet.run(120)
    assert got(us, "ben@us.example") == [0]


def test_a_list_of_thousands_holds_nobody_up(internet: Internet) -> None:
    us = internet.hub("us.example", users=["ann", "ben"])
    internet.hub("ghost.example").unlisten()
    names = us.hub.database.names
    us._wait(names.put_list("big@us.example", '{"post": "anyone"}'))
    us._wait(names.join_list("big@us.example", [f"m{number}@ghost.example" for number in range(2500)]))
    us._wait(names.join_list("big@us.example", ["ben@us.example"]))
    us.submit("ann@us.example", ["big@us.example"], MESSAGE)
    internet.run(30)
    assert got(us, "ben@us.example") == [1]
    rows = [row for message in us.queued() for row in message.recipients]
    assert len({row.route.recipient.key for row in rows}) == len(rows) == 2500


@pytest.mark.parametrize("portion", [1, 2, 500])
def test_who_is_a_member_by_several_names_has_it_once(
    internet: Internet, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr("mailhub.delivery.lists._PORTION", portion)
    names = {
        "also@us.example": ["ann@us.example"],
        "both@us.example": ["ann@us.example", "ben@us.example", "cid@far.example"],
        "again@us.example": ["also@us.example", "cid@FAR.example"],
    }
    members = ["ann@us.example", "Ann+x@us.example", *names, "cid@far.example", "eve@us.example"]
    us, far, _ = hubs(internet, {"aliases": names, "list": {"team@us.example": {**TEAM, "members": members}}})
    us.submit("ann@us.example", ["team@us.example"], MESSAGE)
    internet.run(120)
    assert got(us, "ann@us.example", "ben@us.example", "eve@us.example") == [1, 1, 1]
    assert got(far, "cid@far.example", "boss@far.example") == [1, 0]


@pytest.mark.parametrize("verp", ["false", "true"])
def test_members_are_looked_up_and_committed_some_at_a_time(
    internet: Internet, monkeypatch: pytest.MonkeyPatch, verp: str
) -> None:
    """Of as many members as a list may have, so that other work has its turn between them."""
    us = internet.hub("us.example", users=["ann"])
    internet.hub("ghost.example").unlisten()
    names = us.hub.database.names
    us._wait(names.put_list("big@us.example", f'{{"post": "anyone", "verp": {verp}}}'))
    us._wait(names.join_list("big@us.example", [f"m{number}@ghost.example" for number in range(MEMBERS_LIMIT)]))
    turns: list[int] = []
    portions: list[int] = []
    advance, send_on, ways = type(internet.clock).callLater, Pipeline.send_on, _Expansion._ways

    def call_later(clock: Any, delay: float, call: Any, *arguments: Any, **more: Any) -> Any:
        def turn(*arguments: Any, **more: Any) -> Any:
            turns.append(0)
            return call(*arguments, **more)

        return advance(clock, delay, turn, *arguments, **more)

    async def one_more(expansion: Any, member: Address) -> Any:
        turns[-1] += 1
        return await ways(expansion, member)

    async def portion(pipeline: Any, mail: Mail, accepted: Any, intake: Any, once: str) -> Any:
        portions.append(len(accepted))
        return await send_on(pipeline, mail, accepted, intake, once)

    monkeypatch.setattr(type(internet.clock), "callLater", call_later)
    monkeypatch.setattr(_Expansion, "_ways", one_more)
    monkeypatch.setattr(Pipeline, "send_on", portion)
    us.submit("ann@us.example", ["big@us.example"], MESSAGE)
    internet.run(30)
    assert (sum(turns), sum(portions)) == (MEMBERS_LIMIT, MEMBERS_LIMIT)
    assert max(turns) <= 50
    assert max(portions) <= 400  # as chance would have it, of 512 at the most and half as many at the least


@pytest.mark.parametrize("power", [False, True])
def test_a_server_that_ends_anywhere_in_the_middle_of_a_list_leaves_out_nobody_and_doubles_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power: bool
) -> None:
    monkeypatch.setattr("mailhub.delivery.lists._PORTION", 2)
    ours, theirs = [f"u{number}" for number in range(4)], [f"t{number}" for number in range(2)]
    members = [*(f"{name}@us.example" for name in ours), *(f"{name}@far.example" for name in theirs)]
    config = {
        "database": {"type": "inline"},
        "list": {"team@us.example": {"post": "anyone", "owners": ["boss@far.example"], "members": members}},
    }
    message = b"Message-ID: <1@us.example>\r\n" + MESSAGE
    steps, number = 1000, 0
    while number < steps:
        number += 1
        with Internet(1, folder=tmp_path / str(number), poll_seconds=3600) as internet:
            us = internet.hub("us.example", ours, config)
            far = internet.hub("far.example", ["boss", "eve", *theirs], {"database": {"type": "inline"}})
            first = us.disk.steps
            us.disk.kill_at(first + number, lambda what, us=us: us.kill(power=power))  # type: ignore[misc]
            far.submit("eve@far.example", ["team@us.example"], message)
            internet.run(120)
            us.disk.spare()
            if us.is_running:
                steps = us.disk.steps - first
            else:
                us.boot()
            internet.run(3 * 3600)
            assert not us.queued()
            assert not far.queued()
            assert got(us, *(f"{name}@us.example" for name in ours)) == [1] * 4
            assert got(far, *(f"{name}@far.example" for name in theirs)) == [1] * 2
            assert got(far, "boss@far.example") == [0]
    assert number > 5


def test_a_message_that_is_made_for_the_members_again_comes_once(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, far, third = hubs(internet, {"list": {"team@us.example": TEAM}})
    given: list[Delivery] = []
    deliver = ListAgent.deliver

    async def again(agent: ListAgent, delivery: Delivery) -> Any:
        """As after a crash that came before the row was settled."""
        given.append(delivery)
        await deliver(agent, delivery)
        return await deliver(agent, delivery)

    monkeypatch.setattr(ListAgent, "deliver", again)
    us.submit("ann@us.example", ["team@us.example"], MESSAGE)
    internet.run(120)
    assert len(given) == 1
    assert (got(far, "cid@far.example"), got(third, "dora@third.example")) == ([1], [1])


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize(("before", "after"), [(6, 20), (20, 6), (4, 5)])
def test_who_stays_has_it_once_whoever_comes_and_goes_before_a_repetition(
    internet: Internet, monkeypatch: pytest.MonkeyPatch, before: int, after: int, refused: bool
) -> None:
    """Also where the number of members, or what is set about the list, would have it made otherwise the second time:
    after a portion that could not be committed, and after an end that came before the row was settled."""
    monkeypatch.setattr("mailhub.delivery.lists._PORTION", 4)
    everybody = [f"m{number}" for number in range(20)]
    us, far = internet.hub("us.example", users=["ann"]), internet.hub("far.example", users=[*everybody, "boss"])
    names = us.hub.database.names
    settings = '{"post": "anyone", "owners": ["boss@far.example"]'
    us._wait(names.put_list("team@us.example", settings + "}"))
    us._wait(names.join_list("team@us.example", [f"{name}@far.example" for name in everybody[:before]]))
    deliver, send_on = ListAgent.deliver, Pipeline.send_on
    portions: list[str] = []

    async def change() -> None:
        await names.put_list("team@us.example", settings + ', "subject_prefix": "[team]", "reply_to_list": true}')
        await names.leave_list("team@us.example", [f"{name}@far.example" for name in ["m0", *everybody[after:]]])
        await names.join_list("team@us.example", [f"{name}@far.example" for name in everybody[before:after]])

    async def refused_once(pipeline: Any, mail: Mail, accepted: Any, intake: Any, once: str) -> Any:
        portions.append(once)
        if refused and len(portions) == 2:
            await change()
            raise TemporaryError("No room")
        return await send_on(pipeline, mail, accepted, intake, once)

    async def again(agent: ListAgent, delivery: Delivery) -> Any:
        if not refused:
            await deliver(agent, delivery)
            await change()
        return await deliver(agent, delivery)

    monkeypatch.setattr(Pipeline, "send_on", refused_once)
    monkeypatch.setattr(ListAgent, "deliver", again)
    us.submit("ann@us.example", ["team@us.example"], MESSAGE)
    internet.run(DAY)
    assert not us.queued()
    counts = got(far, *(f"{name}@far.example" for name in everybody))
    stayed = range(1, min(before, after))
    assert [counts[number] for number in stayed] == [1 for _ in stayed]
    assert max(counts) == 1


def test_who_asks_for_success_has_it_from_the_list_and_from_nobody_else(internet: Internet) -> None:
    us, far, _ = hubs(internet, {"list": {"team@us.example": {**TEAM, "members": TEAM["members"][:4]}}})
    mail = Mail(Address.parse("ann@us.example"), size=len(MESSAGE), envid="E1")
    us._wait(us.hand_in(mail, [Recipient(Address.parse("team@us.example"), frozenset({"SUCCESS"}))], MESSAGE))
    internet.run(120)
    own, report = us.inbox("ann@us.example")
    assert b"List-Id" in own
    assert b"Action: delivered" in report
    assert b"team@us.example" in report
    assert b"cid@far.example" not in report
    assert got(far, "cid@far.example", "boss@far.example") == [1, 0]
