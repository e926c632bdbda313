"""`mailhub dns`: what our domains need of DNS, and what DNS has."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from mailhub.checks.signing import SigningKey, new_key
from mailhub.cli.offline import environment, opened
from mailhub.cli.records.domain import topics_of_domain
from mailhub.cli.records.host import topics_of_host
from mailhub.cli.records.record import Record, txt
from mailhub.cli.records.server import server_of
from mailhub.cli.records.shown import should_be, zone_lines
from mailhub.cli.records.topic import Looked, Topic, World, looked_at
from mailhub.config.settings import Config, load
from mailhub.delivery.authentication.keys import PART, KeptKey, KeptKeys
from mailhub.delivery.relay.sts import PolicyFailure
from mailhub.errors import TemporaryError
from mailhub.net.certificates import write_self_signed
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of
from mailhub.wire.http import Answer
from tests.checks.test_svg import GOOD as LOGO
from tests.cli.conftest import Command
from tests.cli.zone import name_server

GOOD = """
mx.xx.example. 60 IN A 8.8.4.4
mx.xx.example. 60 IN TXT "v=spf1 a -all"
4.4.8.8.in-addr.arpa. 60 IN PTR mx.xx.example.
xx.example. 60 IN MX 10 mx.xx.example.
xx.example. 60 IN TXT "v=spf1 mx -all"
_dmarc.xx.example. 60 IN TXT "v=DMARC1; p=reject; rua=mailto:dmarc@xx.example"
_mta-sts.xx.example. 60 IN TXT "v=STSv1; id=7"
_smtp._tls.xx.example. 60 IN TXT "v=TLSRPTv1; rua=mailto:tls@xx.example"
_submissions._tcp.xx.example. 60 IN SRV 0 1 465 mx.xx.example.
_imaps._tcp.xx.example. 60 IN SRV 0 1 993 mx.xx.example.
"""
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.xx.example\nmax_age: 86400\n"


@pytest.fixture
def config(config: Config, tmp_path: Path) -> Config:
    """With a certificate, and TLS from the start alone."""
    write_self_signed(tmp_path / "c.pem", tmp_path / "k.pem", ["mx.xx.example"], 30, time.time())
    config.file.write_text(
        f'{config.file.read_text()}\n[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n[listen]\nsmtp = ["tcp:25"]\n'
        'submissions = ["tcp:465"]\nimaps = ["tcp:993:interface=127.0.0.1"]\n'
    )
    return load(config.file)


@attrs.define
class Seen:
    """What a look at a zone has found."""

    pairs: Sequence[tuple[Topic, Sequence[Looked]]]

    def of(self, what: str) -> list[Looked]:
        return [each for topic, looked in self.pairs for each in looked if topic.what == what]

    @property
    def amiss(self) -> list[Looked]:
        return [each for _, looked in self.pairs for each in looked if each.state != "right"]


def seen(
    config: Config,
    zone: FakeResolver,
    policy: bytes | None = POLICY,
    keys: Sequence[KeptKey] | None = None,
    https: Any = None,
) -> Seen:
    server = server_of(config)

    async def fetch(domain: str) -> bytes:
        if policy is None:
            raise PolicyFailure("sts-policy-fetch-error", f"mta-sts.{domain} answers 404")
        return policy

    topics = [*topics_of_host(server, config.domains), *topics_of_domain(server, "xx.example", keys)]
    world = World(attrs.evolve(environment(config), resolver=zone), fetch, https)
    return Seen(result_of(looked_at(topics, world)))


def zone_of(text: str) -> FakeResolver:
    zone = FakeResolver(Clock())
    zone.load(text)
    return zone


def test_a_zone_where_all_is_there(config: Config) -> None:
    found = seen(config, zone_of(GOOD))
    assert [(each.state, each.text.partition(" (")[0]) for each in found.amiss] == [
        ("missing", "hostname mx.xx.example has no TLSA record")
    ]
    assert not any(each.is_problem for each in found.amiss)
    texts = [each.text for what in ("SPF", "DMARC", "SRV") for each in found.of(what)]
    assert texts == [
        "domain mx.xx.example allows 8.8.4.4 to send for it (SPF), by 1 look-up of 10",
        "domain xx.example allows 8.8.4.4 to send for it (SPF), by 1 look-up of 10",
        "domain xx.example has a DMARC policy (p=reject); reports go to mailto:dmarc@xx.example",
        "domain xx.example names no submission, and none is offered",
        "domain xx.example has submissions here (SRV)",
        "domain xx.example names no imap, and none is offered",
        "domain xx.example has imaps here (SRV)",
        "domain xx.example names no pop3, and none is offered",
        "domain xx.example names no pop3s, and none is offered",
    ]


def test_what_is_proposed_is_right_once_it_is_published(config: Config) -> None:
    zone = zone_of("mx.xx.example. 60 IN A 8.8.4.4")
    before = seen(config, zone)
    assert {each.state for each in before.amiss} == {"missing"}
    assert {each.what for each, looked in before.pairs if any(one.is_problem for one in looked)} == {
        "PTR",
        "MX",
        "SPF",
        "DMARC",
    }
    published = "\n".join(zone_lines(before.pairs))
    after = seen(config, zone_of(published), b"\n".join(line.encode() for line in before.of("MTA-STS")[0].beside))
    assert [each.text for each in after.amiss] == [
        "TLSA records of mx.xx.example are not vouched for by DNSSEC, as far as our resolver says: nobody goes by them "
        "([dns] validating, if it does look)"
    ]
    # Nothing is proposed to change then.
    assert "\n".join(zone_lines(after.pairs)).splitlines() == [
        line
        for line in published.splitlines()
        if line.partition(":")[0] not in ("; version", "; mode", "; mx", "; max_age")
    ]


@pytest.mark.parametrize(
    ("old", "new", "what", "text", "publish"),
    [
        ("mx.xx.example. 60 IN A", "other.example. 60 IN A", "A", "hostname mx.xx.example has no address", "A <"),
        (
            "PTR mx.xx.example.",
            "PTR other.example.",
            "PTR",
            "address 8.8.4.4 is called other.example (PTR), and not mx.xx.example: ",
            "4.4.8.8.in-addr.arpa. PTR mx.xx.example.",
        ),
        (
            "MX 10 mx.xx.example.",
            "MX 0 .",
            "MX",
            "domain xx.example says that it takes no mail (null MX)",
            "xx.example. MX 10 mx.xx.example.",
        ),
        (
            "v=spf1 mx",
            "v=spf1 include:a.example",
            "SPF",
            "the SPF record of xx.example does not allow 8.8.4.4, from which its mail comes (permerror: ",
            "",
        ),
        (
            "v=spf1 mx -all",
            "v=spf1 ip4:8.8.8.8 ~all",
            "SPF",
            "the SPF record of xx.example does not allow 8.8.4.4, from which its mail comes (softfail: ~all)",
            'xx.example. TXT "v=spf1 ip4:8.8.4.4 ip4:8.8.8.8 ~all"',
        ),
        (
            "v=spf1 mx -all",
            "v=spf1 mx all",
            "SPF",
            "the SPF record of xx.example allows everybody",
            'xx.example. TXT "v=spf1 mx -all"',
        ),
        (
            "v=spf1 mx -all",
            "v=spf1 mx a b",
            "SPF",
            "the SPF record of xx.example cannot be read: 'b' is unknown",
            'xx.example. TXT "v=spf1 mx -all"',
        ),
        (
            'TXT "v=spf1 mx -all"',
            'TXT "v=spf1 mx ~all"\nxx.example. 60 IN TXT "v=spf1 ip4:8.8.8.8 -all"',
            "SPF",
            "xx.example has 2 SPF records, of which none counts",
            'xx.example. TXT "v=spf1 mx ip4:8.8.8.8 -all"',
        ),
        (
            "v=DMARC1; p=reject; rua",
            "v=dmarc1; p=reject; rua",
            "DMARC",
            "the record _dmarc.xx.example does not begin with v=DMARC1",
            '_dmarc.xx.example. TXT "v=DMARC1; p=none; rua=mailto:postmaster@xx.example"',
        ),
        (
            "p=reject; rua=mailto:dmarc@xx.example",
            "p=refuse; pct=50; rua=dmarc@xx.example,mailto:ann@xx.example",
            "DMARC",
            "the record _dmarc.xx.example has p=refuse, which counts as none",
            '_dmarc.xx.example. TXT "v=DMARC1; p=none; rua=mailto:ann@xx.example"',
        ),
        (
            "mailto:dmarc@xx.example",
            "mailto:dmarc@else.example",
            "DMARC",
            "nobody sends reports about xx.example to else.example, which does not say that it wants them",
            'xx.example._report._dmarc.else.example. TXT "v=DMARC1"',
        ),
        (
            "v=TLSRPTv1; rua=mailto:",
            "v=TLSRPTv1; rua=",
            "TLSRPT",
            "domain xx.example asks for no reports of TLS",
            '_smtp._tls.xx.example. TXT "v=TLSRPTv1; rua=mailto:postmaster@xx.example"',
        ),
        (
            "SRV 0 1 993 mx.xx.example.",
            "SRV 0 1 994 old.xx.example.",
            "SRV",
            "domain xx.example has imaps at old.xx.example:994 (SRV), and not at mx.xx.example:993",
            "_imaps._tcp.xx.example. SRV 0 1 993 mx.xx.example.",
        ),
        (
            "_imaps._tcp.xx.example. 60 IN SRV 0 1 993",
            "_pop3s._tcp.xx.example. 60 IN SRV 0 1 995",
            "SRV",
            "domain xx.example has pop3s at mx.xx.example:995 (SRV), which this server does not offer",
            "_pop3s._tcp.xx.example. SRV 0 0 0 .",
        ),
    ],
)
def test_what_is_wrong_and_what_to_publish(
    config: Config, old: str, new: str, what: str, text: str, publish: str
) -> None:
    assert old in GOOD
    found = [each for each in seen(config, zone_of(GOOD.replace(old, new))).of(what) if each.text.startswith(text)]
    assert len(found) == 1
    assert found[0].state in ("wrong", "missing")
    told = [f"{each.name}. {each.type} {each.data}" for each in found[0].publish]
    assert publish in "\n".join(told)
    assert bool(publish) == bool(told)


def test_a_name_of_an_address_has_to_lead_back(config: Config) -> None:
    config.file.write_text(f'{config.file.read_text()}\n[relay]\nsource_address = ["8.8.8.8"]\n')
    zone = zone_of(GOOD + "8.8.8.8.in-addr.arpa. 60 IN PTR mx.xx.example.")
    found = seen(load(config.file), zone)
    (told,) = found.of("PTR")
    assert told.text.startswith("address 8.8.8.8 is called mx.xx.example (PTR), which does not lead back to it")
    assert told.is_problem
    # Mail comes from there, and from nowhere else.
    assert [each.is_problem for each in found.of("SPF")] == [True, True]
    assert found.of("SPF")[1].publish == [txt("xx.example", "v=spf1 ip4:8.8.8.8 mx -all")]


def test_a_host_that_is_another_name_of_one_is_told(config: Config) -> None:
    zone = zone_of(GOOD)
    zone.hosts["box.example"] = zone.hosts.pop("mx.xx.example")
    zone.aliases["mx.xx.example"] = "box.example"
    right, told = seen(config, zone).of("A")
    assert (right.state, told.state, told.is_problem) == ("right", "wrong", False)
    assert told.text.startswith("hostname mx.xx.example is another name of box.example (CNAME)")


def test_mail_may_come_by_another_name_of_this_host(config: Config) -> None:
    zone = zone_of(GOOD.replace("MX 10 mx.xx.example.", "MX 10 mail.xx.example.\nmail.xx.example. 60 IN A 8.8.4.4"))
    (told,) = seen(config, zone).of("MX")
    assert (told.state, told.text) == (
        "right",
        "domain xx.example has its mail here (MX), under the name mail.xx.example",
    )


def test_the_look_ups_of_spf_are_counted_with_those_of_others(config: Config) -> None:
    more = "\n".join(
        f's{number}.example. 60 IN TXT "v=spf1 include:s{number + 1}.example -all"' for number in range(12)
    )
    zone = zone_of(GOOD.replace("v=spf1 mx", "v=spf1 mx include:s0.example") + more)
    zone.txt["s12.example"] = [b"v=spf1 a mx ptr exists:%{i}.x.example ?all redirect=never.example"]
    (_, told) = seen(config, zone).of("SPF")
    assert told.text.startswith("the SPF record of xx.example takes 18 look-ups, of which 10 are allowed")
    assert told.is_problem
    zone.txt["s12.example"] = [b"v=spf1 include:s0.example"]
    (_, told) = seen(config, zone).of("SPF")
    assert told.text.startswith("the SPF record of xx.example takes 30 look-ups")


def test_with_a_smarthost_it_is_not_ours_that_spf_has_to_allow(config: Config) -> None:
    config.file.write_text(f'{config.file.read_text()}\n[route."*"]\nhost = "smtp.provider.example:587"\n')
    zone = zone_of(GOOD.replace("v=spf1 mx -all", "v=spf1 ip4:8.8.8.8 -all"))
    (_, told) = seen(load(config.file), zone).of("SPF")
    assert told.state == "right"
    assert "smtp.provider.example:587, whose addresses have to be among them" in told.text


def test_a_subdomain_goes_by_the_policy_above(config: Config) -> None:
    zone = zone_of(GOOD)
    zone.txt["_dmarc.example"] = [b"v=DMARC1; p=quarantine; sp=none; psd=n"]
    del zone.txt["_dmarc.xx.example"]
    (told,) = seen(config, zone).of("DMARC")
    assert (told.state, told.text) == ("right", "domain xx.example goes by the DMARC record of example (p=none)")


def test_reports_may_go_to_who_says_so(config: Config) -> None:
    zone = zone_of(GOOD.replace("mailto:dmarc@xx.example", "mailto:dmarc@else.example!10m"))
    zone.txt["xx.example._report._dmarc.else.example"] = [b"v=DMARC1"]
    (told,) = seen(config, zone).of("DMARC")
    assert told.state == "right"


def test_who_cannot_be_asked_about_reports_makes_nothing_of_ours_doubtful(config: Config) -> None:
    zone = zone_of(GOOD.replace("mailto:dmarc@xx.example", "mailto:dmarc@else.example"))
    zone.failing.add("_dmarc.else.example")
    (told,) = seen(config, zone).of("DMARC")
    assert (told.state, told.is_problem) == ("unknown", False)
    assert told.text == "nobody can say now whether else.example wants reports about xx.example"


def test_a_service_that_is_offered_must_not_be_denied(config: Config) -> None:
    zone = zone_of(GOOD.replace("SRV 0 1 993 mx.xx.example.", "SRV 0 0 0 ."))
    texts = [each.text for each in seen(config, zone).of("SRV") if each.state == "wrong"]
    assert texts == ["domain xx.example says that it has no imaps (SRV), which is at mx.xx.example:993"]


def test_what_dns_has_writes_nothing_to_the_terminal_but_text(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    evil = {"_dmarc.xx.example TXT": [r'"v=DMARC1; p=\027[31m"'], "mx.xx.example A": ["8.8.4.4"]}
    with name_server(evil) as (_, port):
        config.file.write_text(f'{config.file.read_text()}\n[dns]\nservers = ["127.0.0.1#{port}"]\n')
        for words in (("dns",), ("dns", "--zone"), ("dns", "--json"), ("check", "--dns")):
            told = mailhub(*words).out
            assert "[31m" in told or "--zone" in words
            assert "\x1b" not in told


def test_a_certificate_that_dane_does_not_know_matters_where_dnssec_vouches(config: Config) -> None:
    zone = zone_of(f"{GOOD}_25._tcp.mx.xx.example. 60 IN TLSA 3 1 1 {'ab' * 32}")
    assert [each.is_problem for each in seen(config, zone).of("TLSA")] == [False, False]
    zone.secure.add("mx.xx.example")
    (told,) = seen(config, zone).of("TLSA")
    assert told.is_problem
    assert told.text.startswith("no TLSA record of mx.xx.example fits ")
    (wanted,) = told.publish
    zone.load(wanted.in_zone)
    (told,) = seen(config, zone).of("TLSA")
    assert told.state == "right"


def test_what_cannot_be_asked_is_not_known_and_counts(config: Config) -> None:
    zone = zone_of(GOOD)
    zone.failing.add("_dmarc.xx.example")
    (told,) = seen(config, zone).of("DMARC")
    assert (told.state, told.is_problem) == ("unknown", True)
    assert told.text == "domain xx.example: DNS gives no answer about _dmarc.xx.example"


def test_a_policy_of_mta_sts_that_leads_elsewhere_matters(config: Config) -> None:
    zone = zone_of(GOOD)
    (told,) = seen(config, zone, POLICY.replace(b"mx: mx", b"mx: my")).of("MTA-STS")
    assert told.is_problem
    assert "mx: mx.xx.example" in told.beside
    (told,) = seen(config, zone, POLICY.replace(b"mx: mx", b"mx: my").replace(b"enforce", b"testing")).of("MTA-STS")
    assert (told.state, told.is_problem) == ("wrong", False)
    (told,) = seen(config, zone, None).of("MTA-STS")
    assert told.text == "the MTA-STS policy of xx.example cannot be had: mta-sts.xx.example answers 404"


def test_what_dns_has_and_is_not_replaced_stays(config: Config) -> None:
    topic = Topic("X", "domain xx.example", "", [], lambda world: NotImplemented)
    one, two, other = Record("a", "A", "1"), Record("a", "A", "2"), Record("b", "A", "3")
    assert should_be(topic, [Looked("wrong", "", [one, other], [two]), Looked("right", "", [other])]) == [other, two]


@pytest.mark.parametrize(
    ("octets", "data"),
    [
        (b"", '""'),
        (b"v=spf1 -all", '"v=spf1 -all"'),
        (b"a" * 300, f'"{"a" * 255}" "{"a" * 45}"'),
        (b'say "a\\b"\n\xff', r'"say \"a\\b\"\010\255"'),
    ],
)
def test_texts_are_written_as_a_zone_file_has_them(octets: bytes, data: str) -> None:
    record = txt("xx.example", octets)
    assert record.data == data
    zone = zone_of(record.in_zone)
    assert zone.txt["xx.example"] == [octets]


# --- DKIM -------------------------------------------------------------------------------------------------------------


NOW = int(time.time())
OLD = KeptKey(SigningKey("xx.example", "old", new_key("ed25519")), NOW - 100, "active", NOW - 90)
NEW = KeptKey(SigningKey("xx.example", "new", new_key("ed25519")), NOW - 10)
OVER = KeptKey(SigningKey("xx.example", "over", new_key("ed25519")), NOW - 900, "retired", NOW - 800, NOW + 864_000)


def of_keys(config: Config, *keys: KeptKey, **there: bytes | str) -> list[tuple[str, bool, str]]:
    zone = zone_of(GOOD)
    for selector, record in there.items():
        octets = record if isinstance(record, bytes) else record.encode()
        zone.txt[f"{selector}._domainkey.xx.example"] = [octets]
    return [(each.state, each.is_problem, each.text) for each in seen(config, zone, keys=keys).of("DKIM")]


def test_each_key_has_its_record(config: Config) -> None:
    assert of_keys(config, OVER, OLD, NEW, old=OLD.key.record, new=NEW.key.record, over=OVER.key.record) == [
        (
            "right",
            False,
            "DKIM key over of xx.example (ed25519) signs no more; its record is needed until "
            f"{datetime.fromtimestamp(OVER.until, UTC):%Y-%m-%d}",
        ),
        ("right", False, "DKIM key old of xx.example (ed25519) signs, and is in DNS"),
        ("right", False, "DKIM key new of xx.example (ed25519) is in DNS"),
    ]


def test_a_key_that_signs_and_cannot_be_verified_is_a_problem(config: Config) -> None:
    assert of_keys(config, OLD, NEW) == [
        ("missing", True, "DKIM key old of xx.example (ed25519) signs, and is not in DNS"),
        ("missing", False, "DKIM key new of xx.example (ed25519) signs once DNS has its record, and is not in DNS"),
    ]
    # Without another nothing is signed.
    assert [each[1] for each in of_keys(config, NEW)] == [True]
    for record, reason in ((NEW.key.record, "record is of another key"), (b"v=DKIM1; p=", "key was revoked")):
        assert of_keys(config, OLD, old=record) == [
            ("wrong", True, f"DKIM key old of xx.example (ed25519) signs, and DNS has another record: {reason}")
        ]
    ((state, problem, text),) = of_keys(config, OVER)
    assert (state, problem) == ("missing", False)
    assert "mail that is on its way needs it until" in text
    assert of_keys(config, attrs.evolve(OVER, until=NOW - 1)) == []
    zone = zone_of(GOOD)
    (told,) = seen(config, zone, keys=[OLD]).of("DKIM")
    assert told.publish == [txt("old._domainkey.xx.example", OLD.key.record)]


def test_a_domain_without_a_key_is_told_how_to_get_one(config: Config) -> None:
    ((state, problem, text),) = of_keys(config)
    assert (state, problem) == ("missing", True)
    assert text.endswith("`mailhub dkim add xx.example` makes one")


def test_a_domain_is_signed_for_by_the_keys_of_the_one_above(config: Config) -> None:
    above = KeptKey(SigningKey("example", "up", new_key("rsa")), NOW, "active", NOW)
    zone = zone_of(GOOD)
    zone.txt["up._domainkey.example"] = [above.key.record.encode()]
    (told,) = seen(config, zone, keys=[above]).of("DKIM")
    assert told.text == "DKIM key up of example (rsa) signs, and is in DNS"
    # In strings that DNS can have.
    assert told.found[0].data.count('"') == 4


def test_keys_of_the_database_are_looked_for(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    with opened(config) as hub:
        hub.wait(KeptKeys(hub.database.state.of(PART)).put([OLD]))
    zone = zone_of(mailhub("dns", "--no-dns", "--zone").out)
    assert zone.txt["old._domainkey.xx.example"] == [OLD.key.record.encode()]
    with name_server({"mx.xx.example A": ["8.8.4.4"]}) as (_, port):
        config.file.write_text(f'{config.file.read_text()}\n[dns]\nservers = ["127.0.0.1#{port}"]\n')
        line = "DKIM key old of xx.example (ed25519) signs, and is not in DNS\n"
        assert f"problem  DKIM     {line}" in mailhub("dns").out
        assert f"warning  {line}" in mailhub("check", "--dns").out
        config.file.write_text(f"{config.file.read_text()}\n[dkim]\nsign = false\n")
        assert "DKIM" not in mailhub("dns").out


# --- BIMI -------------------------------------------------------------------------------------------------------------


@attrs.define
class Web:
    """Gives every page the same answer."""

    answer: Answer | TemporaryError
    asked: list[tuple[str, str, int]] = attrs.field(factory=list)

    async def get(self, host: str, path: str, *, limit: int, seconds: float) -> Answer:
        self.asked.append((host, path, limit))
        if isinstance(self.answer, TemporaryError):
            raise self.answer
        return self.answer


def of_logo(config: Config, record: bytes, web: Web | None = None) -> tuple[str, str]:
    zone = zone_of(GOOD)
    zone.txt["default._bimi.xx.example"] = [record]
    (told,) = seen(config, zone, https=web).of("BIMI")
    assert not told.is_problem
    return told.state, told.text


def test_a_logo_of_our_own_is_fetched_and_looked_at(config: Config) -> None:
    record = b"v=BIMI1; l=https://xx.example/logo.svg?a=1"
    web = Web(Answer(200, "image/svg+xml", LOGO))
    said = "domain xx.example has a logo that can be shown (BIMI); nobody vouches for it, which some want (a=)"
    assert of_logo(config, record, web) == ("right", said)
    assert web.asked == [("xx.example", "/logo.svg?a=1", 32768)]
    vouched = record + b"; a=https://xx.example/vmc.pem"
    assert of_logo(config, vouched, web)[1].endswith("(BIMI); https://xx.example/vmc.pem is to vouch for it")
    for answer, fault in (
        (Answer(404, "text/html", b""), "cannot be had: xx.example answers 404"),
        (Answer(200, "text/plain", LOGO), "is given out as 'text/plain' and not as image/svg+xml"),
        (TemporaryError("xx.example cannot be reached"), "cannot be had: xx.example cannot be reached"),
        (
            Answer(200, "image/svg+xml", LOGO.replace(b"tiny-ps", b"tiny").replace(b"<title>Example</title>", b"")),
            'has no baseProfile="tiny-ps"; it has no title',
        ),
    ):
        assert of_logo(config, record, Web(answer)) == ("wrong", f"the logo of xx.example (BIMI) {fault}")


def test_a_logo_needs_a_record_and_a_policy(config: Config) -> None:
    assert seen(config, zone_of(GOOD)).of("BIMI") == []
    assert of_logo(config, b"v=BIMI1; l=; a=") == ("right", "domain xx.example says that it has no logo (BIMI)")
    assert of_logo(config, b"v=BIMI1; l=http://xx.example/x") == (
        "wrong",
        "the BIMI record of xx.example cannot be used: 'http://xx.example/x' is no HTTPS URI",
    )
    zone = zone_of(GOOD.replace("p=reject", "p=none"))
    zone.txt["default._bimi.xx.example"] = [b"v=BIMI1; l=https://xx.example/x"]
    (told,) = seen(config, zone).of("BIMI")
    assert told.text == "nobody shows the logo of xx.example (BIMI): DMARC policy of xx.example is not enforced"


# --- The command ------------------------------------------------------------------------------------------------------


def test_without_dns_it_says_what_there_should_be(mailhub: Command, config: Config) -> None:
    told = mailhub("dns", "--no-dns")
    assert (told.status, told.err) == (0, "")
    assert '  xx.example.  TXT  "v=spf1 mx -all"\n' in told.out
    assert "  mx.xx.example.  A  <its public IPv4 address>\n" in told.out
    assert "  _imaps._tcp.xx.example.  SRV  0 1 993 mx.xx.example.\n" in told.out
    assert "  _pop3._tcp.xx.example.  SRV  0 0 0 .\n" in told.out
    zone = zone_of(mailhub("dns", "xx.example", "--no-dns", "--zone").out)
    assert zone.txt["xx.example"] == [b"v=spf1 mx -all"]
    assert zone.dane["_25._tcp.mx.xx.example"]
    assert not zone.hosts
    listed = json.loads(mailhub("dns", "--no-dns", "--json").out)["records"]
    assert {"what": "MX", "state": None}.items() <= listed[4].items()
    assert listed[4]["publish"] == [{"name": "xx.example", "type": "MX", "data": "10 mx.xx.example.", "is_known": True}]


def test_it_asks_the_configured_servers_and_its_status_says_what_it_found(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    zone = {
        "mx.xx.example A": ["8.8.4.4"],
        "4.4.8.8.in-addr.arpa PTR": ["mx.xx.example."],
        "xx.example MX": ["10 mx.xx.example."],
        "xx.example TXT": ['"v=spf1 mx -all"'],
        "_dmarc.xx.example TXT": ['"v=DMARC1; p=none; rua=mailto:ann@xx.example"'],
    }
    with name_server(zone) as (asked, port):
        more = f'[dns]\nservers = ["127.0.0.1#{port}"]\n[dkim]\nsign = false\n'
        config.file.write_text(f"{config.file.read_text()}\n{more}")
        found = mailhub("dns")
        assert "ok       MX       domain xx.example has its mail here (MX)\n" in found.out
        assert "         has      xx.example.  MX  10 mx.xx.example.\n" in found.out
        assert "warning  TLSRPT   domain xx.example asks for no reports of TLS" in found.out
        assert (
            '         publish  _smtp._tls.xx.example.  TXT  "v=TLSRPTv1; rua=mailto:postmaster@xx.example"\n'
            in found.out
        )
        assert "problem" not in found.out
        assert found.status == 0
        zone["xx.example TXT"] = ['"v=spf1 -all"']
        found = mailhub("dns", "--json")
        assert found.status == 1
        told = json.loads(found.out)
        assert not told["ok"]
        (spf,) = [each for each in told["records"] if each["what"] == "SPF" and each["of"] == "domain xx.example"]
        assert (spf["state"], spf["matters"]) == ("wrong", True)
        assert spf["found"][0]["data"] == '"v=spf1 -all"'
        assert spf["publish"][0]["data"] == '"v=spf1 ip4:8.8.4.4 -all"'
        assert "_imaps._tcp.xx.example SRV" in asked


def test_only_domains_of_ours_are_looked_at(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    mailhub("domain", "add", "zz.example")
    told = mailhub("dns", "yy.example", "--no-dns")
    assert told.status == 1
    assert "yy.example is not one of our domains" in told.err
    assert "zz.example.  MX  10 mx.xx.example." in mailhub("dns", "--no-dns").out
    assert "xx.example.  MX" not in mailhub("dns", "zz.example", "--no-dns").out
