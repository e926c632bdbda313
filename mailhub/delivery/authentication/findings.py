"""All that was found out about one message, as its field and the log have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from mailhub.checks.arc.validate import Chain
from mailhub.checks.bimi import LOCATION, OURS, Bimi
from mailhub.checks.dkim import Verified
from mailhub.checks.dmarc.evaluate import Dmarc
from mailhub.checks.results import Result
from mailhub.checks.spf.check import Spf
from mailhub.interfaces import AddField, RemoveField
from mailhub.message.address import Address


@attrs.frozen
class Findings:
    """None: it was not looked at. `sender` is the reverse-path, `client` the IP address. `passed_at`: a sealer whom we
    trust, who has seen the message pass DMARC, which it does not here."""

    sender: Address | None = None
    spf: Spf | None = None
    spf_of_helo: Spf | None = None
    dkim: Sequence[Verified] | None = None
    dmarc: Dmarc | None = None
    iprev: Result | None = None
    arc: Chain | None = None
    client: str = ""
    passed_at: str = ""
    bimi: Bimi | None = None

    @property
    def results(self) -> list[Result]:
        """As Authentication-Results (RFC 8601) has them, the ones that count most first."""
        given = []
        if self.dmarc is not None:
            reason = f"passed at {self.passed_at}, which has sealed it" if self.passed_at else self.dmarc.reason
            given.append(attrs.evolve(self.dmarc, reason=reason).result)
        if self.spf is not None:
            given.append(Result("spf", self.spf.value, (("smtp.mailfrom", str(self.sender or "")),)))
        if self.spf_of_helo is not None:
            given.append(Result("spf", self.spf_of_helo.value, (("smtp.helo", self.spf_of_helo.domain),)))
        if self.dkim is not None:
            given += [each.result for each in self.dkim] or [Result("dkim", "none")]
        if self.arc is not None:
            given.append(self.arc.result(self.client))
        if self.iprev is not None:
            given.append(self.iprev)
        if self.bimi is not None:
            given.append(self.bimi.result)
        return given

    @property
    def logo(self) -> Sequence[AddField | RemoveField]:
        """Edits that leave it to us to say where the logo of the author's domain is."""
        if self.bimi is None:
            return ()
        removed = [RemoveField(name, 0) for name in OURS]
        record = self.bimi.record if self.bimi.value == "pass" else None
        return removed if record is None else [*removed, AddField(LOCATION, str(record))]

    @property
    def told(self) -> Mapping[str, object]:
        """The same as fields of a line of the log, each with the domain that it is about: `dkim=pass:a.example`."""
        said: dict[str, object] = {}
        if self.dmarc is not None:
            said["dmarc"] = _about(self.dmarc.value, self.dmarc.domain)
            if self.dmarc.found is not None:
                said["policy"] = self.dmarc.policy
        if self.spf is not None:
            said["spf"] = _about(self.spf.value, self.spf.domain)
        if self.spf_of_helo is not None:
            said["helo"] = _about(self.spf_of_helo.value, self.spf_of_helo.domain)
        if self.dkim is not None:
            said["dkim"] = ",".join([_about(each.value, each.domain) for each in self.dkim]) or "none"
        if self.arc is not None:
            said["arc"] = _about(self.arc.value, self.passed_at)
        if self.iprev is not None:
            said["iprev"] = self.iprev.value
        if self.bimi is not None:
            said["bimi"] = _about(self.bimi.value, self.bimi.domain)
        return said


def _about(value: str, domain: str) -> str:
    return f"{value}:{domain}" if domain else value
