"""Messages that come in: all that wait for the writer at once, with one statement a table.

Each is numbered by its delivery id, which is made of time and randomness. One that comes again, because the answer to
its commit was lost, is known by the number of its content; when that has gone already (relayed, or expunged), by what
`departed` keeps of it for a day, or for as long as the row of the queue waits that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from mailhub.errors import MailError, NoSuchMailbox
from mailhub.interfaces import Deposit, QueuedMessage, QueuedRecipient, Receipt, Refusals, Route, Submission
from mailhub.message.envelope import Outcome, State
from mailhub.message.esmtp import mail_parameters
from mailhub.message.flags import SEEN, SYSTEM_FLAGS, Flags, encode, excess
from mailhub.message.mailbox_names import INBOX, normalise
from mailhub.message.record import Added, Entry
from mailhub.store.arrivals import Arrival
from mailhub.store.limits import USUAL_USES
from mailhub.store.octets import SMALL, OctetsReader
from mailhub.store.queue_rows import (
    ROUTE_COLUMNS,
    check_readable,
    destination_of,
    kept_mail,
    notices_of,
    route_columns,
    route_of,
)
from mailhub.store.sql import content
from mailhub.store.sql.keywords import admit_delivered
from mailhub.store.sql.mailbox_rows import account_id, ensure_account, make_mailbox, usual_use
from mailhub.store.sql.messages import MAILBOX_COLUMNS, MAILBOXES, MailboxRow
from mailhub.store.sql.standing import Owner, Place
from mailhub.store.sql.transaction import StoredBody, Touched, Transaction

# Beginning, what stands for one row, and end of a statement for any number of rows.
_INSERT_MESSAGE = (
    "INSERT INTO message (mailbox, uid, content, flags, modseq, size, internal_date, growth) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    "",
)
_COUNT_ONE = (
    "UPDATE mailbox SET uid_next = uid_next + ?, highest_modseq = highest_modseq + ?, messages = messages + ?,"
    " unseen = unseen + ?, size = size + ?, flag_octets = flag_octets + ? WHERE id = ",
    "?",
    "",
)
_COUNT_MANY = (
    "UPDATE mailbox SET uid_next = uid_next + more.column1, highest_modseq = highest_modseq + more.column2,"
    " messages = messages + more.column3, unseen = unseen + more.column4, size = size + more.column5,"
    " flag_octets = flag_octets + more.column6 FROM (VALUES ",
    "(?, ?, ?, ?, ?, ?, ?)",
    ") AS more WHERE id = more.column7",
)
_INSERT_QUEUED = (
    "INSERT INTO queue_message"
    " (id, content, relay_offset, reverse_path, body_type, smtputf8, parameters, needs, queued_at, not_before,"
    " submitter) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
)
_INSERT_RECIPIENT = (
    f"INSERT INTO queue_recipient (message, {ROUTE_COLUMNS},"
    f" destination, priority, due, {content.OUTCOME_COLUMNS}, attempts) VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
    " RETURNING id",
)
_INSERT_REFUSAL = ("INSERT INTO refusal (submission, deposit, status, reply) VALUES ", "(?, ?, ?, ?)", "")


@attrs.define(eq=False)
class Posting:
    """A submission with the number of its content, ready to be committed at `now`."""

    id: str
    number: int
    submission: Submission
    body: StoredBody
    refusals: Refusals
    now: int


Unit = tuple[Transaction, Sequence[Posting]]


def touched_by(postings: Sequence[Posting]) -> Touched:
    """The mailboxes of all deposits, and INBOX where one of them is not there."""
    deposits = [item for posting in postings for item in posting.submission.plan.deposits]
    named = {(item.user, name) for item in deposits for name in (normalise(item.mailbox), INBOX)}
    return Touched(named=tuple(sorted(named)))


def post(units: Sequence[Unit]) -> list[Receipt]:
    """Commit of each posting what can be; nothing of a unit whose every recipient is refused. Each unit has a
    transaction of its own to announce with; their statements are common. What a unit has beside its first are
    `Receipt.also`."""
    group = _Group(units[0][0], len(units) == 1)
    group.look_up(units)
    receipts = []
    for transaction, postings in units:
        if len(postings) == 1:
            receipts.append(group.take(transaction, postings[0]))
        else:
            first, *also = group.take_together(transaction, postings)
            receipts.append(attrs.evolve(first, also=tuple(also)))
    group.write()
    return receipts


def _is_handed_over(posting: Posting, rows: Sequence[tuple[Route, Outcome | None]]) -> bool:
    """Whether its rows are due, of the usual priority, and such as they would be read again."""
    submission = posting.submission
    return (
        submission.not_before <= posting.now
        and not submission.rank
        and not any(last is not None or route.create or route.flags for route, last in rows)
    )


def _arrivals(posting: Posting, parameters: str, ids: Sequence[int]) -> Iterator[Arrival]:
    """A message by destinations, as a claim would find it; `ids` begin with those of its rows."""
    submission, now = posting.submission, posting.now
    mail = kept_mail(submission.mail, parameters)
    rows: dict[str, list[QueuedRecipient]] = {}
    for number, route in zip(ids, submission.plan.routes, strict=False):
        rows.setdefault(route.destination, []).append(QueuedRecipient(number, route, 0, now))
    size, octets = posting.body.size, posting.body.octets
    body = None
    if octets is not None and size <= SMALL:
        body = OctetsReader(octets, submission.relay_offset)
    size -= submission.relay_offset
    for destination, recipients in rows.items():
        message = QueuedMessage(
            posting.id,
            mail,
            now,
            size,
            tuple(recipients),
            submission.needs,
            submission.not_before,
            submission.submitter,
        )
        yield Arrival(destination, message, body)


def _number_of_place(place: Place) -> int:
    return place.mailbox


class _Group:
    """What is written when all of it is known. `alone`: it is of one unit."""

    def __init__(self, transaction: Transaction, alone: bool) -> None:
        self.transaction = transaction
        self.alone = alone
        self.places = transaction.standing.places
        self.owners = transaction.standing.owners
        self.counted: list[Place] = []  # those that have more messages now
        self.known: dict[int, tuple[int, int]] = {}  # size and checksum of contents that came before
        self.done: dict[str, Receipt] = {}  # of postings that came twice in this very group
        self.contents: list[Posting] = []
        self.numbers: dict[int, int] = {}  # of contents whose own number was another's already
        self.messages: list[tuple[Any, ...]] = []
        self.queued: list[tuple[Any, ...]] = []
        self.recipients: list[tuple[Any, ...]] = []
        self.arriving: list[tuple[Posting, str, int]] = []  # with parameters, and the number of the first row
        self.refusals: list[tuple[Any, ...]] = []

    # --- reading

    def look_up(self, units: Sequence[Unit]) -> None:
        """The mailboxes that will be asked for and are not known, and the postings that may have come before."""
        self.transaction.standing.trim()
        places = self.places
        wanted: dict[tuple[str, str], None] = {}
        again: list[int] = []
        for _, postings in units:
            for posting in postings:
                if posting.number & 1:
                    again.append(posting.number)
                for item in posting.submission.plan.deposits:
                    name = item.user, item.mailbox if item.mailbox == INBOX else normalise(item.mailbox)
                    if name not in places:
                        wanted[name] = None
        if wanted:
            self._look_up(list(wanted))
        if again:
            numbers, chosen = self.transaction.dialect.numbers, self.transaction.many(again)
            for number, size, checksum in self.transaction.execute(
                f"SELECT id, size, checksum FROM content WHERE id IN {numbers}"
                f" UNION ALL SELECT content, size, checksum FROM departed WHERE content IN {numbers}",
                (chosen, chosen),
            ):
                self.known[number] = size, checksum

    def _look_up(self, pairs: Sequence[tuple[str, str]]) -> None:
        in_users, users = self.transaction.within(dict.fromkeys(user for user, _ in pairs))
        in_names, names = self.transaction.within(dict.fromkeys(name for _, name in pairs))
        rows = self.transaction.all_packed(
            f"a.address, m.name, {MAILBOX_COLUMNS}",
            f"{MAILBOXES} WHERE a.address {in_users} AND m.name {in_names}",
            (*users, *names),
        )
        for user, name, *columns in rows:
            row = MailboxRow._make(columns)
            owner = self.owners.get(row.account) or self.owners.setdefault(row.account, Owner(row.quota, row.used))
            self.places[user, name] = Place(row.mailbox, owner, row.uid_next, row.modseq)

    def _place(self, item: Deposit, size: int, now: int) -> Place:
        """Raises NoSuchUser, NoSuchMailbox; OverQuota before a mailbox is made."""
        name = item.mailbox if item.mailbox == INBOX else normalise(item.mailbox)
        place = self.places.get((item.user, name))
        if place is None:
            find = partial(ensure_account, now=now) if item.create else account_id
            account = find(self.transaction, item.user)
            if (item.user, INBOX) not in self.places:
                self._look_up([(item.user, INBOX)])
            if item.create and name != INBOX:
                self._look_up([(item.user, name)])  # it may have come with the account
                if (found := self.places.get((item.user, name))) is not None:
                    return found
            place = self.places.get((item.user, INBOX))
            if place is None:
                raise NoSuchMailbox
            if name in USUAL_USES:
                place.check_room(size)
                make_mailbox(self.transaction, account, name, usual_use(self.transaction, account, name), now)
                self._look_up([(item.user, name)])
                place = self.places[item.user, name]
            self.places[item.user, name] = place
        return place

    # --- deciding

    def take_together(self, transaction: Transaction, postings: Sequence[Posting]) -> Sequence[Receipt]:
        """Decide what becomes of postings that are committed together."""
        made: dict[Posting, Receipt] = {}
        for replies in (False, True):
            some = [posting for posting in postings if posting.submission.reply is replies]
            made.update({posting: self.take(transaction, posting) for posting in some})
            if some and not any(receipt.kept for receipt in made.values()):
                return [made.get(posting) or Receipt(posting.id, kept=False) for posting in postings]
        for posting, receipt in made.items():
            if not receipt.kept and posting.refusals == "bounce":
                self.contents.append(posting)
                transaction.kept.append(posting.body)
                self._note(posting, receipt.refused)
                made[posting] = attrs.evolve(receipt, kept=True)
        return [made[posting] for posting in postings]

    def take(self, transaction: Transaction, posting: Posting) -> Receipt:
        """Decide what becomes of a posting."""
        body, plan = posting.body, posting.submission.plan
        if posting.number & 1:
            if posting.id in self.done:
                return self.done[posting.id]
            if self.known.get(posting.number) == (body.size, body.checksum):
                return Receipt(posting.id, dict(self._refusals_of(posting)))
        refused: dict[int, Outcome] = {}
        kept = bool(plan.routes)
        if kept:
            self.contents.append(posting)
        filled: list[Place] = []  # INBOX stands in for each mailbox that is gone, and has one copy
        for index, item in enumerate(plan.deposits):
            try:
                place = self._place(item, body.size, posting.now)
                if place in filled:
                    continue
                place.check_room(body.size)
            except MailError as error:
                refused[index] = Outcome.failed(error.text, status=error.status)
                continue
            if not kept:
                kept = True
                self.contents.append(posting)
            filled.append(place)
            self._deposit(transaction, place, posting, item.flags)
        if kept:
            transaction.kept.append(body)
            if plan.routes or refused or plan.notices or posting.number & 1:
                self._note(posting, refused)
        return Receipt(posting.id, refused, kept=kept)

    def _note(self, posting: Posting, refused: Mapping[int, Outcome]) -> None:
        """What is left to do for a posting that is kept, and to tell when it comes again."""
        plan = posting.submission.plan
        if plan.routes or refused or plan.notices:
            self._queue(posting, refused)
        if posting.number & 1:
            self.done[posting.id] = Receipt(posting.id, refused)
            self.refusals += [(posting.id, index, each.status, each.reply) for index, each in refused.items()]

    def _refusals_of(self, posting: Posting) -> Iterator[tuple[int, Outcome]]:
        """What was refused when it came before."""
        rows = self.transaction.execute(
            "SELECT deposit, reply, status FROM refusal WHERE submission = ? ORDER BY deposit", (posting.id,)
        )
        for index, reply, status in rows:
            yield index, Outcome.failed(reply, status=status)

    def _deposit(self, transaction: Transaction, place: Place, posting: Posting, flags: Flags) -> None:
        mailbox, digest = place.mailbox, posting.body.digest
        if not flags <= SYSTEM_FLAGS:
            self._write_contents()
            self._write_messages()  # among them may be those that alone have a keyword
            flags = admit_delivered(self.transaction, mailbox, flags)
        added = place.messages
        if not added:
            self.counted.append(place)
        uid, modseq = place.uid_next + added, place.modseq + added + 1
        size, growth, text, now = digest.size, digest.growth, encode(flags), posting.now
        more = excess(text)
        self.messages.append((mailbox, uid, posting.number, text, modseq, size, now, growth))
        place.messages = added + 1
        place.unseen += SEEN not in flags
        place.size += size
        place.flag_octets += more
        place.owner.used += size + more
        transaction.announce(mailbox, Added((Entry(uid, flags, modseq, size, now, growth),), modseq - 1))

    def _queue(self, posting: Posting, refused: Mapping[int, Outcome]) -> None:
        submission, mail = posting.submission, posting.submission.mail
        rows: list[tuple[Route, Outcome | None]] = [(route, None) for route in submission.plan.routes]
        if posting.refusals == "bounce":
            rows += [(route_of(submission.plan.deposits[index]), outcome) for index, outcome in refused.items()]
        rows += [(notice.route, notice.outcome) for notice in notices_of(submission.plan, refused)]
        if not rows:
            return
        if not submission.plan.routes:
            check_readable(mail, ())  # of what has routes that is known already
        parameters = mail_parameters(mail)
        if _is_handed_over(posting, rows):
            self.arriving.append((posting, parameters, len(self.recipients)))
        else:
            self.transaction.due = True
        self.queued.append(
            (
                posting.id,
                posting.number,
                submission.relay_offset,
                None if mail.reverse_path is None else str(mail.reverse_path),
                mail.body_type,
                int(mail.smtputf8),
                parameters,
                submission.needs,
                posting.now,
                submission.not_before,
                submission.submitter,
            )
        )
        due, priority = max(posting.now, submission.not_before), submission.rank
        for route, last in rows:
            where = destination_of(route, last)
            refused_now = last is not None and last.state is State.FAILED
            row = (posting.id, *route_columns(route), where, priority, posting.now if refused_now else due)
            self.recipients.append((*row, *content.outcome_columns(last)))

    # --- writing

    def write(self) -> None:
        """All of it."""
        if self.contents:
            self._write_contents()
        if self.messages:
            self._write_messages()
        if self.counted:
            self.counted.sort(key=_number_of_place)
            self.transaction.execute_values(
                *(_COUNT_ONE if len(self.counted) == 1 else _COUNT_MANY), [place.added() for place in self.counted]
            )
            for place in self.counted:
                place.written()
        if self.queued:
            self.transaction.execute_values(*_INSERT_QUEUED, [self._numbered(row, 1) for row in self.queued])
            ids = [row[0] for row in self.transaction.execute_returning(*_INSERT_RECIPIENT, self.recipients)]
            for posting, parameters, first in self.arriving:
                self.transaction.arrived += _arrivals(posting, parameters, ids[first:])
        if self.refusals:
            self.transaction.execute_values(*_INSERT_REFUSAL, self.refusals)

    def _write_contents(self) -> None:
        contents, self.contents = self.contents, []
        if not self.alone:
            content.insert_all(self.transaction, [(posting.number, posting.body) for posting in contents])
            return
        for posting in contents:
            number = content.insert(self.transaction, posting.number, posting.body)
            if number != posting.number:
                self.numbers[posting.number] = number

    def _write_messages(self) -> None:
        messages, self.messages = self.messages, []
        messages.sort()
        if self.numbers:
            messages = [self._numbered(row, 2) for row in messages]
        self.transaction.execute_values(*_INSERT_MESSAGE, messages)

    def _numbered(self, row: tuple[Any, ...], column: int) -> tuple[Any, ...]:
        number = self.numbers.get(row[column]) if self.numbers else None
        return row if number is None else (*row[:column], number, *row[column + 1 :])
