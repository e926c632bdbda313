"""Greylisting (RFC 6647): who is not known is asked to come again, which servers do and most senders of spam do not.

What is remembered stands in the hub's state, so that a restart makes nobody a stranger. Its names are prefixes with a
digest behind them:

    t:  network, sender, recipient   when they were seen first (`w 1704067200`), or passed last (`p 1704067500`)
    n:  network                      how many triples have passed
    a:  address                      that users of ours have written to it
"""

from __future__ import annotations

import re
from collections import OrderedDict
from hashlib import blake2b
from ipaddress import ip_address, ip_network

import attrs
from zope.interface import implementer

from mailhub.delivery.screening.dns_lists import DnsLists, parse_entries
from mailhub.delivery.screening.rule import Rule, is_open, number
from mailhub.errors import MailError
from mailhub.interfaces import ACCEPT, IHub, IPolicy, IState, ITransactionView, Origin, Screen, Verdict
from mailhub.keys import DAY
from mailhub.message.address import Address, fold_local, parse_domain, to_ascii
from mailhub.message.envelope import Recipient
from mailhub.net.networks import Networks

_WRITTEN = 10_000  # addresses of which it is known without asking that they have been noted
# What changes from message to message in the sender of one and the same correspondent.
_BATV = re.compile(r"(?:prvs|msprvs1|btv1)=[^=/]+=+(.+)")
_SRS = re.compile(r"(srs[01])[=+-][^=]{1,32}=(.+)")
_STAMPED = re.compile(r"[a-z2-7]{2}=(.+)")
_TOKEN = re.compile(r"(?<![a-z])[0-9a-f]{8,}(?![a-z])|[0-9]+")


def _networks(_instance: object, _field: object, texts: tuple[str, ...]) -> None:
    Networks.parse(*texts)


def _domains(_instance: object, _field: object, texts: tuple[str, ...]) -> None:
    for text in texts:
        parse_domain(text)


def _lists(_instance: object, _field: object, texts: tuple[str, ...]) -> None:
    parse_entries(texts)


@attrs.frozen
class GreylistOptions:
    """A triple passes when it comes again after `delay_seconds` and within `retry_hours`, and is then known for
    `known_days` after it came last. Of a network of which `network_passes` have passed all is taken (0: never).

    Not asked to come again are clients in `networks`, senders of `domains` and those below, clients on `good_lists`
    (as those of `dnsbl`), and with `correspondents` whom our own users have written to.
    """

    delay_seconds: int = number(300, 1, DAY)
    retry_hours: int = number(48, 1, 720)
    known_days: int = number(36, 1, 366)
    network_passes: int = number(5, 0, 1_000_000)
    networks: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    domains: tuple[str, ...] = attrs.field(default=(), validator=_domains)
    good_lists: tuple[str, ...] = attrs.field(default=(), validator=_lists)
    correspondents: bool = True


