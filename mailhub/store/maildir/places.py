"""Where each user's Maildir is: a path with `{user}`, `{local}` and `{domain}` in it."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = ("user", "local", "domain")
_PLAIN = re.compile(r"[A-Za-z0-9+=@._-]")


def check_path(instance: object, field: object, path: str) -> None:
    """An attrs validator. Raises ValueError."""
    found = _FIELD.findall(path)
    for name in found:
        if name not in _FIELDS:
            raise ValueError(f"{{{name}}} is not known; known: {', '.join(f'{{{each}}}' for each in _FIELDS)}")
    if not {"user", "local"}.intersection(found):
        raise ValueError("must have {user} or {local} in it, or all users would have one Maildir")
    if "{" in _FIELD.sub("", path) or "}" in _FIELD.sub("", path):
        raise ValueError("has a brace without the other one")


@attrs.frozen
class Places:
    """`path` may be relative to `data`. `fixed` is the folder below which folders are made: data, or what an absolute
    path has before its first field."""

    path: str = attrs.field(validator=check_path)
    data: Path

    @property
    def fixed(self) -> Path:
        """It must be there: a volume that is not mounted has no place for mail."""
        return self.data if self.path[:1] != "/" else Path(_FIELD.split(self.path)[0].rpartition("/")[0] or "/")

    @property
    def by_domain(self) -> bool:
        """Whether users of several domains have Maildirs of their own."""
        return "{domain}" in self.path or "{user}" in self.path

    def of(self, user: str) -> Path:
        """A user's. What is no letter, digit or one of `+=@._-` is written as its octets, `%2F`."""
        local, _, domain = user.rpartition("@")
        fields = {"user": user, "local": local, "domain": domain}
        return self.data / _FIELD.sub(lambda field: _escaped(fields[field[1]]), self.path)


def _escaped(text: str) -> str:
    escaped = "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"%{octet:02X}" for octet in char.encode("utf-8", "surrogatepass"))
        for char in text
    )
    # No name that leads upwards, and none that is a Maildir's own.
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped
