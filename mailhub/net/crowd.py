"""Counts connections: by the networks their peers are in, and all together against the files a process may open."""

from __future__ import annotations

import resource
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import attrs

from mailhub.log import Logger
from mailhub.net.link import DriverLimits

log = Logger(namespace="mailhub.net")

# Descriptors left for what is no connection of a client: database, bodies, outgoing connections, DNS, log.
_RESERVED = 256

# IP version and length of the prefix, and its bits.
_Network = tuple[int, int, int]


@lru_cache(maxsize=1024)  # of each connection it is asked three times, and most peers come again
def networks(peer: str) -> tuple[_Network, ...]:
    """The networks that count an address, the smallest first: IPv4 /32 and /24, IPv6 /64, /56 and /48.

    IPv6 by /64, because every host has one to choose its addresses from; many customers have a /56 or /48. An IPv4
    address mapped into IPv6 is IPv4. What is no address (a local socket) is a network of its own.
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return ((0, 0, 0),)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return tuple([(6, length, int(address) >> (128 - length)) for length in (64, 56, 48)])
        address = address.ipv4_mapped
    return tuple([(4, length, int(address) >> (32 - length)) for length in (32, 24)])


@lru_cache(maxsize=1024)
def is_local(peer: str) -> bool:
    """Whether this machine is the peer: loopback, or a local socket."""
    try:
        return not peer or ip_address(peer.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Crowd:
    """The connections of one service by network."""

    def __init__(self, limits: DriverLimits) -> None:
        self._counts: Counter[_Network] = Counter()
        self.bound(limits)

    def bound(self, limits: DriverLimits) -> None:
        """Use these bounds for who comes from now on."""
        self._count_local = limits.count_loopback
        one = limits.connections_per_address
        # A larger network never holds fewer than a smaller one in it.
        middle = max(one, limits.connections_per_ipv6_56)
        self._limits = {
            (0, 0): one,
            (4, 32): one,
            (4, 24): max(one, limits.connections_per_ipv4_24),
            (6, 64): one,
            (6, 56): middle,
            (6, 48): max(middle, limits.connections_per_ipv6_48),
        }

    def has_room(self, peer: str) -> bool:
        """Whether one more connection from there may come."""
        if not self._count_local and is_local(peer):
            return True
        return all(self._counts[network] < self._limits[network[:2]] for network in networks(peer))

    def enter(self, peer: str) -> None:
        """Count a connection."""
        for network in networks(peer):
            self._counts[network] += 1

    def leave(self, peer: str) -> None:
        """It is gone."""
        for network in networks(peer):
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]

    def __len__(self) -> int:
        """Networks that are remembered."""
        return len(self._counts)


@attrs.define(eq=False)
class Room:
    """How many connections all services may have together; without a bound until one is known."""

    capacity: float = float("inf")
    taken: int = 0

    @property
    def full(self) -> bool:
        """No connection more."""
        return self.taken >= self.capacity


def make_room(room: Room, wanted: int) -> None:
    """Raise the process's limit of open files as far as it may, so that `wanted` connections fit, and bound the room
    by it: a connection too many is told so, instead of failing for want of a descriptor."""
    needed = wanted + _RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for attempt in ((max(soft, needed), max(hard, needed)), (min(max(soft, needed), hard), hard)):
        # Only root may raise the hard limit.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, attempt)
            break
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed >= needed:
        return
    room.capacity = max(1, allowed - min(_RESERVED, allowed // 2))
    log.warn(
        "open files are limited: RLIMIT_NOFILE={allowed} wanted={needed} ({wanted} connections and {reserved} others); "
        "at most {capacity} connections are taken in all",
        allowed=allowed,
        needed=needed,
        wanted=wanted,
        reserved=_RESERVED,
        capacity=int(room.capacity),
    )
