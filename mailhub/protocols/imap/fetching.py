"""FETCH and UID FETCH: rows in slices, digests a slice at a time, small messages some at a time, large ones one by one
(RFC 3501 6.4.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from mailhub.errors import MailError, MessageGone, StoreUnavailable
from mailhub.interfaces import IBlobReader
from mailhub.message.digest import DigestColumns, DigestName
from mailhub.message.flags import SEEN
from mailhub.message.record import FlagChange
from mailhub.net.link import Disconnected
from mailhub.protocols.imap.context import Context, Handlers, log, positions_or_bad
from mailhub.protocols.imap.messages import GONE
from mailhub.protocols.imap.selected import Selected
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.fetch import Piece, Plan, Span
from mailhub.wire.imap.view import Row, batches, portions

ROWS = 500  # messages whose responses are written at a time
BODIES = 50  # messages whose \\Seen is set in one transaction, before their octets are sent
INLINE = 65536  # octets of one response that are read before it is written; more are sent as they are read
TOGETHER = 1 << 18  # octets of small messages that are read at a time

_SET_SEEN = FlagChange("add", frozenset({SEEN}))


async def fetch(context: Context, command: commands.Fetch) -> None:
    """FETCH and UID FETCH."""
    selected = context.mailbox
    if command.uid:
        # `UID FETCH 1000:*` is how clients ask for new mail: none of it shall be missed for not having been told.
        await context.tell(expunge=False)
    slices = positions_or_bad(context, command)
    if slices is None:
        return
    plan = Plan(command.items)
    sets_seen = plan.sets_seen and not selected.read_only
    missing = False
    for positions in batches(slices, BODIES if sets_seen else ROWS):
        seen_now = await _set_seen(context, selected, positions) if sets_seen else set()
        rows = selected.view.rows(positions)
        missing = missing or len(rows) < len(positions)
        for portion in portions(rows, _octets) if plan.wanted else [rows]:
            missing = await _send_rows(context, selected, plan, portion, seen_now) or missing
    await context.tell(expunge=command.uid)
    if missing and not command.uid:
        context.machine.no(command.tag, GONE, responses.EXPUNGEISSUED)
    else:
        context.machine.ok(command.tag)


def _octets(row: Row) -> int:
    return row[1].size


async def _send_rows(context: Context, selected: Selected, plan: Plan, rows: Sequence[Row], seen_now: set[int]) -> bool:
    """Send the responses for some messages; true when one of them has gone meanwhile."""
    columns: DigestColumns = {}
    missing = False
    if plan.wanted:
        uids = [row[1].uid for row in rows]
        columns = await selected.mailbox.digests(uids, plan.wanted)
        there = _in_all(columns, plan.wanted)
        if missing := not there >= set(uids):
            rows = [row for row in rows if row[1].uid in there]
    if plan.sections or seen_now:
        return await _send_answers(context, selected, plan, rows, columns, seen_now) or missing
    if plan.tells_flags:
        selected.view.told(row[1].uid for row in rows)
    await context.link.send(plan.lines(rows, columns))
    return missing


def _in_all(columns: DigestColumns, wanted: Iterable[DigestName]) -> Set[int]:
    """The UIDs whose messages are there."""
    first, *others = (columns[name].keys() for name in wanted)
    return first if all(other == first for other in others) else set(first).intersection(*others)


async def _set_seen(context: Context, selected: Selected, positions: list[int]) -> set[int]:
    """The UIDs whose \\Seen was set. Mail can still be read when the store cannot write."""
    uids = [row[1].uid for row in selected.view.rows(positions) if SEEN not in row[1].flags]
    if not uids:
        return set()
    try:
        result = await selected.mailbox.change_flags(uids, _SET_SEEN)
    except StoreUnavailable as error:
        log.warn(
            "\\Seen not set: session={session_id} user={user} reason={reason!r}",
            session_id=context.link.session_id,
            user=context.account.user,
            reason=str(error),
        )
        return set()
    return {entry.uid for entry in result.changed}


async def _send_answers(
    context: Context,
    selected: Selected,
    plan: Plan,
    rows: Sequence[Row],
    columns: DigestColumns,
    seen_now: set[int],
) -> bool:
    """Send responses that have octets of the messages in them; true when a message has gone meanwhile."""
    missing = False
    for some in portions(rows, _octets, TOGETHER) if plan.sections else [rows]:
        bodies = await _bodies(selected, plan, some)
        for row in some:
            uid = row[1].uid
            if plan.tells_flags or uid in seen_now:
                selected.view.told([uid])
            try:
                await _send_answer(context, selected, plan, row, columns, bodies.get(uid), seen_now=uid in seen_now)
            except MessageGone:
                missing = True
    await context.link.send()
    return missing


async def _bodies(selected: Selected, plan: Plan, rows: Sequence[Row]) -> Mapping[int, bytes]:
    """The octets of the small messages among these."""
    uids = [row[1].uid for row in rows if row[1].size * len(plan.sections) <= INLINE]
    return await selected.mailbox.bodies(uids) if plan.sections and len(uids) > 1 else {}


async def _send_answer(
    context: Context,
    selected: Selected,
    plan: Plan,
    row: Row,
    columns: DigestColumns,
    octets: bytes | None,
    *,
    seen_now: bool,
) -> None:
    if octets is not None and len(octets) == row[1].size:
        await context.link.send(plan.whole(row, columns, octets, seen_now=seen_now))
        return
    answer = plan.answer(row, columns, seen_now=seen_now)
    if not answer.reads:
        await context.link.send(answer.octets())
        return
    reader = await selected.mailbox.open(row[1].uid)
    try:
        headers = {span: await _read(reader, span) for span in answer.needed}
        pieces: list[Piece] = []
        for piece in answer.pieces(headers):
            pieces.append(piece)
            if any(span.length > INLINE for span in headers):
                await context.breathe()
        await _send_pieces(context, reader, pieces)
    finally:
        reader.close()


async def _send_pieces(context: Context, reader: IBlobReader, pieces: list[Piece]) -> None:
    """What is short is read before anything is written. A long literal that breaks off can only be answered by cutting
    the connection."""
    ready: list[Piece] = []
    room = INLINE
    for piece in pieces:
        if isinstance(piece, Span) and piece.length <= room:
            room -= piece.length
            piece = await _read(reader, piece)
        ready.append(piece)
    pending: list[bytes] = []
    for piece in ready:
        if isinstance(piece, bytes):
            pending.append(piece)
            continue
        await context.link.send(b"".join(pending))
        pending.clear()
        context.cut_short = True
        try:
            await context.link.write_all(reader, piece.start, piece.length)
        except MailError as error:
            log.error(
                "message broke off: session={session_id} reason={reason!r}",
                session_id=context.link.session_id,
                reason=str(error),
            )
            context.link.abort()
            raise Disconnected from error
        context.cut_short = False
    await context.link.send(b"".join(pending))


async def _read(reader: IBlobReader, span: Span) -> bytes:
    """Exactly these octets. Raises MessageGone, StoreUnavailable."""
    octets = await reader.read(span.start, span.length)
    if len(octets) != span.length:
        raise StoreUnavailable(detail=f"{len(octets)} of {span.length} octets at {span.start}")
    return octets


HANDLERS: Handlers = {commands.Fetch: fetch}
