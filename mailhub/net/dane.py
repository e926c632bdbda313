"""What TLSA records say of the certificates that a host shows (RFC 6698, RFC 7671, RFC 7672)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import NameOID
from OpenSSL import crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, DNSPattern, verify_service_identity
from service_identity.pyopenssl import extract_patterns

from mailhub.interfaces import TlsaRecord

DANE_TA = 2  # the certificate of an authority, which vouches for the host's
DANE_EE = 3  # the host's own certificate, whatever stands in it
_FULL, _SHA_256, _SHA_512 = 0, 1, 2
_CERTIFICATE, _KEY = 0, 1
_BARE = (_KEY, _FULL)
_DIGESTS = {_SHA_256: hashlib.sha256, _SHA_512: hashlib.sha512}

# Result types of reports (RFC 8460 4.3).
NOT_TRUSTED = "certificate-not-trusted"
EXPIRED = "certificate-expired"
OTHER_HOST = "certificate-host-mismatch"
# X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED and of these fields: that they cannot be read.
_TIMES = frozenset({9, 10, 13, 14})
# As OpenSSL's x509_vfy.h names those that are seen.
_REASONS = {
    2: "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT",
    7: "X509_V_ERR_CERT_SIGNATURE_FAILURE",
    18: "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT",
    19: "X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN",
    20: "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    21: "X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    24: "X509_V_ERR_INVALID_CA",
    25: "X509_V_ERR_PATH_LENGTH_EXCEEDED",
    26: "X509_V_ERR_INVALID_PURPOSE",
    47: "X509_V_ERR_PERMITTED_VIOLATION",
    66: "X509_V_ERR_EE_KEY_TOO_SMALL",
    68: "X509_V_ERR_CA_MD_TOO_WEAK",
}
_SHOWN = 10  # certificates of a host that are looked at


def failure_of(code: int) -> str:
    """What reports call one of OpenSSL's reasons not to trust a certificate (X509_V_ERR_...)."""
    return EXPIRED if code in _TIMES else NOT_TRUSTED


def reason_of(code: int) -> str:
    """What reports say of such a reason beside `NOT_TRUSTED` (RFC 8460 4.3.1); "" where the failure says all."""
    return "" if failure_of(code) == EXPIRED else _REASONS.get(code, f"X509_V_ERR {code}")


class NotVouchedFor(Exception):
    """No record fits what the host shows. `failure` is a result type of RFC 8460 4.3."""

    def __init__(self, failure: str, text: str) -> None:
        super().__init__(text)
        self.failure = failure


def usable(records: Iterable[TlsaRecord]) -> tuple[TlsaRecord, ...]:
    """Those that mean something for mail (RFC 7672 3.1): usages 2 and 3 with what they need. Where one is there in
    several digests, the strongest counts (RFC 7671 9)."""
    known = [record for record in records if _is_usable(record)]
    best: dict[tuple[int, int], int] = {}
    for record in known:
        kind = record.usage, record.selector
        best[kind] = max(record.matching, best.get(kind, _FULL))
    return tuple(r for r in dict.fromkeys(known) if r.matching in (_FULL, best[r.usage, r.selector]))


def _is_usable(record: TlsaRecord) -> bool:
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (_CERTIFICATE, _KEY):
        return False
    if record.matching in _DIGESTS:
        return len(record.data) == _DIGESTS[record.matching]().digest_size
    return record.matching == _FULL and _is_readable(record)


def _is_readable(record: TlsaRecord) -> bool:
    try:
        if record.selector == _CERTIFICATE:
            x509.load_der_x509_certificate(record.data)
        else:
            load_der_public_key(record.data)
    except Exception:  # it is a stranger's, and what cryptography raises for nonsense has no common class
        return False
    return True


def matches(record: TlsaRecord, certificate: x509.Certificate) -> bool:
    """Whether a record is about this certificate (RFC 6698 2.1)."""
    if record.selector == _CERTIFICATE:
        octets = certificate.public_bytes(Encoding.DER)
    else:
        octets = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = _DIGESTS.get(record.matching)
    return record.data == (digest(octets).digest() if digest else octets)


