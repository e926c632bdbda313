"""What commands may ask the running server, beside what its plugins do: a key of the question, and who answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mailhub.components import Hub
from mailhub.config.ways import way_of
from mailhub.explain import explain
from mailhub.log import Logger
from mailhub.queue_desk import Line, QueueDesk

_log = Logger(namespace="mailhub.queue")

Handler = Callable[[Hub, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


async def _queue(hub: Hub, question: Mapping[str, Any]) -> Mapping[str, Any]:
    runner = hub.runner
    desk = QueueDesk(
        hub.queue,
        hub.environment.now,
        lambda name: Line(*runner.standing(name)),
        runner.standstill,
        lambda agent, text: way_of(hub.settings, agent, text),
        lambda: runner.trying,
    )
    answer = await desk.answer(question)
    if question.get("queue") == "change":
        fields = {"change": question.get("change"), "messages": answer["changed"]}
        _log.event("queue changed by command", {**fields, **_said(question.get("which"))})
    return answer


def _said(which: object) -> Mapping[str, object]:
    """Which messages were meant, a field each."""
    if not isinstance(which, Mapping):
        return {"which": which}
    return {
        str(name): ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        for name, value in which.items()
    }


QUESTIONS: Mapping[str, Handler] = {"explain": explain, "queue": _queue}
