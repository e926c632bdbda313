"""A command's own reactor, for what it has to ask of the network: it runs while something is waited for."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure

from mailhub.errors import TemporaryError
from mailhub.interfaces import Environment
from mailhub.net.dns import machine_resolver
from mailhub.net.network import ReactorNetwork
from mailhub.threads import InlineThreads

if TYPE_CHECKING:
    from mailhub.config.settings import Config

T = TypeVar("T")

_STEP_SECONDS = 0.05
PATIENCE_SECONDS = 60.0


@attrs.frozen(eq=False)
class World:
    """`environment` has the configuration's resolver; what needs threads is done at once."""

    environment: Environment
    _reactor: Any

    def wait(self, work: Awaitable[T], seconds: float = PATIENCE_SECONDS) -> T:
        """The result; raises what it raises, and TemporaryError when there is none within so many seconds."""
        results: list[T | Failure] = []

        async def result() -> T:
            return await work

        waiting = Deferred.fromCoroutine(result())
        waiting.addBoth(results.append)
        end = time.monotonic() + seconds
        while not results:
            if time.monotonic() > end:
                waiting.addErrback(lambda _: None)
                waiting.cancel()
                raise TemporaryError(f"there was no answer within {seconds:.0f} seconds")
            self._reactor.iterate(_STEP_SECONDS)
        (found,) = results
        if isinstance(found, Failure):
            found.raiseException()
            raise RuntimeError("unreachable")
        return found


@contextmanager
def world(config: Config, *, known_hosts: bool = True) -> Iterator[World]:
    """With `[dns]` as it is set, and the machine's own table of hosts where `known_hosts` are wanted; the connections
    that are left are closed at the end."""
    reactor: Any = SelectReactor()
    random, network = SystemRandom(), ReactorNetwork(reactor)
    dns = config.dns
    resolver = machine_resolver(reactor, network, random, dns.servers, dns.validating, known_hosts=known_hosts)
    environment = Environment(reactor, InlineThreads(), network, resolver, random, config.data, wall=time.time)
    try:
        yield World(environment, reactor)
    finally:
        for call in reactor.getDelayedCalls():
            call.cancel()
        reactor.removeAll()
        reactor.iterate(0)
