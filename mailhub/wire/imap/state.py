"""The states of a connection (RFC 3501 3) as tables: which command is allowed in which, which answer leads where."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from mailhub.wire.imap import commands
from mailhub.wire.imap.commands import Command


class SessionState(Enum):
    """RFC 3501 3.1 to 3.4."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


_ANY = frozenset({SessionState.NOT_AUTHENTICATED, SessionState.AUTHENTICATED, SessionState.SELECTED})
_NOT_AUTHENTICATED = frozenset({SessionState.NOT_AUTHENTICATED})
_AUTHENTICATED = frozenset({SessionState.AUTHENTICATED, SessionState.SELECTED})
_SELECTED = frozenset({SessionState.SELECTED})

ALLOWED: Mapping[str, frozenset[SessionState]] = {
    **dict.fromkeys(("CAPABILITY", "NOOP", "LOGOUT", "ID"), _ANY),
    **dict.fromkeys(("STARTTLS", "AUTHENTICATE", "LOGIN"), _NOT_AUTHENTICATED),
    **dict.fromkeys(("SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE"), _AUTHENTICATED),
    **dict.fromkeys(("LIST", "LSUB", "STATUS", "APPEND", "NAMESPACE", "ENABLE", "IDLE"), _AUTHENTICATED),
    **dict.fromkeys(("CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "SEARCH", "FETCH", "STORE", "COPY", "MOVE"), _SELECTED),
    **dict.fromkeys(
        ("UID EXPUNGE", "UID SEARCH", "UID FETCH", "UID STORE", "UID COPY", "UID MOVE"),
        _SELECTED,
    ),
}

# Commands that exist only where this capability is offered.
EXTENSION: Mapping[str, str] = {
    "ID": "ID",
    "ENABLE": "ENABLE",
    "IDLE": "IDLE",
    "NAMESPACE": "NAMESPACE",
    "UNSELECT": "UNSELECT",
    "UID EXPUNGE": "UIDPLUS",
    "MOVE": "MOVE",
    "UID MOVE": "MOVE",
}

_AFTER_OK: Mapping[type[Command], SessionState] = {
    commands.Login: SessionState.AUTHENTICATED,
    commands.Select: SessionState.SELECTED,
    commands.Close: SessionState.AUTHENTICATED,
    commands.Unselect: SessionState.AUTHENTICATED,
    commands.Logout: SessionState.LOGOUT,
}


def after_ok(state: SessionState, command: object) -> SessionState:
    """The state once this command or event is answered OK."""
    return _AFTER_OK.get(type(command), state) if isinstance(command, Command) else state


def after_no(state: SessionState, command: object) -> SessionState:
    """The state once it is answered NO: a SELECT that fails leaves no mailbox selected (6.3.1)."""
    return SessionState.AUTHENTICATED if isinstance(command, commands.Select) else state
