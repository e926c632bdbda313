"""Tells when the peer speaks another protocol: a browser or a proxy that was made to talk to a mail server.

What such a peer sends on is not meant for us, but may be chosen by somebody else to be obeyed by us (cross-protocol
attacks: an HTTP POST whose body logs in, RFC 7301 and "ALPACA"). So a machine that is told here ends the connection.
"""

from __future__ import annotations

import re

_HTTP = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PRI PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK".split()
)
_FTP = frozenset(b"PASV EPSV PORT EPRT CWD CDUP PWD STOR STOU RNFR RNTO MKD RMD NLST SYST FEAT".split())
_OTHER = frozenset(b"PROXY INVITE REGISTER DESCRIBE SETUP ICAP".split())
# Commands by which each mail protocol is known; those that several have say nothing.
_SMTP = frozenset(b"EHLO HELO LHLO MAIL RCPT DATA".split())
_POP3 = frozenset(b"USER PASS CAPA STLS STAT LIST RETR UIDL DELE TOP".split())
_IMAP = frozenset(
    b"CAPABILITY STARTTLS LOGIN AUTHENTICATE ID ENABLE NAMESPACE SELECT EXAMINE CREATE DELETE RENAME SUBSCRIBE "
    b"UNSUBSCRIBE LIST LSUB STATUS APPEND EXPUNGE FETCH STORE COPY MOVE SEARCH UID IDLE NOOP LOGOUT".split()
)
_FIRST = _HTTP | _FTP | _OTHER | _SMTP | _POP3

_REQUEST_LINE = re.compile(rb"\S+ \S+ (?:HTTP|RTSP|SIP|ICAP)/[0-9](?:\.[0-9])?", re.IGNORECASE)
_BANNER = re.compile(rb"SSH-[0-9]|HTTP/[0-9]|RTSP/[0-9]|SIP/[0-9]")

# What a command may begin with: printable ASCII, or the white space of a slip. TLS begins with 0x16, SSL 2 with 0x80.
_BEGINNING = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")


def is_foreign_octet(first: int) -> bool:
    """Whether no command can begin with this octet: then there is no need to wait for the end of a line."""
    return first not in _BEGINNING


def is_foreign(line: bytes, own: frozenset[bytes], *, tagged: bool = False) -> bool:
    """Whether a command line (without its ending) is of another protocol.

    `own`: the names of our commands, in upper case; they are the second word where lines are `tagged` (IMAP). A line
    that is one of our commands is never foreign, whatever its arguments; a header field (`Host: x`) always is.
    """
    if line[:1] and is_foreign_octet(line[0]):
        return True
    words = line.split(None, 3)[:2]
    first = words[0].upper() if words else b""
    second = words[1].upper() if len(words) > 1 else b""
    if first.endswith(b":"):
        return True
    if (second if tagged else first) in own:
        return False
    if first in _FIRST or (not tagged and second in _IMAP):
        return True
    return bool(_REQUEST_LINE.fullmatch(line.rstrip()) or _BANNER.match(line))
