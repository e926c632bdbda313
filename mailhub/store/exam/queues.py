"""The exams of the queue, and of the tables of accounts and of names."""

from __future__ import annotations

from typing import Any

import attrs

from mailhub.errors import MailboxExists, MessageGone, NoSuchMailbox, NoSuchUser, OverQuota
from mailhub.interfaces import (
    AT_ONCE,
    STORE,
    Account,
    Deposit,
    IAccounts,
    IDatabase,
    IMailAccount,
    IMailbox,
    IQueue,
    KeptNames,
    Plan,
    Receipt,
    Refusals,
    ReversePath,
    Route,
    Settlement,
    Submission,
)
from mailhub.message.address import Address
from mailhub.message.digest import digest
from mailhub.message.envelope import (
    DeliverBy,
    Hold,
    Mail,
    OriginalRecipient,
    Outcome,
    Recipient,
    Source,
    State,
    ValidSince,
)
from mailhub.message.record import Change, MailboxGone
from mailhub.store.exam.rig import OTHER, SEEN_ONLY, USER, Exam, make_body, message, question, read_message, uids

NOW = 1_700_000_000  # seconds since the epoch
LATER = NOW + 300
TRACE = b"Return-Path: <a@xx.example>\r\n"
FROM = Address("a", "xx.example")


def smtp(local: str, target: str = "") -> Route:
    """A route to another host."""
    return Route("smtp", Address(local, "zz.example"), target, ("list@xx.example", f"{local}@xx.example"))


def to(user: str, mailbox: str = "INBOX", **more: Any) -> Deposit:
    """A deposit for an account."""
    return Deposit(Address.parse(user), user, mailbox, **more)


class DatabaseExam(Exam):
    """What the exams of an `IDatabase` begin with."""

    database: IDatabase

    async def open_database(self) -> IDatabase:
        """A new, empty database that is started."""
        raise AssertionError("an exam needs open_database()")

    async def _open(self) -> tuple[IQueue, IAccounts]:
        self.database = await self.open_database()
        return self.database.queue, self.database.accounts


