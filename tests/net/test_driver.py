from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress, ILoggingContext
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import StoreUnavailable
from mailhub.interfaces import IBlobReader
from mailhub.net.link import Disconnected, DriverLimits, Link
from tests.net.line_session import PEER, LineSession, Peer, Rig


@implementer(IBlobReader)
class Reader:
    """A body whose reads can be held back; `asked` are the offsets."""

    def __init__(self, octets: bytes, size: int | None = None) -> None:
        self.octets = octets
        self.size = len(octets) if size is None else size
        self.asked: list[int] = []
        self.gate: Deferred[None] | None = None

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        self.asked.append(offset)
        if self.gate is not None:
            await self.gate
        return self.octets[offset : offset + length]

    def close(self) -> None:
        raise AssertionError("the caller of write_all closes")


def failures(events: Any) -> list[str]:
    return [event["log_failure"].type.__name__ for event in events if "log_failure" in event]


class TestOrder:
    def test_greets(self) -> None:
        assert Rig().peer.taken() == b"hello\n"

    def test_replies_to_one_read_leave_in_one_write(self) -> None:
        rig = Rig()
        rig.peer.taken()
        rig.channel.dataReceived(b"a\n#b\nc\nd")
        assert rig.peer.writes == [b"a!\n#b\nc!\n"]
        rig.peer.taken()
        assert rig.send(b"\n") == b"d!\n"

    def test_no_event_overtakes_one_that_waits(self) -> None:
        rig = Rig()
        gate = rig.gate(b"slow")
        rig.peer.taken()
        assert rig.send(b"a\nslow\n#c\nd\n") == b"a!\n"
        assert rig.send(b"e\n") == b""
        assert rig.session.seen == [b"a", b"slow"]
        gate.callback(None)
        assert rig.peer.taken() == b"slow!\n#c\nd!\ne!\n"

    def test_a_handler_may_wait_many_times(self) -> None:
        rig = Rig()
        gates: list[Deferred[int]] = [Deferred(), Deferred()]

        async def work() -> None:
            rig.session.machine.out += b"%d\n" % (await gates[0] + await gates[1])

        rig.session.does[b"sum"] = work
        rig.peer.taken()
        rig.channel.dataReceived(b"sum\n")
        gates[1].callback(2)
        gates[0].callback(40)
        assert rig.peer.taken() == b"42\nsum!\n"

    def test_many_commands_of_one_read_leave_others_their_turn(self) -> None:
        rig = Rig()
        rig.channel.dataReceived(b"x\n" * 1000)
        assert len(rig.session.seen) == 200
        for _ in range(4):
            rig.clock.advance(0)
        assert len(rig.session.seen) == 1000

    def test_jobs_run_between_events(self) -> None:
        rig = Rig()
        gate = rig.gate(b"slow")

        async def job() -> None:
            rig.session.machine.out += b"news\n"

        rig.send(b"slow\nnext\n")
        rig.connection.run(job)
        assert rig.peer.taken() == b""
        gate.callback(None)
        assert rig.peer.taken() == b"slow!\nnews\nnext!\n"
        rig.connection.run(job)
        assert rig.peer.taken() == b"news\n"

    def test_output_may_be_pushed_at_any_time(self) -> None:
        rig = Rig()
        rig.peer.taken()
        rig.session.machine.out += b"* 1 EXISTS\n"
        rig.connection.flush()
        assert rig.peer.taken() == b"* 1 EXISTS\n"
        rig.lose()
        rig.session.machine.out += b"late\n"
        rig.connection.flush()
        rig.connection.write(b"later\n")
        assert rig.peer.taken() == b""


