"""What a server does from time to time for its data: nothing of it belongs into anybody's commit."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailhub.errors import MailError
from mailhub.log import Logger
from mailhub.store.sql import content, messages, state_rows
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.transaction import Snapshot, Transaction
from mailhub.store.sqlite.blobs import Blobs, lost_and_found

log = Logger(namespace="mailhub.store")

FIRST_SECONDS = 600  # after the start
EVERY_SECONDS = 86400
LEFTOVER_SECONDS = 86400  # no message is on its way in for as long as that


class Upkeep:
    """Forgets delivery ids that nobody repeats any more and what parts remember no longer, and sets bodies aside that
    nothing has named for a day: a commit that failed, or another process that was killed, may have left them."""

    def __init__(self, engine: Engine, blobs: Blobs) -> None:
        self._engine = engine
        self._blobs = blobs
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """From now on."""
        self._wait(FIRST_SECONDS)

    def stop(self) -> None:
        """No more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _wait(self, seconds: float) -> None:
        self._next = self._engine.environment.clock.callLater(seconds, self._turn)

    def _turn(self) -> None:
        self._wait(EVERY_SECONDS)
        Deferred.fromCoroutine(self._attend())

    async def _attend(self) -> None:
        try:
            await self.forget()
            await self.set_leftovers_aside()
        except (MailError, OSError) as error:
            log.warn("upkeep is put off: {error:text}", error=str(error))

    async def forget(self) -> None:
        """Delivery ids, and what parts were to remember for a time."""
        now = self._engine.environment.now()

        def work(transaction: Transaction) -> None:
            messages.forget(transaction, now)
            content.forget(transaction, now)
            state_rows.forget(transaction, now)

        await self._engine.write(work)

    async def set_leftovers_aside(self) -> None:
        """Bodies. Looked for outside of any transaction: a name that a row has got since then is too young."""
        environment, blobs = self._engine.environment, self._blobs
        old = await environment.threads.run(blobs.older_than, environment.now() - LEFTOVER_SECONDS)
        if not old:
            return

        def unnamed(snapshot: Snapshot) -> list[str]:
            named = snapshot.execute(
                f"SELECT blob FROM content WHERE blob IN {snapshot.dialect.texts}", (snapshot.many(old),)
            )
            return sorted(set(old) - {row[0] for row in named})

        left = await self._engine.read(unnamed)
        if left:
            folder = lost_and_found(environment.data)
            await environment.threads.run(blobs.set_all_aside, left, folder)
            log.warn(
                "moved bodies that no message refers to: files={files} to={folder}", files=len(left), folder=str(folder)
            )
