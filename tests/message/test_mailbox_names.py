"""Mailbox names: INBOX, the rules for new ones, the levels above."""

from __future__ import annotations

import pytest

from mailhub.errors import InvalidMailboxName
from mailhub.message import mailbox_names


@pytest.mark.parametrize(
    ("written", "meant"),
    [("inbox", "INBOX"), ("iNbOx/Sub", "INBOX/Sub"), ("Inboxes", "Inboxes"), ("a/inbox", "a/inbox"), ("", "")],
)
def test_inbox_in_any_case(written: str, meant: str) -> None:
    assert mailbox_names.normalise(written) == meant


@pytest.mark.parametrize(
    "name", ["INBOX", "a", "a/b", "a.b", "..a", "a b", "a\\b", "Ünï/cødé", "x" * 255, "/".join("x" * 32), "a#b", "~a"]
)
def test_good_names(name: str) -> None:
    mailbox_names.check(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "../etc/passwd",
        "a\tb",
        "a\0",
        "a\x85",
        "a\u2028b",
        "a\ud800",
        "#news",
        "x" * 256,
        "ü" * 128,
        "/".join("x" * 33),
        "/".join(["x" * 200] * 5),
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidMailboxName):
        mailbox_names.check(name)


def test_ancestors() -> None:
    assert list(mailbox_names.ancestors("a/b/c")) == ["a", "a/b"]
    assert list(mailbox_names.ancestors("a")) == []
