"""A server that takes mail for a domain of others while their own is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailhub.errors import ConfigurationError
from mailhub.interfaces import MailExchanger
from mailhub.testing.hubs import Host, Internet

MESSAGE = b"Subject: hello\r\n\r\nHow are you?\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=5) as made:
        yield made


def backup(internet: Internet, **table: Any) -> Host:
    return internet.hub("xx.example", users=["a"], config={"backup_mx": {"domains": ["yy.example"], **table}})


def take(internet: Internet, host: Host, *recipients: tuple[str, bytes]) -> None:
    sender = internet.call(host, "smtp")
    sender.expect(b"220")
    sender.ask(b"EHLO client.example\r\n", b"250 ")
    sender.ask(b"MAIL FROM:<z@zz.example>\r\n", b"250")
    for recipient, answer in recipients:
        sender.ask(b"RCPT TO:<%b>\r\n" % recipient.encode(), answer)
    if any(answer == b"250" for _, answer in recipients):
        sender.ask(b"DATA\r\n", b"354")
        sender.ask(MESSAGE + b".\r\n", b"250")


def test_mail_waits_until_the_domains_own_server_is_back(internet: Internet) -> None:
    yy = internet.hub("yy.example", users=["b"])
    host = backup(internet)
    internet.resolver.exchangers["yy.example"] = [
        MailExchanger(10, yy.hostname),
        MailExchanger(20, host.hostname),
        MailExchanger(30, "worse.example"),
    ]
    yy.unlisten()
    take(internet, host, ("b@yy.example", b"250"))
    internet.run(3 * 3600)
    assert len(host.queued()) == 1
    yy.listen()
    assert internet.run_until(lambda: not host.queued(), 7200)
    assert len(yy.inbox("b@yy.example")) == 1


@pytest.mark.parametrize("table", ["route", "transport"])
def test_a_smarthost_for_all_other_mail_does_not_get_it(internet: Internet, table: str) -> None:
    yy = internet.hub("yy.example", users=["b"])
    smart = {"host": "10.255.255.1"}
    ways = {"route": {"*": smart}} if table == "route" else {"transport": {"smart": smart}}
    host = internet.hub("xx.example", users=["a"], config={"backup_mx": {"domains": ["yy.example"]}, **ways})
    take(internet, host, ("b@yy.example", b"250"))
    internet.run(10)
    assert len(yy.inbox("b@yy.example")) == 1
    host.submit("a@xx.example", ["c@zz.example"], MESSAGE)
    assert host.queued()[0].recipients[0].route.target == "10.255.255.1"


def test_it_relays_for_nobody_else(internet: Internet) -> None:
    host = backup(internet, domains=["yy.example", "*.yy.example"])
    internet.resolver.failing = {"yy.example", "mail.yy.example"}
    take(
        internet,
        host,
        ("b@yy.example", b"250"),
        ("b@mail.yy.example", b"250"),
        ("b@zz.example", b"550 5.7.1"),
        ("b@notyy.example", b"550 5.7.1"),
        ('"b@zz.example"@yy.example', b"550 5.7.1"),
        ("b%zz.example@yy.example", b"550 5.7.1"),
        ("zz.example!b@mail.yy.example", b"550 5.7.1"),
        ("b%zz.example@xx.example", b"550 5.1.1"),
        ("b@[10.0.0.1]", b"550"),
    )
    assert {row.route.recipient.domain for each in host.queued() for row in each.recipients} == {
        "yy.example",
        "mail.yy.example",
    }


def test_a_route_in_the_local_part_leads_to_no_other_server(internet: Internet) -> None:
    aliases = {
        "wildcard:*@old.example": [r"\1@yy.example"],
        r"regex:(.*)@older\.example": [r'"\1"@yy.example'],
        "a%b@xx.example": ["c@yy.example"],
        "@xx.example": ["a@xx.example"],
    }
    config = {"domains": ["xx.example", "old.example", "older.example"], "aliases": aliases}
    host = internet.hub("xx.example", users=["a"], config=config)
    take(
        internet,
        host,
        ("b@old.example", b"250"),
        ("b@older.example", b"250"),
        ('"b@zz.example"@older.example', b"550 5.7.1"),
        ("b%zz.example@old.example", b"550 5.7.1"),
        ("zz.example!b@old.example", b"550 5.7.1"),
        ("a%b@xx.example", b"250"),  # the operator's own choice
        ("zz.example!b@xx.example", b"250"),
    )
    assert len(host.inbox("a@xx.example")) == 1
    host.submit("a@xx.example", ["b%zz.example@old.example"], MESSAGE)  # our own users may write to anybody


def test_who_is_not_there_is_refused_where_that_is_known(internet: Internet, tmp_path: Path) -> None:
    listed = tmp_path / "recipients"
    listed.write_text("# who there is\nBen@yy.example\n\n@team.yy.example  # all\n")
    host = backup(internet, domains=["yy.example", "*.yy.example"], recipients_file=str(listed))
    take(
        internet,
        host,
        ("ben@yy.example", b"250"),
        ("anybody@team.yy.example", b"250"),
        ("postmaster@yy.example", b"250"),
        ("eve@yy.example", b"550 5.1.1"),
        ("ben@other.yy.example", b"550 5.1.1"),
    )
    host.submit("a@xx.example", ["eve@yy.example"], MESSAGE)  # our own users may write to anybody


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"domains": ["xx.example"]}, "[backup_mx] domains: xx.example is ours"),
        ({"domains": ["*"]}, "[backup_mx] domains: must be domains"),
        ({"domains": ["b@yy.example"]}, "[backup_mx] domains: must be domains"),
        ({"domains": ["y y"]}, '[backup_mx] domains: "y y" is no address'),
        ({"recipients_file": "/nonexistent"}, "[backup_mx] recipients_file: /nonexistent: "),
        ({"recipients": []}, "[backup_mx] recipients: unknown key; did you mean recipients_file?"),
    ],
)
def test_mistakes_are_told_at_start(internet: Internet, table: Any, fault: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        backup(internet, **table)
    assert fault in str(told.value)
