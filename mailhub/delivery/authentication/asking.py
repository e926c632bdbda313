"""What is asked of DNS for one message: begun at once, side by side, and over in time, whatever DNS does."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from typing import Any, Generic, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import HostAddresses, IResolver, MailExchanger, ServiceLocation, Tlsa
from mailhub.log import Logger

KNOWN_SECONDS = 60.0  # for which what was found is good
KNOWN_LIMIT = 4096  # of one kind that are kept

_log = Logger(namespace="mailhub.delivery")

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class Begun(Generic[T]):
    """What is being found out from now on. What goes wrong with it that is no MailError is a fault of ours: the log
    has it, and `fallback` is what was found."""

    def __init__(self, asked: Coroutine[Any, Any, T], fallback: T) -> None:
        self._found: T | MailError = fallback
        self._over = False
        self._waiting = Deferred.fromCoroutine(asked)
        self._waiting.addCallbacks(self._take, self._failed)

    async def get(self) -> T:
        """What was found; may be asked again. Raises MailError."""
        if not self._over:
            await self._waiting
        if isinstance(self._found, MailError):
            raise self._found
        return self._found

    def _take(self, found: T) -> None:
        self._found, self._over = found, True

    def _failed(self, failure: Failure) -> None:
        self._over = True
        if isinstance(failure.value, MailError):
            self._found = failure.value
        elif not isinstance(failure.value, CancelledError):
            _log.failure("a check of mail authentication has failed", failure)


@implementer(IResolver)
@attrs.frozen
class InTime:
    """A resolver that has no answer any more from one moment on (`until`, by the clock)."""

    _resolver: IResolver
    _clock: IReactorTime
    _until: float

    async def mail_exchangers(self, domain: str) -> Sequence[MailExchanger]:
        """See `IResolver`."""
        return await self._in_time(self._resolver.mail_exchangers(domain))

    async def addresses(self, host: str) -> Sequence[str]:
        """See `IResolver`."""
        return await self._in_time(self._resolver.addresses(host))

    async def host(self, name: str) -> HostAddresses:
        """See `IResolver`."""
        return await self._in_time(self._resolver.host(name))

    async def texts(self, name: str) -> Sequence[bytes]:
        """See `IResolver`."""
        return await self._in_time(self._resolver.texts(name))

    async def pointers(self, address: str) -> Sequence[str]:
        """See `IResolver`."""
        return await self._in_time(self._resolver.pointers(address))

    async def services(self, name: str) -> Sequence[ServiceLocation]:
        """See `IResolver`."""
        return await self._in_time(self._resolver.services(name))

    async def tlsa(self, name: str) -> Tlsa:
        """See `IResolver`."""
        return await self._in_time(self._resolver.tlsa(name))

    async def _in_time(self, asked: Coroutine[Any, Any, T]) -> T:
        waiting = Deferred.fromCoroutine(asked)
        if not waiting.called:
            waiting.addTimeout(max(self._until - self._clock.seconds(), 0.0), self._clock)
        try:
            return await waiting
        except TimeoutError:
            raise TemporaryError("DNS gives no answer in time", status="4.4.3") from None


class Recent(Generic[K, V]):
    """What was found out a moment ago, and is good for the next message, too."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """None for what is not known, or not any more."""
        known = self._known.get(key)
        return known[1] if known is not None and known[0] > self._clock.seconds() else None

    def keep(self, key: K, found: V) -> None:
        """For a short while."""
        self._known[key] = self._clock.seconds() + KNOWN_SECONDS, found
        self._known.move_to_end(key)
        if len(self._known) > KNOWN_LIMIT:
            self._known.popitem(last=False)
