"""Who may send what to whom, and what is committed."""

from __future__ import annotations

from collections.abc import Sequence
from email import message_from_bytes
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from mailhub.delivery.names import LocalNames, NamesInFile
from mailhub.delivery.pipeline import Pipeline
from mailhub.delivery.screens import GuardedPolicy, Screening
from mailhub.delivery.transaction import Transaction
from mailhub.errors import (
    MailError,
    NoSuchUser,
    NotPermitted,
    OverQuota,
    PermanentError,
    StoreUnavailable,
    TemporaryError,
)
from mailhub.interfaces import Committed, Deposit, IPolicy, ITransactionView, Origin, Route, Screen, Verdict
from mailhub.keys import MESSAGE_SIZE
from mailhub.message.address import Address
from mailhub.message.aliases import AliasTable
from mailhub.message.envelope import Mail, Outcome, Recipient, ValidSince
from mailhub.testing.waiting import result_of
from tests.delivery.doubles import Commits, KnownAccounts, Table, environment
from tests.delivery.routers import standard_routing

DOMAINS = frozenset({"xx.example"})
OUTSIDE = Origin("smtp", "192.0.2.9", "s1", helo="client.example")
LOGGED_IN = Origin("submission", "192.0.2.9", "s2", secure=True, user="a@xx.example", submission=True)
LOCAL = Origin("lmtp", "", "s3", each_recipient=True)
CALLED = attrs.evolve(OUTSIDE, local="192.0.2.1")
A, B, FAR = Address("a", "xx.example"), Address("b", "xx.example"), Address("c", "yy.example")
FROM_A = Mail(A)
ALIASES = {"both@xx.example": ["a@xx.example", "b@xx.example"], "out@xx.example": ["c@yy.example"]}
FULL = Outcome.failed("Mailbox is full", status="5.2.2")


class Login:
    """A submitter that owns one address."""

    user = "a@xx.example"

    async def may_send_as(self, address: Address | None) -> bool:
        return address == A


@implementer(IPolicy)
class OneVerdict(Screen):
    """One verdict at one moment."""

    def __init__(self, moment: str, verdict: Verdict) -> None:
        setattr(self, moment, lambda *_: verdict)

    def begin(self, origin: Origin) -> OneVerdict:
        return self


def screening(*policies: IPolicy) -> Screening:
    guarded = [GuardedPolicy(f"p{number}", policy) for number, policy in enumerate(policies)]
    return Screening(guarded, Clock())


@attrs.define
class Stage:
    """A pipeline and what it works on."""

    store: Any = attrs.field(factory=lambda: KnownAccounts("a@xx.example", "b@xx.example"))
    queue: Any = None
    policies: Any = attrs.field(factory=lambda: Screening([], Clock()))
    routers: Any = ()
    message_size: int = MESSAGE_SIZE.default
    pipeline: Pipeline = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.queue = self.queue or Commits(self.store)
        names = LocalNames(NamesInFile(DOMAINS, AliasTable.parse(ALIASES, DOMAINS)))
        self.pipeline = Pipeline(
            hostname="mx.xx.example",
            names=names,
            environment=environment(),
            store=self.store,
            queue=self.queue,
            routing=standard_routing("mx.xx.example", names, self.store, {}, self.routers),
            policies=self.policies,
            message_size=self.message_size,
        )

    def begin(self, origin: Origin, *to: Address, size: int = 0) -> Transaction:
        transaction = result_of(self.pipeline.begin(origin, attrs.evolve(FROM_A, size=size)))
        for address in to:
            result_of(transaction.recipient(Recipient(address)))
        return transaction

    def ways(self, origin: Origin, to: Address) -> tuple[Route, ...]:
        return self.begin(origin, to)._accepted[0].routes

    def send(self, origin: Origin, *to: Address, message: bytes = b"Subject: s\r\n\r\nbody\r\n") -> Committed:
        transaction = self.begin(origin, *to)
        result_of(transaction.body().write(message))
        return result_of(transaction.commit())


def error_of(coroutine: Any) -> MailError:
    with pytest.raises(MailError) as caught:
        result_of(coroutine)
    return caught.value


