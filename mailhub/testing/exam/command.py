"""`mailhub exam`, in a process of its own: the plugins of one file or module sit the exams of their kinds.

The process is told in one argument, in JSON, what to do (`Task`). Components that wait for Twisted's reactor have it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NoReturn

import attrs
from twisted.internet.task import Clock

from mailhub import plugin_faults
from mailhub.answers import answer
from mailhub.errors import ConfigurationError, MailError
from mailhub.guard import Guard
from mailhub.interfaces import IComponentFactory, IMailAccount, IMailStore
from mailhub.message.record import READ_ONLY
from mailhub.store.exam.rig import Exam
from mailhub.store.exam.switches import ExaminedStore
from mailhub.store.mirror.simple_source import rights_of
from mailhub.store.simple import SimpleStore
from mailhub.testing.exam.component import ComponentExam, Fault, told
from mailhub.testing.exam.sitting import Answer, sit
from mailhub.watchdog import blame

QUESTION_SECONDS = 15  # for each; then it is taken for one that blocks
_BLOCKED = 2  # questions of an exam that may block; the rest is not asked then
_LATE = "no answer within"
_STEP = 0.02  # seconds of the played clock for each turn of the reactor
_TURN = 0.005


@attrs.frozen
class Task:
    """What is asked for: see `mailhub exam --help`."""

    target: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    names: Sequence[str] = ()
    switches: Mapping[str, Any] = attrs.field(factory=dict)
    only: str = ""
    verbose: bool = False


class Command:
    """One run. `exams` are those of components by kind, that of simple stores by "simple store"; `store` is that of any
    store."""

    def __init__(self, task: Task, exams: Mapping[str, type[ComponentExam]], store: type[ExaminedStore]) -> None:
        self._task = task
        self._exams = exams
        self._store = store
        self._failed = 0
        path = Path(task.target).absolute()
        self._bounded = partial(_bounded, str(path))

    def run(self) -> int:
        """The exit status."""
        with self._bounded():
            module = _loaded(self._task.target)
        self._bounded = partial(_bounded, module.__file__ or "")
        factories = list(self._factories(module))
        self._check_switches()
        _run_reactor()
        for factory in factories:
            try:
                for exam in self._exams_of(factory):
                    self._sit(factory, exam)
            except ConfigurationError as error:
                if len(factories) == 1:
                    raise
                names = ", ".join(each.name for each in factories)
                raise ConfigurationError(f"{error}; the file has {names}: --component NAME asks one alone") from None
        return 1 if self._failed else 0

    def _factories(self, module: ModuleType) -> Iterator[IComponentFactory]:
        """Those that are wanted. Raises ConfigurationError."""
        declared: Any = IComponentFactory
        found = [value for value in vars(module).values() if not isinstance(value, type) and declared.providedBy(value)]
        for factory in found:
            if fault := plugin_faults.factory_fault(factory):
                raise ConfigurationError(f"{self._task.target}: {getattr(factory, 'name', '')}: {fault}")
        wanted = self._task.names
        chosen = [factory for factory in found if not wanted or factory.name in wanted]
        if not chosen:
            names = ", ".join(sorted(factory.name for factory in found))
            raise ConfigurationError(
                f"{self._task.target} has no component called {' or '.join(wanted)}; it has {names}"
                if found
                else f"{self._task.target} has no component: a plugin file gives each a name, as in"
                ' my_store = Component("store", "mine", MyStore)'
            )
        yield from dict.fromkeys(chosen)

    def _check_switches(self) -> None:
        """Raises ConfigurationError."""
        exams = (self._store, *self._exams.values())
        for name in self._task.switches:
            if not any(hasattr(exam, name) for exam in exams):
                known = ", ".join(
                    sorted(name for name, value in vars(ExaminedStore).items() if isinstance(value, bool))
                )
                raise ConfigurationError(f"there is no switch {name}; there are {known}")

    def _exams_of(self, factory: IComponentFactory) -> Iterator[type[Exam]]:
        if factory.kind == "store":
            yield from self._exams_of_store(factory)
        elif factory.kind in self._exams:
            yield self._made(factory, self._exams[factory.kind])
        else:
            raise ConfigurationError(
                f"there is no exam for a {factory.kind} here; those of databases are in mailhub.testing.exams"
            )

    def _made(self, factory: IComponentFactory, *kinds: type[Exam], **more: Any) -> type[Any]:
        switches = {name: value for name, value in self._task.switches.items() if any(hasattr(k, name) for k in kinds)}
        values = {"factory": factory, "options": self._task.options, "pump": _pump, **more, **switches}
        return type(kinds[-1].__name__, kinds, values)

    # --- Stores ------------------------------------------------------------------------------------------------------

    def _exams_of_store(self, factory: IComponentFactory) -> Iterator[type[Exam]]:
        probe = self._made(factory, _StoreExam)()
        with self._bounded():
            store = probe.build()
            usual = {} if isinstance(store, SimpleStore) else self._usual(probe)
        if not isinstance(store, SimpleStore):
            yield self._made(factory, _StoreExam, self._store, **usual)
            return
        simple: Any = self._made(factory, self._exams["simple store"])
        yield simple
        with self._bounded():
            user = self._task.switches.get("user") or probe.wait_for(_first_user(store))
        if not user:
            return  # the exam has said so
        rights = rights_of(store)
        own = {"user": user, "rights": rights, "read_only": rights == READ_ONLY}
        off = {"has_folders": False, "has_quota": False, "makes_accounts": False, "keeps_keywords": False}
        exam = self._made(factory, _StoreExam, self._store, **own, **off)
        with self._bounded():
            why = probe.wait_for(_hindrance(exam()))
        if why:
            print(f"store {factory.name}: StoreExam is not sat: {why}")
        else:
            yield exam
            probe.wait_for(exam().open_store())  # takes away what the last question has left

    def _usual(self, probe: Any) -> Mapping[str, Any]:
        """Switches of a store that is no simple one, as far as it shows."""
        return {"makes_accounts": probe.wait_for(_makes_accounts(probe, self._store.other))}

    # --- What is said ------------------------------------------------------------------------------------------------

    def _sit(self, factory: IComponentFactory, exam: type[Exam]) -> None:
        about = f"{factory.kind} {factory.name}"
        answers = []
        blocked = 0
        for each in sit(exam, self._bounded, only=self._task.only):
            answers.append(each)
            if each.fault or self._task.verbose:
                print(f"{about}: {_line(each)}", flush=True)
            blocked += each.fault.startswith(_LATE)
            if blocked == _BLOCKED:
                print(f"{about}: {exam.__name__}: the rest is not asked, for it blocks", flush=True)
                break
        failed = sum(bool(each.fault) for each in answers)
        skipped = sum(bool(each.skipped) for each in answers)
        self._failed += failed
        print(
            f"{about}: {exam.__name__}: {len(answers) - failed - skipped} questions answered as the contract says,"
            f" {failed} not, {skipped} not asked",
            flush=True,
        )


def _line(answer: Answer) -> str:
    contract = f" [{answer.contract}]" if answer.contract else ""
    if answer.fault:
        return f"FAILED {answer.question}: {_plain(answer.fault)}{contract}"
    if answer.skipped:
        return f"not asked {answer.question}: {_plain(answer.skipped)}"
    return f"good {answer.question}"


def _plain(text: str) -> str:
    """No control characters for the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


