"""The bounds of the built-in stores, and the folders every account starts with."""

from __future__ import annotations

import attrs

USUAL_FOLDERS = (
    ("INBOX", ""),
    ("Archive", "\\Archive"),
    ("Drafts", "\\Drafts"),
    ("Junk", "\\Junk"),
    ("Sent", "\\Sent"),
    ("Trash", "\\Trash"),
)
"""Name and special use (RFC 6154) of the mailboxes of a new account; it is subscribed to all of them."""

USUAL_USES = {name: use for name, use in USUAL_FOLDERS if use}
"""The use that a mailbox gets for its name alone, when it is made or renamed, unless it or another has one."""


@attrs.frozen
class StoreLimits:
    """Bounds of the store. The names carry the unit."""

    mailboxes_per_account: int = 2000
    subscriptions_per_account: int = 4000
    keywords_per_message: int = 64
    keywords_per_mailbox: int = 200  # different ones
    inline_body_octets: int = 64 * 1024  # larger bodies are files
    waiting_units: int = 1000  # changes that wait for the writer; more get "try again later"
    grouped_units: int = 200  # changes in one transaction
    busy_seconds: float = 10.0  # how long another process may hold the database's write lock
    index_rows: int = 500_000  # messages in indexes that no session has selected
    digest_cache_bytes: int = 64 * 1024 * 1024
    held_octets: int = 256 * 1024 * 1024  # of expunged messages that sessions have not been told of
    held_messages: int = 50_000  # the same; each counts for every session that holds it
    disk_reserve_percent: int = 5  # of the disk that new mail leaves free
    durable: bool = True  # False leaves out every fsync: for tests and simulations only
