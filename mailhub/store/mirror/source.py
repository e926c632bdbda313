"""What a mirror stands on: a place that has messages under keys of its own, and knows nothing of UIDs.

`mailhub.store.mirror` makes an `IMailStore` of it: UIDs, UIDVALIDITY, mod-sequences, digests, and flags where the
source keeps none, are in a ledger of the mirror's own. The source is the only one that has messages, and others may
change it at any moment: what it lists now is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zope.interface import Attribute, Interface

from mailhub.interfaces import IBlobReader, IBody, IBodyWriter
from mailhub.message.flags import Flags
from mailhub.message.record import Rights

Key = str | int
"""What a source knows a message by, one folder at a time. The same key is the same message for good."""


class Listed(NamedTuple):
    """A message as a source lists it.

    `flags`: None where the source does not tell. `date` in seconds since the epoch (INTERNALDATE), None where it is not
    known. `size` in octets; None where it takes reading to find out. `version` is whatever changes when the octets do
    (a time of change, a hash); "" where the source has no such thing.
    """

    key: Key
    flags: Flags | None = None
    date: int | None = None
    size: int | None = None
    version: str = ""


Read = Mapping[Key, bytes | Exception]
"""Octets of some messages, and for those that cannot be read why."""


class ISource(Interface):
    """Where the messages of a mirror are.

    Methods raise MailError: a source says itself (in the log, by file and method) what went wrong, and raises
    StoreUnavailable to the mirror. The mirror makes one change of a folder at a time, in which it lists it too; it
    reads at any time.
    """

    name: str = Attribute("What the log calls it.")
    rights: Rights = Attribute("What can be done with its folders, see `mailhub.message.record.Rights`.")
    keeps_flags: bool = Attribute(
        "Whether the flags that it lists are right, always; else they are what a message begins with, and the mirror "
        "keeps them."
    )
    makes_folders: bool = Attribute("Whether create(), delete() and rename() work.")
    keeps_subscriptions: bool = Attribute("Whether subscriptions() and subscribe() work; else the mirror keeps them.")
    poll_seconds: float = Attribute("How often a folder that somebody watches is listed; 0: only when it is asked for.")

    async def start() -> None:
        """Open it. Raises ConfigurationError."""

    async def stop() -> None:
        """Close it. Calls that are stuck are not waited for."""

    async def exists(user: str) -> bool:
        """Whether the user with this canonical address (`Address.key`) has folders here."""

    async def make_user(user: str) -> None:
        """Make what the user's mail is kept in, unless it is there: for a user with an account, who was never met, or
        one that a checker has vouched for. Raises NoSuchUser where users are made elsewhere."""

    async def folders(user: str) -> Sequence[str]:
        """The names of the user's folders: `/` between levels, all of them allowed
        (`mailhub.message.mailbox_names.check`), none twice. INBOX need not be among them."""

    async def messages(user: str, folder: str) -> Sequence[Listed]:
        """All messages of a folder, each key once, in the order in which new ones get their UIDs. Where nothing has
        changed it should give the very object that it gave before: that costs nobody anything. An INBOX that is not
        there is empty."""

    async def read(user: str, folder: str, keys: Sequence[Key], octets: int) -> Read:
        """The octets of the first of these messages, of at least one of them: so many that they have about so many
        `octets`, and that it does not take long. Those that cannot be read have their reason in the result, MessageGone
        where they are not there any more."""

    async def open(user: str, folder: str, key: Key) -> IBlobReader:
        """One message, for reading it piece by piece. Raises MessageGone."""

    async def quota(user: str) -> int:
        """What the user's messages may have together, in octets; 0 for no limit."""

    def fault(method: str, why: str) -> None:
        """Note in the log, with file and method, what is wrong with an answer: the source has broken a promise."""

    # --- for sources that have the rights

    def new_body(size: int = 0) -> IBodyWriter:
        """For add(). `size` is the announced number of octets, 0 when unknown. Raises StorageFull."""

    async def add(user: str, folder: str, body: IBody, flags: Flags, date: int) -> Key | None:
        """Add a message; durable on return. `date` in seconds since the epoch. None where the source does not know what
        key it got: the mirror looks for it."""

    async def change(user: str, folder: str, flags: Mapping[Key, Flags]) -> Mapping[Key, Exception]:
        """Give messages these flags instead of those that they had. Returns what went wrong, by message. Called only
        where `keeps_flags`."""

    async def remove(user: str, folder: str, keys: Sequence[Key]) -> Mapping[Key, Exception]:
        """Remove messages for good. Returns what went wrong, by message; a message that is not there is removed."""

    async def create(user: str, folder: str) -> None:
        """A new, empty folder. Raises MailboxExists, InvalidMailboxName."""

    async def delete(user: str, folder: str) -> None:
        """With its messages; inferiors stay. Raises NoSuchMailbox."""

    async def rename(user: str, names: Mapping[str, str]) -> None:
        """Rename these folders, one by one or at once: a folder with its inferiors, of which none has a name in the
        way. Keys stay what they are."""

    async def subscriptions(user: str) -> Sequence[str]:
        """The subscribed names, in name order."""

    async def subscribe(user: str, name: str, subscribed: bool, limit: int) -> None:
        """Put a name on the list or take it off. Raises PermanentError for more than `limit`."""
