"""What somebody logs in with."""

from __future__ import annotations

import attrs


@attrs.frozen
class PlainCredentials:
    """A name and a password as sent. `authorization_id` is empty unless the client wants to act as someone else."""

    authorization_id: str
    user: str
    password: str = attrs.field(repr=False)
