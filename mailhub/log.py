"""The one logger of mailhub: whatever came from outside is escaped before any observer sees it.

A log line is fields between spaces, so what a peer chose must have neither line ends nor spaces, quotes, brackets or
invisible characters of its own: it could forge other fields or other lines, for the reader and for programs such as
fail2ban. A field is therefore escaped by its type and not by the caller's memory. Formats are constants of the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from time import time
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.logger import Logger as TwistedLogger
from twisted.python.failure import Failure
from zope.interface import provider

# Characters; what is longer ends with "...".
FIELD_LIMIT = 1000
TRACEBACK_LIMIT = 20_000

# What most fields are made of: nothing here ends a field, opens a quote or a bracket. `=` is for VERP addresses.
_PLAIN = re.compile(rf"[A-Za-z0-9!#$%&*+,./:;?@^_`{{|}}~()=-]{{0,{FIELD_LIMIT}}}")
_DANGEROUS = frozenset("\\\"'<>[]=")
# Letters, marks and symbols that show nothing; `str.isprintable` knows the controls, formats and separators.
_SELECTORS = "".join(map(chr, range(0xFE00, 0xFE10)))
_INVISIBLE = frozenset(f"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0{_SELECTORS}")
_UNCHANGED = (bool, int, float, type(None))
# How `Logger.event` writes a field, by its name: mail addresses as in SMTP, text that people read in quotes.
_AROUND = {"from": "<%s>", "to": "<%s>", "account": "<%s>", "peer": "[%s]", "reply": "'%s'", "reason": "'%s'"}
_SENTENCES = frozenset({"reply", "reason"})


def escaped(text: str, keep: str = "", limit: int = FIELD_LIMIT) -> str:
    r"""`text` with each character that could be taken for something else as `\xNN`, `\uNNNN` or `\UNNNNNNNN`.

    `keep`: characters that are left as they are all the same.
    """
    cut = text[:limit]
    shown = "".join(char if char in keep or _harmless(char) else _escape(char) for char in cut)
    return shown if len(text) <= limit else f"{shown}..."


def _harmless(char: str) -> bool:
    return char != " " and char.isprintable() and char not in _DANGEROUS and char not in _INVISIBLE


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def word(value: object) -> str:
    """A field's value without spaces, to stand for itself or in brackets."""
    text = value if type(value) is str else _text(value)
    return text if _PLAIN.fullmatch(text) else escaped(text)


def sentence(value: object) -> str:
    """A field's value with spaces and brackets, for text that people read: what would begin a field or end the single
    quotes around it has been escaped."""
    return escaped(_text(value), keep=' "<>[]')


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
    except Exception:
        return f"unprintable-{type(value).__name__}"


_UNUSUAL = re.compile(r"[^\t\n -~]")


def clean(text: str) -> str:
    """Whole lines of whatever origin without controls and characters that show nothing; line ends and tabs stay."""
    return text if not _UNUSUAL.search(text) else _UNUSUAL.sub(_clean_one, text)


def _clean_one(found: re.Match[str]) -> str:
    char = found[0]
    return char if _harmless(char) else _escape(char)


class Field(str):
    """An escaped field: `{field}` is its word, `{field!r}` its sentence in quotes, `{field:text}` without."""

    __slots__ = ("_sentence",)
    _sentence: str

    def __new__(cls, value: object) -> Field:
        self = super().__new__(cls, word(value))
        self._sentence = sentence(value)
        return self

    def __repr__(self) -> str:
        return f"'{self._sentence}'"

    def __format__(self, form: str) -> str:
        return self._sentence if form == "text" else super().__format__(form)


class EscapedFailure(Failure):
    """A failure whose traceback is safe to print: the text of an exception may quote what a peer said."""

    def __init__(self, failure: Failure) -> None:
        self.__dict__.update(failure.__dict__)

    def getTraceback(self, elideFrameworkCode: int = 0, detail: str = "default") -> str:
        """See `Failure`."""
        text = super().getTraceback(elideFrameworkCode, detail)
        return escaped(text, keep=" \n\"'<>[]=", limit=TRACEBACK_LIMIT)


