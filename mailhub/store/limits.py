"""The bounds of the built-in stores, and the folders every account starts with."""

from __future__ import annotations

import attrs

from mailhub.keys import GIB, KEYWORDS_PER_MAILBOX, KIB, MIB, limit, setting

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

# A delivery id outlives its message, which the user may expunge before the queue repeats the delivery. It is kept
# longer than any queue tries, then it goes.
DELIVERY_ID_SECONDS = 30 * 86400


@attrs.frozen
class StoreLimits:
    """Bounds of the store. The names carry the unit."""

    mailboxes_per_account: int = limit("mailboxes_per_account", 2000, 10, 1_000_000)
    subscriptions_per_account: int = limit("subscriptions_per_account", 4000, 10, 1_000_000)
    keywords_per_message: int = limit("keywords_per_message", 64, 10, 1000)
    keywords_per_mailbox: int = setting(KEYWORDS_PER_MAILBOX)  # different ones
    inline_body_octets: int = limit("inline_body_bytes", 128 * KIB, 0, MIB)  # larger bodies are files
    # Changes that wait for the writer; more get "try again later".
    waiting_units: int = limit("store_changes_waiting", 1000, 1, 1_000_000)
    grouped_units: int = 200  # changes in one transaction
    busy_seconds: float = 10.0  # how long another process may hold the database's write lock
    # Messages in indexes that no session has selected.
    index_rows: int = limit("index_rows_cached", 500_000, 0, 1_000_000_000)
    digest_cache_bytes: int = limit("digest_cache_bytes", 64 * MIB, 0, 64 * GIB)
    held_octets: int = 256 * 1024 * 1024  # of expunged messages that sessions have not been told of
    held_messages: int = 50_000  # the same; each counts for every session that holds it
    disk_reserve_percent: int = limit("disk_reserve_percent", 5, 0, 90)  # of the disk that new mail leaves free
    durable: bool = True  # False leaves out every fsync: for tests and simulations only
