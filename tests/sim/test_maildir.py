"""A whole server whose mailboxes are Maildirs."""

from __future__ import annotations

import re
from pathlib import Path

from mailhub.testing.hubs import Host, Internet
from tests.sim.test_simple_store import ANN, PASSWORD, imap, pop3

HELLO = b"From: ben@yy.example\nSubject: hello\n\nHello\n.\n"
SENT = HELLO.replace(b"\n", b"\r\n")


def server(internet: Internet, folder: Path) -> tuple[Host, Path]:
    (folder / "1-xx.example").mkdir()
    host = internet.hub("xx.example", config={"store": {"type": "maildir"}})
    host.add_account(ANN, PASSWORD)
    return host, folder / "1-xx.example" / "maildirs" / "xx.example" / "ann"


def names(maildir: Path) -> list[str]:
    return sorted(path.name for each in ("new", "cur") for path in (maildir / each).iterdir())


def test_mail_is_delivered_to_a_maildir_and_read_by_imap_and_pop3(tmp_path: Path) -> None:
    with Internet(seed=1, folder=tmp_path) as internet:
        host, maildir = server(internet, tmp_path)
        host.submit(ANN, [ANN], b"Subject: to myself\r\n\r\nHello\r\n")
        internet.run(1)
        (file,) = (maildir / "new").iterdir()
        assert file.read_bytes().startswith(b"Return-Path: <ann@xx.example>\nReceived: ")
        assert file.read_bytes().endswith(b"Subject: to myself\n\nHello\n")
        (maildir / "new" / "1700000009.9.other").write_bytes(HELLO)
        client = imap(internet, host)
        assert b"* 2 EXISTS" in client.ask(b"b select inbox\r\n", b"b OK")
        fetched = client.ask(b"c fetch 1:2 (rfc822.size body.peek[])\r\n", b"c OK")
        assert b"RFC822.SIZE %d BODY[] {%d}\r\n%s)" % (len(SENT), len(SENT), SENT) in fetched
        client.ask(b"d uid store 1 +flags (\\Flagged $Junk)\r\n", b"d OK")
        assert sum(name.endswith(":2,Fa") for name in names(maildir)) == 1
        drop = pop3(internet, host)
        assert re.search(rb"^\d %d\r$" % len(SENT), drop.ask(b"LIST\r\n", b"."), re.M)
        client.ask(b"e uid move 1 Trash\r\n", b"e OK")
        assert len(names(maildir)) == len(names(maildir / ".Trash")) == 1
        assert b"Trash" in client.ask(b'f list "" * return (subscribed)\r\n', b"f OK")


def test_who_watches_is_told_of_what_others_do(tmp_path: Path) -> None:
    with Internet(seed=1, folder=tmp_path) as internet:
        host, maildir = server(internet, tmp_path)
        client = imap(internet, host)
        client.ask(b"b select inbox\r\n", b"b OK")
        client.ask(b"c idle\r\n", b"+ ")
        file = maildir / "new" / "1700000009.9.other"
        file.write_bytes(HELLO)
        internet.run(3)
        client.expect(b"* 1 EXISTS")
        file = file.rename(maildir / "cur" / "1700000009.9.other:2,S")
        internet.run(3)
        client.expect(b"* 1 FETCH (UID 1 FLAGS (\\Recent \\Seen))")
        file.unlink()
        internet.run(3)
        client.expect(b"* 1 EXPUNGE")


def test_uids_survive_a_restart(tmp_path: Path) -> None:
    with Internet(seed=1, folder=tmp_path) as internet:
        host, _ = server(internet, tmp_path)
        for number in range(3):
            host.submit(ANN, [ANN], b"Subject: %d\r\n\r\nHello\r\n" % number)
        internet.run(1)
        client = imap(internet, host)
        before = client.ask(b"b select inbox\r\n", b"b OK")
        client.ask(b"c uid store 2 +flags.silent \\deleted\r\n", b"c OK")
        client.ask(b"d expunge\r\n", b"d OK")
        host.restart()
        host.add_account(ANN, PASSWORD)  # the database was in memory
        client = imap(internet, host)
        after = client.ask(b"b select inbox\r\n", b"b OK")
        assert re.findall(rb"UIDVALIDITY \d+", before) == re.findall(rb"UIDVALIDITY \d+", after) != []
        assert b"* SEARCH 1 3\r\n" in client.ask(b"c uid search all\r\n", b"c OK")
