"""SASL PLAIN and LOGIN, both ends."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.credentials import PlainCredentials
from mailhub.wire.sasl import (
    CLIENT_MECHANISMS,
    SERVER_MECHANISMS,
    ClientExchange,
    SaslCancelled,
    SaslError,
    ServerExchange,
    choose,
    plain_credentials,
    prepare,
)

ANN = PlainCredentials("", "ann", "s3cret")


def test_plain_with_an_initial_response() -> None:
    assert ServerExchange("PLAIN").start(b64encode(b"\0ann\0s3cret")) == ANN


def test_plain_asks_with_an_empty_challenge() -> None:
    exchange = ServerExchange("PLAIN")
    assert exchange.start(None) == b""
    assert exchange.receive(b64encode(b"bob\0ann\0s3cret")) == PlainCredentials("bob", "ann", "s3cret")


def test_login_asks_for_name_and_password() -> None:
    exchange = ServerExchange("LOGIN")
    assert exchange.start(None) == b"VXNlcm5hbWU6"
    assert exchange.receive(b64encode(b"ann")) == b"UGFzc3dvcmQ6"
    assert exchange.receive(b64encode(b"s3cret")) == ANN


def test_login_takes_the_name_as_initial_response() -> None:
    exchange = ServerExchange("LOGIN")
    assert exchange.start(b64encode(b"ann")) == b"UGFzc3dvcmQ6"
    assert exchange.receive(b64encode(b"s3cret")) == ANN


@pytest.mark.parametrize("mechanism", SERVER_MECHANISMS)
def test_a_star_cancels(mechanism: str) -> None:
    exchange = ServerExchange(mechanism)
    exchange.start(None)
    with pytest.raises(SaslCancelled):
        exchange.receive(b"*")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"ann",
        b"\0ann",
        b"\0\0s3cret",
        b"\0ann\0",
        b"\0ann\0a\0b",
        b"\0ann\0\xff",
        b"\0a\rnn\0x",
        b"\0ann\0x\x7f",
        "\0ann\0x\u0085".encode(),
        b"\0" + b"a" * 256 + b"\0x",
        b"\0ann\0" + b"x" * 1025,
        b"a" * 256 + b"\0ann\0x",
    ],
)
def test_malformed_plain(response: bytes) -> None:
    exchange = ServerExchange("PLAIN")
    exchange.start(None)
    with pytest.raises(SaslError):
        exchange.receive(b64encode(response))


@pytest.mark.parametrize(
    "line", [b"AGFubgBzM2NyZXQ", b"AGFubgBz M2NyZXQ=", b"====", b"AGFu=bgB", b"\xff", b"AAAA\rAAAA"]
)
def test_broken_base64(line: bytes) -> None:
    with pytest.raises(SaslError):
        ServerExchange("PLAIN").start(line)


def test_an_equals_sign_is_an_empty_initial_response() -> None:
    with pytest.raises(SaslError, match="malformed PLAIN"):
        ServerExchange("PLAIN").start(b"=")
    assert ServerExchange("LOGIN").start(b"=") == b"UGFzc3dvcmQ6"


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(CLIENT_MECHANISMS)), st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_both_ends_agree(mechanism: str, user: str, password: str) -> None:
    try:
        # The server takes blanks around a name for none of it.
        expected = PlainCredentials("", prepare(user).strip(" ") or "ann", prepare(password))
    except (SaslError, UnicodeEncodeError):
        return
    client = ClientExchange(mechanism, expected)
    server = ServerExchange(mechanism)
    step = server.start(client.initial())
    while isinstance(step, bytes):
        step = server.receive(client.receive(step))
    assert step == expected


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(SERVER_MECHANISMS)), st.lists(st.binary(max_size=30), max_size=4), st.booleans())
def test_random_octets_give_typed_errors_only(mechanism: str, lines: list[bytes], wrap: bool) -> None:
    exchange = ServerExchange(mechanism)
    step = exchange.start(None)
    for line in lines:
        if not isinstance(step, bytes):
            break
        try:
            step = exchange.receive(b64encode(line) if wrap else line)
        except SaslError:
            break


@pytest.mark.parametrize("mechanism", CLIENT_MECHANISMS)
def test_a_client_does_not_repeat_itself_to_a_server_that_keeps_asking(mechanism: str) -> None:
    client = ClientExchange(mechanism, ANN)
    for _ in range(2 if client.initial() is None else 0):
        client.receive(b"")
    with pytest.raises(SaslError):
        client.receive(b"")


def test_the_client_prefers_plain() -> None:
    assert choose(["login", "plain", "X-NEW"]) == "PLAIN"
    assert choose(["LOGIN"]) == "LOGIN"
    assert choose(["SCRAM-SHA-256"]) is None


def test_equal_passwords_have_one_form() -> None:
    decomposed = plain_credentials(b"", b"ann", "u\u0308\u00a0x".encode())
    assert decomposed.password == "\u00fc x"


def test_blanks_around_a_name_are_none_of_it_but_of_a_password_they_are() -> None:
    # Telephones put a blank behind a name that they have completed.
    credentials = plain_credentials(b" ann ", b" ann ", b" secret ")
    assert (credentials.authorization_id, credentials.user, credentials.password) == ("ann", "ann", " secret ")
    with pytest.raises(SaslError, match="empty user name"):
        plain_credentials(b"", b"  ", b"secret")


def test_the_password_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(ANN)
