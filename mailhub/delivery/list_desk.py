"""What lists are asked for by mail, and what waits for their owners: the agents behind `team-request@`, and behind
posts of others where a list holds them.

Who wants to join or leave is sent a word that nobody else knows, and has to send it back. Nothing that a program has
sent is answered (RFC 3834 2), and every answer has the null reverse-path and says that a program sent it: no two of
them can talk to one another. What is no request that can be met goes on to the owners.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import b32hexencode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType

import attrs
from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from mailhub.delivery.intake import Intake
from mailhub.delivery.lists import LIST, PATIENCE, refusal_of
from mailhub.delivery.plan import Accepted
from mailhub.delivery.replies import is_automatic
from mailhub.errors import MailError, TemporaryError
from mailhub.interfaces import (
    Committed,
    Delivery,
    Environment,
    IBlobReader,
    IDeliveryAgent,
    ILocalNames,
    INames,
    IQueue,
    IRouter,
    IState,
    OwnTransaction,
    QueuedRecipient,
    Route,
    RowChange,
    Which,
)
from mailhub.log import Logger
from mailhub.message.address import POSTMASTER, Address, without_detail
from mailhub.message.authors import authors
from mailhub.message.dates import format_date
from mailhub.message.encoded_word import decode_words
from mailhub.message.envelope import BodyType, Mail, Outcome, Recipient, outcome_of
from mailhub.message.header import Header, fields_end
from mailhub.message.lists import (
    MEMBERS_LIMIT,
    REQUEST,
    ROLES,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MailingList,
    owners_of,
    role,
)
from mailhub.message.needs import HEADER_LIMIT
from mailhub.message.submission import mend_header
from mailhub.message.trace import count_received, delivered_to, return_path
from mailhub.net.body import copy

_log = Logger(namespace="mailhub.delivery.lists")

DAY = 86_400
CONFIRM_SECONDS = 3 * DAY
# Answers to one address, and in the name of one list, in a day.
ANSWERS_TO_ONE, ANSWERS_OF_LIST = 3, 1000
PASSED_ON = 100  # requests beyond those that go on to the owners of one list in a day; others wait for the next
_WORD = 24  # characters, of 5 bits each
_KEY = "key"  # of the words
_CONFIRM = re.compile(rf"\bconfirm\s+([0-9a-v]{{{_WORD}}})\b", re.IGNORECASE)
_COMMAND = re.compile(r"\s*(subscribe|join|unsubscribe|leave|help)\s*", re.IGNORECASE)
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")
_COMMANDS = {"join": "subscribe", "leave": "unsubscribe"}
_BULK = frozenset({b"bulk", b"junk", b"list"})
_DONE = {"subscribe": "You are a member of {0} now.", "unsubscribe": "You are no member of {0} any more."}

Commit = Callable[[Mail, Sequence[Accepted], Intake, str], Awaitable[Committed]]


@attrs.frozen
class _Request:
    """What somebody wants of a list. What is done for it is done `once`; `moment` is when it came, in
    seconds since the epoch."""

    name: Address
    settings: MailingList
    who: Address
    once: str
    moment: int
    _header: bytes = attrs.field(repr=False)

    @property
    def message_id(self) -> str:
        """That of the request (RFC 3834 3.1.5), "" where it has none that could be repeated."""
        found = Header(self._header).first(b"message-id") or b""
        return found.decode() if _MESSAGE_ID.fullmatch(found) else ""


@attrs.frozen(eq=False)
class ListMail:
    """Mail of a list's own, which `commit` commits once (see `Pipeline.send_on`)."""

    _hostname: str
    _queue: IQueue
    _routing: IRouter
    _commit: Commit

    async def answer(self, request: _Request, subject: str, text: str) -> None:
        """To who asks. Raises MailError."""
        more = "".join([f"{name}: {request.message_id}\r\n" for name in ("In-Reply-To", "References")])
        more = f"Auto-Submitted: auto-replied\r\n{more if request.message_id else ''}"
        to = [request.who]
        mail, octets = self._written(request.name, to, subject, text, request.once, request.moment, more)
        await self._send(
            mail, [Accepted(Recipient(request.who), await self._ways(request.who, mail))], octets, request.once
        )

    async def tell_owners(
        self, name: Address, settings: MailingList, subject: str, text: str, once: str, moment: int, attempts: int
    ) -> None:
        """In the name of the list `name`. Repeated with the same `once`, it has to say the same, also of `moment`
        (seconds since the epoch), which its date is. Nothing depends on whether anybody can be reached. Raises
        MailError for what may be better later, in the first attempts."""
        for to, its_once in _answering(name, settings, once):
            mail, octets = self._written(name, to, subject, text, its_once, moment)
            if await self._refusal(name, to, attempts, mail, octets, its_once) is None:
                return

    async def pass_on(self, delivery: Delivery, row: QueuedRecipient, header: bytes, settings: MailingList) -> None:
        """A message as it is to the owners of the list that it was sent to, or the postmaster where none of them can be
        reached. Raises MailError where nobody can, and for what may be better later, in the first attempts."""
        name = Address.parse(delivery.target)
        refusals = []
        for to, once in _answering(name, settings, f"{delivery.id} {row.id} owners"):
            more = delivery.body, delivery.needs, row.route.recipient.key
            refusal = await self._refusal(name, to, row.attempts, delivery.mail, header, once, *more)
            if refusal is None:
                return
            refusals.append(refusal)
        raise refusals[0]

    def _written(
        self,
        name: Address,
        to: Sequence[Address],
        subject: str,
        text: str,
        once: str,
        moment: int,
        more: str = "Auto-Submitted: auto-generated\r\n",
    ) -> tuple[Mail, bytes]:
        """From nobody to whom a report could come."""
        sender = role(name, REQUEST)
        header = "".join(
            [
                f"From: {sender}\r\nTo: {', '.join(map(str, to))}\r\nSubject: {subject}\r\n{more}",
                "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n",
            ]
        ).encode()
        date = format_date(moment)
        message_id = f"<{sha256(once.encode()).hexdigest()[:32]}@{self._hostname}>"
        octets = mend_header(header, date, message_id) + b"\r\n" + text.replace("\n", "\r\n").encode()
        body_type: BodyType = "7BIT" if octets.isascii() else "8BITMIME"
        return Mail(None, body_type, smtputf8=not all(each.is_ascii for each in (sender, *to))), octets

    async def _refusal(
        self,
        name: Address,
        to: Sequence[Address],
        attempts: int,
        mail: Mail,
        octets: bytes,
        once: str,
        rest: IBlobReader | None = None,
        needs: int | None = None,
        via: str = "",
    ) -> MailError | None:
        """Why it came to nobody. Who is not reached is in the log, and keeps it from none of the others."""
        refusal: MailError | None = None

        def give_up(who: Sequence[Address], error: MailError) -> None:
            nonlocal refusal
            if error.temporary and attempts < PATIENCE:
                raise error
            refusal = refusal or error
            for each in who:
                _log.event("owner not told", {"list": name, "owner": each, "reason": error.text})

        accepted = []
        for each in to:
            try:
                ways = await self._ways(each, mail)
            except MailError as error:
                give_up([each], error)
                continue
            if via:
                ways = tuple([attrs.evolve(way, via=(via, *way.via)) for way in ways])
            accepted.append(Accepted(Recipient(each), ways))
        if not accepted:
            return refusal
        try:
            await self._send(mail, accepted, octets, once, rest, needs)
        except MailError as error:
            give_up([each.address for each in accepted], error)
            return error
        return None

    async def _ways(self, address: Address, mail: Mail) -> tuple[Route, ...]:
        return tuple(await self._routing.route(address, OwnTransaction(mail=mail)) or ())

    async def _send(
        self,
        mail: Mail,
        accepted: Sequence[Accepted],
        octets: bytes,
        once: str,
        rest: IBlobReader | None = None,
        needs: int | None = None,
    ) -> None:
        """`octets`, and what `rest` has behind as many."""
        top = return_path(mail.reverse_path)
        writer = self._queue.new_body(len(top) + max(len(octets), rest.size if rest is not None else 0))
        try:
            await writer.write(top + octets)
            if rest is not None:
                await copy(rest, writer.write, len(octets))
            body = await writer.finish()
        finally:
            writer.abort()
        intake = Intake(body, len(top), count_received(octets), delivered_to(octets), needs, len(top))
        try:
            await self._commit(mail, accepted, intake, once)
        finally:
            body.discard()


