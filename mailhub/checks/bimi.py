"""Brand Indicators for Message Identification (BIMI, draft-brand-indicators-for-message-identification): which logo the
owner of a domain wants to be shown beside its mail.

A record counts for mail alone that DMARC has passed, and whose domain has others refuse or set aside what does not.
"""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

import attrs

from mailhub.checks.dmarc.evaluate import Dmarc
from mailhub.checks.dmarc.walk import Walks
from mailhub.checks.results import Result
from mailhub.checks.tags import parse_tags
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import IResolver
from mailhub.message.header import raw_fields, unfold

Value = Literal["pass", "none", "fail", "temperror", "declined", "skipped"]

DEFAULT_SELECTOR = "default"
LOCATION = "BIMI-Location"
# What is said in these fields is said by who receives the message.
OURS = (LOCATION, "BIMI-Indicator")

_SELECTOR_FIELD = b"bimi-selector"
_FIELD_LIMIT = 1000  # octets of that field
_URI_LIMIT = 400  # characters, so that a field holds two of them
_VERSION = re.compile(rb"[ \t]*v[ \t]*=[ \t]*BIMI1[ \t]*(?:;|\Z)")
# RFC 5321 4.1.2: a Domain
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)
# RFC 3986, without what ends a tag or a list
_URI = re.compile(r"https://[a-z0-9.-]+(?::[0-9]{1,5})?(?:[/?][A-Za-z0-9._~:/?#\[\]@!$&'*+=%()-]*)?", re.IGNORECASE)


class BimiFault(Exception):
    """The record cannot be used; the text says why."""


@attrs.frozen
class BimiRecord:
    """Where the logo is (l=) and who vouches for its owner (a=), as HTTPS URIs; "" for nothing. With neither the owner
    declines to have one shown."""

    location: str = ""
    authority: str = ""

    @property
    def declines(self) -> bool:
        """Whether it says that there is no logo."""
        return not self.location and not self.authority

    def __str__(self) -> str:
        """As the field of the header has it."""
        return f"v=BIMI1; l={self.location}; a={self.authority}"


@attrs.frozen
class Bimi:
    """What came of it for a message. `domain` is that whose record was found, or asked for."""

    value: Value
    domain: str = ""
    selector: str = DEFAULT_SELECTOR
    record: BimiRecord | None = None
    reason: str = ""

    @property
    def result(self) -> Result:
        """As Authentication-Results has it. That somebody vouches for the logo is told, and not looked at."""
        found = self.record if self.value == "pass" else None
        authority = (("policy.authority-uri", found.authority),) if found else ()
        properties = (("header.d", self.domain), ("header.selector", self.selector), *authority)
        return Result("bimi", self.value, properties if self.domain else (), self.reason)


def is_bimi(octets: bytes) -> bool:
    """Whether a TXT record is one: v= is its first tag."""
    return _VERSION.match(octets) is not None


def parse_bimi(octets: bytes) -> BimiRecord:
    """One that `is_bimi`. Raises BimiFault."""
    try:
        tags = parse_tags(octets)
    except ValueError as error:
        raise BimiFault(str(error)) from None
    if "l" not in tags:
        raise BimiFault("record has no l=")
    for tag in ("l", "a"):
        if tags.get(tag):
            parse_uri(tags[tag])
    return BimiRecord(tags["l"], tags.get("a", ""))


def parse_uri(text: str) -> tuple[str, str]:
    """Host and path of an HTTPS URI without a port of its own. Raises BimiFault."""
    if len(text) > _URI_LIMIT or not _URI.fullmatch(text):
        raise BimiFault(f"{text!r:.80} is no HTTPS URI")
    parts = urlsplit(text)
    if not parts.hostname or parts.netloc.partition(":")[2] not in ("", "443"):
        raise BimiFault(f"{text!r:.80} has a port of its own")
    return parts.hostname, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def selector_of(header: bytes) -> str:
    """That which the message asks for in its BIMI-Selector field; `default` where it has none, or nonsense."""
    fields = [octets for name, octets in raw_fields(header) if name == _SELECTOR_FIELD]
    if len(fields) != 1 or len(fields[0]) > _FIELD_LIMIT:
        return DEFAULT_SELECTOR
    try:
        tags = parse_tags(unfold(fields[0]).partition(b":")[2])
    except ValueError:
        return DEFAULT_SELECTOR
    selector = tags.get("s", "")
    is_usable = len(selector) <= 200 and all(len(each) <= 63 for each in selector.split("."))
    if next(iter(tags.items()), None) != ("v", "BIMI1") or not is_usable or not _SELECTOR.fullmatch(selector):
        return DEFAULT_SELECTOR
    return selector.lower()


async def bimi(header: bytes, dmarc: Dmarc | None, walks: Walks | None) -> Bimi:
    """For a message. `walks` are those of its evaluation by DMARC. Never raises."""
    if dmarc is None or walks is None or dmarc.value != "pass":
        return Bimi("skipped", reason="DMARC has not passed")
    selector = selector_of(header)
    try:
        if weakness := await weakness_of(dmarc.domain, walks):
            return Bimi("skipped", reason=weakness)
        return await look_up(dmarc.domain, dmarc.organizational, selector, walks.resolver)
    except TemporaryError:
        return Bimi("temperror", dmarc.domain, selector, reason="record cannot be looked up now")


async def weakness_of(domain: str, walks: Walks) -> str:
    """Why DMARC says too little of a domain for a logo, "" where it says enough: its own record and that of its
    organization have others refuse or set aside what fails, below them, too. Raises TemporaryError."""
    walked = await walks.of(domain)
    counting = [each for each in walked.found if each.domain in (domain, walked.organizational)]
    for each in counting:
        record = each.record
        if "none" in (record.policy, record.subdomains) or record.testing:
            return f"DMARC policy of {each.domain} is not enforced"
    return "" if counting else "domain has no DMARC policy"


async def look_up(domain: str, organizational: str, selector: str, resolver: IResolver) -> Bimi:
    """The record of a domain, or else of its Organizational Domain. Raises TemporaryError."""
    for name in dict.fromkeys((domain, organizational or domain)):
        try:
            texts = await resolver.texts(f"{selector}._bimi.{name}")
        except PermanentError:
            continue
        found = [each for each in texts if is_bimi(each)]
        if not found:
            continue
        if len(found) > 1:
            return Bimi("fail", name, selector, reason="there are several records")
        try:
            record = parse_bimi(found[0])
        except BimiFault as fault:
            return Bimi("fail", name, selector, reason=str(fault))
        return Bimi("declined" if record.declines else "pass", name, selector, record)
    return Bimi("none", domain, selector)
