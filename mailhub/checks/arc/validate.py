"""What a chain is worth (RFC 8617 5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import takewhile
from typing import Literal, TypeVar

import attrs
from twisted.internet.defer import Deferred, gatherResults

from mailhub.checks.arc.sets import ArcSet, Collected, Fields, collect
from mailhub.checks.canonical import field_in_form, without_signature
from mailhub.checks.dkim import Body, Hashes, Verified, body_fault, body_hashes, check, check_digest, hash_of
from mailhub.checks.results import Result
from mailhub.checks.signature import ALGORITHMS, Signature
from mailhub.errors import TemporaryError
from mailhub.interfaces import IResolver
from mailhub.message.header import raw_fields

Value = Literal["none", "pass", "fail"]
# What is said where nobody knows, as nothing else may be said (RFC 8617 4.4, 5.2.1).
NOT_KNOWN = "keys cannot be looked up now"

_FIELDS_LIMIT = 1000  # of a header in which signatures of older sets are looked at
_AT_ONCE = 10  # keys that are looked up side by side
_CRLF = b"\r\n"

T = TypeVar("T")


@attrs.frozen
class Chain:
    """What came of it. `oldest_pass`: the oldest set whose sealer saw the message as it is now, 0 where all have, None
    where nobody knows. `temporary`: it failed for DNS had no answer; it may pass elsewhere."""

    value: Value
    sets: Sequence[ArcSet] = ()
    oldest_pass: int | None = None
    reason: str = ""
    temporary: bool = False

    def result(self, client: str = "") -> Result:
        """As Authentication-Results has it (RFC 8617 6); `client` is the IP address that it came from."""
        oldest = "" if self.oldest_pass is None else str(self.oldest_pass)
        named = (("smtp.remote-ip", client), ("header.oldest-pass", oldest)) if self.value != "none" else ()
        return Result("arc", self.value, named, self.reason)


async def validate(header: bytes, body: Body, resolver: IResolver, now: int) -> Chain:
    """`now` in seconds since the epoch. Raises StoreUnavailable, where the body cannot be read."""
    if b"arc-" not in header.lower():
        return Chain("none")
    fields = list(raw_fields(header))
    found = collect(fields)
    if not found.highest and not found.fault:
        return Chain("none")
    if not found.sets:
        return Chain("fail", reason=found.fault)
    return await _Validation.of(found, fields, await _hashes(found.sets, body), resolver, now).chain()


async def _hashes(sets: Sequence[ArcSet], body: Body) -> Hashes:
    """Those of the newest signature, and of the older ones that are for all of the body: however many there are, the
    body is hashed four times at most."""
    wanted = [*sets[-1].readings, *[each for one in sets for each in one.readings if each.limit is None]]
    return await body_hashes(wanted, body)


@attrs.frozen
class _Validation:
    """Of one message. `digests` are those of the seals, the oldest first."""

    sets: Sequence[ArcSet]
    fields: Fields
    hashes: Hashes
    digests: Sequence[bytes]
    keys: _Keys
    now: int

    @classmethod
    def of(cls, found: Collected, fields: Fields, hashes: Hashes, resolver: IResolver, now: int) -> _Validation:
        return cls(found.sets, fields, hashes, seal_digests([each.fields for each in found.sets]), _Keys(resolver), now)

    async def chain(self) -> Chain:
        """From the newest set to the first; what has failed decides, and nothing more is asked."""
        newest = self.sets[-1]
        if fault := self._fault(newest):
            return Chain("fail", self.sets, reason=f"signature {newest.instance}: {fault}")
        for some in _portions(self.sets[::-1]):
            await self.keys.look_up([newest.signature, *[each.seal for each in some]])
            if some[0] is newest:
                signed = await self._signed(newest)
                if signed.value != "pass":
                    return self._failed(f"signature {newest.instance}", signed)
            for each in some:
                seal = await self._sealed(each)
                if seal.value != "pass":
                    return self._failed(f"seal {each.instance}", seal)
        return Chain("pass", self.sets, await self._oldest_pass())

    def _failed(self, what: str, why: Verified) -> Chain:
        if why.value == "temperror":
            return Chain("fail", self.sets, reason=NOT_KNOWN, temporary=True)
        return Chain("fail", self.sets, reason=f"{what}: {why.reason}")

    def _fault(self, one: ArcSet) -> str:
        """Why the signature of a set cannot be that of this message, whatever the key is; "" where it can."""
        signature = one.signature
        if signature.algorithm not in ALGORITHMS:
            return f"{signature.algorithm} does not count"
        if signature.expires is not None and signature.expires < self.now:
            return "signature has expired"
        if any(hash_of(each) not in self.hashes for each in one.readings):
            return "not all of the body is signed"
        faults = [body_fault(each, self.hashes) for each in one.readings]
        return faults[0] if all(faults) else ""

    async def _signed(self, one: ArcSet) -> Verified:
        """Whether the signature of a set is that of this message."""
        for each in one.readings:
            found = await check(each, self.fields, self.hashes, self.keys.texts)
            if found.value == "pass":
                break
        return found

    async def _sealed(self, one: ArcSet) -> Verified:
        if one.seal.algorithm not in ALGORITHMS:
            return Verified("fail", f"{one.seal.algorithm} does not count", one.seal)
        return await check_digest(one.seal, self.digests[one.instance - 1], self.keys.texts)

    async def _oldest_pass(self) -> int | None:
        """RFC 8617 5.2, step 5, which nothing depends on."""
        if len(self.fields) > _FIELDS_LIMIT:
            return None  # which are looked through for each signature
        there = list(takewhile(lambda each: not self._fault(each), self.sets[-2::-1]))
        oldest = len(self.sets)
        for some in _portions(there):
            await self.keys.look_up([each.signature for each in some])
            for each in some:
                found = await self._signed(each)
                if found.value == "temperror":
                    return None
                if found.value != "pass":
                    return oldest
                oldest = each.instance
        return 0 if oldest == 1 else oldest


class _Keys:
    """The keys of one chain, each looked up once."""

    def __init__(self, resolver: IResolver) -> None:
        self._resolver = resolver
        self._found: dict[str, Sequence[bytes] | TemporaryError] = {}

    async def look_up(self, signatures: Sequence[Signature]) -> None:
        """Side by side."""
        names = {each.key_name for each in signatures}.difference(self._found)
        await gatherResults([Deferred.fromCoroutine(self._look_up(name)) for name in sorted(names)])

    async def _look_up(self, name: str) -> None:
        try:
            self._found[name] = await self._resolver.texts(name)
        except TemporaryError as error:
            self._found[name] = error

    async def texts(self, name: str) -> Sequence[bytes]:
        """Of a name that has been looked up. Raises TemporaryError."""
        found = self._found[name]
        if isinstance(found, TemporaryError):
            raise found
        return found


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


def seal_digests(sets: Sequence[tuple[bytes, bytes, bytes]]) -> list[bytes]:
    """The SHA-256 of what each seal is made of, the oldest first: all sets up to it, in relaxed form (RFC 8617
    5.1.1). Each set are its results, its signature and its seal, whose value of b= does not count."""
    digests = []
    together = sha256()
    for results, signature, seal in sets:
        together.update(field_in_form(results, "relaxed") + field_in_form(signature, "relaxed"))
        upto = together.copy()
        upto.update(field_in_form(without_signature(seal), "relaxed").removesuffix(_CRLF))
        digests.append(upto.digest())
        together.update(field_in_form(seal, "relaxed"))
    return digests
