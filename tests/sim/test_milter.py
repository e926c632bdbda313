"""The policy "milter" against a scripted filter: every moment, every answer, every change, and what goes wrong."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent

from mailhub.errors import ConfigurationError
from mailhub.interfaces import Origin
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.wires import Weather
from mailhub.wire.milter.packets import PacketReader, packet
from mailhub.wire.milter.vocabulary import EVERY_ACTION, Step

PLACE = ("10.7.7.7", 9900)
MESSAGE = b"Subject: hello\r\nX-Twice: 1\r\nX-Twice:2\r\n\r\nHow are you?\r\n"
END = b".\r\n"
C = packet(b"c")
HANGS = b""


class Dies(Exception):
    """The filter closes the connection instead of an answer."""


@attrs.define(eq=False)
class FakeMilter(Factory):
    """A filter that answers each letter with the octets of `answers`, in turn where there are several, else "continue".
    `heard`: what it was told, a list a connection."""

    noisy = False

    answers: dict[bytes, Any] = attrs.field(factory=dict)
    steps: int = 0
    version: int = 6
    actions: int = EVERY_ACTION
    more: bytes = b""
    heard: list[list[tuple[bytes, bytes]]] = attrs.field(factory=list)
    lines: list[Any] = attrs.field(factory=list)

    def buildProtocol(self, addr: Any) -> Protocol:
        line = _Line(self)
        self.heard.append(line.heard)
        self.lines.append(line)
        return line

    @property
    def letters(self) -> list[str]:
        """What was said on each connection, macros left out."""
        return ["".join(letter.decode() for letter, _ in each if letter != b"D") for each in self.heard]

    def said(self, letter: bytes) -> list[bytes]:
        return [data for each in self.heard for known, data in each if known == letter]

    def macros(self, letter: bytes) -> dict[str, str]:
        """Those of the last command with this letter."""
        parts = [data for data in self.said(b"D") if data.startswith(letter)][-1][1:].decode().split("\0")
        return dict(zip(parts[::2], parts[1::2], strict=False))


class _Line(Protocol):
    def __init__(self, milter: FakeMilter) -> None:
        self.milter = milter
        self.reader = PacketReader()
        self.heard: list[tuple[bytes, bytes]] = []

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        self.reader.feed(data)
        while (found := self.reader.next()) is not None:
            self.heard.append(found)
            try:
                transport.write(self.answer(found[0]))
            except Dies:
                transport.loseConnection()
                return

    def answer(self, letter: bytes) -> bytes:
        milter = self.milter
        if letter == b"O" and letter not in milter.answers:
            options = struct.pack("!III", milter.version, milter.actions, milter.steps)
            return packet(b"O", options + milter.more)
        given = milter.answers.get(letter, b"" if letter in b"ADKQ" else C)
        if isinstance(given, list):
            given = given.pop(0) if given else C
        if given is Dies:
            raise Dies
        assert isinstance(given, bytes)
        return given


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


NO_CHECKS = {"spf": False, "dkim": False, "dmarc": "off", "iprev": False, "arc": False}


def configured(options: Mapping[str, Any], **tables: Any) -> dict[str, Any]:
    table = {"type": "milter", "address": f"inet:{PLACE[0]}:{PLACE[1]}", **options}
    return {"delivery": {"policies": ["milter"]}, "policy": {"milter": table}, "checks": NO_CHECKS, **tables}


def hub(internet: Internet, milter: FakeMilter, **options: Any) -> Host:
    internet.network.listen(*PLACE, milter)
    return internet.hub("xx.example", ["ann", "ben"], config=configured(options))


def greeted(internet: Internet, host: Host, service: str = "smtp") -> Caller:
    caller = internet.call(host, service)
    caller.expect(b"220 ")
    caller.ask(b"EHLO c.example\r\n" if service != "lmtp" else b"LHLO c.example\r\n", b"250 ")
    return caller


def last_line(answer: bytes) -> str:
    return answer.decode().splitlines()[-1]


def dialogue(internet: Internet, host: Host, message: bytes = MESSAGE, to: Sequence[str] = ("ann",)) -> list[str]:
    """What a client hears that sends a message, up to the first refusal of all."""
    caller = internet.call(host, "smtp")
    caller.expect(b"220 ")
    told = []
    for line in ("EHLO c.example", "MAIL FROM:<a@yy.example>", *[f"RCPT TO:<{each}@xx.example>" for each in to]):
        told.append(last_line(caller.ask(line.encode() + b"\r\n", b"", 700)))
        if told[-1][0] in "45" and len(to) == 1:
            break
    else:
        caller.ask(b"DATA\r\n", b"354 ")
        told.append(last_line(caller.ask(message + END, b"", 700)))
    caller.ask(b"QUIT\r\n", b"221 ")
    internet.run(1)
    return told


def kept(host: Host, user: str = "ann") -> bytes:
    """The only message in an INBOX, below the trace fields."""
    (octets,) = host.inbox(f"{user}@xx.example")
    return octets.partition(b" +0000\r\n")[2]


def test_a_filter_is_told_every_moment_with_its_macros(internet: Internet) -> None:
    milter = FakeMilter()
    host = hub(internet, milter, macros={"{daemon_name}": "ORIGINATING", "x": "y"})
    internet.resolver.ptr["10.9.9.9"] = ["odd.example", "c.example"]
    internet.resolver.hosts["c.example"] = ["10.9.9.9"]
    caller = greeted(internet, host)
    caller.ask(b"MAIL FROM:<a@yy.example> SIZE=100 BODY=8BITMIME\r\n", b"250 ")
    caller.ask(b"RCPT TO:<ann@xx.example> NOTIFY=NEVER\r\n", b"250 ")
    caller.ask(b"DATA\r\n", b"354 ")
    caller.ask(MESSAGE + END, b"250 ")
    caller.ask(b"QUIT\r\n", b"221 ")
    internet.run(1)
    assert milter.letters == ["OCHMRTLLLNBEQ"]
    assert milter.said(b"C") == [b"c.example\x004\0\x0010.9.9.9\0"]
    assert milter.said(b"H") == [b"c.example\0"]
    assert milter.said(b"M") == [b"<a@yy.example>\0BODY=8BITMIME\0SIZE=100\0"]
    assert milter.said(b"R") == [b"<ann@xx.example>\0NOTIFY=NEVER\0"]
    assert milter.said(b"L") == [b"Subject\0hello\0", b"X-Twice\x001\0", b"X-Twice\x002\0"]
    assert milter.said(b"B") == [b"How are you?\r\n"]
    connect = milter.macros(b"C")
    assert connect.pop("v").startswith("mailhub ")
    assert connect == {
        "j": "mx.xx.example",
        "{daemon_name}": "ORIGINATING",
        "{daemon_addr}": host.address,
        "_": "c.example [10.9.9.9]",
        "{client_addr}": "10.9.9.9",
        "{client_name}": "c.example",
        "{client_ptr}": "c.example",
        "x": "y",
    }
    mail = milter.macros(b"M")
    number = mail.pop("i")
    assert number.endswith("-1")
    assert milter.macros(b"E") == {"i": number}
    assert mail == {
        "{mail_addr}": "a@yy.example",
        "{mail_host}": "yy.example",
        "{mail_mailer}": "smtp",
        "{client_addr}": "10.9.9.9",
        "{client_name}": "c.example",
    }
    assert milter.macros(b"R") == {
        "i": number,
        "{rcpt_addr}": "ann@xx.example",
        "{rcpt_host}": "xx.example",
        "{rcpt_mailer}": "local",
    }
    assert kept(host) == MESSAGE


def test_a_login_and_tls_are_told(internet: Internet) -> None:
    milter = FakeMilter(more=struct.pack("!I", 2) + b"{auth_type} {auth_authen} {client_name} {client_resolve}\0")
    host = hub(internet, milter)
    host.add_account("eve@xx.example", "secret")
    client = host.client("submissions", "eve@xx.example", "secret")
    sending = client.send("eve@xx.example", ["ann@xx.example"], MESSAGE)
    assert internet.run_until(lambda: bool(sending.taken), 60)
    assert milter.macros(b"M") == {
        "{auth_type}": "PLAIN",
        "{auth_authen}": "eve@xx.example",
        "{client_name}": "[10.9.9.9]",
        "{client_resolve}": "FAIL",
    }


def test_a_body_goes_in_pieces_and_a_filter_may_have_enough_of_it(internet: Internet) -> None:
    milter = FakeMilter(steps=Step.SKIP)
    host = hub(internet, milter)
    large = b"Subject: s\r\n\r\n" + b"x" * 70 * 3000 + b"\r\n"
    assert dialogue(internet, host, large)[-1].startswith("250 ")
    assert [len(each) for each in milter.said(b"B")] == [65535, 65535, 65535, 210_002 - 3 * 65535]
    milter.answers[b"B"] = packet(b"s")
    assert dialogue(internet, host, large)[-1].startswith("250 ")
    assert len(milter.said(b"B")) == 5
    assert milter.letters[-1].endswith("NBEQ")


def test_what_it_does_not_want_is_not_told_and_what_it_does_not_answer_goes_at_once(internet: Internet) -> None:
    milter = FakeMilter(steps=Step.NO_HELO | Step.NO_BODY | Step.NO_HEADER | Step.SILENT_MAIL | Step.SILENT_RCPT)
    milter.answers = {b"M": b"", b"R": b""}
    assert dialogue(internet, hub(internet, milter))[-1].startswith("250 ")
    assert milter.letters == ["OCMRTNEQ"]


REPLY = packet(b"y", b"554 5.7.5 go\r\n away\0".replace(b"\r\n ", b" "))


@pytest.mark.parametrize(
    ("letter", "told"),
    [("C", 1), ("H", 1), ("M", 2), ("R", 3), ("T", 4), ("L", 4), ("N", 4), ("B", 4), ("E", 4)],
)
@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (packet(b"r"), "550 5.7.1 Refused by a filter"),
        (packet(b"t"), "451 4.7.1 Service unavailable, try again later"),
        (REPLY, "550 5.7.5 go away"),
        (packet(b"y", b"452 4.2.2 full\0"), "452 4.2.2 full"),
        (packet(b"f"), "451 4.3.2 Service unavailable, try again later"),
    ],
)
def test_a_refusal_is_told_the_client_at_its_moment(
    internet: Internet, letter: str, told: int, answer: bytes, reply: str
) -> None:
    milter = FakeMilter({letter.encode(): [answer]})
    host = hub(internet, milter)
    said = dialogue(internet, host)
    assert len(said) == told
    assert said[-1].replace("554 5.7", "550 5.7") == reply
    assert host.inbox("ann@xx.example") == []
    assert dialogue(internet, host)[-1].startswith("250 "), "the next client has nothing to do with it"
    assert kept(host) == MESSAGE


@pytest.mark.parametrize("letter", ["C", "H", "M", "R", "T", "L", "N", "B", "E"])
def test_what_it_accepts_it_sees_nothing_more_of(internet: Internet, letter: str) -> None:
    milter = FakeMilter({letter.encode(): packet(b"a")})
    host = hub(internet, milter)
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert milter.letters[0].rstrip("AQ").endswith(letter)
    assert ("A" in milter.letters[0]) is (letter in "MRTLNB"), "a message that is not over is said to be"
    assert kept(host) == MESSAGE


@pytest.mark.parametrize("letter", ["M", "R", "T", "L", "N", "B", "E"])
def test_what_it_discards_is_taken_and_nobody_gets_it(internet: Internet, letter: str) -> None:
    host = hub(internet, FakeMilter({letter.encode(): [packet(b"d")]}))
    said = dialogue(internet, host)
    assert said[-1].startswith("250 ")
    assert len(said) == 4
    assert host.inbox("ann@xx.example") == []
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert kept(host) == MESSAGE


def test_one_recipient_may_be_refused_and_others_not(internet: Internet) -> None:
    milter = FakeMilter({b"R": [packet(b"r"), C]}, steps=Step.REFUSED_RECIPIENTS)
    host = hub(internet, milter)
    said = dialogue(internet, host, to=("ann", "ben", "nobody"))
    assert [line[:3] for line in said] == ["250", "250", "550", "250", "550", "250"]
    assert (len(host.inbox("ann@xx.example")), len(host.inbox("ben@xx.example"))) == (0, 1)
    assert milter.said(b"R") == [b"<ann@xx.example>\0", b"<ben@xx.example>\0", b"<nobody@xx.example>\0"]
    refused = milter.macros(b"R")
    assert (refused["{rcpt_mailer}"], refused["{rcpt_host}"]) == ("error", "5.1.1")


HEADER, BODY = MESSAGE.split(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ([packet(b"h", b"X-New\0b\n\tc\0")], HEADER + b"\r\nX-New: b\r\n\tc"),
        ([packet(b"i", b"\0\0\0\0X-New\0b\0")], b"X-New: b\r\n" + HEADER),
        ([packet(b"i", b"\0\0\0\1X-New\0b\0")], b"X-New: b\r\n" + HEADER),
        ([packet(b"i", b"\0\0\0\2X-New\0b\0")], HEADER.replace(b"hello\r\n", b"hello\r\nX-New: b\r\n")),
        ([packet(b"i", b"\x7f\0\0\0X-New\0b\0")], HEADER + b"\r\nX-New: b"),
        ([packet(b"m", b"\0\0\0\1subject\0b\0")], HEADER.replace(b"Subject: hello", b"subject: b")),
        ([packet(b"m", b"\0\0\0\2X-Twice\0b\0")], HEADER.replace(b"X-Twice:2", b"X-Twice: b")),
        ([packet(b"m", b"\0\0\0\1X-Twice\0\0")] * 2, b"Subject: hello"),
        ([packet(b"m", b"\0\0\0\3X-Twice\0b\0")], HEADER + b"\r\nX-Twice: b"),
        ([packet(b"m", b"\0\0\0\3X-Twice\0\0")], HEADER),
        (
            [packet(b"h", b"X-Twice\x003\0"), packet(b"m", b"\0\0\0\3X-Twice\0b\0")],
            HEADER + b"\r\nX-Twice: b",
        ),
        (
            [packet(b"i", b"\0\0\0\1X-Twice\x000\0"), packet(b"m", b"\0\0\0\1X-Twice\0b\0")],
            b"X-Twice: b\r\n" + HEADER,
        ),
    ],
)
def test_the_header_is_changed_as_it_says(internet: Internet, changes: Sequence[bytes], header: bytes) -> None:
    host = hub(internet, FakeMilter({b"E": b"".join(changes) + C}))
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert kept(host) == header + b"\r\n\r\n" + BODY


def test_values_have_the_space_after_the_colon_where_that_was_agreed_on(internet: Internet) -> None:
    milter = FakeMilter({b"E": packet(b"h", b"X-New\0 b\0") + C}, steps=Step.LEADING_SPACE)
    host = hub(internet, milter)
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert milter.said(b"L") == [b"Subject\0 hello\0", b"X-Twice\0 1\0", b"X-Twice\x002\0"]
    assert kept(host) == HEADER + b"\r\nX-New: b\r\n\r\n" + BODY


def test_the_envelope_is_changed_as_it_says(internet: Internet) -> None:
    changes = [
        packet(b"e", b"<b@yy.example>\0RET=HDRS SIZE=1\0"),
        packet(b"2", b"<ben@xx.example>\0NOTIFY=NEVER\0"),
        packet(b"-", b"<ann@xx.example>\0"),
    ]
    host = hub(internet, FakeMilter({b"E": b"".join(changes) + packet(b"a")}))
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert host.inbox("ann@xx.example") == []
    (octets,) = host.inbox("ben@xx.example")
    assert octets.startswith(b"Return-Path: <b@yy.example>\r\n")


@pytest.mark.parametrize(
    "change",
    [
        packet(b"+", b"<no address>\0"),
        packet(b"+", b"<>\0"),
        packet(b"-", b"nobody\0"),
        packet(b"2", b"<ben@xx.example>\0NOTIFY=ODD\0"),
        packet(b"2", b"<ben@xx.example>\0XYZZY=1\0"),
        packet(b"e", b"<a@b@c>\0"),
        packet(b"e", b"<b@yy.example>\0ENVID=\xff\0"),
        packet(b"h", b"Two words\0b\0"),
        packet(b"h", b"X-New\0b\nEvil: c\0"),
        packet(b"h", b"X-New\0" + b"b" * 1000 + b"\0"),
        packet(b"h", b"X-New\0" + b"b\n " * 30_000 + b"\0"),
    ],
)
def test_a_change_after_which_a_message_would_not_be_one_is_none(internet: Internet, change: bytes) -> None:
    host = hub(internet, FakeMilter({b"E": [packet(b"b", b"body") + packet(b"h", b"X-A\0b\0") + change + C]}))
    with capturedLogs() as events:
        assert dialogue(internet, host)[-1] == "451 4.7.1 Try again later"
    assert any("policy failed: policy=milter" in formatEvent(event) for event in events)
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert kept(host) == MESSAGE


@pytest.mark.parametrize(
    ("names", "addresses", "failing", "name", "pointer", "found"),
    [
        (["a.example", "b.example"], ["10.9.9.9"], "", "b.example", "b.example", "OK"),
        (["a.example", "b.example"], ["10.9.9.8"], "", "[10.9.9.9]", "a.example", "FORGED"),
        ([], [], "", "[10.9.9.9]", "unknown", "FAIL"),
        ([], [], "10.9.9.9", "[10.9.9.9]", "unknown", "TEMP"),
    ],
)
def test_a_client_is_called_by_a_name_that_leads_back_to_it(
    internet: Internet, names: list[str], addresses: list[str], failing: str, name: str, pointer: str, found: str
) -> None:
    milter = FakeMilter(more=struct.pack("!I", 0) + b"{client_name} {client_ptr} {client_resolve} _\0")
    host = hub(internet, milter)
    internet.resolver.ptr["10.9.9.9"] = names
    internet.resolver.hosts["b.example"] = addresses
    internet.resolver.failing |= {failing}
    greeted(internet, host)
    assert milter.macros(b"C") == {
        "{client_name}": name,
        "{client_ptr}": pointer,
        "{client_resolve}": found,
        "_": f"{name} [10.9.9.9]",
    }


def test_a_body_is_replaced(internet: Internet) -> None:
    host = hub(internet, FakeMilter({b"E": packet(b"b", b"New\n") + packet(b"p") + packet(b"b", b"body") + C}))
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert kept(host) == HEADER + b"\r\n\r\nNew\r\nbody\r\n"


def test_quarantine_is_junk_and_the_reason_is_logged(internet: Internet) -> None:
    host = hub(internet, FakeMilter({b"E": packet(b"q", b"looks odd\0") + C}))
    with capturedLogs() as events:
        assert dialogue(internet, host)[-1].startswith("250 ")
    assert host.inbox("ann@xx.example") == []
    assert any(formatEvent(event).endswith(" rule=milter:looks\\x20odd") for event in events)


WRONG = [
    HANGS,
    Dies,
    packet(b"z"),
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    packet(b"y", b"250 fine\0"),
    packet(b"h", b"X-A\0b\0"),
    C + C,
]


@pytest.mark.parametrize("letter", ["O", "C", "H", "M", "R", "T", "L", "N", "B", "E"])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("failure", ["tempfail", "skip"])
def test_a_filter_that_fails_at_any_moment_loses_no_mail(
    internet: Internet, letter: str, wrong: Any, failure: str
) -> None:
    if letter == "E" and wrong == packet(b"h", b"X-A\0b\0"):
        wrong += packet(b"h", b"X-A\0")
    milter = FakeMilter({letter.encode(): [wrong]})
    if letter == "O":
        milter.answers[b"O"] = wrong
    host = hub(internet, milter, failure=failure)
    with capturedLogs() as events:
        said = dialogue(internet, host)
    milter.answers.clear()
    # Two answers are noticed at the next moment; while nobody waits, another connection is all that comes of it.
    if failure == "skip" or (wrong == C + C and said[-1].startswith("250 ")):
        assert said[-1].startswith("250 ")
    else:
        assert said[-1] == "451 4.7.1 Try again later"
        assert host.inbox("ann@xx.example") == []
        assert dialogue(internet, host)[-1].startswith("250 ")
    assert kept(host) == MESSAGE
    assert wrong == C + C or any("policy=milter" in formatEvent(event) for event in events)


@pytest.mark.parametrize("letter", ["C", "H", "M", "R"])
def test_a_filter_that_was_started_anew_is_told_what_it_has_missed(internet: Internet, letter: str) -> None:
    milter = FakeMilter()
    host = hub(internet, milter)
    caller = greeted(internet, host)
    caller.ask(b"MAIL FROM:<a@yy.example>\r\n", b"250 ")
    caller.ask(b"RCPT TO:<ann@xx.example>\r\n", b"250 ")
    milter.lines[0].transport.loseConnection()
    internet.run(1)
    milter.answers = {letter.encode(): [packet(b"t")]}
    caller.ask(b"RCPT TO:<ben@xx.example>\r\n", b"451 ")
    if letter in "CH":
        caller.ask(b"RSET\r\nMAIL FROM:<a@yy.example>\r\n", b"451 4.7.1")
        return
    caller.ask(b"RCPT TO:<ben@xx.example>\r\n", b"250 ")
    caller.ask(b"DATA\r\n", b"354 ")
    caller.ask(MESSAGE + END, b"250 ")
    assert milter.letters == ["OCHMR", {"M": "OCHMAMRRTLLLNBE", "R": "OCHMRAMRRTLLLNBE"}[letter]]


def test_one_connection_serves_many_clients_one_after_the_other(internet: Internet) -> None:
    milter = FakeMilter()
    host = hub(internet, milter, keep_connections=True)
    first = greeted(internet, host)
    first.ask(b"MAIL FROM:<a@yy.example>\r\n", b"250 ")
    second = greeted(internet, host)
    first.ask(b"QUIT\r\n", b"221 ")
    internet.run(1)
    assert milter.letters == ["OCHMAK", "OCH"]
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert milter.letters == ["OCHMAKCHMRTLLLNBEK", "OCH"], "a message that was not over is said to be"
    second.ask(b"QUIT\r\n", b"221 ")
    internet.run(40)
    assert [letters[-2:] for letters in milter.letters] == ["KQ", "KQ"], "they are not kept for ever"
    assert not [name for name in internet.network.open_connections if PLACE[0] in name]


def test_a_connection_that_the_filter_has_closed_meanwhile_is_no_failure(internet: Internet) -> None:
    milter = FakeMilter()
    host = hub(internet, milter, keep_connections=True)
    assert dialogue(internet, host)[-1].startswith("250 ")
    milter.answers[b"C"] = [Dies]
    with capturedLogs() as events:
        assert dialogue(internet, host)[-1].startswith("250 ")
    assert not any("policy=milter" in formatEvent(event) for event in events)
    assert milter.letters == ["OCHMRTLLLNBEKC", "OCHMRTLLLNBEK"]


def test_a_filter_of_an_old_version_has_a_connection_for_each_client(internet: Internet) -> None:
    milter = FakeMilter(version=2, actions=0x3F)
    host = hub(internet, milter, keep_connections=True)
    for _ in range(2):
        assert dialogue(internet, host)[-1].startswith("250 ")
    assert milter.letters == ["OCHMRLLLNBEQ"] * 2


def test_a_filter_that_is_at_work_has_its_time_anew_but_not_for_ever(internet: Internet) -> None:
    milter = FakeMilter({b"E": HANGS})
    host = hub(internet, milter, timeout_seconds=60, message_seconds=10)
    caller = greeted(internet, host)
    caller.ask(b"MAIL FROM:<a@yy.example>\r\n", b"250 ")
    caller.ask(b"RCPT TO:<ann@xx.example>\r\n", b"250 ")
    caller.ask(b"DATA\r\n", b"354 ")
    caller.say(MESSAGE + END)
    for _ in range(4):
        internet.run(8)
        milter.lines[0].transport.write(packet(b"p"))
    milter.lines[0].transport.write(C)
    caller.expect(b"250 2.0.0")
    assert dialogue(internet, host)[-1] == "451 4.7.1 Try again later"


def test_the_header_of_a_message_that_is_too_large_to_be_held_is_told(internet: Internet) -> None:
    milter = FakeMilter({b"E": [packet(b"h", b"X-New\0b\0") + C, packet(b"m", b"\0\0\0\1Subject\0\0") + C]})
    host = hub(internet, milter)
    large = b"X-Large: " + b"x" * 900 + b"\r\n"
    message = large * 400 + MESSAGE
    assert dialogue(internet, host, message)[-1].startswith("250 ")
    assert (len(milter.said(b"L")), milter.said(b"B")) == (403, [BODY])
    assert kept(host) == b"X-New: b\r\n" + message
    assert dialogue(internet, host, message)[-1].startswith("451 ")


def test_services_that_are_not_named_and_rehearsals_are_none_of_its_business(internet: Internet) -> None:
    milter = FakeMilter()
    host = hub(internet, milter, services=["lmtp"])
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert milter.letters == []
    greeted(internet, host, "lmtp").ask(b"MAIL FROM:<a@yy.example>\r\n", b"250 ")
    assert milter.letters == ["OCHM"]
    nobody = Origin("lmtp", "10.9.9.9", helo="c.example", rehearsal=True)
    conversation = internet.wait(host.hub.pipeline.connected(nobody))
    internet.wait(conversation.hello(nobody))
    assert milter.letters == ["OCHM"]


@pytest.mark.parametrize("letter", ["O", "C", "R", "E"])
def test_nothing_is_left_of_a_client_that_goes_while_the_filter_thinks(internet: Internet, letter: str) -> None:
    milter = FakeMilter({letter.encode(): HANGS})
    host = hub(internet, milter)
    caller = internet.call(host, "smtp")
    caller.expect(b"220 ")
    caller.say(b"EHLO c.example\r\n")
    internet.run(1)
    caller.say(b"MAIL FROM:<a@yy.example>\r\nRCPT TO:<ann@xx.example>\r\nDATA\r\n")
    internet.run(1)
    caller.say(MESSAGE + END)
    internet.run(1)
    assert milter.letters[0].endswith(letter)
    transport: Any = caller.transport
    transport.abortConnection()
    internet.run(1)
    milter.lines[0].transport.write(packet(b"O", struct.pack("!III", 6, 0, 0)))
    internet.run(40)
    assert [name for name in internet.network.open_connections if PLACE[0] in name] == []
    assert host.inbox("ann@xx.example") == []
    milter.answers.clear()
    assert dialogue(internet, host)[-1].startswith("250 ")


def test_however_octets_are_cut_it_is_the_same() -> None:
    with Internet(seed=3, weather=Weather(split=True)) as internet:
        milter = FakeMilter({b"E": packet(b"p") + packet(b"h", b"X-New\0b\0") + packet(b"b", b"body") + packet(b"a")})
        host = hub(internet, milter)
        assert dialogue(internet, host)[-1].startswith("250 ")
        assert kept(host) == HEADER + b"\r\nX-New: b\r\n\r\nbody\r\n"


def test_a_local_socket_is_a_place_too(internet: Internet) -> None:
    milter = FakeMilter()
    internet.network.listen("unix:/run/milter.sock", 0, milter)
    config = configured({"address": "unix:/run/milter.sock"})
    host = internet.hub("xx.example", ["ann"], config=config)
    assert dialogue(internet, host)[-1].startswith("250 ")
    assert len(milter.letters) == 1


def test_a_host_is_found_by_its_name(internet: Internet) -> None:
    milter = FakeMilter()
    internet.network.listen(*PLACE, milter)
    internet.resolver.hosts["filter.example"] = ["10.7.7.6", PLACE[0]]
    host = internet.hub("xx.example", ["ann"], config=configured({"address": f"inet:filter.example:{PLACE[1]}"}))
    assert dialogue(internet, host)[-1].startswith("250 ")
    internet.resolver.failing.add("filter.example")
    internet.run(60)
    assert dialogue(internet, host)[-1].startswith("451 ")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"address": "inet:8891"}, "address"),
        ({"address": "inet:host:99999"}, "address"),
        ({"address": "unix:relative"}, "address"),
        ({"services": ["imap"]}, "services"),
        ({"macros": {"a b": "c"}}, "macros"),
        ({"command_seconds": 0}, "command_seconds"),
        ({"port": 1}, "port"),
    ],
)
def test_mistakes_in_the_configuration_name_the_key(internet: Internet, options: Any, key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\[policy.milter\] {key}: "):
        internet.hub("xx.example", config=configured(options))