class QueueExam(DatabaseExam):
    """`IDatabase.queue`, with the mailboxes that share its transactions. Its clock stands at NOW."""

    @question
    async def test_it_deposits_into_its_own_store_and_no_other(self) -> None:
        queue, _ = await self._open()
        assert queue.deposits_into(self.database.store)
        assert not queue.deposits_into(None)
        assert not queue.deposits_into(object())

    async def _submit(
        self,
        queue: IQueue,
        plan: Plan,
        octets: bytes = TRACE + message(1),
        mail: Mail | None = None,
        refusals: Refusals = "bounce",
        **more: Any,
    ) -> Receipt:
        body = await make_body(queue.new_body, octets)
        return await queue.submit(Submission(mail or Mail(FROM), plan, body, len(TRACE), **more), refusals)

    async def _inbox_of(self, queue: IQueue, user: str) -> IMailbox:
        account: IMailAccount = await self.database.store.account(user)
        return await account.mailbox("INBOX")

    @question
    async def test_a_submission_that_comes_again_adds_nothing(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        plan = Plan((to(USER), to(OTHER)), (smtp("q"),))
        name = queue.new_delivery_id()
        assert name != queue.new_delivery_id()
        first = await self._submit(queue, plan, delivery_id=name)
        assert (first.id, sorted(first.refused)) == (name, [1])
        waiting = list(await queue.messages())
        await accounts.add(OTHER, "")  # whatever has changed since then
        assert await self._submit(queue, plan, delivery_id=name) == first
        assert (list(await queue.messages()), len(await uids(await self._inbox_of(queue, USER)))) == (waiting, 1)
        assert await uids(await self._inbox_of(queue, OTHER)) == []
        assert (await self._submit(queue, plan)).id != name
        assert len(await uids(await self._inbox_of(queue, USER))) == 2

    @question
    async def test_a_submission_comes_again_after_all_of_it_is_gone(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        inbox = await self._inbox_of(queue, USER)
        for plan in (Plan((to(USER),)), Plan(routes=(smtp("q"),))):
            name = queue.new_delivery_id()
            first = await self._submit(queue, plan, delivery_id=name)
            await inbox.expunge(deleted_only=False)
            for queued in await queue.messages():
                done = [Settlement(row.id, Outcome(State.DELIVERED, "2.0.0")) for row in queued.recipients]
                await queue.settle(queued.id, done)
            assert await self._submit(queue, plan, delivery_id=name) == first
            assert (list(await queue.messages()), await uids(inbox)) == ([], [])

    @question
    async def test_a_submission_of_which_nothing_was_kept_is_decided_anew(self) -> None:
        queue, accounts = await self._open()
        name = queue.new_delivery_id()
        assert sorted((await self._submit(queue, Plan((to(USER),)), delivery_id=name)).refused) == [0]
        await accounts.add(USER, "")
        assert (await self._submit(queue, Plan((to(USER),)), delivery_id=name)).refused == {}
        assert len(await uids(await self._inbox_of(queue, USER))) == 1

    @question
    async def test_only_delivery_ids_are_delivery_ids(self) -> None:
        queue, _ = await self._open()
        try:
            await self._submit(queue, Plan(routes=(smtp("q"),)), delivery_id="mine")
        except ValueError:
            assert list(await queue.messages()) == []
            return
        raise AssertionError("ValueError was not raised")

    @question
    async def test_a_route_waits_until_it_is_settled(self) -> None:
        queue, _ = await self._open()
        assert (await queue.next_due(), list(await queue.due(LATER, 10))) == (None, [])
        receipt = await self._submit(queue, Plan(routes=(smtp("q", "relay.example:587"), smtp("r"))))
        assert receipt.refused == {}
        assert await queue.next_due() == NOW
        assert list(await queue.due(NOW - 1, 10)) == []
        (queued,) = await queue.due(NOW, 10)
        assert (queued.id, queued.queued_at, queued.size) == (receipt.id, NOW, len(message(1)))
        assert [row.route for row in queued.recipients] == [smtp("q", "relay.example:587"), smtp("r")]
        assert [(row.attempts, row.due, row.last) for row in queued.recipients] == [(0, NOW, None)] * 2
        assert list(await queue.messages()) == [queued]
        reader = await queue.open(receipt.id)
        assert (reader.size, await reader.read()) == (len(message(1)), message(1))
        assert await reader.read(3, 4) == message(1)[3:7]
        reader.close()

    @question
    async def test_the_envelope_is_kept(self) -> None:
        queue, _ = await self._open()
        mails = (
            Mail(None),
            Mail(Address("two words", "xx.example"), "8BITMIME", smtputf8=True),
            Mail(Address("jürgen", "bücher.example"), smtputf8=True),
        )
        for mail in mails:
            receipt = await self._submit(queue, Plan(routes=(smtp("o'q\u00fc"),)), mail=mail)
            (queued,) = [queued for queued in await queue.messages() if queued.id == receipt.id]
            assert queued.mail == mail
            assert queued.recipients[0].route == smtp("o'q\u00fc")

    @question
    async def test_what_mail_and_rcpt_said_is_kept(self) -> None:
        queue, _ = await self._open()
        mail = Mail(
            FROM,
            ret="HDRS",
            envid="a b",
            requiretls=True,
            by=DeliverBy(-5, "N"),
            hold=Hold(9, "FOR"),
            priority=-3,
            auth="",
        )
        originals = (
            Recipient(Address("a list", "xx.example"), frozenset({"NEVER"}), OriginalRecipient("rfc822", "x y@zz")),
            Recipient(Address("jürgen", "xx.example"), frozenset({"SUCCESS", "DELAY"}), None, ValidSince(1, "C")),
        )
        plain = Route("smtp", Address("q", "zz.example"), originals=(Recipient(Address("q", "zz.example")),))
        routes = (attrs.evolve(smtp("r"), originals=originals), plain, smtp("s"))
        await self._submit(queue, Plan(routes=routes), mail=mail, needs=5)
        (queued,) = await queue.messages()
        assert (queued.mail, queued.needs) == (mail, 5)
        assert [row.route.originals for row in queued.recipients] == [route.originals for route in routes]

    @question
    async def test_a_route_keeps_what_is_its_own(self) -> None:
        queue, _ = await self._open()
        route = Route(STORE, Address("u", "xx.example"), "u@xx.example")
        routes = (
            route,
            attrs.evolve(route, reverse_path=ReversePath(None)),
            attrs.evolve(route, reverse_path=ReversePath(Address("two words", "bücher.example"))),
            attrs.evolve(route, mailbox="Größe/x", flags=SEEN_ONLY),
        )
        await self._submit(queue, Plan(routes=routes))
        (queued,) = await queue.messages()
        assert tuple(row.route for row in queued.recipients) == routes

    @question
    async def test_nothing_is_tried_before_its_time(self) -> None:
        queue, _ = await self._open()
        await self._submit(queue, Plan(routes=(smtp("q"),)), not_before=LATER)
        await self._submit(queue, Plan(routes=(smtp("r"),)), not_before=NOW - 1)
        assert [queued.recipients[0].due for queued in await queue.messages()] == [LATER, NOW]
        # Nor is it taken for what a clock that was set back has left in the future.
        (now,) = await queue.due(NOW, 10, latest=NOW + 1)
        assert str(now.recipients[0].route.recipient).startswith("r@")
        assert len(await queue.due(LATER, 10)) == 2

    @question
    async def test_a_mailbox_that_is_gone_leaves_its_mail_to_the_inbox_unless_it_is_a_usual_one(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        account: IMailAccount = await self.database.store.account(USER)
        await account.delete("Junk")
        receipt = await self._submit(queue, Plan((to(USER, "Junk"), to(USER, "Lists/gone"))))
        assert receipt.refused == {}
        for name in ("INBOX", "Junk"):
            assert await uids(await account.mailbox(name)) == [1]
        assert [info.special_use for info in await account.mailboxes() if info.name == "Junk"] == ["\\Junk"]

    @question
    async def test_messages_that_belong_together_are_committed_together(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        await accounts.add(OTHER, "", quota=1)
        bodies = [await make_body(queue.new_body, TRACE + message(number)) for number in (1, 2, 3)]
        plans = (Plan((to(USER),)), Plan((to(OTHER), to(USER, "Junk"))), Plan(routes=(smtp("reply"),)))
        first, *also = [
            Submission(Mail(FROM), plan, body, len(TRACE)) for plan, body in zip(plans, bodies, strict=True)
        ]
        receipt = await queue.submit(first, "reply", also)
        assert [sorted(each.refused) for each in (receipt, *receipt.also)] == [[], [0], []]
        assert await read_message(await self._inbox_of(queue, USER), 1) == TRACE + message(1)
        junk = await (await self.database.store.account(USER)).mailbox("Junk")
        assert await read_message(junk, 1) == TRACE + message(2)
        assert [queued.id for queued in await queue.messages()] == [receipt.also[1].id]

    @question
    async def test_ids_are_words_for_a_log(self) -> None:
        queue, _ = await self._open()
        ids = {(await self._submit(queue, Plan(routes=(smtp("q"),)))).id for _ in range(20)}
        assert len(ids) == 20
        assert all(name.isascii() and name.isalnum() and 8 <= len(name) <= 32 for name in ids)

    @question
    async def test_a_large_body_is_shared_by_mailboxes_and_queue(self) -> None:
        queue, accounts = await self._open()
        octets = TRACE + message(1, 200_000)
        for user in (USER, OTHER):
            await accounts.add(user, "")
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER)), (smtp("q"),)), octets)
        inbox = await self._inbox_of(queue, USER)
        await accounts.remove(OTHER)
        assert await read_message(inbox, 1) == octets
        await inbox.expunge(deleted_only=False)
        reader = await queue.open(receipt.id)
        assert await reader.read() == octets[len(TRACE) :]
        reader.close()

    @question
    async def test_a_head_that_is_given_last_comes_first(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        bodies = (message(1)[20:], message(2, 200_000)[20:], message(3, 200_000)[20:])
        heads = (b"X-Late: 1\r\n" + message(1)[:20], b"X-Late: 2\r\n" + message(2, 200_000)[:20], b"")
        for head, octets in zip(heads, bodies, strict=True):
            writer = queue.new_body(len(octets), 5000)
            for start in range(0, len(octets), 50_000):
                await writer.write(octets[start : start + 50_000])
                reader = await writer.written()
                assert await reader.read() == octets[: start + 50_000]
                assert await reader.read(7, 9) == octets[7:16]
                reader.close()
            body = await writer.finish(head)
            assert body.size == len(head + octets)
            reader = body.open()
            assert await reader.read() == head + octets
            reader.close()
            await queue.submit(Submission(Mail(FROM), Plan((to(USER),), (smtp("q"),)), body, 3))
        inbox = await self._inbox_of(queue, USER)
        found = await inbox.digests([1, 2, 3], ("header_size", "subject", "parts"))
        for uid, head, octets in zip((1, 2, 3), heads, bodies, strict=True):
            assert await read_message(inbox, uid) == head + octets
            expected = digest(head + octets)
            assert found["header_size"][uid] == expected.header_size
            assert (found["subject"][uid], found["parts"][uid]) == (expected.subject, expected.parts)
        for queued, head, octets in zip(await queue.messages(), heads, bodies, strict=True):
            reader = await queue.open(queued.id)
            assert (reader.size, await reader.read()) == (queued.size, (head + octets)[3:])
            assert await reader.read(5, 9) == (head + octets)[8:17]
            reader.close()

    @question
    async def test_deposits_are_in_their_mailboxes_at_once(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        inbox = await self._inbox_of(queue, USER)
        heard: list[Change] = []
        inbox.watch(heard.append)
        await self._submit(queue, Plan((to(USER), to(USER, "Junk", flags=SEEN_ONLY))))
        (entry,) = await inbox.entries()
        assert (entry.internal_date, len(heard)) == (NOW, 1)
        assert await read_message(inbox, entry.uid) == TRACE + message(1)
        junk = await (await self.database.store.account(USER)).mailbox("Junk")
        assert [entry.flags for entry in await junk.entries()] == [SEEN_ONLY]
        assert (list(await queue.messages()), await queue.next_due()) == ([], None)

    @question
    async def test_nothing_is_kept_when_everybody_is_refused(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "", quota=10)
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER))))
        assert {index: outcome.status for index, outcome in receipt.refused.items()} == {0: "5.2.2", 1: "5.1.1"}
        assert all(outcome.state is State.FAILED and outcome.reply for outcome in receipt.refused.values())
        assert (list(await queue.messages()), await uids(await self._inbox_of(queue, USER))) == ([], [])

    @question
    async def test_a_refused_deposit_among_others_becomes_a_dsn_that_is_due(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER), to(OTHER, "Junk"))))
        assert set(receipt.refused) == {1, 2}
        (queued,) = await queue.due(NOW, 10)
        route = Route("store", Address.parse(OTHER), OTHER, mailbox="INBOX")
        assert [row.route for row in queued.recipients] == [route, attrs.evolve(route, mailbox="Junk")]
        assert [row.last for row in queued.recipients] == [receipt.refused[1], receipt.refused[2]]
        assert len(await uids(await self._inbox_of(queue, USER))) == 1

    @question
    async def test_a_refused_deposit_is_only_told_when_the_client_hears_it(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        receipt = await self._submit(queue, Plan((to(USER), to(OTHER))), refusals="reply")
        assert list(receipt.refused) == [1]
        assert list(await queue.messages()) == []

    @question
    async def test_outcomes_are_recorded_for_each_recipient(self) -> None:
        queue, _ = await self._open()
        receipt = await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"), smtp("s"))))
        (queued,) = await queue.due(NOW, 10)
        first, second, third = (row.id for row in queued.recipients)
        assert [row.route.via for row in queued.recipients] == [smtp(name).via for name in "qrs"]
        delayed = Outcome.delayed("busy \udc80", status="4.2.1", remote="mx.example", source=Source.REMOTE)
        settled = [
            Settlement(first, Outcome.delivered()),
            Settlement(second, delayed, LATER),
            Settlement(third, Outcome.failed("no")),
            Settlement(third + 1000, Outcome.delivered()),
        ]
        await queue.settle(receipt.id, settled)
        await queue.settle("no such message", settled)
        (queued,) = await queue.messages()
        (row,) = queued.recipients
        assert (row.id, row.attempts, row.due) == (second, 1, LATER)
        assert row.last is not None
        assert (row.last.state, row.last.status, row.last.remote) == (State.DELAYED, "4.2.1", "mx.example")
        assert row.last.source is Source.REMOTE
        assert row.last.reply.startswith("busy ")
        assert (list(await queue.due(LATER - 1, 10)), await queue.next_due()) == ([], LATER)
        await queue.settle(receipt.id, [Settlement(second, Outcome.delayed("again"), LATER + 1)])
        ((row,),) = [queued.recipients for queued in await queue.due(LATER + 1, 10)]
        assert row.attempts == 2
        await queue.settle(receipt.id, [Settlement(second, Outcome.delivered())])
        assert list(await queue.messages()) == []
        await self.refuses(MessageGone, queue.open(receipt.id))

    @question
    async def test_reports_are_committed_with_the_outcomes(self) -> None:
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        receipt = await self._submit(queue, Plan(routes=(smtp("q"),)))
        ((row,),) = [queued.recipients for queued in await queue.due(NOW, 10)]
        reports = []
        for plan in (Plan((to(USER),)), Plan((to(OTHER),)), Plan(routes=(smtp("sender"),))):
            body = await make_body(queue.new_body, TRACE + message(7))
            reports.append(Submission(Mail(None), plan, body, len(TRACE)))
        await queue.settle(receipt.id, [Settlement(row.id, Outcome.failed("no"))], reports)
        inbox = await self._inbox_of(queue, USER)
        assert await read_message(inbox, (await uids(inbox))[0]) == TRACE + message(7)
        (queued,) = await queue.messages()  # the report for OTHER, who is not there, is dropped
        assert (queued.mail, queued.recipients[0].route) == (Mail(None), smtp("sender"))

    @question
    async def test_nobody_is_told_twice(self) -> None:
        """A caller that has lost the answer settles again, with reports made anew."""
        queue, accounts = await self._open()
        await accounts.add(USER, "")
        receipt = await self._submit(queue, Plan(routes=(smtp("q"),)))
        ((row,),) = [queued.recipients for queued in await queue.due(NOW, 10)]
        for _ in range(2):
            body = await make_body(queue.new_body, TRACE + message(7))
            report = Submission(Mail(None), Plan((to(USER),)), body, len(TRACE))
            await queue.settle(receipt.id, [Settlement(row.id, Outcome.failed("no"))], [report])
            body.discard()
        assert len(await uids(await self._inbox_of(queue, USER))) == 1

    @question
    async def test_due_gives_the_oldest_first_and_only_what_is_due(self) -> None:
        queue, _ = await self._open()
        ids = [(await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))).id for _ in range(4)]
        rows = {queued.id: queued.recipients for queued in await queue.messages()}
        for number, (message_id, wait) in enumerate(zip(ids, (50, 10, 30, 20), strict=True)):
            first, second = rows[message_id]
            far = Settlement(second.id, Outcome.delayed("later"), LATER + number)
            await queue.settle(message_id, [Settlement(first.id, Outcome.delayed("busy"), NOW + wait), far])
        order = [ids[1], ids[3], ids[2], ids[0]]
        assert [queued.id for queued in await queue.due(NOW + 60, 10)] == order
        assert [queued.id for queued in await queue.due(NOW + 60, 2)] == order[:2]
        assert [queued.id for queued in await queue.due(NOW + 60, 2, [order[0], "x"])] == order[1:3]
        assert [queued.id for queued in await queue.due(NOW + 20, 10)] == order[:2]
        assert {len(queued.recipients) for queued in await queue.due(NOW + 60, 10)} == {1}
        assert await queue.next_due() == NOW + 10
        assert len(await queue.messages(3)) == 3
        # After `latest` nothing can be due but where the clock was set back.
        assert [queued.id for queued in await queue.due(NOW + 20, 10, latest=NOW + 25)] == order
        assert [queued.id for queued in await queue.due(NOW + 20, 3, latest=NOW + 25)] == order[:3]
        (last,) = await queue.due(NOW, 10, ids[:3], latest=LATER)
        assert [row.due for row in last.recipients] == [LATER + 3]

    @question
    async def test_the_operator_retries_and_removes(self) -> None:
        queue, _ = await self._open()
        ids = [(await self._submit(queue, Plan(routes=(smtp("q"), smtp("r"))))).id for _ in range(3)]
        for queued in await queue.messages():
            delays = [Settlement(row.id, Outcome.delayed("busy"), LATER) for row in queued.recipients]
            await queue.settle(queued.id, delays)
        assert list(await queue.due(NOW, 10)) == []
        assert await queue.retry([ids[1], "unknown"]) == 1
        assert [queued.id for queued in await queue.due(NOW, 10)] == [ids[1]]
        assert await queue.retry([]) == 3
        assert {row.due for queued in await queue.due(NOW, 10) for row in queued.recipients} == {AT_ONCE}
        assert len(await queue.due(NOW, 10)) == 3
        assert await queue.remove([ids[0], ids[2], "unknown"]) == 2
        assert await queue.remove([]) == 0
        assert [queued.id for queued in await queue.messages()] == [ids[1]]
        await self.refuses(MessageGone, queue.open(ids[0]))


