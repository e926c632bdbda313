"""Signatures of a message that came in (RFC 6376 6, RFC 8301, RFC 8463)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Literal, Protocol

import attrs
from twisted.internet.defer import Deferred, gatherResults

from mailhub.checks.canonical import BodyHash, Form
from mailhub.checks.keys import KeyFault, PublicKey, parse_key
from mailhub.checks.results import Result
from mailhub.checks.signature import ALGORITHMS, Signature, SignatureFault, parse_signature
from mailhub.errors import TemporaryError
from mailhub.interfaces import IResolver
from mailhub.message.header import raw_fields

SIGNATURES_LIMIT = 10  # of one message that are looked at
HASHES_LIMIT = 4  # of one body: each form that signatures have of it is work
KEYS_LIMIT = 3  # records at one name that are tried
_BLOCK = 1 << 16  # octets of a body that are read at once
_CRLF = b"\r\n"
_SHORT = 8  # characters of a signature by which it is told from others (RFC 6008 4)

Value = Literal["pass", "fail", "policy", "neutral", "temperror", "permerror"]
Fields = Sequence[tuple[bytes, bytes]]
# By which signatures have the hash of a body in common: its form, and how much of it counts.
HashOf = tuple[Form, int | None]
# Each with the octets of the whole canonical form.
Hashes = dict[HashOf, tuple[bytes, int]]
# The TXT records of a name, as `IResolver.texts`.
Texts = Callable[[str], Awaitable[Sequence[bytes]]]


class Body(Protocol):
    """What follows a header; `IMessageView` is one."""

    @property
    def size(self) -> int: ...
    async def read(self, offset: int = 0, length: int = -1) -> bytes: ...


@attrs.frozen
class Verified:
    """What became of one signature (RFC 8601 2.7.1). `signature` is None where it cannot be read. `testing`: its key
    says that mail is to be treated as if it were not signed."""

    value: Value
    reason: str = ""
    signature: Signature | None = None
    testing: bool = False

    @property
    def domain(self) -> str:
        """Who answers for the message, if it passes: d=, as A-labels."""
        return self.signature.domain if self.signature else ""

    @property
    def result(self) -> Result:
        """As Authentication-Results has it (RFC 8601 2.7.1, RFC 6008)."""
        if self.signature is None:
            return Result("dkim", self.value, reason=self.reason)
        signature = self.signature
        named = ("header.d", signature.domain), ("header.i", signature.identity), ("header.s", signature.selector)
        short = signature.encoded[:_SHORT]
        return Result("dkim", self.value, (*named, ("header.a", signature.algorithm), ("header.b", short)), self.reason)


async def verify(header: bytes, body: Body, resolver: IResolver, now: int) -> list[Verified]:
    """What all signatures of a message are worth, from the top. `now` in seconds since the epoch. Keys are looked up
    side by side."""
    if b"dkim-signature" not in header.lower():
        return []
    fields = list(raw_fields(header))
    signed = (octets for name, octets in fields if name == b"dkim-signature")
    read = [_read(octets) for octets in islice(signed, SIGNATURES_LIMIT)]
    wanted = [each.signature for each in read if each.signature is not None and each.value == "pass"]
    forms = list(dict.fromkeys(map(hash_of, wanted)))[:HASHES_LIMIT]
    hashes = await body_hashes([each for each in wanted if hash_of(each) in forms], body)
    if len(read) == 1:  # as most have
        return [await _verified(read[0], fields, hashes, resolver, now)]
    waiting = [Deferred.fromCoroutine(_verified(each, fields, hashes, resolver, now)) for each in read]
    return list(await gatherResults(waiting))


def _read(octets: bytes) -> Verified:
    """A field; what is to be found out is taken for granted."""
    try:
        signature = parse_signature(octets)
    except SignatureFault as fault:
        return Verified("neutral", str(fault))
    if signature.algorithm not in ALGORITHMS:
        # RFC 8301 3.1: rsa-sha1 is no more than a signature that nobody can read.
        value: Value = "policy" if signature.algorithm == "rsa-sha1" else "neutral"
        return Verified(value, f"{signature.algorithm} does not count", signature)
    return Verified("pass", signature=signature)


async def _verified(read: Verified, fields: Fields, hashes: Hashes, resolver: IResolver, now: int) -> Verified:
    signature = read.signature
    if signature is None or read.value != "pass":
        return read
    if signature.expires is not None and signature.expires < now:
        return Verified("fail", "signature has expired", signature)
    if hash_of(signature) not in hashes:
        return Verified("policy", f"more than {HASHES_LIMIT} forms of the body are signed", signature)
    return await check(signature, fields, hashes, resolver.texts)


async def check(signature: Signature, fields: Fields, hashes: Hashes, texts: Texts) -> Verified:
    """Whether one signature is that of this message. `hashes` are those of `body_hashes`."""
    if fault := body_fault(signature, hashes):
        return Verified("fail", fault, signature)
    return await check_digest(signature, signature.digest(fields), texts)


def body_fault(signature: Signature, hashes: Hashes) -> str:
    """Why its body is not that of this message; "" where it is."""
    found, length = hashes[hash_of(signature)]
    if signature.limit is not None and signature.limit > length:
        return "body is shorter than l="
    return "" if found == signature.body_hash else "body has changed"


async def check_digest(signature: Signature, digest: bytes, texts: Texts) -> Verified:
    """Whether it is made of this by the key that DNS has."""
    verdict = Verified("permerror", "key does not exist", signature)
    try:
        records = await texts(signature.key_name)
    except TemporaryError:
        return Verified("temperror", "key cannot be looked up now", signature)
    for record in records[:KEYS_LIMIT]:
        try:
            key = parse_key(record)
        except KeyFault as fault:
            verdict = Verified("permerror", str(fault), signature)
            continue
        verdict = _by_key(signature, key, digest)
        if verdict.value == "pass":
            return verdict
    return verdict


def _by_key(signature: Signature, key: PublicKey, digest: bytes) -> Verified:
    """RFC 6376 6.1.2 and 6.1.3."""
    fault = ""
    if key.algorithm != signature.algorithm.partition("-")[0]:
        fault = "key is of another algorithm"
    elif key.hashes and "sha256" not in key.hashes:
        fault = "key is not for SHA-256"
    elif key.services.isdisjoint({"*", "email"}):
        fault = "key is not for mail"
    elif key.strict and signature.identity_domain != signature.domain:
        fault = "key is not for subdomains"
    if fault:
        return Verified("permerror", fault, signature, key.testing)
    if not key.verify(signature.signature, digest):
        return Verified("fail", "signature is not that of this message", signature, key.testing)
    reason = "" if signature.limit is None else "not all of the body is signed"
    return Verified("pass", reason, signature, key.testing)


def hash_of(signature: Signature) -> HashOf:
    """Which hash of the body a signature has."""
    return signature.body_form, signature.limit


async def body_hashes(signatures: Iterable[Signature], body: Body) -> Hashes:
    """The hashes of the body that these signatures have, each with the octets of the canonical form. The body is read
    once; it begins with the empty line, which is none of it. Raises StoreUnavailable."""
    hashes = {hash_of(each): BodyHash(*hash_of(each)) for each in signatures}
    if not hashes:
        return {}
    await _read_into(hashes.values(), body)
    return {which: (each.digest(), each.length) for which, each in hashes.items()}


async def hash_of_body(body: Body, form: Form) -> bytes:
    """The hash of a body, all of it, in one form. Raises StoreUnavailable."""
    found = BodyHash(form)
    await _read_into([found], body)
    return found.digest()


async def _read_into(hashes: Collection[BodyHash], body: Body) -> None:
    """Block by block, so that others have their turn while one comes from a file."""
    offset = 0
    while offset < body.size:
        octets = await body.read(offset, _BLOCK)
        if not octets:
            break
        start = offset
        offset += len(octets)
        if start == 0:
            octets = octets.removeprefix(_CRLF)
        for each in hashes:
            each.update(octets)
