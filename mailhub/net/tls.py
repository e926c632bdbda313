"""TLS contexts: the server's, whose certificate may be replaced while it runs, and those of outgoing connections.

These are `SSL.Context`s of our own because Twisted's `CertificateOptions` has no session tickets unless asked, loads
the trust roots anew (15 ms) for every object, and cannot change its certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IReactorTime,
)
from zope.interface import implementer

from mailhub.errors import ConfigurationError
from mailhub.interfaces import IClientTls, IPeerConnections, TlsaRecord
from mailhub.log import Logger
from mailhub.net import dane

log = Logger(namespace="mailhub.tls")

# TLS 1.2: forward secrecy and authenticated encryption only (RFC 7525 4.2). TLS 1.3 has nothing else.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!DSS"

_CHECK_SECONDS = 1.0


class CertificateUnreadable(ConfigurationError):
    """We have no right to read the certificate or its key."""


# Stamp of a file: when it was changed, which one it is, and how long.
_Stamp = tuple[int, int, int] | None


def _context(method: int) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # An idle connection gives its 34 KiB of buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def server_context(certificate: Path, key: Path) -> SSL.Context:
    """A context from PEM files: the certificate with its chain, and its key without a passphrase.

    Raises ConfigurationError that names the file.
    """
    chain = _load_certificates(certificate, "[tls] certificate")
    private_key = _load_key(key)
    if private_key.public_key() != chain[0].public_key():
        raise ConfigurationError(f'[tls] key "{key}" does not belong to the certificate "{certificate}"')
    context = _context(SSL.TLS_SERVER_METHOD)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_cipher_list(_CIPHERS)
    # Tickets (on unless OP_NO_TICKET) make sessions resumable without memory here.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"mailhub")
    context.set_alpn_select_callback(_choose)
    try:
        context.use_certificate(chain[0])
        for issuer in chain[1:]:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(private_key)  # type: ignore[arg-type]
    except (SSL.Error, TypeError) as error:
        raise ConfigurationError(f'[tls] certificate "{certificate}" cannot be used: {error}') from None
    return context


def _load_certificates(path: Path, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, what))
    except ValueError:
        raise ConfigurationError(f'{what} "{path}" is not a PEM certificate') from None


def _load_key(path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(_read(path, "[tls] key"), password=None)
    except TypeError:
        raise ConfigurationError(f'[tls] key "{path}" is protected by a passphrase') from None
    except ValueError:
        raise ConfigurationError(f'[tls] key "{path}" is not a PEM private key') from None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except PermissionError as error:
        raise CertificateUnreadable(f'{what} "{path}": {error.strerror}') from None
    except OSError as error:
        raise ConfigurationError(f'{what} "{path}": {error.strerror}') from None


class _ServerConnection(SSL.Connection):
    """A connection that knows what its service speaks. (Its app data are Twisted's.)"""

    protocols: Sequence[bytes] = ()


def _choose(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """The application protocol (RFC 7301). A client that offers only others is a browser led astray: it gets the
    alert `no_application_protocol`. One that offers none does not come here."""
    ours = connection.protocols if isinstance(connection, _ServerConnection) else ()
    chosen = next((name for name in ours if name in offered), None)
    if chosen is None:
        # pyOpenSSL's NO_OVERLAPPING_PROTOCOLS would go on without.
        raise SSL.Error([("SSL routines", "", f"client speaks only {b' '.join(offered).decode('ascii', 'replace')}")])
    return chosen


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """What `transport.startTLS` and implicit TLS take. Follows the files without a restart.

    The files are looked at when a handshake begins, at most once a second. New ones that cannot be used are logged
    once, and the old certificate stays. So it is with files that cannot be read any more because root, who could, has
    been left behind (`twistd --uid`): that is a warning, once.
    """

    def __init__(self, certificate: Path, key: Path, clock: IReactorTime) -> None:
        """Raises ConfigurationError, of which CertificateUnreadable is one."""
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._stamps = self._look()
        self._context = server_context(certificate, key)
        self._checked = clock.seconds()
        self._kept = False

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A connection with the current certificate, for a client that names no application protocol."""
        return self.connection(())

    def connection(self, protocols: Sequence[bytes]) -> SSL.Connection:
        """A connection with the current certificate, of a service that speaks `protocols` (RFC 7301 ids)."""
        self._refresh()
        connection = _ServerConnection(self._context, None)
        connection.protocols = protocols
        return connection

    def follows(self, certificate: Path, key: Path) -> bool:
        """Whether these are its files."""
        return (self._certificate, self._key) == (certificate, key)

    def adopt(self, new: ServerTls) -> None:
        """Show the certificate of `new` from now on, and follow its files."""
        self._certificate, self._key = new._certificate, new._key
        self._stamps, self._context = new._stamps, new._context
        self._checked, self._kept = new._checked, new._kept

    @property
    def certificate(self) -> x509.Certificate:
        """What is shown to clients."""
        shown = SSL.Connection(self._context, None).get_certificate()
        assert shown is not None
        return shown.to_cryptography()

    @property
    def fingerprint(self) -> bytes:
        """Of the certificate that is shown (SHA-256)."""
        return self.certificate.fingerprint(SHA256())

    def _refresh(self) -> None:
        now = self._clock.seconds()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._context = server_context(self._certificate, self._key)
        except CertificateUnreadable as error:
            self.keep(str(error))
        except ConfigurationError as error:
            log.error("certificate not replaced: {reason:text}", reason=str(error))
        else:
            self._kept = False
            log.info("certificate replaced: {certificate:text}", certificate=str(self._certificate))

    def keep(self, reason: str) -> None:
        """The files cannot be read: say once that they cannot be followed."""
        if not self._kept:
            self._kept = True
            log.warn("the certificate stays as it is, a renewal would not be seen: {reason:text}", reason=reason)

    @property
    def kept(self) -> bool:
        """Whether the files could not be read when they were last looked at."""
        return self._kept

    def _look(self) -> tuple[_Stamp, _Stamp]:
        return _stamp(self._certificate), _stamp(self._key)


# Makes the TLS of a server from certificate, key, and clock.
ServerTlsMaker = Callable[[Path, Path, IReactorTime], ServerTls]


def made_or_kept(
    make: ServerTlsMaker, certificate: Path, key: Path, clock: IReactorTime, old: ServerTls | None
) -> ServerTls:
    """A certificate that has become unreadable to us (root's own folder) is no mistake of the configuration: the one in
    use stays, as it does when it is renewed. Raises ConfigurationError."""
    try:
        return make(certificate, key, clock)
    except CertificateUnreadable as error:
        if old is None or not old.follows(certificate, key):
            raise
        old.keep(str(error))
        return old


@implementer(IOpenSSLServerConnectionCreator)
@attrs.frozen
class ServiceTls:
    """The TLS of one service: the server's certificate, and the ALPN ids of what it speaks."""

    tls: ServerTls
    protocols: tuple[bytes, ...]

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """See `IOpenSSLServerConnectionCreator`."""
        return self.tls.connection(self.protocols)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@implementer(IClientTls)
class ClientTls:
    """Makes the context factories of outgoing connections; both kinds share one context each."""

    def __init__(self, roots: Path | None = None) -> None:
        """`roots`: a PEM file of trusted certificates instead of the system's. Raises ConfigurationError."""
        self._opportunistic = _context(SSL.TLS_CLIENT_METHOD)
        self._verifying = _context(SSL.TLS_CLIENT_METHOD)
        if roots is None:
            self._verifying.set_default_verify_paths()
        else:
            for root in _load_certificates(roots, "[relay] ca_file"):
                store = self._verifying.get_cert_store()
                assert store is not None
                store.add_cert(crypto.X509.from_cryptography(root))

    def adopt(self, new: ClientTls) -> None:
        """Trust whom `new` trusts from now on."""
        self._verifying = new._verifying

    def opportunistic(self, host: str) -> ClientConnections:
        """Encrypted, but to whomever (RFC 7435): the certificate is not looked at."""
        return ClientConnections(self._opportunistic, host, verify=False)

    def verifying(self, host: str) -> ClientConnections:
        """Only to a peer that a trusted root vouches for as `host` (a name, or an IP address)."""
        return ClientConnections(self._verifying, host, verify=True)

    def observing(self, host: str) -> ClientConnections:
        """To whomever, but what is wrong with the certificate is noted."""
        return ClientConnections(self._verifying, host, verify=True, strict=False)

    def dane(self, host: str, records: Sequence[TlsaRecord], names: Sequence[str]) -> DaneConnections:
        """Only to a peer that a TLSA record vouches for, one of an authority as one of `names`."""
        return DaneConnections(self._opportunistic, host, records, names)


@implementer(IPeerConnections)
class ClientConnections:
    """What `transport.startTLS` takes at a client. `strict`: what is wrong with the certificate ends the handshake."""

    def __init__(self, context: SSL.Context, host: str, *, verify: bool, strict: bool = True) -> None:
        self._context = context
        self._identity, self._server_name = _identity(host)
        self._verify = verify
        self._strict = strict
        self.failure = self.reason = ""

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A connection that names the host (RFC 6066 3; not for IP addresses)."""
        self.failure = self.reason = ""
        connection = SSL.Connection(self._context, None)
        if self._server_name:
            connection.set_tlsext_host_name(self._server_name)
        if self._verify:
            connection.set_verify(SSL.VERIFY_PEER, self._judge)
        return connection

    def _judge(self, _: SSL.Connection, certificate: crypto.X509, errno: int, depth: int, trusted: int) -> bool:
        if not trusted and not self.failure:
            self.failure, self.reason = dane.failure_of(errno), dane.reason_of(errno)
        elif depth == 0 and trusted:
            try:
                verify_service_identity(extract_patterns(certificate), [self._identity], [])
            except (VerificationError, CertificateError):
                self.failure = self.failure or dane.OTHER_HOST
        return not (self.failure and self._strict)


@implementer(IPeerConnections)
class DaneConnections:
    """What `transport.startTLS` takes at a client that goes by TLSA records."""

    def __init__(self, context: SSL.Context, host: str, records: Sequence[TlsaRecord], names: Sequence[str]) -> None:
        self._context = context
        self._server_name = _identity(host)[1]
        self._records = records
        self._names = names
        self.failure = self.reason = ""

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """A connection that names the host, and fails when the handshake has shown its certificates and none fits."""
        self.failure = self.reason = ""
        connection = _DaneConnection(self._context, None)
        connection.judge = self._judge
        if self._server_name:
            connection.set_tlsext_host_name(self._server_name)
        return connection

    def _judge(self, chain: Sequence[x509.Certificate]) -> None:
        try:
            dane.verify(chain, self._records, self._names)
        except dane.NotVouchedFor as error:
            self.failure, self.reason = error.failure, str(error)
            raise SSL.Error([("DANE", "", str(error))]) from None


class _DaneConnection(SSL.Connection):
    """A handshake that is not done before all the certificates that were shown have been looked at: OpenSSL's own way
    to ask about them shows one at a time, and those alone that it makes a chain of."""

    judge: Callable[[Sequence[x509.Certificate]], None]

    def do_handshake(self) -> None:
        super().do_handshake()
        self.judge([each.to_cryptography() for each in self.get_peer_cert_chain() or ()])


def _identity(host: str) -> tuple[ServiceID, bytes]:
    try:
        ip_address(host)
    except ValueError:
        return DNS_ID(host), host.encode("idna" if not host.isascii() else "ascii")
    return IPAddress_ID(host), b""
