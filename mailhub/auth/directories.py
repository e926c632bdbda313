"""Who is a user, though there is no account yet: asked of directories, and of checkers that can tell."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
from twisted.cred.checkers import FilePasswordDB, InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailhub.answers import shown
from mailhub.errors import MailError, NoSuchUser, TemporaryError
from mailhub.guard import Guard
from mailhub.interfaces import IMailStore, IThreads, IUserDirectories, IUserDirectory, makes_account
from mailhub.keys import DAY, Key, setting


@attrs.frozen
class DirectoryLimits:
    """How long an answer is good, in seconds, and how many answers are remembered."""

    yes_seconds: float = setting(Key("auth", "directory_yes_seconds", 60, 0, DAY))
    no_seconds: float = setting(Key("auth", "directory_no_seconds", 5, 0, DAY))
    answers: int = 10_000


@attrs.frozen(eq=False)
class GuardedDirectory:
    """A directory, and the guard that it is asked by."""

    directory: IUserDirectory
    guard: Guard

    async def exists(self, user: str) -> bool:
        """Raises TemporaryError for all that is no answer: what cannot be known now is not refused."""
        try:
            known = await self.guard.ask_about({"user": user}, "exists", self._exists, user)
        except NoSuchUser:
            return False
        except TemporaryError:
            raise
        except MailError as error:
            raise TemporaryError(detail=f"directory {self.guard.name}: {error}") from error
        if known is True or known is False:
            return known
        raise self.guard.fault("exists", f"it gave {shown(known)}, neither True nor False", {"user": user})

    def _exists(self, user: str) -> Any:
        # One that has no such method fails as others do.
        return self.directory.exists(user)


@attrs.frozen
class _Answer:
    known: bool
    until: float


@implementer(IUserDirectories)
class Directories:
    """All directories of a hub as one. They are asked in turn until one says yes.

    A store may know by itself who its users are; where it makes no accounts, nobody else is asked.
    """

    def __init__(
        self,
        directories: Sequence[GuardedDirectory],
        store: IMailStore,
        clock: IReactorTime,
        limits: DirectoryLimits | None = None,
        *,
        complete: bool = True,
    ) -> None:
        """`complete` as in `IUserDirectories`."""
        self.complete = complete
        self._directories = tuple(directories)
        self._store = store
        self._clock = clock
        self._limits = limits or DirectoryLimits()
        self._answers: OrderedDict[str, _Answer] = OrderedDict()

    async def exists(self, user: str) -> bool:
        """See `IUserDirectory`. Raises TemporaryError when one does not answer, and no other knows the user."""
        if not self._directories or not makes_account(self._store, user):
            return False
        answer = self._answers.get(user)
        if answer is not None and self._clock.seconds() < answer.until:
            return answer.known
        known = await self._ask(user)
        seconds = self._limits.yes_seconds if known else self._limits.no_seconds
        self._answers[user] = _Answer(known, self._clock.seconds() + seconds)
        self._answers.move_to_end(user)
        if len(self._answers) > self._limits.answers:
            self._answers.popitem(last=False)
        return known

    async def _ask(self, user: str) -> bool:
        broken: TemporaryError | None = None
        for directory in self._directories:
            try:
                if await directory.exists(user):
                    return True
            except TemporaryError as error:
                broken = error
        if broken is not None:
            # Not what the directory says: the reply is ours.
            raise TemporaryError(detail=broken.detail or broken.text) from broken
        return False


# --- Checkers that can tell ------------------------------------------------------------------------------------------


@implementer(IUserDirectory)
@attrs.frozen
class PasswordFile:
    """The users of a strcred `file:` checker. The file is read in a thread: everybody may ask."""

    checker: FilePasswordDB
    threads: IThreads

    async def exists(self, user: str) -> bool:
        """Raises twisted.cred's UnauthorizedLogin when the file cannot be read."""
        return await self.threads.run(self._has, user.encode())

    def _has(self, user: bytes) -> bool:
        try:
            self.checker.getUser(user)
        except KeyError:
            return False
        return True


@implementer(IUserDirectory)
@attrs.frozen
class PasswordsInMemory:
    """The users of a strcred `memory:` checker."""

    checker: InMemoryUsernamePasswordDatabaseDontUse

    async def exists(self, user: str) -> bool:
        """Whether there is a password."""
        return user.encode() in self.checker.users


@implementer(IUserDirectory)
@attrs.frozen
class _Telling:
    """A checker that has the method itself."""

    exists: Callable[[str], bool | Awaitable[bool]]


def directory_of(checker: Any, threads: IThreads) -> IUserDirectory | None:
    """What a checker knows of its users beside their passwords; None where it cannot tell."""
    if callable(exists := getattr(checker, "exists", None)):
        return _Telling(exists)
    if isinstance(checker, FilePasswordDB):
        return PasswordFile(checker, threads)
    if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        return PasswordsInMemory(checker)
    return None
