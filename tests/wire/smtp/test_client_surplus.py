"""The client machine towards servers that say more than they were asked: no reply is ever taken for that to another."""

from __future__ import annotations

import re

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailhub.message.envelope import State
from mailhub.wire.smtp.client import SmtpClientSettings
from mailhub.wire.smtp.client_events import Unusable
from tests.wire.smtp.test_client import LMTP, SETTINGS, Talk

KEYWORDS = (b"PIPELINING", b"CHUNKING")
STATES = {"2": State.DELIVERED, "4": State.DELAYED, "5": State.FAILED}
FAREWELL = b"421 bye\r\n"
_SURPLUS = st.one_of(
    st.sampled_from([b"250 ok\r\n", b"554 no\r\n", b"451 later\r\n", b"354 go\r\n", FAREWELL, b"25", b"2", b"\r\n"]),
    st.lists(st.sampled_from([b"250 ok\r\n", b"554 no\r\n", b"250-more\r\n"]), min_size=1, max_size=5).map(b"".join),
    st.binary(min_size=1, max_size=30),
)
_OFFERS = st.sets(st.sampled_from(KEYWORDS)).map(sorted)
_CODES = st.sampled_from(["250", "250", "451", "554"])


@attrs.define
class Server:
    """Answers what it hears by a script; `surplus` goes out behind that reply of a transaction which is number `at`.
    `taken` is what it has said to the end of the message, for each of those whose RCPT it took."""

    offers: list[bytes]
    lmtp: bool
    recipients: list[str]
    finals: list[str]
    surplus: bytes = b""
    at: int = -1
    taken: list[str] = attrs.field(factory=list)
    _count: int = -1
    _asked: int = 0
    _took: int = 0
    _in_data: bool = False

    def greet(self) -> bytes:
        return b"".join([b"220 mx\r\n250-mx\r\n", *[b"250-" + each + b"\r\n" for each in self.offers], b"250 HELP\r\n"])

    def hear(self, octets: bytes) -> bytes:
        answers = []
        while octets:
            if self._in_data:
                _, _, octets = octets.partition(b"\r\n.\r\n")
                self._in_data = False
                answers += self._end()
                continue
            line, _, octets = octets.partition(b"\r\n")
            verb = line[:4]
            if verb == b"BDAT":
                octets = octets[int(line.split()[1]) :]
                answers += self._end()
            elif verb == b"RCPT":
                code = self.recipients[self._asked]
                self._asked += 1
                self._took += code == "250"
                answers.append(self._say(code))
            elif verb == b"DATA":
                self._in_data = self._took > 0
                answers.append(self._say("354" if self._took else "554"))
            else:
                answers.append(self._say("250"))
        return b"".join(answers)

    def _end(self) -> list[bytes]:
        if not self._took:
            return [self._say("503")]
        self.taken = self.finals[: self._took] if self.lmtp else self.finals[:1] * self._took
        return [self._say(code) for code in (self.taken if self.lmtp else self.taken[:1])]

    def _say(self, code: str) -> bytes:
        self._count += 1
        return f"{code} x\r\n".encode() + (self.surplus if self._count == self.at else b"")

    def truth(self) -> list[State]:
        """What became of each recipient."""
        taken = iter(self.taken)
        return [STATES[next(taken, "4")[0] if code == "250" else code[0]] for code in self.recipients]


def run(talk: Talk, server: Server) -> None:
    """Send a message, whatever comes of it."""
    said = talk.send()
    while said and not talk.machine.closing:
        said = talk.hear(server.hear(said))


def begin(server: Server, lmtp: bool) -> Talk:
    talk = Talk(LMTP if lmtp else SETTINGS)
    talk.hear(server.greet())
    return talk


@example([], True, ["250", "250"], "250", "451", FAREWELL, False)
@given(_OFFERS, st.booleans(), st.lists(_CODES, min_size=2, max_size=2), _CODES, _CODES, _SURPLUS, st.booleans())
def test_what_lies_behind_the_last_reply_answers_nothing(
    offers: list[bytes], lmtp: bool, recipients: list[str], one: str, two: str, surplus: bytes, is_first: bool
) -> None:
    talk = begin(Server(offers, lmtp, [], []), lmtp)
    if not is_first:
        run(talk, Server(offers, lmtp, ["250", "250"], ["250", "250"]))
        assert talk.states() == [State.DELIVERED] * 2
    server = Server(offers, lmtp, recipients, [one, two])
    said = talk.send()
    while said:
        heard = server.hear(said)
        ends = bool(server.taken)
        said = talk.hear(heard + (surplus if ends else b""))
    assert talk.machine.closing is bool(server.taken)
    told, truth = talk.states(), server.truth()
    in_step = not lmtp and (b"CHUNKING" not in offers or b"PIPELINING" not in offers or not is_first)
    if in_step or surplus == FAREWELL:
        assert told == truth
    else:
        # Nobody knows which reply was the one too many.
        assert all(state in (true, State.DELAYED) for state, true in zip(told, truth, strict=True))


