"""MTA-STS between real processes (RFC 8461): exchangers at port 25, policies at port 443, names by a name server."""

from __future__ import annotations

import contextlib
import json
import smtplib
import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailhub.cli.offline import opened
from mailhub.config.settings import load
from mailhub.testing.process import DEADLINE, ServerProcess, eventually, insecure_tls
from tests.net.certificate_chains import Issued, issue
from tests.system.own_network import NameServer, WebServer, own_network

pytestmark = pytest.mark.system

A, B, PASSWORD = "a@xx.example", "b@yy.example", "correct horse"
EXCHANGER, WEB, EXPIRED, UNKNOWN = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
ROOT = issue("root", authority=True)
TEXT = {"Content-Type": "text/plain"}
# The domains of recipients: the host that takes their mail, the mode of their policy, and whom that allows.
DOMAINS = {
    "good": ("mx.yy.example", "enforce", "mx.yy.example"),
    "below": ("mx.yy.example", "enforce", "*.yy.example"),
    "name": ("other.yy.example", "enforce", "other.yy.example"),
    "expired": ("expired.example", "enforce", "expired.example"),
    "unknown": ("unknown.example", "enforce", "unknown.example"),
    "unlisted": ("mx.yy.example", "enforce", "mx.elsewhere.example"),
    "testing": ("other.yy.example", "testing", "mx.elsewhere.example"),
    "unreachable": ("other.yy.example", "enforce", "mx.elsewhere.example"),
    "moved": ("mx.yy.example", "enforce", "mx.yy.example"),
    "kept": ("mx.yy.example", "enforce", "mx.yy.example"),
}
# What keeps mail where it must not go.
REFUSED = {
    "name": "Certificate is for another host",
    "expired": "Certificate has expired",
    "unknown": "Certificate is not trusted",
    "unlisted": "Policy of unlisted.example has no exchanger mx.yy.example",
}


