"""A server as its answer to EHLO shows it, and the commands that are said to it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from math import inf

import attrs

from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.esmtp import render_parameters
from mailhub.message.needs import Needs, Offer
from mailhub.wire.smtp.extensions import Demand, terms


@attrs.frozen
class OutgoingMessage:
    """What to send to whom. `size` in octets, before dot stuffing. What `needs` says counts, not what was declared. The
    seconds of BY and HOLDFOR count from now."""

    mail: Mail
    recipients: tuple[Recipient, ...]
    size: int
    needs: Needs = attrs.field(factory=Needs)

    @property
    def needs_smtputf8(self) -> bool:
        """Whether SMTPUTF8 is asked for where the server has it: for the header, or for an address (RFC 6531 3.4). A
        domain has another form, a local part has none."""
        for recipient in self.recipients:
            if not recipient.address.local.isascii():
                return True
        sender = self.mail.reverse_path
        return self.needs.smtputf8 or not (sender is None or sender.local.isascii())


class CannotSay(Exception):
    """The server does not take the message, or the recipient, for this reason."""

    def __init__(self, status: str, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


@attrs.frozen
class HopLimits:
    """LIMITS (RFC 9422 4): the most messages in a session, recipients of one, and domains that these may be of."""

    messages: float = inf
    recipients: float = inf
    domains: float = inf

    @classmethod
    def read(cls, text: str) -> HopLimits:
        """What stands behind LIMITS. What is malformed or senseless is no limit."""
        words = (word.upper().partition("=") for word in text.split())
        told = {name: int(value) for name, _, value in words if _LIMIT.fullmatch(value)}
        return cls(told.get("MAILMAX", inf), told.get("RCPTMAX", inf), told.get("RCPTDOMAINMAX", inf))

    def batch(self, recipients: Sequence[Address]) -> list[Address]:
        """The first of them that may be recipients of one message; one at least."""
        batch: list[Address] = []
        domains: set[str] = set()
        for each in recipients:
            if len(batch) >= self.recipients:
                break
            if len(domains) < self.domains or each.ascii_domain in domains:
                domains.add(each.ascii_domain)
                batch.append(each)
        return batch


_LIMIT = re.compile(r"0{0,5}[1-9][0-9]{0,5}")
# RFC 2852 2: deliverby-param = min-by-time *( "," extension-token )
_BY_MINIMUM = re.compile(r"([0-9]{1,9})(?=,|$)")


class Hop:
    """One server. `name` is what it calls itself; `keywords` that it offers, in upper case -> what stands behind them
    (neither where it knows HELO only); `offer`: what it has of what a message may need; `limits`: how much it takes;
    `dsn`: whether it tells success (RFC 3461).
    """

    def __init__(
        self, lines: tuple[str, ...] = (), *, secure: bool = False, off: Collection[str] = frozenset()
    ) -> None:
        """By the answer to EHLO, without the keywords `off`."""
        # RFC 5321 4.1.1.1: ehlo-line = ehlo-keyword *( SP ehlo-param ); the first line is a greeting.
        parts = (line.partition(" ") for line in lines[1:])
        offered = {keyword.upper(): parameters.strip() for keyword, _, parameters in parts}
        self.keywords = {keyword: offered[keyword] for keyword in offered if keyword not in off} if off else offered
        eight_bit = "8BITMIME" in self.keywords
        binary = eight_bit and {"BINARYMIME", "CHUNKING"} <= self.keywords.keys()
        self.offer = Offer(eight_bit, "SMTPUTF8" in self.keywords, binary)
        self.name = lines[0].partition(" ")[0] if lines else ""
        self.limits = HopLimits.read(self.keywords.get("LIMITS", ""))
        self.dsn = "DSN" in self.keywords
        self._terms = terms(self.keywords, secure)

    def takes_binary(self, message: OutgoingMessage) -> bool:
        """Whether a message is declared as binary (RFC 3030 3)."""
        return self.offer.binary and message.needs.declared_binary

    def mail(self, message: OutgoingMessage, *, smtputf8: bool) -> bytes:
        """The command MAIL. Raises CannotSay for a message that the server does not take as it is; another form is for
        others to make."""
        limit = self.keywords.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and len(limit) <= 20 and 0 < int(limit) < message.size:
            text = f"Message of {message.size} octets is larger than the server takes: {limit}"
            raise CannotSay("5.3.4", text)
        eight_bit = message.needs.eight_bit
        if message.needs.smtputf8 and not self.offer.smtputf8:
            raise CannotSay("5.6.9", "Message has a header in UTF-8, which the server does not take")
        if eight_bit and not self.offer.eight_bit:
            raise CannotSay("5.6.3", "Message has 8-bit content, which the server does not take")
        if message.needs.declared_binary and not self.offer.binary:
            raise CannotSay("5.6.1", "Message is binary, which the server does not take")
        _check(message.mail, self._terms.mail_demands)
        by, least = message.mail.by, self.keywords.get("DELIVERBY", "")
        # RFC 2852 4.1.4.2: who takes longer at best is not asked.
        wanted = _BY_MINIMUM.match(least)
        if by is not None and by.mode == "R" and wanted is not None and by.seconds < int(wanted[1]):
            raise CannotSay("5.4.7", f"Message has {by.seconds} seconds left, of which the server wants {wanted[1]}")
        line = b"MAIL FROM:<" + _path(message.mail.reverse_path, smtputf8) + b">"
        if "SIZE" in self.keywords:
            line += b" SIZE=%d" % message.size
        if self.takes_binary(message):
            line += b" BODY=BINARYMIME"
        elif eight_bit:
            line += b" BODY=8BITMIME"
        if smtputf8:
            line += b" SMTPUTF8"
        if message.mail.priority is None and "MT-PRIORITY" in self.keywords:
            line += b" MT-PRIORITY=0"  # RFC 6710 4.1 and 4.2: what nobody has said anything of has this
        return line + render_parameters(message.mail, self._terms.mail).encode()

    def rcpt(self, recipient: Recipient, *, smtputf8: bool) -> bytes:
        """The command RCPT. Raises CannotSay."""
        _check(recipient, self._terms.rcpt_demands)
        path = _path(recipient.address, smtputf8)
        return b"RCPT TO:<" + path + b">" + render_parameters(recipient, self._terms.rcpt).encode()


def _check(value: Mail | Recipient, demands: tuple[Demand, ...]) -> None:
    """Raises CannotSay where something is asked for that the server does not offer."""
    for demand in demands:
        given = getattr(value, demand.parameter.field)
        if given != demand.parameter.default and demand.made(given):
            raise CannotSay(demand.status, demand.text)


@lru_cache(256)
def _path(address: Address | None, smtputf8: bool) -> bytes:
    """What stands between the angle brackets. Raises CannotSay."""
    if address is None:
        return b""
    try:
        text = str(address if smtputf8 else Address(address.local, address.ascii_domain))
    except ValueError:
        text = ""
    if not text or not text.isprintable() or not (smtputf8 or text.isascii()):
        raise CannotSay("5.6.7", "Address needs SMTPUTF8, which the server does not take")
    return text.encode()
