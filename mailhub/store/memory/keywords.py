"""The keywords of a mailbox of the twin."""

from __future__ import annotations

from collections.abc import Iterable

from mailhub.errors import TooManyKeywords
from mailhub.message.flags import NO_FLAGS, SYSTEM_FLAGS, Flags, respelled
from mailhub.store.limits import StoreLimits


class Keywords:
    """How the mailbox spells what it has met, and how much it takes."""

    def __init__(self, settings: StoreLimits) -> None:
        self._settings = settings
        self._names: dict[str, str] = {}  # as first written, by the name in lower case

    def take_up(self, sets: Iterable[Flags], present: Iterable[Flags]) -> None:
        """Meet the keywords of these sets; `present` are those of all messages. Raises TooManyKeywords."""
        self._names = self._with(sets, present)

    def spelled(self, flags: Flags, present: Iterable[Flags] = ()) -> Flags:
        """The flags as the mailbox spells them, or will. Raises TooManyKeywords when it could not take them up."""
        return respelled(flags, self._with((flags,), present))

    def _with(self, sets: Iterable[Flags], present: Iterable[Flags]) -> dict[str, str]:
        names, limit = self._names, self._settings.keywords_per_mailbox
        wanted = sorted(NO_FLAGS.union(*sets) - SYSTEM_FLAGS)
        fresh: dict[str, str] = {}
        for keyword in wanted:
            if keyword.lower() not in names:
                fresh.setdefault(keyword.lower(), keyword)
        if fresh and len(names) + len(fresh) > limit:
            kept = {keyword.lower() for flags in (*present, wanted) for keyword in flags}
            names = {lower: name for lower, name in names.items() if lower in kept}
            if len(names) + len(fresh) > limit:
                raise TooManyKeywords(f"A mailbox has {limit} different keywords at most")
        return names | fresh

    def check_number(self, flags: Flags) -> None:
        """Raises TooManyKeywords for those of one message."""
        limit = self._settings.keywords_per_message
        if len(flags - SYSTEM_FLAGS) > limit:
            raise TooManyKeywords(f"A message has {limit} keywords at most")
