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


def test_mistakes_are_one_line(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    result = mailhub("explain", "--to", "joe")
    assert result.status == 1
    assert result.err == "mailhub: no mail address: address has no @\n"
