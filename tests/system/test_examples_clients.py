"""Real clients against the example stores and Maildirs: mbsync both ways, curl, imaplib and fetchmail."""

from __future__ import annotations

import imaplib
import mailbox
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from examples.plugins.sql_store import SCHEMA
from mailhub.testing.process import DEADLINE, ServerProcess, insecure_tls, run
from tests.examples.stage import PLUGINS
from tests.examples.test_stores import ENTRY, commit
from tests.system.conftest import need

pytestmark = pytest.mark.system

ANN = "ann@xx.example"
PASSWORD = "correct-horse"
MAIL = "From: ben@yy.example\r\nSubject: {}\r\n\r\nHow are you?\r\n"


@attrs.frozen
class Backend:
    """A store with one message, `hello`. `put` adds one more behind the server's back, where that can be; `subjects`
    are those in the INBOX as the store itself has them, where it can be written."""

    table: str
    put: Callable[[str], object] | None = None
    subjects: Callable[[], list[str]] | None = None


def subject_of(octets: bytes) -> str:
    """Of one message."""
    return octets.partition(b"Subject: ")[2].partition(b"\n")[0].strip().decode()


def the_dict(folder: Path) -> Backend:
    return Backend('type = "dict"')


def the_folder(folder: Path) -> Backend:
    inbox = folder / ANN / "INBOX"
    inbox.mkdir(parents=True)

    def put(subject: str) -> None:
        (inbox / f"{subject}.eml").write_bytes(MAIL.format(subject).encode())

    put("hello")
    return Backend(
        f'type = "eml-folder"\npath = "{folder}"',
        put,
        lambda: [subject_of(path.read_bytes()) for path in inbox.glob("*.eml")],
    )


def the_feed(folder: Path) -> Backend:
    path = folder / "feed.xml"
    path.write_text(f'<feed xmlns="http://www.w3.org/2005/Atom">{ENTRY.format("hello")}</feed>')
    return Backend(f'type = "feed"\nurl = "{path.as_uri()}"\nusers = ["{ANN}"]')


def the_table(folder: Path) -> Backend:
    path = folder / "mail.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO folder VALUES (?, ?)", (ANN, "INBOX"))
        database.commit()

    def put(subject: str) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            row = (ANN, "INBOX", MAIL.format(subject).encode())
            database.execute("INSERT INTO mail VALUES (NULL, ?, ?, ?, '', 1700000000)", row)

    def subjects() -> list[str]:
        with closing(sqlite3.connect(path)) as database:
            return [subject_of(octets) for (octets,) in database.execute("SELECT octets FROM mail")]

    put("hello")
    return Backend(f'type = "sql"\npath = "{path}"', put, subjects)


def the_history(folder: Path) -> Backend:
    run("git", "init", "-q", "-b", "main", folder)
    commit(folder, "hello")
    return Backend(f'type = "git"\npath = "{folder}"\nusers = ["{ANN}"]', lambda subject: commit(folder, subject))


def the_maildir(folder: Path) -> Backend:
    box = mailbox.Maildir(folder / ANN)

    def put(subject: str) -> None:
        box.add(MAIL.format(subject).replace("\r\n", "\n").encode())

    put("hello")
    return Backend(
        f'type = "maildir"\npath = "{folder}/{{local}}@{{domain}}"',
        put,
        lambda: [str(message["Subject"]) for message in mailbox.Maildir(folder / ANN)],
    )


