"""Over real sockets: a client that is cut off before the answer to its message sends it again, and it is kept once."""

from __future__ import annotations

import smtplib
import socket
import struct

from mailhub.testing import server

MESSAGE = b"Subject: hello\r\nMessage-ID: <1@yy.example>\r\n\r\nHow are you?\r\n"


def begin(address: tuple[str, int]) -> socket.socket:
    """A connection on which all but the message has been said."""
    client = socket.create_connection(address, 10)
    heard = client.makefile("rb")
    for line in (b"HELO yy.example", b"MAIL FROM:<s@yy.example>", b"RCPT TO:<a@example.test>", b"DATA"):
        heard.readline()
        client.sendall(line + b"\r\n")
    assert heard.readline().startswith(b"354")
    heard.close()
    return client


def reset(client: socket.socket) -> None:
    """As the system does for a process that has not read all."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_what_was_sent_again_is_kept_once() -> None:
    with server(process=True) as mailhub:
        mailhub.add_account("a@example.test")
        for _ in range(2):
            client = begin(mailhub.address("smtp"))
            client.sendall(MESSAGE + b".\r\n")
            mailhub.wait_for(1, inbox="a@example.test")
            assert client.recv(3) == b"250"
            reset(client)
        with smtplib.SMTP(*mailhub.address("smtp")) as again:
            again.sendmail("s@yy.example", ["a@example.test"], MESSAGE)
            again.sendmail("s@yy.example", ["a@example.test"], MESSAGE + b"And you?\r\n")
        assert len(mailhub.inbox("a@example.test")) == 2
        mailhub.clear()
        mailhub.add_account("a@example.test")
        with smtplib.SMTP(*mailhub.address("smtp")) as another_test:
            another_test.sendmail("s@yy.example", ["a@example.test"], MESSAGE)
        assert len(mailhub.inbox("a@example.test")) == 1
