"""`mailhub alias`: names that stand for others, beside those of the configuration. Counts at once."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mailhub.cli.alias_faults import faults
from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import ALIAS_NAME, await_server, canonical, everybody_of, kept_names, names_now, of_a_list
from mailhub.cli.offline import Offline, opened
from mailhub.config import rules
from mailhub.config.settings import Config, load
from mailhub.errors import ConfigurationError
from mailhub.message.address import Address
from mailhub.message.aliases import is_pattern


def add_parser(commands: Any) -> Any:
    """The grammar of this command. Returns where more actions can be added."""
    group = commands.add_parser(
        "alias",
        help="add, list and remove aliases",
        description="Aliases kept in the database beside [aliases] of the configuration. Every change counts at once, "
        "the server need not be restarted.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="a new alias, or more targets for one that is there")
    add.add_argument("name", metavar="NAME", help=ALIAS_NAME)
    add.add_argument("targets", metavar="TARGET", nargs="+", help="addresses, here or elsewhere, that get its mail")
    add.set_defaults(run=_add)

    show = actions.add_parser("list", help="all aliases, where each stands, and their targets")
    show.set_defaults(run=_list)

    remove = actions.add_parser("remove", help="an alias, or some of its targets")
    remove.add_argument("name", metavar="NAME", help="as in `mailhub alias list`")
    remove.add_argument("targets", metavar="TARGET", nargs="*", default=[], help="targets to remove (default: all)")
    yes_option(remove)
    remove.set_defaults(run=_remove)
    return actions


def _domain(name: str) -> str:
    """That of an alias; "" where it is for all of them."""
    return name.rpartition("@")[2] if "@" in name and not is_pattern(name) else ""


def _targets(name: str, texts: list[str]) -> list[str]:
    try:
        return list(dict.fromkeys(rules.alias_targets(name, texts))) if texts else []
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _only_in_database(config: Config, name: str) -> None:
    if name in map(canonical, config.aliases):
        raise ConfigurationError(f"{name} stands in [aliases] of {config.file}; change it there")


def _add(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    name = canonical(arguments.name)
    targets = _targets(name, arguments.targets)
    _only_in_database(config, name)
    with opened(config) as hub:
        domain, names = _domain(name), names_now(config, hub)
        if name.startswith("@") and domain in names.same_as:
            raise ConfigurationError(f"{domain} is the same as {names.same_as[domain]}; give that one the catch-all")
        if domain and domain not in names.domains:
            raise ConfigurationError(f"{domain} is not one of our domains; `mailhub domain add {domain}` makes it one")
        if domain and not name.startswith("@") and (reason := of_a_list(names, Address.parse(name))):
            raise ConfigurationError(reason)
        new = hub.wait(hub.database.names.add_alias(name, targets))
        if not new:
            raise ConfigurationError(f"{name} stands for {', '.join(targets)} already; nothing was changed")
        everybody = everybody_of(config, hub)
    await_server(config)
    print(f"alias {name} -> {', '.join(new)} added")
    for fault in faults(everybody):
        print(f"mailhub: warning: {fault}", file=sys.stderr)


def _list(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config, "read") as hub:
        domains = names_now(config, hub).domains
        kept = kept_names(hub).aliases
    file = {canonical(name): targets for name, targets in config.aliases.items()}
    lines = [(name, "file", ", ".join(targets)) for name, targets in file.items()]
    for name, targets in kept.items():
        why = ""
        if name in file:
            why = "  (not in use: the file has this name too)"
        elif _domain(name) and _domain(name) not in domains:
            why = "  (not in use: its domain is not ours)"
        lines.append((name, "database", ", ".join(targets) + why))
    for name, where, targets_text in sorted(lines):
        print(f"{name:40}  {where:8}  {targets_text}")


def _remove(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    name = canonical(arguments.name)
    targets = _targets(name, arguments.targets)
    with opened(config) as hub:
        had = kept_names(hub).aliases.get(name, ())
        if not had:
            _only_in_database(config, name)
            raise ConfigurationError(f"there is no alias {name}; `mailhub alias list` shows all")
        if unknown := [target for target in targets if target not in had]:
            raise ConfigurationError(f"{name} does not stand for {', '.join(unknown)}; nothing was changed")
        left = [target for target in had if targets and target not in targets]
        question = f"Refuse mail for {name} from now on?"
        if not left and _refuses(config, hub, name) and not confirmed(arguments, question):
            return 1
        gone = hub.wait(hub.database.names.remove_alias(name, targets))
    await_server(config)
    print(f"alias {name} -> {', '.join(gone)} removed")
    return 0


def _refuses(config: Config, hub: Offline, name: str) -> bool:
    """Whether mail for a name will find nobody without this alias."""
    if "@" not in name or name.startswith("@") or is_pattern(name):
        return True
    return not everybody_of(config, hub).without(name).knows(Address.parse(name))
