"""Whether a message is from whom it says, by the domain of its author (RFC 9989 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from mailhub.checks.dmarc.record import POLICIES, Alignment, DmarcRecord, Policy
from mailhub.checks.dmarc.walk import Found, Walked, Walks
from mailhub.checks.results import Result
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import IResolver

Value = Literal["none", "pass", "fail", "temperror", "permerror"]

AUTHORS_LIMIT = 10  # domains of one message
# RFC 3463 X.1.2: what a resolver says of a name that does not exist
_NO_SUCH_DOMAIN = "5.1.2"


@attrs.frozen
class Identifier:
    """A domain (A-labels) that SPF or DKIM have looked at, and what came of it, as RFC 8601 calls it."""

    domain: str
    value: str


@attrs.frozen
class Dmarc:
    """What came of it for one domain of the author. `policy` is what its owner wants done where it fails, with sp=, np=
    and t= in account; `found` is whose record says so, None where nobody's does. `spf` and `dkim`: whether that passed
    for a domain that is aligned."""

    value: Value
    domain: str = ""
    organizational: str = ""
    policy: Policy = "none"
    found: Found | None = None
    spf: bool = False
    dkim: bool = False
    reason: str = ""

    @property
    def record(self) -> DmarcRecord | None:
        """What the owner of the domain says."""
        return self.found.record if self.found else None

    @property
    def result(self) -> Result:
        """As Authentication-Results has it (RFC 9989 9)."""
        policy = (("policy.dmarc", self.policy),) if self.found else ()
        return Result("dmarc", self.value, (("header.from", self.domain), *policy), self.reason)


async def evaluate(authors: Sequence[str], spf: Identifier | None, dkim: Sequence[Identifier], walks: Walks) -> Dmarc:
    """The strictest of what comes of the domains in From (A-labels). `spf` is that of MAIL FROM; all signatures count.
    Never raises."""
    domains = list(dict.fromkeys(authors))
    if not domains:
        return Dmarc("permerror", reason="From names nobody")
    if len(domains) > AUTHORS_LIMIT:
        return Dmarc("permerror", domains[0], reason="From names too many domains")
    return max([await _evaluate(each, spf, dkim, walks) for each in domains], key=_strictness)


def _strictness(found: Dmarc) -> tuple[int, int]:
    order = ("none", "pass", "permerror", "temperror", "fail").index(found.value)
    return (order, POLICIES.index(found.policy))


async def _evaluate(author: str, spf: Identifier | None, dkim: Sequence[Identifier], walks: Walks) -> Dmarc:
    try:
        walked = await walks.of(author)
        found = walked.policy
        if found is None:
            return Dmarc("none", author)
        policy = await _policy(author, found, walks.resolver)
    except TemporaryError:
        return Dmarc("temperror", author, reason="policy cannot be looked up now")
    known = Dmarc("fail", author, walked.organizational, policy, found)
    by_spf = await _aligned([spf] if spf else [], found.record.spf, walked, walks)
    by_dkim = await _aligned(dkim, found.record.dkim, walked, walks)
    if "pass" in (by_spf, by_dkim):
        return attrs.evolve(known, value="pass", spf=by_spf == "pass", dkim=by_dkim == "pass")
    if "temperror" in (by_spf, by_dkim):
        # What could not be found out may have been a pass.
        return attrs.evolve(known, value="temperror", reason="an aligned result is not known now")
    return known


async def _aligned(
    identifiers: Sequence[Identifier], mode: Alignment, author: Walked, walks: Walks
) -> Literal["pass", "temperror", "fail"]:
    """The best that is aligned with the author's domain (RFC 9989 4.4)."""
    best: Literal["temperror", "fail"] = "fail"
    for each in identifiers:
        if each.value not in ("pass", "temperror"):
            continue
        aligned = each.domain == author.domain
        # Who is not below the author's organization is of another one: a stranger's DNS is not asked, and cannot make
        # anything uncertain.
        if not aligned and mode == "r" and f".{each.domain}".endswith(f".{author.organizational}"):
            try:
                aligned = (await walks.of(each.domain)).organizational == author.organizational
            except TemporaryError:
                best = "temperror"
        if aligned and each.value == "pass":
            return "pass"
        if aligned:
            best = "temperror"
    return best


async def _policy(author: str, found: Found, resolver: IResolver) -> Policy:
    """RFC 9989 4.7. Raises TemporaryError."""
    record = found.record
    policy = record.policy
    if found.domain != author:
        policy = record.subdomains or policy
        if record.nonexistent is not None and not await _exists(author, resolver):
            policy = record.nonexistent
    return POLICIES[max(POLICIES.index(policy) - 1, 0)] if record.testing else policy


async def _exists(domain: str, resolver: IResolver) -> bool:
    """Raises TemporaryError."""
    try:
        await resolver.mail_exchangers(domain)
    except PermanentError as error:
        return error.status != _NO_SUCH_DOMAIN
    return True
