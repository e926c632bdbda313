"""Signs what leaves our users' hands (RFC 6376 5): what they submit, and mail of our own. Never what a stranger sent.

A signature is made last, when nothing changes the message any more, and is kept with it: mailboxes here and next hops
see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import attrs

from mailhub.checks.dkim import Body, hash_of_body
from mailhub.checks.signing import SigningKey, dkim_signatures
from mailhub.delivery.authentication.keys import PART, ActiveKeys, KeptKeys, and_above
from mailhub.delivery.authentication.options import SigningOptions
from mailhub.delivery.authentication.own_signatures import OwnSignatures
from mailhub.interfaces import Environment, IDatabase, ISettings
from mailhub.message.authors import author_domains
from mailhub.message.header import fields_end, raw_fields
from mailhub.store.octets import OctetsReader

AUTHORS_LIMIT = 3  # domains of one message that sign it

T = TypeVar("T")


class SigningHub(Protocol):
    """What is used of it."""

    @property
    def hostname(self) -> str: ...
    @property
    def domains(self) -> Iterable[str]: ...
    @property
    def environment(self) -> Environment: ...
    @property
    def settings(self) -> ISettings: ...
    @property
    def database(self) -> IDatabase: ...
    def shared(self, name: str, make: Callable[[], T]) -> T: ...


@attrs.frozen(eq=False)
class Signer:
    """Of one hub. `domains` are the local ones as they are now."""

    options: SigningOptions
    active: ActiveKeys
    environment: Environment
    hostname: str
    domains: Callable[[], Iterable[str]]

    @classmethod
    def of(cls, hub: SigningHub) -> Signer:
        """Its keys are the same for all parts of a hub."""

        def keys() -> ActiveKeys:
            return ActiveKeys(KeptKeys(hub.database.state.of(PART)), hub.environment.clock)

        active: ActiveKeys = hub.shared("dkim keys", keys)
        settings: Any = hub.settings
        return cls(settings.of(SigningOptions), active, hub.environment, hub.hostname, lambda: hub.domains)

    async def is_needed(self) -> bool:
        """Whether anything can be signed. Raises StoreUnavailable."""
        if not self.options.sign:
            return False
        await self.active.refresh()
        return self.active.any

    @property
    def ready(self) -> bool:
        """The same, as far as it was known when it was asked last."""
        return self.options.sign and self.active.any

    async def keys(self, domain: str) -> Sequence[SigningKey]:
        """The active ones of a domain (A-labels). Raises StoreUnavailable."""
        await self.active.refresh()
        return self.active.of(domain)

    async def sealing_key(self) -> SigningKey | None:
        """One of RSA, which everybody can verify, of the host's domain or else of one that is local; None where there
        is none. Raises StoreUnavailable."""
        await self.active.refresh()
        for domain in [*and_above(self.hostname), *sorted(self.domains())]:
            for key in self.active.of(domain):
                if key.algorithm == "rsa-sha256":
                    return key
        return None

    async def fields(self, header: bytes, body: Body, domain: str = "") -> bytes:
        """DKIM-Signature fields, to be put on top of a message: for each domain in From, or for `domain` (A-labels)
        alone, by the keys of it or of the nearest one above it. Nothing where there are no keys. `body` begins with the
        empty line. Raises StoreUnavailable."""
        if not await self.is_needed():
            return b""
        domains = [domain] if domain else author_domains(header).domains
        found = [keys for each in domains if (keys := self.active.for_domain(each))]
        keys = list(dict.fromkeys(key for some in found[:AUTHORS_LIMIT] for key in some))
        if not keys:
            return b""
        body_hash = await hash_of_body(body, "relaxed")
        return dkim_signatures(keys, list(raw_fields(header)), body_hash, self.environment.now())

    async def own(self, header: bytes) -> OwnSignatures:
        """Signatures of ours that a message seems to have. Raises StoreUnavailable."""
        if not await self.is_needed():
            return OwnSignatures((), {}, 0)
        return OwnSignatures.of(header, self.active.by_name, self.active.by_domain, self.environment.now())

    async def of_list(self, domain: str, came: bytes, header: bytes, body: Body) -> bytes:
        """What `fields` gives for the message of a list in `domain`. Where its author has an address of ours, that has
        to be so: it has to have come with a good signature of ours, in its header as it `came`. Raises
        StoreUnavailable."""
        if not await self.is_needed() or not header:
            return b""
        author, ours = author_domains(came), {domain, *self.domains()}
        if author.doubtful or any(each in ours or self.active.for_domain(each) for each in author.domains):
            found = await self.own(came)
            if not found or not found.good(came, await hash_of_body(body, "relaxed")):
                return b""
        return await self.fields(header, body, domain)

    async def signed(self, octets: bytes, domain: str = "") -> bytes:
        """A message of our own with its signatures on top. Raises StoreUnavailable."""
        if not await self.is_needed():
            return octets
        end = fields_end(octets, 0, len(octets))
        return await self.fields(octets[:end], OctetsReader(octets[end:]), domain) + octets
