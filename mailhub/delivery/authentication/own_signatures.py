"""Signatures of ours that a message has already: whether they are good, and others in their place, where it leaves in
another form than it was signed in.

Pure, for it may be done in a thread. That they are good shows that the message is one that we have signed: a stranger
may write any field, and must not have us sign for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from mailhub.checks.canonical import BodyHash
from mailhub.checks.keys import PublicKey
from mailhub.checks.signature import Signature, SignatureFault, parse_signature
from mailhub.checks.signing import SigningKey, dkim_signatures
from mailhub.keys import DAY
from mailhub.message.header import Octets, fields_end, raw_fields

LIMIT = 10  # that are looked at
# Longer than a message can be in the queue, be it held: an older one is of another journey.
OURS_SECONDS = 40 * DAY
_BLOCK = 1 << 16  # octets
_CRLF = b"\r\n"


@attrs.frozen
class OwnSignatures:
    """Those in one header that name keys of ours, each with its key. `active` are the keys that sign now, by the name
    of a domain; `now` in seconds since the epoch."""

    found: Sequence[tuple[Signature, SigningKey]]
    active: Mapping[str, Sequence[SigningKey]]
    now: int

    @classmethod
    def of(
        cls,
        header: bytes,
        known: Mapping[tuple[str, str], SigningKey],
        active: Mapping[str, Sequence[SigningKey]],
        now: int,
    ) -> OwnSignatures:
        """Those of a header. `known`: all our keys, by domain and selector."""
        found = []
        fields = [octets for name, octets in raw_fields(header) if name == b"dkim-signature"]
        for octets in fields[:LIMIT]:
            try:
                signature = parse_signature(octets)
            except SignatureFault:
                continue
            key = known.get((signature.domain, signature.selector))
            made = signature.timestamp
            if key is None or signature.algorithm != key.algorithm or signature.limit is not None or made is None:
                continue
            if signature.body_form == "relaxed" and abs(now - made) <= OURS_SECONDS:
                found.append((signature, key))
        return cls(found, active, now)

    def __bool__(self) -> bool:
        return bool(self.found)

    def good(self, header: bytes, body_hash: bytes) -> OwnSignatures:
        """Those that are what they claim to be. `body_hash` is that of the relaxed form."""
        fields = list(raw_fields(header))
        good = []
        for signature, key in self.found:
            public = PublicKey(key.private.public_key())
            if signature.body_hash == body_hash and public.verify(signature.signature, signature.digest(fields)):
                good.append((signature, key))
        return attrs.evolve(self, found=good)

    def good_in(self, octets: Octets) -> OwnSignatures:
        """The same for a whole message."""
        end = fields_end(octets, 0, len(octets))
        return self.good(octets[:end], _body_hash(octets, end)) if self.found else self

    def again(self, octets: Octets) -> tuple[bytes, int]:
        """What becomes of the header of the message in its new form, and how many octets that is in the place of: other
        signatures on top, and without these, which are broken. As it is where there is no key any more."""
        end = fields_end(octets, 0, len(octets))
        header = octets[:end]
        domains = {key.domain for _, key in self.found}
        keys = [key for domain in sorted(domains) for key in self.active.get(domain, ())]
        if not keys:
            return header, end
        broken = {signature.field for signature, _ in self.found}
        fields = [(name, field) for name, field in raw_fields(header) if field not in broken]
        signed = dkim_signatures(keys, fields, _body_hash(octets, end), self.now)
        return signed + b"".join([field for _, field in fields]), end


def _body_hash(octets: Octets, end: int) -> bytes:
    found = BodyHash("relaxed")
    for block in _blocks(octets, end):
        found.update(block)
    return found.digest()


def _blocks(octets: Octets, end: int) -> Iterator[bytes]:
    """What follows the empty line."""
    start = end + len(_CRLF) if octets[end : end + len(_CRLF)] == _CRLF else end
    while start < len(octets):
        yield octets[start : start + _BLOCK]
        start += _BLOCK
