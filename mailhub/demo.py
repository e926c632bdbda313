"""`make demo`: two domains and two accounts on loopback, made once and kept. `python -m mailhub.demo FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from mailhub.auth.passwords import verify_password
from mailhub.cli import passwords
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError, MailError
from mailhub.interfaces import Deposit, Plan, Submission
from mailhub.message.address import Address
from mailhub.message.dates import format_date
from mailhub.message.envelope import Mail
from mailhub.net.certificates import write_with_authority
from mailhub.net.listen import both_families, obstacle

ACCOUNTS = ("a@xx.example", "b@yy.example")
AUTHORITY = "authority.pem"  # who vouches for the certificate; mail programs are told to trust it
HOSTS = ("mail.xx.example", "localhost", "127.0.0.1")
_CERTIFICATE_DAYS = 825  # some clients take no longer ones
_RENEWED_DAYS = 30  # before its end

CONFIG = """\
# The configuration of `make demo`. It may be changed; remove the whole folder to begin anew.
hostname = "mail.xx.example"
data = "data"
domains = ["xx.example", "yy.example"]

[tls]
certificate = "certificate.pem"
key = "key.pem"

[listen]
smtp = ["tcp:1025:interface=127.0.0.1"]
submission = ["tcp:1587:interface=127.0.0.1"]
submissions = ["tcp:1465:interface=127.0.0.1"]
pop3 = ["tcp:1110:interface=127.0.0.1"]
pop3s = ["tcp:1995:interface=127.0.0.1"]
imap = ["tcp:1143:interface=127.0.0.1"]
imaps = ["tcp:1993:interface=127.0.0.1"]

[aliases]
"postmaster@xx.example" = ["a@xx.example"]
"postmaster@yy.example" = ["b@yy.example"]

[route."*"]                     # demo mail never leaves this machine
agent = "refuse"

[limits]
connections_per_service = 100   # any machine has files open for that many
"""

WELCOME = """\
From: mailhub <postmaster@{domain}>
To: {user}
Subject: Welcome to mailhub
Date: {date}
Message-ID: <welcome.{name}@{domain}>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8

Hello {user},

this message lies in the INBOX of your demo account. The other demo account is
{other}: write to each other, with any mail client, by the settings that
`make demo` shows. Mail to other domains is refused: the demo keeps to itself.
"""

GUIDE = """
  mailhub demo                                                       Ctrl-C stops it
  account          password
{accounts}

  SMTP 1025   submission 1587   submissions 1465   POP3 1110   POP3S 1995   IMAP 1143   IMAPS 1993
  All on this machine alone (127.0.0.1). Logins need TLS: the S ports, or STARTTLS (STLS for POP3).
  The certificate is vouched for by the demo's own authority, {authority}

  Send (swaks):
    swaks --server 127.0.0.1:1587 -tls --auth PLAIN --auth-user {a} --auth-password {pa} \\
          --from {a} --to {b} --header 'Subject: hello'
  Read the newest by IMAP, then the second by POP3, for the first was there before (curl):
    curl --cacert {authority} --user {b}:{pb} 'imaps://127.0.0.1:1993/INBOX;MAILINDEX=*'
    curl --cacert {authority} --user {b}:{pb} 'pop3s://127.0.0.1:1995/2'
  Keep a copy of all folders below {folder}/Mail (mbsync):
    mbsync -c {folder}/mbsyncrc -a
  Thunderbird, first its trust in the authority, then the account:
    Settings (the gear at the bottom left), in "Find in Settings": certificates; Manage Certificates..., Authorities,
      Import...: {authority}
      tick "Trust this CA to identify websites", OK, OK
    New account, Email: any name, {b}, Continue; it finds no settings, so they are typed in:
      incoming  IMAP  localhost  port 1993  SSL/TLS  normal password   user {b}   Continue
      outgoing  SMTP  localhost  port 1465  SSL/TLS  normal password   user {b}   Test, Continue
    and the password from above. (Welcomed by "Add your email address"? The icon at its upper right puts it aside.)
  Commands meanwhile, in another terminal:
    {mailhub} --config {config} queue list
"""

# The passwords have no characters that would have to be quoted.
MBSYNC = """\
IMAPStore demo
Host localhost
Port 1993
User {user}
Pass {password}
SSLType IMAPS
CertificateFile "{folder}/authority.pem"

MaildirStore copy
Path "{folder}/Mail/"
Inbox "{folder}/Mail/INBOX"
SubFolders Verbatim

