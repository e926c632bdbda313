"""A conversation that is overheard is known by its stages, however its octets are cut."""

from __future__ import annotations

from random import Random

import pytest

from mailhub.testing.dialogue import Dialogue

CLIENT = (
    (b"EHLO xx.example\r\n", "EHLO"),
    (b"AUTH PLAIN\r\n", "AUTH"),
    (b"AGEAYg==\r\n", "AUTH"),
    (b"MAIL FROM:<a@xx.example>\r\n", "MAIL"),
    (b"RCPT TO:<b@yy.example>\r\n", "RCPT"),
    (b"DATA\r\n", "DATA"),
    (b"Subject: x\r\n\r\nQUIT\r\n.. dot\r\n", "body"),
    (b".\r\n", "end"),
    (b"MAIL FROM:<>\r\n", "MAIL"),
    (b"BDAT 6\r\n", "DATA"),
    (b"DATA\r\n", "body"),
    (b"BDAT 3 LAST\r\n", "DATA"),
    (b"a\r\n", "end"),
    (b"QUIT\r\n", "QUIT"),
)
SERVER = (
    (b"220 yy.example\r\n", "greeting"),
    (b"250-yy.example\r\n250 SIZE\r\n", "EHLO"),
    (b"334 \r\n", "AUTH"),
    (b"235 in\r\n", "AUTH"),
    (b"250 ok\r\n", "MAIL"),
    (b"250 ok\r\n", "RCPT"),
    (b"354 go\r\n", "DATA"),
    (b"250 taken\r\n", "end"),
    (b"250 ok\r\n", "MAIL"),
    (b"250 ok\r\n", "body"),
    (b"250 taken\r\n", "end"),
    (b"221 bye\r\n", "QUIT"),
)
# Who speaks: a server's turn answers what the client has said so far.
ORDER = "s" + "cs" * 6 + "ccs" + "cs" + "ccs" * 2 + "cs"


@pytest.mark.parametrize("seed", range(20))
def test_each_octet_belongs_to_a_stage_however_it_comes(seed: int) -> None:
    random, dialogue = Random(seed), Dialogue()
    lines = {"c": iter(CLIENT), "s": iter(SERVER)}
    for who in ORDER:
        octets, stage = next(lines[who])
        feed = dialogue.client if who == "c" else dialogue.server
        found: dict[str, bytes] = {}
        while octets:
            size = random.choice((1, 3, 100))
            for piece, its_stage in feed(octets[:size]):
                found[its_stage] = found.get(its_stage, b"") + piece
            octets = octets[size:]
        found.pop("", None)  # of a command that comes in pieces the last one says which it is
        assert set(found) <= {stage, "body"}
        assert stage in found
    assert all(next(left, None) is None for left in lines.values())


LMTP_CLIENT = (
    b"LHLO xx.example\r\n",
    b"MAIL FROM:<a@xx.example>\r\nRCPT TO:<b@yy.example>\r\nRCPT TO:<n@yy.example>\r\nRCPT TO:<c@yy.example>\r\n",
    b"BDAT 3 LAST\r\na\r\n",
    b"MAIL FROM:<>\r\nRCPT TO:<b@yy.example>\r\nDATA\r\n",
    b"x\r\n.\r\nRSET\r\n",
)
LMTP_SERVER = (
    (b"220 yy.example\r\n", "greeting"),
    (b"250 yy.example\r\n", "EHLO"),
    (b"250 ok\r\n", "MAIL"),
    (b"250 ok\r\n", "RCPT"),
    (b"550 no\r\n", "RCPT"),
    (b"250 ok\r\n", "RCPT"),
    (b"250 taken\r\n", "end"),
    (b"452-full\r\n452 full\r\n", "end"),
    (b"250 ok\r\n", "MAIL"),
    (b"250 ok\r\n", "RCPT"),
    (b"354 go\r\n", "DATA"),
    (b"250 taken\r\n", "end"),
    (b"250 ok\r\n", "RSET"),
)


def test_lmtp_has_a_reply_to_the_message_for_each_recipient_that_was_taken() -> None:
    dialogue = Dialogue()
    replies = iter(LMTP_SERVER)
    for octets, count in zip((b"", *LMTP_CLIENT), (1, 1, 4, 2, 3, 2), strict=True):
        list(dialogue.client(octets))
        for _ in range(count):
            said, stage = next(replies)
            assert {found for _, found in dialogue.server(said)} == {stage}
    assert next(replies, None) is None


def test_commands_in_one_write_are_told_apart() -> None:
    dialogue = Dialogue()
    pieces = list(dialogue.client(b"MAIL FROM:<>\r\nRCPT TO:<b@yy.example>\r\nDATA\r\n"))
    assert [stage for _, stage in pieces] == ["MAIL", "RCPT", "DATA"]
    assert list(dialogue.server(b"220 hi\r\n250 ok\r\n250 ok\r\n354 go\r\n"))[-1] == (b"354 go\r\n", "DATA")
    pieces = list(dialogue.client(b"x\r\n.\r\nMAIL FROM:<>\r\n"))
    assert pieces == [(b"x\r\n", "body"), (b".\r\n", "end"), (b"MAIL FROM:<>\r\n", "MAIL")]
    assert list(Dialogue().client(b"")) == []
