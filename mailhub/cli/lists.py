"""`mailhub list`: mailing lists and groups, kept in the database beside those of the configuration. Counts at once."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import attrs

from mailhub.cli.backup import counted
from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import await_server, everybody_of, kept_names, names_now
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import Config, load
from mailhub.delivery.list_bounces import Bounces, Suspension
from mailhub.delivery.list_names import LISTS
from mailhub.delivery.names import LocalNames
from mailhub.errors import ConfigurationError
from mailhub.message.address import Address
from mailhub.message.lists import MEMBERS_LIMIT, ROLES, MailingList, list_of, role, text_of, unfit

_WHO = {
    "anyone": "anyone may post",
    "members": "members may post",
    "owners": "owners may post",
    "named": "who is named may post",
}


def add_parser(commands: Any) -> Any:
    """The grammar of this command. Returns where more actions can be added."""
    group = commands.add_parser(
        "list",
        help="mailing lists and groups, and their members",
        description='Lists kept in the database beside [list."address"] of the configuration. Every change counts at '
        "once, the server need not be restarted.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    add = actions.add_parser("add", help="a new list")
    change = actions.add_parser("change", help="what is set about a list")
    for action, run in ((add, _add), (change, _change)):
        action.add_argument("list", metavar="LIST", help="its address")
        _settings(action)
        action.set_defaults(run=run)

    show = actions.add_parser("show", help="all lists, or what is set about one")
    show.add_argument("list", metavar="LIST", nargs="?")
    show.add_argument(
        "--json", action="store_true", help="an array of objects or, of one list, an object, for programs"
    )
    show.set_defaults(run=_show)

    remove = actions.add_parser("remove", help="a list, with its members")
    remove.add_argument("list", metavar="LIST")
    yes_option(remove)
    remove.set_defaults(run=_remove)

    members = actions.add_parser(
        "members", help="who is in a list, a line each, with since when who is suspended gets nothing"
    )
    members.add_argument("list", metavar="LIST")
    members.add_argument(
        "--suspended",
        action="store_true",
        help="those alone that are suspended (--json: objects, with the reason)",
    )
    members.add_argument("--json", action="store_true", help="an array of addresses, for programs")
    members.set_defaults(run=_members)

    join = actions.add_parser("join", help="put members into a list")
    leave = actions.add_parser("leave", help="take members out of a list")
    for action, run in ((join, _join), (leave, _leave)):
        action.add_argument("list", metavar="LIST")
        action.add_argument("members", metavar="MEMBER", nargs="+", help="addresses, here or elsewhere")
        action.set_defaults(run=run)

    resume = actions.add_parser("resume", help="send to members again whose mail came back (--verp)")
    resume.add_argument("list", metavar="LIST")
    resume.add_argument("members", metavar="MEMBER", nargs="+", help="as shown by `mailhub list members`")
    resume.set_defaults(run=_resume)
    return actions


def _settings(action: argparse.ArgumentParser) -> None:
    none = argparse.SUPPRESS
    action.add_argument(
        "--owner", dest="owners", metavar="ADDRESS", action="append", default=none, help="who is told of failures"
    )
    action.add_argument("--post", choices=sorted(_WHO), default=none, help="who may post (default: members)")
    action.add_argument(
        "--poster",
        dest="posters",
        metavar="WHO",
        action="append",
        default=none,
        help="with --post named: an address, a domain or *.domain",
    )
    action.add_argument(
        "--group", action=argparse.BooleanOptionalAction, default=none, help="leave the header of messages alone"
    )
    action.add_argument("--name", default=none, help="what it is called in List-Id")
    action.add_argument("--subject-prefix", metavar="TEXT", default=none, help="put before each subject")
    action.add_argument(
        "--reply-to-list",
        action=argparse.BooleanOptionalAction,
        default=none,
        help="have replies go to the list",
    )
    for name, text in (
        ("--hold-others", "have posts of others wait for an owner instead of refusing them"),
        ("--join-by-mail", "let anybody in who asks by mail and confirms it"),
        ("--leave-by-mail", "let members out who ask by mail and confirm it (the default)"),
        ("--verp", "name each member in the reverse-path of its copy, and suspend whose mail comes back"),
    ):
        action.add_argument(name, action=argparse.BooleanOptionalAction, default=none, help=text)
    action.add_argument(
        "--suspend-after-days",
        metavar="N",
        type=int,
        default=none,
        help="with --verp: how many days of mail that came back are enough, 0 for never (default: 5)",
    )
    action.add_argument("--message-size-bytes", metavar="N", type=int, default=none, help="larger ones are refused")


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a mail address: {error}") from None


def _changed(settings: MailingList, arguments: argparse.Namespace, name: str) -> MailingList:
    names = {field.name for field in attrs.fields(MailingList)} - {"members"}
    given = {key: value for key, value in vars(arguments).items() if key in names}
    if given.get("post", "named") != "named":
        given.setdefault("posters", ())
    try:
        new = attrs.evolve(settings, **given)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    if any(Address.parse(owner).key == name for owner in new.owners):
        raise ConfigurationError(f"{name} cannot be its own owner")
    return new


def _check_people(names: LocalNames, name: str, people: Sequence[str], what: Literal["owner", "member"]) -> None:
    """Raises ConfigurationError for who can be no owner or member of a list."""
    for text in people:
        if reason := unfit(names.lists, name, Address.parse(text), what):
            raise ConfigurationError(
                f"{text} cannot be {'an owner' if what == 'owner' else 'a member'} of {name}: {reason}"
            )


def _not_in_file(config: Config, name: str) -> None:
    if name in config.lists:
        raise ConfigurationError(f'{name} stands in [list."{name}"] of {config.file}; change it there')


def _kept(hub: Offline, config: Config, text: str) -> tuple[str, MailingList]:
    """A list of the database."""
    name = _address(text).key
    _not_in_file(config, name)
    found = kept_names(hub).lists.get(name)
    if found is None:
        raise ConfigurationError(f"there is no list {name}; `mailhub list show` shows all")
    return name, list_of(found)


def _add(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    address = _address(arguments.list)
    name = address.key
    _not_in_file(config, name)
    place = config.place("delivery", "routers")
    if all(config.part("router", each, place).type != LISTS for each in config.delivery.routers):
        raise place.error(f'lacks "{LISTS}", which goes by lists')
    settings = _changed(MailingList(), arguments, name)
    with opened(config) as hub:
        names = names_now(config, hub)
        domain = address.ascii_domain
        if domain not in names.domains or domain in names.same_as:
            raise ConfigurationError(f"{domain} is not one of our own domains; `mailhub domain list` shows all")
        _check_people(names, name, settings.owners, "owner")
        everybody = everybody_of(config, hub)
        for taken in (role(address, end) for end in ROLES):
            if everybody.is_account(taken) or names.aliases.named(taken) or taken.key in names.lists:
                raise ConfigurationError(f"{taken} is taken, and would be an address of the list {name}")
        if name in kept_names(hub).lists:
            raise ConfigurationError(f"there is a list {name} already; `mailhub list change` changes it")
        if names.aliases.named(address):
            raise ConfigurationError(f"{name} is an alias, which would go before the list")
        if hub.wait(hub.accounts.find(name)) is not None:
            raise ConfigurationError(f"{name} is an account, which would get no mail any more")
        hub.wait(hub.database.names.put_list(name, text_of(settings)))
    await_server(config)
    what = "group" if settings.group else "list"
    print(f"{what} {name} added; `mailhub list join {name} MEMBER...` puts members into it")


def _change(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config) as hub:
        name, before = _kept(hub, config, arguments.list)
        settings = _changed(before, arguments, name)
        _check_people(names_now(config, hub), name, getattr(arguments, "owners", ()), "owner")
        if not hub.wait(hub.database.names.put_list(name, text_of(settings))):
            raise ConfigurationError(f"nothing is different for {name}; nothing was changed")
    await_server(config)
    print(f"list {name} changed")


def _show(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    with opened(config, "read") as hub:
        lists = names_now(config, hub).lists
        if arguments.list is None:
            told = []
            for name in sorted(lists):
                where = "file" if name in config.lists else "database"
                count = len(hub.wait(names_now(config, hub).members(name)))
                told.append({"list": name, "where": where, "members": count, "post": lists[name].post})
                if arguments.json:
                    continue
                print(f"{name:40}  {where:8}  {counted(count, 'member')}, {_WHO[lists[name].post]}")
            if arguments.json:
                print(json.dumps(told, indent=2))
            return
        kept = kept_names(hub).lists
    name = _address(arguments.list).key
    settings = lists.get(name)
    if settings is None:
        raise ConfigurationError(f"there is no list {name}; `mailhub list show` shows all")
    if arguments.json:
        print(json.dumps({"list": name, **attrs.asdict(attrs.evolve(settings, members=()))}, indent=2))
        return
    for field in attrs.fields(MailingList):
        value = getattr(settings, field.name)
        if field.name != "members" and value != field.default:
            print(f"{field.name:20}  {_shown(value)}")
    if name in config.lists and name in kept:
        print(f'these are of [list."{name}"] in {config.file}, which count; those of the database do not')


def _shown(value: object) -> str:
    """In the words of the file."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _remove(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    with opened(config) as hub:
        name, _ = _kept(hub, config, arguments.list)
        if not confirmed(arguments, f"Refuse mail for {name} from now on, and forget its members?"):
            return 1
        hub.wait(hub.database.names.remove_list(name))
        hub.wait(_bounces(hub).forget_list(name))
    await_server(config)
    print(f"list {name} removed")
    return 0


