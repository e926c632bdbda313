"""The whole story with real servers and real clients: A at XX submits, XX relays to YY, B reads."""

from __future__ import annotations

import email
import re
from pathlib import Path

import pytest

from mailhub.testing.process import ServerProcess, run
from tests.system.conftest import need
from tests.system.octets import split_trace

pytestmark = pytest.mark.system

A, B = "a@xx.example", "b@yy.example"
TwoHubs = tuple[ServerProcess, ServerProcess]


def submit(xx: ServerProcess, subject: str, *more: str) -> None:
    """A's message, from swaks over STARTTLS submission."""
    need("swaks")
    run(
        *("swaks", "--server", "127.0.0.1", "--port", str(xx.ports["submission"]), "--tls"),
        *("--auth", "PLAIN", "--auth-user", A, "--auth-password", xx.accounts[A]),
        *("--from", A, "--to", B, "--header", f"Subject: {subject}", "--body", f"Dear B,\nthis is {subject}\n.\nA"),
        *more,
    )


def mbsync(yy: ServerProcess, home: Path) -> Path:
    """One device: a Maildir that mbsync keeps like the server's INBOX, both ways. Returns the Maildir."""
    need("mbsync")
    home.mkdir(exist_ok=True)
    (home / "mail").mkdir(exist_ok=True)
    (home / "mbsyncrc").write_text(
        f"""
IMAPAccount yy
Host 127.0.0.1
Port {yy.ports["imaps"]}
User {B}
Pass "{yy.accounts[B]}"
SSLType IMAPS
CertificateFile {yy.folder}/fullchain.pem

IMAPStore remote
Account yy

MaildirStore local
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel yy
Far :remote:
Near :local:
Patterns INBOX Sent
Create Both
Expunge Both
SyncState *
"""
    )
    run("mbsync", "-c", home / "mbsyncrc", "-a", env={"HOME": str(home)})
    return home / "mail" / "INBOX"


def maildir(folder: Path) -> dict[str, str]:
    """Subject -> Maildir flags."""
    found = {}
    for path in [*folder.glob("cur/*"), *folder.glob("new/*")]:
        message = email.message_from_bytes(path.read_bytes())
        found[str(message["Subject"])] = path.name.partition(":2,")[2]
    return found


def fetchmail(yy: ServerProcess, home: Path, *options: str) -> list[bytes]:
    """B reads by POP3 over TLS; returns the messages fetched, in order."""
    need("fetchmail")
    home.mkdir(exist_ok=True)
    spool = home / "spool"
    spool.mkdir(exist_ok=True)
    rc = home / "fetchmailrc"
    rc.write_text(
        f"poll 127.0.0.1 protocol POP3 port {yy.ports['pop3s']} uidl\n"
        f' user "{B}" password "{yy.accounts[B]}" ssl no sslcertck {" ".join(options)}\n'
        f' mda "tee {spool}/$(date +%s%N).eml >{home}/last"\n'
    )
    rc.chmod(0o600)
    done = run(
        *("fetchmail", "-f", rc, "--nosyslog", "--nodetach", "--invisible", "--pidfile", home / "pid"),
        check=False,
        env={"HOME": str(home), "FETCHMAILHOME": str(home)},
    )
    # 0: fetched; 1: there was no mail.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [path.read_bytes() for path in sorted(spool.iterdir())]


