"""The machine of the milter protocol, on the side of the mail server: commands to a filter, its answers and changes.

The owner says what happens, one thing after the other, and waits for the answer wherever the filter has agreed to give
one: each method returns whether it will. What the filter does not want to see is not sent, so that the owner may tell
everything. Nothing that it says is trusted: a wrong length, an answer to nothing, a change that it has not asked to
make end it (`Broken`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal

import attrs

from mailhub.message.edits import EDITS_LIMIT
from mailhub.wire.milter.packets import (
    DATA_LIMIT,
    Nonsense,
    PacketReader,
    options,
    packet,
    read_change,
    read_options,
    read_reply,
    text,
)
from mailhub.wire.milter.vocabulary import (
    BODY,
    CONNECT,
    DATA,
    END_OF_HEADER,
    END_OF_MESSAGE,
    EVERY_ACTION,
    EVERY_STEP,
    HEADER,
    HELO,
    KINDS,
    MAIL,
    NO_STEP,
    OLDEST_VERSION,
    RCPT,
    REPEATED,
    UNKNOWN,
    VERSION,
    Action,
    Answer,
    Broken,
    Change,
    Command,
    Event,
    Negotiated,
    NewBody,
    Progress,
    Stage,
    Step,
)
from mailhub.wire.smtp.replies import Reply

Family = Literal["inet", "inet6", "unix", "unknown"]
_FAMILIES: Mapping[Family, bytes] = {"inet": b"4", "inet6": b"6", "unix": b"L", "unknown": b"U"}
_FIELD_LIMIT = DATA_LIMIT - 512  # octets of a field's value that are sent; its name has the rest
_CHANGES_OCTETS = 1 << 20  # of all changes of a message but its body


@attrs.frozen
class Offer:
    """What a filter may choose from, and what is sent by default. `macros`: their names by stage. `body_octets`: of
    what it may make the body."""

    actions: Action = EVERY_ACTION
    steps: Step = EVERY_STEP
    macros: Mapping[Stage, tuple[str, ...]] = attrs.field(factory=dict)
    body_octets: int = 50 << 20


class MilterClient:
    """One connection to a filter. `closing`: close it once data_to_send() is out."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self._reader = PacketReader()
        self._out: list[bytes] = [packet(b"O", options(VERSION, offer.actions, offer.steps))]
        self._events: deque[Event] = deque()
        self._macros = dict(offer.macros)
        self._awaited: Command | None = None
        self._enough: set[bytes] = set()  # letters of what the filter has seen enough of
        self._changes: list[Change] = []
        self._changed = self._body = 0  # octets
        self.negotiated: Negotiated | None = None
        self.closing = False

    # --- Octets -------------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take octets from the filter."""
        if self.closing:
            return
        self._reader.feed(data)
        try:
            while not self.closing and (found := self._reader.next()) is not None:
                self._take(*found)
        except Nonsense as error:
            self._break(str(error))

    def data_to_send(self) -> bytes:
        """Take the octets to send."""
        octets = b"".join(self._out)
        self._out.clear()
        return octets

    def next_event(self) -> Event | None:
        """What happened next; None until more octets come."""
        return self._events.popleft() if self._events else None

    def _break(self, reason: str) -> None:
        self.closing, self._awaited = True, None
        self._events.append(Broken(reason))

    # --- What the filter says -----------------------------------------------------------------------------------------

    def _take(self, letter: bytes, data: bytes) -> None:
        if self.negotiated is None:
            self._negotiate(letter, data)
            return
        command = self._awaited
        if command is None:
            raise Nonsense(f"{letter!r} where it was asked nothing")
        if letter == b"p":
            self._events.append(Progress())
        elif letter in KINDS:
            self._answer(command, letter, data)
        elif command is not END_OF_MESSAGE:
            raise Nonsense(f"{letter!r} is no answer to {command.name}")
        elif letter == b"b":
            self._allowed(Action.REPLACE_BODY, letter)
            self._body += len(data)
            if self._body > self._offer.body_octets:
                raise Nonsense(f"a body of more than {self._offer.body_octets} octets")
            self._events.append(NewBody(data))
        else:
            self._change(letter, data)

    def _negotiate(self, letter: bytes, data: bytes) -> None:
        if letter != b"O":
            raise Nonsense(f"{letter!r} before its options")
        said = read_options(data)
        if not OLDEST_VERSION <= said.version <= VERSION:
            raise Nonsense(f"version {said.version} of the protocol, which is none from {OLDEST_VERSION} to {VERSION}")
        # Not of flags: their complement knows nothing of others.
        if more := int(said.actions) & ~int(self._offer.actions):
            raise Nonsense(f"it wants to do what was not offered (actions {more:#x})")
        if more := int(said.steps) & ~int(self._offer.steps):
            raise Nonsense(f"it wants of the protocol what was not offered (steps {more:#x})")
        self._macros.update(said.macros)
        self.negotiated = Negotiated(said.version, said.actions, said.steps)
        self._events.append(self.negotiated)

    def _answer(self, command: Command, letter: bytes, data: bytes) -> None:
        kind = KINDS[letter]
        reply: Reply | None = None
        if kind == "reply":
            reply = read_reply(data)
        elif data:
            raise Nonsense(f"the answer {kind} with {len(data)} octets")
        if kind == "discard" and not command.of_message:
            raise Nonsense(f"it discards at {command.name}, where there is no message")
        if kind == "skip":
            if command not in REPEATED:
                raise Nonsense(f"it has seen enough of {command.name}, of which there is one")
            self._enough.add(command.letter)
        changes, self._changes = tuple(self._changes), []
        self._awaited, self._changed, self._body = None, 0, 0
        self._events.append(Answer(kind, reply, changes))

    def _change(self, letter: bytes, data: bytes) -> None:
        found = read_change(letter, data)
        if found is None:
            raise Nonsense(f"{letter!r} means nothing")
        action, change = found
        self._allowed(action, letter)
        self._changed += len(data)
        if len(self._changes) >= EDITS_LIMIT or self._changed > _CHANGES_OCTETS:
            raise Nonsense(f"more than {EDITS_LIMIT} changes, or {_CHANGES_OCTETS} octets of them")
        self._changes.append(change)

    def _allowed(self, action: Action, letter: bytes) -> None:
        assert self.negotiated is not None, "nothing is asked before"
        if not action & self.negotiated.actions:
            raise Nonsense(f"the change {letter!r}, which it has not asked to make")

    # --- What is said to it -------------------------------------------------------------------------------------------

    def has(self, step: Step) -> bool:
        """Whether this was agreed on."""
        return self.negotiated is not None and bool(step & self.negotiated.steps)

    def wants(self, command: Command) -> bool:
        """Whether the filter is sent such."""
        assert self.negotiated is not None, "it is asked after that"
        unwanted = self.has(command.skipped) or command.letter in self._enough
        return not unwanted and self.negotiated.version >= command.since

    def connect(
        self, name: str, family: Family, address: str = "", port: int = 0, macros: Mapping[str, str] | None = None
    ) -> bool:
        """A client is there: its name, or its address in brackets; `address` is that of its family, a path for
        "unix"."""
        self._enough.clear()
        data = text(name) + _FAMILIES[family]
        if family != "unknown":
            data += port.to_bytes(2, "big") + text(address)
        return self._say(CONNECT, data, macros)

    def helo(self, name: str, macros: Mapping[str, str] | None = None) -> bool:
        """HELO, EHLO or LHLO."""
        return self._say(HELO, text(name), macros)

    def mail(self, path: str, parameters: str = "", macros: Mapping[str, str] | None = None) -> bool:
        """MAIL, with the path in angle brackets. A message begins."""
        self._enough.clear()
        return self._say(MAIL, _arguments(path, parameters), macros)

    def rcpt(self, path: str, parameters: str = "", macros: Mapping[str, str] | None = None) -> bool:
        """RCPT."""
        return self._say(RCPT, _arguments(path, parameters), macros)

    def data(self, macros: Mapping[str, str] | None = None) -> bool:
        """DATA."""
        return self._say(DATA, b"", macros)

    def header(self, name: bytes, value: bytes) -> bool:
        """One field; `value` is all after the colon, without the line end. NUL is left out, a value beyond 64 KiB cut,
        for libmilter would hang up."""
        value = value.replace(b"\0", b"").replace(b"\r\n", b"\n")
        if not self.has(Step.LEADING_SPACE) and value[:1] in (b" ", b"\t"):
            value = value[1:]
        return self._say(HEADER, name[:256] + b"\0" + value[:_FIELD_LIMIT] + b"\0")

    def end_of_header(self, macros: Mapping[str, str] | None = None) -> bool:
        """All fields have been told."""
        return self._say(END_OF_HEADER, b"", macros)

    def body(self, octets: bytes) -> bool:
        """The next octets of the body, DATA_LIMIT at most."""
        return self._say(BODY, octets)

    def end_of_message(self, macros: Mapping[str, str] | None = None) -> bool:
        """All of it has been told: always answered, perhaps after changes."""
        return self._say(END_OF_MESSAGE, b"", macros)

    def unknown(self, line: str) -> bool:
        """A command that we do not know."""
        return self._say(UNKNOWN, text(line))

    def abort(self) -> None:
        """The message that has begun is none any more; the connection stays."""
        self._say_unanswered(b"A")
        self._enough.clear()

    def next_client(self) -> bool:
        """The client is gone, and another may come on this connection; false where the filter knows no such thing, and
        the connection is to be ended."""
        if self.closing or self.negotiated is None or self.negotiated.version < VERSION:
            return False
        self._say_unanswered(b"K")
        return True

    def quit(self) -> None:
        """Take leave."""
        if not self.closing:
            self._out.append(packet(b"Q"))
            self.closing = True

    def _say(self, command: Command, data: bytes = b"", macros: Mapping[str, str] | None = None) -> bool:
        if self._awaited is not None or self.negotiated is None:
            raise RuntimeError(f"{command.name} out of turn")
        if self.closing:
            return True  # the next event says why
        if not self.wants(command):
            return False
        if len(self._reader):
            self._break("it speaks before it is asked")
            return True
        if macros and command.stage is not None:
            self._define(command, command.stage, macros)
        self._out.append(packet(command.letter, data))
        if command.silent is not NO_STEP and self.has(command.silent):
            return False
        self._awaited = command
        return True

    def _define(self, command: Command, stage: Stage, macros: Mapping[str, str]) -> None:
        data = b""
        for name in self._macros.get(stage, ()):
            # `{i}` and `i` are the same.
            bare = name.strip("{}")
            if (value := macros.get(bare)) is not None:
                named = text(bare if len(bare) == 1 else f"{{{bare}}}") + text(value)
                data += named if len(data) + len(named) < DATA_LIMIT else b""
        if data:
            self._out.append(packet(b"D", command.letter + data))

    def _say_unanswered(self, letter: bytes) -> None:
        if self._awaited is not None:
            raise RuntimeError(f"{letter!r} out of turn")
        self._out.append(packet(letter))


def _arguments(path: str, parameters: str) -> bytes:
    return b"".join([text(each) for each in (path, *parameters.split(" ")) if each])
