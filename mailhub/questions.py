"""What commands may ask the running server, beside what its plugins do: a key of the question, and who answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mailhub.components import Hub
from mailhub.queue_desk import Line, QueueDesk

Handler = Callable[[Hub, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


async def _queue(hub: Hub, question: Mapping[str, Any]) -> Mapping[str, Any]:
    runner = hub.runner
    desk = QueueDesk(
        hub.queue,
        hub.environment.now,
        lambda name: Line(*runner.standing(name)),
        runner.recall,
        frozenset(hub.agents),
    )
    return await desk.answer(question)


QUESTIONS: Mapping[str, Handler] = {"queue": _queue}
