"""One question to one name server, over UDP or TCP (RFC 1035 4.2, RFC 5452, RFC 7766)."""

from __future__ import annotations

from random import Random
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.python.failure import Failure

from mailhub.errors import TemporaryError

_TCP_LIMIT = 16384  # octets of a TCP answer; no mail domain needs more
_STRAYS = 100  # datagrams that are not the answer, before the exchange is given up
_UNFIT_TLSA = dns.rdata.from_text("IN", "TLSA", "255 255 255 00")  # of kinds that mean nothing (RFC 6698 7)
_UNFIT_SECONDS = 60


class OtherLetters(TemporaryError):
    """There is an answer, whose question has other capitals than ours."""


def in_mixed_case(name: dns.name.Name, random: Random) -> dns.name.Name:
    """The same name, each letter small or capital by chance. Servers repeat the question as it was; whoever answers in
    their place has one thing more to guess (RFC 5452 9.1 leaves it to id and port alone)."""
    return dns.name.Name([_mixed(label, random.getrandbits(len(label) + 1)) for label in name.labels])


def _mixed(label: bytes, bits: int) -> bytes:
    small, capital = label.lower(), label.upper()
    return bytes((capital if bits >> place & 1 else small)[place] for place in range(len(label)))


def _has_same_letters(response: dns.message.Message, query: dns.message.Message) -> bool:
    """Whether the question came back as it was. Some servers do not repeat it when they refuse it."""
    return all(one.name.labels == query.question[0].name.labels for one in response.question)


def _accept(octets: bytes, query: dns.message.Message) -> dns.message.Message | None:
    """The message when it is an answer to this very question."""
    loosely = query.question[0].rdtype == dns.rdatatype.TLSA
    try:
        response = dns.message.from_wire(
            octets, ignore_trailing=True, raise_on_truncation=False, continue_on_error=loosely
        )
        if not query.is_response(response):
            return None
        if response.errors:
            _keep_unfit(response)
    except (dns.exception.DNSException, ValueError, IndexError, OverflowError):
        return None
    return response


def _keep_unfit(response: dns.message.Message) -> None:
    """dnspython leaves out a TLSA record whose digest has another length than its kind. The others count beside it; and
    that there is one counts, where it is the only one (RFC 7672 2.2): it stands there as one of no known kind. Raises
    DNSException for whatever else is wrong."""
    for error in response.errors:
        if not isinstance(error.exception.__cause__, ValueError):
            raise error.exception
    if isinstance(response, dns.message.QueryMessage):
        name = response.resolve_chaining().canonical_name
        found = response.find_rrset(response.answer, name, dns.rdataclass.IN, dns.rdatatype.TLSA, create=True)
        found.add(_UNFIT_TLSA, _UNFIT_SECONDS)


class Datagrams(DatagramProtocol):
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
        """Ask."""
        transport: Any = self.transport
        try:
            transport.connect(*self._server)
            transport.write(self._query.to_wire())
        except Exception as error:
            self._fail(f"cannot send: {error}")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Perhaps the answer."""
        response = _accept(datagram, self._query)
        if response is not None and not self.response.called:
            if _has_same_letters(response, self._query):
                self.response.callback(response)
            else:
                self.response.errback(OtherLetters("question came back in other letters", status="4.4.3"))
            return
        self._strays += 1
        if self._strays >= _STRAYS:
            self._fail("too many answers to other questions")

    def connectionRefused(self) -> None:
        """Nobody serves there."""
        self._fail("connection refused")

    def _fail(self, reason: str) -> None:
        if not self.response.called:
            self.response.errback(TemporaryError(reason, status="4.4.3"))


class Stream(Protocol):
    """One question over TCP: each message has its length in two octets before it (RFC 1035 4.2.2)."""

    def __init__(self, query: dns.message.Message) -> None:
        self.response: Deferred[dns.message.Message] = Deferred()
        self._query = query
        self._octets = b""

    def connectionMade(self) -> None:
        """Ask."""
        wire = self._query.to_wire()
        transport: Any = self.transport
        transport.write(len(wire).to_bytes(2, "big") + wire)

    def dataReceived(self, data: bytes) -> None:
        """The answer, or a part of it."""
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
        """Too early, where there was no answer."""
        self._fail("connection lost")

    def close(self) -> None:
        """Cut the connection."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _fail(self, reason: str) -> None:
        if not self.response.called:
            self.response.errback(TemporaryError(reason, status="4.4.3"))


class OneProtocol(Factory):
    """The factory of a protocol that is there already."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Protocol:
        """See `IProtocolFactory`."""
        return self._protocol
