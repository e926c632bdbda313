"""The agents that give mail to a program, drop it, or refuse it."""

from __future__ import annotations

import hashlib
import os
import pwd
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.process import reapAllProcesses
from twisted.internet.selectreactor import SelectReactor

from mailhub.config.reader import Place, read
from mailhub.delivery.transports.line_ends import UnixLines
from mailhub.delivery.transports.pipe import PipeAgent, PipeOptions
from mailhub.delivery.transports.plain import ErrorOptions
from mailhub.delivery.transports.sysexits import outcome_of_status
from mailhub.errors import ConfigurationError
from mailhub.interfaces import Delivery, Ended, QueuedRecipient, Route
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Reach, Recipient, State
from mailhub.net.processes import ReactorProcesses
from mailhub.store.octets import OctetsReader
from mailhub.testing.hubs import Internet
from mailhub.testing.processes import Call

MESSAGE = b"Subject: hello\r\n\r\nHow are you?\r\n"
PLACE = Place("mailhub.toml", Path("/"), "agent.x")


def options(**values: Any) -> PipeOptions:
    return read(PipeOptions, {"command": ["take", "${recipient}"], **values}, PLACE)


def delivery(
    *recipients: Address | str, sender: str | None = "ann@xx.example", body: bytes = MESSAGE, original: str = ""
) -> Delivery:
    found = [Address.parse(each) if isinstance(each, str) else each for each in recipients or ("ben@yy.example",)]
    originals = (Recipient(Address.parse(original)),) if original else ()
    rows = tuple(
        QueuedRecipient(number, Route("pipe", each, originals=originals), 0, 0) for number, each in enumerate(found, 1)
    )
    mail = Mail(Address.parse(sender) if sender else None)
    return Delivery("M1", mail, "", rows, OctetsReader(body))


class Rig:
    """An agent, and programs that are played."""

    def __init__(self) -> None:
        self.internet = Internet(seed=1)
        self.host = self.internet.hub("xx.example")
        self.environment = self.host.hub.environment

    def deliver(
        self, given: Delivery, program: Any = b"", seconds: float = 3600, **values: Any
    ) -> Mapping[int, Outcome]:
        self.internet.processes.add("take", program if callable(program) else lambda call: program)
        agent = PipeAgent(options(**values), self.environment, attempt_seconds=seconds)
        return self.internet.wait(agent.deliver(given), 1e5)

    @property
    def calls(self) -> list[Call]:
        return self.internet.processes.calls


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.internet.close()


def states(outcomes: Mapping[int, Outcome]) -> list[tuple[str, str, str]]:
    return [(each.state.name, each.status, each.reply) for _, each in sorted(outcomes.items())]


def test_a_program_gets_the_message_with_its_envelope_on_top(rig: Rig) -> None:
    told = rig.deliver(delivery(), Ended(0, b"2.1.5 kept as 17\nmore\n"), from_line=True, user="vmail")
    assert states(told) == [("DELIVERED", "2.1.5", "kept as 17")]
    (call,) = rig.calls
    assert call.arguments == ("take", "ben@yy.example")
    assert call.user == "vmail"
    assert call.folder == Path("/")
    assert call.stdin == (
        b"From ann@xx.example Mon Jan  1 00:00:00 2024\n"
        b"Return-Path: <ann@xx.example>\nDelivered-To: ben@yy.example\n" + MESSAGE.replace(b"\r\n", b"\n")
    )


def test_what_stands_on_top_and_line_ends_can_be_left_out(rig: Rig) -> None:
    rig.deliver(delivery(sender=None), return_path=False, delivered_to=False, line_ends="crlf")
    assert rig.calls[0].stdin == MESSAGE


