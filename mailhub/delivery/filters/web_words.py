"""What a policy over HTTP is asked, and what its answer means: the protocol of docs/plugins.rst, in JSON."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import attrs

from mailhub.interfaces import (
    AddField,
    AddRecipient,
    ChangeReversePath,
    Edit,
    InsertField,
    ITransactionView,
    NoteResult,
    Origin,
    RemoveField,
    RemoveRecipient,
    ReplaceBody,
    ReplaceField,
    Verdict,
)
from mailhub.message.address import Address
from mailhub.message.edits import EDITS_LIMIT
from mailhub.message.envelope import Recipient

Stage = Literal["connect", "hello", "mail", "recipient", "message"]

ANSWER_LIMIT = 1 << 20  # octets
_VERSION = 1
_RECIPIENTS = 1000  # that are told
_ACTIONS = ("accept", "reject", "defer", "discard", "quarantine")
_TEXTS = ("status", "text", "rule")


def of_client(stage: Stage, origin: Origin, hostname: str) -> dict[str, Any]:
    """What is asked at every stage."""
    return {
        "version": _VERSION,
        "stage": stage,
        "server": hostname,
        "client": {
            "address": origin.peer,
            "local": origin.local,
            "service": origin.service,
            "session": origin.session_id,
            "helo": origin.helo,
        },
        "tls": origin.tls,
        "login": origin.user,
    }


def of_envelope(transaction: ITransactionView, recipient: Recipient | None = None) -> dict[str, Any]:
    """What is told of a transaction, and at the stage of a recipient of the one that is asked about."""
    mail = transaction.mail
    told: dict[str, Any] = {
        "sender": str(mail.reverse_path) if mail.reverse_path is not None else "",
        "recipients": [str(each.address) for each in transaction.recipients[:_RECIPIENTS]],
        "smtputf8": mail.smtputf8,
    }
    return told if recipient is None else {**told, "recipient": str(recipient.address)}


def of_message(header: bytes, octets: int, body: bytes, *, whole: bool) -> dict[str, Any]:
    """What is told of a message: its header, how large it is, and as much of its body as is wanted. `whole`: that is
    all of it."""
    return {
        "header": header.decode("utf-8", "replace"),
        "octets": octets,
        "body": b64encode(body).decode("ascii"),
        "whole": whole,
    }


def question(told: Mapping[str, Any]) -> bytes:
    """As it is sent."""
    return json.dumps(told).encode("ascii", "replace")


def parse(octets: bytes) -> Verdict:
    """An answer. Raises ValueError, which says what is wrong, for anything else than the protocol has."""
    try:
        given = json.loads(octets)
    except RecursionError:
        raise ValueError("too deep a structure") from None
    known = _object(given, "the answer", ("action",), (*_TEXTS, "edits"))
    action = known["action"]
    if not isinstance(action, str) or action not in _ACTIONS:
        raise ValueError(f"the action {action!r:.80} is none of {', '.join(_ACTIONS)}")
    texts = {name: _text(known.get(name, ""), name) for name in _TEXTS}
    edits = known.get("edits", [])
    if not isinstance(edits, list) or len(edits) > EDITS_LIMIT:
        raise ValueError(f"edits are a list of up to {EDITS_LIMIT}")
    return Verdict(action, texts["status"], _line(texts["text"]), [_edit(each) for each in edits], _line(texts["rule"]))  # type: ignore[arg-type]


def _object(given: object, what: str, needed: Sequence[str], more: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{what} is no object")
    missing = [name for name in needed if name not in given]
    unknown = [name for name in given if name not in needed and name not in more]
    if missing or unknown:
        raise ValueError(f"{what} {'lacks ' + missing[0] if missing else f'has {unknown[0]!r:.80}, which is unknown'}")
    return given


def _text(given: object, what: str) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{what} is no text")
    return given


def _number(given: object, what: str) -> int:
    if not isinstance(given, int) or isinstance(given, bool):
        raise ValueError(f"{what} is no number")
    return given


def _line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _address(given: object, what: str) -> Address:
    return Address.parse(_text(given, what))


def _sender(given: object, what: str) -> Address | None:
    return None if given == "" else _address(given, what)


def _octets(given: object, what: str) -> bytes:
    return b64decode(_text(given, what), validate=True)


@attrs.frozen
class _Kind:
    """One kind of edit: how its keys are read, and what it makes of them, in order."""

    keys: Mapping[str, Callable[[object, str], Any]]
    make: Callable[..., Edit]


_KINDS: Mapping[str, _Kind] = {
    "add": _Kind({"name": _text, "value": _text}, AddField),
    "insert": _Kind({"name": _text, "value": _text, "place": _number}, InsertField),
    "replace": _Kind({"name": _text, "number": _number, "value": _text}, ReplaceField),
    "remove": _Kind({"name": _text, "number": _number}, RemoveField),
    "sender": _Kind({"address": _sender}, ChangeReversePath),
    "add-recipient": _Kind({"address": _address}, lambda address: AddRecipient(Recipient(address))),
    "remove-recipient": _Kind({"address": _address}, RemoveRecipient),
    "result": _Kind({"result": _text}, NoteResult),
    "body": _Kind({"base64": _octets}, ReplaceBody),
}


def _edit(given: object) -> Edit:
    name = given.get("do") if isinstance(given, dict) else None
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"an edit does {name!r:.80}, which is none of {', '.join(_KINDS)}")
    known = _object(given, f"the edit {name}", ("do", *kind.keys))
    return kind.make(*[read(known[key], key) for key, read in kind.keys.items()])
