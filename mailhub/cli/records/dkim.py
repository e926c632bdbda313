"""The public halves of a domain's keys, by which others verify what it has signed (RFC 6376 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from mailhub.cli.records.record import Record, txt
from mailhub.cli.records.topic import Looked, Topic, World
from mailhub.delivery.authentication.keys import PART, KeptKey, KeptKeys, and_above, fault_of
from mailhub.delivery.authentication.options import SigningOptions
from mailhub.errors import PermanentError

if TYPE_CHECKING:
    from mailhub.cli.offline import Offline
    from mailhub.config.settings import Config


def dkim_of(domain: str, of: str, keys: Sequence[KeptKey]) -> Topic:
    """That of the keys that sign for a domain, or will: its own, or those of the nearest domain above that has any.
    `keys` are all that there are."""
    owned = [[each for each in keys if each.key.domain == name] for name in and_above(domain)]
    signing = [some for some in owned if any(each.state == "active" for each in some)]
    chosen = next((some for some in (*signing, *owned) if some), [])
    about = f"the keys that sign mail of {domain}, each from when DNS has its record (DKIM, RFC 6376)"
    records = [record_of(each) for each in chosen if each.state != "retired"]
    return Topic("DKIM", of, about, records, _Dkim(domain, chosen).look)


def keys_of(config: Config, hub: Offline) -> Sequence[KeptKey] | None:
    """Those of the database; None where nothing is signed."""
    if not config.of(SigningOptions).sign:
        return None
    return hub.wait(KeptKeys(hub.database.state.of(PART)).all())


def record_of(kept: KeptKey) -> Record:
    """The record of a key."""
    return txt(kept.key.name, kept.key.record)


@attrs.frozen(eq=False)
class _Dkim:
    """`keys` are those of one domain."""

    _domain: str
    _keys: Sequence[KeptKey]

    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        if not self._keys:
            text = (
                f"domain {self._domain} has no DKIM key: large receivers refuse mail that nobody has signed; "
                f"`mailhub dkim add {self._domain}` makes one"
            )
            return [Looked("missing", text, matters=True)]
        now = world.environment.now()
        return [looked for each in self._keys if (looked := await self._looked(each, world, now)) is not None]

    async def _looked(self, kept: KeptKey, world: World, now: int) -> Looked | None:
        """None for a key that nobody needs any more."""
        key = kept.key
        try:
            texts = await world.environment.resolver.texts(key.name)
        except PermanentError:
            texts = ()
        shown, wanted = [txt(key.name, each) for each in texts], [record_of(kept)]
        name = f"DKIM key {key.selector} of {key.domain} ({kept.algorithm})"
        faults = [fault_of(key, each) for each in texts]
        is_there = "" in faults
        if kept.state == "retired":
            return _of_retired(kept, name, shown, is_there, now)
        # A new one keeps nothing from being signed where there is another.
        matters = kept.state == "active" or not any(each.state == "active" for each in self._keys)
        does = "signs" if kept.state == "active" else "signs once DNS has its record"
        if not texts:
            return Looked("missing", f"{name} {does}, and is not in DNS", (), wanted, matters)
        if not is_there:
            return Looked("wrong", f"{name} {does}, and DNS has another record: {faults[0]}", shown, wanted, matters)
        if len(texts) > 1:
            text = f"{name} {does}; DNS has {len(texts)} records there, and others may read the wrong one"
            return Looked("wrong", text, shown, wanted, matters)
        return Looked("right", f"{name} signs, and is in DNS" if kept.state == "active" else f"{name} is in DNS", shown)


def _of_retired(kept: KeptKey, name: str, shown: Sequence[Record], is_there: bool, now: int) -> Looked | None:
    if kept.until <= now:
        return None
    until = f"{datetime.fromtimestamp(kept.until, UTC):%Y-%m-%d}"
    if is_there:
        return Looked("right", f"{name} signs no more; its record is needed until {until}", shown)
    text = f"{name} signs no more, and is not in DNS: mail that is on its way needs it until {until}"
    return Looked("missing", text, shown, [record_of(kept)])
