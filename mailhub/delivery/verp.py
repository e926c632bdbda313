"""Variable envelope return paths: the reverse-path names the recipient that a failure is about."""

from __future__ import annotations

from mailhub.delivery.srs import LOCAL_LIMIT
from mailhub.interfaces import ReversePath
from mailhub.message.address import Address


def verp(sender: Address, recipient: Address, delimiters: str) -> ReversePath | None:
    """`list@a.example` for `ann@b.example` with `+=`: `list+ann=b.example@a.example`, as Postfix's VERP_README has it.
    None where that would be no address, or one that not every server takes."""
    local = f"{sender.local}{delimiters[0]}{recipient.local}{delimiters[1]}{recipient.domain}"
    fits = len(local.encode()) <= LOCAL_LIMIT and (local.isascii() or not sender.local.isascii())
    return ReversePath(Address(local, sender.domain), of_sender=True) if fits else None
