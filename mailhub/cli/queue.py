"""`mailhub queue`: mail that is not delivered yet. Works while the server runs, which notices within seconds."""

from __future__ import annotations

import argparse
import time
from typing import Any

from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.offline import Offline, opened
from mailhub.config.settings import load
from mailhub.errors import ConfigurationError
from mailhub.interfaces import QueuedMessage, QueuedRecipient
from mailhub.log import clean

_LIMIT = 100_000  # messages shown


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser("queue", help="list, retry and remove mail that is not delivered yet")
    actions = group.add_subparsers(metavar="ACTION", required=True)

    show_all = actions.add_parser("list", help="one line a message: id, age, size, sender, recipients, last answer")
    show_all.set_defaults(run=_list)

    show = actions.add_parser("show", help="all about one message, and its header")
    show.add_argument("id", metavar="ID")
    show.set_defaults(run=_show)

    retry = actions.add_parser("retry", help="try again now")
    _which(retry)
    retry.set_defaults(run=_retry)

    remove = actions.add_parser("remove", help="drop messages; their senders are not told")
    _which(remove)
    yes_option(remove)
    remove.set_defaults(run=_remove)


def _which(action: argparse.ArgumentParser) -> None:
    action.add_argument("ids", metavar="ID", nargs="*", help="as shown by `mailhub queue list`")
    action.add_argument("--all", action="store_true", help="the whole queue")


def _list(arguments: argparse.Namespace) -> None:
    now = int(time.time())
    with opened(load(arguments.config), "read") as hub:
        messages = hub.wait(hub.queue.messages(_LIMIT))
    for message in messages:
        _print(_line(message, now))
    if not messages:
        print("the queue is empty")


def _print(line: str) -> None:
    """Addresses and answers come from strangers: nothing for the terminal to obey, and no second line."""
    print(clean(line).replace("\n", "\\x0a"))


def _line(message: QueuedMessage, now: int) -> str:
    first, *others = message.recipients
    more = f" and {len(others)} more" if others else ""
    answer = f"  {first.last.reply}" if first.last else ""
    age = _span(now - message.queued_at)
    sender = message.mail.reverse_path or ""
    return f"{message.id}  {age:>7}  {message.size:>9}  <{sender}> -> <{first.route.recipient}>{more}{answer}"


def _span(seconds: int) -> str:
    """A length of time in its two largest units: `3h12m`."""
    seconds = max(0, seconds)
    for size, name, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{name}{seconds % size // smaller}{part}"
    return f"{seconds}s"


def _show(arguments: argparse.Namespace) -> None:
    now = int(time.time())
    with opened(load(arguments.config), "read") as hub:
        found = [message for message in hub.wait(hub.queue.messages(_LIMIT)) if message.id == arguments.id]
        if not found:
            raise _unknown([arguments.id])
        body = hub.wait(hub.queue.open(arguments.id))
        header = hub.wait(body.read(0, 65536)).partition(b"\r\n\r\n")[0]
        body.close()
    (message,) = found
    print(f"id:      {message.id}")
    print(f"queued:  {_moment(message.queued_at)}, {_span(now - message.queued_at)} ago")
    print(f"size:    {message.size} octets")
    _print(f"from:    <{message.mail.reverse_path or ''}>")
    for recipient in message.recipients:
        _show_recipient(recipient, now)
    print()
    for line in header.decode("utf-8", "replace").splitlines():
        _print(line)


def _show_recipient(recipient: QueuedRecipient, now: int) -> None:
    route = recipient.route
    way = f"{route.agent} {route.target}".strip()
    due = f"next in {_span(recipient.due - now)}" if recipient.due > now else "due"
    _print(f"to:      <{route.recipient}> by {way}, {recipient.attempts} attempts, {due}")
    if recipient.last is not None:
        host = f"{recipient.last.remote}: " if recipient.last.remote else ""
        _print(f"         {host}{recipient.last.status} {recipient.last.reply}")


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _retry(arguments: argparse.Namespace) -> None:
    ids = _chosen(arguments)
    with opened(load(arguments.config)) as hub:
        _require(hub, ids)
        count = hub.wait(hub.queue.retry(ids))
    _report(count, ids, "due now")


def _remove(arguments: argparse.Namespace) -> int:
    """Messages that were named are meant; for the whole queue it asks."""
    ids = _chosen(arguments)
    with opened(load(arguments.config)) as hub:
        _require(hub, ids)
        if arguments.all:
            ids = [message.id for message in hub.wait(hub.queue.messages(_LIMIT))]
            what = "the only message" if len(ids) == 1 else f"all {len(ids)} messages"
            if ids and not confirmed(arguments, f"Drop {what} in the queue? Senders are not told."):
                return 1
        count = hub.wait(hub.queue.remove(ids)) if ids else 0
    _report(count, ids, "removed")
    return 0


def _chosen(arguments: argparse.Namespace) -> list[str]:
    if bool(arguments.ids) == arguments.all:
        raise ConfigurationError("say which messages, by their ids or with --all")
    return list(arguments.ids)


def _require(hub: Offline, ids: list[str]) -> None:
    """Raises ConfigurationError unless all are in the queue: nothing is done by halves."""
    known = {message.id for message in hub.wait(hub.queue.messages(_LIMIT))} if ids else set()
    if missing := [name for name in ids if name not in known]:
        raise _unknown(missing)


def _report(count: int, ids: list[str], what: str) -> None:
    if ids and not count:
        raise _unknown(ids)
    print(f"{count} message{'' if count == 1 else 's'} {what}")


def _unknown(ids: list[str]) -> ConfigurationError:
    return ConfigurationError(f"not in the queue: {' '.join(ids)}; `mailhub queue list` shows what is")
