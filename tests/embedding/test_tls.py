"""TLS of the factories, with the real reactor and real clients."""

from __future__ import annotations

import imaplib
import os
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailhub.net.certificates import self_signed
from mailhub.testing.process import DEADLINE, free_ports, insecure_tls

SERVER = """
import sys
from twisted.cred.checkers import AllowAnonymousAccess, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet import endpoints, reactor, ssl
from mailhub.api import IMailReceiver, SimpleStore, StoreRealm, imap_factory, smtp_factory

class Empty(SimpleStore):
    def users(self): return ["ann@xx.example"]
    def messages(self, user, folder): return []
    def read(self, user, folder, key): return b""

class Sink:
    def requestAvatar(self, avatar_id, mind, *interfaces): return IMailReceiver, self, lambda: None
    def recipient(self, recipient, transaction): pass
    async def message(self, message): return message.origin.tls.partition("/")[0]

users = InMemoryUsernamePasswordDatabaseDontUse()
users.addUser(b"ann@xx.example", b"secret")
files = ("certificate.pem", "key.pem")
with open("certificate.pem") as certificate, open("key.pem") as key:
    options = ssl.PrivateCertificate.loadPEM(key.read() + certificate.read()).options()
accounts = Portal(StoreRealm(Empty, data="data"), [users])
for port, factory in zip(sys.argv[1:], [
    imap_factory(accounts, tls=files, implicit_tls=True),
    imap_factory(accounts, tls=options),
    smtp_factory(Portal(Sink(), [AllowAnonymousAccess()]), tls=options),
]):
    reactor.listenTCP(int(port), factory, interface="127.0.0.1")
print("ready", flush=True)
reactor.run()
"""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = self_signed(["mx.xx.example"], 30, time.time())
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    ports = free_ports(3)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *map(str, ports)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield ports
    process.terminate()
    process.wait(DEADLINE)


def test_from_the_first_octet(ports: list[int]) -> None:
    with imaplib.IMAP4_SSL("127.0.0.1", ports[0], ssl_context=insecure_tls(), timeout=DEADLINE) as client:
        assert client.login("ann@xx.example", "secret")[0] == "OK"


def test_by_starttls_with_options_of_twisted(ports: list[int]) -> None:
    with imaplib.IMAP4("127.0.0.1", ports[1], timeout=DEADLINE) as client:
        with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
            client.login("ann@xx.example", "secret")
        client.starttls(insecure_tls())
        assert client.login("ann@xx.example", "secret")[0] == "OK"


def test_smtp_by_starttls(ports: list[int]) -> None:
    with smtplib.SMTP("127.0.0.1", ports[2], timeout=DEADLINE) as client:
        client.starttls(context=insecure_tls())
        client.ehlo()
        client.mail("a@yy.example")
        client.rcpt("b@xx.example")
        code, said = client.data(b"Subject: x\r\n\r\nhello\r\n")
        assert (code, said.startswith(b"2.0.0 Queued as TLSv1.")) == (250, True)