# --- Who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "recipient", "kind", "status"),
    [
        (OUTSIDE, "c@yy.example", NotPermitted, "5.7.1"),
        (LOCAL, "c@yy.example", NotPermitted, "5.7.1"),
        (attrs.evolve(OUTSIDE, peer="127.0.0.1"), "c@yy.example", NotPermitted, "5.7.1"),
        (OUTSIDE, "c@[127.0.0.1]", NotPermitted, "5.7.1"),
        (CALLED, "a@[192.0.2.1]", NoSuchUser, "5.1.1"),
        (CALLED, "postmaster@[192.0.2.2]", NotPermitted, "5.7.1"),
        (OUTSIDE, "postmaster@[192.0.2.1]", NotPermitted, "5.7.1"),
        (attrs.evolve(LOGGED_IN, local="192.0.2.1"), "a@[192.0.2.1]", NoSuchUser, "5.1.1"),
        (OUTSIDE, "c%yy.example@xx.example", NoSuchUser, "5.1.1"),
        (OUTSIDE, "yy.example!c@xx.example", NoSuchUser, "5.1.1"),
        (OUTSIDE, '"c@yy.example"@xx.example', NoSuchUser, "5.1.1"),
        (OUTSIDE, "a@mx.xx.example", NotPermitted, "5.7.1"),
        (OUTSIDE, "nobody@xx.example", NoSuchUser, "5.1.1"),
        (LOGGED_IN, "nobody@xx.example", NoSuchUser, "5.1.1"),
    ],
)
def test_nobody_is_a_relay_for_strangers(origin: Origin, recipient: str, kind: type[Exception], status: str) -> None:
    error = error_of(Stage().begin(origin).recipient(Recipient(Address.parse(recipient))))
    assert (type(error), error.status) == (kind, status)


def test_local_mail_is_taken_from_anyone_and_a_login_may_write_to_anyone() -> None:
    stage = Stage()
    assert [r.agent for r in stage.ways(OUTSIDE, A)] == ["store"]
    assert [r.agent for r in stage.ways(OUTSIDE, Address("out", "xx.example"))] == ["smtp"]
    assert [r.agent for r in stage.ways(LOGGED_IN, FAR)] == ["smtp"]


def test_submission_needs_a_login_that_owns_the_sender() -> None:
    pipeline = Stage().pipeline
    login: Any = Login()
    assert error_of(pipeline.begin(attrs.evolve(LOGGED_IN, user=""), FROM_A)).status == "5.7.0"
    assert error_of(pipeline.begin(LOGGED_IN, Mail(B), login)).status == "5.7.1"
    result_of(pipeline.begin(LOGGED_IN, FROM_A, login))
    result_of(pipeline.begin(OUTSIDE, Mail(None)))


@pytest.mark.parametrize(
    ("said", "goes_on"),
    [
        (None, None),
        ("", ""),
        ("a@xx.example", "a@xx.example"),
        ("b@xx.example", ""),
        ("nobody", ""),
        ("a@xx.example\x80", ""),
    ],
)
def test_a_submitter_is_vouched_for_only_where_the_login_may_speak_for_it(
    said: str | None, goes_on: str | None
) -> None:
    pipeline = Stage().pipeline
    login: Any = Login()
    assert result_of(pipeline.begin(LOGGED_IN, attrs.evolve(FROM_A, auth=said), login)).mail.auth == goes_on
    assert not result_of(pipeline.begin(OUTSIDE, attrs.evolve(FROM_A, auth=said))).mail.auth


@pytest.mark.parametrize("origin", [OUTSIDE, LOCAL, CALLED, LOGGED_IN])
@pytest.mark.parametrize("recipient", ["a@xx.example", "B@XX.example"])
def test_an_account_that_is_known_is_taken_at_once_and_goes_the_same_way(origin: Origin, recipient: str) -> None:
    stage, to = Stage(), Recipient(Address.parse(recipient))
    transaction = stage.begin(origin)
    assert transaction.recipient_at_once(to)
    assert transaction.recipients == (to,)
    assert transaction._accepted[0].routes == stage.ways(origin, to.address)


@pytest.mark.parametrize(
    "recipient",
    [
        Recipient(Address.parse(text))
        for text in (
            "nobody@xx.example",
            "full@xx.example",
            "both@xx.example",
            "a+list@xx.example",
            "postmaster@xx.example",
            "c@yy.example",
            "a@mx.xx.example",
            "a@[192.0.2.1]",
            "c%yy.example@xx.example",
        )
    ]
    + [Recipient(A, rrvs=ValidSince(1)), Recipient(A, source_route=True)],
)
@pytest.mark.parametrize("origin", [CALLED, LOGGED_IN])
def test_of_all_others_somebody_is_asked(origin: Origin, recipient: Recipient) -> None:
    transaction = Stage(store=KnownAccounts("a@xx.example", "full@xx.example", full=["full@xx.example"])).begin(origin)
    assert not transaction.recipient_at_once(recipient)
    assert not transaction.recipients


