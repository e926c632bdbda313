"""What clients may call themselves, as a table."""

from __future__ import annotations

import pytest

from mailhub import builtin
from mailhub.delivery.screening.helo import helo_fault
from mailhub.interfaces import Origin
from mailhub.testing.exams import PolicyExam

OURS = {"mx.xx.example", "xx.example"}
ADDRESS = "An address in your greeting must stand in brackets"
NEITHER = "Your greeting names neither a host nor an address in brackets"
OUR_NAME = "That is our own name"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("mx.yy.example", ""),
        ("MX.YY.example.", ""),
        ("mx_1.yy.example", ""),
        ("bücher.example", ""),
        ("xn--bcher-kva.example", ""),
        ("[192.0.2.7]", ""),
        ("[IPv6:2001:db8::7]", ""),
        ("192.0.2.7", ADDRESS),
        ("2001:db8::7", ADDRESS),
        ("[192.0.2]", NEITHER),
        ("[2001:db8::7]", NEITHER),
        ("-", NEITHER),
        ("a..b", NEITHER),
        ("a b.example", NEITHER),
        ("x" * 255, NEITHER),
        ("x" * 64 + ".example", NEITHER),
        ("<script>", NEITHER),
        ("mx.xx.example", OUR_NAME),
        ("XX.Example", OUR_NAME),
        ("localhost", OUR_NAME),
        ("LOCALHOST.localdomain", OUR_NAME),
        ("[192.0.2.1]", "That is our own address"),
        ("[127.0.0.1]", ""),
        ("printer", "The name in your greeting is not fully qualified"),
    ],
)
def test_what_is_said_is_judged_by_a_table(said: str, fault: str) -> None:
    origin = Origin("smtp", "192.0.2.7", "s1", helo=said, local="192.0.2.1")
    assert helo_fault(origin, OURS, qualified=True, literal=False) == fault


def test_what_is_asked_by_option_alone() -> None:
    printer = Origin("smtp", "192.0.2.7", "s1", helo="printer")
    assert helo_fault(printer, OURS, qualified=False, literal=False) == ""
    other = Origin("smtp", "192.0.2.7", "s1", helo="[192.0.2.8]")
    assert helo_fault(other, OURS, qualified=True, literal=True) == "The address in your greeting is not yours"
    own = Origin("smtp", "2001:db8::7", "s1", helo="[IPv6:2001:DB8:0::7]")
    assert helo_fault(own, OURS, qualified=True, literal=True) == ""


def test_who_is_on_this_very_machine_may_name_its_address() -> None:
    origin = Origin("smtp", "192.0.2.1", "s1", helo="[192.0.2.1]", local="192.0.2.1")
    assert helo_fault(origin, OURS, qualified=True, literal=True) == ""


class TestHelo(PolicyExam):
    factory = builtin.helo_policy


class TestStrictHelo(PolicyExam):
    factory = builtin.helo_policy
    options = {"strict": True, "qualified": False}
