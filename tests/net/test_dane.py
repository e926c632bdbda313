"""Certificates by TLSA records, in real handshakes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

from mailhub.interfaces import TlsaRecord
from mailhub.net import dane
from mailhub.net.tls import ClientTls
from tests.net.certificate_chains import Issued, issue, serving
from tests.net.tls_peer import handshake

HOST = "mx.yy.example"
ROOT = issue("root", authority=True)
MIDDLE = issue("middle", ROOT, authority=True)
LEAF = issue(HOST, MIDDLE)
OTHER = issue("other", authority=True)
CLIENT = ClientTls()


def record(usage: int, selector: int, matching: int, certificate: x509.Certificate) -> TlsaRecord:
    octets = (
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if selector
        else certificate.public_bytes(Encoding.DER)
    )
    data = octets if matching == 0 else hashlib.new(("", "sha256", "sha512")[matching], octets).digest()
    return TlsaRecord(usage, selector, matching, data)


def outcome(shown: Issued, *records: TlsaRecord, names: Sequence[str] = (HOST,)) -> str:
    """What a handshake ends with: "" or what is wrong."""
    creator = CLIENT.dane(HOST, dane.usable(records), names)
    server = serving(shown)
    try:
        handshake(creator.clientConnectionForTLS(None), server)
    except SSL.Error:
        assert creator.failure
        return creator.failure
    assert server.get_servername() == HOST.encode()
    assert creator.failure == ""
    return ""


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize(("usage", "named"), [(3, LEAF), (2, MIDDLE), (2, ROOT)])
def test_a_record_of_each_kind_vouches_for_what_it_names_and_nothing_else(
    usage: int, selector: int, matching: int, named: Issued
) -> None:
    assert outcome(LEAF, record(usage, selector, matching, named.certificate)) == ""
    assert outcome(LEAF, record(usage, selector, matching, OTHER.certificate)) == "certificate-not-trusted"


def test_the_hosts_own_certificate_may_be_expired_and_have_any_name() -> None:
    old = issue("elsewhere.example", days=-1)
    assert outcome(old, record(3, 1, 1, old.certificate)) == ""


@pytest.mark.parametrize(
    ("shown", "failure"),
    [
        (issue("elsewhere.example", MIDDLE), "certificate-host-mismatch"),
        (issue(HOST, MIDDLE, days=-1), "certificate-expired"),
        (issue(HOST, issue("middle", OTHER, authority=True)), "certificate-not-trusted"),
        (issue("anything", MIDDLE, names=["*.yy.example"]), ""),
        (issue("anything", MIDDLE, names=["yy.example"]), "certificate-host-mismatch"),
    ],
)
def test_what_an_authority_issued_must_be_valid_and_for_the_host(shown: Issued, failure: str) -> None:
    assert outcome(shown, record(2, 0, 1, MIDDLE.certificate)) == failure


def test_the_common_name_counts_where_there_is_no_other() -> None:
    """RFC 7672 3.2.3."""
    by = record(2, 0, 1, MIDDLE.certificate)
    for name, names, failure in (
        (HOST, None, ""),
        (HOST.upper(), None, ""),
        (f"*.{HOST.partition('.')[2]}", None, ""),
        ("elsewhere.example", None, "certificate-host-mismatch"),
        ("an Example host", None, "certificate-host-mismatch"),
        (HOST, ["elsewhere.example"], "certificate-host-mismatch"),
        (HOST, ["*.example"], "certificate-host-mismatch"),
    ):
        assert outcome(issue(name, MIDDLE, names=names), by) == failure, (name, names)


@pytest.mark.parametrize("names", [["*.com"], ["a.*.example"], ["*.*.example"], ["192.0.2.1"]])
def test_names_that_are_none_fit_nobody(names: list[str], roots: Callable[[], ClientTls]) -> None:
    shown = issue("anything", MIDDLE, names=names)
    assert outcome(shown, record(2, 0, 1, MIDDLE.certificate)) == "certificate-host-mismatch"
    creator = roots().observing(HOST)
    handshake(creator.clientConnectionForTLS(None), serving(shown))
    assert creator.failure == "certificate-host-mismatch"


def test_the_domain_of_the_recipients_is_a_name_that_fits() -> None:
    shown = issue("xx.example", MIDDLE)
    assert outcome(shown, record(2, 0, 1, MIDDLE.certificate), names=(HOST, "xx.example")) == ""


def test_an_authority_that_the_host_does_not_show_vouches_when_the_record_has_all_of_it() -> None:
    shown = Issued(LEAF.certificate, LEAF.key, (MIDDLE.certificate,))
    assert outcome(shown, record(2, 0, 0, ROOT.certificate)) == ""
    assert outcome(shown, record(2, 0, 1, ROOT.certificate)) == "certificate-not-trusted"


ALGORITHMS = [
    lambda: rsa.generate_private_key(65537, 2048),
    lambda: ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate,
    ed448.Ed448PrivateKey.generate,
]


@pytest.mark.parametrize("generate", ALGORITHMS, ids=["RSA", "ECDSA", "Ed25519", "Ed448"])
def test_the_bare_key_of_an_authority_that_the_host_does_not_show_vouches_for_what_it_has_signed(
    generate: Callable[[], Any],
) -> None:
    root = issue("root", authority=True, key=generate())
    middle = issue("middle", root, authority=True)
    bare = record(2, 1, 0, root.certificate)
    deep = issue(HOST, middle)
    assert outcome(Issued(deep.certificate, deep.key, (middle.certificate,)), bare) == ""
    for shown, failure in (
        (issue(HOST, root), ""),
        (issue(HOST, root, days=-1), "certificate-expired"),
        (issue("elsewhere.example", root), "certificate-host-mismatch"),
        (issue(HOST, issue("root", authority=True, key=generate())), "certificate-not-trusted"),
    ):
        assert outcome(Issued(shown.certificate, shown.key), bare) == failure
    # Of its digest nobody can tell what it has signed (RFC 7671 5.2.3).
    assert outcome(Issued(deep.certificate, deep.key, (middle.certificate,)), record(2, 1, 1, root.certificate)) != ""


def test_what_an_authority_has_signed_is_no_authority_for_that() -> None:
    leaf = issue("other.example", ROOT)
    below = issue(HOST, Issued(leaf.certificate, leaf.key))
    shown = Issued(below.certificate, below.key, (leaf.certificate,))
    assert outcome(shown, record(2, 1, 0, ROOT.certificate)) == "certificate-not-trusted"


def test_no_certificate_is_an_authority_for_itself() -> None:
    alone = issue(HOST)
    for selector, matching in ((0, 1), (1, 0), (1, 1)):
        assert outcome(alone, record(2, selector, matching, alone.certificate)) == "certificate-not-trusted"
    assert outcome(LEAF, record(3, 0, 1, MIDDLE.certificate)) == "certificate-not-trusted"


def test_an_authority_whose_name_was_taken_is_not_the_one_that_is_named() -> None:
    forged = issue(HOST, issue("middle", authority=True))
    shown = Issued(forged.certificate, forged.key, (MIDDLE.certificate, ROOT.certificate))
    assert outcome(shown, record(2, 0, 1, MIDDLE.certificate)) == "certificate-not-trusted"


def test_any_record_will_do_while_keys_change() -> None:
    old, new = record(3, 1, 1, OTHER.certificate), record(3, 1, 1, LEAF.certificate)
    assert outcome(LEAF, old, new) == ""
    assert outcome(LEAF, record(2, 0, 1, OTHER.certificate), new) == ""


@pytest.mark.parametrize(
    "bad",
    [
        TlsaRecord(0, 0, 1, bytes(32)),
        TlsaRecord(1, 1, 1, bytes(32)),
        TlsaRecord(4, 1, 1, bytes(32)),
        TlsaRecord(255, 1, 1, bytes(32)),
        TlsaRecord(3, 2, 1, bytes(32)),
        TlsaRecord(3, 1, 3, bytes(32)),
        TlsaRecord(3, 1, 1, bytes(31)),
        TlsaRecord(3, 1, 2, bytes(32)),
        TlsaRecord(3, 0, 0, b"\x30\x80nonsense"),
        TlsaRecord(3, 1, 0, b""),
        TlsaRecord(2, 0, 0, bytes(5000)),
    ],
)
def test_records_that_mean_nothing_for_mail_are_not_used(bad: TlsaRecord) -> None:
    good = record(3, 1, 1, LEAF.certificate)
    assert dane.usable([bad]) == ()
    assert dane.usable([bad, good, bad, good]) == (good,)


def test_of_several_digests_the_strongest_counts() -> None:
    strong, weak, full = (record(3, 1, matching, LEAF.certificate) for matching in (2, 1, 0))
    other = record(2, 1, 1, MIDDLE.certificate)
    assert dane.usable([weak, strong, full, other]) == (strong, full, other)
    assert outcome(LEAF, record(3, 1, 2, OTHER.certificate), weak) == "certificate-not-trusted"


@pytest.mark.parametrize(
    ("shown", "failure"),
    [
        (issue(HOST), "certificate-not-trusted"),
        (LEAF, "certificate-not-trusted"),
        (issue(HOST, days=-1), "certificate-not-trusted"),
    ],
)
def test_one_that_only_observes_goes_on_and_tells_what_is_wrong(shown: Issued, failure: str) -> None:
    creator = CLIENT.observing(HOST)
    handshake(creator.clientConnectionForTLS(None), serving(shown))
    assert creator.failure == failure
    assert creator.reason.startswith("X509_V_ERR_")


@pytest.mark.parametrize(
    ("shown", "failure"),
    [
        (LEAF, ""),
        (issue(HOST, MIDDLE, days=-1), "certificate-expired"),
        (issue("elsewhere.example", MIDDLE), "certificate-host-mismatch"),
        (issue(HOST, OTHER), "certificate-not-trusted"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_wrong_is_told_by_the_words_of_reports(
    shown: Issued, failure: str, strict: bool, roots: Callable[[], ClientTls]
) -> None:
    client = roots()
    creator = client.verifying(HOST) if strict else client.observing(HOST)
    for _ in range(2):
        try:
            handshake(creator.clientConnectionForTLS(None), serving(shown))
        except SSL.Error:
            assert strict
        assert creator.failure == failure


@pytest.fixture
def roots(tmp_path: pytest.TempPathFactory) -> Callable[[], ClientTls]:
    file = tmp_path / "root.pem"  # type: ignore[operator]
    file.write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    return lambda: ClientTls(roots=file)
