"""`mailhub explain`: what would happen to a message, and why, without sending one."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from mailhub.auth.realm import canonical_user
from mailhub.cli.backup import counted
from mailhub.cli.offline import environment, opened, wait
from mailhub.cli.world import world
from mailhub.components import build_hub
from mailhub.config.settings import Config, load
from mailhub.control import NAME, ask
from mailhub.data_folder import DataFolder
from mailhub.delivery.list_names import BOUNCE_AGENT, HOLD_AGENT, LIST, REQUEST_AGENT
from mailhub.delivery.relay.exchangers import is_address
from mailhub.errors import AuthenticationFailed, ConfigurationError
from mailhub.explain import MESSAGE_LIMIT, SERVICE_NAMES, explain
from mailhub.interfaces import Environment, IHub
from mailhub.log import clean
from mailhub.plugins import Catalogue, Component, load_catalogue
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database

_BARE_LF = re.compile(rb"(?<!\r)\n")


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "explain",
        help="what would happen to a message, and why",
        description="Asks the running server what it would do with a message, rule by rule and step by step. Nothing "
        "is sent, counted or kept. Where no server runs, the configuration, its data and DNS are asked. The exit "
        "status is 0 where the message would be taken, 1 where it would be refused, and 75 where its client would be "
        "asked to come again. With --json a mistake is an object with `mistake`, and the status is 2.",
    )
    action.add_argument(
        "--from",
        dest="sender",
        metavar="ADDRESS",
        help="reverse-path; <> is nobody (default: the address of --user; nobody without one)",
    )
    action.add_argument("--to", dest="recipient", metavar="ADDRESS", required=True)
    action.add_argument(
        "--ip", type=_ip, metavar="ADDRESS", default="", help="the client's address; without: a local program"
    )
    action.add_argument("--helo", metavar="NAME", default="", help="what it calls itself")
    action.add_argument("--user", metavar="USER", default="", help="who has logged in")
    action.add_argument("--size", metavar="OCTETS", type=int, default=0)
    action.add_argument("--service", choices=SERVICE_NAMES, default="", help="smtp, or submission with --user")
    action.add_argument(
        "--message",
        metavar="FILE",
        help="ask about this message (- for standard input), also those who judge what is in it: policies, rules",
    )
    action.add_argument("--no-dns", action="store_true", help="ask neither DNS nor the running server")
    action.add_argument("--json", action="store_true", help="an object, for programs")
    action.set_defaults(run=_explain)


def _ip(text: str) -> str:
    if text and not is_address(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address")
    return text


def _explain(arguments: argparse.Namespace) -> int:
    if not arguments.json:
        return _explained(arguments)
    try:
        return _explained(arguments)
    except ConfigurationError as error:
        print(json.dumps({"mistake": str(error)}, indent=2))
        return 2


def _explained(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    question = {
        "explain": True,
        "from": _own(arguments.user, config) if arguments.sender is None else arguments.sender,
        "to": arguments.recipient,
        "ip": arguments.ip,
        "helo": arguments.helo,
        "user": arguments.user,
        "size": arguments.size,
        "service": arguments.service,
    }
    if arguments.message is not None:
        question["message"] = b64encode(_message(arguments.message)).decode()
    folder = DataFolder(config.data)
    if not arguments.no_dns and folder.server() is not None and (config.data / NAME).exists():
        told = ask(config.data, question)
        if config.file.stat().st_mtime > folder.read_at():
            newer = f"{config.file} is newer than what the running server has read, and goes by"
            print(f"mailhub: warning: {newer}: `mailhub reload`", file=sys.stderr)
    else:
        told = _offline(config, question, dns=not arguments.no_dns)
    if arguments.json:
        print(json.dumps(told, indent=2))
    else:
        for line in _lines(told):
            print(clean(line).replace("\n", "\\x0a"))
    return 0 if told["taken"] else os.EX_TEMPFAIL if _is_for_now(told) else 1


def _own(user: str, config: Config) -> str:
    """The address of a user, "" for who has none."""
    with suppress(AuthenticationFailed):
        return canonical_user(user, config.auth.default_domain) if user else ""
    return ""


def _is_for_now(told: Mapping[str, Any]) -> bool:
    return str(told["reply"]).startswith("4")


def _message(file: str) -> bytes:
    """With the line ends that mail has. Raises ConfigurationError."""
    try:
        if file == "-":
            octets = sys.stdin.buffer.read(MESSAGE_LIMIT + 1)
        else:
            with open(file, "rb") as stream:
                octets = stream.read(MESSAGE_LIMIT + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror or error}") from None
    if len(octets) > MESSAGE_LIMIT:
        raise ConfigurationError(f"{file}: has more than {MESSAGE_LIMIT} octets, which is all that can be asked about")
    return _BARE_LF.sub(b"\r\n", octets)


def _offline(config: Config, question: Mapping[str, Any], *, dns: bool) -> Mapping[str, Any]:
    """By a hub that only reads."""
    if not dns:
        return _asked(config, question, environment(config), wait)
    with world(config) as found:
        return _asked(config, question, found.environment, found.wait)


def _asked(
    config: Config, question: Mapping[str, Any], surroundings: Environment, wait: Callable[[Awaitable[Any]], Any]
) -> Mapping[str, Any]:
    found = load_catalogue(config.plugins)
    ours = Component("database", "sqlite", _reading)
    others = [each for each in found.factories if (each.kind, each.name) != ("database", "sqlite")]
    catalogue: Catalogue = attrs.evolve(found, factories=(*others, ours))
    with opened(config, "read"):
        hub = build_hub(config, surroundings, catalogue, server_tls=None)
        wait(hub.database.start())
        try:
            wait(hub.names.look_again())
            told: Mapping[str, Any] = wait(explain(hub, question))
            return told
        finally:
            wait(hub.database.stop())


def _reading(_: object, hub: IHub) -> Database:
    return Database(hub.environment, hub.settings.of(StoreLimits), owner=False, create=False, read_only=True)


def _lines(told: Mapping[str, Any]) -> list[str]:
    """For people."""
    what = "taken" if told["taken"] else "refused for now" if _is_for_now(told) else "refused"
    lines = [f"{what} at {told['at']}: {told['reply']}"]
    if told["rule"]:
        lines.append(f"  rule: {told['rule']}")
    if told["reason"]:
        lines.append(f"  reason: {told['reason']}")
    for step in told["steps"]:
        lines += [_step(step), *[f"  found: {result}" for result in step.get("results", ())]]
    lines += _of_message(told["message"])
    for step in told["routing"]:
        said = step.get("refused") or ", ".join(_way(way) for way in step["ways"])
        lines.append(f"router {step['router']}: <{step['address']}> -> {said}")
    if told["no_route"]:
        lines.append(f"no way: {told['no_route']}")
    for route in told["routes"]:
        lines.append(_end(route, "goes" if told["taken"] else "would go"))
    if told["sending"]:
        limits, sent = told["sending"]["limits"], told["sending"]["sent"]
        each = zip(sent.items(), limits.values(), strict=True)
        lines.append("sent in 24 hours: " + ", ".join(f"{n} of {most or 'any'} {what}" for (what, n), most in each))
    return lines


def _of_message(said: Mapping[str, Any]) -> list[str]:
    if "discarded_by" in said:
        return [f"discarded by {said['discarded_by']}: the client is told that it was taken, and nobody gets it"]
    lines = ["quarantined: mailboxes get it as junk"] if said.get("quarantined") else []
    return lines + [f"answered by {account}" for account in said.get("replies", ())]


def _end(route: Mapping[str, Any], goes: str) -> str:
    member = f"member of {route['list']}: " if "list" in route else ""
    if not route["agent"]:
        return f"{member}<{route['to']}> gets nothing{_details(route)}"
    return f"{member}{goes} to {_way(route)}{_details(route)}"


def _step(step: Mapping[str, Any]) -> str:
    said = f" {step['status']} {step['text']}" if "status" in step else ""
    return f"policy {step['rule']} at {step['at']}: {step['verdict']}{said}"


def _way(way: Mapping[str, Any]) -> str:
    return f"{way['agent']} {way['target'] or '<' + way['to'] + '>'}"


def _details(route: Mapping[str, Any]) -> str:
    details = [_DETAILS[name](route[name]) for name in _DETAILS if name in route]
    return f" ({'; '.join(filter(None, details))})" if any(details) else ""


def _exchanger(found: Mapping[str, Any]) -> str:
    where = ", ".join(found["addresses"]) or "no address"
    return f"{found['preference']} {found['host']} [{where}]" + (" which is this server" if "ours" in found else "")


def _members(first: Sequence[str]) -> str:
    return ("among them " if first else "") + ", ".join(first)


_AGENTS = {
    **dict.fromkeys(("smtp", "discard", LIST), ""),
    BOUNCE_AGENT: "is counted against the member where it reports a failure",
    HOLD_AGENT: "waits for an owner: its sender may not post",
    REQUEST_AGENT: "is read by a program, and goes to the owners where that cannot do it",
}

# What is told of an end, by its key in the answer, in this order.
_DETAILS: Mapping[str, Callable[[Any], str]] = {
    "mailbox": str,
    "quota": lambda quota: f"holds {quota['used']} of {quota['limit'] or 'any'} octets",
    "new_account": lambda _: "the account is made with its first mail",
    "members": lambda count: counted(count, "member"),
    "first_members": _members,
    "type": lambda kind: _AGENTS.get(kind, f"by {kind}"),
    "command": lambda words: f"runs {shlex.join(map(str, words))}",
    "exchangers": lambda found: "by " + ", ".join(map(_exchanger, found)),
    "backup": lambda _: "as backup for its own servers",
    "tls": lambda policy: f"TLS {policy}",
    "user": lambda user: f"logs in as {user}",
    "source_address": lambda addresses: f"from {', '.join(addresses)}",
    "srs": lambda domain: f"with a return address of ours at {domain} (SRS)",
    "later": lambda found: ", ".join(f"from attempt {each['attempt']} by {each['transport']}" for each in found),
    "fault": str,
}
