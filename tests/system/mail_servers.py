"""Postfix and Exim with a configuration of their own, and Postfix's sink, as children of the tests.

Each has a folder that its unprivileged processes may enter, listens on a free port of the loopback, delivers mail for
its own domain into one Maildir, and knows the hub for `xx.example`. All of them are started by root alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from pwd import getpwnam
from typing import ClassVar, Self

import attrs
import pytest

from mailhub.net.certificates import self_signed
from mailhub.testing.process import DEADLINE, ServerProcess, eventually, free_ports, run
from tests.system.conftest import missing, need

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mailhub-clients"
CACHE = Path(os.environ.get("MAILHUB_CLIENTS_CACHE") or _CACHE)  # what .ci/clients has put beside the machine's own
EXIM = CACHE / "exim/usr/sbin/exim4"


def need_root() -> None:
    """Mail servers change users."""
    if os.geteuid() != 0:
        pytest.skip("mail servers are started by root alone")


@attrs.define
class MailServer:
    """A mail server that is a child of this process, with its folder below /tmp, which is removed in the end."""

    user: ClassVar[str]
    domain: ClassVar[str]

    folder: Path = attrs.field(init=False)
    port: int = attrs.field(init=False, factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = attrs.field(init=False, default=None)

    def prepare(self, hub: ServerProcess) -> None:
        """Write the configuration."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What is to be run."""
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What it has logged."""
        raise NotImplementedError

    def start(self, hub: ServerProcess) -> None:
        """Make the folder, start, and wait until the port is served."""
        self.folder = Path(tempfile.mkdtemp(prefix="mailhub-peer-"))
        self.folder.chmod(0o755)
        certificate, key = self_signed([f"mx.{self.domain}"], days=30, now=time.time())
        (self.folder / "cert.pem").write_bytes(certificate)
        (self.folder / "key.pem").write_bytes(key)
        self.prepare(hub)
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(self.command(), stdout=output, stderr=output, start_new_session=True)
        eventually(self.is_served, f"{self.command()[0]} listens: {(self.folder / 'output').read_text()}")

    def is_served(self) -> bool:
        """Whether the port is open."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "output").read_text() + self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it, and its own children with it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(DEADLINE)
        shutil.rmtree(self.folder, ignore_errors=True)

    def own(self, *names: str) -> None:
        """Make folders that belong to the server's user."""
        account = getpwnam(self.user)
        for name in names:
            (self.folder / name).mkdir()
            os.chown(self.folder / name, account.pw_uid, account.pw_gid)

    def messages(self) -> list[bytes]:
        """What is in its Maildir."""
        return [path.read_bytes() for path in sorted((self.folder / "mail/box/new").glob("*"))]

    def wait_for_message(self, text: bytes) -> bytes:
        """The only one that has this in it."""

        def found() -> bytes:
            matching = [each for each in self.messages() if text in each]
            assert len(matching) < 2, matching
            return matching[0] if matching else b""

        try:
            return eventually(found, f"{text!r} at {self.domain}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log[-4000:]}") from None


_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mx.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
relay_domains = xx.example
transport_maps = inline:{{ {{plain@xx.example = plain:[127.0.0.1]:{smtp}}} {{lmtp@xx.example = lmtp:unix:{socket}}} \
{{xx.example = smtp:[127.0.0.1]:{smtp}}} }}
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{refused@{domain} = REJECT no such person}} \
{{later@{domain} = DEFER come again}} }}, permit_mynetworks, reject
smtpd_tls_security_level = may
smtpd_tls_cert_file = {folder}/cert.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_tls_received_header = yes
smtp_tls_security_level = encrypt
smtp_tls_loglevel = 1
lmtp_tls_security_level = none
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
"""

_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
smtp unix - - n - - smtp
plain unix - - n - - smtp -o smtp_tls_security_level=none -o smtp_send_xforward_command=yes
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""


@attrs.define
class Postfix(MailServer):
    """`refused@pf.example` and `later@pf.example` are what their names say; other recipients have one Maildir. Mail for
    the hub goes by TLS, for plain@xx.example without, for lmtp@xx.example over the hub's local socket."""

    user: ClassVar[str] = "postfix"
    domain: ClassVar[str] = "pf.example"
    lmtp_socket: Path = attrs.field(init=False)

    def prepare(self, hub: ServerProcess) -> None:
        """See `MailServer`."""
        need("postfix")
        account = getpwnam(self.user)
        self.own("data", "mail")
        for name in ("conf", "queue"):
            (self.folder / name).mkdir()
        places = {
            "folder": self.folder,
            "domain": self.domain,
            "daemons": run("postconf", "-d", "-h", "daemon_directory").stdout.strip(),
            "uid": account.pw_uid,
            "gid": account.pw_gid,
            "port": self.port,
            "smtp": hub.ports["smtp"],
            "socket": hub.folder / "lmtp",
        }
        (self.folder / "conf/main.cf").write_text(_MAIN_CF.format(**places))
        (self.folder / "conf/master.cf").write_text(_MASTER_CF.format(**places))
        run("postfix", "-c", self.folder / "conf", "check")

    def command(self) -> list[str]:
        """See `MailServer`."""
        daemons = run("postconf", "-d", "-h", "daemon_directory").stdout.strip()
        return [f"{daemons}/master", "-c", str(self.folder / "conf"), "-d"]

    @property
    def log(self) -> str:
        """See `MailServer`."""
        file = self.folder / "log"
        return file.read_text() if file.exists() else ""


