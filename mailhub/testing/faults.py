"""What goes wrong, and when: a plan that is made of a seed, can be printed, and made smaller while it still hurts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from mailhub.config.reader import one_of
from mailhub.interfaces import MailExchanger
from mailhub.testing.dialogue import Side
from mailhub.testing.wires import TROUBLES, Trouble, Weather

if TYPE_CHECKING:
    from mailhub.testing.hubs import Host, Internet

T = TypeVar("T")

# What befalls the next connection to a hub: Trouble's kinds.
CONNECTIONS = TROUBLES
# What lasts for some seconds.
STATES = ("servfail", "no answer", "slow name", "zone", "certificate", "full", "short", "away", "dark")
# What ends the process, at a step on its disk.
ENDS = ("kill", "power")
# What its operator does.
OPERATOR = ("restart", "reload", "hold", "flush")
# What the zone of a domain may become.
ZONES = ("moved", "twice", "null", "nowhere")
KINDS = (*CONNECTIONS, *STATES, *ENDS, "clock", *OPERATOR)
# What nothing comes of where a server has its data in memory.
_ON_DISK = (*ENDS, "full", "short", "restart")

# Where a connection may be struck: before a command arrives, before its reply does, or after that.
_BOTH: tuple[Side, ...] = ("command", "reply")
_STRIKES: list[tuple[str, Side]] = [("greeting", "reply"), ("body", "command"), ("end", "command")]
_STRIKES += [(stage, side) for stage in ("EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA") for side in _BOTH]
_STRIKES += [("end", "reply")] * 4  # the one that is hard
_STRIKES += [("end", "after")] * 2
_ANSWERED = ("EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "end", "end")
_REPLIES = (
    "421 4.3.2 Closing",
    "450 4.2.0 Busy",
    "451 4.3.0 Not now",
    "452 4.3.1 Full",
    "550 5.7.1 No",
    "554 5.0.0 No",
)
_NOBODY = "10.255.255.254"  # has no ports
HOUR = 3600.0
DAY = 24 * HOUR


@attrs.frozen
class Fault:
    """One thing that goes wrong with the hub of a domain, `at` so many seconds after the beginning.

    `refused`, `unanswered`, `reset`, `silent`, `slow`, `answer`
        befall the next connection to it, at a `stage` and `side` of SMTP, or after `octets` (see
        `mailhub.testing.network.Trouble`); `answer` gives `reply`.
    `servfail`, `no answer`, `slow name`
        What DNS has of it, for `seconds`.
    `zone`
        For `seconds` DNS says of it what is no more so, or not yet: a `zone` of "moved" (its host has the address of
        nobody), "twice" (so has another one, which is preferred), "null" (it takes no mail) or "nowhere" (there is no
        such domain).
    `certificate`
        Has expired, for `seconds`.
    `full`, `short`
        Its disk is full (ENOSPC), or its reserve has begun, for `seconds`.
    `away`, `dark`
        It refuses all connections, or answers none, for `seconds`, which may be days.
    `kill`, `power`
        Its process ends at the `step`-th step on its disk from then on, and starts again after `seconds`.
    `clock`
        Its clock is set forward by `seconds`, or back.
    `restart`, `reload`
        It is stopped in good order and started again after `seconds`, or told to read its configuration again; which
        is the one of this number (`config`) then.
    `hold`, `flush`
        All that waits in its queue is held for `seconds`, or is to be tried at once.

    Raises ValueError for what there is not, and for what could never come.
    """

    kind: str
    hub: str
    at: float = 0.0
    seconds: float = 0.0
    stage: str = ""
    side: Side = "reply"
    octets: int = 0
    reply: str = ""
    step: int = 0
    zone: str = ""
    config: int = 0

    def __attrs_post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind!r}; {one_of(self.kind, KINDS)}")
        if self.kind in CONNECTIONS:
            self.trouble()
        if self.kind == "zone" and self.zone not in ZONES:
            raise ValueError(f"there is no zone {self.zone!r}; {one_of(self.zone, ZONES)}")
        if self.kind in ENDS and self.step < 1:
            raise ValueError(f"{self.kind!r} needs a step: 1 for the next one on the disk")

    def trouble(self) -> Trouble:
        """What befalls the next connection, of the kinds that do that. Raises ValueError."""
        reply = f"{self.reply}\r\n".encode()
        return Trouble(self.kind, self.stage, self.side, self.octets, self.seconds, reply)  # type: ignore[arg-type]

    @property
    def is_final(self) -> bool:
        """Whether somebody may be told for good that there is no way to a recipient."""
        return self.reply.startswith("5") or self.zone in ("null", "nowhere") or self.seconds > DAY

    def __str__(self) -> str:
        shown = [f"{self.kind!r}", f"{self.hub!r}"]
        fields = attrs.fields(Fault)[2:]
        shown += [f"{each.name}={value!r}" for each in fields if (value := getattr(self, each.name)) != each.default]
        return f"Fault({', '.join(shown)})"

    __repr__ = __str__


Configs = Callable[[str, int], Mapping[str, Any]]
"""The configuration of a domain's server by a number."""


