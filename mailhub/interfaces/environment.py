"""What is not deterministic is injected: clock, threads, network, resolver, randomness, data folder, disk."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from zope.interface import Attribute, Interface, implementer

from mailhub.errors import TemporaryError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory, IReactorTime

    from mailhub.interfaces.octets import IBlobReader

T = TypeVar("T")


class IThreads(Interface):
    """The one door to threads. The simulation's twin runs everything inline."""

    def run(function: Callable[..., T], *args: object) -> Awaitable[T]:
        """Run a blocking call in a thread; the result arrives on the reactor thread. Fails with Busy.

        Of a plugin's component four calls are made at the same time, the others wait for their turn. One whose
        Deferred is cancelled meanwhile goes on; its result is nobody's.
        """

    def call_in_reactor(function: Callable[..., object], *args: object) -> None:
        """From any thread: have `function` called on the reactor thread, in order of calling."""

    def start_loop(name: str, loop: Callable[[], None]) -> None:
        """Run `loop` in a thread of its own until it returns (a writer)."""

    inline: bool = Attribute("True where everything runs on the thread of the caller; start_loop is not used then.")


class INetwork(Interface):
    """Outgoing connections."""

    async def connect(host: str, port: int, factory: IProtocolFactory, timeout: float, source: str = "") -> Any:
        """Connect to an IP address (or `unix:/path`, port ignored) within `timeout` seconds and return the protocol.
        `source` is the IP address, of the same family, that the connection is to come from; by default the operating
        system chooses, and it is not given then.

        Raises TemporaryError when the peer cannot be reached.
        """


@attrs.frozen
class MailExchanger:
    """One MX record (RFC 5321 5.1). `secure`: see `IResolver`. `domain` is the name that has it, to which the aliases
    (CNAME) of the one that was asked for lead; "" where that is not known."""

    preference: int
    host: str
    secure: bool = attrs.field(default=False, eq=False)
    domain: str = attrs.field(default="", eq=False)


@attrs.frozen
class HostAddresses:
    """IPv4 and IPv6 addresses of a host, as text. `secure`: see `IResolver`. `canonical` is the name that the host's
    aliases (CNAME) lead to, its own where it has none; "" where that is not known. `alias_secure`: DNSSEC vouches for
    its own name being an alias, be it not for where that leads."""

    addresses: tuple[str, ...] = ()
    secure: bool = attrs.field(default=False, eq=False)
    canonical: str = attrs.field(default="", eq=False)
    alias_secure: bool = attrs.field(default=False, eq=False)


@attrs.frozen
class ServiceLocation:
    """Where a service of a domain is (an SRV record, RFC 2782). `host` is "" where the domain says that it has none."""

    priority: int
    weight: int
    port: int
    host: str


@attrs.frozen
class TlsaRecord:
    """What a host's certificate is to be (RFC 6698 2.1): `usage`, `selector` and `matching` as numbered there."""

    usage: int
    selector: int
    matching: int
    data: bytes


@attrs.frozen
class Tlsa:
    """The TLSA records of a name. `secure`: see `IResolver`; records that are not mean nothing."""

    records: tuple[TlsaRecord, ...] = ()
    secure: bool = False


