"""What mail for elsewhere costs: in by SMTP, through the queue, and out by SMTP to a sink that is a process of its own
(`bare_smtp.py` without a database).

Through: as it comes, until the sink has the last message. As root, where it is installed, Postfix sends the same to the
same sink. Backlog: so many messages of 4 KiB wait in the queue when the server starts, for one host or for a hundred.
How long others are kept waiting is the longest turn of the reactor (`turns/turns.py`), in CPU of its thread, since what
other processes take is not its own. Held: twice as many wait for another day.

    python benchmarks/smtp_relay.py [MESSAGES [BACKLOG]]
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.postfix_dovecot import AWAY, is_there, postfix_and_dovecot
from benchmarks.smtp_delivery import WARM, bare_smtp
from benchmarks.smtp_load import UNCHECKED, Kind, drive, message, table
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import load
from mailhub.interfaces import Plan, Route, Submission
from mailhub.message.address import Address
from mailhub.message.envelope import Mail
from mailhub.testing.process import ServerProcess, eventually, free_ports

USERS = [f"user{number}@{AWAY}" for number in range(20)]
ROWS = (
    ("through, lock-step, 1 connection", Kind(pipelining=False, users=USERS), 1),
    ("through, pipelining, 10 connections", Kind(users=USERS), 10),
    ("through, pipelining, 50 connections", Kind(users=USERS), 50),
)
DAY = 86_400
_TOGETHER = 500  # messages of one commit, when the queue is filled
_MIB = 1 << 20


class Sink:
    """What the mail is for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._replies = self._socket.makefile("rb")
        self._replies.readline()

    def count(self) -> int:
        """Messages so far."""
        self._socket.sendall(b"NOOP\r\n")
        return int(self._replies.readline().split()[2])

    def wait_for(self, count: int) -> None:
        """Until there are as many."""
        eventually(lambda: self.count() >= count, f"{count} messages", 600)


class Turn(NamedTuple):
    """Seconds of the longest one: of the thread's CPU, and by the clock on the wall."""

    cpu: float
    wall: float


class RelayServer(ServerProcess):
    """One that sends on to the sink, and tells of its turns."""

    def prepare(self) -> None:
        """With what is no business of a usual server."""
        super().prepare()
        (port,) = free_ports(1)
        turns = Path(__file__).with_name("turns")
        listen = f'[listen]\nturns = ["tcp:{port}:interface=127.0.0.1"]\n'
        self.config.write_text(
            f'plugins = ["{turns}"]\n' + self.config.read_text().replace("[listen]\n", listen) + f"\n{UNCHECKED}"
        )
        self.ports["turns"] = port

    def longest_turn(self) -> Turn:
        """Since it was asked for last."""
        with socket.create_connection(("127.0.0.1", self.ports["turns"])) as client, client.makefile() as told:
            return Turn(*map(float, told.read().split()))


@contextmanager
def relaying(sink: Sink, fill: Callable[[Offline], None] = lambda _: None) -> Iterator[RelayServer]:
    """A server that begins with what `fill` has put into its queue."""
    extra = f'[backup_mx]\ndomains = ["{AWAY}"]\n[route."{AWAY}"]\nhost = "127.0.0.1:{sink.port}"\n'
    with tempfile.TemporaryDirectory() as folder:
        server = RelayServer(Path(folder), "xx.example", {}, extra)
        server.prepare()
        with opened(load(server.config)) as hub:
            fill(hub)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def put(count: int, targets: Sequence[str], hub: Offline, not_before: int = 0) -> None:
    """Messages into the queue, in turn for each of the targets."""
    sender = Mail(Address("sender", "else.example"))

    async def submission(number: int) -> Submission:
        recipient = USERS[number % len(USERS)]
        body = hub.queue.new_body()
        await body.write(message(number, recipient))
        route = Route("smtp", Address.parse(recipient), targets[number % len(targets)])
        return Submission(sender, Plan(routes=(route,)), await body.finish(), needs=0, not_before=not_before)

    for first in range(0, count, _TOGETHER):
        numbers = range(first, min(count, first + _TOGETHER))
        one, *others = [hub.wait(submission(number)) for number in numbers]
        hub.wait(hub.queue.submit(one, also=others))


def through(sink: Sink, count: int) -> None:
    """Print what it costs to send on what comes."""
    with ExitStack() as running:
        server = running.enter_context(relaying(sink))
        ways = {"mailhub": (server.ports["smtp"], server.cpu_seconds, 1)}
        if is_there():
            peers = running.enter_context(postfix_and_dovecot(sink.port))
            ways["Postfix"] = (peers.port, peers.cpu_seconds, 4)  # slow: it gets a quarter
        rows: list[Sequence[object]] = [("Client", *ways)]
        for name, kind, clients in (("", Kind(users=USERS), 1), *ROWS):
            cells = []
            for port, cpu, share in ways.values():
                sent = (count if name else WARM) // share
                done = partial(sink.wait_for, sink.count() + sent)
                cells.append(drive(port, cpu, sent, clients, kind=kind, done=done))
            if name:
                rows.append((name, *cells))
    print(table(rows) + "\n")


def backlog(sink: Sink, count: int) -> None:
    """Print what it costs to get rid of what waits."""
    rows: list[Sequence[object]] = [("Queued", "CPU", "Sent", "Longest turn of the reactor", "Memory")]
    for hosts in (1, 100):
        targets = [f"127.0.0.{host}:{sink.port}" for host in range(1, hosts + 1)]
        there = sink.count() + count
        with relaying(sink, partial(put, count, targets)) as server:
            before, began, most = server.cpu_seconds(), time.monotonic(), server.resident_octets()
            server.longest_turn()  # that of its start
            while sink.count() < there:
                most = max(most, server.resident_octets())
                time.sleep(0.05)
            cost, rate = (server.cpu_seconds() - before) / count, count / (time.monotonic() - began)
            turn = server.longest_turn()
        where = "one host" if hosts == 1 else f"{hosts} hosts"
        longest = f"{turn.cpu * 1000:.0f} ms of CPU, {turn.wall * 1000:.0f} ms in all"
        rows.append(
            (f"{count:,} for {where}", f"{cost * 1e6:,.0f} us", f"{rate:,.0f}/s", longest, f"{most / _MIB:.0f} MiB")
        )
    print(table(rows) + "\n")


def held(sink: Sink, count: int) -> None:
    """Print what memory it takes that messages wait."""
    rows: list[Sequence[object]] = [("Queued, nothing due", "Memory")]
    for waiting in (0, count):
        fill = partial(put, waiting, [f"127.0.0.1:{sink.port}"], not_before=int(time.time()) + DAY)
        with relaying(sink, fill) as server:
            rows.append((f"{waiting:,}", f"{server.resident_octets() / _MIB:.0f} MiB"))
    print(table(rows))


def main() -> None:
    """Print the figures, as tables of docs/performance.rst."""
    count, waiting = [int(text) for text in (*sys.argv[1:3], *("2000", "5000")[len(sys.argv[1:3]) :])]
    with bare_smtp() as (port, _):
        sink = Sink(port)
        through(sink, count)
        backlog(sink, waiting)
        held(sink, 2 * waiting)


if __name__ == "__main__":
    main()
