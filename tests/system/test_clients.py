"""Real clients against one hub: msmtp, curl, swaks, smtplib, poplib, imaplib, IMAPClient."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from imapclient import IMAPClient  # type: ignore[import-untyped]

from mailhub.net.certificates import self_signed
from mailhub.testing.process import DEADLINE, ServerProcess, eventually, insecure_tls, run
from tests.system.conftest import need
from tests.system.octets import split_trace

pytestmark = pytest.mark.system

A, B = "a@xx.example", "b@xx.example"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all of these; each test uses mail of its own."""
    server = ServerProcess(tmp_path_factory.mktemp("clients") / "xx", "xx.example", {A: "geheim ä §", B: "word-b"})
    with server:
        yield server


def subjects(hub: ServerProcess, user: str) -> list[bytes]:
    return [line for m in hub.messages(user) for line in m.splitlines() if line.startswith(b"Subject: ")]


def test_msmtp_submits_over_implicit_tls(hub: ServerProcess, tmp_path: Path) -> None:
    need("msmtp")
    rc = tmp_path / "msmtprc"
    rc.write_text(
        f"account default\nhost 127.0.0.1\nport {hub.ports['submissions']}\ntls on\ntls_starttls off\n"
        f"tls_certcheck off\nauth plain\nuser {A}\npassword geheim ä §\nfrom {A}\n"
    )
    rc.chmod(0o600)
    run("msmtp", "-C", rc, B, stdin="To: b@xx.example\nBcc: secret@xx.example\nSubject: by msmtp\n\nhello\n")
    (octets,) = [m for m in hub.wait_for_messages(B, 1) if b"by msmtp" in m]
    _, message = split_trace(octets)
    assert b"secret" not in message
    assert b"\r\nMessage-ID: <" in message or message.startswith(b"Message-ID: <")
    assert b"Date: " in message


def test_curl_sends_and_reads_by_all_three_protocols(hub: ServerProcess, tmp_path: Path) -> None:
    need("curl")
    mail = tmp_path / "mail.eml"
    mail.write_bytes(b"Subject: by curl\r\nFrom: b@xx.example\r\n\r\nbody of curl\r\n")
    login = f"{B}:word-b"
    common = ("curl", "--silent", "--show-error", "--insecure", "--user", login)
    run(
        *common,
        *("--url", f"smtp://127.0.0.1:{hub.ports['submission']}", "--ssl-reqd", "--mail-from", B, "--mail-rcpt", A),
        *("--upload-file", str(mail)),
    )
    run(*common, "--url", f"imaps://127.0.0.1:{hub.ports['imaps']}/Drafts", "--upload-file", mail)
    seen = run(*common, f"imaps://127.0.0.1:{hub.ports['imaps']}/Drafts;UID=1").stdout
    assert seen == "Subject: by curl\nFrom: b@xx.example\n\nbody of curl\n"
    started = run(*common, "--ssl-reqd", f"imap://127.0.0.1:{hub.ports['imap']}/").stdout
    assert '"/" INBOX' in started or '"/" "INBOX"' in started
    assert b"Subject: by curl" in subjects(hub, A)
    numbered = run(
        *("curl", "--silent", "--show-error", "--insecure", "--user", f"{A}:geheim ä §", "--ssl-reqd"),
        f"pop3://127.0.0.1:{hub.ports['pop3']}/",
    ).stdout
    assert numbered.split()[0] == "1"


def test_nothing_takes_a_plaintext_password(hub: ServerProcess) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["submission"], timeout=DEADLINE) as smtp:
        smtp.ehlo()
        assert "auth" not in smtp.esmtp_features
        with pytest.raises(smtplib.SMTPException):
            smtp.login(B, "word-b")
        code, _ = smtp.mail(B)
        assert code == 530
        smtp.starttls(context=insecure_tls())
        smtp.login(B, "word-b")
    imap = imaplib.IMAP4("127.0.0.1", hub.ports["imap"], timeout=DEADLINE)
    assert "LOGINDISABLED" in imap.capabilities
    with pytest.raises(imaplib.IMAP4.error):
        imap.login(B, "word-b")
    imap.starttls(insecure_tls())
    assert "LOGINDISABLED" not in imap.capabilities
    imap.login(B, "word-b")
    imap.logout()
    pop = poplib.POP3("127.0.0.1", hub.ports["pop3"], timeout=DEADLINE)
    assert "USER" not in pop.capa()
    with pytest.raises(poplib.error_proto):
        pop.user(B)
    pop.stls(insecure_tls())
    assert "USER" in pop.capa()
    pop.user(B)
    pop.pass_("word-b")
    pop.quit()


def test_port_25_is_no_open_relay_and_knows_its_users(hub: ServerProcess) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as smtp:
        smtp.ehlo("else.example")
        smtp.mail("s@else.example")
        answers = {
            "x@elsewhere.example": (550, b"5.7.1"),
            "@xx.example:x@elsewhere.example": (550, b"5.7.1"),
            "x%elsewhere.example@xx.example": (550, b"5.1.1"),
            '"x@elsewhere.example"@xx.example': (550, b"5.1.1"),
            "nobody@xx.example": (550, b"5.1.1"),
            "A+detail@XX.example": (250, b"2.1.5"),
        }
        for address, (code, status) in answers.items():
            got = smtp.docmd("RCPT", f"TO:<{address}>")
            assert got[0] == code, (address, got)
            assert got[1].startswith(status), (address, got)


