"""How many questions a domain's SPF record costs who goes by it, where no mechanism matches (RFC 7208 4.6.4)."""

from __future__ import annotations

import attrs

from mailhub.checks.spf.check import LOOKUPS_LIMIT
from mailhub.checks.spf.macros import MacroString, letters
from mailhub.checks.spf.record import Record, SpfSyntaxError, is_spf, parse_record
from mailhub.errors import PermanentError
from mailhub.interfaces import IResolver

_STOP = 3 * LOOKUPS_LIMIT  # after which nobody counts on
_ASKING = frozenset({"include", "a", "mx", "ptr", "exists"})


async def lookups_of(record: Record, resolver: IResolver) -> int:
    """Terms that ask DNS, with those of the records that are included; counted to three times what is allowed. What
    macros lead to depends on the message, and counts as one. Raises TemporaryError."""
    counting = _Counting(resolver)
    await counting.add(record)
    return counting.found


@attrs.define
class _Counting:
    _resolver: IResolver
    found: int = 0

    async def add(self, record: Record) -> None:
        """Raises TemporaryError."""
        for directive in record.directives:
            if directive.kind == "all":
                return  # what comes behind is never asked, a redirect= neither (RFC 7208 5.1)
            self.found += directive.kind in _ASKING
            if directive.kind == "include" and directive.domain is not None:
                await self._follow(directive.domain)
        if record.redirect is not None:
            self.found += 1
            await self._follow(record.redirect)

    async def _follow(self, target: MacroString) -> None:
        if self.found >= _STOP or letters(target):
            return
        try:
            texts = await self._resolver.texts("".join([str(each) for each in target]).rstrip(".").lower())
        except PermanentError:
            return
        found = [each for each in texts if is_spf(each)]
        if len(found) != 1:
            return
        try:
            record = parse_record(found[0])
        except SpfSyntaxError:
            return
        await self.add(record)
