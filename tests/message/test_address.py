"""Addresses: what is accepted, what is refused, and when two are the same mailbox."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.address import Address


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("a@xx.example", "a", "xx.example"),
        ("John.Doe+list@XX.Example", "John.Doe+list", "xx.example"),
        ("postmaster@localhost", "postmaster", "localhost"),
        ('"john doe"@xx.example', "john doe", "xx.example"),
        ('"a\\"b\\\\c"@xx.example', 'a"b\\c', "xx.example"),
        ('"plain"@xx.example', "plain", "xx.example"),
        ('"a@b"@xx.example', "a@b", "xx.example"),
        ('""@xx.example', "", "xx.example"),
        ("a@[127.0.0.1]", "a", "[127.0.0.1]"),
        ("a@[ipv6:2001:DB8::1]", "a", "[IPv6:2001:db8::1]"),
        ("用户@例子.广告", "用户", "例子.广告"),
        ("a@BÜCHER.example", "a", "bücher.example"),
        ("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example"),
        ("user%other.example@xx.example", "user%other.example", "xx.example"),
        ("a..b@xx.example", "a..b", "xx.example"),
        ("c.@xx.example", "c.", "xx.example"),
        (".d@xx.example", ".d", "xx.example"),
        ("x@mail_01.example", "x", "mail_01.example"),
        ("x@_a_.example", "x", "_a_.example"),
        ("x@XX.example.", "x", "xx.example"),
        ("x@b\u00fccher.example.", "x", "b\u00fccher.example"),
        ("x" * 256 + "@xx.example", "x" * 256, "xx.example"),
        ('"' + "\\a" * 256 + '"@xx.example', "a" * 256, "xx.example"),
    ],
)
def test_parse(text: str, local: str, domain: str) -> None:
    assert Address.parse(text) == Address(local, domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "@xx.example",
        "a@",
        "a b@xx.example",
        "a@b@xx.example",
        '"a@xx.example',
        '"a"b@xx.example',
        '"a\x00"@xx.example',
        '"a\r\nRCPT TO:<b>"@xx.example',
        "a\n@xx.example",
        "a@xx.example\n",
        "a@-xx.example",
        "a@xx-.example",
        "a@x..example",
        "a@xx.example..",
        "a@.",
        "a@" + "x" * 64 + ".example",
        "a@" + "x." * 130 + "example",
        "a@" + "x" * 100_000,
        "x" * 257 + "@xx.example",
        "ü" * 129 + "@xx.example",
        "x" * 100_000 + "@xx.example",
        "a\x85b@xx.example",
        "a\u2028b@xx.example",
        "a\ud800@xx.example",
        "a@\ud800.example",
        "a@\u2603\u0000.example",
        "a@[127.0.0.1",
        "a@[]",
        "a@[127.0.0.256]",
        "a@[IPv6:fe80::1%eth0]",
        "a@[IPv6:127.0.0.1]",
        "a@[unknown:text]",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A@xx.example", "a@XX.EXAMPLE"),
        ('"a"@xx.example', "a@xx.example"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@BÜCHER.example", "a@XN--BCHER-KVA.example"),
        ("a@bu\u0308cher.example", "a@bücher.example"),
        ("JÖRG@xx.example", "jo\u0308rg@xx.example"),
        ("straße@xx.example", "STRASSE@xx.example"),
    ],
)
def test_same_mailbox_has_the_same_key(one: str, other: str) -> None:
    assert Address.parse(one).key == Address.parse(other).key


def test_different_mailboxes_have_different_keys() -> None:
    keys = {
        Address.parse(f"{local}@{domain}").key for local in ("a", "b", '"a b"') for domain in ("x.example", "y.example")
    }
    assert len(keys) == 6


def test_ascii_forms() -> None:
    address = Address.parse("a@bücher.example")
    assert (address.ascii_domain, address.is_ascii) == ("xn--bcher-kva.example", False)
    assert Address.parse("a@[127.0.0.1]").ascii_domain == "[127.0.0.1]"
    assert Address.parse("a@xx.example").is_ascii
    assert not Address.parse("ü@xx.example").is_ascii


_LOCAL = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12)


@given(_LOCAL, st.sampled_from(["xx.example", "[127.0.0.1]", "bücher.example"]))
@settings(deadline=None, max_examples=150)
def test_what_is_written_is_read_back(local: str, domain: str) -> None:
    address = Address(local, domain)
    assert Address.parse(str(address)) == address


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=150)
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = Address.parse(text + "@" + text[::-1])
    except ValueError:
        return
    assert Address.parse(str(address)).key == address.key


@pytest.mark.parametrize("local", ["a..b", "c.", ".d", ".", ".."])
def test_dots_out_of_place_are_written_in_quotes(local: str) -> None:
    address = Address.parse(f"{local}@xx.example")
    assert str(address) == f'"{local}"@xx.example'
    assert Address.parse(str(address)) == address
    assert address.key == Address.parse(f'"{local.upper()}"@XX.example.').key
