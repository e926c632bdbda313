"""What `mailhub plugins list` shows: each plugin file, what it makes, what of it is used, and how that does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs
from twisted.plugin import IPlugin

from mailhub import plugin_faults
from mailhub.agents import agent_places
from mailhub.checker_strings import load_strings
from mailhub.delivery.routing import REFUSE
from mailhub.errors import ConfigurationError
from mailhub.guard import Health
from mailhub.plugin_modules import MODULES, PACKAGE
from mailhub.plugins import Catalogue, PluginFile

if TYPE_CHECKING:
    from mailhub.config.settings import ComponentTable, Config


NEVER_REFUSED: Mapping[str, str] = {}
_OURS = f"{PACKAGE}.mailhub_components"
_EDITED = "has changed since it was run"


@attrs.frozen
class Row:
    """One component: `name` is what the configuration calls it, `type` its plugin, `file` where that was found.

    A file that cannot be used is one as well, broken and without a kind. `why` says what is wrong. Times in
    milliseconds; counts are those of the server that runs, None where nobody counts (`mailhub.guard`).
    """

    kind: str
    name: str
    type: str
    file: str
    state: Literal["good", "resting", "broken", "unused"]
    why: str = ""
    calls: int | None = None
    errors: int | None = None
    timeouts: int | None = None
    rested: int | None = None
    blocked: int | None = None
    mean_ms: float | None = None
    slowest_ms: float | None = None


def listing(
    catalogue: Catalogue, config: Config, health: Iterable[Health] = (), refused: Mapping[str, str] = NEVER_REFUSED
) -> list[Row]:
    """Rows for all that is configured, then for all that is not (mailhub's own last), then for what is broken.
    `refused`: why a file that has changed was not loaded again, by its module."""
    edited = {str(path): _EDITED for path in MODULES.edited()}
    for one in catalogue.files:
        if str(one.path) in edited and one.name in refused:
            edited[str(one.path)] = f"{_EDITED}, and was not loaded again: {refused[one.name]}"
    known = {(does.kind, does.name): does for does in health}
    files = {id(factory): str(file.path) for file in catalogue.files for factory in file.factories}
    rows: list[Row] = []
    taken: set[int] = set()
    for part in parts(config, catalogue):
        try:
            factory = catalogue.find(part)
        except ConfigurationError as error:
            rows.append(Row(part.kind, part.name, part.type, "", "broken", str(error)))
            continue
        taken.add(id(factory))
        file = files.get(id(factory)) or plugin_faults.source(factory)
        row = Row(part.kind, part.name, part.type, file, "good", edited.get(file, ""))
        does = known.pop((part.kind, part.name), None)
        rows.append(row if does is None else _with(row, does))
    # Checkers that strings make, and those that are asked as directories.
    rows += (_with(Row(one.kind, one.name, one.name, one.file, "good"), one) for one in known.values())
    ours = {id(factory) for file in catalogue.files if file.name == _OURS for factory in file.factories}
    for factory in sorted(catalogue.factories, key=lambda each: id(each) in ours):
        if id(factory) not in taken:
            file = files.get(id(factory)) or plugin_faults.source(factory)
            rows.append(Row(factory.kind, factory.name, factory.name, file, "unused"))
    rows += (Row("", "", "", line.partition(": ")[0], "broken", line) for line in catalogue.broken)
    return rows


def _with(row: Row, health: Health) -> Row:
    names = ("state", "calls", "errors", "timeouts", "rested", "blocked", "mean_ms", "slowest_ms")
    counts: dict[str, Any] = {name: getattr(health, name) for name in names}
    return attrs.evolve(row, **counts)


def parts(config: Config, catalogue: Catalogue) -> Iterator[ComponentTable]:
    """The components that a server by this configuration has, each once. Checkers of `twisted.cred.strcred` are
    none."""
    seen = set()
    for part in _parts(config, catalogue):
        if (part.kind, part.name) not in seen:
            seen.add((part.kind, part.name))
            yield part


def _parts(config: Config, catalogue: Catalogue) -> Iterator[ComponentTable]:
    yield config.database
    yield config.store
    yield from config.stores.values()
    for name in config.auth.checkers:
        known = ("checker", name) in config.parts or name in catalogue.names("checker")
        if known or not (":" in name or name in load_strings(config.plugins).factories):
            yield config.part("checker", name, config.place("auth", "checkers"))
    for name in config.auth.directories:
        yield config.part("directory", name, config.place("auth", "directories"))
    delivery = config.delivery
    ways = (
        ("router", "routers", delivery.routers),
        ("policy", "policies", config.policies),
        ("rule", "rules", delivery.rules),
    )
    for kind, key, names in ways:
        for name in names:
            yield config.part(kind, name, config.place("delivery", key))
    for name, place in agent_places(config).items():
        yield config.part("agent", name, place)
    for table in config.transports:
        if table.keys.agent != REFUSE:
            yield table.part
    for name, endpoints in config.listen.items():
        if endpoints:
            yield config.part("service", name, config.place("listen", name))


def _named_alike(catalogue: Catalogue) -> Iterator[str]:
    """None of these could be configured."""
    files: dict[tuple[str, str], list[str]] = {}
    for factory in catalogue.factories:
        if not getattr(factory, "yields", False):
            files.setdefault((factory.kind, factory.name), []).append(plugin_faults.source(factory))
    for (kind, name), found in files.items():
        if len(found) > 1:
            yield f"{' and '.join(sorted(set(found)))}: {len(found)} {kind} plugins are called {name!r}"


def idle(catalogue: Catalogue) -> list[str]:
    """A line for each file that makes no component and that no other file imports: perhaps its class stands in none."""
    imported = frozenset[str]().union(*[run.imports for run in MODULES.runs.values()])
    return [
        f"{file.path}: makes no component (`Component(kind, name, make)`), so nothing can name it"
        for file in catalogue.files
        if not (file.factories or file.faults or file.name in imported or _is_twisteds(file))
    ]


def _is_twisteds(file: PluginFile) -> bool:
    """Whether it has a plugin of another kind, such as a command of twistd."""
    return any(IPlugin.providedBy(value) for value in vars(file.module).values())


def faults(catalogue: Catalogue, config: Config) -> list[str]:
    """A line for each file that cannot be used, and for each component that is configured and cannot be made of what is
    there; nothing is built."""
    lines = [*catalogue.broken, *_named_alike(catalogue)]
    for part in parts(config, catalogue):
        try:
            catalogue.look_over(part)
        except ConfigurationError as error:
            lines.append(" ".join(str(error).split()))
    return lines
