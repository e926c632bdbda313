"""`mailhub dmarc`: reports from files, as a table, for programs, and as a picture."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest

from mailhub.cli.dmarc_picture import Bar, picture
from mailhub.config.settings import Config
from mailhub.keys import DAY
from mailhub.message.dmarc_report import AggregateReport, Published, Reason, Row, aggregate_message, written
from mailhub.message.reporting import Sender
from tests.cli.conftest import Command

GOOD = Row("192.0.2.1", "pass", dkim=True, spf=True, header_from="xx.example")
BAD = Row("2001:db8::2", "reject", header_from="news.xx.example")
FORWARDED = Row("192.0.2.1", "none", header_from="xx.example", reasons=(Reason("local_policy", "arc=pass"),))


def report(*rows: tuple[Row, int], organization: str = "YY", days_ago: int = 1) -> AggregateReport:
    begin = (int(time.time()) // DAY - days_ago) * DAY
    published = Published("xx.example", "reject")
    return AggregateReport(organization, "a@yy.example", "id1", begin, begin + DAY - 1, published, rows)


@pytest.fixture
def filled(mailhub: Command, config: Config, tmp_path: Path) -> Command:
    """Reports of two organizations, one of them long ago."""
    mailhub("account", "add", "a@xx.example", stdin="a secret word\n")
    one = report((GOOD, 90), (BAD, 7))
    other = report((GOOD, 10), (FORWARDED, 2), organization="The \x1b[1mZZ")
    old = report((BAD, 100), days_ago=40)
    (tmp_path / "one.xml.gz").write_bytes(gzip.compress(written(one)))
    (tmp_path / "old.xml").write_bytes(written(old))
    sender = Sender("mx.zz.example", "ZZ", "a@zz.example")
    message = aggregate_message(sender, "a@xx.example", other, gzip.compress(written(other)), 0, 0)
    (tmp_path / "other.eml").write_bytes(message)
    result = mailhub("dmarc", "import", "one.xml.gz", "other.eml", "old.xml", "one.xml.gz")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[0].endswith(", by YY: 97 messages")
    return mailhub


def test_a_table(filled: Command) -> None:
    first, second, *lines = filled("dmarc", "report", "XX.example").out.splitlines()
    assert first.endswith(": 2 reports by 2, 109 messages, 100 passed")
    assert second.split() == ["source", "count", "spf", "dkim", "disposition", "from,", "reporters"]
    assert [" ".join(line.split()) for line in lines] == [
        "192.0.2.1 100 pass pass pass xx.example, YY, The ?[1mZZ",
        "2001:db8::2 7 fail fail reject news.xx.example, YY",
        "192.0.2.1 2 fail fail none xx.example (local_policy), The ?[1mZZ",
    ]
    longer = filled("dmarc", "report", "xx.example", "--days", "60").out
    assert "3 reports by 2, 209 messages" in longer
    assert filled("dmarc", "report", "yy.example").out == "no reports about yy.example of the last 30 days\n"


def test_for_programs(filled: Command) -> None:
    told = json.loads(filled("dmarc", "report", "xx.example", "--json").out)
    assert (told["domain"], told["messages"]) == ("xx.example", 109)
    assert told["sources"][0]["reporters"] == {"YY": 90, "The ?[1mZZ": 10}
    assert {each["reporter"] for each in told["reports"]} == {"YY", "The ?[1mZZ"}


def test_a_picture(filled: Command, tmp_path: Path) -> None:
    assert filled("dmarc", "report", "xx.example", "--picture", "p.svg").status == 0
    root = ElementTree.fromstring((tmp_path / "p.svg").read_text())
    titles = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "192.0.2.1: 100 passed" in titles
    assert "192.0.2.1: 2 failed, delivered" in titles
    assert any(title.endswith(": 7 failed, quarantined or rejected") for title in titles)
    assert filled("dmarc", "report", "yy.example", "--picture", "p.svg").status == 0
    assert "Nothing was reported" in (tmp_path / "p.svg").read_text()


def test_mistakes(mailhub: Command, config: Config, tmp_path: Path) -> None:
    mailhub("account", "add", "a@xx.example", stdin="a secret word\n")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 26)))
    (tmp_path / "text.xml").write_bytes(b"<html/>")
    (tmp_path / "odd.xml").write_bytes(written(attrs.evolve(report(), published=Published("a b"))))
    result = mailhub("dmarc", "import", "bomb.gz", "text.xml", "odd.xml")
    assert result.status == 1
    assert [line.partition(": ")[2] for line in result.err.splitlines()][:2] == [
        "bomb.gz: too large",
        "text.xml: is no report of DMARC",
    ]
    assert mailhub("dmarc", "import", "nothing").err == "mailhub: nothing: No such file or directory\n"
    assert "is not a domain" in mailhub("dmarc", "report", "a b").err
    assert "--days must be from 1" in mailhub("dmarc", "report", "xx.example", "--days", "0").err
    assert mailhub("dmarc", "report", "xx.example", "--picture", "no/where.svg").status == 1


def test_a_source_with_all_kinds_is_drawn_within_the_picture() -> None:
    days = [Bar(f"2024-01-{day:02}", [day, 1, 2]) for day in range(1, 31)]
    sources = [Bar(f"192.0.2.{number}", [100 - number, 3, 1]) for number in range(40)]
    root = ElementTree.fromstring(picture("xx.example", days, sources))
    for each in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y = float(each.get("x", 0)), float(each.get("y", 0))
        assert 0 <= x <= x + float(each.get("width", 0)) <= 800
        assert 0 <= y <= y + float(each.get("height", 0)) <= float(root.get("height", 0))
    assert "the largest 12 of 40" in picture("xx.example", days, sources)
