"""The resolver: DNS as mail needs it, over Twisted's UDP and TCP, with dnspython's wire format (RFC 1035, RFC 7766)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from random import Random
from typing import Any

import attrs
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, IReactorUDP
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import HostAddresses, INetwork, IResolver, MailExchanger, ServiceLocation, Tlsa, TlsaRecord
from mailhub.net.dns_exchange import Datagrams, OneProtocol, OtherLetters, Stream, in_mixed_case
from mailhub.net.dns_servers import MachineServers, NameServers, is_loopback, machine_hosts
from mailhub.net.udp import QuietUdp

# RFC 1123 2.1 and RFC 952, with the underscore that service names have (RFC 2782).
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_PAYLOAD = 1232  # octets of a UDP answer, DNS flag day 2020
_NO_SOA_SECONDS = 60
_ALIASES = 8  # that are followed by questions of our own
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

    A question goes to each server in turn, `rounds` times, each time for `timeout_seconds`, unless the servers come
    with numbers of their own. At most `exchangers` (the most preferred), `addresses` and, of the other types, `records`
    of an answer are used. The cache holds `cached` answers, none longer than `cache_seconds`, and that there is nothing
    no longer than `negative_seconds` (RFC 2308 5). A server that answers only without EDNS, or in small letters, is
    asked so for `plain_seconds`.
    """

    timeout_seconds: float = 3.0
    rounds: int = 2
    exchangers: int = 20
    addresses: int = 20
    records: int = 50
    cached: int = 10_000
    cache_seconds: int = 86_400
    negative_seconds: int = 10_800
    plain_seconds: float = 3600.0


@attrs.frozen
class _Answer:
    """`exists` False: NXDOMAIN. `records` is empty where the name has none of the type; `ttl` in seconds. `canonical`
    is the name at the end of the aliases. `secure`: a server that is believed says that DNSSEC vouches for all of it,
    for absence, too. `is_cut`: there are aliases, and nothing is said of where they lead."""

    exists: bool
    records: tuple[Any, ...]
    ttl: int
    canonical: dns.name.Name
    secure: bool
    is_cut: bool = False


