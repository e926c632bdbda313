"""What methods of components may give: plugins are written with coroutines, with Deferreds, or with neither."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any


async def answer(given: Any) -> Any:
    """The result of a call that gave a coroutine, a Deferred, or the result itself; raises what either raises."""
    return await given if isawaitable(given) else given
