"""`mailhub alias import`: tables of other servers, taken into the database. All of a file, or nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from mailhub.cli.alias_faults import faults
from mailhub.cli.backup import counted
from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import await_server, canonical, everybody_of, kept_names, names_now
from mailhub.cli.offline import Offline, as_caller, opened
from mailhub.config import rules
from mailhub.config.settings import Config, load
from mailhub.delivery.names import LocalNames
from mailhub.errors import ConfigurationError
from mailhub.message.address import Address
from mailhub.message.alias_files import FILE_LIMIT, Entry, Table, in_domain, read_table
from mailhub.message.aliases import REGEX, is_pattern

_WARNINGS = 20
_SHOWN = 10  # lines that have one cause


def add_parser(actions: Any) -> None:
    """The grammar of this action of `mailhub alias`."""
    add = actions.add_parser(
        "import",
        help="aliases of another server's table",
        description="Take the aliases of a file into the database, beside what is there. When a line cannot be taken "
        "over, it is named and nothing is changed. Doing it again adds only what is new in the file; with --replace, "
        "what the file does not have is removed, too.",
    )
    add.add_argument("file", metavar="FILE", type=Path)
    add.add_argument(
        "--format",
        choices=("aliases", "virtual", "regexp"),
        default="aliases",
        help="aliases: /etc/aliases (the default); virtual and regexp: tables of Postfix",
    )
    add.add_argument(
        "--domain", metavar="DOMAIN", help="of names and targets without one (default: ours, where there is one alone)"
    )
    add.add_argument(
        "--replace",
        action="store_true",
        help="remove aliases and targets of the database that are not in the file, in the domains that the file is "
        "about (with regexp: all regular expressions)",
    )
    add.add_argument("--dry-run", action="store_true", help="say what would be changed, and change nothing")
    yes_option(add)
    add.set_defaults(run=_import)


class _NotTaken(ValueError):
    """What keeps the alias of a name out of the database."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name, self.cause = name, cause


@attrs.frozen
class _Wrong:
    """A mistake in a line, 0 for the file as a whole: about a `name`, or "" for the line."""

    line: int
    name: str
    cause: str


@attrs.frozen
class _Wanted:
    """What is to be in the database, and is not; `gone` are targets that it has too much. `read` is how many aliases
    the file has."""

    aliases: dict[str, tuple[str, ...]]
    domains: tuple[str, ...]
    same_as: dict[str, str]
    gone: Mapping[str, Sequence[str]]
    read: int = 0

    @property
    def gone_count(self) -> int:
        """How many targets."""
        return sum(map(len, self.gone.values()))


