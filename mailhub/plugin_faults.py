"""What is wrong with a plugin, in words for the one line that the operator sees: looked for at start, not when mail
comes."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.portal import IRealm
from twisted.internet.interfaces import IProtocolFactory
from zope.interface import Interface
from zope.interface.interface import Method

from mailhub.config.reader import one_of
from mailhub.interfaces import (
    IAccounts,
    IComponentFactory,
    IDatabase,
    IDeliveryAgent,
    IMailRules,
    IMailStore,
    INames,
    IPolicy,
    IQueue,
    IRouter,
    IService,
    IStates,
    IUserDirectory,
    Service,
)

# What a component of each kind must provide: one of these.
PROMISES: Mapping[str, tuple[type[Interface], ...]] = {
    "database": (IDatabase,),
    "store": (IMailStore,),
    "checker": (ICredentialsChecker,),
    "directory": (IUserDirectory,),
    "realm": (IRealm,),
    "router": (IRouter,),
    "policy": (IPolicy,),
    "rule": (IMailRules,),
    "agent": (IDeliveryAgent,),
    "service": (IService, IProtocolFactory),
}
# What a database has in it.
_FACETS: Mapping[str, type[Interface]] = {
    "store": IMailStore,
    "queue": IQueue,
    "accounts": IAccounts,
    "names": INames,
    "state": IStates,
}


def factory_fault(factory: Any) -> str:
    """Why it cannot be used as an `IComponentFactory`; "" when it can."""
    faults = list(_violations(IComponentFactory, factory))
    if faults:
        return ", ".join(faults)
    if not isinstance(factory.name, str) or not factory.name:
        return f"name must be a string, not {factory.name!r}"
    if factory.kind not in PROMISES:
        return f"kind must not be {factory.kind!r}; {one_of(str(factory.kind), PROMISES)}"
    if not (isinstance(factory.options, type) and attrs.has(factory.options)):
        return f"options must be an attrs class, not {_shown(factory.options)}"
    service = getattr(factory, "service", None)
    if factory.kind == "service" and service is not None and not isinstance(service, Service):
        return f"service must be a mailhub.interfaces.Service, not {_shown(service)}"
    make = getattr(factory, "make", None)
    if make is not None and not callable(make):
        return f"make must be a function or a class, not {_shown(make)}"
    if make is not None and not _takes(make, 2):
        return f"{_name(make)} must take (options, hub)"
    return ""


def lacks(interface: type[Interface], thing: Any) -> str:
    """What keeps it from providing an interface; "" for nothing. It need not declare that it does."""
    return ", ".join(_violations(interface, thing))


def component_fault(kind: str, component: Any) -> str:
    """Why it cannot be used as a component of its kind; "" when it can."""
    if inspect.isawaitable(component):
        if inspect.iscoroutine(component):
            component.close()
        return "building must not wait: it gave a coroutine or a Deferred"
    if component is None or isinstance(component, type):
        return f"building gave {_shown(component)}, no {kind}"
    has = set(dir(component))
    # The one of which it has most was meant.
    promises = sorted(PROMISES[kind], key=lambda promise: -_share(promise, has))
    faults = [list(_unmet(promise, component)) for promise in promises]
    if not all(faults):
        return _facet_faults(component) if kind == "database" else ""
    return f"{type(component).__name__} is no {kind}: {', '.join(faults[0])}"


def _share(interface: type[Interface], names: set[str]) -> float:
    promised: Any = interface
    return len(names.intersection(promised)) / len(list(promised))


def _facet_faults(database: Any) -> str:
    for name, promise in _FACETS.items():
        if faults := list(_unmet(promise, getattr(database, name))):
            return f"its {name} ({type(getattr(database, name)).__name__}) is none: {', '.join(faults)}"
    return ""


def _unmet(interface: type[Interface], component: Any) -> Iterator[str]:
    yield from _violations(interface, component)
    promised: Any = interface
    for name in promised:
        if not isinstance(promised[name], Method) and getattr(component, name, "") is None:
            yield f"{name} must not be None"


def _violations(interface: type[Interface], thing: Any) -> Iterator[str]:
    """What it lacks. It need not declare that it provides the interface."""
    described: Any = interface
    for name, description in described.namesAndDescriptions(all=True):
        try:
            value = getattr(thing, name)
        except AttributeError:
            yield f"{name}{'()' if isinstance(description, Method) else ''} is missing"
            continue
        except BaseException as error:
            yield f"{name} raises {type(error).__name__}"
            continue
        if isinstance(description, Method):
            if not callable(value):
                yield f"{name} is not a method"
            elif not _accepts(value, description):
                yield f"{name}() must take ({', '.join(description.positional)})"


def _accepts(function: Any, description: Any) -> bool:
    """Whether it can be called as we call it: what may be left out is given by name."""
    named = [name for name in description.positional if name not in description.required]
    return _takes(function, len(description.required), named)


def _takes(function: Any, positional: int, named: Iterable[str] = ()) -> bool:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return True  # made in C, which does not tell
    try:
        signature.bind(*[None] * positional, **dict.fromkeys(named))
    except TypeError:
        return False
    return True


# --- Factories that twisted.plugin does not find -------------------------------------------------------------------


def hidden_factories(module: ModuleType, found: Iterable[object]) -> Iterator[str]:
    """A line for each name of a plugin file behind which there are factories that nobody will find."""
    known = {id(factory) for factory in found}
    used = {type(factory) for factory in found}
    classes: dict[str, type] = {}
    for name, value in vars(module).items():
        if name.startswith("__") or id(value) in known:
            continue
        if isinstance(value, type):
            if value.__module__ == module.__name__ and _implements(value):
                classes[name] = value
        elif isinstance(value, list | tuple | set | frozenset | dict):
            members = [member for member in (value.values() if isinstance(value, dict) else value) if _provides(member)]
            used.update(map(type, members))
            if any(id(member) not in known for member in members):
                yield f"the factories in {name} are not found there: give each a name of its own in the file"
        elif _provides(value):
            used.add(type(value))
            yield f"{name} must provide twisted.plugin.IPlugin as well, or it is not found"
    for name, kind in classes.items():
        if not any(issubclass(one, kind) for one in used):
            yield f"{name} is a class of factories: make one and give it a name in the file"


def _provides(value: object) -> bool:
    declared: Any = IComponentFactory
    try:
        return bool(declared.providedBy(value))
    except BaseException:
        return False


def _implements(value: type) -> bool:
    declared: Any = IComponentFactory
    try:
        return bool(declared.implementedBy(value))
    except BaseException:
        return False


# --- Words ---------------------------------------------------------------------------------------------------------


def source(thing: Any) -> str:
    """The file of a factory or a component: where what it makes is written, else where its class is."""
    thing = getattr(thing, "make", thing)
    name = getattr(thing, "__module__", None) or type(thing).__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    return file or name


def told(error: BaseException, file: str) -> str:
    """What a plugin raised and, ` (FILE line N)`, where in its own file it came to the call that raised."""
    lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__) if entry.filename == file]
    where = f" ({file} line {lines[-1]})" if lines else f" ({file})"
    return " ".join(f"{type(error).__name__}: {error}".split()) + where


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or _shown(thing)


def _shown(thing: Any) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else "None" if thing is None else repr(thing)[:60]