def test_whoever_has_a_say_in_recipients_is_asked_about_each() -> None:
    screen = OneVerdict("recipient", Verdict("accept"))
    assert not Stage(policies=screening(screen)).begin(OUTSIDE).recipient_at_once(Recipient(A))
    assert not Stage(routers=[Table({})]).begin(OUTSIDE).recipient_at_once(Recipient(A))
    from_nobody = result_of(Stage().pipeline.begin(OUTSIDE, Mail(None)))
    assert from_nobody.recipient_at_once(Recipient(A))
    assert not from_nobody.recipient_at_once(Recipient(B))


def test_a_full_mailbox_is_refused_unless_the_message_has_somewhere_else_to_go() -> None:
    stage = Stage(KnownAccounts("a@xx.example", "b@xx.example", full=["a@xx.example"]))
    assert isinstance(error_of(stage.begin(OUTSIDE, size=10).recipient(Recipient(A))), OverQuota)
    assert len(stage.ways(OUTSIDE, Address("both", "xx.example"))) == 2


@pytest.mark.parametrize("step", ["hello", "mail", "recipient", "message"])
@pytest.mark.parametrize(("action", "kind"), [("reject", NotPermitted), ("defer", TemporaryError)])
def test_policies_are_obeyed_at_each_step(step: str, action: Any, kind: type[MailError]) -> None:
    stage = Stage(policies=screening(OneVerdict(step, Verdict(action, text="said the policy"))))
    with pytest.raises(kind, match="said the policy"):
        stage.send(OUTSIDE, A)
    assert stage.queue.submissions == []


def test_discarded_recipients_and_messages_are_accepted_and_gone() -> None:
    for step in ("recipient", "message"):
        stage = Stage(policies=screening(OneVerdict(step, Verdict("discard"))))
        committed = stage.send(OUTSIDE, A)
        assert committed.outcomes == (Outcome.delivered(),)
        assert len(committed.id) == 16, "the client is told what it is told of others"
        assert stage.queue.submissions == []


# --- What is committed ----------------------------------------------------------------------------------------------


def test_mailboxes_of_the_queues_own_store_are_filled_by_the_commit_and_the_rest_is_queued() -> None:
    stage = Stage()
    committed = stage.send(LOGGED_IN, A, FAR, Address("both", "xx.example"))
    plan = stage.queue.submissions[0][0].plan
    assert plan.deposits == (Deposit(A, "a@xx.example"), Deposit(B, "b@xx.example"))
    assert [(route.agent, route.recipient) for route in plan.routes] == [("smtp", FAR)]
    assert committed.id == "id1"


def test_what_leaves_is_looked_at_for_what_it_needs() -> None:
    stage = Stage()
    stage.send(LOGGED_IN, A, FAR)
    stage.send(LOGGED_IN, A)
    assert [submission.needs for submission, _ in stage.queue.submissions] == [0, None]


def test_mailboxes_of_a_foreign_store_are_filled_by_the_queue() -> None:
    stage = Stage(queue=Commits(store=object()))
    stage.send(OUTSIDE, A)
    plan = stage.queue.submissions[0][0].plan
    assert plan.deposits == ()
    assert [(route.agent, route.target) for route in plan.routes] == [("store", "a@xx.example")]


def test_return_path_and_received_are_on_top_and_only_the_first_is_not_relayed() -> None:
    stage = Stage()
    stage.send(OUTSIDE, A, message=b"Subject: s\r\nBcc: x@y\r\n\r\nbody\r\n")
    octets = stage.queue.octets[0]
    offset = stage.queue.submissions[0][0].relay_offset
    assert octets[:offset] == b"Return-Path: <a@xx.example>\r\n"
    assert octets[offset:].startswith(b"Received: from client.example ([192.0.2.9])")
    assert b"for <a@xx.example>" in octets
    assert octets.endswith(b"Subject: s\r\nBcc: x@y\r\n\r\nbody\r\n")
    stage.send(OUTSIDE, A, B)
    assert b"for <" not in stage.queue.octets[1]


def test_submission_mends_the_header_and_nothing_else_does() -> None:
    stage = Stage()
    stage.send(LOGGED_IN, FAR, message=b"Subject: s\r\nBcc: x@y\r\n\r\nbody\r\n")
    mended = message_from_bytes(stage.queue.octets[0])
    assert mended["Date"] == "Thu, 1 Jan 1970 00:00:00 +0000"
    assert mended["Message-ID"].endswith("@mx.xx.example>")
    assert mended["Bcc"] is None
    assert "with ESMTPSA" in mended["Received"]
    stage.send(OUTSIDE, A)
    assert message_from_bytes(stage.queue.octets[1])["Date"] is None


