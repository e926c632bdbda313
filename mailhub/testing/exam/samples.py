"""What components are shown in exams: clients, envelopes and messages, the usual ones and those that hurt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from zope.interface import implementer

from mailhub.delivery.editing import Editing, MessageView
from mailhub.errors import StoreUnavailable
from mailhub.interfaces import IBlobReader, IMessageView, ITransactionView, Origin, OwnTransaction
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.header import fields_end
from mailhub.message.needs import HEADER_LIMIT
from mailhub.store.octets import OctetsReader

USER = "ann@xx.example"
SENDER = Address.parse("ben@yy.example")

# Who may be there. "" stands for what is not known: no address behind a local socket, no login.
ORIGINS: Mapping[str, Origin] = {
    "a server": Origin("smtp", "192.0.2.7", "s1", helo="mx.yy.example", local="192.0.2.1"),
    "a server by IPv6 and TLS": Origin("smtp", "2001:db8::7", "s2", True, "[IPv6:2001:db8::7]", tls="TLSv1.3/X"),
    "a login": Origin("submission", "192.0.2.8", "s3", True, "laptop", user=USER, tls="TLSv1.3/X", submission=True),
    "a local socket": Origin("lmtp", "", "s4", helo="localhost", each_recipient=True),
    "somebody who has not said HELO": Origin("smtp", "192.0.2.9", "s5", extended=False),
    "a HELO of 255 octets": Origin("smtp", "192.0.2.9", "s6", helo="x" * 255),
}

MAILS: Mapping[str, Mail] = {
    "a sender": Mail(SENDER, "8BITMIME", size=1000),
    "the null reverse-path": Mail(None),
    "a sender beyond ASCII": Mail(Address.parse("bén@exämple.example"), "8BITMIME", smtputf8=True),
    "a quoted sender": Mail(Address.parse('"b n"@yy.example')),
}

RECIPIENTS: Mapping[str, Recipient] = {
    "a user": Recipient(Address.parse(USER)),
    "a user with a detail": Recipient(Address.parse("ann+lists@xx.example")),
    "postmaster": Recipient(Address.parse("postmaster@xx.example")),
    "nobody known": Recipient(Address.parse("nobody-of-that-name@xx.example")),
    "another domain": Recipient(Address.parse("cat@zz.example")),
    "capital letters": Recipient(Address.parse("ANN@XX.EXAMPLE")),
    "a quoted local part": Recipient(Address.parse('"a n@n"@xx.example')),
    "an address beyond ASCII": Recipient(Address.parse("änn@exämple.example")),
    "an address literal": Recipient(Address.parse("ann@[192.0.2.1]")),
    "64 octets before the @": Recipient(Address.parse("x" * 64 + "@xx.example")),
    "slashes and dots": Recipient(Address.parse("../../etc/passwd@xx.example")),
}

_TEXT = b"From: ben@yy.example\r\nTo: ann@xx.example\r\nSubject: hello\r\nMessage-ID: <1@yy.example>\r\n"


def _nested(depth: int) -> bytes:
    opening = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (each, each) for each in range(depth)
    )
    return b"Subject: deep\r\nMIME-Version: 1.0\r\n" + opening + b"\r\nin the middle\r\n"


MESSAGES: Mapping[str, bytes] = {
    "a plain message": _TEXT + b"\r\nHow are you?\r\n",
    "octets beyond ASCII": _TEXT + b"X-Raw: \xff\xfe\xe9\r\n\r\n\xe9\xff\x80 octets\r\n",
    "UTF-8 in the header": 'Subject: grüße\r\nFrom: "ä" <ben@yy.example>\r\n\r\ngrüße\r\n'.encode(),
    "NUL": b"Subject: a\0b\r\n\r\na\0b\r\n",
    "nothing at all": b"",
    "a header alone": b"Subject: hello\r\n",
    "no header": b"\r\nonly text\r\n",
    "no line end at the end": _TEXT + b"\r\nno end",
    "bare line feeds": b"Subject: hello\nFrom: ben@yy.example\n\ntext\n",
    "broken encoded words": b"Subject: =?utf-8?b?!!!?= =?x-no-such?q?=ff?= =?\r\n\r\ntext\r\n",
    "broken fields": b"From: <<>>,;@\r\nTo:\r\nDate: the day after tomorrow\r\nSubject\t:\r\n folded\r\n\r\ntext\r\n",
    "the same field a hundred times": b"Subject: again\r\n" * 100 + b"\r\ntext\r\n",
    "a line of 100,000 octets": _TEXT + b"\r\n" + b"x" * 100_000 + b"\r\n",
    "parts in parts, 100 deep": _nested(100),
    "a header of 300,000 octets": b"X-Long: " + b"x" * 300_000 + b"\r\n\r\ntext\r\n",
    "a million octets": _TEXT + b"\r\n" + b"0123456789abcd\r\n" * 65_536,
}


def transaction(
    origin: Origin = ORIGINS["a server"],
    mail: Mail = MAILS["a sender"],
    recipients: Sequence[Recipient] = (RECIPIENTS["a user"],),
) -> ITransactionView:
    """A transaction to look at."""
    return OwnTransaction(origin, mail, tuple(recipients))


def editing(octets: bytes) -> tuple[Editing, bytes]:
    """What holds the edits of a message, and what follows its header."""
    end = fields_end(octets, 0, len(octets))
    whole = end <= HEADER_LIMIT
    edits = Editing()
    edits.begin(octets[:end] if whole else b"", whole=whole)
    return edits, octets[end:]


def view(octets: bytes, of: ITransactionView | None = None) -> IMessageView:
    """A message as policies and rules see it."""
    edits, rest = editing(octets)
    return cast(IMessageView, MessageView(of or transaction(), edits, OctetsReader(rest), 1))


@implementer(IBlobReader)
class Unreadable:
    """A body whose octets cannot be had. `asked`: whether somebody wanted them."""

    size = 1000

    def __init__(self) -> None:
        self.asked = False

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """Raises StoreUnavailable."""
        self.asked = True
        raise StoreUnavailable

    def close(self) -> None:
        """Nothing is open."""


def unreadable_view() -> IMessageView:
    """A message of which the header can be seen and nothing else."""
    edits, _ = editing(MESSAGES["a plain message"])
    return cast(IMessageView, MessageView(transaction(), edits, Unreadable(), 1))
