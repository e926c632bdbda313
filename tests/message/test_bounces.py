"""What other servers' reports say."""

from __future__ import annotations

import base64
import random

import pytest

from mailhub.message.bounces import BOUNCE_LIMIT, Bounce, read_bounce

HEAD = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nText\r\n--b\r\n"
STATUS = b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n"
GROUP = b"Final-Recipient: rfc822; a@b.example\r\nAction: %b\r\nStatus: 5.1.1\r\n"


def report(*actions: bytes) -> bytes:
    return HEAD + STATUS + b"\r\n".join(GROUP % each for each in actions) + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (report(b"failed"), Bounce("failed", "5.1.1")),
        (report(b"FAILED (no such user)"), Bounce("failed", "5.1.1")),
        (report(b"delayed", b"failed"), Bounce("failed", "5.1.1")),
        (report(b"failed").replace(b"\r\n", b"\n"), Bounce("failed", "5.1.1")),
        (report(b"failed").replace(b"message/delivery", b"message/global-delivery"), Bounce("failed", "5.1.1")),
        (report(b"delayed"), Bounce("passing")),
        (report(b"relayed", b"delivered", b"expanded"), Bounce("passing")),
        (report(b"lost"), Bounce("unclear")),
        (HEAD + STATUS + b"\r\n--b--\r\n", Bounce("unclear")),
        (HEAD + b"--b--\r\n", Bounce("unclear")),
        (HEAD.replace(b"delivery-status", b"feedback-report") + b"--b--\r\n", Bounce("none")),
        (b"", Bounce("unclear")),
        (b"Subject: Mail  failed\x1b[0m\r\n\r\n", Bounce("unclear", "Mail failed [0m")),
        (b"Auto-Submitted: auto-replied; x\r\n\r\n", Bounce("none")),
        (b"Auto-Submitted: auto-replied\r\nX-Failed-Recipients: a@b.example\r\n\r\n", Bounce("unclear")),
        (b"Auto-Submitted: auto-generated\r\n\r\n", Bounce("unclear")),
        (b"Precedence: bulk\r\n\r\n", Bounce("none")),
        (b"List-Id: <x.example>\r\n\r\n", Bounce("none")),
    ],
)
def test_what_a_report_says(octets: bytes, expected: Bounce) -> None:
    assert read_bounce(octets, from_nobody=True) == expected


def test_what_a_person_sends_is_no_report_unless_it_has_the_form_of_one() -> None:
    assert read_bounce(b"Subject: Re: hello\r\n\r\n", from_nobody=False) == Bounce("none")
    assert read_bounce(report(b"failed"), from_nobody=False).kind == "failed"


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable"])
def test_a_status_that_is_encoded_is_read(encoding: bytes) -> None:
    body = b"\r\n" + GROUP % b"failed"
    encoded = base64.encodebytes(body) if encoding == b"base64" else body.replace(b"failed", b"f=61iled")
    part = b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
    assert read_bounce(HEAD + part + encoded + b"\r\n--b--\r\n", from_nobody=True).kind == "failed"


def test_any_octets_are_read_in_bounded_time_and_words() -> None:
    chance = random.Random(1)
    whole = report(b"failed", b"delayed")
    for _ in range(300):
        at, length = chance.randrange(len(whole)), chance.randrange(20)
        cut = whole[:at] + chance.randbytes(length) + whole[at + length :]
        found = read_bounce(cut, from_nobody=True)
        assert found.reason.isascii()
        assert len(found.reason) <= 300
    many = HEAD + STATUS + (GROUP % b"delayed" + b"\r\n") * 3000
    assert read_bounce(many[:BOUNCE_LIMIT], from_nobody=True).kind == "passing"
