"""A submitted message gets what it lacks, loses Bcc, and is otherwise left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.header import Header
from mailhub.message.submission import mend_header

_DATE = "Mon, 23 Nov 2026 06:30:00 +0000"
_ID = "<1@xx.example>"
_ADDED = b"Date: Mon, 23 Nov 2026 06:30:00 +0000\r\nMessage-ID: <1@xx.example>\r\n"
_AGAIN = b"Resent-Date: Mon, 23 Nov 2026 06:30:00 +0000\r\nResent-Message-ID: <1@xx.example>\r\n"


@pytest.mark.parametrize(
    ("header", "mended"),
    [
        (b"From: a\r\n\r\n", _ADDED + b"From: a\r\n\r\n"),
        (b"From: a\r\n", _ADDED + b"From: a\r\n"),
        (b"", _ADDED),
        (b"\r\n", _ADDED + b"\r\n"),
        (b"date : x\r\nMESSAGE-ID: y\r\n\r\n", b"date : x\r\nMESSAGE-ID: y\r\n\r\n"),
        (b"Date: x\r\n", b"Message-ID: <1@xx.example>\r\nDate: x\r\n"),
        (b"Message-ID: x\r\n", b"Date: Mon, 23 Nov 2026 06:30:00 +0000\r\nMessage-ID: x\r\n"),
        (b"Date: x\r\nBcc: a,\r\n b\r\n\tc\r\nMessage-ID: y\r\nbcc:d\r\n\r\n", b"Date: x\r\nMessage-ID: y\r\n\r\n"),
        (b"Resent-Bcc: a\r\nDate: x\r\nMessage-ID: y\r\n", _AGAIN + b"Date: x\r\nMessage-ID: y\r\n"),
        (
            b"Received: x\r\nResent-From: a\r\nResent-Bcc: b\r\nResent-To: c\r\nDate: x\r\nMessage-ID: y\r\n\r\n",
            b"Received: x\r\n" + _AGAIN + b"Resent-From: a\r\nResent-To: c\r\nDate: x\r\nMessage-ID: y\r\n\r\n",
        ),
        # That it was sent again before says nothing of this time.
        (
            b"Resent-From: a\r\nResent-Message-ID: 2\r\nReceived: x\r\nResent-From: b\r\nResent-Date: x\r\n"
            b"Date: x\r\nMessage-ID: y\r\n",
            b"Resent-Date: Mon, 23 Nov 2026 06:30:00 +0000\r\nResent-From: a\r\nResent-Message-ID: 2\r\nReceived: x\r\n"
            b"Resent-From: b\r\nResent-Date: x\r\nDate: x\r\nMessage-ID: y\r\n",
        ),
        (
            b"Resent-From: a\r\nResent-To: c\r\nResent-Message-ID: 1\r\nResent-From: b\r\nResent-Date: x\r\n"
            b"Date: x\r\nMessage-ID: y\r\n",
            b"Resent-Date: Mon, 23 Nov 2026 06:30:00 +0000\r\nResent-From: a\r\nResent-To: c\r\n"
            b"Resent-Message-ID: 1\r\nResent-From: b\r\nResent-Date: x\r\nDate: x\r\nMessage-ID: y\r\n",
        ),
        (b"X-Bcc: a\r\nDate: x\r\nMessage-ID: y\r\n", b"X-Bcc: a\r\nDate: x\r\nMessage-ID: y\r\n"),
        (b"Subject: a\r\n Date: no\r\n", _ADDED + b"Subject: a\r\n Date: no\r\n"),
        (b" odd\r\n\tstart\r\nFrom: a\r\n\r\n", b" odd\r\n\tstart\r\n" + _ADDED + b"From: a\r\n\r\n"),
        (b" odd", b" odd\r\n" + _ADDED),
    ],
)
def test_mend_header(header: bytes, mended: bytes) -> None:
    assert mend_header(header, _DATE, _ID) == mended


_LINES = st.lists(
    st.sampled_from(
        [
            b"From: a\r\n",
            b"Bcc: b\r\n",
            b" folded\r\n",
            b"\tx\n",
            b"junk\r\n",
            b"Date: d\r\n",
            b"Message-ID: m\r\n",
            b"Resent-From: r\r\n",
            b"Resent-Bcc: r\r\n",
            b"\xff: 1\r\n",
        ]
    ),
    max_size=10,
).map(b"".join)


@given(_LINES, st.sampled_from([b"", b"\r\n"]))
@settings(deadline=None, max_examples=200)
def test_the_rest_stays_octet_for_octet(lines: bytes, end: bytes) -> None:
    before, after = Header(lines), Header(mend_header(lines + end, _DATE, _ID))
    assert after.count(b"bcc") == 0
    assert after.count(b"date") == max(before.count(b"date"), 1)
    assert after.count(b"message-id") == max(before.count(b"message-id"), 1)
    kept = {field.name for field in before.fields} - {b"bcc", b"resent-bcc"}
    assert after.count(b"resent-date") == after.count(b"resent-message-id")
    assert before.octets(kept) == after.octets(kept)
    assert mend_header(lines + end, _DATE, _ID) == mend_header(mend_header(lines + end, _DATE, _ID), "no", "no")
