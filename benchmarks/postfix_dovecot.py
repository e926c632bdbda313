"""Postfix with Dovecot's LMTP into Maildirs, with a configuration of their own, as the peer of `smtp_delivery.py`, and
of `smtp_relay.py` where Postfix sends on what it gets.

Both from Debian (`apt-get install postfix dovecot-lmtpd`), on the loopback, started by root alone; on a disk as mailhub
is, with what each does by default to have a message on disk before it says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pwd import getpwnam

from mailhub.testing.process import DEADLINE, eventually, free_ports, run

DOMAIN = "xx.example"
AWAY = "away.example"  # is sent on

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
virtual_transport = lmtp:unix:{folder}/run/lmtp
relay_domains = {away}
relay_transport = smtp:[127.0.0.1]:{sink}
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = none
"""

_MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""

_DOVECOT = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = lmtp
ssl = no
disable_plaintext_auth = no
default_internal_user = dovecot
default_login_user = dovenull
mail_location = maildir:{folder}/mail/%n
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n allow_all_users=yes
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
"""


class PostfixAndDovecot:
    """The two, and what they use. `sink` is the port that mail for elsewhere is sent on to."""

    def __init__(self, folder: Path, sink: int = 25) -> None:
        self.folder = folder
        self._sink = sink
        (self.port,) = free_ports(1)
        self._children: list[subprocess.Popen[bytes]] = []
        # What is added to main.cf and master.cf, and the words before each command.
        self.more_main = self.more_master = ""
        self.around: Sequence[str] = ()

    def start(self) -> None:
        """Write their files, and start them."""
        self.folder.chmod(0o755)
        account = getpwnam("postfix")
        for name in ("conf", "queue", "run", "state"):
            (self.folder / name).mkdir()
        for name in ("data", "mail"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, account.pw_uid, account.pw_gid)
        places = {
            "folder": self.folder,
            "domain": DOMAIN,
            "away": AWAY,
            "sink": self._sink,
            "daemons": run("postconf", "-d", "-h", "daemon_directory").stdout.strip(),
            "uid": account.pw_uid,
            "gid": account.pw_gid,
            "port": self.port,
        }
        (self.folder / "conf/main.cf").write_text(_MAIN_CF.format(**places) + self.more_main)
        (self.folder / "conf/master.cf").write_text(_MASTER_CF.format(**places) + self.more_master)
        (self.folder / "dovecot.conf").write_text(_DOVECOT.format(**places))
        run("postfix", "-c", self.folder / "conf", "check", check=False)
        self._run("dovecot", "-F", "-c", str(self.folder / "dovecot.conf"))
        eventually(lambda: (self.folder / "run/lmtp").exists(), "Dovecot's socket")
        self._run(*self.around, f"{places['daemons']}/master", "-c", str(self.folder / "conf"), "-d")
        eventually(self._is_served, "Postfix's port")

    def _run(self, *command: str) -> None:
        with (self.folder / f"{len(self._children)}.out").open("wb") as output:
            self._children.append(subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True))

    def _is_served(self) -> bool:
        return run("ss", "-ltnH", f"sport = :{self.port}").stdout != ""

    def stop(self) -> None:
        """End both, and their children with them."""
        for child in reversed(self._children):
            child.send_signal(signal.SIGTERM)
            child.wait(DEADLINE)

    def cpu_seconds(self) -> float:
        """User and system time of all their processes so far, also of those that have ended."""
        ours = {str(child.pid) for child in self._children}
        fields = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = path.read_text().partition(" ")
            except OSError:
                continue
            fields[pid] = rest.rpartition(")")[2].split()
        while more := {pid for pid, found in fields.items() if found[1] in ours} - ours:
            ours |= more
        ticks = sum(int(each) for pid in ours if pid in fields for each in fields[pid][11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def delivered(self) -> int:
        """Messages in the Maildirs."""
        return sum(1 for _ in (self.folder / "mail").glob("*/new/*"))

    def wait_for(self, count: int) -> float:
        """When so many are there, in seconds of the monotonic clock."""
        eventually(lambda: self.delivered() >= count, f"{count} messages", 120)
        return time.monotonic()


@contextmanager
def postfix_and_dovecot(
    sink: int = 25, make: Callable[[Path, int], PostfixAndDovecot] = PostfixAndDovecot
) -> Iterator[PostfixAndDovecot]:
    """Both, below /tmp, where their users may enter; removed in the end."""
    peers = make(Path(tempfile.mkdtemp(prefix="mailhub-bench-")), sink)
    try:
        peers.start()
        yield peers
    finally:
        peers.stop()
        shutil.rmtree(peers.folder, ignore_errors=True)


def is_there() -> bool:
    """Whether they can be started here."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in ("postfix", "dovecot", "ss"))
