"""`mailhub check --dns`: how others see this server."""

from __future__ import annotations

import time
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import Clock

from mailhub.cli.check_dns import Look
from mailhub.cli.finding import Finding
from mailhub.cli.offline import environment
from mailhub.config.settings import Config, load
from mailhub.delivery.relay.sts import PolicyFailure
from mailhub.interfaces import TlsaRecord
from mailhub.net.certificates import write_self_signed
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.waiting import result_of
from tests.cli.conftest import Command
from tests.cli.zone import name_server

GOOD = """
mx.xx.example. 60 IN A 8.8.4.4
8.8.4.4.in-addr.arpa. 60 IN PTR mx.xx.example.
4.4.8.8.in-addr.arpa. 60 IN PTR mx.xx.example.
xx.example. 60 IN MX 10 mx.xx.example.
xx.example. 60 IN TXT "v=spf1 mx -all"
_mta-sts.xx.example. 60 IN TXT "v=STSv1; id=7"
_smtp._tls.xx.example. 60 IN TXT "v=TLSRPTv1; rua=mailto:tls@xx.example"
"""
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.xx.example\nmax_age: 86400\n"


class Zone(FakeResolver):
    """What others see, with the policy of the domain."""

    def __init__(self) -> None:
        super().__init__(Clock())
        self.load(GOOD)
        self.policy: bytes | None = POLICY

    async def fetch(self, domain: str) -> bytes:
        if self.policy is None:
            raise PolicyFailure("sts-policy-fetch-error", f"mta-sts.{domain} answers 404")
        return self.policy


@pytest.fixture
def zone() -> Zone:
    return Zone()


def found(config: Config, zone: Zone) -> list[Finding]:
    look = Look(config, attrs.evolve(environment(config), resolver=zone), zone.fetch)

    async def everything() -> list[Finding]:
        return [finding async for finding in look.at_all(config.domains)]

    return result_of(everything())


def warnings(config: Config, zone: Zone) -> list[str]:
    assert all(good is not False for good, _ in found(config, zone))
    return [line for good, line in found(config, zone) if good is None]


def test_nothing_is_wrong_where_all_is_there(config: Config, zone: Zone) -> None:
    assert found(config, zone) == [
        (True, "hostname mx.xx.example has 8.8.4.4"),
        (True, "address 8.8.4.4 is called mx.xx.example (PTR)"),
        (True, "domain xx.example has its mail here (MX)"),
        (True, "domain xx.example has an MTA-STS policy (mode enforce)"),
    ]


def test_what_is_missing_is_named_with_what_to_do(config: Config, zone: Zone) -> None:
    zone.hosts["mx.xx.example"] = []
    zone.exchangers["xx.example"] = []
    zone.txt.clear()
    told = warnings(config, zone)
    for part in (
        "hostname mx.xx.example has no address in DNS",
        "domain xx.example has no MX record: add one that names mx.xx.example",
        "domain xx.example does not say who may send for it",
        "domain xx.example has no MTA-STS policy",
        "domain xx.example asks for no reports of TLS",
    ):
        assert [line for line in told if part in line], part
    assert len(told) == 5


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("ptr", "address 8.8.4.4 is called other.example (PTR), and not mx.xx.example"),
        ("no ptr", "address 8.8.4.4 has no name (PTR), and not mx.xx.example"),
        ("private", "address 10.0.0.1 is of no use to the rest of the world"),
        ("mx", "domain xx.example has its mail at mx.other.example (MX), and not at mx.xx.example"),
        ("null mx", "domain xx.example says that it takes no mail (null MX)"),
        ("record", "_mta-sts.xx.example has no single record"),
        ("no policy", "the MTA-STS policy of xx.example cannot be had: mta-sts.xx.example answers 404"),
        ("bad policy", "the MTA-STS policy of xx.example is wrong: "),
        ("other policy", "the MTA-STS policy of xx.example does not name mx.xx.example"),
        ("failing", "domain xx.example: "),
        ("tlsa", "mx.xx.example has TLSA records, and no TLS is configured"),
    ],
)
def test_what_is_wrong_is_told(config: Config, zone: Zone, wrong: str, line: str) -> None:
    match wrong:
        case "ptr":
            zone.ptr["8.8.4.4"] = ["other.example"]
        case "no ptr":
            zone.ptr.clear()
        case "private":
            zone.hosts["mx.xx.example"] = ["10.0.0.1"]
        case "mx" | "null mx":
            zone.exchangers["xx.example"] = []
            zone.add("xx.example", "mx.other.example" if wrong == "mx" else "", "192.0.2.1")
        case "record":
            zone.txt["_mta-sts.xx.example"] = [b"v=STSv1; id="]
        case "no policy":
            zone.policy = None
        case "bad policy":
            zone.policy = b"mode: x"
        case "other policy":
            zone.policy = POLICY.replace(b"mx: mx.xx", b"mx: mx.yy")
        case "failing":
            zone.failing.add("xx.example")
        case "tlsa":
            zone.dane["_25._tcp.mx.xx.example"] = [TlsaRecord(3, 1, 1, bytes(32))]
            zone.secure.add("mx.xx.example")
    assert [each for each in warnings(config, zone) if each.startswith(line)], warnings(config, zone)


def test_tlsa_records_are_compared_with_the_certificate(config: Config, zone: Zone, tmp_path: Path) -> None:
    config.file.write_text(f'{config.file.read_text()}\n[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n')
    write_self_signed(tmp_path / "c.pem", tmp_path / "k.pem", ["mx.xx.example"], 30, time.time())
    config = load(config.file)
    leaf = x509.load_pem_x509_certificates((tmp_path / "c.pem").read_bytes())[0]
    name = "_25._tcp.mx.xx.example"
    zone.secure.add("mx.xx.example")
    zone.dane[name] = [TlsaRecord(3, 1, 1, bytes(32))]
    (line,) = warnings(config, zone)
    assert line.startswith("no TLSA record of mx.xx.example fits ")
    zone.dane[name].append(TlsaRecord(3, 0, 0, leaf.public_bytes(Encoding.DER)))
    assert (True, "a TLSA record of mx.xx.example fits the certificate") in found(config, zone)
    zone.secure.clear()
    (line,) = warnings(config, zone)
    assert "not vouched for by DNSSEC" in line


def test_the_lists_that_we_go_by_are_asked_about_ourselves(config: Config, zone: Zone) -> None:
    policy = '[policy.dnsbl]\ntype = "dnsbl"\nlists = ["bl.example", "good.example*-3"]\n'
    config.file.write_text(f"{config.file.read_text()}\n{policy}")
    config = load(config.file)
    assert (True, "address 8.8.4.4 is on none of the lists of [policy]") in found(config, zone)
    zone.hosts["4.4.8.8.bl.example"] = ["127.0.0.2"]
    zone.txt["4.4.8.8.bl.example"] = [b"see https://bl.example"]
    (line,) = warnings(config, zone)
    assert line.startswith("address 8.8.4.4 is listed by bl.example, which says: see https://bl.example")


def test_dns_is_asked_where_it_is_wanted(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    with name_server({"mx.xx.example A": ["8.8.4.4"], "4.4.8.8.in-addr.arpa PTR": ["mx.xx.example."]}) as (asked, port):
        config.file.write_text(f'{config.file.read_text()}\n[dns]\nservers = ["127.0.0.1#{port}"]\n')
        mailhub("check")
        assert not asked
        told = mailhub("check", "--dns").out
    assert "ok       address 8.8.4.4 is called mx.xx.example (PTR)\n" in told
    assert "warning  domain xx.example: " in told
