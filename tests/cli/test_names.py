"""`mailhub alias` and `mailhub domain`: what is kept beside the configuration, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailhub.cli.alias_faults import faults
from mailhub.cli.names import canonical, everybody_of
from mailhub.cli.offline import opened
from mailhub.config.settings import Config, load
from tests.cli.conftest import Command, Result


@pytest.fixture(autouse=True)
def two_accounts(mailhub: Command, config: Config) -> None:
    """ann and ben, and an alias in the file."""
    mailhub("account", "add", "ann@xx.example")
    mailhub("account", "add", "ben@xx.example")
    config.file.write_text(
        config.file.read_text() + '[aliases]\n"Both@xx.example" = ["ann@xx.example", "x@far.example"]\n'
    )


def test_a_domain_is_added_and_can_have_accounts(mailhub: Command) -> None:
    assert mailhub("account", "add", "cid@new.example").status == 1
    assert mailhub("domain", "add", "New.example").out == (
        "domain new.example added; publish its MX record, and give it a postmaster\n"
    )
    assert mailhub("account", "add", "cid@new.example").status == 0
    lines = [line.split() for line in mailhub("domain", "list").out.splitlines()]
    assert lines == [["new.example", "database"], ["xx.example", "file"]]


def test_a_domain_with_receivers_goes_only_by_yes(mailhub: Command) -> None:
    mailhub("domain", "add", "new.example")
    mailhub("account", "add", "cid@new.example")
    mailhub("alias", "add", "sales@new.example", "cid@new.example")
    refused = mailhub("domain", "remove", "new.example")
    assert refused.status == 1
    assert "Refuse mail for new.example from now on? It has 1 account and 1 alias. There is no terminal" in refused.err
    assert mailhub("domain", "remove", "new.example", "--yes").out == "domain new.example removed\n"
    assert "not in use: its domain is not ours" in mailhub("alias", "list").out
    assert "cid@new.example" in mailhub("account", "list").out


def test_a_domain_that_nobody_uses_goes_without_a_question(mailhub: Command) -> None:
    mailhub("domain", "add", "bücher.example")
    assert mailhub("domain", "remove", "xn--bcher-kva.example").out == "domain xn--bcher-kva.example removed\n"


def test_an_alias_grows_and_shrinks(mailhub: Command) -> None:
    assert mailhub("alias", "add", "Sales@xx.example", "ann@xx.example").out == (
        "alias sales@xx.example -> ann@xx.example added\n"
    )
    assert mailhub("alias", "add", "sales@XX.example", "ben@xx.example", "ann@xx.example").out == (
        "alias sales@xx.example -> ben@xx.example added\n"
    )
    lines = [line.split(maxsplit=2) for line in mailhub("alias", "list").out.splitlines()]
    assert lines == [
        ["both@xx.example", "file", "ann@xx.example, x@far.example"],
        ["sales@xx.example", "database", "ann@xx.example, ben@xx.example"],
    ]
    assert mailhub("alias", "remove", "sales@xx.example", "ann@xx.example").status == 0
    refused = mailhub("alias", "remove", "sales@xx.example", "ben@xx.example")
    assert (refused.status, "Refuse mail for sales@xx.example from now on?" in refused.err) == (1, True)
    assert mailhub("alias", "remove", "sales@xx.example", "--yes").out == (
        "alias sales@xx.example -> ben@xx.example removed\n"
    )
    assert len(mailhub("alias", "list").out.splitlines()) == 1


def test_an_alias_whose_name_somebody_else_answers_to_goes_without_a_question(mailhub: Command) -> None:
    mailhub("alias", "add", "ann@xx.example", "ben@xx.example")
    assert mailhub("alias", "remove", "ann@xx.example").status == 0
    mailhub("alias", "add", "@xx.example", "ben@xx.example")
    mailhub("alias", "add", "sales@xx.example", "ben@xx.example")
    assert mailhub("alias", "remove", "sales@xx.example").status == 0
    assert mailhub("alias", "remove", "@xx.example").status == 1


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("A.B@BÜCHER.example", "a.b@xn--bcher-kva.example"),
        ("Root", "root"),
        ("@XX.example", "@xx.example"),
        ('"a b"@xx.example', '"a b"@xx.example'),
        ('"a b"', '"a b"'),
    ],
)
def test_names_have_one_spelling(written: str, name: str) -> None:
    assert canonical(written) == name
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("domain", "add", "xx.example"), "xx.example stands in domains of "),
        (("domain", "remove", "xx.example"), "xx.example stands in domains of "),
        (("domain", "remove", "yy.example"), "yy.example is not one of our domains; `mailhub domain list` shows all"),
        (("domain", "add", "no domain"), '"no domain" is not a domain name: '),
        (("domain", "add", "[192.0.2.1]"), '"[192.0.2.1]" is an address literal'),
        (("alias", "add", "both@xx.example", "ben@xx.example"), "both@xx.example stands in [aliases] of "),
        (("alias", "remove", "both@xx.example"), "both@xx.example stands in [aliases] of "),
        (("alias", "remove", "c@xx.example"), "there is no alias c@xx.example; `mailhub alias list` shows all"),
        (
            ("alias", "add", "a@yy.example", "ben@xx.example"),
            "yy.example is not one of our domains; `mailhub",
        ),
        (("alias", "add", "a@xx.example", "ben"), '"ben" is not a mail address: '),
        (("alias", "add", "a b", "ben@xx.example"), "'a b' is not an address, \"@domain\""),
    ],
)
def test_mistakes_say_what_to_do(mailhub: Command, words: tuple[str, ...], line: str) -> None:
    result = mailhub(*words)
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith(f"mailhub: {line}")


def test_what_is_there_already_is_told(mailhub: Command) -> None:
    mailhub("domain", "add", "new.example")
    assert "one of our domains already" in mailhub("domain", "add", "new.example").err
    mailhub("alias", "add", "a@xx.example", "ben@xx.example")
    assert "stands for ben@xx.example already" in mailhub("alias", "add", "a@xx.example", "ben@xx.example").err


def test_an_alias_to_nobody_is_taken_with_a_warning(mailhub: Command) -> None:
    result = mailhub("alias", "add", "a@xx.example", "nobody@xx.example")
    assert (result.status, result.out) == (0, "alias a@xx.example -> nobody@xx.example added\n")
    assert result.err == (
        "mailhub: warning: alias a@xx.example leads to nobody: there is no account or alias nobody@xx.example\n"
    )


@pytest.mark.parametrize(
    ("aliases", "found"),
    [
        ({"a@xx.example": ["ann@xx.example", "b@far.example"]}, []),
        ({"a@xx.example": ["ann+lists@xx.example"]}, []),
        ({"a@xx.example": ["no@xx.example"]}, ["alias a@xx.example leads to nobody"]),
        ({"root": ["no@xx.example"]}, ["alias root leads to nobody"]),
        ({"@xx.example": ["no@xx.example"]}, ["aliases go round in a loop: no@xx.example -> no@xx.example"]),
        ({"@xx.example": ["ann@xx.example"], "a@xx.example": ["any@xx.example"]}, []),
        ({"a@xx.example": ["a@xx.example"]}, ["aliases go round in a loop: a@xx.example -> a@xx.example"]),
        ({"ann@xx.example": ["ann@xx.example", "ben@xx.example"]}, []),
        (
            {"a@xx.example": ["b@xx.example"], "b@xx.example": ["c@xx.example"], "c@xx.example": ["a@xx.example"]},
            ["aliases go round in a loop: a@xx.example -> b@xx.example -> c@xx.example -> a@xx.example"],
        ),
        ({"root": ["root@xx.example"]}, ["aliases go round in a loop: root@xx.example -> root@xx.example"]),
        ({'"a b"@xx.example': ["a@xx.example"], "a@xx.example": ['"a b"@xx.example']}, ["aliases go round in a loop"]),
        ({"postmaster@xx.example": ["ann@xx.example"], "a@xx.example": ["Postmaster@xx.example"]}, []),
    ],
)
def test_faults_of_aliases(config: Config, aliases: dict[str, list[str]], found: list[str]) -> None:
    table = "".join(f"'{name}' = {targets}\n" for name, targets in aliases.items())
    config.file.write_text(f"{config.file.read_text()}{table}")
    changed = load(config.file)
    with opened(changed) as hub:
        told = faults(everybody_of(changed, hub))
    assert len(told) == len(found)
    assert all(line.startswith(start) for line, start in zip(told, found, strict=True))


def test_a_domain_can_be_the_same_as_another(mailhub: Command, config: Config) -> None:
    assert mailhub("domain", "add", "old.example", "--same-as", "XX.example").out.startswith(
        "domain old.example added: its names are those of xx.example"
    )
    lines = [line.split(maxsplit=2) for line in mailhub("domain", "list").out.splitlines()]
    assert lines == [["old.example", "database", "same as xx.example"], ["xx.example", "file"]]
    for refused, why in [
        (("domain", "add", "old.example", "--same-as", "xx.example"), "already"),
        (("domain", "add", "older.example", "--same-as", "old.example"), "not one of our own domains"),
        (("domain", "add", "xx.example", "--same-as", "xx.example"), "stands in domains"),
        (("domain", "add", "old.example"), "is the same as another domain"),
        (("account", "add", "cid@old.example"), "which has the accounts"),
        (("alias", "add", "@old.example", "ann@xx.example"), "give that one the catch-all"),
    ]:
        outcome = mailhub(*refused)
        assert (outcome.status, why in outcome.err) == (1, True), outcome.err
    mailhub("alias", "add", "own@xx.example", "Ann@old.example")
    with opened(config, "read") as hub:
        assert faults(everybody_of(load(config.file), hub)) == []
    assert "It has all names of xx.example" in mailhub("domain", "remove", "old.example").err
    assert mailhub("domain", "remove", "old.example", "--yes").status == 0


def test_patterns_are_kept_as_they_are_and_looked_at(mailhub: Command) -> None:
    added = mailhub("alias", "add", "regex:([a-z]+)-X@xx.example", r"\1@xx.example")
    assert added.out == "alias regex:([a-z]+)-X@xx.example -> \\1@xx.example added\n"
    assert "regex:([a-z]+)-X@xx.example" in mailhub("alias", "list").out
    for name, target in [("regex:(", "ann@xx.example"), ("wildcard:*", r"\3@xx.example"), ("regex:x", "nobody")]:
        assert mailhub("alias", "add", name, target).status == 1
    assert mailhub("alias", "remove", "regex:([a-z]+)-X@xx.example", "--yes").status == 0


def test_a_table_of_another_server_is_taken_over_whole_and_again(
    mailhub: Command, config: Config, tmp_path: Path
) -> None:
    file = tmp_path / "aliases"
    file.write_text(
        "postmaster: root\nroot: ann, x@far.example\nteam: :include:" + str(tmp_path / "team") + "\n*: ben\n"
    )
    (tmp_path / "team").write_text("ann\nben\n")
    told = mailhub("alias", "import", str(file), "--dry-run").out
    assert "alias root@xx.example -> ann@xx.example, x@far.example\n" in told
    assert "postmaster" not in mailhub("alias", "list").out
    assert mailhub("alias", "import", str(file)).out == "4 aliases read, 6 domains and targets are new\n"
    assert mailhub("alias", "import", str(file)).out == "4 aliases read, 0 domains and targets are new\n"
    assert mailhub("alias", "import", str(file), "--dry-run").out == ""
    lines = [line.split(maxsplit=2) for line in mailhub("alias", "list").out.splitlines()]
    assert ["team@xx.example", "database", "ann@xx.example, ben@xx.example"] in lines
    assert ["@xx.example", "database", "ben@xx.example"] in lines


def test_what_went_from_a_table_goes_with_replace(mailhub: Command, tmp_path: Path) -> None:
    file = tmp_path / "aliases"

    def imported(*words: str) -> Result:
        return mailhub("alias", "import", str(file), "--domain", "xx.example", *words)

    mailhub("domain", "add", "other.example")
    for name in ("z@other.example", "wildcard:q-*@xx.example", "sales"):
        mailhub("alias", "add", name, "ann@xx.example")
    file.write_text("a: ann, ben\nb: ben\nc: ann\n")
    imported()
    before = mailhub("alias", "list").out
    file.write_text("a: ANN, cid\nc: ann\nd: ann\nroot@far.example: ann\n")
    assert imported("--replace", "--yes").status == 1
    assert mailhub("alias", "list").out == before
    file.write_text("a: ANN, cid\nc: ann\nd: ann\n")
    assert imported("--replace", "--dry-run").out.splitlines() == [
        "alias a@xx.example -> cid@xx.example",
        "alias d@xx.example -> ann@xx.example",
        "alias a@xx.example -> ben@xx.example removed",
        "alias b@xx.example -> ben@xx.example removed",
    ]
    asked = imported("--replace")
    assert (asked.status, asked.err[:37]) == (1, "mailhub: Remove 2 targets of aliases?")
    assert mailhub("alias", "list").out == before
    told = imported("--replace", "--yes")
    assert told.out == "3 aliases read, 2 domains and targets are new, 2 removed\n"
    lines = [line.split(maxsplit=2) for line in mailhub("alias", "list").out.splitlines()]
    assert {name: targets for name, where, targets in lines if where == "database"} == {
        "a@xx.example": "ann@xx.example, cid@xx.example",
        "c@xx.example": "ann@xx.example",
        "d@xx.example": "ann@xx.example",
        "sales": "ann@xx.example",
        "wildcard:q-*@xx.example": "ann@xx.example",
        "z@other.example": "ann@xx.example",
    }
    assert imported("--replace").out.endswith(" 0 domains and targets are new, 0 removed\n")


def test_a_table_of_expressions_takes_the_place_of_the_one_before(mailhub: Command, tmp_path: Path) -> None:
    file = tmp_path / "regexp"
    mailhub("alias", "add", "a@xx.example", "ann@xx.example")
    file.write_text("/^x@/ ann@xx.example\n/^y@/ ann@xx.example\n")
    mailhub("alias", "import", str(file), "--format", "regexp")
    file.write_text("/^y@/ ann@xx.example\n")
    told = mailhub("alias", "import", str(file), "--format", "regexp", "--replace", "--yes")
    assert told.out == "1 alias read, 0 domains and targets are new, 1 removed\n"
    assert [line.split()[0] for line in mailhub("alias", "list").out.splitlines() if "database" in line] == [
        "a@xx.example",
        "regex:(?:^y@).*",
    ]


def test_a_table_with_a_mistake_changes_nothing(mailhub: Command, tmp_path: Path) -> None:
    file = tmp_path / "aliases"
    file.write_text("a: ann\nb: |prog\nboth: ann\nc@far.example: ann\nd: :fail: no\n")
    refused = mailhub("alias", "import", str(file))
    assert refused.status == 1
    for line in (2, 3, 4, 5):
        assert f"{file}: line {line}: " in refused.err
    assert "nothing was changed" in refused.err
    assert "a@xx.example" not in mailhub("alias", "list").out
    assert mailhub("alias", "import", str(tmp_path / "none")).status == 1


def test_tables_of_postfix_bring_their_domains(mailhub: Command, tmp_path: Path) -> None:
    file = tmp_path / "virtual"
    file.write_text("new.example x\ninfo@new.example ann@xx.example\n@old.example @new.example\n")
    assert mailhub("alias", "import", str(file), "--format", "virtual").status == 0
    lines = [line.split(maxsplit=2) for line in mailhub("domain", "list").out.splitlines()]
    assert ["old.example", "database", "same as new.example"] in lines
    assert "info@new.example" in mailhub("alias", "list").out
    file.write_text("/^([a-z]+)\\.x@/ $1@xx.example\n")
    assert mailhub("alias", "import", str(file), "--format", "regexp").status == 0
    assert "regex:(?:^([a-z]+)\\.x@).*" in mailhub("alias", "list").out


def test_what_is_there_in_other_letters_is_not_counted_as_new(mailhub: Command, config: Config, tmp_path: Path) -> None:
    file = tmp_path / "virtual"
    file.write_text("info@xx.example ann@xx.example, Ann@XX.example\n@old.example @xx.example\n")
    once = mailhub("alias", "import", str(file), "--format", "virtual").out
    assert once == "1 alias read, 2 domains and targets are new\n"
    file.write_text("info@xx.example ANN@xx.example\n@old.example @xx.example\n")
    assert mailhub("alias", "import", str(file), "--format", "virtual", "--dry-run").out == ""
    again = mailhub("alias", "import", str(file), "--format", "virtual").out
    assert again == "1 alias read, 0 domains and targets are new\n"


def test_a_wrong_expression_is_called_one(mailhub: Command, config: Config) -> None:
    said = 'mailhub: "regex:(": the regular expression is wrong: missing ): (\n'
    assert mailhub("alias", "add", "regex:(", "ann@xx.example").err == said
    with config.file.open("a") as file:
        file.write("'regex:(' = ['ann@xx.example']\n")
    assert "the regular expression is wrong: missing ): (" in mailhub("check").err


def test_what_keeps_a_table_out_is_told_once_with_what_to_do(mailhub: Command, tmp_path: Path) -> None:
    file = tmp_path / "aliases"
    file.write_text("a: ann\nboth: ann\nb: /var/mail/b\n" + "".join(f"x{n}@far.example: ann\n" for n in range(12)))
    in_file = "stands in [aliases] of the configuration, which goes before; leave it out of one of the two"
    far = "far.example is not one of our domains; `mailhub domain add far.example` makes it one"
    assert mailhub("alias", "import", str(file)).err.splitlines() == [
        f"mailhub: {file}: {line}"
        for line in (
            "line 3: '/var/mail/b' is a file, and mail is kept in accounts alone: name an account, or leave it out",
            f"line 2: both@xx.example: {in_file}",
            f"lines 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 and 2 more: {far}",
            "nothing was changed",
        )
    ]
    mailhub("domain", "add", "second.example")
    file.write_text("a: ann\nb: ben\n")
    assert "lines 1, 2: a, b: has no domain; say which one by --domain\n" in mailhub("alias", "import", str(file)).err
