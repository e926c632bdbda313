"""What a mail server promises with its 250, and whether it was kept: looked at in the mailboxes and queues of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from email import message_from_bytes
from email.message import Message
from typing import TYPE_CHECKING

import attrs

from mailhub.interfaces import IQueue, QueuedMessage
from mailhub.message.envelope import Notify

if TYPE_CHECKING:
    from mailhub.testing.hubs import Internet
    from mailhub.testing.stories import Letter, Story


@attrs.frozen
class Notice:
    """What a DSN says of one recipient. `names`: the final and the original recipient, as they stand there."""

    token: str
    action: str
    names: frozenset[str]
    original: str
    envid: str
    whole: bool
    holder: str


@attrs.define(eq=False)
class Book:
    """What was taken, and where all of it is in the end."""

    leaves: Callable[[str], Sequence[str]]
    letters: list[Letter] = attrs.field(factory=list)
    copies: Counter[tuple[str, str]] = attrs.field(factory=Counter)  # by token and mailbox
    notices: list[Notice] = attrs.field(factory=list)
    waiting: set[tuple[str, str]] = attrs.field(factory=set)  # by token and recipient: queued, with a future attempt
    contents: list[tuple[str, bytes]] = attrs.field(factory=list)
    mistakes: list[str] = attrs.field(factory=list)
    untold: int = 0  # notices that could not be delivered themselves: of those nobody is told

    def taken(self, letter: Letter) -> None:
        """It has got its 250."""
        self.letters.append(letter)

    def read(self, internet: Internet) -> None:
        """Every mailbox and every queue."""
        for host in internet.hubs:
            for account in internet.wait(host.hub.accounts.all()):
                for octets in host.inbox(account.user):
                    self.contents.append((account.user, octets))
                    self._enter(account.user, octets)
            for message in host.queued():
                self._wait_for(message, subject_of(internet.wait(_header(host.hub.queue, message.id))), host.now())

    def _enter(self, user: str, octets: bytes) -> None:
        message = message_from_bytes(octets)
        if message.get_content_type() == "multipart/report":
            self.notices += _notices(user, message)
        else:
            self.copies[str(message["Subject"]), user] += 1

    def _wait_for(self, message: QueuedMessage, token: str, now: int) -> None:
        for row in message.recipients:
            if row.due > now:
                names = [str(original.address) for original in row.route.originals]
                self.waiting |= {(token, name) for name in (str(row.route.recipient), *names)}


async def _header(queue: IQueue, message_id: str) -> bytes:
    reader = await queue.open(message_id)
    try:
        return await reader.read(0, 4096)
    finally:
        reader.close()


def subject_of(octets: bytes) -> str:
    """Of a message or a header."""
    return str(message_from_bytes(octets)["Subject"])


def _notices(holder: str, report: Message) -> Iterator[Notice]:
    """Of a multipart/report, one for each recipient."""
    parts = list(report.walk())
    returned = next(part for part in parts if part.get_content_type() in ("text/rfc822-headers", "message/rfc822"))
    whole = returned.get_content_type() == "message/rfc822"
    header = returned.get_payload(0) if whole else returned.get_payload()
    token = str(header["Subject"]) if isinstance(header, Message) else subject_of(str(header).encode())
    envid = next((str(part["Original-Envelope-Id"]) for part in parts if part["Original-Envelope-Id"]), "")
    for part in parts:
        if part["Final-Recipient"]:
            original = _address(part["Original-Recipient"])
            names = frozenset({_address(part["Final-Recipient"]), original} - {""})
            yield Notice(token, str(part["Action"]), names, original, envid, whole, holder)


def _address(field: str | None) -> str:
    return str(field or "").partition(";")[2].strip()


def broken_promises(internet: Internet, story: Story, book: Book) -> list[str]:
    """A line for each promise that was not kept."""
    resting = [host.domain for host in internet.hubs if not host.is_serving]
    if resting:
        return [f"not started again: {', '.join(resting)}"]
    book.read(internet)
    broken = [*book.mistakes]
    broken += [f"twice: {token} in {user}: {count}" for (token, user), count in book.copies.items() if count > 1]
    broken += _doubled_notices(book)
    for letter in book.letters:
        for address, notify in letter.recipients:
            told = [
                notice for notice in book.notices if notice.token == letter.token and _is_about(notice, address, book)
            ]
            check = _Check(story, letter, address, notify, told)
            broken += [
                f"{letter.token} to {address} (NOTIFY={','.join(sorted(notify))}): {each}" for each in check(book)
            ]
    return broken


def _is_about(notice: Notice, address: str, book: Book) -> bool:
    return bool(notice.names & {address, *book.leaves(address)})


def _doubled_notices(book: Book) -> Iterator[str]:
    counts = Counter((notice.token, notice.holder, notice.action, notice.names) for notice in book.notices)
    for (token, holder, action, names), count in counts.items():
        if count > 1 and action != "delayed":
            yield f"{holder} was told {count} times that {token} to {', '.join(sorted(names))} was {action}"


@attrs.frozen
class _Check:
    """What was promised of one recipient of a message."""

    story: Story
    letter: Letter
    address: str
    notify: frozenset[Notify]
    told: Sequence[Notice]

    def __call__(self, book: Book) -> Iterator[str]:
        """What was not kept."""
        failed = [notice for notice in self.told if notice.action == "failed"]
        leaves = book.leaves(self.address)
        for leaf in leaves or (self.address,):
            there = book.copies[self.letter.token, leaf]
            waiting = bool(book.waiting & {(self.letter.token, leaf), (self.letter.token, self.address)})
            about = [notice for notice in failed if leaf in notice.names or not notice.names & set(leaves)]
            silent = book.untold > 0 or self._may_be_silent(bool(leaves))
            if not there and not waiting and not about and not silent:
                yield f"lost: neither in {leaf} nor queued, and nobody was told"
            if there and about:
                yield f"it is in {leaf}, and yet its sender was told that it failed"
        delivered = bool(leaves) and all(book.copies[self.letter.token, leaf] for leaf in leaves)
        yield from self._as_asked(delivered and not book.untold)

    def _may_be_silent(self, known: bool) -> bool:
        """Whether the sender did not want to know of a failure, and there may have been one."""
        refused = not known or any(fault.is_final for fault in self.story.plan.faults)
        return refused and bool(self.notify) and "FAILURE" not in self.notify

    def _as_asked(self, delivered: bool) -> Iterator[str]:
        """Of the DSNs that there are, and of those that there should be."""
        if any(notice.holder != self.letter.sender for notice in self.told):
            yield "somebody else was told"
        if self.story.plain in self.story.way(self.letter.sender, self.address):
            return  # who offers no DSN is not asked for any
        actions = {notice.action for notice in self.told}
        success = actions & {"delivered", "relayed", "expanded"}
        if self.notify == {"NEVER"} and actions:
            yield f"told of {', '.join(actions)}, though never wanted"
        if "failed" in actions and self.notify and "FAILURE" not in self.notify:
            yield "told of a failure, though not wanted"
        if success and "SUCCESS" not in self.notify:
            yield f"told of {', '.join(success)}, though not wanted"
        if delivered and "SUCCESS" in self.notify and not success:
            yield "not told of the delivery"
        for notice in self.told:
            if notice.envid != self.letter.envid:
                yield f"told with ENVID {notice.envid!r} instead of {self.letter.envid!r}"
            if notice.original not in ("", self.address):
                yield f"told with ORCPT {notice.original!r}"
            if notice.action == "failed" and notice.whole != (self.letter.ret == "FULL"):
                yield f"RET={self.letter.ret}, and {'the whole' if notice.whole else 'a header'} came back"