class IResolver(Interface):
    """DNS as mail needs it. Answers are bounded in number; names are A-labels without a trailing dot.

    An answer is `secure` when DNSSEC vouches for it, be it for records or for their absence (RFC 4035 3.2.3, the AD
    bit), and the resolver that says so is to be believed. All of these raise TemporaryError when no answer can be had,
    as where signatures are wrong.
    """

    async def mail_exchangers(domain: str) -> Sequence[MailExchanger]:
        """MX records in no particular order; empty when there are none (the A/AAAA fall-back applies).

        A null MX (RFC 7505) is returned as the single record `MailExchanger(0, "")`. Raises PermanentError
        (5.1.2) when the name does not exist, TemporaryError when no answer can be had.
        """

    async def addresses(host: str) -> Sequence[str]:
        """IPv4 and IPv6 addresses as text; empty when there are none. Raises TemporaryError."""

    async def host(name: str) -> HostAddresses:
        """The same, with what DNSSEC says of it. Raises TemporaryError."""

    async def texts(name: str) -> Sequence[bytes]:
        """TXT records, the strings of each in one; empty when there are none, or no such name. Raises
        TemporaryError."""

    async def pointers(address: str) -> Sequence[str]:
        """The names that an IP address claims for itself (PTR), which prove nothing before `addresses` leads back;
        empty when there are none. Raises TemporaryError; ValueError for what is no address."""

    async def services(name: str) -> Sequence[ServiceLocation]:
        """SRV records of a name such as `_imaps._tcp.example.org` (RFC 2782), in no particular order; empty when there
        are none, or no such name. Raises TemporaryError."""

    async def tlsa(name: str) -> Tlsa:
        """TLSA records of a name such as `_25._tcp.mx.example.org` (RFC 6698 3), none when there is no such name.
        Raises TemporaryError."""


@attrs.frozen
class Disk:
    """A file system in octets: how large it is, and what is free for us."""

    size: int
    free: int

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """The one that a folder is on. Raises OSError."""
        found = os.statvfs(folder)
        return cls(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


@attrs.frozen
class Ended:
    """How a program has ended. `status` is its exit status (`os.EX_TEMPFAIL` asks to come again), or, negative, the
    signal that ended it. `stderr` has the first 64 KiB of what it wrote there."""

    status: int
    stdout: bytes = b""
    stderr: bytes = b""


class IProcesses(Interface):
    """Programs of the operating system."""

    async def run(
        arguments: Sequence[str],
        stdin: bytes | IBlobReader = b"",
        *,
        seconds: float = 30.0,
        output_limit: int = 1 << 20,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: str | None = None,
    ) -> Ended:
        """Run a program, without a shell, with `stdin` to read, and wait for its end. `arguments` begin with its path,
        or its name in PATH. Of our environment it gets PATH alone, beside `environment`; it starts in `folder`, by
        default in ours. Some run at the same time ([limits] processes), the others wait for their turn.

        With `user` it runs as that user of the machine, and with the user's groups alone; "" is nobody where we are
        root, else our own. Who is not root can run programs as itself only.

        It is killed after `seconds`, when it writes more than `output_limit` octets, and when the call is cancelled.
        Raises TemporaryError in the first two cases, and where it cannot be started; Busy, and what `stdin` raises.
        What an exit status means is for the caller."""


@implementer(IProcesses)
class NoProcesses:
    """Where no programs are run."""

    async def run(
        self,
        arguments: Sequence[str],
        stdin: bytes | IBlobReader = b"",
        *,
        seconds: float = 30.0,
        output_limit: int = 1 << 20,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: str | None = None,
    ) -> Ended:
        """Raises TemporaryError."""
        raise TemporaryError(detail=f"{arguments[:1]!r:.100} cannot be run: no programs are run here")


@attrs.frozen
class Environment:
    """Everything from outside that a hub touches. `random` is `random.SystemRandom` in production, seeded in tests.

    There are two clocks. `clock` measures how long things take: waits, time-outs, how old a cache is. Nobody sets it,
    and what it counts from means nothing. `wall` is the time of day, for dates and for what outlives the process; it
    may be set forward and back at any moment. Without `wall`, `clock` is both.

    `disk` measures the file system of a folder; it is called on the reactor thread too.
    """

    clock: IReactorTime
    threads: IThreads
    network: INetwork
    resolver: IResolver
    random: Random
    data: Path
    wall: Callable[[], float] | None = None
    disk: Callable[[Path], Disk] = Disk.of
    processes: IProcesses = attrs.field(factory=NoProcesses)

    def now(self) -> int:
        """The time of day, in seconds since the epoch."""
        return int(self.clock.seconds() if self.wall is None else self.wall())

    def monotonic(self) -> float:
        """Seconds that only go forward, since any moment: for differences."""
        return self.clock.seconds()
