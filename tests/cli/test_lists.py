"""`mailhub list`: lists of the database, their members, and what is refused."""

from __future__ import annotations

import json

import pytest

from mailhub.cli.offline import opened
from mailhub.config.settings import Config
from mailhub.delivery.list_bounces import Bounces
from mailhub.message.address import Address
from mailhub.message.bounces import Bounce
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


@pytest.mark.parametrize(
    ("owner", "why"),
    [
        ("new-owner@xx.example", "an address of the list itself"),
        ("New-Bounces@xx.example", "an address of the list itself"),
        ("new-request@xx.example", "an address of the list itself"),
        ("team@xx.example", "a list that takes no reports"),
    ],
)
def test_who_takes_no_reports_is_no_owner(mailhub: Command, owner: str, why: str) -> None:
    refused = mailhub("list", "add", "new@xx.example", "--owner", owner)
    assert refused.status == 1
    assert why in refused.err
    assert mailhub("list", "add", "new@xx.example").status == 0
    assert why in mailhub("list", "change", "new@xx.example", "--owner", owner).err


def test_a_list_is_no_member_of_itself_and_who_is_not_there_is_told(mailhub: Command) -> None:
    for member in ("Team@xx.example", "team-owner@xx.example"):
        assert "cannot be a member of team@xx.example" in mailhub("list", "join", "team@xx.example", member).err
    joined = mailhub("list", "join", "team@xx.example", "ghost@xx.example", "file@xx.example")
    assert joined.status == 0
    assert joined.err == "mailhub: warning: there is no account or alias ghost@xx.example\n"


def test_people_of_no_use_in_the_file_are_told_by_the_check(mailhub: Command, config: Config) -> None:
    config.file.write_text(
        config.file.read_text()
        + '[list."odd@xx.example"]\nowners = ["odd-owner@xx.example", "team@xx.example"]\n'
        + 'members = ["odd@xx.example"]\n'
    )
    out = mailhub("check").out
    for what in ("owner odd-owner@", "owner team@", "member odd@"):
        assert f"list odd@xx.example: its {what}xx.example is of no use" in out


@pytest.mark.parametrize("name", ["team@xx.example", "Team-Owner@xx.example", "file-subscribe@xx.example"])
def test_the_addresses_of_a_list_are_no_account_and_no_alias(mailhub: Command, name: str) -> None:
    for command in (("account", "add", name), ("alias", "add", name, "ann@xx.example")):
        refused = mailhub(*command)
        assert refused.status == 1
        assert "mailing list" in refused.err


def test_a_list_whose_addresses_are_taken_is_refused(mailhub: Command) -> None:
    assert mailhub("account", "add", "new-owner@xx.example").status == 0
    assert mailhub("alias", "add", "other-request@xx.example", "ann@xx.example").status == 0
    for name, taken in (("new@xx.example", "new-owner"), ("other@xx.example", "other-request")):
        refused = mailhub("list", "add", name)
        assert refused.status == 1
        assert f"{taken}@xx.example is taken" in refused.err


def test_programs_read_lists_and_members(mailhub: Command) -> None:
    mailhub("list", "join", "team@xx.example", "b@far.example")
    assert json.loads(mailhub("list", "members", "team@xx.example", "--json").out) == ["b@far.example"]
    told = json.loads(mailhub("list", "show", "--json").out)
    assert [(each["list"], each["where"], each["members"]) for each in told] == [
        ("file@xx.example", "file", 1),
        ("team@xx.example", "database", 1),
    ]
    one = json.loads(mailhub("list", "show", "team@xx.example", "--json").out)
    assert (one["list"], one["owners"], one["subject_prefix"]) == ("team@xx.example", ["ann@xx.example"], "[t]")


def test_who_is_suspended_is_shown_and_resumed(mailhub: Command, config: Config) -> None:
    assert mailhub("list", "change", "team@xx.example", "--verp", "--suspend-after-days", "1").status == 0
    assert "suspend_after_days    1\n" in mailhub("list", "show", "team@xx.example").out
    mailhub("list", "join", "team@xx.example", "a@far.example", "b@far.example", "c@far.example")
    with opened(config) as hub:
        bounces = Bounces.of(hub.database.state)
        for member in ("B@far.example", "c@far.example", "behind@far.example"):
            bounce = Bounce("failed", "550 No")
            hub.wait(bounces.came_back("team@xx.example", Address.parse(member), 19_000, bounce, 1, 1_700_000_000))
    assert mailhub("list", "members", "team@xx.example").out == (
        "a@far.example\n"
        "b@far.example  suspended since 2023-11-14, 1 day\n"
        "c@far.example  suspended since 2023-11-14, 1 day\n"
        "behind@far.example  suspended since 2023-11-14, 1 day\n"
    )
    found = json.loads(mailhub("list", "members", "team@xx.example", "--suspended", "--json").out)
    assert found[0] == {"member": "b@far.example", "since": "2023-11-14", "days": 1, "reason": "550 No"}
    assert [each["member"] for each in found[1:]] == ["c@far.example", "behind@far.example"]
    assert json.loads(mailhub("list", "members", "team@xx.example", "--json").out)[1] == "b@far.example"
    assert mailhub("list", "resume", "team@xx.example", "b@far.example", "behind@far.example").out == (
        "b@far.example, behind@far.example will get team@xx.example again\n"
    )
    assert "a@far.example: not suspended" in mailhub("list", "resume", "team@xx.example", "a@far.example").err
    assert "there is no list" in mailhub("list", "resume", "none@xx.example", "a@far.example").err
    mailhub("list", "leave", "team@xx.example", "c@far.example")
    assert mailhub("list", "members", "team@xx.example", "--suspended").out == ""


@pytest.mark.parametrize("days", ["-1", "61"])
def test_days_until_a_suspension_are_bounded(mailhub: Command, days: str) -> None:
    outcome = mailhub("list", "change", "team@xx.example", "--suspend-after-days", days)
    assert "suspend_after_days must be from 0 to 60" in outcome.err
