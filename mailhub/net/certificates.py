"""Certificates of our own making: for a server's first minutes, and for the demo."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailhub.errors import ConfigurationError

_SIGNATURE_ONLY = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_ISSUING_ONLY = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


def self_signed(hostnames: Sequence[str], days: int, now: float) -> tuple[bytes, bytes]:
    """A certificate that nobody else vouches for, and its key, both PEM.

    `hostnames`: names and IP addresses, the first one is the subject. `now`: seconds since the epoch.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    return _pem(_server(hostnames, days, now, key, key).sign(key, hashes.SHA256())), _key_pem(key)


def with_authority(hostnames: Sequence[str], days: int, now: float) -> tuple[bytes, bytes, bytes]:
    """A certificate, its key, and the certificate of the authority that vouches for it, all PEM; see `self_signed`.

    Mail programs that refuse self-signed certificates can be told to trust the authority. Its key is thrown away, and
    it may vouch for these names alone: whoever trusts it trusts this one server and nobody else.
    """
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = _name(f"mailhub authority for {hostnames[0]}")
    only = x509.NameConstraints([_subtree(host) for host in hostnames], None)
    authority = (
        _begun(name, name, days, now, authority_key, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ISSUING_ONLY, critical=True)
        .add_extension(only, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = _server(hostnames, days, now, key, authority_key, issuer=name).sign(authority_key, hashes.SHA256())
    return _pem(certificate), _key_pem(key), _pem(authority)


def _server(
    hostnames: Sequence[str],
    days: int,
    now: float,
    key: ec.EllipticCurvePrivateKey,
    issuing: ec.EllipticCurvePrivateKey,
    issuer: x509.Name | None = None,
) -> x509.CertificateBuilder:
    subject = _name(hostnames[0])
    return (
        _begun(subject, issuer or subject, days, now, key, issuing)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hostnames]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_SIGNATURE_ONLY, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    days: int,
    now: float,
    key: ec.EllipticCurvePrivateKey,
    issuing: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    begin = datetime.fromtimestamp(now, UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        # RFC 5280 4.2.1: clients that are strict (Python from 3.13 on) want these.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _subtree(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_network(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_self_signed(certificate: Path, key: Path, hostnames: Sequence[str], days: int, now: float) -> None:
    """Make both files, replacing old ones; the key is for its owner's eyes only.

    The certificate comes last: whoever finds it finds its key. Raises ConfigurationError.
    """
    certificate_pem, key_pem = self_signed(hostnames, days, now)
    _write_all(((key, key_pem, 0o600), (certificate, certificate_pem, 0o644)))


def write_with_authority(
    certificate: Path, key: Path, authority: Path, hostnames: Sequence[str], days: int, now: float
) -> None:
    """The same for `with_authority`; the certificate comes last. Raises ConfigurationError."""
    certificate_pem, key_pem, authority_pem = with_authority(hostnames, days, now)
    _write_all(((key, key_pem, 0o600), (authority, authority_pem, 0o644), (certificate, certificate_pem, 0o644)))


def _write_all(files: Iterable[tuple[Path, bytes, int]]) -> None:
    for path, octets, mode in files:
        try:
            _write(path, octets, mode)
        except OSError as error:
            raise ConfigurationError(f'[tls] "{path}" cannot be written: {error.strerror}') from None


def _write(path: Path, octets: bytes, mode: int) -> None:
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    # The key is never readable by others, not even before chmod.
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
