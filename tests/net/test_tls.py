from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols import tls as twisted_tls

from mailhub.errors import ConfigurationError
from mailhub.net.certificates import self_signed, with_authority, write_self_signed
from mailhub.net.listen import ImplicitTls
from mailhub.net.tls import ClientTls, ServerTls, ServiceTls, server_context
from tests.net.line_session import Peer, Rig
from tests.net.tls_peer import StartTlsPeer, TlsClient, handshake

NOW = 1_800_000_000.0
HOSTS = ("mx.example", "localhost", "127.0.0.1")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    # OpenSSL judges by the machine's clock, which no test can set.
    write_self_signed(certificate, key, HOSTS, 365, os.stat(tmp_path).st_mtime)
    return certificate, key


@pytest.fixture
def server(files: tuple[Path, Path]) -> ServerTls:
    return ServerTls(*files, Clock())


def serial(server: ServerTls, client: ClientTls | None = None) -> int:
    """The serial number of the certificate that a client is shown now."""
    connection = (client or ClientTls()).opportunistic("mx.example").clientConnectionForTLS(None)
    handshake(connection, server.serverConnectionForTLS(None))
    certificate = connection.get_peer_certificate()
    assert certificate is not None
    return certificate.get_serial_number()


def test_certificates_name_the_keys_of_subject_and_issuer() -> None:
    made, _, vouching = with_authority(HOSTS, 9, NOW)
    certificate, authority, alone = map(x509.load_pem_x509_certificate, (made, vouching, self_signed(HOSTS, 9, NOW)[0]))
    for each, issuer in ((certificate, authority), (authority, authority), (alone, alone)):
        own = each.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        issued = each.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        assert own == x509.SubjectKeyIdentifier.from_public_key(each.public_key())
        assert issued.key_identifier == x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest


