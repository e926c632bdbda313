"""Bad input over real TCP: a clear error, and everybody else is served on."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailhub.testing.process import DEADLINE, ServerProcess, eventually, insecure_tls

pytestmark = pytest.mark.system

A, B = "a@xx.example", "b@xx.example"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("hostile") / "xx", "xx.example", {A: "word", B: "word"})
    server.extra = "[limits]\nmessage_size_bytes = 1000000\n"
    with server:
        yield server


@pytest.fixture(autouse=True)
def _unharmed(hub: ServerProcess) -> Iterator[None]:
    """After each attack: alive, small, and no traceback in the log."""
    yield
    assert hub.process is not None
    assert hub.process.poll() is None
    with hub.imap(A) as client:
        assert client.select("INBOX")[0] == "OK"
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{hub.process.pid}/status").read_text())
    assert resident is not None
    assert int(resident[1]) < 200_000
    assert not [line for line in hub.log if "Traceback" in line], "".join(hub.log[-60:])


class Wire:
    """A connection that speaks octets."""

    def __init__(self, hub: ServerProcess, service: str) -> None:
        plain = socket.create_connection(("127.0.0.1", hub.ports[service]), timeout=DEADLINE)
        implicit = service in ("imaps", "pop3s", "submissions")
        self.socket: socket.socket = insecure_tls().wrap_socket(plain) if implicit else plain
        self.file = self.socket.makefile("rb")
        self.greeting = self.line()

    def line(self) -> bytes:
        """The next line, b"" at the end or when the peer has reset the connection."""
        try:
            return self.file.readline()
        except (ConnectionError, ssl.SSLError):
            return b""

    def send(self, octets: bytes) -> None:
        """Send all, or as much as the peer takes before it hangs up."""
        try:
            self.socket.sendall(octets)
        except (ConnectionError, ssl.SSLError):
            return

    def ask(self, octets: bytes) -> bytes:
        self.send(octets + b"\r\n")
        return self.line()

    def until(self, tag: bytes) -> list[bytes]:
        """Lines up to the one that begins with the tag, or the end."""
        lines = [self.line()]
        while lines[-1] and not lines[-1].startswith(tag):
            lines.append(self.line())
        return lines


def test_smtp_answers_bad_commands_and_hangs_up_on_the_stubborn(hub: ServerProcess) -> None:
    wire = Wire(hub, "smtp")
    assert wire.greeting.startswith(b"220 mx.xx.example ")
    assert wire.ask(b"MAIL FROM:<a@b.example>").startswith(b"503 5.5.1")
    assert wire.ask(b"HELO x").startswith(b"250")
    assert wire.ask(b"NOOP " + b"x" * 100_000).startswith(b"500 5.5.")
    assert wire.ask(b"MAIL FROM:<" + b"@" * 300 + b">").startswith(b"501 5.")
    assert wire.ask(b"RCPT TO:<a@xx.example>").startswith(b"503 5.5.1")
    answers = [wire.ask(b"BOGUS") for _ in range(100)]
    assert answers[0].startswith(b"500 5.5.")
    assert any(a.startswith(b"421 4.7.0") for a in answers)
    assert answers[-1] == b""


def test_smtp_bounds_recipients(hub: ServerProcess) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as client:
        client.ehlo("x.example")
        client.mail("s@else.example")
        codes = [client.docmd("RCPT", "TO:<a@xx.example>") for _ in range(1001)]
        assert codes[0][0] == 250
        assert codes[-1][0] == 452
        assert codes[-1][1].startswith(b"4.5.3")
        client.docmd("RSET")


def test_smtp_endless_data_is_refused_at_the_end_or_cut(hub: ServerProcess) -> None:
    wire = Wire(hub, "smtp")
    for command in (b"EHLO x", b"MAIL FROM:<s@else.example>", b"RCPT TO:<a@xx.example>", b"DATA"):
        wire.send(command + b"\r\n")
    while not wire.line().startswith(b"354"):
        pass
    chunk = (b"x" * 998 + b"\r\n") * 100
    for _ in range(40):
        wire.send(chunk)
    answer = wire.ask(b".")
    assert answer == b"" or answer.startswith((b"552 5.3.4", b"421"))
    assert hub.messages(A) == []


@pytest.mark.parametrize("service", ["smtp"])
@pytest.mark.parametrize("ending", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\x00\r\n"])
def test_nothing_is_smuggled_in(hub: ServerProcess, service: str, ending: bytes) -> None:
    before = len(hub.messages(B))
    wire = Wire(hub, service)
    for command in (b"EHLO x", b"MAIL FROM:<s@else.example>", b"RCPT TO:<b@xx.example>", b"DATA"):
        wire.send(command + b"\r\n")
    while not wire.line().startswith(b"354"):
        pass
    inner = b"MAIL FROM:<evil@else.example>\r\nRCPT TO:<b@xx.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
    answer = wire.ask(b"Subject: outer\r\n\r\nx" + ending + inner + b"\r\n.")
    assert answer.startswith(b"250 2.0.0"), answer
    assert wire.ask(b"NOOP").startswith(b"250")
    (message,) = hub.messages(B)[before:]
    assert message.startswith(b"Return-Path: <s@else.example>\r\n")
    assert b"\nMAIL FROM:<evil@else.example>\r\n" in message


def test_plaintext_behind_starttls_is_dropped(hub: ServerProcess) -> None:
    for service, hello, start, ok, injected in (
        ("submission", b"EHLO x", b"STARTTLS", b"220", b"NOOP"),
        ("imap", b"", b"a STARTTLS", b"a OK", b"b NOOP"),
        ("pop3", b"", b"STLS", b"+OK", b"CAPA"),
    ):
        wire = Wire(hub, service)
        if hello:
            wire.ask(hello)
            while b"250 " not in wire.ask(b"NOOP"):
                pass
        wire.send(start + b"\r\n" + injected + b"\r\n")
        while not (line := wire.line()).startswith(ok):
            assert line, service
        secure = insecure_tls().wrap_socket(wire.socket)
        secure.settimeout(DEADLINE)
        secure.sendall(b"z LOGOUT\r\nQUIT\r\n")
        answer = secure.recv(100)
        # The first octets under TLS answer what was said under TLS.
        assert not answer.startswith((b"b OK", b"+OK Cap", b"250")), (service, answer)


def test_imap_bounds_literals_lines_and_names(hub: ServerProcess) -> None:
    wire = Wire(hub, "imaps")
    assert wire.ask(b"a LOGIN {99999999999}").startswith((b"a NO", b"a BAD"))
    wire.send(b"a LOGIN a@xx.example word\r\n")
    assert wire.until(b"a ")[-1].startswith(b"a OK")
    assert wire.ask(b'b CREATE "&broken"').startswith((b"b NO", b"b BAD"))
    for name in (b"../x", b"a/../../x", b"/x", b"a//b", b"a\\x00b", b"x/" * 200 + b"x"):
        assert wire.ask(b'c CREATE "' + name + b'"').startswith((b"c NO", b"c BAD")), name
    assert wire.ask(b"d SEARCH " + b"NOT " * 5000 + b"ALL").startswith(b"d BAD")
    assert wire.ask(b"f SELECT {4294967296}").startswith((b"f NO", b"f BAD"))
    assert wire.ask(b"g APPEND INBOX {2000000}").startswith(b"g NO")
    assert wire.ask(b"h FETCH 1 FLAGS").startswith(b"h BAD")
    assert wire.ask(b"i NOOP").startswith(b"i OK")
    # Its lost end may have announced a literal: after an over-long line no octet can be trusted to be a command.
    assert wire.ask(b"j NOOP " + b"x" * 200_000).startswith((b"j BAD", b"* BAD"))
    assert wire.line().startswith(b"* BYE")


def test_imap_pop3_hang_up_on_the_stubborn(hub: ServerProcess) -> None:
    for service, command in (("imaps", b"x BOGUS"), ("pop3s", b"BOGUS")):
        wire = Wire(hub, service)
        last = b"?"
        for _ in range(300):
            last = wire.ask(command)
            if not last:
                break
        assert last == b"", service


def test_deep_mime_and_thousands_of_parts_are_stored_and_served(hub: ServerProcess) -> None:
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(2000))
    wide = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n\r\nx\r\n" * 20_000 + b"--b--\r\n"
    commas = b"Subject: commas\r\nTo: " + b"," * 60_000 + b"\r\n\r\nx\r\n"
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as client:
        for message in (deep, wide, commas):
            client.sendmail("s@else.example", [A], message)
    with hub.imap(A) as imap:
        imap.select("INBOX")
        kind, data = imap.fetch("1:*", "(ENVELOPE BODYSTRUCTURE BODY.PEEK[1])")
        assert kind == "OK"
        assert len([d for d in data if d]) >= 3
        imap.store("1:*", "+FLAGS", "\\Deleted")
        imap.expunge()


def deliver(hub: ServerProcess, octets: bytes) -> None:
    """Put a message into the INBOX."""
    with hub.imap(A) as client:
        assert client.append("INBOX", "", "", octets)[0] == "OK"


def blobs(hub: ServerProcess) -> list[Path]:
    return [path for path in (hub.folder / "data" / "blobs").rglob("*") if path.is_file()]


def test_clients_that_never_read_cost_no_memory(hub: ServerProcess) -> None:
    deliver(hub, b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 900)
    before = hub.resident_octets()
    wires = []
    for _ in range(8):
        wires.append(wire := Wire(hub, "imaps"))
        wire.send(b"a LOGIN a@xx.example word\r\nb SELECT INBOX\r\n" + b"c FETCH * BODY.PEEK[]\r\n" * 100)
        wires.append(wire := Wire(hub, "pop3"))
        wire.socket.settimeout(0.02)
        with contextlib.suppress(TimeoutError):
            wire.send(b"CAPA\r\n" * 50_000)
    for wire in wires[::2]:
        assert wire.until(b"b ")[-1].startswith(b"b OK")
    assert hub.messages(A), "others are served meanwhile"
    assert hub.resident_octets() - before < 40_000_000, "they have been promised 720 MB"
    for wire in wires:
        wire.socket.close()
        wire.file.close()
    with hub.imap(A) as client:
        client.select("INBOX")
        client.store("1:*", "+FLAGS", "\\Deleted")
        client.expunge()


@pytest.mark.parametrize(
    ("service", "steps"),
    [
        (
            "smtp",
            [b"EHLO x\r\nMAIL FROM:<s@else.example>\r\nRCPT TO:<a@xx.example>\r\nDATA\r\n", b"A: b\r\n\r\n", b"."],
        ),
        ("imaps", [b"a LOGIN a@xx.example word\r\nb APPEND INBOX {300002}\r\n", b"A: b\r\n\r\n", b"x" * 99_992]),
    ],
)
def test_cut_off_at_any_step_nothing_is_left(hub: ServerProcess, service: str, steps: list[bytes]) -> None:
    assert blobs(hub) == []
    parts = [*steps[:2], *[b"y" * 98_000 + b"\r\n"] * 2, *steps[2:]]
    for count in range(1, len(parts) + 1):
        wire = Wire(hub, service)
        wire.send(b"".join(parts[:count]))
        # The last answer before the message; what follows is on its way when the line is cut.
        assert wire.until(b"354" if service == "smtp" else b"+ ")[-1]
        wire.socket.close()
        wire.file.close()
    eventually(lambda: not blobs(hub), "half messages are thrown away")
    assert hub.messages(A) == []


def test_handshakes_that_never_end_keep_nobody_out(hub: ServerProcess) -> None:
    half_open = []
    for _ in range(300):
        half_open.append(end := socket.create_connection(("127.0.0.1", hub.ports["imaps"]), timeout=DEADLINE))
        end.sendall(b"\x16\x03\x01")
    assert Wire(hub, "imaps").greeting.startswith(b"* OK")
    for end in half_open:
        end.close()
