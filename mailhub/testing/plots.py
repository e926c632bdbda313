"""What is played: some hubs, who is where, what is sent and how, and what goes wrong; all of it made of a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Literal

import attrs

from mailhub.message.address import Address
from mailhub.message.envelope import DeliverBy, FutureRelease, Mail, Notify, OriginalRecipient, Recipient
from mailhub.testing.clients import Service
from mailhub.testing.faults import DAY, HOUR, FaultPlan

PASSWORD = "secret"
# Mailboxes that each hub has in its own domain; `f` has room for one large message, `relay` is other hubs' login.
USERS = "abcdfgh"
SMALL_QUOTA = 150_000
RELAY = "relay"

_NOTIFY: tuple[frozenset[Notify], ...] = (
    frozenset(),
    frozenset({"SUCCESS", "FAILURE"}),
    frozenset({"SUCCESS"}),
    frozenset({"FAILURE", "DELAY"}),
    frozenset({"NEVER"}),
)
# By which a letter is handed in; "" is no service, but by a program of the hub itself.
_WAYS: tuple[Service | Literal[""], ...] = ("", "", "submission", "submissions", "smtp", "lmtp")
# Whom one may write to. No two lead to one mailbox.
_NAMES = ("a", "a", "all", "away", "nobody", "list", "f")


@attrs.frozen
class Letter:
    """A message that somebody sends, `at` so many seconds after the beginning.

    `by` is the service that it is handed in by, "" where a program of the hub does. Who is `forgetful` sends it again
    after the first answer. Of `requiretls`, `priority`, `hold` (seconds) and `deliver_by` see `Mail`.
    """

    number: int
    at: float
    sender: str
    recipients: tuple[tuple[str, frozenset[Notify]], ...]
    ret: Literal["", "FULL", "HDRS"] = ""
    envid: str = ""
    lines: int = 1
    by: Service | Literal[""] = ""
    forgetful: bool = False
    requiretls: bool = False
    priority: int | None = None
    hold: int = 0
    deliver_by: DeliverBy | None = None

    @property
    def token(self) -> str:
        """Its subject."""
        return f"letter-{self.number}"

    @property
    def octets(self) -> bytes:
        """As it is handed in."""
        domain = self.sender.partition("@")[2]
        header = f"From: {self.sender}\r\nSubject: {self.token}\r\nMessage-ID: <{self.token}@{domain}>\r\n\r\n"
        return header.encode() + b"How are you, and what is the weather like today?\r\n" * self.lines

    @property
    def may_come_back(self) -> bool:
        """Whether its sender has asked for what may be in vain."""
        return self.requiretls or self.deliver_by is not None

    def mail(self) -> Mail:
        """What MAIL says of it."""
        return Mail(
            Address.parse(self.sender),
            "8BITMIME",
            size=len(self.octets),
            ret=self.ret,
            envid=self.envid,
            requiretls=self.requiretls,
            by=self.deliver_by,
            hold=FutureRelease(self.hold, "FOR") if self.hold else None,
            priority=self.priority,
        )

    def named(self) -> list[Recipient]:
        """What RCPT says, each with an ORCPT that tells whom the sender had in mind."""
        return [
            Recipient(Address.parse(address), notify, OriginalRecipient("rfc822", address))
            for address, notify in self.recipients
        ]


@attrs.frozen
class Story:
    """Some hubs, what is sent, and what goes wrong.

    The hub of `plain`, if any, offers no DSN to others; those of `lined` take messages by DATA alone. In a `chain` all
    but the last hub send by way of the next one. Each hub is also the backup of the one before it, and the gateway of a
    domain (`box_of`) whose mailboxes are at the next one, which gets their mail by LMTP.
    """

    seed: int
    hubs: tuple[str, ...]
    letters: tuple[Letter, ...]
    plan: FaultPlan
    plain: str = ""
    lined: frozenset[str] = frozenset()
    chain: bool = False

    @classmethod
    def of(cls, seed: int) -> Story:
        """By a seed."""
        random = Random(f"{seed} story")
        hubs = tuple(f"h{number}.example" for number in range(random.choice((2, 3, 3))))
        plain = random.choice((*hubs, "", "", "", ""))
        lined = frozenset(hub for hub in hubs if random.random() < 0.5)
        letters = tuple(_letter(random, number, hubs) for number in range(random.randint(3, 6)))
        plan = FaultPlan.of(seed, hubs, random.randint(2, 9), DAY / 2)
        return cls(seed, hubs, letters, plan, plain, lined, chain=random.random() < 0.25)

    def after(self, domain: str) -> str:
        """The hub after this one, the first after the last."""
        return _after(self.hubs, domain)

    def before(self, domain: str) -> str:
        """The hub before this one."""
        return self.hubs[self.hubs.index(domain) - 1]

    def config(self, domain: str, number: int = 0) -> Mapping[str, Any]:
        """What the hub of a domain has in its file. With another `number` mail goes by other ways or at other times;
        who gets it is the same."""
        later, before = self.after(domain), self.before(domain)
        off = [("DSN", domain == self.plain), ("CHUNKING", domain in self.lined), ("PIPELINING", number == 2)]
        routes: dict[str, Any] = {later: {"host": f"mx.{later}"}} if number == 1 else {}
        if self.chain and domain != self.hubs[-1]:
            login = {"user": f"{RELAY}@{later}", "password": PASSWORD}
            routes["*"] = {"host": f"mx.{later}:587", "tls": "required", **login}
        return {
            "aliases": {f"all@{domain}": [f"b@{domain}", f"c@{later}"], f"away@{domain}": [f"d@{later}"]},
            "list": {
                f"list@{domain}": {
                    "owners": [f"d@{domain}"],
                    "members": [f"g@{domain}", f"h@{later}"],
                    "post": "anyone",
                    "group": True,
                }
            },
            "database": {"type": "inline"},
            "domains": [domain, box_of(before)],
            "backup_mx": {"domains": [before, box_of(domain)]},
            "transport": {"box": {"recipients": [box_of(domain)], "agent": "lmtp", "host": f"mx.{later}:24"}},
            "route": routes,
            "send_as": {f"{RELAY}@{domain}": ["*"]},
            "smtp": {"extensions_off": [keyword for keyword, is_off in off if is_off]},
            "queue": ({}, {"retry_seconds": [600, 7200]}, {"retry_first_seconds": 30})[number],
        }

    def users(self, domain: str) -> Iterator[tuple[str, str, int]]:
        """The accounts of a hub, with password and quota."""
        for name in USERS:
            yield f"{name}@{domain}", PASSWORD if name == "a" else "", SMALL_QUOTA if name == "f" else 0
        yield f"{RELAY}@{domain}", PASSWORD, 0
        yield f"e@{box_of(self.before(domain))}", "", 0

    def leaves(self, address: str) -> tuple[str, ...]:
        """The mailboxes that mail for an address ends in."""
        local, _, domain = address.partition("@")
        if domain not in self.hubs:
            return (address,)
        later = self.after(domain)
        ends = {
            "all": (f"b@{domain}", f"c@{later}"),
            "away": (f"d@{later}",),
            "list": (f"g@{domain}", f"h@{later}"),
            "nobody": (),
        }
        return ends.get(local, (address,))

    def owner(self, address: str) -> str:
        """Who is told in the sender's stead of what goes wrong behind a list; "" for any other address."""
        local, _, domain = address.partition("@")
        return f"d@{domain}" if local == "list" else ""

    def may_lose_wishes(self, letter: Letter, address: str) -> bool:
        """Whether on the way to an address there may be a server that is not told what the sender wants of a DSN: one
        that offers none, or does not seem to when it refuses EHLO."""
        deaf = {fault.hub for fault in self.plan.faults if (fault.kind, fault.stage) == ("answer", "EHLO")}
        deaf |= {self.plain} - {""}
        domain = address.partition("@")[2]
        way = {letter.sender.partition("@")[2], domain, *(leaf.partition("@")[2] for leaf in self.leaves(address))}
        way |= {self.after(hub) for hub in way if hub in self.hubs}  # backups, and gateways' next ones
        return bool(deaf) and (self.chain or not way.isdisjoint(deaf) or not way.issubset(self.hubs))

    def __str__(self) -> str:
        letters = "".join(f"\n    {letter}," for letter in self.letters)
        named = f"{self.seed}, {self.hubs}, ({letters}\n), {self.plan}, {self.plain!r}, {self.lined!r}, {self.chain}"
        return f"Story({named})"


