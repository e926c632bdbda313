"""What checks have found, as Authentication-Results says it (RFC 8601)."""

from __future__ import annotations

import re

import attrs

_VALUE_LIMIT = 255  # characters of one value
_LIMIT = 800  # octets of one result, so that it fits a line whatever a sender has written
_SHORT = _LIMIT // 4  # characters that are no more octets than that
# RFC 2045 5.1: a token, without what some readers take for the end of one
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+^_`{|}~.-]+")
# [[local-part] "@"] domain-name (RFC 8601 2.2): of the former no more than anybody reads in the same way
_ADDRESS = re.compile(r"(?:[A-Za-z0-9!#$%&'*+^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+^_`{|}~-]+)*)?@[A-Za-z0-9_.-]+")
_QUOTED = re.compile(r'(["\\])')


@attrs.frozen
class Result:
    """One: `method` and `value` as they are registered, `reason` for a person, properties such as
    ("smtp.mailfrom", "a.example"). Texts may be a stranger's: they come out quoted, without controls, and cut."""

    method: str
    value: str
    properties: tuple[tuple[str, str], ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        """The resinfo (RFC 8601 2.2), in one line. What there is no room for is left out."""
        said = f"{self.method}={self.value}"
        told = [("reason", _quoted(self.reason))] if self.reason else []
        for name, value in (*told, *[(name, pvalue(value)) for name, value in self.properties if value]):
            longer = f"{said} {name}={value}"
            if len(longer) <= _SHORT or len(longer.encode()) <= _LIMIT:
                said = longer
        return said


def pvalue(text: str) -> str:
    """A value as it may stand there: as it is where it can be read in one way alone, else quoted. Nothing that a sender
    has written ends it, begins a comment, or looks like a result."""
    if len(text) <= _VALUE_LIMIT and (_TOKEN.fullmatch(text) or _ADDRESS.fullmatch(text)):
        return text
    return _quoted(text)


def _quoted(text: str) -> str:
    plain = "".join([each if each.isprintable() else "?" for each in text[:_VALUE_LIMIT]])
    return '"' + _QUOTED.sub(r"\\\1", plain) + '"'