class TestInput:
    def test_at_most_two_reads_are_held(self) -> None:
        rig = Rig()
        gate = rig.gate(b"slow")
        rig.channel.dataReceived(b"slow\n")
        rig.channel.dataReceived(b"y" * 60_000)
        assert rig.peer.producerState == "producing"
        rig.channel.dataReceived(b"y" * 60_000 + b"\n")
        assert rig.peer.producerState == "paused"
        gate.callback(None)
        assert rig.peer.producerState == "producing"
        assert len(rig.session.seen) == 2

    def test_a_peer_that_only_sends_is_heard_on(self) -> None:
        rig = Rig()
        for _ in range(10):
            rig.channel.dataReceived(b"y" * 65536)
        assert rig.peer.producerState == "producing"

    def test_what_was_asked_before_the_end_is_answered(self) -> None:
        rig = Rig()
        rig.peer.taken()
        gate = rig.gate(b"slow")
        rig.channel.dataReceived(b"slow\nlast\nhalf a li")
        rig.channel.readConnectionLost()
        assert not rig.peer.disconnecting
        gate.callback(None)
        assert rig.peer.taken() == b"slow!\nlast!\n"
        assert rig.session.machine.eof
        assert rig.peer.disconnecting

    def test_nothing_is_heard_after_closing(self) -> None:
        rig = Rig()
        rig.peer.taken()
        assert rig.send(b"a\nbye\nb\n") == b"a!\nbye\n"
        assert rig.peer.disconnecting
        assert rig.peer.producer is None
        assert rig.send(b"c\n") == b""
        assert rig.session.seen == [b"a"]


