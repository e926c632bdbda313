"""The logo that a domain has shown beside its mail (BIMI)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailhub.checks.bimi import DEFAULT_SELECTOR, Bimi, look_up, parse_uri, weakness_of
from mailhub.checks.dmarc.walk import Walks
from mailhub.checks.svg import SVG_LIMIT, faults_of
from mailhub.cli.records.record import txt
from mailhub.cli.records.topic import Looked, Topic, World
from mailhub.errors import TemporaryError

_SECONDS = 30.0
_TYPE = "image/svg+xml"


def bimi_of(domain: str, of: str) -> Topic:
    """Looked at where there is one: what to publish is its owner's to say."""
    return Topic("BIMI", of, "the logo beside its mail (BIMI)", [], _Bimi(domain).look)


@attrs.frozen(eq=False)
class _Bimi:
    _domain: str

    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        resolver, domain = world.environment.resolver, self._domain
        found = await look_up(domain, domain, DEFAULT_SELECTOR, resolver)
        if found.value == "none":
            return []
        name = f"{DEFAULT_SELECTOR}._bimi.{domain}"
        shown = [txt(name, each) for each in await resolver.texts(name)]
        if found.value == "declined":
            return [Looked("right", f"domain {domain} says that it has no logo (BIMI)", shown)]
        fault = found.reason and f"the BIMI record of {domain} cannot be used: {found.reason}"
        if not fault and (weakness := await weakness_of(domain, Walks(resolver))):
            fault = f"nobody shows the logo of {domain} (BIMI): {weakness}"
        if not fault and (reason := await _fault_of_logo(found, world)):
            fault = f"the logo of {domain} (BIMI) {reason}"
        if fault:
            return [Looked("wrong", fault, shown)]
        authority = found.record.authority if found.record else ""
        vouched = f"; {authority} is to vouch for it" if authority else "; nobody vouches for it, which some want (a=)"
        return [Looked("right", f"domain {domain} has a logo that can be shown (BIMI){vouched}", shown)]


async def _fault_of_logo(found: Bimi, world: World) -> str:
    """What is wrong with what l= leads to; "" for nothing, and where nobody looks."""
    if found.record is None or not found.record.location or world.https is None:
        return ""
    host, path = parse_uri(found.record.location)
    try:
        answer = await world.https.get(host, path, limit=SVG_LIMIT, seconds=_SECONDS)
    except TemporaryError as error:
        return f"cannot be had: {error.text}"
    if answer.status != 200:
        return f"cannot be had: {host} answers {answer.status}"
    if answer.media_type != _TYPE:
        return f"is given out as {answer.media_type[:80]!r} and not as {_TYPE}"
    return "; it ".join(faults_of(answer.body))
