"""How components of any kind are examined: made as a server makes them, asked with a time for each answer."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred, DeferredList, TimeoutError

from mailhub.answers import in_time
from mailhub.config.reader import Place
from mailhub.config.settings import ComponentTable
from mailhub.errors import MailError
from mailhub.interfaces import IComponentFactory
from mailhub.plugins import Catalogue
from mailhub.store.exam.rig import Exam

T = TypeVar("T")

_STEP = 0.1  # seconds that go by while an answer is awaited
_SHOWN = 200  # characters


class Fault(AssertionError):
    """What an exam has found, told apart from what a component raises itself."""


class ComponentExam(Exam):
    """A component, made by a factory and its options, or by a method of the exam for its kind.

    Time is played: `answer_seconds` go by at once. A component that waits for Twisted's own reactor needs a `pump` that
    lets it run; `mailhub exam` has one.
    """

    kind: ClassVar[str] = ""
    factory: ClassVar[IComponentFactory | None] = None  # the plugin; not needed where the method for the kind is given
    options: ClassVar[Mapping[str, Any]] = {}  # the keys of its table, as TOML has them
    data_files: ClassVar[str] = ""  # a folder whose files are put into the server's data folder
    answer_seconds: ClassVar[float] = 30.0  # for each answer, as `timeout_seconds` of its table

    # Makes played surroundings, with a folder for data. Set by `mailhub.testing.exams`: what stands here need not know
    # how a server is made.
    surroundings: ClassVar[Callable[[Path], Any]]

    @cached_property
    def internet(self) -> Any:
        """The played surroundings, a `mailhub.testing.hubs.Internet`: clock, network, DNS."""
        return type(self).surroundings(self.folder)

    @cached_property
    def host(self) -> Any:
        """A running server for xx.example, where ann@xx.example has a mailbox."""
        host = self.internet.hub("xx.example", users=["ann"])
        data = host.hub.environment.data
        data.mkdir(parents=True)
        if self.data_files:
            shutil.copytree(self.data_files, data, dirs_exist_ok=True)
        return host

    @cached_property
    def folder(self) -> Path:
        """A new folder, which goes with the exam."""
        folder = Path(tempfile.mkdtemp(prefix="mailhub-exam-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def build(self) -> Any:
        """The component that `factory` makes of `options`. Raises ConfigurationError."""
        if self.factory is None:
            raise AssertionError(f"an exam needs its factory, or make_{self.kind}()")
        name = self.factory.name
        place = Place("the options", Path.cwd(), f"{self.kind}.{name}")
        table = ComponentTable(self.kind, name, name, dict(self.options), place)
        return Catalogue((self.factory,)).build(table, self.host.hub)

    def pump(self) -> None:
        """See `Exam`."""
        self.internet.run(_STEP)

    async def ask(self, called: str, method: Callable[..., Any], *arguments: object, about: str = "") -> Any:
        """What a method of the component gives, in whichever way: as it is, as a coroutine or as a Deferred. Raises
        MailError; all else that is raised, and no answer in time, is a fault. `about`: what it was asked about."""
        about = f"; {about}" if about else ""
        try:
            return await in_time(self.internet.clock, self.answer_seconds, method, *arguments)
        except (MailError, Fault):
            raise
        except TimeoutError:
            raise AssertionError(
                f"{called} must answer within {self.answer_seconds:g} seconds; it did not{about}"
            ) from None
        except Exception as error:
            raise AssertionError(
                f"{called} may raise a MailError and nothing else; it raised {told(error)}{about}"
            ) from error

    async def at_once(self, coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Begin all before any is awaited; their results. Raises what the first one raises."""
        begun = [Deferred.fromCoroutine(each) for each in coroutines]
        results: list[tuple[bool, Any]] = await DeferredList(begun, consumeErrors=True)
        for good, result in results:
            if not good:
                result.raiseException()
        return [result for _, result in results]


def told(error: BaseException) -> str:
    """Kind and text of what was raised, without a line end."""
    return shown(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, as_is=True)


def shown(value: object, *, as_is: bool = False) -> str:
    """A value for a message."""
    text = " ".join(str(value).split()) if as_is else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
