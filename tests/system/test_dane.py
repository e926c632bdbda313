"""DANE between two hubs, by a signed zone that unbound checks, behind a name server that says nothing."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.message
import dns.rdatatype
import dns.zone
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailhub.testing.process import DEADLINE, ServerProcess, eventually, free_ports, insecure_tls
from tests.system.conftest import need

pytestmark = pytest.mark.system

A, B, PASSWORD = "a@xx.example", "b@yy.example", "correct horse"
KINDS = ("good", "wrong", "bogus", "none", "unusable", "alias", "forged")
# These lead to a zone that nobody vouches for.
ALIASES = ("alias", "forged")
_UNBOUND = """\
server:
  interface: 127.0.0.1
  port: {port}
  do-daemonize: no
  use-syslog: no
  chroot: ""
  username: ""
  pidfile: ""
  directory: "{folder}"
  module-config: "validator iterator"
  trust-anchor-file: "{folder}/anchor"
auth-zone:
  name: "zone.example"
  zonefile: "{folder}/zone"
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
auth-zone:
  name: "plain.example"
  zonefile: "{folder}/plain"
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
"""
_PLAIN = """\
@ 60 IN SOA ns admin 1 3600 600 86400 60
@ 60 IN NS ns
ns 60 IN A 127.0.0.1
host 60 IN A 127.0.0.1
"""


def sign(folder: Path, port: int, key_digest: str) -> None:
    """A zone with a host of each kind, all at our own address, and its key."""
    lines = ["@ 60 IN SOA ns admin 1 3600 600 86400 60", "@ 60 IN NS ns", "ns 60 IN A 127.0.0.1"]
    for kind in KINDS:
        lines.append(f"{kind} 60 IN " + ("CNAME host.plain.example." if kind in ALIASES else "A 127.0.0.1"))
        if kind != "none":
            digest = "00" * 32 if kind in ("wrong", "forged", "unusable") else key_digest
            usage = 1 if kind == "unusable" else 3
            lines.append(f"_{port}._tcp.{kind} 60 IN TLSA {usage} 1 1 {digest}")
    zone = dns.zone.from_text("\n".join(lines), origin="zone.example.", relativize=False)
    key = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(key.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
    now = time.time()
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(zone, transaction, [(key, public)], inception=now - 3600, expiration=now + 86400)
    text = zone.to_text(relativize=False)
    # Somebody changes what was signed.
    bogus = f"_{port}._tcp.bogus.zone.example. 60 IN TLSA 3 1 1 "
    assert bogus in text
    (folder / "zone").write_text(text.replace(bogus + key_digest, bogus + "11" * 32))
    (folder / "plain").write_text(_PLAIN)
    (folder / "anchor").write_text(f"zone.example. 60 IN DNSKEY {public.to_text()}\n")


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    need("unbound")
    folder = tmp_path_factory.mktemp("dane")
    (port,) = free_ports(1)
    yy = ServerProcess(folder / "yy", "yy.example", {B: PASSWORD})
    yy.extra = "[domain_aliases]\n" + "".join(f'"{kind}.example" = "yy.example"\n' for kind in KINDS)
    xx = ServerProcess(folder / "xx", "xx.example", {A: PASSWORD})
    with yy, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        certificate = x509.load_pem_x509_certificate((yy.folder / "fullchain.pem").read_bytes())
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        sign(folder, yy.ports["smtp"], sha256(spki).hexdigest())
        (folder / "unbound.conf").write_text(_UNBOUND.format(port=port, folder=folder))
        routes = "".join(
            f'[route."{kind}.example"]\nhost = "{kind}.zone.example:{yy.ports["smtp"]}"\n' for kind in KINDS
        )
        servers = f'["127.0.0.1#{silent.getsockname()[1]}", "127.0.0.1#{port}"]'
        xx.extra = f"[dns]\nservers = {servers}\n{routes}"
        unbound = subprocess.Popen(["unbound", "-c", str(folder / "unbound.conf")], stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: answers(port), "unbound answers")
            with xx:
                yield xx, yy
        finally:
            unbound.terminate()
            unbound.wait(DEADLINE)


def answers(port: int) -> bool:
    query = dns.message.make_query("good.zone.example.", "A")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, contextlib.suppress(OSError):
        asking.settimeout(0.2)
        asking.sendto(query.to_wire(), ("127.0.0.1", port))
        return dns.message.from_wire(asking.recv(4096)).rcode() == 0
    return False


def send(xx: ServerProcess, kind: str) -> None:
    with smtplib.SMTP("127.0.0.1", xx.ports["submission"], timeout=DEADLINE) as client:
        client.starttls(context=insecure_tls())
        client.login(A, PASSWORD)
        client.sendmail(A, [f"b@{kind}.example"], f"Subject: {kind}\r\n\r\nHow are you?\r\n")


@pytest.mark.parametrize("kind", ["good", "none", "unusable", "alias"])
def test_mail_goes_to_a_host_that_its_records_fit_or_that_has_none(
    hubs: tuple[ServerProcess, ServerProcess], kind: str
) -> None:
    xx, yy = hubs
    send(xx, kind)

    def arrived() -> bool:
        return any(f"Subject: {kind}".encode() in octets for octets in yy.messages(B))

    eventually(arrived, f"mail by way of {kind}.zone.example", 2 * DEADLINE)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("wrong", "TLSA record fits"),
        ("forged", "TLSA record fits"),
        ("bogus", "TLSA records of bogus.zone.example cannot be looked up"),
    ],
)
def test_mail_waits_where_no_record_fits_or_a_signature_is_wrong(
    hubs: tuple[ServerProcess, ServerProcess], kind: str, told: str
) -> None:
    xx, yy = hubs
    send(xx, kind)

    def waits() -> bool:
        return told in xx.command("queue", "list").stdout

    eventually(waits, f"mail waits for {kind}.zone.example", 3 * DEADLINE)
    assert not any(f"Subject: {kind}".encode() in octets for octets in yy.messages(B))
