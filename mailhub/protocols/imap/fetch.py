"""FETCH and UID FETCH: rows in slices, digests a slice at a time, small messages some at a time, large ones one by one
(RFC 3501 6.4.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Flag, auto

import attrs

from mailhub.errors import MailError, MessageDamaged, MessageGone, NotPermitted, StoreUnavailable
from mailhub.interfaces import IBlobReader
from mailhub.message.flags import SEEN
from mailhub.message.record import DigestColumns, DigestName, Entry, FlagChange
from mailhub.net.link import Disconnected
from mailhub.protocols.imap.context import Context, Handlers, log, positions_or_bad
from mailhub.protocols.imap.selected import GONE, Selected
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.fetch_response import FetchPlan, Piece, Span
from mailhub.wire.imap.view import Row, batches, portions

ROWS = 500  # messages whose responses are written at a time
BODIES = 50  # messages whose \\Seen is set in one transaction, before their octets are sent
INLINE = 65536  # octets of one response that are read before it is written; more are sent as they are read
TOGETHER = 1 << 18  # octets of small messages that are read at a time

DAMAGED = "Some of the messages are damaged on the server and cannot be read"


class Missing(Flag):
    """Why messages that were asked for have not been answered; all others have."""

    NOTHING = 0
    GONE = auto()
    DAMAGED = auto()


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
    plan = FetchPlan(command.items)
    sets_seen = plan.sets_seen and "s" in selected.rights
    missing = Missing.NOTHING
    for positions in batches(slices, BODIES if sets_seen else ROWS):
        seen_now = await _set_seen(context, selected, positions) if sets_seen else set()
        for portion in portions(positions, selected.view.size) if plan.wanted else [positions]:
            missing |= await _send_portion(context, selected, plan, portion, seen_now)
    await context.tell(expunge=command.uid)
    if Missing.DAMAGED in missing:
        context.machine.no(command.tag, DAMAGED, responses.SERVERBUG)
    elif missing and not command.uid:
        context.machine.no(command.tag, GONE, responses.EXPUNGEISSUED)
    else:
        context.machine.ok(command.tag)


async def _send_portion(
    context: Context, selected: Selected, plan: FetchPlan, positions: Sequence[int], seen_now: set[int]
) -> Missing:
    """Send the responses for some messages."""
    view = selected.view
    columns: DigestColumns = {}
    found = positions
    missing = Missing.NOTHING
    if plan.wanted:
        numbers = view.uids
        uids = [numbers[position] for position in positions]
        columns = await selected.mailbox.digests(uids, plan.wanted)
        there = _in_all(columns, plan.wanted)
        if not there >= (asked := set(uids)):
            found = [position for position in positions if numbers[position] in there]
            for uid in asked - there:
                missing |= await examine(context, selected, uid)
    if plan.sections or seen_now:
        return await _send_answers(context, selected, plan, found, columns, seen_now) | missing
    rows = view.rows(found)
    if plan.tells_flags:
        context.machine.untagged(selected.new_keywords())
        view.told(row[1].uid for row in rows)
    await context.link.send(plan.lines(rows, columns))
    return missing


async def examine(context: Context, selected: Selected, uid: int) -> Missing:
    """Why the store has no digest of a message."""
    try:
        (await selected.mailbox.open(uid)).close()
    except MessageGone:
        return Missing.GONE
    except MailError as error:
        context.damaged(uid, error)
    else:
        context.damaged(uid, StoreUnavailable(detail="its digest cannot be read"))
    return Missing.DAMAGED


def _in_all(columns: DigestColumns, wanted: Iterable[DigestName]) -> Set[int]:
    """The UIDs whose messages are there."""
    first, *others = (columns[name].keys() for name in wanted)
    return first if all(other == first for other in others) else set(first).intersection(*others)


async def _set_seen(context: Context, selected: Selected, positions: list[int]) -> set[int]:
    """The UIDs whose \\Seen was set. Mail can still be read when the store cannot write."""
    view = selected.view
    entries = [view.entries[position] for position in positions]
    uids = [entry.uid for entry in entries if SEEN not in entry.flags and entry.uid not in view.gone]
    if not uids:
        return set()
    try:
        result = await selected.mailbox.change_flags(uids, _SET_SEEN)
    except NotPermitted:
        return set()
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
    plan: FetchPlan,
    positions: Sequence[int],
    columns: DigestColumns,
    seen_now: set[int],
) -> Missing:
    """Send responses that have octets of the messages in them."""
    view = selected.view
    missing = Missing.NOTHING
    for some in portions(positions, view.size, TOGETHER) if plan.sections else [positions]:
        bodies = await _bodies(selected, plan, some)
        for position in some:
            entry = view.entries[position]
            response = _Response(selected, plan, position, columns, entry.uid in seen_now)
            octets = bodies.get(entry.uid)
            if octets is not None and len(octets) == entry.size:
                await context.link.send(response.whole(octets))
                continue
            try:
                await _send_response(context, response)
            except MessageGone:
                missing |= Missing.GONE
            except MessageDamaged as error:
                context.damaged(entry.uid, error)
                missing |= Missing.DAMAGED
    await context.link.send()
    return missing


async def _bodies(selected: Selected, plan: FetchPlan, positions: Sequence[int]) -> Mapping[int, bytes]:
    """The octets of the small messages among these."""
    view = selected.view
    if not plan.sections:
        return {}
    limit = INLINE // len(plan.sections)
    entries = [view.entries[position] for position in positions]
    uids = [entry.uid for entry in entries if entry.size <= limit]
    return await selected.mailbox.bodies(uids) if len(uids) > 1 else {}


@attrs.define
class _Response:
    """One response under way. Its flags are those of the moment at which its first octets are sent, and count as told
    from then on: what changes while the message is read, or while a slow client takes it, is told afterwards."""

    selected: Selected
    plan: FetchPlan
    position: int
    columns: DigestColumns
    seen_now: bool

    @property
    def entry(self) -> Entry:
        """The message."""
        return self.selected.view.entries[self.position]

    def whole(self, octets: bytes) -> bytes:
        """All of it, from the octets of the message."""
        row = self.selected.view.row(self.position)
        told = self._tell(row) if self.plan.tells_flags or self.seen_now else b""
        return told + self.plan.whole(row, self.columns, octets, seen_now=self.seen_now)

    def head(self) -> bytes:
        """Its beginning."""
        row = self.selected.view.row(self.position)
        told = self._tell(row) if self.plan.tells_flags or self.seen_now else b""
        return told + self.plan.head(row, self.columns, seen_now=self.seen_now)

    def _tell(self, row: Row) -> bytes:
        """The client hears of this row's flags now; before them, of keywords that are new."""
        self.selected.view.told((row[1].uid,))
        return self.selected.new_keywords()


async def _send_response(context: Context, response: _Response) -> None:
    entry = response.entry
    answer = response.plan.answer(entry, response.columns)
    if not answer.reads:
        await context.link.send(response.head() + answer.octets())
        return
    reader = await response.selected.mailbox.open(entry.uid)
    try:
        headers = {span: await _read(reader, span) for span in answer.needed}
        pieces: list[Piece] = []
        for piece in answer.pieces(headers):
            pieces.append(piece)
            if any(span.length > INLINE for span in headers):
                await context.breathe()
        await _send_pieces(context, reader, response, pieces)
    finally:
        reader.close()


async def _send_pieces(context: Context, reader: IBlobReader, response: _Response, pieces: list[Piece]) -> None:
    """What is short is read before anything is written. A long literal that breaks off can only be answered by cutting
    the connection."""
    ready: list[Piece] = []
    room = INLINE
    for piece in pieces:
        if isinstance(piece, Span) and piece.length <= room:
            room -= piece.length
            piece = await _read(reader, piece)
        ready.append(piece)
    pending = [response.head()]
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
