"""`mailhub scheduled`: mail that is held until its time, and how it is taken back."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mailhub.cli.offline import opened, wait
from mailhub.config.settings import Config, load
from mailhub.control import ask
from mailhub.data_folder import DataFolder
from mailhub.delivery.scheduled import cancel, scheduled
from mailhub.errors import ConfigurationError
from mailhub.interfaces import QueuedMessage
from mailhub.log import clean
from mailhub.queue_desk import QueueDesk


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "scheduled",
        help="list and take back mail that is held until its time",
        description="Mail that its senders want sent later, and mail that waits for [submission] undo_seconds. It can "
        "be taken back until its time has come, while the server runs and without one.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="one line a message: id, time, who submitted it, sender, recipients")
    listing.add_argument("--json", action="store_true", help="an array, as of `mailhub queue list --messages --json`")
    listing.set_defaults(run=_list)

    taking_back = actions.add_parser(
        "cancel",
        help="take messages back",
        description="Take messages back before their time has come. A message is taken back for all of its recipients "
        "or for none; one of which anything may have been sent stays, the exit status is 1 then, and it is said who "
        "is still waiting.",
    )
    taking_back.add_argument("ids", metavar="ID", nargs="+", help="as shown by `mailhub scheduled list`")
    taking_back.set_defaults(run=_cancel)


def _list(arguments: argparse.Namespace) -> None:
    now = int(time.time())
    with opened(load(arguments.config), "read") as hub:
        found = hub.wait(scheduled(hub.queue, now))
        desk = QueueDesk(hub.queue, lambda: now)
    if arguments.json:
        print(json.dumps([desk.record(message) for message in found], indent=1))
        return
    for message in found:
        print(clean(_line(message)).replace("\n", "\\x0a"))
    if not found:
        print("nothing is scheduled")


def _line(message: QueuedMessage) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message.not_before))
    first, *others = [row.route.recipient for row in message.recipients]
    more = f" and {len(others)} more" if others else ""
    sender = message.mail.reverse_path or ""
    return f"{message.id}  {moment}  {message.submitter}  <{sender}> -> <{first}>{more}"


def _cancel(arguments: argparse.Namespace) -> int:
    told = _taken_back(load(arguments.config), arguments.ids)
    done = [name for name, fault in told.items() if not fault]
    if done:
        print(f"{len(done)} message{'' if len(done) == 1 else 's'} taken back")
    for name, fault in told.items():
        if fault:
            print(f"mailhub: {clean(name)}: {clean(fault)}", file=sys.stderr)
    return 0 if len(done) == len(told) else 1


def _taken_back(config: Config, ids: Sequence[str]) -> Mapping[str, str]:
    """A server that runs is asked: it alone knows what it is sending right now."""
    if DataFolder(config.data).server() is None:
        with opened(config) as hub:
            return wait(cancel(hub.queue, hub.database.store, ids))
    told = ask(config.data, {"scheduled": "cancel", "ids": list(ids)}).get("told")
    if not isinstance(told, dict):
        raise ConfigurationError("the server gave no answer; see its log")
    return told
