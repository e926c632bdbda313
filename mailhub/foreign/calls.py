"""Calling the objects of a realm written for `twisted.mail`, and looking at what they give.

Each of their methods may give a Deferred or a value. What their interfaces say that they raise is an answer; all else,
and no answer in time, is a failure of the realm, which its guard names in the log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary
from zlib import crc32

import attrs
from twisted.internet.defer import Deferred
from twisted.mail.imap4 import (
    IllegalMailboxEncoding,
    MailboxCollision,
    MailboxException,
    NoSuchMailbox,
    ReadOnlyMailbox,
)

from mailhub import errors
from mailhub.answers import answer
from mailhub.guard import Guard
from mailhub.interfaces import Environment
from mailhub.log import Logger
from mailhub.message import flags as flag_names
from mailhub.message.flags import Flags
from mailhub.message.line_ends import growth
from mailhub.store.index import DigestCache
from mailhub.store.limits import StoreLimits
from mailhub.store.mirror.held import Kept
from mailhub.store.nonsense import Nonsense, listed, shown

log = Logger(namespace="mailhub.plugins")

READABLE = 1 << 30  # octets of a message that a realm has: what may be taken is another matter
SIZES = 1_000_000  # messages whose size stays known
_CHUNK = 1 << 16  # octets read from a file at a time
_TEXT = 200  # characters of a reason that a client is told
_MAILBOX = 10  # as much memory as so many messages
_SAID = 1000  # different lines of the log
_FLAGS = 10_000  # of a message, known or not

# What realms raise as an answer; the first class that fits counts.
_ERRORS: tuple[tuple[type[Exception], type[errors.MailError]], ...] = (
    (MailboxCollision, errors.MailboxExists),
    (NoSuchMailbox, errors.NoSuchMailbox),
    (ReadOnlyMailbox, errors.NotPermitted),
    (IllegalMailboxEncoding, errors.InvalidMailboxName),
    (MailboxException, errors.PermanentError),
    (NotImplementedError, errors.NotPermitted),
)


@attrs.frozen
class Measured:
    """What was found out about a message by reading it: octets, `line_ends.growth`, CRC-32, and the Date in its header
    (0 where there is none)."""

    size: int
    growth: int
    checksum: int
    sent: int

    @classmethod
    def of(cls, octets: bytes, sent: int) -> Measured:
        """Read it through."""
        return cls(len(octets), growth(octets), crc32(octets), sent)


@attrs.frozen(eq=False)
class Known:
    """What is known of one mailbox or maildrop, by UID or unique-id: the same octets stand under it for good. `number`
    is that of no other."""

    number: int
    messages: dict[int | str, Measured] = attrs.field(factory=dict)


class Sizes:
    """What is known of messages that were read once."""

    def __init__(self, limit: int = SIZES) -> None:
        self._limit = limit
        self._numbers = 0
        self._known: OrderedDict[tuple[object, ...], Known] = OrderedDict()

    def of(self, *mailbox: object) -> Known:
        """Of one mailbox, to be looked at and added to. What is known of those that were used longest ago goes."""
        if mailbox not in self._known:
            self._numbers += 1
            self._known[mailbox] = Known(self._numbers)
        found = self._known[mailbox]
        self._known.move_to_end(mailbox)
        total = sum(len(known.messages) + _MAILBOX for known in self._known.values())
        while total > self._limit and len(self._known) > 1:
            total -= len(self._known.popitem(last=False)[1].messages) + _MAILBOX
        return found


@attrs.define(eq=False)
class Learnt:
    """What is known of a realm's mailboxes, whoever serves them."""

    digests: DigestCache = attrs.field(factory=lambda: DigestCache(StoreLimits().digest_cache_bytes))
    kept: Kept = attrs.field(factory=Kept)
    sizes: Sizes = attrs.field(factory=Sizes)
    # What users have subscribed to, which the realm has no list of.
    named: dict[str, set[str]] = attrs.field(factory=dict)
    # Mailboxes that sessions have, by the identity of the realm's object (which they hold on to).
    folders: WeakValueDictionary[int, Any] = attrs.field(factory=WeakValueDictionary)


