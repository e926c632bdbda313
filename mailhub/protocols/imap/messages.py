"""Commands about messages of the selected mailbox: STORE, COPY, MOVE, EXPUNGE and their like (RFC 3501 6.4).

A message that another session expunged keeps its number until the client is told, and until then looks as if it were
there: it can be fetched, searched, and flagged for this session alone (RFC 2180 4). COPY and MOVE of one are answered
NO [EXPUNGEISSUED] once (RFC 5530 3), since EXPUNGE may come before that answer.
"""

from __future__ import annotations

from mailhub.errors import MailError
from mailhub.message.record import CopyResult, FlagChange, FlagMode
from mailhub.protocols.imap.context import Context, Handlers, positions_or_bad
from mailhub.protocols.imap.errors import code_for
from mailhub.protocols.imap.selected import GONE, Selected
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.commands import FetchAttribute, StoreMode
from mailhub.wire.imap.fetch_response import FetchPlan
from mailhub.wire.imap.view import Slices, View, batches

ASSUMED = 20_000  # messages of a silent STORE that are looked at in one turn of the reactor
STORE_LINES = 1000  # untagged responses to STORE that are written at a time

_MODES: dict[StoreMode, FlagMode] = {
    StoreMode.ADD: "add",
    StoreMode.REMOVE: "remove",
    StoreMode.REPLACE: "replace",
}


async def noop(context: Context, command: commands.Noop) -> None:
    """NOOP."""
    await context.refresh()
    await context.done(command.tag)


async def check(context: Context, command: commands.Check) -> None:
    """CHECK: everything is on disk already."""
    await context.refresh()
    await context.done(command.tag)


async def close(context: Context, command: commands.Close) -> None:
    """CLOSE: expunges without a word, unless read-only."""
    selected = context.selected
    if selected is not None and not selected.read_only:
        await selected.mailbox.expunge()
    context.unselect()
    context.machine.ok(command.tag)


async def unselect(context: Context, command: commands.Unselect) -> None:
    """UNSELECT (RFC 3691)."""
    context.unselect()
    context.machine.ok(command.tag)


async def expunge(context: Context, command: commands.Expunge) -> None:
    """EXPUNGE and UID EXPUNGE."""
    selected = context.mailbox
    if _refused(context, selected, command.tag):
        return
    if command.uids is None:
        await selected.mailbox.expunge()
    else:
        uids = selected.view.present(selected.view.find(command.uids, by_uid=True))
        if uids:
            await selected.mailbox.expunge(uids)
    await context.done(command.tag)


async def store(context: Context, command: commands.Store) -> None:
    """STORE and UID STORE."""
    selected = context.mailbox
    view = selected.view
    slices = positions_or_bad(context, command)
    if slices is None or _refused(context, selected, command.tag):
        return
    uids = view.present(slices)
    change = FlagChange(_MODES[command.mode], command.flags)
    if uids:
        await selected.mailbox.change_flags(uids, change)
    view.change_gone(slices, change)
    if command.silent:
        await _assume(context, view, uids, change)
    else:
        await _tell_flags(context, selected, slices, with_uid=command.uid)
    await context.tell(expunge=command.uid)
    context.machine.ok(command.tag)


async def _assume(context: Context, view: View, uids: list[int], change: FlagChange) -> None:
    view.assume(uids[:ASSUMED], change)
    for start in range(ASSUMED, len(uids), ASSUMED):
        await context.breathe()
        view.assume(uids[start : start + ASSUMED], change)


async def _tell_flags(context: Context, selected: Selected, slices: Slices, *, with_uid: bool) -> None:
    attributes = [FetchAttribute.UID, FetchAttribute.FLAGS] if with_uid else [FetchAttribute.FLAGS]
    plan = FetchPlan(attributes)
    context.machine.untagged(selected.new_keywords())
    for positions in batches(slices, STORE_LINES):
        rows = selected.view.rows(positions)
        selected.view.told(row[1].uid for row in rows)
        await context.link.send(plan.lines(rows, {}))


async def copy(context: Context, command: commands.Copy) -> None:
    """COPY and UID COPY."""
    uids = await _chosen(context, command)
    if uids is None:
        return
    result = await _transfer(context, command, uids)
    if result is not None:
        await context.done(command.tag, code=_copyuid(result), expunge=command.uid)


async def move(context: Context, command: commands.Move) -> None:
    """MOVE and UID MOVE (RFC 6851): COPYUID comes before the EXPUNGEs."""
    if _refused(context, context.mailbox, command.tag):
        return
    uids = await _chosen(context, command)
    if uids is None:
        return
    result = await _transfer(context, command, uids)
    if result is not None:
        if result.source:
            context.machine.untagged(responses.ok("Moved", _copyuid(result)))
        await context.done(command.tag)


async def _chosen(context: Context, command: commands.Copy | commands.Move) -> list[int] | None:
    """The UIDs a command means, None when it has been answered: all or nothing (RFC 3501 6.4.7). A client that named a
    message by a number that is no more hears so before the answer, and need not be refused again."""
    slices = positions_or_bad(context, command)
    if slices is None:
        return None
    uids = context.mailbox.view.present(slices)
    if len(uids) < _count(slices) and not command.uid:
        await context.tell(expunge=True)
        context.machine.no(command.tag, GONE, responses.EXPUNGEISSUED)
        return None
    return uids


async def _transfer(context: Context, command: commands.Copy | commands.Move, uids: list[int]) -> CopyResult | None:
    """What came of it, None when it was answered NO."""
    source = context.mailbox.mailbox
    try:
        target = await context.account.mailbox(command.mailbox)
    except MailError as error:
        context.machine.no(command.tag, error.text, code_for(error, target=command.mailbox))
        return None
    if not uids:
        return CopyResult(target.uid_validity, (), ())
    transfer = source.move if isinstance(command, commands.Move) else source.copy
    return await transfer(uids, target)


def _copyuid(result: CopyResult) -> bytes:
    if not result.source:
        return b""
    return responses.copyuid_code(result.uid_validity, result.source, result.target)


def _refused(context: Context, selected: Selected, tag: str) -> bool:
    """Whether the mailbox is read-only; then that was said."""
    if selected.read_only:
        context.machine.no(tag, "The mailbox is selected read-only", responses.READ_ONLY)
    return selected.read_only


def _count(slices: Slices) -> int:
    return sum(stop - start for start, stop in slices)


HANDLERS: Handlers = {
    commands.Noop: noop,
    commands.Check: check,
    commands.Close: close,
    commands.Unselect: unselect,
    commands.Expunge: expunge,
    commands.Store: store,
    commands.Copy: copy,
    commands.Move: move,
}