class TestServer:
    def test_speaks_tls_1_3_and_1_2_but_nothing_older(self, server: ServerTls) -> None:
        for version, name in ((SSL.TLS1_3_VERSION, "TLSv1.3"), (SSL.TLS1_2_VERSION, "TLSv1.2")):
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_max_proto_version(version)
            client = SSL.Connection(context, None)
            handshake(client, server.serverConnectionForTLS(None))
            assert client.get_protocol_version_name() == name
            assert "GCM" in str(client.get_cipher_name()) or "CHACHA20" in str(client.get_cipher_name())
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        with pytest.raises(SSL.Error):
            handshake(SSL.Connection(context, None), server.serverConnectionForTLS(None))

    @pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
    def test_sessions_are_resumed_by_ticket(self, server: ServerTls, version: int) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(version)
        first = SSL.Connection(context, None)
        full = handshake(first, server.serverConnectionForTLS(None))
        session = first.get_session()
        assert session is not None
        second = SSL.Connection(context, None)
        second.set_session(session)
        resumed = handshake(second, server.serverConnectionForTLS(None))
        # A resumed handshake carries no certificate.
        assert resumed < full - 300

    def test_a_chain_is_sent_whole(self, files: tuple[Path, Path]) -> None:
        certificate, key = files
        issuer, _ = self_signed(["issuer.example"], 365, NOW)
        certificate.write_bytes(certificate.read_bytes() + issuer)
        client = ClientTls().opportunistic("mx.example").clientConnectionForTLS(None)
        handshake(client, ServerTls(certificate, key, Clock()).serverConnectionForTLS(None))
        assert len(client.get_peer_cert_chain() or ()) == 2

    def test_files_that_only_root_could_read_are_a_warning_once_and_followed_when_they_can_be_read_again(
        self, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """certbot's folders, after root has been left behind: not even stat() works there."""
        clock = Clock()
        server = ServerTls(*files, clock)
        before = serial(server)

        def refused(path: Path, **_: object) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        with capturedLogs() as events:
            with monkeypatch.context() as without_rights:
                without_rights.setattr(Path, "stat", refused)
                without_rights.setattr(Path, "read_bytes", refused)
                for _ in range(3):
                    clock.advance(2)
                    assert serial(server) == before
                assert server.kept
            write_self_signed(*files, HOSTS, 365, os.stat(files[0].parent).st_mtime)
            clock.advance(2)
            assert serial(server) != before
        assert not server.kept
        first, second = (formatEvent(event) for event in events)
        assert first.startswith("the certificate stays as it is, a renewal would not be seen: [tls] certificate ")
        assert first.endswith(": Permission denied")
        assert second.startswith("certificate replaced")


class TestApplicationProtocol:
    """RFC 7301: a client that speaks only other protocols is led astray."""

    def client(self, *names: bytes) -> SSL.Connection:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if names:
            context.set_alpn_protos(list(names))
        return SSL.Connection(context, None)

    @pytest.mark.parametrize("names", [(), (b"imap",), (b"h2", b"imap")])
    def test_ours_or_none(self, server: ServerTls, names: tuple[bytes, ...]) -> None:
        client = self.client(*names)
        handshake(client, ServiceTls(server, (b"imap",)).serverConnectionForTLS(None))
        assert client.get_alpn_proto_negotiated() == (b"imap" if names else b"")

    @pytest.mark.parametrize("names", [(b"h2", b"http/1.1"), (b"pop3",), (b"acme-tls/1",)])
    def test_only_others(self, server: ServerTls, names: tuple[bytes, ...]) -> None:
        with pytest.raises(SSL.Error, match="client speaks only"):
            handshake(self.client(*names), ServiceTls(server, (b"imap",)).serverConnectionForTLS(None))

    def test_the_client_gets_the_alert(self, server: ServerTls) -> None:
        """Through Twisted's own TLS layer."""
        factory = ImplicitTls(ServiceTls(server, (b"smtp",)), Factory.forProtocol(Protocol), Clock())
        protocol: Any = factory.buildProtocol(None)
        peer = Peer()
        protocol.makeConnection(peer)
        client = self.client(b"http/1.1")
        client.set_connect_state()
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        protocol.dataReceived(client.bio_read(65536))
        assert peer.disconnecting
        client.bio_write(peer.taken())
        with pytest.raises(SSL.Error, match="no application protocol"):
            client.do_handshake()


class TestMistakes:
    def reason(self, certificate: Path, key: Path) -> str:
        with pytest.raises(ConfigurationError) as caught:
            server_context(certificate, key)
        text = str(caught.value)
        assert text.startswith("[tls] ")
        assert "\n" not in text
        return text

    def test_missing(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        certificate, key = files
        missing = tmp_path / "none.pem"
        assert self.reason(missing, key) == f'[tls] certificate "{missing}": No such file or directory'
        assert self.reason(certificate, missing) == f'[tls] key "{missing}": No such file or directory'

    def test_a_folder(self, files: tuple[Path, Path], tmp_path: Path) -> None:
        assert self.reason(tmp_path, files[1]).endswith("Is a directory")

    def test_not_pem(self, files: tuple[Path, Path]) -> None:
        certificate, key = files
        assert self.reason(key, key) == f'[tls] certificate "{key}" is not a PEM certificate'
        assert self.reason(certificate, certificate) == f'[tls] key "{certificate}" is not a PEM private key'

    def test_of_another(self, files: tuple[Path, Path]) -> None:
        certificate, key = files
        key.write_bytes(self_signed(["mx.example"], 1, NOW)[1])
        assert "does not belong to the certificate" in self.reason(certificate, key)

    def test_passphrase(self, files: tuple[Path, Path]) -> None:
        certificate, key = files
        secret = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
        key.write_bytes(secret)
        assert self.reason(certificate, key) == f'[tls] key "{key}" is protected by a passphrase'


class TestReplacement:
    def test_new_files_are_used_within_a_second(self, files: tuple[Path, Path]) -> None:
        clock = Clock()
        server = ServerTls(*files, clock)
        old = serial(server)
        write_self_signed(*files, HOSTS, 365, NOW)
        assert serial(server) == old
        clock.advance(1)
        with capturedLogs() as logs:
            new = serial(server)
        assert new != old
        assert len(logs) == 1
        clock.advance(1)
        assert serial(server) == new

    def test_files_that_cannot_be_used_change_nothing(self, files: tuple[Path, Path]) -> None:
        clock = Clock()
        server = ServerTls(*files, clock)
        old = serial(server)
        certificate, key = (path.read_bytes() for path in files)
        files[1].write_bytes(b"nonsense")
        with capturedLogs() as logs:
            for _ in range(3):
                clock.advance(1)
                assert serial(server) == old
        assert len(logs) == 1
        assert "not a PEM private key" in formatEvent(logs[0])
        files[1].unlink()
        clock.advance(1)
        assert serial(server) == old
        # The certificate first, its key a moment later: as every renewal script does it.
        new_certificate, new_key = self_signed(HOSTS, 365, NOW)
        files[0].write_bytes(new_certificate)
        clock.advance(1)
        assert serial(server) == old
        files[1].write_bytes(new_key)
        clock.advance(1)
        assert serial(server) == x509.load_pem_x509_certificate(new_certificate).serial_number
        assert (certificate, key) != (new_certificate, new_key)


class TestClient:
    def test_opportunistic_asks_for_no_name(self, server: ServerTls) -> None:
        client = ClientTls().opportunistic("elsewhere.example").clientConnectionForTLS(None)
        connection = server.serverConnectionForTLS(None)
        handshake(client, connection)
        assert connection.get_servername() == b"elsewhere.example"

    @pytest.mark.parametrize(
        ("host", "accepted"),
        [
            ("mx.example", True),
            ("localhost", True),
            ("127.0.0.1", True),
            ("example", False),
            ("a.mx.example", False),
            ("127.0.0.2", False),
        ],
    )
    def test_verifying_asks_for_the_right_one(
        self, files: tuple[Path, Path], server: ServerTls, host: str, accepted: bool
    ) -> None:
        client = ClientTls(roots=files[0]).verifying(host).clientConnectionForTLS(None)
        if accepted:
            handshake(client, server.serverConnectionForTLS(None))
        else:
            with pytest.raises(SSL.Error, match="certificate verify failed"):
                handshake(client, server.serverConnectionForTLS(None))

    def test_verifying_wants_a_trusted_issuer(self, server: ServerTls) -> None:
        client = ClientTls().verifying("mx.example").clientConnectionForTLS(None)
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            handshake(client, server.serverConnectionForTLS(None))

    def test_roots_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"\[relay\] ca_file .*none\.pem"):
            ClientTls(roots=tmp_path / "none.pem")


class TestSelfSigned:
    def test_the_key_is_private(self, files: tuple[Path, Path]) -> None:
        certificate, key = files
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(certificate.stat().st_mode) & 0o022 == 0
        assert sorted(path.name for path in key.parent.iterdir()) == ["cert.pem", "key.pem"]

    def test_names_and_days(self) -> None:
        certificate = x509.load_pem_x509_certificate(self_signed(HOSTS, 30, NOW)[0])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["mx.example", "localhost"]
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
        assert certificate.not_valid_before_utc.timestamp() < NOW

    def test_nowhere_to_write(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be written: No such file"):
            write_self_signed(tmp_path / "x" / "c", tmp_path / "x" / "k", HOSTS, 1, NOW)


class TestDriver:
    """The driver under Twisted's own TLS layer."""

    def test_implicit(self, server: ServerTls) -> None:
        rig = Rig(tls=server, implicit_tls=True)
        connection: Any = ImplicitTls(server, rig.factory, rig.clock).buildProtocol(rig.peer.getPeer())  # type: ignore[no-untyped-call]
        client = TlsClient(connection)
        assert client.talk(b"") == b"hello\n"
        assert client.talk(b"a\nb\n") == b"a!\nb!\n"
        assert client.talk(b"bye\n") == b"bye\n"
        assert client.closed

    def test_starttls(self, server: ServerTls, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        # startTLS() has no way to be given a clock; it batches small writes with the reactor's.
        monkeypatch.setattr(twisted_tls, "_get_default_clock", lambda: clock)
        rig = Rig(tls=server, clock=clock)
        channel: Any = rig.factory.buildProtocol(rig.peer.getPeer())  # type: ignore[no-untyped-call]
        peer = StartTlsPeer(channel)
        session = rig.sessions[-1]
        connection = session.link

        def accept() -> None:
            session.machine.out += b"go\n"
            connection.start_tls()

        session.does[b"starttls"] = accept
        session.does[b"big"] = lambda: connection.send(b"z" * 200_000)
        peer.protocol.dataReceived(b"starttls\nsmuggled\n")
        assert peer.taken() == b"hello\ngo\n"
        client = TlsClient(peer, clock)
        assert client.talk(b"a\n") == b"starttls!\na!\n"
        assert client.talk(b"big\n") == b"z" * 200_000 + b"big!\n"
        assert session.seen == [b"starttls", b"a", b"big"]
        assert connection.tls.startswith("TLSv1.3/TLS_")

    def test_a_client_that_speaks_no_tls(self, server: ServerTls) -> None:
        rig = Rig(tls=server, implicit_tls=True)
        connection: Any = ImplicitTls(server, rig.factory, rig.clock).buildProtocol(rig.peer.getPeer())  # type: ignore[no-untyped-call]
        client = TlsClient(connection)
        with capturedLogs() as logs:
            client.raw(b"EHLO client.example\r\n")
        assert client.closed
        (line,) = [formatEvent(event) for event in logs]
        assert line.startswith("TLS handshake failed: ")
        assert line.endswith((" reason='wrong version number'", " reason='packet length too long'"))
        assert rig.sessions[-1].trace == ["disconnected"]
