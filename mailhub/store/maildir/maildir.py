"""One user's Maildir with its folders (Maildir++). All of it blocks, one call at a time."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mailhub.errors import InvalidMailboxName, MailboxExists, NoSuchMailbox, StoreUnavailable
from mailhub.message.mailbox_names import INBOX
from mailhub.store.limits import USUAL_FOLDERS
from mailhub.store.maildir import names
from mailhub.store.maildir.folder import LEFT_SECONDS, Folder
from mailhub.store.maildir.manner import SETTLED_NS, Manner
from mailhub.store.maildir.quota import Quota
from mailhub.store.maildir.subscriptions import Subscriptions

_DIRECTORIES = ("tmp", "new", "cur")  # a folder is one when it has the last
_DELETED = "mailhub-deleted."  # in tmp: folders on their way out


class Maildir:
    """`path` is the user's INBOX; folders are directories in it whose names begin with a dot."""

    def __init__(self, path: Path, manner: Manner, folder_limit: int) -> None:
        self.path = path
        self.quota = Quota(path, manner)
        self.subscriptions = Subscriptions(path, manner)
        self._manner = manner
        self._folder_limit = folder_limit
        self._inbox = Folder(path, manner, link=True)
        self._folders: dict[str, Folder] = {}  # by name, without INBOX
        self._stamp: object = None
        self._swept = False

    def weight(self) -> int:
        """Messages that are known."""
        return 1 + self._inbox.weight() + sum(folder.weight() for folder in self._folders.values())

    # --- folders -----------------------------------------------------------------------------------------------------

    def is_there(self) -> bool:
        """Whether somebody has made it."""
        return (self.path / "cur").is_dir()

    def make(self, fixed: Path) -> None:
        """With the usual folders, unless it is there; also those above it, as far as `fixed`, which must be there: a
        volume that is not mounted has no place for mail. Raises OSError, StoreUnavailable."""
        if self.is_there():
            return
        if not fixed.is_dir():
            raise StoreUnavailable(detail=f"{fixed} is not there")
        for above in reversed(self.path.relative_to(fixed).parents[:-1]):
            self._manner.make_folder(fixed / above)
        self._manner.make_folder(self.path)
        for name, _ in USUAL_FOLDERS:
            if name != INBOX:
                self._make(self.path / names.directory(name))
        for each in _DIRECTORIES:
            self._manner.make_folder(self.path / each)

    def _make(self, folder: Path) -> None:
        self._manner.make_folder(folder)
        marker = os.open(folder / "maildirfolder", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, self._manner.mode)
        os.close(marker)
        for each in _DIRECTORIES:
            self._manner.make_folder(folder / each)

    def folders(self) -> tuple[str, ...]:
        """Names of mailboxes, INBOX among them. Raises OSError, also when it is not there at all."""
        state = os.stat(self.path)
        settled = time.time_ns() - state.st_mtime_ns > SETTLED_NS
        stamp = (state.st_ino, state.st_mtime_ns)
        if not self._swept:
            self._swept = True
            self._sweep()
        if stamp != self._stamp:
            self._find()
            self._stamp = stamp if settled else None
        return (INBOX, *self._folders)

    def _find(self) -> None:
        found: dict[str, Folder] = {}
        with os.scandir(self.path) as entries:
            directories = sorted(entry.name for entry in entries if entry.name.startswith(".") and self._serves(entry))
        for directory in directories:
            name = names.mailbox(directory[1:])
            known = self._folders.get(name) if name else None
            if name is None or name == INBOX:
                self._manner.say(str(self.path / directory), "cannot be the name of a folder")
            elif name in found:
                self._manner.say(str(self.path / directory), f"is the same folder as {found[name].path.name}")
            elif len(found) >= self._folder_limit:
                self._manner.say(str(self.path), f"has more than {self._folder_limit} folders")
                break
            else:
                path = self.path / directory
                found[name] = known if known and known.path == path else Folder(path, self._manner)
        self._folders = found

    def _serves(self, entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink():
            self._manner.say(entry.path, "is a link, which is not followed")
            return False
        return entry.is_dir() and os.path.isdir(os.path.join(entry.path, "cur"))

    def folder(self, name: str) -> Folder:
        """Raises NoSuchMailbox, OSError."""
        if name == INBOX:
            return self._inbox
        if name not in self._folders:
            self._stamp = None
            self.folders()
        if name not in self._folders:
            raise NoSuchMailbox
        return self._folders[name]

    def paths(self) -> list[Path]:
        """Of all folders. Raises OSError."""
        self.folders()
        return [self.path, *(folder.path for folder in self._folders.values())]

    def create(self, name: str) -> None:
        """Raises MailboxExists, InvalidMailboxName, OSError."""
        self.folders()
        if name == INBOX or name in self._folders:
            raise MailboxExists
        path = self.path / names.directory(name)
        self._make(path)
        self._folders[name] = Folder(path, self._manner)
        self._stamp = None

    def delete(self, name: str) -> None:
        """It goes at once, its files one by one. Raises NoSuchMailbox, OSError."""
        folder = self.folder(name)
        away = self.path / "tmp" / f"{_DELETED}{self._manner.unique()}"
        try:
            os.rename(folder.path, away)
        except FileNotFoundError:
            raise NoSuchMailbox from None
        self._manner.synchronise_folder(self.path)
        del self._folders[name]
        self._stamp = None
        shutil.rmtree(away, ignore_errors=True)

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Raises NoSuchMailbox, MailboxExists, InvalidMailboxName, OSError; then nothing is renamed."""
        moves = [(self.folder(old).path, self.path / names.directory(new)) for old, new in renamed.items()]
        self._stamp = None
        for number, (old, new) in enumerate(moves):
            try:
                os.rename(old, new)
            except OSError as error:
                for before, after in reversed(moves[:number]):
                    os.rename(after, before)
                if isinstance(error, FileNotFoundError):
                    raise NoSuchMailbox from None
                if os.path.lexists(new):
                    raise MailboxExists from None
                raise
        self._manner.synchronise_folder(self.path)
        self.folders()

    def _sweep(self) -> None:
        """Remove what was left of folders that were deleted. Raises OSError."""
        left: list[str] = []
        with suppress(FileNotFoundError), os.scandir(self.path / "tmp") as entries:
            left += [each.path for each in entries if each.name.startswith(_DELETED) and each.is_dir()]
        for path in left:
            if time.time() - os.lstat(path).st_ctime > LEFT_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def subscribed(self) -> Sequence[str]:
        """In name order. Raises OSError."""
        chosen = self.subscriptions.read()
        return sorted(self.folders() if chosen is None else chosen)

    def subscribe(self, name: str, *, subscribed: bool, limit: int) -> None:
        """Raises InvalidMailboxName for more than `limit`, OSError."""
        chosen = set(self.subscribed())
        before = set(chosen)
        (chosen.add if subscribed else chosen.discard)(name)
        if len(chosen) > limit:
            raise InvalidMailboxName("Too many subscriptions")
        if chosen != before:
            self.subscriptions.write(chosen)
