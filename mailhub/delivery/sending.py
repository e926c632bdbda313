"""What is done for our own users' messages beside sending them (RFC 6409): who they are from, how long they wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, Protocol, TypeVar

import attrs

from mailhub.delivery.limits import HOLD_LIMIT
from mailhub.delivery.recently_sent import SHARED, RecentlySent
from mailhub.errors import NotPermitted, PermanentError
from mailhub.interfaces import Environment, ISettings, ISubmitter, Origin
from mailhub.keys import Key, setting
from mailhub.message.address import Address
from mailhub.message.authors import authors, resenters
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail
from mailhub.message.patterns import AddressPatterns
from mailhub.message.submission import blind_fields, mend_header

T = TypeVar("T")
CheckFrom = Literal["off", "envelope", "strict"]
_CHECK_FROM: Key[CheckFrom] = Key("submission", "check_from", "off", hint=CheckFrom)

_COPY_ACCOUNTS = Key("submission", "copy_to_sent_accounts", (), hint=tuple[str, ...], check=AddressPatterns.parse)

_NONE = AddressPatterns()


@attrs.frozen
class SendingOptions:
    """[submission]. `check_from`: whose addresses From and Resent-From may have; that of a message that is resent is
    left to its author where `allow_resent` says so. `set_sender`: whether Sender says who has
    logged in, where From does not. `copy_to_sent`: whether accounts get a copy of what they send; those that are named
    do in any case. Nothing is sent for `undo_seconds`; a message may ask for `hold_limit_seconds` (RFC 4865)."""

    check_from: CheckFrom = setting(_CHECK_FROM)
    allow_resent: bool = setting(Key("submission", "allow_resent", False, hint=bool))
    set_sender: bool = setting(Key("submission", "set_sender", False, hint=bool))
    copy_to_sent: bool = setting(Key("submission", "copy_to_sent", False, hint=bool))
    copy_to_sent_accounts: AddressPatterns = setting(_COPY_ACCOUNTS, AddressPatterns.parse)
    undo_seconds: int = setting(Key("submission", "undo_seconds", 0, 0, 3600))
    hold_limit_seconds: int = setting(HOLD_LIMIT)


def held_until(mail: Mail, now: int) -> int:
    """Before when nothing of a message may be delivered (RFC 4865), in seconds since the epoch; 0 for none."""
    hold = mail.hold
    if hold is None:
        return 0
    return hold.seconds if hold.kind == "UNTIL" else now + hold.seconds


class _Hub(Protocol):
    """What is used of it."""

    @property
    def settings(self) -> ISettings: ...
    @property
    def environment(self) -> Environment: ...
    def shared(self, name: str, make: Callable[[], T]) -> T: ...


@attrs.frozen(eq=False)
class Sending:
    """One hub's rules for what its users send."""

    options: SendingOptions
    environment: Environment
    recent: RecentlySent = attrs.field(factory=RecentlySent)

    @classmethod
    def of(cls, hub: _Hub) -> Sending:
        """Those of a hub."""
        recent = hub.shared(SHARED, RecentlySent)
        return cls(hub.settings.of(SendingOptions), hub.environment, recent)

    def copies(self, user: str) -> bool:
        """Whether an account gets a copy of what it sends."""
        options = self.options
        if options.copy_to_sent or options.copy_to_sent_accounts != _NONE:
            with suppress(ValueError):  # a login that is no address has no mailbox of that name
                return options.copy_to_sent_accounts.match(Address.parse(user)) or options.copy_to_sent
        return False

    def check_hold(self, mail: Mail) -> None:
        """Raises PermanentError (5.5.4, RFC 4865 4 and 5.2.2) for a message that is to be held for too long, or for
        longer than it may take to be delivered (RFC 2852); what is to go back then has to have some time left."""
        now = self.environment.now()
        by, until = mail.by, held_until(mail, now)
        if by is not None and until > now + by.seconds - (by.mode == "R"):
            raise PermanentError("Mail cannot be held until its time to be delivered is over", status="5.5.4")
        if until > now + self.options.hold_limit_seconds:
            limit = self.options.hold_limit_seconds
            raise PermanentError(f"Mail is held for at most {limit} seconds", status="5.5.4")

    def held_until(self, origin: Origin, mail: Mail) -> int:
        """Before when nothing of a message may be delivered, in seconds since the epoch; 0 for none. While it can be
        undone, no more than half of the time goes by in which it is to be delivered (RFC 2852)."""
        now = self.environment.now()
        until = held_until(mail, now)
        undo = self.options.undo_seconds if origin.submission else 0
        if undo and mail.by is not None and mail.by.seconds > 0:
            undo = min(undo, mail.by.seconds // 2)
        return max(until, now + undo) if undo else until


@attrs.define(eq=False)
class Author:
    """Who one submitted message is from: noted while its header comes in, looked at when all of it is there."""

    _sending: Sending
    _user: str
    _submitter: ISubmitter | None
    _found: Sequence[Address] = ()
    _resent_by: Sequence[Address] = ()
    _fault: str = ""
    blind: bytes = b""  # the fields that were taken out

    def mend(self, header: bytes, message_id: str) -> bytes:
        """The header with what it lacks, and without what nobody is to see."""
        options = self._sending.options
        if options.set_sender or options.check_from != "off":
            try:
                self._found = authors(header)
                self._resent_by = resenters(header)
            except ValueError as error:
                self._fault = str(error)
        if self._sending.copies(self._user):
            self.blind = blind_fields(header)
        date = format_date(self._sending.environment.now())
        return mend_header(header, date, message_id, self._sender)

    @property
    def _sender(self) -> str | None:
        """What the Sender field is to say: nothing where From says the same (RFC 5322 3.6.2)."""
        if not self._sending.options.set_sender or not self._user:
            return None
        try:
            user = Address.parse(self._user)
        except ValueError:  # a login that is no address
            return None
        return "" if [each.key for each in self._found] == [user.key] else str(user)

    async def check(self, mail: Mail) -> None:
        """Raises NotPermitted (5.7.1) where From, or Resent-From and Resent-Sender, is not the submitter's,
        PermanentError (5.6.0) where there is none that can be read; TemporaryError."""
        kind = self._sending.options.check_from
        if kind == "off" or self._submitter is None:
            return
        if self._fault:
            raise PermanentError(self._fault, status="5.6.0")
        if not (self._resent_by and self._sending.options.allow_resent):
            await self._check_all("From", self._found, mail)
        await self._check_all("Resent-From", self._resent_by, mail)

    async def _check_all(self, field: str, addresses: Sequence[Address], mail: Mail) -> None:
        kind, submitter = self._sending.options.check_from, self._submitter
        assert submitter is not None, "it is looked at after a login"
        for each in addresses:
            same = mail.reverse_path is not None and each.key == mail.reverse_path.key
            if kind == "envelope" and mail.reverse_path is not None and not same:
                raise NotPermitted(f"{field} field is not the sender that MAIL has named")
            if not same and not await submitter.may_send_as(each):
                raise NotPermitted(f"{field} field has an address that does not belong to your login")
