"""`mailhub queue`: mail that is not delivered yet. Asks the running server; where none runs, works on its data."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.offline import Opening, opened, wait
from mailhub.cli.queue_pages import Ask, Record, carry_out, pages, shown
from mailhub.config.settings import load
from mailhub.config.ways import way_of
from mailhub.control import NAME, ask, listens, wait_for_server
from mailhub.data_folder import DataFolder
from mailhub.errors import ConfigurationError, MailError
from mailhub.interfaces import EVERYTHING, Which
from mailhub.queue_desk import QueueDesk, as_question


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "queue",
        help="what is not delivered yet: list, retry, hold, return, send elsewhere",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)

    show_all = actions.add_parser(
        "list",
        help="what waits, by destination, and why",
        description="One line a destination: agent and host or domain, messages, age of the oldest, why they wait. "
        "With --messages one line a message: id, age, size, sender, recipients, last answer.",
    )
    show_all.add_argument("--messages", action="store_true", help="one line a message")
    show_all.add_argument("--json", action="store_true", help="an array of objects, for programs")
    _filters(show_all)
    show_all.set_defaults(run=_told(_list))

    show = actions.add_parser(
        "show",
        aliases=["view"],
        help="all about one message, and its header",
        description="Show a message's age, size and sender, each recipient with its way, attempts, time of the next "
        "one and last answer, and the header.",
    )
    show.add_argument("id", metavar="ID", help=_ID)
    show.add_argument("--json", action="store_true", help="an object, for programs")
    show.set_defaults(run=_told(_show))

    for name, (_, text, more, others) in _CHANGES.items():
        description = f"{text[0].upper()}{text[1:]}. {more} {_MEANT}"
        action = actions.add_parser(name, help=text, description=description, aliases=others)
        if name == "reroute":
            action.add_argument("way", metavar="WAY", help="host, host:port, unix:/path (by lmtp), or mx")
            action.add_argument("--agent", default="smtp", help="smtp, lmtp, or that of a [transport.x] or [agent.x]")
        elif name == "priority":
            action.add_argument("priority", metavar="N", type=int, help="9 is tried first, -9 last; 0 is usual")
        _which(action)
        _as_json(action)
        if name in _ASKING:
            yes_option(action)
        action.set_defaults(run=_told(_change), change=name)

    flush = actions.add_parser(
        "flush",
        help="try all mail for a domain now",
        description="Try all mail for a domain now, as `mailhub queue retry --domain DOMAIN` does.",
    )
    flush.add_argument(
        "domain",
        metavar="DOMAIN",
        nargs="?",
        default="",
        help="of the recipients, such as example.net or *.example.net",
    )
    _filters(flush, domain=False)
    _as_json(flush)
    flush.set_defaults(run=_told(_flush))


_DESCRIPTION = """\
Mail that is taken and not delivered yet: what waits for another attempt, is
held, or is to be sent later. The running server is asked, so that what is done
counts at once; where none runs, it is done to its data.

Look with `list`, which has a line for each destination and says why its mail
waits, with `list --messages` and with `show ID`. Whatever changes something
takes ids, or conditions that hold together (--domain, --sender, --recipient,
--age, --reply), or --all; --json is for programs.
"""
_EXAMPLES = """\
examples:
  mailhub queue list                                  what waits where, and why
  mailhub queue list --messages --domain example.net  each message for a domain
  mailhub queue retry --reply "Connection refused"    what has failed so, again
  mailhub queue flush example.net                     all for a domain, now
  mailhub queue hold --sender @shop.example           nothing of theirs, for now
  mailhub queue reroute relay.example:587 --age 4h    what is late, by that host
  mailhub queue bounce --recipient ann@example.net    give up; senders are told
  mailhub queue remove --sender spam@example.org      drop it; nobody is told
