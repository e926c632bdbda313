"""Posts that wait for the owners of their list (`hold_others`): the agent behind them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import attrs
from zope.interface import implementer

from mailhub.delivery.list_decisions import decision_word
from mailhub.delivery.list_mail import ListMail, header_of
from mailhub.delivery.list_names import LIST
from mailhub.delivery.list_paths import ListKey
from mailhub.delivery.lists import refusal_of
from mailhub.errors import MailError
from mailhub.interfaces import Delivery, IDeliveryAgent, ILocalNames, IQueue, QueuedRecipient, RowChange, Which
from mailhub.message.address import Address
from mailhub.message.encoded_word import decode_words
from mailhub.message.envelope import Outcome, outcome_of
from mailhub.message.header import Header
from mailhub.message.lists import REQUEST, role

_VERBS = ("approve", "discard")


@implementer(IDeliveryAgent)
@attrs.define(eq=False)
class HoldAgent:
    """Has a post wait in the queue, as a row for the list that is held, and tells the owners of it."""

    _names: ILocalNames
    _queue: IQueue
    _mail: ListMail
    _key: ListKey

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. Repeating it tells nobody again."""
        return {row.id: await self._held(delivery, row) for row in delivery.recipients}

    async def stop(self) -> None:
        """Nothing is kept."""

    async def _held(self, delivery: Delivery, row: QueuedRecipient) -> Outcome:
        try:
            await self._names.refresh()
            settings = self._names.lists.get(delivery.target)
            if settings is None:
                return Outcome.failed("No such list here", status="5.1.1")
            header, name = await header_of(delivery), Address.parse(delivery.target)
            if refusal := refusal_of(header, delivery.body.size, settings, name):
                return refusal
            text = _of_held(delivery, header, name)
            if not settings.group:  # whose requests are read by nobody but its owners
                text += _by_mail(name, await decision_word(self._key, delivery.id, name))
            once = f"{delivery.id} {row.id} held"
            found = await self._queue.messages(which=Which(ids=(delivery.id,)))
            moment = found[0].queued_at if found else 0
            subject = f"A post to {name} waits"
            await self._mail.tell_owners(name, settings, subject, text, once, moment, row.attempts)
            rows = [
                attrs.evolve(each, recipients=tuple([other for other in each.recipients if other.id == row.id]))
                for each in found
            ]
            await self._queue.change({RowChange(way=(LIST, delivery.target), held=True): rows})
        except MailError as error:
            return outcome_of(error)
        return Outcome.delayed(f"Waits for an owner of {name}", status="4.7.2")


def _of_held(delivery: Delivery, header: bytes, name: Address) -> str:
    fields = Header(header)
    said = [
        f"{field.decode()}: {_one_line(decode_words(value))}\n"
        for field in (b"from", b"subject", b"date")
        if (value := fields.first(field)) is not None
    ]
    return (
        f"A post to {name} waits for you, for its sender may not post:\n\n"
        f"sender: <{delivery.mail.reverse_path or ''}>\n{''.join(said)}octets: {delivery.body.size}\n\n"
        f"mailhub list approve {delivery.id} --list {name}\nmailhub list discard {delivery.id} --list {name}\n\n"
        "says whether it goes to the members.\n"
    )


def _by_mail(name: Address, word: str) -> str:
    to = role(name, REQUEST)
    return (
        f"\nSo does a mail to {to} with one of these lines as its subject. The first that comes counts, and whoever\n"
        f"has the word can send it:\n\napprove {word}\ndiscard {word}\n\n"
        + "".join(f"<mailto:{quote(to.local, safe='')}@{to.ascii_domain}?subject={verb}%20{word}>\n" for verb in _VERBS)
    )


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:500]