def test_a_message_that_goes_round_is_refused() -> None:
    hops = b"Received: from a by b; now\r\n"
    stage = Stage()
    stage.send(OUTSIDE, A, message=hops * 50 + b"\r\n")
    with pytest.raises(PermanentError) as caught:
        stage.send(OUTSIDE, A, message=hops * 51 + b"\r\n")
    assert caught.value.status == "5.4.6"


def test_the_body_is_given_up_when_nothing_is_committed() -> None:
    stage = Stage(policies=screening(OneVerdict("message", Verdict("reject"))))
    transaction = stage.begin(OUTSIDE, A)
    transaction.body()
    error_of(transaction.commit())
    (writer,) = stage.queue.writers
    assert writer.aborted


# --- Transactions ---------------------------------------------------------------------------------------------------


def test_calls_out_of_order_are_the_callers_mistake() -> None:
    transaction = Stage().begin(OUTSIDE)
    with pytest.raises(RuntimeError, match="without recipients"):
        transaction.body()
    with pytest.raises(RuntimeError, match=r"commit\(\) out of order: recipients are named"):
        result_of(transaction.commit())
    result_of(transaction.recipient(Recipient(A)))
    transaction.body()
    for call in (transaction.body, lambda: result_of(transaction.recipient(Recipient(B)))):
        with pytest.raises(RuntimeError, match="out of order: octets come in"):
            call()
    result_of(transaction.commit())
    with pytest.raises(RuntimeError, match="out of order: it is over"):
        result_of(transaction.commit())
    assert transaction.recipients == (Recipient(A),)


@pytest.mark.parametrize("opened", [False, True])
def test_an_aborted_transaction_leaves_nothing(opened: bool) -> None:
    stage = Stage()
    transaction = stage.begin(OUTSIDE, A)
    if opened:
        transaction.body()
    transaction.abort()
    transaction.abort()
    assert [writer.aborted for writer in stage.queue.writers] == [True] * opened
    with pytest.raises(RuntimeError, match="it is over"):
        result_of(transaction.commit())
    assert stage.queue.submissions == []


def test_what_a_commit_has_begun_goes_on_when_the_client_is_gone() -> None:
    stage = Stage()
    stage.queue.waiting = Deferred()
    transaction = stage.begin(OUTSIDE, A)
    transaction.body()
    committing = Deferred.fromCoroutine(transaction.commit())
    done: list[Any] = []
    committing.addCallback(done.append)
    transaction.abort()
    stage.queue.waiting.callback(None)
    assert done[0].id == "id1"
    assert len(stage.queue.submissions) == 1


def test_a_body_that_cannot_be_opened_may_be_asked_for_again() -> None:
    stage = Stage()
    transaction = stage.begin(OUTSIDE, A)
    stage.queue.errors = [StoreUnavailable()]
    with pytest.raises(StoreUnavailable):
        transaction.body()
    transaction.body()
    assert result_of(transaction.commit()).id == "id1"


@implementer(IPolicy)
class Counted(OneVerdict):
    """Counts the conversations that have ended."""

    ended = 0

    def closed(self) -> None:
        self.ended += 1


def test_a_conversation_of_one_message_ends_with_it() -> None:
    policy = Counted("mail", Verdict())
    stage = Stage(policies=screening(policy))
    stage.send(OUTSIDE, A)
    assert policy.ended == 1
    transaction = stage.begin(OUTSIDE, A)
    assert policy.ended == 1
    for _ in range(2):
        transaction.abort()
    assert policy.ended == 2
    stage.queue.refused = {"a@xx.example": FULL}
    error_of(_committed(stage))
    assert policy.ended == 3
    policy = Counted("mail", Verdict("reject"))
    error_of(Stage(policies=screening(policy)).pipeline.begin(OUTSIDE, FROM_A))
    assert policy.ended == 1


async def _committed(stage: Stage) -> Committed:
    transaction = await stage.pipeline.begin(OUTSIDE, FROM_A)
    await transaction.recipient(Recipient(A))
    transaction.body()
    return await transaction.commit()


def test_a_refused_recipient_is_none() -> None:
    transaction = Stage().begin(OUTSIDE, A)
    error_of(transaction.recipient(Recipient(FAR)))
    assert transaction.recipients == (Recipient(A),)


