"""What `mailhub check` says of a configuration's files: who can read them, and how long the certificate is good."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mailhub.cli.finding import Finding
from mailhub.config.settings import Config, RouteTable
from mailhub.net.tls import server_context
from mailhub.store.sqlite import schema
from mailhub.store.sqlite.opening import user_name

SOON_DAYS = 14


def rights(config: Config) -> Iterator[Finding]:
    """Who can read what is secret."""
    if _open_to_all(config.file):
        secret = any(route.password for route in _routes(config))
        yield (
            False if secret else None,
            f"configuration {config.file} can be read by everybody"
            + (", with the password in it" if secret else ", and passwords may come to stand in it")
            + f": chmod 640 {config.file}",
        )
    for name, file in _named_files(config):
        if name != "certificate" and _open_to_all(file):
            yield False, f"secret file {file} can be read by everybody: chmod o= {file}"
    if not config.data.is_dir():
        return
    database = config.data / schema.FILE
    if _open_to_all(database) and config.data.stat().st_mode & stat.S_IXOTH:
        yield False, f"database {database}, with all mail, can be read by everybody: chmod o= {config.data}"
    user = config.data.stat().st_uid
    for name, file in (("configuration", config.file), *_named_files(config)):
        if file.exists() and not _readable_by(file, user):
            yield (
                False,
                f"{name} {file} cannot be read by {user_name(user)}, to whom the data folder belongs, nor then by a "
                "server that runs as that user: let its group read it",
            )


def _named_files(config: Config) -> Iterator[tuple[str, Path]]:
    """What a server reads beside the configuration, with what it is."""
    if config.tls is not None:
        yield "certificate", config.tls.certificate
        yield "key", config.tls.key
    for file in sorted({file for route in _routes(config) if (file := route.password_file) is not None}):
        yield "password file", file


def _routes(config: Config) -> Iterator[RouteTable]:
    """All that say how to log in to another server."""
    yield from config.routes.values()
    yield from (table.route for table in config.transports if table.route is not None)


def _open_to_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _readable_by(path: Path, user: int) -> bool:
    """By the modes of the file and of the folders above it."""
    if user == 0:
        return True
    groups = _groups(user)

    def allowed(found: os.stat_result, owner: int, group: int, others: int) -> bool:
        if found.st_uid == user:
            return bool(found.st_mode & owner)
        return bool(found.st_mode & (group if found.st_gid in groups else others))

    try:
        real = path.resolve()
        return allowed(real.stat(), stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH) and all(
            allowed(folder.stat(), stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH) for folder in real.parents
        )
    except OSError:
        return False


def _groups(user: int) -> set[int]:
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return set()
    return {entry.pw_gid, *(group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem)}


def certificate(config: Config) -> Iterator[Finding]:
    """Whether it can be used, for how long, and for which names. Raises ConfigurationError."""
    if config.tls is None:
        yield True, "no TLS configured"
        return
    file = config.tls.certificate
    server_context(file, config.tls.key)
    leaf = x509.load_pem_x509_certificates(file.read_bytes())[0]
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
    days = (end - now).days
    if end <= now:
        return False, f"certificate {file} expired on {day}, {_days((now - end).days)} ago"
    if leaf.not_valid_before_utc > now:
        return False, f"certificate {file} is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}"
    if days < SOON_DAYS:
        return False, f"certificate {file} is valid until {day}: it expires in {_days(days)}, renew it"
    return True, f"certificate {file} is valid until {day}: it expires in {_days(days)}"


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


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
