"""The resolver against a name server in memory: answers, absence, lies, loss."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import MailExchanger, ServiceLocation, TlsaRecord
from mailhub.net import dane
from mailhub.net.dns import NoSuchDomain, Resolver, ResolverLimits
from mailhub.net.dns_servers import MachineServers, NameServers, machine_hosts, parse_hosts, parse_resolv_conf
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of

ZONE = {
    ("xx.example.", "MX"): "xx.example. 300 IN MX 20 MX2.xx.example.\nxx.example. 300 IN MX 10 mx1.xx.example.",
    ("null.example.", "MX"): "null.example. 300 IN MX 0 .",
    ("odd.example.", "MX"): "odd.example. 300 IN MX 0 .\nodd.example. 300 IN MX 5 mx.odd.example.",
    ("bad.example.", "MX"): r"bad.example. 300 IN MX 5 a\000b.example.",
    ("alias.example.", "MX"): "alias.example. 300 IN CNAME xx.example.\nxx.example. 300 IN MX 10 mx1.xx.example.",
    ("mx1.xx.example.", "A"): "mx1.xx.example. 60 IN A 192.0.2.1",
    ("mx1.xx.example.", "AAAA"): "mx1.xx.example. 60 IN AAAA 2001:db8::1",
    ("v4.example.", "A"): "v4.example. 60 IN A 192.0.2.4",
    ("xn--bcher-kva.example.", "MX"): "xn--bcher-kva.example. 60 IN MX 1 mx1.xx.example.",
    ("_mta-sts.xx.example.", "TXT"): '_mta-sts.xx.example. 60 IN TXT "v=STSv1; " "id=1;"\n'
    "_mta-sts.xx.example. 60 IN TXT other",
    ("1.2.0.192.in-addr.arpa.", "PTR"): r"1.2.0.192.in-addr.arpa. 60 IN PTR MX1.xx.example."
    "\n"
    r"1.2.0.192.in-addr.arpa. 60 IN PTR a\000b.example.",
    ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "PTR"): "1.0.0.0.0.0.0.0.0.0.0.0.0.0"
    ".0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR six.xx.example.",
    ("_25._tcp.mx1.xx.example.", "TLSA"): "_25._tcp.mx1.xx.example. 60 IN TLSA 3 1 1 " + "ab" * 32 + "\n"
    "_25._tcp.mx1.xx.example. 60 IN TLSA 2 0 0 0102",
    ("_imaps._tcp.xx.example.", "SRV"): "_imaps._tcp.xx.example. 60 IN SRV 0 1 993 MX1.xx.example.\n"
    r"_imaps._tcp.xx.example. 60 IN SRV 0 1 993 a\000b.example.",
    ("_pop3._tcp.xx.example.", "SRV"): "_pop3._tcp.xx.example. 60 IN SRV 0 0 0 .",
    ("mx.alias.example.", "CNAME"): "mx.alias.example. 60 IN CNAME mx1.xx.example.",
    ("mx.alias.example.", "A"): "mx.alias.example. 60 IN CNAME mx1.xx.example.\nmx1.xx.example. 60 IN A 192.0.2.1",
}
NEGATIVE = "example. 900 IN SOA ns.example. admin.example. 1 2 3 4 600"
Answers = Callable[[dns.message.Message], "bytes | list[bytes]"]


def records(text: str) -> list[Any]:
    found: dict[tuple[str, str], list[str]] = {}
    for line in text.splitlines():
        name, ttl, _, kind, data = line.split(" ", 4)
        found.setdefault((name, kind), [ttl]).append(data)
    return [dns.rrset.from_text(name, int(ttl), "IN", kind, *data) for (name, kind), (ttl, *data) in found.items()]


def answer(query: dns.message.Message, **changes: Any) -> dns.message.Message:
    """What an honest server says."""
    question = query.question[0]
    key = (question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype))
    response = dns.message.make_response(query, recursion_available=True)
    if key in ZONE:
        response.answer = records(ZONE[key])
    else:
        response.authority = records(NEGATIVE)
        if all(name != key[0] for name, _ in ZONE):
            response.set_rcode(dns.rcode.NXDOMAIN)
    if "rcode" in changes:
        response.set_rcode(changes["rcode"])
    return response


def honest(query: dns.message.Message) -> bytes:
    return answer(query).to_wire()


class Servers:
    """The UDP side of a reactor, and the network for TCP."""

    def __init__(self, **answers: Answers) -> None:
        self.answers = {host.replace("_", "."): each for host, each in answers.items()}
        self.udp: list[str] = []
        self.tcp: list[str] = []
        self.queries: list[dns.message.Message] = []
        self.open = 0
        self.tcp_answer: Callable[[dns.message.Message], bytes] = honest

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 0) -> Any:
        assert port == 0, "the kernel chooses a random port"
        self.open += 1
        protocol.makeConnection(_UdpTransport(self, protocol))
        return self

    def stopListening(self) -> None:
        self.open -= 1

    async def connect(self, host: str, port: int, factory: Any, timeout: float, source: str = "") -> Any:
        self.tcp.append(host)
        protocol = factory.buildProtocol(None)
        transport: Any = _transport()
        protocol.makeConnection(transport)
        wire = transport.value()
        reply = self.tcp_answer(dns.message.from_wire(wire[2:]))
        octets = len(reply).to_bytes(2, "big") + reply
        for start in range(0, len(octets), 7):
            protocol.dataReceived(octets[start : start + 7])
        return protocol


_transport: Any = StringTransport


class _UdpTransport:
    def __init__(self, servers: Servers, protocol: Any) -> None:
        self.servers, self.protocol, self.host = servers, protocol, ""

    def connect(self, host: str, port: int) -> None:
        self.host = host
        self.servers.udp.append(host)

    def write(self, wire: bytes) -> None:
        query = dns.message.from_wire(wire)
        self.servers.queries.append(query)
        replies = self.servers.answers[self.host](query)
        for reply in [replies] if isinstance(replies, bytes) else replies:
            self.protocol.datagramReceived(reply, (self.host, 53))


def resolver(servers: Servers | None = None, clock: Clock | None = None, **options: Any) -> Resolver:
    servers = servers or Servers(ns1=honest)
    options["servers"] = options.pop("servers_now", None) or list(servers.answers)
    real: Any = servers
    return Resolver(udp=real, network=real, clock=clock or Clock(), random=Random(3), **options)


def outcome_of(coroutine: Any, clock: Clock, seconds: int) -> Any:
    """The result or error within `seconds`."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    clock.pump([0.5] * (2 * seconds))
    assert results, "still waiting"
    return getattr(results[0], "value", results[0])


