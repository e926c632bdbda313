"""What the standards promise a client, looked at from outside over real TCP and TLS."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

import imapclient  # type: ignore[import-untyped]
import pytest

from mailhub.testing.corpus import corpus
from mailhub.testing.process import DEADLINE, ServerProcess, insecure_tls

pytestmark = pytest.mark.system

A, B, Q = "a@xx.example", "b@xx.example", "q@xx.example"
WORD = "word"
QUOTA = 20_000
SMTP = {
    *("pipelining", "size", "8bitmime", "smtputf8", "enhancedstatuscodes", "help", "chunking", "binarymime", "dsn"),
    *("deliverby", "mt-priority", "rrvs", "limits"),
}
SUBMISSION = SMTP | {"futurerelease"}
POP3 = {"TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE", "IMPLEMENTATION"}
IMAP = {"IMAP4REV1", "LITERAL+", "ID", "ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT", "CHILDREN"}
IMAP |= {"SPECIAL-USE"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("standards") / "xx", "xx.example", {A: WORD, B: WORD})
    server.prepare()
    server.command("account", "add", Q, "--password-stdin", "--quota-bytes", str(QUOTA), stdin=WORD + "\n")
    server.accounts = {**server.accounts, Q: WORD}
    server.start()
    yield server
    server.stop()


def submission(hub: ServerProcess, user: str = A) -> smtplib.SMTP:
    client = smtplib.SMTP_SSL("127.0.0.1", hub.ports["submissions"], context=insecure_tls(), timeout=DEADLINE)
    client.login(user, WORD)
    return client


# --- What is offered is true in every state --------------------------------------------------------------------------


def offered(client: smtplib.SMTP) -> set[str]:
    client.ehlo("client.example")
    return set(client.esmtp_features)


def test_what_smtp_offers(hub: ServerProcess) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as client:
        assert offered(client) == SMTP | {"starttls"}
        client.starttls(context=insecure_tls())
        assert offered(client) == SMTP | {"requiretls"}
        assert client.docmd("STARTTLS")[0] == 503
        assert client.docmd("AUTH", "PLAIN")[0] == 502
        assert client.helo("x") == (250, b"mx.xx.example")


def test_what_submission_offers(hub: ServerProcess) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["submission"], timeout=DEADLINE) as client:
        assert offered(client) == SUBMISSION | {"starttls"}
        assert client.docmd("AUTH", "PLAIN AGEAYg==") == (530, b"5.7.0 Issue STARTTLS first")
        client.starttls(context=insecure_tls())
        assert client.docmd("MAIL", f"FROM:<{A}>")[0] == 503, "RFC 3207 4.2: the session begins anew"
        assert offered(client) == SUBMISSION | {"auth", "requiretls"}
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        assert client.docmd("MAIL", f"FROM:<{A}>")[0] == 530
        client.login(A, WORD)
        assert offered(client) == SUBMISSION | {"requiretls"}
        assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 503


def test_what_pop3_offers(hub: ServerProcess) -> None:
    client = poplib.POP3("127.0.0.1", hub.ports["pop3"], timeout=DEADLINE)
    assert set(client.capa()) == POP3 | {"STLS"}
    with pytest.raises(poplib.error_proto):
        client.user(A)
    client.stls(context=insecure_tls())
    assert set(client.capa()) == POP3 | {"USER", "SASL"}
    client.user(A)
    client.pass_(WORD)
    assert set(client.capa()) == POP3 | {"USER", "SASL"}, "RFC 2449 5: the same in both states"
    client.quit()


def test_a_maildrop_is_free_when_quit_is_answered(hub: ServerProcess) -> None:
    clients = []
    for _ in range(2):
        client = poplib.POP3_SSL("127.0.0.1", hub.ports["pop3s"], context=insecure_tls(), timeout=DEADLINE)
        clients.append(client)
        client.user(A)
        assert client.pass_(WORD).startswith(b"+OK")
        # Unlike quit(), this leaves the client's side of the connection open.
        assert client._shortcmd("QUIT").startswith(b"+OK")  # type: ignore[attr-defined]
    for client in clients:
        client.close()


def capabilities(client: imaplib.IMAP4) -> set[str]:
    _, lines = client.capability()
    return set(lines[-1].decode().upper().split())


def test_what_imap_offers(hub: ServerProcess) -> None:
    client = imaplib.IMAP4("127.0.0.1", hub.ports["imap"], timeout=DEADLINE)
    assert capabilities(client) == IMAP | {"SASL-IR", "STARTTLS", "LOGINDISABLED"} == set(client.capabilities)
    with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
        client.login(A, WORD)
    client.starttls(insecure_tls())
    assert capabilities(client) == IMAP | {"SASL-IR", "AUTH=PLAIN", "AUTH=LOGIN"}
    client.login(A, WORD)
    assert capabilities(client) == IMAP
    client.logout()


# --- Structure -------------------------------------------------------------------------------------------------------


def leaves(structure: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The part numbers of RFC 3501 6.4.5 with the body-fields of each part that has octets of its own."""
    if isinstance(structure[0], list | tuple):
        # IMAPClient puts the parts of a multipart into a list, but not inside a message/rfc822.
        parts = structure[0] if isinstance(structure[0], list) else takewhile(lambda s: isinstance(s, tuple), structure)
        for number, part in enumerate(parts, 1):
            yield from leaves(part, (*path, number))
        return
    yield path or (1,), structure
    if (structure[0].lower(), structure[1].lower()) == (b"message", b"rfc822"):
        inner = structure[8]
        yield from leaves(inner, path or (1,)) if isinstance(inner[0], list | tuple) else ()


