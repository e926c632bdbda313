"""The policy "clamav" against a scripted clamd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent

from mailhub.delivery.filters.clamd import Scanned, parse
from mailhub.errors import ConfigurationError
from mailhub.testing.hubs import Host, Internet
from tests.sim.peers import HANGS, MESSAGE, Dies, Peer, configured, kept, sent

PLACE = ("10.7.7.7", 3310)
FOUND = b"stream: Win.Test.EICAR_HDB-1 FOUND\0"


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet(seed=1) as internet:
        yield internet


def whole(heard: bytes) -> bool:
    return heard.endswith(b"\0\0\0\0")


def scanned(heard: bytes) -> bytes:
    """The stream that was sent in chunks."""
    command, _, rest = heard.partition(b"\0")
    assert command == b"zINSTREAM"
    octets = b""
    while size := int.from_bytes(rest[:4], "big"):
        octets, rest = octets + rest[4 : 4 + size], rest[4 + size :]
    assert rest == b"\0\0\0\0"
    return octets


def hub(internet: Internet, clamd: Peer, **options: Any) -> Host:
    internet.network.listen(*PLACE, clamd)
    config = configured("clamav", {"address": f"inet:{PLACE[0]}:{PLACE[1]}", **options})
    return internet.hub("xx.example", ["ann"], config=config)


def test_a_clean_message_is_scanned_as_it_is_and_taken(internet: Internet) -> None:
    clamd = Peer(whole, [b"stream: OK\0"], then_closes=True)
    host = hub(internet, clamd)
    assert sent(internet, host).startswith("250 ")
    assert sent(internet, host).startswith("250 ")
    assert [scanned(each) for each in clamd.asked] == [MESSAGE, MESSAGE]
    assert len(kept(internet, host)) == 2
    assert clamd.lost == 2


def test_a_large_message_goes_in_bounded_chunks(internet: Internet) -> None:
    clamd = Peer(whole, [b"stream: OK\0"])
    message = MESSAGE + (b"x" * 70 + b"\r\n") * 5000
    assert sent(internet, hub(internet, clamd), message).startswith("250 ")
    assert scanned(clamd.asked[0]) == message
    assert clamd.lost == 1, "we have closed"


@pytest.mark.parametrize(
    ("found", "answer", "inbox", "junk"),
    [
        ("reject", "554 5.7.1 Message has malware in it: Win.Test.EICAR_HDB-1 (clamav)", 0, 0),
        ("quarantine", "250 ", 0, 1),
        ("discard", "250 ", 0, 0),
    ],
)
def test_what_is_found_is_dealt_with(internet: Internet, found: str, answer: str, inbox: int, junk: int) -> None:
    host = hub(internet, Peer(whole, [FOUND]), found=found)
    assert sent(internet, host).startswith(answer)
    assert len(kept(internet, host)) == inbox
    assert len(kept(internet, host, "Junk")) == junk


@pytest.mark.parametrize(
    ("larger", "asked", "answer"),
    [("pass", [], "250 "), ("beginning", [1024], "250 "), ("quarantine", [], "250 ")],
)
def test_what_is_larger_is_treated_as_configured_and_noted(
    internet: Internet, larger: str, asked: list[int], answer: str
) -> None:
    clamd = Peer(whole, [b"stream: OK\0"])
    host = hub(internet, clamd, scan_octets=1024, larger=larger)
    with capturedLogs() as logs:
        assert sent(internet, host, MESSAGE + b"x" * 900 + b"\r\n" + b"x" * 900 + b"\r\n").startswith(answer)
    assert [len(scanned(each)) for each in clamd.asked] == asked
    assert "not scanned as a whole: " in "\n".join(filter(None, map(formatEvent, logs)))
    assert len(kept(internet, host, "Junk")) == (larger == "quarantine")


def test_a_clamd_with_a_smaller_limit_is_a_message_that_is_larger(internet: Internet) -> None:
    clamd = Peer(lambda heard: len(heard) > 100, [b"INSTREAM size limit exceeded. ERROR\0"], then_closes=True)
    host = hub(internet, clamd)
    assert sent(internet, host, MESSAGE + (b"x" * 70 + b"\r\n") * 10000).startswith("250 ")
    assert len(kept(internet, host)) == 1


TROUBLE = [HANGS, Dies, b"stream: OK", b"garbage\0", b"x" * 100_000, b"stream: Can't allocate memory ERROR\0"]


@pytest.mark.parametrize("answer", TROUBLE)
@pytest.mark.parametrize("failure", ["tempfail", "skip"])
def test_whatever_is_no_answer_goes_by_the_failure_mode(internet: Internet, answer: Any, failure: str) -> None:
    clamd = Peer(whole, [answer])
    host = hub(internet, clamd, failure=failure)
    assert sent(internet, host).startswith("451 4.7.1 " if failure == "tempfail" else "250 ")
    assert clamd.lost == 1
    clamd.answers = [b"stream: OK\0"]
    assert sent(internet, host).startswith("250 ")


def test_no_clamd_at_all_defers(internet: Internet) -> None:
    host = hub(internet, Peer(whole, [FOUND]))
    internet.network.unlisten(*PLACE)
    assert sent(internet, host).startswith("451 4.7.1 ")


def test_its_places_are_checked_at_start(internet: Internet) -> None:
    for address in ("localhost:3310", "inet:a b:3", "unix:", "inet:a:99999"):
        with pytest.raises(ConfigurationError, match=r"policy\.clamav.*address"):
            hub(internet, Peer(whole, [FOUND]), address=address)


def test_answers_are_parsed() -> None:
    assert parse(b"stream: OK\n") == Scanned("clean")
    assert parse(b"stream: a b\xff FOUND") == Scanned("found", "a?b?")
    assert parse(b"stream: " + b"n" * 400 + b" FOUND").name == "n" * 100
    for answer in (b"", b"stream:  FOUND", b"OK", b"stream: x ERROR", b"UNKNOWN COMMAND"):
        with pytest.raises(ValueError, match="clamd says"):
            parse(answer)
