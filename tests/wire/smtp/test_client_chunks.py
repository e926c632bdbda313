"""The client machine towards servers with CHUNKING (RFC 3030)."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.address import Address
from mailhub.message.envelope import DeliverBy, Mail, Recipient, State
from mailhub.message.needs import BINARY, BODY_8BIT, LONG_LINE, NUL, Needs
from mailhub.wire.smtp.client import SmtpClient
from mailhub.wire.smtp.client_events import Finished, Phase, SendBody
from mailhub.wire.smtp.hop import HopLimits
from mailhub.wire.smtp.outgoing import ChunkedBody, DataBody
from mailhub.wire.stream import BareLines, DataDecoder
from tests.wire.smtp.test_client import ANN, BOB, EVE, FULL, LMTP, MESSAGE, SETTINGS, Talk, ready

CHUNKS = FULL.replace(b"250 SMTPUTF8", b"250-CHUNKING\r\n250-BINARYMIME\r\n250 SMTPUTF8")
SLOW = b"220 mx\r\n250-mx\r\n250 CHUNKING\r\n"
ENVELOPE = b"MAIL FROM:<ann@xx.example> SIZE=9\r\nRCPT TO:<bob@yy.example>\r\nRCPT TO:<eve@yy.example>\r\n"
WHOLE = b"BDAT 12 LAST\r\n.Hi\r\nfolks\r\n"


def late(octets: bytes = CHUNKS) -> Talk:
    """A session that has carried a message, so that the next one waits for its recipients."""
    talk = ready(octets)
    talk.send()
    talk.hear(b"250 a\r\n250 b\r\n250 c\r\n250 d\r\n")
    return talk


def test_a_small_message_goes_with_its_envelope_in_one_write() -> None:
    talk = ready(CHUNKS)
    assert talk.send() == ENVELOPE + WHOLE
    talk.hear(b"250 m\r\n250 b\r\n550 5.1.1 e\r\n")
    assert talk.machine.phase is Phase.FINAL
    talk.hear(b"250 2.0.0 taken\r\n")
    assert talk.states() == [State.DELIVERED, State.FAILED]
    # Of a session that has been idle nobody knows whether the server has closed it.
    assert talk.send() == ENVELOPE
    assert talk.hear(b"250 m\r\n250 b\r\n250 c\r\n") == WHOLE
    talk.hear(b"250 ok\r\n")
    assert talk.states() == [State.DELIVERED] * 2


def test_without_pipelining_each_command_waits() -> None:
    talk = ready(SLOW)
    assert talk.send() == b"MAIL FROM:<ann@xx.example>\r\n"
    assert talk.hear(b"250 m\r\n") == b"RCPT TO:<bob@yy.example>\r\n"
    assert talk.hear(b"250 m\r\n") == b"RCPT TO:<eve@yy.example>\r\n"
    assert talk.hear(b"550 m\r\n") == WHOLE
    talk.hear(b"250 m\r\n")
    assert talk.states() == [State.DELIVERED, State.FAILED]


@pytest.mark.parametrize(
    ("replies", "states"),
    [
        ("550 503 503 503", "FF"),
        ("450 503 503 503", "DD"),
        ("250 550 450 503", "FD"),
        ("250 550 550 250", "FF"),  # it thanks for what nobody gets
        ("250 250 550 452", "DF"),
        ("250 250 250 552", "FF"),
        ("250 250 250 354", "DD"),
    ],
)
def test_refusals_of_what_went_in_one_write(replies: str, states: str) -> None:
    talk = ready(CHUNKS)
    talk.send()
    for code in replies.split():
        talk.hear(f"{code} x\r\n".encode())
    names = {"F": State.FAILED, "D": State.DELAYED}
    assert talk.states() == [names[letter] for letter in states]
    assert (talk.machine.closing, talk.machine.in_doubt) == (False, False)
    assert b"MAIL" in talk.send()


def test_nothing_of_the_message_is_sent_when_nobody_is_left() -> None:
    talk = late()
    assert talk.send() == ENVELOPE
    assert talk.hear(b"250 m\r\n550 b\r\n550 c\r\n") == b""
    assert talk.states() == [State.FAILED] * 2
    assert talk.send() == b"RSET\r\n" + ENVELOPE
    assert talk.hear(b"250 r\r\n550 m\r\n503 b\r\n503 c\r\n") == b""
    assert talk.states() == [State.FAILED] * 2


def begun(octets: bytes = CHUNKS, size: int = 200_000) -> SmtpClient:
    """A large message whose recipients are taken."""
    talk = ready(octets)
    machine = talk.machine
    machine.send(attrs.evolve(MESSAGE, size=size, mail=Mail(None)))
    machine.data_to_send()
    for reply in (b"250 m\r\n", b"250 b\r\n", b"250 c\r\n"):
        machine.receive_data(reply)
        event = machine.next_event()
        machine.data_to_send()
    assert event == SendBody()
    return machine


def test_a_large_message_goes_in_chunks_and_the_last_one_says_so() -> None:
    machine = begun(CHUNKS.replace(b"SIZE 1000", b"SIZE"))
    machine.send_body(b"x" * 500 + b"\r\n")
    assert machine.data_to_send() == b""
    machine.send_body(b".\r\n")
    assert machine.data_to_send() == b"BDAT 502\r\n" + b"x" * 500 + b"\r\n"
    assert (machine.phase, machine.wants_body, machine.full) == (Phase.CHUNK, True, False)
    machine.end_body()
    assert machine.data_to_send() == b"BDAT 3 LAST\r\n.\r\n"
    machine.receive_data(b"250 one\r\n")
    assert machine.next_event() is None
    machine.receive_data(b"250 two\r\n")
    event = machine.next_event()
    assert isinstance(event, Finished)
    assert {outcome.state for outcome in event.outcomes} == {State.DELIVERED}


def test_who_takes_one_command_at_a_time_takes_one_chunk_at_a_time() -> None:
    machine = begun(SLOW)
    machine.send_body(b"a\r\n")
    machine.send_body(b"b\r\n")
    assert machine.full
    machine.receive_data(b"250 one\r\n")
    machine.look_ahead()
    assert not machine.full


@pytest.mark.parametrize(("answer", "state"), [(b"552 5.3.4 large\r\n", State.FAILED), (b"452 x\r\n", State.DELAYED)])
def test_a_chunk_that_is_refused_ends_the_message_and_not_the_session(answer: bytes, state: State) -> None:
    machine = begun(CHUNKS.replace(b"SIZE 1000", b"SIZE"))
    machine.send_body(b"a\r\n")
    machine.send_body(b"b\r\n")
    machine.data_to_send()
    machine.receive_data(answer)
    event = machine.next_event()
    assert isinstance(event, Finished)
    assert {outcome.state for outcome in event.outcomes} == {state}
    machine.send_body(b"c\r\n")
    machine.end_body()
    assert machine.data_to_send() == b""
    machine.send(MESSAGE)
    assert machine.data_to_send().startswith(b"RSET\r\nMAIL")


@pytest.mark.parametrize(
    ("heard", "doubt"),
    [
        (b"", True),
        (b"250 m\r\n250 b\r\n250 c\r\n", True),
        (b"250 m\r\n421 bye\r\n", False),
        (b"250 m\r\n250 b\r\n250 c\r\n421 bye\r\n", False),
        (b"250 m\r\n250 b\r\n250 c\r\nwhat\r\n", True),
        (b"250 m\r\n250 b\r\n250 c\r\n450 later\r\n", False),
        (b"250 m\r\n450 b\r\n450 c\r\n", False),
    ],
)
def test_what_may_have_been_taken_is_in_doubt(heard: bytes, doubt: bool) -> None:
    for octets, go in ((CHUNKS, b""), (FULL, b"354 go\r\n")):
        talk = ready(octets)
        talk.send()
        envelope, behind, final = heard.partition(b"c\r\n")
        talk.hear(envelope + behind + (go if behind else b""))
        talk.hear(final)
        talk.machine.fail("4.4.2", "Connection lost")
        talk.hear(b"")
        sent = octets is CHUNKS or b"c\r\n" in heard
        assert talk.machine.in_doubt is (doubt and sent)
        assert set(talk.states()) == {State.DELAYED}


def test_a_server_that_thanks_before_the_end_may_have_taken_what_there_was() -> None:
    talk = ready(FULL)
    machine = talk.machine
    machine.send(MESSAGE)
    machine.receive_data(b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n")
    assert machine.next_event() == SendBody()
    machine.send_body(b"half")
    machine.receive_data(b"250 ok\r\n")
    assert isinstance(machine.next_event(), Finished)
    assert machine.in_doubt


def test_lmtp_answers_for_each_recipient_after_the_last_chunk() -> None:
    talk = ready(CHUNKS, LMTP)
    three = attrs.evolve(MESSAGE, recipients=(Recipient(ANN), Recipient(BOB), Recipient(EVE)))
    # Who is taken has to be known before: it says how many replies come.
    assert b"BDAT" not in talk.send(three)
    assert talk.hear(b"250 m\r\n250 a\r\n550 b\r\n250 c\r\n") == WHOLE
    talk.hear(b"250 2.0.0 stored\r\n")
    assert talk.machine.phase is Phase.FINAL
    talk.hear(b"452 4.2.2 full\r\n")
    assert talk.states() == [State.DELIVERED, State.FAILED, State.DELAYED]
    # All are refused: nothing more is said.
    talk.send()
    talk.hear(b"250 r\r\n250 m\r\n550 b\r\n550 c\r\n")
    assert talk.states() == [State.FAILED] * 2
    assert not talk.machine.closing


# --- Binary ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "octets", "line", "body"),
    [
        (BINARY, CHUNKS, b" BODY=BINARYMIME", b"a\nb\0\r" + b"x" * 2000),
        (BINARY | BODY_8BIT, CHUNKS, b" BODY=BINARYMIME", b"a\nb\0\r" + b"x" * 2000),
        (LONG_LINE | NUL, CHUNKS, b"", b"a\r\nb\r\n" + b"x" * 990 + b"\r\n " + b"x" * 987),
    ],
)
def test_what_is_declared_as_binary_goes_as_it_is(bits: int, octets: bytes, line: bytes, body: bytes) -> None:
    talk = ready(octets)
    talk.machine.send(attrs.evolve(MESSAGE, needs=Needs(bits)))
    assert talk.machine.next_event() == SendBody()
    talk.machine.send_body(b"a\nb\0\r" + b"x" * 2000)
    talk.machine.end_body()
    command, _, rest = talk.machine.data_to_send().partition(b"\r\n")
    assert command == b"MAIL FROM:<ann@xx.example> SIZE=9" + line
    sent = re.search(rb"BDAT (\d+) LAST\r\n(.*)\Z", rest, re.DOTALL)
    assert sent is not None
    assert int(sent[1]) == len(sent[2])
    assert sent[2].startswith(body if line else body[:990])
    assert (b"\0" in sent[2]) is bool(line)


@pytest.mark.parametrize("lacks", [b"250-CHUNKING\r\n", b"250-BINARYMIME\r\n", b"250-8BITMIME\r\n"])
def test_binary_is_nothing_for_others(lacks: bytes) -> None:
    talk = ready(CHUNKS.replace(lacks, b""))
    assert talk.send(attrs.evolve(MESSAGE, needs=Needs(BINARY))) == b""
    assert {outcome.status for outcome in talk.outcomes} == {"5.6.1"}


# --- Look-alikes of the end -----------------------------------------------------------------------------------------

# Everything that one server or another has taken for the end of a message, or for the start of one.
PIECES = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b".",
        b"..",
        b"\0",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"x",
        b"y" * 990,
    ]
)
MESSAGES = st.lists(st.lists(PIECES, max_size=6).map(b"".join), max_size=8)


def canonical(octets: bytes) -> bytes:
    text = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n").replace(b"\0", b"")
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


@settings(deadline=None, max_examples=300)
@given(MESSAGES)
def test_no_server_can_mistake_something_within_the_message_for_its_end(pieces: list[bytes]) -> None:
    """Line ends are CRLF alone, a dot begins no line but the last, and the message comes out whole."""
    body = DataBody(wrap=False)
    wire = b"".join([body.feed(piece) for piece in pieces]) + body.finish()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", wire)
    assert wire.endswith(b".\r\n")
    assert [line for line in wire.split(b"\r\n") if line == b"."] == [b"."]
    decoder = DataDecoder(BareLines.REJECT)
    assert decoder.feed(wire) == canonical(b"".join(pieces))
    assert (decoder.ended, decoder.rest, decoder.violation) == (True, b"", None)


@settings(deadline=None, max_examples=200)
@given(MESSAGES, st.booleans())
def test_chunks_hold_what_they_say(pieces: list[bytes], binary: bool) -> None:
    body = ChunkedBody(wrap=False, binary=binary)
    wire = b"".join([body.feed(piece) for piece in pieces]) + body.finish()
    found, last = [], False
    while wire:
        assert not last
        command, _, rest = wire.partition(b"\r\n")
        match = re.fullmatch(rb"BDAT ([0-9]+)( LAST)?", command)
        assert match is not None
        size, last = int(match[1]), match[2] is not None
        assert len(rest) >= size
        found.append(rest[:size])
        wire = rest[size:]
    assert last
    whole = b"".join(pieces)
    assert b"".join(found) == (whole if binary else canonical(whole))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.one_of(st.binary(max_size=30), st.sampled_from([CHUNKS, b"250 x\r\n", b"354 x\r\n", b"550 x\r\n"])),
        max_size=15,
    )
)
def test_random_servers_never_get_a_message_lost_or_raise(pieces: list[bytes]) -> None:
    talk = Talk(SETTINGS)
    for piece in [CHUNKS, *pieces]:
        talk.hear(piece)
        if talk.machine.phase is Phase.READY and not talk.machine.closing:
            talk.send()
    talk.machine.fail("4.4.2", "Connection lost")
    talk.hear(b"")
    for event in talk.events:
        if isinstance(event, Finished):
            assert len(event.outcomes) == 2


# --- Limits of a hop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", HopLimits()),
        ("RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1", HopLimits(5, 20, 1)),
        ("rcptmax=020", HopLimits(recipients=20)),
        ("RCPTMAX=0 MAILMAX=-1 RCPTDOMAINMAX=1234567 X=3 MAILMAX", HopLimits()),
    ],
)
def test_limits_are_read(text: str, limits: HopLimits) -> None:
    assert HopLimits.read(text) == limits


def test_the_first_recipients_that_may_stand_together() -> None:
    names = [Address(local, domain) for local, domain in ("ax", "bx", "cy", "dx", "ez")]
    assert HopLimits(recipients=2).batch(names) == names[:2]
    assert HopLimits(domains=1).batch(names) == [names[0], names[1], names[3]]
    assert HopLimits(recipients=1, domains=1).batch(names) == names[:1]
    assert HopLimits().batch(names) == names


@pytest.mark.parametrize(
    ("offered", "left", "status"),
    [
        (b"60", 59, "5.4.7"),
        (b"60", 60, ""),
        (b"60,MORE", 59, "5.4.7"),
        (b"999999999", 999999998, "5.4.7"),
        (b"", 1, ""),
        (b",60", 1, ""),
        (b"6x", 1, ""),
    ],
)
def test_a_server_that_takes_longer_than_there_is_time_is_not_asked(offered: bytes, left: int, status: str) -> None:
    """RFC 2852 2 and 4.1.4.1."""
    talk = ready(FULL.replace(b"250 SMTPUTF8", b"250 DELIVERBY " + offered))
    sent = talk.send(attrs.evolve(MESSAGE, mail=Mail(ANN, by=DeliverBy(left, "R"))))
    assert (b"BY=%d;R" % left in sent) is not bool(status)
    if status:
        assert {outcome.status for outcome in talk.outcomes} == {status}
