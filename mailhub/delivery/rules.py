"""The rules of a hub as one: asked in order, each within its time, and their answers looked at before they count."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime

from mailhub.answers import Nonsense, shown
from mailhub.delivery.limits import POLICY_TIMEOUT
from mailhub.errors import InvalidMailboxName, MailError
from mailhub.guard import Guard, Unanswered
from mailhub.interfaces import (
    AddField,
    IMailRules,
    IMessageView,
    InsertField,
    Placement,
    Placements,
    Redirect,
    Refusal,
    RemoveField,
    ReplaceField,
    Reply,
    ReversePath,
)
from mailhub.keys import setting
from mailhub.message import flags, mailbox_names
from mailhub.message.address import is_address
from mailhub.message.edits import EDITS_LIMIT, HeaderEdit
from mailhub.message.header import fields_end

# Deposits, redirects and replies of one answer.
PLACEMENTS_LIMIT = 50
FLAGS_LIMIT = 64
REPLY_LIMIT = 1 << 20  # octets
_TEXT_LIMIT = 500  # characters of a refusal
# All rules of a message together: its client waits for ten minutes (RFC 5321 4.5.3.2.6).
TOGETHER_SECONDS = 300.0

_STATUS = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")


class RuleFault(Nonsense):
    """An answer that cannot be followed; the text says why."""


@attrs.frozen
class GuardedRule:
    """A rule with the time it may take for one account."""

    name: str
    rule: IMailRules
    timeout_seconds: float = setting(POLICY_TIMEOUT)
    guard: Guard | None = None

    def guarded(self, clock: IReactorTime) -> Guard:
        """What it is called by. Without its answer mail goes where it would go without rules."""
        return self.guard or Guard("rule", self.name, "", clock, self.timeout_seconds, "skip")


@attrs.frozen
class Answer:
    """Placements that have been looked at, and whose they are."""

    guard: Guard
    placements: Placements

    @property
    def rule(self) -> str:
        """Its name."""
        return self.guard.name


@attrs.frozen
class Rules:
    """All rules of a hub."""

    rules: Sequence[GuardedRule]
    clock: IReactorTime
    _guarded: Sequence[tuple[IMailRules, Guard]] = attrs.field(init=False)

    @_guarded.default
    def _guard_all(self) -> Sequence[tuple[IMailRules, Guard]]:
        return tuple((rule.rule, rule.guarded(self.clock)) for rule in self.rules)

    def deadline(self) -> float:
        """When a message that begins now must have its answers."""
        return self.clock.seconds() + TOGETHER_SECONDS

    async def ask(self, account: str, message: IMessageView, deadline: float) -> Answer | None:
        """What the first says that has an opinion; None also where one fails. Never raises."""
        about = {"account": account, "session": message.origin.session_id}
        for rule, guard in self._guarded:
            seconds = min(guard.timeout_seconds, max(0.0, deadline - self.clock.seconds()))
            asked = guard.ask_about(about, "apply", rule.apply, account, message.mail, message, seconds=seconds)
            try:
                given = await asked
                if given is not None:
                    return Answer(guard, guard.look("apply", checked, given, about))
            except MailError as error:
                if not isinstance(error, Unanswered):
                    guard.fault("apply", error, about)
                return None
        return None


def fault(guard: Guard, account: str, session_id: str, error: Exception) -> None:
    """A rule did what it must not; the account gets the message as if there were no rules."""
    guard.fault("apply", error, {"account": account, "session": session_id})


def checked(given: object) -> Placements:
    """An answer with nothing in it that is not what it should be. Raises RuleFault."""
    if not isinstance(given, Placements):
        raise RuleFault(f"it gave {shown(given)}")
    deposits = [_deposit(each) for each in _all(given.deposits, Placement)]
    redirects = [_redirect(each) for each in _all(given.redirects, Redirect)]
    replies = [_reply(each) for each in _all(given.replies, Reply)]
    if len(deposits) + len(redirects) + len(replies) > PLACEMENTS_LIMIT:
        raise RuleFault(f"it gave more than {PLACEMENTS_LIMIT} placements")
    placed = bool(deposits or redirects)
    if given.refusal is not None:
        if placed or replies or given.discard:
            raise RuleFault("it refuses the message and does something else with it")
        return Placements(refusal=_refusal(given.refusal))
    if not placed and given.discard is not True:
        raise RuleFault("it places the message nowhere, and does not say discard")
    return Placements(deposits, redirects, replies, discard=not placed)


def _all(given: object, kind: type[Any]) -> Sequence[Any]:
    if not isinstance(given, tuple | list):
        raise RuleFault(f"it gave {shown(given)} where a sequence of {kind.__name__} is wanted")
    found = tuple(islice(given, PLACEMENTS_LIMIT + 1))
    if len(found) > PLACEMENTS_LIMIT:
        raise RuleFault(f"it gave more than {PLACEMENTS_LIMIT} placements")
    if not all(isinstance(each, kind) for each in found):
        raise RuleFault(f"it gave {shown(given)} where a sequence of {kind.__name__} is wanted")
    return found


def _deposit(given: Placement) -> Placement:
    name = given.mailbox
    if not isinstance(name, str):
        raise RuleFault(f"{shown(name)} is no name of a mailbox")
    name = mailbox_names.normalise(name) or mailbox_names.INBOX
    try:
        mailbox_names.check(name)
    except InvalidMailboxName as error:
        raise RuleFault(f"{shown(name)}: {error}") from None
    return Placement(name, _flags(given.flags), _edits(given.edits))


def _flags(given: object) -> flags.Flags:
    if isinstance(given, frozenset | set | tuple | list) and all(isinstance(flag, str) for flag in given):
        if len(given) > FLAGS_LIMIT:
            raise RuleFault(f"it gave more than {FLAGS_LIMIT} flags")
        try:
            return flags.normalise(given)
        except ValueError as error:
            raise RuleFault(f"{shown(list(given))}: {error}") from None
    raise RuleFault(f"{shown(given)} are no flags")


def _edits(given: object) -> tuple[HeaderEdit, ...]:
    """Whether they can be carried out shows where the header is."""
    kinds = AddField | InsertField | ReplaceField | RemoveField
    if not isinstance(given, tuple | list) or not all(isinstance(edit, kinds) for edit in given):
        raise RuleFault(f"{shown(given)} are no edits of a header")
    if len(given) > EDITS_LIMIT:
        raise RuleFault(f"it gave more than {EDITS_LIMIT} edits")
    return tuple(given)


def _redirect(given: Redirect) -> Redirect:
    own = given.reverse_path
    if not is_address(given.recipient):
        raise RuleFault(f"{shown(given.recipient)} is no address")
    if own is not None and not (isinstance(own, ReversePath) and (own.address is None or is_address(own.address))):
        raise RuleFault(f"{shown(own)} is no reverse-path")
    return given


def _reply(given: Reply) -> Reply:
    if not isinstance(given.message, bytes) or not (given.reverse_path is None or is_address(given.reverse_path)):
        raise RuleFault(f"{shown(given)} is no reply")
    if len(given.message) > REPLY_LIMIT:
        raise RuleFault(f"a reply has more than {REPLY_LIMIT} octets")
    if not fields_end(given.message, 0, len(given.message)):
        raise RuleFault("a reply has no header")
    return given


def _refusal(given: object) -> Refusal:
    if not isinstance(given, Refusal) or not isinstance(given.text, str) or not isinstance(given.status, str):
        raise RuleFault(f"{shown(given)} is no refusal")
    if not _STATUS.fullmatch(given.status):
        raise RuleFault(f"{shown(given.status)} is no status of a refusal")
    text = " ".join("".join(char if char.isprintable() else " " for char in given.text).split())
    return Refusal(given.status, text[:_TEXT_LIMIT])
