"""Trace fields: Received and Return-Path (RFC 5321 4.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import Protocol

from mailhub.message.address import Address, literal_of, parse_domain, to_ascii
from mailhub.message.header import Header

_RECEIVED_LINE = re.compile(rb"^received[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(rb"^delivered-to[ \t]*+:(?:\r\n[ \t])?([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
# As `received` writes it.
_RECEIVED_FROM = re.compile(
    rb"\s*from ([!-~]{1,255})(?:\s+(\(\[[!-Z^-~]{1,100}\]\)))?\s+(?:\(HELO [^\r\n]{1,600}\)\s+)?by ([!-~]{1,255})\s"
)
_LINE = 78  # characters
_SAID_LIMIT = 255  # characters
_NOT_ID = re.compile(r"[^A-Za-z0-9._+=-]")
_IANA_NAME = re.compile(r"TLS_[A-Z0-9_]+")
_OPENSSL_NAME = re.compile(r"((?:EC)?DHE-(?:RSA|ECDSA))-(?:AES(128|256)-GCM-SHA(256|384)|CHACHA20-POLY1305)")


class Client(Protocol):
    """What is known of the peer that sent a message; `mailhub.interfaces.Origin` is one."""

    @property
    def each_recipient(self) -> bool: ...
    @property
    def peer(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def secure(self) -> bool: ...
    @property
    def helo(self) -> str: ...
    @property
    def extended(self) -> bool: ...
    @property
    def user(self) -> str: ...
    @property
    def tls(self) -> str: ...


def received(
    *,
    hostname: str,
    origin: Client,
    date: str,
    recipient: Address | None,
    smtputf8: bool = False,
    own: bool = False,
    priority: int | None = None,
) -> bytes:
    """The Received field for a message that came in, with its line ends.

    `date` is an RFC 5322 date-time. `recipient` only if there is just one: others must not learn of each other
    (RFC 5321 7.6). What the client said of itself and is neither a domain nor an address literal stands in a comment.
    `own`: a program of this house began it and no connection, so it is from nowhere, and with no protocol. `priority`:
    what MT-PRIORITY has asked for, if it was given (RFC 6710).
    """
    if own:
        keyword = ""
    else:
        keyword = protocol(
            lmtp=origin.each_recipient,
            extended=origin.extended,
            secure=origin.secure,
            authenticated=bool(origin.user),
            smtputf8=smtputf8,
        )
    clauses = _clauses(hostname, keyword, origin.peer, origin.helo, origin.session_id)
    more = []
    if recipient is not None and (smtputf8 or recipient.is_ascii):
        more.append(f"for <{recipient}>")
    if origin.tls and (suite := cipher_suite(origin.tls)):
        more.append(f"tls {suite}")
    if priority is not None:
        more.append(f"PRIORITY {priority}")
    if not more:
        clauses, more = clauses[:-1], [clauses[-1]]
    more[-1] += ";"
    return f"{reduce(_with, (*more, date), _folded(clauses))}\r\n".encode()


@lru_cache(maxsize=64)
def cipher_suite(tls: str) -> str:
    """What the clause `tls` calls a session (RFC 8314 4.3): the name that IANA has for its cipher, "" where it is none
    that we use. `tls` is protocol and cipher, as OpenSSL calls them."""
    name = tls.partition("/")[2]
    if _IANA_NAME.fullmatch(name):
        return name
    found = _OPENSSL_NAME.fullmatch(name)
    if found is None:
        return ""
    exchange, key, digest = found.groups()
    if key is None:
        return f"TLS_{exchange}_WITH_CHACHA20_POLY1305_SHA256".replace("-", "_")
    return f"TLS_{exchange}_WITH_AES_{key}_GCM_SHA{digest}".replace("-", "_")


@lru_cache(maxsize=1024)  # all messages of a connection have them in common
def _clauses(hostname: str, keyword: str, peer: str, helo: str, session_id: str) -> tuple[str, ...]:
    """The first clauses of the field. Without a keyword it began here."""
    clauses = [*_from(peer, helo), f"by {hostname}", f"with {keyword}"] if keyword else [f"Received: by {hostname}"]
    if identifier := _NOT_ID.sub("", session_id):
        clauses.append(f"id {identifier}")
    return tuple(clauses)


def protocol(*, lmtp: bool, extended: bool, secure: bool, authenticated: bool, smtputf8: bool) -> str:
    """The `with` keyword: SMTP, ESMTPS, LMTPA, UTF8SMTPSA, ... (RFC 3848, RFC 6531 4.3)."""
    if not (lmtp or extended or smtputf8):
        return "SMTP"
    name = "LMTP" if lmtp else "SMTP" if smtputf8 else "ESMTP"
    name = "UTF8" + name if smtputf8 else name
    return name + ("S" if secure else "") + ("A" if authenticated else "")


def return_path(reverse_path: Address | None) -> bytes:
    """The Return-Path field that final delivery puts on top, with its line end."""
    return f"Return-Path: <{reverse_path or ''}>\r\n".encode()


def delivered_to(header: bytes) -> frozenset[str]:
    """The names (`Address.key`) that have sent a message on, or delivered it, by its Delivered-To fields."""
    found = set()
    for written in _DELIVERED_TO.findall(header):
        try:
            found.add(Address.parse(written.strip(b" \t<>").decode()).key)
        except ValueError:
            continue
    return frozenset(found)


def delivered_to_fields(names: Iterable[str]) -> bytes:
    """A Delivered-To field for each name (`Address.key`), the last one on top, with their line ends."""
    addresses = [Address(*name.rpartition("@")[::2]) for name in dict.fromkeys(names)]
    return "".join([f"Delivered-To: {address}\r\n" for address in reversed(addresses)]).encode()


def received_from(header: bytes, hostname: str) -> str:
    """From whom we had a message, as HELO and TCP say (`mx.xx.example ([192.0.2.1])`), by the Received field on top; ""
    where that is not ours, or names nobody."""
    found = _RECEIVED_FROM.match(Header(header).first(b"received") or b"")
    if found is None or found[3].decode("ascii", "replace").lower() != hostname.lower() or found[1] == b"unknown":
        return ""
    return (found[1] + (b" " + found[2] if found[2] else b"")).decode("ascii")


def count_received(header: bytes) -> int:
    """How many hops a message has behind it (RFC 5321 6.3)."""
    lower = b"\n" + header.lower()
    if b"\nreceived " in lower or b"\nreceived\t" in lower:
        return len(_RECEIVED_LINE.findall(header))
    return lower.count(b"\nreceived:")  # a tenth of the expression's time


@lru_cache(maxsize=1024)
def _folded(clauses: tuple[str, ...]) -> str:
    """The clauses as one field, in lines of at most 78 characters where no clause is longer (RFC 5322 2.1.1)."""
    return reduce(_with, clauses, "")


def _with(begun: str, clause: str) -> str:
    """One more clause behind those before."""
    if not begun:
        return clause
    room = _LINE - (len(begun) - begun.rfind("\n") - 1)
    return f"{begun} {clause}" if 1 + len(clause) <= room else f"{begun}\r\n\t{clause}"


def _from(peer: str, helo: str) -> list[str]:
    """RFC 5321 4.4 Extended-Domain: what HELO said and, in parentheses, what TCP says."""
    literal = literal_of(peer)
    kept = []
    try:
        said = parse_domain(helo)
        said = said if said.isascii() else to_ascii(said)
    except ValueError:
        said = literal or "unknown"
        kept = [f'(HELO "{_commented(helo)}")'] if helo else []
    return [f"Received: from {said} ({literal})" if literal else f"Received: from {said}", *kept]


def _commented(said: str) -> str:
    """What anybody may say, as a part of a comment (RFC 5322 3.2.2): only printable ASCII, `?` for controls, `<U+00FC>`
    for the rest, and nothing in it ends the comment or begins another."""
    written = ""
    for char in said:
        piece = f"\\{char}" if char in '()\\"' else char if " " <= char <= "~" else "?"
        piece = f"<U+{ord(char):04X}>" if char > "\x9f" else piece
        if len(written) + len(piece) > _SAID_LIMIT:
            return f"{written}..."
        written += piece
    return written
