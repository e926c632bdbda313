"""Postfix and Exim and the hub, in both directions; Postfix's load generator and its sink, with the sink's faults."""

from __future__ import annotations

import re
import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from pathlib import Path
from typing import Any

import pytest

from mailhub.testing.process import DEADLINE, ServerProcess, eventually, free_ports, insecure_tls, run
from tests.system.conftest import need
from tests.system.mail_servers import Exim, MailServer, Postfix, Sink, need_root
from tests.system.octets import split_trace

pytestmark = pytest.mark.system

A, PLAIN, LMTP, UTF8 = "a@xx.example", "plain@xx.example", "lmtp@xx.example", "ü@xx.example"
PASSWORD = "correct horse"
# What a server on the way could take for the end, or stumble over.
BODY = "Grüße\r\n.\r\n..\r\n.one dot\r\n" + "x" * 998 + "\r\n\r\nend"

# The first line stands in [listen] still.
_EXTRA = """\
lmtp = ["unix:{lmtp}:mode=666"]
[queue]
retry_seconds = [1, 5, 60]
[route."pf.example"]
host = "127.0.0.1:{postfix}"
[route."ex.example"]
host = "127.0.0.1:{exim}"
[route."sink.example"]
host = "127.0.0.1:{sink}"
[route."lmtp-sink.example"]
agent = "lmtp"
host = "127.0.0.1:{sink}"
[trust]
xclient = ["127.0.0.0/8"]
[limits]
relay_unreachable_seconds = 1
"""


@pytest.fixture(scope="module")
def postfix() -> Postfix:
    """Started by the hub's fixture, as each is told of the other's port."""
    return Postfix()


@pytest.fixture(scope="module")
def exim() -> Exim:
    """The same."""
    return Exim()


@pytest.fixture(scope="module")
def sink_port() -> int:
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def hub(postfix: Postfix, exim: Exim, sink_port: int) -> Iterator[ServerProcess]:
    # Not pytest's own folder, into which nobody else may look: Postfix goes to the local socket there.
    folder = Path(tempfile.mkdtemp(prefix="mailhub-hub-"))
    folder.chmod(0o755)
    server = ServerProcess(folder / "xx", "xx.example", dict.fromkeys([A, PLAIN, LMTP, UTF8], PASSWORD))
    lmtp = server.folder / "lmtp"
    server.extra = _EXTRA.format(lmtp=lmtp, postfix=postfix.port, exim=exim.port, sink=sink_port)
    with server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def running_postfix(hub: ServerProcess, postfix: Postfix) -> Iterator[Postfix]:
    need_root()
    postfix.start(hub)
    yield postfix
    postfix.stop()


@pytest.fixture(scope="module")
def running_exim(hub: ServerProcess, exim: Exim) -> Iterator[Exim]:
    need_root()
    exim.start(hub)
    yield exim
    exim.stop()


@pytest.fixture(params=["running_postfix", "running_exim"])
def peer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def letter(subject: str, sender: str, to: str, *, utf8: bool = False) -> bytes:
    message = EmailMessage(policy=SMTPUTF8 if utf8 else SMTP)
    message["From"], message["To"], message["Subject"] = sender, to, subject
    message["Message-ID"] = f"<{subject}@test.example>"
    message["Date"] = "Sun, 29 Nov 2026 10:00:00 +0000"
    message.set_content(BODY, cte="8bit")
    return message.as_bytes()


def submit(hub: ServerProcess, octets: bytes, *to: str, mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()) -> None:
    """By A, over TLS."""
    with smtplib.SMTP("127.0.0.1", hub.ports["submission"], timeout=DEADLINE) as smtp:
        smtp.starttls(context=insecure_tls())
        smtp.login(A, PASSWORD)
        assert smtp.sendmail(A, to, octets, mail, rcpt) == {}


