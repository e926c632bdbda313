"""The resolver: DNS as mail needs it, over Twisted's UDP and TCP, with dnspython's wire format (RFC 1035, RFC 7766)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any

import attrs
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, IReactorUDP
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import INetwork, IResolver, MailExchanger
from mailhub.log import Logger

_log = Logger(namespace="mailhub.net.dns")

# RFC 1123 2.1 and RFC 952, with the underscore that service names have (RFC 2782).
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_PAYLOAD = 1232  # octets of a UDP answer, DNS flag day 2020
_TCP_LIMIT = 16384  # octets of a TCP answer; no mail domain needs more
_STRAYS = 100  # datagrams that are not the answer, before the exchange is given up
# Answers of servers that do not know EDNS, or of what stands before them (RFC 6891 7; the last two are seen as well).
_NO_EDNS = frozenset({dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS, dns.rcode.SERVFAIL, dns.rcode.REFUSED})


class NoSuchDomain(PermanentError):
    """The name does not exist (RFC 3463 X.1.2)."""

    default_status = "5.1.2"
    default_text = "Domain does not exist"


class _NoAnswer(TemporaryError):
    """A server said nothing in time."""


@attrs.frozen
class ResolverLimits:
    """Bounds of the resolver.

    A question goes to each server in turn, `rounds` times, each time for `timeout_seconds`. At most `exchangers`
    (the most preferred) and `addresses` of an answer are used. The cache holds `cached` answers, none longer than
    `cache_seconds`. A server that answers only without EDNS is asked without for `plain_seconds`.
    """

    timeout_seconds: float = 3.0
    rounds: int = 2
    exchangers: int = 20
    addresses: int = 20
    cached: int = 10_000
    cache_seconds: int = 86_400
    plain_seconds: float = 3600.0


@attrs.frozen
class _Answer:
    """`exists` False: NXDOMAIN. `records` is empty where the name has none of the type."""

    exists: bool
    records: tuple[Any, ...]
    ttl: int


@implementer(IResolver)
class Resolver:
    """Asks recursive servers (`host` or `host#port`). `hosts` are names known without asking, as in /etc/hosts.

    Servers that do not know EDNS (RFC 6891), as in many a home router, refuse questions that have it, or say nothing:
    they are asked again without it, a silent one in the next round.
    """

    def __init__(
        self,
        *,
        udp: IReactorUDP,
        network: INetwork,
        clock: IReactorTime,
        random: Random,
        servers: Sequence[str],
        hosts: Mapping[str, Sequence[str]] | None = None,
        limits: ResolverLimits | None = None,
    ) -> None:
        self._udp = udp
        self._network = network
        self._clock = clock
        self._random = random
        self._servers = [_server(text) for text in servers] or [("127.0.0.1", 53)]
        self._hosts = {name.lower(): tuple(addresses) for name, addresses in (hosts or {}).items()}
        self._limits = limits or ResolverLimits()
        self._cache: OrderedDict[tuple[str, str], tuple[float, _Answer]] = OrderedDict()
        self._asking: dict[tuple[str, str], list[Deferred[_Answer]]] = {}
        # Until when these servers are asked without EDNS.
        self._plain: dict[tuple[str, int], float] = {}

    async def mail_exchangers(self, domain: str) -> Sequence[MailExchanger]:
        """See `IResolver`."""
        answer = await self._ask(domain, "MX")
        if not answer.exists:
            raise NoSuchDomain()
        found = [(record.preference, host_name(record.exchange)) for record in answer.records]
        if found and all(host == "" for _, host in found):
            return (MailExchanger(0, ""),)
        named = sorted((preference, host) for preference, host in found if host)
        if found and not named:
            raise PermanentError("Domain has no usable mail exchanger", status="5.4.4")
        return tuple(MailExchanger(*pair) for pair in named[: self._limits.exchangers])

    async def addresses(self, host: str) -> Sequence[str]:
        """See `IResolver`. IPv4 first: a host without an IPv6 route would otherwise wait for each address in vain."""
        host = host.rstrip(".").lower()
        if host in self._hosts:
            return self._hosts[host]
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 6.3
            return ("127.0.0.1", "::1")
        found: list[str] = []
        failed: TemporaryError | None = None
        for kind in ("A", "AAAA"):
            try:
                answer = await self._ask(host, kind)
            except TemporaryError as error:
                failed = error
                continue
            found.extend(record.address for record in answer.records[: self._limits.addresses])
            if not answer.exists:
                break
        if failed and not found:
            raise failed
        return tuple(found[: self._limits.addresses])

    # --- One question, once ----------------------------------------------------------------------------------------

    async def _ask(self, name: str, kind: str) -> _Answer:
        key = (name.rstrip(".").lower(), kind)
        cached = self._cache.get(key)
        if cached is not None and cached[0] > self._clock.seconds():
            self._cache.move_to_end(key)
            return cached[1]
        waiter: Deferred[_Answer] = Deferred()
        waiters = self._asking.get(key)
        if waiters is not None:
            waiters.append(waiter)
        else:
            self._asking[key] = [waiter]
            Deferred.fromCoroutine(self._look_up(*key)).addBoth(self._answered, key)
        return await waiter

    def _answered(self, result: _Answer | Failure, key: tuple[str, str]) -> None:
        if isinstance(result, _Answer):
            self._cache[key] = (self._clock.seconds() + min(result.ttl, self._limits.cache_seconds), result)
            self._cache.move_to_end(key)
            while len(self._cache) > self._limits.cached:
                self._cache.popitem(last=False)
        for waiter in self._asking.pop(key):
            if not waiter.called:
                waiter.callback(result)

    async def _look_up(self, name: str, kind: str) -> _Answer:
        try:
            question = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError, ValueError) as error:
            raise NoSuchDomain(detail=f"{name!r}: {error}") from None
        reason = ""
        silent: set[tuple[str, int]] = set()
        for _ in range(self._limits.rounds):
            for server in self._servers:
                try:
                    return await self._ask_server(server, question, kind, edns=server not in silent)
                except _NoAnswer as error:
                    silent.add(server)
                    reason = error.text
                except TemporaryError as error:
                    reason = error.text
        raise TemporaryError(f"DNS gives no answer about {name}", status="4.4.3", detail=f"{kind}: {reason}")

    async def _ask_server(self, server: tuple[str, int], question: dns.name.Name, kind: str, *, edns: bool) -> _Answer:
        if edns and self._plain.get(server, 0.0) <= self._clock.seconds():
            response = await self._exchange(server, question, kind, edns=True)
            if response.rcode() not in _NO_EDNS:
                return _read(response, kind)
        response = await self._exchange(server, question, kind, edns=False)
        answer = _read(response, kind)
        # Only now: a server that fails with EDNS and without does not fail because of it.
        self._plain[server] = self._clock.seconds() + self._limits.plain_seconds
        return answer

    async def _exchange(
        self, server: tuple[str, int], question: dns.name.Name, kind: str, *, edns: bool
    ) -> dns.message.Message:
        extra = {"use_edns": 0, "payload": _PAYLOAD} if edns else {"use_edns": False}
        query = dns.message.make_query(question, kind, **extra)
        query.id = self._random.getrandbits(16)
        response = await self._by_udp(server, query)
        if response.flags & dns.flags.TC:
            response = await self._by_tcp(server, query)
        return response

    async def _by_udp(self, server: tuple[str, int], query: dns.message.Message) -> dns.message.Message:
        exchange = _Datagrams(server, query)
        interface = "::" if ":" in server[0] else ""
        try:
            # Port 0: the kernel chooses a random one for every question (RFC 5452 9.2).
            port = self._udp.listenUDP(0, exchange, interface=interface, maxPacketSize=65535)
        except Exception as error:
            raise TemporaryError(f"no UDP port: {error}", status="4.4.3") from error
        try:
            return await self._in_time(exchange.response)
        finally:
            port.stopListening()

    async def _by_tcp(self, server: tuple[str, int], query: dns.message.Message) -> dns.message.Message:
        exchange = _Stream(query)
        factory = _OneProtocol(exchange)
        await self._network.connect(server[0], server[1], factory, self._limits.timeout_seconds)
        try:
            return await self._in_time(exchange.response)
        finally:
            exchange.close()

    async def _in_time(self, response: Deferred[dns.message.Message]) -> dns.message.Message:
        timer = self._clock.callLater(self._limits.timeout_seconds, _time_out, response)
        try:
            return await response
        except CancelledError as error:
            raise TemporaryError("exchange was cancelled", status="4.4.3") from error
        finally:
            if timer.active():
                timer.cancel()


def _time_out(response: Deferred[dns.message.Message]) -> None:
    if not response.called:
        response.errback(_NoAnswer("no answer in time", status="4.4.3"))


def _read(response: dns.message.Message, kind: str) -> _Answer:
    """What a response means. Raises TemporaryError when it is of no use."""
    code = response.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise TemporaryError(f"server answers {dns.rcode.to_text(code)}", status="4.4.3")
    if not isinstance(response, dns.message.QueryMessage):
        raise TemporaryError("answer is not a response to a query", status="4.4.3")
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException as error:
        raise TemporaryError(f"answer is inconsistent: {error}", status="4.4.3") from None
    records = tuple(chain.answer) if chain.answer is not None else ()
    wanted = dns.rdatatype.from_text(kind)
    ttl = int(chain.minimum_ttl) if records or response.authority else 60
    return _Answer(code == dns.rcode.NOERROR, tuple(r for r in records if r.rdtype == wanted), max(0, ttl))


def host_name(name: dns.name.Name) -> str | None:
    """A name as text without the trailing dot, "" for the root, None for what cannot be a host."""
    text = name.to_text(omit_final_dot=True).lower()
    if text in (".", "@", ""):
        return ""
    return text if _HOST.fullmatch(text) else None


def _accept(octets: bytes, query: dns.message.Message) -> dns.message.Message | None:
    """The message when it is an answer to this very question."""
    try:
        response = dns.message.from_wire(octets, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError, IndexError, OverflowError):
        return None
    return response if query.is_response(response) else None


class _Datagrams(DatagramProtocol):
    """One question to one server. What is not its answer is ignored, up to a bound."""

    def __init__(self, server: tuple[str, int], query: dns.message.Message) -> None:
        self.response: Deferred[dns.message.Message] = Deferred()
        self._server = server
        self._query = query
        self._strays = 0

    def logPrefix(self) -> str:
        """What Twisted's line about the port of each question begins with."""
        return "DNS question"

    def startProtocol(self) -> None:
        transport: Any = self.transport
        try:
            transport.connect(*self._server)
            transport.write(self._query.to_wire())
        except Exception as error:
            self._fail(f"cannot send: {error}")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        response = _accept(datagram, self._query)
        if response is not None and not self.response.called:
            self.response.callback(response)
            return
        self._strays += 1
        if self._strays >= _STRAYS:
            self._fail("too many answers to other questions")

    def connectionRefused(self) -> None:
        self._fail("connection refused")

    def _fail(self, reason: str) -> None:
        if not self.response.called:
            self.response.errback(TemporaryError(reason, status="4.4.3"))


