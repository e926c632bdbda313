"""Lists whose copies name their members (VERP), and members whose mail comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.delivery.list_bounces import Bounces
from mailhub.delivery.list_returns import BounceAgent
from mailhub.errors import NoSuchUser
from mailhub.interfaces import Delivery
from mailhub.message.address import Address
from mailhub.testing.hubs import Host, Internet
from tests.sim.test_lists import MESSAGE, hand_in

NAME = "team@us.example"
DAY = 86_400
PATH = re.compile(r"team-bounces\+([^@]+)=[a-z2-7]{8}@us\.example")
FAILED = b"""Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

Sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.far.example

Final-Recipient: rfc822; cid@far.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 Nobody of that name

--b--
""".replace(b"\n", b"\r\n")
LATE = FAILED.replace(b"Action: failed", b"Action: delayed")
READ = FAILED.replace(b"report-type=delivery-status", b"report-type=disposition-notification").replace(
    b"message/delivery-status", b"message/disposition-notification"
)
UNCLEAR = b"Subject: failure notice\r\n\r\nHi. I could not deliver your message.\r\n"
AWAY = b"Auto-Submitted: auto-replied\r\nSubject: I am away\r\n\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=5, poll_seconds=3600) as internet:
        yield internet


def stage(internet: Internet, members: tuple[str, ...] = ("cid@far.example",), **settings: Any) -> tuple[Host, Host]:
    """A list of ours with members elsewhere, whose owner is boss."""
    team = {"owners": ["boss@us.example"], "verp": True, "post": "anyone", "members": list(members), **settings}
    us = internet.hub("us.example", users=["ann", "boss"], config={"list": {NAME: team}})
    return us, internet.hub("far.example", users=["cid", "dan"])


def post(internet: Internet, us: Host) -> None:
    us.submit("ann@us.example", [NAME], MESSAGE)
    internet.run(300)


def path(host: Host, user: str) -> str:
    """Where failures of the newest copy are told."""
    found = re.match(rb"Return-Path: <([^>]*)>", host.inbox(user)[-1])
    assert found is not None
    return found[1].decode()


def suspended(us: Host) -> list[str]:
    return [each.member for each in us._wait(Bounces.of(us.hub.database.state).suspended(NAME)).values()]


def notices(us: Host) -> list[str]:
    mails = [message_from_bytes(octets) for octets in us.inbox("boss@us.example")]
    return [str(mail.get_payload()) for mail in mails if mail["Subject"] == f"A member of {NAME} is suspended"]


def come_back(internet: Internet, us: Host, to: str, report: bytes = FAILED, sender: str = "") -> None:
    hand_in(us, sender, to, report)
    internet.run(60)


def test_the_copy_of_each_member_elsewhere_has_its_own_return_address_and_those_here_are_one(
    internet: Internet,
) -> None:
    us, far = stage(internet, ("cid@far.example", "dan@far.example", "ann@us.example", "old@us.example"))
    post(internet, us)
    paths = [path(far, user) for user in ("cid@far.example", "dan@far.example")]
    assert [PATH.fullmatch(each)[1] for each in paths] == ["cid=far.example", "dan=far.example"]  # type: ignore[index]
    assert path(us, "ann@us.example") == "team-bounces@us.example"
    assert not us.queued()


def test_copies_with_their_own_return_addresses_are_one_message_in_the_queue(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, _ = stage(internet, tuple(f"m{number}@ghost.example" for number in range(100)))
    internet.hub("ghost.example").unlisten()
    post(internet, us)
    (message,) = us.queued()
    paths = {row.route.reverse_path for row in message.recipients}
    assert len(message.recipients) == len(paths) == 100


def test_a_list_without_the_option_has_one_return_address(internet: Internet) -> None:
    us, far = stage(internet, verp=False)
    post(internet, us)
    assert path(far, "cid@far.example") == "team-bounces@us.example"


def test_who_is_reached_by_two_members_has_one_copy(internet: Internet) -> None:
    us, far = stage(internet, ("also@us.example", "cid@far.example", "more@us.example"))
    us.reload(
        {
            "list": {NAME: {"members": ["also@us.example", "cid@far.example", "more@us.example"], "verp": True}},
            "aliases": {
                "also@us.example": ["cid@far.example"],
                "more@us.example": ["cid@far.example", "dan@far.example"],
            },
        }
    )
    hand_in(us, "also@us.example", NAME)
    internet.run(300)
    assert (len(far.inbox("cid@far.example")), len(far.inbox("dan@far.example"))) == (1, 1)


def test_who_fails_on_five_days_is_suspended_told_of_once_and_resumed_by_the_operator(internet: Internet) -> None:
    us, far = stage(internet, ("gone@far.example", "cid@far.example"))
    for day in range(7):
        assert suspended(us) == (["gone@far.example"] if day >= 5 else [])
        post(internet, us)
        internet.run(DAY)
    (notice,) = notices(us)
    assert "mailhub list resume team@us.example gone@far.example" in notice
    assert "on 5 days" in notice
    assert "5.1.1" in notice
    assert len(us.inbox("boss@us.example")) == 1
    assert len(far.inbox("cid@far.example")) == 7
    us._wait(Bounces.of(us.hub.database.state).forget(NAME, [Address.parse("Gone@far.example")]))
    far.add_account("gone@far.example")
    post(internet, us)
    assert len(far.inbox("gone@far.example")) == 1
    assert not suspended(us)


@pytest.mark.parametrize("report", [FAILED, UNCLEAR])
def test_many_reports_of_one_day_count_once(internet: Internet, report: bytes) -> None:
    us, far = stage(internet, suspend_after_days=2)
    post(internet, us)
    for _ in range(10):
        come_back(internet, us, path(far, "cid@far.example"), report)
    internet.run(3 * DAY)
    come_back(internet, us, path(far, "cid@far.example"), report)
    assert not suspended(us)
    assert not us.inbox("boss@us.example")


@pytest.mark.parametrize(
    ("report", "sender", "days"),
    [
        (FAILED, "", 2),
        (UNCLEAR, "", 4),
        (UNCLEAR, "MAILER-DAEMON@far.example", 4),
        (LATE, "", 0),
        (READ, "", 0),
        (AWAY, "", 0),
        (UNCLEAR, "cid@far.example", 0),
    ],
)
def test_what_has_failed_counts_a_day_what_is_unclear_half_of_one_and_all_else_nothing(
    internet: Internet, report: bytes, sender: str, days: int
) -> None:
    us, far = stage(internet, suspend_after_days=2)
    for day in range(1, 6):
        post(internet, us)
        come_back(internet, us, path(far, "cid@far.example"), report, sender)
        assert bool(suspended(us)) is (0 < days <= day)
        internet.run(DAY)
        if suspended(us):
            break
    assert len(notices(us)) == bool(days)
    passed_on = report in (READ, AWAY) or sender.startswith("cid")
    assert len(us.inbox("boss@us.example")) - len(notices(us)) == (5 if passed_on else 0)


def test_a_copy_that_came_through_takes_back_what_was_counted_before_it(internet: Internet) -> None:
    us, far = stage(internet, suspend_after_days=3)
    for bad in (True, True, False, True, True):
        post(internet, us)
        if bad:
            come_back(internet, us, path(far, "cid@far.example"))
        internet.run(8 * DAY)
    assert not suspended(us)
    post(internet, us)
    come_back(internet, us, path(far, "cid@far.example"))
    assert suspended(us) == ["cid@far.example"]


def test_reports_that_strangers_make_up_count_against_nobody(internet: Internet) -> None:
    us, far = stage(internet, ("cid@far.example", "dan@far.example"), suspend_after_days=1)
    post(internet, us)
    cid, dan = path(far, "cid@far.example"), path(far, "dan@far.example")
    tag = cid.rpartition("@")[0].rpartition("=")[2]
    made_up = [
        dan.replace("dan=", "cid="),
        cid.replace(tag, "aaaaaaaa"),
        cid.replace(tag, f"{tag[:2]}aaaaaa"),
        cid.replace(tag, f"a{tag[1:]}"),
        cid.replace(f"={tag}", ""),
        cid.replace(tag, tag + "a"),
        "team-bounces+@us.example",
        "team-bounces+=@us.example",
        "team-bounces+\u00e4=b=c@us.example",
    ]
    for to in made_up:
        with pytest.raises(NoSuchUser):
            hand_in(us, "", to, FAILED)
    hand_in(us, "", "team-bounces@us.example", FAILED)  # goes to the owners, who may think of it what they like
    internet.run(60)
    assert not suspended(us)
    internet.run(40 * DAY)
    with pytest.raises(NoSuchUser, match="expired"):
        hand_in(us, "", cid, FAILED)
    assert not suspended(us)


def test_an_address_that_comes_back_in_other_letters_is_known(internet: Internet) -> None:
    us, far = stage(internet, suspend_after_days=1)
    post(internet, us)
    with capturedLogs() as events:
        come_back(internet, us, path(far, "cid@far.example").upper())
    assert suspended(us) == ["CID@far.example"]
    (told,) = [line for line in map(formatEvent, events) if line and line.startswith("came back: ")]
    assert told.startswith(f"came back: list={NAME} ")
    post(internet, us)
    assert len(far.inbox("cid@far.example")) == 1


@pytest.mark.parametrize("member", [f"{'c' * 50}@far.example", "a..b@far.example", '"a b"@far.example'])
def test_a_member_whose_address_does_not_fit_is_known_by_a_stand_in(internet: Internet, member: str) -> None:
    us, far = stage(internet, ("dan@far.example", member), suspend_after_days=1)
    far.add_account(Address.parse(member).key)
    post(internet, us)
    found = path(far, Address.parse(member).key)
    assert re.fullmatch(r"team-bounces\+[0-9a-v]{16}=[a-z2-7]{8}@us\.example", found)
    come_back(internet, us, found)
    assert suspended(us) == [str(Address.parse(member))]


def test_who_has_left_is_not_counted_and_who_joins_again_begins_anew(internet: Internet) -> None:
    us, far = stage(internet, (), suspend_after_days=1, leave_by_mail=True)
    names = us.hub.database.names
    us._wait(names.join_list(NAME, ["cid@far.example"]))
    post(internet, us)
    us._wait(names.leave_list(NAME, ["cid@far.example"]))
    come_back(internet, us, path(far, "cid@far.example"))
    assert not suspended(us)
    us._wait(names.join_list(NAME, ["cid@far.example"]))
    come_back(internet, us, path(far, "cid@far.example"))
    assert suspended(us) == ["cid@far.example"]
    far.submit("cid@far.example", ["team-unsubscribe@us.example"], b"From: cid@far.example\r\n\r\n")
    internet.run(120)
    word = message_from_bytes(far.inbox("cid@far.example")[-1])["Subject"]
    far.submit(
        "cid@far.example", ["team-request@us.example"], f"From: cid@far.example\r\nSubject: {word}\r\n\r\n".encode()
    )
    internet.run(120)
    assert not suspended(us)


def test_members_of_lists_among_the_members_are_suspended_for_the_list_that_sends(internet: Internet) -> None:
    config = {
        "list": {
            NAME: {"members": ["all@us.example"], "verp": True, "suspend_after_days": 1, "post": "anyone"},
            "all@us.example": {"members": ["cid@far.example", NAME], "group": True, "post": "anyone"},
        }
    }
    us, far = internet.hub("us.example", ["ann"], config), internet.hub("far.example", ["cid"])
    post(internet, us)
    come_back(internet, us, path(far, "cid@far.example"))
    assert suspended(us) == ["cid@far.example"]
    post(internet, us)
    assert len(far.inbox("cid@far.example")) == 1
    us.submit("ann@us.example", ["all@us.example"], MESSAGE)
    internet.run(60)
    assert len(far.inbox("cid@far.example")) == 2


def test_never_means_never(internet: Internet) -> None:
    us, far = stage(internet, suspend_after_days=0)
    for _ in range(8):
        post(internet, us)
        come_back(internet, us, path(far, "cid@far.example"))
        internet.run(DAY)
    assert len(far.inbox("cid@far.example")) == 8
    assert not suspended(us)


def test_an_account_or_list_that_has_such_a_name_keeps_its_mail(internet: Internet) -> None:
    us, _ = stage(internet)
    us.add_account("other-bounces@us.example")
    us.add_account("team-bounces@us.example")
    for to in ("other-bounces+x=y=z@us.example", "team-bounces+x=y=aaaaaaaa@us.example"):
        hand_in(us, "", to)
    internet.run(60)
    assert len(us.inbox("other-bounces@us.example")) == len(us.inbox("team-bounces@us.example")) == 1


def test_a_report_that_is_read_again_after_a_crash_counts_once_and_tells_once(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, far = stage(internet, suspend_after_days=1)
    deliver = BounceAgent.deliver

    async def again(agent: BounceAgent, delivery: Delivery) -> Any:
        await deliver(agent, delivery)
        return await deliver(agent, delivery)

    monkeypatch.setattr(BounceAgent, "deliver", again)
    post(internet, us)
    come_back(internet, us, path(far, "cid@far.example"))
    assert suspended(us) == ["cid@far.example"]
    assert len(notices(us)) == 1


@pytest.mark.parametrize("power", [False, True])
def test_a_server_that_ends_anywhere_between_a_post_and_a_suspension_sends_each_copy_and_each_notice_once(
    tmp_path: Path, power: bool
) -> None:
    members = ["gone@far.example", "cid@far.example", "ann@us.example"]
    team = {"owners": ["own@far.example"], "members": members, "verp": True, "suspend_after_days": 1, "post": "anyone"}
    config = {"database": {"type": "inline"}, "list": {NAME: team}}
    steps, number = 1000, 0
    while number < steps:
        number += 1
        with Internet(1, folder=tmp_path / str(number), poll_seconds=3600) as internet:
            us = internet.hub("us.example", ["ann"], config)
            far = internet.hub("far.example", ["cid", "own", "eve"], {"database": {"type": "inline"}})
            first = us.disk.steps
            us.disk.kill_at(first + number, lambda what, us=us: us.kill(power=power))  # type: ignore[misc]
            far.submit("eve@far.example", [NAME], b"Message-ID: <1@far.example>\r\n" + MESSAGE)
            internet.run(120)
            us.disk.spare()
            if us.is_running:
                steps = us.disk.steps - first
            else:
                us.boot()
            internet.run(3 * 3600)
            assert not us.queued()
            assert not far.queued()
            assert [len(us.inbox("ann@us.example")), len(far.inbox("cid@far.example"))] == [1, 1]
            assert suspended(us) == ["gone@far.example"]
            assert len(far.inbox("own@far.example")) == 1
    assert number > 5