def hand_in(server: MailServer, octets: bytes, *to: str, sender: str = "", mail: tuple[str, ...] = ()) -> None:
    """To a peer, for it to relay."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=DEADLINE) as smtp:
        assert smtp.sendmail(sender or f"box@{server.domain}", to, octets, ("BODY=8BITMIME", *mail)) == {}


def arrived(hub: ServerProcess, user: str, text: bytes, peer: MailServer | None = None) -> bytes:
    """The only message that has this in it, which may come from a peer."""

    def found() -> bytes:
        matching = [each for each in hub.messages(user) if text in each]
        assert len(matching) < 2, matching
        return matching[0] if matching else b""

    try:
        return eventually(found, f"{text!r} for {user}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{''.join(hub.log[-30:])}\n{peer.log[-4000:] if peer else ''}") from None


def crlf(octets: bytes) -> bytes:
    """Maildirs have LF."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def below(octets: bytes) -> bytes:
    """The message without what servers have put on top; Postfix and Exim have fields of their own there."""
    return octets[octets.index(b"From: ") :]


# --- The hub to others ----------------------------------------------------------------------------------------------


def test_a_peer_gets_the_message_as_it_was(hub: ServerProcess, peer: MailServer) -> None:
    """8-bit, lines of every kind, over STARTTLS; to Postfix behind DATA or in chunks, as it offers them."""
    subject = f"whole-{peer.user}"
    octets = letter(subject, A, f"box@{peer.domain}")
    submit(hub, octets, f"box@{peer.domain}", f"other@{peer.domain}", mail=("BODY=8BITMIME",))
    eventually(lambda: sum(subject.encode() in each for each in peer.messages()) == 2, f"two copies\n{peer.log}")
    for each in peer.messages():
        if subject.encode() in each:
            assert below(crlf(each)).rstrip() == below(octets).rstrip()
            assert b"TLS" in each.partition(b"From: ")[0]


def test_exim_takes_chunks(hub: ServerProcess, running_exim: Exim) -> None:
    submit(hub, letter("in-chunks", A, "box@ex.example"), "box@ex.example")
    running_exim.wait_for_message(b"Subject: in-chunks")
    (line,) = [line for line in running_exim.log.splitlines() if "<=" in line and "in-chunks" in line]
    assert re.search(r" K .*S=", line), line


def test_smtputf8_goes_to_a_peer(hub: ServerProcess, peer: MailServer) -> None:
    to = f"jörg@{peer.domain}"
    octets = letter(f"utf8-{peer.user}-ß", A, to, utf8=True)
    submit(hub, octets, to, mail=("SMTPUTF8", "BODY=8BITMIME"))
    peer.wait_for_message(f"Subject: utf8-{peer.user}-ß".encode())


def test_of_several_recipients_each_has_its_own_end(hub: ServerProcess, peer: MailServer) -> None:
    """One is taken, one is refused, one waits."""
    subject = f"each-{peer.user}"
    names = [f"{name}@{peer.domain}" for name in ("refused", "box", "later")]
    submit(hub, letter(subject, A, names[1]), *names)
    peer.wait_for_message(f"Subject: {subject}".encode())
    report = arrived(hub, A, f"refused@{peer.domain}".encode())
    assert b"\r\nAction: failed\r\n" in report
    assert b"no such person" in report
    eventually(lambda: [line for line in hub.log if "delayed: " in line and names[2] in line], f"{names[2]} waits")


def test_an_exact_copy_of_a_large_message_arrives(hub: ServerProcess, peer: MailServer) -> None:
    subject = f"large-{peer.user}"
    octets = letter(subject, A, f"box@{peer.domain}") + b"".join(
        b".%d %s\r\n" % (number, b"y" * 70) for number in range(20_000)
    )
    submit(hub, octets, f"box@{peer.domain}", mail=("BODY=8BITMIME",))
    assert below(crlf(peer.wait_for_message(f"Subject: {subject}".encode()))).rstrip() == below(octets).rstrip()


