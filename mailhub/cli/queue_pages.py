"""What commands ask of the queue, page by page, and how they show what comes from strangers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mailhub.interfaces import Which
from mailhub.log import clean
from mailhub.queue_desk import NOTES, PAGE, as_question

Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Record = Mapping[str, Any]


def pages(asked: Ask, which: Which) -> Iterator[Sequence[Record]]:
    """The messages that are meant, a page at a time."""
    after = ""
    while True:
        page = asked({"queue": "messages", "which": as_question(which), "after": after})["messages"]
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1]["id"]


def carry_out(asked: Ask, which: Which, question: Mapping[str, Any]) -> Mapping[str, int]:
    """Page by page; how many messages have changed, and what there is to know of how many."""
    counts, after = dict.fromkeys(("changed", *NOTES), 0), ""
    while True:
        done = asked({"queue": "change", "which": as_question(which), "after": after, **question})
        counts = {name: count + int(done.get(name, 0)) for name, count in counts.items()}
        if done["after"] is None:
            return counts
        after = done["after"]


def shown(line: str) -> str:
    """Addresses and answers come from strangers: nothing for the terminal to obey, and no second line."""
    return clean(line).replace("\n", "\\x0a")
