"""What reports to other domains have in common, whatever they are about: who sends them, and how they are mail."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import attrs


@attrs.frozen
class Sender:
    """Who reports: our host, the organization, and whom to write to."""

    host: str
    organization: str
    contact: str

    @property
    def domain(self) -> str:
        """The submitter of reports is the domain of the contact (RFC 8460 5.3)."""
        return self.contact.rpartition("@")[2]


@attrs.frozen
class Part:
    """One of a report: lines of its header, and the lines below."""

    header: Sequence[str]
    lines: Sequence[str]

    @classmethod
    def text(cls, *lines: str) -> Part:
        """For people."""
        return cls(["Content-Type: text/plain; charset=us-ascii"], lines)

    @classmethod
    def file(cls, name: str, media_type: str, octets: bytes) -> Part:
        """An attachment."""
        encoded = b64encode(octets).decode()
        header = [
            f"Content-Type: {media_type}",
            "Content-Transfer-Encoding: base64",
            f'Content-Disposition: attachment; filename="{name}"',
        ]
        return cls(header, [encoded[start : start + 76] for start in range(0, len(encoded), 76)])


def composed(header: Sequence[str], content_type: str, boundary: str, parts: Sequence[Part]) -> bytes:
    """The message of these parts, in ASCII. `content_type` is without the boundary, which no line of a part may be."""
    lines = [
        *header,
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: {content_type}; boundary="{boundary}"',
        "",
    ]
    for part in parts:
        lines += [f"--{boundary}", *part.header, "", *part.lines, ""]
    lines += [f"--{boundary}--", ""]
    return "\r\n".join(lines).encode("ascii", "replace")
