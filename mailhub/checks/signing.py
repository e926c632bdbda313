"""Making signatures: DKIM-Signature, and what ARC has of the same kind (RFC 6376 5, RFC 8463)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mailhub.checks.canonical import signed_fields
from mailhub.checks.keys import RSA_LEAST, RSA_MOST, in_base64
from mailhub.checks.signature import own_digest

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

_LINE = 72  # characters
_RSA_BITS = 2048
# What a reader acts on: each is signed once more than it is there, so that nobody can add one.
_OVERSIGNED = tuple(
    b"from to cc subject date message-id reply-to in-reply-to references mime-version content-type "
    b"content-transfer-encoding".split()
)
# What others may add on the way for good reasons, as lists do (RFC 6376 5.4.1).
_SIGNED = tuple(
    b"sender resent-from resent-sender resent-to resent-cc resent-date resent-message-id content-id "
    b"content-description content-disposition content-language list-id list-post list-help list-owner list-archive "
    b"list-subscribe list-unsubscribe list-unsubscribe-post auto-submitted tls-required "
    b"tls-report-domain tls-report-submitter".split()
)


@attrs.frozen
class SigningKey:
    """A key, and where DNS has its public half."""

    domain: str
    selector: str
    private: PrivateKey = attrs.field(repr=False)

    @property
    def algorithm(self) -> str:
        """What a= says."""
        return "rsa-sha256" if isinstance(self.private, RSAPrivateKey) else "ed25519-sha256"

    @property
    def name(self) -> str:
        """Where DNS has to have its record."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def record(self) -> str:
        """The TXT record (RFC 6376 3.6.1)."""
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return f"v=DKIM1; k=rsa; p={in_base64(octets)}"
        return f"v=DKIM1; k=ed25519; p={in_base64(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}"

    def sign(self, digest: bytes) -> bytes:
        """The signature of what has this SHA-256 digest; with Ed25519 it is the digest that is signed (RFC 8463 3)."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(digest, PKCS1v15(), Prehashed(SHA256()))
        return self.private.sign(digest)


def new_key(algorithm: str) -> PrivateKey:
    """A new one, "rsa" (2,048 bits) or "ed25519". RSA takes a part of a second: not for the reactor's thread."""
    return generate_private_key(65537, _RSA_BITS) if algorithm == "rsa" else Ed25519PrivateKey.generate()


def write_key(key: PrivateKey) -> bytes:
    """As PEM (PKCS #8)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes, *, ours: bool = False) -> PrivateKey:
    """Of PEM, as other programs write it, too. One of `ours`, which `write_key` has written, is not looked over again:
    with RSA that takes a part of a second. Raises ValueError with what is wrong."""
    try:
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=ours)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("no private key in PEM without a password") from None
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError("key is neither of RSA nor of Ed25519")
    if isinstance(key, RSAPrivateKey) and not RSA_LEAST <= key.key_size <= RSA_MOST:
        raise ValueError(f"RSA key has {key.key_size} bits, not {RSA_LEAST} to {RSA_MOST}")
    return key


def names_to_sign(fields: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """What h= has for a message with these fields: (name in lower case, raw octets)."""
    there: dict[bytes, int] = {}
    for name, _ in fields:
        there[name] = there.get(name, 0) + 1
    names = [name for name in _OVERSIGNED for _ in range(there.get(name, 0) + 1)]
    return (*names, *[name for name in _SIGNED for _ in range(there.get(name, 0))])


def dkim_signature(
    key: SigningKey, fields: Sequence[tuple[bytes, bytes]], body_hash: bytes, now: int, expires: int | None = None
) -> bytes:
    """A DKIM-Signature field, with its line end, for a message with these fields; `body_hash` is that of the relaxed
    form. Times in seconds since the epoch."""
    return dkim_signatures([key], fields, body_hash, now, expires)


def dkim_signatures(
    keys: Iterable[SigningKey],
    fields: Sequence[tuple[bytes, bytes]],
    body_hash: bytes,
    now: int,
    expires: int | None = None,
) -> bytes:
    """The same of several keys; what they sign is made once."""
    names = names_to_sign(fields)
    signed = signed_fields(fields, names, "relaxed")
    return b"".join([_dkim_field(key, names, signed, body_hash, now, expires) for key in keys])


def _dkim_field(
    key: SigningKey, names: Sequence[bytes], signed: bytes, body_hash: bytes, now: int, expires: int | None
) -> bytes:
    tags = {"v": "1", "a": key.algorithm, "c": "relaxed/relaxed", "d": key.domain, "s": key.selector, "t": str(now)}
    if expires is not None:
        tags["x"] = str(expires)
    return _signed(b"DKIM-Signature", key, tags, names, signed, body_hash)


def signature_field(
    name: bytes,
    key: SigningKey,
    tags: Mapping[str, str],
    names: Sequence[bytes],
    fields: Sequence[tuple[bytes, bytes]],
    body_hash: bytes,
) -> bytes:
    """A field that signs the fields of these names, and a body, in relaxed form; `tags` stand at its beginning."""
    return _signed(name, key, tags, names, signed_fields(fields, names, "relaxed"), body_hash)


def _signed(
    name: bytes, key: SigningKey, tags: Mapping[str, str], names: Sequence[bytes], signed: bytes, body_hash: bytes
) -> bytes:
    listed = [*_list_of([each.decode() for each in names]), f"bh={in_base64(body_hash)};"]
    return signed_field(name, key, tags, lambda own: own_digest(own, signed, "relaxed"), listed)


def signed_field(
    name: bytes,
    key: SigningKey,
    tags: Mapping[str, str],
    digest: Callable[[bytes], bytes],
    more: Sequence[str] = (),
) -> bytes:
    """A field with these tags, `more` words as they are, and the signature of the digest that is made of the field
    without it."""
    words = [f"{tag}={value};" for tag, value in tags.items()]
    own = name + b": " + _folded([*words, *more, "b="])
    return own + _in_lines(in_base64(key.sign(digest(own)))) + b"\r\n"


def _list_of(names: Sequence[str]) -> list[str]:
    last = len(names) - 1
    return [("h=" if place == 0 else "") + name + (":" if place < last else ";") for place, name in enumerate(names)]


def _folded(words: Sequence[str]) -> bytes:
    lines, line = [], ""
    for word in words:
        joint = "" if not line or line.endswith(":") else " "
        if line and len(line) + len(joint) + len(word) > _LINE:
            lines.append(line)
            line, joint = "", ""
        line += joint + word
    return "\r\n\t".join([*lines, line]).encode()


def _in_lines(text: str) -> bytes:
    pieces = [text[place : place + _LINE] for place in range(0, len(text), _LINE)]
    return b"".join([b"\r\n\t" + piece.encode() for piece in pieces])
