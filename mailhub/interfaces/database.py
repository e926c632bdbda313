"""The database behind mailhub's own mailboxes: mail that comes in, the queue, and accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from mailhub.interfaces.accounts import IAccounts, INames
    from mailhub.interfaces.mailboxes import IMailStore
    from mailhub.interfaces.octets import IBlobReader
    from mailhub.interfaces.transport import IQueue


class IState(Interface):
    """What one part remembers over a restart: octets by name, for ever or for a time. It is no place for mail.

    A name is text of up to 512 octets in UTF-8, without NUL and U+10FFFF; a value has up to 64 KiB. Of more than
    100,000 entries of a part, the tenth that would be forgotten first is forgotten; those that are for ever go last.
    """

    async def get(name: str) -> bytes | None:
        """The value, None where there is none or its time is over."""

    async def put(values: Mapping[str, bytes], seconds: int = 0) -> None:
        """Keep up to 1,000 values, in the place of those of the same names: all or none, on disk on return. They are
        forgotten after `seconds`, never for 0. Raises StoreUnavailable; ValueError for what cannot be kept."""

    async def remove(names: Sequence[str]) -> None:
        """Forget them; what is not there is passed over."""

    async def items(prefix: str = "", limit: int = 1000) -> Mapping[str, bytes]:
        """Up to `limit` entries whose names begin with `prefix`, in the order of their names."""


class IStates(Interface):
    """What all parts remember."""

    def of(part: str) -> IState:
        """What the part of this name remembers, and no other sees."""


@attrs.frozen
class Latest:
    """A message that was committed, by the number of its content. `places` are the users whose mailboxes have it, and
    the recipients for whom it is queued."""

    number: int
    places: frozenset[str]


class IDatabase(Interface):
    """All that mailhub itself keeps. The five facets are there before it is started, and share their transactions.

    Which mailboxes can be delivered to in the queue's own commit is asked of `queue.deposits_into`.
    """

    store: IMailStore = Attribute("Its mailboxes. Starting and stopping them starts and stops the database.")
    queue: IQueue = Attribute("The durable queue.")
    accounts: IAccounts = Attribute("The account table.")
    names: INames = Attribute("Domains and aliases.")
    state: IStates = Attribute("What parts remember over a restart.")

    async def start() -> None:
        """Open it, bring it up to date, and set aside what a crash left behind. Doing it twice does nothing. Raises
        ConfigurationError when there is none, when it is a newer mailhub's, or when it cannot be opened or written."""

    async def latest(seconds: int, limit: int) -> Sequence[Latest]:
        """Up to `limit` of the messages that were committed last, within `seconds` before the newest. It is asked at
        the start after the process was killed, for messages whose clients may not have been told: there are none where
        nothing outlives the process. Raises StoreUnavailable."""

    async def open_latest(number: int) -> IBlobReader:
        """All octets of one of them. Raises MessageGone, MessageDamaged, StoreUnavailable."""

    async def stop() -> None:
        """Commit what waits and close. It cannot be started again. May be called again, and without a start."""
