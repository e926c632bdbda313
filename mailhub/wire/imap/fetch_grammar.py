"""Reads the data items of FETCH (RFC 3501 6.4.5)."""

from __future__ import annotations

from typing import cast

from mailhub.wire.imap.commands import FetchAttribute, FetchItem, Section, SectionText
from mailhub.wire.imap.responses import astring
from mailhub.wire.imap.tokens import Tokens

ITEM_LIMIT = 200  # items in one command
PATH_LIMIT = 100  # numbers in one part path
FIELD_LIMIT = 200  # names in one HEADER.FIELDS
# HEADER.FIELDS in one command: each goes through the whole header and holds its own copy, a megabyte of a hostile one.
CHOICE_LIMIT = 10

_FAST = (FetchAttribute.FLAGS, FetchAttribute.INTERNALDATE, FetchAttribute.RFC822_SIZE)
_ALL = (*_FAST, FetchAttribute.ENVELOPE)
_MACROS: dict[bytes, tuple[FetchItem, ...]] = {b"FAST": _FAST, b"ALL": _ALL, b"FULL": (*_ALL, FetchAttribute.BODY)}

_WORDS: dict[bytes, FetchItem] = {
    **{attribute.value: attribute for attribute in FetchAttribute},
    b"RFC822": Section((), "", b"RFC822"),
    b"RFC822.HEADER": Section((), "HEADER", b"RFC822.HEADER", peek=True),
    b"RFC822.TEXT": Section((), "TEXT", b"RFC822.TEXT"),
}
_SECTION_TEXTS = ("HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME")


def fetch_items(tokens: Tokens, *, uid: bool) -> tuple[FetchItem, ...]:
    """Macros and items, in parentheses or (one, says the grammar) without. Raises BadSyntax."""
    listed = tokens.looking_at(b"(")
    if listed and not tokens.open():
        raise tokens.bad("Expected an item")
    items = _item_or_macro(tokens)
    while tokens.more(b")" if listed else b""):
        if len(items) >= ITEM_LIMIT:
            raise tokens.bad("Too many items")
        items += _item_or_macro(tokens)
    if sum(isinstance(item, Section) and bool(item.fields) for item in items) > CHOICE_LIMIT:
        raise tokens.bad("Too many lists of header fields")
    if uid and FetchAttribute.UID not in items:
        items.insert(0, FetchAttribute.UID)
    return _each_once(items)


def _item_or_macro(tokens: Tokens) -> list[FetchItem]:
    start = tokens.position
    if macro := _MACROS.get(_letters(tokens)):
        return list(macro)
    tokens.position = start
    return [_item(tokens)]


def _each_once(items: list[FetchItem]) -> tuple[FetchItem, ...]:
    """Each item once; of BODY[] and BODY.PEEK[] the one that sets \\Seen stays. Two partials are two items even where
    they begin at the same octet, and so have one label."""
    kept: dict[object, FetchItem] = {}
    for item in items:
        if isinstance(item, Section):
            key = (item.label, item.partial)
            if not (item.peek and key in kept):
                kept[key] = item
        else:
            kept[item] = item
    return tuple(kept.values())


def _item(tokens: Tokens) -> FetchItem:
    start = tokens.position
    word = _letters(tokens)
    peek = word == b"BODY.PEEK"
    if peek or (word == b"BODY" and tokens.looking_at(b"[")):
        return _section(tokens, peek)
    if item := _WORDS.get(word):
        return item
    tokens.position = start
    raise tokens.bad("Unknown item")


def _letters(tokens: Tokens) -> bytes:
    """An atom up to `[`, in capitals."""
    start = tokens.position
    word, bracket, _ = tokens.atom().partition(b"[")
    if bracket:
        tokens.position = start + len(word)
    return word.upper()


def _section(tokens: Tokens, peek: bool) -> Section:
    tokens.expect(b"[")
    tokens.blanks()
    path = _path(tokens)
    text: SectionText = ""
    fields: tuple[bytes, ...] = ()
    if not tokens.looking_at(b"]"):
        text = _section_text(tokens, within_part=bool(path))
        if text.startswith("HEADER.FIELDS"):
            tokens.blanks()
            fields = _fields(tokens)
    tokens.blanks()
    tokens.expect(b"]")
    partial = _partial(tokens)
    specification = ".".join([*map(str, path), *([text] if text else [])]).encode()
    names = b" (" + b" ".join(map(astring, fields)) + b")" if fields else b""
    label = b"BODY[%b%b]" % (specification, names) + (b"<%d>" % partial[0] if partial else b"")
    return Section(path, text, label, tuple(name.lower() for name in fields), peek, partial)


def _path(tokens: Tokens) -> tuple[int, ...]:
    """Part numbers. A dot is taken after the last one too if a section text follows."""
    path: list[int] = []
    while tokens.octets[tokens.position : tokens.position + 1].isdigit():
        if len(path) == PATH_LIMIT:
            raise tokens.bad("Too many part numbers")
        path.append(tokens.nz_number())
        if not tokens.accept(b"."):
            break
    else:
        if path and tokens.looking_at(b"]"):
            raise tokens.bad("Expected a section text")
        return tuple(path)
    if not tokens.looking_at(b"]"):
        raise tokens.bad("Expected ]")
    return tuple(path)


def _section_text(tokens: Tokens, *, within_part: bool) -> SectionText:
    # The atom ends at "]" or at the space before the field names: both are no atom characters.
    start = tokens.position
    word = tokens.word()
    if word not in _SECTION_TEXTS or (word == "MIME" and not within_part):
        tokens.position = start
        raise tokens.bad("Unknown section text")
    return cast(SectionText, word)


def _fields(tokens: Tokens) -> tuple[bytes, ...]:
    if not tokens.open():
        raise tokens.bad("Expected a field name")
    fields = [tokens.astring()]
    while tokens.more(b")"):
        if len(fields) == FIELD_LIMIT:
            raise tokens.bad("Too many field names")
        fields.append(tokens.astring())
    return tuple(fields)


def _partial(tokens: Tokens) -> tuple[int, int] | None:
    if not tokens.accept(b"<"):
        return None
    offset = tokens.number()
    tokens.expect(b".")
    count = tokens.nz_number()
    tokens.expect(b">")
    return offset, count