@attrs.define(eq=False)
class Foreign:
    """A realm, as the adapters of one service share it. It is called by its `guard`, and what has more than
    `message_octets` is no message of it. `hostname` is ours. `learnt` is that of all services of the realm."""

    environment: Environment
    guard: Guard
    message_octets: int = READABLE
    hostname: str = "localhost"
    limits: StoreLimits = attrs.field(factory=StoreLimits)
    learnt: Learnt = attrs.field(factory=Learnt)
    digests: DigestCache = attrs.field(init=False)
    kept: Kept = attrs.field(init=False)
    sizes: Sizes = attrs.field(init=False)
    named: dict[str, set[str]] = attrs.field(init=False)
    folders: WeakValueDictionary[int, Any] = attrs.field(init=False)
    _said: set[tuple[str, str]] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        learnt = self.learnt
        self.digests, self.kept, self.sizes = learnt.digests, learnt.kept, learnt.sizes
        self.named, self.folders = learnt.named, learnt.folders

    async def ask(self, thing: Any, method: str, *arguments: object, **named: object) -> Any:
        """What the realm's object answers. Raises MailError: Unanswered when it has failed."""
        return await self.guard.ask(method, _asked, lambda: getattr(thing, method)(*arguments, **named))

    async def call(
        self, method: str, function: Callable[..., Any], *arguments: object, seconds: float | None = None
    ) -> Any:
        """As `ask`, of a function of ours that calls the realm's, above all the method of that name, and looks at what
        they give. It may have other `seconds` than all."""
        return await self.guard.ask_about({}, method, _asked, lambda: function(*arguments), seconds=seconds)

    def fault(self, method: str, why: str) -> None:
        """Name in the log what is wrong with a part of an answer, of which the rest is good: once."""
        if (method, why) not in self._said and len(self._said) < _SAID:
            self._said.add((method, why))
            log.warn(
                "realm is at fault: realm={realm} method={method} file={file} reason={reason:text}",
                realm=self.guard.name,
                method=method,
                file=self.guard.file,
                reason=why,
            )

    async def breathe(self) -> None:
        """Let the reactor serve others before a long job goes on."""
        turn: Deferred[None] = Deferred()
        self.environment.clock.callLater(0, turn.callback, None)
        await turn


async def _asked(function: Callable[[], Any]) -> Any:
    try:
        return await answer(function())
    except tuple(kind for kind, _ in _ERRORS) as error:
        made = next(made for kind, made in _ERRORS if isinstance(error, kind))
        # What somebody has to say who is asked for what he does not do.
        raise made("" if isinstance(error, NotImplementedError) else sentence(error), detail=repr(error)) from error


def sentence(reason: object) -> str:
    """A reason that a client can be told: one line of ASCII; "" where that cannot be had."""
    try:
        text = " ".join(reason.decode("ascii", "replace").split() if isinstance(reason, bytes) else str(reason).split())
    except Exception:
        return ""
    return "".join(character if " " <= character <= "~" else "?" for character in text)[:_TEXT]


def text(given: Any) -> str:
    """What is text today was octets once. Raises Nonsense."""
    if isinstance(given, bytes):
        return given.decode("utf-8", "replace")
    if isinstance(given, str):
        return given
    raise Nonsense(f"gave {shown(given)}, not text")


def number(given: Any, low: int, high: int) -> int:
    """A number in bounds. Raises Nonsense."""
    if not isinstance(given, int) or isinstance(given, bool) or not low <= given <= high:
        raise Nonsense(f"gave {shown(given)}, not a number from {low} to {high}")
    return given


def flags(given: Any) -> Flags:
    """The flags of a message. Those that cannot be kept (\\\\Recent, \\\\Unseen) are left out."""
    found = []
    for each in listed(given, _FLAGS):
        with suppress(ValueError):  # of which Nonsense is one
            found.append(flag_names.parse(text(each)))
    return flag_names.each_once(found)


def octets(given: Any, limit: int) -> bytes:
    """What a file holds; it is closed then. Of a text file what it is made of, where that can be had, so that no octet
    changes on its way. Raises Nonsense for more than `limit`."""
    if isinstance(given, bytes | str):
        found = _encoded(given)
    else:
        if not callable(getattr(given, "read", None)):
            raise Nonsense(f"gave {shown(given)}, which cannot be read")
        try:
            found = _read(getattr(given, "buffer", given), limit)
        finally:
            close = getattr(given, "close", None)
            if callable(close):
                close()
    if len(found) > limit:
        raise Nonsense(f"gave a message of more than {limit} octets")
    return found


def _read(file: Any, limit: int) -> bytes:
    chunks, size = [], 0
    while size <= limit and (chunk := file.read(_CHUNK)):
        chunks.append(_encoded(chunk))
        size += len(chunks[-1])
    return b"".join(chunks)


def _encoded(given: Any) -> bytes:
    if isinstance(given, str):
        return given.encode("utf-8", "surrogateescape")
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    raise Nonsense(f"gave {shown(given)}, not octets")