def _import(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    with opened(config, "read" if arguments.dry_run else "write") as hub:
        with as_caller():
            table = read_table(_octets(arguments.file), arguments.format, _octets)
        names = names_now(config, hub)
        domain = _domain(arguments.domain, names)
        wanted, wrong = _wanted(table, names, config, hub, domain, replace=_about(arguments, table, domain))
        if wrong:
            for line in wrong:
                print(f"mailhub: {arguments.file}: {line}", file=sys.stderr)
            print(f"mailhub: {arguments.file}: nothing was changed", file=sys.stderr)
            return 1
        if arguments.dry_run:
            _show(wanted)
            return 0
        if wanted.gone and not confirmed(arguments, f"Remove {counted(wanted.gone_count, 'target')} of aliases?"):
            return 1
        remove = {"remove": wanted.gone} if wanted.gone else {}
        new = hub.wait(hub.database.names.add_all(wanted.aliases, wanted.domains, wanted.same_as, **remove))
        found = faults(everybody_of(config, hub)) if new or wanted.gone else []
    await_server(config)
    removed = f", {wanted.gone_count} removed" if arguments.replace else ""
    print(f"{wanted.read} alias{'' if wanted.read == 1 else 'es'} read, {new} domains and targets are new{removed}")
    for fault in found[:_WARNINGS]:
        print(f"mailhub: warning: {fault}", file=sys.stderr)
    if len(found) > _WARNINGS:
        print(f"mailhub: warning: {len(found) - _WARNINGS} more; `mailhub check` shows all", file=sys.stderr)
    return 0


def _octets(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(FILE_LIMIT + 1)
    except OSError as error:
        if isinstance(path, str):
            raise  # an included file, whose line is named
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _domain(text: str | None, names: LocalNames) -> str:
    """That of names without one, "" where it cannot be told. Raises ConfigurationError."""
    own = sorted(names.domains - names.same_as.keys())
    if text is None:
        return own[0] if len(own) == 1 else ""
    try:
        domain = rules.domain(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if domain not in names.domains:
        raise ConfigurationError(f"{domain} is not one of our domains; `mailhub domain add {domain}` makes it one")
    return domain


def _about(arguments: argparse.Namespace, table: Table, domain: str) -> Callable[[str], bool]:
    """Whether an alias of the database has no other reason than the file."""
    if not arguments.replace:
        return lambda name: False
    if arguments.format == "regexp":
        return lambda name: name.startswith(REGEX)
    domains = {name.rpartition("@")[2] for name in in_domain([entry.name for entry in table.entries], domain)}
    domains |= {*table.domains, *([domain] if arguments.domain or arguments.format == "aliases" else [])}
    return lambda name: not is_pattern(name) and "@" in name and name.rpartition("@")[2] in domains


def _wanted(
    table: Table, names: LocalNames, config: Config, hub: Offline, domain: str, *, replace: Callable[[str], bool]
) -> tuple[_Wanted, list[str]]:
    """What is wanted, and what is wrong with it. `replace` says which aliases have to be in the file."""
    wrong = [_Wrong(fault.line, "", fault.text) for fault in table.faults]
    in_file = set(map(canonical, config.aliases))
    kept = kept_names(hub)
    domains = names.domains | set(table.domains)
    wanted = _Wanted({}, tuple(name for name in table.domains if name not in names.domains), {}, {})
    for entry in table.entries:
        try:
            _take(entry, wanted, domains, in_file, domain)
        except _NotTaken as error:
            wrong.append(_Wrong(entry.line, error.name, error.cause))
        except ValueError as error:
            wrong.append(_Wrong(entry.line, "", str(error)))
    gone = {
        name: _lost(targets, wanted.aliases.get(name, ())) for name, targets in kept.aliases.items() if replace(name)
    }
    wanted = attrs.evolve(wanted, gone={name: lost for name, lost in gone.items() if lost}, read=len(wanted.aliases))
    for name, targets in wanted.aliases.items():
        # Of an address that is there in other letters, nothing is new.
        had = {_same(target) for target in kept.aliases.get(name, ())}
        left = {_same(target): target for target in reversed(targets)}
        wanted.aliases[name] = tuple(
            target for target in targets if target in left.values() and _same(target) not in had
        )
    for name, other in dict(wanted.same_as).items():
        if names.same_as.get(name) == other:
            del wanted.same_as[name]
        elif (
            name in kept.domains or name in config.domains or any(each.endswith(f"@{name}") for each in wanted.aliases)
        ):
            wrong.append(_Wrong(0, "", f"{name} is to be the same as {other}, but has names of its own"))
    return wanted, _told(wrong)


def _told(wrong: Sequence[_Wrong]) -> list[str]:
    """A line for each cause, with all that have it."""
    by_cause: dict[str, list[_Wrong]] = {}
    for each in wrong:
        by_cause.setdefault(each.cause, []).append(each)
    lines = []
    for cause, those in by_cause.items():
        where = ", ".join(str(each.line) for each in those[:_SHOWN])
        more = f" and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
        names = ", ".join(dict.fromkeys(each.name for each in those[:_SHOWN] if each.name))
        before = f"line{'s' if len(those) > 1 else ''} {where}{more}: " if those[0].line else ""
        lines.append(before + (f"{names}{more}: " if names else "") + cause)
    return lines


def _lost(had: Sequence[str], targets: Sequence[str]) -> list[str]:
    left = set(map(_same, targets))
    return [target for target in had if _same(target) not in left]


def _same(target: str) -> str:
    """One text for every way to write a target; those of patterns may be none."""
    try:
        return Address.parse(target).key
    except ValueError:
        return target


def _take(entry: Entry, wanted: _Wanted, domains: set[str] | frozenset[str], in_file: set[str], domain: str) -> None:
    """Raises ValueError."""
    if entry.answer:
        can = 'a [router.x] of type "aliases-file" can answer'
        raise _NotTaken(entry.name, f"an alias of the database leads to addresses; {can}")
    if not domain and any(text == "@" or "@" not in text for text in (entry.name, *entry.targets)):
        raise _NotTaken(entry.name, "has no domain; say which one by --domain")
    (name,) = in_domain([entry.name], domain)
    if name in in_file:
        raise _NotTaken(
            name, "stands in [aliases] of the configuration, which goes before; leave it out of one of the two"
        )
    own = "" if name.startswith(REGEX) else name.rpartition("@")[2]
    (first, *_) = entry.targets
    if first.startswith("@"):
        if first[1:] not in domains:
            raise ValueError(f"{first[1:]} is not one of our domains")
        wanted.same_as[own] = first[1:]
        return
    if own and own not in domains:
        raise ValueError(f"{own} is not one of our domains; `mailhub domain add {own}` makes it one")
    wanted.aliases[name] = tuple(dict.fromkeys(in_domain(entry.targets, own or domain)))


def _show(wanted: _Wanted) -> None:
    for name in wanted.domains:
        print(f"domain {name}")
    for name, other in wanted.same_as.items():
        print(f"domain {name} same as {other}")
    for name, targets in wanted.aliases.items():
        if targets:
            print(f"alias {name} -> {', '.join(targets)}")
    for name, lost in wanted.gone.items():
        print(f"alias {name} -> {', '.join(lost)} removed")
