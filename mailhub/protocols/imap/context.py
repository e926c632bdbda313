"""What the handlers of one session share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mailhub.delivery.recently_sent import RecentlySent
from mailhub.errors import MailError
from mailhub.interfaces import IAuthenticator, IBodyWriter, IMailAccount, IMailbox, rights_of
from mailhub.keys import DAY, KEYWORDS_PER_MAILBOX, LOGIN_SECONDS, limit, setting
from mailhub.log import Logger
from mailhub.message.record import WRITING, Entry
from mailhub.net.link import Disconnected, Link
from mailhub.net.networks import CLEARTEXT_LOGIN, Networks
from mailhub.protocols.damage import log_damage
from mailhub.protocols.imap.selected import Selected
from mailhub.wire.budget import Budget
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.server import ImapServer
from mailhub.wire.imap.server_settings import ImapSettings
from mailhub.wire.imap.view import NoSuchNumber, RecentMarks

log = Logger(namespace="mailhub.imap")


@attrs.frozen
class ImapOptions:
    """`settings` are the machine's, TLS apart. Times in seconds: how long a client may be silent before it has logged
    in, and after that (RFC 3501 5.4 asks for 1800 at least). From `cleartext_login` a password is taken without
    TLS. `keywords_per_mailbox` is what the store takes."""

    settings: ImapSettings = attrs.field(factory=lambda: ImapSettings("localhost"))
    login_seconds: float = setting(LOGIN_SECONDS)
    idle_seconds: float = limit("imap_idle_seconds", 1800, 5, DAY)
    cleartext_login: Networks = setting(CLEARTEXT_LOGIN, Networks.of)
    keywords_per_mailbox: int = setting(KEYWORDS_PER_MAILBOX)


@attrs.frozen
class ImapParts:
    """What all sessions of a listener share. `marks` and `budget` are one each for all IMAP listeners of a process.
    `wall` is the time of day in seconds since the epoch, where `clock` does not tell it. `sent` are messages that the
    server has just put into Sent."""

    authenticator: IAuthenticator
    clock: IReactorTime
    marks: RecentMarks = attrs.field(factory=RecentMarks)
    budget: Budget = attrs.field(kw_only=True, factory=Budget)
    options: ImapOptions = attrs.field(factory=ImapOptions)
    wall: Callable[[], float] | None = None
    sent: RecentlySent = attrs.field(kw_only=True, factory=RecentlySent)

    def now(self) -> int:
        """The time of day, in seconds since the epoch."""
        return int(self.clock.seconds() if self.wall is None else self.wall())


@attrs.define(eq=False)
class Arriving:
    """An APPEND whose message is coming in."""

    command: commands.Append
    mailbox: IMailbox
    writer: IBodyWriter


@attrs.define(eq=False, repr=False)
class Context:
    """One session's state. `cut_short`: a literal is being written, so that only cutting the connection is honest."""

    parts: ImapParts
    link: Link
    machine: ImapServer
    login: IMailAccount | None = None
    selected: Selected | None = None
    arriving: Arriving | None = None
    idling: bool = False
    cut_short: bool = False
    _waking: bool = False

    @property
    def account(self) -> IMailAccount:
        """The avatar of the login."""
        assert self.login is not None, "the machine lets no such command through before login"
        return self.login

    @property
    def mailbox(self) -> Selected:
        """What is selected."""
        assert self.selected is not None, "the machine lets no such command through in another state"
        return self.selected

    def mark_of(self, mailbox: IMailbox) -> tuple[str, int]:
        """What `RecentMarks` knows a mailbox by. Those of another store that is mounted in the account may have the
        UIDVALIDITY of one of its own."""
        return getattr(mailbox, "owner", self.account.user), mailbox.uid_validity

    async def select(self, name: str, *, read_only: bool) -> Selected:
        """Take up a mailbox, having let go of the one before. Raises NoSuchMailbox, NotPermitted, StoreUnavailable."""
        self.unselect()
        mailbox = await self.account.mailbox(name)
        key = self.mark_of(mailbox)

        def claim(entries: Sequence[Entry]) -> set[int]:
            return self.parts.marks.claim(key, entries, keep=read_only or not rights_of(mailbox) & WRITING)

        selected = await Selected.open(
            mailbox,
            examined=read_only,
            claim=claim,
            notify=self.wake,
            keyword_limit=self.parts.options.keywords_per_mailbox,
        )
        self.selected = selected
        return selected

    def unselect(self) -> None:
        """Let go of the selected mailbox."""
        selected, self.selected = self.selected, None
        if selected is not None:
            selected.release()

    async def refresh(self) -> None:
        """The client asks what is new. It is told what is known when that cannot be found out."""
        if self.selected is not None:
            try:
                await self.selected.mailbox.refresh()
            except MailError as error:
                log.info("not refreshed: session={id} error={error!r}", id=self.link.session_id, error=error)

    # --- telling -----------------------------------------------------------------------------------------------------

    async def tell(self, *, expunge: bool) -> None:
        """Untagged responses about what others did; EXPUNGE only where the command allows it (RFC 3501 7.4.1)."""
        if self.selected is not None:
            while octets := self.selected.updates(expunge=expunge):
                await self.link.send(octets)

    async def done(self, tag: str, text: str = "", code: bytes = b"", *, expunge: bool = True) -> None:
        """Tell, then answer OK."""
        await self.tell(expunge=expunge)
        self.machine.ok(tag, text, code)

    def wake(self) -> None:
        """The selected mailbox has changed. In IDLE that is told at once, several changes of one turn together."""
        if self.idling and not self._waking:
            self._waking = True
            self.parts.clock.callLater(0, self._awake)

    def _awake(self) -> None:
        self._waking = False
        if self.idling:
            self.link.run(self._tell_idler)

    async def _tell_idler(self) -> None:
        if self.idling and not self.farewell_if_gone():
            await self.tell(expunge=True)

    def farewell_if_gone(self) -> bool:
        """Say BYE when another session deleted the selected mailbox (RFC 2180 3.3)."""
        if self.selected is None or not self.selected.gone:
            return False
        self.machine.bye("The selected mailbox was deleted", responses.NONEXISTENT)
        return True

    def damaged(self, uid: int, error: MailError) -> None:
        """Log that a message of the selected mailbox cannot be read."""
        log_damage(
            log,
            error,
            session_id=self.link.session_id,
            user=self.account.user,
            mailbox=self.mailbox.mailbox.name,
            uid=uid,
        )

    async def breathe(self) -> None:
        """Let the reactor serve others before a long job goes on. Raises Disconnected."""
        turn: Deferred[None] = Deferred()
        self.parts.clock.callLater(0, turn.callback, None)
        await turn
        if not self.link.connected:
            raise Disconnected


Handler: TypeAlias = Callable[[Context, Any], Awaitable[None]]
Handlers: TypeAlias = dict[type[commands.Event], Handler]


def positions_or_bad(
    context: Context, command: commands.Fetch | commands.Store | commands.Copy | commands.Move
) -> list[tuple[int, int]] | None:
    """Where the messages of a command stand; None when it was answered BAD for a number that is too high."""
    try:
        return context.mailbox.view.find(command.numbers, by_uid=command.uid)
    except NoSuchNumber as error:
        context.machine.bad(command.tag, str(error))
        return None
