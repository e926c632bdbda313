"""Each exam finds its mistakes: a good component passes all of it, a bad one fails the question that is about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from twisted.cred.checkers import ANONYMOUS
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed

from mailhub.api import (
    ALIAS,
    STORE,
    AddField,
    Address,
    Component,
    Delivery,
    Flags,
    IMessageView,
    ITransactionView,
    Message,
    NotPermitted,
    Origin,
    Outcome,
    Placement,
    Placements,
    Recipient,
    Refusal,
    ReplaceField,
    Route,
    Screen,
    SimpleStore,
    TemporaryError,
    Verdict,
)
from mailhub.testing.exam.sitting import sit
from mailhub.testing.exams import (
    AgentExam,
    CheckerExam,
    ComponentExam,
    DirectoryExam,
    PolicyExam,
    RouterExam,
    RuleExam,
    SimpleStoreExam,
)

ANN = "ann@xx.example"


def faults(exam: type[ComponentExam], method: str, component: Any, **named: Any) -> dict[str, str]:
    """The questions that it fails, and what is said of each."""
    made = type("Made", (exam,), {method: lambda self: component(), **named})
    answers = list(sit(made))
    assert len(answers) >= 3
    assert all(answer.contract for answer in answers)
    return {answer.question.removeprefix("test_"): answer.fault for answer in answers if answer.fault}


# --- Policies ---------------------------------------------------------------------------------------------------------


class GoodPolicy(Screen):
    """Its own screen."""

    def begin(self, origin: Origin) -> Any:
        return self


class BusyPolicy(Screen):
    """Uses all that it may."""

    async def begin(self, origin: Origin) -> Any:
        if not origin.helo:
            raise NotPermitted("no")
        return type(self)()

    def hello(self, origin: Origin) -> Any:
        return succeed(Verdict("defer", "4.7.1", "wait"))

    async def message(self, message: IMessageView) -> Any:
        await message.read(0, 100)
        return Verdict("quarantine", edits=[AddField("X-Checked", "yes")])


class NeverBegins(GoodPolicy):
    def begin(self, origin: Origin) -> Any:
        return Deferred()


class RaisesAtEmptyPeer(GoodPolicy):
    def begin(self, origin: Origin) -> Any:
        return {"192.0.2": self}[origin.peer.rpartition(".")[0]]


class NoVerdict(GoodPolicy):
    def mail(self, transaction: ITransactionView) -> Any:
        return None


class NullPathBreaks(GoodPolicy):
    def mail(self, transaction: ITransactionView) -> Any:
        assert transaction.mail.reverse_path.domain  # type: ignore[union-attr]
        return Verdict()


class DecodesHeader(GoodPolicy):
    def message(self, message: IMessageView) -> Any:
        message.header.decode("ascii")
        return Verdict()


class EditsLargeHeaders(GoodPolicy):
    def message(self, message: IMessageView) -> Any:
        return Verdict(edits=[ReplaceField("Subject", 1, "hello")])


class RejectsForNow(GoodPolicy):
    def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Any:
        return Verdict("reject", "4.7.1", "wait")


class Unknown(GoodPolicy):
    def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Any:
        return Verdict("drop")  # type: ignore[arg-type]


class OneSession(Screen):
    """Forgets that there are others."""

    sender: Any = None

    def begin(self, origin: Origin) -> Any:
        self.sender = None
        return self

    def mail(self, transaction: ITransactionView) -> Any:
        self.sender = transaction
        return Verdict()

    def recipient(self, transaction: ITransactionView, recipient: Recipient) -> Any:
        assert self.sender.origin == transaction.origin
        return Verdict()

    def closed(self) -> Any:
        self.sender = None


class ClosesWhatIsNotThere(GoodPolicy):
    seen: list[Any]

    def begin(self, origin: Origin) -> Any:
        made = type(self)()
        made.seen = []
        return made

    def hello(self, origin: Origin) -> Any:
        self.seen.append(origin)
        return Verdict()

    def mail(self, transaction: ITransactionView) -> Any:
        self.seen.append(transaction)
        return Verdict()

    def closed(self) -> Any:
        self.seen.pop()


class NeedsItsBody(GoodPolicy):
    async def message(self, message: IMessageView) -> Any:
        try:
            await message.read()
        except TemporaryError as error:
            raise ValueError("no body") from error
        return Verdict()


@pytest.mark.parametrize("policy", [GoodPolicy, BusyPolicy])
def test_good_policies_pass(policy: Any) -> None:
    assert faults(PolicyExam, "make_policy", policy) == {}


@pytest.mark.parametrize(
    ("policy", "question", "words"),
    [
        (NeverBegins, "a_connection_gets_a_screen", "within 30 seconds"),
        (RaisesAtEmptyPeer, "a_connection_gets_a_screen", "KeyError"),
        (lambda: type("P", (), {"begin": lambda self, origin: None})(), "a_connection_gets_a_screen", "an IScreen"),
        (NoVerdict, "every_moment_has_a_verdict", "must give a Verdict; None came"),
        (NullPathBreaks, "every_moment_has_a_verdict", "the null reverse-path"),
        (DecodesHeader, "any_message_has_a_verdict", "UnicodeDecodeError"),
        (EditsLargeHeaders, "any_message_has_a_verdict", "too large to be edited"),
        (RejectsForNow, "any_recipient_has_a_verdict", "begins with 5"),
        (Unknown, "any_recipient_has_a_verdict", "accept, reject, defer, discard, quarantine"),
        (OneSession, "connections_do_not_disturb_each_other", "AttributeError"),
        (ClosesWhatIsNotThere, "a_connection_may_end_at_any_moment", "IndexError"),
        (NeedsItsBody, "a_body_that_cannot_be_read_is_told", "ValueError: no body"),
    ],
)
def test_bad_policies_are_found(policy: Any, question: str, words: str) -> None:
    found = faults(PolicyExam, "make_policy", policy)
    assert question in found
    assert words in found[question]


# --- Rules ------------------------------------------------------------------------------------------------------------


class Rule:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def apply(self, account: str, mail: Any, message: IMessageView) -> Any:
        return self.answer(account, mail, message) if callable(self.answer) else self.answer


async def _reads(account: str, mail: Any, message: IMessageView) -> Any:
    return Placements(deposits=[Placement("Lists", frozenset({"\\Seen"}))]) if b"x" in await message.read() else None


def _unreadable(account: str, mail: Any, message: IMessageView) -> Any:
    async def read() -> Any:
        try:
            await message.read()
        except TemporaryError:
            raise KeyError("body") from None

    return read()


def test_good_rules_pass() -> None:
    for answer in (None, _reads, Placements(refusal=Refusal("5.7.1", "no")), Placements(discard=True)):
        assert faults(RuleExam, "make_rule", lambda answer=answer: Rule(answer)) == {}


@pytest.mark.parametrize(
    ("answer", "question", "words"),
    [
        (Placements(), "any_message_has_an_answer", "does not say discard"),
        ("Junk", "any_message_has_an_answer", "it gave 'Junk'"),
        (
            lambda account, mail, message: message.header.decode("ascii") and None,
            "any_message_has_an_answer",
            "Unicode",
        ),
        (
            Placements(deposits=[Placement(edits=[AddField("a:b", "c")])]),
            "any_message_has_an_answer",
            "name of a field",
        ),
        (Placements(deposits=[Placement("a\0b")]), "any_message_has_an_answer", "a\\x00b"),
        (lambda account, mail, message: mail.reverse_path.key and None, "any_envelope_has_an_answer", "NoneType"),
        (lambda account, mail, message: {ANN: None}[account], "it_is_asked_for_each_account", "KeyError"),
        (_unreadable, "a_body_that_cannot_be_read_is_told", "KeyError"),
    ],
)
def test_bad_rules_are_found(answer: Any, question: str, words: str) -> None:
    found = faults(RuleExam, "make_rule", lambda: Rule(answer))
    assert question in found
    assert words in found[question]


# --- Routers ----------------------------------------------------------------------------------------------------------


class Router:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def route(self, recipient: Address, transaction: ITransactionView) -> Any:
        return self.answer(recipient, transaction)


def _refuses(recipient: Address, transaction: ITransactionView) -> Any:
    raise TemporaryError


def test_good_routers_pass() -> None:
    for answer in (
        lambda recipient, transaction: None,
        lambda recipient, transaction: [Route(STORE, recipient, recipient.key)],
        lambda recipient, transaction: (Route("smtp", recipient, "mx.yy.example:25"),),
        _refuses,
    ):
        assert faults(RouterExam, "make_router", lambda answer=answer: Router(answer)) == {}


@pytest.mark.parametrize(
    ("answer", "question", "words"),
    [
        (lambda recipient, transaction: "store", "any_recipient_has_an_answer", "None or a sequence of Routes"),
        (lambda recipient, transaction: {ANN: None}[recipient.key], "any_recipient_has_an_answer", "KeyError"),
        (lambda r, t: [Route(STORE, r, r.local)], "any_recipient_has_an_answer", "the account for the agent 'store'"),
        (lambda r, t: [Route("smtp", r, flags=set("x"))], "any_recipient_has_an_answer", "frozenset"),  # type: ignore
        (lambda r, t: [Route(ALIAS, r)], "any_recipient_has_an_answer", "leads to another address"),
        (lambda r, t: t.mail.reverse_path.key and None, "any_sender_has_an_answer", "NoneType"),
        (lambda r, t: t.recipients[0] and None, "recipients_follow_one_another", "IndexError"),
        (lambda r, t: 1 / 0, "recipients_may_be_asked_for_at_once", "ZeroDivisionError"),
    ],
)
def test_bad_routers_are_found(answer: Any, question: str, words: str) -> None:
    found = faults(RouterExam, "make_router", lambda: Router(answer))
    assert question in found
    assert words in found[question]


# --- Agents -----------------------------------------------------------------------------------------------------------


class GoodAgent:
    stopped = 0

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        await delivery.body.read()
        return {recipient.id: Outcome.delivered() for recipient in delivery.recipients}

    async def stop(self) -> None:
        self.stopped += 1


class ForgetsAll(GoodAgent):
    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        return {delivery.recipients[0].id: Outcome.delivered()}


class SaysItByNumber(GoodAgent):
    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        return dict.fromkeys(range(len(delivery.recipients)), Outcome.delivered())


class ReadsText(GoodAgent):
    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        (await delivery.body.read()).decode()
        return await super().deliver(delivery)


class NeedsSender(GoodAgent):
    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        assert delivery.mail.reverse_path is not None
        return await super().deliver(delivery)


class OnlyOnce(GoodAgent):
    def __init__(self) -> None:
        self.known: set[str] = set()

    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        if delivery.id in self.known:
            return {}
        self.known.add(delivery.id)
        return await super().deliver(delivery)


class LosesMail(GoodAgent):
    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        with suppress(TemporaryError):
            await delivery.body.read()
        return {recipient.id: Outcome.delivered() for recipient in delivery.recipients}


class WrongClass(GoodAgent):
    async def deliver(self, delivery: Delivery) -> Mapping[int, Outcome]:
        return {recipient.id: Outcome.failed("later", status="4.0.0") for recipient in delivery.recipients}


class StopsOnce(GoodAgent):
    connection: list[int] | None = None

    def stop(self) -> Any:
        self.connection.pop()  # type: ignore[union-attr]


class Plain:
    """Without a coroutine."""

    def deliver(self, delivery: Delivery) -> Any:
        return succeed({recipient.id: Outcome.delayed("later") for recipient in delivery.recipients})

    def stop(self) -> None:
        pass


def test_good_agents_pass() -> None:
    assert faults(AgentExam, "make_agent", GoodAgent) == {}
    assert faults(AgentExam, "make_agent", Plain) == {}


@pytest.mark.parametrize(
    ("agent", "question", "words"),
    [
        (ForgetsAll, "every_recipient_has_an_outcome", "without [1001"),
        (SaysItByNumber, "every_recipient_has_an_outcome", "QueuedRecipient.id"),
        (ReadsText, "any_message_has_an_outcome", "UnicodeDecodeError"),
        (NeedsSender, "any_envelope_has_an_outcome", "the null reverse-path"),
        (OnlyOnce, "a_delivery_may_come_again", "attempt 1"),
        (LosesMail, "what_could_not_be_read_is_not_delivered", "could not be read"),
        (WrongClass, "every_recipient_has_an_outcome", "begins with 5"),
        (StopsOnce, "it_can_be_stopped", "AttributeError"),
    ],
)
def test_bad_agents_are_found(agent: Any, question: str, words: str) -> None:
    found = faults(AgentExam, "make_agent", agent)
    assert question in found
    assert words in found[question]


# --- Checkers and directories -----------------------------------------------------------------------------------------


class GoodChecker:
    credentialInterfaces: Any = (IUsernamePassword,)
    passwords: Mapping[bytes, bytes] = {ANN.encode(): b"secret"}

    def requestAvatarId(self, credentials: Any) -> Any:
        if self.passwords.get(credentials.username) == credentials.password:
            return succeed(credentials.username)
        return fail(UnauthorizedLogin())

    async def exists(self, user: str) -> bool:
        return user.encode() in self.passwords


class Waiting(GoodChecker):
    async def requestAvatarId(self, credentials: Any) -> Any:
        return await super().requestAvatarId(credentials)


class KnowsNobody(GoodChecker):
    passwords = {}


class KeyErrors(GoodChecker):
    def requestAvatarId(self, credentials: Any) -> Any:
        if self.passwords[credentials.username] == credentials.password:
            return credentials.username
        raise UnauthorizedLogin


class AnonymousBind(GoodChecker):
    """As LDAP does: a name without a password is nobody in particular, and a success."""

    def requestAvatarId(self, credentials: Any) -> Any:
        if credentials.username in self.passwords and not credentials.password:
            return credentials.username
        return super().requestAvatarId(credentials)


class CutsAtNul(GoodChecker):
    def requestAvatarId(self, credentials: Any) -> Any:
        credentials.password = credentials.password.partition(b"\0")[0]
        return super().requestAvatarId(credentials)


class NumbersUsers(GoodChecker):
    def requestAvatarId(self, credentials: Any) -> Any:
        return succeed(7) if credentials.password == b"secret" else ANONYMOUS


class Everybody(GoodChecker):
    async def exists(self, user: str) -> Any:
        return True


class OneKind(GoodChecker):
    credentialInterfaces = ()


class Locks(GoodChecker):
    failed = False

    def requestAvatarId(self, credentials: Any) -> Any:
        if self.failed:
            raise UnauthorizedLogin
        self.failed = credentials.password != b"secret"
        return super().requestAvatarId(credentials)


class Late(GoodChecker):
    def requestAvatarId(self, credentials: Any) -> Any:
        return Deferred()


def test_good_checkers_pass() -> None:
    assert faults(CheckerExam, "make_checker", GoodChecker, password="secret") == {}
    assert faults(CheckerExam, "make_checker", Waiting, password="secret") == {}
    assert faults(CheckerExam, "make_checker", KnowsNobody) == {}


@pytest.mark.parametrize(
    ("checker", "question", "words"),
    [
        (KnowsNobody, "the_right_password_gives_an_avatar_id", "it refused"),
        (KeyErrors, "unknown_users_are_refused", "KeyError"),
        (AnonymousBind, "wrong_passwords_are_refused", "an empty password"),
        (CutsAtNul, "wrong_passwords_are_refused", "the right password with NUL behind it"),
        (NumbersUsers, "the_right_password_gives_an_avatar_id", "bytes or str; 7 came"),
        (Everybody, "what_it_knows_is_a_directory", "who is not there"),
        (OneKind, "it_checks_passwords", "IUsernamePassword"),
        (Locks, "a_refusal_changes_nothing", "after a wrong one"),
        (Late, "wrong_passwords_are_refused", "within 30 seconds"),
    ],
)
def test_bad_checkers_are_found(checker: Any, question: str, words: str) -> None:
    found = faults(CheckerExam, "make_checker", checker, password="secret")
    assert question in found
    assert words in found[question]


def test_a_checker_that_changes_credentials_is_found() -> None:
    class Takes(GoodChecker):
        def requestAvatarId(self, credentials: Any) -> Any:
            result = super().requestAvatarId(credentials)
            credentials.password = b""
            return result

    assert "the_credentials_stay_as_they_are" in faults(CheckerExam, "make_checker", Takes, password="secret")


def test_directories() -> None:
    assert faults(DirectoryExam, "make_directory", GoodChecker) == {}
    assert "who_is_there_is_told" in faults(DirectoryExam, "make_directory", KnowsNobody)
    assert "who_is_not_there_is_told" in faults(DirectoryExam, "make_directory", Everybody)
    nonsense = type("Nonsense", (), {"exists": lambda self, user: "yes"})
    assert (
        "must give True or False; 'yes' came"
        in faults(DirectoryExam, "make_directory", nonsense)["who_is_there_is_told"]
    )


# --- Simple stores ----------------------------------------------------------------------------------------------------


class GoodStore(SimpleStore):
    """All seven methods, over a list that outlives it."""

    def __init__(self, options: Any = None, hub: Any = None) -> None:
        super().__init__(options, hub)
        self.rows: list[list[Any]] = [[1, b"Subject: first\r\n\r\nHello\r\n", frozenset(), 0]]
        self.last = 1

    def users(self) -> list[str]:
        return [ANN]

    def messages(self, user: str, folder: str) -> Iterable[Any]:
        return [Message(key, flags, date, len(octets)) for key, octets, flags, date in self.rows]

    def read(self, user: str, folder: str, key: Any) -> bytes:
        octets: bytes = next(row[1] for row in self.rows if row[0] == key)
        return octets

    def add(self, user: str, folder: str, octets: bytes, flags: Flags, date: int) -> Any:
        self.last += 1
        self.rows.append([self.last, octets, flags, date])
        return self.last

    def change(self, user: str, folder: str, key: Any, flags: Flags) -> None:
        next(row for row in self.rows if row[0] == key)[2] = flags

    def remove(self, user: str, folder: str, key: Any) -> None:
        self.rows = [row for row in self.rows if row[0] != key]


class WaitingStore(GoodStore):
    async def users(self) -> list[str]:  # type: ignore[override]
        return super().users()

    async def messages(self, user: str, folder: str) -> Any:
        for each in super().messages(user, folder):
            yield each

    def read(self, user: str, folder: str, key: Any) -> Any:
        return succeed(super().read(user, folder, key))


class ReadOnlyStore(SimpleStore):
    def users(self) -> list[str]:
        return [ANN]

    def messages(self, user: str, folder: str) -> list[str]:
        return ["a"]

    def read(self, user: str, folder: str, key: str) -> bytes:
        return b"Subject: a\r\n\r\n"


class NoAddresses(GoodStore):
    def users(self) -> list[str]:
        return [ANN, "ben"]


class BadFolders(GoodStore):
    def folders(self, user: str) -> list[str]:
        return ["INBOX", "a//b"]


class SameKeys(GoodStore):
    def messages(self, user: str, folder: str) -> Iterable[Any]:
        return ["a", "a"]


class NewKeysEachTime(GoodStore):
    turn = 0

    def messages(self, user: str, folder: str) -> Iterable[Any]:
        self.turn += 1
        return [f"{self.turn}"]


class Text(GoodStore):
    def read(self, user: str, folder: str, key: Any) -> Any:
        return "Subject: text"


class WrongSize(GoodStore):
    def messages(self, user: str, folder: str) -> Iterable[Any]:
        return [Message(key, flags, date, 7) for key, _, flags, date in self.rows]


class PlaceAsKey(GoodStore):
    def messages(self, user: str, folder: str) -> Iterable[Any]:
        return [Message(number, row[2]) for number, row in enumerate(self.rows)]

    def read(self, user: str, folder: str, key: Any) -> bytes:
        octets: bytes = self.rows[key][1]
        return octets

    def add(self, *arguments: Any) -> Any:
        super().add(*arguments)
        return len(self.rows) - 1

    def remove(self, user: str, folder: str, key: Any) -> None:
        del self.rows[key]


class ChangesOctets(GoodStore):
    def add(self, user: str, folder: str, octets: bytes, flags: Flags, date: int) -> Any:
        return super().add(user, folder, octets.replace(b"\r\n", b"\n"), flags, date)


class NoKey(GoodStore):
    def add(self, *arguments: Any) -> Any:
        super().add(*arguments)


class ForgetsFlags(GoodStore):
    def change(self, user: str, folder: str, key: Any, flags: Flags) -> None:
        pass


class RemovesAll(GoodStore):
    def remove(self, user: str, folder: str, key: Any) -> None:
        self.rows = []


class HashAsKey(GoodStore):
    def add(self, user: str, folder: str, octets: bytes, flags: Flags, date: int) -> Any:
        key = octets.hex()[:900] or "none"
        if all(row[0] != key for row in self.rows):
            self.rows.append([key, octets, flags, date])
        return key


@pytest.mark.parametrize("store", [GoodStore, WaitingStore, ReadOnlyStore])
def test_good_simple_stores_pass(store: Any) -> None:
    kept = store(None, None)
    assert faults(SimpleStoreExam, "make_store", lambda: kept) == {}


@pytest.mark.parametrize(
    ("store", "question", "words"),
    [
        (NoAddresses, "users_are_addresses", "'ben' is no address"),
        (BadFolders, "folders_have_possible_names", "cannot be the name of a folder"),
        (SameKeys, "messages_have_keys_of_their_own", "listed twice"),
        (NewKeysEachTime, "the_same_messages_are_listed_each_time", "was expected"),
        (Text, "messages_can_be_read", "not bytes"),
        (WrongSize, "messages_can_be_read", "Message.size"),
        (PlaceAsKey, "a_key_is_not_given_again", "again"),
        (PlaceAsKey, "others_stay_where_one_is_removed", ""),
        (ChangesOctets, "a_message_that_is_added_is_listed_and_read", "the very octets"),
        (NoKey, "a_message_that_is_added_is_listed_and_read", "must return the key"),
        (ForgetsFlags, "flags_are_kept", "must list the flags"),
        (RemovesAll, "what_is_removed_is_gone", "was expected"),
        (HashAsKey, "equal_messages_are_two", "came twice"),
    ],
)
def test_bad_simple_stores_are_found(store: Any, question: str, words: str) -> None:
    found = faults(SimpleStoreExam, "make_store", lambda: store(None, None))
    assert question in found
    assert words in found[question]


def test_plain_methods_are_called_in_a_thread() -> None:
    class Sql(GoodStore):
        def __init__(self, options: Any, hub: Any) -> None:
            super().__init__(options, hub)
            self.database = sqlite3.connect(":memory:")

        def users(self) -> list[str]:
            self.database.execute("SELECT 1")
            return [ANN]

    assert "ProgrammingError" in faults(SimpleStoreExam, "make_store", lambda: Sql(None, None))["users_are_addresses"]


def test_a_plugin_is_made_by_its_factory() -> None:
    class Exam(SimpleStoreExam):
        factory = Component("store", "examined", ReadOnlyStore)

    assert [answer for answer in sit(Exam) if answer.fault] == []
