"""What others have found, as Authentication-Results and ARC-Authentication-Results say it (RFC 8601 2.2), read so that
nothing in a quoted text or a comment looks like a result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import attrs

from mailhub.message.address import to_ascii

RESULTS_LIMIT = 200  # of one field
_DOMAIN_LIMIT = 253  # octets
_LENGTH_LIMIT = 65_536  # octets of one field

_SPACE_OR_COMMENT = " \t\r\n("
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_WORD = re.compile(r'[^ \t\r\n;="()]+')
_IN_COMMENT = re.compile(r"[^()\\]+|\\.", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_METHOD = re.compile(r"([A-Za-z][A-Za-z0-9-]*)(?:/[0-9]+)?")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9.-]*")


@attrs.frozen
class _Token:
    """A word, "=", or a quoted string, which is not `plain`: it means nothing but itself."""

    text: str
    plain: bool = True


_EQUALS = _Token("=")
_Run = list[_Token]  # what stands together without white space


@attrs.frozen
class Reported:
    """One result: `method` and `value` in lower case, and its properties by names in lower case, such as
    "header.from"."""

    method: str
    value: str
    properties: Mapping[str, str]

    def domain(self, name: str) -> str:
        """The domain of a property in A-labels, "" without one: of an address what is behind its @."""
        domain = self.properties.get(name, "").rpartition("@")[2].lower()
        if domain.isascii() or len(domain) > _DOMAIN_LIMIT:
            return domain
        try:
            return to_ascii(domain)
        except ValueError:
            return ""


def read_results(octets: bytes) -> Sequence[Reported]:
    """The results of a field's body, which begins with the name of who has found them. What cannot be read is passed
    over; where nobody knows where it ends, there are none."""
    try:
        if len(octets) > _LENGTH_LIMIT:
            return ()
        pieces = list(_pieces(octets.decode()))
    except ValueError:
        return ()
    found = [_result(piece) for piece in pieces[1 : RESULTS_LIMIT + 1]]
    return [each for each in found if each is not None]


def _pieces(text: str) -> Iterator[list[_Run]]:
    """What is between semicolons, as runs. Raises ValueError for a string or a comment without an end."""
    piece: list[_Run] = []
    run: _Run = []
    place = 0
    while place < len(text):
        if text[place] in _SPACE_OR_COMMENT:
            place = _cfws_end(text, place)
            if run and run[-1] is not _EQUALS and text[place : place + 1] != "=":
                piece.append(run)
                run = []
        elif text[place] == ";":
            yield [*piece, run] if run else piece
            piece, run = [], []
            place += 1
        elif found := _WORD.match(text, place):
            run.append(_Token(found[0]))
            place = found.end()
        elif text[place] == "=":
            run.append(_EQUALS)
            place += 1
        elif found := _QUOTED.match(text, place):
            run.append(_Token(_ESCAPED.sub(r"\1", found[1]), plain=False))
            place = found.end()
        else:
            raise ValueError("it has no end")
    yield [*piece, run] if run else piece


def _cfws_end(text: str, place: int) -> int:
    """Where white space and comments end. Raises ValueError for a comment that does not."""
    depth = 0
    while place < len(text) and (depth or text[place] in _SPACE_OR_COMMENT):
        found = _IN_COMMENT.match(text, place) if depth else None
        if found is None:
            depth += {"(": 1, ")": -1}.get(text[place], 0)
        place = found.end() if found else place + 1
    if depth:
        raise ValueError("it has no end")
    return place


def _result(piece: Sequence[_Run]) -> Reported | None:
    pairs = [pair for run in piece if (pair := _pair(run)) is not None]
    if not pairs or len(pairs) < len(piece):
        return None
    (name, value), *others = pairs
    method = _METHOD.fullmatch(name)
    properties = {key.lower(): text for key, text in others}
    if method is None or len(properties) < len(others):
        return None
    return Reported(method[1].lower(), value.lower(), properties)


def _pair(run: _Run) -> tuple[str, str] | None:
    """A name and its value, which may have more "=" in it."""
    if len(run) < 3 or run[1] is not _EQUALS or not run[0].plain:
        return None
    return run[0].text, "".join([each.text for each in run[2:]])
