"""Mail programs and servers of others in a network in memory: they hand messages in over the wire, by the client that
mailhub relays with, again and again until each recipient has an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import attrs
from twisted.internet.defer import Deferred

from mailhub.credentials import PlainCredentials
from mailhub.errors import MailError, TemporaryError
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, Outcome, Recipient, State, outcome_of
from mailhub.message.needs import needs_of
from mailhub.net.smtp_client import SmtpConnection, connect
from mailhub.store.octets import OctetsReader
from mailhub.testing.played_tls import PlayedClientTls
from mailhub.wire.smtp.client import SmtpClientSettings

if TYPE_CHECKING:
    from mailhub.testing.hubs import Host, Internet

Service = Literal["smtp", "lmtp", "submission", "submissions"]


@attrs.define(eq=False)
class Sending:
    """A message on its way in. `answers` are the last words to each recipient; those who were DELAYED are asked for
    again after `again_seconds`.

    `forgets`: of the first answer to the message, be it what it may, the client knows nothing any more; its connection
    breaks, and it sends all of it again.
    """

    mail: Mail
    octets: bytes
    answers: dict[Recipient, Outcome]
    forgets: bool = False
    attempts: int = 0

    @property
    def left(self) -> list[Recipient]:
        """Those who are to be asked for."""
        return [named for named, answer in self.answers.items() if answer.state is State.DELAYED]

    @property
    def taken(self) -> list[Recipient]:
        """For whom the server has taken it."""
        return [named for named, answer in self.answers.items() if answer.state is State.DELIVERED]


@attrs.define(eq=False)
class Client:
    """Somebody at the IP address `source` who sends by a `service` of a host: with STARTTLS or TLS from the first octet
    where he logs in, else with TLS where it is offered; by BDAT and with pipelining as far as the host has them."""

    internet: Internet
    host: Host
    service: Service = "smtp"
    user: str = ""
    password: str = ""
    source: str = "10.9.9.9"
    again_seconds: float = 300.0

    def send(
        self, sender: str, recipients: Sequence[str | Recipient], message: bytes, mail: Mail | None = None
    ) -> Sending:
        """Begin to send a message, as time goes by. `mail` is for what else is said of it."""
        mail = mail or Mail(Address.parse(sender) if sender else None, "8BITMIME", size=len(message))
        named = [Recipient(Address.parse(each)) if isinstance(each, str) else each for each in recipients]
        return self.go_on(Sending(mail, message, dict.fromkeys(named, Outcome.delayed("Not asked for yet"))))

    def go_on(self, sending: Sending) -> Sending:
        """Try what is left of it now, and then until nothing is."""
        Deferred.fromCoroutine(self._attempt(sending))
        return sending

    async def _attempt(self, sending: Sending) -> None:
        sending.attempts += 1
        left = sending.left
        try:
            connection = await self._connect()
        except MailError as error:
            # A server that wants none of us may want some later.
            answers: Sequence[Outcome] = [outcome_of(TemporaryError(error.text, status="4.0.0"))] * len(left)
        else:
            answers = await self._transact(connection, sending, left)
        sending.answers.update(zip(left, answers, strict=True))
        if sending.left:
            self.internet.clock.callLater(self.again_seconds, self.go_on, sending)

    async def _transact(
        self, connection: SmtpConnection, sending: Sending, left: Sequence[Recipient]
    ) -> Sequence[Outcome]:
        octets = sending.octets
        answers = await connection.send(sending.mail, left, OctetsReader(octets), needs=needs_of(octets))
        if sending.forgets and connection.usable:
            sending.forgets = False
            connection.abort()
            return [Outcome.delayed("Forgotten")] * len(left)
        await connection.quit()
        return answers

    async def _connect(self) -> SmtpConnection:
        internet, host = self.internet, self.host
        address, port = host.place(self.service)
        secure = host.hub.services[self.service].implicit_tls
        credentials = PlainCredentials("", self.user, self.password) if self.user else None
        settings = SmtpClientSettings(
            "client.example",
            host.hostname,
            "required" if credentials is not None else "opportunistic",
            secure,
            credentials,
            lmtp=self.service == "lmtp",
        )
        tls = PlayedClientTls()
        looking = tls.verifying if credentials is not None else tls.opportunistic
        return await connect(
            internet.network.at(self.source), internet.clock, address, port, settings, looking(host.hostname)
        )
