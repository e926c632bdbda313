"""What a component is given of its hub: what `IHub` names, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import attrs
from zope.interface import classImplements

from mailhub.interfaces import Environment, IDatabase, IHub, IState, Part
from mailhub.threads import FewThreads

_NAMES = frozenset(IHub.names(all=True)) - {"part", "state"}
_OURS = Path(__file__).parent  # code that is mailhub's own


class HubView:
    """An `IHub` for one component, which `part` names."""

    __slots__ = ("_environment", "_hub", "part")

    def __init__(self, hub: object, part: Part) -> None:
        self._hub = hub
        self.part = part
        self._environment: Environment | None = None

    @property
    def environment(self) -> Environment:
        """The hub's; a plugin has threads of its own in it, so that what is stuck there takes nobody else's."""
        if self._environment is None:
            given: Environment = cast(Any, self._hub).environment
            if not Path(self.part.file).is_relative_to(_OURS):
                name = f"{self.part.kind} {self.part.name}"
                given = attrs.evolve(given, threads=FewThreads(given.threads, name))
            self._environment = given
        return self._environment

    @property
    def state(self) -> IState:
        """This part's own."""
        database: IDatabase = self.database
        return database.state.of(f"{self.part.kind} {self.part.name}")

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
