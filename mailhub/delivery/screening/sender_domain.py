"""Senders whom nobody can answer: their domain is not in DNS, or says that it takes no mail (RFC 7505)."""

from __future__ import annotations

import attrs
from zope.interface import implementer

from mailhub.delivery.screening.rule import Rule
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import ACCEPT, IHub, IPolicy, ITransactionView, Origin, Screen, Verdict


@implementer(IPolicy)
@attrs.frozen(eq=False)
class SenderDomain(Screen):
    """Refuses MAIL by the domain of the reverse-path. Address literals and our own domains are not looked up."""

    _hub: IHub
    _rule: Rule

    @classmethod
    def of(cls, _options: object, hub: IHub) -> SenderDomain:
        """The policy of a hub."""
        return cls(hub, Rule.of(hub))

    def begin(self, origin: Origin) -> Screen:
        """See `IPolicy`."""
        return self if self._rule.concerns(origin) else Screen()

    async def mail(self, transaction: ITransactionView) -> Verdict:
        """See `IScreen`."""
        sender = transaction.mail.reverse_path
        if sender is None or sender.domain.startswith("[") or not self._rule.concerns(transaction.origin):
            return ACCEPT
        domain = sender.ascii_domain
        if domain in self._hub.domains:
            return ACCEPT
        resolver = self._hub.environment.resolver
        try:
            exchangers = await resolver.mail_exchangers(domain)
            if not exchangers and not await resolver.addresses(domain):
                return self._rule.reject("5.1.8", "Sender domain has neither a mail exchanger nor an address")
        except PermanentError as error:
            return self._rule.reject("5.1.8", f"Sender domain cannot be answered: {error.text}")
        except TemporaryError:
            return self._rule.defer("4.1.8", "Sender domain cannot be looked up now")
        if all(not exchanger.host for exchanger in exchangers) and exchangers:
            # RFC 7505 4.2
            return self._rule.reject("5.7.27", "Sender domain says that it takes no mail (null MX)")
        return ACCEPT
