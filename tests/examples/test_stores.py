"""The example stores, each in a whole server, read and written by clients."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from twisted.internet.task import Clock

from examples.plugins import dict_store, eml_folder, feed_store, git_store, sql_store
from mailhub.api import (
    READ_ONLY,
    Component,
    IMailAccount,
    IMailStore,
    MessageGone,
    NotPermitted,
    SimpleStore,
    StoreUnavailable,
)
from mailhub.testing.exams import SimpleStoreExam, StoreExam
from mailhub.testing.hubs import Internet
from tests.examples.stage import ANN, HELLO, append, imap, lines, pop3, serve
from tests.store.mirror.simple_stores import PlayedHub, environment

LINES = {"dict_store": 20, "eml_folder": 75, "feed_store": 80, "git_store": 70, "sql_store": 60}


@attrs.frozen
class Backend:
    """A place with one message, `subject`, its component and table; `put` adds one with another subject."""

    component: Component
    table: dict[str, Any]
    put: Callable[[str], object]

    def make(self, hub: Any) -> Any:
        """The store."""
        options = {key: Path(value) if key == "path" else value for key, value in self.table.items()}
        return self.component.make(self.component.options(**options), hub)


def a_dict(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    mail: dict[str, bytes] = {}
    monkeypatch.setattr(dict_store, "MAIL", {ANN: mail})

    def put(subject: str) -> None:
        mail[subject] = HELLO.replace(b"hello", subject.encode())

    put("hello")
    return Backend(dict_store.dict_store, {}, put)


def a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    (folder / ANN / "INBOX").mkdir(parents=True)
    (folder / ANN / "Work" / "Old").mkdir(parents=True)
    (folder / ANN / "INBOX" / "notes.txt").write_text("no mail")

    def put(subject: str) -> None:
        (folder / ANN / "INBOX" / f"{subject}.eml").write_bytes(HELLO.replace(b"hello", subject.encode()))

    put("hello")
    return Backend(eml_folder.eml_folder, {"path": str(folder)}, put)


def a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    path = folder / "mail.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(sql_store.SCHEMA)
        database.executemany(
            "INSERT INTO folder VALUES (?, ?)", [(ANN, name) for name in ("INBOX", "Work", "Work/Old")]
        )
        database.commit()

    def put(subject: str) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            row = (ANN, "INBOX", HELLO.replace(b"hello", subject.encode()), "", 1_700_000_000)
            database.execute("INSERT INTO mail (user, folder, octets, flags, date) VALUES (?, ?, ?, ?, ?)", row)

    put("hello")
    return Backend(sql_store.sql_store, {"path": str(path)}, put)


ENTRY = (
    "<entry><id>{0}</id><title>{0}</title><updated>2024-01-02T03:04:05Z</updated><author><name>Ben</name></author>"
    '<link href="https://yy.example/{0}"/><content type="html">How are you?</content></entry>'
)


def a_feed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    path = folder / "feed.xml"
    entries: list[str] = []

    def put(subject: str) -> None:
        entries.insert(0, ENTRY.format(subject))
        path.write_text(f'<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>{"".join(entries)}</feed>')

    put("hello")
    monkeypatch.setattr(feed_store.FeedStore, "poll_seconds", 10.0)
    return Backend(feed_store.feed_store, {"url": path.as_uri(), "users": [ANN]}, put)


def commit(folder: Path, subject: str) -> None:
    """One more in the history."""
    (folder / "file").write_text(f"{subject}: How are you?\n")
    identity = {"GIT_AUTHOR_NAME": "Ben", "GIT_AUTHOR_EMAIL": "ben@yy.example", "GIT_CONFIG_GLOBAL": "/dev/null"}
    committer = {key.replace("AUTHOR", "COMMITTER"): value for key, value in identity.items()}
    for words in (["add", "file"], ["commit", "-q", "-m", subject]):
        subprocess.run(["git", *words], cwd=folder, check=True, env={**os.environ, **identity, **committer})


def a_history(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    commit(folder, "hello")
    return Backend(git_store.git_store, {"path": str(folder), "users": [ANN]}, lambda subject: commit(folder, subject))


Made = Callable[[Path, pytest.MonkeyPatch], Backend]
WRITTEN = pytest.mark.parametrize("made", [a_folder, a_table])
READ = pytest.mark.parametrize("made", [a_dict, a_feed, a_history])
ALL = pytest.mark.parametrize("made", [a_dict, a_folder, a_table, a_feed, a_history])


@pytest.mark.parametrize(("plugin", "limit"), LINES.items())
def test_it_is_short(plugin: str, limit: int) -> None:
    assert lines(plugin) <= limit


@ALL
def test_it_is_read_and_watched(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mail").mkdir()
    backend = made(tmp_path / "mail", monkeypatch)
    with Internet(seed=1, folder=tmp_path) as internet:
        host = serve(internet, backend.component, backend.table)
        client = imap(internet, host)
        assert b"How are you?" in client.ask(b"c fetch 1 (uid body.peek[])\r\n", b"c OK")
        assert b"* SEARCH 1" in client.ask(b"d search subject hello\r\n", b"d OK")
        client.ask(b"e idle\r\n", b"+ ")
        backend.put("second")
        client.expect(b"* 2 EXISTS")
        client.ask(b"done\r\n", b"e OK")
        backend.put("third")
        cast(Any, host.hub.store).changed(ANN)
        client.ask(b"f noop\r\n", b"f OK")
        drop = pop3(internet, host)
        assert b"Subject:" in drop.ask(b"RETR 2\r\n", b".")
        assert b"second" in drop.heard


@READ
def test_it_cannot_be_written(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mail").mkdir()
    backend = made(tmp_path / "mail", monkeypatch)
    with Internet(seed=1, folder=tmp_path) as internet:
        host = serve(internet, backend.component, backend.table)
        client = imap(internet, host)
        append(client, "INBOX", HELLO, b"z NO [NOPERM]")
        client.ask(b"c copy 1 INBOX\r\n", b"c NO [NOPERM]")
        client.ask(b"d store 1 +flags (\\Deleted)\r\n", b"d NO [NOPERM]")
        client.ask(b"e expunge\r\n", b"e NO ")
        pop3(internet, host).ask(b"DELE 1\r\n", b"-ERR")


@WRITTEN
def test_it_is_written(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mail").mkdir()
    backend = made(tmp_path / "mail", monkeypatch)
    with Internet(seed=1, folder=tmp_path) as internet:
        host = serve(internet, backend.component, backend.table)
        client = imap(internet, host)
        assert b"Work/Old" in client.ask(b'c list "" *\r\n', b"c OK")
        assert b"APPENDUID" in append(client, "Work/Old", HELLO, b"z OK")
        client.ask(b"d store 1 +flags (\\Seen $Later)\r\n", b"d OK")
        assert b"COPYUID" in client.ask(b"e copy 1 Work\r\n", b"e OK")
        assert b"COPYUID" in client.ask(b"f move 1 Work/Old\r\n", b"f OK")
        host.submit("", [ANN], HELLO.replace(b"hello", b"by mail"))
        internet.run(5)
        assert b"* 1 EXISTS" in client.ask(b"g noop\r\n", b"g OK")
        assert b"by mail" in client.ask(b"h fetch 1 body.peek[header]\r\n", b"h OK")
        drop = pop3(internet, host)
        drop.ask(b"DELE 1\r\n", b"+OK")
        drop.ask(b"QUIT\r\n", b"+OK")
        assert b"* 1 EXPUNGE" in client.ask(b"i noop\r\n", b"i OK")
        host.restart()
        client = imap(internet, host, "Work/Old")
        heard = client.ask(b"c fetch 1:* (uid flags body.peek[])\r\n", b"c OK")
        assert b"\\Flagged)" in heard.partition(b"\r\n")[0]
        assert b"UID 2 FLAGS (" in heard
        assert heard.count(HELLO) == 2
        for flag in (b"\\Seen", b"$Later"):
            assert flag in heard.partition(b"UID 2 FLAGS (")[2].partition(b")")[0]
        client.ask(b"d store 1 +flags (\\Deleted)\r\n", b"d OK")
        assert b"* 1 EXPUNGE" in client.ask(b"e expunge\r\n", b"e OK")
        host.restart()
        assert b"* 1 EXISTS" in imap(internet, host, "Work/Old").heard


@pytest.mark.parametrize("made", [a_feed, a_history])
def test_what_was_read_stays_known_after_a_restart(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mail").mkdir()
    backend = made(tmp_path / "mail", monkeypatch)
    backend.put("second")
    with Internet(seed=1, folder=tmp_path) as internet:
        host = serve(internet, backend.component, backend.table)
        client = imap(internet, host)
        client.ask(b"c store 2 +flags (\\Seen)\r\n", b"c OK")
        (validity,) = [line for line in client.heard.split(b"\r\n") if b"UIDVALIDITY" in line]
        backend.put("third")
        host.restart()
        client = imap(internet, host)
        assert validity in client.heard
        heard = client.ask(b"c fetch 1:* (uid flags)\r\n", b"c OK")
        assert b"UID 2 FLAGS (\\Seen)" in heard
        assert b"UID 3 FLAGS (" in heard


# --- what each does by itself ------------------------------------------------------------


@pytest.mark.parametrize("name", ["..", "../ben@xx.example", "a/../b", "/etc", "", "a\0b", "."])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    hub = cast(Any, PlayedHub(environment()))
    store = eml_folder.EmlFolder(eml_folder.FolderOptions(tmp_path), hub)
    for call in (
        lambda: store.folders(name),
        lambda: store.messages(ANN, name),
        lambda: store.read(ANN, "INBOX", name),
        lambda: store.remove(ANN, "INBOX", name),
        lambda: store.add(ANN, name, HELLO, frozenset(), 0),
    ):
        with pytest.raises(NotPermitted):
            call()


def test_a_file_that_cannot_be_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ANN / "INBOX").mkdir(parents=True)
    store = eml_folder.EmlFolder(eml_folder.FolderOptions(tmp_path), cast(Any, PlayedHub(environment())))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.add(ANN, "INBOX", HELLO, frozenset(), 0)
    assert list((tmp_path / ANN / "INBOX").iterdir()) == []
    key = store.add(ANN, "INBOX", HELLO, frozenset(), 0)
    assert store.messages(ANN, "INBOX") == [key]
    assert store.read(ANN, "INBOX", key) == HELLO


def test_lines_of_unix_programs_end_as_mail_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_folder(tmp_path, monkeypatch)
    (tmp_path / ANN / "INBOX" / "unix.eml").write_bytes(b"Subject: x\n\nx\n")
    store = eml_folder.EmlFolder(eml_folder.FolderOptions(tmp_path), cast(Any, PlayedHub(environment())))
    assert store.read(ANN, "INBOX", "unix.eml") == b"Subject: x\r\n\r\nx\r\n"


@pytest.mark.parametrize("away", ["", ANN, f"{ANN}/INBOX"], ids=["all", "user", "inbox"])
@pytest.mark.parametrize("empty", [True, False])
def test_mail_waits_while_its_disk_is_away(
    away: str, empty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`empty`: the folder is there, as one is where nothing is mounted."""
    disk = tmp_path / "mail"
    disk.mkdir()
    backend = a_folder(disk, monkeypatch)
    (disk / "ben@xx.example" / "INBOX").mkdir(parents=True)
    with Internet(seed=1, folder=tmp_path) as internet:
        host = serve(internet, backend.component, backend.table)
        client = imap(internet, host)
        client.ask(b"c store 1 +flags (\\Seen)\r\n", b"c OK")
        (validity,) = [line for line in client.heard.split(b"\r\n") if b"UIDVALIDITY" in line]
        (disk / away).rename(tmp_path / "away")
        if empty and not away.endswith("INBOX"):
            (disk / away).mkdir()
        internet.run(30)
        if empty or away != ANN:  # a user without a folder is nobody
            sender = internet.call(host, "smtp")
            sender.expect(b"220 ")
            sender.ask(b"EHLO yy.example\r\n", b"250 ")
            sender.ask(b"MAIL FROM:<ben@yy.example>\r\n", b"250 ")
            sender.ask(f"RCPT TO:<{ANN}>\r\n".encode(), b"451 " if not away else b"250 ")
            if away:
                sender.ask(b"DATA\r\n", b"354 ")
                sender.ask(HELLO.replace(b"hello", b"meanwhile") + b".\r\n", b"250 ")
                internet.run(5)
                assert len(host.queued()) == 1
        host.restart()  # as after a failure of the machine
        internet.run(30)
        if empty and not away.endswith("INBOX"):
            (disk / away).rmdir()  # nothing was put there
        assert not (disk / away).exists()
        (tmp_path / "away").rename(disk / away)
        internet.run(3600)
        client = imap(internet, host)
        assert validity in client.heard
        heard = client.ask(b"d fetch 1:* (uid flags body.peek[header])\r\n", b"d OK")
        assert b"UID 1 FLAGS (\\Seen" in heard
        assert heard.count(b"meanwhile") == (1 if away and (empty or away != ANN) else 0)
        assert b"Work/Old" in client.ask(b'e list "" *\r\n', b"e OK")


