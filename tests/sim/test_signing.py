"""What leaves our users' hands is signed, and a second server finds it so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mailhub.checks.signing import PrivateKey, SigningKey, new_key
from mailhub.delivery.authentication.keys import PART, KeptKey, KeptKeys
from mailhub.message.header import raw_fields
from mailhub.testing.hubs import EPOCH, Host, Internet

RSA = new_key("rsa")
ED25519 = new_key("ed25519")
MESSAGE = b"From: Ann <ann@xx.example>\r\nTo: bob@yy.example\r\nSubject: hello\r\n\r\nHow are you?\r\n"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        internet.resolver.txt["_dmarc.xx.example"] = [b"v=DMARC1; p=reject"]
        yield internet


def with_keys(host: Host, domain: str = "xx.example", state: Any = "active") -> list[SigningKey]:
    """It has two keys, and DNS shows them."""
    private: dict[str, PrivateKey] = {"r1": RSA, "e1": ED25519}
    keys = [SigningKey(domain, selector, key) for selector, key in private.items()]
    kept = [KeptKey(key, EPOCH, state, EPOCH) for key in keys]
    host.internet.wait(KeptKeys(host.hub.database.state.of(PART)).put(kept))
    publish(host.internet, *keys)
    host.internet.run(2)
    return keys


def publish(internet: Internet, *keys: SigningKey) -> None:
    for key in keys:
        internet.resolver.txt[key.name] = [key.record.encode()]


def fields(message: bytes, name: bytes) -> list[bytes]:
    return [octets for each, octets in raw_fields(message) if each == name]


def results(message: bytes) -> str:
    [field] = fields(message, b"authentication-results")
    return field.decode()


def test_what_a_user_submits_passes_at_the_next_server(internet: Internet) -> None:
    xx, yy = internet.hub("xx.example", ["ann"]), internet.hub("yy.example", ["bob"])
    with_keys(xx)
    xx.submit("ann@xx.example", ["bob@yy.example", "ann@xx.example"], MESSAGE)
    internet.run(60)
    [message], [own] = yy.inbox("bob@yy.example"), xx.inbox("ann@xx.example")
    assert results(message).count("dkim=pass header.d=xx.example") == 2
    assert "dmarc=pass" in results(message)
    assert fields(message, b"dkim-signature") == fields(own, b"dkim-signature")
    assert [name for name, _ in raw_fields(own)][:5] == [
        b"return-path",
        b"received",
        b"dkim-signature",
        b"dkim-signature",
        b"date",
    ]
