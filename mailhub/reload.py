"""Reading the configuration again while the server runs (SIGHUP, `mailhub reload`): all of it is taken over, or none.

Nothing is touched before every part has been built by the new configuration. Sessions and deliveries under way go on
with the parts they began with.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred

from mailhub.components import Hub, successor
from mailhub.config.difference import Difference, compare
from mailhub.config.settings import Config, load
from mailhub.errors import ConfigurationError
from mailhub.log import Logger
from mailhub.plugins import Catalogue

_log = Logger(namespace="mailhub")


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


class Reloader:
    """Reads `file` again when it is asked to: one reading at a time, none before the server is ready.

    `begin` is called before each reading, and `tell` is given its outcome when that has been logged. `read` is what
    reads the file.
    """

    def __init__(
        self,
        hub: Hub,
        catalogue: Callable[[], Catalogue],
        begin: Callable[[], object],
        tell: Callable[[Reading], object],
        read: Callable[[Path], Config] = load,
    ) -> None:
        self._hub = hub
        self._catalogue = catalogue
        self._begin = begin
        self._tell = tell
        self._load = read
        self._ready = False
        self._stopped = False
        self._asked = False
        self._reading = False

    def ask(self) -> None:
        """Read again as soon as can be. What is asked during a reading is answered by another one after it."""
        if self._stopped:
            self._end(self._begun("the server is stopping"))
        else:
            self._asked = True
            self._go_on()

    def ready(self) -> None:
        """The server has started."""
        self._ready = True
        self._go_on()

    def stop(self) -> None:
        """The server stops: whoever has asked is told so."""
        waiting, self._asked, self._stopped = self._asked, False, True
        if waiting:
            self._end(self._begun("the server is stopping"))

    def _go_on(self) -> None:
        if self._asked and self._ready and not self._reading and not self._stopped:
            self._asked, self._reading = False, True
            Deferred.fromCoroutine(self._read()).addBoth(self._done)

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
            outcome = self._take(config, begun)
        except ConfigurationError as error:
            outcome = attrs.evolve(begun, fault=" ".join(str(error).split()))
        except Exception as error:
            _log.failure("the configuration cannot be read again")
            outcome = attrs.evolve(begun, fault=f"{file}: {type(error).__name__}: {error}")
        self._end(outcome)

    def _take(self, config: Config, begun: Reading) -> Reading:
        """Build all, then swap. Raises ConfigurationError."""
        hub = self._hub
        found = compare(hub.settings, config, [name for name, service in hub.services.items() if service.needs_tls])
        catalogue = self._catalogue()
        # They last, but a mistake in them would keep the next start from succeeding.
        catalogue.look_over(config.database)
        catalogue.look_over(config.store)
        new = successor(hub, found.config, catalogue)
        changed = (*found.changed, *_changed_files(hub, new, found))
        warnings = [f"plugin not loaded: {line}" for line in catalogue.broken]
        if new.tls is not None and new.tls.kept:
            warnings.append("the certificate stays as it was: the server's user cannot read certificate and key")
        hub.adopt(new)
        return attrs.evolve(begun, changed=changed, lasting=found.lasting, warnings=tuple(warnings))

    def _end(self, outcome: Reading) -> None:
        if outcome.fault:
            _log.error("configuration not read again, nothing has changed: {fault:text}", fault=outcome.fault)
        else:
            changed = ", ".join(outcome.changed) or "nothing"
            _log.info("configuration read again: changed: {changed:text}", changed=changed)
            if outcome.lasting:
                _log.warn("needs a restart to take effect: {lasting:text}", lasting=", ".join(outcome.lasting))
        self._tell(outcome)


def _changed_files(hub: Hub, new: Hub, found: Difference) -> list[str]:
    """What files hold that the configuration only names."""
    names = []
    if hub.tls is not None and new.tls is not None and hub.tls.fingerprint != new.tls.fingerprint:
        names.append("the certificate")
    for domain in sorted({*hub.hops, *new.hops}):
        table = f'[route."{domain}"]'
        if hub.hops.get(domain) != new.hops.get(domain) and table not in found.changed:
            names.append(f"{table} password_file")
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
        return Reading(
            began=int(values["began"]),
            read_at=float(values["read_at"]),
            fault=str(values["fault"]),
            **{name: tuple(map(str, values[name])) for name in ("changed", "lasting", "warnings")},
        )
    return None
