"""opendkim and rspamd's proxy behind a hub, as milters that really act."""

from __future__ import annotations

import os
import shutil
import smtplib
import socket
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Self

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mailhub.testing.process import DEADLINE, ServerProcess, eventually, free_ports, insecure_tls
from tests.system.conftest import need

pytestmark = pytest.mark.system

A, WORD = "a@xx.example", "correct horse"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

_OPENDKIM = """\
Socket inet:{port}@127.0.0.1
Mode sv
Domain xx.example
Selector s1
KeyFile {folder}/key.pem
RequireSafeKeys no
TestPublicKeys {folder}/keys
AlwaysAddARHeader yes
AuthservID opendkim.example
InternalHosts {folder}/nobody
MacroList {{daemon_name}}|submissions
Syslog no
Background no
"""
_RSPAMD = """\
options {{
  pidfile = "{folder}/pid"; tempdir = "{folder}"; hs_cache_dir = "{folder}"; url_tld = "{folder}/tlds"; filters = "";
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "info"; }}
metric {{ name = "default"; actions {{ reject = 15; add_header = 6; }} }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}"; milter = yes; count = 1; timeout = 30s;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""


@attrs.define
class Filter:
    """A filter of Debian's, with a configuration of its own, on a port of the loopback."""

    program: str
    config: str
    arguments: tuple[str, ...]
    user: str = ""
    port: int = attrs.field(init=False, factory=lambda: free_ports(1)[0])
    folder: Path = attrs.field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        need(self.program)
        self.folder = Path(tempfile.mkdtemp(prefix="mailhub-milter-"))
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        public = b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
        (self.folder / "key.pem").write_bytes(pem)
        (self.folder / "keys").write_text(f"s1._domainkey.xx.example v=DKIM1; k=rsa; p={public}\n")
        (self.folder / "nobody").write_text("192.0.2.1\n")
        (self.folder / "tlds").write_text("example\n")
        (self.folder / "conf").write_text(self.config.format(folder=self.folder, port=self.port))
        who: tuple[str, ...] = ()
        if self.user and os.geteuid() == 0:
            who = ("-u", self.user, "-g", self.user)
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, self.user, self.user)
        with (self.folder / "output").open("wb") as output:
            command = [self.program, *self.arguments, str(self.folder / "conf"), *who]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        eventually(self._is_served, f"{self.program} listens", 3 * DEADLINE)
        return self

    def __exit__(self, *unused: object) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(DEADLINE)
        shutil.rmtree(self.folder)

    def _is_served(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "output").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


_HUB = """
[checks]
spf = false
dkim = false
dmarc = "off"
arc = false
iprev = false
[delivery]
policies = ["filter"]
[policy.filter]
type = "milter"
address = "inet:127.0.0.1:{port}"
timeout_seconds = 60
{more}
"""


def hub_behind(milter: Filter, folder: Path, more: str = "") -> ServerProcess:
    return ServerProcess(folder / "xx", "xx.example", {A: WORD}, extra=_HUB.format(port=milter.port, more=more))


def letter(text: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = A, A, "A filter"
    message["Message-ID"], message["Date"] = f"<{hash(text)}@test.example>", "Sun, 29 Nov 2026 10:00:00 +0000"
    message.set_content(text)
    return message


def submit(hub: ServerProcess, octets: bytes) -> None:
    with smtplib.SMTP_SSL("127.0.0.1", hub.ports["submissions"], context=insecure_tls()) as client:
        client.login(A, WORD)
        client.sendmail(A, [A], octets)


def bring(hub: ServerProcess, octets: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", hub.ports["smtp"]) as client:
        client.sendmail(A, [A], octets)


@pytest.fixture
def opendkim() -> Iterator[Filter]:
    with Filter("opendkim", _OPENDKIM, ("-f", "-x")) as milter:
        yield milter


@pytest.fixture
def rspamd() -> Iterator[Filter]:
    with Filter("rspamd", _RSPAMD, ("-f", "-i", "-c"), user="_rspamd") as milter:
        yield milter


def test_opendkim_signs_what_our_users_send_and_verifies_what_comes_in(opendkim: Filter, tmp_path: Path) -> None:
    with hub_behind(opendkim, tmp_path) as hub:
        submit(hub, letter("Signed, please.").as_bytes())
        (signed,) = hub.wait_for_messages(A, 1)
        # What it has signed comes back from outside: as it was sent, and with another word in it.
        sent = signed[signed.index(b"DKIM-Signature:") :]
        assert b"d=xx.example; s=s1" in sent.replace(b"\r\n\t", b" ")
        bring(hub, sent)
        bring(hub, sent.replace(b"Signed, please.", b"Forged, please."))
        _, passed, failed = hub.wait_for_messages(A, 3)
        assert b"Authentication-Results: opendkim.example;" in passed
        assert b"dkim=pass" in passed
        assert b"dkim=fail" in failed


def test_rspamd_refuses_what_it_knows_for_spam_and_passes_the_rest(rspamd: Filter, tmp_path: Path) -> None:
    with hub_behind(rspamd, tmp_path, "keep_connections = true") as hub:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            bring(hub, letter(GTUBE).as_bytes())
        assert refused.value.smtp_code == 554
        assert b"Gtube pattern" in refused.value.smtp_error
        for count in (1, 2, 3):
            bring(hub, letter(f"Nothing of the kind, {count}.").as_bytes())
            assert f"Nothing of the kind, {count}.".encode() in hub.wait_for_messages(A, count)[-1]
        seen = (rspamd.folder / "output").read_text()
        assert seen.count("got connection from 127.0.0.1") == 4, "each client is another one to it"
