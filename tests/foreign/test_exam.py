"""Realms of IAccountIMAP and IMailboxPOP3 sit the exam of every store."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.mail.interfaces import IAccountIMAP, IMailboxPOP3
from twisted.mail.maildir import StringListMailbox
from zope.interface import implementer

from mailhub.errors import NoSuchUser, NotPermitted
from mailhub.foreign import Foreign, adapt
from mailhub.interfaces import IMailAccount, IMailStore
from mailhub.message.record import ALL_RIGHTS, Rights
from mailhub.store.exam import StoreExam
from mailhub.store.exam.rig import USER, message
from tests.foreign.realms import MemoryMailbox
from tests.foreign.rig import foreign


@implementer(IAccountIMAP)
class PlainAccount:
    """Mailboxes in a dict, under the names that they are given. All its answers are Deferreds, and its delimiter is a
    dot."""

    def __init__(self) -> None:
        self.numbers = 0
        self.mailboxes: dict[str, DottedMailbox] = {}
        self.subscribed: set[str] = set()
        self.create("INBOX")

    def create(self, pathspec: str) -> Deferred[bool]:
        self.numbers += 1
        self.mailboxes[pathspec] = DottedMailbox(self.numbers)
        return succeed(True)

    def addMailbox(self, name: str, mbox: Any = None) -> bool:
        raise NotImplementedError

    def select(self, name: str, rw: bool = True) -> Deferred[DottedMailbox | None]:
        return succeed(self.mailboxes.get(name))

    def delete(self, name: str) -> Deferred[None]:
        self.mailboxes.pop(name).destroy()
        return succeed(None)

    def rename(self, oldname: str, newname: str) -> Deferred[None]:
        for name in list(self.mailboxes):
            if name == oldname or name.startswith(oldname + "."):
                self.mailboxes[newname + name[len(oldname) :]] = self.mailboxes.pop(name)
        return succeed(None)

    def isSubscribed(self, name: str) -> Deferred[bool]:
        return succeed(name in self.subscribed)

    def subscribe(self, name: str) -> Deferred[None]:
        self.subscribed.add(name)
        return succeed(None)

    def unsubscribe(self, name: str) -> Deferred[None]:
        self.subscribed.discard(name)
        return succeed(None)

    def listMailboxes(self, ref: str, wildcard: str) -> Deferred[list[tuple[str, DottedMailbox]]]:
        return succeed(list(self.mailboxes.items()))


class DottedMailbox(MemoryMailbox):
    def getHierarchicalDelimiter(self) -> str:
        return "."

    def getMessageCount(self) -> Any:
        return succeed(super().getMessageCount())

    def fetch(self, messages: Any, uid: bool) -> Deferred[Any]:
        return succeed(super().fetch(messages, uid))


@implementer(IMailStore)
class RealmStore:
    """A realm where a store would be."""

    def __init__(self, shared: Foreign) -> None:
        self.shared = shared
        self.accounts: dict[str, PlainAccount] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def exists(self, user: str) -> bool:
        return user in self.accounts

    async def account(self, user: str, create: bool = False) -> IMailAccount:
        if user not in self.accounts:
            raise NoSuchUser
        account: IMailAccount = adapt(IAccountIMAP, self.accounts[user], user, self.shared)
        return account

    async def check_quota(self, user: str, size: int) -> None:
        if user not in self.accounts:
            raise NoSuchUser


class TestMemoryRealm(StoreExam):
    makes_accounts = False
    has_quota = False
    has_special_uses = False
    tells_growth = True
    rights = ALL_RIGHTS

    async def open_store(self) -> IMailStore:
        return RealmStore(foreign())

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        assert isinstance(store, RealmStore)
        store.accounts[user] = PlainAccount()
        return await store.account(user)


@implementer(IMailStore)
class MaildropStore(RealmStore):
    """Maildrops of `twisted.mail`, which stay while logins come and go."""

    def __init__(self, shared: Foreign) -> None:
        super().__init__(shared)
        self.maildrops = {USER: [message(1), message(2, 100_000), message(3)]}

    async def exists(self, user: str) -> bool:
        return user in self.maildrops

    async def account(self, user: str, create: bool = False) -> IMailAccount:
        if user not in self.maildrops:
            raise NoSuchUser
        mailbox = StringListMailbox(self.maildrops[user])  # type: ignore[no-untyped-call]
        account: IMailAccount = adapt(IMailboxPOP3, mailbox, user, self.shared)
        return account

    async def check_quota(self, user: str, size: int) -> None:
        if user not in self.maildrops:
            raise NoSuchUser
        raise NotPermitted(status="5.2.1")


class TestMaildrop(StoreExam):
    makes_accounts = False
    has_folders = False
    has_quota = False
    has_special_uses = False
    tells_growth = True
    read_only = True
    rights = frozenset("lrte")

    @property
    def _rights(self) -> Rights:
        return self.rights

    async def open_store(self) -> IMailStore:
        return MaildropStore(foreign())
