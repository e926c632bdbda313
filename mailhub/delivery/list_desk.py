"""What lists are asked for by mail: the agent behind `team-request@`.

Who wants to join or leave is sent a word that nobody else knows, and has to send it back. Nothing that a program has
sent is answered (RFC 3834 2), and every answer has the null reverse-path and says that a program sent it: no two of
them can talk to one another. What is no request that can be met goes on to the owners.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from types import MappingProxyType

import attrs
from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from mailhub.delivery.list_bounces import Bounces
from mailhub.delivery.list_decisions import DECISION, DECISIONS, Decision, Decisions
from mailhub.delivery.list_mail import ListMail, Request, header_in, header_of
from mailhub.delivery.list_names import REQUEST_AGENT
from mailhub.delivery.list_paths import ListKey
from mailhub.delivery.replies import is_automatic
from mailhub.errors import MailError, MessageDamaged, MessageGone, TemporaryError
from mailhub.interfaces import (
    STORE,
    Delivery,
    Environment,
    IDeliveryAgent,
    ILocalNames,
    INames,
    IQueue,
    IState,
    QueuedRecipient,
    Which,
)
from mailhub.log import Logger
from mailhub.message.address import Address, without_detail
from mailhub.message.authors import authors
from mailhub.message.encoded_word import decode_words
from mailhub.message.envelope import Mail, Outcome, outcome_of
from mailhub.message.header import Header
from mailhub.message.lists import (
    MEMBERS_LIMIT,
    ROLES,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MailingList,
    role,
)

_log = Logger(namespace="mailhub.delivery.lists")

DAY = 86_400
CONFIRM_SECONDS = 3 * DAY
# Answers to one address, and in the name of one list, in a day.
ANSWERS_TO_ONE, ANSWERS_OF_LIST = 3, 1000
PASSED_ON = 100  # requests beyond those that go on to the owners of one list in a day; others wait for the next
_LOOKED_AT = 200  # requests that wait, for the first decision of a post
_WORD = 24  # characters, of 5 bits each
_CONFIRM = re.compile(rf"\bconfirm\s+([0-9a-v]{{{_WORD}}})\b", re.IGNORECASE)
_COMMAND = re.compile(r"\s*(subscribe|join|unsubscribe|leave|help)\s*", re.IGNORECASE)
_COMMANDS = {"join": "subscribe", "leave": "unsubscribe"}
_BULK = frozenset({b"bulk", b"junk", b"list"})
_DONE = {"subscribe": "You are a member of {0} now.", "unsubscribe": "You are no member of {0} any more."}


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
    _key: ListKey
    _bounces: Bounces
    _decisions: Decisions
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
            who = _author(delivery.mail, header)
            if who is not None and _is_of_list(who, name):
                return Outcome.delivered("A list is no member")
            met = False
            if who is not None:
                found = await self._queue.messages(which=Which(ids=(delivery.id,)))
                moment = found[0].queued_at if found else self._environment.now()
                request = Request(name, settings, who, _once(delivery.id, row), moment, header)
                met = await self._met(request, _command(row.route.recipient, header))
            if not met:
                await self._mail.pass_on(delivery, row, header, settings)
        except MailError as error:
            return outcome_of(error)
        return Outcome.delivered()

    async def _met(self, request: Request, command: str) -> bool:
        """Whether it needs no owner. Raises MailError."""
        try:
            return await self._done(request, command)
        except _TooMany as error:
            known = {"list": request.name, "from": request.who}
            _log.event("request not answered", {**known, "reason": error.text})
            if not await self._counts(request.once, {f"owners {request.name.key}": PASSED_ON}):
                raise
            return False

    async def _done(self, request: Request, command: str) -> bool:
        verb, _, word = command.partition(" ")
        if verb == "confirm":
            return await self._confirmed(request, word)
        if verb in DECISIONS:
            own = Decision(verb, str(request.who), request.once)
            first = partial(self._first, request.name, word.lower(), own)
            text = await self._decisions.decide(request.name, word, request.once, first)
            if text:
                await self._tell(request, f"Mailing list {request.name}", text)
            return True
        if verb == "help":
            await self._answer(request, f"How to join and leave {request.name}", _help(request.name, request.settings))
            return True
        if not request.settings.takes(verb):
            return False
        if await self._table.has_member(request.name.key, request.who.key) is (verb == "unsubscribe"):
            await self._ask(request, verb)
            return True
        return verb == "subscribe"  # of who is in it already nothing is to be told to who may be a stranger

    async def _first(self, name: Address, word: str, own: Decision) -> Decision:
        """Of those of a post that are in the queue, of which many may be read at a time. Raises MailError."""
        which = Which(destination=f"{REQUEST_AGENT} {name.key}")
        for message in await self._queue.messages(_LOOKED_AT, which=which):
            try:
                body = await self._queue.open(message.id)
            except (MessageGone, MessageDamaged):
                continue
            try:
                header = await header_in(body)
            finally:
                body.close()
            who = _author(message.mail, header)
            for row in message.recipients:
                verb, _, its_word = _command(row.route.recipient, header).partition(" ")
                if who is not None and verb in DECISIONS and its_word.lower() == word and not _is_of_list(who, name):
                    return Decision(verb, str(who), _once(message.id, row))
        return own

    async def _ask(self, request: Request, verb: str) -> None:
        word = await self._key.word(request.once, _WORD)
        what = "join" if verb == "subscribe" else "leave"
        text = (
            f"Somebody, probably you, has asked for {request.who} to {what} the mailing list\n{request.name}.\n\n"
            "Answer this mail and leave the subject as it is, and it is done. It counts for three days.\n"
            "Otherwise you need not do anything.\n"
        )
        kept = json.dumps([verb, request.name.key, str(request.who)]).encode()
        bounds = {f"leaving {await self._mailbox(request)}": ANSWERS_TO_ONE} if verb == "unsubscribe" else None
        await self._answer(request, f"confirm {word}", text, {_kept_as(word): kept}, bounds)

    async def _confirmed(self, request: Request, word: str) -> bool:
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
            await self._bounces.forget(key, [Address.parse(text)])
            _log.event("joined" if verb == "subscribe" else "left", {"list": key, "member": text})
        member = attrs.evolve(request, who=Address.parse(text))
        await self._tell(member, f"Mailing list {request.name}", f"{_DONE[verb].format(request.name)}\n")
        await self._state.remove([_kept_as(word.lower())])
        return True

    async def _answer(
        self,
        request: Request,
        subject: str,
        text: str,
        words: Mapping[str, bytes] = MappingProxyType({}),
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        """With `words` that the answer has in it. Not too often, lest somebody's mailbox is filled by requests in his
        name: who is to leave is a member, and has `bounds` of his own that no stranger's requests use up. Raises
        MailError for what may be better later, _TooMany."""
        mailbox, name = await self._mailbox(request), request.name.key
        usual = {f"answers {mailbox}": ANSWERS_TO_ONE, f"answers {name}": ANSWERS_OF_LIST}
        if not await self._counts(request.once, usual if bounds is None else bounds):
            raise _TooMany(f"Too many requests of {request.name} in a day")
        if words:
            await self._state.put(words, CONFIRM_SECONDS)
        await self._tell(request, subject, text)

    async def _mailbox(self, request: Request) -> str:
        """The list, and the mailbox that who asks has, by whichever of its addresses: an account's, where aliases lead
        to one. Raises TemporaryError where that cannot be said now."""
        ways = await self._mail.ways_to(request.who)
        found = {way.target if way.agent == STORE else self._plain(way.recipient) for way in ways}
        return f"{request.name.key} {' '.join(sorted(found or {self._plain(request.who)}))}"

    def _plain(self, address: Address) -> str:
        names = [address, *(plain for plain, _ in self._names.without_detail(address))]
        return [*names, *(plain for plain, _ in without_detail(names[-1], "+"))][-1].key

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

    async def _tell(self, request: Request, subject: str, text: str) -> None:
        """Whom no way leads to is not told, and neither is anybody else. Raises MailError for what may be better
        later."""
        try:
            await self._mail.answer(request, subject, text)
        except MailError as error:
            if error.temporary:
                raise
            known = {"list": request.name, "from": request.who}
            _log.event("request not answered", {**known, "reason": error.text})


def _once(message_id: str, row: QueuedRecipient) -> str:
    return f"{message_id} {row.id} answer"


def _is_of_list(who: Address, name: Address) -> bool:
    return who.key in {each.key for each in (name, *(role(name, end) for end in ROLES))}


def _author(mail: Mail, header: bytes) -> Address | None:
    """Who is to be answered; None where it has to be left to the owners."""
    fields = Header(header)
    bulk = (fields.first(b"precedence") or b"").strip().lower() in _BULK
    if mail.reverse_path is None or is_automatic(header) or bulk or fields.count(b"list-id"):
        return None
    try:
        found = authors(header)
    except ValueError:
        return None
    return found[0] if len(found) == 1 else None


def _command(recipient: Address, header: bytes) -> str:
    """`confirm WORD`, `approve WORD`, `discard WORD`, `subscribe`, `unsubscribe`, `help`, or "" for what is none."""
    local = recipient.local.lower()
    subject = decode_words(Header(header).first(b"subject") or b"")
    if confirmed := _CONFIRM.search(subject):
        return f"confirm {confirmed[1]}"
    if decided := DECISION.search(subject):
        return f"{decided[1].lower()} {decided[2]}"
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