class AccountsExam(DatabaseExam):
    """`IDatabase.accounts`, with the store of the same database."""

    @question
    async def test_accounts_are_added_found_and_listed(self) -> None:
        _, accounts = await self._open()
        assert (await accounts.find(USER), list(await accounts.all())) == (None, [])
        await accounts.add(OTHER, "hash c", quota=1000)
        await accounts.add(USER, "hash b")
        assert await accounts.find(USER) == Account(USER, "hash b", 0)
        assert list(await accounts.all()) == [Account(USER, "hash b", 0), Account(OTHER, "hash c", 1000)]
        await self.refuses(MailboxExists, accounts.add(USER, "other"))
        await accounts.set_password(USER, "new")
        assert await accounts.find(USER) == Account(USER, "new", 0)

    @question
    async def test_an_account_goes_with_all_its_mail(self) -> None:
        _, accounts = await self._open()
        await accounts.add(USER, "")
        account = await self.database.store.account(USER)
        inbox = await account.mailbox("INBOX")
        heard: list[Change] = []
        inbox.watch(heard.append)
        await inbox.append(await make_body(account.new_body, message(1, 200_000)), SEEN_ONLY, NOW)
        await accounts.remove(USER)
        assert heard[-1:] == [MailboxGone()]
        assert (await accounts.find(USER), await self.database.store.exists(USER)) == (None, False)
        for call in (account.mailboxes(), account.quota(), account.create("a"), account.subscribe("a", True)):
            await self.refuses(NoSuchUser, call)
        for other in (account.mailbox("INBOX"), inbox.status(), inbox.entries(), account.rename("Sent", "a")):
            await self.refuses(NoSuchMailbox, other)
        await accounts.add(USER, "again")
        again = await (await self.database.store.account(USER)).mailbox("INBOX")
        assert await uids(again) == []
        assert again.uid_validity > inbox.uid_validity

    @question
    async def test_unknown_accounts_are_told(self) -> None:
        _, accounts = await self._open()
        await self.refuses(NoSuchUser, accounts.remove(USER))
        await self.refuses(NoSuchUser, accounts.set_password(USER, "x"))
        await self.refuses(NoSuchUser, accounts.set_enabled(USER, False))
        await self.refuses(NoSuchUser, accounts.set_quota(USER, 1))

    @question
    async def test_disabling_keeps_all_and_a_quota_counts_at_once(self) -> None:
        _, accounts = await self._open()
        await accounts.add(USER, "hash")
        await self.database.store.check_quota(USER, 10)
        await accounts.set_enabled(USER, False)
        await accounts.set_quota(USER, 9)
        assert await accounts.find(USER) == Account(USER, "hash", 9, enabled=False)
        assert await self.database.store.exists(USER)
        await self.refuses(OverQuota, self.database.store.check_quota(USER, 10))
        await accounts.set_enabled(USER, True)
        await accounts.set_quota(USER, 0)
        assert await accounts.find(USER) == Account(USER, "hash", 0)
        await self.database.store.check_quota(USER, 10)

    @question
    async def test_whose_login_has_changed_is_told(self) -> None:
        _, accounts = await self._open()
        for user in (USER, OTHER):
            await accounts.add(user, "hash")
        before, _ = await accounts.changed(0)
        assert await accounts.changed(before) == (before, [])
        await accounts.set_password(USER, "new")
        await accounts.set_quota(OTHER, 1)
        first, whose = await accounts.changed(before)
        assert (first > before, list(whose)) == (True, [USER])
        await accounts.set_enabled(OTHER, False)
        await accounts.remove(USER)
        last, whose = await accounts.changed(first)
        assert (last > first, list(whose)) == (True, [OTHER, USER])


