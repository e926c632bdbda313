"""`mailhub account`: the account table. Works while the server runs."""

from __future__ import annotations

import argparse
import time
from typing import Any

import attrs

from mailhub.auth.send_as import PART, KeptGrants
from mailhub.cli import passwords
from mailhub.cli.backup import counted
from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import names_now, of_a_list, user_of
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config, load
from mailhub.delivery.allowance import Bounds, forget, give_bounds, own_bounds, sent_lately
from mailhub.errors import ConfigurationError, MailboxExists, NoSuchUser
from mailhub.message.address import Address
from mailhub.store.several import MAIN

_LIMIT_MOST = 1_000_000
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}  # powers of two


def add_parser(commands: Any) -> Any:
    """The grammar of this command. Returns where more actions can be added."""
    group = commands.add_parser(
        "account",
        help="add, list, disable and remove accounts, change passwords and quotas",
        description="Accounts of mailhub's own table. Every change counts at once, the server need not be restarted.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="a new account with the usual folders")
    add.add_argument("address", metavar="ADDRESS", help="its mail address, which is also the login name")
    _password_option(add)
    add.add_argument(
        "--quota-bytes",
        type=_octets,
        default=0,
        metavar="N",
        help="most it may hold, such as 500M (default: any)",
    )
    add.set_defaults(run=_add)

    every = actions.add_parser("list", help="all accounts, with what they hold")
    every.set_defaults(run=_list)

    show = actions.add_parser("show", help="one account: what it holds, what it has sent, and its bounds")
    show.add_argument("address", metavar="ADDRESS")
    show.set_defaults(run=_show)

    remove = actions.add_parser("remove", help="an account, with all its mail")
    remove.add_argument("address", metavar="ADDRESS")
    yes_option(remove)
    remove.set_defaults(run=_remove)

    password = actions.add_parser("password", help="a new password; the old one stops working at once")
    password.add_argument("address", metavar="ADDRESS")
    _password_option(password)
    password.set_defaults(run=_password)

    disable = actions.add_parser("disable", help="no login any more; its mail stays, and mail for it is still taken")
    disable.add_argument("address", metavar="ADDRESS")
    disable.set_defaults(run=_enable, enabled=False)

    enable = actions.add_parser("enable", help="logins again, with the same password")
    enable.add_argument("address", metavar="ADDRESS")
    enable.set_defaults(run=_enable, enabled=True)

    quota = actions.add_parser("quota", help="show or change how much an account may hold")
    quota.add_argument("address", metavar="ADDRESS")
    quota.add_argument(
        "octets", metavar="OCTETS", type=_octets, nargs="?", help="most it may hold, such as 500M or 2G; 0: any"
    )
    quota.set_defaults(run=_quota)
    _limit_option(actions)
    return actions


def _password_option(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from the first line of standard input; without this option one is made and shown",
    )


def _octets(text: str) -> int:
    """A number of octets: `1000`, or with K, M, G or T for powers of 1024. Raises ArgumentTypeError."""
    unit = _UNITS.get(text[-1:].upper(), 0)
    number = int(digits) << unit if (digits := text[:-1] if unit else text).isdecimal() else -1
    if not 0 <= number < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of octets, such as 500M or 2G; 0 is any")
    return number


def _chosen_password(arguments: argparse.Namespace, user: str) -> tuple[str, str]:
    """The password and its hash."""
    password = passwords.from_stdin(user) if arguments.password_stdin else passwords.generate()
    return password, passwords.hashed(user, password)


def _tell(arguments: argparse.Namespace, password: str) -> None:
    if not arguments.password_stdin:
        print(f"password: {password}    (shown this once)")


def _add(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    user = user_of(arguments.address)
    with opened(config, "create") as hub:
        domain = user.rpartition("@")[2]
        names = names_now(config, hub)
        if domain in names.same_as:
            raise ConfigurationError(f"{domain} is the same as {names.same_as[domain]}, which has the accounts")
        if domain not in names.domains:
            raise ConfigurationError(f"{domain} is not one of our domains; `mailhub domain add {domain}` makes it one")
        if reason := of_a_list(names, Address.parse(user)):
            raise ConfigurationError(reason)
        password, encoded = _chosen_password(arguments, user)
        try:
            hub.wait(hub.accounts.add(user, encoded, arguments.quota_bytes))
        except MailboxExists:
            raise ConfigurationError(
                f"there is an account {user} already; `mailhub account password` changes it"
            ) from None
    print(f"account {user} added")
    _tell(arguments, password)


def _list(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config, "read") as hub:
        for account in hub.wait(hub.accounts.all()):
            bounds = _own_bounds(hub, account.user)
            line = _line(hub, account.user, account.quota, account.enabled, _elsewhere(config, account.user))
            print(f"{line}  {_told(bounds)} a day" if bounds else line)


def _show(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    user = user_of(arguments.address)
    with opened(config, "read") as hub:
        account = hub.wait(hub.accounts.find(user))
        if account is None:
            raise _no_account(user)
        print(_line(hub, user, account.quota, account.enabled, _elsewhere(config, user)))
        _show_limits(config, hub, user)


def _elsewhere(config: Config, user: str) -> str:
    """The other store that has an account's mail and looks after its quota, "" for none."""
    home = config.mailboxes.home(user)
    return "" if home == MAIN else home


def _line(hub: Offline, user: str, limit: int, enabled: bool, elsewhere: str = "") -> str:
    try:
        held = hub.wait(hub.wait(hub.database.store.account(user)).quota())
    except NoSuchUser:
        return f"{user}  removed just now"
    words = [f"{user:40}", counted(held.messages, "message"), f"{held.used} octets"]
    if elsewhere:
        words = [f"{user:40}", f"mail in [stores.{elsewhere}]"]
    elif limit:
        words.append(f"of {limit}")
    if not enabled:
        words.append("disabled")
    return "  ".join(words)


def _remove(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    user = user_of(arguments.address)
    with opened(config) as hub:
        try:
            held = hub.wait(hub.wait(hub.database.store.account(user)).quota())
            count = f"{held.messages} message{'' if held.messages == 1 else 's'}"
            if not confirmed(arguments, f"Remove {user} and all its mail for good? It has {count}."):
                return 1
            hub.wait(hub.accounts.remove(user))
            hub.wait(KeptGrants(hub.database.state.of(PART)).remove(user))  # nobody else of that name is to have them
            hub.wait(forget(hub.database.state, user))
        except NoSuchUser:
            raise _no_account(user) from None
    print(f"account {user} removed")
    return 0


def _enable(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    user = user_of(arguments.address)
    with opened(config) as hub:
        try:
            hub.wait(hub.accounts.set_enabled(user, arguments.enabled))
        except NoSuchUser:
            raise _no_account(user) from None
    if arguments.enabled:
        print(f"account {user} enabled")
    else:
        print(f"account {user} disabled: nobody can log in; mail for it is still taken")


def _quota(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    user = user_of(arguments.address)
    with opened(config) as hub:
        try:
            if arguments.octets is not None:
                hub.wait(hub.accounts.set_quota(user, arguments.octets))
            held = hub.wait(hub.wait(hub.database.store.account(user)).quota())
        except NoSuchUser:
            raise _no_account(user) from None
    if elsewhere := _elsewhere(config, user):
        print(f"the mail of account {user} is in [stores.{elsewhere}], which looks after its quota itself")
        return
    limit = f"of {held.limit} octets" if held.limit else "octets, no quota"
    print(f"account {user} holds {held.used} {limit}")


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


def _limit_option(actions: Any) -> None:
    action = actions.add_parser(
        "limit",
        help="show or change how much an account may send in a day",
        description="How much an account may send in 24 hours. Counts within a second, also for the session that is "
        "sending. What is not given stays as it is.",
    )
    action.add_argument("address", metavar="ADDRESS")
    for option, what in (
        ("--messages", "messages"),
        ("--recipients", "recipients of all messages together"),
        ("--new", "recipients in other domains to whom it writes for the first time"),
    ):
        action.add_argument(option, metavar="N", type=_number, help=f"{what}; 0: any number")
    action.add_argument("--default", action="store_true", help="those of the configuration again")
    action.set_defaults(run=_limit)


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) > _LIMIT_MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {_LIMIT_MOST}; 0 is any")
    return int(text)


def _limit(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    user = user_of(arguments.address)
    given = {
        name: number
        for name, number in (
            ("messages", arguments.messages),
            ("recipients", arguments.recipients),
            ("new_recipients", arguments.new),
        )
        if number is not None
    }
    if given and arguments.default:
        raise ConfigurationError("give numbers or --default, not both")
    with opened(config, "write" if given or arguments.default else "read") as hub:
        if hub.wait(hub.accounts.find(user)) is None:
            raise _no_account(user)
        if arguments.default:
            hub.wait(give_bounds(hub.database.state, user, None))
        elif given:
            before = _own_bounds(hub, user) or config.of(Bounds)
            hub.wait(give_bounds(hub.database.state, user, attrs.evolve(before, **given)))
        _show_limits(config, hub, user)


def _own_bounds(hub: Offline, user: str) -> Bounds | None:
    """The bounds that a command has given an account."""
    return hub.wait(own_bounds(hub.database.state, user))


def _told(bounds: Bounds) -> str:
    """Without "a day"."""
    words = ("messages", "recipients", "new recipients")
    limited = [f"{most} {what}" for most, what in zip(bounds.all, words, strict=True) if most]
    return f"may send {', '.join(limited)}" if limited else "may send any number"


def _show_limits(config: Config, hub: Offline, user: str) -> None:
    """Bounds and what counts towards them."""
    bounds = _own_bounds(hub, user)
    whose = "own limits" if bounds else "the limits of the configuration"
    print(f"account {user} {_told(bounds or config.of(Bounds))} a day ({whose})")
    sent = hub.wait(sent_lately(hub.database.state, user, int(time.time())))
    print(f"sent in the last 24 hours: {', '.join(f'{number} {what}' for what, number in sent.items())}")
