"""Where routes lead to in the end, so that none is taken twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailhub.interfaces import STORE, Route
from mailhub.message.mailbox_names import INBOX, normalise

FinalTarget = tuple[Any, ...]


def final_target(route: Route) -> FinalTarget:
    """Equal for routes that must not both be taken: of an account agent, account and mailbox. Local parts of other
    hosts are compared letter for letter. To others, what goes in another name is another message, and its failure
    another's concern."""
    if route.agent == STORE:
        return (STORE, route.target, normalise(route.mailbox) if route.mailbox else INBOX)
    return (route.agent, route.target, route.recipient.local, route.recipient.ascii_domain, route.reverse_path)


def distinct(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The routes without those that lead to the same final target as an earlier one, in order."""
    if len(routes) == 1:
        return tuple(routes)
    found: dict[FinalTarget, Route] = {}
    for route in routes:
        found.setdefault(final_target(route), route)
    return tuple(found.values())
