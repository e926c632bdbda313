"""Whether somebody whom we trust has seen a message pass DMARC before it was edited (RFC 8617 7.2.1)."""

from __future__ import annotations

from collections.abc import Collection

from mailhub.checks.arc.sets import ArcSet
from mailhub.checks.arc.validate import Chain
from mailhub.checks.dmarc.evaluate import Identifier, evaluate
from mailhub.checks.dmarc.walk import Walks
from mailhub.checks.reported import read_results


async def passed_at(chain: Chain, sealers: Collection[str], author: str, walks: Walks) -> str:
    """The sealer (d=) at whom the message passed, "" where it did nowhere that counts.

    From there on all sets have to be of `sealers` (A-labels): whoever comes later could have written anything. The
    newest has to answer for the author and for the whole body. `author` is the domain in From (A-labels).
    """
    if chain.value != "pass" or not author:
        return ""
    newest = chain.sets[-1].signature
    if b"from" not in newest.names or newest.limit is not None:
        return ""
    for each in reversed(chain.sets):
        if each.seal.domain not in sealers:
            return ""
        if await _passed(each, author, walks):
            return each.seal.domain
    return ""


async def _passed(one: ArcSet, author: str, walks: Walks) -> bool:
    """By what its sealer says: of DMARC, or where it says nothing of that, of what is aligned."""
    results = read_results(one.results)
    told = [each.value for each in results if each.method == "dmarc" and each.domain("header.from") == author]
    if told:
        return told == ["pass"]
    passes = [each for each in results if each.value == "pass"]
    senders = [each.domain("smtp.mailfrom") for each in passes if each.method == "spf"]
    signers = [each.domain("header.d") or each.domain("header.i") for each in passes if each.method == "dkim"]
    spf = [Identifier(domain, "pass") for domain in senders if domain]
    dkim = [Identifier(domain, "pass") for domain in signers if domain]
    return (await evaluate([author], spf[0] if spf else None, dkim, walks)).value == "pass"
