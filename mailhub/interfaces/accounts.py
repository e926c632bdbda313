"""Accounts, names and logins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
from zope.interface import Attribute, Interface

from mailhub.credentials import PlainCredentials
from mailhub.message.address import Address

if TYPE_CHECKING:
    from mailhub.message.aliases import AliasTable
    from mailhub.message.lists import MailingList


@attrs.frozen
class Account:
    """A row of mailhub's own account table. `quota` in octets, 0 for none. `created` in seconds since the epoch, 0 for
    one that is older than the fourth schema."""

    user: str
    password_hash: str
    quota: int
    enabled: bool = True
    created: int = attrs.field(default=0, eq=False)


class IAccounts(Interface):
    """mailhub's own account table."""

    async def find(user: str) -> Account | None:
        """The account of a canonical address."""

    async def add(user: str, password_hash: str, quota: int = 0) -> None:
        """With the usual folders. Raises MailboxExists (5.2.0 "Account exists already")."""

    async def remove(user: str) -> None:
        """With all its mail. Raises NoSuchUser."""

    async def set_password(user: str, password_hash: str) -> None:
        """Raises NoSuchUser."""

    async def set_enabled(user: str, enabled: bool) -> None:
        """Whether it may log in; mail for it is taken either way. Raises NoSuchUser."""

    async def set_quota(user: str, quota: int) -> None:
        """Octets, 0 for none. What it holds already stays. Raises NoSuchUser."""

    async def all() -> Sequence[Account]:
        """In address order."""

    async def changed(after: int) -> tuple[int, Sequence[str]]:
        """The number of the last change of a password, of whether an account may log in, or of its removal, and whose
        they were after number `after`. The last 10,000 are remembered."""


@attrs.frozen
class KeptNames:
    """Domains (A-labels) and aliases of the database, beside the configuration's. An alias is named by the key of an
    address, `@domain`, a folded local part, or `wildcard:` or `regex:` and a pattern. `same_as`: domains of which every
    name means that of another domain. `lists`: mailing lists by the keys of their addresses, with what is set about
    them (JSON). `version` grows with every change."""

    version: int = 0
    domains: frozenset[str] = frozenset()
    aliases: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    same_as: Mapping[str, str] = attrs.field(factory=dict)
    lists: Mapping[str, str] = attrs.field(factory=dict)


NO_NAMES: Mapping[str, str] = MappingProxyType({})
NO_TARGETS: Mapping[str, Sequence[str]] = MappingProxyType({})


class INames(Interface):
    """mailhub's own table of domains and aliases."""

    async def kept(newer_than: int = -1) -> KeptNames | None:
        """All of them; None when nothing has changed since that version."""

    async def add_domain(domain: str) -> bool:
        """Whether it is new."""

    async def add_domain_alias(domain: str, same_as: str) -> bool:
        """Have every name of a domain mean that of another; False when it is so already. One that was the same as a
        third is not any more."""

    async def remove_domain(domain: str) -> bool:
        """Whether it was there, as one of its own or as the same as another. Aliases in it stay, and stand for nothing
        until it is back."""

    async def add_alias(name: str, targets: Sequence[str]) -> Sequence[str]:
        """Give the name these targets too; returns those that it did not have."""

    async def add_all(
        aliases: Mapping[str, Sequence[str]],
        domains: Sequence[str] = (),
        same_as: Mapping[str, str] = NO_NAMES,
        remove: Mapping[str, Sequence[str]] = NO_TARGETS,
    ) -> int:
        """As `remove_alias` for these targets and then `add_domain`, `add_domain_alias` and `add_alias` for all of
        them, or, whatever fails, for none. Returns how many domains and targets are new."""

    async def remove_alias(name: str, targets: Sequence[str] = ()) -> Sequence[str]:
        """Take these targets from the name, or all; returns those that it had."""

    async def put_list(address: str, settings: str) -> bool:
        """Have a mailing list of this address (`Address.key`) with these settings; whether that is new."""

    async def remove_list(address: str) -> bool:
        """With its members. Whether it was there."""

    async def list_members(address: str) -> Sequence[str]:
        """The addresses of its members, in the order of their keys. Those that stand in the configuration are not among
        them."""

    async def has_member(address: str, member: str) -> bool:
        """Whether somebody (`Address.key`) is among them."""

    async def join_list(address: str, members: Sequence[str]) -> Sequence[str]:
        """Those that are new. A member is an address, the same one in whichever case."""

    async def leave_list(address: str, members: Sequence[str]) -> Sequence[str]:
        """Those that were there."""


class ILocalNames(Interface):
    """The domains and aliases that are ours, those of the configuration and those of the database. They change while
    the hub runs: ask each time, keep no copy."""

    domains: frozenset[str] = Attribute("Local domains, A-labels; those that are the same as another are among them.")
    aliases: AliasTable = Attribute("Their aliases.")
    lists: Mapping[str, MailingList] = Attribute("Mailing lists, by the keys of their addresses.")

    async def refresh() -> None:
        """Before names are asked: have them as they are now. Where the database does not answer, what was known stays
        in use."""

    def known_elsewhere(domain: str) -> bool:
        """Whether others than mailhub may know more users of this domain (an A-label)."""

    def without_detail(address: Address) -> Sequence[tuple[Address, str]]:
        """The user and the detail of `user+detail@domain` (RFC 5233), by what separates them here. Where several
        characters do, all that may be meant, the longest user first; empty when there is no detail."""

    def same(address: Address) -> Address | None:
        """What a name means in a domain that is the same as another: that name in the other; None in any other
        domain."""

    async def members(address: str) -> Sequence[Address]:
        """Those of a mailing list (`Address.key`). Raises StoreUnavailable."""

    async def is_member(address: str, member: Address) -> bool:
        """Whether somebody is among them. Raises StoreUnavailable."""


