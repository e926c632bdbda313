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


@pytest.mark.parametrize(("name", "allowed"), [("a/b", True), ("a*b", True), ("#a", False), ("a//b", False)])
def test_asking_before_a_name_is_used(name: str, allowed: bool) -> None:
    assert mailbox_names.is_allowed(name) is allowed


def test_one_separator_too_many_at_the_end() -> None:
    assert mailbox_names.without_last_separator("a/b/") == "a/b"
    assert mailbox_names.without_last_separator("a/b") == "a/b"
    assert mailbox_names.without_last_separator("a//") == "a/"