class _StartTls(socketserver.ThreadingTCPServer):
    """An exchanger that comes as far as STARTTLS, and takes no message after it either."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self.context = context
        super().__init__((address, 25), _StartTlsVisit)


class _StartTlsVisit(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        for reply in (b"220 mx ESMTP\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go on\r\n"):
            self.wfile.write(reply)
            self.rfile.readline()
            if reply.startswith(b"250-"):
                self.wfile.write(b"220 go on\r\n")
                with contextlib.suppress(OSError), server.context.wrap_socket(self.request, server_side=True) as inner:
                    inner.sendall(b"554 nobody should be here\r\n")
                return


@attrs.frozen
class World:
    xx: ServerProcess
    yy: ServerProcess
    names: NameServer
    web: WebServer

    def send(self, domain: str, subject: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.xx.ports["submission"], timeout=DEADLINE) as client:
            client.starttls(context=insecure_tls())
            client.login(A, PASSWORD)
            client.sendmail(A, [f"b@{domain}.example"], f"Subject: {subject}\r\n\r\nHow are you?\r\n")

    def has_arrived(self, subject: str) -> bool:
        return any(f"Subject: {subject}\r\n".encode() in octets for octets in self.yy.messages(B))

    def arrives(self, domain: str, subject: str) -> None:
        self.send(domain, subject)
        eventually(lambda: self.has_arrived(subject), f"mail for {domain}.example")

    def waiting(self, domain: str) -> list[Any]:
        """The recipients of a domain that are in the queue."""
        found = json.loads(self.xx.command("queue", "list", "--messages", "--json").stdout)
        return [row for each in found for row in each["recipients"] if row["address"] == f"b@{domain}.example"]

    def waits(self, domain: str, told: str, attempts: int = 1) -> None:
        """Mail is tried so often, and what keeps it is told."""
        subject = f"{domain} waits"
        if not self.waiting(domain):
            self.send(domain, subject)

        def put_off() -> bool:
            rows = self.waiting(domain)
            return any(told in (row["last_reply"] or "") and row["attempts"] >= attempts for row in rows)

        eventually(put_off, f"mail waits for {domain}.example: {told}", 2 * DEADLINE)
        assert not self.has_arrived(subject)

    def publish(self, domain: str, id: str, page: tuple[int, dict[str, str], bytes]) -> None:
        host = f"mta-sts.{domain}.example"
        self.names.records = [each for each in self.names.records if not each.startswith(f"_mta-sts.{domain}.")]
        self.names.records.append(f'_mta-sts.{domain}.example. TXT "v=STSv1; id={id};"')
        self.web.pages[host] = page


def policy(mode: str, mx: str) -> tuple[int, dict[str, str], bytes]:
    return 200, TEXT, f"version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n".encode()


def write(issued: Issued, folder: Path) -> tuple[Path, Path]:
    chain, key = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in issued.chain))
    key.write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, key


def context(issued: Issued, folder: Path) -> ssl.SSLContext:
    folder.mkdir()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*write(issued, folder))
    return made


def records() -> list[str]:
    found = [
        f"mx.yy.example. A {EXCHANGER}",
        f"other.yy.example. A {EXCHANGER}",
        f"expired.example. A {EXPIRED}",
        f"unknown.example. A {UNKNOWN}",
    ]
    for domain, (host, _, _) in DOMAINS.items():
        found += [f"{domain}.example. MX 10 {host}.", f"mta-sts.{domain}.example. A {WEB}"]
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sts")
    authority = folder / "root.pem"
    authority.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    web = issue("web", ROOT, names=[f"mta-sts.{each}.example" for each in DOMAINS if each != "unreachable"])
    expired = issue("expired.example", ROOT, days=-1)
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_network("192.0.2.0/24"))
        names = stack.enter_context(NameServer("127.0.0.1", records()))
        site = stack.enter_context(WebServer(WEB, context(web, folder / "web")))
        for address, issued in ((EXPIRED, expired), (UNKNOWN, issue("unknown.example"))):
            server = stack.enter_context(_StartTls(address, context(issued, folder / address)))
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
        yy = ServerProcess(folder / "yy", "yy.example", {B: PASSWORD})
        yy.ports["smtp"] = 25
        aliases = "".join(f'"{each}.example" = "yy.example"\n' for each in DOMAINS)
        yy.extra = f"[domain_aliases]\n{aliases}"
        yy.prepare()
        yy.config.write_text(
            yy.config.read_text().replace("tcp:25:interface=127.0.0.1", f"tcp:25:interface={EXCHANGER}")
        )
        write(issue("mx.yy.example", ROOT), yy.folder)
        xx = ServerProcess(folder / "xx", "xx.example", {A: PASSWORD})
        xx.extra = (
            f'[dns]\nservers = ["127.0.0.1"]\n[queue]\nretry_seconds = [1]\n[relay]\nca_file = "{authority}"\n'
            "[limits]\nrelay_unreachable_seconds = 1\n"
        )
        made = World(xx, yy, names, site)
        for domain, (_, mode, mx) in DOMAINS.items():
            made.publish(domain, "1", policy(mode, mx))
        xx.prepare()
        for hub in (yy, xx):
            hub.start()
            stack.push(hub.__exit__)
        yield made


@pytest.mark.parametrize("domain", ["good", "below", "testing", "unreachable"])
def test_mail_goes_to_an_exchanger_that_is_as_the_policy_says_or_where_none_is_enforced(
    world: World, domain: str
) -> None:
    world.arrives(domain, f"{domain} arrives")


@pytest.mark.parametrize(
    ("domain", "told", "attempts"),
    [(domain, told, 2 if domain in ("name", "unlisted") else 1) for domain, told in REFUSED.items()],
)
def test_mail_waits_where_the_exchanger_is_another_than_the_policy_says(
    world: World, domain: str, told: str, attempts: int
) -> None:
    world.waits(domain, told, attempts)


@pytest.mark.parametrize(
    "page",
    [
        (301, {**TEXT, "Location": "https://mta-sts.good.example/.well-known/mta-sts.txt"}, b""),
        (200, {"Content-Type": "text/html"}, policy("none", "mx.yy.example")[2]),
        (200, TEXT, b"x: y\n" * 2_000_000),
        (200, TEXT, b"nonsense"),
    ],
)
def test_a_web_server_that_is_no_good_takes_no_policy_away(world: World, page: Any) -> None:
    host = "mta-sts.moved.example"
    if host not in world.web.asked:
        world.arrives("moved", "moved arrives")
    before = len(world.web.asked)
    world.publish("moved", str(before), page)
    world.arrives("moved", f"moved {before}")
    assert world.web.asked[before:] == [host]


def test_a_policy_is_kept_over_a_restart_and_failures_are_counted(world: World) -> None:
    for domain in ("kept", "testing", "unreachable"):
        world.arrives(domain, f"{domain} before")
    for domain, told in REFUSED.items():
        world.waits(domain, told)
    world.xx.stop()
    with opened(load(world.xx.config), "read") as hub:
        counted = hub.wait(hub.database.state.of("tls").items("tlsrpt "))
    found = {name.split(" ")[2]: octets.decode() for name, octets in counted.items()}
    # Over a connection that another domain's mail has left open, with the same exchanger, it is no session of its own.
    assert '"total-successful-session-count":0' not in (found.get("kept.example") or found["good.example"])
    for domain, kind in {
        "name": "certificate-host-mismatch",
        "expired": "certificate-expired",
        "unknown": "certificate-not-trusted",
        "testing": "certificate-host-mismatch",
        "unlisted": "validation-failure",
        "unreachable": "sts-webpki-invalid",
    }.items():
        assert f'"result-type":"{kind}"' in found[f"{domain}.example"]
    # Nobody tells of the policy any more, and somebody else wants the mail.
    world.names.records = [each for each in world.names.records if "kept.example." not in each]
    world.names.records.append("kept.example. MX 10 other.yy.example.")
    world.xx.start()
    world.waits("kept", "Policy of kept.example has no exchanger other.yy.example")
