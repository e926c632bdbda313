"""What screens edit in the header of a message that comes in, from the first verdict to the header that is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import attrs
from zope.interface import implementer

from mailhub.delivery.screens import EditRefused
from mailhub.interfaces import (
    AddField,
    AddRecipient,
    ChangeReversePath,
    Edit,
    IBlobReader,
    IMessageView,
    InsertField,
    ITransactionView,
    NoteResult,
    Origin,
    RemoveField,
    RemoveRecipient,
    ReplaceBody,
    ReplaceField,
)
from mailhub.message.address import Address, is_address
from mailhub.message.authentication_results import results_field
from mailhub.message.edits import EDITS_LIMIT, HeaderEdit, check
from mailhub.message.envelope import Mail, Recipient
from mailhub.message.esmtp import notifying, recipient_parameters, with_recipient_parameters
from mailhub.message.header_editing import apply

# Octets that edits may add to a header.
ADDED_LIMIT = 131072

_RESULTS = "Authentication-Results"
_RESULT_LIMIT = 800  # characters of one result
_RESULTS_LIMIT = 16384  # of all


@attrs.define
class Editing:
    """The edits of one message, in order. Those that are given before it is there wait for it.

    `header` are the fields as they are to be, without the empty line; None while there is no message. Where it is not
    `whole`, because it was too large to be held, only fields on top of it can be given.
    """

    waiting: list[HeaderEdit] = attrs.field(factory=list)
    results: list[str] = attrs.field(factory=list)
    header: bytes | None = None
    whole: bool = True
    quarantined: bool = False
    _limit: int = 0  # octets

    def __add__(self, later: Editing) -> Editing:
        """Both, for another message."""
        return Editing(
            self.waiting + later.waiting,
            self.results + later.results,
            quarantined=self.quarantined or later.quarantined,
        )

    @property
    def any(self) -> bool:
        """Whether a header will have to be edited."""
        return bool(self.waiting or self.results)

    def take(self, edits: Sequence[Edit]) -> None:
        """Those among them that are about the header. Raises EditRefused: then none of them counts."""
        fields, results = _checked(edits)
        if len(self.waiting) + len(self.results) + len(edits) > EDITS_LIMIT:
            raise EditRefused(f"a message cannot have more than {EDITS_LIMIT} edits")
        if sum(map(len, (*self.results, *results))) > _RESULTS_LIMIT:
            raise EditRefused(f"results may not have more than {_RESULTS_LIMIT} characters together")
        if self.header is not None:
            self.header = self._edited(self.header, fields)
        else:
            self.waiting += fields
        self.results += results

    def begin(self, header: bytes, *, whole: bool) -> list[str]:
        """The message has come, with this header. Gives why edits that waited for it cannot be carried out."""
        self.header, self.whole, self._limit = header, whole, len(header) + ADDED_LIMIT
        with contextlib.suppress(EditRefused):
            self.header = self._edited(header, self.waiting)
            return []
        faults = []
        for edit in self.waiting:
            try:
                self.header = self._edited(self.header, [edit])
            except EditRefused as error:
                faults.append(str(error))
        return faults

    def field(self, hostname: str) -> bytes:
        """The field that says what checks have found, as RFC 8601 has it; nothing where there were none."""
        return results_field(self.results, hostname)

    def _edited(self, header: bytes, fields: Sequence[HeaderEdit]) -> bytes:
        if not self.whole and any(not isinstance(edit, AddField) for edit in fields):
            raise EditRefused("the header is too large to be edited")
        edited = apply(header, fields) if fields else header
        if len(edited) > max(len(header), self._limit):
            raise EditRefused(f"edits may not add more than {ADDED_LIMIT} octets")
        return edited


@implementer(ITransactionView)
@attrs.frozen
class TransactionView:
    """What plugins are given of a transaction: they may look, and nothing else."""

    _transaction: ITransactionView

    @property
    def origin(self) -> Origin:
        """See `ITransactionView`."""
        return self._transaction.origin

    @property
    def mail(self) -> Mail:
        """See `ITransactionView`."""
        return self._transaction.mail

    @property
    def recipients(self) -> Sequence[Recipient]:
        """See `ITransactionView`."""
        return self._transaction.recipients


@implementer(IBlobReader)
@attrs.define(eq=False)
class Content:
    """What stands behind the header of a message that is looked at, as the screens up to now have made it."""

    _reader: IBlobReader

    @property
    def size(self) -> int:
        """See `IBlobReader`."""
        return self._reader.size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IBlobReader`."""
        return await self._reader.read(offset, length)

    def close(self) -> None:
        """See `IBlobReader`."""
        self._reader.close()

    def replace(self, reader: IBlobReader) -> None:
        """Another body."""
        self._reader.close()
        self._reader = reader


@implementer(IMessageView)
@attrs.frozen
class MessageView(TransactionView):
    """See `IMessageView`."""

    _editing: Editing
    _reader: IBlobReader
    hops: int

    @property
    def header(self) -> bytes:
        """See `IMessageView`."""
        return self._editing.header or b""

    @property
    def size(self) -> int:
        """See `IMessageView`."""
        return self._reader.size

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        """See `IMessageView`."""
        if offset < 0:
            raise ValueError(f"offset {offset} is before the message's first octet")
        return await self._reader.read(offset, length)


def check_envelope(edits: Sequence[Edit]) -> None:
    """Raises EditRefused for what is no edit, and for one of the envelope that names no address."""
    for edit in edits:
        match edit:
            case AddField() | InsertField() | ReplaceField() | RemoveField() | NoteResult():
                sound = True
            case ReplaceBody(body):
                sound = isinstance(body, bytes) or callable(getattr(body, "read", None))
            case ChangeReversePath(address, parameters):
                sound = (address is None or is_address(address)) and _is_notifying(parameters)
            case AddRecipient(recipient):
                sound = _is_recipient(recipient)
            case RemoveRecipient(address):
                sound = isinstance(address, Address)
            case _:
                sound = False
        if not sound:
            raise EditRefused(f"{edit!r:.100} is no edit")


def _is_notifying(parameters: object) -> bool:
    try:
        return isinstance(parameters, str) and notifying(parameters) is not None
    except ValueError:
        return False


def _is_recipient(recipient: object) -> bool:
    try:
        return (
            isinstance(recipient, Recipient)
            and is_address(recipient.address)
            and with_recipient_parameters(Recipient(recipient.address), recipient_parameters(recipient)) == recipient
        )
    except (ValueError, TypeError, AttributeError):
        return False


def _checked(edits: Sequence[Edit]) -> tuple[list[HeaderEdit], list[str]]:
    fields: list[HeaderEdit] = []
    results: list[str] = []
    for edit in edits:
        try:
            if isinstance(edit, AddField | InsertField | ReplaceField | RemoveField):
                check(edit)
                fields.append(edit)
            elif isinstance(edit, NoteResult):
                if not isinstance(edit.result, str) or "\n" in edit.result:
                    raise ValueError("a result is one line of text")
                if len(edit.result) > _RESULT_LIMIT:
                    raise ValueError(f"a result is longer than {_RESULT_LIMIT} characters")
                check(AddField(_RESULTS, edit.result))
                results.append(edit.result)
        except ValueError as error:
            raise EditRefused(str(error)) from None
    return fields, results
