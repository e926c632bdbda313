"""`mailhub domain`: domains that are ours beside those of the configuration. Counts at once."""

from __future__ import annotations

import argparse
from typing import Any

from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import await_server, kept_names
from mailhub.cli.offline import Offline, opened
from mailhub.config import rules
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
    add.set_defaults(run=_add)

    show = actions.add_parser("list", help="all domains, and where each stands")
    show.set_defaults(run=_list)

    remove = actions.add_parser("remove", help="take no more mail for a domain; its accounts and their mail stay")
    remove.add_argument("domain", metavar="DOMAIN")
    yes_option(remove)
    remove.set_defaults(run=_remove)


def domain_of(text: str) -> str:
    """A domain name as A-labels. Raises ConfigurationError."""
    try:
        return rules.domain(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _not_in_file(config: Config, domain: str) -> None:
    if domain in config.domains:
        raise ConfigurationError(f"{domain} stands in domains of {config.file}; nothing was changed")


def _add(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    domain = domain_of(arguments.domain)
    _not_in_file(config, domain)
    with opened(config) as hub:
        if not hub.wait(hub.database.names.add_domain(domain)):
            raise ConfigurationError(f"{domain} is one of our domains already; nothing was changed")
    await_server(config)
    print(f"domain {domain} added; publish its MX record, and give it a postmaster")


def _list(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config, "read") as hub:
        kept = kept_names(hub).domains
    for domain in sorted({*config.domains, *kept}):
        print(f"{domain:40}  {'file' if domain in config.domains else 'database'}")


def _remove(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    domain = domain_of(arguments.domain)
    if domain in config.domains:
        raise ConfigurationError(f"{domain} stands in domains of {config.file}; remove it there")
    with opened(config) as hub:
        if domain not in kept_names(hub).domains:
            raise ConfigurationError(f"{domain} is not one of our domains; `mailhub domain list` shows all")
        refused = _receivers(config, hub, domain)
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
    words = [
        f"{count} {what}{'' if count == 1 else end}"
        for count, what, end in ((accounts, "account", "s"), (aliases, "alias", "es"))
        if count
    ]
    return " and ".join(words)
