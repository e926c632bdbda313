"""Which addresses a list of patterns names."""

from __future__ import annotations

import pytest

from mailhub.message.address import Address
from mailhub.message.patterns import AddressPatterns


@pytest.mark.parametrize(
    ("pattern", "address", "wanted"),
    [
        ("ann@xx.example", "Ann@XX.example", True),
        ("ann@xx.example", "anna@xx.example", False),
        ("ann@xx.example", "ann+list@xx.example", False),
        ("xx.example", "ann@xx.example", True),
        ("@xx.example", "ann@xx.example", True),
        ("xx.example", "ann@sub.xx.example", False),
        ("xx.example", "ann@zxx.example", False),
        ("*.xx.example", "ann@sub.xx.example", True),
        ("@*.xx.example", "ann@deep.sub.xx.example", True),
        ("*.xx.example", "ann@xx.example", False),
        ("*", "ann@xx.example", True),
        ("*", "", False),
        ("<>", "", True),
        ("<>", "ann@xx.example", False),
        ("bücher.example", "ann@xn--bcher-kva.example", True),
        ("*.xn--bcher-kva.example", "ann@www.bücher.example", True),
        ("[192.0.2.1]", "ann@[192.0.2.1]", True),
        ("*.2.1]", "ann@[192.0.2.1]", None),
        ("a b", "ann@xx.example", None),
        ("ann@", "ann@xx.example", None),
        ("*.", "ann@xx.example", None),
        ("", "ann@xx.example", None),
        ("*@xx.example", "*@xx.example", True),
    ],
)
def test_a_pattern_names_addresses(pattern: str, address: str, wanted: bool | None) -> None:
    if wanted is None:
        with pytest.raises(ValueError, match="is no address, no domain"):
            AddressPatterns.parse([pattern])
        return
    assert AddressPatterns.parse([pattern]).match(Address.parse(address) if address else None) is wanted


def test_any_address_is_not_named() -> None:
    patterns = AddressPatterns.parse(["*", "xx.example"])
    assert patterns.match(Address.parse("ann@yy.example"))
    assert not patterns.names(Address.parse("ann@yy.example"))
    assert patterns.names(Address.parse("ann@xx.example"))
