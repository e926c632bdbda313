"""The plugin door: finds component factories with `twisted.plugin` and builds what the configuration names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.plugin import IPlugin, getCache
from twisted.python.failure import Failure
from zope.interface import implementer, provider

import twisted.plugins
from mailhub import plugin_faults
from mailhub.config.reader import one_of, read
from mailhub.errors import ConfigurationError
from mailhub.hub_view import view
from mailhub.interfaces import IComponentFactory, IHub, Part, Service
from mailhub.log import Logger

if TYPE_CHECKING:
    from mailhub.config.settings import ComponentTable

_log = Logger(namespace="mailhub.components")


@attrs.frozen
class NoOptions:
    """For components without keys of their own."""


@implementer(IPlugin, IComponentFactory)
@attrs.frozen(eq=False)
class Component:
    """A component factory in one line, for built-in parts and for plugins.

    `make(options, hub)` gives the component; `options` is an attrs class whose fields are the keys of its table.
    `service` says of a service how it is offered.
    """

    kind: str
    name: str
    make: Callable[[Any, Any], Any]
    options: type = NoOptions
    service: Service = attrs.field(factory=Service)

    def build(self, options: Any, hub: IHub) -> Any:
        """See `IComponentFactory`."""
        return self.make(options, hub)


@attrs.frozen
class Catalogue:
    """All factories there are, and a line for each plugin file that could not be loaded."""

    factories: tuple[IComponentFactory, ...]
    broken: tuple[str, ...] = ()

    def names(self, kind: str) -> list[str]:
        """What can be named where a component of this kind is wanted."""
        return sorted({factory.name for factory in self.factories if factory.kind == kind})

    def find(self, part: ComponentTable) -> IComponentFactory:
        """The factory of one configured component. Raises ConfigurationError that lists the names there are."""
        found = [factory for factory in self.factories if (factory.kind, factory.name) == (part.kind, part.type)]
        if not found:
            broken = "".join(f"; not loaded: {line}" for line in self.broken)
            known = one_of(part.type, part.tables.union(self.names(part.kind)))
            others = sorted({factory.kind for factory in self.factories if factory.name == part.type})
            other = f" (it makes a {' and a '.join(others)})" if others else ""
            raise part.place.error(f"there is no {part.kind} plugin called {part.type!r}{other}; {known}{broken}")
        if len(found) > 1:
            files = " and ".join(sorted(plugin_faults.source(factory) for factory in found))
            raise part.place.error(f"{len(found)} {part.kind} plugins are called {part.type!r}: {files}")
        return found[0]

    def service(self, part: ComponentTable) -> Service:
        """How the service that `part` makes is offered. Raises ConfigurationError where there is no such plugin."""
        return getattr(self.find(part), "service", None) or Service()

    def look_over(self, part: ComponentTable) -> None:
        """Raises ConfigurationError where there is no such plugin, or it does not take these options."""
        self._options(part, self.find(part))

    def _options(self, part: ComponentTable, factory: IComponentFactory) -> Any:
        return read(factory.options, part.options, part.place, part.guarding)

    def build(self, part: ComponentTable, hub: object) -> Any:
        """The component itself, which is given what `IHub` names of `hub`, and who it is. Raises ConfigurationError,
        also for whatever the plugin raises, and for a component that has not all that its kind must have."""
        factory = self.find(part)
        file = plugin_faults.source(factory)
        try:
            component = factory.build(self._options(part, factory), view(hub, Part(part.kind, part.name, file)))
        except ConfigurationError as error:
            if str(error).startswith(part.place.file):
                raise
            # Components do not know where their table stands.
            raise part.place.error(str(error)) from error
        except Exception as error:
            raise part.place.error(f"{part.type} cannot be built: {plugin_faults.told(error, file)}") from error
        fault = plugin_faults.component_fault(part.kind, component)
        if fault:
            raise part.place.error(f"{part.type} ({file}): {fault}")
        return component


def load_catalogue() -> Catalogue:
    """Look for plugins in every `twisted/plugins/` folder on the path."""
    failures: list[Failure] = []

    @provider(ILogObserver)
    def observe(event: Any) -> None:
        # twisted.plugin tells of a broken file in no other way.
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            failures.append(failure)

    globalLogPublisher.addObserver(observe)
    try:
        dropins: dict[str, Any] = getCache(twisted.plugins)  # type: ignore[no-untyped-call]
        # As twisted.plugin.getPlugins does it, which does not tell the file.
        found = [
            (dropin.moduleName, factory)
            for dropin in dropins.values()
            for plugin in dropin.plugins
            if (factory := _loaded(plugin, failures)) is not None
        ]
    finally:
        globalLogPublisher.removeObserver(observe)
    good, lines = [], [_describe(failure) for failure in failures]
    for module, factory in found:
        fault = plugin_faults.factory_fault(factory)
        if fault:
            lines.append(f"{_file(module) or module}: {_called(factory)}{fault}")
        else:
            good.append(factory)
    modules = [dropin.moduleName for dropin in dropins.values()]
    lines += _hidden(modules, [factory for _, factory in found])
    broken = tuple(dict.fromkeys(lines))
    for line in broken:
        _log.warn("plugin not loaded: {line:text}", line=line)
    return Catalogue(tuple(good), broken)


def _loaded(plugin: Any, failures: list[Failure]) -> Any:
    adapter: Any = IComponentFactory
    try:
        return adapter(plugin, None)
    except Exception:
        failures.append(Failure())  # type: ignore[no-untyped-call]
        return None


def _hidden(modules: Iterable[str], found: Sequence[object]) -> Iterator[str]:
    """What plugin files have for us, but not where twisted.plugin looks."""
    for name in modules:
        file = _file(name)
        # To import all that other programs put there would take a while.
        if file is None or b"mailhub" not in file.read_bytes():
            continue
        try:
            module = importlib.import_module(name)
        except Exception as error:
            yield f"{file}: {type(error).__name__}: {' '.join(str(error).split())}"
        else:
            yield from (f"{file}: {line}" for line in plugin_faults.hidden_factories(module, found))


def _file(module: str) -> Path | None:
    with suppress(ImportError, AttributeError, ValueError):
        found = importlib.util.find_spec(module)
        if found is not None and found.origin and found.origin.endswith(".py") and os.access(found.origin, os.R_OK):
            return Path(found.origin)
    return None


def _called(factory: Any) -> str:
    name = getattr(factory, "name", None)
    return f"{name}: " if isinstance(name, str) and name else ""


def _describe(failure: Failure) -> str:
    """One line with the plugin file and what is wrong with it."""
    error = failure.value
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__ if error else None)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    name = _plugin_file(files)
    return f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"


def _plugin_file(files: Iterable[str]) -> str:
    for name in files:
        if Path(name).parent.parts[-2:] == ("twisted", "plugins"):
            return name
    return "a plugin"
