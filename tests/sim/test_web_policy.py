"""The policy "http" against a scripted program, and the program that is shown."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mailhub.errors import ConfigurationError, TemporaryError
from mailhub.net.https import WebAddress, WebService
from mailhub.net.tls import ClientTls
from mailhub.testing.hubs import Host, Internet
from mailhub.wire.http import Answer
from tests.net.certificate_chains import issue
from tests.net.website import Website
from tests.sim.peers import (
    HANGS,
    MESSAGE,
    Dies,
    Peer,
    body_of,
    configured,
    dialogue,
    fields_of,
    json_answer,
    kept,
    sent,
    whole_request,
)

PLACE = ("10.7.7.7", 8025)
ACCEPT = json_answer({"action": "accept"})
EVERY = ["connect", "hello", "mail", "recipient", "message"]


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


def hub(internet: Internet, *answers: Any, **options: Any) -> tuple[Host, Peer]:
    given = [json_answer(each) if isinstance(each, dict) else each for each in answers]
    program = Peer(whole_request, given)
    internet.network.listen(*PLACE, program)
    config = configured("http", {"url": f"http://{PLACE[0]}:{PLACE[1]}/ask?x=1", **options})
    return internet.hub("xx.example", ["ann", "ben"], config=config), program


def asked(program: Peer) -> list[dict[str, Any]]:
    return [json.loads(body_of(each)) for each in program.asked]


def test_every_stage_is_asked_over_one_connection(internet: Internet, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    host, program = hub(internet, ACCEPT, stages=EVERY, token_file=str(token), body_octets=1000)
    assert dialogue(internet, host, to=("ann", "ben"))[-1].startswith("250 ")
    assert program.connections == 1
    assert program.asked[0].startswith(b"POST /ask?x=1 HTTP/1.1\r\n")
    assert fields_of(program.asked[0])["authorization"] == "Bearer s3cret"
    told = asked(program)
    assert [each["stage"] for each in told] == ["connect", "hello", "mail", "recipient", "recipient", "message"]
    client = told[-1]["client"]
    assert client.pop("session")
    assert client == {"address": "10.9.9.9", "local": client["local"], "service": "smtp", "helo": "c.example"}
    assert {key: told[-1][key] for key in ("version", "server", "tls", "login")} == {
        "version": 1,
        "server": "mx.xx.example",
        "tls": "",
        "login": "",
    }
    assert told[4]["envelope"] == {
        "sender": "a@yy.example",
        "recipients": ["ann@xx.example"],
        "recipient": "ben@xx.example",
        "smtputf8": False,
    }
    message = told[-1]["message"]
    assert b64decode(message.pop("body")) == b"\r\nHow are you?\r\n"
    assert message == {"header": "Subject: hello\r\n", "octets": len(MESSAGE), "whole": True}


def test_no_more_of_a_body_is_told_than_is_wanted(internet: Internet) -> None:
    host, program = hub(internet, ACCEPT)
    assert sent(internet, host).startswith("250 ")
    [told] = asked(program)
    assert (told["message"]["body"], told["message"]["whole"]) == ("", False)


@pytest.mark.parametrize("stage", EVERY)
@pytest.mark.parametrize(("action", "code"), [("reject", "5"), ("defer", "4")])
def test_every_stage_can_refuse(internet: Internet, stage: str, action: str, code: str) -> None:
    answer = {"action": action, "status": f"{code}.7.9", "text": "Not\r\nyou", "rule": "why"}
    host, _ = hub(internet, answer, stages=[stage])
    if stage == "connect":
        caller = internet.call(host, "smtp")
        assert caller.expect(b"").startswith(
            {"reject": b"554 ", "defer": b"421 "}[action] + f"{code}.7.9 Not you".encode()
        )
        return
    answers = dialogue(internet, host)
    assert f"{code}.7.9 Not you (why)" in " ".join(answers)
    assert not kept(internet, host)


@pytest.mark.parametrize("action", ["discard", "quarantine"])
def test_messages_are_dropped_or_junk(internet: Internet, action: str) -> None:
    host, _ = hub(internet, {"action": action})
    assert sent(internet, host).startswith("250 ")
    assert (len(kept(internet, host)), len(kept(internet, host, "Junk"))) == (0, action == "quarantine")


def test_every_edit_is_carried_out(internet: Internet) -> None:
    body = b64encode(b"Other\r\n").decode()
    edits: list[dict[str, object]] = [
        {"do": "add", "name": "X-Top", "value": "1"},
        {"do": "insert", "name": "X-End", "value": "2", "place": -1},
        {"do": "replace", "name": "Subject", "number": 1, "value": "other"},
        {"do": "remove", "name": "X-Old", "number": 0},
        {"do": "sender", "address": ""},
        {"do": "add-recipient", "address": "ben@xx.example"},
        {"do": "result", "result": "x-ours=pass"},
        {"do": "body", "base64": body},
    ]
    host, _ = hub(internet, {"action": "accept", "edits": edits})
    assert sent(internet, host, b"X-Old: 1\r\n" + MESSAGE).startswith("250 ")
    [message] = kept(internet, host)
    assert message == (
        b"Authentication-Results: mx.xx.example;\r\n\tx-ours=pass\r\n"
        b"X-Top: 1\r\nSubject: other\r\nX-End: 2\r\n\r\nOther\r\n"
    )
    [whole] = host.inbox("ben@xx.example")
    assert whole.startswith(b"Return-Path: <>\r\n")


def test_a_status_204_accepts(internet: Internet) -> None:
    host, _ = hub(internet, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [sent(internet, host)[:3] for _ in range(2)] == ["250", "250"]


BAD_EDITS: list[Any] = [
    {},
    [{"do": "add", "name": "X"}],
    [{"do": "add", "name": "X", "value": "a\r\nb"}],
    [{"do": "insert", "name": "X", "value": "a", "place": True}],
    [{"do": "sender", "address": "nobody"}],
    [{"do": "body", "base64": "*"}],
    [{"do": ["add"]}],
    [{"do": "add", "name": "X", "value": "1"}] * 201,
]

TROUBLE = [
    HANGS,
    Dies,
    b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n" + b" " * 1048577,
    b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    json_answer(b"[" * 100_000),
    json_answer({}),
    json_answer({"action": ["accept"]}),
    json_answer({"action": "dance"}),
    json_answer({"action": "accept", "mood": "good"}),
    json_answer({"action": "reject", "text": 5}),
    *[json_answer({"action": "accept", "edits": edits}) for edits in BAD_EDITS],
]


@pytest.mark.parametrize("answer", TROUBLE)
@pytest.mark.parametrize("failure", ["tempfail", "skip"])
def test_whatever_the_protocol_has_not_goes_by_the_failure_mode(internet: Internet, answer: Any, failure: str) -> None:
    host, program = hub(internet, answer, failure=failure)
    assert sent(internet, host).startswith("451 4.7.1 " if failure == "tempfail" else "250 ")
    program.answers = [ACCEPT]
    assert sent(internet, host).startswith("250 ")


@pytest.mark.parametrize(
    "answer", [Dies, {"action": "dance"}, {"action": "accept", "edits": [{"do": "sender", "address": ""}]}]
)
@pytest.mark.parametrize("failure", ["tempfail", "skip"])
def test_a_failure_when_a_client_connects_goes_by_the_mode_too(internet: Internet, answer: Any, failure: str) -> None:
    host, _ = hub(internet, answer, failure=failure, stages=["connect"])
    caller = internet.call(host, "smtp")
    assert caller.expect(b"").startswith(b"421 " if failure == "tempfail" else b"220 ")


def test_its_options_are_checked_at_start(internet: Internet, tmp_path: Path) -> None:
    two = tmp_path / "two"
    two.write_text("a b")
    bad: list[dict[str, Any]] = [
        {"stages": []},
        {"stages": ["data"]},
        {"token_file": str(two)},
        {"token_file": str(tmp_path / "no")},
    ]
    for options in bad:
        with pytest.raises(ConfigurationError, match=r"policy\.http.*(stages|token_file)"):
            hub(internet, ACCEPT, **options)


def test_over_tls_the_certificate_must_be_for_the_host(internet: Internet, tmp_path: Path) -> None:
    root = issue("root", authority=True)
    file = tmp_path / "root.pem"
    file.write_bytes(root.certificate.public_bytes(Encoding.PEM))
    environment = internet.hub("xx.example").hub.environment
    site = Website(issue("filter.example", root), json_answer({"action": "accept"}))
    site.listen(internet.network, "192.0.3.1", internet.clock)

    async def piece() -> AsyncIterator[bytes]:
        yield b"{}"

    def asked(host: str) -> Answer:
        internet.resolver.hosts[host] = ["192.0.3.1"]
        service = WebService.of(WebAddress.parse(f"https://{host}/"), environment, ClientTls(roots=file))
        return internet.wait(service.post((), 2, piece, 100))

    assert asked("filter.example").body == b'{"action": "accept"}'
    assert site.asked[0].startswith(b"POST / HTTP/1.1\r\nHost: filter.example\r\n")
    with pytest.raises(TemporaryError):
        asked("other.example")
    assert len(site.asked) == 1
