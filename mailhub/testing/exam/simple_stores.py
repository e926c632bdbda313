"""What is asked of the methods of a `SimpleStore`, beside what `StoreExam` asks of the store that is made of it."""

from __future__ import annotations

import queue
import threading
import unittest
import weakref
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ClassVar, NamedTuple, TypeVar

from mailhub.errors import ConfigurationError
from mailhub.message.flags import FLAGGED, NO_FLAGS, SEEN, Flags
from mailhub.message.mailbox_names import INBOX
from mailhub.store.exam.rig import DATE, question, same
from mailhub.store.mirror import answers
from mailhub.store.mirror.simple_source import check_methods
from mailhub.store.mirror.source import Listed
from mailhub.store.nonsense import Nonsense
from mailhub.store.simple import SimpleStore
from mailhub.testing.exam.component import ComponentExam, Fault, shown
from mailhub.testing.exam.samples import MESSAGES

T = TypeVar("T")

_SAMPLE = 20  # messages of a folder that are read, folders of a user, users
_SIZE_LIMIT = 1 << 40
_FOLDER_LIMIT = 100_000
_NEW = b"From: ben@yy.example\r\nTo: ann@xx.example\r\nSubject: number %d of an exam\r\n\r\nHello\r\n"


class SimpleStoreExam(ComponentExam):
    """A `SimpleStore`, by its own methods. Plain functions are called in a thread, as a server calls them.

    It may have mail already: what is asked about `add`, `change` and `remove` is asked with messages that the exam adds
    to `folder_name` of `user`, which it removes where it can.
    """

    kind = "store"
    user: ClassVar[str] = ""  # by default the first one of users()
    folder_name: ClassVar[str] = INBOX  # takes new messages

    def make_store(self) -> SimpleStore:
        """The store, not started; by default the one that `factory` makes of `options`. What is made a second time is
        the same store after a restart."""
        made: SimpleStore = self.build()
        return made

    # --- What there is -----------------------------------------------------------------------------------------------

    @question
    async def test_the_methods_take_what_they_are_given(self) -> None:
        """SimpleStore: users(), folders(user), messages(user, folder), read(user, folder, key), and those of add(user,
        folder, octets, flags, date), change(user, folder, key, flags), remove(user, folder, key) that it has."""
        store = self.make_store()
        if not isinstance(store, SimpleStore):
            raise AssertionError(f"a SimpleStore was expected; {shown(store)} came")
        if getattr(store, "hub", None) is None and self.factory is not None:
            raise AssertionError("__init__(), where there is one, must call super().__init__(options, hub)")
        try:
            check_methods(store)
        except ConfigurationError as error:
            raise AssertionError(str(error)) from None

    @question
    async def test_users_are_addresses(self) -> None:
        """SimpleStore.users(): the addresses of all who have mail here, the same each time."""
        store = self.make_store()
        try:
            found = await self._users(store)
        except unittest.SkipTest as reason:
            raise AssertionError(f"{reason}, for the exam at least") from None
        same(sorted(await self._users(store)), sorted(found))

    @question
    async def test_folders_have_possible_names(self) -> None:
        """SimpleStore.folders(user): names with `/` between levels, none twice."""
        store = self.make_store()
        for user in (await self._users(store))[:_SAMPLE]:
            await self._folders(store, user)

    @question
    async def test_messages_have_keys_of_their_own(self) -> None:
        """SimpleStore.messages(user, folder): a key or Message for each message; a key is a str or an int, not empty,
        at most 1000 characters long, and no other message's."""
        store = self.make_store()
        for user, folder in await self._places(store):
            await self._messages(store, user, folder)

    @question
    async def test_the_same_messages_are_listed_each_time(self) -> None:
        """SimpleStore.messages(user, folder): in the order in which they came; a key is the same for good."""
        store = self.make_store()
        for user, folder in await self._places(store):
            first = [each.key for each in await self._messages(store, user, folder)]
            same([each.key for each in await self._messages(store, user, folder)], first)

    @question
    async def test_messages_can_be_read(self) -> None:
        """SimpleStore.read(user, folder, key): bytes, always the same for the same key; Message.size, where it is
        given, says how many."""
        store = self.make_store()
        for user, folder in await self._places(store):
            for listed in _sample(await self._messages(store, user, folder)):
                octets = await self._read(store, user, folder, listed.key)
                if listed.size is not None and listed.size != len(octets):
                    raise AssertionError(
                        f"Message.size must be that of what read() gives; {listed.size} was said of {listed.key!r} in"
                        f" {folder!r} of {user}, and {len(octets)} octets came"
                    )
                same(await self._read(store, user, folder, listed.key), octets)

    @question
    async def test_a_key_is_the_same_message_after_a_restart(self) -> None:
        """SimpleStore: a key is the same for good, and never another message's."""
        before = await self._all(self.make_store())
        after = await self._all(self.make_store())
        for key in before.keys() & after.keys():
            same((key, after[key]), (key, before[key]))

    @question
    async def test_the_quota_is_a_number(self) -> None:
        """SimpleStore.quota, or quota(user): octets, 0 or None for no limit."""
        store: Any = self.make_store()
        quota = getattr(store, "quota", 0)
        for user in (await self._users(store))[:_SAMPLE]:
            if callable(quota):
                await self._call(store, "quota", answers.quota, user)
            else:
                _taken("quota", answers.quota, quota)

    # --- What can be changed -----------------------------------------------------------------------------------------

    @question
    async def test_a_message_that_is_added_is_listed_and_read(self) -> None:
        """SimpleStore.add(user, folder, octets, flags, date): returns the new message's key, which messages() lists;
        read() gives the very octets."""
        store, user = await self._writable("add")
        for number, (what, octets) in enumerate({"a message": _NEW % 0, **MESSAGES}.items()):
            before = {each.key for each in await self._messages(store, user, self.folder_name)}
            key = await self._add(store, user, octets, date=DATE + number)
            listed = await self._messages(store, user, self.folder_name)
            if key in before:
                raise AssertionError(f"add() must return a key that no other message has; {key!r} came for {what}")
            if [each.key for each in listed if each.key not in before] != [key]:
                raise AssertionError(
                    f"messages() must list {key!r}, which add() returned for {what}, and nothing else that is new;"
                    f" {shown([each.key for each in listed if each.key not in before])} came"
                )
            came = await self._read(store, user, self.folder_name, key)
            if came != octets:
                raise AssertionError(
                    f"read() must give the very octets that were added; of {what} ({shown(octets)}) {shown(came)} came"
                )
            await self._remove(store, user, key)

    @question
    async def test_equal_messages_are_two(self) -> None:
        """SimpleStore.add(): each call adds a message, also one that is there already."""
        store, user = await self._writable("add")
        keys = [await self._add(store, user, _NEW % 1) for _ in range(2)]
        if keys[0] == keys[1]:
            raise AssertionError(f"add() must return a key of its own for each message; {keys[0]!r} came twice")
        for key in keys:
            await self._remove(store, user, key)

    @question
    async def test_what_is_listed_of_a_new_message_is_what_was_added(self) -> None:
        """Message.flags, date and size, where they are given: those that add() was told."""
        store, user = await self._writable("add")
        wanted: Flags = frozenset({SEEN, FLAGGED})
        key = await self._add(store, user, _NEW % 2, wanted, DATE)
        listed = await self._listed(store, user, key)
        await self._remove(store, user, key)
        if callable(getattr(store, "change", None)) or listed.flags is not None:
            same(("flags", sorted(listed.flags or ())), ("flags", sorted(wanted)))
        if listed.date is not None:
            same(("date", listed.date), ("date", DATE))
        if listed.size is not None:
            same(("size", listed.size), ("size", len(_NEW % 2)))

    @question
    async def test_flags_are_kept(self) -> None:
        """SimpleStore.change(user, folder, key, flags): those that the message has from now on; they come back in
        Message.flags."""
        store, user = await self._writable("change")
        if callable(getattr(store, "add", None)):
            keys = [await self._add(store, user, _NEW % number) for number in (3, 4)]
        else:
            keys = [each.key for each in await self._messages(store, user, self.folder_name)][:2]
        if not keys:
            raise unittest.SkipTest(f"{user} has no message in {self.folder_name}")
        before = {each.key: each.flags for each in await self._messages(store, user, self.folder_name)}
        for wanted in (frozenset({SEEN}), frozenset({SEEN, FLAGGED}), NO_FLAGS, before[keys[0]] or NO_FLAGS):
            await self._call(store, "change", _nothing, user, self.folder_name, keys[0], wanted)
            now = {each.key: each.flags for each in await self._messages(store, user, self.folder_name)}
            if now.get(keys[0]) != wanted:
                raise AssertionError(
                    f"messages() must list the flags that change() was given; {sorted(wanted)} were, and"
                    f" {shown(now.get(keys[0]))} came"
                )
            same({**now, keys[0]: None}, {**before, keys[0]: None})
        if callable(getattr(store, "add", None)):
            for key in keys:
                await self._remove(store, user, key)

    @question
    async def test_what_is_removed_is_gone(self) -> None:
        """SimpleStore.remove(user, folder, key): the message is gone for good, and no other."""
        store, user = await self._writable("add", "remove")
        keys = [await self._add(store, user, _NEW % number) for number in (5, 6, 7)]
        before = [each.key for each in await self._messages(store, user, self.folder_name)]
        gone = {keys[1]}
        await self._remove(store, user, keys[1])
        same(
            [each.key for each in await self._messages(store, user, self.folder_name)],
            [key for key in before if key not in gone],
        )
        for key, octets in ((keys[0], _NEW % 5), (keys[2], _NEW % 7)):
            same(await self._read(store, user, self.folder_name, key), octets)
            await self._remove(store, user, key)

    @question
    async def test_a_key_is_not_given_again(self) -> None:
        """SimpleStore: a key is never another message's, also when the one that had it is gone."""
        store, user = await self._writable("add", "remove")
        used: list[Any] = []
        for number in range(3):
            key = await self._add(store, user, _NEW % (10 + number))
            if key in used:
                raise AssertionError(f"a key must never be another message's; add() returned {key!r} again")
            used.append(key)
            await self._remove(store, user, key)

    @question
    async def test_others_stay_where_one_is_removed(self) -> None:
        """SimpleStore.messages(): what is added and removed changes neither key nor octets of the others."""
        store, user = await self._writable("add", "remove")
        first = await self._add(store, user, _NEW % 20)
        second = await self._add(store, user, _NEW % 21)
        await self._remove(store, user, first)
        same(await self._read(store, user, self.folder_name, second), _NEW % 21)
        third = await self._add(store, user, _NEW % 22)
        same(await self._read(store, user, self.folder_name, second), _NEW % 21)
        for key in (second, third):
            await self._remove(store, user, key)

    # --- How it is done ----------------------------------------------------------------------------------------------

    async def _users(self, store: Any) -> list[str]:
        """As the store writes them."""
        found: dict[str, str] = await self._call(store, "users", lambda given: _said("users", answers.users, given))
        if not found:
            raise unittest.SkipTest("SimpleStore.users() must give somebody who has mail here")
        return list(found.values())

    async def _folders(self, store: Any, user: str) -> list[str]:
        found: dict[str, str] = await self._call(
            store,
            "folders",
            lambda given: _said("folders", lambda raw, say: answers.folders(raw, _FOLDER_LIMIT, say), given),
            user,
        )
        return list(found.values())

    async def _places(self, store: Any) -> list[tuple[str, str]]:
        """Some users' folders."""
        return [
            (user, folder)
            for user in (await self._users(store))[:_SAMPLE]
            for folder in (await self._folders(store, user))[:_SAMPLE]
        ]

    async def _messages(self, store: Any, user: str, folder: str) -> Sequence[Listed]:
        listing: answers.Listing = await self._call(
            store,
            "messages",
            lambda given: _said("messages", lambda raw, say: answers.messages(raw, _SIZE_LIMIT, say), given),
            user,
            folder,
        )
        return listing.messages

    async def _listed(self, store: Any, user: str, key: Any) -> Listed:
        found = [each for each in await self._messages(store, user, self.folder_name) if each.key == key]
        if not found:
            raise AssertionError(f"messages() must list {key!r}, which add() returned; it does not")
        return found[0]

    async def _read(self, store: Any, user: str, folder: str, key: Any) -> bytes:
        octets: bytes = await self._call(
            store, "read", lambda given: answers.octets(given, _SIZE_LIMIT), user, folder, key
        )
        return octets

    async def _all(self, store: Any) -> dict[Any, bytes]:
        """Some octets by user, folder and key."""
        return {
            (user, folder, listed.key): await self._read(store, user, folder, listed.key)
            for user, folder in await self._places(store)
            for listed in _sample(await self._messages(store, user, folder))
        }

    async def _writable(self, *methods: str) -> tuple[Any, str]:
        """The store, and who gets mail."""
        store: Any = self.make_store()
        for method in methods:
            if not callable(getattr(store, method, None)):
                raise unittest.SkipTest(f"the store has no {method}()")
        return store, self.user or (await self._users(store))[0]

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """See `Exam`. What a question has added and not removed, for it failed, is removed."""
        self._left: list[tuple[Any, str, Any]] = []
        try:
            return super().wait_for(coroutine)
        finally:
            for store, user, key in list(self._left):
                with suppress(Exception):
                    super().wait_for(self._remove(store, user, key))

    async def _add(self, store: Any, user: str, octets: bytes, flags: Flags = NO_FLAGS, date: int = DATE) -> Any:
        key = await self._call(store, "add", _key, user, self.folder_name, octets, flags, date)
        self._left.append((store, user, key))
        return key

    async def _remove(self, store: Any, user: str, key: Any) -> None:
        """What was added here, where it can be."""
        if (store, user, key) in self._left:
            self._left.remove((store, user, key))
        if callable(getattr(store, "remove", None)):
            await self._call(store, "remove", _nothing, user, self.folder_name, key)

    async def _call(self, store: Any, method: str, take: Callable[[Any], Any], *arguments: object) -> Any:
        """What `take` makes of the answer of a method; plain ones are called in a thread, and listed there."""
        function = getattr(store, method)

        def called() -> Any:
            given = function(*arguments)
            return (
                given if isawaitable(given) or isinstance(given, AsyncIterable) else _Taken(_taken(method, take, given))
            )

        def asked() -> Any:
            return function(*arguments) if iscoroutinefunction(function) else self._thread(called)

        async def answered() -> Any:
            given = asked()
            if isawaitable(given):
                given = await given
            if isinstance(given, AsyncIterable):
                given = [each async for each in given]
            return given.value if isinstance(given, _Taken) else _taken(method, take, given)

        return await self.ask(f"SimpleStore.{method}()", answered)

    def _thread(self, function: Callable[[], Any]) -> Any:
        """What it gives, called in the store's thread."""
        if self._worker is None:
            self._worker = _Worker()
            weakref.finalize(self, self._worker.stop)
        return self._worker.run(function, self.answer_seconds)

    _worker: _Worker | None = None


