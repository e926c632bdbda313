"""A mirror over a source that can do everything sits the exam of every store."""

from __future__ import annotations

from typing import cast

from mailhub.interfaces import IMailAccount, IMailStore
from mailhub.store.exam import StoreExam
from mailhub.store.limits import StoreLimits
from mailhub.store.mirror.store import MirrorStore
from tests.store.mirror.simple_stores import DictStore, FolderSource, PlayedHub, dict_source, environment

FOLDERS = ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash")


class TestMirror(StoreExam):
    makes_accounts = False
    has_usual_folders = True
    tells_growth = True

    async def open_store(self) -> IMailStore:
        self.mail = DictStore(None, PlayedHub(environment()))
        source = dict_source(self.mail, FolderSource)
        store = MirrorStore(source, self.mail.hub.environment, StoreLimits(), "dict")
        await store.start()
        return cast(IMailStore, store)

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        self.mail.mail[user] = {name: {} for name in FOLDERS}
        self.mail.quotas[user] = quota
        return await store.account(user)
