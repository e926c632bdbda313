"""`mailhub account`: the account table. Works while the server runs."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mailhub.cli import passwords
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config, load
from mailhub.errors import ConfigurationError, MailboxExists, NoSuchUser
from mailhub.message.address import Address


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "account",
        help="add, list and remove accounts, change passwords",
        description="Accounts of mailhub's own table. Every change counts at once, the server need not be restarted.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="a new account with the usual folders")
    add.add_argument("address", metavar="ADDRESS", help="its mail address, which is also the login name")
    _password_option(add)
    add.add_argument(
        "--quota-bytes", type=_octets, default=0, metavar="N", help="most it may hold; 0, the default: any"
    )
    add.set_defaults(run=_add)

    show = actions.add_parser("list", help="all accounts, with what they hold")
    show.set_defaults(run=_list)

    remove = actions.add_parser("remove", help="an account, with all its mail")
    remove.add_argument("address", metavar="ADDRESS")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.set_defaults(run=_remove)

    password = actions.add_parser("password", help="a new password; the old one stops working at once")
    password.add_argument("address", metavar="ADDRESS")
    _password_option(password)
    password.set_defaults(run=_password)


def _password_option(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from the first line of standard input; without this option one is made and shown",
    )


def _octets(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def user_of(text: str) -> str:
    """The canonical address. Raises ConfigurationError."""
    try:
        return Address.parse(text).key
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a mail address: {error}") from None


def local_user(config: Config, text: str) -> str:
    """The same, in one of our own domains. Raises ConfigurationError."""
    user = user_of(text)
    domain = user.rpartition("@")[2]
    if domain not in config.domains:
        raise ConfigurationError(f"{domain} is not one of our domains; add it to domains in {config.file} first")
    return user


def _chosen_password(arguments: argparse.Namespace, user: str) -> tuple[str, str]:
    """The password and its hash."""
    password = passwords.from_stdin(user) if arguments.password_stdin else passwords.generate()
    return password, passwords.hashed(user, password)


def _tell(arguments: argparse.Namespace, password: str) -> None:
    if not arguments.password_stdin:
        print(f"password: {password}    (shown this once)")


def _add(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    user = local_user(config, arguments.address)
    password, encoded = _chosen_password(arguments, user)
    with opened(config) as hub:
        try:
            hub.wait(hub.accounts.add(user, encoded, arguments.quota_bytes))
        except MailboxExists:
            raise ConfigurationError(
                f"there is an account {user} already; `mailhub account password` changes it"
            ) from None
    print(f"account {user} added")
    _tell(arguments, password)


def _list(arguments: argparse.Namespace) -> None:
    with opened(load(arguments.config)) as hub:
        for account in hub.wait(hub.accounts.all()):
            print(_line(hub, account.user, account.quota, account.enabled))


def _line(hub: Offline, user: str, limit: int, enabled: bool) -> str:
    try:
        held = hub.wait(hub.wait(hub.queue.store.account(user)).quota())
    except NoSuchUser:
        return f"{user}  removed just now"
    words = [f"{user:40}", f"{held.messages} messages", f"{held.used} octets"]
    if limit:
        words.append(f"of {limit}")
    if not enabled:
        words.append("disabled")
    return "  ".join(words)


def _remove(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    user = user_of(arguments.address)
    if not arguments.yes and sys.stdin.isatty():
        answer = input(f"Remove {user} and all its mail for good? Type yes: ")
        if answer.strip().lower() != "yes":
            print("nothing was changed")
            return 1
    with opened(config) as hub:
        try:
            hub.wait(hub.accounts.remove(user))
        except NoSuchUser:
            raise _no_account(user) from None
    print(f"account {user} removed")
    return 0


def _password(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    user = user_of(arguments.address)
    password, encoded = _chosen_password(arguments, user)
    with opened(config) as hub:
        try:
            hub.wait(hub.accounts.set_password(user, encoded))
        except NoSuchUser:
            raise _no_account(user) from None
    print(f"password of {user} changed")
    _tell(arguments, password)


def _no_account(user: str) -> ConfigurationError:
    return ConfigurationError(f"there is no account {user}; `mailhub account list` shows all")
