"""What a component is given of its hub: what `IHub` names, and nothing else."""

from __future__ import annotations

from typing import Any, cast

from zope.interface import classImplements

from mailhub.interfaces import IHub, Part

_NAMES = frozenset(IHub.names(all=True)) - {"part"}


class HubView:
    """An `IHub` for one component, which `part` names."""

    __slots__ = ("_hub", "part")

    def __init__(self, hub: object, part: Part) -> None:
        self._hub = hub
        self.part = part

    def __getattr__(self, name: str) -> Any:
        """Raises AttributeError that says why, also for what is not there yet."""
        if name not in _NAMES:
            raise AttributeError(f"IHub has no {name!r}")
        try:
            return getattr(self._hub, name)
        except AttributeError as error:
            raise AttributeError(f"hub.{name} is not there yet when a {self.part.kind} is built") from error


classImplements(HubView, IHub)


def view(hub: object, part: Part) -> IHub:
    """The hub for this part."""
    return cast(IHub, HubView(hub, part))
