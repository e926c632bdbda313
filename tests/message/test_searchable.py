"""What of address fields is searched; `tests/wire/imap/test_search_matching.py` tests how."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.message.searchable import addresses, words


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"Anne Example <anne@xx.example>", "Anne Example <anne@xx.example>"),
        (b"Anne  <anne@xx.example>", "Anne <anne@xx.example>"),
        (b"anne@xx.example, bob@yy.example", "<anne@xx.example>\n<bob@yy.example>"),
        (b"=?utf-8?q?J=C3=B6rg?= <j@xx.example>", "Jörg <j@xx.example>"),
        (b"J\xfcrgen <j@xx.example>", "Jürgen <j@xx.example>"),
        (b'"Doe, John" <j@xx.example>', 'Doe, John <j@xx.example>\n"Doe, John" <j@xx.example>'),
        (b'"j d"@xx.example', '<j d@xx.example>\n<"j d"@xx.example>'),
        (b"Team: a@xx.example;", "Team\n<a@xx.example>"),
        (b"", ""),
    ],
)
def test_addresses(body: bytes, text: str) -> None:
    assert "\n".join(addresses(body)) == text


def test_words_of_several_fields_stand_on_lines() -> None:
    assert words([b"=?utf-8?q?=C3=A9?=", b"x"]) == "é\nx"


@given(st.binary(max_size=60) | st.text(alphabet='a.<>@,:;()" =?\\[]\t', max_size=40).map(str.encode))
@settings(deadline=None, max_examples=200)
def test_anything_gives_a_text(body: bytes) -> None:
    assert all(isinstance(line, str) for line in addresses(body))