Channel demo
Far :demo:
Near :copy:
Patterns *
Create Near
SyncState *
"""


def prepare(folder: Path) -> dict[str, str]:
    """Make what is missing; returns the accounts' passwords. Every step may be the last one before a crash."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / "mailhub.toml"
    if not file.exists():
        _replace(file, CONFIG)
    config = load(file)
    _certificate(config, folder / AUTHORITY)
    known = _passwords(folder / "passwords.json")
    (folder / "Mail").mkdir(exist_ok=True)
    reader = ACCOUNTS[1]
    _replace(folder / "mbsyncrc", MBSYNC.format(user=reader, password=known[reader], folder=folder))
    with opened(config, "create") as hub:
        for user in ACCOUNTS:
            _account(hub, user, known[user])
    return known


def _certificate(config: Config, authority: Path) -> None:
    """One that an authority of the demo's own vouches for, made anew in time."""
    if config.tls is None:
        return
    certificate, key = config.tls.certificate, config.tls.key
    if certificate.exists() and key.exists() and authority.exists():
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        if found.not_valid_after_utc - datetime.now(UTC) > timedelta(days=_RENEWED_DAYS):
            return
    write_with_authority(certificate, key, authority, HOSTS, _CERTIFICATE_DAYS, time.time())


def _passwords(file: Path) -> dict[str, str]:
    """The demo's own note of them: only hashes stand in the store."""
    if file.exists():
        known: dict[str, str] = json.loads(file.read_text())
        return known
    made = {user: passwords.generate() for user in ACCOUNTS}
    _replace(file, json.dumps(made, indent=2) + "\n")
    return made


def _replace(file: Path, text: str) -> None:
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    new.replace(file)


def _account(hub: Offline, user: str, password: str) -> None:
    known = hub.wait(hub.accounts.find(user))
    if known is None:
        hub.wait(hub.accounts.add(user, passwords.hashed(user, password)))
    elif not verify_password(known.password_hash, password):
        hub.wait(hub.accounts.set_password(user, passwords.hashed(user, password)))
    hub.wait(_welcome(hub, user))


async def _welcome(hub: Offline, user: str) -> None:
    """The first message of an INBOX that never had one."""
    inbox = await (await hub.database.store.account(user)).mailbox("INBOX")
    if (await inbox.status()).uid_next > 1:
        return
    address = Address.parse(user)
    other = next(name for name in ACCOUNTS if name != user)
    date = format_date(int(time.time()))
    text = WELCOME.format(user=user, other=other, name=address.local, domain=address.domain, date=date)
    writer = hub.queue.new_body()
    await writer.write(text.replace("\n", "\r\n").encode())
    body = await writer.finish()
    sender = Address("postmaster", address.domain)
    await hub.queue.submit(Submission(Mail(sender), Plan(deposits=(Deposit(address, user),)), body))


def guide(folder: Path, known: dict[str, str]) -> str:
    """What to do now, line by line, to copy and paste."""
    (a, pa), (b, pb) = known.items()
    return GUIDE.format(
        accounts="\n".join(f"  {user:15}  {password}" for user, password in known.items()),
        folder=folder,
        authority=folder / AUTHORITY,
        a=a,
        pa=pa,
        b=b,
        pb=pb,
        mailhub=Path(sys.executable).with_name("mailhub"),
        config=folder / "mailhub.toml",
    )


def hindrance(config: Config) -> str:
    """What keeps the demo from being started now, in one line; "" for nothing."""
    for service, endpoints in config.listen.items():
        for endpoint in both_families(endpoints):
            if reason := obstacle(endpoint):
                return (
                    f"{service} cannot be served at {endpoint} ({reason}): stop what uses it, or change {config.file}"
                )
    return ""


def main() -> None:
    """`python -m mailhub.demo FOLDER [COMMAND...]`: prepare, tell, and go on as the command that serves."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").absolute()
    try:
        known = prepare(folder)
        config = load(folder / "mailhub.toml")
        running = DataFolder(config.data).server()
        problem = "" if running is not None else hindrance(config)
    except (ConfigurationError, MailError, OSError, ValueError) as error:
        sys.exit(f"mailhub: demo: {error}")
    if problem:
        sys.exit(f"mailhub: demo: {problem}")
    print(guide(folder, known), flush=True)
    if running is not None:
        print(f"The demo runs already (pid {running}).")
        return
    if command := sys.argv[2:]:
        os.environ["MAILHUB_CONFIG"] = str(config.file)
        os.execvp(command[0], command)


if __name__ == "__main__":
    main()
