"""What units of work and queries are given: the database as it stands in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

import attrs

from mailhub.errors import StoreUnavailable
from mailhub.interfaces import IBlobReader, IBody, IHeadedBodyWriter
from mailhub.message.record import Change, Digest
from mailhub.store.arrivals import Arrival
from mailhub.store.held import Held
from mailhub.store.limits import StoreLimits
from mailhub.store.sql.dialect import Dialect
from mailhub.store.sql.standing import Standing

T = TypeVar("T")
P = TypeVar("P")

_LARGEST_CHUNK = 64  # rows of one statement
_USUAL_CHUNK = 16  # up to which every number of rows has a statement of its own

Announcement = tuple[int, Change]


class Cursor(Protocol):
    """What a statement found."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class DriverConnection(Protocol):
    """As much of a driver's connection as units use."""

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> Cursor: ...
    def executemany(self, statement: str, parameters: Iterable[Sequence[Any]], /) -> object: ...


class Claimable(Protocol):
    """A body that a unit is about to commit: while it is claimed, discarding it waits for the outcome."""

    def claim(self) -> None: ...
    def settle(self, committed: bool) -> None: ...


class StoredBody(Claimable, Protocol):
    """A finished body: its octets, or the name of its file and where it starts in that."""

    digest: Digest
    octets: bytes | None
    blob: str | None
    start: int
    checksum: int
    size: int


class Files(Protocol):
    """Where large bodies are."""

    def new_body(self, head_limit: int = 0) -> IHeadedBodyWriter:
        """A writer for a new body, with room for a head of up to so many octets."""

    def own(self, body: IBody) -> StoredBody:
        """The body as what a writer of ours made. Raises TypeError."""

    def open(self, name: str, size: int, start: int = 0, offset: int = 0, checksum: int | None = None) -> IBlobReader:
        """In a thread: a message of `size` octets that starts at `start`, to be read from its octet `offset`. Raises
        MessageDamaged when it is not there, not of this size or, where a checksum is given, not what arrived."""

    def remove(self, name: str) -> None:
        """Fine when it is gone already."""


@attrs.frozen
class Touched:
    """The mailboxes that a unit changes, or whose messages it copies: by number, all those of accounts by the account's
    number or address, or by address and name. What does not exist is passed over."""

    mailboxes: tuple[int, ...] = ()
    accounts: tuple[int, ...] = ()
    users: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()


Touching = Callable[[], Touched]


class Unreadable(StoreUnavailable):
    """What was asked for stands in a part of the database that is damaged."""


