"""mailhub's own services, a row each. What differs between them stands here, and nothing else compares their names.

Their sessions are made by components of kind "service" (`mailhub.builtin`), as those of plugins are.
"""

from __future__ import annotations

from collections.abc import Mapping

from mailhub.interfaces import Service

_SMTP_FULL = b"421 4.3.2 Too many connections, try again later\r\n"
_POP3_FULL = b"-ERR [SYS/TEMP] Too many connections, try again later\r\n"
_IMAP_FULL = b"* BYE Too many connections, try again later\r\n"
# SMTP has no registered ALPN id; clients that name one say "smtp".
_SMTP, _LMTP, _POP3, _IMAP = (b"smtp",), (b"lmtp",), (b"pop3",), (b"imap",)

SERVICES: Mapping[str, Service] = {
    "smtp": Service(25, "mail from other servers", alpn=_SMTP, refusal=_SMTP_FULL),
    "lmtp": Service(0, "mail from a local program", each_recipient=True, alpn=_LMTP, refusal=_SMTP_FULL),
    "submission": Service(
        587,
        "mail from our users, TLS by STARTTLS",
        login=True,
        submission=True,
        alpn=_SMTP,
        refusal=_SMTP_FULL,
        srv_priority=10,
    ),
    "submissions": Service(
        465,
        "the same with TLS from the start: the better choice for clients",
        implicit_tls=True,
        login=True,
        submission=True,
        alpn=_SMTP,
        srv_priority=0,
    ),
    "imap": Service(143, "mail read on the server", login=True, alpn=_IMAP, refusal=_IMAP_FULL, srv_priority=10),
    "imaps": Service(
        993, "the same with TLS from the start", implicit_tls=True, login=True, alpn=_IMAP, srv_priority=0
    ),
    "pop3": Service(110, "mail fetched from the server", login=True, alpn=_POP3, refusal=_POP3_FULL, srv_priority=30),
    "pop3s": Service(
        995, "the same with TLS from the start", implicit_tls=True, login=True, alpn=_POP3, srv_priority=20
    ),
}
