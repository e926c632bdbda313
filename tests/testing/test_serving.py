"""The server for tests of applications, without pytest's help, in a process of its own; what it is with pytest, and on
a reactor in a thread, is in test_pytest_plugin.py."""

from __future__ import annotations

import imaplib
import inspect
import json
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailhub.testing import server
from mailhub.testing.serving import TestServer

HELLO = b"From: ben@yy.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"
BEN = "ben@yy.example"
BOB = "bob@example.test"


@pytest.fixture(scope="module")
def running() -> Iterator[TestServer]:
    with server(process=True) as found:
        yield found


@pytest.fixture
def mail(running: TestServer) -> TestServer:
    running.clear()
    return running


def test_mail_for_an_account_is_taken_and_shown(mail: TestServer) -> None:
    mail.add_account(BOB)
    with smtplib.SMTP(*mail.address()) as client:
        client.sendmail(BEN, [BOB], HELLO)
    (message,) = mail.wait_for(1, inbox=BOB)
    assert message["Subject"] == "hello"
    assert message.get_content() == "How are you?\n"
    assert message.octets.endswith(HELLO)
    assert (message.sender, message.recipients, message.mailbox) == (BEN, (BOB,), "INBOX")
    assert [each.octets for each in mail.inbox("BOB@Example.Test")] == [message.octets]
    assert mail.outbox == []


def test_nobody_else_gets_mail(mail: TestServer) -> None:
    with smtplib.SMTP(*mail.address()) as client:
        for recipient in (BOB, "somebody@gmail.com"):
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail(BEN, [recipient], HELLO)
    assert mail.messages == []


def test_everybody_gets_mail_on_request(mail: TestServer) -> None:
    mail.accept_any = True
    recipients = [BOB, "somebody@gmail.com", "änn@exämple.example"]
    with smtplib.SMTP(*mail.address()) as client:
        client.sendmail(BEN, recipients, HELLO, ["SMTPUTF8"])
    assert [[each["Subject"] for each in mail.inbox(user)] for user in recipients] == [["hello"]] * 3
    mail.clear()
    assert not mail.accept_any
    assert mail.messages == []
    with smtplib.SMTP(*mail.address()) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail(BEN, ["somebody@gmail.com"], HELLO)


def test_what_would_leave_is_caught(mail: TestServer) -> None:
    with smtplib.SMTP(*mail.address("submission")) as client:
        client.login(mail.user, mail.password)
        client.sendmail(mail.user, ["somebody@gmail.com", mail.user], HELLO)
    mail.wait_for(2)
    (message,) = mail.outbox
    assert (message.sender, message.recipients, message.mailbox) == (mail.user, ("somebody@gmail.com",), "")
    assert len(mail.inbox()) == 1


def test_clients_can_trust_it(mail: TestServer) -> None:
    context = mail.ssl_context()
    with smtplib.SMTP("localhost", mail.ports["submission"]) as client:
        client.starttls(context=context)
        client.login(mail.user, mail.password)
    with smtplib.SMTP_SSL(*mail.address("submissions"), context=context) as client:
        client.login(mail.user, mail.password)
        client.sendmail(mail.user, [mail.user], HELLO)
    with imaplib.IMAP4_SSL(*mail.address("imaps"), ssl_context=context) as reader:
        reader.login(mail.user, mail.password)
        assert reader.select() == ("OK", [b"1"])
    maildrop = poplib.POP3_SSL(*mail.address("pop3s"), context=context)
    maildrop.user(mail.user)
    maildrop.pass_(mail.password)
    assert maildrop.stat()[0] == 1
    maildrop.quit()
    with pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL(*mail.address("submissions"), context=ssl.create_default_context())


