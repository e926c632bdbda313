"""Mail that a program keeps in a dictionary, by user and key."""

from mailhub.api import Component, SimpleStore

MAIL = {"ann@xx.example": {"first": b"From: ben@yy.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"}}


class DictStore(SimpleStore):
    def users(self) -> list[str]:
        return list(MAIL)

    def messages(self, user: str, folder: str) -> list[str]:
        return list(MAIL[user])

    def read(self, user: str, folder: str, key: str) -> bytes:
        return MAIL[user][key]


dict_store = Component("store", "dict", DictStore)
