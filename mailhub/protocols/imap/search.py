"""SEARCH and UID SEARCH: the cheap keys first, the octets of a message only where nothing else decides."""

from __future__ import annotations

from collections.abc import Sequence

from mailhub.errors import MessageDamaged, MessageGone
from mailhub.interfaces import IBlobReader
from mailhub.message.header import HEADER_LIMIT
from mailhub.message.record import Entry
from mailhub.protocols.imap.context import Context, Handlers
from mailhub.protocols.imap.fetch import examine
from mailhub.protocols.imap.selected import Selected
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.search_matching import Candidate, Finder, Query, Source, Stretch, decoder, stretches
from mailhub.wire.imap.view import portions

ROUNDS = 5  # as often at most, messages that were changed meanwhile are looked at again
TESTS = 4000  # tests of rows between two turns of the reactor
ROWS = 500  # messages looked at in one piece
BLOCK = 65536  # octets of a body that are read and searched in one piece


async def search(context: Context, command: commands.Search) -> None:
    """SEARCH and UID SEARCH. New messages are told first, so that they can match."""
    selected = context.mailbox
    await context.tell(expunge=False)
    view = selected.view
    query = Query(command.key, len(view), view.uids[-1] if view else 0)
    step = max(1, min(ROWS, TESTS // query.weight))
    looked_at: list[Entry | None] = [None] * len(view)
    found: set[int] = set()
    for _ in range(ROUNDS):
        # What others change while we read is looked at again: the answer is to be true when it is sent.
        changed = [p for p, (entry, seen) in enumerate(zip(view.entries, looked_at, strict=True)) if entry is not seen]
        if not changed:
            break
        for start in range(0, len(changed), step):
            positions = changed[start : start + step]
            found.difference_update(positions)
            found.update(await _matching_among(context, selected, query, positions, looked_at))
            await context.breathe()
    matching = sorted(found)
    numbers = [view.uids[position] for position in matching] if command.uid else [p + 1 for p in matching]
    context.machine.untagged(responses.search(numbers))
    await context.done(command.tag, expunge=command.uid)


async def _matching_among(
    context: Context, selected: Selected, query: Query, positions: Sequence[int], looked_at: list[Entry | None]
) -> list[int]:
    """Which of these match; `looked_at` gets the rows that were."""
    view = selected.view
    candidates = []
    for position in positions:
        looked_at[position] = entry = view.entries[position]
        candidates.append(Candidate(position + 1, entry, view.is_recent(entry.uid)))
    return [candidate.number - 1 for candidate in await _matching(context, selected, query, candidates)]


async def _matching(context: Context, selected: Selected, query: Query, candidates: list[Candidate]) -> list[Candidate]:
    """Those that match. What the rows leave open is asked of the digests, then of each message in turn."""
    answers = {candidate: query.check(candidate) for candidate in candidates}
    unknown = [candidate for candidate, answer in answers.items() if answer is None]
    for portion in portions(unknown, lambda candidate: candidate.entry.size):
        columns = await selected.mailbox.digests([candidate.entry.uid for candidate in portion], query.wanted)
        for candidate in portion:
            if candidate.has_digest(columns):
                answers[candidate] = await _check(context, selected, query, candidate)
            else:
                await examine(context, selected, candidate.entry.uid)
    return [candidate for candidate, answer in answers.items() if answer]  # None: gone, or damaged


async def _check(context: Context, selected: Selected, query: Query, candidate: Candidate) -> bool:
    await _survey(context, query, candidate)
    answer = query.check(candidate)
    return await _read_and_check(context, selected, query, candidate) if answer is None else answer


async def _survey(context: Context, query: Query, candidate: Candidate) -> None:
    for _ in candidate.survey(query.sought):
        await context.breathe()


async def _read_and_check(context: Context, selected: Selected, query: Query, candidate: Candidate) -> bool:
    try:
        reader = await selected.mailbox.open(candidate.entry.uid)
    except MessageGone:
        return False
    except MessageDamaged as error:
        # The others are found all the same; a client could do nothing about a NO.
        context.damaged(candidate.entry.uid, error)
        return False
    try:
        candidate.has_header(await reader.read(0, min(candidate.header_size, HEADER_LIMIT)))
        await _survey(context, query, candidate)
        answer = query.check(candidate)
        if answer is None and query.source is Source.BODY:
            candidate.found = await _find(context, query, reader, candidate.parts)
            answer = query.check(candidate)
    except MessageGone:
        return False
    finally:
        reader.close()
    await context.breathe()
    return bool(answer)


async def _find(context: Context, query: Query, reader: IBlobReader, parts: bytes) -> set[str]:
    """Which of the texts stand in the body."""
    finder = Finder(query.texts)
    for stretch in stretches(parts):
        await _search(context, finder, reader, stretch)
        if finder.done:
            break
    return finder.found


async def _search(context: Context, finder: Finder, reader: IBlobReader, stretch: Stretch) -> None:
    decode = decoder(stretch)
    for start in range(stretch.start, stretch.end, BLOCK):
        length = min(BLOCK, stretch.end - start)
        await _feed(context, finder, decode.feed(await reader.read(start, length)))
        if finder.done:
            return
        if length == BLOCK:
            await context.breathe()
    await _feed(context, finder, decode.finish())
    finder.end()


async def _feed(context: Context, finder: Finder, text: str) -> None:
    for _ in finder.feed(text):
        await context.breathe()


HANDLERS: Handlers = {commands.Search: search}
