"""`mailhub init ADDRESS`: from nothing to a server that can be started."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import attrs

from mailhub.checks.signing import new_key
from mailhub.cli import passwords
from mailhub.cli.names import user_of
from mailhub.cli.offline import Offline, opened
from mailhub.cli.records.domain import topics_of_domain
from mailhub.cli.records.host import topics_of_host
from mailhub.cli.records.server import server_of
from mailhub.cli.records.shown import wanted_lines
from mailhub.config import rules
from mailhub.config.settings import Config, parse
from mailhub.delivery.authentication.keys import PART, KeptKey, KeptKeys, made
from mailhub.errors import ConfigurationError, MailboxExists
from mailhub.net.certificates import write_self_signed
from mailhub.net.tls import server_context
from mailhub.services import SERVICES
from mailhub.store.sqlite.opening import require, user_name

_CERTIFICATE_DAYS = 825

_DESCRIPTION = """\
Writes a configuration with comments, makes a certificate (unless you have one),
your account and keys that sign its mail (DKIM), shows the password once, and
lists the DNS records to publish: for others to find the server, for your users'
mail programs, and against forgers. An existing configuration is never
overwritten.
"""
_EXAMPLES = """\
examples:
  mailhub init you@example.org
  mailhub --config /etc/mailhub.toml init you@example.org \\
      --data /var/lib/mailhub --hostname mx.example.org \\
      --certificate /etc/letsencrypt/live/mx.example.org/fullchain.pem \\
      --key /etc/letsencrypt/live/mx.example.org/privkey.pem
"""

TEMPLATE = """\
# mailhub's configuration. Every key is explained in docs/configuration.rst; `mailhub check` looks this file over.
# Relative paths start at the folder of this file.

# Our name to other servers. DNS must lead from it to this machine's address, and back.
hostname = {hostname}
# Where accounts, mail and queue are kept. Back this folder up.
data = {data}
# Mail for these domains is ours.
domains = [{domain}]

[tls]                           # both files are read again when they change, without a restart
certificate = {certificate}
key = {key}

# "tcp:25" is all addresses of this machine, IPv4 and IPv6; "tcp:25:interface=127.0.0.1" is one. A line less is a
# service less.
[listen]
{listen}

[aliases]                       # also "@example.org" for every other name of a domain
{postmaster} = [{address}]

# Mail for other domains goes to the hosts that DNS names (MX). A smarthost takes it all instead:
# [route."*"]
# host = "smtp.example.net:587"
# tls = "required"
# user = "name"
# password_file = "smarthost-password"