def test_urls_say_all_that_a_client_must_know(mail: TestServer) -> None:
    mail.add_account(BOB, "p@ss")
    assert mail.url("smtp") == f"smtp://127.0.0.1:{mail.ports['smtp']}"
    assert mail.url("submission", BOB) == f"smtp://bob%40example.test:p%40ss@127.0.0.1:{mail.ports['submission']}"
    assert mail.urls["imaps"].startswith("imaps://user%40example.test:secret@")
    assert len(set(mail.ports.values())) == 8


def test_waiting_ends_when_it_comes_or_when_time_is_over(mail: TestServer) -> None:
    with smtplib.SMTP(*mail.address()) as client:
        client.sendmail(BEN, [mail.user], HELLO)
    assert [each["Subject"] for each in mail.wait_for(lambda message: "hello" in message["Subject"])] == ["hello"]
    assert len(mail.wait_for(lambda: mail.inbox())) == 1
    with pytest.raises(
        AssertionError, match=r"2 messages did not come within 0 seconds; there are 1: \[<hello to user"
    ):
        mail.wait_for(2, timeout=0)
    with pytest.raises(AssertionError, match=r"no message for bob@example\.test that was wanted came"):
        mail.wait_for(lambda message: True, timeout=0, inbox=BOB)


def test_a_mistake_is_told(mail: TestServer) -> None:
    with pytest.raises(ValueError, match="no address: address has no @"):
        mail.add_account("no address")
    with pytest.raises(
        ValueError, match=r"bob@other\.test: its domain is none of the server's, which are example\.test"
    ):
        mail.add_account("bob@other.test")
    with pytest.raises(ValueError, match=r"there is no service 'smpt'; there are .*smtp"):
        mail.address("smpt")
    with pytest.raises(ValueError, match="there is no service 'smpt'"):
        mail.url("smpt")
    wait_for: Any = mail.wait_for
    with pytest.raises(TypeError, match=r"wait_for\(\) takes a number of messages or a function, not 'x'"):
        wait_for("x")
    assert [mail.user] == list(mail._passwords)


def test_an_account_in_any_domain_where_all_are_taken(mail: TestServer) -> None:
    mail.accept_any = True
    mail.add_account("bob@other.test")
    with smtplib.SMTP(*mail.address("submission")) as client:
        client.login("bob@other.test", "secret")


@pytest.mark.parametrize(
    ("domains", "words"),
    [
        ("foo.example", r"domains must be a list of domains, such as \['foo.example'\]"),
        (["a.test,", "b.test"], "'a.test,' is no domain"),
        ([], "a server has one at least"),
    ],
)
def test_what_is_no_list_of_domains_is_told(domains: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words), server(domains=domains, process=True):
        pass


def test_the_first_account_is_in_one_of_the_domains() -> None:
    with server(domains=["foo.example"], process=True) as found:
        assert found.user == "user@foo.example"
        with smtplib.SMTP(*found.address()) as client:
            client.sendmail(BEN, [found.user], HELLO)
        assert len(found.inbox()) == 1
    with pytest.raises(ValueError, match="its domain is none"), server(user="ann@other.test", process=True):
        pass


def test_the_documentation_has_the_signatures() -> None:
    text = (Path(__file__).parents[2] / "docs" / "testing.rst").read_text()
    for name in ("address", "url", "add_account", "inbox", "wait_for"):
        signature = inspect.signature(getattr(TestServer, name))
        wanted = ", ".join(
            [
                *(_parameter(each) for each in signature.parameters.values() if _is(each, "POSITIONAL_OR_KEYWORD")),
                *(["*"] if any(_is(each, "KEYWORD_ONLY") for each in signature.parameters.values()) else []),
                *(_parameter(each) for each in signature.parameters.values() if _is(each, "KEYWORD_ONLY")),
            ]
        )
        assert f"``mailhub.{name}({wanted})``" in text


def _is(parameter: inspect.Parameter, kind: str) -> bool:
    return parameter.name != "self" and parameter.kind.name == kind


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return parameter.name
    return f"{parameter.name}={json.dumps(parameter.default)}"