class _StoreExam(ComponentExam):
    """Has a store that a factory makes sit the exam of every store."""

    kind = "store"

    async def open_store(self) -> IMailStore:
        """A new one, started. Of a simple store that has mail of the questions before it is removed."""
        store: IMailStore = self.build()
        await answer(store.start())
        asked: Any = self
        if isinstance(store, SimpleStore) and "e" in rights_of(store) and not asked.read_only:
            await _empty(await store.account(asked.user))
        return store

    async def add_account(self, store: IMailStore, user: str, quota: int = 0) -> IMailAccount:
        """See `ExaminedStore`."""
        asked: Any = self
        return await store.account(user, create=asked.makes_accounts)


async def _first_user(store: SimpleStore) -> str:
    with suppress(Exception):
        return next(user for user in await answer(store.users()) if isinstance(user, str))
    return ""


async def _hindrance(exam: Any) -> str:
    """Why a simple store with this mail cannot sit the exam of stores; "" for nothing."""
    store = exam.build()
    await answer(store.start())
    try:
        account = await store.account(exam.user)
        filled = [info.name for info in await account.mailboxes() if await _count(account, info.name)]
    except MailError as error:
        return f"{error.text} {error.detail}".strip()
    finally:
        await answer(store.stop())
    if exam.read_only and not filled:
        return f"{exam.user} has no messages: name somebody who has some by --user"
    if not exam.read_only and filled:
        return f"{exam.user} has mail in {filled[0]}, which its questions would touch: name somebody without by --user"
    if not exam.read_only and not {"i", "e"} <= exam.rights:
        return "it wants add() and remove(), or neither add(), change() nor remove()"
    return ""


