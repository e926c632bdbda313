"""BDAT and BINARYMIME on the server machine (RFC 3030)."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.envelope import Mail, Recipient
from mailhub.wire.smtp.events import (
    BodyAborted,
    BodyChunk,
    BodyEnd,
    DataStart,
    Event,
    Hello,
    MailFrom,
    RcptTo,
    Reset,
)
from mailhub.wire.smtp.extensions import COMPLETE
from mailhub.wire.smtp.replies import reply
from mailhub.wire.smtp.server import SmtpServer
from mailhub.wire.stream import BareLines
from tests.wire.smtp.test_server import ANN, BEFORE, BOB, LMTP, SETTINGS, Answer, Peer, accept_all, joined, refusing

BINARY = (
    b"EHLO client.example\r\nMAIL FROM:<ann@xx.example> BODY=BINARYMIME\r\n"
    b"RCPT TO:<bob@yy.example>\r\nRCPT TO:<x@y>\r\n"
)
NORMALISE = attrs.evolve(SETTINGS, bare_lines=BareLines.NORMALISE)
SMALL = attrs.evolve(SETTINGS, message_size_limit=1000)


def bdat(octets: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


def after(peer: Peer, octets: bytes, before: bytes = BEFORE) -> list[str]:
    """The replies to what follows MAIL and RCPT."""
    peer.send(before)
    return peer.codes(octets)


def test_a_message_in_chunks() -> None:
    peer = Peer()
    peer.send(BEFORE)
    assert peer.send(b"BDAT 12\r\nSubject: x\r\n") == b"250 2.0.0 12 octets received\r\n"
    assert peer.send(b"bdat 6  last\r\n\r\n.\r\n") == b""
    assert peer.send(b".") == b"250 2.0.0 Message accepted\r\n"
    assert joined(peer.events) == [
        Hello("client.example", extended=True),
        MailFrom(Mail(ANN)),
        RcptTo(Recipient(BOB)),
        DataStart(),
        BodyChunk(b"Subject: x\r\n\r\n.\r\n."),
        BodyEnd(),
    ]
    assert peer.codes(b"BDAT 0 LAST\r\nMAIL FROM:<>\r\n") == ["503 5.5.1", "250 2.1.0"]


def test_a_message_in_one_chunk_and_an_empty_last_one() -> None:
    peer = Peer()
    assert after(peer, bdat(b"a\r\n", last=True)) == ["250 2.0.0"]
    assert after(peer, bdat(b"b\r\n") + bdat(b"", last=True)) == ["250 2.0.0"] * 2
    assert after(peer, bdat(b"", last=True)) == ["250 2.0.0"]
    assert after(peer, b"BDAT " + b"0" * 40 + b"3 LAST\r\nc\r\n") == ["250 2.0.0"]
    assert peer.body == b"a\r\nb\r\nc\r\n"
    assert peer.events.count(BodyEnd()) == 4


def test_what_looks_like_the_end_of_data_or_a_command_is_content() -> None:
    content = b"x\r\n.\r\nMAIL FROM:<evil@xx.example>\r\nQUIT\r\n"
    peer = Peer()
    assert after(peer, bdat(content, last=True) + b"NOOP\r\n") == ["250 2.0.0"] * 2
    assert peer.body == content


def test_chunks_end_anywhere_in_a_line() -> None:
    peer = Peer()
    assert after(peer, bdat(b"a\r") + bdat(b"\n.") + bdat(b"\r\n", last=True)) == ["250 2.0.0"] * 3
    assert peer.body == b"a\r\n.\r\n"


# --- Order ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "codes"),
    [
        (b"", []),
        (b"EHLO a\r\n", ["250"]),
        (b"EHLO a\r\nMAIL FROM:<ann@xx.example>\r\n", ["250", "250 2.1.0"]),
        (b"EHLO a\r\nMAIL FROM:<a@b> SIZE=x\r\nRCPT TO:<bob@yy.example>\r\n", ["250", "501 5.5.4", "503 5.5.1"]),
        (b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<>\r\n", ["250", "250 2.1.0", "501 5.1.3"]),
    ],
)
def test_chunks_out_of_order_are_passed_over(before: bytes, codes: list[str]) -> None:
    peer = Peer()
    chunks = bdat(b"QUIT\r\n") + bdat(b"MAIL FROM:<evil@xx.example>\r\n" * 9) + bdat(b"\r\n.\r\nQUIT\r\n", last=True)
    assert peer.codes(before + chunks + b"NOOP\r\n") == [*codes, *["503 5.5.1"] * 3, "250 2.0.0"]
    assert not peer.server.closing
    assert DataStart() not in peer.events


@pytest.mark.parametrize("kind", [MailFrom, RcptTo])
def test_chunks_in_a_pipeline_behind_a_refusal(kind: type) -> None:
    peer = Peer(answer=refusing(kind, reply(550, "5.7.1", "No")))
    codes = peer.codes(BEFORE + bdat(b"RSET\r\n" * 5) + bdat(b"QUIT\r\n", last=True) + b"RSET\r\n")
    assert codes[-3:] == ["503 5.5.1", "503 5.5.1", "250 2.0.0"]


def test_login_and_tls_come_first_and_chunks_are_passed_over() -> None:
    peer = Peer(attrs.evolve(SETTINGS, starttls=True, require_tls=True, require_login=True, mechanisms=("PLAIN",)))
    assert peer.codes(b"EHLO a\r\n" + bdat(b"QUIT\r\n")) == ["250", "530 5.7.0"]
    peer.send(b"STARTTLS\r\n")
    assert peer.codes(b"EHLO a\r\n" + bdat(b"QUIT\r\n") + b"NOOP\r\n") == ["250", "530 5.7.0", "250 2.0.0"]


def test_chunks_without_the_extension_are_passed_over() -> None:
    peer = Peer(attrs.evolve(SETTINGS, extensions=COMPLETE - {"CHUNKING"}))
    reply_to_ehlo = peer.send(b"EHLO a\r\n")
    assert b"CHUNKING" not in reply_to_ehlo
    assert b"BINARYMIME" not in reply_to_ehlo
    assert after(peer, bdat(b"QUIT\r\n", last=True) + b"NOOP\r\n") == ["502 5.5.1", "250 2.0.0"]
    assert peer.codes(b"RSET\r\nMAIL FROM:<> BODY=BINARYMIME\r\n") == ["250 2.0.0", "501 5.5.4"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"DATA\r\n", "503 5.5.1"),
        (b"MAIL FROM:<ann@xx.example>\r\n", "503 5.5.1"),
        (b"RCPT TO:<bob@yy.example>\r\n", "503 5.5.1"),
        (b"AUTH PLAIN\r\n", "503 5.5.1"),
        (b"NOOP\r\n", "250 2.0.0"),
        (b"WHAT\r\n", "500 5.5.1"),
        (b"VRFY ann\r\n", "252 2.1.5"),
    ],
)
def test_commands_between_chunks(command: bytes, code: str) -> None:
    peer = Peer(attrs.evolve(SETTINGS, mechanisms=("PLAIN",), plaintext_login=True))
    assert after(peer, bdat(b"a") + command + bdat(b"b", last=True)) == ["250 2.0.0", code, "250 2.0.0"]
    assert peer.body == b"ab"


@pytest.mark.parametrize("command", [b"RSET\r\n", b"EHLO a\r\n", b"HELO a\r\n"])
def test_a_message_is_given_up_between_chunks(command: bytes) -> None:
    peer = Peer()
    codes = after(peer, bdat(b"lost") + command + bdat(b"QUIT\r\n", last=True))
    assert codes[0] == "250 2.0.0"
    assert codes[-1] == "503 5.5.1"
    assert BodyEnd() not in peer.events
    assert isinstance(peer.events[-1], Reset | Hello)
    assert after(peer, bdat(b"kept", last=True), BEFORE.partition(b"\r\n")[2]) == ["250 2.0.0"]


def test_a_chunk_behind_its_command_is_not_early() -> None:
    peer = Peer(attrs.evolve(SETTINGS, extensions=COMPLETE - {"PIPELINING"}))
    for line in BEFORE.splitlines(keepends=True):
        peer.send(line)
    assert peer.codes(bdat(b"x", last=True)) == ["250 2.0.0"]
    assert not peer.server.early
    peer.send(b"NOOP\r\nNOOP\r\n")
    assert peer.server.early


def test_data_then_bdat() -> None:
    peer = Peer()
    assert after(peer, b"DATA\r\nx\r\n.\r\n" + bdat(b"y", last=True)) == ["354", "250 2.0.0", "503 5.5.1"]


# --- Sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argument", [b"", b" ", b" x", b" -1", b" +1", b" 0x10", b" 1.5", b" LAST", b" LAST 5", b" \xc2\xb2"]
)
def test_no_size_no_chunk(argument: bytes) -> None:
    peer = Peer()
    assert after(peer, b"BDAT" + argument + b"\r\nNOOP\r\n") == ["501 5.5.4", "250 2.0.0"]


@pytest.mark.parametrize("marker", [b"FIRST", b"LASTLY", b"LAST LAST", b"4", b"LAST" + b" " * 600])
def test_a_wrong_marker_refuses_its_chunk_and_the_message(marker: bytes) -> None:
    peer = Peer()
    wrong = b"BDAT 6 " + marker + b"\r\nQUIT\r\n"
    codes = after(peer, bdat(b"a") + wrong + bdat(b"QUIT\r\n", last=True))
    assert codes[0] == "250 2.0.0"
    assert codes[1] in ("501 5.5.4", "500 5.5.2")
    assert codes[2:] == ["503 5.5.1"]
    assert peer.events[-1] == BodyAborted()


@pytest.mark.parametrize("size", [b"4294967296", b"99999999999", b"9" * 20, b"9" * 21, b"9" * 400])
def test_more_than_anybody_could_mean_ends_the_session_at_once(size: bytes) -> None:
    peer = Peer()
    assert after(peer, b"BDAT " + size + b" LAST\r\nNOOP\r\n") == ["552 5.3.4"]
    assert peer.server.closing


def test_leading_zeros_are_a_size() -> None:
    assert after(Peer(), b"BDAT 0000000000003 LAST\r\nabcNOOP\r\n") == ["250 2.0.0", "250 2.0.0"]


def test_a_message_at_the_size_limit_and_one_over_it() -> None:
    peer = Peer(SMALL)
    assert after(peer, bdat(b"x" * 400) + bdat(b"x" * 600, last=True)) == ["250 2.0.0"] * 2
    codes = after(peer, bdat(b"x" * 400) + bdat(b"x" * 601) + bdat(b"QUIT\r\n") + bdat(b"", last=True) + b"NOOP\r\n")
    assert codes == ["250 2.0.0", "552 5.3.4", "503 5.5.1", "503 5.5.1", "250 2.0.0"]
    assert peer.events[-1] == BodyAborted()


def test_what_is_repaired_away_counts() -> None:
    peer = Peer(attrs.evolve(NORMALISE, message_size_limit=1000))
    assert after(peer, bdat(b"\0" * 1001, last=True)) == ["552 5.3.4"]


def test_a_size_that_is_too_small_leaves_commands_nobody_knows() -> None:
    peer = Peer()
    codes = after(peer, b"BDAT 3 LAST\r\nabcdef\r\n" + b"junk\r\n" * 40)
    assert codes == ["250 2.0.0", *["500 5.5.1"] * 20, "421 4.7.0"]


def test_chunks_of_no_octets_are_not_taken_for_ever() -> None:
    assert after(Peer(), bdat(b"") * 150)[-1] == "421 4.7.0"
    assert after(Peer(), bdat(b"x") * 150 + bdat(b"", last=True)) == ["250 2.0.0"] * 151


def test_refused_chunks_are_not_passed_over_for_ever() -> None:
    assert after(Peer(), bdat(b"x") * 150, b"EHLO a\r\n")[-1] == "421 4.7.0"


# --- Line ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bare", "name"),
    [(b"\n", "bare LF"), (b"\r", "bare CR"), (b"\0", "NUL"), (b"\n.\n", "bare LF"), (b"\r.\r", "bare CR")],
)
def test_bare_line_ends_are_refused_as_after_354(bare: bytes, name: str) -> None:
    peer = Peer()
    peer.send(BEFORE)
    replies = peer.send(bdat(b"a" + bare + b"b\r\n") + bdat(b"c\r\n", last=True)).decode().splitlines()
    assert replies[0] == f"554 5.6.0 Message has a {name}; its lines must end with CRLF and have no NUL"
    assert replies[1][:3] == "503"


@pytest.mark.parametrize("cuts", [(1, 2), (2, 3), (3, 4), (4, 5), (1, 9)])
def test_bare_line_ends_are_repaired_where_settings_say_so(cuts: tuple[int, int]) -> None:
    content = b"a\rb\nc\0\r\nd\r"
    first, second = cuts
    peer = Peer(NORMALISE)
    chunks = bdat(content[:first]) + bdat(content[first:second]) + bdat(content[second:], last=True)
    assert after(peer, chunks) == ["250 2.0.0"] * 3
    assert peer.body == b"a\r\nb\r\nc\r\nd\r\n"


def test_a_lone_cr_at_the_very_end() -> None:
    assert after(Peer(), bdat(b"a\r") + bdat(b"", last=True)) == ["250 2.0.0", "554 5.6.0"]
    peer = Peer(NORMALISE)
    assert after(peer, bdat(b"a\r") + bdat(b"", last=True)) == ["250 2.0.0"] * 2
    assert peer.body == b"a\r\n"


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_binarymime_takes_any_octets_as_they_are(content: bytes, cut: int) -> None:
    for smtp in (SETTINGS, NORMALISE):
        peer = Peer(smtp)
        assert after(peer, bdat(content[:cut]) + bdat(content[cut:], last=True), BINARY) == ["250 2.0.0"] * 2
        assert peer.body == content
        assert MailFrom(Mail(ANN, "BINARYMIME")) in peer.events


def test_binarymime_goes_by_bdat_alone() -> None:
    peer = Peer()
    assert after(peer, b"DATA\r\n" + bdat(b"\0", last=True), BINARY) == ["503 5.5.1", "250 2.0.0"]
    assert peer.codes(b"MAIL FROM:<> BODY=BINARY\r\nMAIL FROM:<> BODY\r\n") == ["501 5.5.4"] * 2


# --- The session refuses --------------------------------------------------------------------------------------------


def test_the_start_is_refused_behind_its_chunk() -> None:
    peer = Peer(answer=refusing(DataStart, reply(452, "4.3.1", "No room")))
    codes = after(peer, bdat(b"QUIT\r\n") + bdat(b"QUIT\r\n", last=True) + b"NOOP\r\n")
    assert codes == ["452 4.3.1", "503 5.5.1", "250 2.0.0"]
    assert [type(event) for event in peer.events[-2:]] == [DataStart, BodyAborted]


def test_421_at_the_start_closes() -> None:
    peer = Peer(answer=refusing(DataStart, reply(421, "4.3.2", "Going down")))
    assert after(peer, bdat(b"QUIT\r\n")) == ["421 4.3.2"]
    assert peer.server.closing


def test_a_chunk_is_refused_while_it_arrives() -> None:
    def answer(server: SmtpServer, event: Event) -> None:
        if isinstance(event, BodyChunk) and event.octets.startswith(b"b"):
            server.refuse_body(reply(452, "4.3.1", "Disk full"))
        else:
            accept_all(server, event)

    peer = Peer(answer=answer)
    assert after(peer, bdat(b"a") + b"BDAT 4\r\nb") == ["250 2.0.0"]
    assert peer.codes(b"ccc" + bdat(b"QUIT\r\n", last=True)) == ["452 4.3.1", "503 5.5.1"]
    assert peer.events[-1] == BodyAborted()
    assert peer.body == b"ab"


def test_the_final_refusal_ends_the_transaction() -> None:
    peer = Peer(answer=refusing(BodyEnd, reply(554, "5.7.1", "Spam")))
    assert after(peer, bdat(b"a", last=True) + bdat(b"b", last=True)) == ["554 5.7.1", "503 5.5.1"]


@pytest.mark.parametrize("kind", [DataStart, BodyChunk, BodyEnd])
def test_a_crash_is_answered_once_and_the_session_goes_on(kind: type) -> None:
    def crash(server: SmtpServer, event: Event) -> None:
        if isinstance(event, kind):
            server.internal_error()
        else:
            accept_all(server, event)

    peer = Peer(answer=crash)
    assert after(peer, bdat(b"x", last=True)) == ["451 4.3.0"]
    peer.answer = accept_all
    assert after(peer, bdat(b"x", last=True)) == ["250 2.0.0"]


def test_the_end_of_input_within_a_chunk() -> None:
    peer = Peer()
    peer.server.receive_eof()
    assert after(peer, b"BDAT 9 LAST\r\nhalf") == []
    assert peer.server.closing
    assert BodyEnd() not in peer.events


def test_what_has_come_is_told_between_chunks_too() -> None:
    peer = Peer()
    assert after(peer, bdat(b"abc")) == ["250 2.0.0"]
    assert (peer.server.data_octets, peer.server.receiving) == (3, False)
    peer.send(b"BDAT 3\r\nd")
    assert (peer.server.data_octets, peer.server.receiving) == (4, True)


# --- LMTP -----------------------------------------------------------------------------------------------------------

LMTP_BEFORE = b"LHLO a\r\nMAIL FROM:<ann@xx.example>\r\n" + b"RCPT TO:<bob@yy.example>\r\n" * 3


@pytest.mark.parametrize(
    ("answer", "code"),
    [(accept_all, "250 2.0.0"), (refusing(BodyEnd, reply(451, "4.3.0", "No")), "451 4.3.0")],
)
def test_lmtp_answers_for_each_recipient_behind_the_last_chunk_alone(answer: Answer, code: str) -> None:
    peer = Peer(LMTP, answer)
    assert after(peer, bdat(b"a") + bdat(b"b", last=True), LMTP_BEFORE) == ["250 2.0.0", *[code] * 3]
    assert after(peer, bdat(b"a\n"), LMTP_BEFORE) == ["554 5.6.0"]
    assert after(peer, bdat(b"a\n", last=True), LMTP_BEFORE) == ["554 5.6.0"] * 3


def test_lmtp_without_recipients() -> None:
    peer = Peer(LMTP, refusing(RcptTo, reply(550, "5.1.1", "No")))
    assert after(peer, bdat(b"QUIT\r\n", last=True), LMTP_BEFORE) == ["503 5.5.1"]


# --- Any split ------------------------------------------------------------------------------------------------------

PARTS = st.lists(
    st.one_of(
        st.sampled_from(
            [BEFORE, BINARY, b"RSET\r\n", b"NOOP\r\n", b"DATA\r\n", b"BDAT 7 FOO\r\nNOOP\r\n.", b"BDAT x\r\n"]
        ),
        st.tuples(st.binary(max_size=12) | st.sampled_from([b"a\r", b"\n", b"x\r\n.\r\n"]), st.booleans()).map(
            lambda chunk: bdat(chunk[0], last=chunk[1])
        ),
    ),
    max_size=10,
)


@settings(deadline=None, max_examples=200)
@given(PARTS, st.lists(st.integers(1, 30), max_size=40), st.sampled_from([SETTINGS, NORMALISE]))
def test_chunks_do_not_depend_on_the_split(parts: list[bytes], sizes: list[int], smtp: object) -> None:
    def answer(server: SmtpServer, event: Event) -> None:
        if event == RcptTo(Recipient(attrs.evolve(BOB, local="x", domain="y"))):
            server.refuse(reply(550, "5.1.1", "No"))
        else:
            accept_all(server, event)

    assert isinstance(smtp, type(SETTINGS))
    whole, pieces = Peer(smtp, answer), Peer(smtp, answer)
    octets = b"".join([BEFORE, *parts])
    replies = whole.send(octets)
    split_replies = b""
    for size in sizes:
        split_replies += pieces.send(octets[:size])
        octets = octets[size:]
    split_replies += pieces.send(octets)
    assert split_replies == replies
    assert told(pieces.events) == told(whole.events)
    assert pieces.server.closing == whole.server.closing


def told(events: list[Event]) -> list[Event]:
    """Without what is given out of a message that has not come to its end: it may be refused yet."""
    events = [event for event in joined(events) if event != BodyChunk(b"")]
    return events[:-1] if events and isinstance(events[-1], BodyChunk) else events
