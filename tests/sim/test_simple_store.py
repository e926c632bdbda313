"""Whole servers whose mailboxes are those of a simple store."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from mailhub.api import SimpleStore
from mailhub.plugins import Component
from mailhub.testing.caller import Caller
from mailhub.testing.hubs import Host, Internet
from tests.store.mirror.simple_stores import DictStore

ANN = "ann@xx.example"
PASSWORD = "correct horse"
HELLO = b"From: ben@yy.example\r\nSubject: hello\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nHello\r\n"
MORE = b"From: ben@yy.example\r\nSubject: more\r\n\r\nMore\r\n"


class Notes(SimpleStore):
    """Read-only: three methods."""

    mail: dict[str, bytes]

    def users(self) -> list[str]:
        return [ANN]

    def messages(self, user: str, folder: str) -> list[str]:
        return list(self.mail)

    def read(self, user: str, folder: str, key: str) -> bytes:
        return self.mail[key]


class Mail(DictStore):
    """Read and written; its mail survives a restart of the server, as a database would."""

    kept: dict[str, Any]

    def __init__(self, options: Any, hub: Any) -> None:
        super().__init__(options, hub)
        self.mail = self.kept
        self.keys = 1000 + sum(map(len, self.kept[ANN].values()))


def server(internet: Internet, kind: type[SimpleStore], **config: Any) -> Host:
    host = internet.hub(
        "xx.example",
        config={"store": {"type": "mine"}, **config},
        plugins=[Component("store", "mine", kind)],
    )
    host.add_account(ANN, PASSWORD)
    return host


def imap(internet: Internet, host: Host) -> Caller:
    caller = internet.call(host, "imaps")
    caller.expect(b"* OK")
    caller.ask(f'a login {ANN} "{PASSWORD}"\r\n'.encode(), b"a OK")
    return caller


def pop3(internet: Internet, host: Host) -> Caller:
    caller = internet.call(host, "pop3s")
    caller.expect(b"+OK")
    caller.ask(f"USER {ANN}\r\n".encode(), b"+OK")
    caller.ask(f"PASS {PASSWORD}\r\n".encode(), b"+OK")
    return caller


def store_of(host: Host) -> Any:
    return host.hub.store


def test_three_methods_are_read_by_imap_and_pop3() -> None:
    kind = type("Kind", (Notes,), {"mail": {"one": HELLO, "two": MORE}})
    with Internet(seed=1) as internet:
        host = server(internet, kind)
        client = imap(internet, host)
        assert b"* 2 EXISTS" in client.ask(b"b select inbox\r\n", b"b OK")
        heard = client.ask(b"c uid fetch 1:* (uid rfc822.size flags envelope internaldate)\r\n", b"c OK")
        assert b'UID 1 RFC822.SIZE %d FLAGS (\\Recent) ENVELOPE ("Mon, 1 Jan 2024' % len(HELLO) in heard
        assert b'"hello"' in heard
        assert b'"more"' in heard
        assert b'INTERNALDATE " 1-Jan-2024 00:00:00 +0000"' in heard  # no date of its own: the message's
        assert b"Hello\r\n" in client.ask(b"d fetch 1 body.peek[]\r\n", b"d OK")
        assert b"* SEARCH 2" in client.ask(b"e search text more\r\n", b"e OK")
        drop = pop3(internet, host)
        assert b"1 %d" % len(HELLO) in drop.ask(b"LIST\r\n", b".")
        assert b"Hello" in drop.ask(b"RETR 1\r\n", b".")


def test_idle_hears_of_what_is_new_by_polling_and_at_once_when_it_is_told() -> None:
    mail = {"one": HELLO}
    kind = type("Kind", (Notes,), {"mail": mail})
    with Internet(seed=1) as internet:
        host = server(internet, kind)
        client = imap(internet, host)
        client.ask(b"b select inbox\r\n", b"b OK")
        client.ask(b"c idle\r\n", b"+ ")
        mail["two"] = MORE
        assert not internet.run_until(lambda: b"* 2 EXISTS" in client.heard, 5, 0.1)
        client.expect(b"* 2 EXISTS", seconds=6)
        mail["three"] = MORE
        store_of(host).changed(ANN)
        client.expect(b"* 3 EXISTS", seconds=1)
        del mail["one"]
        client.expect(b"* 1 EXPUNGE", seconds=11)
        client.ask(b"done\r\n", b"c OK")
        mail["four"] = HELLO
        assert b"* 3 EXISTS" in client.ask(b"d noop\r\n", b"d OK")


def test_what_is_delivered_flagged_moved_and_deleted_is_so_in_the_store() -> None:
    kept: dict[str, Any] = {ANN: {"INBOX": {}, "Archive": {}}}
    kind = type("Kind", (Mail,), {"kept": kept})
    with Internet(seed=1) as internet:
        host = server(internet, kind)
        host.submit("", [ANN], HELLO)
        host.submit("", [ANN], MORE)
        internet.run(5)
        assert len(kept[ANN]["INBOX"]) == 2
        client = imap(internet, host)
        assert b"* 2 EXISTS" in client.ask(b"b select inbox\r\n", b"b OK")
        client.ask(b"c store 1 +flags (\\Seen $Work)\r\n", b"c OK")
        assert [flags for _, flags, _ in kept[ANN]["INBOX"].values()] == [{"\\Seen", "$Work"}, set()]
        assert b"COPYUID" in client.ask(b"d move 1 Archive\r\n", b"d OK")
        ((octets, flags, _),) = kept[ANN]["Archive"].values()
        assert (HELLO in octets, flags) == (True, {"\\Seen", "$Work"})
        drop = pop3(internet, host)
        drop.ask(b"DELE 1\r\n", b"+OK")
        drop.ask(b"QUIT\r\n", b"+OK")
        assert kept[ANN]["INBOX"] == {}
        assert b"* 1 EXPUNGE" in client.ask(b"e noop\r\n", b"e OK")
        token = base64.b64encode(b"x").decode()
        literal = f"Subject: {token}\r\n\r\nx\r\n".encode()
        client.ask(b"f append inbox (\\Draft) {%d+}\r\n%s\r\n" % (len(literal), literal), b"f OK")
        ((octets, flags, _),) = kept[ANN]["INBOX"].values()
        assert (octets, flags) == (literal, {"\\Draft"})


def test_uids_and_kept_flags_survive_a_restart(tmp_path: Path) -> None:
    mail = {"one": HELLO, "two": MORE}
    kind = type("Kind", (Notes,), {"mail": mail, "keep_flags": True})
    with Internet(seed=1, folder=tmp_path) as internet:
        host = server(internet, kind, database={"type": "inline"})
        client = imap(internet, host)
        first = client.ask(b"b select inbox\r\n", b"b OK")
        client.ask(b"c store 2 +flags (\\Seen)\r\n", b"c OK")
        del mail["one"]
        mail["three"] = MORE
        host.restart()
        client = imap(internet, host)
        again = client.ask(b"b select inbox\r\n", b"b OK")
        assert validity(first) == validity(again)
        heard = client.ask(b"c fetch 1:* (uid flags)\r\n", b"c OK")
        assert b"UID 2 FLAGS (\\Seen)" in heard
        assert b"UID 3 FLAGS (\\Recent)" in heard or b"UID 3 FLAGS ()" in heard
        assert b"UID 1 " not in heard


def validity(heard: bytes) -> bytes:
    return heard.partition(b"[UIDVALIDITY ")[2].partition(b"]")[0]


def test_mail_that_cannot_be_taken_is_refused_at_rcpt() -> None:
    kind = type("Kind", (Notes,), {"mail": {}})
    with Internet(seed=1) as internet:
        host = server(internet, kind)
        caller = internet.call(host, "smtp")
        caller.expect(b"220 ")
        caller.ask(b"EHLO client.example\r\n", b"250 ")
        caller.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250 ")
        assert b"550 5.2.1" in caller.ask(f"RCPT TO:<{ANN}>\r\n".encode(), b"5")
