"""The policy "policy-service" against a scripted program for Postfix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.delivery.filters.policy_words import parse, question
from mailhub.errors import ConfigurationError
from mailhub.interfaces import Verdict
from mailhub.testing.hubs import Host, Internet
from tests.sim.peers import HANGS, MESSAGE, Dies, Peer, configured, dialogue, kept, sent

PLACE = ("10.7.7.7", 10023)
DUNNO = b"action=DUNNO\n\n"
BOTH = ["recipient", "end-of-message"]


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


def hub(internet: Internet, *answers: Any, **options: Any) -> tuple[Host, Peer]:
    program = Peer(lambda heard: heard.endswith(b"\n\n"), list(answers))
    internet.network.listen(*PLACE, program)
    config = configured("policy-service", {"address": f"inet:{PLACE[0]}:{PLACE[1]}", **options})
    return internet.hub("xx.example", ["ann", "ben"], config=config), program


def asked(program: Peer) -> list[dict[str, str]]:
    return [dict(line.split("=", 1) for line in each.decode().splitlines() if line) for each in program.asked]


def test_it_is_asked_with_the_attributes_of_postfix_on_one_connection(internet: Internet) -> None:
    host, program = hub(internet, DUNNO, stages=BOTH)
    internet.resolver.ptr["10.9.9.9"] = ["c.example"]
    internet.resolver.hosts["c.example"] = ["10.9.9.9"]
    assert dialogue(internet, host, to=("ann", "ben"))[-1].startswith("250 ")
    assert program.connections == 1
    first, second, end = asked(program)
    assert first["instance"] == second["instance"] == end["instance"] != ""
    assert {key: text for key, text in first.items() if text} == {
        "request": "smtpd_access_policy",
        "protocol_state": "RCPT",
        "protocol_name": "ESMTP",
        "client_address": "10.9.9.9",
        "client_name": "c.example",
        "reverse_client_name": "c.example",
        "server_address": first["server_address"],
        "helo_name": "c.example",
        "sender": "a@yy.example",
        "recipient": "ann@xx.example",
        "recipient_count": "0",
        "instance": first["instance"],
        "size": "0",
    }
    assert second["recipient"] == "ben@xx.example"
    assert (end["protocol_state"], end["recipient"], end["recipient_count"]) == ("END-OF-MESSAGE", "", "2")
    assert end["size"] == str(len(MESSAGE))


def test_a_client_without_a_name_is_unknown_and_each_message_has_its_instance(internet: Internet) -> None:
    host, program = hub(internet, DUNNO, stages=["end-of-message"])
    for _ in range(2):
        assert sent(internet, host).startswith("250 ")
    one, two = asked(program)
    assert one["client_name"] == one["reverse_client_name"] == "unknown"
    assert one["recipient"] == "ann@xx.example", "there is one alone"
    assert one["instance"] != two["instance"]


@pytest.mark.parametrize("stage", BOTH)
@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("DUNNO", "250 "),
        ("dunno", "250 "),
        ("", "250 "),
        ("OK we know it", "250 "),
        ("defer_if_reject later", "250 "),
        ("WARN look at this", "250 "),
        ("REJECT", "5.7.1 Not permitted (policy-service)"),
        ("REJECT 5.7.2 Go away", "5.7.2 Go away (policy-service)"),
        ("550 5.7.3 No", "550 5.7.3 No (policy-service)"),
        ("521 No", "5.7.1 No (policy-service)"),
        ("DEFER", "4.7.1 Try again later (policy-service)"),
        ("DEFER_IF_PERMIT Greylisted", "4.7.1 Greylisted (policy-service)"),
        ("450 4.2.1 Later", "450 4.2.1 Later (policy-service)"),
        ("421 Later", "4.7.1 Later (policy-service)"),
    ],
)
def test_every_action_is_carried_out(internet: Internet, stage: str, action: str, reply: str) -> None:
    host, _ = hub(internet, f"action={action}\n\n".encode(), stages=[stage])
    answer = sent(internet, host)
    assert answer.startswith(reply) or (reply[1] == "." and answer[4:].startswith(reply) and answer[0] == reply[0])
    assert len(kept(internet, host)) == (reply == "250 ")


def test_a_field_is_prepended_and_somebody_else_gets_a_copy(internet: Internet) -> None:
    answers = b"action=PREPEND X-Policy: seen\n\n", b"action=BCC ben@xx.example\n\n"
    host, _ = hub(internet, *answers, stages=BOTH)
    assert sent(internet, host).startswith("250 ")
    assert kept(internet, host) == [b"X-Policy: seen\r\n" + MESSAGE]
    assert len(host.inbox("ben@xx.example")) == 1


@pytest.mark.parametrize("stage", BOTH)
@pytest.mark.parametrize(("action", "junk"), [("DISCARD drop it", 0), ("HOLD look", 1)])
def test_mail_is_dropped_or_junk(internet: Internet, stage: str, action: str, junk: int) -> None:
    host, _ = hub(internet, f"action={action}\n\n".encode(), stages=[stage])
    with capturedLogs() as logs:
        assert sent(internet, host).startswith("250 ")
    assert (len(kept(internet, host)), len(kept(internet, host, "Junk"))) == (0, junk)
    assert any((formatEvent(each) or "").startswith("policy notes: ") for each in logs)


def test_a_restart_between_two_questions_is_no_failure(internet: Internet) -> None:
    host, program = hub(internet, DUNNO, Dies, DUNNO)
    assert [sent(internet, host)[:3] for _ in range(2)] == ["250", "250"]
    assert program.connections == 2


TROUBLE = [
    HANGS,
    Dies,
    b"action=DUNNO\n",
    b"\n\n",
    b"action=OK\naction=REJECT\n\n",
    b"action=greylist\n\n",
    b"action=REDIRECT ben@xx.example\n\n",
    b"action=PREPEND nothing\n\n",
    b"action=PREPEND Bad Name: x\n\n",
    b"action=BCC nobody\n\n",
    b"action=" + b"x" * 9000 + b"\n\n",
    b"x" * 200_000,
]


@pytest.mark.parametrize("answer", TROUBLE)
@pytest.mark.parametrize("failure", ["tempfail", "skip"])
def test_whatever_is_no_answer_goes_by_the_failure_mode(internet: Internet, answer: Any, failure: str) -> None:
    host, program = hub(internet, answer, failure=failure)
    assert sent(internet, host).startswith("451 4.7.1 " if failure == "tempfail" else "250 ")
    program.answers = [DUNNO]
    assert sent(internet, host).startswith("250 ")


def test_its_options_are_checked_at_start(internet: Internet) -> None:
    bad: list[dict[str, Any]] = [{"stages": []}, {"stages": ["connect"]}, {"address": "unix:"}]
    for options in bad:
        with pytest.raises(ConfigurationError, match=r"policy\.policy-service.*(stages|address)"):
            hub(internet, DUNNO, **options)


def test_nothing_that_is_told_ends_a_line() -> None:
    assert question({"helo_name": "a\nb\0c", "sender": "é"}) == "helo_name=a?b?c\nsender=é\n\n".encode()


def test_unprintable_octets_of_an_answer_are_blanks() -> None:
    assert parse(b"Action=reject \x07no\xff").verdict == Verdict("reject", "5.7.1", "no\N{REPLACEMENT CHARACTER}")