@attrs.frozen
class FaultPlan:
    """All that goes wrong in a run. `str()` of it is Python that makes it again."""

    faults: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, seed: object, hubs: Sequence[str], count: int, seconds: float = DAY) -> FaultPlan:
        """So many faults of the hubs of these domains, within `seconds`, by a seed."""
        random = Random(f"{seed} faults")
        faults = [_fault(random, random.choice(hubs), round(random.uniform(0, seconds))) for _ in range(count)]
        return cls(tuple(sorted(faults, key=lambda fault: fault.at)))

    def __str__(self) -> str:
        return "FaultPlan((" + "".join(f"\n    {fault}," for fault in self.faults) + "\n))"

    def apply(self, internet: Internet, configs: Configs | None = None) -> None:
        """Have all that happen in a network, from now on. Servers are to have their data on disk where they are
        killed or started again (`[database] type = "inline"`). `configs` gives the configuration of a domain by its
        number; without, it is the same always. Raises ValueError for a domain that no hub has, and for what happens to
        the disk of one that has its data in memory."""
        mishaps = Mishaps(internet, configs)
        for fault in self.faults:
            mishaps.look_over(fault)
        for fault in self.faults:
            internet.clock.callLater(fault.at, mishaps.befall, fault)

    @property
    def ends(self) -> float:
        """When the last of it is over, in seconds after the beginning."""
        return max((fault.at + abs(fault.seconds) for fault in self.faults), default=0.0)


def _fault(random: Random, hub: str, at: float) -> Fault:
    group = random.choices((CONNECTIONS, STATES, ENDS, OPERATOR, ("clock",)), (6, 3, 3, 2, 1))[0]
    kind = random.choice(group)
    if kind in ENDS:
        # No machine comes back at once.
        away = random.choice((1, 60, 1800) if kind == "kill" else (60, 1800))
        return Fault(kind, hub, at, away, step=random.randint(1, 8))
    if kind == "clock":
        return Fault(kind, hub, at, random.choice((-30, -1, 1, 30)) * DAY / 10)
    if kind == "answer":
        stage, reply = random.choice(_ANSWERED), random.choice(_REPLIES)
        return Fault(kind, hub, at, stage=stage, side="command", reply=reply)
    if kind in OPERATOR:
        return Fault(kind, hub, at, random.choice((1, 60, 1800, 4 * HOUR)), config=random.randrange(3))
    if kind in ("away", "dark"):
        return Fault(kind, hub, at, random.choice((60, 1800, 4 * HOUR, 6 * DAY)))
    if kind in STATES:
        zone = random.choice(ZONES) if kind == "zone" else ""
        return Fault(kind, hub, at, random.choice((60, 1800, 4 * HOUR)), zone=zone)
    if kind in ("refused", "unanswered"):
        return Fault(kind, hub, at)
    slow = random.choice((5.0, 400.0)) if kind == "slow" else 0.0
    if random.random() < 0.2:
        return Fault(kind, hub, at, slow, octets=random.randint(1, 2000))
    stage, side = random.choice(_STRIKES)
    return Fault(kind, hub, at, slow, stage=stage, side=side)


