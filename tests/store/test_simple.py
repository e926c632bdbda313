"""A simple store with all methods sits the exam of every store."""

from __future__ import annotations

from mailhub.interfaces import IMailAccount, IMailStore
from mailhub.store.exam import StoreExam
from tests.store.mirror.simple_stores import DictStore, PlayedHub, environment


class TestDictStore(StoreExam):
    makes_accounts = False
    has_folders = False
    tells_growth = True

    async def open_store(self) -> IMailStore:
        store = DictStore(None, PlayedHub(environment()))
        await store.start()
        return store

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        assert isinstance(store, DictStore)
        store.mail[user] = {name: {} for name in ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash")}
        store.quotas[user] = quota
        return await store.account(user)
