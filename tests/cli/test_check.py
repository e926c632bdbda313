"""`mailhub check`: what it finds, and that it ends with status 1 when something has to be mended."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import socket
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from mailhub.cli.offline import opened
from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.message.flags import NO_FLAGS
from mailhub.net.certificates import write_self_signed
from mailhub.plugins import load_catalogue
from mailhub.store.exam.rig import DATE, make_body, message
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.blobs import BLOBS
from mailhub.testing.process import free_ports
from tests.cli.conftest import Command, Result


@pytest.fixture
def good(mailhub: Command, tmp_path: Path) -> Config:
    """What `init` makes, on ports that are free."""
    file = tmp_path / "mailhub.toml"
    mailhub("init", "ann@xx.example", "--hostname", "mx.xx.example")
    text = file.read_text()
    for port, free in zip((25, 587, 465, 143, 993, 110, 995), free_ports(7), strict=True):
        text = text.replace(f'"tcp:{port}"', f'"tcp:{free}:interface=127.0.0.1"')
    file.write_text(text)
    return load(file)


def problems(result: Result) -> list[str]:
    return [line.removeprefix("problem  ") for line in result.out.splitlines() if line.startswith("problem")]


def test_all_is_well(mailhub: Command, good: Config) -> None:
    result = mailhub("check")
    assert (result.status, problems(result), result.err) == (0, [], "")
    assert f"ok       configuration {good.file}" in result.out
    assert "is self-signed" in result.out
    assert "1 account, 0 messages, 0 in the queue\n" in result.out
    assert result.out.count("can be opened") == 7
    assert "postmaster" not in result.out


def test_a_missing_postmaster_is_told(mailhub: Command, good: Config) -> None:
    good.file.write_text(good.file.read_text().replace('"postmaster@', '"root@'))
    result = mailhub("check")
    assert result.status == 0
    assert "nobody is named postmaster" in result.out


def test_a_running_server_is_no_problem(mailhub: Command, good: Config) -> None:
    server = DataFolder(good.data)
    server.lock()
    result = mailhub("check")
    server.unlock()
    assert result.status == 0
    assert f"the server is running (process {os.getpid()})" in result.out
    assert "is running" not in mailhub("check").out


def test_a_server_that_has_read_an_older_configuration_is_told(mailhub: Command, good: Config) -> None:
    server = DataFolder(good.data)
    server.lock()
    server.note_reading(good.file.stat().st_mtime - 1)
    result = mailhub("check")
    assert result.status == 0
    newer = f"warning  {good.file} is newer than what the running server has read: `mailhub reload`\n"
    assert newer in result.out
    server.note_reading(good.file.stat().st_mtime + 1)
    assert newer not in mailhub("check").out
    server.unlock()


@pytest.mark.parametrize("lock", ["left", "foreign", "unreadable"])
def test_only_a_server_is_called_running(mailhub: Command, good: Config, lock: str) -> None:
    file = good.data / "mailhub.lock"
    if lock == "left":
        file.write_text("1\n")
    elif lock == "unreadable":
        file.symlink_to(file)
    with contextlib.ExitStack() as held:
        if lock == "foreign":
            # Somebody has the lock, but not the process that the file names.
            holder = held.enter_context(open(file, "w"))
            fcntl.flock(holder, fcntl.LOCK_EX)
            holder.write("1\n")
            holder.flush()
        result = mailhub("check")
    assert "running" not in result.out
    assert ("can be opened" in result.out) is (lock == "left")
    assert result.status == (0 if lock == "left" else 1)


def test_a_copy_is_looked_over_without_configuration(mailhub: Command, good: Config, tmp_path: Path) -> None:
    with opened(good) as hub:
        account = hub.wait(hub.database.store.account("ann@xx.example"))
        body = hub.wait(make_body(account.new_body, message(1, 200_000)))
        hub.wait(hub.wait(account.mailbox("INBOX")).append(body, NO_FLAGS, DATE))
    mailhub("backup", "copy")
    good.file.unlink()
    copy = tmp_path / "copy"
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    result = mailhub("check", "--store-only", "copy")
    assert (result.status, result.err) == (0, "")
    assert result.out == f"ok       store {copy}: 1 account, 1 message, 0 in the queue\n"
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    next(copy.glob("blobs/*/*")).unlink()
    result = mailhub("check", "--store-only", "copy")
    assert (result.status, len(problems(result)), result.err) == (1, 1, "1 to mend\n")
    assert mailhub("check", "--store-only", "nowhere").status == 1
    assert not (tmp_path / "nowhere").exists()


def test_the_store_of_a_configuration_is_looked_over_alone(mailhub: Command, good: Config) -> None:
    assert mailhub("check", "--store-only").out.startswith(f"ok       store {good.data}: 1 account, ")
    assert len(mailhub("check", "--store-only").out.splitlines()) == 1


def test_what_is_secret_is_not_for_everybody(mailhub: Command, good: Config) -> None:
    assert good.tls is not None
    assert good.file.stat().st_mode & 0o777 == 0o640
    good.file.chmod(0o644)
    result = mailhub("check")
    assert (result.status, problems(result)) == (0, [])
    assert f"warning  configuration {good.file} can be read by everybody" in result.out
    good.file.write_text(
        f'{good.file.read_text()}\n[route."*"]\nhost = "mx.yy.example"\ntls = "required"\nuser = "u"\npassword = "p"\n'
    )
    good.tls.key.chmod(0o644)
    assert [line.split(":")[0] for line in problems(mailhub("check"))] == [
        f"configuration {good.file} can be read by everybody, with the password in it",
        f"secret file {good.tls.key} can be read by everybody",
    ]


def test_mail_is_not_for_everybody(mailhub: Command, good: Config) -> None:
    database = good.data / schema.FILE
    assert (database.stat().st_mode & 0o777, (good.data / BLOBS).stat().st_mode & 0o777) == (0o600, 0o700)
    database.chmod(0o644)
    assert problems(mailhub("check")) == []  # nobody else gets into the folder
    good.data.chmod(0o755)
    (told,) = problems(mailhub("check"))
    assert told == f"database {database}, with all mail, can be read by everybody: chmod o= {good.data}"


def test_a_low_port_is_not_tried_by_who_may_not(
    mailhub: Command, good: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailhub.cli.check.obstacle", lambda endpoint: os.strerror(errno.EACCES))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = mailhub("check")
    assert (result.status, problems(result)) == (0, [])
    assert result.out.count("not tried, ports below 1024 are for root, or for a unit with that right") == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_that_the_servers_user_cannot_read_is_told(mailhub: Command, tmp_path: Path) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory(prefix="mailhub-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own folders are closed to other users
        file = folder / "m.toml"
        mailhub("--config", str(file), "init", "ann@xx.example", "--hostname", "mx.xx.example")
        for path in (folder / "data", *(folder / "data").rglob("*")):
            os.chown(path, nobody, nobody)
        key = folder / "key.pem"
        told = [line for line in problems(mailhub("check", "--config", str(file))) if "cannot be read by" in line]
        assert [line.split(" cannot")[0] for line in told] == [f"configuration {file}", f"key {key}"]
        for path in (file, key):
            os.chown(path, 0, nobody)
            path.chmod(0o640)
        assert "cannot be read by" not in mailhub("check", "--config", str(file)).out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_database_that_root_has_brought_back_is_told_with_the_remedy(mailhub: Command) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory(prefix="mailhub-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own folders are closed to other users
        file, data = folder / "m.toml", folder / "data"
        mailhub("--config", str(file), "init", "ann@xx.example", "--hostname", "mx.xx.example")
        for path in (data, data / BLOBS):
            os.chown(path, nobody, nobody)
        user = pwd.getpwuid(nobody).pw_name
        remedy = f"{data / schema.FILE}: cannot be written by {user}, for it belongs to root: chown -R {user} {data}"
        assert remedy in problems(mailhub("check", "--config", str(file)))
        for words in (("account", "list"), ("account", "add", "ben@xx.example"), ("queue", "list")):
            assert mailhub("--config", str(file), *words).err == f"mailhub: {remedy}\n"


@pytest.mark.parametrize(("checkers", "word", "status"), [("accounts", "problem", 1), ("accounts, file", "warning", 0)])
def test_aliases_to_nobody_and_loops_are_told(
    mailhub: Command, good: Config, tmp_path: Path, checkers: str, word: str, status: int
) -> None:
    (tmp_path / "passwords").touch()
    text = good.file.read_text().replace("[aliases]", '[aliases]\n"sales@xx.example" = ["nobody@xx.example"]')
    if "file" in checkers:
        text += '\n[auth]\ncheckers = ["accounts", "file:passwords"]\n'
    good.file.write_text(text)
    mailhub("alias", "add", "a@xx.example", "b@xx.example")
    mailhub("alias", "add", "b@xx.example", "a@xx.example")
    result = mailhub("check")
    assert result.status == status
    assert [line for line in result.out.splitlines() if line.startswith(word)] == [
        f"{word:8} alias sales@xx.example leads to nobody: there is no account or alias nobody@xx.example",
        f"{word:8} aliases go round in a loop: a@xx.example -> b@xx.example -> a@xx.example",
    ]


def test_users_whom_another_store_may_have_are_no_problem(mailhub: Command, good: Config) -> None:
    text = good.file.read_text().replace("[aliases]", '[aliases]\n"sales@xx.example" = ["guest@xx.example"]')
    good.file.write_text(text + '\n[store]\ntype = "guests"\n')
    assert "warning  alias sales@xx.example leads to nobody" in mailhub("check").out


def test_mailboxes_that_a_mounted_store_hides_are_told(mailhub: Command, good: Config) -> None:
    with good.file.open("a") as file:
        file.write('[stores.feeds]\ntype = "feeds"\n[mailboxes.folders]\n"Sent" = "feeds"\n"Feeds" = "feeds"\n')
    told = [line for line in mailhub("check").out.splitlines() if "hides" in line]
    assert len(told) == 1
    assert told[0].startswith("warning  [mailboxes.folders] \"Sent\" hides the mailbox 'Sent' that ")


def test_a_part_that_cannot_go_on_keeps_no_other_from_it(mailhub: Command, good: Config) -> None:
    """A table that cannot be read, and a data folder that is not there: each is told once, and the ports are tried."""
    with sqlite3.connect(good.data / "mailhub.sqlite") as database:
        database.execute("ALTER TABLE account RENAME TO other")
    database.close()
    result = mailhub("check")
    assert result.status == 1
    assert "no such table: account" in result.out
    assert result.out.count("can be opened") == 7
    good.data.rename(good.data.with_name("unmounted"))
    result = mailhub("check")
    assert len(problems(result)) == 1
    assert result.out.count("can be opened") == 7


def test_ports_in_use(mailhub: Command, good: Config) -> None:
    port = int(good.listen["imaps"][0].split(":")[1])
    with socket.create_server(("127.0.0.1", port)):
        assert problems(mailhub("check")) == [f"imaps {good.listen['imaps'][0]}: Address already in use"]


@pytest.mark.parametrize(
    ("hostname", "days", "ago", "line"),
    [
        ("mx.xx.example", 30, 40, "expired on"),
        ("mx.xx.example", 10, 0.001, "it expires in 9 days, renew it"),
        ("mx.xx.example", 2, 0.001, "it expires in 1 day, renew it"),
        ("mx.xx.example", 10, -5, "is not valid before"),
        ("other.example", 30, 0, "is for other.example, not for hostname mx.xx.example"),
    ],
)
def test_certificates_that_clients_will_refuse(
    mailhub: Command, good: Config, hostname: str, days: int, ago: float, line: str
) -> None:
    assert good.tls is not None
    write_self_signed(good.tls.certificate, good.tls.key, [hostname], days, time.time() - ago * 86400)
    result = mailhub("check")
    assert result.status == 1
    assert [found for found in problems(result) if line in found]


def test_a_wildcard_certificate_covers_one_label(mailhub: Command, good: Config) -> None:
    assert good.tls is not None
    write_self_signed(good.tls.certificate, good.tls.key, ["*.xx.example"], 30, time.time())
    assert problems(mailhub("check")) == []


def test_every_mistake_is_found_in_one_run(mailhub: Command, good: Config) -> None:
    good.file.write_text(good.file.read_text() + '\n[auth]\ncheckers = ["acounts"]\n')
    (good.file.parent / "certificate.pem").unlink()
    found = problems(mailhub("check"))
    assert len(found) == 2
    assert "[auth] checkers: there is no checker plugin called 'acounts'; did you mean accounts?" in found[0]
    assert "certificate.pem" in found[1]


def test_what_is_not_configured_is_not_looked_for(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "a@xx.example")
    config.file.write_text(config.file.read_text() + '[listen]\nlmtp = ["unix:lmtp"]\n')
    result = mailhub("check")
    assert (result.status, problems(result)) == (0, [])
    assert "no TLS configured" in result.out
    assert f"lmtp unix:{config.file.parent}/lmtp: not tried" in result.out


def test_a_plugin_that_cannot_be_loaded_is_named(
    mailhub: Command, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailhub("account", "add", "a@xx.example")
    catalogue = attrs.evolve(load_catalogue(), broken=("/x/twisted/plugins/p.py: SyntaxError: invalid syntax",))
    monkeypatch.setattr("mailhub.cli.check.load_catalogue", lambda _: catalogue)
    assert problems(mailhub("check")) == ["plugin not loaded: /x/twisted/plugins/p.py: SyntaxError: invalid syntax"]


def test_damage_in_the_store_is_found(mailhub: Command, good: Config) -> None:
    with sqlite3.connect(good.data / "mailhub.sqlite") as database:
        database.execute("UPDATE mailbox SET messages = 5")
    database.close()
    result = mailhub("check")
    assert result.status == 1
    assert [line for line in problems(result) if line.startswith("store: ")]


def another_programs(path: Path) -> str:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE x (y)")
    database.close()
    return "is an SQLite database, but not one of mailhub's"


def no_database(path: Path) -> str:
    path.write_bytes(b"no database\n" * 1000)
    return "cannot be opened: file is not a database: restore a backup, or save what can be read with"


def without_tables(path: Path) -> str:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
    database.close()
    return "has no tables: mount its volume or restore it from a backup"


def a_folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return "is not a file"


@pytest.mark.parametrize("spoil", [another_programs, no_database, without_tables, a_folder])
def test_a_database_that_is_none_is_told_once(mailhub: Command, good: Config, spoil: Any) -> None:
    said = spoil(good.data / "mailhub.sqlite")
    (line,) = problems(mailhub("check"))
    assert said in line
    (line,) = problems(mailhub("check", "--store-only"))
    assert said in line
    assert said in mailhub("account", "list").err


def test_a_database_that_was_cut_is_looked_over_and_told_in_a_line_by_all_others(
    mailhub: Command, good: Config, tmp_path: Path
) -> None:
    for number in range(40):
        add_message(good, b"Subject: %d\r\n\r\n" % number + b"x" * 6000)
    path = good.data / "mailhub.sqlite"
    os.truncate(path, path.stat().st_size * 3 // 4 // 4096 * 4096)
    assert any("in INBOX, UID 40" in line for line in problems(mailhub("check")))
    for words in (("account", "list"), ("backup", str(tmp_path / "copy"))):
        result = mailhub(*words)
        assert result.status == 1
        assert result.err.count("\n") == 1
        assert "mailhub.sqlite: cannot be " in result.err
    assert mailhub("check", "--repair").status == 0


@pytest.mark.parametrize("words", [("check",), ("account", "list"), ("queue", "list"), ("queue", "retry", "--all")])
def test_no_command_makes_a_database_where_one_is_gone(mailhub: Command, good: Config, words: tuple[str, ...]) -> None:
    (good.data / "mailhub.sqlite").unlink()
    before = sorted(good.data.rglob("*"))
    result = mailhub(*words)
    assert result.status == 1
    assert "mailhub.sqlite: is not there, but blobs beside it: mount its volume" in result.out + result.err
    assert sorted(set(good.data.rglob("*")) - {good.data / "mailhub.lock"}) == before
    assert "not there" in mailhub("account", "add", "new@xx.example").err
    assert "not there" in mailhub("--config", "new.toml", "init", "new@xx.example").err
    assert not (good.data / "mailhub.sqlite").exists()


def test_an_account_in_a_new_folder_makes_the_database(mailhub: Command, config: Config) -> None:
    assert "is not there" in mailhub("account", "list").err
    assert not config.data.exists()
    assert mailhub("account", "add", "a@xx.example").status == 0
    assert mailhub("account", "list").out.startswith("a@xx.example ")


def add_message(config: Config, octets: bytes) -> None:
    with opened(config) as hub:

        async def append() -> None:
            account = await hub.database.store.account("ann@xx.example")
            writer = account.new_body()
            await writer.write(octets)
            await (await account.mailbox("INBOX")).append(await writer.finish(), frozenset(), 0)

        hub.wait(append())


def test_damage_is_named_and_repaired(mailhub: Command, good: Config) -> None:
    add_message(good, b"Subject: small\r\n\r\n")
    add_message(good, b"Subject: large\r\n\r\n" + b"x" * 140_000)
    (body,) = (good.data / "blobs").glob("*/*")
    octets = body.read_bytes()
    body.write_bytes(octets[:-1] + b"y")
    assert mailhub("check").status == 0
    found = problems(mailhub("check", "--deep"))
    assert found == ['store: message of ann@xx.example in INBOX, UID 2, "large": its octets are not those that arrived']
    assert problems(mailhub("check", "--store-only", str(good.data), "--deep")) == found
    server = DataFolder(good.data)
    server.lock()
    refused = mailhub("check", "--deep", "--repair")
    assert refused.status == 1
    assert any("another mailhub" in line for line in problems(refused))
    server.unlock()
    done = mailhub("check", "--deep", "--repair")
    assert (done.status, problems(done)) == (0, [])
    assert "store: set aside: message of ann@xx.example in INBOX, UID 2: " in done.out
    assert ", 1 message, 0 in the queue" in done.out
    assert mailhub("check", "--deep").status == 0
    assert len(list((good.data / "lost+found").glob("*.eml"))) == 1


def test_a_database_that_is_broken_keeps_the_rest_of_check_going(mailhub: Command, good: Config) -> None:
    (good.data / "mailhub.sqlite").write_bytes(b"garbage" * 1000)
    result = mailhub("check")
    assert result.status == 1
    assert "mailhub.sqlite" in "".join(problems(result))
    assert "can be opened" in result.out
    assert mailhub("check", "--repair").status == 1


def test_several_stores_are_named_and_their_users_are_not_all_known(mailhub: Command, good: Config) -> None:
    text = good.file.read_text().replace("[aliases]", '[aliases]\n"sales@xx.example" = ["nobody@xx.example"]')
    text += '\n[stores.boxes]\ntype = "maildir"\n[mailboxes.folders]\n"Shared" = "boxes"\n'
    good.file.write_text(text)
    result = mailhub("check")
    assert result.status == 0
    assert "store database; stores boxes (maildir); checkers accounts" in result.out
    assert "warning  alias sales@xx.example leads to nobody" in result.out


WAYS = """
[relay]
source_address = ["192.0.2.77"]
[forwarding]
srs = true
[transport.program]
agent = "pipe"
command = ["/nonexistent/program"]
recipients = ["q.example"]
[transport.plain]
agent = "pipe"
command = ["/etc/passwd"]
recipients = ["r.example"]
[transport.there]
agent = "pipe"
command = ["sh"]
recipients = ["t.example"]
[transport.kept]
agent = "store"
recipients = ["s.example", "xx.example"]
[send_as]
"none@xx.example" = ["*"]
"""
WAYS_SAID = [
    '[delivery] routers: lacks "srs": [forwarding] srs does nothing without it',
    "[transport.program] command: /nonexistent/program: there is no such program",
    "[transport.plain] command: /etc/passwd: cannot be run",
    "[relay] source_address: 192.0.2.77: is no address of this machine",
    '[transport.kept] agent: agent "store" has mail for our own domains alone, and not for s.example',
    '[delivery] routers: lacks "lists": mail for the list team@xx.example of the database goes to nobody',
    '[send_as] "none@xx.example": there is no such account, alias or list',
]


def test_ways_that_lead_nowhere_are_told(mailhub: Command, good: Config) -> None:
    assert mailhub("list", "add", "team@xx.example", "--owner", "ann@xx.example").status == 0
    routers = '[delivery]\nrouters = ["transports", "aliases", "accounts", "catch-all", "static", "exchangers"]\n'
    good.file.write_text(good.file.read_text() + routers + WAYS)
    result = mailhub("check")
    for line in WAYS_SAID:
        assert f"  {good.file}: {line}" in result.out
    assert "[transport.there]" not in result.out
    assert [line.partition(": ")[2] for line in problems(result) if "send_as" in line] == WAYS_SAID[-1:]


def test_queues_that_may_be_asked_for_and_are_none_are_told(mailhub: Command, good: Config) -> None:
    etrn = '[smtp]\netrn = ["#uucp", "#uucq", "#lmtp", "yy.example"]\n[transport.uucp]\nrecipients = ["q.example"]\n'
    good.file.write_text(good.file.read_text() + etrn)
    told = [line for line in mailhub("check").out.splitlines() if " etrn: " in line]
    what = "there is no [transport.uucq]; did you mean uucp? known: uucp"
    assert told == [f'warning  {good.file}: [smtp] etrn: "#uucq": {what}']


def test_passwords_of_transports_are_not_for_everybody(mailhub: Command, good: Config) -> None:
    login = '[transport.{}]\nhost = "smart.example"\nuser = "me"\n'
    password = good.file.with_name("password")
    password.write_text("secret")
    password.chmod(0o644)
    text = good.file.read_text() + login.format("x") + 'password_file = "password"\n'
    good.file.write_text(text)
    assert problems(mailhub("check")) == [f"secret file {password} can be read by everybody: chmod o= {password}"]
    password.chmod(0o600)
    good.file.write_text(text + login.format("y") + 'password = "secret"\n')
    good.file.chmod(0o644)
    (told,) = problems(mailhub("check"))
    assert told.startswith(f"configuration {good.file} can be read by everybody, with the password in it")


UNNAMED = """
[policy.grey]
type = "greylist"
[router.old]
type = "static"
[checker.mine]
type = "accounts"
[service.other]
type = "smtp"
"""
UNNAMED_SAID = [
    "[policy.grey]: is not in [delivery] policies: it does nothing",
    "[router.old]: is not in [delivery] routers: it does nothing",
    "[checker.mine]: is not in [auth] checkers: it does nothing",
    "[service.other]: is not in [listen]: it does nothing",
]


def test_tables_of_components_that_nothing_names_are_told(mailhub: Command, good: Config) -> None:
    text = good.file.read_text()
    good.file.write_text(text + UNNAMED)
    result = mailhub("check")
    assert (result.status, [line for line in UNNAMED_SAID if f"warning  {good.file}: {line}\n" not in result.out]) == (
        0,
        [],
    )


def test_the_type_of_a_table_that_nothing_names_must_exist(mailhub: Command, good: Config) -> None:
    good.file.write_text(good.file.read_text() + '[policy.x]\ntype = "greylisting"\n')
    (told,) = problems(mailhub("check"))
    known = "there is no policy plugin called 'greylisting'; did you mean"
    assert told.startswith(f"{good.file}: [policy.x]: {known}")


def test_a_warning_that_would_come_too_late_is_told(mailhub: Command, good: Config) -> None:
    text = good.file.read_text()
    good.file.write_text(text + "[queue]\nexpire_hours = 4\n[queue.destination.'a.example']\nexpire_hours = 2\n")
    result = mailhub("check")
    late = "nobody is told that mail is late"
    assert result.status == 0
    assert f"  {good.file}: [queue] delay_warning_hours: 4 is not less than expire_hours = 4: {late}\n" in result.out
    there = '[queue.destination."a.example"] delay_warning_hours: 4 is not less than expire_hours = 2'
    assert f"  {good.file}: {there}: {late}\n" in result.out
    good.file.write_text(text + "[queue]\nexpire_hours = 4\ndelay_warning_hours = 0\n")
    assert late not in mailhub("check").out