def _answering(name: Address, settings: MailingList, once: str) -> Sequence[tuple[Sequence[Address], str]]:
    """Who answers for a list, and who does where none of them can be reached, each with what it is told once by."""
    return (owners_of(settings, name), once), ([Address(POSTMASTER, name.domain)], f"{once} postmaster")


class _TooMany(TemporaryError):
    """More requests have come in a day than are answered."""


@implementer(IDeliveryAgent)
@attrs.define(eq=False)
class RequestAgent:
    """Reads what the fields of lists lead to (RFC 2369 3): `subscribe`, `unsubscribe`, `help` and `confirm WORD` in the
    subject, or by the address."""

    _names: ILocalNames
    _table: INames
    _state: IState
    _environment: Environment
    _queue: IQueue
    _mail: ListMail
    _counting: DeferredLock = attrs.field(factory=DeferredLock, init=False)

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        """See `IDeliveryAgent`. Repeating it adds nothing."""
        return {row.id: await self._answered(delivery, row) for row in delivery.recipients}

    async def stop(self) -> None:
        """Nothing is kept."""

    async def _answered(self, delivery: Delivery, row: QueuedRecipient) -> Outcome:
        try:
            await self._names.refresh()
            settings = self._names.lists.get(delivery.target)
            if settings is None:
                return Outcome.failed("No such list here", status="5.1.1")
            header = await header_of(delivery)
            name = Address.parse(delivery.target)
            who = _author(delivery, header)
            if who is not None and who.key in {each.key for each in (name, *(role(name, end) for end in ROLES))}:
                return Outcome.delivered("A list is no member")
            met = False
            if who is not None:
                found = await self._queue.messages(which=Which(ids=(delivery.id,)))
                moment = found[0].queued_at if found else self._environment.now()
                request = _Request(name, settings, who, f"{delivery.id} {row.id} answer", moment, header)
                met = await self._met(request, _command(row.route.recipient, header))
            if not met:
                await self._mail.pass_on(delivery, row, header, settings)
        except MailError as error:
            return outcome_of(error)
        return Outcome.delivered()

    async def _met(self, request: _Request, command: str) -> bool:
        """Whether it needs no owner. Raises MailError."""
        try:
            return await self._done(request, command)
        except _TooMany as error:
            known = {"list": request.name, "from": request.who}
            _log.event("request not answered", {**known, "reason": error.text})
            if not await self._counts(request.once, {f"owners {request.name.key}": PASSED_ON}):
                raise
            return False

    async def _done(self, request: _Request, command: str) -> bool:
        verb, _, word = command.partition(" ")
        if verb == "confirm":
            return await self._confirmed(request, word)
        if verb == "help":
            await self._answer(request, f"How to join and leave {request.name}", _help(request.name, request.settings))
            return True
        if not request.settings.takes(verb):
            return False
        if await self._table.has_member(request.name.key, request.who.key) is (verb == "unsubscribe"):
            await self._ask(request, verb)
            return True
        return verb == "subscribe"  # of who is in it already nothing is to be told to who may be a stranger

    async def _ask(self, request: _Request, verb: str) -> None:
        word = await self._word(request.once)
        what = "join" if verb == "subscribe" else "leave"
        text = (
            f"Somebody, probably you, has asked for {request.who} to {what} the mailing list\n{request.name}.\n\n"
            "Answer this mail and leave the subject as it is, and it is done. It counts for three days.\n"
            "Otherwise you need not do anything.\n"
        )
        kept = json.dumps([verb, request.name.key, str(request.who)]).encode()
        bounds = {f"leaving {self._plain(request)}": ANSWERS_TO_ONE} if verb == "unsubscribe" else None
        await self._answer(request, f"confirm {word}", text, {_kept_as(word): kept}, bounds)

    async def _word(self, once: str) -> str:
        """The same when it is made again, after a crash; nobody can make it who has not our key."""
        key = await self._state.get(_KEY)
        if key is None:
            key = self._environment.random.randbytes(32)
            await self._state.put({_KEY: key})
        return b32hexencode(hmac.digest(key, once.encode(), "sha256"))[:_WORD].decode().lower()

    async def _confirmed(self, request: _Request, word: str) -> bool:
        kept = await self._state.get(_kept_as(word.lower()))
        if kept is None:
            return True  # too late, or made up: nobody can do anything about it
        verb, key, text = json.loads(kept)
        if key != request.name.key or not request.settings.takes(verb):
            return True
        if verb == "unsubscribe":
            done = await self._table.leave_list(key, [text])
        elif len(await self._table.list_members(key)) >= MEMBERS_LIMIT:
            return False
        else:
            done = await self._table.join_list(key, [text])
        if done:
            _log.event("joined" if verb == "subscribe" else "left", {"list": key, "member": text})
        member = attrs.evolve(request, who=Address.parse(text))
        await self._tell(member, f"Mailing list {request.name}", f"{_DONE[verb].format(request.name)}\n")
        await self._state.remove([_kept_as(word.lower())])
        return True

    async def _answer(
        self,
        request: _Request,
        subject: str,
        text: str,
        words: Mapping[str, bytes] = MappingProxyType({}),
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        """With `words` that the answer has in it. Not too often, lest somebody's mailbox is filled by requests in his
        name: who is to leave is a member, and has `bounds` of his own that no stranger's requests use up. Raises
        MailError for what may be better later, _TooMany."""
        usual = {f"answers {self._plain(request)}": ANSWERS_TO_ONE, f"answers {request.name.key}": ANSWERS_OF_LIST}
        if not await self._counts(request.once, usual if bounds is None else bounds):
            raise _TooMany(f"Too many requests of {request.name} in a day")
        if words:
            await self._state.put(words, CONFIRM_SECONDS)
        await self._tell(request, subject, text)

    def _plain(self, request: _Request) -> str:
        """The list, and the mailbox that who asks has, by whichever of its addresses."""
        names = [request.who, *(plain for plain, _ in self._names.without_detail(request.who))]
        names += [plain for plain, _ in without_detail(names[-1], "+")]
        return f"{request.name.key} {names[-1].key}"

    async def _counts(self, once: str, bounds: Mapping[str, int]) -> bool:
        """Count what is done `once` before it is, against each of the bounds of a day; whether none of them is reached.
        Repeated, it is counted already."""
        mark, day = sha256(once.encode()).hexdigest()[:12], self._environment.now() // DAY
        await self._counting.acquire()
        try:
            counted = {}
            for what, most in bounds.items():
                kept = f"counted {sha256(what.encode()).hexdigest()} {day}"
                marks = json.loads(await self._state.get(kept) or b"[]")
                if mark in marks:
                    continue
                if len(marks) >= most:
                    return False
                counted[kept] = json.dumps([*marks, mark]).encode()
            if counted:
                await self._state.put(counted, DAY)
            return True
        finally:
            self._counting.release()

    async def _tell(self, request: _Request, subject: str, text: str) -> None:
        """Whom no way leads to is not told, and neither is anybody else. Raises MailError for what may be better
        later."""
        try:
            await self._mail.answer(request, subject, text)
        except MailError as error:
            if error.temporary:
                raise
            known = {"list": request.name, "from": request.who}
            _log.event("request not answered", {**known, "reason": error.text})


@implementer(IDeliveryAgent)
@attrs.define(eq=False)
class HoldAgent:
    """Has a post wait in the queue, as a row for the list that is held, and tells the owners of it."""

    _names: ILocalNames
    _queue: IQueue
    _mail: ListMail

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


async def header_of(delivery: Delivery) -> bytes:
    """The header of a message; empty where it is too large to be read. Raises MailError."""
    top = await delivery.body.read(0, HEADER_LIMIT + 1)
    end = fields_end(top, 0, len(top))
    return top[:end] if end <= HEADER_LIMIT else b""


def _author(delivery: Delivery, header: bytes) -> Address | None:
    """Who is to be answered; None where it has to be left to the owners."""
    fields = Header(header)
    bulk = (fields.first(b"precedence") or b"").strip().lower() in _BULK
    if delivery.mail.reverse_path is None or is_automatic(header) or bulk or fields.count(b"list-id"):
        return None
    try:
        found = authors(header)
    except ValueError:
        return None
    return found[0] if len(found) == 1 else None


def _command(recipient: Address, header: bytes) -> str:
    """`confirm WORD`, `subscribe`, `unsubscribe`, `help`, or "" for what is none."""
    local = recipient.local.lower()
    subject = decode_words(Header(header).first(b"subject") or b"")
    if confirmed := _CONFIRM.search(subject):
        return f"confirm {confirmed[1]}"
    for end in (SUBSCRIBE, UNSUBSCRIBE):
        if local.endswith(end):
            return end[1:]
    found = _COMMAND.fullmatch(subject)
    return _COMMANDS.get(found[1].lower(), found[1].lower()) if found else ""


def _kept_as(word: str) -> str:
    return f"confirm {sha256(word.encode()).hexdigest()}"


def _help(name: Address, settings: MailingList) -> str:
    joining = f"To join, write to {role(name, SUBSCRIBE)}.\n" if settings.join_by_mail else ""
    leaving = f"To leave, write to {role(name, UNSUBSCRIBE)} from the address that gets the list.\n"
    return f"This is about the mailing list {name}.\n\n{joining}{leaving}\nEverything else goes to its owners.\n"


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


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:500]
