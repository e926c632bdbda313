"""Reading the configuration again while the server runs (SIGHUP, `mailhub reload`): all of it is taken over, or none.

Nothing is touched before every part has been built by the new configuration. Sessions and deliveries under way go on
with the parts they began with.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred

from mailhub.components import Hub, successor
from mailhub.config.difference import Difference, compare
from mailhub.config.settings import Config, load
from mailhub.errors import ConfigurationError
from mailhub.log import Logger
from mailhub.plugin_modules import LOAD_SECONDS, MODULES
from mailhub.plugins import Catalogue, PluginFile
from mailhub.store_swap import stop_quietly

_log = Logger(namespace="mailhub")
_WAITING = 100  # who asks for a plugin


@attrs.frozen
class Reading:
    """What became of one reading.

    `fault` says in one line why nothing has changed; "" when all was taken over. `changed` names what takes effect,
    `lasting` what waits for a restart, `warnings` are whole sentences. `began` tells readings of this machine apart
    (nanoseconds of its monotonic clock), `read_at` is when the file was opened (seconds since the epoch).
    """

    began: int
    read_at: float
    fault: str = ""
    changed: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


# Tries files before `catalogue` has them run, of the same arguments, within so many seconds. Raises ConfigurationError.
Trial = Callable[[tuple[Path, ...], str | None, float], Awaitable[None]]


async def no_trial(folders: tuple[Path, ...], again: str | None, seconds: float) -> None:
    """Where there is no other process for that."""


class Reloader:
    """Reads the file again when it is asked to: one reading at a time, none before the server is ready.

    `catalogue` looks for plugins in these folders beside those on the path, and has all files run that have changed;
    or this one alone, by the name of its module. `begin` is called before each reading, and `tell` is given its outcome
    when that has been logged. `read` is what reads the file, `trial` what tries plugin files elsewhere before.
    """

    def __init__(
        self,
        hub: Hub,
        catalogue: Callable[[tuple[Path, ...], str | None], Catalogue],
        begin: Callable[[], object],
        tell: Callable[[Reading], object],
        read: Callable[[Path], Config] = load,
        trial: Trial = no_trial,
    ) -> None:
        self._hub = hub
        self._catalogue = catalogue
        self._begin = begin
        self._tell = tell
        self._load = read
        self._trial = trial
        self._trying: Deferred[None] | None = None
        self._ready = False
        self._stopped = False
        self._asked = False
        self._named: list[tuple[str, Deferred[Reading]]] = []  # plugins, and who waits
        self.refused: dict[str, str] = {}  # why a module was not loaded again the last time, by its name
        self._reading = False

    def ask(self) -> None:
        """Read again as soon as can be. What is asked during a reading is answered by another one after it."""
        if self._stopped:
            self._end(self._begun("the server is stopping"))
        else:
            self._asked = True
            self._go_on()

    def ask_plugin(self, name: str) -> Deferred[Reading]:
        """Have one plugin file, or that of a component, run anew where it has changed, and everything built anew that
        it makes; the configuration is not read."""
        answer: Deferred[Reading] = Deferred()
        if self._stopped or len(self._named) >= _WAITING:
            why = "the server is stopping" if self._stopped else f"{_WAITING} wait for that already"
            answer.callback(self._begun(why))
        else:
            self._named.append((name, answer))
            self._go_on()
        return answer

    def ready(self) -> None:
        """The server has started."""
        self._ready = True
        self._go_on()

    def stop(self) -> None:
        """The server stops: whoever has asked is told so."""
        waiting, self._asked, self._stopped = self._asked, False, True
        if self._trying is not None:
            self._trying.cancel()
        if waiting:
            self._end(self._begun("the server is stopping"))
        named, self._named = self._named, []
        for _, answer in named:
            answer.callback(self._begun("the server is stopping"))

    def _go_on(self) -> None:
        if not self._ready or self._reading or self._stopped:
            return
        if self._asked:
            self._asked, self._reading = False, True
            Deferred.fromCoroutine(self._read()).addBoth(self._done)
        elif self._named:
            self._reading = True
            name, answer = self._named.pop(0)
            Deferred.fromCoroutine(self._load_plugin(name, answer)).addBoth(self._done)

    def _done(self, _: object) -> None:
        self._reading = False
        self._go_on()

    @staticmethod
    def _begun(fault: str = "") -> Reading:
        return Reading(time.monotonic_ns(), time.time(), fault)

    async def _read(self) -> None:
        file = self._hub.settings.file
        self._begin()
        begun = self._begun()
        try:
            # A large file takes a while to read and check.
            config: Config = await self._hub.environment.threads.run(self._load, file)
            if self._stopped:
                raise ConfigurationError("the server is stopping")
            outcome = await self._take(config, begun)
        except ConfigurationError as error:
            outcome = attrs.evolve(begun, fault=" ".join(str(error).split()))
        except BaseException as error:  # whoever asked waits, whatever a plugin has raised
            _log.failure("the configuration cannot be read again")
            outcome = attrs.evolve(begun, fault=f"{file}: {type(error).__name__}: {error}")
        self._end(outcome)

    async def _try_out(self, config: Config, module: str | None) -> None:
        """Raises ConfigurationError for a file that would not let this process go on."""
        trying = self._trial(config.plugins, module, config.value(LOAD_SECONDS))
        self._trying = Deferred.fromCoroutine(_waited(trying))
        try:
            await self._trying
        except CancelledError:
            raise ConfigurationError("the server is stopping") from None
        finally:
            self._trying = None
        if self._stopped:
            raise ConfigurationError("the server is stopping")

    async def _take(self, config: Config, begun: Reading) -> Reading:
        """Build all, then swap. Raises ConfigurationError."""
        hub = self._hub
        found = compare(hub.settings, config, [name for name, service in hub.services.items() if service.needs_tls])
        await self._try_out(config, None)
        with MODULES.kept():
            catalogue = self._catalogue(config.plugins, None)
            files = catalogue.changed(hub.catalogue)
            _look_over_lasting(config, catalogue)
            new = successor(hub, found.config, catalogue)
            changed = (*found.changed, *_changed_files(hub, new, found), *(_shown(file, catalogue) for file in files))
            warnings = [f"plugin not loaded: {line}" for line in catalogue.broken]
            warnings += _outside()
            if new.tls is not None and new.tls.kept:
                warnings.append("the certificate stays as it was: the server's user cannot read certificate and key")
            lasting = (*found.lasting, *_standing(new))
            await self._start(new)
        self.refused.clear()
        hub.adopt(new)
        return attrs.evolve(begun, changed=changed, lasting=lasting, warnings=tuple(warnings))

    async def _start(self, new: Hub) -> None:
        await self._hub.start_successor(new)
        if self._stopped:
            if new.store is not self._hub.store:
                await stop_quietly(new.store)
            raise ConfigurationError("the server is stopping")

    async def _load_plugin(self, name: str, answer: Deferred[Reading]) -> None:
        begun = self._begun()
        try:
            outcome = await self._plugin_outcome(name, begun)
        except BaseException as error:  # whoever asked waits, whatever a plugin has raised
            _log.failure("plugin {name:text} cannot be loaded again", name=name)
            outcome = attrs.evolve(begun, fault=f"{name}: {type(error).__name__}: {error}")
        answer.callback(outcome)

    async def _plugin_outcome(self, name: str, begun: Reading) -> Reading:
        hub, module = self._hub, ""
        try:
            module = hub.catalogue.file_called(name, hub.settings)
            await self._try_out(hub.settings, module)
            with MODULES.kept():
                catalogue = self._catalogue(hub.settings.plugins, module)
                files = catalogue.changed(hub.catalogue)
                if still := [line for file in catalogue.files if file.name == module for line in file.faults]:
                    raise ConfigurationError("; ".join(still))
                _look_over_lasting(hub.settings, catalogue)
                new = successor(hub, hub.settings, catalogue) if files else hub
                changed, lasting = tuple(_shown(file, catalogue) for file in files), _standing(new)
                await self._start(new)
        except ConfigurationError as error:
            fault = " ".join(str(error).split())
            _log.error("plugin not loaded again, nothing has changed: {fault:text}", fault=fault)
            if module:
                self.refused[module] = fault
            return attrs.evolve(begun, fault=fault)
        self.refused.pop(module, None)
        if files:
            hub.adopt(new)
        _log.info("plugin loaded again: changed: {changed:text}", changed=", ".join(changed) or "nothing")
        if lasting:
            _log.warn("needs a restart to take effect: {lasting:text}", lasting=", ".join(lasting))
        return attrs.evolve(begun, changed=changed, lasting=lasting, warnings=_outside())

    def _end(self, outcome: Reading) -> None:
        if outcome.fault:
            _log.error("configuration not read again, nothing has changed: {fault:text}", fault=outcome.fault)
        else:
            changed = ", ".join(outcome.changed) or "nothing"
            _log.info("configuration read again: changed: {changed:text}", changed=changed)
            if outcome.lasting:
                _log.warn("needs a restart to take effect: {lasting:text}", lasting=", ".join(outcome.lasting))
        self._tell(outcome)


async def _waited(work: Awaitable[None]) -> None:
    await work


def _shown(file: PluginFile, catalogue: Catalogue) -> str:
    if file not in catalogue.files:
        return f"plugin file {file.path} (gone)"
    makes = ", ".join(f"{factory.kind} {factory.name}" for factory in file.factories)
    return f"plugin file {file.path}" + (f" ({makes})" if makes else "")


def _look_over_lasting(config: Config, catalogue: Catalogue) -> None:
    """A mistake in what lasts would keep the next start from succeeding. Raises ConfigurationError."""
    for part in (config.database, config.store, *config.stores.values()):
        catalogue.look_over(part)


def _standing(new: Hub) -> tuple[str, ...]:
    """What is of code that was changed, and is not made anew while the server runs."""
    changed = [table for table, factory in new.standing.items() if factory not in new.catalogue.factories]
    return tuple(f"[{table}] (its plugin has changed)" for table in changed)


def _outside() -> tuple[str, ...]:
    changed = MODULES.changed_outside()
    return tuple(f"{path}: has changed, and was imported by a plugin: a restart runs it" for path in changed)


def _changed_files(hub: Hub, new: Hub, found: Difference) -> list[str]:
    """What files hold that the configuration only names."""
    names = []
    if hub.tls is not None and new.tls is not None and hub.tls.fingerprint != new.tls.fingerprint:
        names.append("the certificate")
    read = [(f'[route."{name}"]', hub.hops.get(name), new.hops.get(name)) for name in sorted({*hub.hops, *new.hops})]
    before, after = hub.transport_hops, new.transport_hops
    read += [(f"[transport.{name}]", before.get(name), after.get(name)) for name in sorted({*before, *after})]
    names += [f"{table} password_file" for table, old, now in read if old != now and table not in found.changed]
    return names


# --- The answer, for the command that asks ------------------------------------------------------------------------

ANSWER = "mailhub.reload"
_ANSWER_LIMIT = 1 << 20  # octets


def write_answer(folder: Path, outcome: Reading) -> None:
    """Leave the outcome in the data folder, whole or not at all. Raises OSError."""
    new = folder / f"{ANSWER}.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(attrs.asdict(outcome), file)
    new.replace(folder / ANSWER)


def read_answer(folder: Path) -> Reading | None:
    """The last outcome; None when there is none. Raises OSError."""
    try:
        descriptor = os.open(folder / ANSWER, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, errors="replace") as file, suppress(ValueError, TypeError, KeyError):
        values = json.loads(file.read(_ANSWER_LIMIT))
        return reading_of(values)
    return None


def reading_of(values: Mapping[str, Any]) -> Reading:
    """What was written as JSON. Raises ValueError, TypeError, KeyError."""
    return Reading(
        began=int(values["began"]),
        read_at=float(values["read_at"]),
        fault=str(values["fault"]),
        **{name: tuple(map(str, values[name])) for name in ("changed", "lasting", "warnings")},
    )
