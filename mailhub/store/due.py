"""Who wants to hear that there is something for the queue's runner. Everything here runs on the reactor thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailhub.log import Logger
from mailhub.store.arrivals import Arrival

log = Logger(namespace="mailhub.store")


class DueWatchers:
    """The listeners of a queue (`IQueue.watch`), and the queue itself, which hears first what has come (`arrived`)."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[], None]] = {}
        self.arrived: Callable[[Sequence[Arrival] | None], object] = lambda _: None

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See `IQueue.watch`. The result may be called again."""
        key = object()  # equal listeners are told apart, so that each is stopped on its own
        self._listeners[key] = listener
        return lambda: self._stop(key)

    def _stop(self, key: object) -> None:
        self._listeners.pop(key, None)

    def tell(self, arrived: Sequence[Arrival] | None = None) -> None:
        """Call them: these rows were put in and are due; None where others are, or have come to be. What one raises is
        logged: what was committed stays committed, and the others hear of it."""
        self.arrived(arrived)
        for listener in list(self._listeners.values()):
            try:
                listener()
            except Exception:
                log.failure("a listener of the queue failed")