_EXIM_CONF = """\
exim_path = {exim}
exim_user = {user}
exim_group = {user}
deliver_drop_privilege = true
primary_hostname = mx.{domain}
qualify_domain = {domain}
spool_directory = {folder}/spool
log_file_path = {folder}/logs/%slog
pid_file_path = {folder}/spool/pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
log_selector = +tls_cipher +smtp_confirmation
tls_certificate = {folder}/both.pem
tls_advertise_hosts = *
smtputf8_advertise_hosts = *
chunking_advertise_hosts = *
dsn_advertise_hosts = *
host_lookup =
rfc1413_hosts =
keep_environment =
allow_utf8_domains = true
acl_smtp_rcpt = check
acl_smtp_data = take

begin acl
check:
  deny local_parts = refused
       message = no such person
  defer local_parts = later
  accept
take:
  accept

begin routers
own:
  driver = accept
  domains = {domain}
  transport = maildir
hub:
  driver = manualroute
  domains = xx.example
  transport = smtp
  route_list = * 127.0.0.1
  self = send

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {folder}/mail/box
smtp:
  driver = smtp
  port = {smtp}
  hosts_try_chunking = *
  tls_verify_hosts =
  tls_try_verify_hosts =

begin retry
* * F,1h,1s
"""


@attrs.define
class Exim(MailServer):
    """The same without local parts for the hub's sake; it sends by BDAT and STARTTLS what may be sent so."""

    user: ClassVar[str] = "Debian-exim"
    domain: ClassVar[str] = "ex.example"

    @property
    def program(self) -> Path:
        """What is run."""
        return self.folder / "exim4"

    def prepare(self, hub: ServerProcess) -> None:
        """See `MailServer`."""
        if not EXIM.exists():
            missing(str(EXIM))
        self.own("spool", "logs", "mail")
        # For its reports it runs itself anew as its own user, who may not look into the cache.
        shutil.copy(EXIM, self.program)
        both = self.folder / "both.pem"
        both.write_bytes((self.folder / "key.pem").read_bytes() + (self.folder / "cert.pem").read_bytes())
        shutil.chown(both, self.user)
        both.chmod(0o600)
        places = {
            "exim": self.program,
            "user": self.user,
            "folder": self.folder,
            "domain": self.domain,
            "port": self.port,
            "smtp": hub.ports["smtp"],
        }
        (self.folder / "exim.conf").write_text(_EXIM_CONF.format(**places))

    def command(self) -> list[str]:
        """See `MailServer`."""
        return [str(self.program), "-C", str(self.folder / "exim.conf"), "-bdf", "-q2s"]

    @property
    def log(self) -> str:
        """See `MailServer`."""
        file = self.folder / "logs/mainlog"
        return file.read_text() if file.exists() else ""


@attrs.define
class Sink:
    """Postfix's smtp-sink on a port, with the faults that the options ask for. What it takes is in `folder`
    until it ends."""

    port: int
    options: tuple[str, ...] = ()
    folder: Path = attrs.field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        need("smtp-sink")
        self.folder = Path(tempfile.mkdtemp(prefix="mailhub-sink-"))
        self.folder.chmod(0o777)
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        self.process = subprocess.Popen(
            ["smtp-sink", *user, "-d", f"{self.folder}/", *self.options, f"127.0.0.1:{self.port}", "100"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._is_served, "smtp-sink listens")
        return self

    def __exit__(self, *unused: object) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE)
        shutil.rmtree(self.folder)

    def _is_served(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "smtp-sink has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def messages(self) -> list[bytes]:
        """What it has taken, with its own lines on top."""
        return [path.read_bytes() for path in sorted(self.folder.iterdir()) if path.stat().st_size]
