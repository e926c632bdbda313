"""A proxy in front of a real server: the PROXY header on real sockets, before TLS of either kind."""

from __future__ import annotations

import contextlib
import imaplib
import smtplib
import socket
from collections.abc import Iterator

import pytest

from mailhub.testing.process import DEADLINE, ServerProcess, eventually, insecure_tls

pytestmark = pytest.mark.system

A = "a@xx.example"
HEADER = b"PROXY TCP4 198.51.100.7 192.0.2.25 4711 25\r\n"
HEADER_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x19\x12\x67\x00\x19"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("proxies") / "xx", "xx.example", {A: "word"})
    server.extra = '[trust]\nproxy_protocol = ["127.0.0.1"]\n'
    with server:
        yield server


def connected(hub: ServerProcess, service: str, header: bytes) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", hub.ports[service]), timeout=DEADLINE)
    plain.sendall(header)
    return plain


class Smtp(smtplib.SMTP):
    """By a connection that is there already."""

    def __init__(self, there: socket.socket) -> None:
        self._there = there
        super().__init__("localhost", 25, "c.example", DEADLINE)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._there


class Imap(imaplib.IMAP4):
    def __init__(self, there: socket.socket) -> None:
        self._there = there
        super().__init__("localhost", 143, DEADLINE)

    def _create_socket(self, timeout: float | None = None) -> socket.socket:
        return self._there


@pytest.mark.parametrize("header", [HEADER, HEADER_2])
def test_mail_by_a_proxy_names_the_client_and_starttls_follows(hub: ServerProcess, header: bytes) -> None:
    with Smtp(connected(hub, "smtp", header)) as client:
        client.starttls(context=insecure_tls())
        client.sendmail("s@zz.example", [A], b"Subject: x\r\n\r\nby a proxy\r\n")
    assert eventually(lambda: [line for line in hub.log if "198.51.100.7" in line], "a line with the client's address")
    hub.log.clear()


def test_logins_with_tls_from_the_first_octet(hub: ServerProcess) -> None:
    submissions = insecure_tls().wrap_socket(connected(hub, "submissions", HEADER))
    with Smtp(submissions) as client:
        client.login(A, "word")
    imaps = insecure_tls().wrap_socket(connected(hub, "imaps", HEADER_2))
    with Imap(imaps) as reader:
        reader.login(A, "word")
        reader.select("INBOX")
        _, data = reader.fetch("1", "(BODY.PEEK[HEADER.FIELDS (RECEIVED)])")
    first = data[0]
    assert isinstance(first, tuple)
    assert b"from c.example ([198.51.100.7])" in first[1]
    assert eventually(lambda: [line for line in hub.log if "198.51.100.7" in line], "lines of the logins")


def test_tls_before_the_header_is_cut_off(hub: ServerProcess) -> None:
    with pytest.raises(OSError):
        insecure_tls().wrap_socket(connected(hub, "imaps", b""))
    with connected(hub, "pop3", b"CAPA\r\n") as plain, contextlib.suppress(ConnectionError):
        assert plain.recv(100) == b""
