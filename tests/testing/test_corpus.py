"""The corpus keeps what it promises to the tests that send it around."""

from __future__ import annotations

import re

from mailhub.testing.corpus import corpus

_COUNT = 126  # each form three times


def test_same_seed_same_octets_and_a_longer_corpus_begins_with_the_shorter() -> None:
    assert list(corpus(7, 60)) == list(corpus(7, 90))[:60]
    assert list(corpus(7, 10)) != list(corpus(8, 10))


def test_every_message_passes_through_smtp_unchanged() -> None:
    for message in corpus(1, _COUNT):
        assert message.endswith(b"\r\n")
        assert b"\0" not in message
        assert re.search(rb"\r(?!\n)|(?<!\r)\n", message) is None
        assert max(map(len, message.split(b"\r\n"))) <= 998


def test_it_has_what_it_is_for() -> None:
    messages = list(corpus(2, _COUNT))
    assert len(set(messages)) > 0.9 * _COUNT
    assert sum(len(message) > 1_000_000 for message in messages) >= 3
    for needle in (
        b"message/rfc822",
        b"\r\n.\r\n",
        b"filename*0",
        b"=?utf-8?",
        b"multipart/digest",
        b"\xff",
        b"x" * 998,
    ):
        assert any(needle in message for message in messages), needle
