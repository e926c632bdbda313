"""`mailhub domain`: domains that are ours beside those of the configuration. Counts at once."""

from __future__ import annotations

import argparse
from typing import Any

from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import await_server, domain_of, kept_names, names_now
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config, load
from mailhub.errors import ConfigurationError


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "domain",
        help="add, list and remove domains that are ours",
        description="Domains whose mail is ours, kept in the database beside `domains` of the configuration. Every "
        "change counts at once, the server need not be restarted.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="take mail for a domain")
    add.add_argument("domain", metavar="DOMAIN")
    add.add_argument(
        "--same-as",
        metavar="OTHER",
        help="every name of DOMAIN is to mean that of this domain of ours: its accounts, aliases and catch-all",
    )
    add.set_defaults(run=_add)

    show = actions.add_parser("list", help="all domains, and where each stands")
    show.set_defaults(run=_list)

    remove = actions.add_parser("remove", help="take no more mail for a domain; its accounts and their mail stay")
    remove.add_argument("domain", metavar="DOMAIN")
    yes_option(remove)
    remove.set_defaults(run=_remove)


def _not_in_file(config: Config, domain: str) -> None:
    if domain in config.domains or domain in config.domain_aliases:
        table = "domains" if domain in config.domains else "[domain_aliases]"
        raise ConfigurationError(f"{domain} stands in {table} of {config.file}; nothing was changed")


def _add(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    domain = domain_of(arguments.domain)
    _not_in_file(config, domain)
    if arguments.same_as is not None:
        _add_same(config, domain, domain_of(arguments.same_as))
        return
    with opened(config) as hub:
        if domain in kept_names(hub).same_as:
            raise ConfigurationError(f"{domain} is the same as another domain; `mailhub domain remove {domain}` first")
        if not hub.wait(hub.database.names.add_domain(domain)):
            raise ConfigurationError(f"{domain} is one of our domains already; nothing was changed")
    await_server(config)
    print(f"domain {domain} added; publish its MX record, and give it a postmaster")


def _add_same(config: Config, domain: str, other: str) -> None:
    with opened(config) as hub:
        names = names_now(config, hub)
        if other not in names.domains or other in names.same_as:
            raise ConfigurationError(f"{other} is not one of our own domains; `mailhub domain list` shows all")
        if domain in kept_names(hub).domains:
            raise ConfigurationError(f"{domain} is a domain of its own; `mailhub domain remove {domain}` first")
        accounts = [account.user for account in hub.wait(hub.accounts.all()) if account.user.endswith(f"@{domain}")]
        if accounts:
            raise ConfigurationError(f"{domain} has accounts, such as {accounts[0]}, that would get no mail any more")
        if not hub.wait(hub.database.names.add_domain_alias(domain, other)):
            raise ConfigurationError(f"{domain} is the same as {other} already; nothing was changed")
    await_server(config)
    print(f"domain {domain} added: its names are those of {other}; publish its MX record")


def _list(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config, "read") as hub:
        kept = kept_names(hub)
    same_as = {**kept.same_as, **config.domain_aliases}
    for domain in sorted({*config.domains, *kept.domains, *same_as}):
        where = "file" if domain in config.domains or domain in config.domain_aliases else "database"
        own = domain in config.domains or domain in kept.domains
        print(f"{domain:40}  {where}" + ("" if own else f"  same as {same_as[domain]}"))


def _remove(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    domain = domain_of(arguments.domain)
    if domain in config.domains or domain in config.domain_aliases:
        table = "domains" if domain in config.domains else "[domain_aliases]"
        raise ConfigurationError(f"{domain} stands in {table} of {config.file}; remove it there")
    with opened(config) as hub:
        kept = kept_names(hub)
        if domain not in kept.domains and domain not in kept.same_as:
            raise ConfigurationError(f"{domain} is not one of our domains; `mailhub domain list` shows all")
        refused = _receivers(config, hub, domain)
        if domain in kept.same_as:
            refused = f"all names of {kept.same_as[domain]}"
        elif any(other == domain for other in kept.same_as.values()):
            others = ", ".join(name for name, other in sorted(kept.same_as.items()) if other == domain)
            refused = " and ".join(filter(None, (refused, f"the names of {others}")))
        if refused and not confirmed(arguments, f"Refuse mail for {domain} from now on? It has {refused}."):
            return 1
        hub.wait(hub.database.names.remove_domain(domain))
    await_server(config)
    print(f"domain {domain} removed")
    return 0


def _receivers(config: Config, hub: Offline, domain: str) -> str:
    """Who gets mail in a domain now, in words."""
    accounts = sum(account.user.endswith(f"@{domain}") for account in hub.wait(hub.accounts.all()))
    # Aliases of the file cannot be in a domain that only the database has, except those without a domain.
    aliases = sum(
        "@" not in name or name.rpartition("@")[2] == domain for name in {*config.aliases, *kept_names(hub).aliases}
    )
    lists = sum(name.endswith(f"@{domain}") for name in kept_names(hub).lists)
    words = [
        f"{count} {what}{'' if count == 1 else end}"
        for count, what, end in ((accounts, "account", "s"), (aliases, "alias", "es"), (lists, "list", "s"))
        if count
    ]
    return " and ".join(words)
