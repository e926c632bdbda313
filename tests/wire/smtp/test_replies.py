"""Replies written and read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailhub.wire.smtp.replies import BadReply, Reply, ReplyReader, render, reply


def read(octets: bytes) -> Reply | None:
    reader = ReplyReader()
    result = None
    for line in octets.split(b"\r\n")[:-1]:
        assert result is None
        result = reader.line(line)
    return result


@pytest.mark.parametrize(
    ("answer", "octets"),
    [
        (reply(250, "2.1.0", "OK"), b"250 2.1.0 OK\r\n"),
        (Reply(220, "", ("mx ESMTP",)), b"220 mx ESMTP\r\n"),
        (Reply(250, "", ("mx", "SIZE 10", "HELP")), b"250-mx\r\n250-SIZE 10\r\n250 HELP\r\n"),
        (reply(550, "5.1.1", "No", "user"), b"550-5.1.1 No\r\n550 5.1.1 user\r\n"),
        (Reply(250), b"250 \r\n"),
        (reply(550, "5.7.1", "a\r\n250 b\0c\u2028d"), b"550 5.7.1 a 250 b c d\r\n"),
        (reply(550, "5.7.1\r\n250", "a"), b"550 5.7.1 250 a\r\n"),
        (reply(550, "5.7.1", "\u00e4"), b"550 5.7.1 ?\r\n"),
    ],
)
def test_rendering(answer: Reply, octets: bytes) -> None:
    assert render(answer) == octets


@given(st.text(max_size=600), st.sampled_from(["", "5.7.1", "5.\r"]))
def test_one_line_alone_is_written_as_the_last_of_several(text: str, status: str) -> None:
    octets = render(reply(550, status, text))
    assert octets == render(reply(550, status, text, text)).split(b"\r\n")[1] + b"\r\n"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(max_size=600), min_size=1, max_size=120))
def test_rendered_replies_keep_the_limits_and_are_read_back_as_one(lines: list[str]) -> None:
    octets = render(reply(451, "4.3.0", *lines))
    assert octets.isascii()
    rows = octets.split(b"\r\n")[:-1]
    assert len(rows) <= 100
    assert all(len(row) <= 510 for row in rows)
    answer = read(octets)
    assert answer is not None
    assert (answer.code, answer.status) == (451, "4.3.0")


@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        (b"250\r\n", Reply(250)),
        (b"250-a\r\n250-b\r\n250 c\r\n", Reply(250, "", ("a", "b", "c"))),
        (b"550-5.1.1 No\r\n550 5.1.1 user\r\n", Reply(550, "5.1.1", ("No", "user"))),
        (b"450 4.2.0\r\n", Reply(450, "4.2.0")),
        (b"550 2.1.1 No\r\n", Reply(550, "", ("2.1.1 No",))),
        (b"250 \xff\x00\r\n", Reply(250, "", ("\ufffd ",))),
    ],
)
def test_reading(octets: bytes, answer: Reply) -> None:
    assert read(octets) == answer


@pytest.mark.parametrize(
    "octets", [b"\r\n", b"hello\r\n", b"99 x\r\n", b"650 x\r\n", b"2500\r\n", b"250-a\r\n251 b\r\n"]
)
def test_what_is_no_reply(octets: bytes) -> None:
    with pytest.raises(BadReply):
        read(octets)


def test_a_reply_without_end_is_not_collected() -> None:
    reader = ReplyReader()
    for _ in range(100):
        assert reader.line(b"250-x") is None
    with pytest.raises(BadReply):
        reader.line(b"250-x")


def test_text_for_log_and_dsn() -> None:
    assert reply(550, "5.1.1", "No", "", "user").text == "550 5.1.1 No user"
    assert Reply(250).text == "250"
    long = reply(550, "5.7.1", *["x" * 2000] * 100).text
    assert long.startswith("550 5.7.1 xxx")
    assert len(long) <= 1004
