"""`mailhub account sendas`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailhub.config.settings import Config
from tests.cli.conftest import Command


@pytest.fixture
def account(mailhub: Command, config: Config) -> str:
    assert mailhub("account", "add", "Ann@xx.example").status == 0
    return "ann@xx.example"


def test_grants_are_added_listed_and_removed(mailhub: Command, account: str, tmp_path: Path) -> None:
    assert mailhub("account", "sendas", "list").out == ""
    done = mailhub("account", "sendas", "add", "Ann@XX.example", "Shop.example")
    assert done.out == "ann@xx.example may send as @shop.example\n"
    done = mailhub("account", "sendas", "add", account, "@shop.example")
    assert done.out == "ann@xx.example may send as @shop.example, as before\n"
    mailhub("account", "sendas", "add", account, "Boss@xx.example")
    mailhub("alias", "add", "team@xx.example", account)
    mailhub("account", "sendas", "add", "team@xx.example", "@*.shop.example")
    with (tmp_path / "mailhub.toml").open("a") as file:
        file.write('[send_as]\n"ann@xx.example" = ["*"]\n')
    assert mailhub("account", "sendas", "list", account).out.splitlines() == [
        "ann@xx.example  *  configuration",
        "ann@xx.example  @shop.example  database",
        "ann@xx.example  boss@xx.example  database",
    ]
    assert mailhub("account", "sendas", "remove", account, "shop.example").status == 0
    gone = mailhub("account", "sendas", "remove", account, "*")
    assert gone.status != 0
    assert "ann@xx.example has no such grant; it stands in [send_as] of" in gone.err
    assert len(mailhub("account", "sendas", "list").out.splitlines()) == 3


def test_they_go_with_the_account(mailhub: Command, account: str) -> None:
    mailhub("account", "sendas", "add", account, "*")
    assert mailhub("account", "remove", account, "--yes").status == 0
    assert mailhub("account", "sendas", "list").out == ""


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("a b", "*"), "not a mail address"),
        (("ann@xx.example", "c d"), "is no address"),
        (("ann@xx.example", "x"), '"x" is no address; all of a domain of that name are "@x"'),
        (("ben@xx.example", "*"), "there is no account, alias or list ben@xx.example"),
    ],
)
def test_what_is_no_address_is_told(mailhub: Command, account: str, words: tuple[str, str], fault: str) -> None:
    done = mailhub("account", "sendas", "add", *words)
    assert done.status != 0
    assert fault in done.err
