"""What methods of components may give: plugins are written with coroutines, with Deferreds, or with neither."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


async def answer(given: Any) -> Any:
    """The result of a call that gave a coroutine, a Deferred, or the result itself; raises what either raises."""
    return await given if isawaitable(given) else given


async def in_time(clock: IReactorTime, seconds: float, method: Callable[..., Any], *arguments: object) -> Any:
    """What a plugin's method gives, in whichever way. Raises what it raises, and Twisted's TimeoutError: it is then
    cancelled, and whatever it makes of that, an answer that comes later is nobody's."""

    async def asked() -> Any:
        try:
            return await answer(method(*arguments))
        except (Exception, GeneratorExit):
            raise
        except BaseException as error:
            # sys.exit() would pass by all who keep one connection's mishap from the others.
            raise RuntimeError(f"{error!r} was raised") from error

    given = Deferred.fromCoroutine(asked())
    if given.called:
        return await given  # most need no time
    # Not given itself: a coroutine may go on when it is cancelled.
    waiting: Deferred[Any] = Deferred(lambda _: given.cancel())
    given.addBoth(lambda result: None if waiting.called else waiting.callback(result))
    return await waiting.addTimeout(seconds, clock)
