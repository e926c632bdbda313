"""What an IMAP server machine is told at its start."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from mailhub.keys import KIB, LOGIN_FAILURES, MESSAGE_SIZE, MIB, limit, setting

# What the session must be able to do is offered here; IMAP4rev1, LITERAL+, SASL-IR and the ways to log in are the
# machine's own.
EXTENSIONS = ("ID", "ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT", "CHILDREN", "SPECIAL-USE")


@attrs.frozen
class ImapSettings:
    """Offers and limits. Sizes in octets; those of literals and commands do not count the message of APPEND."""

    hostname: str
    secure: bool = False  # TLS is on already
    starttls: bool = False  # can be turned on
    plaintext_login: bool = False  # passwords are taken without TLS
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    capabilities: tuple[str, ...] = EXTENSIONS
    enableable: frozenset[str] = frozenset()  # what ENABLE turns on (RFC 5161), in capitals
    identity: Mapping[str, str] = attrs.field(factory=lambda: {"name": "mailhub"})  # RFC 2971

    line_limit: int = limit("imap_line_bytes", 64 * KIB, 8 * KIB, 16 * MIB)
    literal_limit: int = limit("imap_literal_bytes", 64 * KIB, 8 * KIB, 16 * MIB)
    command_limit: int = limit("imap_command_bytes", 256 * KIB, 8 * KIB, 64 * MIB)
    literal_count_limit: int = limit("imap_literals_per_command", 100, 1, 10_000)
    message_limit: int = setting(MESSAGE_SIZE)  # the message of APPEND
    # What is passed over of one refused command, before the connection is closed instead.
    discard_limit: int = setting(MESSAGE_SIZE, lambda octets: 2 * octets)

    # Before login. An ID may have 30 values of 1024 octets (RFC 2971 3.3), in a line with each octet escaped. What one
    # connection holds beyond `unauthenticated_share` is taken from a budget that all connections have together.
    unauthenticated_line_limit: int = 65536
    unauthenticated_literal_limit: int = 8192
    unauthenticated_command_limit: int = 65536
    unauthenticated_share: int = 8192

    # In one connection, counted anew from the login on; after it each command that is answered OK makes up for one.
    bad_command_limit: int = limit("imap_bad_commands", 100, 1, 100_000)
    # Few enough that the head of an HTTP request, sent here by a tricked browser, ends it before the body is read.
    unauthenticated_bad_command_limit: int = 10
    unauthenticated_count_limit: int = 100  # commands; a NOOP a minute must not keep a connection for ever
    failed_login_limit: int = setting(LOGIN_FAILURES)
