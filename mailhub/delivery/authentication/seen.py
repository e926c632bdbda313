"""What reports of DMARC tell of one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from mailhub.checks.dkim import Verified
from mailhub.checks.dmarc.evaluate import Dmarc, Identifier
from mailhub.interfaces import IMessageView, NoteResult, Verdict
from mailhub.message.dmarc_report import Disposition, DkimResult, Published, Reason, Row, SpfResult

if TYPE_CHECKING:
    from mailhub.delivery.authentication.findings import Findings

_NAME_LIMIT = 255  # characters of a name that is a stranger's
_COMMENT_LIMIT = 500


@attrs.frozen
class Seen:
    """One message, when it is known what becomes of it by DMARC. `spf` is what counts there: that of MAIL FROM, or of
    HELO for the null sender. `exception` is why less is done than the domain's owner wants."""

    message: IMessageView
    dmarc: Dmarc
    spf: Identifier | None
    dkim: Sequence[Verified]
    verdict: Verdict
    exception: Reason | None = None

    @classmethod
    def of(cls, message: IMessageView, found: Findings, verdict: Verdict, *, forwarder: bool) -> Seen | None:
        """None where DMARC was not looked at. `forwarder`: the client sends on what came to it."""
        if found.dmarc is None:
            return None
        spf = found.spf if message.mail.reverse_path else found.spf_of_helo
        identifier = Identifier(spf.domain, spf.value) if spf else None
        exception = Reason("trusted_forwarder") if forwarder else _by_sealers(found)
        return cls(message, found.dmarc, identifier, found.dkim or (), verdict, exception)

    @property
    def disposition(self) -> Disposition:
        """What was done (RFC 9990 3.1.1.8)."""
        if self.dmarc.value == "fail" and self.verdict.action in ("quarantine", "reject"):
            return "reject" if self.verdict.action == "reject" else "quarantine"
        return "pass" if self.dmarc.value == "pass" and self.dmarc.policy != "none" else "none"

    @property
    def results(self) -> Sequence[str]:
        """All that was found, as Authentication-Results has it."""
        return [each.result for each in self.verdict.edits if isinstance(each, NoteResult)]

    @property
    def published(self) -> Published:
        """The policy, of a message for which there is one; with the defaults of what is not said."""
        found = self.dmarc.found
        if found is None:
            raise ValueError("there is no policy")
        record = found.record
        subdomains = record.subdomains or record.policy
        return Published(
            domain=found.domain,
            policy=record.policy,
            subdomains=subdomains,
            nonexistent=record.nonexistent or subdomains,
            dkim=record.dkim,
            spf=record.spf,
            failures=":".join(sorted(record.failures)),
            testing="y" if record.testing else "n",
            discovery="treewalk",
        )

    @property
    def row(self) -> Row:
        """What it is counted by."""
        message, dmarc = self.message, self.dmarc
        sender = message.mail.reverse_path
        domains = {each.address.ascii_domain for each in message.recipients}
        return Row(
            source=message.origin.peer,
            disposition=self.disposition,
            dkim=dmarc.dkim,
            spf=dmarc.spf,
            reasons=self._reasons(),
            header_from=dmarc.domain,
            envelope_from=sender.ascii_domain if sender is not None else "",
            envelope_to=domains.pop() if len(domains) == 1 else "",
            dkim_results=self._dkim_results(),
            spf_result=SpfResult(self.spf.domain[:_NAME_LIMIT], self.spf.value) if self.spf else None,
        )

    def _reasons(self) -> tuple[Reason, ...]:
        """Why it is not what the record says (RFC 9990 3.1.6)."""
        dmarc, record = self.dmarc, self.dmarc.record
        if dmarc.value != "fail":
            return ()
        reasons = [Reason("policy_test_mode")] if record is not None and record.testing else []
        if self.disposition != dmarc.policy:
            reasons.append(self.exception or Reason("local_policy", "policies of senders are not carried out"))
        return tuple(reasons)

    def _dkim_results(self) -> tuple[DkimResult, ...]:
        """Those that count most first (RFC 9990 3.1.3)."""
        read = [(each, each.signature) for each in self.dkim]
        found = [
            DkimResult(signature.domain[:_NAME_LIMIT], signature.selector[:_NAME_LIMIT], each.value)
            for each, signature in read
            if signature is not None
        ]
        return tuple(sorted(found, key=self._priority))

    def _priority(self, result: DkimResult) -> int:
        if result.result != "pass":
            return 3
        if result.domain == self.dmarc.domain:
            return 0
        return 1 if f".{result.domain}".endswith(f".{self.dmarc.organizational}") else 2


def _by_sealers(found: Findings) -> Reason | None:
    """As RFC 8617 7.2.2 wants it told that a chain is believed."""
    if not found.passed_at or found.arc is None:
        return None
    named = [(f"as[{each.instance}]", each.seal) for each in found.arc.sets]
    sealed = [f"{name}.d={seal.domain} {name}.s={seal.selector}" for name, seal in named]
    return Reason("local_policy", " ".join(["arc=pass", *reversed(sealed)])[:_COMMENT_LIMIT])
