"""What a POP3 client asks for that the machine cannot answer alone."""

from __future__ import annotations

import attrs

from mailhub.credentials import PlainCredentials


@attrs.frozen
class Login:
    """USER and PASS, or AUTH. Answer with login_accepted() or login_refused()."""

    credentials: PlainCredentials


@attrs.frozen
class StartTls:
    """STLS (RFC 2595 4). Answer with starttls_accepted(), after which the driver starts TLS."""


@attrs.frozen
class Retrieve:
    """RETR of a message that takes so many octets. Answer with content_started(), content() ..., content_ended(), or
    refused()."""

    uid: int
    octets: int


@attrs.frozen
class Top:
    """TOP: the header, the empty line and `lines` lines of the body. Answered like Retrieve, with `Topmost` between."""

    uid: int
    lines: int


@attrs.frozen
class Update:
    """QUIT with messages marked for deletion (RFC 1939 6). Answer with updated() when they are gone for good, or
    update_failed()."""

    uids: tuple[int, ...]


Event = Login | StartTls | Retrieve | Top | Update
