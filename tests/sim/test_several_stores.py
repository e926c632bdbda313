"""Whole servers with several stores: by domain, by account, by folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailhub.api import Component, Placement, Placements
from mailhub.errors import ConfigurationError
from mailhub.interfaces import IMessageView
from mailhub.message.envelope import Mail
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from tests.store.mirror.simple_stores import DictStore

ANN, BEN, CAT = "ann@xx.example", "ben@notes.example", "cat@xx.example"
HELLO = b"From: eve@yy.example\r\nSubject: hello\r\n\r\nHello\r\n"
MORE = b"From: eve@yy.example\r\nSubject: more\r\n\r\nMore\r\n"
PASSWORD = "correct horse"


class Shelf(DictStore):
    """Keeps its mail outside."""

    kept: dict[str, Any]
    silent = False

    def __init__(self, options: Any, hub: Any) -> None:
        super().__init__(options, hub)
        self.mail = self.kept
        self.keys = 1000

    def messages(self, user: str, folder: str) -> Any:
        return Deferred() if type(self).silent else super().messages(user, folder)

    def folders(self, user: str) -> Any:
        return Deferred() if type(self).silent else super().folders(user)


def shelf(**kept: Any) -> Any:
    return type("Kind", (Shelf,), {"kept": kept["mail"]})


class Filing:
    """A rule: all mail for Ann is filed."""

    async def apply(self, account: str, mail: Mail, message: IMessageView) -> Placements | None:
        return Placements((Placement("Feeds/news"),)) if account == ANN else None


def server(internet: Internet, notes: Any, feeds: Any, **config: Any) -> Host:
    host = internet.hub(
        "xx.example",
        config={
            "domains": ["xx.example", "notes.example"],
            "stores": {"notes": {"type": "notes"}, "feeds": {"type": "feeds", "timeout_seconds": 10}},
            "mailboxes": {
                "domains": {"notes.example": "notes"},
                "accounts": {CAT: "notes"},
                "folders": {"Feeds": "feeds"},
            },
            **config,
        },
        plugins=[
            Component("store", "notes", notes),
            Component("store", "feeds", feeds),
            Component("rule", "filing", lambda _, hub: Filing()),
        ],
    )
    for user in (ANN, BEN, CAT):
        host.add_account(user, PASSWORD)
    return host


def both() -> tuple[Any, Any]:
    notes = shelf(mail={BEN: {"INBOX": {}}, CAT: {"INBOX": {}}})
    feeds = shelf(mail={ANN: {"INBOX": {1: (HELLO, frozenset(), 1)}, "news": {2: (MORE, frozenset({"\\Seen"}), 1)}}})
    return notes, feeds


def login(internet: Internet, host: Host, user: str) -> Caller:
    client = internet.call(host, "imaps")
    client.expect(b"* OK")
    client.ask(f'a login {user} "{PASSWORD}"\r\n'.encode(), b"a OK")
    return client


def octets(folder: Any) -> list[bytes]:
    return [message for message, _, _ in folder.values()]


def delivered(host: Host, users: Sequence[str]) -> None:
    host.submit("", users, HELLO)


def test_accounts_are_where_their_domain_or_name_says_and_ours_are_delivered_in_the_commit() -> None:
    notes, feeds = both()
    with Internet() as internet:
        host = server(internet, notes, feeds)
        delivered(host, [ANN])
        assert (host.queued(), len(host.inbox(ANN))) == ([], 1)  # before any time has gone by
        delivered(host, [BEN, CAT])
        internet.run(5)
        assert host.queued() == []
        assert [len(notes.kept[user]["INBOX"]) for user in (BEN, CAT)] == [1, 1]
        drop = internet.call(host, "pop3s")
        drop.expect(b"+OK")
        drop.ask(f"USER {BEN}\r\n".encode(), b"+OK")
        drop.ask(f"PASS {PASSWORD}\r\n".encode(), b"+OK")
        assert b"Hello" in drop.ask(b"RETR 1\r\n", b".")
        drop.ask(b"DELE 1\r\n", b"+OK")
        drop.ask(b"QUIT\r\n", b"+OK")
        assert notes.kept[BEN]["INBOX"] == {}


def test_a_mounted_folder_is_listed_read_copied_from_and_moved_into() -> None:
    notes, feeds = both()
    with Internet() as internet:
        host = server(internet, notes, feeds)
        delivered(host, [ANN])
        client = login(internet, host, ANN)
        heard = client.ask(b'b list "" *\r\n', b"b OK")
        for name in (b"INBOX", b'"Sent"', b'"Feeds"', b'"Feeds/news"'):
            assert b'"/" %s\r\n' % name in heard
        assert b'"Feeds/news" (MESSAGES 1 UNSEEN 0)' in client.ask(
            b"c status Feeds/news (messages unseen)\r\n", b"c OK"
        )
        assert b"* 1 EXISTS" in client.ask(b"d select Feeds\r\n", b"d OK")
        assert b"Hello" in client.ask(b"e fetch 1 body.peek[]\r\n", b"e OK")
        assert b"COPYUID" in client.ask(b"f copy 1 Sent\r\n", b"f OK")
        assert b"* 1 EXISTS" in client.ask(b"g select Sent\r\n", b"g OK")
        client.ask(b"h select inbox\r\n", b"h OK")
        moved = client.ask(b"i move 1 Feeds/news\r\n", b"i OK")
        assert b"COPYUID" in moved
        assert b"* 1 EXPUNGE" in moved
        assert len(feeds.kept[ANN]["news"]) == 2
        assert (host.inbox(ANN), octets(feeds.kept[ANN]["INBOX"])) == ([], [HELLO])
        client.ask(b"j rename Feeds Other\r\n", b"j NO [CANNOT]")
        client.ask(b"k rename Sent Feeds/Sent\r\n", b"k NO [CANNOT]")
        client.ask(b"l append Feeds/news {%d+}\r\n%s\r\n" % (len(MORE), MORE), b"l OK [APPENDUID")
        assert octets(feeds.kept[ANN]["news"])[-1] == MORE
        client.ask(b"m select Feeds/news\r\n", b"m OK")
        client.ask(b"n idle\r\n", b"+ ")
        feeds.kept[ANN]["news"][9] = (MORE, frozenset(), 1)
        client.expect(b"* 4 EXISTS", seconds=15)
        client.ask(b"done\r\n", b"n OK")
        assert b"Feeds" in client.ask(b'o lsub "" Feeds*\r\n', b"o OK")


def test_a_rule_files_into_a_mounted_folder_and_the_inbox_stands_in_where_there_is_none() -> None:
    notes, feeds = both()
    with Internet() as internet:
        host = server(internet, notes, feeds, delivery={"rules": ["filing"]})
        delivered(host, [ANN])
        internet.run(5)
        assert (len(feeds.kept[ANN]["news"]), host.inbox(ANN), host.queued()) == (2, [], [])
        del feeds.kept[ANN]
        internet.run(30)
        delivered(host, [ANN])
        internet.run(5)
        assert (len(host.inbox(ANN)), host.queued()) == (1, [])


def test_a_mounted_store_that_never_answers_leaves_the_rest_served() -> None:
    notes, feeds = both()
    with Internet() as internet:
        host = server(internet, notes, feeds)
        client = login(internet, host, ANN)
        before = client.ask(b'b list "" *\r\n', b"b OK")
        feeds.silent = True
        client = login(internet, host, ANN)
        client.ask(b"c select Feeds/news\r\n", b"c NO [UNAVAILABLE]")
        client.ask(b"d select inbox\r\n", b"d OK")
        after = client.ask(b'b list "" *\r\n', b"b OK")
        assert sorted(line for line in after.split(b"\r\n") if line.startswith(b"* LIST")) == sorted(
            line for line in before.split(b"\r\n") if line.startswith(b"* LIST")
        )
        delivered(host, [ANN])
        assert b"* 1 EXISTS" in client.ask(b"e noop\r\n", b"e OK")
        feeds.silent = False
        internet.run(60)
        assert b"* 1 EXISTS" in client.ask(b"f select Feeds\r\n", b"f OK")


def test_a_store_that_knows_nobody_for_a_moment_lets_no_mail_go_home_under_its_names() -> None:
    notes, feeds = both()
    with Internet() as internet:
        host = server(internet, notes, feeds)
        client = login(internet, host, ANN)
        kept = feeds.kept.pop(ANN)
        internet.run(30)
        client = login(internet, host, ANN)
        assert b"Feeds" not in client.ask(b'b list "" *\r\n', b"b OK")
        client.ask(b"c select Feeds\r\n", b"c NO [NONEXISTENT]")
        client.ask(b"d create Feeds\r\n", b"d NO [CANNOT]")
        client.ask(b"e create Feeds/new\r\n", b"e NO [CANNOT]")
        client.ask(b"f append Feeds {%d+}\r\n%s\r\n" % (len(MORE), MORE), b"f NO [TRYCREATE]")
        feeds.kept[ANN] = kept
        internet.run(30)
        assert b"* 1 EXISTS" in client.ask(b"g select Feeds\r\n", b"g OK")
        assert b'"Feeds/news"' in client.ask(b'h list "" *\r\n', b"h OK")


def test_a_change_of_stores_waits_for_a_restart() -> None:
    notes, feeds = both()
    with Internet() as internet:
        host = server(internet, notes, feeds)
        reading = host.reload(
            {
                "domains": ["xx.example", "notes.example"],
                "stores": {"notes": {"type": "notes"}},
                "mailboxes": {"domains": {"notes.example": "notes"}},
            }
        )
        assert not reading.fault
        assert "[stores.feeds]" in reading.lasting
        delivered(host, [BEN])
        internet.run(5)
        assert len(notes.kept[BEN]["INBOX"]) == 1


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"mailboxes": {"folders": {"Feeds": "gone"}}}, r'\[mailboxes.folders\] "Feeds": there is no store'),
        ({"stores": {"s": {"type": "notes"}}}, r"\[stores.s\]: nobody has this store"),
        ({"stores": {"s": {}}, "mailboxes": {"domains": {"xx.example": "s"}}}, r"\[stores.s\] type: is missing"),
        (
            {"mailboxes": {"domains": {"zz.example": "store"}}},
            r'\[mailboxes.domains\] "zz.example": zz.example is none',
        ),
        ({"mailboxes": {"accounts": {"a@zz.example": "store"}}}, r"zz.example is none of our domains"),
        ({"mailboxes": {"accounts": {"nobody": "store"}}}, r'\[mailboxes.accounts\] "nobody": '),
        ({"mailboxes": {"folders": {"inbox": "store"}}}, r"an account's INBOX is in the account's own store"),
        ({"mailboxes": {"folders": {"a//b": "store"}}}, r'\[mailboxes.folders\] "a//b": '),
        ({"mailboxes": {"domains": {"xx.example": "store", "XX.example": "store"}}}, r"is the same as another key"),
        ({"stores": {"store": {"type": "notes"}}}, r"\[stores.store\]: is what \[store\] is called"),
        (
            {"stores": {"s": {"type": "x"}}, "mailboxes": {"domains": {"xx.example": "s"}}},
            r"no store plugin called 'x'",
        ),
    ],
)
def test_mistakes_are_named_by_file_table_and_key(tables: dict[str, Any], told: str) -> None:
    with Internet() as internet:
        plugins = [Component("store", "notes", shelf(mail={}))]
        with pytest.raises(ConfigurationError, match=told) as raised:
            internet.hub("xx.example", config=tables, plugins=plugins)
        assert str(raised.value).startswith("/xx.example.toml: [")
        internet.hubs.clear()