@provider(ILogObserver)
def escape_others(event: LogEvent) -> None:
    """Escapes everybody else's events: tracebacks, such as Twisted's about a Deferred that nobody listens to, and the
    text of a plugin that logs what a peer has said with another logger. Its line ends stay, for Twisted's observers
    indent what follows them.

    Observers are handed the same event one after the other: this one must be added before those that write.
    """
    if "log_escaped" in event:
        return
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        event["log_failure"] = EscapedFailure(failure)
    text = formatEvent(event)
    if _UNUSUAL.search(text):
        event.update(log_format="{log_text}", log_text=clean(text))


class Logger(TwistedLogger):
    """What every module logs with (`tests/test_log.py` reads the source). Numbers stay numbers."""

    def emit(self, level: object, format: str | None = None, **kwargs: object) -> None:
        """See `twisted.logger.Logger`."""
        fields = {name: value if name.startswith("log_") else _field(value) for name, value in kwargs.items()}
        fields["log_escaped"] = True
        failure = kwargs.get("log_failure")
        if isinstance(failure, Failure):
            fields["log_failure"] = EscapedFailure(failure)
        super().emit(level, format, **fields)  # type: ignore[arg-type]

    def event(
        self,
        what: str,
        fields: Mapping[str, object],
        level: Any = LogLevel.info,
        failure: Failure | None = None,
    ) -> None:
        """A line `what: name=value name=value ...`, which costs a tenth of a format with as many fields; with the
        traceback of a failure."""
        names = tuple(fields)
        told = self._told(_form(what, names) % _escaped(names, fields.values()), fields, level)
        if failure is not None:
            told["log_failure"] = EscapedFailure(failure)
        self.observer(told)

    def events(
        self, what: str, fields: Mapping[str, object], differing: tuple[str, ...], rows: Iterable[tuple[str, ...]]
    ) -> None:
        """The same for several lines that differ in some fields alone, each with a row of texts for these: what they
        have in common is looked at once."""
        names = tuple(fields)
        common = zip(names, _escaped(names, fields.values()), strict=True)
        form = _form(what, names) % tuple(["%s" if name in differing else _literally(text) for name, text in common])
        for row in rows:
            own = dict(zip(differing, row, strict=True))
            shown = row if _PLAIN.fullmatch("".join(row)) else _escaped(differing, row)
            self.observer(self._told(form % shown, {**fields, **own}, LogLevel.info))

    def _told(self, line: str, fields: Mapping[str, object], level: Any) -> LogEvent:
        """What TwistedLogger.emit() does, but for asking whether there is such a level."""
        return {
            "log_line": line,
            "log_fields": fields,
            "log_escaped": True,
            "log_format": "{log_line}",
            "log_logger": self,
            "log_level": level,
            "log_namespace": self.namespace,
            "log_source": self.source,
            "log_time": time(),
        }


def _escaped(names: Sequence[str], values: Iterable[object]) -> tuple[str, ...]:
    """The values of fields, ready for the line. Nearly always there is nothing to escape in any: one look for all."""
    texts = [value if type(value) is str else _text(value) for value in values]
    if _PLAIN.fullmatch("".join(texts)):
        return tuple(texts)
    named = zip(names, texts, strict=True)
    return tuple([sentence(text) if name in _SENTENCES else word(text) for name, text in named])


@lru_cache(maxsize=1024)  # names of fields are the source's, and few
def _form(what: str, names: tuple[str, ...]) -> str:
    """A line of the log with `%s` for each value."""
    pairs = " ".join([f"{_literally(name)}={_AROUND.get(name, '%s')}" for name in names])
    return f"{_literally(what)}: {pairs}"


def _literally(text: str) -> str:
    return text.replace("%", "%%")


def _field(value: object) -> object:
    # bool, int, float: not their subclasses, which may print anything.
    return value if type(value) in _UNCHANGED else Field(value)
