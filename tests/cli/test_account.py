"""`mailhub account`, checked through the login that its passwords are for."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
from argon2 import extract_parameters

from mailhub.auth.passwords import STRONG, verify_password
from mailhub.cli import passwords
from mailhub.cli.account import _line
from mailhub.cli.offline import opened
from mailhub.config.settings import Config
from mailhub.errors import NoSuchUser
from tests.cli.conftest import Command


def stored_hash(config: Config, user: str) -> str:
    with opened(config, "create") as hub:
        account = hub.wait(hub.accounts.find(user))
    assert account is not None
    return account.password_hash


def test_add_makes_an_account_that_the_shown_password_opens(mailhub: Command, config: Config) -> None:
    result = mailhub("account", "add", "Ann@XX.example")
    assert result.status == 0
    shown = re.search(r"password: (\S{23}) ", result.out)
    assert shown
    assert verify_password(stored_hash(config, "ann@xx.example"), shown[1])
    with opened(config, "create") as hub:
        folders = hub.wait(hub.wait(hub.database.store.account("ann@xx.example")).mailboxes())
    assert {folder.special_use for folder in folders} == {"", "\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"}


def test_a_stored_hash_is_as_strong_as_it_is_to_be() -> None:
    assert extract_parameters(passwords.hashed("ann@xx.example", "geheim")) == extract_parameters(STRONG.hash("x"))


def test_a_given_password_is_not_shown(mailhub: Command, config: Config) -> None:
    result = mailhub("account", "add", "ann@xx.example", "--password-stdin", stdin="geheim ä §\r\nmore\n")
    assert (result.status, result.out) == (0, "account ann@xx.example added\n")
    assert verify_password(stored_hash(config, "ann@xx.example"), "geheim ä §")


@pytest.mark.parametrize("password", ["", "\n", "a\0b\n", "x" * 2000 + "\n"])
def test_a_password_that_no_login_can_send_is_refused(mailhub: Command, config: Config, password: str) -> None:
    result = mailhub("account", "add", "ann@xx.example", "--password-stdin", stdin=password)
    assert result.status == 1
    assert result.err.startswith("mailhub: this password cannot be used: ")
    assert mailhub("account", "list").out == ""


def test_list_shows_what_accounts_hold(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ben@xx.example", "--quota-bytes", "1000")
    mailhub("account", "add", "ann@xx.example")
    lines = mailhub("account", "list").out.splitlines()
    assert [line.split() for line in lines] == [
        ["ann@xx.example", "0", "messages", "0", "octets"],
        ["ben@xx.example", "0", "messages", "0", "octets", "of", "1000"],
    ]


def test_what_an_account_holds_in_another_store_is_not_called_nothing(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example", "--quota-bytes", "1000")
    with config.file.open("a") as file:
        file.write('[stores.notes]\ntype = "notes"\n[mailboxes.domains]\n"xx.example" = "notes"\n')
    (line,) = mailhub("account", "list").out.splitlines()
    assert line.split() == ["ann@xx.example", "mail", "in", "[stores.notes]"]
    for arguments in ((), ("7",)):
        said = mailhub("account", "quota", "ann@xx.example", *arguments).out
        assert said == "the mail of account ann@xx.example is in [stores.notes], which looks after its quota itself\n"


def test_password_replaces_the_old_one(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example", "--password-stdin", stdin="old\n")
    assert mailhub("account", "password", "ann@xx.example", "--password-stdin", stdin="new\n").status == 0
    stored = stored_hash(config, "ann@xx.example")
    assert verify_password(stored, "new")
    assert not verify_password(stored, "old")


def test_remove(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    assert mailhub("account", "remove", "ann@xx.example", "--yes").out == "account ann@xx.example removed\n"
    assert mailhub("account", "list").out == ""


@pytest.mark.parametrize(
    ("typed", "status", "left"),
    [("yes\n", 0, 0), ("Yes \n", 0, 0), ("y\n", 1, 1), ("\n", 1, 1), ("no\n", 1, 1), ("", 1, 1)],
)
def test_at_a_terminal_an_account_is_removed_by_a_whole_yes(
    mailhub: Command, config: Config, typed: str, status: int, left: int
) -> None:
    mailhub("account", "add", "ann@xx.example")
    result = mailhub("account", "remove", "ann@xx.example", stdin=typed, terminal=True)
    assert result.status == status
    assert "Remove ann@xx.example and all its mail for good?" in result.out
    assert ("nothing was changed" in result.out) is bool(left)
    assert len(mailhub("account", "list").out.splitlines()) == left


def test_a_script_that_has_not_said_yes_removes_nothing(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    result = mailhub("account", "remove", "ann@xx.example", stdin="yes\n")
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert "add --yes. Nothing was changed" in result.err
    assert mailhub("account", "list").out.startswith("ann@xx.example ")


def test_a_disabled_account_keeps_its_password_and_its_mail(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example", "--password-stdin", stdin="geheim\n")
    assert mailhub("account", "disable", "Ann@xx.example").out == (
        "account ann@xx.example disabled: nobody can log in; mail for it is still taken\n"
    )
    assert mailhub("account", "list").out.split()[-1] == "disabled"
    with opened(config) as hub:
        assert hub.wait(hub.database.store.exists("ann@xx.example"))
        found = hub.wait(hub.accounts.find("ann@xx.example"))
    assert found is not None
    assert not found.enabled
    assert mailhub("account", "enable", "ann@xx.example").out == "account ann@xx.example enabled\n"
    assert mailhub("account", "list").out.split()[-1] == "octets"
    assert verify_password(stored_hash(config, "ann@xx.example"), "geheim")


@pytest.mark.parametrize(("text", "octets"), [("1000", 1000), ("5K", 5120), ("2m", 2 << 20), ("3G", 3 << 30), ("0", 0)])
def test_a_quota_is_shown_and_changed(mailhub: Command, config: Config, text: str, octets: int) -> None:
    mailhub("account", "add", "ann@xx.example", "--quota-bytes", "7")
    assert mailhub("account", "quota", "ann@xx.example").out == "account ann@xx.example holds 0 of 7 octets\n"
    expected = f"0 of {octets} octets" if octets else "0 octets, no quota"
    assert mailhub("account", "quota", "ann@xx.example", text).out == f"account ann@xx.example holds {expected}\n"
    with opened(config) as hub:
        found = hub.wait(hub.accounts.find("ann@xx.example"))
    assert found is not None
    assert found.quota == octets


def test_limits_are_shown_and_changed_one_by_one(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    assert mailhub("account", "limit", "joe@xx.example").out.splitlines() == [
        "account joe@xx.example may send any number a day (the limits of the configuration)",
        "sent in the last 24 hours: 0 messages, 0 recipients, 0 new recipients",
    ]
    changed = mailhub("account", "limit", "joe@xx.example", "--messages", "100", "--new", "7")
    assert changed.out.startswith("account joe@xx.example may send 100 messages, 7 new recipients a day (own limits)\n")
    changed = mailhub("account", "limit", "joe@xx.example", "--recipients", "50", "--messages", "0")
    assert changed.out.startswith(
        "account joe@xx.example may send 50 recipients, 7 new recipients a day (own limits)\n"
    )
    assert "may send 50 recipients, 7 new recipients a day" in mailhub("account", "list").out
    shown = mailhub("account", "show", "joe@xx.example").out.splitlines()
    assert shown[0].startswith("joe@xx.example ")
    assert shown[1] == "account joe@xx.example may send 50 recipients, 7 new recipients a day (own limits)"
    back = mailhub("account", "limit", "joe@xx.example", "--default").out
    assert "(the limits of the configuration)" in back


def test_limits_go_with_their_account(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    mailhub("account", "limit", "joe@xx.example", "--messages", "1")
    mailhub("account", "remove", "joe@xx.example", "--yes")
    mailhub("account", "add", "joe@xx.example")
    assert "any number" in mailhub("account", "limit", "joe@xx.example").out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("limit", "nobody@xx.example", "--messages", "1"), "there is no account nobody@xx.example"),
        (("show", "nobody@xx.example"), "there is no account nobody@xx.example"),
        (("limit", "nobody@xx.example", "--messages", "1", "--default"), "give numbers or --default, not both"),
    ],
)
def test_mistakes_about_limits_are_told(mailhub: Command, config: Config, words: tuple[str, ...], line: str) -> None:
    mailhub("account", "add", "joe@xx.example")
    mailhub("account", "add", "joe@xx.example")
    result = mailhub("account", *words)
    assert result.status == 1
    assert line in result.err


def test_who_has_said_yes_is_not_asked(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "ann@xx.example")
    result = mailhub("account", "remove", "ann@xx.example", "--yes", terminal=True)
    assert (result.status, result.out) == (0, "account ann@xx.example removed\n")


@pytest.mark.parametrize(("again", "status"), [("geheim", 0), ("gehiem", 1)])
def test_at_a_terminal_a_password_is_typed_twice_and_not_seen(
    mailhub: Command, config: Config, monkeypatch: pytest.MonkeyPatch, again: str, status: int
) -> None:
    answers = iter(["geheim", again])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    result = mailhub("account", "add", "ann@xx.example", "--password-stdin", terminal=True)
    assert result.status == status
    assert "geheim" not in result.out + result.err
    if status:
        assert result.err == "mailhub: the two passwords differ; nothing was changed\n"
        assert mailhub("account", "list").out == ""


def test_an_account_that_goes_while_the_list_is_made(
    mailhub: Command, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        async def account(self, user: str) -> None:
            raise NoSuchUser

    mailhub("account", "add", "ann@xx.example")
    with opened(config, "create") as hub:
        monkeypatch.setattr(hub.database, "store", Gone())
        assert _line(hub, "ann@xx.example", 0, True) == "ann@xx.example  removed just now"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("add", "ann"), "'ann' is not a mail address: address has no @"),
        (
            ("add", "ann@yy.example"),
            "yy.example is not one of our domains; `mailhub domain add yy.example` makes it",
        ),
        (
            ("add", "ben@xx.example"),
            "there is an account ben@xx.example already; `mailhub account password` changes it",
        ),
        (("remove", "ann@xx.example"), "there is no account ann@xx.example; `mailhub account list` shows all"),
        (("disable", "ann@xx.example"), "there is no account ann@xx.example; `mailhub account list` shows all"),
        (("quota", "ann@xx.example", "1"), "there is no account ann@xx.example; `mailhub account list` shows all"),
        (("password", "ann@xx.example"), "there is no account ann@xx.example; `mailhub account list` shows all"),
    ],
)
def test_mistakes_say_what_to_do(mailhub: Command, config: Config, words: tuple[str, ...], line: str) -> None:
    mailhub("account", "add", "ben@xx.example")
    result = mailhub("account", *words)
    assert result.status == 1
    assert result.err.startswith(f"mailhub: {line}")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("quota", ["-1", "many", "G", "1.5G", "9999999T"])
def test_a_quota_is_a_number_of_octets(mailhub: Command, config: Config, quota: str) -> None:
    result = mailhub("account", "add", "ann@xx.example", "--quota-bytes", quota)
    assert result.status == 2
    assert f"{quota!r} is not a whole number of octets, such as 500M or 2G; 0 is any" in result.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can work for another user")
def test_what_root_makes_belongs_to_the_owner_of_the_data(mailhub: Command) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory(prefix="mailhub-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # pytest's own folders are closed to other users
        (folder / "m.toml").write_text('hostname = "mx.xx.example"\ndata = "data"\ndomains = ["xx.example"]\n')
        (folder / "data").mkdir(mode=0o700)
        os.chown(folder / "data", nobody, nobody)
        result = mailhub("--config", str(folder / "m.toml"), "account", "add", "ann@xx.example")
        assert (result.status, result.err) == (0, "")
        assert {path.stat().st_uid for path in (folder / "data").rglob("*")} == {nobody}
        assert os.geteuid() == 0
