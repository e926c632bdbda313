"""Adding a set to a chain (RFC 8617 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from mailhub.checks.arc.sets import SETS_LIMIT, Collected, Fields
from mailhub.checks.arc.validate import Value, seal_digests
from mailhub.checks.signature import NAMES_LIMIT
from mailhub.checks.signing import SigningKey, names_to_sign, signature_field, signed_field

_SIGNATURE = b"dkim-signature"


def seal(
    before: Collected,
    value: Value,
    results: Sequence[str],
    hostname: str,
    key: SigningKey,
    fields: Fields,
    body_hash: bytes,
    now: int,
) -> bytes:
    """The three fields to put on top of a header, nothing where there is nothing to add: who comes after a broken chain
    leaves it at that, and there are no more than 50 sets.

    `before` is the chain in the header, `value` what it is worth, `results` what else was found (as Authentication-
    Results has it, RFC 8601 resinfo) by `hostname`. `fields` are all of the header as it goes out: (name in lower case,
    raw octets); `body_hash` is that of the relaxed form. `now` in seconds since the epoch.
    """
    instance = before.highest + 1
    names = (*names_to_sign(fields), *[name for name, _ in fields if name == _SIGNATURE])
    if before.ended or instance > SETS_LIMIT or len(names) > NAMES_LIMIT:
        return b""
    if (value == "none") != (before == Collected()) or (value == "pass" and not before.sets):
        return b""  # what was found is not of this header
    lines = ";\r\n\t".join([f"i={instance}; {hostname}", *(results or ["none"])])
    told = f"ARC-Authentication-Results: {lines}\r\n".encode()
    origin = {"d": key.domain, "s": key.selector, "t": str(now)}
    tags = {"i": str(instance), "a": key.algorithm, "c": "relaxed/relaxed", **origin}
    signature = signature_field(b"ARC-Message-Signature", key, tags, names, fields, body_hash)
    tags = {"i": str(instance), "a": key.algorithm, "cv": value, **origin}
    # Of a chain that is broken nobody knows how to read it: the newest set stands for itself (5.1.2).
    sets = [each.fields for each in before.sets] if value == "pass" else []
    own = signed_field(b"ARC-Seal", key, tags, lambda own: seal_digests([*sets, (told, signature, own)])[-1])
    return own + signature + told
