"""What the exit status of a program says of mail (sysexits.h), with the first line that it wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mailhub.interfaces import Ended
from mailhub.message.envelope import Outcome

# sysexits.h; who is not named there has failed himself, and the message waits.
STATUSES: Mapping[int, str] = {
    os.EX_OK: "2.0.0",
    os.EX_USAGE: "5.3.5",
    os.EX_DATAERR: "5.6.0",
    os.EX_NOINPUT: "5.3.0",
    os.EX_NOUSER: "5.1.1",
    os.EX_NOHOST: "5.1.2",
    os.EX_UNAVAILABLE: "5.3.0",
    os.EX_SOFTWARE: "5.3.0",
    os.EX_OSERR: "4.3.0",
    os.EX_OSFILE: "5.3.0",
    os.EX_CANTCREAT: "5.2.0",
    os.EX_IOERR: "4.3.0",
    os.EX_TEMPFAIL: "4.3.0",
    os.EX_PROTOCOL: "5.5.0",
    os.EX_NOPERM: "5.7.0",
    os.EX_CONFIG: "5.3.5",
}
_OWN_FAILURE = "4.3.0"
_LINE_LIMIT = 400  # characters
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


def outcome_of_status(ended: Ended) -> Outcome:
    """The outcome for those whom the program was run for. A line that begins with an enhanced status code (RFC 3463) of
    the same class gives that."""
    status = STATUSES.get(ended.status, _OWN_FAILURE)
    text = _first_line(ended.stdout) or _first_line(ended.stderr)
    if (own := _STATUS.match(text)) is not None:
        if own[1][0] == status[0]:
            status = own[1]
        text = text[own.end() :].strip()
    if ended.status < 0:
        text = f"The program was ended by signal {-ended.status}"
    elif not text and ended.status:
        text = f"The program ended with status {ended.status}"
    if status[0] == "2":
        return Outcome.delivered(text, status=status)
    return (Outcome.failed if status[0] == "5" else Outcome.delayed)(text, status=status)


def _first_line(octets: bytes) -> str:
    """The first that is not empty, as text that can stand in a reply."""
    for line in octets[:8192].decode("utf-8", "replace").splitlines():
        if text := "".join(each if each.isprintable() else " " for each in line).strip():
            return text[:_LINE_LIMIT]
    return ""