def test_mail_exchangers_in_order_of_preference() -> None:
    assert result_of(resolver().mail_exchangers("xx.example")) == (
        MailExchanger(10, "mx1.xx.example"),
        MailExchanger(20, "mx2.xx.example"),
    )


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("null.example", [MailExchanger(0, "")]),
        ("odd.example", [MailExchanger(5, "mx.odd.example")]),
        ("alias.example", [MailExchanger(10, "mx1.xx.example")]),
        ("xn--bcher-kva.example", [MailExchanger(1, "mx1.xx.example")]),
        ("BÜCHER.example", [MailExchanger(1, "mx1.xx.example")]),
        ("v4.example", []),
    ],
)
def test_special_mail_exchangers(domain: str, found: list[MailExchanger]) -> None:
    assert list(result_of(resolver().mail_exchangers(domain))) == found


@pytest.mark.parametrize("unsigned", ["", "alias.example.", "xx.example."])
def test_a_chain_of_aliases_that_a_server_does_not_follow_is_followed(unsigned: str) -> None:
    """RFC 7672 2.1.3: and what is found is secure where every answer was."""

    def lazy(query: dns.message.Message) -> bytes:
        response = answer(query)
        name = query.question[0].name
        response.answer = [each for each in response.answer if each.name.to_text().lower() == name.to_text().lower()]
        if name.to_text().lower() != unsigned:
            response.flags |= dns.flags.AD
        return response.to_wire()

    servers = Servers(ns1=lazy)
    asking = resolver(servers, validating=True)
    for _ in range(2):
        (found,) = result_of(asking.mail_exchangers("alias.example"))[:1]
        assert (found.host, found.domain, found.secure) == ("mx1.xx.example", "xx.example", not unsigned)
    assert len(servers.queries) == 2, "and it is remembered as one answer"


def test_aliases_without_end_are_no_answer() -> None:
    def endless(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query, recursion_available=True)
        name = query.question[0].name.to_text()
        response.answer = records(f"{name} 60 IN CNAME a.{name}")
        return response.to_wire()

    servers = Servers(ns1=endless)
    with pytest.raises(TemporaryError):
        result_of(resolver(servers).mail_exchangers("x.example"))
    assert len(servers.queries) < 12


