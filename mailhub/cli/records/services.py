"""Where mail programs find a domain's servers by themselves (RFC 6186, RFC 8314 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.cli.records.record import Record
from mailhub.cli.records.server import Server
from mailhub.cli.records.topic import Looked, Topic, World
from mailhub.interfaces import ServiceLocation
from mailhub.services import SERVICES


def services_of(server: Server, domain: str, of: str) -> list[Topic]:
    """A topic for each service that has such a record; that there is none is said by a dot (RFC 6186 3.4)."""
    about = "where mail programs find their servers by themselves (RFC 6186, RFC 8314); a dot: it is not offered"
    topics = []
    for name, port in server.ports.items():
        look = _Srv(server, domain, name, port)
        topics.append(Topic("SRV", of, about, [look.wanted], look.look))
    return topics


@attrs.frozen(eq=False)
class _Srv:
    _server: Server
    _domain: str
    _service: str
    _port: int | None

    @property
    def _name(self) -> str:
        return f"_{self._service}._tcp.{self._domain}"

    @property
    def wanted(self) -> Record:
        """The record as it should be."""
        if self._port is None:
            return self._record(ServiceLocation(0, 0, 0, ""))
        return self._record(
            ServiceLocation(SERVICES[self._service].srv_priority or 0, 1, self._port, self._server.hostname)
        )

    def _record(self, place: ServiceLocation) -> Record:
        return Record(self._name, "SRV", f"{place.priority} {place.weight} {place.port} {place.host}.")

    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        found = await world.environment.resolver.services(self._name)
        shown, port = [self._record(each) for each in found], self._port
        places = [f"{each.host}:{each.port}" for each in found if each.host]
        here = f"{self._server.hostname}:{port}"
        said = f"has {self._service} at {', '.join(places)}" if places else f"says that it has no {self._service}"
        if port is None and not places:
            return [Looked("right", f"domain {self._domain} names no {self._service}, and none is offered", shown)]
        if port is None:
            text = f"domain {self._domain} {said} (SRV), which this server does not offer"
            return [Looked("wrong", text, shown, [self.wanted])]
        if not found:
            text = f"domain {self._domain} does not say where {self._service} is: mail programs have to be told"
            return [Looked("missing", text, publish=[self.wanted])]
        if here in places:
            return [Looked("right", f"domain {self._domain} has {self._service} here (SRV)", shown)]
        text = f"domain {self._domain} {said} (SRV), {'and not' if places else 'which is'} at {here}"
        return [Looked("wrong", text, shown, [self.wanted])]
