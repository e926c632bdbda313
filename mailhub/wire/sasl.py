"""SASL exchanges as step machines, shared by SMTP, POP3 and IMAP: PLAIN (RFC 4616) and LOGIN.

Responses and challenges are handed over as they stand on the wire, in base64, without the protocol's own prefix
(`334 `, `+ `). A new mechanism is one class in `SERVER_MECHANISMS` or `CLIENT_MECHANISMS`.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from mailhub.credentials import PlainCredentials

# RFC 4954 4: the longest line of an exchange, in octets, CRLF included.
LINE_LIMIT = 12288
_USER_LIMIT = 255  # octets, RFC 4616 2
_PASSWORD_LIMIT = 1024  # octets; a hash function shall not be fed more
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SaslError(Exception):
    """The exchange is broken: a malformed response, or a text that no credential may be. The text is for the client."""


class SaslCancelled(SaslError):
    """The client sent `*`."""


def prepare(text: str) -> str:
    """One form for equal names and passwords (RFC 8265 4.2, OpaqueString): spaces alike, NFC. Raises SaslError."""
    if text.isascii():
        prepared = text
    else:
        prepared = "".join(" " if unicodedata.category(char) == "Zs" else char for char in text)
        prepared = unicodedata.normalize("NFC", prepared)
    if _CONTROL.search(prepared):
        raise SaslError("control character in credentials")
    return prepared


def plain_credentials(authorization_id: bytes, user: bytes, password: bytes) -> PlainCredentials:
    """Credentials from octets (POP3 USER/PASS and IMAP LOGIN too). Raises SaslError.

    Blanks around a name are none of it: telephones put one behind a name that they have completed.
    """
    authorization_id, user = authorization_id.strip(b" "), user.strip(b" ")
    if not user or not password:
        raise SaslError("empty user name or password")
    if len(authorization_id) > _USER_LIMIT or len(user) > _USER_LIMIT or len(password) > _PASSWORD_LIMIT:
        raise SaslError("credentials are too long")
    try:
        return PlainCredentials(*(prepare(octets.decode()) for octets in (authorization_id, user, password)))
    except UnicodeDecodeError:
        raise SaslError("credentials are not UTF-8") from None


def decode(line: bytes) -> bytes:
    """Read one base64 line strictly. Raises SaslError."""
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise SaslError("not valid base64") from None


def encode(octets: bytes) -> bytes:
    """Write one base64 line."""
    return binascii.b2a_base64(octets, newline=False)


Step = bytes | PlainCredentials


class _ServerMechanism(Protocol):
    """Raw octets in, a raw challenge or the result out. `initial` is the first response, None when there is none."""

    def start(self, initial: bytes | None) -> Step: ...

    def receive(self, response: bytes) -> Step: ...


class _PlainServer:
    def start(self, initial: bytes | None) -> Step:
        return b"" if initial is None else self.receive(initial)

    def receive(self, response: bytes) -> Step:
        # RFC 4616 2: message = [authzid] UTF8NUL authcid UTF8NUL passwd
        parts = response.split(b"\0", 3)
        if len(parts) != 3:
            raise SaslError("malformed PLAIN response")
        return plain_credentials(*parts)


class _LoginServer:
    """No standard defines it (draft-murchison-sasl-login); the prompts are those every client knows."""

    def __init__(self) -> None:
        self._user: bytes | None = None

    def start(self, initial: bytes | None) -> Step:
        return b"Username:" if initial is None else self.receive(initial)

    def receive(self, response: bytes) -> Step:
        if self._user is None:
            self._user = response
            return b"Password:"
        return plain_credentials(b"", self._user, response)


SERVER_MECHANISMS: Mapping[str, Callable[[], _ServerMechanism]] = {"PLAIN": _PlainServer, "LOGIN": _LoginServer}


class ServerExchange:
    """One authentication attempt at a server.

    `start` and `receive` give the next challenge to send, or the credentials when the exchange is complete; the
    caller bounds the lines by LINE_LIMIT. After a SaslError the exchange is over.
    """

    def __init__(self, mechanism: str) -> None:
        """Raises KeyError for an unknown mechanism (names are in upper case)."""
        self._mechanism = SERVER_MECHANISMS[mechanism]()

    def start(self, initial: bytes | None) -> Step:
        """Begin, with the initial response of the command or without (`=` is an empty one, RFC 4954 4)."""
        if initial is None:
            return self._step(self._mechanism.start(None))
        return self._step(self._mechanism.start(b"" if initial == b"=" else decode(initial)))

    def receive(self, line: bytes) -> Step:
        """Take the answer to a challenge. Raises SaslCancelled for `*`."""
        if line == b"*":
            raise SaslCancelled("authentication cancelled")
        return self._step(self._mechanism.receive(decode(line)))

    @staticmethod
    def _step(step: Step) -> Step:
        return encode(step) if isinstance(step, bytes) else step


class _ClientMechanism(Protocol):
    def initial(self) -> bytes | None: ...

    def respond(self, challenge: bytes) -> bytes: ...


class _PlainClient:
    def __init__(self, credentials: PlainCredentials) -> None:
        self._message = f"{credentials.authorization_id}\0{credentials.user}\0{credentials.password}".encode()

    def initial(self) -> bytes | None:
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        raise SaslError("PLAIN has no further step")


class _LoginClient:
    """Answers the first two challenges with name and password, whatever they say: servers word them differently."""

    def __init__(self, credentials: PlainCredentials) -> None:
        self._answers = [credentials.password.encode(), credentials.user.encode()]

    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise SaslError("LOGIN has no further step")
        return self._answers.pop()


CLIENT_MECHANISMS: Mapping[str, Callable[[PlainCredentials], _ClientMechanism]] = {
    "PLAIN": _PlainClient,
    "LOGIN": _LoginClient,
}


def choose(offered: Collection[str]) -> str | None:
    """The mechanism a client prefers among those offered, or None."""
    names = {name.upper() for name in offered}
    return next((name for name in CLIENT_MECHANISMS if name in names), None)


class ClientExchange:
    """One authentication attempt at a client."""

    def __init__(self, mechanism: str, credentials: PlainCredentials) -> None:
        """Raises KeyError for an unknown mechanism."""
        self._mechanism = CLIENT_MECHANISMS[mechanism](credentials)

    def initial(self) -> bytes | None:
        """The initial response for the command line, or None when the server speaks first."""
        octets = self._mechanism.initial()
        return octets if octets is None else (encode(octets) or b"=")

    def receive(self, line: bytes) -> bytes:
        """The answer to a challenge. Raises SaslError, after which the client sends `*`."""
        return encode(self._mechanism.respond(decode(line)))
