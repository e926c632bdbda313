"""The file `subscriptions`: the names of mailboxes that a user wants to see, a line each, as Dovecot keeps them.

Its newer form begins with `V 2` (a tab between) and has tabs between the levels. A Maildir without the file has all
its folders subscribed, so that clients which show those alone show what there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mailhub.store.maildir import names
from mailhub.store.maildir.manner import Manner, read_file

FILE = "subscriptions"
_LIMIT = 4 << 20  # octets
_SECOND = "V\t2"


class Subscriptions:
    """The file of one Maildir."""

    def __init__(self, maildir: Path, manner: Manner) -> None:
        self._path = maildir / FILE
        self._manner = manner

    def read(self) -> set[str] | None:
        """The names; None when nobody has chosen any. Raises OSError."""
        lines = self._lines()
        if lines is None:
            return None
        between = "\t" if lines[:1] == [_SECOND] else "."
        found = (names.mailbox(line.replace(between, ".")) for line in lines if line and line != _SECOND)
        return {name for name in found if name is not None}

    def _lines(self) -> list[str] | None:
        if not self._path.exists():
            return None
        return read_file(self._path, _LIMIT).decode("utf-8", "surrogateescape").splitlines()

    def write(self, chosen: Iterable[str]) -> None:
        """These from now on, in the form that the file has. Raises OSError."""
        second = (self._lines() or [])[:1] == [_SECOND]
        texts = sorted(map(names.written, chosen))
        if second:
            texts = [_SECOND, "", *(text.replace(".", "\t") for text in texts)]
        self._manner.write(self._path, "".join(f"{text}\n" for text in texts).encode())
