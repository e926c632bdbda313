"""`mailhub list`: lists of the database, their members, and what is refused."""

from __future__ import annotations

import pytest

from mailhub.config.settings import Config
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def lists(mailhub: Command, config: Config) -> None:
    """An account, a list in the file and one in the database."""
    mailhub("account", "add", "ann@xx.example")
    config.file.write_text(config.file.read_text() + '[list."file@xx.example"]\nmembers = ["ann@xx.example"]\n')
    assert mailhub("list", "add", "Team@xx.example", "--owner", "ann@xx.example", "--subject-prefix", "[t]").status == 0


def test_members_join_and_leave(mailhub: Command) -> None:
    assert mailhub("list", "join", "team@XX.example", "Ann@xx.example", "b@far.example").out == (
        "Ann@xx.example, b@far.example joined team@xx.example\n"
    )
    assert mailhub("list", "join", "team@xx.example", "ann@xx.example").status == 1
    assert mailhub("list", "members", "team@xx.example").out == "Ann@xx.example\nb@far.example\n"
    lines = [line.split(maxsplit=2) for line in mailhub("list", "show").out.splitlines()]
    assert lines == [
        ["file@xx.example", "file", "1 member, members may post"],
        ["team@xx.example", "database", "2 members, members may post"],
    ]
    assert mailhub("list", "leave", "team@xx.example", "ANN@xx.example").out == "ANN@xx.example left team@xx.example\n"
    assert mailhub("list", "leave", "team@xx.example", "ann@xx.example").status == 1


def test_what_is_set_can_be_changed(mailhub: Command) -> None:
    assert mailhub("list", "change", "team@xx.example", "--post", "named", "--poster", "*.xx.example").status == 0
    lines = dict(line.split(maxsplit=1) for line in mailhub("list", "show", "team@xx.example").out.splitlines())
    assert lines == {"owners": "ann@xx.example", "post": "named", "posters": "*.xx.example", "subject_prefix": "[t]"}
    assert mailhub("list", "change", "team@xx.example", "--post", "anyone").status == 0
    assert "posters" not in mailhub("list", "show", "team@xx.example").out
    assert "nothing was changed" in mailhub("list", "change", "team@xx.example", "--post", "anyone").err


def test_a_list_goes_only_by_yes_and_with_its_members(mailhub: Command) -> None:
    mailhub("list", "join", "team@xx.example", "ann@xx.example")
    assert mailhub("list", "remove", "team@xx.example").status == 1
    assert mailhub("list", "remove", "team@xx.example", "--yes").out == "list team@xx.example removed\n"
    mailhub("list", "add", "team@xx.example", "--group")
    assert mailhub("list", "members", "team@xx.example").out == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", "team@xx.example"), "there is a list team@xx.example already"),
        (("add", "file@xx.example"), 'stands in [list."file@xx.example"] of'),
        (("join", "file@xx.example", "a@b.example"), "change it there"),
        (("add", "l@yy.example"), "yy.example is not one of our own domains"),
        (("add", "ann@xx.example"), "is an account"),
        (("add", "l@xx.example", "--post", "named"), "go together"),
        (("add", "l@xx.example", "--group", "--name", "x"), "a group leaves the header alone"),
        (("add", "l@xx.example", "--owner", "L@xx.example"), "cannot be its own owner"),
        (("add", "l"), "'l' is not a mail address"),
        (("join", "none@xx.example", "a@b.example"), "there is no list none@xx.example"),
        (("join", "team@xx.example", "a"), "'a' is not a mail address"),
        (("members", "none@xx.example"), "there is no list none@xx.example"),
        (("show", "none@xx.example"), "there is no list none@xx.example"),
    ],
)
def test_mistakes_say_what_to_do(mailhub: Command, words: tuple[str, ...], why: str) -> None:
    outcome = mailhub("list", *words)
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert why in outcome.err


def test_an_alias_to_a_list_leads_to_somebody(mailhub: Command) -> None:
    assert mailhub("alias", "add", "all@xx.example", "team@xx.example", "team-owner@xx.example").err == ""


def test_members_and_owners_who_do_not_exist_are_told_by_the_check(mailhub: Command) -> None:
    mailhub("list", "join", "team@xx.example", "gone@xx.example", "x@far.example", "file@xx.example")
    mailhub("list", "change", "team@xx.example", "--owner", "nobody@xx.example")
    told = mailhub("check").out
    assert "list team@xx.example: there is no account or alias for its member gone@xx.example" in told
    assert "list team@xx.example: there is no account or alias for its owner nobody@xx.example" in told
    assert told.count("list team@xx.example") == 2
    mailhub("list", "add", "empty@xx.example")
    assert "list empty@xx.example has no members" in mailhub("check").out
    mailhub("domain", "add", "new.example")
    mailhub("list", "add", "l@new.example")
    assert "It has 1 list." in mailhub("domain", "remove", "new.example").err


def test_of_a_list_in_both_the_file_counts(mailhub: Command, config: Config) -> None:
    mailhub("list", "join", "team@xx.example", "ann@xx.example")
    table = '[list."team@xx.example"]\nhold_others = true\nmembers = ["bob@yy.example"]\n'
    config.file.write_text(config.file.read_text() + table)
    assert mailhub("list", "show", "team@xx.example").out.splitlines() == [
        "hold_others           true",
        f'these are of [list."team@xx.example"] in {config.file}, which count; those of the database do not',
    ]
    assert mailhub("list", "members", "team@xx.example").out == "bob@yy.example\nann@xx.example\n"
    both = '[list."team@xx.example"]: is a list of the database, too, whose settings do not count; members are'
    assert f"warning  {config.file}: {both} those of both\n" in mailhub("check").out