class IPasswords(Interface):
    """Verifies passwords off the reactor thread, a bounded number at once."""

    async def verify(encoded: str, password: str) -> bool:
        """Whether the password made this argon2id hash. An empty hash (unknown user) costs the same and never matches.
        Raises Busy."""


class IVerifiedLogins(Interface):
    """Which passwords were right lately, so that a client that logs in every minute costs microseconds."""

    def knows(user: str, password: str, encoded: str) -> bool:
        """Whether this password was verified against this very hash."""

    def remember(user: str, password: str, encoded: str) -> None:
        """Note a successful verification."""


class IHarvest(Interface):
    """Slows down those who try names to find out which exist."""

    async def refused(peer: str, count: int) -> bool:
        """A recipient is refused, the `count`th of its session: wait as long as the answer is to be held back. False
        when the session is to end instead."""

    async def erred(peer: str, count: int) -> bool:
        """A command is refused for another reason than a recipient, the `count`th beyond those that its session has
        free: wait as long as the answer is to be held back. False when the session is to end instead."""


class IUserDirectory(Interface):
    """Knows users who may have no account here yet: those of LDAP, a file, another program."""

    def exists(user: str) -> bool | Awaitable[bool]:
        """Whether there is such a user (`Address.key`; of a local domain): mail is taken, and the account made with the
        first message. May be `async def` or give a Deferred. Whatever it raises, the sender is asked to come again;
        only NoSuchUser is a no."""


class IUserDirectories(IUserDirectory):
    """All directories of a hub as one, and the checkers that can tell."""

    complete: bool = Attribute(
        "Whether whom they do not know is nobody: all who let users in can be asked, and the operator says no other."
    )


class ISubmitter(Interface):
    """The cred avatar of authenticated SMTP."""

    user: str = Attribute("The account's canonical address.")

    async def may_send_as(address: Address | None) -> bool:
        """Whether this login may use the reverse-path (RFC 6409 6.1). None is the null reverse-path."""


_NOTHING: Mapping[str, str] = MappingProxyType({})


@attrs.frozen
class Origin:
    """Where a session comes from; the `mind` of cred logins and the subject of policies.

    `service` is the `[listen]` name, for the log: what is to be done differently there is said by `submission` (our own
    users hand in mail, after a login: RFC 6409, RFC 8314 3.3) and `each_recipient` (each recipient of a message gets
    its own answer at the end: LMTP, RFC 2033). `peer` is an IP address or "" for a local socket, as is `local`, the one
    of ours that was called; `user` the login, or ""; `tls` protocol and cipher, as `TLSv1.3/TLS_AES_256_GCM_SHA384`.
    `early`: the client has spoken before it was its turn (before the greeting, or behind a command whose reply must be
    waited for, RFC 2920 3.1). `rehearsal`: nobody is there; it is only asked what would happen, and nothing counts.
    `forwarded`: what a trusted client says by XFORWARD of where the message came from (`ADDR`, `HELO`, `IDENT`, ...),
    for the log.
    """

    service: str
    peer: str = ""
    session_id: str = ""
    secure: bool = False
    helo: str = ""
    extended: bool = True
    user: str = ""
    local: str = ""
    tls: str = ""
    submission: bool = False
    each_recipient: bool = False
    early: bool = attrs.field(default=False, eq=False)
    rehearsal: bool = attrs.field(default=False, eq=False)
    forwarded: Mapping[str, str] = attrs.field(default=_NOTHING, eq=False)

    @property
    def original(self) -> dict[str, object]:
        """The fields of a log line that say where the message came from, where that is told."""
        return {f"orig_{name.lower()}": value for name, value in self.forwarded.items() if value}


class IAuthenticator(Interface):
    """The gate in front of the portal: throttling, equal time for unknown users, and the stable log line."""

    async def login(
        credentials: PlainCredentials,
        avatar: type[Interface],
        origin: Origin,
        revoked: Callable[[], None] | None = None,
    ) -> Any:
        """The avatar. Raises AuthenticationFailed (one answer for every reason), Busy.

        `revoked` is called when the login is no longer good (the password was changed, the account disabled or
        removed), unless `logged_out` was called before.
        """

    async def vouched(
        user: str, avatar: type[Interface], origin: Origin, revoked: Callable[[], None] | None = None
    ) -> Any:
        """The avatar of a user whom a trusted proxy has logged in: one who could log in here, so that nobody is made
        by a proxy's word. `revoked` as in `login`. Raises AuthenticationFailed, TemporaryError."""

    def logged_out(session_id: str) -> None:
        """The session of this `Origin.session_id` is over, whether it had logged in or not."""
