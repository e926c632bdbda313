"""IMAP sessions: the wire machine's events against an account (RFC 3501)."""

from __future__ import annotations

import attrs
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.delivery.recently_sent import SHARED, RecentlySent
from mailhub.errors import MailError
from mailhub.interfaces import IMailAccount, IService, Origin, Service
from mailhub.interfaces.services import House
from mailhub.net.link import Disconnected, Link
from mailhub.protocols.imap import append, fetch, mailboxes, messages, search
from mailhub.protocols.imap.context import Context, Handlers, ImapOptions, ImapParts, log
from mailhub.protocols.imap.errors import code_for
from mailhub.protocols.logout import log_out
from mailhub.wire.budget import Budget
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.commands import Event
from mailhub.wire.imap.server import ImapServer
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.imap.view import RecentMarks

__all__ = ["ImapOptions", "ImapParts", "ImapService", "ImapSession"]


@implementer(IService)
@attrs.frozen
class ImapService:
    """Makes the sessions of one listener."""

    parts: ImapParts

    @classmethod
    def of(cls, service: Service, house: House) -> ImapService:
        """What a row of the table of services says."""
        environment = house.environment
        options = house.settings.of(ImapOptions, settings=house.settings.of(ImapSettings, hostname=house.hostname))
        marks, budget = house.shared("imap marks", RecentMarks), house.shared("imap before login", Budget)
        sent = house.shared(SHARED, RecentlySent)
        clock, wall = environment.clock, environment.wall
        parts = ImapParts(house.authenticator, clock, marks, options, wall, budget=budget, sent=sent)
        return cls(parts)

    def session(self, link: Link) -> ImapSession:
        """A session for a new connection; what `DriverFactory` calls."""
        options = self.parts.options
        settings = attrs.evolve(
            options.settings,
            secure=link.secure,
            starttls=link.can_start_tls,
            plaintext_login=options.settings.plaintext_login or link.peer in options.cleartext_login,
        )
        link.idle_seconds = options.login_seconds
        return ImapSession(Context(self.parts, link, ImapServer(settings, self.parts.budget)))


@attrs.define(eq=False, repr=False)
class ImapSession:
    """One connection."""

    _context: Context

    @property
    def machine(self) -> ImapServer:
        """The protocol."""
        return self._context.machine

    @property
    def link(self) -> Link:
        """The connection."""
        return self._context.link

    async def connected(self) -> None:
        """Greet."""
        self.machine.greet()

    async def handle(self, event: Event) -> None:
        """Answer one event."""
        context = self._context
        if isinstance(event, _NEEDS_MAILBOX) and context.farewell_if_gone():
            return
        try:
            await _HANDLERS[type(event)](context, event)
        except Disconnected:
            return  # nobody is left to be answered
        except MailError as error:
            # Events without a tag answer their errors themselves.
            tag = getattr(event, "tag", "")
            if error.detail:
                log.info(
                    "refused: session={session_id} reason={reason!r}",
                    session_id=self.link.session_id,
                    reason=str(error),
                )
            self.machine.no(tag, error.text, code_for(error))

    def crashed(self, failure: Failure) -> None:
        """A literal cut short must not look complete: then only the connection can be cut."""
        append.drop(self._context)
        if self._context.cut_short:
            self.link.abort()
        else:
            self.machine.internal_error()

    def timed_out(self) -> None:
        """RFC 3501 5.4."""
        self.machine.bye("Idle for too long")

    def shutting_down(self) -> None:
        """The client may come back in a moment."""
        self.machine.bye("Server is shutting down", responses.UNAVAILABLE)

    def disconnected(self) -> None:
        """Let go of everything."""
        context = self._context
        context.parts.authenticator.logged_out(self.link.session_id)
        context.idling = False
        context.machine.disconnected()
        context.unselect()
        append.drop(context)
        account, context.login = context.login, None
        if account is not None:
            log.info(
                "session ended: session={session_id} user={user}",
                session_id=self.link.session_id,
                user=account.user,
            )
            log_out(account, self.link.session_id, log)


async def _login(context: Context, command: commands.Login) -> None:
    """LOGIN and AUTHENTICATE. The gate logs failures and says nothing of their reason."""
    link, parts = context.link, context.parts
    origin = Origin(link.service, link.peer, link.session_id, link.secure)

    def revoked() -> None:
        link.expel(lambda: context.machine.bye("Password or account has changed, please log in again"))

    account = await parts.authenticator.login(command.credentials, IMailAccount, origin, revoked)
    context.login = account
    link.idle_seconds = parts.options.idle_seconds
    context.machine.ok(command.tag, "Logged in")


async def _start_tls(context: Context, command: commands.StartTls) -> None:
    context.machine.ok(command.tag, "Begin TLS negotiation now")
    context.link.start_tls()


async def _logout(context: Context, command: commands.Logout) -> None:
    context.unselect()
    context.machine.ok(command.tag)


async def _identified(context: Context, event: commands.Identified) -> None:
    log.debug(
        "client: session={session_id} fields={fields!r}",
        session_id=context.link.session_id,
        fields=", ".join(name if value is None else f"{name}: {value}" for name, value in event.fields),
    )


async def _idle(context: Context, command: commands.Idle) -> None:
    """IDLE (RFC 2177): from now on changes are told as they come."""
    await context.refresh()
    context.idling = True
    await context.tell(expunge=True)


async def _idle_done(context: Context, event: commands.IdleDone) -> None:
    context.idling = False
    await context.done(event.tag, "Idle ended")


_HANDLERS: Handlers = {
    commands.Login: _login,
    commands.StartTls: _start_tls,
    commands.Logout: _logout,
    commands.Identified: _identified,
    commands.Idle: _idle,
    commands.IdleDone: _idle_done,
    **append.HANDLERS,
    **fetch.HANDLERS,
    **mailboxes.HANDLERS,
    **messages.HANDLERS,
    **search.HANDLERS,
}
_NEEDS_MAILBOX = (
    commands.Noop,
    commands.Idle,
    commands.IdleDone,
    *fetch.HANDLERS,
    *messages.HANDLERS,
    *search.HANDLERS,
)
