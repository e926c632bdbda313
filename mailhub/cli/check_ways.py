"""What `mailhub check` says of the ways of mail: what is set up and never used, or cannot do what it is for."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from itertools import chain

from mailhub.agents import agent_places
from mailhub.config import routes
from mailhub.config.reader import Place, one_of
from mailhub.config.settings import Config
from mailhub.config.transports import TransportTable
from mailhub.delivery.forwarding import ROUTER as SRS_ROUTER
from mailhub.delivery.forwarding import SRS
from mailhub.delivery.list_names import LIST, LISTS
from mailhub.interfaces import STORE, ILocalNames


def ways(config: Config) -> Iterator[str]:
    """By the configuration and this machine. Nothing of it is a problem for sure: it may be there when it is needed."""
    routers = config.place("delivery", "routers")
    if config.value(SRS) and not _asks(config, SRS_ROUTER):
        yield str(routers.error(f'lacks "{SRS_ROUTER}": [forwarding] srs does nothing without it'))
    for part, by in config.unnamed():
        yield str(part.place.error(f"is not {by}: it does nothing"))
    yield from _queues_asked_for(config)
    yield from _late_warnings(config)
    yield from _programs(config)
    yield from _source_addresses(config)


def unrouted(config: Config, names: ILocalNames) -> Iterator[str]:
    """What the names of configuration and database together show."""
    if names.lists and not _asks(config, LISTS):
        routers = config.place("delivery", "routers")
        many = f"{len(names.lists)} lists" if len(names.lists) > 1 else f"the list {next(iter(names.lists))}"
        yield str(routers.error(f'lacks "{LISTS}": mail for {many} of the database goes to nobody'))
    for table in config.transports:
        if table.part.type in (STORE, LIST) and (others := _of_others(table, names)):
            what = f'agent "{table.part.type}" has mail for our own domains alone, and not for {others}'
            yield str(table.place.at("agent").error(what))


def _queues_asked_for(config: Config) -> Iterator[str]:
    """Names in [smtp] etrn of what mail never goes by."""
    transports = [table.name for table in config.transports]
    known = {*agent_places(config), *transports}
    for node in config.smtp.etrn:
        if node.startswith("#") and node[1:] not in known:
            what = f'"{node}": there is no [transport.{node[1:]}]; {one_of(node[1:], transports)}'
            yield str(config.place("smtp", "etrn").error(what))


def _late_warnings(config: Config) -> Iterator[str]:
    """Of delays that nobody is told of, for the mail has been given up before."""
    queue, place = config.queue, config.place("queue")
    hours = {place: (queue.delay_warning_hours, queue.expire_hours)}
    for name, own in queue.destination.items():
        if own.delay_warning_hours is not None or own.expire_hours is not None:
            warning = queue.delay_warning_hours if own.delay_warning_hours is None else own.delay_warning_hours
            expiry = queue.expire_hours if own.expire_hours is None else own.expire_hours
            hours[place.inside("destination").inside(name)] = warning, expiry
    for here, (warning, expiry) in hours.items():
        if warning >= expiry:
            what = f"{warning} is not less than expire_hours = {expiry}: nobody is told that mail is late"
            yield str(here.at("delay_warning_hours").error(what))


def _asks(config: Config, router: str) -> bool:
    place = config.place("delivery", "routers")
    return any(config.part("router", name, place).type == router for name in config.delivery.routers)


def _of_others(table: TransportTable, names: ILocalNames) -> str:
    """What a transport takes that is not ours, "" for nothing."""
    patterns = table.transport().recipients
    if patterns is None or patterns.any:
        return "all others"
    named = {*patterns.domains, *(key.rpartition("@")[2] for key in patterns.addresses)}
    return ", ".join(sorted([*(named - names.domains), *(f"*.{domain}" for domain in patterns.above)]))


def _programs(config: Config) -> Iterator[str]:
    """Programs that take mail."""
    tables = [table.part for table in config.transports]
    used = {id(part.options): part for part in chain(config.parts.values(), tables) if part.kind == "agent"}
    for part in used.values():
        command = part.options.get("command")
        if part.type != "pipe" or not isinstance(command, list) or not command or not isinstance(command[0], str):
            continue
        if fault := _program_fault(command[0]):
            yield str(part.place.at("command").error(f"{command[0]}: {fault}"))


def _program_fault(program: str) -> str:
    if os.path.dirname(program) and not os.path.isfile(program):
        return "there is no such program"
    if shutil.which(program) is None:
        return "cannot be run" if os.path.dirname(program) else "there is no such program in PATH"
    return ""


def _source_addresses(config: Config) -> Iterator[str]:
    given: list[tuple[Place, tuple[str, ...]]] = [
        (config.place("relay", "source_address"), routes.relay_addresses(config).source)
    ]
    for domain, route in config.routes.items():
        given.append((config.place("route").inside(domain).at("source_address"), route.source_address))
    for table in config.transports:
        if table.route is not None:
            given.append((table.place.at("source_address"), table.route.source_address))
    for place, addresses in given:
        for address in addresses:
            if fault := _address_fault(address):
                yield str(place.error(f"{address}: {fault}"))


def _address_fault(address: str) -> str:
    """Why no connection can be made from it, "" where one can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            trial.bind((address, 0))
    except OSError as error:
        return f"is no address of this machine ({error.strerror or error})"
    return ""
