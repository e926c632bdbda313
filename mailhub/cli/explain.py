"""`mailhub explain`: what would happen to a message, and why, without sending one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import attrs

from mailhub.cli.offline import environment, opened, wait
from mailhub.components import build_hub
from mailhub.config.settings import Config, load
from mailhub.control import NAME, ask
from mailhub.data_folder import DataFolder
from mailhub.delivery.relay.exchangers import is_address
from mailhub.explain import SERVICE_NAMES, explain
from mailhub.interfaces import IHub
from mailhub.log import clean
from mailhub.plugins import Catalogue, Component, load_catalogue
from mailhub.store.limits import StoreLimits
from mailhub.store.sqlite.database import Database


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    action = commands.add_parser(
        "explain",
        help="what would happen to a message, and why",
        description="Asks the running server what it would do with a message, rule by rule and step by step. Nothing "
        "is sent, counted or kept. Where no server runs, the configuration and its data are asked; rules that need DNS "
        "cannot tell then. The exit status is 1 where the message would be refused.",
    )
    action.add_argument("--from", dest="sender", metavar="ADDRESS", default="", help="reverse-path; <> is nobody")
    action.add_argument("--to", dest="recipient", metavar="ADDRESS", required=True)
    action.add_argument(
        "--ip", type=_ip, metavar="ADDRESS", default="", help="the client's address; without: a local program"
    )
    action.add_argument("--helo", metavar="NAME", default="", help="what it calls itself")
    action.add_argument("--user", metavar="USER", default="", help="who has logged in")
    action.add_argument("--size", metavar="OCTETS", type=int, default=0)
    action.add_argument("--service", choices=SERVICE_NAMES, default="", help="smtp, or submission with --user")
    action.add_argument("--json", action="store_true", help="an object, for programs")
    action.set_defaults(run=_explain)


def _ip(text: str) -> str:
    if text and not is_address(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address")
    return text


def _explain(arguments: argparse.Namespace) -> int:
    config = load(arguments.config)
    question = {
        "explain": True,
        "from": arguments.sender,
        "to": arguments.recipient,
        "ip": arguments.ip,
        "helo": arguments.helo,
        "user": arguments.user,
        "size": arguments.size,
        "service": arguments.service,
    }
    if DataFolder(config.data).server() is not None and (config.data / NAME).exists():
        told = ask(config.data, question)
    else:
        told = _offline(config, question)
    if arguments.json:
        print(json.dumps(told, indent=2))
    else:
        for line in _lines(told):
            print(clean(line).replace("\n", "\\x0a"))
    return 0 if told["taken"] else 1


def _offline(config: Config, question: Mapping[str, Any]) -> Mapping[str, Any]:
    """By a hub that only reads."""
    found = load_catalogue(config.plugins)
    ours = Component("database", "sqlite", _reading)
    others = [each for each in found.factories if (each.kind, each.name) != ("database", "sqlite")]
    catalogue: Catalogue = attrs.evolve(found, factories=(*others, ours))
    with opened(config, "read"):
        hub = build_hub(config, environment(config), catalogue, server_tls=None)
        wait(hub.database.start())
        try:
            wait(hub.names.look_again())
            return wait(explain(hub, question))
        finally:
            wait(hub.database.stop())


def _reading(_: object, hub: IHub) -> Database:
    return Database(hub.environment, hub.settings.of(StoreLimits), owner=False, create=False, read_only=True)


def _lines(told: Mapping[str, Any]) -> list[str]:
    """For people."""
    lines = [f"{'taken' if told['taken'] else 'refused'} at {told['at']}: {told['reply']}"]
    if told["rule"]:
        lines.append(f"  rule: {told['rule']}")
    if told["reason"]:
        lines.append(f"  reason: {told['reason']}")
    lines += [_step(step) for step in told["steps"]]
    for step in told["routing"]:
        said = step.get("refused") or ", ".join(_way(way) for way in step["ways"])
        lines.append(f"router {step['router']}: <{step['address']}> -> {said}")
    if told["no_route"]:
        lines.append(f"no way: {told['no_route']}")
    for route in told["routes"]:
        lines.append(f"{'goes' if told['taken'] else 'would go'} to {_way(route)}{_details(route)}")
    if told["sending"]:
        limits, sent = told["sending"]["limits"], told["sending"]["sent"]
        each = zip(sent.items(), limits.values(), strict=True)
        lines.append("sent in 24 hours: " + ", ".join(f"{n} of {most or 'any'} {what}" for (what, n), most in each))
    return lines


def _step(step: Mapping[str, Any]) -> str:
    said = f" {step['status']} {step['text']}" if "status" in step else ""
    return f"policy {step['rule']} at {step['at']}: {step['verdict']}{said}"


def _way(way: Mapping[str, Any]) -> str:
    return f"{way['agent']} {way['target'] or '<' + way['to'] + '>'}"


def _details(route: Mapping[str, Any]) -> str:
    details = []
    if "mailbox" in route:
        details.append(route["mailbox"])
    if "quota" in route:
        quota = route["quota"]
        details.append(f"holds {quota['used']} of {quota['limit'] or 'any'} octets")
    if "exchangers" in route:
        details.append("by " + ", ".join(f"{each['host']} ({each['preference']})" for each in route["exchangers"]))
    if "fault" in route:
        details.append(route["fault"])
    return f" ({'; '.join(details)})" if details else ""
