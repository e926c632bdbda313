"""The client of the SMTP benchmarks: some connections that send messages, and what that takes.

One thread looks after all of them, so that the time until a reply is seen is not the time until a thread is.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

USERS = [f"user{number}@xx.example" for number in range(20)]
LINE = b"all work and no play makes a dull message, and so on it goes\r\n"
# In the configuration of a server that is to do what its peers do by default.
UNCHECKED = "[checks]\nspf = false\ndkim = false\ndmarc = 'off'\narc = false\niprev = false\nauth = false\n"
DEADLINE = 60.0  # seconds without any reply; a bound on waiting, never a measure

Cpu = Callable[[], float]
# Octets to send, and the codes of the replies to wait for.
Step = tuple[bytes, Sequence[bytes]]


@attrs.frozen
class Kind:
    """How messages come: `size` in octets, for how many of `users` each, how many on a connection (0: all). `made`:
    what becomes of each before it is sent."""

    pipelining: bool = True
    size: int = 4096
    recipients: int = 1
    on_a_connection: int = 0
    users: Sequence[str] = attrs.field(factory=lambda: USERS)
    made: Callable[[bytes], bytes] = bytes


@attrs.frozen
class Spent:
    """Of one run: seconds of the server's CPU a message, messages a second, and the seconds from the end of each
    message's data to the reply."""

    cpu: float
    rate: float
    waits: Sequence[float]

    def __str__(self) -> str:
        waits = "/".join(f"{percentile(self.waits, percent) * 1000:.1f}" for percent in (50, 95))
        return f"{self.cpu * 1e6:,.0f} us; {self.rate:,.0f}/s; {waits} ms"


def percentile(values: Sequence[float], percent: int) -> float:
    """What so many of a hundred do not exceed."""
    return sorted(values)[(len(values) - 1) * percent // 100]


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows of cells as a table of docs/performance.rst; the first row is its header."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    line = " ".join("=" * width for width in widths)
    header, *others = [" ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join([line, header, line, *others, line])


def message(number: int, recipient: str, size: int = 4096) -> bytes:
    """About `size` octets with the header of a usual message."""
    head = (
        f"Received: from desk.else.example (desk.else.example [192.0.2.1])\r\n\tby mx.else.example with ESMTPS"
        f" id {number:016x};\r\n\tMon, 23 Nov 2026 07:00:00 +0000\r\nFrom: Sender <s{number}@else.example>\r\n"
        f"To: {recipient}\r\nSubject: figures of day {number}\r\nDate: Mon, 23 Nov 2026 07:00:00 +0000\r\n"
        f"Message-ID: <{number}@else.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    ).encode()
    return head + LINE * ((size - len(head)) // len(LINE))


def _conversation(numbers: Sequence[int], kind: Kind) -> Iterator[Step]:
    """What one connection says."""
    yield b"", [b"220"]
    yield b"EHLO bench.example\r\n", [b"250"]
    for number in numbers:
        names = [kind.users[(number + more) % len(kind.users)] for more in range(kind.recipients)]
        octets = kind.made(message(number, names[0], kind.size))
        commands = [f"MAIL FROM:<s{number}@else.example> SIZE={len(octets)} BODY=8BITMIME\r\n".encode()]
        commands += [f"RCPT TO:<{name}>\r\n".encode() for name in names]
        codes = [b"250"] * len(commands)
        if kind.pipelining:
            yield b"".join([*commands, b"DATA\r\n"]), [*codes, b"354"]
        else:
            for command in commands:
                yield command, [b"250"]
            yield b"DATA\r\n", [b"354"]
        yield octets + b".\r\n", [b"250"]
    yield b"QUIT\r\n", [b"221"]


class _Connection:
    """One that works off its conversation; `sent` is called with the end of each message's data on its way."""

    def __init__(self, port: int, steps: Iterator[Step], sent: Callable[[], object]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waits: list[float] = []
        self._steps = steps
        self._tell_sent = sent
        self._unread = b""
        self._missing: list[bytes] = []
        self._sent: float | None = None
        self._go_on()

    def _go_on(self) -> bool:
        octets, codes = next(self._steps, (b"", ()))
        self._missing = list(codes)
        ends = octets.endswith(b"\r\n.\r\n")
        self._sent = time.perf_counter() if ends else None
        self.socket.sendall(octets)
        if ends:
            self._tell_sent()
        return bool(codes)

    def read(self) -> bool:
        """Take replies, and go on when all are there; false when all is said."""
        octets = self.socket.recv(65536)
        assert octets, "the server has closed the connection"
        *lines, self._unread = (self._unread + octets).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                code = self._missing.pop(0)
                assert line.startswith(code), line
        if self._missing:
            return True
        if self._sent is not None:
            self.waits.append(time.perf_counter() - self._sent)
        return self._go_on()


def drive(
    port: int,
    cpu: Cpu,
    count: int,
    clients: int,
    pipelining: bool = True,
    *,
    kind: Kind | None = None,
    sent: Callable[[], object] = lambda: None,
    done: Callable[[], object] = lambda: None,
) -> Spent:
    """Send so many messages over `clients` connections at once. `sent` is called at the end of each message's data,
    `done` waits for what the server does after the last reply."""
    kind = kind or Kind(pipelining)
    waits: list[float] = []
    before, began = cpu(), time.monotonic()
    with selectors.DefaultSelector() as selector:

        def connect(shares: Iterator[Sequence[int]]) -> None:
            numbers = next(shares, None)
            if numbers is not None:
                connection = _Connection(port, _conversation(numbers, kind), sent)
                selector.register(connection.socket, selectors.EVENT_READ, (connection, shares))

        for client in range(clients):
            numbers = range(client, count, clients)
            length = kind.on_a_connection or count
            connect(iter([numbers[first : first + length] for first in range(0, len(numbers), length)]))
        while selector.get_map():
            ready = selector.select(DEADLINE)
            assert ready, "the server says nothing"
            for key, _ in ready:
                connection, shares = key.data
                if not connection.read():
                    selector.unregister(connection.socket)
                    connection.socket.close()
                    waits += connection.waits
                    connect(shares)
    done()
    return Spent((cpu() - before) / count, count / (time.monotonic() - began), waits)


def cpu_of(pid: int) -> Cpu:
    """What gives the seconds of CPU, user and system, that a process has used."""

    def seconds() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    return seconds