def test_all_that_can_be_named_is_an_argument_of_its_own(rig: Rig) -> None:
    names = ("sender", "recipient", "local", "extension", "domain", "original_recipient", "id", "delivery", "size")
    command = ["take", *(f"${{{name}}}" for name in names), "--to=${local}/${extension}", "$HOME", "*"]
    rig.deliver(delivery("ben+a; b@yy.example".replace("; ", "-"), original="all@xx.example"), command=command)
    assert rig.calls[0].arguments[1:] == (
        *("ann@xx.example", "ben+a-b@yy.example", "ben", "a-b", "yy.example", "all@xx.example", "M1", "M1-1"),
        *(str(len(MESSAGE)), "--to=ben/a-b", "$HOME", "*"),
    )


@pytest.mark.parametrize(
    ("separators", "wanted"),
    [("+", ("ben-x", "a+b")), ("+-", ("ben", "x+a+b")), ("", ("ben-x+a+b", "")), ("b", ("ben-x+a+b", ""))],
)
def test_the_extension_begins_where_the_hub_says(rig: Rig, separators: str, wanted: tuple[str, str]) -> None:
    rig.internet.processes.add("take", lambda call: b"")
    made = options(command=["take", "${local}", "${extension}"])
    agent = PipeAgent(made, rig.environment, separators=separators)
    rig.internet.wait(agent.deliver(delivery("ben-x+a+b@yy.example")))
    assert rig.calls[0].arguments[1:] == wanted


def test_a_local_part_with_blanks_and_shell_characters_is_one_argument(rig: Rig) -> None:
    rig.deliver(delivery(Address('a b";$(rm)', "yy.example"), sender=None), command=["take", "${sender}", "${local}"])
    assert rig.calls[0].arguments == ("take", "", 'a b";$(rm)')


def test_addresses_are_as_smtp_writes_them_and_names_are_without_quotes(rig: Rig) -> None:
    odd = Address("a b", "yy.example")
    rig.deliver(delivery(odd, sender='"c d"@xx.example'), command=["take", "${sender}", "${recipient}", "${local}"])
    (call,) = rig.calls
    assert call.arguments == ("take", '"c d"@xx.example', '"a b"@yy.example', "a b")
    assert b'\nDelivered-To: "a b"@yy.example\n' in call.stdin


def test_several_recipients_go_together_where_that_is_wanted(rig: Rig) -> None:
    named = [f"u{number}@yy.example" for number in range(5)]
    command = ["take", "-f", "${sender}", "--", "${recipient}"]
    told = rig.deliver(delivery(*named), recipients_per_run=2, command=command)
    assert [call.arguments[4:] for call in rig.calls] == [tuple(named[:2]), tuple(named[2:4]), tuple(named[4:])]
    assert all(call.arguments[1:4] == ("-f", "ann@xx.example", "--") for call in rig.calls)
    assert [b"Delivered-To" in call.stdin for call in rig.calls] == [False, False, True]
    assert len(told) == 5


@pytest.mark.parametrize("text", ["-rf@yy.example", "--help@yy.example"])
def test_an_address_cannot_be_an_option(rig: Rig, text: str) -> None:
    told = rig.deliver(delivery(text, "ben@yy.example"))
    assert states(told)[0] == ("FAILED", "5.1.3", "Address would be an option of the program")
    assert states(told)[1][0] == "DELIVERED"
    assert [call.arguments for call in rig.calls] == [("take", "ben@yy.example")]
    assert states(rig.deliver(delivery(text), command=["take", "--", "${recipient}"]))[0][0] == "DELIVERED"
    assert states(rig.deliver(delivery(text), command=["take", "--to=${recipient}"]))[0][0] == "DELIVERED"


@pytest.mark.parametrize("character", ["\n", "\0", "\x7f", "\x85", "\u2028"])
def test_control_characters_are_given_to_no_program(rig: Rig, character: str) -> None:
    told = rig.deliver(delivery(Address(f"a{character}b", "yy.example")))
    assert states(told) == [("FAILED", "5.1.3", "Address has a control character in it")]
    assert rig.calls == []


