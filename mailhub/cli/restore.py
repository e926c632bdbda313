"""`mailhub restore DIR`: brings a backup back, whole or in parts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

import attrs

from mailhub.cli.backup import counted, tell_faults
from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import user_of
from mailhub.cli.offline import Offline, as_caller, opened
from mailhub.cli.ours import require_ours
from mailhub.cli.progress import Bar
from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError, MessageGone, NoSuchMailbox, NoSuchUser, OverQuota, TooManyKeywords
from mailhub.interfaces import IMailAccount
from mailhub.message.flags import SYSTEM_FLAGS
from mailhub.message.mailbox_names import normalise
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.backup import Progress
from mailhub.store.sqlite.restore import connect_backup, occupied, restore
from mailhub.store.sqlite.restore_mail import SavedAccount, SavedMailbox, SavedMessage, Side, lacking

_DESCRIPTION = """\
Brings back what `mailhub backup` wrote to DIR. Without options all of it takes the
place of the data folder's content, which is moved aside and never deleted; the
server has to be stopped for that. With --account, and --mailbox, the messages
that are missing now are added again, also while the server runs.
"""


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "restore",
        help="bring a backup back, whole or in parts",
        description=_DESCRIPTION,
    )
    action.add_argument("folder", metavar="DIR", type=Path, help="what `mailhub backup` wrote")
    action.add_argument("--account", metavar="ADDRESS", help="only this account; it is made when it is not there")
    action.add_argument("--mailbox", metavar="NAME", help="only this mailbox of the account")
    yes_option(action)
    action.set_defaults(run=_restore)


def _restore(arguments: argparse.Namespace) -> int:
    if arguments.mailbox is not None and arguments.account is None:
        raise ConfigurationError("--mailbox needs --account, whose mailbox it is")
    config = load(arguments.config)
    require_ours(config)
    folder = arguments.folder.absolute()
    if arguments.account is None:
        return _whole(arguments, config, folder)
    return _part(config, folder, user_of(arguments.account), arguments.mailbox)


def _whole(arguments: argparse.Namespace, config: Config, folder: Path) -> int:
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = DataFolder(config.data)
    if (process := server.server()) is not None:
        raise ConfigurationError(
            f"the server (process {process or 'unknown'}) is running: stop it first, or name an --account"
        )
    server.lock()
    bar = Bar()
    try:
        question = f"Put the backup in the place of {config.data}? What is there now is moved aside."
        if occupied(config.data) and not confirmed(arguments, question):
            return 1
        restored = restore(folder, config.data, bar)
    finally:
        bar.end()
        server.unlock()
    print(
        f"restored {counted(restored.accounts, 'account')} with {counted(restored.messages, 'message')} from {folder}"
    )
    if restored.aside is not None:
        print(f"what was there before is in {restored.aside}")
    if restored.queued:
        waited = counted(restored.queued, "message")
        print(
            f"{waited} waited to be sent when the backup was made, and will be sent now, perhaps a second time: "
            "look at `mailhub queue list` before the start"
        )
    return tell_faults(restored.missing, restored.damaged, folder)


def _part(config: Config, folder: Path, user: str, name: str | None) -> int:
    """Add what one account lacks. What is there stays as it is."""
    with closing(connect_backup(folder)) as connection:
        # Held open: under other rights its files could not be looked at again.
        connection.execute("BEGIN")
        backup = Side(connection, folder)
        try:
            saved = backup.account(user)
        except NoSuchUser:
            raise ConfigurationError(f"{folder}: has no account {user}") from None
        wanted = [box for box in backup.mailboxes(saved.number) if name is None or box.name == normalise(name)]
        if not wanted:
            raise ConfigurationError(f"{folder}: {user} has no mailbox {name!r}")
        bar = Bar()
        try:
            with opened(config) as hub:
                _ensure_account(hub, user, saved)
                added, failed = _Mending(config, hub, backup, user, bar).mend(wanted)
        finally:
            bar.end()
    boxes = f"{len(wanted)} mailbox{'' if len(wanted) == 1 else 'es'}"
    print(f"restored {counted(added, 'message')} to {boxes} of {user}; what was there has not been changed")
    for line in failed:
        print(f"mailhub: {line}", file=sys.stderr)
    return 1 if failed else 0


def _ensure_account(hub: Offline, user: str, saved: SavedAccount) -> None:
    if hub.wait(hub.accounts.find(user)) is None:
        hub.wait(hub.accounts.add(user, saved.password_hash, saved.quota))
        hub.wait(hub.accounts.set_enabled(user, saved.enabled))
        print(f"account {user} added, with the password that it had")


@attrs.define
class _Mending:
    """One account being completed from a backup."""

    config: Config
    hub: Offline
    backup: Side
    user: str
    progress: Progress
    account: IMailAccount = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.account = self.hub.wait(self.hub.database.store.account(self.user))

    def mend(self, wanted: Sequence[SavedMailbox]) -> tuple[int, list[str]]:
        """How many messages were added, and what could not be."""
        todo = [(box, message) for box in wanted for message in self._lacking(box)]
        added, failed = 0, []
        for number, (box, message) in enumerate(todo):
            self.progress("messages", number, len(todo))
            try:
                self._add(box, message)
                added += 1
            except OverQuota:
                left = counted(len(todo) - number, "message")
                failed.append(
                    f"{self.user} has reached its quota, {left} not restored: "
                    f"give it more with `mailhub account quota {self.user} OCTETS`, then restore again"
                )
                break
            except (OSError, MessageGone) as error:
                reason = error.strerror if isinstance(error, OSError) else error.text
                failed.append(f"{box.name}: message {message.uid} is damaged in the backup: {reason}")
        return added, failed

    def _lacking(self, box: SavedMailbox) -> list[SavedMessage]:
        """The mailbox is made when it is not there."""
        try:
            self.hub.wait(self.account.mailbox(box.name))
        except NoSuchMailbox:
            uses = {info.special_use for info in self.hub.wait(self.account.mailboxes())}
            self.hub.wait(self.account.create(box.name, "" if box.special_use in uses else box.special_use))
            if box.subscribed:
                self.hub.wait(self.account.subscribe(box.name, True))
        with closing(schema.connect_reader(self.config.data / schema.FILE, 10)) as connection:
            live = Side(connection, self.config.data)
            number = live.account(self.user).number
            (there,) = [found for found in live.mailboxes(number) if found.name == box.name]
            with as_caller():
                return lacking(self.backup, self.backup.messages(box.number), live, live.messages(there.number))

    def _add(self, box: SavedMailbox, message: SavedMessage) -> None:
        mailbox = self.hub.wait(self.account.mailbox(box.name))
        writer = self.account.new_body(message.size)
        size = checksum = 0
        try:
            blocks = self.backup.octets(message)
            while block := self._next(blocks):
                self.hub.wait(writer.write(block))
                size, checksum = size + len(block), crc32(block, checksum)
            if size != message.size:
                raise MessageGone(f"{size} octets instead of {message.size}")
            if message.checksum not in (checksum, None):
                raise MessageGone("its octets are not those that arrived")
        except BaseException:
            writer.abort()
            raise
        body = self.hub.wait(writer.finish())
        try:
            self.hub.wait(mailbox.append(body, message.flags, message.internal_date))
        except TooManyKeywords:
            # The mail matters more than its keywords.
            self.hub.wait(mailbox.append(body, message.flags & SYSTEM_FLAGS, message.internal_date))
        finally:
            body.discard()

    @staticmethod
    def _next(blocks: Iterator[bytes]) -> bytes:
        with as_caller():
            return next(blocks, b"")
