"""`mailhub restore DIR --account A --mailbox M`: what is missing comes back, and nothing twice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mailhub.auth.passwords import verify_password
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config, load
from mailhub.interfaces import IMailbox
from mailhub.message.flags import Flags
from mailhub.store.exam.rig import DATE, make_body, message
from tests.cli.conftest import Command

USER = "ann@xx.example"
FLAGS: Flags = frozenset({"\\Seen", "todo"})
Mail = dict[str, list[tuple[bytes, Flags, int]]]


def box(hub: Offline, name: str) -> IMailbox:
    mailbox: IMailbox = hub.wait(hub.wait(hub.database.store.account(USER)).mailbox(name))
    return mailbox


def deliver(hub: Offline, name: str, *numbers: int, size: int = 0) -> None:
    account = hub.wait(hub.database.store.account(USER))
    for number in numbers:
        body = hub.wait(make_body(account.new_body, message(number, size)))
        hub.wait(box(hub, name).append(body, FLAGS, DATE + number))


def mail(config: Config) -> Mail:
    found: Mail = {}
    with opened(config, "read") as hub:
        for info in hub.wait(hub.wait(hub.database.store.account(USER)).mailboxes()):
            mailbox = box(hub, info.name)
            found[info.name] = sorted(
                (hub.wait(hub.wait(mailbox.open(entry.uid)).read()), entry.flags, entry.internal_date)
                for entry in hub.wait(mailbox.entries())
            )
    return {name: messages for name, messages in found.items() if messages}


@pytest.fixture
def saved(mailhub: Command, config: Config) -> Mail:
    """Mail in three mailboxes, small and large, some of it twice; backed up to `copy`."""
    mailhub("account", "add", USER, "--password-stdin", stdin="geheim\n")
    with opened(config) as hub:
        account = hub.wait(hub.database.store.account(USER))
        hub.wait(account.create("work/plans"))
        hub.wait(account.subscribe("work/plans", True))
        deliver(hub, "INBOX", 1, 2, 2, 3)
        deliver(hub, "INBOX", 4, 5, size=200_000)
        deliver(hub, "work/plans", 6)
        deliver(hub, "Sent", 7)
    assert mailhub("backup", "copy").status == 0
    return mail(config)


def test_what_was_removed_comes_back_once_with_flags_and_dates(mailhub: Command, config: Config, saved: Mail) -> None:
    with opened(config) as hub:
        hub.wait(box(hub, "INBOX").expunge([2, 4, 6], deleted_only=False))
        deliver(hub, "INBOX", 8)
        hub.wait(hub.wait(hub.database.store.account(USER)).delete("work/plans"))
    result = mailhub("restore", "copy", "--account", "Ann@xx.example")
    assert (result.status, result.err) == (0, "")
    assert result.out == f"restored 4 messages to 7 mailboxes of {USER}; what was there has not been changed\n"
    now = mail(config)
    (new,) = [found for found in now["INBOX"] if b"number 8" in found[0]]
    now["INBOX"].remove(new)
    assert now == saved
    with opened(config, "read") as hub:
        assert "work/plans" in hub.wait(hub.wait(hub.database.store.account(USER)).subscriptions())
    again = mailhub("restore", "copy", "--account", USER)
    assert again.out.startswith("restored 0 messages ")


def test_one_mailbox_alone(mailhub: Command, config: Config, saved: Mail) -> None:
    with opened(config) as hub:
        for name in ("INBOX", "Sent"):
            hub.wait(box(hub, name).expunge(None, deleted_only=False))
    assert mailhub("restore", "copy", "--account", USER, "--mailbox", "inbox").out.startswith(
        "restored 6 messages to 1 "
    )
    assert mail(config) == {name: messages for name, messages in saved.items() if name != "Sent"}


def test_an_account_that_was_removed_comes_back_with_its_password(
    mailhub: Command, config: Config, saved: Mail
) -> None:
    mailhub("account", "remove", USER, "--yes")
    result = mailhub("restore", "copy", "--account", USER)
    assert (result.status, result.out.splitlines()[0]) == (0, f"account {USER} added, with the password that it had")
    assert mail(config) == saved
    with opened(config) as hub:
        found = hub.wait(hub.accounts.find(USER))
    assert found is not None
    assert verify_password(found.password_hash, "geheim")


def test_messages_alike_are_told_apart_by_their_octets(mailhub: Command, config: Config, saved: Mail) -> None:
    """Same size and same date as number 3, another text: it does not stand for the one that is missing."""
    with opened(config) as hub:
        inbox = box(hub, "INBOX")
        hub.wait(inbox.expunge([4], deleted_only=False))
        account = hub.wait(hub.database.store.account(USER))
        body = hub.wait(make_body(account.new_body, message(3).replace(b"Hello", b"Hallo")))
        hub.wait(inbox.append(body, FLAGS, DATE + 3))
    assert mailhub("restore", "copy", "--account", USER).out.startswith("restored 1 message ")
    assert len(mail(config)["INBOX"]) == 7


def test_a_quota_that_is_reached_is_told(mailhub: Command, config: Config, saved: Mail) -> None:
    with opened(config) as hub:
        hub.wait(box(hub, "INBOX").expunge(None, deleted_only=False))
    mailhub("account", "quota", USER, "100K")
    result = mailhub("restore", "copy", "--account", USER)
    assert (result.status, result.err.count("\n")) == (1, 1)
    assert "has reached its quota, 2 messages not restored: give it more with `mailhub account quota" in result.err
    mailhub("account", "quota", USER, "0")
    assert mailhub("restore", "copy", "--account", USER).out.startswith("restored 2 messages ")
    assert mail(config) == saved


@pytest.mark.parametrize("octets", [b"cut", b"x" * 200_022])
def test_a_body_that_the_backup_has_lost_keeps_no_other_from_coming_back(
    mailhub: Command, config: Config, saved: Mail, tmp_path: Path, octets: bytes
) -> None:
    with opened(config) as hub:
        hub.wait(box(hub, "INBOX").expunge(None, deleted_only=False))
    first, second = sorted((tmp_path / "copy" / "blobs").glob("*/*"))
    first.unlink()
    second.write_bytes(octets)
    result = mailhub("restore", "copy", "--account", USER)
    assert (result.status, result.err.count("is damaged in the backup")) == (1, 2)
    assert result.out.startswith("restored 4 messages ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--mailbox", "INBOX"), "--mailbox needs --account, whose mailbox it is"),
        (("--account", "ben@xx.example"), "has no account ben@xx.example"),
        (("--account", USER, "--mailbox", "plans"), f"{USER} has no mailbox 'plans'"),
        (("--account", "ann"), "'ann' is not a mail address"),
    ],
)
def test_mistakes_say_what_to_do(
    mailhub: Command, config: Config, saved: Mail, words: tuple[str, ...], line: str
) -> None:
    result = mailhub("restore", "copy", *words)
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert line in result.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work for another user")
def test_root_reads_the_backup_and_writes_as_the_owner_of_the_data(mailhub: Command) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory(prefix="mailhub-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own folders are closed to other users
        file = folder / "m.toml"
        file.write_text('hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example"]\n')
        (folder / "data").mkdir(mode=0o700)
        os.chown(folder / "data", nobody, nobody)
        mailhub("account", "add", USER, "--config", str(file))
        config = load(file)
        with opened(config) as hub:
            deliver(hub, "INBOX", 1)
            deliver(hub, "INBOX", 2, size=200_000)
        assert mailhub("backup", str(folder / "copy"), "--config", str(file)).status == 0
        before = mail(config)
        with opened(config) as hub:
            hub.wait(box(hub, "INBOX").expunge(None, deleted_only=False))
        result = mailhub("restore", str(folder / "copy"), "--account", USER, "--config", str(file))
        assert (result.status, result.err) == (0, "")
        assert mail(config) == before
        result = mailhub("restore", str(folder / "copy"), "--yes", "--config", str(file))
        assert (result.status, result.err) == (0, "")
        assert mail(config) == before
        owners = {path: path.stat().st_uid for path in (folder / "data").rglob("*")}
        assert {path.name for path, owner in owners.items() if owner != nobody} == set()
        assert {path.stat().st_uid for path in (folder / "copy").rglob("*")} == {0}