def test_a_folder_that_cannot_be_listed_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_folder(tmp_path, monkeypatch)
    store = eml_folder.EmlFolder(eml_folder.FolderOptions(tmp_path), cast(Any, PlayedHub(environment())))
    with pytest.raises(FileNotFoundError):
        store.messages(ANN, "Work/Older")
    with pytest.raises(FileNotFoundError):
        store.add(ANN, "Work/Older", HELLO, frozenset(), 0)
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "Work":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(StoreUnavailable, match="Input/output"):
        store.folders(ANN)


def test_of_two_inboxes_the_one_that_is_spelled_so_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_folder(tmp_path, monkeypatch)
    for name in ("inbox", "Inbox", "Zoo"):
        (tmp_path / ANN / name).mkdir()
    store = eml_folder.EmlFolder(eml_folder.FolderOptions(tmp_path), cast(Any, PlayedHub(environment())))
    assert list(store.folders(ANN)) == ["INBOX", "Inbox", "Work", "Work/Old", "Zoo", "inbox"]


def test_a_row_of_another_program_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = a_table(tmp_path, monkeypatch)
    with closing(sqlite3.connect(tmp_path / "mail.db")) as database, database:
        insert = "INSERT INTO mail (user, folder, octets) VALUES (?, 'INBOX', ?)"
        database.execute(insert, (ANN, HELLO.decode()))  # as text, and without flags and date
        with pytest.raises(sqlite3.IntegrityError):
            database.execute(insert, (ANN, None))
    backend.put("third")
    store = backend.make(PlayedHub(environment()))
    messages = store.messages(ANN, "INBOX")
    assert [(message.flags, message.date) for message in messages][1] == (frozenset(), None)
    assert [store.read(ANN, "INBOX", message.key)[:40].count(b"From: ben") for message in messages] == [1, 1, 1]


