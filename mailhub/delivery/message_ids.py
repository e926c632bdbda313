"""Message-IDs for messages that have none, and random words for names."""

from __future__ import annotations

from random import Random

from mailhub.interfaces import Environment

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def token(random: Random, length: int) -> str:
    """Random letters and digits, five bits each."""
    return "".join(random.choices(_ALPHABET, k=length))


def message_id(environment: Environment, hostname: str) -> str:
    """A Message-ID, with its angle brackets (RFC 5322 3.6.4)."""
    return f"<{environment.now():x}.{token(environment.random, 16)}@{hostname}>"
