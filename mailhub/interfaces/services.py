"""What is offered on a port."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs
from zope.interface import Interface

if TYPE_CHECKING:
    from mailhub.interfaces.accounts import IAuthenticator, IHarvest
    from mailhub.interfaces.database import IState
    from mailhub.interfaces.environment import Environment
    from mailhub.interfaces.pipeline import IConversations
    from mailhub.interfaces.plugins import ISettings
    from mailhub.net.link import Link, Session

T = TypeVar("T")


def _octets(service: Service, field: attrs.Attribute[Any], value: bytes | tuple[bytes, ...]) -> None:
    """What is sent as it stands: text would be found out by the first peer only."""
    for octets in value if isinstance(value, tuple) else (value,):
        if not isinstance(octets, bytes):
            raise TypeError(f"Service: {field.name} must be bytes, not {octets!r}")


@attrs.frozen
class Service:
    """How a service is offered, whoever makes its sessions: one row of the table of services.

    `port` is the usual one, 0 where there is none, and `purpose` says in a few words what for. `implicit_tls`: TLS is
    spoken from the first octet (RFC 8314 3). `login`: the whole purpose is a login, so that without TLS the service is
    not offered. `submission` and `each_recipient` are told to sessions and policies (see `Origin`). `alpn` are the ids
    of which a client that names application protocols must name one (RFC 7301). `refusal` is the line that a connection
    too many is told, in clear text: none where that would have to be encrypted first. `srv_priority`: of the DNS record
    by which mail programs find it (RFC 6186 and RFC 8314 5.1: TLS from the start first, IMAP before POP3).
    """

    port: int = 0
    purpose: str = ""
    implicit_tls: bool = False
    login: bool = False
    submission: bool = False
    each_recipient: bool = False
    alpn: tuple[bytes, ...] = attrs.field(default=(), validator=_octets)
    refusal: bytes = attrs.field(default=b"", validator=_octets)
    srv_priority: int | None = None

    @property
    def needs_tls(self) -> bool:
        """It is not offered without TLS (where logins are taken in clear text from trusted networks, it may be)."""
        return self.implicit_tls or self.login


class IService(Interface):
    """What a component of kind "service" may be: sessions that mailhub's driver runs. Or else it provides Twisted's
    `IProtocolFactory`, whose protocols have the transport to themselves."""

    def session(link: Link) -> Session:
        """The session of a new connection."""


class House(Protocol):
    """What our own services are made of: an `IHub`, or what stands for one in somebody's own `.tac`."""

    @property
    def hostname(self) -> str: ...
    @property
    def environment(self) -> Environment: ...
    @property
    def settings(self) -> ISettings: ...
    @property
    def harvest(self) -> IHarvest: ...
    @property
    def pipeline(self) -> IConversations: ...
    @property
    def authenticator(self) -> IAuthenticator: ...
    @property
    def state(self) -> IState: ...
    def shared(self, name: str, make: Callable[[], T]) -> T: ...