def test_a_table_without_the_constraint_is_read_as_well(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mail.db")) as database, database:
        database.executescript(sql_store.SCHEMA.replace("NOT NULL", ""))
        database.execute("INSERT INTO mail VALUES (1, ?, 'INBOX', ?, NULL, NULL)", (ANN, HELLO))
    store = sql_store.SqlStore(sql_store.SqlOptions(tmp_path / "mail.db"), cast(Any, PlayedHub(environment())))
    (message,) = store.messages(ANN, "INBOX")
    assert message.flags == frozenset()


def feed(path: Path, text: str) -> feed_store.FeedStore:
    path.write_text(text)
    clock = Clock()
    return feed_store.FeedStore(
        feed_store.FeedOptions(path.as_uri(), (ANN,)), cast(Any, PlayedHub(environment(clock=clock)))
    )


def test_rss_is_read_as_well(tmp_path: Path) -> None:
    store = feed(
        tmp_path / "feed.xml",
        '<rss><channel xmlns:dc="http://purl.org/dc/elements/1.1/"><title>N</title>'
        "<item><title>second\n&#xDC;ber</title><dc:creator>Ben B\u00e4r</dc:creator></item>"
        "<item><title>first</title><pubDate>Tue, 02 Jan 2024 03:04:05 GMT</pubDate><link>https://yy.example/1</link>"
        "<description>&lt;p&gt;How are you?&lt;/p&gt;</description></item></channel></rss>",
    )
    first, second = [store.read(ANN, "INBOX", key) for key in store.messages(ANN, "INBOX")]
    assert b"Date: Tue, 02 Jan 2024 03:04:05 +0000\r\n" in first
    assert b"<p>How are you?</p>" in first
    assert b"https://yy.example/1" in first
    assert b"Subject: second =?utf-8?" in second


def test_a_feed_with_entities_is_not_read(tmp_path: Path) -> None:
    bomb = (
        '<!DOCTYPE rss [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><rss><item><title>&b;</title></item></rss>'
    )
    with pytest.raises(ValueError, match="DOCTYPE"):
        feed(tmp_path / "feed.xml", bomb).messages(ANN, "INBOX")


def test_branches_are_folders_and_patches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = a_history(tmp_path, monkeypatch)
    subprocess.run(["git", "branch", "topic/one"], cwd=tmp_path, check=True)
    backend.put("second")
    options = git_store.GitOptions(tmp_path, (ANN,))
    store = git_store.GitStore(options, cast(Any, PlayedHub(environment())))
    assert store.folders(ANN) == ["INBOX", "main", "topic/one"]
    (message,) = store.messages(ANN, "topic/one")
    octets = store.read(ANN, "INBOX", str(message.key))
    assert octets.startswith(b"Message-ID: <" + str(message.key).encode() + b"@git>\r\nFrom: Ben <ben@yy.example>\r\n")
    assert b"+hello: How are you?\r\n" in octets
    with pytest.raises(MessageGone):
        store.read(ANN, "INBOX", "0" * 40)
    monkeypatch.setattr(git_store, "LARGEST", 200)
    assert len(store.read(ANN, "INBOX", str(message.key))) < 300


SETTINGS = {
    "core.abbrev": "12",
    "core.attributesFile": "../attributes",
    "core.quotePath": "false",
    "diff.algorithm": "patience",
    "diff.context": "1",
    "diff.mnemonicPrefix": "true",
    "diff.noprefix": "true",
    "diff.renames": "false",
    "diff.statGraphWidth": "5",
    "diff.suppressBlankEmpty": "true",
    "diff.words.xfuncname": "^.*$",
    "format.pretty": "oneline",
    "i18n.logOutputEncoding": "latin1",
    "log.date": "iso",
    "log.mailmap": "true",
    "log.showRoot": "false",
    "log.showSignature": "true",
}


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_a_commit_is_the_same_octets_whatever_is_set(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "history"
    git = ["git", "-C", str(place)]
    subprocess.run(["git", "init", "-q", "-b", "main", f"--object-format={form}", place], check=True)
    (place / "\u00fcber.txt").write_text("a\n\nb\n")
    subprocess.run([*git, "add", "."], check=True)
    commit(place, "hello")
    subprocess.run([*git, "mv", "\u00fcber.txt", "unter.txt"], check=True)
    (place / "unter.txt").write_text("a\n\nb\nc\n")
    subprocess.run([*git, "add", "."], check=True)
    commit(place, "gr\u00fc\u00dfe")
    subprocess.run([*git, "checkout", "-q", "-b", "topic", "HEAD~"], check=True)
    (place / "other").write_text("x\n")
    subprocess.run([*git, "add", "."], check=True)
    commit(place, "third")

    def octets() -> dict[tuple[str, str], bytes]:
        store = git_store.GitStore(git_store.GitOptions(place, (ANN,)), cast(Any, PlayedHub(environment())))
        keys = [(name, str(each.key)) for name in ("main", "topic") for each in store.messages(ANN, name)]
        return {(name, key): store.read(ANN, name, key) for name, key in keys}

    before = octets()
    assert len(before) == 4
    assert all(b"\r\ndiff --git a/" in each and b"Ben <ben@yy.example>" in each for each in before.values())
    (place / ".mailmap").write_text("Benjamin <new@yy.example> <ben@yy.example>\n")
    for attributes in (place / ".gitattributes", place / ".git/info/attributes", tmp_path / "attributes"):
        attributes.write_text("* diff=words\n*.txt -diff\n")
    for key, value in SETTINGS.items():
        subprocess.run([*git, "config", key, value], check=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    for key, value in SETTINGS.items():
        subprocess.run(["git", "config", "--global", key, value], check=True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("GIT_DIFF_OPTS", "-u0")
    (_, first), (_, last) = list(before)[:2]
    notes = ["-c", "user.name=Ben", "-c", "user.email=ben@yy.example", "notes", "add", "-m", "a note", first]
    subprocess.run([*git, *notes], check=True)
    subprocess.run([*git, "replace", last, first], check=True)
    after = octets()
    assert ("main", last) in after
    assert after == {key: before[key] for key in after}


def test_a_commit_that_cannot_be_shown_now_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = a_history(tmp_path, monkeypatch)
    store = backend.make(PlayedHub(environment()))
    (message,) = store.messages(ANN, "INBOX")
    tree = subprocess.run(["git", "rev-parse", "HEAD^{tree}"], cwd=tmp_path, check=True, capture_output=True, text=True)
    name = tree.stdout.strip()
    (tmp_path / ".git" / "objects" / name[:2] / name[2:]).unlink()
    with pytest.raises(StoreUnavailable):
        store.read(ANN, "INBOX", message.key)


# --- the exam of every store ------------------------------------------------------------


class ExampleExam(StoreExam):
    """What is asked of every store, of one that makes neither accounts nor folders."""

    makes_accounts = False
    has_folders = False
    has_quota = False
    tells_growth = True


class TestEmlFolder(ExampleExam):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        (tmp_path / "somebody@yy.example").mkdir()  # a place without users is one whose disk is away
        self.folder = tmp_path

    async def open_store(self) -> IMailStore:
        store = eml_folder.EmlFolder(eml_folder.FolderOptions(self.folder), cast(Any, PlayedHub(environment())))
        await store.start()
        return cast(IMailStore, store)

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        for name in ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"):
            (self.folder / user / name).mkdir(parents=True)
        return await store.account(user)


class TestSqlStore(ExampleExam):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "mail.db"
        with closing(sqlite3.connect(self.path)) as database:
            database.executescript(sql_store.SCHEMA)

    async def open_store(self) -> IMailStore:
        store = sql_store.SqlStore(sql_store.SqlOptions(self.path), cast(Any, PlayedHub(environment())))
        await store.start()
        return cast(IMailStore, store)

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        with closing(sqlite3.connect(self.path)) as database, database:
            names = ("INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash")
            database.executemany("INSERT INTO folder VALUES (?, ?)", [(user, name) for name in names])
        return await store.account(user)


class ReadExam(ExampleExam):
    """Of those that are read alone; there is a message."""

    user = ANN
    made: Made

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.backend = type(self).made(tmp_path, monkeypatch)
        for subject in ("second", "third"):
            self.backend.put(subject)

    async def open_store(self) -> IMailStore:
        store = self.backend.make(cast(Any, PlayedHub(environment())))
        await store.start()
        return cast(IMailStore, store)


class TestDictStore(ReadExam):
    read_only = True
    made = staticmethod(a_dict)


class TestFeedStore(ReadExam):
    rights = READ_ONLY | {"s", "w"}
    made = staticmethod(a_feed)


class TestGitStore(ReadExam):
    rights = READ_ONLY | {"s", "w"}
    made = staticmethod(a_history)


class MethodsExam(SimpleStoreExam):
    """What is asked of the methods themselves."""

    user = ANN
    made: Made

    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.backend = type(self).made(tmp_path, monkeypatch)
        self.backend.put("second")

    def make_store(self) -> SimpleStore:
        return cast(SimpleStore, self.backend.make(self.host.hub))


class TestDictMethods(MethodsExam):
    made = staticmethod(a_dict)


class TestFolderMethods(MethodsExam):
    made = staticmethod(a_folder)


class TestTableMethods(MethodsExam):
    made = staticmethod(a_table)


class TestFeedMethods(MethodsExam):
    made = staticmethod(a_feed)


class TestHistoryMethods(MethodsExam):
    made = staticmethod(a_history)