@implementer(IResolver)
class Resolver:
    """Asks recursive servers (`host` or `host#port`). `hosts` are names known without asking, as in /etc/hosts.

    Servers that do not know EDNS (RFC 6891), as in many a home router, refuse questions that have it, or say nothing:
    they are asked again without it, a silent one in the next round.

    The letters of a name are small and capital by chance (0x20), so that who answers in a server's place must know what
    was asked. Where they come back otherwise the answer is asked for over TCP, where nobody can; a server that has no
    TCP, and does not keep letters, is asked in small ones for a while.

    That an answer is secure (the AD bit, RFC 4035 3.2.3) is believed of servers on loopback; with `validating` of all
    of them, or of none: nobody else knows whether a server looks at signatures, and whether what it says of them comes
    through unchanged.
    """

    def __init__(
        self,
        *,
        udp: IReactorUDP,
        network: INetwork,
        clock: IReactorTime,
        random: Random,
        servers: Sequence[str] | Callable[[], NameServers],
        hosts: Mapping[str, Sequence[str]] | None = None,
        limits: ResolverLimits | None = None,
        validating: bool | None = None,
    ) -> None:
        """`servers` that may change are a callable, which is asked before each question."""
        self._udp = udp
        self._network = network
        self._clock = clock
        self._random = random
        fixed = None if callable(servers) else NameServers.of(servers)
        self._servers: Callable[[], NameServers] = servers if callable(servers) else lambda: fixed or NameServers()
        self._known: NameServers | None = None
        self._validating = validating
        self._hosts = {name.lower(): tuple(addresses) for name, addresses in (hosts or {}).items()}
        self._limits = limits or ResolverLimits()
        self._cache: OrderedDict[tuple[str, str], tuple[float, _Answer]] = OrderedDict()
        self._asking: dict[tuple[str, str], list[Deferred[_Answer]]] = {}
        # Until when these servers are asked without EDNS.
        self._plain: dict[tuple[str, int], float] = {}
        # Until when these are asked in small letters.
        self._small: dict[tuple[str, int], float] = {}

    async def mail_exchangers(self, domain: str) -> Sequence[MailExchanger]:
        """See `IResolver`."""
        answer = await self._ask(domain, "MX")
        if not answer.exists:
            raise NoSuchDomain()
        found = [(record.preference, host_name(record.exchange)) for record in answer.records]
        if found and all(host == "" for _, host in found):
            return (MailExchanger(0, "", answer.secure),)
        named = sorted((preference, host) for preference, host in found if host)
        if found and not named:
            raise PermanentError("Domain has no usable mail exchanger", status="5.4.4")
        domain = host_name(answer.canonical) or ""
        return tuple(MailExchanger(*pair, answer.secure, domain) for pair in named[: self._limits.exchangers])

    async def addresses(self, host: str) -> Sequence[str]:
        """See `IResolver`."""
        return (await self.host(host)).addresses

    async def host(self, name: str) -> HostAddresses:
        """See `IResolver`. IPv4 first: a host without an IPv6 route would otherwise wait for each address in vain."""
        name = name.rstrip(".").lower()
        if name in self._hosts:
            return HostAddresses(self._hosts[name])
        if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 6.3
            return HostAddresses(("127.0.0.1", "::1"))
        answers: list[_Answer] = []
        failed: TemporaryError | None = None
        for kind in ("A", "AAAA"):
            try:
                answer = await self._ask(name, kind)
            except TemporaryError as error:
                failed = error
                continue
            answers.append(answer)
            if not answer.exists:
                break
        found = [record.address for answer in answers for record in answer.records[: self._limits.addresses]]
        if failed and not found:
            raise failed
        secure = all(answer.secure for answer in answers)
        canonical = (host_name(answers[0].canonical) if answers[0].exists else None) or ""
        alias_secure = canonical not in ("", name) and (secure or await self._is_secure_alias(name))
        return HostAddresses(tuple(found[: self._limits.addresses]), secure, canonical, alias_secure)

    async def _is_secure_alias(self, name: str) -> bool:
        """Whether DNSSEC vouches for an alias: of the whole chain to the address it is told only whether all of it is
        secure. Whoever can suppress the answer does not change that (RFC 7672 2.1.2)."""
        if not any(self._believed(server) for server in self._look_at_servers().servers):
            return False
        try:
            return (await self._ask(name, "CNAME")).secure
        except TemporaryError:
            return True

    async def texts(self, name: str) -> Sequence[bytes]:
        """See `IResolver`."""
        answer = await self._ask(name, "TXT")
        return tuple(b"".join(record.strings) for record in answer.records[: self._limits.records])

    async def pointers(self, address: str) -> Sequence[str]:
        """See `IResolver`."""
        reverse = dns.reversename.from_address(str(ip_address(address.partition("%")[0])))
        answer = await self._ask(reverse.to_text(), "PTR")
        names = (host_name(record.target) for record in answer.records[: self._limits.records])
        return tuple(name for name in names if name)

    async def services(self, name: str) -> Sequence[ServiceLocation]:
        """See `IResolver`."""
        answer = await self._ask(name, "SRV")
        found = ((record, host_name(record.target)) for record in answer.records[: self._limits.records])
        return tuple(
            ServiceLocation(record.priority, record.weight, record.port, host)
            for record, host in found
            if host is not None
        )

    async def tlsa(self, name: str) -> Tlsa:
        """See `IResolver`."""
        answer = await self._ask(name, "TLSA")
        records = answer.records[: self._limits.records]
        return Tlsa(
            tuple(TlsaRecord(each.usage, each.selector, each.mtype, each.cert) for each in records), answer.secure
        )

    # --- One question, once ----------------------------------------------------------------------------------------

    async def _ask(self, name: str, kind: str) -> _Answer:
        key = (name.rstrip(".").lower(), kind)
        self._look_at_servers()
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
            Deferred.fromCoroutine(self._followed(*key)).addBoth(self._answered, key)
        return await waiter

    def _answered(self, result: _Answer | Failure, key: tuple[str, str]) -> None:
        if isinstance(result, _Answer):
            most = self._limits.cache_seconds if result.records else self._limits.negative_seconds
            self._cache[key] = (self._clock.seconds() + min(result.ttl, most), result)
            self._cache.move_to_end(key)
            while len(self._cache) > self._limits.cached:
                self._cache.popitem(last=False)
        for waiter in self._asking.pop(key):
            if not waiter.called:
                waiter.callback(result)

    async def _followed(self, name: str, kind: str) -> _Answer:
        """With what a server has left to us of a chain of aliases: all of it is secure, or nothing (RFC 7672 2.1.3)."""
        answer = await self._look_up(name, kind)
        for _ in range(_ALIASES):
            if not answer.is_cut:
                return answer
            more = await self._look_up(answer.canonical.to_text(), kind)
            answer = attrs.evolve(more, ttl=min(answer.ttl, more.ttl), secure=answer.secure and more.secure)
        raise TemporaryError(f"DNS gives no answer about {name}", status="4.4.3", detail=f"{kind}: too many aliases")

    async def _look_up(self, name: str, kind: str) -> _Answer:
        try:
            question = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError, ValueError) as error:
            raise NoSuchDomain(detail=f"{name!r:.300}: {error}") from None
        reason = ""
        silent: set[tuple[str, int]] = set()
        known = self._look_at_servers()
        for _ in range(known.rounds or self._limits.rounds):
            for server in known.servers:
                try:
                    return await self._ask_server(server, question, kind, edns=server not in silent)
                except _NoAnswer as error:
                    silent.add(server)
                    reason = error.text
                except TemporaryError as error:
                    reason = error.text
        raise TemporaryError(f"DNS gives no answer about {name}", status="4.4.3", detail=f"{kind}: {reason}")

    def _look_at_servers(self) -> NameServers:
        """Whom to ask now. What others said of the same name may differ from what these say: it is forgotten."""
        found = self._servers()
        if found != self._known:
            self._known = found
            self._cache.clear()
            self._plain.clear()
            self._small.clear()
        return found

    def _believed(self, server: tuple[str, int]) -> bool:
        return is_loopback(server[0]) if self._validating is None else self._validating

    async def _ask_server(self, server: tuple[str, int], question: dns.name.Name, kind: str, *, edns: bool) -> _Answer:
        if edns and self._plain.get(server, 0.0) <= self._clock.seconds():
            response = await self._exchange(server, question, kind, edns=True)
            if response.rcode() not in _NO_EDNS:
                return _read(response, kind, believed=self._believed(server))
        response = await self._exchange(server, question, kind, edns=False)
        answer = _read(response, kind, believed=self._believed(server))
        # Only now: a server that fails with EDNS and without does not fail because of it.
        self._plain[server] = self._clock.seconds() + self._limits.plain_seconds
        return answer

    async def _exchange(
        self, server: tuple[str, int], question: dns.name.Name, kind: str, *, edns: bool
    ) -> dns.message.Message:
        small = self._small.get(server, 0.0) > self._clock.seconds()
        query = self._query(question if small else in_mixed_case(question, self._random), kind, edns=edns)
        try:
            response = await self._by_udp(server, query)
        except OtherLetters:
            try:
                return await self._by_tcp(server, query)
            except TemporaryError:
                response = await self._by_udp(server, self._query(question, kind, edns=edns))
                self._small[server] = self._clock.seconds() + self._limits.plain_seconds
        if response.flags & dns.flags.TC:
            response = await self._by_tcp(server, query)
        return response

    def _query(self, question: dns.name.Name, kind: str, *, edns: bool) -> dns.message.Message:
        extra = {"use_edns": 0, "payload": _PAYLOAD} if edns else {"use_edns": False}
        query = dns.message.make_query(question, kind, **extra)
        query.id = self._random.getrandbits(16)
        query.flags |= dns.flags.AD  # tell whether it is secure (RFC 6840 5.7)
        return query

    async def _by_udp(self, server: tuple[str, int], query: dns.message.Message) -> dns.message.Message:
        exchange = Datagrams(server, query)
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
        exchange = Stream(query)
        factory = OneProtocol(exchange)
        await self._network.connect(server[0], server[1], factory, self._timeout())
        try:
            return await self._in_time(exchange.response)
        finally:
            exchange.close()

    def _timeout(self) -> float:
        return (self._known.timeout_seconds if self._known else None) or self._limits.timeout_seconds

    async def _in_time(self, response: Deferred[dns.message.Message]) -> dns.message.Message:
        timer = self._clock.callLater(self._timeout(), _time_out, response)
        try:
            return await response
        except CancelledError as error:
            raise TemporaryError("exchange was cancelled", status="4.4.3") from error
        finally:
            if timer.active():
                timer.cancel()


