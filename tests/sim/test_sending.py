"""Whole servers send to each other and to domains whose exchangers lead astray, as their files tell them to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailhub.interfaces import MailExchanger
from mailhub.testing.hubs import Internet

MESSAGE = b"From: a@xx.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=8) as made:
        yield made


@pytest.mark.parametrize("how", ["address", "name", "preference"])
def test_mail_for_a_domain_whose_exchanger_is_ourselves_comes_back_at_once(internet: Internet, how: str) -> None:
    """By the public address that the file names; by what the server calls itself; by the name in the record."""
    config = {"relay": {"own_addresses": ["192.0.2.25"]}} if how == "address" else {}
    xx = internet.hub("xx.example", ["a"], config)
    other = internet.hub("other.example", ["b"])
    front = xx.hostname if how == "preference" else "front.example"
    internet.resolver.exchangers["zz.example"] = [MailExchanger(10, front), MailExchanger(20, other.hostname)]
    internet.resolver.hosts["front.example"] = ["192.0.2.25" if how == "address" else xx.address]
    xx.submit("a@xx.example", ["b@zz.example"], MESSAGE)
    internet.run(60)
    (report,) = xx.inbox("a@xx.example")
    assert b"\r\nAction: failed\r\n" in report
    assert b"\r\nStatus: 5.4.6\r\n" in report
    assert xx.queued() == []


def test_connections_come_from_the_address_that_the_file_names(internet: Internet) -> None:
    config = {"relay": {"source_address": ["192.0.2.1"]}, "route": {"zz.example": {"source_address": ["192.0.2.2"]}}}
    xx = internet.hub("xx.example", ["a"], config)
    yy, zz = internet.hub("yy.example", ["b"]), internet.hub("zz.example", ["c"])
    xx.submit("a@xx.example", ["b@yy.example", "c@zz.example"], MESSAGE)
    internet.run(60)
    (to_yy,), (to_zz,) = yy.inbox("b@yy.example"), zz.inbox("c@zz.example")
    assert b"([192.0.2.1])" in to_yy.partition(b"Subject")[0]
    assert b"([192.0.2.2])" in to_zz.partition(b"Subject")[0]


def test_no_server_gets_more_recipients_than_it_takes(internet: Internet) -> None:
    """RFC 9422: 100, of which the sender is told at EHLO."""
    config = {"limits": {"relay_recipients_per_transaction": 1000}}
    xx = internet.hub("xx.example", ["a"], config)
    taking = {"limits": {"recipients_per_message": 100}, "aliases": {"@yy.example": ["b@yy.example"]}}
    yy = internet.hub("yy.example", ["b"], taking)
    xx.submit("a@xx.example", [f"u{number}@yy.example" for number in range(250)], MESSAGE)
    internet.run(60)
    assert xx.queued() == []
    # Each of three transactions is one message to the only mailbox behind it.
    assert len(yy.inbox("b@yy.example")) == 3
    assert xx.inbox("a@xx.example") == []
