"""What it costs to look at mail from strangers: CPU of the whole server for a message of 4 KiB that is taken as it
comes, and for one with SPF, one DKIM signature and DMARC, each of which passes.

A name server on loopback answers. Beside it in the same run, as root and where they are installed: Postfix with
Dovecot's LMTP, alone and with policyd-spf, opendkim and opendmarc (Debian: `postfix dovecot-lmtpd opendkim opendmarc
postfix-policyd-spf-python`), which ask the same server by a resolv.conf in a mount namespace of their own.

    python benchmarks/authentication.py [MESSAGES]
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from threading import Thread

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from benchmarks.postfix_dovecot import PostfixAndDovecot, is_there, postfix_and_dovecot
from benchmarks.smtp_delivery import WARM, Driver, at, into_maildirs
from benchmarks.smtp_load import UNCHECKED, USERS, Kind, Spent, table
from mailhub.checks.canonical import BodyHash
from mailhub.checks.signing import SigningKey, dkim_signature, new_key
from mailhub.message.header import raw_fields
from mailhub.testing.process import ServerProcess, eventually, free_ports, run

KEY = SigningKey("else.example", "s", new_key("rsa"))
ZONE = {
    "else.example TXT": ['"v=spf1 ip4:127.0.0.0/8 -all"'],
    "_dmarc.else.example TXT": ['"v=DMARC1; p=reject"'],
    f"{KEY.name} TXT": [" ".join(f'"{KEY.record[start : start + 200]}"' for start in range(0, len(KEY.record), 200))],
    "bench.example A": ["127.0.0.1"],
    "1.0.0.127.in-addr.arpa PTR": ["bench.example."],
}
# The address that resolv.conf of the peers names; only root can open its port.
RESOLVER = ("127.0.0.53", 53)
ROWS = (
    ("10 connections", Kind(), 10, 1.0),
    ("10, one message a connection", Kind(on_a_connection=1), 10, 0.5),
)
_BEHIND_OPENDMARC = """\
smtpd_milters = inet:127.0.0.1:{opendkim}, inet:127.0.0.1:{opendmarc}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_policy_service unix:private/policy-spf
"""
_POLICY_SPF = "policy-spf unix - n n - 0 spawn user=nobody argv=/usr/bin/policyd-spf {folder}/policyd-spf.conf\n"
_FILES = {
    "policyd-spf.conf": "skip_addresses = 192.0.2.1/32\nHELO_reject = Fail\nMail_From_reject = Fail\n",
    "opendkim.conf": "Mode v\nSocket inet:{opendkim}@127.0.0.1\nInternalHosts 192.0.2.1\nBackground no\nSyslog no\n"
    "TestPublicKeys {folder}/keys\n",
    "keys": f"{KEY.name} {KEY.record}\n",
    "opendmarc.conf": "Socket inet:{opendmarc}@127.0.0.1\nIgnoreHosts {folder}/none\nRejectFailures true\n"
    "TrustedAuthservIDs mx.xx.example\nBackground no\nSyslog no\nSPFIgnoreResults false\nSPFSelfValidate false\n",
    "none": "192.0.2.1\n",
    "resolv.conf": f"nameserver {RESOLVER[0]}\n",
}


@cache
def signature(body: bytes) -> bytes:
    """The hash of a body, of which there are few."""
    relaxed = BodyHash("relaxed")
    relaxed.update(body)
    return relaxed.digest()


def signed(message: bytes) -> bytes:
    """With a signature of its author's domain on top."""
    header, _, body = message.partition(b"\r\n\r\n")
    header += b"\r\n"
    return dkim_signature(KEY, list(raw_fields(header)), signature(body), 1_700_000_000) + message


@contextmanager
def name_server(*places: tuple[str, int]) -> Iterator[None]:
    """Answers from ZONE, in threads of ours: its CPU is none of the servers'."""
    with ExitStack() as opened:
        for place in places:
            bound = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            bound.bind(place)
            Thread(target=_answer, args=(bound,), daemon=True).start()
        yield


def _answer(bound: socket.socket) -> None:
    names = {key.split()[0] for key in ZONE}
    while True:
        datagram, address = bound.recvfrom(4096)
        query = dns.message.from_wire(datagram)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        response = dns.message.make_response(query)
        if records := ZONE.get(f"{name} {kind}"):
            response.answer.append(dns.rrset.from_text(question.name, 3600, "IN", kind, *records))
        elif name not in names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        bound.sendto(response.to_wire(), address)


def _is_served(port: int) -> bool:
    return run("ss", "-ltnH", f"sport = :{port}").stdout != ""


class WithFilters(PostfixAndDovecot):
    """Postfix with the three that look at what it takes."""

    def start(self) -> None:
        """See `PostfixAndDovecot`."""
        ports = dict(zip(("opendkim", "opendmarc"), free_ports(2), strict=True))
        for name, text in _FILES.items():
            (self.folder / name).write_text(text.format(folder=self.folder, **ports))
        self.more_main = _BEHIND_OPENDMARC.format(**ports)
        self.more_master = _POLICY_SPF.format(folder=self.folder)
        self.around = (
            "unshare",
            "-m",
            "sh",
            "-c",
            f'mount --bind {self.folder}/resolv.conf /etc/resolv.conf; exec "$@"',
            "-",
        )
        self.folder.chmod(0o755)
        for name, words in (("opendkim", ("-f", "-x")), ("opendmarc", ("-f", "-c"))):
            self._run(*self.around, f"/usr/sbin/{name}", *words, str(self.folder / f"{name}.conf"))
            eventually(partial(_is_served, ports[name]), name)
        super().start()


def main() -> None:
    """Print the figures, as a table of docs/performance.rst."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        (port,) = free_ports(1)
        peers = is_there() and all(map(shutil.which, ("opendkim", "opendmarc", "policyd-spf", "unshare")))
        running.enter_context(name_server(("127.0.0.1", port), *([RESOLVER] if peers else [])))
        names = f'[dns]\nservers = ["127.0.0.1#{port}"]\n'
        drivers: dict[str, Driver] = {}
        for name, more in (("mailhub", UNCHECKED), ("mailhub, checked", "")):
            server = ServerProcess(
                folder / name.replace(", ", "-"), "xx.example", dict.fromkeys(USERS, "word"), more + names
            )
            running.enter_context(server)
            drivers[name] = at(server.ports["smtp"], server.cpu_seconds)
        if peers:
            drivers["Postfix and Dovecot"] = into_maildirs(running.enter_context(postfix_and_dovecot()))
            drivers["with three filters"] = into_maildirs(running.enter_context(postfix_and_dovecot(make=WithFilters)))
        for run_one in drivers.values():
            run_one(WARM, 1, Kind(made=signed))
        rows: list[Sequence[object]] = [("Client", *drivers)]
        for name, kind, clients, share in ROWS:
            spent: list[Spent] = []
            for run_one in drivers.values():
                spent.append(
                    run_one(
                        int(count * share),
                        clients,
                        Kind(kind.pipelining, on_a_connection=kind.on_a_connection, made=signed),
                    )
                )
            rows.append((name, *spent))
        print(table(rows))


if __name__ == "__main__":
    main()
