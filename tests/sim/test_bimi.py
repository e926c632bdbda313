"""The logo that a stranger's domain wants shown, in what is delivered."""

from __future__ import annotations

from mailhub.testing.hubs import Internet
from tests.sim.test_authentication import HEADER, hub, internet, results, sent

__all__ = ["internet"]

LOGO = b"v=BIMI1; l=https://yy.example/logo.svg; a=https://yy.example/vmc.pem"
FORGED = b"BIMI-Location: v=BIMI1; l=https://evil.example/x.svg\r\nBIMI-Indicator: PHN2Zz4=\r\nbimi-location: y\r\n"


def test_where_the_logo_is_is_said_by_us_alone(internet: Internet) -> None:
    internet.resolver.txt["default._bimi.yy.example"] = [LOGO]
    host = hub(internet, bimi=True)
    assert sent(internet, host, FORGED + HEADER).startswith("250")
    (message,) = host.inbox("ann@xx.example")
    fields = [line for line in message.lower().split(b"\r\n") if line.startswith(b"bimi-")]
    assert fields == [b"bimi-location: v=bimi1; l=https://yy.example/logo.svg; a=https://yy.example/vmc.pem"]
    assert (
        b'bimi=pass header.d=yy.example header.selector=default policy.authority-uri="https://yy.example/vmc.pem"'
        in results(host)
    )


def test_a_message_that_is_not_sure_to_be_from_there_has_none(internet: Internet) -> None:
    internet.resolver.txt["default._bimi.yy.example"] = [LOGO]
    host = hub(internet, bimi=True, dmarc="report")
    assert sent(internet, host, FORGED + HEADER, source="10.8.8.8").startswith("250")
    (message,) = host.inbox("ann@xx.example")
    assert b"bimi-" not in message.lower()
    assert b'bimi=skipped reason="DMARC has not passed"' in results(host)


def test_several_authors_share_no_logo(internet: Internet) -> None:
    internet.resolver.txt["default._bimi.yy.example"] = [LOGO]
    host = hub(internet, bimi=True, dmarc="report")
    assert sent(internet, host, b"From: a@yy.example, b@zz.example\r\n").startswith("250")
    assert b'bimi=skipped reason="DMARC has not passed"' in results(host)


def test_by_default_nothing_is_said_of_it(internet: Internet) -> None:
    internet.resolver.txt["default._bimi.yy.example"] = [LOGO]
    host = hub(internet)
    assert sent(internet, host, FORGED + HEADER).startswith("250")
    (message,) = host.inbox("ann@xx.example")
    assert b"evil.example" in message
    assert not [each for each in results(host) if each.startswith(b"bimi")]
