"""The Sender Rewriting Scheme: a reverse-path in our domain that leads back to that of before. Pure.

A message that is sent on to another server comes from ours, which the domain of its sender does not vouch for (SPF,
RFC 7208). So it gets an address of ours in which that of the sender stands, with a day and a code that nobody else can
make (M. Wong, "Sender Rewriting Scheme", 2004): `SRS0=code=day=domain=user@ours`. Where the sender's is such an address
already, of somebody else who sent it on, ours names that server alone: `SRS1=code=server==code=day=domain=user@ours`.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Sequence

from mailhub.message.address import Address

DAY = 86_400  # seconds
LOCAL_LIMIT = 64  # octets that every server takes (RFC 5321 4.5.3.1.1)
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CYCLE = 1024  # days that two digits tell apart
_CODE = 6  # characters, of 5 bits each
_SRS = re.compile(r"SRS([01])[=+-](.+)", re.DOTALL | re.IGNORECASE)


class NotOurs(ValueError):
    """An address whose code is not one of ours, or that has no such form."""


class Expired(ValueError):
    """An address that was ours once."""


def is_srs(address: Address) -> bool:
    """Whether it has the form of such an address, ours or somebody else's."""
    return _SRS.fullmatch(address.local) is not None


def forward(sender: Address, domain: str, key: bytes, now: int) -> Address | None:
    """The reverse-path in `domain` of what is sent on at `now` (seconds since the epoch). None where it would be
    longer than every server takes."""
    found = _SRS.fullmatch(sender.local)
    if found is None:
        signed = f"{day(now)}={sender.ascii_domain}={sender.local}"
        local = f"SRS0={code(key, signed)}={signed}"
    elif found[1] == "0":
        local = _second(f"{sender.ascii_domain}={sender.local[4:]}", key)
    else:
        _, _, signed = found[2].partition("=")  # the server before us has made the code; ours takes its place
        local = _second(signed, key)
    return Address(local, domain) if len(local.encode()) <= LOCAL_LIMIT else None


def reverse(address: Address, keys: Sequence[bytes], now: int, days: int) -> Address:
    """Whose reverse-path it was, which for SRS1 is an address of the server that was first to send it on. Raises
    NotOurs, and Expired for what was made more than so many days ago."""
    found = _SRS.fullmatch(address.local)
    if found is None:
        raise NotOurs("it is no SRS address")
    given, _, signed = found[2].partition("=")
    if not any(hmac.compare_digest(code(key, signed).encode(), given.upper().encode()) for key in keys):
        raise NotOurs("its code is not ours")
    try:
        if found[1] == "1":
            domain, _, rest = signed.partition("=")
            return Address.parse(str(Address(f"SRS0{rest}", domain)))
        then, domain, local = signed.split("=", 2)
        if age(then, now) > days:
            raise Expired("it has expired")
        return Address.parse(str(Address(local, domain)))
    except Expired:
        raise
    except ValueError:
        raise NotOurs("there is no address in it") from None


def _second(signed: str, key: bytes) -> str:
    return f"SRS1={code(key, signed)}={signed}"


def code(key: bytes, signed: str) -> str:
    """Six characters that nobody else can make for what is signed: equal however others have changed the case on the
    way."""
    return b32encode(hmac.digest(key, signed.lower().encode(), "sha256")).decode()[:_CODE]


def day(now: int) -> str:
    """The day of a moment (seconds since the epoch) in two characters, which tell so many days apart as `age` needs."""
    days = now // DAY % _CYCLE
    return _DIGITS[days >> 5] + _DIGITS[days & 31]


def age(text: str, now: int) -> int:
    """How many days ago it was such a day. A clock that is a day behind, of another process, makes nothing old. Raises
    ValueError."""
    if len(text) != 2 or not set(text.upper()) <= set(_DIGITS):
        raise ValueError("no day")
    then = _DIGITS.index(text[0].upper()) << 5 | _DIGITS.index(text[1].upper())
    days = (now // DAY - then) % _CYCLE
    return 0 if days == _CYCLE - 1 else days
