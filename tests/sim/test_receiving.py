"""What SMTP's extensions promise, from a client to the mailbox on another server."""

from __future__ import annotations

from base64 import b64decode
from email import message_from_bytes

import pytest

from mailhub.testing.hubs import Internet

PDF = b"%PDF\n\r\0\xff" + b"x" * 1200 + b"\n"
BINARY = (
    b"From: a@xx.example\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\n"
    b"Content-Transfer-Encoding: binary\r\n\r\n" + PDF
)


@pytest.mark.parametrize("binary", [True, False])
def test_a_binary_message_is_kept_as_it_is_and_sent_on_as_the_next_server_takes_it(binary: bool) -> None:
    with Internet() as internet:
        aliases = {"both@xx.example": ["a@xx.example", "b@yy.example"]}
        xx = internet.hub("xx.example", users=["a"], config={"aliases": aliases})
        yy = internet.hub("yy.example", ["b"], {} if binary else {"smtp": {"extensions_off": ["BINARYMIME"]}})
        caller = internet.call(xx, "smtp")
        chunks = [b"BDAT %d\r\n" % 700 + BINARY[:700], b"BDAT %d LAST\r\n" % (len(BINARY) - 700) + BINARY[700:]]
        envelope = b"MAIL FROM:<s@zz.example> BODY=BINARYMIME\r\nRCPT TO:<both@xx.example>\r\n"
        caller.ask(b"EHLO c.example\r\n" + envelope + b"".join(chunks), b"250 2.0.0 Queued")
        internet.run(60)
        (kept,) = xx.inbox("a@xx.example")
        assert kept.endswith(BINARY)
        (sent_on,) = yy.inbox("b@yy.example")
        if binary:
            assert sent_on.endswith(BINARY)
        else:
            part = message_from_bytes(sent_on)
            assert part["Content-Transfer-Encoding"] == "base64"
            assert b64decode(str(part.get_payload())) == PDF
