from __future__ import annotations

import pytest

from mailhub.net.networks import Networks


@pytest.mark.parametrize(
    ("peer", "inside"),
    [
        ("192.0.2.200", True),
        ("::ffff:192.0.2.200", True),
        ("192.0.3.1", False),
        ("::1", True),
        ("::2", False),
        ("fe80::1%eth0", True),
        ("", False),
        ("nonsense", False),
    ],
)
def test_an_address_is_in_a_network_or_not(peer: str, inside: bool) -> None:
    assert (peer in Networks.parse("192.0.2.0/24", "::1", "fe80::/10")) is inside
    assert peer not in Networks()


def test_a_network_may_be_given_in_the_form_that_maps_ipv4_into_ipv6() -> None:
    assert "192.0.2.200" in Networks.parse("::ffff:192.0.2.0/120")
    assert "::ffff:192.0.2.7" in Networks.parse("::ffff:192.0.2.7")
    assert "192.0.3.1" not in Networks.parse("::ffff:192.0.2.0/120")
    assert "::ffff:192.0.3.1" not in Networks.parse("::/64")
