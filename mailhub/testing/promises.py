"""What a mail server promises with its 250, and whether it was kept: looked at in the mailboxes and queues of all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from typing import TYPE_CHECKING

import attrs

from mailhub.interfaces import IQueue, QueuedMessage
from mailhub.message.envelope import Notify
from mailhub.testing.faults import CONNECTIONS, ENDS

if TYPE_CHECKING:
    from mailhub.testing.clients import Sending
    from mailhub.testing.hubs import Host, Internet
    from mailhub.testing.plots import Letter, Story


_BY = re.compile(r"by (\S+)")


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
    reporter: str  # the server that says so


@attrs.define(eq=False)
class Book:
    """What was taken, and where all of it is in the end."""

    story: Story
    letters: list[Letter] = attrs.field(factory=list)
    sendings: dict[Letter, Sending] = attrs.field(factory=dict)  # of clients
    copies: Counter[tuple[str, str]] = attrs.field(factory=Counter)  # by token and mailbox
    # Of each copy the servers that it came by: by token, or the Message-ID of a DSN, and mailbox.
    ways: dict[tuple[str, str], list[str]] = attrs.field(factory=dict)
    notices: list[Notice] = attrs.field(factory=list)
    waiting: set[tuple[str, str]] = attrs.field(factory=set)  # by token and recipient: queued, with a future attempt
    contents: list[tuple[str, bytes]] = attrs.field(factory=list)
    mistakes: list[str] = attrs.field(factory=list)
    untold: int = 0  # notices that could not be delivered themselves: of those nobody is told

    def taken(self) -> Iterator[Letter]:
        """Those that have got their 250, with the recipients for whom they have it."""
        yield from self.letters
        for letter, sending in self.sendings.items():
            for_them = {str(named.address) for named in sending.taken}
            yield attrs.evolve(letter, recipients=tuple(each for each in letter.recipients if each[0] in for_them))

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
            if message["Return-Path"] != "<>":
                self.mistakes.append(f"{user} has a DSN from {message['Return-Path']}")
            # One message may have come by a server and by its backup, as any other: it is one notice.
            place = str(message["Message-ID"]), user
            self._note_way(place, message)
            if len(self.ways[place]) == 1 or not self.came_by_two_ways(*place):
                self.notices += _notices(user, message)
        else:
            place = str(message["Subject"]), user
            self.copies[place] += 1
            self._note_way(place, message)

    def _note_way(self, place: tuple[str, str], message: Message) -> None:
        trace = (_BY.search(str(field)) for field in message.get_all("Received", ()))
        self.ways.setdefault(place, []).append(" ".join(found[1] for found in trace if found))

    def came_by_two_ways(self, token: str, user: str) -> bool:
        """Whether there are two copies, of which each came by other servers. Where an answer is lost and the server is
        away then, the message is sent on by its backup; the two meet again where nobody knows of any doubt."""
        ways = self.ways.get((token, user), [])
        return len(ways) == 2 and ways[0] != ways[1]

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
    about = header if isinstance(header, Message) else message_from_bytes(str(header).encode())
    if about.get_content_type() == "multipart/report":
        raise AssertionError(f"{holder} has a DSN about a DSN")
    token = str(about["Subject"])
    reporter = next(_address(part["Reporting-MTA"]) for part in parts if part["Reporting-MTA"])
    envid = next((str(part["Original-Envelope-Id"]) for part in parts if part["Original-Envelope-Id"]), "")
    for part in parts:
        if part["Final-Recipient"]:
            original = _address(part["Original-Recipient"])
            names = frozenset({_address(part["Final-Recipient"]), original} - {""})
            yield Notice(token, str(part["Action"]), names, original, envid, whole, holder, reporter)


def _address(field: str | None) -> str:
    return str(field or "").partition(";")[2].strip()


def broken_promises(internet: Internet, book: Book) -> list[str]:
    """A line for each promise that was not kept."""
    resting = [host.domain for host in internet.hubs if not host.is_serving]
    if resting:
        return [f"not started again: {', '.join(resting)}"]
    book.read(internet)
    broken = [*book.mistakes]
    broken += [
        f"twice: {token} in {user}: {count}"
        for (token, user), count in book.copies.items()
        if count > 1 and not book.came_by_two_ways(token, user)
    ]
    broken += _doubled_notices(book)
    broken += [line for host in internet.hubs for line in _inconsistent(internet, host)]
    for letter in book.taken():
        for address, notify in letter.recipients:
            told = [
                notice for notice in book.notices if notice.token == letter.token and _is_about(notice, address, book)
            ]
            twice = any(book.came_by_two_ways(letter.token, leaf) for leaf in book.story.leaves(address))
            check = _Check(book.story, letter, address, notify, told, twice)
            broken += [
                f"{letter.token} to {address} (NOTIFY={','.join(sorted(notify))}): {each}" for each in check(book)
            ]
    return broken


def _inconsistent(internet: Internet, host: Host) -> Iterator[str]:
    """What a hub has got wrong in its accounts of quotas and of what is under way."""
    if host.is_busy:
        yield f"still under way at {host.domain}"
    for account in internet.wait(host.hub.accounts.all()):
        used = sum(map(len, host.inbox(account.user))) if account.quota else 0
        if used > account.quota:
            yield f"{account.user} has {used} octets, of {account.quota}"


def _is_about(notice: Notice, address: str, book: Book) -> bool:
    return bool(notice.names & {address, *book.story.leaves(address)})


def _doubled_notices(book: Book) -> Iterator[str]:
    """Where an answer may have been lost, the message may have gone by two servers, each of which says what became of
    it."""
    lost = any(fault.kind in (*ENDS, *CONNECTIONS) for fault in book.story.plan.faults)
    counts = Counter(
        (notice.token, notice.holder, notice.action, notice.names, notice.reporter if lost else "")
        for notice in book.notices
    )
    twice = {token for (token, _), count in book.copies.items() if count > 1}
    for (token, holder, action, names, _), count in counts.items():
        if count > 1 and action != "delayed" and token not in twice:
            yield f"{holder} was told {count} times that {token} to {', '.join(sorted(names))} was {action}"


_WORDS: Mapping[str, Notify] = {
    "delivered": "SUCCESS",
    "relayed": "SUCCESS",
    "expanded": "SUCCESS",
    "failed": "FAILURE",
    "delayed": "DELAY",
}


@attrs.frozen
class _Check:
    """What was promised of one recipient of a message."""

    story: Story
    letter: Letter
    address: str
    notify: frozenset[Notify]
    told: Sequence[Notice]
    twice: bool  # it came by two ways

    def __call__(self, book: Book) -> Iterator[str]:
        """What was not kept."""
        failed = [notice for notice in self.told if notice.action == "failed"]
        leaves = book.story.leaves(self.address)
        refused = self._may_be_refused(bool(leaves))
        silent = book.untold > 0 or (refused and bool(self.notify) and "FAILURE" not in self.notify)
        for leaf in leaves or (self.address,):
            there = book.copies[self.letter.token, leaf]
            waiting = bool(book.waiting & {(self.letter.token, leaf), (self.letter.token, self.address)})
            about = [notice for notice in failed if leaf in notice.names or not notice.names & set(leaves)]
            if not there and not waiting and not about and not silent:
                yield f"lost: neither in {leaf} nor queued, and nobody was told"
            if there and about and not refused:  # who has taken it and lost his answer may refuse it the next time
                yield f"it is in {leaf}, and yet its sender was told that it failed"
        delivered = bool(leaves) and all(book.copies[self.letter.token, leaf] for leaf in leaves)
        yield from self._as_asked(delivered and not book.untold)

    def _may_be_refused(self, known: bool) -> bool:
        """Whether somebody may say for good that it is not to be delivered."""
        refused = not known or self.letter.may_come_back or self.address.startswith("f@")
        return refused or any(fault.is_final for fault in self.story.plan.faults)

    def _was_sent_on_by_a_backup(self, actions: Counter[str]) -> bool:
        """Whether an answer may have been lost, and the server was away then: its backup, which knows nothing of DSN,
        took the message once more, and there was no telling that it had been delivered."""
        lost = any(fault.kind in (*ENDS, *CONNECTIONS) for fault in self.story.plan.faults)
        return bool(self.story.plain) and lost and actions["relayed"] == actions["delivered"] == 1

    def _as_asked(self, delivered: bool) -> Iterator[str]:
        """Of the DSNs that there are, and of those that there should be. What goes wrong behind a list its owner is
        told, whose wishes are the list's."""
        owner, leaves = self.story.owner(self.address), {*self.story.leaves(self.address)}
        told = [notice for notice in self.told if not (owner and notice.names & leaves)]
        if any(notice.holder != self.letter.sender for notice in told):
            yield "somebody else was told"
        if any(notice.holder != owner for notice in self.told if notice not in told):
            yield "somebody else was told than the owner of the list"
        actions = Counter(notice.action for notice in told)
        success = sum(actions[word] for word in ("delivered", "relayed", "expanded"))
        if success > 1 and not self.twice and not self._was_sent_on_by_a_backup(actions):
            yield f"told of success {success} times: {dict(actions)}"
        if self.story.may_lose_wishes(self.letter, self.address):
            return  # who offers no DSN is not asked for any
        home = self.letter.sender.partition("@")[2]
        away = any(fault.is_final and fault.hub == home for fault in self.story.plan.faults)  # for reports, too
        if delivered and "SUCCESS" in self.notify and not success and not away:
            yield "not told of the delivery"
        for action, word in _WORDS.items():
            late = action == "delayed" and self.letter.deliver_by is not None and "NEVER" not in self.notify
            if actions[action] and self.notify and word not in self.notify and not late:
                yield f"told that it was {action}, though not wanted"
            if actions[action] and not self.notify and word == "SUCCESS":
                yield f"told that it was {action}, though not wanted"
        for notice in told:
            if notice.envid != self.letter.envid:
                yield f"told with ENVID {notice.envid!r} instead of {self.letter.envid!r}"
            if notice.original not in ("", self.address):
                yield f"told with ORCPT {notice.original!r}"
            # A message that may go under TLS alone is not sent back whole (RFC 8689 5).
            if notice.action == "failed" and notice.whole != (self.letter.ret == "FULL" and not self.letter.requiretls):
                yield f"RET={self.letter.ret}, and {'the whole' if notice.whole else 'a header'} came back"