class TestFailure:
    def test_a_handler_that_raises_costs_one_answer(self) -> None:
        rig = Rig()
        rig.peer.taken()
        rig.session.does[b"bad"] = lambda: 1 / 0
        with capturedLogs() as logs:
            assert rig.send(b"bad\ngood\n") == b"error\ngood!\n"
        assert failures(logs) == ["ZeroDivisionError"]
        assert logs[0]["session_id"] == rig.connection.session_id

    def test_one_that_is_no_coroutine_is_done_at_once_and_may_raise_as_well(self) -> None:
        rig = Rig()
        rig.peer.taken()
        session, coroutine = rig.session, rig.session.handle
        gate = rig.gate(b"slow")

        def handle(event: bytes) -> Any:
            if event == b"slow":
                return coroutine(event)
            session.machine.out += b"!\n" if event != b"bad" else b"%d" % (1 // 0)
            return None

        session.handle = handle  # type: ignore[method-assign]
        with capturedLogs() as logs:
            assert rig.send(b"a\nbad\nb\nslow\nc\n") == b"!\nerror\n!\n"
        assert failures(logs) == ["ZeroDivisionError"]
        gate.callback(None)
        assert rig.peer.taken() == b"slow!\n!\n"

    def test_also_after_it_waited(self) -> None:
        rig = Rig()
        gate = rig.gate(b"bad")
        rig.send(b"bad\ngood\n")
        with capturedLogs() as logs:
            gate.errback(ValueError("no"))
        assert rig.peer.taken() == b"error\ngood!\n"
        assert failures(logs) == ["ValueError"]

    def test_a_failed_result_is_raised_where_it_is_awaited(self) -> None:
        rig = Rig()

        async def work() -> None:
            with pytest.raises(KeyError):
                await fail(KeyError("k"))

        rig.peer.taken()
        rig.session.does[b"try"] = work
        assert rig.send(b"try\n") == b"try!\n"

    def test_a_broken_machine_ends_the_connection(self) -> None:
        rig = Rig()
        rig.peer.taken()
        with capturedLogs() as logs:
            assert rig.send(b"a\nbroken\nb\n") == b"a!\nerror\n"
        assert failures(logs) == ["ZeroDivisionError"]
        assert rig.peer.disconnecting

    def test_a_session_that_cannot_even_say_so_is_cut(self) -> None:
        rig = Rig()
        rig.session.does[b"bad"] = lambda: 1 / 0
        rig.session.crashed = lambda failure: 1 / 0  # type: ignore[assignment,method-assign]
        with capturedLogs() as logs:
            rig.send(b"bad\n")
        assert failures(logs) == ["ZeroDivisionError"] * 2
        assert rig.peer.disconnected

    def test_no_session_no_connection(self) -> None:
        rig = Rig()
        rig.factory.make_session = lambda link: LineSession(1 / 0)  # type: ignore[arg-type]
        with capturedLogs() as logs:
            channel, peer = rig.connect()
        assert failures(logs) == ["ZeroDivisionError"]
        assert peer.disconnected
        channel.dataReceived(b"a\n")
        channel.connectionLost(None)  # type: ignore[arg-type]
        assert len(rig.factory.sessions) == 1

    def test_a_session_that_is_none_is_no_connection(self) -> None:
        rig = Rig()
        rig.factory.make_session = lambda link: None  # type: ignore[assignment,return-value]
        assert rig.connect()[1].disconnected

    def test_a_session_that_cannot_greet_is_over(self) -> None:
        class Mute(LineSession):
            def connected(self) -> Any:
                raise ValueError

        rig = Rig()
        rig.factory.make_session = Mute
        with capturedLogs() as logs:
            peer = rig.connect()[1]
        assert failures(logs) == ["ValueError"]
        assert (peer.taken(), peer.disconnecting) == (b"error\n", True)

    @pytest.mark.parametrize("broken", ["timed_out", "data_to_send"])
    def test_one_that_cannot_say_farewell_ends_in_its_time(self, broken: str) -> None:
        def fails() -> Any:
            raise ValueError

        rig = Rig()
        setattr(rig.session if broken == "timed_out" else rig.session.machine, broken, fails)
        with capturedLogs() as logs:
            rig.clock.advance(rig.limits.idle_seconds)
            rig.clock.advance(rig.limits.linger_seconds)
        assert set(failures(logs)) == {"ValueError"}
        assert rig.peer.disconnected


class TestLoss:
    def test_idle(self) -> None:
        rig = Rig()
        rig.lose()
        rig.channel.connectionLost(None)  # type: ignore[arg-type]
        assert rig.session.trace == ["disconnected"]
        assert rig.clock.getDelayedCalls() == []
        assert rig.factory.sessions == set()

    def test_a_handler_at_work_is_let_finish(self) -> None:
        rig = Rig()
        gate = rig.gate(b"commit")
        rig.send(b"commit\nnext\n")
        rig.lose()
        assert rig.session.trace == []
        gate.callback(None)
        assert rig.session.trace == ["disconnected"]
        assert (rig.session.seen, rig.peer.taken()) == ([b"commit"], b"")
        assert rig.clock.getDelayedCalls() == []

    def test_but_not_for_ever(self) -> None:
        rig = Rig(DriverLimits(abandon_seconds=60))
        rig.gate(b"hangs")
        rig.send(b"hangs\n")
        rig.lose()
        rig.clock.advance(59)
        assert rig.session.trace == []
        with capturedLogs() as logs:
            rig.clock.advance(1)
        assert rig.session.trace == ["CancelledError", "disconnected"]
        assert failures(logs) == []

    def test_a_handler_that_writes_to_nobody_is_told(self) -> None:
        rig = Rig()
        rig.peer.slow = True
        rig.session.does[b"big"] = lambda: rig.connection.send(b"z" * 100_000)
        rig.send(b"big\n")
        with capturedLogs() as logs:
            rig.lose()
        assert rig.session.trace == ["Disconnected", "disconnected"]
        assert failures(logs) == []

    def test_a_crash_after_the_loss_is_still_logged(self) -> None:
        rig = Rig()
        gate = rig.gate(b"bad")
        rig.send(b"bad\n")
        rig.lose()
        with capturedLogs() as logs:
            gate.errback(ValueError())
        assert failures(logs) == ["ValueError"]
        assert rig.session.trace == ["ValueError", "disconnected"]

    def test_after_abort_the_handler_is_told_and_that_is_no_crash(self) -> None:
        rig = Rig()
        rig.peer.taken()

        async def work() -> None:
            rig.connection.abort()
            rig.connection.write(b"not any more")
            await rig.connection.send(b"nor this")

        rig.session.does[b"cut"] = work
        with capturedLogs() as logs:
            rig.send(b"cut\n")
        assert rig.session.trace == ["Disconnected"]
        assert (failures(logs), rig.peer.taken(), rig.peer.disconnecting) == ([], b"", True)
        rig.lose()
        assert rig.session.trace == ["Disconnected", "disconnected"]

    def test_after_close_the_handler_is_told_too_and_nothing_follows_the_farewell(self) -> None:
        rig = Rig()
        rig.peer.taken()

        async def work() -> None:
            rig.session.machine.out += b"farewell\n"
            rig.connection.close()
            rig.session.machine.out += b"not any more\n"
            await rig.connection.send(b"nor this")

        rig.session.does[b"end"] = work
        with capturedLogs() as logs:
            assert rig.send(b"end\n") == b"farewell\n"
        assert rig.session.trace == ["Disconnected"]
        assert (failures(logs), rig.peer.disconnected, rig.peer.disconnecting) == ([], False, True)

    def test_a_session_that_fails_to_let_go_is_logged(self) -> None:
        rig = Rig()
        rig.session.disconnected = lambda: 1 / 0  # type: ignore[assignment,method-assign]
        with capturedLogs() as logs:
            rig.lose()
        assert failures(logs) == ["ZeroDivisionError"]
        assert rig.factory.sessions == set()

    def test_call_later_knows_of_the_loss(self) -> None:
        rig = Rig()
        called: list[int] = []
        rig.connection.call_later(1, lambda: called.append(1))
        rig.connection.call_later(3, lambda: called.append(3))
        rig.clock.advance(2)
        rig.lose()
        rig.clock.advance(2)
        assert called == [1]


class TestBackPressure:
    def test_the_next_event_waits_for_the_peer(self) -> None:
        rig = Rig()
        rig.peer.slow = True
        rig.session.does[b"big"] = lambda: rig.connection.write(b"z" * 70_000)
        rig.send(b"big\nnext\n")
        assert rig.session.seen == [b"big"]
        rig.peer.drain()
        assert rig.session.seen == [b"big", b"next"]

    def test_a_flood_of_commands_without_events_does_too(self) -> None:
        rig = Rig()
        rig.peer.taken()
        rig.peer.slow = True
        rig.channel.dataReceived(b"#" + b"f" * 500 + b"\n")
        rig.channel.dataReceived((b"#" + b"f" * 500 + b"\n") * 1000)
        assert 65536 < len(b"".join(rig.peer.writes)) < 140_000
        for _ in range(10):
            rig.peer.drain()
        assert len(rig.peer.taken()) == 1001 * 502

    def test_a_body_is_read_one_block_ahead_and_no_further(self) -> None:
        rig = Rig()
        rig.peer.taken()
        rig.peer.slow = True
        reader = Reader(bytes(range(256)) * 4096)
        rig.session.does[b"get"] = lambda: rig.connection.write_all(reader)
        rig.channel.dataReceived(b"get\n")
        asked = []
        while rig.peer.full:
            asked.append(len(reader.asked))
            assert rig.peer.held <= 2 * 65536
            rig.peer.drain()
        assert asked[:3] == [3, 5, 7]
        assert rig.peer.taken() == reader.octets + b"get!\n"

    def test_a_part_of_a_body(self) -> None:
        rig = Rig()
        reader = Reader(b"0123456789" * 20_000)
        for offset, length in ((0, 0), (5, 10), (199_995, 100), (70_000, 80_000)):
            rig.session.does[b"get"] = lambda o=offset, n=length: rig.connection.write_all(reader, o, n)  # type: ignore[misc]
            rig.peer.taken()
            assert rig.send(b"get\n") == reader.octets[offset : offset + length] + b"get!\n"

    def test_a_body_shorter_than_promised_is_an_error(self) -> None:
        rig = Rig()
        rig.session.does[b"get"] = lambda: rig.connection.write_all(Reader(b"short", size=100))
        with capturedLogs() as logs:
            rig.send(b"get\n")
        assert failures(logs) == [StoreUnavailable.__name__]

    def test_the_read_ahead_of_a_lost_connection_is_dropped(self) -> None:
        rig = Rig()
        rig.peer.slow = True
        reader = Reader(b"z" * 500_000)
        rig.session.does[b"get"] = lambda: rig.connection.write_all(reader)
        rig.send(b"get\n")
        gate: Deferred[None] = Deferred()
        reader.gate = gate
        rig.peer.drain()
        with capturedLogs() as logs:
            rig.lose()
            gate.callback(None)
        assert rig.session.trace == ["Disconnected", "disconnected"]
        assert failures(logs) == []


class TestTime:
    def test_silence(self) -> None:
        rig = Rig(DriverLimits(idle_seconds=600))
        rig.peer.taken()
        rig.clock.advance(599)
        assert rig.send(b"a\n") == b"a!\n"
        rig.clock.advance(599)
        assert rig.peer.taken() == b""
        rig.clock.advance(1)
        assert (rig.peer.taken(), rig.peer.disconnecting) == (b"timeout\n", True)

    def test_octets_that_make_no_command_are_silence(self) -> None:
        rig = Rig(DriverLimits(idle_seconds=10))
        for _ in range(9):
            rig.clock.advance(1)
            rig.channel.dataReceived(b"x")
        assert not rig.peer.disconnecting
        rig.clock.advance(1)
        assert rig.peer.disconnecting

    def test_answers_without_events_are_no_silence(self) -> None:
        rig = Rig(DriverLimits(idle_seconds=10))
        for _ in range(9):
            rig.clock.advance(9)
            rig.channel.dataReceived(b"#noop\n")
        assert not rig.peer.disconnecting

    def test_our_own_work_is_not_the_peers_silence(self) -> None:
        rig = Rig(DriverLimits(idle_seconds=10))
        gate = rig.gate(b"slow")
        rig.send(b"slow\n")
        for _ in range(10):
            rig.clock.advance(9)
        gate.callback(None)
        assert rig.peer.taken() == b"slow!\n"
        rig.clock.advance(9)
        assert not rig.peer.disconnecting
        rig.clock.advance(10)
        assert rig.peer.disconnecting

    def test_a_peer_that_takes_nothing_is_cut(self) -> None:
        rig = Rig(DriverLimits(idle_seconds=10))
        rig.peer.slow = True
        rig.session.does[b"big"] = lambda: rig.connection.send(b"z" * 100_000)
        rig.send(b"big\n")
        rig.clock.advance(9)
        assert not rig.peer.disconnected
        rig.clock.advance(1)
        assert rig.peer.disconnected

    @pytest.mark.parametrize(("seconds", "alive_at", "gone_at"), [(5, 4, 5), (100, 99, 100)])
    def test_the_session_sets_its_own_time(self, seconds: float, alive_at: float, gone_at: float) -> None:
        rig = Rig(DriverLimits(idle_seconds=10))
        rig.session.link.idle_seconds = seconds
        rig.clock.pump([1] * int(alive_at))
        assert not rig.peer.disconnecting
        rig.clock.advance(gone_at - alive_at)
        assert rig.peer.disconnecting

    def test_one_timer_however_much_is_said(self) -> None:
        rig = Rig()
        for _ in range(100):
            rig.clock.advance(1)
            rig.channel.dataReceived(b"a\n")
        assert len(rig.clock.getDelayedCalls()) == 1

    def test_a_peer_that_does_not_take_the_last_word_is_cut(self) -> None:
        rig = Rig(DriverLimits(linger_seconds=30))
        rig.send(b"bye\n")
        rig.clock.advance(29)
        assert not rig.peer.disconnected
        rig.clock.advance(1)
        assert rig.peer.disconnected


class TlsPeer(Peer):
    """Notes when TLS starts."""

    def startTLS(self, creator: object) -> None:
        self.write(b"<TLS %s>" % str(creator).encode())


class TestTls:
    def test_starttls(self) -> None:
        rig = Rig(tls="creator")
        channel: Any = rig.factory.buildProtocol(PEER)
        peer = TlsPeer()
        channel.makeConnection(peer)
        session = rig.sessions[-1]
        connection = session.link
        assert connection.can_start_tls

        def accept() -> None:
            session.machine.out += b"go ahead\n"
            connection.start_tls()

        session.does[b"starttls"] = accept
        channel.dataReceived(b"a\nstarttls\nsmuggled\n")
        assert peer.taken() == b"hello\na!\ngo ahead\n<TLS creator>starttls!\n"
        assert session.seen == [b"a", b"starttls"]
        assert (session.machine.tls, connection.secure, connection.can_start_tls) == (True, True, False)
        with pytest.raises(RuntimeError):
            connection.start_tls()

    def test_nothing_is_done_before_tls_is_agreed_on(self) -> None:
        rig = Rig(tls="creator")
        peer = TlsPeer()
        channel: Any = rig.factory.buildProtocol(PEER)
        channel.makeConnection(peer)
        session = rig.sessions[-1]
        session.does[b"starttls"] = session.link.start_tls

        async def news() -> None:
            session.machine.out += b"news\n"

        channel.dataReceived(b"starttls\n")
        session.link.run(news)
        peer.taken()
        channel.handshakeCompleted()
        assert peer.taken() == b"news\n"

    def test_a_peer_that_is_lost_before_tls_starts_is_no_crash(self) -> None:
        rig = Rig(tls="creator")
        gate = rig.gate(b"starttls")
        rig.session.does[b"starttls"] = rig.connection.start_tls
        rig.send(b"starttls\n")
        rig.lose()
        with capturedLogs() as logs:
            gate.callback(None)
        assert rig.session.trace == ["Disconnected", "disconnected"]
        assert failures(logs) == []

    def test_who_stops_does_not_wait_for_a_handshake(self) -> None:
        rig = Rig(tls="creator", implicit_tls=True)
        Deferred.fromCoroutine(rig.factory.stop(5.0))
        assert (rig.peer.taken(), rig.peer.disconnected) == (b"", True)

    def test_a_failed_handshake_is_one_line(self) -> None:
        rig = Rig(tls="creator", implicit_tls=True)
        with capturedLogs() as logs:
            rig.lose()
        assert [event["log_format"].partition(":")[0] for event in logs] == ["TLS handshake failed"]
        assert (logs[0]["peer"], "log_failure" in logs[0]) == ("192.0.2.7", False)
        assert rig.session.trace == ["disconnected"]

    def test_implicit_tls_greets_after_the_handshake(self) -> None:
        rig = Rig(tls="creator", implicit_tls=True)
        assert (rig.connection.secure, rig.connection.can_start_tls) == (True, False)
        assert rig.peer.taken() == b""
        rig.channel.handshakeCompleted()
        assert rig.peer.taken() == b"hello\n"
        assert rig.send(b"a\n") == b"a!\n"

    def test_a_handshake_has_its_time(self) -> None:
        rig = Rig(DriverLimits(idle_seconds=10), tls="creator", implicit_tls=True)
        rig.clock.advance(10)
        assert (rig.peer.taken(), rig.peer.disconnected) == (b"", True)


class TestFactory:
    def test_addresses(self) -> None:
        rig = Rig()
        seen: dict[IAddress, str] = {
            IPv4Address("TCP", "192.0.2.1", 1): "192.0.2.1",
            IPv6Address("TCP", "2001:db8::1", 1): "2001:db8::1",
            IPv6Address("TCP", "::ffff:192.0.2.1", 1): "192.0.2.1",
            UNIXAddress("/run/x"): "",
        }
        for address, peer in seen.items():
            rig.connect(address)
            assert rig.sessions[-1].link.peer == peer
        assert rig.connection.local == "10.0.0.1"

    def test_ids_are_unique_and_repeatable(self) -> None:
        rigs = (Rig(), Rig())
        for rig in rigs:
            rig.connect()
        one, two = ([session.link.session_id for session in rig.sessions] for rig in rigs)
        assert one == two
        assert len(set(one)) == 2
        assert all(len(name) < 10 for name in one)

    def test_twisteds_log_lines_have_the_services_name(self) -> None:
        factory = Rig().factory
        assert ILoggingContext.providedBy(factory)
        assert ILoggingContext(factory).logPrefix() == "test"

    def test_too_many_from_one_address(self) -> None:
        rig = Rig(DriverLimits(connections_per_address=2))
        rig.connect()
        _, refused = rig.connect()
        assert (refused.taken(), refused.disconnecting) == (b"too many\n", True)
        _, other = rig.connect(IPv4Address("TCP", "192.0.2.8", 1))
        assert other.taken() == b"hello\n"
        rig.lose()
        _, again = rig.connect()
        assert again.taken() == b"hello\n"

    @pytest.mark.parametrize(("count", "greeting"), [(False, b"hello\n"), (True, b"too many\n")])
    def test_loopback_is_counted_only_when_told(self, count: bool, greeting: bytes) -> None:
        rig = Rig(DriverLimits(connections_per_address=1, count_loopback=count))
        for address in (IPv4Address("TCP", "127.0.0.1", 1), IPv6Address("TCP", "::1", 1), UNIXAddress("")):
            rig.connect(address)
            assert rig.connect(address)[1].taken() == greeting

    def test_too_many_in_all(self) -> None:
        rig = Rig(DriverLimits(connections=1))
        _, refused = rig.connect(IPv4Address("TCP", "127.0.0.1", 1))
        assert refused.taken() == b"too many\n"

    def test_no_clear_text_is_written_where_tls_is_expected(self) -> None:
        rig = Rig(DriverLimits(connections=1), tls="creator", implicit_tls=True)
        _, refused = rig.connect()
        assert (refused.taken(), refused.disconnected) == (b"", True)

    def test_idle_connections_are_cheap(self) -> None:
        """Connection, session machine and timer together; the transport is Twisted's own."""
        rig = Rig()
        peers = [Peer() for _ in range(200)]
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for peer in peers:
                connection: Any = rig.factory.buildProtocol(UNIXAddress(""))
                connection.makeConnection(peer)
                peer.taken()
            each = (tracemalloc.get_traced_memory()[0] - before) / len(peers)
        finally:
            tracemalloc.stop()
        assert each < 4096


class TestStop:
    def stopping(self, rig: Rig) -> list[str]:
        done: list[str] = []
        Deferred.fromCoroutine(rig.factory.stop(5.0)).addBoth(lambda result: done.append(str(result)))
        return done

    def test_everyone_is_told(self) -> None:
        rig = Rig()
        done = self.stopping(rig)
        assert rig.peer.taken() == b"hello\nshutdown\n"
        assert (rig.peer.disconnecting, done) == (True, [])
        rig.lose()
        assert done == ["None"]
        assert rig.connect()[1].taken() == b"too many\n"
        assert [call for call in rig.clock.getDelayedCalls() if call.active()] == []

    def test_a_handler_at_work_is_let_finish(self) -> None:
        rig = Rig()
        gate = rig.gate(b"slow")
        rig.send(b"slow\nnext\n")
        self.stopping(rig)
        assert not rig.peer.disconnecting
        gate.callback(None)
        assert rig.peer.taken() == b"slow!\nshutdown\n"

    def test_after_the_grace_time_the_rest_is_cut(self) -> None:
        rig = Rig()
        rig.gate(b"hangs")
        rig.send(b"hangs\n")
        done = self.stopping(rig)
        rig.clock.advance(5)
        assert rig.peer.disconnected
        rig.lose()
        assert rig.session.trace == ["CancelledError", "disconnected"]
        assert done == ["None"]

    def test_nothing_keeps_the_process_for_ever(self) -> None:
        rig = Rig()

        async def stubborn() -> None:
            while True:
                try:
                    await Deferred()
                except Exception:
                    continue

        rig.session.does[b"hangs"] = stubborn
        rig.send(b"hangs\n")
        done = self.stopping(rig)
        rig.clock.pump([5, 1])
        assert done == ["None"]

    def test_nobody_there(self) -> None:
        rig = Rig()
        rig.lose()
        assert self.stopping(rig) == ["None"]


def test_a_link_raises_when_the_peer_is_gone() -> None:
    rig = Rig()
    link: Link = rig.connection
    rig.lose()
    results: list[object] = []
    Deferred.fromCoroutine(link.send(b"x")).addBoth(results.append)
    assert [type(result.value) for result in results if isinstance(result, Failure)] == [Disconnected]
    assert not link.connected
