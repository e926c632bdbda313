"""What a domain wants done with mail that only says to be from it (RFC 9989)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from mailhub.checks.dmarc.record import POLICIES, DmarcRecord, is_dmarc, parse_dmarc
from mailhub.checks.dmarc.walk import walk
from mailhub.cli.records.record import Record, txt
from mailhub.cli.records.topic import Looked, Topic, World
from mailhub.errors import PermanentError, TemporaryError
from mailhub.interfaces import IResolver

# Of RFC 7489, and of no meaning now.
_GONE = ("pct", "rf", "ri")
_POLICY_TAGS = ("p", "sp", "np")
_HOST = re.compile(r"[a-z0-9_.-]+")
_REPORT_TAGS = ("rua", "ruf")


def dmarc_of(domain: str, of: str) -> Topic:
    """That of a domain of ours."""
    look = _Dmarc(domain)
    about = (
        "what others shall do with forged mail, and where they report it (DMARC, RFC 9989): begin with p=none, and say "
        "p=quarantine or p=reject when the reports show that all your own mail passes"
    )
    return Topic("DMARC", of, about, [look.wanted], look.look)


@attrs.frozen(eq=False)
class _Dmarc:
    _domain: str

    @property
    def wanted(self) -> Record:
        """Where there is none yet."""
        return txt(f"_dmarc.{self._domain}", f"v=DMARC1; p=none; rua=mailto:postmaster@{self._domain}")

    async def look(self, world: World) -> Sequence[Looked]:
        """See `Topic`."""
        resolver, name = world.environment.resolver, f"_dmarc.{self._domain}"
        texts = [each for each in await _texts(name, resolver) if each.lstrip().lower().startswith(b"v=dmarc")]
        shown = [txt(name, each) for each in texts]
        if len(texts) > 1:
            text = f"{name} has {len(texts)} DMARC records, of which none counts (RFC 9989 4.10.1): keep one of them"
            return [Looked("wrong", text, shown, shown[:1], matters=True)]
        if texts and not is_dmarc(texts[0]):
            text = f"the record {name} does not begin with v=DMARC1, in capitals: nobody goes by it"
            return [Looked("wrong", text, shown, [self.wanted], matters=True)]
        if texts:
            return await self._judged(texts[0], shown, resolver)
        above = (await walk(self._domain, resolver)).policy
        if above is None:
            text = (
                f"domain {self._domain} does not say what becomes of forged mail (DMARC), and large receivers do not "
                f"trust it for that: add a TXT record {name}"
            )
            return [Looked("missing", text, publish=[self.wanted], matters=True)]
        policy = above.record.subdomains or above.record.policy
        return [Looked("right", f"domain {self._domain} goes by the DMARC record of {above.domain} (p={policy})")]

    async def _judged(self, octets: bytes, shown: Sequence[Record], resolver: IResolver) -> Sequence[Looked]:
        record, tags = parse_dmarc(octets), _tags(octets)
        name = f"_dmarc.{self._domain}"
        publish = [txt(name, _mended(octets))]
        faults = []
        for tag in _POLICY_TAGS:
            if tags.get(tag, "none").lower() not in POLICIES:
                text = f"the record {name} has {tag}={tags[tag]}, which counts as none: say none, quarantine or reject"
                faults.append(Looked("wrong", text, shown, publish, matters=True))
        if "p" not in tags:
            text = f"the record {name} has no p=: nothing is done about forged mail"
            faults.append(Looked("wrong", text, shown, publish))
        if gone := [f"{tag}=" for tag in _GONE if tag in tags]:
            text = f"the record {name} has {', '.join(gone)}, which nobody reads any more (RFC 9989)"
            faults.append(Looked("wrong", text, shown, publish))
        for tag in _REPORT_TAGS:
            for uri in _without_receiver(tags.get(tag, "")):
                text = f"the record {name} has {uri!r} in {tag}=, where no report can be sent: write mailto:ADDRESS"
                faults.append(Looked("wrong", text, shown, publish))
        faults += await self._unauthorised(record, shown, resolver)
        if faults:
            return faults
        where = ", ".join(each.uri for each in record.aggregate)
        told = f"; reports go to {where}" if where else "; nobody reports to it"
        if record.policy == "none":
            told += "; say p=quarantine or p=reject when these show that all your own mail passes"
        return [Looked("right", f"domain {self._domain} has a DMARC policy (p={record.policy}){told}", shown)]

    async def _unauthorised(self, record: DmarcRecord, shown: Sequence[Record], resolver: IResolver) -> list[Looked]:
        """Reports go to another organization only where that says that it wants them."""
        found: list[Looked] = []
        own = (await walk(self._domain, resolver)).organizational
        named = (each.uri.partition("@")[2].lower() for each in (*record.aggregate, *record.failure))
        for host in dict.fromkeys(named):
            name = f"{self._domain}._report._dmarc.{host}"
            try:
                if (await walk(host, resolver)).organizational == own:
                    continue
                if any(is_dmarc(each) for each in await _texts(name, resolver)):
                    continue
            except TemporaryError:
                text = f"nobody can say now whether {host} wants reports about {self._domain}"
                found.append(Looked("unknown", text, shown))
                continue
            text = f"nobody sends reports about {self._domain} to {host}, which does not say that it wants them"
            found.append(Looked("wrong", text, shown, [txt(name, "v=DMARC1")] if _HOST.fullmatch(host) else []))
        return found


async def _texts(name: str, resolver: IResolver) -> Sequence[bytes]:
    try:
        return await resolver.texts(name)
    except PermanentError:
        return ()


def _without_receiver(value: str) -> list[str]:
    """What is listed there, and is no address."""
    listed = (each.strip() for each in value.split(","))
    return [each for each in listed if each and not parse_dmarc(f"v=DMARC1; rua={each}".encode()).aggregate]


def _specs(octets: bytes) -> list[tuple[str, str]]:
    specs = [each.partition("=") for each in octets.decode("utf-8", "replace").split(";") if each.strip()]
    return [(name.strip().lower(), value.strip()) for name, _, value in specs]


def _tags(octets: bytes) -> dict[str, str]:
    """The first of each counts."""
    return dict(reversed(_specs(octets)))


def _mended(octets: bytes) -> str:
    """The record without what nobody can read, and with a policy."""
    tags = {tag: value for tag, value in _specs(octets) if tag not in _GONE}
    told = {"v": "DMARC1", "p": "none", **{tag: value for tag, value in tags.items() if tag != "v"}}
    for tag in _POLICY_TAGS:
        if told.get(tag, "none").lower() not in POLICIES:
            told[tag] = "none"
    for tag in _REPORT_TAGS:
        wrong = _without_receiver(told.get(tag, ""))
        left = [each for each in map(str.strip, told.get(tag, "").split(",")) if each and each not in wrong]
        if left:
            told[tag] = ",".join(left)
        else:
            told.pop(tag, None)
    return "; ".join(f"{tag}={value}" for tag, value in told.items())