def test_a_router_sees_who_sends_and_what_was_said() -> None:
    seen: list[Any] = []

    class Curious:
        async def route(self, recipient: Address, transaction: ITransactionView) -> Sequence[Route] | None:
            seen.append((transaction.origin.user, transaction.mail, tuple(transaction.recipients)))
            return None

    stage = Stage(routers=[Curious()])
    transaction = result_of(stage.pipeline.begin(LOGGED_IN, Mail(A, priority=3)))
    for address in (A, FAR):
        result_of(transaction.recipient(Recipient(address)))
    mail = Mail(A, priority=3)
    assert seen == [("a@xx.example", mail, ()), ("a@xx.example", mail, (Recipient(A),))]


# --- Deposits that the store refuses --------------------------------------------------------------------------------


def refusing(*users: str) -> Stage:
    store: Any = KnownAccounts("a@xx.example", "b@xx.example")
    return Stage(store, Commits(store, dict.fromkeys(users, FULL)))


def test_smtp_refuses_when_no_recipient_was_taken() -> None:
    stage = refusing("a@xx.example")
    with pytest.raises(PermanentError) as caught:
        stage.send(OUTSIDE, A)
    assert (caught.value.status, caught.value.text) == ("5.2.2", "Mailbox is full")


def test_smtp_accepts_when_one_was_taken_and_the_runner_tells_of_the_other() -> None:
    stage = refusing("a@xx.example")
    committed = stage.send(OUTSIDE, A, B)
    assert committed.outcomes == (Outcome.delivered(),) * 2
    assert stage.queue.submissions[0][1] == "bounce"


def test_lmtp_tells_of_each_recipient() -> None:
    stage = refusing("a@xx.example")
    committed = stage.send(LOCAL, A, B)
    assert committed.outcomes == (FULL, Outcome.delivered())
    assert stage.queue.submissions[0][1] == "reply"
    assert refusing("a@xx.example").send(LOCAL, A).outcomes == (FULL,)


def test_lmtp_with_a_list_leaves_the_refusals_to_dsns() -> None:
    both = Address("both", "xx.example")
    stage = refusing("a@xx.example")
    assert stage.send(LOCAL, both).outcomes == (Outcome.delivered(),)
    assert stage.queue.submissions[0][1] == "bounce"
    stage = refusing("a@xx.example", "b@xx.example")
    assert stage.send(LOCAL, both).outcomes == (FULL,)


def test_every_recipient_has_one_line_with_message_and_session() -> None:
    stage = refusing("b@xx.example")
    with capturedLogs() as events:
        stage.send(LOGGED_IN, A, B, FAR)
    lines = [formatEvent(event) for event in events]
    assert [line.partition(":")[0] for line in lines] == ["delivered", "refused", "queued"]
    assert all("id=id1 session=s2 from=<a@xx.example> size=" in line for line in lines)
    assert "to=<c@yy.example> agent=smtp" in lines[2]
    assert all(" peer=[192.0.2.9] helo= tls= user=a@xx.example" in line for line in lines)


@pytest.mark.parametrize(
    ("local", "literal"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("192.0.2.1", "[IPv6:::ffff:192.0.2.1]"),
        ("192.0.2.1", "[IPv6:::FFFF:C000:201]"),
        ("2001:db8::1%eth0", "[IPv6:2001:DB8:0::1]"),
    ],
)
def test_the_postmaster_of_our_address_is_that_of_our_host(local: str, literal: str) -> None:
    stage = Stage(store=KnownAccounts("postmaster@xx.example"))
    origin = attrs.evolve(OUTSIDE, local=local)
    named, hosts = Address.parse(f"Postmaster@{literal}"), Address("postmaster", "mx.xx.example")
    transaction = stage.begin(origin, named)
    assert transaction.recipients == (Recipient(named),)
    assert transaction._accepted[0].routes == stage.ways(origin, hosts)


def test_the_line_of_a_message_says_who_brought_it() -> None:
    origin = attrs.evolve(OUTSIDE, helo="my pc", tls="TLSv1.3/TLS_AES_256_GCM_SHA384")
    with capturedLogs() as events:
        Stage().send(origin, A)
    (line,) = [formatEvent(event) for event in events]
    assert line.endswith(r"peer=[192.0.2.9] helo=my\x20pc tls=TLSv1.3/TLS_AES_256_GCM_SHA384 user=")


def test_a_message_for_which_the_disk_has_no_room_is_refused_at_mail() -> None:
    stage = Stage()
    stage.queue.free = 1000
    assert error_of(stage.pipeline.begin(OUTSIDE, attrs.evolve(FROM_A, size=1001))).status == "4.3.1"
    stage.begin(OUTSIDE, size=1000)