@pytest.mark.parametrize(
    ("ended", "wanted"),
    [
        (Ended(0), ("DELIVERED", "2.0.0", "")),
        (Ended(75, b"", b"\n  busy \n"), ("DELAYED", "4.3.0", "busy")),
        (Ended(75, b"4.2.2 full"), ("DELAYED", "4.2.2", "full")),
        (Ended(75, b"5.2.2 full"), ("DELAYED", "4.3.0", "full")),  # its status counts
        (Ended(67, b"nobody"), ("FAILED", "5.1.1", "nobody")),
        (Ended(77), ("FAILED", "5.7.0", "The program ended with status 77")),
        (Ended(1, b"", b"Traceback"), ("DELAYED", "4.3.0", "Traceback")),
        (Ended(127), ("DELAYED", "4.3.0", "The program ended with status 127")),
        (Ended(-9, b"5.1.1 x"), ("DELAYED", "4.3.0", "The program was ended by signal 9")),
        (Ended(67, b"a\x1b[2Jb\xff\r\n"), ("FAILED", "5.1.1", "a [2Jb\ufffd")),
    ],
)
def test_the_exit_status_says_what_became_of_it(ended: Ended, wanted: tuple[str, str, str]) -> None:
    assert states({1: outcome_of_status(ended)}) == [wanted]


def test_a_program_that_is_missing_or_too_slow_leaves_the_mail_in_the_queue(rig: Rig) -> None:
    waiting = ("DELAYED", "4.3.0", "The program that takes this mail cannot be run now")
    assert states(rig.deliver(delivery(), command=["nowhere"])) == [waiting]
    assert states(rig.deliver(delivery(), lambda call: Deferred(), run_seconds=5)) == [waiting]
    assert states(rig.deliver(delivery(), Ended(0, b"x" * (1 << 20) + b"x"))) == [waiting]


def test_a_message_that_is_too_large_is_refused_before_any_program_runs(rig: Rig) -> None:
    told = rig.deliver(delivery(), message_size_bytes=len(MESSAGE) - 1)
    assert states(told) == [("FAILED", "5.2.3", f"Message is larger than {len(MESSAGE) - 1} octets")]
    assert rig.calls == []


