"""`mailhub explain` where no server runs: configuration and data are asked."""

from __future__ import annotations

import json

from mailhub.config.settings import Config
from tests.cli.conftest import Command


def test_the_configuration_is_asked_where_no_server_runs(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    taken = mailhub("explain", "--from", "a@yy.example", "--to", "joe@xx.example", "--ip", "192.0.2.1")
    assert taken.status == 0
    lines = taken.out.splitlines()
    assert lines[0] == "taken at recipient: 250 2.1.5 Recipient OK"
    assert "router accounts: <joe@xx.example> -> store joe@xx.example" in lines
    assert "goes to store joe@xx.example (INBOX; holds 0 of any octets)" in lines
    refused = mailhub("explain", "--to", "nobody@xx.example", "--json")
    assert refused.status == 1
    told = json.loads(refused.out)
    assert (told["taken"], told["reply"]) == (False, "550 5.1.1 No such user here")


def test_what_is_refused_goes_nowhere(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    mailhub("account", "disable", "joe@xx.example")
    for refused in (("--size", str(1 << 40)), ("--user", "joe@xx.example"), ("--user", "nobody@xx.example")):
        said = mailhub("explain", "--from", "a@yy.example", "--to", "joe@xx.example", *refused)
        assert said.status == 1
        assert "goes to" not in said.out
        assert "would go to store joe@xx.example" in said.out
    assert said.out.startswith("refused at login: 535 5.7.8 Authentication failed")
    assert [each[0] for each in mailhub("account", "list").out.split()].count("n") == 0


def test_an_address_that_is_none_is_a_mistake(mailhub: Command, config: Config) -> None:
    result = mailhub("explain", "--to", "joe@xx.example", "--ip", "foo")
    assert result.status == 2
    assert result.err.endswith("argument --ip: 'foo' is no IP address\n")


def test_mistakes_are_one_line(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    result = mailhub("explain", "--to", "joe")
    assert result.status == 1
    assert result.err == "mailhub: no mail address: address has no @\n"
