"""How many transactions a server gets, of how many recipients, and what becomes of those that end in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.defer import Deferred

from mailhub.message.address import Address
from mailhub.message.envelope import Mail, State
from tests.delivery.relay.test_smtp import BODY, Server, World, states

CHUNKING = ["PIPELINING", "8BITMIME", "CHUNKING"]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    stopped = Deferred.fromCoroutine(made.agent().stop())
    made.clock.pump([0.5] * 20)
    assert stopped.called
    assert made.clock.getDelayedCalls() == []


def verbs(server: Server) -> str:
    return " ".join(line.split(" ")[0] for line in server.commands)


# --- Chunks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
def test_who_offers_chunking_gets_chunks(world: World, kind: str) -> None:
    server = world.server("10.0.0.1", Server(extensions=CHUNKING), host="mx1")
    target = "10.0.0.1:25" if kind == "lmtp" else ""
    for _ in range(2):
        assert states(world.deliver("b", "c", target=target, kind=kind)) == ["delivered"] * 2
    assert server.messages == [BODY] * 2
    assert verbs(server).removeprefix("LHLO ").removeprefix("EHLO ") == "MAIL RCPT RCPT BDAT MAIL RCPT RCPT BDAT"
    assert server.commands[-1] == f"BDAT {len(BODY)} LAST"


def test_a_large_message_goes_in_chunks_of_bounded_size(world: World) -> None:
    world.body = b"Subject: s\r\n\r\n" + (b"x" * 76 + b"\r\n") * 10_000
    server = world.server("10.0.0.1", Server(extensions=CHUNKING), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert server.messages == [world.body]
    sizes = [int(line.split(" ")[1]) for line in server.commands if line.startswith("BDAT")]
    assert len(sizes) > 1
    assert max(sizes) <= 70_000
    assert sum(sizes) == len(world.body)


def test_a_chunk_that_is_refused_for_now_goes_to_the_next_server(world: World) -> None:
    world.body = b"Subject: s\r\n\r\n" + (b"x" * 76 + b"\r\n") * 10_000
    first = world.server("10.0.0.1", Server(extensions=CHUNKING, CHUNK=["452 4.3.1 full"]), host="mx1")
    second = world.server("10.0.0.2", Server(extensions=CHUNKING), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert (first.messages, second.messages) == ([], [world.body])


def test_what_is_binary_goes_to_who_takes_it_and_is_encoded_for_others(world: World) -> None:
    world.mail = Mail(Address("a", "xx.example"), "BINARYMIME")
    world.body = (
        b"MIME-Version: 1.0\r\nContent-Type: application/x-y\r\nContent-Transfer-Encoding: binary\r\n\r\na\nb\rc\r\n"
    )
    plain = world.server("10.0.0.1", Server(extensions=CHUNKING), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    (text,) = plain.messages
    assert b"Content-Transfer-Encoding: base64" in text
    assert b"\nb" not in text
    able = world.server("10.0.0.2", Server(extensions=[*CHUNKING, "BINARYMIME"]), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert able.messages == [world.body]
    assert able.commands[1] == "MAIL FROM:<a@xx.example> BODY=BINARYMIME"
    assert len(plain.messages) == 1


# --- Recipients -----------------------------------------------------------------------------------------------------


def test_no_more_recipients_than_a_server_takes_at_once(world: World) -> None:
    """RFC 9422."""
    server = world.server("10.0.0.1", Server(extensions=["PIPELINING", "LIMITS RCPTMAX=2"]), host="mx1")
    assert states(world.deliver(*"bcdef")) == ["delivered"] * 5
    assert verbs(server) == "EHLO MAIL RCPT RCPT DATA MAIL RCPT RCPT DATA MAIL RCPT DATA"
    assert server.connections == 1


def test_no_more_messages_in_a_session_than_a_server_takes(world: World) -> None:
    extensions = ["PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=1"]
    server = world.server("10.0.0.1", Server(extensions=extensions), host="mx1")
    assert states(world.deliver(*"bcdef")) == ["delivered"] * 5
    assert server.connections == 3


def test_of_as_many_domains_as_a_server_takes_at_once(world: World) -> None:
    server = world.server("10.0.0.1", Server(extensions=["PIPELINING", "LIMITS RCPTDOMAINMAX=1"]))
    names = ["b@yy.example", "c@zz.example", "d@yy.example"]
    assert states(world.deliver(*names, target="10.0.0.1:25")) == ["delivered"] * 3
    recipients = [line for line in server.commands if line.startswith(("RCPT", "DATA"))]
    assert recipients == [
        *("RCPT TO:<b@yy.example>", "RCPT TO:<d@yy.example>", "DATA"),
        *("RCPT TO:<c@zz.example>", "DATA"),
    ]


@pytest.mark.parametrize("said", ["452 4.5.3 too many", "452 too many", "552 too many"])
@pytest.mark.parametrize("extensions", [["PIPELINING"], [], CHUNKING])
def test_those_too_many_go_in_a_second_transaction_at_once(world: World, extensions: list[str], said: str) -> None:
    script = {"RCPT": ["250 ok", "250 ok", said, said, "250 ok"]}
    server = world.server("10.0.0.1", Server(extensions=extensions, **script), host="mx1")
    other = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver(*"bcde")) == ["delivered"] * 4
    assert [line for line in server.commands if line.startswith("RCPT")][4:] == [
        "RCPT TO:<d@yy.example>",
        "RCPT TO:<e@yy.example>",
    ]
    assert (len(server.messages), server.connections, other.connections) == (2, 1, 0)


def test_a_server_that_takes_nobody_is_not_asked_for_ever(world: World) -> None:
    server = world.server("10.0.0.1", Server(RCPT=["452 4.5.3 too many"]), host="mx1")
    (first, second) = world.deliver("b", "c")
    assert (first.state, first.status, second.state) == (State.DELAYED, "4.5.3", State.DELAYED)
    assert verbs(server).count("MAIL") == 1


def test_with_a_full_mailbox_nobody_else_waits(world: World) -> None:
    server = world.server("10.0.0.1", Server(RCPT=["452 4.2.2 full", "250 ok"]), host="mx1")
    first, second = world.deliver("b", "c")
    assert (first.state, first.status, second.state) == (State.DELAYED, "4.2.2", State.DELIVERED)
    assert verbs(server).count("MAIL") == 1


def test_others_are_not_asked_for_where_the_message_itself_must_wait(world: World) -> None:
    script = {"END": ["451 4.7.1 greylisted"]}
    server = world.server("10.0.0.1", Server(extensions=["LIMITS RCPTMAX=1"], **script), host="mx1")
    assert {(outcome.state, outcome.status) for outcome in world.deliver(*"bcd")} == {(State.DELAYED, "4.7.1")}
    assert verbs(server).count("MAIL") == 1
    # One that is refused for now says nothing of others.
    server.script = {"RCPT": ["450 4.2.1 busy", "250 ok"], "DATA": ["354 go"], "END": ["250 ok"]}
    assert states(world.deliver(*"bcd")) == ["delayed", "delivered", "delivered"]


# --- Breaking off ---------------------------------------------------------------------------------------------------


STAGES = ("GREET", "MAIL", "RCPT", "DATA", "END")
BREAKING_OFF = [
    (extensions, stage)
    for extensions in (["PIPELINING"], [], CHUNKING)
    for stage in STAGES
    if stage != "DATA" or "CHUNKING" not in extensions
]


@pytest.mark.parametrize(("extensions", "stage"), BREAKING_OFF)
@pytest.mark.parametrize("said", ["421 4.3.2 going down", "421"])
def test_421_at_any_stage_sends_it_to_the_next_server(
    world: World, extensions: list[str], stage: str, said: str
) -> None:
    """Who says so has not taken it, whatever it was given."""
    first = world.server("10.0.0.1", Server(extensions=extensions, **{stage: [said]}), host="mx1")
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver("b", "c")) == ["delivered"] * 2
    assert second.messages == [BODY]
    assert first.connections == 1


@pytest.mark.parametrize("end", ["drop", "silence", "garbage", "250-never", "999 what"])
@pytest.mark.parametrize("extensions", [["PIPELINING"], CHUNKING])
def test_what_may_have_been_taken_waits(world: World, end: str, extensions: list[str]) -> None:
    first = world.server("10.0.0.1", Server(extensions=extensions, END=[end]), host="mx1")
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    (outcome,) = world.deliver("b", steps=3000)
    assert outcome.state is State.DELAYED
    assert first.messages == [BODY]
    assert second.connections == 0


@pytest.mark.parametrize(("code", "state"), [("250", "delivered"), ("554", "failed")])
@pytest.mark.parametrize("extensions", [["PIPELINING"], CHUNKING])
def test_what_is_said_of_a_message_without_end_is_said(
    world: World, code: str, state: str, extensions: list[str]
) -> None:
    end = f"{code}-never\r\n" * 200
    first = world.server("10.0.0.1", Server(extensions=extensions, END=[end]), host="mx1")
    assert states(world.deliver("b", steps=3000)) == [state]
    assert first.messages == [BODY]


@pytest.mark.parametrize("extensions", [["PIPELINING"], CHUNKING])
def test_a_reply_too_many_is_not_taken_for_that_to_the_next_message(world: World, extensions: list[str]) -> None:
    server = world.server("10.0.0.1", Server(extensions=extensions, END=["250 ok\r\n250 ok", "554 no"]), host="mx1")
    assert states(world.deliver("b")) == ["delivered"]
    assert states(world.deliver("b")) == ["failed"]
    assert server.connections == 2


def test_a_message_that_was_cut_off_before_its_end_goes_to_the_next_server(world: World) -> None:
    """Without its end no server has taken it (RFC 5321 4.1.1.4)."""
    world.body = b"Subject: s\r\n\r\n" + (b"x" * 76 + b"\r\n") * 10_000
    world.server("10.0.0.1", Server(extensions=CHUNKING, CHUNK=["drop"]), host="mx1")
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    assert states(world.deliver("b")) == ["delivered"]
    assert len(second.messages) == 1


def test_who_tells_success_itself_is_known(world: World) -> None:
    """RFC 3461 5.2.2."""
    world.server("10.0.0.1", Server(extensions=["PIPELINING", "DSN"]), host="mx1")
    (outcome,) = world.deliver("b")
    assert (outcome.state, outcome.dsn) == (State.DELIVERED, True)


def test_whom_a_server_has_put_off_another_gets_although_the_message_is_in_doubt(world: World) -> None:
    """Of LMTP's recipients, and of SMTP's, each has its own answer."""
    script = {"RCPT": ["250 ok", "450 4.2.1 busy", "250 ok"], "END": ["drop"]}
    first = world.server("10.0.0.1", Server(**script), host="mx1")
    second = world.server("10.0.0.2", Server(), host="mx2", preference=20)
    outcomes = world.deliver("b", "c", "d")
    assert [(outcome.state, outcome.remote) for outcome in outcomes] == [
        (State.DELAYED, "mx1"),
        (State.DELIVERED, "mx2"),
        (State.DELAYED, "mx1"),
    ]
    assert (len(first.messages), len(second.messages)) == (1, 1)
