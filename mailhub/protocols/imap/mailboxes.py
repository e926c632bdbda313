"""Commands about mailboxes as a whole, in the authenticated state (RFC 3501 6.3)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mailhub.errors import NotPermitted
from mailhub.interfaces import IMailbox, rights_of
from mailhub.message.record import MailboxStatus
from mailhub.protocols.imap.context import Context, Handlers
from mailhub.protocols.imap.listing import Hierarchy, list_responses, lsub_responses
from mailhub.wire.imap import commands, responses
from mailhub.wire.imap.commands import StatusItem

NAMES = 20  # names of mailboxes looked at between two turns of the reactor


async def select(context: Context, command: commands.Select) -> None:
    """SELECT and EXAMINE."""
    selected = await context.select(command.mailbox, read_only=command.read_only)
    context.machine.untagged(selected.opening())
    context.machine.ok(command.tag, code=responses.READ_ONLY if selected.read_only else responses.READ_WRITE)


async def create(context: Context, command: commands.Create) -> None:
    """CREATE, with one special use at most."""
    if len(command.special_use) > 1:
        context.machine.no(command.tag, "A mailbox has one special use at most", responses.USEATTR)
        return
    await context.account.create(command.mailbox, "".join(command.special_use))
    await context.done(command.tag)


async def delete(context: Context, command: commands.Delete) -> None:
    """DELETE. A session that deletes the mailbox it has selected goes on without one."""
    await context.account.delete(command.mailbox)
    if context.selected is not None and context.selected.gone:
        context.unselect()
        context.machine.unselected()
    await context.done(command.tag)


async def rename(context: Context, command: commands.Rename) -> None:
    """RENAME."""
    await context.account.rename(command.mailbox, command.new_name)
    await context.done(command.tag)


async def subscribe(context: Context, command: commands.Subscribe) -> None:
    """SUBSCRIBE: also to what does not exist (yet), as RFC 3501 6.3.6 allows."""
    await context.account.subscribe(command.mailbox, True)
    await context.done(command.tag)


async def unsubscribe(context: Context, command: commands.Unsubscribe) -> None:
    """UNSUBSCRIBE."""
    await context.account.subscribe(command.mailbox, False)
    await context.done(command.tag)


async def list_(context: Context, command: commands.List) -> None:
    """LIST."""
    account = context.account
    hierarchy = Hierarchy.of(await account.mailboxes(), await account.subscriptions())
    await _send_names(context, list_responses(command, hierarchy))
    await context.done(command.tag)


async def lsub(context: Context, command: commands.Lsub) -> None:
    """LSUB."""
    await _send_names(context, lsub_responses(command, await context.account.subscriptions()))
    await context.done(command.tag)


async def _send_names(context: Context, lines: Iterator[bytes]) -> None:
    """A line a name. Thousands of long names against long patterns take seconds, which others must not wait for."""
    while portion := list(islice(lines, NAMES)):
        await context.link.send(b"".join(portion))
        if len(portion) == NAMES:
            await context.breathe()


async def status(context: Context, command: commands.Status) -> None:
    """STATUS, of the selected mailbox as well."""
    mailbox = await context.account.mailbox(command.mailbox)
    if "r" not in rights_of(mailbox):
        raise NotPermitted
    counters = await mailbox.status()
    values: dict[StatusItem, int] = {
        "MESSAGES": counters.messages,
        "UIDNEXT": counters.uid_next,
        "UIDVALIDITY": counters.uid_validity,
        "UNSEEN": counters.unseen,
    }
    if "RECENT" in command.items:
        values["RECENT"] = await _recent(context, mailbox, counters)
    context.machine.untagged(responses.status(command.mailbox, [(item, values[item]) for item in command.items]))
    await context.done(command.tag)


async def _recent(context: Context, mailbox: IMailbox, counters: MailboxStatus) -> int:
    """How many messages would be \\Recent in a session that selected the mailbox now."""
    mark = context.parts.marks.mark(context.mark_of(mailbox))
    if mark is None:
        return counters.unseen
    if mark >= counters.uid_next:
        return 0
    return len(await mailbox.entries(range(mark, counters.uid_next)))


async def namespace(context: Context, command: commands.Namespace) -> None:
    """NAMESPACE (RFC 2342): one personal namespace without a prefix."""
    context.machine.untagged(responses.namespace([""]))
    await context.done(command.tag)


HANDLERS: Handlers = {
    commands.Select: select,
    commands.Create: create,
    commands.Delete: delete,
    commands.Rename: rename,
    commands.Subscribe: subscribe,
    commands.Unsubscribe: unsubscribe,
    commands.List: list_,
    commands.Lsub: lsub,
    commands.Status: status,
    commands.Namespace: namespace,
}
