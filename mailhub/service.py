"""The service that twistd runs: starts the parts of a hub in order, and stops them in order.

Whatever keeps it from starting is told in one line on standard error, and the process ends with status 1.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, cast

import attrs
from twisted.application.service import IProcess, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from mailhub import __version__
from mailhub.components import Hub, build_hub
from mailhub.config.settings import Config, load
from mailhub.control import ControlSocket
from mailhub.data_folder import DataFolder
from mailhub.delivery.scheduled import cancel
from mailhub.errors import ConfigurationError
from mailhub.interfaces import Environment
from mailhub.keys import STOP_SECONDS
from mailhub.log import Logger, escape_others
from mailhub.logfile import LogWriter, User, find_user, log_file, log_observer, rotate_by_signal, terminal_observer
from mailhub.net.crowd import make_room
from mailhub.net.dns import machine_resolver
from mailhub.net.driver import DriverFactory
from mailhub.net.listen import both_families, listen
from mailhub.net.network import ReactorNetwork
from mailhub.net.processes import PROCESSES, ReactorProcesses
from mailhub.plugin_list import listing
from mailhub.plugin_modules import LOAD_SECONDS
from mailhub.plugin_trial import try_out, watched
from mailhub.plugins import load_catalogue
from mailhub.questions import QUESTIONS
from mailhub.reload import Reading, Reloader, write_answer
from mailhub.signals import Signals
from mailhub.systemd import Supervisor
from mailhub.threads import THREADS, ReactorThreads
from mailhub.watchdog import Watchdog

_log = Logger(namespace="mailhub")


def wait_steadily(reactor: Any) -> None:
    """Have the reactor measure waits by the clock that nobody sets.

    By the wall clock, as it does by itself, no timer would ring for as long as the clock is set back, and all of them
    at once when it is set forward.
    """
    if abs(reactor.seconds() - time.time()) > 1:
        return  # it does not use the wall clock, or not any more
    waits = [(call, max(0.0, call.getTime() - reactor.seconds())) for call in reactor.getDelayedCalls()]
    reactor.seconds = time.monotonic
    for call, seconds in waits:
        call.seconds = time.monotonic
        call.reset(seconds)


def environment(config: Config, reactor: Any) -> Environment:
    """The real world."""
    wait_steadily(reactor)
    random = SystemRandom()
    network = ReactorNetwork(reactor)
    resolver = machine_resolver(reactor, network, random, config.dns.servers, config.dns.validating)
    return Environment(
        clock=reactor,
        threads=ReactorThreads(reactor, config.value(THREADS)),
        network=network,
        resolver=resolver,
        random=random,
        data=config.data,
        wall=time.time,
        processes=ReactorProcesses(reactor, reactor, config.value(PROCESSES)),
    )


class MailService(Service):
    """One hub with its ports.

    Ports are opened before twistd gives up root's rights, but nobody is served before everything has started.
    """

    name = "mailhub"

    def __init__(
        self,
        config: Config,
        hub: Hub,
        reactor: Any,
        supervisor: Supervisor | None = None,
        read_at: float = 0.0,
        user: User | None = None,
    ) -> None:
        """`read_at`: when the configuration was read, in seconds since the epoch. `user`: who to be when the ports are
        open, where twistd is not told so itself."""
        self._user = user
        self._config = config
        self._hub = hub
        self._reactor = reactor
        self._supervisor = supervisor or Supervisor(reactor)
        self._read_at = read_at
        self._folder = DataFolder(config.data)
        self._ports: list[Any] = []
        self._wanted = -1
        self._starting: Deferred[None] | None = None
        begin, tell = self._supervisor.reloading, self._reloaded
        self._reloader = Reloader(hub, load_catalogue, begin, tell, trial=self._try_out)
        self._signals = Signals(reactor, self.reload, self._end)
        self._control = ControlSocket(config.data, reactor, self._asked)
        self._takes_signals = False
        self.log_to_terminal = False
        self._log_writer: LogWriter | None = None  # of ours
        self._watchdog = Watchdog(reactor, lambda: hub.guards.guards)

    def setServiceParent(self, parent: Any) -> None:
        """Tell twistd's application what comes from the configuration: where to log, and who to be. Raises
        ConfigurationError."""
        if isinstance(parent, Componentized):
            if self._user is not None:
                process = IProcess(parent)
                process.uid, process.gid = self._user.uid, self._user.gid
            if self._config.log.file is not None:
                file = log_file(self._config.log, self._user)
                self._log_writer = log_observer(file)
                rotate_by_signal(file, self._reactor)
            elif self.log_to_terminal:
                self._log_writer = terminal_observer()
            if self._log_writer is not None:
                parent.setComponent(ILogObserver, self._log_writer)  # type: ignore[no-untyped-call]
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def take_signals(self) -> None:
        """SIGHUP reads the configuration again from now on, and nothing but what stops a server ends it. When it has
        started, commands may ask it."""
        self._signals.hang_up()
        self._takes_signals = True

    # --- Start -----------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Lock the data folder and open the ports. Raises ConfigurationError."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        if self._takes_signals:
            self._signals.others()
        self._make_room()
        try:
            self._folder.prepare()
            self._folder.lock()
            self._folder.note_reading(self._read_at or time.time())
            for service, factory in self._hub.factories.items():
                for endpoint in both_families(self._config.listen[service]):
                    self._ports.append(self._open(service, endpoint, factory))
        except ConfigurationError as error:
            for port in self._ports:
                port.stopListening()
            self._folder.unlock()
            raise ConfigurationError(f"{self._config.file}: {error}") from None

    def _make_room(self) -> None:
        """For as many connections as all services may have."""
        wanted = sum(factory.limits.connections for factory in self._hub.factories.values())
        if wanted != self._wanted:
            self._wanted = wanted
            make_room(self._hub.room, wanted)

    def _open(self, service: str, endpoint: str, factory: DriverFactory) -> IListeningPort:
        tls = factory.tls if factory.implicit_tls else None
        results: list[Any] = []
        opening = Deferred.fromCoroutine(listen(service, endpoint, factory, self._reactor, tls, factory))
        opening.addBoth(results.append)
        if not results:
            raise ConfigurationError(
                f'[listen] {service} = "{endpoint}" does not listen at once; no such endpoint works'
            )
        port = results[0]
        if isinstance(port, Failure):
            if "Permission denied" in str(port.value) and endpoint.startswith("tcp"):
                raise ConfigurationError(f"{port.value} (ports below 1024 need root or CAP_NET_BIND_SERVICE)")
            port.raiseException()
        # Clients wait in the kernel until everything has started.
        port.stopReading()
        return cast(IListeningPort, port)

    def startService(self) -> None:
        """Start everything as soon as the reactor runs. A failure ends the process."""
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if self._takes_signals:
            self._signals.ending_once()
        if self.running:
            if self._log_writer is not None:
                self._log_writer.gather(self._reactor)
            self._supervisor.starting()
            self._starting = Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        try:
            await self._hub.start()
        except ConfigurationError as error:
            self._fail(str(error))
        except CancelledError:
            _log.warn("mailhub is stopped before it has started")
        except Exception as error:
            _log.failure("mailhub cannot start")
            self._fail(f"cannot start: {type(error).__name__}: {error}")
        else:
            if self._takes_signals:
                # What is there now stays. The cycle collector need not go through it again and again: that would keep
                # everybody waiting for a twentieth of a second, whenever mail has made many objects.
                gc.collect()
                gc.freeze()
            self._watchdog.start()
            for port in self._ports:
                port.startReading()
            listen = self._config.listen
            ports = {service: ",".join(listen[service]) for service in self._hub.factories}
            _log.event("mailhub is ready", {"version": __version__, "hostname": self._hub.hostname, **ports})
            if self.running:
                self._supervisor.ready("serving")
                self._reloader.ready()
                if self._takes_signals:
                    self._control.open()

    def _fail(self, line: str) -> None:
        complain(line)
        # twistd ends with status 0 when the reactor was stopped, whatever the reason.
        atexit.register(_exit_with_failure)
        self._end()

    def _end(self) -> None:
        # A signal may have stopped it meanwhile.
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    # --- Reload ----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the configuration again, as soon as that can be."""
        self._reloader.ask()

    async def _try_out(self, folders: tuple[Path, ...], again: str | None, seconds: float) -> None:
        await try_out(self._hub.environment.processes, folders, again, seconds)

    def _reloaded(self, outcome: Reading) -> None:
        if not outcome.fault:
            self._folder.note_reading(outcome.read_at)
            self._make_room()
        try:
            write_answer(self._folder.path, outcome)
        except OSError as error:
            _log.warn("whoever asked for it cannot be answered: {reason:text}", reason=error.strerror)
        if self.running:
            self._supervisor.ready("serving" if not outcome.fault else f"serving; not reloaded: {outcome.fault}")

    async def _asked(self, question: Mapping[str, Any]) -> Mapping[str, Any]:
        """What commands ask. Raises ConfigurationError."""
        for key, handler in QUESTIONS.items():
            if key in question:
                return await handler(self._hub, question)
        name = question.get("name")
        if question.get("plugins") == "list":
            hub = self._hub
            rows = listing(hub.catalogue, hub.settings, hub.guards.all(), self._reloader.refused)
            return {"process": os.getpid(), "rows": [attrs.asdict(row) for row in rows]}
        if question.get("plugins") == "reload" and isinstance(name, str):
            return {"process": os.getpid(), "reading": attrs.asdict(await self._reloader.ask_plugin(name))}
        ids = question.get("ids")
        if question.get("scheduled") == "cancel" and isinstance(ids, list):
            return {"told": await cancel(self._hub.queue, self._hub.store, [str(each) for each in ids])}
        raise ConfigurationError("the server does not know this question: it is another version than the command")

    # --- Stop ------------------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """No new connections, farewell to the sessions, deliveries under way finished; each within its time."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._signals.ending()
        self._supervisor.stopping()
        self._reloader.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._starting is not None:
            # Perhaps it waits for a plugin that will never answer.
            cut = self._reactor.callLater(self._config.value(STOP_SECONDS), self._starting.cancel)
            await self._starting
            if cut.active():
                cut.cancel()
        self._watchdog.stop()
        await DeferredList([maybeDeferred(port.stopListening) for port in self._ports], consumeErrors=True)
        await self._control.close()
        try:
            await self._hub.stop()
        except Exception:
            _log.failure("mailhub did not stop in good order")
        self._supervisor.stopped()
        self._folder.unlock()
        _log.info("mailhub has stopped")
        if self._log_writer is not None:
            self._log_writer.at_once()


