"""Names of Maildir++: folders as IMAP calls them, and what the name of a message's file says.

A folder `Lists/Großes` is the directory `.Lists.Gro&AN8-es`: dots between levels, each level in modified UTF-7, as
Dovecot and Courier write it. A dot within a level is written `&AC4-`, as Courier does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mailhub.errors import InvalidMailboxName
from mailhub.message import modified_utf_7
from mailhub.message.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, SYSTEM_FLAGS, Flags, each_once
from mailhub.message.mailbox_names import DELIMITER, INBOX, is_allowed, normalise

NAME_LIMIT = 255  # octets of a file's name
_DOT = "&AC4-"

FORWARDED = "$Forwarded"  # P, passed: resent, forwarded or bounced
LETTERS = {"D": DRAFT, "F": FLAGGED, "P": FORWARDED, "R": ANSWERED, "S": SEEN, "T": DELETED}
"""The flags that every program knows (https://cr.yp.to/proto/maildir.html)."""
_LETTER_OF = {flag.lower(): letter for letter, flag in LETTERS.items()}

_ATTRIBUTE = re.compile(r",([SW])=(\d{1,15})(?=[,:]|$)")
_TIME = re.compile(r"(\d{1,12})\.(?:M(\d{1,9}))?")


# --- folders ---------------------------------------------------------------------------------------------------------


def directory(name: str) -> str:
    """Where the messages of a mailbox are, in the Maildir; "" for INBOX. Raises InvalidMailboxName for a name that is
    too long for a directory's."""
    if name == INBOX:
        return ""
    path = "." + written(name)
    if len(path) > NAME_LIMIT:
        raise InvalidMailboxName(f"Mailbox name needs more than {NAME_LIMIT} octets in a Maildir")
    return path


def written(name: str) -> str:
    """A mailbox's name as directories and the list of subscriptions have it, without the first dot."""
    return ".".join(
        _DOT.join(modified_utf_7.encode(part).decode() for part in level.split(".")) for level in name.split(DELIMITER)
    )


def mailbox(text: str) -> str | None:
    """The name that `written` wrote so; also of one that another program has written in UTF-8. None for what is no
    name of a mailbox."""
    levels = []
    for level in text.split("."):
        try:
            levels.append(".".join(_read(part) for part in level.split(_DOT)))
        except InvalidMailboxName:
            return None
    name = DELIMITER.join(levels)
    return name if is_allowed(name) and normalise(name) == name else None


def _read(part: str) -> str:
    if part.isascii():
        return modified_utf_7.read(part.encode())
    return part  # with lone surrogates where it is no UTF-8 either, which no name may have


# --- messages --------------------------------------------------------------------------------------------------------


class Parsed(NamedTuple):
    """What a file's name says. `base` names the message as long as it is in the folder; `letters` are its flags."""

    base: str
    letters: str

    @property
    def attributes(self) -> dict[str, int]:
        """`S`: octets of the file; `W`: octets when each line ends in CRLF."""
        return {key: int(value) for key, value in _ATTRIBUTE.findall(self.base)}

    @property
    def order(self) -> tuple[int, int, str]:
        """Of arrival."""
        time = _TIME.match(self.base)
        return (int(time[1]), int(time[2] or 0), self.base) if time else (0, 0, self.base)


def parse(file: str) -> Parsed:
    """Read `base:2,LETTERS`. What stands behind another number than 2 is not for us."""
    base, _, info = file.partition(":")
    return Parsed(base, info[2:] if info.startswith("2,") else "")


def file_name(base: str, letters: Iterable[str]) -> str:
    """In cur: letters in the order of ASCII, each once."""
    return f"{base}:2,{''.join(sorted(set(letters)))}"


def flags_of(letters: str, keywords: Iterable[str]) -> Flags:
    """The flags that letters stand for, each in the spelling of its first letter; `keywords` are those of a, b, c..."""
    table = dict(zip("abcdefghijklmnopqrstuvwxyz", keywords, strict=False))
    found = (LETTERS.get(letter) or table.get(letter) for letter in letters)
    return each_once(flag for flag in found if flag)


def letter_of(flag: str) -> str:
    """The letter that every program knows, "" for none."""
    return _LETTER_OF.get(flag.lower(), "")


def keywords_in(flags: Flags) -> Flags:
    """Those that have no letter of their own."""
    return frozenset(flag for flag in flags - SYSTEM_FLAGS if not letter_of(flag))


def host_part(host: str) -> str:
    """A host's name as it may stand in a unique name."""
    return host.replace("/", "\\057").replace(":", "\\072").replace(",", "\\054") or "localhost"
