"""Reports about TLS: where they go, what is counted, how they are written and read."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.reporting import Sender
from mailhub.message.tls_report import Tally, TlsFailure, TlsPolicyUsed, parse, render, reporting_uris

STS = TlsPolicyUsed("sts", "yy.example", ("version: STSv1", "mode: testing"), ("*.yy.example",))
EXPIRED = TlsFailure("certificate-expired", "mx.yy.example", "192.0.2.1", "expired", helo="yy.example")


@pytest.mark.parametrize(
    ("texts", "uris"),
    [
        ([b"v=TLSRPTv1; rua=mailto:a@yy.example"], ("mailto:a@yy.example",)),
        ([b"v=TLSRPTv1;rua=https://yy.example/x?y , mailto:a@b ;"], ("https://yy.example/x?y", "mailto:a@b")),
        ([b"v=spf1", b"v=TLSRPTv1; rua=mailto:a@b; more=x"], ("mailto:a@b",)),
        ([b"v=TLSRPTv1; x-1=2; more; =; rua=mailto:a@b;rua=mailto:c@d"], ("mailto:a@b",)),
        ([b"v=TLSRPTv1; rua=mailto:a@b?x=y"], ("mailto:a@b?x=y",)),
        ([b"v=TLSRPTv1; Rua=mailto:a@b"], ()),
        ([b"v=TLSRPTv1; rua=http://yy.example/"], ()),
        ([b"v=TLSRPTv1; rua=mailto:a@b"] * 2, ()),
        ([b"v=TLSRPTv1; rua="], ()),
        ([b"v=TLSRPTv1"], ()),
        ([b"v=TLSRPTv1; rua=mailto:a@b\r\nX: y"], ()),
        ([b"v=TLSRPTv1; rua=" + b",".join([b"mailto:a@b"] * 99)], ("mailto:a@b",) * 5),
        ([], ()),
    ],
)
def test_where_reports_go(texts: list[bytes], uris: tuple[str, ...]) -> None:
    assert reporting_uris(texts) == uris


def test_a_report() -> None:
    tally = Tally()
    for _ in range(3):
        tally.add(STS)
    tally.add(STS, EXPIRED)
    tally.add(STS, EXPIRED)
    again = Tally()
    again.add_rendered(tally.rendered())
    again.add_rendered(tally.rendered())
    packed = render(Sender("mx.xx.example", "XX", "a@xx.example"), "1@mx.xx.example", "2024-01-01", again.rendered())
    assert (
        parse(packed)
        == json.loads(gzip.decompress(packed))
        == {
            "organization-name": "XX",
            "date-range": {"start-datetime": "2024-01-01T00:00:00Z", "end-datetime": "2024-01-01T23:59:59Z"},
            "contact-info": "a@xx.example",
            "report-id": "1@mx.xx.example",
            "policies": [
                {
                    "policy": {
                        "policy-type": "sts",
                        "policy-string": ["version: STSv1", "mode: testing"],
                        "policy-domain": "yy.example",
                        "mx-host": ["*.yy.example"],
                    },
                    "summary": {"total-successful-session-count": 6, "total-failure-session-count": 4},
                    "failure-details": [
                        {
                            "result-type": "certificate-expired",
                            "receiving-mx-hostname": "mx.yy.example",
                            "receiving-ip": "192.0.2.1",
                            "failure-reason-code": "expired",
                            "receiving-mx-helo": "yy.example",
                            "failed-session-count": 4,
                        }
                    ],
                }
            ],
        }
    )


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60), st.booleans()), max_size=200))
def test_however_much_goes_wrong_it_is_counted_and_stays_small(sessions: list[tuple[int, int, bool]]) -> None:
    tally = Tally()
    for policy, failure, went_well in sessions:
        used = TlsPolicyUsed("sts", "yy.example", (str(policy) * 1000,))
        tally.add(used, None if went_well else TlsFailure("validation-failure", f"mx{failure}"))
    told = tally.rendered()
    assert len(told) <= 20
    assert all(len(each["failure-details"]) <= 21 for each in told)
    assert sum(each["summary"]["total-successful-session-count"] for each in told) == sum(ok for _, _, ok in sessions)
    failed = sum(each["summary"]["total-failure-session-count"] for each in told)
    assert failed == sum(not ok for _, _, ok in sessions)


@pytest.mark.parametrize(
    "octets",
    [b"", b"{", b"[]", b"{}", b'{"policies": 1}', b"\x1f\x8bnonsense", gzip.compress(b"x" * (5 << 20)), b"[" * 100_000],
)
def test_what_is_no_report(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"unpack|large|JSON|policies"):
        parse(octets)


@pytest.mark.parametrize("counts", [[1], [{}], [{"policy": {}}], [None]])
def test_what_are_no_counts(counts: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="no counts"):
        Tally().add_rendered(counts)
