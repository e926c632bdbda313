"""What components are called by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailhub import plugin_faults

if TYPE_CHECKING:
    from mailhub.components import Hub
    from mailhub.config.settings import ComponentTable
    from mailhub.guard import Guard
    from mailhub.plugins import Catalogue


def guard_of(hub: Hub, catalogue: Catalogue, part: ComponentTable) -> Guard:
    """What a component is called by."""
    file = plugin_faults.source(catalogue.find(part))
    return hub.guards.make(part.kind, part.name, file, part.guard.timeout_seconds, part.guard.failure)
