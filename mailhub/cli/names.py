"""Addresses and names as commands read them, and who gets mail here by configuration and database together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mailhub.cli.alias_faults import Everybody
from mailhub.config import routes, rules
from mailhub.config.settings import Config
from mailhub.data_folder import DataFolder
from mailhub.delivery.names import FRESH_SECONDS, LocalNames
from mailhub.errors import ConfigurationError
from mailhub.interfaces import KeptNames
from mailhub.message.address import Address, fold_local, parse_local
from mailhub.message.aliases import is_pattern
from mailhub.message.lists import list_of_role

if TYPE_CHECKING:
    from mailhub.cli.offline import Offline

ALIAS_NAME = (
    'an address, "@domain" for every other name of a domain, a local part, which counts in every domain, or '
    '"wildcard:" or "regex:" and a pattern for addresses that nothing else knows'
)


def canonical(name: str) -> str:
    """One text for every way to write an alias; it can be read again. Raises ConfigurationError."""
    if is_pattern(name):
        try:
            return rules.alias(name)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    try:
        if name.startswith("@"):
            return "@" + rules.domain(name[1:])
        if "@" not in name:
            return str(Address(fold_local(parse_local(name)), "x")).rpartition("@")[0]
        address = Address.parse(name)
        return str(Address(fold_local(address.local), address.ascii_domain))
    except ValueError as error:
        raise ConfigurationError(f"{name!r} is not {ALIAS_NAME}: {error}") from None


def user_of(text: str) -> str:
    """The canonical address. Raises ConfigurationError."""
    try:
        return Address.parse(text).key
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a mail address: {error}") from None


def domain_of(text: str) -> str:
    """A domain name as A-labels. Raises ConfigurationError."""
    try:
        return rules.domain(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def kept_names(hub: Offline) -> KeptNames:
    """What the database has."""
    return hub.wait(hub.database.names.kept()) or KeptNames()


def await_server(config: Config) -> None:
    """Return when a running server has no older names in memory any more: then the change counts."""
    if DataFolder(config.data).server() is not None:
        time.sleep(FRESH_SECONDS)


def names_now(config: Config, hub: Offline) -> LocalNames:
    """Domains and aliases of configuration and database together."""
    names = LocalNames(routes.names(config), hub.database.names)
    hub.wait(names.look_again())
    return names


def everybody_of(config: Config, hub: Offline) -> Everybody:
    """All who get mail here now."""
    users = frozenset(account.user for account in hub.wait(hub.accounts.all()))
    return Everybody(config.hostname, names_now(config, hub), users)


def of_a_list(names: LocalNames, address: Address) -> str:
    """Why a name cannot be an account's or an alias's for a list's sake, "" where it can."""
    if address.key in names.lists:
        return f"{address.key} is a mailing list; `mailhub list remove {address.key}` ends it"
    if name := list_of_role(names.lists, address):
        return f"{address.key} is an address of the mailing list {name}"
    return ""
