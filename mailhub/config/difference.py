"""What a configuration that is read again changes: for a running server, and only for the next start."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from mailhub.config.tables import LASTING, declared
from mailhub.services import SERVICES

if TYPE_CHECKING:
    from mailhub.config.settings import Config, LimitsTable, Parts

# Whole tables and keys that a server has taken its ports, files and threads by.
_LASTING = ("data", "listen", "database", "store", "stores", "mailboxes", "dns", "log")
_LASTING_LIMITS = frozenset(key.name for key in declared(LASTING))


_WITH_TLS = frozenset(name for name, service in SERVICES.items() if service.needs_tls)


@attrs.frozen
class Difference:
    """`config` is what a server that runs by another one can be: all of the new one but what lasts.

    `changed` and `lasting` name tables and keys: those that take effect, and those that wait for a restart.
    """

    config: Config
    changed: tuple[str, ...]
    lasting: tuple[str, ...]


def compare(running: Config, new: Config, with_tls: Collection[str] = _WITH_TLS) -> Difference:
    """What is different in `new`. `with_tls` are the services that cannot be without it. Pure."""
    changed: list[str] = []
    lasting: list[str] = []
    kept: dict[str, Any] = {}
    for field in attrs.fields(type(running)):
        before, after = getattr(running, field.name), getattr(new, field.name)
        if before == after:
            continue
        names = list(_names(field.name, before, after))
        if field.name in _LASTING or (field.name == "tls" and not _may_be_without_tls(running, new, with_tls)):
            kept[field.name] = before
            lasting += names
        elif field.name in ("limits", "parts"):
            kept[field.name], waiting = _limits(before, after) if field.name == "limits" else _parts(running, new)
            lasting += (name for name in names if name in waiting)
            changed += (name for name in names if name not in waiting)
        else:
            changed += names
    return Difference(attrs.evolve(new, **kept), tuple(changed), tuple(lasting))


def _may_be_without_tls(running: Config, new: Config, with_tls: Collection[str]) -> bool:
    return new.tls is not None or not any(running.listen.get(name) for name in with_tls)


def _limits(before: LimitsTable, after: LimitsTable) -> tuple[LimitsTable, set[str]]:
    """Those that can be, and the names of those that cannot."""
    kept = {}
    for name in _LASTING_LIMITS:
        if getattr(after, name) != getattr(before, name):
            kept[name] = getattr(before, name)
    return attrs.evolve(after, **kept), {f"[limits] {name}" for name in kept}


def _parts(running: Config, new: Config) -> tuple[Parts, set[str]]:
    """The same of tables: a service that is not listed any more is served, as its port is open, by the one it has."""
    closing = {("service", name) for name in running.listen if name not in new.listen}
    kept = {key: table for key, table in running.parts.items() if key in closing and new.parts.get(key) != table}
    return {**new.parts, **kept}, {f"[{kind}.{name}]" for kind, name in kept}


def _names(name: str, before: Any, after: Any) -> Iterator[str]:
    """As they stand in the file."""
    if name == "lists":
        yield from (f'[list."{address}"]' for address in _unequal(before, after))
    elif name == "routes":
        yield from (f'[route."{domain}"]' for domain in _unequal(before, after))
    elif name == "transports":
        yield from (f"[transport.{each}]" for each in _moved(before, after))
    elif name == "parts":
        yield from (f"[{kind}.{part}]" for kind, part in _unequal(before, after))
    elif name == "stores":
        yield from (f"[stores.{part}]" for part in _unequal(before, after))
    elif name == "listen":
        yield from (f"[listen] {name}" for name in {**before, **after} if before.get(name) != after.get(name))
    elif name in ("aliases", "send_as", "domain_aliases", "database", "store") or before is None or after is None:
        yield f"[{name}]"
    elif attrs.has(type(before)):
        for field in attrs.fields(type(before)):
            if getattr(before, field.name) != getattr(after, field.name):
                yield f"[{name}] {field.name}"
    else:
        yield name


def _unequal(before: Any, after: Any) -> list[Any]:
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


def _moved(before: Any, after: Any) -> list[str]:
    """Transports that are not what they were, or not where they were: the first that is for a recipient counts."""
    old = {each.name: (place, each) for place, each in enumerate(before)}
    new = {each.name: (place, each) for place, each in enumerate(after)}
    return _unequal(old, new)
