"""POP3 sessions: the wire machine's events against an account's INBOX (RFC 1939)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import attrs
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import AuthenticationFailed, MailError, MessageGone, NotPermitted
from mailhub.interfaces import (
    IAuthenticator,
    IBlobReader,
    IHold,
    IMailAccount,
    IMailbox,
    IService,
    IUniqueIds,
    Origin,
    Service,
    rights_of,
)
from mailhub.interfaces.services import House
from mailhub.keys import DAY, LOGIN_FAILURES, LOGIN_SECONDS, limit, setting
from mailhub.log import Logger
from mailhub.net.body import BLOCK, copy
from mailhub.net.link import Link
from mailhub.net.networks import CLEARTEXT_LOGIN, Networks
from mailhub.protocols.damage import log_damage
from mailhub.protocols.logout import log_out
from mailhub.wire.pop3.events import Event, Login, Retrieve, StartTls, Top, Update
from mailhub.wire.pop3.maildrop import Maildrop
from mailhub.wire.pop3.server import Code, Pop3Server, Pop3Settings
from mailhub.wire.pop3.top import Topmost

log = Logger(namespace="mailhub.pop3")

_TOP_BLOCK = 8192


class OpenMaildrops:
    """Which accounts have a POP3 session: RFC 1939 4 gives each session its maildrop alone.

    It lives in memory and a session lets go when it has said its last word or its connection is lost, so no lock
    outlives its owner: a client may log in anew before the old connection is closed at both ends. One whose network
    has gone does not even close: after some seconds of its silence the next login ends it, and nothing that it
    marked is removed, as when a connection is lost (RFC 1939 6). IMAP and delivery are not kept out: the session works
    on the view it took at login.
    """

    def __init__(self) -> None:
        self._holders: dict[str, Pop3Session] = {}

    def take(self, user: str, session: Pop3Session, takeover_seconds: float) -> bool:
        """False when another session has it and has not been silent for so long."""
        holder = self._holders.get(user)
        if holder is not None and not holder.machine.closing and holder.link.connected:
            if holder.link.silent_seconds < takeover_seconds or not holder.give_way():
                return False
            log.info(
                "maildrop taken over: user={user} from_session={old} session={new}",
                user=user,
                old=holder.link.session_id,
                new=session.link.session_id,
            )
        self._holders[user] = session
        return True

    def release(self, user: str, session: Pop3Session) -> None:
        """Let the next session in, unless it is in already."""
        if self._holders.get(user) is session:
            del self._holders[user]


@attrs.frozen
class Pop3Options:
    """`login_seconds`: how long a client may be silent before it has logged in; `idle_seconds` after that (RFC 1939 3
    asks for 600 at least); `takeover_seconds`: until another session may take its place.
    From `cleartext_login` a password is taken without TLS."""

    host: str = "localhost"
    plaintext_login: bool = False
    bad_commands: int = limit("pop3_bad_commands", 20, 1, 100_000)
    logins: int = setting(LOGIN_FAILURES)
    login_seconds: float = setting(LOGIN_SECONDS)
    idle_seconds: float = limit("pop3_idle_seconds", 600, 5, DAY)
    takeover_seconds: float = limit("pop3_takeover_seconds", 30, 1, DAY)
    cleartext_login: Networks = setting(CLEARTEXT_LOGIN, Networks.of)


@implementer(IService)
@attrs.frozen
class Pop3Service:
    """What the sessions of a listener share. `maildrops` is one object for all POP3 listeners of a process."""

    authenticator: IAuthenticator
    maildrops: OpenMaildrops
    options: Pop3Options = attrs.field(factory=Pop3Options)

    @classmethod
    def of(cls, service: Service, house: House) -> Pop3Service:
        """What a row of the table of services says."""
        maildrops = house.shared("pop3 maildrops", OpenMaildrops)
        return cls(house.authenticator, maildrops, house.settings.of(Pop3Options, host=house.hostname))

    def session(self, link: Link) -> Pop3Session:
        """A session for a new connection; what `DriverFactory` calls."""
        options = self.options
        settings = Pop3Settings(
            host=options.host,
            secure=link.secure,
            can_start_tls=link.can_start_tls,
            plaintext_login=options.plaintext_login or link.peer in options.cleartext_login,
            bad_commands=options.bad_commands,
            logins=options.logins,
        )
        link.idle_seconds = options.login_seconds
        return Pop3Session(self, link, Pop3Server(settings))


@attrs.define(eq=False, repr=False)
class Pop3Session:
    """One connection. Nothing is removed from the mailbox before QUIT, and nothing is marked as read."""

    _service: Pop3Service
    link: Link
    machine: Pop3Server
    _account: IMailAccount | None = None
    _mailbox: IMailbox | None = None
    _hold: IHold | None = None
    _updating: bool = False
    _retrieved: int = 0
    _deleted: int = 0

    async def connected(self) -> None:
        """Greet."""
        self.machine.greet()

    async def handle(self, event: Event) -> None:
        """Answer one event."""
        match event:
            case Login():
                await self._login(event)
            case StartTls():
                self.machine.starttls_accepted()
                self.link.start_tls()
            case Retrieve(uid, octets):
                await self._content(uid, lambda reader: self._whole(reader, octets))
            case Top(uid, lines):
                await self._content(uid, lambda reader: self._topmost(reader, uid, lines))
            case Update(uids):
                await self._update(uids)

    def crashed(self, failure: Failure) -> None:
        """A message cut short must not look complete: then only the connection can be cut."""
        if self.machine.in_content:
            self.link.abort()
        else:
            self.machine.internal_error()

    def timed_out(self) -> None:
        """RFC 1939 3: close "without removing any messages or sending any response"."""
        self.machine.leave()

    def shutting_down(self) -> None:
        """The text answers whatever the client says next."""
        self.machine.leave("Server is shutting down")

    def give_way(self) -> bool:
        """End this silent session for another of the same user; false while QUIT removes messages."""
        if self._updating:
            return False
        if self.machine.in_content:
            self.link.abort()
        else:
            self.machine.leave("Another session has taken the maildrop over")
            self.link.close()
        return True

    def disconnected(self) -> None:
        """Let the next session have the maildrop."""
        self._service.authenticator.logged_out(self.link.session_id)
        account, self._account, self._mailbox = self._account, None, None
        self._let_go()
        if account is None:
            return
        self._service.maildrops.release(account.user, self)
        log.info(
            "session ended: session={session_id} user={user} retrieved={retrieved} deleted={deleted}",
            session_id=self.link.session_id,
            user=account.user,
            retrieved=self._retrieved,
            deleted=self._deleted,
        )
        log_out(account, self.link.session_id, log)

    def _let_go(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.end()

    # --- Login -----------------------------------------------------------------------------------------------------

    async def _login(self, event: Login) -> None:
        link = self.link
        origin = Origin(link.service, link.peer, link.session_id, link.secure)
        try:
            account = await self._service.authenticator.login(event.credentials, IMailAccount, origin, self._revoked)
        except MailError as error:
            self.machine.login_refused(error.text, _login_code(error))
            return
        if not self._service.maildrops.take(account.user, self, self._service.options.takeover_seconds):
            self._service.authenticator.logged_out(self.link.session_id)
            log_out(account, self.link.session_id, log)
            self.machine.login_refused("Another session has this maildrop open", "IN-USE")
            return
        self._account = account
        try:
            self._mailbox = await account.mailbox("INBOX")
            rights = rights_of(self._mailbox)
            if "r" not in rights:
                raise NotPermitted
            self._hold = self._mailbox.hold()
            entries = await self._mailbox.entries()
            unique_ids = await _unique_ids(self._mailbox, [each.uid for each in entries])
        except Exception as error:
            self._account = self._mailbox = None
            self._let_go()
            self._service.maildrops.release(account.user, self)
            self._service.authenticator.logged_out(self.link.session_id)
            log_out(account, self.link.session_id, log)
            if not isinstance(error, MailError):
                raise
            self.machine.login_refused(error.text, _code(error))
            return
        maildrop = Maildrop(
            self._mailbox.uid_validity,
            ((each.uid, each.size + each.growth) for each in entries),
            removable=rights >= {"t", "e"},
            unique_ids=unique_ids,
        )
        self.machine.login_accepted(maildrop)
        link.idle_seconds = self._service.options.idle_seconds

    def _revoked(self) -> None:
        self.link.expel(lambda: self.machine.leave("Password or account has changed, please log in again"))

    # --- Messages --------------------------------------------------------------------------------------------------

    async def _content(self, uid: int, send: Callable[[IBlobReader], Coroutine[Any, Any, None]]) -> None:
        try:
            reader = await self._inbox.open(uid)
        except MessageGone as error:
            self.machine.refused(error.text)
            return
        except MailError as error:
            self._log_damage(uid, error)
            self.machine.refused(error.text, _code(error))
            return
        try:
            await send(reader)
        except MailError as error:
            self._cannot_go_on(uid, error)
        finally:
            reader.close()

    async def _header_size(self, uid: int) -> int:
        known = await self._inbox.digests([uid], ["header_size"])
        if uid not in known["header_size"]:
            raise MessageGone
        return known["header_size"][uid]

    async def _whole(self, reader: IBlobReader, size: int) -> None:
        # Read before the positive answer: a message that turns out to be gone can still be refused.
        octets = await reader.read(0, BLOCK)
        self.machine.content_started(f"{size} octets")
        await self._send(octets)
        await copy(reader, self._send, len(octets))
        self.machine.content_ended()
        self._retrieved += 1

    async def _topmost(self, reader: IBlobReader, uid: int, lines: int) -> None:
        top = Topmost(lines, await self._header_size(uid))
        octets = await reader.read(0, _TOP_BLOCK)
        self.machine.content_started("Top of message follows")
        offset = 0
        while octets:
            await self._send(top.feed(octets))
            offset += len(octets)
            octets = b"" if top.done else await reader.read(offset, _TOP_BLOCK)
        self.machine.content_ended()

    async def _send(self, octets: bytes) -> None:
        self.machine.content(octets)
        await self.link.send()

    def _cannot_go_on(self, uid: int, error: MailError) -> None:
        self._log_damage(uid, error)
        if self.machine.in_content:
            self.link.abort()
        else:
            self.machine.refused(error.text, _code(error))

    def _log_damage(self, uid: int, error: MailError) -> None:
        assert self._account is not None, "there are no messages before login"
        user = self._account.user
        log_damage(log, error, session_id=self.link.session_id, user=user, mailbox="INBOX", uid=uid)

    async def _update(self, uids: tuple[int, ...]) -> None:
        self._updating = True
        try:
            gone = await self._inbox.expunge(uids, deleted_only=False)
        except MailError as error:
            self.machine.update_failed(error.text, _code(error))
            return
        finally:
            self._updating = False
        # Those that another session removed meanwhile are gone as well, which is what was asked for.
        self._deleted = len(gone)
        self.machine.updated()

    @property
    def _inbox(self) -> IMailbox:
        assert self._mailbox is not None, "the machine lets nobody ask for messages before login"
        return self._mailbox


async def _unique_ids(mailbox: IMailbox, uids: Sequence[int]) -> Mapping[int, str]:
    return await mailbox.unique_ids(uids) if IUniqueIds.providedBy(mailbox) else {}


def _code(error: MailError) -> Code:
    return "SYS/TEMP" if error.temporary else "SYS/PERM"


def _login_code(error: MailError) -> Code:
    return "AUTH" if isinstance(error, AuthenticationFailed) else _code(error)
