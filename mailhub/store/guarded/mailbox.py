"""A mailbox of a guarded store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from zope.interface import alsoProvides, implementer

from mailhub.errors import MailError
from mailhub.interfaces import IBlobReader, IBody, IHold, IMailbox, IUniqueIds
from mailhub.message.flags import Flags
from mailhub.message.record import (
    ALL_RIGHTS,
    Change,
    CopyResult,
    DigestColumns,
    DigestName,
    Entry,
    FlagChange,
    FlagResult,
    MailboxGone,
    MailboxStatus,
    Rights,
)
from mailhub.store.guarded import sound
from mailhub.store.guarded.asking import Asking
from mailhub.store.guarded.octets import GuardedBody, opened
from mailhub.store.guarded.sound import nothing
from mailhub.store.nonsense import Nonsense, shown


@implementer(IMailbox)
class GuardedMailbox:
    """As the store's own, which it holds as `asking.thing`. A mailbox that is another all of a sudden (its UIDVALIDITY
    changes under an open session) is gone for those who have it open: their UIDs mean nothing any more."""

    def __init__(self, asking: Asking) -> None:
        self.asking = asking
        self.name: str = asking.get(_text, "name")
        self.uid_validity = asking.get(sound.uid_validity, "uid_validity")
        self._rights: Rights | None = None
        self._listeners: dict[int, Callable[[Change], None]] = {}
        with suppress(Exception):  # what cannot be asked has none
            if IUniqueIds.providedBy(asking.thing):
                alsoProvides(self, IUniqueIds)

    @property
    def rights(self) -> Rights:
        """What can be done with it: what it has said last, where it does not say so now. Raises MailError where it has
        never said it: nobody knows then."""
        try:
            self._rights = self.asking.get(sound.rights, "rights", ALL_RIGHTS)
        except MailError:
            if self._rights is None:
                raise
        return self._rights

    async def status(self) -> MailboxStatus:
        """Raises MailError."""
        return await self.asking.ask(sound.status, "status")

    async def entries(self, uids: Sequence[int] | None = None, since_modseq: int = 0) -> Sequence[Entry]:
        """Raises MailError."""
        return await self.asking.ask(sound.entries, "entries", uids, since_modseq)

    async def digests(self, uids: Sequence[int], wanted: Collection[DigestName]) -> DigestColumns:
        """Raises MailError."""
        return await self.asking.ask(sound.digests(uids, wanted), "digests", uids, wanted)

    async def bodies(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """Raises MailError."""
        return await self.asking.ask(sound.bodies(uids), "bodies", uids)

    async def unique_ids(self, uids: Sequence[int]) -> Mapping[int, str]:
        """Of a mailbox that is `IUniqueIds`. Raises MailError."""
        return await self.asking.ask(sound.unique_ids, "unique_ids", uids)

    async def open(self, uid: int) -> IBlobReader:
        """Raises MailError."""
        return await self.asking.ask(opened(self.asking), "open", uid)

    async def append(self, body: IBody, flags: Flags, internal_date: int, delivery_id: str = "") -> int:
        """Raises MailError."""
        own = body.asking.thing if isinstance(body, GuardedBody) else body
        return await self.asking.ask(sound.uid, "append", own, flags, internal_date, delivery_id)

    async def change_flags(
        self, uids: Sequence[int], change: FlagChange, unchanged_since: int | None = None
    ) -> FlagResult:
        """Raises MailError."""
        return await self.asking.ask(sound.flag_result, "change_flags", uids, change, unchanged_since)

    async def copy(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Raises MailError."""
        return await self.asking.ask(sound.copy_result(uids), "copy", uids, _own(target))

    async def move(self, uids: Sequence[int], target: IMailbox) -> CopyResult:
        """Raises MailError."""
        return await self.asking.ask(sound.copy_result(uids), "move", uids, _own(target))

    async def expunge(self, uids: Sequence[int] | None = None, deleted_only: bool = True) -> Sequence[int]:
        """Raises MailError."""
        return await self.asking.ask(sound.uids, "expunge", uids, deleted_only)

    async def vanished(self, since_modseq: int) -> Sequence[int]:
        """Raises MailError."""
        return await self.asking.ask(sound.uids, "vanished", since_modseq)

    async def refresh(self) -> None:
        """Raises MailError."""
        await self.asking.ask(nothing, "refresh")
        now = self.asking.get(sound.uid_validity, "uid_validity")
        if now != self.uid_validity:
            self.asking.fault("refresh", f"uid_validity was {self.uid_validity} and is {now}")
            for listener in [*self._listeners.values()]:
                listener(MailboxGone())

    def watch(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Raises MailError. What is no change is not announced."""

        def heard(change: Any) -> None:
            try:
                known = sound.change(change)
            except Nonsense as error:
                self.asking.fault("watch", str(error))
            else:
                listener(known)

        stop = self.asking.call(_callable, "watch", heard)
        key = id(heard)
        self._listeners[key] = listener

        def stopped() -> None:
            self._listeners.pop(key, None)
            try:
                stop()
            except BaseException as error:
                self.asking.fault("watch", error)

        return stopped

    def hold(self) -> IHold:
        """Raises MailError."""
        asking = self.asking
        return asking.call(lambda given: GuardedHold(asking.part(given, "hold")), "hold")


@implementer(IHold)
class GuardedHold:
    """See IMailbox.hold(). Nobody waits for what it does, so what goes wrong is logged alone."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def let_go(self, uids: Sequence[int]) -> None:
        """These messages are not asked for any more."""
        self._try("let_go", uids)

    def end(self) -> None:
        """Nothing is held any more."""
        self._try("end")

    def _try(self, method: str, *arguments: object) -> None:
        try:
            getattr(self._asking.thing, method)(*arguments)
        except BaseException as error:
            self._asking.fault(method, error)


def _own(target: IMailbox) -> IMailbox:
    return target.asking.thing if isinstance(target, GuardedMailbox) else target


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise Nonsense(f"name is {shown(given)}")
    return given


def _callable(given: Any) -> Callable[[], object]:
    if not callable(given):
        raise Nonsense(f"it gave {shown(given)}, which cannot be called to stop")
    return given  # type: ignore[no-any-return]