class _Worker:
    """The one thread in which a store's plain functions are called."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="mailhub exam", daemon=True).start()

    def run(self, function: Callable[[], Any], seconds: float) -> Any:
        """What the function gives or raises."""
        outcome: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

        def call() -> None:
            try:
                outcome.put((True, function()))
            except BaseException as error:
                outcome.put((False, error))

        self._calls.put(call)
        try:
            good, value = outcome.get(timeout=seconds)
        except queue.Empty:
            raise Fault(f"a method must answer within {seconds:g} seconds; it did not") from None
        if good:
            return value
        raise value

    def stop(self) -> None:
        """No more calls."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


class _Taken(NamedTuple):
    """An answer that was looked at in the thread."""

    value: Any


def _taken(method: str, take: Callable[[Any], Any], given: Any) -> Any:
    try:
        return take(given)
    except Nonsense as error:
        raise Fault(f"SimpleStore.{method}() {error}") from None


def _said(method: str, take: Callable[[Any, answers.Say], Any], given: Any) -> Any:
    """What is made of an answer of which nothing is to be left out."""
    faults: list[str] = []
    found = take(given, faults.append)
    if faults:
        raise Fault(f"SimpleStore.{method}(): {faults[0]}")
    return found


def _key(given: Any) -> Any:
    key = answers.key(given)
    if key is None:
        raise Fault(f"SimpleStore.add() must return the key of the new message, a str or an int; {shown(given)} came")
    return key


def _nothing(given: Any) -> None:
    """What change() and remove() give does not matter."""


def _sample(messages: Sequence[Listed]) -> Iterable[Listed]:
    """The first and the last of them."""
    return messages if len(messages) <= 2 * _SAMPLE else [*messages[:_SAMPLE], *messages[-_SAMPLE:]]
