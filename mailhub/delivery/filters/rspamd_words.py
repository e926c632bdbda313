"""What rspamd is told of a message beside its octets, and what its answer means: the grammar alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import attrs

from mailhub.interfaces import AddField, InsertField, ITransactionView, RemoveField, ReplaceField
from mailhub.message.edits import HeaderEdit, check

ANSWER_LIMIT = 1 << 20  # octets
_SYMBOLS = 60  # that are told
_EDITS = 100  # of the header that one answer may ask for
_RECIPIENTS = 1000  # that are told
_TEXT_LIMIT = 200  # characters of a reply
_UNPRINTABLE = re.compile(r"[^ -~]+")
_LINE_END = re.compile(r"\r?\n(?=[ \t])")
_SYMBOL = re.compile(r"[A-Za-z0-9_.:-]{1,80}")

Action = Literal[
    "no action", "greylist", "add header", "rewrite subject", "soft reject", "reject", "discard", "quarantine"
]
_ACTIONS = frozenset(
    ["no action", "greylist", "add header", "rewrite subject", "soft reject", "reject", "discard", "quarantine"]
)


@attrs.frozen
class Judged:
    """What rspamd says. `symbols` with their scores, those that weigh most first; `text` is for the client; `edits` are
    those of the header that its milter headers ask for; `dropped` of them could not be carried out."""

    action: Action
    score: float
    required: float
    symbols: tuple[tuple[str, float], ...] = ()
    subject: str = ""
    text: str = ""
    edits: tuple[HeaderEdit, ...] = ()
    dropped: int = 0


def told(transaction: ITransactionView, hostname: str, client_name: str, queue_id: str) -> list[tuple[str, str]]:
    """The fields of the request."""
    origin, sender = transaction.origin, transaction.mail.reverse_path
    recipients = [str(each.address) for each in transaction.recipients[:_RECIPIENTS]]
    fields = [
        ("From", str(sender) if sender is not None else ""),
        *[("Rcpt", each) for each in recipients],
        ("IP", origin.peer.partition("%")[0] or "127.0.0.1"),
        ("Helo", origin.helo),
        ("Hostname", client_name),
        ("User", origin.user),
        ("Deliver-To", recipients[0] if len(recipients) == 1 else ""),
        ("Queue-Id", queue_id),
        ("MTA-Name", hostname),
    ]
    return [(name, _plain(text)) for name, text in fields if text or name == "From"]


def _plain(text: str) -> str:
    """Nothing that would end a line, and no blanks around."""
    return "".join(each if each.isprintable() else "?" for each in text[:1000]).strip()


def parse(octets: bytes) -> Judged:
    """An answer (JSON). Raises ValueError for what is none."""
    try:
        given = json.loads(octets)
    except RecursionError:
        raise ValueError("rspamd answers with too deep a structure") from None
    if not isinstance(given, dict):
        raise ValueError("rspamd answers with no object")
    if given.get("error"):
        raise ValueError(f"rspamd says {_UNPRINTABLE.sub(' ', str(given['error']))[:_TEXT_LIMIT]!r}")
    action = given.get("action")
    if not isinstance(action, str) or action not in _ACTIONS:
        raise ValueError(f"rspamd answers with the action {action!r:.80}")
    messages = given.get("messages")
    text = messages.get("smtp_message") if isinstance(messages, dict) else None
    milter = given.get("milter")
    found = list(_edits(milter if isinstance(milter, dict) else {}))
    edits = tuple(each for each in found[:_EDITS] if each is not None)
    subject = given.get("subject")
    return Judged(
        cast(Action, action),
        _number(given.get("score")),
        _number(given.get("required_score")),
        _symbols(given.get("symbols")),
        subject if isinstance(subject, str) else "",
        _UNPRINTABLE.sub(" ", text)[:_TEXT_LIMIT].strip() if isinstance(text, str) else "",
        edits,
        len(found) - len(edits),
    )


def _number(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or abs(given) > 1e9:
        raise ValueError(f"rspamd answers with the score {given!r:.80}")
    return float(given)


def _symbols(given: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(given, dict):
        return ()
    found = []
    for name, about in given.items():
        score = about.get("score", 0) if isinstance(about, dict) else None
        if isinstance(score, int | float) and _SYMBOL.fullmatch(name):
            found.append((name, _number(score)))
    return tuple(sorted(found, key=lambda each: -abs(each[1]))[:_SYMBOLS])


def _edits(milter: Mapping[str, Any]) -> Iterator[HeaderEdit | None]:
    """Fields that go, then those that come; None for each that cannot be."""
    for name, numbers in _items(milter.get("remove_headers")):
        for number in numbers if isinstance(numbers, list) else [numbers]:
            yield _checked(RemoveField(name, number))
    for name, values in _items(milter.get("add_headers")):
        for value in values if isinstance(values, list) else [values]:
            about = value if isinstance(value, dict) else {"value": value}
            text, order = about.get("value"), about.get("order")
            if not isinstance(text, str):
                yield None
                continue
            text = _LINE_END.sub("\r\n", text)
            if isinstance(order, int) and not isinstance(order, bool) and order:
                yield _checked(InsertField(name, text, max(-1, order)))
            else:
                yield _checked(AddField(name, text))


def _items(given: object) -> list[tuple[str, Any]]:
    return list(given.items()) if isinstance(given, dict) else []


def _checked(edit: HeaderEdit) -> HeaderEdit | None:
    try:
        check(edit)
    except ValueError:
        return None
    return edit


def subject_edits(header: bytes, subject: str) -> tuple[HeaderEdit, ...]:
    """The subject that it is to have; nothing where none can be."""
    there = re.search(rb"(?im)^subject[ \t]*:", header) is not None
    subject = _UNPRINTABLE_LINE.sub(" ", subject)
    edit = _checked(ReplaceField("Subject", 1, subject) if there else AddField("Subject", subject))
    return () if edit is None else (edit,)


_UNPRINTABLE_LINE = re.compile(r"[\x00-\x1f\x7f]+")

_SPAM_FIELDS = ("X-Spam", "X-Spam-Action", "X-Spam-Score", "X-Spam-Symbols")


def spam_fields(judged: Judged) -> tuple[HeaderEdit, ...]:
    """Fields that say what was found, those of strangers with these names taken out."""
    symbols = ",\r\n\t".join(f"{name}({score:.2f})" for name, score in judged.symbols)
    fields = [
        ("X-Spam-Symbols", symbols),
        ("X-Spam-Score", f"{judged.score:.2f} / {judged.required:.2f}"),
        ("X-Spam-Action", judged.action),
        ("X-Spam", "Yes" if judged.action in ("add header", "rewrite subject", "quarantine") else ""),
    ]
    return (
        *[RemoveField(name, 0) for name in _SPAM_FIELDS],
        *[AddField(name, value) for name, value in fields if value],
    )