@attrs.define(eq=False)
class Snapshot:
    """What a query is given: all that it reads is of one moment."""

    connection: DriverConnection
    dialect: Dialect
    files: Files

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Cursor:
        """Run one statement."""
        return self.connection.execute(statement, parameters)

    def row(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        """The first row, or None."""
        return self.connection.execute(statement, parameters).fetchone()

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """All rows."""
        return self.connection.execute(statement, parameters).fetchall()

    # SQLite's driver lets go of the interpreter lock for each row and for each column, and each time another thread may
    # wait for it: so rows of many columns are fetched as one value each, or all as one.

    def packed(self, columns: str, of: str, parameters: Sequence[object]) -> Iterator[Sequence[Any]]:
        """The rows as `execute` gives them, whose columns are numbers and texts."""
        for (value,) in self.connection.execute(f"SELECT {self.dialect.packed(columns)} {of}", parameters):
            yield self.dialect.unpacked(value)

    def all_packed(self, columns: str, of: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
        """The same of a few rows, in any order."""
        return self.dialect.unpacked(self.row(f"SELECT {self.dialect.all_packed(columns)} {of}", parameters)[0])

    def within(self, values: Collection[str]) -> tuple[str, Sequence[object]]:
        """What follows a column that is to be one of these texts, and its parameters. A few are named one by one, the
        last one more than once so that few different statements are ever made: SQLite takes ten times as long to read
        them from one parameter."""
        count = 1 << (len(values) - 1).bit_length()
        if count > _LARGEST_CHUNK:
            return f"IN {self.dialect.texts}", (self.many(values),)
        listed = tuple(values)
        return f"IN ({', '.join('?' * count)})", listed + listed[-1:] * (count - len(listed))

    def many(self, values: Iterable[int | str]) -> object:
        """See `Dialect.many`."""
        return self.dialect.many(values)


@attrs.define(eq=False)
class Transaction(Snapshot):
    """What a unit of work is given. The unit may run a second time, after all that it did was rolled back.

    `later`: it has failed because a page of the database is damaged, after which SQLite commits nothing any more. What
    is only tidying up is to be left for later, so that a user can be rid of a message that is on such a page.
    `standing`: what is known of mailboxes without a look at them.
    """

    held: Held = attrs.field(factory=lambda: Held(0, 0))
    limits: StoreLimits = attrs.field(factory=StoreLimits)
    later: bool = False
    standing: Standing = attrs.field(factory=Standing)
    announcements: list[Announcement] = attrs.field(factory=list)
    after_commit: list[Callable[[], None]] = attrs.field(factory=list)
    released: bool = False  # left something to the sweep
    due: bool = False  # put rows into the queue, or made some due, beside those that are named
    arrived: list[Arrival] = attrs.field(factory=list)  # rows that were put in, and are due
    kept: list[Claimable] = attrs.field(factory=list)  # bodies that have a row now

    def execute_many(self, statement: str, parameters: Iterable[Sequence[object]]) -> None:
        """Run one statement with each of the parameters."""
        self.connection.executemany(statement, parameters)

    def execute_values(self, beginning: str, row: str, end: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement over any number of rows of parameters; how many rows it changed."""
        if len(rows) == 1:
            return self.connection.execute(_statement(beginning, row, end, 1), rows[0]).rowcount
        changed = 0
        for start, count in _chunks(len(rows)):
            parameters = list(chain.from_iterable(rows[start : start + count]))
            changed += self.connection.execute(_statement(beginning, row, end, count), parameters).rowcount
        return changed

    def execute_returning(self, beginning: str, row: str, end: str, rows: Sequence[Sequence[object]]) -> list[Any]:
        """The same with RETURNING: what it gives, in the order of the rows."""
        found: list[Any] = []
        for start, count in _chunks(len(rows)):
            parameters = list(chain.from_iterable(rows[start : start + count]))
            found += self.connection.execute(_statement(beginning, row, end, count), parameters).fetchall()
        return found

    def take(self, touching: Iterable[Touching]) -> list[int]:
        """Take the mailboxes that some units touch, before anything else is done, and all of them in one order: so that
        no two transactions wait for each other. Returns their numbers. Not called where `Dialect.lock` is None."""
        all_touched = [touched() for touched in touching]
        mailboxes = self.many([number for touched in all_touched for number in touched.mailboxes])
        accounts = self.many([number for touched in all_touched for number in touched.accounts])
        users = self.many([user for touched in all_touched for user in touched.users])
        owners = self.many([user for touched in all_touched for user, _ in touched.named])
        names = self.many([name for touched in all_touched for _, name in touched.named])
        numbers, texts = self.dialect.numbers, self.dialect.texts
        rows = self.rows(
            f"SELECT m.id FROM mailbox m JOIN account a ON a.id = m.account WHERE m.id IN {numbers}"
            f" OR a.id IN {numbers} OR a.address IN {texts} OR (a.address IN {texts} AND m.name IN {texts})"
            f" ORDER BY m.id {self.dialect.lock}",
            (mailboxes, accounts, users, owners, names),
        )
        return [row[0] for row in rows]

    def announce(self, mailbox: int, change: Change) -> None:
        """Tell indexes and watchers once it is durable."""
        self.announcements.append((mailbox, change))


Query = Callable[[Snapshot], T]
Work = Callable[[Transaction], T]


@attrs.define(eq=False)
class Joint(Generic[P, T]):
    """A unit of work that can be done together with others of its kind: `run` takes a transaction and an item of each,
    and gives a result for each. When it raises, nothing of them is kept, and each is run alone. Those of one kind may
    be run before those of another that came first. They keep `Transaction.standing` true, of which other units need
    know nothing."""

    run: Callable[[Sequence[tuple[Transaction, P]]], Sequence[T]]
    item: P

    def __call__(self, transaction: Transaction) -> T:
        return self.run([(transaction, self.item)])[0]


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    """Runs of usual lengths, or of powers of two, so that few different statements are ever made."""
    start = 0
    while start < count:
        left = count - start
        length = left if left <= _USUAL_CHUNK else min(_LARGEST_CHUNK, 1 << left.bit_length() - 1)
        yield start, length
        start += length


@lru_cache(maxsize=256)
def _statement(beginning: str, row: str, end: str, count: int) -> str:
    return beginning + ", ".join([row] * count) + end