def box_of(domain: str) -> str:
    """The domain of which a hub is the gateway."""
    return f"box-{domain}"


def _after(hubs: Sequence[str], domain: str) -> str:
    return hubs[(hubs.index(domain) + 1) % len(hubs)]


def _letter(random: Random, number: int, hubs: Sequence[str]) -> Letter:
    home, by = random.choice(hubs), random.choice(_WAYS)
    # A stranger's server brings mail to the hub that it is for, and LMTP takes none that goes on.
    near = {"smtp": [_after(hubs, home)], "lmtp": [home]}.get(by, random.sample(hubs, random.randint(1, len(hubs))))
    wanted: dict[str, frozenset[Notify]] = {}
    for domain in near:
        name = random.choice(_NAMES)
        if name == "nobody" and domain == home and not by:
            continue  # one's own hub says so at once
        wanted[f"{name}@{domain}"] = random.choice(_NOTIFY)
    if by != "lmtp" and random.random() < 0.2:
        wanted[f"e@{box_of(near[0])}"] = random.choice(_NOTIFY)
    recipients = tuple(wanted.items()) or ((f"a@{hubs[0]}", frozenset[Notify]()),)
    return Letter(
        number,
        round(random.uniform(0, DAY / 2)),
        f"a@{home}",
        recipients,
        random.choice(("", "FULL", "HDRS")),
        random.choice(("", f"id+{number}")),
        random.choice((1, 20, 2000)),
        by,
        forgetful=bool(by) and random.random() < 0.2,
        requiretls=random.random() < 0.1,
        priority=random.choice((None, None, None, -4, 0, 6)),
        hold=round(random.uniform(60, 4 * HOUR)) if by.startswith("submission") and random.random() < 0.3 else 0,
        deliver_by=random.choice((None,) * 7 + (DeliverBy(4 * 3600, "N"), DeliverBy(6 * 3600, "R"))),
    )