"""
_ID = "as shown by `mailhub queue list --messages`"
_MEANT = "Which messages is said by their ids, by conditions that hold together, or by --all."
# What is reported, what the help says, and what other mail servers call it.
_CHANGES: Mapping[str, tuple[str, str, str, list[str]]] = {
    "retry": (
        "due now",
        "try again now",
        "Servers that could not be reached a moment ago are asked as well. What is held stays so, and what its sender "
        "wants sent later is tried early only when it is named.",
        ["requeue"],
    ),
    "hold": ("held", "try nothing until it is released", "An attempt that is under way goes on.", ["freeze"]),
    "release": ("released", "let go what is held", "It is tried when it would have been.", ["thaw"]),
    "remove": (
        "removed",
        "drop messages; their senders are not told",
        "What is being sent may still arrive.",
        ["delete"],
    ),
    "bounce": (
        "returned",
        "give messages up; their senders are told",
        "What is being sent right now is returned unless that attempt delivers it.",
        ["return"],
    ),
    "reroute": (
        "rerouted",
        "send by another host or agent, now",
        "With mx the way is the one by DNS, or that of the transport. What its sender wants sent later goes when its "
        "time has come, and what is for mailboxes or lists here is left to them unless it is named by its id.",
        ["redirect"],
    ),
    "priority": ("changed", "say how urgent messages are, from -9 to 9", "Those of a server go in that order.", []),
}

# Asked before it is done to messages that were not named.
_ASKING = {
    "remove": "Drop {what} in the queue? Senders are not told.",
    "bounce": "Return {what} in the queue to their senders?",
}


Run = Callable[[argparse.Namespace], int | None]


def _told(run: Run) -> Run:
    """For programs, why it cannot be done is an object as well, beside the line for people."""

    def told(arguments: argparse.Namespace) -> int | None:
        try:
            return run(arguments)
        except (ConfigurationError, MailError) as error:
            if arguments.json:
                print(json.dumps({"error": error.text if isinstance(error, MailError) else str(error)}))
            raise

    return told


def _which(action: argparse.ArgumentParser) -> None:
    action.add_argument("ids", metavar="ID", nargs="*", default=[], help=_ID)
    action.add_argument("--all", action="store_true", help="the whole queue")
    _filters(action)


def _as_json(action: argparse.ArgumentParser) -> None:
    action.add_argument("--json", action="store_true", help="an object with what was done to how many, for programs")


def _filters(action: argparse.ArgumentParser, *, domain: bool = True) -> None:
    which = action.add_argument_group("which messages; several conditions hold together")
    which.add_argument("--id", action="append", default=[], metavar="ID", help="this one; may be given again")
    if domain:
        which.add_argument("--domain", default="", metavar="DOMAIN", help="of the recipient; *.DOMAIN for all below it")
    which.add_argument("--sender", default="", metavar="ADDRESS", help="reverse-path: an address, @domain, or <>")
    which.add_argument("--recipient", default="", metavar="ADDRESS", help="as delivered to, or as it was named")
    which.add_argument("--age", default=0, type=_age, help="at least so old: 90s, 30m, 4h, 2d")
    which.add_argument("--reply", default="", metavar="TEXT", help="part of the last answer, or its status")


_AGE = re.compile(r"([0-9]{1,9})([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _age(text: str) -> int:
    match = _AGE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"not a length of time, such as 90s, 30m, 4h or 2d: {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def _meant(arguments: argparse.Namespace) -> Which:
    return Which(
        ids=tuple(dict.fromkeys([*getattr(arguments, "ids", ()), *arguments.id])),
        domain=arguments.domain,
        sender=arguments.sender,
        recipient=arguments.recipient,
        age_seconds=arguments.age,
        reply=arguments.reply,
    )


@contextmanager
def asked_queue(arguments: argparse.Namespace, how: Opening) -> Iterator[Ask]:
    """The running server, or its database where none runs. Beside a server that cannot be asked nothing is changed: it
    alone knows what it is sending. Raises ConfigurationError."""
    config = load(arguments.config)
    data = DataFolder(config.data)
    server = data.server() if how == "read" else wait_for_server(data)
    asked = server is not None and listens(config.data)
    if server is not None and (asked or how != "read"):
        if not asked:
            raise ConfigurationError(
                f"the server (process {server}) cannot be asked: nobody listens at {config.data / NAME} (yet); its log "
                "says why. Restart it, or stop it to change its queue"
            )
        yield lambda question: ask(config.data, question)
        return
    if how != "read":
        with opened(config, "read"):
            pass  # a database of an older mailhub is brought up to date by the server alone
    with opened(config, how) as hub:
        desk = QueueDesk(hub.queue, lambda: int(time.time()), way=lambda agent, target: way_of(config, agent, target))
        yield lambda question: wait(desk.answer(question))


# --- list and show ----------------------------------------------------------------------------------------------------


def _list(arguments: argparse.Namespace) -> None:
    which = _meant(arguments)
    with asked_queue(arguments, "read") as asked:
        if arguments.messages:
            records: Iterator[Record] = (message for page in pages(asked, which) for message in page)
            line: Callable[[Record], str] = _message_line
        else:
            records = iter(asked({"queue": "destinations", "which": as_question(which)})["destinations"])
            line = _destination_line
        count = 0
        for record in records:
            if arguments.json:
                print(("[" if not count else ",\n") + json.dumps(record), end="")
            else:
                _print(line(record))
            count += 1
    if arguments.json:
        print("]" if count else "[]")
    elif not count:
        print("the queue is empty" if which == EVERYTHING else "no such message is in the queue")


def _print(line: str) -> None:
    print(shown(line))


def _message_line(message: Record) -> str:
    first, *others = message["recipients"]
    more = f" and {len(others)} more" if others else ""
    answer = f"  {first['last_reply']}" if first["last_status"] else ""
    age = _span(_since(message["queued"]))
    way = f"<{message['sender']}> -> <{first['address']}>{more}"
    return f"{message['id']}  {age:>7}  {message['size']:>9}  {way}{answer}"


def _destination_line(place: Record) -> str:
    count = place["messages"]
    name = place["destination"] or "(to be told to their senders)"
    return (
        f"{name}  {count} message{'' if count == 1 else 's'}  oldest {_span(_since(place['oldest']))}"
        f"  {_why(place)}{_answer(place)}"
    )


def _why(place: Record) -> str:
    ahead = "" if place["next_attempt"] is None else _ahead(place["next_attempt"])
    slots = f"{place['at_work']} of {place['at_work_limit']} at work"
    match place["state"]:
        case "dsn":
            why = "DSN due"
        case "scheduled":
            why = f"scheduled, first {ahead}"
        case "paused":
            why = f"cannot be reached, left alone until {_clock(place['paused_until'])}"
        case "busy":
            why = f"waits for its turn, {slots}"
        case "due":
            why = f"due, {slots}" if place["at_work_limit"] else "due"
        case "waiting":
            why = f"waits, next {ahead}"
        case state:
            why = state
    parts = [f"{place[name]} {name}" for name in ("held", "scheduled") if place[name] and place["state"] != name]
    return f"{why} ({', '.join(parts)})" if parts else why


def _answer(said: Record) -> str:
    if not said["last_status"]:
        return ""
    host = f"{said['last_host']}: " if said["last_host"] else ""
    return f"; last answer: {host}{said['last_status']} {said['last_reply']}"


def _span(seconds: int) -> str:
    """A length of time in its two largest units: `3h12m`."""
    seconds = max(0, seconds)
    for size, name, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{name}{seconds % size // smaller}{part}"
    return f"{seconds}s"


def _since(moment: str) -> int:
    return int(time.time() - datetime.fromisoformat(moment).timestamp())


def _ahead(moment: str) -> str:
    seconds = -_since(moment)
    return f"in {_span(seconds)}" if seconds > 0 else "now"


def _clock(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _show(arguments: argparse.Namespace) -> None:
    with asked_queue(arguments, "read") as asked:
        shown = asked({"queue": "show", "which": {"ids": [arguments.id]}})
    message = shown["message"]
    if message is None:
        raise _unknown([arguments.id])
    if arguments.json:
        print(json.dumps({**message, "header": shown["header"]}, indent=1))
        return
    queued = datetime.fromisoformat(message["queued"])
    print(f"id:      {message['id']}")
    print(f"queued:  {queued.astimezone():%Y-%m-%d %H:%M:%S %z}, {_span(_since(message['queued']))} ago")
    print(f"size:    {message['size']} octets")
    _print(f"from:    <{message['sender']}>" + (f", login {message['submitter']}" if message["submitter"] else ""))
    for recipient in message["recipients"]:
        _show_recipient(recipient)
    print()
    for line in shown["header"].splitlines():
        _print(line)


def _show_recipient(recipient: Record) -> None:
    way = f"{recipient['agent']} {recipient['target']}".strip()
    due = {"dsn": "DSN due", "held": "held", "due": "due"}.get(recipient["state"])
    if due is None:
        due = f"next {_ahead(recipient['next_attempt'])}"
        due = f"scheduled, {due}" if recipient["state"] == "scheduled" else due
    urgency = f", priority {recipient['priority']}" if recipient["priority"] else ""
    _print(f"to:      <{recipient['address']}> by {way}, {recipient['attempts']} attempts, {due}{urgency}")
    if recipient["last_status"]:
        host = f"{recipient['last_host']}: " if recipient["last_host"] else ""
        _print(f"         {host}{recipient['last_status']} {recipient['last_reply']}")


# --- What changes something -------------------------------------------------------------------------------------------


def _change(arguments: argparse.Namespace) -> int:
    """Messages that were named are meant; before others are lost it asks."""
    which = _meant(arguments)
    if arguments.all and which != EVERYTHING and not which.ids:
        raise ConfigurationError("--all is the whole queue: leave it out, or the conditions")
    if (which != EVERYTHING) == arguments.all:
        raise ConfigurationError("say which messages, by their ids or with --all")
    question: dict[str, Any] = {"change": arguments.change}
    if arguments.change == "reroute":
        question |= {"agent": arguments.agent, "target": "" if arguments.way == "mx" else arguments.way}
    elif arguments.change == "priority":
        question["priority"] = arguments.priority
    with asked_queue(arguments, "write") as asked:
        _require(asked, which.ids)
        if arguments.change in _ASKING and not which.ids:
            count = sum(len(page) for page in pages(asked, which))
            every = "all " if arguments.all else ""
            what = f"the only message{'' if arguments.all else ' meant'}" if count == 1 else f"{every}{count} messages"
            if count and not confirmed(arguments, _ASKING[arguments.change].format(what=what)):
                return 1
        _report(arguments, carry_out(asked, which, question), _CHANGES[arguments.change][0])
    return 0


def _flush(arguments: argparse.Namespace) -> None:
    if not arguments.domain:
        raise ConfigurationError("say which domain; `mailhub queue retry --all` is for the whole queue")
    with asked_queue(arguments, "write") as asked:
        which = _meant(arguments)
        _require(asked, which.ids)
        _report(arguments, carry_out(asked, which, {"change": "retry"}), "due now")


def _require(asked: Ask, ids: Sequence[str]) -> None:
    """Raises ConfigurationError unless all are in the queue: nothing is done by halves."""
    known = {message["id"] for page in pages(asked, Which(ids=tuple(ids))) for message in page} if ids else set()
    if missing := [name for name in ids if name not in known]:
        raise _unknown(missing)


def _report(arguments: argparse.Namespace, counts: Mapping[str, int], what: str) -> None:
    if arguments.json:
        print(json.dumps(counts))
        return
    print(f"{_messages(counts['changed'])} {what}")
    for name, said in (
        ("trying", "being tried right now: what that attempt delivers has arrived"),
        ("held", "held, and tried only when released"),
        ("dsn", "given up already, and to be told to the sender"),
        ("scheduled", "to be sent later by the sender's wish, and tried early only when named"),
        ("local", "for mailboxes or lists here, and sent another way only when named by id"),
    ):
        if counts[name]:
            print(f"{_messages(counts[name])} {'is' if counts[name] == 1 else 'are'} {said}")


def _messages(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'}"


def _unknown(ids: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(f"not in the queue: {' '.join(ids)}; `mailhub queue list` shows what is")