class NamesExam(DatabaseExam):
    """`IDatabase.names`."""

    @question
    async def test_names_are_kept_until_they_are_taken_away(self) -> None:
        await self._open()
        names = self.database.names
        assert await names.kept() == KeptNames()
        assert [await names.add_domain(name) for name in ("xx.example", "xx.example", "yy.example")] == [
            True,
            False,
            True,
        ]
        assert list(await names.add_alias("all@xx.example", ["b@xx.example", "a@xx.example"])) == [
            "b@xx.example",
            "a@xx.example",
        ]
        assert list(await names.add_alias("all@xx.example", ["a@xx.example", "c@xx.example"])) == ["c@xx.example"]
        kept = await names.kept()
        assert kept is not None
        assert kept.domains == {"xx.example", "yy.example"}
        assert kept.aliases == {"all@xx.example": ("b@xx.example", "a@xx.example", "c@xx.example")}
        assert list(await names.remove_alias("all@xx.example", ["b@xx.example", "d@xx.example"])) == ["b@xx.example"]
        assert list(await names.remove_alias("all@xx.example")) == ["a@xx.example", "c@xx.example"]
        assert [await names.remove_domain(name) for name in ("xx.example", "zz.example")] == [True, False]
        kept = await names.kept()
        assert kept is not None
        assert (sorted(kept.domains), list(kept.aliases)) == (["yy.example"], [])

    @question
    async def test_only_news_is_told_to_who_knows_the_rest(self) -> None:
        await self._open()
        names = self.database.names
        await names.add_domain("xx.example")
        kept = await names.kept()
        assert kept is not None
        await names.add_domain("xx.example")
        await names.remove_domain("yy.example")
        await names.remove_alias("a@xx.example")
        assert await names.kept(kept.version) is None
        await names.add_alias("a@xx.example", ["b@xx.example"])
        newer = await names.kept(kept.version)
        assert newer is not None
        assert newer.version > kept.version