def complain(line: str) -> None:
    """One line for the operator: on the real standard error, or in the log of a daemon, which has none."""
    line = f"mailhub: {' '.join(line.split())}"
    stream = sys.__stderr__
    if stream is not None and not _is_null(stream.fileno()):
        stream.write(line + "\n")
        stream.flush()
    else:
        _log.critical("{line:text}", line=line)


def _is_null(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_rdev == os.stat(os.devnull).st_rdev
    except OSError:
        return True


def _exit_with_failure() -> None:
    # Runs when twistd has removed its pid file and closed its log; nothing later can set the status.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)


def _show_in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, ConfigurationError):
        complain(str(error))
    else:
        sys.__excepthook__(kind, error, trace)


def make_service(file: Path, user: str = "", group: str = "", *, terminal: bool = False) -> MailService:
    """The service that a configuration file describes. Ends the process with one line when it cannot be.

    `user` and `group`: names or numbers of who it is to be when its ports are open, "" to stay who it is. `terminal`:
    the log goes to standard output where the configuration does not say otherwise.
    """
    from twisted.internet import reactor

    # Before twistd's own observer is there, which makes lines of events.
    globalLogPublisher.addObserver(escape_others)
    read_at = time.time()
    try:
        owner = find_user(user, group)
        config = load(file)
        with watched(config.value(LOAD_SECONDS), complain):
            catalogue = load_catalogue(config.plugins)
        hub = build_hub(config, environment(config, reactor), catalogue)
    except ConfigurationError as error:
        complain(str(error))
        raise SystemExit(1) from None
    # What keeps the ports from being opened passes through twistd, which removes its pid file on the way.
    sys.excepthook = _show_in_one_line
    service = MailService(config, hub, reactor, Supervisor.of(os.environ, cast(IReactorTime, reactor)), read_at, owner)
    service.log_to_terminal = terminal
    service.take_signals()
    return service
