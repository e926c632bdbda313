"""Authorities and certificates of hosts, made as a test needs them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import NameOID
from OpenSSL import SSL


@attrs.frozen(eq=False)
class Issued:
    """A certificate, its key, and those of who issued it, the nearest first."""

    certificate: x509.Certificate
    key: Any
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def chain(self) -> list[x509.Certificate]:
        return [self.certificate, *self.issuers]


def issue(
    name: str,
    by: Issued | None = None,
    *,
    authority: bool = False,
    days: int = 30,
    names: Sequence[str] | None = (),
    key: Any = None,
) -> Issued:
    """By nobody else, or by an authority; valid from two days ago until in `days`. With no `names` its own is the one
    alternative name; with None there is no alternative name."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority and names is not None:
        alternatives = [x509.DNSName(each) for each in names or [name]]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signing = by.key if by else key
    is_edwards = isinstance(signing, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    certificate = builder.sign(signing, None if is_edwards else hashes.SHA256())
    return Issued(certificate, key, (by.certificate, *by.issuers) if by else ())


def serving(issued: Issued) -> SSL.Connection:
    """The server's side of a handshake, which shows a certificate with its issuers."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(issued.certificate)
    context.use_privatekey(issued.key)
    for each in issued.issuers:
        context.add_extra_chain_cert(each)
    return SSL.Connection(context, None)
