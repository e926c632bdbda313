"""Several stores as one sit the exam of every store, and carry messages from one to another."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from mailhub.errors import (
    InvalidMailboxName,
    MailboxExists,
    NoSuchMailbox,
    NotPermitted,
    OverQuota,
    StoreUnavailable,
    TooManyKeywords,
)
from mailhub.interfaces import IMailAccount, IMailbox, IMailStore, body_for, quota_for
from mailhub.message.flags import FLAGGED, SEEN
from mailhub.message.record import LAST_UID, READ_ONLY, Added, Expunged, FlagChange
from mailhub.store.exam import StoreExam
from mailhub.store.exam.rig import DATE, make_body, message, read_message, uids
from mailhub.store.memory.database import MemoryDatabase
from mailhub.store.several import LIST_SECONDS, MAIN, SeveralStores, Shares
from mailhub.store.several_mailbox import MOVED_AT_ONCE, shift_of
from mailhub.testing.waiting import result_of
from tests.store.harness import NOW, environment

USER = "b@yy.example"
STARS = frozenset({SEEN, FLAGGED, "$Work"})


def database(seconds: int = NOW) -> MemoryDatabase:
    clock = Clock()
    clock.advance(seconds)
    return MemoryDatabase(environment(Path("/nonexistent"), clock=clock))


class _Several(StoreExam):
    tells_growth = True
    shares: Shares

    async def open_store(self) -> IMailStore:
        self.databases = {MAIN: database(), "other": database(NOW + 86_400)}
        stores: dict[str, Any] = {name: each.store for name, each in self.databases.items()}
        store = SeveralStores(stores, self.shares, Clock())
        await store.start()
        return store

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        for each in self.databases.values():
            await each.accounts.add(user, "", quota)
        return await store.account(user)


class TestAtHome(_Several):
    """Something else is mounted beside."""

    shares = Shares(folders={"Feeds": "other"})


class TestOfADomain(_Several):
    """The account is in the second store."""

    has_usual_folders = True
    shares = Shares(domains={"yy.example": "other"})


# --- Two stores, and one user who is in both --------------------------------------------------------------------------


class World:
    """`Feeds` of every user is in the other store."""

    def __init__(self, quota: int = 0, mount: str = "Feeds") -> None:
        self.clock = Clock()
        self.home, self.other = database(), database()
        stores: dict[str, Any] = {MAIN: self.home.store, "other": self.other.store}
        self.store = SeveralStores(stores, Shares(folders={mount: "other"}), self.clock)
        result_of(self.home.accounts.add(USER, ""))
        result_of(self.other.accounts.add(USER, "", quota))
        self.account: IMailAccount = result_of(self.store.account(USER))

    def box(self, name: str) -> Any:
        return result_of(self.account.mailbox(name))

    def add(self, name: str, number: int, flags: frozenset[str] = frozenset()) -> int:
        return result_of(self._add(self.box(name), message(number), flags))

    async def _add(self, mailbox: IMailbox, octets: bytes, flags: frozenset[str]) -> int:
        body = await make_body(lambda size: body_for(self.account, mailbox, size), octets)
        return await mailbox.append(body, flags, DATE)

    def names(self) -> list[str]:
        return [each.name for each in result_of(self.account.mailboxes())]

    def has(self, name: str) -> dict[int, tuple[bytes, frozenset[str], int]]:
        return result_of(self._has(self.box(name)))

    async def _has(self, mailbox: IMailbox) -> dict[int, tuple[bytes, frozenset[str], int]]:
        return {
            entry.uid: (await read_message(mailbox, entry.uid), entry.flags, entry.internal_date)
            for entry in await mailbox.entries()
        }


class _Failing:
    """A mailbox of which one method fails the `after`th time."""

    def __init__(self, inner: Any, method: str, error: BaseException, after: int = 1) -> None:
        self._inner, self._method, self._error, self._left = inner, method, error, after

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            self._left -= 1
            if self._left <= 0:
                raise self._error
        return getattr(self._inner, name)


@pytest.mark.parametrize(("source", "target"), [("INBOX", "Feeds"), ("Feeds/Archive", "Sent")])
def test_copies_and_moves_between_stores_keep_octets_flags_and_dates(source: str, target: str) -> None:
    world = World()
    one, two = world.add(source, 1, STARS), world.add(source, 2)
    heard: list[Any] = []
    world.box(target).watch(heard.append)
    copied = result_of(world.box(source).copy([one, two, 99], world.box(target)))
    assert (copied.source, copied.uid_validity) == ((one, two), world.box(target).uid_validity)
    assert list(world.has(target).values()) == [(message(1), STARS, DATE), (message(2), frozenset(), DATE)]
    assert [type(change) for change in heard] == [Added, Added]
    assert len(world.has(source)) == 2
    world.box(source).watch(heard.append)
    moved = result_of(world.box(source).move([two, one], world.box(target)))
    assert moved.source == (one, two)
    assert world.has(source) == {}
    assert [world.has(target)[uid][0] for uid in moved.target] == [message(1), message(2)]
    assert heard[-1] == Expunged((one, two), result_of(world.box(source).status()).highest_modseq)
    assert result_of(world.box(source).copy([], world.box(target))).source == ()


def test_a_copy_that_fails_half_way_leaves_nothing_and_a_move_removes_nothing() -> None:
    world = World()
    numbers = [world.add("INBOX", number) for number in (1, 2, 3)]
    target = world.box("Feeds")
    target.inner = _Failing(target.inner, "append", OverQuota(), 3)
    with pytest.raises(OverQuota):
        result_of(world.box("INBOX").move(numbers, target))
    assert (len(world.has("INBOX")), world.has("Feeds")) == (3, {})


def test_two_moves_of_the_same_messages_at_once_double_none() -> None:
    world = World()
    numbers = [world.add("INBOX", number) for number in range(3)]
    other = result_of(world.store.account(USER))
    waiting: Deferred[None] = Deferred()
    target = world.box("Feeds")
    append = target.inner.append

    async def slow(*given: Any) -> int:
        if not waiting.called:
            await waiting
        uid: int = await append(*given)
        return uid

    target.inner.append = slow
    first = Deferred.fromCoroutine(world.box("INBOX").move(numbers, target))
    inbox, feeds, sent = (result_of(other.mailbox(name)) for name in ("INBOX", "Feeds", "Sent"))
    others = [Deferred.fromCoroutine(inbox.move(numbers, box)) for box in (feeds, sent)]
    moved: list[tuple[int, ...]] = []
    for each in (first, *others):
        each.addCallback(lambda result: moved.append(result.source))
    waiting.callback(None)
    assert sorted(moved) == [(), (), tuple(numbers)]
    assert [len(world.has(name)) for name in ("INBOX", "Feeds", "Sent")] == [0, 3, 0]


@pytest.mark.parametrize("method", ["append", "expunge"])
def test_a_move_that_ends_half_way_leaves_a_few_messages_in_both_at_most(method: str) -> None:
    """A crash is an error after which nothing runs, neither here nor there."""
    world = World()
    numbers = [world.add("INBOX", number) for number in range(3 * MOVED_AT_ONCE)]
    source, target = world.box("INBOX"), world.box("Feeds")
    if method == "append":
        target.inner = _Failing(target.inner, "append", StoreUnavailable(), 2 * MOVED_AT_ONCE)
    else:
        source.inner = _Failing(source.inner, "expunge", StoreUnavailable(), 2)
    with pytest.raises(StoreUnavailable):
        result_of(source.move(numbers, target))
    left, there = (sorted(octets for octets, _, _ in world.has(name).values()) for name in ("INBOX", "Feeds"))
    assert (len(left), {*left, *there}) == (2 * MOVED_AT_ONCE, {message(number) for number in range(len(numbers))})
    assert len(there) == (MOVED_AT_ONCE if method == "append" else 2 * MOVED_AT_ONCE)
    assert len(result_of(world.box("INBOX").move(numbers, world.box("Feeds/Sent"))).source) == len(left)


def test_many_messages_without_room_for_them_all_stay_where_they_are() -> None:
    world = World(quota=(MOVED_AT_ONCE + 2) * len(message(1)))
    numbers = [world.add("INBOX", number) for number in range(2 * MOVED_AT_ONCE)]
    with pytest.raises(OverQuota):
        result_of(world.box("INBOX").move(numbers, world.box("Feeds")))
    assert (len(world.has("INBOX")), world.has("Feeds")) == (len(numbers), {})


def test_what_cannot_be_removed_after_it_was_copied_is_in_both() -> None:
    world = World()
    one = world.add("INBOX", 1)
    source = world.box("INBOX")
    source.inner = _Failing(source.inner, "expunge", StoreUnavailable())
    with pytest.raises(StoreUnavailable):
        result_of(source.move([one], world.box("Feeds")))
    assert (len(world.has("INBOX")), len(world.has("Feeds"))) == (1, 1)


def test_a_quota_of_the_other_store_bounds_what_comes_into_it() -> None:
    world = World(quota=len(message(1)) + 10)
    one, two = world.add("INBOX", 1), world.add("INBOX", 2)
    with pytest.raises(OverQuota):
        result_of(world.box("INBOX").copy([one, two], world.box("Feeds")))
    assert world.has("Feeds") == {}
    result_of(world.box("INBOX").copy([one], world.box("Feeds")))
    home, other = (result_of(quota_for(world.account, world.box(name))) for name in ("INBOX", "Feeds/Sent"))
    assert (home.limit, home.messages, other.limit, other.messages) == (0, 2, len(message(1)) + 10, 1)
    assert result_of(world.account.quota()) == home


def test_flags_that_change_while_a_message_is_moved_go_along() -> None:
    world = World()
    one = world.add("INBOX", 1)
    target = world.box("Feeds")
    append = target.inner.append

    async def appended(*given: Any) -> int:
        uid: int = await append(*given)
        await world.box("INBOX").change_flags([one], FlagChange("add", frozenset({SEEN})))
        return uid

    target.inner.append = appended
    result_of(world.box("INBOX").move([one], target))
    assert [flags for _, flags, _ in world.has("Feeds").values()] == [{SEEN}]


def test_more_keywords_than_the_other_store_keeps_stop_a_copy() -> None:
    world = World()
    one = world.add("INBOX", 1, STARS)
    target = world.box("Feeds")
    target.inner = _Failing(target.inner, "append", TooManyKeywords())
    with pytest.raises(TooManyKeywords):
        result_of(world.box("INBOX").copy([one], target))


@pytest.mark.parametrize("of", ["INBOX", "Feeds"])
def test_rights_are_asked_before_anything_is_done(of: str) -> None:
    world = World()
    one = world.add("INBOX", 1)
    boxes = {name: world.box(name) for name in ("INBOX", "Feeds")}
    boxes[of].inner.rights = READ_ONLY
    with pytest.raises(NotPermitted):
        result_of(boxes["INBOX"].move([one], boxes["Feeds"]))
    assert (len(world.has("INBOX")), world.has("Feeds")) == (1, {})


def test_a_body_of_the_account_is_taken_by_every_mailbox() -> None:
    world = World()
    body = result_of(make_body(world.account.new_body, message(1)))
    result_of(world.box("Feeds").append(body, STARS, DATE))
    assert [octets for octets, _, _ in world.has("Feeds").values()] == [message(1)]


def test_mail_hidden_by_a_mount_is_in_the_log_once() -> None:
    world = World()
    result_of(result_of(world.home.store.account(USER)).create("Feeds/old"))
    with capturedLogs() as events:
        for _ in range(2):
            assert "Feeds/old" not in world.names()
    assert [(event["account"], event["mailboxes"]) for event in events] == [(USER, "Feeds/old")]


def test_no_mailbox_looks_like_one_of_another_store() -> None:
    """All stores count UIDVALIDITYs from the same second on, and what stands in a place may be another tomorrow."""
    told: dict[str, int] = {}
    for kind in ("feeds", "git", MAIN):
        stores: dict[str, Any] = {MAIN: database(), "feeds": database(), "git": database()}
        for each in stores.values():
            result_of(each.accounts.add(USER, ""))
        stores = {name: each.store for name, each in stores.items()}
        account = result_of(SeveralStores(stores, Shares(folders={"Feeds": kind}), Clock()).account(USER))
        with suppress(MailboxExists):
            result_of(account.create("Feeds"))
        box = result_of(account.mailbox("Feeds"))
        told[kind] = box.uid_validity
        assert result_of(box.status()).uid_validity == box.uid_validity
        inbox = result_of(account.mailbox("INBOX"))
        assert result_of(inbox.copy([], box)).uid_validity == box.uid_validity
        assert result_of(box.copy([], box)).uid_validity == box.uid_validity
        assert result_of(box.move([], inbox)).uid_validity == inbox.uid_validity == NOW
    assert len(set(told.values())) == 3
    # Clients keep them over years: the number of a name is for ever.
    assert (told["feeds"] - NOW, told["git"] - NOW) == (shift_of("feeds"), shift_of("git")) == (717934508, 445127580)


@pytest.mark.parametrize("inner", [1, LAST_UID - 1, LAST_UID])
def test_every_uidvalidity_of_a_store_is_told_as_one(inner: int) -> None:
    world = World()
    box = world.box("Feeds")
    box.inner.uid_validity = inner
    assert 1 <= box.uid_validity <= LAST_UID
    assert (box.uid_validity - inner) % LAST_UID == shift_of("other")


def test_mailboxes_are_made_renamed_and_deleted_where_they_are() -> None:
    world = World()
    result_of(world.account.create("Feeds/a"))
    result_of(world.account.rename("Feeds/a", "Feeds/b"))
    result_of(world.account.create("a"))
    assert {"Feeds", "Feeds/b", "a", "INBOX"} <= set(world.names())
    inner = result_of(world.other.store.account(USER))
    assert "b" in [each.name for each in result_of(inner.mailboxes())]
    assert world.box("Feeds/b").name == "Feeds/b"
    for call, error in (
        (world.account.create("Feeds"), MailboxExists),
        (world.account.create("Feeds/x", "\\Sent"), InvalidMailboxName),
        (world.account.rename("a", "Feeds/a"), InvalidMailboxName),
        (world.account.rename("Feeds/b", "b"), InvalidMailboxName),
        (world.account.rename("Feeds", "b"), InvalidMailboxName),
        (world.account.rename("a", "Feeds"), InvalidMailboxName),
        (world.account.rename("INBOX", "Feeds/old"), InvalidMailboxName),
        (world.account.delete("Feeds"), NotPermitted),
        (world.account.delete("Feeds/none"), NoSuchMailbox),
        (world.account.mailbox("Feeds/Inbox"), NoSuchMailbox),
        (world.account.delete("Feeds/INBOX"), NoSuchMailbox),
        (world.account.create("Feeds/inbox"), InvalidMailboxName),
        (world.account.rename("Feeds/b", "Feeds/INBOX"), InvalidMailboxName),
    ):
        with pytest.raises(error):
            result_of(call)
    result_of(world.account.delete("Feeds/b"))
    assert "Feeds/b" not in world.names()


def test_what_has_a_mount_below_it_keeps_its_name() -> None:
    world = World(mount="x/Feeds")
    for name in ("x", "y", "y/Feeds"):
        result_of(world.account.create(name))
    for old, new in (("x", "z"), ("y", "x")):
        with pytest.raises(InvalidMailboxName):
            result_of(world.account.rename(old, new))
    result_of(world.account.rename("y", "z"))


def test_subscriptions_are_kept_by_who_has_the_mailbox() -> None:
    world = World()
    assert "Feeds/Sent" in result_of(world.account.subscriptions())
    result_of(world.account.subscribe("Feeds", True))
    result_of(world.account.subscribe("Feeds/Sent", False))
    found = result_of(world.account.subscriptions())
    assert ("Feeds" in found, "Feeds/Sent" in found, "Sent" in found) == (True, False, True)
    again = result_of(world.other.store.account(USER))
    assert "INBOX" in result_of(again.subscriptions())


def test_a_mount_never_falls_through_to_the_home_store() -> None:
    """Mail that went home while the mounted store does not know the user would be hidden when it does again."""
    world = World()
    one = world.add("INBOX", 1)
    unknown = database()
    store: Any = unknown.store
    store.makes_accounts = False
    result_of(result_of(world.home.store.account(USER)).create("Feeds/old"))
    world.store.stores["other"] = store
    account = result_of(world.store.account(USER))
    assert not any(each.name.startswith("Feeds") for each in result_of(account.mailboxes()))
    assert world.store.shares.hidden(USER, ["INBOX", "Feeds", "Feeds/old", "Feedsx"]) == ["Feeds", "Feeds/old"]
    for name in ("Feeds", "Feeds/old", "Feeds/new"):
        for call, error in (
            (account.create(name), InvalidMailboxName),
            (account.mailbox(name), NoSuchMailbox),
            (account.delete(name), NoSuchMailbox),
            (account.rename("Sent", name), InvalidMailboxName),
            (account.rename(name, "x"), NoSuchMailbox),
        ):
            with pytest.raises(error):
                result_of(call)
    result_of(account.subscribe("Feeds/new", True))
    assert "Feeds/new" in result_of(account.subscriptions())
    assert world.has("INBOX").keys() == {one}
    result_of(unknown.accounts.add(USER, ""))  # the session goes on, and it is known again
    assert result_of(account.mailbox("Feeds")).name == "Feeds"


class _Broken:
    """A store that fails, or never answers, from some moment on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.error: BaseException | None = None

    async def account(self, user: str, create: bool = False) -> Any:
        if isinstance(self.error, StoreUnavailable):
            raise self.error
        if self.error is not None:
            await Deferred()
        return await self.inner.account(user, create)


@pytest.mark.parametrize("error", [StoreUnavailable(), TimeoutError()])
def test_a_store_that_does_not_answer_leaves_the_others_served(error: BaseException) -> None:
    world = World()
    broken: Any = _Broken(world.other.store)
    world.store.stores["other"] = broken
    result_of(world.account.create("Feeds/a"))
    before = world.names()
    broken.error = error
    account = result_of(world.store.account(USER))
    listing = Deferred.fromCoroutine(account.mailboxes())
    world.clock.advance(LIST_SECONDS)
    listed: list[Any] = []
    listing.addCallback(listed.extend)
    assert [each.name for each in listed] == before
    if isinstance(error, StoreUnavailable):
        with pytest.raises(StoreUnavailable):
            result_of(account.mailbox("Feeds/a"))
    assert result_of(uids(result_of(account.mailbox("Sent")))) == []
    result_of(account.logout())
