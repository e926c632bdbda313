"""Each extension of SMTP that is offered, used at a real server: by swaks where it speaks it, else line by line."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from mailhub.testing.process import DEADLINE, ServerProcess, eventually, insecure_tls, run
from tests.system.conftest import need

pytestmark = pytest.mark.system

A, B, WORD = "a@xx.example", "b@xx.example", "word"
# A message for each: what is said, and the codes of the answers. {text} is the message, {size} its octets.
TRANSACTIONS: dict[str, list[tuple[str, list[int]]]] = {
    "8BITMIME": [("MAIL FROM:<a@zz.example> BODY=8BITMIME", [250])],
    "SIZE": [("MAIL FROM:<a@zz.example> SIZE={size}", [250])],
    "SMTPUTF8": [("MAIL FROM:<änn@zz.example> SMTPUTF8", [250])],
    "DSN": [
        ("MAIL FROM:<a@zz.example> RET=HDRS ENVID=q+2B1", [250]),
        (f"RCPT TO:<{B}> NOTIFY=FAILURE,DELAY ORCPT=rfc822;list@zz.example", [250]),
    ],
    "DELIVERBY": [("MAIL FROM:<a@zz.example> BY=600;R", [250])],
    "MT-PRIORITY": [("MAIL FROM:<a@zz.example> MT-PRIORITY=3", [250])],
    "RRVS": [("MAIL FROM:<a@zz.example>", [250]), (f"RCPT TO:<{B}> RRVS=2037-01-01T00:00:00Z", [250])],
    "REQUIRETLS": [("MAIL FROM:<a@zz.example> REQUIRETLS", [250])],
    "PIPELINING": [(f"MAIL FROM:<a@zz.example>\r\nRCPT TO:<{B}>\r\nDATA\r\n{{text}}\r\n.", [250, 250, 354, 250])],
    "CHUNKING": [
        (f"MAIL FROM:<a@zz.example>\r\nRCPT TO:<{B}>", [250, 250]),
        ("BDAT {size}\r\n{text}BDAT 0 LAST", [250, 250]),
    ],
    "BINARYMIME": [
        (f"MAIL FROM:<a@zz.example> BODY=BINARYMIME\r\nRCPT TO:<{B}>", [250, 250]),
        ("BDAT {size} LAST\r\n{text}NOOP", [250, 250]),
    ],
    "LIMITS": [("MAIL FROM:<a@zz.example>", [250])],
    "ENHANCEDSTATUSCODES": [("RCPT TO:<x@xx.example>", [503]), ("MAIL FROM:<a@zz.example>", [250])],
    "HELP": [("HELP", [214]), ("MAIL FROM:<a@zz.example>", [250])],
}
SUBMITTED: dict[str, list[tuple[str, list[int]]]] = {
    "FUTURERELEASE": [(f"MAIL FROM:<{A}> HOLDFOR=3", [250])],
    "HOLDUNTIL": [(f"MAIL FROM:<{A}> HOLDUNTIL={{soon}}", [250])],
    "DSN": [(f"MAIL FROM:<{A}>", [250]), (f"RCPT TO:<{B}> NOTIFY=SUCCESS ORCPT=rfc822;{B}", [250])],
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("extensions") / "xx", "xx.example", {A: WORD, B: WORD})
    server.prepare()
    text = server.config.read_text().replace("[listen]", f'[listen]\nlmtp = ["unix:{server.folder}/lmtp"]', 1)
    server.config.write_text(f'{text}[trust]\nproxy_protocol = ["127.0.0.2"]\nxclient = ["127.0.0.3"]\n')
    server.start()
    yield server
    server.stop()


def arrived(hub: ServerProcess, subjects: Sequence[str]) -> None:
    """Each of them, once."""

    def found() -> list[int]:
        messages = hub.messages(B)
        return [sum(f"Subject: {each}\r\n".encode() in octets for octets in messages) for each in subjects]

    eventually(lambda: all(found()), f"{subjects} for {B}")
    assert found() == [1] * len(subjects)


def test_swaks_has_its_message_delivered_by_every_way_that_it_knows(hub: ServerProcess) -> None:
    need("swaks")
    port = {name: str(number) for name, number in hub.ports.items()}
    login = ("--auth-user", A, "--auth-password", WORD)
    ways: dict[str, tuple[str, ...]] = {
        "plain": ("--port", port["smtp"]),
        "helo": ("--port", port["smtp"], "--protocol", "SMTP"),
        "starttls": ("--port", port["smtp"], "--tls"),
        "pipelining": ("--port", port["smtp"], "--pipeline"),
        "pipelining under TLS": ("--port", port["smtp"], "--pipeline", "--tls"),
        "login": ("--port", port["submission"], "--tls", "--auth", "LOGIN", *login),
        "submissions": ("--port", port["submissions"], "--tls-on-connect", "--auth", "PLAIN", *login),
        "xclient": (
            *("--port", port["smtp"], "--local-interface", "127.0.0.3"),
            *("--xclient-addr", "192.0.2.7", "--xclient-name", "mx.zz.example"),
        ),
        "proxy": (
            *("--port", port["smtp"], "--local-interface", "127.0.0.2"),
            *("--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", "192.0.2.8"),
            *("--proxy-source-port", "4711", "--proxy-dest", "192.0.2.25", "--proxy-dest-port", "25"),
        ),
    }
    lmtp = ("swaks", "--socket", f"{hub.folder}/lmtp", "--protocol", "LMTP", "--from", A, "--to", B)
    run(*lmtp, "--header", "Subject: swaks lmtp")
    for name, words in ways.items():
        run("swaks", "--server", "127.0.0.1", "--from", A, "--to", B, "--header", f"Subject: swaks {name}", *words)
    arrived(hub, ["swaks lmtp", *(f"swaks {name}" for name in ways)])
    traces = [octets.partition(b"\r\n\r\n")[0] for octets in hub.messages(B) if b"Subject: swaks " in octets]
    assert sum(b"[192.0.2.7]" in each for each in traces) == sum(b"[192.0.2.8]" in each for each in traces) == 1


def say(client: smtplib.SMTP, name: str, lines: list[tuple[str, list[int]]]) -> str:
    """The transaction, completed where the lines leave it open; the subject of its message."""
    subject = f"by {name}"
    text = f"Subject: {subject}\r\nFrom: {A}\r\n\r\nhow\r\n"
    soon = (datetime.now(UTC) + timedelta(seconds=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for line, codes in lines:
        client.send((line.format(text=text, size=len(text), soon=soon) + "\r\n").encode())
        assert [client.getreply()[0] for _ in codes] == codes, line
    if not any("RCPT" in line for line, codes in lines if codes != [503]):
        assert client.docmd("RCPT", f"TO:<{B}>")[0] == 250
    if not any("DATA" in line or "BDAT" in line for line, _ in lines):
        assert client.data(text)[0] == 250
    return subject


def test_whatever_is_offered_on_port_25_delivers_a_message(hub: ServerProcess) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"], timeout=DEADLINE) as client:
        client.ehlo("client.example")
        assert client.has_extn("STARTTLS")
        client.starttls(context=insecure_tls())
        client.ehlo("client.example")
        offered = {keyword.upper() for keyword in client.esmtp_features}
        assert offered == TRANSACTIONS.keys()
        subjects = [say(client, name, lines) for name, lines in TRANSACTIONS.items()]
    arrived(hub, subjects)


def test_what_submission_offers_beside_delivers_a_message_when_it_is_wanted(hub: ServerProcess) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["submission"], timeout=DEADLINE) as client:
        client.starttls(context=insecure_tls())
        client.login(A, WORD)
        client.ehlo("client.example")
        assert client.has_extn("FUTURERELEASE")
        subjects = [say(client, f"submitted {name}", lines) for name, lines in SUBMITTED.items()]
    arrived(hub, subjects)
    (report,) = hub.wait_for_messages(A, 1)
    assert b"Action: delivered" in report
