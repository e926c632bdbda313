"""swaks, for each extension of SMTP that it can say something of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailhub.testing.process import ServerProcess, eventually, free_ports, run
from tests.system.conftest import need

pytestmark = pytest.mark.system

A, B = "a@xx.example", "b@xx.example"
# swaks writes `FROM:<` and `>` around whatever it is given: the last parameter is one whose value may end with that.
SAID = [
    ("SIZE", "smtp", "SIZE=100 ENVID=q", ""),
    ("8BITMIME", "smtp", "BODY=8BITMIME ENVID=q", ""),
    ("SMTPUTF8", "smtp", "SMTPUTF8 ENVID=q", ""),
    ("DSN", "smtp", "RET=HDRS ENVID=q", "NOTIFY=FAILURE ORCPT=rfc822;b"),
    ("REQUIRETLS", "smtp", "REQUIRETLS ENVID=q", ""),
    ("DELIVERBY", "smtp", "BY=1000;N ENVID=q", ""),
    ("MT-PRIORITY", "smtp", "MT-PRIORITY=3 ENVID=q", ""),
    ("RRVS", "smtp", "", "RRVS=2039-01-01T00:00:00Z;C ORCPT=rfc822;b"),
    ("FUTURERELEASE", "submission", "HOLDFOR=1 ENVID=q", ""),
    ("AUTH", "submission", f"AUTH={A} ENVID=q", ""),
    ("LMTP", "lmtp", "ENVID=q", "ORCPT=rfc822;b"),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    need("swaks")
    server = ServerProcess(tmp_path_factory.mktemp("swaks") / "xx", "xx.example", {A: "word", B: "word"})
    server.extra = '[trust]\nxclient = ["127.0.0.1"]\n'
    (server.ports["lmtp"],) = free_ports(1)
    with server:
        yield server


def swaks(hub: ServerProcess, service: str, subject: str, *words: str) -> None:
    login = ("--auth", "PLAIN", "--auth-user", A, "--auth-password", "word") if service == "submission" else ()
    protocol = ("--protocol", "LMTP") if service == "lmtp" else ("--tls",)
    where = ("--server", "127.0.0.1", "--port", str(hub.ports[service]), "--helo", "client.example")
    run("swaks", *where, *protocol, *login, "--header", f"Subject: {subject}", "--body", "x", *words)


def arrived(hub: ServerProcess, subject: str) -> bytes:
    line = f"\r\nSubject: {subject}\r\n".encode()

    def found() -> list[bytes]:
        return [message for message in hub.messages(B) if line in message]

    return eventually(found, f"a message {subject}")[0]


@pytest.mark.parametrize(("keyword", "service", "mail", "rcpt"), SAID)
def test_a_parameter_is_taken(hub: ServerProcess, keyword: str, service: str, mail: str, rcpt: str) -> None:
    sender = f"{A}> {mail}" if mail else A
    recipient = f"{B}> {rcpt}" if rcpt else B
    swaks(hub, service, f"with {keyword}", "--from", sender, "--to", recipient, "--header", f"From: {A}")
    arrived(hub, f"with {keyword}")


def test_commands_in_a_pipeline(hub: ServerProcess) -> None:
    swaks(hub, "smtp", "in a pipeline", "--from", A, "--to", f"{B},{A}", "--pipeline")
    arrived(hub, "in a pipeline")


def test_a_proxy_speaks_for_its_client(hub: ServerProcess) -> None:
    said = ("--xclient-addr", "198.51.100.7", "--xclient-helo", "their.example", "--xclient-name", "[UNAVAILABLE]")
    swaks(hub, "smtp", "by a proxy", "--from", A, "--to", B, *said)
    assert b"Received: from their.example ([198.51.100.7])" in arrived(hub, "by a proxy")