def test_success_is_told_by_who_delivers(hub: ServerProcess, running_postfix: Postfix) -> None:
    """Postfix says DSN, so that it tells, once, and the hub does not (RFC 3461 5.2.2)."""
    octets = letter("told-by-postfix", A, "box@pf.example")
    submit(hub, octets, "box@pf.example", mail=("RET=HDRS", "ENVID=q+3D1"), rcpt=("NOTIFY=SUCCESS",))
    report = arrived(hub, A, b"Message-ID: <told-by-postfix@test.example>")
    assert b"\r\nReporting-MTA: dns; mx.pf.example\r\n" in report
    assert b"\r\nOriginal-Envelope-Id: q=1\r\n" in report
    assert b"\r\nAction: delivered\r\n" in report
    assert b"end\r\n" not in report


# --- Others to the hub ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("user", "protocol"), [(A, b"ESMTPS"), (PLAIN, b"ESMTP"), (LMTP, b"LMTP")])
def test_postfix_delivers_to_the_hub(hub: ServerProcess, running_postfix: Postfix, user: str, protocol: bytes) -> None:
    """Over STARTTLS, without TLS, and by LMTP over the local socket."""
    subject = f"from-postfix-{protocol.decode()}"
    octets = letter(subject, "box@pf.example", user)
    hand_in(running_postfix, octets, user)
    message = arrived(hub, user, f"Subject: {subject}".encode(), running_postfix)
    top, _ = split_trace(message)
    assert b" with " + protocol + b" " in top.replace(b"\r\n", b" ") + b" "
    assert below(message).rstrip() == below(octets).rstrip()


def test_exim_delivers_to_the_hub_in_chunks_over_tls(hub: ServerProcess, running_exim: Exim) -> None:
    octets = letter("from-exim", "box@ex.example", A)
    hand_in(running_exim, octets, A, PLAIN)
    for user in (A, PLAIN):
        assert below(arrived(hub, user, b"Subject: from-exim", running_exim)).rstrip() == below(octets).rstrip()
    first = next(line for line in running_exim.log.splitlines() if "=> a@xx.example" in line or "=> a <" in line)
    assert " K " in first, running_exim.log
    assert " X=TLS" in first


def test_smtputf8_comes_from_a_peer(hub: ServerProcess, peer: MailServer) -> None:
    subject, sender = f"utf8-from-{peer.user}-ß", f"jörg@{peer.domain}"
    octets = letter(subject, sender, UTF8, utf8=True)
    hand_in(peer, octets, UTF8, sender=sender, mail=("SMTPUTF8",))
    arrived(hub, UTF8, f"Subject: {subject}".encode(), peer)


def test_success_is_told_here_of_what_postfix_sends(hub: ServerProcess, running_postfix: Postfix) -> None:
    octets = letter("told-by-the-hub", "box@pf.example", A)
    with smtplib.SMTP("127.0.0.1", running_postfix.port, timeout=DEADLINE) as smtp:
        smtp.sendmail("box@pf.example", [A], octets, ("BODY=8BITMIME", "ENVID=q2"), ("NOTIFY=SUCCESS",))
    report = running_postfix.wait_for_message(b"told-by-the-hub")
    assert b"\nReporting-MTA: dns; mx.xx.example\n" in report
    assert b"\nOriginal-Envelope-Id: q2\n" in report
    assert b"\nAction: delivered\n" in report


def test_postfix_says_for_whom_it_speaks(hub: ServerProcess, running_postfix: Postfix) -> None:
    """XFORWARD."""
    with smtplib.SMTP("127.0.0.1", running_postfix.port, "client.test", timeout=DEADLINE) as smtp:
        smtp.sendmail("box@pf.example", [PLAIN], letter("forwarded", "box@pf.example", PLAIN), ("BODY=8BITMIME",))
    arrived(hub, PLAIN, b"Subject: forwarded", running_postfix)
    assert [line for line in hub.log if "client.test" in line], hub.log[-20:]


def test_who_is_unknown_here_comes_back_from_there(hub: ServerProcess, peer: MailServer) -> None:
    hand_in(peer, letter("nobody", f"box@{peer.domain}", A), "nobody@xx.example")
    report = peer.wait_for_message(b"nobody@xx.example")
    assert b"550" in report
    assert b"5.1.1" in report