class Mishaps:
    """What a plan does to a network."""

    def __init__(self, internet: Internet, configs: Configs | None = None) -> None:
        self._internet = internet
        self._configs = configs
        self._hosts = {host.domain: host for host in internet.hubs}
        self._waiting: dict[str, list[Trouble]] = {}  # by address: for the next connections
        self._zones: dict[str, list[str]] = {}  # by domain: what its zone has become
        internet.network.trouble = self._trouble

    def look_over(self, fault: Fault) -> None:
        """Raises ValueError for what nothing would come of."""
        host = self._hosts.get(fault.hub)
        if host is None:
            raise ValueError(f"{fault}: there is no hub of this domain; {one_of(fault.hub, self._hosts)}")
        if fault.kind in _ON_DISK and host.hub.settings.database.type != "inline":
            raise ValueError(f'{fault}: the hub has its data in memory; it needs [database] type = "inline"')

    def befall(self, fault: Fault) -> None:
        """Its time has come."""
        host = self._hosts[fault.hub]
        self._internet.network.note(f"fault {fault}")
        if fault.kind in CONNECTIONS:
            self._waiting.setdefault(host.address, []).append(fault.trouble())
        elif fault.kind in ENDS:
            self._end(host, fault)
        elif fault.kind == "clock":
            host.clock_error += fault.seconds
        elif fault.kind in OPERATOR:
            self._operate(host, fault)
        else:
            undo = self._begin(host, fault)
            self._internet.clock.callLater(fault.seconds, undo)

    def _trouble(self, source: str, address: str, port: int) -> Trouble | None:
        waiting = self._waiting.get(address)
        return waiting.pop(0) if waiting else None

    def _end(self, host: Host, fault: Fault) -> None:
        """At a step on its disk from now on; and it is started again."""

        def kill(what: str) -> None:
            host.kill(power=fault.kind == "power")
            self._internet.clock.callLater(fault.seconds, host.boot)

        host.disk.kill_at(host.disk.steps + fault.step, kill)

    def _operate(self, host: Host, fault: Fault) -> None:
        if not host.is_serving:
            return
        config = None if self._configs is None else self._configs(host.domain, fault.config)
        match fault.kind:
            case "restart":
                host.restart_later(fault.seconds, config)
            case "reload":
                host.ask_to_reload(config)
            case "hold":
                host.change_queue("hold")
                self._internet.clock.callLater(fault.seconds, self._until_done, host, "release")
            case _:
                host.change_queue("retry")

    def _until_done(self, host: Host, change: str) -> None:
        """The same, again and again until the server has said so."""
        again = self._internet.clock.callLater(60, self._until_done, host, change)

        def told(answer: object) -> None:
            if answer is not None and again.active():
                again.cancel()

        if host.is_serving:
            host.change_queue(change).addCallback(told)

    def _begin(self, host: Host, fault: Fault) -> Callable[[], object]:
        """A state of things. Returns what ends it."""
        resolver, network, names = self._internet.resolver, self._internet.network, {host.domain, host.hostname}
        match fault.kind:
            case "servfail":
                return _while_in(resolver.failing, names)
            case "no answer":
                return _while_in(resolver.silent, names)
            case "slow name":
                resolver.slow |= dict.fromkeys(names, 8.0)
                return lambda: [resolver.slow.pop(name, None) for name in names]
            case "zone":
                return self._change_zone(host, fault.zone)
            case "certificate":
                return _while_in(network.expired, {host.address})
            case "away":
                return _while_in(network.refusing, {host.address})
            case "dark":
                network.weather_at[host.address] = Weather(lost=1.0)
                return lambda: network.weather_at.pop(host.address, None)
            case _:
                setattr(host.disk, fault.kind, True)
                return lambda: setattr(host.disk, fault.kind, False)

    def _change_zone(self, host: Host, zone: str) -> Callable[[], object]:
        """The newest change counts; where there is none any more, all is as it was."""
        changes = self._zones.setdefault(host.domain, [])
        changes.append(zone)
        self._publish(host, zone)

        def undo() -> None:
            changes.remove(zone)
            self._publish(host, changes[-1] if changes else "")

        return undo

    def _publish(self, host: Host, zone: str) -> None:
        resolver, own = self._internet.resolver, MailExchanger(10, host.hostname)
        resolver.exchangers[host.domain] = [own]
        resolver.hosts[host.hostname] = [host.address]
        match zone:
            case "moved":
                resolver.hosts[host.hostname] = [_NOBODY]
            case "twice":
                resolver.hosts[f"old.{host.domain}"] = [_NOBODY]
                resolver.exchangers[host.domain].insert(0, MailExchanger(5, f"old.{host.domain}"))
            case "null":
                resolver.exchangers[host.domain] = [MailExchanger(0, "")]
            case "nowhere":
                del resolver.exchangers[host.domain]


def _while_in(known: set[str], names: set[str]) -> Callable[[], object]:
    known |= names
    return lambda: known.difference_update(names)


def smaller(items: Sequence[T], still: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """As few of the items as there may be while it is `still` so: what can be left out, half of them or one, is."""
    size = max(1, len(items) // 2)
    while items:
        for without in _without(items, size):
            if still(without):
                items = without
                break
        else:
            if size == 1:
                break
            size //= 2
    return items


def _without(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    for start in range(0, len(items), size):
        yield [*items[:start], *items[start + size :]]
