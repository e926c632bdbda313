"""Hands messages to other servers: one server after the other, until each recipient has an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby

import attrs
from zope.interface import implementer

from mailhub.delivery.authentication.signer import Signer
from mailhub.delivery.limits import RelayAddresses, TransmitLimits
from mailhub.delivery.notices import told_of_delay
from mailhub.delivery.plan import recipient_of
from mailhub.delivery.relay.exchangers import SMTP_PORT, interleaved, is_address
from mailhub.delivery.relay.forms import Form, Forms
from mailhub.delivery.relay.peers import Line, Peer, Peers
from mailhub.delivery.relay.security import Security
from mailhub.delivery.relay.servers import Server, no_way, server_at, servers_of
from mailhub.delivery.relay.tls_policy import CERTIFICATE_FAILURES, SUBMISSIONS_PORT, Demand
from mailhub.delivery.relay.tls_reports import NO_STARTTLS, OTHER
from mailhub.errors import MailError, PermanentError, TemporaryError
from mailhub.interfaces import (
    AT_ONCE,
    Delivery,
    Environment,
    HostAddresses,
    IClientTls,
    IRelay,
    ITransmitter,
    NextHop,
)
from mailhub.log import Logger
from mailhub.message.address import Address
from mailhub.message.convert import CannotConvert
from mailhub.message.envelope import Outcome, Reach, Recipient, Source, State
from mailhub.message.needs import Needs, Offer
from mailhub.net.networks import may_be_sent_to
from mailhub.net.smtp_client import SessionFailed, SmtpConnection, SmtpTimeouts, connect
from mailhub.wire.smtp.client import SmtpClientSettings
from mailhub.wire.smtp.outgoing import TOO_MANY

_log = Logger(namespace="mailhub.delivery.smtp")

LMTP_PORT = 24
_LOOP = Outcome.failed("We are the best mail exchanger of this domain but do not serve it", status="5.4.6")
_WHAT_IT_SAYS = Offer(eight_bit=True, smtputf8=True, binary=True)  # no less than a server can offer
# RFC 8689 4.2.1: it does not offer REQUIRETLS, or shows no TLS that does.
_NO_REQUIRETLS, _NO_ENCRYPTION = "5.7.30", "5.7.10"
# What we say where a server does not offer TLS that it must have, or has no certificate that is good for it.
_NO_TLS, _NO_CERTIFICATE = "4.7.4", "4.7.5"
# RFC 3463 3.7, RFC 6531 5: media not supported, conversion required but not supported, header in UTF-8.
_UNFIT = frozenset({"5.6.1", "5.6.3", "5.6.9"})


@attrs.frozen(cache_hash=True)
class _Place:
    """One address of a server, and how to talk to it: connections to equal places are as good as one another."""

    server: Server
    address: str


@attrs.define
class _Said:
    """What came of one transaction: the outcomes of those asked for, and who is still to be asked for at this server.
    `usable`: the connection is. `in_doubt`: the server may have the message, so that another could double it."""

    told: Mapping[Address, Outcome]
    waiting: Sequence[Address] = ()
    usable: bool = True
    in_doubt: bool = False


@attrs.define
class _Way:
    """One transaction's way from server to server: who is left, and what was said of each recipient so far.

    `named` is what is said of each in RCPT. `lacking` are servers that were reached and have less than the message
    needs; with the most that each is believed to have, whatever it offers.
    """

    delivery: Delivery
    forms: Forms
    named: Mapping[Address, Recipient]
    left: list[Address]
    answers: dict[Address, Outcome] = attrs.field(factory=dict)
    lacking: dict[_Place, Offer] = attrs.field(factory=dict)

    def tell(self, told: Mapping[Address, Outcome], *, in_doubt: bool = False) -> None:
        """What a server said of the recipients that it was asked for. `in_doubt`: it may have the message for those of
        whom it has said nothing, so that another could double it."""
        for each, outcome in told.items():
            before = self.answers.get(each)
            if before is not None and before.reach.value < outcome.reach.value:
                # Whatever is said last, one of them was reached.
                outcome = attrs.evolve(outcome, reach=before.reach)
            self.answers[each] = outcome
        done = {
            each
            for each, outcome in told.items()
            if outcome.state is not State.DELAYED or (in_doubt and outcome.source is not Source.REMOTE)
        }
        self.left = [each for each in self.left if each not in done]

    def note(self, told: Mapping[Address, Outcome]) -> None:
        """Why a server cannot be asked, which is not the last word where another said "later"."""
        for each, outcome in told.items():
            if each not in self.answers or self.answers[each].state is State.FAILED:
                self.answers[each] = outcome

    def sayable(self, place: _Place, offer: Offer, waiting: Sequence[Address]) -> list[Address]:
        """Those of them whom this server can be asked for; a local part has no form without SMTPUTF8."""
        sender = self.delivery.mail.reverse_path
        if offer.smtputf8 or all(each.local.isascii() for each in [*waiting, *([sender] if sender else [])]):
            return list(waiting)
        lacks = Outcome.failed(
            "Address needs SMTPUTF8, which the server does not take",
            status="5.6.7",
            remote=place.server.host,
            source=Source.SESSION,
        )
        found = [each for each in waiting if each.local.isascii() and (sender is None or sender.local.isascii())]
        self.note(dict.fromkeys([each for each in waiting if each not in found], lacks))
        return found


@implementer(ITransmitter)
class Transmitter:
    """An SMTP and LMTP client; keeps connections for the next message."""

    def __init__(
        self,
        hostname: str,
        environment: Environment,
        tls: IClientTls | None,
        limits: TransmitLimits | None = None,
        timeouts: SmtpTimeouts | None = None,
        addresses: RelayAddresses | None = None,
        security: Security | None = None,
        signer: Callable[[], Signer] | None = None,
    ) -> None:
        addresses = addresses or RelayAddresses()
        self._own = frozenset(map(ip_address, addresses.own))
        self._source = addresses.source
        self._hostname = hostname
        self._environment = environment
        self._tls = tls
        self._limits = limits = limits or TransmitLimits()
        self._timeouts = timeouts
        self._peers = Peers(environment.clock, limits)
        self._signer = signer
        self._security = security or Security(environment.resolver)

    async def smtp(self, delivery: Delivery, hop: NextHop | None = None) -> Mapping[int, Outcome]:
        """See `ITransmitter`."""
        try:
            hop = self._from(hop or NextHop())
            if hop.host:
                servers = [server_at(hop, SMTP_PORT)]
            else:
                domain = delivery.recipients[0].route.recipient.ascii_domain
                servers = await servers_of(domain, hop, self._hostname, self._environment)
        except MailError as error:
            return dict.fromkeys((row.id for row in delivery.recipients), no_way(error))
        return await self.transmit(delivery, servers)

    async def lmtp(self, delivery: Delivery, hop: NextHop) -> Mapping[int, Outcome]:
        """See `ITransmitter`."""
        try:
            server = server_at(self._from(hop), LMTP_PORT, lmtp=True)
        except MailError as error:
            return dict.fromkeys((row.id for row in delivery.recipients), no_way(error))
        return await self.transmit(delivery, [server])

    async def transmit(self, delivery: Delivery, servers: Sequence[Server]) -> Mapping[int, Outcome]:
        """Try the servers in order. Every recipient gets an outcome."""
        outcomes: dict[int, Outcome] = {}
        rows = delivery.recipients
        forms = Forms(delivery, self._environment.threads, self._signer and self._signer())
        try:
            for start in range(0, len(rows), self._limits.recipients):
                group = rows[start : start + self._limits.recipients]
                named = {row.route.recipient: recipient_of(row.route) for row in group}
                answers = await self._carry(delivery, forms, servers, named)
                lacking = [each for each, said in answers.items() if said.status in (_NO_REQUIRETLS, _NO_ENCRYPTION)]
                if lacking and delivery.mail.reverse_path is None:
                    # RFC 8689 5: rather so than that nobody ever hears of a failure.
                    bare = attrs.evolve(delivery, mail=attrs.evolve(delivery.mail, requiretls=False))
                    named = {each: named[each] for each in lacking}
                    answers = {**answers, **await self._carry(bare, forms, servers, named)}
                outcomes.update((row.id, answers[row.route.recipient]) for row in group)
        finally:
            forms.close()
        return outcomes

    def _from(self, hop: NextHop) -> NextHop:
        """With where connections come from."""
        return hop if hop.source_address or not self._source else attrs.evolve(hop, source_address=self._source)

    async def stop(self) -> None:
        """Say goodbye on the connections that are kept."""
        await self._peers.close()

    # --- One transaction, on as many servers as it takes -----------------------------------------------------------

    async def _carry(
        self, delivery: Delivery, forms: Forms, servers: Sequence[Server], named: Mapping[Address, Recipient]
    ) -> Mapping[Address, Outcome]:
        way = _Way(delivery, forms, named, list(named))
        tries = self._limits.addresses
        urgent = any(row.due == AT_ONCE for row in delivery.recipients)
        full = []
        async for server in self._better_than_us(servers, way):
            found = await self._places(server, way)
            if isinstance(found, Outcome):
                way.note(dict.fromkeys(way.left, found))
                continue
            for place in found[:tries]:
                peer = self._peers.at(place)
                if urgent:
                    peer.back()
                if peer.is_full(self._environment.clock.seconds()):
                    full.append(place)
                else:
                    await self._try(place, way)
                tries -= 1
                if not way.left:
                    return way.answers
            if not tries:
                break
        # Nobody else has room for it: wait in line for the best.
        for place in full[:1]:
            await self._try(place, way)
        # Nobody takes it as it is, or not now: those who were reached get what they can take.
        for place, most in way.lacking.items():
            if way.left:
                await self._try(place, way, most)
        return way.answers

    async def _better_than_us(self, servers: Sequence[Server], way: _Way) -> AsyncIterator[Server]:
        """Those before the first that has an address of ours: of its preference and below nobody is tried, lest two
        exchangers send mail back and forth (RFC 5321 5.1)."""
        for _, same in groupby(servers, key=lambda each: each.preference):
            group = list(same)
            if self._own and any([each.found_by_dns and await self._is_ours(each.host) for each in group]):
                way.note(dict.fromkeys(way.left, _LOOP))
                return
            for each in group:
                yield each

    async def _is_ours(self, host: str) -> bool:
        try:
            found = (await self._where(host)).addresses
        except TemporaryError:
            return False  # it is asked again where it is to be tried
        return any(ip_address(each.partition("%")[0]) in self._own for each in found)

    async def _places(self, server: Server, way: _Way) -> Sequence[_Place] | Outcome:
        """Where a server is, and how to talk to it there, or why it cannot be tried."""
        try:
            where = await self._where(server.host)
            found = where.addresses
            usable = [each for each in found if not server.found_by_dns or may_be_sent_to(each)]
            if usable:
                demanding = await self._demanding(server, where, way)
                return [_Place(demanding, each) for each in interleaved(usable)]
        except TemporaryError as error:
            return Outcome.delayed(error.text, status=error.status, remote=server.host, reach=Reach.UNREACHED)
        except PermanentError as error:
            return Outcome.failed(error.text, status=error.status, remote=server.host)
        if not server.found_by_dns:
            # The operator's own next hop: a mistake to mend, not the sender's fault.
            return Outcome.delayed("Next hop has no address", status="4.4.4", remote=server.host, reach=Reach.UNREACHED)
        if found:
            return Outcome.failed("Mail exchanger has no address on the network", status="5.4.6", remote=server.host)
        return Outcome.failed("Host has no address", status="5.4.4", remote=server.host)

    async def _demanding(self, server: Server, where: HostAddresses, way: _Way) -> Server:
        """A server with what it is to show before it gets this message. Raises MailError where it must not be used."""
        if way.delivery.mail.requiretls and not server.lmtp:
            return await self._security.required(server, where)
        is_published = server.tls == "opportunistic" and server.credentials is None
        try:
            demanding = await self._security.demanded(server, where)
        except TemporaryError:
            if not (is_published and await way.forms.asks_for_no_tls()):
                raise
        else:
            if way.delivery.mail.reverse_path is None and await way.forms.is_tls_report():
                # RFC 8460 3: such a session is not counted.
                demanding = attrs.evolve(demanding, used=None)
            needs_tls = demanding.demand is not None and demanding.demand.needs_tls
            if not (needs_tls and is_published and await way.forms.asks_for_no_tls()):
                return demanding
        return attrs.evolve(server, demand=Demand(server.tls, server.host))

    async def _where(self, host: str) -> HostAddresses:
        if host.startswith("unix:") or is_address(host):
            return HostAddresses((host,))
        return await self._environment.resolver.host(host)

    async def _try(self, place: _Place, way: _Way, most: Offer | None = None) -> None:
        """Have a server take what is left, in as many transactions as it wants; with `most`, in the form for what it
        has of that."""
        waiting: Sequence[Address] = list(way.left)
        while waiting:
            said = await self._transact(place, way, waiting, most)
            way.tell(said.told, in_doubt=said.in_doubt)
            waiting = said.waiting

    async def _transact(self, place: _Place, way: _Way, waiting: Sequence[Address], most: Offer | None) -> _Said:
        peer = self._peers.at(place)
        while (kept := await self._peers.kept(peer)) is not None:
            said = await self._send(place, peer, kept, way, waiting, most)
            # The server may have closed a kept connection just as we used it again.
            if said.usable or said.in_doubt or not _all_delayed(said.told):
                return said
        yields = way.delivery.yields
        opened = peer.why(self._environment.clock.seconds()) or await self._peers.open(
            peer, lambda: self._open(place, yields)
        )
        if isinstance(opened, Outcome) and opened.status in (_NO_TLS, _NO_CERTIFICATE) and way.delivery.mail.requiretls:
            opened = Outcome.failed(
                "Encryption needed: " + opened.reply, status=_NO_ENCRYPTION, remote=opened.remote, source=Source.SESSION
            )
        if isinstance(opened, Outcome) and opened.state is State.FAILED:
            # It takes no mail, which says nothing of the others; nor of those behind ourselves, which are not tried.
            way.note(dict.fromkeys(waiting, opened))
            way.left = [] if opened == _LOOP else way.left
            return _Said({})
        if isinstance(opened, Outcome):
            return _Said(dict.fromkeys(waiting, opened))
        return await self._send(place, peer, opened, way, waiting, most)

    async def _send(
        self, place: _Place, peer: Peer, line: Line, way: _Way, waiting: Sequence[Address], most: Offer | None
    ) -> _Said:
        try:
            return await self._offer(place, line, way, waiting, most)
        finally:
            self._peers.done(peer, line)

    async def _offer(
        self, place: _Place, line: Line, way: _Way, waiting: Sequence[Address], most: Offer | None
    ) -> _Said:
        connection, hop = line.connection, line.connection.hop
        sayable = way.sayable(place, hop.offer, waiting)
        form = await self._form(place, way, hop.offer, most) if sayable else None
        if form is None:
            return _Said({}, usable=connection.usable)
        batch = hop.limits.batch(sayable)
        asked = [way.named[each] for each in batch]
        if way.delivery.mail.by is not None and "DELIVERBY" not in hop.keywords:
            asked = [told_of_delay(each, way.delivery.mail.by) for each in asked]
        said = await connection.send(way.delivery.mail, asked, form.body, needs=form.needs)
        line.used += 1
        protocol, tls, by = _protocol(place), connection.tls_name, "DELIVERBY" in hop.keywords
        told = {
            each: outcome if outcome.source is Source.OURS else outcome.said_by_hop(protocol, tls, dsn=hop.dsn, by=by)
            for each, outcome in zip(batch, said, strict=True)
        }
        others = [each for each in sayable if each not in told]
        if not _all_delayed(told):
            # RFC 5321 4.5.3.1.10: those too many for one transaction go in another at once.
            others += [each for each in batch if told[each].status == TOO_MANY and told[each].state is State.DELAYED]
        elif connection.took_recipients or not connection.usable:
            # What has kept the message from these keeps it from the others.
            told |= dict.fromkeys(others, said[0])
            others = []
        return _Said(_last_words(told, place, way, form), others, connection.usable, connection.in_doubt)

    async def _form(self, place: _Place, way: _Way, offer: Offer, most: Offer | None) -> Form | None:
        """What to send to a server; None, with the outcomes noted, where it takes it in no form, or not before others
        were asked."""
        server = place.server
        form = None
        offer = offer if most is None else offer.at_most(most)
        try:
            form = await way.forms.as_it_is()
            fits = form.needs.met_by(offer)
            # A mail store behind LMTP takes more than it says.
            if fits and (server.lmtp or form.needs.declared_binary or not form.needs.binary):
                return form
            if not fits and most is None:
                way.lacking.setdefault(place, _WHAT_IT_SAYS)
                way.note(dict.fromkeys(way.left, _lacks(form.needs, offer, server.host)))
                return None
            made = await way.forms.for_hop(offer)
        except CannotConvert as error:
            if form is not None and form.needs.met_by(offer):
                return form
            failed = Outcome.failed(error.text, status=error.status, remote=server.host, source=Source.SESSION)
            way.note(dict.fromkeys(way.left, failed))
            return None
        except MailError as error:
            way.tell(dict.fromkeys(way.left, Outcome.delayed(error.text, status=error.status)))
            return None
        if not fits:
            _log.info("message is converted: id={id} host={host}", id=way.delivery.id, host=server.host)
        return made

    # --- Connections -----------------------------------------------------------------------------------------------

    async def _open(self, place: _Place, yields: Callable[[], bool]) -> SmtpConnection | Outcome:
        """A connection ready for a message, or why there is none."""
        demand = place.server.demand or Demand(place.server.tls, place.server.host)
        try:
            connection = await self._connect_or_fall_back(place, demand, yields)
            if place.server.found_by_dns and connection.hop.name.lower() == self._hostname.lower():
                await connection.quit()
                return _LOOP
            return connection
        except SessionFailed as error:
            return attrs.evolve(error.outcome, protocol=_protocol(place))
        except TemporaryError as error:
            return Outcome.delayed(error.text, status=error.status, remote=place.server.host)

    async def _connect_or_fall_back(self, place: _Place, demand: Demand, yields: Callable[[], bool]) -> SmtpConnection:
        try:
            return await self._connect(place, demand, yields)
        except SessionFailed as error:
            if not error.tls_failed or demand.needs_tls or place.server.port == SUBMISSIONS_PORT:
                raise
        _log.info("TLS failed, going on without: host={host} [{ip}]", host=place.server.host, ip=place.address)
        return await self._connect(place, Demand("never"), yields)

    async def _connect(self, place: _Place, demand: Demand, yields: Callable[[], bool]) -> SmtpConnection:
        server = place.server
        try:
            tls = None
            if self._tls is not None and demand.level != "never":
                tls = demand.context(self._tls, place.address)
        except ValueError:
            raise TemporaryError(f"No certificate can be for {server.host}", status="4.7.4") from None
        settings = SmtpClientSettings(
            helo=self._hostname,
            remote=server.host,
            tls="required" if demand.needs_tls else "never" if demand.level == "never" else "opportunistic",
            secure=server.port == SUBMISSIONS_PORT and demand.level != "never",
            credentials=server.credentials,
            lmtp=server.lmtp,
            extensions_off=server.extensions_off,
        )
        environment = self._environment
        try:
            connection = await connect(
                environment.network,
                environment.clock,
                place.address,
                server.port,
                settings,
                tls,
                self._timeouts,
                server.source_for(place.address),
                yields,
            )
        except SessionFailed as error:
            if error.tls_failed or error.status == _NO_TLS:
                failure = (tls.failure if tls is not None else "") or OTHER
                failure = failure if error.tls_failed else NO_STARTTLS
                reason = tls.reason if tls is not None and tls.reason else error.text
                self._security.told(server, place.address, failure, reason, error.source, error.helo)
            if tls is not None and tls.failure:
                why = CERTIFICATE_FAILURES.get(tls.failure, tls.failure)
                raise error.because(f"{why}: {tls.reason}" if tls.reason else why, "4.7.5") from None
            raise
        if demand.level != "never":
            failure, reason = (tls.failure, tls.reason) if tls is not None else ("", "")
            if not connection.secure:
                failure = NO_STARTTLS
            elif not failure:
                failure, reason = server.trouble, server.why
            self._security.told(server, place.address, failure, reason, connection.source, connection.hop.name)
        return connection


@implementer(IRelay)
@attrs.frozen
class Relay:
    """The way of a hub to other servers."""

    hostname: str
    environment: Environment
    tls: IClientTls | None
    limits: TransmitLimits
    timeouts: SmtpTimeouts
    addresses: RelayAddresses
    security: Security
    signer: Callable[[], Signer] | None = None

    def transmitter(self) -> Transmitter:
        """See `IRelay`."""
        return Transmitter(
            self.hostname,
            self.environment,
            self.tls,
            self.limits,
            self.timeouts,
            self.addresses,
            self.security,
            self.signer,
        )


def _last_words(told: Mapping[Address, Outcome], place: _Place, way: _Way, form: Form) -> Mapping[Address, Outcome]:
    """What a server said, without what another server, or another form of the message, may make better. That is noted:
    what the server could not be asked for (RFC 8689 4.2.1: then every other is to be tried), and what it, or the one
    that it sends on to, takes in another form alone (RFC 3463 3.7, X.6.3), although it offers more."""
    passed = {}
    for each, outcome in told.items():
        if outcome.state is State.DELIVERED:
            continue
        is_unfit = (form.needs.eight_bit or form.needs.declared_binary) and outcome.status in _UNFIT
        if is_unfit:
            way.lacking[place] = Offer()
        if is_unfit or (outcome.state is State.FAILED and outcome.source is Source.SESSION):
            passed[each] = outcome
    if not passed:
        return told
    way.note(passed)
    return {each: outcome for each, outcome in told.items() if each not in passed}


def _lacks(needs: Needs, offer: Offer, host: str) -> Outcome:
    status, what = "5.6.3", "Message has 8-bit content"
    if needs.declared_binary and not offer.binary:
        status, what = "5.6.1", "Message is binary"
    if needs.smtputf8 and not offer.smtputf8:
        status, what = "5.6.9", "Message has a header in UTF-8"
    return Outcome.failed(f"{what}, which the server does not take", status=status, remote=host, source=Source.SESSION)


def _protocol(place: _Place) -> str:
    return "lmtp" if place.server.lmtp else "smtp"


def _all_delayed(outcomes: Mapping[Address, Outcome]) -> bool:
    return all(outcome.state is State.DELAYED for outcome in outcomes.values())