def test_exchangers_know_where_the_aliases_of_their_domain_lead() -> None:
    """RFC 7672 3.2.2."""
    for domain in ("alias.example", "xx.example"):
        (first, *_) = result_of(resolver().mail_exchangers(domain))
        assert first.domain == "xx.example"


@pytest.mark.parametrize("domain", ["nowhere.example", "a..b", "x" * 64 + ".example", "x." * 200 + "example"])
def test_a_name_that_does_not_or_cannot_exist(domain: str) -> None:
    with pytest.raises(NoSuchDomain):
        result_of(resolver().mail_exchangers(domain))


def test_exchangers_that_are_no_host_names_are_not_used() -> None:
    with pytest.raises(PermanentError) as caught:
        result_of(resolver().mail_exchangers("bad.example"))
    assert caught.value.status == "5.4.4"


def test_addresses_of_both_families_and_known_hosts() -> None:
    found = resolver(hosts={"HUB": ["10.0.0.1"]})
    assert result_of(found.addresses("MX1.xx.example.")) == ("192.0.2.1", "2001:db8::1")
    assert result_of(found.addresses("v4.example")) == ("192.0.2.4",)
    assert result_of(found.addresses("nowhere.example")) == ()
    assert result_of(found.addresses("hub")) == ("10.0.0.1",)
    assert result_of(found.addresses("localhost")) == ("127.0.0.1", "::1")


def test_answers_are_remembered_for_their_time_absence_too() -> None:
    clock, servers = Clock(), Servers(ns1=honest)
    found = resolver(servers, clock)
    for _ in range(3):
        result_of(found.mail_exchangers("xx.example"))
        result_of(found.mail_exchangers("v4.example"))
    assert len(servers.queries) == 2
    clock.advance(299)
    result_of(found.mail_exchangers("xx.example"))
    assert len(servers.queries) == 2
    clock.advance(2)
    result_of(found.mail_exchangers("xx.example"))
    assert len(servers.queries) == 3


def test_the_cache_is_bounded() -> None:
    servers = Servers(ns1=honest)
    found = resolver(servers, limits=ResolverLimits(cached=2))
    for name in ("xx.example", "v4.example", "alias.example", "xx.example"):
        result_of(found.mail_exchangers(name))
    assert len(servers.queries) == 4


def test_the_same_question_is_asked_once_at_a_time() -> None:
    held: list[Any] = []

    def silent(query: dns.message.Message) -> list[bytes]:
        held.append(query)
        return []

    clock, servers = Clock(), Servers(ns1=silent)
    found = resolver(servers, clock, limits=ResolverLimits(rounds=1))
    waiting = [Deferred.fromCoroutine(found.mail_exchangers("xx.example")) for _ in range(3)]
    waiting[0].cancel()
    errors: list[Any] = []
    for each in waiting:
        each.addErrback(lambda failure: errors.append(failure.type))
    clock.advance(4)
    assert len(held) == 1
    assert len(errors) == 3
    assert servers.open == 0


def test_a_server_that_is_silent_or_broken_is_followed_by_the_next() -> None:
    answers: list[Answers] = [lambda query: [], lambda query: answer(query, rcode=dns.rcode.SERVFAIL).to_wire()]
    for first in answers:
        clock, servers = Clock(), Servers(ns1=first, ns2=honest)
        found = outcome_of(resolver(servers, clock).mail_exchangers("alias.example"), clock, 4)
        assert [each.host for each in found] == ["mx1.xx.example"]
        assert list(dict.fromkeys(servers.udp)) == ["ns1", "ns2"]
        assert servers.open == 0


def test_when_nobody_answers_it_is_temporary() -> None:
    clock, servers = Clock(), Servers(ns1=lambda query: [], ns2=lambda query: [])
    error = outcome_of(resolver(servers, clock).mail_exchangers("xx.example"), clock, 13)
    assert isinstance(error, TemporaryError)
    assert error.status == "4.4.3"
    assert servers.udp == ["ns1", "ns2", "ns1", "ns2"]


def test_one_family_without_answer_does_not_hide_the_other() -> None:
    def half(query: dns.message.Message) -> bytes:
        broken = query.question[0].rdtype == dns.rdatatype.AAAA
        return answer(query, **({"rcode": dns.rcode.SERVFAIL} if broken else {})).to_wire()

    assert result_of(resolver(Servers(ns1=half)).addresses("mx1.xx.example")) == ("192.0.2.1",)
    with pytest.raises(TemporaryError):
        result_of(resolver(Servers(ns1=lambda q: answer(q, rcode=dns.rcode.REFUSED).to_wire())).addresses("v4.example"))


