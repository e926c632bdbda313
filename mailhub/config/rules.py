"""Checks of single values. Each raises ValueError with the text that follows file, table and key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

import attrs
from twisted.internet.endpoints import quoteStringArgument, serverFromString

from mailhub.config.reader import Place
from mailhub.delivery.limits import one_of_each_family
from mailhub.interfaces import Service
from mailhub.message.address import Address, parse_domain, parse_local, to_ascii
from mailhub.message.aliases import PatternAlias, is_pattern
from mailhub.message.patterns import ANY, AddressPatterns
from mailhub.wire.smtp.extensions import EXTENSIONS

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def between(low: int, high: int) -> Validator:
    """A number within both bounds."""

    def check(instance: object, field: attrs.Attribute[Any], value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}, not {value}")

    return check


def bounded(default: int, low: int, high: int) -> Any:
    """A field for a whole number with a default and bounds."""
    return attrs.field(default=default, validator=between(low, high))


def patterns(instance: object, field: attrs.Attribute[Any], value: tuple[str, ...] | None) -> None:
    """A list of addresses and domains, which may be left out but not be empty."""
    if value is not None and not value:
        raise ValueError("must not be empty; leave it out to name all")
    AddressPatterns.parse(value or ())


def not_empty(instance: object, field: attrs.Attribute[Any], value: tuple[object, ...]) -> None:
    """A list of at least one thing."""
    if not value:
        raise ValueError("must not be empty")


def no_two(instance: object, field: attrs.Attribute[Any], value: tuple[object, ...]) -> None:
    """A list that has nothing twice."""
    for index, each in enumerate(value):
        if each in value[:index]:
            raise ValueError(f'"{each}" is there twice')


def domain(text: str) -> str:
    """A domain name as A-labels, in lower case."""
    try:
        name = parse_domain(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is not a domain name: {error}') from None
    if name.startswith("["):
        raise ValueError(f'"{text}" is an address literal, not a domain name')
    return name if name.isascii() else to_ascii(name)


def domain_or_none(text: str) -> str:
    """The same, but "" is kept."""
    return text and domain(text)


def domains_or_none(texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The same for a list, but None is kept."""
    return None if texts is None else domains(texts)


def domains(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Domain names as A-labels."""
    return tuple(domain(text) for text in texts)


def name_servers(texts: tuple[str, ...]) -> tuple[str, ...]:
    """IP addresses of name servers, each with `#port` where it is not 53."""
    for text in texts:
        host, mark, port = text.partition("#")
        try:
            ip_address(host)
        except ValueError:
            raise ValueError(f'"{text}" is not an IP address, with or without "#port"') from None
        if mark and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f'"{text}" has no port after the #')
    return texts


def address(text: str) -> str:
    """A whole mail address, in its canonical text."""
    try:
        return str(Address.parse(text))
    except ValueError as error:
        raise ValueError(f'"{text}" is not a mail address: {error}') from None


def key(text: str) -> str:
    """A whole mail address, in the one text that all ways to write it have."""
    try:
        return Address.parse(text).key
    except ValueError as error:
        raise ValueError(f'"{text}" is not a mail address: {error}') from None


def alias(text: str) -> str:
    """What an alias may stand for: `user@domain`, `@domain` (all others of a domain), `user` (in every domain), or
    `wildcard:` or `regex:` and a pattern."""
    try:
        if is_pattern(text):
            PatternAlias.parse(text, ["x@x.example"])
            return text
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from None
    try:
        if text.startswith("@"):
            return "@" + domain(text[1:])
        return str(Address.parse(text)) if "@" in text else parse_local(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is not an address, an "@domain" or a local part: {error}') from None


def alias_targets(name: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Addresses, in their canonical text; those of a pattern as they are."""
    if is_pattern(name):
        return PatternAlias.parse(name, texts).targets
    return tuple(address(text) for text in texts)


def send_as(text: str) -> AddressPatterns:
    """Whom somebody may send as: an address, a domain, `*.domain` or `*`."""
    if text != ANY and not {"@", "."}.intersection(text):
        raise ValueError(f'"{text}" is no address; all of a domain of that name are "@{text}"')
    return AddressPatterns.parse([text])


def extensions(instance: object, field: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    """Keywords of EHLO, in letters of any size."""
    known = [row.keyword for row in EXTENSIONS]
    for each in value:
        if each.upper() not in known:
            raise ValueError(f'"{each}" is no extension; there are {", ".join(known)}')


def source_address(instance: object, field: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    """One IPv4 and one IPv6 address at most."""
    one_of_each_family(value)


def endpoint(text: str) -> str:
    """A Twisted server endpoint string, checked without listening."""
    if text.startswith("systemd:"):
        return text  # its sockets are there only when systemd starts us
    try:
        # No endpoint touches the reactor before it listens.
        serverFromString(None, text)  # type: ignore[no-untyped-call]
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(
            f'"{text}" is not an endpoint such as "tcp:25" or "tcp:25:interface=127.0.0.1": {reason}'
        ) from None
    return text


def endpoint_in(folder: str, text: str) -> str:
    """The same endpoint with a relative socket path made absolute."""
    if text.startswith("unix:") and not text.startswith(("unix:/", "unix:address=")):
        quoted: str = quoteStringArgument(folder)  # type: ignore[no-untyped-call]
        return f"unix:{quoted}/{text[5:]}"
    return text


def require_tls(service: Service, place: Place, *, tls: bool, trusted: bool) -> None:
    """Raises ConfigurationError for a service that cannot be without TLS, where there is none: one that speaks it from
    the first octet, and one whose whole purpose is a login, unless that is possible from `trusted` networks."""
    if tls:
        return
    if service.login and (service.implicit_tls or not trusted):
        raise place.error("nobody could log in without TLS: add a [tls] table with certificate and key")
    if service.implicit_tls:
        raise place.error("speaks TLS from the first octet: add a [tls] table with certificate and key")
