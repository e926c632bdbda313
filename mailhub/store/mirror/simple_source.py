"""A `SimpleStore` as the source of a mirror."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import ConfigurationError, MailError, MessageGone, NoSuchMailbox, NoSuchUser, NotPermitted
from mailhub.guard import Guard, Unanswered
from mailhub.interfaces import Environment, IBlobReader, IBody, IBodyWriter
from mailhub.keys import DAY
from mailhub.log import Logger
from mailhub.message.flags import Flags
from mailhub.message.mailbox_names import INBOX
from mailhub.message.record import READ_ONLY, Rights
from mailhub.store.mirror import answers
from mailhub.store.mirror.answers import Listing
from mailhub.store.mirror.body import MirrorBodyWriter
from mailhub.store.mirror.calls import Calls
from mailhub.store.mirror.source import ISource, Key, Listed, Read
from mailhub.store.nonsense import shown
from mailhub.store.octets import OctetsReader

log = Logger(namespace="mailhub.plugins")

METHODS = {"users": 0, "folders": 1, "messages": 2, "read": 3}
OPTIONAL = {"add": 5, "change": 4, "remove": 3}
"""The methods of a simple store, and how many arguments each takes."""

SHORTEST_POLL = 0.1  # seconds
USERS_SECONDS = 10.0  # for which users stay known
BARE_SECONDS = 60.0  # for which a store is not asked for an INBOX that it does not name and has failed to list
_SAID = 1000  # different lines of the log
_LISTINGS = 1000  # folders whose last list is kept


def file_of(store: object) -> str:
    """Where a store's class is written."""
    try:
        return inspect.getfile(type(store))
    except (TypeError, OSError):
        return type(store).__module__


def rights_of(store: Any) -> Rights:
    """What can be done with the folders of a store that has these methods: flags are kept for all but those that can
    only be read."""
    has = {method for method in OPTIONAL if callable(getattr(store, method, None))}
    rights = READ_ONLY
    if has or store.keep_flags:
        rights |= {"s", "w"}
    if "add" in has:
        rights |= {"i"}
    if "remove" in has:
        rights |= {"t", "e"}
    return rights


def check_methods(store: object) -> None:
    """Raises ConfigurationError for a method that does not take what it is given."""
    for method, count in {**METHODS, **OPTIONAL}.items():
        function = getattr(store, method, None)
        if function is None and method in OPTIONAL:
            continue
        if not callable(function):
            raise ConfigurationError(f"{type(store).__name__} ({file_of(store)}): {method} is not a method")
        try:
            inspect.signature(function).bind(*[None] * count)
        except TypeError:
            raise ConfigurationError(
                f"{type(store).__name__} ({file_of(store)}): {method}() must take {count} arguments"
            ) from None
        except ValueError:
            pass  # made in C, which does not tell


def _poll_seconds(store: Any) -> float:
    """Raises ConfigurationError."""
    where = f"{type(store).__name__} ({file_of(store)})"
    try:
        seconds = store.poll_seconds
        if type(seconds) in (int, float) and (seconds == 0 or SHORTEST_POLL <= seconds <= DAY):
            return float(seconds)
        fault = f"is {shown(seconds)}"
    except BaseException as error:
        fault = f"raised {type(error).__name__}"
    raise ConfigurationError(f"{where}: poll_seconds {fault}; it must be 0, or from {SHORTEST_POLL} to {DAY} seconds")


