"""What parts remember over a restart: IStates over the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zope.interface import implementer

from mailhub.interfaces import IState, IStates
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.state_rows import make_room
from mailhub.store.sql.transaction import Snapshot, Transaction
from mailhub.store.state_rules import END, ENTRIES, check_names, check_values

_LASTS = "(expires IS NULL OR expires > ?)"


@implementer(IState)
class State:
    """What one part remembers."""

    def __init__(self, engine: Engine, part: str) -> None:
        self._engine = engine
        self._part = part
        self._at_most = ENTRIES  # entries that there are; exact after each count

    async def get(self, name: str) -> bytes | None:
        """By its key."""
        check_names([name])
        now = self._engine.environment.now()

        def query(snapshot: Snapshot) -> bytes | None:
            row = snapshot.row(
                f"SELECT value FROM state WHERE part = ? AND name = ? AND {_LASTS}", (self._part, name, now)
            )
            return None if row is None else bytes(row[0])

        return await self._engine.read(query)

    async def put(self, values: Mapping[str, bytes], seconds: int = 0) -> None:
        """Counted now and then."""
        check_values(values, seconds)
        now = self._engine.environment.now()
        expires = now + seconds if seconds else None
        rows = [(self._part, name, value, expires) for name, value in values.items()]
        if not rows:
            return
        self._at_most += len(rows)
        full = self._at_most > ENTRIES

        def work(transaction: Transaction) -> int:
            transaction.execute_values(
                "INSERT INTO state (part, name, value, expires) VALUES ",
                "(?, ?, ?, ?)",
                " ON CONFLICT (part, name) DO UPDATE SET value = excluded.value, expires = excluded.expires",
                rows,
            )
            return make_room(transaction, self._part, now) if full else 0

        count = await self._engine.write(work)
        if full:
            self._at_most = count

    async def remove(self, names: Sequence[str]) -> None:
        """By their keys."""
        check_names(names)
        some = list(names)
        if not some:
            return

        def work(transaction: Transaction) -> None:
            transaction.execute(
                f"DELETE FROM state WHERE part = ? AND name IN {transaction.dialect.texts}",
                (self._part, transaction.many(some)),
            )

        await self._engine.write(work)

    async def items(self, prefix: str = "", limit: int = 1000) -> Mapping[str, bytes]:
        """A stretch of the key."""
        check_names([prefix])
        now = self._engine.environment.now()

        def query(snapshot: Snapshot) -> dict[str, bytes]:
            rows = snapshot.rows(
                f"SELECT name, value FROM state WHERE part = ? AND name >= ? AND name < ? AND {_LASTS}"
                " ORDER BY name LIMIT ?",
                (self._part, prefix, prefix + END, now, max(0, limit)),
            )
            return {name: bytes(value) for name, value in rows}

        return await self._engine.read(query)


@implementer(IStates)
class States:
    """The table `state`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parts: dict[str, State] = {}

    def of(self, part: str) -> State:
        """The same for the same name."""
        if part not in self._parts:
            check_names([part])
            self._parts[part] = State(self._engine, part)
        return self._parts[part]