def test_ten_thousand_recipients_take_as_many_attempts_as_they_need(rig: Rig) -> None:
    clock = rig.internet.clock

    def slow(call: Call) -> Deferred[Ended]:
        ended: Deferred[Ended] = Deferred()
        clock.callLater(1, ended.callback, Ended(0))
        return ended

    told = rig.deliver(delivery(*(f"u{number}@yy.example" for number in range(10_000))), slow, seconds=60)
    done = [each for each in told.values() if each.state is State.DELIVERED]
    assert len(done) == len(rig.calls) < 100
    assert {each.reach for each in told.values() if each.state is State.DELAYED} == {Reach.CROWDED}
    assert len(told) == 10_000


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"command": []}, "command: must name a program"),
        ({"command": ["take", "${user}"]}, 'command: "${user}" stands for nothing; known: ${sender}'),
        ({"command": ["${local}"]}, "command: the program itself cannot be named by the message"),
        ({"recipients_per_run": 0}, "recipients_per_run: must be from 1 to 1000, not 0"),
        ({"line_ends": "cr"}, "line_ends: must be lf or crlf"),
        ({"commands": ["x"]}, "commands: unknown key; did you mean command?"),
    ],
)
def test_mistakes_are_told_at_start(values: Mapping[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        options(**values)
    assert fault in str(told.value)


@pytest.mark.parametrize("values", [{"status": "2.0.0"}, {"status": "550"}, {"text": "a\r\nb"}, {"text": ""}])
def test_an_error_is_one_that_can_be_told(values: Mapping[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        read(ErrorOptions, values, PLACE)


@pytest.mark.parametrize(("status", "temporary"), [("5.7.1", False), ("4.3.2", True)])
def test_an_error_says_without_a_text_whether_it_is_for_good(status: str, temporary: bool) -> None:
    told = read(ErrorOptions, {"status": status}, PLACE).error
    assert (told.temporary, told.text.endswith(" now")) == (temporary, temporary)
    assert read(ErrorOptions, {"status": status, "text": "Not today"}, PLACE).error.text == "Not today"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
@pytest.mark.parametrize(
    "octets", [b"", b"a\r\nb\r\n", b"\r\n\r\n", b"a\rb\r", b"\r", b"\r\r\n\n", b"x" * 65535 + b"\r\n" + b"y" * 70000]
)
def test_line_ends_become_those_of_unix_however_they_are_read(octets: bytes, size: int) -> None:
    if len(octets) > 100 and size < 100:
        return

    async def whole() -> bytes:
        reader, read = UnixLines(OctetsReader(octets)), b""
        while piece := await reader.read(len(read), size):
            read += piece
        assert await UnixLines(OctetsReader(octets)).read() == read
        return read

    results: list[Any] = []
    Deferred.fromCoroutine(whole()).addBoth(results.append)
    assert results == [octets.replace(b"\r\n", b"\n")]


# --- Real programs ---------------------------------------------------------------------------------------------------


class Real:
    """The agent with programs of the machine, on a reactor that is turned by hand."""

    def __init__(self, rig: Rig) -> None:
        self.reactor: Any = SelectReactor()
        processes = ReactorProcesses(self.reactor, self.reactor, 2)
        self.environment = attrs.evolve(rig.environment, clock=self.reactor, processes=processes)

    def deliver(self, given: Delivery, command: Sequence[str], **values: Any) -> Mapping[int, Outcome]:
        results: list[Any] = []
        agent = PipeAgent(options(command=list(command), **values), self.environment)
        Deferred.fromCoroutine(agent.deliver(given)).addBoth(results.append)
        end = self.reactor.seconds() + 30
        while not results:
            assert self.reactor.seconds() < end
            self.reactor.iterate(0.02)
            reapAllProcesses()
        assert isinstance(results[0], dict), results
        return results[0]


@pytest.fixture
def real(rig: Rig) -> Iterator[Real]:
    made = Real(rig)
    yield made
    made.reactor.removeAll()
    for call in made.reactor.getDelayedCalls():
        call.cancel()


def test_a_real_program_takes_a_large_message_and_is_nobody(real: Real) -> None:
    script = """echo "$(id -u) $(sha256sum | cut -d ' ' -f 1)" """
    body = MESSAGE + b"0123456789abcdef\r\n" * 50_000
    told = real.deliver(
        delivery(body=body), ["sh", "-c", script], line_ends="crlf", return_path=False, delivered_to=False
    )
    user, digest = told[1].reply.split()
    assert digest == hashlib.sha256(body).hexdigest()
    assert int(user) == (pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())


SCRIPTS = {
    "exit 0": ("DELIVERED", "2.0.0"),  # it has read nothing
    "cat >/dev/null; echo 5.1.1 who; exit 67": ("FAILED", "5.1.1"),
    "exec yes": ("DELAYED", "4.3.0"),  # endless output
    "kill -9 $$": ("DELAYED", "4.3.0"),
    "(sleep 60; echo late) & exit 0": ("DELIVERED", "2.0.0"),  # its child holds the output
    "exec sleep 60": ("DELAYED", "4.3.0"),  # killed
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_bad_programs_are_bounded(real: Real, script: str) -> None:
    body = MESSAGE + b"x" * 300_000
    told = real.deliver(delivery(body=body), ["/bin/sh", "-c", script], run_seconds=2)
    assert [each[:2] for each in states(told)] == [SCRIPTS[script]]


def test_who_is_not_there_runs_nothing(real: Real) -> None:
    told = real.deliver(delivery(), [sys.executable, "-c", "pass"], user="no-such-user-here")
    assert [each[:2] for each in states(told)] == [("DELAYED", "4.3.0")]