# --- Load, and a sink with faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lmtp", [False, True])
def test_smtp_source_sends_to_the_hub(hub: ServerProcess, lmtp: bool) -> None:
    need("smtp-source")
    user, before = (LMTP, "lmtp") if lmtp else (PLAIN, "smtp")
    count = len(hub.messages(user))
    more = ("-L",) if lmtp else ()
    where = f"unix:{hub.folder}/lmtp" if lmtp else f"inet:127.0.0.1:{hub.ports['smtp']}"
    run("smtp-source", *more, "-s", "5", "-m", "100", "-l", "4096", "-f", "s@pf.example", "-t", user, where)
    assert len(hub.wait_for_messages(user, count + 100)) == count + 100, before


FAULTS = {
    "closes after MAIL": ("-q", "MAIL"),
    "closes after RCPT": ("-q", "RCPT"),
    "closes after DATA": ("-q", "DATA"),
    "closes after the message": ("-q", "."),
    "closes when connected": ("-q", "CONNECT"),
    "421 to EHLO": ("-Q", "EHLO,HELO"),
    "421 to DATA": ("-Q", "DATA"),
    "421 to the message": ("-Q", "."),
    "450 to MAIL": ("-r", "MAIL"),
    "450 to RCPT": ("-r", "RCPT"),
    "450 to the message": ("-r", "."),
}
VARIANTS = {"no 8BITMIME": ("-8",), "no pipelining": ("-p",), "no EHLO": ("-e",), "slow": ("-w", "1"), "plain": ()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_sink_costs_time_alone(hub: ServerProcess, sink_port: int, fault: str) -> None:
    """The message waits, and is there once when the fault is gone."""
    subject = "fault-" + re.sub(r"[^a-z0-9]+", "-", fault.lower())
    octets = letter(subject, A, "box@sink.example")
    before = len(hub.log)
    with Sink(sink_port, FAULTS[fault]):
        submit(hub, octets, "box@sink.example")
        eventually(lambda: [line for line in hub.log[before:] if "delayed" in line], f"{fault}: {hub.log[before:]}")
    with Sink(sink_port) as good:
        eventually(good.messages, f"{fault}: {hub.log[before:]}")
        eventually(lambda: [line for line in hub.log[before:] if "delivered" in line], f"{fault}: told")
        (taken,) = good.messages()
    assert subject.encode() in taken


@pytest.mark.parametrize("variant", VARIANTS)
def test_sinks_of_every_kind_are_served(hub: ServerProcess, sink_port: int, variant: str) -> None:
    subject = "variant-" + re.sub(r"[^a-z0-9]+", "-", variant.lower())
    before = len(hub.log)
    with Sink(sink_port, VARIANTS[variant]) as sink:
        submit(
            hub, letter(subject, A, "box@sink.example"), "box@sink.example", "c@sink.example", mail=("BODY=8BITMIME",)
        )
        (taken,) = eventually(sink.messages, f"{variant}: {hub.log[before:]}")
    assert (b"quoted-printable" in taken) is (variant in ("no 8BITMIME", "no EHLO"))
    assert b"Gr" in taken


def test_what_the_sink_refuses_comes_back(hub: ServerProcess, sink_port: int) -> None:
    with Sink(sink_port, ("-f", "RCPT", "-B", "550 5.7.1 not you")):
        submit(hub, letter("hard", A, "hard@sink.example"), "hard@sink.example")
        assert b"not you" in arrived(hub, A, b"hard@sink.example")


def test_an_lmtp_sink(hub: ServerProcess, sink_port: int) -> None:
    with Sink(sink_port, ("-L",)) as sink:
        submit(hub, letter("by-lmtp", A, "b@lmtp-sink.example"), "b@lmtp-sink.example", "c@lmtp-sink.example")
        (taken,) = eventually(sink.messages, "the message")
    assert b"Subject: by-lmtp" in taken
