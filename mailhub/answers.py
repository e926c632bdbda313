"""What methods of components may give: plugins are written with coroutines, with Deferreds, or with neither; and their
answers are shown with care, for they are objects of somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from reprlib import Repr
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

TEXT_LIMIT = 1000  # characters of a text that a plugin has chosen, in the log and in what is stored
_SHOWN = 80  # characters of an object in it
_REPR = Repr()
_REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = _REPR.maxdict = _REPR.maxdeque = 10
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _SHOWN


class Nonsense(ValueError):
    """An answer of which nothing can be used; the text says what is wrong with it."""


def shown(thing: object) -> str:
    """An answer as it can stand in a line of the log, whatever its class makes of that; of a long one no more than the
    beginning is looked at."""
    try:
        # Of octets all would be written out first.
        text = str.__str__(repr(thing[: _SHOWN + 1]) if type(thing) is bytes else _REPR.repr(thing))
    except BaseException as error:
        text = f"<{type(error).__name__} in repr()>"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def cut(text: str) -> str:
    """A text with an end that can be foreseen."""
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 3]}..."


async def answer(given: Any) -> Any:
    """The result of a call that gave a coroutine, a Deferred, or the result itself; raises what either raises."""
    return await given if isawaitable(given) else given


async def in_time(clock: IReactorTime, seconds: float, method: Callable[..., Any], *arguments: object) -> Any:
    """What a plugin's method gives, in whichever way. Raises what it raises, and Twisted's TimeoutError: it is then
    cancelled, and whatever it makes of that, an answer that comes later is nobody's."""

    async def asked() -> Any:
        return await answer(method(*arguments))

    given = Deferred.fromCoroutine(asked())
    # Not given itself: a coroutine may go on when it is cancelled.
    waiting: Deferred[Any] = Deferred(lambda _: given.cancel())
    given.addBoth(lambda result: None if waiting.called else waiting.callback(result))
    if not waiting.called:
        waiting.addTimeout(seconds, clock)
    try:
        return await waiting
    except Exception:
        raise
    except BaseException as error:
        if not waiting.called:
            raise  # it is we who are closed
        # sys.exit() would pass by all who keep one connection's mishap from the others.
        raise RuntimeError(f"{error!r} was raised") from error
