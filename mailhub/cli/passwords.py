"""Passwords at the command line: generated, or read so that they never stand in the process list."""

from __future__ import annotations

import getpass
import secrets
import sys

from mailhub.auth.passwords import hash_password
from mailhub.errors import ConfigurationError
from mailhub.wire.sasl import SaslError, plain_credentials

# No letters that are taken for one another; 20 of these 31 are 99 bits.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def generate() -> str:
    """A new password, easy to copy by hand: `kq7fm-x2vhd-9wtnp-c4zrj`."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))


def from_stdin(user: str) -> str:
    """The first line of standard input; at a terminal it is asked for without echo. Raises ConfigurationError."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {user}: ")
        if getpass.getpass("Once more: ") != password:
            raise ConfigurationError("the two passwords differ; nothing was changed")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    return password


def hashed(user: str, password: str) -> str:
    """The hash to store, of the very form that a login will have. Raises ConfigurationError for what cannot log in."""
    try:
        return hash_password(plain_credentials(b"", user.encode(), password.encode()).password)
    except (SaslError, UnicodeEncodeError) as error:
        raise ConfigurationError(f"this password cannot be used: {error}") from None
