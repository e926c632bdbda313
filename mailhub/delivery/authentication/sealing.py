"""Seals what strangers sent and what goes on to other servers (RFC 8617 5.1): who gets it can see what was found here.

What was found is in our own Authentication-Results field, which a message has with it wherever it waits. Our set stands
above that field; it is put there last, when nothing changes the message any more.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.checks.arc.seal import seal
from mailhub.checks.arc.sets import KINDS, collect
from mailhub.checks.arc.validate import NOT_KNOWN, Chain, Value
from mailhub.checks.dkim import Body, hash_of_body
from mailhub.delivery.authentication.signer import Signer, SigningHub
from mailhub.interfaces import Environment
from mailhub.message.authentication_results import own_results
from mailhub.message.header import raw_fields

_VALUES: tuple[Value, ...] = ("none", "pass", "fail")
_NOT_KNOWN = str(Chain("fail", reason=NOT_KNOWN).result())
_RESULTS = b"authentication-results"


@attrs.frozen(eq=False)
class Sealer:
    """Of one hub. Without a key, and where nobody has looked at the chain of a message, nothing is sealed."""

    signer: Signer
    environment: Environment
    hostname: str

    @classmethod
    def of(cls, hub: SigningHub) -> Sealer:
        """Its keys are those that sign."""
        return cls(Signer.of(hub), hub.environment, hub.hostname)

    async def fields(self, header: bytes, body: Body, results: Sequence[str]) -> bytes:
        """The set for the top of a message with this header, in which what we have found need not be yet: `results`.
        `body` begins with the empty line. Raises StoreUnavailable."""
        value = _value(results)
        key = None if value is None else await self.signer.sealing_key()
        if value is None or key is None:
            return b""
        fields = list(raw_fields(header))
        body_hash = await hash_of_body(body, "relaxed")
        now = self.environment.now()
        return seal(collect(fields), value, results, self.hostname, key, fields, body_hash, now)

    async def sealed(self, header: bytes, body: Body) -> bytes:
        """The header of a message that we have kept, with our set on top: in place of the one that it went out with
        before. It is as it was where there is nothing to seal. Raises StoreUnavailable."""
        results = own_results(header, self.hostname)
        if not results:
            return header
        plain = _without_own_set(header, self.hostname)
        added = await self.fields(plain, body, results)
        return added + plain if added else header


def _value(results: Sequence[str]) -> Value | None:
    """What the chain is worth, by what we have found; None where nobody knows. An answer that DNS had not for us it may
    have for others, who could not ask any more once we had said "fail"."""
    said = next((each for each in results if each.startswith("arc=")), "")
    if said.startswith(_NOT_KNOWN):
        return None
    value = said.partition("=")[2].partition(" ")[0]
    return next((each for each in _VALUES if each == value), None)


def _without_own_set(header: bytes, hostname: str) -> bytes:
    kept = []
    above = True
    for name, octets in raw_fields(header):
        if name == _RESULTS and own_results(octets, hostname):
            above = False
        if not above or name not in KINDS:
            kept.append(octets)
    return b"".join(kept)
