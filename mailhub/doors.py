"""What makes the connections of a service, alike for a hub and for somebody's own `.tac`."""

from __future__ import annotations

from typing import Any

from mailhub.guard import Guard
from mailhub.interfaces import Environment, ISettings, Service
from mailhub.net.crowd import Room
from mailhub.net.driver import DriverFactory
from mailhub.net.link import DriverLimits, Link, Session


def door(
    name: str,
    service: Service,
    made: Any,
    *,
    environment: Environment,
    settings: ISettings,
    tls: Any,
    room: Room,
    guard: Guard | None = None,
) -> DriverFactory:
    """Sessions of ours, where `made` is an IService, or the protocols of a Twisted factory. `tls` is what
    `transport.startTLS` takes, or None; `guard` what one that is not ours is called by."""
    guests = not hasattr(made, "session")
    return DriverFactory(
        _no_session if guests else made.session,
        environment.clock,
        environment.random,
        service=name,
        tls=tls,
        implicit_tls=service.implicit_tls,
        limits=settings.of(DriverLimits),
        room=room,
        refusal=b"" if service.implicit_tls else service.refusal,
        guests=made if guests else None,
        guard=guard,
    )


def _no_session(link: Link) -> Session:
    raise TypeError("the connections of this service are those of a Twisted factory")
