"""Clients that send over the network in memory, whatever becomes of their connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailhub.message.address import Address
from mailhub.message.envelope import FutureRelease, Mail, State
from mailhub.testing.clients import Service
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.wires import Trouble

HOUR = 3600
MESSAGE = b"From: a@xx.example\r\nSubject: hello\r\nMessage-ID: <1@xx.example>\r\n\r\n" + b"How are you?\r\n" * 20
SERVICES: tuple[Service, ...] = ("smtp", "lmtp", "submission", "submissions")
STRIKES = [("greeting", "reply"), ("body", "command"), ("end", "after")]
STRIKES += [
    (stage, side)
    for stage in ("EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "end")
    for side in ("command", "reply")
]


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    with Internet(1, folder=tmp_path, poll_seconds=HOUR) as made:
        yield made


def host(internet: Internet, *off: str) -> Host:
    config = {"database": {"type": "inline"}, "smtp": {"extensions_off": list(off)}}
    made = internet.hub("xx.example", ["b", "c"], config)
    made.add_account("a@xx.example", "secret")
    return made


def send(host: Host, service: Service, *names: str, **mail: Any) -> Any:
    login = ("a@xx.example", "secret") if service.startswith("submission") else ()
    said = Mail(Address("a", "xx.example"), **mail) if mail else None
    return host.client(service, *login).send("a@xx.example", [f"{name}@xx.example" for name in names], MESSAGE, said)


def once(internet: Internet, trouble: Trouble) -> None:
    left = [trouble]
    internet.network.trouble = lambda source, host, port: left.pop() if left else None


@pytest.mark.parametrize("off", [(), ("CHUNKING",), ("CHUNKING", "PIPELINING", "DSN")], ids=["BDAT", "DATA", "bare"])
@pytest.mark.parametrize("service", SERVICES)
def test_each_recipient_has_its_answer(internet: Internet, service: Service, off: tuple[str, ...]) -> None:
    xx = host(internet, *off)
    sending = send(xx, service, "b", "nobody", "c")
    internet.run(10)
    assert [answer.state for answer in sending.answers.values()] == [State.DELIVERED, State.FAILED, State.DELIVERED]
    assert [str(named.address) for named in sending.taken] == ["b@xx.example", "c@xx.example"]
    (got,) = xx.inbox("b@xx.example")
    secure = {"smtp": b"with ESMTPS", "lmtp": b"with LMTPS"}.get(service, b"with ESMTPSA")
    assert secure in got.partition(b"\r\nFrom:")[0]
    assert internet.network.open_connections == ()


@pytest.mark.parametrize("kind", ["reset", "silent", "slow"])
@pytest.mark.parametrize(("stage", "side"), STRIKES)
@pytest.mark.parametrize("service", SERVICES)
def test_what_breaks_is_sent_again_and_kept_once(
    internet: Internet, service: Service, stage: str, side: Any, kind: Any
) -> None:
    xx = host(internet)
    once(internet, Trouble(kind, stage, side))
    sending = send(xx, service, "b", "c")
    internet.run(2 * HOUR)
    assert len(sending.taken) == 2
    assert (len(xx.inbox("b@xx.example")), len(xx.inbox("c@xx.example"))) == (1, 1)


@pytest.mark.parametrize("service", SERVICES)
def test_who_forgets_what_he_was_told_sends_again_and_it_is_kept_once(internet: Internet, service: Service) -> None:
    xx = host(internet)
    sending = send(xx, service, "b", "nobody", "c")
    sending.forgets = True
    internet.run(HOUR)
    assert (sending.attempts, len(sending.taken)) == (2, 2)
    assert (len(xx.inbox("b@xx.example")), len(xx.inbox("c@xx.example"))) == (1, 1)


def test_a_login_is_shown_to_no_server_whose_certificate_is_bad(internet: Internet) -> None:
    xx = host(internet)
    internet.network.expired.add(xx.address)
    sending = send(xx, "submission", "b")
    internet.run(HOUR)
    assert sending.taken == []
    internet.network.expired.clear()
    internet.run(HOUR)
    assert len(xx.inbox("b@xx.example")) == 1


def test_mail_may_be_for_later(internet: Internet) -> None:
    xx = host(internet)
    sending = send(xx, "submission", "b", hold=FutureRelease(2 * HOUR, "FOR"))
    internet.run(HOUR)
    assert (len(sending.taken), xx.inbox("b@xx.example")) == (1, [])
    internet.run(2 * HOUR)
    assert len(xx.inbox("b@xx.example")) == 1