def wrong_id(query: dns.message.Message) -> bytes:
    reply = answer(query)
    reply.id = (query.id + 1) % 65536
    return reply.to_wire()


def wrong_question(query: dns.message.Message) -> bytes:
    other = dns.message.make_query("evil.example.", "MX")
    other.id = query.id
    return dns.message.make_response(other).to_wire()


def looped(query: dns.message.Message) -> bytes:
    """The name of the record begins where it begins."""
    wire = bytearray(dns.message.make_response(query).to_wire())
    wire[7] = 1
    name = len(wire)
    return bytes(wire) + bytes([0xC0 | name >> 8, name & 0xFF]) + b"\0\x0f\0\1\0\0\0\x3c\0\4\0\n\0\0"


def pointing_forward(query: dns.message.Message) -> bytes:
    """The exchanger's name is beyond the end."""
    wire = looped(query)
    start = len(dns.message.make_response(query).to_wire())
    return wire[:start] + b"\xc0\x0c" + wire[start + 2 : -2] + b"\xff\xff"


@pytest.mark.parametrize(
    "lie",
    [
        lambda query: b"",
        lambda query: b"\xff" * 500,
        wrong_id,
        wrong_question,
        lambda query: query.to_wire(),
        looped,
        pointing_forward,
    ],
)
def test_what_is_not_the_answer_is_waited_past(lie: Any) -> None:
    servers = Servers(ns1=lambda query: [lie(query), honest(query)])
    assert len(result_of(resolver(servers).mail_exchangers("xx.example"))) == 2


def test_a_flood_of_lies_is_not_read_for_ever() -> None:
    servers = Servers(ns1=lambda query: [b"x"] * 1000 + [honest(query)], ns2=honest)
    result_of(resolver(servers).mail_exchangers("xx.example"))
    assert servers.udp == ["ns1", "ns2"]


def truncated(query: dns.message.Message) -> bytes:
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    servers = Servers(ns1=truncated)
    assert len(result_of(resolver(servers).mail_exchangers("xx.example"))) == 2
    assert servers.tcp == ["ns1"]


@pytest.mark.parametrize(
    "reply", [lambda query: b"\0" * 20_000, lambda query: bytes(65_535), truncated, wrong_id, looped]
)
def test_tcp_answers_are_no_more_trusted(reply: Any) -> None:
    servers = Servers(ns1=truncated)
    servers.tcp_answer = reply
    with pytest.raises(TemporaryError):
        result_of(resolver(servers).mail_exchangers("xx.example"))


def test_a_tcp_server_that_dribbles_has_no_more_time_than_another() -> None:
    class Slow(Servers):
        async def connect(self, host: str, port: int, factory: Any, timeout: float, source: str = "") -> Any:
            self.protocol = factory.buildProtocol(None)
            self.protocol.makeConnection(_transport())
            return self.protocol

    clock, servers = Clock(), Slow(ns1=truncated)
    results: list[Any] = []
    limits = ResolverLimits(rounds=1)
    Deferred.fromCoroutine(resolver(servers, clock, limits=limits).mail_exchangers("xx.example")).addBoth(
        results.append
    )
    octets = (500).to_bytes(2, "big") + bytes(500)
    for sent in range(8):
        assert bool(results) is (sent > 3)
        servers.protocol.dataReceived(octets[sent : sent + 1])
        clock.advance(0.75)
    assert results[0].type is TemporaryError
    assert servers.protocol.transport.disconnecting or servers.protocol.transport.disconnected


@given(st.data())
def test_no_octets_from_a_server_do_more_than_keep_us_waiting(data: st.DataObject) -> None:
    """An answer with some octets changed, cut, or made up: it is the answer, or none."""

    def spoilt(query: dns.message.Message) -> bytes:
        wire = bytearray(honest(query))
        for _ in range(data.draw(st.integers(0, 4))):
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(wire)))
        return bytes(wire[:2] + wire[2:cut] + data.draw(st.binary(max_size=30)))

    kind, name = data.draw(
        st.sampled_from(
            [
                ("mail_exchangers", "xx.example"),
                ("host", "mx.alias.example"),
                ("texts", "_mta-sts.xx.example"),
                ("tlsa", "_25._tcp.mx1.xx.example"),
                ("pointers", "192.0.2.1"),
            ]
        )
    )
    clock, servers = Clock(), Servers(ns1=spoilt)
    found = outcome_of(getattr(resolver(servers, clock), kind)(name), clock, 120)
    assert not isinstance(found, Exception) or isinstance(found, TemporaryError | PermanentError), found
    assert servers.open == 0


