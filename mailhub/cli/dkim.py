"""`mailhub dkim`: the keys that our users' mail is signed with."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults

from mailhub.checks.signing import SigningKey, new_key, read_key
from mailhub.cli.confirm import confirmed, yes_option
from mailhub.cli.offline import Offline, opened
from mailhub.cli.outcome import plain
from mailhub.cli.world import World, world
from mailhub.config.settings import Config, load
from mailhub.delivery.authentication.keys import (
    PART,
    KeptKey,
    KeptKeys,
    fault_of,
    in_use,
    is_selector,
    is_shown,
    made,
    zone_line,
)
from mailhub.delivery.authentication.rotation import begin_rotation, records_of, switch
from mailhub.delivery.schedule import Schedule
from mailhub.errors import ConfigurationError, TemporaryError
from mailhub.message.address import parse_domain, to_ascii

_ALGORITHMS = ("ed25519", "rsa")
_DNS_SECONDS = 10.0  # for what DNS has
_FILE_LIMIT = 65_536  # octets
_SHOWN = 120  # characters of a record that is another

Action = Callable[[argparse.Namespace], int | None]


def add_parser(commands: Any) -> None:
    """The grammar of this command."""
    group = commands.add_parser(
        "dkim",
        help="keys that mail of our domains is signed with",
        description="Keys are kept in the database, so that a running server has them within a second. A new one signs "
        "when DNS was seen with its record, which each of these commands prints.",
    )
    actions = group.add_subparsers(metavar="ACTION", required=True)
    add = _action(actions, "add", _add, "make keys for a domain")
    add.add_argument("--selector", metavar="S", help="their name in DNS, by default the date")
    add.add_argument("--algorithm", choices=(*_ALGORITHMS, "both"), default="both", help="by default both")
    listing = actions.add_parser("list", help="all keys, with their records")
    listing.add_argument("domain", metavar="DOMAIN", nargs="?", help="of one domain")
    listing.add_argument("--json", action="store_true", help="as JSON, one object a line")
    listing.set_defaults(run=_list)
    _action(actions, "rotate", _rotate, "make keys that follow those of a domain, or have them sign when DNS has them")
    remove = actions.add_parser("remove", help="forget the keys of a domain, or one of them")
    remove.add_argument("domain", metavar="DOMAIN")
    remove.add_argument("selector", metavar="SELECTOR", nargs="?")
    yes_option(remove)
    remove.set_defaults(run=_remove)
    importing = _action(actions, "import", _import, "take over a key of another program")
    importing.add_argument("selector", metavar="SELECTOR", help="its name in DNS")
    importing.add_argument("file", metavar="FILE", type=Path, help="the private key as PEM, without a password")
    check = actions.add_parser("check", help="compare with DNS, and have keys sign that it shows")
    check.add_argument("domain", metavar="DOMAIN", nargs="?", help="of one domain")
    check.set_defaults(run=_check)


def _action(actions: Any, name: str, run: Action, text: str) -> Any:
    made = actions.add_parser(name, help=text)
    made.add_argument("domain", metavar="DOMAIN")
    made.add_argument("--force", action="store_true", help="sign at once, whatever DNS has")
    made.set_defaults(run=run)
    return made


# --- Actions ----------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class _Keys:
    """Those of a database, and what to do with them."""

    hub: Offline
    world: World
    config: Config

    @property
    def kept(self) -> KeptKeys:
        return KeptKeys(self.hub.database.state.of(PART))

    def all(self, domain: str = "") -> Sequence[KeptKey]:
        return self.hub.wait(self.kept.all(domain))

    def records(self, keys: Sequence[KeptKey]) -> Sequence[Sequence[bytes] | None]:
        """What DNS has of each; None where it gives no answer."""
        resolver = self.world.environment.resolver

        async def everything() -> Sequence[Sequence[bytes] | None]:
            return await gatherResults([Deferred.fromCoroutine(records_of(each, resolver)) for each in keys])

        try:
            return self.world.wait(everything(), _DNS_SECONDS)
        except TemporaryError:
            return [None] * len(keys)

    def settle(self, domain: str, keys: Sequence[KeptKey], *, force: bool = False) -> bool:
        """Have those sign that DNS shows, and print all of them. Whether DNS has what it should have of those that
        sign."""
        found = dict(zip([each.entry for each in keys], self.records(keys), strict=True))
        shown = {each.published for each in keys if force or is_shown(each.key, found[each.entry] or ())}
        retire_seconds = self.config.of(Schedule).longest_expiry
        changed = self.hub.wait(switch(self.kept, shown, int(time.time()), retire_seconds, domain))
        now = {each.entry: each for each in self.all(domain)}
        good = True
        for each in keys:
            if current := now.get(each.entry):
                records = found[each.entry]
                _print(current, _in_dns(current, records))
                good &= current.state != "active" or records is None or is_shown(current.key, records)
        for each in changed:
            if each.entry not in found:
                _print(each)
        return good


def _domain(text: str) -> str:
    try:
        domain = parse_domain(text)
        domain = domain if domain.isascii() else to_ascii(domain)
    except ValueError as error:
        raise ConfigurationError(f"{text!r} is not a domain: {error}") from None
    if domain.startswith("["):
        raise ConfigurationError(f"{text} is an address, not a domain")
    return domain.lower()


def _selector(text: str, domain: str) -> str:
    selector = text.lower()
    if not is_selector(selector) or len(f"{selector}._domainkey.{domain}") > 253 - len("-ed25519"):
        raise ConfigurationError(f"{text!r} is no selector: letters, digits and hyphens, such as mail2026")
    return selector


def _add(arguments: argparse.Namespace) -> None:
    domain = _domain(arguments.domain)
    selector = _selector(arguments.selector, domain) if arguments.selector else ""
    chosen = _ALGORITHMS if arguments.algorithm == "both" else (arguments.algorithm,)
    config = load(arguments.config)
    private = {algorithm: new_key(algorithm) for algorithm in chosen}
    with opened(config) as hub, world(config) as found:
        keys = _Keys(hub, found, config)
        taken = {each.key.selector for each in keys.all(domain)}
        new = made(private, domain, taken, int(time.time()), selector)
        _keep(keys, new, taken, domain, force=arguments.force)


def _keep(keys: _Keys, new: Sequence[KeptKey], taken: Iterable[str], domain: str, *, force: bool) -> None:
    for each in new:
        if each.key.selector in taken:
            raise ConfigurationError(
                f"{domain} has a key {each.key.selector} already; `mailhub dkim remove` forgets it"
            )
    keys.hub.wait(keys.kept.put(new))
    keys.settle(domain, new, force=force)
    if domain not in {_domain(each) for each in keys.config.domains}:
        print(plain(f"warning: {domain} is none of [domains] in {keys.config.file}"), file=sys.stderr)


def _list(arguments: argparse.Namespace) -> None:
    domain = _domain(arguments.domain) if arguments.domain else ""
    config = load(arguments.config)
    with opened(config, "read") as hub:
        found = hub.wait(KeptKeys(hub.database.state.of(PART)).all(domain))
    for each in found:
        if arguments.json:
            print(json.dumps(_told(each)))
        else:
            _print(each)
    if not found and not arguments.json:
        print("no keys; `mailhub dkim add DOMAIN` makes them")


def _rotate(arguments: argparse.Namespace) -> None:
    domain = _domain(arguments.domain)
    config = load(arguments.config)
    with opened(config) as hub, world(config) as found:
        keys = _Keys(hub, found, config)
        there = keys.all(domain)
        algorithms = in_use(there).get(domain, ())
        if not algorithms:
            raise ConfigurationError(f"{domain} has no keys; `mailhub dkim add {domain}` makes them")
        threads = found.environment.threads
        new = hub.wait(begin_rotation(keys.kept, threads, domain, algorithms, int(time.time())))
        keys.settle(domain, new, force=arguments.force)


def _remove(arguments: argparse.Namespace) -> None:
    domain = _domain(arguments.domain)
    config = load(arguments.config)
    with opened(config) as hub:
        kept = KeptKeys(hub.database.state.of(PART))
        found = [
            each
            for each in hub.wait(kept.all(domain))
            if arguments.selector is None or each.key.selector == arguments.selector.lower()
        ]
        if not found:
            raise ConfigurationError(f"{domain} has no such key; `mailhub dkim list {domain}` shows all")
        signing = [each.key.selector for each in found if each.state == "active"]
        if signing and not confirmed(arguments, f"{', '.join(signing)} of {domain} sign mail and will be gone."):
            return
        hub.wait(kept.remove(found))
    for each in found:
        print(f"{each.key.name} is forgotten; its record has to stay while mail that it has signed is on its way")


def _import(arguments: argparse.Namespace) -> None:
    domain = _domain(arguments.domain)
    selector = _selector(arguments.selector, domain)
    config = load(arguments.config)
    with arguments.file.open("rb") as file:
        pem = file.read(_FILE_LIMIT)
    try:
        private = read_key(pem)
    except ValueError as error:
        raise ConfigurationError(f"{arguments.file}: {error}") from None
    with opened(config) as hub, world(config) as found:
        keys = _Keys(hub, found, config)
        taken = {each.key.selector for each in keys.all(domain)}
        new = [KeptKey(SigningKey(domain, selector, private), int(time.time()))]
        _keep(keys, new, taken, domain, force=arguments.force)


def _check(arguments: argparse.Namespace) -> int:
    domain = _domain(arguments.domain) if arguments.domain else ""
    config = load(arguments.config)
    with opened(config) as hub, world(config) as found:
        keys = _Keys(hub, found, config)
        there = keys.all(domain)
        if not there:
            raise ConfigurationError("there are no keys; `mailhub dkim add DOMAIN` makes them")
        good = keys.settle(domain, there)
    return 0 if good else 1


# --- What is shown ----------------------------------------------------------------------------------------------------


def _time(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _told(key: KeptKey) -> dict[str, object]:
    """Nothing of the private half."""
    return {
        "domain": key.key.domain,
        "selector": key.key.selector,
        "algorithm": key.algorithm,
        "state": key.state,
        "created": key.created,
        "seen": key.seen or None,
        "until": key.until or None,
        "name": key.key.name,
        "record": key.key.record,
    }


def _print(key: KeptKey, dns: str = "") -> None:
    state = {
        "new": "new: signs when DNS has its record",
        "active": "active",
        "retired": f"retired: its record can be taken out after {_time(key.until)}",
    }[key.state]
    print(f"; {key.key.domain} {key.key.selector}: {key.algorithm}, made {_time(key.created)}, {state}")
    if dns:
        print(f"; {dns}")
    print(zone_line(key.key))


def _in_dns(key: KeptKey, records: Sequence[bytes] | None) -> str:
    if records is None:
        return "DNS gives no answer about it now"
    if not records:
        return "DNS does not have it"
    if is_shown(key.key, records):
        several = f", beside {len(records) - 1} others, which should not be there" if len(records) > 1 else ""
        return f"DNS has it{several}"
    shown = plain(records[0].decode(errors="replace")[:_SHOWN])
    return f"DNS has something else ({fault_of(key.key, records[0])}): {shown}"
