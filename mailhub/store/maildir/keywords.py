"""Keywords of a folder: the file `dovecot-keywords` says which of them the letters a to z stand for, a line each:
`0 $Junk`. Dovecot's own programs and ours may write it, one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from mailhub.errors import StoreUnavailable, TooManyKeywords
from mailhub.message import flags as flag_names
from mailhub.message.flags import Flags
from mailhub.store.maildir.manner import Manner, read_file
from mailhub.store.maildir.names import keywords_in

FILE = "dovecot-keywords"
NUMBER = 26  # of letters
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LIMIT = 64 * 1024  # octets
_STALE_SECONDS = 60.0  # a lock of before that was left by a program that is no more
_WAIT_SECONDS = 3.0  # for another program
_PAUSE_SECONDS = 0.05


def read(folder: Path) -> list[str]:
    """The keywords of a, b, c...; "" where a letter stands for none. Raises OSError."""
    found = [""] * NUMBER
    for line in read_file(folder / FILE, _LIMIT).decode("ascii", "replace").splitlines():
        number, _, name = line.partition(" ")
        try:
            index = int(number)
            keyword = flag_names.parse(name)
        except ValueError:
            continue
        if 0 <= index < NUMBER and not keyword.startswith("\\"):
            found[index] = keyword
    return found


def letters(names: list[str], flags: Flags) -> str | None:
    """The letters of the keywords among `flags`; None where one has none."""
    known: dict[str, str] = {}
    for name, letter in zip(names, _LETTERS, strict=True):
        known.setdefault(name.lower(), letter)
    found = [known.get(keyword.lower(), "") for keyword in keywords_in(flags)]
    return None if "" in found else "".join(found)


def assign(folder: Path, flags: Flags, in_use: Collection[str], manner: Manner) -> list[str]:
    """Give each keyword among `flags` a letter; those that no message has (`in_use` are letters) may be given away.
    Returns all names. Raises TooManyKeywords, OSError, StoreUnavailable while another program has the file."""
    lock = folder / f"{FILE}.lock"
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        names = read(folder)
        if letters(names, flags) is not None:
            return names
        try:
            manner.write(folder / FILE, _written(_with(names, flags, in_use)), beside=lock)
        except FileExistsError:
            _wait_for(lock, until)


def _with(names: list[str], flags: Flags, in_use: Collection[str]) -> list[str]:
    names = list(names)
    known = {name.lower() for name in names if name}
    wanted = {keyword.lower() for keyword in keywords_in(flags)}
    for keyword in sorted(keywords_in(flags)):
        if keyword.lower() in known:
            continue
        free = [i for i, name in enumerate(names) if not name]
        free += [i for i, name in enumerate(names) if _LETTERS[i] not in in_use and name.lower() not in wanted]
        if not free:
            raise TooManyKeywords(f"A Maildir folder has {NUMBER} different keywords at most")
        names[free[0]] = keyword
        known.add(keyword.lower())
    return names


def _written(names: list[str]) -> bytes:
    return "".join(f"{index} {name}\n" for index, name in enumerate(names) if name).encode()


def _wait_for(lock: Path, until: float) -> None:
    """Another program writes; in a thread of the store."""
    try:
        stale = time.time() - os.lstat(lock).st_mtime > _STALE_SECONDS
    except FileNotFoundError:
        return
    if stale:
        os.unlink(lock)
    elif time.monotonic() > until:
        raise StoreUnavailable(detail=f"{lock} is held by another program")
    else:
        time.sleep(_PAUSE_SECONDS)