def in_small_letters(query: dns.message.Message) -> bytes:
    reply = answer(query)
    reply.question = [
        dns.rrset.RRset(dns.name.from_text(q.name.to_text().lower()), q.rdclass, q.rdtype) for q in query.question
    ]
    return reply.to_wire()


def test_the_letters_of_a_name_are_small_and_capital_by_chance() -> None:
    servers = Servers(ns1=honest)
    asking = resolver(servers)
    for n in range(10):
        result_of(asking.texts(f"a-long-enough-name-{n}.example"))
    asked = [query.question[0].name.to_text() for query in servers.queries]
    assert [each.lower() for each in asked] == [f"a-long-enough-name-{n}.example." for n in range(10)]
    assert all(each not in (each.lower(), each.upper()) for each in asked)
    assert len({each.partition("-name")[0] for each in asked}) > 5


def test_an_answer_in_other_letters_is_asked_for_over_tcp_where_nobody_else_answers() -> None:
    servers = Servers(ns1=lambda query: [in_small_letters(query), honest(query)])
    asking = resolver(servers)
    for name in ("xx.example", "alias.example"):
        assert result_of(asking.mail_exchangers(name))[0].host == "mx1.xx.example"
    assert servers.tcp == ["ns1", "ns1"]


def test_a_server_without_tcp_that_does_not_keep_letters_is_asked_in_small_ones() -> None:
    def refuse(query: dns.message.Message) -> bytes:
        raise TemporaryError("refused")

    clock, servers = Clock(), Servers(ns1=in_small_letters)
    servers.tcp_answer = refuse
    asking = resolver(servers, clock)
    for name in ("xx.example", "alias.example"):
        assert result_of(asking.mail_exchangers(name))[0].host == "mx1.xx.example"
    small = [query.question[0].name.to_text().islower() for query in servers.queries]
    assert (small, servers.tcp) == ([False, True, True], ["ns1"])
    clock.advance(3601)
    result_of(asking.mail_exchangers("xn--bcher-kva.example"))
    assert len(servers.tcp) == 2


@pytest.mark.parametrize("recursive", [True, False])
def test_a_referral_is_no_answer_and_absence_without_soa_is_forgotten_soon(recursive: bool) -> None:
    def refer(query: dns.message.Message) -> bytes:
        reply = dns.message.make_response(query, recursion_available=recursive)
        reply.authority = records("example. 90000 IN NS ns.example.")
        return reply.to_wire()

    clock, servers = Clock(), Servers(ns1=refer)
    asking = resolver(servers, clock)
    if not recursive:
        with pytest.raises(TemporaryError):
            result_of(asking.mail_exchangers("v4.example"))
        return
    for seconds, questions in ((0, 1), (59, 1), (2, 2)):
        clock.advance(seconds)
        assert result_of(asking.mail_exchangers("v4.example")) == ()
        assert len(servers.queries) == questions


def test_huge_answers_and_endless_chains_are_cut() -> None:
    def many(query: dns.message.Message) -> bytes:
        reply = dns.message.make_response(query)
        reply.answer = records("\n".join(f"xx.example. 9 IN MX {n} mx{n}.xx.example." for n in range(500, 0, -1)))
        return reply.to_wire(max_size=65535)

    found = result_of(resolver(Servers(ns1=many)).mail_exchangers("xx.example"))
    assert [each.preference for each in found] == list(range(1, 21))

    def chain(query: dns.message.Message) -> bytes:
        reply = dns.message.make_response(query)
        names = ["xx.example.", *[f"c{n}.example." for n in range(200)]]
        reply.answer = [r for a, b in pairwise(names) for r in records(f"{a} 9 IN CNAME {b}")]
        return reply.to_wire(max_size=65535)

    with pytest.raises(TemporaryError):
        result_of(resolver(Servers(ns1=chain)).mail_exchangers("xx.example"))