def test_a_sender_must_belong_to_the_login(hub: ServerProcess) -> None:
    with smtplib.SMTP_SSL("127.0.0.1", hub.ports["submissions"], context=insecure_tls(), timeout=DEADLINE) as smtp:
        smtp.login(B, "word-b")
        assert smtp.mail(A)[0] == 550
        assert smtp.mail("b+list@xx.example")[0] == 250


def test_unknown_user_and_wrong_password_get_one_answer(hub: ServerProcess) -> None:
    answers = set()
    for user in (B, "nobody@xx.example"):
        imap = imaplib.IMAP4_SSL("127.0.0.1", hub.ports["imaps"], ssl_context=insecure_tls(), timeout=DEADLINE)
        with pytest.raises(imaplib.IMAP4.error) as refused:
            imap.login(user, "wrong")
        answers.add(str(refused.value))
        imap.shutdown()
    assert len(answers) == 1
    assert "AUTHENTICATIONFAILED" in answers.pop()


def test_imapclient_lives_in_a_mailbox(hub: ServerProcess) -> None:
    phone = IMAPClient("127.0.0.1", hub.ports["imaps"], ssl_context=insecure_tls(), timeout=DEADLINE)
    laptop = IMAPClient("127.0.0.1", hub.ports["imaps"], ssl_context=insecure_tls(), timeout=DEADLINE)
    for device in (phone, laptop):
        device.login(B, "word-b")
    uses = {flag: name for flags, _, name in phone.list_folders() for flag in flags}
    assert uses[b"\\Sent"] == "Sent"
    assert uses[b"\\Trash"] == "Trash"
    phone.create_folder("Projekte/Ärger & Freude")
    assert "Projekte/Ärger & Freude" in [name for _, _, name in laptop.list_folders()]
    phone.select_folder("Projekte/Ärger & Freude")
    when = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
    for number in range(3):
        phone.append(
            "Projekte/Ärger & Freude",
            f"Subject: nr {number}\r\nMessage-ID: <{number}@x>\r\n\r\nGrüße {number}\r\n".encode(),
            flags=[b"\\Seen"] if number else [],
            msg_time=when,
        )
    laptop.select_folder("Projekte/Ärger & Freude")
    assert laptop.search(["UNSEEN"]) == [1]
    assert laptop.search(["TEXT", "Grüße 2"], charset="UTF-8") == [3]
    assert laptop.search(["ON", when.date()]) == [1, 2, 3]
    laptop.idle()
    phone.add_flags([2], [b"\\Flagged", b"Wichtig"])
    phone.move([3], "Trash")
    told: list[tuple[object, ...]] = []

    def expunge_was_told() -> bool:
        told.extend(laptop.idle_check(timeout=1))
        return any(b"EXPUNGE" in response for response in told)

    eventually(expunge_was_told, "the other device is told in IDLE")
    laptop.idle_done()
    assert set(laptop.get_flags([2])[2]) >= {b"\\Flagged", b"Wichtig", b"\\Seen"}
    assert laptop.search() == [1, 2]
    envelope = laptop.fetch([1], ["ENVELOPE", "INTERNALDATE"])[1]
    assert envelope[b"ENVELOPE"].subject == b"nr 0"
    phone.unselect_folder()
    phone.rename_folder("Projekte", "Archiv 2024")
    assert "Archiv 2024/Ärger & Freude" in [name for _, _, name in phone.list_folders()]
    laptop.logout()
    phone.delete_folder("Archiv 2024/Ärger & Freude")
    phone.logout()


def test_a_new_certificate_is_served_without_a_restart(hub: ServerProcess) -> None:
    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", hub.ports["imaps"]))

    before = served()
    assert served() == before
    certificate, key = self_signed(["mx.xx.example"], days=60, now=time.time())
    # As certificate tools do: written beside, then renamed.
    for name, octets in (("privkey.pem", key), ("fullchain.pem", certificate)):
        (hub.folder / f"{name}.new").write_bytes(octets)
        (hub.folder / f"{name}.new").rename(hub.folder / name)
    assert eventually(lambda: served() != before, "the new certificate is served")


def test_the_password_command_works_while_the_server_runs(hub: ServerProcess) -> None:
    hub.command("account", "add", "c@xx.example", "--password-stdin", stdin="eins\n")
    hub.accounts = {**hub.accounts, "c@xx.example": "eins"}
    hub.imap("c@xx.example").logout()
    hub.command("account", "password", "c@xx.example", "--password-stdin", stdin="zwei\n")
    with pytest.raises(imaplib.IMAP4.error):
        hub.imap("c@xx.example")
    hub.accounts = {**hub.accounts, "c@xx.example": "zwei"}
    open_session = hub.imap("c@xx.example")
    open_session.select("INBOX")
    hub.command("account", "remove", "c@xx.example", "--yes")
    with pytest.raises(imaplib.IMAP4.error):
        hub.imap("c@xx.example")
    # The session that was open is refused or told goodbye, and the server lives on.
    try:
        kind, _ = open_session.status("Sent", "(MESSAGES)")
        assert kind == "NO"
    except imaplib.IMAP4.abort:
        pass
    assert hub.messages(B) is not None
