"""`mailhub check`: everything that can be looked over without serving."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mailhub.cli.alias_faults import faults, list_faults
from mailhub.cli.backup import counted
from mailhub.cli.check_dns import dns
from mailhub.cli.check_files import certificate, rights
from mailhub.cli.check_filters import filters
from mailhub.cli.check_ways import unrouted, ways
from mailhub.cli.finding import Finding
from mailhub.cli.names import everybody_of, kept_names, names_now
from mailhub.cli.offline import environment, opened, owning, repaired, try_write
from mailhub.cli.ours import is_ours, require_ours
from mailhub.cli.outcome import complain
from mailhub.cli.progress import Bar
from mailhub.cli.records.dkim import keys_of
from mailhub.components import build_hub
from mailhub.config.settings import Config, load
from mailhub.data_folder import DataFolder
from mailhub.delivery.authentication.keys import KeptKey
from mailhub.errors import ConfigurationError, MailError, NoSuchUser
from mailhub.message.address import POSTMASTER, Address
from mailhub.net.listen import both_families, obstacle
from mailhub.plugin_modules import LOAD_SECONDS
from mailhub.plugin_trial import watched
from mailhub.plugins import load_catalogue
from mailhub.store.mirror import ledger_files
from mailhub.store.mirror.ledger import FOLDER
from mailhub.store.sqlite.opening import require
from mailhub.store.sqlite.verify import held, verify

_CONFIGURED = Path()  # --store-only without a folder
_WORDS: dict[bool | None, str] = {True: "ok", None: "warning", False: "problem"}


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "check",
        help="look over configuration, certificate, store and ports",
        description="Looks over configuration, plugins, files, aliases, store and ports, and mends nothing without "
        "--repair. May be used while the server runs. Exit status 1 when something has to be mended; warnings leave it "
        "0.",
    )
    action.add_argument(
        "--store-only",
        metavar="DIR",
        type=Path,
        nargs="?",
        const=_CONFIGURED,
        help="look over database and bodies alone: those in DIR, such as a backup, or else the configuration's",
    )
    action.add_argument(
        "--dns",
        action="store_true",
        help="look also at what DNS says of the host and our domains: MX, PTR, TLSA, MTA-STS, TLSRPT, lists of senders",
    )
    action.add_argument(
        "--deep", action="store_true", help="read every message and compare its checksum; takes its time"
    )
    action.add_argument(
        "--repair",
        action="store_true",
        help="set aside in lost+found/ what is damaged, so that clients go on; the server must be stopped",
    )
    action.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    if arguments.store_only is not None:
        chosen: Path = arguments.store_only
        folder = _configured(arguments) if chosen == _CONFIGURED else chosen.absolute()
        return _tell([_repair(folder, arguments), _store_alone(folder, arguments), _ledgers(folder)])
    config = load(arguments.config)
    print(f"ok       configuration {config.file}")
    parts = [_components(config), _warnings(ways(config)), filters(config), rights(config), certificate(config)]
    if is_ours(config):
        store = [_aliases(config), _hidden(config), _written(config), _store_alone(config.data, arguments)]
        parts = [_repair(config.data, arguments), *parts, *store]
    else:
        parts.append(_elsewhere(config, arguments))
    if arguments.dns:
        parts.append(dns(config, *_domains(config)))
    return _tell([*parts, _ledgers(config.data), _server(config)])


def _domains(config: Config) -> tuple[frozenset[str], Sequence[KeptKey] | None]:
    """All of ours, and the keys of DKIM as far as commands know of them."""
    if not is_ours(config):
        return frozenset(config.domains), None
    with opened(config, "read") as hub:
        return names_now(config, hub).domains, keys_of(config, hub)


def _configured(arguments: argparse.Namespace) -> Path:
    config = load(arguments.config)
    require_ours(config)
    return config.data


def _tell(parts: Iterable[Iterator[Finding]]) -> int:
    """Show what is found, a line each; one part that cannot go on keeps none of the others from it."""
    problems: set[str] = set()
    for part in parts:
        for good, line in _to_its_end(part):
            if line not in problems:  # what several parts stumble over is told once
                print(f"{_WORDS[good]:8} {line}")
            if good is False:
                problems.add(line)
    if problems:
        print(f"{len(problems)} to mend", file=sys.stderr)
    return 1 if problems else 0


def _to_its_end(part: Iterator[Finding]) -> Iterator[Finding]:
    """What a part finds; what keeps it from going on is its last finding."""
    try:
        yield from part
    except MailError as error:
        yield False, error.text + (f" ({error.detail})" if error.detail else "")
    except OSError as error:
        yield False, f"{error.filename or 'cannot go on'}: {error.strerror or error}"
    except ConfigurationError as error:
        yield False, str(error)


def _components(config: Config) -> Iterator[Finding]:
    with watched(config.value(LOAD_SECONDS), complain):
        catalogue = load_catalogue(config.plugins)
    for line in catalogue.broken:
        yield False, f"plugin not loaded: {line}"
    # The certificate is looked over by itself: without it all other mistakes shall be found too.
    build_hub(config, environment(config), catalogue, server_tls=None)
    named = [
        ("stores", tuple(f"{name} ({part.type})" for name, part in config.stores.items())),
        ("directories", config.auth.directories),
        ("checkers", config.auth.checkers),
        ("realm", [config.auth.realm] if config.auth.realm else []),
        ("policies", config.delivery.policies),
        ("rules", config.delivery.rules),
    ]
    lists = "".join(f"; {kind} {', '.join(names)}" for kind, names in named if names)
    yield True, f"components: database {config.database.type}; store {config.store.type}{lists}"


def _aliases(config: Config) -> Iterator[Finding]:
    """Those of configuration and database, and lists: where they lead."""
    with opened(config, "read") as hub:
        everybody = everybody_of(config, hub)
        members = {name: hub.wait(everybody.names.members(name)) for name in everybody.names.lists}
        twice = sorted(config.lists.keys() & kept_names(hub).lists.keys())
    named = [
        str(config.place("send_as", f'"{name}"').error("there is no such account, alias or list"))
        for name in config.send_as
        if not everybody.has(Address.parse(name))
    ]
    for line in (*faults(everybody), *list_faults(everybody, members), *named):
        yield False if config.has_own_users_alone else None, line
    yield from _warnings(unrouted(config, everybody.names))
    for name in twice:
        what = "is a list of the database, too, whose settings do not count; members are those of both"
        yield None, str(config.place("list").inside(name).error(what))
    aliases = everybody.names.aliases
    names = {key.rpartition("@")[0] for key in (*everybody.users, *aliases.exact)} | set(aliases.everywhere)
    if everybody.names.domains and POSTMASTER not in names:
        # Not a problem: a catch-all or a plugin may know one.
        yield None, f"nobody is named {POSTMASTER}, whom every mail domain must have (RFC 5321 4.5.1): add an alias"


def _warnings(lines: Iterable[str]) -> Iterator[Finding]:
    for line in lines:
        yield None, line


def _hidden(config: Config) -> Iterator[Finding]:
    """Mailboxes in whose place another store is mounted."""
    shares = config.mailboxes
    found: dict[str, list[str]] = {}
    if not shares.folders:
        return
    with opened(config, "read") as hub:
        for account in hub.wait(hub.accounts.all()):
            with suppress(NoSuchUser):  # removed just now
                own = hub.wait(hub.wait(hub.database.store.account(account.user)).mailboxes())
                for name in shares.hidden(account.user, [each.name for each in own]):
                    found.setdefault(name, []).append(account.user)
    for name, users in sorted(found.items()):
        mount = shares.mount(name)
        whose = users[0] if len(users) == 1 else f"{users[0]} and {len(users) - 1} more"
        yield (
            None,
            f'[mailboxes.folders] "{mount}" hides the mailbox {name!r} that {whose} had before: its mail is kept, and '
            "seen again when nothing is mounted there",
        )


def _elsewhere(config: Config, arguments: argparse.Namespace) -> Iterator[Finding]:
    """A database that is not looked over, which is a problem only for who wants it repaired."""
    try:
        require_ours(config)
    except ConfigurationError as error:
        yield (False if arguments.repair else None), str(error)


def _repair(data: Path, arguments: argparse.Namespace) -> Iterator[Finding]:
    if not arguments.repair:
        return
    require(data)
    bar = Bar()
    with owning(data):
        for line in repaired(data, deep=arguments.deep, progress=bar):
            bar.end()
            yield None, f"store: {line}"
    bar.end()


def _written(config: Config) -> Iterator[Finding]:
    require(config.data)
    hindrance = try_write(config)
    if hindrance:
        yield False, f"store: {config.data} cannot be written at the moment: {hindrance}"


def _store_alone(data: Path, arguments: argparse.Namespace) -> Iterator[Finding]:
    """A data folder, or the copy of one. Nothing is changed in it."""
    bar = Bar()
    problems = verify(data, deep=arguments.deep, progress=bar)
    bar.end()
    for line in problems:
        yield False, f"store: {line}"
    if not problems:
        accounts, messages, queued = held(data)
        yield (
            True,
            f"store {data}: {counted(accounts, 'account')}, {counted(messages, 'message')}, {queued} in the queue",
        )


def _ledgers(data: Path) -> Iterator[Finding]:
    """Those of stores of their own."""
    for line in ledger_files.faults(data):
        yield False, line
    for name in ledger_files.strangers(data):
        yield None, f"{data / FOLDER / name} is no ledger of a store, and nobody needs it there"
    if ledgers := ledger_files.names(data):
        yield True, f"ledgers in {data / FOLDER}: {', '.join(ledgers)}"


def _server(config: Config) -> Iterator[Finding]:
    """The running server; where there is none, whether its ports can be opened."""
    folder = DataFolder(config.data)
    process = folder.server()
    if process is not None:
        folder.check_server(process)
        yield True, f"the server is running (process {process})"
        changed = config.file.stat().st_mtime
        if changed > folder.read_at():
            yield None, f"{config.file} is newer than what the running server has read: `mailhub reload`"
        return
    for service, endpoints in config.listen.items():
        for endpoint in both_families(endpoints):
            yield _can_be_opened(service, endpoint)


def _can_be_opened(service: str, endpoint: str) -> Finding:
    reason = obstacle(endpoint)
    if reason is None:
        return True, f"{service} {endpoint}: not tried"
    if reason == os.strerror(errno.EACCES) and os.geteuid() != 0:
        # The server may have a right that whoever looks has not.
        return None, f"{service} {endpoint}: not tried, ports below 1024 are for root, or for a unit with that right"
    return not reason, f"{service} {endpoint}: {reason or 'can be opened'}"
