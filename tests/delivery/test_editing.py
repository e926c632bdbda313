"""What screens edit: header, envelope and results, up to the message that is committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.delivery.intake import HEADER_SHARE, IntakeWriter
from mailhub.errors import Busy, NotPermitted, StoreUnavailable, TemporaryError
from mailhub.interfaces import (
    ACCEPT,
    AddField,
    AddRecipient,
    ChangeReversePath,
    Edit,
    IMessageView,
    IPolicy,
    IRouter,
    NoteResult,
    Origin,
    RemoveField,
    RemoveRecipient,
    ReplaceBody,
    ReplaceField,
    Screen,
    Verdict,
)
from mailhub.message.address import Address
from mailhub.message.envelope import Mail, OriginalRecipient, Outcome, Recipient
from mailhub.message.needs import BODY_8BIT, HEADER_LIMIT
from mailhub.testing.waiting import result_of
from mailhub.wire.budget import Budget
from tests.delivery.doubles import Octets, OctetsWriter
from tests.delivery.test_pipeline import (
    FAR,
    FULL,
    LOCAL,
    LOGGED_IN,
    OUTSIDE,
    A,
    B,
    Login,
    OneVerdict,
    Stage,
    refusing,
    screening,
)

MESSAGE = b"Subject: s\r\nX-Secret: 1\r\nx-secret: 2\r\n\r\nbody\r\n"
ADD = AddField("X-Screen", "seen")


def edited(moment: str, *edits: Edit, message: bytes = MESSAGE, to: Sequence[Address] = (A,)) -> Stage:
    stage = Stage(policies=screening(OneVerdict(moment, Verdict(edits=edits))))
    stage.send(OUTSIDE, *to, message=message)
    return stage


def after_trace(stage: Stage) -> bytes:
    """The message below Return-Path and Received."""
    (octets,) = stage.queue.octets
    assert octets.startswith(b"Return-Path: <")
    return b"".join(octets.splitlines(keepends=True)[1:]).partition(b" Jan 1970 00:00:00 +0000\r\n")[2]


@pytest.mark.parametrize("moment", ["hello", "mail", "recipient", "message"])
def test_the_header_is_edited_whenever_it_is_asked_for(moment: str) -> None:
    stage = edited(moment, ADD, RemoveField("x-secret", 2), ReplaceField("Subject", 1, "t"))
    assert after_trace(stage) == b"X-Screen: seen\r\nSubject: t\r\nX-Secret: 1\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", b"X-Screen: seen\r\n"),
        (b"\r\n", b"X-Screen: seen\r\n\r\n"),
        (b"\r\nbody", b"X-Screen: seen\r\n\r\nbody"),
        (b"no header\r\nat all", b"X-Screen: seen\r\n\r\nno header\r\nat all"),
        (b"A: b", b"X-Screen: seen\r\nA: b\r\n"),
        (b"A: b\r\nno field\r\n", b"X-Screen: seen\r\nA: b\r\n\r\nno field\r\n"),
        (b"Return-Path: <x>\r\nA: b\r\n\r\n\r\nc", b"X-Screen: seen\r\nA: b\r\n\r\n\r\nc"),
    ],
)
def test_odd_messages_are_edited_too(message: bytes, expected: bytes) -> None:
    assert after_trace(edited("message", ADD, message=message)) == expected


def test_a_message_that_nobody_edits_stays_as_it_is_though_it_is_looked_at() -> None:
    for message in (MESSAGE, b"", b"\r\nbody", b"no header\r\n", b"A: b"):
        looked_at, plain = edited("message", message=message), Stage()
        plain.send(OUTSIDE, A, message=message)
        assert looked_at.queue.octets == plain.queue.octets


def test_each_screen_sees_what_those_before_it_have_edited() -> None:
    seen: list[object] = []

    @implementer(IPolicy)
    class Looks(Screen):
        def begin(self, origin: Origin) -> Looks:
            return self

        def mail(self, transaction: Any) -> Verdict:
            seen.append(transaction.mail.reverse_path)
            return ACCEPT

        async def message(self, message: IMessageView) -> Verdict:
            seen.append((message.header, message.size, message.hops, await message.read(), await message.read(2, 3)))
            with pytest.raises(ValueError, match="offset -1"):
                await message.read(-1)
            seen.append((message.mail.reverse_path, [each.address for each in message.recipients], message.origin))
            return Verdict(edits=[AddField("X-Last", "2")])

    first = OneVerdict("message", Verdict(edits=[ADD, RemoveField("X-Secret", 0)]))
    renames = OneVerdict("mail", Verdict(edits=[ChangeReversePath(B)]))
    stage = Stage(policies=screening(renames, first, Looks()))
    stage.send(OUTSIDE, A, message=b"Received: x\r\n" + MESSAGE)
    assert seen == [
        B,
        (b"X-Screen: seen\r\nReceived: x\r\nSubject: s\r\n", 8, 1, b"\r\nbody\r\n", b"bod"),
        (B, [A], OUTSIDE),
    ]
    assert after_trace(stage).startswith(b"X-Last: 2\r\nX-Screen: seen\r\nReceived: x\r\n")


@pytest.mark.parametrize("moment", ["mail", "recipient", "message"])
@pytest.mark.parametrize("address", [B, None])
def test_another_reverse_path_is_that_of_envelope_and_return_path(moment: str, address: Address | None) -> None:
    stage = edited(moment, ChangeReversePath(address))
    submission, _ = stage.queue.submissions[0]
    assert submission.mail == Mail(address)
    top = f"Return-Path: <{address or ''}>\r\n".encode()
    assert stage.queue.octets[0].startswith(top)
    assert submission.relay_offset == len(top)


def targets(stage: Stage) -> list[str]:
    plan = stage.queue.submissions[0][0].plan
    return [str(each.recipient) for each in (*plan.deposits, *plan.routes)]


def test_recipients_are_added_and_removed_and_the_client_is_told_of_those_it_named() -> None:
    for moment in ("recipient", "message"):
        stage = edited(moment, AddRecipient(Recipient(FAR)), to=(A,))
        assert sorted(targets(stage)) == ["a@xx.example", "c@yy.example"]
    stage = Stage(
        policies=screening(OneVerdict("message", Verdict(edits=[AddRecipient(Recipient(B)), RemoveRecipient(A)])))
    )
    assert stage.send(LOCAL, A).outcomes == (Outcome.delivered(),)
    assert targets(stage) == ["b@xx.example"]


def test_one_that_cannot_be_added_is_left_out_and_told() -> None:
    with capturedLogs() as events:
        stage = edited("message", AddRecipient(Recipient(Address("nobody", "xx.example"))))
    assert targets(stage) == ["a@xx.example"]
    assert any("edit left out" in formatEvent(event) and "nobody@xx.example" in formatEvent(event) for event in events)


def test_a_message_without_recipients_left_is_discarded() -> None:
    stage = edited("message", RemoveRecipient(A))
    assert stage.queue.submissions == []


def test_results_stand_in_one_field_and_nobody_else_speaks_by_our_name() -> None:
    forged = (
        b"Authentication-Results: MX.xx.example; spf=pass\r\n"
        b"authentication-results: (x)\r\n \"mx.xx.example\" 1; dkim=pass\r\n"
        b"Authentication-Results: other.example; spf=fail\r\n"
    )  # fmt: skip
    policies = screening(
        OneVerdict("hello", Verdict(edits=[NoteResult("iprev=pass")])),
        OneVerdict("message", Verdict(edits=[NoteResult("dkim=none")])),
    )
    stage = Stage(policies=policies)
    stage.send(OUTSIDE, A, message=forged + MESSAGE)
    assert after_trace(stage).startswith(
        b"Authentication-Results: mx.xx.example;\r\n\tiprev=pass;\r\n\tdkim=none\r\n"
        b"Authentication-Results: other.example; spf=fail\r\nSubject"
    )


@pytest.mark.parametrize(
    "written",
    [
        b"((nested)) mx.xx.example",
        b"(a) (\\() MX.xx.example",
        b'"mx\\.xx.example"',
        b"(" * 100 + b"a" + b")" * 100 + b" mx.xx.example",
    ],
)
def test_nobody_speaks_by_our_name_behind_comments(written: bytes) -> None:
    forged = b"Authentication-Results: " + written + b"; spf=pass\r\n"
    stage = edited("message", ADD, message=forged + MESSAGE)
    assert after_trace(stage) == b"X-Screen: seen\r\n" + MESSAGE


OWNER: Any = Login()


@implementer(IPolicy)
class Noting(Screen):
    """Edits at EHLO and at login; refuses logins while it is told to."""

    def __init__(self) -> None:
        self.refuses = False

    def begin(self, origin: Origin) -> Noting:
        return self

    def hello(self, origin: Origin) -> Verdict:
        return Verdict("reject") if self.refuses else Verdict(edits=[AddField("X-Helo", origin.helo)])

    def login(self, origin: Origin) -> Verdict:
        return Verdict("quarantine", edits=[NoteResult("auth=pass")])


def sent(stage: Stage, conversation: Any) -> bytes:
    transaction = result_of(conversation.begin(Mail(A)))
    result_of(transaction.recipient(Recipient(A)))
    result_of(transaction.body().write(MESSAGE))
    result_of(transaction.commit())
    octets: bytes = stage.queue.octets.pop()
    return octets


def test_what_is_edited_for_a_login_lasts_as_long_as_the_login() -> None:
    noting = Noting()
    stage = Stage(policies=screening(noting))
    conversation = result_of(stage.pipeline.connected(OUTSIDE))
    result_of(conversation.hello(attrs.evolve(OUTSIDE, helo="one")))
    result_of(conversation.login(attrs.evolve(LOGGED_IN, helo="one"), OWNER))
    result_of(conversation.hello(attrs.evolve(LOGGED_IN, helo="two")))
    octets = sent(stage, conversation)
    assert b"auth=pass" in octets
    assert b"X-Helo: two\r\n" in octets
    assert b"X-Helo: one" not in octets
    assert stage.queue.submissions[-1][0].plan.deposits[0].mailbox == "Junk"
    # One that is refused changes nothing (RFC 5321 4.1.1.1).
    noting.refuses = True
    with pytest.raises(NotPermitted):
        result_of(conversation.hello(attrs.evolve(LOGGED_IN, helo="three")))
    assert conversation.origin.helo == "two"
    assert b"X-Helo: two" in sent(stage, conversation)
    conversation.secured(OUTSIDE)
    assert b"auth=pass" not in sent(stage, conversation)


def test_nothing_is_left_of_a_login_that_a_later_screen_rejects() -> None:
    stage = Stage(policies=screening(Noting(), OneVerdict("login", Verdict("reject"))))
    conversation = result_of(stage.pipeline.connected(OUTSIDE))
    with pytest.raises(NotPermitted):
        result_of(conversation.login(LOGGED_IN, OWNER))
    assert conversation.origin == OUTSIDE
    assert b"auth=pass" not in sent(stage, conversation)
    assert stage.queue.submissions[-1][0].plan.deposits[0].mailbox == "INBOX"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"new\r\nbody\r\n", b"new\r\nbody\r\n"),
        (b"", b""),
        (b"no end", b"no end\r\n"),
        (b"a\nb\rc\0\n", b"a\r\nb\r\nc\r\n"),
        (Octets(b"y" * 70_000 + b"\n" + b"z" * 70_000 + b"\r\n"), b"y" * 70_000 + b"\r\n" + b"z" * 70_000 + b"\r\n"),
    ],
)
def test_a_message_gets_another_body(given: Any, expected: bytes) -> None:
    stage = edited("message", ADD, ReplaceBody(given))
    assert after_trace(stage) == b"X-Screen: seen\r\nSubject: s\r\nX-Secret: 1\r\nx-secret: 2\r\n\r\n" + expected
    assert stage.queue.writers[0].aborted
    assert stage.queue.submissions[0][0].body.size == len(stage.queue.octets[0])


def test_a_body_is_the_last_that_was_given_and_later_screens_see_it() -> None:
    seen: list[bytes] = []

    @implementer(IPolicy)
    class Looks(Screen):
        def begin(self, origin: Origin) -> Looks:
            return self

        async def message(self, message: IMessageView) -> Verdict:
            seen.append(await message.read())
            assert message.size == len(seen[-1])
            return Verdict(edits=[ReplaceBody(b"third\r\n")])

    edits = [ReplaceBody(b"first"), ReplaceBody(b"second")]
    stage = Stage(policies=screening(OneVerdict("message", Verdict(edits=edits)), Looks()))
    stage.send(OUTSIDE, A, message=MESSAGE)
    assert seen == [b"\r\nsecond\r\n"]
    assert after_trace(stage).endswith(b"\r\n\r\nthird\r\n")
    assert [writer.aborted for writer in stage.queue.writers] == [True, True, True], "an abort after finish() is none"


def test_what_another_body_needs_of_a_next_hop_is_known() -> None:
    eight_bit = MESSAGE + "\xfc\r\n".encode()
    for message, given, needs in ((eight_bit, b"seven", 0), (MESSAGE, "\xfc".encode(), BODY_8BIT)):
        stage = edited("message", ReplaceBody(given), AddRecipient(Recipient(FAR)), message=message)
        assert stage.queue.submissions[0][0].needs in (needs, None)
        stage = Stage(policies=screening(OneVerdict("message", Verdict(edits=[ReplaceBody(given)]))))
        stage.send(LOGGED_IN, FAR, message=message)
        assert stage.queue.submissions[0][0].needs == needs


def test_the_body_of_a_binary_message_is_taken_as_it_is() -> None:
    stage = Stage(policies=screening(OneVerdict("message", Verdict(edits=[ReplaceBody(b"a\nb\0c")]))))
    transaction = result_of(stage.pipeline.begin(OUTSIDE, Mail(B, "BINARYMIME")))
    result_of(transaction.recipient(Recipient(A)))
    result_of(transaction.body().write(MESSAGE))
    result_of(transaction.commit())
    assert after_trace(stage).endswith(b"\r\n\r\na\nb\0c")


def test_another_reverse_path_may_bring_its_wishes() -> None:
    stage = edited("message", ChangeReversePath(B, "RET=HDRS ENVID=x+2By"))
    assert stage.queue.submissions[0][0].mail == Mail(B, ret="HDRS", envid="x+y")


def test_one_that_is_added_with_each_recipient_is_added_once() -> None:
    stage = edited("recipient", AddRecipient(Recipient(FAR)), to=(A, B))
    (way,) = stage.queue.submissions[0][0].plan.routes
    assert [str(each.address) for each in way.originals] == ["c@yy.example"]


def test_what_is_relayed_for_an_added_recipient_alone_is_scanned_too() -> None:
    stage = edited("recipient", AddRecipient(Recipient(FAR)))
    assert stage.queue.submissions[0][0].needs == 0


def test_a_held_header_is_in_the_budget_until_the_message_is_kept() -> None:
    budget = Budget(HEADER_LIMIT)
    intake = IntakeWriter(OctetsWriter(), b"", b"", held=True, budget=budget)
    result_of(intake.write(b"A: " + b"x" * (HEADER_SHARE + 1000) + b"\r\n\r\nbody"))
    assert budget.left == HEADER_LIMIT - 1005
    result_of(intake.finish())
    assert budget.left == HEADER_LIMIT
    full = IntakeWriter(OctetsWriter(), b"", b"", held=True, budget=Budget(0))
    with pytest.raises(Busy):
        result_of(full.write(b"A: " + b"x" * HEADER_SHARE + b"\r\n\r\nbody"))


# --- Edits that cannot be -------------------------------------------------------------------------------------------

ODD: Any = "edit"


class Silent(Octets):
    """A body of which nothing can be read."""

    def __init__(self) -> None:
        super().__init__(b"")

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        raise StoreUnavailable


class Overfull(Silent):
    """One that gives more than it is asked for."""

    async def read(self, offset: int = 0, length: int = -1) -> bytes:
        return b"x" * (length + 1)


@pytest.mark.parametrize(
    "edits",
    [
        [AddField("X", "a\r\n\r\nbody")],
        [ADD, ReplaceField("X", 0, "a")],
        [NoteResult("spf=pass\r\n more")],
        [NoteResult("x" * 900)],
        [ODD],
        [ChangeReversePath(ODD)],
        [AddRecipient(ODD)],
        [RemoveRecipient(ODD)],
        [ChangeReversePath(Address("a>\r\nX-Evil: 1", "yy.example"))],
        [ChangeReversePath(Address("a", "yy.example\r\nX-Evil: 1"))],
        [ChangeReversePath(Address(ODD, None))],  # type: ignore[arg-type]
        [AddRecipient(Recipient(Address("a", "YY.example")))],
        [AddRecipient(Recipient(FAR, notify=frozenset([ODD])))],
        [AddRecipient(Recipient(FAR, orcpt=OriginalRecipient("rfc822;\r\n", "x")))],
        [AddRecipient(Recipient(FAR, orcpt=ODD))],
        [NoteResult("x" * 700)] * 24,
        [ReplaceBody(ODD)],
        [ReplaceBody(b"x" * 1001)],
        [ReplaceBody(b"x"), AddField("X", "a\n")],
        [ReplaceBody(Silent())],
        [ReplaceBody(Overfull())],
        [ChangeReversePath(B, "RET=ODD")],
        [ChangeReversePath(B, "SIZE=1")],
        [ChangeReversePath(B, ODD + "\n")],
        [ADD] * 201,
        [AddField("X", ("a" * 900 + "\r\n ") * 50 + "b")] * 4,
    ],
)
@pytest.mark.parametrize("moment", ["mail", "message"])
def test_an_edit_that_would_break_the_message_is_told_and_none_of_its_verdict_counts(
    moment: str, edits: Sequence[Edit]
) -> None:
    stage = Stage(policies=screening(OneVerdict(moment, Verdict(edits=edits))), message_size=1000)
    with capturedLogs() as events:
        if moment == "mail" and len(edits) == 4:
            stage.send(OUTSIDE, A, message=MESSAGE)  # how much there is in all is known when the message is there
            assert sum("edit left out" in formatEvent(event) for event in events) == 2
            return
        with pytest.raises(TemporaryError):
            stage.send(OUTSIDE, A, message=MESSAGE)
    assert any("policy=p0" in formatEvent(event) for event in events)
    assert stage.queue.submissions == []
    assert all(writer.aborted for writer in stage.queue.writers)


@pytest.mark.parametrize(
    "edit", [ChangeReversePath(B), AddRecipient(Recipient(B)), RemoveRecipient(B), ReplaceBody(b"x")]
)
def test_before_mail_there_is_no_envelope(edit: Edit) -> None:
    stage = Stage(policies=screening(OneVerdict("hello", Verdict(edits=[edit]))))
    with pytest.raises(TemporaryError):
        stage.send(OUTSIDE, A)


def test_a_header_that_is_too_large_to_be_held_takes_fields_on_top_alone() -> None:
    large = b"X-Large: " + b"x" * HEADER_LIMIT + b"\r\n" + MESSAGE
    assert after_trace(edited("message", ADD, NoteResult("spf=none"), message=large)) == (
        b"Authentication-Results: mx.xx.example;\r\n\tspf=none\r\nX-Screen: seen\r\n" + large
    )
    with pytest.raises(TemporaryError):
        edited("message", RemoveField("Subject", 1), message=large)
    with pytest.raises(TemporaryError):
        edited("message", ReplaceBody(b"x"), message=large)
    with capturedLogs() as events:
        assert (
            after_trace(edited("mail", RemoveField("Subject", 1), ADD, message=large)) == b"X-Screen: seen\r\n" + large
        )
    assert any("edit left out" in formatEvent(event) for event in events)


# --- Quarantine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["hello", "mail", "recipient", "message"])
def test_quarantined_mail_goes_to_junk_and_what_is_relayed_goes_on(moment: str) -> None:
    stage = Stage(policies=screening(OneVerdict(moment, Verdict("quarantine"))))
    stage.send(LOGGED_IN, A, FAR)
    plan = stage.queue.submissions[0][0].plan
    assert [(deposit.user, deposit.mailbox) for deposit in plan.deposits] == [("a@xx.example", "Junk")]
    assert [(route.agent, route.mailbox) for route in plan.routes] == [("smtp", "")]


def test_quarantine_ends_with_its_message() -> None:
    verdicts = [Verdict("quarantine"), ACCEPT]

    class Once(OneVerdict):
        def mail(self, transaction: Any) -> Verdict:
            return verdicts.pop(0)

    stage = Stage(policies=screening(Once("login", ACCEPT)))
    conversation = result_of(stage.pipeline.connected(OUTSIDE))
    for _ in range(2):
        transaction = result_of(conversation.begin(Mail(A)))
        result_of(transaction.recipient(Recipient(A)))
        result_of(transaction.body().write(MESSAGE))
        result_of(transaction.commit())
    assert [message.plan.deposits[0].mailbox for message, _ in stage.queue.submissions] == ["Junk", "INBOX"]


def test_a_full_mailbox_is_told_by_lmtp_in_quarantine_too() -> None:
    stage = refusing("a@xx.example")
    stage.pipeline.policies = screening(OneVerdict("message", Verdict("quarantine")))
    assert stage.send(LOCAL, A, B).outcomes == (FULL, Outcome.delivered())


# --- What is held ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_however_it_is_cut_a_held_message_is_the_same(size: int) -> None:
    def take_in(held: bool, message: bytes, change: Callable[[IntakeWriter], None]) -> bytes:
        writer: Any = OctetsWriter()
        intake = IntakeWriter(writer, b"Return-Path: <>\r\n", b"Received: us\r\n", held=held)
        for start in range(0, len(message), size):
            result_of(intake.write(message[start : start + size]))
        result_of(intake.end())
        change(intake)
        octets: bytes = result_of(intake.finish()).body.octets  # type: ignore[attr-defined]
        return octets

    def shorten(intake: IntakeWriter) -> None:
        intake.header = intake.header.replace(b"Subject: s\r\n", b"")

    for message in (MESSAGE, b"From x\r\nA: b\r\n\r\nbody", b"A: b\nC: d\n\nbody\n", b"\xef\xbb\xbfA: b\r\n\r\nx"):
        assert take_in(True, message, lambda _: None) == take_in(False, message, lambda _: None)
    assert take_in(True, MESSAGE, shorten) == take_in(False, MESSAGE.replace(b"Subject: s\r\n", b""), lambda _: None)


def test_the_screens_of_a_connection_are_closed_when_it_is() -> None:
    closed: list[str] = []

    class Notes(OneVerdict):
        def closed(self) -> None:
            closed.append("closed")

    stage = Stage(policies=screening(Notes("mail", ACCEPT)))
    conversation = result_of(stage.pipeline.connected(OUTSIDE))
    conversation.closed()
    conversation.closed()
    assert closed == ["closed"]
    stage.send(OUTSIDE, A)
    assert closed == ["closed"] * 2
    stage.pipeline.policies = screening(Notes("hello", Verdict("defer")))
    with pytest.raises(TemporaryError):
        result_of(stage.pipeline.begin(OUTSIDE, Mail(A)))
    assert closed == ["closed"] * 3


# --- Plugins look, and do nothing -----------------------------------------------------------------------------------


def assigns(transaction: Any) -> Verdict:
    transaction.mail = None
    return ACCEPT


def aborts(transaction: Any) -> Verdict:
    transaction.abort()
    return ACCEPT


@pytest.mark.parametrize("moment", ["mail", "recipient", "message"])
@pytest.mark.parametrize("wrong", [assigns, aborts])
def test_a_screen_cannot_lay_hands_on_the_transaction(moment: str, wrong: Callable[[Any], Verdict]) -> None:
    policy = OneVerdict(moment, ACCEPT)
    setattr(policy, moment, lambda transaction, *_: wrong(transaction))
    stage = Stage(policies=screening(policy))
    with capturedLogs() as events, pytest.raises(TemporaryError):
        stage.send(OUTSIDE, A, message=MESSAGE)
    assert any(f"policy=p0 session=s1 method={moment}" in formatEvent(event) for event in events)


def test_a_router_cannot_either() -> None:
    @implementer(IRouter)
    class Router:
        async def route(self, recipient: Address, transaction: Any) -> Any:
            return assigns(transaction)

    stage = Stage(routers=[Router()])
    with pytest.raises(TemporaryError, match="configuration"):
        stage.send(OUTSIDE, A)
