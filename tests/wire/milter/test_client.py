"""The milter machine: what is said to filters, what is made of their answers, and what ends them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.edits import EDITS_LIMIT
from mailhub.wire.milter.client import MilterClient, Offer
from mailhub.wire.milter.packets import DATA_LIMIT, PACKET_LIMIT, packet
from mailhub.wire.milter.vocabulary import (
    EVERY_ACTION,
    EVERY_STEP,
    Action,
    AddHeader,
    AddRecipient,
    Answer,
    Broken,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    Event,
    InsertHeader,
    Negotiated,
    NewBody,
    Progress,
    Quarantine,
    Stage,
    Step,
)
from mailhub.wire.smtp.replies import Reply

OFFER = Offer(macros={Stage.CONNECT: ("j", "{daemon_name}"), Stage.MAIL: ("i", "{mail_addr}")})
MACROS = {"j": "mx.xx.example", "daemon_name": "smtp", "i": "7-1", "mail_addr": "a@yy.example", "v": "mailhub"}


def options(version: int = 6, actions: int = EVERY_ACTION, steps: int = 0, more: bytes = b"") -> bytes:
    return packet(b"O", struct.pack("!III", version, actions, steps) + more)


def ready(octets: bytes = options(), offer: Offer = OFFER) -> MilterClient:
    """A machine that has negotiated."""
    machine = MilterClient(offer)
    machine.data_to_send()
    machine.receive_data(octets)
    event = machine.next_event()
    assert isinstance(event, Negotiated), event
    return machine


def events(machine: MilterClient, octets: bytes) -> list[Event]:
    machine.receive_data(octets)
    found = []
    while (event := machine.next_event()) is not None:
        found.append(event)
    return found


def at_end(octets: bytes, start: bytes = options(), offer: Offer = OFFER) -> list[Event]:
    """What becomes of octets that are the answer to the end of a message."""
    machine = ready(start, offer)
    assert machine.end_of_message()
    return events(machine, octets)


def test_all_there_is_is_offered_by_version_6() -> None:
    assert MilterClient(Offer()).data_to_send() == bytes.fromhex("0000000d 4f 00000006 000001ff 001fffff")


@pytest.mark.parametrize("version", [2, 3, 4, 5, 6])
def test_versions_from_2_on_are_spoken_and_not_asked_what_they_do_not_know(version: int) -> None:
    machine = ready(options(version, 0x3F))
    assert machine.negotiated == Negotiated(version, Action(0x3F), Step(0))
    assert machine.data() is (version >= 4)
    machine = ready(options(version))
    assert machine.unknown("XYZZY") is (version >= 3)
    machine = ready(options(version))
    assert machine.next_client() is (version == 6)
    assert machine.data_to_send() == (packet(b"K") if version == 6 else b"")


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (options(1), "version 1 of the protocol"),
        (options(7), "version 7 of the protocol"),
        (options(6, 0x200), "actions 0x200"),
        (options(6, 0, 0x10000000), "steps 0x10000000"),
        (packet(b"O", b"\0\0\0\6"), "options of 4 octets"),
        (packet(b"c"), "b'c' before its options"),
        (options(more=b"\0\0\0"), "a number that is cut off"),
        (options(more=b"\0\0\0\0j"), "a text without its end"),
        (options(more=b"\0\0\0\7j\0"), "macros for the stage 7"),
        (b"\0\0\0\0", "a packet of 0 octets"),
        (b"\xff\xff\xff\xff", "a packet of 4294967295 octets"),
        (struct.pack("!I", PACKET_LIMIT + 1), f"a packet of {PACKET_LIMIT + 1} octets"),
        (b"220 mx.example ESMTP\r\n", "octets"),
    ],
)
def test_a_filter_that_negotiates_nonsense_is_broken(octets: bytes, reason: str) -> None:
    machine = MilterClient(OFFER)
    machine.receive_data(octets + options())
    event = machine.next_event()
    assert isinstance(event, Broken)
    assert reason in event.reason
    assert machine.closing
    assert machine.next_event() is None


@pytest.mark.parametrize(
    ("say", "octets"),
    [
        (lambda m: m.connect("c.example", "inet", "192.0.2.1", 4711), b"Cc.example\x004\x12\x67192.0.2.1\0"),
        (lambda m: m.connect("[2001:db8::1]", "inet6", "2001:db8::1"), b"C[2001:db8::1]\x006\0\x002001:db8::1\0"),
        (lambda m: m.connect("localhost", "unix", "/run/x"), b"Clocalhost\0L\0\0/run/x\0"),
        (lambda m: m.connect("localhost", "unknown"), b"Clocalhost\0U"),
        (lambda m: m.helo("c.example"), b"Hc.example\0"),
        (lambda m: m.mail("<>"), b"M<>\0"),
        (lambda m: m.mail("<a@b>", "SIZE=1 BODY=8BITMIME"), b"M<a@b>\0SIZE=1\0BODY=8BITMIME\0"),
        (lambda m: m.rcpt("<a@b>", " NOTIFY=NEVER"), b"R<a@b>\0NOTIFY=NEVER\0"),
        (lambda m: m.data(), b"T"),
        (lambda m: m.header(b"Subject", b" a\r\n b"), b"LSubject\0a\n b\0"),
        (lambda m: m.header(b"Subject", b"\ta\0b"), b"LSubject\0ab\0"),
        (lambda m: m.header(b"Subject", b"  a"), b"LSubject\0 a\0"),
        (lambda m: m.end_of_header(), b"N"),
        (lambda m: m.body(b"octets\0"), b"Boctets\0"),
        (lambda m: m.end_of_message(), b"E"),
        (lambda m: m.unknown("XYZZY\0"), b"UXYZZY\0"),
    ],
)
def test_each_command_is_said_and_answered(say: Callable[[MilterClient], bool], octets: bytes) -> None:
    machine = ready()
    assert say(machine)
    assert machine.data_to_send() == packet(octets[:1], octets[1:])
    assert events(machine, packet(b"c")) == [Answer("continue")]


def test_a_field_that_libmilter_would_hang_up_at_is_cut() -> None:
    machine = ready()
    machine.header(b"X" * 1000, b"y" * 100_000)
    sent = machine.data_to_send()
    assert len(sent) - 5 <= DATA_LIMIT


def test_the_space_after_the_colon_is_told_who_wants_it() -> None:
    machine = ready(options(steps=Step.LEADING_SPACE))
    machine.header(b"Subject", b" a")
    assert machine.data_to_send() == packet(b"L", b"Subject\0 a\0")


_SAYINGS: Sequence[tuple[Step, Step, Callable[[MilterClient], bool]]] = [
    (Step.NO_CONNECT, Step.SILENT_CONNECT, lambda m: m.connect("c.example", "unknown")),
    (Step.NO_HELO, Step.SILENT_HELO, lambda m: m.helo("c.example")),
    (Step.NO_MAIL, Step.SILENT_MAIL, lambda m: m.mail("<>")),
    (Step.NO_RCPT, Step.SILENT_RCPT, lambda m: m.rcpt("<a@b>")),
    (Step.NO_DATA, Step.SILENT_DATA, lambda m: m.data()),
    (Step.NO_HEADER, Step.SILENT_HEADER, lambda m: m.header(b"A", b"b")),
    (Step.NO_END_OF_HEADER, Step.SILENT_END_OF_HEADER, lambda m: m.end_of_header()),
    (Step.NO_BODY, Step.SILENT_BODY, lambda m: m.body(b"a")),
    (Step.NO_UNKNOWN, Step.SILENT_UNKNOWN, lambda m: m.unknown("A")),
]


@pytest.mark.parametrize(("no", "silent", "say"), _SAYINGS)
def test_what_a_filter_does_not_want_is_not_sent_and_what_it_does_not_answer_not_waited_for(
    no: Step, silent: Step, say: Callable[[MilterClient], bool]
) -> None:
    machine = ready(options(steps=no))
    assert not say(machine)
    assert machine.data_to_send() == b""
    machine = ready(options(steps=silent))
    assert not say(machine)
    assert machine.data_to_send()
    assert machine.end_of_message(), "which is always answered"
    machine = ready(options(steps=EVERY_STEP & ~(no | silent)))
    assert say(machine), "the others have nothing to do with it"


def test_macros_stand_before_the_command_of_their_stage() -> None:
    machine = ready()
    machine.connect("c.example", "unknown", macros=MACROS)
    defined = packet(b"D", b"Cj\0mx.xx.example\0{daemon_name}\0smtp\0")
    assert machine.data_to_send() == defined + packet(b"C", b"c.example\0U")
    events(machine, packet(b"c"))
    machine.helo("c.example", macros=MACROS)
    assert machine.data_to_send() == packet(b"H", b"c.example\0"), "none are sent at this stage"
    events(machine, packet(b"c"))
    machine.mail("<>", macros={"j": "x"})
    assert machine.data_to_send() == packet(b"M", b"<>\0"), "none of these is known"


def test_a_filter_may_choose_its_macros() -> None:
    more = struct.pack("!I", Stage.MAIL) + b"{j}, v nothing\0" + struct.pack("!I", Stage.CONNECT) + b"\0"
    machine = ready(options(more=more))
    machine.connect("c.example", "unknown", macros=MACROS)
    assert machine.data_to_send()[4:5] == b"C"
    events(machine, packet(b"c"))
    machine.mail("<>", macros=MACROS)
    assert machine.data_to_send().startswith(packet(b"D", b"Mj\0mx.xx.example\0v\0mailhub\0"))


@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        (packet(b"c"), Answer("continue")),
        (packet(b"a"), Answer("accept")),
        (packet(b"r"), Answer("reject")),
        (packet(b"t"), Answer("tempfail")),
        (packet(b"d"), Answer("discard")),
        (packet(b"4"), Answer("close")),
        (packet(b"f"), Answer("close")),
        (packet(b"y", b"550 5.7.1 no\0"), Answer("reply", Reply(550, "5.7.1", ("no",)))),
        (packet(b"y", b"451\0"), Answer("reply", Reply(451, "", ("",)))),
        (packet(b"y", b"550 100%% no\0"), Answer("reply", Reply(550, "", ("100% no",)))),
        (
            packet(b"y", b"550-5.7.1 not\r\n550-5.7.1 now\r\n550 5.7.1 \x07ever\0"),
            Answer("reply", Reply(550, "5.7.1", ("not", "now", "ever"))),
        ),
    ],
)
def test_answers(octets: bytes, answer: Answer) -> None:
    machine = ready()
    machine.mail("<>")
    assert events(machine, packet(b"p") + packet(b"p") + octets) == [Progress(), Progress(), answer]


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"250 fine\0",
            b"250 2.0.0 fine\0",
            b"650 odd\0",
            b"no\0",
            b"55 no\0",
            b"\0",
            b"550 no end",
            b"550 4.7.1 no\0",
        ),
        *(b"550-a\r\n451 b\0", b"550 a\r\n550 b\0", b"550-a\0", b"550-" + b"a\r\n550-" * 200 + b"b\0"),
    ],
)
def test_a_reply_that_is_none_breaks_the_filter(text: bytes) -> None:
    machine = ready()
    machine.mail("<>")
    (event,) = events(machine, packet(b"y", text))
    assert isinstance(event, Broken)


@pytest.mark.parametrize(
    ("octets", "change"),
    [
        (packet(b"h", b"X-A\0b\0"), AddHeader("X-A", "b")),
        (packet(b"h", b"X-A\0\0"), AddHeader("X-A", "")),
        (packet(b"i", b"\0\0\0\1X-A\0b\n c\0"), InsertHeader(1, "X-A", "b\n c")),
        (packet(b"m", b"\0\0\0\2X-A\0\0"), ChangeHeader(2, "X-A", "")),
        (packet(b"e", b"<a@b>\0"), ChangeSender("<a@b>")),
        (packet(b"e", b"<a@b>\0RET=HDRS\0"), ChangeSender("<a@b>", "RET=HDRS")),
        (packet(b"+", b"<a@b>\0"), AddRecipient("<a@b>")),
        (packet(b"2", b"<a@b>\0NOTIFY=NEVER\0"), AddRecipient("<a@b>", "NOTIFY=NEVER")),
        (packet(b"2", b"<a@b>\0"), AddRecipient("<a@b>")),
        (packet(b"-", b"a@b\0"), DeleteRecipient("a@b")),
        (packet(b"q", b"looks odd\0"), Quarantine("looks odd")),
    ],
)
def test_changes_come_with_the_answer_to_the_end_of_a_message_alone(octets: bytes, change: object) -> None:
    assert at_end(octets * 2 + packet(b"c")) == [Answer("continue", None, (change, change))]  # type: ignore[arg-type]
    machine = ready()
    machine.end_of_header()
    (event,) = events(machine, octets)
    assert isinstance(event, Broken)
    (event,) = at_end(octets, options(actions=0))
    assert isinstance(event, Broken)
    assert "not asked to make" in event.reason
    (event,) = at_end(octets[:-1].replace(octets[:4], struct.pack("!I", len(octets) - 5)))
    assert isinstance(event, Broken), "its last text has no end"


def test_changes_are_of_one_message() -> None:
    machine = ready()
    machine.end_of_message()
    assert events(machine, packet(b"h", b"A\0b\0") + packet(b"a")) == [Answer("accept", None, (AddHeader("A", "b"),))]
    machine.end_of_message()
    assert events(machine, packet(b"c")) == [Answer("continue")]


def test_a_new_body_comes_in_pieces_and_has_its_bound() -> None:
    offer = Offer(body_octets=10)
    pieces = packet(b"b", b"12345") * 2
    assert at_end(pieces + packet(b"c"), offer=offer) == [NewBody(b"12345"), NewBody(b"12345"), Answer("continue")]
    assert at_end(pieces + packet(b"b", b"6"), offer=offer)[-1] == Broken("a body of more than 10 octets")
    machine = ready(offer=offer)
    for _ in range(2):
        machine.end_of_message()
        assert events(machine, pieces + packet(b"c"))[-1] == Answer("continue")


def test_changes_have_their_bounds() -> None:
    one = packet(b"h", b"A\0b\0")
    assert isinstance(at_end(one * EDITS_LIMIT + packet(b"c"))[-1], Answer)
    assert isinstance(at_end(one * (EDITS_LIMIT + 1))[-1], Broken)
    assert isinstance(at_end(packet(b"h", b"A\0" + b"b" * 600_000 + b"\0") * 2)[-1], Broken)


@pytest.mark.parametrize(
    ("say", "octets", "reason"),
    [
        (lambda m: m.mail("<>"), packet(b"s"), "enough of mail"),
        (lambda m: m.connect("a", "unknown"), packet(b"d"), "where there is no message"),
        (lambda m: m.helo("a"), packet(b"d"), "where there is no message"),
        (lambda m: m.mail("<>"), packet(b"c", b"x"), "with 1 octets"),
        (lambda m: m.mail("<>"), packet(b"O"), "is no answer to mail"),
        (lambda m: m.mail("<>"), packet(b"\0"), "is no answer to mail"),
        (lambda m: m.mail("<>"), packet(b"b", b"x"), "is no answer to mail"),
        (lambda m: m.end_of_message(), packet(b"z"), "means nothing"),
        (lambda m: m.end_of_message(), packet(b"l"), "means nothing"),
        (lambda m: m.mail("<>"), packet(b"c") * 2, "where it was asked nothing"),
    ],
)
def test_an_answer_that_there_is_not_breaks_the_filter(
    say: Callable[[MilterClient], bool], octets: bytes, reason: str
) -> None:
    machine = ready()
    assert say(machine)
    event = events(machine, octets)[-1]
    assert isinstance(event, Broken)
    assert reason in event.reason
    machine.data_to_send()
    assert machine.closing
    assert machine.helo("a")
    assert machine.data_to_send() == b"", "nothing is said any more"


def test_a_filter_that_speaks_before_it_is_asked_is_broken() -> None:
    machine = ready()
    machine.receive_data(packet(b"c")[:3])
    assert machine.helo("a")
    assert machine.next_event() == Broken("it speaks before it is asked")


def test_a_filter_has_enough_of_what_it_says_until_the_next_message() -> None:
    machine = ready()
    assert machine.mail("<>")
    events(machine, packet(b"c"))
    says: Sequence[Callable[[], bool]] = (
        partial(machine.rcpt, "<a@b>"),
        partial(machine.header, b"A", b"b"),
        partial(machine.body, b"a"),
    )
    for say in says:
        assert say()
        assert events(machine, packet(b"s")) == [Answer("skip")]
        machine.data_to_send()
        assert not say()
        assert machine.data_to_send() == b""
    machine.abort()
    assert machine.body(b"a")


def test_who_says_something_out_of_turn_has_a_bug() -> None:
    machine = MilterClient(OFFER)
    with pytest.raises(RuntimeError, match="helo out of turn"):
        machine.helo("a")
    machine = ready()
    machine.helo("a")
    with pytest.raises(RuntimeError, match="out of turn"):
        machine.abort()
    with pytest.raises(RuntimeError, match="mail out of turn"):
        machine.mail("<>")


def test_the_ways_to_take_leave() -> None:
    machine = ready()
    machine.abort()
    assert machine.next_client()
    machine.quit()
    assert machine.data_to_send() == packet(b"A") + packet(b"K") + packet(b"Q")
    assert machine.closing
    assert not machine.next_client()


STREAM = (
    options(more=b"\0\0\0\2i\0"),
    packet(b"c"),
    packet(b"p")
    + packet(b"h", b"X-A\0b\0")
    + packet(b"b", b"body")
    + packet(b"q", b"odd\0")
    + packet(b"y", b"550 no\0"),
)


@given(st.data())
def test_any_split_of_octets_gives_the_same(data: st.DataObject) -> None:
    machine = MilterClient(OFFER)
    found: list[Event] = []
    says: Sequence[Callable[[], object]] = (list, partial(machine.mail, "<>"), machine.end_of_message)
    for octets, say in zip(STREAM, says, strict=True):
        say()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=6)))
        for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            found += events(machine, octets[start:end])
    assert found == [
        Negotiated(6, EVERY_ACTION, Step(0)),
        Answer("continue"),
        Progress(),
        NewBody(b"body"),
        Answer("reply", Reply(550, "", ("no",)), (AddHeader("X-A", "b"), Quarantine("odd"))),
    ]


@given(st.binary(max_size=200), st.integers(0, 2))
def test_no_octets_raise_or_are_held_without_bound(octets: bytes, stage: int) -> None:
    machine = MilterClient(OFFER) if not stage else ready()
    if stage:
        machine.mail("<>") if stage == 1 else machine.end_of_message()
    for _ in range(3):
        events(machine, octets)
    assert len(machine._reader) <= PACKET_LIMIT + 600