def test_the_machines_own_files(tmp_path: Path) -> None:
    text = "# x\nsearch a\nnameserver 192.0.2.1\nnameserver\nnameserver x\nnameserver ::1 # y\n"
    assert parse_resolv_conf(text) == NameServers((("192.0.2.1", 53), ("::1", 53)))
    assert parse_resolv_conf("") == NameServers((("127.0.0.1", 53),))
    hosts = parse_hosts("127.0.0.1 localhost # c\n::1 localhost Hub\n\nbad name\n10.0.0.1\n")
    assert hosts == {"localhost": ("127.0.0.1", "::1"), "hub": ("::1",)}
    assert machine_hosts(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("options", "seconds", "rounds"),
    [
        ("options timeout:1 attempts:3 edns0", 1, 3),
        ("options timeout:99 attempts:99", 30, 5),
        ("options timeout:0 attempts:-1", 1, None),
        ("options timeout:x attempts: rotate\noptions timeout:2", 2, None),
        ("options", None, None),
    ],
)
def test_the_options_of_resolv_conf(options: str, seconds: int | None, rounds: int | None) -> None:
    found = parse_resolv_conf(f"{options}\n" + "".join(f"nameserver 192.0.2.{n}\n" for n in range(9)))
    assert (found.timeout_seconds, found.rounds, len(found.servers)) == (seconds, rounds, 3)


def test_resolv_conf_is_read_again_when_it_has_changed_and_what_was_known_is_forgotten(tmp_path: Path) -> None:
    file, clock = tmp_path / "resolv.conf", Clock()
    file.write_text("nameserver 192.0.2.1\n")
    servers = Servers()
    servers.answers = {"192.0.2.1": honest, "192.0.2.22": lambda query: []}
    asking = resolver(servers, clock, servers_now=MachineServers(clock, file))
    for _ in range(2):
        result_of(asking.mail_exchangers("xx.example"))
    file.write_text("nameserver 192.0.2.22\noptions timeout:1 attempts:1\n")
    clock.advance(1)
    assert isinstance(outcome_of(asking.mail_exchangers("xx.example"), clock, 1), TemporaryError)
    file.unlink()
    clock.advance(1)
    assert isinstance(outcome_of(asking.mail_exchangers("xx.example"), clock, 1), TemporaryError)
    assert servers.udp == ["192.0.2.1", "192.0.2.22", "192.0.2.22"]


def test_texts_pointers_and_tlsa_and_their_absence() -> None:
    found = resolver()
    assert sorted(result_of(found.texts("_MTA-STS.xx.example"))) == [b"other", b"v=STSv1; id=1;"]
    assert result_of(found.pointers("192.0.2.1")) == ("mx1.xx.example",)
    assert result_of(found.pointers("2001:db8::1")) == ("six.xx.example",)
    both = (TlsaRecord(3, 1, 1, b"\xab" * 32), TlsaRecord(2, 0, 0, b"\1\2"))
    assert sorted(result_of(found.tlsa("_25._tcp.mx1.xx.example")).records, key=lambda each: -each.usage) == list(both)
    assert result_of(found.texts("xx.example")) == ()
    assert result_of(found.texts("nowhere.example")) == ()
    assert result_of(found.pointers("192.0.2.9")) == ()
    assert result_of(found.tlsa("_25._tcp.nowhere.example")).records == ()
    with pytest.raises(ValueError, match="nonsense"):
        result_of(found.pointers("nonsense"))


def test_the_places_of_services_and_that_there_is_none() -> None:
    found = resolver()
    assert result_of(found.services("_imaps._tcp.xx.example")) == (ServiceLocation(0, 1, 993, "mx1.xx.example"),)
    assert result_of(found.services("_pop3._tcp.xx.example")) == (ServiceLocation(0, 0, 0, ""),)
    assert result_of(found.services("_imap._tcp.xx.example")) == ()
    zone = FakeResolver()
    zone.load("_imaps._tcp 60 IN SRV 0 1 993 mx\n_pop3._tcp 60 IN SRV 0 0 0 .", "xx.example")
    assert result_of(zone.services("_imaps._tcp.xx.example")) == (ServiceLocation(0, 1, 993, "mx.xx.example"),)
    assert result_of(zone.services("_pop3._tcp.xx.example")) == (ServiceLocation(0, 0, 0, ""),)


def tlsa_of(*contents: bytes, cut: int = 0) -> Any:
    """What is found where a server answers so, whatever the lengths are. The last octets are `cut` off."""

    def say(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query, recursion_available=True)
        found = [dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, each) for each in contents]
        response.answer = [dns.rrset.from_rdata(query.question[0].name, 60, *found)]
        response.flags |= dns.flags.AD
        wire = response.to_wire()
        return wire[: len(wire) - cut]

    clock = Clock()
    return outcome_of(resolver(Servers(ns1=say), clock, validating=True).tlsa("_25._tcp.mx.example"), clock, 60)


