"""A server as its answer to EHLO shows it, and the commands that are said to it."""

from __future__ import annotations

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


class Hop:
    """One server. `keywords` that it offers, in upper case -> what stands behind them (none where it knows HELO only);
    `offer`: what it has of what a message may need."""

    def __init__(self, lines: tuple[str, ...] = (), *, secure: bool = False) -> None:
        # RFC 5321 4.1.1.1: ehlo-line = ehlo-keyword *( SP ehlo-param ); the first line is a greeting.
        parts = (line.partition(" ") for line in lines[1:])
        self.keywords = {keyword.upper(): parameters.strip() for keyword, _, parameters in parts}
        self.offer = Offer("8BITMIME" in self.keywords, "SMTPUTF8" in self.keywords)
        self._terms = terms(self.keywords, secure)

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
        _check(message.mail, self._terms.mail_demands)
        line = b"MAIL FROM:<" + _path(message.mail.reverse_path, smtputf8) + b">"
        if "SIZE" in self.keywords:
            line += b" SIZE=%d" % message.size
        if eight_bit:
            line += b" BODY=8BITMIME"
        if smtputf8:
            line += b" SMTPUTF8"
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