[limits]
message_size_bytes = 52428800   # 50 MiB
"""


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "init",
        help="write a configuration, make a certificate and your account",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action.add_argument("address", metavar="ADDRESS", help="your mail address; its domain becomes the server's")
    action.add_argument("--hostname", metavar="NAME", help="the server's own name (default: mail.<domain>)")
    action.add_argument(
        "--data", metavar="FOLDER", type=Path, help='where mail is kept (default: "data" beside the file)'
    )
    action.add_argument(
        "--certificate", metavar="FILE", type=Path, help="certificate chain in PEM (default: self-signed)"
    )
    action.add_argument("--key", metavar="FILE", type=Path, help="its private key in PEM")
    action.add_argument("--password-stdin", action="store_true", help="read the account's password from standard input")
    action.set_defaults(run=_init)


@attrs.frozen
class Setup:
    """What a new configuration says."""

    file: Path
    address: str
    hostname: str
    data: Path
    certificate: Path
    key: Path

    @property
    def domain(self) -> str:
        """The mail domain."""
        return rules.domain(self.address.rpartition("@")[2])

    def text(self) -> str:
        """The file."""
        return TEMPLATE.format(
            hostname=_quoted(self.hostname),
            data=_quoted(self._shown(self.data)),
            domain=_quoted(self.domain),
            certificate=_quoted(self._shown(self.certificate)),
            key=_quoted(self._shown(self.key)),
            listen="\n".join(_listen_lines()),
            postmaster=_quoted(f"postmaster@{self.domain}"),
            address=_quoted(self.address),
        )

    def _shown(self, path: Path) -> str:
        """Relative to the file where it lies below, so that the folder can be moved as a whole."""
        folder = self.file.parent
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _listen_lines() -> Iterator[str]:
    for name, service in SERVICES.items():
        if service.port:
            yield f'{name} = ["tcp:{service.port}"]'.ljust(31) + f" # {service.purpose}"


def _quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        raise ConfigurationError(f"{text!r} has characters that cannot stand in the configuration")
    return f'"{escaped}"'


def _init(arguments: argparse.Namespace) -> None:
    setup = _setup(arguments)
    if setup.file.exists():
        raise ConfigurationError(f"{setup.file} exists already; name another with --config, or remove it first")
    setup.file.parent.mkdir(parents=True, exist_ok=True)
    password = passwords.from_stdin(setup.address) if arguments.password_stdin else passwords.generate()
    encoded = passwords.hashed(setup.address, password)
    require(setup.data, create=True)  # before anything is made
    made = _certificate(arguments, setup)
    config = parse(setup.text(), setup.file)
    with opened(config, "create") as hub:
        try:
            hub.wait(hub.accounts.add(user_of(setup.address), encoded))
        except MailboxExists:
            # From an earlier try. Whoever may write the data folder may set the password too.
            hub.wait(hub.accounts.set_password(user_of(setup.address), encoded))
        keys = _keys(hub, setup.domain)
    # Last, because it says that all the rest is there.
    _write_new(setup.file, setup.text())
    _tell(setup, _records(config, keys), "" if arguments.password_stdin else password, made)


def _setup(arguments: argparse.Namespace) -> Setup:
    try:
        address = rules.address(arguments.address)
        domain = rules.domain(address.rpartition("@")[2])
        hostname = rules.domain(arguments.hostname or _own_name(domain))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if bool(arguments.certificate) != bool(arguments.key):
        raise ConfigurationError("--certificate and --key go together")
    file: Path = arguments.config
    return Setup(
        file=file,
        address=address,
        hostname=hostname,
        data=(arguments.data or file.parent / "data").absolute(),
        certificate=(arguments.certificate or file.parent / "certificate.pem").absolute(),
        key=(arguments.key or file.parent / "key.pem").absolute(),
    )


def _own_name(domain: str) -> str:
    """This machine's name where it is one of the domain's, else the usual one."""
    name = socket.getfqdn().lower()
    return name if name.endswith("." + domain) else f"mail.{domain}"


def _certificate(arguments: argparse.Namespace, setup: Setup) -> bool:
    """Whether one was made; a given one is tried."""
    if arguments.certificate or (setup.certificate.exists() and setup.key.exists()):
        server_context(setup.certificate, setup.key)
        return False
    write_self_signed(setup.certificate, setup.key, [setup.hostname], _CERTIFICATE_DAYS, time.time())
    return True


def _write_new(file: Path, text: str) -> None:
    """Whole or not at all; a file that appeared meanwhile is left alone. Passwords may come to stand in it."""
    new = file.with_name(f".{file.name}.new")
    try:
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as writer:
            writer.write(text)
        os.link(new, file)
    finally:
        new.unlink(missing_ok=True)


def _keys(hub: Offline, domain: str) -> Sequence[KeptKey]:
    """Those that sign mail of the domain as soon as DNS has their records; made where there are none."""
    kept = KeptKeys(hub.database.state.of(PART))
    if not hub.wait(kept.all(domain)):
        private = {algorithm: new_key(algorithm) for algorithm in ("ed25519", "rsa")}
        hub.wait(kept.put(made(private, domain, (), int(time.time()))))
    return hub.wait(kept.all(domain))


def _records(config: Config, keys: Sequence[KeptKey]) -> Iterator[str]:
    """Those to begin with; what takes more than a line in DNS is told by `mailhub dns`."""
    server = server_of(config)
    topics = [*topics_of_host(server, config.domains), *topics_of_domain(server, config.domains[0], keys)]
    yield from wanted_lines([each for each in topics if each.what not in ("TLSA", "MTA-STS")])


def _tell(setup: Setup, records: Iterable[str], password: str, made: bool) -> None:
    print(f"wrote {setup.file}")
    print(f"\nYour account:\n  login     {setup.address}")
    if password:
        print(f"  password  {password}    (shown this once; `mailhub account password` makes another)")
    if made:
        print(
            "\nThe certificate is self-signed: good for a first try, but mail clients will warn.\n"
            f"Get a real one for {setup.hostname} and name it under [tls]; no restart is needed when it changes."
        )
    print("\nDNS records to publish (`mailhub dns` looks whether they are there):\n" + "\n".join(records))
    option = "" if setup.file == Path("mailhub.toml").absolute() else f" --config {quote(str(setup.file))}"
    owner = setup.data.stat().st_uid
    user = f" --user {user_name(owner)}" if os.geteuid() == 0 != owner else ""
    print(f"\nNext:\n  mailhub{option} check\n  twistd -n mailhub{option}{user}")
    if os.geteuid() != 0:
        # sudo has a path of its own, where a virtual environment is not.
        twistd = Path(sys.executable).with_name("twistd")
        start = f"sudo {twistd} -n --pidfile= --uid $(id -u) --gid $(id -g) mailhub --config {quote(str(setup.file))}"
        print(f"Ports below 1024 may need root, who is left behind at once:\n  {start}")
