"""What is found out about mail from strangers: who may send for its domains (SPF), who has signed it (DKIM), whether it
is from whom it says (DMARC). All of it stands in one Authentication-Results field, and DMARC may refuse the message.

Look-ups of SPF begin at MAIL and go on while the message comes in; nothing waits for them before its end.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from zope.interface import implementer

from mailhub.checks.dkim import Verified, verify
from mailhub.checks.dmarc.evaluate import Dmarc, Identifier, evaluate
from mailhub.checks.iprev import iprev
from mailhub.checks.results import Result
from mailhub.checks.spf.check import Spf, check_host
from mailhub.delivery.authentication.options import CheckOptions
from mailhub.delivery.screening.rule import Rule
from mailhub.interfaces import (
    ACCEPT,
    Environment,
    IHub,
    IMessageView,
    IPolicy,
    ITransactionView,
    NoteResult,
    Origin,
    Screen,
    Verdict,
)
from mailhub.log import Logger
from mailhub.message.address import parse_domain, to_ascii
from mailhub.message.authors import author_domains

# The name of the policy, and of its table.
CHECKS = "checks"

_STEP_SECONDS = 10.0  # for what is looked up when the message is there, beside all else that is
_log = Logger(namespace="mailhub.delivery")

T = TypeVar("T")


@attrs.frozen
class Findings:
    """All that was found out about one message. None: it was not looked at."""

    spf: Spf | None = None
    spf_of_helo: Spf | None = None
    dkim: Sequence[Verified] | None = None
    dmarc: Dmarc | None = None
    iprev: Result | None = None


@implementer(IPolicy)
@attrs.frozen(eq=False)
class MailAuthentication:
    """The policy of one hub, in front of all others."""

    options: CheckOptions
    hostname: str
    environment: Environment
    rule: Rule

    @classmethod
    def of(cls, _options: object, hub: IHub) -> MailAuthentication:
        """The policy of a hub."""
        return cls(hub.settings.of(CheckOptions), hub.hostname, hub.environment, Rule.of(hub))

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return _OfConnection(self) if self.rule.concerns(origin) else Screen()

    def spf(self, origin: Origin, sender: str, domain: str) -> Coroutine[Any, Any, Spf]:
        """Whether the client may use a domain."""
        return check_host(
            origin.peer,
            domain,
            sender,
            origin.helo,
            self.environment.resolver,
            clock=self.environment.clock,
            hostname=self.hostname,
            now=self.environment.now(),
        )

    def judged(self, dmarc: Dmarc, origin: Origin, notes: Sequence[NoteResult]) -> Verdict:
        """What becomes of a message that is not from whom it says."""
        if self.options.dmarc != "enforce" or dmarc.policy == "none" or origin.peer in self.options.forwarders:
            return Verdict(edits=notes)
        if dmarc.policy == "quarantine":
            return Verdict("quarantine", edits=notes)
        text = f"{dmarc.domain} wants mail refused that neither SPF nor DKIM says is from there"
        return Verdict("reject", "5.7.1", text, rule="dmarc")

    async def in_time(self, asked: Coroutine[Any, Any, T], late: T) -> T:
        """What it gives, or, after its time, `late`."""
        waiting = Deferred.fromCoroutine(asked)
        waiting.addTimeout(_STEP_SECONDS, self.environment.clock)
        try:
            return await waiting
        except TimeoutError:
            return late


@attrs.define(eq=False)
class _OfConnection(Screen):
    """The screen of one connection. What was begun at MAIL is of the transaction that is open."""

    _policy: MailAuthentication
    _spf: Deferred[Spf] | None = None
    _spf_of_helo: Deferred[Spf] | None = None
    _iprev: Deferred[Result] | None = None

    def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        self._spf = self._spf_of_helo = None
        policy, origin = self._policy, transaction.origin
        if not policy.rule.concerns(origin):
            return ACCEPT
        if policy.options.iprev and self._iprev is None:
            self._iprev = Deferred.fromCoroutine(iprev(origin.peer, policy.environment.resolver))
        if policy.options.spf:
            sender, helo = transaction.mail.reverse_path, _domain(origin.helo)
            if helo:
                self._spf_of_helo = Deferred.fromCoroutine(policy.spf(origin, f"postmaster@{helo}", helo))
            if sender is not None:
                domain = sender.ascii_domain
                self._spf = Deferred.fromCoroutine(policy.spf(origin, f"{sender.local}@{domain}", domain))
        return ACCEPT

    async def message(self, message: IMessageView) -> Verdict:
        """See `IScreen`."""
        policy = self._policy
        if not policy.rule.concerns(message.origin):
            return ACCEPT
        if policy.options.dmarc == "enforce" and author_domains(message.header)[0] > 1:
            # Which of them a reader is shown, nobody knows.
            return Verdict("reject", "5.7.1", "Message has several From fields", rule="dmarc")
        found = await self._findings(message)
        notes = [NoteResult(str(each)) for each in results(found, message)]
        if found.dmarc is None or found.dmarc.value != "fail":
            return Verdict(edits=notes)
        return policy.judged(found.dmarc, message.origin, notes)

    async def _findings(self, message: IMessageView) -> Findings:
        """Raises StoreUnavailable, where the message cannot be read."""
        policy, options = self._policy, self._policy.options
        environment = policy.environment
        dkim: Sequence[Verified] | None = None
        if options.dkim:
            late = (Verified("temperror", "keys cannot be looked up in time"),)
            asked = verify(message.header, message, environment.resolver, environment.now())
            dkim = await policy.in_time(asked, late)
        spf = None if self._spf is None else await self._spf
        of_helo = None if self._spf_of_helo is None else await self._spf_of_helo
        dmarc = None
        if options.dmarc != "off":
            dmarc = await self._dmarc(message, spf if message.mail.reverse_path else of_helo, dkim or ())
        return Findings(spf, of_helo, dkim, dmarc, None if self._iprev is None else await self._iprev)

    async def _dmarc(self, message: IMessageView, spf: Spf | None, dkim: Sequence[Verified]) -> Dmarc:
        fields, authors = author_domains(message.header)
        if fields > 1:
            return Dmarc("permerror", authors[0] if authors else "", reason="several From fields")
        asked = evaluate(
            authors,
            Identifier(spf.domain, spf.value) if spf else None,
            [Identifier(each.domain, each.value) for each in dkim if each.domain],
            self._policy.environment.resolver,
        )
        late = Dmarc("temperror", authors[0] if authors else "", reason="policy cannot be looked up in time")
        return await self._policy.in_time(asked, late)


def results(found: Findings, message: IMessageView) -> list[Result]:
    """As Authentication-Results has them, the ones that count most first."""
    given = []
    if found.dmarc is not None:
        given.append(found.dmarc.result)
    if found.spf is not None:
        given.append(Result("spf", found.spf.value, (("smtp.mailfrom", str(message.mail.reverse_path)),)))
    if found.spf_of_helo is not None:
        given.append(Result("spf", found.spf_of_helo.value, (("smtp.helo", found.spf_of_helo.domain),)))
    if found.dkim is not None:
        given += [each.result for each in found.dkim] or [Result("dkim", "none")]
    if found.iprev is not None:
        given.append(found.iprev)
    return given


def _domain(helo: str) -> str:
    """What the client calls itself, as A-labels; "" for what is no domain."""
    try:
        domain = parse_domain(helo)
        domain = domain if domain.isascii() else to_ascii(domain)
    except ValueError:
        return ""
    return "" if domain.startswith("[") else domain
