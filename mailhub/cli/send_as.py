"""`mailhub account sendas`: addresses that accounts may send as beside their own."""

from __future__ import annotations

import argparse
from typing import Any

from mailhub.auth.send_as import PART, KeptGrants
from mailhub.cli.names import everybody_of, user_of
from mailhub.cli.offline import opened
from mailhub.config import rules
from mailhub.config.settings import load
from mailhub.errors import ConfigurationError
from mailhub.message.address import Address


def add_parser(actions: Any) -> None:
    """The grammar of this action of `mailhub account`."""
    group = actions.add_parser(
        "sendas",
        help="addresses that an account may send as, beside its own",
        description="Lets an account, or all that an alias or a list leads to, send as other addresses. Its own "
        "address and its aliases need no grant. Grants of the configuration stand in [send_as].",
    )
    steps = group.add_subparsers(metavar="STEP", required=True)
    for name, run, text in (("add", _add, "grant it"), ("remove", _remove, "take it back")):
        step = steps.add_parser(name, help=text)
        step.add_argument("address", metavar="ADDRESS", help="of the account, alias or list")
        step.add_argument("other", metavar="OTHER", help='an address, "@domain" for all of a domain, or "*" for any')
        step.set_defaults(run=run)
    listing = steps.add_parser("list", help="all grants, those of the configuration as well")
    listing.add_argument("address", metavar="ADDRESS", nargs="?", help="of one account, alias or list")
    listing.set_defaults(run=_list)


def _other(text: str) -> str:
    """One text for every way to write it. Raises ConfigurationError."""
    try:
        found = rules.send_as(text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if found.null:
        raise ConfigurationError("everybody may send with the null sender")
    domains = [f"@{domain}" for domain in found.domains] + [f"@*.{domain}" for domain in found.above]
    return next(iter([*found.addresses, *domains, "*"]))


def _add(arguments: argparse.Namespace) -> None:
    grantee, other = user_of(arguments.address), _other(arguments.other)
    config = load(arguments.config)
    with opened(config) as hub:
        if config.has_own_users_alone and not everybody_of(config, hub).has(Address.parse(grantee)):
            raise ConfigurationError(f"there is no account, alias or list {grantee}")
        new = hub.wait(KeptGrants(hub.database.state.of(PART)).add(grantee, other))
    print(f"{grantee} may send as {other}" + ("" if new else ", as before"))


def _remove(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    grantee, other = user_of(arguments.address), _other(arguments.other)
    with opened(config) as hub:
        count = hub.wait(KeptGrants(hub.database.state.of(PART)).remove(grantee, other))
    if not count:
        own = any(other == _other(each) for each in config.send_as.get(grantee, ()))
        where = f"; it stands in [send_as] of {config.file}" if own else ""
        raise ConfigurationError(f"{grantee} has no such grant{where}")
    print(f"{grantee} may not send as {other} any more")


def _list(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config, "read") as hub:
        found = [(*pair, "database") for pair in hub.wait(KeptGrants(hub.database.state.of(PART)).all())]
    for grantee, others in config.send_as.items():
        found += [(grantee, _other(each), "configuration") for each in others]
    wanted = user_of(arguments.address) if arguments.address else ""
    for grantee, other, where in sorted(found):
        if wanted in ("", grantee):
            print(f"{grantee}  {other}  {where}")
