"""Who is believed that a message was what it says before he edited it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from mailhub.checks.arc.seal import seal
from mailhub.checks.arc.sets import collect
from mailhub.checks.arc.trust import passed_at
from mailhub.checks.arc.validate import Chain, Value
from mailhub.checks.canonical import BodyHash
from mailhub.checks.dmarc.walk import Walks
from mailhub.message.header import raw_fields
from mailhub.testing.waiting import result_of
from tests.checks.test_arc import KEYS, chain, resolver
from tests.checks.test_dkim import BODY, HEADER, NOW

PASS = "dmarc=pass header.from=a.example"
FAIL = "dmarc=fail header.from=a.example"
HUBS = [key.domain for key in KEYS]


def of(*results: Sequence[str]) -> Chain:
    """A chain whose sealers have found these; each has edited the message."""
    header = HEADER
    value: Value = "none"
    for number, found in enumerate(results):
        relaxed = BodyHash("relaxed")
        relaxed.update(BODY)
        fields = list(raw_fields(header.replace(b"Subject: ", b"Subject: again: ")))
        header = b"".join(octets for _, octets in fields)
        header = seal(collect(fields), value, found, "mx", KEYS[number], fields, relaxed.digest(), NOW) + header
        value = "pass"
    return chain(header)


def believed(found: Chain, *sealers: str, author: str = "a.example") -> str:
    asked = resolver()
    asked.txt["_dmarc.a.example"] = [b"v=DMARC1; p=reject"]
    return result_of(passed_at(found, frozenset(sealers), author, Walks(asked)))


@pytest.mark.parametrize(
    ("results", "trusted", "where"),
    [
        ([[PASS]], [0], 0),
        ([[PASS]], [], None),
        ([[PASS]], [1], None),
        ([[FAIL]], [0], None),
        ([[PASS], [FAIL]], [0, 1], 0),
        ([[PASS], [FAIL]], [1], None),
        ([[PASS], [FAIL]], [0], None),
        ([[FAIL], [PASS]], [1], 1),
        ([[PASS], [FAIL], [FAIL]], [0, 1, 2], 0),
        ([[PASS], [FAIL], [FAIL]], [0, 2], None),
        ([[PASS], ["none"]], [0, 1], 0),
        ([["dmarc=pass header.from=b.example"]], [0], None),
        ([["spf=pass smtp.mailfrom=x@sub.a.example"]], [0], 0),
        ([["spf=pass smtp.helo=a.example"]], [0], None),
        ([["spf=pass smtp.mailfrom=x@b.example", "dkim=pass header.d=a.example"]], [0], 0),
        ([["dkim=pass header.i=@a.example"]], [0], 0),
        ([["dkim=fail header.d=a.example"]], [0], None),
        ([[FAIL, "dkim=pass header.d=a.example"]], [0], None),
        ([['spf=fail smtp.mailfrom="; dmarc=pass header.from=a.example; "@b.example']], [0], None),
    ],
)
def test_who_is_believed(results: list[list[str]], trusted: list[int], where: int | None) -> None:
    expected = "" if where is None else HUBS[where]
    assert believed(of(*results), *[HUBS[number] for number in trusted]) == expected


def test_a_chain_that_does_not_pass_says_nothing() -> None:
    assert believed(attrs.evolve(of([PASS]), value="fail"), *HUBS) == ""
    assert believed(Chain("none"), *HUBS) == ""


def test_who_seals_only_a_part_of_a_message_does_not_answer_for_it() -> None:
    found = of([PASS])
    for signature in (
        attrs.evolve(found.sets[0].signature, limit=10),
        attrs.evolve(found.sets[0].signature, names=(b"to",)),
    ):
        assert believed(attrs.evolve(found, sets=[attrs.evolve(found.sets[0], signature=signature)]), *HUBS) == ""
