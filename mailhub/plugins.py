"""The plugin door: finds component factories in plugin files and builds what the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
from twisted.plugin import IPlugin
from zope.interface import implementer

from mailhub import plugin_faults
from mailhub.config.reader import one_of, read
from mailhub.errors import ConfigurationError
from mailhub.hub_view import view
from mailhub.interfaces import IComponentFactory, IHub, Part, Service
from mailhub.log import Logger
from mailhub.plugin_files import find
from mailhub.plugin_modules import MODULES, PACKAGE

if TYPE_CHECKING:
    from mailhub.config.settings import ComponentTable, Config

_log = Logger(namespace="mailhub.components")
_PREFIX = len(PACKAGE) + 1


@attrs.frozen
class NoOptions:
    """For components without keys of their own."""


@implementer(IPlugin, IComponentFactory)
@attrs.frozen(eq=False)
class Component:
    """A component factory in one line, for built-in parts and for plugins.

    `make(options, hub)` gives the component; `options` is an attrs class whose fields are the keys of its table.
    `service` says of a service how it is offered. One that `yields` is not there where another has its name: names of
    ours that came after plugins that may have them.
    """

    kind: str
    name: str
    make: Callable[[Any, IHub], Any]
    options: type = NoOptions
    service: Service = attrs.field(factory=Service)
    yields: bool = False

    def build(self, options: Any, hub: IHub) -> Any:
        """See `IComponentFactory`."""
        return self.make(options, hub)


@attrs.frozen
class PluginFile:
    """A file that was run: what it has for us, and a line, with its path, for each thing that cannot be used."""

    path: Path
    name: str  # of the module
    factories: tuple[IComponentFactory, ...] = ()
    faults: tuple[str, ...] = ()
    module: ModuleType | None = attrs.field(default=None, repr=False)  # another one each time that it is run


@attrs.frozen
class Catalogue:
    """All factories there are, a line for each plugin file that could not be loaded, and the files."""

    factories: tuple[IComponentFactory, ...]
    broken: tuple[str, ...] = ()
    files: tuple[PluginFile, ...] = ()

    def names(self, kind: str) -> list[str]:
        """What can be named where a component of this kind is wanted."""
        return sorted({factory.name for factory in self.factories if factory.kind == kind})

    def has(self, part: ComponentTable) -> bool:
        """Whether there is such a plugin."""
        return part.type in self.names(part.kind)

    def find(self, part: ComponentTable) -> IComponentFactory:
        """The factory of one configured component. Raises ConfigurationError that lists the names there are."""
        found = [factory for factory in self.factories if (factory.kind, factory.name) == (part.kind, part.type)]
        found = [factory for factory in found if not getattr(factory, "yields", False)] or found
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

    def changed(self, before: Catalogue) -> list[PluginFile]:
        """Files that were run since `before`, and those that are gone. Raises ConfigurationError where one that was
        good then cannot be used any more."""
        were = {file.path: file for file in before.files}
        for file in self.files:
            if file.faults and file.path in were and not were[file.path].faults:
                raise ConfigurationError(f"{'; '.join(file.faults)}; what ran before goes on")
        now = {file.path: file for file in self.files}
        changed = [file for file in self.files if file.path not in were or were[file.path].module is not file.module]
        return changed + [file for path, file in were.items() if path not in now]

    def file_called(self, name: str, settings: Config) -> str:
        """The module of the one plugin file that is called so (by path, name, or what it makes), or makes the
        component of that name in the configuration. Raises ConfigurationError."""
        files = find(settings.plugins).files
        called = {module for module, path in files.items() if name in (str(path), path.name, module, module[_PREFIX:])}
        types = {name, *(part.type for (_, table), part in settings.parts.items() if table == name)}
        made = {file.name for file in self.files if any(factory.name in types for factory in file.factories)}
        chosen = called or made
        if len(chosen) == 1:
            return chosen.pop()
        if chosen:
            paths = " and ".join(sorted(str(files.get(module, module)) for module in chosen))
            raise ConfigurationError(f"{name!r} is made by {paths}: name one of the files")
        known = [module[_PREFIX:] for module in files]
        raise ConfigurationError(f"there is no plugin file or component called {name!r}; {one_of(name, known)}")

    def service(self, part: ComponentTable) -> Service:
        """How the service that `part` makes is offered. Raises ConfigurationError where there is no such plugin."""
        return getattr(self.find(part), "service", None) or Service()

    def look_over(self, part: ComponentTable) -> None:
        """Raises ConfigurationError where there is no such plugin, or it does not take these options."""
        factory = self.find(part)
        try:
            self._options(part, factory)
        except ConfigurationError:
            raise
        except BaseException as error:
            told = plugin_faults.told(error, plugin_faults.source(factory))
            raise part.place.error(f"{part.type}: {told}") from error

    def _options(self, part: ComponentTable, factory: IComponentFactory) -> Any:
        try:
            return read(factory.options, part.options, part.place, part.keys_of_others)
        except ConfigurationError as error:
            if not self._hides_ours(factory):
                raise
            raise ConfigurationError(
                f"{error} ({factory.name!r} is that of {plugin_faults.source(factory)})"
            ) from error

    def _hides_ours(self, factory: IComponentFactory) -> bool:
        """Whether one of ours of this name is not there: its keys may be what the reader had in mind."""
        return any(
            (each.kind, each.name) == (factory.kind, factory.name) and getattr(each, "yields", False)
            for each in self.factories
            if each is not factory
        )

    def build(self, part: ComponentTable, hub: object) -> Any:
        """The component itself, which is given what `IHub` names of `hub`, and who it is. Raises ConfigurationError,
        also for whatever the plugin raises, and for a component that has not all that its kind must have."""
        factory = self.find(part)
        file = plugin_faults.source(factory)
        try:
            component = factory.build(self._options(part, factory), view(hub, Part(part.kind, part.name, file)))
            fault = plugin_faults.component_fault(part.kind, component)
        except ConfigurationError as error:
            if str(error).startswith(part.place.file):
                raise
            # Components do not know where their table stands.
            raise part.place.error(str(error)) from error
        except BaseException as error:  # SystemExit and KeyboardInterrupt of a plugin are mistakes as all others
            raise part.place.error(f"{part.type} cannot be built: {plugin_faults.told(error, file)}") from error
        if fault:
            raise part.place.error(f"{part.type} ({file}): {fault}")
        return component


def load_catalogue(
    folders: Iterable[Path] = (), again: str | None = None, only: Collection[str] | None = None
) -> Catalogue:
    """Run the plugin files in every `twisted/plugins/` folder on the path, and in `folders`: those that have not run
    and those that have changed. With `again`, a module's name, no other one runs for having changed. With `only`, no
    other ones but those that they import."""
    found = find(folders)
    MODULES.place(found.files)
    if only is not None:
        found = attrs.evolve(found, files={name: path for name, path in found.files.items() if name in only})
    errors = MODULES.load(found.files, None if again is None else {again})
    taken: set[int] = set()
    files = [
        PluginFile(path, name, faults=(f"{path}: {_described(errors[name], path)}",))
        if name in errors
        else _looked_into(path, name, MODULES.runs[name].module, taken)
        for name, path in found.files.items()
    ]
    hidden = [f"{path}: is not run: {first} has the same name" for path, first in found.hidden.items()]
    factories = [factory for file in files for factory in file.factories]
    broken = tuple(dict.fromkeys([*found.faults, *(line for file in files for line in file.faults), *hidden]))
    for line in broken:
        _log.warn("plugin not loaded: {line:text}", line=line)
    return Catalogue(tuple(factories), broken, tuple(files))


def _looked_into(path: Path, name: str, module: ModuleType, taken: set[int]) -> PluginFile:
    try:
        with MODULES.at(path):
            return _searched(path, name, module, taken)
    except BaseException as error:  # something in it raises as soon as it is looked at
        return PluginFile(path, name, (), (f"{path}: {_described(error, path)}",), module)


def _searched(path: Path, name: str, module: ModuleType, taken: set[int]) -> PluginFile:
    """What is found by its name, as `twisted.plugin` finds it. `taken`: factories of the files before, which this one
    may have imported."""
    found: list[Any] = []
    good: list[IComponentFactory] = []
    faults: list[str] = []
    for factory in list(vars(module).values()):
        try:
            if not _is_found(factory) or any(factory is one for one in found):
                continue
            found.append(factory)
            fault = plugin_faults.factory_fault(factory)
            if fault:
                faults.append(f"{path}: {_called(factory)}{fault}")
            elif id(factory) not in taken:
                taken.add(id(factory))
                good.append(factory)
        except BaseException as error:
            faults.append(f"{path}: {_described(error, path)}")
    faults += [f"{path}: {line}" for line in plugin_faults.hidden_factories(module, found)]
    return PluginFile(path, name, tuple(good), tuple(faults), module)


def _is_found(value: Any) -> bool:
    declared: tuple[Any, Any] = (IPlugin, IComponentFactory)
    return not isinstance(value, type) and all(interface.providedBy(value) for interface in declared)


def _called(factory: Any) -> str:
    name = getattr(factory, "name", None)
    return f"{name}: " if isinstance(name, str) and name else ""


def _described(error: BaseException, path: Path) -> str:
    if isinstance(error, OSError) and error.filename == str(path) and error.strerror:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name and (path.parent / f"{error.name}.py").is_file():
        return f"{type(error).__name__}: {error} (it is beside this file: `from . import {error.name}`)"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
