"""Commands about messages of the selected mailbox: STORE, COPY, MOVE, EXPUNGE and their like (RFC 3501 6.4).

A message that another session expunged keeps its number until the client is told, and until then looks as if it were
there: it can be fetched, searched, and flagged for this session alone (RFC 2180 4). COPY and MOVE of one are answered
NO [EXPUNGEISSUED] once (RFC 5530 3), since EXPUNGE may come before that answer.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import attrs

from mailhub.errors import MailError, NotPermitted
from mailhub.interfaces import rights_of
from mailhub.message.flags import SYSTEM_FLAGS, Flags
from mailhub.message.record import CopyResult, FlagChange, FlagMode, Rights, storable
from mailhub.protocols.imap.context import Context, Handlers, positions_or_bad
from mailhub.protocols.imap.errors import code_for
from mailhub.protocols.imap.selected import GONE, Selected
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.commands import FetchAttribute, StoreMode
from mailhub.wire.imap.fetch_response import FetchPlan
from mailhub.wire.imap.view import Slices, View, batches

ASSUMED = 20_000  # messages of a silent STORE that are looked at in one turn of the reactor
STORE_LINES = 1000  # untagged responses to STORE that are written at a time

_ANY_KEYWORD = "$Any"  # stands for all flags but those of the system

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
    """CLOSE: expunges without a word, where that is permitted."""
    selected = context.selected
    if selected is not None and "e" in selected.rights:
        with suppress(NotPermitted):
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
    if _refused(context, selected, command.tag, "e"):
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
    if slices is None or _refused(context, selected, command.tag, "swt"):
        return
    uids = view.present(slices)
    change = FlagChange(_MODES[command.mode], command.flags)
    left = _left_out(change, selected.rights)
    if left and change.mode != "replace" and left == change.flags:
        raise NotPermitted
    if uids and left:
        await _change_some(selected, uids, change)
    elif uids:
        await selected.mailbox.change_flags(uids, change)
    if not left:
        view.change_gone(slices, change)
    if command.silent and not left:
        await _assume(context, view, uids, change)
    else:
        await _tell_flags(context, selected, slices, with_uid=command.uid)
    await context.tell(expunge=command.uid)
    context.machine.ok(command.tag)


def _left_out(change: FlagChange, rights: Rights) -> Flags:
    """What a change means to set or take off without the right to: the rest of it is done, as clients take NO for
    trouble (RFC 4314 4). To replace flags takes all others off."""
    named = SYSTEM_FLAGS | {_ANY_KEYWORD} if change.mode == "replace" else change.flags
    return named - storable(named, rights)


async def _change_some(selected: Selected, uids: list[int], change: FlagChange) -> None:
    """As much of a change as the rights allow: flags that must stay stay."""
    rights = selected.rights
    if change.mode != "replace":
        await selected.mailbox.change_flags(uids, attrs.evolve(change, flags=storable(change.flags, rights)))
        return
    wanted = storable(change.flags, rights)
    if "w" in rights:
        kept: dict[Flags, list[int]] = {}
        for entry in await selected.mailbox.entries(uids):
            kept.setdefault(entry.flags - storable(entry.flags, rights), []).append(entry.uid)
        for flags, some in kept.items():
            await selected.mailbox.change_flags(some, FlagChange("replace", wanted | flags))
        return
    for mode, flags in (("add", wanted), ("remove", storable(SYSTEM_FLAGS, rights) - wanted)):
        if flags:
            await selected.mailbox.change_flags(uids, FlagChange(cast("FlagMode", mode), flags))


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
    if _refused(context, context.mailbox, command.tag, "e"):
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
        if "i" not in rights_of(target):
            raise NotPermitted
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


def _refused(context: Context, selected: Selected, tag: str, rights: str) -> bool:
    """Whether the client has none of these rights; then that was said."""
    if selected.examined:
        context.machine.no(tag, "The mailbox is selected read-only", responses.READ_ONLY)
        return True
    if selected.rights.isdisjoint(rights):
        raise NotPermitted
    return False


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