def machine_resolver(
    reactor: Any,
    network: INetwork,
    random: Random,
    servers: Sequence[str] = (),
    validating: bool | None = None,
    *,
    known_hosts: bool = True,
) -> Resolver:
    """That of the real world: it asks `servers`, by default those that this machine is told to use. Without
    `known_hosts` it asks of names in the machine's own table of hosts, too, so as to see what others see."""
    return Resolver(
        udp=QuietUdp(reactor),
        network=network,
        clock=reactor,
        random=random,
        servers=servers or MachineServers(reactor),
        hosts=machine_hosts() if known_hosts else None,
        validating=validating,
    )


def _time_out(response: Deferred[dns.message.Message]) -> None:
    if not response.called:
        response.errback(_NoAnswer("no answer in time", status="4.4.3"))


def _read(response: dns.message.Message, kind: str, *, believed: bool) -> _Answer:
    """What a response means; `believed`: what it says of DNSSEC counts. Raises TemporaryError when it is of no use."""
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
    authority = {rrset.rdtype for rrset in response.authority}
    if not records and authority == {dns.rdatatype.NS} and not response.flags & dns.flags.RA:
        # A referral: that there is nothing is said otherwise (RFC 2308 2.2).
        raise TemporaryError("server does not ask others, and names them", status="4.4.3")
    # RFC 2308 5: absence without SOA is not for keeping, but the same message may well ask twice.
    ttl = int(chain.minimum_ttl) if records or dns.rdatatype.SOA in authority else _NO_SOA_SECONDS
    # With CD the server was told not to look at signatures, so whoever answers so did not hear us.
    secure = believed and response.flags & (dns.flags.AD | dns.flags.CD) == dns.flags.AD
    found = tuple(record for record in records if record.rdtype == wanted)
    is_alias = wanted != dns.rdatatype.CNAME and chain.canonical_name != response.question[0].name
    is_cut = code == dns.rcode.NOERROR and is_alias and not found and dns.rdatatype.SOA not in authority
    return _Answer(code == dns.rcode.NOERROR, found, max(0, ttl), chain.canonical_name, secure, is_cut)


def host_name(name: dns.name.Name) -> str | None:
    """A name as text without the trailing dot, "" for the root, None for what cannot be a host."""
    text = name.to_text(omit_final_dot=True).lower()
    if text in (".", "@", ""):
        return ""
    return text if _HOST.fullmatch(text) else None
