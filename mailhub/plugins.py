"""The plugin door: finds component factories with `twisted.plugin` and builds what the configuration names."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.plugin import IPlugin, getPlugins
from twisted.python.failure import Failure
from zope.interface import implementer, provider

from mailhub.config.reader import one_of, read
from mailhub.config.settings import Part
from mailhub.errors import ConfigurationError
from mailhub.interfaces import IComponentFactory, IHub
from mailhub.log import Logger

_log = Logger(namespace="mailhub.components")


@attrs.frozen
class NoOptions:
    """For components without keys of their own."""


@implementer(IPlugin, IComponentFactory)
@attrs.frozen(eq=False)
class Component:
    """A component factory in one line, for built-in parts and for plugins.

    `make(options, hub)` gives the component; `options` is an attrs class whose fields are the keys of its table.
    """

    kind: str
    name: str
    make: Callable[[Any, Any], Any]
    options: type = NoOptions

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

    def find(self, part: Part) -> IComponentFactory:
        """The factory of one configured component. Raises ConfigurationError that lists the names there are."""
        found = [factory for factory in self.factories if (factory.kind, factory.name) == (part.kind, part.type)]
        if not found:
            broken = "".join(f"; not loaded: {line}" for line in self.broken)
            known = one_of(part.type, self.names(part.kind))
            raise part.place.error(f"there is no {part.kind} plugin called {part.type!r}; {known}{broken}")
        if len(found) > 1:
            modules = " and ".join(sorted(type(factory).__module__ for factory in found))
            raise part.place.error(f"{len(found)} {part.kind} plugins are called {part.type!r}: {modules}")
        return found[0]

    def build(self, part: Part, hub: IHub) -> Any:
        """The component itself. Raises ConfigurationError, also for whatever the plugin raises."""
        factory = self.find(part)
        options: Any = read(factory.options, part.options, part.place)
        try:
            return factory.build(options, hub)
        except ConfigurationError as error:
            # Components do not know where their table stands.
            raise part.place.error(str(error)) from error
        except Exception as error:
            _log.failure("component {kind} {name} cannot be built", kind=part.kind, name=part.name)
            raise part.place.error(f"{part.type} cannot be built: {type(error).__name__}: {error}") from error


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
        factories = tuple(getPlugins(IComponentFactory))
    finally:
        globalLogPublisher.removeObserver(observe)
    broken = tuple(dict.fromkeys(_describe(failure) for failure in failures))
    for line in broken:
        _log.warn("plugin not loaded: {line:text}", line=line)
    return Catalogue(factories, broken)


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
