"""`mailhub list held|approve|discard`: posts that wait for an owner of their list (`hold_others`)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.names import names_now
from mailhub.cli.offline import opened
from mailhub.cli.queue_pages import Ask, Record, carry_out, pages, shown
from mailhub.config.settings import load
from mailhub.delivery.list_names import LIST
from mailhub.errors import ConfigurationError
from mailhub.interfaces import EVERYTHING, Which
from mailhub.message.address import Address

# Whom to ask, the running server or its data, to read or to write.
AskedQueue = Callable[[argparse.Namespace, Literal["read", "write"]], AbstractContextManager[Ask]]


def add_parser(actions: Any, asked_queue: AskedQueue) -> None:
    """The grammar of these actions of `mailhub list`."""
    held = actions.add_parser("held", help="posts that wait for an owner, a line each")
    held.add_argument("list", metavar="LIST", nargs="?", help="those of one list")
    held.add_argument("--json", action="store_true", help="an array of objects, for programs")
    held.set_defaults(run=partial(_held, asked_queue))

    approve = actions.add_parser("approve", help="have posts go to the members")
    discard = actions.add_parser("discard", help="drop posts; their senders are not told")
    for name, action, run in (("approved", approve, _approve), ("discarded", discard, _discard)):
        action.add_argument("ids", metavar="ID", nargs="+", help="as shown by `mailhub list held`")
        action.add_argument("--list", metavar="LIST", help="the one that is meant, of several that a post waits for")
        action.add_argument("--json", action="store_true", help="an array of objects, for programs")
        action.set_defaults(run=partial(run, asked_queue), action=name)
    yes_option(discard)


def _waiting(asked: Ask, which: Which) -> Iterator[Record]:
    """Each with the one list that it waits for."""
    for page in pages(asked, which):
        for message in page:
            for row in message["recipients"]:
                if (row["agent"], row["state"]) == (LIST, "held"):
                    yield {**message, "list": row["target"]}


def _held(asked_queue: AskedQueue, arguments: argparse.Namespace) -> None:
    which = EVERYTHING
    name = None
    if arguments.list is not None:
        name = _list(arguments).key
        which = Which(destination=f"{LIST} {name}")
    found = []
    with asked_queue(arguments, "read") as asked:
        for message in _waiting(asked, which):
            what = {"id": message["id"], "list": message["list"], "sender": message["sender"]}
            found.append({**what, "queued": message["queued"], "size": message["size"]})
    if name is not None and not found:
        config = load(arguments.config)
        with opened(config, "read") as hub:
            if name not in names_now(config, hub).lists:
                raise ConfigurationError(f"there is no list {name}; `mailhub list show` shows all")
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for each in found:
        print(shown(f"{each['id']}  {each['queued']}  {each['size']:>9}  {each['list']}  <{each['sender']}>"))
    if not found:
        print("nothing waits for an owner")


def _list(arguments: argparse.Namespace) -> Address:
    try:
        return Address.parse(arguments.list)
    except ValueError as error:
        raise ConfigurationError(f"{arguments.list!r} is not a mail address: {error}") from None


def _approve(asked_queue: AskedQueue, arguments: argparse.Namespace) -> None:
    with asked_queue(arguments, "write") as asked:
        named = _named(asked, arguments)
        for name, target in named:
            carry_out(asked, _rows(name, target), {"change": "release"})
    _say(arguments, named, "on the way to the members")


def _discard(asked_queue: AskedQueue, arguments: argparse.Namespace) -> int:
    with asked_queue(arguments, "write") as asked:
        named = _named(asked, arguments)
        if not confirmed(arguments, f"Drop {', '.join(arguments.ids)}? Nobody is told."):
            return 1
        for name, target in named:
            carry_out(asked, _rows(name, target), {"change": "remove"})
    _say(arguments, named, "dropped")
    return 0


def _say(arguments: argparse.Namespace, named: Sequence[tuple[str, str]], what: str) -> None:
    if arguments.json:
        done = [{"id": name, "list": target, "done": arguments.action} for name, target in named]
        print(json.dumps(done, indent=2))
    else:
        print(f"{', '.join(arguments.ids)}: {what}")


def _rows(name: str, target: str) -> Which:
    """The row for a list alone, and not what else there is of the message in the queue."""
    return Which(ids=(name,), destination=f"{LIST} {target}")


def _named(asked: Ask, arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """What is meant, each with its list. Raises ConfigurationError unless all of it waits for an owner, and for one
    list alone: who answers for one says nothing for another."""
    wanted = None if arguments.list is None else _list(arguments).key
    there: dict[str, list[str]] = {}
    for message in _waiting(asked, Which(ids=tuple(arguments.ids))):
        if wanted in (None, message["list"]):
            there.setdefault(message["id"], []).append(message["list"])
    if strange := [each for each in arguments.ids if each not in there]:
        raise ConfigurationError(
            f"{', '.join(strange)}: no post that waits for an owner; `mailhub list held` shows all"
        )
    for name, lists in there.items():
        if len(lists) > 1:
            raise ConfigurationError(f"{name} waits for {' and '.join(sorted(lists))}: name one of them by --list")
    return [(name, lists[0]) for name, lists in sorted(there.items())]