def test_a_tlsa_record_of_the_wrong_length_is_of_no_use_and_others_are() -> None:
    good = b"\3\1\1" + b"a" * 32
    for bad in (b"\3\1\1" + b"a" * 31, b"\3\1\1", b"\3\1\2" + b"a" * 32):
        assert dane.usable(tlsa_of(bad, good).records) == (TlsaRecord(3, 1, 1, b"a" * 32),)
        alone = tlsa_of(bad)
        assert alone.secure
        assert alone.records
        assert not dane.usable(alone.records)
        assert isinstance(tlsa_of(good, bad, cut=len(bad) + 2), TemporaryError)


@pytest.mark.parametrize("ask", ["texts", "pointers", "services", "tlsa", "host"])
def test_that_there_is_no_answer_is_told_of_every_type(ask: str) -> None:
    broken = resolver(Servers(ns1=lambda query: answer(query, rcode=dns.rcode.SERVFAIL).to_wire()))
    with pytest.raises(TemporaryError):
        result_of(getattr(broken, ask)("192.0.2.1"))


def test_a_host_is_known_by_the_name_that_its_aliases_lead_to() -> None:
    found = result_of(resolver().host("mx.alias.example"))
    assert (found.addresses, found.canonical) == (("192.0.2.1",), "mx1.xx.example")
    assert result_of(resolver().host("V4.example")).canonical == "v4.example"
    assert result_of(resolver().host("nowhere.example")).canonical == ""


def signed(query: dns.message.Message, flags: int = dns.flags.AD) -> bytes:
    reply = answer(query)
    reply.flags |= flags
    return reply.to_wire()


@pytest.mark.parametrize(
    ("server", "validating", "flags", "secure"),
    [
        ("127.0.0.1", None, dns.flags.AD, True),
        ("::1", None, dns.flags.AD, True),
        ("127.0.0.1", None, 0, False),
        ("127.0.0.1", None, dns.flags.AD | dns.flags.CD, False),
        ("127.0.0.1", False, dns.flags.AD, False),
        ("192.0.2.53", None, dns.flags.AD, False),
        ("192.0.2.53", True, dns.flags.AD, True),
        ("192.0.2.53", True, 0, False),
    ],
)
def test_who_is_believed_about_dnssec(server: str, validating: bool | None, flags: int, secure: bool) -> None:
    servers = Servers()
    servers.answers[server] = lambda query: signed(query, flags)
    asking = resolver(servers, validating=validating)
    assert [each.secure for each in result_of(asking.mail_exchangers("xx.example"))] == [secure] * 2
    assert result_of(asking.mail_exchangers("null.example"))[0].secure is secure
    assert result_of(asking.host("mx1.xx.example")).secure is secure
    assert result_of(asking.tlsa("_25._tcp.mx1.xx.example")).secure is secure
    assert result_of(asking.tlsa("_25._tcp.nowhere.example")).secure is secure
    assert all(query.flags & dns.flags.AD and not query.flags & dns.flags.CD for query in servers.queries)


def test_a_host_is_secure_when_both_families_are() -> None:
    servers = Servers()
    servers.answers["127.0.0.1"] = lambda query: signed(
        query, dns.flags.AD if query.question[0].rdtype == dns.rdatatype.A else 0
    )
    assert not result_of(resolver(servers).host("mx1.xx.example")).secure


@pytest.mark.parametrize(
    ("server", "chain", "alias", "expected"),
    [
        ("127.0.0.1", True, True, (True, True)),
        ("127.0.0.1", False, True, (False, True)),
        ("127.0.0.1", False, False, (False, False)),
        ("127.0.0.1", False, None, (False, True)),
        ("192.0.2.53", True, True, (False, False)),
    ],
)
def test_an_alias_may_be_secure_though_what_it_leads_to_is_not(
    server: str, chain: bool, alias: bool | None, expected: tuple[bool, bool]
) -> None:
    """`alias` None: there is no answer about it."""

    def say(query: dns.message.Message) -> bytes:
        is_alias = query.question[0].rdtype == dns.rdatatype.CNAME
        if is_alias and alias is None:
            return answer(query, rcode=dns.rcode.SERVFAIL).to_wire()
        return signed(query, dns.flags.AD if (alias if is_alias else chain) else 0)

    servers = Servers()
    servers.answers[server] = say
    found = result_of(resolver(servers).host("mx.alias.example"))
    assert (found.secure, found.alias_secure) == expected
    asked = [query for query in servers.queries if query.question[0].rdtype == dns.rdatatype.CNAME]
    assert bool(asked) is (server == "127.0.0.1" and not chain)
    assert not result_of(resolver(servers).host("v4.example")).alias_secure


