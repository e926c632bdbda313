"""Two hubs and one message."""

from __future__ import annotations

from mailhub.testing.hubs import Internet

MESSAGE = b"From: a@xx.example\r\nSubject: hello\r\n\r\nHow are you?\r\n.\r\n"


def test_a_message_travels_from_hub_to_hub() -> None:
    with Internet() as internet:
        xx = internet.hub("xx.example", users=["a"])
        yy = internet.hub("yy.example", users=["b"])
        xx.submit("a@xx.example", ["b@yy.example"], MESSAGE)
        internet.run(60)
        (arrived,) = yy.inbox("b@yy.example")
        assert xx.queued() == []
        assert arrived.startswith(b"Return-Path: <a@xx.example>\r\nReceived: from mx.xx.example ([10.0.0.2])")
        assert b"with ESMTPS" in arrived
        assert arrived.endswith(b"\r\n\r\nHow are you?\r\n.\r\n")
