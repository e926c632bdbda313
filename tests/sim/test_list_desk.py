"""What lists are asked for by mail, and posts that wait for an owner: over servers, and over crashes."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import deferLater

from mailhub.delivery.list_desk import ANSWERS_TO_ONE, RequestAgent
from mailhub.delivery.list_holding import HoldAgent
from mailhub.errors import NotPermitted, TemporaryError
from mailhub.interfaces import Delivery, RowChange
from mailhub.questions import QUESTIONS
from mailhub.testing.hubs import Host, Internet
from tests.sim.test_lists import hand_in

NAME = "team@us.example"
DAY = 86_400


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=4) as internet:
        yield internet


def stage(internet: Internet, settings: str = "{}", **config: Any) -> tuple[Host, Host]:
    """A list with ann and cid in it, whose owner is boss."""
    us = internet.hub("us.example", users=["ann", "boss"], config=config)
    far = internet.hub("far.example", users=["cid", "dan"])
    names = us.hub.database.names
    us._wait(names.put_list(NAME, settings.replace("{", '{"owners": ["boss@us.example"], ', 1).replace(", }", "}")))
    us._wait(names.join_list(NAME, ["ann@us.example", "cid@far.example"]))
    return us, far


def members(us: Host) -> list[str]:
    return list(us._wait(us.hub.database.names.list_members(NAME)))


def ask(
    internet: Internet, far: Host, to: str, subject: str = "", sender: str = "cid@far.example", more: str = ""
) -> None:
    message = f"From: {sender}\r\nSubject: {subject}\r\nMessage-ID: <1@far.example>\r\n{more}\r\n"
    far.submit(sender, [to], message.encode())
    internet.run(120)


def mails(host: Host, user: str) -> list[Message]:
    return [message_from_bytes(octets) for octets in host.inbox(user)]


def asked_to_confirm(host: Host, user: str) -> Message:
    (found,) = [mail for mail in mails(host, user) if str(mail["Subject"]).startswith("confirm ")]
    return found


@pytest.mark.parametrize(
    ("to", "subject"),
    [("team-request@us.example", "Unsubscribe"), ("Team-Unsubscribe@us.example", "whatever")],
)
def test_who_confirms_it_is_out(internet: Internet, to: str, subject: str) -> None:
    us, far = stage(internet)
    ask(internet, far, to, subject)
    assert "cid@far.example" in members(us)
    mail = asked_to_confirm(far, "cid@far.example")
    assert (mail["Return-Path"], mail["Auto-Submitted"]) == ("<>", "auto-replied")
    # RFC 2369 3 and RFC 2919 3: answers, too, say whose they are.
    assert mail.get_all("List-Id") == ["<team.us.example>"]
    assert len(mail.get_all("List-Help", [])) == 1
    assert mail["From"] == "team-request@us.example"
    assert mail["In-Reply-To"] == mail["References"] == "<1@far.example>"
    ask(internet, far, mail["From"], f"Re: {mail['Subject']}")
    assert members(us) == ["ann@us.example"]
    assert "You are no member of team@us.example any more." in str(mails(far, "cid@far.example")[-1].get_payload())
    ask(internet, far, mail["From"], f"Re: {mail['Subject']}")  # it counts once
    assert len(mails(far, "cid@far.example")) == 2
    assert not us.inbox("boss@us.example")
    assert not us.queued()


def test_who_confirms_it_is_in_where_the_list_allows_it(internet: Internet) -> None:
    us, far = stage(internet, '{"join_by_mail": true}')
    ask(internet, far, "team-subscribe@us.example", sender="dan@far.example")
    mail = asked_to_confirm(far, "dan@far.example")
    ask(internet, far, mail["From"], f"AW: {mail['Subject']}", sender="dan@far.example")
    assert "dan@far.example" in members(us)
    ask(internet, far, "team-subscribe@us.example", sender="cid@far.example")
    assert not far.inbox("cid@far.example")


def test_whom_no_way_leads_to_is_let_out_and_told_nothing(internet: Internet) -> None:
    us, far = stage(internet)
    us._wait(us.hub.database.names.join_list(NAME, ["old@us.example"]))
    us.add_account("old@us.example")
    hand_in(us, "old@us.example", "team-unsubscribe@us.example", b"From: old@us.example\r\n\r\n")
    internet.run(120)
    word = asked_to_confirm(us, "old@us.example")["Subject"]
    us._wait(us.hub.accounts.remove("old@us.example"))
    hand_in(
        us, "x@far.example", "team-request@us.example", f"From: cid@far.example\r\nSubject: {word}\r\n\r\n".encode()
    )
    internet.run(120)
    assert members(us) == ["ann@us.example", "cid@far.example"]
    assert not us.queued()
    assert not far.inbox("cid@far.example")


def test_a_word_counts_for_three_days_and_cannot_be_made_up(internet: Internet) -> None:
    us, far = stage(internet)
    ask(internet, far, "team-request@us.example", "confirm " + "0" * 24)
    ask(internet, far, "team-unsubscribe@us.example")
    mail = asked_to_confirm(far, "cid@far.example")
    internet.run(3 * DAY)
    ask(internet, far, mail["From"], mail["Subject"])
    assert "cid@far.example" in members(us)
    assert not us.inbox("boss@us.example")


@pytest.mark.parametrize(
    ("to", "subject", "sender", "more"),
    [
        ("team-request@us.example", "May I join?", "dan@far.example", ""),
        ("team-subscribe@us.example", "", "dan@far.example", ""),
        ("team-unsubscribe@us.example", "", "dan@far.example", ""),  # who is in it is nobody's business
        ("team-unsubscribe@us.example", "", "cid@far.example", "Auto-Submitted: auto-generated\r\n"),
        ("team-unsubscribe@us.example", "", "cid@far.example", "Precedence: bulk\r\n"),
        ("team-unsubscribe@us.example", "", "cid@far.example", "List-Id: <x.far.example>\r\n"),
        ("team-unsubscribe@us.example", "", "", ""),
    ],
)
def test_what_cannot_be_met_goes_to_the_owners_and_is_not_answered(
    internet: Internet, to: str, subject: str, sender: str, more: str
) -> None:
    us, far = stage(internet)
    if sender:
        ask(internet, far, to, subject, sender, more)
    else:
        hand_in(us, "", to, b"From: cid@far.example\r\n\r\n")
        internet.run(120)
    (mail,) = mails(us, "boss@us.example")
    assert mail["Return-Path"] == f"<{sender}>"
    assert not far.inbox("cid@far.example")
    assert not far.inbox("dan@far.example")
    assert not us.queued()


def test_what_owners_send_back_to_requests_goes_round_once(internet: Internet) -> None:
    far = internet.hub("far.example", users=["cid"], config={"aliases": {"o@far.example": ["team-request@us.example"]}})
    us = internet.hub(
        "us.example", config={"list": {NAME: {"owners": ["o@far.example"], "members": ["cid@far.example"]}}}
    )
    ask(internet, far, "team-request@us.example", "What is this?")
    internet.run(DAY)
    (report,) = far.inbox("cid@far.example")
    assert b"5.4.6" in report
    assert not us.queued()
    assert not far.queued()


def test_members_of_the_file_are_left_to_the_owners(internet: Internet) -> None:
    far = internet.hub("far.example", users=["cid"])
    lists = {NAME: {"owners": ["boss@us.example"], "members": ["cid@far.example"]}}
    us = internet.hub("us.example", users=["boss"], config={"list": lists})
    ask(internet, far, "team-unsubscribe@us.example")
    assert len(us.inbox("boss@us.example")) == 1
    assert not far.inbox("cid@far.example")


def test_nobody_is_flooded_by_requests_in_his_name(internet: Internet) -> None:
    us, far = stage(internet)
    for _ in range(ANSWERS_TO_ONE + 3):
        hand_in(us, "x@else.example", "team-unsubscribe@us.example", b"From: cid@far.example\r\n\r\n")
    internet.run(120)
    assert len(far.inbox("cid@far.example")) == ANSWERS_TO_ONE
    internet.run(DAY)
    hand_in(us, "x@else.example", "team-unsubscribe@us.example", b"From: cid@far.example\r\n\r\n")
    internet.run(120)
    assert len(far.inbox("cid@far.example")) == ANSWERS_TO_ONE + 1


@pytest.mark.parametrize("sender", ["team@us.example", "team-request@us.example", "team-bounces@us.example"])
def test_lists_do_not_talk_to_themselves(internet: Internet, sender: str) -> None:
    us, _ = stage(internet, '{"join_by_mail": true}')
    hand_in(us, sender, "team-subscribe@us.example", f"From: {sender}\r\n\r\n".encode())
    internet.run(DAY)
    assert not us.queued()
    assert not us.inbox("boss@us.example")


def test_help_is_given(internet: Internet) -> None:
    _, far = stage(internet)
    ask(internet, far, "team-request@us.example", "help", "dan@far.example")
    (mail,) = mails(far, "dan@far.example")
    assert "team-unsubscribe@us.example" in str(mail.get_payload())
    assert "team-subscribe@us.example" not in str(mail.get_payload())


def test_what_is_asked_for_twice_by_a_crash_is_answered_once(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, far = stage(internet, '{"hold_others": true}')
    for agent in (RequestAgent, HoldAgent):
        deliver = agent.deliver

        async def again(agent: Any, delivery: Delivery, deliver: Any = deliver) -> Any:
            await deliver(agent, delivery)
            return await deliver(agent, delivery)

        monkeypatch.setattr(agent, "deliver", again)
    ask(internet, far, "team-unsubscribe@us.example")
    ask(internet, far, NAME, "hello", "dan@far.example")
    assert len(far.inbox("cid@far.example")) == len(us.inbox("boss@us.example")) == 1
    mail = asked_to_confirm(far, "cid@far.example")
    ask(internet, far, mail["From"], mail["Subject"])
    assert members(us) == ["ann@us.example"]
    assert len(far.inbox("cid@far.example")) == 2


def test_posts_of_others_wait_for_an_owner(internet: Internet) -> None:
    us, far = stage(internet, '{"hold_others": true}')
    ask(internet, far, NAME, "first", "dan@far.example")
    ask(internet, far, NAME, "second", "dan@far.example")
    ask(internet, far, NAME, "mine", "cid@far.example")
    assert [mail["Subject"] for mail in mails(us, "ann@us.example")] == ["mine"]
    notices = [str(mail.get_payload()) for mail in mails(us, "boss@us.example")]
    first, second = us.queued()
    assert [
        f"mailhub list approve {message.id}" in text for message, text in zip((first, second), notices, strict=True)
    ]
    assert "subject: first" in notices[0]
    assert "sender: <dan@far.example>" in notices[0]
    internet.run(6 * DAY)  # it does not come back meanwhile
    assert not far.inbox("dan@far.example")
    for what, message in (("release", first), ("remove", second)):  # as `mailhub list` asks the running server
        which = {"ids": [message.id], "destination": f"list {NAME}"}
        question: Any = {"queue": "change", "change": what, "which": which}
        done: Any = us._wait(QUESTIONS["queue"](us.hub, question))  # type: ignore[arg-type]
        assert done["changed"] == 1
    internet.run(120)
    assert [mail["Subject"] for mail in mails(us, "ann@us.example")] == ["mine", "first"]
    assert [mail["Subject"] for mail in mails(far, "cid@far.example")] == ["mine", "first"]
    assert not us.queued()


@pytest.mark.parametrize("power", [False, True])
def test_a_server_that_ends_anywhere_on_the_way_of_a_request_or_a_held_post_does_each_once(
    tmp_path: Path, power: bool
) -> None:
    lists = {NAME: {"owners": ["own@far.example"], "members": ["ann@us.example"], "hold_others": True}}
    inline = {"database": {"type": "inline"}}
    steps, number = 1000, 0
    while number < steps:
        number += 1
        with Internet(1, folder=tmp_path / str(number), poll_seconds=3600) as internet:
            us = internet.hub("us.example", ["ann"], {**inline, "list": lists})
            far = internet.hub("far.example", ["own", "cid", "dan"], inline)
            us._wait(us.hub.database.names.join_list(NAME, ["cid@far.example"]))
            first = us.disk.steps
            us.disk.kill_at(first + number, lambda what, us=us: us.kill(power=power))  # type: ignore[misc]
            for sender, to in (("dan", NAME), ("cid", "team-unsubscribe@us.example")):
                message = f"From: {sender}@far.example\r\nMessage-ID: <{sender}@far.example>\r\n\r\n".encode()
                far.submit(f"{sender}@far.example", [to], message)
            internet.run(120)
            us.disk.spare()
            if us.is_running:
                steps = us.disk.steps - first
            else:
                us.boot()
            internet.run(3 * 3600)
            assert len(far.inbox("own@far.example")) == 1
            assert not us.inbox("ann@us.example")
            word = asked_to_confirm(far, "cid@far.example")["Subject"]
            (held,) = us.queued()
            assert [(row.route.agent, row.held) for row in held.recipients] == [("list", True)]
            us._wait(us.hub.database.queue.change({RowChange(held=False): [held]}))
            ask(internet, far, "team-request@us.example", word)
            internet.run(3600)
            assert len(us.inbox("ann@us.example")) == 1
            assert not us.queued()
            assert members(us) == []
    assert number > 5


@pytest.mark.parametrize(
    ("owners", "told"),
    [
        (["gone@us.example", "boss@us.example"], ["boss"]),
        (["other@us.example", "boss@us.example"], ["boss"]),  # takes no reports
        (["gone@us.example"], ["eve"]),  # the postmaster
        (["team-owner@us.example"], ["eve"]),
        (["other@us.example", "other-bounces@us.example"], ["eve"]),
        ([], ["eve"]),
    ],
)
@pytest.mark.parametrize("to", [NAME, "team-request@us.example"])
def test_neither_a_post_nor_a_request_comes_back_for_an_owner_who_is_gone(
    internet: Internet, owners: list[str], told: list[str], to: str
) -> None:
    config = {
        "aliases": {"postmaster@us.example": ["eve@us.example"]},
        "list": {
            NAME: {"owners": owners, "hold_others": True, "members": ["ann@us.example"]},
            "other@us.example": {"owners": ["gone@us.example"]},
        },
    }
    us = internet.hub("us.example", users=["ann", "boss", "eve"], config=config)
    far = internet.hub("far.example", users=["dan"])
    ask(internet, far, to, "hello", "dan@far.example")
    internet.run(600)
    assert not far.inbox("dan@far.example")
    assert [user for user in ("boss", "eve") if us.inbox(f"{user}@us.example")] == told
    assert [(row.route.agent, row.held) for each in us.queued() for row in each.recipients] == [("list", True)] * (
        to == NAME
    )


def test_a_post_waits_also_where_nobody_can_be_told(internet: Internet) -> None:
    lists = {NAME: {"owners": ["gone@us.example"], "hold_others": True, "members": ["ann@us.example"]}}
    us, far = internet.hub("us.example", ["ann"], {"list": lists}), internet.hub("far.example", ["dan"])
    ask(internet, far, NAME, "hello", "dan@far.example")
    internet.run(600)
    assert not far.inbox("dan@far.example")
    (held,) = us.queued()
    assert held.recipients[0].held


def test_bounds_count_what_is_still_on_the_way_and_one_mailbox_once(internet: Internet) -> None:
    us, far = stage(internet, '{"join_by_mail": true}')
    for number in range(12):  # all before the first is answered
        who = f"Dan+{number}@Far.example" if number % 2 else "dan@far.example"
        hand_in(us, "x@else.example", "team-subscribe@us.example", f"From: {who}\r\n\r\n".encode())
    internet.run(120)
    assert len(far.inbox("dan@far.example")) == ANSWERS_TO_ONE
    assert len(us.inbox("boss@us.example")) == 12 - ANSWERS_TO_ONE  # nothing is dropped in silence


def test_who_has_several_names_here_has_one_mailbox(internet: Internet) -> None:
    aliases = {
        "a@us.example": ["ann@us.example"],
        "b@us.example": ["a@us.example"],
        "d@us.example": ["dan@far.example"],
    }
    us, far = stage(internet, '{"join_by_mail": true}', aliases=aliases)
    for who in ("a@us.example", "ann@us.example", "b@us.example", "ann+x@us.example", "Ann@us.example"):
        hand_in(us, "x@else.example", "team-request@us.example", f"From: {who}\r\nSubject: help\r\n\r\n".encode())
    for who in ("d@us.example", "dan@far.example") * 2:
        hand_in(us, "x@else.example", "team-subscribe@us.example", f"From: {who}\r\n\r\n".encode())
    internet.run(120)
    assert len(us.inbox("ann@us.example")) == ANSWERS_TO_ONE
    assert len(far.inbox("dan@far.example")) == ANSWERS_TO_ONE


def test_the_requests_of_strangers_keep_nobody_in(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.delivery.list_desk.ANSWERS_OF_LIST", 5)
    monkeypatch.setattr("mailhub.delivery.list_desk.PASSED_ON", 4)
    us, far = stage(internet)
    for _ in range(ANSWERS_TO_ONE):
        hand_in(us, "x@else.example", "team-request@us.example", b"From: cid@far.example\r\nSubject: help\r\n\r\n")
    for number in range(10):
        message = f"From: q{number}@far.example\r\nSubject: help\r\n\r\n".encode()
        hand_in(us, "x@else.example", "team-request@us.example", message)
    internet.run(120)
    assert len(us.inbox("boss@us.example")) == 4
    assert len(us.queued()) == 4  # for another day
    ask(internet, far, "team-unsubscribe@us.example")
    mail = asked_to_confirm(far, "cid@far.example")
    ask(internet, far, mail["From"], mail["Subject"])
    assert members(us) == ["ann@us.example"]
    internet.run(2 * DAY)
    assert not us.queued()


def test_no_more_wait_than_owners_can_look_at(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailhub.delivery.lists.HELD_LIMIT", 2)
    us, far = stage(internet, '{"hold_others": true}')
    for _ in range(2):
        ask(internet, far, NAME, "x", "dan@far.example")
    with pytest.raises(TemporaryError):
        hand_in(us, "dan@far.example", NAME)


def test_reports_and_automatic_replies_do_not_wait(internet: Internet) -> None:
    us, far = stage(internet, '{"hold_others": true}')
    with pytest.raises(NotPermitted):
        hand_in(us, "", NAME)
    ask(internet, far, NAME, "x", "dan@far.example", "Auto-Submitted: auto-replied\r\n")
    assert not us.inbox("boss@us.example")
    assert not us.queued()


def decide(internet: Internet, far: Host, subject: str, sender: str = "own@far.example") -> str:
    """What an owner is answered, "" for nothing."""
    before = len(far.inbox(sender))
    far.submit(sender, ["team-request@us.example"], f"From: {sender}\r\nSubject: {subject}\r\n\r\n".encode())
    internet.run(120)
    return "".join(str(mail.get_payload()) for mail in mails(far, sender)[before:])


def held_stage(internet: Internet, **lists: Any) -> tuple[Host, Host, list[str]]:
    """A list that holds two posts, and the words that its owner has for them."""
    team = {"owners": ["own@far.example"], "hold_others": True, "members": ["ann@us.example"]}
    us = internet.hub("us.example", ["ann"], {"list": {NAME: team, **lists}})
    far = internet.hub("far.example", ["own", "dan"])
    for subject in ("first", "second"):
        ask(internet, far, NAME, subject, "dan@far.example")
    texts = [str(mail.get_payload()) for mail in mails(far, "own@far.example")]
    return us, far, [text.partition("\r\napprove ")[2].split()[0] for text in texts]


def test_owners_decide_by_mail_and_the_first_decision_counts(internet: Internet) -> None:
    us, far, (first, second) = held_stage(internet)
    assert decide(internet, far, f"Approve {first}") == f"The post to {NAME} is approved.\r\n"
    assert "approved before, by own@far.example" in decide(internet, far, f"discard {first}", "dan@far.example")
    assert "is discarded" in decide(internet, far, f"Fwd: discard {second}")
    assert "discarded before" in decide(internet, far, f"approve {second}")
    assert [mail["Subject"] for mail in mails(us, "ann@us.example")] == ["first"]
    assert not us.queued()
    assert len(far.inbox("dan@far.example")) == 1  # who posts is told nothing, who decides is


def test_of_two_decisions_at_a_time_the_one_that_came_first_counts(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, far, (first, _) = held_stage(internet)
    deliver, seen = RequestAgent.deliver, list[str]()

    async def slowly(agent: Any, delivery: Delivery) -> Any:
        seen.append(delivery.id)
        await deferLater(internet.clock, 10.0 / len(seen))
        return await deliver(agent, delivery)

    monkeypatch.setattr(RequestAgent, "deliver", slowly)
    before = len(far.inbox("own@far.example"))
    for verb, who in (("approve", "dan@far.example"), ("discard", "own@far.example")):
        far.submit(who, ["team-request@us.example"], f"From: {who}\r\nSubject: {verb} {first}\r\n\r\n".encode())
        internet.run(1)
    internet.run(120)
    assert len(seen) == 2
    assert [mail["Subject"] for mail in mails(us, "ann@us.example")] == ["first"]
    (told,) = mails(far, "own@far.example")[before:]
    assert told.get_payload() == "It was approved before, by dan@far.example. Nothing was changed.\r\n"
    assert mails(far, "dan@far.example")[-1].get_payload() == f"The post to {NAME} is approved.\r\n"


def test_a_word_counts_for_no_other_post_and_no_other_list(internet: Internet) -> None:
    other = {"owners": ["own@far.example"], "hold_others": True, "members": ["ann@us.example"]}
    us, far, (first, second) = held_stage(internet, **{"other@us.example": other})
    (a, mac), (b, _) = first.split("-"), second.split("-")
    for word in (f"{b}-{mac}", f"{a}-{'0' * 24}", f"{a}-{mac[:-1]}"):
        decide(internet, far, f"approve {word}")
    far.submit(
        "own@far.example",
        ["other-request@us.example"],
        f"From: own@far.example\r\nSubject: approve {first}\r\n\r\n".encode(),
    )
    internet.run(120)
    automatic = f"From: own@far.example\r\nAuto-Submitted: auto-replied\r\nSubject: Re: approve {first}\r\n\r\n"
    far.submit("own@far.example", ["team-request@us.example"], automatic.encode())
    internet.run(120)
    assert [row.held for each in us.queued() for row in each.recipients] == [True, True]
    assert not us.inbox("ann@us.example")


def test_what_a_command_has_decided_is_not_decided_by_mail(internet: Internet) -> None:
    us, far, (first, _) = held_stage(internet)
    us._wait(us.hub.database.queue.change({RowChange(removed=True): us.queued()[:1]}))
    assert "It waits no more" in decide(internet, far, f"approve {first}")
    assert not us.inbox("ann@us.example")


def test_a_decision_that_is_read_again_after_a_crash_is_one(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, far, (first, _) = held_stage(internet)
    deliver = RequestAgent.deliver

    async def again(agent: Any, delivery: Delivery) -> Any:
        await deliver(agent, delivery)
        return await deliver(agent, delivery)

    monkeypatch.setattr(RequestAgent, "deliver", again)
    assert decide(internet, far, f"approve {first}") == f"The post to {NAME} is approved.\r\n"
    assert len(us.inbox("ann@us.example")) == 1


def test_a_group_offers_no_decision_by_mail(internet: Internet) -> None:
    team = {"owners": ["own@far.example"], "hold_others": True, "members": ["ann@us.example"], "group": True}
    internet.hub("us.example", ["ann"], {"list": {NAME: team}})
    far = internet.hub("far.example", ["own", "dan"])
    ask(internet, far, NAME, "first", "dan@far.example")
    (notice,) = mails(far, "own@far.example")
    assert "mailhub list approve" in str(notice.get_payload())
    assert "mailto:" not in str(notice.get_payload())


@pytest.mark.parametrize("power", [False, True])
def test_a_server_that_ends_anywhere_on_the_way_of_a_decision_carries_it_out_once_and_says_so_once(
    tmp_path: Path, power: bool
) -> None:
    team = {"owners": ["own@far.example"], "hold_others": True, "members": ["ann@us.example"]}
    inline = {"database": {"type": "inline"}}
    steps, number = 1000, 0
    while number < steps:
        number += 1
        with Internet(1, folder=tmp_path / str(number), poll_seconds=3600) as internet:
            us = internet.hub("us.example", ["ann"], {**inline, "list": {NAME: team}})
            far = internet.hub("far.example", ["own", "dan"], inline)
            ask(internet, far, NAME, "first", "dan@far.example")
            (notice,) = mails(far, "own@far.example")
            word = str(notice.get_payload()).partition("\r\napprove ")[2].split()[0]
            first = us.disk.steps
            us.disk.kill_at(first + number, lambda what, us=us: us.kill(power=power))  # type: ignore[misc]
            decision = f"From: own@far.example\r\nMessage-ID: <2@far.example>\r\nSubject: approve {word}\r\n\r\n"
            far.submit("own@far.example", ["team-request@us.example"], decision.encode())
            internet.run(120)
            us.disk.spare()
            if us.is_running:
                steps = us.disk.steps - first
            else:
                us.boot()
            internet.run(3 * 3600)
            assert len(us.inbox("ann@us.example")) == 1
            assert [str(mail["Subject"]) for mail in mails(far, "own@far.example")[1:]] == [f"Mailing list {NAME}"]
            assert "is approved" in str(mails(far, "own@far.example")[-1].get_payload())
            assert not us.queued()
    assert number > 5
