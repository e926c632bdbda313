"""Which senders are one and the same, and which networks."""

from __future__ import annotations

import pytest

from mailhub import builtin
from mailhub.delivery.screening.greylist import network_of, normalised
from mailhub.message.address import Address
from mailhub.testing.exams import PolicyExam


@pytest.mark.parametrize(
    ("sender", "other"),
    [
        ("Ann@YY.example", "ann@yy.example"),
        ("ann+20260101@yy.example", "ann+x@yy.example"),
        ("list-return-12-ben=xx.example@yy.example", "list-return-13-ben=xx.example@yy.example"),
        ("bounces-00ff12ab34cd@yy.example", "bounces-deadbeef0123@yy.example"),
        ("prvs=1234abcdef=ann@yy.example", "prvs=9876543210=ann@yy.example"),
        ("srs0=HHHH=TT=zz.example=cat@yy.example", "SRS0=xyz1=A7=zz.example=cat@yy.example"),
        ("srs0+HHHH=TT=zz.example=cat@yy.example", "srs0=abcd=AB=zz.example=cat@yy.example"),
        (
            "srs1=HHHH=ww.example==abcd=TT=zz.example=cat@yy.example",
            "srs1=XXXX=ww.example==abcd=TT=zz.example=cat@yy.example",
        ),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
    ],
)
def test_senders_that_are_one(sender: str, other: str) -> None:
    assert normalised(Address.parse(sender)) == normalised(Address.parse(other))


@pytest.mark.parametrize(
    ("sender", "other"),
    [
        ("ann@yy.example", "ben@yy.example"),
        ("ann@yy.example", "ann@zz.example"),
        ("srs0=HHHH=TT=zz.example=cat@yy.example", "srs0=HHHH=TT=zz.example=dog@yy.example"),
        ("+a@yy.example", "+b@yy.example"),
        ("feedback@yy.example", "deadbeat@yy.example"),
    ],
)
def test_senders_that_are_two(sender: str, other: str) -> None:
    assert normalised(Address.parse(sender)) != normalised(Address.parse(other))


def test_the_null_sender_is_one_of_its_own() -> None:
    assert normalised(None) == ""


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8::77", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("somebody", "somebody"),
    ],
)
def test_the_network_of_a_client(peer: str, network: str) -> None:
    assert network_of(peer) == network


class TestGreylist(PolicyExam):
    factory = builtin.greylist_policy


class TestGreylistWithAllItHas(PolicyExam):
    factory = builtin.greylist_policy
    options = {
        "delay_seconds": 1,
        "networks": ["2001:db8::/32"],
        "domains": ["yy.example"],
        "good_lists": ["good.example=127.0.[0..9].[1..3]"],
        "network_passes": 1,
    }
