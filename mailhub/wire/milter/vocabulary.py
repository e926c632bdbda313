"""The words of the milter protocol: what is said to a filter, what it may ask for and answer (Sendmail's libmilter,
protocol versions 2 to 6; its headers are the text of record, there is no RFC)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag
from types import MappingProxyType
from typing import Literal

import attrs

from mailhub.wire.smtp.replies import Reply

VERSION = 6
OLDEST_VERSION = 2


class Action(IntFlag):
    """What a filter may do to a message (SMFIF_*)."""

    ADD_HEADER = 0x001
    REPLACE_BODY = 0x002
    ADD_RECIPIENT = 0x004
    DELETE_RECIPIENT = 0x008
    CHANGE_HEADER = 0x010
    QUARANTINE = 0x020
    CHANGE_SENDER = 0x040
    ADD_RECIPIENT_WITH_PARAMETERS = 0x080
    CHOOSE_MACROS = 0x100


class Step(IntFlag):
    """What is done otherwise for a filter that wants it so (SMFIP_*): commands that it is not sent (NO_*), commands
    that it does not answer (SILENT_*), and three abilities."""

    NO_CONNECT = 0x000001
    NO_HELO = 0x000002
    NO_MAIL = 0x000004
    NO_RCPT = 0x000008
    NO_BODY = 0x000010
    NO_HEADER = 0x000020
    NO_END_OF_HEADER = 0x000040
    SILENT_HEADER = 0x000080
    NO_UNKNOWN = 0x000100
    NO_DATA = 0x000200
    SKIP = 0x000400  # it may answer that it has seen enough of them
    REFUSED_RECIPIENTS = 0x000800  # it is told of those, too
    SILENT_CONNECT = 0x001000
    SILENT_HELO = 0x002000
    SILENT_MAIL = 0x004000
    SILENT_RCPT = 0x008000
    SILENT_DATA = 0x010000
    SILENT_UNKNOWN = 0x020000
    SILENT_END_OF_HEADER = 0x040000
    SILENT_BODY = 0x080000
    LEADING_SPACE = 0x100000  # the space after a field's colon is part of its value


NO_STEP = Step(0)
EVERY_ACTION = Action(0x1FF)
EVERY_STEP = Step(0x1FFFFF)


class Stage(IntEnum):
    """Where macros are sent (SMFIM_*)."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5
    END_OF_HEADER = 6


@attrs.frozen
class Command:
    """Something that is said to a filter and answered by it. `stage`: whose macros go before it. `since`: the version
    of the protocol that has brought it. `of_message`: it is about a message, which may be discarded then."""

    letter: bytes
    name: str
    stage: Stage | None
    skipped: Step
    silent: Step
    since: int = OLDEST_VERSION
    of_message: bool = True


CONNECT = Command(b"C", "connect", Stage.CONNECT, Step.NO_CONNECT, Step.SILENT_CONNECT, of_message=False)
HELO = Command(b"H", "helo", Stage.HELO, Step.NO_HELO, Step.SILENT_HELO, of_message=False)
MAIL = Command(b"M", "mail", Stage.MAIL, Step.NO_MAIL, Step.SILENT_MAIL)
RCPT = Command(b"R", "rcpt", Stage.RCPT, Step.NO_RCPT, Step.SILENT_RCPT)
DATA = Command(b"T", "data", Stage.DATA, Step.NO_DATA, Step.SILENT_DATA, since=4)
HEADER = Command(b"L", "header", None, Step.NO_HEADER, Step.SILENT_HEADER)
END_OF_HEADER = Command(b"N", "end of header", Stage.END_OF_HEADER, Step.NO_END_OF_HEADER, Step.SILENT_END_OF_HEADER)
BODY = Command(b"B", "body", None, Step.NO_BODY, Step.SILENT_BODY)
END_OF_MESSAGE = Command(b"E", "end of message", Stage.END_OF_MESSAGE, NO_STEP, NO_STEP)
UNKNOWN = Command(b"U", "unknown command", None, Step.NO_UNKNOWN, Step.SILENT_UNKNOWN, since=3, of_message=False)
# Of these a filter may have seen enough.
REPEATED = (RCPT, HEADER, BODY)

Kind = Literal["continue", "accept", "reject", "tempfail", "discard", "skip", "reply", "close"]
KINDS: Mapping[bytes, Kind] = MappingProxyType(
    {
        b"c": "continue",
        b"a": "accept",
        b"r": "reject",
        b"t": "tempfail",
        b"d": "discard",
        b"s": "skip",
        b"y": "reply",
        b"4": "close",  # SMFIR_SHUTDOWN
        b"f": "close",  # SMFIR_CONN_FAIL
    }
)


# --- What a filter wants changed, at the end of a message -------------------------------------------------------------


@attrs.frozen
class AddHeader:
    """A field below all others."""

    name: str
    value: str


@attrs.frozen
class InsertHeader:
    """A field before the one with this index, of all that there are by then. Index 0 is the field of the server that
    has just taken the message, which filters are not shown, so that 1 is before the first that they are."""

    index: int
    name: str
    value: str


@attrs.frozen
class ChangeHeader:
    """Another value for the field of this name with this number, 1 for the first; it goes where `value` is empty, and
    is added where there is none."""

    index: int
    name: str
    value: str


@attrs.frozen
class ChangeSender:
    """Another reverse-path, as `<ann@xx.example>`, and parameters of MAIL."""

    address: str
    parameters: str = ""


@attrs.frozen
class AddRecipient:
    """One more, and parameters of RCPT."""

    address: str
    parameters: str = ""


@attrs.frozen
class DeleteRecipient:
    """One less."""

    address: str


@attrs.frozen
class Quarantine:
    """The message is to be put aside."""

    reason: str


Change = AddHeader | InsertHeader | ChangeHeader | ChangeSender | AddRecipient | DeleteRecipient | Quarantine


# --- Events -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Negotiated:
    """The filter is there."""

    version: int
    actions: Action
    steps: Step


@attrs.frozen
class Answer:
    """What the filter says to a command. `reply` is there with the kind "reply"; `changes`, in order, at the end of a
    message alone."""

    kind: Kind
    reply: Reply | None = None
    changes: tuple[Change, ...] = ()


@attrs.frozen
class NewBody:
    """The next octets of what is to be the body instead, before the answer to the end of the message."""

    octets: bytes


@attrs.frozen
class Progress:
    """It is still at work, and has its time anew."""


@attrs.frozen
class Broken:
    """The filter breaks the protocol: nothing more can be said to it."""

    reason: str


Event = Negotiated | Answer | NewBody | Progress | Broken
