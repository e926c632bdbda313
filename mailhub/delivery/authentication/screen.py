"""What is found out about mail from strangers: who may send for its domains (SPF), who has signed it (DKIM), whether it
is from whom it says (DMARC), who has sealed it on its way (ARC). All of it stands in one Authentication-Results field,
and DMARC may refuse the message.

Look-ups of SPF begin at MAIL and go on while the message comes in; all others begin together at its end. What DNS has
not said in time, or a fault of ours keeps us from knowing, refuses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs
from twisted.internet.defer import CancelledError
from zope.interface import implementer

from mailhub.checks.arc.trust import passed_at
from mailhub.checks.arc.validate import Chain, validate
from mailhub.checks.bimi import Bimi, bimi
from mailhub.checks.dkim import Verified, verify
from mailhub.checks.dmarc.evaluate import AUTHORS_LIMIT, Dmarc, Identifier, evaluate
from mailhub.checks.dmarc.walk import Walked, Walks
from mailhub.checks.iprev import iprev
from mailhub.checks.results import Result
from mailhub.checks.spf.check import Spf, check_host
from mailhub.delivery.authentication.asking import Begun, InTime, Recent
from mailhub.delivery.authentication.findings import Findings
from mailhub.delivery.authentication.options import CheckOptions
from mailhub.delivery.authentication.reports import SHARED, DmarcReports
from mailhub.delivery.authentication.seen import Seen
from mailhub.delivery.screening.rule import Rule
from mailhub.errors import MailError
from mailhub.interfaces import (
    ACCEPT,
    Environment,
    IHub,
    IMessageView,
    IPolicy,
    IResolver,
    ITransactionView,
    NoteResult,
    Origin,
    Screen,
    Verdict,
)
from mailhub.interfaces.screens import Said
from mailhub.log import Logger
from mailhub.message.address import parse_domain, to_ascii
from mailhub.message.authors import AuthorDomains, author_domains

TIME_LIMIT = 20.0  # seconds from the end of a message until everything about it is known; a policy has 30
_REFUSED = 550  # RFC 7372, and what receivers say for DMARC
_FAULT = "cannot be found out now"
_EMPTY_LINE = b"\r\n"

_log = Logger(namespace="mailhub.delivery")


@implementer(IPolicy)
@attrs.frozen(eq=False)
class MailAuthentication:
    """The policy of one hub, in front of all others."""

    options: CheckOptions
    hostname: str
    environment: Environment
    rule: Rule
    reports: DmarcReports
    # By client and domain.
    known_spf: Recent[tuple[str, str], Spf]
    known_walks: Recent[str, Walked]

    @classmethod
    def of(cls, _options: object, hub: IHub) -> MailAuthentication:
        """The policy of a hub."""
        environment = hub.environment
        options = hub.settings.of(CheckOptions)
        reports = hub.shared(SHARED, lambda: DmarcReports.of(environment, hub.database.state, lambda: cast(Any, hub)))
        spf, walks = Recent[tuple[str, str], Spf](environment.clock), Recent[str, Walked](environment.clock)
        return cls(options, hub.hostname, environment, Rule.of(hub), reports, spf, walks)

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        if self.options.of_strangers and self.rule.concerns(origin):
            return _OfStranger(self)
        return _OfUser() if self.options.auth else Screen()

    def resolver(self) -> IResolver:
        """DNS, for as long as a message may take."""
        clock = self.environment.clock
        return InTime(self.environment.resolver, clock, clock.seconds() + TIME_LIMIT)

    async def spf(self, origin: Origin, sender: str, domain: str) -> Spf:
        """Whether the client may use a domain. What is the same for all of its senders is not asked for each."""
        found = self.known_spf.get((origin.peer, domain))
        if found is None:
            found = await check_host(
                origin.peer,
                domain,
                sender,
                origin.helo,
                self.environment.resolver,
                clock=self.environment.clock,
                hostname=self.hostname,
                now=self.environment.now(),
            )
            if not found.personal and found.value != "temperror":
                self.known_spf.keep((origin.peer, domain), found)
        return found

    async def walked(self, domains: Sequence[str], resolver: IResolver) -> Walks:
        """With those of these domains begun and ended, as far as DNS answers."""
        known = {each: found for each in domains if (found := self.known_walks.get(each)) is not None}
        walks = Walks(resolver, known)
        if len(known) < len(domains):
            for each in await walks.begin([each for each in domains if each not in known]):
                self.known_walks.keep(each.domain, each)
        return walks

    def judged(self, found: Findings, authors: AuthorDomains, origin: Origin) -> Verdict:
        """What becomes of a message."""
        verdict, dmarc = _accepted(found), found.dmarc
        if dmarc is None or self.options.dmarc != "enforce" or origin.peer in self.options.forwarders:
            return verdict
        if authors.fields > 1:
            # Which of them a reader is shown, nobody knows.
            return _refused(verdict, "Message has several From fields")
        fails = dmarc.value == "fail" and not found.passed_at
        if fails and dmarc.policy == "reject":
            return _refused(verdict, f"{dmarc.domain} wants mail refused that neither SPF nor DKIM says is from there")
        if (fails and dmarc.policy == "quarantine") or authors.doubtful:
            return attrs.evolve(verdict, action="quarantine")
        return verdict


def _accepted(found: Findings) -> Verdict:
    return Verdict(edits=[*found.logo, *(NoteResult(str(each)) for each in found.results)])


def _refused(verdict: Verdict, text: str) -> Verdict:
    """With its notes, for who asks beforehand."""
    return attrs.evolve(verdict, action="reject", status="5.7.1", text=text, rule="dmarc", code=_REFUSED)


class _OfUser(Screen):
    """Says of mail of our own users that they have logged in, without saying as whom (RFC 8601 2.7.4)."""

    def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        if not transaction.origin.user:
            return ACCEPT
        # That the address is the login's has been looked at before.
        sender = transaction.mail.reverse_path
        result = Result("auth", "pass", (("smtp.mailfrom", str(sender or "")),))
        return Verdict(edits=[NoteResult(str(result))])


@attrs.define(eq=False)
class _OfStranger(Screen):
    """The screen of one connection. What was begun at MAIL is of the transaction that is open."""

    _policy: MailAuthentication
    _spf: Begun[Spf] | None = None
    _spf_of_helo: Begun[Spf] | None = None
    _iprev: Begun[Result] | None = None

    def mail(self, transaction: ITransactionView) -> Said:
        """See `IScreen`."""
        self._spf = self._spf_of_helo = None
        policy, origin = self._policy, transaction.origin
        if not policy.rule.concerns(origin):
            return _OfUser().mail(transaction) if policy.options.auth else ACCEPT
        if policy.options.iprev and self._iprev is None:
            self._iprev = Begun(iprev(origin.peer, policy.resolver()), Result("iprev", "temperror"))
        if policy.options.spf:
            sender, helo = transaction.mail.reverse_path, _domain(origin.helo)
            if helo:
                self._spf_of_helo = self._asked(origin, f"postmaster@{helo}", helo)
            if sender is not None:
                domain = sender.ascii_domain
                self._spf = self._asked(origin, f"{sender.local}@{domain}", domain)
        # Who asks beforehand may have no message.
        return self._known_at_mail(transaction) if origin.rehearsal else ACCEPT

    async def _known_at_mail(self, transaction: ITransactionView) -> Verdict:
        return _accepted(await self._of_client(transaction))

    async def _of_client(self, transaction: ITransactionView) -> Findings:
        """What is known without the message."""
        spf = None if self._spf is None else await self._spf.get()
        of_helo = None if self._spf_of_helo is None else await self._spf_of_helo.get()
        address = None if self._iprev is None else await self._iprev.get()
        client = transaction.origin.peer
        return Findings(transaction.mail.reverse_path, spf, of_helo, iprev=address, client=client)

    def _asked(self, origin: Origin, sender: str, domain: str) -> Begun[Spf]:
        return Begun(self._policy.spf(origin, sender, domain), Spf("temperror", domain, _FAULT))

    async def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        policy, origin = self._policy, message.origin
        if not policy.rule.concerns(origin):
            return ACCEPT
        try:
            authors = await _authors(message)
            found = await self._findings(message, authors)
            verdict = policy.judged(found, authors, origin)
            if not origin.rehearsal:
                _log.event("checked", {**_about(message), **found.told, "verdict": verdict.action})
                forwarder = origin.peer in policy.options.forwarders
                await policy.reports.note(Seen.of(message, found, verdict, forwarder=forwarder))
        except (MailError, CancelledError):
            raise
        except Exception:
            # Whoever sends the message is not to wait for us to mend that.
            _log.failure("mail authentication has failed: session={session}", session=origin.session_id)
            return ACCEPT
        return verdict

    async def _findings(self, message: IMessageView, authors: AuthorDomains) -> Findings:
        """Raises StoreUnavailable, where the message cannot be read."""
        options, resolver = self._policy.options, self._policy.resolver()
        dkim = arc = walking = None
        if options.dkim:
            asked = verify(message.header, message, resolver, self._policy.environment.now())
            dkim = Begun[Sequence[Verified] | None](asked, None)
        if options.arc and authors.readable:
            sealed = validate(message.header, message, resolver, self._policy.environment.now())
            arc = Begun[Chain | None](sealed, None)
        if options.dmarc != "off":
            walking = Begun(self._policy.walked(authors.domains[:AUTHORS_LIMIT], resolver), Walks(resolver))
        signatures = None if dkim is None else await dkim.get()
        chain = None if arc is None else await arc.get()
        found = await self._of_client(message)
        walks, dmarc, passed = None, None, ""
        if walking is not None:
            walks = await walking.get()
            # RFC 7208 2.4: who sends from nobody stands for the host.
            counts = found.spf if message.mail.reverse_path else found.spf_of_helo
            identifiers = [Identifier(each.domain, each.value) for each in signatures or () if each.domain]
            if dkim is not None and signatures is None:
                # Who knows what we would have found.
                identifiers = [Identifier(each, "temperror") for each in authors.domains]
            dmarc = await _dmarc(authors, counts, identifiers, walks)
            if dmarc.value == "fail" and chain is not None and len(authors.domains) == 1:
                passed = await passed_at(chain, options.arc_sealers, authors.domains[0], walks)
        if dkim is not None and signatures is None:
            signatures = (Verified("temperror", _FAULT),)
        elif dkim is not None and not authors.readable:
            signatures = (Verified("neutral", "header is too large"),)
        logo = await _logo(message, authors, dmarc, walks) if options.bimi else None
        return attrs.evolve(found, dkim=signatures, dmarc=dmarc, arc=chain, passed_at=passed, bimi=logo)


async def _authors(message: IMessageView) -> AuthorDomains:
    """Whose message it is. Raises StoreUnavailable."""
    header = message.header
    if not header and await message.read(0, len(_EMPTY_LINE)) not in (b"", _EMPTY_LINE):
        return AuthorDomains(doubtful=True, readable=False)  # it was too large to be held
    authors = author_domains(header)
    return attrs.evolve(authors, doubtful=True) if len(authors.domains) > AUTHORS_LIMIT else authors


async def _dmarc(authors: AuthorDomains, spf: Spf | None, dkim: Sequence[Identifier], walks: Walks) -> Dmarc:
    first = authors.domains[0] if authors.domains else ""
    if authors.fields > 1:
        return Dmarc("permerror", first, reason="several From fields")
    found = await evaluate(authors.domains, Identifier(spf.domain, spf.value) if spf else None, dkim, walks)
    if authors.doubtful and found.value != "fail":
        return Dmarc("permerror", first, reason="From cannot be read")
    return found


async def _logo(message: IMessageView, authors: AuthorDomains, dmarc: Dmarc | None, walks: Walks | None) -> Bimi | None:
    """That of the one domain that the message is from. None where nothing could be taken out of the header."""
    if not authors.readable:
        return None
    is_one = len(authors.domains) == 1 and not authors.doubtful
    return await bimi(message.header, dmarc if is_one else None, walks)


def _about(message: IMessageView) -> Mapping[str, object]:
    origin = message.origin
    return {"session": origin.session_id, "peer": origin.peer, "from": message.mail.reverse_path or ""}


def _domain(helo: str) -> str:
    """What the client calls itself, as A-labels; "" for what is no domain."""
    try:
        domain = parse_domain(helo)
        domain = domain if domain.isascii() else to_ascii(domain)
    except ValueError:
        return ""
    return "" if domain.startswith("[") else domain
