"""A feed to read, Atom or RSS: each entry is a message. What is no longer in the feed is gone from the mailbox, too."""

from contextlib import suppress
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parsedate_to_datetime
from hashlib import sha256
from urllib.parse import urlsplit
from urllib.request import urlopen
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

from attrs import frozen

from mailhub.api import Component, SimpleStore

LARGEST = 10_000_000  # octets of a feed


@frozen
class FeedOptions:
    url: str
    users: tuple[str, ...]


class NoDoctype(TreeBuilder):
    def doctype(self, *words: object) -> None:
        raise ValueError("a feed has no DOCTYPE")  # so that there are no entities that grow


def text(entry: Element, *names: str) -> str:
    found = next((each for name in names if (each := entry.find(f"{{*}}{name}")) is not None), Element("none"))
    return "".join(found.itertext()) or found.get("href", "")


def message(entry: Element, host: str) -> bytes:
    mail = EmailMessage(SMTP)
    mail["From"] = Address(" ".join(text(entry, "author/{*}name", "author", "creator").split()) or host, "feed", host)
    mail["Subject"] = " ".join(text(entry, "title").split())
    when = text(entry, "published", "updated", "pubDate", "date")
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with suppress(ValueError):
            mail["Date"] = parse(when)
            break
    mail.set_content(
        f"{text(entry, 'content', 'encoded', 'summary', 'description')}\n\n{text(entry, 'link')}\n", "html"
    )
    return mail.as_bytes()


class FeedStore(SimpleStore):
    options: FeedOptions
    keep_flags = True
    poll_seconds = 600.0
    fetched = -poll_seconds
    mail: dict[str, bytes] = {}

    def users(self) -> tuple[str, ...]:
        return self.options.users

    def messages(self, user: str, folder: str) -> list[str]:
        now = self.hub.environment.monotonic()
        if now - self.fetched >= self.poll_seconds:
            parser = XMLParser(target=NoDoctype())
            with urlopen(self.options.url, timeout=20) as answer:
                parser.feed(answer.read(LARGEST))
            host = urlsplit(self.options.url).hostname or "localhost"
            entries = [each for each in parser.close().iter() if each.tag.rpartition("}")[2] in ("entry", "item")]
            made = [message(entry, host) for entry in reversed(entries)]  # the newest entry comes first in a feed
            self.mail, self.fetched = {sha256(octets).hexdigest(): octets for octets in made}, now
        return list(self.mail)

    def read(self, user: str, folder: str, key: str) -> bytes:
        return self.mail[key]


feed_store = Component("store", "feed", FeedStore, FeedOptions)
