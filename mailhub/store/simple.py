"""A mailbox backend in a few lines: you say which messages there are, mailhub does the rest.

    class Notes(SimpleStore):
        def users(self):
            return ["ann@xx.example"]

        def messages(self, user, folder):
            return ["first", "second"]

        def read(self, user, folder, key):
            return b"Subject: " + key.encode() + b"\\r\\n\\r\\nHello\\r\\n"

    notes = Component("store", "notes", Notes)

UIDs, UIDVALIDITY, mod-sequences, flags, search, copy, move, IDLE and POP3 come from `mailhub.store.mirror`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Awaitable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from mailhub.store.mirror.source import Key

__all__ = ["Key", "Message", "SimpleStore"]


class Message(NamedTuple):
    """What `SimpleStore.messages` may give in the place of a key, where more is known at once.

    `key`: what the message is read by, the same for good, and never another message's. `flags`: those that it has,
    such as {"\\\\Seen"}; None where the store does not keep them. `date`: when it came (INTERNALDATE), in seconds since
    the epoch or a datetime with its time zone; where there is none, the message's own Date counts. `size` in octets,
    exactly those of what `read` gives: with it a folder can be listed before its messages are read.
    """

    key: Key
    flags: Iterable[str] | None = None
    date: float | datetime | None = None
    size: int | None = None


class SimpleStore(ABC):
    """An IMailStore of a few small methods; `Component("store", "mine", MyStore)` is all that is needed.

    `users`, `messages` and `read` are what every store has, and `folders` where there are others than INBOX. It can
    only be read unless it also has some of

        def add(self, user, folder, octets, flags, date): ...  # returns the new message's key
        def change(self, user, folder, key, flags): ...        # the flags that the message has from now on
        def remove(self, user, folder, key): ...               # the message is gone for good
        def quota(self, user): ...                             # octets; or `quota = ...` for everybody

    `add` takes mail (APPEND, COPY into it, delivery), durable when it returns; `date` is in seconds since the epoch.
    `change` keeps flags, which come back in `Message.flags`; a store without it that has `add` or `remove`, or
    `keep_flags`, has them kept for it. `remove` takes messages away (EXPUNGE, MOVE, DELE).

    Each method may be a plain function: then it is called in a thread of this store's own, one call at a time, so it
    may block and needs no locks. Or it may be `async def`, or give a Deferred: then it runs on the reactor, and must
    not block. What a method raises is logged with file and method; a MailError goes to the client as it is.
    """

    poll_seconds: float = 10.0
    """How often a folder that a session has selected is listed; 0: only when `changed` is called or the client asks."""

    keep_flags: bool = False
    """Whether flags are kept for a store that cannot be written otherwise (\\\\Seen of a feed)."""

    def __init__(self, options: Any, hub: Any) -> None:
        self.options = options
        self.hub = hub

    @abstractmethod
    def users(self) -> Iterable[str] | Awaitable[Iterable[str]]:
        """The addresses of all who have mail here."""

    def folders(self, user: str, /) -> Iterable[str] | Awaitable[Iterable[str]]:
        """The names of a user's folders, `/` between levels. There is an INBOX in any case."""
        return ("INBOX",)

    @abstractmethod
    def messages(
        self, user: str, folder: str, /
    ) -> Iterable[Key | Message] | Awaitable[Iterable[Key | Message]] | AsyncIterable[Key | Message]:
        """What is in a folder now, in the order in which it came: keys, or `Message`s where more is known."""

    @abstractmethod
    def read(self, user: str, folder: str, key: Any, /) -> bytes | Awaitable[bytes]:
        """A message (RFC 5322), always the same octets for the same key."""
