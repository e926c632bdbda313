"""What the records of a server are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
from cryptography import x509

from mailhub.config import routes
from mailhub.services import SERVICES

if TYPE_CHECKING:
    from mailhub.config.settings import Config

_PORT = re.compile(r"tcp[46]?:(?:port=)?([0-9]+)")


@attrs.frozen
class Server:
    """`ports` are those of the services that clients look for in DNS, None for what is off. `sources` are the addresses
    that mail is sent from and `addresses` all that are known to be this host's: nothing where the configuration says
    nothing of it. `smarthost` takes what is sent. `chain` are the certificates that it shows, of the file
    `certificate`; `unread`: why they cannot be told."""

    hostname: str
    ports: Mapping[str, int | None]
    sources: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    smarthost: str = ""
    chain: Sequence[x509.Certificate] = ()
    certificate: str = ""
    unread: str = ""


def server_of(config: Config) -> Server:
    """That of a configuration."""
    told = routes.relay_addresses(config)
    others = config.routes.get("*")
    server = Server(
        config.hostname,
        {name: _port(config, name) for name, service in SERVICES.items() if service.srv_priority is not None},
        told.source,
        tuple(dict.fromkeys((*told.source, *config.of(type(told)).own))),
        others.host if others is not None else "",
    )
    if config.tls is None:
        return server
    file = config.tls.certificate
    try:
        return attrs.evolve(server, certificate=str(file), chain=x509.load_pem_x509_certificates(file.read_bytes()))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is none in PEM"
        return attrs.evolve(server, unread=f"certificate {file}: {reason}")


def _port(config: Config, kind: str) -> int | None:
    """Where a service of ours is; the usual port where only the system knows."""
    for name, endpoints in config.listen.items():
        part = config.parts.get(("service", name))
        if endpoints and (part.type if part else name) == kind:
            match = _PORT.match(endpoints[0])
            return (int(match[1]) if match else 0) or SERVICES[kind].port
    return None
