"""What is counted for reports of DMARC, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.delivery.authentication.aggregates import ROWS_LIMIT, Tally
from mailhub.delivery.reporting import ENTRY_LIMIT, DailyReports, ReportOptions, Subject, mail_address
from mailhub.errors import StoreUnavailable
from mailhub.message.dmarc_report import DkimResult, Published, Reason, Row, SpfResult
from mailhub.testing.hubs import Internet

PUBLISHED = Published("yy.example", "reject")
WORDS = st.text(st.characters(codec="utf-8"), max_size=10)
ROWS = st.builds(
    Row,
    source=st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    dkim=st.booleans(),
    reasons=st.lists(st.builds(Reason, WORDS, WORDS), max_size=2).map(tuple),
    header_from=WORDS,
    envelope_from=st.none() | WORDS,
    dkim_results=st.lists(st.builds(DkimResult, WORDS, WORDS, WORDS), max_size=2).map(tuple),
    spf_result=st.none() | st.builds(SpfResult, WORDS, WORDS),
)


def again(tally: Tally) -> Tally:
    """What is read of what is kept."""
    found = Tally()
    for octets in tally.kept():
        assert len(octets) <= 64 << 10
        found.add_kept(octets)
    return found


@given(st.dictionaries(ROWS, st.integers(1, 1000), max_size=5), st.integers(0, 5))
def test_what_is_kept_is_counted_again(rows: dict[Row, int], left_out: int) -> None:
    tally = Tally()
    for row, count in rows.items():
        tally.add(PUBLISHED, row, count)
    tally.left_out = left_out if rows else 0
    found = again(tally)
    assert (found.rows, found.left_out) == (rows, tally.left_out)
    assert found.published == (PUBLISHED if rows else None)


def test_many_large_rows_are_several_entries_and_some_are_left_out() -> None:
    tally = Tally()
    long = tuple([DkimResult("d" * 255, "\U0001f600" * 255, "pass")] * 10)
    for number in range(ROWS_LIMIT + 7):
        source = f"10.0.{number >> 8}.{number & 255}"
        tally.add(PUBLISHED, Row(source, dkim_results=long if number < 50 else ()))
    assert len(tally.kept()) > 5
    found = again(tally)
    assert (len(found.rows), found.left_out) == (ROWS_LIMIT, 7)
    assert found.add(PUBLISHED, Row("10.9.9.9"), room=False) is False
    assert found.left_out == 8
    assert all(len(octets) <= ENTRY_LIMIT + 4096 for octets in tally.kept())


def test_lone_surrogates_do_no_harm() -> None:
    tally = Tally()
    tally.add(PUBLISHED, Row("192.0.2.1", header_from="\ud800"))
    assert [row.header_from for row in again(tally).rows] == ["?"]


@pytest.mark.parametrize(
    "octets", [b"", b"[]", b"{}", b"nonsense", json.dumps({"published": ["a"], "rows": [[1]]}).encode()]
)
def test_damaged_entries(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Tally().add_kept(octets)


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet() as made:
        yield made


def test_what_cannot_be_kept_now_is_kept_later(internet: Internet) -> None:
    xx = internet.hub("xx.example")
    told: list[tuple[str, str, int]] = []

    async def report(day: str, domain: str, kept: list[bytes]) -> bool:
        told.append((day, domain, sum(map(int, kept))))
        return True

    class State:
        failing = True
        inner = xx.hub.database.state.of("test")

        async def put(self, values: dict[str, bytes], seconds: int = 0) -> None:
            if self.failing:
                raise StoreUnavailable
            await self.inner.put(values, seconds)

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    @attrs.define
    class Count:
        value: int = 0

    state = State()
    subject = Subject("x", Count, lambda count: [b"%d" % count.value], report)  # type: ignore[arg-type]
    daily = DailyReports(xx.hub.environment, state, subject)  # type: ignore[arg-type]
    daily.start()
    counts = daily.counts("yy.example")
    assert counts is not None
    counts.value = 5
    internet.run(400)
    state.failing = False
    internet.run(86400 + 2 * 3600)
    assert told == [("2024-01-01", "yy.example", 5)]
    internet.wait(daily.stop())


def test_many_who_cannot_be_told_keep_nobody_else_waiting(internet: Internet) -> None:
    xx = internet.hub("xx.example")
    told: list[str] = []

    async def report(_day: str, domain: str, _kept: list[bytes]) -> bool:
        told.append(domain)
        return domain.startswith("z")

    state = xx.hub.database.state.of("test")
    subject = Subject("x", list, lambda _: [b""], report)  # type: ignore[arg-type, var-annotated]
    daily = DailyReports(xx.hub.environment, state, subject)
    names = [f"a{number}.example" for number in range(900)] + ["z.example"]
    internet.wait(state.put({f"x 2023-12-31 {name} 0": b"" for name in names}, 3600))
    internet.wait(daily.send_due())
    assert told == sorted(names)
    assert len(internet.wait(state.items("x ", 1000))) == 900


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("mailto:a@yy.example", "a@yy.example"),
        ("MAILTO:a%2Bb@yy.example?subject=x", "a+b@yy.example"),
        ("mailto:%22a%20b%22@yy.example", '"a b"@yy.example'),
    ],
)
def test_addresses_in_uris(uri: str, address: str) -> None:
    assert str(mail_address(uri)) == address


@pytest.mark.parametrize(
    "uri", ["mailto:", "mailto:a", "mailto:a@b@", "mailto:a%0d%0ab@yy.example", "mailto:a,b@c,d@e"]
)
def test_what_is_no_address_of_a_uri(uri: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        mail_address(uri)


def test_a_contact_that_is_none() -> None:
    with pytest.raises(ValueError, match="not a mail address"):
        ReportOptions(contact="nobody")
    assert ReportOptions().sender("mx.xx.example").contact == "postmaster@mx.xx.example"
