"""Who a message is from, however the field is written."""

from __future__ import annotations

import pytest

from mailhub.message.authors import authors, resenters

ANN, BEN = "ann@xx.example", "ben@yy.example"


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (b"From: ann@xx.example\r\n", [ANN]),
        (b"Subject: x\r\nfrom : Ann\r\n\t<ann@xx.example>\r\n\r\n", [ANN]),
        (b"From: =?utf-8?q?ceo=40zz.example?= <ann@xx.example>\r\n", [ANN]),
        (b'From: "ceo@zz.example" <ann@xx.example>\r\n', [ANN]),
        (b"From: ann@xx.example (ceo@zz.example)\r\n", [ANN]),
        (b"From: (ceo@zz.example) ann(c)@(c)xx.example\r\n", [ANN]),
        (b"From: ann@xx.example, Ben <ben@yy.example>\r\n", [ANN, BEN]),
        (b"From: Team: ann@xx.example, ben@yy.example;\r\n", [ANN, BEN]),
        (b'From: "a b"@xx.example\r\n', ['"a b"@xx.example']),
        ("From: Bü <bü@bücher.example>\r\n".encode(), ["bü@bücher.example"]),
        (b"From: ann@xx.example\r\nX-From: ben@yy.example\r\nResent-From: ben@yy.example\r\n", [ANN]),
        (b"From: a <a@xx.example>, b <b@xx.example>, " + b"c@xx.example, " * 500 + b"ben@yy.example\r\n", None),
    ],
)
def test_authors_are_found(header: bytes, wanted: list[str] | None) -> None:
    found = [str(each) for each in authors(header)]
    if wanted is None:
        assert len(found) == 503
        assert found[-1] == BEN
    else:
        assert found == wanted


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"", "Message has no From field"),
        (b"Subject: x\r\n From: ann@xx.example\r\n", "Message has no From field"),
        (b"From: ann@xx.example\r\nFROM: ben@yy.example\r\n", "Message has several From fields"),
        (b"From: \r\n", "From field names nobody"),
        (b"From: undisclosed:;\r\n", "From field names nobody"),
        (b"From: Ann\r\n", "From field has what is no address"),
        (b"From: ann@xx.example, Ben\r\n", "From field has what is no address"),
        (b"From: ann@-\r\n", "From field has what is no address"),
        (b"From: \xff@xx.example\r\n", "From field has what is no address"),
    ],
)
def test_what_cannot_be_read_is_told(header: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        authors(header)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (b"From: ann@xx.example\r\nX-Resent-From: ben@yy.example\r\n", []),
        (b"Resent-From: Ann <ann@xx.example>\r\nFrom: x@zz.example\r\n", [ANN]),
        (b"Resent-Sender: ben@yy.example\r\nResent-To: x\r\nresent-from: ann@xx.example\r\n", [ANN, BEN]),
        (b"Resent-From: Team: ann@xx.example, ben@yy.example;\r\nResent-Sender: ann@xx.example\r\n", [ANN, BEN, ANN]),
        (b"Resent-From: ann@xx.example\r\nReceived: x\r\nResent-Sender: ben@yy.example\r\n", [ANN]),
        (b"Resent-From: ann@xx.example\r\nResent-From: x@zz.example\r\nResent-Sender: y@zz.example\r\n", [ANN]),
    ],
)
def test_who_sends_it_again_is_found(header: bytes, wanted: list[str]) -> None:
    assert [str(each) for each in resenters(header)] == wanted


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"Resent-To: ann@xx.example\r\n", "Message is resent and has no Resent-From field"),
        (b"Resent-Sender: ann@xx.example\r\nReceived: x\r\nResent-From: a@b.example\r\n", "no Resent-From field"),
        (b"Resent-From: us:;\r\n", "Resent-From field names nobody"),
        (b"Resent-From: ann@xx.example\r\nResent-Sender: x\r\n", "Resent-Sender field has what is no address"),
    ],
)
def test_what_cannot_be_read_of_who_sends_again_is_told(header: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        resenters(header)
