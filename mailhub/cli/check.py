"""`mailhub check`: everything that can be looked over without serving."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from mailhub.cli.offline import environment, opened, try_write
from mailhub.components import build_hub
from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.delivery.routing import POSTMASTER
from mailhub.errors import ConfigurationError
from mailhub.net.listen import both_families, obstacle
from mailhub.plugins import load_catalogue
from mailhub.store.sqlite.verify import verify

_SOON = timedelta(days=14)
Finding = tuple[bool, str]


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "check",
        help="look over configuration, certificate, store and ports",
        description="Looks over configuration, plugins, certificate, store and ports, and mends nothing. "
        "Exit status 1 when something has to be mended. May be used while the server "
        "runs.",
    )
    action.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    print(f"ok       configuration {config.file}")
    problems = 0
    for part in (_components, _certificate, _store, _ports):
        try:
            for good, line in part(config):
                print(f"{'ok      ' if good else 'problem '} {line}")
                problems += not good
        except ConfigurationError as error:
            print(f"problem  {error}")
            problems += 1
    if problems:
        print(f"{problems} to mend", file=sys.stderr)
    return 1 if problems else 0


def _components(config: Config) -> Iterator[Finding]:
    catalogue = load_catalogue()
    for line in catalogue.broken:
        yield False, f"plugin not loaded: {line}"
    build_hub(config, environment(config), catalogue)
    checkers = ", ".join(config.auth.checkers)
    yield True, f"components: store {config.store.type}; checkers {checkers}"


def _certificate(config: Config) -> Iterator[Finding]:
    if config.tls is None:
        yield True, "no TLS configured"
        return
    file = config.tls.certificate
    try:
        leaf = x509.load_pem_x509_certificates(file.read_bytes())[0]
    except (OSError, ValueError) as error:
        yield False, f"certificate {file}: {error}"
        return
    yield _validity(leaf, datetime.now(UTC), str(file))
    names = _names(leaf)
    covered = any(_matches(name, config.hostname) for name in names)
    yield (
        covered,
        f"certificate {file} is for {', '.join(names) or 'no name'}"
        + ("" if covered else f", not for hostname {config.hostname}"),
    )
    if leaf.issuer == leaf.subject:
        yield True, f"certificate {file} is self-signed: mail clients will warn"


def _validity(leaf: x509.Certificate, now: datetime, file: str) -> Finding:
    end = leaf.not_valid_after_utc
    day = f"{end:%Y-%m-%d}"
    if end <= now:
        return False, f"certificate {file} expired on {day}"
    if leaf.not_valid_before_utc > now:
        return False, f"certificate {file} is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}"
    return end - now > _SOON, f"certificate {file} is valid until {day}"


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _matches(pattern: str, name: str) -> bool:
    """RFC 6125 6.4.3: a `*` stands for the whole first label."""
    if pattern.startswith("*."):
        return name.partition(".")[2].lower() == pattern[2:].lower()
    return pattern.lower() == name.lower()


def _store(config: Config) -> Iterator[Finding]:
    with opened(config, "read") as hub:
        users = [account.user for account in hub.wait(hub.accounts.all())]
    hindrance = try_write(config)
    if hindrance:
        yield False, f"store: {config.data} cannot be written at the moment: {hindrance}"
    count = len(users)
    problems = verify(config.data)
    for line in problems:
        yield False, f"store: {line}"
    if not problems:
        yield True, f"store {config.data}: {count} account{'' if count == 1 else 's'}"
    names = {name.partition("@")[0].lower() for name in (*users, *config.aliases)}
    if config.domains and POSTMASTER not in names:
        # Not a problem: a catch-all or a plugin may know one.
        yield True, f"nobody is named {POSTMASTER}, whom every mail domain must have (RFC 5321 4.5.1): add an alias"


def _ports(config: Config) -> Iterator[Finding]:
    server = DataFolder(config.data).server()
    if server is not None:
        yield True, f"the server is running (process {server})"
        return
    for service, endpoints in config.listen.services().items():
        for endpoint in both_families(endpoints):
            yield _can_be_opened(service, endpoint)


def _can_be_opened(service: str, endpoint: str) -> Finding:
    reason = obstacle(endpoint)
    if reason is None:
        return True, f"{service} {endpoint}: not tried"
    return not reason, f"{service} {endpoint}: {reason or 'can be opened'}"