def test_ids_differ_and_absence_is_remembered_for_as_long_as_the_zone_says_within_bounds() -> None:
    def absent(query: dns.message.Message) -> bytes:
        reply = dns.message.make_response(query)
        reply.authority = records("example. 90000 IN SOA ns.example. admin.example. 1 2 3 4 80000")
        return reply.to_wire()

    clock, servers = Clock(), Servers(ns1=absent)
    asking = resolver(servers, clock)
    for seconds, questions in ((0, 1), (10_799, 1), (2, 2)):
        clock.advance(seconds)
        assert result_of(asking.texts("v4.example")) == ()
        assert len(servers.queries) == questions
    clock, servers = Clock(), Servers(ns1=honest)
    asking = resolver(servers, clock)
    for seconds, questions in ((0, 1), (599, 1), (2, 2)):
        clock.advance(seconds)
        assert result_of(asking.texts("v4.example")) == ()
        assert len(servers.queries) == questions
    for n in range(20):
        result_of(asking.texts(f"n{n}.example"))
    assert len({query.id for query in servers.queries}) > 15


def has_edns(query: dns.message.Message) -> bool:
    return query.edns >= 0


def without_edns(refusal: Callable[[dns.message.Message], bytes | list[bytes]]) -> Answers:
    """A server that knows nothing of RFC 6891: its answer to a question with OPT is `refusal`'s."""
    return lambda query: refusal(query) if has_edns(query) else honest(query)


def header_only(query: dns.message.Message) -> bytes:
    """FORMERR as old servers send it: the header, and nothing of the question."""
    return query.id.to_bytes(2, "big") + b"\x81\x81" + bytes(8)


@pytest.mark.parametrize(
    "refusal",
    [
        lambda query: answer(query, rcode=dns.rcode.FORMERR).to_wire(),
        lambda query: answer(query, rcode=dns.rcode.NOTIMP).to_wire(),
        lambda query: answer(query, rcode=dns.rcode.SERVFAIL).to_wire(),
        lambda query: answer(query, rcode=dns.rcode.REFUSED).to_wire(),
        lambda query: answer(query, rcode=dns.rcode.BADVERS).to_wire(),
        header_only,
    ],
)
def test_a_server_that_refuses_edns_is_asked_without_and_remembered(refusal: Any) -> None:
    clock, servers = Clock(), Servers(ns1=without_edns(refusal))
    asking = resolver(servers, clock)
    assert len(result_of(asking.mail_exchangers("xx.example"))) == 2
    assert result_of(asking.addresses("v4.example")) == ("192.0.2.4",)
    assert [has_edns(query) for query in servers.queries] == [True, False, False, False]
    clock.advance(3601)
    result_of(asking.mail_exchangers("xx.example"))
    assert [has_edns(query) for query in servers.queries[4:]] == [True, False]


@pytest.mark.parametrize("silence", [lambda query: [], lambda query: b"\xff" * 40])
def test_a_server_that_is_silent_about_edns_is_asked_without_in_the_next_round(silence: Any) -> None:
    clock, servers = Clock(), Servers(ns1=without_edns(silence))
    asking = resolver(servers, clock)
    assert len(outcome_of(asking.mail_exchangers("xx.example"), clock, 4)) == 2
    assert outcome_of(asking.addresses("v4.example"), clock, 1) == ("192.0.2.4",)


def test_without_edns_too_lies_are_waited_past_and_truncation_leads_to_tcp() -> None:
    servers = Servers(ns1=without_edns(lambda query: answer(query, rcode=dns.rcode.FORMERR).to_wire()))
    servers.answers["ns1"] = lambda query: (
        header_only(query) if has_edns(query) else [wrong_id(query), wrong_question(query), truncated(query)]
    )
    assert len(result_of(resolver(servers).mail_exchangers("xx.example"))) == 2
    assert servers.tcp == ["ns1"]


def test_a_name_that_fails_either_way_makes_no_server_plain() -> None:
    clock, servers = Clock(), Servers(ns1=lambda query: answer(query, rcode=dns.rcode.SERVFAIL).to_wire())
    asking = resolver(servers, clock)
    for _ in range(2):
        with pytest.raises(TemporaryError):
            result_of(asking.mail_exchangers("xx.example"))
    assert [has_edns(query) for query in servers.queries] == [True, False] * 4