def test_a_writes_to_b_who_reads_by_imap_on_two_devices(two_hubs: TwoHubs, tmp_path: Path) -> None:
    xx, yy = two_hubs
    submit(xx, "first")
    submit(xx, "second")
    arrived = yy.wait_for_messages(B, 2)

    top, message = split_trace(next(m for m in arrived if b"Subject: first" in m))
    assert b"\r\n\r\nDear B,\r\nthis is first\r\n.\r\nA\r\n" in message
    assert top.startswith(b"Return-Path: <a@xx.example>\r\n")
    received = re.findall(rb"Received: .*?by (\S+) .*?with (\S+)", top, re.DOTALL)
    assert [(by, protocol) for by, protocol in received] == [
        (b"mx.yy.example", b"ESMTPS"),
        (b"mx.xx.example", b"ESMTPSA"),
    ]

    # The laptop reads one and keeps both; the phone sees it read, flags the other, and throws the first away.
    laptop = mbsync(yy, tmp_path / "laptop")
    assert set(maildir(laptop)) == {"first", "second"}
    first = next(p for p in laptop.glob("*/*") if b"Subject: first" in p.read_bytes())
    first.rename(laptop / "cur" / (first.name.partition(":")[0] + ":2,S"))
    mbsync(yy, tmp_path / "laptop")
    phone = mbsync(yy, tmp_path / "phone")
    assert maildir(phone) == {"first": "S", "second": ""}
    second = next(p for p in phone.glob("*/*") if b"Subject: second" in p.read_bytes())
    second.rename(phone / "cur" / (second.name.partition(":")[0] + ":2,F"))
    next(p for p in phone.glob("*/*") if b"Subject: first" in p.read_bytes()).unlink()
    mbsync(yy, tmp_path / "phone")
    mbsync(yy, tmp_path / "laptop")
    assert maildir(laptop) == {"second": "F"}


def test_a_writes_to_b_who_reads_by_pop3(two_hubs: TwoHubs, tmp_path: Path) -> None:
    xx, yy = two_hubs
    submit(xx, "for the pop")
    (stored,) = yy.wait_for_messages(B, 1)

    kept = fetchmail(yy, tmp_path / "keeper", "keep", "fetchall")
    assert len(kept) == 1
    assert b"this is for the pop" in kept[0]
    assert yy.messages(B) == [stored], "keep means keep"

    taken = fetchmail(yy, tmp_path / "taker", "nokeep", "fetchall")
    assert len(taken) == 1
    assert yy.messages(B) == [], "gone for every device"
    assert fetchmail(yy, tmp_path / "late", "nokeep", "fetchall") == []


def test_getmail_takes_and_deletes(two_hubs: TwoHubs, tmp_path: Path) -> None:
    need("getmail")
    xx, yy = two_hubs
    submit(xx, "for getmail")
    yy.wait_for_messages(B, 1)
    (tmp_path / "getmailrc").write_text(
        f"[retriever]\ntype = SimplePOP3SSLRetriever\nserver = 127.0.0.1\nport = {yy.ports['pop3s']}\n"
        f"username = {B}\npassword = {yy.accounts[B]}\n[destination]\ntype = MDA_external\n"
        f'path = /usr/bin/tee\narguments = ("{tmp_path}/taken",)\nallow_root_commands = true\n'
        "[options]\ndelete = true\ndelivered_to = false\nreceived = false\n"
    )
    run("getmail", f"--getmaildir={tmp_path}", f"--rcfile={tmp_path}/getmailrc")
    assert b"Subject: for getmail" in (tmp_path / "taken").read_bytes()
    assert yy.messages(B) == []


def test_b_answers_and_an_unknown_recipient_comes_back_as_a_dsn(two_hubs: TwoHubs) -> None:
    xx, yy = two_hubs
    need("swaks")
    common = ("swaks", "--server", "127.0.0.1", "--auth", "LOGIN", "--body", "hello")
    run(
        *common,
        *("--port", str(yy.ports["submissions"]), "--tls-on-connect", "--from", B, "--to", f"{A},nobody@xx.example"),
        *("--auth-user", B, "--auth-password", yy.accounts[B], "--header", "Subject: answer"),
    )
    (answer,) = xx.wait_for_messages(A, 1)
    assert b"Subject: answer" in answer
    (report,) = yy.wait_for_messages(B, 1)
    bounced = email.message_from_bytes(report)
    assert bounced.get_content_type() == "multipart/report"
    assert bounced["Return-Path"] == "<>"
    status = bounced.get_payload()[1].get_payload()[1]  # type: ignore[index, union-attr]
    assert status["Final-Recipient"].endswith("nobody@xx.example")  # type: ignore[index]
    assert status["Status"] == "5.1.1"  # type: ignore[index]
