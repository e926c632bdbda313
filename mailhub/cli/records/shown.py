"""Records as they are shown and written to files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from mailhub.cli.records.record import Record
from mailhub.cli.records.topic import Looked, Topic

_WIDTH = 116  # characters of a line of comment

Found = Sequence[tuple[Topic, Sequence[Looked]]]
"""Topics with what came of a look at each, nothing where nobody was asked."""


def found_lines(found: Found) -> Iterator[str]:
    """A line for each look, with what DNS has, and what to publish, below it."""
    of = ""
    for topic, looked in found:
        if topic.of != of:
            yield from ([""] if of else [])
            of = topic.of
        for each in looked:
            word = "ok" if each.state == "right" else "problem" if each.is_problem else "warning"
            yield f"{word:8} {topic.what:8} {each.text}"
            yield from (f"{'':9}has      {record}" for record in each.found)
            yield from (f"{'':9}publish  {record}" for record in each.publish)
            yield from (f"{'':9}policy   {line}" for line in each.beside)


def wanted_lines(topics: Sequence[Topic]) -> Iterator[str]:
    """What there should be, each group of records with what it is for."""
    about = ""
    for topic in topics:
        if topic.records and topic.about != about:
            about = topic.about
            yield from textwrap.wrap(
                about, _WIDTH, initial_indent="  ; ", subsequent_indent="  ; ", break_on_hyphens=False
            )
        yield from (f"  {record}" for record in topic.records)
        yield from (f"  ; {line}" for line in topic.beside)


def zone_lines(found: Found) -> Iterator[str]:
    """All records as they should be: those of DNS where they are right."""
    about = ""
    for topic, looked in found:
        records = should_be(topic, looked)
        if records and topic.about != about:
            about = topic.about
            yield from textwrap.wrap(about, _WIDTH, initial_indent="; ", subsequent_indent="; ", break_on_hyphens=False)
        yield from (record.in_zone for record in records)
        yield from (f"; {line}" for each in looked for line in each.beside)
        yield from (f"; {line}" for line in topic.beside if not looked)


def should_be(topic: Topic, looked: Sequence[Looked]) -> list[Record]:
    """What DNS has, with what is to be published in its place; without a look what can be said without asking."""
    if not looked:
        return list(topic.records)
    publish = [record for each in looked for record in each.publish]
    replaced = {(record.name, record.type) for record in publish}
    kept = [record for each in looked for record in each.found if (record.name, record.type) not in replaced]
    return list(dict.fromkeys((*kept, *publish)))
