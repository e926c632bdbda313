"""AUTH on the server's side (RFC 4954): the command, and the lines of an exchange that follow it."""

from __future__ import annotations

from collections.abc import Callable

from mailhub.credentials import PlainCredentials
from mailhub.wire.sasl import SERVER_MECHANISMS, SaslCancelled, SaslError, ServerExchange
from mailhub.wire.smtp.dialogue import Dialogue
from mailhub.wire.smtp.events import Login
from mailhub.wire.smtp.grammar import parse_auth, refused


def authenticate(dialogue: Dialogue, argument: str) -> Login | None:
    """The action of AUTH. What comes next while `dialogue.exchange` is there goes to `respond`."""
    if dialogue.authenticated:
        raise refused(503, "5.5.1", "Already authenticated")
    mechanism, initial = parse_auth(argument)
    if mechanism not in dialogue.settings.mechanisms or mechanism not in SERVER_MECHANISMS:
        raise refused(504, "5.5.4", "Mechanism not supported")
    exchange = dialogue.exchange = ServerExchange(mechanism)
    return _step(dialogue, lambda: exchange.start(initial))


def respond(dialogue: Dialogue, exchange: ServerExchange, line: bytes) -> Login | None:
    """The client's next line of an exchange."""
    return _step(dialogue, lambda: exchange.receive(line))


def _step(dialogue: Dialogue, step: Callable[[], bytes | PlainCredentials]) -> Login | None:
    try:
        result = step()
    except SaslError as error:
        dialogue.exchange = None
        status = "5.7.0" if isinstance(error, SaslCancelled) else "5.5.2"
        raise refused(501, status, str(error).capitalize()) from None
    if isinstance(result, bytes):
        dialogue.out.append(b"334 " + result + b"\r\n")
        return None
    dialogue.exchange = None
    return Login(result)