class _Stream(Protocol):
    """One question over TCP: each message has its length in two octets before it (RFC 1035 4.2.2)."""

    def __init__(self, query: dns.message.Message) -> None:
        self.response: Deferred[dns.message.Message] = Deferred()
        self._query = query
        self._octets = b""

    def connectionMade(self) -> None:
        wire = self._query.to_wire()
        transport: Any = self.transport
        transport.write(len(wire).to_bytes(2, "big") + wire)

    def dataReceived(self, data: bytes) -> None:
        if self.response.called:
            return
        self._octets += data
        size = int.from_bytes(self._octets[:2], "big")
        if len(self._octets) >= 2 and size > _TCP_LIMIT:
            self._fail("answer is too large")
        elif len(self._octets) >= 2 + size > 2:
            response = _accept(self._octets[2 : 2 + size], self._query)
            if response is None or response.flags & dns.flags.TC:
                self._fail("answer is not usable")
            else:
                self.response.callback(response)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._fail("connection lost")

    def close(self) -> None:
        """Cut the connection."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _fail(self, reason: str) -> None:
        if not self.response.called:
            self.response.errback(TemporaryError(reason, status="4.4.3"))


class _OneProtocol(Factory):
    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Protocol:
        return self._protocol


# --- The machine's own set-up --------------------------------------------------------------------------------------


def _server(text: str) -> tuple[str, int]:
    host, _, port = text.partition("#")
    return host, int(port or 53)


def parse_resolv_conf(text: str) -> list[str]:
    """The first three name servers (resolv.conf(5)); empty when there are none."""
    words = (line.split() for line in text.splitlines())
    named = [line[1] for line in words if len(line) >= 2 and line[0] == "nameserver"]
    return [server for server in named if _is_address(server)][:3]


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Names and their addresses (hosts(5))."""
    hosts: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if _is_address(address):
            for name in names:
                known = hosts.get(name.lower(), ())
                hosts[name.lower()] = known if address in known else (*known, address)
    return hosts


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def machine_servers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The name servers this machine is told to use."""
    return parse_resolv_conf(_text(path))


def machine_hosts(path: Path = Path("/etc/hosts")) -> dict[str, tuple[str, ...]]:
    """The names this machine knows without asking."""
    return parse_hosts(_text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        _log.warn("cannot read {path:text}: {error:text}", path=str(path), error=error.strerror)
        return ""
