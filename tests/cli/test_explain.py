"""`mailhub explain` where no server runs: configuration and data are asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mailhub.config.settings import Config
from mailhub.control import NAME
from mailhub.data_folder import DataFolder
from tests.cli.conftest import Command
from tests.cli.zone import name_server


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
    result = mailhub("explain", "--to", "joe", "--json")  # for programs, which are to tell it from a refusal
    assert (result.status, result.err) == (2, "")
    assert json.loads(result.out) == {"mistake": "no mail address: address has no @"}


def test_dns_is_asked_without_a_server(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    mailhub("alias", "add", "away@xx.example", "y@yy.example")
    with name_server({"yy.example MX": ["7 mx.yy.example."], "mx.yy.example A": ["192.0.2.7"]}) as (asked, port):
        config.file.write_text(f'{config.file.read_text()}\n[dns]\nservers = ["127.0.0.1#{port}"]\n')
        asking = ("explain", "--from", "a@zz.example", "--to", "away@xx.example")
        said = mailhub(*asking)
        assert "goes to smtp <y@yy.example> (by 7 mx.yy.example [192.0.2.7]; TLS opportunistic; " in said.out
        assert "yy.example MX" in asked
        before = len(asked)
        assert "commands do not ask DNS" in mailhub(*asking, "--no-dns").out
        assert len(asked) == before


def test_what_checks_have_found_is_told(mailhub: Command, config: Config, tmp_path: Path) -> None:
    mailhub("account", "add", "joe@xx.example")
    zone = {"zz.example TXT": ['"v=spf1 ip4:192.0.2.1 -all"'], "_dmarc.zz.example TXT": ['"v=DMARC1; p=reject"']}
    message = tmp_path / "message"
    message.write_bytes(b"From: a@zz.example\nSubject: hello\n\nHow are you?\n")
    with name_server(zone) as (_, port):
        config.file.write_text(f'{config.file.read_text()}\n[dns]\nservers = ["127.0.0.1#{port}"]\n')
        asking = ("explain", "--from", "a@zz.example", "--to", "joe@xx.example", "--ip")
        told = mailhub(*asking, "192.0.2.1").out.splitlines()
        assert told[0] == "taken at recipient: 250 2.1.5 Recipient OK"
        assert "  found: spf=pass smtp.mailfrom=a@zz.example" in told
        told = mailhub(*asking, "192.0.2.2", "--message", str(message)).out.splitlines()
    assert told[0].startswith("refused at message: 550 5.7.1 zz.example wants mail refused")
    assert told[1] == "  rule: checks:dmarc"
    assert "  found: dmarc=fail header.from=zz.example policy.dmarc=reject" in told
    assert "  found: dkim=none" in told


def test_a_message_is_read_from_a_file_or_standard_input(mailhub: Command, config: Config, tmp_path: Path) -> None:
    mailhub("account", "add", "joe@xx.example")
    file = tmp_path / "message"
    file.write_bytes(b"Subject: hello\n\nHow are you?\n")
    to = ("explain", "--from", "a@yy.example", "--to", "joe@xx.example", "--message")
    told = mailhub(*to, str(file))
    assert (told.status, told.out.splitlines()[0]) == (0, "taken at message: 250 2.0.0 Delivered")
    told = mailhub(*to, "-", stdin="Received: x\n" * 51 + "\n")
    assert told.status == 1
    assert told.out.startswith("refused at message: 550 5.4.6 Too many hops")
    assert mailhub(*to, str(tmp_path / "none")).err.startswith(f"mailhub: {tmp_path / 'none'}: cannot be read: ")
    file.write_bytes(b"x" * ((8 << 20) + 1))
    assert "has more than 8388608 octets" in mailhub(*to, str(file)).err


def test_who_is_to_come_again_has_a_status_of_his_own(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    config.file.write_text(f'{config.file.read_text()}\n[delivery]\npolicies = ["greylist"]\n')
    told = mailhub("explain", "--from", "a@yy.example", "--to", "joe@xx.example", "--ip", "192.0.2.7")
    assert told.status == 75
    assert told.out.startswith("refused for now at recipient: 451 4.7.1 Greylisted")
    assert "greylist" in told.out


def test_what_is_behind_a_list_is_told_in_words(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    mailhub("list", "add", "team@xx.example", "--post", "anyone")
    mailhub("list", "join", "team@xx.example", "joe@xx.example", "no@xx.example")
    lines = mailhub("explain", "--from", "a@yy.example", "--to", "team@xx.example").out.splitlines()
    assert lines[-3:] == [
        "goes to list team@xx.example (2 members; among them joe@xx.example, no@xx.example)",
        "member of team@xx.example: goes to store joe@xx.example (INBOX; holds 0 of any octets)",
        "member of team@xx.example: <no@xx.example> gets nothing (550 5.1.1 No such user here)",
    ]


def test_a_user_sends_from_the_own_address_where_none_is_said(mailhub: Command, config: Config) -> None:
    mailhub("account", "add", "joe@xx.example")
    asking = ("explain", "--to", "joe@xx.example", "--user", "joe@xx.example")
    assert mailhub(*asking).out.startswith("taken at recipient: 250 2.1.5 ")
    foreign = mailhub(*asking, "--from", "a@yy.example")
    assert foreign.out.startswith("refused at mail: 550 5.7.1 Sender address does not belong to your login")
    config.file.write_text(config.file.read_text() + '[auth]\ndefault_domain = "xx.example"\n')
    assert mailhub("explain", "--to", "joe@xx.example", "--user", "joe").status == 0


def test_that_the_server_has_read_an_older_configuration_is_told(
    mailhub: Command, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailhub("account", "add", "joe@xx.example")
    told = json.loads(mailhub("explain", "--to", "joe@xx.example", "--json").out)
    monkeypatch.setattr("mailhub.cli.explain.ask", lambda folder, question: told)
    (config.data / NAME).touch()
    server = DataFolder(config.data)
    server.lock()
    server.note_reading(config.file.stat().st_mtime - 1)
    newer = f"{config.file} is newer than what the running server has read, and goes by: `mailhub reload`\n"
    assert mailhub("explain", "--to", "joe@xx.example").err == f"mailhub: warning: {newer}"
    server.note_reading(config.file.stat().st_mtime + 1)
    assert mailhub("explain", "--to", "joe@xx.example").err == ""
    server.unlock()


def test_without_dns_a_running_server_is_left_alone(
    mailhub: Command, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailhub("account", "add", "joe@xx.example")
    mailhub("alias", "add", "away@xx.example", "y@yy.example")
    asked: list[object] = []
    monkeypatch.setattr("mailhub.cli.explain.ask", lambda folder, question: asked.append(question))
    (config.data / NAME).touch()
    server = DataFolder(config.data)
    server.lock()
    server.note_reading(config.file.stat().st_mtime - 1)
    told = mailhub("explain", "--from", "a@zz.example", "--to", "away@xx.example", "--no-dns")
    assert (told.status, told.err, asked) == (0, "", [])
    assert "commands do not ask DNS" in told.out
    server.unlock()