class Clients:
    """What is installed on somebody's machine, with the account of one server."""

    def __init__(self, server: ServerProcess, home: Path) -> None:
        self.server = server
        self.home = home
        self.copy = home / "copy"
        self.copy.mkdir(parents=True)
        (home / "mbsyncrc").write_text(
            f"IMAPStore far\nHost 127.0.0.1\nPort {server.ports['imaps']}\nUser {ANN}\nPass {PASSWORD}\nSSLType IMAPS\n"
            f"CertificateFile {server.folder}/fullchain.pem\n\nMaildirStore near\nPath {self.copy}/\n"
            f"Inbox {self.copy}/INBOX\n\nChannel all\nFar :far:\nNear :near:\nCreate Near\nExpunge Both\nSyncState *\n"
        )
        (home / "fetchmailrc").write_text(
            f"poll 127.0.0.1 protocol POP3 port {server.ports['pop3s']} uidl\n"
            f' user "{ANN}" password "{PASSWORD}" ssl no sslcertck keep fetchall\n mda "cat >>{home}/fetched"\n'
        )
        (home / "fetchmailrc").chmod(0o600)

    def mbsync(self) -> dict[str, mailbox.MaildirMessage]:
        """The copy as it is after it was made the same, by subject."""
        run("mbsync", "-c", self.home / "mbsyncrc", "-a", env={"HOME": str(self.home)})
        return {str(message["Subject"]).split("] ")[-1]: message for message in self.box()}

    def box(self) -> mailbox.Maildir:
        """The copy."""
        return mailbox.Maildir(self.copy / "INBOX")

    def flag(self, subject: str, flags: str) -> None:
        """In the copy, as a mail program does it."""
        box = self.box()
        for key, message in box.iteritems():
            if str(message["Subject"]).endswith(subject):
                message.set_subdir("cur")
                message.set_flags(flags)
                box[key] = message

    def curl(self) -> str:
        """The first message."""
        login = ("--silent", "--show-error", "--insecure", "--user", f"{ANN}:{PASSWORD}")
        return run("curl", *login, f"imaps://127.0.0.1:{self.server.ports['imaps']}/INBOX;MAILINDEX=1").stdout

    def imaplib(self) -> imaplib.IMAP4_SSL:
        """With INBOX selected."""
        port = self.server.ports["imaps"]
        client = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=insecure_tls(), timeout=DEADLINE)
        client.login(ANN, PASSWORD)
        client.select("INBOX", readonly=True)
        return client

    def rows(self) -> list[str]:
        """UIDs and flags, as imaplib reads them."""
        with self.imaplib() as client:
            return [re.sub(r" ?\\+Recent", "", str(row)) for row in client.uid("fetch", "1:*", "(FLAGS)")[1]]

    def append(self) -> bool:
        """Whether a message could be added by imaplib."""
        with self.imaplib() as client:
            return client.append("INBOX", "", "", MAIL.format("added").encode())[0] == "OK"

    def fetchmail(self) -> str:
        """All that it has fetched, so far."""
        words = ("--nosyslog", "--nodetach", "--invisible", "--pidfile", self.home / "pid")
        run(
            *("fetchmail", "-f", self.home / "fetchmailrc", *words),
            env={"HOME": str(self.home), "FETCHMAILHOME": str(self.home)},
        )
        return (self.home / "fetched").read_text()


@pytest.mark.parametrize("made", [the_dict, the_folder, the_feed, the_table, the_history, the_maildir])
def test_a_store_is_used_by_real_clients(made: Callable[[Path], Backend], tmp_path: Path) -> None:
    need("mbsync", "curl", "fetchmail")
    (tmp_path / "mail").mkdir()
    backend = made(tmp_path / "mail")
    server = ServerProcess(tmp_path / "xx", "xx.example", {ANN: PASSWORD}, f"[store]\n{backend.table}\n")
    server.prepare()
    server.config.write_text(f'plugins = ["{PLUGINS}"]\n{server.config.read_text()}')
    server.start()
    try:
        clients = Clients(server, tmp_path / "home")
        assert "How are you?" in clients.curl()
        assert list(clients.mbsync()) == ["hello"]
        if backend.put is not None:
            backend.put("second")
            assert set(clients.mbsync()) == {"hello", "second"}
        assert "How are you?" in clients.fetchmail()
        assert clients.append() is (backend.subjects is not None)
        if made is not the_dict:  # which keeps no flags
            clients.flag("hello", "FS")
            clients.mbsync()
            assert all(flag in clients.rows()[0] for flag in ("UID 1 ", "Flagged", "Seen"))
        if backend.subjects is not None:
            clients.box().add(MAIL.format("mine").replace("\r\n", "\n").encode())
            clients.flag("second", "ST")
            clients.mbsync()
            assert sorted(backend.subjects()) == ["added", "hello", "mine"]
        rows = clients.rows()
        server.stop()
        server.start()
        assert clients.rows() == rows
        assert len(clients.mbsync()) == len(rows) == len(clients.box())  # nothing came twice
    finally:
        if server.process is not None:
            server.stop()
