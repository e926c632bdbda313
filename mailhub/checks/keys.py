"""Public keys of signatures, as DNS has them (RFC 6376 3.6.1, RFC 8463)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from functools import lru_cache

import attrs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailhub.checks.tags import parse_tags, without_space

RSA_LEAST, RSA_MOST = 1024, 4096  # bits (RFC 8301 3.2)
_RECORD_LIMIT = 8192  # octets: 4096 bits need 750
_DER_LIMIT = 2048  # octets of a key: 4096 bits need 550
_EXPONENT_LIMIT = 64  # bits: nearly all have 17, and a large one makes a hundred times as much work
_BASE64 = re.compile(r"[A-Za-z0-9+/]*+={0,2}")


class KeyFault(Exception):
    """Nobody can verify with this key; the text says why."""


@attrs.frozen
class PublicKey:
    """A key record. `hashes`: those that it may be used with, empty for any. `services`: those that it is for.
    `testing`: t=y. `strict`: the domain of i= must be that of d= (t=s)."""

    key: RSAPublicKey | Ed25519PublicKey
    hashes: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset({"*"})
    testing: bool = False
    strict: bool = False

    @property
    def algorithm(self) -> str:
        """What k= calls it."""
        return "rsa" if isinstance(self.key, RSAPublicKey) else "ed25519"

    @property
    def bits(self) -> int:
        """Its size."""
        return self.key.key_size if isinstance(self.key, RSAPublicKey) else 256

    def verify(self, signature: bytes, digest: bytes) -> bool:
        """Whether it is the signature of what has this SHA-256 digest; with Ed25519 the digest itself is what is signed
        (RFC 8463 3)."""
        try:
            if isinstance(self.key, RSAPublicKey):
                self.key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
            else:
                self.key.verify(signature, digest)
        except InvalidSignature:
            return False
        return True


@lru_cache(maxsize=1024)
def parse_key(record: bytes) -> PublicKey:
    """A TXT record. Raises KeyFault for what is no key, for one that was revoked (an empty p=), and for one that is too
    small or too large to be believed (RFC 8301 3.2)."""
    try:
        if len(record) > _RECORD_LIMIT:
            raise ValueError("it is too long")
        tags = parse_tags(record)
    except ValueError as error:
        raise KeyFault(f"key record: {error}") from None
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise KeyFault("key record is of another version")
    if "p" not in tags:
        raise KeyFault("key record has no key")
    text = without_space(tags["p"])
    if not text:
        raise KeyFault("key was revoked")
    flags = _listed(tags.get("t", ""))
    return PublicKey(
        key=_loaded(tags.get("k", "rsa"), text),
        hashes=_listed(tags.get("h", "")),
        services=_listed(tags.get("s", "*")),
        testing="y" in flags,
        strict="s" in flags,
    )


def _listed(value: str) -> frozenset[str]:
    return frozenset(without_space(value).split(":")) - {""}


def _loaded(kind: str, text: str) -> RSAPublicKey | Ed25519PublicKey:
    der = from_base64(text, _DER_LIMIT)
    if der is None:
        raise KeyFault("key is not base64, or too large")
    try:
        if kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(der)
        if kind != "rsa":
            raise KeyFault(f"key is of an unknown kind, {kind!r:.20}")
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFault("key cannot be read") from None
    if not isinstance(key, RSAPublicKey):
        raise KeyFault("key is not of RSA")
    if not RSA_LEAST <= key.key_size <= RSA_MOST:
        raise KeyFault(f"key has {key.key_size} bits")
    if key.public_numbers().e.bit_length() > _EXPONENT_LIMIT:
        raise KeyFault("exponent of key is too large")
    return key


def from_base64(text: str, limit: int) -> bytes | None:
    """The octets, None for what is none or has more than `limit` of them. White space counts for nothing, padding may
    be absent: some records are written so."""
    text = without_space(text)
    if len(text) > limit * 4 // 3 + 4 or not _BASE64.fullmatch(text):
        return None
    text = text.rstrip("=")
    if len(text) % 4 == 1:
        return None
    return b64decode(text + "=" * (-len(text) % 4))


def in_base64(octets: bytes) -> str:
    """As tags have them."""
    return b64encode(octets).decode()
