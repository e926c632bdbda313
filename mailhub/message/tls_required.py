"""The header field TLS-Required (RFC 8689 3)."""

from __future__ import annotations

from collections.abc import Sequence


def wants_no_tls(values: Sequence[bytes]) -> bool:
    """Whether the author would rather have a message arrive in the clear than not at all, by the values of all these
    fields; more than one of them say nothing."""
    return [value.strip().lower() for value in values] == [b"no"]
