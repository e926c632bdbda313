"""Reports about TLS between mail servers (TLSRPT, RFC 8460): what is counted, how it is written, how it is read."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from mailhub.message.reporting import Sender
from mailhub.message.unpacking import unpacked

REPORT_OCTETS = 4 << 20  # of a report that is read, unpacked
_STRINGS = 20  # of a policy that are quoted
_FAILURES = 20  # kinds of failure that are told apart, of one policy
_POLICIES = 20  # of one domain on one day: each exchanger may have TLSA records of its own
_URIS = 5
_OURS = re.compile(rb"v=TLSRPTv1[ \t]*;")
_RUA = re.compile(r"[!-:<-~]+(?:[ \t]*,[ \t]*[!-:<-~]+)*")


def reporting_uris(texts: Sequence[bytes]) -> tuple[str, ...]:
    """Where a domain wants reports sent, by the TXT records of `_smtp._tls.DOMAIN` (RFC 8460 3): `mailto:` and
    `https:`, the first few. None where it does not want any."""
    ours = [text for text in texts if _OURS.match(text)]
    if len(ours) != 1:
        return ()
    # Fields that are not known may stand before it, too; of several the first counts.
    fields = [field.strip(" \t").partition("=") for field in ours[0].decode("ascii", "replace").split(";")]
    said = next((value for name, _, value in fields if name == "rua"), "")
    uris = [uri.strip(" \t") for uri in said.split(",")] if _RUA.fullmatch(said) else []
    return tuple(uri for uri in uris if uri.lower().startswith(("mailto:", "https://")))[:_URIS]


@attrs.frozen
class TlsPolicyUsed:
    """What was gone by (RFC 8460 4.4): "tlsa", "sts" or "no-policy-found"; whose it is (the TLSA base domain, or that
    of the recipients); the records or lines of it; its hosts."""

    type: str
    domain: str
    strings: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()


@attrs.frozen
class TlsFailure:
    """What went wrong with whom. `type` is a result type of RFC 8460 4.3; `source` the IP address that we came from;
    `helo` what the host calls itself."""

    type: str
    host: str = ""
    ip: str = ""
    reason: str = ""
    source: str = ""
    helo: str = ""


@attrs.define
class _Counts:
    successful: int = 0
    failures: dict[TlsFailure, int] = attrs.field(factory=dict)


class Tally:
    """What is counted of one domain on one day. It stays small, however many kinds of failure there are."""

    def __init__(self) -> None:
        self._policies: dict[TlsPolicyUsed, _Counts] = {}

    def add(self, policy: TlsPolicyUsed, failure: TlsFailure | None = None, count: int = 1) -> None:
        """Sessions that went well, or did not."""
        if policy not in self._policies and len(self._policies) >= _POLICIES:
            policy = next(reversed(self._policies))
        counts = self._policies.setdefault(policy, _Counts())
        if failure is None:
            counts.successful += count
            return
        if failure not in counts.failures and len(counts.failures) >= _FAILURES:
            failure = TlsFailure(failure.type)
        counts.failures[failure] = counts.failures.get(failure, 0) + count

    def rendered(self) -> list[dict[str, Any]]:
        """As `policies` of a report has it."""
        return [_rendered(policy, counts) for policy, counts in self._policies.items()]

    def add_rendered(self, policies: Iterable[Mapping[str, Any]]) -> None:
        """Count what `rendered` has given once more. Raises ValueError."""
        try:
            for each in policies:
                told = each["policy"]
                strings, hosts = tuple(told["policy-string"]), tuple(told["mx-host"])
                policy = TlsPolicyUsed(told["policy-type"], told["policy-domain"], strings, hosts)
                if successful := each["summary"]["total-successful-session-count"]:
                    self.add(policy, None, successful)
                for one in each["failure-details"]:
                    words = (one.get(key, "") for key in _FAILURE_KEYS)
                    self.add(policy, TlsFailure(*words), one["failed-session-count"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"no counts: {error}") from None


# In the order of TlsFailure.
_FAILURE_KEYS = (
    "result-type",
    "receiving-mx-hostname",
    "receiving-ip",
    "failure-reason-code",
    "sending-mta-ip",
    "receiving-mx-helo",
)


def _rendered(policy: TlsPolicyUsed, counts: _Counts) -> dict[str, Any]:
    return {
        "policy": {
            "policy-type": policy.type,
            "policy-string": [text[:255] for text in policy.strings[:_STRINGS]],
            "policy-domain": policy.domain,
            "mx-host": [text[:255] for text in policy.mx[:_STRINGS]],
        },
        "summary": {
            "total-successful-session-count": counts.successful,
            "total-failure-session-count": sum(counts.failures.values()),
        },
        "failure-details": [
            {
                **{key: text for key, text in zip(_FAILURE_KEYS, attrs.astuple(failure), strict=True) if text},
                "failed-session-count": count,
            }
            for failure, count in counts.failures.items()
        ],
    }


def render(sender: Sender, report_id: str, day: str, policies: Sequence[Mapping[str, Any]]) -> bytes:
    """A report about a day (`2026-01-31`, UTC), packed (RFC 8460 4.4 and 5.1)."""
    report = {
        "organization-name": sender.organization,
        "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
        "contact-info": sender.contact,
        "report-id": report_id,
        "policies": policies,
    }
    return gzip.compress(json.dumps(report, indent=1).encode(), mtime=0)


def parse(octets: bytes) -> dict[str, Any]:
    """A report as others send it, packed or not. Raises ValueError for what is none, or too large."""
    octets = unpacked(octets, REPORT_OCTETS)
    try:
        report = json.loads(octets)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    if not isinstance(report, dict) or not isinstance(report.get("policies"), list):
        raise ValueError("has no policies")
    return report
