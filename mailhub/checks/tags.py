"""Lists of tags: what the records and fields of DKIM, DMARC and ARC are written in (RFC 6376 3.2)."""

from __future__ import annotations

import re

TAGS_LIMIT = 100  # tags in one list
_LENGTH_LIMIT = 65_536  # octets of one list: no TXT record can have more

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*+")
_SPACE = " \t\r\n"
# VALCHAR with white space between, and beyond ASCII (RFC 8616 4)
_VALUE = re.compile(r"[\t\n\r -:<-~\x80-\U0010ffff]*+")


def parse_tags(octets: bytes) -> dict[str, str]:
    """The tags in their order, each with its value without the white space around it.

    Raises ValueError for what is no list, for a tag that comes twice, and for more than anybody needs.
    """
    if len(octets) > _LENGTH_LIMIT:
        raise ValueError("list of tags is too long")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise ValueError("list of tags is not UTF-8") from None
    specs = text.split(";", TAGS_LIMIT + 1)
    if not specs[-1].strip(_SPACE):
        specs.pop()
    if len(specs) > TAGS_LIMIT:
        raise ValueError("too many tags")
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = spec.partition("=")
        name, value = name.strip(_SPACE), value.strip(_SPACE)
        if not equals or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{spec.strip(_SPACE)!r:.60} is no tag")
        if name in tags:
            raise ValueError(f"tag {name}= comes twice")
        tags[name] = value
    return tags


def without_space(value: str) -> str:
    """A value in which white space means nothing: base64, and lists with colons."""
    return "".join(value.split())
