"""The policy "rspamd" against a scripted rspamd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.delivery.filters.rspamd_words import parse
from mailhub.errors import ConfigurationError
from mailhub.message.edits import AddField, InsertField, RemoveField
from mailhub.testing.hubs import Host, Internet
from tests.sim.peers import (
    HANGS,
    MESSAGE,
    Dies,
    Peer,
    body_of,
    configured,
    dialogue,
    fields_of,
    json_answer,
    kept,
    sent,
    whole_request,
)

PLACE = ("10.7.7.7", 11333)


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


def says(action: str = "no action", score: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"action": action, "score": score, "required_score": 15.0, **more}


def hub(internet: Internet, *answers: Any, closes: bool = False, **options: Any) -> tuple[Host, Peer]:
    given = [json_answer(each) if isinstance(each, dict) else each for each in answers]
    rspamd = Peer(whole_request, given, then_closes=closes)
    internet.network.listen(*PLACE, rspamd)
    config = configured("rspamd", {"url": f"http://{PLACE[0]}:{PLACE[1]}", **options})
    return internet.hub("xx.example", ["ann", "ben"], config=config), rspamd


def test_it_is_told_whence_the_message_comes_and_the_message_itself(internet: Internet) -> None:
    host, rspamd = hub(internet, says())
    internet.resolver.ptr["10.9.9.9"] = ["c.example"]
    internet.resolver.hosts["c.example"] = ["10.9.9.9"]
    assert dialogue(internet, host, to=("ann", "ben"))[-1].startswith("250 ")
    [request] = rspamd.asked
    assert request.startswith(b"POST /checkv2 HTTP/1.1\r\n")
    fields = fields_of(request)
    queue_id = fields.pop("queue-id")
    assert queue_id.endswith("-1")
    fields.pop("user-agent")
    assert fields == {
        "host": "10.7.7.7:11333",
        "content-length": str(len(MESSAGE)),
        "from": "a@yy.example",
        "rcpt": "ann@xx.example,ben@xx.example",
        "ip": "10.9.9.9",
        "helo": "c.example",
        "hostname": "c.example",
        "mta-name": "mx.xx.example",
    }
    assert body_of(request) == MESSAGE


def test_a_login_and_the_only_recipient_are_told(internet: Internet) -> None:
    host, rspamd = hub(internet, says())
    host.submit("ann@xx.example", ["ben@xx.example"], MESSAGE)
    fields = fields_of(rspamd.asked[0])
    assert fields["user"] == "ann@xx.example"
    assert fields["deliver-to"] == "ben@xx.example"


@pytest.mark.parametrize(
    ("answer", "options", "reply", "mailbox"),
    [
        (says(), {}, "250 ", "INBOX"),
        (says("greylist", 5), {}, "250 ", "INBOX"),
        (says("greylist", 5), {"greylist": "defer"}, "451 4.7.1 Try again later (rspamd)", None),
        (says("add header", 7), {}, "250 ", "Junk"),
        (says("add header", 7), {"spam": "accept"}, "250 ", "INBOX"),
        (says("quarantine", 7), {"spam": "accept"}, "250 ", "Junk"),
        (says("soft reject", 7), {}, "451 4.7.1 Try again later (rspamd)", None),
        (
            says("soft reject", 7, messages={"smtp_message": "Greylisted,\r\nplease wait"}),
            {},
            "451 4.7.1 Greylisted, please wait (rspamd)",
            None,
        ),
        (says("reject", 30), {}, "554 5.7.1 Message looks like spam (rspamd)", None),
        (says("discard", 30), {}, "250 ", None),
    ],
)
def test_every_action_is_carried_out(
    internet: Internet, answer: Any, options: dict[str, Any], reply: str, mailbox: str | None
) -> None:
    host, _ = hub(internet, answer, **options)
    assert sent(internet, host).startswith(reply)
    for each in ("INBOX", "Junk"):
        assert len(kept(internet, host, each)) == (each == mailbox)


def test_the_header_says_what_was_found_and_no_stranger_does(internet: Internet) -> None:
    symbols = {"R_A": {"score": 0.1}, "BAYES_SPAM": {"score": 5.1}, "bad name\r\n": {"score": 1}, "NO": 3}
    host, _ = hub(internet, says("add header", 7.25, symbols=symbols))
    forged = b"X-Spam: No\r\nx-spam-score: -100\r\n" + MESSAGE
    assert sent(internet, host, forged).startswith("250 ")
    [message] = kept(internet, host, "Junk")
    assert message == (
        b"X-Spam: Yes\r\nX-Spam-Action: add header\r\nX-Spam-Score: 7.25 / 15.00\r\n"
        b"X-Spam-Symbols: BAYES_SPAM(5.10),\r\n\tR_A(0.10)\r\n" + MESSAGE
    )


def test_its_own_fields_are_put_and_taken(internet: Internet) -> None:
    milter = {
        "remove_headers": {"X-Old": 0},
        "add_headers": {
            "X-One": {"value": "a;\n\tb", "order": 0},
            "X-Two": [{"value": "1"}, "2"],
            "X-Last": {"value": "z", "order": -1},
            "Bad Name": {"value": "x"},
            "X-Bad": {"value": "x\r\nSubject: y"},
        },
    }
    host, _ = hub(internet, says(milter=milter), spam_fields=False)
    with capturedLogs() as logs:
        assert sent(internet, host, b"X-Old: 1\r\nX-Old: 2\r\n" + MESSAGE).startswith("250 ")
    [message] = kept(internet, host)
    assert message == (
        b"X-Two: 2\r\nX-Two: 1\r\nX-One: a;\r\n\tb\r\nSubject: hello\r\nX-Last: z\r\n\r\nHow are you?\r\n"
    )
    assert any(
        "edits dropped: " in (formatEvent(each) or "") and "edits=2" in (formatEvent(each) or "") for each in logs
    )


@pytest.mark.parametrize(
    ("message", "kept_as"),
    [
        (MESSAGE, b"Subject: [SPAM] hello\r\n\r\n"),
        (b"X: y\r\n\r\nHi\r\n", b"Subject: [SPAM] hello\r\nX: y\r\n\r\n"),
    ],
)
def test_the_subject_is_rewritten(internet: Internet, message: bytes, kept_as: bytes) -> None:
    host, _ = hub(internet, says("rewrite subject", 9, subject="[SPAM]\r\nhello"), spam_fields=False)
    assert sent(internet, host, message).startswith("250 ")
    [octets] = kept(internet, host, "Junk")
    assert octets.startswith(kept_as)


def test_a_header_that_is_too_large_to_be_edited_is_marked_on_top(internet: Internet) -> None:
    milter = {"remove_headers": {"X-Old": 0}, "add_headers": {"X-Last": {"value": "z", "order": -1}}}
    host, rspamd = hub(internet, says("add header", 7, milter=milter))
    message = b"X-Old: 1\r\n" * 30_000 + MESSAGE
    assert sent(internet, host, message).startswith("250 ")
    assert body_of(rspamd.asked[0]) == message
    [octets] = kept(internet, host, "Junk")
    assert octets.startswith(b"X-Spam: Yes\r\n")


def test_one_connection_is_asked_again_and_again(internet: Internet) -> None:
    host, rspamd = hub(internet, says())
    for _ in range(3):
        assert sent(internet, host).startswith("250 ")
    assert (rspamd.connections, len(rspamd.asked)) == (1, 3)
    internet.run(60)
    assert rspamd.lost == 1, "not for ever"


def test_a_restart_between_two_messages_is_no_failure(internet: Internet) -> None:
    host, rspamd = hub(internet, json_answer(says()), Dies, json_answer(says()))
    assert sent(internet, host).startswith("250 ")
    assert sent(internet, host).startswith("250 ")
    assert (rspamd.connections, len(rspamd.asked)) == (2, 3)


def test_a_server_that_closes_after_each_answer_is_asked_anew(internet: Internet) -> None:
    host, rspamd = hub(internet, json_answer(says(), more="Connection: close\r\n"), closes=True)
    assert [sent(internet, host)[:3] for _ in range(2)] == ["250", "250"]
    assert rspamd.connections == 2


TROUBLE = [
    HANGS,
    Dies,
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    json_answer(b"no json"),
    json_answer(b"[" * 100_000),
    json_answer(b"[]"),
    json_answer({"error": "not\r\ntoday"}),
    json_answer({"action": "dance", "score": 1, "required_score": 2}),
    json_answer(b'{"action": "reject", "score": NaN, "required_score": 2}'),
    json_answer(says("reject"), "500 Internal Error"),
]


@pytest.mark.parametrize("answer", TROUBLE)
@pytest.mark.parametrize("failure", ["tempfail", "skip"])
def test_whatever_is_no_answer_goes_by_the_failure_mode(internet: Internet, answer: Any, failure: str) -> None:
    host, rspamd = hub(internet, answer, failure=failure)
    assert sent(internet, host).startswith("451 4.7.1 " if failure == "tempfail" else "250 ")
    rspamd.answers = [json_answer(says())]
    assert sent(internet, host).startswith("250 ")


def test_a_large_message_is_not_asked_about_and_noted(internet: Internet) -> None:
    host, rspamd = hub(internet, says("reject"), scan_octets=1024)
    with capturedLogs() as logs:
        assert sent(internet, host, MESSAGE + b"x" * 900 + b"\r\n" + b"x" * 900 + b"\r\n").startswith("250 ")
    assert not rspamd.asked
    assert any((formatEvent(each) or "").startswith("not scanned as a whole: ") for each in logs)


@pytest.mark.parametrize(
    "url", ["", "ftp://x/", "http://", "http://a@b/", "http://192.0.3.1:11333", "http://a:99999", "http://a b/"]
)
def test_its_url_is_checked_at_start(internet: Internet, url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.rspamd.*url"):
        hub(internet, says(), url=url)


def test_a_name_that_leads_to_the_network_of_all_is_not_asked_in_plain_text(internet: Internet) -> None:
    internet.resolver.hosts["filter.example"] = ["192.0.3.1"]
    host, rspamd = hub(internet, says(), url="http://filter.example:11333")
    internet.network.listen("192.0.3.1", 11333, rspamd)
    assert sent(internet, host).startswith("451 ")
    assert not rspamd.asked


def test_edits_are_bounded_and_numbers_sound() -> None:
    milter = {
        "add_headers": {f"X-{number}": "v" for number in range(200)},
        "remove_headers": {"X-A": [1, -1], "X-B": "all", "X-C": True},
    }
    judged = parse(json_answer(says(milter=milter)).partition(b"\r\n\r\n")[2])
    assert len(judged.edits) + judged.dropped == 204
    assert judged.edits[:3] == (RemoveField("X-A", 1), RemoveField("X-A", -1), AddField("X-0", "v"))
    assert len(judged.edits) < 100
    ordered = parse(
        b'{"action":"no action","score":1,"required_score":2,"milter":{"add_headers":{"X":{"value":"v","order":2}}}}'
    )
    assert ordered.edits == (InsertField("X", "v", 2),)
