"""Memory of the server for an IMAP session that idles in INBOX, without and with TLS.

Claims: 8 KiB a connection, 35 KiB with TLS. Baseline of the same run: a connection that has only been greeted.

    python benchmarks/idle_connections.py [CONNECTIONS]
"""

from __future__ import annotations

import base64
import socket
import sys
import tempfile
from pathlib import Path

from mailhub.testing.process import ServerProcess, insecure_tls

USER = "a@xx.example"
# Logins without TLS and many connections from loopback are for this measurement only.
EXTRA = "[limits]\nconnections = 20000\n"


def connect(server: ServerProcess, service: str) -> socket.socket:
    """A connection that has read its greeting."""
    plain = socket.create_connection(("127.0.0.1", server.ports[service]))
    wire: socket.socket = insecure_tls().wrap_socket(plain) if service == "imaps" else plain
    assert wire.recv(4096).startswith(b"* OK")
    return wire


def idle(server: ServerProcess, wire: socket.socket) -> None:
    """Log in, select INBOX, idle."""
    secret = base64.b64encode(f"\0{USER}\0{server.accounts[USER]}".encode())
    for command, ends in (
        (b"a AUTHENTICATE PLAIN " + secret, b"a OK"),
        (b"b SELECT INBOX", b"b OK"),
        (b"c IDLE", b"+ "),
    ):
        wire.sendall(command + b"\r\n")
        answer = b""
        while ends not in answer:
            octets = wire.recv(4096)
            assert octets, answer
            answer += octets


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), "xx.example", {USER: "word"}) as server:
        warm = [connect(server, service) for service in ("imap", "imaps") for _ in range(20)]
        idle(server, warm[-1])
        start = server.resident_octets()
        greeted = [connect(server, "imap") for _ in range(count)]
        plain = server.resident_octets()
        print(f"greeted, no TLS:    {(plain - start) / count / 1024:6.1f} KiB a connection (baseline)")
        secure = [connect(server, "imaps") for _ in range(count)]
        tls = server.resident_octets()
        print(f"greeted, TLS:       {(tls - plain) / count / 1024:6.1f} KiB a connection")
        for wire in secure:
            idle(server, wire)
        idling = server.resident_octets()
        print(f"in IDLE, TLS:       {(idling - plain) / count / 1024:6.1f} KiB a connection")
        print(f"so IDLE adds:       {(idling - tls) / count / 1024:6.1f} KiB to a greeted session")
        for wire in (*warm, *greeted, *secure):
            wire.close()


if __name__ == "__main__":
    main()
