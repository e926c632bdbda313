"""Networks of mail servers in one process, in which much goes wrong, the same to the octet for the same seed: for tests
of mailhub, and of what one has written for it.

    with Internet(seed=7, folder=tmp_path) as internet:
        hubs = [internet.hub(name, ["ann"], {"database": {"type": "inline"}}) for name in ("a.example", "b.example")]
        FaultPlan.of(7, ["a.example", "b.example"], count=10).apply(internet)

`Internet` and `Host` are `mailhub.testing.hubs`, faults are `mailhub.testing.faults`, connections
`mailhub.testing.wires`. docs/testing.rst shows how they are used.
"""

from __future__ import annotations

from mailhub.testing.caller import Caller
from mailhub.testing.clients import Client
from mailhub.testing.faults import Fault, FaultPlan, smaller
from mailhub.testing.hubs import Host, Internet
from mailhub.testing.resolver import FakeResolver
from mailhub.testing.wires import MemoryNetwork, Trouble, Weather

__all__ = [
    "Caller",
    "Client",
    "FakeResolver",
    "Fault",
    "FaultPlan",
    "Host",
    "Internet",
    "MemoryNetwork",
    "Trouble",
    "Weather",
    "smaller",
]