@implementer(ISource)
class SimpleSource:
    """Calls the store's methods, and looks at what they give."""

    makes_folders = False
    keeps_subscriptions = False

    def __init__(
        self, store: Any, environment: Environment, guard: Guard, *, size_limit: int, folder_limit: int
    ) -> None:
        self._store = store
        self._environment = environment
        self._guard = guard
        self._calls = Calls(store, guard, environment.threads)
        self._size_limit = size_limit
        self._folder_limit = folder_limit
        self.name = guard.name
        self.rights = rights_of(store)
        self.keeps_flags = self._calls.has("change") or not self.rights & {"s", "w"}
        self.poll_seconds = _poll_seconds(store)
        self._users: dict[str, str] = {}
        self._users_at = 0.0
        self._asking: list[Deferred[None]] = []
        self._folders: dict[str, dict[str, str]] = {}
        self._bare: dict[str, float] = {}  # users without an INBOX, until they are asked for it again
        self._listings: OrderedDict[tuple[str, str], Listing] = OrderedDict()
        self._said: set[tuple[str, str]] = set()

    async def start(self) -> None:
        """Nothing is opened."""

    async def stop(self) -> None:
        """Make no more calls."""
        self._calls.close()

    def fault(self, method: str, why: str) -> None:
        """Said once."""
        if (method, why) not in self._said:
            if len(self._said) >= _SAID:
                self._said.clear()
            self._said.add((method, why))
            log.warn(
                "store is at fault: store={store} method={method} file={file} reason={reason:text}",
                store=self.name,
                method=method,
                file=self._guard.file,
                reason=why,
            )

    # --- who and what there is ---------------------------------------------------------------------------------------

    async def exists(self, user: str) -> bool:
        """Asked of the store when the user was not seen lately."""
        if user not in self._users or self._environment.monotonic() - self._users_at >= USERS_SECONDS:
            await self._ask_users()
        return user in self._users

    async def _ask_users(self) -> None:
        """Who asks meanwhile waits for the same answer."""
        waiter: Deferred[None] = Deferred()
        self._asking.append(waiter)
        if len(self._asking) == 1:
            Deferred.fromCoroutine(self._find_users())
        await waiter

    async def _find_users(self) -> None:
        outcome: Failure | None = None
        try:
            self._users = await self._calls.one("users", self._take_users)
            self._users_at = self._environment.monotonic()
        except Exception:
            outcome = Failure()  # type: ignore[no-untyped-call]
        asking, self._asking = self._asking, []
        for waiter in asking:
            waiter.callback(outcome)

    async def make_user(self, user: str) -> None:
        """The store says who there is."""
        if not await self.exists(user):
            raise NoSuchUser

    def _say(self, method: str) -> answers.Say:
        return lambda why: self._environment.threads.call_in_reactor(self.fault, method, why)

    def _take_users(self, given: Any) -> dict[str, str]:
        return answers.users(given, self._say("users"))

    def _user(self, user: str) -> str:
        """As the store writes it."""
        return self._users.get(user, user)

    async def folders(self, user: str) -> Sequence[str]:
        """Those whose names can be shown."""
        say = self._say("folders")
        found = await self._calls.one(
            "folders", lambda given: answers.folders(given, self._folder_limit, say), self._user(user)
        )
        self._folders[user] = found
        return list(found)

    async def _folder(self, user: str, folder: str) -> str:
        """As the store writes it. INBOX is there also where the store does not name it. Raises NoSuchMailbox."""
        if user not in self._folders:
            await self.folders(user)
        found = self._folders[user].get(folder)
        if found is None and folder != INBOX:
            raise NoSuchMailbox
        return found or INBOX

    async def messages(self, user: str, folder: str) -> Sequence[Listed]:
        """The very object of before when the store lists the same. An INBOX that it does not name, cannot be asked for,
        and cannot add to, is empty."""
        name = await self._folder(user, folder)
        before = self._listings.get((user, folder))
        bare = not (before or folder in self._folders[user] or "i" in self.rights)
        if bare and self._environment.monotonic() < self._bare.get(user, 0.0):
            return ()
        say = self._say("messages")
        try:
            listing: Listing = await self._calls.one(
                "messages",
                lambda given: answers.messages(given, self._size_limit, say, before),
                self._user(user),
                name,
            )
        except Unanswered:
            if not bare:
                raise
            if len(self._bare) >= _LISTINGS:
                self._bare.clear()
            self._bare[user] = self._environment.monotonic() + BARE_SECONDS
            return ()
        self._listings[user, folder] = listing
        self._listings.move_to_end((user, folder))
        if len(self._listings) > _LISTINGS:
            self._listings.popitem(last=False)
        return listing.messages

    async def quota(self, user: str) -> int:
        """A number for everybody, or what a method says."""
        given = self._guard.look("quota", lambda store: getattr(store, "quota", 0), self._store)
        if callable(given):
            limit: int = await self._calls.one("quota", answers.quota, self._user(user))
            return limit
        return self._guard.look("quota", answers.quota, given)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def read(self, user: str, folder: str, keys: Sequence[Key], octets: int) -> Read:
        """With one call into the store's thread."""
        made = await self._each("read", self._take_octets, user, folder, [(key,) for key in keys], octets)
        found: dict[Key, bytes | Exception] = dict(zip(keys, made, strict=False))
        failed = [key for key, each in found.items() if isinstance(each, Exception) and not isinstance(each, MailError)]
        if failed:
            # What was removed a moment ago cannot be read, and that is nobody's fault.
            there = {each.key for each in await self.messages(user, folder)}
            found.update({key: MessageGone() for key in failed if key not in there})
        return found

    def _take_octets(self, given: Any) -> bytes:
        return answers.octets(given, self._size_limit)

    async def open(self, user: str, folder: str, key: Key) -> IBlobReader:
        """Whole, in memory."""
        found = (await self.read(user, folder, [key], 0))[key]
        if isinstance(found, bytes):
            return OctetsReader(found)
        raise self._calls.failed("read", found)

    async def _each(
        self, method: str, take: Any, user: str, folder: str, calls: Sequence[tuple[object, ...]], octets: int = 0
    ) -> list[Any]:
        name = await self._folder(user, folder)
        return await self._calls.each(method, take, [(self._user(user), name, *call) for call in calls], octets)

    # --- changing ----------------------------------------------------------------------------------------------------

    def new_body(self, size: int = 0) -> IBodyWriter:
        """In memory, large ones in a file."""
        return MirrorBodyWriter(self._environment.threads, _folder_for_files(self._environment.data))

    async def add(self, user: str, folder: str, body: IBody, flags: Flags, date: int) -> Key | None:
        """The store's own key of it."""
        name = await self._folder(user, folder)
        octets = await self._environment.threads.run(_octets, body)
        key: Key | None = await self._calls.one("add", self._take_key, self._user(user), name, octets, flags, date)
        return key

    def _take_key(self, given: Any) -> Key | None:
        key = answers.key(given)
        if key is None:
            self._say("add")(f"gave {shown(given)}, which is no key: what was added is looked for in the list")
        return key

    async def change(self, user: str, folder: str, flags: Mapping[Key, Flags]) -> Mapping[Key, Exception]:
        """One message after the other."""
        return await self._for_all("change", user, folder, list(flags.items()))

    async def remove(self, user: str, folder: str, keys: Sequence[Key]) -> Mapping[Key, Exception]:
        """One message after the other; what is not listed any more is removed."""
        errors = await self._for_all("remove", user, folder, [(key,) for key in keys])
        if errors:
            there = {each.key for each in await self.messages(user, folder)}
            errors = {key: error for key, error in errors.items() if key in there}
        return errors

    async def _for_all(
        self, method: str, user: str, folder: str, calls: Sequence[tuple[Any, ...]]
    ) -> dict[Key, Exception]:
        errors: dict[Key, Exception] = {}
        done = 0
        while done < len(calls):
            try:
                made = await self._each(method, _nothing, user, folder, calls[done:], len(calls))
            except MailError as error:
                errors.update({call[0]: error for call in calls[done:]})
                break
            for call, outcome in zip(calls[done:], made, strict=False):
                if isinstance(outcome, Exception):
                    errors[call[0]] = self._calls.failed(method, outcome)
            done += len(made)
        return errors

    async def create(self, user: str, folder: str) -> None:
        """Simple stores make no folders."""
        raise NotPermitted

    async def delete(self, user: str, folder: str) -> None:
        """Simple stores delete no folders."""
        raise NotPermitted

    async def rename(self, user: str, names: Mapping[str, str]) -> None:
        """Simple stores rename no folders."""
        raise NotPermitted

    async def subscriptions(self, user: str) -> Sequence[str]:
        """The mirror keeps them."""
        raise NotPermitted

    async def subscribe(self, user: str, name: str, subscribed: bool, limit: int) -> None:
        """The mirror keeps them."""
        raise NotPermitted


def _nothing(given: Any) -> None:
    return None


def _octets(body: Any) -> bytes:
    octets: bytes = body.octets()
    return octets


def _folder_for_files(data: Path) -> Path | None:
    """Where there is room for mail."""
    return data if data.is_dir() else None