def verify(chain: Sequence[x509.Certificate], records: Sequence[TlsaRecord], names: Sequence[str]) -> None:
    """Whether any of the usable records fits the certificates that a host showed, its own first. That of an authority
    vouches for a certificate that is valid now and has one of `names`; the host's own is looked at no further
    (RFC 7672 3.1.1). Raises NotVouchedFor."""
    if not chain:
        raise NotVouchedFor(NOT_TRUSTED, "host shows no certificate")
    chain = chain[:_SHOWN]
    if any(record.usage == DANE_EE and matches(record, chain[0]) for record in records):
        return
    failed = NotVouchedFor(NOT_TRUSTED, "no TLSA record fits the certificate")
    for anchor in _anchors(chain, records):
        try:
            _verify_by(anchor, chain)
            _verify_names(chain[0], names)
        except NotVouchedFor as error:
            failed = error
        else:
            return
    raise failed


def _anchors(chain: Sequence[x509.Certificate], records: Sequence[TlsaRecord]) -> list[x509.Certificate]:
    """Certificates of authorities that records name: those that the host shows, and what a record has in full. Of an
    authority of which there is the key alone, those that it has signed are as good (RFC 7671 5.2.3)."""
    authorities = [record for record in records if record.usage == DANE_TA]
    shown = [each for each in chain[1:] if any(matches(record, each) for record in authorities)]
    full = [
        x509.load_der_x509_certificate(record.data)
        for record in authorities
        if (record.selector, record.matching) == (_CERTIFICATE, _FULL)
    ]
    keys = [load_der_public_key(record.data) for record in authorities if (record.selector, record.matching) == _BARE]
    signed = [each for each in chain if any(_has_signed(key, each) for key in keys)]
    return list(dict.fromkeys([*shown, *full, *signed]))


def _has_signed(key: Any, certificate: x509.Certificate) -> bool:
    """Whether the certificate is another's, and signed by this key."""
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        if certificate.public_key() == key:
            return False
        if isinstance(key, rsa.RSAPublicKey):
            padding: Any = certificate.signature_algorithm_parameters
            digest = certificate.signature_hash_algorithm
            assert digest is not None
            key.verify(signature, signed, padding, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            algorithm: Any = certificate.signature_algorithm_parameters
            key.verify(signature, signed, algorithm)
        else:
            key.verify(signature, signed)
    except Exception:  # of another algorithm, or nonsense: what cryptography raises for that has no common class
        return False
    return True


def _verify_by(anchor: x509.Certificate, chain: Sequence[x509.Certificate]) -> None:
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(anchor))
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    leaf, *others = (crypto.X509.from_cryptography(each) for each in chain)
    try:
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        code, _, text = error.errors
        raise NotVouchedFor(failure_of(code), text) from None


def _verify_names(leaf: x509.Certificate, names: Sequence[str]) -> None:
    try:
        patterns = extract_patterns(crypto.X509.from_cryptography(leaf))
    except CertificateError as error:
        raise NotVouchedFor(OTHER_HOST, f"certificate has a name that is none: {error}") from None
    if not any(isinstance(each, DNSPattern) for each in patterns):
        patterns = _common_names(leaf)
    for name in names:
        try:
            verify_service_identity(patterns, [DNS_ID(name)], [])
        except (VerificationError, ValueError):
            continue
        return
    raise NotVouchedFor(OTHER_HOST, "certificate is for another host")


def _common_names(leaf: x509.Certificate) -> list[Any]:
    """The CN-ID, which counts where there is no DNS-ID (RFC 7672 3.2.3)."""
    found: list[Any] = []
    for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        try:
            found.append(DNSPattern.from_bytes(str(each.value).encode("ascii")))
        except (CertificateError, UnicodeError, ValueError):
            continue
    return found