async def _empty(account: IMailAccount) -> None:
    for info in await account.mailboxes():
        mailbox = await account.mailbox(info.name)
        await mailbox.refresh()
        await mailbox.expunge([entry.uid for entry in await mailbox.entries()], deleted_only=False)


async def _count(account: IMailAccount, name: str) -> int:
    await (await account.mailbox(name)).refresh()
    return (await (await account.mailbox(name)).status()).messages


async def _makes_accounts(probe: Any, user: str) -> bool:
    store = probe.build()
    await answer(store.start())
    try:
        await store.account(user, create=True)
    except MailError:
        return False
    finally:
        await answer(store.stop())
    return True


def _loaded(target: str) -> ModuleType:
    """The module of a file or a dotted name. Raises ConfigurationError."""
    sys.dont_write_bytecode = True
    path = Path(target).absolute()
    try:
        if not target.endswith(".py") and not path.is_file():
            return importlib.import_module(target)
        spec = importlib.util.spec_from_file_location(f"mailhub_exam_{path.stem}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ConfigurationError(f"there is no plugin file {target}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        spec.loader.exec_module(module)
        return module
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and target.startswith(error.name):
            raise ConfigurationError(
                f"there is no module {target}: name a file, or a module on Python's path"
            ) from None
        file = str(path) if path.is_file() else target
        why = plugin_faults.told(error, file) if isinstance(error, Exception) else f"{error!r} ({file})"
        raise ConfigurationError(f"{target} cannot be run: {why}") from error


class _Late(Fault):
    """No answer in real time, which is not played."""


@contextmanager
def _bounded(file: str, seconds: float = QUESTION_SECONDS) -> Iterator[None]:
    """Nothing that blocks goes on for ever: then it is told where in the plugin's file."""
    guard = Guard("", "", file, Clock())

    def late(number: int, frame: FrameType | None) -> None:
        # Plain functions of a store are called in a thread.
        for each in (frame, *sys._current_frames().values()):
            if found := blame(each, [guard]):
                raise _Late(f"{_LATE} {seconds:g} seconds: {found.file} line {found.line} blocks")
        raise _Late(f"{_LATE} {seconds:g} seconds: something blocks")

    before = signal.signal(signal.SIGALRM, late)
    # Again and again, for who catches it and goes on.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _run_reactor() -> None:
    from twisted.internet import reactor

    started: Any = reactor
    started.startRunning(installSignalHandlers=False)


def _pump(exam: ComponentExam) -> None:
    """A moment for what waits for the reactor, and for what waits for the played clock."""
    from twisted.internet import reactor

    running: Any = reactor
    running.iterate(_TURN)
    exam.internet.run(_STEP)


def main(argument: str, exams: Mapping[str, type[ComponentExam]], store: type[ExaminedStore]) -> NoReturn:
    """Ends the process, with status 0 when all is good, 1 when something is not, or cannot be examined."""
    try:
        status = Command(Task(**json.loads(argument)), exams, store).run()
    except (ConfigurationError, MailError) as error:
        print(f"mailhub: {' '.join(str(error).split())}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:
        # Of a plugin that does what nobody thought of; the questions have their own way to say so.
        print(f"mailhub: {told(error)}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    # At once: threads of the reactor and of the plugin may never end.
    os._exit(status)
