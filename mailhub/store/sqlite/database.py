"""The database as a whole: one file of tables, one folder of large bodies, and three facets of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhub.errors import ConfigurationError, MailError
from mailhub.interfaces import Environment, IBlobReader, IDatabase, Latest
from mailhub.log import Logger
from mailhub.message.record import Change, MailboxGone, News
from mailhub.store.changes import Watchers
from mailhub.store.due import DueWatchers
from mailhub.store.held import Held
from mailhub.store.index import DigestCache, Indexes, MailboxIndex
from mailhub.store.known import KnownAccounts
from mailhub.store.limits import StoreLimits
from mailhub.store.queue_ids import DeliveryIds
from mailhub.store.space import Space, is_full
from mailhub.store.sql import content, messages
from mailhub.store.sql.account_table import Accounts
from mailhub.store.sql.engine import Engine
from mailhub.store.sql.latest import latest, open_latest
from mailhub.store.sql.names import Names
from mailhub.store.sql.queue import Queue
from mailhub.store.sql.state import States
from mailhub.store.sql.store import MailStore
from mailhub.store.sqlite import foreign, opening, schema
from mailhub.store.sqlite.blobs import BLOBS, Blobs, lost_and_found
from mailhub.store.sqlite.readers import Readers
from mailhub.store.sqlite.upkeep import Upkeep
from mailhub.store.sqlite.writer import Writer

log = Logger(namespace="mailhub.store")


@implementer(IDatabase)
class Database:
    """`data/mailhub.sqlite` and `data/blobs/`.

    With `owner` this process is the one that serves the data: start() then sets aside what a crash left behind. The
    command's process beside a running server is not the owner. Only with `create` a database is made, where there never
    was one; with `read_only` nothing on the disk is changed. With inline threads, `gather` commits all that one turn of
    the clock brings together, as the writer thread does; without it each call is committed at once.
    """

    def __init__(
        self,
        environment: Environment,
        settings: StoreLimits | None = None,
        *,
        owner: bool = True,
        gather: bool = False,
        create: bool = False,
        read_only: bool = False,
    ) -> None:
        self._settings = settings = settings or StoreLimits()
        self._environment = environment
        self._owner = owner
        self._create = create
        self._read_only = read_only
        self._started = False
        self._sweeping = False
        self._sweep_again = False
        self.path = environment.data / schema.FILE
        space = Space(environment.data, environment.disk, environment.clock, settings.disk_reserve_percent)
        self._blobs = blobs = self._make_blobs(environment, settings, space)
        self._readers = Readers(self.path, environment.threads, blobs, settings.busy_seconds, read_only=read_only)
        self._engine = self._make_engine(space, gather)
        self._upkeep = Upkeep(self._engine, blobs)
        self.store = MailStore(self._engine, self.start, self.stop)
        self.accounts = Accounts(self._engine)
        self.names = Names(self._engine)
        self.queue = Queue(self._engine, self.store)
        self.state = States(self._engine)

    def _make_blobs(self, environment: Environment, settings: StoreLimits, space: Space) -> Blobs:
        return Blobs(
            environment.data / BLOBS,
            environment.threads,
            environment.random,
            inline_limit=settings.inline_body_octets,
            durable=settings.durable,
            check_space=space.check,
        )

    def _make_engine(self, space: Space, gather: bool) -> Engine:
        """With the writer, which tells it of every change."""
        environment, settings = self._environment, self._settings
        held = Held(settings.held_octets, settings.held_messages)
        watchers = Watchers(None if environment.threads.inline else environment.clock)
        self._writer = Writer(
            environment.threads,
            environment.clock,
            self._announce,
            waiting_limit=settings.waiting_units,
            group_limit=settings.grouped_units,
            gather=gather,
            when_told=watchers.when_told,
            files=self._blobs,
            held=held,
            limits=settings,
        )
        return Engine(
            environment=environment,
            limits=settings,
            writer=self._writer,
            readers=self._readers,
            files=self._blobs,
            ids=DeliveryIds(environment.random),
            indexes=Indexes(
                self._load_index,
                watchers.watched,
                settings.index_rows,
                news=self._read_news,
                tell=self._tell,
            ),
            digests=DigestCache(settings.digest_cache_bytes),
            watchers=watchers,
            known=KnownAccounts(environment.clock),
            space=space,
            held=held,
            due=DueWatchers(),
        )

    async def start(self) -> None:
        """Open the database and bring it up to date. Doing it twice does nothing.

        Raises ConfigurationError when there is none, or when it cannot be opened or written.
        """
        if self._started:
            return
        self._started = True
        if self._read_only:
            await self._environment.threads.run(self._look)
            return
        connection, unfinished = await self._environment.threads.run(self._open)
        writer = self._writer
        writer.on_due = self._engine.due.tell
        writer.on_foreign_change = self._look_for_removals
        writer.make_room = self._engine.space.give_up
        if self._owner:
            writer.take_in = foreign.announce_additions
            writer.keep_room = self._engine.space.keep
        else:
            writer.hand_out = foreign.note_additions
        if self._owner:
            # Only the process that serves knows what its sessions still read.
            writer.on_released = self._engine.held.on_let_go = self._sweep
        writer.start(connection)
        if self._owner:
            self._upkeep.start()
        if unfinished:
            self._sweep()

    async def stop(self) -> None:
        """Commit what waits and close. It cannot be started again."""
        self._upkeep.stop()
        await self._writer.stop()
        self._readers.close()

    async def latest(self, seconds: int, limit: int) -> Sequence[Latest]:
        """By the numbers of contents."""
        return await self._engine.read(partial(latest, now=self._environment.now(), seconds=seconds, limit=limit))

    async def open_latest(self, number: int) -> IBlobReader:
        """Raises MessageGone, MessageDamaged."""
        return await self._engine.open(partial(open_latest, number=number))

    def _look(self) -> None:
        """In a thread: whether it can be read."""
        with self._telling_errors():
            opening.require(self.path.parent)
            connection = schema.connect_reader(self.path, self._settings.busy_seconds, read_only=True)
            try:
                opening.require_tables(connection, self.path)
                schema.require_current(connection, self.path)
            finally:
                connection.close()

    def _open(self) -> tuple[sqlite3.Connection, bool]:
        """In a thread: the writer's connection, and whether a sweep was interrupted."""
        try:
            return self._open_once()
        except ConfigurationError as error:
            if not is_full(error.__cause__) or not self._engine.space.give_up():
                raise
        return self._open_once()

    def _open_once(self) -> tuple[sqlite3.Connection, bool]:
        settings = self._settings
        with self._telling_errors():
            if self._owner:
                opening.require_rights(self.path.parent)
            opening.require(self.path.parent, create=self._create)
            if self._create:
                # SQLite would let others read it, where the data folder is a volume whose root does; its log is alike.
                os.close(os.open(self.path, os.O_RDONLY | os.O_CREAT, 0o600))
            connection = schema.connect_writer(self.path, settings.busy_seconds, settings.durable, create=self._create)
            try:
                self._prepare(connection)
                unfinished = connection.execute("SELECT 1 FROM released LIMIT 1").fetchone() is not None
            except BaseException:
                connection.close()
                raise
        return connection, unfinished and self._owner

    @contextmanager
    def _telling_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            opening.require_own_rights(self.path.parent)
            raise opening.refusal(self.path, error) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        blobs, data = self._blobs, self.path.parent
        if not self._create:
            opening.require_tables(connection, self.path)
        schema.migrate(connection, self.path)
        opening.require_bodies(connection, data)
        # Last: that it is there says that there is, or was, a database.
        blobs.folder.mkdir(mode=0o700, exist_ok=True)
        blobs.sync_folder(data)
        if self._owner:
            if owner := opening.owner_beside_root(data):
                log.warn(
                    "root serves {owner}'s data, and what is made now is root's: {owner} could not serve it later; "
                    "start with --user {owner}",
                    owner=owner,
                )
            if hindrance := opening.try_write(connection, data):
                log.error("the database cannot be written at the moment: {reason}", reason=hindrance)
            else:
                connection.execute("DELETE FROM foreign_addition")  # nobody has an index yet
                if self._settings.durable:
                    self._engine.space.keep()
            self._set_leftovers_aside(connection)

    def _set_leftovers_aside(self, connection: sqlite3.Connection) -> None:
        known = {row[0] for row in connection.execute("SELECT blob FROM content WHERE blob IS NOT NULL")}
        folder = lost_and_found(self.path.parent)
        count = self._blobs.set_others_aside(known, folder)
        if count:
            log.warn(
                "moved bodies that no message refers to: files={files} to={folder}", files=count, folder=str(folder)
            )

    def _sweep(self) -> None:
        self._sweep_again = True
        if not self._sweeping:
            self._sweeping = True
            Deferred.fromCoroutine(self._sweep_all())

    async def _sweep_all(self) -> None:
        """Step by step, so that mail is not held up. What an error or the end leaves is swept after the next start."""
        try:
            while self._sweep_again:
                self._sweep_again = False
                limit = content.SWEEP
                while limit:
                    limit = await self._engine.write(partial(content.sweep, limit=limit))
        except MailError as error:
            log.info("sweep interrupted: {error:text}", error=str(error))
        finally:
            self._sweeping = False

    def _look_for_removals(self) -> None:
        """Another process has written. Of what the command line does, removing an account concerns mailboxes in memory
        and the account itself; messages that it adds have been announced."""
        self._engine.known.drop()
        self._engine.due.arrived(None)
        if self._owner:
            self._sweep()
        Deferred.fromCoroutine(self._announce_removals())

    async def _announce_removals(self) -> None:
        known = {*self._engine.indexes.known(), *self._engine.watchers.mailboxes()}
        try:
            gone = await self._engine.read(partial(messages.missing, numbers=sorted(known)))
        except MailError as error:
            log.info("not looked for removed mailboxes: {error:text}", error=str(error))
            return
        for mailbox in gone:
            self._engine.announce(mailbox, MailboxGone())

    def _announce(self, mailbox: int, change: Change) -> None:
        self._engine.announce(mailbox, change)

    async def _load_index(self, mailbox: int) -> MailboxIndex:
        return await self._engine.read(partial(messages.load_index, mailbox=mailbox))

    def _tell(self, mailbox: int, change: Change) -> None:
        self._engine.tell(mailbox, change)

    async def _read_news(self, mailbox: int, since_modseq: int) -> News:
        return await self._engine.read(partial(messages.news, mailbox=mailbox, since_modseq=since_modseq))