@example(list(KEYWORDS), True, ["250", "451"], "250", "250", b"250 x\r\n", 0, True)
@given(
    _OFFERS,
    st.booleans(),
    st.lists(_CODES, min_size=2, max_size=2),
    _CODES,
    _CODES,
    st.sampled_from([b"220 x\r\n", b"250 x\r\n", b"354 x\r\n", b"554 x\r\n", FAREWELL, b"25"]),
    st.integers(0, 6),
    st.booleans(),
)
def test_a_reply_too_many_delivers_nobody_who_is_not(
    offers: list[bytes],
    lmtp: bool,
    recipients: list[str],
    one: str,
    two: str,
    surplus: bytes,
    at: int,
    is_first: bool,
) -> None:
    talk = begin(Server(offers, lmtp, [], []), lmtp)
    if not is_first:
        run(talk, Server(offers, lmtp, ["250", "250"], ["250", "250"]))
    server = Server(offers, lmtp, recipients, [one, two], surplus, at)
    run(talk, server)
    for state, true in zip(talk.states(), server.truth(), strict=True):
        assert state is true or state is not State.DELIVERED
    # Nor is anything that follows taken for another's.
    if not talk.machine.closing:
        server = Server(offers, lmtp, ["250", "250"], ["554", "554"])
        run(talk, server)
        assert State.DELIVERED not in talk.states()


def told_behind(surplus: bytes, *, lmtp: bool) -> list[State]:
    """What is told of two recipients whom the server treats differently, with more behind its last reply."""
    server = (
        Server([], True, ["250", "250"], ["250", "451"])
        if lmtp
        else Server(list(KEYWORDS), False, ["250", "451"], ["250"])
    )
    talk = begin(server, lmtp)
    said = talk.send()
    while said:
        heard = server.hear(said)
        said = talk.hear(heard + (surplus if server.taken else b""))
    assert talk.machine.closing
    return talk.states()


@pytest.mark.parametrize("lmtp", [True, False], ids=["LMTP", "BDAT at once"])
@pytest.mark.parametrize("farewell", [FAREWELL, b"421-so long\r\n421 bye\r\n", b"421\r\n", b"421 by", b"421-so\r\n"])
def test_a_farewell_takes_back_nothing(farewell: bytes, lmtp: bool) -> None:
    assert told_behind(farewell, lmtp=lmtp) == [State.DELIVERED, State.DELAYED]


@pytest.mark.parametrize("lmtp", [True, False], ids=["LMTP", "BDAT at once"])
@pytest.mark.parametrize("surplus", [b"554 no\r\n" + FAREWELL, FAREWELL + b"554 no\r\n", FAREWELL * 2, b"4210 x\r\n"])
def test_a_farewell_among_others_excuses_no_reply(surplus: bytes, lmtp: bool) -> None:
    assert told_behind(surplus, lmtp=lmtp) == [State.DELAYED] * 2


@pytest.mark.parametrize("client", [SETTINGS, LMTP])
def test_what_comes_between_two_messages_ends_the_session(client: SmtpClientSettings) -> None:
    talk = Talk(client)
    talk.hear(b"220 mx\r\n250 mx\r\n")
    talk.hear(b"25")
    assert talk.send() == b""
    assert talk.states() == [State.DELAYED] * 2
    assert (talk.machine.closing, talk.machine.in_doubt) == (True, False)


def test_a_session_is_not_ready_with_a_reply_left_over() -> None:
    talk = Talk()
    talk.hear(b"220 mx\r\n250 mx\r\n250 mx\r\n")
    (event,) = talk.events
    assert isinstance(event, Unusable)
    assert event.outcome.status == "4.5.0"


# --- Replies without end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [[], list(KEYWORDS), [b"CHUNKING"]])
@pytest.mark.parametrize(
    ("code", "state"), [(b"250", State.DELIVERED), (b"451", State.DELAYED), (b"554", State.FAILED)]
)
@pytest.mark.parametrize(
    "endless",
    [b"-" + b"A" * 1_200_000 + b"\r\n%b ok\r\n", b" " + b"A" * 1_200_000, b"-2.0.0 x\r\n" + b"%b-x\r\n" * 120],
    ids=["line", "unended", "lines"],
)
def test_what_a_reply_without_end_says_of_the_message_counts(
    offers: list[bytes], code: bytes, state: State, endless: bytes
) -> None:
    server = Server(offers, False, ["250", "250"], ["250"])
    talk = begin(server, False)
    said = talk.send()
    while b"folks" not in said:
        said = talk.hear(server.hear(said))
    said = server.hear(said)
    talk.hear(re.sub(rb"250 x\r\n$", b"", said))
    reply = code + endless.replace(b"%b", code)
    for start in range(0, len(reply), 65536):
        talk.hear(reply[start : start + 65536])
    assert talk.states() == [state] * 2
    assert (talk.machine.closing, talk.machine.in_doubt) == (True, False)


def test_a_reply_without_end_counts_for_one_recipient_of_lmtp() -> None:
    server = Server([], True, ["250", "250"], ["250"])
    talk = begin(server, True)
    said = talk.send()
    while b"folks" not in said:
        said = talk.hear(server.hear(said))
    talk.hear(b"250-x\r\n" * 120)
    assert talk.states() == [State.DELIVERED, State.DELAYED]
    assert (talk.machine.closing, talk.machine.in_doubt) == (True, True)