def _members(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    name = _address(arguments.list).key
    with opened(config, "read") as hub:
        names = names_now(config, hub)
        if name not in names.lists:
            raise ConfigurationError(f"there is no list {name}; `mailhub list show` shows all")
        found = [str(member) for member in hub.wait(names.members(name))]
        suspended = hub.wait(_bounces(hub).suspended(name))
    direct = {_address(member).key for member in found}
    # Members of lists among the members are suspended for this list, and stand in none of its lines.
    others = [each.member for key, each in suspended.items() if key not in direct]
    if arguments.suspended:
        found = [member for member in found if _address(member).key in suspended] + others
    if arguments.json:
        said = [_told(member, suspended[_address(member).key]) for member in found] if arguments.suspended else found
        print(json.dumps(said, indent=2))
        return
    for member in found if arguments.suspended else [*found, *others]:
        why = suspended.get(_address(member).key)
        print(member if why is None else f"{member}  suspended since {_day(why.since)}, {counted(why.days, 'day')}")


def _told(member: str, why: Suspension) -> dict[str, object]:
    return {"member": member, "since": _day(why.since), "days": why.days, "reason": why.reason}


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def _resume(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    name = _address(arguments.list).key
    members = [_address(text) for text in arguments.members]
    with opened(config) as hub:
        if name not in names_now(config, hub).lists:
            raise ConfigurationError(f"there is no list {name}; `mailhub list show` shows all")
        bounces = _bounces(hub)
        suspended = hub.wait(bounces.suspended(name))
        if strange := [str(each) for each in members if each.key not in suspended]:
            raise ConfigurationError(
                f"{', '.join(strange)}: not suspended; nothing was changed (`mailhub list members {name} --suspended`)"
            )
        hub.wait(bounces.forget(name, members))
    print(f"{', '.join(map(str, members))} will get {name} again")


def _bounces(hub: Offline) -> Bounces:
    return Bounces.of(hub.database.state)


def _join(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    members = [str(_address(text)) for text in arguments.members]
    with opened(config) as hub:
        name, _ = _kept(hub, config, arguments.list)
        _check_people(names_now(config, hub), name, members, "member")
        had = len(hub.wait(hub.database.names.list_members(name)))
        if had + len(members) > MEMBERS_LIMIT:
            raise ConfigurationError(f"{name} would have more than {MEMBERS_LIMIT} members; nothing was changed")
        new = hub.wait(hub.database.names.join_list(name, members))
        everybody = everybody_of(config, hub)
    if not new:
        raise ConfigurationError(f"{', '.join(members)}: in {name} already; nothing was changed")
    print(f"{', '.join(new)} joined {name}")
    for member in new:
        if not everybody.knows(Address.parse(member)):
            print(f"mailhub: warning: there is no account or alias {member}", file=sys.stderr)


def _leave(arguments: argparse.Namespace) -> None:
    config = load(arguments.config)
    members = [str(_address(text)) for text in arguments.members]
    with opened(config) as hub:
        name, _ = _kept(hub, config, arguments.list)
        gone = hub.wait(hub.database.names.leave_list(name, members))
        hub.wait(_bounces(hub).forget(name, [Address.parse(member) for member in gone]))
    if not gone:
        raise ConfigurationError(f"{', '.join(members)}: not in {name}; nothing was changed")
    print(f"{', '.join(gone)} left {name}")
