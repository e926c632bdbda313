"""APPEND (RFC 3501 6.3.11): the message goes to the store as it arrives."""

from __future__ import annotations

from mailhub.delivery.recently_sent import message_id_of
from mailhub.errors import MailError, NotPermitted, OverQuota
from mailhub.interfaces import IBlobReader, IBody, IMailbox, body_for, quota_for, rights_of
from mailhub.message.header import fields_end
from mailhub.message.record import storable
from mailhub.protocols.imap.context import Arriving, Context, Handlers
from mailhub.protocols.imap.errors import code_for
from mailhub.wire.imap import commands, responses

_LOOKED_AT = 20  # messages at the end of a mailbox
_HEADER = 1 << 16  # octets


async def begin(context: Context, command: commands.Append) -> None:
    """Refuse what cannot be kept before the client sends it."""
    account = context.account
    try:
        mailbox = await account.mailbox(command.mailbox)
        if "i" not in rights_of(mailbox):
            raise NotPermitted
        quota = await quota_for(account, mailbox)
        if quota.limit and quota.used + command.size > quota.limit:
            raise OverQuota
        writer = body_for(account, mailbox, command.size)
    except MailError as error:
        context.machine.no(command.tag, error.text, code_for(error, target=command.mailbox))
        return
    context.arriving = Arriving(command, mailbox, writer)
    context.machine.accept_append()


async def chunk(context: Context, event: commands.BodyChunk) -> None:
    """More of the message."""
    arriving = context.arriving
    if arriving is None:
        return
    try:
        await arriving.writer.write(event.octets)
    except MailError as error:
        drop(context)
        context.machine.no(arriving.command.tag, error.text, code_for(error))


async def end(context: Context, event: commands.AppendEnd) -> None:
    """The message is complete."""
    arriving, context.arriving = context.arriving, None
    assert arriving is not None, "the machine gives no end without a beginning"
    command = arriving.command
    try:
        body = await arriving.writer.finish()
    except BaseException:
        arriving.writer.abort()
        raise
    try:
        date = int(command.internal_date.timestamp()) if command.internal_date is not None else context.parts.now()
        # Flags that cannot be kept keep no message out (RFC 4314 4).
        flags = storable(command.flags, rights_of(arriving.mailbox))
        uid = await _put_there_already(context, arriving.mailbox, body)
        if not uid:
            uid = await arriving.mailbox.append(body, flags, date)
    except MailError as error:
        context.machine.no(event.tag, error.text, code_for(error, target=command.mailbox))
        return
    finally:
        body.discard()
    await context.done(event.tag, code=responses.appenduid_code(arriving.mailbox.uid_validity, uid))


async def _put_there_already(context: Context, mailbox: IMailbox, body: IBody) -> int:
    """The UID of the copy that submission has put into Sent a while ago, of a message that the client puts there now; 0
    for every other message."""
    recent, user, clock = context.parts.sent, context.account.user, context.parts.clock
    if not recent.any(user, mailbox.name):
        return 0
    name = message_id_of(await _header(body.open()))
    if not name or not recent.take(user, mailbox.name, name, clock.seconds()):
        return 0
    entries = await mailbox.entries()
    for entry in reversed(entries[-_LOOKED_AT:]):
        if message_id_of(await _header(await mailbox.open(entry.uid))) == name:
            return entry.uid
    return 0  # it is gone


async def _header(reader: IBlobReader) -> bytes:
    try:
        octets = await reader.read(0, _HEADER)
    finally:
        reader.close()
    return octets[: fields_end(octets, 0, len(octets))]


async def aborted(context: Context, event: commands.AppendAborted) -> None:
    """The machine refused the rest."""
    drop(context)


def drop(context: Context) -> None:
    """Forget a message that will not be complete."""
    arriving, context.arriving = context.arriving, None
    if arriving is not None:
        arriving.writer.abort()


HANDLERS: Handlers = {
    commands.Append: begin,
    commands.BodyChunk: chunk,
    commands.AppendEnd: end,
    commands.AppendAborted: aborted,
}
