"""A network of a test's own: addresses that are no loopback, the ports 25, 53 and 443, and name and web servers there.

Mail exchangers that DNS names are reached at port 25 of addresses that are not the machine's own, and policies at port
443. Neither is to be had from the machine that the tests run on, nor may two tests have them at the same time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from mailhub.testing.process import run
from tests.system.conftest import need

_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def own_network(*networks: str) -> Iterator[None]:
    """This thread, and the threads and processes that it begins meanwhile, are in a network that has loopback and these
    `networks` (all of their addresses), and that is gone with the last of them."""
    if os.geteuid() != 0:
        pytest.skip("networks are made by root alone")
    need("ip")
    system = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before:
        if system.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no network of our own is to be had here: {os.strerror(ctypes.get_errno())}")
        try:
            run("ip", "link", "set", "lo", "up")
            for network in networks:
                run("ip", "address", "add", network, "dev", "lo")
            yield
        finally:
            assert system.setns(before.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


class NameServer(socketserver.ThreadingUDPServer):
    """Answers by `records`, lines as in a master file, which may be changed at any time and are never to be kept. A
    context manager."""

    daemon_threads = True

    def __init__(self, address: str, records: list[str]) -> None:
        self.records = records
        super().__init__((address, 53), _Question)

    def __enter__(self) -> NameServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """What is known of a name."""
        response = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        known = [line.split(" ", 2) for line in self.records]
        mine = [(kind, data) for name, kind, data in known if dns.name.from_text(name) == question.name]
        kind = dns.rdatatype.to_text(question.rdtype)
        found = [data for one, data in mine if one == kind]
        if found:
            response.answer.append(dns.rrset.from_text(question.name, 0, "IN", kind, *found))
        elif not mine:
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


class _Question(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        octets, answering = self.request
        server: Any = self.server
        answering.sendto(server.answer(dns.message.from_wire(octets)).to_wire(), self.client_address)


class WebServer(ThreadingHTTPServer):
    """Gives out `pages`: by the name of the host, the status, the header fields and the text. `asked` are the hosts
    that were asked for. A context manager."""

    daemon_threads = True

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        super().__init__((address, 443), _Request)
        # The handshake is for the thread of the visit: one that fails is no matter of the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def __enter__(self) -> WebServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever does not like our certificate or our answer breaks off."""


class _Request(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        host = self.headers["Host"]
        server.asked.append(host)
        status, fields, text = server.pages[host]
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *unused: object) -> None:
        """Nothing."""