def test_every_part_of_varied_messages_is_what_bodystructure_says(hub: ServerProcess) -> None:
    with imapclient.IMAPClient("127.0.0.1", hub.ports["imaps"], ssl_context=insecure_tls(), timeout=DEADLINE) as client:
        client.login(B, WORD)
        client.create_folder("corpus")
        for octets in corpus(1939, 80):
            if octets:
                client.append("corpus", octets)
        client.select_folder("corpus", readonly=True)
        answers = client.fetch(client.search(), ["ENVELOPE", "BODYSTRUCTURE", "BODY", "RFC822.SIZE"])
        assert len(answers) >= 75
        for uid, answer in answers.items():
            parts = dict(leaves(answer[b"BODYSTRUCTURE"]))
            names = [".".join(map(str, path)) for path in parts]
            found = client.fetch([uid], ["BODY.PEEK[]", *(f"BODY.PEEK[{name}]" for name in names[:100])])[uid]
            assert len(found[b"BODY[]"]) == answer[b"RFC822.SIZE"]
            for name, fields in zip(names[:100], parts.values(), strict=False):
                content = found[b"BODY[%b]" % name.encode()]
                assert len(content) == fields[6], (uid, name)
                assert content in found[b"BODY[]"]
                if fields[0].lower() == b"text":
                    assert content.count(b"\n") == fields[7], (uid, name)


# --- Quota -----------------------------------------------------------------------------------------------------------


def texts(octets: Iterable[Any]) -> str:
    return b" ".join(part for part in octets if isinstance(part, bytes)).decode()


def test_quota_from_rcpt_to_expunge(hub: ServerProcess) -> None:
    too_much, fitting = b"Subject: q\r\n\r\n" + b"x" * QUOTA, b"Subject: q\r\n\r\n" + b"x" * (QUOTA - 2000)
    with submission(hub) as sender, hub.imap(Q) as imap:
        # Declared, it is refused at RCPT; not declared, at the end of the data; for one of two, by a DSN.
        sender.mail(A, [f"SIZE={len(too_much)}"])
        assert sender.rcpt(Q) == (552, b"5.2.2 Mailbox is full")
        sender.rset()
        sender.mail(A)
        sender.rcpt(Q)
        assert sender.data(too_much) == (552, b"5.2.2 Mailbox is full")
        sender.mail(A)
        sender.rcpt(Q)
        sender.rcpt(B)
        assert sender.data(too_much)[0] == 250
        (report,) = hub.wait_for_messages(A, 1)
        assert b"\r\nFinal-Recipient: rfc822; q@xx.example\r\nAction: failed\r\nStatus: 5.2.2\r\n" in report
        assert report.startswith(b"Return-Path: <>\r\n")
        sender.sendmail(A, [Q], fitting)

        assert imap.select() == ("OK", [b"1"])
        for kind, data in (imap.append("INBOX", "", "", fitting), imap.copy("1", "Trash")):
            assert (kind, texts(data)[:11]) == ("NO", "[OVERQUOTA]")
        assert imap.uid("MOVE", "1", "Trash")[0] == "OK", "what moves needs no room"
        imap.select("Trash")
        imap.store("1", "+FLAGS", "\\Deleted")
        imap.expunge()
        assert imap.append("INBOX", "", "", fitting)[0] == "OK"
