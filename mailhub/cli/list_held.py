"""`mailhub list held|approve|discard`: posts that wait for an owner of their list (`hold_others`)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal

from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.queue_pages import Ask, Record, carry_out, pages, shown
from mailhub.delivery.lists import LIST
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
    for action, run in ((approve, _approve), (discard, _discard)):
        action.add_argument("ids", metavar="ID", nargs="+", help="as shown by `mailhub list held`")
        action.set_defaults(run=partial(run, asked_queue))
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
    if arguments.list is not None:
        name = _list(arguments).key
        which = Which(destination=f"{LIST} {name}")
    found = []
    with asked_queue(arguments, "read") as asked:
        for message in _waiting(asked, which):
            what = {"id": message["id"], "list": message["list"], "sender": message["sender"]}
            found.append({**what, "queued": message["queued"], "size": message["size"]})
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
        for which in _named(asked, arguments.ids):
            carry_out(asked, which, {"change": "release"})
    print(f"{', '.join(arguments.ids)}: on the way to the members")


def _discard(asked_queue: AskedQueue, arguments: argparse.Namespace) -> int:
    with asked_queue(arguments, "write") as asked:
        named = _named(asked, arguments.ids)
        if not confirmed(arguments, f"Drop {', '.join(arguments.ids)}? Nobody is told."):
            return 1
        for which in named:
            carry_out(asked, which, {"change": "remove"})
    print(f"{', '.join(arguments.ids)}: dropped")
    return 0


def _named(asked: Ask, ids: list[str]) -> list[Which]:
    """What is meant by these ids: the rows for lists alone, and not what else there is of the message in the queue.
    Raises ConfigurationError unless all of them wait for an owner."""
    there = {(message["id"], message["list"]) for message in _waiting(asked, Which(ids=tuple(ids)))}
    if strange := [each for each in ids if each not in {name for name, _ in there}]:
        raise ConfigurationError(
            f"{', '.join(strange)}: no post that waits for an owner; `mailhub list held` shows all"
        )
    return [Which(ids=(name,), destination=f"{LIST} {target}") for name, target in sorted(there)]