@implementer(IPolicy)
@attrs.define(eq=False)
class Greylist:
    """Defers recipients."""

    _options: GreylistOptions
    _hub: IHub
    _rule: Rule
    _state: IState
    _networks: Networks
    _domains: frozenset[str]
    _lists: DnsLists | None
    _noted: OrderedDict[str, None] = attrs.field(init=False, factory=OrderedDict)

    @classmethod
    def of(cls, options: GreylistOptions, hub: IHub) -> Greylist:
        """The policy of a hub."""
        lists = DnsLists(parse_entries(options.good_lists), 5, hub.environment) if options.good_lists else None
        domains = frozenset(to_ascii(parse_domain(domain)) for domain in options.domains)
        return cls(options, hub, Rule.of(hub), hub.state, Networks.parse(*options.networks), domains, lists)

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return _Client(self) if origin.submission or origin.user or self.concerns(origin) else Screen()

    def concerns(self, origin: Origin) -> bool:
        """Whether a client is looked at."""
        return self._rule.concerns(origin) and origin.peer not in self._networks

    async def is_good(self, peer: str) -> bool:
        """Whether a client is on a list of good ones. Never raises."""
        return self._lists is not None and (await self._lists.look_up(peer)).weight > 0

    async def judge(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        """What is said of a stranger's recipient."""
        origin, sender = transaction.origin, transaction.mail.reverse_path
        if sender is not None and self._is_of(sender.ascii_domain):
            return ACCEPT
        network = network_of(origin.peer)
        triple = _name("t:", network, normalised(sender), recipient.address.key)
        try:
            if sender is not None and await self._state.get(_name("a:", sender.key)) is not None:
                return ACCEPT
            passes = int(await self._state.get(_name("n:", network)) or 0)
            if passes and 0 < self._options.network_passes <= passes:
                return ACCEPT
            return await self._judge(triple, network, passes, rehearsal=origin.rehearsal)
        except MailError:
            # What is delayed because of a failing disk is delayed for nothing.
            return ACCEPT

    async def _judge(self, triple: str, network: str, passes: int, *, rehearsal: bool) -> Verdict:
        options, now = self._options, self._hub.environment.now()
        value = (await self._state.get(triple) or b"w %d" % now).decode("ascii")
        kind, _, then = value.partition(" ")
        # Of a clock that has been set back nothing is learnt: what was noted counts from now on.
        began = min(now, int(then))
        left = began + options.delay_seconds - now
        if kind == "w" and left > 0:
            if began == now and not rehearsal:
                await self._state.put({triple: b"w %d" % now}, options.retry_hours * 3600)
            return self._rule.defer("4.7.1", f"Greylisted, come again in {left} seconds")
        if rehearsal:
            return ACCEPT
        kept = {triple: b"p %d" % now}
        if kind == "w":
            kept[_name("n:", network)] = b"%d" % (passes + 1)
        if kind == "w" or now - began >= DAY:
            await self._state.put(kept, options.known_days * DAY)
        return ACCEPT

    def _is_of(self, domain: str) -> bool:
        labels = domain.split(".")
        return any(".".join(labels[start:]) in self._domains for start in range(len(labels)))

    async def note(self, address: Address) -> None:
        """A user of ours writes to it."""
        if not self._options.correspondents or address.ascii_domain in self._hub.domains:
            return
        name = _name("a:", address.key)
        if name in self._noted:
            return
        try:
            await self._state.put({name: b"1"}, self._options.known_days * DAY)
        except MailError:
            return  # the next message says so again
        self._noted[name] = None
        if len(self._noted) > _WRITTEN:
            self._noted.popitem(last=False)


@attrs.define(eq=False)
class _Client(Screen):
    """One connection, whose address is looked up once."""

    _policy: Greylist
    _good: bool | None = None

    async def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Verdict:
        """See `IScreen`."""
        origin = transaction.origin
        if origin.user:
            if not origin.rehearsal:
                await self._policy.note(recipient.address)
            return ACCEPT
        if is_open(recipient) or not self._policy.concerns(origin):
            return ACCEPT
        if self._good is None:
            self._good = await self._policy.is_good(origin.peer)
        return ACCEPT if self._good else await self._policy.judge(transaction, recipient)


def network_of(peer: str) -> str:
    """The network that servers of one operator send from: an IPv4 /24 or an IPv6 /64; the text as it is for what is no
    address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    address = getattr(address, "ipv4_mapped", None) or address
    return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))


def normalised(sender: Address | None) -> str:
    """The sender without what changes from message to message: details, the numbers of VERP, and the signatures and
    dates of BATV and SRS. "" for the null one."""
    if sender is None:
        return ""
    local = fold_local(sender.local)
    if signed := _BATV.fullmatch(local):
        local = signed[1]
    if rewritten := _SRS.fullmatch(local):
        inner = rewritten[2]
        stamped = _STAMPED.fullmatch(inner)
        local = f"{rewritten[1]}={stamped[1] if stamped and rewritten[1] == 'srs0' else inner}"
    return f"{_TOKEN.sub('#', local.partition('+')[0] or local)}@{sender.ascii_domain}"


def _name(prefix: str, *parts: str) -> str:
    """Of an entry of the state: as long for short addresses as for long ones."""
    return prefix + blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
